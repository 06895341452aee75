"""One update of the weights: the gradient of a batch, in parts and processes, and what it does."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from course.training.processes import Processes
from course.training.settings import Settings
from course.training.state import State, follow

Objective = Callable[[Callable[..., Tensor], Sequence[np.random.Generator]], Tensor]


def stream(seed: int, step: int, index: int) -> np.random.Generator:
    """Random numbers of one sample of one batch: a function of the three and of nothing else.

    Whoever resumes needs no state of a generator, and several processes that share a batch draw
    what one would. Philox is counter-based: (step, index) are the high words of its counter.
    """
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, index, step]))


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


class Updates:
    """What `fit` does to the weights, step by step."""

    def __init__(
        self, state: State, objective: Objective, settings: Settings, processes: Processes
    ):
        self.state, self.objective = state, objective
        self.settings, self.processes = settings, processes
        self.called = processes.prepare(state.model)
        self.optimizer = processes.accelerator.prepare_optimizer(state.optimizer)

    def gradients(self, step: int) -> float:
        """Leave the mean gradient of the batch in the weights; the mean loss of this process."""
        seed, size = self.settings.seed, self.settings.batch_size
        processes, device = self.processes, self.processes.device
        self.optimizer.zero_grad()
        total = 0.0
        for part in processes.parts:
            streams = [stream(seed, step, i) for i in processes.share(part)]
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
                    loss = self.objective(self.called, streams)
                # Accelerate divides it by the number of parts.
                processes.accelerator.backward(loss)
            total += loss.item()
        return total / len(processes.parts)

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
