"""Several processes that train one network, each on its portion of every batch, and how they keep together.

One of them leads: it alone reads and writes the store, and the others are told what it read. All hold the same network,
bit for bit; gradients, batch-norm statistics and scores are summed over all.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from prunesweep.workers.data.portions import Portion

T = TypeVar("T")

PATIENCE = timedelta(minutes=10)
"""So long a replica waits for another, which may write a checkpoint or compile; one that is killed is noticed at once,
but for a machine that vanishes, and on GPUs, where torch's watchdog then ends the process."""

LAST_WORDS = timedelta(seconds=10)

REASON, HEARD = "reason", "heard"


@dataclass(frozen=True)
class Replicas:
    """The processes that train one network, seen from one of them; by default it is alone, and nothing is done."""

    rank: int = 0
    count: int = 1
    board: Store | None = None

    @property
    def leads(self) -> bool:
        """Whether this one reads and writes the store."""
        return self.rank == 0

    @property
    def portion(self) -> Portion:
        """Its part of every batch."""
        return Portion(self.rank, self.count)

    def agreed(self, make: Callable[[], T]) -> T:
        """What the leading replica makes, on all of them."""
        if self.count == 1:
            return make()
        made = [make() if self.leads else None]
        dist.broadcast_object_list(made, device=torch.device("cpu"))
        agreed: T = made[0]  # type: ignore[assignment]
        return agreed

    def summed(self, *numbers: float) -> list[float]:
        """Each number, summed over the replicas."""
        if self.count == 1:
            return list(numbers)
        sums = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(sums)
        return sums.tolist()

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Make the gradients that there are their mean over the replicas."""
        for parameter in parameters:
            if parameter.grad is not None:
                dist.all_reduce(parameter.grad.div_(self.count))

    def parallel(self, model: nn.Module) -> nn.Module:
        """The model, with gradients that are their mean over the replicas when a backward pass has ended.

        Buckets of gradients stay as they are made, as they do when parameters may be unused: rebuilt after the first
        iteration, they would be summed in another order after a stage was resumed.
        """
        if self.count == 1:
            return model
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of the other name that newer versions have for it
            return DistributedDataParallel(model, broadcast_buffers=False, find_unused_parameters=True)

    def require_equal(self, tensors: Iterable[Tensor]) -> None:
        """Raise `RuntimeError` when a replica has other bits than the leading one."""
        if self.count == 1:
            return
        mine = torch.stack([_digest(tensor) for tensor in tensors]).cpu()
        theirs = self.agreed(lambda: mine)
        (differ,) = self.summed(float(not torch.equal(mine, theirs)))
        if differ:
            raise RuntimeError(f"the networks of {differ:.0f} of {self.count} replicas differ from the first one's")

    def explain(self, reason: Mapping[str, str]) -> None:
        """Leave the reason why this replica fails, for the leading one, and wait until that is on its way to end.

        To be called when nothing holds on to the processes' connections any more: the others notice by their end.
        """
        assert self.board is not None
        with suppress(RuntimeError):
            self.board.compare_set(REASON, "", json.dumps(dict(reason)))
            dist.destroy_process_group()
            self.board.wait([HEARD], LAST_WORDS)

    def reason(self) -> dict[str, str] | None:
        """Why another replica failed, in its words; None when it was killed."""
        assert self.board is not None
        with suppress(RuntimeError):
            self.board.wait([REASON], timedelta(seconds=2))
            reason: dict[str, str] = json.loads(self.board.get(REASON))
            return reason
        return None

    def heard(self) -> None:
        """Let the replicas go that wait with their reason."""
        if self.board is not None:
            with suppress(RuntimeError):
                self.board.set(HEARD, "")


ALONE = Replicas()


@contextmanager
def joined(meeting: Store, rank: int, count: int, device: torch.device) -> Iterator[Replicas]:
    """Inside it this process is one of `count` that have met in a store of torch's, `TCPStore` for instance."""
    if device.type == "cuda" and device.index is not None:  # `cuda` is the current one
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "cpu:gloo"
    dist.init_process_group(backend, store=meeting, rank=rank, world_size=count, timeout=PATIENCE)
    try:
        yield Replicas(rank, count, PrefixStore("prunesweep", meeting))
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


@contextmanager
def launched(device: torch.device) -> Iterator[Replicas]:
    """This process as torchrun has started it, or alone where it has not."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    meeting, rank, count = next(rendezvous("env://", timeout=PATIENCE))
    with joined(meeting, rank, count, device) as replicas:
        yield replicas


def tear_away() -> None:
    """End this process's wait for others, from another thread; where NCCL runs it waits for those that are gone."""
    if dist.is_initialized() and dist.group.WORLD is not None:
        dist.group.WORLD.abort()


def lost_another(error: BaseException) -> bool:
    """Whether it says that another replica is gone, and not what was wrong there."""
    words = str(error)
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(mark in words for mark in ("gloo/", "gloo::", "NCCL", "ProcessGroup"))
    )


def _digest(tensor: Tensor) -> Tensor:
    """A sum over the bits."""
    flat = tensor.detach().contiguous().view(-1)
    kinds = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return flat.view(kinds[flat.element_size()]).sum(dtype=torch.int64)
