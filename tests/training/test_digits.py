"""Digits with classes: objectives written out, drawing and measures on models that are known."""

import math
from itertools import count
from statistics import NormalDist

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course.data.mnist import digits
from course.diffusion import schedule
from course.diffusion.process import q_sample
from course.metrics import judge
from course.models.noisy_classifier import NoisyClassifier, NoisyClassifierConfig
from course.training import checkpoint, recipes, run
from course.training import digits as digits_tasks
from course.training.fit import Settings, fit, stream
from course.training.objectives import label_objective, logit_normal, noise_objective

STEPS = schedule.cosine(20)
NULL = 3


def streams(n, step=3):
    return [stream(5, step, i) for i in range(n)]


def draws(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


class Watched:
    """Predicts a constant, and keeps what it was told."""

    def __init__(self, value=0.25):
        self.value, self.seen = value, []

    def __call__(self, xt, t, labels=None):
        self.seen.append((xt, t, labels))
        return torch.full_like(xt, self.value)


def test_the_objective_with_classes_written_out():
    x0, labels = draws(6, 1, 4, 5), torch.tensor([0, 2, 1, 1, 0, 2])
    weight = torch.arange(1.0, 21.0, dtype=torch.float64)
    model, n = Watched(), 30
    loss = noise_objective(x0, STEPS, weight, labels, NULL, 0.3)(model, streams(n))
    xt, times, told = model.seen[0]
    total, dropped = 0.0, 0
    for i in range(n):
        numbers = stream(5, 3, i)
        row, t = numbers.integers(6), numbers.integers(20)
        noise = torch.from_numpy(numbers.standard_normal((1, 4, 5), np.float32))
        without = numbers.random() < 0.3
        kept = STEPS.alpha_bar[t].item()
        torch.testing.assert_close(xt[i], kept**0.5 * x0[row] + (1 - kept) ** 0.5 * noise)
        assert times[i] == t
        assert told[i] == (NULL if without else labels[row])
        total += (t + 1) * (noise - 0.25).square().mean() / n
        dropped += without
    torch.testing.assert_close(loss, total.float())
    assert 0 < dropped < n


def test_a_model_without_classes_sees_the_same_pictures():
    x0, labels = draws(6, 1, 4, 5), torch.tensor([0, 2, 1, 1, 0, 2])
    told, plain = Watched(), Watched()
    noise_objective(x0, STEPS, None, labels, NULL)(told, streams(9))
    noise_objective(x0, STEPS)(plain, streams(9))
    for a, b in zip(told.seen[0][:2], plain.seen[0][:2], strict=True):
        assert torch.equal(a, b)
    assert plain.seen[0][2] is None


@pytest.mark.parametrize("drop", [0.0, 0.1, 0.25, 1.0])
def test_that_share_of_the_classes_is_dropped(drop):
    x0, labels, n = torch.zeros(3, 1, 1, 1), torch.arange(3), 4000
    model = Watched()
    objective = noise_objective(x0, STEPS, None, labels, NULL, drop)
    objective(model, streams(n))
    told = model.seen[0][2]
    share = (told == NULL).double().mean().item()
    assert share == pytest.approx(drop, abs=4 * math.sqrt(drop * (1 - drop) / n))
    # Of one sample it is its own stream's, whatever else is in the batch; of the next batch not.
    objective(model, streams(n)[:7])
    objective(model, streams(n, step=4))
    assert torch.equal(model.seen[1][2], told[:7])
    assert torch.equal(model.seen[2][2], told) == (drop == 1)


def test_one_in_ten_is_dropped_in_the_recipe(monkeypatch):
    images, labels = torch.zeros(20, 1, 28, 28), torch.arange(20) % 10
    monkeypatch.setattr(digits_tasks, "mnist", lambda split, drop_offline: (images, labels))
    model, n = Watched(), 2000
    digits_tasks.class_noise(torch.device("cpu"))(model, streams(n))
    _, t, told = model.seen[0]
    assert set(told.tolist()) == set(range(11))
    assert (told == 10).double().mean().item() == pytest.approx(0.1, abs=0.027)
    assert t.max() > 950
    assert recipes.find("digits-cond").model.num_class_embeds == 11


def share_below(share, mean, std):
    """Of times whose logit is normal, how many are below: the integral, in closed form."""
    return NormalDist(mean, std).cdf(math.log(share / (1 - share)))


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (-0.7, 0.5), (1.2, 1.8)])
def test_the_logits_of_times_are_normal(mean, std):
    time, n = logit_normal(mean, std), 4000
    drawn = torch.tensor([time(s) for s in streams(n)], dtype=torch.float64)
    logits = drawn.logit()
    assert logits.mean().item() == pytest.approx(mean, abs=4 * std / math.sqrt(n))
    assert logits.std().item() == pytest.approx(std, rel=4 / math.sqrt(2 * n))
    for share in (0.1, 0.4, 0.75):
        wanted = share_below(share, mean, std)
        error = 4 * math.sqrt(wanted * (1 - wanted) / n)
        assert (drawn < share).double().mean().item() == pytest.approx(wanted, abs=error)


def test_a_time_is_below_one():
    time = logit_normal(50.0, 0.1)  # its sigmoid is 1 in float64
    assert all(0.999 < time(s) < 1 for s in streams(20))
    x0, model = torch.zeros(3, 1, 1, 1), Watched()
    noise_objective(x0, STEPS, time=time)(model, streams(20))
    assert (model.seen[0][1] == 19).all()


def test_times_of_the_objective_are_the_ones_that_are_drawn():
    x0, model, weight = draws(6, 1, 4, 5), Watched(), torch.arange(1.0, 21.0)
    loss = noise_objective(x0, STEPS, weight, time=logit_normal(-0.4, 1.3))(model, streams(30))
    xt, times, _ = model.seen[0]
    total = 0.0
    for i in range(30):
        numbers = stream(5, 3, i)
        row, logit = numbers.integers(6), numbers.normal(-0.4, 1.3)
        t = int(20 / (1 + math.exp(-logit)))
        noise = torch.from_numpy(numbers.standard_normal((1, 4, 5), np.float32))
        kept = STEPS.alpha_bar[t].item()
        torch.testing.assert_close(xt[i], kept**0.5 * x0[row] + (1 - kept) ** 0.5 * noise)
        assert times[i] == t
        total += (t + 1) * (noise - 0.25).square().mean() / 30
    torch.testing.assert_close(loss, total)


def test_digits_ddpm_learns_where_digits_are_decided(monkeypatch):
    monkeypatch.setattr(
        digits_tasks, "mnist", lambda split, drop_offline: (torch.zeros(5, 1, 2, 3), None)
    )
    model, n = Watched(), 3000
    loss = digits_tasks.noise(torch.device("cpu"))(model, streams(n))
    xt, t, _ = model.seen[0]
    middle = ((t >= 200) & (t < 600)).double().mean().item()
    wanted = share_below(0.6, *digits_tasks.DECIDED) - share_below(0.2, *digits_tasks.DECIDED)
    assert wanted > 0.55  # 0.4 if each t were as likely
    assert middle == pytest.approx(wanted, abs=4 * math.sqrt(wanted * (1 - wanted) / n))
    # No weights: x_t is all noise, scaled.
    noise = xt / (1 - recipes.ddpm_schedule().alpha_bar[t]).sqrt().view(-1, 1, 1, 1)
    torch.testing.assert_close(loss.double(), (noise - 0.25).square().mean(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("std", [0, -1.0, math.inf, math.nan])
def test_times_must_vary(std):
    with pytest.raises(ValueError, match=f"std: expected a number above 0, came {std}"):
        logit_normal(0.0, std)


@pytest.mark.parametrize("null", [None, 2])
def test_no_class_is_no_class(null):
    with pytest.raises(ValueError, match=f"null: expected a number that is no class, came {null}"):
        noise_objective(torch.zeros(3, 1, 1, 1), STEPS, None, torch.arange(3), null)


def test_the_objective_of_noisy_digits_written_out():
    images, labels = draws(6, 1, 4, 5), torch.tensor([0, 2, 1, 1, 0, 2])
    seen, n = {}, 9

    def model(xt, t):
        seen.update(xt=xt, t=t)
        return xt.flatten(1)[:, :3] + t[:, None] / 7

    loss = label_objective(images, labels, 0, STEPS)(model, streams(n))
    total = 0.0
    for i in range(n):
        numbers = stream(5, 3, i)
        row, _, t = numbers.integers(6), numbers.integers(0, 1, 2), numbers.integers(20)
        noise = torch.from_numpy(numbers.standard_normal((1, 4, 5), np.float32))
        kept = STEPS.alpha_bar[t].item()
        xt = kept**0.5 * images[row] + (1 - kept) ** 0.5 * noise
        torch.testing.assert_close(seen["xt"][i], xt)
        assert seen["t"][i] == t
        p = (xt.flatten()[:3] + t / 7).softmax(0)
        total -= p[labels[row]].log() / n
    torch.testing.assert_close(loss, total)


def test_noisy_digits_stay_where_they_are(monkeypatch):
    images = -torch.ones(1, 1, 28, 28)
    images[..., 14, 9] = 1
    monkeypatch.setattr(
        digits_tasks, "mnist", lambda split, drop_offline: (images, torch.zeros(1).long())
    )
    seen = {}

    def model(xt, t):
        seen.update(xt=xt, t=t)
        return torch.zeros(len(xt), 10)

    loss = digits_tasks.noisy_labels(torch.device("cpu"))(model, streams(300))
    assert loss.item() == pytest.approx(math.log(10), rel=1e-6)
    early = seen["xt"][seen["t"] < 60]
    assert len(early) > 5
    assert (early.flatten(1).argmax(1) == 14 * 28 + 9).all()
    assert seen["t"].max() > 900


class Grey(nn.Module):
    """Exact for a picture of one grey per class, and another grey for no class."""

    def __init__(self, greys):
        super().__init__()
        self.greys = nn.Parameter(greys)
        self.steps = recipes.ddpm_schedule()
        self.sizes = []

    def forward(self, xt, t, context=None):
        self.sizes.append(len(xt))
        kept = self.steps.alpha_bar[t].to(xt).view(-1, 1, 1, 1)
        x0 = self.greys[context.added].view(-1, 1, 1, 1)
        return (xt - kept.sqrt() * x0) / (1 - kept).sqrt()


@torch.no_grad()
@pytest.mark.parametrize(("scale", "steps"), [(1.0, 4), (3.0, 4), (0.0, 3)])
def test_classes_are_drawn_as_they_are_asked_for(scale, steps):
    greys = torch.cat([torch.linspace(-0.25, 0.2, 10), torch.tensor([0.05])])
    model, labels = Grey(greys), torch.tensor([7, 0, 9, 3, 3]).repeat(60)
    drawn = digits_tasks.sample_classes(model, labels, scale, steps)
    want = greys[10] + scale * (greys[labels] - greys[10])
    want = want.clamp(-1, 1).view(-1, 1, 1, 1).expand(300, 1, 28, 28)
    torch.testing.assert_close(drawn, want, rtol=0, atol=2e-4)
    halves = 2 if scale == 3 else 1
    assert model.sizes == [250 * halves] * steps + [50 * halves] * steps


@torch.no_grad()
def test_the_sheet_has_a_column_for_each_class(monkeypatch):
    seen = {}
    monkeypatch.setattr(
        digits_tasks, "sample_classes", lambda model, labels, steps: seen.update(y=labels, n=steps)
    )
    task = run.TASKS["digits-cond"]
    task.sheet(None)
    assert (task.columns, seen["n"]) == (10, 25)
    assert torch.equal(seen["y"].view(4, 10), torch.arange(10).expand(4, 10))


def test_a_sheet_has_the_columns_of_its_task(tmp_path, monkeypatch):
    seen = []
    settings = Settings(steps=1, batch_size=2)
    tiny = recipes.Recipe("tiny", "A test.", recipes.find("digits-classifier").model, settings)
    monkeypatch.setitem(recipes.RECIPES, "tiny", tiny)
    images, labels = draws(8, 1, 28, 28), torch.arange(8)
    for columns in (None, 4):
        task = run.Task(
            lambda _: label_objective(images, labels), lambda _: {}, "", lambda _: images, columns
        )
        monkeypatch.setitem(run.TASKS, "tiny", task)
        monkeypatch.setattr(run, "png", lambda pixels: seen.append(pixels.shape[1]) or b"")
        run.train("tiny", tmp_path / str(columns), progress=False)
    assert seen == [3 * 29 - 1, 4 * 29 - 1]


def test_the_measures_of_known_drawings(monkeypatch):
    """Held-out digits as what is drawn: at scale 1 half of them of the class that is asked for."""
    held_out, true = digits("held_out")
    train, _ = digits("train")
    asked = []

    def draw(model, labels, scale):
        asked.append((scale, labels))
        places = [iter((true == k).nonzero()[:, 0].tolist()) for k in range(10)]
        off = [scale == 1 and i % 2 for i in range(1000)]
        told = [(int(y) + 5) % 10 if o else int(y) for y, o in zip(labels, off, strict=True)]
        return held_out[[next(places[k]) for k in told]]

    monkeypatch.setattr(digits_tasks, "sample_classes", draw)
    monkeypatch.setattr(
        digits_tasks, "mnist", lambda split, drop_offline=False: (train[:1000], None)
    )
    figures = digits_tasks.measure_cond(nn.Identity())
    assert [scale for scale, _ in asked] == [1, 3]
    for _, labels in asked:
        assert labels.bincount().tolist() == [100] * 10
    one, three, real = (figures[name] for name in ("scale_1", "scale_3", "held_out"))
    assert three["accuracy"] == real["accuracy"] >= 0.985
    assert one["accuracy"] == pytest.approx(0.5, abs=0.01)
    for figure in (one, three):
        for name in ("sure", "fid", "precision", "recall"):
            assert figure[name] == pytest.approx(real[name], abs=2e-3)
    low, high = three["fid_interval_95"]
    assert low < three["fid"] < high


class Sign(nn.Module):
    """Knows classes 0 and 1 by the mean of their pictures at early steps, later says always 1."""

    def forward(self, xt, t):
        logits = torch.full((len(xt), 10), -50.0)
        bright = torch.where(t < 550, xt.mean((1, 2, 3)) > 0, True).long()
        logits[torch.arange(len(xt)), bright] = 2.0
        logits[torch.arange(len(xt)), 1 - bright] = 0.0
        return logits


def test_the_measures_of_a_known_noisy_classifier(monkeypatch):
    labels = (torch.arange(400) % 4 == 0).long()
    images = (2.0 * labels - 1).view(-1, 1, 1, 1).expand(400, 1, 28, 28)
    monkeypatch.setattr(digits_tasks, "mnist", lambda split: (images, labels))
    monkeypatch.setattr(digits_tasks, "digits", lambda split: (images[:8], labels[:8]))
    figures = digits_tasks.measure_noisy_classifier(Sign())
    levels = figures["t"]
    assert levels[0] == 0
    assert levels[-1] == 999
    right, wrong = math.log1p(math.exp(-2)), math.log1p(math.exp(2))
    for name, n in (("test", 400), ("held_out", 8)):
        found = figures[name]
        assert found["images"] == n
        assert found["accuracy"] == [1.0 if t < 550 else 0.25 for t in levels]
        want = [right if t < 550 else 0.25 * right + 0.75 * wrong for t in levels]
        assert found["cross_entropy"] == pytest.approx(want, rel=1e-5)


def test_noise_of_the_measures_is_that_of_their_level(monkeypatch):
    images, labels, calls = draws(300, 1, 28, 28), torch.zeros(300).long(), []

    class Blind(nn.Module):
        def forward(self, xt, t):
            calls.append((xt, t))
            return torch.zeros(len(xt), 10)

    monkeypatch.setattr(digits_tasks, "mnist", lambda split: (images, labels))
    monkeypatch.setattr(digits_tasks, "digits", lambda split: (images, labels))
    digits_tasks.measure_noisy_classifier(Blind())
    kept = recipes.ddpm_schedule().alpha_bar
    starts = count(0, 2)
    for level, first in zip(digits_tasks.LEVELS, starts, strict=False):
        xt = torch.cat([calls[first][0], calls[first + 1][0]])
        assert set(torch.cat([calls[first][1], calls[first + 1][1]]).tolist()) == {level}
        noise = xt - kept[level].sqrt().float() * images
        assert noise.var().item() == pytest.approx(1 - kept[level].item(), rel=0.02)


def halves():
    """Two classes of pictures: bright left, bright right."""
    images = -torch.ones(2, 1, 8, 8)
    images[0, ..., :4] = 1
    images[1, ..., 4:] = 1
    return images, torch.arange(2)


def test_a_short_training_with_classes_learns_them():
    """What is told in words and hardly seen decides which way the prediction goes."""
    images, labels = halves()
    images = 0.3 * images
    config = recipes.UNetConfig(1, 1, (8, 16), 1, 4, num_class_embeds=3)
    objective = noise_objective(images, STEPS, None, labels, 2)
    settings = Settings(steps=100, batch_size=16, learning_rate=5e-3, warmup=5, ema_decay=0.9)
    model = fit(recipes.build(config), objective, settings, progress=False).ema
    t = torch.full((64,), 12)
    kept = STEPS.alpha_bar[12].item()
    xt = kept**0.5 * images[labels.repeat(32)] + (1 - kept) ** 0.5 * draws(64, 1, 8, 8)
    with torch.no_grad():
        left, right = (model(xt, t, torch.full((64,), told)).mean(0) for told in labels.tolist())
    want = -((kept / (1 - kept)) ** 0.5) * (images[1] - images[0])
    assert F.cosine_similarity((right - left).flatten(), want.flatten(), 0) > 0.5


def test_a_short_training_of_the_noisy_classifier_learns():
    images, labels = halves()
    config = NoisyClassifierConfig(1, 2, (8, 16), norm_num_groups=4)
    settings = Settings(steps=60, batch_size=16, learning_rate=5e-3, warmup=5, ema_decay=0.9)
    objective = label_objective(images, labels, 0, STEPS)
    model = fit(recipes.build(config), objective, settings, progress=False).ema
    assert isinstance(model, NoisyClassifier)
    loss = [objective(model, streams(64, step)).item() / math.log(2) for step in range(1000, 1003)]
    assert max(loss) < 0.5


def test_the_committed_noisy_classifier_is_as_good_as_its_card_says(record_property):
    """On digits that it never saw, at three of its levels, with other noise."""
    path, card = checkpoint.published("digits-noisy-classifier")
    assert path.stat().st_size < 8_000_000
    model, (images, labels) = recipes.load("digits-noisy-classifier"), digits("held_out")
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(7))
    want, seen = card["metrics"], {}
    for level in (0, 300, 500):
        t = torch.full(labels.shape, level)
        xt = q_sample(images, t, noise, recipes.ddpm_schedule())
        right = [
            (model(x, at).argmax(1) == y)
            for x, at, y in zip(xt.split(250), t.split(250), labels.split(250), strict=True)
        ]
        seen[level] = torch.cat(right).double().mean().item()
        told = want["held_out"]["accuracy"][want["t"].index(level)]
        # Four standard errors of a difference of two shares of 1,000.
        assert abs(seen[level] - told) < 4 * (2 * told * (1 - told) / 1000) ** 0.5
    record_property("counts", f"digits-noisy-classifier, held out, by t: {seen}")
    assert seen[0] > 0.98


def test_the_committed_conditional_ddpm_is_as_good_as_its_card_says(record_property):
    """Of 200 digits drawn in half of the steps, how many are what was asked for."""
    path, card = checkpoint.published("digits-cond")
    assert path.stat().st_size < 8_000_000
    model, classifier = recipes.load("digits-cond"), recipes.load("digits-classifier")
    asked, seen = torch.arange(10).repeat_interleave(20), {}
    for scale in (1, 3):
        drawn = digits_tasks.sample_classes(model, asked, scale, steps=25, seed=3)
        found = judge.probabilities(classifier, drawn).argmax(1)
        seen[scale] = (found == asked).double().mean().item()
        told = card["metrics"][f"scale_{scale}"]["accuracy"]
        # Four standard errors, and what half of the steps may cost.
        assert seen[scale] > told - 4 * (told * (1 - told) / 200) ** 0.5 - 0.02
    record_property("counts", f"digits-cond, 200 digits, the class asked for by scale: {seen}")
    assert seen[3] > 0.95
