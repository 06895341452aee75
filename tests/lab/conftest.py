"""An IPython shell in this process, and what is displayed in it."""

import matplotlib
import pytest
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config


@pytest.fixture
def shown(tmp_path, monkeypatch):
    """The list that grows by a dict (data, metadata, transient, update) for each display."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(config=Config(HistoryManager={"enabled": False}))
    shell.display_pub = CapturingDisplayPublisher()
    yield shell.display_pub.outputs
    InteractiveShell.clear_instance()


@pytest.fixture(autouse=True)
def _own_style():
    with matplotlib.rc_context():
        yield
