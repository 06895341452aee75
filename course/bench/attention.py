"""Our attention against that of diffusers."""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from course.bench.measure import Pair
from course.bench.sides import inference, train_step
from course.models.attention import Attention
from course.models.transformer import Transformer2DModel

# Of the finest level of Stable Diffusion 1.5, at a quarter of its pixels.
CHANNELS, HEADS, CONTEXT, TOKENS, SIZE = 320, 8, 768, 77, (32, 32)


def attention(device: torch.device) -> Iterator[Pair]:
    """Self-attention, cross-attention and the spatial transformer: inference and a train step."""
    from diffusers import Transformer2DModel as TheirTransformer
    from diffusers.models.attention_processor import Attention as TheirAttention

    width = CHANNELS // HEADS
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(2, SIZE[0] * SIZE[1], CHANNELS, generator=generator).to(device)
    picture = torch.randn(2, CHANNELS, *SIZE, generator=generator).to(device)
    words = torch.randn(2, TOKENS, CONTEXT, generator=generator).to(device)
    cases = {
        "self": (
            Attention(CHANNELS, None, HEADS, width),
            TheirAttention(CHANNELS, None, HEADS, dim_head=width),
            (pixels,),
        ),
        "cross": (
            Attention(CHANNELS, CONTEXT, HEADS, width),
            TheirAttention(CHANNELS, CONTEXT, HEADS, dim_head=width),
            (pixels, words),
        ),
        "transformer": (
            Transformer2DModel(CHANNELS, HEADS, CONTEXT),
            TheirTransformer(HEADS, width, CHANNELS, cross_attention_dim=CONTEXT),
            (picture, words),
        ),
    }
    for name, (ours, theirs, inputs) in cases.items():
        ours, theirs = ours.to(device), theirs.to(device)
        theirs.load_state_dict(ours.state_dict())
        predict, their_predict = partial(ours, *inputs), partial(theirs, *inputs)
        if isinstance(theirs, TheirTransformer):
            their_predict = partial(_sample, theirs, *inputs)
        target = torch.zeros_like(inputs[0])
        yield Pair(name, "inference", inference(ours, predict), inference(theirs, their_predict))
        yield Pair(
            name,
            "train step",
            train_step(ours, predict, target),
            train_step(theirs, their_predict, target),
        )


def _sample(model: nn.Module, *inputs: Tensor) -> Tensor:
    return model(*inputs).sample
