"""The original U-Net, which labels every pixel of a picture: no time, no norms, no padding."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

CHANNELS = (64, 128, 256, 512, 1024)


def output_size(size: int, levels: int = len(CHANNELS)) -> int:
    """Height or width of the output for that of the input: the valid convolutions eat the border.

    Args:
        size: height or width of the input.
        levels: of the network.

    Raises:
        ValueError: nothing would be left, or a pooling would meet an odd size.

    Source: Ronneberger et al. 2015, figure 1 (572 to 388) and the end of section 2.
    """
    step = 2 ** (levels - 1)
    # Two convolutions lose 4 pixels of their level, each of which is 2 of the level above:
    # 4 (step - 1) on the way down and again on the way up, 4 step at the bottom.
    lost = 4 * (step - 1) + 4 * step + 4 * (step - 1)
    # An output is 2 (2 (...) - 4) - 4, hence 4 more than a multiple of step.
    smallest = lost + (4 % step or step)
    if size < smallest or (size - smallest) % step:
        below = max(smallest, size - (size - smallest) % step)
        near = f"{below} or {below + step}" if below < size else f"{smallest}"
        raise ValueError(
            f"size: expected {smallest} plus a multiple of {step}, came {size}; nearest: {near}"
        )
    return size - lost


class UNet2015(nn.Module):
    """Down by max-pooling, up by transposed convolution, the cropped features of the way down
    beside those of the way up.

    Args:
        in_channels: of the picture.
        out_channels: scores of every pixel, one for each class.
        channels: at each level, finest first.

    Source: Ronneberger et al. 2015, figure 1.
    """

    def __init__(
        self, in_channels: int = 1, out_channels: int = 2, channels: Sequence[int] = CHANNELS
    ):
        super().__init__()
        self.in_channels = in_channels
        self.down = nn.ModuleList(_two_convs(a, b) for a, b in pairwise([in_channels, *channels]))
        self.pool = nn.MaxPool2d(2)
        ascent = list(pairwise(reversed(channels)))
        self.up_convs = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in ascent)
        self.up = nn.ModuleList(_two_convs(2 * b, b) for _, b in ascent)
        self.conv_out = nn.Conv2d(channels[0], out_channels, 1)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B O h w"]:
        """Scores of the classes at the pixels that are far enough from the border.

        Args:
            x: pictures of a height and width that `output_size` takes.

        Raises:
            ValueError: they are not.
        """
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"x: expected shape (B, {self.in_channels}, H, W), came {tuple(x.shape)}"
            )
        for axis, name in ((2, "height"), (3, "width")):
            try:
                output_size(x.shape[axis], len(self.down))
            except ValueError as error:
                raise ValueError(f"x: {name} does not fit; {error}") from None

        skips = []
        for convs in self.down[:-1]:
            x = convs(x)
            skips.append(x)
            x = self.pool(x)
        x = self.down[-1](x)
        for up_conv, convs in zip(self.up_convs, self.up, strict=True):
            x = up_conv(x)
            x = convs(torch.cat([_crop(skips.pop(), x.shape[-2:]), x], dim=1))
        return self.conv_out(x)


def _two_convs(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3),
        nn.ReLU(),
        nn.Conv2d(out_channels, out_channels, 3),
        nn.ReLU(),
    )


def _crop(x: Tensor, size: Sequence[int]) -> Tensor:
    """The middle of `x`."""
    top, left = ((have - want) // 2 for have, want in zip(x.shape[-2:], size, strict=True))
    return x[..., top : top + size[0], left : left + size[1]]
