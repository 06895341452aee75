"""Residual blocks and resampling of the U-Net, tensor for tensor those of Stable Diffusion 1.5."""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F


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
    """Two normalised convolutions and a shortcut; the time enters between them, added per channel.

    Args:
        in_channels: channels of the input; if other than `out_channels`, the shortcut is a 1x1
            convolution, else the identity.
        out_channels: channels of the output.
        temb_channels: width of the time embedding.
        groups: of both group normalisations; divides both numbers of channels. With one channel per
            group the second normalisation would remove the time again.
        eps: of both group normalisations.

    Source: lecture 000, equations 4-9, where the time scales and shifts; Stable Diffusion 1.5 adds.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        temb_channels: int,
        groups: int = 32,
        eps: float = 1e-5,
    ):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, in_channels, eps)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.time_emb_proj = nn.Linear(temb_channels, out_channels)
        self.norm2 = nn.GroupNorm(groups, out_channels, eps)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv_shortcut = None
        if in_channels != out_channels:
            self.conv_shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(
        self, x: Float[Tensor, "B C H W"], temb: Float[Tensor, "B D"]
    ) -> Float[Tensor, "B O H W"]:
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.time_emb_proj(F.silu(temb))[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class Downsample2D(nn.Module):
    """Halve height and width, rounding up: a 3x3 convolution of stride 2."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C h w"]:
        return self.conv(x)


class Upsample2D(nn.Module):
    """Repeat the nearest pixel, then smooth with a 3x3 convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(
        self, x: Float[Tensor, "B C h w"], size: tuple[int, int]
    ) -> Float[Tensor, "B C H W"]:
        """Enlarge to `size` (height, width): twice the input's, or one less where that was odd."""
        return self.conv(F.interpolate(x, size=size, mode="nearest"))
