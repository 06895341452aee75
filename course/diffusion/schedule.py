"""How much of the picture is left at each step: tables of beta, alpha and alpha-bar in float64."""

import math
import operator
from collections.abc import Sequence
from functools import cached_property

import torch
from jaxtyping import Float, Int64
from torch import Tensor

SPACINGS = ("linspace", "leading", "trailing")


class Schedule:
    """A noise schedule of T steps, given by alpha-bar, from which everything else follows.

    Index t = 0..T-1 stands for the paper's t + 1; alpha-bar before the first step is 1. After
    `respace`, `timesteps` says which steps of the original are left: that number, not the index,
    is what a denoiser must be told.

    Args:
        alpha_bar: share of the variance of x_t that is the picture's: strictly decreasing, inside
            (0, 1), one number per step.
        final_alpha_bar: alpha-bar that the last step of a DDIM sampler arrives at: 1 is the clean
            picture; Stable Diffusion 1.5 stops at `alpha_bar[0]` of its 1000.
        timesteps: strictly increasing names of the steps, from 0 on; 0..T-1 if None.

    Raises:
        ValueError: the numbers are not as above.

    Source: Ho et al. 2020, section 2; lecture 001, section 4.1.
    """

    def __init__(
        self,
        alpha_bar: Float[Tensor, " T"],
        final_alpha_bar: float | int = 1.0,
        timesteps: Int64[Tensor, " T"] | None = None,
    ):
        if alpha_bar.ndim != 1 or not len(alpha_bar) or not alpha_bar.is_floating_point():
            raise ValueError(
                "alpha_bar: expected floating point numbers of shape (T,), came "
                f"{alpha_bar.dtype} {tuple(alpha_bar.shape)}"
            )
        table = alpha_bar.detach().to("cpu", torch.float64, copy=True)
        # NaN fails the comparison.
        if not (table > 0).all() or not (table < 1).all():
            wrong = int(torch.nonzero(~((table > 0) & (table < 1)))[0])
            raise ValueError(
                f"alpha_bar: expected numbers inside (0, 1), came {table[wrong]:g} at {wrong}"
            )
        rises = torch.nonzero(table.diff() >= 0)
        if len(rises):
            i = int(rises[0])
            raise ValueError(
                "alpha_bar: expected strictly decreasing numbers, came "
                f"{table[i].item():g}, {table[i + 1].item():g} at {i}, {i + 1}"
            )
        if not table[0] <= final_alpha_bar <= 1:
            raise ValueError(
                f"final_alpha_bar: expected from alpha_bar[0] = {table[0].item():g} to 1, "
                f"came {final_alpha_bar:g}"
            )
        steps = torch.arange(len(table)) if timesteps is None else timesteps.cpu().clone()
        if steps.dtype != torch.int64 or steps.shape != table.shape:
            raise ValueError(
                f"timesteps: expected int64 of shape {tuple(table.shape)}, came "
                f"{steps.dtype} {tuple(steps.shape)}"
            )
        if steps[0] < 0 or (steps.diff() <= 0).any():
            raise ValueError(
                f"timesteps: expected strictly increasing from 0 on, came {steps.tolist()}"
            )
        self.alpha_bar = table
        self.final_alpha_bar = float(final_alpha_bar)
        self.timesteps = steps

    def check_whole(self) -> None:
        """Raises ValueError: it is respaced, where a sampler is to respace a copy of it."""
        if not torch.equal(self.timesteps, torch.arange(len(self))):
            raise ValueError(
                f"schedule: expected all of its steps, came one respaced to {len(self)} steps"
            )

    def __len__(self) -> int:
        """T, the number of steps."""
        return len(self.alpha_bar)

    @cached_property
    def alpha_bar_prev(self) -> Float[Tensor, " T"]:
        """alpha-bar one step earlier; 1 before the first."""
        return torch.cat([torch.ones(1, dtype=torch.float64), self.alpha_bar[:-1]])

    @cached_property
    def alpha(self) -> Float[Tensor, " T"]:
        """alpha_t = 1 - beta_t: the share of variance that step t keeps."""
        return self.alpha_bar / self.alpha_bar_prev

    @cached_property
    def beta(self) -> Float[Tensor, " T"]:
        """beta_t: variance of the noise that step t adds."""
        return (self.alpha_bar_prev - self.alpha_bar) / self.alpha_bar_prev

    @cached_property
    def posterior_variance(self) -> Float[Tensor, " T"]:
        """beta-tilde_t: variance of q(x_{t-1} | x_t, x_0); 0 at the first step.

        Source: Ho et al. 2020, equation 7.
        """
        return (1 - self.alpha_bar_prev) / (1 - self.alpha_bar) * self.beta

    @cached_property
    def snr(self) -> Float[Tensor, " T"]:
        """Signal-to-noise ratio alpha-bar / (1 - alpha-bar), of powers."""
        return self.alpha_bar / (1 - self.alpha_bar)

    @property
    def terminal_snr(self) -> float:
        """SNR at the last step: what is left of the picture where sampling starts from pure noise.

        Source: Lin et al. 2023, "Common diffusion noise schedules and sample steps are flawed".
        """
        return self.snr[-1].item()

    def respace(self, steps: int | Sequence[int], spacing: str = "linspace") -> "Schedule":
        """The schedule that visits only some of the steps, with betas derived from what is kept.

        Args:
            steps: how many, 1..T, or which: strictly increasing indices 0..T-1.
            spacing: if a number is given, "linspace" (both ends included), "leading" (multiples
                of T // steps, from 0) or "trailing" (from T-1 down).

        Returns:
            a schedule with the same alpha-bar at the kept steps.

        Raises:
            ValueError: more steps than T, none, not increasing, or no such spacing.

        Source: Nichol & Dhariwal 2021, section 4, where beta = 1 - alpha-bar_{S_t} /
        alpha-bar_{S_{t-1}}; spacings: Lin et al. 2023, table 2.
        """
        kept = _evenly(len(self), steps, spacing) if _is_integer(steps) else list(steps)
        if not kept or not all(_is_integer(i) for i in kept):
            raise ValueError(
                f"steps: expected a number or indices 0..{len(self) - 1}, came {steps}"
            )
        index = torch.tensor(kept, dtype=torch.int64)
        if (index.diff() <= 0).any() or index[0] < 0 or index[-1] >= len(self):
            raise ValueError(
                f"steps: expected strictly increasing indices 0..{len(self) - 1}, came {kept}"
            )
        return Schedule(self.alpha_bar[index], self.final_alpha_bar, self.timesteps[index])


def linear(
    T: int = 1000,
    beta_start: float | int = 1e-4,
    beta_end: float | int = 0.02,
    final_alpha_bar: float | int = 1.0,
) -> Schedule:
    """Betas that rise linearly.

    Raises:
        ValueError: T below 1, or betas not 0 < beta_start <= beta_end < 1.

    Source: Ho et al. 2020, section 4.
    """
    _check_betas(T, beta_start, beta_end)
    beta = torch.linspace(beta_start, beta_end, T, dtype=torch.float64)
    return Schedule((1 - beta).cumprod(0), final_alpha_bar)


def scaled_linear(
    T: int = 1000,
    beta_start: float | int = 0.00085,
    beta_end: float | int = 0.012,
    final_alpha_bar: float | int = 1.0,
) -> Schedule:
    """Betas whose square roots rise linearly: the schedule of Stable Diffusion 1.5.

    Lecture 001 calls it quadratic, and prints its last beta ten times too large. CompVis' code
    calls it "linear".

    Raises:
        ValueError: T below 1, or betas not 0 < beta_start <= beta_end < 1.
    """
    _check_betas(T, beta_start, beta_end)
    root = torch.linspace(beta_start**0.5, beta_end**0.5, T, dtype=torch.float64)
    return Schedule((1 - root**2).cumprod(0), final_alpha_bar)


def cosine(
    T: int = 1000,
    s: float | int = 0.008,
    max_beta: float | int = 0.999,
    final_alpha_bar: float | int = 1.0,
) -> Schedule:
    """alpha-bar that falls as a squared cosine, with betas cut off at `max_beta`.

    Raises:
        ValueError: T below 1, s below 0, or max_beta outside (0, 1).

    Source: Nichol & Dhariwal 2021, equation 17.
    """
    _check_count("T", T)
    if not 0 <= s < math.inf:
        raise ValueError(f"s: expected a number from 0 on, came {s}")
    if not 0 < max_beta < 1:
        raise ValueError(f"max_beta: expected a number inside (0, 1), came {max_beta}")
    u = torch.arange(T + 1, dtype=torch.float64) / T
    f = ((u + s) / (1 + s) * math.pi / 2).cos().square()
    beta = (1 - f[1:] / f[:-1]).clamp(max=max_beta)
    return Schedule((1 - beta).cumprod(0), final_alpha_bar)


def _evenly(T: int, steps: int, spacing: str) -> list[int]:
    if spacing not in SPACINGS:
        raise ValueError(f"spacing: expected one of {SPACINGS}, came {spacing!r}")
    if not 1 <= steps <= T:
        raise ValueError(f"steps: expected 1..{T}, the length of the schedule, came {steps}")
    if spacing == "leading":
        return [i * (T // steps) for i in range(steps)]
    if spacing == "trailing" or steps == 1:
        return [round((i + 1) * T / steps) - 1 for i in range(steps)]
    return [round(i * (T - 1) / (steps - 1)) for i in range(steps)]


def _check_betas(T: int, beta_start: float, beta_end: float) -> None:
    _check_count("T", T)
    if not 0 < beta_start <= beta_end < 1:
        raise ValueError(
            "beta_start, beta_end: expected 0 < beta_start <= beta_end < 1, "
            f"came {beta_start}, {beta_end}"
        )


def _check_count(name: str, value: int) -> None:
    if not _is_integer(value) or value < 1:
        raise ValueError(f"{name}: expected a whole number from 1 on, came {value}")


def _is_integer(value: object) -> bool:
    if isinstance(value, bool):
        return False
    try:
        operator.index(value)
    except TypeError:
        return False
    return True
