"""Notebook 21: mistakes as patches of the solutions, and right answers written differently."""

MUTANTS = {
    "q_sample": [
        ("(1 - kept).sqrt()", "(1 - kept)", "multiplied by 1 - alpha_bar: its square root is miss"),
        ("kept.sqrt()", "kept", "x_0 is multiplied by alpha_bar: its square root is missing"),
        (
            "kept.sqrt().to(x0.dtype) * x0 + (1 - kept).sqrt()",
            "kept.to(x0.dtype) * x0 + (1 - kept)",
            "both square roots are missing",
        ),
        (
            "kept = alpha_bar[t]",
            "kept = torch.cat([alpha_bar[:1], alpha_bar[1:] / alpha_bar[:-1]])[t]",
            "this has alpha where alpha_bar belongs",
        ),
        ("alpha_bar[t]", "alpha_bar[t - 1]", "read one step too early"),
        (
            "alpha_bar[t]",
            "alpha_bar[(t + 1).clamp(max=len(alpha_bar) - 1)]",
            "read one step too late",
        ),
        ("alpha_bar[t]", "alpha_bar[t[:1]].expand(len(t))", "one level of noise for the whole"),
        (
            "alpha_bar[t]",
            "torch.where(t == 0, torch.ones_like(alpha_bar[t]), alpha_bar[t])",
            "at t = 0 it returns x_0: index 0 has one step of noise",
        ),
        (
            "alpha_bar[t]",
            "torch.where(t == 0, alpha_bar[-1], alpha_bar[t])",
            "at t = 0 it reads alpha_bar[-1], the end of the table",
        ),
        (
            "kept.sqrt().to(x0.dtype) * x0 + (1 - kept)",
            "(1 - kept).sqrt().to(x0.dtype) * x0 + kept",
            "the two factors are swapped",
        ),
        ("(1 - kept).sqrt()", "(1 - kept**0.5)", "multiplied by 1 - sqrt(alpha_bar)"),
        (" * x0 +", " + 0 * x0 +", "x_0 is missing"),
        ("kept.sqrt().to(x0.dtype) * x0", "x0", "x_0 is not scaled"),
        ("(1 - kept).sqrt().to(x0.dtype) * noise", "noise", "the noise is not scaled"),
        (" + (1 - kept)", " - (1 - kept)", "the noise is subtracted"),
        (" * noise", " * 0 * noise", "the noise is missing"),
        ("kept.sqrt().to(x0.dtype)", "kept.sqrt()", "expected dtype torch.float32"),
        (".reshape(-1, *[1] * (x0.ndim - 1))", ".reshape(-1, 1, 1, 1)", "expected shape (B="),
    ],
    "referee_variance": [
        ("range(len(alpha_bar))", "range(1)", "try a step in the middle of the table"),
        ("range(len(alpha_bar))", "range(1, len(alpha_bar))", "try the first step, i = 0"),
        ("range(len(alpha_bar))", "[0, 1, 2]", "try every step of the table"),
        ("range(len(alpha_bar))", "[0, 2, 3, 4]", "try every step of the table"),
        ("want, atol=1e-10)", "want, rtol=0.03)", "that is too coarse a tolerance"),
        (
            "torch.allclose(formula(i, alpha_bar), want, atol=1e-10)",
            "formula(i, alpha_bar) == want",
            "the test is too strict",
        ),
        ("- covariance**2 / (1 - alpha_bar[i])", "", "it rejects the right formula"),
        (
            "alpha_bar[i - 1] if i > 0 else torch.ones_like(alpha_bar[0])",
            "alpha_bar[i - 1]",
            "before the first step alpha_bar is 1",
        ),
    ],
    "posterior": [
        (
            "(1 - alpha) / (1 - bar)\n    of_xt = alpha.sqrt() * (1 - before) / (1 - bar)",
            "1\n    of_xt = alpha.sqrt() * (1 - before) / (1 - alpha)",
            "as in 001, line 401",
        ),
        (
            "before.sqrt() * (1 - alpha)",
            "(before * (1 - alpha)).sqrt()",
            "the root covers beta too, as in 004, line 1198",
        ),
        (
            "before.sqrt() * (1 - alpha)",
            "bar.sqrt() * (1 - alpha)",
            "the weight of x_0 has alpha_b",
        ),
        ("before.sqrt() * (1 - alpha)", "before * (1 - alpha)", "the root of alpha_bar of the ste"),
        ("alpha.sqrt() * (1 - before)", "alpha * (1 - before)", "the root of alpha is missing"),
        ("alpha.sqrt() * (1 - before)", "bar.sqrt() * (1 - before)", "alpha_bar where alpha belon"),
        ("alpha.sqrt() * (1 - before)", "alpha.sqrt() * (1 - bar)", "the weight of x_t has alpha_"),
        (
            "of_x0.to(xt.dtype) * x0 + of_xt.to(xt.dtype) * xt",
            "of_xt.to(xt.dtype) * x0 + of_x0.to(xt.dtype) * xt",
            "the two weights are swapped",
        ),
        (
            "variance = (1 - before) / (1 - bar) * (1 - alpha)",
            "variance = (1 - before) / (1 - alpha) * (1 - alpha)",
            "as in 001, line 396",
        ),
        (
            "variance = (1 - before) / (1 - bar) * (1 - alpha)",
            "variance = 1 - alpha",
            "this is beta, the variance of the step forward",
        ),
        (
            "variance = (1 - before) / (1 - bar) * (1 - alpha)",
            "variance = ((1 - before) / (1 - bar) * (1 - alpha)).sqrt()",
            "this is the standard deviation",
        ),
        (
            "variance = (1 - before) / (1 - bar)",
            "variance = (1 - bar) / (1 - before)",
            "the fraction is upside down",
        ),
        (
            "torch.cat([torch.ones_like(alpha_bar[:1]), alpha_bar[:-1]])",
            "alpha_bar.roll(1)",
            "at t = 0 it reads alpha_bar[-1]",
        ),
        ("variance.to(xt.dtype)", "variance.to(xt.dtype).flatten()", "(B, 1, ..., 1)"),
        ("variance.to(xt.dtype)", "variance.to(xt.dtype).expand(xt.shape)", "one for each pixel"),
        (", variance.to(xt.dtype)", "", "expected two results, mean and variance"),
        ("of_xt.to(xt.dtype)", "of_xt", "expected dtype torch.float32"),
    ],
}

ALTERNATIVES = {
    "q_sample": [
        """
def q_sample(x0, t, noise, alpha_bar):
    shape = [len(t)] + [1] * (x0.dim() - 1)
    signal = torch.sqrt(alpha_bar).gather(0, t).view(shape).type_as(x0)
    sigma = torch.sqrt(1 - alpha_bar).gather(0, t).view(shape).type_as(x0)
    return signal * x0 + sigma * noise
""",
        """
def q_sample(x0, t, noise, alpha_bar):
    rows = []
    for x, k, e in zip(x0, t.tolist(), noise, strict=True):
        kept = float(alpha_bar[k])
        rows.append(math.sqrt(kept) * x + math.sqrt(1 - kept) * e)
    return torch.stack(rows)
""",
    ],
    "referee_variance": [
        """
def referee_variance(formula):
    # Bayes on the precisions, at steps of several tables.
    generator = torch.Generator().manual_seed(1)
    for T in (2, 6):
        unit = torch.rand(T, generator=generator, dtype=torch.float64)
        alpha_bar = torch.cumprod(0.5 + 0.4 * unit, 0)
        for i in range(T):
            before = float(alpha_bar[i - 1]) if i else 1.0
            alpha = float(alpha_bar[i]) / before
            want = 1 / (alpha / (1 - alpha) + 1 / (1 - before)) if i else 0.0
            if abs(float(formula(i, alpha_bar)) - want) > 1e-9:
                return False
    return True
""",
        """
def referee_variance(formula):
    alpha_bar = torch.tensor([0.8, 0.5, 0.45, 0.1], dtype=torch.float64)
    verdicts = []
    for i in range(len(alpha_bar)):
        before = alpha_bar[i - 1] if i else torch.ones((), dtype=torch.float64)
        beta = 1 - alpha_bar[i] / before
        # Both Gaussians on a grid of x_{t-1}, at x_0 = x_t = 0.
        grid = torch.linspace(-8, 8, 40_001, dtype=torch.float64)
        if i == 0:
            verdicts.append(abs(float(formula(i, alpha_bar))) < 1e-9)
            continue
        log_p = -(1 - beta) * grid**2 / (2 * beta) - grid**2 / (2 * (1 - before))
        p = log_p.softmax(0)
        verdicts.append(torch.allclose(formula(i, alpha_bar), (p * grid**2).sum(), rtol=1e-5))
    return all(verdicts)
""",
    ],
    "posterior": [
        """
def posterior(x0, xt, t, alpha_bar):
    # Precisions add.
    padded = torch.cat([torch.ones(1, dtype=alpha_bar.dtype), alpha_bar])
    alpha, before = padded[t + 1] / padded[t], padded[t]
    tilde = (1 - alpha) * (1 - before) / (1 - padded[t + 1])
    of_xt = alpha.sqrt() / (1 - alpha) * tilde
    of_x0 = before.sqrt() * (1 - alpha) / (1 - padded[t + 1])
    shape = [len(t)] + [1] * (xt.dim() - 1)
    of_x0, of_xt, tilde = (c.view(shape).to(xt.dtype) for c in (of_x0, of_xt, tilde))
    return of_x0 * x0 + of_xt * xt, tilde
""",
        """
def posterior(x0, xt, t, alpha_bar):
    means, variances = [], []
    bar = alpha_bar.tolist()
    for x, y, i in zip(x0, xt, t.tolist(), strict=True):
        before = bar[i - 1] if i > 0 else 1.0
        beta = 1 - bar[i] / before
        mean = math.sqrt(before) * beta * x + math.sqrt(1 - beta) * (1 - before) * y
        means.append(mean / (1 - bar[i]))
        variances.append(beta * (1 - before) / (1 - bar[i]))
    shape = (-1, *[1] * (xt.ndim - 1))
    return torch.stack(means), torch.tensor(variances, dtype=xt.dtype).reshape(shape)
""",
    ],
}
