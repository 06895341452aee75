"""Denoisers that are exactly right, because the data's distribution is known: no training.

Each predicts E[noise | x_t], which no network can beat at the loss. They are the oracles of the
samplers, of the bound and of trained networks.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from course.data.toy import GaussianMixture
from course.diffusion.schedule import Schedule


class MixtureDenoiser:
    """The best noise prediction for data from a mixture of Gaussians, one of them if K = 1.

    The noisy data is such a mixture again: means shrink by sqrt(alpha_bar), covariances become
    alpha_bar S + (1 - alpha_bar) I.

    Args:
        mixture: distribution of the data, in D dimensions.
        schedule: with the steps that it will be asked about; not a respaced one.

    Raises:
        ValueError: the schedule is respaced.
    """

    def __init__(self, mixture: GaussianMixture, schedule: Schedule):
        _check_whole(schedule)
        self.mixture, self.schedule = mixture, schedule

    def __call__(
        self, xt: Float[Tensor, "B D"], t: Int64[Tensor, " B"], context: None = None
    ) -> Float[Tensor, "B D"]:
        """E[noise | x_t] = -sqrt(1 - alpha_bar_t) score.

        Raises:
            ValueError: `t` is not int64 of shape (B,) inside 0..T-1, or x_t has other dimensions.
        """
        alpha_bar = _level(self.schedule, xt, t)
        return -((1 - alpha_bar).sqrt()[:, None] * self._score(xt, alpha_bar)).to(xt.dtype)

    def score(self, xt: Float[Tensor, "B D"], t: Int64[Tensor, " B"]) -> Float[Tensor, "B D"]:
        """grad log q(x_t).

        Raises:
            ValueError: `t` is not int64 of shape (B,) inside 0..T-1, or x_t has other dimensions.
        """
        return self._score(xt, _level(self.schedule, xt, t)).to(xt.dtype)

    def marginal(self, t: int) -> GaussianMixture:
        """The distribution of x_t.

        Raises:
            ValueError: t outside 0..T-1.
        """
        _check_index(self.schedule, t)
        kept = self.schedule.alpha_bar[t]
        mixture = self.mixture
        eye = torch.eye(mixture.means.shape[1], dtype=torch.float64)
        return GaussianMixture(
            mixture.weights,
            kept.sqrt() * mixture.means,
            kept * mixture.covariances + (1 - kept) * eye,
        )

    def _score(self, xt: Tensor, alpha_bar: Tensor) -> Tensor:
        """In float64, with another level for each row."""
        mixture = self.mixture
        d = mixture.means.shape[1]
        if xt.ndim != 2 or xt.shape[1] != d:
            raise ValueError(f"xt: expected shape (B, {d}), came {tuple(xt.shape)}")
        offsets = xt.double()[:, None] - alpha_bar.sqrt()[:, None, None] * mixture.means
        # In the axes of each component its noisy covariance is diagonal at every level.
        variances, axes = torch.linalg.eigh(mixture.covariances)
        spread = alpha_bar[:, None, None] * variances + (1 - alpha_bar)[:, None, None]  # (B, K, D)
        turned = torch.einsum("bki,kij->bkj", offsets, axes)
        log_density = -0.5 * (turned.square() / spread + spread.log()).sum(-1)
        share = torch.softmax(mixture.weights.log() + log_density, dim=1)
        return -torch.einsum("bk,bkj,kij->bi", share, turned / spread, axes)


class EmpiricalDenoiser:
    """The best noise prediction for a finite data set: what the loss asks of a network.

    Given x_t, the posterior over the N pictures is a softmax of squared distances; the predicted
    x_0 is their weighted mean. Sampled with it, every picture is a copy of one of them.

    Args:
        x0: the data, N pictures of any shape.
        schedule: with the steps that it will be asked about; not a respaced one.

    Raises:
        ValueError: there is no picture, or the schedule is respaced.

    Source: Karras et al. 2022, appendix B.3; Kamb & Ganguli 2024. The same formula is attention,
    with the query x_t and the data as keys and values.
    """

    def __init__(self, x0: Float[Tensor, "N *shape"], schedule: Schedule):
        _check_whole(schedule)
        if not x0.ndim or not len(x0):
            raise ValueError(f"x0: expected at least one picture, came shape {tuple(x0.shape)}")
        self.x0, self.schedule = x0, schedule
        self._flat = x0.flatten(1)
        self._squares = self._flat.square().sum(1)

    def weights(
        self, xt: Float[Tensor, "B *shape"], t: Int64[Tensor, " B"]
    ) -> Float[Tensor, "B N"]:
        """Posterior probability of each picture, given x_t.

        Raises:
            ValueError: `t` is not int64 of shape (B,) inside 0..T-1, or x_t has another shape.
        """
        if xt.shape[1:] != self.x0.shape[1:]:
            raise ValueError(
                f"xt: expected shape (B, {', '.join(map(str, self.x0.shape[1:]))}), "
                f"came {tuple(xt.shape)}"
            )
        alpha_bar = _level(self.schedule, xt, t)[:, None]
        # -|xt - sqrt(a) x0|^2 / (2 (1 - a)) without what is the same for all pictures. The division
        # comes first: the product with the data is most of the work, and stays in its dtype.
        query = xt.flatten(1) * (alpha_bar.sqrt() / (1 - alpha_bar)).to(xt.dtype)
        penalty = (alpha_bar / (2 * (1 - alpha_bar))).to(xt.dtype)
        return torch.softmax(query @ self._flat.T - penalty * self._squares, dim=1)

    def __call__(
        self, xt: Float[Tensor, "B *shape"], t: Int64[Tensor, " B"], context: None = None
    ) -> Float[Tensor, "B *shape"]:
        """E[noise | x_t].

        Raises:
            ValueError: `t` is not int64 of shape (B,) inside 0..T-1, or x_t has another shape.
        """
        x0 = (self.weights(xt, t) @ self._flat).reshape(xt.shape)
        shape = (-1, *[1] * (xt.ndim - 1))
        alpha_bar = _level(self.schedule, xt, t).reshape(shape)
        signal, sigma = alpha_bar.sqrt().to(xt.dtype), (1 - alpha_bar).sqrt().to(xt.dtype)
        return (xt - signal * x0) / sigma


def sampled_gaussian(
    mean: float | int,
    variance: float | int,
    schedule: Schedule,
    *,
    method: str = "ddim",
    eta: float | int = 0.0,
) -> tuple[float, float]:
    """Mean and variance of what a sampler with the exact denoiser draws; data N(mean, variance).

    Every step is affine in x_t and noise, so that both propagate in closed form. What they miss the
    data's by is the discretisation error alone.

    Args:
        mean: of the data, in one dimension.
        variance: of the data, above 0.
        schedule: its steps, or those left by `respace`.
        method: "ddim", or Algorithm 2 with sigma_t^2 "beta" or "posterior".
        eta: of DDIM.

    Raises:
        ValueError: variance not above 0, no such method, or eta below 0.
    """
    if not variance > 0:
        raise ValueError(f"variance: expected a number above 0, came {variance}")
    if method not in ("ddim", "beta", "posterior"):
        raise ValueError(f'method: expected "ddim", "beta" or "posterior", came {method!r}')
    if eta < 0:
        raise ValueError(f"eta: expected 0 or more, came {eta}")
    m, v = 0.0, 1.0  # of x_T
    for i in range(len(schedule) - 1, -1, -1):
        kept = schedule.alpha_bar[i].item()
        before = schedule.alpha_bar_prev[i].item()
        if method == "ddim" and i == 0:
            before = schedule.final_alpha_bar
        beta = 1 - kept / before
        # E[noise | x_t] = gain (x_t - sqrt(kept) mean).
        gain = (1 - kept) ** 0.5 / (kept * variance + 1 - kept)
        tilde = (1 - before) / (1 - kept) * beta
        if method == "ddim":
            added = eta**2 * tilde if i else 0.0
            of_eps = (1 - before - added) ** 0.5 - before**0.5 * ((1 - kept) / kept) ** 0.5
        else:
            added = {"beta": beta, "posterior": tilde}[method] if i else 0.0
            of_eps = -beta / ((1 - beta) * (1 - kept)) ** 0.5
        of_x = (before / kept) ** 0.5
        slope = of_x + of_eps * gain
        m = slope * m - of_eps * gain * kept**0.5 * mean
        v = slope**2 * v + added
    return m, v


def _level(schedule: Schedule, xt: Tensor, t: Tensor) -> Float[Tensor, " B"]:
    if t.dtype != torch.int64 or t.shape != xt.shape[:1]:
        raise ValueError(
            f"t: expected int64 of shape {tuple(xt.shape[:1])}, came {t.dtype} {tuple(t.shape)}"
        )
    if len(t) and not (t.min() >= 0 and t.max() < len(schedule)):
        raise ValueError(
            f"t: expected 0..{len(schedule) - 1}, came {t.min().item()}..{t.max().item()}"
        )
    return schedule.alpha_bar.to(t.device)[t]


def _check_index(schedule: Schedule, t: int) -> None:
    if not 0 <= t < len(schedule):
        raise ValueError(f"t: expected 0..{len(schedule) - 1}, came {t}")


def _check_whole(schedule: Schedule) -> None:
    if not torch.equal(schedule.timesteps, torch.arange(len(schedule))):
        raise ValueError(
            "schedule: expected all of its steps, for a sampler names them by their original "
            f"index; came one respaced to {len(schedule)} steps"
        )
