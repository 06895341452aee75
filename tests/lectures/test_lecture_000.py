"""Lecture 000, equation by equation: what is printed and what is right, both computed.

A test is named for its equation, or for its line in the lecture where that has no number. Letters
and numbers in brackets are those of the lists of what lecture and code do otherwise.
"""

import math

import diffusers.models.resnet
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course.lab.receptive_field import Window, footprint, r_pure, r_unet, theoretical
from course.models import layers
from course.models.resnet import Downsample2D, ResnetBlock2D, Upsample2D
from course.models.unet_blocks import DownBlock2D, MidBlock2D, UpBlock2D
from course.models.unet_config import UNetConfig

CONFIG = UNetConfig(block_out_channels=(8,), norm_num_groups=4)


def draws(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def equal(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def gap(a, b):
    return (a - b).abs().max().item()


def random(module, seed=0):
    """No weight at 1 and no bias at 0, as norms have them at first."""
    module.double()
    for i, p in enumerate(module.parameters()):
        p.data = 0.5 * draws(*p.shape, seed=1000 * seed + i)
    return module


def signal(*values):
    return torch.tensor(values, dtype=torch.float64)[None, None, None]


# --- The layers (no numbers)


def test_line_106_the_inner_product_ends_at_n():
    """As printed: i = 1..d_emb, for vectors of length n. Corrected: i = 1..n, a row of Linear."""
    u, v = draws(5), draws(5, seed=1)
    right = torch.dot(u, v)
    equal(layers.linear(v, u[None])[0], right)
    for d_emb in range(5):
        assert gap((u[:d_emb] * v[:d_emb]).sum(), right) > 1e-3


def windows_of_line_268(x, weight, padding, start):
    """sum_u W_u X_{i + u - p} for i = start, start + 1, ...; u and X are counted from 1."""
    padded = dict(enumerate(x, 1))
    return [
        sum(w * padded.get(i + u - padding, 0) for u, w in enumerate(weight, 1))
        for i in range(start, start + len(x) + 2 * padding - len(weight) + 1)
    ]


def test_line_268_reads_one_pixel_too_far():
    """As printed: X_{i s + u - p} with i and u from 1. Corrected: X_{(i - 1) s + u - p} [E13]."""
    x, weight = [1, 2, 4, 8, 16], [1, 10, 100]
    got = layers.conv2d_loops(
        np.array([[x]], dtype=float), np.array([[[weight]]], dtype=float), padding=(0, 1)
    )
    want = [210, 421, 842, 1684, 168]
    assert F.conv1d(torch.tensor([[x]]), torch.tensor([[weight]]), padding=1).tolist() == [[want]]
    assert got.tolist() == [[want]]
    assert windows_of_line_268(x, weight, 1, start=0) == want
    assert windows_of_line_268(x, weight, 1, start=1) == [421, 842, 1684, 168, 16]


def test_line_268_names_both_sums_v():
    """As printed, the inner v hides the outer: k_h times the diagonal. Corrected: u, then v."""
    x, weight = draws(3, 5, 7).numpy(), draws(2, 3, 3, 3, seed=1).numpy()
    right = layers.conv2d_loops(x, weight)
    equal(torch.from_numpy(right), F.conv2d(*map(torch.from_numpy, (x, weight))))
    printed = np.zeros_like(right)
    for o, i, j in np.ndindex(right.shape):
        printed[o, i, j] = 3 * sum(weight[o, :, v, v] @ x[:, i + v, j + v] for v in range(3))
    assert np.abs(printed - right).max() > 1


def test_line_271_bars_are_floors():
    """As printed: |(H - k + 2p) / s| + 1. Corrected: the floor, and H + 2p at least k."""
    convolved = F.conv2d(torch.zeros(1, 1, 6, 9), torch.zeros(1, 1, 3, 4), stride=(2, 3), padding=1)
    assert list(convolved.shape[2:]) == [3, 3]
    assert layers.output_size(6, 3, 2, 1) == 3 != abs((6 - 3 + 2) / 2) + 1
    assert layers.output_size(9, 4, 3, 1) == 3 != abs((9 - 4 + 2) / 3) + 1
    # Of a window larger than the picture the bars make as many as 4.
    assert abs((1 - 4) // 1) + 1 == 4
    with pytest.raises(ValueError, match="size: expected at least 4"):
        layers.output_size(1, 4)
    with pytest.raises(RuntimeError, match="Kernel size can't be greater"):
        F.conv2d(torch.zeros(1, 1, 1, 4), torch.zeros(1, 1, 4, 4))


def test_line_276_what_is_called_convolution_does_not_flip():
    """As printed: right. A true convolution stamps its kernel where a pixel is lit."""
    lit = torch.zeros(1, 1, 5, 7).double()
    lit[..., 2, 3] = 1
    kernel = draws(1, 1, 3, 3)
    equal(layers.convolve2d(lit, kernel, padding=1)[0, 0, 1:4, 2:5], kernel[0, 0])
    equal(layers.conv2d(lit, kernel, padding=1)[0, 0, 1:4, 2:5], kernel[0, 0].flip(0, 1))


def test_line_320_the_variance_is_biased_and_eps_inside_the_root():
    """As printed: right, where S_g is all of a group's channels and pixels. Other readings differ:
    as few values as here, and as large an eps, tell them apart."""
    x, eps = draws(2, 6, 1, 3), 0.1
    grouped = x.reshape(2, 3, 6)
    mean = grouped.mean(2, keepdim=True)
    biased = grouped.var(2, correction=0, keepdim=True)
    right = F.group_norm(x, 3, eps=eps)
    equal(layers.group_norm(x, 3, eps=eps), right)
    equal(((grouped - mean) / (biased + eps).sqrt()).reshape(x.shape), right)
    for spread in (
        (grouped.var(2, keepdim=True) + eps).sqrt(),
        biased.sqrt() + eps,
        (biased + eps**2).sqrt(),
    ):
        assert gap(((grouped - mean) / spread).reshape(x.shape), right) > 0.01
    pixel_by_pixel = x.reshape(2, 3, 2, 1, 3)  # S_g without i and j
    centred = pixel_by_pixel - pixel_by_pixel.mean(2, keepdim=True)
    spread = (pixel_by_pixel.var(2, correction=0, keepdim=True) + eps).sqrt()
    assert gap((centred / spread).reshape(x.shape), right) > 0.01


def test_line_340_pools_from_0_and_line_371_counts_from_1():
    """As printed: X_{2i} here, row (i - 1) W + j there. Corrected: all from 0, as torch [E14]."""
    x = signal(0, 1, 2, 3, 4, 5, 6, 7)
    pair = x.expand(1, 1, 2, 8)
    for mode, want in (("nearest", [0, 2, 4, 6]), ("nearest-exact", [1, 3, 5, 7])):
        assert F.interpolate(pair, scale_factor=0.5, mode=mode).flatten().tolist() == want
    assert layers.nearest_down(pair).flatten().tolist() == [0, 2, 4, 6]
    assert layers.average_down(pair).flatten().tolist() == [0.5, 2.5, 4.5, 6.5]
    # Counted from 1, X_{2i} is nearest-exact, and the last mean has no second pixel.
    line = dict(enumerate(x.flatten().tolist(), 1))
    assert [line[2 * i] for i in range(1, 5)] == [1, 3, 5, 7]
    assert [(line[2 * i] + line[2 * i + 1]) / 2 for i in range(1, 4)] == [1.5, 3.5, 5.5]
    assert 2 * 4 + 1 not in line


def test_line_347_repeats_from_0():
    """As printed: Z_{2i + u}, which counted from 1 leaves out Z_1. Corrected: from 0, as torch."""
    x = signal(3, 1, 4)
    up = layers.nearest_up(x)
    assert torch.equal(up, F.interpolate(x, scale_factor=2, mode="nearest"))
    assert up[0, 0, 1].tolist() == [3, 3, 1, 1, 4, 4]
    from_0, from_1 = (
        {2 * i + u: value for i, value in enumerate([3, 1, 4], start) for u in (0, 1)}
        for start in (0, 1)
    )
    assert [from_0[i] for i in range(6)] == up[0, 0, 0].tolist()
    assert min(from_1) == 2


def test_line_371_counted_from_0_is_iw_plus_j():
    """As printed: row (i - 1) W + j, from 1. From 0 the same formula begins at row -W."""
    x = draws(1, 2, 3, 4)
    tokens = layers.flatten(x)[0]
    assert torch.equal(tokens, x[0].flatten(1).T)
    for i, j in np.ndindex(3, 4):
        printed = (i + 1 - 1) * 4 + (j + 1)  # i and j from 1
        assert torch.equal(tokens[printed - 1], x[0, :, i, j])
    assert min((i - 1) * 4 + j for i, j in np.ndindex(3, 4)) == -4


def test_lines_330_and_340_the_strided_convolution_can_be_either_pooling():
    """Stable Diffusion learns its kernel; some kernels of 3 x 3 pool."""
    x = draws(2, 3, 6, 8)
    down = Downsample2D(3).double()
    down.conv.bias.data.zero_()
    for pool, taps, weight in (
        (layers.nearest_down, slice(1, 2), 1),
        (layers.average_down, slice(1, 3), 1 / 4),
    ):
        down.conv.weight.data.zero_()
        for c in range(3):
            down.conv.weight.data[c, c, taps, taps] = weight
        equal(down(x), pool(x))


@pytest.mark.parametrize(("stride", "equivariant"), [(1, {1, 2}), (2, {2})])
def test_line_250_striding_is_equivariant_to_its_own_shifts_only(stride, equivariant):
    """As printed: every layer is. Corrected: shifts by the stride, and on a circle."""
    x, weight = draws(2, 3, 6, 8), draws(3, 3, 3, 3, seed=1)

    def circular(x):
        return layers.conv2d(F.pad(x, (1, 1, 1, 1), mode="circular"), weight, stride=stride)

    for shift in (1, 2):
        moved = circular(x.roll(shift, 3))
        least = min(gap(moved, circular(x).roll(k, 3)) for k in range(8))
        assert (least < 1e-10) == (shift in equivariant)
    # With padding by 0 not even stride 1 is.
    padded = [layers.conv2d(y, weight, padding=1) for y in (x, x.roll(1, 3))]
    assert gap(padded[1], padded[0].roll(1, 3)) > 0.1


def test_line_397_has_its_temperature_upside_down():
    """As printed: temperature 1 / sqrt(d) of scores already divided by sqrt(d), which undoes the
    division. Corrected: temperature 1 of these, or sqrt(d) of scores not divided."""
    q, k = signal(2, 1)[0, 0], torch.eye(2).double()
    v = torch.tensor([[1.0, 2], [4, -1]], dtype=torch.float64)
    scores, root = q @ k.T, 2**0.5
    right = F.scaled_dot_product_attention(q, k, v)
    assert right[0].tolist() == pytest.approx([1.990715, 1.009285], abs=1e-6)
    equal(layers.softmax(scores / root, 1) @ v, right)
    equal(layers.softmax(scores, root) @ v, right)
    literal, twice = (layers.softmax(scores / root, tau) @ v for tau in (1 / root, root))
    assert literal[0].tolist() == pytest.approx([1.806824, 1.193176], abs=1e-6)
    assert twice[0].tolist() == pytest.approx([2.132622, 0.867378], abs=1e-6)
    equal(literal, F.scaled_dot_product_attention(q, k, v, scale=1.0))


# --- The residual block: equations 4 to 9


def conv(x, module):
    return layers.conv2d(x, module.weight, module.bias, module.stride, module.padding)


def normed(x, norm):
    return layers.silu(layers.group_norm(x, norm.num_groups, norm.weight, norm.bias, norm.eps))


def film(x, gamma, beta):
    """gamma (.) U + beta, for every picture and channel."""
    return gamma[:, :, None, None] * x + beta[:, :, None, None]


def shortcut(x, block):
    return x if block.conv_shortcut is None else conv(x, block.conv_shortcut)


def film_block(x, gamma, beta, block):
    """Equations 4 to 9 as printed, on the convolutions and norms of one of our blocks."""
    w1 = conv(normed(x, block.norm1), block.conv1)
    norm = block.norm2
    u2 = layers.group_norm(w1, norm.num_groups, norm.weight, norm.bias, norm.eps)
    return shortcut(x, block) + conv(layers.silu(film(u2, gamma, beta)), block.conv2)


def added_block(x, shift, block):
    """The same, but the time is added before the norm, as Stable Diffusion does [B1]."""
    w1 = conv(normed(x, block.norm1), block.conv1) + shift[:, :, None, None]
    return shortcut(x, block) + conv(normed(w1, block.norm2), block.conv2)


def test_equation_04_is_norm_then_silu_then_convolution():
    """As printed: right."""
    sequence = random(nn.Sequential(nn.GroupNorm(3, 6), nn.SiLU(), nn.Conv2d(6, 4, 3, padding=1)))
    x = draws(2, 6, 5, 7)
    equal(conv(normed(x, sequence[0]), sequence[2]), sequence(x))
    # The order matters: SiLU before the norm gives something else.
    assert gap(sequence[2](sequence[0](sequence[1](x))), sequence(x)) > 0.1


def test_equation_05_is_one_linear_map_in_two_halves():
    """As printed: two maps of h. Code that scales and shifts has one, of twice the width."""
    gamma, beta = random(nn.Linear(5, 6)), random(nn.Linear(5, 6), seed=1)
    h = draws(2, 5)
    both = nn.Linear(5, 12).double()
    both.weight.data = torch.cat([gamma.weight, beta.weight])
    both.bias.data = torch.cat([gamma.bias, beta.bias])
    for map_, half in zip((gamma, beta), both(h).chunk(2, 1), strict=True):
        equal(layers.linear(h, map_.weight, map_.bias), half)


def test_equation_05_lacks_a_silu():
    """As printed: Linear(h). Our block, as Stable Diffusion's: Linear(SiLU(h)) [B2]."""
    block, x, h = random(ResnetBlock2D(6, 4, 5, groups=2)), draws(2, 6, 5, 7), 3 * draws(2, 5)
    project = block.time_emb_proj
    shift, printed = (layers.linear(z, project.weight, project.bias) for z in (layers.silu(h), h))
    equal(block(x, h), added_block(x, shift, block))
    assert gap(block(x, h), added_block(x, printed, block)) > 0.1


def test_equation_06_is_a_group_norm_whose_affine_part_depends_on_time():
    """As printed: right. With the norm's own gamma_c, beta_c: gamma(h) gamma_c and
    gamma(h) beta_c + beta(h), other ones for every picture."""
    w1, norm = 2 + 3 * draws(3, 6, 4, 5), random(nn.GroupNorm(2, 6))
    gamma, beta = draws(3, 6, seed=1), draws(3, 6, seed=2)
    modulated = film(layers.group_norm(w1, 2, norm.weight, norm.bias), gamma, beta)
    for b in range(3):
        weight, bias = gamma[b] * norm.weight, gamma[b] * norm.bias + beta[b]
        equal(modulated[b], F.group_norm(w1[b : b + 1], 2, weight, bias)[0])


def test_equation_06_with_maps_at_0_kills_the_branch():
    """As printed: gamma(h) = 0 for maps that start at 0, and no gradient gets through. Code that
    scales and shifts has 1 + gamma(h), which then leaves the norm alone [B1]."""
    block, x, zero = random(ResnetBlock2D(6, 6, 5, groups=2)), draws(2, 6, 4, 5), torch.zeros(2, 6)
    for gamma, alive in ((zero, False), (1 + zero, True)):
        block.zero_grad()
        film_block(x, gamma, zero, block).square().sum().backward()
        assert block.conv1.weight.grad.any() == alive
    equal(film_block(x, 1 + zero, zero, block), added_block(x, zero, block))


def test_equation_06_comes_after_the_norm_and_our_addition_before():
    """What is added to a whole group before its norm, the norm takes out again; FiLM's beta, which
    is printed, stays [B1, B4]."""
    block, x = random(ResnetBlock2D(6, 4, 5, groups=2)), draws(3, 6, 4, 5)
    by_group = draws(3, 2, seed=1).repeat_interleave(2, dim=1)
    one, zero = torch.ones(3, 4).double(), torch.zeros(3, 4).double()
    still = film_block(x, one, zero, block)
    equal(added_block(x, by_group, block), still)
    assert gap(film_block(x, one, by_group, block), still) > 0.1
    # Within a group, what is added before is scaled by the norm as well.
    by_channel = draws(3, 4, seed=2)
    assert gap(added_block(x, by_channel, block), still) > 0.1
    assert gap(added_block(x, by_channel, block), film_block(x, one, by_channel, block)) > 0.1


@pytest.mark.parametrize("k", [1, 3, 5])
def test_equation_07_keeps_the_size_only_if_p_is_half_of_k_less_1(k):
    """As printed: k and p are free; for S + W2 of equation 9 p must be (k - 1) / 2."""
    sequence = random(nn.Sequential(nn.SiLU(), nn.Conv2d(4, 6, k, padding=(k - 1) // 2)))
    u2 = draws(2, 4, 8, 5)
    w2 = conv(layers.silu(u2), sequence[1])
    equal(w2, sequence(u2))
    assert w2.shape[2:] == u2.shape[2:]
    for p in range(5):
        fits = [layers.output_size(n, k, 1, p) == n for n in (8, 5)]
        assert fits == [2 * p == k - 1] * 2


def test_equation_08_is_a_linear_map_of_every_pixels_channels():
    """As printed: right where channels differ."""
    x, module = draws(2, 6, 3, 5), random(nn.Conv2d(6, 4, 1))
    got = conv(x, module)
    equal(got, module(x))
    weight = module.weight[:, :, 0, 0]
    tokens = layers.linear(layers.flatten(x), weight, module.bias)
    equal(layers.unflatten(tokens, (3, 5)), got)
    equal(torch.einsum("oc,bchw->bohw", weight, x) + module.bias[:, None, None], got)


def test_equation_08_is_the_identity_in_code_where_channels_agree():
    """As printed: always a convolution. One with weight I and bias 0 is the identity [B3]."""
    x, zero = draws(2, 6, 3, 5), torch.zeros(2, 5).double()
    assert ResnetBlock2D(6, 4, 5, groups=2).conv_shortcut is not None
    block = random(ResnetBlock2D(6, 6, 5, groups=2))
    assert block.conv_shortcut is None
    without = block(x, zero)
    block.conv_shortcut = nn.Conv2d(6, 6, 1).double()
    block.conv_shortcut.weight.data = torch.eye(6).double()[:, :, None, None]
    block.conv_shortcut.bias.data.zero_()
    equal(block(x, zero), without)


@pytest.mark.parametrize("out", [4, 6])
def test_equation_09_without_time_is_our_block(out):
    """As printed with gamma = 1 and beta = 0: our block with a projection of the time that is 0."""
    block, x = random(ResnetBlock2D(6, out, 5, groups=2)), draws(2, 6, 3, 7)
    nn.init.zeros_(block.time_emb_proj.weight)
    nn.init.zeros_(block.time_emb_proj.bias)
    one = torch.ones(2, out).double()
    printed = film_block(x, one, 0 * one, block)
    equal(printed, block(x, torch.zeros(2, 5).double()))
    # And h no longer matters to ours.
    equal(printed, block(x, draws(2, 5, seed=1)))


def test_equation_09_is_diffusers_block_that_scales_and_shifts():
    """As printed, with 1 + gamma for gamma and SiLU(h) for h [B1, B2]; no such block is in Stable
    Diffusion 1.5."""
    theirs = diffusers.models.resnet.ResnetBlock2D(
        in_channels=6, out_channels=4, temb_channels=5, groups=2, eps=1e-5,
        time_embedding_norm="scale_shift",
    )  # fmt: skip
    random(theirs)
    ours = ResnetBlock2D(6, 4, 5, groups=2).double()
    state = theirs.state_dict()
    gamma, beta = layers.linear(
        layers.silu(h := draws(3, 5)),
        state.pop("time_emb_proj.weight"),
        state.pop("time_emb_proj.bias"),
    ).chunk(2, 1)
    assert ours.load_state_dict(state, strict=False).unexpected_keys == []
    x = draws(3, 6, 4, 5)
    equal(film_block(x, 1 + gamma, beta, ours), theirs(x, h))
    assert gap(film_block(x, gamma, beta, ours), theirs(x, h)) > 0.1


# --- Down, up and middle: equations 10 to 16, 19 and 20 (17 and 18 are attention)


def by_layers(x, h, block):
    project = block.time_emb_proj
    shift = layers.linear(layers.silu(h), project.weight, project.bias)
    return added_block(x, shift, block)


def down(size=(6, 9)):
    block = random(DownBlock2D([4, 8, 8], 5, CONFIG, downsample=True))
    x, h = draws(2, 4, *size), draws(2, 5, seed=1)
    return block, x, h


def test_equation_10_chains_residual_blocks():
    """As printed: right, with our block for the printed one."""
    block, x, h = down()
    outputs = block(x, h)
    assert len(outputs) == len(block.resnets) + 1
    for resnet, got in zip(block.resnets, outputs, strict=False):
        x = by_layers(x, h, resnet)
        equal(got, x)


@pytest.mark.parametrize("size", [(6, 10), (7, 12), (1, 3)])
def test_equation_11_halves_rounding_up(size):
    """As printed: k and p are free. With 3 and 1 (SD 1.5) a half is rounded up [B16]; with a
    kernel of 2 and no padding it is rounded down."""
    block, x, h = down(size)
    *_, last, halved = block(x, h)
    equal(halved, conv(last, block.downsamplers[0].conv))
    weight, bias = block.downsamplers[0].conv.parameters()
    equal(halved, F.conv2d(last, weight, bias, stride=2, padding=1))
    assert list(halved.shape[2:]) == [-(-n // 2) for n in size]
    for n in size:
        assert layers.output_size(n, 3, 2, 1) == -(-n // 2)
        assert n == 1 or layers.output_size(n, 2, 2, 0) == n // 2


def test_equation_11_is_left_out_at_the_last_level():
    """As printed: every level halves. Code: all but the last [B8]."""
    block = DownBlock2D([4, 8, 8], 5, CONFIG, downsample=False).double()
    outputs = block(draws(2, 4, 6, 9), draws(2, 5))
    assert [list(y.shape) for y in outputs] == [[2, 8, 6, 9]] * 2


def test_equation_12_cannot_run(no_typecheck):
    """As printed: the skip is D_l, taken after it was halved, and X is enlarged before: 2 to 1.
    Corrected: the skip is H_n, from before [B11]."""
    block, x, h = down((6, 10))
    *_, before, after = block(x, h)
    enlarged = layers.nearest_up(after)
    message = r"b: .*\(2, 8, 6, 10\), came \(2, 8, 3, 5\)"
    with pytest.raises(ValueError, match=message):
        layers.concat(enlarged, after)
    with pytest.raises(RuntimeError, match=r"Expected size 6 but got size 3"):
        torch.cat([enlarged, after], dim=1)

    up = random(Upsample2D(8))
    y0 = layers.concat(up(after, (6, 10)), before)
    assert y0.shape == (2, 16, 6, 10)
    weight, bias = up.conv.parameters()
    doubled = F.interpolate(after, scale_factor=2, mode="nearest")
    equal(y0[:, :8], F.conv2d(doubled, weight, bias, padding=1))
    equal(y0[:, :8], conv(enlarged, up.conv))
    equal(y0[:, 8:], before)


def test_equation_12_corrected_needs_the_skips_size_where_it_is_odd(no_typecheck):
    """Twice a half that was rounded up is one too many; ours enlarges to the size of the skip."""
    block, x, h = down((7, 10))
    *_, before, after = block(x, h)
    up = random(Upsample2D(8))
    with pytest.raises(ValueError, match=r"b: .*\(2, 8, 8, 10\), came \(2, 8, 7, 10\)"):
        layers.concat(conv(layers.nearest_up(after), up.conv), before)
    assert layers.concat(up(after, (7, 10)), before).shape == (2, 16, 7, 10)


SKIPS = (8, 4, 6)  # channels, in the order in which they are taken


def up(upsample=False, seed=0):
    config = UNetConfig(block_out_channels=(8,), norm_num_groups=2)
    block = random(UpBlock2D(10, 8, SKIPS, 5, config, upsample), seed)
    skips = [draws(2, c, 4, 7, seed=i) for i, c in enumerate(SKIPS)][::-1]
    return block, draws(2, 10, 4, 7, seed=9), skips, draws(2, 5, seed=8)


def test_equation_13_has_one_skip_and_ours_has_one_for_every_residual_block():
    """As printed: only Y_0 has the skip's channels. Code: every residual block gets a skip [B9],
    which comes after what is from below."""
    block, x, skips, h = up()
    assert [r.norm1.num_channels for r in block.resnets] == [10 + 8, 8 + 4, 8 + 6]
    got = block(x, list(skips), h)
    y, other = x, x
    for resnet, skip in zip(block.resnets, skips[::-1], strict=True):
        y = by_layers(layers.concat(y, skip), h, resnet)
        other = by_layers(layers.concat(skip, other), h, resnet)
    equal(got, y)
    assert gap(got, other) > 0.1
    # As printed the chain has 18, 8 and 8 channels, and the last two skips are not seen.
    printed = [random(ResnetBlock2D(c, 8, 5, groups=2)) for c in (18, 8, 8)]
    y = layers.concat(x, skips[-1])
    for resnet in printed:
        y = by_layers(y, h, resnet)
    assert y.shape == got.shape
    for i in range(3):
        louder = list(skips)
        louder[i] = 2 * louder[i]
        assert gap(block(x, louder, h), got) > 0.01


def test_equation_14_ends_where_ours_still_enlarges():
    """As printed: Y_n, as large as its skip. Code: that, enlarged for the level above [B10]."""
    block, x, skips, h = up(upsample=True)
    above = draws(2, 3, 7, 14, seed=7)  # its size is the one to enlarge to: one odd, one even
    got = block(x, [above, *skips], h)
    assert got.shape == (2, 8, 7, 14)

    enlarge, block.upsamplers = block.upsamplers[0].conv, nn.ModuleList()
    yn = block(x, list(skips), h)
    assert yn.shape == (2, 8, 4, 7)
    equal(got, conv(layers.nearest_up(yn)[:, :, :7], enlarge))


def mid():
    config = UNetConfig(block_out_channels=(6,), norm_num_groups=3)
    return random(MidBlock2D(6, 5, config)), draws(2, 6, 3, 4), draws(2, 5, seed=1)


def test_equation_15_is_the_first_residual_block():
    """As printed: right. A second block whose last convolution is 0 is the identity."""
    block, x, h = mid()
    nn.init.zeros_(block.resnets[1].conv2.weight)
    nn.init.zeros_(block.resnets[1].conv2.bias)
    equal(block(x, h), by_layers(x, h, block.resnets[0]))


def test_equation_16_gives_a_token_for_every_pixel():
    """As printed: (H W) x d_in, where d_in is the number of channels."""
    a0 = draws(2, 6, 3, 4)
    flat = layers.flatten(a0)
    assert flat.shape == (2, 3 * 4, 6)
    assert torch.equal(flat, a0.flatten(2).transpose(1, 2))
    # Column by column, which a square picture would hide, the tokens are others.
    assert not torch.equal(flat, a0.transpose(2, 3).flatten(2).transpose(1, 2))


def test_equation_19_undoes_16():
    """As printed: right, with (H, W) told: 4 x 3 pixels have as many tokens as 3 x 4."""
    a0 = draws(2, 6, 3, 4)
    b2 = layers.flatten(a0)
    assert torch.equal(layers.unflatten(b2, (3, 4)), a0)
    assert torch.equal(layers.flatten(layers.unflatten(b2, (4, 3))), b2)
    # The picture it then gives is not even the turned one.
    assert not torch.equal(layers.unflatten(b2, (4, 3)).flatten(2), a0.transpose(2, 3).flatten(2))


def test_equation_20_without_attention_is_our_middle():
    """As printed, where 17 and 18 hand on what they got: two residual blocks."""
    block, x, h = mid()
    a0 = by_layers(x, h, block.resnets[0])
    a1 = layers.unflatten(layers.flatten(a0), (3, 4))
    equal(by_layers(a1, h, block.resnets[1]), block(x, h))


def stack_of(convs, halve):
    """The way down of a U-Net in 1-D: convs[l] convolutions of three taps at level l."""
    parts = []
    for level, n in enumerate(convs):
        parts += [halve()] * (level > 0)
        parts += [nn.Conv1d(1, 1, 3, padding=1) for _ in range(n)]
    return nn.Sequential(*parts)


def test_equation_21_field_of_a_pure_cnn():
    """As printed, 1 + (k - 1) L, for every kernel."""
    for kernel, depth in [(3, 1), (3, 31), (3, 32), (5, 7), (1, 9)]:
        parts = [nn.Conv1d(1, 1, kernel, padding=kernel // 2) for _ in range(depth)]
        measured = footprint(nn.Sequential(*parts), (1, 90), (45,)).size[0]
        assert measured == r_pure(depth, kernel) == 1 + (kernel - 1) * depth
    assert (r_pure(31), r_pure(32)) == (63, 65)


@pytest.mark.parametrize(("width", "centre", "edge"), [(64, 32, 63), (512, 256, 511)])
def test_equation_22_depth_for_a_width(width, centre, edge):
    """As printed for the centre; corrected, from edge to edge: L >= W - 1."""
    assert centre == math.ceil((width - 1) / 2)

    def seen(depth, at):
        return theoretical([Window(3, padding=1)] * depth).inputs(at, width)

    assert len(seen(centre, width // 2)) == width
    assert len(seen(centre - 1, width // 2)) < width
    assert max(seen(centre, 0)) == centre < width - 1
    assert width - 1 in seen(edge, 0)
    assert width - 1 not in seen(edge - 1, 0)
    assert edge == width - 1


@pytest.mark.parametrize("convs", [[3], [1, 2], [2, 0, 1], [1, 1, 3, 2]])
def test_equation_23_field_of_the_way_down(convs):
    """Exact for subsampling; corrected by (k_d - 1)(2^L - 1) for pools and strided convolutions."""
    levels = len(convs) - 1
    printed = 1 + 2 * sum(2**level * n for level, n in enumerate(convs))
    halvings = {
        1: lambda: nn.Conv1d(1, 1, 1, 2),
        2: lambda: nn.AvgPool1d(2),
        3: lambda: nn.Conv1d(1, 1, 3, 2, 1),
    }
    for kernel, halve in halvings.items():
        measured = footprint(stack_of(convs, halve), (1, 256), (128 // 2**levels,)).size[0]
        assert measured - printed == (kernel - 1) * (2**levels - 1)
        assert measured == r_unet(convs, down_kernel=kernel)


def test_equation_24_the_same_number_at_each_level():
    """As printed (63 and 125), and what is measured with pools and strided convolutions."""
    for n, measured in {1: (63, 78, 93), 2: (125, 140, 155)}.items():
        fields = [r_unet([n] * 5, down_kernel=kernel) for kernel in (1, 2, 3)]
        assert fields == list(measured)
        assert fields[0] == 1 + 2 * n * (2**5 - 1)


@pytest.mark.parametrize(
    ("width", "n", "bound", "printed", "exact", "field", "edge"),
    [
        (64, 1, 4.0224, 5, 4, 93, 5),
        (64, 2, 3.0661, 4, 3, 75, 4),
        (512, 1, 7.0028, 8, 7, 765, 8),
        (512, 2, 6.0084, 7, 6, 635, 7),
    ],
)
def test_equation_25_levels_for_a_width(width, n, bound, printed, exact, field, edge):
    """Sufficient as printed, and the least by (24); with strided convolutions one less does."""
    assert math.log2((width - 1) / (2 * n) + 1) - 1 == pytest.approx(bound, abs=5e-5)

    def least(width, kernel):
        return next(L for L in range(99) if r_unet([n] * (L + 1), down_kernel=kernel) >= width)

    assert least(width, 1) == math.ceil(bound) == printed
    assert least(width, 3) == exact
    assert r_unet([n] * (exact + 1), down_kernel=3) == field
    assert least(2 * width - 1, 3) == edge
    for at_least in range(2, 700):  # sufficient, whatever halves
        levels = max(0, math.ceil(math.log2((at_least - 1) / (2 * n) + 1) - 1))
        assert all(r_unet([n] * (levels + 1), down_kernel=k) >= at_least for k in (1, 2, 3))
