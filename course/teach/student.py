"""The students' copies of the notebooks: made, brought up to date, started afresh, looked over."""

import difflib
import json
from collections.abc import Iterable
from pathlib import Path

from nbformat import NotebookNode

from course.files import replace_file
from course.teach.merge import merge
from course.teach.workspace import (
    WorkspaceError,
    back_up,
    default_workspace,
    exercise_of,
    exercises,
    find_masters,
    parse,
    print_table,
    read,
    serialise,
    student_version,
)

__all__ = ["WorkspaceError", "default_workspace", "make_copies", "progress", "reset"]

STATUSES = {"passed": "passed", "failed": "not right yet", "todo": "not attempted"}


def make_copies(workspace: Path | None = None, masters: Path | None = None) -> int:
    """Write the students' copies, or bring them up to date without losing any work.

    Args:
        workspace: folder of the copies; `workspace` in the clone if None.
        masters: folder of the notebooks with solutions; `notebooks` in the clone if None.

    Returns:
        0, or 1 if a notebook could not be brought up to date: it is left as it is.

    Raises:
        WorkspaceError: there are no masters.
    """
    workspace = default_workspace() if workspace is None else workspace
    failed = False
    for name, master in find_masters(masters).items():
        try:
            lines = _update(workspace, name, student_version(read(master)))
        except WorkspaceError as error:
            lines, failed = [f"left as it is: {error}"], True
        except OSError as error:
            lines, failed = [f"not written: {error.strerror} ({error.filename})"], True
        print(f"{name}.ipynb: " + "\n    ".join(lines))
    return int(failed)


def progress(workspace: Path | None = None, masters: Path | None = None) -> int:
    """Print for each notebook its exercises, their points and how they stand."""
    workspace = default_workspace() if workspace is None else workspace
    solved, total, got, possible = 0, 0, 0.0, 0.0
    for name, master in find_masters(masters).items():
        rows = []
        for exercise, points in exercises(read(master)).items():
            status, message = _status(workspace, exercise)
            rows.append((exercise, points, status, message))
            passed = status == "passed"
            solved, total = solved + passed, total + 1
            got, possible = got + points * passed, possible + points
        if rows:
            print(name)
            print_table([("exercise", "points", "status", ""), *rows], numbers=[1])
            print()
    print(f"{solved} of {total} exercises passed, {got:g} of {possible:g} points")
    return 0


def reset(
    notebook: str,
    exercise: str | None = None,
    workspace: Path | None = None,
    masters: Path | None = None,
) -> int:
    """Start a notebook, or the cells of one exercise, afresh; what was there is backed up first.

    Args:
        notebook: "12_vae", "12_vae.ipynb" or "12".
        exercise: name of an exercise in it; the whole notebook if None.
        workspace: folder of the copies; `workspace` in the clone if None.
        masters: folder of the notebooks with solutions; `notebooks` in the clone if None.

    Returns:
        0.

    Raises:
        WorkspaceError: no such notebook or exercise, or a file can't be read or written.
    """
    workspace = default_workspace() if workspace is None else workspace
    found = find_masters(masters)
    name = _find_notebook(notebook, found)
    new = student_version(read(found[name]))
    names = list(exercises(new))
    if exercise is not None and exercise not in names:
        raise WorkspaceError(_unknown("exercise", exercise, names, f" in {name}"))
    try:
        if exercise is None:
            lines = _renew(workspace, name, new)
        else:
            names = [exercise]
            cells = frozenset(cell.id for cell in new.cells if exercise_of(cell) == exercise)
            lines = _update(workspace, name, new, fresh=cells)
        for done in names:
            _record(workspace, done).unlink(missing_ok=True)
    except WorkspaceError as error:
        raise WorkspaceError(f"{name}.ipynb: {error}") from error
    except OSError as error:
        raise WorkspaceError(f"{error.filename}: {error.strerror}") from error
    what = f"{name}.ipynb, {exercise} as new" if exercise else f"{name}.ipynb"
    print(f"{what}: " + "\n    ".join(lines))
    return 0


def _update(
    workspace: Path, name: str, new: NotebookNode, fresh: frozenset[str] = frozenset()
) -> list[str]:
    """Merge a new copy into the student's file, and say what was done.

    The file is replaced before the record of what was given: stopped in between, the next update
    finds cells that are as the course has them, and merges the same again.
    """
    target, record = _copy(workspace, name), _given(workspace, name)
    if not target.exists():
        return _renew(workspace, name, new)
    before = target.read_bytes()
    mine = parse(before)
    base = _last_given(record)
    merged = merge(base, mine, new, fresh)
    lines = [
        "up to date" if base else "no record of the copy given last, compared with the new one"
    ]
    if merged.notebook != mine:
        after = serialise(merged.notebook)
        saved = back_up(before, name, workspace / ".course" / "backup")
        if target.read_bytes() != before:
            raise WorkspaceError("it was saved elsewhere at this moment: run this again")
        replace_file(target, after)
        counts = ", ".join(f"{count} cells {what}" for what, count in merged.counts.items())
        lines = [f"{counts or 'changed'}; as it was: .course/backup/{saved.name}"]
    _write_if_new(record, serialise(new))
    return lines + merged.notes


def _renew(workspace: Path, name: str, new: NotebookNode) -> list[str]:
    """Write a new copy over whatever is there, which is backed up."""
    target, data = _copy(workspace, name), serialise(new)
    before = target.read_bytes() if target.exists() else data
    lines = ["new"]
    if before != data:
        saved = back_up(before, name, workspace / ".course" / "backup")
        lines = [f"new; as it was: .course/backup/{saved.name}"]
    _write_if_new(target, data)
    _write_if_new(_given(workspace, name), data)
    return lines


def _copy(workspace: Path, name: str) -> Path:
    return workspace / f"{name}.ipynb"


def _given(workspace: Path, name: str) -> Path:
    return workspace / ".course" / "base" / f"{name}.ipynb"


def _record(workspace: Path, exercise: str) -> Path:
    return workspace / ".course" / "progress" / f"{exercise}.json"


def _last_given(record: Path) -> NotebookNode | None:
    try:
        return parse(record.read_bytes())
    except (FileNotFoundError, WorkspaceError):
        return None


def _write_if_new(path: Path, data: bytes) -> None:
    if not path.exists() or path.read_bytes() != data:
        replace_file(path, data)


def _status(workspace: Path, exercise: str) -> tuple[str, str]:
    """How an exercise stands, and the first line of why, from what its check left behind."""
    try:
        record = json.loads(_record(workspace, exercise).read_text(encoding="utf-8"))
        lines = str(record.get("message") or "").splitlines() or [""]
        return STATUSES[record["status"]], lines[0]
    except FileNotFoundError:
        return "not tried yet", ""
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return "unreadable", ""


def _find_notebook(given: str, names: Iterable[str]) -> str:
    wanted = Path(given).name.removesuffix(".ipynb")
    for name in names:
        if wanted in (name, name.split("_")[0]):
            return name
    raise WorkspaceError(_unknown("notebook", given, names))


def _unknown(kind: str, given: str, names: Iterable[str], where: str = "") -> str:
    near = difflib.get_close_matches(given, names, n=3, cutoff=0.5) or list(names)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"no {kind} {given!r}{where}{hint}"
