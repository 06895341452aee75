"""Checks of notebook 52."""

from dataclasses import replace

import torch

from course.teach.checks._common import recognised
from course.teach.checks._latent_diffusion import (
    DRAW_MISTAKES,
    DROP_MISTAKES,
    right_draw,
    right_drop,
)
from course.teach.checks._pipeline_suspects import FAULTS, HINTS, SUSPECTS, diagnosed
from course.teach.exercise import Property, attempt, decides, exercise, handed_in


def _generator(seed):
    return torch.Generator().manual_seed(seed)


def _seeded(drop):
    """The same, of a seed in place of a generator, which a call would change."""
    return lambda tokens, null, share, seed: drop(tokens, null, share, _generator(seed))


def _drawn_once(name, candidate, inputs):
    """Property: the generator that is handed in gives one number a row, and no other is used."""
    tokens, null, share, seed = inputs
    generator, want = _generator(seed), _generator(seed)
    torch.rand(len(tokens), generator=want)
    before = torch.random.get_rng_state()
    _, problem = attempt(name, candidate, tokens.clone(), null.clone(), share, generator)
    if problem:
        return problem
    message = ""
    if not torch.equal(before, torch.random.get_rng_state()):
        message = "PyTorch's global random numbers are used: hand on the generator"
    elif torch.equal(generator.get_state(), _generator(seed).get_state()):
        message = "the generator is not used"
    elif not torch.equal(generator.get_state(), want.get_state()):
        message = "the generator is asked for other numbers than torch.rand(len(tokens)), once"
    return Property(name, not message, message)


@exercise(reference=right_drop)
def drop_captions(candidate, draw):
    def drawn(b, m, share):
        tokens = draw.uniform(10, 900, b, m).long()
        return tokens, draw.uniform(1000, 1900, m).long(), share, draw.integer(0, 10_000)

    def looks(name, inputs):
        want = _seeded(right_drop)(*inputs)
        wrong = {cause: _seeded(mistake) for cause, mistake in DROP_MISTAKES.items()}
        return recognised(name, _seeded(candidate), inputs, want, wrong, "B M")

    b, m = draw.integer(40, 50), draw.integer(6, 9)
    inputs = drawn(b, m, float(draw.uniform(0.25, 0.35)))
    yield looks("about a third of the captions", inputs)
    yield _drawn_once("one random number a caption", candidate, inputs)
    yield looks("one in ten of many", drawn(4 * b, m, 0.1))
    yield looks("three of four", drawn(b, m + 3, 0.75))
    yield looks("share 0: none", drawn(b, m, 0.0))
    yield looks("share 1: all", drawn(b, m, 1.0))
    yield looks("as many captions as tokens", drawn(9, 9, 0.5))
    yield looks("one token", drawn(b, 1, 0.4))
    yield looks("one caption", drawn(1, m, 0.5))
    yield looks("fewer captions than tokens", drawn(5, 77, 0.5))
    tokens, null, share, seed = drawn(b, m, 0.5)
    yield looks(
        "captions that share tokens with the empty one", (tokens % 3, null % 3, share, seed)
    )


def _parts(draw, channels, dtype=torch.float64):
    """A predictor that hears the step, and a decoder that makes pictures of latents."""
    gains, shifts = (draw.uniform(-0.5, 0.5, 40).to(dtype) for _ in range(2))
    mixed = draw.normal(3, channels).to(dtype) / channels**0.5

    def predict(x, i):
        if isinstance(i, torch.Tensor) or i != int(i):
            raise ValueError(f"predict takes i as an int, came {i!r}")
        if not 0 <= i < len(gains):
            raise ValueError(f"there is no step {i}")
        return gains[int(i)] * torch.tanh(x) + shifts[int(i)]

    def decode(z):
        if z.ndim != 4 or z.shape[1] not in (3, channels):
            raise ValueError(f"decode takes latents (B, {channels}, h, w), came {tuple(z.shape)}")
        z = z if z.shape[1] == 3 and channels != 3 else torch.einsum("oc,bchw->bohw", mixed, z)
        return 0.2 * z.repeat_interleave(2, 2).repeat_interleave(2, 3) + 0.05

    return handed_in(predict), handed_in(decode)


@exercise(reference=right_draw)
def draw_latent(candidate, draw):
    def drawn(b, c, h, w, steps, factor, size=1.0, dtype=torch.float64):
        bars = draw.uniform(0.03, 0.97, steps).sort(descending=True).values
        x = size * draw.normal(b, c, h, w).to(dtype)
        return (*_parts(draw, c, dtype), x, bars.to(dtype), factor)

    def looks(name, inputs):
        return recognised(name, candidate, inputs, right_draw(*inputs), DRAW_MISTAKES)

    b, c, h, w = draw.integer(2, 3), draw.integer(4, 5), draw.integer(6, 7), draw.integer(8, 9)
    factor = float(draw.uniform(0.4, 0.6))
    yield looks("several steps", drawn(b, c, h, w, 5, factor))
    yield looks("a factor above 1", drawn(b, c, w, h, 4, 1 / factor))
    yield looks(
        "Stable Diffusion's factor: much of the picture is clamped", drawn(b, c, h, w, 4, 0.18215)
    )
    yield looks("a factor of 1", drawn(b, c, h, w, 4, 1.0))
    yield looks("two steps", drawn(b, c, h, w, 2, factor))
    yield looks("one step", drawn(b, c, h, w, 1, factor))
    yield looks("many steps", drawn(1, c, h, w, 30, factor))
    yield looks("large latents", drawn(b, c, h, w, 4, factor, size=6.0))
    yield looks("one place", drawn(b, c, 1, 1, 3, factor))
    predict, decode, x, bars, factor = drawn(b, c, h, w, 3, factor)
    bars = torch.tensor([0.9999, 0.5, 1e-6], dtype=torch.float64)
    yield looks("from nearly pure noise to nearly none", (predict, decode, x, bars, factor))
    yield looks("float32", drawn(b, c, h, w, 4, factor, dtype=torch.float32))


@exercise(reference=diagnosed)
def diagnose_pipeline(candidate, draw):
    for what, fault, suspect in SUSPECTS:
        said = []

        def names(subject, said=said, fault=fault):
            said.append(candidate(subject))
            return isinstance(said[-1], str) and said[-1] == fault

        found = decides(f"{fault!r}: {what}", names, suspect, True, "")
        if not found.passed and said:
            found = replace(found, message=_misnamed(said[-1], what, fault))
        yield found


def _misnamed(said, what, fault):
    if said is None:
        return "it returns None: is a return missing on some way through?"
    if not isinstance(said, str) or said not in FAULTS:
        return f"expected one of {', '.join(map(repr, FAULTS))}, got {said!r}"[:160]
    return f"it says {said!r} of {what}, which is {fault!r}: {HINTS[fault]}"
