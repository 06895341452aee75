"""Checks of notebook 54."""

from dataclasses import replace

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

_CLASSES = 14


@exercise(reference=right_steps)
def steps_from(candidate, draw):
    def drawn(count, first=0, end=1000):
        """Time steps from `first` on, that are not evenly spaced."""
        return first + draw.uniform(0, 1, end - first).argsort()[:count].sort().values

    def looks(name, timesteps, strength):
        inputs = (timesteps, strength)
        return recognised(name, candidate, inputs, right_steps(*inputs), STEPS_MISTAKES, "S")

    def every(count):
        """Each strength that is meant to be a whole number of steps."""
        timesteps, name = drawn(count), f"k / {count} of {count} steps are k, for each k"
        for k in range(1, count + 1):
            found = looks(name, timesteps, k / count)
            if not found.passed:
                return replace(found, message=f"k = {k}: {found.message}"[:200])
        return found

    s, part = draw.integer(21, 29), draw.integer(5, 7)
    crowded = torch.cat([drawn(12, 90, 240), drawn(8, 255, 300)])
    yield looks("a quarter of 20 steps", crowded, 0.25)
    yield looks("half of an even number of steps", drawn(20, 700), 0.5)
    yield looks("a part just above a whole number of steps", drawn(s), round((part + 0.2) / s, 4))
    yield looks("a part just below a whole number", drawn(s, 400), round((part + 0.7) / s, 4))
    yield looks("more than half", drawn(s), round((s - part + 0.6) / s, 4))
    yield looks("strength 1: all", drawn(s), 1.0)
    yield looks("strength 1, a whole number", drawn(s), 1)
    yield looks("a strength too small for one step", drawn(s), 0.01)
    yield looks("0.29 of 100 steps are 29", drawn(100), 0.29)
    yield looks("0.57 of 100 steps are 57", drawn(100), 0.57)
    yield looks("0.28999995 of 100 steps are 28", drawn(100), 0.28999995)
    yield looks("nearly all", drawn(s), 0.999)
    yield looks("one step", drawn(1), 0.4)
    yield looks("all of 50 steps in a row", torch.arange(50), 0.3)
    yield looks("steps of 4,000", drawn(s, 900, 4000), round((part + 0.4) / s, 4))
    for count in (10, 20, 40, 50, 100):
        yield every(count)


@exercise(reference=right_compose)
def compose(candidate, draw):
    def drawn(k, b, c, h, w, dtype=torch.float64):
        # Neither in order nor turned round: the largest of four or five is in the middle.
        order = [i for i in [2, 4, 0, 3, 1, *range(5, k)] if i < k]
        scales = 0.3 + draw.uniform(0.8, 1.8, k).cumsum(0)[order]
        eps_null, eps_words = draw.normal(b, c, h, w), draw.normal(k, b, c, h, w)
        return eps_null.to(dtype), eps_words.to(dtype), scales.to(dtype)

    def looks(name, inputs):
        return recognised(name, candidate, inputs, right_compose(*inputs), COMPOSE_MISTAKES)

    k, b, c = draw.integer(4, 5), draw.integer(2, 3), draw.integer(5, 6)
    h, w = draw.integer(7, 8), draw.integer(9, 10)
    yield looks("several captions", drawn(k, b, c, h, w))
    yield looks("two captions", drawn(2, b, c, w, h))
    yield looks("three captions", drawn(3, b, c, w, h))
    yield looks("one caption: guidance without a classifier", drawn(1, b, c, h, w))
    yield looks("seven captions", drawn(7, b, c, h, w))
    null, words, scales = drawn(k, b, c, h, w)
    yield looks("scales of 0", (null, words, 0 * scales))
    only = torch.zeros_like(scales).index_fill(0, torch.tensor(1), 1.0)
    yield looks("scale 1 of one caption, 0 of the others: its prediction", (null, words, only))
    yield looks("scales below 1", (null, words, scales / 10))
    away = torch.cat([-scales[:1], scales[1:]])
    yield looks("one scale is below 0: away from a caption", (null, words, away))
    again = torch.cat([scales[:1], -scales[:1], scales[2:]])
    yield looks("scales that cancel", (null, words, again))
    alike = null.expand_as(words).clone()
    yield looks("captions that predict what none predicts", (null, alike, scales))
    yield looks("as many captions as pictures and channels", drawn(3, 3, 3, 3, 3))
    yield looks("one picture", drawn(k, 1, c, h, w))
    yield looks("as many captions as columns", drawn(w, b, c, h, w))
    yield looks("large scales", (null, words, 100 * scales))
    yield looks("large noise", (100 * null, 100 * words, scales))
    yield looks("float32", drawn(k, b, c, h, w, torch.float32))


def _denoiser(draw, shape):
    """A model that predicts another noise for each place, time step and class, and its calls."""
    pictures, rates = draw.normal(_CLASSES, *shape), draw.uniform(0.02, 0.04, _CLASSES)
    places, calls = draw.normal(*shape), []

    def model(x, t, context):
        if x.shape[1:] != shape:
            raise RuntimeError(
                f"the model takes pictures of shape {shape}, not {tuple(x.shape[1:])}"
            )
        if not len(x) == len(t) == len(context):
            raise RuntimeError(
                f"the model is told {len(x)} pictures, {len(t)} time steps, {len(context)} classes"
            )
        if t.dtype != torch.int64 or context.dtype != torch.int64:
            raise RuntimeError(f"the model takes int64, not t {t.dtype}, context {context.dtype}")
        calls.append(len(x))
        wave = torch.cos(rates[context] * t)[:, None, None, None]
        return (pictures[context] * wave + torch.sin(x.double() + places)).to(x.dtype)

    return handed_in(model), calls


def _looked_at_twice(name, candidate, inputs, calls):
    """Property: the model predicts two noises for each picture, in as many calls as you like."""
    calls.clear()
    copies = [x.clone() if isinstance(x, torch.Tensor) else x for x in inputs]
    _, problem = attempt(name, candidate, *copies)
    found, size = sum(calls), len(inputs[1])
    message = f"{found} noises are predicted for {size} pictures: two each"
    return problem or Property(name, found == 2 * size, message if found != 2 * size else "")


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
    inputs, calls = drawn(b, (c, h, h))
    yield looks("squares", inputs)
    yield _looked_at_twice("each picture is looked at twice", candidate, inputs, calls)
    yield looks("pictures wider than high", drawn(b, (c, h, w))[0])
    yield looks("pictures higher than wide", drawn(b, (c, w, h))[0])
    model, xt, t, upright, turned = drawn(b, (c, h, w))[0]
    yield looks("the same class both ways", (model, xt, t, upright, upright))
    yield looks("one time step for all", (model, xt, torch.full_like(t, 999), upright, turned))
    first = upright[:1].expand(b).clone()
    yield looks("one class for all, upright", (model, xt, t, first, turned))
    own = (xt + xt.flip(2, 3)) / 2
    yield looks("pictures that are their own half turn", (model, own, t, upright, turned))
    inputs, calls = drawn(1, (1, h, w))
    yield looks("one picture of one channel", inputs)
    yield _looked_at_twice("one picture: it is looked at twice", candidate, inputs, calls)
    yield looks("one row of pixels", drawn(b, (c, 1, w))[0])
    yield looks("one column of pixels", drawn(b, (c, h, 1))[0])
    yield looks("as many pictures as channels and rows", drawn(4, (4, 4, w))[0])
    yield looks("large pictures", (model, 1e3 * xt, t, upright, turned))
    yield looks("float32", drawn(b, (c, h, w), torch.float32)[0])
