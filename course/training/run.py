"""Run a recipe from its data to a checkpoint with a card."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import course
from course.device import name as device_name
from course.models.configs import SCENES_LDMS, SCENES_VAES
from course.pipeline import published
from course.sheet import png, sheet
from course.training import autoencoder, checkpoint, contrastive, digits, latent, processes, recipes
from course.training.checkpoint import CheckpointError
from course.training.digits import DATA, sample_digits
from course.training.fit import Fitted, Objective, fit
from course.training.log import LogError
from course.training.settings import SetupError

SCENES = "captioned scenes of the split train, seed 0, drawn anew for every batch"
HARD_NEGATIVES = 2
KL_WEIGHT = 2e-3
# What ends all processes of a training alike.
AGREED = (CheckpointError, LogError, SetupError, FloatingPointError)


@dataclass(frozen=True)
class Task:
    """What a recipe trains for.

    Attributes:
        objective: made when the training starts; it loads the data onto the device.
        measure: of the finished model: figures for the card.
        data: what it is trained on, in words.
        sheet: pictures in [-1, 1] that a model draws from a fixed seed, if it draws any.
        columns: of the sheet; as many as make a square if None.
        begin: changes the first weights, where a part of the network is trained already.
    """

    objective: Callable[[torch.device], Objective]
    measure: Callable[[nn.Module], dict[str, Any]]
    data: str = DATA
    sheet: Callable[[nn.Module], Tensor] | None = None
    columns: int | None = None
    begin: Callable[[nn.Module], None] = lambda model: None


def train(
    name: str,
    folder: Path,
    *,
    lane: str = "cpu",
    resume: bool = False,
    max_seconds: float | int | None = None,
    sheet_every: int = 2000,
    progress: bool = True,
) -> Fitted:
    """Train a recipe; once it is finished, measure it and write its checkpoint and card.

    In FOLDER, state.safetensors is all that resuming needs; log.jsonl is the log, samples/ has the
    sample sheets by the number of updates; NAME.safetensors has the averaged weights, NAME.json is
    the card. The card comes last, so that where there is one all is there.

    Args:
        name: of the recipe.
        folder: for all that it leaves.
        lane: "cpu", "gpu" or "auto", see `Recipe.lane`.
        resume: go on where it stopped.
        max_seconds: stop after so long.
        sheet_every: updates between sample sheets; 0 for none.
        progress: show a bar.

    Raises:
        ValueError: there is no such recipe.
        SetupError: there is no such lane; or see `fit`.
        CheckpointError: a file can't be written; or see `fit`.
        LogError, FloatingPointError: see `fit`.
        DataError: the data can't be had.
    """
    recipe, task = recipes.find(name), TASKS[name]
    lane = recipe.lane(lane)
    settings = recipe.lanes[lane]
    joined = processes.join(cpu=lane == "cpu")
    model = recipes.build(recipe.model, settings.seed)
    task.begin(model)

    def draw(step: int, model: nn.Module) -> None:
        picture = png(sheet(task.sheet(model), task.columns))
        checkpoint.write(folder / "samples" / f"{step:06}.png", picture)

    with processes.parting(*AGREED, KeyboardInterrupt):
        fitted = fit(
            model.to(joined.device),
            task.objective(joined.device),
            settings,
            path=folder / "state.safetensors",
            every=500 if lane == "cpu" else 5000,
            resume=resume,
            max_seconds=max_seconds,
            facts=recipe.facts(),
            notes=_circumstances(joined.device, joined.num_processes),
            progress=progress,
            log=folder / "log.jsonl",
            watch=draw if task.sheet and sheet_every else None,
            watch_every=sheet_every or 1,
        )
    if fitted.steps == settings.steps and processes.is_main():
        model = fitted.ema.cpu()
        weights = {
            name: value.to(getattr(torch, recipe.stored)) if value.is_floating_point() else value
            for name, value in model.state_dict().items()
        }
        model.load_state_dict(weights)
        metrics = task.measure(model)
        measured = {field: metrics[field] for field in recipe.measured}
        card = {
            "recipe": name,
            "about": recipe.about,
            "data": task.data,
            "model": recipe.facts()["model"] | measured,
            "lane": lane,
            "settings": vars(settings),
            "parameters": sum(p.numel() for p in fitted.ema.parameters()),
            "steps": fitted.steps,
            "seconds": round(fitted.seconds),
            "final_loss": round(float(fitted.losses[-1000:].mean()), 5),
            "runs": fitted.runs,
            "metrics": metrics,
        }
        checkpoint.save(folder / f"{name}.safetensors", weights, {})
        content = json.dumps(card, indent=2, ensure_ascii=False) + "\n"
        checkpoint.write(folder / f"{name}.json", content.encode())
    return fitted


def _compress(name: str, size: int = 32) -> Task:
    """Scenes of so many pixels through an autoencoder."""
    config = recipes.find(name).model
    cost = autoencoder.Reconstruction("l2")
    return Task(
        lambda _: autoencoder.kl_objective(cost, KL_WEIGHT, size, config),
        partial(autoencoder.measure_vae, size=size),
        f"{SCENES}, {size} x {size}" if size != 32 else SCENES,
        sheet=partial(autoencoder.before_and_after, size=size),
    )


def _describe(
    name: str,
    begin: Callable[[nn.Module], None] = latent.begin,
    said: str = "the text encoder is scenes-clip's, frozen",
    **options: Any,
) -> Task:
    """Captions to pictures, by the pipeline of the recipe; options as `scenes_objective` has."""
    cpu, gpu = latent.CACHED.values()
    autoencoder, _ = published.PIPELINES[name]
    return Task(
        partial(latent.scenes_objective, name, **options),
        partial(latent.measure_latent, name=name),
        f"captioned scenes of the split train, seed 0, the first {cpu:,} on a CPU and {gpu:,} on a "
        f"GPU, as {f'means of {autoencoder}' if autoencoder else 'pixels'}; captions drawn anew "
        f"for every batch; {said}",
        sheet=partial(latent.draw_captions, name=name),
        begin=begin,
    )


def _compare(name: str) -> Task:
    """The same for scenes of one thing, which less training is enough for."""
    task = _describe(name, shift=1, things=1)
    return replace(
        task,
        measure=partial(latent.measure_latent, name=name, cells=[("test", 1)]),
        data=f"{task.data}; of these, those of one thing",
    )


TASKS = {
    "digits-classifier": Task(digits.labels, digits.measure_classifier),
    "digits-ddpm": Task(
        digits.noise, digits.measure_ddpm, sheet=lambda model: sample_digits(model, 36, steps=25)
    ),
    "digits-cond": Task(
        digits.class_noise,
        digits.measure_cond,
        sheet=lambda model: digits.sample_classes(model, torch.arange(10).repeat(4), steps=25),
        columns=10,
    ),
    "digits-noisy-classifier": Task(digits.noisy_labels, digits.measure_noisy_classifier),
    "scenes-clip": Task(
        lambda _: contrastive.contrastive_objective(HARD_NEGATIVES),
        contrastive.measure_clip,
        f"{SCENES}, each with up to {HARD_NEGATIVES} false captions of the same words",
    ),
    "scenes-vae": _compress("scenes-vae"),
    "scenes-vae-64": _compress("scenes-vae-64", 64),
    "scenes-ldm": _describe(
        "scenes-ldm",
        latent.begin_frozen,
        "begins as scenes-ldm-frozen; the text encoder is trained along",
        shift=2,
    ),
    "scenes-ldm-joint": _describe(
        "scenes-ldm-joint",
        latent.begin_joint,
        "the text encoder begins as scenes-clip's and is trained along",
        shift=1,
    ),
    "scenes-ldm-frozen": _describe(
        "scenes-ldm-frozen",
        latent.go_on,
        "begins with the U-Net of scenes-ldm-joint; the text encoder is scenes-clip's, frozen",
    ),
    "scenes-ldm-64": _describe("scenes-ldm-64"),
}
TASKS |= {f"scenes-ldm-f{f}": _compare(f"scenes-ldm-f{f}") for f in SCENES_LDMS}
TASKS |= {
    f"scenes-vae-f{f}": _compress(f"scenes-vae-f{f}", 64 if f == 16 else 32) for f in SCENES_VAES
}


def _circumstances(device: torch.device, count: int) -> dict[str, Any]:
    """On which machine, with which code: what a card tells of a run."""
    load = f"{os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else "unknown"
    return {
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "device": device_name(device),
        "processes": count,
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


def main(
    name: str,
    folder: Path,
    resume: bool,
    max_seconds: float | None,
    lane: str = "auto",
    sheet_every: int = 2000,
) -> int:
    """Train for the command line: say what was left where; 0 if it is finished, else 3.

    Of several processes only the main one speaks, and what ends all is the failure of the main one
    alone: `torchrun` stops the others as soon as one fails.
    """
    code, said = _outcome(name, folder, resume, max_seconds, lane, sheet_every)
    if not processes.is_main():
        return 0
    print(said, file=sys.stderr if code == 2 else sys.stdout)
    if code == 0:
        print((folder / f"{name}.json").read_text(), end="")
    return code


def _outcome(
    name: str,
    folder: Path,
    resume: bool,
    max_seconds: float | None,
    lane: str,
    sheet_every: int,
) -> tuple[int, str]:
    state = folder / "state.safetensors"
    if state.exists() and not resume:
        return 2, f"{state} is there already: add --resume to go on from it."
    again = f"Go on with: python -m course train {name} --folder {folder} --resume"
    try:
        lane = recipes.find(name).lane(lane)
        again += f" --lane {lane}"
        fitted = train(
            name,
            folder,
            lane=lane,
            resume=resume,
            max_seconds=max_seconds,
            sheet_every=sheet_every,
        )
    except KeyboardInterrupt:
        return 130, f"\nInterrupted. {again}"
    except AGREED as error:
        return 2, f"course: {error}"
    steps = recipes.find(name).lanes[lane].steps
    if fitted.steps < steps:
        return 3, f"{fitted.steps:,} of {steps:,} steps are done. {again}"
    weights = folder / f"{name}.safetensors"
    return 0, f"Trained in {fitted.seconds:.0f} s: {weights} and its card."
