"""`show`: a figure as a PNG with alternative text, tagged with whose code drew it."""

import base64
import io
import sys
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from PIL import Image, ImageChops, ImageDraw, ImageFont

DPI = 100
MAX_WIDTH, MAX_HEIGHT = 8.0, 4.0  # inches: no figure of the course is larger
TAG_HEIGHT = 20  # pixels: the strip above a picture that holds its tag

# What the tag says, how alternative text says it, its colour.
_TAGS = {"yours": ("your own code", "#0072B2"), "ours": ("the course's code", "#5a5a5a")}


class Picture:
    """A PNG with the text that stands for it where it can't be seen."""

    def __init__(self, png: bytes, alt: str) -> None:
        self.png, self.alt = png, alt

    def __repr__(self) -> str:
        return self.alt

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict, dict]:
        # The place that IPython and nbconvert's classic template know for it; nbconvert 7.17's lab
        # template and JupyterLab 4.6 write no alt attribute at all, whatever stands here.
        data = {"image/png": base64.b64encode(self.png).decode(), "text/plain": self.alt}
        return data, {"image/png": {"alt": self.alt}}


def show(fig: Figure, alt: str, of: Callable | Sequence[Callable] | None = None) -> None:
    """Display a figure as a PNG with alternative text, and close it.

    fig: any matplotlib figure; the course keeps to 8 x 4 inches, drawn at 100 dots per inch.
    alt: what the picture shows, in words, for readers who can't see it.
    of: the functions that drew it; a corner then says "ours" if one of them is the course's (it has
        the attribute `__course_reference__`), else "yours".
    Raises ValueError if `fig` is not a figure, `alt` is empty or `of` holds something not callable.
    """
    from IPython.display import display

    display(render(fig, alt, of))


def render(fig: Figure, alt: str, of: Callable | Sequence[Callable] | None = None) -> Picture:
    """Draw a figure into the picture that `show` displays, and close it; arguments as there."""
    if not isinstance(fig, Figure):
        raise ValueError(f"fig: expected a matplotlib Figure, got {type(fig).__name__}")
    if not isinstance(alt, str) or not alt.strip():
        raise ValueError(f"alt: expected a sentence that says what the picture shows, got {alt!r}")
    alt = " ".join(alt.split())
    owner = None if of is None else _owner(of)
    if owner:  # the strip of the tag has to fit into the same 4 inches
        height, strip = fig.get_figheight(), TAG_HEIGHT / DPI
        fig.set_figheight(min(height, max(MAX_HEIGHT, height) - strip))
    drawn = io.BytesIO()
    fig.savefig(drawn, format="png", dpi=DPI)
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close(fig)
    image = Image.open(drawn).convert("RGB")
    if owner:
        image, alt = _tagged(image, owner), f"{alt} (drawn by {_TAGS[owner][0]})"
    return Picture(_png(image), alt)


def _png(image: Image.Image) -> bytes:
    """Encode with a palette, a third of the size, where no colour moves by more than 8 of 255."""
    palette = image.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    moved = ImageChops.difference(image, palette.convert("RGB")).getextrema()
    exact = all(most <= 8 for _, most in moved)
    out = io.BytesIO()
    (palette if exact else image).save(out, "PNG", optimize=True)
    return out.getvalue()


def _owner(of: Callable | Sequence[Callable]) -> str:
    functions = [of] if callable(of) else of
    if not isinstance(functions, Sequence) or not functions or not all(map(callable, functions)):
        raise ValueError(f"of: expected a function or a list of functions, got {of!r}")
    return "ours" if any(hasattr(f, "__course_reference__") for f in functions) else "yours"


def _tagged(picture: Image.Image, owner: str) -> Image.Image:
    """Put a strip with the tag in its right corner above a picture."""
    paper = picture.getpixel((0, 0))
    canvas = Image.new("RGB", (picture.width, picture.height + TAG_HEIGHT), paper)
    canvas.paste(picture, (0, TAG_HEIGHT))
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.truetype(findfont("DejaVu Sans"), 12)
    right = picture.width - 4
    left = right - draw.textlength(owner, font) - 10
    draw.rounded_rectangle((left, 2, right, TAG_HEIGHT - 2), radius=4, fill=_TAGS[owner][1])
    draw.text(((left + right) / 2, TAG_HEIGHT / 2), owner, "white", font, anchor="mm")
    return canvas
