"""What `prunesweep` offers to Python: sweeps and results by name, with the defaults of the command line.

Documented in docs/python.md and handed on by `prunesweep/__init__.py`. Torch, Ray and pandas load when they are needed.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from prunesweep.orchestrator.lookup import NamedSweep, load_sweep, open_store, planned_sweep, results_place
from prunesweep.orchestrator.plan import Plan, make_plan
from prunesweep.orchestrator.status.checking import Check, Fault
from prunesweep.orchestrator.sweep import Sweep
from prunesweep.workers.errors import UserError
from prunesweep.workers.location import Location
from prunesweep.workers.store import Store

if TYPE_CHECKING:
    from pandas import DataFrame
    from torch.nn import Module

Place = str | Path | Location
"""A folder or a URL."""


def plan(sweep: NamedSweep, store: Place | None = None, *, data_dir: Place | None = None) -> Plan:
    """What a sweep would run: its trials, their stages, and what the store has of them. Starts nothing.

    `sweep` is a sweep file, the settings of one as a dict, or a sweep's name or folder in the store. `store` is a
    folder or URL, by default PRUNESWEEP_STORE or `results`. `data_dir` is where images of one's own are looked for,
    whose content is part of a trial, by default PRUNESWEEP_DATA or `data`. Raises `UserError`.
    """
    opened = _store(store)
    return make_plan(planned_sweep(sweep, opened, str(data_dir) if data_dir else None), opened)


def check(store: Place | None = None, *, deep: bool = False) -> list[Fault]:
    """What is wrong in a store: of each fault its `place`, the `problem`, and as `remedy` what running again does.

    Results, curves, notes and tables are held against their checksums, and stages and rows against each other; with
    `deep` networks, momentum and checkpoints are read, too. Empty when all is whole. It only reads. Raises `UserError`
    where there is no store.
    """
    return list(Check(open_store(_store(store).location), deep).faults())


def run(
    sweep: NamedSweep,
    store: Place | None = None,
    *,
    data_dir: Place | None = None,
    device: str = "auto",
    loaders: int = 0,
    address: str | None = None,
    max_failures: int | None = None,
    stall_limit: float | None = None,
    max_concurrent: int | None = None,
    autoscaling: bool = False,
    verbose: bool = False,
    allow: Sequence[str] = (),
) -> Plan:
    """Run what the store lacks of a sweep; returns the plan as it stands afterwards.

    `sweep` and `store` are as for `plan`; the other arguments are the options of `prunesweep run`. Nothing is printed
    unless `verbose`. Trials that fail raise nothing: they are in the plan. Raises `UserError` when the request is
    wrong, `TooManyFailures` when more than `max_failures` stages fail, and passes `KeyboardInterrupt` on, after the
    running stages have written their checkpoints. `allow` are modules that a store's record may have
    imported though they are not of the current folder.
    """
    from rich.console import Console

    from prunesweep.orchestrator.run.driver import Options, run_sweep

    opened, data = _store(store), str(data_dir or os.environ.get("PRUNESWEEP_DATA") or "data")
    options = Options(
        Location(address) if address else None,
        data,
        device,
        loaders,
        max_failures,
        max_concurrent,
        autoscaling,
        stall_limit=stall_limit,
        allow=allow,
    )
    return run_sweep(
        plan(sweep, store, data_dir=data_dir), opened, options, Console(quiet=not verbose, highlight=False)
    )


def load_results(sweep: NamedSweep, *more: NamedSweep, store: Place | None = None) -> DataFrame:
    """A row for each finished trial of one or several sweeps; docs/results.md describes the columns.

    Each argument is a sweep as for `plan`, or any folder, URL or Parquet file with results. A trial that several
    sweeps share comes once, from the first. Raises `UserError` where there are no results.

    The frame's `attrs["sweeps"]` says of each sweep how many `trials` it asked for, how many are `finished`, and which
    `seeds` every setting is to have, None where settings have different ones: with it tables tell what is missing.
    Whole numbers and booleans that some rows lack, such as `phases`, are pandas' `Int64` and `boolean`.
    """
    from prunesweep.orchestrator.results import parquet

    return parquet.load_results(*_places(sweep, *more, store=store), nullable=True)


def load_curves(sweep: NamedSweep, *more: NamedSweep, store: Place | None = None) -> DataFrame:
    """A row for each finished trial, stage and epoch; the arguments are those of `load_results`."""
    from prunesweep.orchestrator.results import parquet

    return parquet.load_curves(*_places(sweep, *more, store=store))


def load_candidates(sweep: NamedSweep, *more: NamedSweep, store: Place | None = None) -> DataFrame:
    """A row for each candidate of a sweep's searches and rung, with its settings and what it came to (docs/search.md).

    The arguments are those of `load_results`. Raises `UserError` where there are no searches.
    """
    from prunesweep.orchestrator.results import parquet

    return parquet.load_candidates(*_places(sweep, *more, store=store))


def load_layers(sweep: NamedSweep, *more: NamedSweep, store: Place | None = None) -> DataFrame:
    """A row for each finished trial and layer; the arguments are those of `load_results`."""
    from prunesweep.orchestrator.results import parquet

    return parquet.load_layers(*_places(sweep, *more, store=store))


def load_classes(sweep: NamedSweep, *more: NamedSweep, store: Place | None = None) -> DataFrame:
    """A row for each finished trial and class of the test set; the arguments are those of `load_results`."""
    from prunesweep.orchestrator.results import parquet

    return parquet.load_classes(*_places(sweep, *more, store=store))


def build_model(
    name: str, shape: tuple[int, int, int], classes: int, options: Mapping[str, Any] | None = None
) -> Module:
    """A model by its name in a sweep file, with random weights, for images of `shape` (channels, height, width)."""
    from prunesweep.workers import models

    return models.build(models.choose(name, options or {}), shape, classes)


def check_method(block: Mapping[str, Any], *, epochs: int = 4, model: str = "resnet8") -> None:
    """Train a method of one's own on `digits`, unbroken and killed after each epoch; for its tests.

    `block` is a block of trials as in a sweep file, with one trial: `{"method": "mine:Mine", "sparsity": 0.9}`. Raises
    `AssertionError` unless a killed stage ends with the same bits as an unbroken one, the network has exactly the
    sparsity that was asked for, and it is a plain one, with the parameters of the dense network. Raises `UserError`
    when the block is wrong, and what the method raises while it trains.
    """
    train = {"epochs": epochs, "batch_size": 32}
    sweep = load_sweep({"name": "check", "dataset": "digits", "model": model, "train": train, "trials": [block]})
    if len(sweep.trials) != 1:
        raise UserError(f"{len(sweep.trials)} trials: give each setting one value, to check one trial at a time")
    network, metrics = _trained(sweep, kills=0)
    reached, target = metrics["reached_sparsity"], sweep.trials[0].sparsity
    assert abs(reached - target) < 1e-4, f"it reaches a sparsity of {reached:.6g} instead of {target:g}"
    parameters = set(build_model(model, (1, 8, 8), 10).state_dict())
    assert set(_tensors(network)) == parameters, "it leaves no plain network: finalize must take its parts away"
    for kills in range(1, epochs + 1):
        again = _trained(sweep, kills)[0]
        assert again == network, f"killed {kills} times it ends otherwise: its state and load_state lack something"


def _trained(sweep: Sweep, kills: int) -> tuple[bytes, Mapping[str, Any]]:
    """The file of the trial's network and its measurements; each stage is killed so often, an epoch after another."""
    from prunesweep.workers.host import Where
    from prunesweep.workers.run import run_stage
    from prunesweep.workers.store import NETWORK

    where = Where(checkpoint_share=math.inf)  # a checkpoint after every epoch
    with TemporaryDirectory() as folder:
        store = Store(folder)
        for stage in make_plan(sweep, store).stages.values():
            for _ in range(min(kills, stage.epochs)):
                next(run_stage(stage, store, where))
            for _ in run_stage(stage, store, where):
                pass
        result = store.result(stage.key)
        assert result is not None, "run_stage ends with a result"
        return store.read_published(stage.key, NETWORK), result["metrics"]


def _tensors(network: bytes) -> Mapping[str, Any]:
    from safetensors.torch import load

    tensors: Mapping[str, Any] = load(network)
    return tensors


def _store(place: Place | None) -> Store:
    return Store(place or os.environ.get("PRUNESWEEP_STORE") or "results")


def _places(*sweeps: NamedSweep, store: Place | None) -> list[Location]:
    opened = _store(store)
    return [results_place(sweep, opened) for sweep in sweeps]
