"""Checks of notebook 24."""

from functools import partial

import torch

from course.teach.checks.forward_diffusion import one_earlier
from course.teach.exercise import agrees, exercise, judges


def _table(draw):
    """alpha_bar of a few steps, uneven, far from any schedule that has a name."""
    return draw.uniform(0.8, 0.97, draw.integer(12, 15)).cumprod(0)


def _respaced_betas(alpha_bar, kept):
    """Nichol & Dhariwal 2021, section 4: 1 - alpha_bar[S_t] / alpha_bar[S_{t-1}]."""
    bar = alpha_bar[kept]
    return 1 - bar / one_earlier(bar)


def _betas(alpha_bar):
    return 1 - alpha_bar / one_earlier(alpha_bar)


def _next_kept(alpha_bar, kept):
    """S_{t+1} below, as printed; the last kept step, which has no next, is divided by 1."""
    bar = alpha_bar[kept]
    return 1 - bar / torch.cat([bar[1:], torch.ones(1)])


def _over_the_gap(combine):
    """One number out of the betas of all the steps from one kept step to the next."""

    def betas(alpha_bar, kept):
        starts = [0, *(int(k) + 1 for k in kept[:-1])]
        table = _betas(alpha_bar)
        pairs = zip(starts, kept.tolist(), strict=True)
        return torch.stack([combine(table[a : b + 1]) for a, b in pairs])

    return betas


def _first_is(value):
    """Right but for the first entry."""
    return lambda bar, kept: torch.cat(
        [value(bar, kept).reshape(1), _respaced_betas(bar, kept)[1:]]
    )


def _kept(draw, T):
    """Five to seven of the steps 2..T-2, with gaps: not the first, not the last, not a run."""
    while True:
        chosen = torch.randperm(T - 3, generator=draw.generator)[: draw.integer(5, 7)]
        kept = chosen.sort().values + 2
        if (kept.diff() > 1).any():
            return kept


@exercise(reference=_respaced_betas)
def respaced_betas(candidate, draw):
    alpha_bar = _table(draw)
    printed = "this divides by the alpha_bar of S_{t+1}, as printed in 001, line 829: it is S_{t-1}"
    first = "the first beta is wrong: before the first kept step alpha_bar is 1, so it is 1 - "
    first += "alpha_bar[kept[0]]"
    wrong = {
        "these are the betas of the kept steps: a long step adds the noise of all it skips": (
            lambda bar, kept: _betas(bar)[kept]
        ),
        "this multiplies the betas: what multiplies is alpha = 1 - beta": (
            _over_the_gap(lambda betas: betas.prod())
        ),
        "this adds up the betas that are skipped: what multiplies is alpha = 1 - beta": (
            _over_the_gap(lambda betas: betas.sum())
        ),
        "this is 1 - alpha_bar: divide by the alpha_bar of the kept step before": (
            lambda bar, kept: 1 - bar[kept]
        ),
        "this is a difference of alpha_bars: divide it by the one before": (
            lambda bar, kept: one_earlier(bar[kept]) - bar[kept]
        ),
        "this is -log(1 - beta): nearly beta for short steps only": (
            lambda bar, kept: -(bar[kept] / one_earlier(bar[kept])).log()
        ),
        "this is alpha: beta is 1 - alpha": lambda bar, kept: 1 - _respaced_betas(bar, kept),
        f"{first}; this divides by the last one": _first_is(
            lambda bar, kept: 1 - bar[kept[0]] / bar[kept[-1]]
        ),
        f"{first}, not beta[kept[0]]": _first_is(lambda bar, kept: _betas(bar)[kept[0]]),
        f"{first}, and there are as many betas as kept steps": (
            lambda bar, kept: _respaced_betas(bar, kept)[1:]
        ),
    }
    wrong |= {
        printed: _next_kept,
        f"{printed}, and the first follows the last": lambda bar, kept: (
            1 - bar[kept] / bar[kept].roll(-1)
        ),
        f"{printed}, and the last is left out": lambda bar, kept: _next_kept(bar, kept)[:-1],
        f"{printed}, and the negative ones are clamped to 0": lambda bar, kept: _next_kept(
            bar, kept
        ).clamp(min=0),
    }
    inputs = (alpha_bar, _kept(draw, len(alpha_bar)))
    want = _respaced_betas(*inputs)
    yield agrees("some of the steps", candidate, inputs, want, "S", wrong)
    every = torch.arange(len(alpha_bar))
    name = "all of the steps: the betas of the schedule itself"
    yield agrees(name, candidate, (alpha_bar, every), _betas(alpha_bar), "S", wrong)
    extremes = torch.tensor([0.9999, 0.9997, 0.5, 1e-4], dtype=torch.float64)
    inputs = (extremes, torch.arange(4))
    name = "very small and very large steps, in double precision"
    yield agrees(name, candidate, inputs, _betas(extremes), "S", wrong)
    only = torch.tensor([draw.integer(3, len(alpha_bar) - 2)])
    name = "one step only: beta is 1 - alpha_bar"
    yield agrees(name, candidate, (alpha_bar, only), 1 - alpha_bar[only], "S", wrong)


def _x0(xt, eps, bar):
    return (xt - (1 - bar).sqrt() * eps) / bar.sqrt()


def _variance(bar, before):
    """The posterior's, which is eta = 1."""
    return (1 - before) / (1 - bar) * (1 - bar / before)


def _before(t_prev, alpha_bar):
    return alpha_bar[t_prev] if t_prev >= 0 else torch.ones_like(alpha_bar[0])


def _assemble(
    x0=_x0,
    start=lambda bar, before: before.sqrt(),
    direction=lambda bar, before, variance: (1 - before - variance).sqrt(),
    variance=lambda eta, bar, before, beta_t: eta**2 * _variance(bar, before),
    scale=lambda variance, hat: variance.sqrt(),
):
    """A DDIM step with any of its parts replaced."""

    def step(xt, t, t_prev, eps_pred, noise, alpha_bar, eta):
        bar, before = alpha_bar[t], _before(t_prev, alpha_bar)
        v = variance(eta, bar, before, _betas(alpha_bar)[t])
        x = start(bar, before) * x0(xt, eps_pred, bar)
        x = x + direction(bar, before, v) * eps_pred
        return x + scale(v, _hat(eta, bar, before)) * noise

    return step


_ddim_step = _assemble()
_ddim_step.__doc__ = "Song et al. 2021, equations 12 and 16, where alpha is our alpha_bar."


def _as_printed(xt, t, t_prev, eps_pred, noise, alpha_bar, eta):
    """001, line 676, with the predicted x_0 put in."""
    bar, before = alpha_bar[t], _before(t_prev, alpha_bar)
    v = eta**2 * _variance(bar, before)
    x0 = _x0(xt, eps_pred, bar)
    mean = before.sqrt() * x0 + (xt - bar.sqrt() * x0) / (1 - before - v).sqrt()
    return mean + (v / (1 - before)).sqrt() * noise


def _told(change):
    """A right step, of other arguments."""

    def step(xt, t, t_prev, eps_pred, noise, alpha_bar, eta):
        return _ddim_step(*change(xt, t, t_prev, eps_pred, noise, alpha_bar, eta))

    return step


def _hat(eta, bar, before, beta_t=None):
    return eta**2 * (1 - bar / before)


_MISTAKES = {
    "variance": {
        "sigma is made of the beta of the original step t: the step from t to t_prev is longer": (
            lambda eta, bar, before, beta_t: eta**2 * (1 - before) / (1 - bar) * beta_t
        ),
        "sigma has the second root of 001, line 702, as printed: it is 1 - alpha_bar_t / "
        "alpha_bar_prev": lambda eta, bar, before, beta_t: eta**2 * (1 - before) / before,
        "the variance is 1 - alpha_bar_t / alpha_bar_prev alone: this is the row sigma-hat": _hat,
        "eta multiplies sigma: in the variance it is squared": (
            lambda eta, bar, before, beta_t: eta * _variance(bar, before)
        ),
    },
    "direction": {
        "the direction is sqrt(1 - alpha_bar_prev): sigma^2, which the noise takes, is missing": (
            lambda bar, before, v: (1 - before).sqrt()
        ),
        "the direction has lost its square root": lambda bar, before, v: 1 - before - v,
        "the direction takes alpha_bar_t: it points to where the step ends, alpha_bar_prev": (
            lambda bar, before, v: (1 - bar - v).sqrt()
        ),
    },
    "scale": {
        "the noise is that of sigma-hat: more than the direction made room for": (
            lambda v, hat: hat.sqrt()
        ),
        "the noise is multiplied by sigma^2: sigma is its square root": lambda v, hat: v,
        "the noise is not scaled": lambda v, hat: 1,
        "the noise is missing: the direction made room for it": lambda v, hat: 0,
    },
    "x0": {
        "the square root of 1 - alpha_bar is missing in the predicted x_0": (
            lambda xt, eps, bar: (xt - (1 - bar) * eps) / bar.sqrt()
        ),
        "the predicted x_0 is divided by alpha_bar: its square root is missing": (
            lambda xt, eps, bar: (xt - (1 - bar).sqrt() * eps) / bar
        ),
        "the predicted noise is added in x_0: subtract it": lambda xt, e, bar: _x0(xt, -e, bar),
    },
    "start": {
        "the predicted x_0 is multiplied by alpha_bar_prev: its square root is missing": (
            lambda bar, before: before
        ),
        "the predicted x_0 is multiplied by sqrt(alpha_bar_t): the step ends at alpha_bar_prev": (
            lambda bar, before: bar.sqrt()
        ),
    },
}


@exercise(reference=_ddim_step)
def ddim_step(candidate, draw):
    shape = (draw.integer(2, 3), draw.integer(4, 5), draw.integer(6, 7))
    alpha_bar = _table(draw)
    T = len(alpha_bar)
    t, t_prev = draw.integer(5, T - 2), draw.integer(1, 2)
    # Not 1, where eta and its square are the same, nor so large that a wrong sigma gives nan.
    room = (1 - alpha_bar[t_prev]) / (1 - alpha_bar[t] / alpha_bar[t_prev])
    eta = min(draw.integer(3, 6), int(9 * room.sqrt())) / 10
    xt, eps_pred, noise = (draw.normal(*shape) for _ in range(3))
    deterministic = _told(lambda *a: (*a[:6], 0.0))
    wrong = {
        "this is 001, line 676, as printed: the root stands above, not below": _as_printed,
        "this is the step without randomness whatever eta is: is the variance 0, or negative and "
        "clamped? It holds 1 - alpha_bar_t / alpha_bar_prev": deterministic,
        "eta is not used: this is eta = 1": _told(lambda *a: (*a[:6], 1.0)),
        "this goes one original step, to t - 1: it ends at t_prev": _told(
            lambda xt, t, t_prev, *rest: (xt, t, t - 1, *rest)
        ),
        "predicted and new noise are swapped": _told(
            lambda xt, t, t_prev, eps, noise, *rest: (xt, t, t_prev, noise, eps, *rest)
        ),
        "this is the predicted x_0: go on from there": (
            lambda xt, t, t_prev, eps, noise, bar, eta: _x0(xt, eps, bar[t])
        ),
    }
    for part, mistakes in _MISTAKES.items():
        wrong |= {cause: _assemble(**{part: mistake}) for cause, mistake in mistakes.items()}

    def looks(name, t, t_prev, eta, wrong, want=_ddim_step):
        inputs = (xt, t, t_prev, eps_pred, noise, alpha_bar, eta)
        return agrees(name, candidate, inputs, want(*inputs), "B C D", wrong)

    yield looks("a long step, with noise", t, t_prev, eta, wrong)
    yield looks("eta = 0: no noise", t, t_prev, 0.0, wrong)
    name = "eta = 1, from t to t - 1: Algorithm 2 with beta-tilde"
    yield looks(name, t, t - 1, 1.0, wrong, want=_algorithm_2)
    end, table = draw.integer(1, 3), "at t_prev = -1 it reads"
    last = {
        f"{table} alpha_bar[-1], the end of the table: alpha_bar there is 1": _told(
            lambda xt, t, t_prev, *rest: (xt, t, T - 1, *rest)
        ),
        f"{table} alpha_bar[0]: alpha_bar there is 1": _told(
            lambda xt, t, t_prev, *rest: (xt, t, 0, *rest)
        ),
    }
    name = "the last step, t_prev = -1: it ends at the predicted x_0"
    yield looks(name, end, -1, 0.0, last | wrong)
    yield looks("the last step adds no noise, whatever eta is", end, -1, eta, {})
    zero = "t_prev = 0 counts as the end: that is -1, step 0 is a step"
    as_end = _told(lambda xt, t, t_prev, *rest: (xt, t, -1, *rest))
    yield looks("t_prev = 0", t, 0, eta, {zero: as_end})
    single = (xt.float(), t, t_prev, eps_pred.float(), noise.float(), alpha_bar, eta)
    want = _ddim_step(*single)
    yield agrees("float32 data, a float64 table", candidate, single, want, "B C D", {})


def _algorithm_2(xt, t, t_prev, eps_pred, noise, alpha_bar, eta):
    """Ho et al. 2020, Algorithm 2, with beta-tilde."""
    bar, before = alpha_bar[t], alpha_bar[t_prev]
    alpha = bar / before
    mean = (xt - (1 - alpha) / (1 - bar).sqrt() * eps_pred) / alpha.sqrt()
    return mean + _variance(bar, before).sqrt() * noise


def _member(
    of_x0=lambda bar, before: before.sqrt(),
    of_noise=lambda bar, before, sigma: (1 - before - sigma**2).sqrt(),
    bend=lambda noise: noise,
):
    """Mean and variance of x_{t-1} with any of the parts replaced."""

    def formula(x0, xt, bar, before, sigma):
        noise = bend((xt - bar.sqrt() * x0) / (1 - bar).sqrt())
        return of_x0(bar, before) * x0 + of_noise(bar, before, sigma) * noise, sigma**2

    return formula


_family = _member()  # Song et al. 2021, equation 7, in our letters


def _family_by_xt(x0, xt, bar, before, sigma):
    """The same, as factors of x_0 and x_t."""
    of_xt = ((1 - before - sigma**2) / (1 - bar)) ** 0.5
    return (before**0.5 - of_xt * bar**0.5) * x0 + of_xt * xt, sigma * sigma


def _printed(x0, xt, bar, before, sigma):
    """001, line 676, as printed."""
    mean = before.sqrt() * x0 + (xt - bar.sqrt() * x0) / (1 - before - sigma**2).sqrt()
    return mean, sigma**2 / (1 - before)


def _printed_unless(where):
    """Right where the condition on before and sigma holds, else as printed."""
    return lambda x0, xt, bar, before, sigma: (_family if where(before, sigma) else _printed)(
        x0, xt, bar, before, sigma
    )


def _referee_ddim(formula):
    """Accept a formula if it is that of the paper, for three pairs of alpha_bar and any sigma."""
    generator = torch.Generator().manual_seed(0)
    x0, xt = torch.randn(2, 8, 3, generator=generator, dtype=torch.float64)
    for pair in ((0.3, 0.5), (0.6, 0.9), (0.05, 0.2)):
        bar, before = torch.tensor(pair, dtype=torch.float64)
        for share in (0.0, 0.3, 0.9):
            inputs = (x0, xt, bar, before, share * (1 - before).sqrt())
            pairs = zip(formula(*inputs), _family(*inputs), strict=True)
            if not all(torch.allclose(got, right) for got, right in pairs):
                return False
    return True


@exercise(reference=_referee_ddim, kind="referee")
def referee_ddim(candidate, draw):
    right = {
        "the right formula": _family,
        "the same, written with x_t": _family_by_xt,
        "the same, rounded differently": lambda *inputs: tuple(
            value * (1 + 1e-12) for value in _family(*inputs)
        ),
    }
    why = (
        "is x_t in your test what q(x_t | x_0) draws, is "
        "sigma^2 + (the factor of the noise)^2 compared with 1 - alpha_bar_prev, "
        "sigma^2 at most 1 - alpha_bar_prev, or is the test too strict?"
    )

    def half(*inputs, mean=_family, variance=_family):
        return mean(*inputs)[0], variance(*inputs)[1]

    several = "try more than one pair of alpha_bar_t and alpha_bar_prev, on both sides of 1/2"
    by_hint = {
        "compare the variance that comes out with 1 - alpha_bar_prev": {
            "the mean and variance of line 676 of 001 as printed": _printed,
            "the mean of line 676 as printed": partial(half, mean=_printed),
            "no root": _member(of_noise=lambda bar, before, s: 1 - before - s**2),
        },
        "try a sigma above 0": {
            "the variance of line 676 as printed": partial(half, variance=_printed),
            "sigma for its square": partial(half, variance=lambda *inputs: inputs[-1:] * 2),
            "no -sigma^2 below the root": _member(
                of_noise=lambda bar, before, s: (1 - before).sqrt()
            ),
        },
        "try x_0 that is not zero": {
            "alpha_bar_prev at x_0, without its root": _member(of_x0=lambda bar, before: before),
        },
        "try other sigmas than DDPM's, 0 included": {
            "DDPM's mean whatever sigma is": _member(
                of_noise=lambda bar, before, s: (1 - before - _variance(bar, before)).sqrt()
            ),
        },
        "try sigma = 0 as well": {
            "line 676 as printed at sigma = 0 only": _printed_unless(lambda before, s: s > 0),
        },
        "try sigmas of several sizes, small ones and nearly sqrt(1 - alpha_bar_prev)": {
            "line 676 as printed at small sigma only": _printed_unless(
                lambda before, s: s == 0 or s**2 > 0.25 * (1 - before)
            ),
            "line 676 as printed at large sigma only": _printed_unless(
                lambda before, s: s**2 < 0.25 * (1 - before)
            ),
        },
        several: {
            "line 676 as printed where alpha_bar_prev is below 1/2": _printed_unless(
                lambda before, s: before >= 0.5
            ),
            "line 676 as printed where alpha_bar_prev is above 1/2": _printed_unless(
                lambda before, s: before <= 0.5
            ),
        },
        "try x_t on both sides of sqrt(alpha_bar_t) x_0": {
            "|noise| for noise": _member(bend=torch.abs),
        },
        "that is too coarse a tolerance": {
            "0.5 % too much noise": _member(bend=lambda noise: 1.005 * noise),
            "0.5 % too large a variance": lambda *inputs: (
                _family(*inputs)[0],
                1.005 * inputs[-1] ** 2,
            ),
        },
        "try more than one dimension": {
            "one number for all dimensions": _member(
                bend=lambda noise: noise.mean(-1, keepdim=True).expand(noise.shape)
            ),
        },
        "compare the variance that is returned with sigma^2, too": {
            "the step without noise, whatever sigma is": lambda x0, xt, bar, before, s: _family(
                x0, xt, bar, before, 0 * s
            ),
            "mean and variance of DDPM, whatever sigma is": lambda x0, xt, bar, before, s: _family(
                x0, xt, bar, before, _variance(bar, before).sqrt()
            ),
            "half the sigma asked for": lambda x0, xt, bar, before, s: _family(
                x0, xt, bar, before, s / 2
            ),
        },
        "try x_t that is not zero": {
            "twice the factor of x_t": lambda x0, xt, bar, before, s: (
                _family(x0, xt, bar, before, s)[0] + _family(0 * x0, xt, bar, before, s)[0],
                s**2,
            ),
        },
    }
    wrong = {
        cause: (formula, hint)
        for hint, formulas in by_hint.items()
        for cause, formula in formulas.items()
    }
    yield from judges(candidate, right, why, wrong)
