"""Checks of notebook 13."""

import math

import torch

from course.models import vae
from course.teach.exercise import agrees, decides, exercise


@exercise(reference=vae.log_mean_exp)
def log_mean_exp(candidate, draw):
    log_weights = draw.normal(draw.integer(4, 6), draw.integer(7, 9))
    wrong = {
        "this is the mean of the logarithms: the ELBO, which by Jensen's inequality is smaller": (
            lambda w: w.mean(0)
        ),
        "this is the log of the sum: subtract log K": lambda w: torch.logsumexp(w, 0),
        "this runs over the wrong axis: the first one holds the K draws": (
            lambda w: torch.logsumexp(w, 1) - math.log(w.shape[1])
        ),
        "log K counts the wrong axis": lambda w: torch.logsumexp(w, 0) - math.log(w.shape[1]),
        "log K is added: it must be subtracted": lambda w: torch.logsumexp(w, 0) + math.log(len(w)),
        "this divides by K outside of the logarithm": lambda w: torch.logsumexp(w, 0) / len(w),
        "this is the mean of the weights: its logarithm is missing": lambda w: w.exp().mean(0),
        "exp underflows to 0 here: subtract the largest log weight first, or use torch.logsumexp": (
            lambda w: w.exp().mean(0).log()
        ),
    }
    want = vae.log_mean_exp(log_weights)
    yield agrees("moderate log weights", candidate, (log_weights,), want, "B", wrong)
    low = log_weights - 2000
    want = vae.log_mean_exp(low)
    yield agrees("log weights near -2000, as pictures have", candidate, (low,), want, "B", wrong)
    high = log_weights + 2000
    want = vae.log_mean_exp(high)
    yield agrees("log weights near 2000", candidate, (high,), want, "B", wrong)


@exercise(reference=vae.active_dimensions)
def active_dimensions(candidate, draw):
    rows = draw.integer(40, 60)
    spread = torch.tensor([1.0, 0.0, 0.03, 0.7, 0.05, 0.0, 0.3], dtype=torch.float64)
    noise = draw.normal(rows, len(spread))
    noise = (noise - noise.mean(0)) / noise.std(0)
    mu = noise * spread + torch.tensor([0.0, 2, 0, 0.1, -1, 0.3, 0.2], dtype=torch.float64)
    wrong = {
        "this compares the standard deviation: the threshold is one on the variance": (
            lambda m, threshold: m.std(0) > threshold
        ),
        "this counts a dimension whose mean is not 0, though it never changes": (
            lambda m, threshold: m.square().mean(0) > threshold
        ),
        "this counts large means: look at how they vary over the data": (
            lambda m, threshold: m.mean(0).abs() > threshold
        ),
        "this takes the variance over the wrong axis: over the data, axis 0": (
            lambda m, threshold: m.var(1) > threshold
        ),
        "this marks the collapsed dimensions": lambda m, threshold: m.var(0) <= threshold,
        "this returns how many: return which": lambda m, threshold: (m.var(0) > threshold).sum(),
    }
    want = vae.active_dimensions(mu, 0.01)
    yield agrees("which dimensions vary", candidate, (mu, 0.01), want, "D", wrong)
    want = vae.active_dimensions(mu, 0.2)
    fixed = {"this uses 0.01, whatever the threshold is": lambda m, _: m.var(0) > 0.01}
    yield agrees("another threshold", candidate, (mu, 0.2), want, "D", fixed | wrong)


def _catches_bug(sample):
    """Accept a sampler of N(mu, exp(logvar)) if mean and spread of many draws are right."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(40_000, 1, generator=generator, dtype=torch.float64)
    for mu, logvar in ((0.7, -2.0), (-1.5, 1.0)):
        z = sample(torch.full_like(noise, mu), torch.full_like(noise, logvar), noise)
        if abs(z.mean() - mu) > 0.05 or abs(z.std() / math.exp(logvar / 2) - 1) > 0.05:
            return True
    return False


@exercise(reference=_catches_bug, kind="referee")
def catches_bug(candidate, draw):
    innocent = {
        "the right sampler": vae.reparametrise,
        "the right sampler with the noise turned round": lambda m, v, e: m - (0.5 * v).exp() * e,
    }
    for name, sample in innocent.items():
        message = f"it accuses {name}, whose z has the right mean and variance"
        yield decides(f"acquits {name}", candidate, sample, False, message)
    # In this order, so that the first wrong verdict names what the referee does not look at.
    guilty = {
        "no noise": (lambda m, v, e: m, "look at the spread of z, not only at its mean"),
        "no mean": (lambda m, v, e: (0.5 * v).exp() * e, "try mu different from 0"),
        "noise of one sign": (
            lambda m, v, e: m + (0.5 * v).exp() * e.abs(),
            "look at the mean of z too",
        ),
        "the variance in place of the standard deviation": (
            lambda m, v, e: m + v.exp() * e,
            "try logvar different from 0: at logvar = 0 it is right",
        ),
        "noise that is not scaled": (lambda m, v, e: m + e, "try logvar different from 0"),
        "the sign of logvar turned": (
            lambda m, v, e: m + (-0.5 * v).exp() * e,
            "try logvar different from 0",
        ),
    }
    for cause, (sample, hint) in guilty.items():
        message = f"it acquits a sampler with {cause}: {hint}"
        yield decides(f"catches {cause}", candidate, sample, True, message)
