"""The bench: what it reports, by a clock that we turn ourselves. Nothing here depends on speed."""

import json
import sys

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from course.bench import attention, latent, measure, report, sides, unet
from course.bench.measure import BenchError, Pair, Side
from course.bench.unet import UNetCase
from course.cli import app
from course.diffusion.guidance import classifier_free
from course.models.clip_text import CLIPTextConfig
from course.models.latent_diffusion import LatentDiffusionConfig
from course.models.unet_config import UNetConfig
from course.training import recipes

CPU = torch.device("cpu")
run = CliRunner().invoke

TINY = {
    "plain": UNetCase(UNetConfig(1, 2, (4, 8), 1, norm_num_groups=2), (4, 6), 3, 2),
    "scaled": UNetCase(
        UNetConfig(3, 1, (6,), 2, 3, resnet_time_scale_shift="scale_shift"), (5, 2), 2, 4
    ),
}

TINY_WORDS = {
    "words": UNetCase(
        UNetConfig(2, 2, (4, 8), 1, 2, cross_attention_dim=3, num_attention_heads=2),
        (6, 4),
        2,
        3,
        tokens=5,
    )
}

SMALL_LDM = LatentDiffusionConfig(
    UNetConfig(
        2,
        2,
        (4, 8),
        1,
        2,
        resnet_time_scale_shift="scale_shift",
        zero_init=True,
        cross_attention_dim=6,
        num_attention_heads=2,
        attention_levels=(0, 1),
        projection_class_embeddings_input_dim=6,
    ),
    CLIPTextConfig(30, 6, 8, 1, 2, 16, eos_token_id=29),
)


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(unet, "UNET_CASES", TINY)
    monkeypatch.setattr(unet, "CONDITIONAL_CASES", TINY_WORDS)
    monkeypatch.setattr(latent, "LDM_CASES", {"small": (SMALL_LDM, 6)})
    monkeypatch.setattr(latent, "BATCHES", (1, 3))
    monkeypatch.setattr(latent, "STEPS", 5)
    monkeypatch.setattr(attention, "CHANNELS", 32)
    monkeypatch.setattr(attention, "SIZE", (3, 2))


class Clock:
    """Stands still but for the work done, which takes as long as its list says."""

    def __init__(self):
        self.now = 5.0
        self.order = []

    def __call__(self):
        return self.now

    def side(self, name, durations, result=1.0):
        rest = iter(durations)

        def work():
            self.order.append(name)
            self.now += next(rest)
            return torch.full((2, 3), result)

        return Side(nn.Identity(), work)

    def measure(self, ours, theirs, rounds):
        """Rounds of these seconds, with any before (warming up) and after (memory)."""
        sides = (self.side(n, [9, 9, *t, 9]) for n, t in (("ours", ours), ("theirs", theirs)))
        return measure.measure(Pair("a", "b", *sides), rounds, CPU, self)


def test_the_ratio_is_that_of_the_medians():
    ours, theirs = [1.0, 100, 2, 4, 3], [5.0, 7, 6, 50, 1]
    row = Clock().measure(ours, theirs, 5)
    assert (row.ours, row.theirs, row.ratio) == (3, 6, 2)
    assert row.seconds == list(zip(ours, theirs, strict=True))
    assert row.interval[0] < 2 < row.interval[1]


def test_they_take_turns_and_each_is_first_in_every_second_round():
    clock = Clock()
    clock.measure([1] * 4, [1] * 4, 4)
    warming_up = ["ours", "theirs"] * 2
    rounds = ["ours", "theirs", "theirs", "ours"] * 2
    assert clock.order == warming_up + rounds + ["ours", "theirs"]


def test_the_interval_is_a_point_without_noise_and_covers_the_truth_with_it():
    assert measure._bootstrap([(2.0, 3.0)] * 6) == (1.5, 1.5)
    rng = np.random.default_rng(1)
    covered, widths = 0, []
    for _ in range(40):
        noise = np.exp(0.1 * rng.standard_normal((25, 2)))
        low, high = measure._bootstrap([(float(a), 1.3 * float(b)) for a, b in noise], draws=300)
        covered += low <= 1.3 <= high
        widths.append(high - low)
    assert covered >= 34  # 38 of 40 on average
    # The spread of a median of n: sqrt(pi / 2n) times that of one; of a ratio of two, sqrt(2) more.
    expected = 2 * 1.96 * 1.3 * 0.1 * np.sqrt(np.pi / 25)
    assert np.mean(widths) == pytest.approx(expected, rel=0.25)


@pytest.mark.parametrize("wrong", [1.002, float("nan"), float("inf"), -1.0])
def test_different_results_are_refused_before_any_timing(wrong):
    clock = Clock()
    pair = Pair("digits", "inference", clock.side("a", [0]), clock.side("b", [0], wrong))

    def no_clock():
        raise AssertionError("timed")

    with pytest.raises(BenchError, match="digits, inference: ours and theirs differ by"):
        measure.measure(pair, 3, CPU, no_clock)
    assert clock.order == ["a", "b"]


def test_results_that_differ_after_a_step_are_refused():
    results = iter([1.0, 1.1])
    same = Side(nn.Identity(), lambda: torch.ones(()))
    drifts = Side(nn.Identity(), lambda: torch.tensor(next(results)))
    with pytest.raises(BenchError, match="differ by"):
        measure.measure(Pair("a", "b", same, drifts), 3, CPU)


def test_rounding_is_no_difference():
    clock = Clock()
    pair = Pair("a", "b", clock.side("a", [1] * 5), clock.side("b", [1] * 5, 1 + 1e-5))
    assert measure.measure(pair, 2, CPU, clock).ratio == 1


def test_saved_bytes_count_each_storage_once_and_no_weights():
    model = nn.Linear(3, 4)
    x = torch.randn(5, 3, requires_grad=True)

    def work():
        y = model(x)  # keeps x, 60 bytes, and the weight
        z = y * y  # keeps y twice, 80 bytes
        z[:2].exp().sum().backward()  # keeps what exp returned, 32 bytes
        return z

    assert measure._saved_bytes(Side(model, work)) == 60 + 80 + 32
    assert measure._saved_bytes(Side(model, torch.inference_mode()(lambda: model(x)))) is None


def test_a_train_step_is_forward_loss_backward_and_adamw():
    torch.manual_seed(0)
    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    other.load_state_dict(model.state_dict())
    x, target = torch.randn(4, 3), torch.randn(4, 2)
    side = sides.train_step(model.eval(), lambda: model(x), target)
    optimizer = torch.optim.AdamW(other.parameters(), lr=1e-4)
    for _ in range(2):
        loss = (other(x) - target).square().mean()
        torch.testing.assert_close(side.run(), loss.detach())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert torch.equal(model.weight, other.weight)
    assert side.model is model
    assert model.training
    assert model.weight.grad is None


def test_inference_keeps_no_graph():
    model = nn.Linear(3, 2)
    side = sides.inference(model.train(), lambda: model(torch.ones(1, 3)))
    assert side.run().is_inference()
    assert not model.training


def test_the_unet_bench_reports_all_it_measured(tiny, tmp_path, monkeypatch):
    file, threads = tmp_path / "bench.json", []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads[-1])
    result = run(app, ["bench", "unet", "--rounds", "3", "--threads", "2", "--json", str(file)])
    assert result.exit_code == 0, result.output
    facts = json.loads(file.read_text())
    assert {name: facts[name] for name in ("bench", "rounds", "memory")} == {
        "bench": "unet",
        "rounds": 3,
        "memory": "saved for backward",
    }
    assert set(facts["machine"]) == {"device", "cores", "threads", "torch", "diffusers"}
    assert facts["machine"]["threads"] == 2
    rows = facts["rows"]
    assert [(row["case"], row["work"]) for row in rows] == [
        ("plain", "inference, batch 3"),
        ("plain", "train step, batch 2"),
        ("plain", "with average, batch 2"),
        ("scaled", "inference, batch 2"),
        ("scaled", "train step, batch 4"),
        ("scaled", "with average, batch 4"),
    ]
    for row in rows:
        assert np.shape(row["seconds"]) == (3, 2)
        assert [row["ours"], row["theirs"]] == np.median(row["seconds"], axis=0).tolist()
        assert row["ratio"] == row["theirs"] / row["ours"]
        assert row["interval"][0] <= row["ratio"] <= row["interval"][1]
        for side in ("ours_bytes", "theirs_bytes"):
            assert row[side] is None if "inference" in row["work"] else row[side] > 0

    lines = result.stdout.splitlines()
    said = f"threads 2, torch {torch.__version__}, diffusers {facts['machine']['diffusers']}"
    assert said in lines[0]
    assert "medians of 3 rounds" in lines[1]
    assert "MB: saved for backward" in lines
    for line, row in zip(lines[-6:], rows, strict=True):
        assert line.startswith(row["case"])
        assert row["work"] in line
        assert f"{row['ratio']:.3f} [" in line


@pytest.mark.parametrize(
    ("what", "works"),
    [
        (
            "conditional",
            [
                "inference, batch 2",
                "train step, batch 3",
                "with average, batch 3",
                "30 steps, batch 2",
            ],
        ),
        ("attention", ["inference", "train step"] * 3),
        ("ldm", ["5 steps, batch 1", "5 steps, batch 3"]),
    ],
)
def test_words_are_looked_at_as_diffusers_does(what, works, tiny, tmp_path):
    """Whole guided trajectories among them: before anything is timed they are found equal."""
    file = tmp_path / "bench.json"
    result = run(app, ["bench", what, "--rounds", "1", "--json", str(file)])
    assert result.exit_code == 0, result.output
    assert [row["work"] for row in json.loads(file.read_text())["rows"]] == works


@pytest.mark.parametrize(
    ("module", "what", "where"),
    [(unet, "conditional", "words, 30 steps, batch 2"), (latent, "ldm", "small, 5 steps, batch 1")],
)
def test_another_scale_of_guidance_is_noticed(tiny, monkeypatch, module, what, where):
    def other(model, context, null, scale):
        return classifier_free(model, context, null, scale + 2)

    monkeypatch.setattr(module, "classifier_free", other)
    result = run(app, ["bench", what, "--rounds", "1"])
    assert result.exit_code == 2
    assert f"{where}: ours and theirs differ" in result.stderr


def test_other_weights_are_noticed(tiny, monkeypatch):
    import diffusers

    monkeypatch.setattr(diffusers.UNet2DModel, "load_state_dict", lambda self, state: None)
    result = run(app, ["bench", "unet", "--rounds", "1"])
    assert result.exit_code == 2
    assert result.stderr.startswith("course: plain, inference, batch 3: ours and theirs differ")
    assert len(result.stderr.splitlines()) == 1


def test_a_missing_library_is_one_line_that_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    result = run(app, ["bench", "unet"])
    assert result.exit_code == 2
    assert result.stderr == (
        "course: diffusers, which ours is measured against, is not installed: "
        'python -m pip install -c constraints.txt -e ".[test]"\n'
    )
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("une", "there is no bench 'une'; there are unet, attention, conditional, ldm"),
        ("unet --json nowhere/a.json", "there is no folder nowhere for a.json"),
        ("unet --rounds 0", "--rounds"),
        ("unet --threads 0", "--threads"),
    ],
)
def test_bad_words_are_refused_before_any_timing(words, message, monkeypatch):
    monkeypatch.setattr(report, "measure", None)
    result = run(app, ["bench", *words.split()])
    assert result.exit_code == 2
    assert message in result.stderr


def test_the_digits_are_those_of_the_recipe():
    assert unet.UNET_CASES["digits"].config == recipes.find("digits-ddpm").model
    sizes = {name: case.size for name, case in unet.UNET_CASES.items()}
    assert sizes == {"digits": (32, 32), "latents 8x8": (8, 8), "latents 32x32": (32, 32)}


@pytest.mark.parametrize("case", unet.UNET_CASES.values(), ids=unet.UNET_CASES)
def test_diffusers_takes_the_size(case):
    halvings = len(case.config.block_out_channels) - 1
    assert all(size % 2**halvings == 0 for size in case.size)
