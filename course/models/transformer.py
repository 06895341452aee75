"""The transformer behind the residual blocks of a U-Net, tensor for tensor as in diffusers."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from course.models.attention import Attention, Context, Tokens


class GEGLU(nn.Module):
    """One linear layer gives values and gates; each value is multiplied with GELU of its gate.

    Source: Shazeer 2020, "GLU variants improve transformer", equation 5.
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
        context: Tokens | Context,
    ) -> Float[Tensor, "B N C"]:
        # A sum has the layout of its first term: that of x may be a picture's, turned round.
        x = self.attn1(self.norm1(x)) + x
        x = self.attn2(self.norm2(x), context) + x
        return self.ff(self.norm3(x)) + x


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
        context: Tokens | Context,
    ) -> Float[Tensor, "B C H W"]:
        """The picture, changed by what its pixels have seen.

        Raises:
            ValueError: shapes are not those that the transformer was made for.
        """
        if x.ndim != 4 or x.shape[1] != self.proj_in.in_channels:
            raise ValueError(
                f"x: expected shape (B, {self.proj_in.in_channels}, H, W), came {tuple(x.shape)}"
            )
        # (B, C, H, W) and back as views: einops would take longer than small layers do.
        tokens = self.proj_in(self.norm(x)).flatten(2).transpose(1, 2)
        for block in self.transformer_blocks:
            tokens = block(tokens, context)
        return x + self.proj_out(tokens.transpose(1, 2).unflatten(2, x.shape[2:]))
