"""What a search is: a frozen value with a key of its own, and its candidates, which are ordinary trials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, get_args

from prunesweep.orchestrator.search.space import Point, Space, point
from prunesweep.orchestrator.search.target import Target
from prunesweep.workers.allocation import Allocation
from prunesweep.workers.encoding import added, digest
from prunesweep.workers.errors import UserError
from prunesweep.workers.methods import last_stage, method_class
from prunesweep.workers.patterns import is_pattern
from prunesweep.workers.spec import Choice, PrunedCopy, PruneStage, Stage, TrainStage, TrialSpec, path

LOSS, VALIDATION = "validation_loss", "validation_"
"""What a search may choose by whatever the task, and how names of its metrics begin: nothing is of the test set."""

ADAPTIVE = ("tpe",)
"""Those that learn from what was tried: `orchestrator.search.adaptive`."""

ALGORITHMS = ("random", "grid", "halving", *ADAPTIVE)
"""How candidates are chosen: `orchestrator.search.decision`."""

MOST_CANDIDATES = 10_000
"""Of one search: a budget that pays for more is a mistake, and a record that asks for more was not written here."""

TRAINING = ("train.", "train_from_init.")
"""Begin the names of settings of the training, the second that of one which starts from trained weights."""


@dataclass(frozen=True)
class Rungs:
    """Of successive halving: the share of a training's own epochs at the first rung, and by what each is longer.

    At a rung candidates are compared by the network as it is then, and with `pruned` also by a copy that is pruned
    to the sparsity asked.
    """

    start: float = 0.1
    factor: int = 3
    pruned: bool = added(False)


@dataclass(frozen=True)
class Search:
    """The settings of one method, at one sparsity, in one cell of a sweep, that are chosen within a budget.

    `base` is a candidate with the seed 0; what it has for the settings of the space says nothing. `epochs` is the
    budget: those on the candidates' paths, as if each were trained alone. A candidate is judged by the mean of `by`
    over `seeds`. The winner is run with `final_seeds`, which decide nothing and are not in the key. With a `target`
    only candidates win that come to the sparsity of the base by themselves; what steers it is no part of the space.
    """

    base: TrialSpec
    space: Space
    epochs: int
    algorithm: str = "random"
    by: str = "validation_accuracy"
    rungs: Rungs | None = None
    seeds: tuple[int, ...] = (0,)
    final_seeds: tuple[int, ...] = (0,)
    target: Target | None = added(None)
    lower_metric: bool = added(False)
    """Whether `by` is a metric of which less is better; of the loss that is known."""

    @cached_property
    def key(self) -> str:
        """Names the search; equal searches decide the same from the same results."""
        return digest("search", replace(self, base=_neutral(self.base, self.settings), final_seeds=()))

    @cached_property
    def settings(self) -> Space:
        """All that candidates differ in: the space, and what steers their sparsity."""
        steered = [self.target.steer] if self.target else []
        return tuple(sorted((*self.space, *steered), key=lambda dimension: dimension.name))

    @property
    def sign(self) -> int:
        """By which more of `by` is better."""
        return -1 if self.by == LOSS or self.lower_metric else 1

    def hit(self, sparsity: float) -> bool:
        """Whether a candidate of this sparsity of its own may win."""
        return self.target is None or self.target.hit(sparsity, self.base.sparsity)

    @cached_property
    def sampling_seed(self) -> int:
        """The same for all searches of a space, so that methods meet the same points and share what they can."""
        return int(digest("space", self.space)[:8], 16)

    @cached_property
    def last_epoch(self) -> int:
        """The epoch at which a candidate's path ends."""
        last = self.stage(self.base)
        return last.start_epoch + last.epochs

    @cached_property
    def first_epoch(self) -> int:
        """The epoch at which it begins: 0, or that at which the training of weights ended that are only loaded."""
        return self.stage(self.base).root.start_epoch

    @property
    def length(self) -> int:
        """Epochs that are trained on the path of one candidate with one seed."""
        return self.last_epoch - self.first_epoch

    @cached_property
    def shared_epochs(self) -> int:
        """Epochs at the beginning of the path that all candidates have in common, so that they are trained once.

        What two opposite corners of the space have in common; a prune of no epochs tells nothing either.
        """
        corners = [point(self.space, [share] * len(self.space)) for share in (0.0, 1.0 - 1e-9)]
        low, high = ([stage.key for stage in self.path(corner, 0)] for corner in corners)
        common = sum(a == b for a, b in zip(low, high, strict=False))
        stages = self.path(corners[0], 0)
        return stages[common].start_epoch - self.first_epoch if common < len(stages) else 0

    def copy(self, point: Point) -> PrunedCopy | None:
        """The copy by which the candidate is compared, too, before its end; None where there is none."""
        method = method_class(self.base.method.name)
        last = self.path(point, self.seeds[0])[-1]
        if self.rungs is None or not self.rungs.pruned or not method.prunes or not last.sparsity:
            return None
        assert isinstance(last, TrainStage | PruneStage), "candidates are evaluated on no corrupted test sets"
        allocation = str(with_settings(self.base, dict(point), 0).method.settings.get("allocation"))
        known = allocation in get_args(Allocation) or is_pattern(allocation)
        return PrunedCopy(last.sparsity, allocation if known else "global", last.prune)

    @property
    def trainings(self) -> int:
        """How many whole candidates the budget pays for."""
        return self.epochs // (self.length * len(self.seeds))

    def candidate(self, point: Point, seed: int) -> TrialSpec:
        """The trial at a point of the space."""
        return with_settings(self.base, dict(point), seed)

    def stage(self, trial: TrialSpec) -> Stage:
        """A candidate's last stage; raises `UserError` where it asks for another length than the others."""
        return last_stage(replace(trial, test_sets=()))  # only the winner is evaluated on more

    @cached_property
    def _paths(self) -> dict[tuple[Point, int], list[Stage]]:
        """Those that were asked for: a search is replayed after each of its rounds."""
        return {}

    def path(self, point: Point, seed: int) -> list[Stage]:
        """A candidate's stages; raises `UserError` unless they are as long as all candidates'."""
        if (point, seed) not in self._paths:
            self._paths[point, seed] = self._path(point, seed)
        return self._paths[point, seed]

    def _path(self, point: Point, seed: int) -> list[Stage]:
        stages = path(self.stage(self.candidate(point, seed)))
        length = stages[-1].start_epoch + stages[-1].epochs - self.first_epoch
        if length != self.length:
            raise UserError(
                f"a search at equal cost needs candidates of equal length: {dict(point)} asks for {length} epochs, "
                f"others for {self.length}; leave what decides the length out of the space"
            )
        return stages


def of_training(name: str) -> str | None:
    """The name of a setting of the training without `train.` or `train_from_init.`; None of a method's own."""
    return next((name.removeprefix(prefix) for prefix in TRAINING if name.startswith(prefix)), None)


def with_settings(trial: TrialSpec, settings: Mapping[str, Any], seed: int) -> TrialSpec:
    """The trial with these settings, those of the training spelled `train.lr` and the like, and this seed."""
    train = {inner: value for name, value in settings.items() if (inner := of_training(name)) is not None}
    own = {name: value for name, value in settings.items() if of_training(name) is None}
    method = Choice.of(trial.method.name, {**trial.method.settings, **own}, trial.method.fingerprint)
    return replace(trial, seed=seed, method=method, train=replace(trial.train, **train))


def _neutral(base: TrialSpec, space: Space) -> TrialSpec:
    """Without what the base has for the settings of the space."""
    return with_settings(base, {dimension.name: dimension.at(0.0) for dimension in space}, 0)
