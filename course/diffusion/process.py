"""The forward process q: one step, many steps at once, its posterior, and what a prediction means.

Index t = 0..T-1 is the paper's t + 1. Coefficients come from float64 tables and are cast to the
dtype of the pictures.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from course.diffusion.schedule import Schedule


def q_step(
    x: Float[Tensor, "B *shape"],
    t: Int64[Tensor, " B"],
    noise: Float[Tensor, "B *shape"],
    schedule: Schedule,
) -> Float[Tensor, "B *shape"]:
    """One step of noise, q(x_t | x_{t-1}): sqrt(1 - beta_t) x + sqrt(beta_t) noise.

    Args:
        x: x_{t-1}; for t = 0 the data.
        t: step 0..T-1 that each takes.
        noise: standard normal.
        schedule: of T steps.

    Raises:
        ValueError: `t` is not int64 of shape (B,) inside 0..T-1, or shapes differ.

    Source: Ho et al. 2020, equation 2.
    """
    _check(schedule, t, x=x, noise=noise)
    return _at(schedule.alpha.sqrt(), t, x) * x + _at(schedule.beta.sqrt(), t, x) * noise


def q_sample(
    x0: Float[Tensor, "B *shape"],
    t: Int64[Tensor, " B"],
    noise: Float[Tensor, "B *shape"],
    schedule: Schedule,
) -> Float[Tensor, "B *shape"]:
    """All steps up to t at once, q(x_t | x_0): sqrt(alpha_bar_t) x0 + sqrt(1 - alpha_bar_t) noise.

    Args:
        x0: data, pictures in [-1, 1].
        t: step 0..T-1 of each; 0 has one step of noise.
        noise: standard normal.
        schedule: of T steps.

    Raises:
        ValueError: `t` is not int64 of shape (B,) inside 0..T-1, or shapes differ.

    Source: Ho et al. 2020, equation 4; lecture 001, line 359, where x_0 is lost.
    """
    _check(schedule, t, x0=x0, noise=noise)
    return signal(schedule, t, x0) * x0 + sigma(schedule, t, x0) * noise


def posterior(
    x0: Float[Tensor, "B *shape"],
    xt: Float[Tensor, "B *shape"],
    t: Int64[Tensor, " B"],
    schedule: Schedule,
) -> tuple[Float[Tensor, "B *shape"], Float[Tensor, "B *ones"]]:
    """Mean and variance of q(x_{t-1} | x_t, x_0), which is normal; at t = 0 it is x0 itself.

    Returns:
        posterior_mean like `xt`, and posterior_variance, one number each, of shape (B, 1, ...).

    Raises:
        ValueError: `t` is not int64 of shape (B,) inside 0..T-1, or shapes differ.

    Source: Ho et al. 2020, equations 6 and 7; lecture 001, lines 396-403, whose denominators lost
    their bars.
    """
    _check(schedule, t, x0=x0, xt=xt)
    rest = 1 - schedule.alpha_bar
    of_x0 = schedule.alpha_bar_prev.sqrt() * schedule.beta / rest
    of_xt = schedule.alpha.sqrt() * (1 - schedule.alpha_bar_prev) / rest
    mean = _at(of_x0, t, xt) * x0 + _at(of_xt, t, xt) * xt
    return mean, _at(schedule.posterior_variance, t, xt)


def predict_x0(
    xt: Float[Tensor, "B *shape"],
    t: Int64[Tensor, " B"],
    noise: Float[Tensor, "B *shape"],
    schedule: Schedule,
) -> Float[Tensor, "B *shape"]:
    """The x_0 that noise in x_t implies: (xt - sqrt(1 - alpha_bar_t) noise) / sqrt(alpha_bar_t).

    Raises:
        ValueError: `t` is not int64 of shape (B,) inside 0..T-1, or shapes differ.

    Source: Ho et al. 2020, equation 15.
    """
    _check(schedule, t, xt=xt, noise=noise)
    return (xt - sigma(schedule, t, xt) * noise) / signal(schedule, t, xt)


def predict_noise(
    xt: Float[Tensor, "B *shape"],
    t: Int64[Tensor, " B"],
    x0: Float[Tensor, "B *shape"],
    schedule: Schedule,
) -> Float[Tensor, "B *shape"]:
    """The noise in x_t that this x_0 implies; `predict_x0` undone.

    Raises:
        ValueError: `t` is not int64 of shape (B,) inside 0..T-1, or shapes differ.
    """
    _check(schedule, t, xt=xt, x0=x0)
    return (xt - signal(schedule, t, xt) * x0) / sigma(schedule, t, xt)


def velocity(
    x0: Float[Tensor, "B *shape"],
    t: Int64[Tensor, " B"],
    noise: Float[Tensor, "B *shape"],
    schedule: Schedule,
) -> Float[Tensor, "B *shape"]:
    """What v-prediction predicts: v = sqrt(alpha_bar_t) noise - sqrt(1 - alpha_bar_t) x0.

    With sqrt(alpha_bar_t) the cosine of an angle, x_t goes round from x0 to the noise, and this is
    how x_t changes with the angle. Where x_t is all noise, it still says what x0 is.

    Raises:
        ValueError: `t` is not int64 of shape (B,) inside 0..T-1, or shapes differ.

    Source: Salimans & Ho 2022, section 4 and appendix D.
    """
    _check(schedule, t, x0=x0, noise=noise)
    return signal(schedule, t, x0) * noise - sigma(schedule, t, x0) * x0


def velocity_to_noise(
    xt: Float[Tensor, "B *shape"],
    t: Int64[Tensor, " B"],
    v: Float[Tensor, "B *shape"],
    schedule: Schedule,
) -> Float[Tensor, "B *shape"]:
    """The noise in x_t that this v implies: sqrt(alpha_bar_t) v + sqrt(1 - alpha_bar_t) xt.

    Raises:
        ValueError: `t` is not int64 of shape (B,) inside 0..T-1, or shapes differ.

    Source: Salimans & Ho 2022, appendix D.
    """
    _check(schedule, t, xt=xt, v=v)
    return signal(schedule, t, xt) * v + sigma(schedule, t, xt) * xt


def velocity_to_x0(
    xt: Float[Tensor, "B *shape"],
    t: Int64[Tensor, " B"],
    v: Float[Tensor, "B *shape"],
    schedule: Schedule,
) -> Float[Tensor, "B *shape"]:
    """The x_0 that this v in x_t implies: sqrt(alpha_bar_t) xt - sqrt(1 - alpha_bar_t) v.

    Raises:
        ValueError: `t` is not int64 of shape (B,) inside 0..T-1, or shapes differ.

    Source: Salimans & Ho 2022, appendix D.
    """
    _check(schedule, t, xt=xt, v=v)
    return signal(schedule, t, xt) * xt - sigma(schedule, t, xt) * v


def noise_predictor(model: Callable[..., Tensor], schedule: Schedule) -> Callable[..., Tensor]:
    """A denoiser, which predicts the noise, of a network that predicts v.

    Args:
        model: predicts v: model(xt, t, context).
        schedule: with the steps that it will be asked about; not a respaced one, as a sampler names
            steps by their original index.

    Raises:
        ValueError: the schedule is respaced.
    """
    schedule.check_whole()

    def denoise(xt: Tensor, t: Tensor, context: object = None) -> Tensor:
        return velocity_to_noise(xt, t, model(xt, t, context), schedule)

    return denoise


def noise_to_score(
    noise: Float[Tensor, "B *shape"], t: Int64[Tensor, " B"], schedule: Schedule
) -> Float[Tensor, "B *shape"]:
    """The score grad log q(x_t) that a noise prediction stands for: -noise / sqrt(1 - alpha_bar_t).

    Raises:
        ValueError: `t` is not int64 of shape (B,) inside 0..T-1.

    Source: Song et al. 2021, "Score-based generative modeling"; lecture 002, lines 187-195, where
    the sign differs between the lines.
    """
    _check(schedule, t, noise=noise)
    return -noise / sigma(schedule, t, noise)


def score_to_noise(
    score: Float[Tensor, "B *shape"], t: Int64[Tensor, " B"], schedule: Schedule
) -> Float[Tensor, "B *shape"]:
    """The noise prediction that a score stands for; `noise_to_score` undone.

    Raises:
        ValueError: `t` is not int64 of shape (B,) inside 0..T-1.
    """
    _check(schedule, t, score=score)
    return -sigma(schedule, t, score) * score


def signal(
    schedule: Schedule, t: Int64[Tensor, " B"], like: Float[Tensor, "B *shape"]
) -> Float[Tensor, "B *ones"]:
    """sqrt(alpha_bar_t), shaped (B, 1, ...) and of the dtype and device of `like`."""
    return _at(schedule.alpha_bar.sqrt(), t, like)


def sigma(
    schedule: Schedule, t: Int64[Tensor, " B"], like: Float[Tensor, "B *shape"]
) -> Float[Tensor, "B *ones"]:
    """sqrt(1 - alpha_bar_t), shaped (B, 1, ...) and of the dtype and device of `like`."""
    return _at((1 - schedule.alpha_bar).sqrt(), t, like)


def _at(table: Float[Tensor, " T"], t: Int64[Tensor, " B"], like: Tensor) -> Tensor:
    values = table.to(like.device)[t].to(like.dtype)
    return values.reshape(-1, *[1] * (like.ndim - 1))


def _check(schedule: Schedule, t: Tensor, **tensors: Tensor) -> None:
    (name, first), *others = tensors.items()
    for other, value in others:
        if value.shape != first.shape:
            raise ValueError(
                f"{other}: expected the shape of {name}, {tuple(first.shape)}, "
                f"came {tuple(value.shape)}"
            )
    if t.dtype != torch.int64 or first.ndim == 0 or t.shape != first.shape[:1]:
        raise ValueError(
            f"t: expected int64 of shape {tuple(first.shape[:1])}, one for each of {name}, "
            f"came {t.dtype} {tuple(t.shape)}"
        )
    if len(t) and not (t.min() >= 0 and t.max() < len(schedule)):
        raise ValueError(
            f"t: expected 0..{len(schedule) - 1}, came {t.min().item()}..{t.max().item()}"
        )
