"""A text encoder and its U-Net: what the one tells the other."""

from dataclasses import replace

import pytest
import torch

from course.models.clip_text import CLIPTextConfig
from course.models.latent_diffusion import LatentDiffusion, LatentDiffusionConfig, text_context
from course.models.unet_config import UNetConfig

TEXT = CLIPTextConfig(
    vocab_size=11,
    hidden_size=8,
    intermediate_size=12,
    num_hidden_layers=1,
    num_attention_heads=2,
    max_position_embeddings=7,
    eos_token_id=10,
)
UNET = UNetConfig(
    3, 3, (4, 6), 1, 2, cross_attention_dim=8, num_attention_heads=2, attention_levels=(0, 1)
)
TOKENS = torch.tensor([[9, 1, 2, 10, 10, 10], [9, 3, 10, 10, 10, 10]])


@pytest.fixture
def vectors():
    return torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0))


def test_what_fills_up_is_hidden_and_the_end_is_not(vectors):
    context = text_context(vectors, TOKENS, 10, mask_padding=True, pooled=True)
    assert context.mask.tolist() == [[True] * 4 + [False] * 2, [True] * 3 + [False] * 3]
    assert torch.equal(context.added, vectors[[0, 1], [3, 2]])
    plain = text_context(vectors, TOKENS, 10, mask_padding=False, pooled=False)
    assert plain.mask is plain.added is None
    assert plain.tokens is vectors


@pytest.mark.parametrize("pooled", [False, True])
def test_it_is_the_text_encoder_and_then_the_unet(pooled):
    torch.manual_seed(0)
    unet = replace(UNET, projection_class_embeddings_input_dim=8 if pooled else None)
    model = LatentDiffusion(LatentDiffusionConfig(unet, TEXT)).double()
    xt, t = torch.randn(2, 3, 5, 4, dtype=torch.float64), torch.tensor([3, 700])
    told = text_context(model.text_model(TOKENS), TOKENS, 10, mask_padding=True, pooled=pooled)
    want = model.unet(xt, t, told)
    torch.testing.assert_close(model(xt, t, TOKENS), want)
    # What comes behind the first end token does not count, what comes before it does.
    torch.testing.assert_close(model(xt, t, TOKENS[:, :4]), want)
    other = TOKENS.clone()
    other[1, 1] = 4
    changed = (model(xt, t, other) - want).abs().amax((1, 2, 3))
    assert changed[0] < 1e-12 < 1e-6 < changed[1]
    model(xt, t, TOKENS).sum().backward()
    assert all(p.grad is not None for p in model.text_model.parameters())


def test_sizes_that_do_not_fit_are_named(no_typecheck):
    with pytest.raises(ValueError, match=r"unet: expected cross_attention_dim = 8, .*came 16"):
        LatentDiffusionConfig(replace(UNET, cross_attention_dim=16), TEXT)
    with pytest.raises(ValueError, match="input_dim = 8 or None, came 9"):
        LatentDiffusionConfig(replace(UNET, projection_class_embeddings_input_dim=9), TEXT)
