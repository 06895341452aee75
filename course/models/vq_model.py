"""The autoencoder of latent diffusion with a codebook: each place of a latent is a code of it."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from course.models.autoencoder_blocks import Decoder, Encoder, check_picture
from course.models.autoencoder_config import VQModelConfig


class Quantized(NamedTuple):
    """What a codebook made of latents.

    Attributes:
        latents: the nearest codes, `(B, D, H, W)`; the gradient passes to what they stand for.
        codes: their numbers, `(B, H, W)`.
        loss: mean of the codes' squared distance, which moves them, and `commitment` times the
            same, which moves the encoder.
    """

    latents: Tensor
    codes: Tensor
    loss: Tensor


class VectorQuantizer(nn.Module):
    """Replace each place by the nearest code of a codebook.

    Args:
        num_embeddings: codes.
        embedding_dim: numbers in each.
        commitment: beta, weight of the encoder's part of the loss.

    Raises:
        ValueError: a size is below 1, or `commitment` is below 0.

    Source: van den Oord et al. 2017, equations 1-3; lecture 004, "VQ-VAE". (diffusers weighs the
    codebook's part with beta instead, unless told `legacy=False`.)
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, commitment: float | int = 0.25):
        super().__init__()
        for name, size in (("num_embeddings", num_embeddings), ("embedding_dim", embedding_dim)):
            if size < 1:
                raise ValueError(f"{name}: expected at least 1, came {size}")
        if not 0 <= commitment < math.inf:
            raise ValueError(f"commitment: expected 0 or more, came {commitment}")
        self.commitment = commitment
        self.embedding = nn.Embedding(num_embeddings, embedding_dim)
        nn.init.uniform_(self.embedding.weight, -1 / num_embeddings, 1 / num_embeddings)

    def forward(self, z: Float[Tensor, "B D H W"]) -> Quantized:
        """The nearest codes of latents.

        Raises:
            ValueError: `z` is not (B, embedding_dim, H, W).
        """
        check_picture("z", z, self.embedding.embedding_dim)
        places = z.movedim(1, -1)
        codes = torch.cdist(places.flatten(0, -2), self.embedding.weight).argmin(1)
        codes = codes.view(places.shape[:-1])
        nearest = self.lookup(codes)
        loss = F.mse_loss(nearest, z.detach()) + self.commitment * F.mse_loss(z, nearest.detach())
        return Quantized(z + (nearest - z).detach(), codes, loss)

    def lookup(self, codes: Int64[Tensor, "B H W"]) -> Float[Tensor, "B D H W"]:
        """Latents of codes, by their numbers from 0."""
        return self.embedding(codes).movedim(-1, 1)


class VQModel(nn.Module):
    """Pictures to places that are codes of a codebook, and back.

    Source: Esser et al. 2021, section 3.1; Rombach et al. 2022, section 3.1, "VQ-reg."; layout of
    diffusers.
    """

    def __init__(self, config: VQModelConfig):
        super().__init__()
        self.config = config
        latent = config.latent_channels
        self.embed_dim = latent if config.vq_embed_dim is None else config.vq_embed_dim
        self.encoder = Encoder(config, latent)
        self.decoder = Decoder(config)
        self.quant_conv = nn.Conv2d(latent, self.embed_dim, 1)
        self.quantize = VectorQuantizer(config.num_vq_embeddings, self.embed_dim, config.commitment)
        self.post_quant_conv = nn.Conv2d(self.embed_dim, latent, 1)

    @property
    def f(self) -> int:
        """By how much height and width are divided."""
        return self.config.f

    def encode(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """Latents of pictures before they are replaced by codes: diffusion may work on these.

        Args:
            x: in [-1, 1], with `config.in_channels` channels and sides that are multiples of f.

        Raises:
            ValueError: `x` is not as above.
        """
        check_picture("x", x, self.config.in_channels, self.f)
        return self.quant_conv(self.encoder(x))

    def decode(self, z: Float[Tensor, "B D h w"]) -> Float[Tensor, "B O H W"]:
        """Pictures of latents, each place of which is replaced by the nearest code first.

        Raises:
            ValueError: `z` is not (B, vq_embed_dim, h, w).
        """
        return self._decode(self.quantize(z).latents)

    def decode_codes(self, codes: Int64[Tensor, "B h w"]) -> Float[Tensor, "B O H W"]:
        """Pictures of the numbers of codes."""
        return self._decode(self.quantize.lookup(codes))

    def forward(self, x: Float[Tensor, "B C H W"]) -> tuple[Float[Tensor, "B O H W"], Quantized]:
        """Reconstructions, and what the codebook made of their latents.

        Raises:
            ValueError: `x` is not what `encode` takes.
        """
        quantized = self.quantize(self.encode(x))
        return self._decode(quantized.latents), quantized

    def _decode(self, latents: Float[Tensor, "B D h w"]) -> Float[Tensor, "B O H W"]:
        return self.decoder(self.post_quant_conv(latents))


def codebook_use(codes: Int64[Tensor, "*shape"], num_embeddings: int) -> dict[str, float]:
    """How much of a codebook is used: "used", the share of its codes that occur, and "perplexity",
    how many codes that occur equally often would have the entropy of these.

    Args:
        codes: numbers of codes, from 0.
        num_embeddings: codes in the codebook.

    Raises:
        ValueError: there is no code, or one is out of the range.
    """
    if not codes.numel() or codes.min() < 0 or codes.max() >= num_embeddings:
        came = f"{codes.min()}..{codes.max()}" if codes.numel() else "none"
        raise ValueError(f"codes: expected numbers in 0..{num_embeddings - 1}, came {came}")
    share = codes.flatten().bincount(minlength=num_embeddings).double() / codes.numel()
    entropy = torch.special.entr(share).sum()
    return {"used": (share > 0).double().mean().item(), "perplexity": entropy.exp().item()}
