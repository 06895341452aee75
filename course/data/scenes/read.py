"""Pictures read back as scenes, without learning: what is drawn is measured, not admired."""

import math
from dataclasses import dataclass
from itertools import permutations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from course.data.scenes.captions import holds, parse
from course.data.scenes.render import coverage, rgb
from course.data.scenes.shapes import AREAS, OUTLINES
from course.data.scenes.world import (
    BACKGROUNDS,
    COLOURS,
    EXTENTS,
    LARGEST_ANGLE,
    MOST_THINGS,
    SIZES,
    Scene,
    Thing,
)

# Distances between colours in [-1, 1]^3: half of the closest two that meet are 0.4 apart.
FAINT = 0.3
FOREIGN = 0.25
# Of the second nearest's distance: what lies between two colours is not guessed.
AMBIGUOUS = 0.75
# What blur leaves of a thin thing's colour, the rest being the background's.
PALE = 0.75
# Coverage of a pixel at the picture's edge, which no margin leaves.
CUT = 0.75
# Of a shape's coverage against the picture's: root mean square over the shape's area.
MISFIT = 0.33
# What extents may miss of those that exist, in fractions of them.
SLACK = 0.08
ANGLES = (-LARGEST_ANGLE, -LARGEST_ANGLE / 2, 0.0, LARGEST_ANGLE / 2, LARGEST_ANGLE)


@dataclass(frozen=True)
class Unreadable:
    """A picture that is no scene.

    Attributes:
        reason: what is wrong with it, in words.
    """

    reason: str


def read_scene(image: Float[Tensor, "3 H W"]) -> Scene | Unreadable:
    """The scene that a picture shows, things from left to right; or why there is none to read.

    Colours are the nearest of those that exist, places and sizes come from the moments of what is
    not background, and a shape is that whose drawing differs least.

    Args:
        image: in [-1, 1], square, of at least 16 pixels a side.

    Raises:
        ValueError: the picture is of another shape, or it has numbers that are not finite.
    """
    if image.ndim != 3 or image.shape[0] != 3 or image.shape[1] != image.shape[2]:
        raise ValueError(f"image: expected shape (3, size, size), came {tuple(image.shape)}")
    if image.shape[1] < 16:
        raise ValueError(f"image: expected at least 16 pixels a side, came {image.shape[1]}")
    if not image.isfinite().all():
        raise ValueError("image: expected finite numbers")
    image = image.detach().float().cpu()
    try:
        background = _nearest("background", _border(image).median(1).values, BACKGROUNDS)
        parts = _parts(image, rgb(BACKGROUNDS[background]))
        things = [_thing(image, part, others, background) for part, others in parts]
        return Scene(tuple(sorted(things, key=lambda thing: thing.x)), background)
    except ValueError as problem:
        return Unreadable(str(problem))


def caption_true(image: Float[Tensor, "3 H W"], caption: str) -> bool:
    """Whether a picture can be read and shows what a caption says and no thing more.

    Raises:
        ValueError: the grammar has no such caption, or see `read_scene`.
    """
    meaning, scene = parse(caption), read_scene(image)
    return isinstance(scene, Scene) and holds(meaning, scene)


def scene_true(image: Float[Tensor, "3 H W"], scene: Scene) -> bool:
    """Whether a picture can be read and shows what a scene has, told in words.

    That is: the background, the colour, shape and size of each thing, and how any two stand to each
    other; not where exactly.

    Raises:
        ValueError: see `read_scene`.
    """
    found = read_scene(image)
    return isinstance(found, Scene) and _in_words(found) == _in_words(scene)


def _in_words(scene: Scene):
    names = [(thing.colour, thing.shape) for thing in scene.things]
    sizes = {name: thing.size for name, thing in zip(names, scene.things, strict=True)}
    related = {
        (names[i], scene.relation(i, j), names[j]) for i, j in permutations(range(len(names)), 2)
    }
    return scene.background, sizes, related


def _border(image: Tensor) -> Tensor:
    return torch.cat([image[..., 0, :], image[..., -1, :], image[..., 0], image[..., -1]], -1)


def _nearest(
    what: str,
    colour: Tensor,
    among: dict[str, tuple[int, int, int]],
    paper: Tensor | None = None,
) -> str:
    """The name of a colour; with `paper`, also if it is blurred into that."""
    away = {}
    for name, value in among.items():
        full = rgb(value)
        if paper is not None:
            towards = full - paper
            share = (colour - paper) @ towards / towards.square().sum()
            full = paper + share.clamp(PALE, 1) * towards
        away[name] = (colour - full).norm().item()
    name, second = sorted(away, key=away.get)[:2]
    if away[name] > min(FOREIGN, AMBIGUOUS * away[second]):
        raise ValueError(f"the {what} is none that exists, {name} is the nearest")
    return name


def _parts(image: Tensor, background: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Connected parts that differ from the background, each with the others."""
    difference = image - background[:, None, None]
    contrast, smooth = difference.norm(dim=0), F.avg_pool2d(difference, 3, 1, 1).norm(dim=0)
    # An edge half covered has half the contrast of its thing, whatever its colour.
    around = 2 * round(image.shape[1] / 16) + 1
    local = F.max_pool2d(contrast[None], around, 1, around // 2)[0]
    inside = (contrast > FAINT) & (contrast > 0.5 * local)
    labels = torch.arange(1.0, contrast.numel() + 1).view_as(contrast) * inside
    while True:
        spread = F.max_pool2d(labels[None], 3, 1, 1)[0] * inside
        if spread.equal(labels):
            break
        labels = spread
    # A pixel of noise is no part.
    found = [labels == label for label in labels[smooth > FAINT].unique() if label]
    if not 1 <= len(found) <= MOST_THINGS:
        raise ValueError(f"there are {len(found)} parts, not 1 to {MOST_THINGS}")
    return [(part, sum(found) > part) for part in found]


def _thing(image: Tensor, part: Tensor, others: Tensor, background: str) -> Thing:
    size, paper = image.shape[1], rgb(BACKGROUNDS[background])
    difference = image - paper[:, None, None]
    strength = difference.norm(dim=0) * part
    core = strength > 0.75 * strength[part].quantile(0.9)
    colour = _nearest("colour of a thing", image[:, core].mean(1), COLOURS, paper)
    towards = rgb(COLOURS[colour]) - paper
    covered = torch.einsum("chw,c->hw", difference, towards) / towards.square().sum()
    reach = max(1, round(size / 16))
    near = F.max_pool2d(part[None].float(), 2 * reach + 1, 1, reach)[0] > 0
    taken = F.max_pool2d(others[None].float(), 3, 1, 1)[0] > 0
    covered = covered * (near & ~taken)
    total = covered.sum()
    if total < 1:
        raise ValueError(f"the {colour} thing covers less than a pixel")
    if _border(covered).max() > CUT:
        raise ValueError(f"the {colour} thing is cut by the picture's edge")
    at = (torch.arange(size) + 0.5) / size
    x, y = ((covered.sum(axis) * at).sum() / total for axis in (0, 1))
    best = (math.inf, "", 0.0, 0.0)
    for shape, outline in OUTLINES.items():
        extent = (total.item() / AREAS[shape]) ** 0.5 / size
        angles = torch.tensor(ANGLES).deg2rad()[:, None, None]
        right, up = ((at - x) / extent)[None, None], ((y - at) / extent)[None, :, None]
        distance = outline(
            angles.cos() * right + angles.sin() * up, angles.cos() * up - angles.sin() * right
        )
        drawn = coverage(distance * extent * size)
        misfit = ((drawn - covered).square().sum((1, 2)) / total).sqrt()
        k = int(misfit.argmin())
        best = min(best, (misfit[k].item(), shape, extent, ANGLES[k]))
    misfit, shape, extent, angle = best
    if misfit > MISFIT:
        raise ValueError(f"the {colour} thing is no shape that exists, {shape} is the nearest")
    for name in SIZES:
        low, high = EXTENTS[name]
        if low * (1 - SLACK) <= extent <= high * (1 + SLACK):
            fitted = min(max(extent, low), high)
            return Thing(shape, colour, name, x.item(), y.item(), fitted, angle)
    raise ValueError(f"the {colour} {shape} is neither small nor large: {extent * size:.1f} pixels")
