"""JupyterLab as a student meets it: safe by default, a notebook that runs, a slider that moves."""

import json
import socket
import time
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

NOTEBOOK = "00_start_here.ipynb"


def prepare(workspace):
    """Have all cells in the page, not only those in view."""
    labconfig = workspace / ".course" / "jupyter" / "labconfig"
    labconfig.mkdir(parents=True)
    overrides = {"@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"}}
    (labconfig / "default_setting_overrides.json").write_text(json.dumps(overrides))


def ask(lab, path, token=None, body=None):
    """The address and the text of the answer to a GET, or to a PUT of a body."""
    headers = {"Authorization": f"token {token}"} if token else {}
    method, data = ("PUT", json.dumps(body).encode()) if body else ("GET", None)
    request = Request(f"http://127.0.0.1:{lab.port}{path}", data, headers, method=method)
    with urlopen(request, timeout=20) as answer:
        return answer.url, answer.read().decode()


@pytest.mark.parametrize("token", [None, "wrong"])
def test_no_token_no_answer(lab, token):
    with pytest.raises(HTTPError) as refusal:
        ask(lab, "/api/contents", token)
    assert refusal.value.code == 403
    assert "/login" in ask(lab, "/lab", token)[0]


def test_the_token_opens_the_workspace_and_nothing_above_it(lab):
    names = {
        file["name"] for file in json.loads(ask(lab, "/api/contents", lab.token)[1])["content"]
    }
    assert names == {path.name for path in lab.workspace.glob("[!.]*")}
    assert NOTEBOOK in names
    with pytest.raises(HTTPError):
        ask(lab, "/api/contents/.course", lab.token)


def addresses_of_this_machine():
    """Its addresses other than loopback."""
    found = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None)}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: only chooses a route
            found.add(probe.getsockname()[0])
        except OSError:
            pass  # no network at all
    return {address for address in found if address != "::1" and not address.startswith("127.")}


def test_only_this_machine_reaches_the_server(lab):
    for address in addresses_of_this_machine():
        with pytest.raises(OSError, match=r"refused|timed out|unreachable|not available|assign"):
            socket.create_connection((address, lab.port), timeout=3).close()
    with pytest.raises(OSError, match=r"refused|not available|assign|unreachable|not supported"):
        socket.create_connection(("::1", lab.port), timeout=3).close()
    # 127.0.0.2 is loopback too: a server that listens on every address would answer there.
    with pytest.raises(OSError, match=r"refused|assign|timed out"):
        socket.create_connection(("127.0.0.2", lab.port), timeout=3).close()


def test_students_get_no_instructors_extensions_and_no_news(lab):
    page = ask(lab, "/lab", lab.token)[1]
    config = json.loads(
        page.split('<script id="jupyter-config-data" type="application/json">')[1].split(
            "</script>"
        )[0]
    )
    disabled = config["disabledExtensions"]
    assert "@jupyter/nbgrader" in disabled
    assert config["news"] == {"disabled": True}
    extensions = [extension["name"] for extension in config["federated_extensions"]]
    assert "@jupyter-widgets/jupyterlab-manager" in extensions
    with pytest.raises(HTTPError) as missing:
        ask(lab, "/formgrader", lab.token)
    assert missing.value.code == 404


def test_settings_are_kept_in_the_workspace_and_not_with_the_users(lab):
    theme = "@jupyterlab/apputils-extension/themes"
    ask(lab, "/lab/api/settings/" + theme.replace("/t", ":t"), lab.token, {"raw": "{}"})
    kept = lab.workspace / ".course" / "jupyter" / "lab" / "user-settings"
    assert (kept / f"{theme}.jupyterlab-settings").is_file()
    assert not (lab.home / ".jupyter").exists()


LOOK = """
window.all = selector => [...document.querySelectorAll(selector)];
window.texts = selector => all(selector).map(element => element.innerText.trim());
window.idle = () => texts('.jp-StatusBar-TextItem').some(text => text.endsWith('| Idle'));
window.ready = () => all('.jp-CodeCell').length > 0 && idle();
window.done = () => idle() && texts('.jp-CodeCell .jp-InputPrompt').every(n => /^.\\d+.:$/.test(n));
window.failures = () => texts('[data-mime-type$=error], [data-mime-type$=stderr]');
window.pictures = () => all('.jp-OutputArea img').map(picture => picture.src).join();
"""
RUN_ALL = '.lm-Menu [data-command="runmenu:run-all"]'
HANDLE = ".widget-slider [role=slider]"


def wait(driver, seconds, condition, what):
    """Wait until a condition holds in the page."""
    end = time.monotonic() + seconds
    while not driver.execute_script(f"return {condition}"):
        assert time.monotonic() < end, f"after {seconds} s: {what}"
        time.sleep(0.25)


def test_a_notebook_runs_and_a_slider_moves_its_picture(lab, browser):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    browser.get(f"http://127.0.0.1:{lab.port}/lab/tree/{NOTEBOOK}?token={lab.token}")
    browser.execute_script(LOOK)
    wait(browser, 90, "ready()", "the kernel is not ready")
    assert browser.find_elements(By.CSS_SELECTOR, ".jp-Dialog") == []  # nothing to click away

    browser.find_element(By.XPATH, "//li[@role='menuitem'][normalize-space()='Run']").click()
    wait(browser, 20, f"all('{RUN_ALL}').length", "no menu")
    browser.find_element(By.CSS_SELECTOR, RUN_ALL).click()
    wait(browser, 300, "done()", "not all cells have run")
    assert browser.execute_script("return failures()") == []

    wait(browser, 60, f"all('{HANDLE}').length", "no slider")
    handle = browser.find_element(By.CSS_SELECTOR, HANDLE)
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", handle)
    assert browser.execute_script("return window.before = pictures()")
    ActionChains(browser).click(handle).send_keys(Keys.ARROW_RIGHT).perform()
    wait(browser, 30, "pictures() !== before", "the slider moved, the picture did not")
    assert browser.execute_script("return failures()") == []
