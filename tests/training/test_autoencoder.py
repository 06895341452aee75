"""Autoencoders of scenes: their objectives written out, their measures against known models."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from course.data.scenes.layout import draw
from course.data.scenes.render import render
from course.metrics.reconstruction import perceptual_distance, psnr
from course.models.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig, DiagonalGaussian
from course.models.clip import CLIPVisionConfig, CLIPVisionModel
from course.models.configs import SCENES_VAES
from course.models.vq_model import Quantized, VQModel, VQModelConfig
from course.training import autoencoder, checkpoint, recipes
from course.training.autoencoder import (
    SCENES,
    Reconstruction,
    before_and_after,
    kl_objective,
    latent_scale,
    measure_vae,
    vq_objective,
)
from course.training.fit import Settings, fit, stream

SMALL = AutoencoderKLConfig(block_out_channels=(4, 6, 8), layers_per_block=1, norm_num_groups=2)
CODEBOOK = VQModelConfig(3, 3, (4, 8), 1, 4, 2, num_vq_embeddings=16)


def made(config=SMALL, seed=0):
    torch.manual_seed(seed)
    return (VQModel if isinstance(config, VQModelConfig) else AutoencoderKL)(config)


def some_vision(seed=0):
    """Random, with statistics of its norms that are not those of new ones."""
    torch.manual_seed(seed)
    vision = CLIPVisionModel(CLIPVisionConfig(block_out_channels=(4, 6), hidden_size=8)).train()
    with torch.no_grad():
        vision(torch.randn(16, 3, 32, 32))
    return vision.eval()


def streams(n=5, step=3):
    return [stream(5, step, i) for i in range(n)]


def drawn_by(numbers, shape, size=32):
    """The scenes and the noise that streams draw."""
    scenes, noise = [], []
    for s in numbers:
        scenes += draw(0, [int(s.integers(SCENES))])
        noise.append(torch.from_numpy(s.standard_normal(shape, np.float32)))
    return render(scenes, size), torch.stack(noise)


def test_the_objective_written_out():
    model, vision = made(), some_vision()
    x, noise = drawn_by(streams(), (4, 8, 8))
    q = model.encode(x)
    found = model.decode(q.mean + (q.logvar / 2).exp() * noise)
    variance = q.logvar.exp()
    nats = 0.5 * (q.mean**2 + variance - 1 - q.logvar).sum((1, 2, 3))
    seen = perceptual_distance(vision, found, x).mean()
    for pixels, error in (("l1", (found - x).abs()), ("l2", (found - x).square())):
        for vision_too, weight in ((None, 0.0), (vision, 0.3)):
            cost = Reconstruction(pixels, vision_too, weight)
            for kl_weight in (0.0, 2.0):
                loss = kl_objective(cost, kl_weight)(model, streams())
                want = error.sum((1, 2, 3)) + kl_weight * nats
                want = want.mean() / (3 * 32 * 32) + weight * seen
                torch.testing.assert_close(loss, want)
    default = kl_objective()(model, streams())
    torch.testing.assert_close(default, (found - x).abs().mean() + 1e-6 * nats.mean() / 3072)


def test_the_objective_of_a_codebook_written_out():
    model = made(CODEBOOK)
    x, _ = drawn_by(streams(), (1,))
    found, quantized = model(x)
    error = (found - x).abs().mean()
    torch.testing.assert_close(vq_objective()(model, streams()), error + quantized.loss)
    cost = Reconstruction("l2")
    loss = vq_objective(cost, codebook_weight=0.2)(model, streams())
    torch.testing.assert_close(loss, (found - x).square().mean() + 0.2 * quantized.loss)


@pytest.mark.parametrize("objective", [kl_objective(), vq_objective()])
def test_every_batch_is_new_and_a_function_of_its_numbers(objective):
    seen = []

    class Model(nn.Module):
        config = SMALL

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(()))

        def forward(self, x, noise=None):
            seen.append((x, noise))
            latents = torch.zeros(len(x), 4, 8, 8)
            told = DiagonalGaussian(latents, latents)
            if noise is None:
                told = Quantized(latents, torch.zeros(len(x), 8, 8).long(), torch.zeros(()))
            return torch.zeros_like(x), told

    for numbers in (streams(), streams(step=4), streams()[:3]):
        objective(Model(), numbers)
    (a, noise), (b, other), (c, first) = seen
    assert torch.equal(a[:3], c)  # whatever else is in the batch
    pairs = [(p - q).abs().max() for i, p in enumerate(a) for q in [*a[:i], *b]]
    assert min(pairs) > 0.1
    if noise is not None:
        assert torch.equal(noise[:3], first)
        assert (noise - other).abs().amax((1, 2, 3)).min() > 1
        assert noise.std().item() == pytest.approx(1, abs=0.1)


def test_the_network_that_looks_is_a_frozen_copy():
    vision = some_vision().train()
    cost = Reconstruction(vision=vision)
    assert vision.training
    assert all(p.requires_grad for p in vision.parameters())
    before = [b.clone() for b in cost.vision.buffers()]
    model = made()
    kl_objective(cost)(model, streams()).backward()
    assert all(p.grad is None for p in cost.vision.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, cost.vision.buffers(), strict=True))
    assert all(p.grad is not None for p in model.decoder.parameters())


class Paints(nn.Module):
    """Knows each picture by heart; its latents are given."""

    config = SimpleNamespace(num_vq_embeddings=4)

    def __init__(self, change=lambda x: x, mean=0.0, std=1.0):
        super().__init__()
        self.change, self.mean, self.std = change, mean, std
        self.weight = nn.Parameter(torch.zeros(()))

    def encode(self, x):
        latents = torch.full((len(x), 4, 8, 8), self.mean)
        return DiagonalGaussian(latents, torch.full_like(latents, 2 * math.log(self.std)))

    def forward(self, x):
        return self.change(x), self.encode(x)


def measured(monkeypatch, model, **options):
    """Without the types in the signature: a model that only looks like one."""
    import jaxtyping

    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        return measure_vae(model, **options)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


def test_measures_of_models_that_are_known(monkeypatch):
    figures = measured(monkeypatch, Paints(lambda x: x + 0.02, 3.0, 0.5), scenes=60)
    assert figures["scenes"] == 60
    # 0.02 of a range of 2 is 0.01 of one of 1; backgrounds of 250 are cut at 255.
    assert figures["psnr"] == pytest.approx(40, abs=0.2)
    assert figures["read"] == figures["read_true"] == 1
    assert figures["latent_mean"] == pytest.approx(3, abs=0.02)
    assert figures["latent_std"] == pytest.approx(0.5, abs=0.01)
    want = 0.5 * (9 + 0.25 - 1 - math.log(0.25))
    assert figures["kl"] == pytest.approx(want)

    upside_down = measured(monkeypatch, Paints(lambda x: x.flip(-2)), scenes=60)
    # A thing alone in its picture, or beside another, may be read the same.
    assert upside_down["read"] < 0.7
    grey = measured(monkeypatch, Paints(torch.zeros_like), scenes=60)
    assert grey["read"] == 0
    images = render(draw(1, range(60), "test"))
    error = (images / 2).square().mean((1, 2, 3))
    worst = (-10 * error.log10()).quantile(0.1).item()
    assert grey["psnr"] == pytest.approx((-10 * error.log10()).mean().item())
    assert grey["psnr_worst_tenth"] == pytest.approx(worst)
    assert grey["kl"] == 0


def test_scenes_stand_before_their_reconstructions():
    model = made()
    pictures = before_and_after(model, 5)
    assert pictures.shape == (10, 3, 32, 32)
    scenes = render(draw(1, range(5), "test"))
    assert torch.equal(pictures[::2], scenes)
    torch.testing.assert_close(pictures[1::2], model.decode(model.encode(scenes).mode()))


def test_scenes_may_be_larger(monkeypatch):
    seen = []
    model = Paints(lambda x: seen.append(x) or x)
    measured(monkeypatch, model, scenes=4, size=48)
    assert torch.equal(seen[0], render(draw(1, range(4), "test"), 48))
    assert before_and_after(made(), 3, size=48).shape == (6, 3, 48, 48)
    model = made()
    x, noise = drawn_by(streams(), (4, 12, 12), size=48)
    found, _ = model(x, noise)
    loss = kl_objective(kl_weight=0.0, size=48)(model, streams())
    torch.testing.assert_close(loss, (found - x).abs().mean())


def test_measures_are_of_unseen_scenes_in_batches(monkeypatch):
    seen = []
    model = Paints(lambda x: seen.append(x) or x + 0.01)
    monkeypatch.setattr(autoencoder, "BATCH", 9)
    figures = measured(monkeypatch, model, scenes=20, split="new_pairs")
    assert [len(batch) for batch in seen] == [9, 9, 2]
    assert torch.equal(torch.cat(seen), render(draw(1, range(20), "new_pairs")))
    assert figures["read"] == 1
    again = measured(monkeypatch, model, scenes=20, split="new_pairs")
    assert figures == again
    other = measured(monkeypatch, model, scenes=20, split="new_pairs", seed=1)
    assert other["latent_mean"] != figures["latent_mean"]


def test_measures_of_a_codebook():
    model = made(CODEBOOK).eval()
    figures = measure_vae(model, scenes=20)
    assert "kl" not in figures
    images = render(draw(1, range(20), "test"))
    with torch.no_grad():
        codes = model.quantize(model.encode(images)).codes
    share = codes.flatten().bincount(minlength=16) / codes.numel()
    assert figures["used"] == (share > 0).double().mean().item()
    want = math.exp(-sum(p * math.log(p) for p in share.tolist() if p))
    assert figures["perplexity"] == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("config", [SMALL, CODEBOOK])
def test_scaled_latents_have_variance_1(config):
    model = made(config).eval()
    images = render(draw(1, range(300), "train"))
    scale = latent_scale(model, images, seed=4)
    encoded = model.encode(images)
    if isinstance(encoded, DiagonalGaussian):
        encoded = encoded.sample(torch.Generator().manual_seed(4))
        assert abs(scale * encoded.std().item() - 1) < 0.02
        assert scale != latent_scale(model, images, seed=5)
    else:
        assert scale * encoded.std().item() == pytest.approx(1)


def test_the_ratio_of_signal_to_noise():
    images = torch.rand(3, 2, 5, 7, generator=torch.Generator().manual_seed(0)) - 0.5
    torch.testing.assert_close(psnr(images, images + 0.2), torch.full((3,), 20.0))
    torch.testing.assert_close(psnr(images + 0.02, images), torch.full((3,), 40.0))
    torch.testing.assert_close(
        psnr(-torch.ones(1, 2, 5, 7), torch.ones(1, 2, 5, 7)), torch.zeros(1)
    )
    assert psnr(images, images).tolist() == [math.inf] * 3
    # What is outside of [-1, 1] is not shown.
    outside = torch.full((1, 1, 2, 3), 5.0)
    assert psnr(outside, outside - 3).item() == math.inf
    mixed = images.clone()
    mixed[1] += 0.2
    assert psnr(images, mixed).isinf().tolist() == [True, False, True]


def test_perceptual_distance_written_out():
    vision = some_vision()
    a, b = torch.randn(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    got = perceptual_distance(vision, a, b)
    total = torch.zeros(3)
    for end in (3, 6):  # behind each activation
        fa, fb = vision.stem[:end](a), vision.stem[:end](b)
        for row in range(3):
            places = [
                (u / u.norm() - v / v.norm()).square().sum()
                for u, v in zip(fa[row].flatten(1).T, fb[row].flatten(1).T, strict=True)
            ]
            total[row] += torch.stack(places).mean() / 2
    torch.testing.assert_close(got, total)
    assert (got > 0).all()
    assert not perceptual_distance(vision, a, a).any()
    torch.testing.assert_close(perceptual_distance(vision, b, a), got)
    assert perceptual_distance(vision, a[..., :20], b[..., :20]).shape == (3,)


def test_perceptual_distance_sees_a_moved_edge_more_than_noise_of_the_same_error():
    """What it is for; with the first weights, random ones, already."""
    images = render(draw(3, range(40), "train"))
    moved = images.roll(1, -1)
    error = (moved - images).square().mean((1, 2, 3), keepdim=True).sqrt()
    brighter = images + error
    vision = some_vision()
    by_move = perceptual_distance(vision, images, moved).mean()
    by_light = perceptual_distance(vision, images, brighter).mean()
    assert by_move > by_light


@pytest.mark.parametrize(
    ("config", "objective"),
    [
        (SMALL, kl_objective(Reconstruction(vision=some_vision(), perceptual_weight=0.1))),
        (CODEBOOK, vq_objective()),
    ],
)
def test_it_learns(config, objective):
    """Told by one batch, before and after."""
    model = made(config)
    before = objective(model, streams(16)).item()
    settings = Settings(steps=60, batch_size=8, learning_rate=1e-2, warmup=5)
    fit(model, objective, settings, progress=False)
    assert objective(model, streams(16)).item() < 0.8 * before


def test_the_committed_autoencoder_is_as_good_as_its_card_says(record_property):
    """The card's measurement on the first 400 of its 1,000 unseen scenes."""
    path, card = checkpoint.published("scenes-vae")
    assert path.stat().st_size < 6_000_000
    assert card["seconds"] <= 3600
    model = recipes.load("scenes-vae")
    seen = measure_vae(model, 400)
    record_property(
        "counts",
        f"scenes-vae: {seen['psnr']:.2f} dB, worst tenth below {seen['psnr_worst_tenth']:.2f}, "
        f"{seen['read']:.2%} of 400 unseen scenes read right, KL {seen['kl']:.2f} nats a number",
    )
    for name, slack in (("psnr", 0.5), ("read", 0.015), ("kl", 0.05), ("latent_std", 0.05)):
        assert seen[name] == pytest.approx(card["metrics"][name], abs=slack)
    for figures in (seen, card["metrics"]):
        assert figures["psnr"] >= 32
        assert figures["read"] >= 0.98
    assert model.config.scaling_factor == card["metrics"]["scaling_factor"]
    generator = torch.Generator().manual_seed(0)
    latents = model.to_latents(render(draw(7, range(400), "test")), generator)
    assert latents.std().item() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("f", SCENES_VAES)
def test_autoencoders_to_compare_are_as_good_as_their_cards_say(f):
    path, card = checkpoint.published(f"scenes-vae-f{f}")
    assert path.stat().st_size < 6_000_000
    model = recipes.load(f"scenes-vae-f{f}")
    assert model.config.f == f
    seen = measure_vae(model, 200, size=64 if f == 16 else 32)
    for name, slack in (("psnr", 0.6), ("read", 0.05)):
        assert seen[name] == pytest.approx(card["metrics"][name], abs=slack)
    for name in ("kl", "latent_std"):
        assert seen[name] == pytest.approx(card["metrics"][name], rel=0.03)


def test_an_objective_in_bfloat16_is_float32_and_finite():
    model = made()
    with torch.autocast("cpu", torch.bfloat16):
        loss = kl_objective(Reconstruction(vision=some_vision()))(model, streams())
    assert loss.dtype == torch.float32
    loss.backward()
    want = kl_objective(Reconstruction(vision=some_vision()))(model, streams())
    torch.testing.assert_close(loss, want, rtol=0.02, atol=0)


def test_bad_arguments_are_named(no_typecheck):
    vision, a = some_vision(), torch.zeros(2, 3, 8, 12)
    for call, message in (
        (lambda: Reconstruction("l3"), "pixels: expected one of .*l1.*came 'l3'"),
        (lambda: Reconstruction(perceptual_weight=-1), "perceptual_weight: .*or more, came -1"),
        (lambda: kl_objective(kl_weight=-1e-6), "kl_weight: expected 0 or more, came -1e-06"),
        (lambda: vq_objective(codebook_weight=-1), "codebook_weight: expected 0 or more, came -1"),
        (lambda: psnr(a, a[:1]), r"others: .*\(2, 3, 8, 12\), came \(1, 3, 8, 12\)"),
        (lambda: perceptual_distance(vision, a, a[..., :8]), r"others: .*came \(2, 3, 8, 8\)"),
        (lambda: perceptual_distance(vision.train(), a, a), "vision: .*came one in train mode"),
        (lambda: measure_vae(made(), split="all"), "split: "),
    ):
        with pytest.raises(ValueError, match=message):
            call()
