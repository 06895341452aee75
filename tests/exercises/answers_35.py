"""Notebook 35: mistakes that students make, and right answers written differently."""

_BEGIN = "layer.proj_in(layer.norm(x))"
_TOKENS = "h.flatten(2).transpose(1, 2)"
_BLOCK = f"block({_TOKENS})"
_PICTURE = "tokens.transpose(1, 2).reshape(batch, channels, height, width)"
_END = "return x + layer.proj_out(h)"
_MIDDLE = f"tokens = {_BLOCK}\n    h = {_PICTURE}"
_ALL = f"h = {_BEGIN}\n    {_MIDDLE}\n    {_END}"

_BY_COLUMNS = "h.transpose(2, 3).flatten(2).transpose(1, 2)"
_FROM_COLUMNS = "tokens.transpose(1, 2).unflatten(2, (width, height)).transpose(2, 3)"
_AS_ROWS = "h.reshape(batch, height * width, channels)"

_FIXED_CONV = (
    "torch.nn.functional.conv2d({given}, layer.{name}.weight.detach(), layer.{name}.bias, "
    "padding=layer.{name}.padding)"
)
_FIXED_NORM = (
    "torch.nn.functional.group_norm(x, layer.norm.num_groups, layer.norm.weight.detach(), "
    "layer.norm.bias.detach(), layer.norm.eps)"
)

_TOTAL = "return outside"

_PLACE = "divmod(n - 1, layers + 1)"
_PART = 'part = "downsamplers.0" if i == layers else f"resnets.{i}"'
_NAME = 'f"down_blocks.{level}.{part}"'
_FIRST = """    if n == 0:
        return "conv_in"
"""

_CLOSE = "not torch.allclose(block(x, context, look, read, torch.exp, norms), want)"
_NORMS = "[torch.tanh, lambda y: 2 * y + 1, lambda y: y / 3]"
_SIZES = "[(2, 5, 3, 4, 6), (3, 4, 7, 5, 2)]"
_READ = "torch.cos(y + (context.flatten(1) @ words).view(y.shape))"
_FEED = "want + torch.exp(norms[2](want))"


def _counted(difference):
    return (_TOTAL, f"return {difference} + outside")


MUTANTS = {
    "spatial_transformer": [
        (_PICTURE, _FROM_COLUMNS, "height and width are swapped on the way back"),
        (
            "channels, height, width)",
            "channels, width, height)",
            "height and width are swapped in the shape on the way back",
        ),
        (
            _MIDDLE,
            f"tokens = block({_BY_COLUMNS})\n    h = {_FROM_COLUMNS}",
            "the tokens go column by column",
        ),
        (_TOKENS, _BY_COLUMNS, "the tokens are made column by column"),
        (
            _MIDDLE,
            f"tokens = block({_AS_ROWS})\n    h = tokens.reshape(x.shape)",
            "channels and pixels are mixed: reshape",
        ),
        (_TOKENS, _AS_ROWS, "channels and pixels are mixed on the way in"),
        (_PICTURE, "tokens.reshape(x.shape)", "channels and pixels are mixed on the way back"),
        (_TOKENS, "h.flatten(2)", "the tokens come as (B, C, H*W)"),
        (_PICTURE, "tokens", "the tokens do not become a picture again"),
        (_PICTURE, "tokens.transpose(1, 2)", "the tokens end as (B, C, H*W)"),
        (_END, "return layer.proj_out(h)", "x is not added at the end"),
        (_END, "return layer.norm(x) + layer.proj_out(h)", "norm(x) is added at the end"),
        (_END, f"return {_BEGIN} + layer.proj_out(h)", "proj_in(norm(x)) is added at the end:"),
        (_END, f"return x + {_BEGIN} + layer.proj_out(h)", "is added at the end, too"),
        (_END, "return 2 * x + layer.proj_out(h)", "x is added twice"),
        (_END, "return layer.proj_out(x + h)", "x is added before proj_out"),
        (_END, f"return layer.proj_out({_BEGIN} + h)", "the residual is around the block alone"),
        (_END, f"return x + layer.proj_out({_BEGIN} + h)", "a residual around the block, too"),
        (_END, "return x - layer.proj_out(h)", "is subtracted from x"),
        (_END, "return layer.proj_out(h) - x", "x is subtracted"),
        (_END, "return (x + layer.proj_out(h)) / 2**0.5", "the sum is divided by the root of 2"),
        ("layer.norm(x)", "x", "the norm is forgotten"),
        (_BEGIN, "layer.norm(layer.proj_in(x))", "the norm comes after proj_in"),
        (_END, "return x + layer.proj_out(layer.norm(h))", "the norm is used once more"),
        (_END, "return layer.norm(x + layer.proj_out(h))", "once more behind the sum"),
        (
            _ALL,
            _ALL.replace("layer.norm(x)", "x").replace(
                _END, "return layer.norm(x + layer.proj_out(h))"
            ),
            "the norm comes last",
        ),
        (_BEGIN, "layer.norm(x)", "proj_in is forgotten"),
        (_END, "return x + h", "proj_out is forgotten"),
        (
            _ALL,
            _ALL.replace(_BEGIN, "layer.norm(x)").replace(_END, "return x + h"),
            "proj_in and proj_out are forgotten",
        ),
        (
            _ALL,
            _ALL.replace("proj_out", "proj_")
            .replace("proj_in", "proj_out")
            .replace("proj_(", "proj_in("),
            "proj_in and proj_out are swapped",
        ),
        ("layer.proj_out(", "layer.proj_in(", "proj_in is used twice"),
        ("layer.proj_in(", "layer.proj_out(", "proj_out is used twice"),
        (_BLOCK, _TOKENS, "the block is not called"),
        (_BLOCK, f"block({_BLOCK})", "the block is called twice, one after the other"),
        (_BLOCK, f"{_BLOCK}\n    block(tokens)", "the block is called 2 times"),
        (
            _BLOCK,
            f"torch.cat([block(one) for one in {_TOKENS}.split(1)])",
            "times: once, with the whole batch",
        ),
        (_BLOCK, f"{_BLOCK}[:1].expand(batch, -1, -1)", "every picture gets the answer of"),
        (_END, "return x.detach() + layer.proj_out(h)", "the gradient by x is wrong"),
        (_END, "return (x + layer.proj_out(h)).detach()", "no gradient reaches x"),
        (_TOKENS, f"{_TOKENS}.detach()", "no gradient reaches norm.weight or norm.bias"),
        (_END, "return x.add_(layer.proj_out(h))", "it changes its input in place"),
        (_END, "x + layer.proj_out(h)", "None: is the return missing?"),
        (_END, "return (x + layer.proj_out(h)).float()", "expected dtype torch.float64"),
        (
            _END,
            f"layer.norm.weight.data.fill_(1.0)\n    {_END}",
            "it changes the weights of a layer",
        ),
        (_END, f"if width == 1:\n        return x\n    {_END}", "expected"),
        (_END, f"if height == 1:\n        return x\n    {_END}", "expected"),
        *(
            (_END, f"if height == width {which} 5:\n        return x\n    {_END}", "expected")
            for which in "<>"
        ),
        *(
            (_END, f"if batch {which}:\n        h = h.detach()\n    {_END}", lost)
            for which, lost in (
                ("!= 2", "no gradient reaches norm.weight"),
                ("< 2", "no gradient reaches norm.weight"),
                ("> 3", "no gradient reaches norm.weight"),
            )
        ),
        (
            _END,
            f"if width == 1:\n        h = h.detach()\n    {_END}",
            "no gradient reaches norm.weight",
        ),
        *(
            (
                layer,
                _FIXED_CONV.format(given=given, name=name),
                f"no gradient reaches {name}.weight:",
            )
            for layer, given, name in (
                (_BEGIN, "layer.norm(x)", "proj_in"),
                ("layer.proj_out(h)", "h", "proj_out"),
            )
        ),
        (
            "layer.norm(x)",
            _FIXED_NORM,
            "no gradient reaches norm.weight or norm.bias:",
        ),
        *(
            (
                f"h = {_BEGIN}",
                f"layer.{name}.requires_grad_(False)\n    h = {_BEGIN}",
                "it sets requires_grad of the weights to False",
            )
            for name in ("norm", "proj_in", "proj_out")
        ),
        *(
            (
                _END,
                f"out = x + layer.proj_out(h)\n    layer.{name} = None\n    return out",
                f"it changes layer.{name}: only read it",
            )
            for name in ("norm", "proj_in", "proj_out")
        ),
        (f"h = {_BEGIN}", f"x.requires_grad_()\n    h = {_BEGIN}", "it sets requires_grad of x"),
    ],
    "count_transformer": [
        (*_counted("-1280 * 321"), "GEGLU's doubled width is forgotten"),
        (*_counted("1280 * 320"), "the second linear layer takes values and gates"),
        (*_counted("-2 * 448 * 320"), "taken to be made of 320 numbers: a word has 768"),
        (*_counted("448 * 320"), "to_q of the cross-attention is taken to be made of 768"),
        (*_counted("2 * 448 * 320"), "in the self-attention, too"),
        (*_counted("6 * 320"), "queries, keys and values have no bias"),
        (*_counted("3 * 320"), "queries, keys and values have no bias, in neither attention"),
        (*_counted("-4 * 320 - 2560 - 320"), "no layer has a bias here"),
        (*_counted("-2 * 320"), "a norm, or two biases, are missing"),
        (*_counted("-2560 - 320"), "the biases of the feed-forward are missing"),
        (*_counted("-8 * 320"), "all norms are missing"),
        (*_counted("-6 * 320"), "the three LayerNorms are missing"),
        (*_counted("-4 * 320"), "this counts one of the two"),
        (*_counted("2 * 32 - 2 * 320"), "not for each group"),
        (*_counted("-2 * 320 * 321"), "two layers from 320 to 320 are missing"),
        (*_counted("-2 * 320 * 321 - 2 * 320"), "this is the block alone"),
        (*_counted("-320 * 321"), "one of proj_in and proj_out is missing"),
        (*_counted("7 * (6 * 320 * 320 + 2 * 768 * 320)"), "the heads are multiplied in"),
        (*_counted("7 * (4 * 320 * 320 + 2 * 768 * 320)"), "counted once for each head"),
        (*_counted("7 * (409920 + 696640)"), "the attentions are counted once for each head"),
        (*_counted("-409920"), "the self-attention is missing"),
        (*_counted("-696640"), "the cross-attention is missing"),
        (*_counted("-2560 * 321 - 1280 * 320 - 320"), "the feed-forward is missing"),
        (*_counted("2 * 8 * 320 * 320"), "counted with 3 x 3 kernels"),
        (*_counted("1"), "is not it: too large"),
        (*_counted("-1"), "is not it: too small"),
        (*_counted("0.2"), "is not it: too large"),
        (*_counted("-0.001"), "is not it: too small"),
        ("2 * c + 2 *", "2 * 32 + 2 *", "not for each group"),
        ("8 * c + 8 * c", "4 * c + 4 * c", "GEGLU's doubled width is forgotten"),
        ("2 * c * d", "2 * c * c", "taken to be made of 320 numbers: a word has 768"),
        ("norms = 3 * 2 * c", "norms = 3 * c", "is not it: too small"),
        (_TOTAL, "outside", "expected a plain number, got None"),
        (_TOTAL, "return '2546240' or outside", "expected a plain number"),
    ],
    "input_block": [
        ("divmod(n - 1,", "divmod(n,", "conv_in takes number 0"),
        (
            f"{_FIRST}    level, i = {_PLACE}",
            "    level, i = divmod(n, layers + 1)",
            "number 0 is conv_in, and level 0 begins with number 1",
        ),
        (_FIRST, "", "number 0 is conv_in: it stands in front of all levels"),
        ("divmod(n - 1,", "divmod(n - 2,", "one number too late"),
        ('return "conv_in"', 'return "input_blocks.0"', "number 0 is called conv_in"),
        ('return "conv_in"', 'return "down_blocks.0.conv_in"', "expected conv_in"),
        (_PLACE, "divmod(n - 1, layers)", "the downsamplers are not counted"),
        (_PART, 'part = f"resnets.{i}"', "the downsamplers are named as residual blocks"),
        (_PLACE, "divmod(n - 1, 2 * layers + 1)", "the transformers are counted"),
        (
            _PART,
            f'{_PART}\n    if i < layers:\n        level, part = i, f"resnets.{{level}}"',
            "level and residual block are swapped",
        ),
        ("level, i =", "i, level =", "quotient and remainder are swapped"),
        (
            _PART,
            'part = f"resnets.{i - 1}" if i else "downsamplers.0"',
            "the downsampler comes first in its level",
        ),
        (
            _PART,
            f"{_PART}\n    level += i == layers",
            "the downsampler is given to the next level",
        ),
        ('"downsamplers.0"', 'f"downsamplers.{i}"', "the downsampler has the number i"),
        (
            '"downsamplers.0"',
            'f"downsamplers.{level}"',
            "the downsampler has the number of its level",
        ),
        ("resnets.{i}", "resnets.{i + 1}", "the residual blocks are counted from 1"),
        ("{level}", "{level + 1}", "the levels are counted from 1"),
        ("resnets.{i}", "resnets.{level * layers + i}", "are counted on through the levels"),
        ("downsamplers.0", "downsamplers.0.conv", "the name goes on to the convolution"),
        ("downsamplers.0", "downsampler", "downsamplers is a list"),
        ("resnets", "attentions", "[n][0] is the residual block"),
        (
            f"{_PART}\n    return {_NAME}",
            f"{_PART.replace('down', 'up')}\n    return {_NAME.replace('down', 'up')}",
            "these are the names of the way up",
        ),
        (_FIRST, f"    layers = 2\n{_FIRST}", "two residual blocks per level whatever is asked"),
        ("i == layers", "i == 2", "the downsampler is taken to stand at i = 2"),
        (_PLACE, "divmod(n - 1, 3)", "a level is taken to have three numbers"),
        (_FIRST, f"    n = min(n, 4 * (layers + 1) - 1)\n{_FIRST}", "expected down_blocks.3.down"),
        (_FIRST, f"    layers = min(layers, 6)\n{_FIRST}", "expected down_blocks."),
        (f"return {_NAME}", _NAME, "expected a string, got None"),
        (f"return {_NAME}", f"return {_NAME}.encode()", "expected a string, got b'down"),
        (f"return {_NAME}", "return level, i", "expected a string, got (0, 0)"),
        (f"return {_NAME}", "return down_blocks[level].resnets[i]", "it raises NameError"),
        ("resnets", "resnet", "expected down_blocks.0.resnets.0, got down_blocks.0.resnet.0"),
    ],
    "referee_block": [
        ("    return True", "    return False", "it rejects the right block"),
        ("            return False", "            pass", "it accepts a formula with the order of"),
        ("    return True", "    return 1", "expected True or False"),
        ("    return True", "    pass", "expected True or False, got None"),
        (_CLOSE, _CLOSE.replace("not torch.allclose", "torch.allclose"), "it rejects"),
        (_CLOSE, _CLOSE.replace("not torch.allclose", "not torch.equal"), "it rejects the right"),
        *(
            (
                _CLOSE,
                "not "
                + _CLOSE.removeprefix("not torch.allclose(")
                .removesuffix(", want)")
                .join(("torch.allclose((", f"){how}, want{how})")),
                cause,
            )
            for how, cause in (
                (".sum(1)", "the tokens in another order"),
                (".sum()", "the tokens in another order"),
                ("[:, 0]", "a token in the middle left as it came"),
                ("[:, :-1]", "the last token left as it came"),
                ("[:, 1:]", "the first token left as it came"),
                ("[:, -1]", "the first token left as it came"),
                ("[:, [0, -1]]", "a token in the middle left as it came"),
                ("[..., 0]", "a channel in the middle left as it came"),
                ("[..., -1]", "the first channel left as it came"),
                ("[..., 1:]", "the first channel left as it came"),
                ("[..., [0, -1]]", "a channel in the middle left as it came"),
                (".sum(-1)", "the channels in another order"),
                (".sum(0)", "the samples in another order"),
                ("[:1]", "the context of the first sample for all"),
                ("[-1]", "the first sample left as it came"),
                ("[-1, -1, -1]", "the first token left as it came"),
            )
        ),
        (_CLOSE, _CLOSE.replace(", want)", ", want, rtol=0.02)"), "0.5 % too large"),
        (_CLOSE, _CLOSE.replace(", want)", ", want, atol=1.0)"), "it accepts a formula with"),
        (
            _CLOSE,
            "(block(x, context, look, read, torch.exp, norms) > want + 1e-3).any()",
            "it accepts a formula with",
        ),
        (
            _CLOSE,
            "(block(x, context, look, read, torch.exp, norms) < want - 1e-3).any()",
            "it accepts a formula with",
        ),
        (
            _CLOSE,
            "block(x, context, look, read, torch.exp, norms).shape != x.shape",
            "it accepts a formula with the order of lecture 002",
        ),
        (_NORMS, "[lambda y: y] * 3", "it accepts a formula with"),
        (_NORMS, "[torch.tanh] * 3", "it accepts a formula with"),
        (_NORMS, "[torch.tanh, torch.tanh, lambda y: y / 3]", "the first two norms swapped"),
        (_NORMS, "[torch.tanh, lambda y: y / 3, lambda y: y / 3]", "the last two norms swapped"),
        (_NORMS, "[torch.tanh, lambda y: y, lambda y: y / 3]", "no norm before the cross-att"),
        (_SIZES, "[(1, 5, 3, 4, 6), (1, 4, 7, 5, 2)]", "the context of the first sample for all"),
        (_SIZES, "[(2, 1, 3, 4, 6), (3, 1, 7, 5, 2)]", "the tokens in another order"),
        (_SIZES, "[(2, 5, 1, 4, 6), (3, 4, 1, 5, 2)]", "replaced by their mean"),
        ("torch.sin(mix @ y)", "torch.zeros_like(y)", "it accepts a formula with"),
        (_READ, "torch.zeros_like(y)", "it accepts a formula with"),
        (_READ, "torch.cos(y)", "the context normalised"),
        *(
            (_READ, f"torch.cos(y + {seen})", cause)
            for seen, cause in (
                ("context.mean((1, 2)).view(-1, 1, 1)", "and not only through their sum or mean"),
                ("context.sum((1, 2)).view(-1, 1, 1)", "and not only through their sum or mean"),
                ("context[:, :1].mean(2, keepdim=True)", "replaced by the first"),
                ("context[:, :1].exp().mean(2, keepdim=True)", "replaced by the first"),
                ("context[:, 1:].exp().mean((1, 2)).view(-1, 1, 1)", "the first word of the"),
                ("context[:, :-1].exp().mean((1, 2)).view(-1, 1, 1)", "the last word of the"),
                ("context[:, [0, -1]].exp().mean((1, 2)).view(-1, 1, 1)", "a word in the middle"),
                ("context[..., :1].exp().mean(1, keepdim=True)", "all but the first number of"),
                ("context[..., 1:].exp().mean((1, 2)).view(-1, 1, 1)", "the first number of each"),
                ("context[..., :-1].exp().mean((1, 2)).view(-1, 1, 1)", "the last number of each"),
            )
        ),
        (_READ, "(context.flatten(1) @ words).view(y.shape)", "in parallel"),
        (_FEED, "torch.exp(norms[2](want))", "it rejects the right block"),
        ("want = x + look", "want = look", "it rejects the right block"),
        ("read(norms[1](want)", "read(norms[1](x)", "it rejects the right block"),
    ],
}

ALTERNATIVES = {
    "spatial_transformer": [
        """
def spatial_transformer(x, layer, block):
    from einops import rearrange

    h, w = x.shape[2:]
    seen = block(rearrange(layer.proj_in(layer.norm(x)), "b c h w -> b (h w) c"))
    return layer.proj_out(rearrange(seen, "b (h w) c -> b c h w", h=h, w=w)) + x
""",
        """
def spatial_transformer(x, layer, block):
    # Pixel by pixel; channels last in between.
    b, c, height, width = x.shape
    picture = layer.proj_in(layer.norm(x))
    pixels = [picture[:, :, i, j] for i in range(height) for j in range(width)]
    last = block(torch.stack(pixels, dim=1)).view(b, height, width, c)
    return torch.add(x, layer.proj_out(torch.movedim(last, 3, 1)))
""",
    ],
    "count_transformer": [
        """
def count_transformer():
    c, words = 320, 768
    norms = 2 * c + 3 * 2 * c
    projections = 2 * (c * c + c)
    own = 4 * c * c + c
    cross = 2 * c * c + 2 * words * c + c
    feed_forward = c * 8 * c + 8 * c + 4 * c * c + c
    return norms + projections + own + cross + feed_forward
""",
        """
def count_transformer():
    from torch import nn

    layers = [nn.GroupNorm(32, 320), *(nn.Conv2d(320, 320, 1) for _ in range(2))]
    layers += [nn.LayerNorm(320) for _ in range(3)]
    layers += [nn.Linear(a, 320, bias=False) for a in (320, 320, 320, 320, 768, 768)]
    layers += [nn.Linear(320, 320) for _ in range(2)]
    layers += [nn.Linear(320, 2 * 4 * 320), nn.Linear(4 * 320, 320)]
    return torch.tensor(sum(p.numel() for layer in layers for p in layer.parameters()))
""",
    ],
    "input_block": [
        """
def input_block(n, layers):
    # Count them up; the name is NumPy's kind of string.
    import numpy

    names = ["conv_in"]
    level = 0
    while len(names) <= n:
        names += [f"down_blocks.{level}.resnets.{i}" for i in range(layers)]
        names.append(f"down_blocks.{level}.downsamplers.0")
        level += 1
    return numpy.str_(names[n])
""",
        """
def input_block(n, layers):
    if n < 1:
        return "conv_in"
    if n % (layers + 1) == 0:
        return "down_blocks.%d.downsamplers.0" % (n // (layers + 1) - 1)
    return "down_blocks.%d.resnets.%d" % (n // (layers + 1), n % (layers + 1) - 1)
""",
    ],
    "referee_block": [
        """
def referee_block(block):
    # Layers of torch, in double precision.
    from torch import nn

    torch.manual_seed(0)
    made = [nn.Linear(8, 8), nn.Linear(8, 8), nn.LayerNorm(8), nn.LayerNorm(8), nn.LayerNorm(8)]
    made.append(nn.MultiheadAttention(8, 2, kdim=5, vdim=5, batch_first=True))
    one, two, *norms, cross = (layer.double() for layer in made)
    for norm in norms:
        nn.init.normal_(norm.weight)
    x, context = torch.randn(3, 4, 8).double(), torch.randn(3, 7, 5).double()

    def self_attention(h):
        q = one(h)
        return torch.softmax(q @ q.transpose(1, 2), dim=2) @ h

    def cross_attention(h, words):
        return cross(h, words, words)[0]

    def feed_forward(h):
        return two(h).relu()

    got = block(x, context, self_attention, cross_attention, feed_forward, norms)
    for norm, branch in zip(norms, [self_attention, None, feed_forward]):
        x = x + (branch(norm(x)) if branch else cross_attention(norm(x), context))
    return bool((got - x).abs().max() < 1e-9)
""",
        """
def referee_block(block):
    # What each function is asked is recorded; each answers with numbers of its own.
    draw = torch.Generator().manual_seed(2)
    x, context = (torch.randn(2, n, 3, generator=draw) for n in (4, 5))
    answers = {name: torch.randn(2, 4, 3, generator=draw) for name in ("s", "c", "f")}
    asked = []

    def plays(name):
        def answer(*inputs):
            asked.append((name, *inputs))
            return answers[name].clone()

        return answer

    norms = [lambda h, s=s: s * h + s for s in (2.0, -3.0, 5.0)]
    got = block(x, context, plays("s"), plays("c"), plays("f"), norms)
    if [name for name, *_ in asked] != ["s", "c", "f"]:
        return False
    h = x
    for norm, (name, seen, *words) in zip(norms, asked):
        if not torch.allclose(seen, norm(h), atol=1e-5):
            return False
        if words and not torch.equal(words[0], context):
            return False
        h = h + answers[name]
    return got.shape == h.shape and torch.allclose(got, h, atol=1e-5)
""",
    ],
}
