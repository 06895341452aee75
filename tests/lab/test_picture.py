"""`show`: the picture, its alternative text and its tag."""

import base64
import io

import matplotlib.pyplot as plt
import nbformat.v4 as v4
import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell
from matplotlib.figure import Figure
from PIL import Image

from course.lab.picture import render, show

ALT = 'Five <dots> & a "line"'


def decoded(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def colours(png: bytes) -> set[tuple[int, ...]]:
    return {tuple(map(int, c)) for c in decoded(png).reshape(-1, 3)}


def marked():
    return None


marked.__course_reference__ = "marked"


def test_shows_a_png_with_alt_and_closes(shown):
    fig, ax = plt.subplots(figsize=(5, 3))
    ax.plot([1, 2])
    assert plt.fignum_exists(fig.number)
    show(fig, ALT)
    assert not plt.fignum_exists(fig.number)
    assert len(shown) == 1
    assert set(shown[0]["data"]) == {"image/png", "text/plain"}
    assert shown[0]["data"]["text/plain"] == ALT
    assert shown[0]["metadata"] == {"image/png": {"alt": ALT}}
    assert decoded(base64.b64decode(shown[0]["data"]["image/png"])).shape == (300, 500, 3)


def test_nbconvert_writes_the_alt_attribute(shown):
    nbconvert = pytest.importorskip("nbconvert")
    show(Figure(figsize=(1, 1)), ALT)
    output = v4.new_output("display_data", shown[0]["data"], metadata=shown[0]["metadata"])
    notebook = v4.new_notebook(cells=[v4.new_code_cell("show(fig)", outputs=[output])])
    html, _ = nbconvert.HTMLExporter(template_name="classic").from_notebook_node(notebook)
    from bs4 import BeautifulSoup

    assert [img["alt"] for img in BeautifulSoup(html, "html.parser").select("img")] == [ALT]


def test_outside_ipython_it_prints_the_alt(capsys):
    InteractiveShell.clear_instance()
    show(Figure(figsize=(1, 1)), ALT)
    assert capsys.readouterr().out.strip() == ALT


@pytest.mark.parametrize(
    ("of", "words", "paint"),
    [
        (len, "your own code", (0x00, 0x72, 0xB2)),
        ([len, max], "your own code", (0x00, 0x72, 0xB2)),
        (marked, "the course's code", (0x5A, 0x5A, 0x5A)),
        ((len, marked), "the course's code", (0x5A, 0x5A, 0x5A)),
    ],
)
def test_tag_says_whose(of, words, paint):
    plain = render(Figure(figsize=(3, 2), facecolor="white"), ALT)
    tagged = render(Figure(figsize=(3, 2), facecolor="white"), ALT, of)
    assert tagged.alt == f"{ALT} (drawn by {words})"
    assert colours(plain.png) == {(255, 255, 255)}
    assert paint in colours(tagged.png)
    picture = decoded(tagged.png)
    assert picture.shape == (220, 300, 3)  # the strip is added: nothing of the figure is covered
    assert (picture[20:] == 255).all()
    assert (picture[:, :150] == 255).all()  # in the right corner


def test_tag_stays_within_four_inches():
    assert decoded(render(Figure(figsize=(8, 4)), ALT, len).png).shape == (400, 800, 3)
    assert decoded(render(Figure(figsize=(8, 4)), ALT).png).shape == (400, 800, 3)


def test_palette_is_near_and_only_where_it_is():
    few, many = Figure(figsize=(2, 1), layout="none"), Figure(figsize=(2, 1), layout="none")
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (100, 200, 1), dtype=np.uint8).repeat(3, 2)
    noise = rng.integers(0, 256, (100, 200, 3), dtype=np.uint8)
    few.figimage(grey)
    many.figimage(noise)
    assert (decoded(render(few, ALT).png) == grey).all()
    assert (decoded(render(many, ALT).png) == noise).all()


@pytest.mark.usefixtures("no_typecheck")
def test_bad_input():
    fig = Figure()
    for alt in ("", "  \n", None):
        with pytest.raises(ValueError, match="alt: expected a sentence"):
            show(fig, alt)
    with pytest.raises(ValueError, match="fig: expected a matplotlib Figure, got list"):
        show([fig], ALT)
    for of in ([], [1], "yours", 3):
        with pytest.raises(ValueError, match="of: expected a function"):
            show(fig, ALT, of=of)
