"""Notebook 34: mistakes that students make, and right answers written differently."""

_MASKED = """    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
"""
_WEIGHTS = "    weights = scores.softmax(dim=-1)\n"
_SOFTMAX = "scores.softmax(dim=-1)"
_FILLED = 'scores.masked_fill(~mask, float("-inf"))'
_BOTH = "return weights @ v, weights"

_FILLS = ("-1.0", "-10", "-20.0", "-100", "-1e4")

_FIRST = "x.reshape(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)"
_SECOND = "out.transpose(1, 2).reshape(q.shape)"
_ATTEND = "attend(split(q), split(k), split(v))"
_BY_VIEW = "x.reshape(x.shape[0], heads, x.shape[1], -1)"
_DEALT = "x.reshape(x.shape[0], x.shape[1], -1, heads).permute(0, 3, 1, 2)"

_PROJECTED = "layer.to_q(x), layer.to_k(context), layer.to_v(context)"
_HEADS = "attend_in_heads(q, k, v, layer.heads, attend)"
_OUT = f"layer.to_out[0]({_HEADS})"
_FUSED = "torch.nn.functional.scaled_dot_product_attention"
_SCORES = "q @ k.transpose(-2, -1)"

_SIZES = "((3, 5, 2), (4, 2, 7), (1, 6, 16))"
_CLOSE = "torch.allclose(got, want, atol=1e-6)"


def _attending(text):
    """Attention of another kind in place of torch's own."""
    return (_FUSED, f"(lambda q, k, v: {text})")


MUTANTS = {
    "dot_product_attention": [
        (" / q.shape[-1] ** 0.5", "", "the scores are not scaled"),
        ("q.shape[-1] ** 0.5", "q.shape[-1]", "the scores are divided by D"),
        (
            _SOFTMAX,
            "(scores / q.shape[-1] ** 0.5).softmax(dim=-1)",
            "the scores are divided by D, or twice by its root",
        ),
        ("/ q.shape[-1] ** 0.5", "* q.shape[-1] ** 0.5", "multiplied by the root of D"),
        ("q.shape[-1] ** 0.5", "k.shape[-2] ** 0.5", "the root of the number of keys"),
        ("q.shape[-1] ** 0.5", "q.shape[-2] ** 0.5", "the root of the number of queries"),
        ("q.shape[-1] ** 0.5", "v.shape[-1] ** 0.5", "the root of E, the width of a value"),
        ("q.shape[-1] ** 0.5", "len(q) ** 0.5", "the root of the number of queries"),
        ("q.shape[-1] ** 0.5", "q.shape[1] ** 0.5", "of the number of queries"),
        (
            "q.shape[-1] ** 0.5",
            "q.shape[{2: 1, 3: 2, 4: 1}[q.ndim]] ** 0.5",
            "the scale is read off axis 1",
        ),
        (
            "q.shape[-1] ** 0.5",
            "q.shape[{2: 1, 3: 2, 4: 0}[q.ndim]] ** 0.5",
            "the scale is read off axis 0",
        ),
        ("q.shape[-1] ** 0.5", "k[..., 0].numel() ** 0.5", "the root of the number of keys"),
        ("q.shape[-1] ** 0.5", "7.5**0.5", "expected"),
        (_SOFTMAX, f"{_SOFTMAX} / q.shape[-1] ** 0.5", "expected"),
        (
            "scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5",
            "scores = q @ k.transpose(-1, -2)\n    v = v / q.shape[-1] ** 0.5",
            "divide the scores, before the softmax",
        ),
        ("dim=-1", "dim=-2", "the softmax runs over the queries"),
        ("dim=-1", "dim=0", "the softmax runs over the queries"),
        ("dim=-1", "dim=1", "the softmax runs over the queries"),
        (
            _SOFTMAX,
            "scores.softmax(dim=0 if scores.ndim > 2 else 1)",
            "the softmax runs over axis 0",
        ),
        (
            _SOFTMAX,
            "scores.softmax(dim=2 if scores.ndim == 3 else 1)",
            "the softmax runs over axis 1",
        ),
        (
            _SOFTMAX,
            "scores.flatten(-2).softmax(dim=-1).reshape(scores.shape)",
            "the softmax runs over queries and keys together",
        ),
        (_SOFTMAX, "scores", "the softmax is missing"),
        (_SOFTMAX, "scores / scores.sum(-1, keepdim=True)", "divided by their sum without exp"),
        (_SOFTMAX, "scores.exp()", "exp without its sum"),
        (_SOFTMAX, "scores.exp() / scores.exp().sum()", "over queries and keys together"),
        (_SOFTMAX, "scores.exp() / scores.exp().sum(-1, keepdim=True)", "exp overflows"),
        (".softmax(dim=-1)", ".log_softmax(dim=-1)", "the logarithms of the weights"),
        (_SOFTMAX, "scores.sigmoid()", "the logistic function of the scores"),
        (
            _SOFTMAX,
            "(scores == scores.amax(-1, keepdim=True)).to(scores.dtype)",
            "only the best key is used",
        ),
        ("~mask", "mask", "the mask is turned round"),
        (_MASKED, "", "the mask is not used"),
        (_FILLED, "scores", "the mask is not used"),
        ("        scores = scores.masked_fill", "        scores.masked_fill", "not used"),
        (
            _MASKED + _WEIGHTS,
            _WEIGHTS + "    if mask is not None:\n        weights = weights * mask\n",
            "the mask comes after the softmax",
        ),
        (
            _MASKED + _WEIGHTS,
            _WEIGHTS
            + "    if mask is not None:\n        weights = weights.masked_fill(~mask, 0)\n",
            "the mask comes after the softmax",
        ),
        (_FILLED, "scores * mask", "masked scores are set to 0"),
        ('float("-inf")', "0.0", "masked scores are set to 0"),
        ('float("-inf")', "1e-9", "masked scores are set to 0"),
        *(('float("-inf")', fill, "hidden tokens keep a weight") for fill in _FILLS),
        (_FILLED, "scores - 100 * ~mask", "hidden tokens keep a weight"),
        (_FILLED, "scores.where(mask, scores.detach().min() - 5)", "hidden tokens keep a weight"),
        (
            _MASKED + _WEIGHTS,
            _WEIGHTS
            + """    if mask is not None:
        weights = weights * mask
        weights = weights / weights.sum(-1, keepdim=True)
""",
            "it contains nan where a hidden key has the largest score",
        ),
        (
            _MASKED + _WEIGHTS,
            _WEIGHTS
            + """    if mask is not None:
        weights = weights * mask
        weights = weights / (weights.sum(-1, keepdim=True) + 1e-12)
""",
            "a row of weights is all 0 where a hidden key has the largest score",
        ),
        (
            _MASKED + _WEIGHTS,
            """    if mask is not None:
        scores = scores - scores.amax(-1, keepdim=True)
        weights = scores.exp().where(mask, 0)
        weights = weights / weights.sum(-1, keepdim=True)
    else:
        weights = scores.softmax(-1)
""",
            "it contains nan where a hidden key has the largest score",
        ),
        (
            _MASKED + _WEIGHTS,
            """    if mask is not None:
        weights = scores.exp() * mask
        weights = weights / weights.sum(-1, keepdim=True)
    else:
        weights = scores.softmax(-1)
""",
            "it contains nan where a hidden key has the largest score",
        ),
        (
            _SOFTMAX,
            """scores.exp()
    if scores.dtype == torch.float64:
        weights = scores.softmax(-1)
    weights = weights / weights.sum(-1, keepdim=True)""",
            "exp overflows",
        ),
        (_SOFTMAX, "scores.clamp(-80, 80).softmax(dim=-1)", "expected"),
        ("= q @ k", "= q.view(-1, *q.shape[-2:]).view(q.shape) @ k", "Use .reshape(...) instead"),
        (
            "q @ k.transpose(-1, -2)",
            "torch.einsum({2: 'nd,md->nm', 3: 'bnd,bmd->bnm', 4: 'bhnd,bhmd->bhnm'}[q.ndim], q, k)",
            "it raises KeyError: 5",
        ),
        (
            "scores.masked_fill(~mask",
            "scores.masked_fill(~(mask[:, None] if mask.ndim == 3 and q.ndim == 4 else mask)",
            "mask[:, None] moves its first axis",
        ),
        (_SOFTMAX, f"{_SOFTMAX} * (mask is None or not mask.all())", "expected"),
        (
            _BOTH,
            "return weights @ v, weights.detach()",
            "through the weights that are returned, no gradient reaches q or k",
        ),
        (
            ".softmax(dim=-1)",
            ".softmax(dim=-1, dtype=torch.float32).to(q.dtype)",
            "it is computed in float32 on the way",
        ),
        ('float("-inf")', 'float("inf")', "set scores to -inf where the mask is False"),
        (_FILLED, "scores + mask", "True is added as 1"),
        (_FILLED, "scores - mask.to(scores.dtype) * 1e9", "the mask is turned round"),
        ("~mask", "~mask.transpose(-2, -1)", "the mask is transposed"),
        ("if mask is not None:", "if mask:", "a mask is many numbers: ask `if mask is not None`"),
        ("~mask", "~mask[:1]", "all queries get the first row of the mask"),
        ("weights @ v, weights", "weights @ k, weights", "the keys are averaged"),
        ("weights @ v, weights", "weights @ q, weights", "the queries are averaged"),
        ("    scores = q", "    k, v = v, k\n    scores = q", "k and v are swapped"),
        ("q @ k.transpose", "q @ v.transpose", "the scores are of queries and values"),
        ("q @ k.transpose", "k @ q.transpose", "queries and keys are swapped, or the weights"),
        (
            "weights @ v, weights",
            "weights.mT @ v, weights",
            "queries and keys are swapped, or the weights transposed",
        ),
        ("weights @ v, weights", "scores @ v, weights", "averaged with the scores themselves"),
        ("weights @ v, weights", "v, weights", "the values are returned as they came"),
        ("k.transpose(-1, -2)", "k.T", "k.T turns round all axes"),
        ("k.transpose(-1, -2)", "k.transpose(0, 1)", "k.transpose(0, 1) swaps"),
        ("k.transpose(-1, -2)", "k.transpose(1, 2)", "one axis of batch only"),
        ("k.transpose(-1, -2)", "k", "k is not transposed"),
        (_BOTH, "return weights, weights @ v", "returned in the other order"),
        (_BOTH, "return weights @ v", "it returns one tensor: return both"),
        (_BOTH, "return weights", "it returns one tensor: return both"),
        (_BOTH, "weights @ v", "None: is the return missing?"),
        (_BOTH, "return weights @ v, weights, scores", "got 3 things"),
        (_BOTH, "return {'out': weights @ v}", "expected two tensors, out and weights, got dict"),
        (_BOTH, "return weights @ v, weights.mT", "the weights are returned transposed"),
        (_BOTH, "return weights @ v, scores", "the scores are returned in place of the weights"),
        (_BOTH, "return (weights @ v,) * 2", "the values taken are returned twice"),
        (_BOTH, "return weights @ v, None", "expected a torch tensor"),
        ("scores.softmax", "scores.detach().softmax", "no gradient reaches q or k"),
        (_BOTH, "return weights @ v.detach(), weights", "no gradient reaches v"),
        (
            "q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5",
            "q.div_(q.shape[-1] ** 0.5) @ k.transpose(-1, -2)",
            "it changes its input in place",
        ),
        ("~mask", "mask.logical_not_()", "it changes its input in place"),
        (_BOTH, "return (weights @ v).float(), weights", "expected dtype torch.float64"),
        (
            _BOTH,
            "return torch.nn.functional.scaled_dot_product_attention(q, k, v, mask), weights",
            "it calls scaled_dot_product_attention",
        ),
        (
            _BOTH,
            """from torch.nn.attention import SDPBackend, sdpa_kernel
    with sdpa_kernel(SDPBackend.MATH):
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v, mask)
    return out, weights""",
            "it calls scaled_dot_product_attention",
        ),
        (_BOTH, "return weights[:1] @ v, weights", "expected"),
    ],
    "attend_in_heads": [
        (_FIRST, _BY_VIEW, "heads and tokens are mixed"),
        (
            f"{_FIRST}\n\n    out = {_ATTEND}  # (B, heads, N, d)\n    return {_SECOND}",
            f"{_BY_VIEW}\n\n    return {_ATTEND}.reshape(q.shape)",
            "heads and tokens are mixed, both ways",
        ),
        (_FIRST, _DEALT, "the heads are interleaved"),
        (
            f"{_FIRST}\n\n    out = {_ATTEND}  # (B, heads, N, d)\n    return {_SECOND}",
            f"{_DEALT}\n\n    return {_ATTEND}.permute(0, 2, 3, 1).flatten(2)",
            "the heads are interleaved, both ways",
        ),
        (_SECOND, "out.reshape(q.shape)", "the axes are not swapped back"),
        (_SECOND, "out.permute(0, 2, 3, 1).reshape(q.shape)", "the heads are joined interleaved"),
        (_SECOND, "torch.stack(list(out.unbind(1)), -1).flatten(2)", "joined interleaved"),
        (_SECOND, "out.transpose(2, 3).reshape(q.shape)", "the wrong axes are swapped back"),
        (_SECOND, "out.mean(1)", "the heads are averaged"),
        (_SECOND, "out.mean(1).repeat(1, 1, heads)", "the heads are averaged, and the mean"),
        (_SECOND, "out.sum(1)", "the heads are added up"),
        (_SECOND, "torch.cat(list(out.unbind(1)), dim=1)", "one below the other"),
        (_SECOND, "torch.cat(list(out), dim=-1)", "expected"),
        (_SECOND, "out", "the heads are not joined"),
        (_SECOND, "out.transpose(1, 2)", "but the heads not joined"),
        (
            _SECOND,
            "out.flip(1).transpose(1, 2).reshape(q.shape)",
            "the heads are in the wrong order",
        ),
        (_SECOND, "out[:, 0].repeat(1, 1, heads)", "the answer of the first head stands for all"),
        (_ATTEND, "split(attend(q, k, v))", "the heads are ignored"),
        (
            f"{_FIRST}\n\n    out = {_ATTEND}  # (B, heads, N, d)\n    return {_SECOND}",
            f"x.unflatten(-1, (heads, -1))\n\n    return {_ATTEND}.flatten(2)",
            "tokens attend to nobody, heads to each other",
        ),
        ("heads, -1).trans", "-1, heads).trans", "`heads` is taken for the width of a head"),
        (
            f"{_FIRST}\n\n    out = {_ATTEND}  # (B, heads, N, d)\n    return {_SECOND}",
            (
                "x.unflatten(-1, (heads, -1)).permute(2, 0, 1, 3).flatten(0, 1)\n\n"
                f"    out = {_ATTEND}.unflatten(0, (-1, heads))\n    return {_SECOND}"
            ),
            "batch and heads are mixed up",
        ),
        ("split(k), split(v)", "split(v), split(k)", "k and v are swapped"),
        (
            "split(k), split(v)",
            "split(k)[:, :1].expand(-1, heads, -1, -1), split(v)[:, :1].expand(-1, heads, -1, -1)",
            "all heads look at the keys and values of the first",
        ),
        ("split(q), split(k)", "split(k), split(q)", "q and k are swapped"),
        (_ATTEND, "attend(split(q), split(q), split(q))", "q is used for keys and values, too"),
        (_ATTEND, f"{_ATTEND} / heads**0.5", "expected"),
        (
            _ATTEND,
            "torch.nn.functional.scaled_dot_product_attention(split(q), split(k), split(v))",
            "it does not use `attend`",
        ),
        (f"return {_SECOND}", f"return {_SECOND}.detach()", "no gradient reaches q or k or v"),
        ("split(v))", "split(v.detach()))", "no gradient reaches v"),
        (f"return {_SECOND}", _SECOND, "None: is the return missing?"),
        (f"return {_SECOND}", "q[:] = 0\n    return 0 * q", "expected"),
        (f"return {_SECOND}", f"return q.copy_({_SECOND})", "it changes its input in place"),
        (f"return {_SECOND}", f"return {_SECOND}.float()", "expected dtype torch.float64"),
        (
            f"return {_SECOND}",
            f"return {_SECOND} if q.shape[1] > 1 else v.mean(1, keepdim=True)",
            "expected",
        ),
        (
            f"return {_SECOND}",
            f"return {_SECOND} if k.shape[1] > 1 else 0 * q",
            "expected",
        ),
        (
            f"{_ATTEND}  # (B, heads, N, d)",
            "attend(split(q).flip(2), split(k), split(v)).flip(2)",
            "the queries go to `attend` in turned order",
        ),
        ("split(k), split(v)", "split(k).flip(2), split(v).flip(2)", "keys and values go to"),
        (
            _ATTEND,
            "attend(*(split(x).transpose(0, 1) for x in (q, k, v))).transpose(0, 1)",
            "the batch, ",
        ),
        (
            "x.reshape(x.shape[0], x.shape[1], heads",
            "x.reshape(x.shape[0], q.shape[1], heads",
            "k and v may have another number of tokens than q",
        ),
        (
            _FIRST,
            "x.view(*q.shape[:2], heads, q.shape[2] // heads).transpose(1, 2)",
            "k and v may have another number of tokens than q",
        ),
    ],
    "cross_attention": [
        ("layer.to_q(x)", "layer.to_q(context)", "the queries are made of the context"),
        ("layer.to_k(context)", "layer.to_k(x)", "the keys are made of x"),
        ("layer.to_v(context)", "layer.to_v(x)", "the values are made of x"),
        (_PROJECTED, _PROJECTED.replace("context", "x"), "the context is ignored"),
        (
            _PROJECTED,
            "layer.to_q(context), layer.to_k(x), layer.to_v(x)",
            "x and context are swapped",
        ),
        (_PROJECTED, "layer.to_q(x), layer.to_v(context), layer.to_k(context)", "are swapped"),
        ("layer.to_v(", "layer.to_k(", "to_k makes the values, too"),
        ("layer.to_k(", "layer.to_v(", "to_v makes the keys, too"),
        ("layer.to_k(", "layer.to_q(", "to_q makes the keys, too"),
        (_PROJECTED, "x, context, context", "the projections are forgotten"),
        (_PROJECTED, "x, layer.to_k(context), layer.to_v(context)", "to_q is forgotten"),
        (_PROJECTED, "layer.to_q(x), context, layer.to_v(context)", "to_k is forgotten"),
        (_PROJECTED, "layer.to_q(x), layer.to_k(context), context", "to_v is forgotten"),
        (_OUT, _HEADS, "to_out is forgotten"),
        (_OUT, f"{_HEADS} @ layer.to_out[0].weight.T", "the bias of to_out is forgotten"),
        (f"return {_OUT}", f"return x + {_OUT}", "the input is added"),
        (
            _OUT,
            f"layer.to_out[0](x + {_HEADS})",
            "the input is added before to_out",
        ),
        (
            _HEADS,
            (
                "attend_in_heads(q, k, v, layer.heads, lambda q_, k_, v_: "
                "(q_ @ k_.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-1) @ v_)"
            ),
            "the scale is the root of the whole width",
        ),
        (
            _HEADS,
            (
                "attend_in_heads(q, k, v, layer.heads, lambda q_, k_, v_: "
                "(q_ @ k_.transpose(-2, -1) / x.shape[-1] ** 0.5).softmax(-1) @ v_)"
            ),
            "the scale is the root of the whole width",
        ),
        (*_attending(f"({_SCORES}).softmax(-1) @ v"), "the scores are not scaled"),
        (
            *_attending(f"({_SCORES} / q.shape[-1]).softmax(-1) @ v"),
            "the scores are divided by a head's width",
        ),
        (
            *_attending(f"({_SCORES} / q.shape[-1] ** 0.5).softmax(-2) @ v"),
            "the softmax runs over the queries",
        ),
        (*_attending(f"({_SCORES} / q.shape[-1] ** 0.5) @ v"), "the softmax is missing"),
        (_HEADS, "attend(q, k, v)", "the heads are not split"),
        ("layer.heads, attend", "1, attend", "the heads are not split"),
        ("layer.heads", "q.shape[-1] // layer.heads", "`heads` is taken for the width of a head"),
        (
            _HEADS,
            (
                "attend(*(a.reshape(len(a), layer.heads, a.shape[1], -1) for a in (q, k, v)))"
                ".transpose(1, 2).flatten(2)"
            ),
            "heads and tokens are mixed",
        ),
        (
            _HEADS,
            (
                "attend(*(a.unflatten(-1, (layer.heads, -1)).transpose(1, 2) for a in (q, k, v)))"
                ".reshape(q.shape)"
            ),
            "the axes are not swapped back",
        ),
        (
            _HEADS,
            (
                "attend(*(a.unflatten(-1, (-1, layer.heads)).permute(0, 3, 1, 2)"
                " for a in (q, k, v))).permute(0, 2, 3, 1).flatten(2)"
            ),
            "the heads are interleaved, both ways",
        ),
        (
            _HEADS,
            (
                "attend_in_heads(q, k, v, layer.heads, attend).unflatten(-1, (layer.heads, -1))"
                ".mean(2).repeat(1, 1, layer.heads)"
            ),
            "the heads are averaged",
        ),
        ("layer.to_out[0](", "layer.to_out(", "to_out is a list of layers"),
        (f"return {_OUT}", f"return layer({_HEADS}, context)", "call the layers inside"),
        (_FUSED, "(lambda q, k, v: (v, q))", "dot_product_attention returns two things"),
        (
            f"return {_OUT}",
            f"return layer.to_out[0]((q, {_HEADS}))",
            "dot_product_attention returns two things",
        ),
        (f"return {_OUT}", f"return {_OUT}.detach()", "no gradient reaches x or context"),
        ("layer.to_v(context)", "layer.to_v(context.detach()).detach()", "the gradient by context"),
        (f"return {_OUT}", _OUT, "None: is the return missing?"),
        (
            f"return {_OUT}",
            f"out = {_OUT}\n    layer.to_q.weight.data.zero_()\n    return out",
            "it changes the weights of a layer",
        ),
        (
            f"return {_OUT}",
            f"out = {_OUT}\n    layer.heads = 1\n    return out",
            "it changes layer.heads: only read it",
        ),
        (
            f"return {_OUT}",
            f"out = {_OUT}\n    layer.to_q.requires_grad_(False)\n    return out",
            "it sets requires_grad of the weights to False",
        ),
        *(
            (
                f"layer.{part}(",
                f"(lambda y: y @ layer.{part}.weight.detach().T)(",
                f"no gradient reaches {part}.weight",
            )
            for part in ("to_q", "to_k", "to_v")
        ),
        (
            "layer.to_out[0](",
            "(lambda y: y @ layer.to_out[0].weight.data.T + layer.to_out[0].bias)(",
            "no gradient reaches to_out.0.weight",
        ),
        (
            f"return {_OUT}",
            f"return {_OUT} if x.shape[1] > 1 else 0 * x",
            "expected",
        ),
        (f"return {_OUT}", f"return {_OUT} if len(x) < 4 else 0 * x", "expected"),
        (
            f"    attend = {_FUSED}\n",
            f"    q, k, v = (a.clamp(-30, 30) for a in (q, k, v))\n    attend = {_FUSED}\n",
            "expected",
        ),
        (
            _FUSED,
            f"""lambda q, k, v: raised(q, k) / raised(q, k).sum(-1, keepdim=True) @ v
    raised = lambda q, k: ({_SCORES} / q.shape[-1] ** 0.5).exp()""",
            "exp overflows",
        ),
        (
            *_attending(f"({_SCORES} / q.shape[-1] ** 0.5).float().softmax(-1).to(q.dtype) @ v"),
            "it is computed in float32 on the way",
        ),
        (f"return {_OUT}", f"return x.copy_({_OUT})", "it changes its input in place"),
        (f"return {_OUT}", f"return {_OUT}[:, :1].expand_as(x)", "expected"),
    ],
    "referee_softmax": [
        ("    return True", "    return False", "it rejects the right formula"),
        ("                return False", "                pass", "it accepts a formula with"),
        (" / d**0.5", "", "it rejects the right formula"),
        ("d**0.5", "d", "it rejects the right formula"),
        ("d**0.5", "M**0.5", "it rejects the right formula"),
        ("dim=1", "dim=0", "it rejects the right formula"),
        (_CLOSE, "torch.equal(got, want)", "it rejects the right formula"),
        (_SIZES, "((3, 5, 4), (4, 2, 4))", "a scale that is right for d = 4 only"),
        (_SIZES, "((3, 5, 4), (4, 2, 9), (3, 2, 1))", "a scale that is right for squares only"),
        (_SIZES, "((5, 5, 5),)", "it accepts a formula with"),
        (_SIZES, "((3, 5, 5), (4, 6, 2))", "an error where there are more queries than keys"),
        (_SIZES, "((6, 5, 3), (4, 2, 6))", "an error where there are more keys than queries"),
        (_SIZES, "((3, 5, 3), (4, 2, 7))", "an error in even widths only"),
        (_SIZES, "((3, 5, 2), (4, 2, 6))", "an error in odd widths only"),
        (_SIZES, "((1, 5, 2), (1, 2, 7))", "it accepts a formula with"),
        ("(1.0, 6.0)", "(0.3,)", "scores that stop at 4"),
        (_CLOSE, "torch.allclose(got.sum(1), want.sum(1))", "it accepts a formula with line 397"),
        (_CLOSE, "torch.allclose(got.sum(0), want.sum(0))", "it accepts a formula with the rows"),
        (_CLOSE, "torch.allclose(got[0], want[0])", "it accepts a formula with"),
        (
            _CLOSE,
            "torch.allclose(got[:, 0], want[:, 0])",
            "the weights of the last two keys of three or more",
        ),
        (_CLOSE, "torch.allclose(got[:, :-2], want[:, :-2])", "it accepts a formula with"),
        (
            _CLOSE,
            "torch.allclose(got.sort(1)[0], want.sort(1)[0])",
            "the right weights in the wrong order of keys",
        ),
        (
            _CLOSE,
            "torch.equal(got.argmax(1), want.argmax(1))",
            "it accepts a formula with line 397",
        ),
        (_CLOSE, "bool((got >= want - 1e-6).all())", "it accepts a formula with"),
        (_CLOSE, "bool((got <= want + 1e-6).all())", "it accepts a formula with"),
        (_CLOSE, "torch.allclose(got, want, rtol=0.02, atol=0.02)", "a scale 1 % too large"),
        (_CLOSE, "bool((got - want).mean().abs() < 1e-6)", "it accepts a formula with line 397"),
        (_CLOSE, "torch.allclose(got[-1], want[-1])", "it accepts a formula with"),
        (_CLOSE, "torch.allclose(got[:, -1], want[:, -1])", "the weights of the first two keys"),
        (
            _CLOSE,
            "torch.allclose(got[:, [0, -1]], want[:, [0, -1]])",
            "half the weights for all keys but the first and the last",
        ),
        (_CLOSE, "torch.allclose(got[-1, -1], want[-1, -1])", "it accepts a formula with"),
        (_CLOSE, "torch.allclose(got[:2], want[:2])", "no scale from the third query on"),
        (
            _CLOSE,
            "torch.allclose(got[[0, -1]], want[[0, -1]])",
            "no scale for queries between the first and the last",
        ),
        (
            _CLOSE,
            "(torch.allclose(got[-1], want[-1]) and torch.allclose(got[0], want[0]))",
            "no scale for queries between the first and the last",
        ),
        (
            _CLOSE,
            """all(
                torch.allclose(f(got), f(want))
                for f in (lambda w: w.amax(1), lambda w: w.argmax(1), lambda w: w.sum(1))
            )""",
            "the two least weights of three or more swapped",
        ),
        (_CLOSE, "torch.allclose(got[want > 0.5], want[want > 0.5])", "it accepts a formula with"),
        (_CLOSE, "bool((got - want).abs().mean() < 1e-3)", "compare more digits"),
        (_CLOSE, "torch.allclose(got, want, atol=2e-3)", "weights 0.1 % too large"),
        (
            "            want = ",
            "            Q, K = Q.abs(), K.abs()\n            want = ",
            "try numbers of both signs",
        ),
        (_SIZES, "((3, 5, 2), (3, 5, 3), (3, 5, 7))", "try once N < M and once N > M"),
        (_SIZES, "((3, 5, 2), (4, 2, 6))", "try odd and even widths d"),
        ("return True", "return 1", "expected True or False"),
        ("return True", "pass", "None"),
    ],
}

ALTERNATIVES = {
    "dot_product_attention": [
        """
def dot_product_attention(q, k, v, mask=None):
    scores = torch.einsum("...nd,...md->...nm", q * q.size(-1) ** -0.5, k)
    if mask is not None:
        scores = torch.where(mask, scores, torch.full_like(scores, -torch.inf))
    raised = (scores - scores.max(-1, keepdim=True).values).exp()
    weights = raised / raised.sum(-1, keepdim=True)
    return torch.einsum("...nm,...me->...ne", weights, v), weights
""",
        """
def dot_product_attention(q, k, v, mask=None):
    # Query by query, key by key.
    if q.ndim > 2:
        masks = [None] * len(q)
        if mask is not None:
            masks = mask.expand(*q.shape[:-1], k.shape[-2])
        parts = [dot_product_attention(*one) for one in zip(q, k, v, masks)]
        return [torch.stack(part) for part in zip(*parts)]
    if mask is not None:
        mask = mask.expand(len(q), len(k))
    out, weights = [], []
    for i, query in enumerate(q):
        looked = [j for j in range(len(k)) if mask is None or mask[i, j]]
        scores = {j: query @ k[j] / math.sqrt(len(query)) for j in looked}
        e = {j: torch.exp(score - max(scores.values())) for j, score in scores.items()}
        total = sum(e.values())
        row = torch.stack([e[j] / total if j in e else 0 * total for j in range(len(k))])
        out.append(sum(w * value for w, value in zip(row, v)))
        weights.append(row)
    return torch.stack(out), torch.stack(weights)
""",
    ],
    "attend_in_heads": [
        """
def attend_in_heads(q, k, v, heads, attend):
    # Head by head, side by side.
    parts = zip(q.chunk(heads, -1), k.chunk(heads, -1), v.chunk(heads, -1))
    return torch.cat([attend(*part) for part in parts], dim=-1)
""",
        """
def attend_in_heads(q, k, v, heads, attend):
    from einops import rearrange

    # The heads go into the batch.
    q, k, v = (rearrange(x, "b n (h d) -> (b h) n d", h=heads) for x in (q, k, v))
    return rearrange(attend(q, k, v), "(b h) n d -> b n (h d)", h=heads)
""",
    ],
    "cross_attention": [
        """
def cross_attention(x, context, layer):
    b, n, _ = x.shape
    q, k, v = layer.to_q(x), layer.to_k(context), layer.to_v(context)
    d = q.shape[-1] // layer.heads
    q, k, v = (a.view(b, -1, layer.heads, d) for a in (q, k, v))
    scores = torch.einsum("bnhd,bmhd->bhnm", q, k) / math.sqrt(d)
    out = torch.einsum("bhnm,bmhd->bnhd", scores.softmax(-1), v)
    return layer.to_out[0](out.reshape(b, n, -1))
""",
        """
def cross_attention(x, context, layer):
    # Head by head, with the rows of the weights that belong to it; to_out as a sum over heads.
    width = layer.to_q.weight.shape[0] // layer.heads
    out = layer.to_out[0].bias
    for h in range(layer.heads):
        own = slice(h * width, (h + 1) * width)
        q = x @ layer.to_q.weight[own].T
        k = context @ layer.to_k.weight[own].T
        v = context @ layer.to_v.weight[own].T
        weights = torch.softmax(q @ k.mT * width**-0.5, dim=-1)
        out = out + weights @ v @ layer.to_out[0].weight[:, own].T
    return out
""",
    ],
    "referee_softmax": [
        """
def referee_softmax(formula):
    # By properties: rows sum to 1, and logs of two weights differ by the difference of scores.
    draw = torch.Generator().manual_seed(3)
    for n, m, d in ((2, 6, 5), (7, 3, 6), (4, 5, 1), (3, 9, 12)):
        for size in (0.5, 8):
            q = size * torch.randn(n, d, generator=draw, dtype=torch.float64)
            k = torch.randn(m, d, generator=draw, dtype=torch.float64)
            weights = formula(q, k)
            if weights.shape != (n, m) or abs(weights.sum(1) - 1).max() > 1e-6:
                return False
            logs = weights.clamp(min=1e-300).log()
            for i in range(n):
                for j in range(m):
                    want = q[i] @ (k[j] - k[0]) / d**0.5
                    if abs(logs[i, j] - logs[i, 0] - want) > 1e-5 * max(1, abs(want)):
                        return False
    return True
""",
        """
def referee_softmax(formula):
    import random

    random.seed(4)
    for _ in range(30):
        n, m, d = random.randint(1, 9), random.randint(1, 9), random.randint(1, 9)
        q = torch.randn(n, d) * random.choice([1, 10])
        k = torch.randn(m, d)
        # Torch's own attention gives the weights where the values are one-hot.
        want = torch.nn.functional.scaled_dot_product_attention(q, k, torch.eye(m))
        got = formula(q, k)
        if want.shape != got.shape or (got - want).abs().max() > 1e-4:
            return False
    return True
""",
    ],
}
