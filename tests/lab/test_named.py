"""Models and inputs from what is typed."""

import sys

import pytest
import torch
from torch import nn

from course.lab.graph import draw
from course.lab.named import model_and_inputs
from course.models.configs import CONFIGURATIONS

THEIRS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        return self.head(torch.relu(self.conv(x)).mean((2, 3)))

class Sized(Net):
    def __init__(self, size):
        super().__init__()

class Looking(Net):
    def __init__(self):
        super().__init__()
        self.rates = [rate.item() for rate in torch.linspace(0, 1, 3)]

class Failing(Net):
    def __init__(self):
        super().__init__()
        raise RuntimeError("out of order")

class Zoo:
    Inner = Net

made = Net()
def build():
    return Net()
def tensor():
    return torch.zeros(3)
number = 3
"""


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """A module that somebody wrote, outside the package."""
    (tmp_path / "their_models.py").write_text(THEIRS)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("their_models", None)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_every_configuration_runs_on_its_inputs(name):
    model, inputs = model_and_inputs(name)
    assert {p.device.type for p in model.parameters()} == {"meta"}
    drawn = draw(model, inputs)
    assert {node.name for node in drawn.view.nodes if node.kind == "input"} == set(inputs)
    assert CONFIGURATIONS[name].about


@pytest.mark.parametrize("name", ["digits-ddpm", "digits-classifier", "vae-mlp", "vae-cnn"])
def test_a_configuration_with_real_numbers(name):
    model, inputs = model_and_inputs(name, device="cpu")
    assert {p.device.type for p in model.parameters()} == {"cpu"}
    with torch.no_grad():
        model.eval()(**inputs)


@pytest.mark.parametrize("what", ["Net", "build", "made", "Zoo.Inner"])
def test_anyones_class_function_or_module(theirs, what):
    model, inputs = model_and_inputs(f"their_models:{what}", ["1x3x8x9"])
    assert isinstance(model, nn.Module)
    assert [tuple(x.shape) for x in inputs] == [(1, 3, 8, 9)]
    assert inputs[0].is_meta
    assert len(draw(model, inputs).view.edges) == 4


def test_a_model_that_looks_at_numbers_while_it_is_made(theirs):
    with pytest.raises(ValueError, match=r"looks at the values .* while it is made.*--device cpu"):
        model_and_inputs("their_models:Looking", ["1x3x8x8"])
    model, inputs = model_and_inputs("their_models:Looking", ["1x3x8x8"], "cpu")
    assert model.rates == [0, 0.5, 1]
    assert torch.equal(inputs[0], torch.zeros(1, 3, 8, 8))


def test_their_own_error_is_theirs(theirs):
    with pytest.raises(RuntimeError, match="out of order"):
        model_and_inputs("their_models:Failing", ["1x3x8x8"])


@pytest.mark.parametrize(
    ("text", "shape", "dtype"),
    [
        ("1x3x64x64", (1, 3, 64, 64), torch.float32),
        ("7", (7,), torch.float32),
        ("1:int64", (1,), torch.int64),
        ("2x5:bfloat16", (2, 5), torch.bfloat16),
        ("1x4:bool", (1, 4), torch.bool),
    ],
)
def test_shapes(theirs, text, shape, dtype):
    _, (x,) = model_and_inputs("their_models:Net", [text])
    assert (tuple(x.shape), x.dtype, x.device.type) == (shape, dtype, "meta")


def test_shapes_in_place_of_a_configurations_own():
    model, inputs = model_and_inputs("digits-ddpm", ["3x1x20x12", "3:int64"])
    drawn = draw(model, inputs)
    assert drawn.view.nodes[-1].came == [(3, 1, 20, 12)]


@pytest.mark.parametrize("text", ["", "x", "1x", "1*3", "-1", "1x3:", "1:int65", "1:nn", "1:", "a"])
def test_shapes_that_can_not_be_read(theirs, text):
    if text in ("1x3:", "1:"):  # nothing after the colon is float32
        assert model_and_inputs("their_models:Net", [text])[1][0].dtype == torch.float32
        return
    with pytest.raises(ValueError, match=r"input: expected a shape such as 1x3x64x64 .*came"):
        model_and_inputs("their_models:Net", [text])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("unet2015", r"model: .*such as unet-2015.*came 'unet2015'"),
        ("", r"model: expected a configuration or package\.module:callable, such as unet"),
        ("their_models:Nett", r"model: expected something in their_models, such as Net.*'Nett'"),
        ("their_models:", r"model: expected something in their_models"),
        ("their_models:Zoo.Other", r"model: expected something in their_models"),
        ("no_such_module:Net", r"model: expected a module that can be imported, No module named"),
        (":Net", r"model: expected a module that can be imported"),
        (".a:Net", r"model: expected a module that can be imported"),
        ("their_models:Sized", r"model: expected their_models:Sized to need no argument: .*'size'"),
        ("their_models:number", r"model: expected their_models:number to be callable, came int"),
        ("their_models:tensor", r"to give a torch\.nn\.Module, came Tensor"),
    ],
)
def test_models_that_are_not_there(theirs, name, said):
    with pytest.raises(ValueError, match=said):
        model_and_inputs(name, ["1x3x8x8"])


def test_their_model_needs_a_shape(theirs):
    with pytest.raises(ValueError, match="input: expected the shape of each input of their_models"):
        model_and_inputs("their_models:Net")
