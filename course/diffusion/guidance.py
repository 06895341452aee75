"""Guidance: sharpen what a denoiser draws towards its context."""

import torch
from torch import Tensor

from course.diffusion.sampling import Denoiser
from course.models.attention import Context


def classifier_free(
    model: Denoiser,
    context: Context | Tensor,
    null: Context | Tensor,
    guidance_scale: float | int,
) -> Denoiser:
    """A denoiser that steps from the prediction without the context past the one with it.

    Both are predicted in one call of the model, on twice the batch; keys and values of the contexts
    are computed once for all calls, so make it anew when the weights have changed.

    Args:
        model: predicts the noise: model(xt, t, context).
        context: what to draw, for the whole batch.
        null: what stands for no context, of the same shape.
        guidance_scale: s = 1 + w: 1 is the prediction with the context, 0 the one without.

    Raises:
        ValueError: the two contexts are not of one kind and shape.

    Source: Ho & Salimans 2022, equation 6, where w = s - 1; lecture 001, line 994.
    """
    both = Context.batch(null, context)

    def denoise(xt: Tensor, t: Tensor, context: None = None) -> Tensor:
        without, told = model(torch.cat([xt, xt]), torch.cat([t, t]), both).chunk(2)
        return without + guidance_scale * (told - without)

    return denoise
