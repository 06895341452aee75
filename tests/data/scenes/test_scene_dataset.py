"""Captioned scenes as a data set: the same items however they are asked for, and true captions."""

import time
from collections import Counter

import pytest
import torch
from torch.utils.data import DataLoader

from course.data.scenes.captions import caption_holds, holds
from course.data.scenes.dataset import CaptionedScenes
from course.data.scenes.grammar import parse
from course.data.scenes.layout import SPLITS, draw
from course.data.scenes.read import caption_true
from course.data.scenes.render import render


@pytest.mark.parametrize(("split", "size"), list(zip(SPLITS, (32, 16, 45, 64), strict=True)))
def test_items_are_scenes_and_what_is_said_of_them(split, size):
    data = CaptionedScenes(300, split, seed=4, size=size)
    scenes = draw(4, range(300), split)
    examples = data.examples(range(300))
    assert [example.scene for example in examples] == scenes
    pictures = render(scenes, size)
    for index in (0, 1, 150, 299):
        picture, caption = data[index]
        assert picture.shape == (3, size, size)
        assert caption == examples[index].caption
        torch.testing.assert_close(picture, pictures[index], rtol=0, atol=1e-6)


@pytest.mark.parametrize("split", SPLITS)
def test_captions_are_true(split):
    data, twins = CaptionedScenes(300, split, seed=1), Counter()
    for index, example in enumerate(data.examples(range(300))):
        assert caption_holds(example.caption, example.scene)
        assert parse(example.caption) == example.meaning
        for kind, twin in example.twins():
            said = example.say(twin)
            assert not holds(twin, example.scene)
            assert parse(said) == twin
            twins[kind] += 1
            if index < 5:
                assert not caption_true(data[index][0], said)
        if index < 12:
            assert caption_true(*data[index])
    assert set(twins) == {"colours", "sizes", "places"}


def test_known_captions():
    data = CaptionedScenes(3, seed=2026)
    assert [caption for _, caption in data.__getitems__([2, 0, 1])] == [
        "a brown cross and a big blue circle",
        "a picture of a big green circle above a star and over a brown square",
        "a picture of a yellow cross, a little purple circle and a big star",
    ]


def test_items_differ():
    runs = [
        CaptionedScenes(200, split, seed).examples(range(200))
        for split in SPLITS
        for seed in (0, 1)
    ]
    assert len({example.scene for run in runs for example in run}) == 200 * len(runs)
    assert len({example.caption for example in runs[0]}) > 150
    assert len({example.bits for run in runs for example in run}) == 200 * len(runs)


def test_words_have_nothing_to_do_with_places():
    """Bits of the caption are no bits of the scene."""
    data = CaptionedScenes(2000, seed=3)
    openings = Counter()
    for example in data.examples(range(2000)):
        openings[len(example.scene.things), example.bits[0] % 4] += 1
    for things in (1, 2, 3):
        shares = torch.tensor([openings[things, k] for k in range(4)]).double()
        assert (shares / shares.sum() - 0.25).abs().max() < 0.07


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_gives_the_items(workers):
    data = CaptionedScenes(50, "test", seed=2)
    pictures, captions = [], []
    loader = DataLoader(data, batch_size=16, num_workers=workers)
    for picture, caption in loader:
        pictures.append(picture)
        captions += caption
    assert [len(picture) for picture in pictures] == [16, 16, 16, 2]
    expected, said = zip(*[data[index] for index in range(50)], strict=True)
    assert captions == list(said)
    torch.testing.assert_close(torch.cat(pictures), torch.stack(expected), rtol=0, atol=1e-6)


def test_a_shuffled_loader_gives_the_items():
    data = CaptionedScenes(50, "test", seed=2)
    generator = torch.Generator().manual_seed(0)
    loader = DataLoader(data, batch_size=16, shuffle=True, generator=generator)
    pairs = [
        (p, c) for pictures, captions in loader for p, c in zip(pictures, captions, strict=True)
    ]
    items = [data[index] for index in range(50)]
    order = [next(i for i in range(50) if items[i][0].allclose(p, atol=1e-6)) for p, _ in pairs]
    assert sorted(order) == list(range(50)) != order
    assert [c for _, c in pairs] == [items[index][1] for index in order]


def test_numbers_count_from_the_end_too():
    data = CaptionedScenes(7, seed=5)
    assert len(data) == 7
    assert data[-1][1] == data[6][1]
    assert data[-1][0].equal(data[6][0])
    for index in (7, -8):
        with pytest.raises(IndexError):
            data[index]
    assert len(list(data)) == 7


def test_a_longer_set_starts_the_same():
    short, long = CaptionedScenes(3), CaptionedScenes(300)
    assert short.examples(range(3)) == long.examples(range(3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"length": 0}, "length: expected at least 1, came 0"),
        ({"length": 5, "seed": -1}, "seed: expected at least 0, came -1"),
        ({"length": 5, "size": 15}, "size: expected at least 16, came 15"),
        ({"length": 5, "split": "val"}, "split: expected one of train, .*came 'val'"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        CaptionedScenes(**arguments)


def test_items_are_made_fast(record_property):
    data, threads, times = CaptionedScenes(1000), torch.get_num_threads(), []
    torch.set_num_threads(1)
    try:
        for start in range(0, 1000, 250):
            before = time.process_time()
            data.__getitems__(range(start, start + 250))
            times.append(time.process_time() - before)
    finally:
        torch.set_num_threads(threads)
    record_property(
        "counts", f"scenes: {250 / min(times):.0f} captioned pictures a second of one thread"
    )
    assert 250 / min(times) > 1000
