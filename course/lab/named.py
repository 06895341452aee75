"""A model and its inputs from what is typed on a command line."""

import importlib
import re
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from course.lab.trace import Inputs, near
from course.lab.twin import check_device
from course.models.configs import CONFIGURATIONS


def model_and_inputs(
    name: str, shapes: Sequence[str] = (), device: str = "meta"
) -> tuple[nn.Module, Inputs]:
    """Find or make a model, with inputs for it.

    Args:
        name: a configuration of the course, or package.module:callable, for a class, function or
            module of anyone's that needs no argument.
        shapes: of the inputs, in the order of the model's forward method: "1x3x64x64", or
            "1:int64" for other numbers than float32. A configuration brings its own.
        device: "meta", where weights take no memory, or "cpu".

    Raises:
        ValueError: there is no such model, it can't be made there, or a shape can't be read.
    """
    check_device(device)
    if name in CONFIGURATIONS:
        build, inputs = CONFIGURATIONS[name].build, CONFIGURATIONS[name].inputs()
    elif ":" in name:
        build, inputs = _theirs(name), None
    else:
        raise ValueError(
            f"model: expected a configuration or package.module:callable, "
            f"{near(name, list(CONFIGURATIONS))}"
        )
    if shapes:
        inputs = tuple(_tensor(shape) for shape in shapes)
    if inputs is None:
        raise ValueError(f"input: expected the shape of each input of {name}, came none")
    if device == "cpu":
        inputs = _filled(inputs)
    try:
        with torch.device(device):
            model = build()
    except RuntimeError as error:
        if device != "meta" or "meta" not in str(error).lower():
            raise
        raise ValueError(
            f"model: {name} looks at the values of a tensor while it is made "
            f"({str(error).splitlines()[0]}). Pass --device cpu to make it with real numbers"
        ) from error
    if not isinstance(model, nn.Module):
        kind = type(model).__name__
        raise ValueError(f"model: expected {name} to give a torch.nn.Module, came {kind}")
    return model, inputs


def _theirs(name: str):
    """What makes the model at package.module:callable."""
    module, _, path = name.partition(":")
    try:
        found = importlib.import_module(module)
    except (ImportError, TypeError, ValueError) as error:  # the last two for names like ".a"
        raise ValueError(f"model: expected a module that can be imported, {error}") from error
    for part in path.split("."):
        if not hasattr(found, part):
            raise ValueError(
                f"model: expected something in {module}, {near(path, public_names(found))}"
            )
        found = getattr(found, part)
    if isinstance(found, nn.Module):
        return lambda: found
    if not callable(found):
        raise ValueError(f"model: expected {name} to be callable, came {type(found).__name__}")

    def build() -> object:
        try:
            return found()
        except TypeError as error:
            raise ValueError(f"model: expected {name} to need no argument: {error}") from error

    return build


def public_names(module: object) -> list[str]:
    """Names in a module that somebody may want to draw."""
    return [n for n in dir(module) if not n.startswith("_") and callable(getattr(module, n))]


def _tensor(text: str) -> Tensor:
    """A tensor without numbers of the shape 1x3x64x64, or 1:int64."""
    shape, _, kind = text.partition(":")
    dtype = getattr(torch, kind or "float32", None)
    if not re.fullmatch(r"\d+(x\d+)*", shape) or not isinstance(dtype, torch.dtype):
        raise ValueError(f'input: expected a shape such as 1x3x64x64 or "1:int64", came {text!r}')
    return torch.empty([int(size) for size in shape.split("x")], dtype=dtype, device="meta")


def _filled(inputs: Inputs) -> Inputs:
    """The same with zeros for numbers."""
    if isinstance(inputs, dict):
        return {name: torch.zeros_like(value, device="cpu") for name, value in inputs.items()}
    return tuple(torch.zeros_like(value, device="cpu") for value in inputs)
