"""Autoencoders of captioned scenes: their objectives, and what is measured."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from course.data.scenes.layout import SCENES, draw
from course.data.scenes.read import scene_true
from course.data.scenes.render import render
from course.metrics.reconstruction import perceptual_distance, psnr
from course.models.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig, DiagonalGaussian
from course.models.clip import CLIPVisionModel
from course.models.configs import SCENES_VAE
from course.models.vq_model import VQModel, codebook_use
from course.training.updates import Halves

PIXEL_DISTANCES = {"l1": torch.abs, "l2": torch.square}
BATCH = 250


@dataclass(frozen=True)
class Reconstruction:
    """What a reconstruction costs: its distance in pixels, and as a network sees it.

    Attributes:
        pixels: "l1", the mean absolute difference, or "l2", the mean squared one.
        vision: what looks at the pictures besides, for instance that of `scenes-clip`; None for
            nothing. A frozen copy of it is kept.
        perceptual_weight: of `perceptual_distance`.

    Raises:
        ValueError: there is no such distance, or the weight is below 0.
    """

    pixels: str = "l1"
    vision: CLIPVisionModel | None = None
    perceptual_weight: float | int = 1.0

    def __post_init__(self) -> None:
        if self.pixels not in PIXEL_DISTANCES:
            raise ValueError(
                f"pixels: expected one of {tuple(PIXEL_DISTANCES)}, came {self.pixels!r}"
            )
        if not 0 <= self.perceptual_weight < float("inf"):
            raise ValueError(
                f"perceptual_weight: expected 0 or more, came {self.perceptual_weight}"
            )
        if self.vision is not None:
            frozen = copy.deepcopy(self.vision).eval().requires_grad_(False)
            object.__setattr__(self, "vision", frozen)

    def __call__(
        self, found: Float[Tensor, "B C H W"], wanted: Float[Tensor, "B C H W"]
    ) -> Float[Tensor, ""]:
        """Mean over the pictures."""
        cost = PIXEL_DISTANCES[self.pixels](found - wanted).mean()
        if self.vision is None:
            return cost
        vision = self.vision.to(found.device)
        return cost + self.perceptual_weight * perceptual_distance(vision, found, wanted).mean()


def kl_objective(
    reconstruction: Reconstruction | None = None,
    kl_weight: float | int = 1e-6,
    size: int = 32,
    config: AutoencoderKLConfig = SCENES_VAE,
) -> Halves:
    """What an AutoencoderKL costs on scenes of the training split, drawn anew for each batch.

    The cost of the reconstruction from drawn latents, and `kl_weight` times their KL divergence
    from N(0, I) in nats, divided by the number of values in a picture. Latent diffusion sums both
    over a picture and weighs the divergence with 1e-6: the same weight, and the same gradient but
    for one factor.

    Args:
        reconstruction: None for the mean absolute difference.
        kl_weight: from 0.
        size: of the scenes, in pixels.
        config: of the autoencoder, which says how many numbers a latent has.

    Raises:
        ValueError: `kl_weight` is below 0.

    Source: Rombach et al. 2022, appendix G, without its discriminator.
    """
    if not 0 <= kl_weight < float("inf"):
        raise ValueError(f"kl_weight: expected 0 or more, came {kl_weight}")
    cost = reconstruction or Reconstruction()

    shape = (config.latent_channels, size // config.f, size // config.f)

    def batch(streams: Sequence[np.random.Generator]) -> tuple[Tensor, ...]:
        x = _scenes(streams, size)
        noise = np.stack([s.standard_normal(shape, np.float32) for s in streams])
        return x, torch.from_numpy(noise)

    def loss(model: Callable[..., Any], x: Tensor, noise: Tensor) -> Tensor:
        found, posterior = model(x, noise)
        nats = DiagonalGaussian(posterior.mean.float(), posterior.logvar.float()).kl()
        return cost(found.float(), x) + kl_weight * nats.mean() / x[0].numel()

    return Halves(batch, loss)


def vq_objective(
    reconstruction: Reconstruction | None = None, codebook_weight: float | int = 1.0
) -> Halves:
    """What a VQModel costs on the same scenes: the reconstruction's cost and the codebook's loss.

    Args:
        reconstruction: None for the mean absolute difference.
        codebook_weight: from 0.

    Raises:
        ValueError: `codebook_weight` is below 0.

    Source: van den Oord et al. 2017, equation 3; lecture 004, "The total loss".
    """
    if not 0 <= codebook_weight < float("inf"):
        raise ValueError(f"codebook_weight: expected 0 or more, came {codebook_weight}")
    cost = reconstruction or Reconstruction()

    def loss(model: Callable[..., Any], x: Tensor) -> Tensor:
        found, quantized = model(x)
        return cost(found.float(), x) + codebook_weight * quantized.loss.float()

    return Halves(lambda streams: (_scenes(streams),), loss)


@torch.no_grad()
def measure_vae(
    model: AutoencoderKL | VQModel,
    scenes: int = 1000,
    split: str = "test",
    seed: int = 0,
    size: int = 32,
) -> dict[str, Any]:
    """How well an autoencoder keeps unseen scenes, and what its latents are like.

    Reconstructions are those of the means, latents are drawn.

    Args:
        model: of either kind.
        scenes: how many, those of seed 1.
        split: of the scenes.
        seed: of the noise.
        size: of the scenes, in pixels.

    Returns:
        "psnr", the mean in dB, "psnr_worst_tenth", below which a tenth is; "read", the share of
        reconstructions that `read_scene` reads as the scene they are of, "read_true", the same of
        the pictures themselves; "latent_mean" and "latent_std", over all numbers of the latents;
        "scaling_factor", one over the latter. Of an AutoencoderKL "kl", in nats per number of a
        latent; of a VQModel the use of its codebook.
    """
    device = next(model.parameters()).device
    drawn = draw(1, range(scenes), split)
    images = render(drawn, size)
    found, told = zip(*(model(x.to(device)) for x in images.split(BATCH)), strict=True)
    found = torch.cat(found).cpu()
    quality, z = psnr(found, images), _latents(model, images, seed)
    figures: dict[str, Any] = {
        "scenes": scenes,
        "psnr": quality.mean().item(),
        "psnr_worst_tenth": quality.quantile(0.1).item(),
        "read": _share(map(scene_true, found, drawn)),
        "read_true": _share(map(scene_true, images, drawn)),
        "latent_mean": z.mean().item(),
        "latent_std": z.std().item(),
        "scaling_factor": 1 / z.std().item(),
    }
    if isinstance(model, VQModel):
        codes = torch.cat([quantized.codes for quantized in told])
        return figures | codebook_use(codes, model.config.num_vq_embeddings)
    nats = torch.cat([posterior.kl() for posterior in told])
    return figures | {"kl": nats.mean().item() / z[0].numel()}


@torch.no_grad()
def before_and_after(
    model: AutoencoderKL | VQModel, scenes: int = 18, size: int = 32
) -> Float[Tensor, "N 3 H W"]:
    """Unseen scenes, those that `measure_vae` begins with, each followed by its reconstruction."""
    images = render(draw(1, range(scenes), "test"), size)
    found, _ = model(images.to(next(model.parameters()).device))
    return torch.stack([images, found.cpu()], 1).flatten(0, 1)


@torch.no_grad()
def latent_scale(
    model: AutoencoderKL | VQModel, images: Float[Tensor, "N C H W"], seed: int = 0
) -> float:
    """One over the standard deviation of the latents of pictures: what `scaling_factor` should be.

    Args:
        model: whose latents are drawn, if they are random.
        images: in [-1, 1], so many that they stand for all.
        seed: of the draws.

    Source: Rombach et al. 2022, appendix G ("rescale the latent space to unit variance").
    """
    return 1 / _latents(model, images, seed).std().item()


def _latents(model: nn.Module, images: Tensor, seed: int) -> Tensor:
    """A draw of each picture's latent, not scaled."""
    device, generator = next(model.parameters()).device, torch.Generator().manual_seed(seed)
    found = [model.encode(x.to(device)) for x in images.split(BATCH)]
    drawn = [q.sample(generator) if isinstance(q, DiagonalGaussian) else q for q in found]
    return torch.cat(drawn).cpu()


def _scenes(streams: Sequence[np.random.Generator], size: int = 32) -> Tensor:
    return render(draw(0, [int(stream.integers(SCENES)) for stream in streams], "train"), size)


def _share(results) -> float:
    return float(np.mean(list(results)))
