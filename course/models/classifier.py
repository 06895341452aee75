"""A small classifier of digits: the judge of generated ones, and the features of their FID."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class ClassifierConfig:
    """Sizes of a classifier.

    Attributes:
        in_channels: channels of the pictures.
        classes: number of classes.
        channels: at each level, multiples of 8; every level but the first halves height and width.
        features: width of the layer before the last, which metrics look at.
        dropout: share of those features dropped in training.
    """

    in_channels: int = 1
    classes: int = 10
    channels: tuple[int, ...] = (16, 32, 64)
    features: int = 64
    dropout: float | int = 0.2

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))


class Classifier(nn.Module):
    """Two 3x3 convolutions per level, average over the picture, two linear layers."""

    def __init__(self, config: ClassifierConfig):
        super().__init__()
        self.config = config
        layers: list[nn.Module] = []
        current = config.in_channels
        for level, channels in enumerate(config.channels):
            for i in range(2):
                stride = 2 if level and not i else 1
                layers += [
                    nn.Conv2d(current, channels, 3, stride, padding=1, bias=False),
                    nn.GroupNorm(8, channels),
                    nn.SiLU(),
                ]
                current = channels
        self.trunk = nn.Sequential(*layers)
        self.neck = nn.Linear(current, config.features)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.features, config.classes)

    def features(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B F"]:
        """What the last layer sees of pictures in [-1, 1].

        Raises:
            ValueError: `images` has not the shape (B, C, H, W) with the channels of the config.
        """
        if images.ndim != 4 or images.shape[1] != self.config.in_channels:
            raise ValueError(
                f"images: expected shape (B, {self.config.in_channels}, H, W), "
                f"came {tuple(images.shape)}"
            )
        return F.silu(self.neck(self.trunk(images).mean((2, 3))))

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K"]:
        """Logits of each class."""
        return self.head(self.dropout(self.features(images)))
