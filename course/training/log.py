"""The log of a training: one line of JSON every few steps, whole whatever happens."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from torch import Tensor

from course.files import replace_file

FIELDS = ("step", "loss", "learning_rate", "gradient_norm", "seconds", "samples_per_second")


class LogError(ValueError):
    """A log is missing, malformed, or can't be written."""


class Log:
    """Writes a log; each line is in the file before the next step begins.

    Args:
        path: of the file.
        batch_size: samples per step.
    """

    def __init__(self, path: Path, batch_size: int):
        self.path, self.batch_size = path, batch_size
        self._file: IO[str] | None = None

    def open(self, step: int, seconds: float) -> None:
        """Begin with this step, after so many seconds.

        Lines of this step and of later ones, from a run that was killed, are removed.

        Raises:
            LogError: what is there is no log, or it can't be written.
        """
        kept = []
        if step and self.path.exists():
            kept = [line for line, entry in _entries(self.path) if entry["step"] < step]
        self._next, self._seconds = step, seconds
        with self._writing():
            replace_file(self.path, "".join(kept).encode())
            self._file = self.path.open("a", encoding="utf-8")

    def write(
        self, step: int, loss: float, learning_rate: float, norm: Tensor, seconds: float
    ) -> None:
        """Add a line; a norm that is not finite, as float16 may have it, is null.

        Raises:
            LogError: it can't be written.
        """
        samples = (step + 1 - self._next) * self.batch_size
        speed = samples / max(seconds - self._seconds, 1e-9)
        self._next, self._seconds = step + 1, seconds
        gradient_norm = norm.item() if norm.isfinite() else None
        values = (step, loss, learning_rate, gradient_norm, round(seconds, 3), round(speed, 1))
        with self._writing():
            self._file.write(json.dumps(dict(zip(FIELDS, values, strict=True))) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Close the file; what could not be written was reported before."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise LogError(f"{self.path}: the log could not be written ({error})") from error


def read_log(path: Path) -> dict[str, np.ndarray]:
    """The columns of a log, by the names in `FIELDS`; null is NaN.

    A last line without its end, of a training that was killed or goes on, does not count.

    Raises:
        LogError: there is no log, it has no line, or one that is malformed or out of order.
    """
    entries = [entry for _, entry in _entries(path)]
    if not entries:
        raise LogError(f"{path}: expected a log, came none of its lines")
    return {
        name: np.array([entry[name] for entry in entries], dtype=float)  # None becomes NaN
        for name in FIELDS
    }


def _entries(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except FileNotFoundError:
        raise LogError(f"{path}: expected a log, there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise LogError(f"{path}: expected a log, came {error}") from error
    before = -1
    for number, line in enumerate(lines, 1):
        if not line.endswith("\n"):
            return
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            entry = None
        if not _is_entry(entry) or entry["step"] <= before:
            raise LogError(
                f"{path}, line {number}: expected {', '.join(FIELDS)} of a step after {before}, "
                f"came {line.strip()[:80]!r}"
            )
        before = entry["step"]
        yield line, entry


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and all(isinstance(entry.get(name, ""), int | float | None) for name in FIELDS)
        and isinstance(entry["step"], int)
    )
