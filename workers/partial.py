"""A part of a stage while it runs: it ends with its state, and with what a pruned copy of its network comes to."""

from __future__ import annotations

from math import isfinite

import torch

from prunesweep.workers import selection
from prunesweep.workers.execution import Execution
from prunesweep.workers.methods.base import Method
from prunesweep.workers.methods.pruner import Pruner
from prunesweep.workers.parts import Measured, measured_part
from prunesweep.workers.scope import in_scope
from prunesweep.workers.scoring import Score
from prunesweep.workers.seeding import seed_all
from prunesweep.workers.spec import COPY, PartStage, PrunedCopy


class Partial(Execution):
    """A `PartStage` while it runs. Its state is packed before the copy is made, for which nothing else is left to do.

    The copy has the weights that the method's forward pass sees, such as those above a learned threshold, without what
    is smallest. Of a network with an average of its weights it is made of what would be published.
    """

    def _measured(self) -> Measured:
        assert isinstance(self.asked, PartStage)
        files, result = measured_part(self.metric, self._packed(), self.progress.curve)
        copy = self.asked.copy
        return files, {"metrics": {**result["metrics"], **(_metrics(self._judged(copy)) if copy else {})}}

    def _judged(self, copy: PrunedCopy) -> Score:
        seed_all(self.stage.root.seed, "copy")
        if self.pruner.average and self.train.publish_ema:
            self.pruner.average.adopt()
        _keep_view(self.pruner)
        weights = in_scope(copy.prune, self.model, self.costs.prunable, self.costs.recorded)
        self.pruner = self._new_pruner(Method(), weights)
        masks = selection.magnitude_masks(self.pruner.weights, copy.sparsity, copy.allocation)
        norm_drop = selection.norm_drop(self.pruner.weights, masks.views)
        self.pruner.hold(masks)
        if norm_drop > 0.0:
            self._recalibrate()
        return self._evaluate("validation")


def _keep_view(pruner: Pruner) -> None:
    """Make the weights that the method computes with those of the model."""
    with pruner.view():
        seen = [weight.detach().clone() for weight in pruner.weights]
    torch._foreach_copy_([weight.detach() for weight in pruner.weights], seen)


def _metrics(score: Score) -> dict[str, float | None]:
    """`pruned_validation_loss` and so on; None for what is not finite."""
    loss = score.loss if isfinite(score.loss) else None
    return {f"{COPY}{name}": value for name, value in {"loss": loss, **score.metrics}.items()}
