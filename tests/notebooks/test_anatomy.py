"""Every master notebook has the parts and keeps to the limits that CONTRIBUTING.md names."""

import ast
import base64
import io
import re

import pytest
from IPython.core.inputtransformer2 import TransformerManager
from PIL import Image

from course.teach.workspace import find_masters, read

MASTERS = find_masters()
MEGABYTE = 1_000_000


@pytest.fixture(params=MASTERS)
def name(request):
    return request.param


@pytest.fixture
def cells(name):
    return read(MASTERS[name]).cells


def code(cells):
    return [cell for cell in cells if cell.cell_type == "code"]


def outputs(cells):
    return [output for cell in code(cells) for output in cell.outputs]


def test_it_was_run_from_top_to_bottom_and_nothing_went_wrong(cells):
    counts = [cell.execution_count for cell in code(cells)]
    assert counts == list(range(1, len(counts) + 1))
    assert [o.ename for o in outputs(cells) if o.output_type == "error"] == []
    stderr = [o.text for o in outputs(cells) if o.get("name") == "stderr"]
    assert stderr == []


def test_what_it_imports_is_there(cells):
    python = [TransformerManager().transform_cell(cell.source) for cell in code(cells)]
    for node in ast.walk(ast.parse("\n".join(python))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            exec(ast.unparse(node), {})


def test_sizes(name, cells):
    assert MASTERS[name].stat().st_size < MEGABYTE
    long = {c.id: c.source.count("\n") + 1 for c in code(cells) if c.source.count("\n") >= 25}
    assert long == {}
    assert code(cells)[0].source.count("\n") < 12, "the setup cell"


def test_the_parts_are_there(cells):
    text = "\n".join(cell.source for cell in cells)
    card = cells[0].source
    assert card.startswith("# ")
    for part in ("By the end", r"\d+ min", r"\d+ s(econds)?\b"):
        assert re.search(part, card), part
    assert "check.summary()" in text
    assert "# NBVAL_CHECK_OUTPUT" in text
    assert text.count("<details>") == text.count("</details>") > 0


def test_the_first_picture_comes_within_five_code_cells(cells):
    early = [
        o for cell in code(cells)[:5] for o in cell.outputs if "image/png" in o.get("data", {})
    ]
    assert early


def test_predictions_are_left_to_the_reader_and_all_revealed(cells):
    text = "\n".join(cell.source for cell in code(cells))
    asked = re.findall(r"^predict\(\"([^\"]+)\", (.+?)\)", text, re.M)
    assert [answer for _, answer in asked] == ["..."] * len(asked)
    printed = "".join(o.text for o in outputs(cells) if o.output_type == "stream")
    assert printed.count("you made no prediction") == len(asked)


def test_pictures_are_small_and_have_a_text(cells):
    for output in outputs(cells):
        picture = output.get("data", {}).get("image/png")
        if picture is None:
            continue
        alt = output.metadata.get("image/png", {}).get("alt", "")
        assert len(alt) > 15, f"no text for a picture: {output.data.get('text/plain')}"
        width, height = Image.open(io.BytesIO(base64.b64decode(picture))).size
        assert width <= 800
        assert height <= 400


def test_nothing_comes_from_the_network_or_names_a_machine(cells):
    text = "\n".join(cell.source for cell in cells)
    remote = re.findall(r"(?:!\[[^\]]*\]\(|src=[\"'])https?:", text)
    assert remote == []
    assert re.findall(r"\bpip3? install|urlopen|requests\.get", text) == []
    printed = "\n".join(str({k: v for k, v in o.items() if k != "data"}) for o in outputs(cells))
    printed += "\n".join(str(o.get("data", {}).get("text/plain", "")) for o in outputs(cells))
    assert re.findall(r"/(?:home|root|tmp|Users|work)/\S+", printed + text) == []


def test_cells_have_names_that_tell(cells):
    ids = [cell.id for cell in cells]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9_-]*", i) for i in ids)
