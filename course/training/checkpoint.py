"""Checkpoints: named tensors and a few facts in one safetensors file; nothing unpickles."""

import json
import os
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

import course
from course.files import replace_file


class CheckpointError(ValueError):
    """A checkpoint is missing, broken, or of something else."""


def save(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write a checkpoint whole or not at all: what was there stays until the new one is safe.

    Args:
        path: of the file.
        tensors: by name.
        facts: anything that JSON can hold.

    Raises:
        CheckpointError: the file can't be written; the last good one is intact.
    """
    content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write(path, safetensors.torch.save(content, {"facts": json.dumps(facts)}))


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        CheckpointError: it can't be written; what was there is intact.
    """
    try:
        replace_file(path, content)
    except OSError as error:
        raise CheckpointError(
            f"{path}: it could not be written ({error}); what was there is intact"
        ) from error


def latest(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """What there is to resume from, if anything; remains of writers that were killed are removed.

    Raises:
        CheckpointError: it is broken.
    """
    for remains in path.parent.glob(f".{path.name}.*.tmp"):
        remains.unlink(missing_ok=True)
    return load(path) if path.exists() else None


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint: its tensors and its facts.

    Raises:
        CheckpointError: there is none, or it is broken.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {}).get("facts", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118
    except FileNotFoundError:
        raise CheckpointError(f"{path}: expected a checkpoint, there is no such file") from None
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path}: expected a whole checkpoint, came {error}") from error


def published(name: str) -> tuple[Path, dict[str, Any]]:
    """Where the committed checkpoint of a recipe is, and its card.

    They are in data/checkpoints of the clone, or of the folder that COURSE_HOME names.

    Raises:
        CheckpointError: they are not there.
    """
    path = _published(name, ".safetensors")
    return path, card(name)


def card(name: str) -> dict[str, Any]:
    """The committed card of a recipe, the weights of which may not be kept.

    Raises:
        CheckpointError: it is not there.
    """
    return json.loads(_published(name, ".json").read_text())


def _published(name: str, suffix: str) -> Path:
    home = Path(os.environ.get("COURSE_HOME") or Path(course.__file__).parents[1])
    path = home / "data" / "checkpoints" / f"{name}{suffix}"
    if not path.is_file():
        raise CheckpointError(
            f"{name}: expected {path}. Set COURSE_HOME to a clone of the course, or train it: "
            f"python -m course train {name}"
        )
    return path
