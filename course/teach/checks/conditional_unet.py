"""Checks of notebook 35."""

from types import SimpleNamespace

import torch
from torch import nn
from torch.nn import functional as F

from course.teach.checks._common import recognised, torch_layer, unhurt
from course.teach.exercise import (
    Property,
    attempt,
    differentiable,
    exercise,
    handed_in,
    judges,
    number,
)


def _tokens(picture):
    return picture.flatten(2).transpose(1, 2)


def _picture(tokens, like):
    return tokens.transpose(1, 2).reshape(like.shape)


def _swapped(picture):
    return picture.transpose(2, 3)


def _spatial_with(
    begin=lambda x, layer: layer.proj_in(layer.norm(x)),
    to_tokens=_tokens,
    inner=lambda tokens, block: block(tokens),
    to_picture=_picture,
    end=lambda picture, x, layer: x + layer.proj_out(picture),
):
    """A spatial transformer with any of its parts replaced."""

    def spatial(x, layer, block):
        tokens = to_tokens(begin(x, layer))
        return end(to_picture(inner(tokens, block), x), x, layer)

    return spatial


_right_spatial_transformer = _spatial_with()


def _spatial_transformer(x, layer, block):
    """Rombach et al. 2022, appendix E.2.1, as `course.models.transformer.Transformer2DModel`."""
    return _right_spatial_transformer(x, layer, block)


def _as_rows(picture):
    return picture.reshape(len(picture), -1, picture.shape[1])


def _residual_inside(x, layer, block):
    h = layer.proj_in(layer.norm(x))
    return layer.proj_out(h + _picture(block(_tokens(h)), h))


SPATIAL_MISTAKES = {
    "height and width are swapped on the way back: the tokens come row by row": _spatial_with(
        to_picture=lambda tokens, like: _swapped(_picture(tokens, _swapped(like)))
    ),
    "height and width are swapped in the shape on the way back: (B, C, H, W)": _spatial_with(
        to_picture=lambda tokens, like: _picture(tokens, _swapped(like))
    ),
    "the tokens go column by column: token i * W + j is pixel (i, j)": _spatial_with(
        to_tokens=lambda picture: _tokens(_swapped(picture)),
        to_picture=lambda tokens, like: _swapped(_picture(tokens, _swapped(like))),
    ),
    "the tokens are made column by column: token i * W + j is pixel (i, j)": _spatial_with(
        to_tokens=lambda picture: _tokens(_swapped(picture))
    ),
    "channels and pixels are mixed: reshape cuts, it does not swap axes": _spatial_with(
        to_tokens=_as_rows, to_picture=lambda tokens, like: tokens.reshape(like.shape)
    ),
    "channels and pixels are mixed on the way in: reshape cuts, it does not swap axes": (
        _spatial_with(to_tokens=_as_rows)
    ),
    "channels and pixels are mixed on the way back: reshape cuts, it does not swap axes": (
        _spatial_with(to_picture=lambda tokens, like: tokens.reshape(like.shape))
    ),
    "the tokens come as (B, C, H*W): channels last": _spatial_with(
        to_tokens=lambda picture: picture.flatten(2)
    ),
    "the tokens do not become a picture again": _spatial_with(
        to_picture=lambda tokens, like: tokens
    ),
    "the tokens end as (B, C, H*W): cut the last axis into height and width": _spatial_with(
        to_picture=lambda tokens, like: tokens.transpose(1, 2)
    ),
    "x is not added at the end": _spatial_with(end=lambda p, x, layer: layer.proj_out(p)),
    "norm(x) is added at the end: it is x as it came": _spatial_with(
        end=lambda p, x, layer: layer.norm(x) + layer.proj_out(p)
    ),
    "proj_in(norm(x)) is added at the end: it is x as it came": _spatial_with(
        end=lambda p, x, layer: layer.proj_in(layer.norm(x)) + layer.proj_out(p)
    ),
    "proj_in(norm(x)) is added at the end, too: only x": _spatial_with(
        end=lambda p, x, layer: x + layer.proj_in(layer.norm(x)) + layer.proj_out(p)
    ),
    "x is added twice": _spatial_with(end=lambda p, x, layer: 2 * x + layer.proj_out(p)),
    "x is added before proj_out: after it": _spatial_with(
        end=lambda p, x, layer: layer.proj_out(x + p)
    ),
    "the residual is around the block alone: it is around everything": _residual_inside,
    "there is a residual around the block, too: the block has its own": _spatial_with(
        inner=lambda tokens, block: tokens + block(tokens)
    ),
    "the sum is divided by the root of 2: here it is not": _spatial_with(
        end=lambda p, x, layer: (x + layer.proj_out(p)) / 2**0.5
    ),
    "x is subtracted": _spatial_with(end=lambda p, x, layer: layer.proj_out(p) - x),
    "proj_out of the picture is subtracted from x: add it": _spatial_with(
        end=lambda p, x, layer: x - layer.proj_out(p)
    ),
    "the norm is forgotten": _spatial_with(lambda x, layer: layer.proj_in(x)),
    "the norm comes after proj_in: before it": _spatial_with(
        lambda x, layer: layer.norm(layer.proj_in(x))
    ),
    "the norm is used once more before proj_out": _spatial_with(
        end=lambda p, x, layer: x + layer.proj_out(layer.norm(p))
    ),
    "the norm comes once more behind the sum: it comes first only": _spatial_with(
        end=lambda p, x, layer: layer.norm(x + layer.proj_out(p))
    ),
    "the norm comes last: it comes first": _spatial_with(
        lambda x, layer: layer.proj_in(x), end=lambda p, x, layer: layer.norm(x + layer.proj_out(p))
    ),
    "proj_in is forgotten": _spatial_with(lambda x, layer: layer.norm(x)),
    "proj_out is forgotten": _spatial_with(end=lambda p, x, layer: x + p),
    "proj_in and proj_out are forgotten": _spatial_with(
        lambda x, layer: layer.norm(x), end=lambda p, x, layer: x + p
    ),
    "proj_in and proj_out are swapped": _spatial_with(
        lambda x, layer: layer.proj_out(layer.norm(x)),
        end=lambda p, x, layer: x + layer.proj_in(p),
    ),
    "proj_in is used twice: the second is proj_out": _spatial_with(
        end=lambda p, x, layer: x + layer.proj_in(p)
    ),
    "proj_out is used twice: the first is proj_in": _spatial_with(
        lambda x, layer: layer.proj_out(layer.norm(x))
    ),
    "the block is not called, or its answer not used": _spatial_with(
        inner=lambda tokens, block: tokens
    ),
    "the block is called twice, one after the other: once": _spatial_with(
        inner=lambda tokens, block: block(block(tokens))
    ),
    "every picture gets the answer of the first": _spatial_with(
        inner=lambda tokens, block: block(tokens)[:1].expand_as(tokens)
    ),
}


@exercise(reference=_spatial_transformer)
def spatial_transformer(candidate, draw):
    def looks(name, batch, groups, size, kernel=1, single=False, further=False):
        channels, (height, width) = 2 * groups, size
        x = 0.5 + draw.normal(batch, channels, *size)
        projection = (nn.Conv2d, channels, channels, kernel)
        layers = {
            "norm": torch_layer(draw, nn.GroupNorm, groups, channels, eps=1e-6),
            "proj_in": torch_layer(draw, *projection, padding=kernel // 2),
            "proj_out": torch_layer(draw, *projection, padding=kernel // 2),
        }
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

        if further:
            kept = list(layers.values())
            yield from unhurt("the layers keep their weights", of(candidate), (x,), kept)
            right = of(_spatial_transformer)
            yield differentiable("the gradient by x", of(candidate), right, (x,), {"x": 0})
            return
        want = of(_spatial_transformer)(x)
        wrong = {cause: of(mistake) for cause, mistake in SPATIAL_MISTAKES.items()}
        calls.clear()
        found = recognised(name, of(candidate), (x,), want, wrong)
        yield found
        if found.passed:
            many = len(calls) > 1
            message = f"the block is called {len(calls)} times: once, with the whole batch"
            yield Property(f"{name}: the block is called once", not many, message if many else "")

    tall, b, groups = (draw.integer(6, 7), draw.integer(3, 4)), draw.integer(2, 3), 4
    yield from looks("a square", b, groups, (tall[0], tall[0]))
    yield from looks("taller than wide", b, groups, tall)
    yield from looks("wider than tall", 5, 3, tall[::-1])
    yield from looks("one picture, projections that look at neighbours", 1, 3, (2, 5), kernel=3)
    yield from looks("one pixel high", 2, 2, (1, 6))
    yield from looks("float32", 2, 3, (4, 5), single=True)
    yield from looks("", 2, 3, (3, 4), further=True)


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
    tolerance=1e-7,
)


def _named(
    place=lambda n, layers: divmod(n - 1, layers + 1),
    first="conv_in",
    residual="down_blocks.{level}.resnets.{i}",
    halving="down_blocks.{level}.downsamplers.0",
    halves=lambda i, layers: i == layers,
):
    """Names of input_blocks, with any rule replaced."""

    def name(n, layers):
        if n == 0 and first:
            return first
        level, i = place(n, layers)
        text = halving if halves(i, layers) else residual
        return text.format(level=level, i=i, one=i + 1, above=level + 1, on=level * layers + i)

    return name


_right_input_block = _named()


def _input_block(n, layers):
    """The listing of CompVis, in the names of diffusers: notebook 35."""
    return _right_input_block(n, layers)


NAME_MISTAKES = {
    "conv_in takes number 0: level 0 begins with number 1": _named(
        lambda n, layers: divmod(n, layers + 1)
    ),
    "number 0 is conv_in, and level 0 begins with number 1": _named(
        lambda n, layers: divmod(n, layers + 1), first=None
    ),
    "number 0 is conv_in: it stands in front of all levels": _named(first=None),
    "one number too late: down_blocks.0.resnets.0 is number 1": _named(
        lambda n, layers: divmod(n - 2, layers + 1)
    ),
    "number 0 is called conv_in in diffusers": _named(first="input_blocks.0"),
    "the downsamplers are not counted: each takes a number": _named(
        lambda n, layers: divmod(n - 1, layers)
    ),
    "the downsamplers are named as residual blocks": _named(halves=lambda i, layers: False),
    "the transformers are counted: they stand beside their residual block, in [n][1]": _named(
        lambda n, layers: divmod(n - 1, 2 * layers + 1)
    ),
    "level and residual block are swapped": _named(residual="down_blocks.{i}.resnets.{level}"),
    "level and residual block are swapped, those of the downsamplers too": _named(
        residual="down_blocks.{i}.resnets.{level}",
        halving="down_blocks.0.downsamplers.{level}",
    ),
    "quotient and remainder are swapped: the quotient is the level": _named(
        lambda n, layers: divmod(n - 1, layers + 1)[::-1]
    ),
    "the downsampler comes first in its level: it comes last": _named(
        lambda n, layers: ((n - 1) // (layers + 1), (n - 1) % (layers + 1) - 1),
        halves=lambda i, layers: i == -1,
    ),
    "the downsampler is given to the next level: it is the last of its own": _named(
        halving="down_blocks.{above}.downsamplers.0"
    ),
    "the downsampler has the number i: a level has one only, downsamplers.0": _named(
        halving="down_blocks.{level}.downsamplers.{i}"
    ),
    "the downsampler has the number of its level: a level has one only, downsamplers.0": _named(
        halving="down_blocks.{level}.downsamplers.{level}"
    ),
    "the residual blocks are counted from 1: from 0": _named(
        residual="down_blocks.{level}.resnets.{one}"
    ),
    "the levels are counted from 1: from 0": _named(
        residual="down_blocks.{above}.resnets.{i}", halving="down_blocks.{above}.downsamplers.0"
    ),
    "the residual blocks are counted on through the levels: each level begins with 0": _named(
        residual="down_blocks.{level}.resnets.{on}"
    ),
    "the name goes on to the convolution: it ends with downsamplers.0": _named(
        halving="down_blocks.{level}.downsamplers.0.conv"
    ),
    "downsamplers is a list, though it holds one only: downsamplers.0": _named(
        halving="down_blocks.{level}.downsampler"
    ),
    "[n][0] is the residual block: the transformer is [n][1]": _named(
        residual="down_blocks.{level}.attentions.{i}"
    ),
    "these are the names of the way up": _named(
        residual="up_blocks.{level}.resnets.{i}", halving="up_blocks.{level}.upsamplers.0"
    ),
    "two residual blocks per level whatever is asked: there are `layers`": (
        lambda n, layers: _input_block(n, 2)
    ),
    "the downsampler is taken to stand at i = 2: it stands at i = layers": _named(
        halves=lambda i, layers: i == 2
    ),
    "a level is taken to have three numbers: it has layers + 1": _named(
        lambda n, layers: divmod(n - 1, 3)
    ),
}


def _all_names(function, layers):
    """Of the first convolution and four levels, of which the last does not halve."""
    return [function(n, layers) for n in range(4 * (layers + 1))]


@exercise(reference=_input_block)
def input_block(candidate, draw):
    more = draw.integer(4, 6)
    for title, layers in (
        ("two residual blocks per level, as in Stable Diffusion 1.5", 2),
        (f"{more} residual blocks per level", more),
        ("one residual block per level", 1),
        ("three residual blocks per level", 3),
    ):
        want = _all_names(_input_block, layers)
        got, problem = attempt(title, _all_names, candidate, layers)
        if problem:
            yield problem
            continue
        causes = [c for c, mistake in NAME_MISTAKES.items() if _all_names(mistake, layers) == got]
        message = ""
        for n, (name, right) in enumerate(zip(got, want, strict=True)):
            if type(name) is not str:
                message = f"for n = {n} and layers = {layers} expected a string, got {name!r}"
                break
            if name != right:
                message = f"for n = {n} and layers = {layers} expected {right}, got {name}"[:150]
                break
        yield Property(title, not message, causes[0] if message and causes else message)


def _block(x, context, self_attention, cross_attention, feed_forward, norms):
    """Each of the three normalises its input and is added to it: notebook 35."""
    x = x + self_attention(norms[0](x))
    x = x + cross_attention(norms[1](x), context)
    return x + feed_forward(norms[2](x))


def _in_a_loop(x, context, self_attention, cross_attention, feed_forward, norms):
    layers = (self_attention, lambda x: cross_attention(x, context), feed_forward)
    for norm, layer in zip(norms, layers, strict=True):
        x = layer(norm(x)) + x
    return x


def _nested(x, context, self_attention, cross_attention, feed_forward, norms):
    """From the inside out."""

    def after(h, norm, layer):
        return layer(norm(h)) + h

    def look(h):
        return cross_attention(h, context)

    return after(after(after(x, norms[0], self_attention), norms[1], look), norms[2], feed_forward)


def _block_with(
    order=(0, 1, 2),
    around=(0, 1, 2),
    norms=(0, 1, 2),
    added=lambda h, normed, branch: h + branch(normed),
    words=lambda context: context,
    last=lambda out, x: out,
):
    """A block with any of its rules replaced.

    `order`: which of the three run; `around`: which are added to their input; `norms`: the norm of
    each, None for none.
    """

    def block(x, context, self_attention, cross_attention, feed_forward, given):
        seen = words(context)
        layers = (self_attention, lambda h: cross_attention(h, seen), feed_forward)
        h = x
        for i in order:
            normed = h if norms[i] is None else given[norms[i]](h)
            h = added(h, normed, layers[i]) if i in around else layers[i](normed)
        return last(h, x)

    return block


def _post_norm(x, context, self_attention, cross_attention, feed_forward, norms):
    x = norms[0](x + self_attention(x))
    x = norms[1](x + cross_attention(x, context))
    return norms[2](x + feed_forward(x))


def _parallel(x, context, self_attention, cross_attention, feed_forward, norms):
    seen = cross_attention(norms[1](x), context)
    return x + self_attention(norms[0](x)) + seen + feed_forward(norms[2](x))


def _attentions_parallel(x, context, self_attention, cross_attention, feed_forward, norms):
    x = x + self_attention(norms[0](x)) + cross_attention(norms[1](x), context)
    return x + feed_forward(norms[2](x))


def _last_two_parallel(x, context, self_attention, cross_attention, feed_forward, norms):
    x = x + self_attention(norms[0](x))
    return x + cross_attention(norms[1](x), context) + feed_forward(norms[2](x))


def _from_the_start(x, context, self_attention, cross_attention, feed_forward, norms):
    """Only the input is added, at the end."""
    h = self_attention(norms[0](x))
    h = cross_attention(norms[1](h), context)
    return x + feed_forward(norms[2](h))


def _norm_inside(x, context, self_attention, cross_attention, feed_forward, norms):
    x = x + norms[0](self_attention(x))
    x = x + norms[1](cross_attention(x, context))
    return x + norms[2](feed_forward(x))


def _norm_at_the_end(x, context, self_attention, cross_attention, feed_forward, norms):
    return norms[2](_block(x, context, self_attention, cross_attention, feed_forward, norms))


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
        if not torch.allclose(block(x, context, *given), _block(x, context, *given)):
            return False
    return True


@exercise(reference=_referee_block, kind="referee")
def referee_block(candidate, draw):
    hints = {
        "let each function change tokens in a way of its own, none of them linear": {
            "the order of lecture 002, cross-attention first": _block_with((1, 0, 2)),
            "the feed-forward before the cross-attention": _block_with((0, 2, 1)),
            "the feed-forward first": _block_with((2, 0, 1)),
            "the order turned round": _block_with((2, 1, 0)),
            "the three in parallel, all of the input": _parallel,
            "the two attentions in parallel": _attentions_parallel,
            "cross-attention and feed-forward in parallel": _last_two_parallel,
            "no feed-forward": _block_with((0, 1)),
            "no self-attention": _block_with((1, 2)),
            "no cross-attention": _block_with((0, 2)),
            "the self-attention twice": _block_with((0, 0, 1, 2)),
            "the feed-forward twice": _block_with((0, 1, 2, 2)),
        },
        "let no function return 0 or its input, and compare all numbers": {
            "attention as in 000, (16) to (19): nothing added, no norms, no feed-forward": (
                _block_with((0, 1), (), (None, None, None))
            ),
            "nothing added to anything": _block_with(around=()),
            "nothing added to the self-attention": _block_with(around=(1, 2)),
            "nothing added to the cross-attention": _block_with(around=(0, 2)),
            "nothing added to the feed-forward": _block_with(around=(0, 1)),
            "one sum at the end, with the input of the block": _from_the_start,
            "the sums halved": _block_with(added=lambda h, n, branch: (h + branch(n)) / 2),
            "differences for sums": _block_with(added=lambda h, n, branch: h - branch(n)),
        },
        "take three norms that differ, and that change what they are given": {
            "the normalised inputs added": _block_with(added=lambda h, n, branch: n + branch(n)),
            "the norms after the sums, as in Vaswani et al. 2017": _post_norm,
            "the norms after the three functions, before the sums": _norm_inside,
            "one norm too many, at the end": _norm_at_the_end,
            "no norms": _block_with(norms=(None, None, None)),
            "no norm before the self-attention": _block_with(norms=(None, 1, 2)),
            "no norm before the cross-attention": _block_with(norms=(0, None, 2)),
            "no norm before the feed-forward": _block_with(norms=(0, 1, None)),
            "the first two norms swapped": _block_with(norms=(1, 0, 2)),
            "the last two norms swapped": _block_with(norms=(0, 2, 1)),
            "the norms turned round": _block_with(norms=(2, 1, 0)),
            "the first norm used thrice": _block_with(norms=(0, 0, 0)),
            "the last norm used thrice": _block_with(norms=(2, 2, 2)),
            "the first norm used twice": _block_with(norms=(0, 0, 2)),
        },
        "let the cross-attention depend on every number of the context, with more than one sample "
        "in the batch": {
            "the context normalised": _block_with(
                words=lambda context: F.layer_norm(context, context.shape[-1:])
            ),
            "a context of zeros": _block_with(words=torch.zeros_like),
            "all words of the context replaced by their mean": _block_with(
                words=lambda context: context.mean(1, keepdim=True).expand_as(context)
            ),
            "the context of the first sample for all": _block_with(
                words=lambda context: context[:1].expand_as(context)
            ),
        },
        "compare every number, not sums or a few": {
            "the last token left as it came": _block_with(
                last=lambda out, x: torch.cat([out[:, :-1], x[:, -1:]], dim=1)
            ),
            "the last channel left as it came": _block_with(
                last=lambda out, x: torch.cat([out[..., :-1], x[..., -1:]], dim=-1)
            ),
            "the tokens in another order at the end": _block_with(
                last=lambda out, x: out.roll(1, 1)
            ),
            "the result of the first sample for all": _block_with(
                last=lambda out, x: out[:1].expand_as(out)
            ),
            "0.5 % too large a result": _block_with(last=lambda out, x: 1.005 * out),
            "all numbers 0.01 too large": _block_with(last=lambda out, x: out + 0.01),
            "all numbers 0.01 too small": _block_with(last=lambda out, x: out - 0.01),
        },
    }
    right = {
        "the right block": _block,
        "the right block, in a loop": _in_a_loop,
        "the right block, written from the inside out": _nested,
        "the right block, rounded differently": _block_with(
            last=lambda out, x: out * (1 + 4 * torch.finfo(out.dtype).eps)
        ),
    }
    why = "what you compare with is wrong, or the test is too strict: rounding may differ"
    wrong = {cause: (f, hint) for hint, found in hints.items() for cause, f in found.items()}
    yield from judges(candidate, right, why, wrong)
