"""Discovering neural wirings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import get_args

from prunesweep.workers.accounting import Forward, straight_through
from prunesweep.workers.allocation import Allocation, Pattern
from prunesweep.workers.flat import Flat
from prunesweep.workers.methods.base import ALLOCATION, Method, hyperparameter
from prunesweep.workers.methods.grouped import PATTERN, check_allocation, pattern_level
from prunesweep.workers.methods.pruner import Pruner, Setup
from prunesweep.workers.patterns import require_divided
from prunesweep.workers.selection import magnitude_masks
from prunesweep.workers.spec import TrialSpec
from prunesweep.workers.swap import masked


class DNW(Method):
    """Discovering neural wirings, as a sparse training method (Wortsman et al. 2019, sections 3 and 4.4).

    At every iteration the forward pass sees only the k weights of largest magnitude; the gradient there is applied to
    all weights, as if the selection were the identity. From the first iteration on at the target sparsity. With the
    allocation N:M it is `sr_ste` without its refinement.

    Values: no hyperparameters beyond the selection.
    The authors' code selects layer by layer (`allocation: uniform`), and keeps the first layer dense in some runs; that
    of Zimmer et al. compares with a threshold, so that ties are lost.

    Cost per step: one selection among all weights, and one multiplication of the weights with the mask.
    """

    allocation: Allocation | Pattern = hyperparameter(ALLOCATION + PATTERN, "global")

    def levels(self, sparsity: float | None) -> Iterator[tuple[float | None, Method]]:
        """A pattern has a sparsity of its own."""
        yield pattern_level(self.allocation, sparsity), self

    def check(self, trial: TrialSpec) -> None:
        """The allocation is one."""
        check_allocation(self.allocation, get_args(Allocation), trial.sparsity)

    def forward_passes(self, forward: Forward) -> Sequence[float]:
        """Sparse from the first iteration on; the shares of the layers move."""
        return forward.between(forward.after[0])

    def multiply_adds(self, dense: float, sparse: float) -> float:
        """2 f_S + f_D: the gradients of the weights are dense."""
        return straight_through(dense, sparse)


class DNWPruner(Pruner, method=DNW):
    """What DNW does, with buffers for the masks and the sparse weights."""

    method: DNW

    def __init__(self, method: DNW, setup: Setup) -> None:
        super().__init__(method, setup)
        require_divided(self.names, self.weights, method.allocation)
        self.buffer, self.sparse = Flat.like(self.weights), Flat.like(self.weights)

    def view(self) -> AbstractContextManager[None]:
        """The largest weights as they are now."""
        return masked(self.weights, self._select().views, self.sparse)

    def finalize(self) -> bool:
        """The weights that the last view saw: the same function."""
        self.hold(self._select())
        return False

    def _select(self) -> Flat:
        return magnitude_masks(self.weights, self.sparsity, self.method.allocation, self.buffer, waiting=False)
