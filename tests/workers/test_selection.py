from __future__ import annotations

import pytest
import torch
from torch import nn

from workers.errors import UserError
from workers.selection import apply_masks, kept, largest, magnitude_masks, norm_drop, prunable, random_masks


@pytest.mark.parametrize(
    ("scores", "k", "expected"),
    [
        ([3.0, 1.0, 2.0, 4.0], 2, [1, 0, 0, 1]),
        ([1.0, 1.0, 1.0, 1.0], 3, [1, 1, 1, 0]),
        ([0.0, 2.0, 1.0, 1.0], 2, [0, 1, 1, 0]),
        ([0.0, 0.0, 0.0, 5.0], 2, [1, 0, 0, 1]),
        ([1.0, 2.0], 0, [0, 0]),
        ([1.0, 2.0], 2, [1, 1]),
    ],
)
def test_exactly_k_largest_and_the_lowest_index_wins(scores: list[float], k: int, expected: list[int]):
    assert largest(torch.tensor(scores), k).int().tolist() == expected


def test_agrees_with_a_stable_sort_on_many_ties():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 50, (10_000,), generator=generator).double()
    order = scores.argsort(descending=True, stable=True)
    for k in (1, 17, 5_000, 9_999):
        expected = torch.zeros(10_000, dtype=torch.bool)
        expected[order[:k]] = True
        assert torch.equal(largest(scores, k), expected)


def test_nan_is_an_error():
    with pytest.raises(FloatingPointError, match="NaN"):
        largest(torch.tensor([1.0, float("nan")]), 1)


@pytest.mark.parametrize(("n", "s", "k"), [(10, 0.9, 1), (848_944, 0.9, 84_894), (7, 0.5, 3), (9, 0.0, 9)])
def test_kept_is_n_minus_round_sn(n: int, s: float, k: int):
    assert kept(n, s) == k


def test_magnitudes_are_pooled_over_layers():
    weights = [torch.tensor([[0.1, -3.0]]), torch.tensor([2.0, 0.2, -0.3, 0.0])]
    masks = magnitude_masks(weights, 0.5)
    assert [mask.tolist() for mask in masks] == [[[0.0, 1.0]], [1.0, 0.0, 1.0, 0.0]]


def test_random_pruning_draws_from_the_living_by_seed():
    weights = [torch.cat([torch.zeros(500), torch.ones(500)])]
    mask = random_masks(weights, 0.75, seed=1)[0]
    assert int(mask.sum()) == 250
    assert int(mask[:500].sum()) == 0
    assert torch.equal(mask, random_masks(weights, 0.75, seed=1)[0])
    assert not torch.equal(mask, random_masks(weights, 0.75, seed=2)[0])


def test_norm_drop_by_hand():
    assert norm_drop([torch.tensor([3.0, 4.0])], [torch.tensor([1.0, 0.0])]) == pytest.approx(0.8)


def test_prunable_weights_are_those_of_conv_and_linear_and_shared_ones_count_once():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 2), nn.Linear(2, 2))
    model[4].weight = model[3].weight
    assert list(prunable(model)) == ["0.weight", "3.weight"]
    assert list(prunable(nn.Linear(1, 1))) == ["weight"]


def test_a_network_without_prunable_weights_is_a_clear_error():
    with pytest.raises(UserError, match="no prunable weights"):
        prunable(nn.Sequential(nn.BatchNorm2d(3)))


def test_masks_pass_over_what_does_not_exist():
    tensor = torch.ones(2)
    apply_masks([tensor, None], [torch.tensor([0.0, 1.0]), torch.zeros(3)])
    assert tensor.tolist() == [0.0, 1.0]
