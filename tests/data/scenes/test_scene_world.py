"""What there is in a scene: relations, room, what is held out; outlines against polygons."""

import colorsys
import math
from itertools import combinations

import numpy as np
import pytest
import torch
from polygons import POLYGONS, inside, nearest_side, polar

from course.data.scenes import shapes, world
from course.data.scenes.layout import ANGLES
from course.data.scenes.world import (
    BACKGROUNDS,
    COLOURS,
    EXTENTS,
    GAP,
    HELD_OUT_PAIRS,
    HELD_OUT_RELATIONS,
    MARGIN,
    SHAPES,
    SIZES,
    Scene,
    Thing,
)


def points(count, seed=0):
    return np.random.default_rng(seed).uniform(-0.8, 0.8, (2, count))


def distance(shape, x, y):
    plane = torch.from_numpy(np.stack([x, y]))[:, None, None]
    return shapes.OUTLINES[shape](*plane)[0, 0].numpy()


@pytest.mark.parametrize("shape", SHAPES)
def test_distances_are_negative_inside(shape):
    x, y = points(20_000)
    d, within = distance(shape, x, y), inside(shape, x, y)
    clear = abs(d) > 1e-9
    assert clear.sum() > 19_990
    np.testing.assert_array_equal((d < 0)[clear], within[clear])
    assert 0.1 < within.mean() < 0.5


@pytest.mark.parametrize("shape", SHAPES)
def test_distances_are_the_plane_s_near_the_sides(shape):
    x, y = points(60_000, seed=1)
    if shape in POLYGONS:
        away, where = nearest_side(shape, x, y)
        near = (away < 0.04) & (where > 0.15) & (where < 0.85)
    else:
        radius = np.hypot(x, y)
        away = abs(radius - 0.5)
        if shape == "ring":
            away = np.minimum(away, abs(radius - 0.25))
        near = away < 0.04
    signed = np.where(inside(shape, x, y), -away, away)
    assert near.sum() > 2000
    np.testing.assert_allclose(distance(shape, x, y)[near], signed[near], rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_distances_leave_their_arguments(shape):
    x, y = torch.from_numpy(points(30)).reshape(2, 2, 3, 5)
    before = x.clone(), y.clone()
    shapes.OUTLINES[shape](x, y)
    assert x.equal(before[0])
    assert y.equal(before[1])


def test_areas():
    for shape, corners in POLYGONS.items():
        (x, y), (x1, y1) = np.transpose(corners), np.roll(corners, -1, 0).T
        assert shapes.AREAS[shape] == pytest.approx(abs((x * y1 - x1 * y).sum()) / 2, rel=1e-12)
    assert shapes.AREAS["circle"] == pytest.approx(math.pi / 4, rel=1e-12)
    assert shapes.AREAS["ring"] == pytest.approx(math.pi / 4 - math.pi / 16, rel=1e-12)
    assert set(shapes.AREAS) == set(shapes.OUTLINES) == set(SHAPES)


@pytest.mark.parametrize("shape", SHAPES)
def test_boxes_are_tight_and_at_least_the_extent(shape):
    for angle in (*ANGLES, 3.21, -7.77):
        left, top, right, bottom = shapes.box(shape, angle)
        assert min(right - left, bottom - top) >= 1
        # Counter-clockwise, as complex numbers; then y down.
        turn = np.exp(1j * math.radians(angle))
        corners = POLYGONS.get(shape, [polar(0.5, k / 10) for k in range(3600)])
        turned = np.array([complex(*corner) for corner in corners]) * turn
        sides = turned.real.min(), -turned.imag.max(), turned.real.max(), -turned.imag.min()
        np.testing.assert_allclose((left, top, right, bottom), sides, rtol=0, atol=2e-6)


def test_things_are_at_least_eight_pixels_of_32():
    assert EXTENTS["small"][0] * 32 == 8
    assert EXTENTS["small"][1] < EXTENTS["large"][0]


def test_things_have_their_box_in_the_picture():
    thing = Thing("triangle", "red", "small", 0.4, 0.6, 0.27)
    wide = 1 / math.sqrt(3)
    expected = (0.4 - 0.27 * wide, 0.6 - 0.27 * 2 / 3, 0.4 + 0.27 * wide, 0.6 + 0.27 / 3)
    assert thing.box() == pytest.approx(expected, abs=1e-6)
    # Turned counter-clockwise: the right corner goes on to the right, the left one down.
    cos, sin = math.cos(math.radians(10)), math.sin(math.radians(10))
    turned = Thing("triangle", "red", "small", 0.4, 0.6, 0.27, angle=10).box()
    assert turned[2] == pytest.approx(0.4 + 0.27 * (wide * cos + sin / 3), abs=1e-6)
    assert turned[3] == pytest.approx(0.6 + 0.27 * (wide * sin + cos / 3), abs=1e-6)


def test_colours_are_what_they_are_called():
    hues = {
        "red": 0,
        "orange": 30,
        "yellow": 50,
        "green": 131,
        "blue": 219,
        "purple": 277,
        "pink": 330,
        "brown": 25,
        "navy": 226,
    }
    hsv = {k: colorsys.rgb_to_hsv(*np.array(v) / 255) for k, v in (COLOURS | BACKGROUNDS).items()}
    for name, hue in hues.items():
        away = (hsv[name][0] * 360 - hue + 180) % 360 - 180
        assert abs(away) < 4, name
    assert hsv["brown"][2] < 0.5 < hsv["orange"][2]
    assert hsv["pink"][1] < 0.5 < hsv["red"][1]
    assert hsv["navy"][2] < 0.4
    assert all(hsv[name][1] < 0.2 for name in ("white", "grey", "black"))
    assert hsv["black"][2] < 0.1 < 0.5 < hsv["grey"][2] < 0.7 < 0.95 < hsv["white"][2]


def test_colours_can_be_told_apart(record_property):
    colours = {k: np.array(v) / 127.5 - 1 for k, v in (COLOURS | BACKGROUNDS).items()}
    away = {
        (a, b): float(np.linalg.norm(colours[a] - colours[b])) for a, b in combinations(colours, 2)
    }
    on_paper = {pair: d for pair, d in away.items() if set(pair) & set(COLOURS)}
    closest = min(on_paper, key=on_paper.get)
    record_property(
        "counts",
        f"scenes: {len(SHAPES)} shapes, {len(COLOURS)} colours, {len(SIZES)} sizes, "
        f"{len(BACKGROUNDS)} backgrounds; {' and '.join(closest)} are closest, "
        f"{on_paper[closest]:.2f} apart in [-1, 1]^3",
    )
    assert on_paper[closest] > 0.6
    assert min(away.values()) > 0.48
    assert min(d for (a, b), d in away.items() if a in COLOURS and b in BACKGROUNDS) > 0.75
    assert not set(COLOURS) & set(BACKGROUNDS)
    assert (len(SHAPES), len(COLOURS), len(SIZES), len(BACKGROUNDS)) == (6, 8, 2, 4)


def test_what_is_held_out(record_property):
    pairs, relations = sorted(HELD_OUT_PAIRS), sorted(HELD_OUT_RELATIONS)
    record_property(
        "counts",
        f"scenes: {len(pairs)} colour-shape pairs of {len(COLOURS) * len(SHAPES)} held out: "
        + ", ".join(map(" ".join, pairs)),
    )
    record_property(
        "counts",
        f"scenes: {len(relations)} relations held out: " + ", ".join(map(" ".join, relations)),
    )
    assert pairs == [
        ("blue", "square"),
        ("brown", "triangle"),
        ("orange", "circle"),
        ("purple", "cross"),
        ("red", "ring"),
        ("yellow", "star"),
    ]
    assert relations == [
        ("circle", "above", "triangle"),
        ("circle", "left of", "square"),
        ("cross", "above", "circle"),
        ("cross", "left of", "ring"),
        ("ring", "above", "square"),
        ("ring", "left of", "circle"),
        ("square", "above", "star"),
        ("square", "left of", "triangle"),
        ("star", "above", "ring"),
        ("star", "left of", "cross"),
        ("triangle", "above", "cross"),
        ("triangle", "left of", "star"),
    ]


def test_relations_go_by_the_axis_that_dominates():
    """Turning the plane through all directions: four equal sectors, with gaps between them."""
    for dominance in (1.0, 1.15, 1.25, 2.0):
        half = math.degrees(math.atan(1 / dominance))
        for degrees in np.arange(0.5, 360):
            dx, dy = math.cos(math.radians(degrees)), -math.sin(math.radians(degrees))
            names = (("right of", 0), ("above", 90), ("left of", 180), ("below", 270))
            expected = [n for n, at in names if abs((degrees - at + 180) % 360 - 180) < half]
            found = world.relation(0.3 * dx, 0.3 * dy, dominance)
            assert found == (expected[0] if expected else None), (degrees, dominance)
    assert world.relation(0.0, 0.0, 1.25) is None
    assert world.relation(0.5, 0.4, 1.25) == "right of"
    assert world.relation(0.4, -0.5, 1.25) == "above"


def square(colour, x, y, extent=0.25):
    return Thing("square", colour, "small", x, y, extent)


def test_relations_between_things():
    things = (square("red", 0.2, 0.2), square("blue", 0.7, 0.3), square("pink", 0.3, 0.8))
    scene = Scene(things, "white")
    found = {(i, j): scene.relation(i, j) for i in range(3) for j in range(3) if i != j}
    assert found == {
        (0, 1): "left of",
        (1, 0): "right of",
        (0, 2): "above",
        (2, 0): "below",
        (1, 2): "above",
        (2, 1): "below",
    }
    assert all(world.OPPOSITE[r] == found[j, i] for (i, j), r in found.items())
    # 1.15 is enough to hold, though none is drawn below 1.25.
    for ratio, relation in ((1.16, "left of"), (1.14, None)):
        diagonal = Scene((square("red", 0.2, 0.2), square("blue", 0.2 + 0.4 * ratio, 0.6)), "white")
        assert diagonal.relation(0, 1) == relation
        with pytest.raises(ValueError, match=r"one axis at least 1\.25 times the other"):
            diagonal.check_room()


def test_gaps_between_boxes():
    box = (0.2, 0.3, 0.5, 0.7)
    for other, expected in (
        ((0.6, 0.3, 0.8, 0.7), 0.1),
        ((0.0, 0.3, 0.05, 0.7), 0.15),
        ((0.2, 0.9, 0.5, 1.0), 0.2),
        ((0.2, 0.0, 0.5, 0.25), 0.05),
        ((0.6, 0.9, 0.8, 1.0), 0.2),
        ((0.4, 0.6, 0.8, 0.8), -0.1),
    ):
        assert world.gap(box, other) == pytest.approx(expected)
        assert world.gap(other, box) == pytest.approx(expected)


def test_what_just_has_room():
    edge, apart = MARGIN + 0.125, 0.25 + GAP
    for x, y in ((edge, edge), (1 - edge, edge), (edge, 1 - edge), (1 - edge, 1 - edge)):
        Scene((square("red", x, y),), "white").check_room()
        for dx, dy in ((1e-6, 0), (0, 1e-6)):
            out = x + math.copysign(dx, x - 0.5), y + math.copysign(dy, y - 0.5)
            with pytest.raises(ValueError, match=r"0\.0312 to 0\.9688, the red square has the box"):
                Scene((square("red", *out),), "white").check_room()
    Scene((square("red", 0.3, 0.5), square("blue", 0.3 + apart, 0.5)), "white").check_room()
    Scene((square("red", 0.3, 0.3), square("blue", 0.4, 0.3 + apart)), "white").check_room()
    close = Scene((square("red", 0.3, 0.5), square("blue", 0.3 + apart - 1e-6, 0.5)), "white")
    with pytest.raises(
        ValueError, match=r"boxes 0\.0625 apart, the red square and the blue square"
    ):
        close.check_room()


@pytest.mark.parametrize("place", [(math.nan, 0.5), (0.5, math.nan), (0.5, math.inf), (-0.5, 0.5)])
def test_a_place_outside_or_none_at_all_is_impossible(place):
    with pytest.raises(ValueError, match="things: expected all within"):
        Scene((square("red", *place),), "white").check_room()


def test_a_third_thing_needs_room_too():
    things = [square("red", 0.2, 0.2), square("blue", 0.7, 0.2), square("pink", 0.75, 0.3)]
    for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
        with pytest.raises(ValueError, match="pink square"):
            Scene(tuple(things[k] for k in order), "white").check_room()


def test_bad_arguments_are_named(no_typecheck):
    one = square("red", 0.5, 0.5)
    alike = Thing("square", "red", "large", 0.2, 0.2, 0.36)
    for call, message in (
        (lambda: Thing("dog", "red", "small", 0.5, 0.5, 0.25), "shape: .*circle.*came 'dog'"),
        (lambda: Thing("star", "mauve", "small", 0.5, 0.5, 0.25), "colour: .*red.*came 'mauve'"),
        (lambda: Thing("star", "red", "huge", 0.5, 0.5, 0.25), "size: .*small.*came 'huge'"),
        (
            lambda: Thing("star", "red", "small", 0.5, 0.5, 0.3),
            r"extent: expected 0\.2500 to 0\.2812 for a small thing, came 0\.3",
        ),
        (lambda: square("red", 0.5, 0.5, 0.24), r"extent: .*came 0\.24"),
        (lambda: square("red", 0.5, 0.5, math.nan), "extent: .*came nan"),
        (
            lambda: Thing("star", "red", "small", 0.5, 0.5, 0.25, -11.0),
            r"angle: expected -10 to 10, came -11\.0",
        ),
        (lambda: Thing("star", "red", "small", 0.5, 0.5, 0.25, math.nan), "angle: .*came nan"),
        (lambda: Scene((), "white"), "things: expected 1 to 3, came 0"),
        (
            lambda: Scene(tuple(square(c, 0.5, 0.5) for c in list(COLOURS)[:4]), "white"),
            "things: expected 1 to 3, came 4",
        ),
        (lambda: Scene((one, alike), "white"), "no two alike, came a second red square"),
        (lambda: Scene((one,), "red"), "background: expected one of white, .*came 'red'"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
