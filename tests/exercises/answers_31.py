"""Notebook 31: mistakes as patches of the solutions, and right answers written differently."""

MUTANTS = {
    "conv2d": [
        ("weight.flatten(1)", "weight.flip(2, 3).flatten(1)", "the kernel is flipped"),
        (
            "padded.unfold(2, kh, sh).unfold(3, kw, sw)",
            "padded.unfold(2, kw, sh).unfold(3, kh, sw).transpose(4, 5)",
            "height and width of the kernel are swapped",
        ),
        (
            "(kh, kw), (sh, sw), (ph, pw) = weight.shape[2:], stride, padding",
            (
                "(kh, kw), (sh, sw), (ph, pw) = weight.shape[:1:-1], stride, padding\n"
                "    weight = weight.transpose(2, 3)"
            ),
            "height and width of the kernel are swapped",
        ),
        ("(sh, sw), (ph, pw) =", "(sw, sh), (ph, pw) =", "the stride is swapped"),
        ("(pw, pw, ph, ph)", "(ph, ph, pw, pw)", "the padding is swapped"),
        ("(sh, sw), (ph, pw) =", "(sw, sh), (pw, ph) =", "stride and padding are both swapped"),
        ("torch.nn.functional.pad(x, (pw, pw, ph, ph))", "x", "the padding is forgotten"),
        ("(pw, pw, ph, ph)", "(pw, 0, ph, 0)", "on one side only, top and left"),
        ("(pw, pw, ph, ph)", "(0, pw, 0, ph)", "on one side only, bottom and right"),
        ("(pw, pw, ph, ph)", "(pw, pw, pw, pw)", "only the second padding is used"),
        (
            "torch.nn.functional.pad(x, (pw, pw, ph, ph))",
            'torch.nn.functional.pad(x, (pw, pw, ph, ph), "replicate")',
            "continued by its edge pixels",
        ),
        (
            "torch.nn.functional.pad(x, (pw, pw, ph, ph))",
            'torch.nn.functional.pad(x, (pw, pw, ph, ph), "circular")',
            "wrapped around",
        ),
        (
            "unfold(2, kh, sh).unfold(3, kw, sw)",
            "unfold(2, kh, 1).unfold(3, kw, 1)",
            "the stride is f",
        ),
        (" + bias", "", "the bias is forgotten"),
        (" + bias", " + bias * x.shape[1]", "the bias is added once for each channel"),
        (" + bias", " - bias", "the bias is subtracted"),
        (
            "rows @ weight.flatten(1).T + bias",
            "rows @ weight.flatten(1).T / x.shape[1] + bias",
            "this is the mean over the channels",
        ),
        (
            "rows = windows.permute",
            "windows, weight = windows[:, :1], weight[:, :1]\n    rows = windows.permute",
            "this uses the first channel only",
        ),
        (
            "y.permute(0, 3, 1, 2)",
            "y.permute(0, 3, 1, 2)[:, :, :-1, :-1]",
            "the last row and column are missing",
        ),
        ("y.permute(0, 3, 1, 2)", "y.permute(0, 3, 2, 1)", "height and width of the result"),
        (
            "padded = torch.nn.functional.pad(x",
            "x = x[:1].expand_as(x)\n    padded = torch.nn.functional.pad(x",
            "what the first gives",
        ),
        (
            "torch.nn.functional.pad(x, (pw, pw, ph, ph))",
            "torch.nn.functional.pad(x, (pw, pw + sw, ph, ph + sh))[:, :, sh:, sw:]",
            "as printed, with i counted from 1",
        ),
        (
            "y.permute(0, 3, 1, 2)",
            "torch.nn.functional.conv2d(x, weight, bias, stride, padding)",
            "it calls torch's own convolution",
        ),
        (
            "y.permute(0, 3, 1, 2)",
            "torch.conv2d(padded, weight, bias, stride)",
            "it calls torch's own convolution",
        ),
        ("y.permute(0, 3, 1, 2)", "y.permute(0, 3, 1, 2).float()", "expected dtype torch.float64"),
        ("padded = torch", "x *= 1.5\n    padded = torch", "expected"),
    ],
    "referee_indices": [
        ("(9, 3, 1, 1), (10, 4, 2, 1), (11, 2, 3, 0), (8, 5, 2, 3), ", "", "the padding added"),
        ("(10, 4, 2, 1), (11, 2, 3, 0), (8, 5, 2, 3), ", "", "try a stride above 1"),
        ("(10, 4, 2, 1), (11, 2,", "(10, 3, 2, 1), (11, 3,", "an error in even kernels only"),
        ("got.shape != want.shape or not", "not", "it raises RuntimeError"),
        ("not torch.allclose(got, want)", "not torch.allclose(got, want, rtol=0.05)", "tolerance"),
        ("not torch.allclose(got, want)", "not torch.equal(got, want)", "the test is too strict"),
        (
            "weight[None, None], None",
            "weight.flip(0)[None, None], None",
            "it rejects the right",
        ),
        ("stride, padding)[0, 0]", "stride, 0)[0, 0]", "it rejects the right formula"),
        ("or not torch.allclose(got, want)", "", "accepts a formula with"),
        ("torch.randn(k, generator=generator, dtype=torch.float64)", "x.new_ones(k)", "flipped"),
    ],
    "group_norm": [
        (
            "(grouped - mean).square().mean(-1, keepdim=True)",
            "grouped.square().mean(-1, keepdim=True) - mean.square()",
            "subtract the mean first",
        ),
        (".square().mean(-1, keepdim=True)", ".square().sum(-1, keepdim=True)", "expected"),
        (
            "(grouped - mean).square().mean(-1, keepdim=True)",
            "grouped.var(-1, keepdim=True)",
            "the variance is the unbiased one",
        ),
        (
            "torch.sqrt(variance + eps)",
            "(torch.sqrt(variance) + eps)",
            "eps is added to the standard deviation",
        ),
        ("torch.sqrt(variance + eps)", "torch.sqrt(variance) + eps", "eps is added outside"),
        ("variance + eps)", "variance)", "eps is not used"),
        ("torch.sqrt(variance + eps)", "(variance + eps)", "this divides by the variance"),
        (
            "torch.sqrt(variance + eps)",
            "torch.sqrt(torch.sqrt(variance) + eps)",
            "the root of a standard deviation",
        ),
        ("(grouped - mean) /", "grouped /", "the mean is not subtracted"),
        ("(grouped - mean) / torch.sqrt(variance + eps)", "(grouped - mean)", "only subtracts"),
        (
            (
                "grouped = x.reshape(len(x), groups, -1)  # (B, G, C/G H W)\n"
                "    mean = grouped.mean(-1, keepdim=True)\n"
                "    variance = (grouped - mean).square().mean(-1, keepdim=True)"
            ),
            (
                "grouped = x.reshape(len(x), -1, groups, *x.shape[2:])\n"
                "    mean = grouped.mean((1, 3, 4), keepdim=True)\n"
                "    variance = (grouped - mean).square().mean((1, 3, 4), keepdim=True)"
            ),
            "the groups are strided",
        ),
        (
            (
                "mean = grouped.mean(-1, keepdim=True)\n"
                "    variance = (grouped - mean).square().mean(-1, keepdim=True)"
            ),
            (
                "mean = grouped.mean((0, 2), keepdim=True)\n"
                "    variance = (grouped - mean).square().mean((0, 2), keepdim=True)"
            ),
            "the statistics are over the batch too",
        ),
        (
            (
                "grouped = x.reshape(len(x), groups, -1)  # (B, G, C/G H W)\n"
                "    mean = grouped.mean(-1, keepdim=True)\n"
                "    variance = (grouped - mean).square().mean(-1, keepdim=True)"
            ),
            (
                "grouped = x.reshape(len(x), groups, -1, *x.shape[2:])\n"
                "    mean = grouped.mean(2, keepdim=True)\n"
                "    variance = (grouped - mean).square().mean(2, keepdim=True)"
            ),
            "the statistics are per pixel",
        ),
        ("x.reshape(len(x), groups, -1)", "x.reshape(*x.shape[:2], -1)", "this is instance norm"),
        ("x.reshape(len(x), groups, -1)", "x.reshape(len(x), 1, -1)", "this is layer norm"),
        (
            "x.reshape(len(x), groups, -1)",
            "x.reshape(len(x), x.shape[1] // groups, -1)",
            "groups is taken for the channels",
        ),
        (
            "weight[:, None, None] + bias[:, None, None]",
            (
                "weight[:groups].repeat_interleave(x.shape[1] // groups)[:, None, None]"
                " + bias[:groups].repeat_interleave(x.shape[1] // groups)[:, None, None]"
            ),
            "weight and bias are per group",
        ),
        ("y * weight[:, None, None] + bias[:, None, None]", "y", "weight and bias are not used"),
        ("y * weight[:, None, None] +", "y +", "the weight is not used"),
        (" + bias[:, None, None]", "", "the bias is not used"),
        (
            "y * weight[:, None, None] + bias[:, None, None]",
            "(y + bias[:, None, None]) * weight[:, None, None]",
            "the bias is added before",
        ),
        ("y * weight[", "y * (1 + weight)[", "the weight multiplies as 1 + weight"),
        (
            "y * weight[:, None, None] + bias[:, None, None]",
            "torch.nn.functional.group_norm(x, groups, weight, bias, eps)",
            "it calls torch's own group_norm",
        ),
        (
            "y * weight[:, None, None] + bias[:, None, None]",
            (
                "torch.layer_norm(grouped, grouped.shape[2:], eps=eps).reshape(x.shape)"
                " * weight[:, None, None] + bias[:, None, None]"
            ),
            "it calls torch's own layer_norm",
        ),
    ],
}

ALTERNATIVES = {
    "conv2d": [
        """
from torch.nn import functional as F

def conv2d(x, weight, bias, stride, padding):
    # The definition: loops over the places of the output.
    (sh, sw), (ph, pw), (kh, kw) = stride, padding, weight.shape[2:]
    padded = torch.nn.functional.pad(x, (pw, pw, ph, ph))
    rows = (padded.shape[2] - kh) // sh + 1
    columns = (padded.shape[3] - kw) // sw + 1
    y = x.new_zeros(len(x), len(weight), rows, columns)
    for i in range(rows):
        for j in range(columns):
            window = padded[:, None, :, i * sh : i * sh + kh, j * sw : j * sw + kw]
            y[:, :, i, j] = (window * weight).sum((2, 3, 4)) + bias
    return y
""",
        """
from torch.nn import functional as F

def conv2d(x, weight, bias, stride, padding):
    columns = F.unfold(x, weight.shape[2:], padding=padding, stride=stride)
    y = torch.einsum("ok,bkn->bon", weight.flatten(1), columns) + bias[None, :, None]
    height = (x.shape[2] + 2 * padding[0] - weight.shape[2]) // stride[0] + 1
    return y.reshape(len(x), len(weight), height, -1)
""",
        """
from torch.nn import functional as F

def conv2d(x, weight, bias, stride, padding):
    # A slice for each tap.
    (sh, sw), (ph, pw), (kh, kw) = stride, padding, weight.shape[2:]
    padded = F.pad(x, (pw, pw, ph, ph))
    height = padded.shape[2] - kh + 1
    width = padded.shape[3] - kw + 1
    y = bias[None, :, None, None]
    for u in range(kh):
        for v in range(kw):
            seen = padded[:, :, u : u + height : sh, v : v + width : sw]
            y = y + torch.einsum("bcij,oc->boij", seen, weight[:, :, u, v])
    return y
""",
    ],
    "referee_indices": [
        """
def referee_indices(formula):
    generator = torch.Generator().manual_seed(11)
    for n in (6, 9):
        for k in (1, 2, 3, 4):
            for stride in (1, 2, 3):
                for padding in (0, 1, 2):
                    x, weight = torch.randn(2, n, generator=generator, dtype=torch.float64)
                    weight = weight[:k]
                    padded = torch.cat([x.new_zeros(padding), x, x.new_zeros(padding)])
                    want = torch.stack([w @ weight for w in padded.unfold(0, k, stride)])
                    got = formula(x, weight, stride, padding)
                    if got.shape != want.shape or (got - want).abs().max() > 1e-8:
                        return False
    return True
""",
        """
def referee_indices(formula):
    # Linear in x: enough to know what each single pixel does.
    weight = torch.tensor([1.0, 10.0, 100.0, 1000.0], dtype=torch.float64)
    for k in (2, 3, 4):
        for stride in (1, 2, 3):
            for padding in (0, 1, 2):
                for n in (7, 8):
                    size = (n + 2 * padding - k) // stride + 1
                    for j in range(n):
                        x = torch.zeros(n, dtype=torch.float64)
                        x[j] = 1
                        got = formula(x, weight[:k], stride, padding)
                        if got.shape != (size,):
                            return False
                        for i in range(size):
                            u = j + padding - i * stride
                            want = float(weight[u]) if 0 <= u < k else 0.0
                            if abs(float(got[i]) - want) > 1e-6 * max(1.0, want):
                                return False
    return True
""",
    ],
    "group_norm": [
        """
def group_norm(x, groups, weight, bias, eps):
    parts = []
    for part in x.chunk(groups, dim=1):
        variance, mean = torch.var_mean(part, dim=(1, 2, 3), correction=0, keepdim=True)
        parts.append((part - mean) * torch.rsqrt(variance + eps))
    return torch.cat(parts, 1) * weight.view(1, -1, 1, 1) + bias.view(1, -1, 1, 1)
""",
        """
def group_norm(x, groups, weight, bias, eps):
    y = torch.empty_like(x)
    each = x.shape[1] // groups
    for b in range(x.shape[0]):
        for g in range(groups):
            part = x[b, g * each : (g + 1) * each]
            mean = part.sum() / part.numel()
            variance = ((part - mean) ** 2).sum() / part.numel()
            y[b, g * each : (g + 1) * each] = (part - mean) / (variance + eps) ** 0.5
    return torch.einsum("bchw,c->bchw", y, weight) + bias[None, :, None, None]
""",
    ],
}
