"""The variational autoencoder: one objective, any encoder and decoder.

The bound and the networks are separate on purpose: the functions below never look inside a
network, so an MLP and a CNN train with the same lines (lecture 000, "architecture-independent").
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


def reparametrise(
    mu: Float[Tensor, "*batch D"],
    logvar: Float[Tensor, "*batch D"],
    noise: Float[Tensor, "*batch D"],
) -> Float[Tensor, "*batch D"]:
    """Turn standard normal noise into a draw of N(mu, exp(logvar)): z = mu + sigma * noise.

    Args:
        mu: means.
        logvar: logarithms of the variances (not of the standard deviations).
        noise: a draw of N(0, I).

    Source: lecture 004, "Reparametrization trick"; Kingma & Welling 2014, eq. 10.
    """
    _same_shape(mu=mu, logvar=logvar, noise=noise)
    return mu + torch.exp(0.5 * logvar) * noise


def kl_standard_normal(
    mu: Float[Tensor, "*batch D"], logvar: Float[Tensor, "*batch D"]
) -> Float[Tensor, "*batch"]:
    """KL divergence of N(mu, diag exp(logvar)) from N(0, I), in nats, one number per row.

    KL = 1/2 sum_j (mu_j^2 + sigma_j^2 - 1 - log sigma_j^2). Lecture 000 (line 185) prints it
    without the 1/2; with its beta = 1/2 the two agree.

    Source: lecture 001 section 2; Kingma & Welling 2014, appendix B.
    """
    _same_shape(mu=mu, logvar=logvar)
    return 0.5 * (mu.square() + logvar.exp() - 1 - logvar).sum(-1)


def normal_log_density(
    x: Float[Tensor, "*batch D"], mu: Float[Tensor, "*batch D"], logvar: Float[Tensor, "*batch D"]
) -> Float[Tensor, "*batch"]:
    """log N(x; mu, diag exp(logvar)), in nats, summed over the last axis."""
    _same_shape(x=x, mu=mu, logvar=logvar)
    squares = (x - mu).square() * torch.exp(-logvar)
    return -0.5 * (squares + logvar + math.log(2 * math.pi)).sum(-1)


def gaussian_log_likelihood(
    x: Float[Tensor, "B *shape"], x_mean: Float[Tensor, "B *shape"], variance: float
) -> Float[Tensor, " B"]:
    """log N(x; x_mean, variance * I), in nats, summed over everything but the batch.

    Args:
        x: data.
        x_mean: the decoder's output f(z).
        variance: the lecture's c, one number above 0 for all dimensions. The constant is
            (2 pi c)^(-D/2) for D dimensions; lecture 001 line 124 prints the one for D = 1.

    Raises:
        ValueError: if the shapes differ or variance is not above 0.
    """
    _same_shape(x=x, x_mean=x_mean)
    if not variance > 0:
        raise ValueError(f"variance: expected a number above 0, got {variance}")
    squares = (x - x_mean).square().flatten(1).sum(1)
    dimensions = x[0].numel()
    return -squares / (2 * variance) - 0.5 * dimensions * math.log(2 * math.pi * variance)


def elbo(
    x: Float[Tensor, "B *shape"],
    x_mean: Float[Tensor, "B *shape"],
    mu: Float[Tensor, "B D"],
    logvar: Float[Tensor, "B D"],
    variance: float,
    beta: float = 1.0,
) -> Float[Tensor, " B"]:
    """Evidence lower bound of log p(x) from one draw of z, in nats, one number per row.

    ELBO = log p(x|z) - beta KL(q(z|x) || p(z)) with z ~ q(z|x), p(z) = N(0, I) and
    p(x|z) = N(x_mean, variance * I). A bound on log p(x) for beta >= 1; the ELBO for beta = 1.

    Source: lecture 001 section 2; lecture 004, eq. 11 and 14 (beta-VAE).
    """
    if not beta >= 0:
        raise ValueError(f"beta: expected a number of at least 0, got {beta}")
    reconstruction = gaussian_log_likelihood(x, x_mean, variance)
    return reconstruction - beta * kl_standard_normal(mu, logvar)


def importance_log_likelihood(
    vae: "VAE",
    x: Float[Tensor, "B *shape"],
    variance: float,
    samples: int,
    generator: torch.Generator,
) -> Float[Tensor, " B"]:
    """Importance-sampled estimate of log p(x), in nats, one number per row.

    log 1/K sum_k p(x|z_k) p(z_k) / q(z_k|x) with z_k ~ q(z|x): one sample gives the ELBO on
    average, more samples a tighter lower bound, infinitely many log p(x).

    Args:
        vae: encoder and decoder.
        x: data.
        variance: variance of the decoder, as in `elbo`.
        samples: K, at least 1.
        generator: source of the noise.

    Source: Burda, Grosse & Salakhutdinov 2016, eq. 8.
    """
    if samples < 1:
        raise ValueError(f"samples: expected at least 1, got {samples}")
    mu, logvar = vae.encode(x)
    log_weights = []
    for _ in range(samples):
        noise = torch.randn(mu.shape, generator=generator, dtype=mu.dtype, device=generator.device)
        z = reparametrise(mu, logvar, noise.to(mu.device))
        zero = torch.zeros_like(z)
        log_weights.append(
            gaussian_log_likelihood(x, vae.decode(z), variance)
            + normal_log_density(z, zero, zero)
            - normal_log_density(z, mu, logvar)
        )
    return log_mean_exp(torch.stack(log_weights))


def log_mean_exp(log_weights: Float[Tensor, "K *batch"]) -> Float[Tensor, "*batch"]:
    """log of the mean of exp(log_weights) over the first axis, without leaving log space.

    exp(-500) is 0 in float32; subtracting the largest term first, as logsumexp does, keeps it.
    """
    return torch.logsumexp(log_weights, dim=0) - math.log(len(log_weights))


def active_dimensions(mu: Float[Tensor, "N D"], threshold: float = 0.01) -> Bool[Tensor, " D"]:
    """Which latent dimensions carry information: variance of the posterior mean over the data above
    the threshold.

    Args:
        mu: posterior means of N data points.
        threshold: variance below which a dimension counts as collapsed.

    Source: Burda, Grosse & Salakhutdinov 2016, section 5.2.
    """
    if mu.ndim != 2 or len(mu) < 2:
        raise ValueError(f"mu: expected shape (N, D) with N of at least 2, got {tuple(mu.shape)}")
    return mu.var(0) > threshold


class VAE(nn.Module):
    """A variational autoencoder from two networks.

    Args:
        encoder: maps x `(B, *shape)` to `(B, 2 * latent_dim)`: means, then log-variances.
        decoder: maps z `(B, latent_dim)` to the mean of p(x|z), `(B, *shape)`.

    Source: lecture 001 section 2; lecture 000, eq. 1-3.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def encode(self, x: Float[Tensor, "B *shape"]) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z|x), each `(B, latent_dim)`."""
        mu, logvar = self.encoder(x).chunk(2, dim=1)
        return mu, logvar

    def decode(self, z: Float[Tensor, "B D"]) -> Tensor:
        """Mean of p(x|z), `(B, *shape)`."""
        return self.decoder(z)

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Encode, draw z with the given noise `(B, latent_dim)`, decode.

        Returns:
            x_mean `(B, *shape)`, mu, logvar and z, each `(B, latent_dim)`.
        """
        mu, logvar = self.encode(x)
        z = reparametrise(mu, logvar, noise)
        return self.decode(z), mu, logvar, z


def mlp_vae(data_shape: tuple[int, ...], latent_dim: int, n1: int = 512, n2: int = 256) -> VAE:
    """The lecture's VAE of fully connected layers, for data of any shape.

    The output layer is linear: a ReLU there (001 line 175) cannot be negative and gives no gradient
    to a pixel that is dark.

    Args:
        data_shape: shape of one data point, for example `(1, 28, 28)`.
        latent_dim: dimension of z.
        n1, n2: widths of the outer and the inner hidden layer.

    Source: lecture 001 section 2 (fc1 ... fc6).
    """
    data_dim = math.prod(data_shape)
    encoder = nn.Sequential(
        nn.Flatten(),
        nn.Linear(data_dim, n1),
        nn.ReLU(),
        nn.Linear(n1, n2),
        nn.ReLU(),
        nn.Linear(n2, 2 * latent_dim),
    )
    decoder = nn.Sequential(
        nn.Linear(latent_dim, n2),
        nn.ReLU(),
        nn.Linear(n2, n1),
        nn.ReLU(),
        nn.Linear(n1, data_dim),
        nn.Unflatten(1, data_shape),
    )
    return VAE(encoder, decoder)


class LinearEncoder(nn.Module):
    """Mean linear in x, log-variance the same for every x: all that a linear model needs."""

    def __init__(self, data_dim: int, latent_dim: int):
        super().__init__()
        self.mean = nn.Linear(data_dim, latent_dim)
        self.logvar = nn.Parameter(torch.zeros(latent_dim))

    def forward(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B K"]:
        return torch.cat([self.mean(x), self.logvar.expand(len(x), -1)], dim=1)


def linear_vae(data_dim: int, latent_dim: int) -> VAE:
    """The VAE that probabilistic PCA solves: one linear layer each way (Lucas et al. 2019)."""
    return VAE(LinearEncoder(data_dim, latent_dim), nn.Linear(latent_dim, data_dim))


def cnn_vae(latent_dim: int, channels: int = 32) -> VAE:
    """A convolutional VAE for 28x28 digits: 28 -> 14 -> 7 and back.

    Args:
        latent_dim: dimension of z.
        channels: width of the first level; the second has twice as many.
    """
    inner = 2 * channels
    encoder = nn.Sequential(
        nn.Conv2d(1, channels, 4, stride=2, padding=1),
        nn.SiLU(),
        nn.Conv2d(channels, inner, 4, stride=2, padding=1),
        nn.SiLU(),
        nn.Flatten(),
        nn.Linear(inner * 7 * 7, 256),
        nn.SiLU(),
        nn.Linear(256, 2 * latent_dim),
    )
    decoder = nn.Sequential(
        nn.Linear(latent_dim, 256),
        nn.SiLU(),
        nn.Linear(256, inner * 7 * 7),
        nn.SiLU(),
        nn.Unflatten(1, (inner, 7, 7)),
        nn.ConvTranspose2d(inner, channels, 4, stride=2, padding=1),
        nn.SiLU(),
        nn.ConvTranspose2d(channels, 1, 4, stride=2, padding=1),
    )
    return VAE(encoder, decoder)


def _same_shape(**tensors: Tensor) -> None:
    (first, shape), *others = ((name, tuple(tensor.shape)) for name, tensor in tensors.items())
    for name, other in others:
        if other != shape:
            raise ValueError(f"{name}: expected the shape of {first}, {shape}, got {other}")
