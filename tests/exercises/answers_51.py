"""Notebook 51: mistakes that students make, and right answers written differently."""

_PADDED = "F.pad(x, (0, 1, 0, 1))"
_HALVED = f"F.conv2d({_PADDED}, weight, bias, stride=2)"
_PAD = "(0, 1, 0, 1)"
_POOLED = "F.conv2d(x, weight, bias, padding=1)"

_SPLIT = "moments.chunk(2, dim=1)"
_CLAMPED = "    logvar = logvar.clamp(-30, 20)\n"
_SHAPE = "torch.randn(mean.shape, "
_NOISE = "torch.randn(mean.shape, generator=generator, dtype=mean.dtype)"
_STD = "(0.5 * logvar).exp()"
_Z = f"mean + {_STD} * noise"
_KL = "0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum((1, 2, 3))"
_TERMS = "(mean.square() + logvar.exp() - 1 - logvar)"
_SUM = ".sum((1, 2, 3))"
_BOTH = "return z, kl"
_ENDS = "(-30, 20)"

_SCALE = "1 / z.std()"
_ANY = " "  # so near the right number that by chance another mistake may be named


def _seeded(text):
    return f"generator.manual_seed(0)\n    noise = {text}"


MUTANTS = {
    "halve": [
        (
            _HALVED,
            "F.conv2d(x, weight, bias, stride=2, padding=1)",
            "there are zeros above and to the left",
        ),
        (_PAD, "(1, 1, 1, 1)", "there are zeros above and to the left"),
        (_PAD, "(1, 0, 1, 0)", "there are zeros above and to the left"),
        (_PAD, "(0, 1, 1, 0)", "there is a row of zeros above"),
        (_PAD, "(1, 0, 0, 1)", "there is a column of zeros to the left"),
        (_PAD, "(0, 1, 1, 1)", "there is a row of zeros above"),
        (_PAD, "(1, 1, 0, 1)", "there is a column of zeros to the left"),
        (_PAD, "(0, 0, 0, 1)", "the column to the right is missing"),
        (_PAD, "(0, 1)", "the row below is missing"),
        (_PAD, "(0, 1, 0, 0)", "the row below is missing"),
        (_PADDED, "x", "nothing is padded"),
        (_PAD, "(0, 0, 0, 2)", "the column to the right is missing"),
        (
            _PADDED,
            "F.pad(F.pad(x, (0, 0, 0, 1)), (0, 0, 0, 1))",
            "the column to the right is missing",
        ),
        (_PAD, "(0, 2, 0, 0)", "the row below is missing"),
        ("stride=2", "stride=2, padding=1", "it is padded twice"),
        (_PAD, "(0, 0, 0, 1, 0, 1)", "channels and rows are padded"),
        (_PAD, f'{_PAD}, mode="reflect"', "the edge is mirrored"),
        (_PAD, f'{_PAD}, mode="replicate"', "the edge is repeated"),
        (_PAD, f'{_PAD}, mode="circular"', "the picture goes on at its other side"),
        (_PAD, f"{_PAD}, value=1.0", "it is padded with ones"),
        (_PAD, f"{_PAD}, value=float(x.mean())", "expected"),
        ("stride=2", "stride=1", "the stride is 1"),
        (", stride=2", "", "the stride is 1"),
        (_HALVED, _POOLED, "the stride is 1, with zeros on all four sides"),
        (_HALVED, f"{_POOLED}[..., ::2, ::2]", "there are zeros above and to the left"),
        (
            _HALVED,
            "F.conv2d(F.pad(x, (0, 2, 0, 2)), weight, bias)[..., 1::2, 1::2]",
            "the first row and the first column are skipped",
        ),
        (
            _HALVED,
            "F.conv2d(F.pad(x, (0, 2, 0, 1)), weight, bias)[..., ::2, 1::2]",
            "the first column is skipped",
        ),
        (
            _PADDED,
            "F.pad(x[:, :, 1:], (0, 1, 0, 2))",
            "the first row is skipped",
        ),
        (
            _PADDED,
            "F.pad(x[:, :, 1:], (0, 1, 0, 1))",
            "the first row is dropped",
        ),
        (
            _HALVED,
            f"F.conv2d({_PADDED}, weight, bias)[..., 1::2, 1::2]",
            "one window of each row and column is lost",
        ),
        ("stride=2", "stride=(2, 1)", "only the rows are halved"),
        ("stride=2", "stride=(1, 2)", "only the columns are halved"),
        ("F.conv2d", "F.conv_transpose2d", "it raises"),
        ("stride=2", "dilation=2", "the kernel is spread out"),
        (
            _HALVED,
            "F.conv2d(F.pad(x, (0, 3, 0, 3)), weight, bias, stride=2, dilation=2)",
            "the kernel is spread out",
        ),
        ("weight, bias", "weight.flip(2, 3), bias", "the kernel is turned round"),
        ("weight, bias", "weight.flip(-2), bias", "the kernel is upside down"),
        ("weight, bias", "weight.flip(-1), bias", "the kernel is mirrored"),
        ("weight, bias", "weight.mT, bias", "the kernel's rows and columns are swapped"),
        ("weight, bias", "weight.transpose(0, 1), bias", "the kernel's channels are swapped"),
        ("weight, bias", "weight / 9, bias", "do not divide by 9"),
        ("weight, bias", "weight[:, :, 1:2, 1:2], bias", "expected shape"),
        (
            _HALVED,
            "F.conv2d(x, weight[:, :, 1:2, 1:2], bias, stride=2)",
            "only the middle of the kernel is used",
        ),
        (_PADDED, "F.pad(x.mT, (0, 1, 0, 1))", "rows and columns of the picture are swapped"),
        (_HALVED, f"{_HALVED}.mT", "rows and columns of the result are swapped"),
        ("weight, bias", "weight", "the bias is missing"),
        (_HALVED, f"{_HALVED} + bias[:, None, None]", "the bias is added twice"),
        ("weight, bias", "weight, -bias", "the bias is subtracted"),
        (
            _HALVED,
            f"F.conv2d({_PADDED}, weight, stride=2) + bias",
            "the bias goes along the width",
        ),
        (_PADDED, "F.pad(x, (0, 1, 0, 1)) + bias[0]", "expected"),
        (
            _HALVED,
            "F.conv2d(x[:, :, ::2, ::2], weight, bias, padding=1)",
            "every second pixel is taken before the convolution",
        ),
        (
            _HALVED,
            "F.conv2d(F.avg_pool2d(x, 2), weight, bias, padding=1)",
            "pixels are averaged before the convolution",
        ),
        (
            _HALVED,
            "F.conv2d(F.interpolate(x, None, 0.5, 'bilinear'), weight, bias, padding=1)",
            "pixels are averaged before the convolution",
        ),
        (_HALVED, f"F.avg_pool2d({_POOLED}, 2)", "results are averaged in twos"),
        (_HALVED, f"F.max_pool2d({_POOLED}, 2)", "the largest of four results"),
        (_HALVED, "F.avg_pool2d(x, 2)", "these are means of four pixels"),
        (_HALVED, "F.max_pool2d(x, 2)", "this is the largest of four pixels"),
        ("return F", "F", "None: is the return missing?"),
        (_HALVED, f"{_HALVED}.detach()", "no gradient reaches x or weight or bias"),
        ("weight, bias", "weight.data, bias", "no gradient reaches weight"),
        ("weight, bias", "weight, bias.data", "no gradient reaches bias"),
        ("F.pad(x,", "F.pad(x.detach(),", "no gradient reaches x"),
        (_HALVED, f"{_HALVED}.float()", "expected dtype torch.float64"),
        (_HALVED, f"{_HALVED}.double()", "expected dtype torch.float32"),
        (
            _HALVED,
            _HALVED.replace("weight, bias", "weight.float(), bias.float()")
            .replace("pad(x", "pad(x.float()")
            .replace("stride=2)", "stride=2).to(x.dtype)"),
            "computed in float32 on the way",
        ),
        (_PADDED, "F.pad(x.mul_(1.0).add_(1), (0, 1, 0, 1))", "expected"),
        (_HALVED, f"(out := {_HALVED}, x.zero_())[0]", "it changes its input in place"),
        (_HALVED, f"(out := {_HALVED}, weight.zero_())[0]", "it changes its input in place"),
        (_PADDED, "F.pad(x.clamp(-5, 5), (0, 1, 0, 1))", "expected"),
        (
            _HALVED,
            f"{_HALVED} if len(x) > 1 else {_POOLED}[..., ::2, ::2]",
            "above and to the left",
        ),
        (
            _HALVED,
            f"{_HALVED} if x.shape[2] % 4 == 0 == x.shape[3] % 4 else {_POOLED}[..., ::2, ::2]",
            "above and to the left",
        ),
        (
            "return ",
            """h, w = x.shape[2:]
    x = F.pad(x, (0, max(h, w) - w, 0, max(h, w) - h))
    return """,
            "expected shape",
        ),
        ("    return", "    x = x - x.mean()\n    return", "expected"),
        (_HALVED, f"F.silu({_HALVED})", "expected"),
    ],
    "sample_latent": [
        (_SPLIT, "moments.chunk(2, dim=1)[::-1]", "the halves are swapped"),
        ("mean, logvar = ", "logvar, mean = ", "the halves are swapped"),
        (_SPLIT, "moments[:, ::2], moments[:, 1::2]", "the channels are dealt out in turn"),
        (_SPLIT, "moments[:, 1::2], moments[:, ::2]", "dealt out in turn, and swapped"),
        (
            _SPLIT,
            "moments.unflatten(1, (-1, 2)).unbind(2)",
            "the channels are dealt out in turn: the first half is the mean",
        ),
        (_SPLIT, "moments.chunk(2)", "the batch is cut in two"),
        (_SPLIT, "moments.chunk(2, dim=2)", "the rows are cut in two"),
        (_SPLIT, "moments.chunk(2, dim=-1)", "the columns are cut in two"),
        (_SPLIT, "moments, moments", "the moments are not cut"),
        (_SPLIT, "(moments.chunk(2, dim=1)[0],) * 2", "the mean is used as log-variance, too"),
        (_SPLIT, "(moments.chunk(2, dim=1)[1],) * 2", "the log-variance is used as mean, too"),
        (_SPLIT, "moments[:, :4], moments[:, 4:]", "it raises"),
        (
            _CLAMPED,
            "",
            "in z, the logarithm of the variance is not clamped: clamp it to [-30, 20]",
        ),
        ("    logvar = logvar.clamp", "    logvar.clamp", "in z, the logarithm of the variance is"),
        (_STD, "(0.5 * moments.chunk(2, dim=1)[1]).exp()", "in z, the logarithm of the variance"),
        (
            _KL,
            f"0.5 * {_TERMS.replace('logvar', 'raw')}{_SUM}".replace(
                "raw", "moments[:, mean.shape[1] :]"
            ),
            "in KL, the logarithm of the variance is not clamped",
        ),
        (_ENDS, "(max=20)", "has no lower end"),
        (_ENDS, "(-30)", "has no upper end"),
        (_ENDS, "(-20, 30)", "the ends of the log-variance are swapped in size"),
        (_ENDS, "(-20, 20)", "clamped to [-20, 20]"),
        (_ENDS, "(-30, 30)", "clamped to [-30, 30]"),
        (_ENDS, "(20, -30)", "expected"),
        ("logvar.clamp(-30, 20)", "2 * (logvar / 2).clamp(-30, 20)", "of the standard deviation"),
        ("logvar.clamp(-30, 20)", "logvar.exp().clamp(-30, 20).log()", "the variance is clamped"),
        (
            "logvar.clamp(-30, 20)",
            "2 * (logvar / 2).exp().clamp(-30, 20).log()",
            "the standard deviation is clamped",
        ),
        (_SPLIT, "moments.clamp(-30, 20).chunk(2, dim=1)", "the mean is clamped, too"),
        ("logvar.clamp(-30, 20)", "logvar.clamp_(-30, 20)", "it changes its input in place"),
        (_Z, "mean", "the noise is missing"),
        (_Z, f"{_STD} * noise", "the mean is missing"),
        (_Z, "mean + noise", "the noise is not scaled"),
        (_Z, "noise", "this is the noise alone"),
        (_STD, "logvar.exp()", "this is exp(logvar), the variance"),
        (_STD, "logvar", "the noise is multiplied by the logarithm itself"),
        (_STD, "0.5 * logvar", "by half the logarithm itself"),
        (_STD, "0.5 * logvar.exp()", "this has 0.5 * exp(logvar)"),
        (_STD, "(2 * logvar).exp()", "this has exp(2 * logvar)"),
        (_STD, "(0.5 * logvar).exp().sqrt()", "the root is taken twice"),
        (_STD, "(-0.5 * logvar).exp()", "the sign of the log-variance is turned"),
        (_STD, "logvar.sqrt()", "it contains nan: a log-variance may be negative"),
        (_STD, "logvar.abs().sqrt()", "expected"),
        ("mean + (", "mean - (", "the noise is subtracted"),
        (_Z, f"mean + {_STD}", "the standard deviation is added without noise"),
        (_Z, f"mean * noise + {_STD}", "mean and standard deviation have changed places"),
        (_Z, f"(mean + {_STD}) * noise", "the sum is multiplied by the noise"),
        (f"{_STD} * noise", f"{_STD} + noise", "the noise is added, not multiplied"),
        (_SHAPE, "torch.randn(mean.shape[1:], ", "the noise is shared by the batch"),
        (_SHAPE, "torch.randn(mean[:, :1].shape, ", "the noise is shared by the channels"),
        (_SHAPE, "torch.randn(mean[..., :1, :1].shape, ", "shared by all places"),
        (_SHAPE, "torch.randn(mean.shape[2:], ", "shared by batch and channels"),
        (_SHAPE, "torch.randn(mean.shape[3:], ", "a column has one noise"),
        (_SHAPE, "torch.randn((), ", "one noise for everything"),
        ("torch.randn(", "torch.rand(", "the noise is uniform"),
        (", dtype=mean.dtype", "", "the noise is drawn in float32"),
        ("dtype=mean.dtype", "dtype=torch.float32", "the noise is drawn in float32"),
        ("dtype=mean.dtype)", "dtype=torch.float64).to(mean.dtype)", "drawn in float64"),
        (
            _NOISE,
            "torch.randn(moments.shape, generator=generator, dtype=mean.dtype).chunk(2, dim=1)[0]",
            "as much noise as moments is drawn",
        ),
        (
            _NOISE,
            f"torch.stack([{_NOISE.replace('mean.shape', 'm.shape')} for m in mean])",
            "the noise is drawn picture by picture",
        ),
        ("    noise =", f"    noise = {_NOISE}\n    noise =", "the second draw is used"),
        (
            "generator=generator",
            "generator=torch.Generator().manual_seed(generator.initial_seed())",
            "the generator is started anew from its seed",
        ),
        (
            "generator=generator",
            "generator=torch.Generator().set_state(generator.get_state())",
            "`generator` is left where it was",
        ),
        (
            "    return",
            "    generator.set_state(state)\n    return",
            "it raises NameError",
        ),
        ("generator=generator, ", "", "the noise is not that of `generator`"),
        (_NOISE, "torch.randn_like(mean)", "the noise is not that of `generator`"),
        (_NOISE, "torch.normal(mean, 1.0)", "the noise is not that of `generator`"),
        (
            "    noise = ",
            f"    noise = {_seeded('')}",
            "the noise is the same whatever the generator holds",
        ),
        (
            "generator=generator",
            "generator=torch.Generator().manual_seed(0)",
            "the noise is the same whatever the generator holds",
        ),
        (
            f"noise = {_NOISE}",
            "torch.manual_seed(0)\n    noise = torch.randn(mean.shape, dtype=mean.dtype)",
            "the noise is the same whatever the generator holds",
        ),
        (_BOTH, f"{_NOISE}\n    {_BOTH}", "is drawn from, or seeded, once more"),
        (_BOTH, f"torch.randn(1)\n    {_BOTH}", "torch's global generator is used or seeded"),
        (_BOTH, f"torch.manual_seed(0)\n    {_BOTH}", "torch's global generator is used or seeded"),
        (_BOTH, f"generator.manual_seed(0)\n    {_BOTH}", "is drawn from, or seeded, once more"),
        ("kl = 0.5", "kl = -0.5", "the sign is turned"),
        ("kl = 0.5 * ", "kl = ", "the factor 1/2 is missing"),
        (_SUM, ".mean((1, 2, 3))", "this is the mean over the numbers of a latent: a KL"),
        (_KL, f"{_TERMS}.mean((1, 2, 3))", "a latent, without the factor 1/2"),
        (_SUM, ".mean((2, 3)).sum(1)", "summed over the channels and averaged over the places"),
        (_SUM, ".sum((2, 3)).mean(1)", "averaged over the channels and summed over the places"),
        (_SUM, ".sum()", "this sums over the batch, too"),
        (_SUM, ".mean()", "this is the mean over everything"),
        (_SUM, f"{_SUM}.mean()", "this is averaged over the batch"),
        (_SUM, f"{_SUM} / len(mean)", "this is divided by the batch"),
        (_SUM, f"{_SUM}.mean().expand(len(mean))", "all pictures get the mean over the batch"),
        (_SUM, ".sum().expand(len(mean))", "all pictures get the sum over the batch"),
        (_SUM, "", "this is not summed"),
        (_SUM, ".sum(1)", "this is summed over the channels only"),
        (_SUM, ".sum((2, 3))", "this is summed over the places only"),
        (_SUM, ".sum(2)", "this is summed over the rows only"),
        (_SUM, ".sum(-1)", "this is summed over the columns only"),
        (_SUM, ".sum(0)", "this is summed over the batch only"),
        (_SUM, ".sum((0, 2, 3))", "one number per channel"),
        (_SUM, ".sum((1, 2, 3), keepdim=True)", "the sum keeps its axes"),
        (_KL, f"{_KL} / math.log(2)", "this is in bits"),
        (_TERMS, "(mean.square() + (2 * logvar).exp() - 1 - 2 * logvar)", "taken for the log of"),
        (_TERMS, "(mean.square() + (2 * logvar).exp() - 1 - logvar)", "this has exp(2 logvar)"),
        (
            _TERMS,
            f"(mean.square() + {_STD} - 1 - logvar)",
            "the standard deviation where the variance belongs",
        ),
        ("- 1 - logvar", "- 1 - 0.5 * logvar", "the log of the standard deviation where that of"),
        ("logvar.exp() - 1", "logvar - 1", "the variance is missing its exp"),
        ("- 1 - logvar", "- 1 - logvar.log()", "it contains nan: a log-variance may be negative"),
        (
            _TERMS,
            "(mean.square() / logvar.exp() + (-logvar).exp() - 1 + logvar)",
            "the KL divergence of the other direction",
        ),
        ("- 1 - logvar", "- 1 + logvar", "the sign of logvar is turned"),
        ("- 1 - logvar", "- 1", "the log-variance is missing at the end"),
        ("+ logvar.exp() - 1", "- 1", "the variance is missing"),
        ("- 1 - logvar", "- logvar", "the -1 is missing"),
        ("- 1 - logvar", "+ 1 - logvar", "this is +1 where -1 belongs"),
        (
            _KL,
            f"0.5 * ((mean.square() + logvar.exp() - logvar){_SUM} - 1)",
            "the -1 belongs inside the sum",
        ),
        ("mean.square() + ", "", "the square of the mean is missing"),
        ("mean.square()", "mean", "the mean is not squared"),
        ("mean.square()", "mean.abs()", "|mean| stands where its square belongs"),
        ("mean.square()", "-mean.square()", "the square of the mean is subtracted"),
        (
            _KL,
            f"(0.5 * mean.square() + logvar.exp() - 1 - logvar){_SUM}",
            "the 1/2 is on the first term only",
        ),
        ("mean.square()", "z.square()", "the KL divergence is made of z"),
        (
            _KL,
            f"0.5 * (z.square() - noise.square() - logvar){_SUM}",
            "this is log q(z) - log p(z) of one draw",
        ),
        (_KL, f"({_KL}).clamp(max=1e4)", "expected"),
        (_BOTH, "return kl, z", "the two are returned in the other order"),
        (_BOTH, "return z, z", "z is returned twice"),
        (_BOTH, "return z", "it returns one tensor: return both"),
        (_BOTH, "return z, kl, mean", "got 3 things"),
        (_BOTH, "return {'z': z, 'kl': kl}", "expected two tensors, z and kl, got dict"),
        ("    return z, kl", "", "None: is the return missing?"),
        (_BOTH, "return z, None", "expected a torch tensor"),
        (_BOTH, "return z, kl.tolist()", "expected a torch tensor"),
        (_BOTH, "return z.float(), kl", "expected dtype torch.float64"),
        (_BOTH, "return z, kl.float()", "expected dtype torch.float64"),
        (_BOTH, "return z, kl.double()", "expected dtype torch.float32"),
        (
            _SPLIT,
            "moments.float().chunk(2, dim=1)",
            "expected",
        ),
        (
            "kl = 0.5 * (mean.square()",
            "kl = 0.5 * (mean.float().square().to(mean.dtype)",
            "computed in float32 on the way",
        ),
        (_BOTH, "return z.detach(), kl", "of z: no gradient reaches the mean or the log-variance"),
        (_BOTH, "return z, kl.detach()", "of the KL divergence: no gradient reaches the mean"),
        (_STD, "(0.5 * logvar).exp().detach()", "of z: no gradient reaches the log-variance"),
        (_STD, "(0.5 * logvar.detach()).exp()", "of z: no gradient reaches the log-variance"),
        ("mean + (", "mean.detach() + (", "of z: no gradient reaches the mean"),
        (_Z, f"torch.normal(mean, {_STD}, generator=generator)", "the second draw is used"),
        (
            f"noise = {_NOISE}\n    z = {_Z}",
            f"z = torch.normal(mean, {_STD}, generator=generator)",
            "of z: no gradient reaches the mean or the log-variance",
        ),
        (
            "logvar.clamp(-30, 20)",
            "logvar + (logvar.clamp(-30, 20) - logvar).detach()",
            "the gradient by the log-variance is wrong",
        ),
        (_Z, f"{_Z} if len(mean) > 1 else mean", "the noise is missing"),
        (_Z, f"{_Z} if mean[0, 0].numel() > 1 else mean", "the noise is missing"),
        (_KL, f"{_KL} * (2 if mean.shape[1] == 4 else 1)", "1/2 is missing"),
    ],
    "scale_factor": [
        (_SCALE, "z.std()", "it is turned round"),
        (_SCALE, "z.var()", "this is the variance: one over its root"),
        ("z.std()", "z.var()", "the root is forgotten"),
        ("z.std()", "z.std().sqrt()", "the root is taken twice"),
        ("z.std()", "z.var() ** 0.25", "the root is taken twice"),
        (_SCALE, "z.std().sqrt()", "this is the root of the standard deviation"),
        (_SCALE, "-1 / z.std()", "the sign is turned"),
        ("z.std()", "z.square().mean().sqrt()", "this is about 0"),
        (_SCALE, "z.square().mean().sqrt()", "this is about 0, and it is turned round"),
        ("z.std()", "z.square().mean()", "this is one over the mean square"),
        ("z.std()", "z.abs().mean()", "the mean absolute value"),
        ("z.std()", "(z - z.mean()).abs().mean()", "the mean distance from the mean"),
        ("z.std()", "z.abs().std()", "this is about the absolute values"),
        ("z.std()", "z.abs().max()", "the largest absolute value"),
        ("z.std()", "z.max()", "this is one over the largest"),
        ("z.std()", "(z.max() - z.min())", "this is one over the range"),
        ("z.std()", "z.mean()", "this is one over the mean"),
        ("z.std()", "z.norm()", "this is one over the norm"),
        ("z.std()", "(z.std() + 1e-8)", "1e-08 is added, as against a division by 0"),
        ("z.std()", "(z.std(correction=0) + 1e-6)", "1e-06 is added, as against"),
        ("z.std()", "(z - z.mean()).norm()", "the root of the summed squares about the mean"),
        (_SCALE, "0.18215", "this is Stable Diffusion's own number"),
        (_SCALE, "torch.tensor(0.18215)", "this is Stable Diffusion's own number"),
        (_SCALE, "1 / 0.18215", "this is one over Stable Diffusion's own number"),
        ("z.std()", "z[0].std()", "only the first picture is measured"),
        ("z.std()", "z[-1].std()", "only the last picture is measured"),
        ("z.std()", "z[:, 0].std()", "only the first channel is measured"),
        ("z.std()", "z[:16].std()", _ANY),
        ("z.std()", "z[:, :4].std()", _ANY),
        ("z.std()", "z.std((0, 2, 3))", "each channel has its own: one number for all"),
        ("z.std()", "z.std((1, 2, 3))", "each picture has its own: one number for all"),
        ("z.std()", "z.std((0, 1))", "each place has its own: one number for all"),
        ("z.std()", "z.std((2, 3))", "each channel of each picture has its own"),
        ("z.std()", "z.std((0, 2, 3)).mean()", "each channel has its own, and these are averaged"),
        ("z.std()", "z.std((1, 2, 3)).mean()", "each picture has its own, and these are averaged"),
        ("z.std()", "z.std((0, 1)).mean()", "each place has its own, and these are averaged"),
        (
            _SCALE,
            "(1 / z.std((1, 2, 3))).mean()",
            "each picture has its own, and one over these is averaged",
        ),
        (
            _SCALE,
            "(1 / z.flatten(2).std(2)).mean()",
            "each channel of each picture has its own, and one over these is averaged",
        ),
        (
            "z.std()",
            "z.var((1, 2, 3)).mean().sqrt()",
            "each picture has its own, and their variances are averaged",
        ),
        (
            "z.std()",
            "z.var((0, 2, 3)).mean().sqrt()",
            "each channel has its own, and their variances are averaged",
        ),
        ("z.std()", "(z - z.mean((0, 2, 3), keepdim=True)).std()", "each channel has its own mean"),
        (
            "z.std()",
            "(z - z.mean(0)).std()",
            "each number of a latent, over the batch, has its own mean",
        ),
        (_SCALE, "z.std(unbiased=False)", "it is turned round"),
        (_SCALE, "z.numpy().std()", "it is turned round"),
        ("z.std()", "z.numpy().var()", "the root is forgotten"),
        ("z.std()", "z.numpy().std((0, 2, 3)).mean()", "each channel has its own, and these are"),
        ("z.std()", "z[:200].std()", _ANY),
        ("z.std()", "z.flatten()[:10000].std()", _ANY),
        ("z.std()", "z[::2].std()", _ANY),
        ("z.std()", "(z.std() + 1e-3)", _ANY),
        ("z.std()", "z.std().clamp(0.1, 10)", _ANY),
        ("z.std()", "z.clamp(-30, 30).std()", _ANY),
        ("z.std()", "z.median()", _ANY),
        (_SCALE, "round(1 / z.std().item(), 4)", _ANY),
        ("return", "z -= z.mean()\n    return", "it changes its input in place"),
        (_SCALE, "(1 / z.std()) * z", "expected one number, got a tensor"),
        ("return 1", "1", "expected one number, a float or a tensor, got None"),
        (_SCALE, "(1 / z.std()).reshape(1)", "expected one number, got a tensor of shape (1,)"),
        (_SCALE, "[1 / z.std().item()]", "expected one number"),
        (_SCALE, "str(1 / z.std().item())", "expected one number"),
        ("z.std()", "math.sqrt(z.var((1, 2, 3)))", "it raises"),
        (_SCALE, "int(1 / z.std())", "expected one number, a float or a tensor, got int"),
        (_SCALE, "1 / (z + torch.randn(z.shape)).std()", "two calls with the same inputs differ"),
    ],
    "count_latent": [
        ("return ", "return 98304  # ", "this is f = 4, or counts bytes"),
        ("return ", "return 6144  # ", "these are the places of the latent"),
        ("return ", "return 18432  # ", "this counts 3 channels"),
        ("return ", "return 49152  # ", "this counts mean and log-variance"),
        ("return ", "return 1179648  # ", "these are the numbers of the picture"),
        ("return ", "return 1572864  # ", "this has the picture's height and width"),
        ("return ", "return 393216  # ", "these are the pixels of the picture"),
        ("return ", "return 196608  # ", "only one side is divided by 8"),
        ("return ", "return 3072  # ", "this divides once more"),
        ("return ", "return 147456  # ", "are divided by 8 once"),
        ("return ", "return 1536  # ", "this is f = 32"),
        ("return ", "return 16384  # ", "a square of 512 pixels"),
        ("return ", "return 36864  # ", "a square of 768 pixels"),
        ("return ", "return 48  # ", "how many times fewer"),
        ("return ", "return 1966080  # ", "the 320 channels inside the U-Net"),
        ("return ", "return 3145728  # ", "the 512 channels inside the autoencoder"),
        ("return ", "return 12288  # ", "this counts two channels"),
        ("return ", "return 24577  # ", "24577 is not it: too large"),
        ("return ", "return 24575.99  # ", "24575.99 is not it: too small"),
        ("return ", "return (4, 64, 96)  # ", "expected a plain number"),
        ("return ", "return '24576'  # ", "expected a plain number"),
        ("return ", "return None  # ", "None: is the return missing?"),
    ],
}

ALTERNATIVES = {
    "halve": [
        """
def halve(x, weight, bias):
    # All windows with zeros on all sides, then every second from the second.
    out = torch.nn.functional.conv2d(x, weight, padding=1)
    return out[:, :, 1::2, 1::2] + bias.reshape(1, -1, 1, 1)
""",
        """
def halve(x, weight, bias):
    # Nine shifted pictures, one for each number of the kernel.
    b, _, h, w = x.shape
    below = torch.cat([x, x.new_zeros(b, x.shape[1], 1, w)], dim=2)
    padded = torch.cat([below, x.new_zeros(b, x.shape[1], h + 1, 1)], dim=3)
    out = 0
    for i in range(3):
        for j in range(3):
            seen = padded[:, :, i : i + h - 1 : 2, j : j + w - 1 : 2]
            out = out + torch.einsum("bchw,oc->bohw", seen, weight[:, :, i, j])
    return out + bias[:, None, None]
""",
        """
def halve(x, weight, bias):
    from einops import rearrange

    padded = torch.zeros(*x.shape[:2], x.shape[2] + 1, x.shape[3] + 1, dtype=x.dtype)
    padded[:, :, :-1, :-1] = x
    windows = padded.unfold(2, 3, 2).unfold(3, 3, 2)
    windows = rearrange(windows, "b c h w i j -> b h w (c i j)")
    return (windows @ weight.flatten(1).T + bias).permute(0, 3, 1, 2)
""",
    ],
    "sample_latent": [
        """
def sample_latent(moments, generator):
    channels = moments.shape[1] // 2
    mean, logvar = moments[:, :channels], moments[:, channels:]
    std = torch.exp(torch.clamp(logvar, min=-30.0, max=20.0) / 2)
    q = torch.distributions.Normal(mean, std)
    kl = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0))
    noise = torch.empty(mean.shape, dtype=mean.dtype).normal_(generator=generator)
    return torch.addcmul(mean, std, noise), kl.flatten(1).sum(-1)
""",
        """
def sample_latent(moments, generator):
    from einops import rearrange, reduce

    mean, logvar = rearrange(moments, "b (two c) h w -> two b c h w", two=2)
    logvar = torch.where(logvar < -30, -30, torch.where(logvar > 20, 20, logvar))
    variance = logvar.exp()
    noise = torch.normal(0.0, 1.0, mean.shape, generator=generator, dtype=mean.dtype)
    z = mean + variance.sqrt() * noise
    nats = (mean * mean + variance) / 2 - logvar / 2 - 0.5
    return [z, reduce(nats, "b c h w -> b", "sum")]
""",
    ],
    "scale_factor": [
        """
def scale_factor(z):
    import numpy as np

    return 1 / np.std(z.numpy())
""",
        """
def scale_factor(z):
    n = z.numel()
    centred = z - sum(z.flatten().tolist()) / n
    return (centred.pow(2).sum().item() / n) ** -0.5
""",
        """
def scale_factor(z):
    return z.flatten().var(unbiased=False).rsqrt()
""",
    ],
    "count_latent": [
        """
def count_latent():
    f = 2 ** (4 - 1)
    return 4 * (512 / f) * (768 / f)
""",
        """
def count_latent():
    return torch.zeros(1, 3, 512, 768)[:, :1, ::8, ::8].numel() * 4
""",
    ],
}
