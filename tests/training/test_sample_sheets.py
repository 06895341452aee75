"""Sample sheets of a training."""

import math

import numpy as np
import pytest
import torch
import worker
from PIL import Image

from course.training import recipes, run
from course.training.recipes import Recipe


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
