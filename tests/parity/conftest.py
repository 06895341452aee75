"""One comparison for all, and a table of the worst difference that each block showed."""

import pytest
import torch

TOLERANCE = 1e-10


@pytest.fixture
def same(record_property):
    """Assert that two tensors of float64 agree to 1e-10; keep the difference for the table."""

    def compare(block, ours, theirs):
        assert ours.dtype == theirs.dtype == torch.float64
        assert ours.shape == theirs.shape
        worst = (ours - theirs).abs().max().item()
        record_property("parity", (block, worst))
        assert worst <= TOLERANCE
        # Two constants would agree, too.
        assert ours.std() > 1e-3

    return compare


def pytest_terminal_summary(terminalreporter):
    gaps = {}
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, value in report.user_properties:
                if name == "parity":
                    gaps.setdefault(value[0], []).append(value[1])
    if not gaps:
        return
    terminalreporter.section("worst difference from diffusers, float64")
    width = max(map(len, gaps))
    for block, values in gaps.items():
        count = f"{len(values)} comparison{'s' * (len(values) > 1)}"
        terminalreporter.write_line(f"{block:<{width}}  {max(values):.1e} in {count}")
