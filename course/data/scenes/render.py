"""Scenes as pictures, masks and edges: antialiased, many at once, of any size."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from course.data.scenes.shapes import OUTLINES
from course.data.scenes.world import BACKGROUNDS, COLOURS, MOST_THINGS, Scene

# So many at once stay within a processor's cache.
CHUNK = 128


def render(scenes: Sequence[Scene], size: int = 32) -> Float[Tensor, "B 3 H W"]:
    """Pictures in [-1, 1] of size x size pixels.

    Raises:
        ValueError: there is no scene, one is impossible (see `Scene.check_room`), or `size` is
            below 16.
    """

    def paint(chunk: Sequence[Scene], distance: Tensor) -> Tensor:
        background = rgb([BACKGROUNDS[scene.background] for scene in chunk])
        colours = background[:, None].repeat(1, MOST_THINGS, 1)
        for row, scene in enumerate(chunk):
            colours[row, : len(scene.things)] = rgb([COLOURS[t.colour] for t in scene.things])
        # Things are apart, so that what each adds to the background can be summed.
        added = (colours - background[:, None]).transpose(1, 2)
        return torch.baddbmm(background[:, :, None], added, coverage(distance).flatten(2))

    return torch.cat(
        [paint(chunk, d).unflatten(2, (size, size)) for chunk, d in _distances(scenes, size)]
    )


def masks(scenes: Sequence[Scene], size: int = 32) -> Float[Tensor, "B 3 H W"]:
    """How much of each pixel each thing covers, from 0 to 1, in the order of `Scene.things`.

    Raises:
        ValueError: as `render`.
    """
    return torch.cat([coverage(d) for _, d in _distances(scenes, size)])


def edges(scenes: Sequence[Scene], size: int = 32) -> Float[Tensor, "B 1 H W"]:
    """Outlines of all things, 1 on them and falling to 0 within a pixel to each side.

    Raises:
        ValueError: as `render`.
    """
    return torch.cat(
        [(1 - d.abs()).clamp(min=0).amax(1, keepdim=True) for _, d in _distances(scenes, size)]
    )


def coverage(distance: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """How much of a pixel is covered, from its centre's distance to the outline in pixels."""
    return (0.5 - distance).clamp_(0, 1)


def rgb(colours: Sequence) -> Tensor:
    """Colours of 0 to 255, one or nested lists of them, in [-1, 1]."""
    return torch.tensor(colours, dtype=torch.float32).div_(127.5).sub_(1)


def _distances(scenes: Sequence[Scene], size: int):
    """Chunks of scenes with the distance of each pixel's centre to each outline, in pixels."""
    if not scenes:
        raise ValueError("scenes: expected at least one, came none")
    if size < 16:
        raise ValueError(f"size: expected at least 16 pixels, came {size}")
    for scene in scenes:
        scene.check_room()
    for start in range(0, len(scenes), CHUNK):
        chunk = scenes[start : start + CHUNK]
        distance = torch.full((len(chunk), MOST_THINGS, size, size), torch.inf)
        for shape, outline in OUTLINES.items():
            found = [
                (row, column, t.x, t.y, t.extent, t.angle)
                for row, scene in enumerate(chunk)
                for column, t in enumerate(scene.things)
                if t.shape == shape
            ]
            if not found:
                continue
            rows, columns, x, y, extent, angle = torch.tensor(found, dtype=torch.float64).T
            cos, sin = angle.deg2rad().cos() / extent, angle.deg2rad().sin() / extent
            at = (torch.arange(size, dtype=torch.float64) + 0.5) / size
            right, up = at - x[:, None], y[:, None] - at
            d = outline(
                _plane(cos[:, None] * right, sin[:, None] * up),
                _plane(-sin[:, None] * right, cos[:, None] * up),
            )
            distance[rows.long(), columns.long()] = d.mul_((extent * size).float()[:, None, None])
        yield chunk, distance


def _plane(along_x: Tensor, along_y: Tensor) -> Tensor:
    return along_x.float()[:, None, :] + along_y.float()[:, :, None]
