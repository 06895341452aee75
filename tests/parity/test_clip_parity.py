"""CLIP's text encoder is transformers', with the same weights."""

import pytest
import torch
import transformers

from course.models.attention import record_attention
from course.models.clip import CLIPVisionConfig, CLIPVisionModel
from course.models.clip_encoder import quick_gelu
from course.models.clip_text import CLIPTextConfig, CLIPTextModel, pool

SIZES = {
    "vocab_size": 97,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "max_position_embeddings": 13,
    "eos_token_id": 95,
}
BATCH = 3


def ours_and_theirs(**changes):
    """Both with random weights of one size, the norms' included."""
    sizes = SIZES | changes
    ours = CLIPTextModel(CLIPTextConfig(**sizes)).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in ours.parameters():
            p.copy_(0.4 * torch.randn(p.shape, generator=generator, dtype=torch.float64))
    config = transformers.CLIPTextConfig(**sizes, bos_token_id=96, pad_token_id=95)
    theirs = transformers.CLIPTextModel(config).double().eval()
    theirs.load_state_dict(ours.state_dict())  # strictly
    return ours, theirs


def texts(length, end=95):
    """Random ones, each with an end token at another place, and filled up with it."""
    tokens = torch.randint(95, (BATCH, length), generator=torch.Generator().manual_seed(1))
    for i in range(BATCH):
        tokens[i, i + 2 :] = end
    return tokens


@pytest.mark.parametrize("length", [5, 13])
@pytest.mark.parametrize("eps", [1e-5, 0.3])
def test_the_text_encoder_equals_transformers(length, eps, same):
    ours, theirs = ours_and_theirs(layer_norm_eps=eps)
    tokens = texts(length)
    hidden, want = ours(tokens), theirs(tokens)
    same("CLIPTextModel", hidden, want.last_hidden_state)
    same("CLIPTextModel, pooled", pool(hidden, tokens, 95), want.pooler_output)
    with record_attention(ours):  # another way through each layer
        same("CLIPTextModel, recorded", ours(tokens), want.last_hidden_state)


def test_the_encoder_of_pictures_has_transformers_blocks(same):
    """Places that all see each other, behind convolutions of our own."""
    sizes = {name: SIZES[name] for name in ("hidden_size", "intermediate_size")}
    sizes |= {"num_hidden_layers": 2, "num_attention_heads": 3, "layer_norm_eps": 0.3}
    vision = CLIPVisionConfig(image_size=12, block_out_channels=(4, 6), **sizes)
    ours = CLIPVisionModel(vision).double().eval()
    theirs = transformers.CLIPVisionModel(
        transformers.CLIPVisionConfig(image_size=12, patch_size=4, **sizes)
    )
    theirs = theirs.double().eval()
    theirs.encoder.load_state_dict(ours.encoder.state_dict())
    theirs.pre_layrnorm = torch.nn.Identity()
    theirs.post_layernorm.load_state_dict(ours.post_layernorm.state_dict())
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(BATCH, 3, 12, 12, generator=generator, dtype=torch.float64)
    places = ours.stem(images).flatten(2).transpose(1, 2)
    first = ours.class_embedding.repeat(BATCH, 1, 1)
    tokens = torch.cat([first, places], 1) + ours.position_embedding(torch.arange(10))
    theirs.embeddings.forward = lambda *_, **__: tokens
    same("CLIPVisionModel, blocks", ours(images), theirs(images).pooler_output)


def test_an_old_configuration_pools_at_the_highest_number(same):
    """Its end token is 2 by mistake, and 96 in the texts: one place, found in two ways."""
    ours, theirs = ours_and_theirs(eos_token_id=2)
    tokens = texts(7, end=96)
    want = theirs(tokens).pooler_output
    same("CLIPTextModel, pooled", pool(ours(tokens), tokens, 96), want)


def test_gradients_equal_transformers(same):
    ours, theirs = ours_and_theirs()
    tokens = texts(5)
    weights = torch.randn(BATCH, 5, 24, generator=torch.Generator().manual_seed(2)).double()
    (ours(tokens) * weights).sum().backward()
    (theirs(tokens).last_hidden_state * weights).sum().backward()
    want = dict(theirs.named_parameters())
    assert set(want) == {name for name, _ in ours.named_parameters()}
    for name, p in ours.named_parameters():
        if name.endswith("k_proj.bias"):  # one number added to all scores of a token: no effect
            torch.testing.assert_close(p.grad, want[name].grad, rtol=0, atol=1e-10)
        else:
            same("CLIPTextModel, gradient", p.grad, want[name].grad)


def test_quick_gelu_equals_transformers(same):
    x = torch.linspace(-5, 5, 101, dtype=torch.float64)
    same("quick_gelu", quick_gelu(x), transformers.activations.ACT2FN["quick_gelu"](x))


def test_old_names_are_loaded(same):
    ours, theirs = ours_and_theirs()
    tokens = texts(5)
    old = {f"text_model.{name}": value for name, value in theirs.state_dict().items()}
    old["text_model.embeddings.position_ids"] = torch.arange(13)[None]
    again = CLIPTextModel(ours.config).double()
    again.load_state_dict(old)
    same("CLIPTextModel, old names", again(tokens), theirs(tokens).last_hidden_state)


def test_at_full_size_names_and_shapes_equal_transformers(record_property):
    with torch.device("meta"):
        ours = CLIPTextModel(CLIPTextConfig())
        theirs = transformers.CLIPTextModel(
            transformers.CLIPTextConfig(
                vocab_size=49408, hidden_size=768, intermediate_size=3072, num_attention_heads=12
            )
        )
    shapes = [
        {name: tuple(value.shape) for name, value in model.state_dict().items()}
        for model in (ours, theirs)
    ]
    assert shapes[0] == shapes[1]
    count = sum(p.numel() for p in ours.parameters())
    record_property("counts", f"text encoder: {len(shapes[0])} tensors, {count:,} parameters")
    assert len(shapes[0]) == 196
    assert count == 123_060_480
