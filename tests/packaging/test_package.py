"""What is packaged, what importing it costs, and what it needs."""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# What training and sampling may use; the test below adds what these themselves require.
CORE = ["torch", "numpy", "einops", "jaxtyping", "accelerate", "safetensors", "tqdm", "typer"]
LEAN = ["data", "models", "diffusion", "metrics", "training", "pipeline"]
LEAN += ["cli", "device", "files", "sheet"]

BLOCK_AND_IMPORT = """
import importlib, json, sys
from importlib import metadata
from packaging.requirements import Requirement

core, modules = json.loads(sys.argv[1])
allowed, todo = set(), list(core)
while todo:
    name = todo.pop().lower().replace("_", "-")
    if name not in allowed:
        allowed.add(name)
        try:
            lines = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        wanted = map(Requirement, lines)
        todo += [r.name for r in wanted if not r.marker or r.marker.evaluate({"extra": ""})]
blocked = {
    module
    for module, owners in metadata.packages_distributions().items()
    if module != "course" and not any(o.lower().replace("_", "-") in allowed for o in owners)
}
for name in blocked:
    sys.modules[name] = None  # import raises ModuleNotFoundError
for module in modules:
    importlib.import_module(module)
print(json.dumps(sorted(blocked)))
"""


def run_python(*arguments, **options):
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, **options
    )


def source_files():
    """Files of the project, tracked or not yet, without what git ignores."""
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("not a git checkout")
    command = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in names.split("\0") if name and (ROOT / name).is_file()]


def modules_of(parts):
    paths = (path for part in parts for path in (ROOT / "course").glob(f"{part}*/**/*.py"))
    files = (path for part in parts for path in (ROOT / "course").glob(f"{part}.py"))
    dotted = (".".join(path.relative_to(ROOT).with_suffix("").parts) for path in [*paths, *files])
    return sorted(name.removesuffix(".__init__") for name in dotted)


def test_import_takes_under_a_fifth_of_a_second():
    code = "import time; t = time.perf_counter(); import course; print(time.perf_counter() - t)"
    assert min(float(run_python("-c", code, check=True).stdout) for _ in range(3)) < 0.2


def test_import_loads_nothing_else():
    code = "import sys; a = set(sys.modules); import course; print(*(set(sys.modules) - a))"
    assert run_python("-c", code, check=True).stdout.split() == ["course"]


def test_models_and_training_need_only_the_core():
    modules = modules_of(LEAN)
    assert {"course.models.vae", "course.training.processes", "course.device"} <= set(modules)
    result = run_python("-c", BLOCK_AND_IMPORT, json.dumps([CORE, modules]))
    assert result.returncode == 0, result.stderr
    blocked = json.loads(result.stdout)
    assert {"scipy", "sklearn", "mlxtend", "matplotlib", "diffusers", "IPython"} <= set(blocked)


TRAIN = """
import pathlib
import torch
from course.training.fit import Settings, fit
from course.training.log import read_log
from course.sheet import png, sheet

assert "accelerate" not in sys.modules, "imported before it is needed"
folder = pathlib.Path(sys.argv[2])

def objective(model, streams):
    return model(torch.ones(len(streams), 3)).square().mean()

def draw(step, model):
    (folder / "a.png").write_bytes(png(sheet(torch.zeros(3, 1, 4, 5))))

fit(
    torch.nn.Linear(3, 2), objective, Settings(steps=3, batch_size=2),
    path=folder / "state.safetensors", log=folder / "log.jsonl", watch=draw,
)
assert read_log(folder / "log.jsonl")["step"].tolist() == [2]
assert "accelerate" in sys.modules
"""


def test_a_training_needs_only_the_core(tmp_path):
    modules = ["course.training.recipes", "course.training.run"]
    code = BLOCK_AND_IMPORT + TRAIN
    result = run_python("-c", code, json.dumps([CORE, modules]), str(tmp_path))
    assert result.returncode == 0, result.stderr
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"state.safetensors", "log.jsonl", "a.png"}


SAMPLE = """
from course import pipeline
from course.cli import app
from course.models.configs import SCENES_LDM
from course.pipeline import published
from course.training import recipes

pipeline.load = lambda name: published.assemble(name, recipes.build(SCENES_LDM).eval())
try:
    app(["sample", "a red star", "-o", sys.argv[2], "--steps", "2"])
except SystemExit as stopped:
    assert not stopped.code
assert "accelerate" not in sys.modules, "imported, but nothing is trained"
"""


def test_a_picture_from_a_caption_needs_only_the_core(tmp_path):
    target = tmp_path / "a.png"
    code = BLOCK_AND_IMPORT + SAMPLE
    result = run_python("-c", code, json.dumps([CORE, []]), str(target))
    assert result.returncode == 0, result.stderr
    blocked = json.loads(result.stdout.splitlines()[0])
    assert {"scipy", "sklearn", "mlxtend", "matplotlib", "diffusers", "transformers"} <= set(
        blocked
    )
    assert str(target) in result.stdout
    assert target.read_bytes().startswith(b"\x89PNG")


def test_no_machine_path_and_no_package_index_in_the_files():
    hosts = ["pypi" + ".org", "python" + "hosted.org", "registry.npm" + "js", "deb.debian" + ".org"]
    hosts += ["download.pytorch" + ".org", "conda.anaconda" + ".org"]
    machine = r"(?<![\w./<:-])/(?:work|root|home|Users|tmp|opt)/\w"
    bad = re.compile("|".join([*map(re.escape, hosts), machine]))
    found = []
    for name in source_files():
        if name.endswith((".png", ".safetensors", ".npz", ".gz")):
            continue
        text = (ROOT / name).read_text(encoding="utf-8")
        text = re.sub(r'"image/(?:png|jpeg)": "[^"]*"', "", text)
        found += [f"{name}: {match.group()}" for match in bad.finditer(text)]
    assert found == []


@pytest.mark.slow
def test_wheel_holds_the_package_and_nothing_else(tmp_path):
    files = source_files()
    for name in files:
        target = tmp_path / "source" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    options = ["--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", str(tmp_path)]
    result = run_python("-m", "pip", "wheel", *options, str(tmp_path / "source"))
    assert result.returncode == 0, result.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    packaged = {name for name in names if not re.match(r"course_image_generation-[^/]*/", name)}
    expected = {name for name in files if re.fullmatch(r"course/.*\.(py|mplstyle|html)", name)}
    assert packaged == expected
    assert any(name.endswith("/LICENSE") for name in names)
