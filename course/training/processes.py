"""The processes that train together: which samples each draws, who writes, what they agree on."""

import gc
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from course.training.settings import PRECISIONS, Settings, SetupError

if TYPE_CHECKING:
    from accelerate import PartialState

T = TypeVar("T")


def is_main() -> bool:
    """Whether this process is the one that writes and prints; `torchrun` numbers them."""
    return int(os.environ.get("RANK", 0)) == 0


def join(cpu: bool) -> "PartialState":
    """What accelerate knows of this process: its device, its number, how many there are.

    One process that is alone starts afresh: accelerate would keep the device and the precision of
    the training before.
    """
    from accelerate import PartialState
    from accelerate.state import AcceleratorState

    if "RANK" in os.environ:
        # Imported later, as DDP does, its defaults would refer to the group and keep it for ever.
        from torch.distributed.nn import functional  # noqa: F401
    alone = not torch.distributed.is_initialized()
    AcceleratorState._reset_state(reset_partial_state=alone)
    return PartialState(cpu=cpu)


@contextmanager
def parting(*agreed: type[BaseException]) -> Iterator[None]:
    """At its end all processes wait for one another, then part; alone, it does nothing.

    Args:
        agreed: what all of them raise; after anything else nobody is waited for.
    """
    error = None
    try:
        yield
    except agreed as raised:
        error = raised
        traceback.clear_frames(raised.__traceback__)  # their variables hold the model
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        group = torch.distributed.group.WORLD
        torch.distributed.destroy_process_group()
        # Its threads abort a Python that ends before them. They end with the last reference to it,
        # which must be this one: DDP, which has another, would not let go of the GIL meanwhile.
        gc.collect()
        del group
    if error is not None:
        raise error


class Processes:
    """Those that train one model together, most often one alone; accelerate is underneath.

    A batch is cut into `count * gradient_accumulation_steps` equal parts, by the numbers of its
    samples; process i computes those from `i * gradient_accumulation_steps` on. So what a part is,
    and what its layers draw, depends on how many there are and not on who computes them.

    Args:
        device: of the model.
        settings: of the training.

    Raises:
        SetupError: float16 on the CPU, or a batch that can't be cut into so many equal parts.
    """

    def __init__(self, device: torch.device, settings: Settings):
        if settings.precision == "float16" and device.type == "cpu":
            raise SetupError(
                "precision: expected float32 or bfloat16 on the CPU, came float16: it needs a GPU"
            )
        from accelerate import Accelerator
        from accelerate.utils import GradientAccumulationPlugin

        join(cpu=device.type == "cpu")
        each = settings.gradient_accumulation_steps
        self.accelerator = Accelerator(
            cpu=device.type == "cpu",
            mixed_precision=PRECISIONS[settings.precision],
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=each),
        )
        self.device = device
        self.settings = settings
        self.count = self.accelerator.num_processes
        self.is_main = self.accelerator.is_main_process
        first = self.accelerator.process_index * each
        self.parts = range(first, first + each)
        if settings.batch_size % (self.count * each):
            raise SetupError(
                f"batch_size: expected a multiple of {self.count * each}, which is {self.count} "
                f"processes times {each} gradient_accumulation_steps, came {settings.batch_size}"
            )

    def share(self, part: int) -> range:
        """The samples of a part, by their numbers in the batch."""
        size = self.settings.batch_size // (self.count * len(self.parts))
        return range(part * size, (part + 1) * size)

    def check(self, model: nn.Module, whole_batch: bool) -> None:
        """Refuse to cut a batch whose samples see one another.

        Raises:
            SetupError: there are several parts, and the objective needs the whole batch, or a batch
                normalisation in the model does.
        """
        if self.count * len(self.parts) == 1:
            return
        normalises = any(isinstance(module, _BatchNorm) for module in model.modules())
        if whole_batch or normalises:
            who = "the objective" if whole_batch else "batch normalisation"
            raise SetupError(
                f"processes, gradient_accumulation_steps: expected 1 and 1, as {who} needs a whole "
                f"batch, came {self.count} and {len(self.parts)}"
            )

    def prepare(self, model: nn.Module) -> nn.Module:
        """The model as the objective is to call it: its gradients are the mean of all processes."""
        called = model
        if self.count > 1:
            ids = [self.device.index] if self.device.type == "cuda" else None
            called = nn.parallel.DistributedDataParallel(called, device_ids=ids)
        return torch.compile(called) if self.settings.compile else called

    def exchange(self, called: nn.Module, part: int) -> AbstractContextManager[Any]:
        """While in it, gradients stay in this process, until those of its last part are there."""
        return nullcontext() if part == self.parts[-1] else self.accelerator.no_sync(called)

    def agree(self, loss: float, *wishes: bool) -> tuple[float, ...]:
        """The mean loss of all processes, and of each wish whether one of them has it."""
        if self.count == 1:
            return loss, *wishes
        votes = torch.tensor([loss, *wishes], dtype=torch.float64, device=self.device)
        mean, *shares = self.accelerator.reduce(votes, "mean").tolist()
        return mean, *(share > 0 for share in shares)

    def from_main(self, task: Callable[[], T]) -> T:
        """What the main process gets from `task`; if it raises an error, all of them do."""
        if self.count == 1:
            return task()
        from accelerate.utils import broadcast_object_list

        result = error = None
        if self.is_main:
            try:
                result = task()
            except Exception as raised:
                error = raised
        result, error = broadcast_object_list([result, error])
        if error is not None:
            raise error
        return result
