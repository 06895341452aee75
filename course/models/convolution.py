"""Convolution from its definition (lecture 000, "Conv2d"), as loops and as one matrix product.

Pictures are `(B, C, H, W)`, as in torch. Positions are counted from 0; the lecture counts from 1.
"""

import numpy as np
from einops import rearrange
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
    _agree(x.shape[0], weight.shape[1])
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
    _agree(x.shape[1], weight.shape[1])
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
    _agree(x.shape[1], weight.shape[0])
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
    _agree(x.shape[-1], weight.shape[1])
    y = x @ weight.T
    return y if bias is None else y + bias


def _pair(value: Pair) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _agree(came: int, expected: int) -> None:
    if came != expected:
        raise ValueError(f"x: expected {expected} channels, as the weight has, came {came}")
