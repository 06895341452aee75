"""Checks of notebook 22."""

from unittest.mock import Mock

import torch

from course.teach.checks.forward_diffusion import (
    FACTOR_MISTAKES,
    noised,
    reference_q_sample,
    small_table,
)
from course.teach.exercise import Property, agrees, differentiable, exercise, judges


def _alpha(i, alpha_bar):
    return alpha_bar[i] / alpha_bar[i - 1] if i else alpha_bar[0]


def _mean(xt, noise, i, alpha_bar):
    """Ho et al. 2020, equation 11."""
    alpha = _alpha(i, alpha_bar)
    return (xt - (1 - alpha) / (1 - alpha_bar[i]).sqrt() * noise) / alpha.sqrt()


def _mean_by_x0(xt, noise, i, alpha_bar):
    """The same by equation 7: a weighted mean of x_t and of the x_0 that the noise implies."""
    rest, before = 1 - alpha_bar[i], alpha_bar[i - 1] if i else torch.ones_like(alpha_bar[0])
    alpha = alpha_bar[i] / before
    x0 = (xt - rest.sqrt() * noise) / alpha_bar[i].sqrt()
    return (before.sqrt() * (1 - alpha) * x0 + alpha.sqrt() * (1 - before) * xt) / rest


def _no_bar(xt, noise, i, alpha_bar):
    alpha = _alpha(i, alpha_bar)
    return (xt - (1 - alpha).sqrt() * noise) / alpha.sqrt()


def _bar_before_bracket(xt, noise, i, alpha_bar):
    return _mean(xt, noise, i, alpha_bar) * (_alpha(i, alpha_bar) / alpha_bar[i]).sqrt()


def _bar_above(xt, noise, i, alpha_bar):
    return (xt - (1 - alpha_bar[i]).sqrt() * noise) / _alpha(i, alpha_bar).sqrt()


def _no_root(xt, noise, i, alpha_bar):
    alpha = _alpha(i, alpha_bar)
    return (xt - (1 - alpha) / (1 - alpha_bar[i]) * noise) / alpha.sqrt()


def _no_bracket(xt, noise, i, alpha_bar):
    alpha = _alpha(i, alpha_bar)
    return xt - (1 - alpha) / (1 - alpha_bar[i]).sqrt() * noise


def _bracket_root_lost(xt, noise, i, alpha_bar):
    return _mean(xt, noise, i, alpha_bar) / _alpha(i, alpha_bar).sqrt()


def _bracket_times(xt, noise, i, alpha_bar):
    return _mean(xt, noise, i, alpha_bar) * _alpha(i, alpha_bar)


def _only_xt_scaled(xt, noise, i, alpha_bar):
    alpha = _alpha(i, alpha_bar)
    return xt / alpha.sqrt() - (1 - alpha) / (1 - alpha_bar[i]).sqrt() * noise


def _table_wraps(xt, noise, i, alpha_bar):
    alpha = alpha_bar[i] / alpha_bar[i - 1]
    return (xt - (1 - alpha) / (1 - alpha_bar[i]).sqrt() * noise) / alpha.sqrt()


def _alpha_before(xt, noise, i, alpha_bar):
    alpha = _alpha(max(i - 1, 0), alpha_bar)
    return (xt - (1 - alpha) / (1 - alpha_bar[i]).sqrt() * noise) / alpha.sqrt()


def _bar_for_alpha(xt, noise, i, alpha_bar):
    return (xt - (1 - alpha_bar[i]).sqrt() * noise) / alpha_bar[i].sqrt()


def _training_step(model, x0, t, noise, alpha_bar):
    """Ho et al. 2020, equation 14, averaged over the batch and the dimensions."""
    xt = reference_q_sample(x0, t, noise, alpha_bar)
    return (noise - model(xt, t)).square().mean()


@exercise(reference=_training_step)
def training_step(candidate, draw):
    batch, dims = draw.integer(6, 8), draw.integer(3, 5)
    alpha_bar = small_table(draw)
    x0, noise, prediction = (draw.normal(batch, dims) for _ in range(3))
    x0 = 2 * x0
    t = torch.randint(0, len(alpha_bar), (batch,), generator=draw.generator)
    t[:2] = torch.tensor([0, len(alpha_bar) - 1])
    calls = []

    # A network that only says what it was asked: no code of the course runs inside the candidate.
    def step(prediction, x0, t, noise, alpha_bar):
        network = Mock(return_value=prediction)
        loss = candidate(network, x0, t, noise, alpha_bar)
        calls.append(network.call_args_list)
        return loss

    def of(loss):
        return lambda p, x0, t, noise, _: loss(noise - p, p, x0)

    losses = {
        "the target is x_0: this network predicts the noise": lambda e, p, x0: (x0 - p).square(),
        "the sign of the prediction is turned": lambda e, p, x0: (e + 2 * p).square(),
        "the target is noise - x_0": lambda e, p, x0: (e - x0).square(),
        "this is the absolute error: square it": lambda e, p, x0: e.abs(),
        "the difference is not squared": lambda e, p, x0: e,
        "there is a factor 1/2 that L_simple does not have": lambda e, p, x0: e.square() / 2,
        "this sums over the dimensions: average over them and over the batch": (
            lambda e, p, x0: e.square().sum(1)
        ),
        "this sums over the batch: average over it and over the dimensions": (
            lambda e, p, x0: e.square().sum(0)
        ),
        "this sums over batch and dimensions: average over both": (
            lambda e, p, x0: e.square() * e.numel()
        ),
    }
    wrong = {cause: of(lambda *args, f=f: f(*args).mean()) for cause, f in losses.items()} | {
        "this is the root of the mean square: leave the root out": (
            of(lambda e, *_: e.square().mean().sqrt())
        ),
        "this is one number per row: average over the batch too": (
            of(lambda e, *_: e.square().mean(1))
        ),
        "this is not averaged at all: return one number": of(lambda e, *_: e.square()),
    }
    inputs = (prediction, x0, t, noise, alpha_bar)
    want = (noise - prediction).square().mean()
    yield agrees("the loss, given a prediction", step, inputs, want, "", wrong)
    if not calls:
        return
    yield from _asked(calls[0], (x0, t, noise, alpha_bar))
    single = (prediction.float(), x0.float(), t, noise.float(), alpha_bar)
    name = "float32 data, a float64 table: a float32 loss"
    yield agrees(name, step, single, want.float(), "", {})
    if len(calls[-1]) == 1:
        yield from _asked(calls[-1], single[1:], "float32: ")
    right = of(lambda e, *_: e.square().mean())
    name = "the gradient reaches the network"
    yield differentiable(name, step, right, inputs, {"the network": 0})


def _asked(calls, inputs, prefix=""):
    """What the network was asked: x_t and t."""
    x0, t, noise, alpha_bar = inputs
    name = f"{prefix}the network is asked once, about x_t and t"
    if len(calls) != 1:
        yield Property(name, False, f"the network was called {len(calls)} times: call it once")
        return
    named = sorted(calls[0].kwargs.items(), key=lambda pair: pair[0] == "t")
    asked = [*calls[0].args, *(value for _, value in named)]
    if len(asked) != 2:
        came = f"the network was called with {len(asked)} of its arguments: it needs x_t and t"
        yield Property(name, False, came)
        return
    yield Property(name, True)

    wrong = {cause: noised(f) for cause, f in FACTOR_MISTAKES.items()} | {
        "the network is asked about x_0: make x_t first": lambda x0, t, noise, _: x0,
        "the network is asked about the noise: make x_t first": lambda x0, t, noise, _: noise,
        "alpha_bar is read one step too early: index t is the paper's t + 1": (
            lambda x0, t, noise, bar: reference_q_sample(x0, t - 1, noise, bar)
        ),
        "one level of noise for the whole batch: each row has its own t": (
            lambda x0, t, noise, bar: reference_q_sample(x0, t[:1].expand(len(t)), noise, bar)
        ),
        "at t = 0 it returns x_0: index 0 has one step of noise": (
            lambda x0, t, noise, bar: torch.where(
                t[:, None] == 0, x0, reference_q_sample(x0, t, noise, bar)
            )
        ),
    }
    xt = reference_q_sample(x0, t, noise, alpha_bar)
    title = f"{prefix}x_t that the network is given"
    yield agrees(title, lambda *_: asked[0], inputs, xt, "B D", wrong)
    wrong = {
        "the network is given alpha_bar_t in place of t": lambda x0, t, noise, bar: bar[t],
        "the network is given t / T in place of t": lambda x0, t, noise, bar: t / len(bar),
        "the network is given t + 1: index t is what it knows": lambda x0, t, noise, _: t + 1,
    }
    yield agrees(f"{prefix}t that it is given", lambda *_: asked[1], inputs, t, "B", wrong)


def _ddpm_step(xt, i, eps_pred, noise, alpha_bar):
    """Ho et al. 2020, Algorithm 2, with sigma_t^2 = beta_t."""
    mean = _mean(xt, eps_pred, i, alpha_bar)
    return mean + (1 - _alpha(i, alpha_bar)).sqrt() * noise if i else mean


def _step_of(mean, scale=None):
    """A step with another mean, or another factor of the noise."""

    def step(xt, i, eps_pred, noise, alpha_bar):
        factor = (1 - _alpha(i, alpha_bar)).sqrt() if scale is None else scale(i, alpha_bar)
        return mean(xt, eps_pred, i, alpha_bar) + (factor * noise if i else 0)

    return step


@exercise(reference=_ddpm_step)
def ddpm_step(candidate, draw):
    shape = (draw.integer(2, 3), draw.integer(4, 5), draw.integer(6, 7))
    alpha_bar = small_table(draw)
    middle = draw.integer(2, len(alpha_bar) - 2)
    xt, eps_pred, noise = (draw.normal(*shape) for _ in range(3))
    means = {
        "this is (1 - alpha) / sqrt(1 - alpha), as in 001, line 424: the bar is lost": _no_bar,
        "the square root of 1 - alpha_bar is missing": _no_root,
        "this is 1/sqrt(alpha_bar) before the bracket, as in 001, line 499": _bar_before_bracket,
        "1 - alpha_bar stands where 1 - alpha belongs: one step, not all of them": _bar_above,
        "the factor 1/sqrt(alpha) is missing": _no_bracket,
        "this is 1/alpha before the bracket: its square root is missing": _bracket_root_lost,
        "this multiplies by sqrt(alpha): divide by it": _bracket_times,
        "1/sqrt(alpha) multiplies x_t only: it stands before the bracket": _only_xt_scaled,
        "the predicted noise is added: subtract it": lambda x, e, i, bar: _mean(x, -e, i, bar),
    }
    scales = {
        "the new noise is multiplied by beta: sigma is its square root": (
            lambda i, bar: 1 - _alpha(i, bar)
        ),
        "this takes beta-tilde for sigma^2: right as well, but asked for is beta": (
            lambda i, bar: ((1 - _alpha(i, bar)) * (1 - bar[i - 1]) / (1 - bar[i])).sqrt()
        ),
        "the new noise is not scaled: it needs sigma = sqrt(beta)": lambda i, bar: 1,
        "the new noise is multiplied by sqrt(1 - alpha_bar): sigma^2 is beta": (
            lambda i, bar: (1 - bar[i]).sqrt()
        ),
        "the new noise is subtracted": lambda i, bar: -((1 - _alpha(i, bar)).sqrt()),
        "the new noise is inside the bracket: it is not divided by sqrt(alpha)": (
            lambda i, bar: (1 / _alpha(i, bar) - 1).sqrt()
        ),
        "the new noise is missing: this is the mean alone": lambda i, bar: 0,
    }
    wrong = {cause: _step_of(mean) for cause, mean in means.items()}
    wrong |= {cause: _step_of(_mean, scale) for cause, scale in scales.items()}
    late = {
        "alpha is read one step too late: alpha_i = alpha_bar[i] / alpha_bar[i - 1]": _step_late,
        "alpha_bar stands for alpha: divide it by the entry before": (
            _step_of(_bar_for_alpha, lambda i, bar: (1 - bar[i]).sqrt())
        ),
    }
    inputs = (xt, middle, eps_pred, noise, alpha_bar)
    want = _ddpm_step(*inputs)
    axes = "B C D"
    yield agrees("a step in the middle", candidate, inputs, want, axes, wrong | late)
    inputs = (xt, 0, eps_pred, noise, alpha_bar)
    wraps = "at i = 0 it reads alpha_bar[-1], the end of the table: alpha_bar before it is 1"
    last = {
        "at i = 0 it still adds noise: the last step returns the mean": (
            lambda x, i, e, z, bar: _mean(x, e, i, bar) + (1 - bar[0]).sqrt() * z
        ),
        wraps: lambda x, i, e, z, bar: _table_wraps(x, e, i, bar),
        "at i = 0 it returns x_t: the last step has a mean as well": lambda x, i, e, z, bar: x,
    }
    yield agrees(
        "the last step, i = 0: no noise", candidate, inputs, _ddpm_step(*inputs), axes, last
    )
    early = {
        "at i = 1 there is no noise: only the last step, i = 0, goes without": (
            wrong["the new noise is missing: this is the mean alone"]
        )
    }
    for i in (1, len(alpha_bar) - 1):
        inputs = (xt, i, eps_pred, noise, alpha_bar)
        name = f"the step i = {'1' if i == 1 else 'T - 1, the first one taken'}"
        yield agrees(name, candidate, inputs, _ddpm_step(*inputs), axes, early if i == 1 else wrong)
    single = (xt.float(), middle, eps_pred.float(), noise.float(), alpha_bar)
    yield agrees("float32 data, a float64 table", candidate, single, want.float(), axes, {})
    ending = (xt.float(), 0, eps_pred.float(), noise.float(), alpha_bar)
    name = "float32 data at the last step"
    yield agrees(name, candidate, ending, _ddpm_step(*ending).float(), axes, {})


def _step_late(xt, i, eps, noise, bar):
    alpha = bar[i + 1] / bar[i]
    mean = (xt - (1 - alpha) / (1 - bar[i]).sqrt() * eps) / alpha.sqrt()
    return mean + (1 - alpha).sqrt() * noise


def _referee_mean(formula):
    """Accept a formula if it equals the posterior mean at every step of a small schedule."""
    generator = torch.Generator().manual_seed(0)
    xt, noise = torch.randn(2, 32, 3, generator=generator, dtype=torch.float64)
    alpha_bar = torch.tensor([0.9, 0.7, 0.4, 0.2], dtype=torch.float64)
    return all(
        torch.allclose(formula(xt, noise, i, alpha_bar), _mean_by_x0(xt, noise, i, alpha_bar))
        for i in range(len(alpha_bar))
    )


@exercise(reference=_referee_mean, kind="referee")
def referee_mean(candidate, draw):
    right = {
        "the right formula": _mean,
        "the same, written with x_0": _mean_by_x0,
        "the same, rounded differently": lambda *inputs: _mean(*inputs) * (1 + 1e-12),
    }
    why = (
        "what you compare with is wrong (alpha_i = alpha_bar[i] /"
        " alpha_bar[i - 1]; before the first step alpha_bar is 1), or the test is too strict"
    )

    def only(where, other):
        """Right where the condition on i and T holds, else the other formula."""

        def formula(xt, noise, i, alpha_bar):
            chosen = _mean if where(i, len(alpha_bar)) else other
            return chosen(xt, noise, i, alpha_bar)

        return formula

    later = "try a step other than the first: at i = 0 alpha and alpha_bar are the same"
    sizes = "try noise that is not zero, at a step in the middle"
    wrong = {
        "sqrt(1 - alpha) below (001, line 424)": (_no_bar, later),
        "1/sqrt(alpha_bar) before the bracket (001, line 499)": (_bar_before_bracket, later),
        "1 - alpha_bar above (001, line 401)": (_bar_above, later),
        "no square root below": (_no_root, sizes),
        "no 1/sqrt(alpha)": (_no_bracket, "try x_t that is not zero"),
        "1/alpha before the bracket": (_bracket_root_lost, "try x_t that is not zero"),
        "1/sqrt(alpha) at x_t only": (_only_xt_scaled, sizes),
        "the noise added": (lambda x, e, i, bar: _mean(x, -e, i, bar), sizes),
        "the table wrapped round at i = 0": (_table_wraps, "try the step i = 0"),
        "the bar lost at every step but the second": (
            only(lambda i, T: i <= 1, _no_bar),
            "try more than one step above i = 0, with a table of at least three",
        ),
        "the bar lost in the first half only": (
            only(lambda i, T: i == 0 or i > T // 2, _no_bar),
            "try early steps too, i = 1 included",
        ),
        "the bar lost at the step in the middle only": (
            only(lambda i, T: i != T // 2, _no_bar),
            "try every step of the table",
        ),
        "the bar lost at the last step only": (
            only(lambda i, T: i != T - 1, _no_bar),
            "try every step of the table",
        ),
        "alpha of the step before": (
            _alpha_before,
            "try a table in which alpha is not the same at every step",
        ),
        "x_t and noise exchanged": (
            lambda x, e, i, bar: _mean(e, x, i, bar),
            "try x_t and noise that are not the same",
        ),
        "the sign of the result turned": (
            lambda x, e, i, bar: -_mean(x, e, i, bar),
            "compare the values themselves, with their signs",
        ),
        "an error in the last dimension only": (
            lambda x, e, i, bar: torch.cat(
                [_mean(x, e, i, bar)[:, :-1], 2 * _mean(x, e, i, bar)[:, -1:]], dim=1
            ),
            "compare every dimension",
        ),
        "|noise| for noise": (
            lambda x, e, i, bar: _mean(x, e.abs(), i, bar),
            "try noise of both signs",
        ),
        "|x_t| for x_t": (lambda x, e, i, bar: _mean(x.abs(), e, i, bar), "try x_t of both signs"),
        "0.5 % too much noise": (
            lambda x, e, i, bar: _mean(x, 1.005 * e, i, bar),
            "that is too coarse a tolerance",
        ),
        "0.5 % too large a result": (
            lambda x, e, i, bar: 1.005 * _mean(x, e, i, bar),
            "that is too coarse a tolerance",
        ),
        "one number for all dimensions": (
            lambda x, e, i, bar: _mean(x, e, i, bar).mean(-1, keepdim=True).expand(x.shape),
            "try more than one dimension",
        ),
        "one row for the whole batch": (
            lambda x, e, i, bar: _mean(x, e, i, bar).mean(0, keepdim=True).expand(x.shape),
            "try more than one row",
        ),
        "the rows in another order": (
            lambda x, e, i, bar: _mean(x, e, i, bar).flip(0),
            "try more than one row, and compare row with row",
        ),
    }
    yield from judges(candidate, right, why, wrong)
