"""The networks that a run is about are examined before anything is started for it.

`python -m prunesweep.workers.examination` reads what is asked from its standard input and ends with `REFUSED` where
something would be refused, with the sentence as JSON in its last line: a process of its own, so that nothing that a
network does can harm who asks.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import nn

from prunesweep.workers import data, methods, models, precision, tasks
from prunesweep.workers.decoding import decode_stage
from prunesweep.workers.errors import UserError
from prunesweep.workers.host import Where
from prunesweep.workers.orientation import require_usual
from prunesweep.workers.parameter_patterns import factors, freeze
from prunesweep.workers.probe import examine, place
from prunesweep.workers.prunable import prunable
from prunesweep.workers.recorded import Recording
from prunesweep.workers.recording import first_images, record
from prunesweep.workers.scope import in_scope
from prunesweep.workers.seeding import preserved, seed_all
from prunesweep.workers.spec import Stage
from prunesweep.workers.training import Network, contiguous

REFUSED = 3

IMAGES = 8
"""So many of a batch are enough to see whether a network trains, also where images are large and there is no GPU."""

THREADS = 2


class Examined(NamedTuple):
    """A network that trains, with its prunable weights, and what was recorded of it."""

    model: nn.Module
    weights: dict[str, nn.Parameter]
    recording: Recording


def examine_stage(stage: Stage, where: Where, images: int | None = None) -> Examined:
    """Ask the network that a stage begins with, before anything is started for it; raises `UserError`.

    On the device of `where`, with the dataset that lies there, and `images` of a batch, or all; leaves no trace.
    """
    root, device = stage.root, where.torch_device
    batch_size = min(root.train.batch_size, images or root.train.batch_size)
    with preserved():
        dataset = data.load(root.dataset, where.data_folder).to(device, 0)
        task = tasks.create(root.task)
        tasks.require_fitting(root.task.name, root.dataset.name, dataset.targets)
        seed_all(root.seed, "weights")
        model = models.build(root.model, dataset.shape, dataset.classes)
        freeze(model, root.train.freeze or ())
        factors(dict(model.named_parameters()), dict(root.train.lr_scale or ()))
        dtype = precision.storage(root.train.precision)
        channels_last = place(model, root.model.name, dataset, device, dtype)
        network = Network(model, root.train, device, task=task, channels_last=channels_last)
        examine(network, root.model.name, dataset, most=images)
        batches = first_images(dataset, batch_size, dtype)
        layout = batches if channels_last else map(contiguous, batches)
        with precision.autocast(root.train.precision, device):
            recording = record(model, next(layout), layout)
        examined = Examined(model, prunable(model, recording), recording)
    _require_work(stage, examined)
    return examined


def _require_work(stage: Stage, examined: Examined) -> None:
    weights = in_scope(stage.prune, *examined)
    require_usual(stage, weights, examined.recording)
    methods.create(stage.root.method).require_gradients(weights)


def examine_stages(stages: Iterable[Stage], where: Where, images: int | None = None) -> None:
    """The same of many, each network once for all the methods that it is trained with."""
    seen: dict[tuple[Any, ...], Examined] = {}
    for stage in stages:
        root, train = stage.root, stage.root.train
        network = (root.dataset, root.model, root.task, train.batch_size, train.precision, train.freeze, train.lr_scale)
        if network in seen:
            _require_work(stage, seen[network])
        else:
            seen[network] = examine_stage(stage, where, images)


def main() -> int:
    """`{"stages": [...], "data_folder": ..., "device": ...}` as JSON on standard input."""
    asked = json.load(sys.stdin)
    torch.set_num_threads(THREADS)
    try:
        stages = [decode_stage(stage) for stage in asked["stages"]]
        examine_stages(stages, Where(asked["data_folder"], asked["device"]), IMAGES)
    except UserError as error:
        print(json.dumps(str(error)))
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
