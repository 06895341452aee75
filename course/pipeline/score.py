"""How often a pipeline draws what captions say."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from course.metrics.captions import CELLS, measure_captions
from course.pipeline.text_to_image import TextToImage


def score(
    draw: TextToImage,
    each: int,
    *,
    steps: int,
    guidance_scale: float,
    seed: int = 0,
    cells: Sequence[tuple[str, int]] = CELLS,
    watch: Callable[[int], object] = lambda count: None,
) -> dict[str, Any]:
    """What `measure_captions` finds, with the pipeline's own autoencoder as the ceiling.

    Args:
        draw: the pipeline.
        each: captions of each split and number of things.
        steps: of the sampler.
        guidance_scale: s = 1 + w.
        seed: of the first batch.
        cells: splits and numbers of things.
        watch: called with the number of pictures of each batch that is drawn.

    Raises:
        ValueError: see `TextToImage`.
    """
    weight = next(draw.unet.parameters())

    def pictures(captions: Sequence[str], seed: int) -> Tensor:
        options = {"steps": steps, "guidance_scale": guidance_scale, "seed": seed}
        images = draw(captions, **options, progress=False).images
        watch(len(images))
        return images

    def reconstruct(images: Tensor) -> Tensor:
        return draw.decode(draw.autoencoder.to_latents(images.to(weight)))

    return measure_captions(pictures, reconstruct, each, seed, cells)
