"""Checks of notebook 13."""

import math

import torch

from course.models import vae
from course.teach.exercise import agrees, decides, exercise


@exercise(reference=vae.log_mean_exp)
def log_mean_exp(candidate, draw):
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
        "this is the largest log weight alone": lambda w: w.max(0).values,
        "the largest log weight was subtracted and is not added back": (
            lambda w: (w - w.max(0).values).exp().mean(0).log()
        ),
        "exp underflows to 0 or overflows: subtract the largest log weight of each column first": (
            lambda w: w.exp().mean(0).log()
        ),
        "one maximum for all columns is too much for the small ones: take it per column": (
            lambda w: w.max() + (w - w.max()).exp().mean(0).log()
        ),
        "subtract the largest log weight of a column, not its first": (
            lambda w: w[0] + (w - w[0]).exp().mean(0).log()
        ),
        "subtract the largest log weight of a column, not its mean": (
            lambda w: w.mean(0) + (w - w.mean(0)).exp().mean(0).log()
        ),
    }
    few, many, columns = draw.integer(4, 6), draw.integer(11, 15), draw.integer(7, 9)
    spread = draw.normal(many, columns)
    spread[3:5] += torch.tensor([[2000.0], [-2000.0]], dtype=torch.float64)
    for name, log_weights in (
        ("moderate log weights", draw.normal(few, columns)),
        ("another K", draw.normal(many, columns)),
        ("log weights near -2000, as pictures have", draw.normal(few, columns) - 2000),
        ("log weights near 2000", draw.normal(few, columns) + 2000),
        (
            "columns of different size",
            draw.normal(few, columns) + torch.linspace(-3000, 3000, columns, dtype=torch.float64),
        ),
        ("a column that spreads over thousands", spread),
    ):
        want = vae.log_mean_exp(log_weights)
        yield agrees(name, candidate, (log_weights,), want, "B", wrong)


@exercise(reference=vae.active_dimensions)
def active_dimensions(candidate, draw):
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
        "this sums the squared deviations: take their mean": (
            lambda m, threshold: (m - m.mean(0)).square().sum(0) > threshold
        ),
        "this compares a share of the total: the threshold is one on the variance itself": (
            lambda m, threshold: m.var(0) / m.var(0).sum() > threshold
        ),
        "this marks the collapsed dimensions": lambda m, threshold: m.var(0) <= threshold,
        "this returns how many: return which": lambda m, threshold: (m.var(0) > threshold).sum(),
    }
    # Variances close to either side of the threshold, and others where mistakes show.
    for name, threshold in (("which dimensions vary", 0.01), ("another threshold", 0.2)):
        variances = torch.tensor([4.0, 0.0, 0.8, 1.25, 2e-3, 0.0, 30.0], dtype=torch.float64)
        spread = (variances * threshold).sqrt()
        noise = draw.normal(draw.integer(40, 60), len(spread))
        noise = (noise - noise.mean(0)) / noise.std(0)
        offsets = torch.tensor([0.0, 2, 0, 0.1, -1, 0.3, 0.2], dtype=torch.float64)
        mu = noise * spread + offsets
        ignored = {"the threshold is ignored: this uses 0.01": lambda m, _: m.var(0) > 0.01}
        want = vae.active_dimensions(mu, threshold)
        yield agrees(name, candidate, (mu, threshold), want, "D", ignored | wrong)


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
        "the right sampler with the noise in another order": (
            lambda m, v, e: m + (0.5 * v).exp() * e.flip(0)
        ),
    }
    for name, sample in innocent.items():
        message = (
            f"it accuses {name}, whose z has the right mean and variance: compare distributions"
            " and not values, with enough draws for your tolerance (True means guilty)"
        )
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
        "a spread that is wrong for logvar below 0 only": (
            lambda m, v, e: m + (v.clamp(min=0) / 2 + v.clamp(max=0)).exp() * e,
            "try a logvar on each side of 0, with a tolerance of 10 % or less",
        ),
        "a spread that is wrong for logvar above 0 only": (
            lambda m, v, e: m + (v.clamp(max=0) / 2 + v.clamp(min=0)).exp() * e,
            "try a logvar on each side of 0, with a tolerance of 10 % or less",
        ),
        "a standard deviation 20 % too large": (
            lambda m, v, e: m + 1.2 * (0.5 * v).exp() * e,
            "that is too coarse a tolerance, or too few draws",
        ),
    }
    for cause, (sample, hint) in guilty.items():
        message = f"it acquits a sampler with {cause}: {hint}"
        yield decides(f"catches {cause}", candidate, sample, True, message)
