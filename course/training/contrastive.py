"""CLIP on captioned scenes: the tokens of their captions, the objective, and what is measured."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from course.data.scenes.captions import names_held_out
from course.data.scenes.dataset import CaptionedScenes
from course.data.scenes.grammar import vocabulary
from course.data.scenes.layout import SCENES, SPLITS
from course.data.scenes.render import render
from course.metrics.retrieval import retrieval, truth
from course.models.clip import CLIPModel, contrastive_loss
from course.models.tokenizer import CLIPTokenizer
from course.training.updates import Objective, whole_batch

# The longest sentence has 26 words; start and end come to them.
LENGTH = 32


@functools.cache
def scenes_tokenizer() -> CLIPTokenizer:
    """Byte pairs learned from the words of the grammar until each of them is one token."""
    words = " ".join(vocabulary())
    return CLIPTokenizer.train([words, words], size=2000)


def contrastive_objective(hard_negatives: int = 1) -> Objective:
    """CLIP's loss on scenes of the training split, drawn anew for each batch.

    Captions that are true of another picture are no negatives of it; each picture has up to so many
    hard ones besides: sentences of the same words that are false. No sentence names a composition
    that is held out.

    Args:
        hard_negatives: for each picture, from 0.

    Raises:
        ValueError: it is below 0.
    """
    if hard_negatives < 0:
        raise ValueError(f"hard_negatives: expected 0 or more, came {hard_negatives}")
    data = CaptionedScenes(SCENES)

    @whole_batch
    def objective(model: Callable[..., Tensor], streams: Sequence[np.random.Generator]) -> Tensor:
        examples = data.examples(int(stream.integers(SCENES)) for stream in streams)
        meanings = [example.meaning for example in examples]
        sentences = [example.caption for example in examples]
        for example, stream in zip(examples, streams, strict=True):
            twins = [twin for _, twin in example.twins() if not names_held_out(twin)]
            for k in stream.permutation(len(twins))[:hard_negatives]:
                meanings.append(twins[k])
                sentences.append(example.say(twins[k]))
        scenes = [example.scene for example in examples]
        device = model.logit_scale.device
        logits = model(render(scenes).to(device), tokens_of(sentences).to(device))
        return contrastive_loss(logits.float(), truth(scenes, meanings).to(device))

    return objective


def tokens_of(sentences: Sequence[str]) -> Tensor:
    """Tokens of sentences of the grammar, filled up to the longest of them."""
    return trimmed(scenes_tokenizer()(sentences, LENGTH))


def trimmed(tokens: Tensor) -> Tensor:
    """Tokens without columns that only fill up: what follows the end token is never used."""
    end = scenes_tokenizer().end
    longest = int((tokens != end).sum(1).max()) + 1
    # Few lengths: a compiled model is compiled for each.
    return tokens[:, : math.ceil(longest / 4) * 4]


def measure_clip(model: CLIPModel, batches: int = 50, size: int = 64) -> dict[str, Any]:
    """Retrieval among `size` unseen scenes, and the share of false twins that are told apart."""
    return {
        split: measure_split(model, CaptionedScenes(batches * size, split, seed=1), size)
        for split in SPLITS[1:]
    }


@torch.no_grad()
def measure_split(model: CLIPModel, data: CaptionedScenes, size: int = 64) -> dict[str, Any]:
    """The same for one data set, in groups of `size` scenes; with standard errors."""
    found: list[float] = []
    apart: dict[str, list[bool]] = {}
    for start in range(0, len(data) - size + 1, size):
        examples = data.examples(range(start, start + size))
        scenes, meanings = [e.scene for e in examples], [e.meaning for e in examples]
        pictures = model.encode_image(render(scenes))
        texts = model.encode_text(tokens_of([e.caption for e in examples]))
        found.append(retrieval(pictures @ texts.T, truth(scenes, meanings)))
        twins = [(row, *twin) for row, e in enumerate(examples) for twin in e.twins()]
        rows = [row for row, *_ in twins]
        sentences = [examples[row].say(meaning) for row, _, meaning in twins]
        false = model.encode_text(tokens_of(sentences))
        wins = ((texts[rows] - false) * pictures[rows]).sum(1) > 0
        for (_, kind, _), win in zip(twins, wins.tolist(), strict=True):
            apart.setdefault(kind, []).append(win)
    everything = [win for wins in apart.values() for win in wins]
    return {
        "scenes": len(found) * size,
        "retrieval": float(np.mean(found)),
        "retrieval_error": float(np.std(found) / math.sqrt(len(found))),
        "twins": len(everything),
        "twins_told_apart": float(np.mean(everything)),
        "by_kind": {kind: float(np.mean(wins)) for kind, wins in sorted(apart.items())},
    }
