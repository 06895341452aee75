"""Checks of notebook 12."""

import math

import torch

from course.models import vae
from course.teach.exercise import agrees, differentiable, exercise, judges


@exercise(reference=vae.reparametrise)
def reparametrise(candidate, draw):
    shape = (draw.integer(4, 6), draw.integer(7, 9))
    inputs = (draw.normal(*shape), draw.normal(*shape), draw.normal(*shape))
    wrong = {
        "this is exp(logvar), the variance: the noise is multiplied by the standard deviation": (
            lambda m, v, e: m + v.exp() * e
        ),
        "this multiplies the noise by logvar itself: undo the logarithm first": (
            lambda m, v, e: m + v * e
        ),
        "this has 0.5 * exp(logvar): halve the logarithm, then take exp": (
            lambda m, v, e: m + 0.5 * v.exp() * e
        ),
        "this has exp(2 * logvar): halve the logarithm, do not double it": (
            lambda m, v, e: m + (2 * v).exp() * e
        ),
        "the sign of logvar is turned: this is one over the standard deviation": (
            lambda m, v, e: m + (-0.5 * v).exp() * e
        ),
        "the noise is subtracted: as likely a draw, but not the one asked for": (
            lambda m, v, e: m - (0.5 * v).exp() * e
        ),
        "mu is multiplied by the noise and sigma is added: the other way round": (
            lambda m, v, e: m * e + (0.5 * v).exp()
        ),
        "mu and logvar are swapped": lambda m, v, e: v + (0.5 * m).exp() * e,
        "the mean is missing": lambda m, v, e: (0.5 * v).exp() * e,
        "the noise is missing: this is the mean alone": lambda m, v, e: m,
        "the noise is not scaled": lambda m, v, e: m + e,
        "the noise is added, not multiplied": lambda m, v, e: m + (0.5 * v).exp() + e,
    }
    want = vae.reparametrise(*inputs)
    yield agrees("z = mu + sigma * noise", candidate, inputs, want, "B D", wrong)
    mu, logvar, noise = inputs
    frozen = torch.full_like(logvar, -80.0)
    yield agrees("no variance left: z = mu", candidate, (mu, frozen, noise), mu, "B D", wrong)
    name = "the gradient reaches mu and logvar"
    yield differentiable(name, candidate, vae.reparametrise, inputs, {"mu": 0, "logvar": 1})


def _kl_without_half(mu, logvar):
    return 2 * vae.kl_standard_normal(mu, logvar)


def _kl_log_sigma(mu, logvar):
    return 0.5 * (mu**2 + logvar.exp() - 1 - 0.5 * logvar).sum(-1)


def _kl_turned(mu, logvar):
    return 0.5 * (mu**2 * (-logvar).exp() + (-logvar).exp() - 1 + logvar).sum(-1)


def _kl_std(mu, logvar):
    return 0.5 * (mu**2 + (0.5 * logvar).exp() - 1 - logvar).sum(-1)


def _kl_no_mean(mu, logvar):
    return 0.5 * (logvar.exp() - 1 - logvar).sum(-1)


@exercise(reference=vae.kl_standard_normal)
def kl_standard_normal(candidate, draw):
    shape = (draw.integer(4, 6), draw.integer(7, 9))
    mu, logvar = draw.normal(*shape), 2 * draw.normal(*shape)
    right = vae.kl_standard_normal
    wrong = {
        "logvar is taken for log sigma: it is log sigma^2": lambda m, v: right(m, 2 * v),
        "this has exp(2 logvar): sigma^2 is exp(logvar)": (
            lambda m, v: 0.5 * (m**2 + (2 * v).exp() - 1 - v).sum(-1)
        ),
        "sigma^2 is missing its exp: logvar is a logarithm": (
            lambda m, v: 0.5 * (m**2 + v - 1 - v).sum(-1)
        ),
        "the -1 belongs inside the sum: one for each dimension": (
            lambda m, v: 0.5 * ((m**2 + v.exp() - v).sum(-1) - 1)
        ),
        "this is +1 where -1 belongs": lambda m, v: 0.5 * (m**2 + v.exp() + 1 - v).sum(-1),
        "the 1/2 is on the first term only": (lambda m, v: (0.5 * m**2 + v.exp() - 1 - v).sum(-1)),
        "the 1/2 is missing, and this is a mean over the latent dimensions": (
            lambda m, v: 2 * right(m, v) / m.shape[-1]
        ),
        "|mu| stands where mu^2 belongs": lambda m, v: right(m.abs().sqrt(), v),
        "the factor 1/2 is missing, as in lecture 000, line 185": _kl_without_half,
        "this has log sigma where log sigma^2 belongs": _kl_log_sigma,
        "this has sigma where sigma^2 belongs: exp(logvar) is the variance": _kl_std,
        "this is KL(p || q): the two distributions are swapped": _kl_turned,
        "the term mu^2 is missing": _kl_no_mean,
        "mu is not squared": lambda m, v: 0.5 * (m + v.exp() - 1 - v).sum(-1),
        "the sign is turned: a KL divergence is never negative": lambda m, v: -right(m, v),
        "the sign of log sigma^2 is turned": lambda m, v: 0.5 * (m**2 + v.exp() - 1 + v).sum(-1),
        "the -1 is missing: at mu = 0, sigma = 1 the result must be 0": (
            lambda m, v: 0.5 * (m**2 + v.exp() - v).sum(-1)
        ),
        "this is the mean over the latent dimensions: a KL divergence is their sum": (
            lambda m, v: right(m, v) / m.shape[-1]
        ),
        "this sums over the batch: keep one number per row": lambda m, v: right(m, v).sum(),
        "this is averaged over the batch: keep one number per row": lambda m, v: right(m, v).mean(),
        "this sums over the wrong axis: sum over D, keep B": lambda m, v: right(m.T, v.T),
        "this is not summed over the latent dimensions": (
            lambda m, v: 0.5 * (m**2 + v.exp() - 1 - v)
        ),
    }
    yield agrees("the closed form", candidate, (mu, logvar), right(mu, logvar), "B", wrong)
    one = (mu[:, :1], logvar[:, :1])
    yield agrees("one latent dimension", candidate, one, right(*one), "B", wrong)
    zero, none = torch.zeros_like(mu), torch.zeros(shape[0], dtype=mu.dtype)
    yield agrees("0 at mu = 0, sigma = 1", candidate, (zero, zero), none, "B", wrong)
    want = 0.5 * mu.square().sum(-1)
    yield agrees("mu^2 / 2 at sigma = 1", candidate, (mu, zero), want, "B", wrong)
    name = "the gradient reaches mu and logvar"
    yield differentiable(name, candidate, right, (mu, logvar), {"mu": 0, "logvar": 1})


def _kl_in_words(mu, logvar):
    """The right formula, written another way."""
    sigma = torch.exp(logvar / 2)
    return (-torch.log(sigma) + (sigma**2 + mu**2) / 2 - 0.5).sum(-1)


def _referee_kl(formula):
    """Accept a formula if it equals the closed form at random means and variances."""
    generator = torch.Generator().manual_seed(0)
    mu = torch.randn(64, 3, generator=generator, dtype=torch.float64)
    logvar = torch.randn(64, 3, generator=generator, dtype=torch.float64)
    return torch.allclose(formula(mu, logvar), vae.kl_standard_normal(mu, logvar))


@exercise(reference=_referee_kl, kind="referee")
def referee_kl(candidate, draw):
    right = {
        "the right formula": vae.kl_standard_normal,
        "the same, written another way": _kl_in_words,
        "the same, rounded differently": lambda m, v: vae.kl_standard_normal(m, v) * (1 + 1e-12),
    }
    why = (
        "what you compare with is wrong (sigma = exp(logvar / 2)? summed"
        " over the last axis?), or the test is too strict, or its Monte Carlo too noisy"
    )
    wrong = {
        "no factor 1/2 (000, line 185)": (_kl_without_half, "try mu = 1, sigma = 1: the KL is 0.5"),
        "log sigma for log sigma^2": (_kl_log_sigma, "try sigma different from 1"),
        "sigma for sigma^2": (_kl_std, "try sigma different from 1"),
        "the two distributions swapped": (_kl_turned, "try sigma different from 1"),
        "no mu^2": (_kl_no_mean, "try mu different from 0"),
        "mu without its square": (
            lambda m, v: 0.5 * (m + v.exp() - 1 - v).sum(-1),
            "try mu different from 0 and 1",
        ),
        "|mu| for mu^2": (
            lambda m, v: 0.5 * (m.abs() + v.exp() - 1 - v).sum(-1),
            "try mu different from 0, 1 and -1",
        ),
        "mu only where it is positive": (
            lambda m, v: vae.kl_standard_normal(m.relu(), v),
            "try a negative mu",
        ),
        "|log sigma^2| for log sigma^2": (
            lambda m, v: 0.5 * (m**2 + v.exp() - 1 - v.abs()).sum(-1),
            "try sigma below 1",
        ),
        "5 % too much": (
            lambda m, v: 1.05 * vae.kl_standard_normal(m, v),
            "that is too coarse a tolerance",
        ),
        "one number for the whole batch": (
            lambda m, v: vae.kl_standard_normal(m, v).sum().expand(len(m)),
            "try more than one row",
        ),
        "only the first latent dimension": (
            lambda m, v: vae.kl_standard_normal(m[..., :1], v[..., :1]),
            "try more than one latent dimension",
        ),
    }
    yield from judges(candidate, right, why, wrong)


def _squares(x, x_mean):
    return (x - x_mean).square().flatten(1).sum(1)


@exercise(reference=vae.elbo)
def elbo(candidate, draw):
    batch, dims, latent = draw.integer(3, 4), draw.integer(5, 6), draw.integer(7, 8)
    x, x_mean = draw.normal(batch, dims), draw.normal(batch, dims)
    mu, logvar = draw.normal(batch, latent), draw.normal(batch, latent)
    variance = 0.3 + draw.integer(1, 4) / 16  # never 1/2, which would hide a lost 1/(2c)
    kl, bound = vae.kl_standard_normal, vae.elbo

    def constant(x, c):
        return -0.5 * x.shape[1] * math.log(2 * math.pi * c)

    wrong = {
        "the sign of the constant is turned": (
            lambda x, f, m, v, c: bound(x, f, m, v, c) - 2 * constant(x, c)
        ),
        "the constant counts the batch: D is the dimension of x": (
            lambda x, f, m, v, c: bound(x, f, m, v, c) + constant(x, c) * (len(x) / x.shape[1] - 1)
        ),
        "the constant counts the latent dimensions: D is the dimension of x": (
            lambda x, f, m, v, c: (
                bound(x, f, m, v, c) + constant(x, c) * (m.shape[1] / x.shape[1] - 1)
            )
        ),
        "the constant has no factor 1/2": (
            lambda x, f, m, v, c: bound(x, f, m, v, c) + constant(x, c)
        ),
        "c is missing in the logarithm: log(2 pi c)": (
            lambda x, f, m, v, c: bound(x, f, m, v, c) + 0.5 * x.shape[1] * math.log(c)
        ),
        "/ 2 * c divides by 2 and multiplies by c: brackets": (
            lambda x, f, m, v, c: constant(x, c) - _squares(x, f) / 2 * c - kl(m, v)
        ),
        "this is -REC - KL (001, line 135): 1/(2c) and the constant are missing": (
            lambda x, f, m, v, c: -_squares(x, f) - kl(m, v)
        ),
        "the KL divergence is averaged over the latent dimensions: sum it": (
            lambda x, f, m, v, c: bound(x, f, m, v, c) + kl(m, v) * (1 - 1 / m.shape[1])
        ),
        "the KL divergence is averaged over the batch: keep one number per row": (
            lambda x, f, m, v, c: bound(x, f, m, v, c) + kl(m, v) - kl(m, v).mean()
        ),
        "the squared error has the wrong sign: it must lower the bound": (
            lambda x, f, m, v, c: bound(x, f, m, v, c) + _squares(x, f) / c
        ),
        "the constant is the one for one dimension: D dimensions give D times the logarithm": (
            lambda x, f, m, v, c: (
                -_squares(x, f) / (2 * c) - 0.5 * math.log(2 * math.pi * c) - kl(m, v)
            )
        ),
        "the constant -D/2 log(2 pi c) is missing": (
            lambda x, f, m, v, c: -_squares(x, f) / (2 * c) - kl(m, v)
        ),
        "the squared error is not weighed by 1/(2c) (001, line 135 prints it so)": (
            lambda x, f, m, v, c: constant(x, c) - _squares(x, f) - kl(m, v)
        ),
        "the squared error is divided by c, not by 2c": (
            lambda x, f, m, v, c: constant(x, c) - _squares(x, f) / c - kl(m, v)
        ),
        "this treats c as a standard deviation: c is the variance": (
            lambda x, f, m, v, c: bound(x, f, m, v, c**2)
        ),
        "this adds the KL divergence: it must be subtracted": (
            lambda x, f, m, v, c: bound(x, f, m, v, c) + 2 * kl(m, v)
        ),
        "the KL divergence is missing": lambda x, f, m, v, c: bound(x, f, m, v, c) + kl(m, v),
        "the KL divergence has no factor 1/2": lambda x, f, m, v, c: (
            bound(x, f, m, v, c) - kl(m, v)
        ),
        "the sign is turned: this is the loss, -ELBO": lambda x, f, m, v, c: -bound(x, f, m, v, c),
        "the squared error is averaged over the dimensions: sum it": (
            lambda x, f, m, v, c: constant(x, c) - _squares(x, f) / x.shape[1] / (2 * c) - kl(m, v)
        ),
        "this sums over the batch: keep one number per row": (
            lambda x, f, m, v, c: bound(x, f, m, v, c).sum()
        ),
        "this is averaged over the batch: keep one number per row": (
            lambda x, f, m, v, c: bound(x, f, m, v, c).mean()
        ),
    }
    inputs = (x, x_mean, mu, logvar, variance)
    yield agrees("log p(x|z) - KL", candidate, inputs, vae.elbo(*inputs), "B", wrong)
    zero = torch.zeros_like(mu)
    inputs = (x, x, zero, zero, 1 / (2 * math.pi))
    none = torch.zeros(batch, dtype=x.dtype)
    name = "0 for a perfect reconstruction, q = p(z) and c = 1/(2 pi)"
    yield agrees(name, candidate, inputs, none, "B", wrong)
    one = (x[:, :1], x_mean[:, :1], mu, logvar, variance)
    yield agrees("one-dimensional data", candidate, one, vae.elbo(*one), "B", wrong)
    inputs = (x, x_mean, mu, logvar, variance)
    by = {"x_mean": 1, "mu": 2, "logvar": 3}
    yield differentiable("the gradient reaches all networks", candidate, vae.elbo, inputs, by)
