"""Pipelines by the name of the recipe that trained them."""

from dataclasses import replace

from course.diffusion import schedule
from course.diffusion.schedule import Schedule
from course.models.latent_diffusion import LatentDiffusion
from course.pipeline.config import TextToImageConfig
from course.pipeline.text_to_image import TextToImage
from course.training import recipes
from course.training.contrastive import LENGTH, scenes_tokenizer

# The autoencoder of each, and how its parts are used.
SCENES = TextToImageConfig(
    sample_size=32,
    max_length=LENGTH,
    mask_padding=True,
    pooled=True,
    prediction_type="v_prediction",
    timestep_spacing="linspace",
    steps_offset=0,
)
PIPELINES = {
    "scenes-ldm": ("scenes-vae", SCENES),
    "scenes-ldm-64": ("scenes-vae-64", replace(SCENES, sample_size=64)),
}


def latent_schedule() -> Schedule:
    """The schedule that they are trained for: Nichol & Dhariwal's cosine, T = 1000."""
    return schedule.cosine()


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
    autoencoder, config = PIPELINES[name]
    pipeline = TextToImage(
        scenes_tokenizer(),
        model.text_model,
        model.unet,
        recipes.load(autoencoder),
        latent_schedule(),
        config,
    )
    return pipeline.to(next(model.parameters()).device)
