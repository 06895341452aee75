"""Weights in the layout that the processor computes with, for as long as they stay the same.

Torch keeps weights as rows of numbers and, in every call, has oneDNN rearrange them into the blocks
that its kernels want. For small pictures that costs more than the convolution itself. Whoever calls
a network many times, as a sampler does, can have it done once.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def packed_weights(model: nn.Module) -> Iterator[None]:
    """While open, linear layers and 2-D convolutions keep a packed copy of their weights.

    The copies are made in a layer's first call, take as much memory as the weights, and are dropped
    at the end. Weights must not change meanwhile. Results differ by rounding. Calls that need a
    gradient, other devices than the CPU and other types than float32 are computed as ever, and so
    is everything where torch was built without oneDNN.
    """
    added = []
    if torch.backends.mkldnn.is_available():
        for module in model.modules():
            pack = _PACKERS.get(type(module))
            if pack is not None and "forward" not in vars(module) and _can_be_packed(module):
                module.forward = _Packed(module, pack)
                added.append(module)
    try:
        yield
    finally:
        for module in added:
            del module.forward


class _Packed:
    """The forward of a layer, with its weights packed in the first call."""

    def __init__(self, module: nn.Module, pack: Callable[..., Callable[[Tensor], Tensor]]):
        self.plain, self.pack, self.module = module.forward, pack, module
        self.run: Callable[[Tensor], Tensor] | None = None

    def __call__(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() or x.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
            return self.plain(x)
        if self.run is None:
            self.run = self.pack(self.module, x)
        return self.run(x)


def _can_be_packed(module: nn.Module) -> bool:
    weight = module.weight
    plain = getattr(module, "padding_mode", "zeros") == "zeros"
    sides = not isinstance(getattr(module, "padding", None), str)
    return plain and sides and weight.device.type == "cpu" and weight.dtype == torch.float32


def _pack_conv2d(conv: nn.Conv2d, x: Tensor) -> Callable[[Tensor], Tensor]:
    geometry = (conv.padding, conv.stride, conv.dilation, conv.groups)
    weight = torch._C._nn.mkldnn_reorder_conv2d_weight(
        conv.weight.detach().to_mkldnn(), *geometry, list(x.shape)
    )
    return lambda x: torch.ops.mkldnn._convolution_pointwise(
        x, weight, conv.bias, *geometry, "none", [], ""
    )


def _pack_linear(linear: nn.Linear, x: Tensor) -> Callable[[Tensor], Tensor]:
    weight = torch.ops.mkldnn._reorder_linear_weight(
        linear.weight.detach(), x.numel() // linear.in_features
    )
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, weight, linear.bias, "none", [], "")


_PACKERS = {nn.Conv2d: _pack_conv2d, nn.Linear: _pack_linear}
