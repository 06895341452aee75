"""Checks of notebook 42."""

import torch

from course.teach.checks._common import recognised, rules
from course.teach.checks._guidance import (
    GUIDANCE_MISTAKES,
    MISPAIRED,
    SCALE_MISTAKES,
    of_noise,
    right_guidance,
    right_guided_noise,
)
from course.teach.checks._guided_step import (
    MEAN_MISTAKES,
    STEP_MISTAKES,
    STEP_SCALE_MISTAKES,
    moved_mean,
    right_guided_ddim_step,
)
from course.teach.checks._referee_guidance import RIGHT_FORMULAS, WRONG_FORMULAS
from course.teach.exercise import Property, attempt, decides, exercise, handed_in, number

_CLASSES = 14  # more than the digits and 10, so that a number written into an answer is no error


def _denoiser(draw, shape):
    """A model that predicts another noise for each picture, time step and class, and its calls."""
    pictures = draw.normal(_CLASSES, *shape)
    gains, rates = draw.uniform(0.4, 1.2, _CLASSES), draw.uniform(0.02, 0.04, _CLASSES)
    calls = []

    def model(x, t, context):
        if x.shape[1:] != shape:
            raise ValueError(f"the model takes pictures of shape {shape}, not {tuple(x.shape[1:])}")
        if not len(x) == len(t) == len(context):
            raise ValueError(
                f"the model is told {len(x)} pictures, {len(t)} time steps, {len(context)} classes"
            )
        if t.dtype != torch.int64 or context.dtype != torch.int64:
            raise ValueError(f"the model takes int64, not t {t.dtype}, context {context.dtype}")
        calls.append((x.clone(), t.clone(), context.clone()))
        gain, wave = gains[context], torch.cos(rates[context] * t)
        gain, wave = (number[:, None, None, None] for number in (gain, wave))
        return (pictures[context] * wave + torch.sin(gain * x.double())).to(x.dtype)

    return handed_in(model), calls


def _what_is_told(calls, xt, t, context, null):
    """What is wrong with the calls of the model, or nothing."""
    size = len(xt)
    if len(calls) != 1:
        if not calls:
            return "the model is not called"
        return f"the model is called {len(calls)} times: once, on both halves put together"
    x, times, classes = calls[0]
    if len(x) != 2 * size:
        return f"the model is told {len(x)} pictures, expected twice the batch, {2 * size}"
    if x.dtype != xt.dtype:
        return f"the model is told {x.dtype}, xt is {xt.dtype}"
    same = (x[:, None] == xt).flatten(2).all(2)
    if not (same.sum(1) == 1).all() or not (same.sum(0) == 2).all():
        return "the model is told other pictures than xt, each of them twice"
    own = same.int().argmax(1)
    if not torch.equal(times.sort().values, torch.cat([t, t]).sort().values):
        return "the model is told other time steps than t, each of them twice"
    if not torch.equal(times, t[own]):
        return (
            "a picture is told the time step of another: xt and t must be doubled in one way, "
            "cat with cat or repeat_interleave with repeat_interleave"
        )
    pairs = [classes[own == i].tolist() for i in range(size)]
    return _what_classes(pairs, context.tolist(), null)


def _what_classes(pairs, classes, null):
    """What is wrong with the two classes that each picture is told, or nothing."""
    told = [number for pair in pairs for number in pair]
    if set(told) == {null}:
        return "no class is ever told: null stands in both halves"
    if any(own not in pair for own, pair in zip(classes, pairs, strict=True)):
        if sorted(told) == sorted([*classes, *[null] * len(classes)]):
            return (
                "a picture is told the class of another, or none twice: double xt, t and context "
                "in one way, cat with cat or repeat_interleave with repeat_interleave"
            )
        return f"expected each class once and null, {null}, {len(classes)} times"
    others = [sum(pair) - own for own, pair in zip(classes, pairs, strict=True)]
    if others == classes:
        return "null is never told: the class stands in both halves"
    wrong = [other for other in others if other != null]
    if wrong:
        return f"class {wrong[0]} is told where null, here {null}, belongs: it is handed in"
    return ""


def _told(name, candidate, calls, inputs):
    """Property: the model is called once, on each picture with its class and without."""
    calls.clear()
    copies = [x.clone() if isinstance(x, torch.Tensor) else x for x in inputs]
    _, problem = attempt(name, candidate, *copies)
    if problem:
        return problem
    message = _what_is_told(calls, *inputs[1:-1])
    return Property(name, not message, message)


@exercise(reference=right_guided_noise)
def guided_noise(candidate, draw):
    wrong = {cause: of_noise(formula) for cause, formula in GUIDANCE_MISTAKES.items()}
    by_scale = {cause: of_noise(formula) for cause, formula in SCALE_MISTAKES.items()}

    def drawn(batch, shape, scale, dtype=torch.float64):
        """Time steps and classes that differ, and a number for none that is no class here."""
        numbers = draw.uniform(0, 1, _CLASSES).argsort()
        model, calls = _denoiser(draw, shape)
        xt, t = draw.normal(batch, *shape).to(dtype), draw.uniform(0, 1, 1000).argsort()[:batch]
        return (model, xt, t, numbers[1 : batch + 1], int(numbers[0]), scale), calls

    def looks(name, inputs, wrong=wrong | MISPAIRED):
        model, xt, t, context, null, s = inputs
        want = right_guidance(
            model(xt, t, torch.full_like(context, null)), model(xt, t, context), s
        )
        return recognised(name, candidate, inputs, want, wrong)

    b, c = draw.integer(3, 4), 6
    h, w = draw.integer(7, 8), draw.integer(9, 10)
    scale = draw.integer(2, 4) + float(draw.uniform(0.55, 0.8))
    inputs, calls = drawn(b, (c, h, w), scale)
    yield _told("one call of the model, on twice the batch", candidate, calls, inputs)
    yield looks("a batch, a scale above 1", inputs)
    inputs, calls = drawn(b + 1, (c, w, h), scale / 7)
    yield _told("one call, on another batch", candidate, calls, inputs)
    yield looks("a scale between 0 and 1", inputs, by_scale | wrong | MISPAIRED)
    other = (*inputs[:4], 13 if inputs[4] != 13 else 11, scale)
    yield _told("one call, another number for no class", candidate, calls, other)
    yield looks("another number for no class", other)
    yield _told("one call at the scale 0, too", candidate, calls, (*inputs[:5], 0.0))
    yield _told("one call at the scale 1, too", candidate, calls, (*inputs[:5], 1.0))
    name, one = "the scale 1: the prediction with the class", (*inputs[:5], 1.0)
    yield looks(name, one, {f"at {name}, not without": of_noise(lambda null, cond, s: null)})
    name, zero = "the scale 0: the prediction without a class", (*inputs[:5], 0.0)
    yield looks(name, zero, {f"at {name}, not with": of_noise(lambda null, cond, s: cond)})
    yield looks("the scale 2, a whole number", (*inputs[:5], 2))
    large = draw.integer(25, 40) + 0.5
    yield looks(f"a scale of {large:g}", drawn(b, (c, h, w), large)[0], by_scale | wrong)
    yield looks("a scale of 1,000", drawn(b, (c, h, w), 1e3)[0], by_scale | wrong)
    yield looks("a scale below 0", drawn(b, (c, h, w), -scale)[0], by_scale | wrong)
    inputs, calls = drawn(1, (1, h, w), scale)
    yield _told("one call, on one picture", candidate, calls, inputs)
    yield looks("one picture of one channel", inputs)
    yield looks("two pictures of one pixel", drawn(2, (1, 1, 1), scale)[0])
    model, xt, t, context, null, _ = drawn(b, (b, h, h), scale)[0]
    inputs = (model, xt, t, torch.full_like(context, int(context[0])), null, scale)
    yield looks("squares, one class for all", inputs)
    yield looks("one time step for all", (model, xt, torch.full_like(t, 999), *inputs[3:]))
    yield looks("one of the classes is none", (model, xt, t, context, int(context[1]), scale))
    yield looks("large pictures", (model, 1e3 * xt, t, context, null, scale))
    yield looks("float32", drawn(b, (c, h, w), scale, torch.float32)[0])


def _levels(draw):
    """alpha_bar, and alpha_bar_prev, whose roots and complements all differ."""
    bar = float(draw.uniform(0.2, 0.38))
    return bar, float(draw.uniform(bar + 0.3, 0.85))


@exercise(reference=right_guided_ddim_step)
def guided_ddim_step(candidate, draw):
    def drawn(shape, scale, levels, dtype=torch.float64, wrap=float):
        tensors = [draw.normal(*shape).to(dtype) for _ in range(3)]
        return (*tensors, scale, *map(wrap, levels))

    def tensor(level, dtype=torch.float64):
        return torch.tensor(level, dtype=dtype)

    def looks(name, inputs, wrong=STEP_MISTAKES):
        *tensors, scale, bar, before = inputs
        want = right_guided_ddim_step(*tensors, scale, float(bar), float(before))
        wrong = {
            cause: lambda *inputs, f=f: f(*inputs[:4], float(inputs[4]), float(inputs[5]))
            for cause, f in wrong.items()
        }
        return recognised(name, candidate, inputs, want, wrong)

    b, c = draw.integer(2, 3), draw.integer(4, 5)
    h, w = draw.integer(6, 7), draw.integer(8, 9)
    shape, levels = (b, c, h, w), _levels(draw)
    scale, by_scale = float(draw.uniform(2.2, 3.4)), STEP_SCALE_MISTAKES | STEP_MISTAKES
    yield looks("a step, alpha_bar as tensors", drawn(shape, scale, levels, wrap=tensor))
    yield looks("a step, alpha_bar as floats", drawn((b, c, w, h), scale, levels))
    yield looks("scale 0: the step of DDIM", drawn(shape, 0.0, levels, wrap=tensor), by_scale)
    yield looks("scale 1", drawn(shape, 1.0, levels))
    yield looks("a scale below 1", drawn(shape, scale / 8, levels, wrap=tensor), by_scale)
    yield looks("a scale of 25, a whole number", drawn(shape, 25, levels, wrap=tensor), by_scale)
    yield looks("a scale of 1,000", drawn(shape, 1e3, levels, wrap=tensor), by_scale)
    yield looks("a scale below 0: away from the class", drawn(shape, -scale, levels), by_scale)
    name = "the last step, alpha_bar_prev = 1: it ends at the guided x_0"
    last = (float(draw.uniform(0.9, 0.99)), 1.0)
    yield looks(f"{name}, as tensors", drawn(shape, scale, last, wrap=tensor))
    yield looks(f"{name}, as floats", drawn(shape, scale, last))
    first = (1e-4, float(draw.uniform(0.001, 0.01)))
    yield looks("a first step, alpha_bar nearly 0", drawn(shape, scale, first, wrap=tensor))
    yield looks("a short step, alpha_bar nearly 1", drawn(shape, scale, (0.9995, 0.9999)))
    yield looks("a step back, to more noise", drawn(shape, scale, levels[::-1], wrap=tensor))
    yield looks("no step at all", drawn(shape, scale, levels[:1] * 2, wrap=tensor))
    xt, *rest = drawn((b, b, h, h), scale, levels, wrap=tensor)
    yield looks("squares of large numbers", (1e3 * xt, *rest))
    xt, eps, gradient, *rest = drawn(shape, scale, levels)
    yield looks("a long gradient", (xt, eps, 1e3 * gradient, *rest))
    yield looks("no gradient", (xt, eps, 0 * gradient, *rest))
    yield looks("one picture of one channel", drawn((1, 1, h, w), scale, levels, wrap=tensor))
    yield looks("one number", drawn((1, 1, 1, 1), scale, levels, wrap=tensor))
    single = drawn(shape, scale, levels, torch.float32)
    yield looks("float32", single)
    yield looks("float32, alpha_bar as float64 tensors", (*single[:4], *map(tensor, levels)))
    yield looks("one more float32 step", drawn((b, c, w, h), scale, levels, torch.float32))


def _referee_guidance(formula):
    """Accept a formula if it is right at scales from -1.5 to 30, for pictures of some size."""
    generator = torch.Generator().manual_seed(0)
    for scale in (-1.5, 0.0, 0.3, 1.0, 1.7, 4.0, 7.5, 12.5, 30.0):
        pair = 2 * torch.randn(2, 3, 2, 4, 5, generator=generator, dtype=torch.float64)
        if not torch.allclose(formula(*pair, scale), right_guidance(*pair, scale)):
            return False
    return True


@exercise(reference=_referee_guidance, kind="referee")
def referee_guidance(candidate, draw):
    why = (
        "what you compare with is wrong (s = 0 is the prediction without a class, s = 1 the one "
        "with it), or the test is too strict"
    )
    right = {f"it rejects {name}: {why}": formula for name, formula in RIGHT_FORMULAS.items()}
    yield rules("accepts the right formula, however written", candidate, True, right)
    message = f"asked again, it rejects the right formula: {why}"
    for family, hints in WRONG_FORMULAS.items():
        wrong = {
            f"it accepts a formula with {slip}: {hint}": formula
            for hint, formulas in hints.items()
            for slip, formula in formulas.items()
        }
        yield rules(f"rejects {family}", candidate, False, wrong)
        again = list(RIGHT_FORMULAS.values())[draw.integer(0, len(RIGHT_FORMULAS) - 1)]
        found = decides("accepts the right formula, asked again", candidate, again, True, message)
        if not found.passed:
            yield found
            return
    yield found


def _guided_mean():
    """Dhariwal & Nichol 2021, Algorithm 1, the gradient taken at the mean of the step."""
    return moved_mean()


guided_mean = number(
    "guided_mean",
    right=moved_mean(),
    wrong=MEAN_MISTAKES,
    reference=_guided_mean,
    tolerance=0.0014,
)
