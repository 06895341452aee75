"""Notebook 41: mistakes that students make, and right answers written differently."""

_COUNTED = "counts[pair] += count"
_PAIRS = "pairwise(symbols)"
_BEST = "min(counts, key=lambda pair: (-counts[pair], pair), default=None)"
_FOUND = "symbols[i : i + 2] == best"
_JOINED = '"".join(best) if found else symbols[i]'
_ADDED = "merged[tuple(joined)] += count"
_LOOP = f"""        joined, i = [], 0
        while i < len(symbols):
            found = best is not None and {_FOUND}
            joined.append({_JOINED})
            i += 1 + found
"""
_MERGED = "return best, dict(merged)"

_CAUSAL = "torch.ones(M, M, dtype=torch.bool, device=tokens.device).tril()"
_IS_END = "tokens == end"
_FILLING = "is_end & (is_end.cumsum(dim=1) > 1)"
_BEHIND_FIRST = "torch.arange(M) > is_end.int().argmax(dim=1, keepdim=True)"
_AT_THE_END = "is_end.flip(1).int().cumprod(dim=1).flip(1).bool()"
_MASK = "causal & ~filling[:, None, :]"

_FIRST = "(tokens == end).int().argmax(dim=1)"
_TAKEN = "hidden[torch.arange(len(hidden), device=hidden.device), first]"

_IMAGES = "images = images / images.norm(dim=1, keepdim=True)"
_TEXTS = "texts = texts / texts.norm(dim=1, keepdim=True)"
_LOGITS = "log_scale.exp() * images @ texts.T"
_OWN = "logits.diagonal()"
_OF_TEXTS = "(logits.logsumexp(dim=1) - own).mean()"
_OF_IMAGES = "(logits.logsumexp(dim=0) - own).mean()"
_BOTH = "(find_text + find_picture) / 2"
_ENTROPY = "torch.nn.functional.cross_entropy"

_SIZES = "(2, 3, 7)"
_SCALES = "(1.0, 8.0)"
_DRAWN = "size * torch.randn(B, B, generator=generator, dtype=torch.float64)"
_WANT = "-logits.log_softmax(dim=1).diagonal().mean()"
_CLOSE = "torch.allclose(find_text(logits), want, rtol=1e-6, atol=1e-8)"
_MOVED = "torch.allclose(find_text(logits + {}), find_text(logits), atol=1e-4)"
_SAME_IF_ROWS_MOVE = _MOVED.format("torch.arange(B)[:, None]")
_SAME_IF_COLUMNS_MOVE = _MOVED.format("torch.arange(B)")


def _losses(of):
    """Both losses of another kind."""
    return (
        f"{_OF_TEXTS}\n    find_picture = {_OF_IMAGES}",
        f"{of('logits')}\n    find_picture = {of('logits.T')}",
    )


def _tied(order):
    """Another order of pairs that occur equally often."""
    return (_BEST, _BEST.replace(", pair),", f", {order}),"))


MUTANTS = {
    "merge_step": [
        (_COUNTED, "counts[pair] += 1", "the counts of the words are ignored"),
        (_PAIRS, "set(pairwise(symbols))", "counts once for a word"),
        (_PAIRS, '__import__("itertools").combinations(symbols, 2)', "any two symbols of a word"),
        (_PAIRS, "pairwise(symbols[:-1])", "the last pair of each word is not counted"),
        (_PAIRS, "pairwise(sorted(symbols))", "the pair: expected"),
        (
            f"        for pair in {_PAIRS}:\n            {_COUNTED}",
            (
                f"        for pair in set({_PAIRS}):\n"
                "            i = 0\n"
                "            while i + 1 < len(symbols):\n"
                "                step = symbols[i : i + 2] == pair\n"
                "                counts[pair] += count * step\n"
                "                i += 1 + step"
            ),
            "overlapping places count once",
        ),
        (
            f"        for pair in {_PAIRS}:",
            "        for pair in pairwise([s for word in words for s in word]):",
            "the pair: expected",
        ),
        (
            f"            {_COUNTED}",
            (
                f"            {_COUNTED}\n"
                "    for (one, count), (other, _) in pairwise(words.items()):\n"
                "        counts[one[-1], other[0]] += count"
            ),
            "pairs are counted across the border of two words",
        ),
        (_BEST, _BEST.replace("-counts", "counts"), "this is the rarest pair"),
        (
            _BEST,
            "max(counts, key=lambda pair: (counts[pair], pair), default=None)",
            "the last in code-point order",
        ),
        (_BEST, "max(counts, key=counts.get, default=None)", "the one met first is taken"),
        (_BEST, "max(counts, key=counts.get)", "the one met first is taken"),
        (_BEST, "next((p for p, _ in counts.most_common(1)), None)", "the one met first is taken"),
        (_BEST, "sorted(counts, key=counts.get)[-1]", "the one met last is taken"),
        (*_tied('"".join(pair)'), "whose joined text comes first"),
        (*_tied("pair[::-1]"), "whose second symbol comes first"),
        (*_tied("pair[0]"), "the pair: expected"),
        (*_tied("[symbol.lower() for symbol in pair]"), "the order of the alphabet decides"),
        (*_tied('len("".join(pair)), pair'), "of equals, the shortest is taken"),
        (*_tied("[symbol.encode()[::-1] for symbol in pair]"), "the pair: expected"),
        (
            _BEST,
            (
                "min(counts, key=lambda pair: -counts[pair] / (\n"
                "        sum(n * w.count(pair[0]) for w, n in words.items())\n"
                "        * sum(n * w.count(pair[1]) for w, n in words.items())\n"
                "    ))"
            ),
            "the pair: expected",
        ),
        (_FOUND, f"{_FOUND} and len(joined) == i", "only the first place in each word is joined"),
        (_FOUND, f"{_FOUND} and i == 0", "expected the word"),
        (_FOUND, f"{_FOUND} and i + 2 == len(symbols)", "expected the word"),
        (_FOUND, f"{_FOUND} and i < 8", "expected the word"),
        (_FOUND, "symbols[i : i + 2] in (best, best[::-1])", "the word"),
        (
            _FOUND,
            '"".join(symbols[i : i + 2]) == "".join(best) and i + 1 < len(symbols)',
            "another pair of the same text is joined, too",
        ),
        (
            _LOOP,
            """        joined = list(symbols)
        for i in reversed(range(len(joined) - 1)):
            if tuple(joined[i : i + 2]) == best:
                joined[i : i + 2] = ["".join(best)]
""",
            "the pair is joined from the right",
        ),
        (
            _LOOP,
            """        joined = []
        for i, symbol in enumerate(symbols):
            if symbols[i : i + 2] == best:
                joined.append("".join(best))
            elif i == 0 or symbols[i - 1 : i + 1] != best:
                joined.append(symbol)
""",
            "overlapping places are joined twice",
        ),
        (
            _LOOP,
            """        text = " ".join(symbols).replace(" ".join(best), "".join(best))
        joined = text.split(" ")
""",
            "parts of longer symbols are joined, too",
        ),
        (
            _LOOP,
            """        import re

        pattern = r"(?<!\\S)" + " ".join(best) + r"(?!\\S)"
        joined = re.sub(pattern, lambda _: "".join(best), " ".join(symbols)).split(" ")
""",
            "a symbol like . or + is read as a pattern",
        ),
        (
            _LOOP,
            """        found = best in zip(symbols, symbols[1:])
        joined = ["".join(symbols)] if found else symbols
""",
            "all symbols of a word that has the pair are joined",
        ),
        (_LOOP, "        joined = symbols\n", "the words stay as they were"),
        (_JOINED, _JOINED.replace("(best)", "(best[::-1])"), "joined the wrong way round"),
        (_JOINED, _JOINED.replace('""', '" "'), "a space stands between"),
        (_JOINED, "symbols[i]", "only the first of the two symbols is left"),
        (_JOINED, "best[1] if found else symbols[i]", "expected the word"),
        (_JOINED, f'({_JOINED}).replace("</w>", "")', "the mark </w> is lost"),
        (_JOINED, "best if found else symbols[i]", "expected tuples of symbols in the dict"),
        (_ADDED, "merged[tuple(sorted(joined))] += count", "the symbols of the words are sorted"),
        (_ADDED, "merged[tuple(joined)] = count", "keep the count of the last"),
        (_ADDED, "merged.setdefault(tuple(joined), count)", "keep the count of the first"),
        (_ADDED, "merged[tuple(joined)] = 1", "the counts of the words are lost"),
        (_ADDED, "merged[tuple(joined)] += 1", "expected the count"),
        (
            _ADDED,
            f"if best in pairwise(symbols):\n            {_ADDED}",
            "words without the pair are left out",
        ),
        (_ADDED, 'merged["".join(joined)] += count', "expected tuples of symbols in the dict"),
        (_ADDED, 'merged[" ".join(joined)] += count', "expected tuples of symbols in the dict"),
        (_ADDED, "merged[tuple(joined)] += float(count)", "expected plain integers"),
        (
            _MERGED,
            f"{_MERGED[:11]}[::-1], dict(merged)",
            "the pair is returned the other way round",
        ),
        (_MERGED, 'return "".join(best), merged', "expected a tuple of two symbols for the pair"),
        (_MERGED, "return list(best), merged", "expected a tuple of two symbols for the pair"),
        (_MERGED, "return merged, best", "the two are returned in the other order"),
        (_MERGED, "return best, counts[best], merged", "expected two things"),
        (_MERGED, "return merged", "expected two things"),
        (_MERGED, "best, merged", "None: is the return missing?"),
        (_MERGED, "return best, list(merged)", "expected a dict of words and counts"),
        (
            _MERGED,
            "words.clear()\n    words.update(merged)\n    return best, words",
            "it changes the dict it is given",
        ),
        (_ADDED, f"{_ADDED}\n        words[symbols] = 0", "it changes the dict it is given"),
        (
            _MERGED,
            """words = dict(merged)
    counts = Counter(p for symbols in words for p in pairwise(symbols))
    if counts and len(words) > 2:
        words.popitem()
    return best, words""",
            "it is missing",
        ),
        (", default=None)", ")", "no word has two symbols left: return None and words"),
        (_BEST, f"{_BEST} or ()", "expected a tuple of two symbols for the pair"),
        (_MERGED, "return best, dict(merged) if best else {}", "no word has two symbols left"),
        (_MERGED, "return (best, dict(merged)) if best else None", "expected two things"),
        (
            _BEST,
            f"{_BEST} if len(words) > 1 else None",
            "the pair: expected",
        ),
        (
            _BEST,
            f"{_BEST} if max(counts.values(), default=0) > 1 else None",
            "the pair: expected",
        ),
        (
            "    counts, merged = Counter(), Counter()",
            """    counts = merge_step.__dict__.setdefault("counts", Counter())
    merged = Counter()""",
            "the pair: expected",
        ),
    ],
    "text_mask": [
        (".tril()", ".tril(-1)", "a token does not see itself"),
        (".tril()", ".tril(1)", "a token sees the next one"),
        (".tril()", ".triu()", "tokens see those behind them, not those before"),
        (_MASK, f"({_MASK}).transpose(1, 2)", "rows and columns are swapped"),
        (_MASK, "causal.expand(len(tokens), -1, -1)", "the filling is seen"),
        (_MASK, "causal", "expected shape"),
        (_MASK, "(~filling[:, None, :]).expand(-1, M, -1)", "j <= i is missing"),
        (_FILLING, "is_end", "the first end token is hidden, too"),
        (_FILLING, "is_end.cumsum(dim=1) > 0", "the first end token is hidden, too"),
        (_FILLING, "is_end & (is_end.cumsum(dim=1) > 2)", "one token of filling is seen"),
        (
            _FILLING,
            "is_end & (is_end.flip(1).cumsum(1).flip(1) > 1)",
            "the last end token is kept, not the first",
        ),
        ("~filling[:, None, :]", "~filling[:, :, None]", "the filling is hidden in rows"),
        (_MASK, f"{_MASK} & ~filling[:, :, None]", "the filling is hidden in rows"),
        (
            _MASK,
            f"{_MASK} | torch.eye(M, dtype=torch.bool)",
            "a token of the filling sees itself",
        ),
        (_MASK, f"~({_MASK})", "True and False are swapped"),
        (_MASK, "~causal | filling[:, None, :]", "True and False are swapped"),
        ("~filling", "filling", "expected"),
        (
            _FILLING,
            "torch.arange(M) > tokens.argmax(dim=1, keepdim=True)",
            "the end is found by the largest number",
        ),
        (_IS_END, "(tokens == end) & (end > 0)", "the filling is seen"),
        (_IS_END, "tokens == -1", "the filling is seen"),
        (_IS_END, "tokens == 49407", "the filling is seen"),
        (
            _MASK,
            f"({_MASK})[:1].expand(len(tokens), -1, -1)",
            "all texts get the mask of the first",
        ),
        ("~filling[:, None, :]", "~filling.any(0)[None, None, :]", "expected shape"),
        (
            _MASK,
            "(causal & ~filling.any(0)).expand(len(tokens), -1, -1)",
            "all texts get the mask of the shortest",
        ),
        (_MASK, f"{_MASK} & (torch.arange(M) > 0)", "the start token is hidden"),
        (_MASK, "causal & ~filling", "needs an axis for the rows"),
        (_MASK, f"({_MASK}).permute(1, 2, 0)", "the batch is missing or not in front"),
        (_MASK, f"({_MASK})[:, None]", "expected shape"),
        (_MASK, f"({_MASK})[0]", "expected shape"),
        (_MASK, f"({_MASK}).float()", "expected dtype torch.bool"),
        (
            _MASK,
            f"torch.zeros(1).masked_fill(~({_MASK}), -torch.inf)",
            "expected dtype torch.bool",
        ),
        (f"return {_MASK}", _MASK, "None: is the return missing?"),
        (f"return {_MASK}", f"return ({_MASK}).tolist()", "expected a torch tensor"),
        (_FILLING, "is_end & is_end.roll(1, dims=1)", "an end token is hidden only right behind"),
        (_FILLING, _BEHIND_FIRST, "all behind the first end token is hidden"),
        (_FILLING, "is_end.cumsum(dim=1) - is_end.int() > 0", "all behind the first end token"),
        (_FILLING, "is_end.cumsum(dim=1) > 1", "all from the second end token on is hidden"),
        (
            _FILLING,
            "torch.arange(M) > (~is_end).sum(dim=1, keepdim=True)",
            "tokens that are no end token are counted",
        ),
        (
            _FILLING,
            "is_end & torch.nn.functional.pad(is_end, (1, 0))[:, :-1]",
            "an end token is hidden only right behind another",
        ),
        (
            _FILLING,
            f"({_AT_THE_END}) & (({_AT_THE_END}).cumsum(dim=1) > 1)",
            "only the end tokens that nothing else follows are hidden",
        ),
        (_FILLING, f"({_AT_THE_END}) & (is_end.cumsum(dim=1) > 1)", "expected"),
        (_IS_END, "tokens == tokens[:, -1:]", "`end` is read off the last place of each text"),
        (_IS_END, "tokens == tokens[0, -1]", "`end` is read off the last place of the first text"),
        (_IS_END, "tokens == tokens[:, -1].max()", "`end` is read off the last places, their"),
        (_FILLING, "(tokens[:, :, None] == tokens[:, None]).tril(-1).any(2)", "expected"),
        (_MASK, f"({_MASK}) | filling[:, :, None]", "expected"),
        (_IS_END, "(tokens == end) & (len(tokens) > 1)", "the filling is seen"),
        (
            f"return {_MASK}",
            f"tokens[filling] = 0\n    return {_MASK}",
            "it changes its input in place",
        ),
        (_CAUSAL, "torch.ones(9, 9, dtype=torch.bool).tril()[:M, :M]", "it raises RuntimeError"),
    ],
    "contrastive_loss": [
        (_BOTH, "find_text", "only each picture's text is looked for"),
        (_BOTH, "find_picture", "only each text's picture is looked for"),
        (
            "logsumexp(dim=0)",
            "logsumexp(1)",
            "only each picture's text is looked for, once or twice",
        ),
        (
            "logsumexp(dim=1)",
            "logsumexp(0)",
            "only each text's picture is looked for, once or twice",
        ),
        (_BOTH, "find_text + find_picture", "the two losses are added"),
        (*_losses(lambda x: f"({x}.logsumexp(1) - own).sum()"), "the batch is summed"),
        (*_losses(lambda x: f"({x}.logsumexp(1) - own)"), "expected shape"),
        ("log_scale.exp()", "(-log_scale).exp()", "the cosines are divided by exp(log_scale)"),
        ("log_scale.exp()", "log_scale", "exp is forgotten"),
        ("log_scale.exp()", "1 / log_scale", "the cosines are divided by log_scale"),
        ("log_scale.exp() * ", "", "log_scale is not used"),
        ("log_scale.exp()", "(2 * log_scale).exp()", "the scale is used twice"),
        ("log_scale.exp()", "1 / 0.07", "the scale is 1 / 0.07"),
        (f"{_IMAGES}\n    {_TEXTS}", "pass", "the vectors are not normalised"),
        (_IMAGES, "pass", "the pictures are not normalised"),
        (_TEXTS, "pass", "the texts are not normalised"),
        (
            f"{_IMAGES}\n    {_TEXTS}",
            f"{_IMAGES}\n    {_TEXTS}".replace("dim=1", "dim=0"),
            "normalised over the batch, axis 0",
        ),
        (
            f"{_IMAGES}\n    {_TEXTS}",
            f"{_IMAGES}\n    {_TEXTS}".replace("dim=1, keepdim=True", ""),
            "all vectors are divided by one length",
        ),
        (
            f"{_IMAGES}\n    {_TEXTS}",
            f"{_IMAGES}\n    {_TEXTS}".replace(", keepdim=True", ""),
            "without keepdim the lengths belong to the columns",
        ),
        (
            "images.norm(dim=1, keepdim=True)",
            "(images.norm(dim=1, keepdim=True) + 1e-3)",
            "expected",
        ),
        ("images @ texts.T", "images @ images.T", "pictures are compared with pictures"),
        ("images @ texts.T", "texts @ texts.T", "texts are compared with texts"),
        ("images @ texts.T", "images @ texts", "the texts are not transposed"),
        ("images @ texts.T", "-torch.cdist(images, texts)", "expected"),
        (*_losses(lambda x: f"-{x}.log_softmax(1).mean()"), "all B * B entries are averaged"),
        (
            *_losses(lambda x: f"{_ENTROPY}({x}, torch.arange(len(own)).roll(1))"),
            "the labels are shifted",
        ),
        (
            *_losses(lambda x: f"{_ENTROPY}({x}, (torch.arange(len(own)) + 1) % len(own))"),
            "the labels are shifted",
        ),
        (*_losses(lambda x: f"({x}.logsumexp(1) - {x}[:, 0]).mean()"), "the labels are all 0"),
        (_OWN, "logits.flip(1).diagonal()", "expected"),
        (
            f"return {_BOTH}",
            "return -logits.flatten().log_softmax(0).view_as(logits).diagonal().mean()",
            "one softmax runs over all B * B entries",
        ),
        (f"return {_BOTH}", "return -logits.diagonal().mean()", "there is no softmax"),
        (_BOTH, f"-{_BOTH}", "the sign is turned"),
        (*_losses(lambda x: f"-{x}.softmax(1).diagonal().mean()"), "the logarithm is missing"),
        (
            *_losses(lambda x: f"{_ENTROPY}({x}.softmax(1), torch.arange(len({x})))"),
            "there are two softmaxes",
        ),
        (*_losses(lambda x: f"-{x}.softmax(1).log().diagonal().mean()"), "exp overflows"),
        (_BOTH, f"{_BOTH} / math.log(2)", "the logarithm has base 2"),
        (
            *_losses(
                lambda x: (
                    f"({x}.masked_fill(torch.eye(len(logits)) > 0, -torch.inf).logsumexp(1)"
                    " - own).mean()"
                )
            ),
            "the own pair is missing in the sum",
        ),
        (
            f"return {_BOTH}",
            (
                "return torch.nn.functional.binary_cross_entropy_with_logits("
                "logits, torch.eye(len(logits), dtype=logits.dtype))"
            ),
            "each pair is judged by itself",
        ),
        (
            *_losses(lambda x: f"-({x}.exp() / {x}.exp().sum(1)).log().diagonal().mean()"),
            "exp overflows",
        ),
        (
            *_losses(lambda x: f"-({x}.exp() / {x}.exp().sum(1, True)).log().diagonal().mean()"),
            "exp overflows",
        ),
        (*_losses(lambda x: f"({x}.exp().sum(1).log() - {x}.diagonal()).mean()"), "exp overflows"),
        (_BOTH, f"{_BOTH} if len(logits) != 1 else 1 + 0 * log_scale", "expected"),
        ("log_scale.exp()", "log_scale.clamp(min=0).exp()", "log_scale is not used"),
        ("log_scale.exp()", "log_scale.clamp(max=2).exp()", "expected"),
        (
            "log_scale.exp()",
            "log_scale.clamp(max=math.log(100)).exp()",
            "log_scale is held at log 100",
        ),
        ("log_scale.exp()", "log_scale.exp().clamp(max=100)", "log_scale is held at log 100"),
        ("log_scale.exp()", "log_scale.clamp(max=4.6052).exp()", "log_scale is held at 4.6052"),
        ("log_scale.exp()", "log_scale.clamp(0, 4.6052).exp()", "log_scale is not used"),
        ("log_scale.exp()", "math.exp(log_scale.item())", "no gradient reaches log_scale"),
        ("log_scale.exp()", "log_scale.detach().exp()", "no gradient reaches log_scale"),
        ("images @ texts.T", "images @ texts.detach().T", "no gradient reaches texts"),
        ("images @ texts.T", "images.detach() @ texts.T", "no gradient reaches images"),
        (
            "keepdim=True)\n    texts",
            "keepdim=True).detach()\n    texts",
            "the gradient by images is wrong",
        ),
        (_BOTH, f"({_BOTH}).detach()", "no gradient reaches images or texts or log_scale"),
        (_BOTH, f"({_BOTH}).item()", "expected a torch tensor"),
        (_BOTH, f"({_BOTH})[None]", "expected shape"),
        (_BOTH, f"({_BOTH}).float()", "expected dtype torch.float64"),
        (_BOTH, f"({_BOTH}).double()", "expected dtype torch.float32"),
        (_BOTH, "(find_text, find_picture)", "expected a torch tensor"),
        (f"return {_BOTH}", _BOTH, "None: is the return missing?"),
        (_IMAGES, "images /= images.norm(dim=1, keepdim=True)", "it changes its input in place"),
        ("log_scale.exp()", "log_scale.exp_()", "it changes its input in place"),
    ],
    "pool_at_end": [
        (_TAKEN, "hidden[:, -1]", "it is the last place"),
        (_TAKEN, "hidden[:, 0]", "it is the vector of the start token"),
        (_TAKEN, "hidden.mean(1)", "it is the mean over all places"),
        (
            _FIRST,
            "hidden.shape[1] - 1 - (tokens == end).flip(1).int().argmax(1)",
            "it is the last place",
        ),
        (_FIRST, f"{_FIRST} - 1", "it is the token before the first end token"),
        (
            _FIRST,
            "(tokens != end).sum(1).clamp(max=tokens.shape[1] - 1)",
            "tokens that are no end token are counted",
        ),
        (_FIRST, "tokens.argmax(dim=1)", "the end is found by the largest number"),
        (_FIRST, "tokens.argmin(dim=1)", "the end is found by the smallest number"),
        (_FIRST, "(tokens != end).int().argmax(dim=1)", "it is the vector of the start token"),
        ("dim=1", "dim=0", "argmax runs over the texts"),
        (_FIRST, "(tokens == end).argmax(dim=1)", "argmax does not take True and False"),
        (
            _FIRST,
            "(tokens == tokens[:, -1:]).int().argmax(dim=1)",
            "`end` is read off the last place of each text",
        ),
        (
            _FIRST,
            "(tokens == tokens[0, -1]).int().argmax(dim=1)",
            "`end` is read off the last place of the first text",
        ),
        (
            _FIRST,
            "(tokens == tokens[:, -1].max()).int().argmax(dim=1)",
            "`end` is read off the last places, their largest number",
        ),
        (
            _FIRST,
            "(tokens == end).flip(1).int().cumprod(dim=1).flip(1).argmax(dim=1)",
            "it is the first of the end tokens that nothing else follows",
        ),
        (_FIRST, "(tokens == 49407).int().argmax(dim=1)", "it is the vector of the start token"),
        (_TAKEN, "hidden.amax(1)", "it is the largest number of each axis over all places"),
        (
            _TAKEN,
            (
                "hidden.masked_fill((tokens != end)[..., None], 0).sum(1)"
                " / (tokens == end).sum(1, keepdim=True)"
            ),
            "it is the mean of all end tokens",
        ),
        (
            _TAKEN,
            "torch.stack([h[: n + 1].mean(0) for h, n in zip(hidden, first)])",
            "it is the mean over the text without filling",
        ),
        (_TAKEN, "hidden[:, first]", "hidden[:, places] takes all places of each text"),
        (_TAKEN, "hidden[first]", "hidden[places] takes whole texts"),
        (_TAKEN, "hidden[tokens == end]", "hidden[tokens == end] takes all end tokens"),
        (_TAKEN, "hidden[:, first[0]]", "all texts get the place of the first text's end"),
        (_TAKEN, "hidden[:, first.min()]", "all texts get the place of the shortest text's end"),
        (_TAKEN, "hidden[:, first.max()]", "all texts get the place of the longest text's end"),
        (_TAKEN, f"{_TAKEN}.flip(0)", "the texts are in the wrong order"),
        (_TAKEN, f"{_TAKEN}[:, None]", "an axis of size 1 is left"),
        (
            _TAKEN,
            "hidden.gather(1, first[:, None, None])[:, 0].expand(-1, hidden.shape[2])",
            "expected",
        ),
        (_TAKEN, f"{_TAKEN} / {_TAKEN}.norm(dim=1, keepdim=True)", "expected"),
        (_TAKEN, f"{_TAKEN}.clamp(-1, 1)", "expected"),
        (_TAKEN, f"{_TAKEN}.float()", "expected dtype torch.float64"),
        (_TAKEN, f"{_TAKEN}.double()", "expected dtype torch.float32"),
        (_TAKEN, f"{_TAKEN}.detach()", "no gradient reaches hidden"),
        (_TAKEN, f"torch.tensor({_TAKEN}.tolist())", "expected dtype torch.float64"),
        (f"return {_TAKEN}", _TAKEN, "None: is the return missing?"),
        (_TAKEN, f"(first, {_TAKEN})", "expected a torch tensor"),
        (f"return {_TAKEN}", f"hidden.zero_()\n    return {_TAKEN}", "expected"),
        (f"return {_TAKEN}", f"got = {_TAKEN}\n    hidden[:] = 0\n    return got", "in place"),
        (f"return {_TAKEN}", f"tokens += 1\n    return {_TAKEN}", "it changes its input in place"),
        (
            _TAKEN,
            "hidden[torch.arange(len(hidden)), first.clamp(min=1, max=hidden.shape[1] - 1)]",
            "expected",
        ),
        (_TAKEN, f"{_TAKEN} if hidden.shape[1] < 70 else hidden[:, 0]", "of the start token"),
        (_TAKEN, f"{_TAKEN} if len(hidden) > 1 else hidden[:, -1]", "it is the last place"),
    ],
    "referee_axis": [
        ("    return True", "    return False", "it rejects the right loss"),
        ("                return False", "                pass", "it accepts a formula with"),
        ("return True", "return 1", "expected True or False"),
        ("return True", "pass", "None"),
        ("dim=1", "dim=0", "it rejects the right loss"),
        (_WANT, f"{_WANT} * B", "it rejects the right loss"),
        (_WANT, f"({_WANT} - logits.log_softmax(0).diagonal().mean()) / 2", "it rejects the right"),
        (".diagonal()", ".roll(1, 1).diagonal()", "it rejects the right loss"),
        (".diagonal()", "[:, 0]", "it rejects the right loss"),
        (_CLOSE, "torch.equal(find_text(logits), want)", "it rejects the right loss"),
        (
            _DRAWN,
            (
                "torch.randn(B, B, generator=generator, dtype=torch.float64)\n"
                "            logits = size * (logits + logits.T)"
            ),
            "axis 0, as printed",
        ),
        (_SIZES, "(2,)", "it accepts a formula with"),
        (_SIZES, "(3, 5, 7)", "axis 0 for an even number of pairs"),
        (_SIZES, "(2, 4, 8)", "axis 0 for an odd number of pairs"),
        (_SIZES, "(1,)", "axis 0, as printed"),
        (_SIZES, "(4,)", "axis 0 for an odd number of pairs"),
        (_SCALES, "(0.1, 1.0)", "logits that stop at 4"),
        (
            _DRAWN,
            "size * torch.rand(B, B, generator=generator, dtype=torch.float64)",
            "without their signs",
        ),
        (
            _DRAWN,
            f"({_DRAWN}).fill_diagonal_(-20.0 * size)",
            "it accepts a formula with",
        ),
        (
            _DRAWN,
            f"({_DRAWN}).fill_diagonal_(30.0 * size)",
            "it accepts a formula with",
        ),
        (_DRAWN, "size * torch.eye(B).double()", "axis 0, as printed"),
        (
            _DRAWN,
            "size * torch.randn(B, 1, generator=generator, dtype=torch.float64).repeat(1, B)",
            "it accepts",
        ),
        (_CLOSE, "bool(find_text(logits) > 0)", "axis 0, as printed"),
        (_CLOSE, "(find_text(logits).shape == ())", "axis 0, as printed"),
        (_CLOSE, "bool(find_text(logits) >= want - 1e-6)", "it accepts a formula with"),
        (_CLOSE, "bool(find_text(logits) <= want + 1e-6)", "it accepts a formula with"),
        (_CLOSE, "torch.allclose(find_text(logits), want, rtol=0.02)", "0.5 % too"),
        (_CLOSE, "torch.allclose(find_text(logits), want, atol=0.5)", "it accepts a formula with"),
        (
            _CLOSE,
            _SAME_IF_ROWS_MOVE,
            "it accepts a formula with",
        ),
        (
            _CLOSE,
            f"({_SAME_IF_ROWS_MOVE} and not {_SAME_IF_COLUMNS_MOVE})",
            "it accepts a formula with",
        ),
        (
            _CLOSE,
            (
                "not torch.allclose(find_text(logits), "
                f"{_ENTROPY}(logits.T, torch.arange(B)), rtol=1e-5, atol=1e-6)"
            ),
            "it accepts a formula with the mean of both axes",
        ),
        (
            _CLOSE,
            "bool((find_text(logits) - want).abs() <= want)",
            "it accepts a formula with",
        ),
    ],
}

ALTERNATIVES = {
    "merge_step": [
        """
def merge_step(words):
    # As Sennrich et al.: by regular expressions on words with spaces between the symbols.
    import re
    from collections import Counter

    counts = Counter()
    for word, n in words.items():
        counts.update({pair: n * k for pair, k in Counter(zip(word[:-1], word[1:])).items()})
    if not counts:
        return None, words
    most = max(counts.values())
    best = sorted(pair for pair, n in counts.items() if n == most)[0]
    pattern = re.compile(r"(?<!\\S)" + re.escape(" ".join(best)) + r"(?!\\S)")
    merged = Counter()
    for word, n in words.items():
        text = pattern.sub(lambda _: "".join(best), " ".join(word))
        merged[tuple(text.split(" "))] += n
    return best, merged
""",
        """
def merge_step(words):
    # One letter of memory while walking through each word.
    counts = {}
    for word in words:
        for i in range(1, len(word)):
            counts[word[i - 1 : i + 1]] = counts.get(word[i - 1 : i + 1], 0) + words[word]
    best = None
    for pair in sorted(counts):
        if best is None or counts[pair] > counts[best]:
            best = pair
    merged = {}
    for word in words:
        out, fresh = [], False
        for symbol in word:
            if fresh and best == (out[-1], symbol):
                out[-1], fresh = out[-1] + symbol, False
            else:
                out.append(symbol)
                fresh = True
        merged.setdefault(tuple(out), []).append(words[word])
    return [best, {word: sum(found) for word, found in merged.items()}]
""",
    ],
    "text_mask": [
        """
def text_mask(tokens, end):
    # The first end token stays, and all that is none.
    batch, length = tokens.shape
    first = (tokens == end).float().argmax(1, keepdim=True)
    kept = (tokens != end).scatter(1, first, True)
    return torch.ones(batch, length, length).tril().bool() & kept.view(batch, 1, length)
""",
        """
def text_mask(tokens, end):
    rows = []
    for text in tokens.tolist():
        kept = [token != end or j == text.index(end) for j, token in enumerate(text)]
        rows.append([[j <= i and kept[j] for j in range(len(text))] for i in range(len(text))])
    return torch.tensor(rows)
""",
    ],
    "contrastive_loss": [
        """
def contrastive_loss(images, texts, log_scale):
    logits = torch.exp(log_scale) * torch.cosine_similarity(images[:, None], texts[None], dim=-1)
    own = logits.diagonal()
    rows, columns = logits.logsumexp(dim=1) - own, logits.logsumexp(dim=0) - own
    return torch.cat([rows, columns]).mean()
""",
        """
def contrastive_loss(images, texts, log_scale):
    # Pair by pair, with loops.
    images = [v / (v * v).sum().sqrt() for v in images]
    texts = [v / (v * v).sum().sqrt() for v in texts]
    scale, total = log_scale.exp(), 0
    for i in range(len(images)):
        own = scale * (images[i] @ texts[i])
        row = torch.stack([scale * (images[i] @ t) for t in texts])
        column = torch.stack([scale * (v @ texts[i]) for v in images])
        for scores in (row, column):
            top = scores.max().detach()
            total = total + (scores - top).exp().sum().log() + top - own
    return total / (2 * len(images))
""",
    ],
    "pool_at_end": [
        """
def pool_at_end(hidden, tokens, end):
    places = (tokens == end).long().cumsum(1).eq(0).sum(1)
    index = places[:, None, None].expand(-1, 1, hidden.shape[-1])
    return hidden.gather(1, index).squeeze(1)
""",
        """
def pool_at_end(hidden, tokens, end):
    return torch.stack([h[t.tolist().index(end)] for h, t in zip(hidden, tokens)])
""",
        """
def pool_at_end(hidden, tokens, end):
    is_end = tokens == end
    first = is_end & (is_end.long().cumsum(1) == 1)
    return torch.einsum("bm,bmd->bd", first.to(hidden.dtype), hidden)
""",
    ],
    "referee_axis": [
        """
def referee_axis(find_text):
    # By hand, in float64, for ten random sizes.
    import random

    random.seed(5)
    for trial in range(40):
        pairs = random.randint(1, 9)
        logits = random.choice([1.0, 3.0, 12.0]) * torch.randn(pairs, pairs, dtype=torch.float64)
        total = 0.0
        for i in range(pairs):
            row = logits[i].tolist()
            top = max(row)
            total += math.log(sum(math.exp(score - top) for score in row)) + top - row[i]
        if abs(float(find_text(logits)) - total / pairs) > 1e-6 * (1 + total):
            return False
    return True
""",
        """
def referee_axis(find_text):
    # By gradients: those of the loss are (softmax - unit matrix) / B; then one value.
    generator = torch.Generator().manual_seed(2)
    for pairs in (2, 3, 6, 7):
        for size in (1, 8):
            logits = size * torch.randn(pairs, pairs, generator=generator, dtype=torch.float64)
            logits.requires_grad_()
            loss = find_text(logits)
            (got,) = torch.autograd.grad(loss, logits)
            want = (logits.softmax(1) - torch.eye(pairs)) / pairs
            value = -logits.log_softmax(1).diagonal().mean()
            if not torch.allclose(got, want, atol=1e-7) or not torch.allclose(loss, value):
                return False
    return True
""",
    ],
}
