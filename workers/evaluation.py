"""A finished network on corrupted test sets: a stage without training, so that another set trains nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prunesweep.workers import checkpoint, training
from prunesweep.workers.curve import curve_file
from prunesweep.workers.execution import Execution
from prunesweep.workers.parents import load_network, result_of, tensors_of
from prunesweep.workers.parts import Measured
from prunesweep.workers.seeding import seed_all
from prunesweep.workers.spec import EvaluationStage
from prunesweep.workers.store import CURVE, NETWORK

MEAN = "test_accuracy_corrupted"
"""The metric that is the mean over all corrupted test sets."""


class Evaluation(Execution):
    """An `EvaluationStage` while it runs: its result is the parent's with the accuracies on corrupted test sets."""

    def _begin(self) -> None:
        """Load the parent's network; nothing of it changes."""
        parent = self._evaluated().parent
        network = tensors_of(parent, NETWORK, self._parent(), self.store, self.replicas)
        load_network(self.model, network, parent)

    def _measured(self) -> Measured:
        """The network and no curve; what the parent measured, and the accuracy on each corrupted test set."""
        seed_all(self.stage.root.seed, "evaluation")
        accuracies = {f"test_accuracy_{name}": self._accuracy(name) for name in self._evaluated().test_sets}
        parent = self._parent()
        files = {NETWORK: checkpoint.pack_tensors(checkpoint.network(self.model)), CURVE: curve_file(self.metric, [])}
        mean = sum(accuracies.values()) / len(accuracies)
        same = {name: parent[name] for name in ("layers", "by_class") if name in parent}
        return files, {"metrics": {**parent["metrics"], **accuracies, MEAN: mean}, **same}

    def _accuracy(self, test_set: str) -> float:
        corrupted = self.passes.whole.corrupted(test_set).portioned(self.replicas.portion)
        batches = self.passes.evaluation("test", corrupted)
        accuracy = training.evaluate(self.network, batches, running=True).metrics["accuracy"]
        assert accuracy is not None, "there are images, which have classes"
        return accuracy

    def _parent(self) -> Mapping[str, Any]:
        return result_of(self._evaluated().parent, self.store, self.replicas)

    def _evaluated(self) -> EvaluationStage:
        assert isinstance(self.stage, EvaluationStage)
        return self.stage
