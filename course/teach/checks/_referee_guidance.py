"""Formulas to be judged in notebook 42: classifier-free guidance of scale s = 1 + w, and others."""

import math

import torch

from course.teach.checks._guidance import exchanged, rescaled, right_guidance


def _on_tensors(formula):
    """The same, of whatever numbers a referee hands in."""

    def of_tensors(eps_null, eps_cond, scale):
        both = [torch.as_tensor(eps) for eps in (eps_null, eps_cond)]
        dtype = torch.promote_types(both[0].dtype, both[1].dtype)
        if not dtype.is_floating_point:
            dtype = torch.get_default_dtype()
        return formula(*(eps.to(dtype) for eps in both), float(scale))

    return of_tensors


def _by_w(null, cond, s):
    w = s - 1
    return (1 + w) * cond - w * null


def _by_einsum(null, cond, s):
    weights = torch.tensor([1 - s, s], dtype=null.dtype)
    return torch.einsum("k,k...->...", weights, torch.stack(torch.broadcast_tensors(null, cond)))


def _in_double(null, cond, s):
    return (null.double() + s * (cond.double() - null.double())).to(null.dtype)


def _as_printed_for_w(null, cond, s):
    """Ho & Salimans, equation 6, told s where it takes w."""
    return (1 + s) * cond - s * null


def _with(change):
    return lambda null, cond, s: right_guidance(null, cond, change(s))


def _if(where, other=_as_printed_for_w):
    """Right where the condition on the scale does not hold, else the other."""
    return lambda null, cond, s: (other if where(s) else right_guidance)(null, cond, s)


def _lengthened(null, cond, s):
    guided = right_guidance(null, cond, s)
    return guided * cond.norm() / guided.norm()


def _same_spread(null, cond, s):
    """Lin et al. 2024, section 3.4, in full strength."""
    guided = right_guidance(null, cond, s)
    if guided.numel() < 2:
        return guided
    return guided * cond.std() / guided.std()


def _first_for_all(null, cond, s):
    return right_guidance(null[:1] if null.ndim else null, cond, s)


def _clipped(null, cond, s):
    return null + s * (cond - null).clamp(-1, 1)


def _of_result(change):
    return lambda null, cond, s: change(right_guidance(null, cond, s))


_RIGHT = {
    "the right formula": right_guidance,
    "the right formula with w = s - 1": _by_w,
    "the right formula from the prediction with the class on": lambda null, cond, s: (
        cond + (s - 1) * (cond - null)
    ),
    "the right formula as a weighted sum": lambda null, cond, s: s * cond + (1 - s) * null,
    "the right formula with einsum": _by_einsum,
    "the right formula with torch.lerp": lambda null, cond, s: torch.lerp(null, cond, s),
    "the right formula, computed in float64": _in_double,
}

# Family -> what to try if one is accepted -> slip -> formula.
_WRONG = {
    "a scale of another convention": {
        "at s = 1 it must be the prediction with the class": {
            "(1 + w) eps_cond - w eps_null as in the paper, with s put in for w": (
                _as_printed_for_w
            ),
            "w = s + 1": _with(lambda s: s + 2),
            "the scale s - 1 in front of the difference": _with(lambda s: s - 1),
            "twice the scale": _with(lambda s: 2 * s),
            "half the scale": _with(lambda s: s / 2),
        },
        "try scales that are neither 0 nor 1": {
            "the scale squared": _with(lambda s: s * s),
            "the root of the scale": _with(lambda s: abs(s) ** 0.5),
        },
    },
    "the two predictions mixed up": {
        "at s = 0 it must be the prediction without a class, at s = 1 the one with it": {
            "with and without class exchanged": exchanged,
            "the sign of the difference turned": _with(lambda s: -s),
        },
        "try an eps_null that is not 0": {
            "the sum of both in place of their difference": lambda null, cond, s: (
                null + s * (cond + null)
            ),
        },
        "try eps_cond on both sides of eps_null": {
            "the size of the difference without its sign": lambda null, cond, s: (
                null + s * (cond - null).abs()
            ),
        },
    },
    "the scale on a part of the difference": {
        "the scale multiplies the whole difference: compare with your own formula": {
            "the scale on eps_cond only": lambda null, cond, s: null + (s * cond - null),
            "the scale on eps_cond, and eps_null added": lambda null, cond, s: null + s * cond,
            "the scale on eps_null only": lambda null, cond, s: null + (cond - s * null),
            "no eps_null to start from": lambda null, cond, s: s * (cond - null),
            "the sum of start and scale in front of the difference": lambda null, cond, s: (
                (null + s) * (cond - null)
            ),
        },
        "try an eps_null that is not 0": {
            "eps_null left out": lambda null, cond, s: s * cond,
        },
    },
    "the scale not used": {
        "try scales that are neither 0 nor 1": {
            "the prediction with the class whatever the scale": lambda null, cond, s: cond,
            "the mean of both whatever the scale": _with(lambda s: 0.5),
            "7.5 whatever the scale": _with(lambda s: 7.5),
        },
    },
    "a formula that is right for some scales only": {
        "try scales that are neither 0 nor 1": {
            "s put in for w, but at 0 and 1": _if(lambda s: s not in (0, 1)),
        },
        "try scales above 1": {
            "a scale held at 1": _with(lambda s: min(s, 1.0)),
            "s put in for w above 1": _if(lambda s: s > 1),
        },
        "try scales below 1, between 0 and 1, too": {
            "a scale of at least 1": _with(lambda s: max(s, 1.0)),
            "s put in for w between 0 and 1": _if(lambda s: 0 < s < 1),
        },
        "try s = 0, too": {
            "the prediction with the class at s = 0": _if(lambda s: s == 0, lambda n, c, s: c),
        },
        "try scales that are no whole numbers": {
            "the scale rounded": _with(round),
            "the scale cut to a whole number": _with(math.floor),
        },
        "try large scales, above 10, too": {
            "a scale held at 10": _with(lambda s: min(s, 10.0)),
            "s put in for w above 10": _if(lambda s: s > 10),
        },
        "try scales below 0, too: any finite one": {
            "a scale below 0 taken for 0": _with(lambda s: max(s, 0.0)),
            "a scale below 0 without its sign": _with(abs),
        },
    },
    "a result brought to another size": {
        "try a scale far above 1 and look at the size of the result": {
            "the length of eps_cond kept, sample by sample": rescaled,
            "the length of eps_cond kept": _lengthened,
            "the standard deviation of eps_cond kept": _same_spread,
            "the result divided by the scale above 1": lambda null, cond, s: (
                right_guidance(null, cond, s) / max(s, 1.0)
            ),
        },
        "try large numbers: noise goes beyond 1, and a guided one further": {
            "the result clipped to [-3, 3]": _of_result(lambda guided: guided.clamp(-3, 3)),
            "the difference clipped to [-1, 1]": _clipped,
        },
    },
    "one sample taken for all": {
        "try several samples that differ": {
            "eps_null of the first sample for all": _first_for_all,
            "the mean of the differences for each": lambda null, cond, s: (
                null + s * (cond - null).mean()
            ),
            "the samples backwards": _of_result(
                lambda guided: guided.flip(0) if guided.ndim else -guided
            ),
        },
    },
    "a formula that is nearly right": {
        "compare more digits: that is too coarse a tolerance": {
            "a scale 0.5 % too large": _with(lambda s: 1.005 * s),
            "a scale 0.01 too small": _with(lambda s: s - 0.01),
            "a result 0.5 % too small": _of_result(lambda guided: 0.995 * guided),
        },
    },
}

RIGHT_FORMULAS = {name: _on_tensors(formula) for name, formula in _RIGHT.items()}
WRONG_FORMULAS = {
    family: {
        hint: {slip: _on_tensors(formula) for slip, formula in formulas.items()}
        for hint, formulas in hints.items()
    }
    for family, hints in _WRONG.items()
}
