"""The classifier is what its docstring says."""

import pytest
import torch

from course.models.classifier import Classifier, ClassifierConfig


@pytest.fixture
def classifier():
    torch.manual_seed(0)
    return Classifier(ClassifierConfig(2, 5, (8, 16), features=7, dropout=0.5)).eval()


def test_logits_are_the_head_of_the_features(classifier):
    images = torch.randn(3, 2, 11, 6)
    features = classifier.features(images)
    assert features.shape == (3, 7)
    torch.testing.assert_close(classifier(images), classifier.head(features))


def test_dropout_acts_in_train_mode_only(classifier):
    images = torch.randn(3, 2, 11, 6)
    assert torch.equal(classifier(images), classifier(images))
    classifier.train()
    assert not torch.equal(classifier(images), classifier(images))


def test_every_parameter_gets_a_gradient(classifier):
    classifier(torch.randn(3, 2, 11, 6)).square().sum().backward()
    assert [name for name, p in classifier.named_parameters() if not p.grad.any()] == []


def test_a_wrong_shape_is_named(classifier, no_typecheck):
    with pytest.raises(
        ValueError, match=r"images: expected shape \(B, 2, H, W\), came \(3, 1, 9, 9\)"
    ):
        classifier(torch.zeros(3, 1, 9, 9))
