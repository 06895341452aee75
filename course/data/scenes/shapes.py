"""Outlines of the shapes, as signed distances: negative inside, in units of the extent.

A shape stands upright round its centre, x to the right and y up; its box is at least 1 wide and 1
high at every angle that occurs.
"""

import functools
import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Box = tuple[float, float, float, float]
Plane = Float[Tensor, "K H W"]

ROUND = 0.5
HOLE = 0.25
ARM = 0.18
TRIANGLE = 2 / 3
STAR = 1 / (1 + math.cos(math.pi / 5))
STAR_INNER = 0.5 * STAR


def circle(x: Plane, y: Plane) -> Plane:
    """A disc of diameter 1."""
    return (x.square() + y.square()).sqrt_().sub_(ROUND)


def ring(x: Plane, y: Plane) -> Plane:
    """A disc of diameter 1 with a hole of half that."""
    middle, half = (ROUND + HOLE) / 2, (ROUND - HOLE) / 2
    return (x.square() + y.square()).sqrt_().sub_(middle).abs_().sub_(half)


def square(x: Plane, y: Plane) -> Plane:
    """Of side 1."""
    return torch.maximum(x.abs(), y.abs()).sub_(0.5)


def triangle(x: Plane, y: Plane) -> Plane:
    """Equilateral, of height 1, with a corner on top."""
    inner = TRIANGLE / 2
    sides = x.abs().mul_(math.cos(math.pi / 6)).add_(y, alpha=0.5)
    return torch.maximum(sides, -y).sub_(inner)


def cross(x: Plane, y: Plane) -> Plane:
    """Two bars of length 1."""
    x, y = x.abs(), y.abs()
    across = torch.maximum(x - 0.5, y - ARM)
    return torch.minimum(across, torch.maximum(x - ARM, y - 0.5))


def star(x: Plane, y: Plane) -> Plane:
    """Five points, the height from one to its opposite edge 1."""
    # Reflections bring all to the tenth between the upper point and the inner corner beside it.
    cos, sin = math.cos(math.pi / 5), math.sin(math.pi / 5)
    x = x.abs()
    for side in (1, -1):
        beyond = (x * (side * cos)).sub_(y, alpha=sin).clamp_(min=0).mul_(2)
        x = x.sub(beyond, alpha=side * cos)
        y = y.add(beyond, alpha=sin)
    corner_x, corner_y = STAR_INNER * sin, STAR_INNER * cos
    dx, dy = corner_x, corner_y - STAR
    length = math.hypot(dx, dy)
    return x.abs_().mul_(-dy / length).add_(y.sub_(STAR).mul_(dx / length))


OUTLINES: dict[str, Callable[[Plane, Plane], Plane]] = {
    "circle": circle,
    "square": square,
    "triangle": triangle,
    "star": star,
    "cross": cross,
    "ring": ring,
}

AREAS = {
    "circle": math.pi * ROUND**2,
    "square": 1.0,
    "triangle": 1 / math.sqrt(3),
    "star": 5 * STAR * STAR_INNER * math.sin(math.pi / 5),
    "cross": 4 * ARM * (1 - ARM),
    "ring": math.pi * (ROUND**2 - HOLE**2),
}

CORNERS = {
    "square": [(0.5, 0.5), (-0.5, 0.5), (-0.5, -0.5), (0.5, -0.5)],
    "triangle": [
        (TRIANGLE * math.cos(a), TRIANGLE * math.sin(a))
        for a in (math.pi / 2, math.pi * 7 / 6, -math.pi / 6)
    ],
    "star": [
        (STAR * math.sin(k * math.tau / 5), STAR * math.cos(k * math.tau / 5)) for k in range(5)
    ],
    "cross": [
        (s * a, t * b) for a, b in ((0.5, ARM), (ARM, 0.5)) for s in (1, -1) for t in (1, -1)
    ],
}


@functools.cache
def box(shape: str, angle: float) -> Box:
    """Left, top, right and bottom of a shape turned by `angle` degrees, from its centre, y down.

    Rounded, so that another machine's sine gives the same.
    """
    if shape not in CORNERS:
        return (-ROUND, -ROUND, ROUND, ROUND)
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    xs = [cos * x - sin * y for x, y in CORNERS[shape]]
    ys = [-(sin * x + cos * y) for x, y in CORNERS[shape]]
    left, top, right, bottom = (round(v, 6) for v in (min(xs), min(ys), max(xs), max(ys)))
    return (left, top, right, bottom)
