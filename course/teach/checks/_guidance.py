"""Classifier-free guidance of notebook 42 with its parts replaced: right, and known mistakes."""

from functools import partial

import torch


def right_guidance(eps_null, eps_cond, scale):
    """Ho & Salimans 2022, equation 6, with w = s - 1."""
    return eps_null + scale * (eps_cond - eps_null)


def _with_scale(change):
    """The right formula, of another scale."""
    return lambda null, cond, s: right_guidance(null, cond, change(s))


def exchanged(null, cond, s):
    return right_guidance(cond, null, s)


def rescaled(null, cond, s):
    """As long as the prediction with the class, sample by sample."""
    guided = right_guidance(null, cond, s)
    axes = tuple(range(min(1, cond.ndim - 1), cond.ndim))
    length, too_long = (torch.linalg.vector_norm(x, dim=axes, keepdim=True) for x in (cond, guided))
    return guided * length / too_long


GUIDANCE_MISTAKES = {
    "this is the scale s + 1: the step starts at the prediction without a class, or s stands where "
    "w = s - 1 belongs": _with_scale(lambda s: s + 1),
    "this is the scale s - 1: s, not w, multiplies the difference": _with_scale(lambda s: s - 1),
    "with and without class are exchanged (or 1 - s stands for s): at s = 1 it must be the "
    "prediction with the class": exchanged,
    "the sign of the difference is turned: it is (with the class) - (without)": (
        _with_scale(lambda s: -s)
    ),
    "only the prediction with the class is scaled: s multiplies the difference of both": (
        lambda null, cond, s: s * cond
    ),
    "only the prediction with the class is scaled, and that without is added: s multiplies the "
    "difference of both": lambda null, cond, s: null + s * cond,
    "only the prediction with the class is scaled, and that without is subtracted: s multiplies "
    "the difference of both": lambda null, cond, s: s * cond - null,
    "only the prediction without a class is scaled: s multiplies the difference of both": (
        lambda null, cond, s: cond - s * null
    ),
    "only the prediction without a class is scaled, and the difference is added: s multiplies the "
    "difference": lambda null, cond, s: s * null + (cond - null),
    "the prediction without a class is missing: it is where the step starts": (
        lambda null, cond, s: s * (cond - null)
    ),
    "both predictions are added in the brackets: it is their difference": (
        lambda null, cond, s: null + s * (cond + null)
    ),
    "the weights of the two do not add up to 1: s and 1 - s (or 1 + w and -w)": (
        lambda null, cond, s: s * cond + (s - 1) * null
    ),
    "the weights of the two do not add up to 1: 1 + s and s": (
        lambda null, cond, s: (1 + s) * cond + s * null
    ),
    "the weights of the two do not add up to 1: s and s": (
        lambda null, cond, s: s * cond - s * null + cond + null
    ),
    "the weights of the two do not add up to 1: s and -s, beside the prediction with the class": (
        lambda null, cond, s: (1 + s) * cond - null
    ),
    "the sum of start and scale multiplies the difference: multiply before you add": (
        lambda null, cond, s: (null + s) * (cond - null)
    ),
    "this is the prediction with the class, whatever the scale": lambda null, cond, s: cond,
    "this is the prediction without a class, whatever the scale": lambda null, cond, s: null,
    "this is the mean of both predictions, whatever the scale": _with_scale(lambda s: 0.5),
    "the scale is not used: this is the difference of both": lambda null, cond, s: cond - null,
    "the scale is halved": _with_scale(lambda s: s / 2),
    "the scale is doubled": _with_scale(lambda s: 2 * s),
    "the scale is squared": _with_scale(lambda s: s * s),
    "the difference is divided by the scale": _with_scale(lambda s: s and 1 / s),
    "the scale is rounded to a whole number": _with_scale(round),
    "the scale is cut to a whole number": _with_scale(int),
    "the size of the difference is taken, without its sign": (
        lambda null, cond, s: null + s * (cond - null).abs()
    ),
    "the result is brought to the length of the prediction with the class": rescaled,
    "one difference, the mean over the batch, is used for all": (
        lambda null, cond, s: null + s * (cond - null).mean(0, keepdim=True)
    ),
    "the result is clipped to [-1, 1]: noise is not": (
        lambda null, cond, s: right_guidance(null, cond, s).clamp(-1, 1)
    ),
}

# Right for some scales.
SCALE_CHANGES = {
    f"the scale is held at {top:g}, the largest that is let through": partial(min, top)
    for top in (1, 2, 3, 5, 7.5, 8, 9, 10, 12, 15, 20, 50, 100)
} | {
    "a scale below 1 is taken for 1": partial(max, 1.0),
    "a scale below 0 is taken for 0": partial(max, 0.0),
    "a scale below 0 loses its sign": abs,
}
SCALE_MISTAKES = {cause: _with_scale(change) for cause, change in SCALE_CHANGES.items()}


def right_guided_noise(model, xt, t, context, null, scale):
    """As `course.diffusion.guidance.classifier_free`, for class numbers."""
    both = torch.cat([torch.full_like(context, null), context])
    return right_guidance(*model(torch.cat([xt, xt]), torch.cat([t, t]), both).chunk(2), scale)


def of_noise(formula):
    """A mistake in the formula, as one of `guided_noise`."""

    def guided(model, xt, t, context, null, scale):
        both = torch.cat([torch.full_like(context, null), context])
        predicted = model(torch.cat([xt, xt]), torch.cat([t, t]), both)
        return formula(*predicted.chunk(2), scale)

    return guided


def _mispaired(interleaved, turned, exchange):
    """Put together one way, taken apart another way."""

    def guided(model, xt, t, context, null, scale):
        parts = [torch.full_like(context, null), context]
        parts = parts[::-1] if turned else parts
        if interleaved:
            both = torch.stack(parts, 1).flatten()
            one, other = model(xt.repeat_interleave(2, 0), t.repeat_interleave(2), both).chunk(2)
        else:
            both = model(torch.cat([xt, xt]), torch.cat([t, t]), torch.cat(parts))
            one, other = both[::2], both[1::2]
        return right_guidance(*((other, one) if exchange else (one, other)), scale)

    return guided


_WAYS = {
    False: "the batch is put together half by half, and taken apart in turns: chunk(2)",
    True: "the batch is put together in turns, and taken apart half by half: [0::2] and [1::2]",
}

MISPAIRED = {
    f"{way}{', the class first' * turned}{'; and the two are exchanged' * exchange}": (
        _mispaired(interleaved, turned, turned != exchange)
    )
    for interleaved, way in _WAYS.items()
    for turned in (False, True)
    for exchange in (False, True)
}
