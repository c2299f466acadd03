"""Replicas as processes of one machine, without Ray and without torchrun."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Self

import torch
import torch.distributed as dist
from torch import Tensor, nn

from prunesweep.workers.host import Where
from prunesweep.workers.lineage import work as work_of
from prunesweep.workers.replicas import Replicas, joined
from prunesweep.workers.run import run_stage
from prunesweep.workers.spec import Stage
from prunesweep.workers.store import Store

Work = Callable[..., None]


class Team:
    """Processes that call `work(replicas, *arguments)`; the first one leads. Killed at the end of `with`."""

    def __init__(self, count: int, work: Work, *arguments: Any) -> None:
        context = get_context("forkserver")
        context.set_forkserver_preload(["prunesweep.workers.run"])
        self.meeting = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        self.members = [
            context.Process(target=_member, args=(rank, count, self.meeting.port, work, arguments))
            for rank in range(count)
        ]

    def __enter__(self) -> Self:
        for member in self.members:
            member.start()
        return self

    def __exit__(self, *_: object) -> None:
        for member in self.members:
            member.kill()
            member.join()

    def ended(self, seconds: float = 120) -> list[int | None]:
        """Their exit codes; None of one that has not ended in time."""
        deadline = time.monotonic() + seconds
        for member in self.members:
            member.join(max(0.0, deadline - time.monotonic()))
        return [member.exitcode for member in self.members]


def together(count: int, work: Work, *arguments: Any) -> None:
    """Likewise, to the good end of all of them."""
    with Team(count, work, *arguments) as team:
        assert team.ended(600) == [0] * count


def _member(rank: int, count: int, port: int, work: Work, arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    meeting = dist.TCPStore("127.0.0.1", port, is_master=False, timeout=timedelta(seconds=60))
    with joined(meeting, rank, count, torch.device("cpu")) as replicas:
        work(replicas, *arguments)


def run(replicas: Replicas, stages: Sequence[Stage], folder: Path, **where: Any) -> None:
    """The stages with all that they need."""
    for stage in stages:
        for each in work_of(stage):
            list(run_stage(each, Store(folder), Where(**where), replicas))


def run_until(replicas: Replicas, stage: Stage, folder: Path, epoch: int) -> None:
    """End all processes at once when an epoch's checkpoint is written."""
    for progress in run_stage(stage, Store(folder), Where(checkpoint_share=float("inf")), replicas):
        if progress.epoch == epoch:
            replicas.agreed(bool)
            os._exit(0)


class Odd(nn.Module):
    """Parameters that the loss does not depend on, and the kinds of batch norm there are."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, 6, 3)
        self.bare = nn.BatchNorm2d(6, affine=False, momentum=None)
        self.second = nn.Conv2d(6, 6, 3, groups=2)
        self.passing = nn.BatchNorm2d(6, track_running_stats=False)
        self.unused = nn.Linear(3, 2)
        self.flat = nn.BatchNorm1d(6, eps=0.1)
        self.last = nn.Linear(6, classes)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.passing(self.second(self.bare(self.first(images)).relu())).relu()
        logits: Tensor = self.last(self.flat(hidden.mean((2, 3))))
        return logits


def odd(shape: tuple[int, int, int], classes: int) -> nn.Module:
    return Odd(shape[0], classes)


def wrong(shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Which only the second replica finds out."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], classes))
    if dist.is_initialized() and dist.get_rank() == 1:
        model.register_forward_pre_hook(_refuse)
    return model


def _refuse(*_: object) -> None:
    raise ValueError("this one does not fit")


def too_few_outputs(shape: tuple[int, int, int], classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], 3))
