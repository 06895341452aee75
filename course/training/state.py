"""All that a training is between two steps: what a checkpoint holds."""

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from course.training import checkpoint
from course.training.checkpoint import CheckpointError
from course.training.settings import Settings


@dataclass
class State:
    """The state of a training.

    Attributes:
        model: in train mode.
        ema: the same network with the moving average of the weights.
        optimizer: of the parameters of the model, in their order.
        scaler: of float16's gradients, or None.
        losses: of every step done.
        runs: what earlier runs had to say.
    """

    model: nn.Module
    ema: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler | None = None
    losses: list[float] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def begin(
        cls, model: nn.Module, settings: Settings, scaler: torch.amp.GradScaler | None
    ) -> "State":
        """The state before the first step."""
        model.train()
        if settings.channels_last:
            model.to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(
            model.parameters(),
            lr=settings.learning_rate,
            betas=(0.9, settings.beta2),
            weight_decay=settings.weight_decay,
            fused=True,
        )
        return cls(model, copy.deepcopy(model).eval().requires_grad_(False), optimizer, scaler)

    def save(self, path: Path, facts: dict[str, Any], runs: list[dict[str, Any]]) -> None:
        """Write a checkpoint; see `checkpoint.save`."""
        if self.scaler is not None:
            facts = {**facts, "scaler": self.scaler.state_dict()}
        checkpoint.save(path, self.tensors(), {**facts, "runs": runs})

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by name; those of the optimizer are numbered as the parameters are."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"ema.{name}": value for name, value in self.ema.state_dict().items()}
        for number, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{name}": value for name, value in moments.items()}
        return tensors | {"losses": torch.tensor(self.losses, dtype=torch.float64)}

    def restore(
        self,
        path: Path,
        facts: dict[str, Any],
        tensors: dict[str, Tensor],
        stored: dict[str, Any],
    ) -> None:
        """Go back to a checkpoint.

        Args:
            path: of the checkpoint, to name it.
            facts: what it must be of.
            tensors: that it holds.
            stored: the facts that it holds.

        Raises:
            CheckpointError: it is of other facts or of another model.
        """
        for name, want in facts.items():
            came = stored.get(name)
            if name == "settings" and came is not None:
                came = Settings.complete(came)
            if came != want:
                raise CheckpointError(
                    f"{path}: expected a checkpoint of {name} = {want}, came {came}. "
                    "Move it away, or train without resuming"
                )
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "ema": {}, "optimizer": {}}
        for name, value in tensors.items():
            part, _, rest = name.partition(".")
            parts.setdefault(part, {})[rest] = value
        try:
            self.model.load_state_dict(parts["model"])
            self.ema.load_state_dict(parts["ema"])
        except RuntimeError as error:
            raise CheckpointError(
                f"{path}: expected a checkpoint of this model: {error}"
            ) from error
        self.optimizer.load_state_dict(
            {**self.optimizer.state_dict(), "state": self._moments(parts["optimizer"])}
        )
        if self.scaler is not None:
            self.scaler.load_state_dict(stored["scaler"])
        self.losses = tensors["losses"].tolist()
        self.runs = stored["runs"]

    def _moments(self, tensors: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
        parameters = list(self.model.parameters())
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            number, _, kind = name.partition(".")
            parameter = parameters[int(number)]
            # A fused update takes for granted that they lie in memory as the weights do.
            if value.shape == parameter.shape:
                value = torch.empty_like(parameter, requires_grad=False).copy_(value)
            moments.setdefault(int(number), {})[kind] = value
        return moments


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the weights of `average` towards those of `model`: decay * old + (1 - decay) * new.

    Buffers, as the means of a batch normalisation, move as well; whole numbers are copied.
    """
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
    for old, new in zip(average.buffers(), model.buffers(), strict=True):
        old.lerp_(new, 1 - decay) if old.is_floating_point() else old.copy_(new)
