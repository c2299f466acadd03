"""The live page in a real browser while a sweep runs: what it shows moves, and it is whole at a desk and on a phone."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from tests.browser import chromium, errors, needs_browser, set_scheme, set_width
from tests.live_page import Site, serving
from tests.orchestrator.conftest import Cli

ROOT = Path(__file__).parents[3]

pytestmark = [needs_browser, pytest.mark.slow]

SWEEP = """\
name: live
title: Which schedule?
dataset: digits
model: lenet300
seeds: 1
train: {epochs: 240, batch_size: 16, lr: 0.05}
trials:
  - {method: gmp, sparsity: 0.9, train: {lr: 1.0e+9}}
  - method: dense
  - method: imp
    sparsity: [0.8, 0.9]
    retrain_epochs: [20, 40]
    retrain_schedule: [LLR, ALLR]
"""
TRIALS = 1 + 1 + 2 * 2 * 2
WIDTHS = [pytest.param(1280, False, id="desk"), pytest.param(390, True, id="phone")]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The page of a sweep that has just begun, and that ends a while later."""
    cli = Cli(tmp_path_factory.mktemp("live"))
    file = cli.folder / cli.write(SWEEP, "live.yaml")
    command = [sys.executable, "-m", "tests.in_process", str(file), str(cli.folder / "results")]
    run = subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        cli.wait_for((cli.folder / "results/live/sweep.json").exists, run)
        with serving(cli) as running:
            yield running
    finally:
        run.kill()
        run.communicate()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


def text_of(driver: Chrome, part: str) -> str:
    return str(driver.execute_script(f"return document.querySelector('[data-part={part}]').innerText"))


def wait_for(condition: Callable[[], bool], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.2)


def points(driver: Chrome) -> int:
    """Of the longest curve of what runs."""
    script = """
        const plots = [...document.querySelectorAll("[data-kind=growing] .plot")];
        return Math.max(0, ...plots.flatMap((plot) => (plot.data ?? []).map((trace) => trace.x.length)));
    """
    return int(driver.execute_script(script))


def done(driver: Chrome) -> int:
    return int(driver.find_element(By.CSS_SELECTOR, ".facts dd").text.split()[0])


def test_it_moves_without_being_loaded_again(browser: Chrome, site: Site):
    """Running stages with their epochs, curves that grow, trials that finish, figures that appear, and a failure."""
    set_width(browser, 1280)
    browser.get(f"{site.link}sweeps/live")
    browser.execute_script("window.kept = true")
    wait_for(lambda: " of 240" in text_of(browser, "running"))
    wait_for(lambda: points(browser) >= 2)
    first = points(browser)
    wait_for(lambda: points(browser) > first)
    seen: set[int] = set()

    def is_over() -> bool:
        try:
            seen.add(done(browser))
        except StaleElementReferenceException:  # it was replaced just now
            return False
        return max(seen) == TRIALS - 1

    wait_for(is_over, 600)
    assert len(seen) > 2
    wait_for(lambda: "prunesweep resume live" in text_of(browser, "progress"))
    wait_for(lambda: f"{TRIALS - 1} done" in text_of(browser, "progress"))
    assert "1 failed" in text_of(browser, "progress")
    wait_for(lambda: bool(browser.find_elements(By.CSS_SELECTOR, "[data-kind=sparsity] .main-svg")))
    wait_for(lambda: "imp" in text_of(browser, "comparison"))
    assert browser.execute_script("return window.kept"), "it was not loaded again"
    assert errors(browser) == []


def test_a_failure_has_its_traceback(browser: Chrome, site: Site):
    browser.get(f"{site.link}sweeps/live")
    failure = browser.find_element(By.ID, "failures").text
    assert "diverged: 1 stage" in failure
    assert "Traceback (most recent call last)" in failure
    assert "try a lower learning rate" in failure


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "mobile"), WIDTHS)
@pytest.mark.parametrize("path", ["", "sweeps/live", "trial"])
def test_it_is_whole_in_light_and_dark(browser: Chrome, site: Site, path: str, width: int, mobile: bool, scheme: str):
    set_width(browser, width, mobile)
    set_scheme(browser, scheme)
    if path == "trial":
        browser.get(f"{site.link}sweeps/live")
        browser.get(browser.find_elements(By.CSS_SELECTOR, "[data-part=trials] a")[-1].get_attribute("href"))
        wait_for(lambda: bool(browser.find_elements(By.CSS_SELECTOR, ".main-svg")))
    else:
        browser.get(site.link + path)
    measured = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert measured == [width, width]
    paper = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
    inks = browser.execute_script(
        "return [...document.querySelectorAll('.xtitle')].map((text) => getComputedStyle(text).fill)"
    )
    assert set(inks) <= ({"rgb(34, 34, 34)"} if scheme == "light" else {"rgb(228, 232, 236)"})
    assert errors(browser) == []


def test_a_keyboard_reaches_everything(browser: Chrome, site: Site):
    set_width(browser, 1280)
    set_scheme(browser, "light")
    browser.get(f"{site.link}sweeps/live")
    names = browser.execute_script(
        "return [...document.querySelectorAll('a, button, input, summary, .scroll, pre')].filter((one) =>"
        " one.tabIndex < 0).map((one) => one.outerHTML.slice(0, 80))"
    )
    assert [name for name in names if 'class="scroll"' not in name and "modebar" not in name] == []


def test_what_a_reader_has_done_outlives_a_change(browser: Chrome, site: Site):
    browser.get(f"{site.link}sweeps/live")
    browser.find_element(By.ID, "filter-trials").send_keys("ALLR")
    one = "[data-kind=sparsity] .legend button"
    wait_for(lambda: bool(browser.find_elements(By.CSS_SELECTOR, one)))
    name = browser.execute_script(  # in one go, since the page may put a new part in the place of this one at any time
        f"const one = document.querySelector('{one}'); one.click(); return one.dataset.series"
    )
    browser.execute_script("document.querySelector('[data-key] summary').click()")
    browser.execute_script(
        "for (const part of parts) { const held = part.cloneNode(true); replace(part,"
        " window.first?.[part.dataset.part] ?? held.innerHTML, 'other'); }"
    )
    assert browser.find_element(By.ID, "filter-trials").get_attribute("value") == "ALLR"
    assert browser.find_element(By.CSS_SELECTOR, "#trials [role=status]").text == f"4 of {TRIALS} rows"
    pressed = f"""return document.querySelector("[data-kind=sparsity] [data-series='{name}']").ariaPressed"""
    assert browser.execute_script(pressed) == "false"
    hidden = browser.execute_script(
        "return document.querySelector('[data-kind=sparsity] .plot').data.filter((t) => t.visible === false).length"
    )
    assert hidden > 0
    assert not browser.find_element(By.CSS_SELECTOR, "details[data-key]").get_attribute("open")


def test_a_server_that_is_gone_is_said(browser: Chrome, tmp_path: Path, cli: Cli):
    cli.folder.joinpath("results").mkdir()
    cli.folder.joinpath("results/.prunesweep").touch()
    with serving(cli) as short:
        browser.get(short.link)
        assert "no sweep yet" in text_of(browser, "sweeps")
        short.end()
        browser.execute_script("look()")
        wait_for(lambda: browser.find_element(By.ID, "lost").is_displayed(), 10)
        assert "does not answer" in browser.find_element(By.ID, "lost").text
    browser.get("about:blank")
    errors(browser)
