"""Every layer equals torch's, or what its definition says where torch has none."""

import numpy as np
import pytest
import scipy.signal
import torch
from einops import rearrange
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from course.models import layers

# Size, kernel, stride, padding, dilation.
WINDOWS = {
    "plain": ((7, 10), (3, 2), 1, 0, 1),
    "as Stable Diffusion halves": ((6, 9), (3, 3), 2, 1, 1),
    "kernel 1": ((4, 7), (1, 1), (2, 1), 0, 1),
    "stride above kernel": ((11, 8), (2, 1), (3, 4), 0, 1),
    "stride and padding of each axis": ((5, 6), (3, 4), (2, 1), (0, 3), 1),
    "kernel above the picture": ((2, 5), (4, 3), 1, (1, 0), 1),
    "padding above the kernel": ((3, 5), (1, 2), (2, 3), (2, 3), 1),
    "dilation": ((9, 12), (3, 2), (1, 2), (2, 0), (2, 5)),
}
each_window = pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "dilation"), WINDOWS.values(), ids=WINDOWS
)


def draws(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def equal(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@each_window
def test_conv2d_is_torchs(size, kernel, stride, padding, dilation):
    x, weight, bias = draws(2, 3, *size), draws(5, 3, *kernel, seed=1), draws(5, seed=2)
    for b in (bias, None):
        want = F.conv2d(x, weight, b, stride, padding, dilation)
        equal(layers.conv2d(x, weight, b, stride, padding, dilation), want)


@each_window
def test_conv2d_loops_is_torchs(size, kernel, stride, padding, dilation):
    """The loops know no dilation: the kernel is given with zeros between its taps instead."""
    (kh, kw), (dh, dw) = kernel, np.broadcast_to(dilation, 2)
    x, bias = draws(3, *size), draws(5, seed=2)
    weight = torch.zeros(5, 3, dh * (kh - 1) + 1, dw * (kw - 1) + 1, dtype=torch.float64)
    weight[:, :, ::dh, ::dw] = draws(5, 3, *kernel, seed=1)
    for b in (bias, None):
        got = layers.conv2d_loops(
            x.numpy(), weight.numpy(), None if b is None else b.numpy(), stride, padding
        )
        equal(torch.from_numpy(got), F.conv2d(x, weight, b, stride, padding))


@each_window
def test_unfold_is_torchs(size, kernel, stride, padding, dilation):
    x = draws(2, 3, *size)
    want = F.unfold(x, kernel, dilation, padding, stride)
    got = layers.unfold(x, kernel, stride, padding, dilation)
    assert torch.equal(rearrange(got, "b c h w k l -> b (c k l) (h w)"), want)


def test_unfold_takes_no_memory_but_the_padded_pictures():
    windows = layers.unfold(draws(2, 3, 5, 7), (3, 4), padding=(1, 2))
    assert windows.numel() > 5 * 2 * 3 * 7 * 11
    assert windows.untyped_storage().nbytes() == 8 * 2 * 3 * 7 * 11


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 12), st.integers(1, 5), st.integers(1, 4), st.integers(0, 4), st.integers(1, 3)
)
def test_output_size_counts_the_windows(size, kernel, stride, padding, dilation):
    end = size + 2 * padding
    starts = [i for i in range(0, end, stride) if i + dilation * (kernel - 1) < end]
    if starts:
        assert layers.output_size(size, kernel, stride, padding, dilation) == len(starts)
    else:
        with pytest.raises(ValueError, match=rf"size: .* padding {padding}, came {size}"):
            layers.output_size(size, kernel, stride, padding, dilation)


def test_too_small_a_size_is_told_the_least_that_fits():
    with pytest.raises(ValueError, match=r"size: expected at least 5 .* over 7 .* came 4"):
        layers.output_size(4, kernel=4, padding=1, dilation=2)
    assert layers.output_size(5, kernel=4, padding=1, dilation=2) == 1


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_conv2d_is_torchs_whatever_the_numbers(data):
    def two(low, high):
        return data.draw(st.tuples(st.integers(low, high), st.integers(low, high)))

    kernel, stride, padding, dilation = two(1, 4), two(1, 5), two(0, 4), two(1, 3)
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    least = [max(1, r - 2 * p) for r, p in zip(reach, padding, strict=True)]
    x = draws(2, 3, *(a + b for a, b in zip(least, two(0, 6), strict=True)))
    weight = draws(4, 3, *kernel, seed=1)
    want = F.conv2d(x, weight, None, stride, padding, dilation)
    equal(layers.conv2d(x, weight, None, stride, padding, dilation), want)


@pytest.mark.parametrize(
    ("mode", "padding"), [("valid", (0, 0)), ("same", (1, 2)), ("full", (2, 4))]
)
def test_convolve2d_is_scipys(mode, padding):
    x, weight, bias = draws(2, 3, 6, 9), draws(4, 3, 3, 5, seed=1), draws(4, seed=2)
    sums = np.zeros((2, 4, *np.add((6, 9), 2 * np.array(padding)) - (2, 4)))
    for b, o, c in np.ndindex(2, 4, 3):
        sums[b, o] += scipy.signal.convolve2d(x[b, c].numpy(), weight[o, c].numpy(), mode)
    want = torch.from_numpy(sums) + bias[:, None, None]
    equal(layers.convolve2d(x, weight, bias, padding=padding), want)
    # A stride leaves out outputs.
    equal(layers.convolve2d(x, weight, bias, (2, 3), padding), want[:, :, ::2, ::3])


# Size, kernel, stride, padding.
STAMPS = {
    "plain": ((4, 6), (3, 2), 1, 0),
    "as GANs double": ((3, 5), (4, 4), 2, 1),
    "stride does not divide": ((3, 5), (3, 5), 2, (1, 2)),
    "stride above kernel": ((4, 2), (2, 1), (3, 4), (1, 0)),
    "kernel 1": ((2, 5), (1, 1), (1, 3), 0),
    "kernel above the picture": ((1, 2), (5, 4), (2, 1), (1, 2)),
}
each_stamp = pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"), STAMPS.values(), ids=STAMPS
)


@each_stamp
def test_conv_transpose2d_is_torchs(size, kernel, stride, padding):
    x, weight, bias = draws(2, 3, *size), draws(3, 5, *kernel, seed=1), draws(5, seed=2)
    for b in (bias, None):
        want = F.conv_transpose2d(x, weight, b, stride, padding)
        equal(layers.conv_transpose2d(x, weight, b, stride, padding), want)


@each_stamp
def test_conv_transpose2d_is_the_adjoint_of_conv2d(size, kernel, stride, padding):
    """<conv(x), y> = <x, conv_transpose(y)>, with the same weight."""
    y, weight = draws(2, 3, *size), draws(3, 5, *kernel, seed=1)
    back = layers.conv_transpose2d(y, weight, None, stride, padding)
    x = draws(*back.shape, seed=2)
    there = layers.conv2d(x, weight, None, stride, padding)
    assert there.shape == y.shape
    equal((there * y).sum(), (x * back).sum())


def test_conv_transpose2d_stamps_a_checkerboard_unless_the_stride_divides_the_kernel():
    ones = torch.ones(1, 1, 4, 6, dtype=torch.float64)

    def inner(kernel):
        y = layers.conv_transpose2d(ones, torch.ones(1, 1, kernel, kernel).double(), stride=2)
        return y[0, 0, 2:-2, 2:-2]

    assert inner(3)[:2, :2].tolist() == [[4, 2], [2, 1]]
    assert inner(4).unique().tolist() == [4]


def test_linear_is_torchs():
    weight, bias = draws(5, 7, seed=1), draws(5, seed=2)
    for shape in ((7,), (3, 7), (2, 3, 4, 7)):
        for b in (bias, None):
            equal(layers.linear(draws(*shape), weight, b), F.linear(draws(*shape), weight, b))


def test_silu_is_torchs():
    x = torch.cat([4 * draws(50), torch.tensor([0.0, 1e-9, -800.0, 800.0]).double()])
    equal(layers.silu(x), F.silu(x))
    # The least value, and where it is taken.
    assert layers.silu(torch.tensor(-1.2784645)).item() == pytest.approx(-0.2784645, abs=1e-6)


@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("temperature", [0.3, 1, 7.5])
def test_softmax_is_torchs(dim, temperature):
    x = 3 * draws(2, 3, 5)
    equal(layers.softmax(x, temperature, dim), F.softmax(x / temperature, dim))


def test_softmax_evens_out_when_hot_and_picks_the_largest_when_cold():
    x = torch.tensor([[0.3, -1.0, 0.2, 0.1], [5.0, 5.0, -2.0, 4.0]], dtype=torch.float64)
    torch.testing.assert_close(layers.softmax(x, 1e9), torch.full_like(x, 0.25), rtol=0, atol=1e-8)
    equal(layers.softmax(x, 1e-3), torch.tensor([[1.0, 0, 0, 0], [0.5, 0.5, 0, 0]]).double())


def test_softmax_does_not_overflow():
    x = torch.tensor([1e4, 1e4 + 1, -1e4], dtype=torch.float64)
    equal(layers.softmax(x), F.softmax(torch.tensor([0.0, 1, -2e4]).double(), 0))
    assert layers.softmax(torch.tensor([-3e38, 3e38])).tolist() == [0, 1]


# An epsilon as large as the variance tells where it is added.
each_eps = pytest.mark.parametrize("eps", [1e-5, 0.7])


@each_eps
def test_standardise_is_torchs(eps):
    x = 2 + 3 * draws(2, 3, 4, 5)
    equal(layers.standardise(x, (2, 3), eps), F.layer_norm(x, (4, 5), eps=eps))
    turned = layers.standardise(x.permute(3, 0, 2, 1), (0, 2), eps)
    equal(turned.permute(1, 3, 2, 0), layers.standardise(x, (2, 3), eps))


def test_standardise_gives_mean_0_and_variance_1_but_leaves_a_constant_at_0():
    y = layers.standardise(2 + 3 * draws(2, 3, 4), (0, 2), eps=0)
    equal(y.mean((0, 2)), torch.zeros(3).double())
    equal(y.var((0, 2), correction=0), torch.ones(3).double())
    assert not layers.standardise(torch.full((2, 3), 0.25), (1,)).any()


AFFINE = {
    "weight and bias": (draws(6, seed=1), draws(6, seed=2)),
    "weight": (draws(6, seed=1), None),
    "bias": (None, draws(6, seed=2)),
    "none": (None, None),
}
each_affine = pytest.mark.parametrize(("weight", "bias"), AFFINE.values(), ids=AFFINE)


def pictures():
    """Batch, channels, height and width all differ, and so do mean and spread of each channel."""
    scale = torch.arange(1, 7, dtype=torch.float64)[:, None, None]
    return 5 - scale + scale * draws(2, 6, 3, 4)


@each_eps
@each_affine
@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_group_norm_is_torchs(groups, weight, bias, eps):
    want = F.group_norm(pictures(), groups, weight, bias, eps)
    equal(layers.group_norm(pictures(), groups, weight, bias, eps), want)


@each_eps
@each_affine
def test_layer_norm_is_torchs(weight, bias, eps):
    """torch's has a weight of its own for every pixel; ours has one for each channel."""
    wide = [None if p is None else p[:, None, None].expand(6, 3, 4) for p in (weight, bias)]
    equal(
        layers.layer_norm(pictures(), weight, bias, eps),
        F.layer_norm(pictures(), (6, 3, 4), *wide, eps),
    )


@each_eps
@each_affine
def test_instance_norm_is_torchs(weight, bias, eps):
    want = F.instance_norm(pictures(), weight=weight, bias=bias, eps=eps)
    equal(layers.instance_norm(pictures(), weight, bias, eps), want)


@each_eps
@each_affine
def test_batch_norm_is_torchs(weight, bias, eps):
    want = F.batch_norm(pictures(), None, None, weight, bias, training=True, eps=eps)
    equal(layers.batch_norm(pictures(), weight, bias, eps), want)


def test_the_default_eps_is_torchs():
    """On pictures so faint that it matters."""
    x = 1e-3 * pictures()
    norm = torch.nn.GroupNorm(3, 6).double()
    equal(layers.group_norm(x, 3), norm(x))
    equal(layers.layer_norm(x), torch.nn.LayerNorm((6, 3, 4)).double()(x))
    equal(layers.instance_norm(x), torch.nn.InstanceNorm2d(6).double()(x))
    equal(layers.batch_norm(x), torch.nn.BatchNorm2d(6).double()(x))
    assert (norm(x) - F.group_norm(x, 3, eps=0)).abs().max() > 0.1


def test_group_norm_is_layer_norm_with_one_group_and_instance_norm_with_all():
    x, (weight, bias) = pictures(), AFFINE["weight and bias"]
    equal(layers.group_norm(x, 1, weight, bias), layers.layer_norm(x, weight, bias))
    equal(layers.group_norm(x, 6, weight, bias), layers.instance_norm(x, weight, bias))
    # And instance norm is batch norm of one picture.
    equal(layers.instance_norm(x[:1]), layers.batch_norm(x[:1]))


@pytest.mark.parametrize("factor", [1, 2, 3])
@pytest.mark.parametrize("size", [(6, 12), (7, 5), (8, 10)])
def test_resampling_is_torchs(size, factor):
    x = draws(2, 3, *size)
    assert torch.equal(layers.nearest_down(x, factor), F.max_pool2d(x, 1, factor))
    equal(layers.average_down(x, factor), F.avg_pool2d(x, factor))
    up = layers.nearest_up(x, factor)
    assert torch.equal(up, F.interpolate(x, scale_factor=factor, mode="nearest"))
    assert torch.equal(layers.nearest_down(up, factor), x)
    equal(layers.average_down(up, factor), x)
    if size[0] % factor == size[1] % factor == 0:
        want = F.interpolate(x, scale_factor=1 / factor, mode="nearest")
        assert torch.equal(layers.nearest_down(x, factor), want)


def test_token_iw_plus_j_is_pixel_ij():
    x = draws(2, 5, 3, 4)
    y = layers.flatten(x)
    assert y.shape == (2, 12, 5)
    for i, j in np.ndindex(3, 4):
        assert torch.equal(y[:, i * 4 + j], x[:, :, i, j])
    tokens = draws(2, 12, 5, seed=1)
    picture = layers.unflatten(tokens, (4, 3))
    for i, j in np.ndindex(4, 3):
        assert torch.equal(picture[:, :, i, j], tokens[:, i * 3 + j])


@settings(max_examples=20, deadline=None)
@given(st.tuples(*[st.integers(1, 5)] * 4))
def test_unflatten_undoes_flatten(shape):
    x = draws(*shape)
    assert torch.equal(layers.unflatten(layers.flatten(x), shape[2:]), x)


def test_concat_keeps_the_channels_in_order():
    a, b = draws(2, 3, 4, 5), draws(2, 6, 4, 5, seed=1)
    both = layers.concat(a, b)
    assert torch.equal(both[:, :3], a)
    assert torch.equal(both[:, 3:], b)


def test_gradients_are_right():
    x, weight, bias = draws(2, 4, 3, 5), draws(3, 4, 2, 3, seed=1), draws(3, seed=2)
    scale, shift = draws(4, seed=3), draws(4, seed=4)
    for p in (x, weight, bias, scale, shift):
        p.requires_grad_()

    def strided(*p):
        return layers.conv2d(*p, stride=(1, 2), padding=(0, 1))

    def grouped(x, *affine):
        return layers.group_norm(x, 2, *affine)

    assert torch.autograd.gradcheck(strided, (x, weight, bias), fast_mode=True)
    assert torch.autograd.gradcheck(grouped, (x, scale, shift), fast_mode=True)


def test_bad_arguments_are_named(no_typecheck):
    x, weight = draws(2, 3, 4, 9), draws(5, 3, 2, 3)
    two = r"x: expected 3 channels, .* came 2"
    for call, message in (
        (lambda: layers.output_size(0, 1), "size: expected at least 1, came 0"),
        (lambda: layers.output_size(5, 0), "kernel: expected at least 1, came 0"),
        (lambda: layers.output_size(5, 3, 0), "stride: expected at least 1, came 0"),
        (lambda: layers.output_size(5, 3, 1, -1), "padding: expected at least 0, came -1"),
        (lambda: layers.output_size(5, 3, 1, 0, 0), "dilation: expected at least 1, came 0"),
        (lambda: layers.conv2d_loops(x[0, :2].numpy(), weight.numpy()), two),
        (lambda: layers.conv2d_loops(x[0, :, :1].numpy(), weight.numpy()), "size: .* came 1"),
        (lambda: layers.unfold(x, (5, 1)), "size: .* came 4"),
        (lambda: layers.unfold(x, (1, 5), dilation=(1, 3)), "size: .* came 9"),
        (lambda: layers.unfold(x, 2, stride=(1, 0)), "stride: .* came 0"),
        (lambda: layers.conv2d(x[:, :2], weight), two),
        (lambda: layers.conv2d(x[..., :2], weight), "size: .* came 2"),
        (lambda: layers.conv2d(x, weight, padding=(-1, 0)), "padding: .* came -1"),
        (lambda: layers.convolve2d(x[:, :2], weight), two),
        (lambda: layers.conv_transpose2d(x, weight), r"x: expected 5 channels, .* came 3"),
        (
            lambda: layers.conv_transpose2d(x, weight[:3], padding=(1, 3)),
            r"padding: .* kernel \(2, 3\), .* came \(1, 3\)",
        ),
        (
            lambda: layers.conv_transpose2d(x, weight[:3], padding=2),
            r"padding: .* kernel \(2, 3\), .* came \(2, 2\)",
        ),
        (lambda: layers.linear(x, draws(5, 8)), "x: expected 8 .* came 9"),
        (lambda: layers.softmax(x, 0), "temperature: expected a number above 0, came 0"),
        (lambda: layers.softmax(x, -1.5), "temperature: .* came -1.5"),
        (lambda: layers.softmax(x, float("inf")), "temperature: .* came inf"),
        (lambda: layers.softmax(x, float("nan")), "temperature: .* came nan"),
        (lambda: layers.group_norm(x, 2), "groups: expected a divisor of C = 3, came 2"),
        (lambda: layers.group_norm(x, 6), "groups: expected a divisor of C = 3, came 6"),
        (lambda: layers.group_norm(x, 0), "groups: expected a divisor of C = 3, came 0"),
        (lambda: layers.group_norm(x, -3), "groups: expected a divisor of C = 3, came -3"),
        (lambda: layers.average_down(x, 5), "factor: .* came 5"),
        (lambda: layers.nearest_down(x, 0), "factor: .* came 0"),
        (lambda: layers.nearest_up(x, -1), "factor: .* came -1"),
        (lambda: layers.conv_transpose2d(x, draws(3, 2, 2, 3), stride=0), "stride: .*came"),
        (lambda: layers.conv_transpose2d(x, draws(3, 2, 2, 3), padding=-1), "padding: "),
        (
            lambda: layers.unflatten(draws(2, 12, 3), (3, 5)),
            r"size: expected H \* W = 12, came 3 \* 5",
        ),
        (lambda: layers.concat(x, x[:1]), r"b: .*\(2, 3, 4, 9\), came \(1, 3, 4, 9\)"),
        (lambda: layers.concat(x, x[:, :, :1]), r"b: .* came \(2, 3, 1, 9\)"),
        (lambda: layers.concat(x, x[..., :1]), r"b: .* came \(2, 3, 4, 1\)"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
