"""The contrastive loss with its parts replaced: right ones of notebook 41, and mistakes."""

import math

import torch
from torch.nn import functional as F


def _unit(x):
    return F.normalize(x, dim=1)


def _own(logits):
    return torch.arange(len(logits), device=logits.device)


def finding(logits):
    """The loss of finding, for each row, its column."""
    return F.cross_entropy(logits, _own(logits))


def _both(logits):
    return (finding(logits) + finding(logits.T)) / 2


def loss_with(
    images=_unit,
    texts=_unit,
    scores=lambda images, texts: images @ texts.T,
    scaled=lambda cosines, log_scale: cosines * log_scale.exp(),
    loss=_both,
):
    """A contrastive loss with any of its parts replaced."""

    def contrastive_loss(i, t, log_scale):
        return loss(scaled(scores(images(i), texts(t)), log_scale))

    return contrastive_loss


_loss = loss_with()


def right_contrastive_loss(images, texts, log_scale):
    """Radford et al. 2021, figure 3; lecture 004, lines 107-123."""
    return _loss(images, texts, log_scale)


def _of_both(loss):
    """The mean of a loss of logits and of the same of their transpose."""
    return lambda logits: (loss(logits) + loss(logits.T)) / 2


def _labelled(labels):
    return _of_both(lambda logits: F.cross_entropy(logits, labels(logits)))


def others_only(logits):
    """The loss of finding, with a row's own column missing in the sum."""
    others = logits.masked_fill(torch.eye(len(logits), dtype=torch.bool), -torch.inf)
    return (others.logsumexp(1) - logits.diagonal()).mean()


def _as_given(x):
    return x


LOSS_MISTAKES = {
    "only each picture's text is looked for, once or twice: its other half is logits.T": (
        loss_with(loss=finding)
    ),
    "only each text's picture is looked for, once or twice: its other half is logits": (
        loss_with(loss=lambda logits: finding(logits.T))
    ),
    "the two losses are added: take their mean": loss_with(loss=lambda logits: 2 * _both(logits)),
    "the batch is summed: cross_entropy's mean is over the batch": loss_with(
        loss=lambda logits: len(logits) * _both(logits)
    ),
    "the cosines are divided by exp(log_scale): multiply": loss_with(
        scaled=lambda cosines, log_scale: cosines / log_scale.exp()
    ),
    "exp is forgotten: multiply by exp(log_scale)": loss_with(
        scaled=lambda cosines, log_scale: cosines * log_scale
    ),
    "the cosines are divided by log_scale: multiply by exp(log_scale)": loss_with(
        scaled=lambda cosines, log_scale: cosines / log_scale
    ),
    "log_scale is not used": loss_with(scaled=lambda cosines, log_scale: cosines),
    "the scale is used twice": loss_with(
        scaled=lambda cosines, log_scale: cosines * (2 * log_scale).exp()
    ),
    "the scale is 1 / 0.07, its first value: it is learned, use log_scale": loss_with(
        scaled=lambda cosines, log_scale: cosines / 0.07
    ),
    "the vectors are not normalised": loss_with(_as_given, _as_given),
    "the texts are not normalised": loss_with(_unit, _as_given),
    "the pictures are not normalised": loss_with(_as_given, _unit),
    "normalised over the batch, axis 0: each vector has its own length, axis 1": loss_with(
        lambda x: F.normalize(x, dim=0), lambda x: F.normalize(x, dim=0)
    ),
    "all vectors are divided by one length: each has its own, dim=1, keepdim=True": loss_with(
        lambda x: x / x.norm(), lambda x: x / x.norm()
    ),
    "without keepdim the lengths belong to the columns: norm(dim=1, keepdim=True)": loss_with(
        lambda x: x / x.norm(dim=1), lambda x: x / x.norm(dim=1)
    ),
    "pictures are compared with pictures: the columns are texts": loss_with(
        scores=lambda images, texts: images @ images.T
    ),
    "texts are compared with texts: the rows are pictures": loss_with(
        scores=lambda images, texts: texts @ texts.T
    ),
    "the texts are not transposed: images @ texts.T": loss_with(
        scores=lambda images, texts: images @ texts
    ),
    "all B * B entries are averaged: only the own pairs, on the diagonal, count": loss_with(
        loss=_of_both(lambda logits: -logits.log_softmax(1).mean())
    ),
    "the labels are shifted: text i belongs to picture i": loss_with(
        loss=_labelled(lambda logits: _own(logits).roll(1))
    ),
    "the labels are all 0: they are 0, 1, 2, ...": loss_with(
        loss=_labelled(lambda logits: 0 * _own(logits))
    ),
    "one softmax runs over all B * B entries: one for each row, one for each column": loss_with(
        loss=lambda logits: -logits.flatten().log_softmax(0).view_as(logits).diagonal().mean()
    ),
    "there is no softmax: minus the mean of the own logits": loss_with(
        loss=lambda logits: -logits.diagonal().mean()
    ),
    "the sign is turned: a loss is minus the logarithm": loss_with(
        loss=lambda logits: -_both(logits)
    ),
    "the logarithm is missing: these are probabilities": loss_with(
        loss=_of_both(lambda logits: -logits.softmax(1).diagonal().mean())
    ),
    "there are two softmaxes: cross_entropy takes logits and has one itself": loss_with(
        loss=_of_both(lambda logits: finding(logits.softmax(1)))
    ),
    "the logarithm has base 2: take the natural one": loss_with(
        loss=lambda logits: _both(logits) / math.log(2)
    ),
    "the own pair is missing in the sum of the softmax": loss_with(loss=_of_both(others_only)),
    "each pair is judged by itself, by a logistic loss: the softmax compares it with the others": (
        loss_with(
            loss=lambda logits: F.binary_cross_entropy_with_logits(
                logits, torch.eye(len(logits), dtype=logits.dtype)
            )
        )
    ),
}

# Right up to a scale of 100.
LIMIT_MISTAKES = {
    "log_scale is held at log 100: that is a rule of training, the loss takes it as it comes": (
        loss_with(scaled=lambda cosines, log_scale: cosines * log_scale.exp().clamp(max=100))
    ),
    "log_scale is held at 4.6052, log 100: that is a rule of training, take it as it comes": (
        loss_with(scaled=lambda cosines, log_scale: cosines * log_scale.clamp(max=4.6052).exp())
    ),
}
