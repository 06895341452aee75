"""`explore`: controls that redraw a picture, always beside a static picture of the same thing."""

import inspect
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets
from IPython.display import display
from matplotlib.figure import Figure
from traitlets import TraitError

from course.lab.picture import Picture, render

Control = tuple[float | int, ...] | list[Any] | bool

_QUIET = "Run this cell in Jupyter to move the sliders."


def explore(
    draw: Callable[..., Figure],
    controls: Mapping[str, Control],
    alt: str,
    static: Sequence[Mapping[str, Any]] | None = None,
    of: Callable | Sequence[Callable] | None = None,
) -> None:
    """Show pictures of a function of a few values, and controls that redraw the last one in place.

    draw: called as `draw(**values)` with a value a control; returns a matplotlib figure.
    controls: by argument name (min, max, step[, start]) for a slider, of integers if all of them
        are, at min if no start is given; a list for a menu; True or False for a box.
    alt: what the pictures show, in words; the values of each are added.
    static: the values of each picture to draw, those left out at their start; by default one
        picture of the start values. The notebook stores them all; the controls begin at the last
        one's values and redraw that one.
    of: the functions that drew it, as in `show`.
    Raises ValueError, before anything is drawn, if the names of `controls`, `static` and the
    arguments of `draw` don't agree, a control is none of these or a static value is out of reach.
    What `draw` raises later, as a control is moved, is shown in place of the picture.
    """
    if not isinstance(controls, Mapping) or not controls:
        raise ValueError(f"controls: expected a dict of at least one control, got {controls!r}")
    _check_names(draw, controls)
    boxes = {name: _control(name, control) for name, control in controls.items()}
    start = _values(boxes)
    pictures = [{**start, **values} for values in ([{}] if static is None else static)]
    if not pictures:
        raise ValueError("static: expected at least one dict of values, got none")
    for values in pictures:
        _move(boxes, values)
    for values in pictures:
        handle = display(_drawn(draw, values, alt, of), display_id=True)
    if handle is None:  # no notebook to move anything in
        return

    def redraw(_: Any) -> None:
        try:
            handle.update(_drawn(draw, _values(boxes), alt, of))
        except Exception:  # nobody would see it raised here: it takes the picture's place
            handle.update({"text/plain": traceback.format_exc()}, raw=True)

    for box in boxes.values():
        box.observe(redraw, "value")
    panel = ipywidgets.VBox(list(boxes.values()))
    quiet = f'<p style="font-size:90%;opacity:.75;margin:0">{_QUIET}</p>'
    display({**panel._repr_mimebundle_(), "text/html": quiet, "text/plain": _QUIET}, raw=True)


def _check_names(draw: Callable, controls: Mapping) -> None:
    try:
        inspect.signature(draw).bind(**dict.fromkeys(controls))
    except TypeError as error:
        names = ", ".join(controls)
        raise ValueError(f"controls: draw can't be called with {names}: {error}") from None


def _control(name: str, control: Control) -> ipywidgets.Widget:
    look = {"description": name, "style": {"description_width": "initial"}}
    wanted = "(min, max, step[, start]), a list of choices, or True or False"
    if isinstance(control, bool):
        return ipywidgets.Checkbox(value=control, indent=False, **look)
    if isinstance(control, list) and control:
        return ipywidgets.Dropdown(options=control, **look)
    if isinstance(control, tuple) and len(control) in (3, 4):
        low, high, step, start = (*control, control[0])[:4]
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in control)
        if numbers and low < high and step > 0 and low <= start <= high:
            kind = ipywidgets.IntSlider
            if not all(isinstance(v, int) for v in control):
                kind = ipywidgets.FloatSlider
            return kind(start, min=low, max=high, step=step, continuous_update=False, **look)
    raise ValueError(f"controls[{name!r}]: expected {wanted}, got {control!r}")


def _values(boxes: Mapping[str, ipywidgets.Widget]) -> dict[str, Any]:
    return {name: box.value for name, box in boxes.items()}


def _move(boxes: Mapping[str, ipywidgets.Widget], values: Mapping[str, Any]) -> None:
    """Set the controls to values; ValueError if one is unknown or a control can't take it."""
    for name, value in values.items():
        if name not in boxes:
            raise ValueError(f"static: expected values of {', '.join(boxes)}, got {name!r}")
        try:
            boxes[name].value = value
        except TraitError as error:
            raise ValueError(f"static: {name} = {value!r} is none of its values: {error}") from None
        if boxes[name].value != value:  # sliders clamp
            raise ValueError(f"static: expected {name} within its slider, got {value!r}")


def _drawn(
    draw: Callable[..., Figure],
    values: Mapping[str, Any],
    alt: str,
    of: Callable | Sequence[Callable] | None,
) -> Picture:
    fig = draw(**values)
    if not isinstance(fig, Figure):
        raise ValueError(f"draw: expected it to return a matplotlib Figure, got {fig!r}")
    here = ", ".join(f"{name} = {value}" for name, value in values.items())
    return render(fig, f"{alt} ({here})", of)
