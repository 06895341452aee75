"""The U-Net that predicts the noise in a picture; names and layout of Stable Diffusion 1.5."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from course.models.attention import Context
from course.models.resnet import TimestepEmbedding, timestep_embedding, zero_
from course.models.unet_blocks import DownBlock2D, MidBlock2D, UpBlock2D
from course.models.unet_config import UNetConfig


class UNet2DConditionModel(nn.Module):
    """Noise predictor eps_theta(x_t, t, context): down to coarse features and up, skips across.

    Any height and width will do: one that is not divisible is rounded up on the way down, and the
    way up follows the skips.

    Source: Ho et al. 2020, appendix B; Rombach et al. 2022, section 3.3; lecture 000, equations
    26-33; layout of diffusers.
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
        elif config.projection_class_embeddings_input_dim is not None:
            self.class_embedding = nn.Linear(
                config.projection_class_embeddings_input_dim, temb_channels
            )
        self.conv_in = nn.Conv2d(config.in_channels, channels[0], 3, padding=1)

        self.down_blocks = nn.ModuleList()
        skips, current = [channels[0]], channels[0]
        for level, out in enumerate(channels):
            last = level == len(channels) - 1
            widths = [current] + [out] * config.layers_per_block
            self.down_blocks.append(
                DownBlock2D(widths, temb_channels, config, not last, config.attends(level))
            )
            skips += widths[1:] + [out] * (not last)
            current = out

        self.mid_block = MidBlock2D(
            current, temb_channels, config, attend=config.cross_attention_dim is not None
        )

        self.up_blocks = nn.ModuleList()
        for level, out in reversed(list(enumerate(channels))):
            taken = [skips.pop() for _ in range(config.layers_per_block + 1)]
            self.up_blocks.append(
                UpBlock2D(
                    current, out, taken, temb_channels, config, level > 0, config.attends(level)
                )
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
        context: Context
        | Float[Tensor, "B M D"]
        | Float[Tensor, "B P"]
        | Int64[Tensor, " B"]
        | None = None,
    ) -> Float[Tensor, "B O H W"]:
        """Predict the noise in `xt`.

        Args:
            xt: noisy pictures or latents, with `config.in_channels` channels.
            t: time step of each, 0..T-1.
            context: what the configuration asks for: tokens (B, M, cross_attention_dim); the class
                of each, 0..num_class_embeds - 1, the last for none, which None says of all; or a
                vector of each. A `Context` holds two of them, a mask, or what stays the same over
                many calls.

        Raises:
            ValueError: shapes, dtypes or classes are not as above.
        """
        if xt.ndim != 4 or xt.shape[1] != self.config.in_channels:
            raise ValueError(
                f"xt: expected shape (B, {self.config.in_channels}, H, W), came {tuple(xt.shape)}"
            )
        _check_per_sample("t", t, len(xt))
        told = Context.of(context)
        self._check_tokens(told.tokens, len(xt))
        waves = timestep_embedding(t, self.config.block_out_channels[0])
        temb = self.time_embedding(waves.to(xt.dtype))
        if self.class_embedding is not None:
            temb = temb + self._embed(told.added, t)
        elif told.added is not None:
            raise ValueError("context: expected no classes and no vector for this U-Net")

        # A tensor goes on as it is, so that whoever watches the calls sees where it goes.
        words = told if isinstance(context, Context) else told.tokens
        x = self.conv_in(xt)
        skips = [x]
        for block in self.down_blocks:
            skips += block(x, temb, words)
            x = skips[-1]
        x = self.mid_block(x, temb, words)
        for block in self.up_blocks:
            x = block(x, skips, temb, words)
        return self.conv_out(F.silu(self.conv_norm_out(x)))

    def _check_tokens(self, tokens: Tensor | None, batch: int) -> None:
        width = self.config.cross_attention_dim
        if width is None:
            if tokens is not None:
                raise ValueError("context: expected no tokens, for this U-Net has no transformers")
        elif tokens is None:
            raise ValueError(f"context: expected tokens of shape ({batch}, M, {width}), came none")

    def _embed(self, added: Tensor | None, t: Int64[Tensor, " B"]) -> Float[Tensor, "B D"]:
        """What is added to the time embedding: a row of the table, or a vector, projected."""
        if isinstance(self.class_embedding, nn.Linear):
            width = self.class_embedding.in_features
            if added is None or added.shape != (len(t), width) or not added.is_floating_point():
                came = None if added is None else f"{added.dtype} {tuple(added.shape)}"
                raise ValueError(
                    f"context: expected vectors of shape ({len(t)}, {width}), came {came}"
                )
            return self.class_embedding(added)
        null = self.class_embedding.num_embeddings - 1
        if added is None:
            added = torch.full_like(t, null)
        _check_per_sample("context", added, len(t))
        try:
            return self.class_embedding(added)
        except IndexError:
            raise ValueError(
                f"context: expected classes 0..{null}, came {added.tolist()}"
            ) from None


def _check_per_sample(name: str, value: Tensor, batch: int) -> None:
    if not isinstance(value, Tensor):
        raise ValueError(f"{name}: expected int64 of shape ({batch},), came {value!r}")
    if value.dtype != torch.int64 or value.shape != (batch,):
        raise ValueError(
            f"{name}: expected int64 of shape ({batch},), came {value.dtype} {tuple(value.shape)}"
        )
