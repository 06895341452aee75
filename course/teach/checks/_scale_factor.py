"""Wrong scale factors of notebook 51."""

from functools import partial

import torch


def right_scale(z):
    """Rombach et al. 2022, appendix G."""
    return 1 / z.std()


_AXES = {
    "each channel has": (0, 2, 3),
    "each picture has": (1, 2, 3),
    "each place has": (0, 1),
    "each channel of each picture has": (2, 3),
    "each number of a latent, over the batch, has": (0,),
    "each row of the latent has": (0, 1, 3),
    "each column of the latent has": (0, 1, 2),
    "each place of each picture has": (1,),
}


def scale_mistakes(correction):
    """Mistakes with deviations that divide by n - correction."""

    def std(z, over=None):
        return z.std(over, correction=correction)

    def off(z, over):
        return z - z.mean(over, keepdim=True)

    mistakes = {
        "it is turned round: one over the standard deviation": std,
        "this is the variance: one over its root": lambda z: std(z) ** 2,
        "the root is forgotten: this is one over the variance": lambda z: std(z) ** -2,
        "the root is taken twice": lambda z: std(z) ** -0.5,
        "this is the root of the standard deviation: one over it, without the root": (
            lambda z: std(z) ** 0.5
        ),
        "the sign is turned": lambda z: -1 / std(z),
        "this is about 0: take the mean off first, or use std": (
            lambda z: z.square().mean() ** -0.5
        ),
        "this is about 0, and it is turned round": lambda z: z.square().mean() ** 0.5,
        "this is one over the mean square: about the mean, and its root": (
            lambda z: 1 / z.square().mean()
        ),
        "this is one over the mean absolute value": lambda z: 1 / z.abs().mean(),
        "this is about the absolute values: the signs count": lambda z: 1 / std(z.abs()),
        "this is one over the mean distance from the mean: take the root of the mean square": (
            lambda z: 1 / (z - z.mean()).abs().mean()
        ),
        "this is one over the largest absolute value": lambda z: 1 / z.abs().max(),
        "this is one over the largest value": lambda z: 1 / z.max(),
        "this is one over the range, from the smallest to the largest": (
            lambda z: 1 / (z.max() - z.min())
        ),
        "this is one over the mean": lambda z: 1 / z.mean(),
        "this is one over the norm: it grows with the number of latents": lambda z: 1 / z.norm(),
        "this is one over the root of the summed squares about the mean: the mean, not the sum": (
            lambda z: 1 / (z - z.mean()).norm()
        ),
        "this is Stable Diffusion's own number: measure these latents": (
            lambda z: torch.tensor(0.18215, dtype=z.dtype)
        ),
        "this is one over Stable Diffusion's own number: measure these latents": (
            lambda z: torch.tensor(1 / 0.18215, dtype=z.dtype)
        ),
        "only the first picture is measured: all together": lambda z: 1 / std(z[0]),
        "only the last picture is measured: all together": lambda z: 1 / std(z[-1]),
        "only the first channel is measured: all together": lambda z: 1 / std(z[:, 0]),
    }
    kinds = {
        "its own: one number for all together": lambda z, over: 1 / std(z, over),
        "its own, and these are averaged: that of all together": (
            lambda z, over: 1 / std(z, over).mean()
        ),
        "its own, and one over these is averaged: that of all together": (
            lambda z, over: (1 / std(z, over)).mean()
        ),
        "its own, and their variances are averaged: that of all together": (
            lambda z, over: std(z, over).square().mean() ** -0.5
        ),
        "its own mean taken off: that of all together": lambda z, over: 1 / std(off(z, over)),
    }
    added = {
        f"{small:g} is added, as against a division by 0: small latents need the exact scale": (
            lambda z, small=small: 1 / (std(z) + small)
        )
        for small in (1e-8, 1e-7, 1e-6, 1e-5, 1e-4)
    }
    return (
        mistakes
        | added
        | {
            f"{whose} {what}": partial(kind, over=over)
            for what, kind in kinds.items()
            for whose, over in _AXES.items()
        }
    )
