"""A picture that is there already: the start of a trajectory, or a part of each of its steps."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from course.diffusion.process import q_sample
from course.diffusion.schedule import Schedule


@dataclass(frozen=True, eq=False)
class Known:
    """Latents of pictures that are there already, and where they are to be drawn anew.

    Attributes:
        latents: scaled, without noise.
        noise: that is added to them, the same at all levels.
        schedule: whole.
        anew: True where a place is drawn anew; None for everywhere.
    """

    latents: Float[Tensor, "B Z h w"]
    noise: Float[Tensor, "B Z h w"]
    schedule: Schedule
    anew: Bool[Tensor, "_ 1 h w"] | None = None

    def noised(self, t: Int64[Tensor, " B"]) -> Float[Tensor, "B Z h w"]:
        """The latents at step t."""
        return q_sample(self.latents, t, self.noise, self.schedule)

    def put_back(
        self, x: Float[Tensor, "B Z h w"], t: Int64[Tensor, " B"] | None = None
    ) -> Float[Tensor, "B Z h w"]:
        """`x` with what is not drawn anew replaced, noised to step t, or clean if it is None."""
        if self.anew is None:
            return x
        return x.where(self.anew, self.latents if t is None else self.noised(t))


def encode(
    autoencoder: nn.Module,
    image: Float[Tensor, "N C H W"],
    mask: Bool[Tensor, "M H W"] | None,
    noise: Float[Tensor, "B Z h w"],
    schedule: Schedule,
) -> Known:
    """What a trajectory of B pictures needs of pictures in [-1, 1], one for all or one each.

    Raises:
        ValueError: there is another number of pictures or masks, or a mask of another kind.
    """
    count = len(noise)
    if len(image) not in (1, count):
        raise ValueError(f"image: expected 1 or {count} of them, came {len(image)}")
    anew = None
    if mask is not None:
        sides = tuple(image.shape[2:])
        fits = mask.ndim == 3 and len(mask) in (1, count) and tuple(mask.shape[1:]) == sides
        if mask.dtype != torch.bool or not fits:
            raise ValueError(
                f"mask: expected bool of shape (1 or {count}, {sides[0]}, {sides[1]}), "
                f"came {mask.dtype} {tuple(mask.shape)}"
            )
        anew = F.max_pool2d(mask[:, None].float(), autoencoder.f).bool().to(noise.device)
    latents = autoencoder.to_latents(image.to(noise)).expand_as(noise)
    return Known(latents, noise, schedule, anew)


def steps_taken(steps: int, strength: float | int) -> int:
    """How many of a sampler's steps, the last ones, image to image takes.

    Raises:
        ValueError: `strength` is outside (0, 1].

    Source: diffusers' `StableDiffusionImg2ImgPipeline`, which takes none where ours takes one.
    """
    if not 0 < strength <= 1:
        raise ValueError(f"strength: expected a number in (0, 1], came {strength}")
    # 0.29 of 100 is 28.999999999999996 in floating point.
    return max(1, int(steps * strength + 1e-9))
