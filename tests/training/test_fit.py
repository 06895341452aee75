"""The training loop: it learns, it is a function of its seed, and interruption leaves no trace."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from course.training import checkpoint
from course.training.checkpoint import CheckpointError
from course.training.fit import Settings, fit, follow, stream

SETTINGS = Settings(steps=12, batch_size=5, learning_rate=0.02, warmup=3, ema_decay=0.9, seed=7)


def network():
    """With dropout, which draws random numbers of its own."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 2))


def objective(model, streams):
    x = torch.from_numpy(np.stack([s.standard_normal(3, np.float32) for s in streams]))
    return (model(x) - x[:, :2].sin()).square().mean()


def weights(fitted):
    return torch.cat([p.flatten() for p in (*fitted.model.parameters(), *fitted.ema.parameters())])


def test_it_is_adamw_by_hand():
    settings = Settings(
        steps=6, batch_size=4, learning_rate=0.1, warmup=2, weight_decay=0.1, ema_decay=0.5,
        clip_norm=0.05, seed=3,
    )  # fmt: skip
    model = nn.Linear(3, 2)
    twin = nn.Linear(3, 2)
    twin.load_state_dict(model.state_dict())
    fitted = fit(model, objective, settings, progress=False)

    optimizer = torch.optim.AdamW(twin.parameters(), lr=0.1, weight_decay=0.1)
    average = [p.detach().clone() for p in twin.parameters()]
    for step in range(6):
        rise = min(1, (step + 1) / 3)
        optimizer.param_groups[0]["lr"] = 0.1 * rise * (1 + np.cos(np.pi * step / 6)) / 2
        loss = objective(twin, [stream(3, step, i) for i in range(4)])
        assert fitted.losses[step] == pytest.approx(loss.item(), rel=1e-5)
        optimizer.zero_grad()
        loss.backward()
        norm = torch.cat([p.grad.flatten() for p in twin.parameters()]).norm()
        for p in twin.parameters():
            p.grad *= min(1, 0.05 / norm.item())
        optimizer.step()
        decay = min(0.5, (1 + step) / (10 + step))
        average = [
            decay * a + (1 - decay) * p.detach()
            for a, p in zip(average, twin.parameters(), strict=True)
        ]
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)
    for p, a in zip(fitted.ema.parameters(), average, strict=True):
        torch.testing.assert_close(p, a, rtol=1e-4, atol=1e-6)


def test_it_learns_and_leaves_the_average_in_eval_mode():
    settings = Settings(steps=300, batch_size=32, learning_rate=0.02, ema_decay=0.98)
    model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
    fitted = fit(model, objective, settings, progress=False)
    assert fitted.losses[-20:].mean() < 0.1 * fitted.losses[:5].mean()
    assert fitted.steps == 300
    assert not fitted.ema.training
    assert not any(p.requires_grad for p in fitted.ema.parameters())


def test_the_average_follows_buffers():
    old, new = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    new.running_mean += torch.tensor([1.0, 2.0, 4.0])
    new.num_batches_tracked += 7
    follow(old, new, 0.75)
    torch.testing.assert_close(old.running_mean, torch.tensor([0.25, 0.5, 1.0]))
    assert old.num_batches_tracked == 7


def test_random_numbers_are_a_function_of_seed_step_and_index():
    draws = {
        key: stream(*key).standard_normal(4).tobytes()
        for key in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 1, 1)]
    }
    assert len(set(draws.values())) == len(draws)
    assert all(stream(*key).standard_normal(4).tobytes() == draws[key] for key in draws)


def test_two_trainings_are_identical_whatever_was_drawn_before():
    first = fit(network(), objective, SETTINGS, progress=False)
    torch.manual_seed(999)
    np.random.seed(999)  # noqa: NPY002
    model = network()
    torch.randn(17)
    second = fit(model, objective, SETTINGS, progress=False)
    assert torch.equal(weights(first), weights(second))
    other = fit(network(), objective, Settings(**{**vars(SETTINGS), "seed": 8}), progress=False)
    assert not torch.equal(weights(first), weights(other))


def test_bfloat16_is_for_the_objective_only():
    half = Settings(**{**vars(SETTINGS), "precision": "bfloat16"})
    seen = []

    def watched(model, streams):
        def call(x):
            y = model(x)
            seen.append(y.dtype)
            return y

        return objective(call, streams)

    first = fit(network(), watched, half, progress=False)
    assert set(seen) == {torch.bfloat16}
    assert {p.dtype for p in (*first.model.parameters(), *first.ema.parameters())} == {
        torch.float32
    }
    second = fit(network(), objective, half, progress=False)
    assert torch.equal(weights(first), weights(second))
    whole = fit(network(), objective, SETTINGS, progress=False)
    assert not torch.equal(weights(first), weights(whole))
    np.testing.assert_allclose(first.losses, whole.losses, rtol=0.05)


def test_the_global_generator_stays_where_it_was():
    model = network()
    before = torch.get_rng_state()
    fit(model, objective, SETTINGS, progress=False)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("stop", [1, 5, 11])
def test_resuming_changes_nothing(stop, tmp_path):
    whole = fit(network(), objective, SETTINGS, progress=False)

    def interrupted(model, streams):
        interrupted.calls += 1
        if interrupted.calls > stop:
            raise KeyboardInterrupt
        return objective(model, streams)

    interrupted.calls = 0
    path = tmp_path / "state.safetensors"
    with pytest.raises(KeyboardInterrupt):
        fit(network(), interrupted, SETTINGS, path=path, notes={"who": "a"}, progress=False)
    model = network()
    with torch.no_grad():
        model[0].weight.fill_(3)  # none of it may matter
    resumed = fit(
        model, objective, SETTINGS, path=path, resume=True, notes={"who": "b"}, progress=False
    )
    assert torch.equal(weights(whole), weights(resumed))
    np.testing.assert_array_equal(whole.losses, resumed.losses)
    spans = [(run["from"], run["to"], run["who"]) for run in resumed.runs]
    assert spans == [(0, stop, "a"), (stop, 12, "b")]
    assert resumed.seconds == sum(run["seconds"] for run in resumed.runs)
    assert all(run["cpu_seconds"] > 0 for run in resumed.runs)


def test_time_is_up_and_then_it_goes_on(tmp_path):
    path = tmp_path / "state.safetensors"
    runs = 0
    while True:
        fitted = fit(
            network(), objective, SETTINGS, path=path, resume=True, max_seconds=0, progress=False
        )
        runs += 1
        if fitted.steps == SETTINGS.steps:
            break
    assert runs == SETTINGS.steps
    assert torch.equal(
        weights(fitted), weights(fit(network(), objective, SETTINGS, progress=False))
    )


def test_a_finished_training_is_finished(tmp_path):
    path = tmp_path / "state.safetensors"
    first = fit(network(), objective, SETTINGS, path=path, progress=False)
    again = fit(network(), objective, SETTINGS, path=path, resume=True, progress=False)
    assert torch.equal(weights(first), weights(again))
    assert [run["to"] for run in again.runs] == [12]


def test_it_does_not_start_over_with_other_settings(tmp_path):
    path = tmp_path / "state.safetensors"
    fit(network(), objective, SETTINGS, path=path, facts={"model": "a"}, progress=False)
    content = path.read_bytes()
    other = Settings(**{**vars(SETTINGS), "learning_rate": 0.01})
    with pytest.raises(CheckpointError, match=r"settings = .*0\.01.*came .*0\.02"):
        fit(network(), objective, other, path=path, resume=True, facts={"model": "a"})
    with pytest.raises(CheckpointError, match="model = b, came a"):
        fit(network(), objective, SETTINGS, path=path, resume=True, facts={"model": "b"})
    with pytest.raises(CheckpointError, match="of this model"):
        fit(nn.Linear(3, 2), objective, SETTINGS, path=path, resume=True, facts={"model": "a"})
    assert path.read_bytes() == content


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "state.safetensors"
    half = Settings(**vars(SETTINGS))
    fit(network(), objective, half, path=path, max_seconds=0, progress=False)
    content = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        fit(network(), objective, SETTINGS, path=path, resume=True, every=2, progress=False)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_loss_that_is_not_finite_stops_it(tmp_path):
    path = tmp_path / "state.safetensors"

    def bursts(model, streams):
        bursts.calls += 1
        return objective(model, streams) * (float("nan") if bursts.calls == 7 else 1)

    bursts.calls = 0
    with pytest.raises(FloatingPointError, match="nan at step 6"):
        fit(network(), bursts, SETTINGS, path=path, every=4, progress=False)
    tensors, _ = checkpoint.load(path)
    assert len(tensors["losses"]) == 4
    assert all(value.isfinite().all() for value in tensors.values())


def test_the_bar_shows_loss_and_rate(capsys):
    fit(network(), objective, SETTINGS)
    captured = capsys.readouterr()
    assert "12/12" in captured.out
    assert "loss 0." in captured.out
    assert "it/s" in captured.out
    assert captured.err == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps: expected at least 1, came 0"),
        ({"batch_size": 0}, "batch_size: "),
        ({"learning_rate": 0}, "learning_rate: "),
        ({"learning_rate": float("nan")}, "learning_rate: "),
        ({"ema_decay": 1}, "ema_decay: "),
        ({"clip_norm": -1}, "clip_norm: "),
        ({"weight_decay": -1}, "weight_decay: "),
        ({"warmup": -1}, "warmup: "),
        ({"seed": -1}, "seed: "),
        ({"precision": "float16"}, r"precision: expected one of .*bfloat16.*, came 'float16'"),
    ],
)
def test_bad_settings_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        Settings(**{**vars(SETTINGS), **change})


def test_resuming_needs_a_path():
    with pytest.raises(ValueError, match="path: "):
        fit(network(), objective, SETTINGS, resume=True)
    with pytest.raises(ValueError, match="every: "):
        fit(network(), objective, SETTINGS, every=0)


PROGRAM = """
import sys, pathlib
import torch
sys.path.insert(0, sys.argv[2])
torch.set_num_threads(1)
from test_fit import network, objective
from course.training.fit import Settings, fit
settings = Settings(steps=4000, batch_size=5, learning_rate=0.02, ema_decay=0.9, seed=7)
fit(network(), objective, settings, path=pathlib.Path(sys.argv[1]), every=3, resume=True,
    progress=False)
"""


@pytest.mark.slow
def test_killed_at_20_random_moments_it_ends_with_the_same_weights(tmp_path):
    here = str(Path(__file__).parent)
    paths = {name: tmp_path / f"{name}.safetensors" for name in ("whole", "killed")}
    commands = {
        name: [sys.executable, "-c", PROGRAM, str(path), here] for name, path in paths.items()
    }
    subprocess.run(commands["whole"], check=True)

    moments = random.Random(1)
    kills = 0
    while kills < 20:
        process = subprocess.Popen(commands["killed"])
        before = paths["killed"].stat().st_mtime_ns if paths["killed"].exists() else 0
        # Wait until it has gone on from the checkpoint, so that every kill hits a training.
        while process.poll() is None:
            if paths["killed"].exists() and paths["killed"].stat().st_mtime_ns != before:
                break
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.05))
        if process.poll() is not None:
            pytest.fail(f"it ended after {kills} kills: make it longer")
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        tensors, _ = checkpoint.load(paths["killed"])  # whole after every kill
    assert len(tensors["losses"]) < 4000
    subprocess.run(commands["killed"], check=True)

    (want, _), (got, facts) = (checkpoint.load(paths[name]) for name in ("whole", "killed"))
    assert want.keys() == got.keys()
    assert all(torch.equal(want[name], got[name]) for name in want)
    assert len(facts["runs"]) == 21
    assert json.dumps(facts)
