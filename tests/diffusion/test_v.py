"""v-prediction against its definition, as a derivative, and as a denoiser that samples."""

import math

import pytest
import torch
from diffusers import DDPMScheduler

from course.diffusion import process, schedule
from course.diffusion.exact import EmpiricalDenoiser
from course.diffusion.sampling import ddim

S = schedule.scaled_linear(50, 0.01, 0.2)
T = torch.tensor([0, 3, 20, 49])


def draws(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def data():
    x0, noise = draws(4, 1, 3, 2), draws(4, 1, 3, 2, seed=1)
    return x0, noise, process.q_sample(x0, T, noise, S), process.velocity(x0, T, noise, S)


def test_its_definition_number_by_number(data):
    x0, noise, _, v = data
    for b, t in enumerate(T.tolist()):
        kept = S.alpha_bar[t].item()
        want = math.sqrt(kept) * noise[b] - math.sqrt(1 - kept) * x0[b]
        torch.testing.assert_close(v[b], want, rtol=1e-12, atol=1e-12)


def test_it_is_the_change_of_xt_with_the_angle(data):
    x0, noise, _, v = data
    angle = S.alpha_bar[T].sqrt().acos().view(-1, 1, 1, 1).requires_grad_()
    step = 1e-6
    ahead, behind = (
        (angle + d).cos() * x0 + (angle + d).sin() * noise for d in (step / 2, -step / 2)
    )
    torch.testing.assert_close((ahead - behind) / step, v, rtol=0, atol=1e-8)


def test_diffusers_has_the_same(data):
    x0, noise, _, v = data
    theirs = DDPMScheduler(trained_betas=S.beta.tolist())
    want = theirs.get_velocity(x0, noise, T)
    # Their tables are float32.
    torch.testing.assert_close(v, want, rtol=0, atol=1e-6)


def test_noise_and_x0_come_back(data):
    x0, noise, xt, v = data
    close = {"rtol": 0, "atol": 1e-12}
    torch.testing.assert_close(process.velocity_to_noise(xt, T, v, S), noise, **close)
    torch.testing.assert_close(process.velocity_to_x0(xt, T, v, S), x0, **close)
    torch.testing.assert_close(
        process.predict_x0(xt, T, process.velocity_to_noise(xt, T, v, S), S), x0, **close
    )


def test_a_network_of_v_samples_as_one_of_noise():
    exact = EmpiricalDenoiser(draws(3, 2, 5), S)
    told = []

    def network(xt, t, context=None):
        told.append(context)
        noise = exact(xt, t)
        return process.velocity(process.predict_x0(xt, t, noise, S), t, noise, S)

    xT = draws(4, 2, 5, seed=3)
    words = draws(4, 2)
    got = ddim(process.noise_predictor(network, S), xT, S.respace(7), context=words)
    torch.testing.assert_close(got, ddim(exact, xT, S.respace(7)), rtol=0, atol=1e-10)
    assert len(told) == 7
    assert all(context is words for context in told)


def test_a_respaced_schedule_is_refused():
    with pytest.raises(ValueError, match=r"schedule: expected all of its steps, .* to 7 steps"):
        process.noise_predictor(lambda *_: None, S.respace(7))


@pytest.mark.parametrize(
    "call", [process.velocity, process.velocity_to_noise, process.velocity_to_x0]
)
def test_bad_input_is_named(call, no_typecheck):
    x = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"t: expected 0\.\.49, came 0\.\.50"):
        call(x, torch.tensor([0, 50]), x, S)
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(2, 1\)"):
        call(x, torch.tensor([0, 1]), torch.zeros(2, 1), S)
