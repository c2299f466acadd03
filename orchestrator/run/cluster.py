"""The cluster that a sweep runs on: one embedded in this process, or an existing one."""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from math import ceil
from typing import Any
from uuid import uuid4

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from prunesweep.orchestrator.resources import Resources
from prunesweep.orchestrator.run import ray_internals
from prunesweep.orchestrator.run.preflight import ray_folder
from prunesweep.orchestrator.run.sessions import end_sessions
from prunesweep.orchestrator.run.stopping import CONTINUES
from prunesweep.workers.errors import UserError
from prunesweep.workers.host import usable_cores
from prunesweep.workers.location import Location, public
from prunesweep.workers.store import Store

CONNECT_SECONDS = 5.0

HANG_SECONDS = 10.0
"""Longer than a turn of Tune's loop, and than it takes to shut down what is left of Ray."""

NOTE_SECONDS = 10.0
"""A store that does not answer either is not waited for any longer."""

LOOK_SECONDS = 60.0
"""A node starts a process to look at the store."""

OBJECT_STORE = 128 * 2**20
"""Stages talk through the store, not through Ray's shared memory."""


@contextmanager
def cluster(address: Location | None, note_lost: Callable[[str], None]) -> Iterator[None]:
    """Connect to the cluster at `address`, or start one here, of which no process is left afterwards.

    `note_lost` is told how Ray was lost where this process then ends in the middle of Ray's code.
    """
    ray_internals.leave_deaths_and_signals_to_us()
    threading.Thread(target=_import_tune, daemon=True).start()
    ended = threading.Event()
    try:
        _start() if address is None else _connect(address)
        look = require_alive if address is None else partial(_require_answer, ray.get_runtime_context().gcs_address)
        threading.Thread(target=_watch, args=(look, ended, note_lost), daemon=True).start()
        yield
    finally:
        ended.set()
        ray.shutdown()
        end_sessions()


def this_machine() -> dict[str, float]:
    """The node that the embedded Ray will be."""
    return {"CPU": usable_cores(), "GPU": ray_internals.visible_gpus()}


def _import_tune() -> None:
    """While Ray's processes come up; who imports it then waits for the rest."""
    with suppress(ImportError):  # it is raised again where it is needed
        import prunesweep.orchestrator.run.tune  # noqa: F401


def _start() -> None:
    try:
        with ray_internals.in_sessions_of_their_own(), ray_internals.on_loopback(), ray_internals.with_patience():
            ray.init(
                address="local",
                num_cpus=usable_cores(),
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=OBJECT_STORE,
                _temp_dir=ray_folder(),
            )
    except Exception as error:
        raise NotStarted(f"Ray could not be started ({' '.join(str(error).split())})") from error


def _connect(address: Location) -> None:
    place = address.reveal()
    if place.startswith("http"):
        raise UserError(f"--address {address} is a dashboard, which `prunesweep submit` takes: `run` wants HOST:6379")
    if place.startswith("ray://"):
        raise UserError(f"--address {address} is for Ray's client, which has no part in this: `run` wants HOST:6379")
    try:
        _require_listener(place)
    except OSError as error:
        raise UserError(f'no Ray cluster answers at "{address}": {public(str(error))}') from error
    if ":" in place and not ray_internals.is_head(place, CONNECT_SECONDS):
        raise UserError(
            f"--address {address}: something else than the head of a Ray cluster listens there; its port is "
            "usually 6379, and `ray status` on the head shows it"
        )
    try:
        ray.init(address=place, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError, RayError) as error:  # among them another version of Ray or Python
        words = " ".join(public(str(error)).split())
        raise UserError(f"the Ray cluster at {address} can't be used from here: {words}") from error


class ClusterLost(RuntimeError):
    """A process that Ray needs has ended."""

    had_started = True


class NotStarted(ClusterLost):
    """The embedded Ray did not come up: it was killed meanwhile, or it cannot run here."""

    had_started = False


def _watch(look: Callable[[], None], ended: threading.Event, note_lost: Callable[[str], None]) -> None:
    """End this process when Ray is gone, and stays so, and the main thread has not noticed.

    Waiting for a GCS that has gone Ray hangs for a minute, in code that no signal and no exception reaches, and then
    ends the process itself, with words that help nobody.
    """
    while not ended.wait(HANG_SECONDS / 2):
        if _lost(look) and not ended.wait(HANG_SECONDS) and (lost := _lost(look)):
            print(f"error: {lost}; {CONTINUES}", file=sys.stderr)
            sys.stdout.flush()
            ray_internals.kill_embedded()
            noting = threading.Thread(target=note_lost, args=(str(lost),), daemon=True)
            noting.start()
            noting.join(NOTE_SECONDS)
            os._exit(1)


def _lost(look: Callable[[], None]) -> ClusterLost | None:
    try:
        look()
    except ClusterLost as lost:
        return lost
    return None


def _require_answer(gcs: str) -> None:
    try:
        _require_listener(gcs)
    except OSError as error:
        raise ClusterLost(f"the head of the Ray cluster, {gcs}, does not answer any more ({error})") from error


def require_alive() -> None:
    """Raise `ClusterLost` when the embedded Ray was killed: Ray itself would wait for it for ever."""
    if gone := ray_internals.dead_processes():
        raise ClusterLost(f"Ray's {' and '.join(gone)} ended unexpectedly")


def _require_listener(address: str) -> None:
    """Raise `OSError` when nothing listens at `host:port`: Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()


def require_shared(store: Store) -> None:
    """Raise `UserError` when a node of the cluster does not see in the store what this process writes there."""
    here = ray.get_runtime_context().get_node_id()
    nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in _alive() if node["NodeID"] != here}
    if not nodes:
        return
    name = f".seen-{uuid4().hex[:8]}"
    store.write(b"", name)
    try:
        looks = {_look_from(node, store, name): node for node in nodes}
        done, late = ray.wait(list(looks), num_returns=len(looks), timeout=LOOK_SECONDS)
        wrong = {looks[look]: f"does not answer within {LOOK_SECONDS:.0f} s" for look in late}
        wrong |= {looks[look]: why for look in done if (why := _answer(look))}
    finally:
        store.remove(name)
    # One that died a moment ago may still be in the list, and is no obstacle: it gets no stages.
    alive = {node["NodeID"] for node in _alive()} if wrong else set()
    wrong = {node: why for node, why in wrong.items() if node in alive}
    for node, why in wrong.items():
        raise UserError(
            f"node {nodes[node]} of the cluster {why} ({len(wrong)} of {len(nodes)} "
            f"other nodes have trouble with the store {store.location}): choose a --store that all nodes share, "
            "such as a network filesystem or s3://"
        )


def _look_from(node: str, store: Store, name: str) -> Any:
    there = NodeAffinitySchedulingStrategy(node, soft=False)
    return (
        ray.remote(num_cpus=0, max_retries=0)(_trouble).options(scheduling_strategy=there).remote(store.location, name)
    )


def _trouble(location: Location, name: str) -> str | None:
    """On the other node: what keeps it from using the store."""
    try:
        return None if Store(location).read(name) is not None else "sees another folder there"
    except (OSError, UserError) as error:
        return f"cannot read it: {public(str(error))}"


def _answer(look: Any) -> str | None:
    try:
        answer: str | None = ray.get(look)
        return answer
    except RayError as error:
        return f"cannot run prunesweep: {str(error).strip().splitlines()[-1]}"


def largest_node(foreseen: Iterable[Resources] = ()) -> Resources:
    """What one trial can have at most: all of the node with the most GPUs, then cores.

    `foreseen` is asked of nodes that are not there yet, and have whole GPUs.
    """
    nodes = [(node.get("GPU", 0.0), node.get("CPU", 0.0)) for node in nodes_alive()]
    gpus, cpus = max([*nodes, *((ceil(share.gpus), share.cpus) for share in foreseen)])
    return Resources(cpus=cpus, gpus=gpus)


def nodes_alive() -> list[dict[str, float]]:
    """What each node has."""
    return [node["Resources"] for node in _alive()]


def _alive() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
