"""Notebook 33: mistakes that students make, and right answers written differently."""

from textwrap import indent

_FIRST = "    h = block.conv1(silu(block.norm1(x)))\n"
_TIME = "    h = h + block.time_emb_proj(silu(temb))[:, :, None, None]\n"
_SECOND = "    h = block.conv2(silu(block.norm2(h)))\n"
_CALL = 'smooth(torch.nn.functional.interpolate(x, size=size, mode="nearest"))'
_RESNETS = """        for resnet in resnets:
            x = resnet(torch.cat([x, skips.pop()], dim=1))
"""
_ENLARGE = f"""        if smooth is not None:
            size = skips[-1].shape[-2:]
            x = {_CALL}
"""
_CASES = "([3], 1), ([2, 5], 1), ([7, 3, 4], 2), ([5, 1, 8, 2], 3)"

MUTANTS = {
    "resnet_block": [
        ("return shortcut + h", "return h", "the shortcut is forgotten"),
        ("return shortcut + h", "return x + h", "where the channels change it needs conv_shortcut"),
        (
            "x if block.conv_shortcut is None else block.conv_shortcut(x)",
            "block.conv_shortcut(x)",
            "there the shortcut is the input itself",
        ),
        (
            "shortcut = x if",
            "x = block.norm1(x)\n    shortcut = x if",
            "the shortcut starts behind the first norm",
        ),
        (
            "shortcut = x if",
            "x = silu(block.norm1(x))\n    shortcut = x if",
            "the shortcut starts behind norm and activation",
        ),
        ("return shortcut + h", "return silu(shortcut + h)", "an activation behind the sum"),
        ("return shortcut + h", "return (shortcut + h) / 2**0.5", "divided by the root of 2"),
        (
            _TIME + _SECOND,
            _TIME.replace("h + ", "block.norm2(h) + ") + "    h = block.conv2(silu(h))\n",
            "the time is added after the second norm",
        ),
        (
            _TIME + _SECOND,
            _TIME.replace("h + ", "silu(block.norm2(h)) + ") + "    h = block.conv2(h)\n",
            "the time is added after the second activation",
        ),
        (
            _TIME + _SECOND,
            _SECOND + _TIME,
            "the time is added after the second convolution",
        ),
        (
            _FIRST + _TIME,
            _TIME.replace("h = h", "x = x") + _FIRST,
            "the time is added to the input",
        ),
        (
            _TIME,
            "",
            "the time is not used",
        ),
        ("h = h + block.time", "h = h * block.time", "the time multiplies"),
        (
            _TIME + _SECOND,
            _TIME.replace("h = h + ", "s = ") + _SECOND.replace("norm2(h)", "norm2(h) * (1 + s)"),
            "the time scales after the second norm",
        ),
        ("silu(temb)", "temb", "SiLU on temb is forgotten"),
        (
            "block.time_emb_proj(silu(temb))",
            "silu(block.time_emb_proj(temb))",
            "SiLU comes after the projection of temb",
        ),
        (
            "block.time_emb_proj(silu(temb))",
            "silu(block.time_emb_proj(silu(temb)))",
            "before and after the projection",
        ),
        ("[:, :, None, None]", "", "as (B, C, 1, 1) it goes to every pixel"),
        ("silu(block.norm1(x))", "block.norm1(x)", "the first activation is forgotten"),
        ("silu(block.norm2(h))", "block.norm2(h)", "the second activation is forgotten"),
        ("block.norm1(x)", "x", "the first norm is forgotten"),
        ("block.norm2(h)", "h", "the second norm is forgotten"),
        ("silu(block.norm1(x))", "block.norm1(silu(x))", "the first activation comes before"),
        ("silu(block.norm2(h))", "block.norm2(silu(h))", "the second activation comes before"),
        (
            _FIRST + _TIME + _SECOND,
            (
                "    h = silu(block.norm1(block.conv1(x)))\n"
                + _TIME
                + "    h = silu(block.norm2(block.conv2(h)))\n"
            ),
            "the norms come after their convolutions",
        ),
        ("block.conv2(", "(", "the second convolution is forgotten"),
        ("block.conv2(", "block.conv1(", "the first convolution is used twice"),
        ("block.norm2(", "block.norm1(", "the first norm is used twice"),
        ("silu = torch.nn.functional.silu", "silu = torch.relu", "the activation is ReLU"),
        ("functional.silu", "functional.gelu", "the activation is GELU"),
        ("silu = torch.nn.functional.silu", "silu = torch.sigmoid", "is the logistic"),
        ("    h = block.conv1(", "    x += 1\n    h = block.conv1(", "expected"),
        ("return shortcut + h", "x += h\n    return x", "it changes its input in place"),
        ("return shortcut + h", "h += shortcut", "is the return missing?"),
        ("return shortcut + h", "return (shortcut + h).detach()", "no gradient reaches x or temb"),
        ("silu(temb)", "silu(temb.detach())", "no gradient reaches temb"),
        (
            "return shortcut + h",
            "h = shortcut + h\n    block.conv2.weight.data.zero_()\n    return h",
            "it changes the weights of a layer",
        ),
    ],
    "way_up": [
        ("skips.pop()", "skips.pop(0)", "first in, first out"),
        (
            "    for resnets, smooth in blocks:\n",
            "    skips = skips[::-1]\n    for resnets, smooth in blocks:\n",
            "first in, first out",
        ),
        ("skips.pop()", "skips[-1]", "the skip stays on the stack"),
        ("skips.pop()", "skips[0]", "every residual block gets the first skip"),
        ("[x, skips.pop()]", "[skips.pop(), x]", "the skip comes first in the concatenation"),
        ("torch.cat([x, skips.pop()], dim=1)", "x + skips.pop()", "the skip is added, or not used"),
        ("torch.cat([x, skips.pop()], dim=1)", "x", "the skip is added, or not used"),
        ("dim=1", "dim=0", "joined along the batch"),
        ("dim=1", "dim=2", "joined along the height"),
        ("dim=1", "dim=-1", "joined along the width"),
        (
            _RESNETS + _ENLARGE,
            _ENLARGE.replace("size=size", "scale_factor=2") + _RESNETS,
            "x is enlarged before its skips are joined, as in (12)",
        ),
        (
            _RESNETS + _ENLARGE,
            _ENLARGE + _RESNETS,
            "x is enlarged to its skips before they are joined, as in (12)",
        ),
        (
            _ENLARGE,
            indent(_ENLARGE, "    ").replace("size=size", "scale_factor=2"),
            "x is enlarged after every residual block",
        ),
        (
            _ENLARGE,
            indent(_ENLARGE, "    "),
            "x is smoothed after every residual block",
        ),
        ("size=size", "scale_factor=2", "x is always made twice as large"),
        (
            _CALL,
            "smooth(x)",
            "x is not enlarged",
        ),
        (
            _CALL,
            "x",
            "x is not enlarged",
        ),
        (
            _CALL,
            _CALL.removeprefix("smooth(")[:-1],
            "x is enlarged but not smoothed",
        ),
        (
            _CALL,
            _CALL.removeprefix("smooth(")[:-1].replace("(x", "(smooth(x)"),
            "x is smoothed before it is enlarged",
        ),
        ("nearest", "bilinear", "here the nearest pixel is repeated"),
        ("skips[-1].shape", "skips[0].shape", "x is enlarged to the size of the first skip"),
        ("shape[-2:]", "shape[:1:-1]", "height and width of the next skip are swapped"),
        ("in blocks:", "in blocks[::-1]:", "the blocks run from the last to the first"),
        (
            "    for resnets, smooth in blocks:\n",
            "    skips.pop()\n    for resnets, smooth in blocks:\n",
            "the skip pushed last is left out",
        ),
        ("    return x\n", "    x\n", "is the return missing?"),
        ("    return x\n", "    return x.detach()\n", "no gradient reaches x"),
        ("skips.pop()]", "skips.pop().detach()]", "no gradient reaches the first skip"),
        ("    return x\n", "    return x.reshape(2, *x.shape[1:])\n", "is invalid for input"),
        ("    return x\n", "    blocks.clear()\n    return x\n", "it empties `blocks`"),
        (
            "    return x\n",
            "    for layer in resnets:\n        layer.weight.data.zero_()\n    return x\n",
            "it changes the weights of a layer",
        ),
        ("skips[-1].shape[-2:]", "(skips[-1].shape[-2],) * 2", "x is enlarged to a square"),
        ("skips[-1].shape[-2:]", "(skips[-1].shape[-1],) * 2", "its width is used for both"),
        (
            "if smooth is not None:",
            "if True:",
            "nothing is left to enlarge to where smooth is None",
        ),
        ("        for resnet in resnets:\n", "        for resnet in resnets[1:]:\n", "expected"),
    ],
    "referee_skips": [
        ("return True", "return False", "it rejects a stack, pushed and popped"),
        ("            return False", "            pass", "it accepts"),
        (_CASES, "([4, 4, 4], 2)", "it accepts a formula with"),
        (_CASES, "([320, 640, 1280, 1280], 2)", "an error for one layer only"),
        (_CASES, "([3], 1), ([2, 5], 1), ([7, 3], 1)", "an error for two layers only"),
        (_CASES, "([2, 5, 6], 2), ([3, 4, 8, 9], 1), ([5], 3)", "it accepts"),
        (_CASES, "([7, 3, 4], 2), ([5, 1, 8, 2], 1), ([5, 1], 3)", "an error for one level only"),
        ("stack = [channels[0]]", "stack = [1]", "it rejects"),
        ("if level < len(channels) - 1:", "if level < len(channels):", "it rejects"),
        ("range(layers + 1)", "range(layers)", "it rejects"),
        ("stack.pop()", "stack.pop(0)", "it rejects"),
        ("                current = c\n", "                pass\n", "it rejects"),
        (
            "formula(channels, layers) != widths",
            "len(formula(channels, layers)) != len(widths)",
            "it accepts a formula with all skips of a level taken to be of that level's channels",
        ),
        (
            "formula(channels, layers) != widths",
            "sum(formula(channels, layers)) != sum(widths)",
            "it accepts a formula with",
        ),
        (
            "formula(channels, layers) != widths",
            "formula(channels, layers)[: len(widths)] != widths",
            "one residual block too many at the end",
        ),
        (
            "formula(channels, layers) != widths",
            "formula(channels, layers)[:-1] != widths[:-1]",
            "it accepts a formula with",
        ),
        (
            _CASES,
            "([3], 1), ([7, 3, 4], 1), ([7, 3, 4], 2), ([5, 1, 8, 2], 3)",
            "an error for two levels only",
        ),
        (_CASES, "([3], 1), ([2, 5], 1), ([7, 3, 4], 2)", "an error for three layers and more"),
        ("return True", "return 1", "expected True or False"),
    ],
    "count_by_pencil": [
        ("shortcut + second", "second", "the shortcut is missing"),
        ("shortcut + second", "2 * shortcut + second", "is not it"),
        ("shortcut = 24 * 40 + 40", "shortcut = 9 * 24 * 40 + 40", "with a 3 x 3 kernel"),
        ("second + halving", "first + shortcut + halving", "is counted like the first"),
        (" + halving", "", "the downsampler is missing"),
        ("first + shortcut + second + halving", "first + shortcut", "the first residual block"),
        ("second + halving", "halving", "the second residual block is missing"),
        ("return first", "return 2 * 40 * 40 + first", "is not it: too large"),
        ("return first", "return -7 + first", "is not it: too small"),
        (
            "return first + shortcut + second + halving",
            "return 75488 - 2 * (96 * 40 + 40)",
            "the projections of the time are missing",
        ),
        (
            "return first + shortcut + second + halving",
            "return 75488 + 2 * (96 * 40 + 40)",
            "counted twice, for scale and shift",
        ),
        (
            "return first + shortcut + second + halving",
            "return 75488 - 8 * 40",
            "the biases are missing",
        ),
        (
            "return first + shortcut + second + halving",
            "return 75488 - 2 * (24 + 40 + 40 + 40)",
            "the norms are missing",
        ),
        (
            "return first + shortcut + second + halving",
            "return 75488 - (24 + 40 + 40 + 40)",
            "this counts one of the two",
        ),
        (
            "return first + shortcut + second + halving",
            "return 75488 + 40 * 40 + 40",
            "a shortcut is counted in the second block",
        ),
        ("return first", "return str(first)", "it raises TypeError"),
        ("return first", "first", "expected a plain number"),
    ],
}

ALTERNATIVES = {
    "resnet_block": [
        """
def resnet_block(x, temb, block):
    silu = torch.nn.SiLU()
    told = block.time_emb_proj(silu(temb))
    inner = torch.nn.Sequential(block.norm1, silu, block.conv1)(x)
    outer = torch.nn.Sequential(block.norm2, silu, block.conv2)
    if block.conv_shortcut is not None:
        x = block.conv_shortcut(x)
    return torch.add(x, outer(inner + told.unsqueeze(-1).unsqueeze(-1)))
""",
        """
def resnet_block(x, temb, block):
    # Picture by picture, channel by channel; SiLU from its definition.
    def silu(u):
        return u / (1 + torch.exp(-u))

    out = []
    for one, time in zip(x, temb):
        h = block.conv1(silu(block.norm1(one[None])))
        f = block.time_emb_proj(silu(time))
        h = torch.stack([h[0, c] + f[c] for c in range(len(f))])[None]
        h = block.conv2(silu(block.norm2(h)))[0]
        out.append(h + (block.conv_shortcut(one[None])[0] if block.conv_shortcut else one))
    return torch.stack(out)
""",
    ],
    "way_up": [
        """
def way_up(x, skips, blocks):
    # Nothing is taken off: an index walks down. Doubled, then cut to the size of the next skip.
    at = len(skips) - 1
    for resnets, smooth in blocks:
        for resnet in resnets:
            x = resnet(torch.cat((x, skips[at]), 1))
            at -= 1
        if smooth:
            height, width = skips[at].shape[2:]
            x = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
            x = smooth(x[:, :, :height, :width])
    return x
""",
        """
def way_up(x, skips, blocks):
    if not blocks:
        return x
    (resnets, smooth), *above = blocks
    own, rest = skips[len(skips) - len(resnets) :], skips[: len(skips) - len(resnets)]
    for resnet, skip in zip(resnets, reversed(own)):
        both = x.new_empty(len(x), x.shape[1] + skip.shape[1], *x.shape[2:])
        both[:, : x.shape[1]], both[:, x.shape[1] :] = x, skip
        x = resnet(both)
    if smooth is not None:
        rows = torch.arange(rest[-1].shape[2]) // 2
        columns = torch.arange(rest[-1].shape[3]) // 2
        x = smooth(x[:, :, rows][:, :, :, columns])
    return way_up(x, rest, above)
""",
    ],
    "referee_skips": [
        """
def referee_skips(formula):
    # No stack: below, and the level above, by index.
    for channels in ([4], [1, 6], [9, 2], [3, 8, 5], [2, 3, 7, 11], [320, 640, 1280, 1280]):
        for layers in (1, 2, 3):
            got = formula(list(channels), layers)
            want = []
            for level in range(len(channels) - 1, -1, -1):
                own = channels[level]
                below = channels[level + 1] if level + 1 < len(channels) else own
                above = channels[level - 1] if level else own
                for k in range(layers + 1):
                    want.append((own if k else below) + (own if k < layers else above))
            if list(got) != want:
                return False
    return True
""",
        """
def referee_skips(formula):
    import random

    draw = random.Random(5)
    for _ in range(40):
        channels = [draw.randint(1, 30) for _ in range(draw.randint(1, 5))]
        n = draw.randint(1, 4)
        pushed = [c for i, c in enumerate(channels) for _ in range(n + (i + 1 < len(channels)))]
        pushed = channels[:1] + pushed
        came = [channels[-1]] + [c for c in channels[::-1] for _ in range(n + 1)]
        if formula(channels[:], n) != [a + b for a, b in zip(came, pushed[::-1])]:
            return False
    return True
""",
    ],
    "count_by_pencil": [
        """
def count_by_pencil():
    def block(a, b):
        layers = [nn.GroupNorm(8, a), nn.Conv2d(a, b, 3), nn.Linear(96, b), nn.GroupNorm(8, b)]
        layers += [nn.Conv2d(b, b, 3)] + [nn.Conv2d(a, b, 1)] * (a != b)
        return sum(p.numel() for layer in layers for p in layer.parameters())

    from torch import nn

    return block(24, 40) + block(40, 40) + 40 * 40 * 3 * 3 + 40
""",
        """
def count_by_pencil():
    convolutions = 9 * (24 * 40 + 4 * 40 * 40) + 24 * 40
    import torch

    linear = torch.tensor(2 * 96 * 40)
    biases = 8 * 40
    norms = 2 * (24 + 3 * 40)
    return convolutions + linear + biases + norms
""",
    ],
}
