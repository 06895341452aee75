"""The terms of the bound against torch.distributions, the direct bound and the exact likelihood."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from course.data.toy import GaussianMixture
from course.diffusion import bound, process, schedule
from course.diffusion.exact import MixtureDenoiser

S = schedule.linear(30, 0.01, 0.3)
BOTH = pytest.mark.parametrize("variance", ["beta", "posterior"])


def mixture():
    return GaussianMixture(
        torch.tensor([0.4, 0.6]), torch.tensor([[-1.0], [1.5]]), torch.tensor([[[0.2]], [[0.5]]])
    )


def draws(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def model(xt, t, context=None):
    """Not a good one."""
    return 0.6 * xt + t.reshape(-1, *[1] * (xt.ndim - 1)) / 100


def test_the_prior_term_is_a_kl_divergence():
    x0, kept = draws(4, 2, 3), S.alpha_bar[-1]
    q = Normal(kept.sqrt() * x0, (1 - kept).sqrt())
    want = kl_divergence(q, Normal(torch.zeros_like(x0), 1.0)).flatten(1).sum(1)
    torch.testing.assert_close(bound.prior_term(x0, S), want)


@BOTH
def test_a_step_term_is_a_kl_divergence(variance):
    x0, noise, t = draws(5, 2, 3), draws(5, 2, 3, seed=1), torch.tensor([1, 2, 9, 20, 29])
    xt = process.q_sample(x0, t, noise, S)
    true_mean, true_variance = process.posterior(x0, xt, t, S)
    kept, beta, alpha = (table[t][:, None, None] for table in (S.alpha_bar, S.beta, S.alpha))
    # Ho's equation 11.
    mean = (xt - beta / (1 - kept).sqrt() * model(xt, t)) / alpha.sqrt()
    sigma2 = beta if variance == "beta" else true_variance
    want = kl_divergence(Normal(true_mean, true_variance.sqrt()), Normal(mean, sigma2.sqrt()))
    got = bound.step_term(model, x0, t, noise, S, variance)
    torch.testing.assert_close(got, want.flatten(1).sum(1))


@BOTH
def test_lambda_is_the_weight_of_the_squared_error(variance):
    x0, noise, t = draws(4, 2, 3), draws(4, 2, 3, seed=1), torch.tensor([1, 5, 12, 29])
    weight = bound.loss_weight(S, variance)[t]
    xt = process.q_sample(x0, t, noise, S)
    weighted = weight * (noise - model(xt, t)).square().flatten(1).sum(1)
    ratio = S.posterior_variance[t] / bound.model_variance(S, variance)[t]
    constant = 6 * 0.5 * (ratio - 1 - ratio.log())
    got = bound.step_term(model, x0, t, noise, S, variance)
    torch.testing.assert_close(got, weighted + constant)
    if variance == "posterior":
        assert not constant.any()
    simple = bound.simple_loss(model, x0, t, noise, S)
    torch.testing.assert_close(6 * simple * weight, weighted)


def test_weights_of_ho():
    weight = bound.loss_weight(schedule.linear())
    assert weight[[0, 9, 999]].tolist() == pytest.approx([0.5, 0.0737, 0.0102], abs=1e-4)
    assert bound.loss_weight(schedule.linear(), "posterior")[0] == math.inf


def test_min_snr_weighs_the_error_of_x0_by_the_capped_snr():
    """|noise - eps_pred|^2 is SNR times |x0 - x0_pred|^2."""
    s, gamma = schedule.linear(), 5.0
    weight, t = bound.min_snr_weight(s, gamma), torch.tensor([0, 90, 200, 999])
    noise, eps_pred, xt = draws(4, 3), draws(4, 3, seed=1), draws(4, 3, seed=2)
    gap = process.predict_x0(xt, t, noise, s) - process.predict_x0(xt, t, eps_pred, s)
    want = s.snr[t].clamp(max=gamma)[:, None] * gap.square()
    got = weight[t][:, None] * (noise - eps_pred).square()
    torch.testing.assert_close(got / got.sum(), want / want.sum(), rtol=1e-10, atol=0)
    assert (s.snr[t] > gamma).tolist() == [True, True, False, False]
    assert weight.mean().item() == pytest.approx(1, rel=1e-12)
    torch.testing.assert_close(bound.min_snr_weight(s, math.inf), torch.ones(1000).double())


@pytest.mark.parametrize("levels", [2, 5, 256])
def test_the_decoder_is_a_distribution_over_levels(levels):
    values = torch.linspace(-1, 1, levels, dtype=torch.float64)
    # One noisy value, and all pictures of one pixel that may have been there.
    xt, kept = 0.3, S.alpha_bar[0]
    noise = (xt - kept.sqrt() * values) / (1 - kept).sqrt()
    loss = bound.decoder_term(model, values[:, None], noise[:, None], S, levels)
    assert loss.neg().exp().sum().item() == pytest.approx(1, abs=1e-9)
    mean = (xt - (1 - kept).sqrt() * 0.6 * xt) / kept.sqrt()
    p, half = Normal(mean, S.beta[0].sqrt()), 1 / (levels - 1)
    upper = torch.where(values > 1 - half, 1.0, p.cdf(values + half))
    lower = torch.where(values < -1 + half, 0.0, p.cdf(values - half))
    likely = upper - lower > 1e-9  # the difference of two values near 1 has no more digits
    torch.testing.assert_close(loss[likely], -(upper - lower)[likely].log(), rtol=1e-6, atol=1e-9)


def test_the_decoder_stays_finite_far_out():
    x0 = torch.tensor([[-1.0], [1.0], [-1.0], [1.0]])
    wild = torch.tensor([[40.0], [-40.0], [-40.0], [40.0]])
    loss = bound.decoder_term(lambda x, t, c: 0 * x, x0, wild, S, 256)
    assert loss.isfinite().all()
    assert (loss[:2] > 100).all()
    assert loss[2:].abs().max() < 1e-6


def test_the_decoder_as_a_density():
    x0, noise = draws(3, 2, 2), draws(3, 2, 2, seed=1)
    xt = process.q_sample(x0, torch.zeros(3, dtype=torch.int64), noise, S)
    kept = S.alpha_bar[0]
    mean = (xt - (1 - kept).sqrt() * 0.6 * xt) / kept.sqrt()
    want = -Normal(mean, S.beta[0].sqrt()).log_prob(x0).flatten(1).sum(1)
    torch.testing.assert_close(bound.decoder_term(model, x0, noise, S), want)


@BOTH
def test_the_telescoped_bound_is_the_direct_one(variance):
    """E5: log q(x_1:T | x_0) / p(x_0:T) over whole chains, against the sum of the terms."""
    n = 40_000
    denoiser = MixtureDenoiser(mixture(), S)
    x0, _ = mixture().sample(n, torch.Generator().manual_seed(0), torch.float64)
    sigma2 = bound.model_variance(S, variance).clone()
    if variance == "posterior":
        sigma2[0] = sigma2[1]
    x, direct = x0, torch.zeros(n, dtype=torch.float64)
    for t in range(30):
        index = torch.full((n,), t)
        after = process.q_step(x, index, draws(n, 1, seed=t), S)
        forward = Normal(S.alpha[t].sqrt() * x, S.beta[t].sqrt()).log_prob(after)
        eps = denoiser(after, index)
        mean = (after - S.beta[t] / (1 - S.alpha_bar[t]).sqrt() * eps) / S.alpha[t].sqrt()
        backward = Normal(mean, sigma2[t].sqrt()).log_prob(x)
        direct += (forward - backward).flatten()
        x = after
    direct -= Normal(0.0, 1.0).log_prob(x).flatten()
    terms = bound.variational_bound(
        denoiser, x0, S, torch.Generator().manual_seed(1), variance=variance
    )
    error = math.sqrt((direct.var().item() + terms["total"].var().item()) / n)
    gap = direct.mean().item() - terms["total"].mean().item()
    assert abs(gap) < 4 * error
    assert error < 0.02
    exact = -mixture().log_prob(x0).mean().item()
    assert (
        exact - 4 * error
        < terms["total"].mean().item()
        < exact + {"beta": 0.3, "posterior": 1.0}[variance]
    )


def test_the_parts_sum_up_and_have_their_shapes():
    x0 = draws(3, 2, 4).clamp(-1, 1).mul(2).round().div(2)
    terms = bound.variational_bound(model, x0, S, torch.Generator().manual_seed(2), levels=5)
    assert terms["steps"].shape == (3, 29)
    total = terms["prior"] + terms["steps"].sum(1) + terms["decoder"]
    torch.testing.assert_close(terms["total"], total)


def test_more_steps_bring_the_bound_nearer_to_the_likelihood():
    n = 20_000
    x0, _ = mixture().sample(n, torch.Generator().manual_seed(3), torch.float64)
    gaps = []
    for T in (5, 20, 80):
        s = schedule.cosine(T)
        terms = bound.variational_bound(
            MixtureDenoiser(mixture(), s), x0, s, torch.Generator().manual_seed(4)
        )
        gaps.append((terms["total"] + mixture().log_prob(x0)).mean().item())
    assert gaps[0] > 1.5 * gaps[1] > 1.5 * 1.5 * max(gaps[2], 0.0)


def test_bits_per_dimension():
    nats = torch.tensor([math.log(2) * 12, 0.0])
    torch.testing.assert_close(bound.bits_per_dimension(nats, 4), torch.tensor([3.0, 0.0]))
    # Eight bits: pixels that are uniform over 256 levels.
    assert bound.bits_per_dimension(torch.tensor([784 * math.log(256)]), 784).item() == (
        pytest.approx(8)
    )


def test_respaced_steps_are_named_to_the_model():
    few = S.respace([0, 10, 29])
    told = []

    def listens(xt, t, context):
        told.append(t.tolist())
        return xt

    bound.variational_bound(listens, draws(2, 1), few, torch.Generator())
    assert sorted(map(tuple, told)) == [(0, 0), (10, 10), (29, 29)]


def test_bad_arguments_are_named(no_typecheck):
    x0, t = torch.zeros(2, 3), torch.tensor([0, 1])
    for call, message in (
        (lambda: bound.loss_weight(S, "large"), "variance: .*'large'"),
        (lambda: bound.min_snr_weight(S, 0), "gamma: .*came 0"),
        (lambda: bound.step_term(model, x0, t, x0, S), r"t: expected 1\.\.29.*came 0"),
        (lambda: bound.step_term(model, x0, t + 29, x0, S), "t: "),
        (lambda: bound.simple_loss(model, x0, t, x0[:1], S), "noise: "),
        (lambda: bound.decoder_term(model, x0, x0, S, 1), "levels: .*came 1"),
        (lambda: bound.decoder_term(model, x0 + 0.1, x0, S, 3), "x0: .*3 levels"),
        (lambda: bound.bits_per_dimension(x0[:, 0], 0), "dimensions: "),
    ):
        with pytest.raises(ValueError, match=message):
            call()
