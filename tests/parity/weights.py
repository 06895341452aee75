"""Random numbers and weights for a block and its oracle."""

import torch


def draws(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random(module):
    """No weight at 0 or 1, as norms and what is zero-initialised have them at first."""
    module.double().eval()
    for i, p in enumerate(module.parameters()):
        p.data = draws(*p.shape, seed=100 + i) * (0.3 if p.ndim == 1 else p[0].numel() ** -0.5)
        if p.ndim == 1:
            p.data += 0.5
    return module


def twins(ours, theirs):
    """Both with the same random weights, under the same names."""
    theirs.double().eval().load_state_dict(random(ours).state_dict())  # strictly
    return ours, theirs
