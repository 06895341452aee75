"""Features and probabilities in batches, in eval mode only."""

import pytest
import torch

from course.metrics import judge
from course.models.classifier import Classifier, ClassifierConfig


@pytest.fixture
def classifier():
    torch.manual_seed(0)
    return Classifier(ClassifierConfig(2, 5, (8, 16), features=7, dropout=0.5)).eval()


def test_batches_make_no_difference(classifier):
    images = torch.randn(11, 2, 9, 6, generator=torch.Generator().manual_seed(1))
    whole = judge.probabilities(classifier, images, batch_size=11)
    torch.testing.assert_close(judge.probabilities(classifier, images, batch_size=4), whole)
    torch.testing.assert_close(whole, classifier(images).softmax(1))
    found = judge.features(classifier, images, batch_size=4)
    torch.testing.assert_close(found, classifier.features(images))
    assert not found.requires_grad


def test_train_mode_is_refused_even_of_a_part(classifier):
    images = torch.zeros(3, 2, 9, 6)
    classifier.dropout.train()
    with pytest.raises(ValueError, match=r"classifier: .*eval mode"):
        judge.probabilities(classifier, images)
    with pytest.raises(ValueError, match=r"classifier: .*eval mode"):
        judge.features(classifier, images)


def test_no_picture_is_refused(classifier):
    with pytest.raises(ValueError, match=r"images: .*none"):
        judge.features(classifier, torch.zeros(0, 2, 9, 6))
