"""Whole stages on the device: the same bits however they were reached, and what they say of accuracy and memory."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from pathlib import Path

import torch

from benchmarks.gpu import processes
from benchmarks.gpu.report import Outcome, Report
from prunesweep.orchestrator.resources import Resources
from prunesweep.orchestrator.run.failures import larger, policy
from prunesweep.workers import checkpoint, data, models, precision, probe, training
from prunesweep.workers.host import Where, cap_memory
from prunesweep.workers.measure import PeakMemory
from prunesweep.workers.run import StageFailed, run_stage
from prunesweep.workers.spec import Stage, TrainSpec, path
from prunesweep.workers.store import NETWORK, Store
from tests.cases import TRAIN, last_stage, trial
from tests.contract import numbers

DROPOUT = models.choose("wide_resnet", {"depth": 10, "width": 1, "dropout": 0.3})
LARGE = data.choose("synthetic", {"shape": (3, 32, 32), "classes": 10, "images": 1200, "test_images": 100})


@dataclass(frozen=True)
class Place:
    """Where stages run: a device, and a folder of stores."""

    device: torch.device
    folder: Path

    def store(self, name: str) -> Store:
        """A store of its own."""
        return Store(self.folder / name)

    def run(self, stage: Stage, store: Store, share: float = 1.0) -> None:
        """The stage, and first those that it needs."""
        for step in path(stage):
            list(run_stage(step, store, self.where(share)))

    def interrupted(self, stage: Stage, store: Store) -> int:
        """Likewise, each one left after its first epoch and begun again from its checkpoint; returns how many were."""
        steps = [step for step in path(stage) if step.epochs > 1]
        for step in path(stage):
            if step in steps:
                stepped = run_stage(step, store, self.where(1.0))
                next(stepped)
                del stepped  # as a process does that is ended
                assert store.result(step.key) is None
            list(run_stage(step, store, self.where(1.0)))
        return len(steps)

    def where(self, share: float) -> Where:
        """Checkpoints at every epoch."""
        return Where(device=str(self.device), threads=torch.get_num_threads(), gpu_share=share, checkpoint_share=inf)


def run(report: Report) -> None:
    """All checks of stages."""
    with tempfile.TemporaryDirectory(prefix="prunesweep-gpu") as folder:
        place = Place(report.device, Path(folder))
        for name in tried(report):
            stage = last_stage(trial(name, train=replace(TRAIN, epochs=5)))
            report.attempt("the same bits", name, partial(same_bits, report, place, name, stage), seconds=5)
        for title, train in list(variants().items())[: 1 if report.smoke else None]:
            stage = last_stage(replace(trial("dpf", train=train), model=DROPOUT))
            check, seconds = f"with {title}", 45 if train.compile else 6
            torch.compiler.reset()
            report.attempt("the same bits", check, partial(same_bits, report, place, check, stage), seconds=seconds)
        report.attempt("peak memory", "a tensor", lambda: peak_memory(report), seconds=2)
        report.attempt("memory cap", "a process", lambda: processes.cap(report), seconds=5)
        report.attempt("out of memory", "a stage", lambda: retried(report, place), seconds=10)
        report.attempt("two processes", "dpf", lambda: processes.two(report, place.folder), seconds=20)
        report.attempt("two ranks", "gmp", lambda: processes.ranks(report, place.folder), seconds=20)


def tried(report: Report) -> tuple[str, ...]:
    """All methods; in small one that starts from a trained network and one that does not, as the tests try all."""
    few = tuple(name for name in report.methods if name in ("bimp", "dst"))
    return (few or report.methods) if report.smoke else report.methods


def variants() -> Mapping[str, TrainSpec]:
    """Ways to train that have state or kernels of their own, all in one first; in channels-last layout."""
    train = replace(TRAIN, epochs=4, batch_size=60)
    return {
        "dropout, bfloat16, compile": replace(train, precision="bfloat16", compile=True),
        "dropout": train,
        "dropout, bfloat16": replace(train, precision="bfloat16"),
        "dropout, compile": replace(train, compile=True),
    }


def same_bits(report: Report, place: Place, name: str, stage: Stage) -> None:
    """Unbroken, once more, and resumed; then the published network is evaluated anew."""
    stores = {way: place.store(f"{name}-{way}") for way in ("unbroken", "again", "resumed")}
    place.run(stage, stores["unbroken"])
    assert place.interrupted(stage, stores["resumed"]), "no stage is long enough to be resumed"
    if not report.smoke:
        place.run(stage, stores["again"])
    expected = numbers(stage, stores["unbroken"])
    for way in ("resumed",) if report.smoke else ("again", "resumed"):
        others = numbers(stage, stores[way])
        differ = sorted(key for key, value in expected.items() if others.get(key) != value)
        report.judge("the same bits", f"{name}, {way}", not differ, f"differ: {', '.join(differ)}" if differ else "all")
    exported(report, name, stage, stores["unbroken"], place)


def exported(report: Report, name: str, stage: Stage, store: Store, place: Place) -> None:
    """A fresh network with the published weights has the accuracy and the sparsity that the table says."""
    train, root = stage.root.train, stage.root
    dataset = data.load(root.dataset, "").to(place.device)
    precision.set_backends(train.precision)
    model = models.build(root.model, dataset.shape, dataset.classes)
    checkpoint.load_network(model, checkpoint.unpack_tensors(store.read_published(stage.key, NETWORK)))
    channels_last = probe.place(model, root.model.name, dataset, place.device, precision.storage(train.precision))
    network = training.Network(model, train, place.device, channels_last=channels_last, compiled=False)
    batches = dataset.evaluation_batches("test", batch_size=train.evaluation_batch_size)
    accuracy = training.evaluate(network, batches).metrics["accuracy"]
    result = store.result(stage.key)
    assert result is not None
    parameters = dict(model.named_parameters())
    weights = [parameters[layer["name"]] for layer in result["layers"] if layer["weights"] is not None]
    zeros = 1 - sum(int(w.count_nonzero()) for w in weights) / sum(weight.numel() for weight in weights)
    metrics = result["metrics"]
    expected = metrics["test_accuracy"], metrics["reached_sparsity"]
    said = f"test accuracy {accuracy:.4f} and sparsity {zeros:.4f}, the table {expected[0]:.4f} and {expected[1]:.4f}"
    report.judge("exported as in its table", name, (accuracy, zeros) == expected, said)


def peak_memory(report: Report) -> None:
    """A tensor that is freed again is in the peak: on a card to the byte, of a process about."""
    size = 2**28 if report.gpu else 2**26
    before = torch.cuda.memory_allocated(report.device) if report.gpu else 0
    peak = PeakMemory(report.device)
    least = before if report.gpu else (peak.read() or 0)
    torch.ones(size, dtype=torch.uint8, device=report.device)
    grown = (peak.read() or 0) - least
    said = f"{grown / 2**20:.1f} MiB for {size / 2**20:.0f} MiB"
    report.judge("peak memory", "a tensor", 0.8 * size <= grown <= size + 2**24, said, {"bytes": grown})


def retried(report: Report, place: Place) -> None:
    """A share of the card that is too small is told as such, and doubled until the stage fits, as a run does it."""
    asked = trial("dense", train=replace(TRAIN, epochs=2, batch_size=512))
    stage = last_stage(replace(asked, dataset=LARGE, model=models.choose("resnet20", {})))
    share, store, failures = Resources(cpus=1.0, gpus=2.0**-12), place.store("retried"), 0
    while (message := attempted(partial(place.run, stage, store, share.gpus))) is not None:
        failures += 1
        again = larger(share, message, Resources(cpus=1.0, gpus=1.0))
        assert policy(message).larger, f"{message} is not tried again"
        assert again is not None, f"with the whole card: {message}"
        share = again
    cap_memory(report.device, 1.0)
    said = f"{failures} times out of GPU memory, done with a share of {share.gpus:g}"
    if report.gpu:
        report.judge("out of memory", "a stage", failures > 0, said, {"failures": failures, "share": share.gpus})
    else:
        report.add("out of memory", "a stage", Outcome.ABSENT, f"a CPU has no share to exceed; {said}")


def attempted(work: Callable[[], None]) -> str | None:
    """The cause of a failure, with what the failed attempt held on the card freed; None when there was none."""
    try:
        work()
    except StageFailed as error:
        cause = str(error.cause)
    else:
        return None
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return cause
