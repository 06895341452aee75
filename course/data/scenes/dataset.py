"""Captioned scenes as a data set without files: drawn when they are asked for."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset

from course.data.scenes.captions import caption
from course.data.scenes.layout import SPLITS, draw, raw_bits
from course.data.scenes.render import render
from course.data.scenes.world import Scene, one_of

# Far from the stages that places are drawn in.
CAPTION_STAGE = 2**32


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
        scenes = self.scenes(indices)
        captions = [self.caption(i, scene) for i, scene in zip(indices, scenes, strict=True)]
        return list(zip(render(scenes, self.size), captions, strict=True))

    def scenes(self, indices: Sequence[int]) -> list[Scene]:
        """What is in these pictures."""
        return draw(self.seed, indices, self.split)

    def caption(self, index: int, scene: Scene, variant: int = 0) -> str:
        """A caption of a scene; each variant is drawn anew."""
        stage = CAPTION_STAGE + variant
        return caption(scene, raw_bits(self.seed, self.split, index, stage, 32).tolist())
