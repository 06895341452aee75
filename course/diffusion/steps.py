"""One step of DDPM or DDIM, from x_t to x_{t-1}."""

from jaxtyping import Float
from torch import Tensor

from course.diffusion.schedule import Schedule

Range = tuple[float | int, float | int]
VARIANCES = ("beta", "posterior")


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
    sigma2 = model_variance(schedule, variance)[i].item()
    alpha_bar, before = schedule.alpha_bar[i].item(), schedule.alpha_bar_prev[i].item()
    alpha, beta = schedule.alpha[i].item(), schedule.beta[i].item()
    x0_pred = implied_x0(xt, i, eps_pred, schedule, clip)
    mean = before**0.5 * beta / (1 - alpha_bar) * x0_pred
    mean = mean + alpha**0.5 * (1 - before) / (1 - alpha_bar) * xt
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
    check_eta(eta, sigma_hat)
    before = schedule.alpha_bar_prev[i].item() if i else schedule.final_alpha_bar
    alpha_bar = schedule.alpha_bar[i].item()
    x0_pred = implied_x0(xt, i, eps_pred, schedule, clip)
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


def implied_x0(
    xt: Float[Tensor, "B *shape"],
    i: int,
    eps_pred: Float[Tensor, "B *shape"],
    schedule: Schedule,
    clip: Range | None = None,
) -> Float[Tensor, "B *shape"]:
    """The x_0 that a predicted noise stands for at step i of the schedule, clipped to a range.

    Source: Ho et al. 2020, equation 15.
    """
    alpha_bar = schedule.alpha_bar[i].item()
    x0_pred = (xt - (1 - alpha_bar) ** 0.5 * eps_pred) / alpha_bar**0.5
    return x0_pred if clip is None else x0_pred.clamp(*clip)


def model_variance(schedule: Schedule, variance: str = "beta") -> Float[Tensor, " T"]:
    """sigma_t^2 of p(x_{t-1} | x_t), float64: beta_t or beta-tilde_t.

    Raises:
        ValueError: `variance` is neither "beta" nor "posterior".
    """
    check_variance(variance)
    return schedule.beta if variance == "beta" else schedule.posterior_variance


def check_variance(variance: str) -> None:
    """Raise a ValueError if there is no such variance of DDPM."""
    if variance not in VARIANCES:
        raise ValueError(f"variance: expected one of {VARIANCES}, came {variance!r}")


def check_eta(eta: float, sigma_hat: bool) -> None:
    """Raise a ValueError if DDIM has no such eta, or none to go with sigma-hat."""
    if not 0 <= eta < float("inf"):
        raise ValueError(f"eta: expected 0 or more, came {eta}")
    if sigma_hat and eta != 1:
        raise ValueError(f"eta: expected 1 to go with sigma_hat, came {eta:g}")


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
