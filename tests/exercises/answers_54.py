"""Notebook 54: mistakes that students make, and right answers written differently."""

_TAKEN = "max(1, int(len(timesteps) * strength + 1e-9))"
_STEPS = "timesteps[:taken].flip(0)"

_PULLS = "scales.reshape(-1, 1, 1, 1, 1) * (eps_words - eps_null)"
_SUM = "eps_null + pulls.sum(0)"
_SCALES = "scales.reshape(-1, 1, 1, 1, 1)"

_BACK = "model(xt.flip(2, 3), t, turned).flip(2, 3)"
_UP = "model(xt, t, upright)"
_MEAN = "(as_it_stands + upside_down) / 2"

MUTANTS = {
    "steps_from": [
        (_STEPS, "timesteps[-taken:].flip(0)", "these are the first steps of a trajectory"),
        (_STEPS, "timesteps[:taken]", "the steps rise"),
        (_STEPS, "timesteps[-taken:]", "these are the noisiest steps, and they rise"),
        (_STEPS, "timesteps[taken:].flip(0)", "these are the steps that are left out"),
        ("* strength", "* (1 - strength)", "this is the share 1 - strength"),
        (_TAKEN, "math.ceil(len(timesteps) * strength)", "one step too many"),
        (_TAKEN, "max(1, round(len(timesteps) * strength))", "one step too many"),
        (_TAKEN, "int(len(timesteps) * strength + 1e-9)", "a small strength takes no step"),
        (" + 1e-9", "", "rounded down in floating point"),
        (_TAKEN, "1 + int(len(timesteps) * strength + 1e-9)", "one step too many"),
        (_STEPS, "timesteps[timesteps < 1000 * strength].flip(0)", "time steps of 1,000"),
        (_STEPS, "timesteps.flip(0)", "all steps are taken"),
        (_STEPS, "timesteps[taken - 1 : taken]", "only the first of the steps is given"),
        (_STEPS, "torch.arange(taken).flip(0)", "these are the numbers of the steps"),
    ],
    "compose": [
        ("pulls.sum(0)", "pulls.mean(0)", "the mean over the captions is taken"),
        (
            "(eps_words - eps_null)",
            "eps_words",
            "the predictions are summed, not their differences",
        ),
        (_SUM, "pulls.sum(0)", "eps_null is missing: it is where"),
        (_SUM, "len(scales) * eps_null + pulls.sum(0)", "eps_null is added once for each caption"),
        (_SUM, "(eps_null + pulls).sum(0)", "eps_null is added once for each caption"),
        (_SUM, "(eps_null + pulls).mean(0)", "the mean over the captions is taken"),
        (_SCALES, "scales[0]", "the first scale stands for all"),
        (_SCALES, "scales[-1]", "the last scale stands for all"),
        (_SCALES, "scales.mean()", "the mean of the scales stands for all"),
        (_SCALES, "scales.sum()", "the sum of the scales stands for all"),
        (_SCALES, "1", "the scales are not used"),
        (_SCALES, f"({_SCALES} / scales.sum())", "the scales are made to sum to 1"),
        (_SCALES, "scales.flip(0).reshape(-1, 1, 1, 1, 1)", "in the opposite order"),
        (_SCALES, f"({_SCALES} - 1)", "this is s - 1 in place of each scale"),
        ("pulls.sum(0)", "pulls[0]", "only the first caption counts"),
        ("pulls.sum(0)", "pulls[-1]", "only the last caption counts"),
        ("pulls.sum(0)", "pulls[scales.argmax()]", "only the caption of the largest scale"),
        ("(eps_words - eps_null)", "(eps_null - eps_words)", "the differences are turned"),
        (_SUM, "eps_words[0] + pulls.sum(0)", "the step starts at the first caption"),
        ("pulls.sum(0)", "pulls.prod(0)", "the differences are multiplied"),
        (
            "(eps_words - eps_null)",
            "(eps_words - eps_words.mean(0))",
            "from the mean of the captions",
        ),
    ],
    "two_way_noise": [
        (_BACK, "model(xt.flip(2, 3), t, turned)", "the second prediction is not turned back"),
        (_BACK, "model(xt, t, turned).flip(2, 3)", "the second picture is not turned"),
        (_BACK, "model(xt, t, turned)", "nothing is turned"),
        (_BACK, "model(xt.flip(3), t, turned).flip(3)", "it is mirrored left to right"),
        (_BACK, "model(xt.flip(2), t, turned).flip(2)", "it is mirrored top to bottom"),
        (_BACK, "model(xt.flip(2, 3), t, turned).flip(3)", "left to right only on its way back"),
        (_BACK, "model(xt.flip(2, 3), t, turned).flip(2)", "top to bottom only on its way back"),
        (
            _BACK,
            "model(xt.flip(1, 2, 3), t, turned).flip(1, 2, 3)",
            "the channels are turned round",
        ),
        (_BACK, "model(xt.flip(0, 2, 3), t, turned).flip(0, 2, 3)", "the batch is turned round"),
        (_BACK, "model(xt.flip(1, 2), t, turned).flip(1, 2)", "axes 1 and 2 are turned"),
        (" / 2", "", "the two predictions are added"),
        (_MEAN, "(as_it_stands - upside_down) / 2", "the difference of the two is taken"),
        ("t, turned)", "t, upright)", "both are told the upright class"),
        (_UP, "model(xt, t, turned)", "both are told the class of the turned picture"),
        (_MEAN, "as_it_stands", "only the upright picture counts"),
        (_MEAN, "upside_down", "only the turned picture counts"),
        (_MEAN, "(as_it_stands.flip(2, 3) + upside_down) / 2", "both predictions are turned"),
        (
            _BACK,
            "model(xt.rot90(1, (2, 3)), t, turned).rot90(-1, (2, 3))",
            "the picture is turned by 90 degrees",
        ),
        (
            f"{_UP}\n    upside_down = {_BACK}",
            "model(xt, t, turned)\n    upside_down = model(xt.flip(2, 3), t, upright).flip(2, 3)",
            "the two classes are exchanged",
        ),
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
