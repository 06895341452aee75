"""Encoder and decoder of latent diffusion's autoencoders, tensor for tensor those of diffusers."""

from collections.abc import Sequence
from itertools import pairwise

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from course.models.attention import Attention
from course.models.autoencoder_config import AutoencoderKLConfig
from course.models.resnet import Downsample2D, ResnetBlock2D, Upsample2D

NORM_EPS = 1e-6
OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


class AttentionBlock(Attention):
    """The places of a picture, normalised, attend to each other with one head; it is added.

    It loads the names that diffusers had before (query, key, value, proj_attn) and 1x1 convolutions
    in place of linear layers, as CompVis has them.

    Source: Esser et al. 2021, the code's `AttnBlock`; lecture 000 has none in its decoder.
    """

    def __init__(self, channels: int, groups: int):
        super().__init__(channels, heads=1, dim_head=channels, bias=True)
        self.group_norm = nn.GroupNorm(groups, channels, NORM_EPS)
        self.register_load_state_dict_pre_hook(_from_old_names)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        tokens = rearrange(self.group_norm(x), "b c h w -> b (h w) c")
        return x + rearrange(super().forward(tokens), "b (h w) c -> b c h w", h=x.shape[2])


class DownEncoderBlock2D(nn.Module):
    """Residual blocks at one resolution, then, if asked for, half of it."""

    def __init__(self, channels: Sequence[int], groups: int, downsample: bool):
        super().__init__()
        self.resnets = _resnets(channels, groups)
        self.downsamplers = nn.ModuleList(
            [Downsample2D(channels[-1], padding=0)] if downsample else []
        )

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B O h w"]:
        for layer in [*self.resnets, *self.downsamplers]:
            x = layer(x)
        return x


class UpDecoderBlock2D(nn.Module):
    """Residual blocks at one resolution, then, if asked for, twice of it."""

    def __init__(self, channels: Sequence[int], groups: int, upsample: bool):
        super().__init__()
        self.resnets = _resnets(channels, groups)
        self.upsamplers = nn.ModuleList([Upsample2D(channels[-1])] if upsample else [])

    def forward(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B O H W"]:
        for layer in [*self.resnets, *self.upsamplers]:
            x = layer(x)
        return x


class UNetMidBlock2D(nn.Module):
    """Two residual blocks at the coarsest resolution, if asked for with attention between."""

    def __init__(self, channels: int, groups: int, attend: bool):
        super().__init__()
        self.attentions = nn.ModuleList([AttentionBlock(channels, groups)] if attend else [])
        self.resnets = _resnets([channels] * 3, groups)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        first, second = self.resnets
        for layer in [first, *self.attentions, second]:
            x = layer(x)
        return x


class Encoder(nn.Module):
    """From pictures to what describes latents: down, the middle, out.

    Args:
        config: sizes.
        out_channels: of what comes out: mean and log-variance of each latent, or the latent.

    Source: Rombach et al. 2022, appendix E.1; layout of diffusers.
    """

    def __init__(self, config: AutoencoderKLConfig, out_channels: int):
        super().__init__()
        channels, groups = config.block_out_channels, config.norm_num_groups
        self.conv_in = nn.Conv2d(config.in_channels, channels[0], 3, padding=1)
        self.down_blocks = nn.ModuleList()
        for before, width in pairwise((channels[0], *channels)):
            last = len(self.down_blocks) == len(channels) - 1
            widths = [before] + [width] * config.layers_per_block
            self.down_blocks.append(DownEncoderBlock2D(widths, groups, downsample=not last))
        self.mid_block = UNetMidBlock2D(channels[-1], groups, config.mid_block_add_attention)
        self.conv_norm_out = nn.GroupNorm(groups, channels[-1], NORM_EPS)
        self.conv_out = nn.Conv2d(channels[-1], out_channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B O h w"]:
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        x = self.mid_block(x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


class Decoder(nn.Module):
    """From latents to pictures: in, the middle, up.

    Nothing bounds the output: pictures in [-1, 1] come back a little outside of it.

    Source: lecture 000, equations 34-38, where the middle, the convolution at the start and the
    normalisation at the end are missing and the residual blocks are one per level; Rombach et al.
    2022, appendix E.1; layout of diffusers.
    """

    def __init__(self, config: AutoencoderKLConfig):
        super().__init__()
        channels, groups = config.block_out_channels[::-1], config.norm_num_groups
        self.conv_in = nn.Conv2d(config.latent_channels, channels[0], 3, padding=1)
        self.mid_block = UNetMidBlock2D(channels[0], groups, config.mid_block_add_attention)
        self.up_blocks = nn.ModuleList()
        for before, width in pairwise((channels[0], *channels)):
            last = len(self.up_blocks) == len(channels) - 1
            widths = [before] + [width] * (config.layers_per_block + 1)
            self.up_blocks.append(UpDecoderBlock2D(widths, groups, upsample=not last))
        self.conv_norm_out = nn.GroupNorm(groups, channels[-1], NORM_EPS)
        self.conv_out = nn.Conv2d(channels[-1], config.out_channels, 3, padding=1)

    def forward(self, z: Float[Tensor, "B C h w"]) -> Float[Tensor, "B O H W"]:
        x = self.mid_block(self.conv_in(z))
        for block in self.up_blocks:
            x = block(x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


def check_picture(name: str, x: Tensor, channels: int, factor: int = 1) -> None:
    """Raises ValueError: not (B, channels, H, W), or a side is no multiple of `factor`."""
    if x.ndim != 4 or x.shape[1] != channels:
        raise ValueError(f"{name}: expected shape (B, {channels}, H, W), came {tuple(x.shape)}")
    if any(side < 1 or side % factor for side in x.shape[2:]):
        raise ValueError(
            f"{name}: expected sides that are multiples of {factor}, came {tuple(x.shape[2:])}"
        )


def _resnets(channels: Sequence[int], groups: int) -> nn.ModuleList:
    return nn.ModuleList(ResnetBlock2D(a, b, None, groups, NORM_EPS) for a, b in pairwise(channels))


def _from_old_names(
    module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_: object
) -> None:
    """Rename the layers of old files, and make linear layers of 1x1 convolutions."""
    for old, new in OLD_NAMES.items():
        for kind in ("weight", "bias"):
            was, key = f"{prefix}{old}.{kind}", f"{prefix}{new}.{kind}"
            if was in state_dict and key not in state_dict:
                state_dict[key] = state_dict.pop(was)
        weight = state_dict.get(f"{prefix}{new}.weight")
        if weight is not None and weight.shape[2:] == (1, 1):
            state_dict[f"{prefix}{new}.weight"] = weight[:, :, 0, 0]
