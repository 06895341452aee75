"""Notebook 22: mistakes as patches of the solutions, and right answers written differently."""

MUTANTS = {
    "training_step": [
        ("(1 - kept).sqrt()", "(1 - kept)", "multiplied by 1 - alpha_bar: its square root is miss"),
        ("kept.sqrt()", "kept", "x_0 is multiplied by alpha_bar: its square root is missing"),
        (
            "kept.sqrt().to(x0.dtype), (1 - kept).sqrt()",
            "kept.to(x0.dtype), (1 - kept)",
            "both square roots are missing",
        ),
        (
            "kept = alpha_bar[t]",
            "kept = torch.cat([alpha_bar[:1], alpha_bar[1:] / alpha_bar[:-1]])[t]",
            "this has alpha where alpha_bar belongs",
        ),
        ("kept = alpha_bar[t]", "kept = alpha_bar[t - 1]", "read one step too early"),
        ("kept = alpha_bar[t]", "kept = alpha_bar[t[:1]].expand(len(t))", "one level of noise"),
        ("+ sigma", "- sigma", "the noise is subtracted"),
        ("sigma[:, None] * noise", "noise", "the noise is not scaled"),
        (" + sigma[:, None] * noise", "", "the noise is missing"),
        ("model(xt, t)", "model(x0, t)", "the network is asked about x_0"),
        ("model(xt, t)", "model(noise, t)", "the network is asked about the noise"),
        ("model(xt, t)", "model(xt)", "called with 1 of its arguments"),
        ("model(xt, t)", "model(xt, kept)", "the network is given alpha_bar_t in place of t"),
        ("model(xt, t)", "model(xt, t / len(alpha_bar))", "the network is given t / T"),
        ("model(xt, t)", "model(xt, t + 1)", "the network is given t + 1"),
        ("model(xt, t)", "model(xt, t.float())", "expected dtype torch.int64, got torch.float32"),
        ("model(xt, t)", "model(xt, t).detach()", "no gradient reaches the network"),
        ("noise - model", "x0 - model", "the target is x_0"),
        ("noise - model", "noise - x0 - model", "the target is noise - x_0"),
        ("noise - model", "noise + model", "the sign of the prediction is turned"),
        (".mean()", ".sum(1).mean()", "this sums over the dimensions"),
        (".mean()", ".mean(1).sum()", "this sums over the batch"),
        (".mean()", ".sum()", "this sums over batch and dimensions"),
        (".mean()", ".mean(1)", "one number per row"),
        (".mean()", ".mean().item()", "expected a torch tensor"),
        (".square().mean()", ".square()", "this is not averaged at all"),
        (".square()", ".abs()", "the absolute error"),
        (".square()", "", "the difference is not squared"),
        (".mean()", ".mean().sqrt()", "the root of the mean square"),
        (".mean()", ".mean() / 2", "a factor 1/2"),
        ("model(xt, t)", "model(xt, t) + 0 * model(xt, t)", "was called 2 times"),
        (
            "kept.sqrt().to(x0.dtype)",
            "kept.sqrt()",
            "expected dtype torch.float32, got torch.float",
        ),
    ],
    "ddpm_step": [
        ("beta / (1 - alpha_bar[i]).sqrt()", "beta / beta.sqrt()", "as in 001, line 424"),
        ("(1 - alpha_bar[i]).sqrt()", "(1 - alpha_bar[i])", "root of 1 - alpha_bar is missing"),
        ("beta / (1 - alpha", "(1 - alpha_bar[i]) / (1 - alpha", "1 - alpha_bar stands where"),
        (") / alpha.sqrt()", ") / alpha_bar[i].sqrt()", "1/sqrt(alpha_bar) before the bracket"),
        (") / alpha.sqrt()", ")", "the factor 1/sqrt(alpha) is missing"),
        (") / alpha.sqrt()", ") / alpha", "this is 1/alpha before the bracket"),
        (") / alpha.sqrt()", ") * alpha.sqrt()", "this multiplies by sqrt(alpha)"),
        ("(xt - beta", "(xt + beta", "the predicted noise is added"),
        ("+ beta.sqrt() * noise", "+ beta * noise", "sigma is its square root"),
        ("+ beta.sqrt() * noise", "+ noise", "the new noise is not scaled"),
        ("+ beta.sqrt() * noise", "- beta.sqrt() * noise", "the new noise is subtracted"),
        ("+ beta.sqrt() * noise", "", "the new noise is missing"),
        (
            "+ beta.sqrt() * noise",
            "+ (beta * (1 - before) / (1 - alpha_bar[i])).sqrt() * noise",
            "beta-tilde",
        ),
        ("    if i == 0:\n        return mean\n", "", "at i = 0 it still adds noise"),
        ("if i == 0", "if i <= 1", "at i = 1 there is no noise"),
        (
            "alpha_bar[i - 1] if i > 0 else 1.0",
            "alpha_bar[i - 1]",
            "at i = 0 it reads alpha_bar[-1]",
        ),
        (
            "    if i == 0:\n        return mean\n",
            "    if i == 0:\n        return xt\n",
            "returns x_t",
        ),
        ("alpha = alpha_bar[i] / before", "alpha = alpha_bar[i]", "alpha_bar stands for alpha"),
    ],
    "referee_mean": [
        ("range(len(alpha_bar))", "range(1)", "try a step other than the first"),
        ("range(len(alpha_bar))", "range(1, len(alpha_bar))", "try the step i = 0"),
        ("range(len(alpha_bar))", "[0, 1]", "try more than one step above i = 0"),
        ("range(len(alpha_bar))", "[0, len(alpha_bar) - 1]", "i = 1 included"),
        ("noise = torch.tensor", "noise = 0 * torch.tensor", "try a step other than the first"),
        ("xt = torch.tensor", "xt = 0 * torch.tensor", "try x_t of both signs"),
        (
            "noise = torch.tensor",
            "noise = abs(1.0) * 0.1 + 0 * torch.tensor",
            "noise of both signs",
        ),
        ("got, right)", "got, right, rtol=0.03, atol=0.03)", "too coarse a tolerance"),
        ("torch.allclose(got, right)", "torch.equal(got, right)", "the test is too strict"),
        ("got, right)", "got.mean(), right.mean())", "try more than one dimension"),
    ],
}

ALTERNATIVES = {
    "training_step": [
        """
def training_step(model, x0, t, noise, alpha_bar):
    level = alpha_bar.gather(0, t).unsqueeze(1)
    signal, sigma = level**0.5, (1 - level) ** 0.5
    xt = (signal * x0.double() + sigma * noise.double()).to(x0.dtype)
    return torch.nn.functional.mse_loss(model(xt, t), noise)
""",
        """
def training_step(model, x0, t, noise, alpha_bar):
    rows = []
    for x, k, e in zip(x0, t.tolist(), noise, strict=True):
        kept = float(alpha_bar[k])
        rows.append(math.sqrt(kept) * x + math.sqrt(1 - kept) * e)
    error = model(xt=torch.stack(rows), t=t) - noise
    return (error**2).sum() / error.numel()
""",
    ],
    "ddpm_step": [
        """
def ddpm_step(xt, i, eps_pred, noise, alpha_bar):
    bar = alpha_bar.tolist()
    before = bar[i - 1] if i else 1.0
    beta = 1 - bar[i] / before
    x0 = (xt - math.sqrt(1 - bar[i]) * eps_pred) / math.sqrt(bar[i])
    mean = math.sqrt(before) * beta * x0 + math.sqrt(1 - beta) * (1 - before) * xt
    return mean / (1 - bar[i]) + (math.sqrt(beta) * noise if i else 0)
""",
        """
def ddpm_step(xt, i, eps_pred, noise, alpha_bar):
    padded = torch.cat([torch.ones(1, dtype=alpha_bar.dtype), alpha_bar])
    alpha = (padded[1:] / padded[:-1])[i].item()
    coefficient = (1 - alpha) / (1 - alpha_bar[i].item()) ** 0.5
    z = noise if i > 0 else torch.zeros_like(noise)
    return alpha**-0.5 * (xt - coefficient * eps_pred) + (1 - alpha) ** 0.5 * z
""",
    ],
    "referee_mean": [
        """
def referee_mean(formula):
    generator = torch.Generator().manual_seed(3)
    alpha_bar = torch.linspace(0.95, 0.05, 6, dtype=torch.float64)
    xt, noise = torch.randn(2, 20, 4, generator=generator, dtype=torch.float64)
    for i in range(6):
        before = float(alpha_bar[i - 1]) if i else 1.0
        alpha = float(alpha_bar[i]) / before
        mean = (xt - (1 - alpha) / (1 - alpha * before) ** 0.5 * noise) / alpha**0.5
        if (formula(xt, noise, i, alpha_bar) - mean).abs().max() > 1e-8:
            return False
    return True
""",
        """
def referee_mean(formula):
    # Bayes: precisions add. N(x; sqrt(before) x0, 1 - before) times N(xt; sqrt(alpha) x, beta).
    alpha_bar = torch.tensor([0.8, 0.5, 0.45, 0.1], dtype=torch.float64)
    xt = torch.tensor([[0.3, -1.0], [2.0, 0.7]], dtype=torch.float64)
    noise = torch.tensor([[-0.5, 1.1], [0.2, -1.6]], dtype=torch.float64)
    verdicts = []
    for i, bar in enumerate(alpha_bar):
        before = alpha_bar[i - 1] if i else 1 - torch.tensor(1e-12, dtype=torch.float64)
        alpha = bar / before
        x0 = (xt - (1 - bar).sqrt() * noise) / bar.sqrt()
        precision = 1 / (1 - before) + alpha / (1 - alpha)
        mean = before.sqrt() / (1 - before) * x0 + alpha.sqrt() / (1 - alpha) * xt
        got = formula(xt, noise, i, alpha_bar)
        verdicts.append(torch.allclose(got, mean / precision, atol=1e-4, rtol=1e-4))
    return all(verdicts)
""",
    ],
}
