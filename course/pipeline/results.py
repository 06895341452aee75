"""What a pipeline returns: pictures, how they came about, and where each word was looked at."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from course.diffusion.sampling import Trajectory
from course.models.attention import Attention
from course.models.tokenizer import WORD_END


@dataclass(frozen=True, eq=False)
class AttentionMaps:
    """How much each place of each picture took of each token, at each step and in each layer.

    Attributes:
        symbols: those of each prompt; in the M tokens they follow the start token, and the end
            token follows them.
        layers: by the name of the layer, probabilities that sum to 1 over the tokens; steps in the
            order in which they were taken.
    """

    symbols: tuple[tuple[str, ...], ...]
    layers: dict[str, Float[Tensor, "S B heads _ _ M"]]

    def words(self, picture: int = 0) -> list[str]:
        """The words of a prompt, in their order."""
        symbols = self.symbols[picture]
        return [
            "".join(symbols[k] for k in span).removesuffix(WORD_END)
            for span in self._spans(picture)
        ]

    def of(self, word: str | int, picture: int = 0) -> dict[str, Float[Tensor, "S h w"]]:
        """What a word got in each layer: summed over its tokens, averaged over heads.

        Args:
            word: its number among `words`, or the word itself, where it comes first.
            picture: which.

        Raises:
            ValueError: the prompt has no such word.
        """
        words = self.words(picture)
        if word not in (words if isinstance(word, str) else range(len(words))):
            raise ValueError(f"word: expected one of {words} or its number, came {word!r}")
        span = self._spans(picture)[words.index(word) if isinstance(word, str) else word]
        start, stop = 1 + span.start, 1 + span.stop
        return {
            name: maps[:, picture, ..., start:stop].sum(-1).mean(1)
            for name, maps in self.layers.items()
        }

    def _spans(self, picture: int) -> list[range]:
        """The places of each word's symbols."""
        symbols = self.symbols[picture]
        stops = [k + 1 for k, symbol in enumerate(symbols) if symbol.endswith(WORD_END)]
        return [range(*span) for span in pairwise([0, *stops])]


@dataclass(frozen=True, eq=False)
class Images:
    """Pictures that were drawn.

    Attributes:
        images: in [-1, 1].
        prompts: what was asked for, one each.
        trajectory: latents on the way, as the U-Net sees them, the noise predicted, and the x_0 it
            implies; `TextToImage.decode` makes pictures of them. None if not asked for.
        attention: None if not asked for.
    """

    images: Float[Tensor, "B C H W"]
    prompts: tuple[str, ...]
    trajectory: Trajectory | None = None
    attention: AttentionMaps | None = None


def cross_attentions(unet: nn.Module) -> dict[str, Attention]:
    """The layers of a U-Net that look at a context, by name."""
    return {
        name: module
        for name, module in unet.named_modules()
        if isinstance(module, Attention) and module.is_cross
    }


def attention_maps(
    calls: dict[str, list[Tensor]], symbols: Sequence[Sequence[str]], sides: tuple[int, int]
) -> AttentionMaps:
    """What layers saw of the last pictures in each call: behind those without prompts, if any.

    Args:
        calls: by the name of the layer, what `record_attention` collects.
        symbols: of each prompt.
        sides: height and width of the latents.
    """
    layers = {}
    for name, probabilities in calls.items():
        seen = torch.stack([each[-len(symbols) :] for each in probabilities])
        layers[name] = seen.unflatten(3, _sides_of(seen.shape[3], *sides))
    return AttentionMaps(tuple(map(tuple, symbols)), layers)


def _sides_of(places: int, height: int, width: int) -> tuple[int, int]:
    """Of a level with so many places: each level halves the sides, rounding up."""
    while height * width > places:
        height, width = -(-height // 2), -(-width // 2)
    return height, width
