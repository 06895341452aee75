"""Pieces of notebook 52 with their parts replaced: right, and known mistakes."""

import torch


def right_drop(tokens, null, share, generator):
    """As the training of `scenes-ldm` leaves captions out."""
    dropped = torch.rand(len(tokens), generator=generator) < share
    return torch.where(dropped[:, None], null, tokens)


def _each_row(tokens, generator):
    return torch.rand(len(tokens), generator=generator)[:, None]


def _drop(
    numbers=_each_row,
    dropped=lambda numbers, share: numbers < share,
    empty=lambda tokens, null: null,
):
    """Captions left out with any part replaced; `numbers` draws what decides."""

    def drop(tokens, null, share, generator):
        rows = dropped(numbers(tokens, generator), share)
        return torch.where(rows, empty(tokens, null), tokens)

    return drop


def _all_or_none(chosen):
    """One decision for the whole batch."""
    return _drop(dropped=lambda numbers, share: torch.full_like(numbers, chosen, dtype=torch.bool))


def _counted(numbers, share):
    """Exactly that share of the rows, those with the smallest numbers."""
    ranks = numbers.flatten().argsort().argsort()[:, None]
    return ranks < round(share * len(numbers))


def _keeping(kept):
    """Some tokens of a dropped row stay."""
    return _drop(empty=lambda tokens, null: torch.where(kept(null), tokens, null))


def _place(null):
    return torch.arange(len(null))


DROP_MISTAKES = {
    "the condition has shape (B,): with (B, 1) it decides on rows": _drop(
        lambda tokens, generator: torch.rand(len(tokens), generator=generator)
    ),
    "nothing is dropped (or one number decides on the whole batch)": _all_or_none(False),
    "all is dropped (or one number decides on the whole batch)": _all_or_none(True),
    "each token is dropped by itself: one number decides on a whole caption": _drop(
        lambda tokens, generator: torch.rand(tokens.shape, generator=generator)
    ),
    "each column is dropped by itself: a number for each caption, a row": _drop(
        lambda tokens, generator: torch.rand(tokens.shape[1], generator=generator)
    ),
    "share is what is kept here: it is what is dropped, where the number is below it": _drop(
        dropped=lambda numbers, share: numbers >= share
    ),
    "a number above the share drops here: below it": _drop(
        dropped=lambda numbers, share: numbers > 1 - share
    ),
    "always the same number of rows is dropped: each by its own number": _drop(dropped=_counted),
    "half of the rows is dropped, whatever the share": _drop(
        dropped=lambda numbers, share: numbers < 0.5
    ),
    "a tenth of the rows is dropped, whatever the share": _drop(
        dropped=lambda numbers, share: numbers < 0.1
    ),
    "the row after the one that was drawn is dropped: the decisions are one row off": _drop(
        dropped=lambda numbers, share: (numbers < share).roll(1, 0)
    ),
    "the row before the one that was drawn is dropped: the decisions are one row off": _drop(
        dropped=lambda numbers, share: (numbers < share).roll(-1, 0)
    ),
    "the decisions stand in the opposite order": _drop(
        dropped=lambda numbers, share: (numbers < share).flip(0)
    ),
    "zeros stand for the empty caption: it is null": _drop(
        empty=lambda tokens, null: torch.zeros_like(null)
    ),
    "the first number of null fills the row: the empty caption is all of null": _drop(
        empty=lambda tokens, null: null[:1]
    ),
    "the last number of null fills the row: the empty caption is all of null": _drop(
        empty=lambda tokens, null: null[-1:]
    ),
    "null stands in the opposite order": _drop(empty=lambda tokens, null: null.flip(0)),
    "the first row of the batch stands for the empty caption: it is null": _drop(
        empty=lambda tokens, null: tokens[:1]
    ),
    "another caption of the batch stands for the empty one: it is null": _drop(
        empty=lambda tokens, null: tokens.roll(1, 0)
    ),
    "the next caption of the batch stands for the empty one: it is null": _drop(
        empty=lambda tokens, null: tokens.roll(-1, 0)
    ),
    "the first token of a dropped caption stays: the whole row becomes null": _keeping(
        lambda null: _place(null) < 1
    ),
    "only the first token of a dropped caption goes: the whole row becomes null": _keeping(
        lambda null: _place(null) > 0
    ),
    "the last token of a dropped caption stays: the whole row becomes null": _keeping(
        lambda null: _place(null) == len(null) - 1
    ),
    "the numbers are drawn from a normal distribution: torch.rand, from 0 to 1": _drop(
        lambda tokens, generator: torch.randn(len(tokens), generator=generator)[:, None]
    ),
    "the numbers are drawn in another dtype: torch.rand(len(tokens), generator=generator)": _drop(
        lambda tokens, generator: torch.rand(
            len(tokens), 1, generator=generator, dtype=torch.float64
        )
    ),
}


def _falling(count):
    return range(count - 1, -1, -1)


def _before(bar, i):
    return bar[i - 1] if i else torch.ones_like(bar[0])


def _z0(x, eps, bar):
    return (x - (1 - bar).sqrt() * eps) / bar.sqrt()


def _step(z0, eps, then, bar):
    return then.sqrt() * z0 + (1 - then).sqrt() * eps


def _draw(
    order=_falling,
    told=lambda i, count: i,
    before=_before,
    predicted=lambda eps: eps,
    z0_of=_z0,
    step=_step,
    begun=lambda x, factor: x,
    of_step=lambda x, factor: x,
    unscaled=lambda x, factor: x / factor,
    decoded=lambda decode, x: decode(x),
    clamped=lambda picture: picture.clamp(-1, 1),
):
    """DDIM in a latent space with any of its parts replaced."""

    def draw(predict, decode, x, alpha_bar, factor):
        x = begun(x, factor)
        for i in order(len(alpha_bar)):
            eps = predicted(predict(x, told(i, len(alpha_bar))))
            z0 = z0_of(x, eps, alpha_bar[i])
            x = of_step(step(z0, eps, before(alpha_bar, i), alpha_bar[i]), factor)
        return clamped(decoded(decode, unscaled(x, factor)))

    return draw


right_draw = _draw()
right_draw.__doc__ = "Song et al. 2021, equation 12 with eta 0; Rombach et al. 2022, section 3."


def _first_guess(predict, decode, x, alpha_bar, factor):
    """What the first step believes."""
    last = len(alpha_bar) - 1
    z0 = _z0(x, predict(x, last), alpha_bar[last])
    return decode(z0 / factor).clamp(-1, 1)


def _picture_divided(predict, decode, x, alpha_bar, factor):
    picture = _draw(unscaled=lambda x, factor: x, clamped=lambda picture: picture)
    return (picture(predict, decode, x, alpha_bar, factor) / factor).clamp(-1, 1)


def _told_the_beginning(predict, decode, x, alpha_bar, factor):
    return right_draw(lambda _, i: predict(x, i), decode, x, alpha_bar, factor)


DRAW_MISTAKES = {
    "the latent is not divided by the factor before it is decoded": _draw(
        unscaled=lambda x, factor: x
    ),
    "the latent is multiplied by the factor: training multiplied, so divide": _draw(
        unscaled=lambda x, factor: x * factor
    ),
    "the latent is divided by the root of the factor": _draw(
        unscaled=lambda x, factor: x / factor**0.5
    ),
    "the latent is divided by the factor twice": _draw(unscaled=lambda x, factor: x / factor**2),
    "the latent is divided by the factor at every step: once, before it is decoded": _draw(
        of_step=lambda x, factor: x / factor, unscaled=lambda x, factor: x
    ),
    "the latent is divided by the factor at every step and at the end": _draw(
        of_step=lambda x, factor: x / factor
    ),
    "the noise is divided by the factor before the first step: the latent, after the last": _draw(
        begun=lambda x, factor: x / factor, unscaled=lambda x, factor: x
    ),
    "the noise is multiplied by the factor before the first step: it has variance 1": _draw(
        begun=lambda x, factor: x * factor
    ),
    "the picture is divided by the factor: the latent, before it is decoded": _picture_divided,
    "the latent is clamped at each step: it may be any number": _draw(
        of_step=lambda x, factor: x.clamp(-1, 1)
    ),
    "the predicted latent is clamped: it may be any number": _draw(
        z0_of=lambda *inputs: _z0(*inputs).clamp(-1, 1)
    ),
    "the predicted noise is clamped: it may be any number": _draw(
        predicted=lambda eps: eps.clamp(-3, 3)
    ),
    "the latent is clamped before it is decoded: only the picture is": _draw(
        decoded=lambda decode, x: decode(x.clamp(-1, 1))
    ),
    "the latent is clamped before it is decoded, and the picture is not": _draw(
        decoded=lambda decode, x: decode(x.clamp(-1, 1)), clamped=lambda picture: picture
    ),
    "the picture is not clamped to [-1, 1]": _draw(clamped=lambda picture: picture),
    "the picture is clamped to [0, 1]": _draw(clamped=lambda picture: picture.clamp(0, 1)),
    "the picture is brought to [0, 1]: it stays in [-1, 1]": _draw(
        clamped=lambda picture: (picture.clamp(-1, 1) + 1) / 2
    ),
    "the picture goes through tanh: it is clamped": _draw(clamped=torch.tanh),
    "the latent is not decoded": _draw(decoded=lambda decode, x: x),
    "the latent is decoded twice": _draw(decoded=lambda decode, x: decode(decode(x))),
    "the steps are taken from first to last: from S - 1 down to 0": _draw(order=range),
    "the last step is not taken, or ends where it began: at alpha_bar 1": _draw(
        order=lambda count: range(count - 1, 0, -1)
    ),
    "the first step, i = S - 1, is not taken": _draw(order=lambda count: range(count - 2, -1, -1)),
    "predict is told S - 1 - i: it is told i": _draw(told=lambda i, count: count - 1 - i),
    "predict is told i + 1: it is told i": _draw(told=lambda i, count: i + 1),
    "predict is told i - 1: it is told i": _draw(told=lambda i, count: max(i - 1, 0)),
    "predict is told the same step each time": _draw(told=lambda i, count: count - 1),
    "predict is told step 0 each time": _draw(told=lambda i, count: 0),
    "predict is told the noise of the beginning each time: it is told the latent as it is now": (
        _told_the_beginning
    ),
    "each step ends at the alpha_bar where it began: the latent stays as it is": _draw(
        before=lambda bar, i: bar[i]
    ),
    "each step ends at alpha_bar[i + 1], where there is more noise: at alpha_bar[i - 1]": _draw(
        before=lambda bar, i: bar[min(i + 1, len(bar) - 1)]
    ),
    "a step ends two steps on: at alpha_bar[i - 1]": _draw(
        before=lambda bar, i: bar[i - 2] if i > 1 else torch.ones_like(bar[0])
    ),
    "the last step ends at alpha_bar[-1], the noisiest: index -1 is the end of the table": _draw(
        before=lambda bar, i: bar[i - 1]
    ),
    "the last step ends at alpha_bar 0, which is pure noise: at 1": _draw(
        before=lambda bar, i: bar[i - 1] if i else torch.zeros_like(bar[0])
    ),
    "every step ends at the clean latent": _draw(before=lambda bar, i: torch.ones_like(bar[0])),
    "the root of alpha_bar is missing": _draw(
        z0_of=lambda x, eps, bar: (x - (1 - bar).sqrt() * eps) / bar,
        step=lambda z0, eps, then, bar: then * z0 + (1 - then).sqrt() * eps,
    ),
    "the root of 1 - alpha_bar is missing": _draw(
        z0_of=lambda x, eps, bar: (x - (1 - bar) * eps) / bar.sqrt(),
        step=lambda z0, eps, then, bar: then.sqrt() * z0 + (1 - then) * eps,
    ),
    "both roots are missing": _draw(
        z0_of=lambda x, eps, bar: (x - (1 - bar) * eps) / bar,
        step=lambda z0, eps, then, bar: then * z0 + (1 - then) * eps,
    ),
    "z_0 is divided by alpha_bar: by its root": _draw(
        z0_of=lambda x, eps, bar: (x - (1 - bar).sqrt() * eps) / bar
    ),
    "z_0 is multiplied by the root of alpha_bar: divide": _draw(
        z0_of=lambda x, eps, bar: (x - (1 - bar).sqrt() * eps) * bar.sqrt()
    ),
    "z_0 is not divided by the root of alpha_bar": _draw(
        z0_of=lambda x, eps, bar: x - (1 - bar).sqrt() * eps
    ),
    "in z_0 the root of 1 - alpha_bar is missing": _draw(
        z0_of=lambda x, eps, bar: (x - (1 - bar) * eps) / bar.sqrt()
    ),
    "in z_0 the noise is added: subtract it": _draw(
        z0_of=lambda x, eps, bar: (x + (1 - bar).sqrt() * eps) / bar.sqrt()
    ),
    "z_0 is multiplied by alpha_bar of the next step: by its root": _draw(
        step=lambda z0, eps, then, bar: then * z0 + (1 - then).sqrt() * eps
    ),
    "the noise that is put back has lost its root, sqrt(1 - alpha_bar)": _draw(
        step=lambda z0, eps, then, bar: then.sqrt() * z0 + (1 - then) * eps
    ),
    "no noise is put back: the next latent has sqrt(1 - alpha_bar) of it": _draw(
        step=lambda z0, eps, then, bar: then.sqrt() * z0
    ),
    "the noise that is put back is that of the level where the step began": _draw(
        step=lambda z0, eps, then, bar: then.sqrt() * z0 + (1 - bar).sqrt() * eps
    ),
    "the noise that is put back is subtracted": _draw(
        step=lambda z0, eps, then, bar: then.sqrt() * z0 - (1 - then).sqrt() * eps
    ),
    "the sign of the predicted noise is turned": _draw(predicted=lambda eps: -eps),
    "this is the first predicted latent, decoded: go through all steps": _first_guess,
}
