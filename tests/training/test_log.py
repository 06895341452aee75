"""The log has each step once, whatever happens, and says what was."""

import json

import numpy as np
import pytest
import torch
import worker

from course.training.fit import fit
from course.training.log import FIELDS, Log, LogError, read_log


def write(log, *steps):
    for step in steps:
        log.write(step, 1 / (step + 1), 0.5, torch.tensor(3.0), 0.25 * (step + 1))


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "new" / "log.jsonl"
    log = Log(path, batch_size=6)
    log.open(0, 0.0)
    write(log, 1, 3)
    log.write(4, 0.125, 0.25, torch.tensor(float("inf")), 1.75)
    assert path.read_text().count("\n") == 3  # before it is closed
    columns = read_log(path)
    assert tuple(columns) == FIELDS
    assert columns["step"].tolist() == [1, 3, 4]
    assert columns["loss"].tolist() == [0.5, 0.25, 0.125]
    assert columns["learning_rate"].tolist() == [0.5, 0.5, 0.25]
    np.testing.assert_array_equal(columns["gradient_norm"], [3, 3, np.nan])
    assert columns["seconds"].tolist() == [0.5, 1.0, 1.75]
    assert columns["samples_per_second"].tolist() == [2 * 6 / 0.5, 2 * 6 / 0.5, 6 / 0.75]


def test_lines_from_the_step_on_are_removed(tmp_path):
    path = tmp_path / "log.jsonl"
    log = Log(path, 6)
    log.open(0, 0.0)
    write(log, 0, 1, 2, 3)
    with path.open("a") as file:
        file.write('{"step": 4, "lo')  # killed while writing
    assert read_log(path)["step"].tolist() == [0, 1, 2, 3]
    again = Log(path, 6)
    again.open(2, 0.5)
    assert read_log(path)["step"].tolist() == [0, 1]
    write(again, 2, 3, 4)
    assert read_log(path)["step"].tolist() == [0, 1, 2, 3, 4]
    assert read_log(path)["samples_per_second"].tolist() == [24] * 5
    Log(path, 6).open(0, 0.0)
    assert path.read_text() == ""


def test_a_training_writes_it(tmp_path):
    path = tmp_path / "log.jsonl"
    norms = []

    def objective(model, streams):
        loss = worker.objective(model, streams)
        grads = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
        norms.append(torch.cat([g.flatten() for g in grads]).norm().item())
        return loss

    settings = worker.changed(steps=7)
    fitted = fit(worker.network(), objective, settings, log=path, log_every=3, progress=False)
    columns = read_log(path)
    assert columns["step"].tolist() == [2, 5, 6]
    spans = (slice(0, 3), slice(3, 6), slice(6, 7))
    np.testing.assert_allclose(columns["loss"], [fitted.losses[span].mean() for span in spans])
    np.testing.assert_allclose(columns["gradient_norm"], np.array(norms)[[2, 5, 6]], rtol=1e-5)
    assert columns["learning_rate"].tolist() == [settings.rate(step) for step in (2, 5, 6)]
    assert (np.diff(columns["seconds"]) >= 0).all()
    assert (columns["samples_per_second"] > 0).all()


def test_a_resumed_training_goes_on_with_it(tmp_path):
    """It is stopped at every step, so that lines and checkpoints never fall together."""
    options = {"log_every": 3, "progress": False}
    fit(worker.network(0.3), worker.objective, worker.SETTINGS, log=tmp_path / "whole", **options)
    path, log = tmp_path / "state.safetensors", tmp_path / "log"
    for _ in range(worker.SETTINGS.steps):
        fit(
            worker.network(0.3), worker.objective, worker.SETTINGS, path=path, resume=True,
            max_seconds=0, log=log, **options,
        )  # fmt: skip
    want, got = read_log(tmp_path / "whole"), read_log(log)
    for name in ("step", "loss", "learning_rate", "gradient_norm"):
        np.testing.assert_array_equal(got[name], want[name])
    assert (np.diff(got["seconds"]) > 0).all()


LINE = dict.fromkeys(FIELDS, 0)


@pytest.mark.parametrize(
    "lines",
    [
        ["{"],
        ["[1, 2]"],
        [json.dumps({**LINE, "loss": "low"})],
        [json.dumps({name: 0 for name in FIELDS if name != "seconds"})],
        [json.dumps({**LINE, "step": 0.5})],
        [json.dumps(LINE), json.dumps(LINE)],
        [json.dumps({**LINE, "step": 3}), json.dumps({**LINE, "step": 2})],
    ],
)
def test_a_malformed_line_is_named(tmp_path, lines):
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join([*lines, json.dumps({**LINE, "step": 9})]) + "\n")
    with pytest.raises(LogError, match=rf"log\.jsonl, line {len(lines)}: expected step, loss, "):
        read_log(path)
    with pytest.raises(LogError, match=r"log\.jsonl, line"):
        Log(path, 3).open(5, 0.0)


def test_a_missing_or_empty_one_is_named(tmp_path):
    path = tmp_path / "log.jsonl"
    with pytest.raises(LogError, match=r"log\.jsonl: expected a log, there is no such file"):
        read_log(path)
    for content in (b"", b'{"step": 0'):
        path.write_bytes(content)
        with pytest.raises(LogError, match="came none of its lines"):
            read_log(path)
    path.write_bytes(b"\xff\xfe\n")
    with pytest.raises(LogError, match="expected a log, came"):
        read_log(path)
    with pytest.raises(LogError, match="expected a log, came"):
        read_log(tmp_path)
