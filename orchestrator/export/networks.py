"""Writes the networks of finished trials as files for other programs, and checks each against the table."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

import pandas as pd
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from prunesweep.orchestrator.export.trials import is_missing, name_of
from prunesweep.orchestrator.records import require, require_own_code
from prunesweep.orchestrator.results.aggregation import plain
from prunesweep.orchestrator.results.filtering import where
from prunesweep.orchestrator.results.parquet import load_results
from prunesweep.orchestrator.sweep import Sweep
from prunesweep.workers import checkpoint, data, measure, models, precision, probe, tasks, training
from prunesweep.workers.appearing import appearing
from prunesweep.workers.data.base import Dataset
from prunesweep.workers.data.memory import InMemory
from prunesweep.workers.data.stream import Streamed
from prunesweep.workers.errors import Ineffective, UserError
from prunesweep.workers.fingerprints import require_same_choices
from prunesweep.workers.host import Where, describe_device
from prunesweep.workers.location import Location
from prunesweep.workers.methods import create, last_stage
from prunesweep.workers.prunable import prunable, require_effective
from prunesweep.workers.recording import first_images, record
from prunesweep.workers.spec import TrialSpec
from prunesweep.workers.store import NETWORK, Damaged, Store
from prunesweep.workers.tasks.base import Task

Row = Mapping[Any, Any]
"""A trial of `trials.parquet`."""

KEYS_SHOWN = 5

TOLERANCE = {"float32": 0.001, "float64": 0.001, "tf32": 0.01, "bfloat16": 0.01}
"""The share of test images by which an accuracy may differ that another device or program computes, by the precision
in which the trial was evaluated; one image always may. Of another task's primary metric the share of its value."""


class NotExported(RuntimeError):
    """A trial whose network could not be exported, and why; the other trials still can be."""


@dataclass(frozen=True)
class Trained:
    """A finished trial's network with what is needed to build it and to evaluate it; the dataset is on the CPU."""

    row: Row
    spec: TrialSpec
    dataset: Dataset
    tensors: Mapping[str, Tensor]
    threads: int

    @cached_property
    def task(self) -> Task:
        """What it was trained for."""
        return tasks.create(self.spec.task)

    @property
    def narrows(self) -> bool:
        """Whether it is a narrower network than the trial's model."""
        return create(self.spec.method).narrows

    @property
    def images(self) -> int:
        """How many images the test set has."""
        return self.dataset.count("test")

    def model(self, tensors: Mapping[str, Tensor]) -> nn.Module:
        """The plain model with these tensors, on the CPU, for evaluation; raises `NotExported` if they do not fit."""
        model = models.build(last_stage(self.spec).root.model, self.dataset.shape, self.dataset.classes)
        model.to(precision.storage(self.spec.train.precision))
        try:
            checkpoint.load_network(model, tensors)
        except ValueError as error:
            raise NotExported(
                f"trial {self.row['trial']}: its network does not fit the model {self.spec.model}; is the model's code "
                f"another one than when it was trained? {str(error).partition(chr(10))[0]}"
            ) from error
        return model.eval()

    def metadata(self) -> dict[str, str]:
        """The trial's row, what the network is made with, and what it expects; everything but text as JSON."""
        known = {name: _value(value) for name, value in self.row.items() if not is_missing(value)}
        shape, classes = list(self.dataset.shape), self.dataset.classes
        options = models.made_with(last_stage(self.spec).root.model, self.dataset.shape, self.dataset.classes)
        about = {"prunesweep_version": version("prunesweep"), **known, "shape": shape, "classes": classes}
        about["network_options"] = dict(options)
        about |= _normalisation(self.dataset)
        return {name: value if isinstance(value, str) else json.dumps(value) for name, value in about.items()}


@dataclass(frozen=True)
class Form:
    """A file format: its suffix, how it is written, and the primary metric of the network in it on the test set.

    `exact` says for which trials that metric equals the table's, bit for bit.
    """

    suffix: str
    write: Callable[[Trained, Path], None]
    metric: Callable[[Trained, Path], float | None]
    exact: Callable[[Trained], bool]


def rows(folders: Sequence[Location], conditions: Sequence[str], prefix: str | None) -> Sequence[Row]:
    """The finished trials that meet all conditions, or the one of them whose key begins so; raises `UserError`."""
    trials = where(load_results(*folders), conditions)
    if prefix is not None:
        trials = trials[trials.trial.str.startswith(prefix)]
        if len(trials) != 1:
            raise UserError(f'--trial: "{prefix}" begins {_keys(list(trials.trial))}')
    if trials.empty:
        raise UserError("nothing to export: no finished trial is asked for")
    return trials.to_dict("records")


def _keys(keys: Sequence[str]) -> str:
    if not keys:
        return "no key of the finished trials asked for; the column `trial` has the keys"
    more = ", ..." if len(keys) > KEYS_SHOWN else ""
    return f"the keys of {len(keys)} trials, give more of one: {', '.join(keys[:KEYS_SHOWN])}{more}"


def export(row: Row, sweep: Sweep, store: Store, data_folder: str, folder: Path, form: Form, check: bool) -> int:
    """Write a trial's network, named after its settings and key; returns on how many test images it differs.

    That is 0 of tasks that count no hits. With `check` the file gets its name only when the network in it has the
    table's primary metric. Raises `NotExported`, and `UserError` where the dataset is missing.
    """
    trained = _trained(row, sweep, store, data_folder)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{uuid4().hex[:8]}{form.suffix}"  # some writers look at the ending
    with appearing(folder / f"{name_of(row)}{form.suffix}", temporary=temporary) as file:
        form.write(trained, file)
        if not check:
            return 0
        _require_effective(trained)
        return _difference(trained, form, form.metric(trained, file))


def sweep_of(row: Row, store: Store, allowed: Sequence[str]) -> Sweep:
    """The sweep that asked for a trial, as the store remembers it; raises `UserError` (`workers.trust`)."""
    sweep = require(row["sweep"], store)
    require_own_code(sweep, allowed)
    return sweep


def _trained(row: Row, sweep: Sweep, store: Store, data_folder: str) -> Trained:
    spec = next((trial for trial in sweep.trials if trial.key == row["trial"]), None)
    if spec is None:
        raise NotExported(f"trial {row['trial']} is not in the sweep {sweep.name} any more; run that sweep again")
    stage = row["stage_keys"][-1]
    try:
        tensors = checkpoint.weights_of(checkpoint.opened(store.read_published(stage, NETWORK), stage, NETWORK))
    except Damaged as error:
        store.set_aside(stage, refused=error.refused)
        again = f"compute it again with: {_resume(sweep, store)}"
        raise NotExported(f"trial {row['trial']}: {error}; {again}") from error
    threads = max(1, int(sweep.resources.of(spec).cpus))
    require_same_choices(store, spec.dataset, spec.model, task=spec.task)
    return Trained(row, spec, data.load(spec.dataset, data_folder), tensors, threads)


def _resume(sweep: Sweep, store: Store) -> str:
    usual = Location(os.environ.get("PRUNESWEEP_STORE") or "results").absolute() == store.location
    return f"prunesweep resume {sweep.name}" + ("" if usual else f" --store {store.location}")


def _value(value: Any) -> Any:
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    return list(value) if hasattr(value, "__iter__") and not isinstance(value, str) else plain(value)


def _normalisation(dataset: Dataset) -> dict[str, list[float]]:
    """Mean and deviation of each channel, of pixels divided by 255; empty for datasets without them."""
    if not isinstance(dataset, InMemory | Streamed):
        return {}
    return {name: (getattr(dataset, name).double() / 255).tolist() for name in ("mean", "std")}


def _require_effective(trained: Trained) -> None:
    """What the kernels of the network receive is what the table says of it; raises `NotExported` where it is not.

    Stores of versions that did not record kernels have no `prunable_share`, and other counts of some networks.
    """
    if is_missing(trained.row.get("prunable_share")):
        return
    train, model = trained.spec.train, trained.model(trained.tensors)
    batches = first_images(trained.dataset, train.batch_size, precision.storage(train.precision))
    with precision.autocast(train.precision, torch.device("cpu")):
        recorded = record(model, next(batches), batches)
    weights = prunable(model, recorded)
    try:
        require_effective(model, weights, recorded, recorded)
    except Ineffective as error:
        raise NotExported(f"trial {trained.row['trial']}: {error}") from error
    measured = measure.summary(model, measure.layer_costs(weights, recorded))
    # Of a narrower network the table has the full one's multiply-adds.
    columns = ("nonzero_parameters", "nonzero_multiply_adds", *(() if trained.narrows else ("multiply_adds",)))
    for column in columns:
        if measured[column] != trained.row[column]:
            raise NotExported(
                f"trial {trained.row['trial']}: the exported network has {column} {measured[column]}, the table says "
                f"{trained.row[column]}; is the model's code another one than when it was trained?"
            )


def _difference(trained: Trained, form: Form, metric: float | None) -> int:
    """The difference in test images; raises `NotExported` when it is more than allowed."""
    primary = trained.task.primary.name
    expected = trained.row[f"test_{primary}"]
    if metric is None or is_missing(expected):
        return 0
    if primary == "accuracy":
        return _images(trained, form, metric, expected)
    tolerance = 0.0 if form.exact(trained) else TOLERANCE[trained.spec.train.precision]
    if abs(metric - expected) > tolerance * abs(expected):
        raise NotExported(
            f"trial {trained.row['trial']}: the exported network has a test {primary} of {metric:.6g}, the table says "
            f"{expected:.6g}; is the dataset, or the model's code, another one than when it was trained?"
        )
    return 0


def _images(trained: Trained, form: Form, accuracy: float, expected: float) -> int:
    images = trained.images
    difference: int = abs(round(accuracy * images) - round(expected * images))
    allowed = 0 if form.exact(trained) else max(1, int(TOLERANCE[trained.spec.train.precision] * images))
    if difference > allowed:
        raise NotExported(
            f"trial {trained.row['trial']}: the exported network has a test accuracy of {accuracy:.6f}, the table says "
            f"{expected:.6f}: {difference} of {images} images, {allowed} may differ; is the dataset, or the model's "
            "code, another one than when it was trained?"
        )
    return difference


# --- safetensors


def safetensors(device: str) -> Form:
    """Files for the plain model, evaluated on this device as a stage does it.

    Exact where the trial was trained on a device of the same name; raises `UserError` where there is no such device.
    """
    place = Where(device=device).torch_device
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f'--device: "{device}" is not here: torch sees {torch.cuda.device_count()} GPUs; take auto or cpu'
        )

    def exact(trained: Trained) -> bool:
        return bool(trained.row["device"] == describe_device(place))

    return Form(".safetensors", _write, lambda trained, file: _metric(trained, file, place), exact)


def _write(trained: Trained, file: Path) -> None:
    file.write_bytes(save(dict(trained.tensors), trained.metadata()))


def _metric(trained: Trained, file: Path, device: torch.device) -> float | None:
    train = trained.spec.train
    precision.set_backends(train.precision)
    torch.set_num_threads(trained.threads)  # they sum in another order
    model, dataset = trained.model(load_file(file)), trained.dataset.to(device)
    channels_last = probe.place(model, trained.spec.model.name, dataset, device, precision.storage(train.precision))
    batches = dataset.evaluation_batches(
        "test", batch_size=train.evaluation_batch_size, dtype=precision.storage(train.precision)
    )
    network = training.Network(model, train, device, task=trained.task, channels_last=channels_last)
    return training.evaluate(network, batches, running=True).metrics[trained.task.primary.name]
