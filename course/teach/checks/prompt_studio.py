"""Checks of notebook 54."""

import torch

from course.teach.checks._common import recognised
from course.teach.checks._prompt_studio import (
    COMPOSE_MISTAKES,
    STEPS_MISTAKES,
    TWO_WAY_MISTAKES,
    right_compose,
    right_steps,
    right_two_way,
)
from course.teach.exercise import Property, attempt, exercise, handed_in


@exercise(reference=right_steps)
def steps_from(candidate, draw):
    def drawn(count, first=0):
        """Time steps of 1,000, not below `first`."""
        return first + draw.uniform(0, 1, 1000 - first).argsort()[:count].sort().values

    def looks(name, timesteps, strength):
        inputs = (timesteps, strength)
        return recognised(name, candidate, inputs, right_steps(*inputs), STEPS_MISTAKES, "S")

    s = draw.integer(21, 29)
    part = draw.integer(8, s - 10)
    strength = round((part + 0.7) / s, 4)
    yield looks("a part of the steps", drawn(s, 700), strength)
    yield looks("a part just above a whole number of steps", drawn(s), round((part + 0.2) / s, 4))
    yield looks("half of an even number of steps", drawn(20), 0.5)
    yield looks("strength 1: all", drawn(s), 1.0)
    yield looks("strength 1, a whole number", drawn(s), 1)
    yield looks("a strength too small for one step", drawn(s), 0.01)
    yield looks("0.29 of 100 steps are 29", drawn(100), 0.29)
    yield looks("0.57 of 100 steps are 57", drawn(100), 0.57)
    yield looks("0.07 of 100 steps are 7", drawn(100), 0.07)
    yield looks("nearly all", drawn(s), 0.999)
    yield looks("one step", drawn(1), 0.4)
    yield looks("all of 50 steps in a row", torch.arange(50), 0.3)


@exercise(reference=right_compose)
def compose(candidate, draw):
    def drawn(k, b, c, h, w, dtype=torch.float64):
        # The largest is neither the first nor the last of three or four.
        scales = (0.3 + draw.uniform(0.8, 1.8, k).cumsum(0)).roll(2)
        return (
            draw.normal(b, c, h, w).to(dtype),
            draw.normal(k, b, c, h, w).to(dtype),
            scales.to(dtype),
        )

    def looks(name, inputs):
        return recognised(name, candidate, inputs, right_compose(*inputs), COMPOSE_MISTAKES)

    k, b, c = draw.integer(3, 4), draw.integer(2, 3), draw.integer(5, 6)
    h, w = draw.integer(7, 8), draw.integer(9, 10)
    yield looks("several captions", drawn(k, b, c, h, w))
    yield looks("two captions", drawn(2, b, c, w, h))
    yield looks("one caption: guidance without a classifier", drawn(1, b, c, h, w))
    null, words, scales = drawn(k, b, c, h, w)
    yield looks("scales of 0", (null, words, 0 * scales))
    away = torch.cat([-scales[:1], scales[1:]])
    yield looks("one scale is below 0: away from a caption", (null, words, away))
    yield looks(
        "captions that predict what none predicts", (null, null.expand_as(words).clone(), scales)
    )
    yield looks("as many captions as pictures and channels", drawn(3, 3, 3, 3, 3))
    yield looks("one picture", drawn(k, 1, c, h, w))
    yield looks("large scales", (null, words, 100 * scales))
    yield looks("float32", drawn(k, b, c, h, w, torch.float32))


_CLASSES = 14


def _denoiser(draw, shape):
    """A model that predicts another noise for each place, time step and class, and its calls."""
    pictures, rates = draw.normal(_CLASSES, *shape), draw.uniform(0.02, 0.04, _CLASSES)
    places, calls = draw.normal(*shape), []

    def model(x, t, context):
        if x.shape[1:] != shape:
            raise ValueError(f"the model takes pictures of shape {shape}, not {tuple(x.shape[1:])}")
        if not len(x) == len(t) == len(context):
            raise ValueError(
                f"the model is told {len(x)} pictures, {len(t)} time steps, {len(context)} classes"
            )
        calls.append(len(x))
        wave = torch.cos(rates[context] * t)[:, None, None, None]
        return (pictures[context] * wave + torch.sin(x.double() + places)).to(x.dtype)

    return handed_in(model), calls


@exercise(reference=right_two_way)
def two_way_noise(candidate, draw):
    def drawn(b, shape, dtype=torch.float64):
        numbers = draw.uniform(0, 1, _CLASSES).argsort()
        model, calls = _denoiser(draw, shape)
        xt, t = draw.normal(b, *shape).to(dtype), draw.uniform(0, 1, 1000).argsort()[:b]
        return (model, xt, t, numbers[:b], numbers[b : 2 * b]), calls

    def looks(name, inputs):
        return recognised(name, candidate, inputs, right_two_way(*inputs), TWO_WAY_MISTAKES)

    b, c = draw.integer(3, 4), draw.integer(5, 6)
    h, w = draw.integer(7, 8), draw.integer(9, 10)
    inputs, calls = drawn(b, (c, h, w))
    yield looks("pictures wider than high", inputs)
    inputs, calls = drawn(b, (c, w, h))
    yield looks("pictures higher than wide", inputs)
    calls.clear()
    name = "each picture is looked at twice"
    _, problem = attempt(name, candidate, *inputs)
    found = sum(calls)
    message = "" if found == 2 * b else f"{found} noises are predicted for {b} pictures: two each"
    yield problem or Property(name, not message, message)
    yield looks("squares", drawn(b, (c, h, h))[0])
    model, xt, t, upright, turned = drawn(b, (c, h, w))[0]
    yield looks("the same class both ways", (model, xt, t, upright, upright))
    yield looks("one time step for all", (model, xt, torch.full_like(t, 999), upright, turned))
    yield looks("one picture of one channel", drawn(1, (1, h, w))[0])
    yield looks("one row of pixels", drawn(b, (c, 1, w))[0])
    yield looks("float32", drawn(b, (c, h, w), torch.float32)[0])
