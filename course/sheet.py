"""Pictures as a PNG file, many of them on one sheet, with nothing but numpy and zlib."""

import math
import struct
import zlib

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor


def sheet(
    images: Float[Tensor, "N C H W"], columns: int | None = None
) -> UInt8[np.ndarray, "h w C"]:
    """Pictures in rows, a pixel apart on grey; what is missing in the last row stays grey.

    Args:
        images: one or more, in [-1, 1], what lies outside is clipped; C is 1 or 3.
        columns: pictures a row; by default as many as make a square.

    Raises:
        ValueError: there is no picture, or it has another number of channels.
    """
    n, channels, height, width = images.shape
    if not n or channels not in (1, 3):
        raise ValueError(
            f"images: expected pictures of 1 or 3 channels, came shape {tuple(images.shape)}"
        )
    columns = min(n, columns or math.ceil(math.sqrt(n)))
    rows = math.ceil(n / columns)
    pixels = ((images.detach().float().cpu() + 1) * 127.5).round().clamp(0, 255).byte().numpy()
    canvas = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1, channels), 128, np.uint8)
    for i, picture in enumerate(pixels):
        top, left = i // columns * (height + 1), i % columns * (width + 1)
        canvas[top : top + height, left : left + width] = picture.transpose(1, 2, 0)
    return canvas


def png(pixels: UInt8[np.ndarray, "H W C"]) -> bytes:
    """A picture of 1 or 3 channels as a PNG file.

    Source: Portable Network Graphics Specification, W3C, sections 5 and 11.
    """
    height, width, channels = pixels.shape
    # 8 bits; colour type 0 is grey, 2 is RGB; deflate, no filter, not interlaced.
    header = struct.pack(">IIBBBBB", width, height, 8, {1: 0, 3: 2}[channels], 0, 0, 0)
    # Each row begins with the number of its filter: 0 is none.
    rows = np.pad(pixels.reshape(height, -1), ((0, 0), (1, 0))).tobytes()
    chunks = {b"IHDR": header, b"IDAT": zlib.compress(rows, 9), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks.items()
    )
