"""Grading of one submission, and nbgrader's own validation of the students' copies."""

import copy
import os
import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell
from test_student import Desk, find, marked, small_master

from course.teach import grade as grading
from course.teach import student
from course.teach.workspace import WorkspaceError, exercises, marks_of, student_version

REAL = sorted((Path(__file__).parents[2] / "notebooks").glob("[!.]*.ipynb"))


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path)
    assert desk.update() == 0
    return desk


def hand_in(desk, name="12_vae-alice.ipynb", **sources):
    """Solve some cells of the copy, and save it under another name elsewhere."""
    desk.edit(**sources)
    path = desk.masters.parent / name
    path.write_bytes(desk.file.read_bytes())
    return path


def table(out):
    """Rows of the printed table: exercise -> (points, of, message)."""
    rows = [line.split(maxsplit=3) for line in out.splitlines() if line.startswith("  ")]
    return {row[0]: (row[1], row[2], "".join(row[3:])) for row in rows[1:]}


def validate(path):
    """What `nbgrader validate` finds."""
    from nbgrader.validator import Validator
    from traitlets.config import Config

    return Validator(config=Config({"Execute": {"timeout": 300}})).validate(str(path))


def solve(copied, master):
    """Put the answers of the master into a student's copy."""
    for cell in copied.cells:
        if marks_of(cell).get("solution"):
            cell.source = find(master, cell.id).source
    return copied


def test_nbgrader_validates_solved_copies_only(desk):
    failed = [item["source"] for item in validate(desk.file)["failed"]]
    assert failed == ["assert add(2, 3) == 5", "assert plus(2, 3) == 5"]
    desk.save(solve(desk.mine(), desk.master))
    assert validate(desk.file) == {}


@pytest.mark.slow
@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_nbgrader_validates_solved_copies_of_the_course_only(path, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    master = nbformat.read(path, as_version=4)
    if not exercises(master):
        pytest.skip("it has no exercises")
    copied = student_version(master)
    file = tmp_path / path.name
    nbformat.write(copied, file)
    checks = [cell.source.strip() for cell in copied.cells if marks_of(cell).get("grade")]
    assert [item["source"] for item in validate(file)["failed"]] == checks
    nbformat.write(solve(copied, master), file)
    assert validate(file) == {}


def test_marks(desk, capfd, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    environment = (
        "import os, pathlib, course\n"
        "assert os.environ['NBGRADER_EXECUTION'] == 'autograde'\n"
        "assert [p.name for p in pathlib.Path().iterdir()] == ['.ipython']\n"
        f"assert course.__file__ == {grading.course.__file__!r}"
    )
    extra = marked(new_code_cell("0.5", id="half"), "half-check", grade=True, points=1)
    probe = marked(new_code_cell(environment, id="probe"), "probe-check", grade=True, points=1)
    loud = "import sys; print('careful', file=sys.stderr)"
    loud = marked(new_code_cell(loud, id="loud"), "loud-check", grade=True, points=1)
    unseen = "### BEGIN HIDDEN TESTS\nassert add(7, 7) == 0, 'unseen'\n### END HIDDEN TESTS"
    unseen = marked(new_code_cell(unseen, id="unseen"), "unseen-check", grade=True, points=1)
    desk.master.cells += [extra, probe, loud, unseen]
    desk.update()
    path = hand_in(
        desk,
        setup="raise ValueError('setup fails, the rest runs')",
        add_s="def add(a, b):\n    return a + b",
        plus_s="def plus(a, b):\n    raise RuntimeError('first line\\nsecond line')",
    )
    before = path.read_bytes()
    assert grading.grade(path, desk.masters, timeout=60) == 0
    captured = capfd.readouterr()
    assert "12_vae-alice.ipynb, marked as 12_vae" in captured.out
    assert table(captured.out) == {
        "add": ("2", "2", ""),
        "plus": ("0", "3", "RuntimeError: first line"),
        "half": ("0.5", "1", ""),
        "probe": ("1", "1", ""),
        "loud": ("0", "1", "stderr: careful"),
        "unseen": ("0", "1", "AssertionError: unseen"),
        "total": ("3.5", "9", ""),
    }
    assert captured.err == ""
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir() if p.is_file()] == [path.name]


def test_locked_cells_are_the_courses_and_missing_ones_come_back(desk):
    hidden = "\n### BEGIN HIDDEN TESTS\nassert add(7, 7) == 14\n### END HIDDEN TESTS"
    find(desk.master, "add-c").source += hidden
    desk.update()
    notebook = desk.mine()
    notebook.cells = [c for c in notebook.cells if c.id not in ("plus-s", "plus-c", "use")]
    check = find(notebook, "add-c")
    check.source, check.metadata.tags = "pass", ["skip-execution"]
    check.metadata.nbgrader.points = 1000
    find(notebook, "add-s").source = "mine"
    find(notebook, "setup").outputs = [nbformat.v4.new_output("stream", text="old")]
    del find(notebook, "add-t").metadata["nbgrader"]
    twin = copy.deepcopy(check)
    twin.id = "twin"
    notebook.cells.append(twin)
    released = student_version(desk.master, hidden_tests=True)
    result = grading.overlaid(notebook, released)
    assert [cell.id for cell in result.cells] == [
        *("title", "setup", "add-t", "add-s", "add-c", "plus-t", "plus-s", "plus-c", "end", "twin")
    ]
    for key in ("add-t", "add-c", "plus-t", "plus-s", "plus-c"):
        assert find(result, key) == find(released, key)
    assert "7, 7" in find(result, "add-c").source
    assert find(result, "add-s").source == "mine"
    assert "NotImplementedError" in find(result, "plus-s").source
    assert "nbgrader" not in find(result, "twin").metadata
    assert not any(cell.get("outputs") for cell in result.cells)


def test_exercise_without_metadata_is_found_by_its_cells(desk):
    notebook = desk.mine()
    for cell in notebook.cells:
        cell.metadata.clear()
    find(notebook, "add-s").source = "mine"
    desk.save(notebook)
    name, master = grading._find_master(desk.file, notebook, desk.masters)
    assert name == desk.name
    result = grading.overlaid(notebook, student_version(master))
    assert find(result, "add-s").source == "mine"
    assert find(result, "add-c").metadata.nbgrader.points == 2


@pytest.mark.parametrize(
    ("file", "inside", "want"),
    [
        ("12_vae.ipynb", "12_vae", "12_vae"),
        ("12_vae-alice.ipynb", "12_vae", "12_vae"),
        ("12_vae_more (1).ipynb", "12_vae_more", "12_vae_more"),
        ("12_vae_more_still-bob.ipynb", "12_vae_more_still", "12_vae_more_still"),
        ("12_vae_mores.ipynb", "12_vae", "12_vae"),
        ("alice_12_vae_more.ipynb", "12_vae_more", "12_vae_more"),
        ("12_vae-alice.ipynb", "12_vae_more", "12_vae_more"),
        ("homework.ipynb", "12_vae", "12_vae"),
    ],
)
def test_master_is_found_by_name_or_by_exercises(desk, file, inside, want):
    text = nbformat.writes(small_master()).replace("add", "times").replace("plus", "by")
    for name in ("12_vae_more", "12_vae_more_still"):
        (desk.masters / f"{name}.ipynb").write_text(text)
    submission = nbformat.read(desk.masters / f"{inside}.ipynb", as_version=4)
    assert grading._find_master(Path(file), submission, desk.masters)[0] == want


def test_kernel_that_dies(desk, capsys):
    path = hand_in(
        desk,
        add_s="def add(a, b): return a + b",
        plus_s="import os\ndef plus(a, b): os._exit(3)",
    )
    assert grading.grade(path, desk.masters, timeout=60) == 1
    captured = capsys.readouterr()
    assert table(captured.out)["add"] == ("2", "2", "")
    assert table(captured.out)["plus"] == ("0", "3", "not run")
    assert "the kernel died in cell 9 of 10" in captured.err


def test_cell_that_takes_too_long_is_interrupted_and_the_rest_runs(desk, capsys):
    path = hand_in(
        desk,
        add_s="def add(a, b):\n    while True: pass",
        use="",
        plus_s="def plus(a, b): return a + b",
    )
    assert grading.grade(path, desk.masters, timeout=3) == 0
    captured = capsys.readouterr()
    assert table(captured.out)["add"] == ("0", "2", "Timeout: it took longer than 3 s")
    assert table(captured.out)["plus"] == ("3", "3", "")


def test_cell_that_does_not_stop(desk, capsys, monkeypatch):
    monkeypatch.setattr(grading, "SILENCE_AFTER_INTERRUPT", 1)
    deaf = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass"
    path = hand_in(desk, add_s="def add(a, b): return a + b", use=deaf)
    assert grading.grade(path, desk.masters, timeout=3) == 1
    captured = capsys.readouterr()
    assert table(captured.out)["add"] == ("2", "2", "")
    assert table(captured.out)["plus"] == ("0", "3", "not run")
    assert "cell 6 of 10 took longer than 3 s and does not stop" in captured.err


def test_what_cannot_be_graded_is_said(desk, tmp_path):
    stranger = nbformat.v4.new_notebook(cells=[new_code_cell("1")])
    nbformat.write(stranger, tmp_path / "12_vae-bob.ipynb")
    with pytest.raises(WorkspaceError, match=r"12_vae-bob\.ipynb: not a notebook of this course"):
        grading.grade(tmp_path / "12_vae-bob.ipynb", desk.masters)
    (tmp_path / "essay.ipynb").write_text("Dear examiner")
    with pytest.raises(WorkspaceError, match=r"essay\.ipynb: not a notebook, its JSON is broken"):
        grading.grade(tmp_path / "essay.ipynb", desk.masters)
    with pytest.raises(WorkspaceError, match=r"absent\.ipynb: No such file"):
        grading.grade(tmp_path / "absent.ipynb", desk.masters)
    with pytest.raises(student.WorkspaceError, match=re.escape(os.fspath(tmp_path))):
        grading.grade(tmp_path, desk.masters)
