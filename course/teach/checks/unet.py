"""Checks of notebook 33."""

from itertools import pairwise
from types import SimpleNamespace

import torch
from torch import nn
from torch.nn import functional as F

from course.teach.checks._common import recognised, torch_layer, unhurt
from course.teach.exercise import differentiable, exercise, judges, number


def _shortcut(x, block):
    return x if block.conv_shortcut is None else block.conv_shortcut(x)


def _block_with(
    first=lambda x, b: b.conv1(F.silu(b.norm1(x))),
    told=lambda temb, b: b.time_emb_proj(F.silu(temb))[:, :, None, None],
    second=lambda h, time, b: b.conv2(F.silu(b.norm2(h + time))),
    last=lambda x, h, b: h + _shortcut(x, b),
):
    """A residual block with any of its parts replaced."""

    def block(x, temb, layers):
        h = second(first(x, layers), told(temb, layers), layers)
        return last(x, h, layers)

    return block


def _activated(f):
    return _block_with(
        lambda x, b: b.conv1(f(b.norm1(x))),
        lambda temb, b: b.time_emb_proj(f(temb))[:, :, None, None],
        lambda h, time, b: b.conv2(f(b.norm2(h + time))),
    )


def _resnet_block(x, temb, block):
    """Equations 4-9 of lecture 000 as Stable Diffusion 1.5 has them: notebook 33, section 2."""
    return _block_with()(x, temb, block)


BLOCK_MISTAKES = {
    "the shortcut is forgotten: the input itself is part of the sum, (9)": _block_with(
        last=lambda x, h, b: h
    ),
    "the shortcut is the input itself: where the channels change it needs conv_shortcut": (
        _block_with(last=lambda x, h, b: h + x)
    ),
    "conv_shortcut is None where the channels agree: there the shortcut is the input itself": (
        _block_with(last=lambda x, h, b: h + b.conv_shortcut(x))
    ),
    "the shortcut starts behind the first norm: it takes the input as it came": _block_with(
        last=lambda x, h, b: h + _shortcut(b.norm1(x), b)
    ),
    "the shortcut starts behind norm and activation: it takes the input as it came": _block_with(
        last=lambda x, h, b: h + _shortcut(F.silu(b.norm1(x)), b)
    ),
    "there is an activation behind the sum: nothing comes after it": _block_with(
        last=lambda x, h, b: F.silu(h + _shortcut(x, b))
    ),
    "the sum is divided by the root of 2: here it is not": _block_with(
        last=lambda x, h, b: (h + _shortcut(x, b)) / 2**0.5
    ),
    "the time is added after the second norm: add it before": _block_with(
        second=lambda h, time, b: b.conv2(F.silu(b.norm2(h) + time))
    ),
    "the time is added after the second activation: add it before the second norm": _block_with(
        second=lambda h, time, b: b.conv2(F.silu(b.norm2(h)) + time)
    ),
    "the time is added after the second convolution: add it before the second norm": _block_with(
        second=lambda h, time, b: b.conv2(F.silu(b.norm2(h))) + time
    ),
    "the time is added to the input: add it after the first convolution": (
        lambda x, temb, b: _block_with(told=lambda temb, b: 0)(
            x + b.time_emb_proj(F.silu(temb))[:, :, None, None], temb, b
        )
    ),
    "the time is not used": _block_with(told=lambda temb, b: 0),
    "the time multiplies: this block adds it": _block_with(
        second=lambda h, time, b: b.conv2(F.silu(b.norm2(h * time)))
    ),
    "the time scales after the second norm: this block adds it before": _block_with(
        second=lambda h, time, b: b.conv2(F.silu(b.norm2(h) * (1 + time)))
    ),
    "SiLU on temb is forgotten: it comes before the projection": _block_with(
        told=lambda temb, b: b.time_emb_proj(temb)[:, :, None, None]
    ),
    "SiLU comes after the projection of temb: it comes before": _block_with(
        told=lambda temb, b: F.silu(b.time_emb_proj(temb))[:, :, None, None]
    ),
    "SiLU comes before and after the projection of temb: only before": _block_with(
        told=lambda temb, b: F.silu(b.time_emb_proj(F.silu(temb)))[:, :, None, None]
    ),
    "the projected time is (B, C): as (B, C, 1, 1) it goes to every pixel": _block_with(
        told=lambda temb, b: b.time_emb_proj(F.silu(temb))
    ),
    "the first activation is forgotten": _block_with(lambda x, b: b.conv1(b.norm1(x))),
    "the second activation is forgotten": _block_with(
        second=lambda h, time, b: b.conv2(b.norm2(h + time))
    ),
    "both activations are forgotten": _block_with(
        lambda x, b: b.conv1(b.norm1(x)), second=lambda h, time, b: b.conv2(b.norm2(h + time))
    ),
    "the first norm is forgotten": _block_with(lambda x, b: b.conv1(F.silu(x))),
    "the second norm is forgotten": _block_with(
        second=lambda h, time, b: b.conv2(F.silu(h + time))
    ),
    "the first activation comes before its norm: norm, SiLU, convolution": _block_with(
        lambda x, b: b.conv1(b.norm1(F.silu(x)))
    ),
    "the second activation comes before its norm: norm, SiLU, convolution": _block_with(
        second=lambda h, time, b: b.conv2(b.norm2(F.silu(h + time)))
    ),
    "the norms come after their convolutions: norm, SiLU, convolution": _block_with(
        lambda x, b: F.silu(b.norm1(b.conv1(x))),
        second=lambda h, time, b: F.silu(b.norm2(b.conv2(h + time))),
    ),
    "the second convolution is forgotten": _block_with(
        second=lambda h, time, b: F.silu(b.norm2(h + time))
    ),
    "the first convolution is used twice": _block_with(
        second=lambda h, time, b: b.conv1(F.silu(b.norm2(h + time)))
    ),
    "the first norm is used twice": _block_with(
        second=lambda h, time, b: b.conv2(F.silu(b.norm1(h + time)))
    ),
    "the activation is ReLU: here it is SiLU": _activated(F.relu),
    "the activation is the logistic function: SiLU is u times it": _activated(torch.sigmoid),
    "the activation is GELU: here it is SiLU": _activated(F.gelu),
}


@exercise(reference=_resnet_block)
def resnet_block(candidate, draw):
    def looks(name, batch, ins, outs, size, single=False, further=False):
        groups, width = draw.integer(2, 3), draw.integer(8, 9)
        ins, outs = groups * ins, groups * outs
        layers = {
            "norm1": torch_layer(draw, nn.GroupNorm, groups, ins, eps=1e-5),
            "conv1": torch_layer(draw, nn.Conv2d, ins, outs, 3, padding=1),
            "time_emb_proj": torch_layer(draw, nn.Linear, width, outs),
            "norm2": torch_layer(draw, nn.GroupNorm, groups, outs, eps=1e-5),
            "conv2": torch_layer(draw, nn.Conv2d, outs, outs, 3, padding=1),
            "conv_shortcut": torch_layer(draw, nn.Conv2d, ins, outs, 1) if ins != outs else None,
        }
        x, temb = 0.3 + draw.normal(batch, ins, *size), draw.normal(batch, width)
        if single:
            x, temb = x.float(), temb.float()
            layers = {name: layer and layer.float() for name, layer in layers.items()}
        want = _resnet_block(x, temb, SimpleNamespace(**layers))

        def of(block):
            return lambda x, temb: block(x, temb, SimpleNamespace(**layers))

        wrong = {cause: of(mistake) for cause, mistake in BLOCK_MISTAKES.items()}
        if not further:
            yield recognised(name, of(candidate), (x, temb), want, wrong)
            return
        kept = [layer for layer in layers.values() if layer is not None]
        yield from unhurt("the layers keep their weights", of(candidate), (x, temb), kept)
        by = {"x": 0, "temb": 1}
        yield differentiable(
            "gradients by x and temb", of(candidate), of(_resnet_block), (x, temb), by
        )

    tall = (draw.integer(10, 11), draw.integer(12, 13))
    yield from looks("as many channels out as in: no conv_shortcut", 3, 2, 2, tall[::-1])
    yield from looks("more channels out than in", draw.integer(2, 3), 2, draw.integer(4, 5), tall)
    yield from looks("fewer channels out than in, as on the way up", 2, 5, draw.integer(2, 3), tall)
    yield from looks("one picture, one pixel high", 1, 3, 2, (1, 5))
    yield from looks("float32", 2, 2, 3, (6, 7), single=True)
    yield from looks("", 2, 2, 3, (4, 5), further=True)


def _enlarged(x, skips, smooth):
    return smooth(F.interpolate(x, size=skips[-1].shape[-2:], mode="nearest"))


def _up_with(
    take=lambda skips: skips.pop(),
    join=lambda x, skip: torch.cat([x, skip], dim=1),
    enlarge=_enlarged,
    begin=None,
    between=None,
    order=list,
    skips_first=list,
):
    """A way up with any of its parts replaced."""

    def way_up(x, skips, blocks):
        skips = skips_first(skips)
        for resnets, smooth in order(blocks):
            if begin and smooth is not None:
                x = begin(x, skips, smooth)
            for resnet in resnets:
                x = resnet(join(x, take(skips)))
                if between and smooth is not None:
                    x = between(x, skips, smooth)
            if enlarge and smooth is not None:
                x = enlarge(x, skips, smooth)
        return x

    return way_up


def _way_up(x, skips, blocks):
    """The decoder of Stable Diffusion's U-Net: notebook 33, section 3."""
    return _up_with()(x, skips, blocks)


def _doubled(x, skips, smooth):
    return smooth(F.interpolate(x, scale_factor=2, mode="nearest"))


def _always_enlarged(x, skips, blocks):
    for resnets, smooth in blocks:
        for resnet in resnets:
            x = resnet(torch.cat([x, skips.pop()], dim=1))
        x = _enlarged(x, skips, smooth)
    return x


def _cat(dim):
    return _up_with(join=lambda x, skip: torch.cat([x, skip], dim=dim))


# Those that show at one level only come last: what raises further on is none of them.
UP_MISTAKES = {
    "x is enlarged before its skips are joined, as in (12): it comes last in a level": _up_with(
        enlarge=None, begin=_doubled
    ),
    "x is enlarged to its skips before they are joined, as in (12): it comes last in a level": (
        _up_with(enlarge=None, begin=_enlarged)
    ),
    "x is enlarged after every residual block: once, after the last of a level": _up_with(
        enlarge=None, between=_doubled
    ),
    "x is smoothed after every residual block: once, after the last of a level": _up_with(
        enlarge=None, between=_enlarged
    ),
    "x is always made twice as large: where a size was odd, the next skip has one less": _up_with(
        enlarge=_doubled
    ),
    "x is not enlarged: it has to be as large as the next skip": _up_with(
        enlarge=lambda x, skips, smooth: smooth(x)
    ),
    "x is enlarged but not smoothed": _up_with(
        enlarge=lambda x, skips, smooth: _enlarged(x, skips, nn.Identity())
    ),
    "x is smoothed before it is enlarged: enlarge, then smooth": _up_with(
        enlarge=lambda x, skips, smooth: _enlarged(smooth(x), skips, nn.Identity())
    ),
    "x is enlarged by a bilinear mean: here the nearest pixel is repeated": _up_with(
        enlarge=lambda x, skips, smooth: smooth(
            F.interpolate(x, size=skips[-1].shape[-2:], mode="bilinear")
        )
    ),
    "x is enlarged to the size of the first skip at once: level by level": _up_with(
        enlarge=lambda x, skips, smooth: _enlarged(x, skips[:1], smooth)
    ),
    "height and width of the next skip are swapped, or its width is used for both": _up_with(
        enlarge=lambda x, skips, smooth: _enlarged(x, [skips[-1].transpose(2, 3)], smooth)
    ),
    "x is enlarged to a square: the skip that waits has a height and a width": _up_with(
        enlarge=lambda x, skips, smooth: smooth(
            F.interpolate(x, size=(skips[-1].shape[-2],) * 2, mode="nearest")
        )
    ),
    "nothing is left to enlarge to where smooth is None: ask `if smooth is not None`": (
        _always_enlarged
    ),
    "the blocks run from the last to the first": _up_with(order=lambda blocks: blocks[::-1]),
    "the skip pushed last is left out": _up_with(skips_first=lambda skips: list(skips)[:-1]),
    "first in, first out: the skip pushed last is taken first": _up_with(
        take=lambda skips: skips.pop(0)
    ),
    "the skip stays on the stack: it is used again and again": _up_with(
        take=lambda skips: skips[-1]
    ),
    "every residual block gets the first skip": _up_with(take=lambda skips: skips[0]),
    "the skip comes first in the concatenation: x first, then the skip": _up_with(
        join=lambda x, skip: torch.cat([skip, x], dim=1)
    ),
    "the skip is added, or not used: it goes beside x, as further channels": _up_with(
        join=lambda x, skip: x + skip
    ),
    "the skips are joined along the batch: channels are axis 1": _cat(0),
    "the skips are joined along the height: channels are axis 1": _cat(2),
    "the skips are joined along the width: channels are axis 1": _cat(3),
}


@exercise(reference=_way_up)
def way_up(candidate, draw):
    def looks(name, channels, sizes, counts, batch=2, single=False, further=False):
        """Levels from the coarsest to the finest, each with so many residual blocks."""
        x = draw.normal(batch, channels[0], *sizes[0])
        below, blocks, skips = channels[0], [], []
        for level, (c, size, count) in enumerate(zip(channels[1:], sizes, counts, strict=True)):
            resnets = []
            for k in range(count):
                extra = c if len(set(channels)) == 1 else c + k + 2
                resnets.append(torch_layer(draw, nn.Conv2d, below + extra, c, 3, padding=1))
                skips.insert(0, draw.normal(batch, extra, *size))
                below = c
            more = level + 1 < len(counts)
            blocks.append(
                (resnets, torch_layer(draw, nn.Conv2d, c, c, 3, padding=1) if more else None)
            )
        if single:
            x, skips = x.float(), [skip.float() for skip in skips]
            for resnets, smooth in blocks:
                for layer in filter(None, (*resnets, smooth)):
                    layer.float()
        want = _way_up(x, skips, blocks)

        def of(decoder):
            # Fresh lists: the stack may be eaten up.
            return lambda x, *skips: decoder(
                x, list(skips), [(list(resnets), smooth) for resnets, smooth in blocks]
            )

        wrong = {cause: of(mistake) for cause, mistake in UP_MISTAKES.items()}
        if not further:
            yield recognised(name, of(candidate), (x, *skips), want, wrong)
            return
        kept = [layer for resnets, smooth in blocks for layer in (*resnets, smooth) if layer]
        given = [(list(resnets), smooth) for resnets, smooth in blocks]
        lists = [given, *(resnets for resnets, _ in given)]
        yield from unhurt(
            "the layers and their lists stay as they are",
            lambda x, *skips: candidate(x, list(skips), given),
            (x, *skips),
            kept,
            lists,
            "it empties `blocks`: only the skips may be used up",
        )
        by = {"x": 0, "the first skip": 1, "the last skip": len(skips)}
        yield differentiable(
            "gradients by x and the skips", of(candidate), of(_way_up), (x, *skips), by
        )

    c = draw.integer(3, 5)
    size = (draw.integer(6, 7), draw.integer(8, 9))
    yield from looks("one level, all skips of one shape", [c, c], [size], [3], batch=3)
    wide = [draw.integer(9, 10), 7, draw.integer(4, 5)]
    even = [(3, 5), (6, 10)]
    yield from looks("two levels, even sizes", wide, even, [2, 2])
    yield from looks("two levels with equal channels", [c, c, c], even, [2, 2])
    odd = [(2, 5), (3, 9), (5, 17)]
    yield from looks("three levels, odd sizes", [11, 8, 6, 3], odd, [3, 3, 3], batch=1)
    yield from looks("levels with 1, 3 and 2 residual blocks", [11, 8, 6, 3], odd, [1, 3, 2])
    yield from looks("float32, one residual block a level", [6, 5, 4], even, [1, 1], single=True)
    yield from looks("", [5, 4, 3], even, [1, 2], further=True)


def _widths_up(
    channels,
    layers,
    first=lambda channels: [channels[0]],
    pushed=lambda c, layers, last: [c] * layers + [c] * (not last),
    more=1,
    pop=lambda stack: stack.pop(),
    joined=lambda below, skip: below + skip,
    below=lambda current, c: current,
):
    """Channels into each residual block of the way up, in order; with any of its rules replaced."""
    stack = first(channels)
    for level, c in enumerate(channels):
        stack += pushed(c, layers, level == len(channels) - 1)
    current, widths = channels[-1], []
    for c in reversed(channels):
        for _ in range(layers + more):
            widths.append(joined(below(current, c), pop(stack) if stack else 0))
            current = c
    return widths


def _closed_form(channels, layers):
    widths = []
    for level in reversed(range(len(channels))):
        below = channels[min(level + 1, len(channels) - 1)]
        c, above = channels[level], channels[max(level - 1, 0)]
        widths += [x + y for x, y in zip([below] + [c] * layers, [c] * layers + [above])]  # noqa: B905
    return widths


def _two_lists(channels, layers):
    """What comes from below and the skips, each as one list."""
    below = [channels[-1], *(c for c in reversed(channels) for _ in range(layers + 1))]
    kept = [c for c in channels for _ in range(layers + 1)][:-1]
    return [a + b for a, b in zip(below, [*reversed(kept), channels[0]], strict=False)]


def _with(**rules):
    return lambda channels, layers: _widths_up(channels, layers, **rules)


def _one_skip_a_level(channels, layers):
    """(12)-(14): joined once, then `layers` residual blocks."""
    widths, current = [], channels[-1]
    for c in reversed(channels):
        widths += [current + c] + [c] * (layers - 1)
        current = c
    return widths


def _only(where, rule):
    """Right but for what `where` says, where it is as `rule` says."""

    def formula(channels, layers):
        return (rule if where(list(channels), layers) else _widths_up)(channels, layers)

    return formula


def _bent(bend, where=lambda channels, layers: True):
    """The right list, bent in place where `where` says so."""

    def formula(channels, layers):
        widths = _widths_up(channels, layers)
        if where(list(channels), layers):
            bend(widths)
        return widths

    return formula


def _last_off_by_one(widths):
    widths[-1] += 1


def _moved(widths):
    """One channel more in one of the two middle blocks, one less in the other: the same sum."""
    at = len(widths) // 2
    widths[at - 1] += 1
    widths[at] -= 1


def _referee_skips(formula):
    cases = [([3], 1), ([2, 5], 1), ([7, 3, 4], 2), ([5, 1, 8, 2], 3), ([4, 4, 9], 1), ([9, 4], 4)]
    return all(formula(channels, n) == _widths_up(channels, n) for channels, n in cases)


@exercise(reference=_referee_skips, kind="referee")
def referee_skips(candidate, draw):
    own_level = _with(
        first=lambda channels: [],
        pushed=lambda c, layers, last: [c] * (layers + 1),
    )
    unequal = "try levels with channels that all differ, growing and shrinking"
    count = "count the residual blocks: the list has one width for each"
    hints = {
        count: {
            "one skip a level, as in (12) to (14)": _one_skip_a_level,
            "as many residual blocks up as down": _with(
                first=lambda channels: [], pushed=lambda c, layers, last: [c] * layers, more=0
            ),
            "the last residual block missing": lambda *given: _widths_up(*given)[:-1],
            "a downsampler at the last level, too, and its skip first": (
                lambda channels, layers: [
                    2 * channels[-1],
                    *_widths_up(channels, layers),
                ]
            ),
            "one residual block too many at the end": (
                lambda channels, layers: [*_widths_up(channels, layers), channels[0]]
            ),
        },
        unequal: {
            "all skips of a level taken to be of that level's channels": own_level,
            "the skip of conv_in left out": _with(first=lambda channels: []),
            "the skips of the downsamplers left out": _with(
                pushed=lambda c, layers, last: [c] * layers
            ),
            "the first skip taken first": _with(pop=lambda stack: stack.pop(0)),
            "the skips added, not joined": _with(joined=lambda below, skip: below),
            "the skips alone": _with(joined=lambda below, skip: skip),
            "what comes from below taken to be of this level's channels": _with(
                below=lambda current, c: c
            ),
            "the levels from the finest to the coarsest": lambda *given: _widths_up(*given)[::-1],
            "the levels with the finest channels first": (
                lambda channels, layers: _widths_up(channels[::-1], layers)
            ),
            "a picture of one channel for the skip of conv_in": _with(first=lambda channels: [1]),
        },
        "compare the two lists entry by entry": {
            "the last width off by one": _bent(_last_off_by_one),
            "two widths in the middle off by one, their sum right": _bent(_moved),
        },
        "try several numbers of layers": {
            "an error for one layer only": _only(lambda channels, n: n == 1, own_level),
            "an error for two layers only": _only(lambda channels, n: n == 2, own_level),
            "an error for three layers and more": _only(lambda channels, n: n > 2, own_level),
            "two layers whatever is asked": lambda channels, layers: _widths_up(channels, 2),
        },
        "try one level, two and more": {
            "an error for one level only": _only(
                lambda channels, n: len(channels) == 1, _one_skip_a_level
            ),
            "an error for two levels only": _only(
                lambda channels, n: len(channels) == 2, own_level
            ),
            "an error for more than two levels only": _only(
                lambda channels, n: len(channels) > 2, own_level
            ),
        },
        "try channels that are not those of Stable Diffusion": {
            "an error wherever channels shrink": _only(
                lambda channels, n: channels != sorted(channels), own_level
            ),
            "an error wherever channels are not doubled or kept": _only(
                lambda channels, n: any(b not in (a, 2 * a) for a, b in pairwise(channels)),
                own_level,
            ),
        },
    }
    right = {
        "a stack, pushed and popped": _widths_up,
        "a closed form": _closed_form,
        "two lists, added": _two_lists,
    }
    why = "for (320, 640, 1280, 1280) with 2 layers it begins 2560, 2560, 2560, 2560, 2560, 1920"
    wrong = {cause: (f, hint) for hint, found in hints.items() for cause, f in found.items()}
    yield from judges(candidate, right, why, wrong)


def _count(ins=24, outs=40, temb=96, norms=2, bias=1, shortcut=1, second=40, down=1, time=1):
    """Parameters of a down block of two residual blocks and a downsampler."""

    def linear(a, b, taps=1):
        return taps * a * b + bias * b

    def block(a):
        branch = norms * a + linear(a, outs, 9) + time * linear(temb, outs)
        branch += norms * outs + linear(outs, outs, 9)
        return branch + (linear(a, outs, shortcut) if shortcut and a != outs else 0)

    return block(ins) + (block(second) if second else 0) + down * linear(outs, outs, 9)


def _count_by_pencil():
    return _count()


count_by_pencil = number(
    "count_by_pencil",
    right=_count(),
    wrong={
        "the biases are missing: one for each channel out": _count(bias=0),
        "the norms are missing: a weight and a bias for each channel": _count(norms=0),
        "the norms have a weight and a bias for each channel: this counts one of the two": _count(
            norms=1
        ),
        "the norms have a weight and a bias for each channel, not for each group": (
            _count(norms=0) + 4 * 2 * 8
        ),
        "the shortcut is missing: the first block changes the number of channels": _count(
            shortcut=0
        ),
        "a shortcut is counted in the second block, too: its channels agree": (
            _count() + 40 * 40 + 40
        ),
        "the shortcut is counted with a 3 x 3 kernel": _count(shortcut=9),
        "the projections of the time are missing": _count(time=0),
        "the time is counted twice, for scale and shift: here it is added": _count(time=2),
        "the downsampler is missing": _count(down=0),
        "this is the first residual block alone": _count(second=0, down=0),
        "the second residual block is missing": _count(second=0),
        "the second residual block is counted like the first: it has 40 channels in": _count(
            second=24
        ),
        "this is the second residual block alone": _count(second=0, down=0, ins=40),
        "both residual blocks are counted with 40 channels in": _count(ins=40),
    },
    reference=_count_by_pencil,
    tolerance=1e-7,
)
