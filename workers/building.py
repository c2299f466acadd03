"""The network that a stage begins with: random as its seed makes it, or with the weights that `init` names."""

from __future__ import annotations

from functools import partial

import torch

from prunesweep.workers import models, parameter_patterns, plain_numbers, precision, probe, tasks
from prunesweep.workers.data.base import Dataset
from prunesweep.workers.errors import UserError
from prunesweep.workers.init.kept import stored_weights
from prunesweep.workers.init.start import start_from
from prunesweep.workers.replicas import Replicas
from prunesweep.workers.seeding import seed_all
from prunesweep.workers.spec import TrainStage, Whole
from prunesweep.workers.store import Store
from prunesweep.workers.tasks.base import Task
from prunesweep.workers.training import Network


def build(
    stage: Whole, task: Task, dataset: Dataset, device: torch.device, store: Store, replicas: Replicas
) -> Network:
    """On the device, and examined where the stage trains it from its beginning; raises `UserError`."""
    root, trains = stage.root, isinstance(stage, TrainStage)
    seed_all(root.seed, "weights")
    tasks.require_fitting(root.task.name, root.dataset.name, dataset.targets)
    model = models.build(root.model, dataset.shape, dataset.classes)
    if root.init is not None and trains:
        weights = replicas.agreed(partial(stored_weights, root.init, store))
        start_from(weights, root.init, model, root.model, dataset)
    parameter_patterns.freeze(model, root.train.freeze or ())
    dtype = precision.storage(root.train.precision)
    channels_last = probe.place(model, root.model.name, dataset, device, dtype)
    plain_numbers.remember(model)
    network = Network(model, root.train, device, replicas, task=task, channels_last=channels_last)
    if trains:
        refusal = replicas.agreed(lambda: probe.refusal(network, root.model.name, dataset, replicas.count))
        if refusal is not None:
            raise UserError(refusal)
    return network
