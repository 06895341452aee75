"""Samplers against closed forms, each other and diffusers."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from course.data.toy import GaussianMixture
from course.diffusion import schedule
from course.diffusion.exact import EmpiricalDenoiser, MixtureDenoiser, sampled_gaussian
from course.diffusion.sampling import ddim, ddim_encode, ddim_step, ddpm, ddpm_step

LINEAR = schedule.linear()
MEAN, VARIANCE = 2.0, 0.25
METHODS = {
    "ddim": ("ddim", {"eta": 0.0}),
    "ddim eta .6": ("ddim", {"eta": 0.6}),
    "ddpm beta": ("ddpm", {"variance": "beta"}),
    "ddpm posterior": ("ddpm", {"variance": "posterior"}),
}


def gaussian(mean=MEAN, variance=VARIANCE):
    mixture = GaussianMixture(torch.ones(1), torch.tensor([[mean]]), torch.tensor([[[variance]]]))
    return MixtureDenoiser(mixture, LINEAR)


def draws(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def steps_of(n):
    return LINEAR if n == 1000 else LINEAR.respace(n)


def closed_form(name, noise_schedule):
    kind, options = METHODS[name]
    if kind == "ddim":
        return sampled_gaussian(MEAN, VARIANCE, noise_schedule, eta=options["eta"])
    return sampled_gaussian(MEAN, VARIANCE, noise_schedule, method=options["variance"])


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("n", [1000, 100, 10])
def test_the_steps_move_mean_and_variance_as_the_recursion_says(name, n):
    """Each step is affine in x and noise: three probes measure it."""
    noise_schedule, denoiser = steps_of(n), gaussian()
    kind, options = METHODS[name]
    step = {"ddim": ddim_step, "ddpm": ddpm_step}[kind]
    x, noise = (torch.tensor(v, dtype=torch.float64)[:, None] for v in ([0, 1, 0], [0, 0, 1]))
    mean, variance = 0.0, 1.0
    for i in range(n - 1, -1, -1):
        t = noise_schedule.timesteps[i].expand(3)
        offset, at_one, at_noise = step(
            x, i, denoiser(x, t), noise_schedule, noise, **options
        ).flatten().tolist()  # fmt: skip
        mean = offset + (at_one - offset) * mean
        variance = (at_one - offset) ** 2 * variance + (at_noise - offset) ** 2
    assert closed_form(name, noise_schedule) == pytest.approx((mean, variance), rel=1e-10)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("n", [100, 10])
def test_samples_have_the_moments_of_the_recursion(name, n):
    count = 20_000
    kind, options = METHODS[name]
    sampler = {"ddim": ddim, "ddpm": ddpm}[kind]
    generator = torch.Generator().manual_seed(1)
    x = sampler(gaussian(), draws(count, 1), steps_of(n), generator, **options)
    mean, variance = closed_form(name, steps_of(n))
    assert x.mean().item() == pytest.approx(mean, abs=5 * (variance / count) ** 0.5)
    assert x.var().item() == pytest.approx(variance, rel=5 * (2 / count) ** 0.5)


@pytest.mark.parametrize("name", METHODS)
def test_the_discretisation_error_falls_with_the_steps(name):
    gaps = [abs(closed_form(name, steps_of(n))[1] - VARIANCE) for n in (10, 100, 1000)]
    assert gaps[0] > 4 * gaps[1] > 4 * 4 * gaps[2]
    assert gaps[2] < 0.005


def test_eta_one_on_all_steps_is_algorithm_2_with_the_posterior_variance():
    mixture = GaussianMixture(
        torch.tensor([0.3, 0.7]),
        torch.tensor([[-1.0, 2], [1, 0]]),
        torch.eye(2).repeat(2, 1, 1) / 9,
    )
    denoiser, x = MixtureDenoiser(mixture, LINEAR), draws(5, 2)
    a = ddim(denoiser, x, LINEAR, torch.Generator().manual_seed(2), eta=1.0)
    b = ddpm(denoiser, x, LINEAR, torch.Generator().manual_seed(2), variance="posterior")
    torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    other = ddpm(denoiser, x, LINEAR, torch.Generator().manual_seed(2), variance="beta")
    assert (a - other).abs().max() > 1e-4


@pytest.mark.parametrize("n", [7, 40])
def test_sigma_hat_is_algorithm_2_with_beta_on_any_steps(n):
    denoiser, x, few = gaussian(), draws(6, 1), LINEAR.respace(n)
    a = ddim(denoiser, x, few, torch.Generator().manual_seed(3), eta=1.0, sigma_hat=True)
    b = ddpm(denoiser, x, few, torch.Generator().manual_seed(3), variance="beta")
    torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


def other_model(x, t):
    """Any function will do to compare two programs."""
    return torch.tanh(x) * (0.5 + t / 2000) + 0.1 * x.flip(-1)


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_stable_diffusions_ddim_50_step_by_step(eta, clip):
    theirs = DDIMScheduler(
        1000, 0.00085, 0.012, "scaled_linear", clip_sample=clip, set_alpha_to_one=False,
        steps_offset=1, timestep_spacing="leading",
    )  # fmt: skip
    theirs.set_timesteps(50)
    first = schedule.scaled_linear().alpha_bar[0].item()
    ours = schedule.scaled_linear(final_alpha_bar=first).respace(range(1, 1000, 20))
    assert ours.timesteps.flip(0).tolist() == theirs.timesteps.tolist()
    assert ours.timesteps[-1] == 981
    x = y = draws(2, 3, 4, 5)
    for i, t in enumerate(theirs.timesteps.tolist()):
        noise = draws(2, 3, 4, 5, seed=t)
        eps = other_model(y, t)
        y = theirs.step(eps, t, y, eta=eta, variance_noise=noise, use_clipped_model_output=True)
        y = y.prev_sample
        x = ddim_step(
            x, 49 - i, other_model(x, t), ours, noise, eta=eta, clip=(-1, 1) if clip else None
        )
        if i < 49 or eta == 0:  # theirs adds noise at the last step as well, if eta is above 0
            torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-4)
        y = x


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize(
    ("variance", "theirs"), [("posterior", "fixed_small"), ("beta", "fixed_large")]
)
def test_algorithm_2_is_that_of_diffusers(variance, theirs, clip, monkeypatch):
    """Their noise comes from a generator: it is caught on its way and given to ours."""
    import diffusers.schedulers.scheduling_ddpm as module

    given = {}

    def caught(shape, **_):
        given["noise"] = draws(*shape, seed=5)
        return given["noise"]

    monkeypatch.setattr(module, "randn_tensor", caught)
    other = DDPMScheduler(1000, 1e-4, 0.02, "linear", variance_type=theirs, clip_sample=clip)
    for t in (999, 500, 3, 1, 0):
        x = draws(2, 3, 4, seed=t)
        eps = other_model(x, t)
        want = other.step(eps, t, x).prev_sample
        limits = (-1, 1) if clip else None
        noise = draws(2, 3, 4, seed=5)
        got = ddpm_step(x, t, eps, LINEAR, noise, variance=variance, clip=limits)
        torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("step", [ddpm_step, ddim_step])
def test_the_last_step_adds_no_noise(step):
    x = draws(3, 2)
    options = {"eta": 1.0, "sigma_hat": True} if step is ddim_step else {"variance": "beta"}
    quiet = step(x, 0, x / 2, LINEAR, **options)
    loud = step(x, 0, x / 2, LINEAR, 1e6 * draws(3, 2, seed=1), **options)
    assert torch.equal(quiet, loud)
    implied = (x - (1 - LINEAR.alpha_bar[0]).sqrt() * x / 2) / LINEAR.alpha_bar[0].sqrt()
    torch.testing.assert_close(quiet, implied)
    with pytest.raises(ValueError, match=r"noise: .*None"):
        step(x, 1, x / 2, LINEAR, **options)


def test_mode_weights_of_a_mixture(record_property):
    weights = torch.tensor([0.1, 0.3, 0.6])
    centres = torch.tensor([[-2.0, 0], [2, 0], [0, 2]])
    mixture = GaussianMixture(weights, centres, 0.04 * torch.eye(2).repeat(3, 1, 1))
    denoiser, n = MixtureDenoiser(mixture, LINEAR), 2000
    for steps in (1000, 100, 10):
        for name, sampler, options in (("ddim", ddim, {}), ("ddpm", ddpm, {})):
            generator = torch.Generator().manual_seed(4)
            x = sampler(denoiser, draws(n, 2), steps_of(steps), generator, **options)
            mode = torch.cdist(x.float(), centres).argmin(1)
            share = mode.bincount(minlength=3) / n
            record_property(f"{name} {steps}", share.tolist())
            if steps == 1000:
                error = (weights * (1 - weights) / n).sqrt()
                # DDIM's is a map without noise: its shares have an error of discretisation, too.
                assert ((share - weights).abs() < 4 * error + 0.01).all()


def test_an_empirical_denoiser_draws_copies():
    data = draws(20, 1, 5, 3).float()
    denoiser = EmpiricalDenoiser(data, LINEAR)
    x = ddim(denoiser, draws(8, 1, 5, 3, seed=1).float(), LINEAR.respace(50))
    distance = (x[:, None] - data).flatten(2).norm(dim=2)
    assert distance.amin(1).max() < 1e-4
    assert len(set(distance.argmin(1).tolist())) > 2


def test_encoding_and_decoding_come_nearer_with_more_steps():
    mixture = GaussianMixture(
        torch.tensor([0.5, 0.5]),
        torch.tensor([[-1.0, 0.5], [1, 0]]),
        torch.eye(2).repeat(2, 1, 1) / 4,
    )
    denoiser = MixtureDenoiser(mixture, LINEAR)
    x0 = mixture.sample(200, torch.Generator().manual_seed(0), torch.float64)[0]
    errors = []
    for n in (10, 50, 250):
        few = steps_of(n)
        back = ddim(denoiser, ddim_encode(denoiser, x0, few), few)
        errors.append((back - x0).square().mean().item())
    assert errors[0] > 4 * errors[1] > 16 * errors[2]
    code = ddim_encode(denoiser, x0, steps_of(250))
    assert code.mean(0).abs().max() < 0.3
    assert code.var(0).sub(1).abs().max() < 0.35


def test_a_trajectory_holds_all_that_happened():
    few, denoiser, x = LINEAR.respace(6), gaussian(), draws(3, 1)
    told = []

    def model(xt, t, context):
        told.append((t.tolist(), context))
        return denoiser(xt, t)

    way = ddpm(model, x, few, torch.Generator().manual_seed(5), trajectory=True, clip=(-1, 1),
               context=torch.ones(3, 2))  # fmt: skip
    plain = ddpm(model, x, few, torch.Generator().manual_seed(5), clip=(-1, 1))
    assert way.t.tolist() == few.timesteps.flip(0).tolist() == [t[0] for t, _ in told[:6]]
    assert all(torch.equal(c, torch.ones(3, 2)) for _, c in told[:6])
    assert told[6][1] is None
    assert way.xt.shape == (7, 3, 1)
    assert way.eps_pred.shape == way.x0_pred.shape == (6, 3, 1)
    assert torch.equal(way.xt[0], x)
    assert torch.equal(way.xt[-1], plain)
    torch.testing.assert_close(way.eps_pred[2], denoiser(way.xt[2], way.t[2].expand(3)))
    assert way.x0_pred.abs().max() <= 1


def test_the_generator_is_the_only_source_of_noise():
    before, few = torch.get_rng_state(), LINEAR.respace(9)

    def run(seed):
        return ddpm(gaussian(), draws(2, 1), few, torch.Generator().manual_seed(seed))

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(ddim(gaussian(), draws(2, 1), few), ddim(gaussian(), draws(2, 1), few))


def test_noise_may_come_from_a_function_of_ones_own():
    few, x = LINEAR.respace(5), draws(3, 1)
    kept = torch.randn(4, 3, 1, generator=torch.Generator().manual_seed(5), dtype=x.dtype)
    given = iter(kept)
    ours = ddim(gaussian(), x, few, lambda: next(given), eta=0.6)
    assert list(given) == []  # none at the last step
    same = torch.Generator().manual_seed(5)
    assert torch.equal(ours, ddim(gaussian(), x, few, same, eta=0.6))
    ddim(gaussian(), x, few, lambda: next(given))  # nor without randomness


def test_what_is_known_is_put_back_before_each_step_and_at_the_end():
    few, x, known = LINEAR.respace(5), draws(3, 2), torch.tensor([7.0, 8.0, 9.0])
    calls = []

    def keep(x, t):
        calls.append(t if t is None else t.tolist())
        return torch.stack([known * (1 if t is None else -1), x[:, 1].clone()], dim=1)

    way = ddim(lambda x, t, c: 0.1 * x, x, few, keep=keep, trajectory=True)
    assert calls == [[t] * 3 for t in few.timesteps.flip(0).tolist()] + [None]
    assert torch.equal(way.xt[:-1, :, 0], -known.expand(5, 3).to(x))
    assert torch.equal(way.xt[-1, :, 0], known.to(x))
    torch.testing.assert_close(way.eps_pred[:, :, 0], way.xt[:-1, :, 0] * 0.1)
    alone = ddim(lambda x, t, c: 0.1 * x, x, few, trajectory=True)
    assert torch.equal(way.xt[..., 1], alone.xt[..., 1])


def test_no_gradient_is_kept():
    weight = torch.ones(1, requires_grad=True)
    out = ddim(lambda x, t, c: weight * x, draws(2, 1), LINEAR.respace(3))
    assert not out.requires_grad


def test_the_bar_goes_to_stdout(capsys):
    ddim(gaussian(), draws(2, 1), LINEAR.respace(4), progress=True)
    captured = capsys.readouterr()
    assert "4/4" in captured.out
    assert captured.err == ""


def test_bad_arguments_are_named(no_typecheck):
    x, few, generator = torch.zeros(2, 1), LINEAR.respace(5), torch.Generator()
    eps = torch.zeros(2, 1)
    for call, message in (
        (lambda: ddim(gaussian(), x, few, generator, eta=-0.1), "eta: .*-0.1"),
        (lambda: ddim(gaussian(), x, few, generator, eta=float("nan")), "eta: .*nan"),
        (lambda: ddim(gaussian(), x, few, eta=0.5), "generator: .*None"),
        (lambda: ddim(gaussian(), x, few, generator, eta=0.5, sigma_hat=True), "eta: .*sigma_hat"),
        (lambda: ddim(gaussian(), x, few, generator, eta=50.0), "eta: expected at most"),
        (lambda: ddpm(gaussian(), x, few, generator, variance="tilde"), "variance: .*'tilde'"),
        (lambda: ddim(lambda x, t, c: x[:1], x, few), r"model: .*\(2, 1\).*\(1, 1\)"),
        (lambda: ddpm_step(x, 5, eps, few, eps), r"i: expected 0\.\.4, came 5"),
        (lambda: ddim_step(x, -1, eps, few), "i: .*-1"),
        (lambda: ddim_step(x, 1, eps[:1], few), "eps_pred: "),
        (lambda: ddpm_step(x, 1, eps, few, eps[:1]), "noise: "),
    ):
        with pytest.raises(ValueError, match=message):
            call()
