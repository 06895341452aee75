"""Pipelines by the name of the recipe that trained them."""

from course.pipeline.text_to_image import TextToImage
from course.training import recipes


def load(name: str) -> TextToImage:
    """The pipeline of a recipe, from its committed checkpoint.

    Raises:
        ValueError: there is no such recipe, or it draws nothing from captions.
        CheckpointError: a checkpoint is missing, broken, or of another configuration.
    """
    recipes.find(name)
    raise ValueError(f"name: expected a recipe that draws from captions, came {name!r}")
