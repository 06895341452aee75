"""The layer that a check cell calls."""

import functools
import importlib.util
import json
import math
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from course.data.toy import Gamma
from course.lab import predict
from course.models import vae
from course.teach import check


def right(mu, logvar, noise):
    return mu + noise * torch.exp(logvar / 2)


def wrong(mu, logvar, noise):
    return mu + noise * torch.exp(logvar)


def stub(mu, logvar, noise):
    raise NotImplementedError


@pytest.fixture(autouse=True)
def fresh(monkeypatch, tmp_path):
    monkeypatch.setattr(check, "_outcomes", {})
    monkeypatch.delenv("COURSE_STRICT", raising=False)
    monkeypatch.delenv("NBGRADER_EXECUTION", raising=False)
    monkeypatch.chdir(tmp_path)
    predict.reset()


@pytest.fixture
def strict(monkeypatch):
    monkeypatch.setenv("COURSE_STRICT", "1")


def test_the_student_keeps_a_right_function(capsys, strict):
    assert check.reparametrise(right) is right
    check.require("reparametrise")
    assert capsys.readouterr().out.startswith("[yours] reparametrise\n  ok  z = mu + sigma")


@pytest.mark.parametrize("answer", [wrong, stub])
def test_a_wrong_or_missing_function_is_replaced_by_a_marked_one_that_works(answer, strict):
    given = check.reparametrise(answer)
    assert given.__course_reference__ == "reparametrise"
    one = torch.ones(2, 3)
    torch.testing.assert_close(given(one, one, one), right(one, one, one))
    with pytest.raises(check.CheckFailed, match="reparametrise: "):
        check.require("reparametrise")


def test_the_badge_names_the_cause(capsys):
    check.reparametrise(wrong)
    assert "this is exp(logvar), the variance" in capsys.readouterr().out
    check.reparametrise(stub)
    assert "[ours] reparametrise: it is not attempted yet" in capsys.readouterr().out


def test_running_a_failed_check_again_never_passes(capsys, strict):
    given = check.reparametrise(wrong)
    for _ in range(3):
        given = check.reparametrise(given)
        assert (
            "this is the course's: run your own cell again"
            in capsys.readouterr().out.split("[ours]")[-1]
        )
        with pytest.raises(check.CheckFailed, match="this is exp"):
            check.require("reparametrise")
    assert check.reparametrise(right) is right
    check.require("reparametrise")


def in_a_thread(mu, logvar, noise):
    with ThreadPoolExecutor() as pool:
        return pool.submit(vae.reparametrise, mu, logvar, noise).result()


def unwatched(mu, logvar, noise):
    sys.setprofile(None)
    return vae.reparametrise(mu, logvar, noise)


def reloaded(mu, logvar, noise):
    path = vae.__file__
    spec = importlib.util.spec_from_file_location("elsewhere", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.reparametrise(mu, logvar, noise)


class Callable:
    def __call__(self, mu, logvar, noise):
        return vae.reparametrise(mu, logvar, noise)


def calls_it(mu, logvar, noise):
    return vae.reparametrise(mu, logvar, noise)


@functools.wraps(right)
def in_disguise(mu, logvar, noise):
    return vae.reparametrise(mu, logvar, noise)


@pytest.mark.parametrize(
    "borrowed",
    [
        vae.reparametrise,
        functools.partial(vae.reparametrise),
        lambda *inputs: vae.reparametrise(*inputs),
        calls_it,
        in_disguise,
        in_a_thread,
        unwatched,
        reloaded,
        Callable(),
        vae.kl_standard_normal,
    ],
)
def test_the_answer_of_the_course_never_passes(borrowed, strict):
    given = check.reparametrise(borrowed)
    assert hasattr(given, "__course_reference__")
    with pytest.raises(check.CheckFailed):
        check.require("reparametrise")


def test_parts_of_the_answer_from_the_course_do_not_pass_either(capsys):
    def elbo(x, x_mean, mu, logvar, variance):
        kl = vae.kl_standard_normal(mu, logvar)
        return vae.gaussian_log_likelihood(x, x_mean, variance) - kl

    check.elbo(elbo)
    assert "it calls code of the course: write it yourself" in capsys.readouterr().out


def test_an_answer_that_was_lent_for_another_exercise_may_be_used(strict):
    kl = check.kl_standard_normal(stub)

    def elbo(x, x_mean, mu, logvar, variance):
        terms = (x - x_mean) ** 2 / variance + math.log(2 * math.pi * variance)
        return -0.5 * terms.sum(1) - kl(mu, logvar)

    assert check.elbo(elbo) is elbo
    check.require("elbo")


def test_a_referee_may_call_what_it_is_given(strict):
    def catches_bug(sample):
        noise = torch.randn(50_000, 1, generator=torch.Generator().manual_seed(0))
        for logvar in (-2.0, 1.0):
            z = sample(torch.full_like(noise, 1.0), torch.full_like(noise, logvar), noise)
            if abs(z.mean() - 1) > 0.05 or abs(z.std() / math.exp(logvar / 2) - 1) > 0.05:
                return True
        return False

    assert check.catches_bug(catches_bug) is catches_bug


def test_an_answer_that_forgets_the_gradient_is_told(capsys):
    def kl_standard_normal(mu, logvar):
        return 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(-1).detach()

    check.kl_standard_normal(kl_standard_normal)
    assert "no gradient reaches mu or logvar: is there a detach" in capsys.readouterr().out


def test_an_answer_with_noise_of_its_own_is_told(capsys):
    def reparametrise(mu, logvar, noise):
        return mu + (logvar / 2).exp() * torch.randn_like(noise)

    check.reparametrise(reparametrise)
    assert "does it draw random numbers" in capsys.readouterr().out


class Liar(torch.Tensor):
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return True if func is torch.allclose else super().__torch_function__(func, types, args)


def test_a_tensor_that_lies_about_itself_does_not_pass(capsys):
    check.reparametrise(lambda mu, logvar, noise: (0 * mu).as_subclass(Liar))
    assert "expected a torch tensor" in capsys.readouterr().out


def test_a_borrowed_answer_does_not_undo_a_pass(strict, capsys):
    check.reparametrise(right)
    check.reparametrise(vae.reparametrise)
    check.require("reparametrise")
    assert "yours passed before and counts" in capsys.readouterr().out


@pytest.mark.parametrize("shortcut", [Gamma.pdf, Gamma.log_prob])
def test_a_class_that_gives_the_answer_away_does_not_pass(shortcut, capsys):
    def gamma_pdf(x, alpha, beta):
        density = shortcut(Gamma(alpha, beta), x)
        return density.exp() if shortcut is Gamma.log_prob else density

    check.gamma_pdf(gamma_pdf)
    assert "it calls code of the course" in capsys.readouterr().out


def test_what_torch_cannot_do_is_not_a_missing_answer(capsys):
    check.to_model_range(lambda pixels: (2 * pixels.to(torch.uint16) - 255) / 255)
    assert "it raises NotImplementedError: " in capsys.readouterr().out


def test_tampering_with_torch_does_not_help(monkeypatch, strict):
    monkeypatch.setattr(torch, "allclose", lambda *_, **__: True)
    check.reparametrise(wrong)
    with pytest.raises(check.CheckFailed):
        check.require("reparametrise")


def test_a_function_that_became_wrong_undoes_a_pass(strict):
    check.reparametrise(right)
    check.reparametrise(wrong)
    with pytest.raises(check.CheckFailed):
        check.require("reparametrise")


def test_require_is_silent_unless_grading(monkeypatch):
    check.require("reparametrise")
    check.reparametrise(wrong)
    check.require("reparametrise")
    monkeypatch.setenv("NBGRADER_EXECUTION", "validate")
    with pytest.raises(check.CheckFailed):
        check.require("reparametrise")


def test_require_insists_on_a_check(strict):
    with pytest.raises(check.CheckFailed, match="run its check first"):
        check.require("reparametrise")


@pytest.mark.usefixtures("no_typecheck")
def test_a_result_in_place_of_a_function_is_explained(capsys):
    check.reparametrise(torch.zeros(3))
    assert "expected a function, got Tensor" in capsys.readouterr().out


def test_the_profiler_of_others_survives():
    def theirs(*_):
        return None

    sys.setprofile(theirs)
    try:
        check.reparametrise(wrong)
        check.reparametrise(lambda *_: 1 / 0)
        assert sys.getprofile() is theirs
    finally:
        sys.setprofile(None)


def test_warnings_of_a_right_function_cost_no_marks(capsys):
    def warns(mu, logvar, noise):
        warnings.warn("look here", stacklevel=1)
        return right(mu, logvar, noise)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_: print(message, file=sys.stderr)
        check.reparametrise(warns)
    out, err = capsys.readouterr()
    assert err == ""
    assert "look here" in out
    assert "[yours]" in out


def test_the_global_generator_is_left_alone():
    torch.manual_seed(3)
    want = torch.randn(4)
    torch.manual_seed(3)
    check.reparametrise(right)
    check.catches_bug(lambda sample: True)
    assert torch.equal(torch.randn(4), want)


@pytest.mark.usefixtures("no_typecheck")
def test_numbers(strict, capsys):
    def skew_of_mean():
        return 0.365

    assert check.number("skew_of_mean", skew_of_mean) is skew_of_mean
    check.require("skew_of_mean")
    given = check.number("skew_of_mean", lambda: 2)
    assert given() == pytest.approx(0.3651, abs=1e-4)
    assert "the skewness of one draw" in capsys.readouterr().out
    with pytest.raises(ValueError, match="does not ask for a number"):
        check.number("elbo", lambda: 2)
    check.number("skew_of_mean", 0.365)
    assert "expected a function, got float" in capsys.readouterr().out


def test_unknown_names_list_the_near_ones():
    with pytest.raises(AttributeError, match="did you mean reparametrise"):
        check.reparametrize  # noqa: B018
    with pytest.raises(ValueError, match="did you mean elbo"):
        check.require("elbow")
    assert {"elbo", "number", "require", "summary"} <= set(dir(check))


def test_the_summary_counts(capsys):
    check.reparametrise(right)
    check.kl_standard_normal(lambda mu, logvar: -mu.sum(-1))
    predict.predict("which", "a")
    predict.reveal("which", "a")
    capsys.readouterr()
    check.summary()
    out = capsys.readouterr().out
    assert "1 of 2 exercises are yours" in out
    assert "1 right of 1 given, 1 asked" in out


def test_messages_are_escaped_in_html():
    outcome = check.Outcome("name", "failed", "<script>", ())
    assert "<script>" not in outcome._repr_html_()
    assert "&lt;script&gt;" in outcome._repr_html_()


def test_progress_is_recorded_in_a_workspace_only(tmp_path, capsys):
    check.reparametrise(right)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".course").mkdir()
    check.reparametrise(wrong)
    file = tmp_path / ".course" / "progress" / "reparametrise.json"
    entry = json.loads(file.read_text())
    assert entry["status"] == "failed"
    assert entry["exercise"] == "reparametrise"
    assert "variance" in entry["message"]
    check.reparametrise(check.reparametrise(right))
    assert json.loads(file.read_text())["status"] == "passed"
    assert [p.name for p in file.parent.iterdir()] == ["reparametrise.json"]


def test_progress_that_cannot_be_saved_is_said_and_does_not_stop_the_check(tmp_path, capsys):
    (tmp_path / ".course").mkdir()
    (tmp_path / ".course" / "progress").write_text("not a folder")
    assert check.reparametrise(right) is right
    assert "your progress could not be saved" in capsys.readouterr().out
