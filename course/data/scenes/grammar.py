"""The sentences about scenes: what a caption means, every way to write it, and the way back."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

from course.data.scenes.world import (
    BACKGROUNDS,
    COLOURS,
    MOST_THINGS,
    RELATIONS,
    SHAPES,
    SIZES,
    one_of,
)

OPENINGS = ("", "a picture of", "a drawing of", "there is")
SYNONYMS = {
    "small": ("small", "little"),
    "large": ("large", "big"),
    "left of": ("left of", "to the left of"),
    "right of": ("right of", "to the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
    **{
        background: (f"on a {background} background", f"on {background}")
        for background in BACKGROUNDS
    },
}
# The number of mentions, and which of them a relation joins: X is the next mention, R the next
# relation.
FORMS = {
    (1, ()): "X",
    (2, ()): "X and X",
    (2, ((0, 1),)): "X R X",
    (3, ()): "X , X and X",
    (3, ((0, 1),)): "X R X , and X",
    (3, ((0, 1), (0, 2))): "X R X and R X",
    (3, ((0, 1), (1, 2))): "X R X , which is R X",
}


@dataclass(frozen=True)
class Mention:
    """What a caption says of one thing.

    Attributes:
        shape: one of SHAPES.
        colour: one of COLOURS; None if it is not said, and any will do.
        size: one of SIZES; None if it is not said, and any will do.

    Raises:
        ValueError: there is no such shape, colour or size.
    """

    shape: str
    colour: str | None = None
    size: str | None = None

    def __post_init__(self) -> None:
        one_of("shape", self.shape, SHAPES)
        if self.colour is not None:
            one_of("colour", self.colour, COLOURS)
        if self.size is not None:
            one_of("size", self.size, SIZES)


@dataclass(frozen=True)
class Meaning:
    """What a caption says.

    Attributes:
        mentions: 1 to 3, in the order of the text, of different things.
        relations: (i, relation, j): where mention i is, seen from mention j. The pairs (i, j) are
            those of one of FORMS.
        background: one of BACKGROUNDS; None if it is not said, and any will do.

    Raises:
        ValueError: there is no such background or relation, or no sentence has such mentions and
            pairs.
    """

    mentions: tuple[Mention, ...]
    relations: tuple[tuple[int, str, int], ...] = ()
    background: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.mentions) <= MOST_THINGS:
            raise ValueError(f"mentions: expected 1 to {MOST_THINGS}, came {len(self.mentions)}")
        for _, relation, _ in self.relations:
            one_of("relations", relation, RELATIONS)
        allowed = patterns(len(self.mentions))
        if self._pairs not in allowed:
            raise ValueError(f"relations: expected pairs among {allowed}, came {self._pairs}")
        if self.background is not None:
            one_of("background", self.background, BACKGROUNDS)

    @property
    def form(self) -> str:
        """The one of FORMS that says it."""
        return FORMS[len(self.mentions), self._pairs]

    @property
    def _pairs(self) -> tuple[tuple[int, int], ...]:
        return tuple([(i, j) for i, _, j in self.relations])


def write(meaning: Meaning, bits: Iterable[int]) -> str:
    """A sentence that says it, one of `count_sentences`; `parse` is the way back.

    Args:
        meaning: what to say.
        bits: numbers from 0, each of which modulo the number of words to choose from gives one: the
            opening, a word for each small thing, for each large one, each relation, the background.
            So a twin (`captions.twins`) gets the same words from the same numbers.

    Raises:
        ValueError: there are too few numbers, or one is negative.
    """
    bits = iter(bits)
    words = [_pick(OPENINGS, bits)]
    sizes = {
        k: _pick(SYNONYMS[size], bits)
        for size in SIZES
        for k, mention in enumerate(meaning.mentions)
        if mention.size == size
    }
    things = [_thing(mention, sizes.get(k)) for k, mention in enumerate(meaning.mentions)]
    relations = [_pick(SYNONYMS[relation], bits) for _, relation, _ in meaning.relations]
    fill = {"X": iter(things), "R": iter(relations)}
    words += [next(fill[symbol]) if symbol in fill else symbol for symbol in meaning.form.split()]
    if meaning.background:
        words.append(_pick(SYNONYMS[meaning.background], bits))
    return " ".join(filter(None, words)).replace(" ,", ",")


def parse(text: str) -> Meaning:
    """What a caption means: the way back from `write`.

    Args:
        text: a sentence that `write` can say; capitals, more spaces and a full stop do no harm.

    Raises:
        ValueError: it is no such sentence; names the word at which it stops being one, and what
            could stand there.
    """
    reader = _Reader(text)
    for (_, pairs), form in FORMS.items():
        symbols = ["opening", *form.split(), "background"]
        found = reader.read([_TRIES[symbol] for symbol in symbols])
        if found is not None:
            said = list(zip(symbols, found, strict=True))
            mentions = tuple(value for symbol, value in said if symbol == "X")
            relations = relate(pairs, [value for symbol, value in said if symbol == "R"])
            return Meaning(mentions, relations, found[-1])
    raise ValueError(f"caption: {reader.complaint()}")


def count_sentences(meaning: Meaning) -> int:
    """In how many ways `write` can say it."""
    said = [mention.size for mention in meaning.mentions] + [r for _, r, _ in meaning.relations]
    return len(OPENINGS) * prod(len(SYNONYMS[term]) for term in [*said, meaning.background] if term)


def vocabulary() -> tuple[str, ...]:
    """Every word that `write` can say, sorted; a comma is no word."""
    phrases = [*OPENINGS, *FORMS.values()]
    for options in (*SYNONYMS.values(), *THINGS.values()):
        phrases.extend(options)
    return tuple(sorted({word for phrase in phrases for word in phrase.split()} - {"X", "R", ","}))


def choose(bits: Iterator[int], options: int) -> int:
    """The next number modulo `options`.

    Raises:
        ValueError: there is no next number, or it is negative.
    """
    number = next(bits, None)
    if number is None:
        raise ValueError("bits: expected one more number, came the end")
    if number < 0:
        raise ValueError(f"bits: expected numbers from 0, came {number}")
    return number % options


def patterns(things: int) -> list[tuple[tuple[int, int], ...]]:
    """The pairs of mentions that a caption of so many things can relate.

    Raises:
        ValueError: it is not 1 to 3 things.
    """
    if not 1 <= things <= MOST_THINGS:
        raise ValueError(f"things: expected 1 to {MOST_THINGS}, came {things}")
    return [pairs for n, pairs in FORMS if n == things]


def relate(pairs: tuple, relations: Sequence[str]) -> tuple[tuple[int, str, int], ...]:
    """The relations of a meaning, from pairs of mentions and a word for each."""
    return tuple((i, relation, j) for (i, j), relation in zip(pairs, relations, strict=True))


def _pick(options: tuple[str, ...], bits: Iterator[int]) -> str:
    return options[choose(bits, len(options))]


def _thing(mention: Mention, size: str | None) -> str:
    words = " ".join([word for word in (size, mention.colour, mention.shape) if word])
    return f"{_article(words)} {words}"


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


THINGS = {
    mention: tuple(_thing(mention, size) for size in SYNONYMS.get(mention.size, (None,)))
    for mention in (Mention(*words) for words in product(SHAPES, (None, *COLOURS), (None, *SIZES)))
}

_END = ""


def _trie(table: dict) -> dict:
    """Nested by word: `table`'s phrases, under _END the key that they say."""
    root = {}
    for value, phrases in table.items():
        for phrase in phrases:
            node = root
            for word in phrase.split():
                node = node.setdefault(word, {})
            node[_END] = value
    return root


_TRIES = {
    **{symbol: _trie({symbol: (symbol,)}) for form in FORMS.values() for symbol in form.split()},
    "opening": _trie({None: OPENINGS}),
    "X": _trie(THINGS),
    "R": _trie({relation: SYNONYMS[relation] for relation in RELATIONS}),
    "background": _trie({None: ("",), **{name: SYNONYMS[name] for name in BACKGROUNDS}}),
}
_KINDS = {
    **dict.fromkeys(SHAPES, "a shape"),
    **dict.fromkeys(COLOURS, "a colour"),
    **dict.fromkeys((word for size in SIZES for word in SYNONYMS[size]), "a size"),
    **dict.fromkeys(BACKGROUNDS, "a background"),
}


class _Reader:
    """Reads a caption along tries, and remembers what it missed where it came furthest."""

    def __init__(self, text: str) -> None:
        self.words = re.findall(r",|[^\s,]+", text.lower().strip().removesuffix("."))
        self.furthest = 0
        self.missed: set[str] = set()

    def read(self, tries: list[dict]) -> list | None:
        """What each trie finds, one after the other; None if they are not the whole caption."""
        at, values = 0, []
        for trie in tries:
            found = self._longest(at, trie)
            if found is None:
                return None
            at, value = found
            values.append(value)
        self._miss(at, {"the end"})
        return values if at == len(self.words) else None

    def complaint(self) -> str:
        """What was expected at the furthest word that any reading came to, and what came."""
        words = [None, *self.words, None]
        before, came = words[self.furthest : self.furthest + 2]
        place = sum(word != "," for word in self.words[: self.furthest + 1])
        if before in ("a", "an") and came in _KINDS and before != _article(came):
            article = _article(came)
            return f"expected {article!r} before {came!r}, came {before!r} (word {place - 1})"
        *most, last = sorted(self.missed)
        expected = f"{', '.join(most)} or {last}" if most else last
        after = f" after {before!r}" if before else ""
        where = f"{'after ' if came == ',' else ''}word {place}"
        return f"expected {expected}{after}, came {f'{came!r} ({where})' if came else 'the end'}"

    def _longest(self, at: int, trie: dict) -> tuple | None:
        found, node = None, trie
        while True:
            if _END in node:
                found = at, node[_END]
            next_words = {_KINDS.get(word, repr(word)) for word in node if word != _END}
            self._miss(at, {"a relation"} if node is _TRIES["R"] else next_words)
            if at == len(self.words) or self.words[at] not in node:
                return found
            node, at = node[self.words[at]], at + 1

    def _miss(self, at: int, expected: set[str]) -> None:
        if at > self.furthest:
            self.furthest, self.missed = at, set()
        if at == self.furthest:
            self.missed |= expected
