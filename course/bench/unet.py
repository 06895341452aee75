"""Our U-Nets against those of diffusers: predictions, train steps and whole trajectories."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from course.bench.measure import Pair
from course.bench.sides import averaging, inference, train_step, unet_options
from course.diffusion import schedule
from course.diffusion.guidance import classifier_free
from course.diffusion.sampling import ddim
from course.models.configs import DIGITS_UNET
from course.models.packing import packed_weights
from course.models.unet_config import UNetConfig
from course.training import recipes


@dataclass(frozen=True)
class UNetCase:
    """A U-Net and the pictures it is given.

    Attributes:
        config: of the network.
        size: height and width.
        inference: pictures at once, in a prediction and in a trajectory.
        training: pictures per step.
        tokens: of the context, for a conditional network.
    """

    config: UNetConfig
    size: tuple[int, int]
    inference: int
    training: int
    tokens: int = 0


_LATENTS = UNetConfig(4, 4, (64, 128, 256, 256), layers_per_block=2, norm_num_groups=32)
UNET_CASES = {
    # Digits have 28 pixels; diffusers' UNet2DModel takes only what halves evenly at every level.
    "digits": UNetCase(DIGITS_UNET, (32, 32), inference=64, training=32),
    "latents 8x8": UNetCase(_LATENTS, (8, 8), inference=32, training=16),
    "latents 32x32": UNetCase(_LATENTS, (32, 32), inference=4, training=4),
}
CONDITIONAL_CASES = {
    "words 8x8": UNetCase(
        UNetConfig(4, 4, (64, 128, 192), 1, cross_attention_dim=128), (8, 8), 8, 16, tokens=24
    ),
    "words 16x16": UNetCase(
        UNetConfig(4, 4, (64, 128, 256, 256), cross_attention_dim=256), (16, 16), 2, 4, tokens=77
    ),
    "words 32x32": UNetCase(
        UNetConfig(4, 4, (64, 128, 256, 256), cross_attention_dim=256), (32, 32), 1, 2, tokens=77
    ),
}
STEPS, GUIDANCE_SCALE = 30, 7.5


def unet(device: torch.device) -> Iterator[Pair]:
    """Our U-Net against diffusers' with the same weights: inference, a train step, and a train step
    as a whole run does it, with a moving average of the weights: ours as `course.training.fit`
    does it, with the fused optimizer, theirs as their users do, with `EMAModel`.
    """
    for name, case in UNET_CASES.items():
        yield from _pairs(name, case, device)


def conditional(device: torch.device) -> Iterator[Pair]:
    """The same for the conditional U-Net, and a guided trajectory of 30 DDIM steps: ours with what
    stays the same computed once (keys and values of the words, packed weights), theirs as their
    pipelines do it.
    """
    for name, case in CONDITIONAL_CASES.items():
        yield from _pairs(name, case, device)


def _pairs(name: str, case: UNetCase, device: torch.device) -> Iterator[Pair]:
    import diffusers
    from diffusers.training_utils import EMAModel

    config = case.config
    kind = diffusers.UNet2DConditionModel if case.tokens else diffusers.UNet2DModel
    ours, theirs = recipes.build(config).to(device), kind(**unet_options(config)).to(device)
    theirs.load_state_dict(ours.state_dict())
    draw = partial(_draw, torch.Generator().manual_seed(0), device)

    def inputs(batch: int) -> list[Tensor]:
        words = [draw(batch, case.tokens, config.cross_attention_dim)] if case.tokens else []
        t = torch.arange(batch, device=device) * 37 % 1000
        return [draw(batch, config.in_channels, *case.size), t, *words]

    given = inputs(case.inference)
    yield Pair(
        name,
        f"inference, batch {case.inference}",
        inference(ours, lambda: ours(*given)),
        inference(theirs, lambda: theirs(*given).sample),
    )
    trained = inputs(case.training)
    noise = draw(case.training, config.out_channels, *case.size)
    yield Pair(
        name,
        f"train step, batch {case.training}",
        train_step(ours, lambda: ours(*trained), noise),
        train_step(theirs, lambda: theirs(*trained).sample, noise),
    )
    theirs.load_state_dict(ours.state_dict())
    average = EMAModel(theirs.parameters(), decay=0.999)
    yield Pair(
        name,
        f"with average, batch {case.training}",
        train_step(ours, lambda: ours(*trained), noise, fused=True, after=averaging(ours)),
        train_step(
            theirs,
            lambda: theirs(*trained).sample,
            noise,
            after=lambda: average.step(theirs.parameters()),
        ),
    )
    if case.tokens:
        theirs.load_state_dict(ours.state_dict())
        xT, _, words = given
        null = draw(*words.shape)
        yield Pair(
            name,
            f"{STEPS} steps, batch {case.inference}",
            inference(ours, _trajectory(ours, xT, words, null)),
            inference(theirs, _their_trajectory(theirs, xT, words, null)),
        )


def _draw(generator: torch.Generator, device: torch.device, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator).to(device)


def _trajectory(model: nn.Module, xT: Tensor, words: Tensor, null: Tensor) -> Callable[[], Tensor]:
    """Stable Diffusion's schedule and steps: multiples of T // steps, and one more."""
    steps = schedule.scaled_linear()
    steps = schedule.scaled_linear(final_alpha_bar=steps.alpha_bar[0].item())
    kept = steps.respace([i * (len(steps) // STEPS) + 1 for i in range(STEPS)])

    def run() -> Tensor:
        with packed_weights(model):
            return ddim(classifier_free(model, words, null, GUIDANCE_SCALE), xT, kept)

    return run


def _their_trajectory(
    model: nn.Module, xT: Tensor, words: Tensor, null: Tensor
) -> Callable[[], Tensor]:
    """The loop of `diffusers.StableDiffusionPipeline`."""
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )

    def run() -> Tensor:
        scheduler.set_timesteps(STEPS, device=xT.device)
        both, x = torch.cat([null, words]), xT
        for t in scheduler.timesteps:
            eps_pred = model(torch.cat([x, x]), t, encoder_hidden_states=both).sample
            without, told = eps_pred.chunk(2)
            x = scheduler.step(without + GUIDANCE_SCALE * (told - without), t, x).prev_sample
        return x

    return run
