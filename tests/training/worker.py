"""What each of several processes does in `test_processes.py`: worker.py FOLDER."""

import copy
import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from course.models.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig
from course.training.autoencoder import kl_objective
from course.training.fit import Settings, fit, whole_batch
from course.training.processes import parting

SETTINGS = Settings(
    steps=8, batch_size=12, learning_rate=0.02, warmup=3, ema_decay=0.9, seed=7, weight_decay=0.1
)


def network(rate=0.0):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Dropout(rate), nn.Linear(8, 2))


def normalised():
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))


def autoencoder():
    torch.manual_seed(0)
    return AutoencoderKL(AutoencoderKLConfig(block_out_channels=(4, 6), norm_num_groups=2))


def objective(model, streams):
    x = torch.from_numpy(np.stack([s.standard_normal(3, np.float32) for s in streams]))
    return (model(x) - x[:, :2].sin()).square().mean()


def changed(**fields):
    return Settings(**{**vars(SETTINGS), **fields})


class Recorder:
    """The objective; it keeps what each sample drew, and does something at one of its calls."""

    def __init__(self, at=None, then=None):
        self.drawn, self.at, self.then = [], at, then

    def __call__(self, model, streams):
        self.drawn.append([s.standard_normal() for s in copy.deepcopy(streams)])
        loss = objective(model, streams)
        return self.then(loss) if len(self.drawn) - 1 == self.at else loss


def interrupt(loss):
    os.kill(os.getpid(), signal.SIGINT)
    return loss


def full(*_):
    raise OSError(28, "No space left on device")


def main(folder):
    rank = int(os.environ["RANK"])
    mine = folder / f"rank{rank}"  # another one for each, as on machines that share no disk
    tensors, said = {}, {}

    def train(name, model, objective=objective, settings=SETTINGS, **options):
        try:
            fitted = fit(model, objective, settings, **options)
        except (ValueError, FloatingPointError, KeyboardInterrupt) as error:
            said[name] = f"{type(error).__name__}: {error}"
            return
        said[name] = {"losses": fitted.losses.tolist()}
        for part, network in {"model": fitted.model, "ema": fitted.ema}.items():
            tensors.update({f"{name}.{part}.{k}": v for k, v in network.state_dict().items()})

    recorder = Recorder()
    path = mine / "state.safetensors"
    log = {"log": mine / "log.jsonl", "log_every": 2}
    seen = []
    train("plain", network(), recorder, watch=lambda *_: seen.append(1), **log)
    said["drawn"], said["watched"] = recorder.drawn, len(seen)
    said["count"] = torch.distributed.get_world_size()
    train("dropout", network(0.3))
    train("parts", network(0.3), settings=changed(gradient_accumulation_steps=3))
    train("autoencoder", autoencoder(), kl_objective(config=autoencoder().config))
    train("stopped", network(0.3), path=path, max_seconds=0 if rank == 1 else None)
    train("resumed", network(0.3), path=path, resume=True)
    wrong = Recorder(3, lambda loss: loss * (float("nan") if rank == 1 else 1))
    train("nan", network(), wrong)
    kept = mine / "interrupted.safetensors"
    train("interrupted", network(), Recorder(2, interrupt if rank == 1 else abs), path=kept)
    train("batch", network(), settings=changed(batch_size=9))
    train("whole", network(), whole_batch(Recorder()))
    train("normalised", normalised())
    fsync, os.fsync = os.fsync, full if rank == 0 else os.fsync
    train("full", network(), path=mine / "full.safetensors")
    os.fsync = fsync
    try:
        with parting(FloatingPointError):
            fit(network(), Recorder(3, lambda loss: loss * float("nan")), SETTINGS, progress=False)
    except FloatingPointError:  # while the error is there, so is what its traceback refers to
        names = (Path(f"/proc/self/task/{task}/comm") for task in os.listdir("/proc/self/task"))
        said["threads"] = [name.read_text() for name in names]
    save_file(tensors, folder / f"{rank}.safetensors")
    (folder / f"{rank}.json").write_text(json.dumps(said))


if __name__ == "__main__":
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is ignored
    main(Path(sys.argv[1]))
