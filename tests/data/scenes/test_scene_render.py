"""Pictures of scenes against polygons counted at many points of each pixel."""

import math
import time

import numpy as np
import pytest
import torch
from polygons import covered

from course.data.scenes.layout import draw
from course.data.scenes.render import edges, masks, render
from course.data.scenes.shapes import AREAS
from course.data.scenes.world import BACKGROUNDS, COLOURS, SHAPES, Scene, Thing

SCENES = draw(3, range(60), "test") + draw(3, range(20), "new_pairs")


def things(scenes):
    return [(row, k, t) for row, scene in enumerate(scenes) for k, t in enumerate(scene.things)]


def alone(shape="circle", x=0.5, y=0.5, size="small", extent=0.25, angle=0.0):
    return Scene((Thing(shape, "red", size, x, y, extent, angle),), "white")


def centre(coverage):
    """In pixels from the left and from the top."""
    at = np.arange(len(coverage)) + 0.5
    return (coverage * at).sum() / coverage.sum(), (coverage * at[:, None]).sum() / coverage.sum()


@pytest.mark.parametrize(("size", "fine"), [(32, 16), (45, 8), (64, 8)])
def test_masks_are_what_polygons_cover(size, fine, record_property):
    """A shift of half a pixel moves the centre by 0.5; a wrong turn misses half of the edges."""
    found, worst = masks(SCENES, size).double().numpy(), np.zeros(4)
    seen = set()
    for row, k, thing in things(SCENES):
        expected, mask = covered(thing, size, fine), found[row, k]
        edge = (expected > 0) & (expected < 1)
        shift = np.abs(np.subtract(centre(mask), centre(expected))).max()
        worst = np.maximum(
            worst,
            (
                np.abs(mask - expected).max(),
                np.sqrt(np.square(mask - expected)[edge].mean()),
                shift,
                abs(mask.sum() / (AREAS[thing.shape] * thing.extent**2 * size**2) - 1),
            ),
        )
        seen.add(thing.shape)
    assert seen == set(SHAPES)
    most, rms, shift, area = worst
    record_property(
        "counts",
        f"scenes: {size} x {size} masks differ from counted points by at most {most:.2f}, "
        f"on edges by {rms:.3f} (RMS), their centres by {shift:.3f} pixels, areas by {area:.1%}",
    )
    # At a sharp tip the nearest side tells less than all do.
    assert most < 0.42
    assert rms < 0.11
    assert shift < 0.1
    assert area < 0.04


def test_areas_are_right_on_average():
    found = masks(SCENES, 32).double().sum((2, 3)).numpy()
    for shape in SHAPES:
        ratios = [
            found[row, k] / (AREAS[shape] * thing.extent**2 * 32**2)
            for row, k, thing in things(SCENES)
            if thing.shape == shape
        ]
        assert np.mean(ratios) == pytest.approx(1, abs=0.03), shape


def test_masks_fill_their_boxes():
    """A sharp tip's coverage reaches up to 1.6 pixels beyond it."""
    size = 64
    found = masks(SCENES, size).numpy()
    for row, k, thing in things(SCENES):
        rows, columns = np.nonzero(found[row, k] > 0)
        left, top, right, bottom = np.array(thing.box()) * size
        assert left - 2 < columns.min() < left + 2
        assert top - 2 < rows.min() < top + 2
        assert right - 2 < columns.max() + 1 < right + 2
        assert bottom - 2 < rows.max() + 1 < bottom + 2


def test_masks_share_no_pixel():
    for size in (16, 32):
        found = masks(SCENES, size)
        assert found.min() == 0
        assert found.max() == 1
        total = found.sum(1)
        assert total.max() <= 1
        empty = [[k >= len(scene.things) for k in range(3)] for scene in SCENES]
        assert not found[torch.tensor(empty)].any()
        assert found[~torch.tensor(empty)].amax((1, 2)).min() > 0.5


@pytest.mark.parametrize("size", [16, 32, 45])
def test_pictures_are_masks_in_colour(size):
    pictures, found = render(SCENES, size), masks(SCENES, size).double()
    assert pictures.shape == (len(SCENES), 3, size, size)
    assert pictures.dtype == torch.float32
    for picture, mask, scene in zip(pictures, found, SCENES, strict=True):
        background = torch.tensor(BACKGROUNDS[scene.background]).double() / 255 * 2 - 1
        expected = background[:, None, None].repeat(1, size, size)
        for k, thing in enumerate(scene.things):
            colour = torch.tensor(COLOURS[thing.colour]).double() / 255 * 2 - 1
            expected += mask[k] * (colour - background)[:, None, None]
        torch.testing.assert_close(picture.double(), expected, rtol=0, atol=1e-6)
    assert pictures.abs().max() <= 1


def test_circles_are_exact():
    """In float64, by hand: what float32 rounds away is far below 1/255."""
    size, thing = 33, Thing("circle", "red", "large", 0.41, 0.57, 0.36, 4.0)
    at = (torch.arange(size).double() + 0.5) / size
    radius = ((at - 0.41).square() + (at[:, None] - 0.57).square()).sqrt()
    pixels = size * (radius - 0.18)
    scene = [Scene((thing,), "navy")]
    mask = masks(scene, size)[0, 0].double()
    torch.testing.assert_close(mask, (0.5 - pixels).clamp(0, 1), rtol=0, atol=1e-5)
    outline = edges(scene, size)[0, 0].double()
    torch.testing.assert_close(outline, (1 - pixels.abs()).clamp(min=0), rtol=0, atol=1e-5)


def test_edges_are_where_half_is_covered():
    size = 45
    found, half = edges(SCENES, size)[:, 0], masks(SCENES, size)
    assert found.shape == (len(SCENES), size, size)
    partly = (half > 1e-6) & (half < 1 - 1e-6)
    on_edge = partly.any(1)
    expected = (1 - (half - 0.5).abs()).masked_fill(~partly, 0).amax(1)
    torch.testing.assert_close(found[on_edge], expected[on_edge], rtol=0, atol=1e-5)
    assert found[~on_edge].max() <= 0.5 + 1e-5
    assert found[on_edge].min() >= 0.5
    assert found.min() == 0
    assert 0.005 < (found > 0.9).float().mean() < 0.02


def test_a_turn_is_counter_clockwise():
    """The upper tip of a triangle leans to the left, and all stands the right way up."""
    for angle in (-10.0, 0.0, 10.0):
        mask = masks([alone("triangle", size="large", extent=0.36, angle=angle)], 64)[0, 0].numpy()
        rows = np.nonzero(mask.sum(1) > 0.5)[0]
        tip, _ = centre(np.pad(mask[rows[0] : rows[0] + 3], ((0, 61), (0, 0))))
        lean = 0.36 * 64 * 2 / 3 * math.sin(math.radians(angle))
        assert tip - 32 == pytest.approx(-lean, abs=0.6)
        assert mask[rows[0]].sum() < 4 < 20 < mask[rows[-2]].sum() + (angle != 0) * 20
    star = masks([alone("star", size="large", extent=0.36)], 64)[0, 0]
    assert star[:, 32].nonzero()[0] < 32 - 0.36 * 64 * 0.5
    torch.testing.assert_close(star, star.flip(1), rtol=0, atol=1e-5)


def test_things_go_where_they_are_told():
    for x, y in ((0.25, 0.75), (0.75, 0.25), (0.3, 0.3)):
        mask = masks([alone(x=x, y=y)], 32)[0, 0].numpy()
        assert centre(mask) == pytest.approx((32 * x, 32 * y), abs=0.05)


def test_a_larger_picture_shows_the_same():
    small, large = render(SCENES, 32), render(SCENES, 512)
    averaged = torch.nn.functional.avg_pool2d(large, 16)
    assert (small - averaged).square().mean().sqrt() < 0.02
    assert (small - averaged).square().mean((1, 2, 3)).sqrt().max() < 0.04


@pytest.mark.parametrize("paint", [render, masks, edges])
def test_each_scene_is_drawn_as_if_alone(paint):
    scenes = draw(7, range(300))
    together = paint(scenes, 32)
    for row in (0, 1, 127, 128, 129, 255, 256, 299):
        torch.testing.assert_close(
            together[row : row + 1], paint([scenes[row]], 32), rtol=0, atol=0
        )
    torch.testing.assert_close(paint(scenes[::-1], 32), together.flip(0), rtol=0, atol=1e-6)


@pytest.mark.parametrize("paint", [render, masks, edges])
def test_bad_arguments_are_named(paint):
    near = Scene(
        (
            Thing("star", "red", "small", 0.3, 0.5, 0.25),
            Thing("ring", "blue", "small", 0.6, 0.5, 0.25),
        ),
        "white",
    )
    for call, message in (
        (lambda: paint([], 32), "scenes: expected at least one, came none"),
        (lambda: paint([alone()], 15), "size: expected at least 16 pixels, came 15"),
        (lambda: paint([alone(x=0.9)], 32), "the red circle has the box"),
        (lambda: paint([alone(), near], 32), r"0\.0625 apart, the red star and the blue ring"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def rate(function, count):
    """Per second of processor time, the best of four."""
    times = []
    for _ in range(4):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return count / min(times)


def test_pictures_are_made_fast(record_property):
    scenes, threads = draw(0, range(1000)), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rates = {size: rate(lambda size=size: render(scenes, size), 1000) for size in (32, 64)}
        both = rate(lambda: render(draw(0, range(1000)), 32), 1000)
    finally:
        torch.set_num_threads(threads)
    record_property(
        "counts",
        f"scenes: {rates[32]:.0f} pictures of 32 x 32 a second of one thread, {rates[64]:.0f} of "
        f"64 x 64; {both:.0f} with the drawing of lots",
    )
    assert both > 2500
    assert rates[32] > 2500
    assert rates[64] > 1000
