import pytest
import torch
from sklearn.decomposition import PCA
from torch.distributions import MultivariateNormal

from course.models.ppca import PPCA, spectrum


@pytest.fixture
def x():
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    return torch.randn(80, 6, generator=generator, dtype=torch.float64) @ mix + 2


def test_it_equals_scikit_learn(x):
    # scikit-learn divides by N - 1, we (as the maximum of the likelihood does) by N.
    ours = PPCA.fit(x, 2)
    theirs = PCA(2).fit(x.numpy())
    scale = (len(x) - 1) / len(x)
    assert ours.variance == pytest.approx(theirs.noise_variance_ * scale, rel=1e-10)
    got = ours.weight @ ours.weight.T + ours.variance * torch.eye(6).double()
    torch.testing.assert_close(got, torch.from_numpy(theirs.get_covariance()) * scale)


def test_log_prob_is_the_normal_density(x):
    model = PPCA.fit(x, 3)
    covariance = model.weight @ model.weight.T + model.variance * torch.eye(6).double()
    want = MultivariateNormal(model.mean, covariance).log_prob(x)
    torch.testing.assert_close(model.log_prob(x), want, rtol=1e-10, atol=1e-10)


def test_posterior_is_bayes_rule(x):
    # p(z|x) = p(z) p(x|z) / p(x) at random points z.
    model = PPCA.fit(x, 3)
    z = torch.randn(80, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    mean, covariance = model.posterior(x)
    prior = MultivariateNormal(torch.zeros(3).double(), torch.eye(3).double()).log_prob(z)
    noise = model.variance * torch.eye(6).double()
    likelihood = MultivariateNormal(model.mean + z @ model.weight.T, noise).log_prob(x)
    want = prior + likelihood - model.log_prob(x)
    torch.testing.assert_close(MultivariateNormal(mean, covariance).log_prob(z), want)


@pytest.mark.parametrize("variance", [None, 0.5])
def test_nothing_nearby_is_likelier(x, variance):
    best = PPCA.fit(x, 2, variance)
    top = best.log_prob(x).mean()
    generator = torch.Generator().manual_seed(2)
    for _ in range(50):
        step = 0.05 * torch.randn(6, 2, generator=generator, dtype=torch.float64)
        shift = 0.05 * torch.randn(6, generator=generator, dtype=torch.float64)
        near = PPCA(best.mean + shift, best.weight + step, best.variance)
        assert near.log_prob(x).mean() < top
    if variance is None:
        for factor in (0.95, 1.05):
            near = PPCA(best.mean, best.weight, best.variance * factor)
            assert near.log_prob(x).mean() < top


def test_a_dimension_collapses_when_its_eigenvalue_is_below_the_variance(x):
    eigenvalues, vectors = spectrum(x)
    assert (eigenvalues.diff() < 0).all()
    torch.testing.assert_close(vectors.T @ vectors, torch.eye(6).double())
    variance = (0.4 * eigenvalues[2] + 0.6 * eigenvalues[3]).item()
    lengths = PPCA.fit(x, 5, variance).weight.square().sum(0)
    want = (eigenvalues[:5] - variance).clamp(min=0)
    torch.testing.assert_close(lengths, want)
    assert (lengths > 0).tolist() == [True, True, True, False, False]


@pytest.mark.usefixtures("no_typecheck")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(5), 1), r"x: expected shape \(N, D\)"),
        ((torch.zeros(1, 3), 1), r"x: .* got \(1, 3\)"),
        ((torch.zeros(5, 3), 3), "latent_dim: expected 1 to 2, got 3"),
        ((torch.zeros(5, 3), 4, 1.0), "latent_dim: expected 1 to 3, got 4"),
        ((torch.zeros(5, 3), 0), "latent_dim: expected 1 to 2, got 0"),
        ((torch.zeros(5, 3), 1, -1.0), "variance: .* above 0, got -1.0"),
    ],
)
def test_bad_input_names_the_argument(arguments, message):
    with pytest.raises(ValueError, match=message):
        PPCA.fit(*arguments)
