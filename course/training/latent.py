"""Latent diffusion on captioned scenes: what is learned, and what is measured."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from course.data.scenes.captions import caption
from course.data.scenes.dataset import DESCRIBE_BITS, WRITE_BITS, CaptionedScenes
from course.data.scenes.layout import draw
from course.data.scenes.render import render
from course.data.scenes.world import MOST_THINGS, Scene
from course.diffusion.process import q_sample, velocity
from course.diffusion.schedule import Schedule
from course.metrics.captions import CELLS
from course.models.autoencoder_kl import AutoencoderKL
from course.models.latent_diffusion import LatentDiffusion
from course.models.pixels import Pixels
from course.pipeline import published
from course.pipeline.score import score
from course.training import recipes
from course.training.contrastive import tokens_of
from course.training.updates import Halves

# Latents that are computed before the training: a GPU has time for more.
CACHED = {"cpu": 2**16, "cuda": 2**18}
BATCH, SHIFT = 500, 3.0
STEPS, GUIDANCE_SCALE = 30, 3.0


def caption_objective(
    latents: Float[Tensor, "N C H W"],
    scenes: Sequence[Scene],
    noise_schedule: Schedule,
    drop: float = 0.1,
    shift: float | int = 1.0,
) -> Halves:
    """Mean squared error of v, told a caption that is drawn anew each time.

    v weighs x_0 where there is much noise and layout is decided, and the noise where there is
    little; the noise alone would hardly weigh the former (Salimans & Ho 2022, section 4).

    Args:
        latents: of the scenes, as the U-Net sees them, on the CPU.
        scenes: what is in them.
        noise_schedule: of T steps.
        drop: share of the samples that are told nothing, for classifier-free guidance.
        shift: of the times, see `shifted`: above 1 there is more noise, where layout is decided.

    Raises:
        ValueError: numbers of latents and scenes differ, `drop` is not inside 0..1, or `shift` is
            not above 0.
    """
    if len(latents) != len(scenes):
        raise ValueError(f"scenes: expected {len(latents)}, one a latent, came {len(scenes)}")
    if not 0 <= drop <= 1:
        raise ValueError(f"drop: expected a share from 0 to 1, came {drop}")
    steps = len(noise_schedule)
    shifted(0.0, shift)  # raises, if it must, before the training

    def batch(streams: Sequence[np.random.Generator]) -> tuple[Tensor, ...]:
        rows = [int(s.integers(len(scenes))) for s in streams]
        t = [int(steps * shifted(s.random(), shift)) for s in streams]
        noise = np.stack([s.standard_normal(latents.shape[1:], np.float32) for s in streams])
        said = []
        for row, s in zip(rows, streams, strict=True):
            bits = s.integers(2**62, size=DESCRIBE_BITS + WRITE_BITS).tolist()
            said.append("" if s.random() < drop else caption(scenes[row], bits))
        x0, times, noise = latents[rows], torch.tensor(t), torch.from_numpy(noise)
        xt = q_sample(x0, times, noise, noise_schedule)
        return xt, times, tokens_of(said), velocity(x0, times, noise, noise_schedule)

    def loss(
        model: Callable[..., Tensor], xt: Tensor, t: Tensor, tokens: Tensor, wanted: Tensor
    ) -> Tensor:
        return (model(xt, t, tokens).float() - wanted).square().mean()

    return Halves(batch, loss)


def shifted(u: float, shift: float | int) -> float:
    """A time from 0 to 1, with u / (1 - u) multiplied by `shift`.

    Raises:
        ValueError: `shift` is not above 0.

    Source: Esser et al. 2024 (Stable Diffusion 3), equation 23, where it is 3.
    """
    if not 0 < shift < math.inf:
        raise ValueError(f"shift: expected a number above 0, came {shift}")
    return shift * u / (1 + (shift - 1) * u)


def scenes_objective(
    name: str, device: torch.device, shift: float | int = SHIFT, things: int = MOST_THINGS
) -> Halves:
    """What a recipe of `PIPELINES` learns, on latents of its autoencoder, computed once.

    Args:
        name: of the recipe.
        device: that computes the latents.
        shift: see `caption_objective`.
        things: the most that there are in a scene.
    """
    scenes = [
        scene
        for scene in draw(0, range(CACHED[device.type]), "train")
        if len(scene.things) <= things
    ]
    autoencoder, size = published.autoencoder_of(name), published.PIPELINES[name][1].sample_size
    latents = encoded(autoencoder.to(device), scenes, size, device)
    return caption_objective(latents, scenes, published.latent_schedule(), shift=shift)


@torch.no_grad()
def encoded(
    autoencoder: AutoencoderKL | Pixels,
    scenes: Sequence[Scene],
    size: int = 32,
    device: torch.device | str = "cpu",
) -> Float[Tensor, "N C H W"]:
    """Latents of scenes as a U-Net sees them, on the CPU: the means, with nothing unknowable.

    Args:
        autoencoder: with its scale factor.
        scenes: one or more.
        size: to render them in, in pixels.
        device: where the autoencoder is.
    """
    chunks = (scenes[k : k + BATCH] for k in range(0, len(scenes), BATCH))
    found = [autoencoder.to_latents(render(chunk, size).to(device)).cpu() for chunk in chunks]
    return torch.cat(found)


def begin_joint(model: LatentDiffusion) -> None:
    """Let the text encoder begin as that of `scenes-clip`; it is trained along."""
    model.text_model.load_state_dict(recipes.load("scenes-clip").text_model.state_dict())


def begin(model: LatentDiffusion) -> None:
    """Take the text encoder of `scenes-clip`, frozen: it knows who is red and who is above."""
    begin_joint(model)
    model.text_model.requires_grad_(False)


def go_on(model: LatentDiffusion) -> None:
    """Begin with the U-Net of `scenes-ldm-joint`, and the text encoder as `begin`."""
    model.unet.load_state_dict(recipes.load("scenes-ldm-joint").unet.state_dict())
    begin(model)


def begin_frozen(model: LatentDiffusion) -> None:
    """Begin as `scenes-ldm-frozen`, whose U-Net hears order; its text encoder is trained along."""
    model.load_state_dict(recipes.load("scenes-ldm-frozen").state_dict())


def draw_captions(
    model: LatentDiffusion, count: int = 36, name: str = "scenes-ldm"
) -> Float[Tensor, "N 3 H W"]:
    """Pictures of the first captions of unseen scenes, by the pipeline of a recipe."""
    examples = CaptionedScenes(count, "test", seed=1).examples(range(count))
    pipeline = published.assemble(name, model)
    return pipeline([e.caption for e in examples], steps=STEPS, progress=False).images.cpu()


def measure_latent(
    model: LatentDiffusion,
    each: int = 333,
    name: str = "scenes-ldm",
    cells: Sequence[tuple[str, int]] = CELLS,
) -> dict[str, Any]:
    """How often pictures show what captions say, by split and number of things."""
    sampler = f"DDIM, {STEPS} steps, eta 0, guidance scale {GUIDANCE_SCALE}"
    options = {"steps": STEPS, "guidance_scale": GUIDANCE_SCALE, "cells": cells}
    return {"sampler": sampler} | score(published.assemble(name, model), each, **options)
