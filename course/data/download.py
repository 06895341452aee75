"""Files that are too large for the repository: found in a folder or downloaded, and verified.

Environment variables:
    COURSE_DATA: a folder that holds the original files; nothing is downloaded when it is set.
    COURSE_CACHE: where downloads and parsed files are kept; default: `data/cache` of the clone.
    COURSE_MIRROR: a base address to use in place of the public ones; it serves DATASET/FILE.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

TIMEOUT = (10.0, 30.0)  # seconds to connect, seconds of silence
DEADLINE = 600.0  # seconds for one file from one mirror: a server may drip without falling silent

ADVICE = "Put the original file there, or unset COURSE_DATA to have it downloaded."


class DataError(RuntimeError):
    """A data file could not be had: says which, what was expected, what came and what to do."""


@dataclass(frozen=True)
class RemoteFile:
    """A file as its publisher made it.

    Attributes:
        name: file name.
        sha256: SHA-256 of its bytes, 64 hexadecimal digits.
        size: number of bytes.
    """

    name: str
    sha256: str
    size: int


def cache_dir() -> Path:
    """Where files are kept: COURSE_CACHE, else the clone's data/cache, else the user's cache."""
    if chosen := os.environ.get("COURSE_CACHE"):
        return Path(chosen).expanduser()
    root = Path(__file__).resolve().parents[2]
    if (root / "pyproject.toml").is_file():
        return root / "data" / "cache"
    import pooch

    return Path(pooch.os_cache("course-image-generation"))


def fetch(dataset: str, file: RemoteFile, mirrors: Sequence[str]) -> Path:
    """Find one file of a data set in COURSE_DATA, or in the cache after downloading it if needed.

    What comes from the cache or a mirror has been compared with `file.sha256`: a broken cached file
    is downloaded again and replaced, a broken download is never stored. What lies in COURSE_DATA
    has not: `verify` does that. Processes may ask for the same file at the same time.

    Args:
        dataset: name of the folder that holds the file, in COURSE_DATA and in the cache.
        file: what to get.
        mirrors: base addresses that end in "/", tried in turn.

    Raises:
        DataError: the file is not in COURSE_DATA, no mirror gave it, or the cache is not writable.
    """
    if chosen := os.environ.get("COURSE_DATA"):
        return _find(Path(chosen).expanduser(), dataset, file)
    if mirror := os.environ.get("COURSE_MIRROR"):
        mirrors = [f"{mirror.rstrip('/')}/{dataset}/"]
    try:
        import pooch
        import requests
        import urllib3
    except ImportError as error:
        raise DataError(
            f"{dataset}/{file.name}: downloading needs the package {error.name}, which is not "
            f'installed. Install the extra "lab" of this project, or set COURSE_DATA to a folder '
            f"that holds {dataset}/{file.name}."
        ) from error

    folder = cache_dir() / dataset
    failures = []
    for mirror in mirrors:
        try:
            # pooch downloads to a temporary file beside the target, compares, and renames.
            path = pooch.retrieve(
                mirror + file.name,
                known_hash=f"sha256:{file.sha256}",
                fname=file.name,
                path=folder,
                downloader=lambda url, target, _: _download(url, target, file),
            )
        except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
            failures.append(f"  {mirror}: {type(error).__name__}: {error}")
        except OSError as error:
            raise DataError(
                f"{dataset}/{file.name}: expected to keep it in the cache folder {folder}, but "
                f"{type(error).__name__}: {error}. Make that folder writable, set COURSE_CACHE to "
                f"one that is, or set COURSE_DATA to a folder that holds {dataset}/{file.name}."
            ) from error
        else:
            return Path(path)
    raise DataError(
        f"{dataset}/{file.name}: expected {file.size:,} bytes with SHA-256 {file.sha256}, but no "
        "mirror gave them:\n" + "\n".join(failures) + "\nCheck the network and call again, or get "
        f"the file elsewhere and set COURSE_DATA to a folder that holds {dataset}/{file.name}."
    )


def read(path: Path) -> bytes:
    """Read a whole file.

    Raises:
        DataError: the file can't be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path}: expected a file that can be read, came {type(error).__name__}: {error}. "
            f"{ADVICE}"
        ) from error


def verify(path: Path, content: bytes, file: RemoteFile) -> None:
    """Compare what was read from `path` with what the publisher of `file` made.

    Raises:
        DataError: the bytes are others.
    """
    digest = sha256(content).hexdigest()
    if digest != file.sha256:
        raise DataError(
            f"{path}: expected {file.size:,} bytes with SHA-256 {file.sha256}, came "
            f"{len(content):,} bytes with SHA-256 {digest}. {ADVICE}"
        )


def _find(root: Path, dataset: str, file: RemoteFile) -> Path:
    places = [root / dataset / file.name, root / file.name]
    for place in places:
        if place.is_file():
            return place
    raise DataError(
        f"{dataset}/{file.name}: expected in COURSE_DATA as {places[0]} or {places[1]}, but "
        f"{'neither exists' if root.is_dir() else f'there is no folder {root}'}. Put the original "
        f"file ({file.size:,} bytes) there, or unset COURSE_DATA to have it downloaded."
    )


def _download(url: str, target: str, file: RemoteFile) -> None:
    """Fetch `url` into the file `target`; unlike pooch's own, give up on a server that drips."""
    import requests
    from tqdm.auto import tqdm

    started = time.monotonic()
    # `identity`, so that the bytes on the wire are the bytes of the file.
    with (
        requests.get(
            url, headers={"Accept-Encoding": "identity"}, timeout=TIMEOUT, stream=True
        ) as response,
        open(target, "wb") as stream,
        tqdm(total=file.size, desc=file.name, unit="B", unit_scale=True, delay=1) as progress,
    ):
        response.raise_for_status()
        if "text/html" in response.headers.get("Content-Type", ""):
            raise ValueError("it sent a web page, not data: does this network ask for a login?")
        # read1 returns what has arrived, so that the clock is looked at between packets.
        while chunk := response.raw.read1(1 << 16):
            stream.write(chunk)
            progress.update(len(chunk))
            if stream.tell() > file.size:
                raise ValueError(f"it sent more than the {file.size:,} bytes of the file")
            if time.monotonic() - started > DEADLINE:
                raise requests.Timeout(f"{stream.tell():,} bytes came in {DEADLINE:g} s")
    # A temporary file is its owner's alone, but a cache may be shared.
    os.chmod(target, 0o644)
