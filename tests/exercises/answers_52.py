"""Notebook 52: mistakes that students make, and right answers written differently."""

_NUMBERS = "torch.rand(len(tokens), generator=generator)"
_CHOSEN = "torch.where(dropped[:, None], null, tokens)"
_DROPPED = f"{_NUMBERS} < share\n    return {_CHOSEN}"

_ORDER = "range(len(alpha_bar) - 1, -1, -1)"
_BEFORE = "alpha_bar[i - 1] if i else torch.ones_like(alpha_bar[0])"
_Z0 = "(x - (1 - here).sqrt() * noise) / here.sqrt()"
_STEP = "before.sqrt() * z0 + (1 - before).sqrt() * noise"
_END = "decode(x / factor).clamp(-1, 1)"

_TOLD = "torch.tensor([1, 2]), torch.tensor([3, 5])"
_GAP = "(found - picture(name)).abs().max()"
_CALL = "found = sampler(model, lambda z: z, x,"


def _chosen(rows="dropped[:, None]", null="null"):
    return (_CHOSEN, f"torch.where({rows}, {null}, tokens)")


def _numbers(drawn):
    """The decision by other numbers, of the shape of a row or of all tokens."""
    return (_DROPPED, f"{drawn} < share\n    return torch.where(dropped, null, tokens)")


def _early(line):
    return ("    dropped =", f"    {line}\n    dropped =")


def _kept(line):
    return (f"return {_CHOSEN}", f"kept = tokens.clone()\n    {line}\n    return kept")


MUTANTS = {
    "drop_captions": [
        (*_chosen("dropped"), "the condition has shape (B,): with (B, 1)"),
        (*_numbers("torch.rand(tokens.shape, generator=generator)"), "each token is dropped by"),
        (*_numbers("torch.rand(1, generator=generator)"), "one number decides on the whole batch"),
        ("< share", ">= share", "share is what is kept here"),
        ("< share", "> share", "share is what is kept here"),
        ("< share", "> 1 - share", "a number above the share drops here"),
        ("< share", "<= share", "a row whose number is the share itself is dropped"),
        ("< share", "< 0.5", "half of the rows is dropped"),
        ("< share", "< 0.1", "a tenth of the rows is dropped"),
        ("< share", "< 0", "nothing is dropped"),
        ("< share", "< 2", "all is dropped"),
        (*_chosen(null="0"), "zeros stand for the empty caption"),
        (*_chosen(null="null[0]"), "the first number of null"),
        (*_chosen(null="null[-1]"), "the last number of null"),
        (*_chosen(null="null.flip(0)"), "null stands in the opposite order"),
        (*_chosen(null="tokens[0]"), "the first row of the batch"),
        (*_chosen(null="tokens.roll(1, 0)"), "another caption of the batch"),
        (*_chosen(null="tokens.roll(-1, 0)"), "the next caption of the batch"),
        (*_chosen("dropped.roll(1)[:, None]"), "the row after the one that was drawn"),
        (*_chosen("dropped.roll(-1)[:, None]"), "the row before the one that was drawn"),
        (*_chosen("dropped.flip(0)[:, None]"), "the decisions stand in the opposite order"),
        (*_kept("kept[dropped, 1:] = null[1:]"), "the first token of a dropped caption stays"),
        (*_kept("kept[dropped, 0] = null[0]"), "only the first token of a dropped caption goes"),
        (*_kept("kept[dropped, :-1] = null[:-1]"), "the last token of a dropped caption stays"),
        (
            f"{_NUMBERS} < share",
            f"{_NUMBERS}.argsort().argsort() < round(share * len(tokens))",
            "always the same number of rows is dropped",
        ),
        (
            f"{_NUMBERS} < share",
            "torch.randperm(len(tokens), generator=generator) < round(share * len(tokens))",
            "the generator is asked for other numbers",
        ),
        ("torch.rand(", "torch.randn(", "the numbers are drawn from a normal distribution"),
        ("generator=generator", "generator=generator, dtype=torch.float64", "in another dtype"),
        (", generator=generator", "", "PyTorch's global random numbers are used"),
        ("=generator", "=torch.Generator().manual_seed(0)", "the generator is not used"),
        (*_early("torch.rand(3, generator=generator)"), "is asked for other numbers"),
        (
            f"    return {_CHOSEN}",
            f"    torch.rand(3, generator=generator)\n    return {_CHOSEN}",
            "the generator is asked for other numbers",
        ),
        (
            _NUMBERS,
            "torch.stack([torch.rand(9, generator=generator)[0] for _ in tokens])",
            "the generator is asked for other numbers",
        ),
        (
            f"return {_CHOSEN}",
            "tokens[dropped] = null\n    return tokens",
            "it changes its input in place",
        ),
        (*_early("if share == 0:\n        return tokens"), "hands back the memory of tokens"),
        (*_early("if share == 1:\n        return null.expand_as(tokens)"), "the memory of null"),
        (*_early("if share == 0:\n        return tokens.clone()"), "the generator is not used"),
        (_CHOSEN, f"{_CHOSEN}.float()", "expected dtype torch.int64"),
        (_CHOSEN, "tokens[~dropped]", "expected shape"),
        (_CHOSEN, f"{_CHOSEN}.tolist()", "expected a torch tensor"),
        (f"return {_CHOSEN}", "tokens = tokens.clone()", "None: is the return missing?"),
    ],
    "draw_latent": [
        ("x / factor", "x", "the latent is not divided by the factor"),
        ("x / factor", "x * factor", "the latent is multiplied by the factor"),
        ("x / factor", "x / factor**0.5", "divided by the root of the factor"),
        ("x / factor", "x / factor / factor", "divided by the factor twice"),
        (_STEP, f"({_STEP}) / factor", "divided by the factor at every step and at the end"),
        (
            f"{_STEP}\n    return decode(x / factor)",
            f"({_STEP}) / factor\n    return decode(x)",
            "divided by the factor at every step: once",
        ),
        ("    for i", "    x = x * factor\n    for i", "the noise is multiplied by the factor"),
        (_END, "(decode(x) / factor).clamp(-1, 1)", "the picture is divided by the factor"),
        (_STEP, f"({_STEP}).clamp(-1, 1)", "the latent is clamped at each step"),
        (_STEP, f"({_STEP}).clamp(-20, 20)", "expected"),
        (_Z0, f"({_Z0}).clamp(-1, 1)", "the predicted latent is clamped"),
        ("predict(x, i)", "predict(x, i).clamp(-3, 3)", "the predicted noise is clamped"),
        (_END, f"decode((x / factor).clamp(-1, 1)){_END[18:]}", "clamped before it is decoded: "),
        (_END, "decode((x / factor).clamp(-1, 1))", "before it is decoded, and the picture is not"),
        (".clamp(-1, 1)", "", "the picture is not clamped"),
        (".clamp(-1, 1)", ".clamp(max=1)", "expected"),
        (".clamp(-1, 1)", ".tanh()", "the picture goes through tanh"),
        ("clamp(-1, 1)", "clamp(0, 1)", "the picture is clamped to [0, 1]"),
        (_END, f"({_END} + 1) / 2", "the picture is brought to [0, 1]"),
        ("decode(x / factor)", "(x / factor)", "the latent is not decoded"),
        ("decode(x / factor)", "decode(decode(x / factor))", "the latent is decoded twice"),
        (
            "decode(x / factor)",
            "torch.cat([decode(z[None] / factor) for z in x])",
            "times: once, on all latents",
        ),
        (_STEP, f"{_STEP}\n        picture = {_END}", "decode is called 5 times"),
        (
            f"{_STEP}\n    return {_END}",
            f"{_STEP}\n        picture = {_END}\n    return picture",
            "decode is called 4 times",
        ),
        (_ORDER, "range(len(alpha_bar))", "from first to last"),
        (_ORDER, "range(len(alpha_bar) - 1, 0, -1)", "the last step is not taken"),
        (_ORDER, "range(len(alpha_bar) - 2, -1, -1)", "the first step, i = S - 1, is not taken"),
        (_ORDER, "torch.arange(len(alpha_bar)).flip(0)", "predict takes i as an int, not Tensor"),
        (_ORDER, "range(len(alpha_bar), -1, -1)", "IndexError"),
        ("predict(x, i)", "predict(x, float(i))", "predict takes i as an int, not float"),
        ("predict(x, i)", "predict(x, len(alpha_bar) - 1 - i)", "predict is told S - 1 - i"),
        ("predict(x, i)", "predict(x, i + 1)", "predict is told i + 1"),
        ("predict(x, i)", "predict(x, max(i - 1, 0))", "predict is told i - 1"),
        ("predict(x, i)", "predict(x, len(alpha_bar) - 1)", "the same step each time"),
        ("predict(x, i)", "predict(x, 0)", "predict is told step 0 each time"),
        ("predict(x, i)", "predict(x / factor, i)", "expected"),
        ("predict(x, i)", "(predict(x, i) + predict(x, i)) / 2", "predict is called 8 times for 4"),
        (
            "noise = predict(x, i)",
            ("start = x if i == len(alpha_bar) - 1 else start\n        noise = predict(start, i)"),
            "predict is told the noise of the beginning each time",
        ),
        (_STEP, f"{_STEP} + (1 - before) * torch.randn_like(x)", "two calls with the same inputs"),
        (_STEP, f"{_STEP} + 0.01 * (1 - before) * x", "expected"),
        (_BEFORE, "alpha_bar[i]", "each step ends at the alpha_bar where it began"),
        (_BEFORE, "alpha_bar[i - 1]", "index -1 is the end of the table"),
        (_BEFORE, "alpha_bar[i - 1] if i else 0 * alpha_bar[0]", "ends at alpha_bar 0"),
        (_BEFORE, "alpha_bar[min(i + 1, len(alpha_bar) - 1)]", "each step ends at alpha_bar[i + 1"),
        (_BEFORE, "alpha_bar[i + 1]", "IndexError"),
        (_BEFORE, "torch.ones_like(alpha_bar[0])", "every step ends at the clean latent"),
        (
            _BEFORE,
            "alpha_bar[i - 2] if i > 1 else torch.ones_like(alpha_bar[0])",
            "a step ends two steps on",
        ),
        (_BEFORE, "alpha_bar[max(i - 1, 0)]", "or ends where it began"),
        ("/ here.sqrt()", "/ here", "z_0 is divided by alpha_bar: by its root"),
        ("/ here.sqrt()", "* here.sqrt()", "z_0 is multiplied by the root of alpha_bar"),
        (" / here.sqrt()", "", "z_0 is not divided by the root of alpha_bar"),
        ("(1 - here).sqrt()", "(1 - here)", "in z_0 the root of 1 - alpha_bar is missing"),
        (_Z0, _Z0.replace("x -", "x +"), "in z_0 the noise is added"),
        ("before.sqrt() * z0", "before * z0", "multiplied by alpha_bar of the next step"),
        ("+ (1 - before).sqrt()", "+ (1 - before)", "put back has lost its root"),
        ("+ (1 - before).sqrt()", "+ (1 - here).sqrt()", "that of the level where the step began"),
        ("+ (1 - before).sqrt()", "- (1 - before).sqrt()", "that is put back is subtracted"),
        (" + (1 - before).sqrt() * noise", "", "no noise is put back"),
        ("noise = predict(x, i)", "noise = -predict(x, i)", "the sign of the predicted noise"),
        (
            "        x = before",
            "        return decode(z0 / factor).clamp(-1, 1)\n        x = before",
            "this is the first predicted latent, decoded",
        ),
        ("        x = before", "        x *= 0\n        x += before", "changes its input in place"),
        (f"return {_END}", _END, "None: is the return missing?"),
        (_END, f"{_END}.float()", "expected dtype torch.float64"),
        (_END, f"{_END}.double()", "expected dtype torch.float32"),
        (_END, f"x, {_END}", "expected a torch tensor"),
    ],
    "diagnose_pipeline": [
        ('"none", "w for s"', '"w for s"', "which is 'none'"),
        ('"w for s", ', "", "which is 'w for s'"),
        ('"exchanged", ', "", "which is 'exchanged'"),
        ('"never null", "guided', '"guided', "which is 'never null'"),
        ('"guided x0", "not', '"not', "which is 'guided x0'"),
        ('"not scaled", "once")', '"once")', "which is 'not scaled'"),
        (', "once")', ")", "which is 'once'"),
        ("2.5, 1.7", "1.0, 1.7", "which is"),
        ("2.5, 1.7", "2.5, 1.0", "which is 'not scaled'"),
        ("2.5, 1.7", "0.0, 1.7", "which is"),
        (_TOLD, "torch.tensor([1, 2]), torch.tensor([1, 2])", "it says 'none' of a sampler of one"),
        ("0.01 * context.view(-1, 1, 1, 1)", "0.01", "it says 'none' of a sampler of one fault"),
        ("torch.linspace(-0.2, 0.3", "10 + torch.linspace(-0.2, 0.3", "which is"),
        ('(s + (fault == "w for s"))', "s", "which is 'w for s'"),
        (_GAP, _GAP.replace(".abs()", ""), "which is"),
        (_GAP, _GAP.replace("found - ", ""), "which is"),
        ("min(names", "max(names", "which is"),
        ("return min(names", "min(names", "it returns None: is a return missing"),
        (_GAP + ")", _GAP + ").title()", "expected one of 'none', 'w for s'"),
        ("return min(names", "return 1, min(names", "expected one of 'none', 'w for s'"),
        (_CALL, _CALL.replace(" x,", " torch.randn_like(x),"), "which is"),
        (_CALL, _CALL.replace("lambda z: z, ", ""), "it raises TypeError"),
    ],
}

ALTERNATIVES = {
    "drop_captions": [
        """
def drop_captions(tokens, null, share, generator):
    numbers = torch.rand(len(tokens), generator=generator)
    kept = tokens.clone()
    for row in range(len(tokens)):
        if numbers[row] < share:
            kept[row] = null
    return kept
""",
        """
def drop_captions(tokens, null, share, generator):
    keep = (torch.rand(len(tokens), generator=generator) >= share).long()[:, None]
    return keep * tokens + (1 - keep) * null
""",
    ],
    "draw_latent": [
        """
def draw_latent(predict, decode, x, alpha_bar, factor):
    bars = [torch.ones((), dtype=x.dtype), *alpha_bar]
    steps = list(enumerate(zip(bars[1:], bars[:-1])))
    for i, (here, before) in reversed(steps):
        noise = predict(x, i)
        ratio = (before / here) ** 0.5
        x = ratio * x + ((1 - before) ** 0.5 - ratio * (1 - here) ** 0.5) * noise
    return torch.clamp(decode(x / factor), min=-1, max=1)
""",
        """
def draw_latent(predict, decode, x, alpha_bar, factor):
    i = len(alpha_bar)
    z = x
    while i:
        i = i - 1
        a = alpha_bar[i]
        b = alpha_bar[i - 1] if i > 0 else 1.0
        noise = predict(z, i)
        z0 = (z - torch.sqrt(1 - a) * noise) / torch.sqrt(a)
        z = b**0.5 * z0 + (1 - b) ** 0.5 * noise
    return decode(z * (1 / factor)).clip(-1, 1)
""",
    ],
    "diagnose_pipeline": [
        """
def diagnose_pipeline(draw):
    told, null = torch.tensor([1]), torch.tensor([2])
    bars = torch.tensor([0.8, 0.5], dtype=torch.float64)
    x = torch.full((1, 1, 1, 1), 0.05, dtype=torch.float64)

    def run(eps_told, eps_null, scale, factor=2.0):
        def model(z, i, context):
            known = torch.where(context == 1, eps_told, eps_null)
            return known.double().view(-1, 1, 1, 1).expand_as(z)

        return draw(model, lambda z: z, x, told, null, scale, bars, factor).item()

    def free(eps, factor=2.0):
        z = x.item()
        for here, before in ((0.5, 0.8), (0.8, 1.0)):
            z0 = (z - (1 - here) ** 0.5 * eps) / here**0.5
            z = before**0.5 * z0 + (1 - before) ** 0.5 * eps
        return z / factor

    def near(a, b):
        return abs(a - b) < 1e-9

    if near(run(0.01, 0.01, 1.0), free(0.01, 1.0)):
        return "not scaled"
    found = run(0.02, 0.01, 1.0)
    if near(found, free(0.03)):
        return "w for s"
    if near(found, free(0.01)):
        return "exchanged"
    found = run(0.02, 0.01, 3.0)
    if near(found, free(0.04)):
        return "none"
    if not near(run(0.0, 0.0, 3.0), free(0.0)):
        return "guided x0"
    return "never null" if near(found, free(0.02)) else "once"
""",
        """
def diagnose_pipeline(draw):
    x = torch.tensor([0.1, -0.05, 0.02], dtype=torch.float64).view(1, 1, 1, 3)
    told, null = torch.tensor([2]), torch.tensor([5])
    bars = torch.tensor([0.95, 0.8, 0.6], dtype=torch.float64)

    def model(z, i, context):
        return 0.02 * context.view(-1, 1, 1, 1) + 0 * z

    def by_hand(noises, grow=1.0, factor=1.5):
        z = x
        for i, eps in zip((2, 1, 0), noises):
            before = bars[i - 1] if i else torch.tensor(1.0, dtype=torch.float64)
            z0 = grow * (z - (1 - bars[i]) ** 0.5 * eps) / bars[i] ** 0.5
            z = before**0.5 * z0 + (1 - before) ** 0.5 * eps
        return z / factor

    s, c, n = 2.0, 0.04, 0.1
    guided = n + s * (c - n)
    cases = {
        "none": by_hand([guided] * 3),
        "w for s": by_hand([c + s * (c - n)] * 3),
        "exchanged": by_hand([c + s * (n - c)] * 3),
        "never null": by_hand([c] * 3),
        "guided x0": by_hand([c] * 3, grow=s),
        "not scaled": by_hand([guided] * 3, factor=1.0),
        "once": by_hand([guided, c, c]),
    }
    found = draw(model, lambda z: z, x, told, null, s, bars, 1.5)
    for name, want in cases.items():
        if torch.allclose(found, want):
            return name
""",
    ],
}
