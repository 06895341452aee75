"""A text encoder and the U-Net that listens to it, trained together."""

from dataclasses import dataclass, field

from jaxtyping import Float, Int64
from torch import Tensor, nn

from course.models.attention import Context
from course.models.clip_text import CLIPTextConfig, CLIPTextModel, pool
from course.models.unet import UNet2DConditionModel
from course.models.unet_config import UNetConfig


@dataclass(frozen=True)
class LatentDiffusionConfig:
    """Sizes of both; the defaults are Stable Diffusion 1.5's.

    Attributes:
        unet: of the U-Net; if it takes a vector besides the tokens, that is the text's last one.
        text: of the text encoder.

    Raises:
        ValueError: the U-Net is made for tokens, or for a vector, of another width.
    """

    unet: UNetConfig = field(default_factory=lambda: UNetConfig(cross_attention_dim=768))
    text: CLIPTextConfig = field(default_factory=CLIPTextConfig)

    def __post_init__(self) -> None:
        width = self.text.hidden_size
        if self.unet.cross_attention_dim != width:
            raise ValueError(
                f"unet: expected cross_attention_dim = {width}, the text encoder's hidden_size, "
                f"came {self.unet.cross_attention_dim}"
            )
        if self.unet.projection_class_embeddings_input_dim not in (None, width):
            raise ValueError(
                f"unet: expected projection_class_embeddings_input_dim = {width} or None, "
                f"came {self.unet.projection_class_embeddings_input_dim}"
            )


class LatentDiffusion(nn.Module):
    """Predicts what is asked of its U-Net, from a noisy latent, the time and a text.

    Source: Rombach et al. 2022, section 3.3, equation 3, where the text encoder is trained along.
    """

    def __init__(self, config: LatentDiffusionConfig):
        super().__init__()
        self.config = config
        self.text_model = CLIPTextModel(config.text)
        self.unet = UNet2DConditionModel(config.unet)

    def forward(
        self, xt: Float[Tensor, "B C H W"], t: Int64[Tensor, " B"], tokens: Int64[Tensor, "B M"]
    ) -> Float[Tensor, "B C H W"]:
        """The prediction.

        Args:
            xt: noisy latents.
            t: time step of each.
            tokens: of each text; its end token fills it up.

        Raises:
            ValueError: see `CLIPTextModel` and `UNet2DConditionModel`.
        """
        context = text_context(
            self.text_model(tokens),
            tokens,
            self.config.text.eos_token_id,
            mask_padding=True,
            pooled=self.config.unet.projection_class_embeddings_input_dim is not None,
        )
        return self.unet(xt, t, context)


def text_context(
    vectors: Float[Tensor, "B M D"],
    tokens: Int64[Tensor, "B M"],
    eos_token_id: int,
    *,
    mask_padding: bool,
    pooled: bool,
) -> Context:
    """What a U-Net is told of texts.

    Args:
        vectors: that the text encoder makes of the tokens.
        tokens: their numbers.
        eos_token_id: number of the end token.
        mask_padding: hide what is behind the first end token.
        pooled: add the vector at the first end token to the time embedding, as GLIDE does.
    """
    # Up to the first end token, that included.
    mask = (tokens == eos_token_id).cumsum(1) <= 1 if mask_padding else None
    return Context(vectors, mask, pool(vectors, tokens, eos_token_id) if pooled else None)
