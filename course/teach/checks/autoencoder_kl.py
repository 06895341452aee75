"""Checks of notebook 51."""

from dataclasses import replace

import numpy as np
import torch

from course.teach.checks._common import recognised
from course.teach.checks._halve import HALVE_MISTAKES, right_halve
from course.teach.checks._latent import (
    CLAMP_MISTAKES,
    KL_MISTAKES,
    SPLIT_MISTAKES,
    Z_MISTAKES,
    right_sample,
)
from course.teach.checks._scale_factor import right_scale, scale_mistakes
from course.teach.exercise import Property, attempt, differentiable, exercise, number

NAN = "it contains nan: a log-variance may be negative, take exp of it, neither root nor logarithm"
NOT_ITS_NOISE = "the noise is not that of `generator`: hand it to torch.randn(..., generator=...)"
SAME_NOISE = "the noise is the same whatever the generator holds: draw it from `generator`"


def _single(inputs):
    return tuple(x.float() for x in inputs)


def _kept_precise(candidate, inputs, want):
    """Property: what is float64 is not float32 on the way; what else is wrong is left to others."""
    name = "float64 throughout"
    got, _ = attempt(name, candidate, *(x.clone() for x in inputs))
    if isinstance(got, torch.Tensor) and (got.shape, got.dtype) == (want.shape, torch.float64):
        gap = float((got - want).abs().max() / want.abs().max())
        if gap < 1e-5:
            message = "nearly: it is computed in float32 on the way, or a small number is added"
            yield Property(name, gap < 1e-10, "" if gap < 1e-10 else message)


@exercise(reference=right_halve)
def halve(candidate, draw):
    def drawn(batch, ins, outs, size):
        weight = draw.normal(outs, ins, 3, 3) / (9 * ins) ** 0.5
        return 0.5 + draw.normal(batch, ins, *size), weight, 0.3 + draw.normal(outs)

    def looks(name, inputs):
        return recognised(name, candidate, inputs, right_halve(*inputs), HALVE_MISTAKES)

    b, ins, outs = draw.integer(2, 3), draw.integer(4, 5), draw.integer(6, 7)
    h, w = 8 + 4 * draw.integer(0, 1), 18 + 4 * draw.integer(0, 1)  # one is no multiple of 4
    inputs = drawn(b, ins, outs, (h, w))
    yield from _kept_precise(candidate, inputs, right_halve(*inputs))
    yield looks("more channels out than in", inputs)
    yield looks("the same pictures, another kernel", (inputs[0], *drawn(b, ins, outs, (h, w))[1:]))
    yield looks("as many channels out as in", drawn(b, ins, ins, (w, h)))
    yield looks("fewer channels out than in", drawn(b, outs, ins, (h + 2, w + 2)))
    yield looks("a square", drawn(b, ins, outs, (h, h)))
    yield looks("one picture of one channel, one channel out", drawn(1, 1, 1, (6, 4)))
    yield looks("two pixels high", drawn(b, ins, outs, (2, h)))
    yield looks("two pixels wide", drawn(b, outs, ins, (w, 2)))
    yield looks("a single window", drawn(b + 4, ins, 1, (2, 2)))
    x, weight, bias = drawn(2, 3, 4, (32, 48))
    yield looks("a large picture of large numbers", (1e3 * x - 2e3, weight, bias))
    flat = torch.ones(b, ins, h, w, dtype=torch.float64)
    yield looks("a picture of one colour: only the last row and column differ", (flat, *inputs[1:]))
    yield looks("float32", _single(drawn(b, ins, outs, (w, h))))
    inputs = drawn(b, outs, ins, (h, w))
    by = {"x": 0, "weight": 1, "bias": 2}
    weighed = draw.normal(b, ins, h // 2, w // 2)
    yield differentiable(
        "gradients by x, weight and bias",
        lambda *inputs: candidate(*inputs) * weighed,
        lambda *inputs: right_halve(*inputs) * weighed,
        inputs,
        by,
    )


def _from(state):
    """A generator that is there."""
    seed, skipped = state
    generator = torch.Generator().manual_seed(seed)
    torch.rand(skipped, generator=generator)
    return generator


def _part(function, i, state):
    """z or the KL divergence, made with a generator that always starts alike."""
    return lambda moments: function(moments, _from(state))[i]


def _is_a_pair(name, candidate, inputs):
    """Why what comes back is not two things, if it is not; what raises is left to others."""
    got, problem = attempt(name, candidate, *inputs)
    if problem:
        return
    if isinstance(got, torch.Tensor):
        yield Property(name, False, "it returns one tensor: return both, z and the KL divergence")
    elif not isinstance(got, tuple | list):
        came = "None: is the return missing?" if got is None else type(got).__name__
        yield Property(name, False, f"expected two tensors, z and kl, got {came}")
    elif len(got) != 2:
        yield Property(name, False, f"expected two tensors, z and kl, got {len(got)} things")


def _why_another_noise(part, other, moments):
    """What is wrong with the noise of a draw that no known mistake makes, or None."""
    first, again, elsewhere = part(moments), part(moments), other(moments)
    if not torch.equal(first, again):
        return NOT_ITS_NOISE
    return SAME_NOISE if torch.equal(first, elsewhere) else None


def _one_draw(candidate, moments, state):
    """Properties: of the generator as much is used as one draw takes, of torch's own nothing."""
    name = "one draw from `generator`"
    mine, right, before = _from(state), _from(state), _from(state).get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(state[0])
        own = torch.get_rng_state()
        _, problem = attempt(name, candidate, moments.clone(), mine)
        untouched = torch.equal(own, torch.get_rng_state())
    if problem:
        yield problem
        return
    right_sample(moments, right)
    message = ""
    if torch.equal(mine.get_state(), before):
        message = (
            "`generator` is left where it was, so the next call draws the same noise: use the one "
            "that is handed in, no copy, and do not set it back"
        )
    elif not torch.equal(mine.get_state(), right.get_state()):
        message = "`generator` is drawn from, or seeded, once more: one draw, of mean.shape"
    yield Property(name, not message, message)
    message = "" if untouched else "torch's global generator is used or seeded: only `generator`"
    yield Property("torch's global generator is left alone", untouched, message)


@exercise(reference=right_sample)
def sample_latent(candidate, draw):
    state = draw.integer(0, 2**31), 1 + draw.integer(0, 30)
    other = draw.integer(0, 2**31), 40

    def moments_of(batch, channels, size):
        mean, logvar = draw.normal(batch, channels, *size), draw.normal(batch, channels, *size)
        return torch.cat([0.4 + mean, 1.2 * logvar - 0.5], dim=1)

    def looks(
        name,
        moments,
        wrong=SPLIT_MISTAKES | CLAMP_MISTAKES,
        of_z=Z_MISTAKES,
        of_kl=KL_MISTAKES,
        scale=1.0,
    ):
        broken = list(_is_a_pair(name, candidate, (moments.clone(), _from(state))))
        if broken:
            yield from broken
            return

        def scaled(function):
            return lambda moments: scale * _part(function, 0, state)(moments)

        for part, mistakes, axes, of in (
            ("z", of_z, "B C h w", scaled if scale != 1 else lambda f: _part(f, 0, state)),
            ("KL", of_kl, "B", lambda f: _part(f, 1, state)),
        ):
            mistakes = {cause: of(mistake) for cause, mistake in (wrong | mistakes).items()}
            want = of(right_sample)(moments)
            found = recognised(f"{name}: {part}", of(candidate), (moments,), want, mistakes, axes)
            if found.message == "it contains nan":
                found = replace(found, message=NAN)
            if part == "z" and found.message.startswith(("at ", "two calls")):
                cause, _ = attempt(
                    name, _why_another_noise, of(candidate), _part(candidate, 0, other), moments
                )
                found = replace(found, message=cause or found.message)
            if found.message in CLAMP_MISTAKES:
                found = replace(found, message=f"in {part}, {found.message}")
            yield found

    b, c = 2 * draw.integer(1, 2), 2 * draw.integer(3, 4) - 1
    h, w = 2 * draw.integer(5, 6), 2 * draw.integer(7, 8)
    moments = moments_of(b, c, (h, w))
    for i in range(2):
        want = _part(right_sample, i, state)(moments)
        yield from _kept_precise(_part(candidate, i, state), (moments,), want)
    yield from looks("a batch", moments)
    yield from looks("as many pictures as channels, wider than high", moments_of(c, c, (3, 5)))
    yield from looks("higher than wide, four channels", moments_of(b + 1, 4, (w, h)))
    yield from looks("one picture, one channel", moments_of(1, 1, (h, w)))
    yield from looks("one place", moments_of(b, c, (1, 1)))
    yield from looks("one number", moments_of(1, 1, (1, 1)))
    yield from looks("float32", moments_of(b + 1, c, (h, w)).float())
    moments = moments_of(3, c, (h, w))
    moments[:, :c] *= torch.tensor([0.0, 0.0, 40.0], dtype=torch.float64)[:, None, None, None]
    moments[0, c:] = draw.uniform(-90, -70, c, h, w)
    moments[1, c:] = draw.uniform(50, 60, c, h, w)
    name = "log-variances below -30 (z times 1e7) and above 20, means of 40"
    yield from looks(name, moments, CLAMP_MISTAKES, {}, {}, 1e7)
    yield from looks(f"{name}, float32", moments.float(), CLAMP_MISTAKES, {}, {})
    moments = moments_of(b, c, (h, w))
    yield from looks("mean 0, variance 1: no divergence", torch.zeros_like(moments), {}, {}, {})
    yield from _one_draw(candidate, moments, state)
    moments[:, c : c + 2] *= 40  # some beyond both ends
    weighed = draw.normal(b, c, h, w), draw.normal(b)
    for i, part in enumerate(("z", "the KL divergence")):

        def of(function, i=i):
            part = _part(function, i, state)
            return lambda mean, logvar: part(torch.cat([mean, logvar], dim=1)) * weighed[i]

        name = f"gradients of {part} by mean and log-variance"
        inputs = (moments[:, :c], moments[:, c:])
        by = {"the mean": 0, "the log-variance": 1}
        found = differentiable(name, of(candidate), of(right_sample), inputs, by)
        if not found.passed and found.attempted:
            found = replace(found, message=f"of {part}: {found.message}")
        yield found


def _one_number(found):
    """A tensor () in float64 of a number, however it is wrapped; else what came."""
    if isinstance(found, torch.Tensor) and found.ndim == 0 and found.is_floating_point():
        return found.detach().to(torch.float64)
    if isinstance(found, np.ndarray | np.generic) and found.ndim == 0:
        found = found.item()
    return torch.tensor(found, dtype=torch.float64) if type(found) is float else found


def _scale(function):
    """Of a function that takes the std of a sample (n - 1) or of a population (n): the first."""

    def scale(z):
        found = _one_number(function(z))
        if isinstance(found, torch.Tensor) and found.ndim == 0:
            z = z.to(torch.float64)
            if torch.isclose(found, 1 / z.std(correction=0), rtol=1e-5, atol=0):
                return 1 / z.std()
        return found

    return scale


@exercise(reference=right_scale)
def scale_factor(candidate, draw):
    def latents(batch, channels, size):
        """Pictures, channels, rows and columns that differ, about a mean that is not 0."""
        z = 2 * draw.normal(batch, channels, *size)
        for axis in range(4):
            along = [-1 if i == axis else 1 for i in range(4)]
            z = z * draw.uniform(0.5, 2, z.shape[axis]).reshape(along)
            z = z + (1 + draw.normal(z.shape[axis])).reshape(along)
        return z

    def looks(name, z):
        want = _one_number(right_scale(z.to(torch.float64)))
        for correction in (1, 0):
            mistakes = scale_mistakes(correction)
            wrong = {cause: _scale(mistake) for cause, mistake in mistakes.items()}
            found = recognised(name, _scale(candidate), (z,), want, wrong)
            if found.message in wrong:
                break
        problem, _, came = found.message.partition(", got ")
        if problem.startswith("expected a torch tensor") and came:
            found = replace(found, message=f"expected one number, a float or a tensor, got {came}")
        elif problem == "expected shape ()":
            found = replace(found, message=f"expected one number, got a tensor of shape {came}")
        return found

    b, c = draw.integer(4, 5), draw.integer(6, 7)
    h, w = draw.integer(8, 9), draw.integer(10, 11)
    yield looks("latents of several pictures", latents(b, c, (h, w)))
    yield looks("four channels, higher than wide", latents(b + 1, 4, (w, h)))
    many = latents(300, 3, (h, w))
    many[150:] *= 3
    yield looks("many pictures, of which the later ones are wilder", many)
    yield looks("one picture", latents(1, c, (h, w)))
    yield looks("one channel", latents(b, 1, (w, h)))
    yield looks("two places", latents(b, c, (1, 2)))
    yield looks("four numbers", latents(2, 1, (1, 2)))
    z = latents(b, c, (h, w))
    yield looks("far from 0", z - 200)
    yield looks("large latents", 1e4 * z)
    yield looks("small latents", 1e-4 * z)
    name = "latents of Stable Diffusion's size, about 0"
    yield looks(name, (z - z.mean()) / z.std() * draw.uniform(4.5, 6))
    yield looks("float32", latents(b, c, (w, h)).float())


def _count(channels=4, f=8, height=512, width=768):
    return channels * (height // f) * (width // f)


def _count_latent():
    """A picture of 512 x 768, in Stable Diffusion 1.5."""
    return _count()


count_latent = number(
    "count_latent",
    right=_count(),
    wrong={
        "this is f = 4, or counts bytes of float32, or 16 channels: f = 8, and 4 channels": _count(
            f=4
        ),
        "these are the places of the latent, each has 4 channels (or f = 16: here f = 8)": _count(
            channels=1
        ),
        "this counts 3 channels, those of the picture: the latent has 4": _count(channels=3),
        "this counts mean and log-variance, or two pictures: the latent has 4 channels": _count(
            channels=8
        ),
        "these are the numbers of the picture: height and width are divided by 8": _count(3, 1),
        "this has the picture's height and width: both are divided by 8": _count(f=1),
        "these are the pixels of the picture (or f = 2): divide by 8 both ways, 4 channels": _count(
            1, 1
        ),
        "only one side is divided by 8: both are": _count() * 8,
        "height and width are divided by 8 each: this divides once more": _count() / 8,
        "the numbers of the picture are divided by 8 once: height by 8, width by 8": (
            _count(3, 1) / 8
        ),
        "this is f = 32: here f = 8": _count(f=32),
        "this is the latent of a square of 512 pixels: 768 / 8 = 96 columns": _count(width=512),
        "this is the latent of a square of 768 pixels: 512 / 8 = 64 rows": _count(height=768),
        "this is how many times fewer numbers there are: the numbers of the latent": 48,
        "this counts the 320 channels inside the U-Net: the latent has 4": _count(320),
        "this counts the 512 channels inside the autoencoder: the latent has 4": _count(512),
        "this counts two channels: the latent has 4": _count(2),
    },
    reference=_count_latent,
    tolerance=0,
)
