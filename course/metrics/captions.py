"""Whether pictures show what was asked for: exact match, read back without learning."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from course.data.scenes.captions import holds, names_held_out
from course.data.scenes.dataset import CaptionedScenes, Example
from course.data.scenes.grammar import parse
from course.data.scenes.layout import SCENES, SPLITS
from course.data.scenes.read import read_scene
from course.data.scenes.render import render
from course.data.scenes.world import MOST_THINGS, Scene

# Draws a picture for each caption; the number makes its noise another one.
Drawer = Callable[[Sequence[str], int], Tensor]
# What is asked for: of each split by the number of things; a relation needs two.
CELLS = [
    (split, things)
    for split in SPLITS[1:]
    for things in range(2 if split == "new_relations" else 1, MOST_THINGS + 1)
]
SEED = 1
CHUNK = 256


@dataclass(frozen=True)
class CaptionScore:
    """How many pictures show what their captions say, and no thing more.

    Attributes:
        captions: how many there are.
        right: pictures of which the caption is true.
        unreadable: pictures that show no scene at all.
    """

    captions: int
    right: int
    unreadable: int

    def __add__(self, other: "CaptionScore") -> "CaptionScore":
        return CaptionScore(
            self.captions + other.captions,
            self.right + other.right,
            self.unreadable + other.unreadable,
        )

    def as_json(self) -> dict[str, Any]:
        """Counts, the share that is right, and its 95 % interval."""
        return {
            "captions": self.captions,
            "right": self.right / self.captions,
            "interval": wilson(self.right, self.captions),
            "unreadable": self.unreadable / self.captions,
        }


def score_captions(
    draw_pictures: Drawer, captions: Sequence[str], *, seed: int = 0, batch: int = 50
) -> CaptionScore:
    """Ask for captions, so many at once, and read what is drawn.

    Args:
        draw_pictures: captions and a seed to pictures (B, 3, H, W) in [-1, 1].
        captions: sentences of the grammar, one or more.
        seed: of the first batch; each batch has the next one.
        batch: how many are asked for at once.

    Raises:
        ValueError: there is no caption, the grammar does not have one, or another number of
            pictures came.
    """
    if not captions:
        raise ValueError("captions: expected at least one, came none")
    starts = range(0, len(captions), batch)
    asked = [list(captions[start : start + batch]) for start in starts]
    scores = [score_pictures(draw_pictures(part, seed + k), part) for k, part in enumerate(asked)]
    return sum(scores[1:], scores[0])


def score_pictures(images: Float[Tensor, "B 3 H W"], captions: Sequence[str]) -> CaptionScore:
    """Read pictures, one for each caption.

    Raises:
        ValueError: their numbers differ, or the grammar has no such caption.
    """
    if len(images) != len(captions):
        raise ValueError(f"images: expected {len(captions)}, one a caption, came {len(images)}")
    meanings = [parse(caption) for caption in captions]
    found = [read_scene(image) for image in images]
    read = [
        (m, scene) for m, scene in zip(meanings, found, strict=True) if isinstance(scene, Scene)
    ]
    right = sum(holds(meaning, scene) for meaning, scene in read)
    return CaptionScore(len(captions), right, len(captions) - len(read))


def questions(split: str, things: int, count: int) -> list[Example]:
    """The first scenes of a split with so many things, whose captions say what it is about.

    Args:
        split: of held-out compositions, captions name one; of the others, none does.
        things: 1 to 3; 2 or 3 for "new_relations".
        count: how many.
    """
    data, found, start = CaptionedScenes(SCENES, split, SEED), [], 0
    held_out = split in ("new_pairs", "new_relations")
    while len(found) < count:
        found += [
            example
            for example in data.examples(range(start, start + CHUNK))
            if len(example.scene.things) == things and names_held_out(example.meaning) == held_out
        ]
        start += CHUNK
    return found[:count]


def measure_captions(
    draw_pictures: Drawer,
    reconstruct: Callable[[Float[Tensor, "B 3 H W"]], Float[Tensor, "B 3 H W"]],
    each: int = 100,
    seed: int = 0,
    cells: Sequence[tuple[str, int]] = CELLS,
) -> dict[str, Any]:
    """Scores by split and number of things, for a card.

    Args:
        draw_pictures: as `score_captions` takes it.
        reconstruct: what the autoencoder keeps of pictures; the true ones show what can be reached.
        each: captions of each split and number of things.
        seed: of the first batch.
        cells: splits and numbers of things.

    Returns:
        by split, by number of things: what `CaptionScore.as_json` has, and under "ceiling" the
        same of reconstructions of true pictures.
    """
    figures: dict[str, Any] = {split: {} for split, _ in cells}
    for split, things in cells:
        examples = questions(split, things, each)
        captions = [example.caption for example in examples]
        with torch.no_grad():
            best = score_pictures(reconstruct(render([e.scene for e in examples])), captions)
        score = score_captions(draw_pictures, captions, seed=seed)
        figures[split][str(things)] = score.as_json() | {"ceiling": best.as_json()}
    return figures


def table(figures: dict[str, Any]) -> str:
    """What `measure_captions` found, in lines for people."""
    head = ("split", "things", "captions", "right", "95 % interval", "unreadable", "ceiling")
    lines = ["{:<13} {:>6} {:>8}  {:>7}  {:<16} {:>10} {:>8}".format(*head)]
    for split, rows in figures.items():
        for things, row in rows.items():
            low, high = (100 * end for end in row["interval"])
            lines.append(
                f"{split:<13} {things:>6} {row['captions']:>8}  {row['right']:>7.1%}  "
                f"{f'{low:.1f} to {high:.1f} %':<16} {row['unreadable']:>10.1%} "
                f"{row['ceiling']['right']:>8.1%}"
            )
    return "\n".join(lines)


def wilson(hits: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Interval of a share of trials; it is inside 0..1, and not empty where all or none are hits.

    Args:
        hits: 0 to `trials`.
        trials: at least 1.
        level: probability that the interval covers, inside (0, 1).

    Raises:
        ValueError: an argument is not as above.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    if trials < 1 or not 0 <= hits <= trials:
        raise ValueError(f"hits, trials: expected 0 <= hits <= trials >= 1, came {hits}, {trials}")
    if not 0 < level < 1:
        raise ValueError(f"level: expected a number inside (0, 1), came {level}")
    z = NormalDist().inv_cdf((1 + level) / 2)
    share, squeeze = hits / trials, 1 + z**2 / trials
    centre = (share + z**2 / (2 * trials)) / squeeze
    half = z / squeeze * (share * (1 - share) / trials + z**2 / (4 * trials**2)) ** 0.5
    return max(0.0, centre - half), min(1.0, centre + half)
