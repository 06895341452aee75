"""The list of a model's blocks, against counts by hand and those of Stable Diffusion 1.5."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course.lab.describe import describe
from course.lab.twin import TraceError
from course.models.configs import CONFIGURATIONS
from course.models.unet import UNet2DConditionModel, UNetConfig
from course.models.unet2015 import UNet2015

BOTH = pytest.mark.parametrize("device", ["meta", "cpu"])


class Attention(nn.Module):
    """Self-attention of `heads` heads; nothing else."""

    def __init__(self, heads):
        super().__init__()
        self.heads = heads

    def forward(self, x):
        q = x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return F.scaled_dot_product_attention(q, q, q).transpose(1, 2).flatten(2)


def of_mha(batch, n, width):
    """Four projections; scores and their sum, whatever the number of heads."""
    return 4 * 2 * batch * n * width * width + 2 * 2 * batch * n * n * width


LAYERS = {
    "conv": (nn.Conv2d(3, 8, (3, 5), 2, 1), (2, 3, 9, 11), 2 * 2 * 8 * 3 * 15 * 5 * 5),
    "grouped": (nn.Conv2d(4, 8, 3, groups=2), (1, 4, 5, 6), 2 * 8 * 2 * 9 * 3 * 4),
    "transposed": (nn.ConvTranspose2d(3, 5, 2, 2), (1, 3, 4, 6), 2 * 3 * 5 * 4 * 4 * 6),
    "linear": (nn.Linear(7, 5), (2, 3, 7), 2 * 6 * 7 * 5),
    "attention": (Attention(2), (3, 5, 8), 2 * 2 * 3 * 5 * 5 * 8),
    "norm": (nn.GroupNorm(2, 4), (1, 4, 5, 5), 0),
}


@BOTH
@pytest.mark.parametrize("name", LAYERS)
def test_flops_by_hand(name, device):
    layer, shape, flops = LAYERS[name]
    told = describe(nn.Sequential(layer, nn.Identity()), torch.zeros(shape), device=device)
    assert (told.flops, told.rows[0].flops) == (flops, flops)


@BOTH
@pytest.mark.parametrize("bias", [True, False])
def test_flops_of_attention_are_no_secret_of_its_fast_kernel(device, bias):
    """In eval mode on the CPU PyTorch runs a kernel that its counter does not know."""
    model = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, bias=bias))
    told = describe(model, torch.zeros(3, 5, 8), depth=1, device=device)
    assert told.flops == of_mha(3, 5, 8) + 2 * 2 * 3 * 5 * 8 * 16


@BOTH
def test_a_block_has_what_is_inside(device):
    inner = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 4))
    model = nn.Sequential(inner, nn.Linear(4, 2))
    closed = describe(model, torch.zeros(1, 4), depth=1, device=device)
    opened = describe(model, torch.zeros(1, 4), depth=2, device=device)
    assert [row.name for row in closed.rows] == ["0", "1"]
    assert [row.name for row in opened.rows] == ["0.0", "0.1", "0.2", "1"]
    for told in (closed, opened):
        assert sum(row.parameters for row in told.rows) == told.parameters == 24 + 6 + 24 + 4 + 10
        assert sum(row.flops for row in told.rows) == told.flops == 2 * (24 + 24 + 8)
    assert [row.kind for row in opened.rows] == ["Linear", "ReLU", "Linear", "Linear"]
    assert [(row.came, row.went) for row in closed.rows] == [("1x4", "1x4"), ("1x4", "1x2")]


@pytest.mark.parametrize(
    ("levels", "layers", "way"), [(1, 1, "default"), (3, 2, "scale_shift"), (4, 1, "default")]
)
def test_what_is_pushed_is_popped(levels, layers, way):
    config = UNetConfig(1, 1, (8, 8, 16, 16)[:levels], layers, 4, resnet_time_scale_shift=way)
    model = UNet2DConditionModel(config)
    told = describe(model, (torch.zeros(2, 1, 12, 9), torch.zeros(2, dtype=torch.int64)))
    pushed = {row.name: row.pushed for row in told.rows if row.pushed}
    popped = {row.name: row.popped for row in told.rows if row.popped}
    count = (layers + 1) * levels
    assert sum(pushed.values()) == sum(popped.values()) == count
    assert set(pushed.values()) == set(popped.values()) == {1}
    assert all(name == "conv_in" or name.startswith("down_blocks") for name in pushed)
    assert all(name.startswith("up_blocks") and ".resnets." in name for name in popped)
    assert told.parameters == sum(p.numel() for p in model.parameters())
    assert sum(row.parameters for row in told.rows) == told.parameters
    assert sum(row.flops for row in told.rows) == told.flops


def test_the_original_unet():
    with torch.device("meta"):
        model = UNet2015()
    told = describe(model, torch.zeros(1, 1, 572, 572), depth=1)
    assert told.parameters == 31_030_658
    assert [row.name for row in told.rows if row.pushed] == [f"down.{i}" for i in range(4)]
    assert [row.name for row in told.rows if row.popped] == [f"up.{i}" for i in range(4)]
    assert told.rows[-1].went == "1x2x388x388"


def test_a_sum_is_no_skip_connection():
    """What a residual block adds is part of the block; only what is put beside is popped."""

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 4)
            self.between = nn.Sequential(nn.Linear(4, 4), nn.ReLU())

        def forward(self, x):
            h = self.first(x)
            return self.last(self.between(h) + h)

    rows = describe(Residual(), torch.zeros(1, 4), depth=1).rows
    assert [(row.pushed, row.popped) for row in rows] == [(0, 0)] * 3


def test_counts_of_stable_diffusion():
    """Its residual blocks, samplers and ends have as many parameters as the published ones."""
    configuration = CONFIGURATIONS["unet"]
    with torch.device("meta"):
        model = configuration.build()
    rows = {row.name: row for row in describe(model, configuration.inputs()).rows}
    counts = {
        "conv_in": 11_840,
        "down_blocks.0.resnets.0": 2_255_040,
        "down_blocks.1.resnets.0": 6_558_080,
        "down_blocks.1.resnets.1": 8_196_480,
        "down_blocks.2.resnets.0": 24_584_960,
        "down_blocks.3.resnets.1": 31_138_560,
        "down_blocks.0.downsamplers.0": 921_920,
        "down_blocks.1.downsamplers.0": 3_687_040,
        "mid_block.resnets.1": 31_138_560,
        "up_blocks.0.resnets.0": 49_164_800,
        "up_blocks.1.resnets.2": 40_971_520,
        "up_blocks.2.resnets.0": 16_801_280,
        "up_blocks.2.resnets.1": 12_704_000,
        "up_blocks.2.resnets.2": 10_655_360,
        "up_blocks.3.resnets.0": 4_407_040,
        "up_blocks.3.resnets.2": 3_382_400,
        "up_blocks.0.upsamplers.0": 14_746_880,
        "conv_norm_out": 640,
        "conv_out": 11_524,
    }
    assert {name: rows[name].parameters for name in counts} == counts
    assert sum(name.endswith(("resnets.0", "resnets.1", "resnets.2")) for name in rows) == 22
    shapes = {
        "down_blocks.0.downsamplers.0": "1x320x32x32",
        "down_blocks.1.downsamplers.0": "1x640x16x16",
        "down_blocks.3.resnets.1": "1x1280x8x8",
        "up_blocks.2.upsamplers.0": "1x640x64x64",
        "conv_out": "1x4x64x64",
    }
    assert {name: rows[name].went for name in shapes} == shapes
    # Two 3x3 convolutions of 320 channels at 64x64, and the time's linear layer.
    assert rows["down_blocks.0.resnets.0"].flops == (
        2 * 2 * 320 * 320 * 9 * 64 * 64 + 2 * 1280 * 320
    )


def test_what_goes_on_is_shown_of_several_outputs():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.out = nn.LSTM(3, 4, 2, batch_first=True), nn.Linear(4, 5)

        def forward(self, x):
            y, _ = self.lstm(x)
            return self.out(y)

    told = describe(Recurrent(), torch.zeros(1, 6, 3))
    assert told.rows[0].went == told.rows[1].came == "1x6x4"


def test_a_module_called_twice_has_a_row_for_each_call():
    shared = nn.Linear(4, 4)
    told = describe(nn.Sequential(shared, nn.ReLU(), shared), torch.zeros(1, 4))
    assert [(row.name, row.parameters, row.flops) for row in told.rows] == [
        ("0", 20, 64),
        ("1", 0, 0),
        ("0", 20, 64),
    ]
    assert (told.parameters, told.flops) == (20, 64)


@BOTH
def test_the_callers_model_and_inputs_stay(device):
    model = nn.Sequential(nn.ReLU(inplace=True), nn.BatchNorm1d(4)).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    x = torch.randn(3, 4)
    kept = x.clone()
    describe(model, x, device=device)
    assert torch.equal(x, kept)
    assert model.training
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())


def test_inputs_by_name_or_in_a_list_give_the_same():
    configuration = CONFIGURATIONS["digits-ddpm"]
    model, inputs = configuration.build(), configuration.inputs()
    told = str(describe(model, inputs))
    assert told == str(describe(model, tuple(inputs.values())))
    assert told == str(describe(model, list(inputs.values())))
    assert told == str(describe(model, dict(reversed(inputs.items()))))


def test_the_table_is_read_from_top_to_bottom():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
    lines = str(describe(model, torch.zeros(1, 1, 502, 502))).splitlines()
    assert [line.split() for line in lines] == [
        ["block", "input", "output", "parameters", "MFLOPs", "skips"],
        ["0", "Conv2d", "1x1x502x502", "1x2x500x500", "20", "9.0"],
        ["1", "ReLU", "1x2x500x500", "1x2x500x500", "0", "0.0"],
        ["in", "all", "Sequential", "20", "9.0"],
    ]
    assert all(line == line.rstrip() for line in lines)
    told = str(
        describe(CONFIGURATIONS["digits-ddpm"].build(), CONFIGURATIONS["digits-ddpm"].inputs())
    )
    assert "  push 1\n" in told
    assert "  pop 1\n" in told


@pytest.mark.usefixtures("no_typecheck")
def test_bad_input():
    layer = nn.Linear(3, 3)
    with pytest.raises(ValueError, match="depth: expected an integer"):
        describe(layer, torch.zeros(1, 3), 0)
    with pytest.raises(TraceError, match="Linear can't be run on them"):
        describe(layer, torch.zeros(1, 4))
    with pytest.raises(ValueError, match="inputs: expected a tensor"):
        describe(layer, ())
    with pytest.raises(ValueError, match="model: expected a torch"):
        describe(3, torch.zeros(1, 3))
