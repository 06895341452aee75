"""Draws of latents with any part replaced: the right answer of notebook 51, and mistakes."""

import math

import torch

from course.models.autoencoder_kl import LOGVAR_RANGE, DiagonalGaussian
from course.teach.checks._common import unchanged


def _halves(moments):
    return moments.chunk(2, dim=1)


def noise_like(mean, generator):
    return torch.randn(mean.shape, generator=generator, dtype=mean.dtype)


def _noise_of(shape):
    """The same noise in several places."""
    return lambda mean, generator: torch.randn(
        shape(mean), generator=generator, dtype=mean.dtype
    ).expand_as(mean)


def _drawn(mean, logvar, noise):
    return mean + (logvar / 2).exp() * noise


def _terms(mean, logvar):
    return (mean.square() + logvar.exp() - 1 - logvar) / 2


def _summed(terms):
    return terms.flatten(1).sum(1)


def sample_with(
    halves=_halves,
    limits=LOGVAR_RANGE,
    of_means=None,
    noise=noise_like,
    drawn=_drawn,
    terms=_terms,
    total=_summed,
    returned=lambda z, kl, mean, logvar: (z, kl),
):
    """The draw of a latent and its KL divergence, with any part replaced."""

    def sample(moments, generator):
        cut = halves(moments)
        mean, logvar = cut[0], cut[1].clamp(*limits)
        if of_means:
            mean = mean.clamp(*of_means)
        z = drawn(mean, logvar, noise(mean, generator))
        return returned(z, total(terms(mean, logvar)), mean, logvar)

    return sample


def right_sample(moments, generator):
    posterior = DiagonalGaussian(*moments.chunk(2, dim=1))
    return posterior.sample(generator), posterior.kl()


def _from_the_start(mean, generator):
    return noise_like(mean, torch.Generator().manual_seed(generator.initial_seed()))


def _second(mean, generator):
    noise_like(mean, generator)
    return noise_like(mean, generator)


def _one_draw(z, kl, mean, logvar):
    """log q(z) - log p(z), which is the KL divergence on average."""
    logs = -(z - mean).square() / logvar.exp() - logvar + z.square()
    return z, _summed(logs / 2)


SPLIT_MISTAKES = {
    "the halves are swapped: first the mean, then the logarithm of the variance": sample_with(
        lambda moments: _halves(moments)[::-1]
    ),
    "the channels are dealt out in turn: the first half is the mean": sample_with(
        lambda moments: (moments[:, ::2], moments[:, 1::2])
    ),
    "the channels are dealt out in turn, and swapped: the first half is the mean": sample_with(
        lambda moments: (moments[:, 1::2], moments[:, ::2])
    ),
    "the batch is cut in two: cut the channels, axis 1": sample_with(lambda m: m.chunk(2, dim=0)),
    "the rows are cut in two: cut the channels, axis 1": sample_with(lambda m: m.chunk(2, dim=2)),
    "the columns are cut in two: cut the channels, axis 1": sample_with(
        lambda m: m.chunk(2, dim=3)
    ),
    "the moments are not cut: all channels are mean and log-variance": sample_with(
        lambda m: (m, m)
    ),
    "the mean is used as log-variance, too: that is the second half": sample_with(
        lambda moments: (_halves(moments)[0],) * 2
    ),
    "the log-variance is used as mean, too: that is the first half": sample_with(
        lambda moments: (_halves(moments)[1],) * 2
    ),
}
CLAMP_MISTAKES = {
    f"{cause}: clamp it to [-30, 20]": sample_with(limits=limits)
    for cause, limits in {
        "the logarithm of the variance is not clamped": (-math.inf, math.inf),
        "the logarithm of the variance has no lower end": (-math.inf, 20),
        "the logarithm of the variance has no upper end": (-30, math.inf),
        "the ends of the log-variance are swapped in size": (-20, 30),
        "the log-variance is clamped to [-20, 20]": (-20, 20),
        "the log-variance is clamped to [-30, 30]": (-30, 30),
        "the logarithm of the standard deviation is clamped, not that of the variance": (-60, 40),
        "the variance is clamped, not its logarithm": (-math.inf, math.log(20)),
        "the standard deviation is clamped, not the log-variance": (-math.inf, 2 * math.log(20)),
    }.items()
} | {"the mean is clamped, too: only the log-variance": sample_with(of_means=LOGVAR_RANGE)}
Z_MISTAKES = {
    "the noise is missing: this is the mean": sample_with(drawn=lambda m, v, e: m),
    "the mean is missing": sample_with(drawn=lambda m, v, e: (v / 2).exp() * e),
    "the noise is not scaled": sample_with(drawn=lambda m, v, e: m + e),
    "this is the noise alone": sample_with(drawn=lambda m, v, e: e),
    "this is exp(logvar), the variance: the noise is multiplied by the standard deviation": (
        sample_with(drawn=lambda m, v, e: m + v.exp() * e)
    ),
    "the noise is multiplied by the logarithm itself: exp first": sample_with(
        drawn=lambda m, v, e: m + v * e
    ),
    "the noise is multiplied by half the logarithm itself: exp first": sample_with(
        drawn=lambda m, v, e: m + v / 2 * e
    ),
    "this has 0.5 * exp(logvar): halve the logarithm, then take exp": sample_with(
        drawn=lambda m, v, e: m + v.exp() / 2 * e
    ),
    "this has exp(2 * logvar): halve the logarithm, do not double it": sample_with(
        drawn=lambda m, v, e: m + (2 * v).exp() * e
    ),
    "the root is taken twice: exp(logvar / 2) is the standard deviation": sample_with(
        drawn=lambda m, v, e: m + (v / 4).exp() * e
    ),
    "the sign of the log-variance is turned: this is one over the standard deviation": (
        sample_with(drawn=lambda m, v, e: m + (-v / 2).exp() * e)
    ),
    "the noise is subtracted: as likely a draw, but not the one asked for": sample_with(
        drawn=lambda m, v, e: m - (v / 2).exp() * e
    ),
    "the standard deviation is added without noise": sample_with(
        drawn=lambda m, v, e: m + (v / 2).exp()
    ),
    "mean and standard deviation have changed places: mean + std * noise": sample_with(
        drawn=lambda m, v, e: m * e + (v / 2).exp()
    ),
    "the sum is multiplied by the noise: only the standard deviation is": sample_with(
        drawn=lambda m, v, e: (m + (v / 2).exp()) * e
    ),
    "the noise is added, not multiplied": sample_with(drawn=lambda m, v, e: m + (v / 2).exp() + e),
    "the noise is shared by the batch: draw mean.shape": sample_with(
        noise=_noise_of(lambda mean: mean.shape[1:])
    ),
    "the noise is shared by the channels: draw mean.shape": sample_with(
        noise=_noise_of(lambda mean: (len(mean), 1, *mean.shape[2:]))
    ),
    "the noise is shared by all places: draw mean.shape": sample_with(
        noise=_noise_of(lambda mean: (*mean.shape[:2], 1, 1))
    ),
    "the noise is shared by batch and channels: draw mean.shape": sample_with(
        noise=_noise_of(lambda mean: mean.shape[2:])
    ),
    "a column has one noise: draw mean.shape": sample_with(
        noise=_noise_of(lambda mean: mean.shape[3:])
    ),
    "one noise for everything: draw mean.shape": sample_with(noise=_noise_of(lambda mean: ())),
    "the noise is uniform: torch.randn, not torch.rand": sample_with(
        noise=lambda mean, generator: torch.rand(mean.shape, generator=generator, dtype=mean.dtype)
    ),
    "the noise is drawn in float32: it has the dtype of the mean": sample_with(
        noise=lambda mean, generator: torch.randn(mean.shape, generator=generator).to(mean.dtype)
    ),
    "the noise is drawn in float64: it has the dtype of the mean": sample_with(
        noise=lambda mean, generator: torch.randn(
            mean.shape, generator=generator, dtype=torch.float64
        ).to(mean.dtype)
    ),
    "as much noise as moments is drawn: half of it, mean.shape": sample_with(
        noise=lambda mean, generator: torch.randn(
            (len(mean), 2 * mean.shape[1], *mean.shape[2:]), generator=generator, dtype=mean.dtype
        )[:, : mean.shape[1]]
    ),
    "the noise is drawn picture by picture: one torch.randn, of mean.shape": sample_with(
        noise=lambda mean, generator: torch.cat([noise_like(m[None], generator) for m in mean])
    ),
    "the second draw is used: draw once": sample_with(noise=_second),
    "the generator is started anew from its seed: draw from it as it comes": sample_with(
        noise=_from_the_start
    ),
    "the two are returned in the other order: first z, then the KL divergence": sample_with(
        returned=lambda z, kl, mean, logvar: (kl, z)
    ),
}


def _with_terms(terms):
    return sample_with(terms=terms)


def _with_total(total):
    return sample_with(total=total)


KL_MISTAKES = {
    "the sign is turned: a KL divergence is never negative": _with_total(lambda t: -_summed(t)),
    "the factor 1/2 is missing": _with_total(lambda t: 2 * _summed(t)),
    "this is the mean over the numbers of a latent: a KL divergence is their sum": _with_total(
        lambda t: t.flatten(1).mean(1)
    ),
    "this is the mean over the numbers of a latent, without the factor 1/2: sum": _with_total(
        lambda t: 2 * t.flatten(1).mean(1)
    ),
    "this is summed over the channels and averaged over the places: sum": _with_total(
        lambda t: t.mean((2, 3)).sum(1)
    ),
    "this is averaged over the channels and summed over the places: sum": _with_total(
        lambda t: t.sum((2, 3)).mean(1)
    ),
    "this sums over the batch, too: keep one number per picture": _with_total(torch.sum),
    "this is the mean over everything: sum, and keep one number per picture": _with_total(
        torch.mean
    ),
    "this is averaged over the batch: keep one number per picture": _with_total(
        lambda t: _summed(t).mean()
    ),
    "all pictures get the mean over the batch: each has its own": _with_total(
        lambda t: _summed(t).mean().expand(len(t))
    ),
    "all pictures get the sum over the batch: each has its own": _with_total(
        lambda t: t.sum().expand(len(t))
    ),
    "this is divided by the batch: keep one number per picture": _with_total(
        lambda t: _summed(t) / len(t)
    ),
    "this is not summed: one number per picture": _with_total(unchanged),
    "this is summed over the channels only": _with_total(lambda t: t.sum(1)),
    "this is summed over the places only": _with_total(lambda t: t.sum((2, 3))),
    "this is summed over the rows only": _with_total(lambda t: t.sum(2)),
    "this is summed over the columns only": _with_total(lambda t: t.sum(3)),
    "this is summed over the batch only: keep the batch, sum the rest": _with_total(
        lambda t: t.sum(0)
    ),
    "one number per channel: sum over all axes but the first": _with_total(
        lambda t: t.sum((0, 2, 3))
    ),
    "the sum keeps its axes, (B, 1, 1, 1): one number per picture, (B,)": _with_total(
        lambda t: t.sum((1, 2, 3), keepdim=True)
    ),
    "this is in bits: nats have no division by log 2": _with_total(
        lambda t: _summed(t) / math.log(2)
    ),
    "the log-variance is taken for the log of the standard deviation": _with_terms(
        lambda m, v: _terms(m, 2 * v)
    ),
    "this has exp(2 logvar): the variance is exp(logvar)": _with_terms(
        lambda m, v: (m**2 + (2 * v).exp() - 1 - v) / 2
    ),
    "this has the standard deviation where the variance belongs: exp(logvar)": _with_terms(
        lambda m, v: (m**2 + (v / 2).exp() - 1 - v) / 2
    ),
    "this has the log of the standard deviation where that of the variance belongs": _with_terms(
        lambda m, v: (m**2 + v.exp() - 1 - v / 2) / 2
    ),
    "the variance is missing its exp: logvar is a logarithm": _with_terms(
        lambda m, v: (m**2 + v - 1 - v) / 2
    ),
    "this is the KL divergence of the other direction: the two distributions are swapped": (
        _with_terms(lambda m, v: (m**2 / v.exp() + (-v).exp() - 1 + v) / 2)
    ),
    "the sign of logvar is turned: minus logvar": _with_terms(
        lambda m, v: (m**2 + v.exp() - 1 + v) / 2
    ),
    "the log-variance is missing at the end": _with_terms(lambda m, v: (m**2 + v.exp() - 1) / 2),
    "the variance is missing": _with_terms(lambda m, v: (m**2 - 1 - v) / 2),
    "the -1 is missing: a latent of mean 0 and variance 1 has none": _with_terms(
        lambda m, v: (m**2 + v.exp() - v) / 2
    ),
    "this is +1 where -1 belongs": _with_terms(lambda m, v: (m**2 + v.exp() + 1 - v) / 2),
    "the -1 belongs inside the sum: one for each number of the latent": sample_with(
        terms=lambda m, v: _terms(m, v) + 0.5, total=lambda t: _summed(t) - 0.5
    ),
    "the square of the mean is missing": _with_terms(lambda m, v: (v.exp() - 1 - v) / 2),
    "the mean is not squared": _with_terms(lambda m, v: (m + v.exp() - 1 - v) / 2),
    "|mean| stands where its square belongs": _with_terms(
        lambda m, v: (m.abs() + v.exp() - 1 - v) / 2
    ),
    "the square of the mean is subtracted": _with_terms(lambda m, v: (v.exp() - 1 - v - m**2) / 2),
    "the 1/2 is on the first term only": _with_terms(lambda m, v: m**2 / 2 + v.exp() - 1 - v),
    "the KL divergence is made of z: it is made of mean and log-variance": sample_with(
        returned=lambda z, kl, mean, logvar: (z, _summed(_terms(z, logvar)))
    ),
    "this is log q(z) - log p(z) of one draw: the KL divergence is its mean, in closed form": (
        sample_with(returned=_one_draw)
    ),
    "z is returned twice: the second is the KL divergence": sample_with(
        returned=lambda z, kl, mean, logvar: (z, z)
    ),
}
