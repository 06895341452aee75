"""The autoencoder of latent diffusion; names and layout of Stable Diffusion 1.5."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from course.models.autoencoder_blocks import Decoder, Encoder, check_picture
from course.models.autoencoder_config import AutoencoderKLConfig
from course.models.vae import kl_standard_normal, reparametrise

LOGVAR_RANGE = (-30.0, 20.0)


@dataclass(frozen=True, eq=False)
class DiagonalGaussian:
    """Normal distributions of latents, each number by itself.

    Attributes:
        mean: of each.
        logvar: logarithm of the variance of each; what is outside [-30, 20] counts as its end, so
            that no variance is 0 or infinite.
    """

    mean: Float[Tensor, "B C H W"]
    logvar: Float[Tensor, "B C H W"]

    def __post_init__(self) -> None:
        object.__setattr__(self, "logvar", self.logvar.clamp(*LOGVAR_RANGE))

    def sample(self, generator: torch.Generator) -> Float[Tensor, "B C H W"]:
        """A draw of each."""
        mean = self.mean
        noise = torch.randn(
            mean.shape, generator=generator, dtype=mean.dtype, device=generator.device
        )
        return self.at(noise.to(mean.device))

    def at(self, noise: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """The draw that standard normal noise makes: mean + sigma * noise."""
        return reparametrise(self.mean, self.logvar, noise)

    def mode(self) -> Float[Tensor, "B C H W"]:
        """Where each is most likely: its mean."""
        return self.mean

    def kl(self) -> Float[Tensor, " B"]:
        """KL divergence from N(0, I), in nats per sample."""
        return kl_standard_normal(self.mean.flatten(1), self.logvar.flatten(1))


class AutoencoderKL(nn.Module):
    """Pictures to latents with fewer numbers, and back.

    `encode` and `decode` work on latents as the network has them; diffusion works on scaled ones,
    which `to_latents` and `from_latents` give and take.

    Source: Rombach et al. 2022, section 3.1 and appendix G; lecture 002, "Diffusion in latent
    space"; layout of diffusers.
    """

    def __init__(self, config: AutoencoderKLConfig):
        super().__init__()
        self.config = config
        latent = config.latent_channels
        self.encoder = Encoder(config, 2 * latent)
        self.decoder = Decoder(config)
        self.quant_conv = nn.Conv2d(2 * latent, 2 * latent, 1)
        self.post_quant_conv = nn.Conv2d(latent, latent, 1)

    @property
    def f(self) -> int:
        """By how much height and width are divided."""
        return self.config.f

    def encode(self, x: Float[Tensor, "B C H W"]) -> DiagonalGaussian:
        """Distributions of the latents of pictures.

        Args:
            x: in [-1, 1], with `config.in_channels` channels and sides that are multiples of f.

        Raises:
            ValueError: `x` is not as above.
        """
        check_picture("x", x, self.config.in_channels, self.f)
        mean, logvar = self.quant_conv(self.encoder(x)).chunk(2, dim=1)
        return DiagonalGaussian(mean, logvar)

    def decode(self, z: Float[Tensor, "B C h w"]) -> Float[Tensor, "B O H W"]:
        """Pictures of latents, about in [-1, 1].

        Args:
            z: as `encode` describes them, not scaled.

        Raises:
            ValueError: `z` is not (B, latent_channels, h, w).
        """
        check_picture("z", z, self.config.latent_channels)
        return self.decoder(self.post_quant_conv(z))

    def forward(
        self, x: Float[Tensor, "B C H W"], noise: Float[Tensor, "B Z h w"] | None = None
    ) -> tuple[Float[Tensor, "B O H W"], DiagonalGaussian]:
        """Reconstructions, and the distributions of their latents.

        Args:
            x: pictures as `encode` takes them.
            noise: standard normal, of the shape of the latents, to draw them with; None for means.

        Raises:
            ValueError: shapes are not as above.
        """
        posterior = self.encode(x)
        z = posterior.mode() if noise is None else posterior.at(noise)
        return self.decode(z), posterior

    def to_latents(
        self, x: Float[Tensor, "B C H W"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "B Z h w"]:
        """Latents of pictures as diffusion has them: `scaling_factor` times a draw, or the mean.

        Raises:
            ValueError: `x` is not what `encode` takes.
        """
        posterior = self.encode(x)
        z = posterior.mode() if generator is None else posterior.sample(generator)
        return self.config.scaling_factor * z

    def from_latents(self, latents: Float[Tensor, "B Z h w"]) -> Float[Tensor, "B O H W"]:
        """Pictures of latents as diffusion has them, about in [-1, 1].

        Raises:
            ValueError: they are not (B, latent_channels, h, w).
        """
        return self.decode(latents / self.config.scaling_factor)
