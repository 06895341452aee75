"""What several checks share: layers with weights of their own, and causes of errors."""

from dataclasses import replace
from functools import partial

import torch
from torch import nn

from course.teach.exercise import DIFFERS, Property, agrees, decides

_ERRORS = (RuntimeError, IndexError, TypeError, ValueError)


def recognised(name, candidate, inputs, want, wrong, axes="B C H W"):
    """As `agrees`; where the candidate raises, the cause is the mistake that raises the same."""
    found = agrees(name, candidate, inputs, want, axes)
    if found.passed or not found.attempted:
        return found
    if not found.message.startswith("it raises "):
        by_value = {cause: partial(_made, mistake) for cause, mistake in wrong.items()}
        again = agrees(name, candidate, inputs, want, axes, by_value)
        return replace(found, message=DIFFERS) if again.passed else again
    raised = found.message.removeprefix("it raises ").split(", in: ")[0]
    for cause, mistake in wrong.items():
        try:
            mistake(*inputs)
        except _ERRORS as error:
            reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            if _unordered(reason) == _unordered(raised):
                return replace(found, message=f"{cause} ({raised})")
    return found


def _made(mistake, *inputs):
    """The mistake, with a ValueError where it can't be made."""
    try:
        return mistake(*inputs)
    except _ERRORS as error:
        raise ValueError from error


def _unordered(reason):
    """What torch says of a + b and of b + a is one error."""
    return sorted(reason.split()) if "size of tensor a" in reason else reason


def rules(name, candidate, want, formulas):
    """Property: the referee's verdict on all of these is right; the first wrong one is named.

    Args:
        name: what should hold, in words.
        candidate: the student's referee.
        want: the right verdict.
        formulas: what a wrong verdict means -> formula.
    """
    found = [decides(name, candidate, f, want, message) for message, f in formulas.items()]
    failed = [p for p in found if not p.passed]
    title = f"{name}: {len(found) - len(failed)} of {len(found)}"
    return replace(failed[0] if failed else found[0], name=title)


def names_fault(candidate, what, fault, suspect, hints):
    """Property: asked about a suspect with a fault, the candidate returns the fault's name.

    Args:
        candidate: the student's diagnosis, called with the suspect.
        what: the suspect in words.
        fault: its name.
        suspect: what is examined.
        hints: name of each fault -> where to look for it.
    """
    said = []

    def names(subject):
        said.append(candidate(subject))
        return isinstance(said[-1], str) and said[-1] == fault

    found = decides(f"{fault!r}: {what}", names, suspect, True, "")
    if found.passed or not said:
        return found
    if said[-1] is None:
        message = "it returns None: is a return missing on some way through?"
    elif not isinstance(said[-1], str) or said[-1] not in hints:
        message = f"expected one of {', '.join(map(repr, hints))}, got {said[-1]!r}"[:160]
    else:
        message = f"it says {said[-1]!r} of {what}, which is {fault!r}: {hints[fault]}"
    return replace(found, message=message)


def unhurt(name, candidate, inputs, layers, lists=(), emptied=""):
    """Property: a call leaves the weights of the layers, and the length of lists, alone."""
    weights = [p for layer in layers for p in layer.parameters()]
    before, held = [p.clone() for p in weights], [len(items) for items in lists]
    try:
        candidate(*(item.clone() for item in inputs))
    except Exception:
        return  # the properties before this one tell of it
    message = ""
    if not all(map(torch.equal, weights, before)):
        message = "it changes the weights of a layer: only call the layers"
    for weight, value in zip(weights, before, strict=True):
        weight.data.copy_(value)
    if [len(items) for items in lists] != held:
        message = emptied
    yield Property(name, not message, message)


def torch_layer(draw, kind, *arguments, **options):
    """A layer of torch in float64 with weights from the check's own generator."""
    made = nn.utils.skip_init(kind, *arguments, dtype=torch.float64, **options)
    around = 1.0 if kind in (nn.GroupNorm, nn.LayerNorm) else 0.0
    spread = 0.4 if made.weight.ndim < 3 else (made.weight[0].numel()) ** -0.5
    made.weight.data = around + spread * draw.normal(*made.weight.shape)
    if made.bias is not None:
        made.bias.data = 0.4 * draw.normal(*made.bias.shape)
    return made.requires_grad_(False)


def unchanged(x):
    """For a piece that is not replaced."""
    return x
