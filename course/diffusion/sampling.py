"""From noise to pictures by DDPM and DDIM: the loops that take all steps of a schedule.

A sampler visits every step of the schedule that it is given: fewer steps are
`schedule.respace(50)`. A denoiser is any callable `model(xt, t, context)` that predicts the noise.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from course.diffusion.schedule import Schedule
from course.diffusion.steps import (
    Range,
    check_eta,
    check_variance,
    ddim_step,
    ddpm_step,
    implied_x0,
)

Denoiser = Callable[..., Tensor]
Gradient = Callable[[Tensor, Tensor], Tensor]
Noise = torch.Generator | Callable[[], Tensor]
Keep = Callable[[Tensor, Tensor | None], Tensor]


@dataclass(frozen=True)
class Trajectory:
    """What a sampler saw, first step first, on the way from x_T to x_0 in S steps.

    Attributes:
        t: time steps that the denoiser was told.
        xt: x before each step, and at the end the result.
        eps_pred: noise predicted at each step.
        x0_pred: x_0 that it implies, clipped if the sampler clips.
    """

    t: Int64[Tensor, " S"]
    xt: Float[Tensor, "S+1 B *shape"]
    eps_pred: Float[Tensor, "S B *shape"]
    x0_pred: Float[Tensor, "S B *shape"]


def ddpm(
    model: Denoiser,
    xT: Float[Tensor, "B *shape"],
    schedule: Schedule,
    generator: torch.Generator,
    *,
    variance: str = "beta",
    clip: Range | None = None,
    context: Tensor | None = None,
    gradient: Gradient | None = None,
    trajectory: bool = False,
    progress: bool = False,
) -> Float[Tensor, "B *shape"] | Trajectory:
    """Sample by Algorithm 2, through all steps of the schedule.

    Args:
        model: predicts the noise: model(xt, t, context), t int64 of shape (B,).
        xT: where to start: standard normal.
        schedule: its steps, or those left by `respace`.
        generator: of all noise, on the device of `xT`.
        variance: "beta" or "posterior".
        clip: range that the implied x_0 is clipped to at every step, (-1, 1) for pictures.
        context: passed on to the model.
        gradient: guides: gradient(xt, t) moves the mean of each step, see `ddpm_step`.
        trajectory: return all that happened, not only the result.
        progress: show a bar.

    Raises:
        ValueError: an argument is not as above, or the model returns another shape.

    Source: Ho et al. 2020, Algorithm 2; with a gradient Dhariwal & Nichol 2021, Algorithm 1.
    """
    check_variance(variance)
    step = partial(ddpm_step, variance=variance, clip=clip)
    return _run(
        step, model, xT, schedule, generator, clip, context, trajectory, progress, gradient=gradient
    )


def ddim(
    model: Denoiser,
    xT: Float[Tensor, "B *shape"],
    schedule: Schedule,
    generator: Noise | None = None,
    *,
    eta: float | int = 0.0,
    sigma_hat: bool = False,
    clip: Range | None = None,
    context: Tensor | None = None,
    keep: Keep | None = None,
    trajectory: bool = False,
    progress: bool = False,
) -> Float[Tensor, "B *shape"] | Trajectory:
    """Sample by DDIM, through all steps of the schedule: 50 of them are `schedule.respace(50)`.

    Args:
        model: predicts the noise: model(xt, t, context), t int64 of shape (B,).
        xT: where to start: standard normal.
        schedule: its steps, or those left by `respace`.
        generator: of all noise, on the device of `xT`, or a function that draws it for one step;
            not needed for eta = 0.
        eta: 0 is deterministic, 1 as random as DDPM.
        sigma_hat: with eta = 1, DDPM's larger variance.
        clip: range that the implied x_0 is clipped to at every step, (-1, 1) for pictures.
        context: passed on to the model.
        keep: keep(x, t) puts what is known back into x before each step, t int64 of shape (B,),
            and into the result, t None.
        trajectory: return all that happened, not only the result.
        progress: show a bar.

    Raises:
        ValueError: an argument is not as above, or the model returns another shape.

    Source: Song et al. 2021, equation 12.
    """
    check_eta(eta, sigma_hat)
    if eta > 0 and generator is None:
        raise ValueError(f"generator: expected a torch.Generator for eta = {eta:g}, came None")
    step = partial(ddim_step, eta=eta, sigma_hat=sigma_hat, clip=clip)
    generator = generator if eta > 0 else None
    return _run(
        step, model, xT, schedule, generator, clip, context, trajectory, progress, keep=keep
    )


@torch.no_grad()
def ddim_encode(
    model: Denoiser,
    x0: Float[Tensor, "B *shape"],
    schedule: Schedule,
    *,
    context: Tensor | None = None,
    progress: bool = False,
) -> Float[Tensor, "B *shape"]:
    """Run deterministic DDIM backwards, from data to the x_T that `ddim` would draw it from.

    The noise at the end of each step is taken to be that predicted at its start, so that the way
    back misses x0 by an error that shrinks with the length of the steps.

    Raises:
        ValueError: the model returns another shape.

    Source: Song et al. 2021, section 4.3 and table 2.
    """
    x, before = x0, schedule.final_alpha_bar
    t = schedule.timesteps.tolist()
    levels = schedule.alpha_bar.tolist()
    for i in _bar(range(len(schedule)), progress):
        # The prediction at x_{t-1}; the data itself counts as the first step.
        told = torch.full(x.shape[:1], t[max(i - 1, 0)], device=x.device)
        eps_pred = _predict(model, x, told, context)
        x0_pred = (x - (1 - before) ** 0.5 * eps_pred) / before**0.5
        x = levels[i] ** 0.5 * x0_pred + (1 - levels[i]) ** 0.5 * eps_pred
        before = levels[i]
    return x


@torch.no_grad()
def _run(
    step: Callable[..., Tensor],
    model: Denoiser,
    x: Tensor,
    schedule: Schedule,
    generator: Noise | None,
    clip: Range | None,
    context: Tensor | None,
    trajectory: bool,
    progress: bool,
    *,
    keep: Keep | None = None,
    gradient: Gradient | None = None,
) -> Tensor | Trajectory:
    xs, eps_preds, x0_preds = [], [], []
    order = range(len(schedule) - 1, -1, -1)
    timesteps = schedule.timesteps.tolist()
    for i in _bar(order, progress):
        t = torch.full(x.shape[:1], timesteps[i], device=x.device)
        x = x if keep is None else keep(x, t)
        eps_pred = _predict(model, x, t, context)
        if trajectory:
            xs.append(x)
            eps_preds.append(eps_pred)
            x0_preds.append(implied_x0(x, i, eps_pred, schedule, clip))
        noise = _drawn(generator, x) if i > 0 else None
        guided = {} if gradient is None else {"gradient": gradient(x, t)}
        x = step(x, i, eps_pred, schedule, noise, **guided)
    x = x if keep is None else keep(x, None)
    if not trajectory:
        return x
    stacks = [torch.stack(tensors) for tensors in ([*xs, x], eps_preds, x0_preds)]
    return Trajectory(schedule.timesteps.flip(0), *stacks)


def _drawn(generator: Noise | None, x: Tensor) -> Tensor | None:
    if not isinstance(generator, torch.Generator):
        return generator and generator()
    return torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)


def _predict(model: Denoiser, x: Tensor, t: Tensor, context: Tensor | None) -> Tensor:
    eps_pred = model(x, t, context)
    if eps_pred.shape != x.shape:
        raise ValueError(
            f"model: expected noise of the shape of x_t, {tuple(x.shape)}, "
            f"came {tuple(eps_pred.shape)}"
        )
    return eps_pred


def _bar(steps: range, progress: bool):
    if not progress:
        return steps
    import sys

    from tqdm import tqdm

    return tqdm(steps, file=sys.stdout, mininterval=1, ncols=80)
