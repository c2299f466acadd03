"""A Ray cluster of the tests' own on this machine, with ports and a token, and the command as its users have it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.orchestrator.conftest import COMMAND, Cli, descendants

TOKEN = "of-the-tests-" + "0" * 51

KEPT = ("RAY_worker_niceness",)
"""Of Ray's variables those that a cluster of the tests has from them."""


class Head:
    """`ray start --head` by hand; `programs` is the `bin` of the environment that it runs in."""

    def __init__(
        self,
        *arguments: object,
        port: int | None = None,
        cpus: int = 2,
        within: Sequence[str] = (),
        programs: Path = COMMAND.parent,
        environment: Mapping[str, str] = {},
    ) -> None:
        self.cpus, self.programs, self.environment = cpus, programs, environment
        # Sockets lie in there, and their paths may have 107 characters.
        self.folder = Path(tempfile.mkdtemp(prefix="ps", dir="/tmp"))
        self.gcs, self.port, agent, client = free_ports(4)
        self.gcs = port or self.gcs
        self.url = f"http://127.0.0.1:{self.port}"
        ports = ["--port", self.gcs, "--dashboard-port", self.port, "--dashboard-agent-listen-port", agent]
        ports += ["--ray-client-server-port", client]
        self.process = self.start("--head", *ports, *arguments, folder=self.folder / "h", within=within)

    def start(self, *arguments: object, folder: Path, within: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        limits = ["--min-worker-port", 0, "--max-worker-port", 0, "--object-store-memory", 10**8]
        limits += ["--num-cpus", self.cpus]
        ray = [self.programs / "python", "-m", "ray.scripts.scripts"]
        command = [*ray, "start", "--block", "--disable-usage-stats", "--temp-dir", folder]
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "PRUNESWEEP_"))
        }
        environment |= {name: os.environ[name] for name in KEPT}
        return subprocess.Popen(
            [str(word) for word in (*within, *command, *limits, *arguments)],
            env={
                **environment,
                **self.environment,
                "PATH": f"{self.programs}{os.pathsep}{os.environ['PATH']}",
                "RAY_AUTH_MODE": "token",
                "RAY_AUTH_TOKEN": TOKEN,
            },
            stdout=folder.with_suffix(".log").open("w"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @contextmanager
    def second_node(self, within: Sequence[str] = (), name: str = "n") -> Iterator[subprocess.Popen[bytes]]:
        """With a folder of its own, as on another machine: nodes unpack snapshots there, and clear them away."""
        node = self.start("--address", f"127.0.0.1:{self.gcs}", folder=self.folder / name, within=within)
        try:
            while "Ray runtime started" not in (self.folder / f"{name}.log").read_text():
                assert node.poll() is None
                time.sleep(0.2)
            yield node
        finally:
            stop(node)

    def cli(self, folder: Path, **environment: str) -> JobsCli:
        told = {"PRUNESWEEP_ADDRESS": self.url, "RAY_AUTH_TOKEN": TOKEN, **environment}
        return JobsCli(folder, told, self.programs / COMMAND.name)

    def __enter__(self) -> Head:
        """Waits until its dashboard answers."""
        cli = self.cli(self.folder)
        try:
            cli.until(lambda: cli.ask("jobs").code == 0, 60)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        stop(self.process)
        shutil.rmtree(self.folder, ignore_errors=True)


class JobsCli(Cli):
    """The command on a laptop: with the cluster's address and token, and an address of Ray that must not matter."""

    def __init__(self, folder: Path, environment: Mapping[str, str], command: Path = COMMAND) -> None:
        super().__init__(folder, command)
        self.environment |= {"RAY_ADDRESS": "192.0.2.1:6379", "HOME": str(folder), **environment}

    def submit(self, *arguments: str, code: int = 0) -> str:
        return self("submit", *arguments, "--store", str(self.folder / "results"), code=code)

    def until(self, condition: Callable[[], bool], seconds: float = 90) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self("logs", "small")
            time.sleep(0.1)


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listening.getsockname()[1] for listening in sockets]
    for listening in sockets:
        listening.close()
    return ports


def stop(node: subprocess.Popen[bytes]) -> None:
    """And with it what it has started; Ray ends it all at SIGTERM."""
    family = descendants(node.pid, "")
    node.terminate()
    try:
        node.wait(20)
    except subprocess.TimeoutExpired:
        for pid in family:
            if Path(f"/proc/{pid}").exists():
                os.kill(pid, signal.SIGKILL)
        node.wait(10)
