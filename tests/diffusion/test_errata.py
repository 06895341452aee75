"""Where the lectures as transcribed are off: the printed value and the right one, both computed.

A test per row of the list of errata that has a number. Lines are those of lectures 001, 002, 004.
The toy is the list's own where that is known: x_0 = 0.7, x_t = -0.3 and Ho's schedule.
"""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from torch.distributions import Normal

from course.data.toy import GaussianMixture
from course.diffusion import bound, process, schedule
from course.diffusion.exact import MixtureDenoiser, sampled_gaussian
from course.metrics.frechet import frechet_distance
from course.metrics.inception import inception_score

HO = schedule.linear()
COARSE = schedule.linear(8, 0.05, 0.5)
T = 300  # an index in the middle of Ho's schedule
KEPT, BEFORE, ALPHA, BETA = (
    table[T].item() for table in (HO.alpha_bar, HO.alpha_bar_prev, HO.alpha, HO.beta)
)


def one(value):
    return torch.tensor([[value]], dtype=torch.float64)


def draws(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def far(printed, right, by=0.01):
    return abs(printed - right) > by * abs(right)


def test_001_line_359_lost_x0():
    mean = process.q_sample(one(0.7), torch.tensor([T]), one(0.0), HO).item()
    chain = one(0.7)
    for t in range(T + 1):
        chain = process.q_step(chain, torch.tensor([t]), one(0.0), HO)
    assert mean == pytest.approx(chain.item(), rel=1e-12)
    assert far(math.sqrt(KEPT), mean)


def test_001_line_364_adds_a_variance_to_itself():
    first, second = HO.alpha[11] * HO.beta[10], HO.beta[11]
    right = 1 - HO.alpha[11] * HO.alpha[10]
    assert (first + second).item() == pytest.approx(right.item(), rel=1e-12)
    assert far((2 * first).item(), right.item())


def test_001_line_368_prints_a_last_beta_ten_times_too_large():
    assert schedule.scaled_linear().alpha_bar[-1].item() == pytest.approx(0.00466, rel=1e-3)
    printed = schedule.scaled_linear(beta_end=0.12).alpha_bar[-1].item()
    assert printed == pytest.approx(2.0e-20, rel=0.1)
    # "Quadratic" is linear in the root of beta, and no such curve is Ho's.
    root = schedule.scaled_linear().beta.sqrt().diff()
    assert (root - root[0]).abs().max() < 1e-12
    assert HO.beta.sqrt().diff().std() > 1e-6


def test_001_line_385_takes_alpha_for_alpha_bar():
    """E4: with alpha, the product of the three factors is no density of x_{t-1}."""
    x0, xt, grid = 0.7, -0.3, torch.linspace(-6, 6, 240_001, dtype=torch.float64)

    def log_total(mean_of_xt):
        log = Normal(ALPHA**0.5 * grid, BETA**0.5).log_prob(one(xt)).flatten()
        log = log + Normal(BEFORE**0.5 * x0, (1 - BEFORE) ** 0.5).log_prob(grid)
        log = log - Normal(mean_of_xt, (1 - KEPT) ** 0.5).log_prob(one(xt)).item()
        return (torch.logsumexp(log, 0) + math.log(12 / 240_000)).item()

    assert log_total(KEPT**0.5 * x0) == pytest.approx(0, abs=1e-6)
    assert abs(log_total(ALPHA**0.5 * x0)) > 0.01


def test_001_lines_387_and_389_square_and_invert_the_variance():
    mean, variance = process.posterior(one(0.7), one(-0.3), torch.tensor([T]), HO)
    mean, variance = mean.item(), variance.item()
    grid = mean + torch.linspace(-0.2, 0.2, 5, dtype=torch.float64)
    log = Normal(ALPHA**0.5 * grid, BETA**0.5).log_prob(one(-0.3)).flatten()
    log = log + Normal(BEFORE**0.5 * 0.7, (1 - BEFORE) ** 0.5).log_prob(grid)
    log = log - log[2]

    def shape(spread):
        return -0.5 * (grid - mean).square() / spread

    torch.testing.assert_close(log, shape(variance), rtol=1e-6, atol=1e-9)
    assert (shape(variance**2) - log).abs().max() > 0.01
    assert (shape(1 / variance) - log).abs().max() > 0.01


def bayes(i, x0, xt, noise_schedule=COARSE):
    """Mean and variance of q(x_{t-1} | x_t, x_0) on a grid."""
    grid = torch.linspace(-10, 10, 400_001, dtype=torch.float64)
    before, alpha = noise_schedule.alpha_bar_prev[i].item(), noise_schedule.alpha[i].item()
    log = Normal(alpha**0.5 * grid, (1 - alpha) ** 0.5).log_prob(one(xt)).flatten()
    log = log + Normal(before**0.5 * x0, (1 - before) ** 0.5).log_prob(grid)
    weight = torch.softmax(log, 0)
    mean = (weight * grid).sum()
    return mean.item(), (weight * (grid - mean).square()).sum().item()


def test_001_lines_396_401_and_497_and_004_line_1198_lost_bars():
    i, x0, xt = 4, 0.7, -0.3
    kept, before = COARSE.alpha_bar[i].item(), COARSE.alpha_bar_prev[i].item()
    alpha, beta = COARSE.alpha[i].item(), COARSE.beta[i].item()
    noise = (xt - kept**0.5 * x0) / (1 - kept) ** 0.5
    mean, variance = bayes(i, x0, xt)
    got_mean, got_variance = process.posterior(one(x0), one(xt), torch.tensor([i]), COARSE)
    assert got_mean.item() == pytest.approx(mean, abs=1e-7)
    assert got_variance.item() == pytest.approx(variance, rel=1e-5)
    right = (xt - (1 - alpha) / (1 - kept) ** 0.5 * noise) / alpha**0.5
    assert right == pytest.approx(mean, abs=1e-7)

    assert far((1 - before) / (1 - alpha) * beta, variance)  # line 396
    of_xt, of_x0 = alpha**0.5 * (1 - before), before**0.5 * beta
    for printed in (
        (of_xt * xt + of_x0 * x0) / (1 - alpha),  # line 401, the denominators
        (xt - (1 - kept) / (1 - kept) ** 0.5 * noise) / alpha**0.5,  # line 401, the result
        (xt - (1 - alpha) / (1 - kept) ** 0.5 * noise) / kept**0.5,  # line 497
        ((before * beta) ** 0.5 * x0 + of_xt * xt) / (1 - kept),  # 004, line 1198
    ):
        assert far(printed, mean)
    following = COARSE.alpha_bar[i + 1].item()
    assert far((1 - following) / (1 - kept) * beta, variance)  # line 497, the variance
    assert far((xt - (1 - kept) ** 0.5 * noise) / alpha**0.5, x0)  # line 401, x_0
    assert (xt - (1 - kept) ** 0.5 * noise) / kept**0.5 == pytest.approx(x0)


def test_001_lines_424_to_434_and_004_line_1238_scale_the_noise_wrongly():
    """E2: with the exact eps, the printed step shrinks N(2, 0.5^2) to a spread of 0.175."""
    mean, variance = 2.0, 0.25
    ratios = [((1 - HO.alpha_bar[t]) / (1 - HO.alpha[t])).sqrt().item() for t in (0, 9, 299, 999)]
    assert ratios == pytest.approx([1.0, 2.6, 10, 7.1], rel=0.03)

    def run(coefficient):
        m, v = 0.0, 1.0
        for i in range(999, -1, -1):
            kept, alpha, beta = (x[i].item() for x in (HO.alpha_bar, HO.alpha, HO.beta))
            gain = (1 - kept) ** 0.5 / (kept * variance + 1 - kept)
            c = coefficient(kept, alpha)
            slope = (1 - c * gain) / alpha**0.5
            m = slope * m + c * gain * kept**0.5 * mean / alpha**0.5
            v = slope**2 * v + (beta if i else 0)
        return m, v**0.5

    right = run(lambda kept, alpha: (1 - alpha) / (1 - kept) ** 0.5)
    m, v = sampled_gaussian(mean, variance, HO, method="beta")
    assert right == pytest.approx((m, v**0.5), rel=1e-9)
    assert right == pytest.approx((2.0, 0.5), abs=0.002)
    printed = run(lambda kept, alpha: (1 - alpha) / (1 - alpha) ** 0.5)
    assert printed[1] == pytest.approx(0.175, abs=0.005)


MIXTURE = GaussianMixture(
    torch.tensor([0.4, 0.6]), torch.tensor([[-1.0], [1.5]]), torch.tensor([[[0.2]], [[0.5]]])
)


def chains(n=60_000):
    """Forward chains, and log q and log p of every transition, for the exact denoiser."""
    denoiser = MixtureDenoiser(MIXTURE, COARSE)
    x0, _ = MIXTURE.sample(n, torch.Generator().manual_seed(0), torch.float64)
    x, log_q, log_p = x0, [], []
    for t in range(len(COARSE)):
        index = torch.full((n,), t)
        after = process.q_step(x, index, draws(n, 1, seed=t + 1), COARSE)
        log_q.append(Normal(COARSE.alpha[t].sqrt() * x, COARSE.beta[t].sqrt()).log_prob(after))
        eps = denoiser(after, index)
        mean, _ = process.posterior(
            process.predict_x0(after, index, eps, COARSE), after, index, COARSE
        )
        log_p.append(Normal(mean, COARSE.beta[t].sqrt()).log_prob(x))
        x = after
    prior = Normal(0.0, 1.0).log_prob(x)
    return x0, torch.stack(log_q), torch.stack(log_p), prior


def test_001_lines_442_to_471_bound_the_likelihood():
    x0, log_q, log_p, prior = chains()
    n = len(x0)
    entropy = -MIXTURE.log_prob(x0).mean().item()
    loss = (log_q.sum(0) - log_p.sum(0) - prior).flatten()
    error = 4 * loss.std().item() / math.sqrt(n)
    # Line 442: L is minus the ELBO: above -log p, to be minimised.
    assert loss.mean().item() > entropy
    assert -loss.mean().item() < -entropy
    # Lines 455-457: the product goes to T; with one factor fewer it is another number.
    lost = (log_q.sum(0) - log_p[:-1].sum(0) - prior).flatten() - loss
    assert abs(lost.mean().item()) > 5 * lost.std().item() / math.sqrt(n)
    # Lines 459-471: what telescopes is q(x_T|x_0)/q(x_1|x_0), and L_0 = -log p(x_0|x_1).
    terms = bound.variational_bound(
        MixtureDenoiser(MIXTURE, COARSE), x0, COARSE, torch.Generator().manual_seed(9)
    )
    total = terms["total"]
    error += 4 * total.std().item() / math.sqrt(n)
    assert total.mean().item() == pytest.approx(loss.mean().item(), abs=error)
    lost = terms["prior"] + terms["steps"].sum(1) - total
    assert abs(lost.mean().item()) > 5 * lost.std().item() / math.sqrt(n)


def test_001_line_489_gives_the_decoder_x0_in_place_of_x1():
    """What is to be decoded is x_1: with x_0 itself in its place the term is too small."""
    denoiser = MixtureDenoiser(MIXTURE, COARSE)
    x0, _ = MIXTURE.sample(20_000, torch.Generator().manual_seed(0), torch.float64)
    right = bound.decoder_term(denoiser, x0, draws(20_000, 1), COARSE).mean().item()
    index = torch.zeros(len(x0), dtype=torch.int64)
    eps = denoiser(x0, index)
    mean = process.predict_x0(x0, index, eps, COARSE)
    printed = -Normal(mean, COARSE.beta[0].sqrt()).log_prob(x0).mean().item()
    assert far(printed, right, by=0.05)


def test_001_lines_505_and_539_square_the_norm_of_a_matrix():
    """The KL divergence of two normals of variance s2 I is |difference|^2 / (2 s2)."""
    d, s2 = 3, 0.09
    a, b = draws(d), draws(d, seed=1)
    p, q = (torch.distributions.MultivariateNormal(m, s2 * torch.eye(d).double()) for m in (a, b))
    kl = torch.distributions.kl_divergence(p, q).item()
    square = (a - b).square().sum().item()
    assert kl == pytest.approx(square / (2 * s2))
    assert far(square / (2 * torch.linalg.matrix_norm(s2 * torch.eye(d)).item() ** 2), kl)


def test_001_line_543_draws_t_from_one_too_many():
    """t in 0..T has T + 1 values; the paper's 1..T are our 0..T-1."""
    with pytest.raises(ValueError, match=r"t: expected 0\.\.999, came 0\.\.1000"):
        process.q_sample(torch.zeros(2, 1), torch.tensor([0, 1000]), torch.zeros(2, 1), HO)
    process.q_sample(torch.zeros(2, 1), torch.tensor([0, 999]), torch.zeros(2, 1), HO)


def test_001_line_576_means_beta_or_beta_tilde():
    """Both ends bracket the right variance: exact for standard normal data, and for one point."""
    # Data N(0, 1): q(x_{t-1} | x_t) has variance beta_t. Data at a point: beta-tilde_t.
    i = 5
    alpha, beta = COARSE.alpha[i].item(), COARSE.beta[i].item()
    joint = torch.tensor([[1.0, alpha**0.5], [alpha**0.5, 1.0]])
    assert (joint[0, 0] - joint[0, 1] ** 2 / joint[1, 1]).item() == pytest.approx(beta, rel=1e-6)
    _, variance = bayes(i, 0.7, -0.3)
    assert COARSE.posterior_variance[i].item() == pytest.approx(variance, rel=1e-5)


def test_001_line_596_integrates_p_of_y_without_p_of_x():
    """p(y) is the mean over generated pictures: 300 of one class and 1 of another are not even."""
    p = torch.eye(2).repeat_interleave(torch.tensor([300, 1]), 0)
    entropy = torch.distributions.Categorical(p.mean(0)).entropy().exp().item()
    assert inception_score(p) == pytest.approx(entropy)
    assert far(2.0, inception_score(p))  # each distinct picture counted once


def test_001_line_619_needs_the_root_of_the_matrix():
    a, b = torch.tensor([[4.0, 1.5], [1.5, 1.0]]), torch.tensor([[1.0, -0.6], [-0.6, 2.0]])
    zero = torch.zeros(2)
    product = (a @ b).numpy()
    right = np.trace((a + b).numpy() - 2 * scipy.linalg.sqrtm(product).real)
    printed = np.trace((a + b).numpy() - 2 * np.sqrt(np.abs(product)))
    assert frechet_distance(zero, a, zero, b) == pytest.approx(right, rel=1e-5)
    assert far(printed, right)


@pytest.mark.parametrize("sigma", [0.0, 0.2])
def test_001_line_676_divides_where_it_should_multiply(sigma):
    """E6: with the printed mean x_{t-1} would not have the marginal's variance."""
    kept, before, n = 0.3, 0.5, 200_000
    x0 = torch.full((n,), 0.7, dtype=torch.float64)
    xt = kept**0.5 * x0 + (1 - kept) ** 0.5 * draws(n)
    noise, room = sigma * draws(n, seed=1), (1 - before - sigma**2) ** 0.5
    direction = xt - kept**0.5 * x0
    right = before**0.5 * x0 + room * direction / (1 - kept) ** 0.5 + noise
    assert right.var().item() == pytest.approx(1 - before, rel=0.02)
    printed = before**0.5 * x0 + direction / room + noise
    assert printed.var().item() > 2 * (1 - before)


def test_001_line_702_prints_another_root():
    """E7: eta = 1 has the posterior's variance."""
    i = 4
    kept, before = COARSE.alpha_bar[i].item(), COARSE.alpha_bar_prev[i].item()
    right = (1 - before) / (1 - kept) * (1 - kept / before)
    assert right == pytest.approx(COARSE.posterior_variance[i].item(), rel=1e-12)
    printed = (1 - before) / (1 - kept) * (1 - kept) / before
    assert far(printed, right)
    # With the numbers of the list: printed 1.0 leaves no room, 1 - alpha_bar_{t-1} - sigma^2 < 0.
    assert pytest.approx(0.2857, abs=1e-4) == (1 - 0.5) / (1 - 0.3) * (1 - 0.3 / 0.5)
    assert 1 - 0.5 - (1 - 0.5) / (1 - 0.3) * (1 - 0.3) / 0.5 < 0


def test_001_line_708_sigma_hat_is_the_root_of_beta():
    few = HO.respace(10)
    hat = 1 - few.alpha_bar / few.alpha_bar_prev
    torch.testing.assert_close(hat, few.beta)
    assert (hat[1:] > few.posterior_variance[1:]).all()
    assert pytest.approx(0.4) == 1 - 0.3 / 0.5


def test_001_section_5_1_calls_alpha_bar_alpha():
    """Read with alpha_t = 1 - beta_t the formulas of the section are others."""
    i, x0, noise = T, 0.7, 0.4
    right = process.q_sample(one(x0), torch.tensor([i]), one(noise), HO).item()
    assert KEPT**0.5 * x0 + (1 - KEPT) ** 0.5 * noise == pytest.approx(right)
    assert far(ALPHA**0.5 * x0 + (1 - ALPHA) ** 0.5 * noise, right)


def test_001_line_764_misplaces_a_bracket():
    """E10: beta-tilde / beta = (1 - alpha_bar_{t-1}) / (1 - alpha_bar_t), between 0 and 1."""
    ratio = HO.posterior_variance / HO.beta
    listed = [0, 0.455, 0.853, 0.982, 0.999999]
    assert ratio[[0, 1, 9, 99, 999]].tolist() == pytest.approx(listed, abs=6e-4)
    printed = (1 - BEFORE * BETA) / (1 - KEPT)
    assert far(printed, HO.posterior_variance[T].item())


def test_001_line_815_weighs_sampled_losses():
    """E9: dividing by p_t keeps the mean; p_t ~ sqrt(E[L_t^2]) makes the variance smallest."""
    loss = torch.rand(20, generator=torch.Generator().manual_seed(0)).double() ** 4 + 0.01
    for power in (0.5, 1.0, 2.0):
        p = loss**power / (loss**power).sum()
        assert (p * loss / p).sum().item() == pytest.approx(loss.sum().item())

    def variance(p):
        return (loss.square() / p).sum().item() - loss.sum().item() ** 2

    root = loss / loss.sum()  # sqrt of the second moment of losses without noise
    printed = loss.square() / loss.square().sum()
    assert variance(root) == pytest.approx(0, abs=1e-9)
    assert variance(printed) > 0.1


def test_001_lines_829_to_843_look_the_wrong_way():
    """E8: betas between kept steps come from the step before, not the one after."""
    kept = [0, 250, 500, 750, 999]
    alpha_bar = HO.alpha_bar[kept]
    made = HO.respace(kept)
    assert ((made.beta > 0) & (made.beta < 1)).all()
    assert made.alpha.prod().item() == pytest.approx(alpha_bar[-1].item(), rel=1e-12)
    printed = 1 - alpha_bar[:-1] / alpha_bar[1:]
    assert (printed < 0).all()
    assert printed[0].item() == pytest.approx(-0.92, abs=0.01)
    # Line 843: with alpha in place of alpha-bar the product is not alpha_bar_T either.
    of_alphas = HO.alpha[kept][1:] / HO.alpha[kept][:-1]
    assert far(of_alphas.prod().item(), alpha_bar[-1].item())


def regression_targets():
    """x = x0 + s eps: the best linear predictors of eps and of -eps from x, and the score."""
    spread, s, n = 1.3, 0.7, 200_000
    x0, eps = spread * draws(n), draws(n, seed=1)
    x = x0 + s * eps
    of_eps = (x * eps).mean().item() / x.square().mean().item()
    return of_eps, s, -1 / (spread**2 + s**2)


def test_002_lines_187_and_195_differ_in_sign_and_scale():
    """E22: the minimiser of |eps + f|^2 is sigma times the score, that of |eps - f|^2 minus it."""
    of_eps, s, score = regression_targets()
    assert -of_eps == pytest.approx(s * score, rel=0.02)
    assert far(-of_eps, score, by=0.1)
    assert of_eps == pytest.approx(-s * score, rel=0.02)


def test_002_line_187_the_noise_of_dx_is_an_integral():
    """E23: dx = s^t dw from 0 to t has standard deviation sqrt((s^2t - 1) / (2 ln s))."""
    s, n, steps = 25.0, 20_000, 400
    for t, listed in ((0.5, 1.93), (1.0, 9.85)):
        right = math.sqrt((s ** (2 * t) - 1) / (2 * math.log(s)))
        assert right == pytest.approx(listed, rel=2e-3)
        dt, x = t / steps, torch.zeros(n, dtype=torch.float64)
        for i in range(steps):
            x = x + s ** ((i + 0.5) * dt) * dt**0.5 * draws(n, seed=i)
        assert x.std().item() == pytest.approx(right, rel=0.03)
        assert far(s**t, right, by=1)


def test_002_line_142_explodes_where_stable_diffusion_preserves():
    """A4: x / sqrt(alpha_bar) has noise sqrt((1 - alpha_bar) / alpha_bar) on the data itself."""
    sd = schedule.scaled_linear()
    sigma = ((1 - sd.alpha_bar) / sd.alpha_bar).sqrt()
    assert sigma[[0, 999]].tolist() == pytest.approx([0.02917, 14.615], rel=1e-3)
    x0, noise, t = one(0.7), one(0.4), torch.tensor([T])
    xt = process.q_sample(x0, t, noise, sd)
    exploding = xt / process.signal(sd, t, xt)
    torch.testing.assert_close(exploding, x0 + sigma[T] * noise)
    torch.testing.assert_close(sigma, sd.snr.rsqrt())


def test_002_line_160_runs_backwards():
    """dx = -(x/2) dt + dw keeps N(0, 1). Backwards in tau = T - t the drift changes its sign."""
    n, steps, dt = 20_000, 400, 0.005
    start = torch.tensor(0.16).double()  # variance of data that is N(0, 0.4^2)

    def variance(t):
        return start * math.exp(-t) + 1 - math.exp(-t)

    total = steps * dt

    def back(sign):
        x = variance(total).sqrt() * draws(n)
        for i in range(steps):
            score = -x / variance(total - i * dt)
            drift = -x / 2 - score  # f - g^2 score, of the reverse SDE
            x = x + sign * drift * dt + dt**0.5 * draws(n, seed=i + 1)
        return x.var().item()

    assert back(-1) == pytest.approx(start.item(), rel=0.06)
    assert not back(+1) < 10


def test_002_line_239_forgets_the_step_sizes_of_langevin():
    """z + eta score + sqrt(2 eta) noise has the density as its limit; z + score + noise has not."""
    n, variance = 20_000, 0.3

    def run(eta, gain):
        z = draws(n)
        for i in range(300):
            z = z - eta * z / variance + gain * draws(n, seed=i + 1)
        return z.var().item()

    assert run(0.01, math.sqrt(0.02)) == pytest.approx(variance, rel=0.06)
    assert not run(1.0, 1.0) < 100 * variance


def test_004_line_1226_weights_are_not_very_large():
    weight = bound.loss_weight(HO)
    assert weight[[0, 9, 999]].tolist() == pytest.approx([0.5, 0.0737, 0.0102], rel=5e-3)
    assert (weight[0] / weight[-1]).item() == pytest.approx(49, rel=0.02)
    assert bound.loss_weight(HO, "posterior")[0].item() == math.inf


def test_004_line_1238_adds_noise_at_the_last_step():
    """It adds a standard deviation of sqrt(beta_1) = 0.01: .4987 against .4986 in the list."""
    variance = sampled_gaussian(2.0, 0.25, HO, method="posterior")[1]
    loud = variance + HO.beta[0].item()
    assert HO.beta[0].sqrt().item() == pytest.approx(0.01)
    assert loud**0.5 - variance**0.5 == pytest.approx(1e-4, rel=0.05)
