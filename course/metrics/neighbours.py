"""Nearest neighbours: how far, and whether one set lies where the other does."""

import torch
from jaxtyping import Float
from torch import Tensor


def nearest_distance(
    a: Float[Tensor, "N *shape"], b: Float[Tensor, "M *shape"]
) -> Float[Tensor, " N"]:
    """Euclidean distance of each of `a` to the nearest of `b`.

    A generator that copies draws pictures nearer to its training set than new real ones are.

    Args:
        a: pictures or features.
        b: of the same shape each.

    Raises:
        ValueError: a set is empty, or shapes do not agree.
    """
    _check("a", a, "b", b)
    return torch.cat([torch.cdist(part, b.flatten(1)).amin(1) for part in a.flatten(1).split(1024)])


def precision_recall(
    real: Float[Tensor, "N F"], generated: Float[Tensor, "M F"], k: int = 3
) -> tuple[float, float]:
    """Shares of generated points where the real are dense, and of real where the generated are.

    Each point of a set claims a ball that reaches its k-th nearest other one. Precision is the
    share of generated points inside a real one's ball, recall the share of real points inside a
    generated one's.

    Args:
        real: features of real pictures, more than k.
        generated: features of generated ones, more than k.
        k: which neighbour.

    Returns:
        precision and recall, 0..1.

    Raises:
        ValueError: k is below 1 or a set has no more than k points; shapes do not agree.

    Source: Kynkaanniemi et al. 2019, equations 1 and 2.
    """
    _check("real", real, "generated", generated)
    for name, value in (("real", real), ("generated", generated)):
        if not 1 <= k < len(value):
            raise ValueError(f"k: expected 1..{len(value) - 1} for the size of {name}, came {k}")
    return _covered(generated, real, k), _covered(real, generated, k)


def _covered(points: Tensor, centres: Tensor, k: int) -> float:
    # The nearest of all is the centre itself.
    radius = torch.cdist(centres, centres).kthvalue(k + 1, dim=1).values
    return (torch.cdist(points, centres) <= radius).any(1).double().mean().item()


def _check(name_a: str, a: Tensor, name_b: str, b: Tensor) -> None:
    for name, value in ((name_a, a), (name_b, b)):
        if value.ndim < 2 or not len(value):
            raise ValueError(
                f"{name}: expected at least one row of numbers, came {tuple(value.shape)}"
            )
    if a.shape[1:] != b.shape[1:]:
        raise ValueError(
            f"{name_b}: expected rows of shape {tuple(a.shape[1:])} as {name_a} has, "
            f"came {tuple(b.shape[1:])}"
        )
