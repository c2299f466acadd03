"""What a method does while training: an object made for one stage, and the points at which it may act."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from prunesweep.workers.flat import Flat
from prunesweep.workers.lazy import torch
from prunesweep.workers.optimizer_state import of_weight
from prunesweep.workers.selection import apply_masks

if TYPE_CHECKING:
    from prunesweep.workers.average import Average
    from prunesweep.workers.methods.base import Method
    from prunesweep.workers.tasks.base import Task


@dataclass(frozen=True)
class Setup:
    """What a pruner is made for: a model with its prunable weights by name, as `workers.prunable` finds them, the
    sparsity to reach, the stage's length in epochs of so many iterations, a seed for what the method draws, and the
    task that is learned.
    """

    model: torch.nn.Module
    weights: Mapping[str, torch.nn.Parameter]
    sparsity: float
    epochs: int
    iterations: int
    seed: int = 0
    task: Task | None = None


class Pruner:
    """A method at work in one stage; by itself plain training, with a fixed mask once `hold` has set one.

    The training loop (`workers.training.train_epoch`) calls the hooks so:

        pruner = method.pruner(setup)                            before the optimizer exists
        pruner.optimizer = ...                                   once it does
        pruner.prepare(batches)                                  before the first iteration; not after a checkpoint
        for each batch:
            with pruner.view():                                  the weights that the forward and backward pass see
                loss = criterion(model(inputs), targets) + pruner.regularization()
                loss.backward()
            pruner.adjust_gradients()                            then clipping, where train.clip_norm asks for it
            pruner.adjust_decay()
            if not pruner.replace_step():
                optimizer.step()
            pruner.iteration += 1
            pruner.after_step()
        pruner.after_epoch(epoch)                                true when it pruned
        pruner.finalize()                                        true when it changed the function that was trained

    After `finalize` the pruner is done and the network plain. `weights` are the prunable weights, `names` their names,
    `trained` those of them with a gradient: one that does not train (`requires_grad` off) is pruned like the others.
    `iteration` counts the iterations since the stage began. `masks`, where set, are held: masked weights, their
    gradients, their `average` and what the optimizer keeps of them stay zero. Tensors for each weight belong in
    `saved`: `saved["saliency"][i]` is that of `weights[i]`, and is in every checkpoint.

    With replicas every one of them does all this but `prepare`, and comes to the same bits: from `adjust_gradients` on,
    gradients are those of the whole batch, also of the pruner's own parameters. What is drawn must come from a
    generator seeded by `seed`, since the global ones differ between replicas. `prepare` is called on the leading one,
    with whole batches; the others get its model, momentum, state and parameters.
    """

    method: Method
    holds_masks: ClassVar[bool] = True
    """Whether weights outside of `masks` are zero; else the masks are those of the view alone."""

    def __init_subclass__(cls, *, method: type[Method] | None = None) -> None:
        super().__init_subclass__()
        if method is not None:
            method.pruner_class = cls

    def __init__(self, method: Method, setup: Setup) -> None:
        self.method, self.model, self.sparsity = method, setup.model, setup.sparsity
        self.epochs, self.iterations, self.seed = setup.epochs, setup.iterations, setup.seed
        self.names, self.weights = list(setup.weights), list(setup.weights.values())
        self.trained = [weight for weight in self.weights if weight.requires_grad]
        self.masks: Sequence[torch.Tensor] | None = None
        self.saved: dict[str, Sequence[torch.Tensor]] = {}
        self.optimizer: torch.optim.Optimizer | None = None
        self.average: Average | None = None
        self.iteration = 0

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """What the method learns beside the model, by name; the optimizer treats it like the model's parameters."""
        return {}

    def prepare(self, batches: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Once, before the first iteration: look at an epoch of training batches in a stream of their own.

        (images [B, C, H, W], targets [B]), made only as they are taken; the training's own come in the order in which
        they always do.
        """

    def view(self) -> AbstractContextManager[None]:
        """Inside it the model computes with the method's sparse weights; for evaluation too."""
        return nullcontext()

    def regularization(self) -> torch.Tensor | float:
        """A term added to the loss that is minimised; reported losses are without it."""
        return 0.0

    def adjust_gradients(self) -> None:
        """Change gradients after the backward pass; here those of masked weights become zero."""
        if self.masks is not None:
            apply_masks([weight.grad for weight in self.weights], self.masks)

    def adjust_decay(self) -> None:
        """Change gradients once they are clipped: for terms of weight decay, which the optimizer adds unclipped."""

    def replace_step(self) -> bool:
        """True when the method has changed weights in the place of the optimizer's step, which is then left out."""
        return False

    def after_step(self) -> None:
        """After the optimizer's step, or what replaced it; `self.iteration` iterations are over."""

    def after_epoch(self, epoch: int) -> bool:
        """After the stage's epoch `epoch`, counted from 1; true when weights were pruned."""
        return False

    def finalize(self) -> bool:
        """Leave a plain network whose pruned weights are exactly zero.

        True when it computes something else than the network in `view` did: batch-norm statistics are then
        re-estimated.
        """
        return False

    def hold(self, masks: Flat) -> None:
        """Zero what the masks prune, with all that the optimizer keeps of it, and keep it zero from here on."""
        self.masks = masks.views
        self.hold_again()

    def hold_again(self) -> None:
        """Likewise, where the masks that are held have changed in their place."""
        assert self.masks is not None
        self._mask(self.masks)
        if self.average is not None:
            apply_masks(self.average.of(self.weights), self.masks)

    def mask_again(self) -> None:
        """After a step of an optimizer of one's own, which may move weights that have no gradient."""
        if self.masks is not None and self.holds_masks:
            self._mask(self.masks)

    def _mask(self, masks: Sequence[torch.Tensor]) -> None:
        apply_masks(self.weights, masks)
        if self.optimizer is not None:
            pairs = zip(self.weights, masks, strict=True)
            kept = [(kept, mask) for weight, mask in pairs for kept in of_weight(self.optimizer, weight)]
            apply_masks([tensor for tensor, _ in kept], [mask for _, mask in kept])

    def state(self) -> dict[str, torch.Tensor]:
        """What a checkpoint must keep beside model, optimizer and `parameters`: here the masks, and what is `saved`."""
        kept = self.saved if self.masks is None else {"mask": self.masks, **self.saved}
        return {
            f"{kind}.{name}": tensor
            for kind, tensors in kept.items()
            for name, tensor in zip(self.names, tensors, strict=True)
        }

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from `state()`."""
        first = self.names[0]
        for kind in [key.removesuffix(f".{first}") for key in state if key.partition(".")[2] == first]:
            stored = [state[f"{kind}.{name}"] for name in self.names]
            tensors = [torch.empty_like(w.detach()).copy_(t) for w, t in zip(self.weights, stored, strict=True)]
            if kind == "mask":
                self.masks = tensors
            else:
                self.saved[kind] = tensors


HOOKS = {"attach"} | {name for name, value in vars(Pruner).items() if callable(value) and not name.startswith("_")}
"""What a `Pruner` may define and a `Method` may not, `attach` of older versions included."""
