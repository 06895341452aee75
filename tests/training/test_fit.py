"""The training loop: it learns, it is a function of its seed, and interruption leaves no trace."""

import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from course.training import checkpoint
from course.training.checkpoint import CheckpointError
from course.training.fit import Settings, fit, follow, stream
from course.training.settings import SetupError
from course.training.state import State
from course.training.updates import Halves

SETTINGS = Settings(steps=12, batch_size=5, learning_rate=0.02, warmup=3, ema_decay=0.9, seed=7)


def network(norm=False):
    """With dropout, which draws random numbers of its own."""
    torch.manual_seed(0)
    first = [nn.Linear(3, 8), *([nn.BatchNorm1d(8)] if norm else [])]
    return nn.Sequential(*first, nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 2))


def objective(model, streams):
    x = torch.from_numpy(np.stack([s.standard_normal(3, np.float32) for s in streams]))
    return (model(x) - x[:, :2].sin()).square().mean()


def weights(fitted):
    return torch.cat([p.flatten() for p in (*fitted.model.parameters(), *fitted.ema.parameters())])


def test_it_is_adamw_by_hand():
    settings = Settings(
        steps=6, batch_size=4, learning_rate=0.1, warmup=2, weight_decay=0.1, ema_decay=0.5,
        clip_norm=0.05, seed=3, beta2=0.8,
    )  # fmt: skip
    model = nn.Linear(3, 2)
    twin = nn.Linear(3, 2)
    twin.load_state_dict(model.state_dict())
    fitted = fit(model, objective, settings, progress=False)

    optimizer = torch.optim.AdamW(twin.parameters(), lr=0.1, betas=(0.9, 0.8), weight_decay=0.1)
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


def halves():
    """The objective in two halves."""

    def draw(streams):
        x = torch.from_numpy(np.stack([s.standard_normal(3, np.float32) for s in streams]))
        return x, x[:, :2].sin()

    return Halves(draw, lambda model, x, wanted: (model(x) - wanted).square().mean())


@pytest.mark.parametrize("parts", [1, 5])
def test_workers_that_draw_ahead_change_nothing(parts, tmp_path):
    path = tmp_path / "state.safetensors"
    settings = replace(SETTINGS, gradient_accumulation_steps=parts)
    one = fit(network(), objective, settings, progress=False)
    ahead = replace(settings, workers=2)
    many = fit(network(), halves(), ahead, path=path, max_seconds=0, progress=False)
    assert many.steps == 1
    many = fit(network(), halves(), ahead, path=path, resume=True, progress=False)
    assert torch.equal(weights(one), weights(many))
    assert (one.losses == many.losses).all()
    here = fit(network(), halves(), settings, progress=False)
    assert torch.equal(weights(one), weights(here))


def test_workers_draw_in_processes_of_their_own():
    seen = []

    def draw(streams):
        seen.append(streams)
        return (torch.full((len(streams), 3), float(os.getpid())),)

    def loss(model, x):
        assert x.shape == (5, 3)
        assert x[0, 0] != float(os.getpid())
        return model(x / x).square().mean()

    fit(network(), Halves(draw, loss), replace(SETTINGS, workers=1), progress=False)
    assert not seen


def test_workers_need_an_objective_in_halves(monkeypatch):
    settings = replace(SETTINGS, workers=2)
    with pytest.raises(SetupError, match=r"workers: expected 0, as this objective is .* came 2"):
        fit(network(), objective, settings, progress=False)
    monkeypatch.setattr("sys.platform", "win32")
    with pytest.raises(SetupError, match=r"workers: expected 0 on Windows, .* came 2"):
        fit(network(), halves(), settings, progress=False)


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


@pytest.fixture
def ctrl_c():
    """As in a terminal: a shell's background jobs are started deaf to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_waits_for_the_end_of_the_step(tmp_path):
    """The statistics of the batch normalisation have moved when it comes, the weights have not."""
    path = tmp_path / "state.safetensors"
    whole = fit(network(norm=True), objective, SETTINGS, progress=False)

    def interrupted(model, streams):
        loss = objective(model, streams)
        interrupted.calls += 1
        if interrupted.calls == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return loss

    interrupted.calls = 0
    with pytest.raises(KeyboardInterrupt):
        fit(network(norm=True), interrupted, SETTINGS, path=path, progress=False)
    assert len(checkpoint.load(path)[0]["losses"]) == 5
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    resumed = fit(network(norm=True), objective, SETTINGS, path=path, resume=True, progress=False)
    for part in ("model", "ema"):
        want, got = (getattr(fitted, part).state_dict() for fitted in (whole, resumed))
        assert all(torch.equal(want[name], got[name]) for name in want)


@pytest.mark.usefixtures("ctrl_c")
def test_a_second_ctrl_c_does_not_wait(tmp_path):
    path = tmp_path / "state.safetensors"

    def twice(model, streams):
        twice.calls += 1
        if twice.calls == 6:
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)
        return objective(model, streams)

    twice.calls = 0
    with pytest.raises(KeyboardInterrupt):
        fit(network(), twice, SETTINGS, path=path, every=4, progress=False)
    assert len(checkpoint.load(path)[0]["losses"]) == 4  # what was whole stays


def test_settings_that_are_older_are_resumed_from(tmp_path):
    """Those of a checkpoint from before a field came are those with its default."""
    path = tmp_path / "state.safetensors"
    whole = fit(network(), objective, SETTINGS, progress=False)
    fit(network(), objective, SETTINGS, path=path, max_seconds=0, progress=False)
    tensors, facts = checkpoint.load(path)
    for name in ("gradient_accumulation_steps", "compile", "channels_last"):
        del facts["settings"][name]
    checkpoint.save(path, tensors, facts)
    resumed = fit(network(), objective, SETTINGS, path=path, resume=True, progress=False)
    assert torch.equal(weights(whole), weights(resumed))


def pictures(model, streams):
    x = torch.from_numpy(np.stack([s.standard_normal((3, 4, 5), np.float32) for s in streams]))
    return (model(x) - x.sin()).square().mean()


def convolution():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.Tanh(), nn.Conv2d(6, 3, 3, padding=1))


def test_resuming_with_channels_last_changes_nothing(tmp_path):
    """The moments must lie in memory as the weights do: a fused update looks at nothing else."""
    path = tmp_path / "state.safetensors"
    settings = Settings(**{**vars(SETTINGS), "channels_last": True})
    whole = fit(convolution(), pictures, settings, progress=False)
    assert whole.model[0].weight.is_contiguous(memory_format=torch.channels_last)
    plain = fit(convolution(), pictures, SETTINGS, progress=False)
    torch.testing.assert_close(weights(whole), weights(plain), rtol=1e-4, atol=1e-5)
    fit(convolution(), pictures, settings, path=path, max_seconds=0, progress=False)
    resumed = fit(convolution(), pictures, settings, path=path, resume=True, progress=False)
    assert torch.equal(weights(whole), weights(resumed))


def test_what_is_compiled_learns_the_same(monkeypatch):
    """Through dynamo, which hands its graph to the usual kernels here: no compiler is needed."""
    compile, compiled = torch.compile, []

    def eager(model):
        compiled.append(model)
        return compile(model, backend="eager")

    monkeypatch.setattr(torch, "compile", eager)
    settings = Settings(**{**vars(SETTINGS), "compile": True})
    fitted = fit(network(), objective, settings, progress=False)
    assert compiled == [fitted.model]
    assert torch.equal(
        weights(fitted), weights(fit(network(), objective, SETTINGS, progress=False))
    )


def test_the_scale_of_float16_is_kept(tmp_path):
    """Without a GPU: the state alone, with a scaler of the CPU."""
    path = tmp_path / "state.safetensors"
    state = State.begin(network(), SETTINGS, torch.amp.GradScaler("cpu", init_scale=2.0**9))
    state.scaler.scale(torch.tensor(1.0))
    state.losses.append(0.5)
    state.save(path, {}, [])
    other = State.begin(network(), SETTINGS, torch.amp.GradScaler("cpu"))
    other.restore(path, {}, *checkpoint.load(path))
    assert other.scaler.get_scale() == 2.0**9
    assert other.losses == [0.5]


def test_it_is_watched(tmp_path):
    seen = []

    def watch(step, model):
        assert not model.training
        seen.append((step, model[0].weight.clone()))

    fitted = fit(network(), objective, SETTINGS, watch=watch, watch_every=5, progress=False)
    assert [step for step, _ in seen] == [5, 10, 12]
    assert torch.equal(seen[-1][1], fitted.ema[0].weight)


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
        ({"beta2": 1}, "beta2: "),
        ({"clip_norm": -1}, "clip_norm: "),
        ({"weight_decay": -1}, "weight_decay: "),
        ({"warmup": -1}, "warmup: "),
        ({"seed": -1}, "seed: "),
        ({"workers": -1}, "workers: "),
        ({"precision": "int8"}, r"precision: expected one of .*bfloat16.*, came 'int8'"),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps: "),
    ],
)
def test_bad_settings_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        Settings(**{**vars(SETTINGS), **change})


def test_resuming_needs_a_path():
    with pytest.raises(ValueError, match="path: "):
        fit(network(), objective, SETTINGS, resume=True)
    for name in ("every", "log_every", "watch_every"):
        with pytest.raises(ValueError, match=f"^{name}: expected at least 1, came 0"):
            fit(network(), objective, SETTINGS, **{name: 0})


@pytest.mark.parametrize(("precision", "fused"), [("float32", True), ("bfloat16", False)])
def test_attention_in_bfloat16_is_written_out(precision, fused):
    """Its fused backward is slow on a CPU; forward and backward must choose alike."""
    allowed = []

    def ask(*_):
        allowed.append(torch.backends.cuda.flash_sdp_enabled())

    def watched(model, streams):
        ask()
        loss = objective(model, streams)
        loss.register_hook(ask)
        return loss

    settings = Settings(steps=2, batch_size=4, precision=precision)
    fit(network(), watched, settings, progress=False)
    assert allowed == [fused] * 4
    assert torch.backends.cuda.flash_sdp_enabled()
