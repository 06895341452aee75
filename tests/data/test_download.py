import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import requests

from course.data import download
from course.data.download import DataError, RemoteFile

FETCH = """
import sys
from pathlib import Path
from course.data.download import DataError, RemoteFile, fetch
name, sha256, size, mirror = sys.argv[1:]
print(fetch("numbers", RemoteFile(name, sha256, int(size)), [mirror]))
"""


def fetch_elsewhere(remote: RemoteFile, mirror: str, code: str = FETCH) -> subprocess.Popen:
    """Call `fetch` in another process, which has this one's environment."""
    return subprocess.Popen(
        [sys.executable, "-c", code, remote.name, remote.sha256, str(remote.size), mirror],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def cached(remote: RemoteFile) -> Path:
    return download.cache_dir() / "numbers" / remote.name


def leftovers() -> list[str]:
    return [path.name for path in download.cache_dir().rglob("*") if path.is_file()]


@pytest.mark.parametrize("behaviour", ["honest", "slow", "chunked", "moved"])
def test_fetches_and_keeps_the_file(host, remote, behaviour):
    path = download.fetch("numbers", remote, [host.url(behaviour)])
    assert path == cached(remote)
    assert path.read_bytes() == host.files[remote.name]
    assert leftovers() == [remote.name]
    asked = len(host.requests)
    assert download.fetch("numbers", remote, [host.url(behaviour)]) == path
    assert len(host.requests) == asked


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("page", "web page"),
        ("other", "hash"),
        ("short", "hash"),
        ("truncated", "IncompleteRead|hash"),
        ("dies", "reset|broken|hash"),
        ("stalls", "timed out"),
        ("silent", "timed out"),
        ("drips", "bytes came in 0.5 s"),
        ("endless", "more than the 3,001 bytes"),
        ("missing", "404"),
        ("busy", "503"),
    ],
)
def test_a_bad_mirror_is_named_and_the_next_one_is_tried(
    host, remote, behaviour, reason, monkeypatch
):
    monkeypatch.setattr(download, "TIMEOUT", (0.3, 0.3))
    monkeypatch.setattr(download, "DEADLINE", 0.5)
    started = time.monotonic()
    with pytest.raises(DataError, match=rf"(?s){host.url(behaviour)}: .*({reason})") as caught:
        download.fetch("numbers", remote, [host.url(behaviour)])
    assert time.monotonic() - started < 3
    for part in ("numbers/numbers.bin", remote.sha256, "3,001 bytes", "COURSE_DATA"):
        assert part in str(caught.value)
    assert leftovers() == []

    path = download.fetch("numbers", remote, [host.url(behaviour), host.url("honest")])
    assert path.read_bytes() == host.files[remote.name]
    assert leftovers() == [remote.name]


def test_every_mirror_that_failed_is_named(host, remote):
    mirrors = [host.url("missing"), host.url("other")]
    with pytest.raises(DataError) as caught:
        download.fetch("numbers", remote, mirrors)
    assert all(mirror in str(caught.value) for mirror in mirrors)


def test_no_network_says_what_to_do(remote, monkeypatch):
    def unreachable(*_, **__):
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr("socket.socket.connect", unreachable)
    with pytest.raises(DataError, match=r"(?s)unreachable.*Check the network.*COURSE_DATA"):
        download.fetch("numbers", remote, ["http://127.0.0.1:9/"])


def test_nobody_listens(host, remote):
    port = host.server_port
    host.shutdown()
    host.socket.close()
    with pytest.raises(DataError, match="refused"):
        download.fetch("numbers", remote, [f"http://127.0.0.1:{port}/honest/"])


def test_a_mirror_address_of_the_user_replaces_the_public_ones(host, remote, monkeypatch):
    monkeypatch.setenv("COURSE_MIRROR", host.url("honest") + "base/")
    download.fetch("numbers", remote, ["http://127.0.0.1:9/"])
    assert host.requests == ["/honest/base/numbers/numbers.bin"]


def test_a_mirror_address_that_is_none_is_an_error_like_others(remote, monkeypatch):
    monkeypatch.setenv("COURSE_MIRROR", "nonsense")
    with pytest.raises(DataError, match="nonsense/numbers/"):
        download.fetch("numbers", remote, [])


@pytest.mark.parametrize("broken", [b"", b"half", b"x" * 3001])
def test_a_broken_cached_file_is_replaced(host, remote, broken):
    cached(remote).parent.mkdir(parents=True)
    cached(remote).write_bytes(broken)
    path = download.fetch("numbers", remote, [host.url("honest")])
    assert path.read_bytes() == host.files[remote.name]


def test_a_broken_cached_file_is_not_used_when_it_cannot_be_replaced(host, remote):
    cached(remote).parent.mkdir(parents=True)
    cached(remote).write_bytes(b"half")
    with pytest.raises(DataError, match="404"):
        download.fetch("numbers", remote, [host.url("missing")])


def test_a_cache_that_cannot_be_made(host, remote, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(DataError, match=r"(?s)cache folder .*file.*COURSE_CACHE.*COURSE_DATA"):
        download.fetch("numbers", remote, [host.url("honest")])


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_read_only_cache_is_read_but_not_written(host, remote, number, monkeypatch):
    path = download.fetch("numbers", remote, [host.url("honest")])

    # Permissions would not bind root.
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("tempfile.NamedTemporaryFile", refuse)
    assert download.fetch("numbers", remote, [host.url("honest")]) == path
    path.unlink()
    with pytest.raises(DataError, match=rf"cache folder .*{os.strerror(number)}.*COURSE_CACHE"):
        download.fetch("numbers", remote, [host.url("honest")])


def test_a_full_disk_leaves_nothing(host, remote):
    pytest.importorskip("resource")
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
    process = fetch_elsewhere(remote, host.url("honest"), limit + FETCH)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "DataError" in errors
    assert "cache folder" in errors
    assert leftovers() == []


def test_a_killed_download_leaves_no_file_that_would_be_used(host, remote, wait_until):
    process = fetch_elsewhere(remote, host.url("stalls"))
    wait_until(lambda: host.requests and leftovers())
    process.kill()
    process.communicate()
    assert not cached(remote).exists()
    assert download.fetch("numbers", remote, [host.url("honest")]) == cached(remote)


def test_processes_may_fetch_the_same_file_at_once(host, remote):
    sizes = set()
    done = threading.Event()

    def watch():
        while not done.is_set():
            if cached(remote).exists():
                sizes.add(cached(remote).stat().st_size)
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    processes = [fetch_elsewhere(remote, host.url("slow")) for _ in range(2)]
    results = [process.communicate(timeout=30) for process in processes]
    time.sleep(0.01)
    done.set()
    watcher.join()
    assert [process.returncode for process in processes] == [0, 0], results
    assert {out.strip() for out, _ in results} == {str(cached(remote))}
    assert cached(remote).read_bytes() == host.files[remote.name]
    assert sizes == {remote.size}
    assert leftovers() == [remote.name]


def test_without_pooch_the_remedy_is_named(remote, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(DataError, match=r"package pooch.*COURSE_DATA"):
        download.fetch("numbers", remote, ["http://127.0.0.1:9/"])


def test_only_bytes_as_stored_are_asked_for(host, remote, monkeypatch):
    seen = {}
    get = requests.get

    def spy(url, **arguments):
        seen.update(arguments)
        return get(url, **arguments)

    monkeypatch.setattr(requests, "get", spy)
    download.fetch("numbers", remote, [host.url("honest")])
    assert seen["headers"] == {"Accept-Encoding": "identity"}


@pytest.mark.parametrize("folder", ["numbers", "."])
def test_course_data_is_used_and_nothing_is_downloaded(host, remote, folder, tmp_path, monkeypatch):
    place = tmp_path / "own" / folder
    place.mkdir(parents=True)
    (place / remote.name).write_bytes(b"mine")
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "own"))
    path = download.fetch("numbers", remote, [host.url("honest")])
    assert path.read_bytes() == b"mine"
    assert host.requests == []


@pytest.mark.parametrize(("make", "reason"), [(True, "neither exists"), (False, "no folder")])
def test_course_data_without_the_file(host, remote, make, reason, tmp_path, monkeypatch):
    if make:
        (tmp_path / "own").mkdir()
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "own"))
    with pytest.raises(DataError, match=rf"numbers/numbers.bin.*{reason}.*unset COURSE_DATA"):
        download.fetch("numbers", remote, [host.url("honest")])
    assert host.requests == []


def test_empty_variables_count_as_unset(host, remote, monkeypatch):
    for name in ("COURSE_DATA", "COURSE_MIRROR"):
        monkeypatch.setenv(name, "")
    assert download.fetch("numbers", remote, [host.url("honest")]).is_file()


def test_cache_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", "~/digits")
    assert download.cache_dir() == Path.home() / "digits"
    monkeypatch.delenv("COURSE_CACHE")
    assert download.cache_dir() == Path(download.__file__).parents[2] / "data" / "cache"
    # Installed elsewhere, there is no clone above the package.
    monkeypatch.setattr(download, "__file__", str(tmp_path / "course" / "data" / "download.py"))
    outside = download.cache_dir()
    assert tmp_path not in outside.parents
    assert outside.name == "course-image-generation"


def test_verify_names_both_digests(remote, tmp_path):
    with pytest.raises(DataError, match=rf"(?s)here.*{remote.sha256}.*5 bytes.*[0-9a-f]{{64}}"):
        download.verify(tmp_path / "here", b"other", remote)


def test_read_names_the_file(tmp_path):
    with pytest.raises(DataError, match=r"gone.*FileNotFoundError"):
        download.read(tmp_path / "gone")
