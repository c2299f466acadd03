"""Alternating compressed and decompressed training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import get_args

from prunesweep.workers.accounting import Forward
from prunesweep.workers.allocation import Allocation, Pattern
from prunesweep.workers.errors import SpecError
from prunesweep.workers.methods.base import ALLOCATION, Method, hyperparameter
from prunesweep.workers.methods.grouped import PATTERN, check_allocation, pattern_level
from prunesweep.workers.methods.pruner import Pruner, Setup
from prunesweep.workers.optimizer_state import begin_anew
from prunesweep.workers.patterns import require_divided
from prunesweep.workers.selection import magnitude_masks
from prunesweep.workers.spec import TrialSpec


class ACDC(Method):
    """AC/DC: alternating compressed and decompressed training (Peste et al. 2021, section 3).

    After `warmup` dense epochs, compressed phases of `phase` epochs and dense ones take turns; a dense one of
    `final_dense` and a compressed one of `final_compressed` epochs are last. A compressed phase holds the mask of the
    n - round(s n) largest |w| at its start. In a dense one the mask is lifted, and pruned weights go on from 0; the
    momentum of all parameters, biases and normalisation included, begins anew, as does all that Adam or RMSprop keep.

    Values: the defaults are ResNet-50's over 100 epochs (compressed from 10, 20, ..., 70 and 85); WRN-28-10 on
    CIFAR-100 over 200: warmup 10, phase 20, final_dense 20, final_compressed 30.
    The authors prune globally with the first convolution and the classifier included, or uniformly without them.

    Cost per step: one multiplication of the gradients with the mask, in compressed phases.
    """

    lengths = ("warmup", "phase", "final_dense", "final_compressed")

    warmup: int = hyperparameter("dense epochs at the beginning", 10, ge=1)
    phase: int = hyperparameter("epochs of each phase, compressed or dense, in between", 5, ge=1)
    final_dense: int = hyperparameter("epochs of the last dense phase", 10, ge=1)
    final_compressed: int = hyperparameter("epochs of the last compressed phase", 15, ge=1)
    allocation: Allocation | Pattern = hyperparameter(ALLOCATION + PATTERN, "global")

    def levels(self, sparsity: float | None) -> Iterator[tuple[float | None, Method]]:
        """A pattern has a sparsity of its own."""
        yield pattern_level(self.allocation, sparsity), self

    def check(self, trial: TrialSpec) -> None:
        """What is between beginning and end are phases that begin and end compressed: an odd number of them."""
        check_allocation(self.allocation, get_args(Allocation), trial.sparsity)
        between = trial.train.epochs - self.warmup - self.final_dense - self.final_compressed
        if between % self.phase or between // self.phase % 2 == 0 or between < 0:
            fitting = trial.train.epochs - between + self.phase * max(1, between // self.phase // 2 * 2 + 1)
            raise SpecError(
                "phase",
                f"warmup, final_dense and final_compressed leave {between} of {trial.train.epochs} epochs, which is no "
                f"odd number of phases of {self.phase}, of which the first and the last are compressed; with "
                f"train.epochs: {fitting} it would be",
            )

    def compressed(self, epochs: int) -> dict[int, bool]:
        """The epochs, counted from 0, at which a phase begins, and whether it is a compressed one."""
        last_dense = epochs - self.final_compressed - self.final_dense
        starts = [*range(self.warmup, last_dense, self.phase), last_dense, epochs - self.final_compressed]
        return {start: number % 2 == 0 for number, start in enumerate(starts)}

    def forward_passes(self, forward: Forward) -> Sequence[float]:
        """Sparse in compressed phases and dense in the others, whose first weights are still zero."""
        starts, compressed, passes = self.compressed(len(forward.after)), False, []
        for epoch, before in enumerate(forward.before(forward.dense)):
            compressed = starts.get(epoch, compressed)
            passes.append(before if compressed else forward.dense)
        return passes


class ACDCPruner(Pruner, method=ACDC):
    """What AC/DC does at the ends of epochs."""

    method: ACDC

    def __init__(self, method: ACDC, setup: Setup) -> None:
        super().__init__(method, setup)
        require_divided(self.names, self.weights, method.allocation)

    def after_epoch(self, epoch: int) -> bool:
        """Prune where a compressed phase follows, and lift the mask where a dense one does."""
        compressed = self.method.compressed(self.epochs).get(epoch)
        if compressed:
            self.hold(magnitude_masks(self.weights, self.sparsity, self.method.allocation))
        elif compressed is not None:
            self._decompress()
        return bool(compressed)

    def _decompress(self) -> None:
        self.masks = None
        assert self.optimizer is not None
        begin_anew(self.optimizer)
