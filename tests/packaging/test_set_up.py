"""`.ci/setup`, which every make target runs first, with stand-ins for Python and pip."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ["sh", "cat", "cksum", "dirname", "uname", "mkdir", "cp", "touch"]

# Answers what .ci/setup asks a Python, and notes what it is told to install.
STAND_IN = """#!/bin/sh
version=${{0##*/}}; case $version in python) version=3.12;; *) version={version};; esac
case "$*" in
*"print("*) echo $version ;;
*"sys.exit(sys.version_info"*) [ {old} = no ] ;;
*"import ensurepip"*) [ {venv} = yes ] ;;
"-m venv"*) mkdir -p .venv/bin && cp "$0" .venv/bin/python && echo venv >>log ;;
*"m.version"*) [ -e torch ] ;;
"-m pip install"*) echo "$*" >>log; [ ! -e offline ] && touch torch ;;
esac
"""

pytestmark = pytest.mark.skipif(os.name != "posix", reason="make needs a POSIX system")


@pytest.fixture
def clone(tmp_path):
    """A folder with what .ci/setup reads, and a PATH with nothing but the tools it uses."""
    (tmp_path / ".ci").mkdir()
    for name in [".ci/setup", "pyproject.toml", "constraints.txt"]:
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "path").mkdir()
    for tool in TOOLS:
        (tmp_path / "path" / tool).symlink_to(shutil.which(tool))
    return tmp_path


def add_python(clone, name, version="3.12", old="no", venv="yes"):
    script = clone / "path" / name
    script.write_text(STAND_IN.format(version=version, old=old, venv=venv))
    script.chmod(0o755)


def set_up(clone, *extras, **environment):
    return subprocess.run(
        ["sh", clone / ".ci" / "setup", *extras],
        env={"PATH": str(clone / "path"), **environment},
        capture_output=True,
        text=True,
        timeout=30,
    )


def log(clone):
    path = clone / "log"
    return path.read_text().splitlines() if path.exists() else []


def test_installs_once_and_says_how_much_it_downloads(clone):
    add_python(clone, "python3.12")
    first = set_up(clone, "lab")
    assert first.returncode == 0, first.stderr
    assert "GB" in first.stdout
    assert [line.split()[0] for line in log(clone)] == ["venv", "-m"]
    assert log(clone)[1].endswith("-c constraints.txt -e .[lab]")
    again = set_up(clone, "lab")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert len(log(clone)) == 2


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_installs_again_when_the_requirements_change(clone, name):
    add_python(clone, "python3.12")
    set_up(clone, "lab")
    with (clone / name).open("a") as file:
        file.write("\n# changed\n")
    second = set_up(clone, "lab")
    assert len(log(clone)) == 3
    assert "GB" not in second.stdout  # PyTorch is there


def test_adds_extras_to_what_is_there(clone):
    add_python(clone, "python3.12")
    set_up(clone, "lab")
    set_up(clone, "lab,test")
    set_up(clone, "lab")
    assert [line.split()[-1] for line in log(clone)] == ["venv", ".[lab]", ".[lab,test]"]


def test_goes_on_after_an_interruption(clone):
    add_python(clone, "python3.12")
    (clone / "offline").touch()
    broken = set_up(clone, "lab")
    assert broken.returncode == 1
    assert "No network?" in broken.stderr
    (clone / "offline").unlink()
    assert set_up(clone, "lab").returncode == 0
    assert [line.split()[0] for line in log(clone)] == ["venv", "-m", "-m"]


def test_makes_only_the_environment_when_no_extras_are_asked(clone):
    add_python(clone, "python3.12")
    assert set_up(clone).returncode == 0
    assert log(clone) == ["venv"]


def test_passes_over_shims_and_old_pythons(clone):
    shim = clone / "path" / "python3.13"
    shim.write_text("#!/bin/sh\necho 'no such version' >&2\nexit 127\n")
    shim.chmod(0o755)
    add_python(clone, "python3.12", venv="no")
    add_python(clone, "python3.11", version="3.11")
    add_python(clone, "python3", version="3.9", old="yes")
    result = set_up(clone, "lab")
    assert result.returncode == 0, result.stderr
    assert "python3.11 (Python 3.11)" in result.stdout


def test_says_that_there_is_no_python(clone):
    result = set_up(clone, "lab")
    assert result.returncode == 1
    assert "needs Python 3.11 or later. Found: none." in result.stderr
    assert not (clone / ".venv").exists()


def test_says_that_python_is_too_old(clone):
    add_python(clone, "python3", version="3.9", old="yes")
    assert "Found: python3 (3.9)." in set_up(clone, "lab").stderr


def test_says_that_the_named_python_does_not_run(clone):
    add_python(clone, "python3")
    result = set_up(clone, "lab", PYTHON="python9")
    assert result.returncode == 1
    assert "none at PYTHON=python9" in result.stderr


def test_says_that_venv_is_missing(clone):
    add_python(clone, "python3", venv="no")
    result = set_up(clone, "lab")
    assert result.returncode == 1
    assert "apt install python3.12-venv" in result.stderr


def test_installs_again_when_the_clone_has_moved(clone):
    add_python(clone, "python3.12")
    set_up(clone, "lab")
    moved = clone.rename(clone.with_name("moved"))
    assert set_up(moved, "lab").returncode == 0
    assert [line.split()[0] for line in log(moved)] == ["venv", "-m", "-m"]


def test_a_real_python_makes_a_broken_environment_anew(clone):
    python = clone / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(clone / "gone")
    result = set_up(clone, PYTHON=sys.executable)
    assert result.returncode == 0, result.stderr
    assert subprocess.run([python, "-m", "pip", "--version"], check=False).returncode == 0


def test_make_lists_its_targets():
    make = shutil.which("make") or pytest.skip("make is not installed")
    text = subprocess.run(
        [make, "-C", ROOT, "help"], capture_output=True, text=True, check=True
    ).stdout
    for target in ["lab", "test", "test-all", "format", "notebooks", "help"]:
        assert f"make {target} " in text
