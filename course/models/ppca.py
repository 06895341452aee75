"""Probabilistic PCA: the linear VAE, solved.

x = W z + mean + noise with z ~ N(0, I) and noise ~ N(0, variance * I), so x ~ N(mean, W W' +
variance * I): log p(x) and the posterior are closed forms, and so is the best W.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class PPCA:
    """A fitted model, all tensors float64.

    Attributes:
        mean: `(D,)`.
        weight: W, `(D, K)`, its columns orthogonal and longest first.
        variance: noise variance, the lecture's c.

    Source: Tipping & Bishop 1999.
    """

    mean: Float[Tensor, " D"]
    weight: Float[Tensor, "D K"]
    variance: float

    @classmethod
    def fit(cls, x: Float[Tensor, "N D"], latent_dim: int, variance: float | None = None) -> "PPCA":
        """Maximum likelihood: W = U_K (Lambda_K - variance I)_+^(1/2).

        A latent dimension whose eigenvalue is below the variance gets a zero column: it is better
        left unused, which is what posterior collapse is in the linear case (Lucas et al. 2019).

        Args:
            x: data, N of at least 2.
            latent_dim: K, from 1 to D - 1 (to D if the variance is given).
            variance: noise variance if it is fixed; None estimates it as the mean of the
                eigenvalues left out (Tipping & Bishop 1999, eq. 8).

        Raises:
            ValueError: if an argument is out of range.
        """
        if x.ndim != 2 or len(x) < 2:
            raise ValueError(f"x: expected shape (N, D) with N of at least 2, got {tuple(x.shape)}")
        largest = x.shape[1] - (variance is None)
        if not 1 <= latent_dim <= largest:
            raise ValueError(f"latent_dim: expected 1 to {largest}, got {latent_dim}")
        if variance is not None and not variance > 0:
            raise ValueError(f"variance: expected a number above 0, got {variance}")
        x = x.to(torch.float64)
        mean = x.mean(0)
        eigenvalues, vectors = spectrum(x)
        if variance is None:
            variance = eigenvalues[latent_dim:].mean().item()
        lengths = (eigenvalues[:latent_dim] - variance).clamp(min=0).sqrt()
        return cls(mean, vectors[:, :latent_dim] * lengths, variance)

    def log_prob(self, x: Float[Tensor, "N D"]) -> Float[Tensor, " N"]:
        """Exact log p(x) in nats."""
        dimensions = len(self.mean)
        identity = torch.eye(dimensions, dtype=torch.float64)
        covariance = self.weight @ self.weight.T + self.variance * identity
        cholesky = torch.linalg.cholesky(covariance)
        centred = (x.to(torch.float64) - self.mean).T
        white = torch.linalg.solve_triangular(cholesky, centred, upper=False)
        log_det = 2 * cholesky.diagonal().log().sum()
        return -0.5 * (white.square().sum(0) + log_det + dimensions * math.log(2 * math.pi))

    def posterior(self, x: Float[Tensor, "N D"]) -> tuple[Tensor, Tensor]:
        """Exact p(z|x) = N(mean, covariance): means `(N, K)` and the covariance `(K, K)` all share.

        Source: Tipping & Bishop 1999, eq. 6.
        """
        latent_dim = self.weight.shape[1]
        identity = torch.eye(latent_dim, dtype=torch.float64)
        precision = identity + self.weight.T @ self.weight / self.variance
        covariance = torch.linalg.inv(precision)
        centred = x.to(torch.float64) - self.mean
        return centred @ self.weight @ covariance / self.variance, covariance


def spectrum(x: Float[Tensor, "N D"]) -> tuple[Float[Tensor, " D"], Float[Tensor, "D D"]]:
    """Eigenvalues, largest first, and eigenvectors (columns) of the covariance of x, divisor N."""
    centred = x.to(torch.float64) - x.to(torch.float64).mean(0)
    eigenvalues, vectors = torch.linalg.eigh(centred.T @ centred / len(x))
    return eigenvalues.flip(0), vectors.flip(1)
