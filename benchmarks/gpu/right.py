"""Whether the numbers are right on the device: method by method on the tests' small network, then whole stages."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from benchmarks.gpu import stages
from benchmarks.gpu.counting import count_method
from benchmarks.gpu.report import Report
from prunesweep.workers.precision import set_backends
from prunesweep.workers.training import train_epoch
from tests.contract import ITERATIONS, Awkward, Training, batches, trained_with

EPOCHS, FEW = 10, 2
"""Of six iterations each; few in small."""

TOLERANCES = {"float64": 1e-9, "float32": 1e-4}
"""Of the norm of all weights: in float32 sums in another order grow for 60 iterations, in float64 nothing hides."""

NEAR = 1e-3
"""A survivor within this of the smallest one may as well have been pruned: a tie, but for rounding."""


def run(report: Report) -> None:
    """The section."""
    for name in report.methods:
        for precision in TOLERANCES:
            report.attempt(f"as on the CPU, {precision}", name, partial(agree, report, name, precision))
        report.attempt("no waits", name, partial(waits, report, name))
    stages.run(report)


# --- CPU and device agree


@dataclass(frozen=True)
class Trained:
    """The weights that training has left, and those of the plain network."""

    stored: Sequence[Tensor]
    final: Sequence[Tensor]


def agree(report: Report, name: str, precision: str) -> None:
    """60 iterations on either device, from the same weights and batches."""
    epochs = FEW if report.smoke else EPOCHS
    cpu, device = (trained(name, where, precision, epochs) for where in (torch.device("cpu"), report.device))
    distance = relative(cpu.stored, device.stored)
    differ, ties = masks_that_differ(cpu.final, device.final)
    said = f"{distance:.1e} of the norm apart; {differ} masks differ" + f", {ties} of them ties" * (differ > 0)
    numbers = {"distance": distance, "masks": float(differ), "ties": float(ties)}
    report.judge(
        f"as on the CPU, {precision}", name, distance <= TOLERANCES[precision] and differ == ties, said, numbers
    )


def trained(name: str, device: torch.device, precision: str, epochs: int) -> Trained:
    """With the method late in training, and then its plain network."""
    set_backends(precision)
    training = small(name, device, precision)
    dtype = getattr(torch, precision)
    for number in range(1, epochs + 1):
        training.epoch(number, dtype=dtype)
    stored = [weight.detach().cpu().double() for weight in training.pruner.weights]
    training.pruner.finalize()
    return Trained(stored, [weight.detach().cpu().double() for weight in training.pruner.weights])


def small(name: str, device: torch.device, precision: str = "float32") -> Training:
    """The tests' network of awkward layers, in the layout in which stages train."""
    torch.manual_seed(0)
    model = Awkward().to(getattr(torch, precision)).to(device).to(memory_format=torch.channels_last)
    return trained_with(name, model, precision=precision, epochs=EPOCHS)


def relative(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    """||a - b|| / ||a||, over all of them."""
    apart = sum(float((a - b).square().sum()) for a, b in zip(ours, theirs, strict=True))
    return math.sqrt(apart / sum(float(a.square().sum()) for a in ours))


def masks_that_differ(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> tuple[int, int]:
    """How many weights one network keeps and the other does not, and how many of those are next to the threshold."""
    a, b = (torch.cat([t.abs().flatten() for t in tensors]) for tensors in (ours, theirs))
    survivors = torch.cat([a[a > 0], b[b > 0]])
    differ = (a > 0) != (b > 0)
    ties = differ & (torch.maximum(a, b) <= survivors.min() * (1 + NEAR)) if len(survivors) else differ
    return int(differ.sum()), int(ties.sum())


# --- nothing in an iteration waits for the device


def waits(report: Report, name: str) -> None:
    """On a card torch itself tells, on a CPU the operations are counted (`benchmarks.gpu.counting`)."""
    if not report.gpu:
        every = count_method(name, "resnet8")[0]
        count = every.waits.total()
        said = f"counted: {count} waits and {every.launches.total()} launches an iteration"
        report.judge("no waits", name, count == 0, said, {"waits": count, "launches": every.launches.total()})
        return
    training = small(name, report.device)
    training.epoch(1)
    placed = [(inputs.to(report.device), targets.to(report.device)) for inputs, targets in batches()]
    with torch.cuda.device(report.device):
        try:
            train_epoch(
                training.network, training.pruner, training.optimizer, watched(placed), lambda k: 0.05, ITERATIONS
            )
        except RuntimeError as error:
            if "synchronizing" not in str(error):
                raise
            trace = error.__traceback__
            last = ""
            while trace is not None:
                code = trace.tb_frame.f_code
                last = f"{code.co_filename}, line {trace.tb_lineno}" if "prunesweep" in code.co_filename else last
                trace = trace.tb_next
            report.judge("no waits", name, False, f"it waits in {last}")
            return
        finally:
            torch.cuda.set_sync_debug_mode("default")
    report.judge("no waits", name, True, f"{ITERATIONS} iterations with set_sync_debug_mode('error')")


def watched(placed: Sequence[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches, during whose iterations torch raises when the host waits; the end of the epoch may."""
    torch.cuda.set_sync_debug_mode("error")
    yield from placed
    torch.cuda.set_sync_debug_mode("default")
