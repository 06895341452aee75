"""The U-Net is diffusers', block by block, name by name and number by number."""

import diffusers
import pytest
import torch
from diffusers.models import embeddings, resnet
from diffusers.models.unets import unet_2d_blocks

from course.models.resnet import (
    Downsample2D,
    ResnetBlock2D,
    TimestepEmbedding,
    Upsample2D,
    timestep_embedding,
)
from course.models.unet import DownBlock2D, MidBlock2D, UNet2DConditionModel, UNetConfig, UpBlock2D

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
SIZES = [(13, 22), (7, 5), (1, 3), (9, 16), (12, 20)]


def draws(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random(module):
    """No weight at 0 or 1, as norms and what is zero-initialised have them at first."""
    module.double().eval()
    for i, p in enumerate(module.parameters()):
        p.data = draws(*p.shape, seed=100 + i) * (0.3 if p.ndim == 1 else p[0].numel() ** -0.5)
        if p.ndim == 1:
            p.data += 0.5
    return module


def twins(ours, theirs):
    """Both with the same random weights, under the same names."""
    theirs.double().eval().load_state_dict(random(ours).state_dict())  # strictly
    return ours, theirs


def options(config):
    """The configuration in the words of diffusers, attention left out."""
    levels = len(config.block_out_channels)
    return {
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "block_out_channels": config.block_out_channels,
        "layers_per_block": config.layers_per_block,
        "norm_num_groups": config.norm_num_groups,
        "norm_eps": config.norm_eps,
        "resnet_time_scale_shift": config.resnet_time_scale_shift,
        "num_class_embeds": config.num_class_embeds,
        "down_block_types": ("DownBlock2D",) * levels,
        "up_block_types": ("UpBlock2D",) * levels,
        "freq_shift": 0,
        "flip_sin_to_cos": True,
    }


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
