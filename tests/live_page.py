"""The server of the live page as a process of its own, and its answers."""

from __future__ import annotations

import http.client
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from tests.orchestrator.conftest import Cli


@dataclass(frozen=True)
class Answered:
    status: int
    headers: Mapping[str, str]
    text: str


@dataclass(frozen=True)
class Site:
    """A server that runs; `link` is what it has printed."""

    process: subprocess.Popen[str]
    link: str

    @property
    def port(self) -> int:
        return int(re.findall(r":(\d+)/", self.link)[0])

    def ask(self, path: str, method: str = "GET", **headers: str) -> Answered:
        """What it answers to this path as it is written, which no client has tidied up."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        return Answered(response.status, {k.lower(): v for k, v in response.getheaders()}, text)

    def end(self, number: int = signal.SIGINT) -> tuple[int, str]:
        """Its exit code, and what it had written to stderr."""
        self.process.send_signal(number)
        _, written = self.process.communicate(timeout=20)
        return self.process.returncode, written


@contextmanager
def serving(cli: Cli, *arguments: str) -> Iterator[Site]:
    """`prunesweep ui` on a free port, until the end of the block."""
    process = cli.start("ui", "--port", "0", *arguments)
    assert process.stdout is not None
    link = process.stdout.readline().split()
    assert link, process.communicate()[1]
    try:
        yield Site(process, link[0])
    finally:
        process.kill()
        process.communicate()
