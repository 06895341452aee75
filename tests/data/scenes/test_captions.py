"""Captions: said and read back, true of what they describe, false when turned round, counted."""

from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import combinations, permutations, product
from random import Random

import pytest

from course.data.scenes import captions, grammar
from course.data.scenes.captions import (
    caption,
    caption_holds,
    count_meanings,
    describe,
    equivalent,
    false_twins,
    holds,
    meanings,
    twins,
)
from course.data.scenes.grammar import (
    Meaning,
    Mention,
    count_sentences,
    parse,
    vocabulary,
    write,
)
from course.data.scenes.world import (
    BACKGROUNDS,
    COLOURS,
    EXTENTS,
    RELATIONS,
    SHAPES,
    SIZES,
    Scene,
    Thing,
)

LISTED, PAIR, FORK, CHAIN = (), ((0, 1),), ((0, 1), (0, 2)), ((0, 1), (1, 2))
PAIRS = {1: [LISTED], 2: [LISTED, PAIR], 3: [LISTED, PAIR, FORK, CHAIN]}
PLACES = ((0.25, 0.25), (0.75, 0.3), (0.5, 0.75))
# The picture turned by quarters: between them, any relation holds of the first two things.
TURNS = (
    lambda x, y: (x, y),
    lambda x, y: (1 - y, x),
    lambda x, y: (1 - x, 1 - y),
    lambda x, y: (y, 1 - x),
)


def scene(*kinds, background="white", turn=0):
    """Of words as "small red star": the second is right of the first, the third below both."""
    things = []
    for kind, place in zip(kinds, PLACES, strict=False):
        size, colour, shape = kind.split()
        things.append(Thing(shape, colour, size, *TURNS[turn](*place), EXTENTS[size][0]))
    return Scene(tuple(things), background)


def random_scene(rng, things):
    kinds = rng.sample(list(product(COLOURS, SHAPES)), things)
    words = [f"{rng.choice(SIZES)} {colour} {shape}" for colour, shape in kinds]
    return scene(*words, background=rng.choice(list(BACKGROUNDS)), turn=rng.randrange(4))


def random_meaning(rng, things, shapes=SHAPES, colours=tuple(COLOURS)):
    mentions = tuple(
        Mention(rng.choice(shapes), rng.choice((None, *colours)), rng.choice((None, *SIZES)))
        for _ in range(things)
    )
    pairs = rng.choice(PAIRS[things])
    relations = tuple((i, rng.choice(RELATIONS), j) for i, j in pairs)
    return Meaning(mentions, relations, rng.choice((None, None, *BACKGROUNDS)))


def raw(rng, count=16):
    return [rng.getrandbits(64) for _ in range(count)]


def sentences(meaning):
    """Whatever the numbers say: an opening, then words of two each."""
    numbers = iter(range(16))
    write(meaning, numbers)
    return {write(meaning, bits) for bits in product(range(4), *[range(2)] * (next(numbers) - 1))}


def bag(text):
    return Counter(text.replace(",", "").split())


RED_STAR, ORANGE_RING = Mention("star", "red"), Mention("ring", "orange", "small")
SQUARE = Mention("square", None, "large")
BY_HAND = (
    (Meaning((RED_STAR,)), [0], "a red star"),
    (Meaning((Mention("ring", "orange"),), (), "navy"), [3, 1], "there is an orange ring on navy"),
    (
        Meaning((ORANGE_RING,), (), "black"),
        [1, 0, 0],
        "a picture of a small orange ring on a black background",
    ),
    (
        Meaning((RED_STAR, ORANGE_RING)),
        [2, 1],
        "a drawing of a red star and a little orange ring",
    ),
    (
        Meaning((RED_STAR, ORANGE_RING), ((0, "left of", 1),)),
        [0, 0, 1],
        "a red star to the left of a small orange ring",
    ),
    (
        Meaning((SQUARE, RED_STAR, ORANGE_RING), (), "grey"),
        [0, 1, 0, 1],
        "a large square, a red star and a little orange ring on grey",
    ),
    (
        Meaning((RED_STAR, SQUARE, Mention("ring", "orange")), ((0, "above", 1),)),
        [0, 1, 1],
        "a red star over a big square, and an orange ring",
    ),
    (
        Meaning((RED_STAR, SQUARE, ORANGE_RING), ((0, "below", 1), (0, "right of", 2))),
        [0, 0, 0, 1, 0],
        "a red star under a large square and right of a small orange ring",
    ),
    (
        Meaning((SQUARE, RED_STAR, SQUARE), ((0, "below", 1), (1, "right of", 2)), "white"),
        [3, 1, 0, 0, 1, 1],
        "there is a big square below a red star, which is to the right of a large square on white",
    ),
)


@pytest.mark.parametrize(("meaning", "bits", "text"), BY_HAND)
def test_sentences_by_hand(meaning, bits, text):
    assert write(meaning, bits) == text
    assert parse(text) == meaning
    with pytest.raises(ValueError, match="bits: expected one more number, came the end"):
        write(meaning, bits[:-1])


def test_only_the_remainder_of_a_number_counts_and_none_is_taken_in_vain():
    rng = Random(0)
    for _ in range(300):
        meaning, bits = random_meaning(rng, rng.choice((1, 2, 3))), raw(rng)
        text, numbers = write(meaning, bits), iter(bits)
        assert write(meaning, [number % 4 + 4 * rng.getrandbits(60) for number in bits]) == text
        assert write(meaning, numbers) == text
        said = [mention.size for mention in meaning.mentions] + [meaning.background]
        taken = 1 + len(said) - said.count(None) + len(meaning.relations)
        assert list(numbers) == bits[taken:]


def test_every_sentence_of_one_thing_is_read_back():
    texts = Counter()
    for meaning in meanings(1):
        for text in sentences(meaning):
            assert parse(text) == meaning
            texts[text] += 1
    # 4 openings; without a size or with one of 4 words; no background or 4 in 2 ways.
    assert len(texts) == texts.total() == 4 * (6 * 9 * 5) * 9


@pytest.mark.parametrize("things", [2, 3])
def test_sentences_of_more_things_are_read_back(things):
    rng, forms = Random(things), set()
    for _ in range(1000):
        meaning = random_meaning(rng, things)
        text = write(meaning, raw(rng))
        forms.add(meaning.form)
        assert parse(text) == meaning, text
        assert len(text.split()) <= 29
    assert len(forms) == len(PAIRS[things])


def test_capitals_spaces_and_a_full_stop_do_no_harm():
    text = "  A Picture  of\ta RED star ,an orange ring and a Square\non white . "
    square = Mention("square")
    assert parse(text) == Meaning((RED_STAR, Mention("ring", "orange"), square), (), "white")


def test_what_is_read_is_what_can_be_said():
    """A word is lost, doubled, replaced or moved: what can still be read, can be said so."""
    rng, read, every = Random(1), 0, (*vocabulary(), ",")
    for _ in range(3000):
        text = write(random_meaning(rng, rng.choice((1, 2, 3)), SHAPES[:2], ("red",)), raw(rng))
        words = text.replace(",", " ,").split()
        at, to = rng.randrange(len(words)), rng.randrange(len(words))
        new = [rng.choice(every), words[to]]
        words[at : at + 1] = rng.choice(([], [words[at]] * 2, new[:1], new))
        text = " ".join(words).replace(" ,", ",")
        try:
            meaning = parse(text)
        except ValueError:
            continue
        read += 1
        assert text in sentences(meaning), text
    assert read > 150


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a red dog", "a shape after 'red', came 'dog' (word 3)"),
        ("A picture of a red dog.", "a shape after 'red', came 'dog' (word 6)"),
        ("", "'a', 'an' or 'there', came the end"),
        ("two stars", "'a', 'an' or 'there', came 'two' (word 1)"),
        (
            "a dog",
            "'drawing', 'picture', a colour, a shape or a size after 'a', came 'dog' (word 2)",
        ),
        ("a red small star", "a shape after 'red', came 'small' (word 3)"),
        (
            "a star star",
            "',', 'and', 'on', a relation or the end after 'star', came 'star' (word 3)",
        ),
        ("a star above", "'a' or 'an' after 'above', came the end"),
        ("a star to the top", "'left' or 'right' after 'the', came 'top' (word 5)"),
        ("a star, a ring, a square", "'and' after 'ring', came ',' (after word 4)"),
        ("a star, a ring dog", "'and' after 'ring', came 'dog' (word 5)"),
        ("a star over a ring, dog", "'and' or 'which' after ',', came 'dog' (word 6)"),
        ("a star on a white", "'background' after 'white', came the end"),
        ("a star on white on white", "the end after 'white', came 'on' (word 5)"),
        ("a star and a orange ring", "'an' before 'orange', came 'a' (word 4)"),
        ("a star,", "'a' or 'an' after ',', came the end"),
        ("a red ring..", "a shape after 'red', came 'ring.' (word 3)"),
        ("an star", "'a' before 'star', came 'an' (word 1)"),
    ],
)
def test_where_a_caption_stops_being_one(text, complaint):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        parse(text)
    assert str(caught.value) == f"caption: expected {complaint}"


def test_sentences_are_counted():
    rng = Random(2)
    for meaning, _, _ in BY_HAND:
        assert count_sentences(meaning) == len(sentences(meaning))
    for things in (1, 2, 3):
        for _ in range(25):
            meaning = random_meaning(rng, things)
            assert count_sentences(meaning) == len(sentences(meaning))
    assert [count_sentences(meaning) for meaning, _, _ in BY_HAND[-2:]] == [4 * 2**4, 4 * 2**5]


def test_meanings_are_counted(monkeypatch):
    """162 mentions; 1, 1 + 4 and 1 + 4 + 16 + 16 ways to relate; 5 backgrounds."""
    assert [count_meanings(n) for n in (1, 2, 3)] == [810, 656_100, 786_532_680]
    assert len(set(meanings(1))) == 810
    few = dict(list(grammar.THINGS.items())[:7])
    monkeypatch.setattr(captions, "THINGS", few)
    monkeypatch.setattr(captions, "BACKGROUNDS", ("grey",))
    monkeypatch.setattr(captions, "RELATIONS", RELATIONS[:3])
    for things, count in ((2, 7**2 * 4 * 2), (3, 7**3 * (1 + 3 + 9 + 9) * 2)):
        found = list(meanings(things))
        assert len(set(found)) == len(found) == count_meanings(things) == count
        assert {mention for meaning in found for mention in meaning.mentions} == set(few)


@pytest.mark.slow
def test_all_meanings_of_two_things():
    assert len({hash(meaning) for meaning in meanings(2)}) == 656_100


def test_the_vocabulary_is_what_is_said():
    rng, words = Random(3), set()
    for _ in range(1500):
        words |= set(bag(write(random_meaning(rng, rng.choice((1, 2, 3))), raw(rng))))
    assert vocabulary() == tuple(sorted(words))
    assert len(vocabulary()) == 41


def test_an_stands_before_orange_only():
    for mention, phrases in grammar.THINGS.items():
        orange = mention.colour == "orange" and mention.size is None
        assert all(phrase.startswith("an orange " if orange else "a ") for phrase in phrases)


def fits(mention, thing):
    stated = [name for name in ("shape", "colour", "size") if getattr(mention, name) is not None]
    return all(getattr(mention, name) == getattr(thing, name) for name in stated)


def test_captions_are_true_of_their_scene():
    rng, found = Random(4), set()
    for _ in range(1200):
        shown, bits = random_scene(rng, rng.choice((1, 2, 3))), raw(rng)
        numbers = iter(bits)
        meaning = describe(shown, numbers)
        assert list(numbers) == bits[3 + 2 * len(shown.things) :]
        assert holds(meaning, shown)
        for mention in meaning.mentions:
            assert sum(fits(mention, thing) for thing in shown.things) == 1
        text = caption(shown, bits)
        assert text == caption(shown, iter(bits))
        assert parse(text) == meaning
        assert caption_holds(text.upper(), shown)
        found.add((meaning.form, *[relation for _, relation, _ in meaning.relations]))
    # With three places as they are, one relation of two is never the other's opposite.
    assert len(found) == 1 + 1 + 4 + 1 + 4 + 12 + 12


def every_description(shown):
    """One for each remainder of each number, so that shares are exact."""
    things = len(shown.things)
    orders, patterns = {1: (1, 1), 2: (2, 4), 3: (6, 4)}[things]
    options = (orders, patterns, *(2, 8) * things, 4)
    return [describe(shown, bits) for bits in product(*map(range, options))]


def share(found, condition):
    return Fraction(sum(map(condition, found)), len(found))


def test_how_often_what_is_said():
    found = every_description(scene("small red star", "large red ring", background="navy"))
    assert share(found, lambda m: m.background == "navy") == Fraction(1, 4)
    assert share(found, lambda m: bool(m.relations)) == Fraction(3, 4)
    for k in range(2):
        assert share(found, lambda m, k=k: m.mentions[k].shape == "star") == Fraction(1, 2)
        assert share(found, lambda m, k=k: m.mentions[k].size is not None) == Fraction(1, 2)
        assert share(found, lambda m, k=k: m.mentions[k].colour == "red") == Fraction(7, 8)
    rng, three = Random(5), scene("small red star", "large red ring", "small blue cross")
    found = [describe(three, [order, form, *raw(rng)]) for order in range(6) for form in range(4)]
    shapes = Counter(tuple(mention.shape for mention in m.mentions) for m in found)
    assert set(shapes) == set(permutations(("star", "ring", "cross")))
    assert set(shapes.values()) == {4}
    forms = Counter(tuple((i, j) for i, _, j in m.relations) for m in found)
    assert forms == {LISTED: 6, PAIR: 6, FORK: 6, CHAIN: 6}


def test_colours_are_said_where_they_are_needed():
    same = every_description(scene("small red star", "small blue star"))
    assert all(mention.colour for m in same for mention in m.mentions)
    # Now the size tells them apart, if it is said.
    found = every_description(scene("small red star", "large blue star"))
    for k in range(2):
        plain = share(found, lambda m, k=k: m.mentions[k].colour is None)
        assert plain == Fraction(1, 8) * Fraction(1, 2)
        assert all(m.mentions[k].colour or m.mentions[k].size for m in found)


def test_nothing_is_said_of_places_on_a_diagonal():
    things = (
        Thing("star", "red", "small", 0.25, 0.25, 0.25),
        Thing("ring", "blue", "small", 0.75, 0.75, 0.25),
    )
    found = every_description(Scene(things, "grey"))
    assert not any(m.relations for m in found)
    for relation in RELATIONS:
        assert not caption_holds(f"a red star {relation} a blue ring", Scene(things, "grey"))


@pytest.mark.parametrize(
    ("text", "true"),
    [
        ("a star and a circle", True),
        ("a circle and a star", True),
        ("a small red star and a large blue circle", True),
        ("a large red star and a circle", False),
        ("a blue star and a red circle", False),
        ("a star and a square", False),
        ("a star", False),
        ("a star, a circle and a ring", False),
        ("a star and a star", False),
        ("a star left of a circle", True),
        ("a circle to the right of a star", True),
        ("a star right of a circle", False),
        ("a circle left of a star", False),
        ("a star above a circle", False),
        ("a star and a circle on grey", True),
        ("a star and a circle on white", False),
    ],
)
def test_what_holds_of_two_things(text, true):
    shown = scene("small red star", "large blue circle", background="grey")
    assert caption_holds(text, shown) is true
    swapped = Scene(shown.things[::-1], "grey")
    assert caption_holds(text, swapped) is true


def test_mentions_are_given_to_things_one_to_one():
    """A star is the blue one here, as the red one is wanted for the other mention."""
    stars = scene("small red star", "small blue star")
    assert caption_holds("a star and a red star", stars)
    assert caption_holds("a red star and a star", stars)
    assert not caption_holds("a red star and a red star", stars)
    assert caption_holds("a star right of a star", stars)
    assert caption_holds("a star right of a red star", stars)
    assert not caption_holds("a star left of a red star", stars)


def brute_force(meaning, shown):
    """By every map from mentions to things, and from where the things are."""
    ways = {"left of": (1, 0), "right of": (-1, 0), "above": (0, 1), "below": (0, -1)}
    n = len(shown.things)
    for chosen in product(shown.things, repeat=len(meaning.mentions)):
        if len(meaning.mentions) != n or len(set(chosen)) != n:
            continue
        true = [
            fits(mention, thing) for mention, thing in zip(meaning.mentions, chosen, strict=True)
        ]
        true.append(meaning.background is None or meaning.background == shown.background)
        for i, relation, j in meaning.relations:
            dx, dy = chosen[j].x - chosen[i].x, chosen[j].y - chosen[i].y
            along, across = ways[relation]
            true.append(along * dx + across * dy > abs(across * dx) + abs(along * dy))
        if all(true):
            return True
    return False


def test_holds_agrees_with_brute_force():
    rng, true, many = Random(6), Counter(), 0
    for _ in range(3000):
        things = rng.choice((1, 2, 3))
        shown = random_scene(rng, things)
        meaning = describe(shown, raw(rng))
        change = rng.randrange(4)
        if change == 0:
            k, other = rng.randrange(things), random_meaning(rng, 1).mentions[0]
            mentions = (*meaning.mentions[:k], other, *meaning.mentions[k + 1 :])
            meaning = replace(meaning, mentions=mentions)
        elif change == 1:
            turned = tuple((i, rng.choice(RELATIONS), j) for i, _, j in meaning.relations)
            meaning = replace(meaning, relations=turned)
        elif change == 2:
            plain = tuple(Mention(mention.shape) for mention in meaning.mentions)
            meaning = replace(meaning, mentions=plain, background=rng.choice(list(BACKGROUNDS)))
        want = brute_force(meaning, shown)
        many += sum(fits(meaning.mentions[0], thing) for thing in shown.things) > 1
        true[want] += 1
        assert holds(meaning, shown) is want, (meaning, shown)
    assert min(true.values()) > 500
    assert many > 50


def test_meanings_are_equivalent_whatever_comes_first():
    assert equivalent(parse("a star left of a ring"), parse("a ring right of a star"))
    assert equivalent(parse("a star and a ring on white"), parse("a ring and a star on white"))
    assert equivalent(parse("a star left of a star"), parse("a star right of a star"))
    fork, chain = (
        "a star above a ring and left of a cross",
        "a ring below a star, which is left of a cross",
    )
    assert equivalent(parse(fork), parse(chain))
    for text in (
        "a star right of a ring",
        "a star and a ring",
        "a star left of a ring on grey",
        "a red star left of a ring",
        "a star left of a ring, and a ring",
        "a star",
    ):
        assert not equivalent(parse("a star left of a ring"), parse(text))


SMALL_WORLD = [
    scene(" ".join(one), " ".join(other), turn=turn)
    for one, other in combinations(product(SIZES, ("red", "blue", "pink"), ("star", "ring")), 2)
    if one[1:] != other[1:]
    for turn in range(4)
]


def truths(meaning):
    return tuple(holds(meaning, shown) for shown in SMALL_WORLD)


def exchanges(meaning):
    """All that `twins` may return, from the mentions' fields."""
    table = [(m.shape, m.colour, m.size) for m in meaning.mentions]
    related = [(i, j) for i, _, j in meaning.relations]
    pairs = list(combinations(range(len(table)), 2))
    for kind, fields, where in (
        ("colours", (1,), pairs),
        ("sizes", (2,), pairs),
        ("places", (0, 1, 2), related),
    ):
        for i, j in where:
            rows = [list(row) for row in table]
            for field in fields:
                rows[i][field], rows[j][field] = table[j][field], table[i][field]
            yield kind, replace(meaning, mentions=tuple(Mention(*row) for row in rows))


def test_twins_are_all_exchanges_that_say_something_else():
    """Of two things: what is left out says the same, can't be, or (by its relations) is no twin."""
    left_out = 0
    rng = Random(7)
    for _ in range(120):
        meaning = random_meaning(rng, 2, ("star", "ring"), ("red", "blue"))
        meaning = replace(meaning, background=None)
        found, own = twins(meaning), truths(meaning)
        for exchange in exchanges(meaning):
            other = truths(exchange[1])
            assert (exchange in found) == (any(other) and other != own), (meaning, exchange)
            left_out += exchange not in found
        assert set(found) <= set(exchanges(meaning))
    assert left_out > 50


@pytest.mark.parametrize("things", [1, 2, 3])
def test_twins_have_the_same_words(things):
    rng, kinds = Random(8), Counter()
    for _ in range(250):
        meaning, bits = random_meaning(rng, things), raw(rng)
        text, possible = write(meaning, bits), set(exchanges(meaning))
        for kind, twin in twins(meaning):
            other = write(twin, bits)
            assert bag(other) == bag(text)
            assert other != text
            assert (kind, twin) in possible
            assert not equivalent(twin, meaning)
            assert parse(other) == twin
            kinds[kind] += 1
    assert set(kinds) == (set() if things == 1 else {"colours", "sizes", "places"})


def test_twins_by_hand():
    text = "a small red star above a large blue ring, which is left of a small green cross"
    found = [(kind, write(twin, [0] * 9)) for kind, twin in twins(parse(text))]
    assert found == [
        ("colours", text.replace("red", "_").replace("blue", "red").replace("_", "blue")),
        ("colours", text.replace("red", "_").replace("green", "red").replace("_", "green")),
        ("colours", text.replace("blue", "_").replace("green", "blue").replace("_", "green")),
        ("sizes", "a large red star above a small blue ring, which is left of a small green cross"),
        ("sizes", "a small red star above a small blue ring, which is left of a large green cross"),
        (
            "places",
            "a large blue ring above a small red star, which is left of a small green cross",
        ),
        (
            "places",
            "a small red star above a small green cross, which is left of a large blue ring",
        ),
    ]
    for text, kinds in (
        ("a red star and a ring", ["colours"]),
        ("a red star and a red ring", []),
        ("a red star and a blue star", []),
        ("a red star left of a blue star", ["colours", "places"]),
        ("an orange star and a blue ring", ["colours"]),
        ("an orange star and a small blue ring", []),
        ("a red star, a blue ring and a red ring", []),
        ("a large red star", []),
    ):
        assert [kind for kind, _ in twins(parse(text))] == kinds, text


def test_false_twins_are_false():
    shown = scene("small red star", "small red ring")
    meaning = parse("a red star left of a small ring")
    assert holds(meaning, shown)
    # The other's colour and size are the same, so that only the places turn false.
    assert [kind for kind, _ in twins(meaning)] == ["colours", "sizes", "places"]
    assert [kind for kind, _ in false_twins(meaning, shown)] == ["places"]
    rng, count = Random(9), Counter()
    for _ in range(250):
        shown = random_scene(rng, rng.choice((2, 3)))
        meaning = describe(shown, raw(rng))
        found = false_twins(meaning, shown)
        for pair in twins(meaning):
            assert (pair in found) is not brute_force(pair[1], shown)
            count[pair in found] += 1
        assert set(found) <= set(twins(meaning))
    assert count[True] > 250
    assert count[False] > 10


def test_bad_arguments_are_named(no_typecheck):
    star, chain = Mention("star"), ((0, "above", 1), (1, "above", 2))
    for call, message in (
        (lambda: Mention("dog"), "shape: expected one of circle, .*came 'dog'"),
        (lambda: Mention("star", "mauve"), "colour: expected one of red, .*came 'mauve'"),
        (lambda: Mention("star", size="huge"), "size: expected one of small, large, came 'huge'"),
        (lambda: Meaning(()), "mentions: expected 1 to 3, came 0"),
        (lambda: Meaning((star,) * 4), "mentions: expected 1 to 3, came 4"),
        (lambda: Meaning((star,), (), "mauve"), "background: expected one of .*came 'mauve'"),
        (lambda: Meaning((star,) * 2, ((0, "near", 1),)), "relations: .*came 'near'"),
        (lambda: Meaning((star,) * 2, ((1, "above", 0),)), r"relations: .*came \(\(1, 0\),\)"),
        (lambda: Meaning((star,) * 2, ((0, "above", 2),)), r"relations: .*came \(\(0, 2\),\)"),
        (lambda: Meaning((star,) * 2, chain), "relations: expected pairs among"),
        (lambda: Meaning((star,) * 3, chain[::-1]), "relations: expected pairs among"),
        (lambda: write(Meaning((star,)), [-1]), "bits: expected numbers from 0, came -1"),
        (lambda: describe(scene("small red star"), [0] * 4), "bits: .*came the end"),
        (lambda: meanings(0), "things: expected 1 to 3, came 0"),
        (lambda: count_meanings(4), "things: expected 1 to 3, came 4"),
        (lambda: caption_holds("a dog", scene("small red star")), "caption: expected"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
