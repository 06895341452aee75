"""The studio: what is right and wrong in words, its figure, and controls that draw the next one."""

import re

import ipywidgets
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from ipywidgets.widgets.widget import _instances

from course import pipeline
from course.data import scenes
from course.data.scenes import CaptionedScenes, Scene, Thing, Unreadable, holds, parse
from course.lab.studio import Studio, caption_of, compare, word_maps
from course.pipeline.results import AttentionMaps

VIEW = "application/vnd.jupyter.widget-view+json"
CAPTION = "a red star above a blue circle on grey"
LONG = (
    "there is a little red star to the left of a large blue circle, "
    "which is under a large green ring on a white background"
)
STAR = Thing("star", "red", "small", 0.5, 0.25, 8.5 / 32)
CIRCLE = Thing("circle", "blue", "large", 0.5, 0.7, 11.5 / 32)


@pytest.fixture(scope="module")
def draw():
    return pipeline.load("scenes-ldm")


@pytest.mark.parametrize(
    ("caption", "right", "wrong"),
    [
        (CAPTION, ("red star", "blue circle", "star above circle", "on grey"), ()),
        ("a blue circle and a star", ("blue circle", "star"), ()),
        (
            "a large red star left of a blue circle on navy",
            ("blue circle",),
            (
                "large red star is small, not large",
                "large red star is above, not left of blue circle",
                "on grey, not navy",
            ),
        ),
        ("a small red ring and a circle", ("circle",), ("small red ring is star, not ring",)),
        ("a blue circle", ("blue circle",), ("one more: red star",)),
        (
            "a pink circle, a star and a green ring",
            ("star",),
            ("pink circle is blue, not pink", "green ring is not there"),
        ),
    ],
)
def test_what_is_right_and_wrong_in_words(caption, right, wrong):
    assert compare(parse(caption), Scene((STAR, CIRCLE), "grey")) == (right, wrong)


def test_two_at_a_slant_stand_in_no_relation():
    aside = Thing("circle", "blue", "large", 0.82, 0.6, 11.5 / 32)
    _, wrong = compare(parse(CAPTION), Scene((STAR, aside), "grey"))
    assert wrong == ("red star is at a slant, not above blue circle",)


def test_a_picture_that_is_no_scene_is_wrong():
    assert compare(parse(CAPTION), Unreadable("all fog")) == ((), ("no scene: all fog",))


def test_nothing_is_wrong_just_where_the_caption_holds():
    examples = CaptionedScenes(120, "test", 3).examples(range(120))
    true = 0
    for one in examples:
        assert compare(one.meaning, one.scene)[1] == ()
        for other in examples[:40]:
            held = holds(one.meaning, other.scene)
            assert (compare(one.meaning, other.scene)[1] == ()) == held
            true += held
    assert true > 40


def test_the_map_of_a_word_is_the_mean_at_the_finest_level():
    fine, coarse = torch.rand(2, 1, 3, 4, 6, 4), torch.rand(2, 1, 3, 2, 3, 4)
    maps = AttentionMaps((("red</w>", "star</w>"),), {"a": coarse, "b": fine})
    expected = coarse.repeat_interleave(2, 3).repeat_interleave(2, 4) + fine
    expected = expected[:, 0].mean((0, 1)) / 2
    found = word_maps(maps)
    assert found.shape == (2, 4, 6)
    assert torch.allclose(found, expected[..., 1:3].permute(2, 0, 1))


def test_a_drawing_is_the_pipelines_picture_with_its_story(draw):
    drawing = Studio(draw).draw(CAPTION, seed=2, steps=4, scale=2.0)
    images = draw(CAPTION, seed=2, steps=4, guidance_scale=2.0, progress=False).images
    assert torch.allclose(drawing.image, images[0], atol=1e-4)
    assert drawing.t.tolist() == [999, 666, 333, 0]
    assert torch.allclose(drawing.strip[-1], drawing.image, atol=1e-2)
    assert " ".join(drawing.words) == CAPTION
    assert drawing.maps.shape == (len(drawing.words), 8, 8)
    assert (drawing.wrong == ()) == scenes.caption_true(drawing.image, CAPTION)
    assert re.fullmatch(r"(right: .+)?\n?(wrong: .+)?", drawing.score)


def test_the_strip_is_spread_over_all_steps(draw):
    drawing = Studio(draw).draw(CAPTION, steps=12)
    assert len(drawing.strip) == len(drawing.t) == 10
    assert (drawing.t[0], drawing.t[-1]) == (999, 0)


@pytest.mark.parametrize(
    "caption",
    [
        CAPTION,
        LONG,
    ],
)
def test_the_figure_fits_a_page_and_has_all_words(draw, caption):
    drawing = Studio(draw).draw(caption, steps=2)
    fig = drawing.figure()
    width, height = fig.get_size_inches()
    assert (width, height <= 4) == (8, True)
    titles = [ax.get_title() for ax in fig.axes]
    assert titles == ["", "t = 999", "t = 0", *drawing.words]
    fig.draw_without_rendering()
    boxes = [ax.get_tightbbox() for ax in fig.axes] + [t.get_window_extent() for t in fig.texts]
    assert all(b.y0 >= 0 and b.x0 >= 0 and b.y1 <= fig.bbox.y1 and b.x1 <= 800 for b in boxes)
    assert max(t.get_window_extent().y1 for t in fig.texts) < min(b.y0 for b in boxes[:-1])


@pytest.mark.parametrize(
    ("caption", "said"),
    [
        ("a red hexagon", "'hexagon' is unknown"),
        ("a red star above itself", "nothing stands"),
        ("a star, a ring, a cross and a circle", "at most 3 things"),
    ],
)
def test_what_cannot_be_drawn_is_said(draw, caption, said):
    with pytest.raises(ValueError, match=said):
        Studio(draw).draw(caption)


def test_the_menus_say_a_sentence():
    choice = {"size": "any", "colour": "red", "shape": "star", "relation": "above"}
    choice |= {"size 2": "large", "colour 2": "any", "shape 2": "ring", "background": "navy"}
    assert caption_of(choice) == "a red star above a large ring on a navy background"
    assert caption_of(choice | {"relation": "and", "background": "any"}) == (
        "a red star and a large ring"
    )
    assert caption_of(choice | {"shape 2": "nothing else"}) == "a red star on a navy background"


def boxes_of(output):
    """The controls of the displayed panel by description."""
    found, left = {}, [_instances[output["data"][VIEW]["model_id"]]]
    while left:
        box = left.pop()
        left += getattr(box, "children", ())
        found[getattr(box, "description", "")] = box
    return found


def test_controls_draw_the_next_picture_in_place(shown, draw):
    Studio(draw, "a red star on grey", seed=3)._ipython_display_()
    picture, panel = shown
    assert "a red star on grey" in picture["data"]["text/plain"]
    assert panel["data"]["text/plain"] == "Run this cell in Jupyter to write captions of your own."
    name, boxes = picture["transient"]["display_id"], boxes_of(panel)
    assert (boxes["caption"].value, boxes["seed"].value) == ("a red star on grey", 3)
    boxes["steps"].value = 2
    del shown[:]
    boxes["shape 2"].value = "ring"
    boxes["caption"].value = "a blue dog"
    boxes["caption"].value = "a pink ring"
    built, refused, good = shown
    assert "a circle and a circle" not in built["data"]["text/plain"]
    assert "ring" in built["data"]["text/plain"]
    assert set(refused["data"]) == {"text/plain"}
    assert "'dog' is unknown" in refused["data"]["text/plain"]
    assert "image/png" in good["data"]
    assert "a pink ring" in good["data"]["text/plain"]
    assert all(o["update"] and o["transient"]["display_id"] == name for o in shown)
    assert isinstance(boxes["scale"], ipywidgets.FloatSlider)


def test_outside_ipython_it_prints_what_it_would_show(draw, capsys):
    InteractiveShell.clear_instance()
    Studio(draw, "a red star on grey")._ipython_display_()
    assert "A picture for 'a red star on grey'" in capsys.readouterr().out
