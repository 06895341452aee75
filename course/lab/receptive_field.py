"""Which inputs can an output see? In theory, layer by layer, and by what a network does.

`theoretical` follows windows through a chain of layers and gives exact sets of positions;
`footprint` asks any network, by its gradient; `effective` asks how much each of them counts.
Positions are counted from 0.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from course.lab.reach import Reach
from course.lab.windows import Stamp, Theory, Window, theoretical

__all__ = [
    "Effective",
    "Footprint",
    "Stamp",
    "Theory",
    "Window",
    "effective",
    "footprint",
    "r_pure",
    "r_unet",
    "theoretical",
]


def r_pure(layers: int, kernel: int = 3) -> int:
    """Field of stacked convolutions of stride 1.

    Raises:
        ValueError: there are fewer layers than none, or the kernel is below 1.

    Source: lecture 000, equation 21.
    """
    if layers < 0 or kernel < 1:
        raise ValueError(f"layers, kernel: expected at least 0 and 1, came {layers} and {kernel}")
    return 1 + (kernel - 1) * layers


def r_unet(convs: Sequence[int], kernel: int = 3, down_kernel: int = 1) -> int:
    """Field of the descending path of a U-Net, at its coarsest level.

    Equation 23 of lecture 000 counts the convolutions of each level and forgets those that halve:
    it is right for `down_kernel=1`. A pool of two adds 2^L - 1, a 3x3 convolution twice as much.

    Args:
        convs: n_0 .. n_L, convolutions of stride 1 at each level, finest first.
        kernel: of these.
        down_kernel: of the L layers of stride 2 between the levels.

    Raises:
        ValueError: there is no level, a number is below 0, or a kernel below 1.
    """
    if not len(convs) or min(convs) < 0:
        raise ValueError(f"convs: expected a number of at least 0 for each level, came {convs}")
    if min(kernel, down_kernel) < 1:
        raise ValueError(f"down_kernel, kernel: expected at least 1, came {down_kernel}, {kernel}")
    within = sum(2**level * (kernel - 1) * n for level, n in enumerate(convs))
    return 1 + within + (down_kernel - 1) * (2 ** (len(convs) - 1) - 1)


@dataclass(frozen=True)
class Footprint:
    """The inputs that can influence one output.

    Attributes:
        mask: over the input's spatial axes; True where an input can.
        size: extent along each axis, holes included; 0 if there is none.
    """

    mask: Bool[np.ndarray, "*spatial"]

    @property
    def size(self) -> tuple[int, ...]:
        places = np.nonzero(self.mask)
        return tuple(int(p.max() - p.min()) + 1 if len(p) else 0 for p in places)


def footprint(
    model: nn.Module,
    input_size: Sequence[Integral],
    at: Sequence[Integral],
    *,
    args: Sequence[Any] = (),
    norms: bool = True,
    attention: bool = True,
) -> Footprint:
    """The inputs that can influence one output of any network, whatever its weights.

    The gradient of the output, taken through a copy of the network in which every layer passes
    influence on and none can cancel it (`Reach`): weights are positive, an activation is the
    identity, a maximum is a mean of all its inputs; and only whether there is a gradient is passed
    back through a layer, not how much, so that none is lost however deep the network. A parameter
    that is 0 everywhere counts as one that has not been trained yet.

    Args:
        model: called with pictures `(1, C, *spatial)` and `args`; stays as it is.
        input_size: `(C, *spatial)` of one picture.
        at: spatial position of the output.
        args: what else `model` takes, as the time step of a U-Net: `(torch.tensor([5]),)`.
        norms: count what normalisations carry: a mean over the picture depends on every pixel.
        attention: count what attention carries from token to token.

    Raises:
        ValueError: `at` is no output, the output is no picture, or the model takes integers.
    """
    size, at = _sizes(input_size, at)
    model = _copy(model)
    for parameter in model.parameters():
        if not parameter.any():
            parameter.fill_(1)
    with Reach(norms=norms, attention=attention) as reach:
        x = reach.positive((1, *size)).requires_grad_()  # no two alike, so that none cancels
        y = _seen_by(model, x, at, args)
        gradient = _gradient((y * reach.positive(y.shape)).sum(), x)
    return Footprint((gradient[0] != 0).any(0).numpy())


@dataclass(frozen=True)
class Effective:
    """How strongly the inputs influence one output.

    Attributes:
        map: size of the gradient at each input position: of the sum of the output's channels, each
            with a random sign; root mean square over the inputs and their channels.
        width: along each axis, four standard deviations of a position drawn with the squared
            gradient as its weight: for a Gaussian, what holds 95 % of it. 0 where all is 0. (Luo et
            al. count pixels above 4.55 % of the largest gradient, a wider measure.)
    """

    map: Float[np.ndarray, "*spatial"]

    @property
    def width(self) -> tuple[float, ...]:
        weight = np.square(self.map)
        if not weight.any():
            return (0.0,) * weight.ndim
        axes = range(weight.ndim)
        return tuple(4 * _deviation(weight.sum(tuple(set(axes) - {axis}))) for axis in axes)


def effective(
    model: nn.Module,
    input_size: Sequence[Integral],
    at: Sequence[Integral],
    *,
    args: Sequence[Any] = (),
    inputs: int | Float[Tensor, "N C *spatial"] = 16,
    seed: int = 0,
) -> Effective:
    """How strongly each input influences one output, on average over inputs.

    Args:
        model: called with pictures `(1, C, *spatial)` and `args`; stays as it is.
        input_size: `(C, *spatial)` of one picture.
        at: spatial position of the output.
        args: what else `model` takes.
        inputs: pictures, or how many to draw from N(0, I).
        seed: of these, and of the signs with which the output's channels are added.

    Raises:
        ValueError: as `footprint`, or there are no inputs.

    Source: Luo et al. 2016, section 3; lecture 004, "Effective Receptive Fields".
    """
    size, at = _sizes(input_size, at)
    model, random = _copy(model), torch.Generator().manual_seed(seed)
    if isinstance(inputs, int) and inputs > 0:
        inputs = torch.randn(inputs, *size, generator=random)
    shape = tuple(inputs.shape) if isinstance(inputs, Tensor) else (0,)
    if shape[1:] != size or not shape[0]:
        came = shape if isinstance(inputs, Tensor) else repr(inputs)
        raise ValueError(f"inputs: expected a number or (N, {str(size)[1:-1]}), came {came}")
    if not inputs.is_floating_point():
        raise ValueError(f"inputs: expected floating-point numbers, came {inputs.dtype}")
    total = torch.zeros(size[1:], dtype=torch.float64)
    for picture in inputs.to(torch.float64):
        x = picture[None].clone().requires_grad_()
        there = _seen_by(model, x, at, args)
        signs = torch.randint(2, there.shape, generator=random) * 2 - 1
        total += _gradient((signs * there).sum(), x)[0].square().mean(0)
    return Effective((total / len(inputs)).sqrt().numpy())


def _sizes(
    input_size: Sequence[Integral], at: Sequence[Integral]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    for name, value in {"input_size": input_size, "at": at}.items():
        if not isinstance(value, Sequence | np.ndarray) or isinstance(value, str):
            raise ValueError(f"{name}: expected a tuple of integers, came {value!r}")
    size, at = tuple(input_size), tuple(at)
    if len(size) < 2 or not all(isinstance(n, Integral) and n >= 1 for n in size):
        raise ValueError(f"input_size: expected (C, *spatial), integers above 0, came {size}")
    if len(at) != len(size) - 1 or not all(isinstance(i, Integral) for i in at):
        raise ValueError(f"at: expected {len(size) - 1} integers, one a spatial axis, came {at}")
    return tuple(map(int, size)), tuple(map(int, at))


def _copy(model: nn.Module) -> nn.Module:
    if not isinstance(model, nn.Module):
        raise ValueError(f"model: expected a torch.nn.Module, came {type(model).__name__}")
    # Weights that an old-style weight norm has computed: deepcopy takes no tensor with a history.
    tensors = (value for part in model.modules() for value in vars(part).values())
    computed = {id(v): v.detach() for v in tensors if isinstance(v, Tensor) and not v.is_leaf}
    model = copy.deepcopy(model, computed)
    return model.to("cpu", torch.float64).eval().requires_grad_(False)


def _seen_by(
    model: nn.Module, x: Tensor, at: tuple[int, ...], args: Sequence[Any]
) -> Float[Tensor, " C"]:
    """The output's channels at one position."""
    y = model(x * 1, *args)  # times 1: no layer may overwrite a leaf
    if not isinstance(y, Tensor) or y.ndim != x.ndim or len(y) != 1:
        came = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
        raise ValueError(
            f"model: expected an output (1, C, *spatial) with {x.ndim - 2} spatial axes, as the "
            f"input has, came {came}"
        )
    if not all(0 <= i < n for i, n in zip(at, y.shape[2:], strict=True)):
        raise ValueError(f"at: expected a position in an output of {tuple(y.shape[2:])}, came {at}")
    return y[(0, slice(None), *at)]


def _gradient(y: Tensor, x: Tensor) -> Tensor:
    if not y.requires_grad:
        return torch.zeros_like(x)
    return torch.autograd.grad(y, x, allow_unused=True, materialize_grads=True)[0]


def _deviation(weight: Float[np.ndarray, " N"]) -> float:
    """Standard deviation of a position drawn with these weights."""
    weight, places = weight / weight.sum(), np.arange(len(weight))
    return float(np.sqrt((weight * (places - (weight * places).sum()) ** 2).sum()))
