"""Every test runs with the shapes in the signatures of `course` enforced (jaxtyping, beartype)."""

import jaxtyping
import pytest

# Before anything imports `course`: the hook sees only modules imported after it.
# An int is a float here, as PEP 484 has it.
_checker = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
_hook = jaxtyping.install_import_hook("course", _checker)


@pytest.fixture
def no_typecheck():
    """Bad input as users give it: no hook, so that they see our own error."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def pytest_terminal_summary(terminalreporter):
    """A table of what the tests in parity/ measured; here, where pytest-xdist finds it."""
    gaps, counts = {}, []
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, value in report.user_properties:
                if name == "parity":
                    gaps.setdefault(value[0], []).append(value[1])
                elif name == "counts":
                    counts.append(value)
    for line in counts:
        terminalreporter.write_line(line)
    if not gaps:
        return
    terminalreporter.section("worst difference from torch, diffusers and transformers, float64")
    width = max(map(len, gaps))
    for block, values in gaps.items():
        count = f"{len(values)} comparison{'s' * (len(values) > 1)}"
        terminalreporter.write_line(f"{block:<{width}}  {max(values):.1e} in {count}")
