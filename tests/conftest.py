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
