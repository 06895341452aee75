"""The parts of a check: what it says of right, wrong and broken candidates."""

import math
import re

import numpy as np
import pytest
import torch

from course.teach.exercise import Draw, Exercise, agrees, attempt, decides, number


def double(x):
    return 2 * x


STOPPED = "it stops at raise NotImplementedError"
X = torch.arange(6, dtype=torch.float64).reshape(2, 3)


@pytest.mark.parametrize(
    ("candidate", "message"),
    [
        (lambda x: x.T * 2, r"expected shape \(N=2, D=3\), got \(N=3, D=2\)"),
        (lambda x: (2 * x).sum(0), r"expected shape \(N=2, D=3\), got \(3,\)"),
        (lambda x: None, "got None: is the return missing"),
        (lambda x: (2 * x).numpy(), "expected a torch tensor .* got ndarray"),
        (lambda x: (2 * x, x[0], 7), r"tensor .*, got tuple of 3: \(2, 3\), \(3,\), int$"),
        (lambda x: [2 * x], r"expected a torch tensor .*, got list of 1: \(2, 3\)$"),
        (lambda x: [8, 10], r"expected a torch tensor .*, got list \[8, 10\]$"),
        (lambda x: (2 * x).long(), "expected dtype torch.float64, got torch.int64"),
        (lambda x: (2 * x).float(), "expected dtype torch.float64, got torch.float32"),
        (lambda x: torch.gamma(x), r"AttributeError: .*, in: \(lambda x: torch.gamma"),
        (lambda x: torch.conv1d(x, 3), r"it raises TypeError: .*, in: \(lambda x: torch.conv1d"),
        (lambda x: math.exp(x), "torch has the same functions for tensors"),
        (lambda x: 2 * x / (x > 0), "it contains nan"),
        (lambda x: 2 * x + torch.rand(()), "two calls with the same inputs differ"),
        (lambda x: 2 * x + (x == 4), r"at \[1, 1\] expected 8, got 9"),
        (lambda x: x.mul_(2), "changes its input in place"),
        (lambda x: 3 * x, "three times"),
        (lambda x: x.nope, "it raises AttributeError: .*nope.*, in: "),
        (lambda x, y: x, "it raises TypeError: .*missing 1 required"),
    ],
)
def test_a_wrong_answer_gets_its_cause(candidate, message):
    found = agrees(
        "doubles", candidate, (X.clone(),), 2 * X, "N D", {"three times": lambda x: 3 * x}
    )
    assert not found.passed
    assert found.attempted
    assert re.search(message, found.message), found.message


def test_a_right_answer_passes_in_single_precision_too():
    assert agrees("doubles", double, (X,), 2 * X).passed
    assert agrees("doubles", double, (X.float() + 0.1,), 2 * X.float() + 0.2).passed
    assert not agrees("doubles", double, (X,), 2 * X + 1e-3).passed


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("edge", [torch.inf, -torch.inf])
def test_a_right_answer_that_is_not_finite_does_not_let_others_pass(edge, dtype):
    want = torch.tensor([edge, 1.0], dtype=dtype)

    def found(*values):
        return agrees("", lambda: torch.tensor(values, dtype=dtype), (), want)

    assert found(edge, 1.0).passed
    assert re.search(r"expected .*inf, got 2$", found(2.0, 1.0).message)
    assert re.search(r"expected .*inf, got .*inf", found(-edge, 1.0).message)
    assert found(torch.nan, 1.0).message == "it contains nan"
    for wrong in ((edge, 2.0), (edge, edge), (edge, -edge)):
        assert found(*wrong).message.startswith("at ")


def test_a_right_answer_with_nan_is_not_reached():
    found = agrees("", lambda: torch.ones(2), (), torch.tensor([1.0, torch.nan]))
    assert found.message == "at [1] expected nan, got 1"


def test_nan_twice_is_not_taken_for_random_numbers():
    found = agrees("doubles", lambda x: x / 0, (X,), 2 * X)
    assert found.message == "it contains nan"


def test_an_attempt_gives_what_is_returned_or_why_it_is_not():
    got, problem = attempt("doubles", double, X)
    assert torch.equal(got, 2 * X)
    assert problem is None
    got, problem = attempt("doubles", lambda x: x.nope, X)
    assert got is None
    assert (problem.name, problem.passed, problem.attempted) == ("doubles", False, True)
    assert re.search("it raises AttributeError: .*nope.*, in: ", problem.message)


def test_a_stub_is_not_attempted():
    def stub(x):
        raise NotImplementedError

    tried = attempt("", stub, X)[1]
    for found in (agrees("", stub, (X,), X), decides("", stub, double, True, ""), tried):
        assert (found.passed, found.attempted, found.message) == (False, False, STOPPED)


@pytest.mark.parametrize("verdict", [True, np.True_, torch.tensor(True)])
def test_a_verdict_may_be_any_kind_of_bool(verdict):
    assert decides("", lambda f: verdict, double, True, "no").passed
    assert decides("", lambda f: verdict, double, False, "no").message == "no"


@pytest.mark.parametrize("verdict", [1, None, "yes", torch.tensor([True, True])])
def test_a_verdict_that_is_no_bool_is_refused(verdict):
    assert decides("", lambda f: verdict, double, True, "").message.startswith("expected True or F")


def test_a_referee_cannot_see_the_name_of_what_it_judges():
    seen = []
    decides("", lambda f: seen.append(f.__name__) or True, double, True, "")
    assert seen == ["formula"]


def test_a_number_is_matched_with_known_mistakes():
    exercise = number("answer", right=0.365, wrong={"not divided": 2.0}, reference=lambda: 0.365)
    given = (0.3651, 2.0, 7.0, 0.37, "0.365", torch.tensor([0.365]))
    found = {value: exercise.run(lambda value=value: value, 0)[0] for value in given}
    assert [found[v].passed for v in found] == [True] + 5 * [False]
    assert found[0.3651].message == ""
    assert found[2.0].message == "not divided"
    assert found[7.0].message == "7 is not it"
    assert found[0.37].message.startswith("0.37: close")
    assert found["0.365"].message == "expected a plain number, got str '0.365'"
    assert "got Tensor" in found[given[-1]].message
    assert "is the return missing" in exercise.run(lambda: None, 0)[0].message

    class Agreeable(float):
        def __sub__(self, other):
            return 0.0

    for value in (Agreeable(7), True):
        assert "expected a plain number" in exercise.run(lambda value=value: value, 0)[0].message
    for wrapped in (torch.tensor(0.365), np.float32(0.365), np.array(0.365)):
        assert exercise.run(lambda wrapped=wrapped: wrapped, 0)[0].passed


def test_a_check_is_pure():
    def check(candidate, draw):
        x = draw.normal(3, draw.integer(2, 9))
        yield agrees("doubles", candidate, (x,), 2 * x, wrong={f"{x[0, 0]}": lambda x: 3 * x})

    exercise = Exercise("double", check, double)
    state = torch.get_rng_state()
    first = exercise.run(lambda x: 3 * x, seed=1)
    assert first == exercise.run(lambda x: 3 * x, seed=1)
    assert first != exercise.run(lambda x: 3 * x, seed=2)
    assert torch.equal(state, torch.get_rng_state())


def test_draws_stay_in_range():
    draw = Draw(0)
    uniform = draw.uniform(-2, 3, 1000)
    assert -2 <= uniform.min() < -1.9
    assert 2.9 < uniform.max() <= 3
    assert {draw.integer(2, 4) for _ in range(50)} == {2, 3, 4}
