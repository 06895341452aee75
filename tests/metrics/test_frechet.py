"""FID against closed forms, SciPy's matrix root, and what it must not be fooled by."""

import numpy as np
import pytest
import scipy.linalg
import torch

from course.metrics import frechet


def gaussian(f, seed):
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(f, f, generator=generator, dtype=torch.float64)
    return torch.randn(f, generator=generator, dtype=torch.float64), a @ a.T / f


def test_equal_covariances_give_the_squared_distance_of_the_means():
    mean, cov = gaussian(5, 0)
    other, _ = gaussian(5, 1)
    want = (mean - other).square().sum().item()
    assert frechet.frechet_distance(mean, cov, other, cov) == pytest.approx(want, abs=1e-10)


def test_covariances_that_commute_give_the_squared_distance_of_their_roots():
    a, b = torch.tensor([4.0, 0.25, 0.0]), torch.tensor([1.0, 9.0, 2.25])
    want = (a.sqrt() - b.sqrt()).square().sum().item()
    zero = torch.zeros(3)
    assert frechet.frechet_distance(zero, a.diag(), zero, b.diag()) == pytest.approx(want)


@pytest.mark.parametrize("f", [1, 4, 7])
def test_it_equals_the_formula_with_scipys_matrix_root(f):
    (mean_a, cov_a), (mean_b, cov_b) = gaussian(f, 2), gaussian(f, 3)
    root = scipy.linalg.sqrtm((cov_a @ cov_b).numpy())
    want = (mean_a - mean_b).square().sum() + np.trace((cov_a + cov_b).numpy() - 2 * root.real)
    assert frechet.frechet_distance(mean_a, cov_a, mean_b, cov_b) == pytest.approx(want.item())


def test_it_is_the_squared_wasserstein_distance_of_the_best_linear_map():
    """W2^2 = E|x - M x|^2 with M = A^-1 (A B A)^{1/2} A^-1, A = cov_a^{1/2}: another formula."""
    (mean, cov_a), (_, cov_b) = gaussian(4, 4), gaussian(4, 5)
    root = torch.from_numpy(scipy.linalg.sqrtm(cov_a.numpy()).real)
    inner = torch.from_numpy(scipy.linalg.sqrtm((root @ cov_b @ root).numpy()).real)
    inverse = root.inverse()
    move = torch.eye(4, dtype=torch.float64) - inverse @ inner @ inverse
    want = (move @ cov_a @ move.T).trace().item()
    assert frechet.frechet_distance(mean, cov_a, mean, cov_b) == pytest.approx(want, rel=1e-8)


def test_rank_deficient_covariances_are_fine():
    thin = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    wide = torch.randn(50, 6, generator=torch.Generator().manual_seed(1))
    assert frechet.fid(thin, thin) == pytest.approx(0, abs=1e-6)
    assert frechet.fid(thin, wide) > 0.1


def test_fid_is_that_of_means_and_covariances():
    generator = torch.Generator().manual_seed(6)
    a, b = torch.randn(30, 4, generator=generator), 2 + torch.randn(40, 4, generator=generator)
    moments = [torch.from_numpy(m) for x in (a, b) for m in (x.mean(0).numpy(), np.cov(x.T))]
    assert frechet.fid(a, b) == pytest.approx(frechet.frechet_distance(*moments), rel=1e-5)


def test_real_against_real_is_not_zero_and_falls_as_one_over_n():
    generator = torch.Generator().manual_seed(7)

    def mean_fid(n):
        draws = torch.randn(40, 2, n, 8, generator=generator)
        return np.mean([frechet.fid(a, b) for a, b in draws])

    few, many = mean_fid(100), mean_fid(400)
    assert few > 0.1
    assert few / many == pytest.approx(4, rel=0.15)


def test_the_interval_covers_what_other_samples_give():
    generator = torch.Generator().manual_seed(8)
    n, f, shift = 300, 3, 0.5
    values = [
        frechet.fid(*(torch.randn(2, n, f, generator=generator) + torch.tensor([[[0]], [[shift]]])))
        for _ in range(200)
    ]
    covered = 0
    for _ in range(60):
        a, b = torch.randn(2, n, f, generator=generator)
        low, high = frechet.fid_interval(a, b + shift, rounds=60)
        covered += low <= np.mean(values) <= high
    # 95 % of 60 is 57; fewer than 50 has probability below 1e-3.
    assert covered >= 50


def test_the_interval_is_a_function_of_its_seed():
    a, b = torch.randn(2, 40, 3, generator=torch.Generator().manual_seed(9))
    first = frechet.fid_interval(a, b, rounds=5)
    assert frechet.fid_interval(a, b, rounds=5) == first
    assert frechet.fid_interval(a, b, rounds=5, seed=1) != first
    assert first[0] < frechet.fid(a, b) < first[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(2, 2), torch.eye(2), torch.zeros(2), torch.eye(2)), "mean_a: .*(2, 2)"),
        ((torch.zeros(2), torch.eye(3), torch.zeros(2), torch.eye(2)), r"cov_a: .*\(3, 3\)"),
        ((torch.zeros(2), torch.eye(2), torch.zeros(3), torch.eye(2)), r"mean_b: .*\(3,\)"),
        ((torch.zeros(2), torch.eye(2), torch.zeros(2), -torch.eye(2)), "cov_b: .*eigenvalue"),
        ((torch.zeros(2), torch.eye(2).cumsum(0), torch.zeros(2), torch.eye(2)), "symmetric"),
        ((torch.zeros(2), torch.eye(2), torch.zeros(2) / 0, torch.eye(2)), "mean_b: .*NaN"),
    ],
)
def test_bad_moments_are_named(arguments, message, no_typecheck):
    with pytest.raises(ValueError, match=message):
        frechet.frechet_distance(*arguments)


def test_bad_sets_are_named(no_typecheck):
    with pytest.raises(ValueError, match=r"features_a: .*\(1, 3\)"):
        frechet.fid(torch.zeros(1, 3), torch.zeros(4, 3))
    with pytest.raises(ValueError, match="features_b: expected 3 features"):
        frechet.fid(torch.zeros(5, 3), torch.zeros(4, 2))
    with pytest.raises(ValueError, match=r"rounds: .*came 1"):
        frechet.fid_interval(torch.zeros(5, 3), torch.zeros(4, 3), rounds=1)
    with pytest.raises(ValueError, match=r"level: .*came 95"):
        frechet.fid_interval(torch.zeros(5, 3), torch.zeros(4, 3), level=95)
