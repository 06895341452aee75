"""Notebook 24: mistakes as patches of the solutions, and right answers written differently."""

MUTANTS = {
    "respaced_betas": [
        (
            "torch.cat([torch.ones(1, dtype=bar.dtype), bar[:-1]])",
            "torch.cat([bar[1:], torch.ones(1, dtype=bar.dtype)])",
            "as printed in 001, line 829",
        ),
        (
            "torch.cat([torch.ones(1, dtype=bar.dtype), bar[:-1]])",
            "bar.roll(-1)",
            "as printed in 001, line 829",
        ),
        (
            "1 - bar / before",
            "(1 - bar / torch.cat([bar[1:], torch.ones(1).double()])).clamp(min=0)",
            "clamped to 0",
        ),
        (
            "1 - bar / before",
            "1 - bar[:-1] / bar[1:]",
            "as printed in 001, line 829: it is S_{t-1}, and the last is left out",
        ),
        (
            "1 - bar / before",
            "(1 - alpha_bar / torch.cat([torch.ones(1), alpha_bar[:-1]]))[kept]",
            "these are the betas of the kept steps",
        ),
        (
            "1 - bar / before",
            (
                "torch.stack([(1 - alpha_bar / torch.cat([torch.ones(1), alpha_bar[:-1]]))"
                "[a + 1 : b + 1].prod() for a, b in zip([-1, *kept[:-1].tolist()], kept.tolist())])"
            ),
            "this multiplies the betas",
        ),
        (
            "1 - bar / before",
            (
                "torch.stack([(1 - alpha_bar / torch.cat([torch.ones(1), alpha_bar[:-1]]))"
                "[a + 1 : b + 1].sum() for a, b in zip([-1, *kept[:-1].tolist()], kept.tolist())])"
            ),
            "this adds up the betas",
        ),
        (
            "torch.cat([torch.ones(1, dtype=bar.dtype), bar[:-1]])",
            "bar.roll(1)",
            (
                "the first beta is wrong: before the first kept step alpha_bar is 1, so it is 1 - "
                "alpha_bar[kept[0]]; this divides by the last one"
            ),
        ),
        (
            "torch.ones(1, dtype=bar.dtype)",
            "alpha_bar[kept[:1] - 1]",
            "not beta[kept[0]]",
        ),
        ("1 - bar / before", "(1 - bar / before)[1:]", "as many betas as kept steps"),
        ("1 - bar / before", "1 - bar", "divide by the alpha_bar of the kept step before"),
        ("1 - bar / before", "bar / before", "this is alpha"),
        ("1 - bar / before", "(1 - bar / before).float()", "expected dtype torch.float64"),
    ],
    "ddim_step": [
        ("1 - bar / before", "1 - bar / alpha_bar[t - 1]", "the beta of the original step t"),
        (
            "eta**2 * (1 - before) / (1 - bar) * (1 - bar / before)",
            "eta**2 * (1 - before) / (1 - bar) * ((1 - bar) / before)",
            "001, line 702, as printed",
        ),
        (
            "(1 - before - variance).sqrt() * eps_pred + variance.sqrt() * noise",
            (
                "(1 - bar).sqrt() * eps_pred / (1 - before - variance).sqrt()"
                " + (variance / (1 - before)).sqrt() * noise"
            ),
            "001, line 676, as printed",
        ),
        (
            "(1 - bar / before)",
            "(1 - before / bar).clamp(min=0)",
            "this is the step without randomness whatever eta is",
        ),
        ("eta**2 * (1 - before) / (1 - bar) *", "eta**2 *", "this is the row sigma-hat"),
        ("variance.sqrt() * noise", "eta * (1 - bar / before).sqrt() * noise", "of sigma-hat"),
        ("eta**2", "eta", "in the variance it is squared"),
        ("eta**2 * (1", "(1", "eta is not used"),
        ("(1 - before - variance)", "(1 - before)", "sigma^2, which the noise takes, is missing"),
        ("(1 - before - variance).sqrt()", "(1 - before - variance)", "lost its square root"),
        ("(1 - before - variance)", "(1 - bar - variance)", "the direction takes alpha_bar_t"),
        ("variance.sqrt() * noise", "variance * noise", "sigma is its square root"),
        ("variance.sqrt() * noise", "noise", "the noise is not scaled"),
        (" + variance.sqrt() * noise", "", "the direction made room for it"),
        ("(xt - (1 - bar).sqrt()", "(xt - (1 - bar)", "1 - alpha_bar is missing in the predicted"),
        (") / bar.sqrt()", ") / bar", "divided by alpha_bar: its square root is missing"),
        ("(xt - (1", "(xt + (1", "the predicted noise is added in x_0"),
        ("before.sqrt() * x0_pred", "before * x0_pred", "multiplied by alpha_bar_prev"),
        ("before.sqrt() * x0_pred", "bar.sqrt() * x0_pred", "multiplied by sqrt(alpha_bar_t)"),
        ("alpha_bar[t_prev] if", "alpha_bar[t - 1] if", "this goes one original step"),
        ("alpha_bar[t_prev] if t_prev >= 0 else 1.0", "alpha_bar[t_prev]", "end of the table"),
        (" if t_prev >= 0 else 1.0", " if t_prev > 0 else 1.0", "t_prev = 0 counts as the end"),
        (
            "alpha_bar[t_prev] if t_prev >= 0 else 1.0",
            "alpha_bar[max(t_prev, 0)]",
            "it reads alpha_bar[0]",
        ),
    ],
    "referee_ddim": [
        ("(0.0, 0.3, 0.9)", "(0.0,)", "try a sigma above 0"),
        ("(0.0, 0.3, 0.9)", "(0.3, 0.9)", "try sigma = 0 as well"),
        ("(0.0, 0.3, 0.9)", "(0.0, 0.9)", "try sigmas of several sizes"),
        ("(0.0, 0.3, 0.9)", "(0.0, 0.3)", "try sigmas of several sizes"),
        ("(0.3, 0.5), (0.6, 0.9)", "(0.3, 0.5), (0.1, 0.4)", "try more than one pair"),
        ("(0.3, 0.5), (0.6, 0.9), (0.05, 0.2)", "(0.3, 0.6), (0.4, 0.9)", "try more than one pair"),
        ("x0 = torch.tensor", "x0 = 0 * torch.tensor", "try x_0 that is not zero"),
        ("noise = torch.tensor", "noise = 1 + 0 * torch.tensor", "try x_t on both sides of"),
        ("noise = torch.tensor", "noise = 0 * torch.tensor", "compare the variance that comes"),
        ("before.sqrt() * x0 + rest.sqrt() * noise)", "mean)", "compare the variance that comes"),
        ("rest.sqrt() * noise)", "rest.sqrt() * noise, 0.1, 0.1)", "too coarse a tolerance"),
        ("torch.allclose(mean,", "torch.equal(mean,", "is the test too strict"),
        (
            "not torch.allclose(variance, sigma**2)",
            "variance < 0",
            "compare the variance that is returned with sigma^2, too",
        ),
        ("1 - before - variance", "1 - before - sigma", "it rejects the right formula"),
    ],
}

ALTERNATIVES = {
    "respaced_betas": [
        """
def respaced_betas(alpha_bar, kept):
    betas, before = [], 1.0
    for k in kept.tolist():
        betas.append(1 - float(alpha_bar[k]) / before)
        before = float(alpha_bar[k])
    return torch.tensor(betas, dtype=alpha_bar.dtype)
""",
        """
def respaced_betas(alpha_bar, kept):
    # Products of the alphas of all the steps from one kept step to the next.
    alpha = torch.cat([alpha_bar[:1], alpha_bar[1:] / alpha_bar[:-1]])
    sums = alpha.log().cumsum(0)[kept]
    return -torch.expm1(sums.diff(prepend=torch.zeros(1, dtype=sums.dtype)))
""",
    ],
    "ddim_step": [
        """
def ddim_step(xt, t, t_prev, eps_pred, noise, alpha_bar, eta):
    bar = float(alpha_bar[t])
    before = 1.0 if t_prev < 0 else float(alpha_bar[t_prev])
    sigma = eta * math.sqrt((1 - before) / (1 - bar)) * math.sqrt(1 - bar / before)
    mean = math.sqrt(before) * (xt - math.sqrt(1 - bar) * eps_pred) / math.sqrt(bar)
    return mean + math.sqrt(1 - before - sigma**2) * eps_pred + sigma * noise
""",
        """
def ddim_step(xt, t, t_prev, eps_pred, noise, alpha_bar, eta):
    padded = torch.cat([torch.ones_like(alpha_bar[:1]), alpha_bar]).to(xt.dtype)
    bar, before = padded[t + 1], padded[t_prev + 1]
    of_xt = (before / bar).sqrt()
    variance = eta**2 * (1 - before) * (1 - bar / before) / (1 - bar)
    of_eps = (1 - before - variance).sqrt() - of_xt * (1 - bar).sqrt()
    return torch.stack([of_xt * xt, of_eps * eps_pred, variance.sqrt() * noise]).sum(0)
""",
    ],
    "referee_ddim": [
        """
def referee_ddim(formula):
    # By what must come out: level, variance and no other point than a linear one.
    double = torch.float64
    x0 = torch.tensor([[1.0, 0.0, 0.7, -1.2], [0.3, -2.0, -0.6, 0.5]], dtype=double)
    xt = torch.tensor([[0.0, 1.0, -1.5, 0.8], [-0.9, 1.1, 0.0, -0.4]], dtype=double)
    for bar, before in ((0.3, 0.45), (0.55, 0.9), (0.04, 0.1)):
        bar, before = torch.tensor([bar, before], dtype=double)
        for share in (0.0, 0.2, 0.45, 0.6, 0.95):
            sigma = share * (1 - before).sqrt()
            mean, variance = formula(x0, xt, bar, before, sigma)
            of_x0, of_xt = mean[0, 0], mean[0, 1]
            rules = (
                (variance, sigma * sigma),
                (of_x0 + of_xt * bar.sqrt(), before.sqrt()),
                (of_xt**2 * (1 - bar) + variance, 1 - before),
                (mean, of_x0 * x0 + of_xt * xt),
            )
            if of_xt < 0 or not all(torch.allclose(*rule) for rule in rules):
                return False
    return True
""",
        """
def referee_ddim(formula):
    # By the factors of x_0 and x_t in the paper's formula.
    generator = torch.Generator().manual_seed(6)
    for _ in range(200):
        bar, before = torch.rand(2, generator=generator, dtype=torch.float64).sort().values
        sigma = torch.rand((), generator=generator, dtype=torch.float64) * (1 - before).sqrt()
        sigma = sigma * (torch.rand((), generator=generator) > 0.2)
        x0, xt = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)
        factor = ((1 - before - sigma**2) / (1 - bar)).sqrt()
        right = (before.sqrt() - factor * bar.sqrt()) * x0 + factor * xt
        mean, variance = formula(x0, xt, bar, before, sigma)
        if (mean - right).abs().max() > 1e-8 or abs(variance - sigma**2) > 1e-8:
            return False
    return True
""",
    ],
}
