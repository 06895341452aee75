"""Every exercise of the notebooks: whole, solvable in more than one way, and not to be fooled."""

import re

import alternatives
import answers_21
import answers_22
import answers_23
import answers_24
import answers_31
import answers_32
import answers_33
import answers_34
import answers_35
import answers_41
import answers_42
import answers_51
import answers_52
import answers_54
import mutants
import pytest
from masters import WRITTEN, body, define

from course.teach import check
from course.teach.checks import EXERCISES

SEEDS = (0, 1, 2)
ANSWERS = (
    answers_21,
    answers_22,
    answers_23,
    answers_24,
    answers_31,
    answers_32,
    answers_33,
    answers_34,
    answers_35,
    answers_41,
    answers_42,
    answers_51,
    answers_52,
    answers_54,
)
MUTANTS, ALTERNATIVES = dict(mutants.MUTANTS), dict(alternatives.ALTERNATIVES)
for answers in ANSWERS:
    MUTANTS |= answers.MUTANTS
    ALTERNATIVES |= answers.ALTERNATIVES


@pytest.fixture(params=WRITTEN.values(), ids=WRITTEN.keys())
def written(request):
    return request.param


@pytest.fixture(autouse=True)
def fresh(monkeypatch, tmp_path):
    monkeypatch.setattr(check, "_outcomes", {})
    monkeypatch.setenv("COURSE_STRICT", "1")
    monkeypatch.chdir(tmp_path)


def run_cell(written, function):
    """What the check cell does with a function of the student."""
    scope = {"check": check, written.name: function}
    exec(written.check, scope)
    return scope[written.name]


def test_notebooks_and_checks_name_the_same_exercises():
    assert set(WRITTEN) == set(EXERCISES) == set(ALTERNATIVES) == set(MUTANTS)
    assert all(len(given) >= 2 for given in ALTERNATIVES.values())


def test_an_exercise_is_whole(written):
    for part in ("minutes", "point", "<details>", "Hint 1", "Hint 2", "looks like"):
        assert part in written.task, f"{written.name}: no {part!r} in the task"
    assert written.task.count("<details>") >= 4, "two hints, a trap, the look of the result"
    assert f"{written.notebook}.ipynb" in written.task
    assert re.search(rf"^def {written.name}\(", written.solution, re.M)
    assert body(written).strip()
    assert f'check.require("{written.name}")' in written.check
    assert written.points > 0


def test_the_solution_passes(written):
    solution = define(written.solution, written.name)
    assert run_cell(written, solution) is solution
    for seed in SEEDS:
        assert all(p.passed for p in EXERCISES[written.name].run(solution, seed))


@pytest.mark.parametrize(
    ("name", "which"),
    [(name, k) for name, given in ALTERNATIVES.items() for k in range(len(given))],
)
def test_other_right_answers_pass(name, which):
    written = WRITTEN[name]
    answer = define(ALTERNATIVES[name][which], name)
    assert run_cell(written, answer) is answer
    for seed in SEEDS:
        assert all(p.passed for p in EXERCISES[written.name].run(answer, seed))


def test_the_empty_cell_is_told_so(written, capsys):
    empty = written.solution.replace(body(written), "    raise NotImplementedError\n")
    with pytest.raises(check.CheckFailed, match="not attempted yet"):
        run_cell(written, define(empty, written.name))


def test_the_answer_of_the_course_never_passes(written):
    reference = EXERCISES[written.name].reference
    for borrowed in (reference, lambda *inputs: reference(*inputs)):
        with pytest.raises(check.CheckFailed):
            run_cell(written, borrowed)
    assert all(p.passed for seed in SEEDS for p in EXERCISES[written.name].run(reference, seed))


def mutated(written, old, new):
    """The right answer with one piece exchanged."""
    solution = body(written)
    assert solution.count(old) == 1, f"{old!r} stands {solution.count(old)} times in:\n{solution}"
    return define(written.solution.replace(solution, solution.replace(old, new)), written.name)


every_mutant = pytest.mark.parametrize(
    ("name", "old", "new", "cause"),
    [(name, *patch) for name, patches in MUTANTS.items() for patch in patches],
)


@every_mutant
def test_a_mutant_fails_and_the_cause_is_named(name, old, new, cause):
    written = WRITTEN[name]
    with pytest.raises(check.CheckFailed, match=re.escape(cause)):
        run_cell(written, mutated(written, old, new))


@pytest.mark.slow
@every_mutant
def test_no_seed_lets_a_mutant_pass(name, old, new, cause):
    mutant = mutated(WRITTEN[name], old, new)
    for seed in SEEDS:
        failed = [p.message for p in EXERCISES[name].run(mutant, seed) if not p.passed]
        assert failed, f"seed {seed}: the mutant passes"
        assert cause in failed[0], f"seed {seed}: {failed}"


def test_a_right_answer_passes_after_a_wrong_one(written):
    old, new, _ = MUTANTS[written.name][0]
    with pytest.raises(check.CheckFailed):
        run_cell(written, mutated(written, old, new))
    again = define(written.solution, written.name)
    assert run_cell(written, again) is again


@pytest.mark.parametrize("name", EXERCISES)
def test_every_exercise_has_mutants(name):
    assert len(MUTANTS[name]) >= (2 if EXERCISES[name].kind == "number" else 3)
