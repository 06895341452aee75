"""Notebook 52: mistakes that students make, and right answers written differently."""

_NUMBERS = "torch.rand(len(tokens), generator=generator)"
_CHOSEN = "torch.where(dropped[:, None], null, tokens)"

_ORDER = "range(len(alpha_bar) - 1, -1, -1)"
_BEFORE = "alpha_bar[i - 1] if i else torch.ones_like(alpha_bar[0])"
_Z0 = "(x - (1 - here).sqrt() * noise) / here.sqrt()"
_STEP = "before.sqrt() * z0 + (1 - before).sqrt() * noise"
_END = "decode(x / factor).clamp(-1, 1)"

_FAULTS = '("none", "w for s", "exchanged", "never null", "guided x0", "not scaled", "once")'
_SAYS = "it says 'none'"

MUTANTS = {
    "drop_captions": [
        (_CHOSEN, "torch.where(dropped, null, tokens)", "RuntimeError"),
        ("< share", ">= share", "share is what is kept here"),
        ("< share", "> 1 - share", "a number above the share drops here"),
        ("< share", "< 0.5", "half of the rows is dropped"),
        ("< share", "< 0", "nothing is dropped"),
        ("< share", "< 2", "all is dropped"),
        (_CHOSEN, "torch.where(dropped[:, None], 0, tokens)", "zeros stand for the empty caption"),
        (_CHOSEN, "torch.where(dropped[:, None], null[0], tokens)", "the first number of null"),
        (_CHOSEN, "torch.where(dropped[:, None], null[-1], tokens)", "the last number of null"),
        (_CHOSEN, "torch.where(dropped[:, None], tokens[0], tokens)", "the first row of the batch"),
        (_CHOSEN, "torch.where(dropped[:, None], tokens.roll(1, 0), tokens)", "another caption"),
        ("torch.rand(", "torch.randn(", "the numbers are drawn from a normal distribution"),
        (", generator=generator", "", "two calls with the same inputs differ"),
        (_CHOSEN, "tokens.masked_scatter_(dropped[:, None], null.repeat(len(tokens)))", "in place"),
        (f"return {_CHOSEN}", "tokens = tokens.clone()", "expected a torch tensor"),
        (
            f"{_NUMBERS} < share",
            f"{_NUMBERS}.argsort().argsort() < round(share * len(tokens))",
            "always the same number of rows is dropped",
        ),
        ("    dropped =", "    torch.rand(3, generator=generator)\n    dropped =", "got"),
    ],
    "draw_latent": [
        ("x / factor", "x", "the latent is not divided by the factor"),
        ("x / factor", "x * factor", "the latent is multiplied by the factor"),
        ("x / factor", "x / factor**0.5", "divided by the root of the factor"),
        (_STEP, f"({_STEP}) / factor", "divided by the factor at every step and at the end"),
        (_END, "(decode(x) / factor).clamp(-1, 1)", "the picture is divided by the factor"),
        (_STEP, f"({_STEP}).clamp(-1, 1)", "the latent is clamped at each step"),
        (_Z0, f"({_Z0}).clamp(-1, 1)", "the predicted latent is clamped"),
        (_END, "decode((x / factor).clamp(-1, 1)).clamp(-1, 1)", "clamped before it is decoded"),
        (".clamp(-1, 1)", "", "the picture is not clamped"),
        ("clamp(-1, 1)", "clamp(0, 1)", "the picture is clamped to [0, 1]"),
        ("decode(x / factor)", "(x / factor)", "the latent is not decoded"),
        (_ORDER, "range(len(alpha_bar))", "from first to last"),
        (_ORDER, "range(len(alpha_bar) - 1, 0, -1)", "the last step is not taken"),
        (_ORDER, "range(len(alpha_bar) - 2, -1, -1)", "the first step, i = S - 1, is not taken"),
        ("predict(x, i)", "predict(x, len(alpha_bar) - 1 - i)", "predict is told S - 1 - i"),
        ("predict(x, i)", "predict(x, i + 1)", "predict is told i + 1"),
        ("predict(x, i)", "predict(x, len(alpha_bar) - 1)", "the same step each time"),
        (_BEFORE, "alpha_bar[i]", "each step ends at the alpha_bar where it began"),
        (_BEFORE, "alpha_bar[i - 1]", "index -1 is the end of the table"),
        (_BEFORE, "torch.ones_like(alpha_bar[0])", "every step ends at the clean latent"),
        (
            _BEFORE,
            "alpha_bar[i - 2] if i > 1 else torch.ones_like(alpha_bar[0])",
            "a step ends two steps on",
        ),
        (_BEFORE, "alpha_bar[max(i - 1, 0)]", "or ends where it began"),
        ("/ here.sqrt()", "/ here", "got"),
        ("z0 + (1 - before).sqrt() * noise", "z0 + (1 - before) * noise", "got"),
        (_Z0, _Z0.replace("x -", "x +"), "got"),
        ("noise = predict(x, i)", "noise = -predict(x, i)", "the sign of the predicted noise"),
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
        ("2.5, 1.7", "2.5, 1.0", "which is"),
        ("torch.tensor([3, 5])", "torch.tensor([1, 2])", "which is"),
        ("min(names", "max(names", "which is"),
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
