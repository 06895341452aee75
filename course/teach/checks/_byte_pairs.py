"""A step of byte-pair encoding with its parts replaced: the right one, and mistakes."""

import re
from collections import Counter
from itertools import combinations, pairwise


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
    "overlapping places are joined twice: ('a', 'a', 'a') becomes ('aa', 'a')": merge_with(
        join=_join_overlapping
    ),
    "the pair is joined from the right: ('a', 'a', 'a') becomes ('aa', 'a')": merge_with(
        join=_join_backwards
    ),
    "overlapping places count once: in ('a', 'a', 'a') the pair ('a', 'a') occurs twice": (
        merge_with(_counts_without_overlaps)
    ),
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
