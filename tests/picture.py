"""A picture of a page, for the documents: `python -m tests.picture URL FILE`."""

from __future__ import annotations

import base64
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.browser import chromium, set_scheme, set_width

WIDTH, HEIGHT = 1280, 1160
SECONDS = 4.0
"""For the page to draw its figures."""


def take(url: str, file: Path, height: int = HEIGHT) -> None:
    """The top of the page at a desk, by day."""
    with TemporaryDirectory() as profile, chromium(Path(profile)) as driver:
        set_width(driver, WIDTH)
        set_scheme(driver, "light")
        driver.get(url)
        time.sleep(SECONDS)
        clip = {"x": 0, "y": 0, "width": WIDTH, "height": height, "scale": 1}
        shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
        file.write_bytes(base64.b64decode(shot["data"]))


if __name__ == "__main__":
    take(sys.argv[1], Path(sys.argv[2]))
