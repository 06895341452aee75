"""Tables against plain loops and diffusers; respacing; bad input."""

import math

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from course.diffusion import schedule
from course.diffusion.schedule import Schedule


def plain(betas):
    """alpha-bar as a loop over Python floats."""
    kept, table = 1.0, []
    for beta in betas:
        kept *= 1 - beta
        table.append(kept)
    return torch.tensor(table, dtype=torch.float64)


def cosine_betas(T):
    def f(u):
        return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

    return [min(1 - f((i + 1) / T) / f(i / T), 0.999) for i in range(T)]


MAKERS = {
    "linear": (schedule.linear, lambda T: [1e-4 + i * 0.0199 / (T - 1) for i in range(T)]),
    "scaled_linear": (
        schedule.scaled_linear,
        lambda T: [
            (0.00085**0.5 + i * (0.012**0.5 - 0.00085**0.5) / (T - 1)) ** 2 for i in range(T)
        ],
    ),
    "squaredcos_cap_v2": (schedule.cosine, cosine_betas),
}


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("T", [1000, 37])
def test_tables_equal_a_plain_loop(name, T):
    make, betas = MAKERS[name]
    made, beta = make(T), torch.tensor(betas(T), dtype=torch.float64)
    want = plain(beta.tolist())
    torch.testing.assert_close(made.alpha_bar, want, rtol=0, atol=1e-12)
    torch.testing.assert_close(made.beta, beta, rtol=0, atol=1e-12)
    torch.testing.assert_close(made.alpha, 1 - beta, rtol=0, atol=1e-12)
    before = torch.cat([torch.ones(1, dtype=torch.float64), want[:-1]])
    torch.testing.assert_close(made.alpha_bar_prev, before, rtol=0, atol=1e-12)
    tilde = [(1 - b) / (1 - a) * x for b, a, x in zip(before, want, beta, strict=True)]
    torch.testing.assert_close(made.posterior_variance, torch.stack(tilde), rtol=0, atol=1e-12)
    torch.testing.assert_close(made.snr, want / (1 - want), rtol=1e-9, atol=0)
    assert made.terminal_snr == pytest.approx((want[-1] / (1 - want[-1])).item(), rel=1e-9)
    assert len(made) == T
    assert made.alpha_bar.dtype == torch.float64


@pytest.mark.parametrize("name", MAKERS)
def test_tables_equal_those_of_diffusers(name):
    ends = {"linear": (1e-4, 0.02), "scaled_linear": (0.00085, 0.012)}.get(name, (1e-4, 0.02))
    theirs = DDPMScheduler(1000, *ends, beta_schedule=name)
    made = MAKERS[name][0]()
    torch.testing.assert_close(made.beta.float(), theirs.betas, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(made.alpha_bar.float(), theirs.alphas_cumprod, rtol=0, atol=1e-6)


def test_worked_numbers():
    assert schedule.linear().alpha_bar[-1].item() == pytest.approx(4.04e-5, rel=1e-2)
    sd = schedule.scaled_linear()
    assert sd.beta[499].item() == pytest.approx(0.0048038, rel=1e-4)
    assert sd.alpha_bar[-1].item() == pytest.approx(0.0046601, rel=1e-4)
    assert sd.terminal_snr == pytest.approx(0.00468, rel=1e-2)
    assert schedule.linear().posterior_variance[0] == 0


def test_first_beta_keeps_its_digits():
    """1 - alpha_bar[0] is small: it must not be the difference of rounded numbers."""
    assert schedule.linear().beta[0].item() == pytest.approx(1e-4, rel=1e-12)


@pytest.mark.parametrize(
    ("spacing", "offset", "theirs"), [("leading", 0, "leading"), ("trailing", 0, "trailing"),
                                      ("linspace", 0, "linspace")]
)  # fmt: skip
@pytest.mark.parametrize("steps", [10, 50, 1000])
def test_spacings_are_those_of_diffusers(spacing, offset, theirs, steps):
    other = DDIMScheduler(1000, timestep_spacing=theirs, steps_offset=offset)
    other.set_timesteps(steps)
    made = schedule.linear().respace(steps, spacing)
    assert made.timesteps.flip(0).tolist() == other.timesteps.tolist()


def test_respacing_derives_betas_from_what_is_kept():
    whole = schedule.linear()
    kept = [3, 10, 11, 500, 999]
    made = whole.respace(kept)
    assert made.timesteps.tolist() == kept
    torch.testing.assert_close(made.alpha_bar, whole.alpha_bar[kept], rtol=0, atol=0)
    torch.testing.assert_close(made.alpha.cumprod(0), whole.alpha_bar[kept], rtol=1e-12, atol=0)
    assert ((made.beta > 0) & (made.beta < 1)).all()
    # From 11 to 500 the betas of the steps between multiply up.
    between = 1 - (1 - whole.beta[12:501]).prod()
    assert made.beta[3].item() == pytest.approx(between.item(), rel=1e-12)


def test_respacing_twice_names_the_original_steps():
    made = schedule.linear().respace(100).respace([0, 50, 99])
    assert made.timesteps.tolist() == [0, 505, 999]
    whole = schedule.cosine(9)
    assert torch.equal(whole.respace(9).alpha_bar, whole.alpha_bar)
    assert schedule.linear().respace(1).timesteps.tolist() == [999]


def test_final_alpha_bar_goes_along():
    first = schedule.scaled_linear().alpha_bar[0].item()
    made = schedule.scaled_linear(final_alpha_bar=first).respace(range(1, 1000, 20))
    assert made.final_alpha_bar == first
    assert made.timesteps[:2].tolist() == [1, 21]
    assert schedule.linear().final_alpha_bar == 1


def test_the_tables_are_its_own():
    given = torch.tensor([0.9, 0.5, 0.1])
    made = Schedule(given)
    given[0] = 0.2
    assert made.alpha_bar[0].item() == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("alpha_bar", "message"),
    [
        ([0.9, 0.9], r"alpha_bar: .*decreasing.*0\.9, 0\.9 at 0, 1"),
        ([0.5, 0.6, 0.4], r"alpha_bar: .*decreasing.*at 0, 1"),
        ([1.0, 0.5], r"alpha_bar: .*inside \(0, 1\).*1 at 0"),
        ([0.9, 0.0], r"alpha_bar: .*inside \(0, 1\).*0 at 1"),
        ([0.9, math.nan, 0.1], r"alpha_bar: .*inside \(0, 1\).*nan at 1"),
        ([], "alpha_bar: .*shape"),
        ([[0.9]], r"alpha_bar: .*\(1, 1\)"),
    ],
)
def test_bad_alpha_bars_are_named(alpha_bar, message, no_typecheck):
    with pytest.raises(ValueError, match=message):
        Schedule(torch.tensor(alpha_bar, dtype=torch.float64))


def test_other_bad_arguments_are_named(no_typecheck):
    table = torch.tensor([0.9, 0.5, 0.1])
    whole = schedule.linear(10)
    for call, message in (
        (lambda: Schedule(torch.tensor([1, 2])), "alpha_bar: .*int64"),
        (lambda: Schedule(table, final_alpha_bar=0.8), "final_alpha_bar: .*came 0.8"),
        (lambda: Schedule(table, final_alpha_bar=1.1), "final_alpha_bar: "),
        (lambda: Schedule(table, timesteps=torch.tensor([0, 1])), "timesteps: "),
        (lambda: Schedule(table, timesteps=torch.tensor([0, 2, 2])), "timesteps: .*increasing"),
        (lambda: whole.respace(11), "steps: .*1..10.*came 11"),
        (lambda: whole.respace(0), "steps: .*came 0"),
        (lambda: whole.respace([]), "steps: "),
        (lambda: whole.respace([0, 10]), r"steps: .*0..9.*\[0, 10\]"),
        (lambda: whole.respace([3, 2]), "steps: .*increasing"),
        (lambda: whole.respace([-1, 2]), "steps: "),
        (lambda: whole.respace([0.5, 2]), "steps: "),
        (lambda: whole.respace(5, "even"), "spacing: .*'even'"),
        (lambda: schedule.linear(0), "T: .*came 0"),
        (lambda: schedule.linear(10, 0.02, 1e-4), "beta_start"),
        (lambda: schedule.scaled_linear(10, 0.0, 0.1), "beta_start"),
        (lambda: schedule.cosine(10, s=-1), "s: "),
        (lambda: schedule.cosine(10, max_beta=1), "max_beta: "),
    ):
        with pytest.raises(ValueError, match=message):
            call()
