"""Scores of drawers whose pictures are known to be right, wrong, or none."""

from dataclasses import replace

import pytest
import torch
from scipy.stats import binomtest

from course.data.scenes import draw, holds, render
from course.data.scenes.captions import names_held_out
from course.data.scenes.dataset import CaptionedScenes
from course.data.scenes.grammar import write
from course.metrics.captions import (
    CELLS,
    CaptionScore,
    measure_captions,
    questions,
    score_captions,
    score_pictures,
    table,
    wilson,
)

ZEROS = [0] * 20


def drawer(scenes):
    """Draws the scene that goes with each caption."""
    return lambda captions, seed: render([scenes[caption] for caption in captions])


def noise(captions, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(captions), 3, 32, 32, generator=generator).clamp(-1, 1)


@pytest.fixture(scope="module")
def examples():
    return CaptionedScenes(120, "test", seed=3).examples(range(120))


def test_right_scenes_score_all(examples):
    scenes = {e.caption: e.scene for e in examples}
    score = score_captions(drawer(scenes), list(scenes), batch=7)
    assert score == CaptionScore(len(scenes), len(scenes), 0)
    assert score.as_json()["right"] == 1


def test_who_ignores_relations_fails_where_they_are_turned_round(examples):
    """Captions with two related things exchanged, and as many as they were: half is right."""
    scenes = {}
    for example in examples:
        turned = [twin for kind, twin in example.twins() if kind == "places"]
        if turned:
            scenes[example.caption] = scenes[example.say(turned[0])] = example.scene
    assert len(scenes) > 50
    score = score_captions(drawer(scenes), list(scenes))
    assert score == CaptionScore(len(scenes), len(scenes) // 2, 0)


def test_a_thing_too_many_is_wrong(examples):
    scenes = {}
    for example in examples:
        if len(example.scene.things) == 3:
            mentions = example.meaning.mentions[:2]
            less = replace(example.meaning, mentions=mentions, relations=())
            scenes[write(less, ZEROS)] = example.scene
    assert len(scenes) > 20
    assert score_captions(drawer(scenes), list(scenes)) == CaptionScore(len(scenes), 0, 0)


def test_noise_is_unreadable(examples):
    captions = [e.caption for e in examples[:20]]
    assert score_captions(noise, captions) == CaptionScore(20, 0, 20)


def test_batches_have_seeds_of_their_own(examples):
    captions, seen = [e.caption for e in examples[:7]], []

    def record(captions, seed):
        seen.append((captions, seed))
        return noise(captions, seed)

    score_captions(record, captions, seed=5, batch=3)
    assert seen == [(captions[:3], 5), (captions[3:6], 6), (captions[6:], 7)]


@pytest.mark.parametrize(("split", "things"), CELLS)
def test_questions_are_about_their_split(split, things):
    asked = questions(split, things, 30)
    assert len(asked) == 30
    assert len({id(e) for e in asked}) == 30
    for example in asked:
        assert len(example.scene.things) == len(example.meaning.mentions) == things
        assert holds(example.meaning, example.scene)
        assert names_held_out(example.meaning) == (split != "test")
    assert [e.caption for e in questions(split, things, 12)] == [e.caption for e in asked[:12]]
    # Training draws those of seed 0.
    assert asked[0].scene not in draw(0, range(100), split)


def test_measures_by_split_and_number_of_things():
    """Right for one thing, noise for two, and the ceiling is what half of the pictures survive."""
    scenes = {e.caption: e.scene for cell in CELLS for e in questions(*cell, 6)}

    def pictures(captions, seed):
        counts = [len(scenes[caption].things) for caption in captions]
        right = render([scenes[caption] for caption in captions])
        wrong = noise(captions, seed)
        return torch.stack([wrong[i] if n == 2 else right[i] for i, n in enumerate(counts)])

    def reconstruct(images):
        assert not torch.is_grad_enabled()
        return torch.cat([images[:3], torch.zeros_like(images[3:])])

    figures = measure_captions(pictures, reconstruct, each=6)
    assert {(split, int(n)) for split, rows in figures.items() for n in rows} == set(CELLS)
    for rows in figures.values():
        for things, row in rows.items():
            assert row["captions"] == 6
            assert row["right"] == (things != "2")
            assert row["unreadable"] == (things == "2")
            assert row["interval"] == wilson(6 * (things != "2"), 6)
            assert row["ceiling"] == CaptionScore(6, 3, 3).as_json()
    lines = table(figures).splitlines()
    assert len(lines) == 1 + len(CELLS)
    assert " ".join(lines[1].split()) == "test 1 6 100.0% 61.0 to 100.0 % 0.0% 50.0%"
    assert " ".join(lines[2].split()) == "test 2 6 0.0% 0.0 to 39.0 % 100.0% 50.0%"
    assert len({len(line) for line in lines}) == 1


@pytest.mark.parametrize(
    ("hits", "trials"), [(0, 1), (1, 1), (0, 40), (7, 40), (40, 40), (3, 1000)]
)
@pytest.mark.parametrize("level", [0.5, 0.95])
def test_the_interval_is_wilsons(hits, trials, level):
    want = binomtest(hits, trials).proportion_ci(level, method="wilson")
    assert wilson(hits, trials, level) == pytest.approx((want.low, want.high), abs=1e-12)


@pytest.mark.parametrize(("hits", "trials", "level"), [(1, 0, 0.9), (3, 2, 0.9), (-1, 2, 0.9)])
def test_an_impossible_share_is_named(hits, trials, level):
    with pytest.raises(ValueError, match=f"hits, trials: .* came {hits}, {trials}"):
        wilson(hits, trials, level)


@pytest.mark.parametrize("level", [0, 1])
def test_an_impossible_level_is_named(level):
    with pytest.raises(ValueError, match=r"level: expected a number inside \(0, 1\)"):
        wilson(1, 2, level)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="captions: expected at least one, came none"):
        score_captions(noise, [])
    with pytest.raises(ValueError, match="images: expected 2, one a caption, came 1"):
        score_pictures(torch.zeros(1, 3, 32, 32), ["a star", "a ring"])
    with pytest.raises(ValueError, match="caption: expected"):
        score_captions(noise, ["star a"])
