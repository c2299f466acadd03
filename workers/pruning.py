"""The prune with which a stage begins: its parent's network, masks by a criterion, and what is rewound."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from prunesweep.workers import checkpoint, optimizer_state, scores, selection
from prunesweep.workers.flat import Flat
from prunesweep.workers.lineage import rewound
from prunesweep.workers.methods.pruner import Pruner
from prunesweep.workers.parents import load_network, result_of, tensors_of
from prunesweep.workers.patterns import require_divided
from prunesweep.workers.replicas import Replicas
from prunesweep.workers.seeding import derive
from prunesweep.workers.spec import PartStage, PruneStage, Stage
from prunesweep.workers.store import MOMENTUM, NETWORK, STATE, Store


class Pruning:
    """The beginning of a `PruneStage`, on a model that still is as random as its seed made it."""

    def __init__(
        self,
        stage: PruneStage,
        store: Store,
        replicas: Replicas,
        model: nn.Module,
        pruner: Pruner,
        optimizer: Optimizer,
    ) -> None:
        self.stage, self.store, self.replicas = stage, store, replicas
        self.model, self.pruner, self.optimizer = model, pruner, optimizer
        random = checkpoint.storable(model.state_dict()) if stage.rewind_epoch == 0 else {}
        self.random = checkpoint.on_host(random)

    def load_parent(self) -> Mapping[str, Any]:
        """The network to be pruned, and between two phases all that the optimizer keeps; the parent's result.

        One optimizer serves all phases, unless they rewind: then each begins without momentum.
        """
        parent = self.stage.parent
        result = result_of(parent, self.store, self.replicas)
        load_network(self.model, self._tensors(parent, NETWORK, result), parent)
        if isinstance(parent, PruneStage) and self.stage.rewind_epoch is None:
            buffers = self._tensors(parent, MOMENTUM, result)
            optimizer_state.restore(dict(self.model.named_parameters()), self.optimizer, buffers)
        return result

    def prune(self, batches: Callable[[], Iterable[scores.Batch]]) -> float:
        """Hold the masks; returns the share of the norm that they drop. Batches are made where a criterion asks."""
        self.masks = self._masks(batches)
        norm_drop = selection.norm_drop(self.pruner.weights, self.masks.views)
        self.pruner.hold(self.masks)
        return norm_drop

    def _masks(self, batches: Callable[[], Iterable[scores.Batch]]) -> Flat:
        """Which weights stay."""
        stage, weights = self.stage, self.pruner.weights
        require_divided(self.pruner.names, weights, stage.allocation)
        if stage.criterion in ("fisher", "movement"):
            return selection.scored_masks(weights, self._scores(batches), stage.sparsity, stage.allocation)
        if stage.criterion == "magnitude":
            return selection.magnitude_masks(weights, stage.sparsity, stage.allocation)
        seed = derive(stage.root.seed, "prune", stage.start_epoch)
        return selection.random_masks(weights, stage.sparsity, seed, stage.allocation)

    def _scores(self, batches: Callable[[], Iterable[scores.Batch]]) -> list[torch.Tensor]:
        """Of the leading replica, since devices need not round alike."""
        names, weights = self.pruner.names, self.pruner.weights

        def packed() -> bytes:
            own = scores.by_batches(self.stage.criterion, self.model, weights, batches())
            return checkpoint.pack_tensors(dict(zip(names, own, strict=True)))

        tensors = checkpoint.unpack_tensors(self.replicas.agreed(packed))
        return [tensors[name].to(weight.device) for name, weight in zip(names, weights, strict=True)]

    def rewind(self) -> None:
        """Where the stage rewinds: parameters and buffers as the dense training had them, and the masks held again."""
        if self.stage.rewind_epoch is None:
            return
        part = rewound(self.stage)
        state = self.random if part is None else self._state(part)
        load_network(self.model, state, part or self.stage.root)
        self.pruner.hold(self.masks)

    def _state(self, part: PartStage) -> Mapping[str, Any]:
        return checkpoint.network_in(self._tensors(part, STATE, result_of(part, self.store, self.replicas)))

    def _tensors(self, stage: Stage, name: str, result: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        return tensors_of(stage, name, result, self.store, self.replicas)
