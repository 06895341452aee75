import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from course.data.toy import Gamma, GaussianMixture

SHAPES_AND_RATES = [(0.3, 2.0), (1.0, 0.5), (1.7, 3.0), (3, 1), (40.0, 0.25)]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scipy_gamma(alpha, beta):
    return stats.gamma(alpha, scale=1 / beta)


# --- Gamma


@pytest.mark.parametrize(("alpha", "beta"), SHAPES_AND_RATES)
def test_gamma_density_is_scipys(alpha, beta):
    x = torch.logspace(-6, 3, 30, dtype=torch.float64).reshape(2, 3, 5)
    expected = scipy_gamma(alpha, beta).logpdf(x)
    np.testing.assert_allclose(Gamma(alpha, beta).log_prob(x), expected, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(Gamma(alpha, beta).pdf(x), np.exp(expected), rtol=1e-10)


@settings(max_examples=50, deadline=None)
@given(st.floats(1, 30), st.floats(0.1, 10))
def test_gamma_density_integrates_to_one(alpha, beta):
    gamma = Gamma(alpha, beta)
    end = gamma.mean + 60 * math.sqrt(gamma.variance)
    x = torch.linspace(0, end, 200_001, dtype=torch.float64)
    y = gamma.pdf(x)
    y[0] = beta if alpha == 1 else 0  # the limit from the right
    # Near alpha = 1 the slope at 0 is infinite, which costs the rule digits.
    assert float(torch.trapezoid(y, x)) == pytest.approx(1, abs=2e-3)


def test_gamma_density_with_a_pole_integrates_to_one():
    gamma = Gamma(0.4, 1.5)
    # x = u^5 takes the pole away.
    total, _ = integrate.quad(
        lambda u: float(gamma.pdf(torch.tensor(u**5, dtype=torch.float64))) * 5 * u**4, 0, 3
    )
    assert total == pytest.approx(1, abs=1e-8)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_gamma_has_no_mass_outside_its_support(alpha):
    x = torch.tensor([-2.0, -0.0, 0.0, math.inf, -math.inf])
    assert Gamma(alpha, 2.0).log_prob(x).tolist() == [-math.inf] * 5
    assert Gamma(alpha, 2.0).pdf(x).tolist() == [0] * 5
    assert Gamma(alpha, 2.0).log_prob(torch.tensor(math.nan)).isnan()


def test_gamma_score():
    x = torch.tensor([-1.0, 0.0, 0.25, 4.0], dtype=torch.float64, requires_grad=True)
    (score,) = torch.autograd.grad(Gamma(3.0, 2.0).log_prob(x).exp().sum(), x)
    inside = x[2:].detach()
    expected = Gamma(3.0, 2.0).pdf(inside) * (2 / inside - 2)
    torch.testing.assert_close(score, torch.cat([torch.zeros(2), expected]))


def test_gamma_keeps_the_dtype_and_computes_in_float64():
    x = torch.tensor([40.0, 41.0])
    log_prob = Gamma(2000.0, 49.0).log_prob(x)
    assert log_prob.dtype == torch.float32
    np.testing.assert_allclose(log_prob, scipy_gamma(2000, 49).logpdf(x), rtol=1e-6)


@pytest.mark.parametrize(("alpha", "beta"), SHAPES_AND_RATES)
def test_gamma_draws_follow_the_density(alpha, beta):
    gamma = Gamma(alpha, beta)
    x = gamma.sample(20_000, generator(1), dtype=torch.float64)
    assert stats.kstest(x.numpy(), scipy_gamma(alpha, beta).cdf).pvalue > 0.01
    assert gamma.mean == pytest.approx(scipy_gamma(alpha, beta).mean())
    assert gamma.variance == pytest.approx(scipy_gamma(alpha, beta).var())
    error = math.sqrt(gamma.variance / len(x))
    assert float(x.mean()) == pytest.approx(gamma.mean, abs=4 * error)


def test_gamma_draws_stay_in_the_support():
    x = Gamma(0.001, 1.0).sample(1000, generator())
    assert x.min() > 0
    assert Gamma(0.001, 1.0).log_prob(x).isfinite().all()


def test_gamma_draws_come_from_the_generator_alone():
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first = Gamma(0.7, 2.0).sample(11, generator(5))
    torch.rand(3)
    assert torch.equal(Gamma(0.7, 2.0).sample(11, generator(5)), first)
    assert not torch.equal(Gamma(0.7, 2.0).sample(11, generator(6)), first)
    torch.set_rng_state(state)
    Gamma(0.7, 2.0).sample(11, generator(5))
    assert torch.equal(torch.get_rng_state(), state)
    assert first.shape == (11,)
    assert first.dtype == torch.float32


@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("name", ["alpha", "beta"])
def test_gamma_refuses(name, value, no_typecheck):
    with pytest.raises(ValueError, match=f"{name}: .*came {value}"):
        Gamma(**{"alpha": 1.0, "beta": 2.0, name: value})


def test_gamma_refuses_what_it_cannot_do(no_typecheck):
    with pytest.raises(ValueError, match=r"n: .*came 0"):
        Gamma(1.0, 2.0).sample(0, generator())
    with pytest.raises(ValueError, match=r"x: .*came torch\.int64"):
        Gamma(1.0, 2.0).log_prob(torch.tensor([1, 2]))


# --- Gaussian mixture


def mixture(k: int = 3, d: int = 2, seed: int = 7, spread: float = 3.0) -> GaussianMixture:
    """A mixture of unequal weights and full covariances."""
    draw = generator(seed)
    root = torch.randn(k, d, d + 2, generator=draw, dtype=torch.float64)
    weights = torch.rand(k, generator=draw, dtype=torch.float64) + 0.2
    means = spread * torch.randn(k, d, generator=draw, dtype=torch.float64)
    return GaussianMixture(weights / weights.sum(), means, root @ root.mT / (d + 2))


def scipy_log_prob(gm: GaussianMixture, x: torch.Tensor) -> np.ndarray:
    parts = [
        np.log(w) + stats.multivariate_normal(m, c).logpdf(x)
        for w, m, c in zip(
            gm.weights.numpy(), gm.means.numpy(), gm.covariances.numpy(), strict=True
        )
    ]
    return np.logaddexp.reduce(np.stack(parts).reshape(len(parts), -1), axis=0)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.integers(1, 6), st.integers(0, 1000))
def test_mixture_density_is_scipys(k, d, seed):
    gm = mixture(k, d, seed)
    x = 4 * torch.randn(7, d, generator=generator(seed + 1), dtype=torch.float64)
    np.testing.assert_allclose(gm.log_prob(x), scipy_log_prob(gm, x), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(gm.pdf(x), np.exp(scipy_log_prob(gm, x)), rtol=1e-8)


def plane() -> torch.Tensor:
    """Points 0.1 apart; for a smooth density that dies out within them, their sum is exact."""
    steps = torch.arange(-200, 201, dtype=torch.float64), torch.arange(-220, 221).double()
    return 0.1 * torch.cartesian_prod(*steps)


def test_mixture_density_integrates_to_one():
    gm = mixture(3, 2)
    grid = plane()
    assert float(gm.pdf(grid).sum()) * 0.1**2 == pytest.approx(1, abs=1e-9)


def test_mixture_density_far_away_does_not_underflow():
    gm = mixture(3, 2)
    x = torch.tensor([[1e4, -2e4]])
    assert gm.log_prob(x).dtype == torch.float32
    np.testing.assert_allclose(gm.log_prob(x), scipy_log_prob(gm, x), rtol=1e-6)


def test_mixture_moments_are_those_of_its_density():
    gm = mixture(3, 2)
    grid = plane()
    mass = gm.pdf(grid) * 0.1**2
    mean = mass @ grid
    offsets = grid - mean
    torch.testing.assert_close(gm.mean, mean, rtol=0, atol=1e-8)
    torch.testing.assert_close(
        gm.covariance, offsets.T @ (mass[:, None] * offsets), rtol=0, atol=1e-7
    )


def test_mixture_draws_follow_each_component():
    gm = mixture(3, 2)
    x, component = gm.sample(60_000, generator(2), dtype=torch.float64)
    assert x.shape == (60_000, 2)
    counts = component.bincount(minlength=3)
    assert stats.chisquare(counts, 60_000 * gm.weights).pvalue > 0.01
    for k in range(3):
        white = torch.linalg.solve_triangular(
            gm.cholesky[k], (x[component == k] - gm.means[k]).T, upper=False
        )
        for row in white:
            assert stats.kstest(row.numpy(), "norm").pvalue > 0.01
        assert abs(stats.pearsonr(*white.numpy()).statistic) < 4 / math.sqrt(white.shape[1])


def test_mixture_draws_have_its_moments_in_many_dimensions():
    gm = mixture(2, 5)
    x, component = gm.sample(100_000, generator(4))
    assert x.dtype == torch.float32
    assert component.dtype == torch.int64
    scale = float(gm.covariance.diagonal().max())
    torch.testing.assert_close(
        x.double().mean(0), gm.mean, rtol=0, atol=5 * math.sqrt(scale / len(x))
    )
    torch.testing.assert_close(x.double().T.cov(), gm.covariance, rtol=0, atol=0.02 * scale)


def test_mixture_draws_come_from_the_generator_alone():
    state = torch.get_rng_state()
    first = mixture().sample(11, generator(5))
    again = mixture().sample(11, generator(5))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(mixture().sample(11, generator(6))[0], first[0])
    assert torch.equal(torch.get_rng_state(), state)


def test_mixture_does_not_follow_its_arguments():
    weights, means, covariances = torch.ones(1).double(), torch.zeros(1, 2).double(), torch.eye(2)
    gm = GaussianMixture(weights, means, covariances[None].double())
    means += 100
    assert gm.mean.tolist() == [0, 0]


def arguments(**changes: torch.Tensor) -> dict[str, torch.Tensor]:
    usual = {
        "weights": torch.tensor([0.25, 0.75]),
        "means": torch.zeros(2, 3),
        "covariances": torch.eye(3).repeat(2, 1, 1),
    }
    return usual | changes


EYES = torch.eye(3).repeat(2, 1, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": torch.tensor([0.25, 0.7])}, "weights: .*sum 1"),
        ({"weights": torch.tensor([0.25, 0.750003])}, "weights: .*sum 1"),
        ({"weights": torch.tensor([-0.25, 1.25])}, "weights: .*positive"),
        ({"weights": torch.tensor([0.0, 1.0])}, "weights: .*positive"),
        ({"weights": torch.tensor([math.nan, 1.0])}, "weights: .*finite"),
        ({"weights": torch.tensor([1, 0])}, "weights: .*int64"),
        ({"weights": torch.full((3,), 1 / 3)}, r"weights: expected shape \(2,\).*came \(3,\)"),
        ({"means": torch.zeros(3)}, r"means: .*came \(3,\)"),
        ({"means": torch.zeros(2, 0)}, r"means: .*came \(2, 0\)"),
        ({"means": torch.full((2, 3), math.inf)}, "means: .*finite"),
        ({"covariances": torch.eye(3)}, r"covariances: expected shape \(2, 3, 3\)"),
        ({"covariances": EYES + torch.eye(3).roll(1, 0) * 0.1}, "covariances: .*symmetric"),
        ({"covariances": EYES * torch.tensor([1.0, 1, -1])}, "covariances: .*definite.*number 0"),
        ({"covariances": EYES * torch.tensor([[[1.0]], [[0.0]]])}, "covariances: .*number 1"),
    ],
)
def test_mixture_refuses(changes, message, no_typecheck):
    GaussianMixture(**arguments())
    with pytest.raises(ValueError, match=message):
        GaussianMixture(**arguments(**changes))


def test_mixture_takes_weights_rounded_to_float32():
    weights = torch.full((3,), 1 / 3)
    gm = GaussianMixture(weights, torch.zeros(3, 1), torch.ones(3, 1, 1))
    assert float(gm.weights.sum()) == pytest.approx(1, abs=1e-15)


def test_mixture_refuses_what_it_cannot_do(no_typecheck):
    with pytest.raises(ValueError, match=r"x: expected shape \(N, 2\), came \(4, 3\)"):
        mixture().log_prob(torch.zeros(4, 3))
    with pytest.raises(ValueError, match=r"x: .*int64"):
        mixture().pdf(torch.zeros(4, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"n: .*came -1"):
        mixture().sample(-1, generator())
