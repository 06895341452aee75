"""Masks and vectors of texts with their parts replaced: right ones of notebook 41, and mistakes."""

import torch
from torch.nn import functional as F


def _places(tokens):
    return torch.arange(tokens.shape[1], device=tokens.device)


def _before_or_at(tokens):
    places = _places(tokens)
    return places <= places[:, None]


def _first_end(tokens, end):
    return (tokens == end).int().argmax(1)


def _last_end(tokens, end):
    return tokens.shape[1] - 1 - (tokens == end).flip(1).int().argmax(1)


def _ends_to_the_end(tokens, end):
    """True for the end tokens with nothing but end tokens behind them."""
    return (tokens == end).flip(1).int().cumprod(1).flip(1).bool()


def _at(place, tokens, end):
    """True at the place found in each text."""
    return _places(tokens) == place(tokens, end)[:, None]


def _up_to(last):
    """True up to the place that `last` finds in each text."""
    return lambda tokens, end: _places(tokens) <= last(tokens, end)[:, None]


def _kept(tokens, end):
    """True for what is no filling."""
    return (tokens != end) | _at(_first_end, tokens, end)


def mask_with(causal=_before_or_at, kept=_kept, both=lambda c, k: c & k[:, None]):
    """A mask of texts with any of its parts replaced."""
    return lambda tokens, end: both(causal(tokens), kept(tokens, end))


_mask = mask_with()


def right_text_mask(tokens, end):
    """Causal as in Radford et al. 2021, section 2.4, and without the filling."""
    return _mask(tokens, end)


def _shifted(more):
    return lambda tokens: _places(tokens) <= _places(tokens)[:, None] + more


def _everywhere(tokens):
    return torch.ones_like(_before_or_at(tokens))


MASK_MISTAKES = {
    "a token does not see itself: j <= i": mask_with(_shifted(-1)),
    "a token sees the next one: j <= i": mask_with(_shifted(1)),
    "rows and columns are swapped: a row is the token that looks": (
        lambda tokens, end: right_text_mask(tokens, end).mT
    ),
    "tokens see those behind them, not those before: j <= i": mask_with(
        lambda tokens: _before_or_at(tokens).T
    ),
    "the filling is seen: hide the end tokens behind the first one": mask_with(
        kept=lambda tokens, end: tokens == tokens
    ),
    "tokens see those behind them, too: j <= i is missing": mask_with(_everywhere),
    "the first end token is hidden, too: only those behind it are filling": mask_with(
        kept=lambda tokens, end: tokens != end
    ),
    "one token of filling is seen, the one right behind the first end token": mask_with(
        kept=lambda tokens, end: _kept(tokens, end) | _at(_first_end, tokens, end).roll(1, 1)
    ),
    "the last end token is kept, not the first: the first ends the text": mask_with(
        kept=lambda tokens, end: (tokens != end) | _at(_last_end, tokens, end)
    ),
    "the filling is hidden in rows, where a softmax gives nan: hide columns, filling[:, None, :]": (
        mask_with(both=lambda c, k: c & k[:, :, None])
    ),
    "a token of the filling sees itself: its column is hidden from all": (
        lambda tokens, end: (
            right_text_mask(tokens, end) | torch.eye(tokens.shape[1], dtype=torch.bool)
        )
    ),
    "True and False are swapped: True means may be looked at": (
        lambda tokens, end: ~right_text_mask(tokens, end)
    ),
    "the end is found by the largest number: look for the number `end`": mask_with(
        kept=_up_to(lambda tokens, end: tokens.argmax(1))
    ),
    "all texts get the mask of the first: each has its own filling": (
        lambda tokens, end: right_text_mask(tokens, end)[:1].expand(len(tokens), -1, -1)
    ),
    "all texts get the mask of the shortest: each has its own filling": mask_with(
        kept=lambda tokens, end: _kept(tokens, end).all(0).expand(tokens.shape)
    ),
    "the start token is hidden: it may be looked at": mask_with(
        kept=lambda tokens, end: _kept(tokens, end) & (_places(tokens) > 0)
    ),
    "the filling, (B, M), needs an axis for the rows: filling[:, None, :]": mask_with(
        both=lambda c, k: c & k
    ),
    "the batch is missing or not in front: the result is (B, M, M)": mask_with(
        both=lambda c, k: (c & k[:, None]).permute(1, 2, 0)
    ),
}


def _not_ends(tokens, end):
    return (tokens != end).sum(1)


# Right where `end` is the last token of every text.
_READ_OFF = {
    "`end` is read off the last place of each text: it is handed in": lambda t: t[:, -1:],
    "`end` is read off the last place of the first text: it is handed in": lambda t: t[0, -1],
    "`end` is read off the last places, their largest number: it is handed in": (
        lambda t: t[:, -1].max()
    ),
}


def _with_end(function, read):
    """A function of texts that finds its `end` itself."""
    return lambda *inputs: function(*inputs[:-1], read(inputs[-2]))


# Right where nothing but end tokens follows the first.
MASK_MISTAKES_BEHIND = {
    "all behind the first end token is hidden: other numbers there are no filling": mask_with(
        kept=_up_to(_first_end)
    ),
    "all from the second end token on is hidden: other numbers there are no filling": mask_with(
        kept=lambda tokens, end: (tokens == end).cumsum(1) < 2
    ),
    "tokens that are no end token are counted: other numbers may stand behind the first end": (
        mask_with(kept=_up_to(_not_ends))
    ),
    "an end token is hidden only right behind another: all are filling, but the first": mask_with(
        kept=lambda tokens, end: (tokens != end) | F.pad(tokens != end, (1, 0), value=True)[:, :-1]
    ),
    "only the end tokens that nothing else follows are hidden: all are filling, but the first": (
        mask_with(
            kept=lambda tokens, end: (
                ~_ends_to_the_end(tokens, end) | (_ends_to_the_end(tokens, end).cumsum(1) < 2)
            )
        )
    ),
} | {cause: _with_end(right_text_mask, read) for cause, read in _READ_OFF.items()}


def _pool_with(place):
    return lambda hidden, tokens, end: hidden[torch.arange(len(hidden)), place(tokens, end)]


_pool = _pool_with(_first_end)


def right_pool_at_end(hidden, tokens, end):
    """Radford et al. 2021, section 2.4, as `course.models.clip_text.pool`."""
    return _pool(hidden, tokens, end)


_PLACES = {
    "it is the last place, an end token that only fills up: take the first end token": (
        lambda tokens, end: torch.full((len(tokens),), tokens.shape[1] - 1)
    ),
    "it is the vector of the start token: take the first end token": (
        lambda tokens, end: torch.zeros(len(tokens), dtype=torch.int64)
    ),
    "it is the token before the first end token: take the end token itself": (
        lambda tokens, end: _first_end(tokens, end) - 1
    ),
    "the end is found by the largest number: look for the number `end`": (
        lambda tokens, end: tokens.argmax(1)
    ),
    "the end is found by the smallest number: look for the number `end`": (
        lambda tokens, end: tokens.argmin(1)
    ),
    "all texts get the place of the first text's end": (
        lambda tokens, end: _first_end(tokens, end)[:1].expand(len(tokens))
    ),
    "all texts get the place of the shortest text's end": (
        lambda tokens, end: _first_end(tokens, end).amin().expand(len(tokens))
    ),
    "all texts get the place of the longest text's end": (
        lambda tokens, end: _first_end(tokens, end).amax().expand(len(tokens))
    ),
}


def _mean_over(kept):
    def pool(hidden, tokens, end):
        weights = kept(tokens, end).to(hidden.dtype)
        return (weights[:, None] @ hidden)[:, 0] / weights.sum(1, keepdim=True)

    return pool


POOL_MISTAKES = {cause: _pool_with(place) for cause, place in _PLACES.items()} | {
    "it is the mean over all places: take the vector of the first end token": (
        lambda hidden, tokens, end: hidden.mean(1)
    ),
    "it is the mean over the text without filling: take the vector of the first end token": (
        _mean_over(_kept)
    ),
    "it is the mean of all end tokens: take the first": _mean_over(
        lambda tokens, end: tokens == end
    ),
    "it is the largest number of each axis over all places: take one vector": (
        lambda hidden, tokens, end: hidden.amax(1)
    ),
    "the texts are in the wrong order": lambda hidden, tokens, end: right_pool_at_end(
        hidden, tokens, end
    ).flip(0),
    "argmax runs over the texts: the places are axis 1": _pool_with(
        lambda tokens, end: (tokens == end).int().argmax(0)
    ),
    "argmax does not take True and False: (tokens == end).int()": _pool_with(
        lambda tokens, end: (tokens == end).argmax(1)
    ),
    "hidden[:, places] takes all places of each text: index texts and places together": (
        lambda hidden, tokens, end: hidden[:, _first_end(tokens, end)]
    ),
    "hidden[places] takes whole texts: index texts and places together": (
        lambda hidden, tokens, end: hidden[_first_end(tokens, end)]
    ),
    "hidden[tokens == end] takes all end tokens, filling included: take the first of each text": (
        lambda hidden, tokens, end: hidden[tokens == end]
    ),
    "an axis of size 1 is left: the result is (B, D)": lambda hidden, tokens, end: (
        right_pool_at_end(hidden, tokens, end)[:, None]
    ),
}

# Right where nothing but end tokens follows the first.
POOL_MISTAKES_BEHIND = {
    "tokens that are no end token are counted: find the first end token": _pool_with(_not_ends),
    "it is the first of the end tokens that nothing else follows: take the first of all": (
        _pool_with(lambda tokens, end: _ends_to_the_end(tokens, end).int().argmax(1))
    ),
} | {cause: _with_end(right_pool_at_end, read) for cause, read in _READ_OFF.items()}
