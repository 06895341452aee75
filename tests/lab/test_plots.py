"""Grids, film strips, curves and histograms, read back from their pixels or their artists."""

import json
import math
from itertools import combinations

import matplotlib
import matplotlib.style
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from test_picture import decoded

from course.lab.picture import TAG_HEIGHT, render
from course.lab.plots import (
    COLORS,
    curves,
    film_strip,
    histogram,
    image_grid,
    training_curve,
    use_style,
)
from course.lab.tiles import BACKGROUND
from course.training.log import FIELDS, LogError


def pixels(fig):
    return decoded(render(fig, "a picture").png)


def bare(fig):
    """The pixels of a figure without its titles, whose ink has every grey level."""
    for text in list(fig.texts):
        text.remove()
    return pixels(fig)


def boxes(picture, levels):
    """(top, left, height, width) of the only rectangle of each grey level."""
    found = []
    for level in levels:
        rows, columns = np.nonzero((picture == level).all(-1))
        top, left = rows.min(), columns.min()
        height, width = rows.max() - top + 1, columns.max() - left + 1
        assert len(rows) == height * width, f"level {level} is no filled rectangle"
        found.append((top, left, height, width))
    return found


def flat(levels, h=5, w=7):
    """One picture (1, h, w) of each grey level."""
    values = torch.tensor(levels, dtype=torch.float32) / 127.5 - 1
    return values[:, None, None, None].expand(-1, 1, h, w)


def holds(picture, part):
    windows = np.lib.stride_tricks.sliding_window_view(picture, part.shape)
    return bool((windows == part).all((-3, -2, -1)).any())


LEVELS = [0, 20, 50, 90, 130, 180]


class TestImageGrid:
    def test_row_major_and_whole(self):
        found = boxes(pixels(image_grid(flat(LEVELS), columns=3)), LEVELS)
        tops, lefts, heights, widths = map(np.array, zip(*found, strict=True))
        assert len(set(heights)) == len(set(widths)) == 1
        assert heights[0] % 5 == 0
        assert widths[0] * 5 == heights[0] * 7
        assert tops[0] == tops[1] == tops[2] < tops[3] == tops[4] == tops[5]
        assert lefts[0] < lefts[1] < lefts[2]
        assert list(lefts[:3]) == list(lefts[3:])

    def test_minus_one_is_black_and_one_is_white(self):
        images = torch.ones(2, 1, 4, 6)
        images[1] = -1
        picture = pixels(image_grid(images))
        assert holds(picture, np.full((20, 30, 3), 255, np.uint8))
        assert holds(picture, np.zeros((20, 30, 3), np.uint8))

    @pytest.mark.parametrize("channels", [1, 3])
    def test_pixels_are_crisp_and_upright(self, channels):
        generator = torch.Generator().manual_seed(0)
        images = torch.rand(2, channels, 4, 6, generator=generator) * 2 - 1
        picture = pixels(image_grid(images, scale=0.5))
        zoom = 7  # 84 / 6, halved
        for image in images:
            byte = np.rint((image.numpy().transpose(1, 2, 0) + 1) * 127.5).astype(np.uint8)
            byte = np.broadcast_to(byte, (4, 6, 3)).repeat(zoom, 0).repeat(zoom, 1)
            assert holds(picture, byte)

    def test_numpy_and_bfloat16_and_no_channel_axis_draw_the_same(self):
        images = flat(LEVELS)
        same = pixels(image_grid(images))
        for other in (images.numpy(), images[:, 0], images.bfloat16(), images.double()):
            # bfloat16 keeps 8 bits, half a grey level at most in this range but for the darkest
            assert np.abs(pixels(image_grid(other)).astype(int) - same).max() <= 1

    def test_outside_the_range_is_clipped(self):
        images = torch.tensor([[[-1.0, 1.0]], [[-9.0, 1.5]]])
        assert (pixels(image_grid(images[:1].repeat(2, 1, 1))) == pixels(image_grid(images))).all()

    @pytest.mark.parametrize("shape", [(28, 28), (9, 40), (64, 48)])
    def test_never_over_eight_by_four_inches(self, shape):
        h, w = shape
        for n in range(1, 101) if h == w else (1, 7, 31, 64, 97, 100):
            for titles in (None, [f"number {i}" for i in range(n)]):
                if titles and (n > 31 or n % 3 == 0):
                    continue
                width, height = image_grid(torch.zeros(n, h, w), titles=titles).get_size_inches()
                assert int(width * 100) <= 800
                assert int(height * 100) <= 400 - TAG_HEIGHT

    def test_all_of_a_hundred_are_there(self):
        levels = list(range(100))
        found = boxes(pixels(image_grid(flat(levels, 28, 28))), levels)
        assert {box[2:] for box in found} == {(28, 28)}

    def test_titles_stand_apart_above_their_pictures(self):
        titles = ["a rather long title", "another long one", "two\nlines", 4, "e", ""]
        fig = image_grid(flat(LEVELS), columns=3, titles=titles)
        assert [text.get_text() for text in fig.texts] == [str(t) for t in titles[:-1]]
        renderer = FigureCanvasAgg(fig).get_renderer()
        extents = [text.get_window_extent(renderer) for text in fig.texts]
        for a, b in combinations(extents, 2):
            assert not a.overlaps(b)
        for (top, left, _, wide), extent in zip(boxes(bare(fig), LEVELS), extents, strict=False):
            assert abs((extent.x0 + extent.x1) / 2 - (left + wide / 2)) <= 1.5
            assert extent.y0 >= fig.bbox.height - top
            assert extent.y1 <= fig.bbox.height

    def test_labels_of_a_tensor(self):
        fig = image_grid(flat([1, 2]), titles=torch.tensor([7, 9]))
        assert [text.get_text() for text in fig.texts] == ["7", "9"]

    def test_large_pictures_shrink(self):
        found = boxes(pixels(image_grid(flat([0, 90], 300, 600))), [0, 90])
        (_, _, height, width), _ = found
        assert width == 2 * height
        assert height < 300

    @pytest.mark.usefixtures("no_typecheck")
    @pytest.mark.parametrize(
        ("images", "said"),
        [
            (torch.zeros(4, 5), r"\(N, H, W\) or \(N, C, H, W\).*got float32 of shape \(4, 5\)"),
            (torch.zeros(0, 1, 4, 5), r"shape \(0, 1, 4, 5\)"),
            (torch.zeros(2, 4, 5, 6), r"C = 1 or 3 channels.*\(2, 4, 5, 6\)"),
            (torch.zeros(2, 1, 4, 5, dtype=torch.uint8), r"floats in \[-1, 1\], got uint8"),
            (torch.full((2, 1, 4, 5), math.nan), "40 NaN or infinite of 40"),
            (torch.full((2, 1, 4, 5), math.inf), "40 NaN or infinite of 40"),
        ],
    )
    def test_refuses(self, images, said):
        with pytest.raises(ValueError, match="images: expected .*" + said):
            image_grid(images)

    @pytest.mark.usefixtures("no_typecheck")
    def test_refuses_other_arguments(self):
        with pytest.raises(ValueError, match="titles: expected one a picture, that is 6, got 2"):
            image_grid(flat(LEVELS), titles=["a", "b"])
        for columns in (0, 2.0):
            with pytest.raises(ValueError, match="columns: expected an integer"):
                image_grid(flat(LEVELS), columns=columns)
        for scale in (0, -1, math.inf, "2"):
            with pytest.raises(ValueError, match="scale: expected a positive number"):
                image_grid(flat(LEVELS), scale=scale)
        with pytest.raises(ValueError, match="don't fit"):
            image_grid(flat(LEVELS), columns=6, titles=["x" * 40] * 6)


class TestFilmStrip:
    def test_a_row_for_each_sample_in_time_order(self):
        frames = flat(LEVELS).reshape(2, 3, 1, 5, 7)
        fig = film_strip(frames, labels=["t = 2", "t = 1", "t = 0"])
        assert [text.get_text() for text in fig.texts] == ["t = 2", "t = 1", "t = 0"]
        above = [(1 - text.get_position()[1]) * fig.bbox.height for text in fig.texts]
        tops, lefts, *_ = zip(*boxes(bare(fig), LEVELS), strict=True)
        assert tops[0] == tops[1] == tops[2] < tops[3] == tops[4] == tops[5]
        assert lefts[0] < lefts[1] < lefts[2]
        assert max(above) < tops[0]

    def test_one_sample_is_one_row_and_goes_on_if_it_is_long(self):
        tops, *_ = zip(*boxes(pixels(film_strip(flat(LEVELS))), LEVELS), strict=True)
        assert len(set(tops)) == 1
        levels = list(range(60))
        found = boxes(bare(film_strip(flat(levels, 28, 28), labels=levels)), levels)
        assert found == sorted(found)
        assert len({top for top, *_ in found}) > 1

    @pytest.mark.usefixtures("no_typecheck")
    def test_refuses(self):
        with pytest.raises(ValueError, match=r"frames: expected \(N, C, H, W\) or \(B, T, C"):
            film_strip(torch.zeros(3, 4, 5))
        with pytest.raises(ValueError, match="labels: expected one a frame, that is 3, got 6"):
            film_strip(torch.zeros(2, 3, 1, 4, 5), labels=range(6))


class TestCurves:
    def test_draws_the_numbers(self):
        x, y = torch.linspace(1, 2, 5), [3, 1, 4, 1, 5]
        fig = curves(x, {"pi": y, "line": x}, xlabel="x", ylabel="y", title="t", logy=True)
        (ax,) = fig.axes
        np.testing.assert_array_equal(ax.lines[0].get_xdata(), x)
        np.testing.assert_array_equal(ax.lines[0].get_ydata(), y)
        assert [t.get_text() for t in ax.get_legend().get_texts()] == ["pi", "line"]
        assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title()) == ("x", "y", "t")
        assert (ax.get_xscale(), ax.get_yscale()) == ("linear", "log")
        assert curves(x, {"": y}).axes[0].get_legend() is None

    @pytest.mark.usefixtures("no_typecheck")
    def test_refuses(self):
        with pytest.raises(ValueError, match=r"ys\['a'\]: expected 3 numbers as x has, got 2"):
            curves([1, 2, 3], {"a": [1, 2]})
        with pytest.raises(ValueError, match=r"ys\['a'\]: logy needs positive numbers, got 0"):
            curves([1, 2], {"a": [0, 2]}, logy=True)
        with pytest.raises(ValueError, match="x: logx needs positive numbers, got -1"):
            curves([-1, 2], {"a": [0, 2]}, logx=True)
        with pytest.raises(ValueError, match="ys: expected at least one curve"):
            curves([1, 2], {})
        with pytest.raises(ValueError, match=r"x: expected a row of numbers, got .*\(2, 2\)"):
            curves(np.zeros((2, 2)), {"a": [0, 2]})


class TestHistogram:
    def test_heights_are_the_density_of_all_samples(self):
        fig = histogram([0.1, 0.2, 0.6, 5.0], bins=2, range=(0, 1))
        (patch,) = fig.axes[0].patches
        heights, edges, _ = patch.get_data()
        np.testing.assert_allclose(edges, [0, 0.5, 1])
        np.testing.assert_allclose(heights, [2 / 4 / 0.5, 1 / 4 / 0.5])  # 5.0 counts, unseen

    def test_several_sets_share_their_bins(self):
        fig = histogram({"a": torch.tensor([0.0, 1.0]), "b": [3, 4, 4]}, bins=4)
        a, b = (patch.get_data() for patch in fig.axes[0].patches)
        np.testing.assert_allclose(a.edges, [0, 1, 2, 3, 4])
        np.testing.assert_allclose(b.edges, a.edges)
        np.testing.assert_allclose(a.values, [0.5, 0.5, 0, 0])
        np.testing.assert_allclose(b.values, [0, 0, 0, 1])
        assert [t.get_text() for t in fig.axes[0].get_legend().get_texts()] == ["a", "b"]

    def test_density_is_drawn_over_it(self):
        fig = histogram([0.0, 1.0], density=lambda x: torch.exp(-x))
        (line,) = fig.axes[0].lines
        np.testing.assert_allclose(line.get_ydata(), np.exp(-line.get_xdata()), rtol=1e-6)
        assert (line.get_xdata()[0], line.get_xdata()[-1]) == (0, 1)
        (line,) = histogram([0.0, 1.0], density=([0, 2], [0.5, 0.25])).axes[0].lines
        np.testing.assert_array_equal(line.get_ydata(), [0.5, 0.25])

    @pytest.mark.usefixtures("no_typecheck")
    def test_refuses(self):
        for samples, said in (
            ([], r"samples: expected a row of numbers, got float64 of shape \(0,\)"),
            ({}, "samples: expected at least one set"),
            ({"a": [1.0, math.nan]}, "samples a: expected finite numbers, got 1 NaN"),
            (["a"], "samples: expected a row of numbers"),
        ):
            with pytest.raises(ValueError, match=said):
                histogram(samples)
        with pytest.raises(ValueError, match="bins: expected an integer"):
            histogram([1.0], bins=0)
        with pytest.raises(ValueError, match=r"range: expected \(low, high\) with low < high"):
            histogram([1.0], range=(1, 1))


def linear(colour):
    c = np.array(to_rgb(colour))
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def contrast(a, b):
    """WCAG 2 contrast ratio."""
    dark, light = sorted(linear(c) @ [0.2126, 0.7152, 0.0722] for c in (a, b))
    return (light + 0.05) / (dark + 0.05)


def lab(rgb):
    """CIE 1976 L*a*b* of linear sRGB under D65."""
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = to_xyz @ rgb / [0.9505, 1, 1.089]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
VISION = {
    "full": np.eye(3),
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
}


class TestStyle:
    @pytest.mark.parametrize("vision", VISION)
    def test_colours_stay_apart(self, vision):
        seen = {
            n: lab(np.clip(VISION[vision] @ linear(c), 0, 1)) for n, c in COLORS._asdict().items()
        }
        for a, b in combinations(seen, 2):
            assert np.linalg.norm(seen[a] - seen[b]) > 15, (a, b)  # CIE76; about 2 is just visible

    def test_ink_and_curves_stand_out(self):
        use_style()
        rc = matplotlib.rcParams
        for key in ("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.color"):
            assert contrast(rc[key], rc["figure.facecolor"]) >= 7
        cycle = rc["axes.prop_cycle"].by_key()
        assert ["#" + c.lstrip("#") for c in cycle["color"]] == list(COLORS[:5]) * 2
        assert len({*zip(cycle["color"], cycle["linestyle"], strict=True)}) == 10
        for colour in COLORS[:5]:
            assert contrast(colour, rc["axes.facecolor"]) >= 3  # WCAG 1.4.11

    def test_one_opaque_background_and_size(self):
        use_style()
        fig = curves([1, 2], {"a": [1, 2]})
        picture = pixels(fig)
        assert picture.shape == (320, 640, 3)
        paper = tuple(int(BACKGROUND[i : i + 2], 16) for i in (1, 3, 5))
        assert tuple(picture[0, 0]) == paper
        assert tuple(pixels(image_grid(flat(LEVELS)))[0, 0]) == paper
        assert not matplotlib.rcParams["savefig.transparent"]


def write_log(folder, losses, every=1):
    folder.mkdir()
    lines = [
        {**dict.fromkeys(FIELDS, 0), "step": step * every, "loss": loss}
        for step, loss in enumerate(losses)
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


class TestTrainingCurve:
    def test_one_training_is_drawn_with_its_mean(self, tmp_path):
        losses = [8.0, 4, 6, 2, 4, 3, 2, 1, 3, 2, 4, 6]
        fig = training_curve(write_log(tmp_path / "a", losses, every=10), smooth=3)
        raw, mean = fig.axes[0].lines
        np.testing.assert_array_equal(raw.get_xdata(), np.arange(0, 120, 10))
        np.testing.assert_array_equal(raw.get_ydata(), losses)
        np.testing.assert_array_equal(mean.get_xdata(), np.arange(20, 120, 10))
        np.testing.assert_allclose(mean.get_ydata(), [6, 4, 4, 3, 3, 2, 2, 2, 3, 4])
        assert fig.axes[0].get_yscale() == "log"

    def test_several_are_compared(self, tmp_path):
        folders = [write_log(tmp_path / name, [3.0, -1, 1]) for name in ("b", "c")]
        fig = training_curve(folders[0], str(folders[1] / "log.jsonl"))
        (ax,) = fig.axes
        assert [t.get_text() for t in ax.get_legend().get_texts()] == ["b", "c"]
        for line in ax.lines:  # too short to be smoothed
            np.testing.assert_allclose(
                [line.get_xdata(), line.get_ydata()], [[0, 1, 2], [3, -1, 1]]
            )

    def test_below_zero_no_axis_is_logarithmic(self, tmp_path):
        fig = training_curve(write_log(tmp_path / "a", [3.0, -1, 1]))
        assert fig.axes[0].get_yscale() == "linear"

    def test_refuses(self, tmp_path):
        with pytest.raises(ValueError, match="logs: expected at least one, got none"):
            training_curve()
        with pytest.raises(LogError, match=r"log\.jsonl: expected a log, there is no such file"):
            training_curve(tmp_path)
