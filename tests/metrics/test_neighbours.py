"""Nearest neighbours by hand, and precision and recall where they are known."""

import pytest
import torch

from course.metrics.neighbours import nearest_distance, precision_recall


def test_nearest_distance_by_hand():
    a = torch.tensor([[[0.0, 0.0]], [[3.0, 4.0]], [[1.0, 0.0]]])
    b = torch.tensor([[[0.0, 0.0]], [[3.0, 0.0]]])
    torch.testing.assert_close(nearest_distance(a, b), torch.tensor([0.0, 4.0, 1.0]))


def test_it_is_the_same_in_parts():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(1500, 2, 3, generator=generator), torch.randn(7, 2, 3, generator=generator)
    whole = (a[:, None] - b).flatten(2).norm(dim=2).amin(1)
    torch.testing.assert_close(nearest_distance(a, b), whole, rtol=1e-4, atol=1e-4)


def test_precision_and_recall_by_hand():
    """On a line, k = 1: each ball reaches the nearest other point of its set."""
    real = torch.tensor([[0.0], [1.0], [10.0], [12.0]])  # radii 1, 1, 2, 2
    generated = torch.tensor([[0.5], [1.5], [6.0]])  # radii 1, 1, 4.5
    precision, recall = precision_recall(real, generated, k=1)
    assert precision == pytest.approx(2 / 3)
    assert recall == pytest.approx(3 / 4)


def test_a_generator_that_lost_a_mode_keeps_precision_and_loses_recall():
    generator = torch.Generator().manual_seed(1)
    real = torch.randn(400, 2, generator=generator)
    real[:200] += 20
    generated = torch.randn(300, 2, generator=generator)
    precision, recall = precision_recall(real, generated)
    assert precision > 0.9
    assert 0.35 < recall < 0.5
    precision, recall = precision_recall(generated, real)
    assert 0.35 < precision < 0.55
    assert recall > 0.9


def test_bad_input_is_named(no_typecheck):
    with pytest.raises(ValueError, match=r"b: .*\(3,\).*\(2,\)"):
        nearest_distance(torch.zeros(4, 3), torch.zeros(5, 2))
    with pytest.raises(ValueError, match="a: expected at least one"):
        nearest_distance(torch.zeros(0, 3), torch.zeros(5, 3))
    with pytest.raises(ValueError, match=r"k: expected 1\.\.3 for the size of generated, came 4"):
        precision_recall(torch.zeros(9, 2), torch.zeros(4, 2), k=4)
    with pytest.raises(ValueError, match=r"k: .*came 0"):
        precision_recall(torch.zeros(9, 2), torch.zeros(4, 2), k=0)
