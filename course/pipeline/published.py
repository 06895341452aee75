"""Pipelines by the name of the recipe that trained them."""

from dataclasses import replace

from course.diffusion import schedule
from course.diffusion.schedule import Schedule
from course.models.autoencoder_kl import AutoencoderKL
from course.models.configs import SCENES_LDMS
from course.models.latent_diffusion import LatentDiffusion
from course.models.pixels import Pixels
from course.pipeline.config import TextToImageConfig
from course.pipeline.text_to_image import TextToImage
from course.training import recipes
from course.training.contrastive import LENGTH, scenes_tokenizer

SCENES = TextToImageConfig(
    sample_size=32,
    max_length=LENGTH,
    mask_padding=True,
    pooled=True,
    prediction_type="v_prediction",
    timestep_spacing="linspace",
    steps_offset=0,
)
# The autoencoder of each, None for pixels as they are, and how its parts are used.
PIPELINES = {
    "scenes-ldm": ("scenes-vae", SCENES),
    "scenes-ldm-joint": ("scenes-vae", SCENES),
    "scenes-ldm-frozen": ("scenes-vae", SCENES),
    "scenes-ldm-64": ("scenes-vae-64", replace(SCENES, sample_size=64)),
} | {f"scenes-ldm-f{f}": (f"scenes-vae-f{f}" if f > 1 else None, SCENES) for f in SCENES_LDMS}


def latent_schedule() -> Schedule:
    """The schedule that they are trained for: Nichol & Dhariwal's cosine, T = 1000."""
    return schedule.cosine()


def autoencoder_of(name: str) -> AutoencoderKL | Pixels:
    """The one whose latents a recipe of `PIPELINES` diffuses, from its committed checkpoint."""
    autoencoder, _ = PIPELINES[name]
    return recipes.load(autoencoder) if autoencoder else Pixels()


def load(name: str) -> TextToImage:
    """The pipeline of a recipe, from its committed checkpoints.

    Raises:
        ValueError: there is no such recipe, or it draws nothing from captions.
        CheckpointError: a checkpoint is missing, broken, or of another configuration.
    """
    recipes.find(name)
    if name not in PIPELINES:
        raise ValueError(f"name: expected one of {', '.join(PIPELINES)}, came {name!r}")
    return assemble(name, recipes.load(name))


def assemble(name: str, model: LatentDiffusion) -> TextToImage:
    """The pipeline of a recipe around a network in its training, on the network's device."""
    pipeline = TextToImage(
        scenes_tokenizer(),
        model.text_model,
        model.unet,
        autoencoder_of(name),
        latent_schedule(),
        PIPELINES[name][1],
    )
    return pipeline.to(next(model.parameters()).device)
