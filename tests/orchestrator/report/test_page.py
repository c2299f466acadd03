"""A report in a real browser: it loads, sorts, filters, draws and prints, at a desk and on a phone, from a file."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from prunesweep.orchestrator.report.contents import gather
from prunesweep.orchestrator.report.page import page
from prunesweep.workers.spec import Stage
from prunesweep.workers.store import Store
from tests.browser import chromium, errors, needs_browser, set_scripts, set_width
from tests.orchestrator.finished import finish

pytestmark = needs_browser

SWEEP = """\
# <script>document.title = "hacked"</script> & <img src=x onerror="document.title = 'hacked'">
name: small
dataset: digits
model: resnet8
seeds: 2
train: {epochs: 20}
trials:
  - method: dense
  - method: imp
    sparsity: [0.8, 0.9, 0.95]
    retrain_epochs: [1, 2]
    retrain_schedule: [FT, ALLR]
  - {method: gmp, sparsity: [0.8, 0.9, 0.95]}
"""
ROWS = 1 + 3 * 2 * 2 + 3


def fate(stage: Stage) -> str | None:
    """One of the networks diverges, with a message that is no markup."""
    lost = stage.root.method.name == "gmp" and stage.sparsity == 0.95 and stage.root.seed == 1
    return '<b onclick="x">nan</b>' if lost else None


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a report's file."""
    folder = tmp_path_factory.mktemp("report")
    store = Store(folder / "results")
    finish(SWEEP, store, folder / "sweep.yaml", fate)
    file = folder / "small.html"
    file.write_text(page(gather(["small"], store)))
    return file.as_uri()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def opened(browser: Chrome, report: str) -> Chrome:
    set_width(browser, 1280)
    browser.get(report)
    return browser


def column(driver: Chrome, head: str, shown_only: bool = True) -> list[str]:
    """What stands below a head in the table of every cell."""
    script = """
        const box = document.querySelector(".sortable");
        const at = [...box.querySelectorAll("thead th")].findIndex((th) => th.textContent === arguments[0]);
        const rows = [...box.querySelectorAll("tbody tr")].filter((row) => row.offsetParent || !arguments[1]);
        return rows.map((row) => row.cells[at].textContent);
    """
    return list(driver.execute_script(script, head, shown_only))


def press(driver: Chrome, head: str) -> None:
    heads = driver.find_elements(By.CSS_SELECTOR, ".sortable thead button")
    next(button for button in heads if button.text.startswith(head)).click()


def test_it_loads_without_an_error_and_from_its_own_file_alone(opened: Chrome):
    assert errors(opened) == []
    opened.get_log("performance")  # what the browser itself has loaded before
    opened.refresh()
    assert errors(opened) == []
    notes = [json.loads(entry["message"])["message"] for entry in opened.get_log("performance")]
    urls = {n["params"]["request"]["url"] for n in notes if n["method"] == "Network.requestWillBeSent"}
    assert {url for url in urls if not url.startswith("data:")} == {opened.current_url}


def test_text_that_looks_like_markup_is_text(opened: Chrome):
    assert opened.title == "small: pruning sweep"
    assert opened.find_element(By.CSS_SELECTOR, "#asked pre").text == SWEEP.strip()
    assert '<b onclick="x">nan</b>' in opened.find_element(By.ID, "failures").text
    assert opened.find_elements(By.CSS_SELECTOR, "img, b") == []


def test_the_head_says_what_is_done_and_what_is_not(opened: Chrome):
    state = opened.find_element(By.CSS_SELECTOR, ".state").text
    assert state.startswith(f"Unfinished: {2 * ROWS - 1} of {2 * ROWS} trials are done, 1 failed.")


def test_numbers_sort_as_numbers_in_both_directions(opened: Chrome):
    head = "test accuracy, percent"
    means = [float(text.split()[0]) for text in column(opened, head)]
    assert means != sorted(means)
    for direction, backwards in (("ascending", False), ("descending", True)):
        press(opened, "test accuracy")
        shown = [float(text.split()[0]) for text in column(opened, head)]
        assert shown == sorted(means, reverse=backwards)
        (sorted_by,) = opened.find_elements(By.CSS_SELECTOR, "th[aria-sort]")
        assert sorted_by.text.startswith("test accuracy")
        assert sorted_by.get_attribute("aria-sort") == direction


def test_what_is_missing_is_last_in_both_directions(opened: Chrome):
    for expected in (["80%", "90%", "95%", ""], ["95%", "90%", "80%", ""]):
        press(opened, "target sparsity")
        assert list(dict.fromkeys(column(opened, "target sparsity"))) == expected


def test_a_keyboard_sorts_too(opened: Chrome):
    button = opened.find_element(By.CSS_SELECTOR, ".sortable thead button")
    button.send_keys(Keys.ENTER)
    assert column(opened, "method") == sorted(column(opened, "method"))
    assert opened.switch_to.active_element == button


def test_the_filter_shows_the_rows_that_have_all_words(opened: Chrome):
    box = opened.find_element(By.CSS_SELECTOR, ".sortable input")
    status = opened.find_element(By.CSS_SELECTOR, ".sortable [role=status]")
    assert status.text == f"{ROWS} of {ROWS} rows"
    box.send_keys("ALLR 90%")
    assert set(column(opened, "retrain schedule")) == {"ALLR"}
    assert set(column(opened, "target sparsity")) == {"90%"}
    assert status.text == f"2 of {ROWS} rows"
    press(opened, "test accuracy")
    assert len(column(opened, "method")) == 2
    assert len(column(opened, "method", shown_only=False)) == ROWS
    box.clear()
    box.send_keys("nothing like it")
    assert status.text == f"0 of {ROWS} rows"


def test_every_plot_is_drawn(opened: Chrome):
    plots = opened.find_elements(By.CSS_SELECTOR, ".plot")
    assert len(plots) > 7
    assert all(plot.find_elements(By.CSS_SELECTOR, "svg.main-svg") for plot in plots)
    first = opened.find_element(By.CSS_SELECTOR, "[data-kind=sparsity] .plot")
    lines = opened.execute_script("return arguments[0].querySelectorAll('.scatterlayer .trace').length", first)
    assert lines >= 1 + 4 + 1


def test_the_buttons_of_plots_are_those_that_stay_in_the_house(opened: Chrome):
    """Of plotly's own choice one uploads the plot."""
    titles = opened.execute_script("return [...document.querySelectorAll('.modebar-btn')].map((b) => b.dataset.title)")
    assert set(titles) == {"Download plot", "Zoom", "Pan", "Zoom in", "Zoom out", "Reset axes"}


def test_the_legend_hides_a_series_in_all_panels(opened: Chrome):
    chart = opened.find_element(By.CSS_SELECTOR, "[data-kind=budget]")
    button = chart.find_element(By.CSS_SELECTOR, ".legend [data-series='imp, FT']")
    shown = """
        const plots = [...arguments[0].querySelectorAll(".plot")];
        return plots.map((plot) => plot.data.filter((t) => t.legendgroup === "imp, FT" && t.visible !== false).length);
    """
    before = opened.execute_script(shown, chart)
    assert len(before) == 3
    assert min(before) > 0
    button.click()
    assert opened.execute_script(shown, chart) == [0, 0, 0]
    assert button.get_attribute("aria-pressed") == "false"
    button.click()
    assert opened.execute_script(shown, chart) == before


@pytest.mark.parametrize(("width", "mobile"), [(1280, False), (768, False), (375, True)])
def test_the_page_never_scrolls_sideways(browser: Chrome, report: str, width: int, mobile: bool):
    set_width(browser, width, mobile)
    browser.get(report)
    measured = browser.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
    assert measured == [width, width]
    plots = browser.execute_script("return [...document.querySelectorAll('.main-svg')].map((s) => s.clientWidth)")
    assert 200 < max(plots) <= width
    assert errors(browser) == []


PAPER = 703
"""Pixels that the margins leave of A4's width, 96 to an inch."""


def test_on_paper_nothing_is_cut(browser: Chrome, report: str):
    set_width(browser, PAPER)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        browser.get(report)
        browser.execute_script("dispatchEvent(new Event('beforeprint'))")
        wide = browser.execute_script(
            "return [...document.querySelectorAll('table, pre, .main-svg, .panel')]"
            ".filter((e) => e.getBoundingClientRect().right > (e.closest('.panel') ?? document.body)"
            ".getBoundingClientRect().right + 1).map((e) => e.outerHTML.slice(0, 200))"
        )
        assert wide == []
        assert not browser.find_element(By.TAG_NAME, "nav").is_displayed()
        plots = browser.execute_script("return [...document.querySelectorAll('.main-svg')].map((s) => s.clientWidth)")
        assert min(plots) > 300
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_it_prints_to_a_few_pages(opened: Chrome):
    pdf = base64.b64decode(opened.print_page())
    assert pdf.startswith(b"%PDF-")
    assert 3 < len(re.findall(rb"/Type\s*/Page\b", pdf)) < 20
    assert errors(opened) == []


def test_without_scripts_all_tables_are_there(browser: Chrome, report: str):
    set_scripts(browser, False)
    try:
        browser.get(report)
        tables = browser.find_elements(By.CSS_SELECTOR, "table")
        assert len(tables) > 5
        assert "92.92 ± 0.06 (2)" in browser.find_element(By.CSS_SELECTOR, ".comparison").text
        assert len(browser.find_elements(By.CSS_SELECTOR, ".sortable tbody tr")) == ROWS
        assert not browser.find_element(By.CSS_SELECTOR, ".controls").is_displayed()
        assert "need JavaScript" in browser.find_element(By.ID, "plots").text
    finally:
        set_scripts(browser, True)
