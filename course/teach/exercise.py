"""What an exercise is: a pure check of any callable, and the answer of the course.

A check draws its own random inputs from a seed, calls the candidate and returns a list of
`Property`. It prints nothing, keeps nothing and never looks inside the candidate, so the candidate
may as well be a proxy to a process that is not trusted. Printing and recording are in `check`.
"""

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, equal  # by name: a notebook may tamper with the module

from course.teach.property import Property, describe, difference, raised

DIFFERS = "two calls with the same inputs differ: does it draw random numbers itself?"


class Draw:
    """Random inputs of a check: float64, a new stream per seed, the global generator untouched."""

    def __init__(self, seed: int):
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        unit = torch.rand(shape, generator=self.generator, dtype=torch.float64)
        return low + (high - low) * unit

    def integer(self, low: int, high: int) -> int:
        """One integer from low to high, both included."""
        return int(torch.randint(low, high + 1, (), generator=self.generator))


@dataclass(frozen=True)
class Exercise:
    """A named exercise.

    Attributes:
        name: the name of the function that the student writes.
        check: yields properties of a candidate for the inputs of a `Draw`.
        reference: the answer of the course, defined in `course`.
        kind: "function", "number" or "referee".
    """

    name: str
    check: Callable[[Callable, Draw], Iterator[Property]]
    reference: Callable
    kind: str = "function"

    def run(self, candidate: Callable, seed: int) -> list[Property]:
        """Check a candidate on the inputs of one seed. Pure: the same seed gives the same list."""
        return list(self.check(candidate, Draw(seed)))


def exercise(reference: Callable, kind: str = "function") -> Callable[[Callable], Exercise]:
    """Make an exercise of a check function `check(candidate, draw)` that yields properties."""

    def make(check: Callable) -> Exercise:
        return Exercise(check.__name__, check, reference, kind)

    return make


def agrees(
    name: str,
    candidate: Callable,
    inputs: tuple,
    want: Tensor,
    axes: str = "",
    wrong: Mapping[str, Callable] | None = None,
) -> Property:
    """Property: candidate(*inputs) is the tensor `want`.

    Args:
        name: what should hold, in words.
        candidate: function under test; it gets copies of the inputs.
        inputs: positional arguments.
        want: right answer.
        axes: names of the axes of the answer, for example "B D".
        wrong: known wrong answers: cause -> function of the same inputs. The one that matches the
            candidate's output is named in the message.
    """
    copies = _copies(inputs)
    try:
        got = candidate(*copies)
    except Exception as error:
        return raised(name, error)
    problem = difference(got, want, axes)
    if problem is None:
        for given, mine in zip(inputs, copies, strict=True):
            if isinstance(given, Tensor) and not equal(given, mine):
                return Property(name, False, "it changes its input in place: work on a new tensor")
            if isinstance(given, list) and given != mine:
                message = "it changes the list it is given: the notebook needs it once more"
                return Property(name, False, message)
        return Property(name, True)
    if not isinstance(got, Tensor):  # nor is any known mistake
        return Property(name, False, problem)
    for cause, mistake in (wrong or {}).items():
        # Some mistakes can't be made with some inputs.
        with suppress(ArithmeticError, ValueError), warnings.catch_warnings(action="ignore"):
            if difference(got, mistake(*inputs), axes) is None:
                return Property(name, False, cause)
    with suppress(Exception):
        if not equal(candidate(*_copies(inputs)).nan_to_num(), got.nan_to_num()):
            problem = DIFFERS
    return Property(name, False, problem)


def attempt(name: str, function: Callable, *inputs: Any) -> tuple[Any, Property | None]:
    """What a function returns, and the property that tells of it where it raises."""
    try:
        return function(*inputs), None
    except Exception as error:
        return None, raised(name, error)


def _copies(inputs: tuple) -> tuple:
    return tuple(
        item.clone() if isinstance(item, Tensor) else item[:] if isinstance(item, list) else item
        for item in inputs
    )


def differentiable(
    name: str, candidate: Callable, reference: Callable, inputs: tuple, by: Mapping[str, int]
) -> Property:
    """Property: the candidate has the gradient of the reference.

    Args:
        name: what should hold, in words.
        candidate: function under test.
        reference: right answer.
        inputs: positional arguments.
        by: names and positions of the arguments to differentiate by.
    """

    def gradients(function: Callable) -> list[Tensor]:
        copies = _copies(inputs)
        leaves = [copies[i].requires_grad_() for i in by.values()]
        out = function(*copies).sum()
        if not out.requires_grad:
            return [torch.zeros_like(leaf) for leaf in leaves]
        return list(torch.autograd.grad(out, leaves, materialize_grads=True))

    try:
        got = gradients(candidate)
    except Exception as error:
        return raised(name, error)
    pairs = dict(zip(by, zip(got, gradients(reference), strict=True), strict=True))
    lost = [label for label, (g, w) in pairs.items() if not g.any() and w.any()]
    if lost:
        message = f"no gradient reaches {' or '.join(lost)}: is there a detach, no_grad or NumPy?"
        return Property(name, False, message)
    for label, (g, w) in pairs.items():
        if problem := difference(g, w, ""):
            return Property(name, False, f"the gradient by {label} is wrong: {problem}")
    return Property(name, True)


def decides(
    name: str, candidate: Callable, subject: Callable, want: bool, message: str
) -> Property:
    """Property: the student's referee, called on a function, returns the right verdict.

    Args:
        name: what should hold, in words.
        candidate: the student's referee.
        subject: the function to be judged; the referee sees neither its name nor its source file.
        want: True if the referee must accept it.
        message: what a wrong verdict means.
    """

    try:
        verdict = candidate(handed_in(subject))
    except Exception as error:
        return raised(name, error)
    if isinstance(verdict, Tensor) and verdict.numel() == 1:
        verdict = verdict.item()
    if type(verdict).__name__ not in ("bool", "bool_"):
        return Property(name, False, f"expected True or False, got {describe(verdict)}")
    return Property(name, True) if bool(verdict) == want else Property(name, False, message)


def judges(
    candidate: Callable,
    right: Mapping[str, Callable],
    why: str,
    wrong: Mapping[str, tuple[Callable, str]],
) -> Iterator[Property]:
    """Properties: the student's referee accepts every right formula and rejects every wrong one.

    Args:
        candidate: the student's referee.
        right: name -> formula.
        why: what it may mean that one of these is rejected.
        wrong: cause -> a formula with it, and what to try if it is accepted.
    """
    for name, formula in right.items():
        message = f"it rejects {name}: {why}"
        yield decides(f"accepts {name}", candidate, formula, True, message)
    for cause, (formula, hint) in wrong.items():
        message = f"it accepts a formula with {cause}: {hint}"
        yield decides(f"rejects a formula with {cause}", candidate, formula, False, message)


def handed_in(subject: Callable) -> Callable:
    """The same function without its name; a candidate may call it though it is of the course."""

    def formula(*arguments, **named):
        return subject(*arguments, **named)

    return formula


# The code of what a check hands to a candidate, for those who watch which code runs.
HANDED_IN = inspect.unwrap(handed_in(max)).__code__


def number(
    name: str,
    right: float,
    wrong: Mapping[str, float],
    reference: Callable,
    tolerance: float = 0.005,
) -> Exercise:
    """An exercise done with a pencil: the candidate takes nothing and returns a number.

    Args:
        name: name of the exercise.
        right: right answer.
        wrong: known wrong answers: cause -> number.
        reference: function that computes the right answer.
        tolerance: largest relative difference that counts as right.
    """

    def close(a: float, b: float) -> bool:
        return abs(a - b) <= tolerance * abs(b)

    def check(candidate: Callable, draw: Draw) -> Iterator[Property]:
        exactly = tolerance < 5e-4
        title = "your number, exactly" if exactly else f"your number, to {tolerance:.1%}"
        try:
            got = candidate()
        except Exception as error:
            yield raised(title, error)
            return
        if isinstance(got, Tensor | np.ndarray | np.generic) and got.ndim == 0:
            got = got.item()  # one number, only wrapped
        if type(got) not in (int, float):  # one derived from them may compare as it likes
            yield Property(title, False, f"expected a plain number, got {describe(got)}")
            return
        causes = [cause for cause, value in wrong.items() if close(got, value)]
        near = abs(got - right) <= 10 * tolerance * abs(right)
        otherwise = ": close, but let Python compute it to three digits" if near else " is not it"
        if exactly:
            otherwise = " is not it: too " + ("small" if got < right else "large")
        digits = 12 if exactly else 6
        message = "" if close(got, right) else [*causes, f"{got:.{digits}g}{otherwise}"][0]
        yield Property(title, not message, message)

    return Exercise(name, check, reference, kind="number")
