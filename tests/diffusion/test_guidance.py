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


def counted(model):
    """The model, and the sizes of the batches that it is called with."""
    sizes = []

    def call(xt, t, context=None):
        sizes.append(len(xt))
        return model(xt, t, context)

    return call, sizes


@torch.no_grad()
def test_a_scale_of_each_sample(model, words):
    x, t = draws(B, 2, 6, 9, seed=3), torch.tensor([4, 500, 999])
    scales = torch.tensor([0.3, 1.0, 4.7], dtype=torch.float64)
    together = classifier_free(model, *words, scales)(x, t)
    for i, scale in enumerate(scales.tolist()):
        one = [w[i : i + 1] for w in words]
        alone = classifier_free(model, *one, scale)(x[i : i + 1], t[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("scale", [2.5, torch.tensor([0.3, 1.0, 4.7], dtype=torch.float64)])
def test_outside_of_the_interval_the_scale_is_one(model, words, scale):
    x, interval = draws(B, 2, 6, 9, seed=3), (200, 600)
    call, sizes = counted(model)
    guided = classifier_free(call, *words, scale, interval)
    everywhere = classifier_free(model, *words, scale)
    for time, inside in ((199, False), (200, True), (431, True), (600, True), (601, False)):
        t = torch.full((B,), time)
        want = everywhere(x, t) if inside else model(x, t, words[0])
        torch.testing.assert_close(guided(x, t), want, rtol=0, atol=1e-12)
    assert sizes == [B, 2 * B, 2 * B, 2 * B, B]  # only one half is needed outside
    t = torch.tensor([600, 601, 199])
    want = torch.cat([everywhere(x, t)[:1], model(x, t, words[0])[1:]])
    torch.testing.assert_close(guided(x, t), want, rtol=0, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("scale", [0, 0.0, 1, 1.0])
def test_a_scale_of_zero_or_one_needs_one_half(model, words, scale):
    x, t = draws(B, 2, 6, 9, seed=3), torch.tensor([4, 500, 999])
    call, sizes = counted(model)
    got = classifier_free(call, *words, scale)(x, t)
    assert torch.equal(got, model(x, t, words[0 if scale else 1]))
    assert sizes == [B]


def test_bad_scales_and_intervals_are_named(model, words, no_typecheck):
    x, t, ones = draws(B, 2, 6, 9), torch.tensor([4, 500, 999]), torch.ones(B)
    for scale, interval, message in (
        (float("nan"), None, "guidance_scale: expected a finite number.*nan"),
        (float("inf"), None, "guidance_scale: "),
        (ones * float("nan"), None, "guidance_scale: .*nan"),
        (ones.long(), None, "guidance_scale: .*int64"),
        (ones[:, None], None, "guidance_scale: "),
        (ones[:2], None, "guidance_scale: expected 3, one for each of xt, came 2"),
        (ones[:1], (9, 600), "guidance_scale: expected 3, one for each of xt, came 1"),
        (2.0, (600, 200), r"interval: .*\(600, 200\)"),
        (2.0, (-1, 200), "interval: "),
        (2.0, (float("nan"), 200), "interval: "),
    ):
        with pytest.raises(ValueError, match=message):
            classifier_free(model, *words, scale, interval)(x, t)


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
