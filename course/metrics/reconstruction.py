"""How far a reconstruction is from its picture: in pixels, and as a network sees it."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from course.models.clip import CLIPVisionModel


def psnr(images: Float[Tensor, "B C H W"], others: Float[Tensor, "B C H W"]) -> Float[Tensor, " B"]:
    """Peak signal-to-noise ratio of each pair of pictures, in dB; the peak is 1 on [0, 1].

    Args:
        images: in [-1, 1]; what is outside is cut off, as when it is shown.
        others: likewise; equal pictures have infinity.

    Raises:
        ValueError: shapes differ.
    """
    _same_shape(images, others)
    # Numbers from -1 to 1 are twice as far apart as those from 0 to 1.
    error = (images.clamp(-1, 1) - others.clamp(-1, 1)).div(2).square().flatten(1).mean(1)
    return -10 * error.log10()


def perceptual_distance(
    vision: CLIPVisionModel,
    images: Float[Tensor, "B C H W"],
    others: Float[Tensor, "B C H W"],
) -> Float[Tensor, " B"]:
    """How differently a network sees two pictures, from 0 to 4.

    After each level of its convolutions the features of each place are scaled to length 1; squared
    distances are averaged over places, then over levels.

    Args:
        vision: in eval mode; only its convolutions are used, so that any size will do that they
            can halve.
        images: in [-1, 1].
        others: likewise.

    Raises:
        ValueError: shapes differ, or the network is in train mode.

    Source: Zhang et al. 2018, equation 1, with all channels weighed alike, and levels averaged.
    """
    _same_shape(images, others)
    # In train mode its batch normalisation would compare pictures with their batch.
    if vision.training:
        raise ValueError("vision: expected a network in eval mode, came one in train mode")
    x, distances = torch.cat([images, others]), []
    for layer in vision.stem:
        x = layer(x)
        if isinstance(layer, nn.SiLU):
            a, b = F.normalize(x, dim=1).chunk(2)
            distances.append((a - b).square().sum(1).mean((1, 2)))
    return torch.stack(distances).mean(0)


def _same_shape(images: Tensor, others: Tensor) -> None:
    if images.shape != others.shape:
        raise ValueError(
            f"others: expected the shape of images {tuple(images.shape)}, "
            f"came {tuple(others.shape)}"
        )
