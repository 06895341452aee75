"""How to train: the numbers that decide the result, checked."""

import math
from dataclasses import MISSING, dataclass, fields
from typing import Any

# By our names, what accelerate calls them.
PRECISIONS = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}


class SetupError(ValueError):
    """A training can't be run in this way, or not on this machine."""


@dataclass(frozen=True)
class Settings:
    """How to train; all that decides the result, with model, objective and number of threads.

    Attributes:
        steps: updates of the weights.
        batch_size: samples per update, in all processes together.
        learning_rate: of AdamW at its highest: it rises linearly, then falls as a cosine to 0.
        warmup: updates in which it rises.
        weight_decay: of AdamW.
        beta2: of AdamW: what its mean of squared gradients keeps in each update.
        ema_decay: of the moving average of the weights, when warm.
        clip_norm: largest norm of the gradient.
        seed: of everything random.
        precision: "float32", or "bfloat16" or "float16" for what autocast computes with half the
            bits, as convolutions and matrix products; weights, averages and updates stay float32.
            float16 needs a GPU; its gradients are scaled, and an update that overflows is left out.
        gradient_accumulation_steps: parts that each process computes one after the other, for less
            memory; their gradients are averaged, and the update is the same up to rounding.
        compile: run the model through `torch.compile`.
        channels_last: keep the weights of convolutions as the tensor cores of GPUs read them.
        workers: processes that draw batches ahead; they change nothing but the speed.

    Raises:
        ValueError: a number is out of its range, or there is no such precision.
    """

    steps: int
    batch_size: int
    learning_rate: float | int = 1e-3
    warmup: int = 100
    weight_decay: float | int = 0.0
    beta2: float | int = 0.999
    ema_decay: float | int = 0.999
    clip_norm: float | int = 1.0
    seed: int = 0
    precision: str = "float32"
    gradient_accumulation_steps: int = 1
    compile: bool = False
    channels_last: bool = False
    workers: int = 0

    def __post_init__(self) -> None:
        lowest = {"steps": 1, "batch_size": 1, "warmup": 0, "seed": 0, "workers": 0}
        for name, low in {**lowest, "gradient_accumulation_steps": 1}.items():
            if getattr(self, name) < low:
                raise ValueError(f"{name}: expected at least {low}, came {getattr(self, name)}")
        for name in ("learning_rate", "clip_norm"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name}: expected a number above 0, came {getattr(self, name)}")
        for name in ("ema_decay", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}: expected from 0 to below 1, came {getattr(self, name)}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay: expected 0 or more, came {self.weight_decay}")
        if self.precision not in PRECISIONS:
            raise ValueError(
                f"precision: expected one of {tuple(PRECISIONS)}, came {self.precision!r}"
            )

    def rate(self, step: int) -> float:
        """Learning rate of an update, 0..steps - 1."""
        rise = (step + 1) / (self.warmup + 1)
        return self.learning_rate * (min(rise, 1) * (1 + math.cos(math.pi * step / self.steps)) / 2)

    @staticmethod
    def complete(stored: dict[str, Any]) -> dict[str, Any]:
        """Settings that were stored, with the defaults of fields that are younger than they."""
        defaults = {f.name: f.default for f in fields(Settings) if f.default is not MISSING}
        return defaults | stored
