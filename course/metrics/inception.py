"""Inception Score: sure of each picture, unsure of all together."""

import torch
from jaxtyping import Float
from torch import Tensor


def inception_score(probabilities: Float[Tensor, "N K"]) -> float:
    """exp of the mean KL divergence between p(y | x) and p(y), the mean of p(y | x) over pictures.

    From 1 (all pictures get the same probabilities) to K (each is sure, all classes are as
    frequent). It never looks at real pictures: one perfect picture per class scores K.

    Args:
        probabilities: of K classes, a row per generated picture; rows sum to 1.

    Raises:
        ValueError: it is not a table of that kind.

    Source: Salimans et al. 2016, section 4; lecture 001, lines 586-605, where p(y) is an integral
    of p(y | x) without p_g(x).
    """
    if probabilities.ndim != 2 or not probabilities.numel():
        raise ValueError(f"probabilities: expected shape (N, K), came {tuple(probabilities.shape)}")
    p = probabilities.double()
    # NaN fails the comparison.
    if not (p >= 0).all() or not ((p.sum(1) - 1).abs() < 1e-4).all():
        raise ValueError("probabilities: expected rows of numbers from 0 on, of sum 1")
    # xlogy(0, 0) = 0.
    kl = (torch.xlogy(p, p) - torch.xlogy(p, p.mean(0))).sum(1)
    return kl.mean().exp().item()
