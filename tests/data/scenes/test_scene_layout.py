"""Scenes drawn by lot: the same everywhere, with room, with no held-out composition in training."""

import functools
import math
from collections import Counter
from itertools import combinations, permutations, product

import numpy as np
import pytest
from scipy import stats

from course.data.scenes import layout
from course.data.scenes.layout import SPLITS, draw, raw_bits
from course.data.scenes.world import (
    BACKGROUNDS,
    COLOURS,
    DOMINANCE,
    EXTENTS,
    GAP,
    HELD_OUT_PAIRS,
    HELD_OUT_RELATIONS,
    MARGIN,
    RELATIONS,
    SHAPES,
    SIZES,
    gap,
)

COUNT = 3000

# Colour, shape, size, x, y, extent and angle of each thing, from seed 2026.
KNOWN = {
    ("train", 0): (
        "white",
        [
            ("brown", "square", "small"),
            ("green", "circle", "large"),
            ("brown", "star", "large"),
        ],
        [
            (0.17907725502498667, 0.6046506373920579, 0.2592359998474098, 8.75),
            (0.42952259417936245, 0.21068703746089876, 0.3588740749217975, -5.0),
            (0.7669687046706912, 0.6717828444201472, 0.3728384641794461, -6.25),
        ],
    ),
    ("train", 1): (
        "grey",
        [
            ("yellow", "cross", "large"),
            ("purple", "star", "large"),
            ("purple", "circle", "small"),
        ],
        [
            (0.6446567129791068, 0.7874187907616159, 0.3550626573586633, 3.75),
            (0.3527243583111398, 0.23334867618019, 0.3677858205539025, -6.25),
            (0.17014381628137637, 0.7819066157901049, 0.27778763256275274, -8.75),
        ],
    ),
    ("test", 2): (
        "black",
        [("yellow", "triangle", "large"), ("green", "ring", "large")],
        [
            (0.7281716990684297, 0.764843235956358, 0.37428330281528954, -3.75),
            (0.32560828707734946, 0.22610864014960197, 0.3630893797207599, -6.25),
        ],
    ),
    ("new_pairs", 7): (
        "navy",
        [
            ("orange", "circle", "small"),
            ("orange", "ring", "large"),
            ("yellow", "ring", "large"),
        ],
        [
            (0.15807750629434653, 0.3704231923029411, 0.25365501258869305, 10.0),
            (0.6454309643051348, 0.3419910775999671, 0.3516460669871061, -10.0),
            (0.7652655193632412, 0.7845643072404058, 0.36837138551918824, 8.75),
        ],
    ),
    ("new_relations", 2**40): (
        "navy",
        [("brown", "circle", "small"), ("red", "square", "small")],
        [
            (0.21932198395775265, 0.7426440391180167, 0.2534833485923552, 5.0),
            (0.7204182268433188, 0.44180958811336374, 0.2516613260090028, 3.75),
        ],
    ),
}


@functools.cache
def drawn(split):
    return draw(11, range(COUNT), split)


def kinds(scene):
    return [(thing.colour, thing.shape) for thing in scene.things]


def place(thing):
    return thing.x, thing.y, thing.extent, thing.angle


def stands(a, b):
    """The relation of a to b, by hand."""
    dx, dy = a.x - b.x, a.y - b.y
    if abs(dx) > abs(dy):
        return "left of" if dx < 0 else "right of"
    return "above" if dy < 0 else "below"


def ordered(scene):
    """Every two things, both ways round: shape, relation, shape."""
    return [(a.shape, stands(a, b), b.shape) for a, b in permutations(scene.things, 2)]


@pytest.mark.parametrize(("split", "index"), KNOWN)
def test_known_scenes(split, index):
    background, named, places = KNOWN[split, index]
    (scene,) = draw(2026, [index], split)
    assert scene.background == background
    assert [(t.colour, t.shape, t.size) for t in scene.things] == named
    found = [place(thing) for thing in scene.things]
    np.testing.assert_allclose(found, places, rtol=0, atol=1e-12)


@pytest.mark.parametrize("split", SPLITS)
def test_a_scene_does_not_depend_on_what_is_drawn_with_it(split):
    together = drawn(split)[:400]
    some = [399, 3, 3, 17, 250, 0]
    assert draw(11, some, split) == [together[index] for index in some]
    assert draw(11, range(399, -1, -1), split) == together[::-1]
    for index in range(0, 400, 13):
        assert draw(11, iter([index]), split) == [together[index]]
    assert draw(11, [], split) == []


def test_seeds_splits_and_numbers_give_other_scenes():
    def fingerprint(scene):
        return tuple(place(thing) for thing in scene.things)

    runs = [*map(drawn, SPLITS), draw(12, range(COUNT)), draw(11, range(COUNT, 2 * COUNT))]
    assert len({fingerprint(scene) for run in runs for scene in run}) == 6 * COUNT


def test_bits_of_other_scenes_and_rounds_have_nothing_in_common():
    calls = product((0, 1, 2**40), ("train", "new_relations"), (0, 1, 5), (0, 1, 2, 2**32))
    words = [raw_bits(*call, 20) for call in calls]
    assert len(set(np.concatenate(words).tolist())) == 20 * len(words)
    np.testing.assert_array_equal(raw_bits(3, "test", 4, 5, 50)[:7], raw_bits(3, "test", 4, 5, 7))


@pytest.mark.parametrize("split", SPLITS)
def test_all_scenes_have_room(split):
    least = [math.inf] * 3
    for scene in drawn(split):
        scene.check_room()
        boxes = [thing.box() for thing in scene.things]
        least[0] = min(least[0], *[v for b in boxes for v in (b[0], b[1], 1 - b[2], 1 - b[3])])
        for (a, box), (b, other) in permutations(zip(scene.things, boxes, strict=True), 2):
            least[1] = min(least[1], gap(box, other))
            near, far = sorted((abs(a.x - b.x), abs(a.y - b.y)))
            least[2] = min(least[2], far / near)
    assert least == pytest.approx([MARGIN, GAP, DOMINANCE], rel=0.01)


@pytest.mark.parametrize("split", ["train", "test"])
def test_training_has_nothing_that_is_held_out(split):
    pairs = {pair for scene in drawn(split) for pair in kinds(scene)}
    assert pairs == set(product(COLOURS, SHAPES)) - HELD_OUT_PAIRS
    relations = {relation for scene in drawn(split) for relation in ordered(scene)}
    turned = {
        (b, {"left of": "right of", "above": "below"}[relation], a)
        for a, relation, b in HELD_OUT_RELATIONS
    }
    assert relations == set(product(SHAPES, RELATIONS, SHAPES)) - HELD_OUT_RELATIONS - turned
    for colour in COLOURS:
        assert sum(pair[0] == colour for pair in pairs) >= 5
    for shape in SHAPES:
        assert sum(pair[1] == shape for pair in pairs) == len(COLOURS) - 1


def test_new_pairs_have_one_thing_that_is_held_out():
    first = Counter()
    for scene in drawn("new_pairs"):
        held_out = [pair in HELD_OUT_PAIRS for pair in kinds(scene)]
        assert held_out == [True] + [False] * (len(held_out) - 1)
        assert not HELD_OUT_RELATIONS & set(ordered(scene))
        first[kinds(scene)[0]] += 1
    assert set(first) == HELD_OUT_PAIRS
    assert evenly(first)


def test_new_relations_are_those_that_are_held_out():
    found = Counter()
    for scene in drawn("new_relations"):
        a, b = scene.things[:2]
        assert not HELD_OUT_PAIRS & set(kinds(scene))
        found[a.shape, stands(a, b), b.shape] += 1
    assert set(found) == HELD_OUT_RELATIONS
    assert evenly(found)


def evenly(found, shares=None):
    """Whether counts are so near their shares as chance has them, but for once in 10,000."""
    keys = sorted(found) if shares is None else list(shares)
    counts = np.array([found[key] for key in keys])
    expected = None if shares is None else [shares[key] * counts.sum() for key in keys]
    assert set(keys) >= set(found)
    return stats.chisquare(counts, expected).pvalue > 1e-4


@pytest.mark.parametrize("split", SPLITS)
def test_shares(split):
    scenes = drawn(split)
    shares = {1: 0.2, 2: 0.5, 3: 0.3} if split != "new_relations" else {2: 0.7, 3: 0.3}
    assert evenly(Counter(len(scene.things) for scene in scenes), shares)
    assert evenly(Counter(scene.background for scene in scenes))
    assert len({scene.background for scene in scenes}) == len(BACKGROUNDS)
    for place in range(3):
        sizes = Counter(s.things[place].size for s in scenes if len(s.things) > place)
        assert evenly(sizes, dict.fromkeys(SIZES, 0.5))
        if split in ("train", "test"):
            assert evenly(Counter(kinds(s)[place] for s in scenes if len(s.things) > place))
    both = Counter(tuple(t.size for t in s.things) for s in scenes if len(s.things) == 2)
    assert evenly(both, dict.fromkeys(product(SIZES, SIZES), 0.25))


@pytest.mark.parametrize("split", ["train", "test", "new_pairs"])
def test_relations_are_about_equally_many(split):
    found = Counter(stands(*two) for s in drawn(split) for two in combinations(s.things, 2))
    assert set(found) == set(RELATIONS)
    assert evenly({r: found[r] for r in ("left of", "right of")})
    assert evenly({r: found[r] for r in ("above", "below")})
    # Triangles and stars are wider than high, so that a little more stands above.
    assert found["above"] + found["below"] == pytest.approx(found.total() / 2, rel=0.06)


def test_sizes_places_and_angles_of_single_things_are_uniform():
    ones = [scene.things[0] for scene in draw(5, range(10_000)) if len(scene.things) == 1]
    boxes = np.array([thing.box() for thing in ones])
    room = 1 - 2 * MARGIN - (boxes[:, 2:] - boxes[:, :2])
    for where in ((boxes[:, :2] - MARGIN) / room).T:
        assert stats.kstest(where, "uniform").pvalue > 1e-4
    for size in SIZES:
        low, high = EXTENTS[size]
        extents = [(thing.extent - low) / (high - low) for thing in ones if thing.size == size]
        assert stats.kstest(extents, "uniform").pvalue > 1e-4
    angles = np.array([thing.angle for thing in ones])
    np.testing.assert_allclose(np.unique(angles), np.arange(-10, 10.1, 1.25), rtol=0, atol=0)
    # The two at the ends come half as often.
    shares = dict.fromkeys(np.unique(angles), 1 / 16) | {-10.0: 1 / 32, 10.0: 1 / 32}
    assert evenly(Counter(angles), shares)


def rounds_needed(things, wanted, seed):
    """How many rounds each scene takes; checks what is found."""
    last = {}

    def words(row, stage, count):
        last[row] = stage
        return raw_bits(seed, "test", int(row), stage, count)

    for kinds_of, relation, found in zip(
        things, wanted, layout._arrange(things, wanted, words), strict=True
    ):
        assert len(found) == len(kinds_of)
        # Two alike are not drawn, but have the same room.
        named = [
            layout.Thing(shape, colour, size, *where)
            for (shape, size), colour, where in zip(kinds_of, COLOURS, found, strict=False)
        ]
        scene = layout.Scene(tuple(named), "white")
        scene.check_room()
        assert relation is None or stands(*named[:2]) == relation
        assert relation is not None or not HELD_OUT_RELATIONS & set(ordered(scene))
    return list(last.values())


def test_all_that_can_be_drawn_finds_room(record_property):
    """The three largest things, of all shapes, with and without a relation that is held out."""
    triples = [[(shape, "large") for shape in each] for each in product(SHAPES, repeat=3)]
    related = [
        ([(a, "large"), (b, "large"), (c, "large")], relation)
        for (a, relation, b), c in product(sorted(HELD_OUT_RELATIONS), SHAPES)
    ]
    rounds = []
    for seed in range(3):
        rounds += rounds_needed(triples, [None] * len(triples), seed)
        rounds += rounds_needed(*zip(*related, strict=True), seed)
    record_property(
        "counts",
        f"scenes: room for all {len(triples)} triples of large things and {len(related)} held-out "
        f"relations in {np.mean(rounds):.1f} rounds, at most {max(rounds)} of {layout.ROUNDS}",
    )
    assert len(rounds) == 3 * (216 + 72)
    assert max(rounds) < layout.ROUNDS / 2


def test_too_few_rounds_are_an_error(monkeypatch):
    monkeypatch.setattr(layout, "ROUNDS", 1)
    with pytest.raises(ValueError, match=r"things: found no room for \[\('\w+', '\w+'\), "):
        draw(0, range(100))
    monkeypatch.setattr(layout, "ROUNDS", 0)
    with pytest.raises(ValueError, match="things: found no room for"):
        draw(0, [0])


@pytest.mark.parametrize("numbers", [(0, [-1]), (0, [3, -2, 4]), (0, [2**63])])
def test_bad_indices(numbers):
    with pytest.raises(ValueError, match=r"indices: expected 0 to 2\^63 - 1, came"):
        draw(*numbers)


@pytest.mark.parametrize("seed", [-1, 2**63])
@pytest.mark.parametrize("indices", [[], [0]])
def test_bad_seeds(seed, indices):
    with pytest.raises(ValueError, match=rf"seed: expected 0 to 2\^63 - 1, came {seed}"):
        draw(seed, indices)


def test_bad_splits():
    with pytest.raises(ValueError, match=r"split: expected one of train, test, .*came 'val'"):
        draw(0, [0], "val")


def test_the_largest_numbers():
    assert draw(2**63 - 1, [2**63 - 1])[0] != draw(2**63 - 1, [2**63 - 2])[0]
