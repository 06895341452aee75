"""What a check says: that something holds, or what came instead."""

import math
import sysconfig
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, allclose  # by name: a notebook may tamper with the module

_PATHS = sysconfig.get_paths()
_NOT_THE_STUDENTS = (
    _PATHS["stdlib"],
    _PATHS["purelib"],
    _PATHS["platlib"],
    str(Path(__file__).resolve().parents[1]),
)


@dataclass(frozen=True)
class Property:
    """One thing a check looked at.

    Attributes:
        name: what should hold, in words.
        passed: whether it does.
        message: what came instead and, if known, the cause; empty when it passed.
        attempted: False if the candidate is still the empty stub.
    """

    name: str
    passed: bool
    message: str = ""
    attempted: bool = True


def difference(got: Any, want: Tensor, axes: str) -> str | None:
    """What is different about `got`, or None if it equals `want`, whose axes have these names."""
    if type(got) not in (Tensor, torch.nn.Parameter):  # a subclass may answer as it likes
        return f"expected a torch tensor of shape {_shape(want, axes)}, got {describe(got)}"
    if got.shape != want.shape:
        return f"expected shape {_shape(want, axes)}, got {_shape(got, axes)}"
    # Strictly: what follows in the notebook mixes the answer with tensors of this dtype.
    if got.dtype != want.dtype:
        return f"expected dtype {want.dtype}, got {got.dtype}"
    # Single precision: what is left of a sum that cancels is as uncertain as its terms.
    single = want.dtype is torch.float32
    got, want = got.detach().to(torch.float64), want.detach().to(torch.float64)
    scale = float(want.abs().max()) if single and want.numel() else 0.0
    scale = scale if math.isfinite(scale) else 0.0
    if allclose(got, want, rtol=1e-5, atol=1e-7 + 1e-5 * scale):
        return None
    if bool(got.isnan().any()) and not bool(want.isnan().any()):
        return "it contains nan"
    gap = (got - want).abs().nan_to_num(nan=torch.inf)
    place = tuple(int(i) for i in torch.unravel_index(gap.argmax(), gap.shape))
    where = f"at {list(place)} " if place else ""
    digits = 6 if gap[place] > 1e-5 * want[place].abs() else 12
    return f"{where}expected {want[place].item():.{digits}g}, got {got[place].item():.{digits}g}"


def _shape(tensor: Tensor, axes: str) -> str:
    names = axes.split()
    if len(names) != tensor.ndim:
        return str(tuple(tensor.shape))
    return "(" + ", ".join(f"{n}={s}" for n, s in zip(names, tensor.shape, strict=True)) + ")"


def describe(value: Any) -> str:
    """Its type and as much of it as fits into a line."""
    if value is None:
        return "None: is the return missing?"
    # The numbers of many tensors take seconds to print, and say less than their sizes.
    if isinstance(value, tuple | list) and any(isinstance(part, Tensor) for part in value):
        parts = (_shape(p, "") if isinstance(p, Tensor) else type(p).__name__ for p in value)
        return f"{type(value).__name__} of {len(value)}: {', '.join(parts)}"[:80]
    return f"{type(value).__name__} {value!r}"[:80]


def raised(name: str, error: Exception) -> Property:
    """Property: a candidate raises; the line is the student's."""
    if isinstance(error, NotImplementedError) and not str(error):  # torch raises it with a reason
        return Property(name, False, "it stops at raise NotImplementedError", attempted=False)
    # The last line of the student's own: not one of the libraries called, nor of this package.
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [f for f in frames if f.line and not f.filename.startswith(_NOT_THE_STUDENTS)]
    line = f", in: {theirs[-1].line}" if theirs else ""
    reason = str(error).splitlines()[0] if str(error) else ""
    if "Tensor" in reason and "converted to" in reason:
        reason += " (math takes one number: torch has the same functions for tensors)"
    return Property(name, False, f"it raises {type(error).__name__}: {reason}{line}")
