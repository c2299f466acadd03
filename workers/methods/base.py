"""What a sparsification method is: its hyperparameters, and its place in a trial.

One file per method, one line in the registry (`workers/methods/__init__.py`). A file holds two classes: the description
of the method, a `Method`, and what it does while training, a `Pruner` (`workers.methods.pruner`). Method files are
imported to check sweep files, so they get torch from `workers.lazy`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar, dataclass_transform, get_type_hints

from prunesweep.workers.accounting import TRAINING, Forward
from prunesweep.workers.encoding import said
from prunesweep.workers.errors import UserError
from prunesweep.workers.lazy import torch
from prunesweep.workers.methods.pruner import HOOKS, Pruner, Setup
from prunesweep.workers.spec import Choice, Stage, TrialSpec

ALLOCATION = "how many weights each layer keeps: ranked over all layers, the same fraction, by ERK, or by LAMP's scores"
"""What the hyperparameter `allocation` means (`workers.allocation`)."""


def hyperparameter(help: str, default: Any = MISSING, *, later: bool = False, **limits: float) -> Any:
    """A hyperparameter with its meaning and unit; required without a default. Limits are `gt`, `ge`, `lt`, `le`.

    One that came `later` than its method is in no key at its default (`workers.encoding.added`).
    """
    left_out = {"left out at": default} if later else {}
    return field(default=default, metadata={"help": help, "limits": limits, **left_out})


@dataclass(frozen=True)
class Hyperparameter:
    """One hyperparameter of a method, as sweep files, `list methods` and the docs see it.

    `default` is `dataclasses.MISSING` for one that must be given.
    """

    name: str
    type: Any
    default: Any
    help: str
    limits: Mapping[str, Any]


@dataclass(frozen=True)
class Steering:
    """The hyperparameter that decides the sparsity of a method that isn't told one, and where a search looks for it.

    With `rises` larger values make sparser networks. Values from `low` to `high` are tried, on a `uniform` or `log`
    scale, unless the space of the search has a range for it.
    """

    name: str
    rises: bool
    low: float
    high: float
    scale: str = "uniform"


@dataclass_transform(kw_only_default=True, frozen_default=True)
@dataclass(kw_only=True, frozen=True)
class Method:
    """Base of all methods, and by itself plain training.

    Every subclass is a frozen dataclass whose fields, each a `hyperparameter`, are given by keyword. It says how a
    trial is made of stages. What it does in a stage is a `Pruner`, in its own class below it:

        class Taylor(Method):
            when: float = hyperparameter("fraction of the epochs before the prune", 0.5, gt=0, lt=1)

        class TaylorPruner(Pruner, method=Taylor):
            def after_epoch(self, epoch: int) -> bool:
                ...
    """

    prunes: ClassVar[bool] = True
    """Whether its trials may say which weights are pruned."""

    takes_sparsity: ClassVar[bool] = True
    narrows: ClassVar[bool] = False
    """Whether it trains a network with fewer channels, whose results are relative to the full one."""

    lengths: ClassVar[tuple[str, ...]] = ()
    """The hyperparameters that are lengths in epochs and grow with the training where a sweep's `budget` does."""

    steering: ClassVar[Steering | None] = None
    """Of a method whose sparsity is a consequence of a hyperparameter: which one, for searches with a `target`.

    Its sparsity is then that of the first stage of its path.
    """

    prunes_trained: ClassVar[bool] = False
    """Whether it prunes a trained network, so that there is no training of its own where weights are given (`init`)."""

    not_from_trained: ClassVar[str] = ""
    """Why it cannot start from trained weights, and what can in its place; empty where it can."""

    needs_gradients: ClassVar[bool] = False
    """Whether it learns from gradients what to prune, and has nothing to do where no prunable weight trains."""

    per_output: ClassVar[bool] = False
    """Whether it keeps something for each output neuron or filter, the first dimension of a weight."""

    needs_classification: ClassVar[bool] = False
    """Whether it ranks weights by the cross-entropy of images of each class."""

    needs_images: ClassVar[bool] = False
    """Whether it puts an image of its own through the network, which tokens are not."""

    pruner_class: ClassVar[type[Pruner]] = Pruner

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if misplaced := sorted(name for name in vars(cls).keys() & HOOKS if callable(getattr(cls, name))):
            raise UserError(
                f"{cls.__name__}.{misplaced[0]} is never called: what a method does while training belongs into a "
                f"class {cls.__name__}Pruner(Pruner, method={cls.__name__}) (docs/extending.md, A method)"
            )
        dataclass(kw_only=True, frozen=True)(cls)

    @classmethod
    def hyperparameters(cls) -> list[Hyperparameter]:
        """Declared fields in order, with types resolved."""
        hints = get_type_hints(cls)
        return [
            Hyperparameter(f.name, hints[f.name], f.default, f.metadata["help"], f.metadata["limits"])
            for f in fields(cls)
        ]

    def choice(self, name: str) -> Choice:
        """This method with all its hyperparameters, as a spec writes it."""
        return Choice.of(name, dict(said(self)))

    def check(self, trial: TrialSpec) -> None:
        """Raise `SpecError` when the trial's settings do not fit together."""

    def levels(self, sparsity: float | None) -> Iterator[tuple[float | None, Method]]:
        """The trials that one cell asks for, as (target sparsity, method); one, unless a method reports levels."""
        yield sparsity, self

    def stage(self, trial: TrialSpec) -> Stage:
        """The last stage of the trial's path; here a single training with this method."""
        return trial.root()

    def forward_passes(self, forward: Forward) -> Sequence[float]:
        """Multiply-adds of a forward pass in each epoch of a training with this method (`workers.accounting`).

        Here those of a network that is dense at first, with masks that change at the ends of epochs.
        """
        return forward.before(forward.dense)

    def multiply_adds(self, dense: float, sparse: float) -> float:
        """Multiply-adds of an iteration for each image, where a forward pass costs `sparse`, and `dense` without masks.

        Here forward and backward pass skip what is pruned: 3 f_S.
        """
        return TRAINING * sparse

    def preparation(self, classes: int) -> float:
        """What `Pruner.prepare` costs, in dense forward passes of one image, where images are of so many classes."""
        return 0.0

    def pruner(self, setup: Setup) -> Pruner:
        """What this method does in one stage; `UserError` when nothing says what that is, or it has nothing to do."""
        name = type(self).__name__
        self.require_gradients(setup.weights)
        if self.pruner_class is Pruner and self.takes_sparsity and not (self.narrows or type(self) is Method):
            raise UserError(f"{name} would prune nothing: it has no class {name}Pruner(Pruner, method={name})")
        return self.pruner_class(self, setup)

    def require_gradients(self, weights: Mapping[str, torch.nn.Parameter]) -> None:
        """Raise `UserError` where the method needs gradients of prunable weights, and none of these has one."""
        if self.needs_gradients and not any(weight.requires_grad for weight in weights.values()):
            raise UserError(
                f"{type(self).__name__} has nothing to learn: all {len(weights)} prunable weights are frozen "
                "(requires_grad off); let some train, or take a method that ranks magnitudes, such as imp or gmp"
            )
