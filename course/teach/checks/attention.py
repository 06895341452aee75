"""Checks of notebook 34."""

from dataclasses import replace
from types import SimpleNamespace

import torch
from torch import nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from course.teach.checks._attention import (
    ATTENTION_MISTAKES,
    CROSS_MISTAKES,
    HEAD_MISTAKES,
    ORDER_MISTAKES,
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
OVERFLOW = "it contains nan: exp overflows, softmax takes the largest score off before"
HIDDEN_NAN = "it contains nan where a hidden key has the largest score: mask before the softmax"
HIDDEN_COUNTS = (
    "hidden tokens keep a weight: set their scores to -inf before the softmax, a finite number "
    "does not hide them from all queries"
)
HIDDEN_TAKES_ALL = (
    "a row of weights is all 0 where a hidden key has the largest score: mask before the softmax"
)


def _part(function, i):
    return lambda *inputs: function(*inputs)[i]


def _single(inputs):
    return tuple(x.float() if x.is_floating_point() else x for x in inputs)


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


def _why_masked_badly(weights, want, mask):
    """What is wrong with weights whose proportions are right where the mask is True, or None."""
    seen = weights.where(mask, 0)
    total = seen.sum(-1, keepdim=True)
    shares = (seen / total).where(total > 0, want)
    if not torch.allclose(shares, want, rtol=1e-4, atol=1e-5):
        return None
    if seen.ne(weights).any():
        return HIDDEN_COUNTS
    return HIDDEN_TAKES_ALL if (total == 0).any() else None


def _holds(value, dtype):
    return isinstance(value, torch.Tensor) and value.dtype is dtype and value.numel() > 1


class _Watch(TorchFunctionMode):
    """Notes whether torch's own attention is called, and whether float64 becomes float32."""

    fused = lowered = False

    @handed_in
    def __torch_function__(self, function, types, arguments=(), named=None):
        made = function(*arguments, **(named or {}))
        self.fused |= "scaled_dot_product" in getattr(function, "__name__", "")
        self.lowered |= _holds(made, torch.float32) and any(
            _holds(given, torch.float64) for given in (*arguments, *(named or {}).values())
        )
        return made


def _written_out(name, candidate, inputs):
    """Property: it does without torch's own attention."""
    with _Watch() as watch:
        _, problem = attempt(name, candidate, *inputs)
    if watch.fused:
        message = "it calls scaled_dot_product_attention: write it out, from scores to values"
        return Property(name, False, message)
    return problem or Property(name, True)


def _kept_precise(candidate, inputs):
    """Property: what is float64 is not float32 on the way; what raises is left to others."""
    name = "float64 throughout"
    with _Watch() as watch:
        got, _ = attempt(name, candidate, *(x.clone() for x in inputs))
    if _holds(got, torch.float64):
        message = "float64 in, float64 out: it is computed in float32 on the way"
        yield Property(name, not watch.lowered, message if watch.lowered else "")


def _mask(draw, *shape):
    """At least one True and one False in each row."""
    chance = draw.uniform(0, 1, *shape)
    mask = chance < 0.6
    mask.scatter_(-1, chance.argmin(-1, keepdim=True), True)
    return mask.scatter_(-1, chance.argmax(-1, keepdim=True), False)


def _with_scores(draw, scores, d, e):
    """Queries, keys and values with these scores (N, M), up to rounding; M may not exceed d."""
    k = torch.linalg.qr(draw.normal(d, scores.shape[1])).Q.T
    return d**0.5 * scores @ k, k, draw.normal(scores.shape[1], e)


@exercise(reference=right_attention)
def dot_product_attention(candidate, draw):
    def tensors(batch, sizes, mask=None):
        n, m, d, e = sizes
        inputs = tuple(draw.normal(*batch, *ends) for ends in ((n, d), (m, d), (m, e)))
        return inputs if mask is None else (*inputs, _mask(draw, *mask))

    def looks(name, inputs, nan=NAN, hidden_first=False):
        broken = list(_is_a_pair(name, candidate, inputs))
        if broken:
            yield from broken
            return
        want = right_attention(*inputs)
        batches = " ".join(["B", "groups", "heads"][: inputs[0].ndim - 2])
        for i, (part, ends) in enumerate((("values", "N E"), ("weights", "N M"))):
            wrong = (WEIGHT_MISTAKES if i else {}) | ATTENTION_MISTAKES
            wrong = {cause: _part(mistake, i) for cause, mistake in wrong.items()}
            if hidden_first:  # all weight goes to one key in many ways
                wrong, nan = {}, HIDDEN_NAN
            part = f"{name}: {part}"
            axes = f"{batches} {ends}"
            found = recognised(part, _part(candidate, i), inputs, want[i], wrong, axes)
            if found.message == "it contains nan":
                found = replace(found, message=nan)
            if found.message.startswith("at ") and len(inputs) == 4:
                got, _ = attempt(part, _part(candidate, 1), *inputs)
                cause, _ = attempt(part, _why_masked_badly, got, want[1], inputs[3])
                if cause == HIDDEN_COUNTS or (cause and hidden_first):
                    found = replace(found, message=cause)
            yield found

    b, h, n = draw.integer(2, 3), draw.integer(4, 5), draw.integer(6, 7)
    m, d, e = draw.integer(8, 9), draw.integer(10, 11), draw.integer(12, 13)
    sizes, few = (n, m, d, e), (2, 3, d, e)
    inputs = tensors((b,), sizes, (n, m))
    yield from _kept_precise(_part(candidate, 0), inputs)
    yield from looks("more keys than queries", tensors((), (n, m, d, d)))
    yield from looks("values wider than keys", tensors((), sizes))
    yield from looks("more queries than keys, in a batch", tensors((b,), (m, n, 5, 3)))
    yield from looks("a batch, with heads", tensors((b, h), sizes))
    yield from looks("as many queries as keys, all of one width", tensors((b,), (n, n, d, d)))
    yield from looks("one query, one key", tensors((b,), (1, 1, d, e)))
    name = "a batch, with heads, as it is after heads and tokens have changed places"
    moved = (draw.normal(b, tokens, h, width) for tokens, width in ((2, d), (3, d), (3, e)))
    yield from looks(name, tuple(x.transpose(1, 2) for x in moved))
    yield from looks("a batch of three axes", tensors((b, 1, h), few))
    yield from looks("a mask, (N, M)", tensors((), sizes, (n, m)))
    name = "as many queries as keys, with a mask"
    yield from looks(name, tensors((b,), (n, n, d, d), (n, n)))
    name = "a mask for each of the batch, (B, N, M)"
    yield from looks(name, tensors((b,), sizes, (b, n, m)))
    name = "a mask for each head, (heads, N, M)"
    yield from looks(name, tensors((b, h), few, (h, 2, 3)))
    yield from looks("a mask of keys, (B, 1, 1, M)", tensors((b, h), sizes, (b, 1, 1, m)))
    yield from looks("a mask of keys, (M,)", tensors((b,), sizes, (m,)))
    everywhere = (torch.ones(n, m, dtype=torch.bool),)
    yield from looks("a mask that hides nothing", tensors((b,), sizes) + everywhere)
    yield from looks("float32", _single(tensors((b,), sizes, (n, m))))
    q, k, v = tensors((), sizes)
    yield from looks("scores in the thousands", (3000 * q, k, v), OVERFLOW)
    # So far apart that float32 does not blur them.
    apart = 1000 * draw.uniform(0, 1, n, m).argsort(1).to(torch.float64)
    inputs = _single(_with_scores(draw, apart - 4000, d, e))
    yield from looks("scores in the thousands, float32", inputs, OVERFLOW)
    mask = _mask(draw, n, m)
    hidden_first = (12000 + apart).where(~mask, -12000 - apart)
    inputs = (*_with_scores(draw, hidden_first, d, e), mask)
    name = "a hidden key with the largest score"
    yield from looks(name, inputs, hidden_first=True)
    yield from looks(f"{name}, float32", _single(inputs), hidden_first=True)
    inputs = tensors((b, h), (n, m, d, d), (n, m))
    name = "written out, without torch's own attention"
    yield _written_out(name, candidate, inputs)
    by = {"q": 0, "k": 1, "v": 2}
    yield differentiable(
        "gradients by q, k and v", _part(candidate, 0), _part(right_attention, 0), inputs, by
    )
    weighed = draw.normal(b, h, n, m)  # the plain sum of the weights does not change
    found = differentiable(
        "gradients by q and k through the weights",
        lambda *inputs: candidate(*inputs)[1] * weighed,
        lambda *inputs: right_attention(*inputs)[1] * weighed,
        inputs,
        {"q": 0, "k": 1},
    )
    through = "" if found.passed else f"through the weights that are returned, {found.message}"
    yield replace(found, message=through) if found.attempted else found


_GIVEN = handed_in(attend)


def _ordered(q, k, v):
    """Values taken without a softmax, and with regard to the places of the tokens."""
    places = [torch.arange(x.shape[-2], dtype=q.dtype) for x in (q, k)]
    return q @ k.transpose(-1, -2) / (1 + places[0][:, None] + 2 * places[1]) @ v


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
    found = looks("to a context, in heads", inputs_of(b, n, m, heads * d), heads)
    if found.message.startswith("it raises "):
        raised = found.message.removeprefix("it ")
        message = f"k and v may have another number of tokens than q: with these it {raised}"
        found = replace(found, message=message)
    yield found
    yield looks("one head: attention as it is", inputs_of(b, n, m, d), 1)
    yield looks("as many heads as the width", inputs_of(b, n, m, heads), heads)
    yield looks("a batch of one", inputs_of(1, m, n, 2 * d), 2)
    yield looks("one query", inputs_of(b, 1, m, heads * d), heads)
    yield looks("one key", inputs_of(b, n, 1, heads * d), heads)
    yield looks("float32", _single(inputs_of(b, n, m, 3 * d)), 3)
    inputs, shapes = inputs_of(b, n, m, heads * d), []

    def given(q, k, v):
        shapes.append(tuple(q.shape))
        return _ordered(q, k, v)

    own = "it does not use `attend`: call what it is given, it need not be softmax attention"
    yield agrees(
        "another `attend`, without a softmax, for which the order of tokens counts",
        of(candidate, heads, handed_in(given)),
        inputs,
        right_in_heads(*inputs, heads, _ordered),
        "B N width",
        {own: of(right_in_heads, heads)}
        | {cause: of(mistake, heads, _ordered) for cause, mistake in ORDER_MISTAKES.items()},
    )
    other = [shape for shape in shapes if len(shape) == 4 and shape[0] not in (1, b)]
    message = f"`attend` gets q {other[0]}: the batch, {b}, comes first" if other else ""
    if shapes:
        yield Property("`attend` gets (B, heads, N, d), or head by head", not other, message)
    by = {"q": 0, "k": 1, "v": 2}
    yield differentiable(
        "gradients by q, k and v", of(candidate, heads), of(right_in_heads, heads), inputs, by
    )


_LAYERS = ("to_q", "to_k", "to_v", "to_out")


def _layer_of(draw, width, looked_at, heads, inner, single=False):
    """A layer that can be trained, as those of the notebook."""
    layers = {
        "to_q": torch_layer(draw, nn.Linear, width, inner, bias=False),
        "to_k": torch_layer(draw, nn.Linear, looked_at, inner, bias=False),
        "to_v": torch_layer(draw, nn.Linear, looked_at, inner, bias=False),
        "to_out": nn.ModuleList([torch_layer(draw, nn.Linear, inner, width)]),
    }
    for made in layers.values():
        made.requires_grad_().to(torch.float32 if single else torch.float64)
    return SimpleNamespace(**layers, heads=heads)


class _Around(nn.Module):
    """A function and the layer it is called with, for torch to put other weights into."""

    def __init__(self, function, layer):
        super().__init__()
        self.function, self.layer = function, layer
        self.held = nn.ModuleDict({name: getattr(layer, name) for name in _LAYERS})

    def forward(self, x, context):
        return self.function(x, context, self.layer)


def _trained(name, candidate, layer, inputs):
    """Property: the weights of the layers have the gradients of the reference."""
    weights = dict(_Around(candidate, layer).named_parameters())

    def of(function):
        def call(x, context, *values):
            put = dict(zip(weights, values, strict=True))
            return functional_call(_Around(function, layer), put, (x, context))

        return call

    labels = [full.removeprefix("held.") for full in weights]
    by = {label: len(inputs) + i for i, label in enumerate(labels)}
    inputs = (*inputs, *(weight.detach() for weight in weights.values()))
    return differentiable(name, of(candidate), of(right_cross_attention), inputs, by)


def _left_as_it_was(name, candidate, layer, inputs):
    """Properties: a call leaves the layer, its weights and whether they are trained alone."""
    layers, before = [getattr(layer, part) for part in _LAYERS], dict(vars(layer))
    found = list(unhurt(name, lambda *inputs: candidate(*inputs, layer), inputs, layers))
    yield from found
    now = vars(layer)
    changed = [f"layer.{part}" for part in before if now.get(part) is not before[part]]
    message = f"it changes {' and '.join(changed)}: only read it" if changed else ""
    now.update(before)
    if not all(p.requires_grad for part in layers for p in part.parameters()):
        message = "it sets requires_grad of the weights to False: then they are never trained"
    for part in layers:
        part.requires_grad_()
    if found:  # nothing where the candidate raises
        yield Property("the layer stays as it was, to be trained", not message, message)


_TWO_THINGS = "dot_product_attention returns two things: go on with the first, the values"
_CROSS_ERRORS = {
    "'tuple' object has no": _TWO_THINGS,
    "got tuple": _TWO_THINGS,
    "not tuple": _TWO_THINGS,
    "SimpleNamespace' object is not callable": (
        "`layer` itself is no function: call the layers inside, layer.to_q and so on"
    ),
}


def _named_error(found):
    """The same property, with the cause of what the candidate raises where that is a usual one."""
    raised = found.message.split(", in: ")[0]
    if not raised.startswith("it raises "):
        return found
    causes = [cause for words, cause in _CROSS_ERRORS.items() if words in raised]
    raised = raised.removeprefix("it raises ")
    return replace(found, message=f"{causes[0]} ({raised})") if causes else found


@exercise(reference=right_cross_attention)
def cross_attention(candidate, draw):
    def drawn(batch, tokens, widths, heads, d, single=False, length=1):
        (n, m), (width, looked_at) = tokens, widths
        inputs = (length * draw.normal(batch, n, width), length * draw.normal(batch, m, looked_at))
        layer = _layer_of(draw, width, looked_at, heads, heads * d, single)
        return _single(inputs) if single else inputs, layer

    def of(function, layer):
        return lambda x, context: function(x, context, layer)

    def looks(name, *sizes, **options):
        inputs, layer = drawn(*sizes, **options)
        want = right_cross_attention(*inputs, layer)
        wrong = {cause: of(mistake, layer) for cause, mistake in CROSS_MISTAKES.items()}
        found = recognised(name, of(candidate, layer), inputs, want, wrong, "B N C")
        if found.message == "it contains nan":
            found = replace(found, message=OVERFLOW)
        return _named_error(found)

    b, heads, d = draw.integer(2, 3), draw.integer(4, 5), draw.integer(6, 7)
    n, m = draw.integer(8, 9), draw.integer(10, 11)
    c, looked_at = heads * d, draw.integer(12, 13)
    inputs, layer = drawn(b, (n, m), (c, looked_at), heads, d)
    yield from _kept_precise(of(candidate, layer), inputs)
    yield looks("words as wide as the pixels, and as many", b, (n, n), (c, c), heads, d)
    yield looks("other words: their number and width", b, (n, m), (c, looked_at), heads, d)
    yield looks("more queries than words", b, (m, 3), (c, looked_at), heads, d)
    yield looks("heads wider than x in all", 1, (n, m), (11, looked_at), 3, d)
    yield looks("one head, one word", b, (n, 1), (c, looked_at), 1, d)
    yield looks("one pixel, in a larger batch", b + 3, (1, m), (c, looked_at), 2, d)
    yield looks("float32", b, (n, m), (c, looked_at), 2, d, single=True)
    name = "scores in the thousands"
    yield looks(name, b, (n, m), (c, looked_at), heads, d, length=100)
    # Small, so that the root of d may be a float32 number: its rounding is lost in the tolerance.
    inputs, layer = drawn(b, (n, m), (c, looked_at), heads, d, length=0.2)
    yield from _left_as_it_was("the layers keep their weights", candidate, layer, inputs)
    mine, right = of(candidate, layer), of(right_cross_attention, layer)
    by = {"x": 0, "context": 1}
    yield differentiable("gradients by x and context", mine, right, inputs, by)
    yield _trained("gradients by the weights of the layers", candidate, layer, inputs)


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


def _moved(keys):
    """The weights with the keys of a slice in turned order, where there are three keys or more."""

    def formula(q, k):
        weights = _weights(q, k)
        if len(k) > 2:
            weights[:, keys] = weights[:, keys].flip(1)
        return weights

    return formula


def _least_two_swapped(q, k):
    weights = _weights(q, k)
    if len(k) < 3:
        return weights
    least = weights.argsort(1)[:, :2]
    return weights.scatter(1, least, weights.gather(1, least.flip(1)))


def _rows_unscaled(rows):
    """Without the scale in some of the rows."""

    def formula(q, k):
        weights = _weights(q, k)
        weights[rows] = _unscaled(q, k)[rows]
        return weights

    return formula


def _middle_halved(q, k):
    weights = _weights(q, k)
    weights[:, 1:-1] /= 2
    return weights


def _causal(q, k):
    """Each query looks at the keys up to its own place only, the last one at all."""
    scores, later = q @ k.T / q.shape[1] ** 0.5, max(len(k) - len(q), 0)
    hidden = torch.ones_like(scores).triu(1 + later).bool()
    return scores.masked_fill(hidden, -torch.inf).softmax(1)


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
            "the weights of the last two keys of three or more swapped": _moved(slice(-2, None)),
            "the weights of the first query for all": lambda q, k: _weights(q[:1], k).expand(
                len(q), -1
            ),
        },
        "compare every entry, not some rows or columns, the largest or the sums": {
            "the weights of the first two keys of three or more swapped": _moved(slice(2)),
            "half the weights for all keys but the first and the last": _middle_halved,
            "the two least weights of three or more swapped": _least_two_swapped,
            "keys after the query's own place hidden": _causal,
            "no scale from the third query on": _rows_unscaled(slice(2, None)),
            "no scale for queries between the first and the last": _rows_unscaled(slice(1, -1)),
        },
        "try widths d that are no squares, and several": {
            "a scale that is right for d = 4 only": _weights_with(lambda q, k: 2),
            "a scale that is right for squares only": _weights_with(
                lambda q, k: int(q.shape[1] ** 0.5)
            ),
        },
        "try odd and even widths d": {
            "an error in odd widths only": _only(lambda q, k: q.shape[1] % 2, _unscaled),
            "an error in even widths only": _only(lambda q, k: q.shape[1] % 2 == 0, _unscaled),
        },
        "try numbers N of queries, M of keys and d that all differ": {
            "the root of the number of keys for scale": _weights_with(lambda q, k: len(k) ** 0.5),
            "the root of the number of queries for scale": _weights_with(
                lambda q, k: len(q) ** 0.5
            ),
        },
        "try once N < M and once N > M": {
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
        "try numbers of both signs in queries and keys": {
            "the sizes of the scores without their signs": _weights_with(
                normalised=lambda s: s.abs().softmax(1)
            ),
        },
        "compare more digits: that is too coarse a tolerance": {
            "a scale 1 % too large": _weights_with(lambda q, k: 1.01 * q.shape[1] ** 0.5),
            "weights 0.5 % too large": lambda q, k: 1.005 * _weights(q, k),
            "weights 0.5 % too small": lambda q, k: 0.995 * _weights(q, k),
            "weights 0.1 % too large": lambda q, k: 1.001 * _weights(q, k),
            "weights 0.1 % too small": lambda q, k: 0.999 * _weights(q, k),
        },
    }
    wrong = {
        cause: (formula, hint) for hint, found in hints.items() for cause, formula in found.items()
    }
    yield from judges(candidate, right, why, wrong)
