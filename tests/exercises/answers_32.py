"""Notebook 32: mistakes that students make, and right answers written differently."""

MUTANTS = {
    "recurrence": [
        (
            "for k, s, p, d in layers:",
            "while layers:\n        k, s, p, d = layers.pop(0)",
            "it changes the list it is given",
        ),
        ("(k - 1)", "(k // 2 * 2)", "rounded to odd ones"),
        ("jump = jump * s", "jump = s", "the jump is the stride of the last layer"),
        ("jump = jump * s", "jump = jump + s", "not multiplied by the stride, but added"),
        ("jump = jump * s", "pass", "the jump is not multiplied by the strides"),
        ("(k - 1) * jump", "(k - 1)", "does not grow by jumps"),
        ("(k - 1)", "k", "k taps have k - 1 gaps"),
        ("d * (k - 1)", "(k - 1)", "the dilation is forgotten"),
        ("size, jump, start = 1, 1, 0", "size, jump, start = 0, 1, 0", "the size starts at 0"),
        ("start = start - p * jump", "pass", "the padding is forgotten"),
        ("start - p", "start + p", "puts zeros on the left"),
        ("p * jump", "p", "does not move the start by jumps"),
        (
            "d * (k - 1) * jump",
            "(d * (k - 1) - 2 * p) * jump",
            "padding moves the field, it does not change its size",
        ),
        ("return size, jump, start", "size, jump, start", "expected a tuple (size, jump, start)"),
        ("return size, jump, start", "return size", "expected a tuple (size, jump, start)"),
        ("return size, jump, start", "return [size, jump, start]", "expected a tuple"),
        ("in layers", "in layers[::-1]", "from the last to the first"),
        ("return size, jump, start", "return size / 1, jump, start", "plain integers"),
        (
            """        size = size + d * (k - 1) * jump
        start = start - p * jump
        jump = jump * s
""",
            """        jump = jump * s
        size = size + d * (k - 1) * jump
        start = start - p * jump
""",
            "by the jump after this layer's stride",
        ),
    ],
    "referee_field": [
        ("return True", "return False", "it rejects the formula in closed form"),
        ("            return False", "            return True", "it"),
        ("range(down_kernel)", "range(1)", "it rejects"),
        (
            "([1], 3), ([0, 0, 0], 3), ([2, 1, 3], 1), ([1, 2, 0, 1], 2), ([3, 1, 2, 1], 3)",
            "([2, 1, 3], 1)",
            "no term for the layers that halve",
        ),
        (
            "([1], 3), ([0, 0, 0], 3), ([2, 1, 3], 1), ([1, 2, 0, 1], 2), ([3, 1, 2, 1], 3)",
            "([3, 1, 2, 1], 3)",
            "the halving kernel always counted as 3",
        ),
        (
            "([1], 3), ([0, 0, 0], 3), ([2, 1, 3], 1), ([1, 2, 0, 1], 2), ([3, 1, 2, 1], 3)",
            "([1, 1, 1], 1), ([2, 2, 2, 2], 2), ([1, 1, 1, 1], 3)",
            "the same number of convolutions at each level",
        ),
        (
            "([1], 3), ([0, 0, 0], 3), ([2, 1, 3], 1), ([1, 2, 0, 1], 2), ([3, 1, 2, 1], 3)",
            "([1, 2], 1), ([1, 2], 2), ([2, 1], 3)",
            "every halving layer counted at full resolution",
        ),
        ("max(seen) - min(seen) + 1", "max(seen) - min(seen)", "it rejects"),
        ("return True", "return 1", "expected True or False"),
    ],
    "levels_for_width": [
        ("(down_kernel - 1)", "(down_kernel > 1) * 2", "a kernel of 2 is counted as 3"),
        ("(2**levels - 1)", "levels", "the term of the halving layers is too small"),
        ("< width", "<= width", "at least, not more than"),
        ("return levels", "return levels + 1", "one halving more than needed"),
        ("levels = 0", "levels = 1", "counts from one halving on"),
        (" + (down_kernel - 1) * (2**levels - 1)", "", "(25) as printed"),
        ("< width", "< 2 * width - 1", "from edge to edge"),
        ("return levels", "return max(levels - 1, 0)", "one halving too few"),
        ("return levels", "return float(levels)", "a plain integer"),
        ("return levels", "levels", "is the return missing?"),
        (
            """    levels = 0
    while 1 + 2 * n * (2 ** (levels + 1) - 1) + (down_kernel - 1) * (2**levels - 1) < width:
        levels += 1
""",
            "    levels = math.ceil(math.log2((width - 1) / (2 * n) + 1) - 1)\n",
            "(25) as printed",
        ),
    ],
    "depth_by_pencil": [
        ("return 4", "return 3", "halvings are whole"),
        ("return 4", "return 3.1293", "how many whole halvings"),
        ("return 4", "return 5", "this is the number of levels, L + 1"),
        ("return 4", "return 50", "the depth of a pure CNN"),
        ("return 4", "return 187", "this is the field"),
        ("return 4", "return 6", "6 is not it"),
    ],
}

ALTERNATIVES = {
    "recurrence": [
        """
def recurrence(layers):
    # From the ends: the inputs of outputs 0 and 1, walked down from the top.
    def ends(i):
        low = high = i
        for k, s, p, d in reversed(layers):
            low, high = low * s - p, high * s - p + d * (k - 1)
        return low, high

    (low, high), (further, _) = ends(0), ends(1)
    return high - low + 1, further - low, low
""",
        """
def recurrence(layers):
    jumps = [math.prod(s for _, s, _, _ in layers[:n]) for n in range(len(layers) + 1)]
    below = list(zip(layers, jumps))
    size = 1 + sum(d * (k - 1) * j for (k, s, p, d), j in below)
    return size, jumps[-1], -sum(p * j for (k, s, p, d), j in below)
""",
    ],
    "referee_field": [
        """
def referee_field(formula):
    import itertools

    for levels in range(5):
        for down in (1, 2, 3):
            for convs in itertools.product((0, 1, 2), repeat=levels + 1):
                size, jump = 1, 1
                for level, n in enumerate(convs):
                    size += 2 * n * jump
                    if level < levels:
                        size += (down - 1) * jump
                        jump *= 2
                if formula(list(convs), down) != size:
                    return False
    return True
""",
        """
def referee_field(formula):
    def right(convs, k):
        L = len(convs) - 1
        return 1 + 2 * sum(n << l for l, n in enumerate(convs)) + (k - 1) * ((1 << L) - 1)

    cases = [([2], 1), ([0], 2), ([0, 0, 1], 3), ([3, 0, 2], 2), ([1, 2, 3, 4], 3)]
    cases += [([4, 0, 1, 2], 1), ([0, 1], 3), ([5, 0, 0, 0, 7], 2)]
    return all(formula(convs, k) == right(convs, k) for convs, k in cases)
""",
    ],
    "levels_for_width": [
        """
def levels_for_width(width, n, down_kernel):
    # 2^L (4n + k - 1) >= width - 2 + 2n + k
    need = width - 2 + 2 * n + down_kernel
    return max(0, (-(-need // (4 * n + down_kernel - 1)) - 1).bit_length())
""",
        """
def levels_for_width(width, n, down_kernel):
    field, jump, levels = 1 + 2 * n, 1, 0
    while field < width:
        field += (down_kernel - 1) * jump
        jump *= 2
        field += 2 * n * jump
        levels += 1
    return levels
""",
    ],
    "depth_by_pencil": [
        """
def depth_by_pencil():
    return math.ceil(math.log2((100 - 1) / 6 + 1) - 1)
""",
        """
def depth_by_pencil():
    return min(L for L in range(10) if 1 + 6 * (2 ** (L + 1) - 1) >= 100)
""",
    ],
}
