"""The training loop: any model, any objective, the same weights however often interrupted."""

import copy
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from course.training import checkpoint
from course.training.checkpoint import CheckpointError

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}

Objective = Callable[[Callable[..., Tensor], Sequence[np.random.Generator]], Tensor]


@dataclass(frozen=True)
class Settings:
    """How to train; all that decides the result, with model, objective and number of threads.

    Attributes:
        steps: updates of the weights.
        batch_size: samples per update.
        learning_rate: of AdamW at its highest: it rises linearly, then falls as a cosine to 0.
        warmup: updates in which it rises.
        weight_decay: of AdamW.
        ema_decay: of the moving average of the weights, when warm.
        clip_norm: largest norm of the gradient.
        seed: of everything random.
        precision: "float32", or "bfloat16" for what autocast computes with half the bits, as
            convolutions and matrix products; weights, averages and updates stay float32.

    Raises:
        ValueError: a number is out of its range, or there is no such precision.
    """

    steps: int
    batch_size: int
    learning_rate: float | int = 1e-3
    warmup: int = 100
    weight_decay: float | int = 0.0
    ema_decay: float | int = 0.999
    clip_norm: float | int = 1.0
    seed: int = 0
    precision: str = "float32"

    def __post_init__(self) -> None:
        for name, low in {"steps": 1, "batch_size": 1, "warmup": 0, "seed": 0}.items():
            if getattr(self, name) < low:
                raise ValueError(f"{name}: expected at least {low}, came {getattr(self, name)}")
        for name in ("learning_rate", "clip_norm"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name}: expected a number above 0, came {getattr(self, name)}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay: expected from 0 to below 1, came {self.ema_decay}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay: expected 0 or more, came {self.weight_decay}")
        if self.precision not in PRECISIONS:
            raise ValueError(
                f"precision: expected one of {tuple(PRECISIONS)}, came {self.precision!r}"
            )


@dataclass(frozen=True)
class Fitted:
    """What training left.

    Attributes:
        model: with the weights of the last step.
        ema: the same network with their moving average, in eval mode: the one to use.
        losses: of every step done.
        runs: what went into it: of each run its first step, the one after its last, seconds, CPU
            seconds of all threads together, which other processes hardly change, and the notes of
            its caller.
    """

    model: nn.Module
    ema: nn.Module
    losses: np.ndarray
    runs: list[dict[str, Any]]

    @property
    def seconds(self) -> float:
        """Spent, in all runs together."""
        return sum(run["seconds"] for run in self.runs)

    @property
    def steps(self) -> int:
        """Updates done."""
        return len(self.losses)


def stream(seed: int, step: int, index: int) -> np.random.Generator:
    """Random numbers of one sample of one batch: a function of the three and of nothing else.

    Whoever resumes needs no state of a generator, and several processes that share a batch draw
    what one would. Philox is counter-based: (step, index) are the high words of its counter.
    """
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, index, step]))


def fit(
    model: nn.Module,
    objective: Objective,
    settings: Settings,
    *,
    path: Path | None = None,
    every: int = 500,
    resume: bool = False,
    max_seconds: float | int | None = None,
    facts: dict[str, Any] | None = None,
    notes: dict[str, Any] | None = None,
    progress: bool = True,
) -> Fitted:
    """Train `model` in place.

    Args:
        model: in any mode; it is put into train mode.
        objective: called with the model and one generator of random numbers per sample of the
            batch, in order; returns the loss, a mean over the samples.
        settings: see there.
        path: checkpoint to write every so often, on interruption and at the end; nowhere if None.
        every: updates between checkpoints.
        resume: go on from `path` if it is there; the result is the same to the last bit.
        max_seconds: stop, with a checkpoint, when this run has taken so long.
        facts: what the checkpoint must be of, if it is resumed from, besides `settings`.
        notes: on the circumstances of this run, as JSON holds them; kept with it.
        progress: show a bar with loss and rate.

    Raises:
        CheckpointError: it can't be read or written, or it is of other settings or facts.
        FloatingPointError: the loss is no longer finite; the last checkpoint is from before.
        ValueError: there is something to resume and no path, or `every` is below 1.
    """
    from tqdm import tqdm

    if resume and path is None:
        raise ValueError("path: expected that of a checkpoint to resume from, came None")
    if every < 1:
        raise ValueError(f"every: expected at least 1, came {every}")
    facts = {**(facts or {}), "settings": vars(settings)}
    device, dtype = next(model.parameters()).device, PRECISIONS[settings.precision]
    model.train()
    ema = copy.deepcopy(model).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    losses: list[float] = []
    earlier: list[dict[str, Any]] = []
    if resume and path.exists():
        losses, earlier = _restore(path, facts, model, ema, optimizer)
    first, start, cpu_start = len(losses), time.monotonic(), time.process_time()

    def runs() -> list[dict[str, Any]]:
        span = {"from": first, "to": len(losses), "seconds": time.monotonic() - start}
        span["cpu_seconds"] = time.process_time() - cpu_start
        return [*earlier, span | (notes or {})] if len(losses) > first else earlier

    def keep() -> None:
        if path is not None:
            state = _tensors(model, ema, optimizer, losses)
            checkpoint.save(path, state, {**facts, "runs": runs()})

    bar = tqdm(
        total=settings.steps,
        initial=len(losses),
        disable=not progress,
        file=sys.stdout,
        mininterval=1,
        ncols=80,
    )
    try:
        for step in range(len(losses), settings.steps):
            rate = settings.learning_rate * _warm(step, settings)
            optimizer.param_groups[0]["lr"] = rate
            streams = [stream(settings.seed, step, i) for i in range(settings.batch_size)]
            # What a layer draws, as dropout does, is a function of the step as well.
            with torch.random.fork_rng([device] if device.type == "cuda" else []):
                torch.manual_seed(
                    int(stream(settings.seed, step, settings.batch_size).integers(2**63))
                )
                with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                    loss = objective(model, streams)
                optimizer.zero_grad()
                loss.backward()
            value = loss.item()
            if not math.isfinite(value):
                raise FloatingPointError(f"the loss is {value} at step {step}: lower the rate?")
            nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
            optimizer.step()
            decay = min(settings.ema_decay, (1 + step) / (10 + step))
            follow(ema, model, decay)
            losses.append(value)
            bar.set_postfix_str(f"loss {np.mean(losses[-100:]):.4f}", refresh=False)
            bar.update()
            if (step + 1) % every == 0 and step + 1 < settings.steps:
                keep()
            if max_seconds is not None and time.monotonic() - start >= max_seconds:
                break
    except KeyboardInterrupt:
        keep()
        raise
    finally:
        bar.close()
    keep()
    return Fitted(model, ema, np.array(losses), runs())


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the weights of `average` towards those of `model`: decay * old + (1 - decay) * new.

    Buffers, as the means of a batch normalisation, move as well; whole numbers are copied.
    """
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
    for old, new in zip(average.buffers(), model.buffers(), strict=True):
        old.lerp_(new, 1 - decay) if old.is_floating_point() else old.copy_(new)


def _warm(step: int, settings: Settings) -> float:
    rise = (step + 1) / (settings.warmup + 1)
    return min(rise, 1) * (1 + math.cos(math.pi * step / settings.steps)) / 2


def _tensors(
    model: nn.Module, ema: nn.Module, optimizer: torch.optim.Optimizer, losses: list[float]
) -> dict[str, Tensor]:
    """All of the state, by name. The optimizer's tensors are numbered as the parameters are."""
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    state |= {f"ema.{name}": value for name, value in ema.state_dict().items()}
    for number, moments in optimizer.state_dict()["state"].items():
        state |= {f"optimizer.{number}.{name}": value for name, value in moments.items()}
    return state | {"losses": torch.tensor(losses, dtype=torch.float64)}


def _restore(
    path: Path,
    facts: dict[str, Any],
    model: nn.Module,
    ema: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> tuple[list[float], list[dict[str, Any]]]:
    """Put a checkpoint's state back; return the losses so far and the runs that they took."""
    tensors, stored = checkpoint.load(path)
    for name, want in facts.items():
        if stored.get(name) != want:
            raise CheckpointError(
                f"{path}: expected a checkpoint of {name} = {want}, came {stored.get(name)}. "
                "Move it away, or train without resuming"
            )
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "ema": {}, "optimizer": {}}
    losses = tensors.pop("losses")
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = value
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in parts["optimizer"].items():
        number, _, kind = name.partition(".")
        moments.setdefault(int(number), {})[kind] = value
    try:
        model.load_state_dict(parts["model"])
        ema.load_state_dict(parts["ema"])
    except RuntimeError as error:
        raise CheckpointError(f"{path}: expected a checkpoint of this model: {error}") from error
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    return losses.tolist(), stored["runs"]
