"""Learning-compression."""

from __future__ import annotations

from collections.abc import Sequence

from prunesweep.workers.accounting import Forward
from prunesweep.workers.errors import SpecError
from prunesweep.workers.flat import Flat
from prunesweep.workers.lazy import torch
from prunesweep.workers.methods.base import Method, hyperparameter
from prunesweep.workers.methods.pruner import Pruner, Setup
from prunesweep.workers.optimizer_settings import DECOUPLED, is_own
from prunesweep.workers.optimizer_state import decay_of
from prunesweep.workers.selection import magnitude_masks
from prunesweep.workers.spec import TrialSpec


class LC(Method):
    """Learning-compression in the penalty form of Zimmer et al. (Carreira-Perpinan & Idelbayev 2018, section 3).

    At every iteration weight decay acts on all prunable weights but the n - round(s n) of largest magnitude:
    g <- g + mu (w - top(w)), where mu is `penalty`, multiplied with `penalty_growth` after every epoch. Biases and
    normalisation are decayed as ever. At the end the smallest weights are pruned by magnitude.

    The penalty is a gradient: Adam and RMSprop divide it by the root of the mean of squares with the rest. AdamW, whose
    decay is none, is refused, as is an optimizer of one's own.

    Values: mu the weight decay, not grown (Zimmer et al.); the original alternates whole trainings with projections,
    and grows mu by a factor of 1.1 from one to the next.
    The code of Zimmer et al. ranks biases and normalisation too, and cancels their decay with the rest.

    Cost per step: one selection among all weights, and one multiply-add of the gradients.
    """

    penalty: float | None = hyperparameter("decay of the smallest weights (default: train.weight_decay)", None, ge=0)
    penalty_growth: float = hyperparameter("factor of the penalty from one epoch to the next", 1.0, gt=0)

    def check(self, trial: TrialSpec) -> None:
        """Something draws the smallest weights down, and what is to grow has the time and is not zero."""
        if trial.train.optimizer in DECOUPLED or is_own(trial.train.optimizer):
            raise SpecError(
                "train.optimizer",
                f"lc takes back the decay that the optimizer adds to gradients, and {trial.train.optimizer} may decay "
                "weights apart from them; train it with sgd, adam or rmsprop",
            )
        if not self.penalty and not trial.train.weight_decay:
            raise SpecError("penalty", "without it and without train.weight_decay nothing is decayed; give one of them")
        if self.penalty_growth != 1 and trial.train.epochs == 1:
            raise SpecError("penalty_growth", "the penalty grows after an epoch, and there is one; leave it out")
        if self.penalty_growth != 1 and self.penalty == 0:
            raise SpecError("penalty_growth", "a penalty of 0 does not grow; leave one of them out")

    def forward_passes(self, forward: Forward) -> Sequence[float]:
        """All weights train until the end, so that all of it is dense."""
        return [forward.dense] * len(forward.after)


class LCPruner(Pruner, method=LC):
    """What LC does, with a buffer for the masks."""

    method: LC

    def __init__(self, method: LC, setup: Setup) -> None:
        super().__init__(method, setup)
        self.top = Flat.like(self.weights)

    def adjust_decay(self) -> None:
        """What makes of the optimizer's own weight decay the penalty of the smallest weights; neither is clipped."""
        assert self.optimizer is not None
        decay = decay_of(self.optimizer, self.weights[0])
        penalty = decay if self.method.penalty is None else self.method.penalty
        penalty *= self.method.penalty_growth ** (self.iteration // self.iterations)
        magnitude_masks(self.weights, self.sparsity, masks=self.top, waiting=False)
        pairs = zip(self.weights, self.top.views, strict=True)
        learning = [(w.grad, w.detach(), mask) for w, mask in pairs if w.grad is not None]
        gradients, values, masks = map(list, zip(*learning, strict=True))
        if penalty != decay:
            torch._foreach_add_(gradients, values, alpha=penalty - decay)
        torch._foreach_addcmul_(gradients, values, masks, value=-penalty)

    def finalize(self) -> bool:
        """Prune by magnitude to the target."""
        self.hold(magnitude_masks(self.weights, self.sparsity))
        return True
