"""The pipeline with denoisers that are exactly right, and with small random networks."""

from dataclasses import replace

import pytest
import torch
from parts import (
    PLAIN,
    SD15,
    TOKENIZER,
    Identity,
    draws,
    exact_pipeline,
    is_told,
    networks,
)

from course.data.scenes import draw, render, scene_true
from course.diffusion.exact import EmpiricalDenoiser
from course.diffusion.process import predict_x0, q_sample
from course.models.attention import Context, record_attention
from course.pipeline import TextToImage, TextToImageConfig
from course.training import recipes

PROMPTS = ["a red star", "a blue circle above a red star"]
SPACED = [("leading", 1), ("leading", 0), ("trailing", 0), ("linspace", 0)]
QUIET = {"progress": False}


def close(got, want, atol=1e-10):
    torch.testing.assert_close(got, want, rtol=0, atol=atol)


def empirical(x0, noise_schedule=PLAIN):
    """x_0 as the exact denoiser of these latents implies it."""
    exact = EmpiricalDenoiser(x0, noise_schedule)
    return lambda xt, t, context: predict_x0(xt, t, exact(xt, t), noise_schedule)


def random_pipeline(mask_padding=True, max_length=12, noise_schedule=PLAIN, **config):
    text, unet = networks(3)
    config = TextToImageConfig(8, max_length, mask_padding, **config)
    return TextToImage(TOKENIZER, text, unet, Identity(), noise_schedule, config)


# Denoisers that are right


@pytest.mark.parametrize(("spacing", "offset"), SPACED)
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_with_the_exact_denoiser_of_one_latent_it_draws_that_picture(
    prediction_type, spacing, offset
):
    """Through a real autoencoder whose scale is not 1: scaled twice or never, it would not."""
    autoencoder = recipes.load("scenes-vae").double()
    autoencoder.config = replace(autoencoder.config, scaling_factor=0.2)
    scenes = draw(5, [1], "test")
    latent = autoencoder.to_latents(render(scenes).double())
    pipeline = exact_pipeline(
        lambda *_: latent,
        autoencoder,
        sample_size=32,
        prediction_type=prediction_type,
        timestep_spacing=spacing,
        steps_offset=offset,
    )
    drawn = pipeline(PROMPTS, steps=4, **QUIET)
    want = autoencoder(render(scenes).double())[0].clamp(-1, 1)
    close(drawn.images, want.expand(2, -1, -1, -1))
    assert all(scene_true(image, scenes[0]) for image in drawn.images)
    assert drawn.prompts == tuple(PROMPTS)
    assert drawn.trajectory is None
    assert drawn.attention is None


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_where_sampling_ends(eta):
    """At alpha-bar[0] in Stable Diffusion 1.5: the latent with a little noise, of known size."""
    x0 = 0.1 * draws(1, 3, 8, 8, seed=1)
    pipeline = exact_pipeline(lambda *_: x0, noise_schedule=SD15)
    path = pipeline("a red star", steps=10, eta=eta, trajectory=True, **QUIET).trajectory
    level = SD15.final_alpha_bar
    close(path.xt[-1], level**0.5 * x0 + (1 - level) ** 0.5 * path.eps_pred[-1])
    close(path.x0_pred, x0.expand(10, 1, 3, 8, 8), 1e-9)


@pytest.mark.parametrize("scale", [1, 0, 2.5, -1.0])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_guidance_goes_from_the_negative_past_the_prompt(prediction_type, scale):
    """x_0 is a where there is a prompt and b where not, so the picture is b + s (a - b)."""
    a, b = 0.1 * draws(2, 1, 3, 4, 8)
    pipeline = exact_pipeline(
        lambda xt, t, context: torch.where(is_told(context), a, b),
        prediction_type=prediction_type,
        timestep_spacing="trailing",
        steps_offset=0,
    )

    def drawn(prompts, **options):
        return pipeline(prompts, steps=3, size=(4, 8), guidance_scale=scale, **options, **QUIET)

    close(drawn(["a star"]).images, b + scale * (a - b))
    close(drawn([""], negative="a star").images, a + scale * (b - a))
    both = drawn(["", "a star"], negative=["a star", ""]).images
    close(both, torch.cat([a + scale * (b - a), b + scale * (a - b)]))


def test_pictures_are_cut_off_at_the_ends_of_their_range():
    x0 = torch.tensor([-3.0, 0.2, 1.7], dtype=torch.float64).view(1, 3, 1, 1)
    images = exact_pipeline(lambda *_: x0)("a", steps=3, **QUIET).images
    close(images[0, :, 2, 3], torch.tensor([-1, 0.2, 1], dtype=torch.float64), 0.01)


def test_the_step_of_the_prompt_reaches_the_network():
    seen = []

    def x0(xt, t, context):
        seen.append(t.tolist())
        return 0 * xt

    exact_pipeline(x0)("a", steps=4, **QUIET)
    assert seen == [[751] * 2, [501] * 2, [251] * 2, [1] * 2]


# Noise


def noises(pipeline, prompts, **options):
    return pipeline(prompts, steps=2, trajectory=True, **options, **QUIET).trajectory.xt[0]


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_picture_is_a_function_of_prompt_seed_and_place(eta):
    pipeline = random_pipeline()
    options = {"steps": 4, "seed": 7, "eta": eta, **QUIET}
    alone = pipeline(PROMPTS[0], **options).images
    beside = pipeline([PROMPTS[0], *PROMPTS], **options).images
    close(beside[:1], alone)
    assert (beside[1] - alone[0]).abs().max() > 0.1
    other = pipeline(PROMPTS[0], **options | {"seed": 8}).images
    assert (other - alone).abs().max() > 0.1
    close(pipeline(PROMPTS[0], **options).images, alone, 0)


def test_the_noise_is_standard_normal_and_no_two_are_alike():
    pipeline = exact_pipeline(lambda xt, *_: 0 * xt)
    drawn = torch.cat([noises(pipeline, ["a"] * 40, seed=seed, size=16) for seed in (0, 1, 2**63)])
    n = drawn.numel()
    assert drawn.mean().abs() < 4 / n**0.5
    assert (drawn.var() - 1).abs() < 4 * (2 / n) ** 0.5
    between = drawn.flatten(1).corrcoef().fill_diagonal_(0)
    assert between.abs().max() < 6 / (n / 120) ** 0.5


def test_the_precision_changes_nothing_but_digits():
    pipeline = random_pipeline()
    double = pipeline(PROMPTS, steps=5, **QUIET).images
    for network in (pipeline.unet, pipeline.text_encoder):
        network.float()
    single = pipeline(PROMPTS, steps=5, **QUIET).images
    assert single.dtype == torch.float32
    close(single.double(), double, 1e-4)


def test_fresh_noise_of_every_step_is_of_each_picture():
    """With x_0 known, x before the next step minus what is told of it is the noise that came."""
    pipeline = exact_pipeline(lambda xt, *_: 0 * xt)
    path = pipeline(["a", "a"], steps=4, eta=1, trajectory=True, **QUIET).trajectory
    kept = PLAIN.alpha_bar[path.t]
    fresh = []
    for k in range(3):
        beta = 1 - kept[k] / kept[k + 1]
        variance = (1 - kept[k + 1]) / (1 - kept[k]) * beta
        mean = (1 - kept[k + 1] - variance).sqrt() * path.eps_pred[k]
        fresh.append((path.xt[k + 1] - mean) / variance.sqrt())
    parts = torch.stack([path.xt[0], *fresh]).flatten(2).flatten(0, 1)
    # 4 draws for each of 2 pictures, of 192 numbers each.
    assert (parts.corrcoef() - torch.eye(8)).abs().max() < 5 / 192**0.5
    assert (parts.var(1) - 1).abs().max() < 5 * (2 / 192) ** 0.5


# Texts


def test_padding_that_is_masked_changes_nothing():
    short, long = random_pipeline(max_length=12), random_pipeline(max_length=40)
    want = short(PROMPTS, steps=3, **QUIET).images
    close(long(PROMPTS, steps=3, **QUIET).images, want)
    short, long = random_pipeline(False, 12), random_pipeline(False, 40)
    got, other = (p(PROMPTS, steps=3, **QUIET).images for p in (short, long))
    assert (got - other).abs().max() > 1e-3
    assert (got - want).abs().max() > 1e-3


def test_what_is_visible_ends_with_the_first_end_token():
    seen = []
    pipeline = exact_pipeline(
        lambda xt, t, context: seen.append(context.mask) or 0 * xt, mask_padding=True
    )
    pipeline(["a red star", ""], steps=1, **QUIET)
    counts = [row.tolist() for row in seen[0]]
    nothing, words = [True] * 2 + [False] * 10, [True] * 5 + [False] * 7
    assert counts == [nothing, nothing, words, nothing]
    exact_pipeline(lambda xt, t, context: seen.append(context.mask) or 0 * xt)(
        "a", steps=1, **QUIET
    )
    assert seen[-1] is None


def test_texts_are_encoded_once_and_weights_are_packed_meanwhile():
    pipeline = random_pipeline()
    for network in (pipeline.unet, pipeline.text_encoder):
        network.float()
    calls = {"text": 0, "keys": 0, "unet": 0}
    packed = []

    def count(what):
        return lambda *_: calls.update({what: calls[what] + 1})

    unet, text = pipeline.unet, pipeline.text_encoder
    text.embeddings.register_forward_hook(count("text"))
    layer = unet.mid_block.attentions[0].transformer_blocks[0].attn2
    layer.to_k.register_forward_hook(count("keys"))
    unet.conv_norm_out.register_forward_hook(count("unet"))
    unet.conv_norm_out.register_forward_hook(
        lambda *_: packed.append("forward" in vars(unet.conv_in))
    )
    pipeline(PROMPTS, steps=6, **QUIET)
    assert calls == {"text": 2, "keys": 1, "unet": 6}
    assert packed == [True] * 6
    assert "forward" not in vars(unet.conv_in)


# The way and the attention


def test_the_trajectory_is_what_happened():
    pipeline = random_pipeline(noise_schedule=SD15)
    drawn = pipeline(PROMPTS, steps=5, size=(8, 12), trajectory=True, **QUIET)
    path = drawn.trajectory
    assert path.t.tolist() == [801, 601, 401, 201, 1]
    assert path.xt.shape == (6, 2, 3, 8, 12)
    close(pipeline.decode(path.xt[-1]), drawn.images, 0)
    for k in range(5):
        kept = SD15.alpha_bar[path.t[k]]
        close(path.xt[k], kept.sqrt() * path.x0_pred[k] + (1 - kept).sqrt() * path.eps_pred[k])
        level = SD15.alpha_bar[path.t[k + 1]] if k < 4 else SD15.final_alpha_bar
        want = level**0.5 * path.x0_pred[k] + (1 - level) ** 0.5 * path.eps_pred[k]
        close(path.xt[k + 1], want)


@torch.no_grad()
@pytest.mark.parametrize("mask_padding", [True, False])
def test_attention_maps_are_those_of_the_prompts_by_word(mask_padding):
    pipeline = random_pipeline(mask_padding)
    options = {"steps": 3, "size": (6, 10), "trajectory": True, **QUIET}
    drawn = pipeline(PROMPTS, attention=True, **options)
    close(drawn.images, pipeline(PROMPTS, **options).images)
    maps = drawn.attention
    sides = {maps.layers[name].shape[3:5] for name in maps.layers}
    assert sides == {(6, 10), (3, 5)}
    assert len(maps.layers) == 4
    hidden = pipeline.text_encoder(TOKENIZER(PROMPTS, 12))
    visible = torch.arange(12) < torch.tensor([[5], [9]]) if mask_padding else None
    for k, t in enumerate(drawn.trajectory.t):
        with record_attention(pipeline.unet) as seen:
            pipeline.unet(drawn.trajectory.xt[k], t.expand(2), Context(hidden, visible))
        for name, layer in maps.layers.items():
            assert ".attn2" in name
            close(layer[k].flatten(2, 3), seen[name][0])
    for layer in maps.layers.values():
        assert layer.shape[:3] == (3, 2, 2)
        close(layer.sum(-1), torch.ones(layer.shape[:-1], dtype=torch.float64))
        assert (layer[:, 0, ..., 5:] == 0).all() == mask_padding
    words = ["a", "blue", "circle", "above", "a", "red", "star"]
    assert maps.words(1) == words
    for place, word in enumerate(words):
        for name, got in maps.of(place, 1).items():
            want = maps.layers[name][:, 1, :, :, :, 1 + place].mean(1)
            close(got, want, 0)
            if place != 4:
                close(maps.of(word, 1)[name], want, 0)


def test_a_word_of_several_tokens_gets_the_sum():
    maps = random_pipeline()("a star of red", steps=2, attention=True, **QUIET).attention
    assert TOKENIZER.tokenize("of") == ["o", "f</w>"]
    assert maps.words() == ["a", "star", "of", "red"]
    for name, layer in maps.layers.items():
        close(maps.of("of")[name], layer[:, 0, ..., 3:5].sum(-1).mean(1), 0)
        close(maps.of("red")[name], layer[:, 0, ..., 5].mean(1), 0)
    for word in ("blue", 4, -1):
        with pytest.raises(ValueError, match=r"word: expected one of \['a', 'star', 'of', 'red'\]"):
            maps.of(word)


# From a picture


def halves():
    """Latents of two pictures, of other left halves and other right ones."""
    return 0.5 * draws(2, 3, 8, 8, seed=1).sign()


def test_strength_1_is_text_to_image():
    pipeline = random_pipeline()
    image = halves()[:1].clamp(-1, 1)
    want = pipeline(PROMPTS, steps=5, seed=3, **QUIET).images
    close(pipeline(PROMPTS, steps=5, seed=3, image=image, **QUIET).images, want, 0)
    less = pipeline(PROMPTS, steps=5, seed=3, image=image, strength=0.99, **QUIET).images
    assert (less - want).abs().max() > 1e-3


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_few_steps_keep_the_picture_and_many_do_not(eta):
    """The exact denoiser knows two pictures; noise of the highest level hides which it was."""
    known = halves()
    pipeline = exact_pipeline(empirical(known))
    prompts = ["a"] * 16
    options = {"steps": 20, "eta": eta, **QUIET}
    for i in (0, 1):
        kept = pipeline(prompts, image=known[i : i + 1], strength=0.5, **options).images
        close(kept, known[i].expand(16, 3, 8, 8), 0.02)
    far = pipeline(prompts, image=known[:1], strength=1, **options).images
    found = [int((picture - known).abs().mean((1, 2, 3)).argmin()) for picture in far]
    assert set(found) == {0, 1}


@pytest.mark.parametrize(
    ("strength", "steps", "first", "count"),
    [(0.5, 10, 401, 5), (0.59, 10, 401, 5), (0.29, 100, 281, 29), (1, 4, 751, 4), (0.01, 10, 1, 1)],
)
def test_the_last_steps_are_taken(strength, steps, first, count):
    pipeline = exact_pipeline(lambda xt, *_: 0 * xt)
    image = halves()
    drawn = pipeline(
        ["a", "a"], image=image, strength=strength, steps=steps, trajectory=True, **QUIET
    )
    path = drawn.trajectory
    assert path.t[0] == first
    assert len(path.t) == count
    start = noises(pipeline, ["a", "a"])
    if strength < 1:
        start = q_sample(image, torch.full((2,), first), start, PLAIN)
    close(path.xt[0], start)


def test_each_picture_starts_from_its_own():
    autoencoder = Identity(2.0, f=2)
    image = halves()
    pipeline = exact_pipeline(
        lambda xt, *_: autoencoder.to_latents(image), autoencoder, noise_schedule=PLAIN
    )
    drawn = pipeline(["a", "a"], image=image, strength=0.2, steps=10, trajectory=True, **QUIET)
    close(drawn.images, image)
    want = q_sample(
        2 * torch.nn.functional.pixel_unshuffle(image, 2),
        torch.full((2,), 101),
        noises(pipeline, ["a", "a"]),
        PLAIN,
    )
    close(drawn.trajectory.xt[0], want)


def test_inpainting_goes_with_what_is_kept():
    """The exact denoiser knows two pictures: from the left half of one follows its right half."""
    known = halves()
    pipeline = exact_pipeline(empirical(known))
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[..., 4:] = True
    for i in (0, 1):
        image = known[i : i + 1].clone()
        image[..., 4:] = 0
        drawn = pipeline(["a"] * 8, image=image, mask=mask, steps=20, **QUIET).images
        close(drawn, known[i].expand(8, 3, 8, 8), 0.02)
        close(drawn[..., :4], known[i, :, :, :4].expand(8, 3, 8, 4))


def test_what_is_kept_has_the_noise_of_its_level():
    a, b = 0.1 * draws(2, 2, 3, 8, 8)
    pipeline = exact_pipeline(lambda *_: a)
    mask = draws(2, 8, 8, seed=9) > 0
    drawn = pipeline(["a"] * 2, image=b, mask=mask, steps=4, trajectory=True, **QUIET)
    anew, path = mask[:, None].expand(2, 3, 8, 8), drawn.trajectory
    noise = noises(pipeline, ["a"] * 2)
    for k, t in enumerate(path.t):
        close(path.xt[k][~anew], q_sample(b, t.expand(2), noise, PLAIN)[~anew])
        close(path.x0_pred[k], a)
    close(path.xt[0][anew], noise[anew])
    close(drawn.images, a.where(anew, b), 1e-9)


@pytest.mark.parametrize("pixel", [(0, 0), (3, 6), (7, 7)])
def test_a_place_is_drawn_anew_if_any_of_its_pixels_is(pixel):
    a, b = 0.1 * draws(2, 1, 3, 8, 8)
    autoencoder = Identity(2.0, f=2)
    pipeline = exact_pipeline(lambda *_: autoencoder.to_latents(a), autoencoder)
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[0, pixel[0], pixel[1]] = True
    drawn = pipeline("a", image=b, mask=mask, steps=5, **QUIET).images
    want = b.clone()
    y, x = (2 * (side // 2) for side in pixel)
    want[..., y : y + 2, x : x + 2] = a[..., y : y + 2, x : x + 2]
    close(drawn, want)


# What is refused


@pytest.mark.usefixtures("no_typecheck")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompts": []}, "prompts: expected at least one, came none"),
        ({"size": 9}, r"size: expected height and width that are multiples of 2, came 9 x 9"),
        ({"size": (8, 3)}, "size: .* came 8 x 3"),
        ({"size": 0}, "size: .* came 0 x 0"),
        ({"steps": 0}, r"steps: expected 1\.\.1000"),
        ({"steps": 1001}, r"steps: expected 1\.\.1000"),
        ({"steps": 1000}, r"steps: expected fewer, .* came 1000"),
        ({"seed": -1}, "seed: expected 0 to 2"),
        ({"eta": -0.5}, "eta: expected 0 or more, came -0.5"),
        ({"eta": float("nan")}, "eta: expected 0 or more, came nan"),
        ({"negative": ["a"] * 3}, "negative: expected one text or 2, came 3"),
        ({"image": torch.zeros(3, 3, 8, 8)}, "image: expected 1 or 2 of them, came 3"),
        ({"image": torch.zeros(1, 1, 8, 8)}, r"image: expected shape \(B, 3, H, W\)"),
        ({"image": torch.zeros(3, 8, 8)}, r"image: expected shape \(B, 3, H, W\), came \(3, 8, 8"),
        ({"image": torch.zeros(1, 3, 8, 7)}, "image: expected height and width .* came 8 x 7"),
        ({"image": torch.zeros(1, 3, 8, 8), "size": 8}, "size: expected None with image, came 8"),
        ({"image": torch.zeros(1, 3, 8, 8), "strength": 0}, "strength: expected .* came 0"),
        ({"image": torch.zeros(1, 3, 8, 8), "strength": 1.1}, "strength: expected .* came 1.1"),
        ({"strength": 0.5}, "strength: expected 1 without image, came 0.5"),
        ({"mask": torch.ones(1, 8, 8).bool()}, "mask: expected None without image"),
        (
            {"image": torch.zeros(1, 3, 8, 8), "mask": torch.ones(1, 8, 6).bool()},
            r"mask: expected bool of shape \(1 or 2, 8, 8\), came torch.bool \(1, 8, 6\)",
        ),
        (
            {"image": torch.zeros(1, 3, 8, 8), "mask": torch.ones(1, 8, 8)},
            "mask: expected bool .* came torch.float32",
        ),
    ],
)
def test_bad_input_is_named(options, message):
    pipeline = exact_pipeline(lambda xt, *_: 0 * xt, Identity(f=2))
    with pytest.raises(ValueError, match=message):
        pipeline(options.pop("prompts", ["a", "b"]), **options, **QUIET)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"prediction_type": "x0"}, "prediction_type: expected one of .* came 'x0'"),
        ({"timestep_spacing": "even"}, "timestep_spacing: expected one of .* came 'even'"),
        ({"steps_offset": -1}, "steps_offset: expected at least 0, came -1"),
        ({"max_length": 1}, "max_length: expected at least 2, came 1"),
        ({"sample_size": 0}, "sample_size: expected at least 1, came 0"),
        ({"timestep_spacing": "trailing"}, "steps_offset: expected 0 for 'trailing', came 1"),
    ],
)
def test_a_bad_config_is_named(field, message):
    with pytest.raises(ValueError, match=message):
        TextToImageConfig(**field)


def test_a_respaced_schedule_is_refused():
    text, unet = networks(3)
    with pytest.raises(ValueError, match="schedule: expected all of its steps"):
        TextToImage(TOKENIZER, text, unet, Identity(), PLAIN.respace(50))


def test_a_bar_is_shown_if_asked_for(capsys):
    pipeline = exact_pipeline(lambda xt, *_: 0 * xt)
    pipeline("a", steps=3, progress=False)
    assert capsys.readouterr() == ("", "")
    pipeline("a", steps=3)
    assert "3/3" in capsys.readouterr().out


def test_it_moves_with_its_networks():
    pipeline = random_pipeline()
    assert pipeline.to("meta") is pipeline
    assert {p.device.type for p in pipeline.unet.parameters()} == {"meta"}
    assert {p.device.type for p in pipeline.text_encoder.parameters()} == {"meta"}
