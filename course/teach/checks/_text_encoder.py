"""Answers to notebook 41 with their parts replaced: right ones, and mistakes."""

import math
import re
from collections import Counter
from itertools import combinations, pairwise

import torch
from torch.nn import functional as F


def _count(neighbours=pairwise, times=lambda count: count):
    """How often each pair occurs, with either part of the counting replaced."""

    def counted(words):
        counts = Counter()
        for symbols, count in words.items():
            for pair in neighbours(symbols):
                counts[pair] += times(count)
        return counts

    return counted


_counts = _count()


def _counts_without_overlaps(words):
    counts = Counter()
    for symbols, count in words.items():
        for pair in set(pairwise(symbols)):
            counts[pair] += count * (len(symbols) - len(_join(symbols, pair)))
    return counts


def _counts_across_words(words):
    counts = _counts(words)
    for (symbols, count), (following, _) in pairwise(words.items()):
        counts[symbols[-1], following[0]] += count
    return counts


def _shares(words):
    single = Counter()
    for symbols, count in words.items():
        for symbol in symbols:
            single[symbol] += count
    return {p: n / (single[p[0]] * single[p[1]]) for p, n in _counts(words).items()}


def _best_by(order):
    """The most frequent pair; of equals the first in an order."""
    return lambda counts: min(counts, key=lambda pair: (-counts[pair], order(pair)))


def _last_in_order(counts):
    return max(counts, key=lambda pair: (counts[pair], pair))


_best = _best_by(lambda pair: pair)


def _join(symbols, pair, made="".join):
    joined, i = [], 0
    while i < len(symbols):
        found = tuple(symbols[i : i + 2]) == pair
        joined.append(made(pair) if found else symbols[i])
        i += 1 + found
    return tuple(joined)


def _join_once(symbols, pair):
    at = next((i for i, found in enumerate(pairwise(symbols)) if found == pair), None)
    if at is None:
        return symbols
    return (*symbols[:at], "".join(pair), *symbols[at + 2 :])


def _join_backwards(symbols, pair):
    if pair[0] != pair[1]:  # then no two places overlap
        return _join(symbols, pair)
    return _join(symbols[::-1], pair)[::-1]


def _join_overlapping(symbols, pair):
    joined = []
    for i, symbol in enumerate(symbols):
        if symbols[i : i + 2] == pair:
            joined.append("".join(pair))
        elif i == 0 or symbols[i - 1 : i + 1] != pair:
            joined.append(symbol)
    return tuple(joined)


def _join_text(symbols, pair):
    return tuple(" ".join(symbols).replace(" ".join(pair), "".join(pair)).split(" "))


def _join_same_text(symbols, pair):
    joined, i, made = [], 0, "".join(pair)
    while i < len(symbols):
        found = len(symbols[i : i + 2]) == 2 and "".join(symbols[i : i + 2]) == made
        joined.append(made if found else symbols[i])
        i += 1 + found
    return tuple(joined)


def _join_pattern(symbols, pair):
    found = rf"(?<!\S){pair[0]} {pair[1]}(?!\S)"
    return tuple(re.sub(found, lambda _: "".join(pair), " ".join(symbols)).split(" "))


def _instead(made):
    """Another symbol in place of the pair."""
    return lambda symbols, pair: _join(symbols, pair, made)


def _together(pairs):
    merged = Counter()
    for symbols, count in pairs:
        merged[symbols] += count
    return dict(merged)


def _first_stays(pairs):
    merged = {}
    for symbols, count in pairs:
        merged.setdefault(symbols, count)
    return merged


def merge_with(count=_counts, best=_best, join=_join, together=_together, told=lambda pair: pair):
    """A step of byte-pair encoding with any of its parts replaced."""

    def merge_step(words):
        counts = count(words)
        if not counts:
            return None, dict(words)
        pair = best(counts)
        return told(pair), together((join(symbols, pair), n) for symbols, n in words.items())

    return merge_step


_merge_step = merge_with()


def right_merge_step(words):
    """Sennrich et al. 2016, algorithm 1, as `course.models.tokenizer`."""
    return _merge_step(words)


def _merge_all_equals(words):
    counts = _counts(words)
    for pair in sorted(p for p, n in counts.items() if n == max(counts.values())):
        words = _together((_join(symbols, pair), n) for symbols, n in words.items())
    return _best(counts) if counts else None, words


def _merge_twice(words):
    pair, merged = _merge_step(words)
    return pair, _merge_step(merged)[1]


def _without_others(words):
    pair, _ = _merge_step(words)
    return pair, _merge_step({s: n for s, n in words.items() if pair in pairwise(s)})[1]


MERGE_MISTAKES = {
    "the counts of the words are ignored: a pair occurs as often as the words it stands in": (
        merge_with(_count(times=lambda count: 1))
    ),
    "a pair counts once for a word, though it stands there twice": merge_with(
        _count(lambda symbols: set(pairwise(symbols)))
    ),
    "pairs are counted across the border of two words: each word is by itself": merge_with(
        _counts_across_words
    ),
    "any two symbols of a word are counted: only neighbours are a pair": merge_with(
        _count(lambda symbols: combinations(symbols, 2))
    ),
    "the last pair of each word is not counted": merge_with(
        _count(lambda symbols: pairwise(symbols[:-1]))
    ),
    "counts are divided by those of the symbols: that is WordPiece's rule, not this one": (
        merge_with(_shares)
    ),
    "this is the rarest pair: take the most frequent one": merge_with(
        best=lambda counts: min(counts, key=lambda pair: (counts[pair], pair))
    ),
    "the pair is returned the other way round": merge_with(told=lambda pair: pair[::-1]),
    "only the first place in each word is joined: join all of them": merge_with(join=_join_once),
    "the words stay as they were: join the pair": merge_with(join=lambda symbols, pair: symbols),
    "parts of longer symbols are joined, too: compare whole symbols, not the text": merge_with(
        join=_join_text
    ),
    "another pair of the same text is joined, too: compare both symbols": merge_with(
        join=_join_same_text
    ),
    "a symbol like . or + is read as a pattern: re.escape takes it as it is": merge_with(
        join=_join_pattern
    ),
    "all symbols of a word that has the pair are joined: only the pair is": merge_with(
        join=lambda symbols, pair: ("".join(symbols),) if pair in [*pairwise(symbols)] else symbols
    ),
    "the same two symbols in the other order are joined, too": merge_with(
        join=lambda symbols, pair: _join(_join(symbols, pair), pair[::-1])
    ),
    "the pair is joined the wrong way round: first symbol first": merge_with(
        join=_instead(lambda pair: pair[1] + pair[0])
    ),
    "a space stands between the two that are joined": merge_with(join=_instead(" ".join)),
    "only the first of the two symbols is left: the joined one is both": merge_with(
        join=_instead(lambda pair: pair[0])
    ),
    "the mark </w> is lost: it belongs to the last symbol": merge_with(
        join=lambda symbols, pair: tuple(s.replace("</w>", "") for s in _join(symbols, pair))
    ),
    "the symbols of the words are sorted: they stay in their order": merge_with(
        join=lambda symbols, pair: tuple(sorted(_join(symbols, pair)))
    ),
    "words that become equal keep the count of the last: add their counts": merge_with(
        together=dict
    ),
    "words that become equal keep the count of the first: add their counts": merge_with(
        together=_first_stays
    ),
    "the counts of the words are lost: each is 1": merge_with(
        together=lambda pairs: {symbols: 1 for symbols, _ in pairs}
    ),
    "words without the pair are left out: they stay as they are": _without_others,
    "two pairs are joined: one step joins one pair": _merge_twice,
}
RUN_MISTAKES = {
    "overlapping places are joined twice: ('a', 'a', 'a') becomes ('aa', 'a')": merge_with(
        join=_join_overlapping
    ),
    "the pair is joined from the right: ('a', 'a', 'a') becomes ('aa', 'a')": merge_with(
        join=_join_backwards
    ),
    "overlapping places count once: in ('a', 'a', 'a') the pair ('a', 'a') occurs twice": (
        merge_with(_counts_without_overlaps)
    ),
}
TIE_MISTAKES = {
    "of equals, the last in code-point order is taken: take the first, by `min`": merge_with(
        best=_last_in_order
    ),
    "of equals, the one met first is taken: take the first in code-point order": merge_with(
        best=lambda counts: max(counts, key=counts.get)
    ),
    "of equals, the one met last is taken: take the first in code-point order": merge_with(
        best=lambda counts: max(reversed(list(counts)), key=counts.get)
    ),
    "of equals, the one is taken whose joined text comes first: compare the pairs": merge_with(
        best=_best_by("".join)
    ),
    "of equals, the one is taken whose second symbol comes first: compare the pairs": merge_with(
        best=_best_by(lambda pair: pair[::-1])
    ),
    "of equals, the order of the alphabet decides: code points put capitals first": merge_with(
        best=_best_by(lambda pair: (pair[0].lower(), pair[1].lower()))
    ),
    "of equals, the shortest is taken: take the first in code-point order": merge_with(
        best=_best_by(lambda pair: (len("".join(pair)), pair))
    ),
    "all pairs that occur equally often are joined: one step joins one pair": _merge_all_equals,
}


def _places(tokens):
    return torch.arange(tokens.shape[1], device=tokens.device)


def _before_or_at(tokens):
    places = _places(tokens)
    return places <= places[:, None]


def _first_end(tokens, end):
    return (tokens == end).int().argmax(1)


def _last_end(tokens, end):
    return tokens.shape[1] - 1 - (tokens == end).flip(1).int().argmax(1)


def _up_to(last, more=0):
    """No filling: True up to the place that `last` finds in each text."""
    return lambda tokens, end: _places(tokens) <= last(tokens, end)[:, None] + more


_kept = _up_to(_first_end)


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
        kept=_up_to(_first_end, 1)
    ),
    "the last end token is kept, not the first: the first ends the text": mask_with(
        kept=lambda tokens, end: (
            (tokens != end) | (_places(tokens) == _last_end(tokens, end)[:, None])
        )
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

POOL_PLACES = {
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


def _at(places):
    return lambda hidden, tokens, end: hidden[torch.arange(len(hidden)), places(tokens, end)]


_pool = _at(_first_end)


def right_pool_at_end(hidden, tokens, end):
    """Radford et al. 2021, section 2.4, as `course.models.clip_text.pool`."""
    return _pool(hidden, tokens, end)


# Right where nothing but end tokens follows the first.
COUNTING_MISTAKES = {
    "tokens that are no end token are counted: find the first end token": _at(
        lambda tokens, end: (tokens != end).sum(1)
    ),
}


def _mean_over(kept):
    def pool(hidden, tokens, end):
        weights = kept(tokens, end).to(hidden.dtype)
        return (weights[:, None] @ hidden)[:, 0] / weights.sum(1, keepdim=True)

    return pool


POOL_MISTAKES = {cause: _at(places) for cause, places in POOL_PLACES.items()} | {
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
    "argmax runs over the texts: the places are axis 1": lambda hidden, tokens, end: hidden[
        torch.arange(len(hidden)), (tokens == end).int().argmax(0)
    ],
    "argmax does not take True and False: (tokens == end).int()": lambda hidden, tokens, end: (
        hidden[torch.arange(len(hidden)), (tokens == end).argmax(1)]
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


def _unit(x):
    return F.normalize(x, dim=1)


def _own(logits):
    return torch.arange(len(logits), device=logits.device)


def finding(logits):
    """The loss of finding, for each row, its column."""
    return F.cross_entropy(logits, _own(logits))


def _both(logits):
    return (finding(logits) + finding(logits.T)) / 2


def loss_with(
    images=_unit,
    texts=_unit,
    scores=lambda images, texts: images @ texts.T,
    scaled=lambda cosines, log_scale: cosines * log_scale.exp(),
    loss=_both,
):
    """A contrastive loss with any of its parts replaced."""

    def contrastive_loss(i, t, log_scale):
        return loss(scaled(scores(images(i), texts(t)), log_scale))

    return contrastive_loss


_loss = loss_with()


def right_contrastive_loss(images, texts, log_scale):
    """Radford et al. 2021, figure 3; lecture 004, lines 107-123."""
    return _loss(images, texts, log_scale)


def _of_both(loss):
    """The mean of a loss of logits and of the same of their transpose."""
    return lambda logits: (loss(logits) + loss(logits.T)) / 2


def _labelled(labels):
    return _of_both(lambda logits: F.cross_entropy(logits, labels(logits)))


def others_only(logits):
    """The loss of finding, with a row's own column missing in the sum."""
    others = logits.masked_fill(torch.eye(len(logits), dtype=torch.bool), -torch.inf)
    return (others.logsumexp(1) - logits.diagonal()).mean()


def _as_given(x):
    return x


LOSS_MISTAKES = {
    "only each picture's text is looked for, once or twice: its other half is logits.T": (
        loss_with(loss=finding)
    ),
    "only each text's picture is looked for, once or twice: its other half is logits": (
        loss_with(loss=lambda logits: finding(logits.T))
    ),
    "the two losses are added: take their mean": loss_with(loss=lambda logits: 2 * _both(logits)),
    "the batch is summed: cross_entropy's mean is over the batch": loss_with(
        loss=lambda logits: len(logits) * _both(logits)
    ),
    "the cosines are divided by exp(log_scale): multiply": loss_with(
        scaled=lambda cosines, log_scale: cosines / log_scale.exp()
    ),
    "exp is forgotten: multiply by exp(log_scale)": loss_with(
        scaled=lambda cosines, log_scale: cosines * log_scale
    ),
    "the cosines are divided by log_scale: multiply by exp(log_scale)": loss_with(
        scaled=lambda cosines, log_scale: cosines / log_scale
    ),
    "log_scale is not used": loss_with(scaled=lambda cosines, log_scale: cosines),
    "the scale is used twice": loss_with(
        scaled=lambda cosines, log_scale: cosines * (2 * log_scale).exp()
    ),
    "the scale is 1 / 0.07, its first value: it is learned, use log_scale": loss_with(
        scaled=lambda cosines, log_scale: cosines / 0.07
    ),
    "the vectors are not normalised": loss_with(_as_given, _as_given),
    "the texts are not normalised": loss_with(_unit, _as_given),
    "the pictures are not normalised": loss_with(_as_given, _unit),
    "normalised over the batch, axis 0: each vector has its own length, axis 1": loss_with(
        lambda x: F.normalize(x, dim=0), lambda x: F.normalize(x, dim=0)
    ),
    "all vectors are divided by one length: each has its own, dim=1, keepdim=True": loss_with(
        lambda x: x / x.norm(), lambda x: x / x.norm()
    ),
    "without keepdim the lengths belong to the columns: norm(dim=1, keepdim=True)": loss_with(
        lambda x: x / x.norm(dim=1), lambda x: x / x.norm(dim=1)
    ),
    "pictures are compared with pictures: the columns are texts": loss_with(
        scores=lambda images, texts: images @ images.T
    ),
    "texts are compared with texts: the rows are pictures": loss_with(
        scores=lambda images, texts: texts @ texts.T
    ),
    "the texts are not transposed: images @ texts.T": loss_with(
        scores=lambda images, texts: images @ texts
    ),
    "all B * B entries are averaged: only the own pairs, on the diagonal, count": loss_with(
        loss=_of_both(lambda logits: -logits.log_softmax(1).mean())
    ),
    "the labels are shifted: text i belongs to picture i": loss_with(
        loss=_labelled(lambda logits: _own(logits).roll(1))
    ),
    "the labels are all 0: they are 0, 1, 2, ...": loss_with(
        loss=_labelled(lambda logits: 0 * _own(logits))
    ),
    "one softmax runs over all B * B entries: one for each row, one for each column": loss_with(
        loss=lambda logits: -logits.flatten().log_softmax(0).view_as(logits).diagonal().mean()
    ),
    "there is no softmax: minus the mean of the own logits": loss_with(
        loss=lambda logits: -logits.diagonal().mean()
    ),
    "the sign is turned: a loss is minus the logarithm": loss_with(
        loss=lambda logits: -_both(logits)
    ),
    "the logarithm is missing: these are probabilities": loss_with(
        loss=_of_both(lambda logits: -logits.softmax(1).diagonal().mean())
    ),
    "there are two softmaxes: cross_entropy takes logits and has one itself": loss_with(
        loss=_of_both(lambda logits: finding(logits.softmax(1)))
    ),
    "the logarithm has base 2: take the natural one": loss_with(
        loss=lambda logits: _both(logits) / math.log(2)
    ),
    "the own pair is missing in the sum of the softmax": loss_with(loss=_of_both(others_only)),
    "each pair is judged by itself, by a logistic loss: the softmax compares it with the others": (
        loss_with(
            loss=lambda logits: F.binary_cross_entropy_with_logits(
                logits, torch.eye(len(logits), dtype=logits.dtype)
            )
        )
    ),
}
