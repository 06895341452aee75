"""Sample sheets, read back by another library."""

import io
import math

import numpy as np
import pytest
import torch
import worker
from PIL import Image

from course.training import recipes, run
from course.training.recipes import Recipe
from course.training.sheet import png, sheet


@pytest.mark.parametrize("channels", [1, 3])
def test_a_png_is_read_back(channels):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, channels), np.uint8)
    with Image.open(io.BytesIO(png(pixels))) as image:
        image.verify()  # checksums
    with Image.open(io.BytesIO(png(pixels))) as image:
        assert image.mode == {1: "L", 3: "RGB"}[channels]
        np.testing.assert_array_equal(np.array(image).reshape(pixels.shape), pixels)


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_stand_in_rows(channels):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(7, channels, 4, 6, generator=generator) * 2.4 - 1.2
    for columns, rows in ((3, 3), (None, 3), (7, 1), (9, 1)):
        canvas = sheet(images, columns)
        wide = min(columns or 3, 7)
        assert canvas.shape == (rows * 5 - 1, wide * 7 - 1, channels)
        rest = np.ones(canvas.shape[:2], bool)
        for i, image in enumerate(images):
            box = np.s_[i // wide * 5 :, i % wide * 7 :]
            want = np.rint((image.numpy().clip(-1, 1).transpose(1, 2, 0) + 1) * 127.5)
            np.testing.assert_array_equal(canvas[box][:4, :6], want)
            rest[box][:4, :6] = False
        assert (canvas[rest] == 128).all()


@pytest.mark.usefixtures("no_typecheck")
@pytest.mark.parametrize("shape", [(0, 1, 4, 5), (2, 4, 5, 6)])
def test_no_pictures_are_refused(shape):
    with pytest.raises(ValueError, match="images: expected pictures of 1 or 3 channels"):
        sheet(torch.zeros(shape))


@pytest.fixture
def tiny(monkeypatch):
    """A recipe whose sheet shows how many weights of the average are above 0."""
    config = recipes.find("digits-classifier").model
    settings = worker.changed(steps=7)
    monkeypatch.setitem(recipes.RECIPES, "tiny", Recipe("tiny", "A test.", config, settings))
    monkeypatch.setitem(recipes.NETWORKS, type(config), lambda config: worker.network(0.3))

    def draw(model):
        assert not model.training
        torch.rand(3)  # careless drawing changes nothing
        return torch.full((2, 1, 4, 5), math.tanh(model[0].weight.sum().item()))

    task = run.Task(lambda device: worker.objective, lambda model: {"right": 1}, sheet=draw)
    monkeypatch.setitem(run.TASKS, "tiny", task)


def test_a_training_draws_them(tiny, tmp_path):
    run.train("tiny", tmp_path / "none", sheet_every=0, progress=False)
    assert not (tmp_path / "none" / "samples").exists()
    fitted = run.train("tiny", tmp_path / "all", sheet_every=3, progress=False)
    names = sorted(path.name for path in (tmp_path / "all" / "samples").iterdir())
    assert names == ["000003.png", "000006.png", "000007.png"]
    with Image.open(tmp_path / "all" / "samples" / "000007.png") as image:
        level = (math.tanh(fitted.ema[0].weight.sum().item()) + 1) * 127.5
        assert set(np.unique(image)) == {128, round(level)}
    for kind in ("none", "all"):
        assert (tmp_path / kind / "tiny.safetensors").read_bytes() == (
            tmp_path / "none" / "tiny.safetensors"
        ).read_bytes()


def test_the_sheet_of_the_ddpm_is_of_its_seed(monkeypatch):
    model = recipes.load("digits-ddpm")
    draw = run.TASKS["digits-ddpm"].sheet
    monkeypatch.setattr(run, "sample_digits", lambda model, n, steps: (n, steps))
    assert draw(model) == (36, 25)
