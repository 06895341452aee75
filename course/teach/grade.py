"""Marks for one filled-in copy: its locked cells put right, run from top to bottom, counted."""

import copy
import os
import re
import sys
import tempfile
from pathlib import Path

from nbformat import NotebookNode, from_dict

import course
from course.teach.merge import merge
from course.teach.workspace import (
    WorkspaceError,
    exercise_of,
    find_masters,
    marks_of,
    print_table,
    read,
    student_version,
)

SILENCE_AFTER_INTERRUPT = 10  # seconds until a kernel that was interrupted is given up


def grade(submission: Path, masters: Path | None = None, timeout: int = 300) -> int:
    """Run one filled-in copy and print its marks; the file itself is not changed.

    The student's code runs with your rights: run only code that you trust.

    Args:
        submission: the student's notebook.
        masters: folder of the notebooks with solutions; `notebooks` in the clone if None.
        timeout: seconds for one cell; a cell that takes longer is interrupted and counts as failed.

    Returns:
        0, or 1 if the run stopped before the end: what was not run has no points.

    Raises:
        WorkspaceError: the file can't be read or is no notebook of this course.
    """
    notebook = read(submission)
    name, master = _find_master(submission, notebook, masters)
    notebook = overlaid(notebook, student_version(master, hidden_tests=True))
    ran, stopped = _run(notebook, timeout)
    rows = [
        (exercise_of(cell), *_points(cell, cell.id in ran))
        for cell in notebook.cells
        if marks_of(cell).get("grade")
    ]
    print(f"{submission.name}, marked as {name}")
    total, possible = sum(row[1] for row in rows), sum(row[2] for row in rows)
    last = ("total", float(total), float(possible), "")
    print_table([("exercise", "points", "of", ""), *rows, last], numbers=[1, 2])
    if stopped:
        print(f"The run stopped before the end: {stopped}", file=sys.stderr)
    return int(bool(stopped))


def overlaid(submission: NotebookNode, released: NotebookNode) -> NotebookNode:
    """The submission with the course's own tasks and checks, in cells that have no outputs.

    An exercise that is missing comes back unsolved.
    """
    locked = frozenset(
        cell.id for cell in released.cells if marks_of(cell) and not marks_of(cell)["solution"]
    )
    notebook = merge(base=released, mine=submission, theirs=released, fresh=locked).notebook
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def _find_master(
    path: Path, submission: NotebookNode, folder: Path | None
) -> tuple[str, NotebookNode]:
    """The master with the longest name that the file name starts with and that has its exercises.

    If there is none, the master that has most of its exercises.
    """
    masters = find_masters(folder)
    given = (_names(submission) | {cell.get("id") for cell in submission.cells}) - {None}
    named = [name for name in masters if re.match(rf"{re.escape(name)}(?![A-Za-z0-9])", path.stem)]
    for name in sorted(named, key=len, reverse=True):
        master = read(masters[name])
        if given & _names(master):
            return name, master
    shared = {name: len(given & _names(read(master))) for name, master in masters.items()}
    best = max(shared, key=shared.__getitem__)
    if not shared[best]:
        raise WorkspaceError(f"{path}: not a notebook of this course, it has none of its exercises")
    return best, read(masters[best])


def _names(notebook: NotebookNode) -> set[str | None]:
    """What the exercises and their cells are called: some tools drop the one, some the other."""
    cells = [cell for cell in notebook.cells if marks_of(cell)]
    return {exercise_of(cell) for cell in cells} | {cell.get("id") for cell in cells}


def _run(notebook: NotebookNode, timeout: int) -> tuple[set[str], str]:
    """Run the cells in one kernel, in an empty folder.

    Returns:
        Ids of the cells that ran to an end, and what stopped the run, empty if nothing did.
    """
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_core.utils import run_sync
    from nbclient import NotebookClient
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    # No folders to look in: the kernel is this Python, whatever is installed under its name.
    specs = KernelSpecManager(kernel_dirs=[])
    client = NotebookClient(
        notebook,
        km=AsyncKernelManager(kernel_name="python3", kernel_spec_manager=specs),
        timeout=timeout,
        allow_errors=True,
        interrupt_on_timeout=True,
        error_on_timeout=_error("Timeout", f"it took longer than {timeout} s"),
        shutdown_kernel="immediate",
        record_timing=False,
        extra_arguments=["--IPKernelApp.log_level=40"],  # errors only, on our stderr
        on_cell_error=_keep_error,
    )
    ran: set[str] = set()
    with tempfile.TemporaryDirectory(prefix="grade-", ignore_cleanup_errors=True) as folder:
        try:
            with client.setup_kernel(cleanup_kc=True, cwd=folder, env=_environment(folder)):
                for index, cell in enumerate(notebook.cells):
                    where = f"cell {index + 1} of {len(notebook.cells)}"
                    client.execute_cell(cell, index)
                    ran.add(cell.id)
                    if _first_error(cell).startswith("Timeout:"):
                        run_sync(client.kc.wait_for_ready)(timeout=SILENCE_AFTER_INTERRUPT)
        except DeadKernelError:
            return ran, f"the kernel died in {where}"
        except (RuntimeError, CellTimeoutError) as error:
            if not ran:
                raise WorkspaceError(f"the kernel did not start: {error}") from error
            return ran, f"{where} took longer than {timeout} s and does not stop"
    return ran, ""


def _environment(folder: str) -> dict[str, str]:
    """The kernel's environment: marked as grading, with this very `course`."""
    path = [str(Path(course.__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "NBGRADER_EXECUTION": "autograde",
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        "IPYTHONDIR": str(Path(folder) / ".ipython"),
    }


def _error(name: str, value: str) -> dict:
    return {"output_type": "error", "ename": name, "evalue": value, "traceback": []}


def _keep_error(cell: NotebookNode, cell_index: int, execute_reply: dict) -> None:
    """Put an error that left no output, or a timeout, in front of the outputs of its cell."""
    reply = execute_reply["content"]
    shown = any(output.get("ename") == reply["ename"] for output in cell.outputs)
    if not shown:
        cell.outputs.insert(0, from_dict(_error(reply["ename"], reply["evalue"])))


def _points(cell: NotebookNode, ran: bool) -> tuple[float, float, str]:
    """Points by nbgrader's rule, points there are, and the first line of what went wrong."""
    from nbgrader.utils import determine_grade

    if not ran:
        return 0.0, float(cell.metadata.nbgrader.points), "not run"
    try:
        points, possible = determine_grade(copy.deepcopy(cell))
    except (KeyError, ValueError) as error:  # the cell's last value is no number of points
        return 0.0, float(cell.metadata.nbgrader.points), str(error)
    if points is None:
        return 0.0, possible, "to be marked by hand"
    return float(points), possible, _first_error(cell)


def _first_error(cell: NotebookNode) -> str:
    from nbconvert.filters import strip_ansi

    for output in cell.get("outputs", []):
        if output.output_type == "error":
            text = ": ".join(filter(None, [output.ename, output.evalue.strip()]))
            return strip_ansi(text).splitlines()[0]
        if output.output_type == "stream" and output.name == "stderr":
            return strip_ansi(f"stderr: {output.text}").strip().splitlines()[0]
    return ""
