"""The tokenizer is transformers', on the same vocabulary and merges."""

import sys
import unicodedata

import pytest
import torch
import transformers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import normalizers

from course.models.tokenizer import END, START, CLIPTokenizer, split_words, word_symbols

CORPUS = (
    "A red triangle left of a small blue circle, and two green squares.",
    "The quick brown foxes aren't what they've seen; it's we'll and I'm and you'd and they're.",
    "Ein grüner Würfel läuft über die größte Straße, zwölf Füße weiter.",
    "Un éléphant préfère l'été; où est la forêt de l'île ? Ça ira, ça ira.",
    "Красный треугольник слева от синего круга, красный круг справа от синего треугольника.",
    "Ο κόκκινος κύκλος και ο μικρός ΚΎΚΛΟΣ δίπλα στον κύκλο.",
    "赤い三角と青い丸。赤い丸と青い三角。三つの四角と二つの四角。",
    "빨간 삼각형과 파란 원, 빨간 원과 파란 삼각형.",
    "مثلث أحمر ودائرة زرقاء ومثلث أحمر صغير ودائرة",
    "लाल त्रिकोण और नीला वृत्त, लाल वृत्त और नीला त्रिकोण",
    "100 times 3.14159 is 314.159, 50% of 2,000; $12.50 ... *** --- !!! ???",
    "🙂🙂 🙂👍🏽 👍🏽 👨‍👩‍👧 snake_case snake_case __init__ https://example.org/a?b=c",
)
HARD = (
    "",
    " ",
    "\t\r\n\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2003\u2028\u202f\u205f\u3000\u200b\ufeff\x00",
    "a\x1cb\x85c\u180ed",
    "² ½ x²y 三 ⅷ ٣ ①②",
    "isn't IT'S we'LL 'twas rock'n'roll ''s 's't '",
    "a_b __c__ _1_",
    "İstanbul ISTANBUL ıi ẞß ΣΑΣ ΟΔΥΣΣΕΥΣ. Σ ſ's ŉ ǅ \u0130\u0307",
    "é e\u0301 \u0301 \u0344 Å \u212b a\u0328\u0301 \u1100\u1161\u11a8",
    "\u0915\u093c \u2126 \ufb01 q\u0323\u0307 q\u0307\u0323",
    f"{START}a{END}b{START}",
    f"x {END} y{END}{END}! {END}s {START.upper()}! !{END.upper()}'s",
    f"{END}\u0338 <|startoftext <|startoftext||> <{START}>",
    "a</w>b </w> <w> 	</w>",
    "word" * 700,
    "赤い丸" * 300,
    "🙂" * 200,
)


def theirs_of(ours):
    return transformers.CLIPTokenizer(vocab=ours.vocab, merges=ours.merges)


MANY, FEW = (CLIPTokenizer.train(CORPUS * 2, size) for size in (900, 530))
PAIRS = [(ours, theirs_of(ours)) for ours in (MANY, FEW)]


def _disordered(mark):
    """Whether their NFC, of Unicode 9, does not know where among other marks this one belongs."""
    others = "\u0334\u0327\u0301\u0345"
    written = [text for other in others for text in (f"a{mark}{other}", f"a{other}{mark}")]
    nfc = normalizers.NFC()
    return any(nfc.normalize_str(text) != unicodedata.normalize("NFC", text) for text in written)


MARKS = [c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.combining(c)]
YOUNG = [mark for mark in MARKS if _disordered(mark)]
# A vowel of Unicode 13, which their NFC leaves in two parts.
YOUNG_VOWEL = "\U00011935\U00011930"

# A character that Python does not know is neither letter nor digit; tokenizers may know it.
known = st.characters(exclude_categories=("Cs", "Cn"), exclude_characters=[*YOUNG, *YOUNG_VOWEL])
shards = st.one_of(
    st.text(known, max_size=12),
    st.sampled_from([*HARD[:-3], *CORPUS, START, END, "'s", "'ll", " ", "\u0301", "Σ", "İ"]),
)
texts = st.lists(shards, max_size=8).map("".join)


def with_examples(test):
    for text in HARD:
        test = example(text)(test)
    return test


@settings(max_examples=600, deadline=None)
@given(texts)
@with_examples
def test_ids_and_symbols_are_theirs(text):
    for ours, theirs in PAIRS:
        assert ours.encode(text) == theirs(text).input_ids
        assert ours.tokenize(text) == theirs.tokenize(text)


@settings(max_examples=200, deadline=None)
@given(texts)
@with_examples
def test_decoded_texts_are_theirs(text):
    for ours, theirs in PAIRS:
        ids = ours.encode(text)
        assert ours.decode(ids) == _decoded(theirs, ids)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, len(FEW.vocab) - 1), max_size=30))
def test_any_numbers_are_decoded_as_theirs(ids):
    ours, theirs = PAIRS[1]
    assert ours.decode(ids) == _decoded(theirs, ids)


@pytest.mark.filterwarnings("ignore:texts")
@pytest.mark.parametrize("length", [77, 2, 9])
def test_the_batch_is_theirs(length):
    batch = [*HARD, *CORPUS, "x " * 75, "x " * 76, "x " * 74]
    for ours, theirs in PAIRS:
        want = theirs(batch, padding="max_length", truncation=True, max_length=length)
        assert torch.equal(ours(batch, length), torch.tensor(want.input_ids))


def test_each_character_that_python_knows_is_split_as_theirs():
    """Between letters, digits and others, alone and repeated: all 2 or 3 ways to split."""
    theirs = PAIRS[1][1].backend_tokenizer
    found = [c for c in map(chr, range(sys.maxunicode + 1)) if _assigned(c)]
    assert len(found) > 140_000
    for i in range(0, len(found), 2000):
        text = " ".join(f"a{c}1{c}{c}!{c}b" for c in found[i : i + 2000])
        normal = theirs.normalizer.normalize_str(text)
        want = [word for word, _ in theirs.pre_tokenizer.pre_tokenize_str(normal)]
        split = ["".join(word_symbols(word)).removesuffix("</w>") for word in split_words(text)]
        assert split == want


def test_where_they_differ():
    """Python's tables are the younger ones for NFC, theirs for what is a letter or a digit."""
    assert 0 < len(YOUNG) < 0.15 * len(MARKS)
    ours, theirs = PAIRS[1]
    for text in (YOUNG_VOWEL, "a" + YOUNG[0] + "\u0301\u0323", "a\U0001df25"):
        assert ours.encode(text) != theirs(text).input_ids


def test_saved_files_are_read_by_theirs(tmp_path):
    MANY.save(tmp_path)
    theirs = transformers.CLIPTokenizer.from_pretrained(tmp_path)
    for text in HARD + CORPUS:
        assert MANY.encode(text) == theirs(text).input_ids


def _decoded(theirs, ids):
    return theirs.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def _assigned(c):
    return unicodedata.category(c) not in ("Cn", "Cs", "Co")
