"""Guidance by a classifier, where densities, classifier and both predictions are closed forms."""

import pytest
import torch
from torch import nn

from course.data.toy import GaussianMixture
from course.diffusion import schedule
from course.diffusion.exact import MixtureDenoiser
from course.diffusion.guidance import class_gradient, classifier_free, classifier_guided
from course.diffusion.sampling import ddim, ddpm, ddpm_step
from course.models.attention import Context

S = schedule.linear(100, 1e-3, 0.1)
NONE = 3
EXACT = {"rtol": 0, "atol": 1e-10}


def draws(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def three():
    """Three classes in the plane, each a Gaussian."""
    covariances = torch.tensor(
        [[[1.0, 0.6], [0.6, 0.5]], [[0.3, 0], [0, 0.4]], [[0.2, -0.1], [-0.1, 0.9]]]
    )
    means = torch.tensor([[1.0, -2], [0, 1], [-1, 0]])
    return GaussianMixture(torch.tensor([0.25, 0.6, 0.15]), means, covariances)


class Known:
    """A mixture whose components are the classes: what a U-Net and a classifier would learn."""

    def __init__(self, mixture, steps):
        self.weights = mixture.weights
        parts = zip(mixture.means, mixture.covariances, strict=True)
        one = torch.ones(1, dtype=torch.float64)
        self.parts = [
            MixtureDenoiser(GaussianMixture(one, m[None], c[None]), steps) for m, c in parts
        ]
        self.whole = MixtureDenoiser(mixture, steps)

    def model(self, xt, t, context=None):
        told = Context.of(context).added
        rows = []
        for i in range(len(xt)):
            row = slice(i, i + 1)
            whole = told is None or told[i] == len(self.parts)
            rows.append((self.whole if whole else self.parts[told[i]])(xt[row], t[row]))
        return torch.cat(rows)

    def classifier(self, xt, t):
        """log p(y) + log p(x_t | y), without the constant log p(x_t)."""
        return torch.stack(
            [
                torch.stack(
                    [
                        weight.log() + part.marginal(int(t[i])).log_prob(xt[i : i + 1])[0]
                        for weight, part in zip(self.weights, self.parts, strict=True)
                    ]
                )
                for i in range(len(xt))
            ]
        )


KNOWN = Known(three(), S)
X, T = 2 * draws(6, 2), torch.tensor([0, 99, 5, 60, 1, 30])
LABELS = torch.tensor([2, 0, 1, 1, 0, 2])
NULL = torch.full_like(LABELS, NONE)


def test_at_scale_one_it_is_the_prediction_of_the_class():
    guided = classifier_guided(KNOWN.model, class_gradient(KNOWN.classifier, LABELS), S)
    torch.testing.assert_close(guided(X, T), KNOWN.model(X, T, LABELS), **EXACT)
    unguided = classifier_guided(KNOWN.model, class_gradient(KNOWN.classifier, LABELS, 0), S)
    torch.testing.assert_close(unguided(X, T), KNOWN.model(X, T), **EXACT)


@pytest.mark.parametrize(
    "scale", [0, 1, 2.5, -0.5, torch.tensor([0.0, 1.0, 3.7, 0.2, -1.0, 9.0], dtype=torch.float64)]
)
def test_both_kinds_of_guidance_agree_at_all_scales(scale):
    """As log p(y | x) = log p(x | y) - log p(x) + a constant."""
    by_classifier = classifier_guided(
        KNOWN.model, class_gradient(KNOWN.classifier, LABELS, scale), S
    )
    without_one = classifier_free(KNOWN.model, LABELS, NULL, scale)
    torch.testing.assert_close(by_classifier(X, T), without_one(X, T), **EXACT)


def test_the_context_goes_on_to_the_model():
    """As in the source, where a conditional model is guided, too: the class counts twice."""
    guided = classifier_guided(KNOWN.model, class_gradient(KNOWN.classifier, LABELS), S)
    want = classifier_free(KNOWN.model, LABELS, NULL, 2)(X, T)
    torch.testing.assert_close(guided(X, T, LABELS), want, **EXACT)


def test_a_respaced_schedule_draws_what_the_conditional_model_draws():
    few, xT = S.respace(13), draws(6, 2, seed=1)
    guided = classifier_guided(KNOWN.model, class_gradient(KNOWN.classifier, LABELS), S)
    want = ddim(KNOWN.model, xT, few, context=LABELS)
    torch.testing.assert_close(ddim(guided, xT, few), want, **EXACT)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.dropout = nn.Linear(2, 5).double(), nn.Dropout(0.5)

    def forward(self, xt, t):
        return self.dropout(self.layer(xt.sin())) * t[:, None]


def test_the_gradient_is_with_respect_to_the_picture_and_to_nothing_else():
    torch.manual_seed(0)
    net, labels = Net().eval(), torch.tensor([4, 0, 2])
    x, t = draws(3, 2).requires_grad_(), torch.tensor([1, 2, 3])
    net.layer.bias.grad = torch.full((5,), 7.0, dtype=torch.float64)
    with torch.no_grad():
        got = class_gradient(net, labels, 2.0)(x, t)
    assert x.grad is None
    assert net.layer.weight.grad is None
    assert torch.equal(net.layer.bias.grad, torch.full((5,), 7.0).double())
    assert not got.requires_grad
    plain = x.detach().clone()
    assert torch.equal(class_gradient(net, labels, 2.0)(plain, t), got)
    assert not plain.requires_grad
    step = 1e-6
    for i, j in ((0, 0), (0, 1), (1, 0), (2, 1)):
        ends = []
        for sign in (1, -1):
            moved = x.detach().clone()
            moved[i, j] += sign * step
            ends.append(net(moved, t).softmax(1)[i, labels[i]].log())
        want = 2 * (ends[0] - ends[1]) / (2 * step)
        assert got[i, j].item() == pytest.approx(want.item(), rel=1e-6)


def test_a_scale_of_each_sample():
    scales = torch.tensor([0.0, 1.0, 3.7, 0.2, -1.0, 9.0], dtype=torch.float64)
    together = class_gradient(KNOWN.classifier, LABELS, scales)(X, T)
    for i, scale in enumerate(scales.tolist()):
        row = slice(i, i + 1)
        alone = class_gradient(KNOWN.classifier, LABELS[row], scale)(X[row], T[row])
        torch.testing.assert_close(together[row], alone, **EXACT)


@pytest.mark.parametrize("variance", ["beta", "posterior"])
def test_a_step_moves_its_mean_by_its_variance_times_the_gradient(variance):
    xt, eps, noise, gradient = (draws(4, 3, 2, seed=i) for i in range(4))
    few = S.respace(20)
    for i in (0, 1, 7, 19):
        kept, before = few.alpha_bar[i], few.alpha_bar[i - 1] if i else 1.0
        beta = 1 - kept / before
        sigma2 = beta if variance == "beta" else beta * (1 - before) / (1 - kept)
        mean = (xt - beta / (1 - kept) ** 0.5 * eps) / (1 - beta) ** 0.5
        want = mean + sigma2 * gradient + (sigma2**0.5 * noise if i else 0)
        got = ddpm_step(xt, i, eps, few, noise, variance=variance, gradient=gradient)
        torch.testing.assert_close(got, want, **EXACT)


def test_ddpm_asks_for_the_gradient_at_every_x_and_its_time():
    few, seen = S.respace(7), []

    def gradient(xt, t):
        seen.append((xt, t))
        return torch.ones_like(xt)

    def run(**guide):
        generator = torch.Generator().manual_seed(0)
        return ddpm(KNOWN.model, X, few, generator, trajectory=True, **guide)

    guided, plain = run(gradient=gradient), run()
    assert torch.equal(torch.stack([x for x, _ in seen]), guided.xt[:-1])
    times = [[t] * len(X) for t in few.timesteps.flip(0).tolist()]
    assert [t.tolist() for _, t in seen] == times
    want = plain.xt[1] + few.beta[-1]
    torch.testing.assert_close(guided.xt[1], want, **EXACT)


def test_how_far_the_tilted_prediction_is_from_algorithm_1():
    xt, eps, noise, gradient = (draws(4, 2, seed=i) for i in range(4))
    tilted = classifier_guided(lambda *_: eps, lambda *_: gradient, S)
    for i in (0, 1, 40, 99):
        beta, sigma2 = S.beta[i], S.posterior_variance[i]
        moved = tilted(xt, torch.full((4,), i))
        for variance, exact in (("beta", beta), ("posterior", sigma2)):
            by_prediction = ddpm_step(xt, i, moved, S, noise, variance=variance)
            by_mean = ddpm_step(xt, i, eps, S, noise, variance=variance, gradient=gradient)
            factor = beta / (1 - beta) ** 0.5
            torch.testing.assert_close(
                by_prediction - by_mean, (factor - exact) * gradient, **EXACT
            )
        assert abs(factor / beta - 1 - beta / 2) < beta**2


# One number x_0 of a normal distribution, and y = SLOPE x_0 + normal noise: all is normal.
MEAN, VARIANCE, SLOPE, NOISE, Y = 0.5, 1.5, 1.2, 0.6, 2.0


def likelihood(steps, scale):
    """s grad log p(y | x_t) is linear in x_t: intercept and slope at a step's level."""

    def line(kept):
        gain = kept**0.5 * VARIANCE / (kept * VARIANCE + 1 - kept)  # of E[x_0 | x_t] in x_t
        rest = VARIANCE - gain * kept**0.5 * VARIANCE
        weight = scale * SLOPE * gain / (SLOPE**2 * rest + NOISE)
        at_zero = MEAN - gain * kept**0.5 * MEAN
        return weight * (Y - SLOPE * at_zero), -weight * SLOPE * gain

    def gradient(xt, t):
        intercept, slope = line(steps.alpha_bar[t][:, None])
        return intercept + slope * xt

    return line, gradient


def posterior():
    variance = 1 / (1 / VARIANCE + SLOPE**2 / NOISE)
    return variance * (MEAN / VARIANCE + SLOPE * Y / NOISE), variance


def normal(mean, variance, steps):
    one = torch.ones(1, 1, dtype=torch.float64)
    return MixtureDenoiser(GaussianMixture(one[0], mean * one, variance * one[None]), steps)


def test_ddim_guided_by_a_likelihood_draws_from_the_posterior():
    steps = schedule.linear()
    guided = classifier_guided(normal(MEAN, VARIANCE, steps), likelihood(steps, 1.0)[1], steps)
    mean, variance = posterior()
    xT = torch.tensor([[-1.0], [0.0], [2.0]], dtype=torch.float64)
    drawn = ddim(guided, xT, steps)
    want = ddim(normal(mean, variance, steps), xT, steps)
    torch.testing.assert_close(drawn, want, **EXACT)
    torch.testing.assert_close(drawn, mean + variance**0.5 * xT, rtol=0, atol=0.01)


def recursion(steps, variance, scale):
    """Mean and variance of what Algorithm 1 draws: every step is linear in x_t."""
    line, _ = likelihood(steps, scale)
    mean, spread = 0.0, 1.0
    for i in reversed(range(len(steps))):
        kept, beta = steps.alpha_bar[i].item(), steps.beta[i].item()
        sigma2 = beta if variance == "beta" else steps.posterior_variance[i].item()
        score = -1 / (kept * VARIANCE + 1 - kept)
        intercept, slope = line(kept)
        a = (1 + beta * score) / (1 - beta) ** 0.5 + sigma2 * slope
        b = -beta * score * kept**0.5 * MEAN / (1 - beta) ** 0.5 + sigma2 * intercept
        mean, spread = a * mean + b, a**2 * spread + (sigma2 if i else 0)
    return mean, spread


@pytest.mark.parametrize("variance", ["beta", "posterior"])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_ddpm_guided_by_a_likelihood_has_the_moments_of_its_recursion(variance, scale):
    steps, n = schedule.linear(100, 1e-3, 0.1), 40_000
    generator, gradient = torch.Generator().manual_seed(0), likelihood(steps, scale)[1]
    model, xT = normal(MEAN, VARIANCE, steps), draws(n, 1, seed=1)
    drawn = ddpm(model, xT, steps, generator, variance=variance, gradient=gradient)
    mean, spread = recursion(steps, variance, scale)
    assert drawn.mean().item() == pytest.approx(mean, abs=4 * (spread / n) ** 0.5)
    assert drawn.var().item() == pytest.approx(spread, rel=4 * (2 / n) ** 0.5)


@pytest.mark.parametrize("variance", ["beta", "posterior"])
def test_in_many_steps_algorithm_1_is_bayes_rule(variance):
    errors = []
    for T in (250, 1000, 4000):
        found = recursion(schedule.linear(T, 0.02 / T, 20 / T), variance, 1.0)
        errors.append(max(abs(a / b - 1) for a, b in zip(found, posterior(), strict=True)))
    assert errors[0] > 3 * errors[1] > 9 * errors[2]
    assert errors[2] < 0.01


def test_guidance_draws_nothing_with_the_density_that_its_score_seems_to_have():
    """p(x) p(y | x)^s, made noisy, has another score than the noisy p(x) p(y | x)^s."""
    steps = schedule.linear()
    mixture = GaussianMixture(
        torch.full((2,), 0.5), torch.tensor([[-1.0], [1.0]]), 0.5 * torch.ones(2, 1, 1)
    )
    known = Known(mixture, steps)
    grid = torch.linspace(-8, 8, 4001, dtype=torch.float64)[:, None]
    right = known.parts[1].mixture.log_prob(grid)
    log_p = mixture.log_prob(grid)
    n = 400
    even = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    xT = torch.special.ndtri(even)[:, None]
    gaps = {}
    for scale in (1, 4):
        tilted = (log_p + scale * (right - log_p)).softmax(0)
        at = grid[torch.searchsorted(tilted.cumsum(0), even), 0]

        def model(xt, t, context=None, scale=scale):
            low, high = known.whole(xt, t), known.parts[1](xt, t)
            return low + scale * (high - low)

        drawn = ddim(model, xT, steps)[:, 0]
        gaps[scale] = (drawn - at).abs().mean().item()
    assert gaps[1] < 0.02
    assert gaps[4] > 0.2


def test_bad_arguments_are_named(no_typecheck):
    net, labels, x, t = Net().eval(), torch.tensor([4, 0]), draws(2, 2), torch.tensor([1, 2])
    nan = float("nan")
    for call, message in (
        (lambda: class_gradient(Net(), labels), "classifier: .*train mode"),
        (lambda: class_gradient(net, labels.double()), "labels: expected int64.*float64"),
        (lambda: class_gradient(net, labels[:, None]), "labels: "),
        (lambda: class_gradient(net, labels[:0]), "labels: "),
        (lambda: class_gradient(net, labels - 1), r"labels: .*-1"),
        (lambda: class_gradient(net, labels + 1)(x, t), r"labels: expected 0\.\.4, came 5"),
        (lambda: class_gradient(net, labels[:1])(x, t), "labels: expected 2, .* came 1"),
        (lambda: class_gradient(net, labels, nan), "guidance_scale: .*nan"),
        (lambda: class_gradient(net, labels, nan * torch.ones(2)), "guidance_scale: .*nan"),
        (lambda: class_gradient(net, labels, torch.ones(3))(x, t), "guidance_scale: .*came 3"),
        (lambda: classifier_guided(net, net, S.respace(7)), "schedule: .*respaced to 7"),
        (lambda: ddpm_step(x, 3, x, S, x, gradient=x[:1]), r"gradient: .*\(2, 2\), came \(1, 2\)"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
