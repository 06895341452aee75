"""A running `python -m course lab` and a headless Chromium to look at it."""

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

FLAGS = [
    "headless=new",
    "no-sandbox",
    "disable-gpu",
    "disable-quic",
    "disable-dev-shm-usage",
    "no-first-run",
    "no-default-browser-check",
    "no-proxy-server",
    "disable-background-networking",
    "disable-component-update",
    "disable-sync",
    "window-size=1300,1000",
]


def need(*names):
    """The path of the first program that is here; without one CI fails and others skip."""
    for name in names:
        if path := shutil.which(name):
            return path
    reason = f"{' or '.join(names)} is not installed"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


@pytest.fixture(scope="module")
def lab(tmp_path_factory, request):
    """Serve JupyterLab on new students' copies, beside the notebooks that the module asks for.

    The module's `prepare(workspace)`, if it has one, adds notebooks of its own.
    """
    home = tmp_path_factory.mktemp("home")
    workspace = tmp_path_factory.mktemp("lab") / "workspace"
    if prepare := getattr(request.module, "prepare", None):
        prepare(workspace)
    port = free_port()
    command = [sys.executable, "-m", "course", "lab", "--no-browser"]
    command += ["--port", str(port), "--workspace", str(workspace)]
    environment = {key: value for key, value in os.environ.items() if "JUPYTER" not in key}
    environment |= {"HOME": str(home), "JUPYTER_TOKEN": ""}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    printed = []
    reader = threading.Thread(target=lambda: printed.extend(process.stdout), daemon=True)
    reader.start()
    try:
        url = wait_for_address(process, printed)
        token = re.search(r"token=(\w+)", url).group(1)
        yield SimpleNamespace(
            port=int(re.search(r":(\d+)/", url).group(1)),
            token=token,
            workspace=workspace,
            home=home,
            process=process,
            log=lambda: "".join(printed),
        )
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def wait_for_address(process, printed, seconds=90):
    """The address with its token, which the server prints when it listens."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        if found := re.search(r"http://127\.0\.0\.1:\d+/\S*token=\w+", "".join(printed)):
            return found.group()
        time.sleep(0.2)
    raise AssertionError("JupyterLab did not start:\n" + "".join(printed))


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A headless Chromium with an empty profile, which asks nobody anything."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = need("chromium", "chromium-browser", "google-chrome")
    for flag in FLAGS:
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    driver = webdriver.Chrome(options, Service(need("chromedriver")))
    driver.set_page_load_timeout(60)
    yield driver
    driver.quit()


def pytest_collection_modifyitems(items):
    """Everything in this folder is `browser`."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)
