"""Several processes see what one would, end together, and only the main one writes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import worker
from safetensors.torch import load_file

from course.training import checkpoint
from course.training.fit import fit, stream
from course.training.log import read_log
from course.training.processes import Processes
from course.training.settings import SetupError

HERE = Path(__file__).parent


def launch(*arguments, count=2, timeout=300):
    """Run a program in several processes on a free port; none of them is left behind."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc_per_node={count}", *map(str, arguments)]
    path = os.pathsep.join([str(HERE.parents[1]), str(HERE), os.environ.get("PYTHONPATH", "")])
    started = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
    )
    try:
        out, err = started.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        started.terminate()  # torchrun ends its processes, too
        pytest.fail(f"it hangs: {started.communicate()}")
    return started.returncode, out, err


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What two processes saw and left: by rank, what they said and their tensors."""
    folder = tmp_path_factory.mktemp("two")
    code, out, err = launch(HERE / "worker.py", folder)
    assert code == 0, err
    said = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]
    tensors = [load_file(folder / f"{rank}.safetensors") for rank in range(2)]
    return folder, said, tensors, out


def differences(tensors, name, fitted):
    want = {f"{name}.model.{k}": v for k, v in fitted.model.state_dict().items()}
    want |= {f"{name}.ema.{k}": v for k, v in fitted.ema.state_dict().items()}
    assert want.keys() == {key for key in tensors if key.startswith(f"{name}.")}
    return max(float((tensors[key] - value).abs().max()) for key, value in want.items())


def alone(model, **fields):
    return fit(model, worker.objective, worker.changed(**fields), progress=False)


def test_there_are_two(two):
    _, said, _, _ = two
    assert [one["count"] for one in said] == [2, 2]


def test_they_share_the_samples_of_each_batch(two):
    _, said, _, _ = two
    for step in range(8):
        want = [stream(7, step, i).standard_normal() for i in range(12)]
        shares = [one["drawn"][step] for one in said]
        assert shares == [want[:6], want[6:]]


@pytest.mark.parametrize(
    ("name", "rate", "parts"),
    [("plain", 0.0, 1), ("dropout", 0.3, 2), ("parts", 0.3, 6), ("resumed", 0.3, 2)],
)
def test_two_learn_what_one_learns(two, record_property, name, rate, parts):
    """One process computes as many parts one after the other: what layers draw is equal, too."""
    _, said, tensors, _ = two
    fitted = alone(worker.network(rate), gradient_accumulation_steps=parts)
    gaps = [differences(one, name, fitted) for one in tensors]
    record_property("counts", f"two processes against one, {name}: {max(gaps):.1e} at most")
    assert max(gaps) < 2e-6
    if name != "resumed":
        for one in said:
            np.testing.assert_allclose(one[name]["losses"], fitted.losses, rtol=1e-5)


@pytest.fixture
def one_thread():
    """As each of the two has: other threads add up in another order, which AdamW enlarges."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_two_learn_the_autoencoder_of_one(two, one_thread, record_property):
    """Its objective draws scenes and noise, and costs several terms."""
    _, _, tensors, _ = two
    settings = worker.changed(gradient_accumulation_steps=2)
    model = worker.autoencoder()
    objective = worker.kl_objective(config=model.config)
    fitted = fit(model, objective, settings, progress=False)
    gap = max(differences(one, "autoencoder", fitted) for one in tensors)
    record_property("counts", f"two processes against one, autoencoder: {gap:.1e} at most")
    assert gap < 2e-5


def test_gradients_are_averaged(two, tmp_path):
    """AdamW forgives a factor; the norm of the gradient does not."""
    folder, *_ = two
    log = tmp_path / "log.jsonl"
    fit(worker.network(), worker.objective, worker.SETTINGS, log=log, log_every=2, progress=False)
    want, got = read_log(log), read_log(folder / "rank0" / "log.jsonl")
    for name in ("step", "loss", "learning_rate", "gradient_norm"):
        np.testing.assert_allclose(got[name], want[name], rtol=1e-5)


def test_all_have_the_same_weights_to_the_last_bit(two):
    _, said, (first, second), _ = two
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert said[0]["plain"] == said[1]["plain"]


def test_time_is_up_for_all_when_it_is_for_one(two):
    _, said, _, _ = two
    assert [len(one["stopped"]["losses"]) for one in said] == [1, 1]


def test_an_end_is_the_end_of_all(two):
    folder, said, _, _ = two
    for one in said:
        assert one["nan"] == "FloatingPointError: the loss is nan at step 3: lower the rate?"
        assert one["interrupted"].startswith("KeyboardInterrupt")
        assert one["full"].startswith("CheckpointError: ")
        assert "No space left on device" in one["full"]
    tensors, _ = checkpoint.load(folder / "rank0" / "interrupted.safetensors")
    assert len(tensors["losses"]) == 3


def test_what_can_not_be_cut_is_refused_by_all(two):
    _, said, _, _ = two
    for one in said:
        assert one["batch"] == (
            "SetupError: batch_size: expected a multiple of 2, which is 2 processes times "
            "1 gradient_accumulation_steps, came 9"
        )
        for name, who in (("whole", "the objective"), ("normalised", "batch normalisation")):
            assert one[name] == (
                "SetupError: processes, gradient_accumulation_steps: expected 1 and 1, as "
                f"{who} needs a whole batch, came 2 and 1"
            )


def test_only_the_main_one_writes_and_draws_a_bar(two):
    folder, said, _, out = two
    assert not (folder / "rank1").exists()
    left = {path.name for path in (folder / "rank0").iterdir()}
    assert left == {"log.jsonl", "state.safetensors", "interrupted.safetensors"}
    assert read_log(folder / "rank0" / "log.jsonl")["step"].tolist() == [1, 3, 5, 7]
    assert [one["watched"] for one in said] == [1, 0]
    trained = ("plain", "dropout", "parts", "autoencoder", "resumed", "full")  # to the end
    assert len(re.findall("8/8", out)) == len(trained)


@pytest.mark.skipif(sys.platform != "linux", reason="threads have names on Linux")
def test_no_thread_of_the_group_outlives_it(two):
    """One that does ends the process by SIGABRT, now and then, and torchrun kills the others."""
    _, said, _, _ = two
    for one in said:
        assert one["threads"]
        assert not [name for name in one["threads"] if "gloo" in name]


RECIPE = """
import sys, torch
import worker
torch.set_num_threads(1)
from course.cli import app
from course.models.configs import DIGITS_CLASSIFIER
from course.training import recipes, run
recipes.NETWORKS[type(DIGITS_CLASSIFIER)] = lambda config: worker.network()
tiny = recipes.Recipe("tiny", "A test.", DIGITS_CLASSIFIER, worker.SETTINGS)
recipes.RECIPES["tiny"] = tiny
at = worker.Recorder(int(sys.argv.pop(1)), lambda loss: loss * float("nan"))
run.TASKS["tiny"] = run.Task(lambda device: at, lambda model: {"right": 1})
app(["train", "tiny", *sys.argv[1:]])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "out", "err"),
    [
        ((-1,), 0, "Trained in", ""),
        ((-1, "--max-seconds", "0"), 1, "1 of 8 steps are done. Go on with: ", ""),
        ((5,), 1, "", "course: the loss is nan at step 5: lower the rate?\n"),
        ((-1, "--lane", "gpu"), 1, "", "course: lane: expected auto or one of tiny, which are cpu"),
    ],
)
def test_the_command_ends_in_all_processes(tmp_path, words, code, out, err):
    program = tmp_path / "tiny.py"
    program.write_text(RECIPE)
    folder = tmp_path / "run"
    came, said, complained = launch(program, *words, "--folder", folder)
    assert came == code, complained
    assert said.count(out) >= 1
    assert complained.count(err) == 1 or not err
    assert "Traceback (most recent call last)" not in complained.split("torch/distributed")[0]
    if code == 0:
        card = json.loads((folder / "tiny.json").read_text())
        assert card["lane"] == "cpu"
        assert [run["processes"] for run in card["runs"]] == [2]
        assert card["runs"][0]["device"] == "CPU"


@pytest.mark.slow
def test_contrastive_training_is_refused_on_the_command_line(tmp_path):
    code, _, err = launch("-m", "course", "train", "scenes-clip", "--folder", tmp_path)
    assert code == 1
    assert err.count("expected 1 and 1, as the objective needs a whole batch, came 2 and 1") == 1


class TestAlone:
    def test_parts_are_one_batch(self, tmp_path):
        fitted, logs = {}, {}
        for parts in (1, 2, 3, 12):
            log = tmp_path / f"{parts}.jsonl"
            settings = worker.changed(gradient_accumulation_steps=parts)
            fitted[parts] = fit(
                worker.network(), worker.objective, settings, log=log, log_every=1, progress=False
            )
            logs[parts] = read_log(log)
        whole = fitted.pop(1)
        for parts, cut in fitted.items():
            np.testing.assert_allclose(cut.losses, whole.losses, rtol=1e-5)
            for name in ("step", "loss", "learning_rate", "gradient_norm"):
                np.testing.assert_allclose(logs[parts][name], logs[1][name], rtol=1e-5)
            for network in ("model", "ema"):
                pairs = zip(
                    getattr(cut, network).parameters(),
                    getattr(whole, network).parameters(),
                    strict=True,
                )
                for got, want in pairs:
                    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)

    def test_layers_draw_something_else_in_each_part(self):
        drawn = []

        def watched(model, streams):
            drawn.append(torch.rand(5))
            return worker.objective(model, streams)

        settings = worker.changed(steps=2, gradient_accumulation_steps=3)
        fit(worker.network(), watched, settings, progress=False)
        assert len({tuple(numbers.tolist()) for numbers in drawn}) == 6

    @pytest.mark.parametrize("name", ["whole", "normalised"])
    def test_what_can_not_be_cut_is_refused(self, name):
        model = worker.normalised() if name == "normalised" else worker.network()
        objective = worker.Recorder()
        if name == "whole":
            objective = worker.whole_batch(objective)
        fit(model, objective, worker.SETTINGS, progress=False)
        settings = worker.changed(gradient_accumulation_steps=2)
        with pytest.raises(SetupError, match=r"expected 1 and 1, as .* came 1 and 2"):
            fit(model, objective, settings, progress=False)

    def test_a_batch_that_has_no_equal_parts_is_refused(self):
        with pytest.raises(SetupError, match=r"batch_size: expected a multiple of 5, .*came 12"):
            Processes(torch.device("cpu"), worker.changed(gradient_accumulation_steps=5))

    def test_float16_is_for_gpus(self):
        with pytest.raises(SetupError, match=r"precision: .*on the CPU, came float16"):
            fit(worker.network(), worker.objective, worker.changed(precision="float16"))

    def test_trainings_of_several_precisions_follow_one_another(self):
        seen = []

        def watched(model, streams):
            return worker.objective(lambda x: seen.append(model(x)) or seen[-1], streams)

        for precision in ("float32", "bfloat16", "float32"):
            settings = worker.changed(precision=precision, steps=1)
            fit(worker.network(), watched, settings, progress=False)
        assert [y.dtype for y in seen] == [torch.float32, torch.bfloat16, torch.float32]
