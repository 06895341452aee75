"""The prompt studio: a caption, its picture, how it came about, what is right in it and what wrong.

Without widgets, `Studio(draw).draw(caption)` is all of it.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, repeat
from typing import Any

import ipywidgets
import torch
from IPython.display import display
from jaxtyping import Float, Int64
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from course.data import scenes
from course.data.scenes import Meaning, Mention, Scene, Thing, Unreadable
from course.data.scenes.request import check_request
from course.lab.picture import MAX_WIDTH, Picture, render
from course.lab.tiles import BACKGROUND, to_bytes
from course.pipeline.results import AttentionMaps
from course.pipeline.text_to_image import TextToImage

# Pictures of a strip, and words in a row of maps.
COLUMNS = 10
# Letters of a line below them.
WIDE = 135
# In inches: the picture, a tile with its title, a line of text.
_LARGE, _TILE, _TITLE, _LINE, _EDGE = 1.75, 0.56, 0.17, 0.13, 0.08

_ANY, _NOTHING, _AND = "any", "nothing else", "and"
_QUIET = "Run this cell in Jupyter to write captions of your own."


@dataclass(frozen=True, eq=False)
class Drawing:
    """What became of one caption.

    Attributes:
        caption: what was asked for.
        image: in [-1, 1].
        t: time steps of the strip.
        strip: x_0 as predicted at these steps, decoded.
        words: those of the caption.
        maps: how much each place took of each word, averaged over steps, layers and heads.
        right: what the picture shows as asked.
        wrong: what it does not, with what it shows; empty if the caption is true of it.
    """

    caption: str
    image: Float[Tensor, "3 H W"]
    t: Int64[Tensor, " S"]
    strip: Float[Tensor, "S 3 H W"]
    words: tuple[str, ...]
    maps: Float[Tensor, "N h w"]
    right: tuple[str, ...]
    wrong: tuple[str, ...]

    @property
    def score(self) -> str:
        """What is right and what is wrong, in at most two lines."""
        said = (("right", self.right), ("wrong", self.wrong))
        return "\n".join(f"{name}: {', '.join(found)}" for name, found in said if found)

    @property
    def alt(self) -> str:
        """The figure in words."""
        return (
            f"A picture for '{self.caption}' ({self.score}), with a strip of what the network "
            "expected at some steps, from blur to the picture, and a map for each word: bright "
            "where it was looked at."
        )

    def figure(self) -> Figure:
        """The picture, the strip above the maps, each map with a scale of its own."""
        rows = 1 + -(-len(self.words) // COLUMNS)
        said = [line for text in (self.caption, self.score) for line in text.splitlines()]
        said = "\n".join(textwrap.fill(line, WIDE) for line in said)
        lower = (said.count("\n") + 1) * _LINE
        height = max(_LARGE + _TITLE, rows * (_TILE + _TITLE)) + lower + 3 * _EDGE
        fig = Figure(figsize=(MAX_WIDTH, height), facecolor=BACKGROUND, layout="none")
        top = height - _EDGE - _TITLE

        def place(left: float, upper: float, side: float, title: object, pixels: Any) -> None:
            sides = (left / MAX_WIDTH, (upper - side) / height, side / MAX_WIDTH, side / height)
            ax = fig.add_axes(sides)
            ax.imshow(pixels, interpolation="nearest")
            ax.set_title(str(title), size=7, pad=2)
            ax.set(xticks=[], yticks=[])

        place(_EDGE, top, _LARGE, "", _pixels(self.image[None])[0])
        wide = (MAX_WIDTH - _LARGE - 3 * _EDGE) / COLUMNS

        def tile(k: int, title: object, pixels: Any) -> None:
            row, column = divmod(k, COLUMNS)
            left = _LARGE + 3 * _EDGE + column * wide
            place(left, top - row * (_TILE + _TITLE), _TILE, title, pixels)

        for k, (t, frame) in enumerate(zip(self.t, _pixels(self.strip), strict=True)):
            tile(k, f"t = {t}", frame)
        for k, (word, seen) in enumerate(zip(self.words, self.maps.numpy(), strict=True)):
            tile(COLUMNS + k, word, seen)
        fig.text(_EDGE / MAX_WIDTH, _EDGE / height, said, size=7, va="bottom")
        return fig


class Studio:
    """Draws captions, and displays itself in a notebook: a picture, and controls for the next one.

    Args:
        draw: the pipeline.
        caption: that it begins with.
        seed: that it begins with.

    Raises:
        ValueError: that is no pipeline, or no scene can be so.
    """

    def __init__(
        self,
        draw: TextToImage,
        caption: str = "a small red star above a large blue circle on grey",
        seed: int = 0,
    ):
        if not isinstance(draw, TextToImage):
            raise ValueError(f"draw: expected a TextToImage, as pipeline.load gives, came {draw!r}")
        check_request(caption)
        self.pipeline, self.caption, self.seed = draw, caption, seed

    def draw(
        self, caption: str, seed: int = 0, steps: int = 30, scale: float | int = 3.0
    ) -> Drawing:
        """What becomes of a caption.

        Args:
            caption: a sentence about a scene.
            seed: from 0.
            steps: of the sampler.
            scale: of guidance, s = 1 + w.

        Raises:
            ValueError: no scene can be so, and why (see `check_request`), or see `TextToImage`.
        """
        meaning = check_request(caption)
        found = self.pipeline(
            caption,
            seed=seed,
            steps=steps,
            guidance_scale=scale,
            progress=False,
            trajectory=True,
            attention=True,
        )
        shown = torch.linspace(0, steps - 1, min(COLUMNS, steps)).round().long()
        strip = self.pipeline.decode(found.trajectory.x0_pred[shown, 0])
        right, wrong = compare(meaning, scenes.read_scene(found.images[0]))
        return Drawing(
            caption,
            found.images[0],
            found.trajectory.t[shown],
            strip,
            tuple(found.attention.words()),
            word_maps(found.attention),
            right,
            wrong,
        )

    def _ipython_display_(self) -> None:
        handle = display(self._picture(self.caption, self.seed), display_id=True)
        if handle is None:  # no notebook to move anything in
            return
        builder, text, numbers = _builder(), _text(self.caption), _numbers(self.seed)

        def build(_: Any) -> None:
            text.value = caption_of({name: box.value for name, box in builder.items()})

        def redraw(_: Any) -> None:
            try:
                values = {name: box.value for name, box in numbers.items()}
                handle.update(self._picture(text.value, **values))
            except ValueError as problem:  # an answer to the caption, not a fault
                handle.update({"text/plain": str(problem)}, raw=True)

        for box in builder.values():
            box.observe(build, "value")
        for box in (text, *numbers.values()):
            box.observe(redraw, "value")
        look = ipywidgets.Layout(flex_flow="row wrap")
        rows = [ipywidgets.HBox(list(row.values()), layout=look) for row in (builder, numbers)]
        panel = ipywidgets.VBox([rows[0], text, rows[1]])
        quiet = f'<p style="font-size:90%;opacity:.75;margin:0">{_QUIET}</p>'
        display({**panel._repr_mimebundle_(), "text/html": quiet, "text/plain": _QUIET}, raw=True)

    def _picture(self, caption: str, seed: int, **options: Any) -> Picture:
        drawing = self.draw(caption, seed, **options)
        return render(drawing.figure(), drawing.alt)


def compare(meaning: Meaning, scene: Scene | Unreadable) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What of a caption a picture shows, and what not; the second is empty if the caption holds.

    Args:
        meaning: of the caption.
        scene: as read from the picture.

    Returns:
        right and wrong. Each mention is compared with the thing that makes most of it right.
    """
    if isinstance(scene, Unreadable):
        return (), (f"no scene: {scene.reason}",)
    count = len(meaning.mentions)
    spare = [None] * max(0, count - len(scene.things))
    orders = permutations([*range(len(scene.things)), *spare], count)
    right, wrong = min(
        (_told(meaning, scene, order) for order in orders),
        key=lambda told: sum(text.count("not ") for text in told[1]),
    )
    return tuple(right), tuple(wrong)


def word_maps(attention: AttentionMaps, picture: int = 0) -> Float[Tensor, "N h w"]:
    """A map of each word of a prompt: the mean over steps, layers and heads, as the finest has it.

    Args:
        attention: of a pipeline's call.
        picture: which.
    """
    found = []
    for word in range(len(attention.words(picture))):
        layers = [maps.mean(0) for maps in attention.of(word, picture).values()]
        finest = max((maps.shape for maps in layers), key=lambda shape: shape[0])
        resized = [F.interpolate(maps[None, None], finest)[0, 0] for maps in layers]
        found.append(torch.stack(resized).mean(0))
    return torch.stack(found)


def caption_of(choice: dict[str, str]) -> str:
    """The sentence that the menus of the studio say.

    Args:
        choice: size, colour, shape, relation, size 2, colour 2, shape 2, background.
    """
    said = {name: None if value == _ANY else value for name, value in choice.items()}
    mentions = [Mention(said["shape"], said["colour"], said["size"])]
    relations = ()
    if said["shape 2"] != _NOTHING:
        mentions.append(Mention(said["shape 2"], said["colour 2"], said["size 2"]))
        relations = () if said["relation"] == _AND else ((0, said["relation"], 1),)
    return scenes.write(Meaning(tuple(mentions), relations, said["background"]), repeat(0))


def _told(
    meaning: Meaning, scene: Scene, order: Sequence[int | None]
) -> tuple[list[str], list[str]]:
    """Right and wrong, with a thing for each mention, or None."""
    names = [" ".join(filter(None, (m.size, m.colour, m.shape))) for m in meaning.mentions]
    right, wrong = [], []
    for name, mention, k in zip(names, meaning.mentions, order, strict=True):
        faults = ["not there"] if k is None else _faults(mention, scene.things[k])
        if faults:
            wrong.append(f"{name} is {' and '.join(faults)}")
        else:
            right.append(name)
    for i, asked, j in meaning.relations:
        if None in (order[i], order[j]):
            continue
        came = scene.relation(order[i], order[j])
        if came == asked:
            right.append(f"{meaning.mentions[i].shape} {asked} {meaning.mentions[j].shape}")
        else:
            wrong.append(f"{names[i]} is {came or 'at a slant'}, not {asked} {names[j]}")
    if meaning.background == scene.background:
        right.append(f"on {scene.background}")
    elif meaning.background:
        wrong.append(f"on {scene.background}, not {meaning.background}")
    for k in set(range(len(scene.things))) - set(order):
        wrong.append(f"one more: {scene.things[k].colour} {scene.things[k].shape}")
    return right, wrong


def _faults(mention: Mention, thing: Thing) -> list[str]:
    pairs = [(getattr(mention, name), getattr(thing, name)) for name in ("size", "colour", "shape")]
    return [f"{came}, not {asked}" for asked, came in pairs if asked not in (None, came)]


def _pixels(images: Float[Tensor, "N 3 H W"]) -> Any:
    return to_bytes("images", images, (4,))


def _builder() -> dict[str, ipywidgets.Dropdown]:
    things = {
        "size": (_ANY, *scenes.SIZES),
        "colour": (_ANY, *scenes.COLOURS),
        "shape": scenes.SHAPES,
    }
    second = {f"{name} 2": options for name, options in things.items()}
    second["shape 2"] = (_NOTHING, *scenes.SHAPES)
    menus = things | {"relation": (_AND, *scenes.RELATIONS)} | second
    menus |= {"background": (_ANY, *scenes.BACKGROUNDS)}
    return {name: ipywidgets.Dropdown(options=menu, **_look(name)) for name, menu in menus.items()}


def _text(caption: str) -> ipywidgets.Text:
    wide = ipywidgets.Layout(width="98%")
    return ipywidgets.Text(caption, continuous_update=False, **_look("caption") | {"layout": wide})


def _numbers(seed: int) -> dict[str, ipywidgets.Widget]:
    still = {"continuous_update": False}
    return {
        "seed": ipywidgets.BoundedIntText(seed, min=0, max=2**31, **still, **_look("seed")),
        "steps": ipywidgets.IntSlider(30, min=2, max=60, **still, **_look("steps")),
        "scale": ipywidgets.FloatSlider(3, min=0, max=10, step=0.5, **still, **_look("scale")),
    }


def _look(name: str) -> dict[str, Any]:
    layout = ipywidgets.Layout(width="auto", margin="2px 8px 2px 0")
    return {"description": name, "style": {"description_width": "initial"}, "layout": layout}
