"""Checkpoints come back as they were, and broken ones are said to be."""

import json

import pytest
import torch

from course.training import checkpoint, recipes
from course.training.checkpoint import CheckpointError
from course.training.settings import Settings


def test_a_checkpoint_comes_back(tmp_path):
    path = tmp_path / "new" / "state.safetensors"
    tensors = {
        "a": torch.randn(3, 5).T,  # not contiguous
        "b": torch.tensor(7),
        "c": torch.zeros(0, 2, dtype=torch.float64),
    }
    facts = {"name": "x", "list": [1, 2.5, None], "dict": {"ü": True}}
    checkpoint.save(path, tensors, facts)
    got, back = checkpoint.load(path)
    assert back == facts
    assert got.keys() == tensors.keys()
    for name, want in tensors.items():
        assert got[name].dtype == want.dtype
        torch.testing.assert_close(got[name], want, rtol=0, atol=0)


def test_missing_and_broken_ones_are_named(tmp_path):
    path = tmp_path / "state.safetensors"
    with pytest.raises(CheckpointError, match=r"state\.safetensors: .*no such file"):
        checkpoint.load(path)
    checkpoint.save(path, {"a": torch.randn(100)}, {})
    content = path.read_bytes()
    for wrong in (content[:50], content[:-1], b"", b"\x80\x04."):
        path.write_bytes(wrong)
        with pytest.raises(CheckpointError, match=r"state\.safetensors: .*whole checkpoint"):
            checkpoint.load(path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match="could not be written"):
        checkpoint.save(tmp_path / "file" / "state.safetensors", {}, {})


# Of those that compare f only the cards are kept.
NOT_KEPT = {f"scenes-ldm-f{f}" for f in (1, 2, 4, 8)}
NOT_TRAINED = {"scenes-ldm-64"} | NOT_KEPT


@pytest.mark.parametrize("name", sorted(NOT_TRAINED))
def test_what_is_not_trained_is_said_to_be_missing(name):
    with pytest.raises(CheckpointError, match=f"train it: python -m course train {name}"):
        recipes.load(name)


@pytest.mark.parametrize("name", sorted(recipes.RECIPES.keys() - NOT_TRAINED))
def test_what_is_committed_loads_strictly_and_its_card_is_whole(name):
    path, card = checkpoint.published(name)
    assert path.stat().st_size < (12_000_000 if name.startswith("scenes-ldm") else 8_000_000)
    model = recipes.load(name)
    assert not any(module.training for module in model.modules())
    assert card["parameters"] == sum(p.numel() for p in model.parameters())
    assert card["recipe"] == name
    lane = recipes.find(name).lanes[card.get("lane", "cpu")]
    assert Settings.complete(card["settings"]) == vars(lane)
    assert card["steps"] == card["settings"]["steps"]
    for run in card["runs"]:
        assert {"seconds", "threads", "machine", "load", "revision", "versions"} <= run.keys()
    assert card["metrics"]


def test_checkpoints_come_from_course_home(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_HOME", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"digits-ddpm: .*COURSE_HOME.*course train digits"):
        recipes.load("digits-ddpm")


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path, monkeypatch):
    path, card = checkpoint.published("digits-classifier")
    folder = tmp_path / "data" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / path.name).write_bytes(path.read_bytes())
    card["model"]["features"] = 65
    (folder / "digits-classifier.json").write_text(json.dumps(card))
    monkeypatch.setenv("COURSE_HOME", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"'features': 64.*'features': 65"):
        recipes.load("digits-classifier")
