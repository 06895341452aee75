"""The students' workspace: where it is, how notebooks are read, made and written without loss."""

import copy
import json
import os
import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

from nbformat import NotebookNode

import course
from course.files import replace_file

KEY_NUMBERS = "# NBVAL_CHECK_OUTPUT\n"  # for the tests of the masters, not for students
STUB = "# your code here\nraise NotImplementedError"


class WorkspaceError(ValueError):
    """Something that the user can put right: a wrong name, an unreadable notebook, no workspace."""


def home() -> Path:
    """The clone that `course` runs from, else the folder named by COURSE_HOME.

    Raises:
        WorkspaceError: there is neither.
    """
    clone = Path(course.__file__).resolve().parents[1]
    if (clone / "pyproject.toml").is_file() and (clone / "notebooks").is_dir():
        return clone
    chosen = os.environ.get("COURSE_HOME")
    if not chosen:
        raise WorkspaceError(
            f"no notebooks beside the package in {clone}: install it from a clone of the course"
            " with pip install -e, or set COURSE_HOME to the folder of the clone"
        )
    folder = Path(chosen).expanduser()
    if not (folder / "notebooks").is_dir():
        raise WorkspaceError(
            f"COURSE_HOME: expected a clone of the course, no notebooks/ in {folder}"
        )
    return folder


def default_workspace() -> Path:
    """The folder `workspace` of the clone, which git ignores."""
    return home() / "workspace"


def find_masters(folder: Path | None = None) -> dict[str, Path]:
    """The master notebooks by name without ending, in order.

    Args:
        folder: where they are; `notebooks` of the clone if None.

    Raises:
        WorkspaceError: there are none.
    """
    folder = home() / "notebooks" if folder is None else folder
    found = {path.stem: path for path in sorted(folder.glob("[!.]*.ipynb"))}
    if not found:
        raise WorkspaceError(f"no notebooks in {folder}")
    return found


def read(path: Path) -> NotebookNode:
    """Read a notebook of format 4; cells of an old minor version may lack ids.

    Raises:
        WorkspaceError: it is not there, or it is not a notebook of format 4.
    """
    try:
        return parse(path.read_bytes())
    except OSError as error:
        raise WorkspaceError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise WorkspaceError(f"{path}: {error}") from error


def parse(data: bytes) -> NotebookNode:
    """A notebook from the bytes of its file.

    Raises:
        WorkspaceError: they are not a notebook of format 4.
    """
    import nbformat

    try:
        content = json.loads(data.decode("utf-8-sig"))
        json.dumps(content, ensure_ascii=False).encode()  # half a surrogate pair can't be written
    except (ValueError, RecursionError) as error:
        raise WorkspaceError(f"not a notebook, its JSON is broken: {error}") from error
    if not isinstance(content, dict) or "cells" not in content or content.get("nbformat") != 4:
        raise WorkspaceError("not a notebook of format 4: open it in JupyterLab and save it")
    try:
        notebook = nbformat.v4.to_notebook(content)
        nbformat.validate(_numbered(notebook))
    except (nbformat.ValidationError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise WorkspaceError(f"not a valid notebook: {reason}") from error
    return notebook


def serialise(notebook: NotebookNode) -> bytes:
    """The bytes of a notebook file: the same notebook gives the same bytes."""
    import nbformat

    nbformat.validate(notebook)
    return (nbformat.v4.writes(notebook) + "\n").encode()


def back_up(data: bytes, name: str, folder: Path) -> Path:
    """Keep the bytes of a notebook as NAME-TIME.ipynb in a folder; never writes over a file."""
    stamp = f"{name}-{datetime.now():%Y%m%dT%H%M%S}"
    path, count = folder / f"{stamp}.ipynb", 0
    while path.exists():
        count += 1
        path = folder / f"{stamp}-{count}.ipynb"
    replace_file(path, data)
    return path


def student_version(master: NotebookNode, *, hidden_tests: bool = False) -> NotebookNode:
    """A master without solutions and outputs, its cells locked and signed, by nbgrader's own steps.

    Args:
        master: notebook with solutions.
        hidden_tests: keep the hidden tests, for grading.

    Raises:
        WorkspaceError: regions or metadata of the master are broken.
    """
    from nbgrader import preprocessors as steps
    from nbgrader.nbgraderformat import ValidationError
    from traitlets.config import Config

    hide = [] if hidden_tests else [steps.ClearHiddenTests]
    config = Config({"ClearSolutions": {"code_stub": {"python": STUB}}})
    notebook, resources = copy.deepcopy(master), {}
    # What execution leaves behind would make every new run of a master look like a new version.
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        cell.source = cell.source.removeprefix(KEY_NUMBERS)
    try:
        for step in (
            steps.LockCells,
            steps.ClearSolutions,
            steps.ClearOutput,
            steps.CheckCellMetadata,
            *hide,
            steps.ClearMarkScheme,
            steps.ComputeChecksums,
            steps.CheckCellMetadata,
        ):
            notebook, resources = step(config=config)(notebook, resources)
    except (RuntimeError, ValidationError) as error:
        raise WorkspaceError(f"the course's own notebook is broken: {error}") from error
    return notebook


def marks_of(cell: NotebookNode) -> dict:
    """What nbgrader keeps in a cell; empty if it is no part of an exercise."""
    found = cell.metadata.get("nbgrader")
    return found if isinstance(found, dict) else {}


def exercise_of(cell: NotebookNode) -> str | None:
    """The exercise that a cell is part of: its task, its solution or its check."""
    name = marks_of(cell).get("grade_id")
    return re.sub("-(task|check)$", "", name) if isinstance(name, str) and name else None


def exercises(notebook: NotebookNode) -> dict[str, float]:
    """The graded exercises of a notebook in order, with their points."""
    points: dict[str, float] = {}
    for cell in notebook.cells:
        marks = marks_of(cell)
        if marks.get("grade"):
            name = exercise_of(cell)
            points[name] = points.get(name, 0.0) + float(marks.get("points", 0))
    return points


def print_table(rows: Iterable[Sequence[object]], numbers: Sequence[int] = ()) -> None:
    """Print rows in columns, numbers to the right."""
    rows = [[f"{item:g}" if isinstance(item, float) else str(item) for item in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            item.rjust(width) if column in numbers else item.ljust(width)
            for column, (item, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  " + "  ".join(cells).rstrip())


def _numbered(notebook: NotebookNode) -> NotebookNode:
    """A copy with new cell ids, to validate all but the ids."""
    notebook = copy.deepcopy(notebook)
    notebook.nbformat_minor = max(notebook.nbformat_minor, 5)
    for index, cell in enumerate(notebook.cells):
        cell["id"] = str(index)
    return notebook
