"""The pipeline is that of Stable Diffusion in diffusers, from the same noise to the pictures."""

from functools import cache

import diffusers
import pytest
import torch
from weights import draws, twins

from course.bench.sides import unet_options
from course.diffusion import schedule
from course.models.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig
from course.models.clip_text import CLIPTextConfig, CLIPTextModel
from course.models.tokenizer import CLIPTokenizer
from course.models.unet import UNet2DConditionModel
from course.models.unet_config import UNetConfig
from course.pipeline import TextToImage, TextToImageConfig

PLAIN = schedule.scaled_linear()
SD15 = schedule.scaled_linear(final_alpha_bar=PLAIN.alpha_bar[0].item())
PROMPTS, NEGATIVE = ["a red star", "blue"], ["", "a red circle"]
# Where the visited steps do not divide the schedule, diffusers jumps by another length than it
# visits, but for "leading".
CASES = [("leading", 1, 7), ("leading", 1, 50), ("trailing", 0, 10)]


@cache
def parts():
    tokenizer = CLIPTokenizer.train(["a red star", "a red star"], 530)
    text = CLIPTextConfig(len(tokenizer.vocab), 10, 12, 2, 2, 77, 1e-5, tokenizer.end)
    torch.manual_seed(0)
    config = UNetConfig(4, 4, (8, 16, 24), 1, 4, cross_attention_dim=10, num_attention_heads=4)
    options = {k: v for k, v in unet_options(config).items() if k != "add_attention"}
    unet = twins(
        UNet2DConditionModel(config), diffusers.UNet2DConditionModel(**options, sample_size=2)
    )
    config = AutoencoderKLConfig(3, 3, (4, 8, 8, 8), 1, 4, 4)
    levels = len(config.block_out_channels)
    autoencoder = twins(
        AutoencoderKL(config),
        diffusers.AutoencoderKL(
            **vars(config),
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
        ),
    )
    return tokenizer, CLIPTextModel(text).double().eval(), unet, autoencoder


def scheduler(spacing="leading", prediction_type="epsilon"):
    theirs = diffusers.DDIMScheduler(
        1000,
        0.00085,
        0.012,
        "scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,  # which trailing ones ignore
        timestep_spacing=spacing,
        prediction_type=prediction_type,
    )
    torch.testing.assert_close(theirs.alphas_cumprod.double(), SD15.alpha_bar, rtol=1e-4, atol=0)
    # Theirs are float32.
    theirs.alphas_cumprod = SD15.alpha_bar
    theirs.final_alpha_cumprod = SD15.alpha_bar[0]
    return theirs


def pipeline(spacing, offset, prediction_type="epsilon"):
    tokenizer, text, (unet, _), (autoencoder, _) = parts()
    config = TextToImageConfig(
        16, prediction_type=prediction_type, timestep_spacing=spacing, steps_offset=offset
    )
    return TextToImage(tokenizer, text, unet, autoencoder, SD15, config)


def hidden(texts):
    tokenizer, text, *_ = parts()
    return text(tokenizer(texts))


def run(ours, **options):
    return ours(PROMPTS, size=(16, 24), trajectory=True, progress=False, **options)


@torch.no_grad()
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(("spacing", "offset", "steps"), CASES)
def test_text_to_image(same, spacing, offset, steps, prediction_type):
    ours = pipeline(spacing, offset, prediction_type)
    drawn = run(ours, steps=steps, guidance_scale=2.5, negative=NEGATIVE, seed=3)
    _, _, (_, unet), (_, autoencoder) = parts()
    theirs = diffusers.StableDiffusionPipeline(
        autoencoder,
        None,
        None,
        unet,
        scheduler(spacing, prediction_type),
        None,
        None,
        requires_safety_checker=False,
    )
    theirs.set_progress_bar_config(disable=True)
    options = {
        "prompt_embeds": hidden(PROMPTS),
        "negative_prompt_embeds": hidden(NEGATIVE),
        "latents": drawn.trajectory.xt[0].clone(),
        "num_inference_steps": steps,
        "guidance_scale": 2.5,
    }
    latents = theirs(**options, output_type="latent").images
    assert theirs.scheduler.timesteps.tolist() == drawn.trajectory.t.tolist()
    same(f"TextToImage, {prediction_type}, latents", drawn.trajectory.xt[-1], latents)
    images = theirs(**options, output_type="pt").images
    same(f"TextToImage, {prediction_type}, pictures", drawn.images, 2 * images - 1)


@torch.no_grad()
def test_with_noise_in_every_step(same):
    steps, eta = 9, 0.7
    ours, theirs = pipeline("leading", 1), scheduler()
    drawn = run(ours, steps=steps, guidance_scale=2.5, negative=NEGATIVE, seed=3, eta=eta)
    _, _, (_, unet), _ = parts()
    draw = ours._noise(3, (2, 4, 2, 3))
    x = draw()
    theirs.set_timesteps(steps)
    both = torch.cat([hidden(NEGATIVE), hidden(PROMPTS)])
    for k, t in enumerate(theirs.timesteps):
        without, told = unet(torch.cat([x, x]), t, encoder_hidden_states=both).sample.chunk(2)
        noise = without + 2.5 * (told - without)
        fresh = draw() if k < steps - 1 else None
        x = theirs.step(noise, t, x, eta=eta if k < steps - 1 else 0, variance_noise=fresh)[0]
    same("TextToImage, eta 0.7, latents", drawn.trajectory.xt[-1], x)


@torch.no_grad()
@pytest.mark.parametrize("strength", [0.3, 0.75, 0.999])
def test_image_to_image(same, strength):
    steps, image = 10, draws(2, 3, 16, 24, seed=8).clamp(-1, 1)
    ours = pipeline("leading", 1)
    drawn = ours(
        PROMPTS,
        steps=steps,
        guidance_scale=2.5,
        negative=NEGATIVE,
        seed=3,
        image=image,
        strength=strength,
        trajectory=True,
        progress=False,
    )
    _, _, (_, unet), (_, autoencoder) = parts()
    theirs = diffusers.StableDiffusionImg2ImgPipeline(
        autoencoder,
        None,
        None,
        unet,
        scheduler(),
        None,
        None,
        requires_safety_checker=False,
    )
    theirs.scheduler.set_timesteps(steps)
    times, _ = theirs.get_timesteps(steps, strength, "cpu")
    assert times.tolist() == drawn.trajectory.t.tolist()
    latents = autoencoder.encode(image).latent_dist.mode() * autoencoder.config.scaling_factor
    noise = ours._noise(3, (2, 4, 2, 3))()
    x = theirs.scheduler.add_noise(latents, noise, times[:1])
    both = torch.cat([hidden(NEGATIVE), hidden(PROMPTS)])
    for t in times:
        without, told = unet(torch.cat([x, x]), t, encoder_hidden_states=both).sample.chunk(2)
        x = theirs.scheduler.step(without + 2.5 * (told - without), t, x)[0]
    same("TextToImage, image to image, latents", drawn.trajectory.xt[-1], x)
