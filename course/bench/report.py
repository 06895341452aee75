"""The benches by name, and what is printed and kept of them."""

import importlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import torch

from course.bench.attention import attention
from course.bench.latent import ldm
from course.bench.measure import BenchError, Pair, Row, measure, memory_name
from course.bench.unet import conditional, unet

# Each with the library it is measured against.
BENCHES: dict[str, tuple[Callable[[torch.device], Iterator[Pair]], str]] = {
    "unet": (unet, "diffusers"),
    "attention": (attention, "diffusers"),
    "conditional": (conditional, "diffusers"),
    "ldm": (ldm, "diffusers"),
}


def main(
    what: str, rounds: int = 20, threads: int | None = None, json_file: Path | None = None
) -> int:
    """Print a row for each pair of the bench `what`; write all that was measured to `json_file`.

    Raises:
        BenchError: the library is missing or gives other results, or the file has no folder.
    """
    pairs, library = BENCHES[what]
    try:
        library_version = importlib.import_module(library).__version__
    except ImportError:
        raise BenchError(
            f"{library}, which ours is measured against, is not installed: "
            'python -m pip install -c constraints.txt -e ".[test]"'
        ) from None
    if json_file is not None and not json_file.parent.is_dir():
        raise BenchError(f"there is no folder {json_file.parent} for {json_file.name}")
    if threads is not None:
        torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    machine = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        library: library_version,
    }
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    print(f"ours and {library}, same weights, in turn; medians of {rounds} rounds")
    print("ratio: theirs / ours, above 1 where ours is faster; in brackets its 95 % interval")
    print(f"MB: {memory_name(device)}\n")
    print(
        f"{'case':<14} {'work':<21} {'ours ms':>8} {'theirs ms':>9}  {'ratio':<19} "
        f"{'ours MB':>8} {'theirs MB':>9}"
    )
    rows = []
    for pair in pairs(device):
        rows.append(measure(pair, rounds, device))
        print(_line(rows[-1]), flush=True)
    if json_file is not None:
        facts = {
            "bench": what,
            "machine": machine,
            "rounds": rounds,
            "memory": memory_name(device),
            "rows": [asdict(row) for row in rows],
        }
        json_file.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return 0


def _line(row: Row) -> str:
    low, high = row.interval
    memory = [
        "-" if value is None else f"{value / 1e6:.1f}"
        for value in (row.ours_bytes, row.theirs_bytes)
    ]
    return (
        f"{row.case:<14} {row.work:<21} {1e3 * row.ours:>8.1f} {1e3 * row.theirs:>9.1f}  "
        f"{row.ratio:.3f} [{low:.3f}, {high:.3f}] {memory[0]:>8} {memory[1]:>9}"
    )
