"""Checks of notebook 00."""

import torch

from course.data import mnist
from course.teach.exercise import agrees, exercise

# Mistakes with the values; with every one of them the channel axis may be missing as well.
_VALUES = {
    "this is in [0, 1]: stretch it to [-1, 1]": lambda p: p / 255,
    "this overflows: 2 * pixels is still uint8 and wraps round at 256; make it float first": (
        lambda p: (2 * p - 255) / 255
    ),
    "this overflows: 2 * pixels is still a byte when you divide; make it float first": (
        lambda p: 2 * p / 255 - 1
    ),
    "this overflows: a byte below 128 has no negative difference; make it float first": (
        lambda p: (p - 128) / 127.5
    ),
    "this divides by 128, so 255 lands a little below 1": lambda p: p / 128 - 1,
    "this stretches by the largest pixel of the batch: divide by a fixed number": (
        lambda p: 2 * (p / p.max()) - 1
    ),
    "this stretches by the range of the batch: divide by a fixed number": (
        lambda p: 2 * (p.float() - p.min()) / (p.max() - p.min()) - 1
    ),
    "this is turned round: black must be -1, white 1": lambda p: 1 - p / 127.5,
}


@exercise(reference=mnist.to_model_range)
def to_model_range(candidate, draw):
    wrong = {
        "the channel axis is at the end: it belongs behind N": lambda p: p[..., None] / 127.5 - 1,
        "the channel axis is missing: (N, H, W) must become (N, 1, H, W)": lambda p: p / 127.5 - 1,
    }
    for cause, mistake in _VALUES.items():
        wrong[cause] = lambda p, mistake=mistake: mistake(p)[:, None]
        wrong[f"{cause}. And the channel axis is missing"] = mistake
    for name, low, high in (
        ("float32 (N, 1, H, W), 0 becomes -1 and 255 becomes 1", 0, 255),
        ("pictures that are neither black nor white anywhere", 20, 200),
    ):
        shape = (draw.integer(2, 4), draw.integer(5, 7), draw.integer(8, 11))
        pixels = torch.randint(low, high + 1, shape, generator=draw.generator, dtype=torch.uint8)
        pixels[0, 0, :2] = torch.tensor([low, high])
        want = mnist.to_model_range(pixels)
        yield agrees(name, candidate, (pixels,), want, "N C H W", wrong)


def _alpha_bar_at(alpha, t):
    """Product of the paper's alpha_1 ... alpha_{t+1}, for t counted from 0."""
    return alpha[: t + 1].prod()


@exercise(reference=_alpha_bar_at)
def alpha_bar_at(candidate, draw):
    wrong = {
        "this stops one factor early: alpha[t] itself is left out": (lambda a, t: a[:t].prod()),
        "this takes one factor too many": lambda a, t: a[: t + 2].prod(),
        "this starts late: the paper's alpha_1 is alpha[0]": lambda a, t: a[1 : t + 1].prod(),
        "this multiplies 1 - alpha, which is beta": lambda a, t: (1 - a[: t + 1]).prod(),
        "this is the square root of the product": lambda a, t: a[: t + 1].prod().sqrt(),
        "this is 1 - alpha_bar, the variance of the noise": lambda a, t: 1 - a[: t + 1].prod(),
        "this is a sum: the sign is a capital pi, a product": lambda a, t: a[: t + 1].sum(),
        "this is alpha at t, not the product up to t": lambda a, t: a[t],
        "this returns the whole table: pick entry t": lambda a, t: a.cumprod(0),
    }
    few, many = draw.integer(9, 14), draw.integer(950, 1050)
    for name, steps, t, low in (
        ("t in the middle", few, few // 2, 0.6),
        ("the first step, t = 0", few + 1, 0, 0.6),
        ("the last step, t = T - 1", few + 2, few + 1, 0.6),
        ("a thousand steps", many, many - 1, 0.98),
    ):
        alpha = draw.uniform(low, 0.999, steps)
        yield agrees(name, candidate, (alpha, t), _alpha_bar_at(alpha, t), "", wrong)
