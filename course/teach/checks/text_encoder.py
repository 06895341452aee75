"""Checks of notebook 41; that of merge_step is in `byte_pairs`."""

import math
from dataclasses import replace

import torch

from course.teach.checks._common import recognised, rules
from course.teach.checks._contrastive import (
    LIMIT_MISTAKES,
    LOSS_MISTAKES,
    finding,
    right_contrastive_loss,
)
from course.teach.checks._referee_axis import RIGHT_FORMULAS, WRONG_FORMULAS
from course.teach.checks._text_encoder import (
    MASK_MISTAKES,
    MASK_MISTAKES_BEHIND,
    POOL_MISTAKES,
    POOL_MISTAKES_BEHIND,
    right_pool_at_end,
    right_text_mask,
)
from course.teach.checks.byte_pairs import merge_step
from course.teach.exercise import attempt, decides, differentiable, exercise

__all__ = ["contrastive_loss", "merge_step", "pool_at_end", "referee_axis", "text_mask"]


def _others(draw, end, *shape, highest=11):
    """Tokens that are not `end`."""
    tokens = draw.uniform(0, highest, *shape).long()
    return tokens + (tokens >= end)


def _texts(draw, firsts, length, end, highest=11):
    """Tokens with the first end tokens at these places, filled up with end tokens."""
    tokens = _others(draw, end, len(firsts), length, highest=highest)
    return tokens.where(torch.arange(length) < torch.tensor(firsts)[:, None], end)


def _endings(draw, batch, length):
    """Places of first end tokens, all different; the first text is no longest and no shortest."""
    places = 1 + draw.uniform(0, 1, length - 2).argsort()[:batch]
    low, middle, *others = places.sort().values.tolist()
    order = draw.uniform(0, 1, batch - 1).argsort().tolist()
    return [middle, *([low, *others][i] for i in order)]


def _filled(draw):
    """Texts of several lengths, and the number of the end token."""
    batch, length, end = draw.integer(3, 4), draw.integer(7, 9), draw.integer(4, 7)
    return _texts(draw, _endings(draw, batch, length), length, end), end


def _followed(draw):
    """The same, with other numbers and end tokens mixed behind the first end tokens."""
    batch, length, end = draw.integer(4, 5), draw.integer(12, 14), draw.integer(4, 7)
    firsts = _endings(draw, batch, length - 5)
    behind = torch.arange(length) > torch.tensor(firsts)[:, None]
    mixed = behind & (draw.uniform(0, 1, batch, length) < 0.5)
    mixed[:, -1] = torch.arange(batch) % 2 == 0
    return _others(draw, end, batch, length).where(mixed, _texts(draw, firsts, length, end)), end


def _one_followed(draw, length):
    """One text, with other numbers behind the first end token, 6, and at the last place."""
    tokens = _texts(draw, [3], length, 6)
    tokens[0, [5, -1]] = torch.tensor([8, 2])
    return tokens, 6


def _told_apart(make, right, wrong, tries=100):
    """Random inputs for which all mistakes differ, from the right answer and from each other."""
    for _ in range(tries):
        inputs, seen = make(), []
        for function in (right, *wrong.values()):
            answer, problem = attempt("", function, *inputs)
            if problem is None:
                seen.append(answer.double())
        if not any(
            a.shape == b.shape and torch.allclose(a, b, rtol=1e-4)
            for i, a in enumerate(seen)
            for b in seen[:i]
        ):
            break
    return inputs


BEHIND = "other numbers and end tokens behind the first end token, up to the last place"
LAST = "one text, its last token is no end token"


@exercise(reference=right_text_mask)
def text_mask(candidate, draw):
    def looks(name, *inputs, wrong=MASK_MISTAKES | MASK_MISTAKES_BEHIND):
        return recognised(name, candidate, inputs, right_text_mask(*inputs), wrong, "B M M")

    def told_apart(make, wrong):
        return _told_apart(lambda: make(draw), right_text_mask, wrong)

    yield looks("texts of several lengths", *told_apart(_filled, MASK_MISTAKES))
    name, wrong = f"{BEHIND}: only the end tokens are filling", MASK_MISTAKES_BEHIND
    yield looks(name, *told_apart(_followed, wrong), wrong=wrong)
    b, m = draw.integer(3, 4), draw.integer(10, 12)
    yield looks("the end token has the largest number", _texts(draw, [2, m - 2, 4], m, 11), 11)
    yield looks("the end token is 0", _texts(draw, [m - 3, 3, 5, 1], m, 0), 0)
    yield looks("texts without filling", _texts(draw, [m - 1] * b, m, 5), 5)
    yield looks("one text", _texts(draw, [draw.integer(2, 4)], m, 6), 6)
    yield looks(LAST, *_one_followed(draw, m))
    yield looks("as many texts as tokens", _texts(draw, [1, 3, 2, 4, 2], 5, 3), 3)
    yield looks("more texts than tokens", _texts(draw, [2, 1, 1, 2, 0], 3, 4), 4)
    yield looks("a text with nothing but end tokens", _texts(draw, [0, 2], m, 7), 7)
    yield looks("one token", _texts(draw, [0] * b, 1, 7), 7)
    lengths = [draw.integer(20, 70), draw.integer(5, 15)]
    name = "77 tokens with the numbers of CLIP"
    yield looks(name, _texts(draw, lengths, 77, 49407, 49407), 49407)


@exercise(reference=right_pool_at_end)
def pool_at_end(candidate, draw):
    def given(tokens, d, dtype=torch.float64):
        return draw.normal(*tokens.shape, d).to(dtype), tokens

    def looks(name, *inputs, wrong=POOL_MISTAKES | POOL_MISTAKES_BEHIND):
        return recognised(name, candidate, inputs, right_pool_at_end(*inputs), wrong, "B D")

    def told_apart(make, wrong):
        def made():
            tokens, end = make(draw)
            return *given(tokens, draw.integer(5, 6)), end

        return _told_apart(made, right_pool_at_end, wrong)

    inputs = told_apart(_filled, POOL_MISTAKES)
    yield looks("texts of several lengths", *inputs)
    wrong = POOL_MISTAKES_BEHIND
    yield looks(BEHIND, *told_apart(_followed, wrong), wrong=wrong)
    b, m, d = draw.integer(3, 4), draw.integer(10, 12), draw.integer(5, 6)
    name = "the end token has the largest number"
    yield looks(name, *given(_texts(draw, [2, m - 2, 4], m, 11), d), 11)
    yield looks("the end token is 0", *given(_texts(draw, [m - 3, 3, 5, 1], m, 0), d), 0)
    yield looks("texts without filling", *given(_texts(draw, [m - 1] * b, m, 5), d), 5)
    yield looks("one text", *given(_texts(draw, [draw.integer(2, 4)], m, 6), d), 6)
    tokens, end = _one_followed(draw, m)
    yield looks(LAST, *given(tokens, d), end)
    name = "as many texts as tokens, and as many axes"
    yield looks(name, *given(_texts(draw, [1, 3, 2, 4, 2], 5, 3), 5), 3)
    yield looks("more texts than tokens", *given(_texts(draw, [2, 1, 1, 2, 0], 3, 4), d), 4)
    name = "a text with nothing but end tokens"
    yield looks(name, *given(_texts(draw, [0, 2], m, 7), d), 7)
    yield looks("one token, one axis", *given(_texts(draw, [0] * b, 1, 7), 1), 7)
    tokens = _texts(draw, [3, m - 2, 1], m, 4)
    yield looks("float32", *given(tokens, d + 2, torch.float32), 4)
    tokens = _texts(draw, [draw.integer(20, 70), draw.integer(5, 15)], 77, 49407, 49407)
    yield looks("77 tokens with the numbers of CLIP", *given(tokens, d), 49407)
    name = "gradients by the vectors"
    yield differentiable(name, candidate, right_pool_at_end, inputs, {"hidden": 0})


NAN = "it contains nan: exp overflows, cross_entropy and log_softmax take the largest off before"


@exercise(reference=right_contrastive_loss)
def contrastive_loss(candidate, draw):
    def drawn(b, d, log_scale, spread=1.0):
        sizes = torch.exp(spread * draw.normal(2, b, 1))
        images, texts = sizes * draw.normal(2, b, d)
        return images, texts, torch.tensor(log_scale, dtype=torch.float64)

    def looks(name, inputs):
        want = right_contrastive_loss(*inputs)
        found = recognised(name, candidate, inputs, want, LOSS_MISTAKES | LIMIT_MISTAKES)
        if found.message == "it contains nan":
            found = replace(found, message=NAN)
        elif " inf" in found.message.split("got")[-1]:
            found = replace(found, message=NAN.replace("nan", "inf"))
        return found

    b, d = draw.integer(4, 5), draw.integer(7, 8)
    inputs = _told_apart(
        lambda: drawn(b, d, float(draw.uniform(1.3, 1.9))), right_contrastive_loss, LOSS_MISTAKES
    )
    yield looks("fewer pairs than axes", inputs)
    yield looks("more pairs than axes", drawn(d + 2, 3, 1.2))
    yield looks("as many pairs as axes", drawn(6, 6, 0.7))
    yield looks("two pairs", drawn(2, d, 0.9))
    yield looks("one pair: nothing to tell apart", drawn(1, d, 0.8))
    yield looks("a scale of 1", drawn(b, d + 3, 0.0))
    yield looks("a scale below 1", drawn(b, d, -0.6))
    yield looks("vectors a thousand times as long or as short", drawn(b, d, 0.8, spread=5.0))
    images, texts, scale = drawn(b, d, 1.1)
    yield looks("texts next to their pictures", (images, images + 0.1 * texts, scale))
    images[0] = -images[-1]  # at this scale no single number holds exp of the difference
    others = images.roll(1, 0) + 0.01 * texts
    hard = (images, others, torch.tensor(100.0).double().log())
    yield looks("texts next to other pictures, a scale of 100", hard)
    large = draw.integer(150, 400)
    yield looks(f"a scale of {large}, above 100", (images, others, scale * 0 + math.log(large)))
    yield looks("float32", tuple(x.float() for x in drawn(b + 2, d, 1.3)))
    yield looks("float32, a scale of 100", tuple(x.float() for x in hard))
    by = {"images": 0, "texts": 1, "log_scale": 2}
    name = "gradients by pictures, texts and log_scale"
    yield differentiable(name, candidate, right_contrastive_loss, inputs, by)


def _referee_axis(find_text):
    generator = torch.Generator().manual_seed(0)
    for n in (2, 3, 4, 7):
        for size in (1, 10):
            logits = size * torch.randn(n, n, generator=generator, dtype=torch.float64)
            got, want = find_text(logits), finding(logits)
            if got.shape != want.shape or not torch.allclose(got, want, rtol=1e-6, atol=1e-9):
                return False
    return True


@exercise(reference=_referee_axis, kind="referee")
def referee_axis(candidate, draw):
    why = (
        "what you compare with is wrong (pictures are rows: the softmax runs over the texts, "
        "axis 1, and the mean over pictures), or the test is too strict"
    )
    right = {f"it rejects {name}: {why}": formula for name, formula in RIGHT_FORMULAS.items()}
    yield rules("accepts the right loss, however written", candidate, True, right)
    for family, hints in WRONG_FORMULAS.items():
        wrong = {
            f"it accepts a formula with {slip}: {hint}": formula
            for hint, formulas in hints.items()
            for slip, formula in formulas.items()
        }
        yield rules(f"rejects {family}", candidate, False, wrong)
    name, message = "accepts the right loss, asked again", f"asked again, it rejects it: {why}"
    yield decides(name, candidate, finding, True, message)
