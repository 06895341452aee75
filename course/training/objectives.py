"""What the networks for digits learn: the noise in them, or their classes."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from course.diffusion.process import q_sample
from course.diffusion.schedule import Schedule
from course.training.updates import Halves, Objective


def noise_objective(
    x0: Tensor,
    noise_schedule: Schedule,
    weight: Tensor | None = None,
    labels: Tensor | None = None,
    null: int | None = None,
    drop: float = 0.1,
    time: Callable[[np.random.Generator], float] | None = None,
) -> Halves:
    """L_simple of Ho et al. 2020, equation 14: each sample draws its picture, its t and its noise.

    Args:
        x0: data `(N, ...)`, on the CPU.
        noise_schedule: of T steps.
        weight: of the squared error at each of them, `(T,)`; 1 if None.
        labels: classes `(N,)` that the model is told; it is told nothing if None.
        null: what it is told instead in a share `drop` of the samples, so that classifier-free
            guidance has a prediction without class (Ho & Salimans 2022, algorithm 1).
        drop: that share.
        time: draws t / T, from 0 to below 1; every t is as likely if None.

    Raises:
        ValueError: there are labels, and `null` is missing or one of them.
    """
    if labels is not None and (null is None or (labels == null).any()):
        raise ValueError(f"null: expected a number that is no class, came {null}")

    steps = len(noise_schedule)

    def draw(streams: Sequence[np.random.Generator]) -> tuple[Tensor, ...]:
        rows = torch.tensor([s.integers(len(x0)) for s in streams])
        t = torch.tensor([int(steps * time(s)) if time else s.integers(steps) for s in streams])
        noise = np.stack([s.standard_normal(x0.shape[1:], np.float32) for s in streams])
        noise = torch.from_numpy(noise).to(x0.dtype)
        told = []
        if labels is not None:
            kept = torch.tensor([s.random() >= drop for s in streams])
            told = [labels[rows].where(kept, null)]
        each = torch.ones(len(t)) if weight is None else weight[t].float()
        xt = q_sample(x0[rows], t, noise, noise_schedule)
        return xt, t, noise, each.view(-1, *[1] * (x0.ndim - 1)), *told

    def loss(
        model: Callable[..., Tensor],
        xt: Tensor,
        t: Tensor,
        noise: Tensor,
        each: Tensor,
        *told: Tensor,
    ) -> Tensor:
        return (each * (model(xt, t, *told) - noise).square()).mean()

    return Halves(draw, loss)


def logit_normal(mean: float = 0.0, std: float = 1.0) -> Callable[[np.random.Generator], float]:
    """Draws a time from 0 to below 1, whose logit is normal: most are near the sigmoid of `mean`.

    Raises:
        ValueError: `std` is not above 0.

    Source: Esser et al. 2024 (Stable Diffusion 3), equation 19.
    """
    if not 0 < std < math.inf:
        raise ValueError(f"std: expected a number above 0, came {std}")

    def draw(stream: np.random.Generator) -> float:
        u = 1 / (1 + math.exp(-stream.normal(mean, std)))
        return min(u, math.nextafter(1, 0))

    return draw


def label_objective(
    images: Tensor, labels: Tensor, shift: int = 2, noise_schedule: Schedule | None = None
) -> Objective:
    """Cross-entropy on pictures moved by up to `shift` pixels each way.

    With a schedule on x_t of them, the model being told t: each sample draws its t and its noise,
    too.
    """

    def objective(model: Callable[..., Tensor], streams: Sequence[np.random.Generator]) -> Tensor:
        rows = torch.tensor([s.integers(len(images)) for s in streams])
        moves = [s.integers(-shift, shift + 1, 2).tolist() for s in streams]
        # The border of a digit is paper, so that what is rolled over it is paper, too.
        batch = [
            images[row].roll(move, (1, 2)) for row, move in zip(rows.tolist(), moves, strict=True)
        ]
        x, told = torch.stack(batch), []
        if noise_schedule is not None:
            t = torch.tensor([s.integers(len(noise_schedule)) for s in streams])
            noise = np.stack([s.standard_normal(x.shape[1:], np.float32) for s in streams])
            told = [t.to(x.device)]
            x = q_sample(x, *told, torch.from_numpy(noise).to(x), noise_schedule)
        return F.cross_entropy(model(x, *told), labels[rows])

    return objective
