"""From a trace to what is drawn: modules closed at a depth, functions gathered, repeats folded."""

import heapq
from collections import defaultdict
from collections.abc import Iterable

from course.lab.boxes import Edge, Node, View
from course.lab.repeats import folded
from course.lab.trace import Call, Operation, Trace, Value

# The first kind that fits, by the name of a class or function, in lower case.
_KINDS = {
    "attention": ("attention", "attn", "transformer"),
    "normalisation": ("norm",),
    "convolution": ("conv",),
    "resampling": ("pool", "upsample", "interpolate", "pixel_shuffle", "pixelshuffle"),
    "embedding": ("embedding",),
    "activation": ("relu", "silu", "gelu", "elu", "sigmoid", "tanh", "softmax", "swish", "mish"),
    "linear": ("linear", "matmul", "einsum", "bmm"),
}
_PLUMBING = {"index", "to", "float", "type", "contiguous", "detach", "clone"}


Flows = dict[tuple[Node, Node], dict[Value, None]]


def view(trace: Trace, depth: int, focus: str | None = None, fold: bool = True) -> View:
    """What to draw of a trace.

    Args:
        trace: of a forward pass.
        depth: modules are opened down to this depth below what is drawn and closed there.
        focus: name of the module to draw; None for the whole model.
        fold: draw equal modules in a row once.

    Raises:
        ValueError: `depth` is below 1, or no module called `focus` was called.
    """
    if not isinstance(depth, int) or isinstance(depth, bool) or depth < 1:
        raise ValueError(f"depth: expected an integer of at least 1, came {depth!r}")
    base = trace.root if focus is None else trace.find(focus)
    nodes, flows = _Closing(trace, base, depth).close()
    nodes = _in_order(nodes, flows)
    edges = _roles(nodes, flows)
    groups: list[tuple[list[Node], int]] = []
    if fold:
        nodes, edges, groups = folded(nodes, edges)
    return View(nodes, edges, groups)


def kind_of(name: str) -> str:
    """What a layer or function is, by its name; "function" if the name says nothing."""
    for kind, parts in _KINDS.items():
        if any(part in name.lower() for part in parts):
            return kind
    return "function"


class _Closing:
    """Gathers the operations below `base` into boxes."""

    def __init__(self, trace: Trace, base: Call, depth: int):
        self.trace, self.base, self.depth = trace, base, depth
        self.level = len(base.ancestors())
        self.nodes: dict[object, Node] = {}
        self.flows: dict[tuple[Node, Node], dict[Value, None]] = defaultdict(dict)
        self.gathering: set[Node] = set()  # boxes of functions that take in what only they feed

    def close(self) -> tuple[list[Node], Flows]:
        for value in self.base.arguments:  # in the order of the signature
            self._source(value)
        for operation in self.trace.operations:
            if self._below(operation) is None:
                continue
            sources = [(self._source(value), value) for value in operation.inputs]
            node = self._box(operation)
            node.does.append(operation.name)
            for source, value in sources:
                if source is not node:
                    self._flow(source, node, value)
        many = len(self.base.outputs) > 1
        for i, value in enumerate(self.base.outputs):
            output = self._new((value, i), "output", f"output[{i}]" if many else "output")
            output.came.append(value.shape)
            self._flow(self._source(value), output, value)
        used = {node for flow in self.flows for node in flow}
        return [node for node in dict.fromkeys(self.nodes.values()) if node in used], self.flows

    def _below(self, operation: Operation) -> list[Call] | None:
        """The calls between `base` and an operation; None if it is elsewhere."""
        calls = operation.call.ancestors()
        if len(calls) < self.level or calls[self.level - 1] is not self.base:
            return None
        return calls[self.level :]

    def _box(self, operation: Operation) -> Node:
        calls = self._below(operation)
        leaf = bool(calls) and not any(calls[-1].module.children())
        if len(calls) >= self.depth or leaf:
            call = calls[: self.depth][-1]
            if call not in self.nodes:
                name = type(call.module).__name__
                kind = "block" if any(call.module.children()) else kind_of(name)
                node = self._new(call, kind, self._relative(call), call=call, module=call.module)
                node.inside = tuple(calls[: self.depth][:-1])
                node.went = [v.shape for v in call.outputs]
            return self.nodes[call]
        if operation not in self.nodes:
            self._function(operation, tuple(calls))
        return self.nodes[operation]

    def _function(self, operation: Operation, calls: tuple[Call, ...]) -> None:
        """Put a function into a box: its own, or that of functions which alone feed it."""
        name = _readable(operation.name)
        sources = {self._source(value) for value in operation.inputs}
        only = next(iter(sources)) if len(sources) == 1 else None
        if only in self.gathering and only.call is operation.call:
            self.nodes[operation] = only
            only.name += f", {name}"
            only.kind = "function"
            return
        kind = "join" if len(sources) > 1 else kind_of(name)
        node = self._new(operation, kind, name, call=operation.call)
        node.inside = calls
        if kind != "join":
            self.gathering.add(node)

    def _source(self, value: Value) -> Node:
        """Where a tensor comes from: a box, or an input of what is drawn."""
        if value.source is not None and self._below(value.source) is not None:
            return self._box(value.source)
        if value not in self.nodes:
            node = self._new(value, "input", self.base.arguments.get(value, "input"))
            node.went.append(value.shape)
        return self.nodes[value]

    def _flow(self, source: Node, target: Node, value: Value) -> None:
        self.flows[source, target][value] = None
        if value.shape not in target.came:
            target.came.append(value.shape)
        if source.module is None and value.shape not in source.went:
            source.went.append(value.shape)

    def _new(self, of: object, kind: str, name: str, **about) -> Node:
        node = Node(kind, name, **about)
        self.nodes[of] = node
        return node

    def _relative(self, call: Call) -> str:
        """The name of a module below the innermost open one around it."""
        around = call.parent.path
        return call.path[len(around) + 1 :] if around else call.path


def _readable(name: str) -> str:
    name = name.strip("_").removesuffix("_")
    return {"getitem": "index", "concat": "cat", "iadd": "add"}.get(name, name)


def _roles(nodes: list[Node], flows: Flows) -> list[Edge]:
    """Tell the main path, skips past it, and side inputs apart.

    The body is what depends on the first input; a box's rank is the longest way there within it.
    """
    into = defaultdict(list)
    for source, target in flows:
        into[target].append(source)
    rank: dict[Node, int] = {}
    for node in nodes:
        before = [rank[source] for source in into[node] if source in rank]
        if before:
            rank[node] = max(before) + 1
        elif not rank and node.kind == "input":
            rank[node] = 0
    edges = []
    for (source, target), values in flows.items():
        role = "main"
        if source not in rank:
            role = "side"
        elif rank[target] - rank[source] > 1:
            role = "skip"
        edges.append(Edge(source, target, tuple(value.shape for value in values), role))
    return edges


def _in_order(nodes: list[Node], flows: Iterable[tuple[Node, Node]]) -> list[Node]:
    """Sources before targets, else as they are."""
    position = {node: i for i, node in enumerate(nodes)}
    waiting, out = dict.fromkeys(nodes, 0), defaultdict(list)
    for source, target in flows:
        waiting[target] += 1
        out[source].append(target)
    ready, order = [i for i, node in enumerate(nodes) if not waiting[node]], []
    while ready:
        node = nodes[heapq.heappop(ready)]
        order.append(node)
        for target in out[node]:
            waiting[target] -= 1
            if not waiting[target]:
                heapq.heappush(ready, position[target])
    return order


def functions(name: str, most: int = 4) -> str:
    """A short text for a box of functions: what matters of them."""
    names = list(dict.fromkeys(name.split(", ")))
    names = [n for n in names if n not in _PLUMBING] or names
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
