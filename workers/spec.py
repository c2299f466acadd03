"""What is asked for: trials and stages as frozen values, and the keys that name them.

A *trial* is one cell of a sweep and one seed. It is a path of *stages*, and its result is its last stage's. A stage is
one piece of training with one result: a `TrainStage` starts from random weights, a `PruneStage` prunes and retrains
its parent's network. A stage's *key* is the hash of every field that can change its numbers, its parent's key
included; nothing that cannot change them (paths, devices, logging) is a field. Light to import: no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from prunesweep.workers.choice import CLASSIFICATION as CLASSIFICATION
from prunesweep.workers.choice import KINDS as KINDS
from prunesweep.workers.choice import Choice as Choice
from prunesweep.workers.choice import Value as Value
from prunesweep.workers.encoding import added, digest, said
from prunesweep.workers.init.asked import Init as Init
from prunesweep.workers.prune_spec import ALL as ALL
from prunesweep.workers.prune_spec import PrunedCopy as PrunedCopy
from prunesweep.workers.prune_spec import Scope as Scope
from prunesweep.workers.train_spec import RetrainSpec as RetrainSpec
from prunesweep.workers.train_spec import TrainSpec as TrainSpec


@dataclass(frozen=True)
class TrialSpec:
    """One cell of a sweep and one seed: what a row of the results answers.

    `dense_epochs` is the length of the dense training that costs and budgets are multiples of, where that is not
    `train.epochs`. `test_sets` are corrupted ones (`workers.corruptions`), which change nothing of the training.
    """

    dataset: Choice
    model: Choice
    method: Choice
    seed: int = 0
    sparsity: float = 0.0
    train: TrainSpec = TrainSpec()
    dense_epochs: int | None = added(None)
    prune: Scope = added(ALL)
    task: Choice = added(CLASSIFICATION)
    test_sets: tuple[str, ...] = added(())
    init: Init | None = added(None)

    @cached_property
    def key(self) -> str:
        """Names the trial; equal trials have equal keys."""
        return digest("trial", dict(said(self)))

    def root(
        self,
        *,
        model: Choice | None = None,
        method: Choice | None = None,
        sparsity: float | None = None,
        train: TrainSpec | None = None,
    ) -> TrainStage:
        """The stage that the trial's path begins with, as the trial asks for it but for what is given."""
        target = self.sparsity if sparsity is None else sparsity
        choices = (self.dataset, model or self.model, method or self.method)
        return TrainStage(*choices, self.seed, target, train or self.train, task=self.task, init=self.init)


@dataclass(frozen=True)
class TrainStage:
    """Training over `train.epochs`, dense or with a method that sparsifies on the way.

    It starts from random weights, or from those of `init`. Where these are not fine-tuned they are only loaded and
    evaluated, and `train` describes how they were trained.
    """

    dataset: Choice
    model: Choice
    method: Choice
    seed: int
    sparsity: float
    train: TrainSpec
    prune: Scope = added(ALL)
    task: Choice = added(CLASSIFICATION)
    init: Init | None = added(None)

    parent = None

    @cached_property
    def key(self) -> str:
        """The stage's name in the store."""
        return digest("train", dict(said(self)))

    @property
    def root(self) -> TrainStage:
        """The stage that the network was first trained in."""
        return self

    @property
    def epochs(self) -> int:
        """The length of this stage."""
        return 0 if self.loads else self.train.epochs

    @property
    def loads(self) -> bool:
        """Whether it only loads what was trained elsewhere."""
        return self.init is not None and not self.init.fine_tunes

    @property
    def start_epoch(self) -> int:
        """Epochs trained before this stage: those of the training elsewhere, as far as it is described.

        What follows draws its data as it would behind a stage that had trained the network for so long.
        """
        return self.train.epochs if self.loads else 0


@dataclass(frozen=True)
class PruneStage:
    """One phase of iterative pruning: prune the parent's network to `sparsity` of the weights in scope, then retrain.

    `sparsity` is cumulative; without `retrain` the stage ends with the prune. Data, model, task, seed, batch size and
    optimizer are those of the root. With `rewind_epoch` what is kept goes back to the root's training as it was after
    so many epochs, 0 for its random start, and is trained from there to the root's last epoch.
    """

    parent: TrainStage | PruneStage
    sparsity: float
    retrain: RetrainSpec | None = None
    criterion: str = "magnitude"
    allocation: str = "global"
    rewind_epoch: int | None = added(None)
    prune: Scope = added(ALL)

    @cached_property
    def key(self) -> str:
        """The stage's name in the store."""
        return digest("prune", {**dict(said(self)), "parent": self.parent.key})

    @property
    def root(self) -> TrainStage:
        """The stage that the network was first trained in."""
        return self.parent.root

    @property
    def epochs(self) -> int:
        """The length of this stage."""
        return self.retrain.epochs if self.retrain else 0

    @property
    def start_epoch(self) -> int:
        """Epochs trained before this stage."""
        return self.parent.start_epoch + self.parent.epochs


COPY = "pruned_validation_"
"""Begins the names of metrics of a part's pruned copy."""


@dataclass(frozen=True)
class PartStage:
    """The first `until` epochs of a stage: what a search sees before it pays for the rest, or a rewind returns to.

    It is no finished stage of a shorter training: its learning rates belong to the whole length. Its result is the
    state after its last epoch, from which the stage, and every longer part of it, continues where it is told of the
    part (`Where.parts`); where it is not, it comes to the same bits. What is measured besides the network as it is
    then is the pruned `copy` of it.
    """

    whole: TrainStage | PruneStage
    until: int
    copy: PrunedCopy | None = added(None)

    @cached_property
    def key(self) -> str:
        """The part's name in the store."""
        return digest("part", {**dict(said(self)), "whole": self.whole.key})

    @property
    def epochs(self) -> int:
        """The length of this part; all that follows is the whole stage's."""
        return self.until

    @property
    def parent(self) -> TrainStage | PruneStage | None:
        return self.whole.parent

    @property
    def root(self) -> TrainStage:
        return self.whole.root

    @property
    def sparsity(self) -> float:
        return self.whole.sparsity

    @property
    def prune(self) -> Scope:
        return self.whole.prune

    @property
    def start_epoch(self) -> int:
        return self.whole.start_epoch


@dataclass(frozen=True)
class EvaluationStage:
    """A finished network on corrupted test sets. It trains nothing: whoever asks for another set keeps the training."""

    parent: TrainStage | PruneStage
    test_sets: tuple[str, ...]

    epochs = 0

    @cached_property
    def key(self) -> str:
        """The stage's name in the store."""
        return digest("evaluation", {"parent": self.parent.key, "test_sets": self.test_sets})

    @property
    def root(self) -> TrainStage:
        return self.parent.root

    @property
    def sparsity(self) -> float:
        return self.parent.sparsity

    @property
    def prune(self) -> Scope:
        return self.parent.prune

    @property
    def start_epoch(self) -> int:
        """Epochs trained before, which are all."""
        return self.parent.start_epoch + self.parent.epochs


Whole = TrainStage | PruneStage | EvaluationStage
Stage = Whole | PartStage


def evaluated(stage: TrainStage | PruneStage, test_sets: tuple[str, ...]) -> Stage:
    """The stage that evaluates this one's network on corrupted test sets; without any it is the stage itself."""
    return EvaluationStage(stage, test_sets) if test_sets else stage


def path(stage: Stage) -> list[Stage]:
    """The stages from the root to this one."""
    return [*path(stage.parent), stage] if stage.parent is not None else [stage]


def label(stage: Stage) -> str:
    """A short name for people: `train dense resnet8 seed 0`, `prune 0.9 retrain 2 ALLR seed 0`."""
    if isinstance(stage, PartStage):
        copy = f", a copy pruned to {stage.copy.sparsity:g}" if stage.copy else ""
        return f"first {stage.until} epoch{'s' * (stage.until > 1)} of {label(stage.whole)}{copy}"
    if isinstance(stage, EvaluationStage):
        sets = stage.test_sets[0] if len(stage.test_sets) == 1 else f"{len(stage.test_sets)} corrupted test sets"
        return f"{sets} after {label(stage.parent)}"
    root = stage.root
    epochs = f"{stage.epochs} epoch{'s' * (stage.epochs > 1)}"
    if isinstance(stage, TrainStage) and stage.loads:
        return f"load {root.init} {root.model} {root.dataset} seed {root.seed}"
    if isinstance(stage, TrainStage):
        target = f" {stage.sparsity:g}" if stage.sparsity else ""
        source = f" from {root.init}" if root.init else ""
        return f"train {root.method}{target} {root.model} {root.dataset} {epochs} seed {root.seed}{source}"
    usual = {"criterion": "magnitude", "allocation": "global"}
    unusual = ", ".join(value for name in usual if (value := getattr(stage, name)) != usual[name])
    kind = f"prune ({unusual})" if unusual else "prune"
    retrain = "retrain" if stage.rewind_epoch is None else f"rewind to {stage.rewind_epoch}, retrain"
    how = f"{retrain} {epochs} {stage.retrain.schedule}" if stage.retrain else f"{root.method} {root.model}"
    return f"{kind} {stage.sparsity:g} {how} seed {root.seed}"


def freeze(value: Any) -> Any:
    """Lists become tuples, so that the value can be a field of a frozen spec."""
    return tuple(freeze(item) for item in value) if isinstance(value, list | tuple) else value
