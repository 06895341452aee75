"""The training loop: any model, any objective, the same weights however often interrupted."""

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from course.training import checkpoint
from course.training.interrupt import Interrupt
from course.training.log import Log
from course.training.processes import Processes
from course.training.settings import Settings
from course.training.state import State, follow
from course.training.updates import Objective, Updates, stream, whole_batch

__all__ = ["Fitted", "Objective", "Settings", "fit", "follow", "stream", "whole_batch"]


@dataclass(frozen=True)
class Fitted:
    """What training left.

    Attributes:
        model: with the weights of the last step.
        ema: the same network with their moving average, in eval mode: the one to use.
        losses: of every step done.
        runs: what went into it: of each run its first step, the one after its last, seconds, CPU
            seconds of all threads of the main process together, which others hardly change, and the
            notes of its caller.
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
    log: Path | None = None,
    log_every: int = 10,
    watch: Callable[[int, nn.Module], None] | None = None,
    watch_every: int = 1000,
) -> Fitted:
    """Train `model` in place, where it is.

    Several processes, started by `accelerate launch` or `torchrun`, share each batch by the numbers
    of its samples; the main one writes. What a sample draws is a function of seed, step and its
    number; what a layer draws, as dropout does, of seed, step and the number of the part that the
    batch was cut into (see `Processes`): the same number of parts gives the same weights, up to the
    order in which gradients are added.

    Args:
        model: in any mode; it is put into train mode.
        objective: called with the model and one generator of random numbers per sample of the
            batch, in order; returns the loss, a mean over the samples. If it is none, it must be
            marked by `whole_batch`.
        settings: see there.
        path: checkpoint to write every so often, on interruption and at the end; nowhere if None.
        every: updates between checkpoints.
        resume: go on from `path` if it is there; one process on a CPU gets the same result to the
            last bit.
        max_seconds: stop, with a checkpoint, when this run has taken so long.
        facts: what the checkpoint must be of, if it is resumed from, besides `settings`.
        notes: on the circumstances of this run, as JSON holds them; kept with it.
        progress: show a bar with loss and rate.
        log: file to add a line of JSON to, with loss, rate, norm of the gradient and speed.
        log_every: updates between lines; a line has the mean of their losses.
        watch: called in the main process with the updates done and the averaged model.
        watch_every: updates between these calls; there is one at the end, too.

    Raises:
        CheckpointError: it can't be read or written, or it is of other settings or facts.
        LogError: the log can't be written, or what is there is none.
        FloatingPointError: the loss is no longer finite; the last checkpoint is from before.
        SetupError: the batch can't be cut, or the precision is none of this device.
        ValueError: there is something to resume and no path, or an interval is below 1.
    """
    from tqdm import tqdm

    if resume and path is None:
        raise ValueError("path: expected that of a checkpoint to resume from, came None")
    for name, value in {"every": every, "log_every": log_every, "watch_every": watch_every}.items():
        if value < 1:
            raise ValueError(f"{name}: expected at least 1, came {value}")
    facts = {**(facts or {}), "settings": vars(settings)}
    processes = Processes(next(model.parameters()).device, settings)
    processes.check(model, getattr(objective, "whole_batch", False))
    state = State.begin(model, settings, processes.accelerator.scaler)
    if resume:
        found = processes.from_main(lambda: checkpoint.latest(path))
        if found is not None:
            state.restore(path, facts, *found)
    updates = Updates(state, objective, settings, processes)
    losses, first = state.losses, len(state.losses)
    start, cpu_start = time.monotonic(), time.process_time()

    def runs() -> list[dict[str, Any]]:
        span = {"from": first, "to": len(losses), "seconds": time.monotonic() - start}
        span["cpu_seconds"] = time.process_time() - cpu_start
        return [*state.runs, span | (notes or {})] if len(losses) > first else state.runs

    def seconds() -> float:
        return sum(run["seconds"] for run in state.runs) + time.monotonic() - start

    def keep() -> None:
        if path is not None:
            processes.from_main(lambda: state.save(path, facts, runs()))

    lines = Log(log, settings.batch_size) if log is not None else None
    if lines is not None:
        processes.from_main(lambda: lines.open(first, seconds()))
    bar = tqdm(
        total=settings.steps,
        initial=first,
        disable=not (progress and processes.is_main),
        file=sys.stdout,
        mininterval=1,
        ncols=80,
    )
    interrupt, asked = Interrupt(), False
    try:
        with interrupt:
            for step in range(first, settings.steps):
                loss = updates.gradients(step)
                late = max_seconds is not None and time.monotonic() - start >= max_seconds
                loss, late, asked = processes.agree(loss, late, interrupt.asked)
                if not math.isfinite(loss):
                    raise FloatingPointError(f"the loss is {loss} at step {step}: lower the rate?")
                norm = updates.apply(step)
                losses.append(loss)
                bar.set_postfix_str(f"loss {np.mean(losses[-100:]):.4f}", refresh=False)
                bar.update()
                done, last = step + 1, step + 1 == settings.steps
                if lines is not None and (done % log_every == 0 or last):
                    mean = float(np.mean(losses[step // log_every * log_every :]))
                    line = (step, mean, settings.rate(step), norm, seconds())
                    processes.from_main(lambda line=line: lines.write(*line))
                if done % every == 0 or last or late or asked:
                    keep()
                if watch is not None and (done % watch_every == 0 or last):
                    processes.from_main(lambda done=done: watch(done, state.ema))
                if late or asked:
                    break
    except KeyboardInterrupt:
        # The objective itself was interrupted; a second Ctrl-C may have hit an update.
        if not interrupt.asked:
            keep()
        raise
    finally:
        bar.close()
        if lines is not None:
            lines.close()
    if asked:
        raise KeyboardInterrupt
    return Fitted(model, state.ema, np.array(losses), runs())
