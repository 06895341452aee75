"""Blocks of the U-Net: residual blocks at one resolution, each with its transformer if asked for.

With and without transformers they are the same classes, and their tensors have diffusers' names.
"""

from collections.abc import Sequence
from itertools import zip_longest

import torch
from jaxtyping import Float
from torch import Tensor, nn

from course.models.attention import Context
from course.models.resnet import Downsample2D, ResnetBlock2D, Upsample2D, zero_
from course.models.transformer import Transformer2DModel
from course.models.unet_config import UNetConfig

Words = Context | Float[Tensor, "B M K"] | None


class DownBlock2D(nn.Module):
    """Residual blocks at one resolution, then, if asked for, half of it."""

    def __init__(
        self,
        channels: Sequence[int],
        temb_channels: int,
        config: UNetConfig,
        downsample: bool,
        attend: bool = False,
    ):
        super().__init__()
        self.resnets = _resnets(channels[:-1], channels[1:], temb_channels, config)
        self.attentions = _attentions(channels[1:] if attend else [], config)
        self.downsamplers = nn.ModuleList([Downsample2D(channels[-1])] if downsample else [])

    def forward(
        self,
        x: Float[Tensor, "B C H W"],
        temb: Float[Tensor, "B D"],
        context: Words = None,
    ) -> list[Float[Tensor, "B _ _ _"]]:
        """The output of every layer, in order: each is a skip connection, the last goes on."""
        outputs = []
        for resnet, attention in zip_longest(self.resnets, self.attentions):
            x = resnet(x, temb)
            if attention is not None:
                x = attention(x, context)
            outputs.append(x)
        for downsampler in self.downsamplers:
            x = downsampler(x)
            outputs.append(x)
        return outputs


class MidBlock2D(nn.Module):
    """Two residual blocks at the coarsest resolution, if asked for with a transformer between."""

    def __init__(self, channels: int, temb_channels: int, config: UNetConfig, attend: bool = False):
        super().__init__()
        self.resnets = _resnets([channels] * 2, [channels] * 2, temb_channels, config)
        self.attentions = _attentions([channels] if attend else [], config)

    def forward(
        self,
        x: Float[Tensor, "B C H W"],
        temb: Float[Tensor, "B D"],
        context: Words = None,
    ) -> Float[Tensor, "B C H W"]:
        for resnet, attention in zip_longest(self.resnets, self.attentions):
            x = resnet(x, temb)
            if attention is not None:
                x = attention(x, context)
        return x


class UpBlock2D(nn.Module):
    """Residual blocks, each on what comes from below and a skip; then, if asked for, enlarge."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        skip_channels: Sequence[int],
        temb_channels: int,
        config: UNetConfig,
        upsample: bool,
        attend: bool = False,
    ):
        super().__init__()
        below = [in_channels] + [out_channels] * (len(skip_channels) - 1)
        widths_in = [a + b for a, b in zip(below, skip_channels, strict=True)]
        widths = [out_channels] * len(widths_in)
        self.resnets = _resnets(widths_in, widths, temb_channels, config)
        self.attentions = _attentions(widths if attend else [], config)
        self.upsamplers = nn.ModuleList([Upsample2D(out_channels)] if upsample else [])

    def forward(
        self,
        x: Float[Tensor, "B C H W"],
        skips: list[Float[Tensor, "B _ _ _"]],
        temb: Float[Tensor, "B D"],
        context: Words = None,
    ) -> Float[Tensor, "B O _ _"]:
        """Takes skips from the end of the list; the next one left there says how large to be."""
        for resnet, attention in zip_longest(self.resnets, self.attentions):
            x = resnet(torch.cat([x, skips.pop()], dim=1), temb)
            if attention is not None:
                x = attention(x, context)
        for upsampler in self.upsamplers:
            x = upsampler(x, tuple(skips[-1].shape[-2:]))
        return x


def _resnets(
    widths_in: Sequence[int], widths_out: Sequence[int], temb_channels: int, config: UNetConfig
) -> nn.ModuleList:
    return nn.ModuleList(
        ResnetBlock2D(
            a,
            b,
            temb_channels,
            config.norm_num_groups,
            config.norm_eps,
            config.resnet_time_scale_shift,
            config.zero_init,
        )
        for a, b in zip(widths_in, widths_out, strict=True)
    )


def _attentions(widths: Sequence[int], config: UNetConfig) -> nn.ModuleList:
    layers = nn.ModuleList(
        Transformer2DModel(
            channels,
            config.num_attention_heads,
            config.cross_attention_dim,
            groups=config.norm_num_groups,
        )
        for channels in widths
    )
    if config.zero_init:
        for layer in layers:
            zero_(layer.proj_out)
    return layers
