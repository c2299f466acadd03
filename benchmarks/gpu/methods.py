"""What the methods cost: images/s over plain training's, and the seconds of each hook beside its memory floor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.gpu.counting import iteration
from benchmarks.gpu.device import copy_bandwidth, seconds_of
from benchmarks.gpu.kernels import kernels_of
from benchmarks.gpu.report import Outcome, Report
from benchmarks.methods import (
    MASK,
    NETWORKS,
    RETRAINED,
    Network,
    Setting,
    Trainer,
    give_gradients,
    one_round,
    own_work,
    synthetic,
)
from prunesweep.workers.precision import set_backends

GOAL = 0.95
"""Of plain training's images/s."""

TIMES_FLOOR = 4.0

FLOORS = {
    RETRAINED: 12,  # gradients and masks read, gradients written
    "gmp": 12,
    "gsm": 12,  # weights and gradients read, gradients written
    "dpf": 12,  # weights and masks read, sparse weights written
    MASK: 8,  # weights read, masks written
    "dnw": 8,  # weights read, sparse weights written
    "lc": 12,  # weights and gradients read, gradients written
    "str": 20,  # weights read, sparse ones written; both and gradients read, gradients written
    "dst": 20,
    "cs": 32,  # likewise, with m and its gradient
}
"""Bytes that a method must move for each weight in an iteration, in float32, whatever the code."""

PRUNE = 28
"""Likewise of a prune of GMP: weights read, masks written; weights and momentum read and written."""

ROUNDS, ITERATIONS = 9, {"resnet56": 16, "resnet50": 4, "resnet8": 1}
SMOKE = Network("ResNet-8", "resnet8", (3, 32, 32), 10, 400, 16, (2, 2), (1, 1))


def run(report: Report) -> None:
    """The section."""
    set_backends("bfloat16")
    setting = Setting(report.device, "bfloat16", channels_last=True, batch=2 if report.smoke else None)
    names = tried(report.methods)
    report.attempt("selection", "the k-th largest", lambda: selections(report), seconds=5)
    bandwidth = copy_bandwidth(report.device, 2**24 if report.smoke else 2**30)
    report.measured("memory", "a copy", f"{bandwidth / 1e9:,.0f} GB/s", {"bytes per second": bandwidth})
    for name in names[1:]:
        report.attempt("hook", name, partial(hook, report, name, setting, bandwidth), seconds=3)
    networks = [SMOKE] if report.smoke else [NETWORKS["resnet56"], NETWORKS["resnet50"]]
    for position, network in enumerate(networks):
        share = report.left() / (len(networks) - position)
        report.attempt(
            "over dense",
            network.model,
            partial(over_dense, report, network, names, setting, share),
            seconds=20,
        )


def tried(methods: Sequence[str]) -> list[str]:
    """Plain training first; those that only hold a mask while they retrain are one."""
    merged = [RETRAINED if name in RETRAINED.split(", ") else name for name in methods]
    return list(dict.fromkeys(["dense", *merged]))


# --- seconds of the methods' own work


def hook(report: Report, name: str, setting: Setting, bandwidth: float) -> None:
    """At the size of ResNet-50, 25.5 million weights."""
    trainer = Trainer(name, SMOKE if report.smoke else NETWORKS["resnet50"], setting)
    weights = sum(weight.numel() for weight in trainer.weights)
    for work in own_work(trainer, 3 if report.smoke else 9):
        seconds = float(np.median(work.totals()))
        size = PRUNE if work.name.startswith("gmp:") else FLOORS.get(work.name, 8)
        floor = weights * size / bandwidth
        goal = "" if report.smoke or not report.gpu else f", goal {TIMES_FLOOR:.0f}"
        said = f"{1000 * seconds:.3f} ms, floor {1000 * floor:.3f} ms, {seconds / floor:.1f} times{goal}"
        report.measured("hook", work.name, said, {"seconds": seconds, "floor": floor, "weights": weights})
    give_gradients(trainer, [torch.zeros_like(weight) for weight in trainer.weights])
    launched = kernels_of(partial(iteration, trainer.pruner), report)
    if report.gpu:
        said = f"{len(launched)} kernels and copies in an iteration of its own work"
        report.measured("launches", name, said, {"launches": len(launched)})
    else:
        report.add("launches", name, Outcome.ABSENT, f"{len(launched)} operators on a CPU, which works in blocks")


def selections(report: Report) -> None:
    """Ways to the k-th largest of so many scores, of which `workers.selection` takes the first."""
    n = 2**16 if report.smoke else 25_502_912
    scores = torch.rand(n, device=report.device)
    k = n // 10
    ways: Mapping[str, Callable[[], object]] = {
        "topk, unsorted": lambda: scores.view(torch.int32).topk(k, sorted=False).values.amin(),
        "a sort": lambda: scores.sort(descending=True).values[k - 1],
        "a histogram": lambda: by_histogram(scores, k),
        "kthvalue": lambda: scores.kthvalue(n - k + 1).values,
    }
    for way, select in ways.items():
        seconds = seconds_of(select, report.device, 3)
        report.measured("selection", way, f"{1000 * seconds:.3f} ms for {n:,} scores", {"seconds": seconds})


def by_histogram(scores: Tensor, k: int) -> Tensor:
    """The k-th largest of non-negative scores by their bits, 11, 10 and 10 at a time, on the device."""
    bits, prefix = scores.view(torch.int32), torch.zeros(1, dtype=torch.int32, device=scores.device)
    wanted = torch.full((1,), k, dtype=torch.int64, device=scores.device)
    for shift, width in ((20, 11), (10, 10), (0, 10)):
        offset = (bits - prefix) >> shift
        counts = histogram(offset, 1 << width)
        above = counts.flip(0).cumsum(0).flip(0)  # scores in this bin or a higher one
        chosen = (above >= wanted).sum(0, keepdim=True) - 1
        higher = functional.pad(above, (0, 1)).index_select(0, chosen + 1)  # in higher bins alone
        wanted = wanted - higher
        prefix = prefix + (chosen << shift).int()
    return prefix.view(torch.float32)[0]


def histogram(values: Tensor, bins: int) -> Tensor:
    """Counts of the integers 0 to bins - 1; others do not count. On a GPU nothing waits, as it does in `bincount`."""
    if values.device.type == "cuda":
        return torch.histc(values, bins, 0, bins - 1).long()
    return torch.bincount(values[(values >= 0) & (values < bins)].long(), minlength=bins)


# --- images/s over plain training's


def over_dense(report: Report, network: Network, names: Sequence[str], setting: Setting, seconds: float) -> None:
    """Rounds of all methods, each between plain training before and after it, until the seconds are over."""
    ends = report.left() - seconds
    dense, trainers, key = Trainer("dense", network, setting), dict[str, Trainer](), network.model
    batches = synthetic(dense)[: ITERATIONS[key]]
    for name in names:
        report.attempt("over dense", f"{key}, {name}", partial(prepare, trainers, name, network, setting, batches))
    dense.train(batches[:1])
    ratios: dict[str, list[float]] = {name: [] for name in trainers}
    rates: dict[str, list[float]] = {name: [] for name in trainers}
    for round_ in range(2 if report.smoke else ROUNDS):
        if round_ and report.left() < ends:
            break
        timed = one_round(list(trainers.values()), dense, batches, round_)
        for name, (own, plain) in zip(trainers, timed, strict=True):
            ratios[name].append(plain / own)
            rates[name].append(len(batches) * dense.batch / own)
    for name, values in ratios.items():
        tell(report, f"{key}, {name}", values, float(np.median(rates[name])))


def prepare(
    trainers: dict[str, Trainer],
    name: str,
    network: Network,
    setting: Setting,
    batches: Sequence[tuple[Tensor, Tensor]],
) -> None:
    """A method late in training, warm; one that fails is not among those that are timed."""
    trainer = Trainer(name, network, setting)
    trainer.train(batches[:1])
    trainer.settle()
    trainer.train(batches)
    trainers[name] = trainer


def tell(report: Report, subject: str, ratios: Sequence[float], rate: float) -> None:
    """The median, and how far the rounds lie apart."""
    low, median, high = np.quantile(ratios, [0.25, 0.5, 0.75]).tolist()
    goal = "" if report.smoke or not report.gpu else f", goal {GOAL}"
    said = f"{median:.3f} of dense ({low:.3f} to {high:.3f}, {len(ratios)} rounds), {rate:,.0f} images/s{goal}"
    report.measured("over dense", subject, said, {"ratio": median, "images per second": rate, "rounds": len(ratios)})
