"""Distributions whose density is known exactly, so that a learned one can be measured."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor


@dataclass(frozen=True)
class Gamma:
    """The Gamma distribution f(x) = beta^alpha x^(alpha - 1) exp(-beta x) / Gamma(alpha) on x > 0.

    Args:
        alpha: shape, above 0.
        beta: rate, above 0: the reciprocal of the scale that SciPy and NumPy take.

    Raises:
        ValueError: a parameter is not a finite number above 0.

    Source: lecture 001, section 2, "Toy model: Gamma Distribution".
    """

    alpha: float | int
    beta: float | int

    def __post_init__(self) -> None:
        for name in ("alpha", "beta"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name}: expected a finite number above 0, came {value}")

    @property
    def mean(self) -> float:
        """alpha / beta."""
        return self.alpha / self.beta

    @property
    def variance(self) -> float:
        """alpha / beta^2."""
        return self.alpha / self.beta**2

    def log_prob(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Log density in nats, computed in float64; -inf outside x > 0."""
        _floats("x", x)
        support = (x > 0) & (x < math.inf)
        # NaN stays NaN; elsewhere a value inside keeps NaN out of the gradient.
        inside = x.double().where(support | x.isnan(), 1.0)
        log_norm = self.alpha * math.log(self.beta) - math.lgamma(self.alpha)
        log_prob = log_norm + (self.alpha - 1) * inside.log() - self.beta * inside
        return log_prob.where(support | x.isnan(), -math.inf).to(x.dtype)

    def pdf(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Density; 0 outside x > 0."""
        return self.log_prob(x).exp()

    def sample(
        self, n: int, generator: torch.Generator, dtype: torch.dtype | None = None
    ) -> Float[Tensor, " n"]:
        """Draw n numbers from two standard sources, normal and uniform, by rejection.

        A draw too small for `dtype`, likely only where alpha is far below 1, becomes the smallest
        normal number, because the density has no mass at 0.

        Args:
            n: how many, above 0.
            generator: the only source of randomness; draws are made on its device.
            dtype: of the result; torch's default one if None.

        Raises:
            ValueError: n is not above 0.

        Source: Marsaglia & Tsang 2000, "A simple method for generating gamma variables".
        """
        _count(n)
        # A shape below 1 is lifted by 1, then brought back by a power of a uniform number.
        lift = 1 if self.alpha < 1 else 0
        d = self.alpha + lift - 1 / 3
        c = 1 / math.sqrt(9 * d)
        accepted = torch.empty(0, dtype=torch.float64, device=generator.device)
        while len(accepted) < n:
            # At least 95 % are accepted, at any shape from 1 on.
            wanted = n - len(accepted)
            normal = _normal((wanted,), generator)
            cube = (1 + c * normal) ** 3
            bound = normal.square() / 2 + d - d * cube + d * cube.clamp(min=0).log()
            keep = _uniform(wanted, generator).log() < bound
            accepted = torch.cat([accepted, d * cube[keep]])
        if lift:
            accepted *= _uniform(n, generator) ** (1 / self.alpha)
        dtype = dtype or torch.get_default_dtype()
        return (accepted / self.beta).to(dtype).clamp(min=torch.finfo(dtype).tiny)


class GaussianMixture:
    """A weighted sum of K Gaussians in D dimensions: p(x) = sum_k w_k N(x; m_k, S_k).

    Args:
        weights: positive, of sum 1 within 1e-6.
        means: a row per component.
        covariances: symmetric and positive definite.

    Raises:
        ValueError: shapes do not agree, or the numbers are not as above.
    """

    def __init__(
        self,
        weights: Float[Tensor, " K"],
        means: Float[Tensor, "K D"],
        covariances: Float[Tensor, "K D D"],
    ):
        for name, value in {
            "weights": weights,
            "means": means,
            "covariances": covariances,
        }.items():
            _floats(name, value)
            if not value.isfinite().all():
                raise ValueError(f"{name}: expected finite numbers, came {value}")
        if means.ndim != 2 or not means.numel():
            raise ValueError(f"means: expected shape (K, D), came {tuple(means.shape)}")
        k, d = means.shape
        for name, value, shape in (
            ("weights", weights, (k,)),
            ("covariances", covariances, (k, d, d)),
        ):
            if tuple(value.shape) != shape:
                raise ValueError(
                    f"{name}: expected shape {shape} to go with means of shape {(k, d)}, "
                    f"came {tuple(value.shape)}"
                )
        # Copies, so that a change of the arguments changes nothing here.
        self.means = means.to(torch.float64, copy=True)
        self.covariances = covariances.to(torch.float64, copy=True)
        total = float(weights.double().sum())
        if (weights <= 0).any() or abs(total - 1) > 1e-6:
            raise ValueError(
                f"weights: expected positive numbers of sum 1, came {weights.tolist()}, "
                f"of sum {total}"
            )
        self.weights = weights.double() / total
        self.cholesky = _cholesky(self.covariances)

    @property
    def mean(self) -> Float[Tensor, " D"]:
        """Mean of the whole mixture, float64: sum_k w_k m_k."""
        return self.weights @ self.means

    @property
    def covariance(self) -> Float[Tensor, "D D"]:
        """Covariance of the whole mixture, float64: within the components plus between them."""
        offsets = self.means - self.mean
        between = torch.einsum("k,ki,kj->ij", self.weights, offsets, offsets)
        return torch.einsum("k,kij->ij", self.weights, self.covariances) + between

    def log_prob(self, x: Float[Tensor, "N D"]) -> Float[Tensor, " N"]:
        """Log density in nats, computed in float64.

        Raises:
            ValueError: `x` is not floating point of shape (N, D).
        """
        _floats("x", x)
        d = self.means.shape[1]
        if x.ndim != 2 or x.shape[1] != d:
            raise ValueError(f"x: expected shape (N, {d}), came {tuple(x.shape)}")
        offsets = x.double() - self.means[:, None]  # (K, N, D)
        # S = L L^T, so that the squared Mahalanobis distance is the square of L^-1 (x - m).
        white = torch.linalg.solve_triangular(self.cholesky, offsets.mT, upper=False)  # (K, D, N)
        log_det = 2 * self.cholesky.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        constants = self.weights.log() - 0.5 * (log_det + d * math.log(2 * math.pi))
        return torch.logsumexp(constants[:, None] - 0.5 * white.square().sum(1), 0).to(x.dtype)

    def pdf(self, x: Float[Tensor, "N D"]) -> Float[Tensor, " N"]:
        """Density.

        Raises:
            ValueError: `x` is not floating point of shape (N, D).
        """
        return self.log_prob(x).exp()

    def sample(
        self, n: int, generator: torch.Generator, dtype: torch.dtype | None = None
    ) -> tuple[Float[Tensor, "n D"], Int64[Tensor, " n"]]:
        """Draw n points: first the component, then a point of it.

        Args:
            n: how many, above 0.
            generator: the only source of randomness, on the device of the parameters.
            dtype: of the points; torch's default one if None.

        Returns:
            points, and the component 0..K-1 that each came from.

        Raises:
            ValueError: n is not above 0.
        """
        _count(n)
        component = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        x = _normal((n, self.means.shape[1]), generator)
        # By component, because one factor for each point would be N x D x D numbers.
        for k, (mean, factor) in enumerate(zip(self.means, self.cholesky, strict=True)):
            chosen = component == k
            x[chosen] = mean + x[chosen] @ factor.T
        return x.to(dtype or torch.get_default_dtype()), component


def _cholesky(covariances: Float[Tensor, "K D D"]) -> Float[Tensor, "K D D"]:
    factors, info = torch.linalg.cholesky_ex(covariances)
    scale = covariances.abs().amax((1, 2))
    asymmetry = (covariances - covariances.mT).abs().amax((1, 2))
    for k, wrong in enumerate((asymmetry > 1e-6 * scale) | (info > 0)):
        if wrong:
            raise ValueError(
                "covariances: expected symmetric positive definite matrices, came "
                f"{covariances[k].tolist()} as number {k}"
            )
    return factors


def _floats(name: str, value: Tensor) -> None:
    if not value.is_floating_point():
        raise ValueError(f"{name}: expected floating point numbers, came {value.dtype}")


def _count(n: int) -> None:
    if n < 1:
        raise ValueError(f"n: expected at least 1, came {n}")


def _normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64, device=generator.device)


def _uniform(n: int, generator: torch.Generator) -> Tensor:
    return torch.rand(n, generator=generator, dtype=torch.float64, device=generator.device)
