"""Figures with one look: image grids, film strips, curves, histograms, and `show`."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.resources import as_file, files
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import matplotlib.style
import numpy as np
import torch
from jaxtyping import Float, Num
from matplotlib.figure import Figure
from torch import Tensor

from course.lab.picture import show
from course.lab.tiles import tile, to_bytes, to_numpy, to_texts, zoom_of
from course.training.log import read_log

__all__ = [
    "COLORS",
    "curves",
    "film_strip",
    "histogram",
    "image_grid",
    "show",
    "training_curve",
    "use_style",
]


class Palette(NamedTuple):
    """Okabe and Ito's colours without yellow; the first five contrast 3:1 with the background."""

    blue: str = "#0072B2"
    vermillion: str = "#D55E00"
    green: str = "#009E73"
    purple: str = "#CC79A7"
    black: str = "#000000"
    sky: str = "#56B4E9"
    orange: str = "#E69F00"


COLORS = Palette()

Pictures = (
    Float[Tensor, "N C H W"]
    | Float[Tensor, "N H W"]
    | Float[np.ndarray, "N C H W"]
    | Float[np.ndarray, "N H W"]
)
Frames = (
    Float[Tensor, "T C H W"]
    | Float[Tensor, "B T C H W"]
    | Float[np.ndarray, "T C H W"]
    | Float[np.ndarray, "B T C H W"]
)
Number = float | int
Values = Num[Tensor, " _"] | Num[np.ndarray, " _"] | Sequence[Number] | range


def use_style() -> None:
    """Give every matplotlib figure made from now on the look of the course."""
    with as_file(files("course.lab") / "course.mplstyle") as path:
        matplotlib.style.use(path)


def image_grid(
    images: Pictures,
    columns: int | None = None,
    titles: Iterable[object] | None = None,
    scale: Number = 1.0,
) -> Figure:
    """Draw pictures in rows, left to right and top to bottom, each pixel a crisp square.

    images: (N, C, H, W) with C = 1 or 3, or (N, H, W); -1 is black, 1 is white, and what lies
        outside is clipped to that range.
    columns: pictures a row; by default as many as show them largest within 8 x 4 inches.
    titles: N short texts or numbers, drawn above the pictures.
    scale: 1 draws a picture about 80 pixels wide, 2 twice as large, as far as there is room.
    Raises ValueError on another shape or number of channels, no pictures, integers (bytes 0..255),
    NaN or infinity, or titles that are not one a picture.
    """
    pixels = to_bytes("images", images, (3, 4))
    n = len(pixels)
    if columns is not None and (not isinstance(columns, int) or columns < 1):
        raise ValueError(f"columns: expected an integer of at least 1, got {columns!r}")
    if not (isinstance(scale, int | float) and 0 < scale < math.inf):
        raise ValueError(f"scale: expected a positive number, got {scale!r}")
    texts = to_texts("titles", titles, n, "picture")
    return tile(pixels, min(columns, n) if columns else None, texts, scale)


def film_strip(frames: Frames, labels: Iterable[object] | None = None) -> Figure:
    """Draw a sequence of pictures in time order, a row for each sample.

    frames: (T, C, H, W), or (B, T, C, H, W) for B samples; range and channels as in `image_grid`.
        One sample of more frames than fit in a row goes on in the next.
    labels: T short texts or numbers, drawn above the frames.
    Raises ValueError as `image_grid` does.
    """
    pixels = to_bytes("frames", frames, (4, 5))
    steps = to_numpy("frames", frames).shape[-4]
    texts = to_texts("labels", labels, steps, "frame")
    if len(pixels) > steps:
        return tile(pixels, steps, texts + [""] * (len(pixels) - steps), 1.0)
    one_row = zoom_of(pixels.shape, steps, texts, 1.0) >= 1
    return tile(pixels, steps if one_row else None, texts, 1.0)


def curves(
    x: Values,
    ys: Mapping[str, Values],
    xlabel: str = "",
    ylabel: str = "",
    title: str = "",
    logx: bool = False,
    logy: bool = False,
) -> Figure:
    """Draw curves over one x axis, named in a legend (a single curve with the label "" has none).

    x, each of ys: n numbers. logx, logy: logarithmic axes, for positive numbers.
    Raises ValueError if there is no curve, a curve is not as long as x, or a logarithmic axis gets
    a number that is not positive.
    """
    across = _vector("x", x)
    if not ys:
        raise ValueError("ys: expected at least one curve, got none")
    fig, ax = _axes(xlabel, ylabel, title)
    for label, y in ys.items():
        up = _vector(f"ys[{label!r}]", y)
        if len(up) != len(across):
            raise ValueError(
                f"ys[{label!r}]: expected {len(across)} numbers as x has, got {len(up)}"
            )
        if logy and np.any(up <= 0):
            raise ValueError(f"ys[{label!r}]: logy needs positive numbers, got {np.nanmin(up)}")
        ax.plot(across, up, label=label)
    if logx and np.any(across <= 0):
        raise ValueError(f"x: logx needs positive numbers, got {np.nanmin(across)}")
    ax.set(xscale="log" if logx else "linear", yscale="log" if logy else "linear")
    if any(ys):
        ax.legend()
    return fig


def histogram(
    samples: Values | Mapping[str, Values],
    density: Callable[[Tensor], Values] | tuple[Values, Values] | None = None,
    bins: int = 60,
    range: tuple[Number, Number] | None = None,
    xlabel: str = "",
    title: str = "",
    density_label: str = "density",
) -> Figure:
    """Draw the histogram of samples as a density, with the true density over it if it is known.

    samples: n numbers (filled bars), or several sets by label (outlines over common bins).
    density: a function of a float tensor, or its (x, y) drawn as they are; density_label names it.
    range: of the bins, by default that of the samples. Samples outside are not drawn but count, so
        that the bars may be compared with the density.
    Raises ValueError on no samples, NaN or infinity, no bins or an empty range.
    """
    several = isinstance(samples, Mapping)
    sets = samples if several else {"": samples}
    if not sets:
        raise ValueError("samples: expected at least one set, got none")
    values = {label: _finite(f"samples {label}".strip(), v) for label, v in sets.items()}
    if not isinstance(bins, int) or bins < 1:
        raise ValueError(f"bins: expected an integer of at least 1, got {bins!r}")
    low, high = range or (min(map(np.min, values.values())), max(map(np.max, values.values())))
    if range and not low < high:
        raise ValueError(f"range: expected (low, high) with low < high, got {range}")
    edges = np.histogram_bin_edges([low, high], bins)
    width = edges[1] - edges[0]
    fig, ax = _axes(xlabel, "density", title)
    filled = {"fill": True, "facecolor": COLORS.sky, "edgecolor": COLORS.blue, "label": "samples"}
    looks = cycle(matplotlib.rcParams["axes.prop_cycle"])
    for (label, v), look in zip(values.items(), looks, strict=False):
        heights = np.histogram(v, edges)[0] / (len(v) * width)
        outlined = {**look, "linewidth": 1.4, "label": label}
        ax.stairs(heights, edges, **(outlined if several else filled))
    if density is not None:
        if callable(density):
            at = torch.linspace(edges[0], edges[-1], 400)
            density = (at, density(at))
        across, up = (_vector("density", v) for v in density)
        ax.plot(across, up, color=COLORS.black, label=density_label)
    if density is not None or several:
        ax.legend()
    return fig


def training_curve(*logs: Path | str, smooth: int = 25) -> Figure:
    """Draw the loss of one or more trainings over their steps, from their logs.

    logs: log.jsonl of each, or the folder that it is in, which names the curve.
    smooth: lines of the log that the curve is the mean of, at most a quarter of them; those of one
        training alone stand behind it.
    Raises LogError if a log is missing or malformed, ValueError if there is none.
    """
    if not logs:
        raise ValueError("logs: expected at least one, got none")
    fig, ax = _axes("step", "loss", "")
    paths = [log / "log.jsonl" if log.is_dir() else log for log in map(Path, logs)]
    for path in paths:
        columns = read_log(path)
        step, loss = columns["step"], columns["loss"]
        if len(logs) == 1:
            ax.plot(step, loss, color=COLORS.sky, linewidth=0.8, alpha=0.6)
        wide = max(1, min(smooth, len(loss) // 4))
        sums = np.cumsum(np.concatenate([[0.0], loss]))
        ax.plot(
            step[wide - 1 :], (sums[wide:] - sums[:-wide]) / wide, label=path.resolve().parent.name
        )
    if all(np.min(line.get_ydata()) > 0 for line in ax.lines):
        ax.set_yscale("log")
    ax.legend()
    return fig


def _axes(xlabel: str, ylabel: str, title: str) -> tuple[Figure, Any]:
    fig = Figure(layout="constrained")
    ax = fig.add_subplot(xlabel=xlabel, ylabel=ylabel)
    ax.set_title(title)
    return fig, ax


def _vector(name: str, values: Any) -> np.ndarray:
    array = to_numpy(name, values)
    if array.ndim != 1 or array.dtype.kind not in "fiub" or not array.size:
        raise ValueError(
            f"{name}: expected a row of numbers, got {array.dtype} of shape {array.shape}"
        )
    return array.astype(float)


def _finite(name: str, values: Any) -> np.ndarray:
    array = _vector(name, values)
    if bad := np.count_nonzero(~np.isfinite(array)):
        raise ValueError(
            f"{name}: expected finite numbers, got {bad} NaN or infinite of {array.size}"
        )
    return array
