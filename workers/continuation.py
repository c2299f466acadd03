"""What a stage leaves after an epoch to continue from, and where it finds it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Set
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from prunesweep.workers.checkpoint import Refused
from prunesweep.workers.host import Where
from prunesweep.workers.parts import longest_state
from prunesweep.workers.replicas import Replicas
from prunesweep.workers.spec import Stage
from prunesweep.workers.store import CHECKPOINTS, Store

log = logging.getLogger("prunesweep")


class Continuation:
    """The checkpoints of a stage, whose folder had these contents; the leading replica reads and writes for all.

    `unpack` puts a state that `checkpoint.pack` made into what trains, and returns its epoch; it raises `Refused`.
    """

    def __init__(
        self,
        stage: Stage,
        store: Store,
        where: Where,
        replicas: Replicas,
        contents: Set[str],
        unpack: Callable[[bytes], int],
    ) -> None:
        self.stage, self.store, self.where, self.replicas = stage, store, where, replicas
        self.contents, self.unpack = contents, unpack
        self.exists = not contents.isdisjoint(CHECKPOINTS)
        """Whether the stage's folder may hold a checkpoint."""
        self.last, self.cost = time.perf_counter(), 0.0
        self.written: Future[None] = Future()
        self.written.set_result(None)

    def restored(self) -> bool:
        """Continue from the newest checkpoint that is whole, else from the longest part; false when there is none."""
        checkpoints = self.replicas.agreed(
            lambda: [(name, self._read(name)) for name in CHECKPOINTS if name in self.contents]
        )
        for name, saved in checkpoints:
            if saved is not None and self._unpacked(name, saved):
                return True
        if any(saved is not None for _, saved in checkpoints):
            log.warning("no checkpoint is left: starting again from the beginning")
        return bool(self.where.parts) and self._part_unpacked()

    def _read(self, name: str) -> bytes | None:
        return self.store.read("stages", self.stage.key, name)

    def _unpacked(self, name: str, saved: bytes) -> bool:
        try:
            epoch = self.unpack(saved)
        except Refused as error:
            if self.replicas.leads:
                aside = self.store.set_file_aside("stages", self.stage.key, name)
                log.warning("%s is not used: %s; it is set aside as %s", name, error, aside)
            return False
        log.info("continued from the checkpoint of epoch %d", epoch)
        return True

    def _part_unpacked(self) -> bool:
        state = self.replicas.agreed(lambda: longest_state(self.store, self.where.parts))
        if state is None:
            return False
        log.info("continued from the part until epoch %d", self.unpack(state))
        return True

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Around the epochs: training goes on while a checkpoint is on its way to a remote store."""
        with ThreadPoolExecutor(1, "checkpoint") as self.writer:
            yield

    def keep(self, pack: Callable[[], bytes], epoch: int) -> None:
        """Write a checkpoint, unless the one before is on its way yet, or they would take more than their share."""
        if not self.replicas.leads:
            return
        begun = time.perf_counter()
        if not self.written.done() or self.cost >= self.where.checkpoint_share * (begun - self.last):
            return
        packed = pack()
        self.exists = True
        self.written = self.writer.submit(self._write, packed, epoch)
        if self.store.is_local:
            self.written.result()
        self.last = time.perf_counter()
        self.cost = self.last - begun

    def _write(self, packed: bytes, epoch: int) -> None:
        try:
            self.store.write_checkpoint(self.stage.key, packed)
        except OSError as error:  # a checkpoint only saves work
            log.warning("no checkpoint of epoch %d: %s; going on without", epoch, error)
