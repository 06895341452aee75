"""The U-Net is diffusers', block by block, name by name and number by number."""

from dataclasses import replace

import diffusers
import pytest
import torch
from diffusers.models import embeddings, resnet
from diffusers.models.unets import unet_2d_blocks
from weights import draws, random, twins

from course.bench.sides import unet_options
from course.models.attention import Context
from course.models.configs import SD15_UNET
from course.models.resnet import (
    Downsample2D,
    ResnetBlock2D,
    TimestepEmbedding,
    Upsample2D,
    timestep_embedding,
)
from course.models.unet import UNet2DConditionModel
from course.models.unet_blocks import DownBlock2D, MidBlock2D, UpBlock2D
from course.models.unet_config import UNetConfig

NORMS = ("default", "scale_shift")
TEMB = 11

CONFIGS = {
    "two levels": UNetConfig(2, 5, (8, 24), layers_per_block=2, norm_num_groups=4),
    "three levels, one layer": UNetConfig(1, 1, (16, 32, 8), layers_per_block=1, norm_num_groups=8),
    "one level": UNetConfig(4, 2, (12,), layers_per_block=3, norm_num_groups=3, norm_eps=1e-3),
    "scale and shift": UNetConfig(
        2, 3, (12, 8, 20), 1, norm_num_groups=4, resnet_time_scale_shift="scale_shift"
    ),
    "classes": UNetConfig(1, 2, (8, 16), 2, norm_num_groups=4, num_class_embeds=6),
    "classes, scale and shift, zeros": UNetConfig(
        4, 1, (6, 12), 1, 3, 1e-6, "scale_shift", num_class_embeds=3, zero_init=True
    ),
}
CONDITIONAL = {
    "as Stable Diffusion, narrow": UNetConfig(
        4, 4, (8, 16, 24, 24), 2, norm_num_groups=4, cross_attention_dim=10, num_attention_heads=4
    ),
    "attention at level 1 only": UNetConfig(
        2, 3, (12, 8, 20), 1, 4, cross_attention_dim=5, num_attention_heads=2, attention_levels=(1,)
    ),
    "attention everywhere, scale and shift": UNetConfig(
        3,
        2,
        (6, 12),
        1,
        3,
        1e-6,
        "scale_shift",
        cross_attention_dim=7,
        num_attention_heads=3,
        attention_levels=(0, 1),
    ),
    "tokens and classes": UNetConfig(
        1, 1, (8, 16), 1, 4, num_class_embeds=5, cross_attention_dim=6, num_attention_heads=2
    ),
    "tokens and a vector": UNetConfig(
        1,
        1,
        (8, 16),
        2,
        4,
        cross_attention_dim=6,
        num_attention_heads=1,
        projection_class_embeddings_input_dim=9,
    ),
}
SIZES = [(13, 22), (7, 5), (1, 3), (9, 16), (12, 20)]
TOKENS = 7


def options(config):
    """The configuration in the words of diffusers."""
    return {k: v for k, v in unet_options(config).items() if k != "add_attention"}


def conditional(config):
    """Diffusers' conditional U-Net of that configuration."""
    return diffusers.UNet2DConditionModel(**options(config))


def context_of(config, batch=3, masked=False):
    """Tokens, and what else the configuration asks for; and the same in the words of diffusers."""
    tokens = draws(batch, TOKENS, config.cross_attention_dim, seed=5)
    mask = added = None
    if masked:
        mask = draws(batch, TOKENS, seed=6) > 0
        mask[:, 2] = True
    if config.num_class_embeds is not None:
        added = torch.arange(batch) % config.num_class_embeds
    elif config.projection_class_embeddings_input_dim is not None:
        added = draws(batch, config.projection_class_embeddings_input_dim, seed=7)
    theirs = {
        "encoder_hidden_states": tokens,
        "class_labels": added,
        "encoder_attention_mask": mask,
    }
    return Context(tokens, mask, added), theirs


def inputs(config, height=12, width=20):
    context = None
    if config.num_class_embeds is not None:
        context = torch.tensor([1, config.num_class_embeds - 1, 0])
    return draws(3, config.in_channels, height, width), torch.tensor([0, 999, 7]), context


def block_config(norm, groups=4):
    return UNetConfig(norm_num_groups=groups, norm_eps=1e-4, resnet_time_scale_shift=norm)


def block_options(norm, groups=4):
    return {
        "temb_channels": TEMB,
        "resnet_eps": 1e-4,
        "resnet_groups": groups,
        "resnet_time_scale_shift": norm,
    }


@pytest.mark.parametrize("dim", [2, 16, 320])
def test_waves_of_the_time(dim):
    t = torch.tensor([0, 1, 17, 500, 999])
    want = embeddings.get_timestep_embedding(t, dim, flip_sin_to_cos=True, downscale_freq_shift=0)
    assert torch.equal(timestep_embedding(t, dim), want)


def test_time_embedding(same):
    ours, theirs = twins(TimestepEmbedding(6, 14), embeddings.TimestepEmbedding(6, 14))
    waves = draws(3, 6)
    same("TimestepEmbedding", ours(waves), theirs(waves))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("out", [8, 12], ids=["identity", "1x1 shortcut"])
def test_residual_block(same, norm, out):
    ours, theirs = twins(
        ResnetBlock2D(8, out, TEMB, groups=4, eps=1e-3, time_embedding_norm=norm),
        resnet.ResnetBlock2D(
            in_channels=8,
            out_channels=out,
            temb_channels=TEMB,
            groups=4,
            eps=1e-3,
            time_embedding_norm=norm,
        ),
    )
    assert (ours.conv_shortcut is None) == (out == 8)
    x, temb = draws(3, 8, 5, 7), draws(3, TEMB, seed=1)
    shortcut = "identity" if out == 8 else "1x1 shortcut"
    same(f"ResnetBlock2D, {norm}, {shortcut}", ours(x, temb), theirs(x, temb))


@pytest.mark.parametrize("size", [(6, 10), (7, 5), (9, 4)])
@pytest.mark.parametrize("padding", [1, 0])
def test_downsampling(same, padding, size):
    # Under its default name diffusers lists the convolution twice.
    theirs = resnet.Downsample2D(5, use_conv=True, padding=padding, name="op")
    ours, theirs = twins(Downsample2D(5, padding), theirs)
    x = draws(3, 5, *size)
    same(f"Downsample2D, padding {padding}", ours(x), theirs(x))


@pytest.mark.parametrize("size", [None, (7, 10), (6, 9), (8, 10)])
def test_upsampling(same, size):
    ours, theirs = twins(Upsample2D(6), resnet.Upsample2D(6, use_conv=True))
    x = draws(3, 6, 4, 5)
    same("Upsample2D", ours(x, size), theirs(x, size))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("more", [True, False], ids=["inner", "last"])
def test_down_block(same, norm, more):
    ours, theirs = twins(
        DownBlock2D([8, 12, 12], TEMB, block_config(norm), downsample=more),
        unet_2d_blocks.DownBlock2D(8, 12, num_layers=2, add_downsample=more, **block_options(norm)),
    )
    x, temb = draws(3, 8, 5, 7), draws(3, TEMB, seed=1)
    outputs, (last, skips) = ours(x, temb), theirs(x, temb)
    assert len(outputs) == len(skips) == 2 + more
    for got, want in zip([*outputs, outputs[-1]], [*skips, last], strict=True):
        same(f"DownBlock2D, {norm}", got, want)


@pytest.mark.parametrize("norm", NORMS)
def test_mid_block(same, norm):
    ours, theirs = twins(
        MidBlock2D(12, TEMB, block_config(norm)),
        unet_2d_blocks.UNetMidBlock2D(12, add_attention=False, **block_options(norm)),
    )
    x, temb = draws(3, 12, 3, 5), draws(3, TEMB, seed=1)
    same(f"UNetMidBlock2D, {norm}", ours(x, temb), theirs(x, temb))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("more", [True, False], ids=["inner", "last"])
def test_up_block(same, norm, more):
    """Skips of 12, 12 and 8 channels, the last pushed first popped; then as large as the next."""
    ours, theirs = twins(
        UpBlock2D(16, 12, [12, 12, 8], TEMB, block_config(norm), upsample=more),
        unet_2d_blocks.UpBlock2D(8, 16, 12, num_layers=3, add_upsample=more, **block_options(norm)),
    )
    x, temb = draws(3, 16, 4, 5), draws(3, TEMB, seed=1)
    skips = [draws(3, channels, 4, 5, seed=channels + i) for i, channels in enumerate((8, 12, 12))]
    below = [draws(3, 8, 7, 10)] if more else []
    stack = [*below, *skips]
    got = ours(x, stack, temb)
    same(f"UpBlock2D, {norm}", got, theirs(x, tuple(skips), temb, (7, 10) if more else None))
    assert len(stack) == len(below)


@pytest.mark.parametrize("name", CONFIGS)
def test_whole_network(same, name):
    config = CONFIGS[name]
    ours, theirs = twins(
        UNet2DConditionModel(config),
        diffusers.UNet2DModel(**options(config), add_attention=False),
    )
    x, t, context = inputs(config)
    same(f"UNet2DModel, {name}", ours(x, t, context), theirs(x, t, context).sample)
    if context is not None:
        null = torch.full_like(context, config.num_class_embeds - 1)
        same(f"UNet2DModel, {name}", ours(x, t), theirs(x, t, null).sample)


@pytest.mark.parametrize("name", CONFIGS)
def test_gradients_of_the_whole_network(same, name):
    config = CONFIGS[name]
    ours, theirs = twins(
        UNet2DConditionModel(config),
        diffusers.UNet2DModel(**options(config), add_attention=False),
    )
    x, t, context = inputs(config)
    ours(x, t, context).square().mean().backward()
    theirs(x, t, context).sample.square().mean().backward()
    wanted = dict(theirs.named_parameters())
    got, want = (
        torch.cat([grads[name].grad.flatten() for name in wanted])
        for grads in (dict(ours.named_parameters()), wanted)
    )
    same("UNet2DModel, all gradients", got, want)


@pytest.mark.parametrize("name", ["three levels, one layer", *list(CONFIGS)[3:]])
@pytest.mark.parametrize("size", SIZES)
def test_sizes_that_do_not_divide(same, name, size):
    """Only the conditional U-Net of diffusers takes them; its mid block has one residual block
    less than ours, so ours is made to skip one: with a last convolution of 0 it is the
    identity."""
    config = CONFIGS[name]
    ours = random(UNet2DConditionModel(config))
    torch.nn.init.zeros_(ours.mid_block.resnets[1].conv2.weight)
    torch.nn.init.zeros_(ours.mid_block.resnets[1].conv2.bias)
    theirs = diffusers.UNet2DConditionModel(
        **options(config), mid_block_type="UNetMidBlock2D", cross_attention_dim=4
    )
    state = ours.state_dict()
    shared = {key: value for key, value in state.items() if "mid_block.resnets.1" not in key}
    theirs.double().eval().load_state_dict(shared)  # strictly
    x, t, context = inputs(config, *size)
    words = torch.zeros(3, 1, 4, dtype=torch.float64)
    want = theirs(x, t, encoder_hidden_states=words, class_labels=context).sample
    same(f"UNet2DConditionModel, {name}", ours(x, t, context), want)


@pytest.mark.parametrize("size", [(12, 20), (13, 22), (1, 3)])
@pytest.mark.parametrize("name", CONDITIONAL)
def test_the_conditional_network(same, name, size):
    config = CONDITIONAL[name]
    ours, theirs = twins(UNet2DConditionModel(config), conditional(config))
    x, t, _ = inputs(replace(config, num_class_embeds=None), *size)
    for masked in (False, True):
        context, words = context_of(config, masked=masked)
        want = theirs(x, t, **words).sample
        same(f"UNet2DConditionModel, {name}", ours(x, t, context), want)
        constant = Context(context.tokens, context.mask, context.added, constant=True)
        with torch.no_grad():
            for _ in range(2):
                same("UNet2DConditionModel, kept keys", ours(x, t, constant), want)


@pytest.mark.parametrize("name", CONDITIONAL)
def test_gradients_of_the_conditional_network(same, name):
    config = CONDITIONAL[name]
    ours, theirs = twins(UNet2DConditionModel(config), conditional(config))
    x, t, _ = inputs(replace(config, num_class_embeds=None))
    context, words = context_of(config)
    ours(x, t, context).square().mean().backward()
    theirs(x, t, **words).sample.square().mean().backward()
    wanted = dict(theirs.named_parameters())
    got, want = (
        torch.cat([grads[name].grad.flatten() for name in wanted])
        for grads in (dict(ours.named_parameters()), wanted)
    )
    same("UNet2DConditionModel, all gradients", got, want)


def test_at_full_size_it_is_stable_diffusions(record_property):
    """Names, shapes and counts, on the meta device; counts of sd15.md, A1."""
    with torch.device("meta"):
        ours, theirs = UNet2DConditionModel(SD15_UNET), conditional(SD15_UNET)
    got, want = ours.state_dict(), theirs.state_dict()
    assert {name: tuple(value.shape) for name, value in got.items()} == {
        name: tuple(value.shape) for name, value in want.items()
    }
    count = sum(value.numel() for value in got.values())
    assert len(got) == 686
    assert count == 859_520_964
    record_property("counts", f"SD15_UNET: {count:,} parameters in {len(got)} tensors")

    def parameters(module):
        return sum(p.numel() for p in module.parameters())

    down, up = ours.down_blocks, ours.up_blocks
    assert [parameters(b) for b in down] == [10_524_480, 36_818_560, 139_992_320, 62_277_120]
    assert [parameters(b) for b in up] == [162_241_280, 258_330_880, 71_413_120, 18_810_560]
    assert parameters(ours.mid_block) == 97_038_080
    assert [parameters(b.attentions[0]) for b in down[:3]] == [2_546_240, 9_188_480, 34_760_960]


@pytest.mark.slow
def test_at_full_size_it_computes_what_diffusers_does(record_property):
    """Float32, all 860 million weights, a small latent: the largest difference, of numbers about 1.

    Built without numbers and filled in place, so that two copies never hold more than the weights.
    """
    with torch.device("meta"):
        ours, theirs = UNet2DConditionModel(SD15_UNET), conditional(SD15_UNET)
    ours.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in ours.parameters():
            scale = 0.1 if p.ndim == 1 else p[0].numel() ** -0.5
            p.normal_(generator=generator).mul_(scale).add_(p.ndim == 1)
    theirs.load_state_dict(ours.state_dict(), assign=True)
    xt = torch.randn(2, 4, 8, 16, generator=generator)
    tokens = torch.randn(2, 77, 768, generator=generator)
    t = torch.tensor([981, 1])
    with torch.inference_mode():
        got = ours(xt, t, tokens)
        want = theirs(xt, t, tokens).sample
    gap = ((got - want).abs().max() / want.abs().max()).item()
    record_property("counts", f"SD15_UNET, float32, latent 8x16: worst difference {gap:.1e}")
    assert gap <= 1e-4
