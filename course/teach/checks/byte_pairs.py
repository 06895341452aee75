"""Check of merge_step, of notebook 41."""

from dataclasses import replace

from course.teach.checks._byte_pairs import MERGE_MISTAKES, right_merge_step
from course.teach.exercise import Property, attempt, exercise

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
    for cause, mistake in MERGE_MISTAKES.items():
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
