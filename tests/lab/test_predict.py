"""Predictions: what is recorded, what may change, what counts."""

import pytest

from course.lab import predict as module
from course.lab.predict import predict, questions, reset, reveal, tally


@pytest.fixture(autouse=True)
def _fresh():
    reset()
    yield
    reset()


@pytest.fixture
def said(capsys):
    """The one line that the last call printed."""

    def line():
        out = capsys.readouterr().out
        assert out.count("\n") == 1
        return out

    return line


def test_right_and_wrong_and_none(said):
    predict("q1", "a")
    assert said() == "Your prediction: a. Run on to see.\n"
    reveal("q1", "a", because="It has no skew.")
    assert said() == "You predicted a, and a it is. It has no skew.\n"
    predict("q2", "b")
    said()
    reveal("q2", "c")
    assert said() == "You predicted b; it is c.\n"
    predict("q3", ...)
    assert said().startswith('No prediction yet: put a letter in quotes, such as "a", in')
    reveal("q3", "e")
    assert said() == "The answer is e; you made no prediction.\n"
    assert tally() == (1, 2, 3)
    assert [(q.name, q.answer, q.outcome, q.right) for q in questions()] == [
        ("q1", "a", "a", True),
        ("q2", "b", "c", False),
        ("q3", None, "e", None),
    ]


def test_may_change_until_revealed_and_not_after(said):
    predict("q", "a")
    said()
    predict("q", "b")
    assert "Your prediction: b." in said()
    reveal("q", "a")
    assert said() == "You predicted b; it is a.\n"
    predict("q", "a")
    assert "your first prediction, b, stands" in said()
    assert tally() == (0, 1, 1)
    reveal("q", "a")
    assert said() == "You predicted b; it is a.\n"


def test_a_prediction_after_the_answer_does_not_count(said):
    predict("q", ...)
    said()
    reveal("q", "a")
    said()
    predict("q", "a")
    assert "too late" in said()
    assert tally() == (0, 0, 1)


def test_running_again_changes_nothing(said):
    for _ in range(3):
        predict("q", "a")
        assert said() == "Your prediction: a. Run on to see.\n"
    for _ in range(3):
        reveal("q", "a")
        said()
        predict("q", "a")
        assert said() == "Your prediction: a. Run on to see.\n"
        predict("q", ...)  # the dots put back
        assert "Your prediction: a." in said()
    assert tally() == (1, 1, 1)


def test_dots_take_an_answer_back_before_the_reveal(said):
    predict("q", "a")
    said()
    predict("q", ...)
    assert "No prediction yet" in said()
    assert tally() == (0, 0, 1)


def test_capitals_and_spaces(said):
    predict("q", " B ")
    assert "Your prediction: b." in said()


@pytest.mark.usefixtures("no_typecheck")
@pytest.mark.parametrize("answer", ["", "f", "ab", "1", 1, None, True, ["a"]])
def test_other_answers_are_refused_and_not_recorded(answer):
    with pytest.raises(ValueError, match="answer: expected a letter from a to e"):
        predict("q", answer)
    assert tally() == (0, 0, 0)
    predict("q", "a")
    with pytest.raises(ValueError, match="answer: expected a letter from a to e"):
        reveal("q", answer)
    assert questions()[0].outcome is None


def test_revealing_what_was_not_asked():
    predict("clt_rate", "a")
    with pytest.raises(ValueError, match=r"'clt' was not asked.*Asked so far: 'clt_rate'"):
        reveal("clt", "a")
    assert tally() == (0, 1, 1)


def test_is_light():
    heavy = {"torch", "matplotlib", "IPython"}
    assert not heavy & {getattr(v, "__name__", "") for v in vars(module).values()}
