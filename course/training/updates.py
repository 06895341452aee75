"""One update of the weights: the gradient of a batch, in parts and processes, and what it does."""

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from course.training.processes import Processes
from course.training.settings import Settings, SetupError
from course.training.state import State, follow

Objective = Callable[[Callable[..., Tensor], Sequence[np.random.Generator]], Tensor]


def stream(seed: int, step: int, index: int) -> np.random.Generator:
    """Random numbers of one sample of one batch: a function of the three and of nothing else.

    Whoever resumes needs no state of a generator, and several processes that share a batch draw
    what one would. Philox is counter-based: (step, index) are the high words of its counter.
    """
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, index, step]))


class Halves:
    """An objective in two halves, so that batches can be drawn ahead by other processes.

    Args:
        draw: tensors on the CPU, from one generator of random numbers per sample.
        loss: called with the model and these tensors, which lie where the model is.
    """

    def __init__(
        self,
        draw: Callable[[Sequence[np.random.Generator]], tuple[Tensor, ...]],
        loss: Callable[..., Tensor],
    ):
        self.draw, self.loss = draw, loss

    def __call__(
        self, model: Callable[..., Tensor], streams: Sequence[np.random.Generator]
    ) -> Tensor:
        """The loss of a batch, on the CPU."""
        return self.loss(model, *self.draw(streams))


def whole_batch(objective: Objective) -> Objective:
    """Mark an objective that is no mean over samples: `fit` then refuses to cut its batch."""
    objective.whole_batch = True
    return objective


def attention_kernels(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Which attention PyTorch may compute with while in it.

    In bfloat16 on a CPU the backward of the fused one takes longer than all the rest of a small
    U-Net; there only the one written out.
    """
    if device.type == "cpu" and precision == "bfloat16":
        return sdpa_kernel(SDPBackend.MATH)
    return nullcontext()


@dataclass(frozen=True)
class Batches(torch.utils.data.Dataset):
    """What is drawn, by step and part: a function of their numbers, whoever draws it.

    Attributes:
        draw: see `Halves`.
        seed: of the training.
        processes: say which samples are in a part.
    """

    draw: Callable[[Sequence[np.random.Generator]], tuple[Tensor, ...]]
    seed: int
    processes: Processes

    def __getitem__(self, number: tuple[int, int]) -> tuple[Tensor, ...]:
        step, part = number
        return self.draw([stream(self.seed, step, i) for i in self.processes.share(part)])

    def ahead(self, first: int, steps: int, workers: int) -> Iterator[list[Tensor]]:
        """Batches from a step on, in order, drawn by so many processes before they are asked for.

        Raises:
            SetupError: this system can't fork.
        """
        if sys.platform == "win32":
            raise SetupError(f"workers: expected 0 on Windows, which can't fork, came {workers}")
        loader = torch.utils.data.DataLoader(
            self,
            batch_size=None,
            sampler=[(step, part) for step in range(first, steps) for part in self.processes.parts],
            num_workers=workers,
            prefetch_factor=4,
            pin_memory=self.processes.device.type == "cuda",
            # What draws is most often a closure, which only a fork hands on.
            multiprocessing_context="fork",
            worker_init_fn=_leave_interrupts_to_the_main_process,
        )
        return iter(loader)


def _leave_interrupts_to_the_main_process(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class Updates:
    """What `fit` does to the weights, step by step."""

    def __init__(
        self, state: State, objective: Objective, settings: Settings, processes: Processes
    ):
        self.state, self.objective = state, objective
        self.settings, self.processes = settings, processes
        self.ahead: Iterator[Sequence[Tensor]] | None = None
        if settings.workers:
            if not isinstance(objective, Halves):
                raise SetupError(
                    f"workers: expected 0, as this objective is not in halves, "
                    f"came {settings.workers}"
                )
            batches = Batches(objective.draw, settings.seed, processes)
            self.ahead = batches.ahead(len(state.losses), settings.steps, settings.workers)
        self.called = processes.prepare(state.model)
        self.optimizer = processes.accelerator.prepare_optimizer(state.optimizer)

    def gradients(self, step: int) -> float:
        """Leave the mean gradient of the batch in the weights; the mean loss of this process."""
        seed, size = self.settings.seed, self.settings.batch_size
        processes, device = self.processes, self.processes.device
        self.optimizer.zero_grad()
        total = 0.0
        for part in processes.parts:
            loss_of = self._drawn(step, part)
            with (
                processes.exchange(self.called, part),
                attention_kernels(device, self.settings.precision),
                torch.random.fork_rng([device] if device.type == "cuda" else []),
            ):
                # What a layer draws, as dropout does, is a function of step and part as well.
                layers = int(stream(seed, step, size + part).integers(2**63))
                if device.type == "cpu":
                    torch.default_generator.manual_seed(layers)
                else:  # slow where there is nothing but the CPU
                    torch.manual_seed(layers)
                with processes.accelerator.autocast():
                    loss = loss_of(self.called)
                # Accelerate divides it by the number of parts.
                processes.accelerator.backward(loss)
            total += loss.item()
        return total / len(processes.parts)

    def _drawn(self, step: int, part: int) -> Callable[[Callable[..., Tensor]], Tensor]:
        """The loss as a function of the model, for samples that are drawn."""
        if isinstance(self.objective, Halves):
            batch = self._batch(step, part)
            return lambda model: self.objective.loss(model, *batch)
        streams = self._streams(step, part)
        return lambda model: self.objective(model, streams)

    def _batch(self, step: int, part: int) -> list[Tensor]:
        if self.ahead is not None:
            batch = next(self.ahead)
        else:
            batch = self.objective.draw(self._streams(step, part))
        return [values.to(self.processes.device, non_blocking=True) for values in batch]

    def _streams(self, step: int, part: int) -> list[np.random.Generator]:
        return [stream(self.settings.seed, step, i) for i in self.processes.share(part)]

    def apply(self, step: int) -> Tensor:
        """Change weights and averages; return the norm of the gradient before it was clipped."""
        settings, state = self.settings, self.state
        state.optimizer.param_groups[0]["lr"] = settings.rate(step)
        norm = self.processes.accelerator.clip_grad_norm_(
            state.model.parameters(), settings.clip_norm
        )
        self.optimizer.step()
        follow(state.ema, state.model, min(settings.ema_decay, (1 + step) / (10 + step)))
        return norm
