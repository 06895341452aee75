"""Students' copies: what is generated, and that an update never loses work."""

import copy
import json
import os
import re
import tempfile
from pathlib import Path

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from course.teach import student
from course.teach.workspace import STUB, student_version


def marked(cell, name, *, grade=False, solution=False, points=None):
    cell.metadata.nbgrader = {
        "grade_id": name,
        "grade": grade,
        "solution": solution,
        "locked": not solution,
        "task": False,
        "schema_version": 3,
    }
    if points is not None:
        cell.metadata.nbgrader["points"] = points
    return cell


def exercise_cells(name, answer="return a + b", points=2):
    """Task, solution and check of an exercise `name(a, b)` that adds."""
    body = f"    ### BEGIN SOLUTION\n    {answer}\n    ### END SOLUTION"
    return [
        marked(new_markdown_cell(f"Write {name}.", id=f"{name}-t"), f"{name}-task"),
        marked(new_code_cell(f"def {name}(a, b):\n{body}", id=f"{name}-s"), name, solution=True),
        marked(
            new_code_cell(f"assert {name}(2, 3) == 5", id=f"{name}-c"),
            f"{name}-check",
            grade=True,
            points=points,
        ),
    ]


def small_master():
    return new_notebook(
        cells=[
            new_markdown_cell("# A title", id="title"),
            new_code_cell("import math", id="setup", execution_count=1),
            *exercise_cells("add"),
            new_code_cell("shown = add(1, 1)", id="use"),
            *exercise_cells("plus", points=3),
            new_markdown_cell("The end", id="end"),
        ],
        metadata={"kernelspec": {"name": "python3", "display_name": "P", "language": "python"}},
    )


class Desk:
    """A workspace with its masters, and the short forms that the tests use."""

    name = "12_vae"

    def __init__(self, folder):
        self.masters, self.workspace = folder / "notebooks", folder / "workspace"
        self.masters.mkdir()
        self.file = self.workspace / f"{self.name}.ipynb"
        self.base = self.workspace / ".course" / "base" / f"{self.name}.ipynb"
        self.master = small_master()

    def update(self):
        nbformat.write(self.master, self.masters / f"{self.name}.ipynb")
        return student.make_copies(self.workspace, self.masters)

    def reset(self, notebook, exercise=None):
        return student.reset(notebook, exercise, self.workspace, self.masters)

    def mine(self):
        return nbformat.read(self.file, as_version=4)

    def save(self, notebook):
        nbformat.write(notebook, self.file)

    def edit(self, **sources):
        notebook = self.mine()
        for cell in notebook.cells:
            key = cell.id.replace("-", "_")
            if key in sources:
                cell.source = sources[key]
        self.save(notebook)

    def backups(self):
        return sorted((self.workspace / ".course" / "backup").glob("*.ipynb"))

    def ids(self):
        return [cell.id for cell in self.mine().cells]

    def source(self, key):
        return next(cell.source for cell in self.mine().cells if cell.id == key)

    def tree(self):
        return {p: p.read_bytes() for p in self.workspace.rglob("*") if p.is_file()}


def find(notebook, key):
    return next(cell for cell in notebook.cells if cell.id == key)


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path)
    assert desk.update() == 0
    return desk


# What a student is given.


def test_copy_has_stubs_locks_checksums_and_no_answers(desk):
    find(desk.master, "setup").outputs = [nbformat.v4.new_output("stream", text="old")]
    copied = student_version(desk.master)
    assert find(copied, "add-s").source == "def add(a, b):\n    " + STUB.replace("\n", "\n    ")
    assert "return a + b" not in json.dumps(copied)
    assert "SOLUTION" not in json.dumps(copied)
    assert find(copied, "setup").outputs == []
    assert find(copied, "setup").execution_count is None
    assert [cell.id for cell in copied.cells] == [cell.id for cell in desk.master.cells]
    for key, editable in [("add-t", False), ("add-s", None), ("add-c", False)]:
        cell = find(copied, key)
        assert cell.metadata.deletable is False
        assert cell.metadata.get("editable") is editable
        assert re.fullmatch("[0-9a-f]{32}", cell.metadata.nbgrader.checksum)
    assert desk.mine() == copied


def test_hidden_tests_are_not_given_but_kept_for_grading(desk):
    hidden = "\n### BEGIN HIDDEN TESTS\nassert add(7, 7) == 14\n### END HIDDEN TESTS"
    find(desk.master, "add-c").source += hidden
    assert "7, 7" not in find(student_version(desk.master), "add-c").source
    assert "7, 7" in find(student_version(desk.master, hidden_tests=True), "add-c").source


def test_running_a_master_again_changes_nothing(desk):
    before = desk.tree()
    cell = find(desk.master, "setup")
    cell.metadata.execution = {"iopub.execute_input": "2026-01-01"}
    cell.execution_count = 9
    desk.master.metadata.widgets = {"state": {}}
    assert desk.update() == 0
    assert desk.tree() == before


def test_broken_master_is_reported_and_the_others_are_made(desk, capsys):
    broken = small_master()
    find(broken, "add-s").source = "def add(a, b):\n    ### BEGIN SOLUTION"
    nbformat.write(broken, desk.masters / "11_sampling.ipynb")
    desk.file.unlink()
    assert desk.update() == 1
    assert "11_sampling.ipynb: left as it is: the course's own notebook" in capsys.readouterr().out
    assert desk.file.exists()
    assert not (desk.workspace / "11_sampling.ipynb").exists()


# Updates.


def test_untouched_cells_follow_the_master(desk):
    master = desk.master
    find(master, "title").source = "# A better title"
    find(master, "title").metadata.tags = ["wide"]
    moved = master.cells.pop(5)  # "use" goes to the end
    master.cells.append(moved)
    master.cells.insert(1, new_markdown_cell("Something new", id="extra"))
    master.cells.remove(find(master, "end"))
    assert desk.update() == 0
    assert desk.mine() == student_version(master)
    assert len(desk.backups()) == 1


def test_edited_and_added_cells_stay(desk, capsys):
    notebook = desk.mine()
    find(notebook, "add-s").source = "def add(a, b): return sum((a, b))"
    find(notebook, "setup").source = "import math, cmath"
    notebook.cells.insert(6, new_code_cell("add(5, 5)  # mine", id="mine"))
    desk.save(notebook)
    capsys.readouterr()
    master = desk.master
    find(master, "setup").source = "import math, random"
    master.cells.append(master.cells.pop(5))  # "use", with what the student put after it
    master.cells.insert(2, new_markdown_cell("New", id="extra"))
    assert desk.update() == 0
    assert desk.source("add-s") == "def add(a, b): return sum((a, b))"
    assert desk.source("setup") == "import math, cmath"
    assert desk.ids() == [
        *("title", "setup", "extra", "add-t", "add-s", "add-c"),
        *("plus-t", "plus-s", "plus-c", "end", "use", "mine"),
    ]
    out = capsys.readouterr().out
    assert "code cell 'import math, random': you and the course both changed it" in out
    assert "exercise add" not in out
    desk.update()
    assert "both changed" not in capsys.readouterr().out


def test_moves_of_the_student_stay_when_the_master_does_not_move_cells(desk):
    notebook = desk.mine()
    notebook.cells.insert(0, notebook.cells.pop(-1))
    desk.save(notebook)
    before = desk.tree()
    assert desk.update() == 0
    assert desk.tree() == before
    find(desk.master, "title").source = "# Other"
    desk.update()
    assert desk.ids()[:2] == ["end", "title"]


def test_edited_cell_that_the_master_removed_stays_as_a_cell_of_the_students(desk, capsys):
    desk.edit(add_s="def add(a, b): return b + a")
    desk.master.cells = [c for c in desk.master.cells if not c.id.startswith("add-")]
    assert desk.update() == 0
    assert "exercise add: gone from the course, kept" in capsys.readouterr().out
    assert "add-t" not in desk.ids()
    kept = find(desk.mine(), "add-s")
    assert kept.source == "def add(a, b): return b + a"
    assert "nbgrader" not in kept.metadata
    assert "deletable" not in kept.metadata


def test_deleted_cells_stay_deleted_but_those_of_an_exercise_come_back(desk, capsys):
    notebook = desk.mine()
    notebook.cells = [c for c in notebook.cells if c.id not in ("use", "add-s", "add-c")]
    desk.save(notebook)
    assert desk.update() == 0
    assert desk.ids() == [
        *("title", "setup", "add-t", "add-s", "add-c", "plus-t", "plus-s", "plus-c", "end")
    ]
    out = capsys.readouterr().out
    assert "exercise add: you deleted it" in out
    assert "exercise add-check: you deleted it" in out


def test_outputs_stay_where_the_source_did_not_change(desk):
    notebook = desk.mine()
    for key in ("setup", "use", "add-s"):
        cell = find(notebook, key)
        cell.execution_count = 4
        cell.outputs = [nbformat.v4.new_output("stream", text="seen")]
    find(notebook, "use").metadata.collapsed = True
    desk.save(notebook)
    find(desk.master, "setup").source = "import math  # new"
    find(desk.master, "use").metadata.tags = ["new"]
    assert desk.update() == 0
    assert find(desk.mine(), "setup").outputs == []
    use = find(desk.mine(), "use")
    assert (use.outputs[0].text, use.execution_count) == ("seen", 4)
    assert use.metadata == {"collapsed": True, "tags": ["new"]}
    assert find(desk.mine(), "add-s").outputs[0].text == "seen"


def test_points_and_locks_follow_the_master_even_in_edited_cells(desk):
    notebook = desk.mine()
    cell = find(notebook, "add-c")
    cell.source, cell.metadata.editable = "assert True", True
    cell.metadata.nbgrader.points = 99
    desk.save(notebook)
    desk.update()
    cell = find(desk.mine(), "add-c")
    assert cell.source == "assert True"
    assert (cell.metadata.editable, cell.metadata.nbgrader.points) == (False, 2)


def test_nothing_is_written_when_nothing_changed(desk, capsys):
    notebook = desk.mine()
    find(notebook, "title").attachments = {}  # as JupyterLab leaves it
    notebook.metadata.language_info = {"name": "python", "version": "3.99"}
    desk.file.write_text(json.dumps(notebook))  # nor is the file laid out anew
    before = {path: (data, path.stat().st_mtime_ns) for path, data in desk.tree().items()}
    capsys.readouterr()
    assert desk.update() == 0
    assert before == {path: (data, path.stat().st_mtime_ns) for path, data in desk.tree().items()}
    assert capsys.readouterr().out == "12_vae.ipynb: up to date\n"
    find(desk.master, "title").source = "# Other"
    desk.update()
    assert desk.source("title") == "# Other"


def test_backups_are_byte_for_byte_and_never_written_over(desk):
    contents = []
    for number in range(3):
        desk.edit(use=f"shown = {number}")
        contents.append(desk.file.read_bytes())
        find(desk.master, "title").source += "!"
        desk.update()
    assert sorted(path.read_bytes() for path in desk.backups()) == sorted(contents)
    assert all(re.fullmatch(r"12_vae-\d{8}T\d{6}(-\d+)?", path.stem) for path in desk.backups())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"<<<<<<< HEAD\n{}",
        b"\xff\xfe",
        b'{"cells": [], "nbformat": 4, "nbformat_minor": 5, "metadata": {"half": "\\ud800"}}',
        b'{"cells": 3, "nbformat": 4}',
        b'{"cells": [{"cell_type": "code"}], "nbformat": 4, "nbformat_minor": 5, "metadata": {}}',
    ],
)
def test_unreadable_copy_is_left_and_the_others_proceed(desk, content, capsys):
    desk.file.write_bytes(content)
    nbformat.write(small_master(), desk.masters / "13_more.ipynb")
    assert desk.update() == 1
    assert desk.file.read_bytes() == content
    assert (desk.workspace / "13_more.ipynb").exists()
    assert "12_vae.ipynb: left as it is: not a" in capsys.readouterr().out
    with pytest.raises(student.WorkspaceError, match=r"12_vae\.ipynb: not a"):
        desk.reset("12", "add")
    assert desk.reset("12") == 0
    assert [path.read_bytes() for path in desk.backups()] == [content]
    assert desk.mine() == student_version(desk.master)


@pytest.mark.parametrize("lost", ["missing", "broken"])
def test_without_a_record_what_differs_counts_as_edited(desk, lost, capsys):
    notebook = desk.mine()
    find(notebook, "add-s").source = "def add(a, b): return a - -b"
    notebook.cells.append(new_code_cell("1 + 1", id="mine"))
    desk.save(notebook)
    desk.base.write_text("{") if lost == "broken" else desk.base.unlink()
    find(desk.master, "title").source = "# Other"
    desk.master.cells.insert(1, new_markdown_cell("New", id="extra"))
    capsys.readouterr()
    assert desk.update() == 0
    assert desk.source("title") == "# A title"
    assert desk.source("add-s") == "def add(a, b): return a - -b"
    assert desk.ids()[:3] == ["title", "extra", "setup"]
    assert desk.ids()[-1] == "mine"
    assert "markdown cell '# Other': not as the course has it" in capsys.readouterr().out


def test_cells_that_lost_their_ids_are_found_again(desk):
    notebook = json.loads(desk.file.read_text())
    notebook["nbformat_minor"] = 4
    for cell in notebook["cells"]:
        del cell["id"]
    notebook["cells"][3]["source"] = "def add(a, b): return 0 + a + b"
    notebook["cells"].append(dict(notebook["cells"][1], source="'mine'"))
    desk.file.write_text(json.dumps(notebook))
    find(desk.master, "title").source = "# Other"
    assert desk.update() == 0
    # The title is as it was given, so that it follows.
    assert [cell.source for cell in desk.mine().cells][:2] == ["# Other", "import math"]
    assert desk.ids()[:-1] == [cell.id for cell in desk.master.cells]
    assert desk.source("add-s") == "def add(a, b): return 0 + a + b"
    assert desk.mine().cells[-1].source == "'mine'"


def test_pasted_exercise_is_no_second_exercise(desk):
    notebook = desk.mine()
    pasted = copy.deepcopy(find(notebook, "add-s"))
    pasted.id, pasted.source = "pasted", "def add(a, b): return 1"
    twin = copy.deepcopy(find(notebook, "use"))  # the same id twice
    twin.source = "shown = 'twice'"
    notebook.cells[4:4] = [pasted]
    notebook.cells.append(twin)
    desk.file.write_text(json.dumps(notebook))
    assert desk.update() == 0
    ids = [cell["id"] for cell in json.loads(desk.file.read_text())["cells"]]
    assert len(set(ids)) == len(ids)
    assert desk.source("use") == "shown = add(1, 1)"
    assert "nbgrader" not in find(desk.mine(), "pasted").metadata
    assert desk.source("pasted") == "def add(a, b): return 1"
    assert desk.source("add-s").endswith("raise NotImplementedError")
    assert desk.mine().cells[-1].source == "shown = 'twice'"


def test_a_deleted_file_is_given_again(desk):
    desk.file.unlink()
    assert desk.update() == 0
    assert desk.mine() == student_version(desk.master)


def test_other_files_are_left_alone(desk):
    other = desk.workspace / "notes.ipynb"
    other.write_text("mine")
    (desk.masters / "12_vae.ipynb").unlink()
    nbformat.write(small_master(), desk.masters / "13_more.ipynb")
    before = desk.tree()
    assert student.make_copies(desk.workspace, desk.masters) == 0
    assert before.items() <= desk.tree().items()


def test_no_masters(tmp_path):
    with pytest.raises(student.WorkspaceError, match="no notebooks in"):
        student.make_copies(tmp_path / "workspace", tmp_path)


# Stopped in the middle.


class Killed(BaseException):
    """Stands for a process that ends here."""


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("after", [0, 1, 2])
def test_killed_while_writing(desk, monkeypatch, call, after):
    desk.edit(add_s="def add(a, b): return a + b  # mine")
    before = desk.file.read_bytes()
    find(desk.master, "title").source = "# Other"
    real, calls = getattr(os, call), []

    def dies(*args):
        calls.append(args)
        if len(calls) > after:
            raise Killed
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, dies)
        with pytest.raises(Killed):
            desk.update()
    # The writes are: backup, the copy, the record. Whatever was reached, each file is whole.
    if after < 2:
        assert desk.file.read_bytes() == before
    else:
        assert desk.source("title") == "# Other"
    assert not list(desk.workspace.rglob("*.tmp"))
    assert desk.update() == 0
    assert desk.source("title") == "# Other"
    assert desk.source("add-s") == "def add(a, b): return a + b  # mine"
    # The record was written, so that the next change of the master arrives as well.
    find(desk.master, "title").source = "# Third"
    desk.update()
    assert desk.source("title") == "# Third"


def test_full_disk_is_said(desk, monkeypatch, capsys):
    before = desk.file.read_bytes()
    find(desk.master, "title").source = "# Other"

    def full(_):
        raise OSError(28, "No space left on device", "12_vae.ipynb")

    monkeypatch.setattr(os, "fsync", full)
    assert desk.update() == 1
    assert "not written: No space left on device" in capsys.readouterr().out
    assert desk.file.read_bytes() == before


def test_saved_while_updating_is_not_lost(desk, monkeypatch, capsys):
    find(desk.master, "title").source = "# Other"
    back_up = student.back_up

    def saved_meanwhile(*args):
        desk.edit(use="shown = 'just now'")
        return back_up(*args)

    monkeypatch.setattr(student, "back_up", saved_meanwhile)
    assert desk.update() == 1
    assert desk.source("use") == "shown = 'just now'"
    assert "run this again" in capsys.readouterr().out


# Whatever the student and the course do, in any order.

EDITS = st.lists(
    st.tuples(
        st.sampled_from(["student", "course"]),
        st.sampled_from(["edit", "delete", "add", "move", "update", "forget"]),
        st.integers(0, 30),
        st.integers(0, 30),
    ),
    min_size=1,
    max_size=14,
)


@given(EDITS)
@settings(max_examples=40, deadline=None)
def test_work_is_never_lost(steps):
    with tempfile.TemporaryDirectory() as folder:
        desk = Desk(Path(folder))
        desk.update()
        written = set()  # what the student wrote and did not delete or rewrite
        for number, (who, what, at, to) in enumerate(steps):
            if what == "update":
                assert desk.update() == 0
                continue
            if what == "forget":
                desk.base.unlink(missing_ok=True)
                continue
            notebook = desk.mine() if who == "student" else desk.master
            cells = notebook.cells
            at, to = at % max(len(cells), 1), to % (len(cells) + 1)
            text = f"{who} {number}"
            if what == "add":
                cells.insert(to, new_code_cell(text, id=f"{who}{number}"))
            elif cells and what == "edit":
                cell = cells[at]
                written.discard(cell.source)
                if who == "course" and cell.metadata.get("nbgrader", {}).get("solution"):
                    text = f"# {text}\n### BEGIN SOLUTION\n### END SOLUTION"
                cell.source = text
            elif cells and what == "delete":
                written.discard(cells.pop(at).source)
            elif cells and what == "move":
                cells.insert(to, cells.pop(at))
            if who == "student":
                if what in ("add", "edit") and cells:
                    written.add(text)
                desk.save(notebook)
        desk.update()
        result = desk.mine()
        nbformat.validate(result)
        kept = {cell.source for cell in result.cells}
        assert written <= kept
        # Every exercise is whole, and once.
        given_ids = [c.id for c in desk.master.cells if "nbgrader" in c.metadata]
        found = [c.id for c in result.cells if "nbgrader" in c.metadata]
        assert sorted(found) == sorted(given_ids)
        before = desk.tree()
        desk.update()
        assert desk.tree() == before


@given(st.permutations(list(range(9))), st.sets(st.integers(0, 8)), st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_untouched_copy_becomes_the_new_one(order, dropped, place):
    with tempfile.TemporaryDirectory() as folder:
        desk = Desk(Path(folder))
        desk.update()
        cells = [desk.master.cells[i] for i in order if i not in dropped]
        cells.insert(place, new_markdown_cell("new", id="new"))
        desk.master.cells = cells
        desk.update()
        assert desk.mine() == student_version(desk.master)


# Progress and reset.


def record(desk, exercise, content):
    folder = desk.workspace / ".course" / "progress"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{exercise}.json").write_text(content)


def test_progress_table(desk, capsys):
    record(desk, "plus", json.dumps({"exercise": "plus", "status": "passed", "message": ""}))
    capsys.readouterr()
    assert student.progress(desk.workspace, desk.masters) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "12_vae"
    assert [line.split() for line in lines[2:4]] == [
        ["add", "2", "not", "tried", "yet"],
        ["plus", "3", "passed"],
    ]
    assert lines[-1] == "1 of 2 exercises passed, 3 of 5 points"


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (json.dumps({"status": "failed", "message": "sign\nmore"}), "not right yet  sign"),
        (json.dumps({"status": "todo"}), "not attempted"),
        ("", "unreadable"),
        ("[]", "unreadable"),
        ('{"status": ["passed"]}', "unreadable"),
        ('{"status": "very good"}', "unreadable"),
        ("{", "unreadable"),
    ],
)
def test_progress_says_what_it_finds(desk, content, shown, capsys):
    record(desk, "add", content)
    capsys.readouterr()
    assert student.progress(desk.workspace, desk.masters) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[2].endswith(shown)
    assert "0 of 2 exercises passed" in out


@pytest.mark.parametrize("name", ["12", "12_vae", "12_vae.ipynb", "workspace/12_vae.ipynb"])
def test_reset_notebook(desk, name):
    desk.edit(add_s="def add(a, b): return 5", title="mine")
    before = desk.file.read_bytes()
    record(desk, "add", "{}")
    record(desk, "elsewhere", "{}")
    assert desk.reset(name) == 0
    assert desk.mine() == student_version(desk.master)
    assert [path.read_bytes() for path in desk.backups()] == [before]
    records = (desk.workspace / ".course" / "progress").iterdir()
    assert [path.name for path in records] == ["elsewhere.json"]


def test_reset_exercise(desk):
    desk.edit(add_s="def add(a, b): return 5", add_c="assert True", plus_s="mine", title="mine")
    notebook = desk.mine()
    notebook.cells.remove(find(notebook, "add-t"))
    desk.save(notebook)
    before = desk.file.read_bytes()
    record(desk, "add", "{}")
    record(desk, "plus", "{}")
    assert desk.reset("12", "add") == 0
    fresh = student_version(desk.master)
    for key in ("add-t", "add-s", "add-c"):
        assert find(desk.mine(), key) == find(fresh, key)
    assert (desk.source("plus-s"), desk.source("title")) == ("mine", "mine")
    assert desk.ids() == [cell.id for cell in fresh.cells]
    assert [path.read_bytes() for path in desk.backups()] == [before]
    records = (desk.workspace / ".course" / "progress").iterdir()
    assert [path.name for path in records] == ["plus.json"]
    # What was reset follows the master again.
    cell = find(desk.master, "add-s")
    cell.source = cell.source.replace(":", ":\n    # hint", 1)
    desk.update()
    assert "# hint" in desk.source("add-s")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("12_vea", None), "no notebook '12_vea'; did you mean 12_vae?"),
        (("zzz", None), "no notebook 'zzz'; did you mean 12_vae?"),
        (("12", "ad"), "no exercise 'ad' in 12_vae; did you mean add?"),
        (("12", "zzz"), "no exercise 'zzz' in 12_vae; did you mean add or plus?"),
    ],
)
def test_unknown_names_list_the_near_ones(desk, names, said):
    before = desk.tree()
    with pytest.raises(student.WorkspaceError) as caught:
        desk.reset(*names)
    assert str(caught.value) == said
    assert desk.tree() == before


def test_outside_a_clone(tmp_path, monkeypatch):
    import course

    monkeypatch.setattr(course, "__file__", str(tmp_path / "lib" / "course" / "__init__.py"))
    monkeypatch.delenv("COURSE_HOME", raising=False)
    with pytest.raises(student.WorkspaceError, match="set COURSE_HOME"):
        student.default_workspace()
    monkeypatch.setenv("COURSE_HOME", str(tmp_path))
    with pytest.raises(student.WorkspaceError, match="COURSE_HOME: expected a clone"):
        student.default_workspace()
    (tmp_path / "notebooks").mkdir()
    assert student.default_workspace() == tmp_path / "workspace"
