"""pyproject.toml, constraints.txt, environment.yml and what is installed here agree."""

import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
PIN = re.compile(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*")


def pins():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def by_name(versions):
    return {canonicalize_name(name): version for name, version in versions.items()}


def test_constraints_are_exact_sorted_and_bare():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if not line.startswith("#")]
    assert [line for line in lines if not PIN.fullmatch(line)] == []
    assert lines == sorted(lines, key=str.lower)
    assert len(lines) == len(by_name(pins()))


def test_constraints_fit_the_ranges():
    pinned = by_name(pins())
    for line in [*PROJECT["dependencies"], *(line for extra in EXTRAS.values() for line in extra)]:
        requirement = Requirement(line)
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), line


def test_what_is_installed_is_what_is_pinned():
    pinned = by_name(pins())
    different = {}
    for name in pinned:
        try:
            found = metadata.version(name).split("+")[0]
        except metadata.PackageNotFoundError:
            continue  # a library of another extra or another system
        if found != pinned[name]:
            different[name] = (found, pinned[name])
    assert different == {}


@pytest.mark.skipif(sys.platform != "linux", reason="constraints.txt was made on Linux")
def test_everything_that_is_needed_is_pinned():
    pinned, needed, todo = by_name(pins()), set(), [("course-image-generation", ("lab", "test"))]
    while todo:
        name, extras = todo.pop()
        for line in metadata.requires(name) or []:
            requirement = Requirement(line)
            environments = [{"extra": extra} for extra in ("", *extras)]
            if requirement.marker and not any(map(requirement.marker.evaluate, environments)):
                continue
            key = canonicalize_name(requirement.name)
            if (key, *requirement.extras) not in needed:
                needed.add((key, *requirement.extras))
                todo.append((key, tuple(requirement.extras)))
    by_cuda = re.compile(r"nvidia-|cuda-|triton")  # held by PyTorch itself
    names = {key for key, *_ in needed if not by_cuda.match(key)}
    assert names - pinned.keys() == set()


def test_conda_environment_says_the_same():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    *conda, pip = environment["dependencies"]
    assert conda == [f"python{PROJECT['requires-python']}", "pip"]
    lines = pip["pip"]
    assert "-c constraints.txt" in lines
    assert "-e .[lab]" in lines
    pinned = dict(line.split("==") for line in lines if "==" in line)
    assert pinned == {name: pins()[name] for name in ["torch"]}


def test_version_is_one():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"]
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{PROJECT['version']}]" in changes
    assert metadata.version("course-image-generation") == PROJECT["version"]
