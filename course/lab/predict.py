"""Say what you expect before you look: predictions, what came out, and a tally of both."""

from dataclasses import dataclass
from types import EllipsisType
from typing import NamedTuple

_LETTERS = "abcde"


@dataclass
class Question:
    """A question asked in this kernel; `answer` is None until you gave one in time."""

    name: str
    answer: str | None = None
    outcome: str | None = None  # None until it is revealed

    @property
    def right(self) -> bool | None:
        """Whether the prediction came true; None while there is none, or nothing is revealed."""
        return None if None in (self.answer, self.outcome) else self.answer == self.outcome


class Tally(NamedTuple):
    """How many predictions came true, were given, and were asked for."""

    right: int
    answered: int
    asked: int


_asked: dict[str, Question] = {}


def predict(question: str, answer: str | EllipsisType = ...) -> None:
    """Record what you expect, before `reveal` shows it, and print one line that says so.

    question: its name. answer: a letter from a to e, or three dots for no prediction yet. It may be
    changed until the outcome is revealed; from then on the first one stands.
    Raises ValueError on another answer.
    """
    letter = None if answer is ... else _letter("answer", answer)
    asked = _asked.setdefault(question, Question(question))
    if asked.outcome is None:
        asked.answer = letter
    if asked.answer != letter and letter:
        first = f"your first prediction, {asked.answer}, stands" if asked.answer else "too late"
        print(f"The answer to this one is out already: {first}. Restart the kernel to try afresh.")
    elif asked.answer:
        print(f"Your prediction: {asked.answer}. Run on to see.")
    else:
        print(
            'No prediction yet: put a letter in quotes, such as "a", in place of the three dots'
            " and run this cell again (or run on)."
        )


def reveal(question: str, answer: str, because: str = "") -> None:
    """Print what came out beside what you predicted, and count it.

    question: as in `predict`. answer: the letter that came out. because: a sentence that says why.
    Raises ValueError if the question was not asked, or the answer is not a letter from a to e.
    """
    letter = _letter("answer", answer)
    if question not in _asked:
        known = ", ".join(map(repr, _asked)) or "none"
        raise ValueError(
            f"question: {question!r} was not asked: run its cell with predict({question!r}, ...)"
            f" first. Asked so far: {known}"
        )
    asked = _asked[question]
    asked.outcome = letter
    if asked.answer is None:
        line = f"The answer is {letter}; you made no prediction."
    elif asked.right:
        line = f"You predicted {asked.answer}, and {letter} it is."
    else:
        line = f"You predicted {asked.answer}; it is {letter}."
    print(f"{line} {because}".rstrip())


def tally() -> Tally:
    """Count the predictions of this kernel: right, answered, asked."""
    questions = _asked.values()
    return Tally(
        sum(q.right is True for q in questions),
        sum(q.answer is not None for q in questions),
        len(questions),
    )


def questions() -> tuple[Question, ...]:
    """List the questions of this kernel in the order asked."""
    return tuple(_asked.values())


def reset() -> None:
    """Forget every question, as a restart of the kernel does."""
    _asked.clear()


def _letter(name: str, value: object) -> str:
    letter = value.strip().lower() if isinstance(value, str) else ""
    if len(letter) != 1 or letter not in _LETTERS:
        raise ValueError(f"{name}: expected a letter from a to e in quotes, got {value!r}")
    return letter
