"""Halving a picture with any part replaced: the right answer of notebook 51, and mistakes."""

from torch.nn import functional as F

from course.teach.checks._common import unchanged

BELOW_AND_RIGHT = (0, 1, 0, 1)


def _halve_with(
    pad=BELOW_AND_RIGHT,
    mode="constant",
    value=None,
    before=unchanged,
    kernel=unchanged,
    after=unchanged,
    biased=True,
    **options,
):
    """The convolution that halves, with any of its parts replaced."""
    options = {"stride": 2} | options

    def halve(x, weight, bias):
        x = F.pad(before(x), pad, mode, value)
        return after(F.conv2d(x, kernel(weight), bias if biased else None, **options))

    return halve


def right_halve(x, weight, bias):
    """Downsampling of Stable Diffusion's encoder: the code's `Downsample`."""
    return _halve_with()(x, weight, bias)


def _with_bias(add):
    def halve(x, weight, bias):
        return add(_halve_with(biased=False)(x, weight, bias), bias)

    return halve


def _in_the_middle(x, weight, bias):
    """With the kernel's middle alone."""
    return F.conv2d(x[:, :, ::2, ::2], weight[:, :, 1:2, 1:2], bias)


HALVE_MISTAKES = {
    "there are zeros above and to the left: only below and to the right": _halve_with((1,) * 4),
    "there is a row of zeros above: only below (F.pad wants left, right, top, bottom)": (
        _halve_with((0, 1, 1, 0))
    ),
    "there is a column of zeros to the left: only to the right (F.pad wants left, right, top, "
    "bottom)": _halve_with((1, 0, 0, 1)),
    "the column to the right is missing: F.pad counts from the last axis": _halve_with(
        (0, 0, 0, 1)
    ),
    "the row below is missing: F.pad counts from the last axis": _halve_with((0, 1)),
    "nothing is padded: one row below and one column to the right, or the last are lost": (
        _halve_with((0, 0))
    ),
    "it is padded twice: padding=1 in the convolution comes on top": _halve_with(padding=1),
    "channels and rows are padded: F.pad counts from the last axis": (
        lambda x, w, b: F.conv2d(F.pad(x, (0, 0, 0, 1, 0, 1)), w, b, stride=2)
    ),
    "the edge is mirrored: pad with zeros": _halve_with(mode="reflect"),
    "the edge is repeated: pad with zeros": _halve_with(mode="replicate"),
    "the picture goes on at its other side: pad with zeros": _halve_with(mode="circular"),
    "it is padded with ones: pad with zeros": _halve_with(value=1.0),
    "the stride is 1: every second window, down and across": _halve_with(stride=1),
    "the stride is 1, with zeros on all four sides: every second window": _halve_with(
        (1,) * 4, stride=1
    ),
    "the first row and the first column are skipped: the first window begins at [0, 0]": (
        _halve_with((0, 2, 0, 2), before=lambda x: x[:, :, 1:, 1:])
    ),
    "the first row is skipped: the first window begins at [0, 0]": _halve_with(
        (0, 1, 0, 2), before=lambda x: x[:, :, 1:]
    ),
    "the first column is skipped: the first window begins at [0, 0]": _halve_with(
        (0, 2, 0, 1), before=lambda x: x[..., 1:]
    ),
    "the first row is dropped: add a row of zeros below and keep all": _halve_with(
        before=lambda x: x[:, :, 1:]
    ),
    "the first column is dropped: add a column of zeros to the right and keep all": _halve_with(
        before=lambda x: x[..., 1:]
    ),
    "one window of each row and column is lost: the first begins at [0, 0], then every second": (
        _halve_with(stride=1, after=lambda y: y[:, :, 1::2, 1::2])
    ),
    "only the rows are halved: stride 2 both ways": _halve_with(stride=(2, 1)),
    "only the columns are halved: stride 2 both ways": _halve_with(stride=(1, 2)),
    "the kernel is spread out (dilation): stride 2 moves it, it stays 3 x 3": _halve_with(
        (0, 3, 0, 3), dilation=2
    ),
    "the kernel is spread out (dilation) and moves by 1: stride=2": _halve_with(
        stride=1, dilation=2
    ),
    "the kernel is turned round: torch's convolution takes it as it is": _halve_with(
        kernel=lambda w: w.flip(2, 3)
    ),
    "the kernel is upside down: torch's convolution takes it as it is": _halve_with(
        kernel=lambda w: w.flip(2)
    ),
    "the kernel is mirrored: torch's convolution takes it as it is": _halve_with(
        kernel=lambda w: w.flip(3)
    ),
    "the kernel's rows and columns are swapped": _halve_with(kernel=lambda w: w.mT),
    "the kernel's channels are swapped: (C2, C, 3, 3) is what conv2d takes": _halve_with(
        kernel=lambda w: w.transpose(0, 1)
    ),
    "rows and columns of the picture are swapped": _halve_with(before=lambda x: x.mT),
    "rows and columns of the result are swapped": _halve_with(after=lambda y: y.mT),
    "the bias is missing": _halve_with(biased=False),
    "the bias is added twice": _with_bias(lambda y, b: y + 2 * b[:, None, None]),
    "the bias is subtracted": _with_bias(lambda y, b: y - b[:, None, None]),
    "the bias goes along the width, the last axis: bias[:, None, None], or hand it to conv2d": (
        _with_bias(lambda y, b: y + b)
    ),
    "every second pixel is taken before the convolution: it has to see all of them": _halve_with(
        (1,) * 4, before=lambda x: x[:, :, ::2, ::2], stride=1
    ),
    "every second pixel is taken before the convolution, and its zeros stand to one side": (
        _halve_with((0, 2, 0, 2), before=lambda x: x[:, :, ::2, ::2], stride=1)
    ),
    "pixels are averaged before the convolution: stride 2 takes windows, no means": _halve_with(
        (1,) * 4, before=lambda x: F.avg_pool2d(x, 2), stride=1
    ),
    "results are averaged in twos: every second window, no means": _halve_with(
        (1,) * 4, after=lambda y: F.avg_pool2d(y, 2), stride=1
    ),
    "the largest of four results is taken: every second window": _halve_with(
        (1,) * 4, after=lambda y: F.max_pool2d(y, 2), stride=1
    ),
    "these are means of four pixels: the weights are not used": lambda x, w, b: F.avg_pool2d(x, 2),
    "this is the largest of four pixels: the weights are not used": (
        lambda x, w, b: F.max_pool2d(x, 2)
    ),
    "only the middle of the kernel is used": _in_the_middle,
    "this is a mean over the window, too: do not divide by 9": _halve_with(kernel=lambda w: w / 9),
    "this convolution enlarges: conv2d, not conv_transpose2d": (
        lambda x, w, b: F.conv_transpose2d(x, w.transpose(0, 1), b, stride=2)
    ),
}
