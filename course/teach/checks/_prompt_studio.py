"""Pieces of notebook 54 with their parts replaced: right, and known mistakes."""

import math
from fractions import Fraction

import torch


def _exactly(strength):
    """The decimal number that was meant."""
    return Fraction(repr(float(strength)))


def _taken(count=None, some=lambda steps, n: steps[:n].flip(0)):
    """Steps of image to image with any part replaced."""

    def steps_from(timesteps, strength):
        n = max(1, math.floor(len(timesteps) * _exactly(strength)))
        return some(timesteps, n if count is None else count(len(timesteps), strength))

    return steps_from


right_steps = _taken()
right_steps.__doc__ = "Meng et al. 2022, algorithm 1, on the respaced steps of a sampler."


def _up_to(timesteps, strength):
    """All steps below a share of the T that training had."""
    return timesteps[timesteps < strength * 1000].flip(0)


STEPS_MISTAKES = {
    "these are the first steps of a trajectory, the noisiest: it is the last ones": _taken(
        some=lambda steps, n: steps[-n:].flip(0)
    ),
    "the steps rise: they are taken from the noisiest down, flip(0)": _taken(
        some=lambda steps, n: steps[:n]
    ),
    "these are the noisiest steps, and they rise": _taken(some=lambda steps, n: steps[-n:]),
    "this is the share 1 - strength: strength says how much is drawn anew": _taken(
        lambda count, s: max(1, math.floor(count * (1 - _exactly(s))))
    ),
    "these are the steps that are left out": _taken(some=lambda steps, n: steps[n:].flip(0)),
    "one step too many: S times strength is rounded down, and nothing comes on top": _taken(
        lambda count, s: 1 + math.floor(count * _exactly(s))
    ),
    "the product is rounded down in floating point: 100 * 0.29 is 28.999999999999996 there": _taken(
        lambda count, s: max(1, int(count * s))
    ),
    "one step too few": _taken(lambda count, s: max(1, math.floor(count * _exactly(s)) - 1)),
    "a small strength takes no step: at least one": _taken(
        lambda count, s: math.floor(count * _exactly(s)),
    ),
    "strength is compared with time steps of 1,000: it is a share of the sampler's steps": _up_to,
    "all steps are taken, whatever the strength": _taken(lambda count, s: count),
    "only the first of the steps is given": _taken(some=lambda steps, n: steps[n - 1 : n]),
    "these are the numbers of the steps: it is the time steps": (
        lambda timesteps, s: torch.arange(len(right_steps(timesteps, s))).flip(0)
    ),
}


def right_compose(eps_null, eps_words, scales):
    """Liu et al. 2022, equation 11."""
    return eps_null + _weighted(eps_words - eps_null, scales)


def _weighted(differences, scales):
    return torch.einsum("k,kbchw->bchw", scales.to(differences), differences)


COMPOSE_MISTAKES = {
    "the mean over the captions is taken: it is the sum": lambda null, words, s: (
        null + _weighted(words - null, s) / len(s)
    ),
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
    "the first scale stands for all": lambda null, words, s: right_compose(
        null, words, s[:1].expand_as(s)
    ),
    "the last scale stands for all": lambda null, words, s: right_compose(
        null, words, s[-1:].expand_as(s)
    ),
    "the mean of the scales stands for all": lambda null, words, s: right_compose(
        null, words, s.mean().expand_as(s)
    ),
    "the sum of the scales stands for all": lambda null, words, s: right_compose(
        null, words, s.sum().expand_as(s)
    ),
    "the scales are not used": lambda null, words, s: right_compose(
        null, words, torch.ones_like(s)
    ),
    "the scales are made to sum to 1": lambda null, words, s: right_compose(
        null, words, s / s.sum()
    ),
    "the scales stand in the opposite order": lambda null, words, s: right_compose(
        null, words, s.flip(0)
    ),
    "only the first caption counts": lambda null, words, s: right_compose(null, words[:1], s[:1]),
    "only the last caption counts": lambda null, words, s: right_compose(null, words[-1:], s[-1:]),
    "only the caption of the largest scale counts": lambda null, words, s: right_compose(
        null, words[s.argmax()][None], s.max()[None]
    ),
    "the differences are turned: it is (with the caption) - (without)": lambda null, words, s: (
        null - _weighted(words - null, s)
    ),
    "this is s - 1 in place of each scale": lambda null, words, s: right_compose(
        null, words, s - 1
    ),
    "the step starts at the first caption: it starts at eps_null": lambda null, words, s: (
        words[0] + _weighted(words - null, s)
    ),
    "the differences are taken from the mean of the captions: from eps_null": (
        lambda null, words, s: null + _weighted(words - words.mean(0), s)
    ),
    "the differences are multiplied: they are summed": lambda null, words, s: (
        null + (s.view(-1, 1, 1, 1, 1).to(words) * (words - null)).prod(0)
    ),
}


def _turn(x):
    return x.flip(-1, -2)


def two_way_with(
    there=_turn, back=_turn, told=lambda one, other: (one, other), join=torch.add, by=2
):
    """The noise of a two-way picture with any part replaced."""

    def two_way(model, xt, t, upright, turned):
        first, second = told(upright, turned)
        return join(model(xt, t, first), back(model(there(xt), t, second))) / by

    return two_way


right_two_way = two_way_with()
right_two_way.__doc__ = "Geng et al. 2024, equations 3 and 4, for a turn by 180 degrees."


def _unturned(x):
    return x


TWO_WAY_MISTAKES = {
    "the second prediction is not turned back": two_way_with(back=_unturned),
    "the second picture is not turned, only its noise": two_way_with(there=_unturned),
    "nothing is turned": two_way_with(there=_unturned, back=_unturned),
    "it is mirrored left to right: 180 degrees turn both axes": two_way_with(
        there=lambda x: x.flip(-1), back=lambda x: x.flip(-1)
    ),
    "it is mirrored top to bottom: 180 degrees turn both axes": two_way_with(
        there=lambda x: x.flip(-2), back=lambda x: x.flip(-2)
    ),
    "the noise is mirrored left to right only on its way back": two_way_with(
        back=lambda x: x.flip(-1)
    ),
    "the noise is mirrored top to bottom only on its way back": two_way_with(
        back=lambda x: x.flip(-2)
    ),
    "the channels are turned round, too": two_way_with(
        there=lambda x: x.flip(1, 2, 3), back=lambda x: x.flip(1, 2, 3)
    ),
    "the batch is turned round, too": two_way_with(
        there=lambda x: x.flip(0, 2, 3), back=lambda x: x.flip(0, 2, 3)
    ),
    "axes 1 and 2 are turned: the last two": two_way_with(
        there=lambda x: x.flip(1, 2), back=lambda x: x.flip(1, 2)
    ),
    "the two predictions are added: it is their mean": two_way_with(by=1),
    "the difference of the two is taken: it is their mean": two_way_with(join=torch.sub),
    "both are told the upright class": two_way_with(told=lambda one, other: (one, one)),
    "both are told the class of the turned picture": two_way_with(
        told=lambda one, other: (other, other)
    ),
    "the two classes are exchanged": two_way_with(told=lambda one, other: (other, one)),
    "only the upright picture counts": lambda model, xt, t, one, other: model(xt, t, one),
    "only the turned picture counts": lambda model, xt, t, one, other: _turn(
        model(_turn(xt), t, other)
    ),
    "both predictions are turned": two_way_with(join=lambda a, b: _turn(a) + b),
    "the picture is turned by 90 degrees": two_way_with(
        there=lambda x: x.rot90(1, (2, 3)), back=lambda x: x.rot90(-1, (2, 3))
    ),
}
