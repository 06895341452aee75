"""Retrieval: captions that are true of a picture count, whoever's they are."""

import pytest
import torch

from course.data.scenes.captions import caption_holds
from course.data.scenes.dataset import CaptionedScenes
from course.metrics.retrieval import retrieval, truth


def test_truth_is_what_holds():
    examples = CaptionedScenes(40, "test").examples(range(40))
    scenes, meanings = [e.scene for e in examples[:25]], [e.meaning for e in examples]
    true = truth(scenes, meanings)
    assert true.shape == (25, 40)
    for i, scene in enumerate(scenes):
        assert [caption_holds(e.caption, scene) for e in examples] == true[i].tolist()
    assert true.diagonal().all()


def test_any_true_caption_counts():
    logits = torch.tensor([[0.1, 0.9, 0.2, 0.3], [0.5, 0.4, 0.3, 0.2], [0.0, 0.1, 0.2, 0.3]])
    own = torch.eye(3, 4, dtype=torch.bool)
    assert retrieval(logits, own) == 0
    own[0, 1] = True
    assert retrieval(logits, own) == pytest.approx(1 / 3)
    own[2, 3] = True
    assert retrieval(logits, own) == pytest.approx(2 / 3)


@pytest.mark.parametrize("shape", [(3, 4), (0, 3), (3,)])
def test_bad_shapes_are_named(shape, no_typecheck):
    with pytest.raises(ValueError, match=r"logits, true: expected one shape \(B, N\)"):
        retrieval(torch.zeros(shape), torch.ones(3, 3, dtype=torch.bool)[: shape[0]])
