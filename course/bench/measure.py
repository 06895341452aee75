"""Time two ways of the same work in turn, in one run; and the memory that each takes."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

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
