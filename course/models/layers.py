"""The layers of an image network, each from its definition (lecture 000, "Formal Definitions").

Pictures are `(B, C, H, W)`, as in torch, and every function equals the one of torch that it names.
Positions are counted from 0; the lecture counts some from 1. Convolutions are in `convolution`.
"""

import math

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from course.models.convolution import (
    conv2d,
    conv2d_loops,
    conv_transpose2d,
    convolve2d,
    linear,
    output_size,
    unfold,
)

__all__ = [
    "average_down",
    "batch_norm",
    "concat",
    "conv2d",
    "conv2d_loops",
    "conv_transpose2d",
    "convolve2d",
    "flatten",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "linear",
    "nearest_down",
    "nearest_up",
    "output_size",
    "silu",
    "softmax",
    "standardise",
    "unflatten",
    "unfold",
]


def silu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """u sigma(u) with the logistic function sigma. Source: lecture 000, SiLU (Swish)."""
    return x * torch.sigmoid(x)


def softmax(
    x: Float[Tensor, "*shape"], temperature: float | int = 1.0, dim: int = -1
) -> Float[Tensor, "*shape"]:
    """exp(x_i / temperature), divided by their sum along `dim`.

    A high temperature evens out, one near 0 picks the largest.

    Raises:
        ValueError: the temperature is not above 0.

    Source: lecture 000, Softmax.
    """
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature: expected a number above 0, came {temperature}")
    # The largest is subtracted, which changes nothing but keeps exp from overflowing.
    e = torch.exp((x - x.amax(dim, keepdim=True)) / temperature)
    return e / e.sum(dim, keepdim=True)


def standardise(
    x: Float[Tensor, "*shape"], over: tuple[int, ...], eps: float = 1e-5
) -> Float[Tensor, "*shape"]:
    """Mean 0 and variance 1 over some axes; `eps` is added to the variance, inside the root.

    The variance is the biased one: divided by the number of values, not by one less.
    """
    mean = x.mean(over, keepdim=True)
    variance = (x - mean).square().mean(over, keepdim=True)
    return (x - mean) / torch.sqrt(variance + eps)


def group_norm(
    x: Float[Tensor, "B C H W"],
    groups: int,
    weight: Float[Tensor, " C"] | None = None,
    bias: Float[Tensor, " C"] | None = None,
    eps: float = 1e-5,
) -> Float[Tensor, "B C H W"]:
    """`torch.nn.functional.group_norm`: statistics of each picture and group of channels.

    Raises:
        ValueError: the groups do not divide the channels.

    Source: lecture 000, GroupNorm; Wu & He 2018, equations 1-7.
    """
    if groups < 1 or x.shape[1] % groups:
        raise ValueError(f"groups: expected a divisor of C = {x.shape[1]}, came {groups}")
    grouped = rearrange(x, "b (g c) h w -> b g c h w", g=groups)
    return _scale(standardise(grouped, (2, 3, 4), eps).reshape(x.shape), weight, bias)


def layer_norm(
    x: Float[Tensor, "B C H W"],
    weight: Float[Tensor, " C"] | None = None,
    bias: Float[Tensor, " C"] | None = None,
    eps: float = 1e-5,
) -> Float[Tensor, "B C H W"]:
    """Statistics of each picture, over all channels and pixels: group norm with one group."""
    return _scale(standardise(x, (1, 2, 3), eps), weight, bias)


def instance_norm(
    x: Float[Tensor, "B C H W"],
    weight: Float[Tensor, " C"] | None = None,
    bias: Float[Tensor, " C"] | None = None,
    eps: float = 1e-5,
) -> Float[Tensor, "B C H W"]:
    """`torch.nn.functional.instance_norm`: statistics of each picture and channel.

    Source: lecture 004, "Instance Normalization", where sigma_c is printed for sigma_c^2.
    """
    return _scale(standardise(x, (2, 3), eps), weight, bias)


def batch_norm(
    x: Float[Tensor, "B C H W"],
    weight: Float[Tensor, " C"] | None = None,
    bias: Float[Tensor, " C"] | None = None,
    eps: float = 1e-5,
) -> Float[Tensor, "B C H W"]:
    """`torch.nn.functional.batch_norm` in training: statistics of each channel over the batch.

    Source: lecture 004, "Batch normalization", where sigma_c is printed for sigma_c^2.
    """
    return _scale(standardise(x, (0, 2, 3), eps), weight, bias)


def nearest_down(x: Float[Tensor, "B C H W"], factor: int = 2) -> Float[Tensor, "B C h w"]:
    """Every `factor`-th pixel, from the first on: of an odd number one more than half is kept.

    Raises:
        ValueError: the factor is below 1.

    Source: lecture 000, "Nearest ... Pooling".
    """
    _factor(factor)
    return x[:, :, ::factor, ::factor]


def average_down(x: Float[Tensor, "B C H W"], factor: int = 2) -> Float[Tensor, "B C h w"]:
    """Means of squares of `factor` x `factor` pixels; what does not fill one is left out.

    Raises:
        ValueError: the factor is below 1, or not even one square fits.

    Source: lecture 000, "... Average Pooling"; `torch.nn.functional.avg_pool2d`.
    """
    _factor(factor, min(x.shape[2:]))
    return unfold(x, factor, stride=factor).mean((-2, -1))


def nearest_up(x: Float[Tensor, "B C h w"], factor: int = 2) -> Float[Tensor, "B C H W"]:
    """Every pixel, `factor` x `factor` times.

    Raises:
        ValueError: the factor is below 1.

    Source: lecture 000, "Nearest-Neighbor".
    """
    _factor(factor)
    return repeat(x, "b c h w -> b c (h i) (w j)", i=factor, j=factor)


def flatten(x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B N C"]:
    """Pixels as a row of N = H W tokens, line by line: token i W + j is pixel (i, j).

    Source: lecture 000, "Reshape and Concatenation", counted from 0.
    """
    return rearrange(x, "b c h w -> b (h w) c")


def unflatten(y: Float[Tensor, "B N C"], size: tuple[int, int]) -> Float[Tensor, "B C H W"]:
    """The inverse of `flatten`, for pictures of `size` (height, width).

    Raises:
        ValueError: height times width is not N, or one is below 1.
    """
    if min(size) < 1 or size[0] * size[1] != y.shape[1]:
        raise ValueError(f"size: expected H * W = {y.shape[1]}, came {size[0]} * {size[1]}")
    return rearrange(y, "b (h w) c -> b c h w", h=size[0])


def concat(a: Float[Tensor, "B C H W"], b: Float[Tensor, "B D H W"]) -> Float[Tensor, "B E H W"]:
    """The channels of `a`, then those of `b`: E = C + D.

    Raises:
        ValueError: batch, height or width differ.
    """
    if a.shape[0] != b.shape[0] or a.shape[2:] != b.shape[2:]:
        raise ValueError(
            f"b: expected batch, height and width of a {tuple(a.shape)}, came {tuple(b.shape)}"
        )
    return torch.cat([a, b], dim=1)


def _scale(
    x: Float[Tensor, "B C H W"],
    weight: Float[Tensor, " C"] | None,
    bias: Float[Tensor, " C"] | None,
) -> Float[Tensor, "B C H W"]:
    if weight is not None:
        x = x * weight[:, None, None]
    return x if bias is None else x + bias[:, None, None]


def _factor(factor: int, size: float | int = math.inf) -> None:
    if not 1 <= factor <= size:
        raise ValueError(f"factor: expected from 1 to the picture's size, came {factor}")
