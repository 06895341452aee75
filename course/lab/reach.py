"""Run any network so that its gradient is not 0 exactly where an input can influence an output."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

# What works on each value by itself; some have stretches on which the gradient is 0.
_POINTWISE = (  # noqa: SIM905
    "relu relu6 leaky_relu rrelu prelu elu selu celu gelu silu mish sigmoid logsigmoid tanh "
    "softplus softsign softshrink hardshrink tanhshrink hardtanh hardswish hardsigmoid threshold "
    "clamp clamp_min clamp_max clip _threshold"
).split()

_CLOSED = -1e3  # what is added to a score of attention to close it is below
_KEYWORDS = {"input": "x", "axis": "dim", "use_input_stats": "training"}  # arguments by name


class Reach(TorchFunctionMode):
    """While it is active, functions of torch pass influence on, and none cancels it.

    Weights become positive and equal: an output of a convolution or a linear layer depends on
    all that its kernel covers, whatever the values of the weights; entries that are 0 while others
    are not, as those of a masked convolution, stay 0. Biases are left out, activations are the
    identity, a maximum is a mean, and a normalisation adds a mean of what it takes its statistics
    of. What comes out of such a layer starts afresh: forward as random numbers around 1, backward
    as random numbers around 1 where there is a gradient. So nothing overflows or underflows however
    many layers follow each other (float32 would lose the rim of 256 convolutions, float64 that of a
    thousand), and what is subtracted elsewhere, as in a norm written out, cancels with probability
    0 only. Not seen is what goes through a comparison (where, sort, topk, argmax, round) or a
    detach; a Fourier transform counts its rounding errors.

    Args:
        norms: let normalisations carry influence between the positions that they average.
        attention: let attention carry influence between tokens.
    """

    def __init__(self, norms: bool = True, attention: bool = True):
        super().__init__()
        self.norms, self.attention = norms, attention
        self.random = torch.Generator().manual_seed(0)

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        replacement = _REPLACEMENTS.get(name.removesuffix("_") if name[:2] != "__" else name)
        kwargs = kwargs or {}
        if replacement is None:
            return func(*args, **kwargs)
        kwargs = {_KEYWORDS.get(word, word): value for word, value in kwargs.items()}
        return self._marked(replacement(self, func, *args, **kwargs))

    def positive(self, shape: tuple[int, ...]) -> Tensor:
        """Random numbers from 0.5 to 1.5, the same ones in every run."""
        return 0.5 + torch.rand(shape, generator=self.random, dtype=torch.float64)

    def _marked(self, y: Any) -> Any:
        return _Afresh.apply(y, self) if isinstance(y, Tensor) and y.requires_grad else y


class _Afresh(torch.autograd.Function):
    """Forward: other numbers of the same shape. Backward: whether there is a gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, reach: Reach) -> Tensor:
        ctx.reach = reach
        return torch.where(x == 0, x, reach.positive(x.shape).to(x.dtype))  # what is closed stays 0

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        return ((g != 0) * ctx.reach.positive(g.shape)).to(g.dtype), None


def _same(mode: Reach, func: Callable, x: Tensor, *_: Any, **__: Any) -> Tensor:
    return x


def _weighted(
    mode: Reach, func: Callable, x: Tensor, weight: Tensor, bias: Any = None, *rest: Any, **kw: Any
) -> Tensor:
    present = weight != 0 if weight.any() else torch.ones_like(weight)
    scale = max(1, weight.numel() // max(weight.shape[:2]))  # about 1 / fan-in
    y = func(x, (present / scale).to(x.dtype), None, *rest, **kw)
    return y + weight.mean() if weight.requires_grad else y  # weights made of the input


def _averaged(mode: Reach, x: Tensor, over: tuple[int, ...]) -> Tensor:
    return x + x.mean(over, keepdim=True) if mode.norms else x


def _group_norm(
    mode: Reach, func: Callable, x: Tensor, num_groups: int, *_: Any, **__: Any
) -> Tensor:
    grouped = x.reshape(len(x), num_groups, -1)
    return _averaged(mode, grouped, (2,)).reshape(x.shape)


def _layer_norm(
    mode: Reach, func: Callable, x: Tensor, normalized_shape: Any, *_: Any, **__: Any
) -> Tensor:
    return _averaged(mode, x, tuple(range(-len(tuple(normalized_shape)), 0)))


def _batch_norm(
    mode: Reach,
    func: Callable,
    x: Tensor,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    training: bool | None = None,
    *_: Any,
    **__: Any,
) -> Tensor:
    """And instance norm: both may use statistics that training has left, which average nothing."""
    instance, spatial = func.__name__ == "instance_norm", tuple(range(2, x.ndim))
    if not (instance if training is None else training):
        return x
    return _averaged(mode, x, spatial if instance else (0, *spatial))


def _attention(
    mode: Reach,
    func: Callable,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: Any = None,
    enable_gqa: bool = False,
) -> Tensor:
    if enable_gqa:
        key, value = (x.repeat_interleave(query.shape[-3] // x.shape[-3], -3) for x in (key, value))
    pairs = (query.shape[-2], key.shape[-2])
    open_ = torch.ones(pairs, dtype=torch.bool)
    if is_causal:
        open_ = open_.tril()
    if attn_mask is not None:
        open_ = open_ & (attn_mask if attn_mask.dtype == torch.bool else attn_mask > _CLOSED)
    return _tokens(mode, query, key, value, open_)


def _multi_head(
    mode: Reach, func: Callable, query: Tensor, key: Tensor, value: Tensor, *_: Any, **kw: Any
) -> tuple[Tensor, None]:
    """Of `nn.MultiheadAttention`, whose tokens are the first axis; True in its mask closes."""
    open_ = torch.ones(len(query), len(key), dtype=torch.bool)
    for name in ("attn_mask", "key_padding_mask"):
        if (mask := kw.get(name)) is not None:
            closed = mask if mask.dtype == torch.bool else mask <= _CLOSED
            open_ = open_ & ~(closed.unsqueeze(-2) if name == "key_padding_mask" else closed)
    q, k, v = (x.movedim(0, -2) for x in (query, key, value))
    mixed = _tokens(mode, q, k, v.mean(-1, keepdim=True), open_).movedim(-2, 0)
    return mode._marked(mixed.expand(query.shape)), None


def _tokens(mode: Reach, query: Tensor, key: Tensor, value: Tensor, open_: Tensor) -> Tensor:
    """Every query takes what is open to it; without attention, only what comes from itself."""
    own = query.mean(-1, keepdim=True)
    taken = value + key.mean(-1, keepdim=True)
    if mode.attention:
        return own + (open_ / open_.sum(-1, keepdim=True).clamp(min=1)).to(taken.dtype) @ taken
    if query.shape[-2] == key.shape[-2]:
        return own + taken
    return own.expand(*own.shape[:-1], value.shape[-1])


def _softmax(mode: Reach, func: Callable, x: Tensor, dim: int = -1, *_: Any, **__: Any) -> Tensor:
    """Of attention written out. Where it is masked by huge negative numbers it stays closed."""
    open_ = x > _CLOSED
    x = torch.where(open_, x, 0)
    between_tokens = dim in (-1, x.ndim - 1) and x.ndim > 1 and x.shape[-1] == x.shape[-2]
    if between_tokens and not mode.attention:
        return x * torch.eye(x.shape[-1], dtype=x.dtype)
    return (x + x.mean(dim, keepdim=True)) * open_


def _max_pool(
    mode: Reach,
    func: Callable,
    x: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    *_: Any,
    **__: Any,
) -> Any:
    axes = int(func.__name__[len("max_pool")])
    kernel, padding, dilation = (_tuple(v, axes) for v in (kernel_size, padding, dilation))
    stride = _tuple(stride or kernel, axes)
    pooled = func(x.detach(), kernel, stride, padding, dilation, ceil_mode)
    indices = pooled[1] if isinstance(pooled, tuple) else None
    sizes = (pooled if indices is None else indices).shape[-axes:]
    ends = []
    for n, out, k, s, p, d in zip(
        x.shape[-axes:], sizes, kernel, stride, padding, dilation, strict=True
    ):
        ends += [(out - 1) * s + d * (k - 1) + 1 - n - p, p]
    weight = x.new_full((x.shape[-axes - 1], 1, *kernel), 1 / math.prod(kernel))
    conv = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[axes]
    padded = F.pad(x, ends[::-1])
    y = conv(padded, weight, None, stride, 0, dilation, groups=len(weight))
    return y if indices is None else (mode._marked(y), indices)


def _adaptive_max_pool(
    mode: Reach, func: Callable, x: Tensor, output_size: Any, *_: Any, **__: Any
) -> Tensor:
    return getattr(F, func.__name__.replace("max", "avg"))(x, output_size)


def _amax(mode: Reach, func: Callable, x: Tensor, dim: Any = (), keepdim: bool = False) -> Tensor:
    return x.mean(dim, keepdim=keepdim)


def _max(mode: Reach, func: Callable, x: Tensor, *args: Any, **kw: Any) -> Any:
    if not args and not kw:
        return x.mean()
    if isinstance(other := args[0] if args else kw.get("other"), Tensor):
        return _maximum(mode, func, x, other)
    values = mode._marked(x.mean(*args, **kw))
    return getattr(torch.return_types, func.__name__)(
        (values, func(x.detach(), *args, **kw).indices)
    )


def _maximum(mode: Reach, func: Callable, x: Tensor, other: Tensor) -> Tensor:
    return (x + other) / 2


def _embedding(mode: Reach, func: Callable, x: Tensor, *args: Any, **kw: Any) -> Tensor:
    if x.is_floating_point():
        raise ValueError(
            "model: expected one that takes real numbers, came one that looks up integers"
        )
    return func(x, *args, **kw)


def _tuple(value: Any, n: int) -> tuple[int, ...]:
    return (value,) * n if isinstance(value, int) else tuple(value)


_REPLACEMENTS: dict[str, Callable] = {
    **dict.fromkeys(_POINTWISE, _same),
    **dict.fromkeys(("linear", "conv1d", "conv2d", "conv3d"), _weighted),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _weighted),
    **{f"max_pool{n}d{more}": _max_pool for n in (1, 2, 3) for more in ("", "_with_indices")},
    **dict.fromkeys(
        ("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d"), _adaptive_max_pool
    ),
    **dict.fromkeys(("layer_norm", "rms_norm"), _layer_norm),
    "group_norm": _group_norm,
    **dict.fromkeys(("batch_norm", "instance_norm"), _batch_norm),
    "scaled_dot_product_attention": _attention,
    "multi_head_attention_forward": _multi_head,
    "softmax": _softmax,
    **dict.fromkeys(("amax", "amin"), _amax),
    **dict.fromkeys(("max", "min"), _max),
    **dict.fromkeys(("maximum", "minimum"), _maximum),
    "embedding": _embedding,
}
