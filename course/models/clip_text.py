"""CLIP's text encoder, tensor for tensor that of Stable Diffusion 1.5 in transformers."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from course.models.clip_encoder import CLIPEncoder, check_sizes

OLD_PREFIX, OLD_BUFFER = "text_model.", "embeddings.position_ids"


@dataclass(frozen=True)
class CLIPTextConfig:
    """Sizes of a text encoder; field names are those of transformers.

    Attributes:
        vocab_size: number of tokens.
        hidden_size: width of each token's vector.
        intermediate_size: width of the layer between the two of each feed-forward.
        num_hidden_layers: number of blocks.
        num_attention_heads: of every block; divides the width.
        max_position_embeddings: tokens of the longest text.
        layer_norm_eps: added to every variance before its root.
        eos_token_id: number of the token that ends a text, and fills it up.

    Raises:
        ValueError: a size is below 1, the heads do not divide the width, `layer_norm_eps` is not
            above 0, or there is no such token.
    """

    vocab_size: int = 49408
    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    max_position_embeddings: int = 77
    layer_norm_eps: float = 1e-5
    eos_token_id: int = 49407

    def __post_init__(self) -> None:
        check_sizes(self, ("vocab_size", "max_position_embeddings"))
        if not 0 <= self.eos_token_id < self.vocab_size:
            raise ValueError(
                f"eos_token_id: expected a token in 0..{self.vocab_size - 1}, "
                f"came {self.eos_token_id}"
            )


class CLIPTextModel(nn.Module):
    """A transformer whose tokens see themselves and those before them.

    It loads the tensors of transformers 5 and, with the prefix `text_model.`, those of releases
    before it.

    Source: Radford et al. 2021, section 2.4; the first weights are those of its code.
    """

    def __init__(self, config: CLIPTextConfig):
        super().__init__()
        self.config = config
        self.embeddings = CLIPTextEmbeddings(config)
        self.encoder = CLIPEncoder(config, causal=True)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.register_load_state_dict_pre_hook(_from_old_names)

    def forward(self, tokens: Int64[Tensor, "B M"]) -> Float[Tensor, "B M D"]:
        """Vectors of all tokens after the last normalisation, the context of Stable Diffusion 1.5.

        Args:
            tokens: numbers below `vocab_size`, up to `max_position_embeddings` of them.

        Raises:
            ValueError: shape, dtype or numbers are not as above.
        """
        self._check(tokens)
        return self.final_layer_norm(self.encoder(self.embeddings(tokens)))

    def _check(self, tokens: Tensor) -> None:
        longest, size = self.config.max_position_embeddings, self.config.vocab_size
        _check_tokens(tokens)
        if not 1 <= tokens.shape[1] <= longest:
            raise ValueError(f"tokens: expected 1 to {longest} in a text, came {tokens.shape[1]}")
        if tokens.device.type == "meta" or not len(tokens):
            return
        low, high = tokens.aminmax()
        if low < 0 or high >= size:
            raise ValueError(f"tokens: expected numbers in 0..{size - 1}, came {low}..{high}")


class CLIPTextEmbeddings(nn.Module):
    """A vector for each token, and one for its place."""

    def __init__(self, config: CLIPTextConfig):
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embedding = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.position_embedding.weight, std=0.01)

    def forward(self, tokens: Int64[Tensor, "B M"]) -> Float[Tensor, "B M D"]:
        return self.token_embedding(tokens) + self.position_embedding.weight[: tokens.shape[1]]


def pool(
    hidden: Float[Tensor, "B M D"], tokens: Int64[Tensor, "B M"], eos_token_id: int
) -> Float[Tensor, "B D"]:
    """The vector at each text's first end token, the one place that sees the whole text.

    transformers does the same, unless a configuration says 2 for the end token, as old ones do:
    then it takes the place of the highest number, which in CLIP's vocabulary is the end token.

    Args:
        hidden: vectors of the tokens.
        tokens: numbers of the tokens; end tokens behind the first fill a text up.
        eos_token_id: number of the end token.

    Raises:
        ValueError: shapes or dtypes are not as above, or a text has no end token.

    Source: Radford et al. 2021, section 2.4.
    """
    _check_tokens(tokens)
    if hidden.ndim != 3 or hidden.shape[:2] != tokens.shape:
        raise ValueError(
            f"hidden: expected shape {(*tokens.shape, 'D')}, as tokens, came {tuple(hidden.shape)}"
        )
    is_end = tokens == eos_token_id
    if tokens.device.type != "meta" and not is_end.any(1).all():
        without = (~is_end.any(1)).nonzero().flatten().tolist()
        raise ValueError(
            f"tokens: expected the end token {eos_token_id} in each text, came none in {without}"
        )
    first = is_end.int().argmax(1)
    return hidden[torch.arange(len(hidden), device=hidden.device), first]


def _check_tokens(tokens: Tensor) -> None:
    if tokens.ndim != 2 or tokens.dtype != torch.int64:
        raise ValueError(
            f"tokens: expected int64 of shape (B, M), came {tokens.dtype} {tuple(tokens.shape)}"
        )


def _from_old_names(
    module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_: object
) -> None:
    """Drop the prefix of old files, and the numbers of the places that they hold."""
    for key in [key for key in state_dict if key.startswith(prefix)]:
        name = key.removeprefix(prefix).removeprefix(OLD_PREFIX)
        if name == OLD_BUFFER:
            del state_dict[key]
        elif prefix + name not in state_dict:
            state_dict[prefix + name] = state_dict.pop(key)
