"""What there is in a scene: shapes, colours, sizes, places, and what is never seen in training."""

import itertools
from dataclasses import dataclass

from course.data.scenes.shapes import Box, box

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
COLOURS = {
    "red": (214, 39, 40),
    "orange": (255, 140, 20),
    "yellow": (250, 215, 40),
    "green": (50, 160, 70),
    "blue": (50, 110, 225),
    "purple": (130, 60, 175),
    "pink": (245, 135, 190),
    "brown": (125, 75, 40),
}
BACKGROUNDS = {
    "white": (250, 250, 246),
    "grey": (150, 153, 158),
    "black": (20, 20, 24),
    "navy": (24, 38, 84),
}
SIZES = ("small", "large")
RELATIONS = ("left of", "right of", "above", "below")
OPPOSITE = dict(zip(RELATIONS, ("right of", "left of", "below", "above"), strict=True))
MOST_THINGS = 3

# Of a thing, in fractions of the side of the picture: 8 to 9 and 11 to 12 pixels of 32.
EXTENTS = {"small": (8 / 32, 9 / 32), "large": (11 / 32, 12 / 32)}
LARGEST_ANGLE = 10.0
MARGIN = 1 / 32
GAP = 2 / 32
# Of sums of fractions.
ROUNDING = 1e-9
# In a scene one axis between two things is at least so many times the other; a relation holds from
# a little less on, so that a picture read back loses none.
DOMINANCE = 1.25
HOLDS = 1.15

# Each shape goes without one colour, each colour is seen in at least five shapes.
HELD_OUT_PAIRS = frozenset(
    (colour, shape)
    for i, shape in enumerate(SHAPES)
    for j, colour in enumerate(COLOURS)
    if j == (3 * i + 1) % len(COLOURS)
)
# The first left of the second, or above it. Only this order is held out: the other one is seen.
HELD_OUT_RELATIONS = frozenset(
    (shape, relation, SHAPES[(i + step) % len(SHAPES)])
    for i, shape in enumerate(SHAPES)
    for relation, step in (("left of", 1), ("above", 2))
)

# The same, whichever of the two is told first.
HELD_OUT_BOTH_WAYS = HELD_OUT_RELATIONS | {(b, OPPOSITE[r], a) for a, r, b in HELD_OUT_RELATIONS}


@dataclass(frozen=True)
class Thing:
    """One coloured shape.

    Attributes:
        shape: one of SHAPES.
        colour: one of COLOURS.
        size: one of SIZES.
        x: of its centre, from 0, the left side of the picture, to 1.
        y: of its centre, from 0, the top, to 1.
        extent: shorter side of its box if it stands upright, as a fraction of the picture's side.
        angle: by which it is turned, in degrees, counter-clockwise.

    Raises:
        ValueError: there is no such shape, colour or size, or the extent is not one of that size.
    """

    shape: str
    colour: str
    size: str
    x: float
    y: float
    extent: float
    angle: float = 0.0

    def __post_init__(self) -> None:
        for name, among in (("shape", SHAPES), ("colour", COLOURS), ("size", SIZES)):
            one_of(name, getattr(self, name), among)
        low, high = EXTENTS[self.size]
        if not low <= self.extent <= high:
            raise ValueError(
                f"extent: expected {low:.4f} to {high:.4f} for a {self.size} thing, "
                f"came {self.extent}"
            )
        if not abs(self.angle) <= LARGEST_ANGLE:
            raise ValueError(
                f"angle: expected -{LARGEST_ANGLE:g} to {LARGEST_ANGLE:g}, came {self.angle}"
            )

    def box(self) -> Box:
        """Left, top, right and bottom in the picture."""
        left, top, right, bottom = box(self.shape, self.angle)
        return (
            self.x + self.extent * left,
            self.y + self.extent * top,
            self.x + self.extent * right,
            self.y + self.extent * bottom,
        )


@dataclass(frozen=True)
class Scene:
    """One to three things before a background.

    Attributes:
        things: no two of one colour and shape.
        background: one of BACKGROUNDS.

    Raises:
        ValueError: there are too few or too many things, two are alike, or there is no such
            background.
    """

    things: tuple[Thing, ...]
    background: str

    def __post_init__(self) -> None:
        one_of("background", self.background, BACKGROUNDS)
        if not 1 <= len(self.things) <= MOST_THINGS:
            raise ValueError(f"things: expected 1 to {MOST_THINGS}, came {len(self.things)}")
        kinds = [(thing.colour, thing.shape) for thing in self.things]
        for i, kind in enumerate(kinds):
            if kind in kinds[:i]:
                raise ValueError(f"things: expected no two alike, came a second {' '.join(kind)}")

    def relation(self, i: int, j: int) -> str | None:
        """Where thing i is, seen from thing j: one of RELATIONS; None if no axis dominates."""
        return relation(*self._from(i, j), HOLDS)

    def _from(self, i: int, j: int) -> tuple[float, float]:
        return (self.things[i].x - self.things[j].x, self.things[i].y - self.things[j].y)

    def check_room(self) -> None:
        """Raises ValueError if the scene is impossible.

        That is: a thing leaves the picture's margins, two come too close, or it can't be said of
        two which is left, right, above or below.
        """
        names = [f"{thing.colour} {thing.shape}" for thing in self.things]
        boxes = [thing.box() for thing in self.things]
        for name, sides in zip(names, boxes, strict=True):
            if not all(MARGIN - ROUNDING <= side <= 1 - MARGIN + ROUNDING for side in sides):
                raise ValueError(
                    f"things: expected all within {MARGIN:.4f} to {1 - MARGIN:.4f}, "
                    f"the {name} has the box {_rounded(sides)}"
                )
        for i, j in itertools.combinations(range(len(self.things)), 2):
            pair = f"the {names[i]} and the {names[j]}"
            if gap(boxes[i], boxes[j]) < GAP - ROUNDING:
                raise ValueError(
                    f"things: expected boxes {GAP:.4f} apart, {pair} have "
                    f"{_rounded(boxes[i])} and {_rounded(boxes[j])}"
                )
            if relation(*self._from(i, j), DOMINANCE - ROUNDING) is None:
                raise ValueError(
                    f"things: expected one axis at least {DOMINANCE:g} times the other between "
                    f"{pair}"
                )


def relation(dx: float, dy: float, dominance: float) -> str | None:
    """Where a thing is, seen from another that is dx to its left and dy above it."""
    if dx and abs(dx) >= dominance * abs(dy):
        return "left of" if dx < 0 else "right of"
    if dy and abs(dy) >= dominance * abs(dx):
        return "above" if dy < 0 else "below"
    return None


def gap(a: Box, b: Box) -> float:
    """Between two boxes, along the axis on which they are further apart."""
    return max(b[0] - a[2], a[0] - b[2], b[1] - a[3], a[1] - b[3])


def _rounded(sides: Box) -> str:
    return "(" + ", ".join(f"{side:.3f}" for side in sides) + ")"


def one_of(name: str, value: str, among) -> None:
    """Raises ValueError: `value`, of the argument `name`, is not `among` what there is."""
    if value not in among:
        raise ValueError(f"{name}: expected one of {', '.join(among)}, came {value!r}")
