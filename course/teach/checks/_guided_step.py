"""Steps with a classifier's gradient, of notebook 42: right ones, and known mistakes."""

import math

from course.teach.checks._guidance import SCALE_CHANGES


def _hat(eps, gradient, s, bar, before):
    return eps - s * (1 - bar) ** 0.5 * gradient


def _x0(xt, eps, bar):
    return (xt - (1 - bar) ** 0.5 * eps) / bar**0.5


def _step_with(
    hat=_hat,
    x0=_x0,
    in_x0=lambda eps, hat: hat,
    in_direction=lambda eps, hat: hat,
    start=lambda bar, before: before**0.5,
    direction=lambda bar, before: (1 - before) ** 0.5,
):
    """A guided DDIM step with any of its parts replaced."""

    def step(xt, eps, gradient, scale, bar, before):
        moved = hat(eps, gradient, scale, bar, before)
        x = start(bar, before) * x0(xt, in_x0(eps, moved), bar)
        return x + direction(bar, before) * in_direction(eps, moved)

    return step


right_guided_ddim_step = _step_with()
right_guided_ddim_step.__doc__ = "Dhariwal & Nichol 2021, Algorithm 2."


def _hat_by(factor):
    """The predicted noise minus a factor times the gradient."""
    return _step_with(lambda eps, g, s, bar, before: eps - factor(s, bar, before) * g)


def _on_top(variance, unguided=True):
    """Algorithm 1's move of the mean, after the step."""

    def step(xt, eps, gradient, scale, bar, before):
        x = right_guided_ddim_step(xt, eps, gradient, 0.0 if unguided else scale, bar, before)
        return x + scale * variance(bar, before) * gradient

    return step


def _beta(bar, before):
    return 1 - bar / before


def _posterior(bar, before):
    return (1 - before) / (1 - bar) * _beta(bar, before)


def _exchanged_levels(xt, eps, gradient, scale, bar, before):
    return right_guided_ddim_step(xt, eps, gradient, scale, before, bar)


STEP_MISTAKES = {
    "the gradient is added: eps is minus the score, up to a factor, so that it is subtracted": (
        _hat_by(lambda s, bar, before: -s * (1 - bar) ** 0.5)
    ),
    "the factor of the gradient has lost its square root: it is sqrt(1 - alpha_bar)": (
        _hat_by(lambda s, bar, before: s * (1 - bar))
    ),
    "the factor sqrt(1 - alpha_bar) of the gradient is missing": _hat_by(lambda s, bar, before: s),
    "the gradient is divided by sqrt(1 - alpha_bar): that turns noise into a score, this is the "
    "way back": _hat_by(lambda s, bar, before: s / (1 - bar) ** 0.5),
    "the factor of the gradient is sqrt(alpha_bar): it is sqrt(1 - alpha_bar)": (
        _hat_by(lambda s, bar, before: s * bar**0.5)
    ),
    "the factor of the gradient is alpha_bar: it is sqrt(1 - alpha_bar)": (
        _hat_by(lambda s, bar, before: s * bar)
    ),
    "the factor of the gradient has alpha_bar_prev: eps and gradient belong to x_t, so alpha_bar": (
        _hat_by(lambda s, bar, before: s * (1 - before) ** 0.5)
    ),
    "the factor of the gradient is sqrt(1 + alpha_bar)": (
        _hat_by(lambda s, bar, before: s * (1 + bar) ** 0.5)
    ),
    "the factor of the gradient is the variance of the step, beta: that is Algorithm 1": (
        _hat_by(lambda s, bar, before: s * _beta(bar, before))
    ),
    "the factor of the gradient is the posterior's variance: that is Algorithm 1": (
        _hat_by(lambda s, bar, before: s * _posterior(bar, before))
    ),
    "the scale is squared": _hat_by(lambda s, bar, before: s * s * (1 - bar) ** 0.5),
    "the scale is not used: this is scale 1": _hat_by(lambda s, bar, before: (1 - bar) ** 0.5),
    "this is the scale minus 1: with a classifier 0 is without guidance": (
        _hat_by(lambda s, bar, before: (s - 1) * (1 - bar) ** 0.5)
    ),
    "this is the scale plus 1: with a classifier 0 is without guidance": (
        _hat_by(lambda s, bar, before: (s + 1) * (1 - bar) ** 0.5)
    ),
    "the gradient is divided by the scale": _hat_by(
        lambda s, bar, before: s and (1 - bar) ** 0.5 / s
    ),
    "the scale is below the root: only 1 - alpha_bar is": (
        _hat_by(lambda s, bar, before: abs(s * (1 - bar)) ** 0.5)
    ),
    "the scale multiplies the predicted noise, too: only the gradient is scaled": _step_with(
        lambda eps, g, s, bar, before: s * (eps - (1 - bar) ** 0.5 * g)
    ),
    "the scale multiplies the predicted noise, not the gradient": _step_with(
        lambda eps, g, s, bar, before: s * eps - (1 - bar) ** 0.5 * g
    ),
    "there is no guidance at all: the gradient is not used": _hat_by(lambda s, bar, before: 0.0),
    "the predicted noise is missing: this takes the gradient's part alone": _step_with(
        lambda eps, g, s, bar, before: -s * (1 - bar) ** 0.5 * g
    ),
    "noise and gradient are exchanged": lambda xt, eps, g, *rest: right_guided_ddim_step(
        xt, g, eps, *rest
    ),
    "the guided noise is only in x_0: the direction takes it, too": _step_with(
        in_direction=lambda eps, hat: eps
    ),
    "the guided noise is only in the direction: x_0 takes it, too": _step_with(
        in_x0=lambda eps, hat: eps
    ),
    "the gradient is used twice: once in eps_hat is enough": (
        _hat_by(lambda s, bar, before: 2 * s * (1 - bar) ** 0.5)
    ),
    "the gradient moves the direction once more: eps_hat is in both as it is": _step_with(
        in_direction=lambda eps, hat: 2 * hat - eps
    ),
    "alpha_bar and alpha_bar_prev are exchanged: the step starts at alpha_bar": _exchanged_levels,
    "this is x_0, predicted: go on from there to alpha_bar_prev": _step_with(
        start=lambda bar, before: 1.0, direction=lambda bar, before: 0.0
    ),
    "this is the guided noise: it still makes a step": lambda xt, eps, g, s, bar, before: _hat(
        eps, g, s, bar, before
    ),
    "x_0 is predicted without the root of 1 - alpha_bar": _step_with(
        x0=lambda xt, eps, bar: (xt - (1 - bar) * eps) / bar**0.5
    ),
    "the predicted x_0 is divided by alpha_bar: its square root is missing": _step_with(
        x0=lambda xt, eps, bar: (xt - (1 - bar) ** 0.5 * eps) / bar
    ),
    "the predicted x_0 is not divided by sqrt(alpha_bar)": _step_with(
        x0=lambda xt, eps, bar: xt - (1 - bar) ** 0.5 * eps
    ),
    "the predicted x_0 is multiplied by sqrt(alpha_bar): divide": _step_with(
        x0=lambda xt, eps, bar: (xt - (1 - bar) ** 0.5 * eps) * bar**0.5
    ),
    "the noise is added in x_0: subtract it": _step_with(x0=lambda xt, e, bar: _x0(xt, -e, bar)),
    "the predicted x_0 is clipped: the step does not clip": _step_with(
        x0=lambda xt, eps, bar: _x0(xt, eps, bar).clamp(-1, 1)
    ),
    "x_0 is multiplied by alpha_bar_prev: its square root is missing": _step_with(
        start=lambda bar, before: before
    ),
    "x_0 is multiplied by sqrt(alpha_bar): the step ends at alpha_bar_prev": _step_with(
        start=lambda bar, before: bar**0.5
    ),
    "x_0 is not multiplied by sqrt(alpha_bar_prev)": _step_with(start=lambda bar, before: 1.0),
    "the direction has lost its square root: sqrt(1 - alpha_bar_prev)": _step_with(
        direction=lambda bar, before: 1 - before
    ),
    "the direction takes alpha_bar: it points to where the step ends, alpha_bar_prev": _step_with(
        direction=lambda bar, before: (1 - bar) ** 0.5
    ),
    "the direction is missing: sqrt(1 - alpha_bar_prev) times the guided noise": _step_with(
        direction=lambda bar, before: 0.0
    ),
    "the direction is subtracted: add it": _step_with(
        direction=lambda bar, before: -((1 - before) ** 0.5)
    ),
    "room is made for new noise: this step is deterministic": _step_with(
        direction=lambda bar, before: math.sqrt(max(0, 1 - before - _posterior(bar, before)))
    ),
} | {
    f"Algorithm 1 is mixed in: the result is moved by {name} times the gradient{more}": _on_top(
        variance, unguided
    )
    for more, unguided in (("", True), (", after eps_hat has done it", False))
    for name, variance in (
        ("beta", _beta),
        ("the posterior's variance", _posterior),
        ("1 - alpha_bar", lambda bar, before: 1 - bar),
        ("1 - alpha_bar_prev", lambda bar, before: 1 - before),
        ("sqrt(1 - alpha_bar)", lambda bar, before: (1 - bar) ** 0.5),
    )
}

STEP_SCALE_MISTAKES = {
    cause: _hat_by(lambda s, bar, before, change=change: change(s) * (1 - bar) ** 0.5)
    for cause, change in SCALE_CHANGES.items()
}


def _sigmoid(x):
    return 1 / (1 + math.exp(-x))


_PULL = 1 - _sigmoid(4 * 0.3)


def moved_mean(mu=0.3, variance=0.04, s=3.0, slope=4.0, pull=_PULL):
    """Algorithm 1 with log p = log sigmoid(4 x), whose gradient at mu is slope * pull."""
    return mu + s * variance * slope * pull


MEAN_MISTAKES = {
    "the scale is forgotten: it multiplies the gradient": moved_mean(s=1),
    "this takes the standard deviation, 0.2: the mean moves by the variance times the "
    "gradient": moved_mean(variance=0.2),
    "the variance is squared: 0.04 is the variance": moved_mean(variance=0.04**2),
    "the variance is forgotten: the mean moves by the variance times the gradient": moved_mean(
        variance=1
    ),
    "this divides by the variance: multiply": moved_mean(variance=1 / 0.04),
    "the gradient is taken at 0: take it at the mean, 0.3": moved_mean(pull=0.5),
    "the gradient is taken at 1: take it at the mean, 0.3": moved_mean(pull=1 - _sigmoid(4)),
    "sigmoid stands for 1 - sigmoid: the slope of log sigmoid(z) is 1 - sigmoid(z)": moved_mean(
        pull=_sigmoid(1.2)
    ),
    "this is the gradient of the other class, whose log probability falls": moved_mean(
        pull=-_sigmoid(1.2)
    ),
    "the slope 4 of the logit is forgotten (chain rule)": moved_mean(slope=1),
    "the slope 4 is forgotten inside the sigmoid: sigmoid(4 * 0.3)": moved_mean(
        pull=1 - _sigmoid(0.3)
    ),
    "the slope 4 of the logit is forgotten inside and outside": moved_mean(
        slope=1, pull=1 - _sigmoid(0.3)
    ),
    "the slope is squared: it is 4": moved_mean(slope=16),
    "this is w = s - 1 times the gradient: a classifier's scale is s": moved_mean(s=2),
    "this is s + 1 times the gradient": moved_mean(s=4),
    "the scale is squared": moved_mean(s=9),
    "the sign is turned: the mean moves towards the class": moved_mean(s=-3),
    "this is how far the mean moves: add it to 0.3": moved_mean(mu=0),
    "this is the gradient of the probability: take that of its logarithm": moved_mean(
        pull=_sigmoid(1.2) * (1 - _sigmoid(1.2))
    ),
    "the log probability itself stands for its gradient": moved_mean(
        slope=1, pull=math.log(_sigmoid(1.2))
    ),
    "the probability itself stands for the gradient of its logarithm": moved_mean(
        slope=1, pull=_sigmoid(1.2)
    ),
    "this is the mean of the tilted density, exactly: Algorithm 1 is of first order": 0.392842,
    "this is the top of the tilted density: Algorithm 1 takes the gradient at 0.3": 0.384794,
    "nothing is moved: 0.3 is the mean before": 0.3,
}
