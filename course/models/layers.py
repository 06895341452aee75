"""The layers of an image network, each from its definition (lecture 000, "Formal Definitions").

Pictures are `(B, C, H, W)`, as in torch, and every function equals the one of torch that it names.
Positions are counted from 0; the lecture counts some from 1.
"""

import math

import numpy as np
import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

Pair = int | tuple[int, int]


def output_size(
    size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1
) -> int:
    """Positions at which a window fits: floor((size + 2 padding - reach) / stride) + 1.

    Args:
        size: pixels along the axis.
        kernel: taps of the window, which reaches over dilation * (kernel - 1) + 1 pixels.
        stride: pixels from one window to the next.
        padding: pixels added at either end.
        dilation: pixels from one tap to the next.

    Raises:
        ValueError: a number is out of its range, or not even one window fits.

    Source: lecture 000, Conv2d, where a bar stands for the floor.
    """
    for name, value, low in [
        ("size", size, 1),
        ("kernel", kernel, 1),
        ("stride", stride, 1),
        ("padding", padding, 0),
        ("dilation", dilation, 1),
    ]:
        if value < low:
            raise ValueError(f"{name}: expected at least {low}, came {value}")
    reach = dilation * (kernel - 1) + 1
    if size + 2 * padding < reach:
        raise ValueError(
            f"size: expected at least {reach - 2 * padding} for a window that reaches over "
            f"{reach} pixels with padding {padding}, came {size}"
        )
    return (size + 2 * padding - reach) // stride + 1


def conv2d_loops(
    x: Float[np.ndarray, "C H W"],
    weight: Float[np.ndarray, "O C k l"],
    bias: Float[np.ndarray, " O"] | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
) -> Float[np.ndarray, "O h w"]:
    """Cross-correlation of one picture, as the definition has it: three sums at every output.

    y[o, i, j] = b[o] + sum_{c, u, v} weight[o, c, u, v] x[c, i s + u - p, j s + v - p], and x is 0
    outside the picture.

    Raises:
        ValueError: channels do not agree, or no window fits.

    Source: lecture 000, Conv2d; printed with 1-based i and u, it needs (i - 1) s + u - p.
    """
    _agree("x", x.shape[0], weight.shape[1])
    (sh, sw), (ph, pw) = _pair(stride), _pair(padding)
    (channels, height, width), (outputs, _, kh, kw) = x.shape, weight.shape
    y = np.zeros((outputs, output_size(height, kh, sh, ph), output_size(width, kw, sw, pw)))
    for o, i, j in np.ndindex(y.shape):
        total = 0.0 if bias is None else bias[o]
        for c, u, v in np.ndindex(channels, kh, kw):
            row, column = i * sh + u - ph, j * sw + v - pw
            if 0 <= row < height and 0 <= column < width:
                total += weight[o, c, u, v] * x[c, row, column]
        y[o, i, j] = total
    return y


def unfold(
    x: Float[Tensor, "B C H W"],
    kernel: Pair,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
) -> Float[Tensor, "B C h w k l"]:
    """What every window sees: a view of the padded picture, in which a pixel stands many times.

    Raises:
        ValueError: no window fits.
    """
    (kh, kw), (sh, sw) = _pair(kernel), _pair(stride)
    (ph, pw), (dh, dw) = _pair(padding), _pair(dilation)
    output_size(x.shape[2], kh, sh, ph, dh)
    output_size(x.shape[3], kw, sw, pw, dw)
    padded = F.pad(x, (pw, pw, ph, ph))
    windows = padded.unfold(2, dh * (kh - 1) + 1, sh).unfold(3, dw * (kw - 1) + 1, sw)
    return windows[..., ::dh, ::dw]


def conv2d(
    x: Float[Tensor, "B C H W"],
    weight: Float[Tensor, "O C k l"],
    bias: Float[Tensor, " O"] | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
) -> Float[Tensor, "B O h w"]:
    """`torch.nn.functional.conv2d`: one product of the windows, as rows, with the kernels.

    Raises:
        ValueError: channels do not agree, or no window fits.

    Source: lecture 000, Conv2d.
    """
    _agree("x", x.shape[1], weight.shape[1])
    windows = unfold(x, weight.shape[2:], stride, padding, dilation)
    rows = rearrange(windows, "b c h w k l -> b h w (c k l)")
    y = linear(rows, rearrange(weight, "o c k l -> o (c k l)"), bias)
    return rearrange(y, "b h w o -> b o h w")


def convolve2d(
    x: Float[Tensor, "B C H W"],
    weight: Float[Tensor, "O C k l"],
    bias: Float[Tensor, " O"] | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
) -> Float[Tensor, "B O h w"]:
    """Convolution as mathematics has it: cross-correlation with the kernel turned half round."""
    return conv2d(x, weight.flip(2, 3), bias, stride, padding)


def conv_transpose2d(
    x: Float[Tensor, "B C h w"],
    weight: Float[Tensor, "C O k l"],
    bias: Float[Tensor, " O"] | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
) -> Float[Tensor, "B O H W"]:
    """`torch.nn.functional.conv_transpose2d`: every pixel stamps its kernel, stamps add up.

    Computed as a correlation of the picture with zeros between its pixels. Where the stride does
    not divide the kernel, some pixels get more stamps than others: a checkerboard.

    Raises:
        ValueError: channels do not agree, a stride is below 1, a padding is below 0 or as large as
            the kernel, or nothing would be left.
    """
    _agree("x", x.shape[1], weight.shape[0])
    (sh, sw), (ph, pw), (kh, kw) = _pair(stride), _pair(padding), weight.shape[2:]
    batch, channels, height, width = x.shape
    if min(sh, sw) < 1:
        raise ValueError(f"stride: expected at least 1, came {sh, sw}")
    left = (height - 1) * sh + kh - 2 * ph, (width - 1) * sw + kw - 2 * pw
    if not (0 <= ph < kh and 0 <= pw < kw) or min(left) < 1:
        raise ValueError(
            f"padding: expected at least 0, less than the kernel {kh, kw}, and so little that "
            f"something is left of {height, width} pixels with stride {sh, sw}, came {ph, pw}"
        )
    sparse = x.new_zeros(batch, channels, (height - 1) * sh + 1, (width - 1) * sw + 1)
    sparse[:, :, ::sh, ::sw] = x
    return convolve2d(sparse, weight.transpose(0, 1), bias, padding=(kh - 1 - ph, kw - 1 - pw))


def linear(
    x: Float[Tensor, "*batch I"],
    weight: Float[Tensor, "O I"],
    bias: Float[Tensor, " O"] | None = None,
) -> Float[Tensor, "*batch O"]:
    """W x + b, for every row x. Source: lecture 000, Linear."""
    _agree("x", x.shape[-1], weight.shape[1])
    y = x @ weight.T
    return y if bias is None else y + bias


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


def _pair(value: Pair) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _agree(name: str, came: int, expected: int) -> None:
    if came != expected:
        raise ValueError(f"{name}: expected {expected} channels, as the weight has, came {came}")
