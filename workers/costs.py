"""What of a stage's network can be pruned, and what the network costs while it is trained and in the end."""

from __future__ import annotations

import logging
from dataclasses import asdict
from itertools import chain, islice
from typing import Any

from prunesweep.workers import measure, precision
from prunesweep.workers.full_network import full_size
from prunesweep.workers.methods.pruner import Pruner
from prunesweep.workers.orientation import require_usual
from prunesweep.workers.passes import Passes
from prunesweep.workers.prunable import prunable, require_effective
from prunesweep.workers.recorded import Recording
from prunesweep.workers.recording import record
from prunesweep.workers.scope import in_scope
from prunesweep.workers.spec import Whole
from prunesweep.workers.training import Network, contiguous

log = logging.getLogger("prunesweep")


class Costs:
    """Those of one network, recorded at the begin of its stage; `weights` are those that may be pruned."""

    def __init__(self, stage: Whole, network: Network, passes: Passes) -> None:
        self.network, self.model, self.passes = network, network.model, passes
        self.images = next(passes.samples())
        self.recorded = self._record()
        self.prunable = prunable(self.model, self.recorded)
        self.weights = in_scope(stage.prune, self.model, self.prunable, self.recorded)
        require_usual(stage, self.weights, self.recorded)
        self.full = full_size(stage.root, passes.whole, self.images)
        self.sparse = measure.Sparse(self.weights, self.recorded, self.full)
        if self.recorded.depends_on_data:
            said = "the images decide what is computed: multiply-adds are the mean over %d of them"
            log.info(said, self.recorded.images)

    def now(self, pruner: Pruner) -> dict[str, float]:
        """The sparsity, and the multiply-adds of one image, in the middle of training."""
        with pruner.view():
            return self.sparse.now(pruner.weights, pruner.masks)

    def finished(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Of the finished network, as a result holds them: of all of it, and of each layer. Raises `Ineffective`."""
        recorded, exempt = self._record(), self.prunable.keys() - self.weights.keys()
        require_effective(self.model, self.prunable, self.recorded, recorded)
        layers = measure.layer_costs(self.prunable, recorded)
        return measure.summary(self.model, layers, exempt, self.full), [asdict(layer) for layer in layers]

    def _record(self) -> Recording:
        batches = chain([self.images], islice(self.passes.samples(), 1, None))
        layout = batches if self.network.channels_last else map(contiguous, batches)
        with precision.autocast(self.network.train.precision, self.network.device):
            return record(self.model, next(layout), layout)
