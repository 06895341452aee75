"""What this machine computes on: the one place that asks for a GPU."""

import torch


def gpu() -> torch.device | None:
    """CUDA's or Apple's GPU, or None where there is neither."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps") if torch.backends.mps.is_available() else None


def name(device: torch.device) -> str:
    """Of the hardware, for people."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return {"cpu": "CPU", "mps": "Apple GPU"}.get(device.type, device.type)
