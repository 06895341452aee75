"""Formulas to be judged in notebook 41: the loss of finding each picture's text, and wrong ones."""

import math

import torch
from torch.nn import functional as F

from course.teach.checks._contrastive import finding, others_only


def _by_logsumexp(logits):
    return (logits.logsumexp(1) - logits.diagonal()).mean()


def _by_loops(logits):
    losses = []
    for i, row in enumerate(logits.double()):
        # 1 / p is the sum of exp of the differences to the own score.
        losses.append((row - row[i]).exp().sum().log())
    return (sum(losses) / len(losses)).to(logits.dtype)


def _by_columns(logits):
    return -logits.T.log_softmax(0).diagonal().sum() / len(logits)


def _each(logits):
    """The loss of each picture."""
    return logits.logsumexp(1) - logits.diagonal()


def _against(others):
    """The loss of each picture among its own text and some others, averaged."""

    def formula(logits):
        kept = others(logits) | torch.eye(len(logits), dtype=torch.bool)
        return finding(logits.masked_fill(~kept, -torch.inf))

    return formula


def _hardest(logits):
    apart = logits.masked_fill(torch.eye(len(logits), dtype=torch.bool), -torch.inf)
    return apart == apart.amax(1, keepdim=True)


def _next(logits):
    return torch.eye(len(logits), dtype=torch.bool).roll(1, 1)


def _before(logits):
    return torch.ones_like(logits, dtype=torch.bool).tril()


def _printed(logits):
    return finding(logits.T)


def _if(where, other):
    """Right where the condition does not hold, else the other."""
    return lambda logits: (other if where(logits) else finding)(logits)


def _missed(logits):
    """Only the pictures that do not find their text count."""
    missed = logits.argmax(1) != torch.arange(len(logits))
    return (_each(logits) * missed).mean()


RIGHT_FORMULAS = {
    "the right loss": finding,
    "the right loss, by log-sum-exp": _by_logsumexp,
    "the right loss, in loops": _by_loops,
    "the right loss, of the transposed logits over axis 0": _by_columns,
    "the right loss, with the labels as rows of the unit matrix": lambda logits: F.cross_entropy(
        logits, torch.eye(len(logits), dtype=logits.dtype)
    ),
}

# Family -> what to try if one is accepted -> slip -> formula.
WRONG_FORMULAS = {
    "a softmax over something else": {
        "pictures are rows: compare with a softmax over the texts, axis 1": {
            "axis 0, as printed: that finds a text's picture": _printed,
            "the mean of both axes": lambda logits: (finding(logits) + _printed(logits)) / 2,
            "one softmax over all pairs": lambda logits: (
                logits.logsumexp((0, 1)) - logits.diagonal()
            ).mean(),
        },
        "try logits that are not symmetric": {
            "a softmax that is right for symmetric logits only": lambda logits: finding(
                (logits + logits.T) / 2
            ),
        },
    },
    "another number made of the same softmax": {
        "compare the number itself with that of your own loss": {
            "the sum over pictures for their mean": lambda logits: _each(logits).sum(),
            "the sum over pictures divided by B * B": lambda logits: (
                _each(logits).sum() / logits.numel()
            ),
            "all entries averaged, not those of the own pairs": lambda logits: (
                -logits.log_softmax(1).mean()
            ),
            "no softmax, minus the mean of the diagonal": lambda logits: -logits.diagonal().mean(),
            "a logarithm of base 2": lambda logits: finding(logits) / math.log(2),
            "probabilities in place of their logarithms": lambda logits: (
                -logits.softmax(1).diagonal().mean()
            ),
            "1 - p in place of -log p": lambda logits: 1 - logits.softmax(1).diagonal().mean(),
            "the logarithm of the mean, not the mean of logarithms": lambda logits: (
                -logits.softmax(1).diagonal().mean().log()
            ),
            "the sign turned": lambda logits: -finding(logits),
            "the temperature squared": lambda logits: finding(logits / 0.07),
            "logits of half the size": lambda logits: finding(logits / 2),
            "the logarithm of B taken off": lambda logits: finding(logits) - math.log(len(logits)),
            "the mean of each text's scores taken off": lambda logits: finding(
                logits - logits.mean(0)
            ),
            "the own pair missing in the sum": others_only,
        },
    },
    "other labels": {
        "look which text each picture should find: the diagonal": {
            "the labels shifted by one": lambda logits: finding(logits.roll(1, 1)),
            "the labels all 0": lambda logits: (logits.logsumexp(1) - logits[:, 0]).mean(),
            "the labels backwards": lambda logits: finding(logits.flip(1)),
            "the best text taken for the own one": lambda logits: (
                logits.logsumexp(1) - logits.amax(1)
            ).mean(),
        },
    },
    "a loss of some of the pictures only": {
        "every picture counts, found or not": {
            "the first picture only": lambda logits: _each(logits)[0],
            "the last picture left out": lambda logits: _each(logits)[:-1].mean(),
            "the worst picture only": lambda logits: _each(logits).amax(),
            "the median of the pictures": lambda logits: _each(logits).quantile(0.5),
            "only the pictures that do not find their text": _missed,
        },
    },
    "a loss against some of the texts only": {
        "try more than two pairs: with two there is only one other text": {
            "the hardest other text only": _against(_hardest),
            "the next text only": _against(_next),
        },
        "each text counts as another one, those behind the own one, too": {
            "the texts behind the own one left out": _against(_before),
            "the texts before the own one left out": _against(lambda logits: _before(logits).T),
        },
    },
    "a loss that is right for some numbers of pairs only": {
        "try more than two pairs": {
            "axis 0 from three pairs on": _if(lambda logits: len(logits) > 2, _printed),
        },
        "try odd and even numbers of pairs": {
            "axis 0 for an odd number of pairs": _if(lambda logits: len(logits) % 2, _printed),
            "axis 0 for an even number of pairs": _if(
                lambda logits: len(logits) % 2 == 0, _printed
            ),
        },
        "try several numbers of pairs": {
            "a mean that is right for four pairs only": lambda logits: _each(logits).sum() / 4,
        },
    },
    "a loss that is right for some logits only": {
        "try logits ten times as large, too": {
            "logits that stop at 4": lambda logits: finding(logits.clamp(-4, 4)),
        },
        "try logits of both signs": {
            "the sizes of the logits without their signs": lambda logits: finding(logits.abs()),
        },
    },
    "a loss that is nearly right": {
        "compare more digits: that is too coarse a tolerance": {
            "a loss 0.5 % too large": lambda logits: 1.005 * finding(logits),
            "a loss 0.5 % too small": lambda logits: 0.995 * finding(logits),
            "one part in a hundred of the other axis": lambda logits: (
                0.99 * finding(logits) + 0.01 * _printed(logits)
            ),
        },
    },
}
