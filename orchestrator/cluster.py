"""The cluster that a sweep runs on: one embedded in this process, or an existing one."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from math import floor

import ray

from orchestrator.sweep import Resources
from workers.errors import UserError

KNOCK_SECONDS = 5.0

OBJECT_STORE = 128 * 2**20
"""Stages talk through the store, not through Ray's shared memory."""


@contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """Connect to the cluster at `address`, or start one here and shut it down afterwards."""
    if address is None:
        ray.init(
            address="local",
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=OBJECT_STORE,
        )
    else:
        try:
            _knock(address)
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, ValueError) as error:
            raise UserError(f'no Ray cluster answers at "{address}": {error}') from error
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raise `OSError` when nothing listens at `host:port`: Ray would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=KNOCK_SECONDS).close()


def request(resources: Resources, loaders: int) -> dict[str, float]:
    """What Ray is asked for: each process that decodes images occupies a core, beside those of the training."""
    return {"cpu": resources.cpus + loaders, "gpu": resources.gpus}


def slots(resources: Resources, loaders: int = 0) -> int:
    """How many trials fit on the cluster at once; raises `UserError` when no node can hold one."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    wanted = {name.upper(): amount for name, amount in request(resources, loaders).items() if amount}
    fits = [min(floor(node.get(name, 0.0) / amount + 1e-9) for name, amount in wanted.items()) for node in nodes]
    if not any(fits):
        there = "; ".join(sorted({_describe(node) for node in nodes}))
        more, remedy = (f" and --loaders {loaders}", " or --loaders") if loaders else ("", "")
        raise UserError(
            f"resources: no node can hold a trial with cpus: {resources.cpus:g}, gpus: {resources.gpus:g}{more}; "
            f"the cluster has {there}. Lower `resources` in the sweep file{remedy}"
        )
    return sum(fits)


def _describe(node: dict[str, float]) -> str:
    return f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs on a node"
