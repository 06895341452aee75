"""Whole loops of latent diffusion against those of diffusers, with the same weights."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from course.bench.measure import Pair
from course.bench.sides import inference, unet_options
from course.diffusion import schedule
from course.diffusion.guidance import classifier_free
from course.diffusion.process import noise_predictor
from course.diffusion.sampling import ddim
from course.models.attention import Context
from course.models.configs import SCENES_LDM
from course.models.latent_diffusion import LatentDiffusionConfig
from course.models.packing import packed_weights
from course.training import recipes

LDM_CASES: dict[str, tuple[LatentDiffusionConfig, int]] = {"scenes-ldm": (SCENES_LDM, 8)}
BATCHES = (1, 8, 32)
# Steps that end evenly at T - 1: diffusers counts on from each by T / STEPS.
STEPS, GUIDANCE_SCALE, TOKENS = 25, 3.0, 16


def ldm(device: torch.device) -> Iterator[Pair]:
    """Guided DDIM from noise to latents with the same weights: v-prediction, cosine schedule, the
    tokens of a text and its vector. Ours as `TextToImage` does it (keys and values once, weights
    packed), theirs as their pipelines do it, without a mask: captions fill all tokens. Text encoder
    and decoder, the same for both, are left out.
    """
    for name, (config, size) in LDM_CASES.items():
        ours, theirs = _networks(config, device)
        for batch in BATCHES:
            given = _given(config, size, batch, device)
            yield Pair(
                name,
                f"{STEPS} steps, batch {batch}",
                inference(ours, _loop(ours, *given)),
                inference(theirs, _their_loop(theirs, *given)),
            )


def _networks(config: LatentDiffusionConfig, device: torch.device) -> tuple[nn.Module, nn.Module]:
    import diffusers

    ours = recipes.build(config.unet)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        for weight in ours.parameters():  # what begins at 0 would predict 0
            weight.add_(0.02 * torch.randn_like(weight))
    theirs = diffusers.UNet2DConditionModel(**unet_options(config.unet))
    theirs.load_state_dict(ours.state_dict())
    return ours.to(device), theirs.to(device)


def _given(
    config: LatentDiffusionConfig, size: int, batch: int, device: torch.device
) -> tuple[Tensor, ...]:
    """Noise, tokens and vector of the captions, and of the empty one."""
    generator, width = torch.Generator().manual_seed(0), config.text.hidden_size
    shapes = [(batch, config.unet.in_channels, size, size)]
    shapes += 2 * [(batch, TOKENS, width), (batch, width)]
    return tuple(torch.randn(shape, generator=generator).to(device) for shape in shapes)


def _loop(
    unet: nn.Module, xT: Tensor, told: Tensor, vector: Tensor, null: Tensor, none: Tensor
) -> Callable[[], Tensor]:
    whole = schedule.cosine()
    kept = whole.respace(STEPS, "trailing")

    def run() -> Tensor:
        contexts = Context(told, added=vector), Context(null, added=none)
        with packed_weights(unet):
            denoise = classifier_free(noise_predictor(unet, whole), *contexts, GUIDANCE_SCALE)
            return ddim(denoise, xT, kept)

    return run


def _their_loop(
    unet: nn.Module, xT: Tensor, told: Tensor, vector: Tensor, null: Tensor, none: Tensor
) -> Callable[[], Tensor]:
    """The loop of `diffusers.StableDiffusionPipeline`, with its scheduler for v."""
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        clip_sample=False,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
    )
    tokens, vectors = torch.cat([null, told]), torch.cat([none, vector])

    def run() -> Tensor:
        scheduler.set_timesteps(STEPS, device=xT.device)
        x = xT
        for t in scheduler.timesteps:
            both = torch.cat([x, x])
            found = unet(both, t, encoder_hidden_states=tokens, class_labels=vectors).sample
            without, with_text = found.chunk(2)
            guided = without + GUIDANCE_SCALE * (with_text - without)
            x = scheduler.step(guided, t, x).prev_sample
        return x

    return run
