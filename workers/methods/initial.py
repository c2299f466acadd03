"""Pruning at initialisation: what SNIP, GraSP and SynFlow share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable

from prunesweep.workers.flat import Flat
from prunesweep.workers.lazy import torch
from prunesweep.workers.methods.pruner import Pruner
from prunesweep.workers.selection import kept

Batches = Iterable[tuple["torch.Tensor", "torch.Tensor"]]


class InitialPruner(Pruner):
    """One mask, found before the first iteration, and then ordinary training with it held."""

    def prepare(self, batches: Batches) -> None:
        """Prune the initial weights."""
        masks = Flat.like(self.weights)
        self.choose(batches, kept(masks.whole.numel(), self.sparsity), masks)
        self.hold(masks)

    @abstractmethod
    def choose(self, batches: Batches, k: int, masks: Flat) -> None:
        """Set the masks to 1 at the k weights that stay, and to 0 elsewhere."""
