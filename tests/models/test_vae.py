import math

import pytest
import torch
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from course.models import vae
from course.models.ppca import PPCA


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def normal(*shape, generator):
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def test_reparametrised_draws_have_the_moments_of_the_normal(generator):
    mu = torch.tensor([0.5, -2.0, 3.0], dtype=torch.float64).expand(200_000, 3)
    logvar = torch.tensor([-3.0, 0.0, 1.5], dtype=torch.float64).expand(200_000, 3)
    z = vae.reparametrise(mu, logvar, normal(200_000, 3, generator=generator))
    # Five standard errors of a mean and of a variance.
    variance = logvar[0].exp()
    assert ((z.mean(0) - mu[0]).abs() < 5 * (variance / len(z)).sqrt()).all()
    assert ((z.var(0) / variance - 1).abs() < 5 * math.sqrt(2 / len(z))).all()


def test_reparametrised_gradient_is_that_of_the_expectation(generator):
    # E[z^2] = mu^2 + exp(logvar), so the gradient is (2 mu, exp(logvar)).
    mu = torch.tensor([0.7], dtype=torch.float64, requires_grad=True)
    logvar = torch.tensor([-0.4], dtype=torch.float64, requires_grad=True)
    noise = normal(400_000, 1, generator=generator)
    z = vae.reparametrise(mu.expand(len(noise), 1), logvar.expand(len(noise), 1), noise)
    z.square().mean().backward()
    assert mu.grad.item() == pytest.approx(1.4, abs=0.01)
    assert logvar.grad.item() == pytest.approx(math.exp(-0.4), abs=0.01)


def test_kl_equals_torch_and_its_monte_carlo_estimate(generator):
    mu, logvar = normal(4, 7, generator=generator), normal(4, 7, generator=generator)
    q = Independent(Normal(mu, (0.5 * logvar).exp()), 1)
    p = Independent(Normal(torch.zeros_like(mu), torch.ones_like(mu)), 1)
    kl = vae.kl_standard_normal(mu, logvar)
    torch.testing.assert_close(kl, kl_divergence(q, p), rtol=1e-12, atol=1e-12)
    noise = normal(100_000, 4, 7, generator=generator)
    z = vae.reparametrise(mu.expand_as(noise), logvar.expand_as(noise), noise)
    ratio = q.log_prob(z) - p.log_prob(z)
    assert ((ratio.mean(0) - kl).abs() < 5 * ratio.std(0) / math.sqrt(len(z))).all()


def test_densities_equal_torch_distributions(generator):
    x, mu, logvar = (normal(5, 3, generator=generator) for _ in range(3))
    want = Independent(Normal(mu, (0.5 * logvar).exp()), 1).log_prob(x)
    torch.testing.assert_close(vae.normal_log_density(x, mu, logvar), want)
    x, mean = normal(4, 2, 3, 5, generator=generator), normal(4, 2, 3, 5, generator=generator)
    want = Independent(Normal(mean, math.sqrt(0.3)), 3).log_prob(x)
    torch.testing.assert_close(vae.gaussian_log_likelihood(x, mean, 0.3), want)


def fitted_linear_vae(generator):
    """Data, and the linear VAE at the optimum that PPCA knows in closed form."""
    scales = torch.tensor([3.0, 2.0, 0.6, 0.4, 0.3], dtype=torch.float64)
    x = normal(300, 5, generator=generator) * scales + 1.0
    exact = PPCA.fit(x, 3, variance=0.5)
    model = vae.linear_vae(5, 3).double()
    _, covariance = exact.posterior(x)
    gain = covariance @ exact.weight.T / exact.variance
    with torch.no_grad():
        model.encoder.mean.weight.copy_(gain)
        model.encoder.mean.bias.copy_(-gain @ exact.mean)
        model.encoder.logvar.copy_(covariance.diagonal().log())
        model.decoder.weight.copy_(exact.weight)
        model.decoder.bias.copy_(exact.mean)
    return x, exact, model


def test_the_bound_is_tight_for_the_exact_posterior(generator):
    # q equals p(z|x), so the importance weights are all p(x): no variance, and no gap, at any K.
    x, exact, model = fitted_linear_vae(generator)
    for samples in (1, 3):
        with torch.no_grad():
            got = vae.importance_log_likelihood(model, x, 0.5, samples, generator)
        torch.testing.assert_close(got, exact.log_prob(x), rtol=1e-10, atol=1e-10)
    # One draw of the ELBO is noisy; its mean over draws is log p(x).
    rows = x.repeat_interleave(4000, dim=0)[: 50 * 4000]
    with torch.no_grad():
        noise = normal(len(rows), 3, generator=generator)
        x_mean, mu, logvar, _ = model(rows, noise)
        draws = vae.elbo(rows, x_mean, mu, logvar, 0.5).view(50, 4000)
    error = (draws.mean(1) - exact.log_prob(x[:50])).abs()
    assert (error < 5 * draws.std(1) / math.sqrt(4000)).all()


def test_a_worse_encoder_loosens_the_bound_by_its_kl_to_the_posterior(generator):
    x, exact, model = fitted_linear_vae(generator)
    with torch.no_grad():
        model.encoder.mean.bias += 0.4
        mu, logvar = model.encode(x)
        noise = normal(20_000, 3, generator=generator)
        row = x[:1].expand(len(noise), -1)
        x_mean, mu, logvar, _ = model(row, noise)
        draws = vae.elbo(row, x_mean, mu, logvar, 0.5)
    mean, covariance = exact.posterior(x[:1])
    q = MultivariateNormal(mu[0], torch.diag(logvar[0].exp()))
    gap = kl_divergence(q, MultivariateNormal(mean[0], covariance))
    want = exact.log_prob(x[:1])[0] - gap
    assert gap > 0.1
    assert abs(draws.mean() - want) < 5 * draws.std() / math.sqrt(len(draws))


def test_more_importance_samples_tighten_the_bound(generator):
    x, exact, model = fitted_linear_vae(generator)
    with torch.no_grad():
        model.encoder.mean.bias += 0.25
        bounds = [
            vae.importance_log_likelihood(model, x, 0.5, k, generator).mean() for k in (1, 10, 500)
        ]
    truth = exact.log_prob(x).mean()
    assert bounds[0] < bounds[1] < bounds[2]
    assert truth - bounds[0] > 0.5
    assert abs(truth - bounds[2]) < 0.05


def test_beta_weighs_the_kl_alone(generator):
    x, x_mean = normal(4, 2, 3, generator=generator), normal(4, 2, 3, generator=generator)
    mu, logvar = normal(4, 5, generator=generator), normal(4, 5, generator=generator)
    reconstruction = vae.gaussian_log_likelihood(x, x_mean, 0.2)
    kl = vae.kl_standard_normal(mu, logvar)
    for beta in (0.0, 1.0, 4.5):
        got = vae.elbo(x, x_mean, mu, logvar, 0.2, beta)
        torch.testing.assert_close(got, reconstruction - beta * kl)


def test_log_mean_exp_survives_where_exp_does_not(generator):
    weights = torch.rand(6, 4, generator=generator, dtype=torch.float64)
    want = weights.mean(0).log()
    torch.testing.assert_close(vae.log_mean_exp(weights.log()), want)
    torch.testing.assert_close(vae.log_mean_exp(weights.log() - 5000), want - 5000)


def test_active_dimensions_sees_movement_not_offset(generator):
    mu = torch.stack([normal(50, generator=generator), torch.full((50,), 3.0).double()], dim=1)
    assert vae.active_dimensions(mu).tolist() == [True, False]


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (vae.mlp_vae((2, 3, 5), 4, n1=7, n2=6), (2, 3, 5)),
        (vae.mlp_vae((1,), 3), (1,)),
        (vae.cnn_vae(6, channels=4), (1, 28, 28)),
        (vae.linear_vae(9, 2), (9,)),
    ],
)
def test_every_vae_trains_with_the_same_lines(model, shape, generator):
    x = torch.randn((3, *shape), generator=generator)
    latent_dim = model.encode(x)[0].shape[1]
    noise = torch.randn((3, latent_dim), generator=generator)
    x_mean, mu, logvar, z = model(x, noise)
    assert x_mean.shape == x.shape
    torch.testing.assert_close(z, vae.reparametrise(mu, logvar, noise))
    torch.testing.assert_close(x_mean, model.decode(z))
    (-vae.elbo(x, x_mean, mu, logvar, 0.1).mean()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_rows_do_not_mix(generator):
    model = vae.cnn_vae(5, channels=4)
    x = torch.randn((4, 1, 28, 28), generator=generator)
    noise = torch.randn((4, 5), generator=generator)
    together = model(x, noise)[0]
    alone = torch.cat([model(x[i : i + 1], noise[i : i + 1])[0] for i in range(4)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("no_typecheck")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a, b: vae.reparametrise(a, b, a), r"logvar: expected the shape of mu, \(3, 2\)"),
        (lambda a, b: vae.reparametrise(a, a, b), r"noise: expected .* got \(3, 4\)"),
        (lambda a, b: vae.kl_standard_normal(a, b), "logvar: expected the shape of mu"),
        (lambda a, b: vae.normal_log_density(a, a, b), "logvar: expected the shape of x"),
        (lambda a, b: vae.gaussian_log_likelihood(a, b, 1.0), "x_mean: expected the shape of x"),
        (lambda a, b: vae.gaussian_log_likelihood(a, a, 0.0), "variance: .* above 0, got 0.0"),
        (lambda a, b: vae.gaussian_log_likelihood(a, a, math.nan), "variance: .* got nan"),
        (lambda a, b: vae.elbo(a, a, a, a, 1.0, beta=-1), "beta: .* at least 0, got -1"),
        (lambda a, b: vae.active_dimensions(a[:1]), r"mu: expected shape \(N, D\).*\(1, 2\)"),
        (
            lambda a, b: vae.importance_log_likelihood(vae.linear_vae(2, 2), a, 1.0, 0, None),
            "samples: expected at least 1, got 0",
        ),
    ],
)
def test_bad_input_names_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.zeros(3, 2), torch.zeros(3, 4))
