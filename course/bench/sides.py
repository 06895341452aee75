"""What a model is made to do while it is timed, and our configurations in diffusers' words."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course.bench.measure import Side
from course.models.unet_config import UNetConfig
from course.training.fit import follow


def inference(model: nn.Module, predict: Callable[[], Tensor]) -> Side:
    """A call without gradients."""
    return Side(model.eval(), torch.inference_mode()(predict))


def train_step(
    model: nn.Module,
    predict: Callable[[], Tensor],
    target: Tensor,
    fused: bool | None = None,
    after: Callable[[], None] = lambda: None,
) -> Side:
    """Forward, squared error, backward, AdamW; then what `after` does with the new weights."""
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


def averaging(model: nn.Module) -> Callable[[], None]:
    """The moving average of the weights, as `course.training.fit` keeps it."""
    average = copy.deepcopy(model).requires_grad_(False)
    return lambda: follow(average, model, 0.999)


def unet_options(config: UNetConfig) -> dict[str, Any]:
    """Arguments that give diffusers' `UNet2DModel`, or its conditional one, the same network."""
    kinds = ["CrossAttn" * config.attends(i) for i in range(len(config.block_out_channels))]
    options = {
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "block_out_channels": config.block_out_channels,
        "layers_per_block": config.layers_per_block,
        "norm_num_groups": config.norm_num_groups,
        "norm_eps": config.norm_eps,
        "resnet_time_scale_shift": config.resnet_time_scale_shift,
        "num_class_embeds": config.num_class_embeds,
        "down_block_types": tuple(f"{kind}DownBlock2D" for kind in kinds),
        "up_block_types": tuple(f"{kind}UpBlock2D" for kind in reversed(kinds)),
    }
    if config.cross_attention_dim is None:
        return options | {"add_attention": False}
    if config.projection_class_embeddings_input_dim is not None:
        options |= {
            "class_embed_type": "simple_projection",
            "projection_class_embeddings_input_dim": config.projection_class_embeddings_input_dim,
        }
    return options | {
        "cross_attention_dim": config.cross_attention_dim,
        # So it is named there: the number of heads.
        "attention_head_dim": config.num_attention_heads,
    }
