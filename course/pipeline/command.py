"""What `python -m course sample` and `evaluate` do."""

import sys
from pathlib import Path

from torch import Tensor
from tqdm import tqdm

from course import pipeline
from course.data.scenes.captions import holds
from course.data.scenes.grammar import Meaning
from course.data.scenes.read import Unreadable, read_scene
from course.data.scenes.request import check_request, tell
from course.files import replace_file
from course.metrics.captions import CELLS, table
from course.pipeline.score import score
from course.sheet import png, sheet


def sample(
    caption: str,
    output: Path,
    recipe: str,
    *,
    count: int,
    steps: int,
    guidance_scale: float,
    seed: int,
    zoom: int,
) -> None:
    """Draw a caption, write the pictures as one PNG, say of each what it shows.

    Args:
        caption: what to draw.
        output: file to write, whole or not at all.
        recipe: that trained the pipeline.
        count: pictures, in rows.
        steps: of the sampler.
        guidance_scale: s = 1 + w.
        seed: of all pictures.
        zoom: pixels of the file, each way, for one of a picture.

    Raises:
        ValueError: the caption can't be drawn, the file is no PNG, or see `load` and `TextToImage`.
        OSError: the file can't be written.
    """
    meaning = check_request(caption)
    if output.suffix != ".png":
        raise ValueError(f"output: expected a name that ends in .png, came {output.name!r}")
    draw = pipeline.load(recipe)
    images = draw(
        [caption] * count,
        steps=steps,
        guidance_scale=guidance_scale,
        seed=seed,
        progress=sys.stdout.isatty(),
    ).images
    replace_file(output, png(sheet(images).repeat(zoom, 0).repeat(zoom, 1)))
    print(output)
    for number, image in enumerate(images, 1):
        print(f"{number}: {_verdict(image, meaning)}" if count > 1 else _verdict(image, meaning))


def evaluate(recipe: str, *, each: int, steps: int, guidance_scale: float, seed: int) -> None:
    """Print how often a pipeline draws what captions say.

    Raises:
        ValueError: see `load` and `TextToImage`.
    """
    draw = pipeline.load(recipe)
    with tqdm(total=each * len(CELLS), file=sys.stdout, ncols=80, leave=False) as bar:
        figures = score(
            draw,
            each,
            steps=steps,
            guidance_scale=guidance_scale,
            seed=seed,
            cells=CELLS,
            watch=bar.update,
        )
    print(table(figures))


def _verdict(image: Tensor, meaning: Meaning) -> str:
    scene = read_scene(image)
    if isinstance(scene, Unreadable):
        return f"can't be read: {scene.reason}"
    if holds(meaning, scene):
        return "shows what the caption says"
    return f"does not show what the caption says, but {tell(scene)}"
