"""What a drawn graph is made of."""

from dataclasses import dataclass, field

from torch import nn

from course.lab.trace import Call, Shape


@dataclass(eq=False, repr=False)
class Node:
    """A box: an input, an output, a module, or a few functions.

    Attributes:
        kind: "input", "output", "block" for a module with modules inside, or what a layer is.
        name: path of the module below what is drawn; the functions; the argument.
        module: None for what is none.
        call: of the module, or the one that called the functions.
        inside: the open calls around it, outermost first.
        came: shapes that go in.
        went: shapes that come out.
        does: names of the operations in it.
        repeats: how often it stands there, one after the other.
        last: name of the last of them.
    """

    kind: str
    name: str
    call: Call | None = None
    module: nn.Module | None = None
    inside: tuple[Call, ...] = ()
    came: list[Shape] = field(default_factory=list)
    went: list[Shape] = field(default_factory=list)
    does: list[str] = field(default_factory=list)
    repeats: int = 1
    last: str = ""

    @property
    def parameters(self) -> int:
        """Numbers to train in the module, once for all calls of it."""
        return sum(p.numel() for p in self.module.parameters()) if self.module else 0


@dataclass(frozen=True, eq=False, repr=False)
class Edge:
    """Tensors on their way.

    Attributes:
        shapes: of each of them.
        role: "main"; "skip", past other boxes of the main path; or "side", from what does not
            depend on the first input, as the time does not.
    """

    source: Node
    target: Node
    shapes: tuple[Shape, ...]
    role: str = "main"


@dataclass(frozen=True, repr=False)
class View:
    """Boxes and edges to draw; `groups` are chains of boxes that are there several times."""

    nodes: list[Node]
    edges: list[Edge]
    groups: list[tuple[list[Node], int]]
