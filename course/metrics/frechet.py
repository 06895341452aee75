"""Frechet distance between Gaussians fitted to features: FID, with any network's features."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


def frechet_distance(
    mean_a: Float[Tensor, " F"],
    cov_a: Float[Tensor, "F F"],
    mean_b: Float[Tensor, " F"],
    cov_b: Float[Tensor, "F F"],
) -> float:
    """|mean_a - mean_b|^2 + Tr(cov_a + cov_b - 2 (cov_a cov_b)^{1/2}), in float64.

    The root is of the matrix, not of its elements. Its trace is the sum of the roots of the
    eigenvalues of cov_a cov_b, which are those of the symmetric A cov_b A with A = cov_a^{1/2}.

    Args:
        mean_a: of one distribution.
        cov_a: symmetric, positive semi-definite.
        mean_b: of the other.
        cov_b: symmetric, positive semi-definite.

    Raises:
        ValueError: shapes do not agree, a number is not finite, or a covariance is not as above.

    Source: Heusel et al. 2017, equation 6; lecture 001, line 619.
    """
    (f,) = mean_a.shape if mean_a.ndim == 1 else (-1,)
    for name, value, shape in (
        ("mean_a", mean_a, (f,)),
        ("mean_b", mean_b, (f,)),
        ("cov_a", cov_a, (f, f)),
        ("cov_b", cov_b, (f, f)),
    ):
        if f < 1 or tuple(value.shape) != shape:
            wanted = "(F,)" if f < 1 else shape
            raise ValueError(f"{name}: expected shape {wanted}, came {tuple(value.shape)}")
        if not value.isfinite().all():
            raise ValueError(f"{name}: expected finite numbers, came NaN or infinity")
    root_a = _root("cov_a", cov_a.double())
    _root("cov_b", cov_b.double())
    both = torch.linalg.eigvalsh(root_a @ cov_b.double() @ root_a).clamp(min=0)
    shift = (mean_a.double() - mean_b.double()).square().sum()
    trace = cov_a.double().trace() + cov_b.double().trace() - 2 * both.sqrt().sum()
    return (shift + trace).item()


def fid(features_a: Float[Tensor, "N F"], features_b: Float[Tensor, "M F"]) -> float:
    """Frechet distance between the Gaussians that have the mean and covariance of each set.

    It is biased: two sets of the same distribution are at a distance above 0 that falls about as
    one over their size, so that only distances of the same N and M compare.

    Args:
        features_a: of one set of pictures, more of them than F for a covariance of full rank.
        features_b: of the other.

    Raises:
        ValueError: fewer than two pictures, or shapes do not agree.

    Source: Heusel et al. 2017; Binkowski et al. 2018, appendix D, on the bias.
    """
    _check_sets(features_a, features_b)
    return frechet_distance(*_moments(features_a), *_moments(features_b))


def fid_interval(
    features_a: Float[Tensor, "N F"],
    features_b: Float[Tensor, "M F"],
    *,
    rounds: int = 100,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Bootstrap interval of `fid`: how much it would vary with other samples of the same sizes.

    Drawing with replacement adds to the bias of FID. So the spread of the bootstrap's values about
    their own mean is laid around the value measured. The interval is one of FID at these sizes,
    bias included, not of the distance between the distributions.

    Args:
        features_a: of one set of pictures.
        features_b: of the other.
        rounds: resamplings, at least 2.
        level: probability that the interval covers, inside (0, 1).
        seed: of the resampling.

    Returns:
        lower and upper end.

    Raises:
        ValueError: an argument is not as above.
    """
    _check_sets(features_a, features_b)
    return bootstrap(fid, (features_a, features_b), rounds=rounds, level=level, seed=seed)


def bootstrap(
    statistic: Callable[..., float],
    sets: tuple[Float[Tensor, "_ *shape"], ...],
    *,
    rounds: int = 100,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Interval of a statistic of samples, by drawing each set anew from itself, re-centred.

    Args:
        statistic: of the sets.
        sets: of samples, along the first axis.
        rounds: resamplings, at least 2.
        level: probability that the interval covers, inside (0, 1).
        seed: of the resampling.

    Raises:
        ValueError: `rounds` or `level` is out of range.

    Source: Efron & Tibshirani 1993, section 10, on the bias of the bootstrap.
    """
    if rounds < 2:
        raise ValueError(f"rounds: expected at least 2, came {rounds}")
    if not 0 < level < 1:
        raise ValueError(f"level: expected a number inside (0, 1), came {level}")
    generator = torch.Generator().manual_seed(seed)
    values = []
    for _ in range(rounds):
        drawn = [s[torch.randint(len(s), (len(s),), generator=generator)] for s in sets]
        values.append(statistic(*drawn))
    spread = np.quantile(values, [(1 - level) / 2, (1 + level) / 2]) - np.mean(values)
    low, high = statistic(*sets) + spread
    return float(low), float(high)


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    features = features.double()
    return features.mean(0), features.T.cov().reshape(features.shape[1], features.shape[1])


def _root(name: str, matrix: Tensor) -> Tensor:
    scale = matrix.abs().max().item()
    if not torch.allclose(matrix, matrix.T, rtol=0, atol=1e-6 * scale):
        raise ValueError(f"{name}: expected a symmetric matrix")
    values, vectors = torch.linalg.eigh(matrix)
    if values[0] < -1e-6 * scale:
        raise ValueError(f"{name}: expected no negative eigenvalue, came {values[0].item():.3g}")
    return vectors * values.clamp(min=0).sqrt() @ vectors.T


def _check_sets(features_a: Tensor, features_b: Tensor) -> None:
    for name, value in (("features_a", features_a), ("features_b", features_b)):
        if value.ndim != 2 or len(value) < 2:
            raise ValueError(
                f"{name}: expected shape (N, F) with N at least 2, came {tuple(value.shape)}"
            )
    if features_a.shape[1] != features_b.shape[1]:
        raise ValueError(
            f"features_b: expected {features_a.shape[1]} features as features_a has, "
            f"came {features_b.shape[1]}"
        )
