"""Small data sets, a server that lies, and an environment in which nothing is set."""

import gzip
import socket
import struct
import threading
import time
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from course.data import mnist
from course.data.download import RemoteFile


class Host(ThreadingHTTPServer):
    """Serves /BEHAVIOUR/.../NAME from `files`, in the manner of the method of that name."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.closing = threading.Event()

    def url(self, behaviour: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{behaviour}/"


class _Handler(BaseHTTPRequestHandler):
    server: Host

    def do_GET(self):
        self.server.requests.append(self.path)
        behaviour, name = self.path.split("/")[1], self.path.split("/")[-1]
        getattr(self, behaviour)(self.server.files[name])

    def log_message(self, *_):
        pass

    def _head(self, length: int | None, status: int = 200, **headers: str):
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def honest(self, body):
        self._head(len(body))
        self.wfile.write(body)

    def slow(self, body):
        self._head(len(body))
        for part in (body[:100], body[100:]):
            self.wfile.write(part)
            self.server.closing.wait(0.4)

    def chunked(self, body):
        self.protocol_version = "HTTP/1.1"
        self._head(None, Transfer_Encoding="chunked")
        for part in (body[:100], body[100:]):
            self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True

    def moved(self, body):
        self._head(0, 302, Location=self.path.replace("/moved/", "/honest/"))

    def page(self, body):
        text = b"<html>Welcome to the network. Please log in.</html>"
        self._head(len(text), Content_Type="text/html; charset=utf-8")
        self.wfile.write(text)

    def other(self, body):
        self._head(len(body))
        self.wfile.write(body[:-1] + bytes([body[-1] ^ 1]))

    def short(self, body):
        self._head(len(body) // 2)
        self.wfile.write(body[: len(body) // 2])

    def truncated(self, body):
        self._head(len(body))
        self.wfile.write(body[: len(body) // 2])

    def dies(self, body):
        self._head(len(body))
        self.wfile.write(body[: len(body) // 2])
        self.wfile.flush()
        # A reset in place of an orderly end.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def stalls(self, body):
        self._head(len(body))
        self.wfile.write(body[: len(body) // 2])
        self.wfile.flush()
        self.server.closing.wait(10)

    def silent(self, body):
        self.server.closing.wait(10)

    def drips(self, body):
        self._head(len(body))
        for position in range(len(body)):
            if self.server.closing.wait(0.02):
                return
            self.wfile.write(body[position : position + 1])

    def endless(self, body):
        self._head(None)
        while not self.server.closing.is_set():
            self.wfile.write(body)

    def missing(self, body):
        self.send_error(404)

    def busy(self, body):
        self.send_error(503)


@pytest.fixture
def host():
    with Host() as server:
        server.handle_error = lambda *_: None  # a client that hangs up is what we test
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.closing.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def remote(host):
    """A file of 3,001 bytes that `host` serves."""
    content = np.random.PCG64(1).random_raw(376).tobytes()[:3001]
    host.files["numbers.bin"] = content
    return RemoteFile("numbers.bin", sha256(content).hexdigest(), len(content))


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    """No setting of the user's, an empty cache, nothing remembered."""
    for name in ("COURSE_DATA", "COURSE_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    mnist._offline.cache_clear()
    yield
    mnist._offline.cache_clear()


@pytest.fixture(scope="session")
def parsed_digits(tmp_path_factory) -> Path:
    """A cache folder that holds the offline digits, parsed once."""
    folder = tmp_path_factory.mktemp("parsed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COURSE_CACHE", str(folder))
        mnist.digits()
    return folder


@pytest.fixture
def offline(parsed_digits, monkeypatch) -> Path:
    monkeypatch.setenv("COURSE_CACHE", str(parsed_digits))
    return parsed_digits


def idx(array: np.ndarray) -> bytes:
    """An array of unsigned bytes as a gzip file in the IDX format."""
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return gzip.compress(header + array.tobytes(), mtime=0)


@pytest.fixture(scope="session")
def make_idx():
    return idx


class SmallSet:
    """A data set like MNIST, of 7 + 3 pictures; `arrays` and `contents` by file name."""

    def __init__(self, name: str, mirrors: tuple[str, ...], train: np.ndarray | None = None):
        rng = np.random.default_rng(5)
        train = rng.integers(0, 256, (7, 28, 28), dtype=np.uint8) if train is None else train
        self.arrays = {
            "train-images-idx3-ubyte.gz": train,
            "train-labels-idx1-ubyte.gz": rng.integers(0, 10, len(train), dtype=np.uint8),
            "t10k-images-idx3-ubyte.gz": rng.integers(0, 256, (3, 28, 28), dtype=np.uint8),
            "t10k-labels-idx1-ubyte.gz": rng.integers(0, 10, 3, dtype=np.uint8),
        }
        self.contents = {name: idx(array) for name, array in self.arrays.items()}
        manifest = "\n".join(
            f"{sha256(content).hexdigest()} {len(content)} {name}"
            for name, content in self.contents.items()
        )
        self.set = mnist.IdxSet(name, mirrors, manifest, counts=(len(train), 3))

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.contents.items():
            (folder / name).write_bytes(content)
        return folder


@pytest.fixture
def small_set():
    return SmallSet


@pytest.fixture
def wait_until():
    def wait(condition, seconds: float = 10):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "it did not happen in time"
            time.sleep(0.01)

    return wait
