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
        "this standardises with the spread of the averages themselves, not with mu and sigma": (
            lambda x, m, s: (x.mean(1) - x.mean(1).mean()) / x.mean(1).std()
        ),
        "this standardises with the spread of the averages themselves: use mu and sigma": (
            lambda x, m, s: (x.mean(1) - x.mean(1).mean()) / x.mean(1).std(correction=0)
        ),
        "this uses each row's own mean and spread: use mu and sigma": (
            lambda x, m, s: (x.mean(1) - m) / (x.std(1) / math.sqrt(x.shape[1]))
        ),
        "a sum of n draws varies by sigma sqrt(n): the square root is missing": (
            lambda x, m, s: (x.sum(1) - x.shape[1] * m) / s
        ),
        "the sign is turned: it is the average minus mu": (
            lambda x, m, s: (m - x.mean(1)) / (s / math.sqrt(x.shape[1]))
        ),
    }
    n = draw.integer(5, 9)
    rows = n + draw.integer(3, 8)
    mean, std = 0.5, math.sqrt(1 / 12)
    exponential = -torch.log(draw.uniform(0.01, 1, 4, n + 2))
    shifted = 7.3 + 2.1 * draw.normal(rows + 1, n)
    for name, draws, mu, sigma in (
        ("uniform draws", draw.uniform(0, 1, rows, n), mean, std),
        ("exponential draws", exponential, 1.0, 1.0),
        ("draws of another mean and spread", shifted, 7.3, 2.1),
        ("one draw a row, n = 1", draw.uniform(0, 1, 6, 1), mean, std),
        ("one row, S = 1", draw.uniform(0, 1, 1, n), mean, std),
        ("single precision", draw.uniform(0, 1, rows, n).float(), mean, std),
    ):
        want = _clt_normal(draws, mu, sigma)
        yield agrees(name, candidate, (draws, mu, sigma), want, "S", wrong)


def _gamma_pdf(x, alpha, beta):
    """Density of the Gamma distribution with shape alpha and rate beta."""
    return Gamma(alpha, beta).pdf(x)


def _raw_gamma(x, alpha, rate):
    """The density without the factor beta^alpha."""
    return x ** (alpha - 1) * torch.exp(-rate * x) / math.gamma(alpha)


@exercise(reference=_gamma_pdf)
def gamma_pdf(candidate, draw):
    wrong = {
        "(alpha - 1)! is for whole alpha only: math.gamma(alpha) is for any": (
            lambda x, a, b: b**a * _raw_gamma(x, a, b) * math.gamma(a) / math.factorial(int(a) - 1)
        ),
        "(alpha - 1)! is for whole alpha only: math.gamma takes any alpha": (
            lambda x, a, b: (
                b**a * _raw_gamma(x, a, b) * math.gamma(a) / math.factorial(round(a) - 1)
            )
        ),
        "the exponential has no rate: exp(-beta x)": (lambda x, a, b: b**a * _raw_gamma(x, a, 1)),
        "the exponential divides by the rate: exp(-beta x)": (
            lambda x, a, b: b**a * _raw_gamma(x, a, 1 / b)
        ),
        "this has beta^(alpha - 1) in place of beta^alpha": (
            lambda x, a, b: b ** (a - 1) * _raw_gamma(x, a, b)
        ),
        "this multiplies by Gamma(alpha): divide": (
            lambda x, a, b: b**a * math.gamma(a) ** 2 * _raw_gamma(x, a, b)
        ),
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
    whole = draw.integer(3, 5)
    for name, alpha, beta, x in (
        ("a shape that is not whole", whole + 0.3, 2.1 + draw.integer(1, 10) / 8, (0.05, 4)),
        ("a shape below 1", 0.7, 1.3, (0.05, 3)),
        ("rate 1", whole - 0.4, 1.0, (0.1, 5)),
        ("a rate below 1, large x", 3.3, 0.6, (4, 12)),
    ):
        at = draw.uniform(*x, draw.integer(5, 9))
        yield agrees(name, candidate, (at, alpha, beta), Gamma(alpha, beta).pdf(at), "N", wrong)


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
