"""Attention: what it may look at, what it keeps, what it refuses. Parity is in tests/parity."""

import pytest
import torch

from course.models.attention import Attention, Context, attention, record_attention
from course.models.transformer import Transformer2DModel


def draws(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def layer(cross=5, heads=2, dim_head=3, seed=0):
    torch.manual_seed(seed)
    return Attention(4, cross, heads=heads, dim_head=dim_head).double()


def test_one_query_is_a_weighted_mean():
    """By hand: scores 2 ln 3 and 0 over sqrt(4) give weights 3/4 and 1/4."""
    q = torch.tensor([[2.0, 0, 0, 0]]).double()
    k = torch.tensor([[torch.log(torch.tensor(3.0)), 0, 0, 0], [0, 1, 0, 0]]).double()
    v = torch.tensor([[8.0, 0.0], [0.0, 4.0]]).double()
    out, probabilities = attention(q, k, v)
    torch.testing.assert_close(
        probabilities, torch.tensor([[0.75, 0.25]]).double(), rtol=1e-7, atol=0
    )
    torch.testing.assert_close(out, torch.tensor([[6.0, 1.0]]).double(), rtol=1e-7, atol=0)


def test_scores_of_unit_variance():
    """Why sqrt(D): the product of two draws of D numbers has variance D."""
    q, k = draws(2000, 1, 64), draws(2000, 1, 64, seed=1)
    scores = (q * k).sum(-1)
    assert scores.var().item() == pytest.approx(64, rel=0.1)
    _, probabilities = attention(q, torch.cat([k, -k], dim=1), torch.zeros(2000, 2, 1).double())
    assert (probabilities[..., 0].logit() / 2).var().item() == pytest.approx(1, rel=0.1)


def test_hidden_tokens_do_not_count():
    module, x, context = layer(), draws(2, 6, 4), draws(2, 5, 5, seed=1)
    mask = torch.tensor([[True, True, True, False, False], [True, False, True, True, True]])
    other = torch.where(mask[..., None], context, draws(2, 5, 5, seed=2))
    torch.testing.assert_close(module(x, context, mask), module(x, other, mask), rtol=0, atol=0)
    assert not torch.allclose(module(x, context), module(x, other))
    alone = module(x[:1], context[:1, :3])
    torch.testing.assert_close(module(x, context, mask)[:1], alone, rtol=0, atol=1e-14)


def test_a_causal_mask_tells_the_queries_apart():
    module, x = layer(cross=None), draws(2, 6, 4)
    mask = torch.ones(6, 6, dtype=torch.bool).tril().expand(2, 6, 6)
    later = torch.cat([x[:, :4], draws(2, 2, 4, seed=3)], dim=1)
    a, b = module(x, mask=mask), module(later, mask=mask)
    torch.testing.assert_close(a[:, :4], b[:, :4], rtol=0, atol=0)
    assert not torch.allclose(a[:, 4:], b[:, 4:])


def test_a_permutation_goes_through_and_positions_are_not_seen():
    module, x, order = layer(cross=None), draws(2, 6, 4), torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(module(x[:, order]), module(x)[:, order], rtol=0, atol=1e-14)


def test_a_constant_context_is_projected_once_and_per_layer():
    first, second, x, context = layer(), layer(seed=1), draws(2, 6, 4), draws(2, 5, 5, seed=1)
    constant, calls = Context(context, constant=True), []
    first.to_k.register_forward_hook(lambda *_: calls.append(1))
    for seed in range(3):
        x = draws(2, 6, 4, seed=seed)
        torch.testing.assert_close(first(x, constant), first(x, context), rtol=0, atol=0)
        torch.testing.assert_close(second(x, constant), second(x, context), rtol=0, atol=0)
    assert len(calls) == 1 + 3  # once for the constant, three times for the tokens
    assert not constant.keys_values(first)[0].requires_grad


def test_recording_changes_nothing_and_ends():
    torch.manual_seed(0)
    model = Transformer2DModel(8, heads=2, cross_attention_dim=5, layers=2, groups=4).double()
    x, context = draws(3, 8, 2, 3), draws(3, 7, 5, seed=1)
    want = model(x, context)
    with record_attention(model) as maps:
        torch.testing.assert_close(model(x, context), want, rtol=0, atol=1e-14)
        model(x, context)
        with pytest.raises(KeyError), record_attention(model):
            raise KeyError
        model(x, context)
    model(x, context)
    names = {f"transformer_blocks.{i}.attn{j}" for i in (0, 1) for j in (1, 2)}
    assert set(maps) == names
    for name, found in maps.items():
        assert len(found) == 3
        n_keys = 6 if name.endswith("attn1") else 7
        assert all(p.shape == (3, 2, 6, n_keys) and not p.requires_grad for p in found)


def test_pixels_keep_their_places():
    """Tokens are rows of pixels: with attention silenced only what happens in place is left."""
    torch.manual_seed(0)
    model = Transformer2DModel(8, heads=2, cross_attention_dim=5, groups=4).double()
    block = model.transformer_blocks[0]
    for attn in (block.attn1, block.attn2):
        torch.nn.init.zeros_(attn.to_out[0].weight)
    x, context = draws(1, 8, 3, 5), draws(1, 7, 5, seed=1)
    model.norm = torch.nn.Identity()
    y = model(x.requires_grad_(), context)
    (grad_of,) = torch.autograd.grad(y[0, :, 1, 4].sum(), x)
    assert (grad_of != 0).any(1)[0].nonzero().tolist() == [[1, 4]]


def test_bad_arguments_are_named(no_typecheck):
    cross, own, x, context = layer(), layer(cross=None), draws(2, 6, 4), draws(2, 5, 5)
    mask = torch.ones(2, 5, dtype=torch.bool)
    spatial, words = Transformer2DModel(8, 2, 5, groups=4).double(), draws(2, 5, 5)
    for call, message in (
        (lambda: cross(x, context[..., :4]), r"context: .*\(B, N, 5\), came \(2, 5, 4\)"),
        (lambda: cross(x, Context(context[..., :4])), "context: "),
        (lambda: cross(x, context[:1]), "context: expected 2 in the batch, as x, came 1"),
        (lambda: cross(x), "context: .*came None"),
        (lambda: own(x, context), "context: expected None"),
        (lambda: cross(x[0], context), r"x: .*came \(6, 4\)"),
        (lambda: cross(x[..., :3], context), "x: "),
        (lambda: cross(x, context, mask.double()), "mask: expected bool .*float64"),
        (lambda: cross(x, context, mask[:, :4]), r"mask: .*\(2, 5\) or \(2, 6, 5\).*\(2, 4\)"),
        (lambda: cross(x, context, ~mask), "mask: .*row without any"),
        (lambda: cross(x, context, torch.full((2, 5), float("nan"))), "mask: "),
        (lambda: spatial(draws(2, 8, 3), words), r"x: expected shape \(B, 8, H, W\).*\(2, 8, 3\)"),
        (lambda: spatial(draws(2, 4, 3, 3), words), r"x: expected shape \(B, 8, .*\(2, 4, 3, 3\)"),
        (lambda: Attention(4, heads=0), "heads: .*came 0"),
        (lambda: Attention(4, dim_head=0), "dim_head: "),
        (lambda: Transformer2DModel(8, 3, 5, groups=4), "heads: expected a divisor of 8.*came 3"),
        (lambda: Transformer2DModel(8, 2, 5, groups=3), "groups: expected a divisor of 8.*came 3"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
