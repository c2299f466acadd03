"""Narrower networks, and the method that trains one in the place of a sparse network."""

from __future__ import annotations

import io
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
import torch

from prunesweep.workers import accounting, models
from prunesweep.workers.errors import SpecError, UserError
from prunesweep.workers.methods import create
from prunesweep.workers.spec import Choice
from prunesweep.workers.store import CURVE, Store
from tests.cases import last_stage, trial
from tests.contract import run

LENET = models.choose("lenet300", {})


def matrices(choice: Choice | None, shape: tuple[int, int, int], classes: int = 10) -> list[torch.Size]:
    assert choice is not None
    return [p.shape for p in models.build(choice, shape, classes).parameters() if p.dim() >= 2]


def test_a_tenth_of_lenet_300_100() -> None:
    """784 x 33 + 33 x 11 + 11 x 10 are 26,345 of 266,200 weights, 9.9 %; with 12 in the second layer it is 26,388."""
    assert matrices(models.narrower(LENET, 0.1), (1, 28, 28)) == [(33, 784), (11, 33), (10, 11)]


@pytest.mark.parametrize(
    ("name", "size", "channels"),
    [
        ("resnet8", 0.1, (5, 10, 20)),
        ("wrn16x4", 0.25, (8, 32, 64, 128)),
        ("resnet8", 1e-9, (1, 1, 1)),
        ("wrn16x4", 1e-9, (1, 1, 1, 1)),
    ],
)
def test_all_layers_have_the_same_share_of_their_channels(name: str, size: float, channels: tuple[int, ...]) -> None:
    choice = models.narrower(models.choose(name, {}), size)
    weights = matrices(choice, (1, 16, 16))
    assert list(dict.fromkeys(shape[0] for shape in weights[:-1])) == list(dict.fromkeys(channels))
    assert choice is not None
    assert models.build(choice, (1, 16, 16), 10)(torch.zeros(2, 1, 16, 16)).shape == (2, 10)


def test_the_search_for_a_size_draws_no_random_numbers() -> None:
    """So that a network of size 1 and one that happens to have all channels start alike."""
    torch.manual_seed(0)
    whole = models.build(LENET, (1, 8, 8), 4).state_dict()
    torch.manual_seed(0)
    choice = models.narrower(LENET, 0.9999999)
    assert choice is not None
    found = models.build(choice, (1, 8, 8), 4).state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in whole.items())


@pytest.mark.parametrize("size", [0.0, -0.5, 1.5])
def test_a_size_is_a_share(size: float) -> None:
    with pytest.raises(UserError, match=r"size: .* is not a fraction in \(0, 1\]"):
        models.choose("resnet20", {"size": size})


def test_a_network_of_full_size_has_the_key_of_before() -> None:
    assert models.choose("resnet20", {"size": 1.0}) == models.choose("resnet20", {})


def test_its_row_is_relative_to_the_full_network(store: Store) -> None:
    """Images of 64 pixels, 4 classes: 64 x 300 + 300 x 100 + 100 x 4 = 49,600 weights and 404 biases.

    With 58 and 19 units it is 4,890 and 81, with 59 and 20 it would be 5,036, which is farther from 4,960.
    """
    stage = last_stage(replace(trial("small_dense", 0.9), model=LENET))
    run(stage, store)
    result = store.result(stage.key)
    assert result is not None
    metrics = result["metrics"]
    assert [layer["weights"] for layer in result["layers"]] == [64 * 58, 58 * 19, 19 * 4]
    assert (metrics["parameters"], metrics["nonzero_parameters"]) == (50004, 4971)
    assert (metrics["multiply_adds"], metrics["nonzero_multiply_adds"]) == (49600, 4890)
    assert metrics["reached_sparsity"] == metrics["sparsity_with_exempt"] == 1 - 4890 / 49600
    assert metrics["overall_sparsity"] == (50004 - 4971) / 50004
    assert metrics["theoretical_speedup"] == 49600 / 4890
    assert metrics["compression_ratio"] == 50004 / 4971
    curve = pq.read_table(io.BytesIO(store.read_published(stage.key, CURVE))).to_pylist()
    assert {row["sparsity"] for row in curve} == {1 - 4890 / 49600}
    trained = accounting.multiply_adds(stage, create(stage.root.method), result, curve)
    assert trained == 3 * 4890 * result["images"]


@pytest.mark.parametrize(
    ("model", "options", "reason"),
    [
        ("resnet18", {}, "resnet18 cannot be made narrower; it takes lenet300, lenet5, cifar_resnet"),
        ("convmixer:convmixer", {}, "cannot be made narrower"),
        ("resnet20", {"size": 0.5}, "its sparsity says how small the network is"),
    ],
)
def test_what_cannot_be_narrowed_is_refused(model: str, options: dict[str, float], reason: str) -> None:
    asked = replace(trial("small_dense"), model=Choice.of(model, options))
    with pytest.raises(SpecError, match=reason):
        create(asked.method).check(asked)
