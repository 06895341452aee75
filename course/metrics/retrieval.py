"""How well pictures and captions find each other; whatever is true counts, not only one's own."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from course.data.scenes.captions import holds
from course.data.scenes.grammar import Meaning, Mention
from course.data.scenes.world import Scene, Thing


def truth(scenes: Sequence[Scene], meanings: Sequence[Meaning]) -> Bool[Tensor, "B N"]:
    """Which meanings, in columns, hold in which scenes, in rows."""
    # Only those that name a scene's shapes can hold in it: one pair of thirty.
    columns: dict[tuple[str, ...], list[int]] = {}
    for column, meaning in enumerate(meanings):
        columns.setdefault(_shapes(meaning.mentions), []).append(column)
    true = np.zeros((len(scenes), len(meanings)), bool)
    for row, scene in enumerate(scenes):
        for column in columns.get(_shapes(scene.things), ()):
            true[row, column] = holds(meanings[column], scene)
    return torch.from_numpy(true)


def _shapes(things: Iterable[Mention | Thing]) -> tuple[str, ...]:
    return tuple(sorted(thing.shape for thing in things))


def retrieval(logits: Float[Tensor, "B N"], true: Bool[Tensor, "B N"]) -> float:
    """Share of pictures, in rows, whose nearest caption is true of them.

    Raises:
        ValueError: the shapes differ, or there is no picture or no caption.
    """
    if logits.ndim != 2 or logits.shape != true.shape or not logits.numel():
        raise ValueError(
            "logits, true: expected one shape (B, N) with B, N >= 1, came "
            f"{tuple(logits.shape)} and {tuple(true.shape)}"
        )
    return true.gather(1, logits.argmax(1, keepdim=True)).double().mean().item()
