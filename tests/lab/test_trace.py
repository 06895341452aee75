"""Who feeds whom: against models whose flow of data is known because the test chose it."""

import copy
import itertools
import re
import threading
from collections import Counter

import einops
import pytest
import torch
import torchview.recorder_tensor as recorder
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from course.lab.fold import view
from course.lab.trace import trace
from course.lab.twin import TraceError
from course.models.unet import UNet2DConditionModel, UNetConfig


def named(nodes):
    """A name for each box: that of the module or argument, and the how-many-eth of this name."""
    seen, names = Counter(), {}
    for node in nodes:
        name = node.call.path if node.module else node.name
        names[node] = f"{name}#{seen[name]}" if seen[name] else name
        seen[name] += 1
    return names


def flow(model, inputs, depth=1, device="meta", focus=None):
    """The edges that are drawn when nothing is folded."""
    seen = view(trace(model, inputs, device), depth, focus, fold=False)
    names = named(seen.nodes)
    return {(names[edge.source], names[edge.target]) for edge in seen.edges}


def conv(channels=4):
    return nn.Conv2d(channels, channels, 3, padding=1)


def net(forward, **modules):
    """A module with these modules inside and this forward method."""
    made = type("Net", (nn.Module,), {"forward": forward})()
    for name, module in modules.items():
        made.add_module(name, module)
    return made


def chain(*names):
    return set(itertools.pairwise(names))


# Random models of which we know who feeds whom.


class Leaf(nn.Module):
    """Adds its inputs up, in one of many ways of writing it."""

    def __init__(self, way):
        super().__init__()
        self.way = way
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, *given, more=()):
        first, *rest = [*given, *more]
        if self.way == "in place":
            y = first * 1
            for x in rest:
                y += x
        elif self.way == "written into":
            y = torch.zeros(1 + len(rest), *first.shape)
            for i, x in enumerate([first, *rest]):
                y[i] = x
            y = y.sum(0)
        elif self.way == "concatenated":
            y = torch.cat([first, *rest], 0).unflatten(0, (-1, len(first))).sum(0)
        elif self.way == "out":
            y = torch.empty(first.shape)
            torch.mul(first, 1, out=y)
            for x in rest:
                torch.add(y, x, out=y)
        elif self.way == "einops":
            y = einops.rearrange([first, *rest], "n b d -> b d n").sum(-1)
        else:
            y = first
            for x in rest:
                y = y + x
        return y * self.scale + torch.arange(3)


WAYS = ["added", "in place", "written into", "concatenated", "out", "einops"]


class Block(nn.Module):
    """Some of the leaves, from a dict of what they need to a list of what others need."""

    def __init__(self, plan, leaves, wanted):
        super().__init__()
        self.plan, self.wanted = plan, wanted
        for i, _, _ in plan:
            if i in leaves:
                self.add_module(f"leaf{i}", leaves[i])

    def forward(self, known):
        known = dict(known)
        for i, use, sources in self.plan:
            first, *rest = [known[s] for s in sources]
            known[i] = getattr(self, f"leaf{use}")(first, more=rest)
        return [known[i] for i in self.wanted]


class Network(nn.Module):
    """Blocks in a row; `sources[i]` feed leaf i, -1 and below are the inputs."""

    def __init__(self, inputs, sources, cuts, ways, uses):
        super().__init__()
        self.inputs, n = inputs, len(sources)
        self.sinks = [i for i in range(n) if not any(i in s for s in sources)]
        bounds = [0, *cuts, n]
        self.steps = []
        self.blocks = nn.ModuleList()
        for start, end in itertools.pairwise(bounds):
            inside = range(start, end)
            # A leaf may be used again, within its block.
            plan = [(i, max(uses[i], start), sources[i]) for i in inside]
            leaves = {use: Leaf(ways[use]) for _, use, _ in plan}
            needed = sorted({s for i in inside for s in sources[i]} - set(inside))
            wanted = [i for i in inside if i in self.sinks or any(i in s for s in sources[end:])]
            self.blocks.append(Block(plan, leaves, wanted))
            self.steps.append((needed, wanted))

    def forward(self, *inputs):
        known = {-1 - i: x for i, x in enumerate(inputs)}
        for block, (needed, wanted) in zip(self.blocks, self.steps, strict=True):
            outputs = block({i: known[i] for i in needed})
            known |= dict(zip(wanted, outputs, strict=True))
        return tuple(known[i] for i in self.sinks)


@st.composite
def networks(draw):
    inputs, n = draw(st.integers(1, 3)), draw(st.integers(1, 9))
    sources = [
        sorted(draw(st.sets(st.integers(-inputs, i - 1), min_size=1, max_size=4))) for i in range(n)
    ]
    cuts = sorted(draw(st.sets(st.integers(1, n - 1), max_size=3))) if n > 1 else []
    ways = [draw(st.sampled_from(WAYS)) for _ in range(n)]
    uses = [draw(st.integers(0, i)) for i in range(n)]
    return Network(inputs, sources, cuts, ways, uses), sources


def expected(network, sources, depth):
    """The edges, from the plan alone."""
    name, seen = {}, Counter()
    for b, block in enumerate(network.blocks):
        for i, use, _ in block.plan:
            path = f"blocks.{b}.leaf{use}" if depth > 1 else f"blocks.{b}"
            name[i] = f"{path}#{seen[path]}" if depth > 1 and seen[path] else path
            seen[path] += 1
    for i in range(network.inputs):
        name[-1 - i] = f"inputs[{i}]"
    edges = {(name[s], name[i]) for i, feeding in enumerate(sources) for s in feeding}
    many = len(network.sinks) > 1
    edges |= {(name[i], f"output[{k}]" if many else "output") for k, i in enumerate(network.sinks)}
    return {(a, b) for a, b in edges if a != b}


@given(networks(), st.sampled_from(["meta", "cpu"]))
@settings(max_examples=60, deadline=None)
def test_the_edges_of_random_models(made, device):
    network, sources = made
    inputs = tuple(torch.randn(2, 3) for _ in range(network.inputs))
    for depth in (1, 2, 3):
        assert flow(network, inputs, depth, device) == expected(network, sources, depth)


# Ways of writing a model, each with the edges that one would draw by hand.


def two_inputs(self, x, t):
    return self.c(self.a(x) + self.b(t))


def chunked(self, x):
    left, right = x.chunk(2, dim=1)
    return torch.cat([self.a(right), self.b(left)], dim=1)


def looped(self, x):
    parts = torch.split(x, 2, dim=1)
    return sum(self.a(part) for part in parts)


def constants(self, x):
    places = torch.arange(x.shape[-1]).float()[None, None, None]
    mask = torch.tril(torch.ones(x.shape[-2:]))
    return self.b(self.a(x) + places + torch.tensor([1.0]) + mask)


def skipped(self, x):
    h = self.a(x)
    for layer in (self.b, self.c):
        h = h + layer(h)
    return h


def heads(self, x):
    tokens = x.flatten(2).transpose(1, 2)
    mixed, _ = self.a(tokens, tokens, tokens)
    return mixed.transpose(1, 2).unflatten(2, x.shape[2:])


def of_containers(self, skips, named):
    return self.a(skips[1]) * self.b(skips[0][0]) + self.c(named["t"])


HAND = {
    "two inputs": (
        net(two_inputs, a=conv(), b=conv(), c=conv()),
        2,
        {("x", "a"), ("t", "b"), ("a", "add"), ("b", "add"), ("add", "c"), ("c", "output")},
    ),
    "chunked": (
        net(chunked, a=conv(2), b=conv(2)),
        1,
        {("x", "chunk"), ("chunk", "a"), ("chunk", "b"), ("a", "cat"), ("b", "cat")}
        | {("cat", "output")},
    ),
    "called twice": (
        net(looped, a=conv(2)),
        1,
        {("x", "split"), ("split", "a"), ("split", "a#1"), ("a", "add"), ("add", "add#1")}
        | {("a#1", "add#1"), ("add#1", "output")},
    ),
    "constants": (
        net(constants, a=conv(), b=conv()),
        1,
        chain("x", "a", "add, add, add", "b", "output"),
    ),
    "residuals": (
        net(skipped, a=conv(), b=conv(), c=conv()),
        1,
        chain("x", "a", "b", "add", "c", "add#1", "output") | {("a", "add"), ("add", "add#1")},
    ),
    "attention": (
        net(heads, a=nn.MultiheadAttention(4, 2, batch_first=True)),
        1,
        chain("x", "flatten, transpose", "a", "transpose, unflatten", "output"),
    ),
    "functional": (
        net(lambda self, x: F.conv2d(self.a(x), self.a.weight).relu(), a=conv()),
        1,
        chain("x", "a", "conv2d, relu", "output"),
    ),
    "in place": (
        net(lambda self, x: self.b(self.a(x).mul_(2).relu_()), a=conv(), b=conv()),
        1,
        chain("x", "a", "mul, relu", "b", "output"),
    ),
    "no operation": (net(lambda self, x: x), 1, {("x", "output")}),
    "of the input": (
        net(lambda self, x: (self.a(x), x), a=conv()),
        1,
        {("x", "a"), ("a", "output[0]"), ("x", "output[1]")},
    ),
}


@pytest.mark.parametrize("device", ["meta", "cpu"])
@pytest.mark.parametrize("name", HAND)
def test_the_edges_of_models_by_hand(name, device):
    model, count, edges = HAND[name]
    inputs = tuple(torch.randn(1, 4, 6, 6) for _ in range(count))
    assert flow(model, inputs, device=device) == edges


def test_lists_and_dicts_of_tensors_are_named_arguments():
    model = net(of_containers, a=conv(), b=conv(), c=conv())
    x = torch.zeros(1, 4, 6, 6)
    edges = flow(model, ([(x,), x + 1], {"t": x + 2}))
    assert {("skips[1]", "a"), ("skips[0][0]", "b"), ("named['t']", "c")} < edges
    by_name = net(lambda self, x, **more: self.a(x) + self.b(more["t"]), a=conv(), b=conv())
    assert {("x", "a"), ("t", "b")} < flow(by_name, {"x": x, "t": x})


def test_the_order_of_a_dict_of_inputs_is_that_of_the_signature():
    model = net(two_inputs, a=conv(), b=conv(), c=conv())
    x = torch.zeros(1, 4, 6, 6)
    views = [
        view(trace(model, inputs), 1) for inputs in ({"x": x, "t": x}, {"t": x, "x": x}, (x, x))
    ]
    roles = [{(e.source.name, e.target.name, e.role) for e in seen.edges} for seen in views]
    assert roles[0] == roles[1] == roles[2]
    assert ("t", "b", "side") in roles[0]


def test_a_module_under_two_names_goes_by_the_first():
    shared = conv()
    model = nn.Sequential(shared, nn.ReLU(), shared)
    assert flow(model, torch.zeros(1, 4, 5, 5)) == chain("input", "0", "1", "0#1", "output")


def test_modules_are_calls_with_their_parents_and_arguments():
    inner = net(two_inputs, a=conv(), b=conv(), c=conv())
    model = net(lambda self, x: self.inner(x, x * 2), inner=inner)
    seen = trace(model, torch.zeros(1, 4, 5, 5))
    assert [call.path for call in seen.calls] == ["", "inner", "inner.a", "inner.b", "inner.c"]
    call = seen.find("inner")
    assert call.parent is seen.root
    assert [child.path for child in seen.root.children] == ["inner"]
    assert list(call.arguments.values()) == ["x", "t"]
    assert [value.shape for value in call.outputs] == [(1, 4, 5, 5)]
    assert [o.name for o in seen.operations if o.call is call] == ["add"]
    with pytest.raises(ValueError, match=r"such as inner, .*came 'inne'"):
        seen.find("inne")


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_numbers_than_float32(dtype):
    model = nn.Sequential(conv(), nn.GroupNorm(2, 4)).to(dtype)
    assert flow(model, torch.zeros(1, 4, 5, 5, dtype=dtype)) == chain("input", "0", "1", "output")
    with pytest.raises(TraceError, match="Sequential can't be run on them"):
        trace(model, torch.zeros(1, 4, 5, 5))


def test_a_model_on_two_devices_is_brought_together():
    model = nn.Sequential(conv(), conv().to("meta"))
    assert flow(model, torch.zeros(1, 4, 5, 5)) == chain("input", "0", "1", "output")
    assert [p.device.type for p in model.parameters()] == ["cpu", "cpu", "meta", "meta"]


def test_tensors_that_are_not_registered_come_along():
    """A table that was forgotten to be a buffer, and a map that a layer kept to be looked at."""
    model = net(lambda self, x: self.a(x) + self.table, a=conv())
    model.table = torch.arange(5.0)
    model.kept = (model.a.weight * 2).softmax(-1)  # not a leaf: deepcopy would refuse
    model.maps = {"all": [model.kept + 1], "weight": model.a.weight}
    for device in ("meta", "cpu"):
        assert flow(model, torch.zeros(1, 4, 5, 5), device=device) == chain(
            "x", "a", "add", "output"
        )
    assert model.table.device.type == "cpu"


def test_a_compiled_model_is_drawn_as_it_was():
    model = torch.compile(nn.Sequential(conv(), nn.ReLU()), backend="eager")
    assert flow(model, torch.zeros(1, 4, 5, 5)) == chain("input", "0", "1", "output")


# The caller's things stay as they are.


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = conv(), conv()
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x):
        x = self.norm(x)
        if x.sum() > 0:
            return self.a(x)
        return self.b(x)


def portrait(model):
    """All that could be changed."""
    state = {name: (t.clone(), t.device, t.dtype) for name, t in model.state_dict().items()}
    ids = {name: id(t) for name, t in [*model.named_parameters(), *model.named_buffers()]}
    grads = {name: (p.requires_grad, p.grad) for name, p in model.named_parameters()}
    inside = {
        name: (id(m), m.training, sorted(vars(m)), len(m._forward_hooks), len(m._forward_pre_hooks))
        for name, m in model.named_modules()
    }
    return state, ids, grads, inside


def same(one, other):
    states = one[0], other[0]
    assert list(states[0]) == list(states[1])
    for name, (tensor, *about) in states[0].items():
        assert about == list(states[1][name][1:])
        assert torch.equal(tensor, states[1][name][0])
    assert one[1:] == other[1:]


@pytest.mark.parametrize("device", ["meta", "cpu"])
@pytest.mark.parametrize("shape", [(2, 4, 5, 5), (2, 3, 5, 5)], ids=["runs", "fails"])
@pytest.mark.parametrize("build", [Branching, lambda: nn.Sequential(conv(), nn.BatchNorm2d(4))])
def test_the_callers_model_stays_as_it_is(build, shape, device):
    model = build().train()
    model[0].eval() if isinstance(model, nn.Sequential) else model.a.eval()
    next(model.parameters()).requires_grad_(False)
    model.register_forward_hook(lambda *_: None)
    before = portrait(model)
    outcome = None
    try:
        trace(model, torch.randn(shape), device)
    except TraceError as error:
        outcome = error
    fails = shape[1] != 4 or (device == "meta" and isinstance(model, Branching))
    assert (outcome is not None) == fails
    same(before, portrait(model))


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_the_callers_inputs_stay_as_they_are(device):
    model = nn.Sequential(nn.ReLU(inplace=True), conv())
    x = torch.randn(1, 4, 5, 5, requires_grad=True)
    before = x.detach().clone()
    trace(model, x, device)
    assert torch.equal(x, before)
    assert x.requires_grad
    assert type(x) is torch.Tensor


def test_a_lazy_model_stays_lazy():
    model = nn.Sequential(nn.LazyConv2d(4, 3))
    with pytest.raises(TraceError, match=r'Run it once before, or pass device="cpu"'):
        trace(model, torch.zeros(1, 3, 5, 5))
    assert flow(model, torch.zeros(1, 3, 5, 5), device="cpu") == chain("input", "0", "output")
    assert isinstance(model[0].weight, nn.UninitializedParameter)


def globals_of_torch():
    made = {name: getattr(torch, name) for name in recorder.orig_name_list}
    noted = recorder.RecorderTensor.__dict__["__torch_function__"]
    return made, nn.Module.__call__, noted, torch.get_default_device(), torch.is_grad_enabled()


@pytest.mark.parametrize("channels", [4, 3])
def test_nothing_is_left_behind_in_torch(channels):
    before = globals_of_torch()
    try:
        trace(nn.Sequential(conv()), torch.zeros(1, channels, 5, 5))
    except TraceError:
        assert channels == 3
    assert globals_of_torch() == before
    assert type(torch.arange(3)) is torch.Tensor
    with torch.device("meta"):
        assert torch.zeros(3).device.type == "meta"


def test_weights_are_never_made():
    with torch.device("meta"):
        model = nn.Sequential(*[nn.Linear(20_000, 20_000) for _ in range(5)])
    seen = trace(model, torch.zeros(1, 20_000))
    assert {p.device.type for p in seen.root.module.parameters()} == {"meta"}
    real = nn.Linear(3, 3)
    assert trace(real, torch.zeros(1, 3)).root.module.weight.is_meta


# What a user gets wrong.


def message(model, inputs, device="meta"):
    with pytest.raises(TraceError) as refusal:
        trace(model, inputs, device)
    return str(refusal.value)


def test_wrong_channels_and_a_missing_argument_are_told():
    unet = UNet2DConditionModel(
        UNetConfig(in_channels=1, out_channels=1, block_out_channels=(8, 8), norm_num_groups=4)
    )
    t = torch.zeros(1, dtype=torch.int64)
    said = message(unet, (torch.zeros(1, 3, 8, 8), t))
    assert "inputs: UNet2DConditionModel can't be run on them" in said
    said = message(unet, torch.zeros(1, 1, 8, 8))
    assert "'t'" in said


def test_wrong_channels_name_the_line_of_the_model():
    model = net(two_inputs, a=conv(), b=conv(), c=conv())
    said = message(model, (torch.zeros(1, 4, 5, 5), torch.zeros(1, 3, 5, 5)))
    assert f"{__file__}:{two_inputs.__code__.co_firstlineno + 1}, `return self.c(" in said


def test_the_place_is_the_users_line_and_not_that_of_a_library():
    def forward(self, x):
        return einops.rearrange(x, "b c -> c b")

    said = message(net(forward), torch.zeros(1, 4, 5, 5))
    assert f"{__file__}:{forward.__code__.co_firstlineno + 1}" in said


@pytest.mark.parametrize(
    "forward",
    [
        lambda self, x: self.a(x) if x.sum() > 0 else x,
        lambda self, x: x * float(x.mean()),
        lambda self, x: x[x > 0],
        lambda self, x: x.nonzero(),
        lambda self, x: x * x.detach().numpy().max(),
        lambda self, x: x * x.max().item(),
        lambda self, x: x * x.sum().tolist(),
    ],
)
def test_a_model_that_looks_at_numbers_is_told_what_helps(forward):
    model = net(forward, a=conv())
    said = message(model, torch.ones(1, 4, 5, 5))
    line = forward.__code__.co_firstlineno
    assert re.search(rf"Net looks at the values of a tensor at .*test_trace\.py:{line}, `", said)
    assert 'Pass device="cpu"' in said
    assert "--device cpu" in said
    assert trace(model, torch.ones(1, 4, 5, 5), "cpu").operations


def test_the_way_that_the_numbers_take_is_drawn():
    ones = torch.ones(1, 4, 5, 5)
    model = net(lambda self, x: self.a(x) if x.sum() > 0 else self.b(x), a=conv(), b=conv())
    assert ("x", "a") in flow(model, ones, device="cpu")
    assert ("x", "b") in flow(model, -ones, device="cpu")


def test_tensors_from_elsewhere_are_told_from_numbers_looked_at():
    table = torch.ones(5)
    said = message(net(lambda self, x: x + table), torch.zeros(1, 5))
    assert "mixes tensors without numbers and others" in said
    assert 'device="cpu"' in said
    assert "looks at the values" not in said


class Locked(nn.Module):
    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()

    def forward(self, x):
        return x


def test_a_model_that_can_not_be_copied():
    with pytest.raises(TypeError):
        copy.deepcopy(Locked())
    said = message(Locked(), torch.zeros(1))
    assert "copy.deepcopy" in said
    assert "Locked can't be" in said
    assert "lock" in said


@pytest.mark.usefixtures("no_typecheck")
@pytest.mark.parametrize("model", [nn.Conv2d, None, lambda x: x, "unet"])
def test_not_a_module(model):
    with pytest.raises(ValueError, match=r"model: expected a torch\.nn\.Module, came \w+"):
        trace(model, torch.zeros(1))


@pytest.mark.usefixtures("no_typecheck")
@pytest.mark.parametrize("inputs", [(), [], {}, None, 3, "x", ("x",), (3,), {"x": None}, ([],)])
def test_no_tensor_among_the_inputs(inputs):
    with pytest.raises(ValueError, match=r"inputs: expected a tensor.* came \w+"):
        trace(conv(), inputs)


@pytest.mark.parametrize(
    "inputs",
    [
        {"nope": torch.zeros(1, 4, 5, 5)},
        (torch.zeros(1, 4, 5, 5), torch.zeros(1)),
        torch.zeros(1, 4, 5, 5, dtype=torch.int64),
        (["a"], torch.zeros(1)),
        [torch.zeros(1), {"a": object()}],
    ],
)
def test_inputs_that_the_model_can_not_take(inputs):
    assert message(conv(), inputs).startswith("inputs: Conv2d can't be run on them")


@pytest.mark.parametrize("device", ["cuda", "mps", "META", ""])
def test_another_device(device):
    with pytest.raises(ValueError, match=r'device: expected "meta" or "cpu", came'):
        trace(conv(), torch.zeros(1, 4, 5, 5), device)
