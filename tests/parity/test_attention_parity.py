"""Attention is torch's and diffusers', with the same weights."""

import diffusers.models.attention
import diffusers.models.attention_processor
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course.models.attention import Attention, Context, attention, record_attention
from course.models.transformer import BasicTransformerBlock, FeedForward, Transformer2DModel

B, N, M, HEADS, D = 3, 10, 7, 2, 6  # tokens that ask, tokens that are looked at, width of a head
C, CONTEXT = 12, 5


def draws(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def made(kind, *args, seed=0, **kwargs):
    torch.manual_seed(seed)
    return kind(*args, **kwargs).double().eval()


def mask_of(*shape):
    mask = draws(*shape, seed=9) > 0
    mask[..., 0] = True
    return mask


def transplanted(theirs, ours):
    theirs.load_state_dict(ours.state_dict())  # strictly
    return theirs.double().eval()


def test_attention_written_out_is_the_fused_one(same):
    q, k, v = draws(B, HEADS, N, D), draws(B, HEADS, M, D, seed=1), draws(B, HEADS, M, 4, seed=2)
    for mask in (None, mask_of(B, 1, N, M)):
        out, probabilities = attention(q, k, v, mask)
        same("attention, torch", out, F.scaled_dot_product_attention(q, k, v, mask))
        torch.testing.assert_close(probabilities.sum(-1), torch.ones(B, HEADS, N).double())


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_equals_torch_multi_head_attention(bias, masked, same):
    ours = made(Attention, C, CONTEXT, heads=HEADS, dim_head=C // HEADS, bias=bias)
    theirs = nn.MultiheadAttention(
        C, HEADS, bias=True, kdim=CONTEXT, vdim=CONTEXT, batch_first=True
    ).double()
    with torch.no_grad():
        theirs.q_proj_weight.copy_(ours.to_q.weight)
        theirs.k_proj_weight.copy_(ours.to_k.weight)
        theirs.v_proj_weight.copy_(ours.to_v.weight)
        biases = [m.bias if bias else torch.zeros(C) for m in (ours.to_q, ours.to_k, ours.to_v)]
        theirs.in_proj_bias.copy_(torch.cat(biases))
        theirs.out_proj.load_state_dict(ours.to_out[0].state_dict())
    x, context = draws(B, N, C), draws(B, M, CONTEXT, seed=1)
    mask = mask_of(B, M) if masked else None
    want, weights = theirs(
        x,
        context,
        context,
        key_padding_mask=None if mask is None else ~mask,
        need_weights=True,
        average_attn_weights=False,
    )
    same("Attention, torch", ours(x, context, mask), want)
    with record_attention(ours) as maps:
        same("Attention, torch", ours(x, context, mask), want)
    same("probabilities, torch", maps[""][0], weights)


@pytest.mark.parametrize("cross", [None, CONTEXT])
def test_attention_equals_diffusers(cross, same):
    ours = made(Attention, C, cross, heads=HEADS, dim_head=D)
    theirs = transplanted(
        diffusers.models.attention_processor.Attention(C, cross, heads=HEADS, dim_head=D), ours
    )
    x, context = draws(B, N, C), draws(B, M, CONTEXT, seed=1) if cross else None
    same("Attention", ours(x, context), theirs(x, context))


def test_feed_forward_equals_diffusers(same):
    ours = made(FeedForward, C)
    theirs = transplanted(diffusers.models.attention.FeedForward(C, activation_fn="geglu"), ours)
    x = draws(B, N, C)
    same("FeedForward", ours(x), theirs(x))


@pytest.mark.parametrize("masked", [False, True])
def test_the_block_equals_diffusers(masked, same):
    ours = made(BasicTransformerBlock, C, HEADS, D, CONTEXT)
    theirs = transplanted(
        diffusers.models.attention.BasicTransformerBlock(
            C, HEADS, D, cross_attention_dim=CONTEXT, activation_fn="geglu"
        ),
        ours,
    )
    x, context = draws(B, N, C), draws(B, M, CONTEXT, seed=1)
    mask = mask_of(B, M) if masked else None
    # Theirs adds a number to the scores: 0, or one that leaves nothing of them.
    added = None if mask is None else (~mask).double()[:, None] * -1e9
    same(
        "BasicTransformerBlock",
        ours(x, Context(context, mask)),
        theirs(x, encoder_hidden_states=context, encoder_attention_mask=added),
    )


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("size", [(4, 7), (1, 3)])
def test_the_spatial_transformer_equals_diffusers(layers, size, same):
    ours = made(Transformer2DModel, C, HEADS, CONTEXT, layers=layers, groups=4)
    theirs = transplanted(
        diffusers.Transformer2DModel(
            HEADS,
            C // HEADS,
            in_channels=C,
            num_layers=layers,
            norm_num_groups=4,
            cross_attention_dim=CONTEXT,
        ),
        ours,
    )
    x, context = draws(B, C, *size), draws(B, M, CONTEXT, seed=1)
    want = theirs(x, encoder_hidden_states=context).sample
    same("Transformer2DModel", ours(x, context), want)
    with torch.no_grad():
        constant = Context(context, constant=True)
        for _ in range(2):
            same("Transformer2DModel, kept keys", ours(x, constant), want)
