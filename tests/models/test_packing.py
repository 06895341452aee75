"""Packed weights change nothing but the time."""

import pytest
import torch
from torch import nn

from course.models import packing
from course.models.attention import Context
from course.models.packing import packed_weights
from course.models.transformer import GEGLU
from course.models.unet import UNet2DConditionModel
from course.models.unet_config import UNetConfig

oneDNN = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN"
)


@pytest.fixture
def however_small(monkeypatch):
    monkeypatch.setattr(packing, "LINEAR_PRODUCTS", 0)


def network():
    torch.manual_seed(0)
    config = UNetConfig(2, 3, (8, 24), 1, 4, cross_attention_dim=6, num_attention_heads=2)
    return UNet2DConditionModel(config).eval()


def inputs(batch=3, height=12, width=20):
    generator = torch.Generator().manual_seed(batch)
    x = torch.randn(batch, 2, height, width, generator=generator)
    tokens = torch.randn(batch, 5, 6, generator=generator)
    return x, torch.arange(batch) * 100, Context(tokens)


def forwards(model):
    return {name for name, module in model.named_modules() if "forward" in vars(module)}


@oneDNN
@torch.no_grad()
@pytest.mark.usefixtures("however_small")
def test_results_are_those_of_the_plain_weights_at_every_size():
    model = network()
    shapes = [(3, 12, 20), (1, 12, 20), (3, 7, 5), (5, 12, 20)]
    want = [model(*inputs(*shape)) for shape in shapes]
    with packed_weights(model):
        for _ in range(2):
            for shape, plain in zip(shapes, want, strict=True):
                torch.testing.assert_close(model(*inputs(*shape)), plain, rtol=1e-4, atol=1e-5)


@oneDNN
@torch.no_grad()
@pytest.mark.usefixtures("however_small")
def test_every_layer_with_a_matrix_is_packed_once_and_let_go():
    model, packed = network(), []
    with packed_weights(model):
        packed = {
            name: module.forward
            for name, module in model.named_modules()
            if isinstance(module, nn.Conv2d | nn.Linear | GEGLU)
        }
        model(*inputs())
        first = {name: forward.run for name, forward in packed.items()}
        model(*inputs())
        for name, forward in packed.items():
            # A GEGLU is computed as a whole, so that nobody calls the layer inside.
            inside = isinstance(model.get_submodule(name.rpartition(".")[0]), GEGLU)
            assert (forward.run is None) == inside, name
            assert forward.run is first[name]
        assert forwards(model) == set(packed)
    assert not forwards(model)


@oneDNN
@torch.no_grad()
@pytest.mark.usefixtures("however_small")
def test_a_geglu_is_the_plain_one_at_every_number_of_tokens():
    torch.manual_seed(0)
    layer = GEGLU(6, 10)
    inputs = [torch.randn(shape) for shape in ((2, 7, 6), (3, 6), (1, 1, 6), (2, 6, 7))]
    inputs[-1] = inputs[-1].transpose(1, 2)
    want = [layer(x) for x in inputs]
    with packed_weights(layer):
        for x, plain in zip(inputs, want, strict=True):
            torch.testing.assert_close(layer(x), plain, rtol=1e-5, atol=1e-6)
        assert layer.forward.run is not None


@oneDNN
@torch.no_grad()
def test_pictures_keep_the_channels_of_a_pixel_together_all_the_way():
    model, layouts = network(), {}

    def watch(name):
        def keep(_, args, out):
            last = torch.channels_last
            layouts[name] = [x.is_contiguous(memory_format=last) for x in (*args, out)]

        return keep

    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.GroupNorm):
            module.register_forward_hook(watch(name))
    x, *rest = inputs()
    with packed_weights(model):
        model(x, *rest)
    assert layouts.pop("conv_in") == [False, True]
    assert layouts
    assert all(map(all, layouts.values())), layouts


@torch.no_grad()
def test_weights_may_change_once_it_is_closed():
    model = network()
    with packed_weights(model):
        before = model(*inputs())
    model.conv_out.bias += 1
    torch.testing.assert_close(model(*inputs()), before + 1, rtol=1e-4, atol=1e-5)
    with packed_weights(model):
        torch.testing.assert_close(model(*inputs()), before + 1, rtol=1e-4, atol=1e-5)


def test_it_is_closed_by_an_error_and_may_be_opened_within_itself():
    model = network()
    with packed_weights(model):
        outer = forwards(model)
        with pytest.raises(KeyError), packed_weights(model):
            raise KeyError
        assert forwards(model) == outer
    assert not forwards(model)
    with pytest.raises(KeyError), packed_weights(model):
        raise KeyError
    assert not forwards(model)


def test_gradients_and_other_types_are_as_ever():
    model, (x, t, context) = network(), inputs()
    want = model(x, t, context)
    (want_grad,) = torch.autograd.grad(want.sum(), model.conv_in.weight)
    with packed_weights(model):
        got = model(x, t, context)
        (grad,) = torch.autograd.grad(got.sum(), model.conv_in.weight)
        assert torch.equal(got, want)
        assert torch.equal(grad, want_grad)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            half = model(x, t, context)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(half, model(x, t, context))


@torch.no_grad()
def test_layers_that_pad_in_another_way_are_left_alone():
    layers = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(3, 4, 3, padding="same"),
        nn.ConvTranspose2d(4, 4, 3),
        nn.Conv2d(4, 6, 3, stride=2, padding=(1, 0), dilation=2, groups=2),
    )
    x = torch.randn(2, 2, 9, 11)
    want = layers(x)
    with packed_weights(layers):
        assert forwards(layers) <= {"3"}
        torch.testing.assert_close(layers(x), want, rtol=1e-4, atol=1e-5)
    double = nn.Linear(3, 4).double()
    with packed_weights(double):
        assert not forwards(double)


@oneDNN
@torch.no_grad()
@pytest.mark.parametrize(
    ("layer", "shape", "gains"),
    [
        (nn.Conv2d(3, 4, 3), (1, 3, 5, 6), True),
        (nn.Conv2d(2, 3, 1), (1, 2, 2, 3), True),
        (nn.Linear(64, 128), (7, 73, 64), False),
        (nn.Linear(64, 128), (8, 64, 64), True),
        (GEGLU(64, 64), (7, 73, 64), False),
        (GEGLU(64, 64), (8, 64, 64), True),
    ],
    ids=str,
)
def test_what_is_too_small_to_gain_is_left_alone(layer, shape, gains):
    x = torch.randn(shape)
    want = layer(x)
    with packed_weights(layer):
        torch.testing.assert_close(layer(x), want, rtol=1e-4, atol=1e-5)
        assert (layer.forward.run is not None) == gains
