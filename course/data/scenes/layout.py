"""Scenes drawn from raw bits: each a function of (seed, split, index), the same everywhere."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from course.data.scenes.shapes import box
from course.data.scenes.world import (
    BACKGROUNDS,
    COLOURS,
    DOMINANCE,
    EXTENTS,
    GAP,
    HELD_OUT_BOTH_WAYS,
    HELD_OUT_PAIRS,
    HELD_OUT_RELATIONS,
    LARGEST_ANGLE,
    MARGIN,
    MOST_THINGS,
    RELATIONS,
    SHAPES,
    SIZES,
    Scene,
    Thing,
    one_of,
)

SPLITS = ("train", "test", "new_pairs", "new_relations")
# Scenes with one, two and three things, of ten.
COUNTS = (1, 1, 2, 2, 2, 2, 2, 3, 3, 3)
ANGLES = tuple(float(a) for a in np.linspace(-LARGEST_ANGLE, LARGEST_ANGLE, 17))
PROPOSALS = 24
ROUNDS = 200

PAIRS = [(colour, shape) for shape in SHAPES for colour in COLOURS]
SEEN = [pair for pair in PAIRS if pair not in HELD_OUT_PAIRS]
UNSEEN = [pair for pair in PAIRS if pair in HELD_OUT_PAIRS]
UNSEEN_RELATIONS = sorted(HELD_OUT_RELATIONS)

_LOW, _HIGH = np.array([EXTENTS[size] for size in SIZES]).T
_BOXES = np.array([[box(shape, angle) for angle in ANGLES] for shape in SHAPES])
_FIRST, _SECOND = np.triu_indices(MOST_THINGS, 1)
# Held out, by the relation and the shapes on its two sides.
_NEW = np.zeros((len(RELATIONS), len(SHAPES), len(SHAPES)), bool)
for _a, _relation, _b in HELD_OUT_BOTH_WAYS:
    _NEW[RELATIONS.index(_relation), SHAPES.index(_a), SHAPES.index(_b)] = True
# So many scenes can be told apart by a number.
SCENES = 2**62


def draw(seed: int, indices: Iterable[int], split: str = "train") -> list[Scene]:
    """The scenes with these numbers.

    Args:
        seed: from 0, below 2^63.
        indices: likewise; each has its scene, whatever others are drawn with it.
        split: "train" and "test" have no held-out composition; in "new_pairs" one thing, the first,
            has a colour and shape that are held out together; in "new_relations" the first two
            stand in a relation that is held out.

    Raises:
        ValueError: there is no such split, or a number is out of its range.
    """
    one_of("split", split, SPLITS)
    indices = [int(index) for index in indices]
    for name, numbers in (("seed", [seed]), ("indices", indices)):
        for number in numbers:
            if not 0 <= number < 2**63:
                raise ValueError(f"{name}: expected 0 to 2^63 - 1, came {number}")
    drawn = [_kinds(raw_bits(seed, split, index, 0, 8).tolist(), split) for index in indices]
    places = _arrange(
        [[(shape, size) for _, shape, size in things] for things, _, _ in drawn],
        [wanted for _, _, wanted in drawn],
        lambda row, stage, count: raw_bits(seed, split, indices[row], stage, count),
    )
    return [
        Scene(
            tuple(
                Thing(shape, colour, size, *place)
                for (colour, shape, size), place in zip(things, where, strict=True)
            ),
            background,
        )
        for (things, background, _), where in zip(drawn, places, strict=True)
    ]


def raw_bits(seed: int, split: str, index: int, stage: int, count: int) -> np.ndarray:
    """So many numbers of 64 random bits; Philox gives the same ones on every machine."""
    key = [seed, SPLITS.index(split)]
    return np.random.Philox(key=key, counter=[0, stage, index, 0]).random_raw(count)


def _kinds(words: list[int], split: str):
    """Colour, shape and size of each thing, the background, and the relation that is wanted."""
    count = COUNTS[words[0] % len(COUNTS)]
    background = tuple(BACKGROUNDS)[words[1] % len(BACKGROUNDS)]
    kinds, wanted = [], None
    if split == "new_pairs":
        kinds = [UNSEEN[words[3] % len(UNSEEN)]]
    elif split == "new_relations":
        wanted = UNSEEN_RELATIONS[words[3] % len(UNSEEN_RELATIONS)]
        count = max(count, 2)
        for shape, word in zip((wanted[0], wanted[2]), words[4:6], strict=True):
            among = [pair for pair in SEEN if pair[1] == shape]
            kinds.append(among[word % len(among)])
    while len(kinds) < count:
        among = [pair for pair in SEEN if pair not in kinds]
        kinds.append(among[words[4 + len(kinds)] % len(among)])
    things = [(*kind, SIZES[words[2] >> i & 1]) for i, kind in enumerate(kinds)]
    return things, background, wanted and wanted[1]


def _arrange(
    things: Sequence[Sequence[tuple[str, str]]],
    wanted: Sequence[str | None],
    words: Callable[[int, int, int], np.ndarray],
) -> list[list[tuple[float, float, float, float]]]:
    """x, y, extent and angle of the things of each scene, by proposals until one fits.

    Args:
        things: shape and size of each.
        wanted: relation of the first to the second, the only one held out that may hold; None for
            scenes in which none may.
        words: raw bits for a scene and a round.

    Raises:
        ValueError: no proposal fits.
    """
    count = np.array([len(each) for each in things])
    shape, size = np.zeros((2, len(things), MOST_THINGS), int)
    for row, each in enumerate(things):
        for column, (s, z) in enumerate(each):
            shape[row, column], size[row, column] = SHAPES.index(s), SIZES.index(z)
    relation = np.array([-1 if r is None else RELATIONS.index(r) for r in wanted])
    found: list[Sequence[tuple[float, float, float, float]]] = [()] * len(things)
    left = np.arange(len(things))
    for stage in range(1, ROUNDS + 1):
        if not len(left):
            break
        raw = np.stack([words(row, stage, PROPOSALS * MOST_THINGS) for row in left])
        place, boxes = _propose(raw, shape[left], size[left], wide=stage > 1)
        fits = _fits(place, boxes, shape[left], count[left], relation[left])
        done = fits.any(1)
        chosen = place[done, fits[done].argmax(1)].tolist()
        for row, numbers in zip(left[done], chosen, strict=True):
            found[row] = [tuple(one) for one in numbers[: count[row]]]
        left = left[~done]
    if len(left):
        raise ValueError(f"things: found no room for {things[left[0]]}, {wanted[left[0]]}")
    return found


def _propose(raw: np.ndarray, shape: np.ndarray, size: np.ndarray, wide: bool):
    """x, y, extent and angle of each thing in each proposal, and their boxes."""
    bits = raw.reshape(len(raw), PROPOSALS, MOST_THINGS, 1) >> np.array([0, 16, 32, 48], np.uint64)
    u = (bits & np.uint64(0xFFFF)).astype(float) / 0xFFFF
    where, rest = u[..., :2], u[..., 2:]
    if wide:
        # Crowded scenes have room only where things stand at the sides.
        where = (1.5 * where - 0.25).clip(0, 1)
    low, high = _LOW[size][:, None], _HIGH[size][:, None]
    extent = low + (high - low) * rest[..., 0]
    angle = (rest[..., 1] * (len(ANGLES) - 1)).round().astype(int)
    boxes = _BOXES[shape[:, None], angle] * extent[..., None]
    near, far = MARGIN - boxes[..., :2], 1 - MARGIN - boxes[..., 2:]
    at = near + (far - near) * where
    place = np.concatenate([at, extent[..., None], np.array(ANGLES)[angle][..., None]], -1)
    return place, boxes + np.concatenate([at, at], -1)


def _fits(place, boxes, shape, count, wanted) -> np.ndarray:
    """Which proposals hold: things apart, places clear, held-out relations only as wanted."""
    a, b = boxes[:, :, _FIRST], boxes[:, :, _SECOND]
    gaps = np.maximum(b[..., :2] - a[..., 2:], a[..., :2] - b[..., 2:]).max(-1)
    dx, dy = np.moveaxis(place[:, :, _FIRST, :2] - place[:, :, _SECOND, :2], -1, 0)
    level, upright = abs(dx) >= DOMINANCE * abs(dy), abs(dy) >= DOMINANCE * abs(dx)
    relation = np.where(level, np.where(dx < 0, 0, 1), np.where(dy < 0, 2, 3))
    there = (count[:, None] > _SECOND)[:, None]
    new = _NEW[relation, shape[:, _FIRST][:, None], shape[:, _SECOND][:, None]] & there
    right = np.where(wanted[:, None] < 0, ~new.any(-1), relation[..., 0] == wanted[:, None])
    return ((gaps >= GAP) & (level | upright) | ~there).all(-1) & right
