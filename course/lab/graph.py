"""`draw`: the computation graph of a model, to look at, to search and to save."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from torch import nn

from course.files import replace_file
from course.lab.boxes import Edge, Node, View
from course.lab.fold import functions, view
from course.lab.layout import export, layout, viewer, web_page
from course.lab.trace import Inputs, Shape, trace

DIRECTIONS = ("TB", "LR", "BT", "RL")

# Fill and line of each kind of box; the fills are light enough for black text.
COLOURS = {
    "input": ("#ffffff", "#333333"),
    "output": ("#ffffff", "#333333"),
    "block": ("#e6eaee", "#44525e"),
    "convolution": ("#cfe3f1", "#0072b2"),
    "normalisation": ("#cdeae0", "#009e73"),
    "activation": ("#f6deea", "#b85c91"),
    "linear": ("#fbe4bf", "#c98500"),
    "attention": ("#f8d3c0", "#d55e00"),
    "embedding": ("#f5f0c0", "#a39600"),
    "resampling": ("#e2d9f3", "#7458b0"),
    "join": ("#ffffff", "#000000"),
    "function": ("#f3f3f3", "#8a8a8a"),
}
ROLES = {"main": "#444444", "skip": "#d55e00", "side": "#808080"}
LINES = {
    "main": f'color="{ROLES["main"]}"',
    "skip": f'color="{ROLES["skip"]}", fontcolor="#a84a00", penwidth=2.2, weight=0',
    "side": f'color="{ROLES["side"]}", fontcolor="#666666", style=dashed, arrowsize=0.6, weight=0',
}
_LOOK = {
    "graph": "fontname=Helvetica, fontsize=11, nodesep=0.25, ranksep=0.3, pad=0.15",
    "node": 'fontname=Helvetica, fontsize=11, shape=box, style="rounded,filled", '
    'margin="0.12,0.06", height=0.3',
    "edge": "fontname=Helvetica, fontsize=9, arrowsize=0.7, weight=8",
}
_MANY = 150  # edges; labels on more are noise, and most of the time that the layout takes


class Graph:
    """A drawn computation graph. It shows itself in a notebook; `save` writes it to a file.

    Attributes:
        title: what was drawn.
        view: its boxes and edges.
        dot: it in Graphviz's language.
        svg: the picture.
    """

    def __init__(self, title: str, view: View, direction: str):
        self.title, self.view = title, view
        self._number = {node: i for i, node in enumerate(view.nodes)}
        self.dot = self._dot(direction)
        self.svg = layout(self.dot, title, self._legend())

    def __repr__(self) -> str:
        boxes = [node for node in self.view.nodes if node.kind not in ("input", "output")]
        skips = sum(edge.role == "skip" for edge in self.view.edges)
        count = f"{len(boxes)} boxes, {len(self.view.edges)} edges, {skips} of them skips"
        return f"Computation graph of {self.title}: {count}"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/html": viewer(self.svg, repr(self)), "text/plain": repr(self)}

    def save(self, path: str | Path) -> Path:
        """Write the graph; the ending of the name says as what.

        Args:
            path: .svg, .html (a page with zoom and search that needs nothing else), .dot, .json;
                .png or .pdf where CairoSVG is installed or the system has Graphviz.

        Raises:
            ValueError: the ending is another, or nothing here can make a .png or .pdf.
            OSError: the file can't be written; what was there is intact.
        """
        path = Path(path)
        formats = {
            ".svg": lambda: self.svg,
            ".html": lambda: web_page(self.svg, self.title),
            ".dot": lambda: self.dot,
            ".json": lambda: json.dumps(self.as_dict(), indent=1) + "\n",
        }
        if path.suffix in formats:
            content = formats[path.suffix]().encode()
        elif path.suffix in (".png", ".pdf"):
            content = export(self.svg, self.dot, path.suffix[1:])
        else:
            raise ValueError(
                f"path: expected a name that ends in {', '.join(formats)}, .png or .pdf, "
                f"came {path.name!r}"
            )
        replace_file(path, content)
        return path

    def as_dict(self) -> dict[str, Any]:
        """Boxes and edges as JSON holds them."""
        nodes = [
            {
                "id": self._id(node),
                "kind": node.kind,
                "name": node.name,
                "path": node.call.path if node.module else None,
                "class": type(node.module).__name__ if node.module else None,
                "inputs": [list(shape) for shape in node.came],
                "outputs": [list(shape) for shape in node.went],
                "parameters": node.parameters,
                "repeats": node.repeats,
            }
            for node in self.view.nodes
        ]
        edges = [
            {
                "from": self._id(edge.source),
                "to": self._id(edge.target),
                "shapes": [list(shape) for shape in edge.shapes],
                "role": edge.role,
            }
            for edge in self.view.edges
        ]
        return {"title": self.title, "nodes": nodes, "edges": edges}

    def _id(self, node: Node) -> str:
        return f"n{self._number[node]}"

    def _dot(self, direction: str) -> str:
        lines = [f"digraph {_quoted(self.title)} {{", f"  rankdir={direction};"]
        lines += [f"  {what} [{look}];" for what, look in _LOOK.items()]
        boxes: dict[Any, Any] = {}
        chain_of = {node: i for i, (nodes, _) in enumerate(self.view.groups) for node in nodes}
        for node in self.view.nodes:
            place = boxes
            for call in node.inside:
                place = place.setdefault(call, {})
            if node in chain_of:
                place = place.setdefault(chain_of[node], {})
            place[node] = None
        lines += self._boxes(boxes, "  ", count())
        told = set()
        lines += [self._edge(edge, told) for edge in self.view.edges]
        return "\n".join([*lines, "}", ""])

    def _boxes(self, boxes: dict[Any, Any], indent: str, number: Iterator[int]) -> list[str]:
        """Nodes, and clusters for what is open around them."""
        lines = []
        for box, inside in boxes.items():
            if isinstance(box, Node):
                lines.append(indent + self._node(box))
                continue
            if isinstance(box, int):
                label = f"x {self.view.groups[box][1]}"
                look = 'style="rounded"; color="#333333"; penwidth=1.4'
            else:
                around = box.parent.path
                short = box.path[len(around) + 1 :] if around else box.path
                label = f"{short} · {type(box.module).__name__}"
                look = 'style="rounded,filled"; color="#b5bec6"; fillcolor="#f7f8f9"'
            lines.append(f"{indent}subgraph cluster_{next(number)} {{")
            lines.append(f"{indent}  label={_quoted(label)}; labeljust=l; {look};")
            lines += self._boxes(inside, indent + "  ", number)
            lines.append(f"{indent}}}")
        return lines

    def _node(self, node: Node) -> str:
        fill, line = COLOURS[node.kind]
        look = f'fillcolor="{fill}", color="{line}", class={node.kind}'
        if node.kind in ("input", "output"):
            look += ", shape=box, style=filled, penwidth=1.6"
        elif node.kind == "block":
            look += ", penwidth=1.6"
        elif node.kind == "join":
            look += ', shape=ellipse, margin="0.04,0.02"'
        text, tip = _label(node), _tip(node)
        return (
            f"{self._id(node)} [label={text}, tooltip={_quoted(tip)}, id={self._id(node)}, {look}];"
        )

    def _edge(self, edge: Edge, told: set[tuple[Node, tuple[Shape, ...]]]) -> str:
        """An edge with its shapes, unless they say nothing new.

        Nothing new is what goes to many boxes, as the time does, after the first; and, in a graph
        of many boxes, what comes out of a box as it went in.
        """
        label, known = "", edge.role == "side" and (edge.source, edge.shapes) in told
        if edge.role == "main" and len(self.view.edges) > _MANY:
            known = set(edge.shapes) <= set(edge.source.came)
        if not known:
            told.add((edge.source, edge.shapes))
            label = f", label={_quoted(f' {shapes_text(edge.shapes)} ')}"
        return f"  {self._id(edge.source)} -> {self._id(edge.target)} [{LINES[edge.role]}{label}];"

    def _legend(self) -> list[tuple[str, str, str]]:
        """What is there: name, fill of a box or "line" or "dashed", colour of the line."""
        kinds = {node.kind for node in self.view.nodes} - {"input", "output"}
        roles = {edge.role for edge in self.view.edges}
        boxes = [(kind, *COLOURS[kind]) for kind in COLOURS if kind in kinds]
        lines = {"skip": ("skip or shortcut", "line"), "side": ("side input", "dashed")}
        return boxes + [(*lines[role], ROLES[role]) for role in lines if role in roles]


def draw(
    model: nn.Module,
    inputs: Inputs,
    *,
    depth: int = 1,
    fold: bool = True,
    direction: str = "TB",
    focus: str | None = None,
    device: str = "meta",
) -> Graph:
    """The computation graph of a model, its modules closed at a depth.

    Args:
        model: any; a copy is run, in eval mode, and the caller's stays as it is.
        inputs: of its forward method: a tensor, several in a tuple, or a dict by name.
        depth: how deep modules are opened, from 1 on.
        fold: draw equal modules that follow each other once, marked "x 2".
        direction: of the flow: "TB" downwards, "LR" to the right, "BT", "RL".
        focus: name of a module, as in the state dict: draw only its inside.
        device: "meta" needs no memory for weights and computes nothing; "cpu" runs with real
            numbers, for a model that looks at them.

    Raises:
        TraceError: the model can't take the inputs, or looks at numbers on the device "meta".
        ValueError: an argument is not as above; for a wrong `focus` with similar names.
    """
    if direction not in DIRECTIONS:
        raise ValueError(f"direction: expected one of {DIRECTIONS}, came {direction!r}")
    traced = trace(model, inputs, device)
    title = type(traced.root.module).__name__ + (f", {focus}" if focus else "")
    return Graph(title, view(traced, depth, focus, fold), direction)


def _label(node: Node) -> str:
    """What a box says: its name, then its class with what sets it apart, then its parameters."""
    if node.module is None:
        return _quoted(functions(node.name) if node.kind == "function" else node.name)
    name = node.name
    if node.repeats > 1:
        name += (f" to {node.last}" if node.last != name else "") + f"  x {node.repeats}"
    about = " ".join(filter(None, [type(node.module).__name__, _details(node.module)]))
    lines = [name, about]
    if node.kind == "block" and node.parameters:
        lines.append(f"{si(node.parameters)} parameters")
    return _quoted("\n".join(lines))


def _details(layer: nn.Module) -> str:
    """The sizes of a layer that a reader would ask for first."""
    if isinstance(layer, nn.Linear):
        return f"{layer.in_features} → {layer.out_features}"
    if isinstance(layer, nn.GroupNorm):
        return f"{layer.num_groups} groups"
    if isinstance(layer, nn.Embedding):
        return f"{layer.num_embeddings} x {layer.embedding_dim}"
    if not hasattr(layer, "kernel_size"):
        return ""
    kernel, stride = _sizes(layer, "kernel_size"), _sizes(layer, "stride")
    text = "x".join(map(str, kernel))
    if set(stride) != {1}:
        text += f" / {stride[0]}" if len(set(stride)) == 1 else f" / {'x'.join(map(str, stride))}"
    if hasattr(layer, "in_channels"):
        text += f"  {layer.in_channels} → {layer.out_channels}"
    return text


def _sizes(layer: nn.Module, name: str) -> tuple[int, ...]:
    """A size for each axis, where some layers, as the poolings, have one number for all."""
    value = getattr(layer, name, 1)
    if isinstance(value, tuple):
        return value
    axes = [c.__name__[-2] for c in type(layer).__mro__ if c.__name__.endswith(("1d", "2d", "3d"))]
    return (value,) * int(axes[0] if axes else 1)


def _tip(node: Node) -> str:
    """All there is to say of a box, for the pointer above it."""
    if node.module is None:
        return f"{node.name}: {_flow(node)}"
    path = node.call.path or "the model"
    return f"{path}: {type(node.module).__name__}, {_flow(node)}, {node.parameters:,} parameters"


def _flow(node: Node) -> str:
    sides = [shapes_text(shapes) for shapes in (node.came, node.went) if shapes]
    return " to ".join(sides)


def shapes_text(shapes: Sequence[Shape]) -> str:
    """Shapes as text, equal ones counted: "2 of 1x320x64x64"."""
    texts = Counter("x".join(map(str, shape)) or "scalar" for shape in shapes)
    return ", ".join(f"{n} of {text}" if n > 1 else text for text, n in texts.items())


def si(count: int) -> str:
    """A count with three digits and k, M or G."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)


def _quoted(text: str) -> str:
    """A string of Graphviz's language."""
    text = text.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{text}"'
