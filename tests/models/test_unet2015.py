"""The original U-Net: its counts, and every pixel against a second way to compute it."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course.models.unet2015 import UNet2015, output_size

SMALL = (6, 8, 4, 10, 12)


def small(channels=SMALL):
    """A network whose signal neither dies out nor grows over many levels."""
    torch.manual_seed(0)
    model = UNet2015(2, 3, channels).double()
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.uniform_(module.bias, 0, 0.5)
        elif isinstance(module, nn.ConvTranspose2d):
            nn.init.normal_(module.weight, std=module.in_channels**-0.5)
    return model


def picture(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_counts_are_those_of_the_paper():
    with torch.device("meta"):
        model = UNet2015()
        assert model(torch.zeros(1, 1, 572, 572)).shape == (1, 2, 388, 388)
    assert sum(p.numel() for p in model.parameters()) == 31_030_658
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    assert len(convs) == 23
    kinds = {(type(m).__name__, m.kernel_size, m.stride, m.padding) for m in convs}
    assert kinds == {
        ("Conv2d", (3, 3), (1, 1), (0, 0)),
        ("Conv2d", (1, 1), (1, 1), (0, 0)),
        ("ConvTranspose2d", (2, 2), (2, 2), (0, 0)),
    }


def test_shapes_at_every_level_are_those_of_the_figure():
    seen = []
    with torch.device("meta"):
        model = UNet2015()
        for module in (*model.down, *model.up_convs, *model.up):
            module.register_forward_hook(lambda _, x, y: seen.append((x[0].shape[1:], y.shape[1:])))
        model(torch.zeros(1, 1, 572, 572))
    before = [(1, 572), (64, 284), (128, 140), (256, 68), (512, 32)]
    after = [(64, 568), (128, 280), (256, 136), (512, 64), (1024, 28)]
    for below, channels, size in ((28, 512, 56), (52, 256, 104), (100, 128, 200), (196, 64, 392)):
        before += [(2 * channels, below), (2 * channels, size)]
        after += [(channels, size), (channels, size - 4)]
    assert [(c, h) for (c, h, _), _ in seen] == before
    assert [(c, h) for _, (c, h, _) in seen] == after


def by_hand(model, x):
    """The figure of the paper for any number of levels, from the inside out."""

    def twice(convs, x):
        for conv in (convs[0], convs[2]):
            x = F.conv2d(x, conv.weight, conv.bias).clamp(min=0)
        return x

    def level(i, x):
        skip = twice(model.down[i], x)
        if i == len(model.down) - 1:
            return skip
        pooled = skip.unfold(2, 2, 2).unfold(3, 2, 2).amax((-2, -1))
        conv = model.up_convs[-1 - i]
        up = F.conv_transpose2d(level(i + 1, pooled), conv.weight, conv.bias, stride=2)
        border = [(a - b) // 2 for a, b in zip(skip.shape[2:], up.shape[2:], strict=True)]
        cropped = F.pad(skip, [-border[1], -border[1], -border[0], -border[0]])
        return twice(model.up[-1 - i], torch.cat([cropped, up], 1))

    last = model.conv_out.weight[:, :, 0, 0]
    return torch.einsum("oc,bchw->bohw", last, level(0, x)) + model.conv_out.bias[:, None, None]


@pytest.mark.parametrize(
    ("channels", "height", "width"),
    [(SMALL, 188, 220), ((4, 7, 2), 52, 44), ((3, 5), 24, 18), ((6,), 9, 5)],
    ids=["five levels", "three", "two", "one"],
)
def test_every_pixel_equals_the_figure_computed_by_hand(channels, height, width):
    model, x = small(channels), picture(3, 2, height, width)
    got = model(x)
    levels = len(channels)
    assert got.shape == (3, 3, output_size(height, levels), output_size(width, levels))
    assert got.std() > 0.1
    torch.testing.assert_close(got, by_hand(model, x), rtol=0, atol=1e-10)


def test_a_large_picture_may_be_cut_into_tiles_that_overlap():
    """The overlap-tile strategy of section 2: nothing is invented at a border, so tiles agree."""
    model, x = small(), picture(1, 2, 220, 236)
    whole = model(x)
    for top, left in ((0, 0), (16, 48), (32, 16)):
        tile = x[..., top : top + 188, left : left + 188]
        want = whole[..., top : top + 4, left : left + 4]
        torch.testing.assert_close(model(tile), want, rtol=0, atol=1e-10)
    # Off the grid of the poolings they do not.
    assert (model(x[..., 8:196, :188]) - whole[..., 8:12, :4]).abs().max() > 1e-3


def size_by_loop(size, levels):
    for level in range(levels):
        size -= 4
        if level < levels - 1:
            if size < 1 or size % 2:
                return None
            size //= 2
    for _ in range(levels - 1):
        size = 2 * size - 4
    return size if size > 0 else None


@pytest.mark.parametrize("levels", [1, 2, 3, 4, 5])
def test_the_sizes_that_pass_are_those_of_a_loop_over_the_layers(levels):
    assert output_size(572) == 388
    passing = []
    for size in range(1, 500):
        want = size_by_loop(size, levels)
        if want is None:
            with pytest.raises(ValueError, match=rf"size: .*came {size};"):
                output_size(size, levels)
        else:
            assert output_size(size, levels) == want
            passing.append(size)
    assert passing[1] - passing[0] == 2 ** (levels - 1)


@pytest.mark.parametrize(
    ("size", "near"), [(571, "556 or 572"), (573, "572 or 588"), (189, "188 or 204"), (5, "188")]
)
def test_the_nearest_sizes_are_named_and_pass(size, near):
    with pytest.raises(ValueError, match=f"nearest: {near}$"):
        output_size(size)
    for word in near.split(" or "):
        assert output_size(int(word)) == int(word) - 184


def test_every_parameter_gets_a_gradient():
    model = small()
    model(picture(2, 2, 204, 188)).square().sum().backward()
    assert [name for name, p in model.named_parameters() if not p.grad.any()] == []


def test_bad_input_is_named(no_typecheck):
    model = UNet2015(2, 3, SMALL)
    for shape, message in (
        ((1, 1, 188, 188), r"x: expected shape \(B, 2, H, W\), came \(1, 1, 188, 188\)"),
        ((2, 188, 188), "x: expected shape"),
        ((1, 2, 190, 188), "x: height does not fit; .*came 190; nearest: 188 or 204"),
        ((1, 2, 188, 100), "x: width does not fit; .*came 100; nearest: 188"),
    ):
        with pytest.raises(ValueError, match=message):
            model(torch.zeros(shape))
