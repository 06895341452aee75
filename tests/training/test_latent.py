"""Latent diffusion on scenes: its objective written out, its first weights, its figures."""

import numpy as np
import pytest
import torch
from torch import nn

from course import pipeline
from course.data.scenes.captions import caption
from course.data.scenes.dataset import DESCRIBE_BITS, WRITE_BITS, CaptionedScenes
from course.data.scenes.layout import draw
from course.data.scenes.render import render
from course.diffusion import schedule
from course.metrics.captions import CELLS
from course.models.configs import SCENES_LDM, SCENES_LDMS
from course.pipeline import published
from course.pipeline.score import score
from course.training import checkpoint, latent, recipes, run
from course.training.contrastive import LENGTH, scenes_tokenizer
from course.training.fit import fit, stream
from course.training.updates import Halves

COSINE = schedule.cosine()
SCENES = draw(0, range(9), "train")


def streams(n=7, step=3):
    return [stream(5, step, i) for i in range(n)]


def latents():
    return torch.randn(9, 2, 3, 5, generator=torch.Generator().manual_seed(0))


class Listens(nn.Module):
    """Predicts a constant; remembers what it was given."""

    def __init__(self):
        super().__init__()
        self.given = []

    def forward(self, xt, t, tokens):
        self.given.append((xt, t, tokens))
        return torch.full_like(xt, 0.25)


@pytest.mark.parametrize("shift", [1, 3.0])
def test_the_objective_written_out(shift):
    model, total = Listens(), 0.0
    objective = latent.caption_objective(latents(), SCENES, COSINE, drop=0.5, shift=shift)
    loss = objective(model, streams())
    ((xt, t, tokens),) = model.given
    said = []
    for row, s in enumerate(streams()):
        index, u = int(s.integers(9)), s.random()
        step = int(1000 * shift * u / (1 - u + shift * u))
        noise = torch.from_numpy(s.standard_normal((2, 3, 5), np.float32))
        bits = s.integers(2**62, size=DESCRIBE_BITS + WRITE_BITS).tolist()
        said.append("" if s.random() < 0.5 else caption(SCENES[index], bits))
        a = COSINE.alpha_bar[step].item()
        x0 = latents()[index]
        assert t[row] == step
        torch.testing.assert_close(xt[row], a**0.5 * x0 + (1 - a) ** 0.5 * noise)
        total += (0.25 - (a**0.5 * noise - (1 - a) ** 0.5 * x0)).square().mean().item() / 7
    assert "" in said
    assert len(set(said)) > 3
    want = scenes_tokenizer()(said, LENGTH)
    assert torch.equal(tokens, want[:, : tokens.shape[1]])
    assert (want[:, tokens.shape[1] :] == scenes_tokenizer().end).all()
    assert loss.item() == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize(("drop", "low", "high"), [(0.0, 0, 0), (0.1, 20, 62), (1.0, 400, 400)])
def test_captions_are_dropped(drop, low, high):
    model = Listens()
    latent.caption_objective(latents(), SCENES, COSINE, drop)(model, streams(400))
    tokens = model.given[0][2]
    assert low <= (tokens[:, 1] == scenes_tokenizer().end).sum() <= high


def test_times_are_shifted_to_much_noise():
    """The odds of a time are multiplied; the way back is the inverse."""
    assert latent.shifted(0.0, 3) == 0
    assert latent.shifted(0.5, 3) == pytest.approx(0.75)
    for u in (0.1, 0.37, 0.9):
        moved = latent.shifted(u, 2.5)
        assert moved / (1 - moved) == pytest.approx(2.5 * u / (1 - u))
        assert latent.shifted(moved, 1 / 2.5) == pytest.approx(u)
        assert latent.shifted(u, 1) == pytest.approx(u)
    model = Listens()
    latent.caption_objective(latents(), SCENES, COSINE, shift=3)(model, streams(800))
    t = model.given[0][1]
    # Where u was 1/2, t is 750.
    assert 340 < (t < 750).sum() < 460
    assert 0 <= t.min() < 30
    assert 990 < t.max() <= 999


def test_latents_are_means_as_the_unet_sees_them():
    vae = recipes.load("scenes-vae")
    vae.config = type(vae.config)(**{**vars(vae.config), "scaling_factor": 0.3})
    found = latent.encoded(vae, SCENES)
    with torch.no_grad():
        want = 0.3 * vae.encode(render(SCENES)).mean
    torch.testing.assert_close(found, want)


def test_what_trainings_begin_with():
    model, clip = recipes.build(SCENES_LDM), recipes.load("scenes-clip")
    begins = {end: run.TASKS[f"scenes-ldm{end}"].begin for end in ("-64", "-f4")}
    assert set(begins.values()) == {latent.begin}
    stages = [run.TASKS[f"scenes-ldm{end}"].begin for end in ("-joint", "-frozen", "")]
    assert stages == [latent.begin_joint, latent.go_on, latent.begin_frozen]
    tokens = scenes_tokenizer()(["a small red star"], LENGTH)
    latent.begin_joint(model)
    assert torch.equal(model.text_model(tokens), clip.text_model(tokens))
    assert all(p.requires_grad for p in model.parameters())
    model = recipes.build(SCENES_LDM)
    latent.begin(model)
    assert torch.equal(model.text_model(tokens), clip.text_model(tokens))
    assert not any(p.requires_grad for p in model.text_model.parameters())
    assert all(p.requires_grad for p in model.unet.parameters())
    latent.go_on(model)
    assert torch.equal(model.text_model(tokens), clip.text_model(tokens))
    joint = recipes.load("scenes-ldm-joint").unet.state_dict()
    assert all(torch.equal(value, joint[name]) for name, value in model.unet.state_dict().items())
    model = recipes.build(SCENES_LDM)
    latent.begin_frozen(model)
    frozen = recipes.load("scenes-ldm-frozen").state_dict()
    assert all(torch.equal(value, frozen[name]) for name, value in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())


def test_a_frozen_text_encoder_stays_as_it_is(tmp_path):
    model = recipes.build(SCENES_LDM)
    latent.begin(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    objective = latent.caption_objective(torch.randn(9, 4, 4, 6), SCENES, COSINE)
    settings = recipes.Settings(steps=2, batch_size=3, warmup=0)
    path = tmp_path / "state.safetensors"
    stopped = fit(model, objective, settings, path=path, max_seconds=0, progress=False)
    assert stopped.steps == 1
    fitted = fit(model, objective, settings, path=path, resume=True, progress=False)
    for name, value in fitted.ema.state_dict().items():
        if name.startswith("text_model"):
            assert torch.equal(value, before[name])
    assert any(
        not torch.equal(value, before[f"unet.{name}"])
        for name, value in fitted.ema.unet.state_dict().items()
    )


def test_pixels_are_latents_of_an_autoencoder_that_changes_nothing():
    made = published.assemble("scenes-ldm-f1", recipes.build(SCENES_LDMS[1]).eval())
    images = render(SCENES)
    assert torch.equal(latent.encoded(made.autoencoder, SCENES), images)
    assert torch.equal(made.decode(images), images)
    drawn = made(["a red star"], steps=2, size=(16, 24), progress=False).images
    assert drawn.shape == (1, 3, 16, 24)
    for f, config in SCENES_LDMS.items():
        assert published.autoencoder_of(f"scenes-ldm-f{f}").f == f
        assert config.unet.block_out_channels[-2:] == (96, 96)


def test_pictures_of_captions_and_their_figures():
    """A network that has learned nothing draws nothing that can be read."""
    model = recipes.build(SCENES_LDM).eval()
    assert latent.draw_captions(model, 2).shape == (2, 3, 32, 32)
    figures = latent.measure_latent(model, each=2)
    assert figures.pop("sampler").startswith("DDIM, 30 steps")
    assert sum(len(rows) for rows in figures.values()) == len(CELLS)
    for rows in figures.values():
        for row in rows.values():
            assert row["captions"] == 2
            assert row["right"] == 0
            assert row["ceiling"]["right"] == 1


def test_only_some_captions_are_asked_for():
    model = recipes.build(SCENES_LDM).eval()
    figures = latent.measure_latent(model, each=2, cells=[("new_pairs", 2)])
    assert figures["new_pairs"].keys() == {"2"}
    assert figures.keys() == {"sampler", "new_pairs"}


def test_what_compares_f_learns_scenes_of_one_thing(monkeypatch):
    monkeypatch.setitem(latent.CACHED, "cpu", 30)
    seen = []

    def objective(*given, **more):
        seen.append((given, more))
        return Halves(lambda streams: (), lambda model: torch.zeros(()))

    monkeypatch.setattr(latent, "caption_objective", objective)
    for name in ("scenes-ldm-f2", "scenes-ldm", "scenes-ldm-frozen"):
        run.TASKS[name].objective(torch.device("cpu"))
    ((small, scenes, _), options), ((large, all_scenes, _), others), (_, frozen) = seen
    assert (options, others, frozen) == ({"shift": 1}, {"shift": 2}, {"shift": 3.0})
    assert all_scenes == draw(0, range(30), "train")
    assert scenes == [scene for scene in all_scenes if len(scene.things) == 1]
    assert small.shape == (len(scenes), 4, 16, 16)
    assert large.shape == (30, 4, 8, 8)


def test_a_pipeline_by_name(monkeypatch):
    model = recipes.build(SCENES_LDM).eval()
    monkeypatch.setattr(recipes, "load", lambda name, load=recipes.load: model)
    with pytest.raises(
        ValueError, match=r"name: expected one of scenes-ldm, .*scenes-ldm-f8, came"
    ):
        pipeline.load("scenes-vae")
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"name: expected one of .*came 'nope'"):
        pipeline.load("nope")
    made = published.assemble("scenes-ldm", model)
    assert (made.unet, made.text_encoder) == (model.unet, model.text_model)
    caption = CaptionedScenes(1, "test").examples([0])[0].caption
    told = made._context([caption])
    seen = []
    model.unet.register_forward_hook(lambda module, given, out: seen.append(given))
    tokens = scenes_tokenizer()([caption], LENGTH)
    with torch.no_grad():
        model(torch.zeros(1, 4, 8, 8), torch.tensor([5]), tokens)
    trained = seen[0][2]
    assert torch.equal(told.tokens, trained.tokens)
    assert torch.equal(told.mask, trained.mask)
    assert torch.equal(told.added, trained.added)


@pytest.mark.parametrize(
    "name",
    [
        "scenes-ldm",
        pytest.param("scenes-ldm-frozen", marks=pytest.mark.slow),
        pytest.param("scenes-ldm-joint", marks=pytest.mark.slow),
    ],
)
def test_what_is_committed_draws_as_well_as_its_card_says(name, record_property):
    """Other captions and noises than those of the card, in two thirds of the steps."""
    _, card = checkpoint.published(name)
    found = score(pipeline.load(name), 40, steps=20, guidance_scale=3.0, seed=77)
    for split, rows in found.items():
        for things, row in rows.items():
            told = card["metrics"][split][things]["right"]
            error = (told * (1 - told) * (1 / 40 + 1 / 333)) ** 0.5
            assert abs(row["right"] - told) < 4 * error + 0.03
    shares = {split: [row["right"] for row in rows.values()] for split, rows in found.items()}
    record_property("counts", f"{name}, shares of 40 right by split and number of things: {shares}")


def test_weights_are_stored_rounded_and_measured_so(monkeypatch, tmp_path):
    settings = recipes.Settings(steps=1, batch_size=2)
    recipe = recipes.Recipe(
        "half", "A test.", recipes.find("scenes-vae-f1").model, settings, stored="float16"
    )
    monkeypatch.setitem(recipes.RECIPES, "half", recipe)
    measured = []
    objective = run.TASKS["scenes-vae-f1"].objective
    begun = []
    task = run.Task(objective, lambda m: measured.append(m) or {}, begin=begun.append)
    monkeypatch.setitem(run.TASKS, "half", task)
    fitted = run.train("half", tmp_path, progress=False)
    assert begun == [fitted.model]
    tensors, _ = checkpoint.load(tmp_path / "half.safetensors")
    assert {t.dtype for t in tensors.values()} == {torch.float16}
    for name, value in measured[0].state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, tensors[name].float())


def test_bad_arguments_are_named(no_typecheck):
    with pytest.raises(ValueError, match="scenes: expected 9, one a latent, came 8"):
        latent.caption_objective(latents(), SCENES[:8], COSINE)
    with pytest.raises(ValueError, match=r"drop: expected a share from 0 to 1, came 1\.5"):
        latent.caption_objective(latents(), SCENES, COSINE, 1.5)
    with pytest.raises(ValueError, match="shift: expected a number above 0, came 0"):
        latent.caption_objective(latents(), SCENES, COSINE, shift=0)
