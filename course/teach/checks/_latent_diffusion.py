"""Pieces of notebook 52 with their parts replaced: right, and known mistakes."""

import torch


def right_drop(tokens, null, share, generator):
    """As the training of `scenes-ldm` leaves captions out."""
    dropped = torch.rand(len(tokens), generator=generator) < share
    return torch.where(dropped[:, None], null, tokens)


def _drop(numbers, dropped=lambda numbers, share: numbers < share, empty=lambda tokens, null: null):
    """Captions left out with any part replaced; `numbers` draws what decides."""

    def drop(tokens, null, share, generator):
        rows = dropped(numbers(tokens, generator), share)
        return torch.where(rows, empty(tokens, null), tokens)

    return drop


def _each_row(tokens, generator):
    return torch.rand(len(tokens), generator=generator)[:, None]


def _counted(numbers, share):
    """Exactly that share of the rows, those with the smallest numbers."""
    ranks = numbers.flatten().argsort().argsort()[:, None]
    return ranks < round(share * len(numbers))


def _none(tokens, null, share, generator):
    return tokens.clone()


def _all(tokens, null, share, generator):
    return null.expand_as(tokens).clone()


DROP_MISTAKES = {
    "nothing is dropped (or one number decides on the whole batch)": _none,
    "all is dropped (or one number decides on the whole batch)": _all,
    "each token is dropped by itself: one number decides on a whole caption": _drop(
        lambda tokens, generator: torch.rand(tokens.shape, generator=generator)
    ),
    "each column is dropped by itself: a number for each caption, a row": _drop(
        lambda tokens, generator: torch.rand(tokens.shape[1], generator=generator)
    ),
    "share is what is kept here: it is what is dropped, where the number is below it": _drop(
        _each_row, lambda numbers, share: numbers >= share
    ),
    "a number above the share drops here: below it": _drop(
        _each_row, lambda numbers, share: numbers > 1 - share
    ),
    "always the same number of rows is dropped: each by its own number": _drop(_each_row, _counted),
    "half of the rows is dropped, whatever the share": _drop(
        _each_row, lambda numbers, share: numbers < 0.5
    ),
    "zeros stand for the empty caption: it is null": _drop(
        _each_row, empty=lambda tokens, null: torch.zeros_like(null)
    ),
    "the first number of null fills the row: the empty caption is all of null": _drop(
        _each_row, empty=lambda tokens, null: null[:1]
    ),
    "the last number of null fills the row: the empty caption is all of null": _drop(
        _each_row, empty=lambda tokens, null: null[-1:]
    ),
    "the first row of the batch stands for the empty caption: it is null": _drop(
        _each_row, empty=lambda tokens, null: tokens[:1]
    ),
    "another caption of the batch stands for the empty one: it is null": _drop(
        _each_row, empty=lambda tokens, null: tokens.roll(1, 0)
    ),
    "the numbers are drawn from a normal distribution: torch.rand, from 0 to 1": _drop(
        lambda tokens, generator: torch.randn(len(tokens), generator=generator)[:, None]
    ),
}


def _one(bar):
    return torch.ones_like(bar[0])


def draw_with(
    order=lambda count: range(count - 1, -1, -1),
    told=lambda i, count: i,
    here=lambda bar, i: bar[i],
    before=lambda bar, i: bar[i - 1] if i else _one(bar),
    signal=lambda bar: bar.sqrt(),
    noise_of=lambda bar: (1 - bar).sqrt(),
    predicted=lambda eps: eps,
    of_z0=lambda z0: z0,
    of_step=lambda x, factor: x,
    unscaled=lambda x, factor: x / factor,
    decoded=lambda decode, x: decode(x),
    clamped=lambda picture: picture.clamp(-1, 1),
):
    """DDIM in a latent space with any of its parts replaced."""

    def draw(predict, decode, x, alpha_bar, factor):
        for i in order(len(alpha_bar)):
            now, then = here(alpha_bar, i), before(alpha_bar, i)
            eps = predicted(predict(x, told(i, len(alpha_bar))))
            z0 = of_z0((x - noise_of(now) * eps) / signal(now))
            x = of_step(signal(then) * z0 + noise_of(then) * eps, factor)
        return clamped(decoded(decode, unscaled(x, factor)))

    return draw


right_draw = draw_with()
right_draw.__doc__ = "Song et al. 2021, equation 12 with eta 0; Rombach et al. 2022, section 3."


def _first_guess(predict, decode, x, alpha_bar, factor):
    """What the first step believes."""
    bar = alpha_bar[-1]
    z0 = (x - (1 - bar).sqrt() * predict(x, len(alpha_bar) - 1)) / bar.sqrt()
    return decode(z0 / factor).clamp(-1, 1)


def _picture_divided(predict, decode, x, alpha_bar, factor):
    done = draw_with(unscaled=lambda x, factor: x, clamped=lambda picture: picture)
    return (done(predict, decode, x, alpha_bar, factor) / factor).clamp(-1, 1)


DRAW_MISTAKES = {
    "the latent is not divided by the factor before it is decoded": draw_with(
        unscaled=lambda x, factor: x
    ),
    "the latent is multiplied by the factor: training multiplied, so divide": draw_with(
        unscaled=lambda x, factor: x * factor
    ),
    "the latent is divided by the root of the factor": draw_with(
        unscaled=lambda x, factor: x / factor**0.5
    ),
    "the latent is divided by the factor at every step: once, before it is decoded": draw_with(
        of_step=lambda x, factor: x / factor, unscaled=lambda x, factor: x
    ),
    "the latent is divided by the factor at every step and at the end": draw_with(
        of_step=lambda x, factor: x / factor
    ),
    "the picture is divided by the factor: the latent, before it is decoded": _picture_divided,
    "the latent is clamped at each step: it may be any number": draw_with(
        of_step=lambda x, factor: x.clamp(-1, 1)
    ),
    "the predicted latent is clamped: it may be any number": draw_with(
        of_z0=lambda z0: z0.clamp(-1, 1)
    ),
    "the latent is clamped before it is decoded: only the picture is": draw_with(
        decoded=lambda decode, x: decode(x.clamp(-1, 1))
    ),
    "the picture is not clamped to [-1, 1]": draw_with(clamped=lambda picture: picture),
    "the picture is clamped to [0, 1]": draw_with(clamped=lambda picture: picture.clamp(0, 1)),
    "the latent is not decoded": draw_with(decoded=lambda decode, x: x),
    "the latent is decoded twice": draw_with(decoded=lambda decode, x: decode(decode(x))),
    "the steps are taken from first to last: from S - 1 down to 0": draw_with(order=range),
    "the last step is not taken, or ends where it began: at alpha_bar 1": draw_with(
        order=lambda count: range(count - 1, 0, -1)
    ),
    "the first step, i = S - 1, is not taken": draw_with(
        order=lambda count: range(count - 2, -1, -1)
    ),
    "predict is told S - 1 - i: it is told i": draw_with(told=lambda i, count: count - 1 - i),
    "predict is told i + 1: it is told i": draw_with(told=lambda i, count: i + 1),
    "predict is told the same step each time": draw_with(told=lambda i, count: count - 1),
    "each step ends at the alpha_bar where it began: the latent stays as it is": draw_with(
        before=lambda bar, i: bar[i]
    ),
    "a step ends two steps on: at alpha_bar[i - 1]": draw_with(
        before=lambda bar, i: bar[i - 2] if i > 1 else _one(bar)
    ),
    "the last step ends at alpha_bar[-1], the noisiest: index -1 is the end of the table": (
        draw_with(before=lambda bar, i: bar[i - 1])
    ),
    "every step ends at the clean latent": draw_with(before=lambda bar, i: _one(bar)),
    "the root of alpha_bar is missing": draw_with(signal=lambda bar: bar),
    "the root of 1 - alpha_bar is missing": draw_with(noise_of=lambda bar: 1 - bar),
    "both roots are missing": draw_with(signal=lambda bar: bar, noise_of=lambda bar: 1 - bar),
    "the sign of the predicted noise is turned": draw_with(predicted=lambda eps: -eps),
    "this is the first predicted latent, decoded: go through all steps": _first_guess,
}
