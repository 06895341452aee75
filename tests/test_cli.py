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


# python -m course graph


NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)

    def forward(self, x):
        if x.sum() > 1:
            return x
        return x + torch.relu(self.conv(x)).mean(1, keepdim=True)

class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1))

    def forward(self, x):
        return x + self.blocks(x)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working folder with a model that somebody wrote."""
    (tmp_path / "mine.py").write_text(NET)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("mine", None)


def written(folder):
    return {path.name for path in folder.iterdir()} - {"mine.py", "__pycache__"}


def test_the_configurations_are_listed():
    from course.models.configs import CONFIGURATIONS

    result = run(app, ["graph"])
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(CONFIGURATIONS)
    assert all(CONFIGURATIONS[line.split()[0]].about in line for line in lines)


def test_help_of_graph_names_its_options():
    result = run(app, ["graph", "--help"])
    assert result.exit_code == 0
    for option in ["--output", "--depth", "--focus", "--direction", "--no-fold", "--input"]:
        assert option in result.stdout
    assert "package.module:callable" in result.stdout


@pytest.mark.parametrize(
    ("options", "name", "start"),
    [
        ("", "digits-classifier.html", "<!DOCTYPE html>"),
        ("-o a.svg", "a.svg", "<svg"),
        ("--output new/a.dot", "new/a.dot", "digraph"),
        ("-o a.json --depth 2 --no-fold", "a.json", "{"),
        ("-o a.html --direction LR", "a.html", "<!DOCTYPE html>"),
    ],
)
def test_the_graph_is_written(folder, options, name, start):
    result = run(app, ["graph", "digits-classifier", *options.split()])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("Computation graph of Classifier: ")
    assert result.stdout.endswith(f": {name}\n")
    assert (folder / name).read_text().startswith(start)
    assert written(folder) == {name.split("/")[0]}


@pytest.mark.parametrize("option", ["--depth=2", "--no-fold", "--direction=LR", "--focus=blocks"])
def test_the_options_of_graph_arrive(folder, option):
    command = ["graph", "mine:Plain", "--input", "1x3x8x8", "-o"]
    for name, more in (("plain.dot", []), ("other.dot", [option])):
        assert run(app, [*command, name, *more]).exit_code == 0
    plain, other = ((folder / name).read_text() for name in ("plain.dot", "other.dot"))
    wanted = {
        "--depth=2": lambda: "0 to 1  x 2" in other and "0 to 1" not in plain,
        "--no-fold": lambda: plain == other,  # depth 1 has nothing to fold
        "--direction=LR": lambda: "rankdir=LR" in other and "rankdir=TB" in plain,
        "--focus=blocks": lambda: 'digraph "Plain, blocks"' in other,
    }
    assert wanted[option]()
    folded = [*command, "deep.dot", "--depth", "2", "--no-fold"]
    assert run(app, folded).exit_code == 0
    assert "x 2" not in (folder / "deep.dot").read_text()


def test_a_table_in_place_of_a_picture(folder):
    result = run(app, ["graph", "digits-classifier", "--table"])
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["block", "input", "output", "parameters", "MFLOPs", "skips"]
    assert lines[-1].split()[:2] == ["in", "all"]
    assert written(folder) == set()
    rows = {
        depth: run(
            app, ["graph", "mine:Plain", "--input", "1x3x8x8", "--table", "--depth", depth]
        ).stdout
        for depth in "12"
    }
    assert [len(text.splitlines()) for text in rows.values()] == [3, 4]


@pytest.mark.parametrize("more", [["-o", "a.svg"], ["--focus", "blocks"]])
def test_a_table_is_of_the_whole_and_no_file(folder, more):
    result = run(app, ["graph", "mine:Plain", "--input", "1x3x8x8", "--table", *more])
    assert result.exit_code == 2
    assert result.stderr.startswith("course: --table: ")
    assert written(folder) == set()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("unett", "such as unet"),
        ("digits-dppm", "such as digits-ddpm"),
        ("mine:Nett --input 1x3x8x8", "such as Net"),
        ("nowhere:Net --input 1x3x8x8", "No module named 'nowhere'"),
        ("mine:Net", "input: expected the shape of each input of mine:Net"),
        ("mine:Net --input 3by8", "input: expected a shape such as 1x3x64x64"),
        ("mine:Net --input 1x3x8x8", "mine.py:11, `if x.sum() > 1:`"),
        ("mine:Net --input 1x3x8x8", "--device cpu"),
        ("mine:Net --input 1x4x8x8 --device cpu", "inputs: Net can't be run on them"),
        ("mine:Plain --input 1x3x8x8 --device cuda", 'device: expected "meta" or "cpu", came'),
        ("unet --focus up_block.0", "such as up_blocks.0"),
        ("unet --direction down", "direction: expected one of"),
        ("digits-classifier -o a.gif", "path: expected a name that ends in .svg"),
        ("digits-classifier -o mine.py/a.svg", "mine.py"),
        ("digits-ddpm --input 1x1x28x28", "'t'"),
    ],
)
def test_a_mistake_in_graph_is_one_line(folder, words, said):
    result = run(app, ["graph", *words.split()])
    assert result.exit_code == 2, result.output
    assert said in result.stderr
    assert result.stderr.startswith("course: ")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""
    assert written(folder) == set()


@pytest.mark.parametrize("depth", ["0", "-1", "1.5", "x"])
def test_a_depth_that_is_none(folder, depth):
    result = run(app, ["graph", "unet", "--depth", depth])
    assert result.exit_code == 2
    assert "--depth" in result.stderr
    assert written(folder) == set()


def test_a_model_that_somebody_wrote(folder):
    """From outside the package, as a user starts it, where there is no dot."""
    command = [sys.executable, "-m", "course", "graph", "mine:Net", "--input", "1x3x9x8"]
    command += ["--device", "cpu", "-o", "net.html"]
    result = subprocess.run(
        command, cwd=folder, env={"PATH": ""}, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("Computation graph of Net: 4 boxes, ")
    page = (folder / "net.html").read_text()
    assert "Conv2d&#160;3x3" in page or "Conv2d\xa03x3" in page or "Conv2d 3x3" in page
    assert "1x3x9x8" in page


# python -m course train, python -m course curve


def test_the_recipes_are_listed():
    from course.training.recipes import RECIPES

    result = run(app, ["train"])
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(RECIPES)
    for line, recipe in zip(lines, RECIPES.values(), strict=True):
        assert f"  {', '.join(recipe.lanes)} " in line
        assert line.endswith(recipe.about)


@pytest.mark.parametrize(
    ("words", "call"),
    [
        ("", (Path("runs/digits-ddpm"), False, None, "auto", 2000)),
        (
            "--folder a --resume --max-seconds 5 --lane gpu --sheet-every 0",
            (Path("a"), True, 5.0, "gpu", 0),
        ),
    ],
)
def test_the_options_of_train_arrive(monkeypatch, words, call):
    from course.training import run as training

    seen = []
    monkeypatch.setattr(training, "main", lambda *arguments: seen.append(arguments) or 3)
    assert run(app, ["train", "digits-ddpm", *words.split()]).exit_code == 3
    assert seen == [("digits-ddpm", *call)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("digits", "there is no recipe 'digits'; there are digits-classifier, "),
        ("scenes-clip --lane gpu", "lane: expected auto or one of scenes-clip, which are cpu; "),
        ("digits-ddpm --lane gpu", "lane: expected cpu or auto, as no GPU is found here"),
    ],
)
def test_a_mistake_in_train_is_one_line(folder, monkeypatch, words, said):
    from course import device

    monkeypatch.setattr(device, "gpu", lambda: None)
    result = run(app, ["train", *words.split()])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"course: {said}")
    assert result.stderr.count("\n") == 1
    assert written(folder) == set()


@pytest.mark.parametrize(("name", "start"), [("a.png", b"\x89PNG"), ("new/a.svg", b"<?xml")])
def test_a_curve_is_drawn_from_logs(folder, name, start):
    from course.training.log import FIELDS

    for run_folder in ("b", "c"):
        (folder / run_folder).mkdir()
        line = dict.fromkeys(FIELDS, 1)
        (folder / run_folder / "log.jsonl").write_text(f"{line}\n".replace("'", '"'))
    result = run(app, ["curve", "b", "c/log.jsonl", "-o", name])
    assert (result.exit_code, result.stdout) == (0, f"{name}\n")
    assert (folder / name).read_bytes().startswith(start)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("nowhere", "nowhere: expected a log, there is no such file"),
        ("mine.py", "mine.py, line 1: expected step, loss"),
        ("mine.py -o a.gif", "output: expected .png, .svg or .pdf, came 'a.gif'"),
    ],
)
def test_a_mistake_in_curve_is_one_line(folder, words, said):
    result = run(app, ["curve", *words.split()])
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.startswith("course: ")
    assert result.stderr.count("\n") == 1
    assert written(folder) == set()


# python -m course sample, python -m course evaluate


CAPTION = "a small red star above a large blue circle"


@pytest.fixture
def drawn(monkeypatch):
    """What the pipeline is asked for; it draws true pictures, then a wrong one, then none."""
    import torch

    from course import pipeline
    from course.data.scenes import Scene, Thing, render

    things = (
        Thing("star", "red", "small", 0.3, 0.25, 0.26),
        Thing("circle", "blue", "large", 0.4, 0.7, 0.36),
    )
    turned = (
        Thing("star", "red", "small", 0.3, 0.8, 0.26),
        Thing("circle", "blue", "large", 0.4, 0.3, 0.36),
    )
    pictures = render([Scene(things, "white"), Scene(turned, "navy")])
    pictures = torch.cat([pictures, torch.zeros(1, 3, 32, 32)])
    seen = []

    class Pipeline:
        autoencoder = torch.nn.Linear(1, 1)

        def __call__(self, prompts, **options):
            seen.append((list(prompts), options))
            return pipeline.Images(pictures[: len(prompts)], tuple(prompts))

    def load(name):
        seen.append(name)
        return Pipeline()

    monkeypatch.setattr(pipeline, "load", load)
    return seen


def test_a_caption_is_drawn_and_the_picture_is_read(folder, drawn):
    import numpy as np
    from PIL import Image

    result = run(app, ["sample", CAPTION, "-o", "new/a.png"])
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "new/a.png\nshows what the caption says\n"
    options = {"steps": 30, "guidance_scale": 3.0, "seed": 0, "progress": False}
    assert drawn == ["scenes-ldm", ([CAPTION], options)]
    with Image.open(folder / "new" / "a.png") as image:
        pixels = np.array(image)
    assert pixels.shape == (256, 256, 3)
    assert (pixels.reshape(32, 8, 32, 8, 3) == pixels[::8, ::8].reshape(32, 1, 32, 1, 3)).all()
    assert pixels[0, 0].tolist() == [250, 250, 246]


def test_several_pictures_are_a_sheet_and_each_is_told(folder, drawn):
    from PIL import Image

    words = "--n 3 --seed 4 --steps 9 --scale 1.5 --zoom 2 --recipe other"
    result = run(app, ["sample", CAPTION, *words.split()])
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[:2] == ["sample.png", "1: shows what the caption says"]
    assert lines[2] == (
        "2: does not show what the caption says, but "
        "a small red star below a large blue circle on a navy background"
    )
    assert lines[3].startswith("3: can't be read: the background is none that exists")
    options = {"steps": 9, "guidance_scale": 1.5, "seed": 4, "progress": False}
    assert drawn == ["other", ([CAPTION] * 3, options)]
    with Image.open(folder / "sample.png") as image:
        assert image.size == (2 * 65, 2 * 65)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a small rad star"], "caption: 'rad' is unknown; the nearest known words are red"),
        (["a star, a ring, a cross and a square"], "caption: a picture has at most 3 things"),
        (["a red star above a red star"], "caption: a picture has one red star at most"),
        (["a white star"], "caption: only a background is white"),
        (["a star above"], "caption: expected 'a' or 'an' after 'above', came the end"),
        ([CAPTION, "-o", "a.jpg"], "output: expected a name that ends in .png, came 'a.jpg'"),
    ],
)
def test_what_cannot_be_drawn_is_said_before_anything_is_loaded(folder, drawn, words, said):
    result = run(app, ["sample", *words])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"course: {said}")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""
    assert drawn == []
    assert written(folder) == set()


def test_a_file_that_cannot_be_written_leaves_none(folder, drawn):
    result = run(app, ["sample", CAPTION, "-o", "mine.py/a.png"])
    assert result.exit_code == 2
    assert "mine.py" in result.stderr
    assert result.stdout == ""
    assert written(folder) == set()


@pytest.mark.parametrize("command", [["sample", CAPTION, "--recipe"], ["evaluate"]])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("scenes", "name: expected one of digits-classifier, .*, came 'scenes'"),
        ("scenes-vae", "name: expected one of scenes-ldm, .*, came 'scenes-vae'"),
    ],
)
def test_a_recipe_that_draws_nothing_is_refused(folder, command, name, said):
    import re

    result = run(app, [*command, name])
    assert result.exit_code == 2
    assert re.fullmatch(f"course: {said}\n", result.stderr)
    assert written(folder) == set()


def test_the_options_of_evaluate_arrive(monkeypatch):
    from course.pipeline import command

    seen = []
    monkeypatch.setattr(command, "evaluate", lambda *words, **more: seen.append((words, more)))
    words = ["--each", "5", "--seed", "3", "--steps", "7", "--scale", "2"]
    assert run(app, ["evaluate", "other", *words]).exit_code == 0
    assert run(app, ["evaluate"]).exit_code == 0
    assert seen == [
        (("other",), {"each": 5, "seed": 3, "steps": 7, "guidance_scale": 2.0}),
        (("scenes-ldm",), {"each": 100, "seed": 0, "steps": 30, "guidance_scale": 3.0}),
    ]
