"""What a classifier says about many pictures, in batches; it must be in eval mode."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from course.models.classifier import Classifier


def features(
    classifier: Classifier, images: Float[Tensor, "N C H W"], batch_size: int = 256
) -> Float[Tensor, "N F"]:
    """Features of pictures in [-1, 1].

    Raises:
        ValueError: the classifier is in train mode, or there is no picture.
    """
    return _batched(classifier, classifier.features, images, batch_size)


def probabilities(
    classifier: Classifier, images: Float[Tensor, "N C H W"], batch_size: int = 256
) -> Float[Tensor, "N K"]:
    """Probability of each class for pictures in [-1, 1].

    Raises:
        ValueError: the classifier is in train mode, or there is no picture.
    """
    return _batched(classifier, classifier, images, batch_size).softmax(1)


@torch.no_grad()
def _batched(
    classifier: Classifier, function: Callable[[Tensor], Tensor], images: Tensor, batch_size: int
) -> Tensor:
    # A well-known wrong FID: batch statistics or dropout at work while features are taken.
    if any(module.training for module in classifier.modules()):
        raise ValueError("classifier: expected one in eval mode, came one in train mode")
    if not len(images):
        raise ValueError("images: expected at least one picture, came none")
    return torch.cat([function(batch) for batch in images.split(batch_size)])
