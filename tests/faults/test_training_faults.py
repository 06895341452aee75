"""Training where things fail: it is killed, the disk is full, files are not what they were."""

import os
import random
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from torch import nn

from course.training import checkpoint, recipes, run
from course.training.checkpoint import CheckpointError
from course.training.fit import Settings, fit
from course.training.log import LogError, read_log
from course.training.recipes import Recipe

TOY = """
import numpy as np
import torch
from torch import nn

def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 2)
    )

def objective(model, streams):
    x = torch.from_numpy(np.stack([s.standard_normal(3, np.float32) for s in streams]))
    return (model(x) - x[:, :2].sin()).square().mean()
"""
exec(TOY)

PROGRAM = (
    TOY
    + """
import os, pathlib, signal, sys
from course.training.fit import Settings, fit
torch.set_num_threads(1)
writes, dies_at = 0, int(sys.argv[2])

def killed_while_writing(_):
    global writes
    writes += 1
    if writes == dies_at:
        os.kill(os.getpid(), signal.SIGKILL)

os.fsync = killed_while_writing
folder = pathlib.Path(sys.argv[1])
settings = Settings(steps=1500, batch_size=5, learning_rate=0.02, ema_decay=0.9, seed=7)
fit(network(), objective, settings, path=folder / "state.safetensors", every=3, resume=True,
    log=folder / "log.jsonl", log_every=1, progress=False)
"""
)
SETTINGS = Settings(steps=12, batch_size=5, learning_rate=0.02, warmup=3, ema_decay=0.9, seed=7)


@pytest.mark.slow
def test_killed_at_20_random_moments_it_ends_with_the_same_weights(tmp_path, record_property):
    folders = {name: tmp_path / name for name in ("whole", "killed")}

    def command(name, dies_at=0):
        return [sys.executable, "-c", PROGRAM, str(folders[name]), str(dies_at)]

    subprocess.run(command("whole"), check=True)
    moments = random.Random(1)
    folder = folders["killed"]
    state = folder / "state.safetensors"
    while_writing = 0
    for kill in range(20):
        # Every fourth one dies in the middle of writing a checkpoint; the first file is the log.
        dies_at = moments.randint(2, 9) if kill % 4 == 3 else 0
        process = subprocess.Popen(command("killed", dies_at))
        if not dies_at:
            before = state.stat().st_mtime_ns if state.exists() else 0
            # Wait until it has gone on from the checkpoint, so that every kill hits a training.
            while process.poll() is None:
                if state.exists() and state.stat().st_mtime_ns != before:
                    break
                time.sleep(0.001)
            time.sleep(moments.uniform(0, 0.05))
            if process.poll() is not None:
                pytest.fail(f"it ended after {kill} kills: make it longer")
            process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        remains = list(folder.glob(".state.safetensors.*.tmp"))
        assert len(remains) <= 1  # those of the kills before are removed
        assert remains or not dies_at
        while_writing += len(remains)
        tensors, _ = checkpoint.load(state)  # whole after every kill
        steps = read_log(folder / "log.jsonl")["step"]
        assert len(steps) >= len(tensors["losses"])
    record_property("counts", f"20 kills, {while_writing} of them while a checkpoint was written")
    assert len(tensors["losses"]) < 1500
    subprocess.run(command("killed"), check=True)

    (want, _), (got, facts) = (
        checkpoint.load(folder / "state.safetensors") for folder in folders.values()
    )
    assert want.keys() == got.keys()
    assert all(torch.equal(want[name], got[name]) for name in want)
    assert len(facts["runs"]) == 21
    want, got = (read_log(folder / "log.jsonl") for folder in folders.values())
    for name in ("step", "loss", "learning_rate", "gradient_norm"):
        np.testing.assert_array_equal(got[name], want[name])
    assert got["step"].tolist() == list(range(1500))
    assert {path.name for path in folder.iterdir()} == {"state.safetensors", "log.jsonl"}


def test_remains_of_a_killed_writer_are_removed(half):
    (half.parent / ".state.safetensors.x1.tmp").write_bytes(b"half")
    (half.parent / ".other.safetensors.x1.tmp").write_bytes(b"not ours")
    fit(network(), objective, SETTINGS, path=half, resume=True, progress=False)
    left = sorted(path.name for path in half.parent.iterdir())
    assert left == [".other.safetensors.x1.tmp", "state.safetensors"]


def full(*_):
    raise OSError(28, "No space left on device")


@pytest.fixture
def half(tmp_path):
    """A checkpoint after one step, alone in its folder."""
    path = tmp_path / "state.safetensors"
    fit(network(), objective, SETTINGS, path=path, max_seconds=0, progress=False)
    return path


def test_a_full_disk_leaves_the_last_good_checkpoint(half, monkeypatch):
    content = half.read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"state\.safetensors: .*No space left on device"):
        fit(network(), objective, SETTINGS, path=half, resume=True, every=2, progress=False)
    assert half.read_bytes() == content
    assert list(half.parent.iterdir()) == [half]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_disk_that_is_full_for_the_log_stops_it(half, monkeypatch):
    log = half.parent / "log.jsonl"
    monkeypatch.setattr("course.training.log.replace_file", lambda *_: log.symlink_to("/dev/full"))
    content = half.read_bytes()
    with pytest.raises(LogError, match=r"log\.jsonl: the log could not be .*No space left"):
        fit(network(), objective, SETTINGS, path=half, resume=True, log=log, progress=False)
    assert half.read_bytes() == content


def test_a_folder_that_can_not_be_written_is_said_before_the_first_step(tmp_path):
    (tmp_path / "file").write_text("in the way")

    def never(model, streams):
        raise AssertionError("it began")

    with pytest.raises(LogError, match=r"log\.jsonl: the log could not be written"):
        fit(network(), never, SETTINGS, log=tmp_path / "file" / "log.jsonl", progress=False)


@pytest.mark.parametrize("length", [0, 7, 100, -1])
def test_a_truncated_checkpoint_is_refused_and_left(half, length):
    content = half.read_bytes()[:length]
    half.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"state\.safetensors: expected a whole checkpoint"):
        fit(network(), objective, SETTINGS, path=half, resume=True, progress=False)
    assert half.read_bytes() == content


@pytest.mark.parametrize("width", [7, 9])
def test_a_checkpoint_of_another_model_is_refused_and_left(half, width):
    content = half.read_bytes()
    other = nn.Sequential(*network()[:3], nn.Linear(8, width))
    with pytest.raises(CheckpointError, match=r"state\.safetensors: .*of this model"):
        fit(other, objective, SETTINGS, path=half, resume=True, progress=False)
    assert half.read_bytes() == content


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """A recipe that trains in no time, and its folder."""
    config = recipes.find("digits-classifier").model
    monkeypatch.setitem(recipes.RECIPES, "tiny", Recipe("tiny", "A test.", config, SETTINGS))
    monkeypatch.setitem(recipes.NETWORKS, type(config), lambda config: network())
    task = run.Task(lambda device: objective, lambda model: {"right": 1})
    monkeypatch.setitem(run.TASKS, "tiny", task)
    return tmp_path / "tiny"


def test_a_disk_that_is_full_at_the_end_leaves_all_that_is_needed(tiny, monkeypatch, capsys):
    """The card can't be written: its disk is full when the training is done."""
    write = checkpoint.write

    def card_fails(path, content):
        if path.suffix == ".json":
            monkeypatch.setattr(os, "fsync", full)
        write(path, content)

    monkeypatch.setattr(checkpoint, "write", card_fails)
    assert run.main("tiny", tiny, resume=False, max_seconds=None) == 2
    assert re.match(r"course: .*tiny\.json: it could not be .*No space", capsys.readouterr().err)
    monkeypatch.undo()


def test_what_fails_is_one_line_on_the_command_line(tiny, capsys):
    assert run.main("tiny", tiny, resume=False, max_seconds=0) == 3
    state, log = tiny / "state.safetensors", tiny / "log.jsonl"
    content = state.read_bytes()
    assert run.main("tiny", tiny, resume=False, max_seconds=None) == 2
    assert "is there already: add --resume" in capsys.readouterr().err
    for path, wrong, said in (
        (state, content[:-1], "state.safetensors: expected a whole checkpoint"),
        (log, b"not a log\n", "log.jsonl, line 1: expected step, loss"),
    ):
        right = path.read_bytes()
        path.write_bytes(wrong)
        assert run.main("tiny", tiny, resume=True, max_seconds=None) == 2
        err = capsys.readouterr().err
        assert said in err
        assert err.startswith("course: ")
        assert err.count("\n") == 1
        path.write_bytes(right)
    assert run.main("tiny", tiny, resume=True, max_seconds=None) == 0
    assert run.main("tiny", tiny / "state.safetensors" / "a", resume=False, max_seconds=0) == 2
