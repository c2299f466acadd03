"""The live page beside a torture: it is looked at all the time, and always answers."""

from __future__ import annotations

import subprocess
import threading
from collections import Counter
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from tests.family import Family
from tests.orchestrator.conftest import COMMAND

LOOK_SECONDS = 5.0
ANSWER_SECONDS = 300.0
"""On a machine that many want."""


class LivePage:
    """`prunesweep ui` on a store, whose pages a thread looks at; it counts `answers` by their status."""

    def __init__(self, family: Family, folder: Path, store: str, sweep: str) -> None:
        self.output, self.sweep = folder / "ui.txt", sweep
        command = [COMMAND, "ui", store, "--port", "0"]
        self.process: subprocess.Popen[bytes] = family.start(command, folder, self.output)
        self.answers, self.problems = Counter[int](), list[str]()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._look, daemon=True)
        self.thread.start()

    def end(self) -> None:
        """Stop looking, and the page."""
        self.ended.set()
        self.thread.join()
        self.process.terminate()
        self.process.wait(timeout=60)
        if "Traceback" in self.output.read_text(errors="replace"):
            self.problems.append(f"a traceback in {self.output}")

    def _look(self) -> None:
        while not self.ended.wait(LOOK_SECONDS) and self.process.poll() is None:
            link = next((word for word in self.output.read_text().split() if word.startswith("http")), None)
            for page in ("", f"sweeps/{self.sweep}") if link else ():
                self._ask(f"{link}{page}")

    def _ask(self, page: str) -> None:
        try:
            with urlopen(page, timeout=ANSWER_SECONDS) as answer:
                answer.read()
                self.answers[answer.status] += 1
        except (URLError, TimeoutError, ConnectionError) as error:
            if self.process.poll() is None:
                self.problems.append(f"{page}: {error}")
