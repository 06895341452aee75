import jaxtyping
import pytest
import torch

from course.models import vae


def test_shapes_in_signatures_are_enforced_here():
    with pytest.raises(jaxtyping.TypeCheckError):
        vae.kl_standard_normal(torch.zeros(3, 2), torch.zeros(3, 4))


@pytest.mark.usefixtures("no_typecheck")
def test_and_not_where_a_test_asks_for_what_users_see():
    with pytest.raises(ValueError, match="logvar"):
        vae.kl_standard_normal(torch.zeros(3, 2), torch.zeros(3, 4))
