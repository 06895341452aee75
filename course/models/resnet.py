"""Residual blocks and resampling, tensor for tensor those of Stable Diffusion 1.5."""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

TIME_EMBEDDING_NORMS = ("default", "scale_shift")


def timestep_embedding(
    t: Int64[Tensor, " B"], dim: int, max_period: float | int = 10_000
) -> Float[Tensor, "B dim"]:
    """Waves of the time step: cosines of frequencies falling from 1 to 1/max_period, then sines.

    Computed in float32 whatever the model's precision, as Stable Diffusion does: large angles lose
    digits, and the same digits must be lost.

    Args:
        t: time steps, 0..T-1.
        dim: even number of features.
        max_period: ratio of the geometric row of frequencies; the last lies just above its inverse.

    Raises:
        ValueError: `dim` is not even and above 0.

    Source: lecture 000, TimestepEmbedding, where they are interleaved; diffusers with
    flip_sin_to_cos and no shift.
    """
    if dim < 2 or dim % 2:
        raise ValueError(f"dim: expected an even number above 0, came {dim}")
    half = dim // 2
    exponent = -math.log(max_period) * torch.arange(half, dtype=torch.float32, device=t.device)
    angle = t[:, None].float() * torch.exp(exponent / half)
    return torch.cat([angle.cos(), angle.sin()], dim=1)


class TimestepEmbedding(nn.Module):
    """Two linear layers with SiLU between: waves of the time step become `temb`."""

    def __init__(self, in_channels: int, time_embed_dim: int):
        super().__init__()
        self.linear_1 = nn.Linear(in_channels, time_embed_dim)
        self.linear_2 = nn.Linear(time_embed_dim, time_embed_dim)

    def forward(self, waves: Float[Tensor, "B F"]) -> Float[Tensor, "B D"]:
        return self.linear_2(F.silu(self.linear_1(waves)))


class ResnetBlock2D(nn.Module):
    """Two normalised convolutions and a shortcut; between them each channel may be told the time.

    Args:
        in_channels: channels of the input; if other than `out_channels`, the shortcut is a 1x1
            convolution, else the identity.
        out_channels: channels of the output.
        temb_channels: width of the time embedding; None for a block that is told no time, as in an
            autoencoder.
        groups: of both group normalisations; divides both numbers of channels. With one channel per
            group the second normalisation removes a time that is added.
        eps: of both group normalisations.
        time_embedding_norm: "default" adds the projected time before the second normalisation,
            "scale_shift" scales by one plus it and shifts after.
        zero_init: start with the second convolution at 0: the block begins as its shortcut.

    Raises:
        ValueError: `time_embedding_norm` is neither, or it is "scale_shift" without a time.

    Source: lecture 000, equations 4-9, where the time scales and shifts, as in Dhariwal & Nichol
    2021, section 3 ("adaptive group normalization"), whose code scales by 1 + it, as here; Stable
    Diffusion 1.5 adds.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        temb_channels: int | None,
        groups: int = 32,
        eps: float = 1e-5,
        time_embedding_norm: str = "default",
        zero_init: bool = False,
    ):
        super().__init__()
        if time_embedding_norm not in TIME_EMBEDDING_NORMS:
            raise ValueError(
                f"time_embedding_norm: expected one of {TIME_EMBEDDING_NORMS}, "
                f"came {time_embedding_norm!r}"
            )
        self.scale_shift = time_embedding_norm == "scale_shift"
        if self.scale_shift and temb_channels is None:
            raise ValueError("time_embedding_norm: expected 'default' without temb_channels")
        self.norm1 = nn.GroupNorm(groups, in_channels, eps)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.time_emb_proj = None
        if temb_channels is not None:
            self.time_emb_proj = nn.Linear(temb_channels, out_channels * (1 + self.scale_shift))
        self.norm2 = nn.GroupNorm(groups, out_channels, eps)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        if zero_init:
            zero_(self.conv2)
        self.conv_shortcut = None
        if in_channels != out_channels:
            self.conv_shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(
        self, x: Float[Tensor, "B C H W"], temb: Float[Tensor, "B D"] | None = None
    ) -> Float[Tensor, "B O H W"]:
        """The picture, changed.

        Raises:
            ValueError: a time comes to a block that is told none, or none to one that is.
        """
        if (temb is None) != (self.time_emb_proj is None):
            wanted, came = ("one", "none") if temb is None else ("none", "one")
            raise ValueError(f"temb: expected {wanted} for this block, came {came}")
        h = self.conv1(F.silu(self.norm1(x)))
        if temb is None:
            h = self.norm2(h)
        else:
            time = self.time_emb_proj(F.silu(temb))[:, :, None, None]
            if self.scale_shift:
                scale, shift = time.chunk(2, dim=1)
                h = torch.addcmul(shift, self.norm2(h), 1 + scale)
            else:
                h = self.norm2(h + time)
        h = self.conv2(F.silu(h))
        return h + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class Downsample2D(nn.Module):
    """Halve height and width: a 3x3 convolution of stride 2.

    Args:
        channels: of input and output.
        padding: 1 pads every side, and an odd size is rounded up, as in the U-Net; 0 pads below and
            right only, and it is rounded down, as in the encoder of Stable Diffusion's VAE.

    Raises:
        ValueError: `padding` is neither.
    """

    def __init__(self, channels: int, padding: int = 1):
        super().__init__()
        if padding not in (0, 1):
            raise ValueError(f"padding: expected 0 or 1, came {padding}")
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=padding)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C h w"]:
        if self.conv.padding == (0, 0):
            x = F.pad(x, (0, 1, 0, 1))
        return self.conv(x)


class Upsample2D(nn.Module):
    """Repeat the nearest pixel, then smooth with a 3x3 convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(
        self, x: Float[Tensor, "B C h w"], size: tuple[int, int] | None = None
    ) -> Float[Tensor, "B C H W"]:
        """Enlarge to `size` (height, width), or to twice the size where it is None."""
        if size is None:
            size = (2 * x.shape[2], 2 * x.shape[3])
        return self.conv(F.interpolate(x, size=size, mode="nearest"))


def zero_(module: nn.Conv2d | nn.Linear) -> None:
    """Set weight and bias to 0, in place."""
    nn.init.zeros_(module.weight)
    nn.init.zeros_(module.bias)
