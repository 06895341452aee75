"""The autoencoder that leaves everything as it is."""

from jaxtyping import Float
from torch import Tensor, nn

from course.models.autoencoder_config import AutoencoderKLConfig


class Pixels(nn.Module):
    """Diffusion of pixels as latent diffusion: the latent is the picture.

    Source: f = 1 in Rombach et al. 2022, section 4.1.
    """

    f = 1

    def __init__(self):
        super().__init__()
        self.config = AutoencoderKLConfig(
            block_out_channels=(1,), latent_channels=3, norm_num_groups=1, scaling_factor=1.0
        )

    def to_latents(self, x: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
        """The pictures themselves."""
        return x

    def from_latents(self, latents: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
        """The latents themselves."""
        return latents
