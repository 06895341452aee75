"""The U-Net by what it promises; that it is diffusers' is in parity/test_unet_diffusers.py."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from course.models.attention import Context
from course.models.resnet import Downsample2D, ResnetBlock2D, timestep_embedding
from course.models.unet import UNet2DConditionModel
from course.models.unet_config import UNetConfig
from course.training import recipes

CONFIG = UNetConfig(2, 5, (8, 24), layers_per_block=2, norm_num_groups=4)
CLASSES = replace(CONFIG, num_class_embeds=4)
WORDS = replace(CONFIG, cross_attention_dim=6, num_attention_heads=2)
SCALE_SHIFT = replace(CONFIG, resnet_time_scale_shift="scale_shift")


def ours(config, seed=0):
    torch.manual_seed(seed)
    return UNet2DConditionModel(config).double().eval()


def draws(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def without_gradient(model):
    return [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]


def inputs(config, height=12, width=20):
    return draws(3, config.in_channels, height, width), torch.tensor([0, 999, 7])


def test_names_are_those_of_stable_diffusion():
    names = set(
        ours(UNetConfig(norm_num_groups=8, block_out_channels=(8, 16, 16, 16))).state_dict()
    )
    for level in range(4):
        for i in range(2):
            assert f"down_blocks.{level}.resnets.{i}.time_emb_proj.weight" in names
        for i in range(3):
            assert f"up_blocks.{level}.resnets.{i}.conv_shortcut.bias" in names
        assert (f"down_blocks.{level}.downsamplers.0.conv.weight" in names) == (level < 3)
        assert (f"up_blocks.{level}.upsamplers.0.conv.weight" in names) == (level < 3)
    shortcuts = {n.split(".conv_shortcut")[0] for n in names if "down" in n and "shortcut" in n}
    assert shortcuts == {"down_blocks.1.resnets.0"}
    assert {"mid_block.resnets.0.norm1.weight", "mid_block.resnets.1.conv2.bias"} <= names
    assert {"conv_in.weight", "conv_norm_out.weight", "conv_out.bias"} <= names
    assert {"time_embedding.linear_1.weight", "time_embedding.linear_2.bias"} <= names


def test_the_waves_are_cosines_then_sines_of_falling_frequencies():
    t, k = torch.tensor([0, 1, 17, 999]), torch.arange(8)
    angle = t[:, None].double() * 10_000 ** (-k.double() / 8)
    want = torch.cat([angle.cos(), angle.sin()], dim=1).float()
    # Angles of a thousand, in float32.
    torch.testing.assert_close(timestep_embedding(t, 16), want, atol=1e-4, rtol=0)


@pytest.mark.parametrize("config", [CONFIG, SCALE_SHIFT, CLASSES])
def test_every_parameter_gets_a_gradient(config):
    model = ours(config)
    model(*inputs(config)).square().sum().backward()
    assert without_gradient(model) == []


def test_the_time_is_lost_where_it_is_added_and_every_channel_is_a_group():
    """lecture_vs_code B4: what is added to a whole channel, its own normalisation removes; what
    scales and shifts after it is kept."""
    x = draws(2, 8, 5, 6)
    temb = draws(2, 2, 7, seed=1)
    for norm, groups, matters in (
        ("default", 4, True),
        ("default", 8, False),
        ("scale_shift", 4, True),
        ("scale_shift", 8, True),
    ):
        torch.manual_seed(0)
        block = ResnetBlock2D(8, 8, 7, groups, time_embedding_norm=norm).double()
        gap = (block(x, temb[0]) - block(x, temb[1])).abs().max().item()
        # Not exactly removed: eps is added to the variance.
        assert (gap > 1e-2) == matters
        assert matters or gap < 1e-10


@pytest.mark.parametrize("norm", ["default", "scale_shift"])
def test_a_time_that_is_projected_to_0_leaves_the_norm_as_it_is(norm):
    torch.manual_seed(0)
    block = ResnetBlock2D(8, 8, 7, 4, time_embedding_norm=norm).double()
    x, temb = draws(3, 8, 5, 6), draws(3, 7, seed=1)
    with_time = block(x, temb)
    nn.init.zeros_(block.time_emb_proj.weight)
    nn.init.zeros_(block.time_emb_proj.bias)
    act = nn.functional.silu
    want = x + block.conv2(act(block.norm2(block.conv1(act(block.norm1(x))))))
    torch.testing.assert_close(block(x, temb), want, rtol=0, atol=1e-12)
    assert (with_time - want).abs().max() > 1e-2


def test_one_plus_the_first_half_scales_and_the_second_shifts():
    torch.manual_seed(0)
    block = ResnetBlock2D(4, 4, 7, 2, time_embedding_norm="scale_shift").double()
    nn.init.zeros_(block.time_emb_proj.weight)
    block.time_emb_proj.bias.data = torch.tensor([1.0, -1, 0.5, 0, 0, 3, 0, -2]).double()
    seen = []
    block.conv2.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    x = draws(3, 4, 5, 6)
    block(x, draws(3, 7))
    normed = block.norm2(block.conv1(nn.functional.silu(block.norm1(x))))
    scale = torch.tensor([2.0, 0, 1.5, 1])[:, None, None]
    shift = torch.tensor([0.0, 3, 0, -2])[:, None, None]
    want = nn.functional.silu(normed * scale + shift)
    torch.testing.assert_close(seen[0], want, rtol=0, atol=1e-12)


def test_no_class_is_the_last_row_and_each_class_changes_the_output():
    model, (x, t) = ours(CLASSES), inputs(CLASSES)
    outputs = [model(x, t, torch.full((3,), row)) for row in range(4)]
    assert torch.equal(model(x, t), outputs[3])
    for i, a in enumerate(outputs):
        for b in outputs[:i]:
            assert all((a - b).abs().amax((1, 2, 3)) > 1e-3)
    mixed = model(x, t, torch.tensor([2, 0, 3]))
    for i, row in enumerate((2, 0, 3)):
        torch.testing.assert_close(mixed[i], outputs[row][i], rtol=0, atol=1e-12)


def test_a_class_of_zeros_is_the_unconditional_network():
    model, (x, t) = ours(CLASSES), inputs(CLASSES)
    nn.init.zeros_(model.class_embedding.weight)
    state = model.state_dict()
    del state["class_embedding.weight"]
    plain = ours(CONFIG, seed=1)
    plain.load_state_dict(state)
    torch.testing.assert_close(
        model(x, t, torch.tensor([0, 1, 2])), plain(x, t), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("config", [CONFIG, SCALE_SHIFT, CLASSES])
def test_with_zero_init_it_starts_at_0_and_each_block_as_its_shortcut(config):
    model, args = ours(replace(config, zero_init=True)), inputs(config)
    seen = []
    blocks = [m for m in model.modules() if isinstance(m, ResnetBlock2D)]
    for block in blocks:
        block.register_forward_hook(lambda b, args, out: seen.append((b, args[0], out)))
    assert not model(*args).any()
    assert len(seen) == len(blocks) == 12
    for block, x, out in seen:
        shortcut = block.conv_shortcut or nn.Identity()
        assert torch.equal(out, shortcut(x))


@pytest.mark.parametrize("config", [CONFIG, SCALE_SHIFT, CLASSES])
def test_zero_init_only_delays_the_gradients(config):
    """At first the last convolution alone gets one; its step lets it through to what leads there,
    the last convolutions of the blocks, and theirs to all."""
    model, args = ours(replace(config, zero_init=True)), inputs(config)
    target = draws(3, 5, 12, 20, seed=2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    waiting = []
    for _ in range(3):
        optimizer.zero_grad()
        (model(*args) - target).square().mean().backward()
        waiting.append(without_gradient(model))
        optimizer.step()
    everything = {name for name, _ in model.named_parameters()}
    assert everything - set(waiting[0]) == {"conv_out.weight", "conv_out.bias"}
    assert waiting[1]
    assert not any("conv2" in name for name in waiting[1])
    assert waiting[2] == []


def test_zero_init_is_for_the_first_weights_only():
    """Other random numbers are what they were, and the names, too."""
    zero, random = ours(replace(CONFIG, zero_init=True)), ours(CONFIG)
    for name, p in random.state_dict().items():
        last = name.startswith("conv_out") or "conv2" in name
        assert torch.equal(zero.state_dict()[name], torch.zeros_like(p) if last else p)


def test_samples_of_a_batch_do_not_see_each_other():
    model, (x, t) = ours(CONFIG), inputs(CONFIG)
    for i in range(3):
        alone = model(x[i : i + 1], t[i : i + 1])
        torch.testing.assert_close(model(x, t)[i : i + 1], alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (9, 16), (2, 3)])
def test_any_height_and_width_come_back(size):
    config = UNetConfig(2, 3, (8, 4, 12), layers_per_block=1, norm_num_groups=2)
    assert ours(config)(*inputs(config, *size)).shape == (3, 3, *size)


def test_the_committed_network_is_of_this_code():
    model = recipes.load("digits-ddpm")  # strictly
    assert isinstance(model, UNet2DConditionModel)
    assert model.class_embedding is None
    x, t = torch.randn(2, 1, 28, 28), torch.tensor([3, 700])
    assert model(x, t).shape == x.shape


def test_words_reach_every_pixel_and_hidden_ones_none():
    model, (x, t) = ours(WORDS), inputs(WORDS)
    tokens = draws(3, 4, 6, seed=1)
    mask = torch.tensor([[True, True, False, True]] * 3)
    other = torch.where(mask[..., None], tokens, draws(3, 4, 6, seed=2))
    assert (model(x, t, tokens) != model(x, t, other)).all()
    assert torch.equal(model(x, t, Context(tokens, mask)), model(x, t, Context(other, mask)))


def test_the_order_of_words_is_the_text_encoders_to_tell():
    model, (x, t) = ours(WORDS), inputs(WORDS)
    tokens = draws(3, 4, 6, seed=1)
    turned = tokens[:, [2, 0, 3, 1]]
    torch.testing.assert_close(model(x, t, tokens), model(x, t, turned), rtol=0, atol=1e-12)


def test_a_vector_is_added_to_the_time():
    config = replace(WORDS, projection_class_embeddings_input_dim=9)
    model, (x, t) = ours(config), inputs(config)
    tokens, vector = draws(3, 4, 6, seed=1), draws(3, 9, seed=2)
    got = model(x, t, Context(tokens, added=vector))
    with torch.no_grad():
        model.class_embedding.bias += model.class_embedding(vector[0]) - model.class_embedding.bias
    alike = model(x, t, Context(tokens, added=torch.zeros_like(vector)))
    torch.testing.assert_close(alike[0], got[0], rtol=0, atol=1e-12)
    assert not torch.allclose(alike[1], got[1])


@pytest.mark.parametrize("levels", [None, (), (0,), (1,), (0, 1)])
def test_which_levels_attend(levels):
    names = set(ours(replace(WORDS, attention_levels=levels)).state_dict())
    attending = {0} if levels is None else set(levels)
    for level in (0, 1):
        block = f"down_blocks.{level}.attentions.1.proj_in.weight"
        mirror = f"up_blocks.{1 - level}.attentions.2.proj_in.weight"
        assert (block in names) == (mirror in names) == (level in attending)
    assert "mid_block.attentions.0.proj_out.bias" in names


def test_zeros_silence_the_transformers_at_first():
    config = replace(WORDS, zero_init=True)
    model = ours(config)
    assert not model.mid_block.attentions[0].proj_out.weight.any()
    x = draws(3, 24, 3, 5)
    words = Context(draws(3, 4, 6))
    assert torch.equal(model.mid_block.attentions[0](x, words), x)


def test_bad_arguments_are_named(no_typecheck):
    model, plain = UNet2DConditionModel(CLASSES), UNet2DConditionModel(CONFIG)
    words = UNet2DConditionModel(WORDS)
    vector = UNet2DConditionModel(replace(CONFIG, projection_class_embeddings_input_dim=9))
    x, t, tokens = torch.zeros(2, 2, 8, 8), torch.tensor([0, 1]), torch.zeros(2, 3, 6)
    for call, message in (
        (lambda: model(x[:, :1], t), r"xt: expected shape \(B, 2, H, W\), came \(2, 1, 8, 8\)"),
        (lambda: model(x[0], t), "xt: "),
        (lambda: model(x, t.float()), r"t: .*float32"),
        (lambda: model(x, t[:1]), r"t: .*\(2,\).*\(1,\)"),
        (lambda: model(x, None), r"t: expected int64 of shape \(2,\), came None"),
        (lambda: model(x, 7), r"t: .*came 7"),
        (lambda: plain(x, t, t), "context: expected no classes and no vector"),
        (lambda: plain(x, t, torch.zeros(2, 3, 4)), "context: expected no tokens"),
        (lambda: words(x, t), r"context: expected tokens of shape \(2, M, 6\), came none"),
        (lambda: words(x, t, t), "context: expected tokens .*came none"),
        (lambda: words(x, t, tokens[..., :5]), r"context: .*\(B, N, 6\), came \(2, 3, 5\)"),
        (lambda: words(x, t, tokens[:1]), "context: expected 2 in the batch, as x, came 1"),
        (lambda: words(x, t, tokens.long()), "context: "),
        (lambda: words(x, t, Context(tokens, added=t)), "context: expected no classes"),
        (lambda: vector(x, t), r"context: expected vectors of shape \(2, 9\), came None"),
        (lambda: vector(x, t, tokens[:, 0]), r"context: expected vectors.*\(2, 9\).*\(2, 6\)"),
        (lambda: vector(x, t, torch.zeros(2, 9).long()), "context: expected vectors.*int64"),
        (lambda: Context(tokens, torch.ones(2, 4).bool()), r"mask: .*\(2, 3\).*\(2, 4\)"),
        (lambda: Context(tokens, torch.full((2, 3), float("nan"))), "mask: expected bool.*float32"),
        (lambda: Context(tokens, torch.zeros(2, 3).bool()), "mask: .*row without any"),
        (lambda: Context(mask=torch.ones(2, 3).bool()), "mask: expected None without tokens"),
        (lambda: Context(tokens[0]), r"tokens: .*\(3, 6\)"),
        (lambda: Context(tokens, added=t[:1]), "added: expected 2, as tokens, came 1"),
        (
            lambda: replace(WORDS, num_attention_heads=3),
            "num_attention_heads: .*8 channels, came 3",
        ),
        (lambda: replace(WORDS, num_attention_heads=0), "num_attention_heads: .*came 0"),
        (lambda: replace(WORDS, cross_attention_dim=0), "cross_attention_dim: .*came 0"),
        (lambda: replace(WORDS, attention_levels=(2,)), r"attention_levels: .*0\.\.1.*\(2,\)"),
        (lambda: replace(CONFIG, attention_levels=(0,)), "attention_levels: .*without cross_att"),
        (
            lambda: replace(CLASSES, projection_class_embeddings_input_dim=3),
            "projection_class_embeddings_input_dim: expected None beside num_class_embeds = 4",
        ),
        (lambda: model(x, t, t[:1]), r"context: .*\(2,\).*\(1,\)"),
        (lambda: model(x, t, t.float()), r"context: .*float32"),
        (lambda: model(x, t, torch.tensor([0, 4])), r"context: .*0\.\.3, came \[0, 4\]"),
        (lambda: model(x, t, torch.tensor([-1, 0])), r"context: .*0\.\.3, came \[-1, 0\]"),
        (lambda: UNetConfig(block_out_channels=(32, 40)), r"block_out_channels: .*\(32, 40\)"),
        (lambda: UNetConfig(block_out_channels=()), "block_out_channels: "),
        (lambda: UNetConfig(layers_per_block=0), "layers_per_block: "),
        (lambda: UNetConfig(num_class_embeds=1), "num_class_embeds: .*the row for none, came 1"),
        (lambda: UNetConfig(resnet_time_scale_shift="film"), "resnet_time_scale_shift: .*'film'"),
        (lambda: ResnetBlock2D(8, 8, 7, 4, time_embedding_norm="x"), "time_embedding_norm: .*'x'"),
        (lambda: Downsample2D(8, padding=2), "padding: expected 0 or 1, came 2"),
        (lambda: timestep_embedding(t, 5), "dim: .*5"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_t_cannot_be_left_out():
    with pytest.raises(TypeError, match="'t'"):
        ours(CONFIG)(inputs(CONFIG)[0])
