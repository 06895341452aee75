"""Serve JupyterLab on the students' copies: on this machine only, token on, nothing phoned home."""

import json
import os
import subprocess
import sys
from pathlib import Path

SERVER_EXTENSIONS_OFF = (
    "jupyter_lsp",  # looks for language servers all over the machine
    "nbgrader.server_extensions.assignment_list",
    "nbgrader.server_extensions.course_list",
    "nbgrader.server_extensions.formgrader",
    "nbgrader.server_extensions.validate_assignment",
)
LAB_EXTENSIONS_OFF = ("@jupyter/nbgrader", "@jupyterlab/apputils-extension:announcements")
FIRST_NOTEBOOK = "00_start_here.ipynb"


def serve(workspace: Path | None = None, *, browser: bool = True, port: int = 8888) -> int:
    """Write the students' copies into `workspace` and serve JupyterLab there until it is stopped.

    Args:
        workspace: folder of the copies; `workspace/` in the clone if None.
        browser: open a browser window.
        port: 1..65535; where it is taken, the next free one after it.

    Returns:
        The exit code of JupyterLab (on POSIX this process becomes JupyterLab and never returns).

    Raises:
        WorkspaceError: the copies cannot be written.
    """
    from course.teach import student
    from course.teach.workspace import default_workspace

    root = (workspace or default_workspace()).resolve()
    first_time = not root.exists()
    if code := student.make_copies(root):
        print("Some copies could not be written (see above); the others are there.", flush=True)
        if not any(root.glob("*.ipynb")):
            return code
    greet = first_time and (root / FIRST_NOTEBOOK).exists()
    page = f"/lab/tree/{FIRST_NOTEBOOK}" if greet else "/lab"
    print(f"JupyterLab opens on {root}; stop it with Control-C.", flush=True)
    command = [sys.executable, "-m", "jupyterlab", *arguments(root, browser, port, page)]
    environment = private_settings(root / ".course" / "jupyter")
    if os.name == "posix":  # so that whoever stops this process stops the server
        os.execve(command[0], command, environment)
    return subprocess.run(command, env=environment).returncode


def arguments(root: Path, browser: bool, port: int, page: str = "/lab") -> list[str]:
    """Command-line options of JupyterLab, which win over any configuration file."""
    options = [
        f"--ServerApp.root_dir={root}",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        f"--LabApp.default_url={page}",
        "--Application.log_level=WARN",  # still prints the address
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.extension_manager=readonly",  # the other one asks the package index
    ]
    if not browser:
        options.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # containers
        options.append("--allow-root")
    return options


def private_settings(folder: Path) -> dict[str, str]:
    """Write Jupyter's settings for the course into `folder`; the user's own are not touched.

    Returns:
        The environment for a Jupyter that reads and writes its settings there: nbgrader's
        extensions, which are for instructors, are off, and an empty token is dropped.
    """
    _write_json(
        folder / "jupyter_server_config.d" / "course.json",
        {"ServerApp": {"jpserver_extensions": dict.fromkeys(SERVER_EXTENSIONS_OFF, False)}},
    )
    _write_json(
        folder / "labconfig" / "page_config.json",
        {"disabledExtensions": dict.fromkeys(LAB_EXTENSIONS_OFF, True)},
    )
    environment = dict(os.environ)
    environment["JUPYTER_CONFIG_DIR"] = environment["JUPYTER_CONFIG_PATH"] = str(folder)
    if not environment.get("JUPYTER_TOKEN"):
        environment.pop("JUPYTER_TOKEN", None)
    return environment


def _write_json(path: Path, content: dict) -> None:
    from course.files import replace_file

    data = (json.dumps(content, indent=2) + "\n").encode()
    if not path.exists() or path.read_bytes() != data:
        replace_file(path, data)
