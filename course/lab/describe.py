"""`describe`: a model as a flat list, from top to bottom."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from course.lab.boxes import Node, View
from course.lab.fold import view
from course.lab.graph import shapes_text
from course.lab.trace import Inputs, trace
from course.lab.twin import copy_inputs, copy_to


@dataclass(frozen=True)
class Row:
    """A block of a model.

    Attributes:
        name: of the module, as in the state dict.
        kind: its class.
        came: shape of what goes in first, "" if nothing does.
        went: shape of what goes on.
        parameters: numbers to train in it.
        flops: of one forward pass, a multiplication and its addition counted as two; of all its
            calls together.
        pushed: tensors that go past what follows, to be joined later: skip connections.
        popped: of such tensors, those that are joined here.
    """

    name: str
    kind: str
    came: str
    went: str
    parameters: int
    flops: int
    pushed: int
    popped: int


class Description:
    """A model as a table: `rows` in the order of the forward pass, and totals of the whole."""

    def __init__(self, title: str, rows: list[Row], parameters: int, flops: int):
        self.title, self.rows = title, rows
        self.parameters, self.flops = parameters, flops

    def __str__(self) -> str:
        header = ("block", "", "input", "output", "parameters", "MFLOPs", "skips")
        lines = [header, *map(_cells, self.rows)]
        total = f"{self.flops / 1e6:,.1f}"
        lines.append(("in all", self.title, "", "", f"{self.parameters:,}", total, ""))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        aligned = ("<", "<", ">", ">", ">", ">", "<")
        return "\n".join(
            "  ".join(f"{c:{a}{w}}" for c, a, w in zip(line, aligned, widths, strict=True)).rstrip()
            for line in lines
        )

    __repr__ = __str__


def describe(model: nn.Module, inputs: Inputs, depth: int = 2, device: str = "meta") -> Description:
    """List the blocks of a model: shapes in and out, parameters, FLOPs, skips pushed and popped.

    Args:
        model: any; a copy is run, in eval mode, and the caller's stays as it is.
        inputs: of its forward method: a tensor, several in a tuple, or a dict by name.
        depth: how deep modules are opened: 2 lists the blocks within the blocks of a U-Net.
        device: "meta" computes nothing, so that size costs nothing; "cpu" for a model that looks
            at its numbers.

    Raises:
        TraceError: the model can't take the inputs, or looks at numbers on the device "meta".
        ValueError: an argument is not as above.
    """
    seen = view(trace(model, inputs, device), depth, fold=False)
    twin = copy_to(model, device)
    total, flops = _flops(twin, inputs, device)
    pushed, popped = _skips(seen)
    onwards = {edge.source: edge.shapes for edge in seen.edges if edge.role == "main"}
    rows = [
        Row(
            node.call.path,
            type(node.module).__name__,
            shapes_text(node.came[:1]),
            shapes_text(onwards.get(node, node.went)[-1:]),
            node.parameters,
            flops[node.call.path],
            pushed[node],
            popped[node],
        )
        for node in seen.nodes
        if node.module is not None
    ]
    parameters = sum(p.numel() for p in model.parameters())
    return Description(type(twin).__name__, rows, parameters, total)


def _cells(row: Row) -> tuple[str, ...]:
    stack = [f"{verb} {n}" for verb, n in (("pop", row.popped), ("push", row.pushed)) if n]
    numbers = (f"{row.parameters:,}", f"{row.flops / 1e6:,.1f}")
    return (row.name, row.kind, row.came, row.went, *numbers, ", ".join(stack))


def _flops(model: nn.Module, inputs: Inputs, device: str) -> tuple[int, Counter[str]]:
    """FLOPs of a forward pass: in all, and by the name of each module."""
    given = copy_inputs(inputs, device)
    counter = FlopCounterMode(display=False)
    # The counter does not know the CPU's own kernels of attention: the first and the last keep
    # PyTorch from choosing them.
    with torch.device(device), torch.no_grad(), counter, sdpa_kernel(SDPBackend.MATH):
        if isinstance(given, Mapping):
            model(**given)
        else:
            model(*given) if isinstance(given, tuple | list) else model(given)
    root = type(model).__name__
    by_name: Counter[str] = Counter()
    for name, counts in counter.get_flop_counts().items():
        by_name[name.removeprefix(f"{root}.")] = sum(counts.values())
    return counter.get_total_flops(), by_name


def _skips(seen: View) -> tuple[Counter[Node], Counter[Node]]:
    """Skip connections that each module starts, and that are joined before or in it."""
    after = {edge.source: edge.target for edge in seen.edges if edge.role == "main"}
    pushed: Counter[Node] = Counter()
    popped: Counter[Node] = Counter()
    for edge in seen.edges:
        target = edge.target
        if edge.role != "skip" or (target.module is None and target.name != "cat"):
            continue
        while target.module is None and target in after:
            target = after[target]
        source = next(_modules_before(edge.source, seen), None)
        pushed[source] += len(edge.shapes)
        popped[target] += len(edge.shapes)
    return pushed, popped


def _modules_before(node: Node, seen: View) -> Iterator[Node]:
    """The module that a tensor comes from, through functions such as a crop."""
    while node.module is None:
        before = [edge.source for edge in seen.edges if edge.target is node]
        if not before:
            return
        node = before[0]
    yield node
