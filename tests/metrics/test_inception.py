"""The Inception Score at its ends and in between."""

import math

import pytest
import torch

from course.metrics.inception import inception_score


def test_its_ends():
    assert inception_score(torch.full((6, 4), 0.25)) == pytest.approx(1)
    assert inception_score(torch.eye(4).repeat(3, 1)) == pytest.approx(4)
    assert inception_score(torch.eye(4)[:1].repeat(5, 1)) == pytest.approx(1)


def test_it_is_exp_of_the_entropy_of_the_mean_minus_the_mean_entropy():
    p = torch.softmax(torch.randn(13, 5, generator=torch.Generator().manual_seed(0)) * 2, 1)
    marginal = torch.distributions.Categorical(p.mean(0)).entropy()
    want = math.exp(marginal - torch.distributions.Categorical(p).entropy().mean())
    assert inception_score(p) == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [
        torch.zeros(3),
        torch.zeros(0, 4),
        torch.ones(2, 3),
        torch.tensor([[1.5, -0.5]]),
        torch.full((2, 2), math.nan),
    ],
)
def test_bad_input_is_named(wrong, no_typecheck):
    with pytest.raises(ValueError, match="probabilities: "):
        inception_score(wrong)
