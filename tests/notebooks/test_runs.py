"""Notebooks that are run: students' copies left empty, and a key number changed by hand."""

import copy
import os
import re
import subprocess
import sys

import pytest
from nbclient import NotebookClient

from course.files import replace_file
from course.teach.workspace import STUB, exercises, find_masters, read, student_version
from course.teach.workspace import serialise as serialised

MASTERS = find_masters()

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", MASTERS)
def test_an_empty_students_copy_runs_to_the_end(name, monkeypatch, tmp_path):
    monkeypatch.delenv("COURSE_STRICT", raising=False)
    monkeypatch.delenv("NBGRADER_EXECUTION", raising=False)
    notebook = student_version(read(MASTERS[name]))
    stub = STUB.splitlines()[0]
    empty = [cell for cell in notebook.cells if cell.cell_type == "code" and stub in cell.source]
    assert len(empty) == len(exercises(notebook))
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": tmp_path}}).execute()
    shown = str([cell.get("outputs") for cell in notebook.cells])
    for exercise in exercises(notebook):
        assert f"[ours] {exercise}: it is not attempted yet" in shown
    assert f"0 of {len(exercises(notebook))} exercises are yours" in shown


def test_a_key_number_changed_by_hand_is_noticed(tmp_path):
    name, path = next(iter(MASTERS.items()))
    notebook = read(path)
    keys = [
        cell
        for cell in notebook.cells
        if "# NBVAL_CHECK_OUTPUT" in cell.source and re.search(r"\d", cell.outputs[0].text)
    ]
    assert keys
    changed = copy.deepcopy(notebook)
    cell = next(c for c in changed.cells if c.id == keys[0].id)
    text = cell.outputs[0].text
    digit = re.search(r"\d(?=\D*$)", text)
    cell.outputs[0].text = (
        text[: digit.start()] + str((int(digit[0]) + 1) % 10) + text[digit.end() :]
    )
    codes = {}
    for label, book in (("as it is", notebook), ("changed", changed)):
        target = tmp_path / label.split()[0] / f"{name}.ipynb"
        replace_file(target, serialised(book))
        command = [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-current-env", "-q"]
        command += ["-p", "no:cacheprovider", f"--rootdir={target.parent}", str(target)]
        environment = {**os.environ, "COURSE_STRICT": "1", "PYTEST_ADDOPTS": ""}
        run = subprocess.run(
            command, cwd=target.parent, env=environment, capture_output=True, text=True
        )
        codes[label] = run.returncode
    assert codes == {"as it is": 0, "changed": 1}
