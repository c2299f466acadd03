"""Learning-compression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prunesweep.workers.methods.base import Method, hyperparameter

if TYPE_CHECKING:
    from torch.nn import Module


@dataclass(kw_only=True)
class LC(Method):
    """Learning-compression in the penalty form of Zimmer et al. (Carreira-Perpinan & Idelbayev 2018, section 3).

    At every iteration weight decay acts on all prunable weights but the n - round(s n) of largest magnitude:
    g <- g + mu (w - top(w)), where mu is `penalty`, multiplied with `penalty_growth` after every epoch. Biases and
    normalisation are decayed as ever. At the end the smallest weights are pruned by magnitude.

    Values: mu the weight decay, not grown (Zimmer et al.); the original alternates whole trainings with projections,
    and grows mu by a factor of 1.1 from one to the next.
    The code of Zimmer et al. ranks biases and normalisation too, and cancels their decay with the rest.

    Cost per step: one selection among all weights, and one multiply-add of the gradients.
    """

    penalty: float | None = hyperparameter("decay of the smallest weights (default: train.weight_decay)", None, ge=0)
    penalty_growth: float = hyperparameter("factor of the penalty from one epoch to the next", 1.0, gt=0)

    def attach(self, model: Module, sparsity: float, epochs: int, iterations: int) -> None:
        """With a buffer for the masks."""
        from prunesweep.workers.flat import Flat

        super().attach(model, sparsity, epochs, iterations)
        self.top = Flat.like(list(self.weights.values()))

    def adjust_gradients(self) -> None:
        """What makes of the optimizer's own weight decay the penalty of the smallest weights."""
        import torch

        from prunesweep.workers.selection import magnitude_masks

        assert self.optimizer is not None
        decay: float = self.optimizer.param_groups[0]["weight_decay"]
        penalty = decay if self.penalty is None else self.penalty
        penalty *= self.penalty_growth ** (self.iteration // self.iterations)
        weights = list(self.weights.values())
        magnitude_masks(weights, self.sparsity, masks=self.top)
        found = [(w.grad, w.detach(), m) for w, m in zip(weights, self.top.views, strict=True) if w.grad is not None]
        gradients, values, masks = map(list, zip(*found, strict=True))
        if penalty != decay:
            torch._foreach_add_(gradients, values, alpha=penalty - decay)
        torch._foreach_addcmul_(gradients, values, masks, value=-penalty)

    def finalize(self) -> bool:
        """Prune by magnitude to the target."""
        from prunesweep.workers.selection import magnitude_masks

        self.hold(magnitude_masks(list(self.weights.values()), self.sparsity).views)
        return True
