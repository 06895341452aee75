"""A classifier of noisy pictures that is told the time: what classifier guidance asks."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from course.models.resnet import TimestepEmbedding, timestep_embedding
from course.models.unet_blocks import DownBlock2D
from course.models.unet_config import UNetConfig, check_sizes


@dataclass(frozen=True)
class NoisyClassifierConfig:
    """Sizes of a classifier of noisy pictures; those that a U-Net has are named as there.

    Attributes:
        in_channels: channels of x_t.
        classes: number of classes.
        block_out_channels: channels at each level, finest first; every level but the last halves
            height and width.
        layers_per_block: residual blocks per level.
        norm_num_groups: groups of every normalisation; divides every number of channels.

    Raises:
        ValueError: a size is below 1, or the groups do not divide the channels of a level.
    """

    in_channels: int = 1
    classes: int = 10
    block_out_channels: tuple[int, ...] = (16, 32, 64)
    layers_per_block: int = 1
    norm_num_groups: int = 8

    def __post_init__(self) -> None:
        object.__setattr__(self, "block_out_channels", tuple(self.block_out_channels))
        check_sizes(self, ("classes",))
        self.trunk()

    def trunk(self) -> UNetConfig:
        """The U-Net whose way down it is."""
        return UNetConfig(
            in_channels=self.in_channels,
            out_channels=self.in_channels,
            block_out_channels=self.block_out_channels,
            layers_per_block=self.layers_per_block,
            norm_num_groups=self.norm_num_groups,
            resnet_time_scale_shift="scale_shift",
        )


class NoisyClassifier(nn.Module):
    """p(y | x_t): the way down of a U-Net, the average over the picture, one linear layer.

    Source: Dhariwal & Nichol 2021, section 4, whose last layer is a pooling by attention.
    """

    def __init__(self, config: NoisyClassifierConfig):
        super().__init__()
        self.config, trunk = config, config.trunk()
        channels = config.block_out_channels
        temb_channels = 4 * channels[0]
        self.time_embedding = TimestepEmbedding(channels[0], temb_channels)
        self.conv_in = nn.Conv2d(config.in_channels, channels[0], 3, padding=1)
        self.down_blocks = nn.ModuleList()
        current = channels[0]
        for level, out in enumerate(channels):
            widths = [current] + [out] * config.layers_per_block
            last = level == len(channels) - 1
            self.down_blocks.append(DownBlock2D(widths, temb_channels, trunk, not last))
            current = out
        self.norm_out = nn.GroupNorm(config.norm_num_groups, current, trunk.norm_eps)
        self.head = nn.Linear(current, config.classes)

    def forward(self, xt: Float[Tensor, "B C H W"], t: Int64[Tensor, " B"]) -> Float[Tensor, "B K"]:
        """Logits of each class.

        Args:
            xt: noisy pictures.
            t: time step of each, 0..T-1.

        Raises:
            ValueError: shapes or dtypes are not as above.
        """
        if xt.ndim != 4 or xt.shape[1] != self.config.in_channels:
            raise ValueError(
                f"xt: expected shape (B, {self.config.in_channels}, H, W), came {tuple(xt.shape)}"
            )
        if t.dtype != torch.int64 or t.shape != xt.shape[:1]:
            raise ValueError(
                f"t: expected int64 of shape ({len(xt)},), came {t.dtype} {tuple(t.shape)}"
            )
        waves = timestep_embedding(t, self.config.block_out_channels[0])
        temb = self.time_embedding(waves.to(xt.dtype))
        x = self.conv_in(xt)
        for block in self.down_blocks:
            x = block(x, temb)[-1]
        return self.head(F.silu(self.norm_out(x)).mean((2, 3)))
