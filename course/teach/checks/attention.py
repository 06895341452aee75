"""Checks of notebook 34."""

from dataclasses import replace
from types import SimpleNamespace

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from course.teach.checks._attention import (
    ATTENTION_MISTAKES,
    CROSS_MISTAKES,
    HEAD_MISTAKES,
    WEIGHT_MISTAKES,
    attend,
    right_attention,
    right_cross_attention,
    right_in_heads,
)
from course.teach.checks._common import recognised, torch_layer, unhurt
from course.teach.exercise import (
    Property,
    agrees,
    attempt,
    differentiable,
    exercise,
    handed_in,
    judges,
)

NAN = "it contains nan: set scores to -inf where the mask is False, and no score to inf"


def _part(function, i):
    return lambda *inputs: function(*inputs)[i]


def _is_a_pair(name, candidate, inputs):
    """Why what comes back is not two tensors, if it is not; what raises is left to others."""
    try:
        got = candidate(*inputs)
    except Exception:
        return
    if isinstance(got, torch.Tensor):
        message = "it returns one tensor: return both, the values taken and the weights"
        yield Property(name, False, message)
    elif not isinstance(got, tuple | list):
        came = "None: is the return missing?" if got is None else type(got).__name__
        yield Property(name, False, f"expected two tensors, out and weights, got {came}")
    elif len(got) != 2:
        message = f"expected two tensors, out and weights, got {len(got)} things"
        yield Property(name, False, message)


def _written_out(name, candidate, inputs):
    """Property: it works where torch's own attention does not."""
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):  # which no CPU has
        _, problem = attempt(name, candidate, *inputs)
    if problem and "scaled_dot_product_attention" in problem.message:
        message = "it calls scaled_dot_product_attention: write it out, from scores to values"
        return replace(problem, message=message)
    return problem or Property(name, True)


def _mask(draw, *shape):
    """At least one True and one False in each row."""
    chance = draw.uniform(0, 1, *shape)
    mask = chance < 0.6
    mask.scatter_(-1, chance.argmin(-1, keepdim=True), True)
    return mask.scatter_(-1, chance.argmax(-1, keepdim=True), False)


@exercise(reference=right_attention)
def dot_product_attention(candidate, draw):
    def looks(name, batch, sizes, mask=None, single=False, length=1, nan=NAN):
        n, m, d, e = sizes
        inputs = tuple(draw.normal(*batch, *ends) for ends in ((n, d), (m, d), (m, e)))
        inputs = (length * inputs[0], *inputs[1:])
        if single:
            inputs = tuple(x.float() for x in inputs)
        if mask is not None:
            inputs += (_mask(draw, *mask),)
        broken = list(_is_a_pair(name, candidate, inputs))
        if broken:
            yield from broken
            return
        want = right_attention(*inputs)
        batches = " ".join(["B", "heads"][: len(batch)])
        for i, (part, ends) in enumerate((("values", "N E"), ("weights", "N M"))):
            wrong = (WEIGHT_MISTAKES if i else {}) | ATTENTION_MISTAKES
            wrong = {cause: _part(mistake, i) for cause, mistake in wrong.items()}
            part = f"{name}: {part}"
            axes = f"{batches} {ends}"
            found = recognised(part, _part(candidate, i), inputs, want[i], wrong, axes)
            if found.message == "it contains nan":
                found = replace(found, message=nan)
            yield found

    b, h, n = draw.integer(2, 3), draw.integer(4, 5), draw.integer(6, 7)
    m, d, e = draw.integer(8, 9), draw.integer(10, 11), draw.integer(12, 13)
    yield from looks("more keys than queries", (), (n, m, d, d))
    yield from looks("values wider than keys", (), (n, m, d, e))
    yield from looks("more queries than keys, in a batch", (b,), (m, n, 5, 3))
    yield from looks("a batch, with heads", (b, h), (n, m, d, e))
    yield from looks("as many queries as keys, all of one width", (b,), (n, n, d, d))
    yield from looks("one query, one key", (b,), (1, 1, d, e))
    yield from looks("a mask, (N, M)", (), (n, m, d, e), (n, m))
    yield from looks("as many queries as keys, with a mask", (b,), (n, n, d, d), (n, n))
    yield from looks("a mask for each of the batch, (B, N, M)", (b,), (n, m, d, e), (b, n, m))
    yield from looks("a mask of keys, (B, 1, 1, M)", (b, h), (n, m, d, e), (b, 1, 1, m))
    yield from looks("a mask of keys, (M,)", (b,), (n, m, d, e), (m,))
    yield from looks("float32", (b,), (n, m, d, e), (n, m), single=True)
    large = "it contains nan: exp overflows, softmax takes the largest score off before"
    yield from looks("scores in the thousands", (), (n, m, d, e), length=3000, nan=large)
    inputs = tuple(draw.normal(b, h, *ends) for ends in ((n, d), (m, d), (m, d)))
    inputs += (_mask(draw, n, m),)
    name = "written out, without torch's own attention"
    yield _written_out(name, candidate, inputs)
    by = {"q": 0, "k": 1, "v": 2}
    yield differentiable(
        "gradients by q, k and v", _part(candidate, 0), _part(right_attention, 0), inputs, by
    )


_GIVEN = handed_in(attend)


@exercise(reference=right_in_heads)
def attend_in_heads(candidate, draw):
    def inputs_of(batch, n, m, width):
        return tuple(draw.normal(batch, tokens, width) for tokens in (n, m, m))

    def of(function, heads, attend=_GIVEN):
        return lambda q, k, v: function(q, k, v, heads, attend)

    def looks(name, inputs, heads):
        want = right_in_heads(*inputs, heads, attend)
        wrong = {cause: of(mistake, heads) for cause, mistake in HEAD_MISTAKES.items()}
        return recognised(name, of(candidate, heads), inputs, want, wrong, "B N width")

    b, heads, d = draw.integer(2, 3), draw.integer(4, 5), draw.integer(6, 7)
    n, m = draw.integer(8, 9), draw.integer(10, 11)
    yield looks("each to all others, in heads", inputs_of(b, n, n, heads * d), heads)
    yield looks("to a context, in heads", inputs_of(b, n, m, heads * d), heads)
    yield looks("one head: attention as it is", inputs_of(b, n, m, d), 1)
    yield looks("as many heads as the width", inputs_of(b, n, m, heads), heads)
    yield looks("a batch of one", inputs_of(1, m, n, 2 * d), 2)
    yield looks("float32", tuple(x.float() for x in inputs_of(b, n, m, 3 * d)), 3)
    inputs = inputs_of(b, n, m, heads * d)

    def linear(q, k, v):
        return q @ k.transpose(-1, -2) @ v / k.shape[-2]

    own = "it does not use `attend`: call what it is given, it need not be softmax attention"
    yield agrees(
        "another `attend`, without a softmax",
        of(candidate, heads, handed_in(linear)),
        inputs,
        right_in_heads(*inputs, heads, linear),
        "B N width",
        {own: of(right_in_heads, heads)},
    )
    by = {"q": 0, "k": 1, "v": 2}
    yield differentiable(
        "gradients by q, k and v", of(candidate, heads), of(right_in_heads, heads), inputs, by
    )


def _layer_of(draw, width, looked_at, heads, inner, single=False):
    layers = {
        "to_q": torch_layer(draw, nn.Linear, width, inner, bias=False),
        "to_k": torch_layer(draw, nn.Linear, looked_at, inner, bias=False),
        "to_v": torch_layer(draw, nn.Linear, looked_at, inner, bias=False),
        "to_out": nn.ModuleList([torch_layer(draw, nn.Linear, inner, width)]),
    }
    if single:
        layers = {name: layer.float() for name, layer in layers.items()}
    return SimpleNamespace(**layers, heads=heads), list(layers.values())


@exercise(reference=right_cross_attention)
def cross_attention(candidate, draw):
    def looks(name, batch, tokens, widths, heads, d, single=False, further=False):
        (n, m), (width, looked_at) = tokens, widths
        x, context = draw.normal(batch, n, width), draw.normal(batch, m, looked_at)
        layer, layers = _layer_of(draw, width, looked_at, heads, heads * d, single)
        if single:
            x, context = x.float(), context.float()

        def of(function):
            return lambda x, context: function(x, context, layer)

        if further:
            yield from unhurt("the layers keep their weights", of(candidate), (x, context), layers)
            by = {"x": 0, "context": 1}
            right = of(right_cross_attention)
            name = "gradients by x and context"
            yield differentiable(name, of(candidate), right, (x, context), by)
            return
        want = right_cross_attention(x, context, layer)
        wrong = {cause: of(mistake) for cause, mistake in CROSS_MISTAKES.items()}
        yield recognised(name, of(candidate), (x, context), want, wrong, "B N C")

    b, heads, d = draw.integer(2, 3), draw.integer(4, 5), draw.integer(6, 7)
    n, m = draw.integer(8, 9), draw.integer(10, 11)
    c, looked_at = heads * d, draw.integer(12, 13)
    name = "words as wide as the pixels, and as many"
    yield from looks(name, b, (n, n), (c, c), heads, d)
    yield from looks("other words: their number and width", b, (n, m), (c, looked_at), heads, d)
    yield from looks("more queries than words", b, (m, 3), (c, looked_at), heads, d)
    yield from looks("heads wider than x in all", 1, (n, m), (11, looked_at), 3, d)
    yield from looks("one head, one word", b, (n, 1), (c, looked_at), 1, d)
    yield from looks("float32", b, (n, m), (c, looked_at), 2, d, single=True)
    yield from looks("", b, (n, m), (c, looked_at), heads, d, further=True)


def _softmax_rows(scores):
    return scores.softmax(-1)


def _weights_with(scale=lambda q, k: q.shape[1] ** 0.5, scores=None, normalised=_softmax_rows):
    """Weights of queries (N, d) and keys (M, d), with any part replaced."""

    def formula(q, k):
        score = scores(q, k) if scores else q @ k.T / scale(q, k)
        return normalised(score)

    return formula


_weights = _weights_with()


def _by_logsumexp(q, k):
    scores = torch.einsum("nd,md->nm", q, k) * q.shape[1] ** -0.5
    return (scores - scores.logsumexp(1, keepdim=True)).exp()


def _by_temperature(q, k):
    """exp(score / tau) over its sum, with tau the root of d."""
    scores, tau = q @ k.T, q.shape[1] ** 0.5
    raised = ((scores - scores.amax(1, keepdim=True)) / tau).exp()
    return raised / raised.sum(1, keepdim=True)


def _by_loops(q, k):
    rows = []
    for one in q.double():
        scores = torch.stack([(one * key).sum() / len(one) ** 0.5 for key in k.double()])
        # Each weight from its differences to the others.
        rows.append(torch.stack([1 / (scores - s).exp().sum() for s in scores]))
    return torch.stack(rows).to(q.dtype)


def _split_scale(q, k):
    root = q.shape[1] ** 0.25
    return ((k / root) @ (q / root).T).T.softmax(1)


def _only(where, other):
    """Right where the condition on queries and keys does not hold, else the other."""
    return lambda q, k: (other if where(q, k) else _weights)(q, k)


def _moved(q, k):
    """The weights of the last two keys change places, if there are more."""
    weights = _weights(q, k)
    if len(k) < 3:
        return weights
    return torch.cat([weights[:, :-2], weights[:, -2:].flip(1)], dim=1)


_unscaled = _weights_with(lambda q, k: 1)


def _referee_softmax(formula):
    generator = torch.Generator().manual_seed(0)
    for n, m, d, size in [(3, 5, 2, 1), (6, 4, 7, 1), (1, 8, 4, 1), (5, 2, 9, 1), (4, 6, 3, 9)]:
        q, k = (torch.randn(rows, d, generator=generator).double() for rows in (n, m))
        got, want = formula(size * q, k), _weights(size * q, k)
        if got.shape != want.shape or not torch.allclose(got, want, rtol=1e-6, atol=1e-9):
            return False
    return True


@exercise(reference=_referee_softmax, kind="referee")
def referee_softmax(candidate, draw):
    right = {
        "the right formula": _weights,
        "the right formula, by log-sum-exp": _by_logsumexp,
        "the right formula, with the root of d as temperature": _by_temperature,
        "the right formula, in loops": _by_loops,
        "the right formula, with queries and keys scaled each by the fourth root": _split_scale,
    }
    why = (
        "what you compare with is wrong (is it scaled once, and does each query's row sum to 1?), "
        "or the test is too strict"
    )
    hints = {
        "compare all weights with your own, for random queries and keys of width 5, say": {
            "line 397 as printed, in which the scaling cancels": _unscaled,
            "the scores scaled twice": _weights_with(lambda q, k: q.shape[1]),
            "the scores multiplied by the root of d": _weights_with(
                lambda q, k: q.shape[1] ** -0.5
            ),
            "the sign of the scores turned": _weights_with(lambda q, k: -(q.shape[1] ** 0.5)),
            "logistic scores, normalised": _weights_with(
                normalised=lambda s: s.sigmoid() / s.sigmoid().sum(1, keepdim=True)
            ),
            "equal weights": lambda q, k: _weights(0 * q, k),
            "all on the best key": lambda q, k: _weights(1e6 * q, k),
            "the cosine in place of the scaled product": _weights_with(
                scores=lambda q, k: nn.functional.normalize(q) @ nn.functional.normalize(k).T
            ),
            "the distance in place of the product": _weights_with(
                scores=lambda q, k: -torch.cdist(q, k) / q.shape[1] ** 0.5
            ),
            "half the squared distance in place of the product": _weights_with(
                scores=lambda q, k: -torch.cdist(q, k).square() / 2 / q.shape[1] ** 0.5
            ),
        },
        "do the rows sum to 1? Then look which entry belongs to which key": {
            "the softmax over the queries": _weights_with(normalised=lambda s: s.softmax(0)),
            "the softmax over all at once": _weights_with(
                normalised=lambda s: s.flatten().softmax(0).reshape(s.shape)
            ),
            "no division by the sum": _weights_with(normalised=torch.exp),
            "the right weights in the wrong order of keys": lambda q, k: _weights(q, k).flip(1),
            "the rows of the queries in the wrong order": lambda q, k: _weights(q, k).flip(0),
            "the weights of the last two keys of three or more swapped": _moved,
            "the weights of the first query for all": lambda q, k: _weights(q[:1], k).expand(
                len(q), -1
            ),
        },
        "try widths d that are no squares, and several": {
            "a scale that is right for d = 4 only": _weights_with(lambda q, k: 2),
            "a scale that is right for squares only": _weights_with(
                lambda q, k: int(q.shape[1] ** 0.5)
            ),
            "an error in odd widths only": _only(lambda q, k: q.shape[1] % 2, _unscaled),
            "an error in even widths only": _only(lambda q, k: q.shape[1] % 2 == 0, _unscaled),
        },
        "try numbers N of queries, M of keys and d that all differ": {
            "the root of the number of keys for scale": _weights_with(lambda q, k: len(k) ** 0.5),
            "the root of the number of queries for scale": _weights_with(
                lambda q, k: len(q) ** 0.5
            ),
            "an error where there are more keys than queries": _only(
                lambda q, k: len(k) > len(q), _unscaled
            ),
            "an error where there are more queries than keys": _only(
                lambda q, k: len(k) < len(q), _unscaled
            ),
        },
        "try queries that are ten times as long, too": {
            "scores that stop at 4": _weights_with(normalised=lambda s: s.clamp(-4, 4).softmax(1)),
        },
        "compare more digits: that is too coarse a tolerance": {
            "a scale 1 % too large": _weights_with(lambda q, k: 1.01 * q.shape[1] ** 0.5),
            "weights 0.5 % too large": lambda q, k: 1.005 * _weights(q, k),
            "weights 0.5 % too small": lambda q, k: 0.995 * _weights(q, k),
        },
    }
    wrong = {
        cause: (formula, hint) for hint, found in hints.items() for cause, formula in found.items()
    }
    yield from judges(candidate, right, why, wrong)
