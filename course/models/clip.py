"""CLIP: pictures and texts as vectors of one space, near where a text is true of a picture."""

import math
from dataclasses import dataclass, field

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from course.models.clip_encoder import CLIPEncoder, check_sizes
from course.models.clip_text import CLIPTextConfig, CLIPTextModel, pool

MAX_LOGIT_SCALE = math.log(100)
PLACE_STD = 0.1


@dataclass(frozen=True)
class CLIPVisionConfig:
    """Sizes of an encoder of pictures; names are those of transformers, unless said otherwise.

    Attributes:
        image_size: height and width of the pictures; a multiple of 2 to the number of levels.
        num_channels: channels of the pictures.
        block_out_channels: channels at each level of convolutions, finest first; every level
            halves height and width. (Ours: CLIP's has one convolution, as wide as its stride.)
        hidden_size: width of each token's vector, and of that of the picture.
        intermediate_size: width of the layer between the two of each feed-forward.
        num_hidden_layers: number of transformer blocks.
        num_attention_heads: of every block; divides the width.
        layer_norm_eps: added to every variance before its root.

    Raises:
        ValueError: a size is below 1, there is no level, or something does not divide.
    """

    image_size: int = 32
    num_channels: int = 3
    block_out_channels: tuple[int, ...] = (32, 64, 128)
    hidden_size: int = 128
    intermediate_size: int = 512
    num_hidden_layers: int = 2
    num_attention_heads: int = 4
    layer_norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        # A list is what JSON gives.
        object.__setattr__(self, "block_out_channels", tuple(self.block_out_channels))
        check_sizes(self, ("image_size", "num_channels"))
        channels = self.block_out_channels
        if not channels or min(channels) < 1:
            raise ValueError(f"block_out_channels: expected numbers from 1, came {channels}")
        if self.image_size % 2 ** len(channels):
            raise ValueError(
                f"image_size: expected a multiple of {2 ** len(channels)}, for {len(channels)} "
                f"levels, came {self.image_size}"
            )


class CLIPVisionModel(nn.Module):
    """Convolutions make places out of pixels, then a transformer lets the places see each other.

    The places and one token more, the class token, attend to each other; the class token becomes
    the vector of the picture.

    Source: Dosovitskiy et al. 2021, section 3.1, "hybrid architecture", as in CLIP but for the
    convolutions (residual blocks of the U-Net need a time).
    """

    def __init__(self, config: CLIPVisionConfig):
        super().__init__()
        self.config = config
        levels: list[nn.Module] = []
        current = config.num_channels
        for channels in config.block_out_channels:
            levels += [
                nn.Conv2d(current, channels, 5, stride=2, padding=2),
                nn.BatchNorm2d(channels),
                nn.SiLU(),
            ]
            current = channels
        self.stem = nn.Sequential(*levels, nn.Conv2d(current, config.hidden_size, 1))
        places = (config.image_size // 2 ** len(config.block_out_channels)) ** 2
        self.class_embedding = nn.Parameter(torch.randn(config.hidden_size) * PLACE_STD)
        self.position_embedding = nn.Embedding(places + 1, config.hidden_size)
        nn.init.normal_(self.position_embedding.weight, std=PLACE_STD)
        self.encoder = CLIPEncoder(config, causal=False)
        self.post_layernorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        """One vector for each picture, in [-1, 1].

        Raises:
            ValueError: channels or size are not those of the config.
        """
        size = self.config.image_size
        if images.ndim != 4 or images.shape[1:] != (self.config.num_channels, size, size):
            raise ValueError(
                f"images: expected shape (B, {self.config.num_channels}, {size}, {size}), "
                f"came {tuple(images.shape)}"
            )
        places = rearrange(self.stem(images), "b d h w -> b (h w) d")
        first = self.class_embedding.expand(len(images), 1, -1)
        tokens = torch.cat([first, places], 1) + self.position_embedding.weight
        return self.post_layernorm(self.encoder(tokens)[:, 0])


@dataclass(frozen=True)
class CLIPConfig:
    """Sizes of both encoders and of the space that they share.

    Attributes:
        text: of the encoder of texts.
        vision: of the encoder of pictures.
        projection_dim: width of the shared space.

    Raises:
        ValueError: `projection_dim` is below 1.
    """

    text: CLIPTextConfig = field(default_factory=CLIPTextConfig)
    vision: CLIPVisionConfig = field(default_factory=CLIPVisionConfig)
    projection_dim: int = 512

    def __post_init__(self) -> None:
        if self.projection_dim < 1:
            raise ValueError(f"projection_dim: expected at least 1, came {self.projection_dim}")


class CLIPModel(nn.Module):
    """An encoder of texts and one of pictures, each projected to the unit sphere.

    `logit_scale` is the logarithm of the inverse temperature; it starts at that of 1/0.07 and
    counts up to that of 100, above which it learns no more.

    Source: Radford et al. 2021, sections 2.3 and 2.5; lecture 004, line 99.
    """

    def __init__(self, config: CLIPConfig):
        super().__init__()
        self.config = config
        self.text_model = CLIPTextModel(config.text)
        self.vision_model = CLIPVisionModel(config.vision)
        self.text_projection = nn.Linear(config.text.hidden_size, config.projection_dim, bias=False)
        self.visual_projection = nn.Linear(
            config.vision.hidden_size, config.projection_dim, bias=False
        )
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def encode_text(self, tokens: Int64[Tensor, "B M"]) -> Float[Tensor, "B P"]:
        """Vectors of texts, of length 1.

        Raises:
            ValueError: `tokens` are not those of `CLIPTextModel`, or a text has no end token.
        """
        pooled = pool(self.text_model(tokens), tokens, self.config.text.eos_token_id)
        return F.normalize(self.text_projection(pooled), dim=-1)

    def encode_image(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B P"]:
        """Vectors of pictures in [-1, 1], of length 1.

        Raises:
            ValueError: `images` are not those of `CLIPVisionModel`.
        """
        return F.normalize(self.visual_projection(self.vision_model(images)), dim=-1)

    def forward(
        self, images: Float[Tensor, "B C H W"], tokens: Int64[Tensor, "N M"]
    ) -> Float[Tensor, "B N"]:
        """Scaled cosine of each picture, in rows, with each text, in columns."""
        scale = self.logit_scale.clamp(max=MAX_LOGIT_SCALE).exp()
        return scale * self.encode_image(images) @ self.encode_text(tokens).T


def contrastive_loss(
    logits: Float[Tensor, "B N"], same: Bool[Tensor, "B N"] | None = None
) -> Float[Tensor, ""]:
    """Mean of two cross-entropies: of finding a picture's text, and a text's picture.

    The softmax over texts, in columns, finds the text of a picture. (Lecture 004 calls the two
    losses by each other's name; their mean is the same.)

    Args:
        logits: of B pictures, in rows, with N >= B texts, in columns; text i is of picture i. Texts
            behind the first B are of no picture: the pictures shall tell them from their own.
        same: True where a text is true of a picture whose own it is not: the pair then counts for
            neither. The diagonal always counts.

    Raises:
        ValueError: shapes or dtypes are not as above.

    Source: Radford et al. 2021, figure 3; lecture 004, lines 117-123.
    """
    if logits.ndim != 2 or not 1 <= logits.shape[0] <= logits.shape[1]:
        raise ValueError(
            f"logits: expected shape (B, N) with N >= B >= 1, came {tuple(logits.shape)}"
        )
    n = len(logits)
    if same is not None:
        if same.dtype != torch.bool or same.shape != logits.shape:
            raise ValueError(
                f"same: expected bool of shape {tuple(logits.shape)}, as logits, "
                f"came {same.dtype} {tuple(same.shape)}"
            )
        own = torch.eye(*logits.shape, dtype=torch.bool, device=logits.device)
        logits = logits.masked_fill(same & ~own, float("-inf"))
    labels = torch.arange(n, device=logits.device)
    find_text = F.cross_entropy(logits, labels)
    find_picture = F.cross_entropy(logits[:, :n].T, labels)
    return (find_text + find_picture) / 2
