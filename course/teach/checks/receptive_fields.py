"""Checks of notebook 32."""

import torch

from course.lab.receptive_field import r_unet
from course.teach.exercise import agrees, exercise, judges, number


def _integers(candidate, names):
    """The candidate, its tuple of integers made a tensor, which is what `agrees` compares."""

    def call(*inputs):
        got = candidate(*inputs)
        values = got if isinstance(got, tuple) else (got,)
        if len(values) != len(names) or not all(type(v) is int for v in values):
            wanted = f"a tuple ({', '.join(names)}) of" if len(names) > 1 else "a number of levels,"
            plain = "plain integers" if len(names) > 1 else "a plain integer"
            missing = ": is the return missing?" if got is None else ""
            raise ValueError(f"expected {wanted} {plain}, got {got!r}{missing}")
        return torch.tensor(values)

    return call


def _recurrence(layers, grow=None, fall=None, jumps=None, first=1):
    """Size, jump and start of a chain: notebook 32, section 2, with any of its rules replaced."""
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


def _multiplied_first(layers):
    size, jump, start = 1, 1, 0
    for k, s, p, d in layers:
        jump *= s
        size, start = size + d * (k - 1) * jump, start - p * jump
    return size, jump, start


def _summed(layers):
    size, jump, start = 1, 0, 0
    for k, s, p, d in layers:
        size, start, jump = size + d * (k - 1) * max(jump, 1), start - p * max(jump, 1), jump + s
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
    "the jump is a sum of the strides: strides multiply": (
        lambda layers: (
            _recurrence(layers)[0],
            sum(s for _, s, _, _ in layers),
            *_recurrence(layers)[2:],
        )
    ),
    "the jump is a sum of strides, and the size grows by it: strides multiply": _summed,
    "the layers are taken from the last to the first": lambda layers: _recurrence(layers[::-1]),
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
    "kernels are rounded to odd ones": lambda layers: _recurrence(
        layers, grow=lambda size, jump, k, s, p, d: size + d * (k // 2 * 2) * jump
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


@exercise(reference=_recurrence)
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

    # Until every mistake shows, and no two of them alike: then the cause can be named.
    rules = [_recurrence, *_WRONG_RECURRENCE.values()]
    chain = layers(4)
    while len({rule(chain) for rule in rules}) < len(rules):
        chain = layers(4)
    for name, case in {
        "four layers": chain,
        "one layer": layers(1),
        "layers of one or two taps, some with no padding": [
            (2, 1, 0, 1),
            (1, draw.integer(2, 3), 0, 1),
            (4, 1, draw.integer(0, 1), 1),
            (2, 3, 0, draw.integer(1, 2)),
        ],
        "no layer: an output is its own input": [],
        "stacked 3x3 convolutions": [(3, 1, 1, 1)] * draw.integer(5, 9),
    }.items():
        want = torch.tensor(_recurrence(case))
        if "layer" in name and case:  # so that a failure can be tried again
            name = f"{name}, (k, s, p, d) = {', '.join(map(str, case))}"
        yield agrees(name, candidate, (case,), want, "3", wrong)


def _unet_field(convs, down_kernel):
    return r_unet(convs, down_kernel=down_kernel)


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
            "the formula in closed form": _unet_field,
            "a walk through sets of positions": _walked,
            "the recurrence over all layers": _chained,
        },
        "walk through its layers with sets, as in section 1: does yours agree?",
        {
            "no term for the layers that halve, as (23) is printed": (
                lambda convs, down_kernel: _unet_field(convs, 1),
                "try a halving kernel of 3",
            ),
            "the halving kernel always counted as 2": (
                lambda convs, down_kernel: _unet_field(convs, 2),
                "try halving kernels of 1 and of 3",
            ),
            "the halving kernel always counted as 3": (
                lambda convs, down_kernel: _unet_field(convs, 3),
                "try halving kernels of 1 and of 2",
            ),
            "2^L for 2^L - 1": (
                lambda convs, down_kernel: (
                    _unet_field(convs, down_kernel) + (down_kernel - 1) * (len(convs) > 1)
                ),
                "try one halving layer with a kernel of 3 and no other layer",
            ),
            "every halving layer counted at full resolution": (
                lambda convs, down_kernel: (
                    _unet_field(convs, 1) + (down_kernel - 1) * (len(convs) - 1)
                ),
                "try two or more halving layers with a kernel of 3",
            ),
            "the halving layers counted after they have halved": (
                lambda convs, down_kernel: (
                    _unet_field(convs, 1) + 2 * (down_kernel - 1) * (2 ** (len(convs) - 1) - 1)
                ),
                "try a halving kernel of 2 or 3",
            ),
            "the coarsest level left out": (
                lambda convs, down_kernel: _unet_field([*convs[:-1], 0], down_kernel),
                "try convolutions at the last level",
            ),
            "the finest level left out": (
                lambda convs, down_kernel: _unet_field([0, *convs[1:]], down_kernel),
                "try convolutions at the first level",
            ),
            "the same number of convolutions at each level, as in (24)": (
                lambda convs, down_kernel: _unet_field([convs[0]] * len(convs), down_kernel),
                "try levels with different numbers of convolutions",
            ),
            "2^(l+1) for 2^l, that is one level too deep": (
                lambda convs, down_kernel: (
                    _unet_field([0, *convs], down_kernel)
                    - (down_kernel - 1) * 2 ** (len(convs) - 1)
                ),
                "try one level",
            ),
            "kernels of 2 counted as 3": (
                lambda convs, down_kernel: _unet_field(convs, down_kernel + (down_kernel == 2)),
                "try halving kernels of 1, 2 and 3",
            ),
            "kernels of 3 counted as 2": (
                lambda convs, down_kernel: _unet_field(convs, min(down_kernel, 2)),
                "try halving kernels of 1, 2 and 3",
            ),
            "an error where nothing but every second pixel is kept": (
                lambda convs, down_kernel: (
                    _unet_field(convs, down_kernel) + (down_kernel == 1) * (len(convs) - 1)
                ),
                "try halving kernels of 1, 2 and 3",
            ),
            "halvings that add 1, 2, 3 for 1, 2, 4": (
                lambda convs, down_kernel: (
                    _unet_field(convs, 1) + (down_kernel - 1) * sum(range(len(convs)))
                ),
                "try three halvings",
            ),
            "one pixel too few": (
                lambda convs, down_kernel: _unet_field(convs, down_kernel) - 1,
                "try no convolution at all: an output is its own input",
            ),
        },
    )


def _levels(width, n, down_kernel, reaches=lambda field, width: field >= width, first=0):
    """Theorem (25) with the term that (23) leaves out; or with another aim or start."""
    levels = first
    while not reaches(_unet_field([n] * (levels + 1), down_kernel), width):
        levels += 1
    return levels


@exercise(reference=_levels)
def levels_for_width(candidate, draw):
    call = _integers(candidate, ("levels",))
    # Most mistakes end one level too deep: each case is one in which no other mistake shows.
    for name, inputs, mistakes in _level_cases(draw.integer(1, 3), draw.integer(3, 5)):
        wrong = {
            cause: lambda *inputs, mistake=mistake: torch.tensor([mistake(*inputs)])
            for cause, mistake in mistakes.items()
        }
        want = torch.tensor([_levels(*inputs)])
        name = "{}: width {}, n = {}, down_kernel = {}".format(name, *inputs)
        yield agrees(name, call, inputs, want, "1", wrong)


def _level_cases(n, levels):
    """Name, inputs, and the mistakes that show here first, with what they give."""

    def field(kernel):
        return _unet_field([n] * (levels + 1), kernel)

    half = (field(1) + 1) // 2
    yield (
        "subsampling, where (25) is right as printed",
        (half, n, 1),
        {
            "one halving more than needed (there are L + 1 levels)": lambda *inputs: (
                _levels(*inputs) + 1
            ),
            "this is one halving too few (was something rounded down?)": (
                lambda *inputs: _levels(*inputs) - 1
            ),
        },
    )
    yield (
        "a wider picture",
        (field(1) - 1, n, 1),
        {
            "this is from edge to edge: asked is a field as wide as the picture": (
                lambda *inputs: _levels(
                    *inputs, reaches=lambda field, width: field >= 2 * width - 1
                )
            )
        },
    )
    for kernel in (3, 2):
        yield (
            f"a width that is only reached thanks to halving layers of kernel {kernel}",
            (field(1) + 1, n, kernel),
            {
                "this is (25) as printed: the layers that halve are left out": (
                    lambda width, n, kernel: _levels(width, n, 1)
                )
            },
        )
    yield (
        "a width that kernels of 3 reach, and those of 2 do not",
        (field(2) + 1, n, 2),
        {"a kernel of 2 is counted as 3": lambda width, n, kernel: _levels(width, n, 3)},
    )
    yield (
        "a width that is reached with one pixel to spare",
        (field(3) - 1, n, 3),
        {
            "the term of the halving layers is too small: it is (down_kernel - 1)(2^L - 1)": (
                lambda *inputs: _levels(*inputs) + 1
            )
        },
    )
    yield (
        "a width that is just reached",
        (field(3), n, 3),
        {
            "a field as wide as the picture reaches it: at least, not more than": (
                lambda *inputs: _levels(*inputs, reaches=lambda field, width: field > width)
            )
        },
    )
    yield (
        "a width that is missed by one",
        (field(3) + 1, n, 3),
        {
            "this is one halving too few: it must reach the whole width": (
                lambda *inputs: _levels(*inputs) - 1
            )
        },
    )
    for name, width in {
        "a width that needs no halving": 2 * n + 1,
        "a width of one pixel": 1,
    }.items():
        yield (
            name,
            (width, n, 3),
            {
                "this counts from one halving on: without any, a picture may be seen already": (
                    lambda *inputs: _levels(*inputs, first=1)
                )
            },
        )


def _depth_by_pencil():
    """R of (24) at L = 4 and n = 3 is 187: at L = 3 it is 91, below 100."""
    return _levels(100, 3, 1)


depth_by_pencil = number(
    "depth_by_pencil",
    right=4,
    wrong={
        "at L = 3 the field is 91: (25) gives 3.13, and halvings are whole": 3,
        "this is the value of (25): how many whole halvings is that?": 3.1293,
        "this is the number of levels, L + 1, or the -1 of (25) is missing": 5,
        "this is the depth of a pure CNN, (22)": 50,
        "this is the depth of a pure CNN, (22), before rounding": 49.5,
        "this is log2 of the width, rounded: (25) divides by 2n first": 7,
        "this is the field, not the number of levels": 187,
    },
    reference=_depth_by_pencil,
    tolerance=0.001,
)
