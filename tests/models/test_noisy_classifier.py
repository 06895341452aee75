"""The classifier of noisy pictures is the way down of a U-Net, and what its docstring says."""

import pytest
import torch
from torch.nn import functional as F

from course.models.configs import DIGITS_NOISY_CLASSIFIER
from course.models.noisy_classifier import NoisyClassifier, NoisyClassifierConfig
from course.models.unet import UNet2DConditionModel

CONFIG = NoisyClassifierConfig(2, 5, (8, 12), layers_per_block=2, norm_num_groups=4)


def made(config=CONFIG):
    torch.manual_seed(0)
    return NoisyClassifier(config).double().eval()


def draws(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_it_is_the_way_down_of_a_unet():
    classifier, seen = made(), {}
    torch.manual_seed(2)
    unet = UNet2DConditionModel(CONFIG.trunk()).double()
    unet.mid_block.register_forward_pre_hook(lambda _, args: seen.update(x=args[0]))
    for name in ("time_embedding", "conv_in", "down_blocks"):
        getattr(classifier, name).load_state_dict(getattr(unet, name).state_dict())
    xt, t = draws(3, 2, 11, 6), torch.tensor([0, 40, 999])
    unet(xt, t)
    h = F.silu(F.group_norm(seen["x"], 4, classifier.norm_out.weight, classifier.norm_out.bias))
    want = torch.stack([h[..., i, j] for i in range(6) for j in range(3)]).mean(0)
    want = want @ classifier.head.weight.T + classifier.head.bias
    torch.testing.assert_close(classifier(xt, t), want, rtol=0, atol=1e-12)


def test_each_picture_is_told_its_own_time():
    classifier, xt, t = made(), draws(3, 2, 11, 6), torch.tensor([0, 40, 999])
    together = classifier(xt, t)
    assert together.shape == (3, 5)
    for i in range(3):
        alone = classifier(xt[i : i + 1], t[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-12)
    assert (classifier(xt, t.flip(0)) - together).abs()[[0, 2]].max() > 1e-3


def test_every_parameter_gets_a_gradient():
    classifier = made()
    classifier(draws(3, 2, 11, 6), torch.tensor([0, 40, 999])).square().sum().backward()
    assert [name for name, p in classifier.named_parameters() if not p.grad.any()] == []


def test_the_one_of_digits_is_small():
    parameters = sum(p.numel() for p in NoisyClassifier(DIGITS_NOISY_CLASSIFIER).parameters())
    assert 4 * parameters < 8e6


def test_bad_arguments_are_named(no_typecheck):
    classifier, xt, t = made(), draws(3, 2, 11, 6), torch.tensor([0, 40, 999])
    for call, message in (
        (lambda: classifier(xt[:, :1], t), r"xt: expected shape \(B, 2, H, W\), came \(3, 1,"),
        (lambda: classifier(xt[0], t), "xt: "),
        (lambda: classifier(xt, t[:2]), r"t: expected int64 of shape \(3,\), came .*\(2,\)"),
        (lambda: classifier(xt, t.double()), "t: .*float64"),
        (lambda: NoisyClassifierConfig(classes=0), "classes: expected at least 1, came 0"),
        (lambda: NoisyClassifierConfig(in_channels=0), "in_channels: "),
        (lambda: NoisyClassifierConfig(block_out_channels=(8, 12)), "block_out_channels: "),
    ):
        with pytest.raises(ValueError, match=message):
            call()
