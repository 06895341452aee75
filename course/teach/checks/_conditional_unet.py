"""Right answers of notebook 35 with their parts replaced: mistakes, and blocks to be judged."""

import torch
from torch.nn import functional as F


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


def right_spatial_transformer(x, layer, block):
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


def right_input_block(n, layers):
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
        lambda n, layers: right_input_block(n, 2)
    ),
    "the downsampler is taken to stand at i = 2: it stands at i = layers": _named(
        halves=lambda i, layers: i == 2
    ),
    "a level is taken to have three numbers: it has layers + 1": _named(
        lambda n, layers: divmod(n - 1, 3)
    ),
}


def right_block(x, context, self_attention, cross_attention, feed_forward, norms):
    """Each of the three normalises its input and is added to it: notebook 35."""
    x = x + self_attention(norms[0](x))
    x = x + cross_attention(norms[1](x), context)
    return x + feed_forward(norms[2](x))


def in_a_loop(x, context, self_attention, cross_attention, feed_forward, norms):
    layers = (self_attention, lambda x: cross_attention(x, context), feed_forward)
    for norm, layer in zip(norms, layers, strict=True):
        x = layer(norm(x)) + x
    return x


def nested(x, context, self_attention, cross_attention, feed_forward, norms):
    """From the inside out."""

    def after(h, norm, layer):
        return layer(norm(h)) + h

    def look(h):
        return cross_attention(h, context)

    return after(after(after(x, norms[0], self_attention), norms[1], look), norms[2], feed_forward)


def block_with(
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
    return norms[2](right_block(x, context, self_attention, cross_attention, feed_forward, norms))


def _first(size):
    return 0


def _middle(size):
    return size // 2


def _last(size):
    return size - 1


def _left(axis, place):
    """What leaves one token, channel or sample of the result as it came."""

    def last(out, x):
        i = torch.tensor([place(x.shape[axis])])
        return out.index_copy(axis, i, x.index_select(axis, i).to(out.dtype))

    return last


def _zeroed(axis, place):
    """What sets one word, or one number of each word, to 0."""
    return lambda words: words.index_fill(axis, torch.tensor([place(words.shape[axis])]), 0)


WRONG_BLOCKS = {
    "compare with the three lines of the formula, for functions that in another order give "
    "something else": {
        "the order of lecture 002, cross-attention first": block_with((1, 0, 2)),
        "the feed-forward before the cross-attention": block_with((0, 2, 1)),
        "the feed-forward first": block_with((2, 0, 1)),
        "the order turned round": block_with((2, 1, 0)),
        "the three in parallel, all of the input": _parallel,
        "the two attentions in parallel": _attentions_parallel,
        "cross-attention and feed-forward in parallel": _last_two_parallel,
        "no feed-forward": block_with((0, 1)),
        "no self-attention": block_with((1, 2)),
        "no cross-attention": block_with((0, 2)),
        "the self-attention twice": block_with((0, 0, 1, 2)),
        "the feed-forward twice": block_with((0, 1, 2, 2)),
    },
    "let no function return 0 or its input, and compare all numbers": {
        "attention as in 000, (16) to (19): nothing added, no norms, no feed-forward": (
            block_with((0, 1), (), (None, None, None))
        ),
        "nothing added to anything": block_with(around=()),
        "nothing added to the self-attention": block_with(around=(1, 2)),
        "nothing added to the cross-attention": block_with(around=(0, 2)),
        "nothing added to the feed-forward": block_with(around=(0, 1)),
        "one sum at the end, with the input of the block": _from_the_start,
        "the sums halved": block_with(added=lambda h, n, branch: (h + branch(n)) / 2),
        "differences for sums": block_with(added=lambda h, n, branch: h - branch(n)),
    },
    "take three norms that differ, and that change what they are given": {
        "the normalised inputs added": block_with(added=lambda h, n, branch: n + branch(n)),
        "the norms after the sums, as in Vaswani et al. 2017": _post_norm,
        "the norms after the three functions, before the sums": _norm_inside,
        "one norm too many, at the end": _norm_at_the_end,
        "no norms": block_with(norms=(None, None, None)),
        "no norm before the self-attention": block_with(norms=(None, 1, 2)),
        "no norm before the cross-attention": block_with(norms=(0, None, 2)),
        "no norm before the feed-forward": block_with(norms=(0, 1, None)),
        "the first two norms swapped": block_with(norms=(1, 0, 2)),
        "the last two norms swapped": block_with(norms=(0, 2, 1)),
        "the norms turned round": block_with(norms=(2, 1, 0)),
        "the first norm used thrice": block_with(norms=(0, 0, 0)),
        "the last norm used thrice": block_with(norms=(2, 2, 2)),
        "the first norm used twice": block_with(norms=(0, 0, 2)),
    },
    "let the cross-attention depend on every number of the context, and not only through their sum "
    "or mean; the context: several words, of several numbers each": {
        "the context normalised": block_with(
            words=lambda context: F.layer_norm(1.0 * context, context.shape[-1:])
        ),
        "a context of zeros": block_with(words=torch.zeros_like),
        "all words of the context replaced by their mean": block_with(
            words=lambda context: (1.0 * context).mean(1, keepdim=True).expand_as(context)
        ),
        "all words of the context replaced by the first": block_with(
            words=lambda context: context[:, :1].expand_as(context)
        ),
        "the first word of the context set to 0": block_with(words=_zeroed(1, _first)),
        "a word in the middle of the context set to 0": block_with(words=_zeroed(1, _middle)),
        "the last word of the context set to 0": block_with(words=_zeroed(1, _last)),
        "all but the first number of each word set to 0": block_with(
            words=lambda context: torch.cat(
                [context[..., :1], torch.zeros_like(context[..., 1:])], dim=-1
            )
        ),
        "the first number of each word set to 0": block_with(words=_zeroed(2, _first)),
        "a number in the middle of each word set to 0": block_with(words=_zeroed(2, _middle)),
        "the last number of each word set to 0": block_with(words=_zeroed(2, _last)),
    },
    "take more than one sample, each with a context of its own, and compare all": {
        "the context of the first sample for all": block_with(
            words=lambda context: context[:1].expand_as(context)
        ),
    },
    "compare every number, not sums or a few, of several samples, tokens and channels": {
        "the first token left as it came": block_with(last=_left(1, _first)),
        "a token in the middle left as it came": block_with(last=_left(1, _middle)),
        "the last token left as it came": block_with(last=_left(1, _last)),
        "the first channel left as it came": block_with(last=_left(2, _first)),
        "a channel in the middle left as it came": block_with(last=_left(2, _middle)),
        "the last channel left as it came": block_with(last=_left(2, _last)),
        "the tokens in another order at the end": block_with(last=lambda out, x: out.roll(1, 1)),
        "the channels in another order at the end": block_with(last=lambda out, x: out.roll(1, 2)),
        "the result of the first sample for all": block_with(
            last=lambda out, x: out[:1].expand_as(out)
        ),
        "the first sample left as it came": block_with(last=_left(0, _first)),
        "a sample in the middle left as it came": block_with(last=_left(0, _middle)),
        "the last sample left as it came": block_with(last=_left(0, _last)),
        "the samples in another order at the end": block_with(last=lambda out, x: out.roll(1, 0)),
    },
    "compare every number, to five digits or more": {
        "0.5 % too large a result": block_with(last=lambda out, x: 1.005 * out),
        "all numbers 0.01 too large": block_with(last=lambda out, x: out + 0.01),
        "all numbers 0.01 too small": block_with(last=lambda out, x: out - 0.01),
    },
}
