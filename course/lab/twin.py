"""A copy of a model that can be run without touching the caller's, and what to say if it can't."""

import copy
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


class TraceError(ValueError):
    """A model can't be run on the inputs, or not without real numbers."""


def check_device(device: str) -> None:
    """Raise ValueError for a device on which models are not run."""
    if device not in ("meta", "cpu"):
        raise ValueError(f'device: expected "meta" or "cpu", came {device!r}')


def copy_to(model: nn.Module, device: str) -> nn.Module:
    """A deep copy on a device, in eval mode; towards "meta" without copying a single number.

    A compiled model is copied as it was before.

    Raises:
        TraceError: the model can't be copied.
    """
    model = getattr(model, "_orig_mod", model)
    memo, registered = {}, [*model.parameters(), *model.buffers()]
    ours = {id(tensor) for tensor in registered}
    for module in model.modules():  # what is kept, but not registered: tables, maps to look at
        for _, tensor in tensors_in("", vars(module)):
            if id(tensor) not in ours:
                memo[id(tensor)] = tensor.detach().to(device, copy=True)
    if device == "meta":
        for tensor in registered:
            if nn.parameter.is_lazy(tensor):
                raise TraceError(
                    f"model: {type(model).__name__} has layers that take their size from the first "
                    'input. Run it once before, or pass device="cpu" (on the command line '
                    "--device cpu)"
                )
            empty = torch.empty_like(tensor, device="meta")
            if isinstance(tensor, nn.Parameter):
                empty = nn.Parameter(empty, requires_grad=tensor.requires_grad)
            memo[id(tensor)] = empty
    try:
        return copy.deepcopy(model, memo).to(device).eval()
    except Exception as error:
        raise TraceError(
            f"model: expected one that copy.deepcopy can copy, {type(model).__name__} can't be: "
            f"{error}"
        ) from error


def copy_inputs(value: Any, device: str) -> Any:
    """The same with a copy of each tensor, on a device: a model may write into them."""
    if isinstance(value, Tensor):
        return value.detach().to(device, copy=True)
    if isinstance(value, Mapping):
        return {name: copy_inputs(inner, device) for name, inner in value.items()}
    if isinstance(value, tuple | list):
        copies = [copy_inputs(inner, device) for inner in value]
        return type(value)(*copies) if hasattr(value, "_fields") else type(value)(copies)
    return value


def tensors_in(name: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    """The tensors in an argument, with names such as skips[2]."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from tensors_in(f"{name}[{key!r}]", inner)
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            yield from tensors_in(f"{name}[{i}]", inner)


def explained(error: Exception, model: nn.Module, device: str) -> TraceError:
    """What to tell somebody whose model did not run: where, why, and what would help."""
    import torchview

    cause = error.__cause__ or error
    frames = traceback.extract_tb(cause.__traceback__)
    ours = tuple(str(Path(file).parent) for file in (torch.__file__, torchview.__file__, __file__))
    where = [frame for frame in frames if not frame.filename.startswith(ours)]
    where = [frame for frame in where if "site-packages" not in frame.filename] or where
    place = f" at {where[-1].filename}:{where[-1].lineno}, `{where[-1].line}`" if where else ""
    message = " ".join(str(cause).split())[:300]
    name = type(model).__name__
    if device == "meta" and "meta" in message.lower():
        what = f"looks at the values of a tensor{place}, which a run without numbers does not have"
        if "device" in message and "expected" in message.lower():
            what = f"mixes tensors without numbers and others{place}"
        return TraceError(
            f'model: {name} {what}. Pass device="cpu" (on the command line --device cpu) to run it '
            "with real ones; what is drawn is then the way that they take"
        )
    return TraceError(f"inputs: {name} can't be run on them{place}: {message}")
