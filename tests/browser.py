"""A real Chromium without a window, for pages that are files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"),
    *("--no-first-run", "--no-default-browser-check"),
    "--blink-settings=primaryHoverType=2,availableHoverTypes=2,primaryPointerType=4,availablePointerTypes=4",
)
"""The last gives it a mouse."""

needs_browser = pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")),
    reason="needs chromium and chromedriver: apt-get install chromium chromium-driver",
)


@contextmanager
def chromium(profile: Path) -> Iterator[Chrome]:
    """A fresh browser with that folder for its profile, which notes what its pages write to the console and load."""
    options = ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


def set_width(driver: Chrome, width: int, mobile: bool = False) -> None:
    """Of the page in pixels, also below the narrowest window."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": mobile}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def set_scripts(driver: Chrome, allowed: bool) -> None:
    """Whether pages that are loaded from now on may run scripts."""
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not allowed})


def errors(driver: Chrome) -> Sequence[Any]:
    """What was written to the console since the last call."""
    return list(driver.get_log("browser"))


def set_scheme(driver: Chrome, scheme: str) -> None:
    """`light` or `dark`, as the reader's system has it."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
