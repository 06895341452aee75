"""The exercises as the master notebooks hold them."""

import re
from dataclasses import dataclass

from course.teach.workspace import exercise_of, find_masters, marks_of, read


@dataclass(frozen=True)
class Written:
    """The three cells of one exercise: the text of each, and the points."""

    notebook: str
    name: str
    task: str = ""
    solution: str = ""
    check: str = ""
    points: float = 0.0


def load_exercises() -> dict[str, Written]:
    found: dict[str, dict] = {}
    for notebook, path in find_masters().items():
        for cell in read(path).cells:
            name = exercise_of(cell)
            if name is None:
                continue
            entry = found.setdefault(name, {"notebook": notebook, "name": name})
            marks = marks_of(cell)
            part = "check" if marks["grade"] else "solution" if marks["solution"] else "task"
            assert part not in entry, f"{notebook}: two {part} cells for {name}"
            entry[part] = cell.source
            if part == "check":
                entry["points"] = float(marks["points"])
    return {name: Written(**entry) for name, entry in found.items()}


WRITTEN = load_exercises()


SETUP = """
import math
import torch
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

def kl_standard_normal(mu, logvar):
    return kl_divergence(Normal(mu, torch.exp(logvar / 2)), Normal(0.0, 1.0)).sum(-1)

def attend_in_heads(q, k, v, heads, attend):
    parts = zip(q.chunk(heads, -1), k.chunk(heads, -1), v.chunk(heads, -1))
    return torch.cat([attend(*part) for part in parts], dim=-1)
"""


def define(source: str, name: str):
    """Run the source of a cell, as a notebook does; return the function of that name."""
    scope: dict = {"__name__": "__main__"}
    exec(compile(SETUP + source, f"<{name}>", "exec"), scope)
    return scope[name]


def body(written: Written) -> str:
    """What stands between the solution marks."""
    inside = re.findall(r"### BEGIN SOLUTION\n(.*?)[ \t]*### END SOLUTION", written.solution, re.S)
    assert len(inside) == 1, f"{written.name}: expected one solution region, got {len(inside)}"
    return inside[0]
