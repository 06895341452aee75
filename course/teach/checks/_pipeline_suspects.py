"""Guided samplers in a latent space for the whodunit of notebook 52: right ones and faulty ones."""

import torch

FAULTS = ("none", "w for s", "exchanged", "never null", "guided x0", "not scaled", "once")
HINTS = {
    "none": "what you compare with is wrong, or your numbers are so large that they are clamped",
    "w for s": "compare with the scale s + 1, at a scale that is neither 0 nor 1",
    "exchanged": "with a scale above 1 it runs away from what is told; told and null must differ",
    "never null": "null makes no difference at any scale: let the model answer otherwise to it",
    "guided x0": "the scale stands before z_0: at scale 1 it can't be seen",
    "not scaled": "only the factor is missing: take one that is not 1",
    "once": "only the first step is guided: take at least two steps",
}


def _both(model, x, i, told, null):
    """Both predictions in one call."""
    found = model(torch.cat([x, x]), i, torch.cat([null, told]))
    return found.chunk(2)


def _turned(model, x, i, told, null):
    """The same, the caption first."""
    with_told, with_null = model(torch.cat([x, x]), i, torch.cat([told, null])).chunk(2)
    return with_null, with_told


def _apart(model, x, i, told, null):
    """In two calls."""
    return model(x, i, null), model(x, i, told)


def _interleaved(model, x, i, told, null):
    """In one call, sample by sample."""
    contexts = torch.stack([null, told], 1).flatten()
    found = model(x.repeat_interleave(2, 0), i, contexts)
    return found[::2], found[1::2]


def _sampler(fault, predictions, weighted=False):
    """A sampler with a fault; `weighted` writes the guided noise as a weighted sum."""

    def draw(model, decode, x, told, null, scale, alpha_bar, factor):
        last = len(alpha_bar) - 1
        for i in range(last, -1, -1):
            bar = alpha_bar[i]
            then = alpha_bar[i - 1] if i else torch.ones_like(bar)
            empty = told if fault == "never null" else null
            eps_null, eps_told = predictions(model, x, i, told, empty)
            if fault == "exchanged":
                eps_null, eps_told = eps_told, eps_null
            s = scale + 1 if fault == "w for s" else scale
            if fault == "guided x0" or (fault == "once" and i < last):
                eps = eps_told
            elif weighted:
                eps = s * eps_told + (1 - s) * eps_null
            else:
                eps = eps_null + s * (eps_told - eps_null)
            z0 = (x - (1 - bar).sqrt() * eps) / bar.sqrt()
            z0 = scale * z0 if fault == "guided x0" else z0
            x = then.sqrt() * z0 + (1 - then).sqrt() * eps
        return decode(x if fault == "not scaled" else x / factor).clamp(-1, 1)

    return draw


_WRITINGS = {
    "one call for both": (_both, False),
    "the caption first": (_turned, True),
    "two calls": (_apart, False),
    "sample by sample": (_interleaved, True),
}
SUSPECTS = [
    (
        f"a sampler of {'no fault' if fault == 'none' else 'one fault'}, {how}",
        fault,
        _sampler(fault, *way),
    )
    for how, way in _WRITINGS.items()
    for fault in FAULTS
]


def diagnosed(draw):
    """Compare with all samplers that are known, on a model whose answers are."""
    x = torch.linspace(-0.2, 0.3, 36, dtype=torch.float64).view(2, 3, 2, 3)
    told, null = torch.tensor([1, 2]), torch.tensor([4, 7])
    bars = torch.tensor([0.9, 0.7, 0.5], dtype=torch.float64)

    def model(x, i, context):
        return 0.1 * x + 0.01 * context.view(-1, 1, 1, 1) + 0.003 * i

    inputs = (model, lambda z: z, x, told, null, 2.5, bars, 1.7)
    found = draw(*inputs)
    gaps = {fault: (found - _sampler(fault, _apart)(*inputs)).abs().max() for fault in FAULTS}
    return min(gaps, key=gaps.get)
