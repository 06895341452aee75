"""Run a recipe: data, training, evaluation, checkpoint and card."""

import os
import platform
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

import course
from course.data.mnist import mnist
from course.training import checkpoint
from course.training.fit import Fitted, Objective, fit
from course.training.recipes import (
    Recipe,
    build,
    ddpm_schedule,
    find,
    label_objective,
    noise_objective,
)


def objective_of(recipe: Recipe) -> Objective:
    """The objective of a recipe, with its data loaded: MNIST without the offline digits.

    Raises:
        DataError: the data can't be had.
    """
    images, labels = mnist("train", drop_offline=True)
    if recipe.name == "digits-classifier":
        return label_objective(images, labels)
    return noise_objective(images, ddpm_schedule())


def train(
    name: str,
    folder: Path,
    *,
    resume: bool = False,
    max_seconds: float | int | None = None,
    progress: bool = True,
) -> Fitted:
    """Train a recipe, keeping its state in FOLDER/state.safetensors.

    Raises:
        ValueError: there is no such recipe.
        CheckpointError: see `fit`.
        DataError: the data can't be had.
    """
    recipe = find(name)
    return fit(
        build(recipe.model, recipe.settings.seed),
        objective_of(recipe),
        recipe.settings,
        path=folder / "state.safetensors",
        resume=resume,
        max_seconds=max_seconds,
        facts=recipe.facts(),
        progress=progress,
    )
