"""What a sparsification method is: its hyperparameters, its place in a trial, and what it does while training.

One file per method, one line in the registry (`workers/methods/__init__.py`). Method files are imported to check sweep
files, so they stay free of torch at import: tensors bring their own operations, the rest is imported where it is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import MISSING, dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, get_type_hints

from prunesweep.workers.spec import Choice, Stage, TrainStage, TrialSpec

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module, Parameter
    from torch.optim import Optimizer


ALLOCATION = "how many weights each layer keeps: ranked over all layers, the same fraction, by ERK, or by LAMP's scores"
"""What the hyperparameter `allocation` means (`workers.allocation`)."""


def hyperparameter(help: str, default: Any = MISSING, **limits: float) -> Any:
    """A dataclass field with its meaning and unit; required without a default. Limits are `gt`, `ge`, `lt`, `le`."""
    return field(default=default, metadata={"help": help, "limits": limits})


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


@dataclass(kw_only=True)
class Method:
    """Base of all methods, and by itself plain training with an optional fixed mask.

    Its fields are the hyperparameters. The training loop (`workers.training.train_epoch`) calls the hooks so:

        method.attach(model, sparsity, epochs, iterations)      before the optimizer exists
        method.optimizer = ...                                   once it does
        for each batch:
            with method.view():                                  the weights that the forward and backward pass see
                loss = criterion(model(inputs), targets) + method.regularization()
                loss.backward()
            method.adjust_gradients()
            optimizer.step()
            method.iteration += 1
            method.after_step()
        method.after_epoch(epoch)                                true when it pruned
        method.finalize()                                        true when it changed the function that was trained

    After `finalize` the method is done and the network plain. `self.weights` are the prunable weights by name,
    `self.iteration` counts the optimizer's steps since the stage began. `self.masks`, where set, are held: masked
    weights, their gradients and their momentum stay zero. A weight that does not train (`requires_grad` off) has no
    gradient, and is pruned like the others. With replicas every one of them does all this, and comes to the same bits:
    from `adjust_gradients` on, gradients are those of the whole batch, also of the method's own parameters.
    """

    card: ClassVar[str] = ""
    takes_sparsity: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.masks: Sequence[Tensor] | None = None
        self.iteration = 0

    # --- its place in a trial; no torch here

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
        return Choice.of(name, {f.name: getattr(self, f.name) for f in fields(self)})

    def check(self, trial: TrialSpec) -> None:
        """Raise `SpecError` when the trial's settings do not fit together."""

    def levels(self, sparsity: float | None) -> Iterator[tuple[float | None, Method]]:
        """The trials that one cell asks for, as (target sparsity, method); one, unless a method reports levels."""
        yield sparsity, self

    def stage(self, trial: TrialSpec) -> Stage:
        """The last stage of the trial's path; here a single training with this method."""
        return TrainStage(trial.dataset, trial.model, trial.method, trial.seed, trial.sparsity, trial.train)

    # --- what it does while training

    def attach(self, model: Module, sparsity: float, epochs: int, iterations: int) -> None:
        """Take the model, before the optimizer exists; `iterations` is per epoch."""
        from prunesweep.workers.selection import prunable

        self.model, self.sparsity, self.epochs, self.iterations = model, sparsity, epochs, iterations
        self.weights: dict[str, Parameter] = prunable(model)
        self.optimizer: Optimizer | None = None

    def parameters(self) -> dict[str, Parameter]:
        """What the method learns beside the model, by name; the optimizer treats it like the model's parameters."""
        return {}

    def view(self) -> AbstractContextManager[None]:
        """Inside it the model computes with the method's sparse weights; for evaluation too."""
        return nullcontext()

    def regularization(self) -> Tensor | float:
        """A term added to the loss that is minimised; reported losses are without it."""
        return 0.0

    def adjust_gradients(self) -> None:
        """Change gradients after the backward pass; here those of masked weights become zero."""
        if self.masks is not None:
            from prunesweep.workers.selection import apply_masks

            apply_masks([weight.grad for weight in self.weights.values()], self.masks)

    def after_step(self) -> None:
        """After the optimizer's step; `self.iteration` steps have been taken."""

    def after_epoch(self, epoch: int) -> bool:
        """After the stage's epoch `epoch`, counted from 1; true when weights were pruned."""
        return False

    def finalize(self) -> bool:
        """Leave a plain network whose pruned weights are exactly zero.

        True when it computes something else than the network in `view` did: batch-norm statistics are then
        re-estimated.
        """
        return False

    def hold(self, masks: Sequence[Tensor]) -> None:
        """Zero what the masks prune, momentum included, and keep it zero from here on."""
        from prunesweep.workers.selection import apply_masks

        self.masks = masks
        apply_masks(list(self.weights.values()), masks)
        if self.optimizer is not None:
            state = self.optimizer.state
            apply_masks([state[w].get("momentum_buffer") for w in self.weights.values()], masks)

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must keep beside model, optimizer and `parameters`."""
        masks = self.masks or []
        return {f"mask.{name}": mask for name, mask in zip(self.weights, masks, strict=bool(masks))}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue from `state()`; called after `attach`."""
        if f"mask.{next(iter(self.weights))}" in state:
            self.masks = [w.detach().clone().copy_(state[f"mask.{name}"]) for name, w in self.weights.items()]
