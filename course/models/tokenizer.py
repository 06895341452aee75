"""Byte-pair encoding by CLIP's rules: a text becomes the numbers of its pieces.

A text is normalised and split into words, a word into bytes, each written as one printable
character; the last carries the mark `</w>`. Then pairs of neighbours merge in the order in which
training found them.

Source: Sennrich et al. 2016, algorithm 1; Radford et al. 2021, section 2.4.
"""

import functools
import json
import math
import re
import sys
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor

from course.files import replace_file

START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"

Pair = tuple[str, str]

_SPECIAL = re.compile(f"({re.escape(START)}|{re.escape(END)})")
# White space of Unicode. Python's \s has four separators more, U+001C to U+001F.
_SPACE = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_SPACES = re.compile(f"[{_SPACE}]+")


def byte_symbols() -> list[str]:
    """One printable character for each byte, in the order of CLIP's vocabulary.

    Bytes that Latin-1 prints stand for themselves and come first; the others take the code points
    from 256 on, in order.

    Source: GPT-2's `bytes_to_unicode`.
    """
    return [_BYTE_SYMBOLS[byte] for byte in _PRINTED + _OTHERS]


def split_words(text: str) -> list[str]:
    """Words of a text: lower-case runs of letters, single digits, runs of the rest, contractions.

    Unicode is Python's: 14.0 in Python 3.11. transformers knows younger letters and digits, and
    orders marks younger than Unicode 9 otherwise; elsewhere the two are equal.
    """
    # Each character by itself, or a sigma at the end of a word would become another letter.
    text = "".join(c.lower() for c in unicodedata.normalize("NFC", text))
    words = []
    for word in _word_pattern().findall(text):
        # Capitals spelled it: it bounds words, but is no token.
        words += re.findall(r"\w+|\W+", word) if _SPECIAL.fullmatch(word) else [word]
    return words


def word_symbols(word: str) -> tuple[str, ...]:
    """Bytes of a word as characters, the last with the mark of the end."""
    *symbols, last = [_BYTE_SYMBOLS[byte] for byte in word.encode()]
    return (*symbols, last + WORD_END)


def count_pairs(words: Mapping[tuple[str, ...], int]) -> Counter[Pair]:
    """How often each two symbols stand side by side, in words with their counts."""
    counts: Counter[Pair] = Counter()
    for symbols, count in words.items():
        for pair in pairwise(symbols):
            counts[pair] += count
    return counts


def merge_pair(symbols: Sequence[str], pair: Pair) -> tuple[str, ...]:
    """The same symbols with each such pair, from left to right, made one."""
    merged, i = [], 0
    while i < len(symbols):
        found = tuple(symbols[i : i + 2]) == pair
        merged.append("".join(pair) if found else symbols[i])
        i += 1 + found
    return tuple(merged)


class CLIPTokenizer:
    """Texts to token numbers and back.

    Args:
        vocab: number of each symbol, 0..n-1: bytes with and without the mark of a word's end, what
            the merges make, `<|startoftext|>` and `<|endoftext|>`.
        merges: pairs of symbols, the first merged first; each makes a symbol of its own.

    Raises:
        ValueError: a symbol is missing, the numbers are others, or a merge joins symbols that are
            not there yet or makes one that is.
    """

    def __init__(self, vocab: dict[str, int], merges: Sequence[Pair]):
        _check(vocab, merges)
        self.vocab, self.merges = dict(vocab), list(merges)
        self.start, self.end = vocab[START], vocab[END]
        self._symbols = sorted(vocab, key=vocab.__getitem__)
        self._ranks = {pair: rank for rank, pair in enumerate(self.merges)}
        self._known: dict[str, tuple[str, ...]] = {}

    @classmethod
    def train(cls, texts: Iterable[str], size: int) -> "CLIPTokenizer":
        """Learn merges: join the most frequent pair, count again, until the vocabulary is full.

        Of pairs that are equally frequent the first in the order of code points is taken.

        Args:
            texts: corpus; special tokens in it are left out.
            size: of the vocabulary, from 514: two for each byte, and two special tokens. It stays
                smaller where no pair occurs twice.

        Raises:
            ValueError: `size` is below 514.
        """
        symbols = _first_symbols()
        if size < len(symbols) + 2:
            raise ValueError(f"size: expected at least {len(symbols) + 2}, came {size}")
        parts = (part for text in texts for part in _SPECIAL.split(text)[::2])
        words = Counter(word_symbols(word) for part in parts for word in split_words(part))
        merges = []
        for _ in range(size - len(symbols) - 2):
            counts = count_pairs(words)
            best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
            if best is None or counts[best] < 2:
                break
            merges.append(best)
            words = Counter({merge_pair(word, best): n for word, n in words.items()})
        symbols += ["".join(pair) for pair in merges] + [START, END]
        return cls({symbol: i for i, symbol in enumerate(symbols)}, merges)

    def tokenize(self, text: str) -> list[str]:
        """Symbols of a text, special tokens in it included; none is added."""
        symbols: list[str] = []
        for i, part in enumerate(_SPECIAL.split(text)):
            if i % 2:
                symbols.append(part)
                continue
            # No word reaches across white space, and most of what stands between is known.
            for chunk in _SPACES.split(part):
                if chunk not in self._known:
                    words = map(self._merged, split_words(chunk))
                    self._known[chunk] = tuple(symbol for word in words for symbol in word)
                symbols += self._known[chunk]
        return symbols

    def encode(self, text: str) -> list[int]:
        """Numbers of a text's symbols, between start and end."""
        return [self.start, *(self.vocab[symbol] for symbol in self.tokenize(text)), self.end]

    def __call__(self, texts: str | Sequence[str], length: int = 77) -> Int64[Tensor, "B M"]:
        """Numbers of one or several texts, filled up with the end token.

        A longer text is cut, with a warning; the end token stays last.

        Args:
            texts: one or several.
            length: of each row, at least 2.

        Raises:
            ValueError: `length` is below 2.
        """
        if length < 2:
            raise ValueError(f"length: expected at least 2, for start and end, came {length}")
        texts = [texts] if isinstance(texts, str) else texts
        rows = []
        for i, text in enumerate(texts):
            ids = self.encode(text)
            if len(ids) > length:
                warnings.warn(
                    f"texts[{i}]: expected at most {length - 2} tokens, "
                    f"cut off the last {len(ids) - length}",
                    stacklevel=2,
                )
            # Behind the cut the row holds the end token, too.
            kept = ids[: length - 1]
            rows.append(kept + [self.end] * (length - len(kept)))
        return torch.tensor(rows, dtype=torch.int64).reshape(-1, length)

    def decode(self, ids: Sequence[int] | Int64[Tensor, " M"]) -> str:
        """Text of token numbers, special ones left out; bytes that are no UTF-8 become U+FFFD.

        Raises:
            ValueError: a number is outside the vocabulary.
        """
        ids = ids.tolist() if isinstance(ids, Tensor) else ids
        for i, token in enumerate(ids):
            if not 0 <= token < len(self._symbols):
                expected = f"0..{len(self._symbols) - 1}"
                raise ValueError(f"ids[{i}]: expected a number in {expected}, came {token}")
        symbols = [self._symbols[token] for token in ids if token not in (self.start, self.end)]
        text = bytes(_BYTES[c] for c in "".join(symbols)).decode(errors="replace")
        return text.replace(WORD_END, " ").strip()

    def save(self, folder: str | Path) -> None:
        """Write `vocab.json` and `merges.txt`, as transformers reads them."""
        vocab = json.dumps(self.vocab, ensure_ascii=False)
        merges = "\n".join(["#version: 0.2", *map(" ".join, self.merges)])
        replace_file(Path(folder) / "vocab.json", f"{vocab}\n".encode())
        replace_file(Path(folder) / "merges.txt", f"{merges}\n".encode())

    @classmethod
    def load(cls, folder: str | Path) -> "CLIPTokenizer":
        """Read `vocab.json` and `merges.txt`, whose first line may tell a version.

        Raises:
            OSError: a file is missing.
            ValueError: a file is malformed; its name and the line are told.
        """
        at_vocab, at_merges = Path(folder) / "vocab.json", Path(folder) / "merges.txt"
        try:
            vocab = json.loads(at_vocab.read_text("utf-8"))
        except ValueError as error:
            raise ValueError(f"{at_vocab}: expected JSON in UTF-8, {error}") from error
        try:
            lines = at_merges.read_text("utf-8").rstrip("\n").split("\n")
        except ValueError as error:
            raise ValueError(f"{at_merges}: expected UTF-8, {error}") from error
        first = int(lines[0].startswith("#version") or lines == [""])
        merges = []
        for number, line in enumerate(lines[first:], 1 + first):
            pair = tuple(line.split(" "))
            if len(pair) != 2 or not all(pair):
                raise ValueError(
                    f"{at_merges}, line {number}: expected two symbols and a space between, "
                    f"came {line!r}"
                )
            merges.append(pair)
        _check(vocab, merges, str(at_vocab), lambda i: f"{at_merges}, line {i + 1 + first}")
        return cls(vocab, merges)

    def _merged(self, word: str) -> tuple[str, ...]:
        symbols = word_symbols(word)
        while len(symbols) > 1:
            pair = min(pairwise(symbols), key=lambda pair: self._ranks.get(pair, math.inf))
            if pair not in self._ranks:
                break
            symbols = merge_pair(symbols, pair)
        return symbols


def _check(
    vocab: object,
    merges: Sequence[Pair],
    vocab_name: str = "vocab",
    merge_name: Callable[[int], str] = "merges[{}]".format,
) -> None:
    if not isinstance(vocab, dict):
        raise ValueError(f"{vocab_name}: expected symbols with numbers, came {type(vocab)}")
    whole = all(type(number) is int for number in vocab.values())
    if not whole or sorted(vocab.values()) != list(range(len(vocab))):
        raise ValueError(f"{vocab_name}: expected each number of 0..{len(vocab) - 1} once")
    known = set(_first_symbols())
    for symbol in [*_first_symbols(), START, END]:
        if symbol not in vocab:
            raise ValueError(f"{vocab_name}: expected the symbol {symbol!r}, came none")
    for i, pair in enumerate(merges):
        made = "".join(pair)
        for symbol in pair:
            if symbol not in known:
                raise ValueError(
                    f"{merge_name(i)}: expected bytes or what earlier merges made, came {symbol!r}"
                )
        if made in known or made in (START, END):
            raise ValueError(f"{merge_name(i)}: expected a new symbol, came {made!r} again")
        if made not in vocab:
            raise ValueError(f"{merge_name(i)}: expected a symbol of the vocabulary, came {made!r}")
        known.add(made)
    if len(vocab) != len(known) + 2:
        left = next(symbol for symbol in vocab if symbol not in {*known, START, END})
        raise ValueError(f"{vocab_name}: expected symbols that a merge makes, came {left!r}")


def _first_symbols() -> list[str]:
    symbols = byte_symbols()
    return symbols + [symbol + WORD_END for symbol in symbols]


@functools.cache
def _word_pattern() -> re.Pattern[str]:
    letters, numbers = _class("L"), _class("N")
    return re.compile(
        rf"{_SPECIAL.pattern[1:-1]}|'s|'t|'re|'ve|'m|'ll|'d"
        rf"|[{letters}]+|[{numbers}]|[^{_SPACE}{letters}{numbers}]+"
    )


def _class(kind: str) -> str:
    r"""What stands between brackets for \p{kind}, which `re` lacks."""
    points = [i for i in range(sys.maxunicode + 1) if unicodedata.category(chr(i))[0] == kind]
    firsts = [b for a, b in pairwise([-2, *points]) if b > a + 1]
    lasts = [a for a, b in pairwise([*points, math.inf]) if b > a + 1]
    return "".join(f"{chr(a)}-{chr(b)}" for a, b in zip(firsts, lasts, strict=True))


_PRINTED = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_OTHERS = [byte for byte in range(256) if byte not in _PRINTED]
_BYTE_SYMBOLS = {byte: chr(byte) for byte in _PRINTED} | {
    byte: chr(256 + i) for i, byte in enumerate(_OTHERS)
}
_BYTES = {symbol: byte for byte, symbol in _BYTE_SYMBOLS.items()}
