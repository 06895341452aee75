"""The transformer of CLIP's two encoders, tensor for tensor as in transformers."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from course.models.attention import attention


@runtime_checkable
class Sizes(Protocol):
    """What a configuration says of its blocks."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    layer_norm_eps: float


class CLIPEncoder(nn.Module):
    """The blocks, one after the other.

    Args:
        config: a CLIPTextConfig or CLIPVisionConfig.
        causal: whether a token sees only itself and those before it, as in a text.
    """

    def __init__(self, config: Sizes, causal: bool):
        super().__init__()
        self.layers = nn.ModuleList(
            CLIPEncoderLayer(config, causal) for _ in range(config.num_hidden_layers)
        )

    def forward(self, x: Float[Tensor, "B M D"]) -> Float[Tensor, "B M D"]:
        for layer in self.layers:
            x = layer(x)
        return x


class CLIPEncoderLayer(nn.Module):
    """Attention and feed-forward, each of the normalised tokens and added to them."""

    def __init__(self, config: Sizes, causal: bool):
        super().__init__()
        self.self_attn = CLIPAttention(config, causal)
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.mlp = CLIPMLP(config)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)

    def forward(self, x: Float[Tensor, "B M D"]) -> Float[Tensor, "B M D"]:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class CLIPAttention(nn.Module):
    """Multi-head attention of tokens to each other; `record_attention` sees it."""

    def __init__(self, config: Sizes, causal: bool):
        super().__init__()
        self.heads, self.causal = config.num_attention_heads, causal
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.k_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.v_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.out_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.record: Callable[[Tensor], None] | None = None

    def forward(self, x: Float[Tensor, "B M D"]) -> Float[Tensor, "B M D"]:
        q, k, v = (
            rearrange(project(x), "b m (heads d) -> b heads m d", heads=self.heads)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        if self.record is None:
            out = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        else:
            seen = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device)
            out, probabilities = attention(q, k, v, seen.tril() if self.causal else None)
            self.record(probabilities)
        return self.out_proj(rearrange(out, "b heads m d -> b m (heads d)"))


class CLIPMLP(nn.Module):
    """To the wider layer and back, each token by itself."""

    def __init__(self, config: Sizes):
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Float[Tensor, "B M D"]) -> Float[Tensor, "B M D"]:
        return self.fc2(quick_gelu(self.fc1(x)))


def quick_gelu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """x sigmoid(1.702 x), which at 1 is 0.8458 where GELU is 0.8413.

    Source: Hendrycks & Gimpel 2016, section 2.
    """
    return x * torch.sigmoid(1.702 * x)


def check_sizes(config: Sizes, others: tuple[str, ...]) -> None:
    """Raises ValueError: a size of the blocks, or one of the others, is out of its range."""
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    for name in (*names, *others):
        if getattr(config, name) < 1:
            raise ValueError(f"{name}: expected at least 1, came {getattr(config, name)}")
    if config.hidden_size % config.num_attention_heads:
        raise ValueError(
            f"num_attention_heads: expected a divisor of hidden_size = {config.hidden_size}, "
            f"came {config.num_attention_heads}"
        )
    if not config.layer_norm_eps > 0:
        raise ValueError(f"layer_norm_eps: expected above 0, came {config.layer_norm_eps}")
