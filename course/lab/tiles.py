"""Pictures laid out in rows and columns, pixel by pixel."""

import math
from functools import cache
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from PIL import Image

from course.lab.picture import DPI, MAX_HEIGHT, MAX_WIDTH, TAG_HEIGHT

BACKGROUND = "#fdfdfd"  # as in course.mplstyle

# All in pixels, but for the size of a title in points. A grid leaves room for a tag.
_WIDTH, _HEIGHT = int(MAX_WIDTH * DPI), int(MAX_HEIGHT * DPI) - TAG_HEIGHT
_TILE = 84  # about how large a small picture is drawn
_MARGIN, _GAP = 4, 6  # around a grid, between its pictures
_FRAME = 200  # grey level of the one-pixel frame of a picture
_TITLE, _LINE = 8, 14  # size of a title, height of its line


def to_numpy(name: str, values: Any) -> np.ndarray:
    """Bring a tensor, array or list of numbers to NumPy; ValueError names what can't be."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = values.float() if values.dtype == torch.bfloat16 else values
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name}: expected an array or tensor of numbers, got {error}") from None


def to_bytes(name: str, images: Any, ranks: tuple[int, ...]) -> np.ndarray:
    """Check pictures and turn them into bytes (N, H, W, 3)."""
    array = to_numpy(name, images)
    shape = f"{array.dtype} of shape {tuple(array.shape)}"
    layout = {3: "(N, H, W)", 4: "(N, C, H, W)", 5: "(B, T, C, H, W)"}
    wanted = " or ".join(layout[rank] for rank in ranks)
    if array.ndim not in ranks or 0 in array.shape:
        raise ValueError(f"{name}: expected {wanted}, none of them empty, got {shape}")
    if array.dtype.kind != "f":
        raise ValueError(f"{name}: expected floats in [-1, 1], got {shape}")
    if array.ndim == 3:
        array = array[:, None]
    if array.shape[-3] not in (1, 3):
        raise ValueError(f"{name}: expected {wanted} with C = 1 or 3 channels, got {shape}")
    if bad := np.count_nonzero(~np.isfinite(array)):
        raise ValueError(
            f"{name}: expected finite numbers, got {bad} NaN or infinite of {array.size}"
        )
    array = array.reshape(-1, *array.shape[-3:]).astype(np.float32)
    array = np.rint((array.clip(-1, 1) + 1) * 127.5).astype(np.uint8).transpose(0, 2, 3, 1)
    return np.broadcast_to(array, (*array.shape[:3], 3))


def to_texts(name: str, texts: Any, n: int, what: str) -> list[str]:
    """Turn n titles, or none, into n strings; ValueError if there are more or fewer."""
    if texts is None:
        return [""] * n
    texts = texts.tolist() if hasattr(texts, "tolist") else list(texts)
    if len(texts) != n:
        raise ValueError(f"{name}: expected one a {what}, that is {n}, got {len(texts)}")
    return [str(text) for text in texts]


@cache
def _width(line: str) -> float:
    path = TextPath((0, 0), line, _TITLE, prop=FontProperties(family="DejaVu Sans"))
    return path.get_extents().width * DPI / 72


def _slot(texts: list[str]) -> int:
    """The width in pixels that the widest line of some titles needs."""
    lines = (line for text in texts for line in text.split("\n") if line.strip())
    return math.ceil(max(map(_width, lines), default=0))


def _head(texts: list[str]) -> int:
    """The height in pixels above a row of pictures that its titles need."""
    return _LINE * max((text.count("\n") + 1 for text in texts if text), default=0)


def _rows(items: list, columns: int) -> list[list]:
    return [items[i : i + columns] for i in range(0, len(items), columns)]


def zoom_of(
    shape: tuple[int, ...], columns: int, texts: list[str], scale: float | int
) -> float | int:
    """How many times larger a grid may draw its pictures: an integer where it is at least 1."""
    n, h, w, _ = shape
    heads = sum(map(_head, _rows(texts, columns)))
    across = (_WIDTH - 2 * _MARGIN) / columns - _GAP
    down = (_HEIGHT - 2 * _MARGIN - heads) / math.ceil(n / columns) - _GAP
    wanted = max(1, round(_TILE / max(h, w))) * scale
    zoom = min(across / w, down / h, wanted) if _slot(texts) <= across else 0
    return math.floor(zoom) if zoom >= 1 else max(zoom, 0)


def _best_columns(shape: tuple[int, ...], texts: list[str], scale: float | int) -> int:
    """The number of columns with the largest pictures, then no empty places, then a wide shape."""
    n, h, w, _ = shape

    def worth(columns: int) -> tuple:
        rows = math.ceil(n / columns)
        wide = abs(math.log(columns * w / (rows * h) / 3))
        return zoom_of(shape, columns, texts, scale), n - rows * columns, -wide

    return max(range(1, n + 1), key=worth)


def tile(pixels: np.ndarray, columns: int | None, texts: list[str], scale: float | int) -> Figure:
    """Lay pictures (N, H, W, 3) out in screen pixels, so that drawing resamples none."""
    n, h, w, _ = pixels.shape
    texts = texts + [""] * (n - len(texts))
    columns = columns or _best_columns(pixels.shape, texts, scale)
    zoom = zoom_of(pixels.shape, columns, texts, scale)
    tile_h, tile_w = int(h * zoom), int(w * zoom)
    if not (tile_h and tile_w):
        raise ValueError(
            f"{n} pictures in {columns} columns, with their titles, don't fit in 8x4 inches"
        )
    slot = max(tile_w, _slot(texts)) + _GAP
    heads = [_head(row) for row in _rows(texts, columns)]
    width = 2 * _MARGIN + columns * slot
    height = 2 * _MARGIN + len(heads) * (tile_h + _GAP) + sum(heads)

    paper = [int(BACKGROUND[i : i + 2], 16) for i in (1, 3, 5)]
    canvas = np.tile(np.array(paper, np.uint8), (height, width, 1))
    # A hundredth of a pixel more, as matplotlib rounds the size of a figure down.
    fig = Figure(figsize=((width + 0.01) / DPI, (height + 0.01) / DPI), dpi=DPI, layout="none")
    top = _MARGIN
    for row, head in enumerate(heads):
        top += head
        for column in range(min(columns, n - row * columns)):
            i = row * columns + column
            left = _MARGIN + column * slot + (slot - tile_w) // 2
            canvas[top - 1 : top + tile_h + 1, left - 1 : left + tile_w + 1] = _FRAME
            canvas[top : top + tile_h, left : left + tile_w] = _resized(pixels[i], tile_h, tile_w)
            if not texts[i]:
                continue
            at = ((left + tile_w / 2) / width, 1 - (top - 3) / height)
            fig.text(*at, texts[i], size=_TITLE, ha="center", va="bottom", linespacing=1.1)
        top += tile_h + _GAP
    ax = fig.add_axes((0, 0, 1, 1))
    ax.imshow(canvas, interpolation="nearest", aspect="auto")
    ax.set_axis_off()
    return fig


def _resized(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    larger = height >= picture.shape[0]
    method = Image.Resampling.NEAREST if larger else Image.Resampling.BOX
    return np.asarray(
        Image.fromarray(np.ascontiguousarray(picture)).resize((width, height), method)
    )
