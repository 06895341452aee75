"""`explore`: static pictures first, then controls that redraw the last one."""

import base64

import ipywidgets
import nbclient
import nbformat.v4 as v4
import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell
from ipywidgets.widgets.widget import _instances
from matplotlib.figure import Figure
from test_picture import decoded

from course.lab.widgets import explore

VIEW = "application/vnd.jupyter.widget-view+json"


class Grey:
    """Draws a figure filled with a grey level, and remembers what it was called with."""

    def __init__(self):
        self.calls = []

    def __call__(self, level=0, sort="plain", on=False):
        self.calls.append((level, sort, on))
        return Figure(figsize=(1, 1), facecolor=(level / 255,) * 3)


def controls(output):
    """The controls of a displayed panel by description."""
    panel = _instances[output["data"][VIEW]["model_id"]]
    return {box.description: box for box in panel.children}


def level(output):
    picture = decoded(base64.b64decode(output["data"]["image/png"]))
    assert len(np.unique(picture)) == 1
    return picture[0, 0, 0]


def test_static_pictures_then_controls(shown):
    draw = Grey()
    explore(
        draw,
        {"level": (0, 250, 10), "sort": ["plain", "fancy"], "on": True},
        alt="A grey square",
        static=[{"level": 50}, {"level": 200, "sort": "fancy", "on": False}],
    )
    assert draw.calls == [(50, "plain", True), (200, "fancy", False)]
    assert [level(o) for o in shown[:2]] == [50, 200]
    assert shown[1]["data"]["text/plain"] == (
        "A grey square (level = 200, sort = fancy, on = False)"
    )
    assert len(shown) == 3
    quiet = "Run this cell in Jupyter to move the sliders."
    assert shown[2]["data"]["text/plain"] == quiet
    assert quiet in shown[2]["data"]["text/html"]
    boxes = controls(shown[2])
    assert [type(b) for b in boxes.values()] == [
        ipywidgets.IntSlider,
        ipywidgets.Dropdown,
        ipywidgets.Checkbox,
    ]
    assert [b.value for b in boxes.values()] == [200, "fancy", False]
    assert boxes["level"].continuous_update is False


def test_moving_a_control_redraws_the_last_picture_in_place(shown):
    draw = Grey()
    explore(draw, {"level": (0, 250, 10, 30), "on": False}, alt="A grey square")
    boxes = controls(shown[1])
    name = shown[0]["transient"]["display_id"]
    del shown[:]
    boxes["level"].value = 120
    boxes["on"].value = True
    assert draw.calls == [(30, "plain", False), (120, "plain", False), (120, "plain", True)]
    assert [level(o) for o in shown] == [120, 120]
    assert all(o["update"] and o["transient"]["display_id"] == name for o in shown)


def test_one_picture_of_the_start_values_by_default(shown):
    draw = Grey()
    explore(draw, {"level": (0.0, 250.0, 2.5), "sort": ["fancy", "plain"]}, alt="A grey square")
    assert draw.calls == [(0.0, "fancy", False)]
    assert type(controls(shown[1])["level"]) is ipywidgets.FloatSlider


def test_an_error_while_moving_takes_the_place_of_the_picture(shown):
    def draw(level):
        if level == 3:
            raise RuntimeError("three is broken")
        return Figure(figsize=(1, 1))

    explore(draw, {"level": (0, 5, 1)}, alt="A square")
    boxes = controls(shown[1])
    name = shown[0]["transient"]["display_id"]
    del shown[:]
    boxes["level"].value = 3
    boxes["level"].value = 4
    failed, good = shown
    assert set(failed["data"]) == {"text/plain"}
    assert "RuntimeError: three is broken" in failed["data"]["text/plain"]
    assert "image/png" in good["data"]
    assert all(o["update"] and o["transient"]["display_id"] == name for o in shown)


def test_an_error_at_the_start_is_raised(shown):
    with pytest.raises(ValueError, match="draw: expected it to return a matplotlib Figure"):
        explore(lambda level: None, {"level": (0, 5, 1)}, alt="Nothing")


def test_outside_ipython_it_prints_what_it_would_show(capsys):
    InteractiveShell.clear_instance()
    explore(Grey(), {"level": (0, 250, 10)}, alt="A grey square")
    assert capsys.readouterr().out.strip() == "A grey square (level = 0)"


@pytest.mark.usefixtures("no_typecheck")
@pytest.mark.parametrize(
    ("values", "static", "said"),
    [
        ({"depth": (0, 5, 1)}, None, "controls: draw can't be called with depth: .*'depth'"),
        ({}, None, "controls: expected a dict of at least one"),
        ({"level": (0, 5)}, None, r"controls\['level'\]: expected \(min, max, step"),
        ({"level": (5, 0, 1)}, None, r"controls\['level'\].*got \(5, 0, 1\)"),
        ({"level": (0, 5, 0)}, None, r"controls\['level'\]"),
        ({"level": (0, 5, 1, 9)}, None, r"controls\['level'\]"),
        ({"level": ("a", "b", "c")}, None, r"controls\['level'\]"),
        ({"level": []}, None, r"controls\['level'\]"),
        ({"level": 3}, None, r"controls\['level'\]"),
        ({"level": (0, 5, 1)}, [], "static: expected at least one"),
        ({"level": (0, 5, 1)}, [{"level": 1}, {"depth": 2}], "static: .*level, got 'depth'"),
        ({"level": (0, 5, 1)}, [{"level": 6}], "static: expected level within its slider, got 6"),
        ({"level": (0, 5, 1)}, [{"level": "a"}], "static: level = 'a' is none of its values"),
        ({"sort": ["plain"]}, [{"sort": "fancy"}], "static: sort = 'fancy' is none"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_drawn(values, static, said, shown):
    draw = Grey()
    with pytest.raises(ValueError, match=said):
        explore(draw, values, "A grey square", static)
    assert draw.calls == []
    assert shown == []


@pytest.mark.usefixtures("no_typecheck")
def test_a_needed_argument_without_a_control_is_refused(shown):
    with pytest.raises(ValueError, match=r"controls: draw can't be called with a: .*'b'"):
        explore(lambda a, b: Figure(), {"a": True}, alt="A square")


def test_in_a_real_kernel():
    """Redrawn in place in the stored notebook, and a page without widget state shows the rest."""
    cell = """
from matplotlib.figure import Figure
from course.lab.widgets import explore
explore(lambda v: Figure((1, 1), facecolor=(v / 255,) * 3), {"v": (0, 250, 10, 20)}, "Grey")
"""
    move = """
from ipywidgets import IntSlider, Widget
from ipywidgets.widgets.widget import _instances
[slider] = [w for w in _instances.values() if isinstance(w, IntSlider)]
slider.value = 150
"""
    notebook = v4.new_notebook(cells=[v4.new_code_cell(cell), v4.new_code_cell(move)])
    nbclient.NotebookClient(notebook, timeout=60, store_widget_state=False).execute()
    picture, panel = notebook.cells[0].outputs
    assert level(picture) == 150
    assert picture["metadata"]["image/png"]["alt"] == "Grey (v = 150)"
    assert set(panel["data"]) == {VIEW, "text/html", "text/plain"}
    assert notebook.cells[1].outputs == []
    nbconvert = pytest.importorskip("nbconvert")
    html, _ = nbconvert.HTMLExporter().from_notebook_node(notebook)
    assert html.count("Run this cell in Jupyter to move the sliders.") == 1
    assert "model_id" not in html
    assert html.count("<img") == 1
