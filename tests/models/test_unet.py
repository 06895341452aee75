"""The U-Net is diffusers', name by name and number by number."""

import diffusers
import pytest
import torch
from diffusers.models.embeddings import get_timestep_embedding

from course.models.resnet import ResnetBlock2D, timestep_embedding
from course.models.unet import UNet2DConditionModel, UNetConfig

CONFIGS = {
    "two levels": UNetConfig(3, 5, (8, 24), layers_per_block=2, norm_num_groups=4),
    "three levels, one layer": UNetConfig(1, 1, (16, 32, 8), layers_per_block=1, norm_num_groups=8),
    "one level": UNetConfig(2, 4, (12,), layers_per_block=3, norm_num_groups=3, norm_eps=1e-3),
}


def ours(config, seed=0):
    torch.manual_seed(seed)
    return UNet2DConditionModel(config).double().eval()


def theirs(config):
    levels = len(config.block_out_channels)
    return diffusers.UNet2DModel(
        in_channels=config.in_channels,
        out_channels=config.out_channels,
        block_out_channels=config.block_out_channels,
        layers_per_block=config.layers_per_block,
        norm_num_groups=config.norm_num_groups,
        norm_eps=config.norm_eps,
        down_block_types=("DownBlock2D",) * levels,
        up_block_types=("UpBlock2D",) * levels,
        add_attention=False,
        freq_shift=0,
        flip_sin_to_cos=True,
    ).double()


def inputs(config, height=12, width=20):
    generator = torch.Generator().manual_seed(1)
    shape = (3, config.in_channels, height, width)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    return x, torch.tensor([0, 999, 7])


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_it_equals_diffusers_with_the_same_weights(config):
    model, other = ours(config), theirs(config)
    other.load_state_dict(model.state_dict())  # strictly
    x, t = inputs(config)
    torch.testing.assert_close(model(x, t), other(x, t).sample, rtol=0, atol=1e-10)


@pytest.mark.parametrize("size", [(13, 22), (7, 5), (1, 3), (9, 16)])
def test_sizes_that_do_not_divide_equal_diffusers(size):
    """Only the conditional U-Net of diffusers takes them; its mid block has one residual block
    more or less than ours, so ours is made to skip one: with a last convolution of 0 it is the
    identity."""
    config = CONFIGS["three levels, one layer"]
    model = ours(config)
    other = diffusers.UNet2DConditionModel(
        in_channels=1,
        out_channels=1,
        block_out_channels=config.block_out_channels,
        layers_per_block=1,
        norm_num_groups=config.norm_num_groups,
        down_block_types=("DownBlock2D",) * 3,
        up_block_types=("UpBlock2D",) * 3,
        mid_block_type="UNetMidBlock2D",
        cross_attention_dim=4,
    ).double()
    torch.nn.init.zeros_(model.mid_block.resnets[1].conv2.weight)
    torch.nn.init.zeros_(model.mid_block.resnets[1].conv2.bias)
    state = model.state_dict()
    shared = {name: state[name] for name in other.state_dict() if name in state}
    assert not [name for name in state if name not in shared and "mid_block.resnets.1" not in name]
    other.load_state_dict(shared)
    x, t = inputs(config, *size)
    want = other(x, t, encoder_hidden_states=torch.zeros(3, 1, 4).double()).sample
    assert want.shape == x.shape
    torch.testing.assert_close(model(x, t), want, rtol=0, atol=1e-10)


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


def test_at_full_size_it_has_stable_diffusions_residual_blocks():
    """Counts of sd15.md, A1, on the meta device: all but what attention adds."""
    with torch.device("meta"):
        model = UNet2DConditionModel(UNetConfig())

    def count(module):
        return sum(p.numel() for p in module.parameters())

    assert count(model.down_blocks[0].resnets[0]) == 2_255_040
    assert count(model.down_blocks[1].resnets[0]) == 6_558_080
    assert count(model.up_blocks[0].resnets[0]) == 49_164_800
    assert count(model.up_blocks[3].resnets[2]) == 3_382_400
    assert count(model.down_blocks[3]) == 62_277_120
    assert count(model.up_blocks[0]) == 162_241_280
    assert count(model.time_embedding) == 2_050_560
    assert count(model.conv_in) == 11_840
    assert count(model.conv_out) == 11_524


@pytest.mark.parametrize("dim", [2, 16, 320])
def test_the_waves_are_those_of_diffusers(dim):
    t = torch.tensor([0, 1, 17, 500, 999])
    want = get_timestep_embedding(t, dim, flip_sin_to_cos=True, downscale_freq_shift=0)
    assert torch.equal(timestep_embedding(t, dim), want)
    by_hand = torch.cos(torch.tensor(17.0) * 10_000 ** -(torch.arange(dim // 2) / (dim // 2)))
    torch.testing.assert_close(
        timestep_embedding(t, dim)[2, : dim // 2], by_hand, atol=1e-4, rtol=0
    )


def test_every_parameter_gets_a_gradient():
    config = CONFIGS["two levels"]
    model = ours(config)
    model(*inputs(config)).square().sum().backward()
    assert [name for name, p in model.named_parameters() if not p.grad.any()] == []


def test_the_time_matters_unless_every_channel_is_a_group():
    """lecture_vs_code B4: what is added to a whole channel, its own normalisation removes."""
    x = torch.randn(2, 8, 5, 6, dtype=torch.float64)
    temb = torch.randn(2, 2, 7, dtype=torch.float64)
    for groups, matters in ((4, True), (8, False)):
        torch.manual_seed(0)
        block = ResnetBlock2D(8, 8, 7, groups).double()
        gap = (block(x, temb[0]) - block(x, temb[1])).abs().max().item()
        # Not exactly removed: eps is added to the variance.
        assert (gap > 1e-2) == matters
        assert matters or gap < 1e-10


def test_samples_of_a_batch_do_not_see_each_other():
    config = CONFIGS["two levels"]
    model, (x, t) = ours(config), inputs(config)
    for i in range(3):
        alone = model(x[i : i + 1], t[i : i + 1])
        torch.testing.assert_close(model(x, t)[i : i + 1], alone, rtol=0, atol=1e-12)


def test_bad_arguments_are_named(no_typecheck):
    model = UNet2DConditionModel(CONFIGS["two levels"])
    x, t = torch.zeros(2, 3, 8, 8), torch.tensor([0, 1])
    for call, message in (
        (lambda: model(x[:, :2], t), r"xt: expected shape \(B, 3, H, W\), came \(2, 2, 8, 8\)"),
        (lambda: model(x[0], t), "xt: "),
        (lambda: model(x, t.float()), r"t: .*float32"),
        (lambda: model(x, t[:1]), r"t: .*\(2,\).*\(1,\)"),
        (lambda: model(x, t, torch.zeros(2, 3, 4)), "context: "),
        (lambda: UNetConfig(block_out_channels=(32, 40)), r"block_out_channels: .*\(32, 40\)"),
        (lambda: UNetConfig(block_out_channels=()), "block_out_channels: "),
        (lambda: UNetConfig(layers_per_block=0), "layers_per_block: "),
        (lambda: timestep_embedding(t, 5), "dim: .*5"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
