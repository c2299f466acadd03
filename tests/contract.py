"""What the tests of the methods' contract need: trials of any method, and a small network with every awkward layer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from prunesweep.workers import checkpoint, methods
from prunesweep.workers.average import average_of
from prunesweep.workers.host import Where
from prunesweep.workers.methods.base import Method
from prunesweep.workers.methods.pruner import Pruner, Setup
from prunesweep.workers.optimizers import make_optimizer
from prunesweep.workers.run import run_stage
from prunesweep.workers.spec import PartStage, PrunedCopy, PruneStage, Stage, TrainSpec, path
from prunesweep.workers.store import NETWORK, Store
from prunesweep.workers.training import Network, Score, train_epoch
from tests.cases import SETTINGS, last_stage, trial
from tests.networks import prunable_weights

TIMINGS = {"train_seconds", "elapsed_seconds", "finished_at", "attempts", "peak_memory_bytes"}
ITERATIONS = 6


def run(stage: Stage, store: Store, *, checkpoint_share: float = 0.0) -> None:
    for each in path(stage):
        list(run_stage(each, store, Where(checkpoint_share=checkpoint_share)))


def resumed_after(stop: int, stage: Stage, store: Store) -> None:
    """Leave the stage after that many epochs, and begin again from what is in the store."""
    for ancestor in path(stage)[:-1]:
        run(ancestor, store)
    stepped = run_stage(stage, store, Where(checkpoint_share=math.inf))
    for _ in range(stop):
        next(stepped)
    del stepped
    assert store.result(stage.key) is None
    run(stage, store, checkpoint_share=math.inf)


def resumed_at_every_epoch(stage: Stage, store: Store) -> None:
    """Leave the stage after each of its epochs, and each time begin again from what is in the store."""
    for ancestor in path(stage)[:-1]:
        run(ancestor, store)
    for _ in range(stage.epochs - 1):
        stepped = run_stage(stage, store, Where(checkpoint_share=math.inf))
        next(stepped)
        del stepped
    assert store.result(stage.key) is None
    run(stage, store, checkpoint_share=math.inf)
    assert len(store.attempts(stage.key)) == max(stage.epochs, 1)


def in_parts(stage: Stage, store: Store) -> None:
    """Train a stage as a search does: its first epoch, two more, and the rest, each continued from the one before.

    Parts end with a pruned copy, of which the rest knows nothing.
    """
    for ancestor in path(stage)[:-1]:
        run(ancestor, store)
    parts = [PartStage(stage, until, PrunedCopy(0.9)) for until in (1, 3) if until < stage.epochs]
    before = 0
    for count, step in enumerate((*parts, stage)):
        keys = tuple(part.key for part in parts[:count])
        epochs = len(list(run_stage(step, store, Where(parts=keys, checkpoint_share=0.0))))
        assert epochs == step.epochs - before, "what a part has trained is not trained again"
        before = step.epochs


def numbers(stage: Stage, store: Store) -> dict[str, object]:
    """Everything in a result that must not depend on how it was reached; checksums of network and curve included."""
    result = store.result(stage.key)
    assert result is not None
    return {name: value for name, value in result.items() if name not in TIMINGS}


def network(stage: Stage, store: Store) -> dict[str, Tensor]:
    return checkpoint.unpack_tensors(store.read_published(stage.key, NETWORK))


class Awkward(nn.Module):
    """Convolutions, grouped and sharing a weight; a layer that is frozen, one of one weight, one that is not used."""

    SHAPE = (1, 6, 6)

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.grouped = nn.Conv2d(4, 4, 3, groups=2, padding=1, bias=False)
        self.twin = nn.Conv2d(4, 4, 3, groups=2, padding=1, bias=False)
        self.twin.weight = self.grouped.weight
        self.frozen = nn.Linear(4, 4)
        self.frozen.requires_grad_(False)
        self.last = nn.Linear(4, 3)
        self.one = nn.Linear(1, 1)
        self.unused = nn.Linear(3, 2)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.norm(self.first(images)).relu()
        hidden = self.twin(self.grouped(hidden).relu()).relu().mean((2, 3))
        logits = self.last(self.frozen(hidden))
        return logits + self.one(logits.mean(1, keepdim=True))


def batches(count: int = ITERATIONS, dtype: torch.dtype = torch.float32) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        targets = torch.randint(3, (16,), generator=generator)
        noise = torch.randn((16, 1, 6, 6), generator=generator, dtype=dtype)
        yield noise + targets[:, None, None, None].to(dtype), targets


class Training:
    """A method on a network, where that is, without datasets, stages and stores."""

    def __init__(self, method: Method, model: nn.Module, sparsity: float, epochs: int = 4, **settings: Any) -> None:
        self.epochs = epochs
        train = TrainSpec(epochs=epochs, lr=0.05, **settings)
        self.device = next(model.parameters()).device
        self.network = Network(model, train, self.device)
        self.pruner = method.pruner(Setup(model, prunable_weights(model, Awkward.SHAPE), sparsity, epochs, ITERATIONS))
        self.optimizer = self.pruner.optimizer = make_optimizer(model, self.pruner, train)
        self.pruner.average = average_of(model, self.pruner.parameters(), train.ema)
        self.pruner.prepare(self.placed(dtype=next(model.parameters()).dtype))

    def placed(self, **options: Any) -> Iterator[tuple[Tensor, Tensor]]:
        return ((inputs.to(self.device), targets.to(self.device)) for inputs, targets in batches(**options))

    def epoch(self, number: int, **options: Any) -> Score:
        first, placed = (number - 1) * ITERATIONS, self.placed(**options)
        score = train_epoch(self.network, self.pruner, self.optimizer, placed, lambda k: 0.05, first)
        self.pruner.after_epoch(number)
        return score

    def run(self) -> list[float]:
        return [self.epoch(number).loss for number in range(1, self.epochs + 1)]


def method_of(name: str) -> Method:
    """As the last stage of a trial has it: retraining holds a mask, which is all that IMP does while it trains."""
    stage = last_stage(trial(name))
    retrains = isinstance(stage, PruneStage) and stage.retrain is not None
    return Method() if retrains else methods.method_class(name)(**SETTINGS.get(name, {}))


def trained_with(name: str, model: nn.Module, sparsity: float = 0.75, **settings: Any) -> Training:
    training = Training(method_of(name), model, sparsity, **settings)
    if type(training.pruner.method) is Method and name != "dense":
        prune_in_advance(training.pruner, sparsity)
    return training


def prune_in_advance(pruner: Pruner, sparsity: float) -> None:
    """What a stage does before it retrains, for the methods that prune a trained network."""
    from prunesweep.workers.selection import magnitude_masks

    pruner.hold(magnitude_masks(pruner.weights, sparsity))
