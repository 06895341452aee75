"""Our U-Net against that of diffusers."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course.bench.measure import Pair, Side
from course.models.configs import DIGITS_UNET
from course.models.unet import UNetConfig
from course.training import recipes


@dataclass(frozen=True)
class UNetCase:
    """A U-Net and the pictures it is given.

    Attributes:
        config: of the network.
        size: height and width.
        inference: pictures at once.
        training: pictures per step.
    """

    config: UNetConfig
    size: tuple[int, int]
    inference: int
    training: int


_LATENTS = UNetConfig(4, 4, (64, 128, 256, 256), layers_per_block=2, norm_num_groups=32)
UNET_CASES = {
    # Digits have 28 pixels; diffusers' UNet2DModel takes only what halves evenly at every level.
    "digits": UNetCase(DIGITS_UNET, (32, 32), inference=64, training=32),
    "latents 8x8": UNetCase(_LATENTS, (8, 8), inference=32, training=16),
    "latents 32x32": UNetCase(_LATENTS, (32, 32), inference=4, training=4),
}


def unet(device: torch.device) -> Iterator[Pair]:
    """Our U-Net against diffusers' with the same weights: inference, a train step, and a train step
    as a whole run does it, with a moving average of the weights: ours as `course.training.fit`
    does it, with the fused optimizer, theirs as their users do, with `EMAModel`.
    """
    for name, case in UNET_CASES.items():
        yield from _unet_pairs(name, case, device)


def _unet_pairs(name: str, case: UNetCase, device: torch.device) -> Iterator[Pair]:
    import diffusers
    from diffusers.training_utils import EMAModel

    config = case.config
    levels = len(config.block_out_channels)
    ours = recipes.build(config).to(device)
    theirs = diffusers.UNet2DModel(
        in_channels=config.in_channels,
        out_channels=config.out_channels,
        block_out_channels=config.block_out_channels,
        layers_per_block=config.layers_per_block,
        norm_num_groups=config.norm_num_groups,
        norm_eps=config.norm_eps,
        resnet_time_scale_shift=config.resnet_time_scale_shift,
        down_block_types=("DownBlock2D",) * levels,
        up_block_types=("UpBlock2D",) * levels,
        add_attention=False,
    ).to(device)
    theirs.load_state_dict(ours.state_dict())

    generator = torch.Generator().manual_seed(0)

    def predictions(batch: int) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
        xt = torch.randn(batch, config.in_channels, *case.size, generator=generator).to(device)
        t = torch.randint(1000, (batch,), generator=generator).to(device)
        return lambda: ours(xt, t), lambda: theirs(xt, t).sample

    predict, their_predict = predictions(case.inference)
    yield Pair(
        name,
        f"inference, batch {case.inference}",
        _inference(ours, predict),
        _inference(theirs, their_predict),
    )
    predict, their_predict = predictions(case.training)
    shape = (case.training, config.out_channels, *case.size)
    noise = torch.randn(shape, generator=generator).to(device)
    yield Pair(
        name,
        f"train step, batch {case.training}",
        _train_step(ours, predict, noise),
        _train_step(theirs, their_predict, noise),
    )
    theirs.load_state_dict(ours.state_dict())
    average = EMAModel(theirs.parameters(), decay=0.999)
    yield Pair(
        name,
        f"with average, batch {case.training}",
        _train_step(ours, predict, noise, fused=True, after=_averaging(ours)),
        _train_step(theirs, their_predict, noise, after=lambda: average.step(theirs.parameters())),
    )


def _averaging(model: nn.Module) -> Callable[[], None]:
    """The moving average of the weights, as `course.training.fit` keeps it."""
    average, weights = copy.deepcopy(model).requires_grad_(False), list(model.parameters())
    return lambda: torch._foreach_lerp_(list(average.parameters()), weights, 1e-3)


def _inference(model: nn.Module, predict: Callable[[], Tensor]) -> Side:
    return Side(model.eval(), torch.inference_mode()(predict))


def _train_step(
    model: nn.Module,
    predict: Callable[[], Tensor],
    target: Tensor,
    fused: bool | None = None,
    after: Callable[[], None] = lambda: None,
) -> Side:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=fused)

    def run() -> Tensor:
        loss = F.mse_loss(predict(), target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            after()
        return loss.detach()

    return Side(model.train(), run)
