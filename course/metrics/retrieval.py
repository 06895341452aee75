"""How well pictures and captions find each other; whatever is true counts, not only one's own."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from course.data.scenes.captions import holds
from course.data.scenes.grammar import Meaning
from course.data.scenes.world import Scene


def truth(scenes: Sequence[Scene], meanings: Sequence[Meaning]) -> Bool[Tensor, "B N"]:
    """Which meanings, in columns, hold in which scenes, in rows."""
    return torch.tensor([[holds(meaning, scene) for meaning in meanings] for scene in scenes])


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
