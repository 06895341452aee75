"""Attention, of tokens to each other and to those of a context.

Names and tensors are those of Stable Diffusion 1.5 in diffusers. A mask is True where a token may
be looked at.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

Tokens = Float[Tensor, "B M D"]
Heads = Float[Tensor, "B heads _ head_dim"]
Mask = Bool[Tensor, "B M"] | Bool[Tensor, "B N M"]


def attention(
    q: Float[Tensor, "*batch N D"],
    k: Float[Tensor, "*batch M D"],
    v: Float[Tensor, "*batch M E"],
    mask: Bool[Tensor, "*#batch #N M"] | None = None,
) -> tuple[Float[Tensor, "*batch N E"], Float[Tensor, "*batch N M"]]:
    """softmax(q k^T / sqrt(D)) v, and the softmax: how much each query takes of each value.

    `torch.nn.functional.scaled_dot_product_attention` written out; it keeps N x M numbers, the
    fused function does not.

    Source: Vaswani et al. 2017, equation 1; lecture 000, line 425. (The temperature that line 397
    prints besides would cancel the scaling.)
    """
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    probabilities = scores.softmax(dim=-1)
    return probabilities @ v, probabilities


class Context:
    """What a U-Net is told besides the time: tokens to look at, and what is added to the time.

    Args:
        tokens: for the transformers.
        mask: True where a token may be looked at; None for everywhere.
        added: for the time embedding: the class of each sample, or one vector of each, as that of
            its whole text.
        constant: promises that the weights stay as they are as long as this object is used, and
            asks for no gradient to the tokens: each layer then computes its keys and values in its
            first call only. Made for sampling, where the text is the same at all steps.

    Raises:
        ValueError: shapes or dtypes are not as above, or a mask hides all tokens of a sample.
    """

    def __init__(
        self,
        tokens: Tokens | None = None,
        mask: Bool[Tensor, "B M"] | None = None,
        added: Int64[Tensor, " B"] | Float[Tensor, "B P"] | None = None,
        constant: bool = False,
    ):
        if tokens is not None:
            _check_tokens("tokens", tokens)
        if mask is not None:
            if tokens is None:
                raise ValueError("mask: expected None without tokens")
            _check_mask(mask, [tuple(tokens.shape[:2])])
        if tokens is not None and added is not None and len(tokens) != len(added):
            raise ValueError(f"added: expected {len(tokens)}, as tokens, came {len(added)}")
        self.tokens, self.mask, self.added, self.constant = tokens, mask, added, constant
        self._kept: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    @staticmethod
    def of(value: "Context | Tensor | None") -> "Context":
        """A tensor with three axes are tokens, any other is added to the time embedding."""
        if isinstance(value, Context):
            return value
        if isinstance(value, Tensor) and value.ndim == 3:
            _check_tokens("context", value)
            return Context(value)
        return Context(added=value)

    @staticmethod
    def batch(*values: "Context | Tensor") -> "Context":
        """Several contexts as one batch, constant.

        Raises:
            ValueError: they are not of one kind and shape.
        """
        contexts = [Context.of(value) for value in values]
        parts = {}
        for name in ("tokens", "mask", "added"):
            found = [getattr(context, name) for context in contexts]
            shapes = [None if part is None else tuple(part.shape[1:]) for part in found]
            if len(set(shapes)) > 1:
                raise ValueError(f"{name}: expected one kind and shape in all, came {shapes}")
            parts[name] = None if found[0] is None else torch.cat(found)
        return Context(**parts, constant=True)

    def keys_values(self, layer: "Attention") -> tuple[Heads, Heads]:
        """Those of one layer."""
        if not self.constant:
            return layer.keys_values(self.tokens)
        if layer not in self._kept:
            with torch.no_grad():
                self._kept[layer] = layer.keys_values(self.tokens)
        return self._kept[layer]


class Attention(nn.Module):
    """Multi-head attention, of tokens to each other or to those of a context.

    Args:
        query_dim: width of the tokens that ask.
        cross_attention_dim: width of the tokens that are looked at; None: they are the same tokens.
        heads: number of heads; each sees all tokens through a projection of its own.
        dim_head: width of each head.
        bias: whether queries, keys and values have one; the output always has.

    Raises:
        ValueError: a size is below 1.

    Source: Vaswani et al. 2017, section 3.2.2; lecture 000, lines 399-410, with one head and no
    bias.
    """

    def __init__(
        self,
        query_dim: int,
        cross_attention_dim: int | None = None,
        heads: int = 8,
        dim_head: int = 64,
        bias: bool = False,
    ):
        super().__init__()
        looked_at = query_dim if cross_attention_dim is None else cross_attention_dim
        sizes = {"query_dim": query_dim, "cross_attention_dim": looked_at}
        for name, size in (sizes | {"heads": heads, "dim_head": dim_head}).items():
            if size < 1:
                raise ValueError(f"{name}: expected at least 1, came {size}")
        self.heads, self.is_cross = heads, cross_attention_dim is not None
        self.to_q = nn.Linear(query_dim, heads * dim_head, bias)
        self.to_k = nn.Linear(looked_at, heads * dim_head, bias)
        self.to_v = nn.Linear(looked_at, heads * dim_head, bias)
        self.to_out = nn.ModuleList([nn.Linear(heads * dim_head, query_dim)])
        self.record: Callable[[Tensor], None] | None = None

    def forward(
        self,
        x: Float[Tensor, "B N C"],
        context: Tokens | Context | None = None,
        mask: Mask | None = None,
    ) -> Float[Tensor, "B N C"]:
        """What each token takes from those that it may look at.

        Args:
            x: tokens that ask.
            context: tokens to look at, for a layer that was made with `cross_attention_dim`.
            mask: True where a token may be looked at: of shape (B, M), or (B, N, M) to tell the
                tokens that ask apart; None for that of the context, if it has one.

        Raises:
            ValueError: shapes or dtypes are not as above, or some token may look at none.
        """
        tokens = context.tokens if isinstance(context, Context) else context
        self._check(x, tokens)
        q = self._split(self.to_q(x))
        if isinstance(context, Context):
            k, v = context.keys_values(self)
        else:
            k, v = self.keys_values(tokens if self.is_cross else x)
        if mask is not None:
            _check_mask(mask, [(len(x), k.shape[2]), (len(x), x.shape[1], k.shape[2])])
        elif isinstance(context, Context):
            mask = context.mask
        if mask is not None:
            # The same for all heads: (B, 1, 1 or N, M).
            mask = mask[:, None, None] if mask.ndim == 2 else mask[:, None]
        if self.record is None:
            out = F.scaled_dot_product_attention(q, k, v, mask)
        else:
            out, probabilities = attention(q, k, v, mask)
            self.record(probabilities)
        return self.to_out[0](out.transpose(1, 2).flatten(2))

    def keys_values(self, tokens: Tokens) -> tuple[Heads, Heads]:
        """Keys and values of tokens, `(B, heads, M, dim_head)` each."""
        return self._split(self.to_k(tokens)), self._split(self.to_v(tokens))

    def _split(self, x: Float[Tensor, "B N _"]) -> Heads:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def _check(self, x: Tensor, tokens: Tensor | None) -> None:
        _check_tokens("x", x, self.to_q.in_features)
        if not self.is_cross:
            if tokens is not None:
                raise ValueError("context: expected None, for this layer attends to its own tokens")
            return
        _check_tokens("context", tokens, self.to_k.in_features)
        if len(tokens) != len(x):
            raise ValueError(f"context: expected {len(x)} in the batch, as x, came {len(tokens)}")


@contextmanager
def record_attention(model: nn.Module) -> Iterator[dict[str, list[Tensor]]]:
    """While open, collect what every attention layer of `model` (each module with `record`) sees.

    Yields:
        by the name of the layer, the probabilities `(B, heads, N, M)` of each of its calls.
    """
    maps: dict[str, list[Tensor]] = {}

    def keep(name: str) -> Callable[[Tensor], None]:
        return lambda p: maps.setdefault(name, []).append(p.detach())

    layers = {n: layer for n, layer in model.named_modules() if hasattr(layer, "record")}
    before = {name: layer.record for name, layer in layers.items()}
    for name, layer in layers.items():
        layer.record = keep(name)
    try:
        yield maps
    finally:
        for name, layer in layers.items():
            layer.record = before[name]


def _check_tokens(name: str, tokens: Tensor | None, width: int | None = None) -> None:
    if (
        not isinstance(tokens, Tensor)
        or tokens.ndim != 3
        or not tokens.is_floating_point()
        or width not in (None, tokens.shape[-1])
    ):
        came = tuple(tokens.shape) if isinstance(tokens, Tensor) else tokens
        wanted = "D" if width is None else width
        raise ValueError(f"{name}: expected tokens of shape (B, N, {wanted}), came {came}")


def _check_mask(mask: Tensor, shapes: list[tuple[int, ...]]) -> None:
    if mask.dtype != torch.bool or tuple(mask.shape) not in shapes:
        raise ValueError(
            f"mask: expected bool of shape {' or '.join(map(str, shapes))}, "
            f"came {mask.dtype} {tuple(mask.shape)}"
        )
    if mask.device.type != "meta" and not mask.any(-1).all():
        raise ValueError("mask: expected at least one True for each token, came a row without any")
