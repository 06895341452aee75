"""Guidance: one convention of the scale, one call of the model, constants computed once."""

import pytest
import torch

from course.diffusion import schedule
from course.diffusion.guidance import classifier_free
from course.diffusion.sampling import ddim
from course.models.attention import Context
from course.models.unet import UNet2DConditionModel
from course.models.unet_config import UNetConfig

B, TOKENS = 3, 5


def draws(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = UNetConfig(2, 2, (8, 12), 1, 4, cross_attention_dim=6, num_attention_heads=2)
    return UNet2DConditionModel(config).double().eval()


@pytest.fixture
def words():
    return draws(B, TOKENS, 6, seed=1), draws(B, TOKENS, 6, seed=2)


@torch.no_grad()
@pytest.mark.parametrize("scale", [0, 1, 2.5, -1.0])
def test_the_scale_is_one_plus_w(model, words, scale):
    x, t = draws(B, 2, 6, 9, seed=3), torch.tensor([4, 500, 999])
    told, without = model(x, t, words[0]), model(x, t, words[1])
    got = classifier_free(model, *words, scale)(x, t)
    w = scale - 1
    torch.testing.assert_close(got, (1 + w) * told - w * without, rtol=0, atol=1e-12)


@torch.no_grad()
def test_one_call_per_step_and_keys_once_per_trajectory(model, words):
    calls = {"whole": 0, "keys": 0}

    def count(what):
        return lambda *_: calls.update({what: calls[what] + 1})

    handles = [
        model.conv_in.register_forward_hook(count("whole")),
        model.mid_block.attentions[0]
        .transformer_blocks[0]
        .attn2.to_k.register_forward_hook(count("keys")),
    ]
    xT = draws(B, 2, 6, 9, seed=3)
    ddim(classifier_free(model, *words, 3.0), xT, schedule.linear().respace(7))
    for handle in handles:
        handle.remove()
    assert calls == {"whole": 7, "keys": 1}


@torch.no_grad()
def test_classes_are_guided_too():
    torch.manual_seed(0)
    net = UNet2DConditionModel(UNetConfig(2, 2, (8,), 1, 4, num_class_embeds=4)).double().eval()
    x, t = draws(B, 2, 6, 9), torch.tensor([4, 500, 999])
    labels, null = torch.tensor([2, 0, 1]), torch.tensor([3, 3, 3])
    want = 2 * net(x, t, labels) - net(x, t)
    got = classifier_free(net, labels, null, 2)(x, t)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)


@torch.no_grad()
def test_masks_and_vectors_go_with_their_half(model, words):
    x, t = draws(B, 2, 6, 9, seed=3), torch.tensor([4, 500, 999])
    mask = torch.ones(B, TOKENS, dtype=torch.bool)
    mask[:, 3:] = False
    told = Context(words[0], mask)
    null = Context(words[1], ~mask)
    want = 4 * model(x, t, told) - 3 * model(x, t, null)
    got = classifier_free(model, told, null, 4)(x, t)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)


def test_contexts_of_two_kinds_are_refused(model, words, no_typecheck):
    told, null = words
    mask = torch.ones(B, TOKENS, dtype=torch.bool)
    for context, empty, message in (
        (told, null[:, :4], r"tokens: expected one kind and shape.*\(4, 6\), \(5, 6\)"),
        (told, Context(null, mask), r"mask: .*\(5,\), None"),
        (told, torch.zeros(B, dtype=torch.int64), "tokens: "),
    ):
        with pytest.raises(ValueError, match=message):
            classifier_free(model, context, empty, 2.0)
