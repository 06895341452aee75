"""`python -m course bench`: ours and the library one would use instead, in turn, in one run."""

import importlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course.models.unet import UNetConfig
from course.training import recipes

# Of the largest number in an output: the same kernels in another order of sums.
TOLERANCE = 1e-3


class BenchError(Exception):
    """The two cannot be compared; the message says why."""


@dataclass(frozen=True)
class Side:
    """One of two that are compared: a model, and what does the work once and returns its result."""

    model: nn.Module
    run: Callable[[], Tensor]


@dataclass(frozen=True)
class Pair:
    """The work on one configuration (case), in two ways that give equal results."""

    case: str
    work: str
    ours: Side
    theirs: Side


@dataclass(frozen=True)
class Row:
    """What was measured of a pair.

    Attributes:
        case: the pair's, as is `work`.
        ours: seconds, the median of the rounds; `theirs` likewise.
        ratio: theirs / ours, above 1 where ours is faster.
        interval: 95 % of the ratio, by bootstrap over the rounds.
        ours_bytes: memory, as `memory_name` says; None where none is kept; `theirs_bytes` likewise.
        seconds: of every round, ours and theirs.
    """

    case: str
    work: str
    ours: float
    theirs: float
    ratio: float
    interval: tuple[float, float]
    ours_bytes: int | None
    theirs_bytes: int | None
    seconds: list[tuple[float, float]]


@dataclass(frozen=True)
class UNetCase:
    """A U-Net and the pictures it is given.

    Attributes:
        config: of the network.
        size: height and width.
        inference: pictures at once.
        training: pictures per step.
    """

    config: UNetConfig
    size: tuple[int, int]
    inference: int
    training: int


_LATENTS = UNetConfig(4, 4, (64, 128, 256, 256), layers_per_block=2, norm_num_groups=32)
UNET_CASES = {
    "digits": UNetCase(recipes.find("digits-ddpm").model, (28, 28), inference=64, training=32),
    "latents 8x8": UNetCase(_LATENTS, (8, 8), inference=32, training=16),
    "latents 32x32": UNetCase(_LATENTS, (32, 32), inference=4, training=4),
}


def unet(device: torch.device) -> Iterator[Pair]:
    """Our U-Net against diffusers', with the same weights, in inference and in training."""
    for name, case in UNET_CASES.items():
        yield from _unet_pairs(name, case, device)


def _unet_pairs(name: str, case: UNetCase, device: torch.device) -> Iterator[Pair]:
    import diffusers

    config = case.config
    levels = len(config.block_out_channels)
    ours = recipes.build(config).to(device)
    theirs = diffusers.UNet2DModel(
        in_channels=config.in_channels,
        out_channels=config.out_channels,
        block_out_channels=config.block_out_channels,
        layers_per_block=config.layers_per_block,
        norm_num_groups=config.norm_num_groups,
        norm_eps=config.norm_eps,
        resnet_time_scale_shift=config.resnet_time_scale_shift,
        down_block_types=("DownBlock2D",) * levels,
        up_block_types=("UpBlock2D",) * levels,
        add_attention=False,
    ).to(device)
    theirs.load_state_dict(ours.state_dict())

    generator = torch.Generator().manual_seed(0)

    def predictions(batch: int) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
        xt = torch.randn(batch, config.in_channels, *case.size, generator=generator).to(device)
        t = torch.randint(1000, (batch,), generator=generator).to(device)
        return lambda: ours(xt, t), lambda: theirs(xt, t).sample

    predict, their_predict = predictions(case.inference)
    yield Pair(
        name,
        f"inference, batch {case.inference}",
        _inference(ours, predict),
        _inference(theirs, their_predict),
    )
    predict, their_predict = predictions(case.training)
    shape = (case.training, config.out_channels, *case.size)
    noise = torch.randn(shape, generator=generator).to(device)
    yield Pair(
        name,
        f"train step, batch {case.training}",
        _train_step(ours, predict, noise),
        _train_step(theirs, their_predict, noise),
    )


def _inference(model: nn.Module, predict: Callable[[], Tensor]) -> Side:
    return Side(model.eval(), torch.inference_mode()(predict))


def _train_step(model: nn.Module, predict: Callable[[], Tensor], target: Tensor) -> Side:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def run() -> Tensor:
        loss = F.mse_loss(predict(), target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return Side(model.train(), run)


# Each with the library it is measured against.
BENCHES: dict[str, tuple[Callable[[torch.device], Iterator[Pair]], str]] = {
    "unet": (unet, "diffusers"),
}


def measure(
    pair: Pair, rounds: int, device: torch.device, clock: Callable[[], float] = time.perf_counter
) -> Row:
    """Time both sides in turn, each first in every second round, after two that only compare them.

    Raises:
        BenchError: the two sides give different results.
    """
    for _ in range(2):
        _check_equal(pair, pair.ours.run(), pair.theirs.run())

    def seconds(side: Side) -> float:
        _wait(device)
        start = clock()
        side.run()
        _wait(device)
        return clock() - start

    timings = []
    for i in range(rounds):
        if i % 2:
            theirs = seconds(pair.theirs)
            timings.append((seconds(pair.ours), theirs))
        else:
            timings.append((seconds(pair.ours), seconds(pair.theirs)))
    ours, theirs = np.median(timings, axis=0).tolist()
    return Row(
        case=pair.case,
        work=pair.work,
        ours=ours,
        theirs=theirs,
        ratio=theirs / ours,
        interval=_bootstrap(timings),
        ours_bytes=_memory(pair.ours, device),
        theirs_bytes=_memory(pair.theirs, device),
        seconds=timings,
    )


def _check_equal(pair: Pair, ours: Tensor, theirs: Tensor) -> None:
    gap = (ours - theirs).abs().max() / theirs.abs().max()
    if not gap <= TOLERANCE:
        raise BenchError(
            f"{pair.case}, {pair.work}: ours and theirs differ by {gap:.1e} of the largest number, "
            f"more than {TOLERANCE:.0e}; there is no point in timing them"
        )


def _bootstrap(timings: Sequence[tuple[float, float]], draws: int = 2000) -> tuple[float, float]:
    """95 % interval of the ratio of the medians, rounds drawn again with replacement."""
    table = np.array(timings)
    rows = np.random.default_rng(0).integers(len(table), size=(draws, len(table)))
    medians = np.median(table[rows], axis=1)
    low, high = np.quantile(medians[:, 1] / medians[:, 0], [0.025, 0.975]).tolist()
    return low, high


def memory_name(device: torch.device) -> str:
    """What the bytes are: a CPU keeps no count of its peak, so there what autograd holds."""
    return "peak above the weights" if device.type == "cuda" else "saved for backward"


def _memory(side: Side, device: torch.device) -> int | None:
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        side.run()
        return torch.cuda.max_memory_allocated(device) - before
    return _saved_bytes(side)


def _saved_bytes(side: Side) -> int | None:
    """Bytes of all storages that the graph keeps, each once, weights left out; None: no graph."""
    weights = {p.untyped_storage().data_ptr() for p in side.model.parameters()}
    saved = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        side.run()
    return sum(saved.values()) or None


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


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
