"""Checks with more than one process: the memory cap, two stages at once on one card, two ranks on one card."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from math import inf
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from benchmarks.gpu.report import Outcome, Report
from prunesweep.workers.causes import Cause, cause_of
from prunesweep.workers.host import Where, cap_memory
from prunesweep.workers.replicas import joined
from prunesweep.workers.run import run_stage
from prunesweep.workers.spec import Stage, path
from prunesweep.workers.store import Store
from tests.cases import TRAIN, last_stage, trial
from tests.contract import numbers

CONTEXT = get_context("spawn")
PATIENCE = 90.0
"""Seconds for processes that import torch, start a context on the card, and train a little."""


def started(work: Callable[..., None], *arguments: Sequence[Any]) -> list[BaseProcess]:
    """A process for each of the arguments."""
    members: list[BaseProcess] = [CONTEXT.Process(target=work, args=tuple(given)) for given in arguments]
    for member in members:
        member.start()
    return members


def ended(members: Sequence[BaseProcess], seconds: float = PATIENCE) -> list[int | None]:
    """Their exit codes; one that has not ended in time is killed, and has None."""
    deadline, codes = monotonic() + seconds, []
    for member in members:
        member.join(max(0.0, deadline - monotonic()))
        codes.append(member.exitcode)
        member.kill()
        member.join()
    return codes


# --- the memory cap


def cap(report: Report) -> None:
    """A process that wants more of the card than its share is out of memory, and says so by name."""
    answers = CONTEXT.Queue()
    members = started(greedy, (report.device, answers))
    cause, message = answers.get(timeout=PATIENCE)
    codes = ended(members)
    said = f"{cause}: {message}"
    if report.gpu:
        report.judge("memory cap", "a process", cause == Cause.GPU_MEMORY and codes == [0], said)
    else:
        report.add("memory cap", "a process", Outcome.ABSENT, f"as torch would say it: {said}")


def greedy(device: torch.device, answers: Any) -> None:
    """Ask for twice the share; on a CPU raise what a card would."""
    cap_memory(device, 0.05)
    try:
        if device.type != "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate twice the share")
        total = torch.cuda.get_device_properties(device).total_memory
        torch.empty(total // 10, dtype=torch.uint8, device=device)
    except RuntimeError as error:
        answers.put((str(cause_of(error)), str(error).partition(".")[0]))
    else:
        answers.put(("no failure", "it got twice its share"))


# --- two processes on one card


def two(report: Report, folder: Path) -> None:
    """Two at once compute the same stage, each in a store of its own, and come to the bits of one alone."""
    stage = last_stage(trial("dpf", train=replace(TRAIN, epochs=4)))
    compute(stage, folder / "alone", str(report.device), torch.get_num_threads())
    folders = [folder / "one", folder / "other"]
    start = monotonic()
    members = started(compute, *((stage, own, str(report.device), torch.get_num_threads(), 0.4) for own in folders))
    codes = ended(members)
    expected = numbers(stage, Store(folder / "alone"))
    same = codes == [0, 0] and all(numbers(stage, Store(own)) == expected for own in folders)
    said = f"exit codes {codes}, {monotonic() - start:.0f} s; " + ("the bits of one alone" if same else "other numbers")
    report.judge("two processes", "dpf", same, said)


def compute(stage: Stage, folder: Path, device: str, threads: int, share: float = 1.0) -> None:
    """The stage with all that it needs."""
    for step in path(stage):
        list(
            run_stage(step, Store(folder), Where(device=device, threads=threads, gpu_share=share, checkpoint_share=inf))
        )


# --- two ranks on one card


def ranks(report: Report, folder: Path) -> None:
    """Two replicas on the same card, over NCCL where it allows that; on a CPU over gloo."""
    stage = last_stage(trial("gmp", train=replace(TRAIN, epochs=4, precision="float64")))
    compute(stage, folder / "one rank", str(report.device), 1)
    meeting = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    answers = CONTEXT.Queue()
    shared = meeting.port, stage, folder / "two ranks", str(report.device), answers
    codes = ended(started(rank, *((number, *shared) for number in range(2))), PATIENCE / 2)
    messages = [answers.get() for code in codes if code == 1]
    refused = [message for message in messages if "NCCL" in message or "Duplicate GPU" in message]
    if report.gpu and refused:
        report.add("two ranks", "gmp", Outcome.ABSENT, f"NCCL refuses two ranks on one card: {refused[0]}")
        return
    if codes != [0, 0]:
        report.judge("two ranks", "gmp", False, f"exit codes {codes} {'; '.join(messages)}")
        return
    losses = [metrics(stage, folder / name)["test_loss"] for name in ("one rank", "two ranks")]
    apart = abs(losses[0] - losses[1]) / abs(losses[0])
    report.judge("two ranks", "gmp", apart < 1e-9, f"test losses {losses[0]:.9f} and {losses[1]:.9f}", {"apart": apart})


def rank(number: int, port: int, stage: Stage, folder: Path, device: str, answers: Any) -> None:
    """One of the two; what torch raises is told, and the exit code is 1."""
    torch.set_num_threads(1)
    meeting = TCPStore("127.0.0.1", port, is_master=False, timeout=timedelta(seconds=PATIENCE))
    try:
        with joined(meeting, number, 2, Where(device=device).torch_device) as replicas:
            for step in path(stage):
                list(run_stage(step, Store(folder), Where(device=device, checkpoint_share=inf), replicas))
    except RuntimeError as error:
        reason = error.__cause__ or error
        answers.put(" ".join(str(reason).split())[:300])
        raise SystemExit(1) from error


def metrics(stage: Stage, folder: Path) -> dict[str, Any]:
    """Of a finished stage."""
    result = Store(folder).result(stage.key)
    assert result is not None
    values: dict[str, Any] = result["metrics"]
    return values
