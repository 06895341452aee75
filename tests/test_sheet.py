"""Pictures as PNG files, read back by another library."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from course.sheet import png, sheet


@pytest.mark.parametrize("channels", [1, 3])
def test_a_png_is_read_back(channels):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, channels), np.uint8)
    with Image.open(io.BytesIO(png(pixels))) as image:
        image.verify()  # checksums
    with Image.open(io.BytesIO(png(pixels))) as image:
        assert image.mode == {1: "L", 3: "RGB"}[channels]
        np.testing.assert_array_equal(np.array(image).reshape(pixels.shape), pixels)


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_stand_in_rows(channels):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(7, channels, 4, 6, generator=generator) * 2.4 - 1.2
    for columns, rows in ((3, 3), (None, 3), (7, 1), (9, 1)):
        canvas = sheet(images, columns)
        wide = min(columns or 3, 7)
        assert canvas.shape == (rows * 5 - 1, wide * 7 - 1, channels)
        rest = np.ones(canvas.shape[:2], bool)
        for i, image in enumerate(images):
            box = np.s_[i // wide * 5 :, i % wide * 7 :]
            want = np.rint((image.numpy().clip(-1, 1).transpose(1, 2, 0) + 1) * 127.5)
            np.testing.assert_array_equal(canvas[box][:4, :6], want)
            rest[box][:4, :6] = False
        assert (canvas[rest] == 128).all()


@pytest.mark.usefixtures("no_typecheck")
@pytest.mark.parametrize("shape", [(0, 1, 4, 5), (2, 4, 5, 6)])
def test_no_pictures_are_refused(shape):
    with pytest.raises(ValueError, match="images: expected pictures of 1 or 3 channels"):
        sheet(torch.zeros(shape))
