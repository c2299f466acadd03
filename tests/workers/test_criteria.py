"""What IMP ranks weights by, against a second implementation (see `test_reference`), and by hand."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from prunesweep.workers import methods
from prunesweep.workers.errors import SpecError
from prunesweep.workers.scores import by_batches
from prunesweep.workers.seeding import derive
from prunesweep.workers.selection import scored_masks
from prunesweep.workers.spec import TrialSpec, path
from prunesweep.workers.store import Store
from tests.cases import RESNET, TINY, TRAIN
from tests.workers.test_reference import Reference, Tensors, allr, compare, largest, shared_out, stage_of


class Scored(Reference):
    """Gradients batch by batch, of a copy in training mode that forgets its statistics."""

    def scores(self, criterion: str) -> Tensors:
        sums = {name: torch.zeros_like(w) for name, w in self.weights.items()}
        batches = list(self.batches(derive(0, "criterion")))
        for images, targets in batches:
            leaves = {name: w.detach().clone().requires_grad_() for name, w in self.weights.items()}
            loss = functional.cross_entropy(functional_call(deepcopy(self.model).train(), leaves, images), targets)
            for (name, _), g in zip(leaves.items(), torch.autograd.grad(loss, list(leaves.values())), strict=True):
                sums[name] += g * g if criterion == "fisher" else g
        means = {name: total / len(batches) for name, total in sums.items()}
        w = {name: weight.detach() for name, weight in self.weights.items()}
        return {name: w[name] ** 2 * mean if criterion == "fisher" else -w[name] * mean for name, mean in means.items()}

    def chosen(self, criterion: str, sparsity: float, allocation: str) -> Tensors:
        """Of what lives: a weight that is zero has no rank at all."""
        scores = {n: s.masked_fill(self.weights[n] == 0, -torch.inf) for n, s in self.scores(criterion).items()}
        keep = self.n - round(sparsity * self.n)
        if allocation == "global":
            return largest(scores, keep)
        room = [int((w != 0).sum()) for w in self.weights.values()]
        counts = shared_out([w.numel() for w in self.weights.values()], room, keep)
        return {n: largest({n: s}, count)[n] for (n, s), count in zip(scores.items(), counts, strict=True)}


@pytest.mark.parametrize(
    ("criterion", "allocation"), [("fisher", "global"), ("movement", "global"), ("movement", "uniform")]
)
def test_imp_in_two_phases_by_scores(criterion: str, allocation: str, store: Store):
    settings = {"retrain_epochs": 3, "phases": 2, "criterion": criterion, "allocation": allocation}
    stage, reference = stage_of("imp", 0.75, settings), Scored()
    compare(stage.root, reference, store)
    reference.momentum_of.clear()
    before = 0.0
    for phase, (sparsity, epochs) in zip(path(stage)[1:], [(0.5, 1), (0.75, 2)], strict=True):
        drop = reference.prune(reference.chosen(criterion, sparsity, allocation))
        compare(phase, reference, store, allr(epochs, drop, (sparsity - before) / (1 - before), stage.root.epochs))
        assert store.result(phase.key)["metrics"]["reached_sparsity"] == pytest.approx(sparsity, abs=1e-3)
        before = sparsity


def linear() -> nn.Linear:
    """Two classes of four inputs, so that logits are w x and the gradient is (p - y) x."""
    layer = nn.Linear(4, 2, bias=False, dtype=torch.float64)
    layer.weight.data = torch.tensor([[1.0, -2.0, 0.0, 0.5], [1.0, -2.0, 0.0, 0.5]], dtype=torch.float64)
    return layer


def batches(*targets: int) -> list[tuple[Tensor, Tensor]]:
    """One image (1, 1, 1, 2) each: both classes have probability 1/2."""
    image = torch.tensor([[1.0, 1.0, 1.0, 2.0]], dtype=torch.float64)
    return [(image, torch.tensor([target])) for target in targets]


def test_scores_by_hand():
    """The first class's row has the gradient (-1/2) x for target 0, and x/2 for target 1."""
    layer = linear()
    fisher = by_batches("fisher", layer, [layer.weight], batches(0, 1))[0]
    assert fisher[0].tolist() == [0.25, 1.0, 0.0, 0.25]  # w^2 (x/2)^2
    movement = by_batches("movement", layer, [layer.weight], batches(0))[0]
    assert movement.tolist() == [[0.5, -1.0, 0.0, 0.5], [-0.5, 1.0, 0.0, -0.5]]  # -w g
    assert by_batches("movement", layer, [layer.weight], batches(0, 1))[0].abs().max() == 0


def test_what_is_pruned_stays_so_even_where_living_weights_score_below_zero():
    layer = linear()
    scores = by_batches("movement", layer, [layer.weight], batches(1))
    [mask] = scored_masks([layer.weight], scores, 0.25, "global").views
    assert mask.tolist() == [[1, 1, 0, 1], [1, 1, 0, 1]]


def test_it_looks_at_64_batches_at_most():
    layer = linear()
    endless = (batch for _ in iter(int, 1) for batch in batches(0))
    assert by_batches("movement", layer, [layer.weight], endless)[0][0].tolist() == [0.5, -1.0, 0.0, 0.5]


def test_lamp_goes_with_magnitude_alone_and_random_pruning_has_a_name_of_its_own():
    settings: dict[str, Any] = {"retrain_epochs": 1, "criterion": "fisher", "allocation": "lamp"}
    method = methods.method_class("imp")(**settings)
    with pytest.raises(SpecError, match="lamp ranks by magnitude; criterion fisher takes global, uniform or erk"):
        method.check(TrialSpec(TINY, RESNET, method.choice("imp"), 0, 0.5, TRAIN))
    assert "criterion" not in {h.name for h in methods.method_class("random").hyperparameters()}
