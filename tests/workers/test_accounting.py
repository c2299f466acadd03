"""What training costs: each method's accounting against one written out pass by pass, for a network of two numbers.

A forward pass costs 100 dense. Training has four epochs of ten images in iterations of one image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torchvision
from torch import nn

from prunesweep.workers import accounting, methods
from prunesweep.workers.allocation import random_counts
from prunesweep.workers.host import Where
from prunesweep.workers.run import run_stage
from prunesweep.workers.selection import kept
from prunesweep.workers.spec import Choice, EvaluationStage, PruneStage, RetrainSpec, TrainStage
from prunesweep.workers.store import CURVE, Store
from tests.cases import TAYLOR, TRAIN, last_stage, trial

DENSE, IMAGES, CLASSES = 100.0, 10, 4
GROWING = [100.0, 70.0, 40.0, 20.0]
"""Forward passes after each epoch, of masks that grow sparser."""


def root_of(method: str) -> TrainStage:
    return last_stage(trial(method, 0.8, train=replace(TRAIN, epochs=4, warmup_epochs=0))).root


def result(sparse: float, epochs: int = 4, reached: float = 0.8) -> dict[str, Any]:
    metrics = {"multiply_adds": DENSE, "nonzero_multiply_adds": sparse, "reached_sparsity": reached}
    layers = [{"weights": 100, "nonzero": 100 - round(100 * reached), "multiply_adds": DENSE}]
    return {"metrics": metrics, "images": epochs * IMAGES, "classes": CLASSES, "layers": layers}


def rows(passes: Sequence[float]) -> list[dict[str, float | None]]:
    return [{"sparsity": 0.5, "nonzero_multiply_adds": passed} for passed in passes]


def cost(method: str, passes: Sequence[float]) -> float | None:
    own = root_of(method)
    return accounting.multiply_adds(own, methods.create(own.root.method), result(passes[-1], own.epochs), rows(passes))


def sparse_steps(passes: Sequence[float]) -> float:
    """Forward, gradients of activations and gradients of weights, all without pruned weights, image by image."""
    total = 0.0
    for passed in passes:
        for _ in range(IMAGES):
            total += passed
            total += passed
            total += passed
    return total


def dense_gradients(passes: Sequence[float]) -> float:
    """The gradients of weights are those of all weights."""
    total = 0.0
    for passed in passes:
        for _ in range(IMAGES):
            total += passed
            total += passed
            total += DENSE
    return total


def with_updates(passes: Sequence[float], interval: int) -> float:
    """Of so many iterations and an update the mean, in each epoch."""
    total = 0.0
    for passed in passes:
        iterations = [3 * passed] * interval + [2 * passed + DENSE]
        total += IMAGES * sum(iterations) / len(iterations)
    return total


FLAT = [20.0] * 4
FROM_DENSE = [DENSE, *GROWING[:-1]]
HALFWAY = [100.0, 85.0, 55.0, 30.0]
UNPRUNED = [DENSE] * 4
ALTERNATING = [20.0, 20.0, 20.0, 20.0]
"""AC/DC is pruned after the first epoch; weights that go on from 0 are still 0 when the second has ended."""

BY_HAND: dict[str, tuple[list[float], float]] = {
    **dict.fromkeys(("dense", "imp", "random"), (UNPRUNED, sparse_steps(UNPRUNED))),
    "bimp": (UNPRUNED[:3], sparse_steps(UNPRUNED[:3])),
    "gmp": (GROWING, sparse_steps(FROM_DENSE)),
    TAYLOR: (GROWING, sparse_steps(FROM_DENSE)),
    "acdc": (ALTERNATING, sparse_steps([DENSE, 20.0, DENSE, 20.0])),
    **dict.fromkeys(("gsm", "lc"), ([DENSE, DENSE, DENSE, 20.0], sparse_steps(UNPRUNED))),
    **dict.fromkeys(("dpf", "cs"), (GROWING, dense_gradients(FROM_DENSE))),
    **dict.fromkeys(("str", "dst"), (GROWING, dense_gradients(HALFWAY))),
    "dnw": (GROWING, dense_gradients([GROWING[0], *HALFWAY[1:]])),
    "sr_ste": (FLAT, dense_gradients(FLAT)),
    **dict.fromkeys(("static", "set", "small_dense"), (FLAT, sparse_steps(FLAT))),
    "rigl": (FLAT, with_updates(FLAT, 4)),
    "granet": ([40.0, 30.0, 20.0, 20.0], with_updates([45.0, 35.0, 25.0, 20.0], 5)),
    "snip": (FLAT, sparse_steps(FLAT) + 3 * DENSE * 10 * CLASSES),
    "grasp": (FLAT, sparse_steps(FLAT) + (3 + 3 + 2 * 3) * DENSE * 10 * CLASSES),
    "synflow": (FLAT, sparse_steps(FLAT) + 3 * DENSE * 10),
}
"""What a forward pass costs after each epoch, and what the training then costs.

GraNet starts with half of the weights, and so of the multiply-adds of a network of one layer.
"""


@pytest.mark.parametrize("method", [*methods.METHODS, TAYLOR])
def test_the_cost_of_a_training_is_that_of_its_passes(method: str) -> None:
    passes, by_hand = BY_HAND[method]
    assert cost(method, passes) == pytest.approx(by_hand, rel=1e-12)


def test_a_retraining_has_the_masks_of_its_prune_and_costs_three_sparse_passes() -> None:
    pruned = PruneStage(root_of("dense"), 0.8, RetrainSpec(2))
    measured = accounting.multiply_adds(pruned, methods.create(Choice("dense")), result(20.0, 2), rows([20.0] * 3))
    assert measured == sparse_steps([20.0, 20.0])


def test_a_criterion_that_looks_at_gradients_pays_for_them() -> None:
    """64 batches of 32 images would be more than the ten that there are."""
    pruned = PruneStage(root_of("dense"), 0.8, RetrainSpec(2), "fisher")
    measured = accounting.multiply_adds(pruned, methods.create(Choice("dense")), result(20.0, 2), rows([20.0] * 3))
    assert measured == sparse_steps([20.0, 20.0]) + 3 * DENSE * IMAGES


def test_a_prune_without_retraining_costs_nothing() -> None:
    pruned = PruneStage(root_of("str"), 0.9)
    assert accounting.multiply_adds(pruned, methods.create(pruned.root.method), result(10.0, 0), rows([10.0])) == 0.0


def test_densities_of_the_layers_go_through_one_power_of_those_at_the_end() -> None:
    """Of 100 weights each a layer keeps 1/4 and 1/100; with their square roots 60 of 200 are left: 0.7."""
    layers = [
        {"weights": 100, "nonzero": 25, "multiply_adds": 1000.0},
        {"weights": 100, "nonzero": 1, "multiply_adds": 10.0},
    ]
    forward = accounting.Forward(1510.0, [750.1], 0.87, layers)  # and 500 that no prunable weight takes part in
    assert forward.at(0.7) == pytest.approx(500 + 1000 * 0.5 + 10 * 0.1)
    assert forward.at(0.87) == pytest.approx(750.1)
    assert forward.at(0.0) == 1510.0


def test_an_evaluation_costs_nothing() -> None:
    evaluated = EvaluationStage(root_of("dense"), ("corrupted",))
    assert accounting.multiply_adds(evaluated, methods.create(Choice("dense")), {"metrics": {}, "images": 0}, []) == 0.0


def test_of_a_result_of_before_passes_follow_from_the_sparsities() -> None:
    """Of one layer at 0, 0.4 and 0.8: 100, 60 and 20."""
    curve = [{"sparsity": sparsity, "nonzero_multiply_adds": None} for sparsity in (0.0, 0.4, 0.8, 0.8)]
    own = root_of("gmp")
    measured = accounting.multiply_adds(own, methods.create(own.root.method), result(20.0), curve)
    assert measured == pytest.approx(sparse_steps([DENSE, DENSE, 60.0, 20.0]))


@pytest.mark.parametrize(("sparsity", "ratio", "printed"), [(0.8, 0.4157, 0.42), (0.9, 0.2443, 0.24)])
def test_rigl_on_resnet50_costs_what_evci_et_al_print(sparsity: float, ratio: float, printed: float) -> None:
    """With ERK and dT 100 (their table 2), of convolutions and the classifier at 224 x 224 pixels."""
    with torch.device("meta"):
        model, image = torchvision.models.resnet50(), torch.empty(1, 3, 224, 224)
    sizes: dict[str, int] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(
                lambda module, given, out, name=name: sizes.update({name: module.weight.numel() * out[0, 0].numel()})
            )
    model(image)
    weights = [model.get_submodule(name).weight for name in sizes]
    n = sum(weight.numel() for weight in weights)
    counts = random_counts(weights, kept(n, sparsity), sparsity, "erk")
    dense = sum(sizes.values())
    sparse = sum(size * k / w.numel() for size, k, w in zip(sizes.values(), counts, weights, strict=True))
    measured = accounting.updating(dense, sparse, 100) / (3 * dense)
    assert (round(measured, 4), round(measured, 2)) == (ratio, printed)


def test_a_result_that_does_not_say_what_a_pass_costs_has_no_cost() -> None:
    own = root_of("dense")
    assert accounting.multiply_adds(own, methods.create(own.root.method), {"metrics": {}, "images": 40}, []) is None


def test_the_curve_says_what_a_pass_costs_after_each_epoch(tmp_path: Path) -> None:
    """From less than the dense network's to that of the final one, of which each layer rounds its own."""
    store, gmp = Store(tmp_path), root_of("gmp")
    list(run_stage(gmp, store, Where()))
    made = store.result(gmp.key)
    assert made is not None
    assert made["classes"] == CLASSES
    passes = pq.read_table(pa.BufferReader(store.read_published(gmp.key, CURVE, made)))["nonzero_multiply_adds"]
    assert passes.to_pylist() == sorted(passes.to_pylist(), reverse=True)
    assert passes[0].as_py() < made["metrics"]["multiply_adds"]
    layers = len(made["layers"])
    assert passes[-1].as_py() == pytest.approx(made["metrics"]["nonzero_multiply_adds"], abs=layers)
