"""Checks of notebook 11."""

import math

import torch

from course.data.toy import Gamma
from course.teach.exercise import agrees, exercise, number


def _clt_normal(draws, mean, std):
    """Standardised row means: (S, n) -> (S,)."""
    return (draws.mean(1) - mean) / (std / math.sqrt(draws.shape[1]))


@exercise(reference=_clt_normal)
def clt_normal(candidate, draw):
    n = draw.integer(5, 9)
    draws = draw.uniform(0, 1, n + draw.integer(3, 8), n)
    mean, std = 0.5, math.sqrt(1 / 12)
    wrong = {
        "this divides by sigma: the mean of n draws varies less, by sigma / sqrt(n)": (
            lambda x, m, s: (x.mean(1) - m) / s
        ),
        "this multiplies by sigma / sqrt(n) where it should divide": (
            lambda x, m, s: (x.mean(1) - m) * s / math.sqrt(x.shape[1])
        ),
        "this divides by sigma / n: it is the variance that shrinks like 1/n": (
            lambda x, m, s: (x.mean(1) - m) / (s / x.shape[1])
        ),
        "this divides by the variance of the mean: take its square root": (
            lambda x, m, s: (x.mean(1) - m) / (s**2 / x.shape[1])
        ),
        "this divides by sqrt(n) too; dividing by sigma / sqrt(n) multiplies by it: brackets?": (
            lambda x, m, s: (x.mean(1) - m) / s / math.sqrt(x.shape[1])
        ),
        "the mean is not subtracted": lambda x, m, s: x.mean(1) / (s / math.sqrt(x.shape[1])),
        "this averages over the wrong axis: a row holds the n draws of one number": (
            lambda x, m, s: (x.mean(0) - m) / (s / math.sqrt(x.shape[1]))
        ),
        "this averages over the wrong axis: n is the length of a row": (
            lambda x, m, s: (x.mean(0) - m) / (s / math.sqrt(x.shape[0]))
        ),
        "this takes the sum of the draws for their mean": (
            lambda x, m, s: (x.sum(1) - m) / (s / math.sqrt(x.shape[1]))
        ),
        "sqrt(n) counts the rows here: n is the number of draws in a row": (
            lambda x, m, s: (x.mean(1) - m) / (s / math.sqrt(x.shape[0]))
        ),
        "this standardises with the mean and the spread of the sample, not with mu and sigma": (
            lambda x, m, s: (x.mean(1) - x.mean(1).mean()) / x.mean(1).std()
        ),
    }
    want = _clt_normal(draws, mean, std)
    yield agrees("uniform draws", candidate, (draws, mean, std), want, "S", wrong)
    exponential = -torch.log(draw.uniform(0.01, 1, 4, n + 2))
    want = _clt_normal(exponential, 1.0, 1.0)
    yield agrees("exponential draws", candidate, (exponential, 1.0, 1.0), want, "S", wrong)
    single = draw.uniform(0, 1, 6, 1)
    want = (single[:, 0] - mean) / std
    yield agrees("one draw a row, n = 1", candidate, (single, mean, std), want, "S", wrong)


def _gamma_pdf(x, alpha, beta):
    """Density of the Gamma distribution with shape alpha and rate beta."""
    return Gamma(alpha, beta).pdf(x)


def _raw_gamma(x, alpha, beta):
    return x ** (alpha - 1) * torch.exp(-beta * x) / math.gamma(alpha)


@exercise(reference=_gamma_pdf)
def gamma_pdf(candidate, draw):
    wrong = {
        "beta is used as a scale here; it is a rate: exp(-beta x), times beta^alpha": (
            lambda x, a, b: x ** (a - 1) * torch.exp(-x / b) / (math.gamma(a) * b**a)
        ),
        "the factor beta^alpha is missing, so it does not integrate to 1": _raw_gamma,
        "this has beta in place of beta^alpha": lambda x, a, b: b * _raw_gamma(x, a, b),
        "the exponent of x is alpha - 1, not alpha": lambda x, a, b: b**a * x * _raw_gamma(x, a, b),
        "the normaliser is Gamma(alpha) = (alpha - 1)!, not Gamma(alpha + 1) = alpha!": (
            lambda x, a, b: b**a * _raw_gamma(x, a, b) / a
        ),
        "the sign of beta x is turned: the density must fall": (
            lambda x, a, b: b**a * _raw_gamma(x, a, -b)
        ),
        "the normaliser is Gamma(alpha), not Gamma(alpha - 1)": (
            lambda x, a, b: (a - 1) * b**a * _raw_gamma(x, a, b)
        ),
        "this has x**alpha - 1 in place of x**(alpha - 1): brackets?": (
            lambda x, a, b: b**a * (x**a - 1) * torch.exp(-b * x) / math.gamma(a)
        ),
        "this is the log of the density": lambda x, a, b: torch.log(b**a * _raw_gamma(x, a, b)),
        "the normaliser Gamma(alpha) is missing": (
            lambda x, a, b: b**a * math.gamma(a) * _raw_gamma(x, a, b)
        ),
        "alpha and beta are swapped": lambda x, a, b: a**b * _raw_gamma(x, b, a),
    }
    for name in ("shape and rate of any size", "another pair"):
        alpha, beta = 1.5 + draw.integer(1, 20) / 8, 2.1 + draw.integer(1, 10) / 8
        x = draw.uniform(0.05, 4, draw.integer(5, 9))
        want = Gamma(alpha, beta).pdf(x)
        yield agrees(name, candidate, (x, alpha, beta), want, "N", wrong)


def _skew_of_mean():
    """Skewness of the mean of 30 draws of Exp(1): 2 / sqrt(30)."""
    return 2 / math.sqrt(30)


skew_of_mean = number(
    "skew_of_mean",
    right=_skew_of_mean(),
    wrong={
        "this is the skewness of one draw: averaging divides it by sqrt(n)": 2.0,
        "this divides by n; it is sqrt(n): 1/n^2 over the cube of 1/sqrt(n)": (2 / 30),
        "this is 1 / sqrt(n): one draw of Exp(1) has skewness 2, not 1": 1 / math.sqrt(30),
        "the standard deviation in the denominator shrinks as well, with its third power": 2
        / 30**2,
        "this divides by n^(3/2): the third moment has that, and more": 2 / 30**1.5,
        "this multiplies by sqrt(n) where it should divide": 2 * math.sqrt(30),
    },
    reference=_skew_of_mean,
)
