"""Notebook 23: mistakes as patches of the solutions, and right answers written differently."""

MUTANTS = {
    "frechet_distance": [
        (
            "torch.linalg.eigvalsh(root_a @ cov_b @ root_a).clamp(min=0)",
            "(cov_a @ cov_b).clamp(min=0).diag()",
            "the root is taken of each element: (cov_a cov_b)^(1/2)",
        ),
        (
            "torch.linalg.eigvalsh(root_a @ cov_b @ root_a).clamp(min=0)",
            "(cov_a @ cov_b).abs().diag()",
            "the root is taken of each element",
        ),
        (
            "torch.linalg.eigvalsh(root_a @ cov_b @ root_a).clamp(min=0)",
            "(cov_a * cov_b).clamp(min=0).diag()",
            "this multiplies the covariances element by element",
        ),
        (
            "torch.linalg.eigvalsh(root_a @ cov_b @ root_a)",
            "torch.linalg.eigvalsh(cov_a @ cov_b)",
            "eigh reads one triangle of cov_a cov_b",
        ),
        (
            "torch.linalg.eigvalsh(root_a @ cov_b @ root_a)",
            "torch.linalg.eigvalsh((cov_a @ cov_b + cov_b @ cov_a) / 2)",
            "the root of the symmetric part of cov_a cov_b",
        ),
        ("both.sqrt().sum()", "both.sum()", "the root is missing"),
        ("- 2 * both", "- both", "the factor 2 of the root is missing"),
        ("- 2 * both", "+ 2 * both", "the root is added"),
        (" - 2 * both.sqrt().sum()", "", "the term with the root is missing"),
        (" + trace", "", "this compares the means only"),
        ("(mean_a - mean_b).square().sum() + trace", "trace", "distance of the means is missing"),
        (" + trace", " + trace / 2", "the trace is halved"),
        (".square().sum() + trace", ".square().sum().sqrt() + trace", "is not squared"),
        (".square().sum() + trace", ".square().mean() + trace", "are averaged: sum them"),
        (
            "return (mean_a - mean_b).square().sum() + trace",
            "return ((mean_a - mean_b).square().sum() + trace).sqrt()",
            "the square root of the distance asked for",
        ),
        ("sum() + trace", "sum().item() + trace.item()", "expected a torch tensor"),
        ("values.clamp(min=0).sqrt()", "values.sqrt()", "clamp them before the root"),
    ],
    "referee_inception": [
        (
            "if not torch.allclose(formula(p), (of_mean - of_each.mean()).exp()):",
            "if formula(p).isnan():",
            "it accepts a formula with p(y) as a sum over the pictures (001, line 596)",
        ),
        (
            "mean = p.mean(0)",
            "mean = p.sum(0)",
            "it rejects the right formula: what you compare with is wrong",
        ),
        (
            "(of_mean - of_each.mean()).exp()",
            "(of_mean - of_each.mean())",
            "it rejects the right formula: what you compare with is wrong",
        ),
        (
            "(of_mean - of_each.mean()).exp()",
            "(of_mean - of_each).exp().mean()",
            "it rejects the right formula",
        ),
        ("-(p * p.log())", "-(p * p.log2())", "it rejects the right formula"),
        (
            ".exp()):",
            ".exp(), rtol=0.05):",
            "it accepts a formula with 0.5 % too large a result: that is too coarse a tolerance",
        ),
        (
            ".exp()):",
            ".exp(), rtol=0, atol=0):",
            "or the test is too strict",
        ),
        (
            "((6, 3), (4, 7))",
            "((6, 3),)",
            "an error with more classes than pictures: try more than one table",
        ),
        (
            "((6, 3), (4, 7))",
            "((4, 7),)",
            "an error with more pictures than classes: try more than one table",
        ),
        (
            "p = logits.softmax(1)",
            "p = torch.eye(classes, dtype=torch.float64)[logits.argmax(1)].clamp(min=1e-30)",
            "try rows that are not all sure",
        ),
        ("return True", "return torch.ones(2)", "expected True or False"),
    ],
    "diagnose": [
        ("tensor([1, 3, 4])", "tensor([0, 1, 2])", "it says 'index' of DDPM as it sh"),
        ("(-0.9, 0.9, 6", "(0.1, 0.9, 6", "it says 'range' of DDPM as it should be"),
        ('"index" if told == [2, 1, 0] else ', "", "it says 'shift' of DDPM, the model told the"),
        ('"order" if told == [1, 3, 4] else ', "", "it says 'shift' of DDPM that takes the steps"),
        (
            'return "index" if told == [2, 1, 0] else "order" if told == [1, 3, 4] else "shift"',
            'return "index"',
            "which is 'order': record what your model is told",
        ),
        (
            '    if (quiet >= 0).all():\n        return "range"\n',
            "",
            "which is 'range': your picture needs values below 0",
        ),
        (
            '    if not torch.allclose(quiet, x0):\n        return "root"\n',
            "",
            "which is 'root': the picture comes out wrong",
        ),
        (
            "sampler(model, xT, noise, alpha_bar, timesteps)",
            "quiet",
            "which is 'last noise': with your noise all zeros",
        ),
        (
            "torch.allclose(loud, x0)",
            "torch.allclose(loud, x0, atol=0.1)",
            "which is 'last noise': with your noise all zeros",
        ),
        ("torch.allclose(loud, x0)", "torch.equal(loud, x0)", "compare with a tolerance"),
        (
            'return "none" if torch.allclose(loud, x0) else "last noise"',
            'if not torch.allclose(loud, x0):\n        return "last noise"',
            "it returns None: is a return missing",
        ),
        ('"last noise"', '"noise"', "expected one of 'none', 'root'"),
        (
            "[0.95, 0.8, 0.6, 0.4, 0.2, 0.05]",
            "[0.999999, 0.999998, 0.6, 0.4, 0.2, 0.05]",
            "which is 'root': the picture comes out wrong",
        ),
    ],
}

ALTERNATIVES = {
    "frechet_distance": [
        """
def frechet_distance(mean_a, cov_a, mean_b, cov_b):
    # The eigenvalues of the product are real and not negative, though it is not symmetric.
    both = torch.linalg.eigvals(cov_a @ cov_b).real.clamp(min=0)
    shift = mean_a - mean_b
    return shift @ shift + torch.trace(cov_a) + torch.trace(cov_b) - 2 * both.sqrt().sum()
""",
        """
def frechet_distance(mean_a, cov_a, mean_b, cov_b):
    def factor(cov):  # F F^T = cov
        values, vectors = torch.linalg.eigh(cov)
        return vectors * values.clamp(min=0) ** 0.5

    # |A - B Q|^2 at its smallest over rotations Q: the sum of singular values of A^T B.
    a, b = factor(cov_a), factor(cov_b)
    spread = (a**2).sum() + (b**2).sum() - 2 * torch.linalg.svdvals(a.T @ b).sum()
    return ((mean_a - mean_b) ** 2).sum() + spread
""",
    ],
    "referee_inception": [
        """
def referee_inception(formula):
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        shape = [(3, 8), (9, 4), (2, 2), (12, 5)][seed]
        p = torch.rand(*shape, generator=generator, dtype=torch.float64) ** 4 + 1e-3
        p = p / p.sum(1, keepdim=True)
        joint = p / len(p)  # of picture and class: the score is exp of their mutual information
        product = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
        information = (joint * (joint / product).log()).sum()
        if abs(formula(p).item() - math.exp(information)) > 1e-9:
            return False
    return True
""",
        """
def referee_inception(formula):
    def right(rows):
        marginal = [sum(row[k] for row in rows) / len(rows) for k in range(len(rows[0]))]
        total = 0.0
        for row in rows:
            total += sum(q * math.log(q / marginal[k]) for k, q in enumerate(row))
        return math.exp(total / len(rows))

    tables = [
        [[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.5, 0.25, 0.25], [0.9, 0.05, 0.05], [0.2, 0.2, 0.6]],
        [[0.4, 0.3, 0.2, 0.1], [0.05, 0.05, 0.1, 0.8], [0.6, 0.1, 0.2, 0.1]],
    ]
    verdicts = []
    for rows in tables:
        got = formula(torch.tensor(rows, dtype=torch.float64))
        verdicts.append(math.isclose(float(got), right(rows), rel_tol=1e-8))
    return all(verdicts)
""",
    ],
    "diagnose": [
        """
def diagnose(sampler):
    bars = torch.linspace(0.9, 0.05, 12, dtype=torch.float64)
    steps = torch.tensor([2, 5, 6, 9, 11])
    picture = torch.tensor([[0.8, -0.8, 0.3, -0.4]], dtype=torch.float64)

    def run(noise):
        told = []

        def model(x, t):
            told.extend(t.tolist())
            bar = bars[t[0]]
            return (x - bar.sqrt() * picture) / (1 - bar).sqrt()

        return sampler(model, torch.zeros(1, 4, dtype=torch.float64), noise, bars, steps), told

    still, told = run(torch.zeros(5, 1, 4, dtype=torch.float64))
    if told == sorted(told):
        return "order"
    if told == [4, 3, 2, 1, 0]:
        return "index"
    if told != [11, 9, 6, 5, 2]:
        return "shift"
    wrong = (still - picture).abs().max() > 1e-6
    if wrong and still.min() > -1e-6:
        return "range"
    if wrong:
        return "root"
    moved, _ = run(torch.full((5, 1, 4), 3.0, dtype=torch.float64))
    return "last noise" if (moved - picture).abs().max() > 1e-6 else "none"
""",
        """
def diagnose(sampler):
    T = 8
    bars = torch.cumprod(torch.full((T,), 0.7), 0)
    when = torch.tensor([1, 2, 5, 6])
    target = torch.linspace(-0.7, 0.8, 9).reshape(1, 1, 3, 3)
    told = []

    class Oracle:
        def __call__(self, x, t):
            told.append(int(t[0]))
            return (x - bars[told[-1]] ** 0.5 * target) / (1 - bars[told[-1]]) ** 0.5

    z = torch.randn(4, 1, 1, 3, 3, generator=torch.Generator().manual_seed(3))
    start = torch.randn(1, 1, 3, 3, generator=torch.Generator().manual_seed(4))
    without = sampler(Oracle(), start, torch.zeros_like(z), bars, when)
    told_to = told[:]
    by_list = {(6, 5, 2, 1): "", (3, 2, 1, 0): "index", (1, 2, 5, 6): "order"}
    verdict = by_list.get(tuple(told_to), "shift")
    if verdict:
        return verdict
    if (without - target).abs().max() > 1e-3:
        return "range" if without.min() >= 0 else "root"
    swing = (sampler(Oracle(), start, z, bars, when) - without).abs().max()
    return "none" if swing < 1e-3 else "last noise"
""",
    ],
}
