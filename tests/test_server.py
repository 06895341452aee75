"""How `python -m course lab` starts JupyterLab; tests/browser looks at one that runs."""

import json
import os
import sys
from pathlib import Path

import pytest

from course import server


@pytest.fixture
def started(monkeypatch):
    """Collect what would be started; the copies are one notebook, made with exit code `code`."""
    from course.teach import student

    seen = {"code": 0, "write": True}

    def make_copies(workspace):
        if seen["write"]:
            workspace.mkdir(exist_ok=True)
            (workspace / server.FIRST_NOTEBOOK).write_text("{}")
        return seen["code"]

    def execve(program, command, environment):
        seen.update(program=program, command=command, environment=environment)

    class Finished:
        returncode = 0

    monkeypatch.setattr(student, "make_copies", make_copies)
    monkeypatch.setattr(os, "execve", execve)
    monkeypatch.setattr(server.subprocess, "run", lambda *_, **__: Finished)
    return seen


@pytest.mark.skipif(os.name != "posix", reason="on Windows it is a child process")
def test_starts_on_loopback_in_the_workspace(started, tmp_path):
    server.serve(tmp_path / "mine", browser=False, port=7777)
    assert started["command"][:3] == [sys.executable, "-m", "jupyterlab"]
    options = set(started["command"][3:])
    wanted = {
        "--ServerApp.ip=127.0.0.1",
        "--ServerApp.port=7777",
        f"--ServerApp.root_dir={(tmp_path / 'mine').resolve()}",
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.extension_manager=readonly",
        "--no-browser",
    }
    assert wanted <= options
    assert not any("token" in option for option in options)  # `ps` shows options to everybody


@pytest.mark.skipif(os.name != "posix", reason="on Windows it is a child process")
def test_the_first_time_it_opens_the_first_notebook(started, tmp_path):
    def page():
        server.serve(tmp_path / "mine")
        return next(o for o in started["command"] if "default_url" in o).partition("=")[2]

    assert page() == f"/lab/tree/{server.FIRST_NOTEBOOK}"
    assert page() == "/lab"
    assert "--no-browser" not in started["command"]


@pytest.mark.skipif(os.name != "posix", reason="on Windows it is a child process")
def test_a_copy_that_cannot_be_updated_does_not_keep_the_others_shut(started, tmp_path, capsys):
    started["code"] = 1
    server.serve(tmp_path / "mine")
    assert "command" in started
    assert "could not be written" in capsys.readouterr().out


def test_without_any_copy_nothing_starts(started, tmp_path):
    started.update(code=1, write=False)
    assert server.serve(tmp_path / "mine") == 1
    assert "command" not in started


def test_settings_stay_in_the_workspace_and_an_empty_token_is_dropped(monkeypatch, tmp_path):
    monkeypatch.setenv("JUPYTER_TOKEN", "")
    environment = server.private_settings(tmp_path)
    assert environment["JUPYTER_CONFIG_DIR"] == environment["JUPYTER_CONFIG_PATH"] == str(tmp_path)
    assert "JUPYTER_TOKEN" not in environment
    monkeypatch.setenv("JUPYTER_TOKEN", "chosen")
    assert server.private_settings(tmp_path)["JUPYTER_TOKEN"] == "chosen"


def test_every_server_extension_of_nbgrader_is_off(tmp_path):
    server.private_settings(tmp_path)
    folder = Path(sys.prefix) / "etc" / "jupyter" / "jupyter_server_config.d"
    theirs = json.loads((folder / "nbgrader.json").read_text())
    ours = json.loads((tmp_path / "jupyter_server_config.d" / "course.json").read_text())
    extensions = ours["ServerApp"]["jpserver_extensions"]
    assert (
        dict.fromkeys(theirs["ServerApp"]["jpserver_extensions"], False).items()
        <= extensions.items()
    )


def test_settings_are_written_once_and_mended(tmp_path):
    server.private_settings(tmp_path)
    page_config = tmp_path / "labconfig" / "page_config.json"
    whole = page_config.read_bytes()
    before = page_config.stat().st_mtime_ns
    server.private_settings(tmp_path)
    assert page_config.stat().st_mtime_ns == before
    page_config.write_bytes(whole[:9])
    server.private_settings(tmp_path)
    assert page_config.read_bytes() == whole
