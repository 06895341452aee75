"""`show_source`: the code behind anything in the course, in the notebook."""

import functools
import inspect
from html import escape
from types import ModuleType
from typing import Any

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from pygments.style import Style
from pygments.token import Comment, Keyword, Name, Number, Operator, String


class _BothThemes(Style):
    """Colours of at least 4:1 on white and on JupyterLab's dark #111111; the rest is inherited."""

    styles = {  # noqa: RUF012 - how pygments defines a style
        Keyword: "bold #2f7ac0",
        Operator.Word: "bold #2f7ac0",
        String: "#0c8a5f",
        String.Doc: "noinherit italic",
        Number: "#9a5fd0",
        Comment: "italic",
        Name.Function: "bold",
        Name.Class: "bold",
        Name.Decorator: "#9a5fd0",
    }


class Source:
    """A piece of source code: highlighted in a notebook, plain text elsewhere."""

    def __init__(self, text: str, place: str) -> None:
        self.text, self.place = text, place

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        formatter = HtmlFormatter(
            style=_BothThemes,
            noclasses=True,
            nobackground=True,
            cssclass="course-source",  # "highlight" would bring in the theme's own background
            prestyles="margin:0;line-height:1.4;overflow-x:auto;background:none;color:inherit;"
            "font-family:var(--jp-code-font-family,monospace);font-size:13px",
        )
        return (
            '<div style="border-left:3px solid rgba(128,128,128,.45);padding:.1em 0 .1em 1em">'
            f'<div style="margin-bottom:.4em"><b>{escape(self.place)}</b></div>'
            f"{highlight(self.text, PythonLexer(), formatter)}</div>"
        )


def show_source(obj: Any) -> None:
    """Display the source of a function, class, method, property or module, and where it stands.

    obj: decorators that keep `__wrapped__` (functools.wraps, jaxtyping's) are looked through.
    Raises ValueError naming the object if it has no source in Python, as what is built in C.
    """
    from IPython.display import display

    display(_source(obj))


def _source(obj: Any) -> Source:
    target = obj.fget if isinstance(obj, property) else obj
    target = target.func if isinstance(target, functools.cached_property) else target
    name = getattr(obj, "__qualname__", None) or getattr(obj, "__name__", None) or repr(obj)
    try:
        text = inspect.getsource(target)
        start = inspect.getsourcelines(target)[1]
    except (TypeError, OSError):
        hint = ""
        if not (callable(obj) and hasattr(obj, "__name__")):
            hint = f"; for an instance, ask for its class {type(obj).__name__}"
        raise ValueError(f"obj: expected something written in Python, got {name}{hint}") from None
    first = 1 if isinstance(target, ModuleType) else start
    return Source(text, f"{_file(target)}, lines {first}-{first + text.count(chr(10)) - 1}")


def _file(target: Any) -> str:
    """The file of an object as its import name has it, which tells nothing of the machine."""
    module = inspect.getmodule(target)
    if module is None or module.__name__ == "__main__":
        return "this notebook"
    path = module.__name__.replace(".", "/")
    return f"{path}/__init__.py" if hasattr(module, "__path__") else f"{path}.py"
