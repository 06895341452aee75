"""Weights in the layout that the processor computes with, for as long as they stay the same.

Torch keeps weights as rows of numbers and, in every call, has oneDNN rearrange them into the blocks
that its kernels want. For small pictures that costs more than the convolution itself. Whoever calls
a network many times, as a sampler does, can have it done once. Pictures then keep the channels of a
pixel together in memory, all the way: packed convolutions hand them on so, and tokens are a view.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from course.models.transformer import GEGLU

# Numbers that go into a linear layer x width that comes out: below this many, calling a packed
# kernel costs more than it saves (measured, 64-bit x86, 1 and 2 threads).
LINEAR_PRODUCTS = 2**22


@contextmanager
def packed_weights(model: nn.Module) -> Iterator[None]:
    """While open, linear layers and 2-D convolutions keep a packed copy of their weights.

    The copies are made in a layer's first call, take as much memory as the weights, and are dropped
    at the end. Weights must not change meanwhile. Results differ by rounding, and those of
    convolutions have channels last in memory. The two halves of a GEGLU are computed with what
    follows them, so that gates and values pass through memory once. Calls that need a
    gradient or are too small to gain, other devices than the CPU and other types than float32 are
    computed as ever, and so is everything where torch was built without oneDNN.
    """
    added = []
    if torch.backends.mkldnn.is_available():
        for module in model.modules():
            known = type(module) in _PACKERS and "forward" not in vars(module)
            if known and _can_be_packed(module):
                module.forward = _Packed(module, *_PACKERS[type(module)])
                added.append(module)
    try:
        yield
    finally:
        for module in added:
            del module.forward


class _Packed:
    """The forward of a layer, with its weights packed in the first call."""

    def __init__(
        self,
        module: nn.Module,
        pack: Callable[..., Callable[[Tensor], Tensor]],
        gains: Callable[..., bool],
    ):
        self.plain, self.pack, self.gains, self.module = module.forward, pack, gains, module
        self.run: Callable[[Tensor], Tensor] | None = None

    def __call__(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() or x.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
            return self.plain(x)
        if not self.gains(self.module, x):
            return self.plain(x)
        if self.run is None:
            self.run = self.pack(self.module, x)
        return self.run(x)


def _can_be_packed(module: nn.Module) -> bool:
    weight = (module.proj if isinstance(module, GEGLU) else module).weight
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


def _pack_geglu(geglu: GEGLU, x: Tensor) -> Callable[[Tensor], Tensor]:
    tokens = x.numel() // geglu.proj.in_features
    value_bias, gate_bias = geglu.proj.bias.detach().chunk(2)
    value, gate = (
        torch.ops.mkldnn._reorder_linear_weight(half.contiguous(), tokens)
        for half in geglu.proj.weight.detach().chunk(2)
    )

    def run(x: Tensor) -> Tensor:
        gates = torch.ops.mkldnn._linear_pointwise(x, gate, gate_bias, "gelu", [], "none")
        return torch.ops.mkldnn._linear_pointwise.binary(x, gates, value, value_bias, "mul")

    return run


def _linear_gains(linear: nn.Linear, x: Tensor) -> bool:
    return x.numel() * linear.out_features >= LINEAR_PRODUCTS


_PACKERS = {
    nn.Conv2d: (_pack_conv2d, lambda conv, x: True),
    nn.Linear: (_pack_linear, _linear_gains),
    GEGLU: (_pack_geglu, lambda geglu, x: _linear_gains(geglu.proj, x)),
}
