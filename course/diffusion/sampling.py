"""From noise to pictures: the steps of DDPM and DDIM, and the loops that take them.

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

Denoiser = Callable[..., Tensor]
Gradient = Callable[[Tensor, Tensor], Tensor]
Range = tuple[float | int, float | int]
VARIANCES = ("beta", "posterior")


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


def ddpm_step(
    xt: Float[Tensor, "B *shape"],
    i: int,
    eps_pred: Float[Tensor, "B *shape"],
    schedule: Schedule,
    noise: Float[Tensor, "B *shape"] | None = None,
    *,
    variance: str = "beta",
    clip: Range | None = None,
    gradient: Float[Tensor, "B *shape"] | None = None,
) -> Float[Tensor, "B *shape"]:
    """One step of Algorithm 2, x_t to x_{t-1}; at i = 0 the mean, without noise.

    Args:
        xt: noisy data.
        i: index of the step in `schedule`, 0..T-1, the same for all.
        eps_pred: predicted noise.
        schedule: of T steps.
        noise: standard normal; not needed at i = 0.
        variance: "beta" or "posterior", the upper and lower end of what is right: the first for
            data that is standard normal, the second for data that is one point.
        clip: range that the implied x_0 is clipped to.
        gradient: of a log density at x_t, by which the mean is moved, times the variance.

    Raises:
        ValueError: an argument is not as above.

    Source: Ho et al. 2020, Algorithm 2, equations 7, 11 and 15; with a gradient Dhariwal & Nichol
    2021, Algorithm 1.
    """
    _check_step(xt, i, schedule, eps_pred=eps_pred, noise=noise, gradient=gradient)
    if variance not in VARIANCES:
        raise ValueError(f"variance: expected one of {VARIANCES}, came {variance!r}")
    alpha_bar, before = schedule.alpha_bar[i].item(), schedule.alpha_bar_prev[i].item()
    alpha, beta = schedule.alpha[i].item(), schedule.beta[i].item()
    x0_pred = _implied_x0(xt, i, eps_pred, schedule, clip)
    mean = before**0.5 * beta / (1 - alpha_bar) * x0_pred
    mean = mean + alpha**0.5 * (1 - before) / (1 - alpha_bar) * xt
    table = schedule.beta if variance == "beta" else schedule.posterior_variance
    sigma2 = table[i].item()
    if gradient is not None:
        mean = mean + sigma2 * gradient
    return mean if i == 0 else mean + sigma2**0.5 * _needed(noise)


def ddim_step(
    xt: Float[Tensor, "B *shape"],
    i: int,
    eps_pred: Float[Tensor, "B *shape"],
    schedule: Schedule,
    noise: Float[Tensor, "B *shape"] | None = None,
    *,
    eta: float | int = 0.0,
    sigma_hat: bool = False,
    clip: Range | None = None,
) -> Float[Tensor, "B *shape"]:
    """One step of DDIM, x_t to x_{t-1}; at i = 0 it goes to `schedule.final_alpha_bar`, no noise.

    Args:
        xt: noisy data.
        i: index of the step in `schedule`, 0..T-1, the same for all.
        eps_pred: predicted noise; computed again from x_0 where that was clipped.
        schedule: of T steps.
        noise: standard normal; not needed at i = 0 nor without randomness.
        eta: 0 is deterministic, 1 has the posterior's variance, as DDPM.
        sigma_hat: with eta = 1, add noise of variance beta instead, more than was made room for:
            DDPM's larger choice on any sub-sequence, the row "sigma-hat" of the paper's table.
        clip: range that the implied x_0 is clipped to.

    Raises:
        ValueError: an argument is not as above, or eta is so large that no variance is left.

    Source: Song et al. 2021, "Denoising diffusion implicit models", equations 12 and 16 and
    section 5, where alpha is our alpha-bar.
    """
    _check_step(xt, i, schedule, eps_pred=eps_pred, noise=noise)
    _check_eta(eta, sigma_hat)
    before = schedule.alpha_bar_prev[i].item() if i else schedule.final_alpha_bar
    alpha_bar = schedule.alpha_bar[i].item()
    x0_pred = _implied_x0(xt, i, eps_pred, schedule, clip)
    if clip is not None:
        eps_pred = (xt - alpha_bar**0.5 * x0_pred) / (1 - alpha_bar) ** 0.5
    beta = (before - alpha_bar) / before
    variance = eta**2 * (1 - before) / (1 - alpha_bar) * beta if i else 0.0
    if variance > 1 - before:
        raise ValueError(
            f"eta: expected at most {((1 - alpha_bar) / beta) ** 0.5:.4g} for step {i} of this "
            f"schedule, came {eta:g}"
        )
    x = before**0.5 * x0_pred + (1 - before - variance) ** 0.5 * eps_pred
    if variance == 0:
        return x
    return x + (beta if sigma_hat else variance) ** 0.5 * _needed(noise)


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
    if variance not in VARIANCES:
        raise ValueError(f"variance: expected one of {VARIANCES}, came {variance!r}")
    step = partial(ddpm_step, variance=variance, clip=clip)
    if gradient is not None:
        step = _guided(step, gradient)
    return _run(step, model, xT, schedule, generator, clip, context, trajectory, progress)


def ddim(
    model: Denoiser,
    xT: Float[Tensor, "B *shape"],
    schedule: Schedule,
    generator: torch.Generator | None = None,
    *,
    eta: float | int = 0.0,
    sigma_hat: bool = False,
    clip: Range | None = None,
    context: Tensor | None = None,
    trajectory: bool = False,
    progress: bool = False,
) -> Float[Tensor, "B *shape"] | Trajectory:
    """Sample by DDIM, through all steps of the schedule: 50 of them are `schedule.respace(50)`.

    Args:
        model: predicts the noise: model(xt, t, context), t int64 of shape (B,).
        xT: where to start: standard normal.
        schedule: its steps, or those left by `respace`.
        generator: of all noise, on the device of `xT`; not needed for eta = 0.
        eta: 0 is deterministic, 1 as random as DDPM.
        sigma_hat: with eta = 1, DDPM's larger variance.
        clip: range that the implied x_0 is clipped to at every step, (-1, 1) for pictures.
        context: passed on to the model.
        trajectory: return all that happened, not only the result.
        progress: show a bar.

    Raises:
        ValueError: an argument is not as above, or the model returns another shape.

    Source: Song et al. 2021, equation 12.
    """
    _check_eta(eta, sigma_hat)
    if eta > 0 and generator is None:
        raise ValueError(f"generator: expected a torch.Generator for eta = {eta:g}, came None")
    step = partial(ddim_step, eta=eta, sigma_hat=sigma_hat, clip=clip)
    generator = generator if eta > 0 else None
    return _run(step, model, xT, schedule, generator, clip, context, trajectory, progress)


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
        eps_pred = _predict(model, x, t[max(i - 1, 0)], context)
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
    generator: torch.Generator | None,
    clip: Range | None,
    context: Tensor | None,
    trajectory: bool,
    progress: bool,
) -> Tensor | Trajectory:
    xs, eps_preds, x0_preds = [x], [], []
    order = range(len(schedule) - 1, -1, -1)
    t = schedule.timesteps.tolist()
    for i in _bar(order, progress):
        eps_pred = _predict(model, x, t[i], context)
        noise = None
        if generator is not None and i > 0:
            noise = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
        if trajectory:
            eps_preds.append(eps_pred)
            x0_preds.append(_implied_x0(x, i, eps_pred, schedule, clip))
        x = step(x, i, eps_pred, schedule, noise)
        if trajectory:
            xs.append(x)
    if not trajectory:
        return x
    stacks = [torch.stack(tensors) for tensors in (xs, eps_preds, x0_preds)]
    return Trajectory(schedule.timesteps.flip(0), *stacks)


def _guided(step: Callable[..., Tensor], gradient: Gradient) -> Callable[..., Tensor]:
    def guided(
        x: Tensor, i: int, eps_pred: Tensor, schedule: Schedule, noise: Tensor | None
    ) -> Tensor:
        t = torch.full(x.shape[:1], schedule.timesteps[i].item(), device=x.device)
        return step(x, i, eps_pred, schedule, noise, gradient=gradient(x, t))

    return guided


def _predict(model: Denoiser, x: Tensor, t: int, context: Tensor | None) -> Tensor:
    eps_pred = model(x, torch.full(x.shape[:1], t, device=x.device), context)
    if eps_pred.shape != x.shape:
        raise ValueError(
            f"model: expected noise of the shape of x_t, {tuple(x.shape)}, "
            f"came {tuple(eps_pred.shape)}"
        )
    return eps_pred


def _implied_x0(
    xt: Tensor, i: int, eps_pred: Tensor, schedule: Schedule, clip: Range | None
) -> Tensor:
    alpha_bar = schedule.alpha_bar[i].item()
    x0_pred = (xt - (1 - alpha_bar) ** 0.5 * eps_pred) / alpha_bar**0.5
    return x0_pred if clip is None else x0_pred.clamp(*clip)


def _needed(noise: Tensor | None) -> Tensor:
    if noise is None:
        raise ValueError("noise: expected standard normal numbers for this step, came None")
    return noise


def _check_step(xt: Tensor, i: int, schedule: Schedule, **tensors: Tensor | None) -> None:
    if not 0 <= i < len(schedule):
        raise ValueError(f"i: expected 0..{len(schedule) - 1}, came {i}")
    for name, value in tensors.items():
        if value is not None and value.shape != xt.shape:
            raise ValueError(
                f"{name}: expected the shape of xt, {tuple(xt.shape)}, came {tuple(value.shape)}"
            )


def _check_eta(eta: float, sigma_hat: bool) -> None:
    if not 0 <= eta < float("inf"):
        raise ValueError(f"eta: expected 0 or more, came {eta}")
    if sigma_hat and eta != 1:
        raise ValueError(f"eta: expected 1 to go with sigma_hat, came {eta:g}")


def _bar(steps: range, progress: bool):
    if not progress:
        return steps
    import sys

    from tqdm import tqdm

    return tqdm(steps, file=sys.stdout, mininterval=1, ncols=80)
