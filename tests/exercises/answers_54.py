"""Notebook 54: mistakes that students make, and right answers written differently."""

_TAKEN = "max(1, int(len(timesteps) * strength + 1e-9))"
_STEPS = "timesteps[:taken].flip(0)"

_PULLS = "scales.reshape(-1, 1, 1, 1, 1) * (eps_words - eps_null)"
_SUM = "eps_null + pulls.sum(0)"
_SCALES = "scales.reshape(-1, 1, 1, 1, 1)"
_DIFFERENCE = "(eps_words - eps_null)"

_BACK = "model(xt.flip(2, 3), t, turned).flip(2, 3)"
_UP = "model(xt, t, upright)"
_MEAN = "(as_it_stands + upside_down) / 2"


def _scaled(scales):
    """Other scales, of the same shape."""
    return (_SCALES, f"{scales}.reshape(-1, 1, 1, 1, 1)")


def _turned(there, back, t="t", turned="turned"):
    return (_BACK, f"model(xt{there}, {t}, {turned}){back}")


MUTANTS = {
    "steps_from": [
        (_STEPS, "timesteps[-taken:].flip(0)", "these are the first steps of a trajectory"),
        (_STEPS, "timesteps.flip(0)[:taken]", "these are the first steps of a trajectory"),
        (_STEPS, "timesteps[:taken]", "the steps rise"),
        (_STEPS, "timesteps[-taken:]", "these are the noisiest steps, and they rise"),
        (_STEPS, "timesteps[taken:].flip(0)", "these are the steps that are left out"),
        (_STEPS, "timesteps[taken:]", "that are left out, and they rise"),
        (_STEPS, "timesteps[:taken][::-1]", "it raises ValueError"),
        ("* strength", "* (1 - strength)", "this is the share 1 - strength"),
        (_TAKEN, "math.ceil(len(timesteps) * strength - 1e-9)", "the product is rounded up"),
        (_TAKEN, "max(1, round(len(timesteps) * strength))", "the product is rounded to the near"),
        (_TAKEN, "1 + int(len(timesteps) * strength + 1e-9)", "one step too many"),
        (_TAKEN, f"max(1, {_TAKEN} - 1)", "one step too few"),
        (_TAKEN, "int(len(timesteps) * strength + 1e-9)", "a small strength takes no step"),
        (" + 1e-9", "", "rounded down in floating point"),
        (_TAKEN, "max(1, int(len(timesteps) * strength // 1))", "rounded down in floating point"),
        ("1e-9", "1e-2", "too much is added before it is rounded down"),
        ("1e-9", "1e-3", "too much is added before it is rounded down"),
        ("1e-9", "1e-5", "too much is added before it is rounded down"),
        (_STEPS, "timesteps[timesteps < 1000 * strength].flip(0)", "time steps of 1,000"),
        (
            _STEPS,
            "timesteps[timesteps <= timesteps[-1] * strength].flip(0)",
            "compared with the largest time step",
        ),
        (_STEPS, "timesteps.flip(0)", "all steps are taken"),
        (_TAKEN, "len(timesteps) // 2", "half of the steps is taken"),
        (_STEPS, "timesteps[taken - 1 : taken]", "only the first of the steps is given"),
        (_STEPS, "torch.arange(taken).flip(0)", "these are the numbers of the steps"),
        (_STEPS, "timesteps[:taken].flip(0).float()", "expected dtype torch.int64"),
        (_STEPS, "timesteps[:taken].tolist()[::-1]", "expected a torch tensor"),
        (
            f"return {_STEPS}",
            "timesteps[:taken] = timesteps[:taken].flip(0)\n    return timesteps[:taken]",
            "it changes its input in place",
        ),
        (f"return {_STEPS}", _STEPS, "None: is the return missing?"),
    ],
    "compose": [
        ("pulls.sum(0)", "pulls.mean(0)", "the mean over the captions is taken"),
        (_DIFFERENCE, "eps_words", "the predictions are summed, not their differences"),
        (_SUM, "pulls.sum(0)", "eps_null is missing: it is where"),
        (
            _PULLS + "\n    return eps_null",
            f"{_SCALES} * eps_words\n    return 0",
            "and not subtra",
        ),
        (_SUM, "len(scales) * eps_null + pulls.sum(0)", "eps_null is added once for each caption"),
        (_SUM, "(eps_null + pulls).sum(0)", "eps_null is added once for each caption"),
        (_SUM, "(eps_null + pulls).mean(0)", "the mean over the captions is taken"),
        (_SCALES, "scales[0]", "the first scale stands for all"),
        (_SCALES, "scales[-1]", "the last scale stands for all"),
        (_SCALES, "scales.max()", "the largest scale stands for all"),
        (_SCALES, "scales.mean()", "the mean of the scales stands for all"),
        (_SCALES, "scales.sum()", "the sum of the scales stands for all"),
        ("pulls.sum(0)", f"scales.sum() * {_DIFFERENCE}.mean(0)", "the mean of the scales stands"),
        (_SCALES, "1", "the scales are not used"),
        (_SCALES, "7.5", "expected"),
        (*_scaled("(scales / scales.sum())"), "the scales are made to sum to 1"),
        (*_scaled("scales.softmax(0)"), "the scales go through softmax"),
        (*_scaled("scales.flip(0)"), "in the opposite order"),
        (*_scaled("scales.roll(1)"), "the scales are one caption off"),
        (*_scaled("scales.sort().values"), "the scales are sorted"),
        (*_scaled("(scales - 1)"), "this is s - 1 in place of each scale"),
        (*_scaled("(scales + 1)"), "this is s + 1 in place of each scale"),
        (*_scaled("scales.trunc()"), "cut to whole numbers"),
        (*_scaled("scales.square()"), "the scales are squared"),
        (*_scaled("scales.abs()"), "scales below 0 lose their sign"),
        (*_scaled("scales.clamp(min=0)"), "scales below 0 are taken for 0"),
        (*_scaled("scales.clamp(max=20)"), "expected"),
        (_SCALES, "scales.reshape(-1, 1)", "the scales have shape (K, 1): with (K, 1, 1, 1, 1)"),
        (_SCALES, "scales", "the scales have shape (K,): with (K, 1, 1, 1, 1)"),
        (_PULLS, f"{_SCALES} + {_DIFFERENCE}", "the scales are added to the differences"),
        ("pulls.sum(0)", "pulls[0]", "only the first caption counts"),
        ("pulls.sum(0)", "pulls[-1]", "only the last caption counts"),
        ("pulls.sum(0)", "pulls[:2].sum(0)", "only the first two captions count"),
        ("pulls.sum(0)", "pulls[scales.argmax()]", "only the caption of the largest scale"),
        ("pulls.sum(0)", "pulls.amax(0)", "the difference that is largest counts at each place"),
        ("pulls.sum(0)", "pulls.sum(1)", "it raises RuntimeError"),
        ("pulls.sum(0)", "pulls.sum()", "expected"),
        (_DIFFERENCE, "(eps_null - eps_words)", "the differences are turned"),
        (_DIFFERENCE, "(eps_words - eps_null).abs()", "the size of the differences is taken"),
        (_SUM, "eps_words[0] + pulls.sum(0)", "the step starts at the first caption"),
        (_SUM, "eps_words.mean(0) + pulls.sum(0)", "the step starts at the mean of the captions"),
        ("pulls.sum(0)", "pulls.prod(0)", "the differences are multiplied"),
        (_DIFFERENCE, "(eps_words - eps_words.mean(0))", "from the mean of the captions"),
        (
            _DIFFERENCE,
            "(eps_words - torch.cat([eps_null[None], eps_words[:-1]]))",
            "guided away from the one before",
        ),
        (
            f"return {_SUM}",
            f"return {_SUM} if len(scales) < 3 else eps_null + pulls[:3].sum(0)",
            "expected",
        ),
        (_SUM, f"({_SUM}).clamp(-1, 1)", "the result is clamped to [-1, 1]"),
        (_SUM, f"({_SUM}).clamp(-90, 90)", "expected"),
        (_SUM, "eps_null.add_(pulls.sum(0))", "it changes its input in place"),
        (
            f"return {_SUM}",
            "eps_words -= eps_null\n    return eps_null + pulls.sum(0)",
            "it changes its input in place",
        ),
        (_SUM, f"({_SUM}).float()", "expected dtype torch.float64"),
        (_SUM, f"({_SUM}).double()", "expected dtype torch.float32"),
        (f"return {_SUM}", _SUM, "None: is the return missing?"),
    ],
    "two_way_noise": [
        (*_turned(".flip(2, 3)", ""), "the second prediction is not turned back"),
        (*_turned("", ".flip(2, 3)"), "the second picture is not turned"),
        (*_turned("", ""), "nothing is turned"),
        (*_turned(".flip(3)", ".flip(3)"), "it is mirrored left to right"),
        (*_turned(".flip(2)", ".flip(2)"), "it is mirrored top to bottom"),
        (*_turned(".flip(2, 3)", ".flip(3)"), "left to right only on its way back"),
        (*_turned(".flip(2, 3)", ".flip(2)"), "top to bottom only on its way back"),
        (*_turned(".flip(1, 2, 3)", ".flip(1, 2, 3)"), "the channels are turned round"),
        (*_turned(".flip(0, 2, 3)", ".flip(0, 2, 3)"), "the batch is turned round, too"),
        (*_turned(".flip(0)", ".flip(0)"), "the batch is turned round in place of the picture"),
        (*_turned(".flip(1, 2)", ".flip(1, 2)"), "axes 1 and 2 are turned"),
        (
            *_turned(".rot90(1, (2, 3))", ".rot90(-1, (2, 3))"),
            "the picture is turned by 90 degrees",
        ),
        (*_turned(".rot90(-1, (2, 3))", ".rot90(1, (2, 3))"), "by 90 degrees the other way"),
        (*_turned(".rot90(1, (2, 3))", ".rot90(1, (2, 3))"), "by 90 degrees, and not back"),
        (*_turned(".mT", ".mT"), "the picture is transposed, not turned"),
        (*_turned(".rot90(2, (1, 2))", ".rot90(2, (1, 2))"), "axes 1 and 2 are turned"),
        (*_turned(".neg()", ".neg()"), "the picture is negated, not turned"),
        (*_turned(".flip(2, 3)", ".flip(2, 3)", turned="upright"), "both are told the upright"),
        (
            *_turned(".flip(2, 3)", ".flip(2, 3)", turned="turned.flip(0)"),
            "the classes of the turned pictures are turned round",
        ),
        (
            *_turned(".flip(2, 3)", ".flip(2, 3)", t="t.flip(0)"),
            "the time steps are turned round",
        ),
        (*_turned(".flip(2, 3)", ".flip(2, 3)", t="(t - 1).abs()"), "told another time step"),
        (*_turned(".flip(2, 3)", ".flip(2, 3)", t="0 * t"), "told time step 0"),
        (*_turned(".flip(2, 3)", ".flip(2, 3)", t="t / 1000"), "the model takes int64"),
        (*_turned(".flip(2, 3)", ".flip(2, 3)", turned="turned[:1]"), "the model is told"),
        (" / 2", "", "the two predictions are added"),
        (_MEAN, "(as_it_stands - upside_down) / 2", "the difference of the two is taken"),
        (_MEAN, "as_it_stands * upside_down", "the two predictions are multiplied"),
        (_MEAN, "torch.maximum(as_it_stands, upside_down)", "the larger of the two is taken"),
        (_MEAN, "0.6 * as_it_stands + 0.4 * upside_down", "expected"),
        (_MEAN, f"({_MEAN}).mean(0, keepdim=True)", "expected shape"),
        (_MEAN, f"({_MEAN}).mean(0).expand_as(xt)", "the mean is taken over the batch"),
        (_MEAN, f"({_MEAN}).clamp(-1, 1)", "expected"),
        (_UP, "model(xt, t, turned)", "both are told the class of the turned picture"),
        (_MEAN, "as_it_stands", "only the upright picture counts"),
        (_MEAN, "upside_down", "only the turned picture counts"),
        (_MEAN, "(as_it_stands.flip(2, 3) + upside_down) / 2", "both predictions are turned"),
        (
            _MEAN,
            "(as_it_stands.flip(2, 3) + upside_down.flip(2, 3)) / 2",
            "the upright prediction is turned in place of the other",
        ),
        (
            f"{_UP}\n    upside_down = {_BACK}",
            "model(xt, t, turned)\n    upside_down = model(xt.flip(2, 3), t, upright).flip(2, 3)",
            "the two classes are exchanged",
        ),
        (
            f"as_it_stands = {_UP}\n    upside_down = {_BACK}",
            (
                "told = torch.stack([upright, turned], 1).flatten()\n"
                "    both = model(torch.cat([xt, xt.flip(2, 3)]), torch.cat([t, t]), told)\n"
                "    as_it_stands, upside_down = both[: len(xt)], both[len(xt) :].flip(2, 3)"
            ),
            "put together with cat, the classes in turns",
        ),
        ("    as_it", "    model(xt, t, turned)\n    as_it", "two each"),
        (_BACK, f"{_BACK} if len(xt) > 1 else as_it_stands", "only the upright picture counts"),
        ("    as_it", "    xt += 1\n    as_it", "expected"),
        (f"return {_MEAN}", f"xt *= 2\n    return {_MEAN}", "it changes its input in place"),
        (f"return {_MEAN}", f"turned[:] = 0\n    return {_MEAN}", "it changes its input in place"),
        (_MEAN, f"({_MEAN}).float()", "expected dtype torch.float64"),
        (_MEAN, f"({_MEAN}).double()", "expected dtype torch.float32"),
        (_MEAN, f"{_MEAN} + 0.01 * torch.randn_like(xt)", "two calls with the same inputs differ"),
        (_MEAN, "as_it_stands, upside_down", "expected a torch tensor"),
        (f"return {_MEAN}", _MEAN, "None: is the return missing?"),
    ],
}

ALTERNATIVES = {
    "steps_from": [
        """
def steps_from(timesteps, strength):
    from fractions import Fraction

    taken = int(len(timesteps) * Fraction(str(strength)))
    return torch.flip(timesteps[: max(taken, 1)], dims=(0,))
""",
        """
def steps_from(timesteps, strength):
    count = len(timesteps)
    taken = 1
    while taken < count and (taken + 1) / count <= strength + 1e-12:
        taken += 1
    return torch.stack([timesteps[i] for i in range(taken - 1, -1, -1)])
""",
    ],
    "compose": [
        """
def compose(eps_null, eps_words, scales):
    guided = eps_null.clone()
    for scale, eps in zip(scales, eps_words):
        guided = guided + scale * (eps - eps_null)
    return guided
""",
        """
def compose(eps_null, eps_words, scales):
    weighted = torch.tensordot(scales, eps_words, dims=1)
    return weighted + (1 - scales.sum()) * eps_null
""",
    ],
    "two_way_noise": [
        """
def two_way_noise(model, xt, t, upright, turned):
    both = model(
        torch.cat([xt, xt.rot90(2, (2, 3))]), torch.cat([t, t]), torch.cat([upright, turned])
    )
    a, b = both.chunk(2)
    return 0.5 * (a + b.rot90(2, (2, 3)))
""",
        """
def two_way_noise(model, xt, t, upright, turned):
    upside_down = torch.flip(xt, (-1, -2))
    back = torch.flip(model(upside_down, t, turned), (-1, -2))
    return torch.stack([model(xt, t, upright), back]).mean(0)
""",
    ],
}
