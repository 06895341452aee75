"""Guidance: sharpen what a denoiser draws towards its context, or towards a class.

One scale everywhere, s = 1 + w: 0 draws from p(x), 1 from p(x | y), more than that goes beyond it.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from course.diffusion.process import sigma
from course.diffusion.sampling import Denoiser, Gradient
from course.diffusion.schedule import Schedule
from course.models.attention import Context

Scale = float | int | Float[Tensor, " B"]


def classifier_free(
    model: Denoiser,
    context: Context | Tensor,
    null: Context | Tensor,
    guidance_scale: Scale,
    interval: tuple[int, int] | None = None,
) -> Denoiser:
    """A denoiser that steps from the prediction without the context past the one with it.

    Both are predicted in one call of the model, on twice the batch, but where the scale is one
    number, 1 or 0, and one of them is all; keys and values of the contexts are computed once for
    all calls, so make it anew when the weights have changed.

    Args:
        model: predicts the noise: model(xt, t, context).
        context: what to draw, for the whole batch.
        null: what stands for no context, of the same shape.
        guidance_scale: s = 1 + w: 1 is the prediction with the context, 0 the one without; one
            number, or one for each sample.
        interval: first and last time step t that is guided, by the names that the model is told;
            at all others the scale is 1. All are guided if None.

    Raises:
        ValueError: the two contexts are not of one kind and shape, the scale is not finite or not
            of shape (B,), or the interval is none.

    Source: Ho & Salimans 2022, equation 6, where w = s - 1; lecture 001, line 994; the interval:
    Kynkäänniemi et al. 2024, who give it in levels of noise.
    """
    both = Context.batch(null, context)
    without, told = Context.batch(null), Context.batch(context)
    _check_scale(guidance_scale)
    if interval is not None and not 0 <= interval[0] <= interval[1]:
        raise ValueError(f"interval: expected time steps 0 <= first <= last, came {interval}")

    def denoise(xt: Tensor, t: Tensor, context: None = None) -> Tensor:
        scale = _each(guidance_scale, xt)
        if interval is not None:
            scale = _within(interval, t, scale, xt)
        if not isinstance(scale, Tensor) and scale in (0, 1):
            return model(xt, t, told if scale else without)
        low, high = model(torch.cat([xt, xt]), torch.cat([t, t]), both).chunk(2)
        return low + scale * (high - low)

    return denoise


def class_gradient(
    classifier: Callable[[Tensor, Tensor], Tensor],
    labels: Int64[Tensor, " B"],
    guidance_scale: Scale = 1.0,
) -> Gradient:
    """s grad log p(y | x_t), with respect to x_t: which way a noisy picture is more of its class.

    `ddpm` takes it as `gradient`, which is Algorithm 1 of the source. There the mean of each step
    moves by its variance times the gradient at x_t; their derivation, which has it at the mean, is
    of first order, and exact where log p is linear.

    Args:
        classifier: gives logits of K classes: classifier(xt, t); a module must be in eval mode.
        labels: the class of each sample, 0..K-1.
        guidance_scale: s; one number, or one for each sample.

    Returns:
        a function of xt and t; it works under `torch.no_grad`, too, and leaves the gradients of
        the classifier's parameters as they are.

    Raises:
        ValueError: the classifier is in train mode, the labels or the scale are not as above.

    Source: Dhariwal & Nichol 2021, section 4.1; lecture 001, section 5.3.
    """
    if isinstance(classifier, nn.Module) and any(m.training for m in classifier.modules()):
        raise ValueError("classifier: expected one in eval mode, came one in train mode")
    if labels.dtype != torch.int64 or labels.ndim != 1 or not len(labels) or (labels < 0).any():
        raise ValueError(
            f"labels: expected int64 of shape (B,) from 0 on, came {labels.dtype} {labels.tolist()}"
        )
    _check_scale(guidance_scale)
    highest = int(labels.max())

    def gradient(xt: Tensor, t: Tensor) -> Tensor:
        if len(labels) != len(xt):
            raise ValueError(f"labels: expected {len(xt)}, one for each of xt, came {len(labels)}")
        with torch.enable_grad():
            x = xt.detach().requires_grad_()
            log_p = classifier(x, t).log_softmax(1)
            if highest >= log_p.shape[1]:
                raise ValueError(f"labels: expected 0..{log_p.shape[1] - 1}, came {highest}")
            (slope,) = torch.autograd.grad(log_p.gather(1, labels[:, None]).sum(), x)
        return _each(guidance_scale, xt) * slope

    return gradient


def classifier_guided(
    model: Denoiser,
    gradient: Gradient,
    schedule: Schedule,
) -> Denoiser:
    """A denoiser of the tilted score: eps - sqrt(1 - alpha_bar_t) gradient. For `ddim`.

    In a step of `ddpm` it moves the mean by beta / sqrt(alpha) times the gradient, whatever the
    step's variance: with variance "beta" that is Algorithm 1 up to a factor 1 + beta / 2 + ...,
    with "posterior" it is another at the last steps. With `gradient` given to `ddpm`, it is exact.

    Args:
        model: predicts the noise: model(xt, t, context); a context that the sampler is given goes
            on to it.
        gradient: that of `class_gradient`, or of any other log density: gradient(xt, t).
        schedule: with the steps that it will be asked about; not a respaced one.

    Raises:
        ValueError: the schedule is respaced.

    Source: Dhariwal & Nichol 2021, section 4.2 and Algorithm 2.
    """
    schedule.check_whole()

    def denoise(xt: Tensor, t: Tensor, context: Context | Tensor | None = None) -> Tensor:
        return model(xt, t, context) - sigma(schedule, t, xt) * gradient(xt, t)

    return denoise


def _check_scale(scale: Scale) -> None:
    if isinstance(scale, Tensor):
        right = scale.ndim == 1 and scale.is_floating_point() and bool(scale.isfinite().all())
        came = f"{scale.dtype} {scale.tolist()}"
    else:
        right, came = math.isfinite(scale), scale
    if not right:
        raise ValueError(
            f"guidance_scale: expected a finite number, or one for each sample, came {came}"
        )


def _each(scale: Scale, xt: Tensor) -> float | int | Tensor:
    """One number for all, or one for each sample, shaped (B, 1, ...)."""
    if not isinstance(scale, Tensor):
        return scale
    if scale.shape != xt.shape[:1]:
        raise ValueError(
            f"guidance_scale: expected {len(xt)}, one for each of xt, came {len(scale)}"
        )
    return scale.to(xt).reshape(-1, *[1] * (xt.ndim - 1))


def _within(
    interval: tuple[int, int], t: Int64[Tensor, " B"], scale: float | int | Tensor, xt: Tensor
) -> float | int | Tensor:
    """The scale inside, 1 outside; as it is, or one number, where that is so for all."""
    inside = (interval[0] <= t) & (t <= interval[1])
    if inside.all():
        return scale
    if not inside.any():
        return 1
    each = torch.as_tensor(scale, dtype=xt.dtype, device=xt.device)
    return each.where(inside.reshape(-1, *[1] * (xt.ndim - 1)), 1)
