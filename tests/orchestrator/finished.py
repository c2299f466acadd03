"""A store with finished stages that nobody trained: results are made up, a function of the stage alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import chdir
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prunesweep.orchestrator.plan import Plan, make_plan
from prunesweep.orchestrator.records import remember
from prunesweep.orchestrator.run.collect import Collector
from prunesweep.orchestrator.sweepfile.read import read_sweep
from prunesweep.workers.causes import Cause
from prunesweep.workers.curve import curve_file
from prunesweep.workers.encoding import encode
from prunesweep.workers.seal import sealed_json
from prunesweep.workers.spec import PruneStage, Stage, label
from prunesweep.workers.store import CURVE, RESULT, Store
from prunesweep.workers.tasks.classification import Classification

PARAMETERS, MULTIPLY_ADDS = 10_000, 1_000_000
SECONDS_PER_EPOCH, OTHER_SECONDS = 36.0, 18.0
"""Of each stage, training and the rest."""

Fate = Callable[[Stage], str | None]
"""None for a stage that finishes, `left` for one that nobody started, or what it fails with."""


def finish(text: str, store: Store, file: Path, fate: Fate = lambda stage: None, device: str = "Some GPU") -> Plan:
    """As `prunesweep run` leaves the store behind: the sweep remembered, its stages done or failed, tables written.

    It is as if called in the file's folder, whose repository is the provenance.
    """
    file.write_text(text)
    plan = make_plan(read_sweep(file), store)
    with chdir(file.parent):
        remember(plan.sweep, store)
    lost: set[str] = set()
    for stage in plan.stages.values():
        end = "left" if stage.parent is not None and stage.parent.key in lost else fate(stage)
        if end is not None:
            lost.add(stage.key)
        if end is None:
            store.begin(stage)
            store.publish(stage, {CURVE: curve_of(stage)}, result_of(stage, device))
        elif end != "left":
            _fail(store, stage, end)
    plan = plan.refreshed(store)
    if len(lost) < len(plan.stages):
        Collector(plan, store).write()
    return plan


def _fail(store: Store, stage: Stage, message: str) -> None:
    begun = store.begin(stage)
    noted = {**begun.__dict__, "cause": str(Cause.DIVERGED), "message": message, "log": ("epoch 1", "epoch 2")}
    store.fail(stage.key, type(begun)(**noted))


def _chance(stage: Stage) -> float:
    """Between 0 and 1, the same for a stage whenever it is asked."""
    return int(hashlib.sha256(stage.key.encode()).hexdigest()[:8], 16) / 0xFFFFFFFF


def result_of(stage: Stage, device: str = "Some GPU") -> dict[str, Any]:
    """What `result.json` says of a stage."""
    density = 1 - stage.sparsity
    accuracy = 0.97 - 0.3 * stage.sparsity**8 + 0.01 * _chance(stage)
    kept = round(PARAMETERS * density)
    metrics: dict[str, Any] = {
        **{f"{split}_accuracy": accuracy + shift for split, shift in (("train", 0.02), ("validation", 0.01))},
        **{f"{split}_loss": 1 - accuracy for split in ("train", "validation", "test")},
        "test_accuracy": accuracy,
        "test_accuracy_top5": None,
        "parameters": PARAMETERS,
        "nonzero_parameters": kept,
        "reached_sparsity": stage.sparsity,
        "multiply_adds": MULTIPLY_ADDS,
        "nonzero_multiply_adds": round(MULTIPLY_ADDS * density),
        "theoretical_speedup": 1 / density,
        "compression_ratio": 1 / density,
    }
    cost = MULTIPLY_ADDS // PARAMETERS
    weights = {"conv1.weight": PARAMETERS // 10, "fc.weight": PARAMETERS - PARAMETERS // 10}
    return {
        "label": label(stage),
        "metrics": metrics,
        "layers": [
            {
                "name": name,
                "weights": size,
                "nonzero": round(size * density),
                "multiply_adds": cost * size,
                "nonzero_multiply_adds": cost * round(size * density),
            }
            for name, size in weights.items()
        ],
        "epochs": stage.epochs,
        "images": 1000 * stage.epochs,
        "bytes": 1000,
        "train_seconds": SECONDS_PER_EPOCH * stage.epochs,
        "elapsed_seconds": SECONDS_PER_EPOCH * stage.epochs + OTHER_SECONDS,
        "peak_memory_bytes": 2_000_000,
        "device": device,
        "torch_version": "2.15.0",
        "attempts": 1,
        "finished_at": "2026-01-02T03:04:05.000000+00:00",
        "commit": "0123456789abcdef0123456789abcdef01234567+89abcdef",
    }


def files_of(stage: Stage, store: Store) -> dict[str, bytes]:
    """What its worker leaves in its folder, but for the network."""
    curve = curve_of(stage)
    note = sealed_json(asdict(store.new_attempt(stage.key, contents=frozenset())))
    result = {**result_of(stage), "key": stage.key, "files": {CURVE: hashlib.sha256(curve).hexdigest()}}
    spec = json.dumps(encode(stage)).encode()
    return {"spec.json": spec, "attempts/0001-0f3a55c2.json": note, CURVE: curve, RESULT: sealed_json(result)}


def curve_of(stage: Stage) -> bytes:
    """Its `curve.parquet`."""
    pruned = isinstance(stage, PruneStage)
    epochs = range(stage.start_epoch + (not pruned), stage.start_epoch + stage.epochs + 1)
    rows = [
        {
            "epoch": epoch,
            "train_loss": None if pruned and epoch == stage.start_epoch else 1 / (1 + epoch),
            "train_accuracy": 0.9,
            "validation_loss": 1 / (1 + epoch),
            "validation_accuracy": 1 - 1 / (2 + epoch) + 0.01 * _chance(stage),
            "learning_rate": None if pruned and epoch == stage.start_epoch else 0.1 / (1 + epoch),
            "sparsity": stage.sparsity,
            "nonzero_multiply_adds": round(MULTIPLY_ADDS * (1 - stage.sparsity)),
        }
        for epoch in epochs
    ]
    return curve_file(Classification.metrics[0], rows)
