"""Guided samplers in a latent space for the whodunit of notebook 52: right ones and faulty ones."""

import torch

# Fault -> where to look for it.
HINTS = {
    "none": (
        "what you compare with is wrong, your comparison is too strict, or your numbers are so "
        "large that the picture is clamped"
    ),
    "w for s": "compare with the scale s + 1, at a scale that is neither 0 nor 1",
    "exchanged": (
        "with a scale above 1 it runs away from what is told, and at 0.5 it is no fault; told and "
        "null must differ"
    ),
    "never null": (
        "it comes out as at scale 1, whatever the scale: let your model answer otherwise to null"
    ),
    "guided x0": (
        "the scale stands before z_0, even where told and null predict the same noise; at scale 1 "
        "it can't be seen, and your own picture must be clamped as well"
    ),
    "not scaled": "only the factor is missing: take one that is not 1",
    "once": "only the first step is guided: take at least two steps, and a scale that is not 1",
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


def _apart_turned(model, x, i, told, null):
    """In two calls, the caption first."""
    with_told = model(x, i, told)
    return model(x, i, null), with_told


def _interleaved(model, x, i, told, null):
    """In one call, sample by sample."""
    contexts = torch.stack([null, told], 1).flatten()
    found = model(x.repeat_interleave(2, 0), i, contexts)
    return found[::2], found[1::2]


def _difference(null, told, s):
    return null + s * (told - null)


def _weighted(null, told, s):
    return s * told + (1 - s) * null


def _beyond(null, told, s):
    return told + (s - 1) * (told - null)


def _sampler(fault, predictions, guided=_difference, spare=False):
    """A sampler with a fault; a `spare` one makes no call whose answer it does not use."""

    def draw(model, decode, x, told, null, scale, alpha_bar, factor):
        last = len(alpha_bar) - 1
        empty = told if fault == "never null" else null
        s = scale + 1 if fault == "w for s" else scale
        grown = scale if fault == "guided x0" else 1
        for i in range(last, -1, -1):
            bar, then = alpha_bar[i], alpha_bar[i - 1] if i else 1
            alone = fault == "guided x0" or (fault == "once" and i < last)
            if alone and spare:
                eps = model(x, i, told)
            else:
                eps_null, eps_told = predictions(model, x, i, told, empty)
                if fault == "exchanged":
                    eps_null, eps_told = eps_told, eps_null
                eps = eps_told if alone else guided(eps_null, eps_told, s)
            z0 = grown * (x - (1 - bar) ** 0.5 * eps) / bar**0.5
            x = then**0.5 * z0 + (1 - then) ** 0.5 * eps
        return decode(x if fault == "not scaled" else x / factor).clamp(-1, 1)

    return draw


_WRITINGS = {
    "one call for both": (_both,),
    "one call, the caption first": (_turned, _weighted, True),
    "two calls": (_apart, _beyond, True),
    "two calls, the caption first": (_apart_turned, _weighted),
    "one call, sample by sample": (_interleaved, _beyond),
}
SUSPECTS = [
    (
        f"a sampler of {'no fault' if fault == 'none' else 'one fault'}, {how}",
        fault,
        _sampler(fault, *way),
    )
    for how, way in _WRITINGS.items()
    for fault in HINTS
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
    gaps = {fault: (found - _sampler(fault, _apart)(*inputs)).abs().max() for fault in HINTS}
    return min(gaps, key=gaps.get)
