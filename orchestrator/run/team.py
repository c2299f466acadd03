"""The replicas of a trial on a cluster: Tune starts the process that leads, and that one starts the others.

They are actors in the other bundles of the trial's placement group, so on its node where they fit, else on several.
They stay for all stages that their leader runs, and end with it.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayError
from ray.util.placement_group import get_current_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from prunesweep.orchestrator.run.sessions import end_with_parent
from prunesweep.workers.decoding import decode_stage
from prunesweep.workers.errors import ReplicaLost
from prunesweep.workers.host import Where
from prunesweep.workers.spec import Stage
from prunesweep.workers.store import Store

if TYPE_CHECKING:
    from prunesweep.workers.checkpoint import Progress

START_SECONDS = 300.0
"""A node may have to unpack what a job has brought along."""

LOOK_SECONDS = 2.0
GRACE_SECONDS = 5.0
"""After that a replica which waits for one that is gone is torn away, and after that once more, its process ended."""

SIOCGIFADDR = 0x8915
"""As in Linux's sockios.h."""


class Team:
    """The processes that run a trial's stages; with a count of 1 it is this one alone."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.others: list[Any] = []

    def run(self, task: str, stage: Stage, store: Store, where: Where) -> Iterator[Progress]:
        """`run_stage` in all of them; raises `ReplicaLost` when they cannot be brought together."""
        from prunesweep.workers.run import run_stage

        if self.count == 1:
            return run_stage(stage, store, where)
        return self._run(task, stage, store, where)

    def dismiss(self) -> None:
        """End the others; new ones are started when they are needed."""
        for other in self.others:
            ray.kill(other)
        self.others = []

    def _run(self, task: str, stage: Stage, store: Store, where: Where) -> Iterator[Progress]:
        from torch.distributed import TCPStore  # type: ignore[attr-defined]

        from prunesweep.workers.replicas import joined
        from prunesweep.workers.run import run_stage

        try:
            self._gather()
            host = _host()
            meeting = TCPStore(host, 0, is_master=True, wait_for_workers=False)
            running = [
                other.run.remote(task, rank, self.count, host, meeting.port)
                for rank, other in enumerate(self.others, 1)
            ]
            with _watched(running), joined(meeting, 0, self.count, where.torch_device) as replicas:
                yield from run_stage(stage, store, where, replicas)
        except BaseException:
            self.dismiss()
            raise

    def _gather(self) -> None:
        if not self.others:
            group = get_current_placement_group()
            assert group is not None
            self.others = [_actor(group, bundle) for bundle in range(1, self.count)]
        try:
            ray.get([other.ready.remote() for other in self.others], timeout=START_SECONDS)
        except RayError as error:
            raise ReplicaLost(f"a replica could not be started: {' '.join(str(error).split())}") from error


class Member:
    """Runs on another bundle what the leading process runs."""

    def ready(self) -> None:
        """It has loaded what it needs."""
        import prunesweep.workers.run  # noqa: F401

        end_with_parent()

    def run(self, task: str, rank: int, count: int, host: str, port: int) -> None:
        """Its part of a stage; the process ends when it could not finish it.

        It has said why. The others notice by the end of its connections, to which something holds on under Ray.
        """
        from torch.distributed import TCPStore  # type: ignore[attr-defined]

        from prunesweep.workers.replicas import PATIENCE, joined
        from prunesweep.workers.run import StageFailed, run_stage

        stage, store, where = decode_task(task)
        _host()
        meeting = TCPStore(host, port, is_master=False, timeout=PATIENCE)
        with joined(meeting, rank, count, where.torch_device) as replicas:
            try:
                for _ in run_stage(stage, store, where, replicas):
                    pass
            except StageFailed:
                os._exit(1)


def decode_task(task: str) -> tuple[Stage, Store, Where]:
    """What a process is to run (`orchestrator.run.tune.task`)."""
    given = json.loads(task)
    return decode_stage(given["stage"]), Store(given["store"], exists=True), Where(**given["where"])


def _actor(group: Any, bundle: int) -> Any:
    share = dict(group.bundle_specs[bundle])
    there = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=bundle)
    member = ray.remote(num_cpus=share.get("CPU", 0), num_gpus=share.get("GPU", 0))(Member)
    return member.options(scheduling_strategy=there).remote()


@contextmanager
def _watched(running: list[Any]) -> Iterator[None]:
    """Inside it this process does not wait for ever for another that is gone: Ray knows of machines that vanish."""
    ended = threading.Event()
    threading.Thread(target=_watch, args=(running, ended), daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _watch(running: list[Any], ended: threading.Event) -> None:
    from prunesweep.workers.replicas import tear_away

    while not ended.wait(LOOK_SECONDS):
        over, _ = ray.wait(running, num_returns=len(running), timeout=0)
        if any(_failed(run) for run in over) and not ended.wait(GRACE_SECONDS):
            tear_away()
            if not ended.wait(GRACE_SECONDS):
                os._exit(1)


def _failed(run: Any) -> bool:
    try:
        ray.get(run)
    except RayError:
        return True
    return False


def _host() -> str:
    """This node's address as Ray knows it; gloo and NCCL are told of its interface, unless they are told already.

    Left alone, gloo takes the address of the host's name, which many machines have as 127.0.1.1.
    """
    address: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    name = _interface(address)
    if name is not None:
        for library in ("GLOO", "NCCL"):
            os.environ.setdefault(f"{library}_SOCKET_IFNAME", name)
    return address


def _interface(address: str) -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # it has no address
                answer = fcntl.ioctl(probe, SIOCGIFADDR, struct.pack("256s", name.encode()))
                if socket.inet_ntoa(answer[20:24]) == address:
                    return name
    return None
