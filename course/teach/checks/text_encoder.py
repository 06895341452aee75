"""Checks of notebook 41."""

import math
from dataclasses import replace

import torch
from torch.nn import functional as F

from course.teach.checks._common import recognised
from course.teach.checks._text_encoder import (
    COUNTING_MISTAKES,
    LOSS_MISTAKES,
    MASK_MISTAKES,
    MERGE_MISTAKES,
    POOL_MISTAKES,
    RUN_MISTAKES,
    TIE_MISTAKES,
    finding,
    others_only,
    right_contrastive_loss,
    right_merge_step,
    right_pool_at_end,
    right_text_mask,
)
from course.teach.exercise import (
    Property,
    attempt,
    decides,
    differentiable,
    exercise,
    judges,
)

_MERGE_MISTAKES = MERGE_MISTAKES | RUN_MISTAKES | TIE_MISTAKES
_LETTERS = ("a", "b", "c", "e", "o", "t", "Z", "E", "é", ".", "+", "th", "an", "ab", "ca")


def _why_no_step(got):
    """Why what came back is not a pair and a dict of words, or None."""
    if not isinstance(got, tuple | list) or len(got) != 2:
        came = "None: is the return missing?" if got is None else f"{got!r}"[:80]
        return f"expected two things, the pair and the words with it joined, got {came}"
    pair, merged = got
    if isinstance(pair, dict) and not isinstance(merged, dict):
        return "the two are returned in the other order: first the pair, then the words"
    if pair is not None and not _is_word(pair, 2):
        return f"expected a tuple of two symbols for the pair, got {pair!r}"[:120]
    if not isinstance(merged, dict):
        return f"expected a dict of words and counts, got {type(merged).__name__}"
    for word, count in merged.items():
        if not _is_word(word):
            return f"expected tuples of symbols in the dict, got {word!r}"[:120]
        if type(count) is not int:
            return f"expected plain integers for the counts, got {count!r}"[:120]
    return None


def _is_word(word, length=None):
    strings = type(word) is tuple and all(type(symbol) is str for symbol in word)
    return strings and length in (None, len(word))


def _why_another_step(got, want):
    """What is different about a step."""
    (pair, merged), (best, right) = got, want
    if best is None:
        return "no word has two symbols left: expected None and the words as they are"
    if pair != best:
        return f"the pair: expected {best}, got {pair}"
    for word, count in right.items():
        if word not in merged:
            return f"expected the word {word} after joining {best}, it is missing"
        if merged[word] != count:
            return f"the word {word}: expected the count {count}, got {merged[word]}"
    return f"the word {next(w for w in merged if w not in right)} should not be there"


def _answer(function, words):
    """What a function makes of the words, or why it makes nothing."""
    got, problem = attempt("", function, dict(words))
    if problem:
        return problem.message.split(", in: ")[0]
    return _why_no_step(got) or (got[0], dict(got[1]))


def _cause(candidate, corpora):
    """The mistake that answers as the candidate wherever there is a pair, or None."""
    corpora = [words for words in corpora if right_merge_step(words)[0]]
    answers = [_answer(candidate, words) for words in corpora]
    for cause, mistake in _MERGE_MISTAKES.items():
        if all(
            _answer(mistake, words) == answer
            for words, answer in zip(corpora, answers, strict=True)
        ):
            return cause
    return None


def _steps(name, candidate, group, corpora):
    """Property: the candidate makes the right step for each dict of words of a group."""
    for words in group:
        given, want = dict(words), right_merge_step(dict(words))
        got, problem = attempt(name, candidate, given)
        if problem:
            message = problem.message
            if want[0] is None and problem.attempted:
                message = f"no word has two symbols left: return None and words; {message}"
            elif problem.attempted:
                message = _cause(candidate, corpora) or message
            return replace(problem, message=message)
        if message := _why_no_step(got):
            return Property(name, False, message)
        if (got[0], dict(got[1])) != want:
            message = _cause(candidate, corpora) or _why_another_step(got, want)
            return Property(name, False, message)
        if given != words:
            message = "it changes the dict it is given: make a new one"
            return Property(name, False, message)
    return Property(name, True)


def _chosen(draw, items, n):
    """Some of the items in random order."""
    order = draw.uniform(0, 1, len(items)).argsort().tolist()
    return [items[i] for i in order[:n]]


def _corpus(draw, n, alphabet, lengths, most=9):
    """Random words with counts."""
    words = {}
    for _ in range(n):
        length = draw.integer(*lengths)
        symbols = [alphabet[draw.integer(0, len(alphabet) - 1)] for _ in range(length)]
        symbols[-1] += "</w>"
        words[tuple(symbols)] = draw.integer(1, most)
    return words


def _with_relatives(draw, words):
    """Besides, words that look like those with the best pair, or become equal to them."""
    (a, b), merged = right_merge_step(words)
    joined = [word for word in merged if word not in words]
    words = {word: words.get(word, draw.integer(1, 9)) for word in [*words, *joined[:2]]}
    words |= {(f"x{a}", b, "y</w>"): 1, (b, a, "y</w>"): 1}
    return {word: words[word] for word in _chosen(draw, list(words), len(words))}


@exercise(reference=right_merge_step)
def merge_step(candidate, draw):
    def corpora(times, n, size, lengths, most=9):
        made = (
            _corpus(draw, n, _chosen(draw, _LETTERS, size), lengths, most) for _ in range(times)
        )
        return [words for words in made if right_merge_step(words)[0]]

    text = ("low</w>", "lower</w>", "newest</w>", "widest</w>")
    spelled = [(*word[: -len("</w>") - 1], word[-len("</w>") - 1 :]) for word in text]
    a, b, c, d, e = _chosen(draw, "abcdefghij", 5)
    n = draw.integer(4, 9)
    before, behind = sorted((d, e))
    groups = {
        "four words": [{word: draw.integer(2, 900) for word in spelled}],
        "words of few symbols": corpora(6, 6, 4, (2, 6)),
        "words that are alike, or become equal": [
            _with_relatives(draw, words) for words in corpora(6, 5, 3, (3, 6))
        ],
        "one symbol several times in a row": [
            {(a, a, a, b): n, (c, d, e): n + 1},
            *corpora(8, 4, 1, (3, 7)),
            *corpora(4, 5, 2, (4, 9)),
        ],
        "symbols of more than one letter": [
            {
                (a + b, c, d): n,
                (a + b, c, e): n + 1,
                (a, b + c, d): 2,
                (e + a + b, c, d): 1,
            }
        ],
        "symbols that are no letters": [
            {(a, mark, b): n, (a, c, b): 2, (a, d): 1, (a + a, b): 1} for mark in ".+*?$|("
        ],
        "pairs that occur equally often": [
            *corpora(12, 6, 6, (2, 2), 1),
            *corpora(8, 4, 5, (2, 4), 2),
            # By their joined text the second one would come first.
            {(a, behind): n, (a + before, b): n},
            {(a + before, b): n, (a, behind): n},
        ],
        "one word": corpora(3, 1, 2, (2, 12)),
        "long words": corpora(1, 3, 2, (15, 30)),
        "words of one symbol among others": corpora(4, 8, 5, (1, 3)),
        "no word has two symbols left": [_corpus(draw, 4, _LETTERS, (1, 1)), {}],
    }
    everything = [words for group in groups.values() for words in group]
    for name, group in groups.items():
        yield _steps(name, candidate, group, everything)


def _texts(draw, firsts, length, end, highest=11):
    """Tokens with the first end tokens at these places; other numbers are not `end`."""
    tokens = draw.uniform(0, highest, len(firsts), length).long()
    tokens += tokens >= end
    return tokens.where(torch.arange(length) < torch.tensor(firsts)[:, None], end)


def _told_apart(make, right, wrong, tries=50):
    """Random inputs for which all mistakes differ, from the right answer and from each other."""
    for _ in range(tries):
        inputs, seen = make(), []
        for function in (right, *wrong.values()):
            answer, problem = attempt("", function, *inputs)
            if problem is None:
                seen.append(answer.double())
        if not any(
            a.shape == b.shape and torch.allclose(a, b, rtol=1e-4)
            for i, a in enumerate(seen)
            for b in seen[:i]
        ):
            break
    return inputs


def _endings(draw, batch, length):
    """Places of first end tokens, all different; the first text is no longest and no shortest."""
    low, middle, *others = sorted(_chosen(draw, range(1, length - 1), batch))
    return [middle, *_chosen(draw, [low, *others], batch - 1)]


@exercise(reference=right_text_mask)
def text_mask(candidate, draw):
    def looks(name, tokens, end):
        inputs = (tokens, end)
        want = right_text_mask(*inputs)
        return recognised(name, candidate, inputs, want, MASK_MISTAKES, "B M M")

    def drawn():
        batch, length, end = draw.integer(3, 4), draw.integer(7, 9), draw.integer(4, 7)
        return _texts(draw, _endings(draw, batch, length), length, end), end

    yield looks("texts of several lengths", *_told_apart(drawn, right_text_mask, MASK_MISTAKES))
    b, m = draw.integer(3, 4), draw.integer(10, 12)
    yield looks("the end token has the largest number", _texts(draw, [2, m - 2, 4], m, 11), 11)
    yield looks("the end token is 0", _texts(draw, [m - 3, 3, 5, 1], m, 0), 0)
    yield looks("texts without filling", _texts(draw, [m - 1] * b, m, 5), 5)
    yield looks("one text", _texts(draw, [draw.integer(2, 4)], m, 6), 6)
    yield looks("as many texts as tokens", _texts(draw, [1, 3, 2, 4, 2], 5, 3), 3)
    yield looks("more texts than tokens", _texts(draw, [2, 1, 1, 2, 0], 3, 4), 4)
    yield looks("a text with nothing but end tokens", _texts(draw, [0, 2], m, 7), 7)
    yield looks("one token", _texts(draw, [0] * b, 1, 7), 7)
    lengths = [draw.integer(20, 70), draw.integer(5, 15)]
    name = "77 tokens with the numbers of CLIP"
    yield looks(name, _texts(draw, lengths, 77, 49407, 49407), 49407)


@exercise(reference=right_pool_at_end)
def pool_at_end(candidate, draw):
    def given(tokens, d, dtype=torch.float64):
        return draw.normal(*tokens.shape, d).to(dtype), tokens

    def looks(name, hidden, tokens, end):
        inputs = (hidden, tokens, end)
        want, wrong = right_pool_at_end(*inputs), POOL_MISTAKES | COUNTING_MISTAKES
        return recognised(name, candidate, inputs, want, wrong, "B D")

    def drawn():
        batch, length, end = draw.integer(3, 4), draw.integer(7, 9), draw.integer(4, 7)
        tokens = _texts(draw, _endings(draw, batch, length), length, end)
        return *given(tokens, draw.integer(5, 6)), end

    inputs = _told_apart(drawn, right_pool_at_end, POOL_MISTAKES)
    yield looks("texts of several lengths", *inputs)
    b, m, d = draw.integer(3, 4), draw.integer(10, 12), draw.integer(5, 6)
    name = "the end token has the largest number"
    yield looks(name, *given(_texts(draw, [2, m - 2, 4], m, 11), d), 11)
    yield looks("the end token is 0", *given(_texts(draw, [m - 3, 3, 5, 1], m, 0), d), 0)
    yield looks("texts without filling", *given(_texts(draw, [m - 1] * b, m, 5), d), 5)
    yield looks("one text", *given(_texts(draw, [draw.integer(2, 4)], m, 6), d), 6)
    name = "as many texts as tokens, and as many axes"
    yield looks(name, *given(_texts(draw, [1, 3, 2, 4, 2], 5, 3), 5), 3)
    yield looks("more texts than tokens", *given(_texts(draw, [2, 1, 1, 2, 0], 3, 4), d), 4)
    name = "a text with nothing but end tokens"
    yield looks(name, *given(_texts(draw, [0, 2], m, 7), d), 7)
    tokens = _texts(draw, [2, m - 3, 4], m, 5)
    tokens[:, -2] = torch.tensor([1, 9, 0])
    tokens[2, -3] = 7
    yield looks("other numbers behind the first end token", *given(tokens, d), 5)
    yield looks("one token, one axis", *given(_texts(draw, [0] * b, 1, 7), 1), 7)
    tokens = _texts(draw, [3, m - 2, 1], m, 4)
    yield looks("float32", *given(tokens, d + 2, torch.float32), 4)
    tokens = _texts(draw, [draw.integer(20, 70), draw.integer(5, 15)], 77, 49407, 49407)
    yield looks("77 tokens with the numbers of CLIP", *given(tokens, d), 49407)
    name = "gradients by the vectors"
    yield differentiable(name, candidate, right_pool_at_end, inputs, {"hidden": 0})


NAN = "it contains nan: exp overflows, cross_entropy and log_softmax take the largest off before"


@exercise(reference=right_contrastive_loss)
def contrastive_loss(candidate, draw):
    def drawn(b, d, log_scale, spread=1.0):
        sizes = torch.exp(spread * draw.normal(2, b, 1))
        images, texts = sizes * draw.normal(2, b, d)
        return images, texts, torch.tensor(log_scale, dtype=torch.float64)

    def looks(name, inputs):
        want = right_contrastive_loss(*inputs)
        found = recognised(name, candidate, inputs, want, LOSS_MISTAKES)
        if found.message == "it contains nan":
            found = replace(found, message=NAN)
        elif " inf" in found.message.split("got")[-1]:
            found = replace(found, message=NAN.replace("nan", "inf"))
        return found

    b, d = draw.integer(4, 5), draw.integer(7, 8)
    inputs = _told_apart(
        lambda: drawn(b, d, float(draw.uniform(1.3, 1.9))), right_contrastive_loss, LOSS_MISTAKES
    )
    yield looks("fewer pairs than axes", inputs)
    yield looks("more pairs than axes", drawn(d + 2, 3, 1.2))
    yield looks("as many pairs as axes", drawn(6, 6, 0.7))
    yield looks("two pairs", drawn(2, d, 0.9))
    yield looks("one pair: nothing to tell apart", drawn(1, d, 0.8))
    yield looks("a scale of 1", drawn(b, d + 3, 0.0))
    yield looks("a scale below 1", drawn(b, d, -0.6))
    yield looks("vectors a thousand times as long or as short", drawn(b, d, 0.8, spread=5.0))
    images, texts, scale = drawn(b, d, 1.1)
    yield looks("texts next to their pictures", (images, images + 0.1 * texts, scale))
    images[0] = -images[-1]  # at this scale no single number holds exp of the difference
    hard = (images, images.roll(1, 0) + 0.01 * texts, torch.tensor(100.0).double().log())
    yield looks("texts next to other pictures, a scale of 100", hard)
    yield looks("float32", tuple(x.float() for x in drawn(b + 2, d, 1.3)))
    yield looks("float32, a scale of 100", tuple(x.float() for x in hard))
    by = {"images": 0, "texts": 1, "log_scale": 2}
    name = "gradients by pictures, texts and log_scale"
    yield differentiable(name, candidate, right_contrastive_loss, inputs, by)


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


def _referee_axis(find_text):
    generator = torch.Generator().manual_seed(0)
    for n in (2, 3, 4, 7):
        for size in (1, 10):
            logits = size * torch.randn(n, n, generator=generator, dtype=torch.float64)
            got, want = find_text(logits), finding(logits)
            if got.shape != want.shape or not torch.allclose(got, want, rtol=1e-6, atol=1e-9):
                return False
    return True


@exercise(reference=_referee_axis, kind="referee")
def referee_axis(candidate, draw):
    right = {
        "the right loss": finding,
        "the right loss, by log-sum-exp": _by_logsumexp,
        "the right loss, in loops": _by_loops,
        "the right loss, of the transposed logits over axis 0": _by_columns,
        "the right loss, with the labels as rows of the unit matrix": lambda logits: (
            F.cross_entropy(logits, torch.eye(len(logits), dtype=logits.dtype))
        ),
    }
    why = (
        "what you compare with is wrong (pictures are rows: the softmax runs over the texts, "
        "axis 1, and the mean over pictures), or the test is too strict"
    )
    hints = {
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
        "look which text each picture should find: the diagonal": {
            "the labels shifted by one": lambda logits: finding(logits.roll(1, 1)),
            "the labels all 0": lambda logits: (logits.logsumexp(1) - logits[:, 0]).mean(),
            "the labels backwards": lambda logits: finding(logits.flip(1)),
            "the best text taken for the own one": lambda logits: (
                logits.logsumexp(1) - logits.amax(1)
            ).mean(),
        },
        "every picture counts, found or not": {
            "the first picture only": lambda logits: _each(logits)[0],
            "the last picture left out": lambda logits: _each(logits)[:-1].mean(),
            "the worst picture only": lambda logits: _each(logits).amax(),
            "the median of the pictures": lambda logits: _each(logits).quantile(0.5),
            "only the pictures that do not find their text": _missed,
        },
        "try more than two pairs: with two there is only one other text": {
            "the hardest other text only": _against(_hardest),
            "the next text only": _against(_next),
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
        "each text counts as another one, those behind the own one, too": {
            "the texts behind the own one left out": _against(_before),
            "the texts before the own one left out": _against(lambda logits: _before(logits).T),
        },
        "try logits ten times as large, too": {
            "logits that stop at 4": lambda logits: finding(logits.clamp(-4, 4)),
        },
        "try logits of both signs": {
            "the sizes of the logits without their signs": lambda logits: finding(logits.abs()),
        },
        "compare more digits: that is too coarse a tolerance": {
            "a loss 0.5 % too large": lambda logits: 1.005 * finding(logits),
            "a loss 0.5 % too small": lambda logits: 0.995 * finding(logits),
            "one part in a hundred of the other axis": lambda logits: (
                0.99 * finding(logits) + 0.01 * _printed(logits)
            ),
        },
    }
    wrong = {
        cause: (formula, hint) for hint, found in hints.items() for cause, formula in found.items()
    }
    yield from judges(candidate, right, why, wrong)
    name, message = "accepts the right loss, asked again", f"asked again, it rejects it: {why}"
    yield decides(name, candidate, finding, True, message)
