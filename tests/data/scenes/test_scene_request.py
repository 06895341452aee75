"""Which captions can be drawn: those of scenes can, and what no scene can show is said."""

from itertools import product

import pytest

from course.data.scenes import caption_holds, draw, parse
from course.data.scenes.dataset import CaptionedScenes
from course.data.scenes.layout import ANGLES
from course.data.scenes.request import check_request, tell
from course.data.scenes.shapes import box
from course.data.scenes.world import COLOURS, EXTENTS, GAP, MARGIN, SHAPES, SIZES, Scene, Thing

SPLITS = ("train", "test", "new_pairs", "new_relations")


@pytest.mark.parametrize("split", SPLITS)
def test_what_is_true_of_a_scene_can_be_asked_for(split):
    for example in CaptionedScenes(400, split, seed=2).examples(range(400)):
        assert check_request(example.caption) == example.meaning
        assert check_request(f" {example.caption.capitalize()}. ") == example.meaning


@pytest.mark.parametrize("split", SPLITS)
def test_what_is_told_is_true_and_names_all(split):
    for scene in draw(4, range(200), split):
        text = tell(scene)
        assert caption_holds(text, scene)
        meaning = check_request(text)
        assert meaning.background == scene.background
        named = {(m.colour, m.shape, m.size) for m in meaning.mentions}
        assert named == {(t.colour, t.shape, t.size) for t in scene.things}
        assert len(meaning.relations) == len(scene.things) - 1


def test_without_a_relation_the_things_are_told():
    things = Thing("star", "red", "small", 0.2, 0.2, 0.25), Thing("ring", "blue", "small", 0.8, 0.8, 0.25)
    assert tell(Scene(things, "navy")) == (
        "a small red star and a small blue ring on a navy background"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a red hexagn", "'hexagn' is unknown; a thing is a circle, square"),
        ("a red sqare", "'sqare' is unknown; the nearest known words are square, star, large"),
        ("a rad star", "'rad' is unknown; the nearest known words are red, and"),
        ("two stars", "'two' is unknown; the nearest known word is to"),
        ("a red, stra", "'stra' is unknown"),
        ("a ring, a star, a cross and a square", "at most 3 things, these are 4"),
        ("a ring and a star and a cross and a ring and a ring", "at most 3 things, these are 5"),
        ("a red star above a red star", "a picture has one red star at most, these are two"),
        ("a red star, a ring and a small red star", "a picture has one red star at most"),
        ("a red star above itself", "nothing stands left of, right of, above or below itself"),
        ("a navy star", "only a background is navy, a star is red, orange, .* or brown"),
        ("a star on a red background", "no background is red, it is white, grey, black or navy"),
        ("a star on pink", "no background is pink, it is"),
        ("a star above", "expected 'a' or 'an' after 'above', came the end"),
        ("star", r"expected 'a', 'an' or 'there', came 'star' \(word 1\)"),
        ("", "expected 'a', 'an' or 'there', came the end"),
        ("a large star left of a ring, which is left of a cross", "no room .* side by side"),
        ("a star to the right of a ring, which is right of a big cross", "no room .* side by side"),
        ("a star left of a ring and right of a large cross", "no room .* side by side"),
        ("a star above a ring and under a large cross", "no room .* one above the other"),
        ("a large star below a ring, which is below a cross", "no room .* one above the other"),
        (
            "a triangle left of a red triangle, which is left of a blue triangle",
            "no room .* side by side",
        ),
    ],
)
def test_what_cannot_be_is_said(text, said):
    with pytest.raises(ValueError, match=f"^caption: .*{said}"):
        check_request(text)


@pytest.mark.parametrize(
    "text",
    [
        "a star above a star",
        "a red star above a star",
        "a ring left of a cross, which is left of a square",
        "a triangle above a red triangle, which is above a blue triangle",
        "a large star above a large ring and above a large cross",
        "a large star above a large ring, which is left of a large cross",
        "a large star left of a large ring and above a large cross",
        "a large star above a large ring, which is below a large cross",
        "there is an orange star to the left of a brown ring on navy",
    ],
)
def test_what_can_be_passes(text):
    assert check_request(text) == parse(text)


@pytest.mark.parametrize("level", [True, False])
def test_a_row_passes_just_if_there_is_one(level):
    """All rows of three, built as narrow as they can be: upright or turned, at the margin."""
    relation = "left of" if level else "above"
    low = 0 if level else 1
    passed = 0
    for shapes in product(SHAPES, repeat=3):
        for sizes in (("small",) * 3, ("small", "large", "small")):
            at, things = MARGIN, []
            for shape, size, colour in zip(shapes, sizes, COLOURS, strict=False):
                extent = EXTENTS[size][0]
                angle = min(ANGLES, key=lambda a, s=shape: box(s, a)[low + 2] - box(s, a)[low])
                sides = box(shape, angle)
                centre = at - extent * sides[low]
                at += extent * (sides[low + 2] - sides[low]) + GAP
                x, y = (centre, 0.5) if level else (0.5, centre)
                things.append(Thing(shape, colour, size, x, y, extent, angle))
            try:
                Scene(tuple(things), "white").check_room()
                room = True
            except ValueError:
                room = False
            names = [f"{'an' if t.colour == 'orange' else 'a'} {t.colour} {t.shape}" for t in things]
            if "large" in sizes:
                names[1] = f"a large {things[1].colour} {things[1].shape}"
            text = f"{names[0]} {relation} {names[1]}, which is {relation} {names[2]}"
            try:
                check_request(text)
                assert room, text
                passed += 1
            except ValueError:
                assert not room, text
    assert 0 < passed < 2 * len(SHAPES) ** 3
    assert set(sizes) <= set(SIZES)
