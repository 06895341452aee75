"""Checks of notebook 23."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.distributions import Categorical

from course.teach.checks._common import names_fault
from course.teach.exercise import agrees, exercise, judges


def _root(matrix):
    """The symmetric square root of a symmetric matrix without negative eigenvalues."""
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * values.clamp(min=0).sqrt() @ vectors.T


def _trace_of_root(cov_a, cov_b):
    root = _root(cov_a)
    return torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()


def _frechet(mean_a, cov_a, mean_b, cov_b, cross=2.0, shift=1.0, spread=1.0):
    """Heusel et al. 2017, equation 6, with factors that mistakes may change."""
    trace = cov_a.trace() + cov_b.trace() - cross * _trace_of_root(cov_a, cov_b)
    return shift * (mean_a - mean_b).square().sum() + spread * trace


def _without_root(cross):
    """The distance with another matrix in place of (cov_a cov_b)^(1/2)."""

    def distance(mean_a, cov_a, mean_b, cov_b):
        trace = (cov_a + cov_b - 2 * cross(cov_a, cov_b)).trace()
        return (mean_a - mean_b).square().sum() + trace

    return distance


def _distance(mean_a, cov_a, mean_b, cov_b):
    return _frechet(mean_a, cov_a, mean_b, cov_b)


@exercise(reference=_distance)
def frechet_distance(candidate, draw):
    def covariance(size, rank):
        factor = draw.normal(size, rank)
        return factor @ factor.T / rank

    wrong = {
        "the root is taken of each element: (cov_a cov_b)^(1/2) is a root of the matrix": (
            _without_root(lambda a, b: (a @ b).clamp(min=0).sqrt())
        ),
        "the root is taken of each element, of the size of negative ones": (
            _without_root(lambda a, b: (a @ b).abs().sqrt())
        ),
        "this multiplies the covariances element by element, or reads only their diagonals: "
        "cov_a cov_b is a matrix product": (
            _without_root(lambda a, b: (a * b).clamp(min=0).sqrt())
        ),
        "this multiplies the roots of the covariances: that is not the root of their product": (
            _without_root(lambda a, b: _root(a) @ _root(b))
        ),
        "this takes the root of the symmetric part of cov_a cov_b, which is not symmetric": (
            _without_root(lambda a, b: _root((a @ b + b @ a) / 2))
        ),
        "eigh reads one triangle of cov_a cov_b, which is not symmetric": (
            _without_root(lambda a, b: _root(a @ b))
        ),
        "the root is missing: this subtracts 2 cov_a cov_b": _without_root(lambda a, b: a @ b),
        "the factor 2 of the root is missing": partial(_frechet, cross=1.0),
        "the root is added: it must be subtracted": partial(_frechet, cross=-2.0),
        "the term with the root is missing": partial(_frechet, cross=0.0),
        "the trace term is missing: this compares the means only": partial(_frechet, spread=0.0),
        "the distance of the means is missing": partial(_frechet, shift=0.0),
        "the trace is halved": partial(_frechet, spread=0.5),
        "the distance of the means is not squared": lambda ma, a, mb, b: (
            _frechet(ma, a, mb, b, shift=0.0) + (ma - mb).square().sum().sqrt()
        ),
        "the squared differences of the means are averaged: sum them": lambda ma, a, mb, b: (
            _frechet(ma, a, mb, b, shift=1 / len(ma))
        ),
        "this is the square root of the distance asked for": lambda ma, a, mb, b: (
            _frechet(ma, a, mb, b).clamp(min=0).sqrt()
        ),
        "this is not summed to one number: the trace is missing": lambda ma, a, mb, b: (
            (ma - mb).square().sum() + a + b - 2 * _root(a) @ _root(b)
        ),
    }
    size = draw.integer(4, 6)
    mean_a, mean_b = draw.normal(size), 2 * draw.normal(size)
    cov_a, cov_b = covariance(size, 2 * size), 3 * covariance(size, 2 * size)
    inputs = (mean_a, cov_a, mean_b, cov_b)
    name = "covariances that do not commute"
    yield agrees(name, candidate, inputs, _distance(*inputs), "", wrong)
    inputs = (mean_a, cov_a, mean_b, cov_a)
    want = (mean_a - mean_b).square().sum()
    yield agrees("the same covariance: |mean_a - mean_b|^2", candidate, inputs, want, "", wrong)
    variance_a, variance_b = draw.uniform(0.2, 0.9, size), draw.uniform(1.5, 4.0, size)
    want = (mean_a - mean_b).square().sum() + (variance_a.sqrt() - variance_b.sqrt()).square().sum()
    inputs = (mean_a, variance_a.diag(), mean_b, variance_b.diag())
    name = "diagonal covariances: the distance of means and of standard deviations"
    yield agrees(name, candidate, inputs, want, "", wrong)
    inputs = (mean_a[:1], cov_a[:1, :1], mean_b[:1], cov_b[:1, :1])
    yield agrees("one feature", candidate, inputs, _distance(*inputs), "", wrong)
    # Rank below the number of features: Cholesky fails, eigenvalues come out slightly negative.
    size = draw.integer(7, 9)
    mean_a, mean_b = draw.normal(size), draw.normal(size)
    inputs = (mean_a, covariance(size, 3), mean_b, covariance(size, 4))
    name = "fewer pictures than features: covariances without full rank"
    found = agrees(name, candidate, inputs, _distance(*inputs), "", wrong)
    # The root of a negative eigenvalue is nan; the next decomposition may refuse that.
    if found.message == "it contains nan" or "LinAlgError" in found.message:
        cause = "eigenvalues that should be 0 come out just below it: clamp them before the root"
        if "cholesky" in found.message:
            cause = "Cholesky needs a covariance of full rank: take its root by eigh"
        found = replace(found, message=cause)
    yield found


def _inception(p):
    """Salimans et al. 2016, section 4: exp of the mean of KL(p(y|x) || p(y))."""
    return (torch.xlogy(p, p) - torch.xlogy(p, p.mean(0))).sum(1).mean().exp()


def _entropy(p):
    return -torch.xlogy(p, p).sum(-1)


def _against(marginal):
    """The score with something else in place of p(y)."""
    return lambda p: (torch.xlogy(p, p) - torch.xlogy(p, marginal(p))).sum(1).mean().exp()


def _backwards(p):
    """KL(p(y) || p(y|x))."""
    mean, p = p.mean(0), p.clamp(min=1e-12)
    return (torch.xlogy(mean, mean) - mean * p.log()).sum(1).mean().exp()


def _referee_inception(formula):
    """Accept a formula if it is the exponential of entropies' difference on several tables."""
    generator = torch.Generator().manual_seed(0)
    for pictures, classes in ((7, 3), (5, 6), (2, 2)):
        logits = 3 * torch.randn(pictures, classes, generator=generator, dtype=torch.float64)
        p = logits.softmax(1)
        if not torch.allclose(formula(p), (_entropy(p.mean(0)) - _entropy(p).mean()).exp()):
            return False
    return True


@exercise(reference=_referee_inception, kind="referee")
def referee_inception(candidate, draw):
    right = {
        "the right formula": _inception,
        "the same as a difference of entropies": lambda p: (
            _entropy(p.mean(0)) - _entropy(p).mean()
        ).exp(),
        "the same, rounded differently": lambda p: _inception(p) * (1 + 1e-12),
        "the same by torch.distributions": lambda p: (
            Categorical(probs=p.mean(0)).entropy() - Categorical(probs=p).entropy().mean()
        ).exp(),
    }
    why = (
        "what you compare with is wrong (p(y) is the mean of the rows; the"
        " exponential comes last), the rows of a table do not sum to 1, or the test is too"
        " strict"
    )

    def uniform(p):
        return torch.full_like(p[0], 1 / p.shape[1])

    unbalanced = "try rows whose mean is not uniform"
    unsure = "try rows that are not all sure"
    tables = "try more than one table, of other sizes"
    wrong = {
        "p(y) as a sum over the pictures (001, line 596)": (
            _against(lambda p: p.sum(0)),
            "try more than one picture",
        ),
        "p(y) taken to be uniform": (_against(uniform), unbalanced),
        "p(y) as the share of each most probable class": (
            _against(lambda p: torch.eye(p.shape[1], dtype=p.dtype)[p.argmax(1)].mean(0)),
            unsure,
        ),
        "the entropy of p(y) alone": (lambda p: _entropy(p.mean(0)).exp(), unsure),
        "the entropy of p(y|x) alone": (
            lambda p: (-_entropy(p).mean()).exp() * p.shape[1],
            unbalanced,
        ),
        "the divergence the other way round": (_backwards, unsure),
        "no exponential": (lambda p: _inception(p).log(), "try a table whose score is not near 0"),
        "the exponential before the mean": (
            lambda p: (torch.xlogy(p, p) - torch.xlogy(p, p.mean(0))).sum(1).exp().mean(),
            "try pictures that are not all as sure as each other",
        ),
        "logarithms to base 2": (
            lambda p: _inception(p) ** (1 / torch.tensor(2.0).log().item()),
            "try a table whose score is not 1",
        ),
        "the mean over classes": (
            lambda p: _inception(p) ** (1 / p.shape[1]),
            "try a table whose score is not 1",
        ),
        "the median picture": (
            lambda p: (torch.xlogy(p, p) - torch.xlogy(p, p.mean(0))).sum(1).median().exp(),
            "try pictures that are not all as sure as each other",
        ),
        "p(y) from the first half of the pictures": (
            _against(lambda p: p[: (len(p) + 1) // 2].mean(0)),
            "try pictures in another order",
        ),
        "an error with more classes than pictures": (
            lambda p: _inception(p) * (1 if p.shape[1] <= len(p) else 1.1),
            tables,
        ),
        "an error with more pictures than classes": (
            lambda p: _inception(p) * (1 if p.shape[1] >= len(p) else 1.1),
            tables,
        ),
        "0.5 % too large a result": (
            lambda p: 1.005 * _inception(p),
            "that is too coarse a tolerance",
        ),
        "0.5 % too small a result": (
            lambda p: 0.995 * _inception(p),
            "that is too coarse a tolerance",
        ),
    }
    yield from judges(candidate, right, why, wrong)


def _sampler(
    kind: str,
    eta: float = 1.0,
    told: Callable | None = None,
    root: str = "",
    last: float | None = None,
    clip: tuple[float, float] = (-1.0, 1.0),
    finish: Callable[[Tensor], Tensor] = lambda x: x,
    forwards: bool = False,
) -> Callable[..., Tensor]:
    """A sampler of pictures, right unless told otherwise.

    Args:
        kind: "ddpm" is Algorithm 2 with sigma^2 = beta, "ddim" has `eta`.
        eta: of DDIM: 0 without noise, 1 as much as DDPM with beta-tilde.
        told: (timesteps, step) -> the time step that the model is told.
        root: what lost its square root: "noise", "signal" or "" for none.
        last: variance of noise at the last step; None for that of the step itself, 0 for none.
        clip: range of the predicted x_0.
        finish: what is done to the result.
        forwards: take the steps in the order of `timesteps`.
    """
    told = told or (lambda timesteps, i: timesteps[i])

    def sample(model, xT, noise, alpha_bar, timesteps):
        x, bars = xT, alpha_bar[timesteps]
        order = range(len(timesteps))
        for i in order if forwards else reversed(order):
            bar, before = bars[i], bars[i - 1] if i else torch.ones_like(bars[0])
            beta = 1 - bar / before
            eps = model(x, torch.full((len(x),), int(told(timesteps, i))))
            scale = 1 - bar if root == "noise" else (1 - bar).sqrt()
            x0 = (x - scale * eps) / (bar if root == "signal" else bar.sqrt())
            x0 = x0.clamp(*clip)
            if kind == "ddpm":
                variance = beta
                mean = before.sqrt() * beta * x0 + (1 - beta).sqrt() * (1 - before) * x
                mean = mean / (1 - bar)
            else:
                variance = eta**2 * beta * (1 - before) / (1 - bar)
                eps = (x - bar.sqrt() * x0) / (1 - bar).sqrt()
                mean = before.sqrt() * x0 + (1 - before - variance).clamp(min=0).sqrt() * eps
            if i == 0:
                variance = beta if last is None else last * torch.ones_like(beta)
            x = mean + variance.sqrt() * noise[i]
        return finish(x)

    return sample


_ddpm = partial(_sampler, "ddpm", last=0.0)
_ddim = partial(_sampler, "ddim", last=0.0)


def _suspects() -> Iterator[tuple[str, str, Callable]]:
    """What is wrong, in words; its name; and a sampler with that fault."""
    yield "DDPM as it should be", "none", _ddpm()
    yield "DDIM as it should be", "none", _ddim(0.0)
    yield "DDIM with as much noise as DDPM", "none", _ddim(1.0)

    def index(timesteps, i):
        return i

    def earlier(timesteps, i):
        return timesteps[max(i - 1, 0)]

    def end(timesteps, i):
        return timesteps[i] if i else timesteps[1]

    def later(timesteps, i):
        return timesteps[min(i + 1, len(timesteps) - 1)]

    for name, make in (("DDPM", _ddpm), ("DDIM", partial(_ddim, 0.0))):
        yield f"{name}, the model told the index of the step", "index", make(told=index)
        yield f"{name} that takes the steps from first to last", "order", make(forwards=True)
        yield f"{name}, the model told the step before", "shift", make(told=earlier)
        yield f"{name}, the model told the step after", "shift", make(told=later)
        yield f"{name}, the model told the step after at the end", "shift", make(told=end)
        yield f"{name} with 1 - alpha_bar for its root", "root", make(root="noise")
        yield f"{name} with alpha_bar for its root", "root", make(root="signal")
        yield f"{name} that clips x_0 to [0, 1]", "range", make(clip=(0.0, 1.0))
        half = make(finish=lambda x: (x + 1) / 2)
        yield f"{name} that returns pictures in [0, 1]", "range", half
    noisy = "last noise"
    yield "DDPM with noise at the last step, too", noisy, _sampler("ddpm")
    yield "DDIM with a little noise at the last step", noisy, _sampler("ddim", 1.0, last=1e-4)


def four_samplers() -> dict[str, Callable]:
    """The suspects of notebook 23: each has one fault, and hides its source."""
    suspects = {what: sampler for what, _, sampler in _suspects()}
    return {
        "A": suspects["DDIM that clips x_0 to [0, 1]"],
        "B": suspects["DDIM, the model told the index of the step"],
        "C": suspects["DDIM that takes the steps from first to last"],
        "D": suspects["DDIM with 1 - alpha_bar for its root"],
    }


_HINTS = {
    "none": (
        "a right sampler returns the one picture of your model to rounding, told the time steps"
        " from last to first; compare with a tolerance, and keep your picture inside [-1, 1] with"
        " values of both signs"
    ),
    "root": "the picture comes out wrong even where it is told the right steps and adds no noise",
    "index": "record what your model is told, with time steps that are not 0, 1, 2, ...",
    "order": "record what your model is told, and compare with the time steps the right way round",
    "shift": "record what your model is told: other steps than those you gave, at some places",
    "last noise": (
        "with your noise all zeros the result is right, with noise it is not; the noise may be as"
        " small as 0.01"
    ),
    "range": "your picture needs values below 0, and they do not come back",
}


def _diagnose(sampler):
    """Find the fault with a model that knows the answer and writes down what it is told."""
    alpha_bar = torch.linspace(0.9, 0.1, 9, dtype=torch.float64)
    timesteps = torch.tensor([2, 3, 7])
    x0 = torch.linspace(-0.9, 0.9, 8, dtype=torch.float64)[None]
    told = []

    def model(x, t):
        told.append(int(t[0]))
        bar = alpha_bar[t][:, None]
        return (x - bar.sqrt() * x0) / (1 - bar).sqrt()

    generator = torch.Generator().manual_seed(0)
    xT = torch.randn(1, 8, generator=generator, dtype=torch.float64)
    noise = torch.randn(3, 1, 8, generator=generator, dtype=torch.float64)
    quiet = sampler(model, xT, 0 * noise, alpha_bar, timesteps)
    if told != [7, 3, 2]:
        return {(2, 1, 0): "index", (2, 3, 7): "order"}.get(tuple(told), "shift")
    if not torch.allclose(quiet, x0):
        return "range" if (quiet >= 0).all() else "root"
    loud = sampler(model, xT, noise, alpha_bar, timesteps)
    return "none" if torch.allclose(loud, x0) else "last noise"


@exercise(reference=_diagnose)
def diagnose(candidate, draw):
    for what, fault, sampler in _suspects():
        yield names_fault(candidate, what, fault, sampler, _HINTS)
