"""What is drawn of a trace, how it is laid out, and the files that it is saved to."""

import gc
import html
import json
import re
import resource
import subprocess
import sys
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
import torch
from torch import nn

from course.lab import layout
from course.lab.fold import view
from course.lab.graph import COLOURS, draw, shapes_text, si
from course.lab.trace import trace
from course.models.configs import CONFIGURATIONS
from course.models.unet import UNet2DConditionModel, UNetConfig
from course.models.unet2015 import UNet2015

SVG = "{http://www.w3.org/2000/svg}"
X = torch.zeros(1, 4, 6, 7)


def conv(kernel=3, channels=4):
    return nn.Conv2d(channels, channels, kernel, padding=kernel // 2)


def net(forward, **modules):
    """A module with these modules inside and this forward method."""
    made = type("Net", (nn.Module,), {"forward": forward})()
    for name, module in modules.items():
        made.add_module(name, module)
    return made


def shown(model, inputs=X, depth=1, **options):
    return view(trace(model, inputs), depth, **options)


def boxes(seen):
    """Name and repeats of each box that is neither an input nor an output."""
    return [(n.name, n.repeats) for n in seen.nodes if n.kind not in ("input", "output")]


def edges(seen, role=None):
    return [(e.source.name, e.target.name) for e in seen.edges if role is None or e.role == role]


# Folding.


def test_equal_modules_in_a_row_are_drawn_once():
    seen = shown(nn.Sequential(conv(), *[conv(5) for _ in range(4)], conv()))
    assert boxes(seen) == [("0", 1), ("1", 4), ("5", 1)]
    assert edges(seen) == [("input", "0"), ("0", "1"), ("1", "5"), ("5", "output")]
    folded = seen.nodes[2]
    assert folded.last == "4"
    assert folded.parameters == 4 * 4 * 25 + 4
    assert folded.came == folded.went == [(1, 4, 6, 7)]


def test_all_are_drawn_without_folding():
    seen = shown(nn.Sequential(*[conv() for _ in range(4)]), fold=False)
    assert boxes(seen) == [(str(i), 1) for i in range(4)]
    assert len(seen.edges) == 5
    assert seen.groups == []


def test_a_group_that_repeats_is_drawn_as_a_group():
    layers = [f() for _ in range(5) for f in (conv, lambda: nn.GroupNorm(2, 4), nn.ReLU)]
    model = nn.Sequential(*layers, nn.Sigmoid())
    seen = shown(model)
    assert boxes(seen) == [("0", 5), ("1", 5), ("2", 5), ("15", 1)]
    ((group, times),) = seen.groups
    assert [node.name for node in group] == ["0", "1", "2"]
    assert times == 5
    assert [node.last for node in group] == ["12", "13", "14"]
    assert edges(seen) == [("input", "0"), ("0", "1"), ("1", "2"), ("2", "15"), ("15", "output")]
    svg = ElementTree.fromstring(draw(model, X).svg)
    assert "x 5" in [text.text for text in svg.iter(f"{SVG}text")]


class Shifted(nn.Module):
    """Prints the same, whether it shifts or not; as the blocks of a Swin transformer do."""

    def __init__(self, shift):
        super().__init__()
        self.shift, self.conv = shift, conv()

    def forward(self, x):
        return self.conv(x.roll(1, 2) if self.shift else x)


class Scaled(nn.Module):
    """Prints the same, whatever its size."""

    def __init__(self, size):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(size))

    def forward(self, x):
        return x * self.scale


@pytest.mark.parametrize(
    "pair",
    [
        (conv(3), conv(5)),
        (conv(), nn.Conv2d(4, 4, 3, padding=1, bias=False)),
        (Shifted(False), Shifted(True)),
        (Scaled(7), Scaled(1)),
        (conv(), nn.utils.spectral_norm(conv())),
        (nn.ReLU(), nn.SiLU()),
        (nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)),  # the second gets a smaller picture
    ],
)
def test_what_differs_is_not_folded(pair):
    assert boxes(shown(nn.Sequential(*pair))) == [("0", 1), ("1", 1)]


def test_what_a_skip_leaves_in_the_middle_is_not_folded():
    def forward(self, x):
        h = self.b(self.a(x))
        return self.d(self.c(h)) + h

    seen = shown(net(forward, a=conv(), b=conv(), c=conv(), d=conv()))
    assert boxes(seen) == [("a", 2), ("c", 2), ("add", 1)]

    def inner(self, x):
        h = self.a(x)
        return self.c(self.b(h)) + h

    seen = shown(net(inner, a=conv(), b=conv(), c=conv()))
    assert boxes(seen) == [("a", 1), ("b", 2), ("add", 1)]
    assert edges(seen, "skip") == [("a", "add")]


class Modulated(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = conv()

    def forward(self, x, t):
        return self.conv(x) + t


def test_only_modules_with_the_same_side_inputs_are_folded():
    def same(self, x, t):
        return self.c(self.b(self.a(x, t), t), t)

    def two(self, x, t, s):
        return self.c(self.b(self.a(x, t), t), s)

    def late(self, x, t):
        return self.c(self.b(self.a(x, t), t), self.d(t))

    layers = {name: Modulated() for name in "abc"}
    assert boxes(shown(net(same, **layers), (X, X))) == [("a", 3)]
    assert boxes(shown(net(two, **layers), (X, X, X))) == [("a", 2), ("c", 1)]
    seen = shown(net(late, **layers, d=conv()), (X, X))
    assert sorted(boxes(seen)) == [("a", 2), ("c", 1), ("d", 1)]


def test_a_memory_that_all_share_does_not_prevent_folding():
    def forward(self, x):
        memory = self.memory(x)
        for layer in self.layers:
            x = layer(x, memory)
        return x

    layers = nn.ModuleList(nn.Bilinear(7, 7, 7) for _ in range(4))
    seen = shown(net(forward, memory=conv(), layers=layers))
    # The first follows the memory itself, the others a layer.
    assert boxes(seen) == [("memory", 1), ("layers.0", 1), ("layers.1", 3)]
    assert edges(seen, "skip") == [("x", "layers.0"), ("memory", "layers.1")]


def test_what_a_skip_enters_is_not_folded():
    seen = shown(net(lambda self, x: self.b(self.a(x, x), x), a=Modulated(), b=Modulated()))
    assert boxes(seen) == [("a", 1), ("b", 1)]
    assert edges(seen, "skip") == [("x", "b")]


def test_an_input_that_what_is_drawn_does_not_use_is_left_out():
    def forward(self, x, kept):
        return self.c(x) + kept.pop()

    outer = net(
        lambda self, x: self.inner(x, [x, self.a(x)]), inner=net(forward, c=conv()), a=conv()
    )
    seen = shown(outer, focus="inner")
    assert [n.name for n in seen.nodes if n.kind == "input"] == ["x", "kept[1]"]


def test_a_module_called_twice_in_a_row_is_no_range():
    shared = conv()
    drawn = draw(nn.Sequential(shared, shared), X)
    assert boxes(drawn.view) == [("0", 2)]
    assert 'label="0  x 2\\nConv2d' in drawn.dot


# Depth and focus.


def test_modules_are_opened_down_to_the_depth():
    model = nn.Sequential(nn.Sequential(nn.Sequential(conv(), nn.ReLU()), nn.SiLU()), nn.Tanh())
    names = [
        [node.call.path for node in shown(model, depth=depth).nodes if node.module]
        for depth in (1, 2, 3, 9)
    ]
    assert names[0] == ["0", "1"]
    assert names[1] == ["0.0", "0.1", "1"]
    assert names[2] == names[3] == ["0.0.0", "0.0.1", "0.1", "1"]
    inside = [[call.path for call in n.inside] for n in shown(model, depth=3).nodes if n.module]
    assert inside == [["0", "0.0"], ["0", "0.0"], ["0"], []]
    assert shown(model, depth=1).nodes[1].kind == "block"


def test_each_call_of_an_opened_module_has_its_own_frame():
    block = nn.Sequential(conv(), nn.ReLU())
    drawn = draw(nn.Sequential(block, nn.Tanh(), block), X, depth=2)
    frames = re.findall(r"subgraph (\w+) ", drawn.dot)
    assert len(frames) == len(set(frames)) == 2


def test_frames_of_repeats_and_of_modules_do_not_meet():
    """A module may be called r0."""
    first = nn.Sequential(nn.Conv2d(4, 8, 1), nn.Conv2d(8, 4, 1))
    rest = nn.Sequential(*[f() for _ in range(3) for f in (conv, nn.ReLU)])
    drawn = draw(net(lambda self, x: self.q(self.r0(x)), r0=first, q=rest), X, depth=2)
    frames = re.findall(r"subgraph (\w+) ", drawn.dot)
    assert len(frames) == len(set(frames)) == 3


@pytest.mark.parametrize("config", [CONFIGURATIONS["digits-ddpm"], CONFIGURATIONS["unet"]])
def test_focus_opens_one_block_with_its_arguments_as_inputs(config):
    with torch.device("meta"):
        model = config.build()
    drawn = draw(model, config.inputs(), focus="up_blocks.0.resnets.0")
    names = {node.name: node for node in drawn.view.nodes}
    inputs = [node.name for node in drawn.view.nodes if node.kind == "input"]
    assert sorted(inputs) == ["temb", "x"]
    deep = model.config.block_out_channels[-1]
    assert names["conv2"].module.out_channels == deep
    assert names["x"].went[0][1] == 2 * deep
    assert len(edges(drawn.view, "skip")) == 1  # past the two convolutions
    assert "UNet2DConditionModel, up_blocks.0.resnets.0" in drawn.svg


def test_an_unknown_focus_names_near_ones():
    with pytest.raises(ValueError, match=r"focus: .*such as .*layers\.0.*came 'layer\.0'"):
        draw(net(lambda self, x: self.layers(x), layers=nn.Sequential(conv())), X, focus="layer.0")
    with pytest.raises(ValueError, match="focus: expected a module that is called, came 'a'"):
        draw(conv(), X, focus="a")


@pytest.mark.usefixtures("no_typecheck")
@pytest.mark.parametrize("depth", [0, -1, True, 1.5, "2", None])
def test_a_wrong_depth(depth):
    with pytest.raises(ValueError, match="depth: expected an integer of at least 1, came"):
        draw(conv(), X, depth=depth)


@pytest.mark.usefixtures("no_typecheck")
@pytest.mark.parametrize("direction", ["down", "tb", "", None])
def test_a_wrong_direction(direction):
    with pytest.raises(ValueError, match=r"direction: expected one of \('TB', 'LR'.*came"):
        draw(conv(), X, direction=direction)


# Roles.


@pytest.mark.parametrize("levels", [1, 2, 3, 4])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("fold", [True, False])
def test_as_many_skips_as_the_configuration_has(levels, layers, fold):
    channels = (8, 8, 16, 16)[:levels]
    config = UNetConfig(1, 1, channels, layers, norm_num_groups=4)
    inputs = (torch.zeros(1, 1, 12, 9), torch.zeros(1, dtype=torch.int64))
    seen = shown(UNet2DConditionModel(config), inputs, depth=2, fold=fold)
    # The first convolution, each residual block, each of the halvings.
    count = 1 + layers * levels + (levels - 1)
    skips = [edge for edge in seen.edges if edge.role == "skip"]
    assert len(skips) == sum(len(edge.shapes) for edge in skips) == count == (layers + 1) * levels
    into = [(edge.target.name, edge.target.call.path) for edge in skips]
    up = [("cat", f"up_blocks.{i}") for i in range(levels) for _ in range(layers + 1)]
    assert sorted(into) == up
    sides = {edge.source.name for edge in seen.edges if edge.role == "side"}
    assert "t" in sides
    assert "xt" not in sides


@pytest.mark.parametrize("depth", [1, 2])
def test_words_go_into_blocks_that_attend_and_nowhere_else(depth):
    config = UNetConfig(
        1, 1, (8, 8, 16), 2, norm_num_groups=4, cross_attention_dim=6, num_attention_heads=2
    )
    inputs = (torch.zeros(1, 1, 12, 9), torch.zeros(1, dtype=torch.int64), torch.zeros(1, 5, 6))
    seen = shown(UNet2DConditionModel(config), inputs, depth, fold=False)
    told = [edge for edge in seen.edges if edge.source.name == "context"]
    assert {edge.role for edge in told} == {"side"}
    assert {edge.shapes for edge in told} == {((1, 5, 6),)}
    attending = ["down_blocks.0", "down_blocks.1", "mid_block", "up_blocks.1", "up_blocks.2"]
    paths = sorted(edge.target.call.path for edge in told)
    if depth == 1:
        assert paths == attending
    else:
        counts = (2, 2, 1, 3, 3)
        assert paths == [
            f"{block}.attentions.{i}"
            for block, n in zip(attending, counts, strict=True)
            for i in range(n)
        ]


@pytest.mark.parametrize("depth", [1, 2])
def test_the_original_unet_has_four(depth):
    with torch.device("meta"):
        seen = shown(UNet2015(), torch.zeros(1, 1, 572, 572), depth)
    assert len(edges(seen, "skip")) == 4
    assert edges(seen, "side") == []


def test_a_chain_has_none_and_a_shortcut_is_one():
    assert edges(shown(nn.Sequential(conv(), nn.ReLU(), conv(5))), "skip") == []
    plain = net(lambda self, x: x + self.b(self.a(x)), a=conv(), b=conv(5))
    assert edges(shown(plain), "skip") == [("x", "add")]
    by_conv = net(lambda self, x: self.s(x) + self.b(self.a(x)), a=conv(), b=conv(5), s=conv(1))
    assert edges(shown(by_conv), "skip") == [("s", "add")]


def test_the_main_path_starts_at_the_first_input_that_is_used():
    seen = shown(net(lambda self, x, y: self.b(self.a(y)), a=conv(), b=conv(5)), (X, X))
    assert edges(seen) == edges(seen, "main")
    assert [node.name for node in seen.nodes if node.kind == "input"] == ["y"]


# The picture.


def parsed(drawn):
    return ElementTree.fromstring(drawn.svg)


def node_groups(svg):
    return {g.get("id"): g for g in svg.iter(f"{SVG}g") if g.get("class", "").startswith("node")}


def extent(group):
    """Left and right end of the shape of a box."""
    ellipse = group.find(f".//{SVG}ellipse")
    if ellipse is not None:
        middle, radius = float(ellipse.get("cx")), float(ellipse.get("rx"))
        return middle - radius, middle + radius
    shape = group.find(f".//{SVG}path")
    points = shape.get("d") if shape is not None else group.find(f".//{SVG}polygon").get("points")
    xs = [float(x) for x, _ in re.findall(r"(-?[\d.]+)[ ,](-?[\d.]+)", points)]
    return min(xs), max(xs)


@pytest.fixture(params=["wasi", "dot"])
def engine(request, monkeypatch):
    """Lay out without a `dot` on the PATH, and with it."""
    if request.param == "wasi":
        monkeypatch.setenv("PATH", "")
    elif layout.shutil.which("dot") is None:
        pytest.skip("dot is not installed")
    return request.param


def small():
    return net(
        lambda self, x, t: self.b(torch.cat([self.a(x) + self.c(t), x], 1)),
        a=nn.Sequential(conv(), nn.GroupNorm(2, 4)),
        b=nn.Conv2d(8, 4, 1),
        c=nn.Linear(7, 7),
    )


@pytest.mark.parametrize("direction", ["TB", "LR", "BT", "RL"])
def test_the_picture_holds_every_box_and_text_within_its_box(engine, direction):
    drawn = draw(small(), (X, X), depth=2, direction=direction)
    svg = parsed(drawn)
    groups = node_groups(svg)
    assert set(groups) == {f"n{i}" for i in range(len(drawn.view.nodes))}
    for group in groups.values():
        left, right = extent(group)
        for text in group.iter(f"{SVG}text"):
            middle, half = float(text.get("x")), float(text.get("textLength")) / 2
            assert text.get("text-anchor") == "middle"
            assert left <= middle - half < middle + half <= right, text.text
    assert len([g for g in svg.iter(f"{SVG}g") if g.get("class") == "edge"]) == len(
        drawn.view.edges
    )
    assert svg.get("role") == "img"
    assert "Computation graph of Net" in svg.get("aria-label")
    left, top, width, height = map(float, svg.get("viewBox").split())
    assert (left, top) == (0, 0)
    assert svg.get("width") == f"{width:g}pt"
    assert svg.get("height") == f"{height:g}pt"


def place(svg, number):
    """Where a box is: across and down."""
    text = node_groups(svg)[f"n{number}"].find(f".//{SVG}text")
    return float(text.get("x")), float(text.get("y"))


@pytest.mark.parametrize(
    ("direction", "axis", "sign"), [("TB", 1, 1), ("BT", 1, -1), ("LR", 0, 1), ("RL", 0, -1)]
)
def test_the_direction_of_the_flow(direction, axis, sign):
    svg = parsed(draw(nn.Sequential(conv(), nn.ReLU()), X, direction=direction))
    places = [place(svg, i)[axis] * sign for i in range(4)]
    assert places == sorted(places)
    assert places[0] < places[-1]


@pytest.mark.parametrize(
    ("model", "inputs", "entries"),
    [
        (nn.Sequential(conv()), X, ["convolution"]),
        (nn.Sequential(conv(), nn.ReLU()), X, ["convolution", "activation"]),
        (
            small(),
            (X, X),
            ["block", "convolution", "linear", "join", "skip or shortcut", "side input"],
        ),
        (nn.Sequential(nn.MaxPool2d(2), nn.Flatten()), X, ["resampling", "function"]),
        (nn.Embedding(3, 4), torch.zeros(1, 2, dtype=torch.int64), ["embedding"]),
        (nn.Identity(), X, []),
    ],
)
def test_the_legend_has_the_kinds_that_are_there(model, inputs, entries):
    svg = parsed(draw(model, inputs))
    (legend,) = [g for g in svg.iter(f"{SVG}g") if g.get("class") == "legend"]
    assert [text.text for text in legend.iter(f"{SVG}text")] == entries
    fills = [rect.get("fill") for rect in legend.iter(f"{SVG}rect")]
    assert fills == [COLOURS[entry][0] for entry in entries if entry in COLOURS]
    width = float(svg.get("viewBox").split()[2])
    for text in legend.iter(f"{SVG}text"):
        assert float(text.get("x")) + float(text.get("textLength")) <= width


NAMES = [
    'say "hi"',
    "back\\slash",
    "\\N",
    "ends\\",
    "two\\\\",
    "ünïcödé → 卷积",
    "{a|b}",
    "<b>bold</b>",
    "a&lt;b",
    "&amp;",
    "node",
    "edge",
    "graph",
    "digraph",
    "subgraph",
    "strict",
    "n0",
    "cluster",
    "</script>",
    "{svg}",
    "%s{0}",
    "x" * 300,
    "-1",
    "a,b;c",
    "a -> b",
]


def test_any_name_is_drawn_as_it_is(engine):
    inner = nn.ModuleDict({name: nn.Sequential(conv(), nn.ReLU()) for name in NAMES})

    def forward(self, x):
        for name in NAMES:
            x = self.all[name](x)
        return x

    model = net(forward, all=inner)
    groups = node_groups(parsed(draw(model, X, fold=False)))
    for i, name in enumerate(NAMES, 1):
        texts = list(groups[f"n{i}"].iter(f"{SVG}text"))
        assert texts[0].text.replace("\xa0", " ") == f"all.{name}"
        left, right = extent(groups[f"n{i}"])
        assert all(float(text.get("textLength")) <= right - left for text in texts)
    opened = parsed(draw(model, X, depth=2))
    shown_there = {(text.text or "").replace("\xa0", " ") for text in opened.iter(f"{SVG}text")}
    assert {f"all.{name} · Sequential" for name in NAMES} <= shown_there


@pytest.mark.parametrize("name", ['say "hi"', "back\\slash", "a&lt;b", "{svg}", "</script>"])
def test_any_name_in_focus(name, tmp_path):
    model = nn.ModuleDict({name: nn.Sequential(conv(), nn.ReLU())})
    drawn = draw(net(lambda self, x: self.all[name](x), all=model), X, focus=f"all.{name}")
    assert drawn.title == f"Net, all.{name}"
    assert parsed(drawn).get("aria-label").endswith(f"all.{name}")
    page = drawn.save(tmp_path / "a.html").read_text()
    assert page.count("<svg") == page.count("</svg>") == page.count("</script>") == 1
    assert html.unescape(re.search("<title>(.*)</title>", page)[1]) == drawn.title


@pytest.mark.parametrize("name", ["N" * 200, "node", "{title}", "Ünï"])
def test_any_name_of_a_class(engine, name):
    model = type(name, (nn.Sequential,), {})(type(name, (nn.Conv2d,), {})(4, 4, 3))
    drawn = draw(model, X)
    assert name in [
        text.text.split("\xa0")[0].split(" ")[0]
        for text in node_groups(parsed(drawn))["n1"].iter(f"{SVG}text")
    ]
    assert drawn.title == name


def test_texts_are_as_wide_as_their_letters():
    """Spaces around a label, which a browser drops, must not stretch it."""
    drawn = draw(nn.Sequential(conv()), X)
    for text in parsed(drawn).iter(f"{SVG}text"):
        assert text.text == text.text.strip()
        size = float(text.get("font-size", 11))
        width = layout._width(text.text.replace("\xa0", " "), size)
        assert float(text.get("textLength")) == pytest.approx(width, abs=0.1)


def test_two_draws_are_the_same_bytes():
    first, second = (draw(small(), (X, X), depth=2) for _ in range(2))
    assert first.dot == second.dot
    assert first.svg == second.svg
    bundles = [drawn._repr_mimebundle_() for drawn in (first, second)]
    assert bundles[0] == bundles[1]
    assert set(bundles[0]) == {"text/html", "text/plain"}


@pytest.mark.slow
def test_the_same_bytes_whatever_the_hash_seed():
    code = """
from course.lab.graph import draw
from course.models.configs import CONFIGURATIONS as C
print(draw(C["digits-ddpm"].build(), C["digits-ddpm"].inputs(), depth=3).svg)
"""
    pictures = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PATH": ""},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(pictures) == 1


def test_what_a_notebook_gets_shows_without_scripts():
    drawn = draw(small(), (X, X))
    page = drawn._repr_mimebundle_()["text/html"]
    still = page.partition("<script>")[0]
    (source,) = re.findall(r'<img src="data:image/svg\+xml;base64,([^"]+)" alt="([^"]+)"', still)
    assert layout.base64.b64decode(source[0]).decode() == drawn.svg
    assert source[1] == repr(drawn) == drawn._repr_mimebundle_()["text/plain"]
    assert "Net: 5 boxes, 8 edges, 1 of them skips" in repr(drawn)
    assert "http:" not in page.replace("http://www.w3.org", "")


# Files.


def test_json_agrees_with_dot(tmp_path):
    drawn = draw(small(), (X, X), depth=2)
    told = json.loads(drawn.save(tmp_path / "a.json").read_text())
    dot = drawn.save(tmp_path / "a.dot").read_text()
    assert dot == drawn.dot
    nodes = re.findall(r"^ *(n\d+) \[label=.*class=(\w+)", dot, re.M)
    assert [(node["id"], node["kind"]) for node in told["nodes"]] == sorted(
        nodes, key=lambda node: int(node[0][1:])
    )
    assert [(edge["from"], edge["to"]) for edge in told["edges"]] == re.findall(
        r"(n\d+) -> (n\d+)", dot
    )
    by_path = {node["path"]: node for node in told["nodes"] if node["path"]}
    assert by_path["a.0"]["class"] == "Conv2d"
    assert by_path["a.0"]["parameters"] == 148
    assert by_path["b"]["inputs"] == [[1, 8, 6, 7]]
    assert by_path["b"]["outputs"] == [[1, 4, 6, 7]]
    assert told["title"] == "Net"
    assert {edge["role"] for edge in told["edges"]} == {"main", "skip", "side"}


def test_folded_boxes_in_json():
    told = draw(nn.Sequential(*[conv() for _ in range(3)]), X).as_dict()
    assert [node["repeats"] for node in told["nodes"]] == [1, 3, 1]


def test_svg_and_page_are_written(tmp_path):
    drawn = draw(small(), (X, X))
    assert drawn.save(tmp_path / "new" / "a.svg") == tmp_path / "new" / "a.svg"
    assert (tmp_path / "new" / "a.svg").read_text() == drawn.svg
    page = drawn.save(str(tmp_path / "a.html")).read_text()
    assert drawn.svg in page
    assert "<title>Net</title>" in page
    assert not re.search(r"""(src|href)=["'](?!#)""", page.replace('xlink:href="#"', ""))
    assert "http" not in re.sub(r"http://www\.w3\.org[\w/]+", "", page)


@pytest.mark.parametrize("name", ["a.gif", "a", "svg", ".svg.bak"])
def test_another_ending(tmp_path, name):
    with pytest.raises(ValueError, match=rf"path: .*\.svg, \.html.*came '{re.escape(name)}'"):
        draw(conv(), X).save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", ["svg", "html", "dot", "json"])
def test_a_failed_save_leaves_what_was_there(tmp_path, monkeypatch, ending):
    drawn = draw(conv(), X)
    path = tmp_path / f"a.{ending}"
    path.write_text("before")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        drawn.save(path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "before"


def test_a_folder_that_can_not_be_made(tmp_path):
    (tmp_path / "file").write_text("before")
    with pytest.raises((FileExistsError, NotADirectoryError)):
        draw(conv(), X).save(tmp_path / "file" / "a.svg")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("kind", ["png", "pdf"])
def test_neither_cairosvg_nor_dot(tmp_path, monkeypatch, kind):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "cairosvg", None)
    with pytest.raises(ValueError, match=rf"\.{kind} needs CairoSVG .* Graphviz.*\.svg and \.html"):
        draw(conv(), X).save(tmp_path / f"a.{kind}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("kind", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_dot_makes_pictures_of_dots(tmp_path, monkeypatch, kind, start):
    if layout.shutil.which("dot") is None:
        pytest.skip("dot is not installed")
    monkeypatch.setitem(sys.modules, "cairosvg", None)
    assert draw(conv(), X).save(tmp_path / f"a.{kind}").read_bytes().startswith(start)


@pytest.mark.parametrize("kind", ["png", "pdf"])
def test_cairosvg_is_given_the_picture(tmp_path, monkeypatch, kind):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(
        sys.modules,
        "cairosvg",
        SimpleNamespace(
            svg2png=lambda svg, **_: b"png" + svg[:4], svg2pdf=lambda svg, **_: b"pdf" + svg[:4]
        ),
    )
    drawn = draw(conv(), X)
    assert drawn.save(tmp_path / f"a.{kind}").read_bytes() == kind.encode() + b"<svg"


def test_what_graphviz_can_not_read(engine):
    with pytest.raises(RuntimeError, match="could not lay"):
        layout.layout("digraph {", "nothing", [])


def test_a_dot_that_crashes_is_stood_in_for(tmp_path, monkeypatch):
    broken = tmp_path / "dot"
    broken.write_text("#!/bin/sh\nkill -SEGV $$\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert layout.shutil.which("dot") == str(broken)
    assert "a sentence" in layout.layout('digraph { "a sentence" }', "it", [])


# Texts.


def test_counts_and_shapes():
    assert [si(n) for n in (0, 999, 1000, 2_255_040, 859_520_964, 3_000_000_000)] == [
        "0",
        "999",
        "1 k",
        "2.26 M",
        "860 M",
        "3 G",
    ]
    assert shapes_text([(1, 3), (1, 3), ()]) == "2 of 1x3, scalar"


@pytest.mark.parametrize(
    ("layer", "inputs", "text"),
    [
        (nn.Conv2d(4, 8, 3), X, "Conv2d 3x3  4 → 8"),
        (nn.Conv2d(4, 8, (3, 1), (2, 1)), X, "Conv2d 3x1 / 2x1  4 → 8"),
        (nn.Conv1d(4, 8, 3, 2), torch.zeros(1, 4, 9), "Conv1d 3 / 2  4 → 8"),
        (nn.MaxPool2d(2), X, "MaxPool2d 2x2 / 2"),
        (nn.MaxPool1d(2), torch.zeros(1, 4, 9), "MaxPool1d 2 / 2"),
        (nn.MaxPool3d(2), torch.zeros(1, 4, 4, 4, 4), "MaxPool3d 2x2x2 / 2"),
        (nn.AvgPool2d((2, 1)), X, "AvgPool2d 2x1 / 2x1"),
        (nn.Linear(7, 3), X, "Linear 7 → 3"),
        (nn.GroupNorm(2, 4), X, "GroupNorm 2 groups"),
        (nn.Embedding(9, 3), torch.zeros(1, 2, dtype=torch.int64), "Embedding 9 x 3"),
        (nn.ReLU(), X, "ReLU"),
    ],
)
def test_what_sets_a_layer_apart(layer, inputs, text):
    assert f'label="0\\n{text}"' in draw(nn.Sequential(layer), inputs).dot


# Of any size.


@pytest.mark.slow
def test_a_model_of_the_size_of_stable_diffusion_costs_no_memory(engine):
    configuration = CONFIGURATIONS["unet"]
    with torch.device("meta"):
        model = configuration.build()
    assert sum(p.numel() for p in model.parameters()) == 859_520_964
    draw(nn.Sequential(conv()), X)  # what is imported once
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # At depth 3 also the sums of 22 residual blocks and 16 transformers.
    for depth, count in ((1, 8), (2, 12), (3, 12 + 22 + 16)):
        drawn = draw(model, configuration.inputs(), depth=depth)
        assert len(edges(drawn.view, "skip")) == count
        assert set(node_groups(parsed(drawn))) == {f"n{i}" for i in range(len(drawn.view.nodes))}
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 400_000, "kilobytes; the weights would be 3.4 million"
    real = [t for t in gc.get_objects() if type(t) is nn.Parameter and not t.is_meta]
    assert sum(t.numel() for t in real) < 1e6
