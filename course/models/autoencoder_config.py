"""Sizes of an autoencoder of pictures."""

import math
from dataclasses import dataclass

from course.models.unet_config import check_levels, check_sizes


@dataclass(frozen=True)
class AutoencoderKLConfig:
    """Sizes of an autoencoder; field names are those of diffusers, defaults those of SD 1.5.

    Attributes:
        in_channels: channels of the pictures.
        out_channels: channels of the reconstructions.
        block_out_channels: channels at each level, finest first; every level but the last halves
            height and width.
        layers_per_block: residual blocks per level on the way down; one more on the way up.
        latent_channels: channels of the latents.
        norm_num_groups: groups of every normalisation; divides every number of channels.
        scaling_factor: by which latents are multiplied before a diffusion model sees them: one over
            their standard deviation, so that they have 1.
        mid_block_add_attention: whether the places at the coarsest level see each other.

    Raises:
        ValueError: a size is below 1, the groups do not divide the channels of a level, or
            `scaling_factor` is no number above 0.
    """

    in_channels: int = 3
    out_channels: int = 3
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    latent_channels: int = 4
    norm_num_groups: int = 32
    scaling_factor: float | int = 0.18215
    mid_block_add_attention: bool = True

    def __post_init__(self) -> None:
        # A list is what JSON gives.
        object.__setattr__(self, "block_out_channels", tuple(self.block_out_channels))
        names = ("in_channels", "out_channels", "layers_per_block", "latent_channels")
        check_sizes(self, (*names, "norm_num_groups"))
        check_levels(self.block_out_channels, self.norm_num_groups)
        if not 0 < self.scaling_factor < math.inf:
            raise ValueError(
                f"scaling_factor: expected a number above 0, came {self.scaling_factor}"
            )

    @property
    def f(self) -> int:
        """By how much height and width are divided. Source: Rombach et al. 2022, section 3.1."""
        return 2 ** (len(self.block_out_channels) - 1)


@dataclass(frozen=True)
class VQModelConfig(AutoencoderKLConfig):
    """Sizes of an autoencoder with a codebook in place of the Gaussian.

    Attributes:
        num_vq_embeddings: codes in the codebook.
        vq_embed_dim: numbers in each; None for as many as `latent_channels`.
        commitment: weight of the encoder's part of the codebook's loss, beta of van den Oord et al.
            2017. (Ours: diffusers writes 0.25 into its code.)

    Raises:
        ValueError: a size is below 1, `commitment` is below 0, or see AutoencoderKLConfig.
    """

    num_vq_embeddings: int = 256
    vq_embed_dim: int | None = None
    commitment: float | int = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, ("num_vq_embeddings", "vq_embed_dim"))
        if not 0 <= self.commitment < math.inf:
            raise ValueError(f"commitment: expected 0 or more, came {self.commitment}")
