"""What may be asked for: captions that some scene can show, and why another one cannot."""

import difflib
import re
from collections.abc import Sequence
from itertools import pairwise, repeat

from course.data.scenes.grammar import Meaning, Mention, parse, patterns, relate, vocabulary, write
from course.data.scenes.layout import ANGLES
from course.data.scenes.shapes import box
from course.data.scenes.world import (
    BACKGROUNDS,
    COLOURS,
    EXTENTS,
    GAP,
    MARGIN,
    MOST_THINGS,
    OPPOSITE,
    RELATIONS,
    SHAPES,
    Scene,
)

BEFORE = ("left of", "above")


def check_request(text: str) -> Meaning:
    """What a caption asks for, if there can be such a scene.

    Raises:
        ValueError: a word is unknown, the grammar has no such sentence, or no scene can be so: it
            has too many things, two that are alike, a colour that things or backgrounds do not
            have, or three large ones in a row.
    """
    words = re.findall(r"[^\s,]+", text.lower().strip().removesuffix("."))
    if "itself" in words:
        raise ValueError("caption: nothing stands left of, right of, above or below itself")
    known = vocabulary()
    for word in words:
        if word not in known:
            raise ValueError(f"caption: {word!r} is unknown; {_instead(word, known)}")
    named = sum(word in SHAPES for word in words)
    if named > MOST_THINGS:
        raise ValueError(f"caption: a picture has at most {MOST_THINGS} things, these are {named}")
    for word, after in pairwise(words):
        if word in BACKGROUNDS and after in SHAPES:
            raise ValueError(
                f"caption: only a background is {word}, a {after} is {_or(tuple(COLOURS))}"
            )
        for colour, hint in ((word, after == "background"), (after, word == "on")):
            if colour in COLOURS and hint:
                raise ValueError(
                    f"caption: no background is {colour}, it is {_or(tuple(BACKGROUNDS))}"
                )
    meaning = parse(text)
    _check_possible(meaning)
    return meaning


def tell(scene: Scene) -> str:
    """All that a sentence can say of a scene; relations only if each that it has place for holds."""
    pairs = patterns(len(scene.things))[-1]
    relations = [scene.relation(i, j) for i, j in pairs]
    return write(
        Meaning(
            tuple(Mention(thing.shape, thing.colour, thing.size) for thing in scene.things),
            () if None in relations else relate(pairs, relations),
            scene.background,
        ),
        repeat(0),
    )


def _instead(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known)
    if near:
        return f"the nearest known word{'s are' if near[1:] else ' is'} {', '.join(near)}"
    return (
        f"a thing is a {_or(SHAPES)}, it is {_or(tuple(COLOURS))}, small or large, and "
        f"{_or(RELATIONS)} another; a background is {_or(tuple(BACKGROUNDS))}"
    )


def _or(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _check_possible(meaning: Meaning) -> None:
    kinds = [(mention.colour, mention.shape) for mention in meaning.mentions if mention.colour]
    for k, kind in enumerate(kinds):
        if kind in kinds[:k]:
            raise ValueError(f"caption: a picture has one {' '.join(kind)} at most, these are two")
    order = [(i, j) if r in BEFORE else (j, i) for i, r, j in meaning.relations]
    axes = {min(r, OPPOSITE[r]) for _, r, _ in meaning.relations}
    if len(order) == 2 and len(axes) == 1:
        (a, b), (c, d) = order
        # One thing is behind another and before the third: a row.
        if (b == c or a == d) and _row_needs(meaning.mentions, "left of" in axes) > 1:
            side = "side by side" if "left of" in axes else "one above the other"
            raise ValueError(f"caption: there is no room for these three things {side}")


def _row_needs(mentions: Sequence[Mention], level: bool) -> float:
    """Of a picture's side, what a row of three things takes at least."""
    low = 0 if level else 1
    return 2 * (MARGIN + GAP) + sum(
        EXTENTS[mention.size or "small"][0]
        * min(sides[low + 2] - sides[low] for sides in (box(mention.shape, a) for a in ANGLES))
        for mention in mentions
    )
