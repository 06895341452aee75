"""What a model computes: every call of a module and every operation, and who feeds whom."""

import inspect
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from course.lab.twin import check_device, copy_inputs, copy_to, explained, tensors_in

Inputs = Tensor | tuple | list | Mapping[str, Any]
Shape = tuple[int, ...]


@dataclass(eq=False, repr=False)
class Call:
    """One call of a module.

    Attributes:
        path: name of the module in the model, as in its state dict; "" for the model itself.
        module: the module, a copy of the caller's.
        parent: the call that made it; None for the model's own.
        outputs: what it returned.
        arguments: of the tensors that it was given, the name of the argument.
    """

    path: str
    module: nn.Module
    parent: "Call | None"
    outputs: "list[Value]" = field(default_factory=list)
    arguments: "dict[Value, str]" = field(default_factory=dict)
    children: "list[Call]" = field(default_factory=list)

    def ancestors(self) -> "list[Call]":
        """From the model's own call down to this one."""
        return [*(self.parent.ancestors() if self.parent else []), self]


@dataclass(eq=False, repr=False)
class Value:
    """A tensor: its shape, and the operation it comes from, None for an input of the model."""

    shape: Shape
    source: "Operation | None"


@dataclass(eq=False, repr=False)
class Operation:
    """One function of torch, called in `call` on `inputs`."""

    name: str
    call: Call
    inputs: list[Value]


@dataclass(frozen=True, repr=False)
class Trace:
    """All that happened in one forward pass, in order.

    Attributes:
        root: call of the model itself.
        operations: those that depend on an input, in the order in which they ran.
        calls: of modules, in the order in which they began.
    """

    root: Call
    operations: list[Operation]
    calls: list[Call]

    def find(self, path: str) -> Call:
        """The first call of the module of that name.

        Raises:
            ValueError: no such module was called; the message has similar names.
        """
        for call in self.calls:
            if call.path == path:
                return call
        known = list(dict.fromkeys(call.path for call in self.calls if call.path))
        raise ValueError(f"focus: expected a module that is called, {near(path, known)}")


def near(name: str, known: list[str]) -> str:
    """The end of a message: names like the one that came, or the first few there are."""
    import difflib

    close = difflib.get_close_matches(name, known, n=5, cutoff=0.4) or known[:8]
    return f"such as {', '.join(close)}; came {name!r}" if close else f"came {name!r}"


def trace(model: nn.Module, inputs: Inputs, device: str = "meta") -> Trace:
    """Run a copy of `model` once, in eval mode, and note every call and operation.

    Args:
        model: any; it is neither changed nor moved.
        inputs: of its forward method: a tensor, several in a tuple or list, or a dict by name.
            Only shapes and dtypes count on the device "meta".
        device: "meta" computes nothing, so that the largest model costs neither memory nor time;
            "cpu" computes with real numbers, for models that look at them to decide what to do.

    Raises:
        TraceError: the model can't be copied or can't take the inputs, or it looks at numbers and
            there are none.
        ValueError: an argument is not as above.
    """
    from torchview import draw_graph

    if not isinstance(model, nn.Module):
        raise ValueError(f"model: expected a torch.nn.Module, came {type(model).__name__}")
    check_device(device)
    if isinstance(inputs, Tensor):
        inputs = (inputs,)
    named = tensors_in("", inputs) if isinstance(inputs, tuple | list | Mapping) else ()
    if not any(True for _ in named):
        raise ValueError(
            "inputs: expected a tensor, a tuple of arguments or a dict by name, "
            f"with a tensor among them, came {type(inputs).__name__}"
        )
    twin = copy_to(model, device)
    passed: dict[int, dict[int, str]] = {}
    hooks = [
        module.register_forward_pre_hook(_note_arguments(passed), with_kwargs=True)
        for module in twin.modules()
    ]
    by_name = isinstance(inputs, Mapping)
    try:
        # What the model itself makes without a device, a mask or a table, is made on this one.
        with warnings.catch_warnings(), torch.device(device), _assignments_noted():
            warnings.simplefilter("ignore")
            given = copy_inputs(inputs, device)
            drawn = draw_graph(
                twin,
                input_data=given if by_name else list(given),
                device=device,
                depth=0,
                strict=False,
            )
    except Exception as error:
        raise explained(error, model, device) from error
    finally:
        for hook in hooks:
            hook.remove()
    return _Reader(twin, passed).read(drawn.node_hierarchy)


@contextmanager
def _assignments_noted() -> Iterator[None]:
    """Have torchview note x[i] = y, which returns nothing, like any operation in place."""
    from torchview.recorder_tensor import RecorderTensor

    before = RecorderTensor.__dict__["__torch_function__"]

    def setitem(x: Tensor, index: Any, value: Any) -> Tensor:
        Tensor.__setitem__(x, index, value)
        return x

    def noted(cls, func, types, args=(), kwargs=None):
        func = setitem if func is Tensor.__setitem__ else func
        return before.__func__(cls, func, types, args, kwargs)

    RecorderTensor.__torch_function__ = classmethod(noted)
    try:
        yield
    finally:
        RecorderTensor.__torch_function__ = before


def _note_arguments(passed: dict[int, dict[int, str]]):
    """A hook that remembers under which name a module was given each tensor, in order."""

    def hook(module: nn.Module, args: tuple, kwargs: dict) -> None:
        try:
            bound = inspect.signature(module.forward).bind(*args, **kwargs).arguments
        except TypeError:  # the call itself will say so
            return
        kinds = inspect.signature(module.forward).parameters
        for name, value in bound.items():
            flat = kinds[name].kind is inspect.Parameter.VAR_KEYWORD
            for key, inner in value.items() if flat else [(name, value)]:
                for path, tensor in tensors_in(key, inner):
                    passed.setdefault(id(module), {}).setdefault(id(tensor), path)

    return hook


class _Reader:
    """Turns torchview's record, a tree of calls with tensors between them, into a Trace."""

    def __init__(self, model: nn.Module, passed: dict[int, dict[int, str]]):
        self.modules = {}
        for path, module in model.named_modules():
            self.modules[id(module)] = (path, module)
        self.passed = passed
        self.values: dict[Any, Value] = {}
        self.operations: dict[Any, Operation] = {}
        self.calls: list[Call] = []

    def read(self, hierarchy: dict) -> Trace:
        from torchview.computation_node import FunctionNode

        self.is_function = lambda node: isinstance(node, FunctionNode)
        ((_, top),) = hierarchy.items()
        (root,) = [item for item in top if isinstance(item, dict)]
        self._walk(root, None)
        live = set()
        for operation in self.operations.values():
            if any(v.source is None or v.source in live for v in operation.inputs):
                live.add(operation)
                # What is computed from constants alone is a constant.
                operation.inputs = [
                    v for v in operation.inputs if v.source is None or v.source in live
                ]
        return Trace(self.calls[0], [o for o in self.operations.values() if o in live], self.calls)

    def _walk(self, item: Any, call: Call | None) -> None:
        if isinstance(item, dict):
            ((node, inside),) = item.items()
            path, module = self.modules[node.compute_unit_id]
            here = Call(path, module, call)
            self.calls.append(here)
            if call is not None:
                call.children.append(here)
            for inner in inside:
                self._walk(inner, here)
            names = list(self.passed.get(id(module), {}).values())  # as in the signature
            here.arguments = dict(sorted(here.arguments.items(), key=lambda a: names.index(a[1])))
            here.outputs = [v for v in map(self._value, node.output_nodes) if v is not None]
        elif self.is_function(item):
            if item.name == "empty-pass":
                return
            inputs = [v for v in map(self._value, item.parents) if v is not None]
            self.operations[item] = Operation(item.name, call, inputs)
        elif item.is_aux and call is not None:
            name = self.passed.get(id(call.module), {}).get(item.tensor_id)
            value = self._value(item)
            if name is not None and value is not None:
                call.arguments.setdefault(value, name)

    def _value(self, tensor: Any) -> Value | None:
        """The value of one of torchview's tensors; None for what no input or operation made."""
        tensor = tensor.main_node
        makers = list(tensor.parents)
        if makers and makers[0].name == "empty-pass":
            return self._value(next(iter(makers[0].parents)))
        if tensor not in self.values:
            if makers and makers[0] in self.operations:
                source = self.operations[makers[0]]
            elif makers or tensor.name != "input-tensor":
                return None
            else:
                source = None
            self.values[tensor] = Value(tuple(tensor.tensor_shape), source)
        return self.values[tensor]
