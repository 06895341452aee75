"""Checks of notebook 00."""

import torch

from course.data import mnist
from course.teach.exercise import agrees, exercise


@exercise(reference=mnist.to_model_range)
def to_model_range(candidate, draw):
    shape = (draw.integer(2, 4), draw.integer(5, 7), draw.integer(8, 11))
    pixels = torch.randint(0, 256, shape, generator=draw.generator, dtype=torch.uint8)
    pixels[0, 0, :2] = torch.tensor([0, 255])
    want = mnist.to_model_range(pixels)
    wrong = {
        "this is in [0, 1]: stretch it to [-1, 1]": lambda p: p[:, None] / 255,
        "this overflows: 2 * pixels is still uint8 and wraps round at 256; make it float first": (
            lambda p: (2 * p - 255)[:, None] / 255
        ),
        "this divides by 128, so 255 lands a little below 1": lambda p: p[:, None] / 128 - 1,
        "this is turned round: black must be -1, white 1": lambda p: 1 - p[:, None] / 127.5,
        "the channel axis is at the end: it belongs behind N": lambda p: p[..., None] / 127.5 - 1,
        "the channel axis is missing: (N, H, W) must become (N, 1, H, W)": lambda p: p / 127.5 - 1,
    }
    name = "float32 (N, 1, H, W), 0 becomes -1 and 255 becomes 1"
    yield agrees(name, candidate, (pixels,), want, "N C H W", wrong)
    last = pixels[:1, :2]
    want = mnist.to_model_range(last)
    yield agrees("one picture of another size", candidate, (last,), want, "N C H W", wrong)


def _alpha_bar_at(alpha, t):
    """Product of the paper's alpha_1 ... alpha_{t+1}, for t counted from 0."""
    return alpha[: t + 1].prod()


@exercise(reference=_alpha_bar_at)
def alpha_bar_at(candidate, draw):
    steps = draw.integer(9, 14)
    alpha = draw.uniform(0.6, 0.99, steps)
    wrong = {
        "this stops one factor early: alpha[:t] leaves out alpha[t] itself": (
            lambda a, t: a[:t].prod()
        ),
        "this takes one factor too many": lambda a, t: a[: t + 2].prod(),
        "this starts late: the paper's alpha_1 is alpha[0]": lambda a, t: a[1 : t + 1].prod(),
        "this multiplies 1 - alpha, which is beta": lambda a, t: (1 - a[: t + 1]).prod(),
        "this is the square root of the product": lambda a, t: a[: t + 1].prod().sqrt(),
        "this is 1 - alpha_bar, the variance of the noise": lambda a, t: 1 - a[: t + 1].prod(),
        "this is a sum: the sign is a capital pi, a product": lambda a, t: a[: t + 1].sum(),
        "this is alpha at t, not the product up to t": lambda a, t: a[t],
        "this returns the whole table: pick entry t": lambda a, t: a.cumprod(0),
    }
    for name, t in (
        ("t in the middle", steps // 2),
        ("the first step, t = 0", 0),
        ("the last step, t = T - 1", steps - 1),
    ):
        yield agrees(name, candidate, (alpha, t), _alpha_bar_at(alpha, t), "", wrong)
