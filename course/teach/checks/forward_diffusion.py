"""Checks of notebook 21."""

import torch

from course.teach.exercise import agrees, exercise, judges


def small_table(draw):
    """A schedule of a few steps, uneven, far from any that has a name."""
    return draw.uniform(0.6, 0.97, draw.integer(7, 9)).cumprod(0)


def _rows(values, like):
    """One number for each row of `like`, shaped to multiply it and of its dtype."""
    return values.to(like.dtype).reshape(-1, *[1] * (like.ndim - 1))


def one_earlier(alpha_bar):
    """alpha-bar one step earlier; 1 before the first."""
    return torch.cat([torch.ones_like(alpha_bar[:1]), alpha_bar[:-1]])


def _alpha(alpha_bar):
    return alpha_bar / one_earlier(alpha_bar)


def noised(factors):
    """A q_sample with other factors of x_0 and of the noise, made of alpha_bar and alpha."""

    def sample(x0, t, noise, alpha_bar):
        signal, sigma = factors(alpha_bar[t], _alpha(alpha_bar)[t])
        return _rows(signal, x0) * x0 + _rows(sigma, x0) * noise

    return sample


def _roots(bar, alpha):
    return bar.sqrt(), (1 - bar).sqrt()


def reference_q_sample(x0, t, noise, alpha_bar):
    """Ho et al. 2020, equation 4, for any shape (B, ...)."""
    return noised(_roots)(x0, t, noise, alpha_bar)


# Cause -> factors of x_0 and of the noise, made of alpha_bar and alpha, as `noised` takes them.
FACTOR_MISTAKES = {
    "the noise is multiplied by 1 - alpha_bar: its square root is missing": (
        lambda bar, alpha: (bar.sqrt(), 1 - bar)
    ),
    "x_0 is multiplied by alpha_bar: its square root is missing": (
        lambda bar, alpha: (bar, (1 - bar).sqrt())
    ),
    "both square roots are missing": lambda bar, alpha: (bar, 1 - bar),
    "this has alpha where alpha_bar belongs: one step of noise, not t + 1 of them": (
        lambda bar, alpha: _roots(alpha, None)
    ),
    "the noise is multiplied by sqrt(1 - alpha): the bar is lost": (
        lambda bar, alpha: (bar.sqrt(), (1 - alpha).sqrt())
    ),
    "x_0 is multiplied by sqrt(alpha): the bar is lost, as in 001, line 385": (
        lambda bar, alpha: (alpha.sqrt(), (1 - bar).sqrt())
    ),
    "the two factors are swapped": lambda bar, alpha: _roots(1 - bar, None),
    "the noise is multiplied by 1 - sqrt(alpha_bar): the squares of the factors add to 1": (
        lambda bar, alpha: (bar.sqrt(), 1 - bar.sqrt())
    ),
    "x_0 is not scaled: the picture must shrink as the noise grows": (
        lambda bar, alpha: (torch.ones_like(bar), (1 - bar).sqrt())
    ),
    "the noise is not scaled": lambda bar, alpha: (bar.sqrt(), torch.ones_like(bar)),
    "the noise is missing": lambda bar, alpha: (bar.sqrt(), 0 * bar),
    "the noise is subtracted: as likely a draw, but not the one asked for": (
        lambda bar, alpha: (bar.sqrt(), -((1 - bar).sqrt()))
    ),
}


@exercise(reference=reference_q_sample)
def q_sample(candidate, draw):
    alpha_bar = small_table(draw)
    batch = draw.integer(4, 5)
    shape = (batch, draw.integer(2, 3), draw.integer(6, 7), draw.integer(8, 9))
    x0, noise = 2 * draw.normal(*shape), draw.normal(*shape)
    t = torch.randperm(len(alpha_bar) - 2, generator=draw.generator)[:batch] + 1
    wrong = {cause: noised(f) for cause, f in FACTOR_MISTAKES.items()} | {
        "x_0 is missing: sqrt(alpha_bar) stands alone, as in 001, line 359": (
            lambda x0, t, noise, bar: reference_q_sample(torch.ones_like(x0), t, noise, bar)
        ),
        "alpha_bar is read one step too early: index t is the paper's t + 1": (
            lambda x0, t, noise, bar: reference_q_sample(x0, t - 1, noise, bar)
        ),
        "alpha_bar is read one step too late: index t is the paper's t + 1 already": (
            lambda x0, t, noise, bar: reference_q_sample(x0, t + 1, noise, bar)
        ),
        "one level of noise for the whole batch: each row has its own t": (
            lambda x0, t, noise, bar: reference_q_sample(x0, t[:1].expand(len(t)), noise, bar)
        ),
    }
    inputs = (x0, t, noise, alpha_bar)
    want = reference_q_sample(*inputs)
    yield agrees("pictures, each with its own t", candidate, inputs, want, "B C H W", wrong)
    ends = torch.tensor([0, len(alpha_bar) - 1] * batch)[:batch]
    inputs = (x0, ends, noise, alpha_bar)
    wraps = {
        "at t = 0 it reads alpha_bar[-1], the end of the table": (
            lambda x0, t, noise, bar: reference_q_sample(
                x0, torch.where(t == 0, t - 1, t), noise, bar
            )
        ),
        "at t = 0 it returns x_0: index 0 has one step of noise": (
            lambda x0, t, noise, bar: torch.where(
                _rows(t, x0) == 0, x0, reference_q_sample(x0, t, noise, bar)
            )
        ),
    }
    name = "the first step, t = 0, and the last, t = T - 1"
    yield agrees(name, candidate, inputs, reference_q_sample(*inputs), "B C H W", wraps)
    points = (x0[:, :, 0, 0], t, noise[:, :, 0, 0], alpha_bar)
    yield agrees(
        "points, of shape (B, D)", candidate, points, reference_q_sample(*points), "B D", wrong
    )
    for axes, pick in {"B": (0, 0, 0), "B C H": (slice(None), slice(None), 0)}.items():
        part = (x0[:, *pick], t, noise[:, *pick], alpha_bar)
        name = f"another shape, ({', '.join(axes.split())},)"
        yield agrees(name, candidate, part, reference_q_sample(*part), axes, {})
    single = (x0.float(), ends, noise.float(), alpha_bar)
    want = reference_q_sample(x0, ends, noise, alpha_bar).float()
    name = "float32 pictures, a float64 table: float32"
    yield agrees(name, candidate, single, want, "B C H W", {})


def _weights(of_x0, of_xt):
    """A posterior mean with other weights, each made of alpha_bar, the one before, and alpha."""

    def mean(x0, xt, t, alpha_bar):
        tables = alpha_bar[t], one_earlier(alpha_bar)[t], _alpha(alpha_bar)[t]
        return _rows(of_x0(*tables), xt) * x0 + _rows(of_xt(*tables), xt) * xt

    return mean


def _of_x0(bar, before, alpha):
    return before.sqrt() * (1 - alpha) / (1 - bar)


def _of_xt(bar, before, alpha):
    return alpha.sqrt() * (1 - before) / (1 - bar)


_mean = _weights(_of_x0, _of_xt)


def _variance_of(table):
    def variance(x0, xt, t, alpha_bar):
        return _rows(table(alpha_bar[t], one_earlier(alpha_bar)[t], _alpha(alpha_bar)[t]), xt)

    return variance


def _tilde(bar, before, alpha):
    return (1 - before) / (1 - bar) * (1 - alpha)


_variance = _variance_of(_tilde)


def _posterior(x0, xt, t, alpha_bar):
    """Ho et al. 2020, equations 6 and 7, for any shape (B, ...)."""
    return _mean(x0, xt, t, alpha_bar), _variance(x0, xt, t, alpha_bar)


def _part(candidate, index):
    """One of the two results of a candidate for the posterior."""

    def part(*inputs):
        answer = candidate(*inputs)
        several = isinstance(answer, tuple | list)
        if not several or len(answer) != 2:
            came = f"{len(answer)} values" if several else type(answer).__name__
            raise ValueError(f"expected two results, mean and variance, came {came}")
        return answer[index]

    return part


def _wrapped(weights):
    """A posterior that reads alpha_bar[t - 1] as it stands: at t = 0 the end of the table."""

    def answer(x0, xt, t, alpha_bar):
        before = alpha_bar[t - 1]
        return weights(alpha_bar[t], before, alpha_bar[t] / before, x0, xt)

    return answer


@exercise(reference=_posterior)
def posterior(candidate, draw):
    alpha_bar = small_table(draw)
    batch = draw.integer(4, 5)
    shape = (batch, draw.integer(2, 3), draw.integer(6, 7), draw.integer(8, 9))
    x0, xt = 2 * draw.normal(*shape), 2 * draw.normal(*shape)
    t = torch.randperm(len(alpha_bar) - 2, generator=draw.generator)[:batch] + 1
    weights = {
        "1 - alpha below, as in 001, line 401: it is 1 - alpha_bar": (
            lambda bar, before, alpha: before.sqrt(),
            lambda bar, before, alpha: alpha.sqrt() * (1 - before) / (1 - alpha),
        ),
        "the root covers beta too, as in 004, line 1198": (
            lambda bar, before, alpha: (before * (1 - alpha)).sqrt() / (1 - bar),
            _of_xt,
        ),
        "the weight of x_0 has alpha_bar where the one of the step before belongs": (
            lambda bar, before, alpha: bar.sqrt() * (1 - alpha) / (1 - bar),
            _of_xt,
        ),
        "the weight of x_t has alpha_bar where the one of the step before belongs": (
            _of_x0,
            lambda bar, before, alpha: alpha.sqrt(),
        ),
        "the weight of x_t has alpha_bar where alpha belongs: below the root it is one step": (
            _of_x0,
            lambda bar, before, alpha: bar.sqrt() * (1 - before) / (1 - bar),
        ),
        "the root of alpha_bar of the step before is missing, in the weight of x_0": (
            lambda bar, before, alpha: before * (1 - alpha) / (1 - bar),
            _of_xt,
        ),
        "the root of alpha is missing, in the weight of x_t": (
            _of_x0,
            lambda bar, before, alpha: alpha * (1 - before) / (1 - bar),
        ),
        "the two weights are swapped": (_of_xt, _of_x0),
        "this is not divided by 1 - alpha_bar": (
            lambda bar, before, alpha: before.sqrt() * (1 - alpha),
            lambda bar, before, alpha: alpha.sqrt() * (1 - before),
        ),
        "this is the mean of q(x_{t-1} | x_0) alone: x_t is not used": (
            lambda bar, before, alpha: before.sqrt(),
            lambda bar, before, alpha: 0 * bar,
        ),
    }
    means = {f"the mean: {cause}": _weights(*pair) for cause, pair in weights.items()}
    means["the mean: sqrt(1 - beta_bar) in place of sqrt(alpha), as in 004, line 1198"] = (
        lambda x0, xt, t, bar: (
            _rows(_of_x0(bar, one_earlier(bar), _alpha(bar))[t], xt) * x0
            + _rows(((1 - (1 - _alpha(bar)).cumprod(0)).sqrt() * (1 - one_earlier(bar)))[t], xt)
            / _rows((1 - bar)[t], xt)
            * xt
        )
    )
    tables = {
        "1 - alpha below, as in 001, line 396 (or x_t is not used): it is 1 - alpha_bar": (
            lambda bar, before, alpha: 1 - before
        ),
        "this is beta, the variance of the step forward": lambda bar, before, alpha: 1 - alpha,
        "this is the standard deviation: no root here": lambda *tables: _tilde(*tables).sqrt(),
        "this is 1 / variance, as in 001, line 389": lambda *tables: 1 / _tilde(*tables),
        "the fraction is upside down": lambda bar, before, alpha: (
            (1 - bar) / (1 - before) * (1 - alpha)
        ),
        "alpha where beta belongs": lambda bar, before, alpha: (1 - before) / (1 - bar) * alpha,
        "the two precisions are multiplied: they add": lambda bar, before, alpha: (
            (1 - alpha) / alpha * (1 - before)
        ),
    }
    variances = {f"the variance: {cause}": _variance_of(table) for cause, table in tables.items()}
    early = "alpha_bar of the step before is read two steps before"
    means[f"the mean: {early}"] = lambda x0, xt, t, bar: _mean(x0, xt, t - 1, bar)
    variances[f"the variance: {early}"] = lambda x0, xt, t, bar: _variance(x0, xt, t - 1, bar)
    flat = "one number per row has the shape (B, 1, ..., 1), to multiply x_t"
    variances[f"the variance: {flat}"] = lambda *inputs: _variance(*inputs).flatten()
    variances["the variance: one for each pixel; one for each row is enough, (B, 1, ..., 1)"] = (
        lambda x0, xt, t, bar: _variance(x0, xt, t, bar).expand(xt.shape)
    )
    mean, variance, axes = _part(candidate, 0), _part(candidate, 1), "B C H W"
    inputs = (x0, xt, t, alpha_bar)
    yield agrees("the mean", mean, inputs, _mean(*inputs), axes, means)
    yield agrees("the variance", variance, inputs, _variance(*inputs), axes, variances)
    ends = torch.tensor([0, 1, len(alpha_bar) - 1] * batch)[:batch]
    inputs = (x0, xt, ends, alpha_bar)
    wrapped = "at t = 0 it reads alpha_bar[-1], the end of the table: before the first step it is 1"
    name = "the mean at the first step, where it is x_0, and at the last"
    of_mean = _wrapped(
        lambda bar, before, alpha, x0, xt: (
            _rows(_of_x0(bar, before, alpha), xt) * x0 + _rows(_of_xt(bar, before, alpha), xt) * xt
        )
    )
    yield agrees(name, mean, inputs, _mean(*inputs), axes, {wrapped: of_mean})
    name = "the variance at the first step, where it is 0, and at the last"
    of_variance = _wrapped(lambda bar, before, alpha, x0, xt: _rows(_tilde(bar, before, alpha), xt))
    yield agrees(name, variance, inputs, _variance(*inputs), axes, {wrapped: of_variance})
    points = (x0[:, :, 0, 0], xt[:, :, 0, 0], t, alpha_bar)
    yield agrees("points, of shape (B, D)", mean, points, _mean(*points), "B D", means)
    name = "the variance of points, (B, 1)"
    yield agrees(name, variance, points, _variance(*points), "B D", variances)
    single = (x0.float(), xt.float(), t, alpha_bar)
    name = "float32 pictures, a float64 table: float32"
    yield agrees(name, mean, single, _mean(*single), axes, {})
    name = "its variance too"
    yield agrees(name, variance, single, _variance(*single), axes, {})


def _tilde_at(i, alpha_bar):
    return _tilde(alpha_bar, one_earlier(alpha_bar), _alpha(alpha_bar))[i]


def _tilde_by_precision(i, alpha_bar):
    """The same, by Bayes: the precisions add; no noise is left before the first step."""
    alpha, before = _alpha(alpha_bar)[i], one_earlier(alpha_bar)[i]
    if i == 0:
        return 0 * alpha
    return 1 / (alpha / (1 - alpha) + 1 / (1 - before))


def _referee_variance(formula):
    """Accept a formula if it is the conditional variance of a joint normal, at every step."""
    generator = torch.Generator().manual_seed(0)
    for steps in (2, 5, 9):
        unit = torch.rand(steps, generator=generator, dtype=torch.float64)
        alpha_bar = (0.55 + 0.4 * unit).cumprod(0)
        for i in range(steps):
            # Given x_0: Var x_{t-1} - Cov(x_{t-1}, x_t)^2 / Var x_t.
            before, alpha = one_earlier(alpha_bar)[i], _alpha(alpha_bar)[i]
            want = (1 - before) - alpha * (1 - before) ** 2 / (1 - alpha_bar[i])
            if not torch.allclose(formula(i, alpha_bar), want, atol=1e-10):
                return False
    return True


@exercise(reference=_referee_variance, kind="referee")
def referee_variance(candidate, draw):
    right = {
        "the right formula": _tilde_at,
        "the same, as a sum of precisions": _tilde_by_precision,
        "the same, rounded differently": lambda i, bar: _tilde_at(i, bar) * (1 + 1e-12),
    }
    why = (
        "what you compare with is wrong (before the first step alpha_bar"
        " is 1, and the variance is 0), or the test is too strict"
    )

    def table(of):
        return lambda i, bar: of(bar, one_earlier(bar), _alpha(bar))[i]

    printed = table(lambda bar, before, alpha: 1 - before)

    def only(where, other=printed):
        """Right where the condition on i and T does not hold, else the other formula."""
        return lambda i, bar: (other if where(i, len(bar)) else _tilde_at)(i, bar)

    middle = "try a step in the middle of the table"
    every = "try every step of the table"
    wrong = {
        "1 - alpha below (001, line 396)": (printed, middle),
        "beta, not beta-tilde": (table(lambda bar, before, alpha: 1 - alpha), middle),
        "the precision (001, line 389)": (
            table(lambda bar, before, alpha: 1 / _tilde(bar, before, alpha).clamp(min=1e-12)),
            middle,
        ),
        "the standard deviation": (table(lambda *tables: _tilde(*tables).sqrt()), middle),
        "the fraction upside down": (
            table(lambda bar, before, alpha: (1 - bar) / (1 - before + 1e-9) * (1 - alpha)),
            middle,
        ),
        "alpha_bar read at the end of the table before the first step": (
            only(lambda i, T: i == 0, lambda i, bar: _tilde(bar[0], bar[-1], bar[0] / bar[-1])),
            "try the first step, i = 0",
        ),
        "beta at the first step": (
            only(lambda i, T: i == 0, lambda i, bar: 1 - bar[0]),
            "try the first step, i = 0",
        ),
        "an error at the second step only": (only(lambda i, T: i == 1), every),
        "an error at the last step only": (only(lambda i, T: i == T - 1), every),
        "an error in the first half only": (only(lambda i, T: 0 < i <= T / 2), every),
        "an error in the second half only": (only(lambda i, T: i >= T / 2), every),
        "an error at the step in the middle only": (only(lambda i, T: i == T // 2), every),
        "alpha of the step before": (
            lambda i, bar: _tilde(bar[i], one_earlier(bar)[i], _alpha(bar)[max(i - 1, 0)]),
            "try a table in which alpha is not the same at every step",
        ),
        "the right mean over the table at every step": (
            lambda i, bar: _tilde(bar, one_earlier(bar), _alpha(bar)).mean(),
            "compare each step with its own value",
        ),
        "0.5 % too large a result": (
            lambda i, bar: 1.005 * _tilde_at(i, bar),
            "that is too coarse a tolerance",
        ),
        "0.5 % too small a result": (
            lambda i, bar: 0.995 * _tilde_at(i, bar),
            "that is too coarse a tolerance",
        ),
    }
    yield from judges(candidate, right, why, wrong)
