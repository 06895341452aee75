"""Pieces of notebook 54 with their parts replaced: right, and known mistakes."""

import math
from fractions import Fraction

import torch


def _exactly(count, strength):
    """The product with the decimal number that was meant."""
    return count * Fraction(repr(float(strength)))


def _some(count, strength):
    return max(1, math.floor(_exactly(count, strength)))


def _taken(count=_some, of=lambda steps, n: steps[:n].flip(0)):
    """Steps of image to image with any part replaced."""
    return lambda timesteps, strength: of(timesteps, count(len(timesteps), strength))


right_steps = _taken()
right_steps.__doc__ = "Meng et al. 2022, algorithm 1, on the respaced steps of a sampler."

STEPS_MISTAKES = {
    "these are the first steps of a trajectory, the noisiest: it is the last ones": _taken(
        of=lambda steps, n: steps[-n:].flip(0)
    ),
    "the steps rise: they are taken from the noisiest down, flip(0)": _taken(
        of=lambda steps, n: steps[:n]
    ),
    "these are the noisiest steps, and they rise": _taken(of=lambda steps, n: steps[-n:]),
    "this is the share 1 - strength: strength says how much is drawn anew": _taken(
        lambda count, s: max(1, math.floor(count - _exactly(count, s)))
    ),
    "these are the steps that are left out": _taken(of=lambda steps, n: steps[n:].flip(0)),
    "these are the steps that are left out, and they rise": _taken(of=lambda steps, n: steps[n:]),
    "too much is added before it is rounded down: as little as 1e-9 is enough": _taken(
        lambda count, s: max(1, math.floor(count * s + 0.01))
    ),
    "the product is rounded to the nearest: it is rounded down": _taken(
        lambda count, s: max(1, round(_exactly(count, s)))
    ),
    "the product is rounded up: it is rounded down": _taken(
        lambda count, s: math.ceil(_exactly(count, s))
    ),
    "the product is rounded down in floating point: 100 * 0.29 is 28.999999999999996 there": _taken(
        lambda count, s: max(1, int(count * s))
    ),
    "one step too many: S times strength is rounded down, and nothing comes on top": _taken(
        lambda count, s: 1 + math.floor(_exactly(count, s))
    ),
    "one step too few": _taken(lambda count, s: max(1, math.floor(_exactly(count, s)) - 1)),
    "a small strength takes no step: at least one": _taken(
        lambda count, s: math.floor(_exactly(count, s))
    ),
    "strength is compared with time steps of 1,000: it is a share of the sampler's steps": (
        lambda timesteps, s: timesteps[timesteps < s * 1000].flip(0)
    ),
    "strength is compared with the largest time step: it is a share of the sampler's steps": (
        lambda timesteps, s: timesteps[timesteps <= s * timesteps[-1]].flip(0)
    ),
    "all steps are taken, whatever the strength": _taken(lambda count, s: count),
    "half of the steps is taken, whatever the strength": _taken(lambda count, s: count // 2),
    "only the first of the steps is given": _taken(of=lambda steps, n: steps[n - 1 : n]),
    "these are the numbers of the steps: it is the time steps": (
        lambda timesteps, s: torch.arange(_some(len(timesteps), s)).flip(0)
    ),
}


def right_compose(eps_null, eps_words, scales):
    """Liu et al. 2022, equation 11."""
    return eps_null + _weighted(eps_words - eps_null, scales)


def _weighted(differences, scales):
    return torch.einsum("k,kbchw->bchw", scales.to(differences), differences)


def _scaled(change):
    """The right formula, of other scales."""
    return lambda null, words, s: right_compose(null, words, change(s).expand_as(s))


def _pulled(change):
    """The right formula, of other predictions and scales."""
    return lambda null, words, s: right_compose(null, *change(words, s))


def _largest(words, s):
    k = int(s.argmax())
    return words[k : k + 1], s[k : k + 1]


COMPOSE_MISTAKES = {
    "the scales have shape (K,): with (K, 1, 1, 1, 1) each is one caption's": (
        lambda null, words, s: null + (s * (words - null)).sum(0)
    ),
    "the scales have shape (K, 1): with (K, 1, 1, 1, 1) each is one caption's": (
        lambda null, words, s: null + (s[:, None] * (words - null)).sum(0)
    ),
    "the mean over the captions is taken: it is the sum": _scaled(lambda s: s / len(s)),
    "the predictions are summed, not their differences from eps_null": lambda null, words, s: (
        null + _weighted(words, s)
    ),
    "eps_null is missing: it is where the step starts": lambda null, words, s: _weighted(
        words - null, s
    ),
    "eps_null is added once for each caption, as if guided alone": lambda null, words, s: (
        len(s) * null + _weighted(words - null, s)
    ),
    "eps_null is missing, and not subtracted": lambda null, words, s: _weighted(words, s),
    "the first scale stands for all": _scaled(lambda s: s[:1]),
    "the last scale stands for all": _scaled(lambda s: s[-1:]),
    "the largest scale stands for all": _scaled(torch.max),
    "the mean of the scales stands for all": _scaled(torch.mean),
    "the sum of the scales stands for all": _scaled(torch.sum),
    "the scales are not used": _scaled(torch.ones_like),
    "the scales are made to sum to 1": _scaled(lambda s: s / s.sum()),
    "the scales go through softmax": _scaled(lambda s: s.softmax(0)),
    "the scales stand in the opposite order": _scaled(lambda s: s.flip(0)),
    "the scales are one caption off": _scaled(lambda s: s.roll(1)),
    "the scales are one caption off, the other way": _scaled(lambda s: s.roll(-1)),
    "the scales are sorted": _scaled(lambda s: s.sort().values),
    "the scales are cut to whole numbers": _scaled(torch.trunc),
    "the scales are squared": _scaled(torch.square),
    "the scales divide": _scaled(torch.reciprocal),
    "scales below 0 are taken for 0": _scaled(torch.relu),
    "scales below 0 lose their sign": _scaled(torch.abs),
    "the scales are added to the differences: they multiply": lambda null, words, s: (
        null + (words - null + s.view(-1, 1, 1, 1, 1)).sum(0)
    ),
    "only the first caption counts": _pulled(lambda words, s: (words[:1], s[:1])),
    "only the last caption counts": _pulled(lambda words, s: (words[-1:], s[-1:])),
    "only the first two captions count": _pulled(lambda words, s: (words[:2], s[:2])),
    "only the caption of the largest scale counts": _pulled(_largest),
    "the differences are turned: it is (with the caption) - (without)": _scaled(torch.neg),
    "this is s - 1 in place of each scale": _scaled(lambda s: s - 1),
    "this is s + 1 in place of each scale": _scaled(lambda s: s + 1),
    "the step starts at the first caption: it starts at eps_null": lambda null, words, s: (
        words[0] + _weighted(words - null, s)
    ),
    "the step starts at the mean of the captions: it starts at eps_null": lambda null, words, s: (
        words.mean(0) + _weighted(words - null, s)
    ),
    "the differences are taken from the mean of the captions: from eps_null": (
        lambda null, words, s: null + _weighted(words - words.mean(0), s)
    ),
    "each caption is guided away from the one before: from eps_null": lambda null, words, s: (
        null + _weighted(words - torch.cat([null[None], words[:-1]]), s)
    ),
    "the differences are multiplied: they are summed": lambda null, words, s: (
        null + (s.view(-1, 1, 1, 1, 1).to(words) * (words - null)).prod(0)
    ),
    "the difference that is largest counts at each place: they are summed": lambda null, words, s: (
        null + (s.view(-1, 1, 1, 1, 1).to(words) * (words - null)).amax(0)
    ),
    "the size of the differences is taken, without their sign": lambda null, words, s: (
        null + _weighted((words - null).abs(), s)
    ),
    "the result is clamped to [-1, 1]: noise is not": lambda null, words, s: right_compose(
        null, words, s
    ).clamp(-1, 1),
}


def _turn(x):
    return x.flip(-1, -2)


def _same(x):
    return x


def _mean(a, b):
    return (a + b) / 2


def _two_way(there=_turn, back=_turn, told=lambda one, other: (one, other), join=_mean, when=_same):
    """The noise of a two-way picture with any part replaced."""

    def two_way(model, xt, t, upright, turned):
        first, second = told(upright, turned)
        return join(model(xt, t, first), back(model(there(xt), when(t), second)))

    return two_way


right_two_way = _two_way()
right_two_way.__doc__ = "Geng et al. 2024, equations 3 and 4, for a turn by 180 degrees."


def _by(*axes):
    """The picture reversed along other axes, there and back."""
    return _two_way(there=lambda x: x.flip(*axes), back=lambda x: x.flip(*axes))


def _mispaired(model, xt, t, upright, turned):
    both = model(
        torch.cat([xt, _turn(xt)]), torch.cat([t, t]), torch.stack([upright, turned], 1).flatten()
    )
    one, other = both.chunk(2)
    return _mean(one, _turn(other))


TWO_WAY_MISTAKES = {
    "the second prediction is not turned back": _two_way(back=_same),
    "the second picture is not turned, only its noise": _two_way(there=_same),
    "nothing is turned": _two_way(there=_same, back=_same),
    "it is mirrored left to right: 180 degrees turn both axes": _by(-1),
    "it is mirrored top to bottom: 180 degrees turn both axes": _by(-2),
    "the noise is mirrored left to right only on its way back": _two_way(back=lambda x: x.flip(-1)),
    "the noise is mirrored top to bottom only on its way back": _two_way(back=lambda x: x.flip(-2)),
    "the channels are turned round, too": _by(1, 2, 3),
    "the batch is turned round, too": _by(0, 2, 3),
    "the batch is turned round in place of the picture": _by(0),
    "axes 1 and 2 are turned: the last two": _by(1, 2),
    "the picture is turned by 90 degrees": _two_way(
        there=lambda x: x.rot90(1, (2, 3)), back=lambda x: x.rot90(-1, (2, 3))
    ),
    "the picture is turned by 90 degrees the other way": _two_way(
        there=lambda x: x.rot90(-1, (2, 3)), back=lambda x: x.rot90(1, (2, 3))
    ),
    "the picture is turned by 90 degrees, and not back": _two_way(
        there=lambda x: x.rot90(1, (2, 3)), back=lambda x: x.rot90(1, (2, 3))
    ),
    "the picture is transposed, not turned": _two_way(there=lambda x: x.mT, back=lambda x: x.mT),
    "the picture is negated, not turned": _two_way(there=torch.neg, back=torch.neg),
    "the two predictions are added: it is their mean": _two_way(join=torch.add),
    "the difference of the two is taken: it is their mean": _two_way(join=lambda a, b: (a - b) / 2),
    "the two predictions are multiplied: it is their mean": _two_way(join=torch.mul),
    "the larger of the two is taken: it is their mean": _two_way(join=torch.maximum),
    "the mean is taken over the batch, too": _two_way(
        join=lambda a, b: _mean(a, b).mean(0, keepdim=True).expand_as(a)
    ),
    "both are told the upright class": _two_way(told=lambda one, other: (one, one)),
    "both are told the class of the turned picture": _two_way(
        told=lambda one, other: (other, other)
    ),
    "the two classes are exchanged": _two_way(told=lambda one, other: (other, one)),
    "the classes of the turned pictures are turned round: the batch keeps its order": _two_way(
        told=lambda one, other: (one, other.flip(0))
    ),
    "the time steps are turned round: the batch keeps its order": _two_way(
        when=lambda t: t.flip(0)
    ),
    "the turned picture is told another time step": _two_way(when=lambda t: (t - 1).abs()),
    "the turned picture is told time step 0": _two_way(when=torch.zeros_like),
    "only the upright picture counts": _two_way(join=lambda a, b: a),
    "only the turned picture counts": _two_way(join=lambda a, b: b),
    "both predictions are turned": _two_way(join=lambda a, b: _mean(_turn(a), b)),
    "the upright prediction is turned in place of the other": _two_way(
        back=_same, join=lambda a, b: _mean(_turn(a), b)
    ),
    "the pictures are put together with cat, the classes in turns": _mispaired,
}
