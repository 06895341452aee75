"""CLIP: what each token sees, what the two encoders share, the loss. Parity is in tests/parity."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from course.models.attention import record_attention
from course.models.clip import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    contrastive_loss,
)
from course.models.clip_encoder import quick_gelu
from course.models.clip_text import CLIPTextConfig, CLIPTextModel, pool

TEXT = CLIPTextConfig(
    vocab_size=23,
    hidden_size=12,
    intermediate_size=20,
    num_hidden_layers=2,
    num_attention_heads=3,
    max_position_embeddings=9,
    eos_token_id=22,
)
VISION = CLIPVisionConfig(
    image_size=8,
    block_out_channels=(4, 6),
    hidden_size=10,
    intermediate_size=14,
    num_hidden_layers=1,
    num_attention_heads=5,
)


def draws(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def made(kind, config, seed=0):
    torch.manual_seed(seed)
    return kind(config).double()


def some_tokens(batch=2, length=7):
    tokens = torch.randint(22, (batch, length), generator=torch.Generator().manual_seed(0))
    tokens[:, -2:] = 22
    return tokens


def test_tokens_see_only_what_is_before():
    model, tokens = made(CLIPTextModel, TEXT), some_tokens(length=9)
    other = tokens.clone()
    other[:, 5] = (other[:, 5] + 1) % 22
    a, b = model(tokens), model(other)
    torch.testing.assert_close(a[:, :5], b[:, :5], rtol=0, atol=1e-14)
    assert ((a - b)[:, 5:].abs().amax(-1) > 1e-6).all()


def test_a_shorter_text_is_the_start_of_a_longer_one():
    model, tokens = made(CLIPTextModel, TEXT), some_tokens(length=9)
    for length in (1, 4):
        got = model(tokens[:, :length])
        torch.testing.assert_close(got, model(tokens)[:, :length], rtol=0, atol=1e-14)


def test_places_are_told_apart():
    hidden = made(CLIPTextModel, TEXT)(torch.full((1, 4), 3))
    assert torch.pdist(hidden[0]).min() > 1e-3


def test_recorded_attention_looks_back_only():
    model, tokens = made(CLIPTextModel, TEXT), some_tokens()
    want = model(tokens)
    with record_attention(model) as maps:
        torch.testing.assert_close(model(tokens), want, rtol=0, atol=1e-14)
    model(tokens)
    assert set(maps) == {f"encoder.layers.{i}.self_attn" for i in (0, 1)}
    for (p,) in maps.values():
        assert p.shape == (2, 3, 7, 7)
        assert torch.equal(p, p.tril())
        torch.testing.assert_close(p.sum(-1), torch.ones(2, 3, 7).double())


def test_quick_gelu_at_one():
    """sd15.md, A3."""
    one = torch.ones(1, dtype=torch.float64)
    assert quick_gelu(one).item() == pytest.approx(0.84580, abs=5e-6)
    assert F.gelu(one).item() == pytest.approx(0.84134, abs=5e-6)


def test_the_first_end_token_is_pooled():
    hidden = draws(3, 4, 5)
    tokens = torch.tensor([[1, 7, 3, 7], [7, 7, 7, 7], [1, 9, 3, 7]])
    want = torch.stack([hidden[0, 1], hidden[1, 0], hidden[2, 3]])
    assert torch.equal(pool(hidden, tokens, 7), want)


def test_first_weights_are_those_of_clips_code():
    config = dataclasses.replace(TEXT, vocab_size=500, hidden_size=60, max_position_embeddings=77)
    embeddings = made(CLIPTextModel, config).embeddings
    assert embeddings.token_embedding.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert embeddings.position_embedding.weight.std().item() == pytest.approx(0.01, rel=0.04)


def test_old_names_are_loaded_and_others_refused():
    model, again = made(CLIPModel, CLIPConfig(TEXT, VISION, 5)), CLIPTextModel(TEXT).double()
    state = model.text_model.state_dict()
    old = {f"text_model.{name}": value for name, value in state.items()}
    given = old | {"text_model.embeddings.position_ids": torch.arange(9)[None]}
    again.load_state_dict(given)
    assert set(given) == {*old, "text_model.embeddings.position_ids"}  # not changed
    assert all(torch.equal(value, state[name]) for name, value in again.state_dict().items())
    whole = made(CLIPModel, CLIPConfig(TEXT, VISION, 5), seed=1)
    positions = {"text_model.embeddings.position_ids": torch.arange(9)[None]}
    whole.load_state_dict(model.state_dict() | positions)
    assert torch.equal(whole.logit_scale, model.logit_scale)
    assert all(
        torch.equal(p, q) for p, q in zip(whole.parameters(), model.parameters(), strict=True)
    )
    name = "final_layer_norm.bias"
    for wrong, said in (
        ({k: v for k, v in old.items() if not k.endswith(name)}, f"Missing.*{name}"),
        (old | {"text_model.more": state[name]}, "Unexpected.*more"),
        (old | {name: state[name]}, f"Unexpected.*text_model.{name}"),
    ):
        with pytest.raises(RuntimeError, match=f"(?s){said}"):
            again.load_state_dict(wrong)


def test_places_in_a_picture_matter():
    model, x = made(CLIPVisionModel, VISION), draws(2, 3, 8, 8).requires_grad_()
    out = model(x)
    assert (torch.autograd.grad(out.square().sum(), x)[0] != 0).all()
    model.stem.register_forward_hook(lambda _, __, found: found.flip(-1))
    assert (model(x) - out).abs().max() > 1e-3


def test_places_of_a_picture_all_see_each_other():
    model, x = made(CLIPVisionModel, VISION), draws(2, 3, 8, 8)
    want = model(x)
    with record_attention(model) as maps:
        torch.testing.assert_close(model(x), want, rtol=0, atol=1e-14)
    (p,) = maps["encoder.layers.0.self_attn"]
    assert p.shape == (2, 5, 5, 5)
    assert (p > 0).all()


def test_the_map_is_an_eighth_by_an_eighth():
    """By default 32x32 pixels become 4x4 places."""
    model = CLIPVisionModel(CLIPVisionConfig())
    images = torch.zeros(2, 3, 32, 32)
    assert model.stem(images).shape == (2, 128, 4, 4)
    assert model(images).shape == (2, 128)


def test_logits_are_scaled_cosines():
    model = made(CLIPModel, CLIPConfig(TEXT, VISION, 5))
    images, tokens = draws(3, 3, 8, 8), some_tokens(batch=4)
    texts, pictures = model.encode_text(tokens), model.encode_image(images)
    assert texts.shape == (4, 5)
    for vectors in (texts, pictures):
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(vectors)).double())
    logits = model(images, tokens)
    for scale, want in ((math.log(1 / 0.07), 1 / 0.07), (0.0, 1.0), (9.0, 100.0)):
        with torch.no_grad():
            if scale == math.log(1 / 0.07):
                assert model.logit_scale.item() == pytest.approx(scale)
            model.logit_scale.fill_(scale)
        logits = model(images, tokens)
        for i in range(3):
            for j in range(4):
                cosine = F.cosine_similarity(pictures[i], texts[j], dim=0)
                torch.testing.assert_close(logits[i, j], want * cosine)


def test_the_text_vector_is_that_of_its_end():
    model = made(CLIPModel, CLIPConfig(TEXT, VISION, 5))
    tokens = some_tokens()
    hidden = model.text_model(tokens)[:, 5]
    want = hidden @ model.text_projection.weight.T
    want = want / want.norm(dim=1, keepdim=True)
    torch.testing.assert_close(model.encode_text(tokens), want)


def written_out(logits, same):
    """The two losses, number by number."""
    rows, columns = logits.shape

    def counts(i, j):
        return i == j or same is None or not same[i, j]

    total = 0.0
    for i in range(rows):
        texts = sum(math.exp(logits[i, j]) for j in range(columns) if counts(i, j))
        pictures = sum(math.exp(logits[j, i]) for j in range(rows) if counts(j, i))
        total += 2 * logits[i, i].item() - math.log(texts) - math.log(pictures)
    return -total / (2 * rows)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 5), st.integers(0, 3), st.integers(0, 1000), st.booleans())
def test_the_loss_written_out(n, more, seed, with_same):
    logits = 3 * draws(n, n + more, seed=seed)
    same = draws(n, n + more, seed=seed + 1) > 0.3 if with_same else None
    got = contrastive_loss(logits, same)
    assert got.item() == pytest.approx(written_out(logits, same), abs=1e-12)


def test_the_loss_is_torchs():
    logits, labels = draws(4, 4), torch.arange(4)
    want = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
    torch.testing.assert_close(contrastive_loss(logits), want)


def test_the_loss_of_equal_logits():
    """log of what there is to choose from: texts for a picture, pictures for a text."""
    logits = torch.full((3, 5), 2.0).double()
    want = (math.log(5) + math.log(3)) / 2
    assert contrastive_loss(logits).item() == pytest.approx(want)
    assert contrastive_loss(logits[:, :3]).item() == pytest.approx(math.log(3))
    everywhere = torch.ones(3, 5, dtype=torch.bool)
    assert contrastive_loss(logits, everywhere).item() == 0
    one = torch.zeros(3, 5, dtype=torch.bool)
    one[0, 1] = True  # text 1 is true of picture 0, too
    want = (2 * math.log(5) + math.log(4) + 2 * math.log(3) + math.log(2)) / 6
    assert contrastive_loss(logits, one).item() == pytest.approx(want)


def test_pairs_left_out_get_no_gradient():
    logits = draws(3, 5).requires_grad_()
    same = torch.zeros(3, 5, dtype=torch.bool)
    same[0, 2] = same[1, 1] = same[2, 4] = True
    (grad,) = torch.autograd.grad(contrastive_loss(logits, same), logits)
    left_out = same.clone()
    left_out[1, 1] = False
    assert torch.equal(grad == 0, left_out)
    torch.testing.assert_close(grad.sum(), torch.zeros(()).double(), rtol=0, atol=1e-15)


def test_a_pair_of_encoders_learns_which_belongs_to_which():
    model = made(CLIPModel, CLIPConfig(TEXT, VISION, 5))
    images, tokens = draws(6, 3, 8, 8), some_tokens(batch=6)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(120):
        loss = contrastive_loss(model(images, tokens))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    logits = model(images, tokens)
    assert loss.item() < 0.1
    assert torch.equal(logits.argmax(0), torch.arange(6))
    assert torch.equal(logits.argmax(1), torch.arange(6))


def test_bad_arguments_are_named(no_typecheck):
    text, vision = made(CLIPTextModel, TEXT), made(CLIPVisionModel, VISION)
    tokens, hidden, square = some_tokens(), draws(2, 7, 12), torch.zeros(3, 3)
    same = torch.zeros(3, 3, dtype=torch.bool)

    def changed(config, **values):
        return lambda: dataclasses.replace(config, **values)

    for call, message in (
        (lambda: text(tokens.int()), r"tokens: expected int64 of shape \(B, M\), came torch.int32"),
        (lambda: text(tokens[0]), r"tokens: .*came torch.int64 \(7,\)"),
        (lambda: text(tokens.repeat(1, 2)), "tokens: expected 1 to 9 in a text, came 14"),
        (lambda: text(tokens[:, :0]), "tokens: expected 1 to 9 in a text, came 0"),
        (lambda: text(tokens + 1), r"tokens: expected numbers in 0..22, came \d+..23"),
        (lambda: text(tokens - 9), r"tokens: expected numbers in 0..22, came -\d"),
        (lambda: pool(hidden, tokens.clamp(max=21), 22), r"tokens: .*end token 22.*in \[0, 1\]"),
        (lambda: pool(hidden[:, :6], tokens, 22), r"hidden: .*\(2, 7, 'D'\).*\(2, 6, 12\)"),
        (lambda: pool(hidden[..., 0], tokens, 22), r"hidden: .*came \(2, 7\)"),
        (lambda: pool(hidden, tokens.double(), 22), "tokens: expected int64"),
        (lambda: vision(draws(2, 3, 8, 9)), r"images: .*\(B, 3, 8, 8\), came \(2, 3, 8, 9\)"),
        (lambda: vision(draws(2, 1, 8, 8)), "images: "),
        (lambda: vision(draws(3, 8, 8)), "images: "),
        (lambda: contrastive_loss(square[0]), r"logits: .*came \(3,\)"),
        (lambda: contrastive_loss(square[:, :2]), r"logits: .*N >= B >= 1, came \(3, 2\)"),
        (lambda: contrastive_loss(square[:0]), r"logits: .*came \(0, 3\)"),
        (lambda: contrastive_loss(square, square), r"same: expected bool .*came torch.float32"),
        (lambda: contrastive_loss(square, same[:, :2]), r"same: .*\(3, 3\), as .*\(3, 2\)"),
        (lambda: CLIPConfig(TEXT, VISION, 0), "projection_dim: .*came 0"),
        (changed(TEXT, vocab_size=0), "vocab_size: expected at least 1, came 0"),
        (changed(TEXT, hidden_size=0), "hidden_size: "),
        (changed(TEXT, intermediate_size=0), "intermediate_size: "),
        (changed(TEXT, num_hidden_layers=0), "num_hidden_layers: "),
        (changed(TEXT, num_attention_heads=0), "num_attention_heads: expected at least 1"),
        (changed(TEXT, num_attention_heads=5), "num_attention_heads: .*hidden_size = 12, came 5"),
        (changed(TEXT, max_position_embeddings=0), "max_position_embeddings: "),
        (changed(TEXT, layer_norm_eps=0.0), "layer_norm_eps: expected above 0, came 0.0"),
        (changed(TEXT, eos_token_id=23), r"eos_token_id: expected a token in 0..22, came 23"),
        (changed(TEXT, eos_token_id=-1), "eos_token_id: "),
        (changed(VISION, image_size=0), "image_size: expected at least 1"),
        (changed(VISION, image_size=10), "image_size: expected a multiple of 4.*2 levels, came 10"),
        (changed(VISION, num_channels=0), "num_channels: "),
        (changed(VISION, hidden_size=0), "hidden_size: "),
        (changed(VISION, block_out_channels=()), r"block_out_channels: .*came \(\)"),
        (changed(VISION, block_out_channels=(4, 0)), r"block_out_channels: .*1, came \(4, 0\)"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_lists_from_json_become_tuples(no_typecheck):
    assert CLIPVisionConfig(8, 3, [4, 6], 10, 14, 1, 5) == VISION
