"""Checks of notebook 35."""

from types import SimpleNamespace

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from course.teach.checks._common import recognised, torch_layer, unhurt
from course.teach.checks._conditional_unet import (
    NAME_MISTAKES,
    SPATIAL_MISTAKES,
    WRONG_BLOCKS,
    block_with,
    in_a_loop,
    nested,
    right_block,
    right_input_block,
    right_spatial_transformer,
)
from course.teach.exercise import (
    Property,
    attempt,
    differentiable,
    exercise,
    handed_in,
    judges,
    number,
)


def _layers_of(draw, groups, channels, kernel):
    """Layers that can be trained, as those of the notebook."""
    projection = (nn.Conv2d, channels, channels, kernel)
    layers = {
        "norm": torch_layer(draw, nn.GroupNorm, groups, channels, eps=1e-6),
        "proj_in": torch_layer(draw, *projection, padding=kernel // 2),
        "proj_out": torch_layer(draw, *projection, padding=kernel // 2),
    }
    return {name: made.requires_grad_() for name, made in layers.items()}


class _Around(nn.Module):
    """A function and the layers it is called with, for torch to put other weights into."""

    def __init__(self, function, layers, block):
        super().__init__()
        self.function, self.block = function, block
        self.held = nn.ModuleDict(layers)

    def forward(self, x):
        return self.function(x, SimpleNamespace(**self.held), self.block)


def _trained(name, candidate, layers, block, x):
    """Property: x and the weights of the layers have the gradients of the reference."""
    weights = dict(_Around(candidate, layers, block).named_parameters())

    def of(function):
        def call(x, *values):
            put = dict(zip(weights, values, strict=True))
            return functional_call(_Around(function, layers, block), put, (x,))

        return call

    labels = ["x", *(full.removeprefix("held.") for full in weights)]
    by = {label: i for i, label in enumerate(labels)}
    inputs = (x, *(weight.detach() for weight in weights.values()))
    return differentiable(name, of(candidate), of(right_spatial_transformer), inputs, by)


def _left_as_they_were(name, candidate, layers, block, x):
    """Property: a call leaves x, the layers, their weights and whether they are trained alone."""
    layer, given = SimpleNamespace(**layers), []

    def watched(x):
        given.append(x)
        candidate(x, layer, block)

    found = list(unhurt(name, watched, (x,), list(layers.values())))
    message = found[0].message if found else ""
    now = vars(layer)
    changed = [f"layer.{part}" for part in layers if now.get(part) is not layers[part]]
    if changed:
        message = f"it changes {' and '.join(changed)}: only read it"
    if not all(p.requires_grad for made in layers.values() for p in made.parameters()):
        message = "it sets requires_grad of the weights to False: then they are never trained"
    if given[0].requires_grad:
        message = "it sets requires_grad of x, its input: leave it as it came"
    for made in layers.values():
        made.requires_grad_()
    return Property(name, not message, message) if found else None


@exercise(reference=right_spatial_transformer)
def spatial_transformer(candidate, draw):
    later = []

    def looks(name, batch, groups, size, kernel=1, single=False):
        channels, (height, width) = 2 * groups, size
        x = 0.5 + draw.normal(batch, channels, *size)
        layers = _layers_of(draw, groups, channels, kernel)
        between = draw.normal(height * width, height * width) / (height * width) ** 0.5
        within = draw.normal(channels, channels) / channels**0.5
        if single:
            x, between, within = x.float(), between.float(), within.float()
            layers = {name: layer.float() for name, layer in layers.items()}
        calls = []

        def block(tokens):
            calls.append(tuple(tokens.shape))
            return tokens + between @ torch.tanh(tokens @ within)

        given = handed_in(block)

        def of(function):
            return lambda x: function(x, SimpleNamespace(**layers), given)

        title = f"{name}: x and the layers stay as they were"
        left = _left_as_they_were(title, candidate, layers, given, x)
        want = of(right_spatial_transformer)(x)
        wrong = {cause: of(mistake) for cause, mistake in SPATIAL_MISTAKES.items()}
        calls.clear()
        found = recognised(name, of(candidate), (x,), want, wrong)
        yield found
        if found.passed:
            many = len(calls) > 1
            message = f"the block is called {len(calls)} times: once, with the whole batch"
            yield Property(f"{name}: the block is called once", not many, message if many else "")
        if left:
            later.append(left)
        if not single:
            title = f"{name}: gradients by x and by the weights"
            later.append(_trained(title, candidate, layers, given, x))

    side, short = draw.integer(6, 7), draw.integer(3, 4)
    b, groups = draw.integer(2, 3), 4
    yield from looks("a square", b, groups, (side, side))
    yield from looks("taller than wide", b, groups, (side, short))
    yield from looks("wider than tall", 5, 3, (short, side))
    yield from looks("a smaller square, a larger batch", 4, 2, (short, short))
    yield from looks("one picture, projections that look at neighbours", 1, 3, (2, 5), kernel=3)
    yield from looks("one pixel high", 2, 2, (1, 6))
    yield from looks("one pixel wide", 3, 2, (5, 1))
    yield from looks("float32", 2, 3, (4, 5), single=True)
    yield from later


def _count(
    c=320,
    seen=768,
    norm=1,
    projections=2,
    layer_norms=3,
    bias_qkv=0,
    bias=1,
    gates=2,
    wide=4,
    own=1,
    cross=1,
    feed=1,
    inner=None,
    norm_size=2,
):
    """Parameters of a spatial transformer of c channels that looks at words of width `seen`."""
    inner = c if inner is None else inner

    def linear(a, b, with_bias):
        return a * b + with_bias * b

    def attention(looked_at):
        qkv = linear(c, inner, bias_qkv) + 2 * linear(looked_at, inner, bias_qkv)
        return qkv + linear(inner, c, bias)

    feed_forward = linear(c, gates * wide * c, bias) + linear(wide * c, c, bias)
    norms = norm_size * c * (norm + layer_norms)
    attentions = own * attention(c) + cross * attention(seen)
    return norms + projections * linear(c, c, bias) + attentions + feed * feed_forward


def _count_transformer():
    return _count()


count_transformer = number(
    "count_transformer",
    right=_count(),
    wrong={
        "GEGLU's doubled width is forgotten: values and gates, 2 * 4 * 320 numbers out": _count(
            gates=1
        ),
        "the feed-forward is not made four times as wide": _count(wide=1),
        "the second linear layer takes values and gates: they are multiplied, 4 * 320 numbers in": (
            _count() + 4 * 320 * 320
        ),
        "the keys and values of the words are taken to be made of 320 numbers: a word has 768": (
            _count(seen=320)
        ),
        "to_q of the cross-attention is taken to be made of 768 numbers: pixels ask, of 320": (
            _count() + (768 - 320) * 320
        ),
        "in the self-attention, too, keys and values are made of 768 numbers: there of 320": (
            _count() + 2 * (768 - 320) * 320
        ),
        "queries, keys and values have no bias": _count(bias_qkv=1),
        "queries, keys and values have no bias, in neither attention": _count() + 3 * 320,
        "no layer has a bias here: all but those of queries, keys and values have one": _count(
            bias=0
        ),
        "a norm, or two biases, are missing: of to_out twice, or of proj_in and proj_out": (
            _count(norm=0)
        ),
        "the biases of the feed-forward are missing": _count() - 9 * 320,
        "all norms are missing: one GroupNorm and three LayerNorms": _count(norm=0, layer_norms=0),
        "the three LayerNorms are missing": _count(layer_norms=0),
        "the GroupNorm has a weight and a bias for each channel, not for each group": (
            _count(norm=0) + 2 * 32
        ),
        "the norms have a weight and a bias for each channel: this counts one of the two": _count(
            norm_size=1
        ),
        "two layers from 320 to 320 are missing: proj_in and proj_out, or to_out in both places": (
            _count(projections=0)
        ),
        "this is the block alone, without GroupNorm, proj_in and proj_out": _count(
            norm=0, projections=0
        ),
        "one of proj_in and proj_out is missing": _count(projections=1),
        "the heads are multiplied in: together they are 320 wide": _count(inner=8 * 320),
        "queries, keys and values are counted once for each head: together they are 320 wide": (
            _count() + 7 * (4 * 320 * 320 + 2 * 768 * 320)
        ),
        "the attentions are counted once for each head: the heads share their width": (
            _count(own=8, cross=8)
        ),
        "every head has 8 numbers: there are 8 heads of 40": _count(inner=64),
        "the self-attention is missing": _count(own=0),
        "the cross-attention is missing": _count(cross=0),
        "the feed-forward is missing": _count(feed=0),
        "proj_in and proj_out are counted with 3 x 3 kernels: they are 1 x 1": (
            _count() + 2 * 8 * 320 * 320
        ),
    },
    reference=_count_transformer,
    tolerance=0,
)


def _all_names(function, layers, levels):
    """Of the first convolution and some levels, of which the last does not halve."""
    return [function(n, layers) for n in range(levels * (layers + 1))]


@exercise(reference=right_input_block)
def input_block(candidate, draw):
    more, many, deep = draw.integer(4, 6), draw.integer(7, 12), draw.integer(6, 9)
    for title, layers, levels in (
        ("two residual blocks per level, as in Stable Diffusion 1.5", 2, 4),
        (f"{more} residual blocks per level", more, 4),
        ("one residual block per level", 1, 4),
        ("three residual blocks per level", 3, 4),
        ("two residual blocks per level, five levels", 2, 5),
        (f"three residual blocks per level, {deep} levels", 3, deep),
        (f"{many} residual blocks per level, five levels", many, 5),
    ):
        want = _all_names(right_input_block, layers, levels)
        got, problem = attempt(title, _all_names, candidate, layers, levels)
        if problem:
            yield problem
            continue
        # A subclass, such as NumPy's, may answer as it likes.
        got = [str.__str__(name) if isinstance(name, str) else name for name in got]
        causes = [
            c for c, mistake in NAME_MISTAKES.items() if _all_names(mistake, layers, levels) == got
        ]
        message = ""
        for n, (name, right) in enumerate(zip(got, want, strict=True)):
            if type(name) is not str:
                message = f"for n = {n} and layers = {layers} expected a string, got {name!r}"
                break
            if name != right:
                message = f"for n = {n} and layers = {layers} expected {right}, got {name}"[:150]
                break
        yield Property(title, not message, causes[0] if message and causes else message)


def _referee_block(block):
    draw = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(shape, generator=draw, dtype=torch.float64)

    for batch, n, m, c, d in ((2, 3, 5, 4, 6), (1, 4, 4, 3, 3), (3, 6, 2, 5, 2)):
        x, context = random(batch, n, c), random(batch, m, d)
        mix, look, own, out = random(n, n), random(d, c), random(c, c), random(c, c)
        scales = random(3, c)
        given = (
            lambda x, mix=mix, own=own: mix @ torch.tanh(x @ own),
            lambda x, y, look=look: torch.softmax(x @ look.T @ y.transpose(1, 2), -1) @ y @ look,
            lambda x, out=out: torch.sin(x @ out),
            [lambda x, s=s: s * F.layer_norm(x, x.shape[-1:]) for s in scales],
        )
        if not torch.allclose(block(x, context, *given), right_block(x, context, *given)):
            return False
    return True


@exercise(reference=_referee_block, kind="referee")
def referee_block(candidate, draw):
    right = {
        "the right block": right_block,
        "the right block, in a loop": in_a_loop,
        "the right block, written from the inside out": nested,
        "the right block, rounded differently": block_with(
            last=lambda out, x: out * (1 + 4 * torch.finfo(out.dtype).eps)
        ),
    }
    why = "what you compare with is wrong, or the test is too strict: rounding may differ"
    wrong = {cause: (f, hint) for hint, found in WRONG_BLOCKS.items() for cause, f in found.items()}
    yield from judges(candidate, right, why, wrong)
