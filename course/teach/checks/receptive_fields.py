"""Checks of notebook 32."""

import torch

from course.teach.exercise import agrees, exercise, judges, number


def _integers(candidate, names):
    """The candidate, its tuple of integers made a tensor, which is what `agrees` compares."""

    def call(*inputs):
        got = candidate(*inputs)
        values = got if isinstance(got, tuple | list) else (got,)
        if len(values) != len(names) or not all(type(v) is int for v in values):
            wanted = names[0] if len(names) == 1 else f"({', '.join(names)})"
            missing = ": is the return missing?" if got is None else ""
            raise ValueError(f"expected {wanted}, plain integers, got {got!r}{missing}")
        return torch.tensor(values)

    return call


def _recurrence(layers, grow=None, fall=None, jumps=None, first=1):
    """Size, jump and start, each with its own rule for one layer."""
    grow = grow or (lambda size, jump, k, s, p, d: size + d * (k - 1) * jump)
    fall = fall or (lambda start, jump, k, s, p, d: start - p * jump)
    jumps = jumps or (lambda jump, k, s, p, d: jump * s)
    size, jump, start = first, 1, 0
    for k, s, p, d in layers:
        size, start, jump = (
            grow(size, jump, k, s, p, d),
            fall(start, jump, k, s, p, d),
            jumps(jump, k, s, p, d),
        )
    return size, jump, start


def _reference_recurrence(layers):
    """Notebook 32, section 2: one layer multiplies the jump, and grows the size by old jumps."""
    return _recurrence(layers)


def _multiplied_first(layers):
    size, jump, start = 1, 1, 0
    for k, s, p, d in layers:
        jump *= s
        size, start = size + d * (k - 1) * jump, start - p * jump
    return size, jump, start


_WRONG_RECURRENCE = {
    "the jump is not multiplied by the stride, but added to it": (
        lambda layers: _recurrence(layers, jumps=lambda jump, k, s, p, d: jump + s)
    ),
    "the jump is the stride of the last layer: strides multiply": (
        lambda layers: _recurrence(layers, jumps=lambda jump, k, s, p, d: s)
    ),
    "the jump is not multiplied by the strides": (
        lambda layers: _recurrence(layers, jumps=lambda jump, k, s, p, d: jump)
    ),
    "the size grows by the jump after this layer's stride: it is the jump before": (
        _multiplied_first
    ),
    "the size does not grow by jumps: deeper taps lie further apart in the input": (
        lambda layers: _recurrence(layers, grow=lambda size, jump, k, s, p, d: size + d * (k - 1))
    ),
    "the size grows by k jumps: k taps have k - 1 gaps": (
        lambda layers: _recurrence(layers, grow=lambda size, jump, k, s, p, d: size + d * k * jump)
    ),
    "the dilation is forgotten": (
        lambda layers: _recurrence(
            layers, grow=lambda size, jump, k, s, p, d: size + (k - 1) * jump
        )
    ),
    "the size starts at 0: with no layer an output is its own input": (
        lambda layers: _recurrence(layers, first=0)
    ),
    "the padding is forgotten: it moves the start": (
        lambda layers: _recurrence(layers, fall=lambda start, jump, k, s, p, d: start)
    ),
    "the padding moves the start to the right: it puts zeros on the left": (
        lambda layers: _recurrence(layers, fall=lambda start, jump, k, s, p, d: start + p * jump)
    ),
    "the padding does not move the start by jumps": (
        lambda layers: _recurrence(layers, fall=lambda start, jump, k, s, p, d: start - p)
    ),
    "the size is cut by the padding: padding moves the field, it does not change its size": (
        lambda layers: _recurrence(
            layers, grow=lambda size, jump, k, s, p, d: size + (d * (k - 1) - 2 * p) * jump
        )
    ),
}


@exercise(reference=_reference_recurrence)
def recurrence(candidate, draw):
    candidate = _integers(candidate, ("size", "jump", "start"))
    wrong = {
        cause: lambda chain, mistake=mistake: torch.tensor(mistake(chain))
        for cause, mistake in _WRONG_RECURRENCE.items()
    }

    def layers(n):
        return [
            (draw.integer(3, 5), draw.integer(2, 3), draw.integer(1, 2), draw.integer(2, 3))
            for _ in range(n)
        ]

    chain = layers(4)
    # Until no two mistakes give the same three numbers: then the cause can be named.
    while len({mistake(chain) for mistake in _WRONG_RECURRENCE.values()}) < len(_WRONG_RECURRENCE):
        chain = layers(4)
    for name, case in {
        "four layers, all different": chain,
        "one layer": layers(1),
        "no layer: an output is its own input": [],
        "stacked 3x3 convolutions": [(3, 1, 1, 1)] * draw.integer(5, 9),
    }.items():
        want = torch.tensor(_recurrence(case))
        yield agrees(name, candidate, (case,), want, "3", wrong)


def _unet_field(convs, down_kernel):
    within = sum(2 * 2**level * n for level, n in enumerate(convs))
    return 1 + within + (down_kernel - 1) * (2 ** (len(convs) - 1) - 1)


def _referee_field(formula):
    """Accepts what equals a walk through the layers, for some counts and kernels."""
    cases = [([1], 3), ([0, 0, 0], 3), ([2, 1, 3], 1), ([1, 2, 0, 1], 2), ([3, 1, 2, 1], 3)]
    return all(formula(convs, down) == _unet_field(convs, down) for convs, down in cases)


def _walked(convs, down_kernel):
    seen = {0}
    for level in reversed(range(len(convs))):
        for _ in range(convs[level]):
            seen = {i + u for i in seen for u in (-1, 0, 1)}
        if level:
            seen = {2 * i + u for i in seen for u in range(down_kernel)}
    return max(seen) - min(seen) + 1


def _chained(convs, down_kernel):
    layers = []
    for level, n in enumerate(convs):
        layers += [(down_kernel, 2, 0, 1)] * (level > 0) + [(3, 1, 1, 1)] * n
    return _recurrence(layers)[0]


@exercise(reference=_referee_field, kind="referee")
def referee_field(candidate, draw):
    yield from judges(
        candidate,
        {
            "1 + 2 sum 2^l n_l + (k_d - 1)(2^L - 1)": _unet_field,
            "a walk through sets of positions": _walked,
            "the recurrence over all layers": _chained,
        },
        "count again what each halving layer adds: (k_d - 1) times the jump before it",
        {
            "no term for the layers that halve, as (23) is printed": (
                lambda convs, down: _unet_field(convs, 1),
                "try a halving kernel of 3",
            ),
            "a pool of two, whatever the kernel that halves": (
                lambda convs, down: _unet_field(convs, 2),
                "try halving kernels of 1 and of 3",
            ),
            "a 3x3 kernel that halves, whatever it is": (
                lambda convs, down: _unet_field(convs, 3),
                "try halving kernels of 1 and of 2",
            ),
            "2^L for 2^L - 1": (
                lambda convs, down: _unet_field(convs, down) + (down - 1) * (len(convs) > 1),
                "try one halving layer with a kernel of 3 and no other layer",
            ),
            "every halving layer counted at full resolution": (
                lambda convs, down: _unet_field(convs, 1) + (down - 1) * (len(convs) - 1),
                "try two or more halving layers with a kernel of 3",
            ),
            "the halving layers counted after they have halved": (
                lambda convs, down: (
                    _unet_field(convs, 1) + 2 * (down - 1) * (2 ** (len(convs) - 1) - 1)
                ),
                "try a halving kernel of 2 or 3",
            ),
            "the coarsest level left out": (
                lambda convs, down: _unet_field([*convs[:-1], 0], down),
                "try convolutions at the last level",
            ),
            "the finest level left out": (
                lambda convs, down: _unet_field([0, *convs[1:]], down),
                "try convolutions at the first level",
            ),
            "the same number of convolutions at each level, as in (24)": (
                lambda convs, down: _unet_field([convs[0]] * len(convs), down),
                "try levels with different numbers of convolutions",
            ),
            "2^(l+1) for 2^l, that is one level too deep": (
                lambda convs, down: (
                    _unet_field([0, *convs], down) - (down - 1) * 2 ** (len(convs) - 1)
                ),
                "try one level",
            ),
            "one missing": (
                lambda convs, down: _unet_field(convs, down) - 1,
                "try no convolution at all: an output is its own input",
            ),
        },
    )


def _levels(width, n, down_kernel, reaches=lambda field, width: field >= width, first=0):
    levels = first
    while not reaches(_unet_field([n] * (levels + 1), down_kernel), width):
        levels += 1
    return levels


def _reference_levels(width, n, down_kernel):
    """Notebook 32, section 4: theorem (25), with the term that (23) leaves out."""
    return _levels(width, n, down_kernel)


@exercise(reference=_reference_levels)
def levels_for_width(candidate, draw):
    call = _integers(candidate, ("an integer",))
    # Most mistakes end one level too deep: each case is one in which no other mistake shows.
    for name, inputs, cause, mistake in _level_cases(draw.integer(1, 3), draw.integer(3, 5)):
        wrong = {cause: lambda *inputs, mistake=mistake: torch.tensor([mistake(*inputs)])}
        want = torch.tensor([_levels(*inputs)])
        yield agrees(name, call, inputs, want, "1", wrong)


def _level_cases(n, levels):
    """Name, inputs, and the mistake that shows here first, with what it gives."""

    def field(kernel):
        return _unet_field([n] * (levels + 1), kernel)

    half = (field(1) + 1) // 2
    yield (
        "subsampling, where (25) is right as printed",
        (half, n, 1),
        "this is one level more than needed",
        lambda *inputs: _levels(*inputs) + 1,
    )
    yield (
        "a wider picture",
        (field(1) - 1, n, 1),
        "this is from edge to edge: asked is that one output, in the middle, sees the width",
        lambda *inputs: _levels(*inputs, reaches=lambda field, width: field >= 2 * width - 1),
    )
    for kernel in (3, 2):
        yield (
            f"a width that is only reached thanks to halving layers of kernel {kernel}",
            (field(1) + 1, n, kernel),
            "this is (25) as printed: the layers that halve are left out",
            lambda width, n, kernel: _levels(width, n, 1),
        )
    yield (
        "a width that is just reached",
        (field(3), n, 3),
        "a field as wide as the picture reaches it: at least, not more than",
        lambda *inputs: _levels(*inputs, reaches=lambda field, width: field > width),
    )
    yield (
        "a width that is missed by one",
        (field(3) + 1, n, 3),
        "this is one level short: it must reach the whole width",
        lambda *inputs: _levels(*inputs) - 1,
    )
    for name, width in {
        "a width that one level sees": 2 * n + 1,
        "a width of one pixel": 1,
    }.items():
        yield (
            name,
            (width, n, 3),
            "this counts from one level on: without any halving a picture may be seen already",
            lambda *inputs: _levels(*inputs, first=1),
        )


def _depth_by_pencil():
    """R of (24) at L = 4 and n = 3 is 187: at L = 3 it is 91, below 100."""
    return _levels(100, 3, 1)


depth_by_pencil = number(
    "depth_by_pencil",
    right=4,
    wrong={
        "at L = 3 the field is 91: (25) gives 3.13, and levels are whole": 3,
        "this is the value of (25): how many whole levels is that?": 3.1293,
        "the -1 at the end of (25) is missing": 5,
        "this is the depth of a pure CNN, (22)": 50,
        "this is the depth of a pure CNN, (22), before rounding": 49.5,
        "this is log2 of the width, rounded: (25) divides by 2n first": 7,
        "this is the field, not the number of levels": 187,
    },
    reference=_depth_by_pencil,
    tolerance=0.001,
)
