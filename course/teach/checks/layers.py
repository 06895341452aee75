"""Checks of notebook 31."""

from unittest.mock import Mock

import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from course.models import layers
from course.teach.exercise import Property, agrees, exercise, judges

_aten = torch.ops.aten
CONVOLUTIONS = (_aten.convolution, _aten._convolution, _aten.convolution_backward)
NORMS = (
    _aten.native_group_norm,
    _aten.native_layer_norm,
    _aten.native_batch_norm,
    _aten._native_batch_norm_legit,
    _aten.cudnn_batch_norm,
)


def _calls_none(name, candidate, inputs, forbidden, instead):
    """Property: none of these operations of torch runs in the candidate, under whatever name.

    Torch's own counter of operations sees them; a mode defined here would be code of the course
    that runs inside the candidate, which `check` refuses.
    """
    found = dict.fromkeys(forbidden, Mock(return_value=1))
    counter, attempted = FlopCounterMode(display=False, custom_mapping=found), True
    try:
        with counter:
            candidate(*inputs)
    except NotImplementedError:
        attempted = False
    except Exception as error:
        problem = f"it raises {type(error).__name__}: {error}".splitlines()[0]
        return Property(f"{name}: not reached", False, problem)
    called = [op for op in counter.get_flop_counts().get("Global", {}) if op in found]
    label = str(called[0]).removeprefix("aten.").removeprefix("native_") if called else ""
    message = f"it calls torch's own {label}: {instead}" if called else ""
    return Property(name, attempted and not called, message, attempted)


def _possible(mistake):
    """The same mistake, with a ValueError where it can't be made."""

    def attempt(*inputs):
        try:
            return mistake(*inputs)
        except (RuntimeError, IndexError, TypeError) as error:
            raise ValueError(str(error)) from error

    return attempt


def _padded(before, after, mode="constant"):
    """A convolution of a picture padded in another way: `before` and `after` are made of p."""

    def conv(x, weight, bias, stride, padding):
        ph, pw = padding
        x = F.pad(x, (before(pw), after(pw), before(ph), after(ph)), mode)
        return layers.conv2d(x, weight, bias, stride)

    return conv


def _told(change):
    """A right convolution, of other arguments."""
    return lambda *inputs: layers.conv2d(*change(*inputs))


def _as_printed(x, weight, bias, stride, padding):
    """000, line 268, with i, u and pixels from 1: every window is one pixel too far on."""
    (ph, pw), (sh, sw) = padding, stride
    (kh, kw), (height, width) = weight.shape[2:], x.shape[2:]
    rows, columns = layers.output_size(height, kh, sh, ph), layers.output_size(width, kw, sw, pw)
    far = F.pad(x, (pw, pw + sw, ph, ph + sh))
    shifted = far[:, :, sh:, sw:]  # i from 1: a whole stride; u and pixels from 1 cancel
    return layers.conv2d(shifted, weight, bias, stride)[:, :, :rows, :columns]


CONV_MISTAKES = {
    "the kernel is flipped: this is convolution as in mathematics, the layer does not flip": (
        _told(lambda x, w, *rest: (x, w.flip(2, 3), *rest))
    ),
    "the kernel is upside down": _told(lambda x, w, *rest: (x, w.flip(2), *rest)),
    "the kernel is mirrored, left for right": _told(lambda x, w, *rest: (x, w.flip(3), *rest)),
    "height and width of the kernel are swapped": _told(
        lambda x, w, *rest: (x, w.transpose(2, 3), *rest)
    ),
    "the stride is swapped: it comes as (height, width)": _told(
        lambda x, w, b, s, p: (x, w, b, s[::-1], p)
    ),
    "the padding is swapped: it comes as (height, width), and F.pad wants the last axis first": (
        _told(lambda x, w, b, s, p: (x, w, b, s, p[::-1]))
    ),
    "stride and padding are both swapped: they come as (height, width)": _told(
        lambda x, w, b, s, p: (x, w, b, s[::-1], p[::-1])
    ),
    "only the first stride is used": _told(lambda x, w, b, s, p: (x, w, b, s[0], p)),
    "only the second stride is used": _told(lambda x, w, b, s, p: (x, w, b, s[1], p)),
    "only the first padding is used": _told(lambda x, w, b, s, p: (x, w, b, s, p[0])),
    "only the second padding is used": _told(lambda x, w, b, s, p: (x, w, b, s, p[1])),
    "the padding is forgotten": _told(lambda x, w, b, s, p: (x, w, b, s, 0)),
    "the padding is on one side only, top and left": _padded(lambda p: p, lambda p: 0),
    "the padding is on one side only, bottom and right": _padded(lambda p: 0, lambda p: p),
    "the padding is on each side twice as wide as asked": _padded(lambda p: 2 * p, lambda p: 2 * p),
    "the picture is continued by its edge pixels: padding is zeros": _padded(
        lambda p: p, lambda p: p, "replicate"
    ),
    "the picture is continued by itself, wrapped around: padding is zeros (does an index go "
    "below 0?)": _padded(lambda p: p, lambda p: p, "circular"),
    "the stride is forgotten": _told(lambda x, w, b, s, p: (x, w, b, 1, p)),
    "the stride moves the taps and not the window": _told(lambda x, w, b, s, p: (x, w, b, 1, p, s)),
    "the windows are those of 000, line 268, as printed, with i counted from 1": _as_printed,
    "the last row and column are missing: does the size end in + 1?": (
        lambda *inputs: layers.conv2d(*inputs)[:, :, :-1, :-1]
    ),
    "the bias is forgotten": _told(lambda x, w, b, *rest: (x, w, None, *rest)),
    "the bias is added once for each channel: it stands outside of the sum": _told(
        lambda x, w, b, *rest: (x, w, b * x.shape[1], *rest)
    ),
    "the bias is added once for each tap: it stands outside of the sums": _told(
        lambda x, w, b, *rest: (x, w, b * w[0].numel(), *rest)
    ),
    "the bias is subtracted": _told(lambda x, w, b, *rest: (x, w, -b, *rest)),
    "this is the mean over the channels: the definition sums": (
        lambda x, w, b, *rest: (
            layers.conv2d(x, w, None, *rest) / x.shape[1] + b.reshape(1, -1, 1, 1)
        )
    ),
    "this uses the first channel only: the sum over the channels is missing": _told(
        lambda x, w, *rest: (x[:, :1], w[:, :1], *rest)
    ),
    "this uses the last channel only: the sum over the channels is missing": _told(
        lambda x, w, *rest: (x[:, -1:], w[:, -1:], *rest)
    ),
    "all pictures of the batch give what the first gives": (
        lambda x, *rest: layers.conv2d(x[:1], *rest).repeat(len(x), 1, 1, 1)
    ),
    "the first output's kernel is used for all outputs": _told(
        lambda x, w, *rest: (x, w[:1].expand_as(w), *rest)
    ),
    "batch and outputs are swapped": lambda *inputs: layers.conv2d(*inputs).transpose(0, 1),
    "height and width of the result are swapped": (
        lambda *inputs: layers.conv2d(*inputs).transpose(2, 3)
    ),
}


def _two(draw, *pairs):
    """One of the pairs, in one order or the other: height and width never agree."""
    pair = pairs[draw.integer(0, len(pairs) - 1)]
    return pair if draw.integer(0, 1) else pair[::-1]


@exercise(reference=layers.conv2d)
def conv2d(candidate, draw):
    batch, channels, outputs = draw.integer(2, 3), draw.integer(4, 5), draw.integer(6, 7)
    height, width = _two(draw, (11, 14), (12, 15), (11, 16))
    kh, kw = _two(draw, (3, 4), (3, 5), (4, 5))
    # Wide enough that no two of the mistakes with padding give as many windows.
    stride = _two(draw, (2, 3))
    padding = (4, draw.integer(1, 2)) if stride[0] == 2 else (draw.integer(1, 2), 4)
    wrong = {cause: _possible(mistake) for cause, mistake in CONV_MISTAKES.items()}

    def inputs(size, kernel, stride, padding, shape=(batch, channels, outputs)):
        b, c, o = shape
        x, weight = draw.normal(b, c, *size), draw.normal(o, c, *kernel)
        return x, weight, draw.normal(o), stride, padding

    def looks(name, given, wrong=wrong):
        return agrees(name, candidate, given, layers.conv2d(*given), "B O H' W'", wrong)

    given = inputs((height, width), (kh, kw), stride, padding)
    yield looks("pictures that are not square, nor anything else", given)
    given = inputs((height, width), (kh, kw), stride, (0, draw.integer(1, 2)))
    yield looks("padding in one direction only", given)
    given = inputs((height, width), (1, 1), (1, 1), (0, 0))
    yield looks("a 1 x 1 kernel: a linear layer in every pixel", given)
    given = inputs((height, width), (3, 3), (1, 1), (1, 0), (1, channels, outputs))
    yield looks("one picture, stride 1, rows padded and columns not", given)
    given = inputs((height, width), (4, 4), (1, 2), (2, 1))
    yield looks("an even kernel", given)
    given = inputs((height, width), (2, 3), (3, 4), (0, 1))
    yield looks("a stride beyond the kernel", given)
    given = inputs((kh, kw), (kh, kw), stride, (0, 0))
    yield looks("a kernel as large as the picture: one number for each output", given)
    given = inputs((height, width), (3, 3), (2, 2), (1, 1), (1, 1, 1))
    yield looks("one picture, one channel, one output, stride 2 as in Stable Diffusion", given)
    x, weight, bias, *rest = inputs((height, width), (kh, kw), stride, padding)
    want = layers.conv2d(x, weight, bias, *rest).float()
    single = (x.float(), weight.float(), bias.float(), *rest)
    yield agrees("float32", candidate, single, want, "B O H' W'", {})
    instead = "write the sums, or a matrix product of the windows"
    name = "it does not call torch's convolution"
    yield _calls_none(name, candidate, single, CONVOLUTIONS, instead)


def _normalised(
    over=lambda x, groups: _grouped(x, groups, (2, 3, 4)),
    divide=lambda centred, variance, eps: centred / (variance + eps).sqrt(),
    scale=lambda y, weight, bias, groups: (
        y * weight.reshape(1, -1, 1, 1) + bias.reshape(1, -1, 1, 1)
    ),
):
    """A group norm with any of its parts replaced."""

    def norm(x, groups, weight, bias, eps):
        mean, variance = over(x, groups)
        return scale(divide(x - mean, variance, eps), weight, bias, groups)

    return norm


def _over(axes):
    """Mean and variance over axes of (B, C, H, W), in place of those of the groups."""
    return lambda x, groups: (x.mean(axes, True), x.var(axes, correction=0, keepdim=True))


def _grouped(x, groups, axes, strided=False, correction=0):
    """Mean and variance over axes of (B, G, C/G, H, W), spread out to the shape of x."""
    b, c, h, w = x.shape
    parts = x.reshape(b, c // groups, groups, h, w).transpose(1, 2) if strided else x
    parts = parts.reshape(b, groups, c // groups, h, w)
    found = parts.mean(axes, True), parts.var(axes, correction=correction, keepdim=True)
    spread = [value.expand_as(parts) for value in found]
    return [(v.transpose(1, 2) if strided else v).reshape(x.shape) for v in spread]


def _cancelling(x, groups):
    parts = x.reshape(len(x), groups, -1)
    mean = parts.mean(-1, True)
    found = mean, parts.square().mean(-1, True) - mean.square()
    return [value.expand_as(parts).reshape(x.shape) for value in found]


def _per_group(y, weight, bias, groups):
    each = len(weight) // groups
    first = [
        values[:groups].repeat_interleave(each).reshape(1, -1, 1, 1) for values in (weight, bias)
    ]
    return y * first[0] + first[1]


NORM_MISTAKES = {
    "the variance is the unbiased one, divided by n - 1: here it is divided by n": _normalised(
        lambda x, groups: _grouped(x, groups, (2, 3, 4), correction=1)
    ),
    "eps is added to the standard deviation: it is added to the variance, inside the root": (
        _normalised(divide=lambda centred, v, eps: centred / (v.sqrt() + eps))
    ),
    "eps is added outside of the fraction: it is added to the variance, inside the root": (
        _normalised(divide=lambda centred, v, eps: centred / v.sqrt() + eps)
    ),
    "eps is squared inside the root": (
        _normalised(divide=lambda centred, v, eps: centred / (v + eps**2).sqrt())
    ),
    "eps is not used": _normalised(divide=lambda centred, v, eps: centred / v.sqrt()),
    "the root of a standard deviation is taken: below the root stands the variance": _normalised(
        divide=lambda centred, v, eps: centred / (v.sqrt() + eps).sqrt()
    ),
    "this divides by the variance: its root is missing": _normalised(
        divide=lambda centred, v, eps: centred / (v + eps)
    ),
    "this only subtracts the mean": _normalised(divide=lambda centred, v, eps: centred),
    "this multiplies by the root: divide by it": _normalised(
        divide=lambda centred, v, eps: centred * (v + eps).sqrt()
    ),
    "the mean is not subtracted": lambda x, groups, weight, bias, eps: _normalised(
        divide=lambda centred, v, e: x / (v + e).sqrt()
    )(x, groups, weight, bias, eps),
    "the groups are strided, every G-th channel: a group is a run of neighbours": _normalised(
        lambda x, groups: _grouped(x, groups, (2, 3, 4), strided=True)
    ),
    "the statistics are over the batch too: each picture has its own": _normalised(
        lambda x, groups: _grouped(x, groups, (0, 2, 3, 4))
    ),
    "the statistics are per pixel: they are over all pixels": _normalised(
        lambda x, groups: _grouped(x, groups, (2,))
    ),
    "the statistics are per row of pixels: they are over all pixels": _normalised(
        lambda x, groups: _grouped(x, groups, (2, 4))
    ),
    "this is instance norm, one channel at a time: the channels of a group share": _normalised(
        _over((2, 3))
    ),
    "this is layer norm, all channels together: the groups are not used": _normalised(
        _over((1, 2, 3))
    ),
    "this is batch norm": _normalised(_over((0, 2, 3))),
    "groups is taken for the channels in a group: it counts the groups": _normalised(
        lambda x, groups: _grouped(x, x.shape[1] // groups, (2, 3, 4))
    ),
    "weight and bias are per group, the first of each: they are per channel": _normalised(
        scale=_per_group
    ),
    "weight and bias are not used": _normalised(scale=lambda y, weight, bias, groups: y),
    "the weight is not used": _normalised(
        scale=lambda y, weight, bias, groups: y + bias.reshape(1, -1, 1, 1)
    ),
    "the bias is not used": _normalised(
        scale=lambda y, weight, bias, groups: y * weight.reshape(1, -1, 1, 1)
    ),
    "the bias is added before the weight multiplies": _normalised(
        scale=lambda y, weight, bias, groups: (
            (y + bias.reshape(1, -1, 1, 1)) * weight.reshape(1, -1, 1, 1)
        )
    ),
    "the weight multiplies as 1 + weight": _normalised(
        scale=lambda y, weight, bias, groups: (
            y * (1 + weight.reshape(1, -1, 1, 1)) + bias.reshape(1, -1, 1, 1)
        )
    ),
    "weight and bias are swapped": _normalised(
        scale=lambda y, weight, bias, groups: (
            y * bias.reshape(1, -1, 1, 1) + weight.reshape(1, -1, 1, 1)
        )
    ),
}


@exercise(reference=layers.group_norm)
def group_norm(candidate, draw):
    batch, groups = draw.integer(2, 3), draw.integer(2, 3)
    channels = groups * (5 - groups) * draw.integer(1, 2)
    height, width = _two(draw, (4, 5), (3, 5), (4, 7))
    wrong = {cause: _possible(mistake) for cause, mistake in NORM_MISTAKES.items()}

    def inputs(groups, eps):
        level, size = 2 * draw.normal(2, batch, channels, 1, 1)
        x = level + (0.5 + size.abs()) * draw.normal(batch, channels, height, width)
        return x, groups, 1 + draw.normal(channels), draw.normal(channels), eps

    def looks(name, given, wrong):
        return agrees(name, candidate, given, layers.group_norm(*given), "B C H W", wrong)

    large = float(draw.uniform(0.2, 0.5))
    name = "several groups of several channels, and an eps large enough to show"
    yield looks(name, inputs(groups, large), wrong)
    yield looks("one group: layer norm", inputs(1, large), wrong)
    yield looks("as many groups as channels: instance norm", inputs(channels, large), wrong)
    x, *rest = inputs(groups, 1e-5)
    faint = (3e-3 * (x - x.mean()), *rest)
    yield looks("a picture so faint that eps = 1e-5 counts", faint, wrong)
    flat = torch.ones_like(x) * draw.normal(batch, 1, 1, 1)
    yield looks("a picture of one grey: the bias alone is left, and no nan", (flat, *rest), {})
    given = inputs(groups, 1e-5)
    single = tuple(v.float() if isinstance(v, torch.Tensor) else v for v in given)
    want = layers.group_norm(*given).float()
    yield agrees("float32", candidate, single, want, "B C H W", {})
    bright = (single[0] + 100, *single[1:])
    want = layers.group_norm(*(v.double() if isinstance(v, torch.Tensor) else v for v in bright))
    cancels = {
        "the mean of the squares less the square of the mean loses its digits where the mean is "
        "large: subtract the mean first": _normalised(_cancelling)
    }
    name = "float32, a bright picture"
    yield agrees(name, candidate, bright, want.float(), "B C H W", cancels)
    instead = "compute mean and variance yourself"
    name = "it does not call a norm of torch's"
    yield _calls_none(name, candidate, single, NORMS, instead)


def _windows(
    pixel=lambda i, u, s, p: i * s + u - p,
    taps=lambda k: range(k),
    size=lambda n, k, s, p: (n + 2 * p - k) // s + 1,
    outside=lambda x, j: 0.0,
    tap=lambda weight, u: weight[u],
):
    """A 1-D convolution that counts from 0, with any of its parts replaced."""

    def formula(x, weight, stride, padding):
        n, k = len(x), len(weight)
        y = x.new_zeros(max(0, size(n, k, stride, padding)))
        for i in range(len(y)):
            for u in taps(k):
                j = pixel(i, u, stride, padding)
                y[i] += tap(weight, u) * (x[j] if 0 <= j < n else outside(x, j))
        return y

    return formula


_from_0 = _windows()


def _from_1(x, weight, stride, padding):
    """(i - 1) s + u - p with i, u and pixels from 1."""
    n, k = len(x), len(weight)
    y = []
    for i in range(1, (n - k + 2 * padding) // stride + 2):
        pixels = [((i - 1) * stride + u - padding, u) for u in range(1, k + 1)]
        inside = [weight[u - 1] * x[j - 1] for j, u in pixels if 1 <= j <= n]
        y.append(sum(inside, x.new_zeros(())))
    return torch.stack(y)


def _i_from_0(x, weight, stride, padding):
    """i s + u - p with i from 0, but u and pixels from 1: as line 268 reads if i begins at 0."""
    return _windows(lambda i, u, s, p: (i * s + (u + 1) - p) - 1)(x, weight, stride, padding)


def _by_matrix(x, weight, stride, padding):
    padded = torch.cat([x.new_zeros(padding), x, x.new_zeros(padding)])
    return padded.unfold(0, len(weight), stride) @ weight


_printed = _windows(lambda i, u, s, p: ((i + 1) * s + (u + 1) - p) - 1)


def _only(where, other=_printed):
    """Right where the condition on n, k, stride and padding does not hold, else the other."""

    def formula(x, weight, stride, padding):
        chosen = other if where(len(x), len(weight), stride, padding) else _from_0
        return chosen(x, weight, stride, padding)

    return formula


def _referee_indices(formula):
    """Accept a formula if it is the matrix of windows times the kernel, in shape and value."""
    generator = torch.Generator().manual_seed(0)
    for n, k, stride, padding in [(9, 3, 1, 1), (10, 4, 2, 1), (11, 2, 3, 0), (8, 5, 2, 3)]:
        x = torch.randn(n, generator=generator, dtype=torch.float64)
        weight = torch.randn(k, generator=generator, dtype=torch.float64)
        got, want = formula(x, weight, stride, padding), _by_matrix(x, weight, stride, padding)
        if got.shape != want.shape or not torch.allclose(got, want):
            return False
    return True


@exercise(reference=_referee_indices, kind="referee")
def referee_indices(candidate, draw):
    right = {
        "the right formula, counted from 0": _from_0,
        "the right formula, counted from 1, with (i - 1) s + u - p": _from_1,
        "the right formula, with i from 0 and u and pixels from 1": _i_from_0,
        "the right formula, as a matrix of windows": _by_matrix,
        "the right formula, rounded differently": lambda *inputs: _from_0(*inputs) * (1 + 1e-12),
    }
    why = (
        "what you compare with is wrong (is the kernel flipped, does a window stick out, "
        "is the size floor((n + 2 p - k) / s) + 1?), or the test is too strict"
    )
    plain = "try a kernel of random numbers, with padding 1 and stride 2"
    edge = "try a padding above 0 and look at the ends"
    stride = "try a stride above 1"
    more = "try several kernels, strides and paddings, even and odd"
    shape = "compare the shapes too, before the values"
    ceiling = _windows(size=lambda n, k, s, p: -(-(n + 2 * p - k) // s) + 1)
    hints = {
        plain: {
            "the windows of line 268 as printed, i, u and pixels from 1": _printed,
            "i from 1 and u from 0": _windows(lambda i, u, s, p: (i + 1) * s + u - p),
            "u from 1 and pixels from 0": _windows(lambda i, u, s, p: i * s + u + 1 - p),
            "pixels from 1 and u from 0": _windows(lambda i, u, s, p: i * s + u - p - 1),
            "a flipped kernel": lambda x, weight, *rest: _from_0(x, weight.flip(0), *rest),
            "the last tap missing": _windows(taps=lambda k: range(k - 1)),
            "the first tap missing": _windows(taps=lambda k: range(1, k)),
            "the padding added in place of subtracted": _windows(lambda i, u, s, p: i * s + u + p),
        },
        edge: {
            "the padding forgotten": lambda x, weight, s, p: _from_0(x, weight, s, 0),
            "the padding in the size only": _windows(lambda i, u, s, p: i * s + u),
            "the padding at the left end only": lambda x, weight, s, p: _from_0(
                torch.cat([x.new_zeros(p), x]), weight, s, 0
            ),
            "the end pixel repeated outside": _windows(
                outside=lambda x, j: x[0] if j < 0 else x[-1]
            ),
            "the signal wrapped around at its ends": _windows(outside=lambda x, j: x[j % len(x)]),
            "an index below 0 that reads from the end": _windows(
                outside=lambda x, j: x[j] if j < 0 else 0.0
            ),
        },
        stride: {
            "the stride multiplying u and not i": _windows(lambda i, u, s, p: i + u * s - p),
            "the stride multiplying i and u": _windows(lambda i, u, s, p: (i + u) * s - p),
            "the stride multiplying all of it": _windows(lambda i, u, s, p: (i + u - p) * s),
            "the stride in the size only": _windows(lambda i, u, s, p: i + u - p),
        },
        shape: {
            "the last output missing": _windows(size=lambda n, k, s, p: (n + 2 * p - k) // s),
            "the size rounded up": ceiling,
            "the shape of a column": lambda *inputs: _from_0(*inputs)[:, None],
        },
        more: {
            "an error at stride 1 only": _only(lambda n, k, s, p: s == 1),
            "an error at strides above 1 only": _only(lambda n, k, s, p: s > 1),
            "an error at padding 0 only": _only(lambda n, k, s, p: p == 0),
            "an error at paddings above 0 only": _only(lambda n, k, s, p: p > 0),
            "an error in even kernels only": _only(lambda n, k, s, p: k % 2 == 0),
            "an error in odd kernels only": _only(lambda n, k, s, p: k % 2),
        },
        "compare more digits: that is too coarse a tolerance": {
            "0.5 % too large a result": lambda *inputs: 1.005 * _from_0(*inputs),
            "0.5 % too small a result": lambda *inputs: 0.995 * _from_0(*inputs),
        },
    }
    wrong = {
        cause: (formula, hint) for hint, found in hints.items() for cause, formula in found.items()
    }
    yield from judges(candidate, right, why, wrong)
