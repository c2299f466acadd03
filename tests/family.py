"""The processes that a test started, at any depth, and no others."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from uuid import uuid4

LISTEN = "0A"
"""A socket's state in the kernel's table."""


class Family:
    """Processes inherit a mark in their environment, which stays with those whose parents are gone."""

    def __init__(self) -> None:
        self.name, self.value = "PRUNESWEEP_FAMILY", uuid4().hex
        self.mark = f"{self.name}={self.value}".encode()

    def start(
        self, command: Sequence[str | Path], folder: Path, output: Path, more: Mapping[str, str] = {}
    ) -> subprocess.Popen[bytes]:
        """In a session of its own, as from a terminal of its own; all it prints goes to a file."""
        environment = {**os.environ, **more, self.name: self.value}
        with output.open("wb") as out:
            return subprocess.Popen(
                command, cwd=folder, stdout=out, stderr=out, start_new_session=True, env=environment
            )

    def members(self, program: str = "") -> list[int]:
        """Those whose program's name begins so; none that has ended and waits for its parent."""
        every = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal())
        return sorted(pid for pid in every if self._owns(pid) and _program(pid).startswith(program))

    def signal(self, pid: int, number: signal.Signals, *, group: bool = False) -> None:
        """To a member or to its whole process group; nothing happens to any other process."""
        if self._owns(pid):
            with suppress(ProcessLookupError):
                (os.killpg if group else os.kill)(pid, number)

    def end(self, grace: float) -> list[str]:
        """Wait for all to leave, and kill those that stay; says which."""
        deadline = time.monotonic() + grace
        while self.members() and time.monotonic() < deadline:
            time.sleep(0.2)
        left = {pid: _program(pid) for pid in self.members()}
        for pid in left:
            self.signal(pid, signal.SIGKILL)
        return [f"{pid} {program}" for pid, program in left.items()]

    def commands(self, words: str) -> list[int]:
        """Those in whose command line these words follow one another, as the program's own arguments."""
        return [pid for pid in self.members() if f" {words} " in f" {' '.join(_words(pid))} " and len(_words(pid)) > 3]

    def listening(self) -> set[str]:
        """The addresses at which they accept TCP connections."""
        inodes = {link for pid in self.members() for link in _sockets(pid)}
        rows = [
            line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
        ]
        return {_address(row[1].partition(":")[0]) for row in rows if row[3] == LISTEN and row[9] in inodes}

    def table(self) -> str:
        """What `ps` says of them."""
        command = ["ps", "-o", "pid,ppid,stat,etime,args", "-p", ",".join(map(str, self.members()))]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    def _owns(self, pid: int) -> bool:
        try:
            return self.mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return False


def heeds(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal, as Linux says."""
    caught = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
    return caught is not None and bool(int(caught[1], 16) >> (number - 1) & 1)


def _sockets(pid: int) -> Iterator[str]:
    with suppress(OSError):
        for file in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                yield from re.findall(r"^socket:\[(\d+)\]$", str(file.readlink()))


def _address(words: str) -> str:
    """From the kernel's table: each four bytes are a number of the processor."""
    packed = b"".join(bytes.fromhex(words[start : start + 8])[::-1] for start in range(0, len(words), 8))
    address = ip_address(packed)
    return str(getattr(address, "ipv4_mapped", None) or address)


def _program(pid: int) -> str:
    """Ray's workers change their command line to a name."""
    return _words(pid)[0].rpartition("/")[2]


def _words(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return [""]
