"""Exact denoisers against autograd, brute force and each other's limits."""

import math

import pytest
import torch

from course.data.toy import GaussianMixture
from course.diffusion import process, schedule
from course.diffusion.exact import EmpiricalDenoiser, MixtureDenoiser, sampled_gaussian

S = schedule.linear(100, 1e-3, 0.1)


def mixture():
    covariances = torch.tensor(
        [[[1.0, 0.6, 0], [0.6, 0.5, 0], [0, 0, 0.2]], [[0.3, 0, 0.1], [0, 0.4, 0], [0.1, 0, 0.9]]]
    )
    means = torch.tensor([[1.0, -2, 0], [0, 1, 3]])
    return GaussianMixture(torch.tensor([0.35, 0.65]), means, covariances)


def draws(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_score_is_the_gradient_of_the_marginals_log_density():
    denoiser = MixtureDenoiser(mixture(), S)
    for t in (0, 1, 37, 99):
        xt = 2 * draws(6, 3, seed=t)
        at = xt.clone().requires_grad_()
        denoiser.marginal(t).log_prob(at).sum().backward()
        index = torch.full((6,), t)
        torch.testing.assert_close(denoiser.score(xt, index), at.grad)
        want = process.score_to_noise(at.grad, index, S)
        torch.testing.assert_close(denoiser(xt, index), want)


def test_marginals_have_the_moments_of_noisy_samples():
    n, t = 100_000, 40
    x0, _ = mixture().sample(n, torch.Generator().manual_seed(1), torch.float64)
    xt = process.q_sample(x0, torch.full((n,), t), draws(n, 3, seed=2), S)
    marginal = MixtureDenoiser(mixture(), S).marginal(t)
    torch.testing.assert_close(xt.mean(0), marginal.mean, rtol=0, atol=0.03)
    torch.testing.assert_close(xt.T.cov(), marginal.covariance, rtol=0, atol=0.05)


def test_each_row_has_its_own_step_and_dtype_stays():
    denoiser, xt, t = MixtureDenoiser(mixture(), S), draws(4, 3), torch.tensor([0, 99, 5, 60])
    together = denoiser(xt, t)
    for i in range(4):
        torch.testing.assert_close(together[i : i + 1], denoiser(xt[i : i + 1], t[i : i + 1]))
    assert denoiser(xt.float(), t).dtype == torch.float32


def test_no_other_prediction_has_a_smaller_loss():
    """E[noise | x_t]: what is left is orthogonal to any function of x_t."""
    n, t = 200_000, torch.tensor([30])
    x0, _ = mixture().sample(n, torch.Generator().manual_seed(3), torch.float64)
    noise, index = draws(n, 3, seed=4), t.expand(n)
    xt = process.q_sample(x0, index, noise, S)
    left = noise - MixtureDenoiser(mixture(), S)(xt, index)
    for function in (torch.ones_like(xt), xt, xt.sin(), xt.square() / 3, xt.flip(1)):
        product = (left * function).mean(0)
        error = (left * function).std(0) / math.sqrt(n)
        assert (product.abs() < 5 * error).all()


def brute_force(data, xt, kept):
    """Loops over pictures, in float64."""
    out = []
    for x in xt:
        logs = [-((x - kept**0.5 * y) ** 2).sum().item() / (2 * (1 - kept)) for y in data]
        top = max(logs)
        weights = [math.exp(v - top) for v in logs]
        mean = sum(w * y for w, y in zip(weights, data, strict=True)) / sum(weights)
        out.append((x - kept**0.5 * mean) / (1 - kept) ** 0.5)
    return torch.stack(out)


def test_the_empirical_denoiser_is_brute_force():
    data, xt = draws(7, 2, 3, 4), draws(5, 2, 3, 4, seed=1)
    denoiser = EmpiricalDenoiser(data, S)
    for t in (2, 50, 99):
        index = torch.full((5,), t)
        want = brute_force(data, xt, S.alpha_bar[t].item())
        torch.testing.assert_close(denoiser(xt, index), want)
        weights = denoiser.weights(xt, index)
        assert weights.shape == (5, 7)
        torch.testing.assert_close(weights.sum(1), torch.ones(5).double())


def test_the_empirical_denoiser_is_a_mixture_of_points():
    data, xt, t = draws(6, 3), draws(4, 3, seed=1), torch.tensor([3, 20, 70, 99])
    points = GaussianMixture(
        torch.full((6,), 1 / 6).double(), data, 1e-10 * torch.eye(3).double().repeat(6, 1, 1)
    )
    got = EmpiricalDenoiser(data, S)(xt, t)
    torch.testing.assert_close(got, MixtureDenoiser(points, S)(xt, t), rtol=1e-5, atol=1e-6)


def test_single_precision_is_good_enough_for_pictures():
    generator = torch.Generator().manual_seed(5)
    data = torch.rand(300, 1, 28, 28, generator=generator).mul(2).sub(1)
    t = torch.arange(0, 100, 11)
    xt = process.q_sample(data[:10], t, draws(10, 1, 28, 28).float(), S)
    single = EmpiricalDenoiser(data, S)(xt, t)
    double = EmpiricalDenoiser(data.double(), S)(xt.double(), t)
    torch.testing.assert_close(single, double.float(), rtol=1e-3, atol=1e-3)


def test_the_recursion_without_any_noise_to_remove():
    """Data that is standard normal stays so under every sampler with the right variance."""
    mean, variance = sampled_gaussian(0, 1, S)
    kept, before = S.alpha_bar, S.alpha_bar_prev
    slope = (before * kept).sqrt() + ((1 - before) * (1 - kept)).sqrt()
    assert (mean, variance) == pytest.approx((0, slope.square().prod().item()), rel=1e-10)
    assert 0.95 < variance < 1
    mean, variance = sampled_gaussian(0, 1, S, method="beta")
    # Each step keeps variance 1, but the last, which adds no noise.
    assert mean == 0
    assert variance == pytest.approx(1 - S.beta[0].item(), rel=1e-9)


def test_bad_arguments_are_named(no_typecheck):
    few, data = S.respace(10), draws(4, 3)
    mixed, copies = MixtureDenoiser(mixture(), S), EmpiricalDenoiser(data, S)
    t = torch.tensor([0, 1])
    for call, message in (
        (lambda: MixtureDenoiser(mixture(), few), "schedule: .*respaced to 10"),
        (lambda: EmpiricalDenoiser(data, few), "schedule: .*respaced to 10"),
        (lambda: EmpiricalDenoiser(data[:0], S), "x0: "),
        (lambda: mixed(draws(2, 2), t), r"xt: expected shape \(B, 3\)"),
        (lambda: mixed(draws(2, 3), t + 99), r"t: expected 0\.\.99"),
        (lambda: mixed(draws(2, 3), t.float()), "t: expected int64"),
        (lambda: mixed.marginal(100), "t: .*came 100"),
        (lambda: copies(draws(2, 4), t), r"xt: expected shape \(B, 3\)"),
        (lambda: copies(draws(2, 3), t - 1), "t: .*-1"),
        (lambda: sampled_gaussian(0, 0, S), "variance: "),
        (lambda: sampled_gaussian(0, 1, S, method="euler"), "method: .*'euler'"),
        (lambda: sampled_gaussian(0, 1, S, eta=-1), "eta: "),
    ):
        with pytest.raises(ValueError, match=message):
            call()
