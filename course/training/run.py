"""Run a recipe from its data to a checkpoint with a card."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

import course
from course.data.mnist import digits, mnist
from course.diffusion.bound import min_snr_weight
from course.diffusion.sampling import ddim
from course.files import replace_file
from course.metrics import frechet, inception, judge, neighbours
from course.training import autoencoder, contrastive, recipes
from course.training.fit import Fitted, Objective, fit

DATA = "MNIST's training set without the 5,000 digits that the course ships"
SCENES = "captioned scenes of the split train, seed 0, drawn anew for every batch"
HARD_NEGATIVES = 2
KL_WEIGHT = 2e-3


@dataclass(frozen=True)
class Task:
    """What a recipe trains for.

    Attributes:
        objective: made when the training starts; it loads the data.
        measure: of the finished model: figures for the card.
        data: what it is trained on, in words.
    """

    objective: Callable[[], Objective]
    measure: Callable[[nn.Module], dict[str, Any]]
    data: str = DATA


def train(
    name: str,
    folder: Path,
    *,
    resume: bool = False,
    max_seconds: float | int | None = None,
    progress: bool = True,
) -> Fitted:
    """Train a recipe; once it is finished, measure it and write its checkpoint and card.

    In FOLDER, state.safetensors is all that resuming needs; NAME.safetensors has the averaged
    weights, NAME.json is the card. The card comes last, so that where there is one all is there.

    Raises:
        ValueError: there is no such recipe.
        CheckpointError: see `fit`.
        DataError: the data can't be had.
    """
    recipe = recipes.find(name)
    task = TASKS[name]
    fitted = fit(
        recipes.build(recipe.model, recipe.settings.seed),
        task.objective(),
        recipe.settings,
        path=folder / "state.safetensors",
        resume=resume,
        max_seconds=max_seconds,
        facts=recipe.facts(),
        notes=_circumstances(),
        progress=progress,
    )
    if fitted.steps == recipe.settings.steps:
        metrics = task.measure(fitted.ema)
        measured = {field: metrics[field] for field in recipe.measured}
        card = {
            "recipe": name,
            "about": recipe.about,
            "data": task.data,
            "model": recipe.facts()["model"] | measured,
            "settings": vars(recipe.settings),
            "parameters": sum(p.numel() for p in fitted.ema.parameters()),
            "steps": fitted.steps,
            "seconds": round(fitted.seconds),
            "final_loss": round(float(fitted.losses[-1000:].mean()), 5),
            "runs": fitted.runs,
            "metrics": metrics,
        }
        replace_file(folder / f"{name}.safetensors", to_bytes(fitted.ema.state_dict()))
        content = json.dumps(card, indent=2, ensure_ascii=False) + "\n"
        replace_file(folder / f"{name}.json", content.encode())
    return fitted


def measure_classifier(model: nn.Module) -> dict[str, Any]:
    """Accuracy on MNIST's test images and on the offline held-out digits."""
    sets = {"test": mnist("test"), "held_out": digits("held_out")}
    figures: dict[str, Any] = {}
    for name, (images, labels) in sets.items():
        p = judge.probabilities(model, images)
        right = int((p.argmax(1) == labels).sum())
        figures[name] = {
            "images": len(images),
            "accuracy": right / len(images),
            "sure": (p.amax(1) >= 0.9).double().mean().item(),
        }
    return figures


def sample_digits(model: nn.Module, n: int, steps: int = 50, seed: int = 0) -> Tensor:
    """Draw n digits by DDIM with the `digits-ddpm` schedule, x_0 clipped to [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    xT = torch.randn(n, 1, 28, 28, generator=generator)
    noise_schedule = recipes.ddpm_schedule().respace(steps)
    return torch.cat([ddim(model, x, noise_schedule, clip=(-1, 1)) for x in xT.split(250)])


def judge_digits(images: Tensor, classifier: nn.Module) -> dict[str, Any]:
    """How a classifier sees pictures: the share it is sure of, and which classes they are."""
    p = judge.probabilities(classifier, images)
    return {
        "images": len(images),
        "sure": (p.amax(1) >= 0.9).double().mean().item(),
        "inception_score": inception.inception_score(p),
        "classes": (p.argmax(1).bincount(minlength=10) / len(p)).tolist(),
    }


def measure_ddpm(model: nn.Module) -> dict[str, Any]:
    """1,000 DDIM-50 samples against real digits: judged, compared, and searched for copies."""
    classifier = recipes.load("digits-classifier")
    samples = sample_digits(model, 1000)
    trained_on, _ = mnist("train", drop_offline=True)
    held_out, _ = digits("held_out")
    test, _ = mnist("test")
    real = judge.features(classifier, test)
    figures: dict[str, Any] = {"sampler": "DDIM, 50 steps, eta 0, x_0 clipped, seed 0"}
    for name, images in {"samples": samples, "held_out": held_out}.items():
        f = judge.features(classifier, images)
        precision, recall = neighbours.precision_recall(real[:5000], f)
        low, high = frechet.fid_interval(f, real)
        distance = neighbours.nearest_distance(images, trained_on)
        figures[name] = judge_digits(images, classifier) | {
            "fid": frechet.fid(f, real),
            "fid_interval_95": [low, high],
            "fid_against": f"{len(real)} test images, {f.shape[1]} features of digits-classifier",
            "precision": precision,
            "recall": recall,
            "nearest_training_picture": {
                "median": distance.median().item(),
                "smallest": distance.min().item(),
            },
        }
    return figures


def _labels() -> Objective:
    return recipes.label_objective(*mnist("train", drop_offline=True))


def _noise() -> Objective:
    images, _ = mnist("train", drop_offline=True)
    noise_schedule = recipes.ddpm_schedule()
    return recipes.noise_objective(images, noise_schedule, min_snr_weight(noise_schedule))


def _contrast() -> Objective:
    return contrastive.contrastive_objective(HARD_NEGATIVES)


def _compress() -> Objective:
    return autoencoder.kl_objective(autoencoder.Reconstruction("l2"), KL_WEIGHT)


TASKS = {
    "digits-classifier": Task(_labels, measure_classifier),
    "digits-ddpm": Task(_noise, measure_ddpm),
    "scenes-clip": Task(
        _contrast,
        contrastive.measure_clip,
        f"{SCENES}, each with up to {HARD_NEGATIVES} false captions of the same words",
    ),
    "scenes-vae": Task(_compress, autoencoder.measure_vae, SCENES),
}


def _circumstances() -> dict[str, Any]:
    """On which machine, with which code: what a card tells of a run."""
    load = f"{os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else "unknown"
    return {
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "load": load,
        "threads": torch.get_num_threads(),
        "revision": _revision(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }


def _revision() -> str:
    """The commit of the clone, with a mark if files differ from it."""
    command = ["git", "-C", str(Path(course.__file__).parent), "describe", "--always", "--dirty"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()


def main(name: str, folder: Path, resume: bool, max_seconds: float | None) -> int:
    """Train for the command line: say what was left where; 0 if it is finished, else 3."""
    recipe = recipes.find(name)
    state = folder / "state.safetensors"
    if state.exists() and not resume:
        print(f"{state} is there already: add --resume to go on from it.", file=sys.stderr)
        return 2
    again = f"Go on with: python -m course train {name} --folder {folder} --resume"
    try:
        fitted = train(name, folder, resume=resume, max_seconds=max_seconds)
    except KeyboardInterrupt:
        print(f"\nInterrupted. {again}")
        return 130
    if fitted.steps < recipe.settings.steps:
        print(f"{fitted.steps:,} of {recipe.settings.steps:,} steps are done. {again}")
        return 3
    print(f"Trained in {fitted.seconds:.0f} s: {folder / f'{name}.safetensors'} and its card.")
    print((folder / f"{name}.json").read_text(), end="")
    return 0
