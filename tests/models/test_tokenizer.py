"""Byte-pair encoding: learned by hand, written and read, refused. Parity is in tests/parity."""

import json
import random
import re
from collections import Counter
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course.models.tokenizer import (
    END,
    START,
    CLIPTokenizer,
    byte_symbols,
    count_pairs,
    merge_pair,
    split_words,
    word_symbols,
)

# Sennrich et al. 2016, figure 1: low 5, lower 2, newest 6, widest 3.
SENNRICH = " ".join(["low"] * 5 + ["lower"] * 2 + ["newest"] * 6 + ["widest"] * 3)


@pytest.fixture(scope="module")
def tokenizer():
    return CLIPTokenizer.train([SENNRICH], 523)


def whole(message):
    return f"^{re.escape(message)}$"


def test_the_byte_symbols_are_gpt2s():
    symbols = byte_symbols()
    assert len(set(symbols)) == 256
    assert "".join(symbols[:94]) == "".join(map(chr, range(33, 127)))
    assert [symbols[i] for i in (94, 187, 188, 255)] == ["¡", "ÿ", "Ā", "Ń"]
    assert all(symbol.isprintable() and not symbol.isspace() for symbol in symbols)
    assert word_symbols("é\n") == ("Ã", "©", "Ċ</w>")


def test_pairs_are_counted_by_hand():
    words = {("l", "o", "w</w>"): 5, ("l", "o", "l", "o"): 2, ("x",): 9}
    assert count_pairs(words) == {("l", "o"): 9, ("o", "w</w>"): 5, ("o", "l"): 2}


def test_pairs_merge_from_left_to_right():
    assert merge_pair(("a", "a", "a", "b", "a", "a"), ("a", "a")) == ("aa", "a", "b", "aa")
    assert merge_pair(("a", "b"), ("b", "a")) == ("a", "b")
    assert merge_pair((), ("b", "a")) == ()


def test_merges_of_the_papers_example(tokenizer):
    """By hand, with ties in the order of code points: 9 e s, 9 es t, 7 l o, 6 e w, 6 ew est, ..."""
    assert [" ".join(pair) for pair in tokenizer.merges] == [
        "e s",
        "es t</w>",
        "l o",
        "e w",
        "ew est</w>",
        "n ewest</w>",
        "lo w</w>",
        "d est</w>",
        "i dest</w>",
    ]
    assert tokenizer.tokenize("Lowest newest low") == [
        *("lo", "w", "est</w>"),
        "newest</w>",
        "low</w>",
    ]


def test_the_vocabulary_is_in_clips_order(tokenizer):
    symbols = list(tokenizer.vocab)
    assert list(tokenizer.vocab.values()) == list(range(523))
    assert symbols[:256] == byte_symbols()
    assert symbols[256:512] == [symbol + "</w>" for symbol in byte_symbols()]
    assert symbols[512:] == [*map("".join, tokenizer.merges), START, END]
    assert (tokenizer.start, tokenizer.end) == (521, 522)


def test_training_ends_where_no_pair_occurs_twice():
    assert CLIPTokenizer.train(["abc xyz"], 600).merges == []
    assert CLIPTokenizer.train([], 600).merges == []
    assert CLIPTokenizer.train(["ab ab ab"], 514).merges == []
    assert CLIPTokenizer.train([f"ab{START}ab {END}"], 600).merges == [("a", "b</w>")]


def test_training_does_not_depend_on_the_order_of_texts():
    texts = [f"{a}{b}{a}" for a in "abcde" for b in "fghij"] * 2
    merges = CLIPTokenizer.train(texts, 560).merges
    random.Random(0).shuffle(texts)
    assert CLIPTokenizer.train(texts, 560).merges == merges
    assert len(merges) > 20


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("abc ", max_size=12), min_size=1, max_size=8))
def test_training_takes_the_most_frequent_pair_each_time(texts):
    """Each merge again, counted on a corpus that is written out word by word."""
    tokenizer = CLIPTokenizer.train(texts * 2, 540)
    corpus = [list(word_symbols(word)) for text in texts * 2 for word in split_words(text)]
    for merge in tokenizer.merges:
        counts = Counter(pair for word in corpus for pair in pairwise(word))
        assert counts[merge] == max(counts.values()) > 1
        assert merge == min(pair for pair, n in counts.items() if n == counts[merge])
        corpus = [list(merge_pair(word, merge)) for word in corpus]
    assert [tokenizer.tokenize(text) for text in texts * 2] == _by_text(corpus, texts * 2)


def test_encode_has_start_and_end(tokenizer):
    vocab = tokenizer.vocab
    assert tokenizer.encode("low") == [521, vocab["low</w>"], 522]
    assert tokenizer.encode("") == [521, 522]
    assert tokenizer.encode(f"low{END}x") == [521, vocab["low</w>"], 522, vocab["x</w>"], 522]


def test_rows_are_filled_up_or_cut(tokenizer):
    low = tokenizer.vocab["low</w>"]
    said = r"^texts\[1\]: expected at most 3 tokens, cut off the last 2$"
    with pytest.warns(UserWarning, match=said) as caught:
        tokens = tokenizer(["low", "low low low low low", "low low low"], length=5)
    assert len(caught) == 1
    assert tokens.dtype == torch.int64
    assert tokens.tolist() == [
        [521, low, 522, 522, 522],
        [521, low, low, low, 522],
        [521, low, low, low, 522],
    ]
    with pytest.warns(UserWarning, match="cut off the last 1$"):
        tokenizer("low low low low", length=5)
    assert torch.equal(tokenizer("low"), tokenizer(["low"]))
    assert tokenizer("low").shape == (1, 77)
    assert tokenizer([], length=4).shape == (0, 4)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(st.characters(categories=["Ll"], max_codepoint=0x17F)), max_size=5))
def test_small_letters_come_back(words):
    tokenizer = CLIPTokenizer.train([SENNRICH], 523)
    text = " ".join(word for word in words if word)
    if split_words(text) == text.split():  # not where a letter is a compatibility character
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_decode_skips_special_tokens_and_marks_broken_bytes(tokenizer):
    vocab = tokenizer.vocab
    assert tokenizer.decode([521, vocab["low</w>"], 522, vocab["x"], vocab["y</w>"]]) == "low xy"
    assert tokenizer.decode([vocab["Ã"], vocab["a</w>"]]) == "\ufffda"
    assert tokenizer.decode(tokenizer("Lower, low!")[0]) == "lower , low !"
    assert tokenizer.decode([]) == ""


def test_saved_and_loaded(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "new")
    loaded = CLIPTokenizer.load(tmp_path / "new")
    assert loaded.vocab == tokenizer.vocab
    assert loaded.merges == tokenizer.merges
    merges = tmp_path / "new" / "merges.txt"
    text = merges.read_text("utf-8")
    assert text.startswith("#version: 0.2\ne s\n")
    merges.write_text(text.removeprefix("#version: 0.2\n").rstrip("\n"), "utf-8")
    assert CLIPTokenizer.load(tmp_path / "new").merges == tokenizer.merges


def test_a_merge_of_number_signs_is_no_header(tmp_path):
    tokenizer = CLIPTokenizer.train(["## ## ##"], 600)
    assert tokenizer.merges == [("#", "#</w>")]
    tokenizer.save(tmp_path)
    (tmp_path / "merges.txt").write_text("# #</w>\n")
    assert CLIPTokenizer.load(tmp_path).merges == [("#", "#</w>")]


def test_no_merges_at_all(tmp_path):
    CLIPTokenizer.train([], 514).save(tmp_path)
    assert CLIPTokenizer.load(tmp_path).merges == []
    (tmp_path / "merges.txt").write_text("")
    assert CLIPTokenizer.load(tmp_path).tokenize("ab") == ["a", "b</w>"]


@pytest.mark.parametrize(
    ("line", "text", "said"),
    [
        (3, "es", "expected two symbols and a space between, came 'es'"),
        (3, "es t </w>", "expected two symbols and a space between, came 'es t </w>'"),
        (3, "es ", "expected two symbols and a space between, came 'es '"),
        (4, "", "expected two symbols and a space between, came ''"),
        (3, "es x", "expected a symbol of the vocabulary, came 'esx'"),
        (3, "ew est</w>", "expected bytes or what earlier merges made, came 'ew'"),
        (3, "€ t", "expected bytes or what earlier merges made, came '€'"),
        (4, "e s", "expected a new symbol, came 'es' again"),
    ],
)
def test_malformed_merges_are_named(tokenizer, tmp_path, line, text, said):
    tokenizer.save(tmp_path)
    path = tmp_path / "merges.txt"
    lines = path.read_text("utf-8").split("\n")
    lines[line - 1] = text
    for first in (0, 1):  # with and without the header
        path.write_text("\n".join(lines[first:]), "utf-8")
        with pytest.raises(ValueError, match=whole(f"{path}, line {line - first}: {said}")):
            CLIPTokenizer.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda v: v.pop(START), "expected each number of 0..521 once"),
        (
            lambda v: v.update({"more": v.pop(END)}),
            "expected the symbol '<|endoftext|>', came none",
        ),
        (lambda v: v.update({"more": v.pop("!")}), "expected the symbol '!', came none"),
        (lambda v: v.update({"more": 523}), "expected symbols that a merge makes, came 'more'"),
        (lambda v: v.update({"!": 1}), "expected each number of 0..522 once"),
        (lambda v: v.update({"!": 0.0}), "expected each number of 0..522 once"),
    ],
)
def test_wrong_vocabularies_are_named(tokenizer, tmp_path, change, said, no_typecheck):
    tokenizer.save(tmp_path)
    vocab = dict(tokenizer.vocab)
    change(vocab)
    path = tmp_path / "vocab.json"
    path.write_text(json.dumps(vocab))
    with pytest.raises(ValueError, match=whole(f"{path}: {said}")):
        CLIPTokenizer.load(tmp_path)
    with pytest.raises(ValueError, match=whole(f"vocab: {said}")):
        CLIPTokenizer(vocab, tokenizer.merges)


def test_no_merge_makes_a_special_token():
    merges = [(START[:i], START[i]) for i in range(1, len(START))]
    symbols = [*CLIPTokenizer.train([], 514).vocab, *map("".join, merges[:-1])]
    vocab = {symbol: i for i, symbol in enumerate(symbols)}
    assert CLIPTokenizer(vocab, merges[:-1]).merges == merges[:-1]
    with pytest.raises(ValueError, match=r"merges\[13\]: .* new symbol, came '<\|startoftext\|>'"):
        CLIPTokenizer(vocab, merges)


def test_files_that_can_not_be_read(tokenizer, tmp_path):
    with pytest.raises(FileNotFoundError):
        CLIPTokenizer.load(tmp_path)
    tokenizer.save(tmp_path)
    for name, content, said in (
        ("vocab.json", b"{", "vocab.json: expected JSON in UTF-8"),
        ("vocab.json", b"[1]", "vocab.json: expected symbols with numbers, came <class 'list'>"),
        ("merges.txt", b"\xff \xfe", "merges.txt: expected UTF-8"),
    ):
        tokenizer.save(tmp_path)
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=said):
            CLIPTokenizer.load(tmp_path)


def test_bad_arguments_are_named(tokenizer, no_typecheck):
    special = {**tokenizer.vocab}
    for call, message in (
        (lambda: CLIPTokenizer.train([], 513), "size: expected at least 514, came 513"),
        (lambda: tokenizer("low", length=1), "length: expected at least 2, .*came 1"),
        (lambda: tokenizer.decode([3, 523]), r"ids\[1\]: expected a number in 0..522, came 523"),
        (lambda: tokenizer.decode([-1]), r"ids\[0\]: .*came -1"),
        (lambda: CLIPTokenizer(special, [("e", "x")]), r"merges\[0\]: .*vocabulary, came 'ex'"),
        (lambda: CLIPTokenizer(special, tokenizer.merges[:3]), "vocab: .* makes, came 'ew'"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def _by_text(corpus, texts):
    """The words of a corpus, text by text."""
    words = iter(corpus)
    return [[s for _ in split_words(text) for s in next(words)] for text in texts]
