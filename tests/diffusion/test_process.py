"""The forward process against its own steps, the posterior against Bayes on a grid."""

import math

import pytest
import torch
from torch.distributions import Normal

from course.diffusion import process, schedule

S = schedule.linear(50, 0.01, 0.2)


def draws(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_many_steps_are_one():
    """Mean and variance go through 50 single steps in closed form, as through q_sample at once."""
    t = torch.arange(50)
    x0 = torch.full((1, 1), 1.7, dtype=torch.float64)
    zero, one = torch.zeros(1, 1).double(), torch.ones(1, 1).double()
    mean, variance = x0, 0.0
    for i in t.split(1):
        gain = process.q_step(zero, i, one, S).item()
        shrink = process.q_step(one, i, zero, S).item()
        mean = process.q_step(mean, i, zero, S)
        variance = shrink**2 * variance + gain**2
        assert process.q_sample(x0, i, zero, S).item() == pytest.approx(mean.item(), rel=1e-12)
        noise_gain = process.q_sample(0 * x0, i, one, S).item()
        assert noise_gain**2 == pytest.approx(variance, rel=1e-12)


def test_samples_of_many_steps_have_those_moments():
    n = 40_000
    x = x0 = torch.full((n, 1), 1.7, dtype=torch.float64)
    for i in range(20):
        x = process.q_step(x, torch.full((n,), i), draws(n, 1, seed=i), S)
    at_once = process.q_sample(x0, torch.full((n,), 19), draws(n, 1, seed=99), S)
    kept = S.alpha_bar[19].item()
    for sample in (x, at_once):
        assert sample.mean().item() == pytest.approx(1.7 * kept**0.5, abs=5 * (1 / n) ** 0.5)
        assert sample.var().item() == pytest.approx(1 - kept, rel=5 * (2 / n) ** 0.5)


def test_each_sample_has_its_own_t():
    x0, noise = draws(3, 2, 4, 5), draws(3, 2, 4, 5, seed=1)
    t = torch.tensor([0, 49, 7])
    together = process.q_sample(x0, t, noise, S)
    for i in range(3):
        kept = S.alpha_bar[t[i]].item()
        want = math.sqrt(kept) * x0[i] + math.sqrt(1 - kept) * noise[i]
        torch.testing.assert_close(together[i], want, rtol=1e-12, atol=0)


@pytest.mark.parametrize("i", [1, 2, 30, 49])
def test_the_posterior_is_bayes_on_a_grid(i):
    t = torch.tensor([i])
    x0, xt = torch.tensor([[0.6]]).double(), torch.tensor([[-0.4]]).double()
    grid = torch.linspace(-8, 8, 200_001, dtype=torch.float64)
    before = S.alpha_bar[i - 1]
    prior = Normal(before.sqrt() * x0, (1 - before).sqrt()).log_prob(grid)
    likelihood = Normal(S.alpha[i].sqrt() * grid, S.beta[i].sqrt()).log_prob(xt)
    weight = torch.softmax((prior + likelihood).flatten(), 0)
    mean = (weight * grid).sum()
    variance = (weight * (grid - mean) ** 2).sum()
    got_mean, got_variance = process.posterior(x0, xt, t, S)
    assert got_mean.item() == pytest.approx(mean.item(), abs=1e-9)
    assert got_variance.item() == pytest.approx(variance.item(), rel=1e-6)


def test_the_posterior_of_the_first_step_is_the_data():
    x0, xt = draws(2, 3), draws(2, 3, seed=1)
    mean, variance = process.posterior(x0, xt, torch.zeros(2, dtype=torch.int64), S)
    torch.testing.assert_close(mean, x0, rtol=1e-12, atol=1e-12)
    assert variance.shape == (2, 1)
    assert not variance.any()


def test_predictions_undo_each_other():
    x0, noise = draws(4, 1, 3, 2), draws(4, 1, 3, 2, seed=1)
    t = torch.tensor([0, 3, 20, 49])
    xt = process.q_sample(x0, t, noise, S)
    torch.testing.assert_close(process.predict_x0(xt, t, noise, S), x0)
    torch.testing.assert_close(process.predict_noise(xt, t, x0, S), noise)
    score = process.noise_to_score(noise, t, S)
    torch.testing.assert_close(process.score_to_noise(score, t, S), noise)


def test_the_score_is_the_gradient_of_the_log_density():
    x0, t = draws(5, 3), torch.tensor([0, 9, 19, 33, 49])
    xt = process.q_sample(x0, t, draws(5, 3, seed=1), S).requires_grad_()
    kept = S.alpha_bar[t][:, None]
    Normal(kept.sqrt() * x0, (1 - kept).sqrt()).log_prob(xt).sum().backward()
    noise = process.predict_noise(xt.detach(), t, x0, S)
    torch.testing.assert_close(process.noise_to_score(noise, t, S), xt.grad)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_dtype_is_kept(dtype):
    x0 = torch.ones(2, 3, 1, dtype=dtype)
    t = torch.tensor([0, 49])
    assert process.q_sample(x0, t, x0, S).dtype == dtype
    assert process.q_step(x0, t, x0, S).dtype == dtype
    assert all(part.dtype == dtype for part in process.posterior(x0, x0, t, S))


CALLS = {
    "q_step": lambda x, t, y: process.q_step(x, t, y, S),
    "q_sample": lambda x, t, y: process.q_sample(x, t, y, S),
    "posterior": lambda x, t, y: process.posterior(x, y, t, S),
    "predict_x0": lambda x, t, y: process.predict_x0(x, t, y, S),
    "predict_noise": lambda x, t, y: process.predict_noise(x, t, y, S),
    "noise_to_score": lambda x, t, y: process.noise_to_score(x, t, S),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    ("t", "message"),
    [
        (torch.tensor([0, 50]), r"t: expected 0\.\.49, came 0\.\.50"),
        (torch.tensor([-1, 5]), r"t: expected 0\.\.49, came -1\.\.5"),
        (torch.tensor([0.0, 5.0]), r"t: expected int64 .*float32"),
        (torch.tensor([0, 5], dtype=torch.int32), r"t: expected int64 .*int32"),
        (torch.tensor([0, 5, 6]), r"t: .*\(2,\).*\(3,\)"),
        (torch.tensor(3), r"t: .*\(2,\).*\(\)"),
    ],
)
def test_a_bad_t_is_named(name, t, message, no_typecheck):
    x = torch.zeros(2, 3, 4)
    with pytest.raises(ValueError, match=message):
        CALLS[name](x, t, x)


@pytest.mark.parametrize("name", [n for n in CALLS if n != "noise_to_score"])
def test_shapes_that_differ_are_named(name, no_typecheck):
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(2, 1\)"):
        CALLS[name](torch.zeros(2, 3), torch.tensor([0, 1]), torch.zeros(2, 1))
