"""What a check cell calls: run a pure check, show a badge, hand back a function that works.

    kl = check.kl(kl)          # yours if it is right, the course's if it is not
    check.require("kl")        # raises under grading if yours did not pass
    check.number("sum", sum_)  # pencil work: a function that returns your number
    check.summary()            # how you stand in this notebook

Every exercise of `course.teach.checks` is an attribute of this module.
"""

import contextlib
import datetime
import difflib
import functools
import html
import inspect
import json
import os
import secrets
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from IPython.display import display

import course
from course.files import replace_file
from course.lab import predict
from course.teach.checks import EXERCISES
from course.teach.exercise import HANDED_IN, Exercise, Property

_outcomes: dict[str, "Outcome"] = {}

_MANY = 12  # of properties that all hold: folded, so that they do not flood the page


class CheckFailed(AssertionError):
    """Under grading: the student's own answer to an exercise did not pass."""


@dataclass(frozen=True)
class Outcome:
    """What a check found: `status` is "passed", "failed" or "todo"; `message` says why."""

    exercise: str
    status: str
    message: str
    properties: tuple[Property, ...] = ()

    def _repr_html_(self) -> str:
        mine = self.status == "passed"
        colour = "#0072B2" if mine else "#B8860B"
        rows = "".join(
            f"<div>{'&#10003;' if p.passed else '&#10007;'} {html.escape(p.name)}</div>"
            for p in self.properties
        )
        if mine and len(self.properties) > _MANY:
            rows = f"<details><summary>all {len(self.properties)} hold</summary>{rows}</details>"
        return (
            f'<div style="border-left:4px solid {colour};padding:2px 10px;margin:2px 0">'
            f"<b>{'yours' if mine else 'ours'}</b> <code>{html.escape(self.exercise)}</code>"
            f"{'' if mine else ', because ' + html.escape(self.message)}{rows}</div>"
        )

    def __repr__(self) -> str:
        head = "yours" if self.status == "passed" else "ours"
        lines = [f"[{head}] {self.exercise}" + (f": {self.message}" if self.message else "")]
        lines += [f"  {'ok ' if p.passed else 'NOT'} {p.name}" for p in self.properties]
        return "\n".join(lines)


def __getattr__(name: str) -> Callable[[Callable], Callable]:
    if name.startswith("_"):
        raise AttributeError(name)
    return functools.partial(_check, _find(name, AttributeError))


def __dir__() -> list[str]:
    return sorted([*EXERCISES, "number", "require", "summary"])


def number(name: str, candidate: Callable) -> Callable:
    """Check pencil work.

    Args:
        name: name of the exercise.
        candidate: function without arguments that returns your number.

    Returns:
        Your function if its number is right, else the course's, marked.

    Raises:
        ValueError: if there is no such exercise or it does not ask for a number.
    """
    exercise = _find(name, ValueError)
    if exercise.kind != "number":
        raise ValueError(f"name: {name!r} does not ask for a number; use check.{name}({name})")
    return _check(exercise, candidate)


def require(name: str) -> None:
    """Under grading (NBGRADER_EXECUTION or COURSE_STRICT set) insist that your own answer passed.

    Raises:
        CheckFailed: under grading, if it did not pass or was not checked.
        ValueError: if there is no such exercise.
    """
    _find(name, ValueError)
    if not (os.environ.get("NBGRADER_EXECUTION") or os.environ.get("COURSE_STRICT")):
        return
    outcome = _outcomes.get(name)
    if outcome is None:
        raise CheckFailed(f"{name}: run its check first")
    if outcome.status != "passed":
        raise CheckFailed(f"{name}: {outcome.message}")


def summary() -> None:
    """Show how each exercise checked in this notebook stands, and how your predictions went."""
    display(_Summary(tuple(_outcomes.values()), predict.tally()))


@dataclass(frozen=True)
class _Summary:
    outcomes: tuple[Outcome, ...]
    predictions: predict.Tally

    def _lines(self) -> list[tuple[str, str, str]]:
        words = {"passed": "yours", "failed": "ours", "todo": "ours"}
        return [(o.exercise, words[o.status], o.message) for o in self.outcomes]

    def _totals(self) -> str:
        passed = sum(o.status == "passed" for o in self.outcomes)
        text = f"{passed} of {len(self.outcomes)} exercises are yours."
        if self.predictions.asked:
            text += (
                f" Predictions: {self.predictions.right} right of {self.predictions.answered}"
                f" given, {self.predictions.asked} asked."
            )
        return text

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td style='text-align:left'><code>{html.escape(name)}</code></td><td>{whose}</td>"
            f"<td style='text-align:left'>{html.escape(message)}</td></tr>"
            for name, whose, message in self._lines()
        )
        return f"<table>{rows}</table><p>{self._totals()}</p>"

    def __repr__(self) -> str:
        lines = [
            f"{name:28} {whose:6} {message}".rstrip() for name, whose, message in self._lines()
        ]
        return "\n".join([*lines, self._totals()])


def _check(exercise: Exercise, candidate: Callable) -> Callable:
    outcome = _judge(exercise, candidate)
    if outcome.status == "passed" or not _is_ours(candidate):
        # A second run of a failed check sees our own function: what was found before still stands.
        _outcomes[exercise.name] = outcome
        _record(outcome)
    elif _outcomes.setdefault(exercise.name, outcome).status == "passed":
        message = "this is the course's; yours passed before and counts: run its cell to use it"
        outcome = replace(outcome, message=message)
    display(outcome)
    return candidate if outcome.status == "passed" else _Lent(exercise)


def _judge(exercise: Exercise, candidate: Callable) -> Outcome:
    if _is_ours(candidate):
        message = "this is the course's: run your own cell again, then this one"
        return Outcome(exercise.name, "failed", message)
    if not callable(candidate):
        message = f"expected a function, got {type(candidate).__name__}: pass the function itself"
        return Outcome(exercise.name, "failed", message)
    seed = secrets.randbelow(2**31)
    watched, ran = _watched(candidate, exercise)
    # nbgrader takes all points from a cell that writes to stderr, be it a mere warning.
    with contextlib.redirect_stderr(sys.stdout):
        properties = tuple(exercise.run(watched, seed))
    if not any(p.attempted for p in properties):
        return Outcome(exercise.name, "todo", "it is not attempted yet")
    if ran:
        return Outcome(exercise.name, "failed", "it calls code of the course: write it yourself")
    failed = [p for p in properties if not p.passed]
    if failed:
        return Outcome(exercise.name, "failed", failed[0].message or failed[0].name, properties)
    return Outcome(exercise.name, "passed", "", properties)


def _watched(candidate: Callable, exercise: Exercise) -> tuple[Callable, list[bool]]:
    """The candidate, and a list that is no longer empty once code of the course ran inside of it.

    Under whatever name, and in any thread. Not counted: what the check itself hands in, and answers
    to other exercises that were lent. A copy of the source is not noticed: the course is an open
    book, and whoever wants to forge a mark in this process can.
    """
    ran: list[bool] = []
    lent: list[FrameType] = []

    def notice(frame: FrameType, event: str, _: object) -> None:
        if event == "return" and lent and frame is lent[-1]:
            lent.pop()
        elif event == "call" and not lent and frame.f_code.co_filename.startswith(_PACKAGE):
            lender = frame.f_locals.get("self")
            other = isinstance(lender, _Lent) and lender.exercise is not exercise
            if other or frame.f_code is HANDED_IN:
                lent.append(frame)
            else:
                ran.append(True)

    def watched(*args):
        previous, previous_in_threads = sys.getprofile(), threading.getprofile()
        threading.setprofile(notice)
        sys.setprofile(notice)
        try:
            return candidate(*args)
        finally:
            if sys.getprofile() is not notice:  # somebody did not want to be watched
                ran.append(True)
            sys.setprofile(previous)
            threading.setprofile(previous_in_threads)

    return watched, ran


def _is_ours(candidate: Callable) -> bool:
    """Whether a callable is a marked reference or was defined in `course`."""
    while isinstance(candidate, functools.partial):
        candidate = candidate.func
    if hasattr(candidate, "__course_reference__"):
        return True
    module = getattr(inspect.unwrap(candidate) if callable(candidate) else None, "__module__", "")
    return (module or "").split(".")[0] == "course"


class _Lent:
    """The course's answer, marked, for a student whose own is missing or wrong."""

    def __init__(self, exercise: Exercise):
        functools.update_wrapper(self, exercise.reference)
        self.exercise = exercise
        self.__course_reference__ = exercise.name

    def __call__(self, *args, **kwargs):
        return self.exercise.reference(*args, **kwargs)


_PACKAGE = str(Path(course.__file__).parent) + os.sep


def _find(name: str, error: type[Exception]) -> Exercise:
    if name in EXERCISES:
        return EXERCISES[name]
    near = difflib.get_close_matches(name, EXERCISES, n=3)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise error(f"name: there is no exercise {name!r}{hint}")


def _record(outcome: Outcome) -> None:
    """In a student's workspace, keep the outcome for `python -m course progress`."""
    workspace = Path(".course")
    if not workspace.is_dir():
        return
    entry = {
        "exercise": outcome.exercise,
        "status": outcome.status,
        "message": outcome.message,
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    path = workspace / "progress" / f"{outcome.exercise}.json"
    try:
        replace_file(path, json.dumps(entry).encode())
    except OSError as error:
        print(f"your progress could not be saved in {path}: {error.strerror}")
