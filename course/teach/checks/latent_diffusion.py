"""Checks of notebook 52."""

from dataclasses import replace
from functools import partial

import torch

from course.teach.checks._common import names_fault, recognised
from course.teach.checks._latent_diffusion import (
    DRAW_MISTAKES,
    DROP_MISTAKES,
    right_draw,
    right_drop,
)
from course.teach.checks._pipeline_suspects import HINTS, SUSPECTS, diagnosed
from course.teach.exercise import DIFFERS, Property, attempt, exercise, handed_in


def _generator(seed):
    return torch.Generator().manual_seed(seed)


def _seeded(drop):
    """The same, of a seed in place of a generator, which a call would change."""
    return lambda tokens, null, share, seed: drop(tokens, null, share, _generator(seed))


def _misdrawn(candidate, tokens, null, share, seed):
    """What is wrong with how random numbers are drawn, or nothing."""
    generator, want = _generator(seed), _generator(seed)
    torch.rand(len(tokens), generator=want)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        before = torch.random.get_rng_state()
        candidate(tokens.clone(), null.clone(), share, generator)
        after = torch.random.get_rng_state()
    if not torch.equal(before, after):
        return "PyTorch's global random numbers are used: hand on the generator"
    if torch.equal(generator.get_state(), _generator(seed).get_state()):
        return "the generator is not used: a row is dropped where its own random number says so"
    if not torch.equal(generator.get_state(), want.get_state()):
        return "the generator is asked for other numbers than torch.rand(len(tokens)), once"
    return ""


def _drawn_once(name, candidate, inputs):
    """Property: the generator that is handed in gives one number a row, and no other is used."""
    message, problem = attempt(name, partial(_misdrawn, candidate), *inputs)
    return problem or Property(name, not message, message)


def _anew(name, candidate, inputs):
    """Property: what comes back shares no memory with what was handed in."""
    tokens, null, share, seed = inputs
    tokens, null = tokens.clone(), null.clone()
    got, problem = attempt(name, candidate, tokens, null, share, _generator(seed))
    message = ""
    if isinstance(got, torch.Tensor):
        place = got.untyped_storage().data_ptr()
        for given, what in ((tokens, "tokens"), (null, "null")):
            if place == given.untyped_storage().data_ptr():
                message = f"it hands back the memory of {what}: make a new tensor"
    return problem or Property(name, not message, message)


@exercise(reference=right_drop)
def drop_captions(candidate, draw):
    wrong = {cause: _seeded(mistake) for cause, mistake in DROP_MISTAKES.items()}

    def drawn(b, m, share):
        tokens = draw.uniform(10, 900, b, m).long()
        return tokens, draw.uniform(1000, 1900, m).long(), share, draw.integer(0, 10_000)

    def looks(name, inputs, wrong=wrong):
        want = _seeded(right_drop)(*inputs)
        found = recognised(name, _seeded(candidate), inputs, want, wrong, "B M")
        if found.message == DIFFERS or found.message.startswith("at ["):
            drawing, _ = attempt(name, partial(_misdrawn, candidate), *inputs)
            return replace(found, message=drawing or found.message)
        return found

    b, m = draw.integer(40, 50), draw.integer(6, 9)
    inputs = drawn(b, m, float(draw.uniform(0.25, 0.35)))
    yield looks("about a third of the captions", inputs)
    yield _drawn_once("one random number a caption", candidate, inputs)
    yield looks("one in ten of many", drawn(4 * b, m, 0.1))
    yield looks("three of four", drawn(b, m + 3, 0.75))
    for name, share in (("share 0: none", 0.0), ("share 1: all", 1.0)):
        inputs = drawn(b, m, share)
        yield looks(name, inputs)
        yield _anew(f"{name}, in a new tensor", candidate, inputs)
        yield _drawn_once(f"{name}, and the generator moves on", candidate, inputs)
    yield looks("as many captions as tokens", drawn(9, 9, 0.5))
    yield looks("one token", drawn(b, 1, 0.4))
    tokens, null, _, seed = drawn(1, m, 0.5)
    number = float(torch.rand(1, generator=_generator(seed)))
    yield looks("one caption that is kept", (tokens, null, 0.9 * number, seed))
    yield looks("one caption that is dropped", (tokens, null, min(1.1 * number, 1.0), seed))
    yield looks("fewer captions than tokens", drawn(5, 77, 0.5))
    tokens, null, share, seed = drawn(b, m, 0.5)
    shared = (tokens % 3, null % 3, share, seed)
    yield looks("captions that share tokens with the empty one", shared)
    tokens, null, _, seed = drawn(b, m, 0.5)
    level = float(torch.rand(b, generator=_generator(seed)).sort().values[b // 2])
    message = "a row whose number is the share itself is dropped: only one whose number is below it"

    def at_most(tokens, null, share, generator):
        rows = torch.rand(len(tokens), generator=generator) <= share
        return torch.where(rows[:, None], null, tokens)

    inputs = (tokens, null, level, seed)
    yield looks("a number that is the share itself", inputs, {message: _seeded(at_most)})


def _parts(draw, channels, h, w, dtype, loud):
    """A predictor that hears the step, a decoder that makes pictures of latents, their calls."""
    gains, shifts = (loud * draw.uniform(-0.6, 0.6, 40).to(dtype) for _ in range(2))
    places = draw.normal(channels, h, w).to(dtype)
    mixed = draw.normal(3, channels).to(dtype) / channels**0.5
    bias = draw.uniform(0.2, 0.4, 3, 1, 1).to(dtype)
    told, decoded = [], []

    def predict(x, i):
        if not isinstance(i, int):
            raise TypeError(f"predict takes i as an int, not {type(i).__name__}")
        if not 0 <= i < len(gains):
            raise IndexError(f"there is no step {i}")
        told.append(i)
        return gains[i] * torch.tanh(x + places) + shifts[i]

    def decode(z):
        decoded.append(tuple(z.shape))
        if z.ndim != 4 or z.shape[1] != channels:
            raise RuntimeError(f"decode takes latents (B, {channels}, h, w), came {tuple(z.shape)}")
        picture = 1.4 * torch.tanh(0.7 * torch.einsum("oc,bchw->bohw", mixed, z) + bias)
        return picture.repeat_interleave(2, 2).repeat_interleave(2, 3)

    return handed_in(predict), handed_in(decode), told, decoded


def _calls(name, candidate, inputs, told, decoded):
    """Property: predict hears each step once, in order, and decode is called once, on all."""
    _, _, x, bars, _ = inputs
    told.clear()
    decoded.clear()
    copies = [item.clone() if isinstance(item, torch.Tensor) else item for item in inputs]
    _, problem = attempt(name, candidate, *copies)
    want, message = list(range(len(bars) - 1, -1, -1)), ""
    if told != want:
        message = f"predict is called {len(told)} times for {len(want)} steps: once a step"
        if len(told) == len(want):
            message = f"predict is told the steps {told}: they are {want}"
    elif len(decoded) != 1:
        message = (
            f"decode is called {len(decoded)} times: once, on all latents, after the last step"
        )
    elif decoded[0] != tuple(x.shape):
        message = f"decode is handed {decoded[0]}: expected the latents, {tuple(x.shape)}"
    return problem or Property(name, not message, message)


@exercise(reference=right_draw)
def draw_latent(candidate, draw):
    def drawn(b, c, h, w, steps, factor, size=1.0, dtype=torch.float64, loud=1.0):
        """Levels far enough from each other that no two steps are alike."""
        bars = 0.95 * draw.uniform(0.6, 0.85, steps).cumprod(0)
        predict, decode, *calls = _parts(draw, c, h, w, dtype, loud)
        x = size * draw.normal(b, c, h, w).to(dtype)
        return (predict, decode, x, bars.to(dtype), factor), calls

    failed = []

    def looks(name, inputs):
        causes = {} if failed else DRAW_MISTAKES  # the first cause is the one that is read
        found = recognised(name, candidate, inputs, right_draw(*inputs), causes)
        failed.extend([found] * (not found.passed))
        return found

    b, c, h, w = draw.integer(2, 3), draw.integer(4, 5), draw.integer(6, 7), draw.integer(8, 9)
    factor = float(draw.uniform(0.6, 0.75))
    inputs, calls = drawn(b, c, h, w, 4, factor)
    yield looks("several steps", inputs)
    yield _calls("predict is called once a step, decode once", candidate, inputs, *calls)
    yield looks("a factor above 1", drawn(b, c, w, h, 4, 1 / factor)[0])
    name = "Stable Diffusion's factor: much of the picture is clamped"
    yield looks(name, drawn(b, c, h, w, 4, 0.18215)[0])
    yield looks("a factor of 1", drawn(b, c, h, w, 4, 1.0)[0])
    yield looks("a factor of 2, a whole number", drawn(b, c, h, w, 3, 2)[0])
    yield looks("two steps", drawn(b, c, h, w, 2, factor)[0])
    inputs, calls = drawn(b, c, h, w, 1, factor)
    yield looks("one step", inputs)
    yield _calls("one step: each is called once", candidate, inputs, *calls)
    inputs, calls = drawn(b, c, h, w, 20, factor)
    yield looks("many steps", inputs)
    yield _calls("many steps: predict once a step", candidate, inputs, *calls)
    yield looks("large latents", drawn(b, c, h, w, 4, factor, size=50.0)[0])
    yield looks("large predictions of noise", drawn(b, c, h, w, 4, factor, loud=20.0)[0])
    yield looks("one latent of one place", drawn(1, c, 1, 1, 3, factor)[0])
    yield looks("squares", drawn(c, c, c, c, 3, factor)[0])
    predict, decode, x, _, factor = drawn(b, c, h, w, 3, factor)[0]
    bars = torch.tensor([0.9999, 0.5, 1e-6], dtype=torch.float64)
    yield looks("from nearly pure noise to nearly none", (predict, decode, x, bars, factor))
    yield looks("float32", drawn(b, c, h, w, 4, factor, dtype=torch.float32)[0])
    predict, decode, x, bars, factor = drawn(b, c, w, h, 4, factor, dtype=torch.float32)[0]
    name = "float32, alpha_bar in float64 (a number of a table changes no dtype)"
    yield looks(name, (predict, decode, x, bars.double(), factor))


@exercise(reference=diagnosed)
def diagnose_pipeline(candidate, draw):
    for k in draw.uniform(0, 1, len(SUSPECTS)).argsort().tolist():
        what, fault, suspect = SUSPECTS[k]
        yield names_fault(candidate, what, fault, suspect, HINTS)
