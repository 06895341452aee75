"""The variational bound of a diffusion model, term by term, in nats; and L_simple.

-log p(x_0) <= L = L_T + sum over t = 1..T-1 of L_t + L_0, where index t counts from 0 as everywhere
here: L_t compares the posterior of step t with the model's, and is the paper's L_{t}, its
L_{(t+1)-1}. Index 0 has no KL term: its place is taken by the decoder's log-likelihood.
"""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from course.diffusion.process import posterior, predict_x0, q_sample
from course.diffusion.sampling import Denoiser
from course.diffusion.schedule import Schedule
from course.diffusion.steps import model_variance


def loss_weight(schedule: Schedule, variance: str = "beta") -> Float[Tensor, " T"]:
    """lambda_t, float64: what |noise - eps_pred|^2 is multiplied with in the bound.

    beta_t^2 / (2 sigma_t^2 alpha_t (1 - alpha_bar_t)). At t = 0 it is what the KL divergence would
    have, though L_0 is none; with variance "posterior" that is infinite.

    Raises:
        ValueError: `variance` is neither "beta" nor "posterior".

    Source: Ho et al. 2020, equation 12; lecture 004, lines 1216-1226; lecture 001, line 509.
    """
    sigma2 = model_variance(schedule, variance)
    return schedule.beta**2 / (2 * sigma2 * schedule.alpha * (1 - schedule.alpha_bar))


def min_snr_weight(schedule: Schedule, gamma: float | int = 5.0) -> Float[Tensor, " T"]:
    """What to multiply |noise - eps_pred|^2 with so that nearly clean pictures count less, float64.

    min(SNR, gamma) / SNR, divided by its mean over t: L_simple spends most of its weight where
    little noise is left and fine detail is decided; this caps it.

    Raises:
        ValueError: `gamma` is not above 0.

    Source: Hang et al. 2023, "Efficient diffusion training via min-SNR weighting strategy",
    section 3.4, where the weight of a prediction of x_0 is min(SNR, gamma).
    """
    if not gamma > 0:
        raise ValueError(f"gamma: expected a number above 0, came {gamma}")
    weight = schedule.snr.clamp(max=gamma) / schedule.snr
    return weight / weight.mean()


def simple_loss(
    model: Denoiser,
    x0: Float[Tensor, "B *shape"],
    t: Int64[Tensor, " B"],
    noise: Float[Tensor, "B *shape"],
    schedule: Schedule,
    context: Tensor | None = None,
) -> Float[Tensor, " B"]:
    """|noise - eps_pred|^2 averaged over the dimensions of each sample: L_simple, one draw.

    Raises:
        ValueError: `t` is out of range or of another dtype, or shapes differ.

    Source: Ho et al. 2020, equation 14, which sums over dimensions.
    """
    xt = q_sample(x0, t, noise, schedule)
    return (noise - model(xt, _names(schedule, t), context)).square().flatten(1).mean(1)


def prior_term(x0: Float[Tensor, "B *shape"], schedule: Schedule) -> Float[Tensor, " B"]:
    """L_T = KL(q(x_T | x_0) || N(0, I)), in nats per sample: nothing in it can be trained.

    Source: Ho et al. 2020, equation 5.
    """
    kept = schedule.alpha_bar[-1].item()
    x0 = x0.flatten(1)
    per_dimension = kept * x0.square() - kept - math.log1p(-kept)
    return 0.5 * per_dimension.sum(1)


def step_term(
    model: Denoiser,
    x0: Float[Tensor, "B *shape"],
    t: Int64[Tensor, " B"],
    noise: Float[Tensor, "B *shape"],
    schedule: Schedule,
    variance: str = "beta",
    context: Tensor | None = None,
) -> Float[Tensor, " B"]:
    """KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)) at one x_t, in nats per sample.

    Args:
        model: predicts the noise.
        x0: data.
        t: steps 1..T-1: at 0 there is no KL divergence, see `decoder_term`.
        noise: standard normal, makes x_t.
        schedule: of T steps.
        variance: sigma_t^2 of p: "beta" or "posterior".
        context: passed on to the model.

    Raises:
        ValueError: `t` is out of 1..T-1 or of another dtype, or shapes differ.

    Source: Ho et al. 2020, equations 5, 8 and 12.
    """
    xt = q_sample(x0, t, noise, schedule)
    if len(t) and t.min() < 1:
        raise ValueError(f"t: expected 1..{len(schedule) - 1}: L_0 is no KL term, came 0")
    true_mean, true_variance = posterior(x0, xt, t, schedule)
    mean, sigma2 = _model(model, xt, t, schedule, variance, context)
    ratio = true_variance / sigma2
    kl = ratio - 1 - ratio.log() + (true_mean - mean).square() / sigma2
    return 0.5 * kl.flatten(1).sum(1)


def decoder_term(
    model: Denoiser,
    x0: Float[Tensor, "B *shape"],
    noise: Float[Tensor, "B *shape"],
    schedule: Schedule,
    levels: int | None = None,
    variance: str = "beta",
    context: Tensor | None = None,
) -> Float[Tensor, " B"]:
    """L_0 = -log p(x_0 | x_1), in nats per sample, with the variance sigma^2 of the first step.

    Args:
        model: predicts the noise.
        x0: data; with `levels`, pictures whose values are among 2 i / (levels - 1) - 1.
        noise: standard normal, makes x_1.
        schedule: of T steps.
        levels: of discrete data, 256 for pictures: p is the mass of the normal distribution in the
            bin of x0, the outermost ones reaching to infinity. A density if None.
        variance: of p at the first step; "posterior" is 0 there and takes that of the next one, as
            improved DDPM does.
        context: passed on to the model.

    Raises:
        ValueError: `levels` is below 2, or x0 is not among them; shapes differ.

    Source: Ho et al. 2020, equation 13; Nichol & Dhariwal 2021, section 3.1.
    """
    t = torch.zeros(x0.shape[:1], dtype=torch.int64, device=x0.device)
    xt = q_sample(x0, t, noise, schedule)
    mean, sigma2 = _model(model, xt, t, schedule, variance, context)
    if levels is None:
        log_p = -0.5 * ((x0 - mean).square() / sigma2 + (2 * math.pi * sigma2).log())
        return -log_p.flatten(1).sum(1)
    if levels < 2:
        raise ValueError(f"levels: expected at least 2, came {levels}")
    numbers = (x0.double() + 1) * (levels - 1) / 2
    if ((numbers - numbers.round()).abs() > 1e-3).any() or (x0.abs() > 1 + 1e-3).any():
        raise ValueError(f"x0: expected values among the {levels} levels from -1 to 1")
    # The difference of two values near 1 would lose all digits: take each bin in the lower half.
    offset = (x0 - mean).double()
    sign = torch.where(offset > 0, -1.0, 1.0)
    half = 1 / (levels - 1)
    sigma = sigma2.double().sqrt()
    upper = torch.where(x0 > 1 - half, math.inf, offset + half)
    lower = torch.where(x0 < -1 + half, -math.inf, offset - half)
    ends = torch.stack([sign * lower, sign * upper]) / sigma
    low, high = ends.amin(0), ends.amax(0)
    log_high = torch.special.log_ndtr(high)
    log_mass = log_high + torch.log1p(-torch.exp(torch.special.log_ndtr(low) - log_high))
    return -log_mass.flatten(1).sum(1).to(x0.dtype)


def variational_bound(
    model: Denoiser,
    x0: Float[Tensor, "B *shape"],
    schedule: Schedule,
    generator: torch.Generator,
    *,
    levels: int | None = None,
    variance: str = "beta",
    context: Tensor | None = None,
) -> dict[str, Float[Tensor, "..."]]:
    """Estimate every term of L with one x_t each.

    Args:
        model: predicts the noise.
        x0: data.
        schedule: of T steps.
        generator: of the noise, on the device of `x0`.
        levels: of discrete data, see `decoder_term`.
        variance: sigma_t^2 of p: "beta" or "posterior".
        context: passed on to the model.

    Returns:
        in nats per sample: "prior" (B,), "steps" (B, T - 1) for t = 1..T-1, "decoder" (B,), and
        their sum "total" (B,).

    Source: Ho et al. 2020, equation 5.
    """

    def draw() -> Tensor:
        return torch.randn(x0.shape, generator=generator, dtype=x0.dtype, device=x0.device)

    with torch.no_grad():
        prior = prior_term(x0, schedule)
        decoder = decoder_term(model, x0, draw(), schedule, levels, variance, context)
        steps = [
            step_term(
                model,
                x0,
                torch.full(x0.shape[:1], t, device=x0.device),
                draw(),
                schedule,
                variance,
                context,
            )
            for t in range(1, len(schedule))
        ]
    stacked = torch.stack(steps, 1) if steps else prior.new_zeros(len(x0), 0)
    total = prior + stacked.sum(1) + decoder
    return {"prior": prior, "steps": stacked, "decoder": decoder, "total": total}


def bits_per_dimension(nats: Float[Tensor, " B"], dimensions: int) -> Float[Tensor, " B"]:
    """Turn nats per sample into bits per dimension.

    Raises:
        ValueError: `dimensions` is below 1.
    """
    if dimensions < 1:
        raise ValueError(f"dimensions: expected at least 1, came {dimensions}")
    return nats / (dimensions * math.log(2))


def _model(
    model: Denoiser,
    xt: Tensor,
    t: Tensor,
    schedule: Schedule,
    variance: str,
    context: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Mean and variance of p(x_{t-1} | x_t)."""
    eps_pred = model(xt, _names(schedule, t), context)
    mean, _ = posterior(predict_x0(xt, t, eps_pred, schedule), xt, t, schedule)
    table = model_variance(schedule, variance)
    if variance == "posterior" and len(table) > 1:
        table = torch.cat([table[1:2], table[1:]])
    sigma2 = table.to(xt.device)[t].to(xt.dtype).reshape(-1, *[1] * (xt.ndim - 1))
    return mean, sigma2


def _names(schedule: Schedule, t: Tensor) -> Tensor:
    return schedule.timesteps.to(t.device)[t]
