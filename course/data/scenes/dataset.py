"""Captioned scenes as a data set without files: drawn when they are asked for."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset

from course.data.scenes.captions import describe, false_twins
from course.data.scenes.grammar import Meaning, write
from course.data.scenes.layout import SPLITS, draw, raw_bits
from course.data.scenes.render import render
from course.data.scenes.world import Scene, one_of

# Far from the stages that places are drawn in.
CAPTION_STAGE = 2**32
DESCRIBE_BITS, WRITE_BITS = 9, 7


@dataclass(frozen=True)
class Example:
    """A scene and something true of it.

    Attributes:
        scene: what is drawn.
        meaning: what is said of it.
        bits: which words say it.
    """

    scene: Scene
    meaning: Meaning
    bits: tuple[int, ...]

    @property
    def caption(self) -> str:
        """The sentence."""
        return self.say(self.meaning)

    def say(self, meaning: Meaning) -> str:
        """Another meaning with the same choice of words."""
        return write(meaning, self.bits)

    def twins(self) -> list[tuple[str, Meaning]]:
        """What is false of the scene in the same words: what was exchanged, and what it says."""
        return false_twins(self.meaning, self.scene)


class CaptionedScenes(Dataset):
    """Pictures and captions; item i is a function of (seed, split, i), everywhere.

    An item is a picture (3, size, size) in [-1, 1] and a caption that is true of it.

    Args:
        length: how many there are.
        split: "train", "test", "new_pairs" or "new_relations", see `draw`.
        seed: of all of them, from 0.
        size: of the pictures, in pixels.

    Raises:
        ValueError: there is no such split, or a number is out of its range.
    """

    def __init__(self, length: int, split: str = "train", seed: int = 0, size: int = 32):
        one_of("split", split, SPLITS)
        for name, value, low in (("length", length, 1), ("seed", seed, 0), ("size", size, 16)):
            if value < low:
                raise ValueError(f"{name}: expected at least {low}, came {value}")
        self.length, self.split, self.seed, self.size = length, split, seed, size

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Float[Tensor, "3 H W"], str]:
        return self.__getitems__([range(self.length)[index]])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, str]]:
        """Several at once, as a DataLoader asks for them: faster than one by one."""
        examples = self.examples(indices)
        pictures = render([example.scene for example in examples], self.size)
        return [(picture, e.caption) for picture, e in zip(pictures, examples, strict=True)]

    def examples(self, indices: Iterable[int]) -> list[Example]:
        """What is in these pictures, and what is said of it."""
        indices, examples, count = list(indices), [], DESCRIBE_BITS + WRITE_BITS
        for index, scene in zip(indices, draw(self.seed, indices, self.split), strict=True):
            bits = raw_bits(self.seed, self.split, index, CAPTION_STAGE, count).tolist()
            said = describe(scene, bits[:DESCRIBE_BITS])
            examples.append(Example(scene, said, tuple(bits[DESCRIBE_BITS:])))
        return examples
