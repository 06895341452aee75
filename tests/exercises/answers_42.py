"""Notebook 42: mistakes that students make, and right answers written differently."""

_LABELS = "torch.cat([torch.full_like(context, null), context])"
_PICTURES = "torch.cat([xt, xt])"
_TIMES = "torch.cat([t, t])"
_HALVES = ".chunk(2)"
_GUIDED = "eps_null + scale * (eps_context - eps_null)"

_HAT = "eps - scale * (1 - alpha_bar) ** 0.5 * gradient"
_ROOT = "(1 - alpha_bar) ** 0.5 * gradient"
_X0 = "(xt - (1 - alpha_bar) ** 0.5 * eps_hat) / alpha_bar**0.5"
_START = "alpha_bar_prev**0.5 * x0_hat"
_DIRECTION = "(1 - alpha_bar_prev) ** 0.5 * eps_hat"
_BETA = "(1 - alpha_bar / alpha_bar_prev)"
_POSTERIOR = f"(1 - alpha_bar_prev) / (1 - alpha_bar) * {_BETA}"
_ON_TOP = f"return {_START}"

_SCALES = "(-1.5, 0.0, 0.4, 1.0, 2.5, 7.5, 20.0)"
_DRAWN = "2 * torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64)"
_WANT = "eps_null + scale * (eps_cond - eps_null)"
_CLOSE = "torch.allclose(formula(eps_null, eps_cond, scale), want)"
_ANY = "it accepts a formula with"

_PULL = "(1 - 1 / (1 + math.exp(-4 * 0.3)))"
_MOVED = "0.3 + 3 * 0.04 * gradient"


def _return(expression):
    """Return something else, whatever is returned."""
    return ("    return ", f"    return {expression}\n    return ")


MUTANTS = {
    "guided_noise": [
        ("+ scale *", "+ min(scale, 50) *", "the scale is held at 50"),
        (_GUIDED, f"({_GUIDED}).clamp(-1000, 1000)", "got"),
        (
            "    both =",
            "    if scale == 1:\n        return model(xt, t, context)\n    both =",
            "the model is told",
        ),
        (_GUIDED, "eps_context + scale * (eps_context - eps_null)", "this is the scale s + 1"),
        (_GUIDED, "(1 + scale) * eps_context - scale * eps_null", "this is the scale s + 1"),
        ("+ scale *", "+ (scale - 1) *", "this is the scale s - 1"),
        (
            _GUIDED,
            "eps_context + scale * (eps_null - eps_context)",
            "with and without class are exchanged",
        ),
        (
            "eps_null, eps_context =",
            "eps_context, eps_null =",
            "with and without class are exchanged",
        ),
        (
            _LABELS,
            "torch.cat([context, torch.full_like(context, null)])",
            "with and without class are exchanged",
        ),
        ("+ scale *", "+ (1 - scale) *", "(or 1 - s stands for s)"),
        ("+ scale *", "- scale *", "the sign of the difference is turned"),
        (
            "(eps_context - eps_null)",
            "eps_context - eps_null",
            "only the prediction with the class is scaled: s multiplies",
        ),
        (_GUIDED, "eps_null + scale * eps_context", "and that without is added"),
        (_GUIDED, "scale * eps_context - eps_null", "and that without is subtracted"),
        (_GUIDED, "eps_context - scale * eps_null", "only the prediction without a class is"),
        (_GUIDED, "scale * (eps_context - eps_null)", "the prediction without a class is missing"),
        ("(eps_context - eps_null)", "(eps_context + eps_null)", "both predictions are added"),
        (_GUIDED, "scale * eps_context + (scale - 1) * eps_null", "do not add up to 1"),
        (_GUIDED, "(1 + scale) * eps_context + scale * eps_null", "do not add up to 1"),
        (_GUIDED, "(eps_null + scale) * (eps_context - eps_null)", "multiply before you add"),
        (_GUIDED, "(eps_null + eps_context) / 2", "this is the mean of both predictions"),
        (_GUIDED, "eps_null", "this is the prediction without a class, whatever the scale"),
        (_GUIDED, "eps_context", "this is the prediction with the class, whatever the scale"),
        (_GUIDED, "eps_context - eps_null", "the scale is not used"),
        ("+ scale *", "+ scale**2 *", "the scale is squared"),
        ("+ scale *", "+ scale / 2 *", "the scale is halved"),
        ("+ scale *", "+ 2 * scale *", "the scale is doubled"),
        ("+ scale *", "+ 1 / scale *", "the difference is divided by the scale"),
        ("+ scale *", "+ int(scale) *", "the scale is cut to a whole number"),
        ("+ scale *", "+ round(scale) *", "the scale is rounded to a whole number"),
        ("+ scale *", "+ 7.5 *", "expected"),
        (
            "+ scale *",
            "+ min(scale, 1) *",
            "this is the prediction with the class, whatever the scale",
        ),
        ("+ scale *", "+ min(scale, 10) *", "the scale is held at 10,"),
        ("+ scale *", "+ min(scale, 20.0) *", "the scale is held at 20,"),
        ("+ scale *", "+ max(scale, 1) *", "a scale below 1 is taken for 1"),
        ("+ scale *", "+ max(scale, 0) *", "a scale below 0 is taken for 0"),
        ("+ scale *", "+ abs(scale) *", "a scale below 0 loses its sign"),
        ("(eps_context - eps_null)", "(eps_context - eps_null).abs()", "without its sign"),
        (
            "(eps_context - eps_null)",
            "(eps_context - eps_null).mean(0)",
            "one difference, the mean",
        ),
        ("(eps_context - eps_null)", "(eps_context - eps_null).mean()", "expected"),
        ("(eps_context - eps_null)", "(eps_context[:1] - eps_null[:1])", "expected"),
        (_GUIDED, f"({_GUIDED}).clamp(-1, 1)", "the result is clipped to [-1, 1]"),
        (_GUIDED, f"({_GUIDED}).clamp(-9, 9)", "expected"),
        (
            f"return {_GUIDED}",
            (
                f"guided = {_GUIDED}\n    axes = (1, 2, 3)\n"
                "    long = [e.square().sum(axes, True).sqrt() for e in (eps_context, guided)]\n"
                "    return guided * long[0] / long[1]"
            ),
            "brought to the length of the prediction with the class",
        ),
        (_LABELS, "torch.cat([context, context])", "null is never told"),
        (_LABELS, "torch.full_like(torch.cat([t, t]), null)", "no class is ever told"),
        (_LABELS, _LABELS.replace("null)", "12)"), "class 12 is told where null"),
        (_LABELS, _LABELS.replace("null)", "0)"), "class 0 is told where null"),
        (_LABELS, "torch.cat([context.roll(1), context])", "is told where null"),
        (
            _LABELS,
            _LABELS.replace("context])", "context.flip(0)])"),
            "a picture is told the class of another",
        ),
        (
            _LABELS,
            "torch.stack([torch.full_like(context, null), context], 1).flatten()",
            "a picture is told the class of another",
        ),
        (_LABELS, "torch.stack([torch.full_like(context, null), context])", "it raises"),
        (_LABELS, "context", "it raises ValueError: the model is told"),
        (_LABELS, f"{_LABELS}.float()", "it raises ValueError: the model takes int64"),
        (_TIMES, "t", "it raises ValueError: the model is told"),
        (_TIMES, "t.repeat_interleave(2)", "a picture is told the time step of another"),
        (_TIMES, "torch.cat([t, t.flip(0)])", "a picture is told the time step of another"),
        (_TIMES, "t[:1].repeat(2 * len(t))", "the model is told other time steps"),
        (_TIMES, "torch.cat([t, t - 1])", "the model is told other time steps"),
        (_TIMES, "torch.cat([t, t]) / 1000", "it raises ValueError: the model takes int64"),
        (_PICTURES, "xt", "it raises ValueError: the model is told"),
        (_PICTURES, "xt.repeat_interleave(2, dim=0)", "a picture is told the time step of another"),
        (
            _PICTURES,
            "torch.cat([xt, torch.randn_like(xt)])",
            "the model is told other pictures than xt",
        ),
        (_PICTURES, "torch.cat([xt, xt * 0])", "the model is told other pictures than xt"),
        (_PICTURES, "torch.cat([xt, xt]).mT", "the model takes pictures of shape"),
        (
            f"model({_PICTURES}, {_TIMES}, both){_HALVES}",
            f"(model(xt, t, c) for c in both{_HALVES})",
            "the model is called 2 times",
        ),
        (
            f"return {_GUIDED}",
            (
                "if len(xt) == 1:\n"
                "        eps_null, eps_context = (model(xt, t, c) for c in both.chunk(2))\n"
                f"    return {_GUIDED}"
            ),
            "the model is called 3 times",
        ),
        (
            "    eps_null, eps_context =",
            "    model(xt, t, context)\n    eps_null, eps_context =",
            "the model is called 2 times",
        ),
        (*_return("xt * 0"), "expected"),
        (
            "    both =",
            "    return xt\n    both =",
            "the model is not called",
        ),
        (
            f"{_PICTURES}, {_TIMES}, both){_HALVES}",
            (
                "torch.cat([xt, xt, xt]), torch.cat([t, t, t]), "
                "torch.cat([both, context])).chunk(3)[:2]"
            ),
            "expected twice the batch",
        ),
        (
            f"    eps_null, eps_context = model({_PICTURES}, {_TIMES}, both){_HALVES}",
            (
                f"    got = model({_PICTURES}, {_TIMES}, both)\n"
                "    eps_null, eps_context = got[::2], got[1::2]"
            ),
            "put together half by half, and taken apart in turns",
        ),
        (
            (f"{_LABELS}\n    eps_null, eps_context = model({_PICTURES}, {_TIMES}, both){_HALVES}"),
            (
                "torch.stack([torch.full_like(context, null), context], 1).flatten()\n"
                "    xt, t = xt.repeat_interleave(2, 0), t.repeat_interleave(2)\n"
                "    eps_null, eps_context = model(xt, t, both).chunk(2)"
            ),
            "put together in turns, and taken apart half by half",
        ),
        (_HALVES, ".chunk(2, dim=1)", "expected shape"),
        (f"return {_GUIDED}", _GUIDED, "None: is the return missing?"),
        (f"return {_GUIDED}", f"return eps_null, {_GUIDED}", "expected a torch tensor"),
        (_GUIDED, f"({_GUIDED}).float()", "expected dtype torch.float64"),
        (_GUIDED, f"({_GUIDED}).double()", "expected dtype torch.float32"),
        (f"return {_GUIDED}", f"xt += 1\n    return {_GUIDED}", "it changes its input in place"),
        (
            f"return {_GUIDED}",
            f"context[:] = 0\n    return {_GUIDED}",
            "changes its input in place",
        ),
        (_GUIDED, f"{_GUIDED} if scale != 1 else eps_null", "with the class, not without"),
        (_GUIDED, f"{_GUIDED} if scale else eps_context", "without a class, not with"),
        (_GUIDED, f"{_GUIDED} if len(xt) > 1 else eps_null", "without a class, whatever"),
        (_GUIDED, f"{_GUIDED} + 0.01 * torch.randn_like(xt)", "two calls with the same inputs"),
    ],
    "guided_ddim_step": [
        ("eps - scale *", "eps - min(scale, 100) *", "the scale is held at 100"),
        ("eps - scale *", "eps - (scale if scale < 30 else 0) *", "there is no guidance at all"),
        (
            "return alpha_bar_prev",
            "if alpha_bar_prev < alpha_bar:\n        return xt\n    return alpha_bar_prev",
            "got",
        ),
        (_HAT, _HAT.replace("eps -", "eps +"), "the gradient is added"),
        (
            _ROOT,
            "(1 - alpha_bar) * gradient",
            "the factor of the gradient has lost its square root",
        ),
        (_ROOT, "gradient", "the factor sqrt(1 - alpha_bar) of the gradient is missing"),
        (_ROOT, "gradient / (1 - alpha_bar) ** 0.5", "the gradient is divided by sqrt(1 - alpha_"),
        (_ROOT, "alpha_bar**0.5 * gradient", "the factor of the gradient is sqrt(alpha_bar)"),
        (_ROOT, "alpha_bar * gradient", "the factor of the gradient is alpha_bar:"),
        (_ROOT, "(1 - alpha_bar_prev) ** 0.5 * gradient", "of the gradient has alpha_bar_prev"),
        (_ROOT, "(1 + alpha_bar) ** 0.5 * gradient", "sqrt(1 + alpha_bar)"),
        (_ROOT, f"{_BETA} * gradient", "is the variance of the step, beta"),
        (_ROOT, f"{_POSTERIOR} * gradient", "is the posterior's variance"),
        (_HAT, _HAT.replace("scale", "scale**2"), "the scale is squared"),
        (_HAT, _HAT.replace("scale * ", ""), "the scale is not used"),
        (_HAT, _HAT.replace("scale", "(scale - 1)"), "this is the scale minus 1"),
        (_HAT, _HAT.replace("scale", "(1 + scale)"), "this is the scale plus 1"),
        (_HAT, _HAT.replace("scale", "2 * scale"), "the gradient is used twice"),
        (_HAT, _HAT.replace("scale", "1 / scale"), "the gradient is divided by the scale"),
        (_HAT, "eps - (scale * (1 - alpha_bar)) ** 0.5 * gradient", "the scale is below the root"),
        (_HAT, f"scale * (eps - {_ROOT})", "the scale multiplies the predicted noise, too"),
        (_HAT, f"scale * eps - {_ROOT}", "the scale multiplies the predicted noise, not the"),
        (_HAT, "eps", "there is no guidance at all"),
        (_HAT, f"-scale * {_ROOT}", "the predicted noise is missing"),
        (_HAT, "gradient - scale * (1 - alpha_bar) ** 0.5 * eps", "noise and gradient are exch"),
        (_HAT, _HAT.replace("scale", "max(scale, 0)"), "a scale below 0 is taken for 0"),
        (_HAT, _HAT.replace("scale", "min(scale, 10)"), "the scale is held at 10,"),
        (_HAT, _HAT.replace("scale", "max(scale, 1)"), "a scale below 1 is taken for 1"),
        (_HAT, _HAT.replace("gradient", "gradient / gradient.norm()"), "expected"),
        (_HAT, _HAT.replace("gradient", "gradient.mean(0)"), "expected"),
        (_HAT, _HAT.replace("gradient", "gradient.clamp(-5, 5)"), "expected"),
        (_HAT, f"({_HAT}).clamp(-5, 5)", "expected"),
        (_DIRECTION, _DIRECTION.replace("eps_hat", "eps"), "the guided noise is only in x_0"),
        (_X0, _X0.replace("eps_hat", "eps"), "the guided noise is only in the direction"),
        (
            _DIRECTION,
            _DIRECTION.replace("eps_hat", "(2 * eps_hat - eps)"),
            "the gradient moves the direction once more",
        ),
        (
            "    eps_hat =",
            "    alpha_bar, alpha_bar_prev = alpha_bar_prev, alpha_bar\n    eps_hat =",
            "alpha_bar and alpha_bar_prev are exchanged",
        ),
        (*_return("x0_hat"), "this is x_0, predicted"),
        (*_return("eps_hat"), "this is the guided noise: it still makes a step"),
        (*_return("xt"), "expected"),
        (_X0, _X0.replace("(1 - alpha_bar) ** 0.5", "(1 - alpha_bar)"), "without the root of 1 -"),
        (_X0, _X0.replace("/ alpha_bar**0.5", "/ alpha_bar"), "is divided by alpha_bar:"),
        (_X0, _X0.replace(" / alpha_bar**0.5", ""), "is not divided by sqrt(alpha_bar)"),
        (_X0, _X0.replace("/ alpha", "* alpha"), "is multiplied by sqrt(alpha_bar): divide"),
        (_X0, _X0.replace("xt -", "xt +"), "the noise is added in x_0"),
        (_X0, f"({_X0}).clamp(-1, 1)", "the predicted x_0 is clipped"),
        (_X0, f"({_X0}).clamp(-20, 20)", "expected"),
        (_START, "alpha_bar_prev * x0_hat", "x_0 is multiplied by alpha_bar_prev"),
        (_START, "alpha_bar**0.5 * x0_hat", "x_0 is multiplied by sqrt(alpha_bar): the step ends"),
        (_START, "x0_hat", "x_0 is not multiplied by sqrt(alpha_bar_prev)"),
        (_DIRECTION, "(1 - alpha_bar_prev) * eps_hat", "the direction has lost its square root"),
        (_DIRECTION, "(1 - alpha_bar) ** 0.5 * eps_hat", "the direction takes alpha_bar"),
        (f" + {_DIRECTION}", "", "the direction is missing"),
        (f"+ {_DIRECTION}", f"- {_DIRECTION}", "the direction is subtracted"),
        (
            _DIRECTION,
            f"(1 - alpha_bar_prev - {_POSTERIOR}) ** 0.5 * eps_hat",
            "room is made for new noise",
        ),
        (
            f"{_HAT}",
            f"eps\n    shift = scale * {_BETA} * gradient",
            "there is no guidance at all",
        ),
        (
            _ON_TOP,
            f"return scale * {_BETA} * gradient + {_START}",
            "Algorithm 1 is mixed in: the result is moved by beta times the gradient, after",
        ),
        (
            _ON_TOP,
            f"return scale * {_POSTERIOR} * gradient + {_START}",
            "by the posterior's variance times the gradient, after",
        ),
        (
            f"{_HAT}\n",
            (
                "eps\n"
                f"    xt = xt + alpha_bar**0.5 / alpha_bar_prev**0.5 * scale * {_BETA} * gradient\n"
            ),
            "Algorithm 1 is mixed in: the result is moved by beta times the gradient",
        ),
        (
            _DIRECTION,
            f"{_DIRECTION} + {_POSTERIOR} ** 0.5 * torch.randn_like(xt)",
            "two calls with the same inputs differ",
        ),
        ("    return ", "    ", "None: is the return missing?"),
        (*_return("x0_hat, eps_hat"), "expected a torch tensor"),
        (*_return("x0_hat.float()"), "expected dtype torch.float64"),
        (
            _HAT,
            "eps.sub_(scale * (1 - alpha_bar) ** 0.5 * gradient)",
            "it changes its input in place",
        ),
        (_ROOT, "(1 - alpha_bar).sqrt() * gradient", "it raises AttributeError"),
        (_ROOT, "torch.sqrt(1 - alpha_bar) * gradient", "it raises TypeError"),
    ],
    "referee_guidance": [
        ("    return True", "    return False", "it rejects the right formula"),
        ("            return False", "            pass", _ANY),
        ("    return True", "    return 1", "expected True or False"),
        ("    return True", "    pass", "None: is the return missing?"),
        (_WANT, "eps_cond + scale * (eps_cond - eps_null)", "it rejects the right formula"),
        (_WANT, "(1 + scale) * eps_cond - scale * eps_null", "it rejects the right formula"),
        (_WANT, "eps_cond + scale * (eps_null - eps_cond)", "it rejects the right formula"),
        (_WANT, "scale * eps_cond", "it rejects the right formula"),
        (_CLOSE, "torch.equal(formula(eps_null, eps_cond, scale), want)", "it rejects the right"),
        (_SCALES, "(0.0, 1.0)", "try scales that are neither 0 nor 1"),
        (_SCALES, "(1.0,)", "try scales that are neither 0 nor 1"),
        (_SCALES, "(0.0,)", "at s = 1 it must be the prediction with the class"),
        (_SCALES, "(0.0, 0.4, 1.0)", "try scales above 1"),
        (_SCALES, "(1.0, 1.5, 2.5, 7.5, 20.0)", "try scales below 1, between 0 and 1, too"),
        (_SCALES, "(0.4, 1.0, 2.5, 7.5, 20.0)", "try s = 0, too"),
        (_SCALES, "(0.0, 1.0, 2.5, 7.5, 20.0)", "try scales below 1, between 0 and 1, too"),
        (_SCALES, "(0.0, 0.4, 1.0, 2.5, 7.5)", "try large scales, above 10, too"),
        (_SCALES, "(0.0, 0.4, 1.0, 2.5, 7.5, 20.0)", "try scales below 0, too: any finite one"),
        (_SCALES, "(0.0, 1.0, 2.0, 3.0, 7.0, 20.0)", "try scales"),
        (_DRAWN, _DRAWN.replace("2, 3, 4, 5", "2, 1, 4, 5"), "try several samples that differ"),
        (
            "    for scale",
            "    eps_null = 0 * eps_null\n    for scale",
            "try an eps_null that is not 0",
        ),
        ("    for scale", "    eps_cond = eps_null.clone()\n    for scale", _ANY),
        (
            "    for scale",
            "    eps_cond = eps_null + (eps_cond - eps_null).abs()\n    for scale",
            "the size of the difference without its sign",
        ),
        (_DRAWN, _DRAWN.replace("2 * ", "0.01 * "), "try large numbers"),
        (
            f"not {_CLOSE}",
            "not torch.allclose(formula(eps_null, eps_cond, scale), want, atol=0.5)",
            "that is too coarse a tolerance",
        ),
        (
            f"not {_CLOSE}",
            "not torch.allclose(formula(eps_null, eps_cond, scale), want, rtol=0.02)",
            "that is too coarse a tolerance",
        ),
        (
            _CLOSE,
            "torch.allclose(formula(eps_null, eps_cond, scale).mean(), want.mean())",
            _ANY,
        ),
        (
            _CLOSE,
            "torch.allclose(formula(eps_null, eps_cond, scale).norm(), want.norm())",
            _ANY,
        ),
        (_CLOSE, "formula(eps_null, eps_cond, scale).shape == want.shape", _ANY),
        (
            _CLOSE,
            "torch.allclose(formula(eps_null, eps_cond, scale).sign(), want.sign())",
            _ANY,
        ),
        (
            _CLOSE,
            (
                "torch.allclose(torch.cosine_similarity("
                "formula(eps_null, eps_cond, scale).flatten(), want.flatten(), 0).abs(), "
                "torch.ones(()).double())"
            ),
            _ANY,
        ),
        (
            f"not {_CLOSE}",
            (
                "torch.allclose(formula(eps_null, eps_cond, scale), "
                "(1 + scale) * eps_cond - scale * eps_null)"
            ),
            _ANY,
        ),
    ],
    "guided_mean": [
        (_MOVED, "0.3 + 0.04 * gradient", "the scale is forgotten"),
        (_MOVED, "0.3 + 3 * 0.2 * gradient", "this takes the standard deviation"),
        (_MOVED, "0.3 + 3 * 0.04**2 * gradient", "the variance is squared"),
        (_MOVED, "0.3 + 3 * gradient", "the variance is forgotten"),
        (_MOVED, "0.3 + 3 / 0.04 * gradient", "this divides by the variance"),
        (_PULL, "(1 - 1 / (1 + math.exp(-4 * 0)))", "the gradient is taken at 0"),
        (_PULL, "(1 - 1 / (1 + math.exp(-4 * 1)))", "the gradient is taken at 1"),
        (_PULL, "(1 / (1 + math.exp(-4 * 0.3)))", "sigmoid stands for 1 - sigmoid"),
        (_PULL, "(-1 / (1 + math.exp(-4 * 0.3)))", "the gradient of the other class"),
        (f"4 * {_PULL}", _PULL, "the slope 4 of the logit is forgotten (chain rule)"),
        (_PULL, "(1 - 1 / (1 + math.exp(-0.3)))", "the slope 4 is forgotten inside"),
        (f"4 * {_PULL}", "1 - 1 / (1 + math.exp(-0.3))", "forgotten inside and outside"),
        (f"4 * {_PULL}", f"16 * {_PULL}", "the slope is squared"),
        (_MOVED, "0.3 + 2 * 0.04 * gradient", "this is w = s - 1 times the gradient"),
        (_MOVED, "0.3 + 4 * 0.04 * gradient", "this is s + 1 times the gradient"),
        (_MOVED, "0.3 + 9 * 0.04 * gradient", "the scale is squared"),
        (_MOVED, "0.3 - 3 * 0.04 * gradient", "the sign is turned"),
        (_MOVED, "3 * 0.04 * gradient", "this is how far the mean moves"),
        (_MOVED, "0.3 + 3 * 0.04 * gradient / (1 + math.exp(-1.2))", "the gradient of the prob"),
        (_MOVED, "0.3 - 3 * 0.04 * math.log(1 + math.exp(-1.2))", "log probability itself stands"),
        (_MOVED, "0.3 + 3 * 0.04 / (1 + math.exp(-1.2))", "the probability itself stands"),
        (_MOVED, "0.3928", "this is the mean of the tilted density, exactly"),
        (_MOVED, "0.3848", "this is the top of the tilted density"),
        (_MOVED, "0.3", "nothing is moved"),
        (_MOVED, "0.41", "close, but let Python compute it to three digits"),
        (_MOVED, "0.7", "0.7 is not it"),
        (_MOVED, f"str({_MOVED})", "expected a plain number"),
        (_MOVED, f"[{_MOVED}]", "expected a plain number"),
        (f"return {_MOVED}", _MOVED, "None: is the return missing?"),
    ],
}

ALTERNATIVES = {
    "guided_noise": [
        """
def guided_noise(model, xt, t, context, null, scale):
    # The class first, then none, in the other order and with w.
    empty = torch.tensor([null] * len(context))
    labels = torch.stack([context, empty]).flatten()
    predicted = model(xt.repeat(2, 1, 1, 1), t.repeat(2), labels)
    told, untold = predicted[: len(xt)], predicted[len(xt) :]
    w = scale - 1
    return (1 + w) * told - w * untold
""",
        """
def guided_noise(model, xt, t, context, null, scale):
    # In turns: each picture next to itself.
    labels = torch.full((len(t), 2), null, dtype=torch.int64)
    labels[:, 1] = context
    both = model(
        xt.repeat_interleave(2, dim=0), t=t.repeat_interleave(2), context=labels.reshape(-1)
    )
    both = both.unflatten(0, (len(t), 2))
    return torch.lerp(both[:, 0], both[:, 1], float(scale))
""",
        """
@torch.no_grad()
def guided_noise(model, xt, t, context, null, scale):
    from einops import rearrange, repeat

    labels = torch.cat([context, context])
    labels[len(context) :] = null
    twice = (repeat(x, "b ... -> (two b) ...", two=2) for x in (xt, t))
    told, untold = rearrange(model(*twice, labels), "(two b) ... -> two b ...", two=2)
    step = (told - untold).mul_(scale)
    return untold.add(step)
""",
    ],
    "guided_ddim_step": [
        """
def guided_ddim_step(xt, eps, gradient, scale, alpha_bar, alpha_bar_prev):
    # By the score: the sum of the model's and the classifier's.
    noise = math.sqrt(1 - alpha_bar)
    score = -eps / noise + scale * gradient
    x0 = (xt + noise * noise * score) / math.sqrt(alpha_bar)
    return math.sqrt(alpha_bar_prev) * x0 - math.sqrt(1 - alpha_bar_prev) * noise * score
""",
        """
def guided_ddim_step(xt, eps, gradient, scale, alpha_bar, alpha_bar_prev):
    # As factors of x_t and of the guided noise.
    bar, before = (
        torch.as_tensor(level, dtype=torch.float64) for level in (alpha_bar, alpha_bar_prev)
    )
    of_xt = (before / bar).sqrt()
    of_noise = (1 - before).sqrt() - of_xt * (1 - bar).sqrt()
    guided = torch.addcmul(eps, gradient, (1 - bar).sqrt().to(eps.dtype), value=-scale)
    return of_xt * xt + of_noise * guided
""",
        """
def guided_ddim_step(xt, eps, gradient, scale, alpha_bar, alpha_bar_prev):
    # The plain step, and what guidance adds to it.
    def step(x, noise):
        clean = (x - (1 - alpha_bar) ** 0.5 * noise) / alpha_bar**0.5
        return alpha_bar_prev**0.5 * clean + (1 - alpha_bar_prev) ** 0.5 * noise

    return step(xt, eps) - step(0 * xt, scale * (1 - alpha_bar) ** 0.5 * gradient)
""",
    ],
    "referee_guidance": [
        """
def referee_guidance(formula):
    # By w, for random scales and single numbers of a batch.
    generator = torch.Generator().manual_seed(4)
    for trial in range(60):
        null, cond = 4 * torch.randn(2, 3, 2, generator=generator)
        s = [0.0, 1.0, -0.5, 15.0, 3][trial % 5] if trial < 20 else (trial - 18) / 7
        w = s - 1
        want = (1 + w) * cond.double() - w * null.double()
        if (formula(null, cond, s).double() - want).abs().max() > 1e-4 * (1 + abs(s)):
            return False
    return True
""",
        """
def referee_guidance(formula):
    # By properties: linear in both, weights 1 - s and s.
    one = torch.eye(4, dtype=torch.float64).reshape(4, 1, 2, 2)
    generator = torch.Generator().manual_seed(4)
    null, cond = 5 * torch.randn(2, 4, 1, 2, 2, generator=generator, dtype=torch.float64)
    nothing = torch.zeros_like(one)
    for s in (-2.0, 0.0, 0.25, 1.0, 1.5, 4.0, 11.0, 40.0):
        told = formula(nothing, one, s)
        untold = formula(one, nothing, s)
        if not torch.allclose(told, s * one) or not torch.allclose(untold, (1 - s) * one):
            return False
        if not torch.allclose(formula(null, cond, s), s * cond + (1 - s) * null):
            return False
    return True
""",
        """
def referee_guidance(formula):
    # On plain numbers and on a few vectors.
    for s in (-1, 0, 0.3, 1, 2.5, 7, 30.0):
        for null, cond in ((2.0, 5.0), (-3.0, 8.5), (7.0, -9.0)):
            if not math.isclose(formula(null, cond, s), null + s * (cond - null), abs_tol=1e-3):
                return False
        null = torch.tensor([[1.0, -2.0, 3.0], [9.0, 0.5, -4.0]], dtype=torch.float64)
        cond = torch.tensor([[6.0, 7.0, -8.0], [0.0, 3.5, 1.0]], dtype=torch.float64)
        if not torch.allclose(formula(null, cond, s), null + s * (cond - null)):
            return False
    return True
""",
    ],
    "guided_mean": [
        """
def guided_mean():
    x = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    torch.sigmoid(4 * x).log().backward()
    return (x + 3 * 0.04 * x.grad).item()
""",
        """
def guided_mean():
    # By the densities of both classes, and a small step.
    def log_p(x):
        ours, theirs = math.exp(-((x - 1) ** 2)), math.exp(-((x + 1) ** 2))
        return math.log(ours / (ours + theirs))

    slope = (log_p(0.3 + 1e-5) - log_p(0.3 - 1e-5)) / 2e-5
    return round(0.3 + 0.2**2 * 3 * slope, 3)
""",
    ],
}
