"""Attention, and the transformer that a U-Net puts behind its residual blocks.

Names and tensors are those of Stable Diffusion 1.5 in diffusers. A mask is True where a token may
be looked at.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from einops import rearrange
from jaxtyping import Bool, Float
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

    Source: Vaswani et al. 2017, equation 1; lecture 000, equation 17, without the temperature that
    line 397 prints: it would cancel the scaling.
    """
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    probabilities = scores.softmax(dim=-1)
    return probabilities @ v, probabilities


class ConstantContext:
    """Context tokens for many calls: each layer computes its keys and values in the first one only.

    Made for sampling, where the text stays the same at all steps. It must not outlive a change of
    the weights, and takes no gradient.

    Attributes:
        tokens: `(B, M, D)`.
    """

    def __init__(self, tokens: Tokens):
        self.tokens = tokens
        self._kept: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def keys_values(self, layer: "Attention") -> tuple[Heads, Heads]:
        """Those of one layer."""
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

    Source: Vaswani et al. 2017, section 3.2.2; lecture 000, equation 18, which has one head and no
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
        context: Tokens | ConstantContext | None = None,
        mask: Mask | None = None,
    ) -> Float[Tensor, "B N C"]:
        """What each token takes from those that it may look at.

        Args:
            x: tokens that ask.
            context: tokens to look at, for a layer that was made with `cross_attention_dim`.
            mask: True where a token may be looked at: of shape (B, M), or (B, N, M) to tell the
                tokens that ask apart.

        Raises:
            ValueError: shapes or dtypes are not as above, or some token may look at none.
        """
        self._check(x, context)
        q = self._split(self.to_q(x))
        if isinstance(context, ConstantContext):
            k, v = context.keys_values(self)
        else:
            k, v = self.keys_values(context if self.is_cross else x)
        if mask is not None:
            mask = _for_heads(mask, q, k)
        if self.record is None:
            out = F.scaled_dot_product_attention(q, k, v, mask)
        else:
            out, probabilities = attention(q, k, v, mask)
            self.record(probabilities)
        return self.to_out[0](rearrange(out, "b heads n d -> b n (heads d)"))

    def keys_values(self, tokens: Tokens) -> tuple[Heads, Heads]:
        """Keys and values of tokens, `(B, heads, M, dim_head)` each."""
        return self._split(self.to_k(tokens)), self._split(self.to_v(tokens))

    def _split(self, x: Float[Tensor, "B N _"]) -> Heads:
        return rearrange(x, "b n (heads d) -> b heads n d", heads=self.heads)

    def _check(self, x: Tensor, context: Tensor | ConstantContext | None) -> None:
        given = {"x": (x, self.to_q.in_features)}
        if self.is_cross:
            tokens = context.tokens if isinstance(context, ConstantContext) else context
            given["context"] = (tokens, self.to_k.in_features)
        elif context is not None:
            raise ValueError("context: expected None, for this layer attends to its own tokens")
        for name, (tokens, width) in given.items():
            if not isinstance(tokens, Tensor) or tokens.ndim != 3 or tokens.shape[-1] != width:
                came = tuple(tokens.shape) if isinstance(tokens, Tensor) else tokens
                raise ValueError(f"{name}: expected tokens of shape (B, N, {width}), came {came}")
        if self.is_cross and given["context"][0].shape[0] != len(x):
            raise ValueError(
                f"context: expected {len(x)} in the batch, as x, came {len(given['context'][0])}"
            )


class GEGLU(nn.Module):
    """One linear layer gives values and gates; each value is multiplied with GELU of its gate.

    Source: Shazeer 2020, "GLU variants improve transformer", equation 6.
    """

    def __init__(self, dim_in: int, dim_out: int):
        super().__init__()
        self.proj = nn.Linear(dim_in, 2 * dim_out)

    def forward(self, x: Float[Tensor, "*batch C"]) -> Float[Tensor, "*batch E"]:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """To four times the width and back, each token by itself."""

    def __init__(self, dim: int):
        super().__init__()
        # The place in the middle is that of the dropout in diffusers: it keeps the names equal.
        self.net = nn.Sequential(GEGLU(dim, 4 * dim), nn.Identity(), nn.Linear(4 * dim, dim))

    def forward(self, x: Float[Tensor, "B N C"]) -> Float[Tensor, "B N C"]:
        return self.net(x)


class BasicTransformerBlock(nn.Module):
    """Attention to each other, attention to the context, feed-forward; each normalised and added.

    Source: lecture 002, "Spatial transformer"; lecture 000, equations 16-19, where no input is
    added and the feed-forward is missing.
    """

    def __init__(self, dim: int, heads: int, dim_head: int, cross_attention_dim: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn1 = Attention(dim, None, heads, dim_head)
        self.norm2 = nn.LayerNorm(dim)
        self.attn2 = Attention(dim, cross_attention_dim, heads, dim_head)
        self.norm3 = nn.LayerNorm(dim)
        self.ff = FeedForward(dim)

    def forward(
        self,
        x: Float[Tensor, "B N C"],
        context: Tokens | ConstantContext,
        mask: Mask | None = None,
    ) -> Float[Tensor, "B N C"]:
        """Tokens after one round; `mask` says which tokens of the context may be looked at."""
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), context, mask)
        return x + self.ff(self.norm3(x))


class Transformer2DModel(nn.Module):
    """Pixels become tokens, look at each other and at the context, and become pixels again.

    Args:
        channels: of the picture; `heads` divides it.
        heads: of every attention.
        cross_attention_dim: width of the tokens of the context.
        layers: blocks, one after the other.
        groups: of the normalisation at the start.

    Raises:
        ValueError: `heads` or `groups` does not divide `channels`.

    Source: Rombach et al. 2022, section 3.3 and appendix E.2.1, "spatial transformer".
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        cross_attention_dim: int,
        layers: int = 1,
        groups: int = 32,
    ):
        super().__init__()
        for name, parts in (("heads", heads), ("groups", groups)):
            if parts < 1 or channels % parts:
                raise ValueError(f"{name}: expected a divisor of {channels} channels, came {parts}")
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = nn.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList(
            BasicTransformerBlock(channels, heads, channels // heads, cross_attention_dim)
            for _ in range(layers)
        )
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(
        self,
        x: Float[Tensor, "B C H W"],
        context: Tokens | ConstantContext,
        mask: Mask | None = None,
    ) -> Float[Tensor, "B C H W"]:
        """The picture, changed by what its pixels have seen."""
        height = x.shape[2]
        tokens = rearrange(self.proj_in(self.norm(x)), "b c h w -> b (h w) c")
        for block in self.transformer_blocks:
            tokens = block(tokens, context, mask)
        return x + self.proj_out(rearrange(tokens, "b (h w) c -> b c h w", h=height))


@contextmanager
def record_attention(model: nn.Module) -> Iterator[dict[str, list[Tensor]]]:
    """While open, collect what every attention layer of `model` looks at.

    Yields:
        by the name of the layer, the probabilities `(B, heads, N, M)` of each of its calls.
    """
    maps: dict[str, list[Tensor]] = {}

    def keep(name: str) -> Callable[[Tensor], None]:
        return lambda p: maps.setdefault(name, []).append(p.detach())

    layers = {n: layer for n, layer in model.named_modules() if isinstance(layer, Attention)}
    before = {name: layer.record for name, layer in layers.items()}
    for name, layer in layers.items():
        layer.record = keep(name)
    try:
        yield maps
    finally:
        for name, layer in layers.items():
            layer.record = before[name]


def _for_heads(mask: Tensor, q: Tensor, k: Tensor) -> Tensor:
    """A mask that is the same for all heads, `(B, 1, 1 or N, M)`."""
    batch, _, n, _ = q.shape
    m = k.shape[2]
    if mask.dtype != torch.bool or mask.shape not in ((batch, m), (batch, n, m)):
        raise ValueError(
            f"mask: expected bool of shape ({batch}, {m}) or ({batch}, {n}, {m}), "
            f"came {mask.dtype} {tuple(mask.shape)}"
        )
    if mask.device.type != "meta" and not mask.any(-1).all():
        raise ValueError("mask: expected at least one True for each token, came a row without any")
    return mask[:, None, None] if mask.ndim == 2 else mask[:, None]
