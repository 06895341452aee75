"""The command line: what it says and what it passes on."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from course.cli import app

run = CliRunner().invoke


@pytest.fixture
def calls(monkeypatch):
    """Replace what the commands call; collect the calls, answer 3 to each."""
    from course import server
    from course.teach import grade, student

    seen = []

    def record(name):
        def call(*arguments, **options):
            seen.append((name, *arguments, *options.items()))
            return 3

        return call

    monkeypatch.setattr(server, "serve", record("serve"))
    for name in ["make_copies", "progress", "reset"]:
        monkeypatch.setattr(student, name, record(name))
    monkeypatch.setattr(grade, "grade", record("grade"))
    return seen


@pytest.mark.parametrize(
    ("words", "call"),
    [
        ("student", ("make_copies", None)),
        ("student --workspace a", ("make_copies", Path("a"))),
        ("progress --workspace a", ("progress", Path("a"))),
        ("reset 12_vae", ("reset", "12_vae", None, None)),
        ("reset 12_vae elbo --workspace a", ("reset", "12_vae", "elbo", Path("a"))),
        ("grade a.ipynb", ("grade", Path("a.ipynb"))),
        ("lab", ("serve", None, ("browser", True), ("port", 8888))),
        (
            "lab --no-browser --port 9 --workspace a",
            ("serve", Path("a"), ("browser", False), ("port", 9)),
        ),
    ],
)
def test_a_command_passes_its_words_on_and_exits_with_the_answer(calls, words, call):
    result = run(app, words.split())
    assert calls == [call]
    assert result.exit_code == 3


def test_a_mistake_of_the_user_is_one_line_on_stderr(monkeypatch):
    from course.teach import student

    def refuse(*_):
        raise student.WorkspaceError("there is no notebook 99")

    monkeypatch.setattr(student, "reset", refuse)
    result = run(app, ["reset", "99"])
    assert result.exit_code == 2
    assert result.stderr == "course: there is no notebook 99\n"
    assert result.stdout == ""


def test_a_mistake_of_ours_is_not_hidden(monkeypatch):
    from course.teach import student

    def fail(*_):
        raise KeyError("bug")

    monkeypatch.setattr(student, "progress", fail)
    assert isinstance(run(app, ["progress"]).exception, KeyError)


def test_version():
    from importlib.metadata import version

    result = run(app, ["--version"])
    assert result.stdout == f"course {version('course-image-generation')}\n"
    assert result.exit_code == 0


def test_nothing_said_prints_help():
    result = run(app, [])
    for command in ["lab", "doctor", "student", "progress", "reset", "grade"]:
        assert f"\n  {command} " in result.output


def test_a_near_miss_is_told_the_command():
    result = run(app, ["progres"])
    assert result.exit_code == 2
    assert "Did you mean 'progress'?" in result.stderr


@pytest.mark.parametrize("port", ["0", "65536", "x"])
def test_a_wrong_port_is_refused(calls, port):
    result = run(app, ["lab", "--port", port])
    assert result.exit_code == 2
    assert "--port" in result.stderr
    assert calls == []


def test_help_loads_nothing_heavy():
    code = """
import sys
from course.cli import app
try:
    app(["--help"])
except SystemExit:
    pass
print(*{"torch", "numpy", "nbconvert", "nbgrader", "matplotlib"} & set(sys.modules))
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == ""


def test_python_m_course_runs():
    command = [sys.executable, "-m", "course", "--help"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "python -m course [OPTIONS] COMMAND" in result.stdout
