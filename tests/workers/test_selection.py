from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from prunesweep.workers.allocation import apportion
from prunesweep.workers.flat import Flat, blocks, memory, pieces
from prunesweep.workers.selection import (
    apply_masks,
    kept,
    largest,
    magnitude_masks,
    norm_drop,
    random_masks,
)

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
DEVICES = ["cpu", pytest.param("cuda", marks=CUDA)]


def top(scores: list[Tensor], k: int, times: list[Tensor] | None = None) -> list[Tensor]:
    masks = Flat.like(scores)
    largest(scores, k, masks, times)
    return masks.views


def top_by_sort(scores: list[Tensor], k: int) -> list[Tensor]:
    pool = torch.cat([score.abs().flatten() for score in scores])
    mask = torch.zeros_like(pool)
    mask[pool.argsort(descending=True, stable=True)[:k]] = 1
    parts = mask.split([score.numel() for score in scores])
    return [part.view(score.shape) for part, score in zip(parts, scores, strict=True)]


@pytest.mark.parametrize(
    ("scores", "k", "expected"),
    [
        ([3.0, 1.0, 2.0, 4.0], 2, [1, 0, 0, 1]),
        ([-3.0, 1.0, 2.0, -4.0], 2, [1, 0, 0, 1]),
        ([1.0, 1.0, 1.0, 1.0], 3, [1, 1, 1, 0]),
        ([0.0, 2.0, 1.0, 1.0], 2, [0, 1, 1, 0]),
        ([0.0, 0.0, 0.0, 5.0], 2, [1, 0, 0, 1]),
        ([1.0, float("inf")], 1, [0, 1]),
        ([1.0, 2.0], 0, [0, 0]),
        ([1.0, 2.0], 2, [1, 1]),
    ],
)
def test_exactly_k_largest_and_the_lowest_index_wins(scores: list[float], k: int, expected: list[int]):
    assert top([torch.tensor([scores])], k)[0].int().tolist() == [expected]


def test_scores_may_be_products():
    weights, gradients = torch.tensor([[1.0, -2.0, 3.0, 0.0]]), torch.tensor([[-6.0, 2.0, 1.0, 9.0]])
    assert top([weights], 2, [gradients])[0].tolist() == [[1.0, 1.0, 0.0, 0.0]]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("values", ["spread", "tied", "mostly zero", "sorted"])
def test_agrees_with_a_stable_sort(values: str, dtype: torch.dtype, device: str):
    """Large enough that a sample narrows the search; also where the sample misleads."""
    generator = torch.Generator().manual_seed(0)
    pool = {
        "spread": torch.randn(90_000, generator=generator),
        "tied": torch.randint(-50, 50, (90_000,), generator=generator),
        "mostly zero": torch.randn(90_000, generator=generator) * (torch.arange(90_000) % 7 == 0),
        "sorted": torch.linspace(-1, 1, 90_000),
    }[values].to(device, dtype)
    scores = [pool[:30_000].view(300, 100), pool[30_000:89_999].view(59_999, 1), pool[89_999:].view(1, 1)]
    for k in (1, 17, 9_000, 45_000, 80_000, 89_999):
        for ours, expected in zip(top(scores, k), top_by_sort(scores, k), strict=True):
            assert torch.equal(ours, expected), k


def test_a_sample_that_misleads_costs_time_and_nothing_else():
    """Every score that the sample sees is large, all others are small."""
    n = 90_000
    step = round(n ** (1 / 3)) | 1
    pool = torch.rand(n) * 0.1
    pool[::step] += 1.0
    for k in (5, n // 2):
        assert torch.equal(top([pool[None]], k)[0], top_by_sort([pool[None]], k)[0])


@pytest.mark.parametrize("device", DEVICES)
def test_ties_go_by_row_major_index_whatever_the_memory_layout(device: str):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(0, 3, (8, 6, 3, 3), generator=generator).float().to(device)
    channels = rows.to(memory_format=torch.channels_last)
    for k in (1, 100, 200, 431):
        ours, expected = top([channels], k)[0], top_by_sort([rows], k)[0]
        assert ours.stride() == channels.stride()
        assert torch.equal(ours, expected)


@pytest.mark.parametrize("n", [2, 50_000])
@pytest.mark.parametrize("k", [0, 1, 2])
@pytest.mark.parametrize("device", DEVICES)
def test_nan_is_an_error(n: int, k: int, device: str):
    scores = torch.rand(1, n, device=device)
    scores[0, n // 2] = float("nan")
    with pytest.raises(FloatingPointError, match="NaN"):
        top([scores], k)


class Ranked(TorchDispatchMode):
    """Counts the elements of all tensors that are sorted, wholly or in part."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__ in ("kthvalue", "sort", "argsort", "topk", "median"):
            self.elements += args[0].numel()
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("k", [1_000, 100_000, 500_000])
def test_hardly_any_scores_are_ranked(k: int):
    """Of a million, at most a few percent: no full sort."""
    with Ranked() as ranked:
        top([torch.randn(1_000, 1_000)], k)
    assert ranked.elements < 70_000


@pytest.mark.parametrize(("n", "s", "k"), [(10, 0.9, 1), (848_944, 0.9, 84_894), (7, 0.5, 3), (9, 0.0, 9)])
def test_kept_is_n_minus_round_sn(n: int, s: float, k: int):
    assert kept(n, s) == k


def test_magnitudes_are_pooled_over_layers():
    weights = [torch.tensor([[0.1, -3.0]]), torch.tensor([[2.0, 0.2, -0.3, 0.0]])]
    masks = magnitude_masks(weights, 0.5).views
    assert [mask.tolist() for mask in masks] == [[[0.0, 1.0]], [[1.0, 0.0, 1.0, 0.0]]]


@pytest.mark.parametrize("allocation", ["global", "uniform", "erk", "lamp"])
def test_every_allocation_keeps_the_same_number_and_leaves_pruned_what_is_pruned(allocation: str):
    torch.manual_seed(0)
    shapes = [(16, 1, 3, 3), (32, 16, 3, 3), (32, 32, 1, 1), (10, 32), (1, 1)]
    weights = [torch.randn(shape) for shape in shapes]
    n = sum(weight.numel() for weight in weights)
    for sparsity in (0.1, 0.3, 0.31, 0.5, 0.66, 0.9, 0.95, 0.951, 0.99, 0.999):
        masks = magnitude_masks(weights, sparsity, allocation).views
        assert sum(int(mask.sum()) for mask in masks) == kept(n, sparsity)
        assert all(bool((mask[weight == 0] == 0).all()) for mask, weight in zip(masks, weights, strict=True))
        apply_masks(weights, masks)


def test_ties_of_remainders_go_to_the_first_layer():
    """Quotas 511 2/3, 2046 2/3 and 2046 2/3."""
    assert apportion([576, 2304, 2304], [576, 2304, 2304], 4605) == [512, 2047, 2046]


def test_random_pruning_draws_from_the_living_by_seed():
    weights = [torch.cat([torch.zeros(500), torch.ones(500)])[None]]
    mask = random_masks(weights, 0.75, seed=1).whole
    assert int(mask.sum()) == 250
    assert int(mask[:500].sum()) == 0
    assert torch.equal(mask, random_masks(weights, 0.75, seed=1).whole)
    assert not torch.equal(mask, random_masks(weights, 0.75, seed=2).whole)


def test_norm_drop_by_hand():
    assert norm_drop([torch.tensor([3.0, 4.0])], [torch.tensor([1.0, 0.0])]) == pytest.approx(0.8)
    assert norm_drop([torch.zeros(2)], [torch.ones(2)]) == 0.0


def test_masks_pass_over_what_does_not_exist():
    tensor = torch.ones(2)
    apply_masks([tensor, None], [torch.tensor([0.0, 1.0]), torch.zeros(3)])
    assert tensor.tolist() == [0.0, 1.0]


def test_a_flat_buffer_has_views_in_the_tensors_own_layout():
    tensors = [torch.rand(4, 3, 2, 2).to(memory_format=torch.channels_last), torch.rand(2, 5)]
    flat = Flat.like(tensors)
    for view, tensor in zip(flat.views, tensors, strict=True):
        view.copy_(tensor)
        assert view.stride() == tensor.stride()
    expected = torch.cat([tensors[0].permute(0, 2, 3, 1).flatten(), tensors[1].flatten()])
    assert torch.equal(flat.whole, expected)
    assert [part.whole.numel() for part in flat.parts] == [48, 10]


def test_memory_is_a_view_where_layouts_agree_and_a_copy_elsewhere():
    rows = torch.rand(4, 3, 2, 2)
    channels = rows.to(memory_format=torch.channels_last)
    assert memory(channels, channels).data_ptr() == channels.data_ptr()
    assert torch.equal(memory(rows, channels), memory(channels, channels))
    assert torch.equal(memory(rows, rows), rows.flatten())
    narrow = torch.rand(4, 3, 1, 1)
    assert memory(narrow, narrow.to(memory_format=torch.channels_last)).data_ptr() == narrow.data_ptr()


@pytest.mark.parametrize("shape", [(40, 700, 3, 3), (7, 3)])
def test_pieces_are_written_in_the_place_of_the_first_and_read_of_others_by_its_layout(shape: tuple[int, ...]):
    layout = torch.channels_last if len(shape) == 4 else torch.contiguous_format
    tensor, rows = torch.zeros(shape).to(memory_format=layout), torch.rand(shape)
    for piece, other in pieces(tensor, rows):
        piece += other
    assert torch.equal(tensor, rows)
    Flat.over(tensor).whole.fill_(2.0)
    assert np.all(tensor.numpy() == 2.0)


@pytest.mark.parametrize("shape", [(40, 7, 3, 3), (3, 100_000), (200_000, 1), (1, 1)])
def test_blocks_cover_every_element_once_in_place(shape: tuple[int, ...]):
    tensor, other = torch.zeros(shape), torch.ones(shape)
    if len(shape) == 4:
        tensor, other = (t.to(memory_format=torch.channels_last) for t in (tensor, other))
    for block, ones, scratch in blocks(tensor, other, scratch=1):
        assert block.shape == ones.shape == scratch.shape
        block += ones
    assert np.all(tensor.numpy() == 1.0)
