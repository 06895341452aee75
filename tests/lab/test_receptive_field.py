"""Fields in theory, by gradient, and by an oracle that needs neither: NaN spreads where it can."""

import copy
import itertools

import diffusers
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from course.lab.receptive_field import (
    Effective,
    Footprint,
    Stamp,
    Window,
    effective,
    footprint,
    r_pure,
    r_unet,
    theoretical,
)
from course.models.unet import UNet2DConditionModel, UNetConfig


def tainted(model, input_size, at, args=()):
    """Inputs which, made NaN, make the output NaN: no gradient, no replaced layer, no theory."""
    model = copy.deepcopy(model).double().eval()
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    mask = np.zeros(input_size[1:], bool)
    for place in np.ndindex(mask.shape):
        x = torch.randn(1, *input_size, dtype=torch.float64)
        x[(0, slice(None), *place)] = torch.nan
        with torch.no_grad():
            y = model(x, *args)
        mask[place] = y[(0, slice(None), *at)].isnan().any()
    return mask


def product(chain, input_size, at):
    """What `theoretical` says of pictures: the product of the sets of both axes."""
    mask = np.zeros(input_size[1:], bool)
    sets = [
        theoretical(chain, axis).inputs(place, length)
        for axis, (place, length) in enumerate(zip(at, input_size[1:], strict=True))
    ]
    for place in itertools.product(*sets):
        mask[place] = True
    return mask


def pairs(low, high):
    return st.tuples(st.integers(low, high), st.integers(low, high))


@st.composite
def layers(draw, channels):
    """One layer of any kind, with another number for each axis, strides beyond kernels included."""
    kind = draw(st.sampled_from(("conv", "max", "average", "up", "transposed", "relu")))
    kernel, stride, dilation = draw(pairs(1, 4)), draw(pairs(1, 5)), draw(pairs(1, 3))
    if kind == "conv":
        return nn.Conv2d(channels, channels, kernel, stride, draw(pairs(0, 3)), dilation)
    half = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    if kind == "max":
        return nn.MaxPool2d(kernel, stride, half, dilation)
    if kind == "average":
        return nn.AvgPool2d(kernel, stride, half)
    if kind == "up":
        return nn.Upsample(scale_factor=draw(pairs(1, 3)))
    if kind == "transposed":
        more = tuple(
            draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True)
        )
        cut = tuple(draw(st.integers(0, k - 1)) for k in kernel)
        return nn.ConvTranspose2d(channels, channels, kernel, stride, cut, more, 1, True, dilation)
    return nn.ReLU()


# Chains that leave nothing of a small picture are drawn again; a loaded machine draws slowly.
SLOW = [HealthCheck.filter_too_much, HealthCheck.too_slow]


@given(data=st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=SLOW)
def test_theory_and_gradient_agree_as_sets(data):
    size = data.draw(st.integers(4, 13)), data.draw(st.integers(14, 23))
    chain = nn.Sequential(*data.draw(st.lists(layers(2), min_size=1, max_size=6)))
    sizes = list(size)
    for axis, n in enumerate(size):
        try:
            sizes[axis] = theoretical(chain, axis).lengths(n)[-1]
        except ValueError:
            assume(False)
    assume(max(sizes) <= 120)
    at = tuple(data.draw(st.integers(0, n - 1)) for n in sizes)
    measured = footprint(chain, (2, *size), at)
    assert np.array_equal(measured.mask, product(chain, (2, *size), at))
    with torch.no_grad():
        assert chain(torch.zeros(1, 2, *size)).shape[2:] == tuple(sizes)


@pytest.mark.parametrize(
    "chain",
    [
        nn.Sequential(
            nn.Conv2d(2, 3, (3, 1), (2, 1), (1, 0)), nn.MaxPool2d((1, 3), dilation=(1, 2))
        ),
        nn.Sequential(nn.ConvTranspose2d(2, 3, 3, 2, 1), nn.Conv2d(3, 1, (2, 3), dilation=2)),
        nn.Sequential(
            nn.Conv2d(2, 2, 1, 4), nn.Upsample(scale_factor=(3, 2)), nn.AvgPool2d((2, 1))
        ),
    ],
)
def test_theory_agrees_with_nan(chain):
    size, at = (2, 9, 13), (1, 2)
    assert np.array_equal(product(chain, size, at), tainted(chain, size, at))


def test_holes_are_seen():
    """Two dilated taps, and a stride larger than the kernel, leave inputs out."""
    assert theoretical([Window(2, dilation=3), Window(2)]).inputs(4) == {4, 5, 7, 8}
    assert theoretical([Window(1, stride=3)]).inputs(5, 20) == {15}
    assert theoretical([Window(1, stride=3), Window(3)]).inputs(0) == {0, 3, 6}
    assert theoretical([Stamp(1, 2)]).inputs(3) == set()  # between two stamps
    assert footprint(nn.ConvTranspose1d(1, 1, 1, 2), (1, 5), (3,)).size == (0,)


def test_padding_between_layers_is_no_input():
    """At the border the second layer sees padding, which no input can reach: 0..2, not 0..3."""
    chain = [Window(3, padding=1)] * 2
    assert theoretical(chain).inputs(0) == {-2, -1, 0, 1, 2}
    assert theoretical(chain).inputs(0, 7) == {0, 1, 2}
    shrinking = [Window(2, stride=2), Window(3, padding=1)]
    assert theoretical(shrinking).inputs(1, 5) == {0, 1, 2, 3}  # 5 inputs leave 2, not 3


@given(
    st.lists(
        st.builds(
            Window, st.integers(1, 5), st.integers(1, 4), st.integers(0, 3), st.integers(1, 3)
        ),
        max_size=6,
    ),
    st.integers(-3, 9),
)
@settings(max_examples=100, deadline=None)
def test_the_recurrence_is_the_special_case_of_windows(windows, at):
    """Size, jump and start give the ends of the set, and of every other output's too."""
    theory = theoretical(windows)
    steps = theory.recurrence()
    assert len(steps) == len(windows)
    size, jump, start = steps[-1] if steps else (1, 1, 0)
    seen = theory.inputs(at)
    assert min(seen) == start + at * jump
    assert max(seen) == min(seen) + size - 1
    assert theory.size(at) == size


def test_the_deep_rim_is_not_lost():
    """In float32 the rim of 256 convolutions underflows to 0; in float64 that of a thousand."""

    def stack(n):
        return nn.Sequential(*[nn.Conv1d(1, 1, 3, padding=1) for _ in range(n)])

    assert footprint(stack(256), (1, 600), (300,)).size == (r_pure(256),) == (513,)
    assert footprint(stack(1500), (1, 3100), (1550,)).size == (3001,)
    model = stack(256)
    for layer in model:
        nn.init.constant_(layer.weight, 1 / 3)
    x = torch.zeros(1, 1, 600, requires_grad=True)
    model(x)[0, 0, 300].backward()
    assert 300 < x.grad.count_nonzero() < 400, "the float32 gradient, which is not the answer"


@pytest.mark.parametrize("levels", [3, 4])
@pytest.mark.parametrize("convs", [1, 2])
@pytest.mark.parametrize("down", ["subsample", "pool", "conv3"])
def test_the_descending_path_of_a_unet(down, convs, levels):
    """Equation 23 is exact for subsampling only; the other two add (k_d - 1)(2^L - 1)."""
    halve = {
        "subsample": lambda: nn.Conv1d(1, 1, 1, 2),
        "pool": lambda: nn.MaxPool1d(2),
        "conv3": lambda: nn.Conv1d(1, 1, 3, 2, 1),
    }[down]
    parts = []
    for level in range(levels + 1):
        parts += [halve()] * (level > 0)
        parts += [nn.Conv1d(1, 1, 3, padding=1) for _ in range(convs)]
    model = nn.Sequential(*parts)
    size, at = (1, 16 * 2 ** (levels + 1)), (16,)
    counts = [convs] * (levels + 1)
    kernel = {"subsample": 1, "pool": 2, "conv3": 3}[down]
    measured = footprint(model, size, at).size[0]
    assert measured == r_unet(counts, down_kernel=kernel)
    assert measured == theoretical(model).size()
    printed = 1 + 2 * convs * (2 ** (levels + 1) - 1)  # equation 24
    assert r_unet(counts) == printed
    assert measured - printed == {"subsample": 0, "pool": 1, "conv3": 2}[down] * (2**levels - 1)


def test_patchgan_sees_70_pixels():
    parts = [nn.Conv2d(3, 8, 4, 2, 1), nn.LeakyReLU(0.2)]
    for a, b, stride in ((8, 16, 2), (16, 32, 2), (32, 64, 1)):
        parts += [nn.Conv2d(a, b, 4, stride, 1), nn.BatchNorm2d(b), nn.LeakyReLU(0.2)]
    model = nn.Sequential(*parts, nn.Conv2d(64, 1, 4, 1, 1)).eval()
    assert model(torch.zeros(1, 3, 256, 256)).shape == (1, 1, 30, 30)
    assert footprint(model, (3, 256, 256), (15, 14)).size == (70, 70)
    assert theoretical(model).recurrence()[-1][:2] == (70, 8)


class Attention(nn.Module):
    """Self-attention over pixels, after a convolution, by one of four ways of writing it."""

    def __init__(self, way):
        super().__init__()
        self.way = way
        self.conv = nn.Conv2d(2, 4, (1, 3), padding=(0, 1))
        self.to_qkv = nn.Linear(4, 12)
        self.heads = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x):
        h = self.conv(x)
        tokens = h.flatten(2).transpose(1, 2)
        q, k, v = self.to_qkv(tokens).chunk(3, -1)
        if self.way == "module":
            y = self.heads(tokens, tokens, tokens)[0]
        elif self.way == "function":
            y = F.scaled_dot_product_attention(q, k, v)
        elif self.way == "causal":
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            scores = q @ k.transpose(1, 2) / 2
            if self.way == "masked":
                later = torch.ones(scores.shape[1:]).triu(1).bool()
                scores = scores.masked_fill(later, float("-inf"))
            y = scores.softmax(-1) @ v
        return h + y.transpose(1, 2).reshape(h.shape)


@pytest.mark.parametrize("way", ["module", "function", "causal", "by hand", "masked"])
def test_attention_is_counted_by_choice(way):
    model, size, at = Attention(way), (2, 4, 5), (1, 3)
    everything = footprint(model, size, at).mask
    if way in ("causal", "masked"):  # what comes later is closed, but for the convolution's reach
        assert [row.sum() for row in everything] == [5, 5, 0, 0]
    else:
        assert everything.all()
        assert np.array_equal(everything, tainted(model, size, at))
    assert footprint(model, size, at, attention=False).mask.sum() == 3


class ByHand(nn.Module):
    """A norm that is written out: only arithmetic that no table of layers knows."""

    def forward(self, x):
        centred = x - x.mean((2, 3), keepdim=True)
        return centred / centred.square().mean((2, 3), keepdim=True).sqrt()


class Centred(nn.Module):
    def forward(self, x):
        return x - x.mean((2, 3), keepdim=True)


class Opposite(nn.Module):
    """The more there is, the less comes out."""

    def forward(self, x):
        return 1 - x.cumsum(3)


class Swish(nn.Module):
    """An activation written out: two factors of one input."""

    def forward(self, x):
        return x * torch.sigmoid(x)


class Gated(nn.Module):
    """A residual branch behind a gate that training will open."""

    def __init__(self):
        super().__init__()
        self.norm, self.gate = nn.GroupNorm(2, 4), nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return x + self.gate * self.norm(x)


class Modulated(nn.Module):
    """A convolution whose weights are made of the whole input."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, 4, 1, 1))

    def forward(self, x):
        return F.conv2d(x, self.weight * x.mean((0, 2, 3), keepdim=True))


class BothSigns(nn.Module):
    """Two channels whose sum is always 0."""

    def forward(self, x):
        return torch.cat([x, -x], 1)


class Unzipped(nn.Module):
    def forward(self, x):
        return F.max_pool2d(x, 3, 1, 1, return_indices=True)[0]


class Named(nn.Module):
    """Arguments by name."""

    def forward(self, x):
        lower = F.conv2d(input=x, weight=torch.ones(1, 2, 2, 1, dtype=x.dtype))
        return torch.maximum(lower, other=torch.amax(lower, axis=3, keepdim=True))


class Masked(nn.Conv2d):
    """A convolution that sees only what is left of it, as in PixelCNN."""

    def forward(self, x):
        mask = torch.zeros_like(self.weight)
        mask[..., :1] = 1
        return F.conv2d(x, self.weight * mask, self.bias, padding=self.padding)


CONV = nn.Conv2d(2, 4, 3, padding=1)
NETWORKS = {
    "group norm": nn.Sequential(CONV, nn.GroupNorm(2, 4)),
    "instance norm": nn.Sequential(CONV, nn.InstanceNorm2d(4)),
    "layer norm of rows": nn.Sequential(CONV, nn.LayerNorm(7)),
    "batch norm that averages": nn.Sequential(CONV, nn.BatchNorm2d(4, track_running_stats=False)),
    "batch norm in use": nn.Sequential(CONV, nn.BatchNorm2d(4)),
    "norm by hand": nn.Sequential(CONV, ByHand()),
    # The gradient that reaches the mean is the same everywhere: less its own mean it would be 0.
    "centred, averaged": nn.Sequential(
        CONV, Centred(), nn.SiLU(), nn.Conv2d(4, 1, 1), nn.AvgPool2d((6, 7))
    ),
    "circular": nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"),
    "reflected": nn.Sequential(nn.Conv2d(2, 3, 3, padding=2, padding_mode="reflect"), nn.SiLU()),
    "rounded up": nn.MaxPool2d((2, 3), (3, 2), (1, 0), ceil_mode=True),
    "adaptive": nn.AdaptiveMaxPool2d((3, 4)),
    "bilinear": nn.Sequential(CONV, nn.Upsample(scale_factor=(1, 2), mode="bilinear")),
    "softmax of channels": nn.Sequential(CONV, nn.Softmax2d()),
    "pixel shuffle": nn.Sequential(
        CONV, nn.PixelUnshuffle(1), nn.ReLU(inplace=True), nn.Hardtanh()
    ),
    "opposite": Opposite(),
    "gated": nn.Sequential(CONV, Gated()),
    "both signs": BothSigns(),
    "pooled with indices": Unzipped(),
    "by keyword": Named(),
    "modulated": nn.Sequential(CONV, Modulated()),
    "grouped": nn.Conv2d(2, 4, (2, 3), groups=2),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_any_network_agrees_with_nan(name):
    model, size = NETWORKS[name], (2, 6, 7)
    at = (0, 0) if "averaged" in name else (0, 1)
    assert np.array_equal(footprint(model, size, at).mask, tainted(model, size, at))


@pytest.mark.parametrize("name", ["group norm", "instance norm", "layer norm of rows"])
def test_norms_are_counted_by_choice(name):
    model, size, at = NETWORKS[name], (2, 6, 7), (2, 3)
    counted = 21 if "rows" in name else 42
    assert footprint(model, size, at).mask.sum() == counted
    assert footprint(model, size, at, norms=False).mask.sum() == 9


def test_masked_convolutions_and_zero_convolutions():
    """Some weights 0: a mask. All of them 0: a layer that has not started yet, as ControlNet's."""
    assert footprint(Masked(1, 1, 3, padding=1), (1, 6, 7), (2, 3)).mask.sum() == 3
    zero = nn.Conv2d(1, 1, 3, padding=1)
    nn.init.zeros_(zero.weight)
    assert footprint(zero, (1, 6, 7), (2, 3)).mask.sum() == 9


def test_activations_written_out_do_not_overflow():
    """Each multiplies its input by itself: sixty of them would square numbers out of range."""
    parts = [part for _ in range(60) for part in (nn.Conv1d(1, 1, 3, padding=1), Swish())]
    assert footprint(nn.Sequential(*parts), (1, 200), (100,)).size == (121,)


def test_softmax_over_channels_is_no_attention():
    model = nn.Sequential(CONV, nn.Softmax2d())
    assert footprint(model, (2, 6, 7), (2, 3), attention=False).mask.sum() == 9


def test_keys_that_are_padding_are_closed():
    class Padded(Attention):
        def forward(self, x):
            tokens = x.flatten(2).transpose(1, 2)
            padding = torch.arange(20)[None] >= 7
            y = self.heads(tokens, tokens, tokens, key_padding_mask=padding)[0]
            return y.transpose(1, 2).reshape(x.shape)

    mask = footprint(Padded("module"), (4, 4, 5), (3, 4)).mask
    assert mask.flatten().nonzero()[0].tolist() == [*range(7), 19]


def test_weight_norm_of_the_old_kind_can_be_copied():
    with pytest.warns(FutureWarning):
        model = nn.utils.weight_norm(nn.Conv2d(1, 1, 3))
    model(torch.zeros(1, 1, 5, 6))
    assert footprint(model, (1, 5, 6), (1, 2)).mask.sum() == 9


def test_the_unet_of_diffusers():
    """GEGLU, attention and transformers looked through: the convolutions' field of SD 1.5."""
    model = diffusers.UNet2DConditionModel(
        in_channels=1,
        out_channels=1,
        block_out_channels=(8, 8, 8, 8),
        norm_num_groups=4,
        attention_head_dim=2,
        cross_attention_dim=6,
    )

    class Sample(nn.Module):
        def __init__(self):
            super().__init__()
            self.unet = model

        def forward(self, x, t, context):
            return self.unet(x, t, context).sample

    args = (torch.tensor([5]), torch.randn(1, 3, 6, dtype=torch.float64))
    call = {"model": Sample(), "input_size": (1, 1, 512), "args": args}
    widths = {
        footprint(**call, at=(0, place), norms=False, attention=False).size[1]
        for place in (252, 256)
    }
    assert widths == {393, 401}
    assert footprint(**call, at=(0, 256), norms=False).mask.all()


def test_maxima_and_dead_activations_count():
    """The gradient itself would see one pixel of the maximum, and nothing behind a dead ReLU."""

    class Dead(nn.Module):
        def forward(self, x):
            top = x.max(dim=3, keepdim=True).values + x.amin(2, keepdim=True)
            return F.relu(F.max_pool2d(x, 3, 1, 1) - 100) + top.clamp(5, 6)

    assert footprint(Dead(), (1, 6, 7), (2, 3)).mask.sum() == 6 + 7 - 1 + 4


def test_the_unet_with_the_layout_of_stable_diffusion():
    """Its depth and strides, with few channels: the field does not depend on these."""
    model = UNet2DConditionModel(UNetConfig(1, 1, (8, 8, 8, 8), 2, 4))
    t = (torch.tensor([5]),)
    widths = {
        footprint(model, (1, 1, 512), (0, place), args=t, norms=False).size[1]
        for place in range(252, 260)
    }
    assert widths == {393, 401}
    assert footprint(model, (1, 3, 512), (1, 256), args=t).mask.all()
    before = [p.clone() for p in model.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert model.training
    assert model.conv_in.weight.dtype == torch.float32
    small = UNet2DConditionModel(UNetConfig(2, 2, (4, 8), 1, 2))
    with_norms = footprint(small, (2, 5, 6), (1, 4), args=t).mask
    assert np.array_equal(with_norms, tainted(small, (2, 5, 6), (1, 4), t))


def test_positions_of_numpy_will_do():
    place = np.unravel_index(7, (3, 4))
    assert footprint(SMALL, (1, 5, 6), place).mask.sum() == 9


def test_size_of_a_mask_with_holes():
    mask = np.zeros((5, 9), bool)
    assert Footprint(mask).size == (0, 0)
    mask[1, 2] = mask[4, 7] = True
    assert Footprint(mask).size == (4, 6)


def box_blur(n, kernel=(3, 5)):
    """n convolutions whose weights are all equal."""
    h, w = kernel
    same = {"padding": (h // 2, w // 2), "bias": False, "dtype": torch.float64}
    parts = [nn.Conv2d(1, 1, kernel, **same) for _ in range(n)]
    for part in parts:
        nn.init.constant_(part.weight, 1 / (h * w))
    return nn.Sequential(*parts)


def test_the_effective_field_of_equal_weights_is_a_power_of_a_box():
    """Linear, so the gradient is the n-fold convolution of the kernel, whatever the input."""
    n, (h, w) = 7, (3, 5)
    seen = effective(box_blur(n), (1, 31, 41), (15, 20), inputs=2)
    rows = columns = np.ones(1)
    for _ in range(n):
        rows, columns = np.convolve(rows, np.ones(h) / h), np.convolve(columns, np.ones(w) / w)
    want = np.outer(np.pad(rows, 15 - 7), np.pad(columns, 20 - 14))
    assert np.allclose(seen.map, want, rtol=1e-10, atol=1e-15)
    weight = np.square(rows) / np.square(rows).sum()
    deviation = np.sqrt((weight * (np.arange(len(rows)) - 7.0) ** 2).sum())
    assert seen.width[0] == pytest.approx(4 * deviation, rel=1e-10)
    weight = np.square(columns) / np.square(columns).sum()
    deviation = np.sqrt((weight * (np.arange(len(columns)) - 14.0) ** 2).sum())
    assert seen.width[1] == pytest.approx(4 * deviation, rel=1e-10)


def test_the_effective_field_of_random_weights_grows_like_the_root_of_the_depth():
    """Of independent weights the squared gradient is, in the mean over networks, a box to the
    power n: the variance of its position is n (k^2 - 1) / 12 along each axis."""
    for n in (4, 16):
        energy = 0
        for seed in range(12):
            torch.manual_seed(seed)
            parts = [nn.Conv1d(32, 32, 5, padding=2, bias=False) for _ in range(n)]
            size, at = (32, 4 * n + 41), (2 * n + 20,)
            energy = energy + effective(nn.Sequential(*parts), size, at, inputs=1).map ** 2
        width = Effective(np.sqrt(energy)).width[0]
        assert width == pytest.approx(4 * np.sqrt(n * 24 / 12), rel=0.05)


def test_the_effective_field_averages_over_inputs():
    class Square(nn.Module):
        def forward(self, x):
            return x.square()

    pictures = torch.tensor([1.0, 2.0, 4.0]).reshape(3, 1, 1, 1).expand(3, 1, 4, 5)
    seen = effective(Square(), (1, 4, 5), (2, 3), inputs=pictures)
    assert seen.map[2, 3] == pytest.approx(2 * np.sqrt((1 + 4 + 16) / 3))
    assert np.count_nonzero(seen.map) == 1
    assert seen.width == (0.0, 0.0)
    assert effective(nn.Conv2d(1, 3, 3), (1, 5, 6), (1, 1), seed=3).map.shape == (5, 6)


def test_same_seed_same_map():
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Conv2d(3, 2, 3))
    first, second, other = (effective(model, (1, 7, 8), (1, 1), seed=s).map for s in (1, 1, 2))
    assert np.array_equal(first, second)
    assert not np.allclose(first, other)


SMALL = nn.Conv2d(1, 1, 3)


@pytest.mark.usefixtures("no_typecheck")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: footprint(SMALL, (1, 5, 6), (3, 0)), r"at: .* \(3, 4\), came \(3, 0\)"),
        (lambda: footprint(SMALL, (1, 5, 6), (0, -1)), r"at: .*came \(0, -1\)"),
        (lambda: footprint(SMALL, (1, 5, 6), (0,)), "at: expected 2 integers"),
        (lambda: footprint(SMALL, (1, 5, 6), (0, 1.5)), "at: expected 2 integers"),
        (lambda: footprint(SMALL, (1, 5, 6), 3), "at: expected a tuple of integers, came 3"),
        (lambda: footprint(F.relu, (1, 5, 6), (0, 0)), "model: expected a torch.nn.Module"),
        (lambda: effective(SMALL, (1, 5, 6), (0, 0), inputs=-1), "inputs: .* came -1"),
        (lambda: r_pure(-1), "layers"),
        (lambda: r_unet([1, 2], down_kernel=0), "down_kernel"),
        (lambda: footprint(SMALL, (1, 0, 6), (0, 0)), "input_size: "),
        (lambda: footprint(SMALL, (5,), ()), "input_size: "),
        (
            lambda: footprint(nn.Sequential(nn.Flatten(), nn.Linear(30, 2)), (1, 5, 6), (0, 0)),
            r"model: expected an output .* 2 spatial axes.*came \(1, 2\)",
        ),
        (lambda: footprint(nn.LSTM(6, 2), (5, 6), (0,)), "model: expected an output .*came tuple"),
        (lambda: footprint(nn.Embedding(5, 2), (1, 5, 6), (0, 0)), "model: .* integers"),
        (
            lambda: effective(SMALL, (1, 5, 6), (0, 0), inputs=torch.zeros(2, 1, 5, 6).long()),
            "inputs: expected floating-point numbers, came torch.int64",
        ),
        (
            lambda: effective(SMALL, (1, 5, 6), (0, 0), inputs=torch.zeros(2, 1, 6, 5)),
            r"inputs: .* \(N, 1, 5, 6\), came \(2, 1, 6, 5\)",
        ),
        (lambda: effective(SMALL, (1, 5, 6), (0, 0), inputs=0), "inputs: "),
        (lambda: Window(0), "kernel: expected at least 1, came 0"),
        (lambda: Window(3, padding=-1), "padding: expected at least 0"),
        (lambda: Stamp(3, 0), "stride: expected at least 1"),
        (lambda: theoretical([Window(3)]).inputs(5, 7), "at: expected an output from 0 to 4"),
        (lambda: theoretical([Window(3), Window(9)]).inputs(0, 7), "length: .* layer 1"),
        (lambda: theoretical([Window(3), Stamp()]).recurrence(), "layers: expected windows only"),
        (lambda: theoretical([SMALL, nn.GroupNorm(1, 1)]), "layers: .*GroupNorm.* as layer 1"),
        (lambda: theoretical(nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular")), "zeros"),
        (lambda: theoretical(nn.BatchNorm1d(2, track_running_stats=False).eval()), "layers: "),
        (lambda: theoretical(nn.MaxPool2d(3, ceil_mode=True)), "rounded down"),
        (lambda: theoretical(nn.Upsample(scale_factor=1.5)), "integer scale_factor"),
        (lambda: theoretical(nn.Conv1d(1, 1, 2, padding="same")), "equal padding"),
        (lambda: r_unet([]), "convs: "),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
