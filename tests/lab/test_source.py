"""`show_source`: the text is the file's, and legible on light and dark."""

import functools
import inspect
import re
from html import unescape
from pathlib import Path

import pytest
import torch
from test_plots import contrast

import course.lab
import course.lab.plots
from course.lab.plots import Palette, image_grid
from course.lab.predict import Question
from course.lab.source import Source, _BothThemes, show_source


@pytest.mark.parametrize(
    ("obj", "plain", "file"),
    [
        (image_grid, inspect.unwrap(image_grid), "course/lab/plots.py"),
        (Palette, Palette, "course/lab/plots.py"),
        (Question.right, inspect.unwrap(Question.right.fget), "course/lab/predict.py"),
        (Source("", "")._repr_html_, inspect.unwrap(Source._repr_html_), "course/lab/source.py"),
        (course.lab.plots, course.lab.plots, "course/lab/plots.py"),
        (course.lab, course.lab, "course/lab/__init__.py"),
        (torch.nn.Linear, torch.nn.Linear, "torch/nn/modules/linear.py"),
    ],
    ids=["function", "class", "property", "method", "module", "package", "torch"],
)
def test_is_the_source_and_where_it_stands(obj, plain, file, shown):
    show_source(obj)
    source = inspect.getsource(plain)
    assert shown[0]["data"]["text/plain"] == source.rstrip("\n")
    html = shown[0]["data"]["text/html"]
    assert source.strip("\n") in unescape(re.sub(r"<[^>]*>", "", html))
    place, first, last = re.search(r"<b>(.*), lines (\d+)-(\d+)</b>", html).groups()
    assert place == file
    path = Path(inspect.getsourcefile(plain))
    lines = path.read_text().splitlines(keepends=True)
    assert "".join(lines[int(first) - 1 : int(last)]) == source
    assert path.as_posix() not in html


def test_looks_through_wrappers(shown):
    @functools.wraps(Source.__init__)
    def wrapper(*args):
        return None

    assert inspect.unwrap(image_grid) is not image_grid, "the hook of the tests wraps it"
    show_source(wrapper)
    assert shown[0]["data"]["text/plain"].lstrip().startswith("def __init__(self, text")


@pytest.mark.usefixtures("no_typecheck")
@pytest.mark.parametrize(
    ("obj", "said"),
    [
        (len, "got len$"),
        (torch.relu, "got .*relu$"),
        (3, "got 3; for an instance, ask for its class int"),
        (Source("x = 1", "p"), "got x = 1; for an instance, ask for its class Source"),
    ],
)
def test_what_has_no_source_is_named(obj, said):
    with pytest.raises(ValueError, match=f"obj: expected something written in Python, {said}"):
        show_source(obj)


def test_colours_are_legible_on_light_and_dark():
    colours = {f"#{style['color']}" for _, style in _BothThemes if style["color"]}
    assert len(colours) == 3
    for colour in colours:
        assert contrast(colour, "#ffffff") > 4.1
        assert contrast(colour, "#111111") > 4.1  # JupyterLab's dark theme


def test_html_sets_no_background_and_no_other_colour(shown):
    show_source(image_grid)
    html = shown[0]["data"]["text/html"]
    assert set(re.findall(r"background[^;\"]*", html)) == {"background:none"}
    assert set(re.findall(r"(?<!-)color: ?([^;\"]*)", html)) <= {
        "inherit", "#2f7ac0", "#0c8a5f", "#9a5fd0", "#2F7AC0", "#0C8A5F", "#9A5FD0",
    }  # fmt: skip
