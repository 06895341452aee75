"""Attention with its parts replaced: right answers of notebook 34, and mistakes."""

import torch
from torch import nn


def _scaled(by):
    return lambda q, k, v: q @ k.transpose(-1, -2) / by(q, k, v) ** 0.5


_scores = _scaled(lambda q, k, v: q.shape[-1])


def _attention_with(
    scores=_scores,
    masked=lambda scores, mask: scores.masked_fill(~mask, -torch.inf),
    normalised=lambda scores: scores.softmax(-1),
    after=lambda weights, mask: weights,
    taken=lambda weights, q, k, v: weights @ v,
    returned=lambda out, weights, scores: (out, weights),
):
    """Attention with any of its parts replaced."""

    def attention(q, k, v, mask=None):
        score = scores(q, k, v)
        if mask is not None:
            score = masked(score, mask)
        weights = normalised(score)
        if mask is not None:
            weights = after(weights, mask)
        return returned(taken(weights, q, k, v), weights, score)

    return attention


_right_attention = _attention_with()


def right_attention(q, k, v, mask=None):
    """Vaswani et al. 2017, equation 1."""
    return _right_attention(q, k, v, mask)


def _not_masked(scores, mask):
    return scores


ATTENTION_MISTAKES = {
    "the scores are not scaled: divide them by the root of D": _attention_with(
        lambda q, k, v: q @ k.transpose(-1, -2)
    ),
    "the scores are divided by D, or twice by its root: once by the root of D": _attention_with(
        _scaled(lambda q, k, v: q.shape[-1] ** 2)
    ),
    "the scores are multiplied by the root of D: divide them": _attention_with(
        _scaled(lambda q, k, v: 1 / q.shape[-1])
    ),
    "the scale is the root of the number of keys: it is that of D, the width of a query": (
        _attention_with(_scaled(lambda q, k, v: k.shape[-2]))
    ),
    "the scale is the root of the number of queries: it is that of D, the width of a query": (
        _attention_with(_scaled(lambda q, k, v: q.shape[-2]))
    ),
    "the scale is the root of E, the width of a value: it is that of D, the width of a query": (
        _attention_with(_scaled(lambda q, k, v: v.shape[-1]))
    ),
    "the scale is read off axis 0, which is not always D: D is the last axis": _attention_with(
        _scaled(lambda q, k, v: q.shape[0])
    ),
    "the scale is read off axis 1, which is not always D: D is the last axis": _attention_with(
        _scaled(lambda q, k, v: q.shape[1])
    ),
    "the weights are divided by the root of D: divide the scores, before the softmax": (
        _attention_with(
            lambda q, k, v: q @ k.transpose(-1, -2),
            taken=lambda w, q, k, v: w / q.shape[-1] ** 0.5 @ v,
        )
    ),
    "the softmax runs over the queries: each query shares 1 among the keys, the last axis": (
        _attention_with(normalised=lambda scores: scores.softmax(-2))
    ),
    "the softmax runs over axis 0, which is not always that of the keys: they are the last": (
        _attention_with(normalised=lambda scores: scores.softmax(0))
    ),
    "the softmax runs over axis 1, which is not always that of the keys: they are the last": (
        _attention_with(normalised=lambda scores: scores.softmax(1))
    ),
    "the softmax runs over queries and keys together: each query has weights of its own": (
        _attention_with(
            normalised=lambda scores: scores.flatten(-2).softmax(-1).reshape(scores.shape)
        )
    ),
    "the softmax is missing: the values are averaged with the scores themselves": _attention_with(
        normalised=lambda scores: scores
    ),
    "the scores are divided by their sum without exp: use the softmax": _attention_with(
        normalised=lambda scores: scores / scores.sum(-1, keepdim=True)
    ),
    "exp without its sum: the weights of a query have to sum to 1": _attention_with(
        normalised=torch.exp
    ),
    "these are the logarithms of the weights: log_softmax for softmax": _attention_with(
        normalised=lambda scores: scores.log_softmax(-1)
    ),
    "this is the logistic function of the scores: the weights of a query have to sum to 1": (
        _attention_with(normalised=torch.sigmoid)
    ),
    "only the best key is used: the softmax gives each key its share": _attention_with(
        normalised=lambda s: nn.functional.one_hot(s.argmax(-1), s.shape[-1]).to(s.dtype)
    ),
    "the mask is turned round: True means may be looked at": _attention_with(
        masked=lambda scores, mask: scores.masked_fill(mask, -torch.inf)
    ),
    "the mask is not used": _attention_with(masked=_not_masked),
    "the mask comes after the softmax: the weights that are left no longer sum to 1": (
        _attention_with(masked=_not_masked, after=lambda weights, mask: weights * mask)
    ),
    "masked scores are set to 0, and exp(0) = 1 still counts: set them to -inf": (
        _attention_with(masked=lambda scores, mask: scores * mask)
    ),
    "True is added as 1: set the scores that are False to -inf": _attention_with(
        masked=lambda scores, mask: scores + mask
    ),
    "all queries get the first row of the mask: each has its own": _attention_with(
        masked=lambda scores, mask: scores.masked_fill(~mask[..., :1, :], -torch.inf)
    ),
    "mask[:, None] moves its first axis: (heads, N, M) fits (B, heads, N, M) as it is": (
        _attention_with(
            masked=lambda scores, mask: scores.masked_fill(
                ~(mask[:, None] if mask.ndim == 3 < scores.ndim else mask), -torch.inf
            )
        )
    ),
    "a mask is many numbers: ask `if mask is not None`": lambda q, k, v, mask=None: bool(mask),
    "the mask is transposed: its rows are queries": _attention_with(
        masked=lambda scores, mask: scores.masked_fill(~mask.transpose(-1, -2), -torch.inf)
    ),
    "the keys are averaged: they give the weights, the values are averaged": _attention_with(
        taken=lambda w, q, k, v: w @ k
    ),
    "the queries are averaged: they give the weights, the values are averaged": _attention_with(
        taken=lambda w, q, k, v: w @ q
    ),
    "k and v are swapped: the scores are of queries and keys": (
        lambda q, k, v, mask=None: right_attention(q, v, k, mask)
    ),
    "the scores are of queries and values: they are of queries and keys": _attention_with(
        lambda q, k, v: q @ v.transpose(-1, -2) / q.shape[-1] ** 0.5
    ),
    "queries and keys are swapped, or the weights transposed: a row of them belongs to a query": (
        lambda q, k, v, mask=None: right_attention(k, q, v, mask)
    ),
    "the values are returned as they came: weights @ v": _attention_with(
        taken=lambda w, q, k, v: v
    ),
    "k.T turns round all axes: k.transpose(-1, -2) only the last two": _attention_with(
        lambda q, k, v: q @ k.permute(*reversed(range(k.ndim))) / q.shape[-1] ** 0.5
    ),
    "k.transpose(0, 1) swaps other axes where there is a batch: k.transpose(-1, -2)": (
        _attention_with(lambda q, k, v: q @ k.transpose(0, 1) / q.shape[-1] ** 0.5)
    ),
    "k.transpose(1, 2) is right for one axis of batch only: k.transpose(-1, -2)": (
        _attention_with(lambda q, k, v: q @ k.transpose(1, 2) / q.shape[-1] ** 0.5)
    ),
    "k is not transposed: q @ k.transpose(-1, -2)": _attention_with(
        lambda q, k, v: q @ k / q.shape[-1] ** 0.5
    ),
    "the two are returned in the other order: first the values, then the weights": (
        _attention_with(returned=lambda out, weights, scores: (weights, out))
    ),
}
WEIGHT_MISTAKES = {
    "the weights are returned transposed: (N, M), a row for each query": _attention_with(
        returned=lambda out, weights, scores: (out, weights.transpose(-1, -2))
    ),
    "the scores are returned in place of the weights: return what the softmax gave": (
        _attention_with(returned=lambda out, weights, scores: (out, scores))
    ),
    "the values taken are returned twice: the second are the weights": _attention_with(
        returned=lambda out, weights, scores: (out, out)
    ),
}


def attend(q, k, v):
    return right_attention(q, k, v)[0]


def _split(x, heads):
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _merge(x):
    return x.transpose(1, 2).flatten(2)


def _split_by_view(x, heads):
    return x.reshape(len(x), heads, x.shape[1], -1)


def _merge_by_view(x):
    return x.reshape(len(x), x.shape[2], -1)


def _split_interleaved(x, heads):
    return x.unflatten(-1, (-1, heads)).permute(0, 3, 1, 2)


def _merge_interleaved(x):
    return x.permute(0, 2, 3, 1).flatten(2)


def _heads_with(split=_split, merge=_merge):
    """Attention in heads with either of its rearrangements replaced."""

    def in_heads(q, k, v, heads, attend):
        return merge(attend(split(q, heads), split(k, heads), split(v, heads)))

    return in_heads


_right_in_heads = _heads_with()


def right_in_heads(q, k, v, heads, attend):
    """Vaswani et al. 2017, section 3.2.2, between the projections."""
    return _right_in_heads(q, k, v, heads, attend)


def _heads_first(q, k, v, heads, attend):
    """Heads go into the batch as (heads b) and come out as (b heads)."""
    q, k, v = (_split(x, heads).transpose(0, 1).flatten(0, 1) for x in (q, k, v))
    return _merge(attend(q, k, v).unflatten(0, (-1, heads)))


def _one_for_all(q, k, v, heads, attend):
    k, v = (_split(x, heads)[:, :1].expand(-1, heads, -1, -1) for x in (k, v))
    return _merge(attend(_split(q, heads), k, v))


LAYOUT_MISTAKES = {
    "heads and tokens are mixed: cut the last axis first, (B, N, heads, d), then swap axes": (
        _heads_with(_split_by_view)
    ),
    "heads and tokens are mixed, both ways: cut the last axis first, (B, N, heads, d), then "
    "swap axes": _heads_with(_split_by_view, _merge_by_view),
    "the heads are interleaved: head h is the h-th slice of width d, (heads d)": _heads_with(
        _split_interleaved
    ),
    "the heads are interleaved, both ways: head h is the h-th slice of width d, (heads d)": (
        _heads_with(_split_interleaved, _merge_interleaved)
    ),
    "the axes are not swapped back before the heads are joined": _heads_with(merge=_merge_by_view),
    "the wrong axes are swapped back: heads and tokens, (B, N, heads, d)": _heads_with(
        merge=lambda x: x.transpose(2, 3).reshape(len(x), x.shape[2], -1)
    ),
    "the heads are joined interleaved, (d heads): side by side is (heads d)": _heads_with(
        merge=_merge_interleaved
    ),
    "the heads are averaged: put them side by side": _heads_with(merge=lambda x: x.mean(1)),
    "the heads are averaged, and the mean repeated: put them side by side": _heads_with(
        merge=lambda x: x.mean(1).repeat(1, 1, x.shape[1])
    ),
    "the heads are added up: put them side by side": _heads_with(merge=lambda x: x.sum(1)),
    "the heads are put one below the other: side by side, along the last axis": _heads_with(
        merge=lambda x: x.flatten(1, 2)
    ),
    "the heads are not joined: the last axis has to be heads * d again": _heads_with(
        merge=lambda x: x
    ),
    "the axes are swapped back, but the heads not joined: flatten the last two": _heads_with(
        merge=lambda x: x.transpose(1, 2)
    ),
    "the heads are in the wrong order": _heads_with(merge=lambda x: _merge(x.flip(1))),
    "`heads` is taken for the width of a head: it is their number": (
        lambda q, k, v, heads, attend: right_in_heads(q, k, v, q.shape[-1] // heads, attend)
    ),
    "batch and heads are mixed up: they go in as (heads, B) and come out as (B, heads)": (
        _heads_first
    ),
    "the answer of the first head stands for all": _heads_with(
        merge=lambda x: _merge(x[:, :1].expand_as(x))
    ),
    "only the first head is used": _heads_with(merge=lambda x: _merge(x[:, :1])),
}
HEAD_MISTAKES = LAYOUT_MISTAKES | {
    "the heads are ignored: one head of the whole width, with its scale": (
        lambda q, k, v, heads, attend: attend(q, k, v)
    ),
    "tokens attend to nobody, heads to each other: (B, N, heads, d) needs its axes swapped": (
        _heads_with(lambda x, heads: x.unflatten(-1, (heads, -1)), lambda x: x.flatten(2))
    ),
    "all heads look at the keys and values of the first": _one_for_all,
    "q and k are swapped": (lambda q, k, v, heads, attend: right_in_heads(k, q, v, heads, attend)),
    "q is used for keys and values, too": (
        lambda q, k, v, heads, attend: right_in_heads(q, q, q, heads, attend)
    ),
    "k and v are swapped": (lambda q, k, v, heads, attend: right_in_heads(q, v, k, heads, attend)),
}


ORDER_MISTAKES = {
    "the queries go to `attend` in turned order: leave the tokens in their places": (
        lambda q, k, v, heads, attend: right_in_heads(q.flip(1), k, v, heads, attend).flip(1)
    ),
    "keys and values go to `attend` in turned order: leave the tokens in their places": (
        lambda q, k, v, heads, attend: right_in_heads(q, k.flip(1), v.flip(1), heads, attend)
    ),
}


def _cross_with(
    q=lambda x, context, layer: layer.to_q(x),
    k=lambda x, context, layer: layer.to_k(context),
    v=lambda x, context, layer: layer.to_v(context),
    heads=lambda q, k, v, layer: right_in_heads(q, k, v, layer.heads, attend),
    last=lambda out, x, layer: layer.to_out[0](out),
):
    """Cross-attention with any of its parts replaced."""

    def cross(x, context, layer):
        parts = (make(x, context, layer) for make in (q, k, v))
        return last(heads(*parts, layer), x, layer)

    return cross


_right_cross_attention = _cross_with()


def right_cross_attention(x, context, layer):
    """Rombach et al. 2022, section 3.3, as `course.models.attention.Attention`."""
    return _right_cross_attention(x, context, layer)


def _attending(attend, in_heads=right_in_heads):
    return _cross_with(heads=lambda q, k, v, layer: in_heads(q, k, v, layer.heads, attend))


def _by(scale):
    """Attention whose scores are divided by another number."""
    return lambda q, k, v: (q @ k.transpose(-1, -2) / scale(q, k)).softmax(-1) @ v


def _whole_scale(q, k, v, layer):
    return right_in_heads(q, k, v, layer.heads, _by(lambda *_: q.shape[-1] ** 0.5))


CROSS_MISTAKES = {
    "the queries are made of the context: they are those of x": _cross_with(
        q=lambda x, context, layer: layer.to_q(context)
    ),
    "the keys are made of x: they are those of the context": _cross_with(
        k=lambda x, context, layer: layer.to_k(x)
    ),
    "the values are made of x: they are those of the context": _cross_with(
        v=lambda x, context, layer: layer.to_v(x)
    ),
    "the context is ignored: this is self-attention": (
        lambda x, context, layer: right_cross_attention(x, x, layer)
    ),
    "x and context are swapped: x asks, the context is looked at": (
        lambda x, context, layer: right_cross_attention(context, x, layer)
    ),
    "to_out is a list of layers: call layer.to_out[0]": _cross_with(
        last=lambda out, x, layer: layer.to_out(out)
    ),
    "to_out is forgotten: it comes last": _cross_with(last=lambda out, x, layer: out),
    "the bias of to_out is forgotten: call the layer": _cross_with(
        last=lambda out, x, layer: out @ layer.to_out[0].weight.T
    ),
    "the input is added: the residual is the business of the block around": _cross_with(
        last=lambda out, x, layer: x + layer.to_out[0](out)
    ),
    "the input is added before to_out: the residual is the business of the block around": (
        _cross_with(last=lambda out, x, layer: layer.to_out[0](x + out))
    ),
    "the scale is the root of the whole width: it is that of one head's": _cross_with(
        heads=_whole_scale
    ),
    "the scores are not scaled: divide them by the root of a head's width": _attending(
        _by(lambda q, k: 1)
    ),
    "the scores are divided by a head's width, or twice by its root: once by its root": (
        _attending(_by(lambda q, k: q.shape[-1]))
    ),
    "the heads are not split: layer.heads says how many there are": _cross_with(
        heads=lambda q, k, v, layer: attend(q, k, v)
    ),
    "the softmax runs over the queries: each query shares 1 among the words": _attending(
        lambda q, k, v: (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-2) @ v
    ),
    "the softmax is missing": _attending(
        lambda q, k, v: (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5) @ v
    ),
    "to_k and to_v are swapped": _cross_with(
        k=lambda x, context, layer: layer.to_v(context),
        v=lambda x, context, layer: layer.to_k(context),
    ),
    "to_k makes the values, too: they have to_v": _cross_with(
        v=lambda x, context, layer: layer.to_k(context)
    ),
    "to_v makes the keys, too: they have to_k": _cross_with(
        k=lambda x, context, layer: layer.to_v(context)
    ),
    "to_q makes the keys, too: they have to_k": _cross_with(
        k=lambda x, context, layer: layer.to_q(context)
    ),
    "to_q is forgotten": _cross_with(q=lambda x, context, layer: x),
    "to_k is forgotten": _cross_with(k=lambda x, context, layer: context),
    "to_v is forgotten": _cross_with(v=lambda x, context, layer: context),
    "the projections are forgotten: attention of x to the context as they come": _cross_with(
        q=lambda x, context, layer: x,
        k=lambda x, context, layer: context,
        v=lambda x, context, layer: context,
    ),
    **{cause: _attending(attend, mistake) for cause, mistake in LAYOUT_MISTAKES.items()},
}
