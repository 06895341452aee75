"""Chains of layers along one axis, and exactly which inputs each output sees.

Positions are counted from 0.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Window:
    """Along one axis: output i sees inputs i * stride - padding + dilation * u, for u < kernel.

    A convolution or a pool. `Window(2, 2)` is a pool of two.

    Attributes:
        kernel: taps.
        stride: inputs from one output to the next.
        padding: zeros at either end.
        dilation: inputs from one tap to the next.
    """

    kernel: int = 1
    stride: int = 1
    padding: int = 0
    dilation: int = 1

    def __post_init__(self) -> None:
        _at_least(self, kernel=1, stride=1, padding=0, dilation=1)

    def sees(self, i: int) -> range:
        """Inputs of output i, of an axis without end."""
        first = i * self.stride - self.padding
        return range(first, first + self.dilation * self.kernel, self.dilation)

    def length(self, n: int) -> int:
        """Outputs of n inputs; below 1 if no window fits."""
        return (n + 2 * self.padding - self.dilation * (self.kernel - 1) - 1) // self.stride + 1


@dataclass(frozen=True)
class Stamp:
    """Along one axis: input j reaches outputs j * stride - padding + dilation * u, for u < kernel.

    A transposed convolution. `Stamp(2, 2)` is upsampling by two: every pixel, twice.

    Attributes:
        kernel: taps.
        stride: outputs from one input to the next.
        padding: outputs cut off at either end.
        dilation: outputs from one tap to the next.
        output_padding: outputs more at the far end.
    """

    kernel: int = 2
    stride: int = 2
    padding: int = 0
    dilation: int = 1
    output_padding: int = 0

    def __post_init__(self) -> None:
        _at_least(self, kernel=1, stride=1, padding=0, dilation=1, output_padding=0)

    def sees(self, i: int) -> list[int]:
        """Inputs of output i, of an axis without end: none, where no stamp falls."""
        taps = range(0, self.dilation * self.kernel, self.dilation)
        starts = (i + self.padding - u for u in taps)
        return [start // self.stride for start in starts if start % self.stride == 0]

    def length(self, n: int) -> int:
        """Outputs of n inputs."""
        reach = (n - 1) * self.stride + self.dilation * (self.kernel - 1) + 1
        return reach - 2 * self.padding + self.output_padding


Layer = Window | Stamp


@dataclass(frozen=True)
class Theory:
    """What each output of a chain of layers sees, along one axis.

    Attributes:
        layers: first to last.
    """

    layers: tuple[Layer, ...]

    def lengths(self, length: int) -> list[int]:
        """Positions before the first layer, after it, after the second ...

        Raises:
            ValueError: a window is too large for what is left.
        """
        lengths = [length]
        for k, layer in enumerate(self.layers):
            lengths.append(layer.length(lengths[-1]))
            if lengths[-1] < 1:
                raise ValueError(
                    f"length: expected an input large enough for layer {k}, {layer}, "
                    f"came {length}, of which {lengths[-2]} positions are left there"
                )
        return lengths

    def inputs(self, at: int, length: int | None = None) -> frozenset[int]:
        """The positions that output `at` sees, with their holes.

        Args:
            at: position of the output.
            length: of the input; padding, there and between the layers, then is no input. Without
                it the axis has no ends.

        Raises:
            ValueError: `at` is no output, or the input is too small.
        """
        lengths: list[int | None] = [None] * (len(self.layers) + 1)
        if length is not None:
            lengths = self.lengths(length)
            if not 0 <= at < lengths[-1]:
                raise ValueError(f"at: expected an output from 0 to {lengths[-1] - 1}, came {at}")
        seen = {at}
        for layer, n in zip(self.layers[::-1], lengths[-2::-1], strict=True):
            seen = {j for i in seen for j in layer.sees(i) if n is None or 0 <= j < n}
        return frozenset(seen)

    def recurrence(self) -> list[tuple[int, int, int]]:
        """(size, jump, start) after each layer: output i sees `size` inputs from start + i * jump.

        size grows by dilation * (kernel - 1) * jump, start falls by padding * jump, jump is
        multiplied by the stride. `size` is the extent, holes included.

        Raises:
            ValueError: there is a `Stamp`: then different outputs have fields of different sizes.
        """
        size, jump, start = 1, 1, 0
        steps = []
        for k, layer in enumerate(self.layers):
            if isinstance(layer, Stamp):
                raise ValueError(f"layers: expected windows only, came {layer} as layer {k}")
            size += layer.dilation * (layer.kernel - 1) * jump
            start -= layer.padding * jump
            jump *= layer.stride
            steps.append((size, jump, start))
        return steps

    def size(self, at: int = 0) -> int:
        """Extent of what output `at` sees on an axis without end, holes included."""
        seen = self.inputs(at)
        return max(seen) - min(seen) + 1 if seen else 0


def theoretical(layers: nn.Module | Sequence[Layer | nn.Module], axis: int = 0) -> Theory:
    """The field of a chain of layers along one axis, exactly.

    Args:
        layers: `Window`, `Stamp`, or modules of torch: convolutions, pools, nearest upsampling,
            `nn.Sequential` of them; what works on each position by itself is passed over.
        axis: spatial axis of the modules: 0 is the height of pictures, 1 the width.

    Raises:
        ValueError: a layer is none of these, or sees more than a window, as GroupNorm does.

    Source: lecture 000, equations 21 and 23; Dumoulin & Visin 2016; Araujo et al. 2019.
    """
    chain = [layers] if isinstance(layers, nn.Module) else list(layers)
    return Theory(tuple(found for k, layer in enumerate(chain) for found in _along(layer, axis, k)))


def _along(layer: Any, axis: int, k: int) -> Iterator[Layer]:
    """What a layer of a chain is along one axis: nothing, if it works position by position."""
    if isinstance(layer, Layer):
        yield layer
    elif isinstance(layer, nn.Sequential):
        for part in layer:
            yield from _along(part, axis, k)
    elif isinstance(layer, _CONVOLUTIONS + _POOLS):
        yield _window(layer, axis, k)
    elif isinstance(layer, _TRANSPOSED):
        names = ("kernel_size", "stride", "padding", "dilation", "output_padding")
        yield Stamp(*(_of(getattr(layer, name), axis) for name in names))
    elif isinstance(layer, nn.Upsample) and layer.mode == "nearest" and layer.scale_factor:
        factor = _of(layer.scale_factor, axis)
        if factor != int(factor):
            raise ValueError(f"layers: expected an integer scale_factor in layer {k}, came {layer}")
        yield Stamp(int(factor), int(factor))
    elif not (isinstance(layer, _POINTWISE) or _looks_up_statistics(layer)):
        raise ValueError(
            "layers: expected convolutions, pools, nearest upsampling and what works on each "
            f"position by itself, came {layer!r} as layer {k}"
        )


def _looks_up_statistics(layer: Any) -> bool:
    """Whether it is a batch norm that averages nothing, because it has been trained."""
    return isinstance(layer, _BATCH) and not layer.training and layer.running_mean is not None


def _window(layer: nn.Module, axis: int, k: int) -> Window:
    padding, dilation = layer.padding, _of(getattr(layer, "dilation", 1), axis)
    kernel, stride = _of(layer.kernel_size, axis), _of(layer.stride, axis)
    if getattr(layer, "padding_mode", "zeros") != "zeros" or getattr(layer, "ceil_mode", False):
        raise ValueError(
            f"layers: expected zeros as padding and sizes rounded down in layer {k}, came {layer}"
        )
    if padding == "same":
        if dilation * (kernel - 1) % 2:
            raise ValueError(f"layers: expected equal padding on both sides, came {layer}")
        padding = dilation * (kernel - 1) // 2
    return Window(kernel, stride, 0 if padding == "valid" else _of(padding, axis), dilation)


def _of(value: Any, axis: int) -> Any:
    return value[axis] if isinstance(value, tuple) else value


def _at_least(layer: Layer, **lows: int) -> None:
    for name, low in lows.items():
        if getattr(layer, name) < low:
            raise ValueError(f"{name}: expected at least {low}, came {getattr(layer, name)}")


_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_POOLS = (
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
)
_BATCH = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_POINTWISE = (
    *(nn.Identity, nn.Dropout, nn.Dropout2d, nn.Sigmoid, nn.Tanh, nn.Softplus),
    *(nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish),
)
