"""Drawn graphs as people see them: on the page of its own, and in JupyterLab."""

import http.server
import json
import threading
import time
from functools import partial

import nbformat
import pytest
import torch

from course.lab.graph import draw
from course.models.configs import CONFIGURATIONS

DRAWING = """
from course.lab.graph import draw
from course.models.configs import CONFIGURATIONS as C
draw(C["digits-ddpm"].build(), C["digits-ddpm"].inputs(), depth=2)
"""
# The text and the shape of every box, in pixels; and what is not inside.
OUTSIDE = """
const at = element => element.getBoundingClientRect();
const within = (a, b) => a.left >= b.left - 0.6 && a.right <= b.right + 0.6 &&
                         a.top >= b.top - 0.6 && a.bottom <= b.bottom + 0.6;
const svg = document.querySelector("svg"), whole = at(svg);
const outside = [];
for (const node of svg.querySelectorAll("g.node"))
  for (const text of node.querySelectorAll("text"))
    if (!within(at(text), at(node.querySelector("path, polygon, ellipse"))))
      outside.push(text.textContent);
for (const element of svg.querySelectorAll("text, path, polygon, ellipse, line, rect"))
  if (!within(at(element), whole)) outside.push(element.outerHTML.slice(0, 80));
return outside;
"""
SCALE = "return new DOMMatrix(getComputedStyle(document.querySelector('svg')).transform)"


def wait(driver, condition, what, seconds=20):
    end = time.monotonic() + seconds
    while not driver.execute_script(f"return {condition}"):
        assert time.monotonic() < end, f"after {seconds} s: {what}"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Pages of two graphs, served; and the list of what was asked for."""
    folder = tmp_path_factory.mktemp("site")
    for name, depth in (("unet", 1), ("unet", 2), ("digits-ddpm", 3)):
        with torch.device("meta"):
            model = CONFIGURATIONS[name].build()
        drawn = draw(model, CONFIGURATIONS[name].inputs(), depth=depth)
        drawn.save(folder / f"{name}-{depth}.html")
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            asked.append(self.path)

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Handler, directory=str(folder))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


@pytest.fixture
def page(browser, site):
    """The page of the U-Net at depth 2, as it opens; nothing failed when it is closed."""
    browser.get("about:blank")
    browser.get_log("browser")
    browser.get(f"{site[0]}/unet-2.html")
    yield browser
    assert complaints(browser) == []


def complaints(driver):
    """What the console has, but for the icon that browsers ask servers for."""
    return [entry for entry in driver.get_log("browser") if "favicon" not in entry["message"]]


def scale(driver):
    return driver.execute_script(SCALE + ".a")


def offset(driver):
    return driver.execute_script(SCALE.replace("return", "const m =") + "; return [m.e, m.f]")


def click(driver, name):
    from selenium.webdriver.common.by import By

    driver.find_element(By.ID, name).click()


@pytest.mark.parametrize("name", ["unet-1", "unet-2", "digits-ddpm-3"])
def test_all_text_is_inside_its_box_and_all_of_the_graph_on_the_page(browser, site, name):
    browser.get(f"{site[0]}/{name}.html")
    assert browser.execute_script("return document.querySelectorAll('g.node').length") > 10
    for button in ("fit", "full"):
        click(browser, button)
        assert browser.execute_script(OUTSIDE) == []
    click(browser, "fit")
    fits = """
    const a = document.querySelector("svg").getBoundingClientRect();
    const b = document.querySelector("#stage").getBoundingClientRect();
    return a.left >= b.left - 1 && a.right <= b.right + 1 && a.bottom <= b.bottom + 1;
    """
    assert browser.execute_script(fits)
    assert browser.execute_script(
        "return document.documentElement.scrollWidth <= innerWidth && "
        "document.documentElement.scrollHeight <= innerHeight"
    )
    assert browser.execute_script(
        "const box = document.querySelector('#search');"
        "box.value = box.placeholder; const whole = box.scrollWidth <= box.clientWidth;"
        "box.value = ''; return whole"
    )


def test_text_that_does_not_fit_would_be_seen(page):
    """The check above sees a text that is too long for its box, and a box that is cut off."""
    page.execute_script(
        "const text = document.querySelector('g.node text');"
        "text.removeAttribute('textLength'); text.textContent = 'x'.repeat(60)"
    )
    assert page.execute_script(OUTSIDE)[0] == "x" * 60
    page.execute_script("document.querySelector('g.node').setAttribute('transform', 'scale(99)')")
    assert len(page.execute_script(OUTSIDE)) > 1


def test_the_page_asks_for_nothing(browser, site):
    address, asked = site
    del asked[:]
    browser.get(f"{address}/unet-1.html")
    wait(browser, "document.readyState === 'complete'", "not loaded")
    loaded = "return performance.getEntriesByType('resource').map(entry => entry.name)"
    assert [name for name in browser.execute_script(loaded) if "favicon" not in name] == []
    assert {path for path in asked if "favicon" not in path} <= {"/unet-1.html"}


def test_buttons_zoom(page):
    start = scale(page)
    click(page, "in")
    assert scale(page) == pytest.approx(1.25 * start, rel=1e-3)
    click(page, "out")
    click(page, "out")
    assert scale(page) == pytest.approx(0.8 * start, rel=1e-3)
    click(page, "full")
    assert scale(page) == 1
    click(page, "fit")
    height = "return stage.clientHeight / svg.getBoundingClientRect().height"
    assert page.execute_script(height) == pytest.approx(1, rel=1e-2)


@pytest.mark.parametrize("name", ["unet-1", "unet-2"])
def test_it_begins_large_enough_to_read(browser, site, name):
    browser.get(f"{site[0]}/{name}.html")
    assert scale(browser) >= 1 or browser.execute_script("return width * 1.01 > innerWidth")


def test_the_wheel_zooms_around_the_pointer(page):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin
    from selenium.webdriver.common.by import By

    start, (x, y) = scale(page), offset(page)
    stage = page.find_element(By.ID, "stage")
    px, py = stage.rect["width"] / 2 + 40, stage.rect["height"] / 2 + 30
    origin = ScrollOrigin.from_element(stage, 40, 30)
    ActionChains(page).scroll_from_origin(origin, 0, -200).perform()
    wait(page, f"({SCALE[7:]}).a > {start * 1.1}", "not zoomed in")
    factor = scale(page) / start
    after = offset(page)
    for at, before, now in ((px, x, after[0]), (py, y, after[1])):
        assert at - now == pytest.approx((at - before) * factor, abs=2)
    ActionChains(page).scroll_from_origin(origin, 0, 400).perform()
    wait(page, f"({SCALE[7:]}).a < {start}", "not zoomed out")


def test_the_graph_is_dragged(page):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By

    click(page, "full")
    before = offset(page)
    stage = page.find_element(By.ID, "stage")
    drag = ActionChains(page).move_to_element(stage).click_and_hold()
    drag.move_by_offset(70, -50).release().move_by_offset(30, 30).perform()
    after = offset(page)
    assert [b - a for a, b in zip(before, after, strict=True)] == pytest.approx([70, -50], abs=1)
    assert page.current_url.endswith("unet-2.html")  # a box is a link to nowhere


def found(driver):
    return driver.execute_script(
        "return [document.querySelector('#count').textContent,"
        "document.querySelectorAll('.found').length,"
        "[...document.querySelectorAll('.here')].map(node => node.id)]"
    )


def test_search_finds_counts_and_goes_on(page):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    model = CONFIGURATIONS["unet"]
    with torch.device("meta"):
        drawn = draw(model.build(), model.inputs(), depth=2)
    boxes = [n for n in drawn.as_dict()["nodes"] if "resnets" in (n["path"] or "")]
    assert len(boxes) == 22
    search = page.find_element(By.ID, "search")
    search.send_keys("resnets")
    assert found(page) == ["22 found", 22, [boxes[0]["id"]]]
    search.send_keys(Keys.ENTER)
    assert found(page) == ["22 found", 22, [boxes[1]["id"]]]
    middle = page.execute_script(
        "const a = document.querySelector('.here').getBoundingClientRect();"
        "const b = document.querySelector('#stage').getBoundingClientRect();"
        "return [a.left + a.right - b.left - b.right, a.top + a.bottom - b.top - b.bottom]"
    )
    assert middle == pytest.approx([0, 0], abs=6)
    assert scale(page) == 1
    for _ in range(21):
        click(page, "next")
    assert found(page)[2] == [boxes[0]["id"]]
    search.send_keys(Keys.CONTROL, "a")
    search.send_keys("MID_BLOCK.")  # whatever the case; "." also in the hint
    assert found(page)[:2] == ["3 found", 3]
    search.send_keys(" nowhere")
    assert found(page) == ["0 found", 0, []]
    search.send_keys(Keys.ENTER)
    search.send_keys(Keys.CONTROL, "a")
    search.send_keys(Keys.DELETE)
    assert found(page) == ["", 0, []]


# In JupyterLab.


def prepare(workspace):
    """A notebook that draws, and one that has drawn, which nobody has said to trust."""
    labconfig = workspace / ".course" / "jupyter" / "labconfig"
    labconfig.mkdir(parents=True)
    overrides = {"@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"}}
    (labconfig / "default_setting_overrides.json").write_text(json.dumps(overrides))
    cell = nbformat.v4.new_code_cell(DRAWING.strip())
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    fresh = nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": kernel})
    nbformat.write(fresh, workspace / "draws.ipynb")
    model = CONFIGURATIONS["digits-ddpm"]
    bundle = draw(model.build(), model.inputs())._repr_mimebundle_()
    cell = nbformat.v4.new_code_cell(
        "draw()",
        execution_count=1,
        outputs=[nbformat.v4.new_output("execute_result", bundle, execution_count=1)],
    )
    seen = nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": kernel})
    nbformat.write(seen, workspace / "untrusted.ipynb")


LOOK = """
window.texts = selector => [...document.querySelectorAll(selector)].map(e => e.innerText.trim());
window.idle = () => texts('.jp-StatusBar-TextItem').some(text => text.endsWith('| Idle'));
window.ran = () => idle() && texts('.jp-CodeCell .jp-InputPrompt').every(n => /^.\\d+.:$/.test(n));
window.picture = () => document.querySelector('.course-graph img');
window.stage = () => document.querySelector('.course-graph-stage');
"""


def open_notebook(lab, browser, name):
    browser.get("about:blank")
    browser.get_log("browser")
    browser.get(f"http://127.0.0.1:{lab.port}/lab/tree/{name}?reset&token={lab.token}")
    browser.execute_script(LOOK)
    wait(browser, "idle() && document.querySelector('.jp-CodeCell') !== null", "not ready", 90)
    assert browser.execute_script("return texts('.jp-NotebookPanel').length") == 1


def width(browser):
    return browser.execute_script("return picture().getBoundingClientRect().width")


def test_a_notebook_shows_zooms_and_scrolls_the_graph(lab, browser):
    from selenium.webdriver.common.by import By

    open_notebook(lab, browser, "draws.ipynb")
    browser.find_element(By.XPATH, "//li[@role='menuitem'][normalize-space()='Run']").click()
    run_all = '.lm-Menu [data-command="runmenu:run-all"]'
    wait(browser, f"document.querySelector('{run_all}') !== null", "no menu")
    browser.find_element(By.CSS_SELECTOR, run_all).click()
    wait(browser, "ran() && picture() !== null", "nothing was drawn", 120)
    assert (
        browser.execute_script("return texts('[data-mime-type$=error], [data-mime-type$=stderr]')")
        == []
    )
    wait(browser, "picture().complete && picture().naturalWidth > 0", "no picture")
    assert browser.execute_script("return picture().alt").startswith("Computation graph of UNet2D")

    fits = "picture().getBoundingClientRect().right <= stage().getBoundingClientRect().right"
    wait(browser, fits, "the picture is wider than the page")
    start = width(browser)
    buttons = {
        button.get_attribute("data-zoom"): button
        for button in browser.find_elements(By.CSS_SELECTOR, ".course-graph-bar button")
    }
    assert all(button.is_displayed() for button in buttons.values())
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", buttons["1.25"])
    buttons["1.25"].click()
    assert width(browser) == pytest.approx(1.25 * start, rel=1e-3)
    buttons["0.8"].click()
    assert width(browser) == pytest.approx(start, rel=1e-3)
    ratio = "const r = picture().getBoundingClientRect(); return r.width / r.height"
    shape = browser.execute_script(ratio)
    buttons["1"].click()
    full = width(browser)
    assert full == pytest.approx(browser.execute_script("return picture().naturalWidth"), rel=0.02)
    for _ in range(4):
        buttons["1.25"].click()
    assert browser.execute_script(ratio) == pytest.approx(shape, rel=0.01)
    assert browser.execute_script(
        "const s = stage(); s.scrollLeft = s.scrollTop = 150;"
        "return [s.scrollLeft, s.scrollTop, s.clientHeight <= 800]"
    ) == [150, 150, True]
    buttons["0"].click()
    assert width(browser) == pytest.approx(start, rel=1e-3)
    assert errors(browser) == []


def errors(browser):
    """What the console has against us: JupyterLab's own messages aside."""
    return [
        entry["message"]
        for entry in browser.get_log("browser")
        if entry["level"] == "SEVERE" and "course-graph" in entry["message"]
    ]


def test_an_untrusted_notebook_shows_the_still_picture(lab, browser):
    open_notebook(lab, browser, "untrusted.ipynb")
    wait(browser, "picture() && picture().complete && picture().naturalWidth > 0", "no picture")
    shown = "bar => bar === null || getComputedStyle(bar).display === 'none'"
    assert browser.execute_script(f"return ({shown})(document.querySelector('.course-graph-bar'))")
    area = "document.querySelector('.jp-OutputArea').getBoundingClientRect()"
    fits = f"picture().getBoundingClientRect().right <= {area}.right"
    wait(browser, fits, "the picture is wider than the page")  # once the page has settled
    assert errors(browser) == []
