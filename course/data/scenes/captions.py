"""Captions of scenes: true ones drawn at random, false twins, whether one is true, how many."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import combinations, permutations, product, repeat

from course.data.scenes.grammar import (
    THINGS,
    Meaning,
    Mention,
    choose,
    parse,
    patterns,
    relate,
    write,
)
from course.data.scenes.world import (
    BACKGROUNDS,
    HELD_OUT_BOTH_WAYS,
    HELD_OUT_PAIRS,
    MOST_THINGS,
    OPPOSITE,
    RELATIONS,
    Scene,
    Thing,
)

ORDERS = {n: tuple(permutations(range(n))) for n in range(1, MOST_THINGS + 1)}
# Which mentions a caption relates, by the number of things: three of four relate some.
RELATED = {
    1: ((),),
    2: ((), ((0, 1),), ((0, 1),), ((0, 1),)),
    3: ((), ((0, 1),), ((0, 1), (0, 2)), ((0, 1), (1, 2))),
}


def describe(scene: Scene, bits: Iterable[int]) -> Meaning:
    """Something true of a scene, in which no mention fits two things.

    Args:
        scene: every thing of it is mentioned.
        bits: numbers from 0, 3 and two for each thing, each taken modulo the number of options:
            the order of the things (n!), what is related (1 or 4: three of four say something, if
            an axis dominates), for each thing its size (2: half are said) and colour (8: all but
            one are said, and this one too if the mention would fit two things), the background (4:
            one is said).

    Raises:
        ValueError: there are too few numbers, or one is negative.
    """
    bits = iter(bits)
    orders = ORDERS[len(scene.things)]
    order = orders[choose(bits, len(orders))]
    related = RELATED[len(order)]
    pairs = related[choose(bits, len(related))]
    mentions = tuple([_mention(scene.things[k], scene, bits) for k in order])
    relations = [(i, scene.relation(order[i], order[j]), j) for i, j in pairs]
    if any(relation is None for _, relation, _ in relations):
        relations = []
    return Meaning(mentions, tuple(relations), None if choose(bits, 4) else scene.background)


def caption(scene: Scene, bits: Iterable[int]) -> str:
    """A true sentence about a scene; `bits` as in `describe`, then as in `grammar.write`."""
    bits = iter(bits)
    return write(describe(scene, bits), bits)


def holds(meaning: Meaning, scene: Scene) -> bool:
    """Whether the mentions can be given to all things, one each, so that all that is said is so."""
    if len(meaning.mentions) != len(scene.things):
        return False
    if meaning.background not in (None, scene.background):
        return False
    return any(
        all(
            _fits(mention, scene.things[k])
            for mention, k in zip(meaning.mentions, order, strict=True)
        )
        and all(scene.relation(order[i], order[j]) == r for i, r, j in meaning.relations)
        for order in ORDERS[len(scene.things)]
    )


def caption_holds(text: str, scene: Scene) -> bool:
    """Whether a caption is true of a scene; a ValueError if it is none that `parse` can read."""
    return holds(parse(text), scene)


def equivalent(a: Meaning, b: Meaning) -> bool:
    """Whether two meanings are one, but for the order of mentions and the side that is told."""
    if len(a.mentions) != len(b.mentions) or a.background != b.background:
        return False
    related = {_forward(*relation) for relation in b.relations}
    return any(
        all(mention == b.mentions[k] for mention, k in zip(a.mentions, order, strict=True))
        and {_forward(order[i], r, order[j]) for i, r, j in a.relations} == related
        for order in ORDERS[len(a.mentions)]
    )


def twins(meaning: Meaning) -> list[tuple[str, Meaning]]:
    """The same words in other places: captions that only who reads the order can tell apart.

    Args:
        meaning: the one to turn round.

    Returns:
        (kind, meaning): "colours" or "sizes" when those of two mentions are exchanged (if one says
        none, the other's moves), "places" when two related mentions are. One that is `equivalent`,
        would need an "a" for an "an", or names two things of one colour and shape, which no scene
        has, is left out.
    """
    exchanges = [
        (kind, i, j)
        for kind in ("colours", "sizes")
        for i, j in combinations(range(len(meaning.mentions)), 2)
    ] + [("places", i, j) for i, _, j in meaning.relations]
    found = []
    for kind, i, j in exchanges:
        mentions = list(meaning.mentions)
        mentions[i], mentions[j] = _exchange(kind, mentions[i], mentions[j])
        twin = replace(meaning, mentions=tuple(mentions))
        if _possible(twin) and not equivalent(twin, meaning) and _words(twin) == _words(meaning):
            found.append((kind, twin))
    return found


def false_twins(meaning: Meaning, scene: Scene) -> list[tuple[str, Meaning]]:
    """Those `twins` that are not true of a scene."""
    return [(kind, twin) for kind, twin in twins(meaning) if not holds(twin, scene)]


def names_held_out(meaning: Meaning) -> bool:
    """Whether it says, truly or not, a colour and shape or a relation that training never shows."""
    shapes = [mention.shape for mention in meaning.mentions]
    pairs = {(mention.colour, mention.shape) for mention in meaning.mentions}
    related = {(shapes[i], r, shapes[j]) for i, r, j in meaning.relations}
    return bool(pairs & HELD_OUT_PAIRS or related & HELD_OUT_BOTH_WAYS)


def meanings(things: int) -> Iterator[Meaning]:
    """All that can be said of so many things, 1 to 3; two orders of one list count twice."""
    return (
        Meaning(mentions, relate(pairs, relations), background)
        for pairs in patterns(things)
        for mentions in product(THINGS, repeat=things)
        for relations in product(RELATIONS, repeat=len(pairs))
        for background in (None, *BACKGROUNDS)
    )


def count_meanings(things: int) -> int:
    """How many `meanings` there are, without going through them."""
    related = sum(len(RELATIONS) ** len(pairs) for pairs in patterns(things))
    return len(THINGS) ** things * related * (1 + len(BACKGROUNDS))


def _mention(thing: Thing, scene: Scene, bits: Iterator[int]) -> Mention:
    size = thing.size if choose(bits, 2) else None
    short = Mention(thing.shape, None, size)
    if choose(bits, 8) or sum(_fits(short, other) for other in scene.things) > 1:
        return replace(short, colour=thing.colour)
    return short


def _fits(mention: Mention, thing: Thing) -> bool:
    return (
        mention.shape == thing.shape
        and mention.colour in (None, thing.colour)
        and mention.size in (None, thing.size)
    )


def _forward(i: int, relation: str, j: int) -> tuple[int, str, int]:
    return (i, relation, j) if i < j else (j, OPPOSITE[relation], i)


def _exchange(kind: str, a: Mention, b: Mention) -> tuple[Mention, Mention]:
    if kind == "colours":
        return replace(a, colour=b.colour), replace(b, colour=a.colour)
    if kind == "sizes":
        return replace(a, size=b.size), replace(b, size=a.size)
    return b, a


def _possible(meaning: Meaning) -> bool:
    kinds = [(mention.colour, mention.shape) for mention in meaning.mentions if mention.colour]
    return len(set(kinds)) == len(kinds)


def _words(meaning: Meaning) -> list[str]:
    return sorted(write(meaning, repeat(0)).replace(",", "").split())
