"""The U-Net that predicts the noise in a picture; names and layout of Stable Diffusion 1.5."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from course.models.resnet import (
    TIME_EMBEDDING_NORMS,
    Downsample2D,
    ResnetBlock2D,
    TimestepEmbedding,
    Upsample2D,
    timestep_embedding,
    zero_,
)


@dataclass(frozen=True)
class UNetConfig:
    """Sizes of a U-Net; field names are those of diffusers.

    Attributes:
        in_channels: channels of x_t.
        out_channels: channels of the prediction.
        block_out_channels: channels at each level, finest first; every level but the last halves
            height and width.
        layers_per_block: residual blocks per level on the way down; one more on the way up.
        norm_num_groups: groups of every normalisation; divides every number of channels.
        norm_eps: added to every variance before its root.
        resnet_time_scale_shift: how the time enters a residual block: "default" adds it,
            "scale_shift" scales and shifts after the normalisation.
        num_class_embeds: rows of the table of classes, the last of which stands for no class; None
            for an unconditional network.
        zero_init: start with the last convolution of every residual block and of the whole at 0.
            (Not a field of diffusers; it decides the first weights only.)

    Raises:
        ValueError: a size is below 1, the groups do not divide the channels, or there is no such
            way for the time to enter.
    """

    in_channels: int = 4
    out_channels: int = 4
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers_per_block: int = 2
    norm_num_groups: int = 32
    norm_eps: float = 1e-5
    resnet_time_scale_shift: str = "default"
    num_class_embeds: int | None = None
    zero_init: bool = False

    def __post_init__(self) -> None:
        # A list is what JSON gives.
        object.__setattr__(self, "block_out_channels", tuple(self.block_out_channels))
        if not self.block_out_channels:
            raise ValueError("block_out_channels: expected at least one level, came ()")
        for name in ("in_channels", "out_channels", "layers_per_block", "norm_num_groups"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, came {getattr(self, name)}")
        if self.num_class_embeds is not None and self.num_class_embeds < 2:
            raise ValueError(
                "num_class_embeds: expected at least one class and the row for none, "
                f"came {self.num_class_embeds}"
            )
        if self.resnet_time_scale_shift not in TIME_EMBEDDING_NORMS:
            raise ValueError(
                f"resnet_time_scale_shift: expected one of {TIME_EMBEDDING_NORMS}, "
                f"came {self.resnet_time_scale_shift!r}"
            )
        for channels in self.block_out_channels:
            if channels < 1 or channels % self.norm_num_groups or channels % 2:
                raise ValueError(
                    "block_out_channels: expected even multiples of norm_num_groups = "
                    f"{self.norm_num_groups}, came {self.block_out_channels}"
                )


class DownBlock2D(nn.Module):
    """Residual blocks at one resolution, then, if asked for, half of it."""

    def __init__(
        self, channels: Sequence[int], temb_channels: int, config: UNetConfig, downsample: bool
    ):
        super().__init__()
        self.resnets = _resnets(channels[:-1], channels[1:], temb_channels, config)
        self.downsamplers = nn.ModuleList([Downsample2D(channels[-1])] if downsample else [])

    def forward(
        self, x: Float[Tensor, "B C H W"], temb: Float[Tensor, "B D"]
    ) -> list[Float[Tensor, "B _ _ _"]]:
        """The output of every layer, in order: each is a skip connection, the last goes on."""
        outputs = []
        for resnet in self.resnets:
            x = resnet(x, temb)
            outputs.append(x)
        for downsampler in self.downsamplers:
            x = downsampler(x)
            outputs.append(x)
        return outputs


class MidBlock2D(nn.Module):
    """Two residual blocks at the coarsest resolution."""

    def __init__(self, channels: int, temb_channels: int, config: UNetConfig):
        super().__init__()
        self.resnets = _resnets([channels] * 2, [channels] * 2, temb_channels, config)

    def forward(
        self, x: Float[Tensor, "B C H W"], temb: Float[Tensor, "B D"]
    ) -> Float[Tensor, "B C H W"]:
        for resnet in self.resnets:
            x = resnet(x, temb)
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
    ):
        super().__init__()
        below = [in_channels] + [out_channels] * (len(skip_channels) - 1)
        widths = [a + b for a, b in zip(below, skip_channels, strict=True)]
        self.resnets = _resnets(widths, [out_channels] * len(widths), temb_channels, config)
        self.upsamplers = nn.ModuleList([Upsample2D(out_channels)] if upsample else [])

    def forward(
        self,
        x: Float[Tensor, "B C H W"],
        skips: list[Float[Tensor, "B _ _ _"]],
        temb: Float[Tensor, "B D"],
    ) -> Float[Tensor, "B O _ _"]:
        """Takes skips from the end of the list; the next one left there says how large to be."""
        for resnet in self.resnets:
            x = resnet(torch.cat([x, skips.pop()], dim=1), temb)
        for upsampler in self.upsamplers:
            x = upsampler(x, tuple(skips[-1].shape[-2:]))
        return x


class UNet2DConditionModel(nn.Module):
    """Noise predictor eps_theta(x_t, t): down to coarse features and up again, with skips across.

    Any height and width will do: one that is not divisible is rounded up on the way down, and the
    way up follows the skips.

    Source: Ho et al. 2020, appendix B; lecture 000, equations 26-33; layout of diffusers.
    """

    def __init__(self, config: UNetConfig):
        super().__init__()
        self.config = config
        channels = config.block_out_channels
        temb_channels = 4 * channels[0]
        self.time_embedding = TimestepEmbedding(channels[0], temb_channels)
        self.class_embedding = None
        if config.num_class_embeds is not None:
            self.class_embedding = nn.Embedding(config.num_class_embeds, temb_channels)
        self.conv_in = nn.Conv2d(config.in_channels, channels[0], 3, padding=1)

        self.down_blocks = nn.ModuleList()
        skips, current = [channels[0]], channels[0]
        for level, out in enumerate(channels):
            last = level == len(channels) - 1
            widths = [current] + [out] * config.layers_per_block
            self.down_blocks.append(DownBlock2D(widths, temb_channels, config, downsample=not last))
            skips += widths[1:] + [out] * (not last)
            current = out

        self.mid_block = MidBlock2D(current, temb_channels, config)

        self.up_blocks = nn.ModuleList()
        for level, out in reversed(list(enumerate(channels))):
            taken = [skips.pop() for _ in range(config.layers_per_block + 1)]
            self.up_blocks.append(
                UpBlock2D(current, out, taken, temb_channels, config, upsample=level > 0)
            )
            current = out

        self.conv_norm_out = nn.GroupNorm(config.norm_num_groups, current, config.norm_eps)
        self.conv_out = nn.Conv2d(current, config.out_channels, 3, padding=1)
        if config.zero_init:
            zero_(self.conv_out)

    def forward(
        self,
        xt: Float[Tensor, "B C H W"],
        t: Int64[Tensor, " B"],
        context: Int64[Tensor, " B"] | None = None,
    ) -> Float[Tensor, "B O H W"]:
        """Predict the noise in `xt`.

        Args:
            xt: noisy pictures or latents, with `config.in_channels` channels.
            t: time step of each, 0..T-1.
            context: class of each, 0..num_class_embeds - 1, the last for none, which None says of
                all; only None for an unconditional network.

        Raises:
            ValueError: shapes, dtypes or classes are not as above.
        """
        if xt.ndim != 4 or xt.shape[1] != self.config.in_channels:
            raise ValueError(
                f"xt: expected shape (B, {self.config.in_channels}, H, W), came {tuple(xt.shape)}"
            )
        _check_per_sample("t", t, len(xt))
        waves = timestep_embedding(t, self.config.block_out_channels[0])
        temb = self.time_embedding(waves.to(xt.dtype))
        if self.class_embedding is not None:
            temb = temb + self._embed_class(context, t)
        elif context is not None:
            raise ValueError("context: expected None, for this U-Net is unconditional")

        x = self.conv_in(xt)
        skips = [x]
        for block in self.down_blocks:
            skips += block(x, temb)
            x = skips[-1]
        x = self.mid_block(x, temb)
        for block in self.up_blocks:
            x = block(x, skips, temb)
        return self.conv_out(F.silu(self.conv_norm_out(x)))

    def _embed_class(
        self, context: Int64[Tensor, " B"] | None, t: Int64[Tensor, " B"]
    ) -> Float[Tensor, "B D"]:
        null = self.class_embedding.num_embeddings - 1
        if context is None:
            context = torch.full_like(t, null)
        _check_per_sample("context", context, len(t))
        try:
            return self.class_embedding(context)
        except IndexError:
            came = context.tolist()
            raise ValueError(f"context: expected classes 0..{null}, came {came}") from None


def _check_per_sample(name: str, value: Tensor, batch: int) -> None:
    if not isinstance(value, Tensor):
        raise ValueError(f"{name}: expected int64 of shape ({batch},), came {value!r}")
    if value.dtype != torch.int64 or value.shape != (batch,):
        raise ValueError(
            f"{name}: expected int64 of shape ({batch},), came {value.dtype} {tuple(value.shape)}"
        )


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
