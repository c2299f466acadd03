"""The methods that are sparse while they train on four weights, with results worked out by hand: see `test_by_hand`."""

from __future__ import annotations

import pytest
import torch

from prunesweep.workers import scores
from prunesweep.workers.errors import UserError
from prunesweep.workers.flat import Flat
from prunesweep.workers.methods.acdc import ACDC
from prunesweep.workers.methods.granet import GraNet
from prunesweep.workers.methods.grasp import GraSP
from prunesweep.workers.methods.pruner import Pruner
from prunesweep.workers.methods.rigl import RigL
from prunesweep.workers.methods.set import SET
from prunesweep.workers.methods.snip import SNIP
from prunesweep.workers.methods.sr_ste import SRSTE
from prunesweep.workers.methods.static import Static
from prunesweep.workers.methods.synflow import SynFlow
from prunesweep.workers.patterns import grouped_buffer, keep_in_groups, parsed
from prunesweep.workers.selection import drawn_masks
from tests.workers.test_by_hand import approx, attach, linear, seen, step, values


def hold(pruner: Pruner, *mask: float) -> None:
    """A mask of the first weight's in the place of the one that was drawn."""
    masks = Flat.like(pruner.weights)
    masks.views[0].copy_(torch.tensor([mask], dtype=torch.float64))
    pruner.hold(masks)


def of_the_first(pruner: Pruner, row: list[float], *mask: float) -> None:
    """Weights and the mask on them."""
    pruner.weights[0].data.copy_(torch.tensor([row]))
    hold(pruner, *mask)


# --- static


def test_static_keeps_a_random_half_and_trains_it():
    """Gradient descent by half of the gradient, where the mask is; the seed draws the mask."""
    masks = set()
    for seed in range(20):
        model = linear([[1.0, -2.0, 0.5, 4.0]])
        pruner = attach(Static(), model, seed=seed)
        mask = (model.weight != 0).double()
        masks.add(tuple(values(mask)))
        step(pruner, [[1.0, 1.0, 1.0, 1.0]])
        assert values(model.weight) == approx(*values(torch.tensor([0.5, -2.5, 0.0, 3.5]) * mask))
    assert {sum(mask) for mask in masks} == {2.0}
    assert len(masks) == 6, "all of the ways to choose two of four"


def test_masks_that_are_drawn_keep_each_place_equally_often():
    weights = [torch.ones(2, 4), torch.ones(3)]
    kept = sum(drawn_masks(weights, [2, 1], seed).whole for seed in range(4000)) / 4000
    assert kept.tolist() == pytest.approx([1 / 4] * 8 + [1 / 3] * 3, abs=0.04)


@pytest.mark.parametrize(("allocation", "counts"), [("erk", [3, 7]), ("uniform", [2, 8]), ("first_dense", [8, 8])])
def test_layers_start_with_the_counts_of_their_allocation(allocation: str, counts: list[int]):
    """10 of 40 weights, of layers of 8 and 32; by ERK in the proportion of 2 + 4 to 4 + 8, 3.33 to 6.67."""
    model = torch.nn.Sequential(linear([[1.0] * 4] * 2), linear([[1.0] * 8] * 4))
    pruner = attach(Static(allocation=allocation), model, sparsity=0.75)
    assert [int(mask.sum()) for mask in pruner.masks] == counts


# --- RigL and SET


def rigl() -> tuple[Pruner, torch.nn.Linear]:
    """Of 8 iterations, masks move in all: at iteration 4 f = 0.8 / 2 (1 + cos(pi / 2)) = 0.4 of three weights, one."""
    model = linear([[0.0] * 4])
    chosen = RigL(update_interval=4, drop_fraction=0.8, update_until=1.0)
    return attach(chosen, model, sparsity=0.25, epochs=1, iterations=8, momentum=0.5), model


def test_rigl_moves_the_smallest_to_the_largest_gradient_without_a_step():
    pruner, model = rigl()
    of_the_first(pruner, [1.0, -2.0, 0.0, 4.0], 1, 1, 0, 1)
    pruner.iteration = 4
    step(pruner, [[0.1, 5.0, -3.0, 5.0]])
    assert values(pruner.masks[0]) == [0, 1, 1, 1]
    assert values(model.weight) == approx(0.0, -2.0, 0.0, 4.0)
    step(pruner, [[1.0, 1.0, -3.0, 0.0]])
    assert values(model.weight) == approx(0.0, -2.5, 1.5, 4.0)


def test_rigl_keeps_the_value_and_momentum_of_what_drops_and_grows_at_once():
    """The first weight is the smallest, and has the larger gradient of the two that are not kept."""
    pruner, model = rigl()
    of_the_first(pruner, [1.0, -2.0, 0.0, 4.0], 1, 1, 0, 1)
    step(pruner, [[1.0, 0.0, 9.0, 0.0]])
    assert values(model.weight) == approx(0.5, -2.0, 0.0, 4.0)
    pruner.iteration = 4
    step(pruner, [[7.0, 0.0, 3.0, 0.0]])
    assert values(model.weight) == approx(0.5, -2.0, 0.0, 4.0)
    step(pruner, [[0.0, 0.0, 0.0, 0.0]])
    assert values(model.weight) == approx(0.25, -2.0, 0.0, 4.0)


def test_rigl_begins_what_grows_without_momentum_and_forgets_that_of_what_drops():
    pruner, model = rigl()
    of_the_first(pruner, [1.0, -2.0, 0.0, 4.0], 1, 1, 0, 1)
    step(pruner, [[1.0, 0.0, 9.0, 0.0]])
    pruner.iteration = 4
    step(pruner, [[0.0, 0.0, 3.0, 0.0]])
    assert values(model.weight) == approx(0.0, -2.0, 0.0, 4.0)
    step(pruner, [[1.0, 0.0, 0.0, 0.0]])
    assert values(model.weight) == approx(0.0, -2.0, 0.0, 4.0)


def test_rigl_without_any_gradient_moves_nothing():
    """As behind a layer that kept nothing: the network keeps its weights, and so its sparsity."""
    pruner, model = rigl()
    of_the_first(pruner, [0.0, -2.0, 1.0, 4.0], 0, 1, 1, 1)
    pruner.iteration = 4
    step(pruner, [[0.0] * 4])
    assert values(model.weight) == approx(0.0, -2.0, 1.0, 4.0)


def test_rigl_drops_no_weight_of_zero_twice():
    """Two of three weights are zero still: the last of the three is dropped, and not one that is not there."""
    pruner, _ = rigl()
    of_the_first(pruner, [0.0, 0.0, 0.0, 4.0], 0, 1, 1, 1)
    pruner.iteration = 4
    step(pruner, [[1.0, 0.0, 0.0, 0.0]])
    assert values(pruner.masks[0]) == [1, 1, 0, 1]


@pytest.mark.parametrize(("iteration", "moves"), [(0, False), (1, False), (2, True), (4, True), (5, False), (6, False)])
def test_rigl_moves_at_multiples_below_the_end(iteration: int, moves: bool):
    """T_end is 0.75 of 8 iterations."""
    pruner = attach(RigL(update_interval=2), linear([[1.0] * 4]), iterations=8)
    pruner.iteration = iteration
    assert pruner.replace_step() == moves


def test_set_grows_at_random_whatever_the_gradient():
    """Of three weights one moves, to the fourth place or back; with the largest gradient there it does either."""
    grown = set()
    for seed in range(20):
        chosen = SET(update_interval=4, drop_fraction=0.8, update_until=1.0)
        pruner = attach(chosen, linear([[0.0] * 4]), sparsity=0.25, iterations=8, seed=seed)
        of_the_first(pruner, [1.0, 2.0, 0.0, 4.0], 1, 1, 0, 1)
        pruner.iteration = 4
        step(pruner, [[0.0, 0.0, 9.0, 0.0]])
        grown.add(tuple(values(pruner.weights[0])))
    assert grown == {(1.0, 2.0, 0.0, 4.0), (0.0, 2.0, 0.0, 4.0)}


def test_an_interval_that_never_comes_is_refused():
    """100 iterations, of 40; it would be the method static under another name."""
    with pytest.raises(UserError, match=r"update_interval: 100 iterations never come in the 30 .*static"):
        attach(RigL(), linear([[1.0] * 4]), epochs=4, iterations=10)


# --- pruning at initialisation

Batch = tuple[torch.Tensor, torch.Tensor]


def batch(images: list[list[float]], targets: list[int]) -> Batch:
    return torch.tensor(images, dtype=torch.float64), torch.tensor(targets)


@pytest.mark.parametrize(("first", "kept"), [(1.0, [0.0, 2.0, 0.0, 2.0]), (4.0, [1.0, 0.0, 1.0, 0.0])])
def test_snip_keeps_what_the_loss_feels_most(first: float, kept: list[float]):
    """Both classes have the same logits, p = 1/2: |dL/dw| is a quarter of the input, and |w dL/dw| that times w."""
    model = linear([[1.0, 2.0], [1.0, 2.0]])
    pruner = attach(SNIP(images_per_class=1), model)
    pruner.prepare([batch([[first, 0.0], [0.0, 1.0]], [0, 1])])
    assert values(model.weight) == approx(*kept)
    assert model.weight.grad is None
    step(pruner, [[1.0, 1.0], [1.0, 1.0]])
    assert values(model.weight) == approx(*(w and w - 0.5 for w in kept)), "what is pruned stays zero"


def test_scores_are_of_the_first_images_of_each_class():
    """Two of each class in three batches, of which the last is not looked at; the images are numbered."""
    stream = [batch([[0.0], [1.0], [2.0]], [0, 0, 0]), batch([[3.0], [4.0], [5.0]], [1, 1, 0]), None]
    images, targets = scores.of_each_class(linear([[1.0], [1.0]]), stream, 2)
    assert (values(images), targets.tolist()) == ([0, 1, 3, 4], [0, 0, 1, 1])


def test_many_images_have_the_gradient_of_their_mean():
    """600, which go through the network in three parts; as two parts would say, weighted by their lengths."""
    torch.manual_seed(0)
    model, given = linear([[1.0, -1.0], [0.5, 2.0]]), (torch.randn(600, 2).double(), torch.randint(2, (600,)))
    in_parts, part_of = scores.gradients(model, [model.weight], given), [slice(0, 200), slice(200, 600)]
    parts = [scores.gradients(model, [model.weight], (given[0][at], given[1][at]))[0] for at in part_of]
    torch.testing.assert_close(in_parts[0], parts[0] / 3 + parts[1] * 2 / 3, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("w", "kept"), [(1.0, [0.0, 1.0]), (-1.0, [-1.0, 0.0])])
def test_grasp_keeps_what_the_gradient_needs(w: float, kept: list[float]):
    """p = 1/2: g is -1/2 and 1/2 of the input, H g -1/4 and 1/4 of its cube; the larger w (H g) stays, by its sign."""
    model = linear([[w], [w]])
    pruner = attach(GraSP(images_per_class=1), model)
    pruner.prepare([batch([[2.0]], [0])])
    assert values(model.weight) == approx(*kept)


def test_curvature_by_hand():
    """Logits over 4: H g is x^3 / 4^3 times -1/4 and 1/4, 1/8 for x = 2."""
    model = linear([[1.0], [1.0]])
    product = scores.curvature(model, [model.weight], batch([[2.0]], [0]), 4.0)
    assert values(product[0]) == approx(-1 / 32, 1 / 32)


@pytest.mark.parametrize(
    ("sparsity", "rounds", "kept"), [(0.5, 1, [0.0, -2.0, 3.0, 0.0]), (0.25, 1, [1.0, -2.0, 3.0, 0.0])]
)
def test_synflow_keeps_the_strongest_paths(sparsity: float, rounds: int, kept: list[float]):
    """R = (1 + 2) (3 + 1) for an input of ones: the scores are 4, 8, 9 and 3, whatever the signs."""
    model = torch.nn.Sequential(linear([[1.0, -2.0]]), linear([[3.0], [-1.0]]))
    pruner = attach(SynFlow(rounds=rounds), model, sparsity=sparsity)
    pruner.prepare([batch([[-7.0, 9.0]], [0])])
    assert values(model[0].weight) + values(model[1].weight) == approx(*kept)


def test_synflow_scores_anew_in_each_round():
    """Scores are 8.8, 13.2, 12 and 10: of two that one round keeps, the second and the third stay.

    Three rounds keep 3.17, 2.52 and 2 of four, rounded. Without 1, R = 1.5 * 8.8: the scores are 13.2, 7.2 and 6, and
    again the last goes, but not the only path; a tie of the last round would go to the first layer.
    """
    model = torch.nn.Sequential(linear([[1.0, -1.5]]), linear([[4.8], [4.0]]))
    pruner = attach(SynFlow(rounds=3), model)
    pruner.prepare([batch([[0.0, 0.0]], [0])])
    assert values(model[0].weight) + values(model[1].weight) == approx(0.0, -1.5, 4.8, 0.0)


# --- AC/DC and GraNet


@pytest.mark.parametrize(
    ("settings", "epochs", "compressed", "dense"),
    [
        ({}, 100, [10, 20, 30, 40, 50, 60, 70, 85], [15, 25, 35, 45, 55, 65, 75]),
        (
            {"phase": 20, "final_dense": 20, "final_compressed": 30},
            200,
            [10, 50, 90, 130, 170],
            [30, 70, 110, 150],
        ),
    ],
)
def test_acdc_phases_are_those_of_the_paper(settings: dict[str, int], epochs: int, compressed: list, dense: list):
    """ResNet-50 on ImageNet, and WRN-28-10 on CIFAR-100."""
    phases = ACDC(**settings).compressed(epochs)
    assert [epoch for epoch, is_compressed in phases.items() if is_compressed] == compressed
    assert [epoch for epoch, is_compressed in phases.items() if not is_compressed] == dense


def test_acdc_lifts_the_mask_and_all_momentum():
    """Compressed after epoch 1, dense from 2 on: pruned weights go on from zero, and the bias forgets its momentum."""
    model = linear([[1.0, -2.0, 0.5, 4.0]], bias=0.0)
    chosen = ACDC(warmup=1, phase=1, final_dense=1, final_compressed=1)
    pruner = attach(chosen, model, epochs=4, momentum=0.5)
    assert pruner.after_epoch(1)
    step(pruner, [[1.0, 1.0, 1.0, 1.0]], [1.0])
    assert values(model.weight) == approx(0.0, -2.5, 0.0, 3.5)
    assert not pruner.after_epoch(2)
    step(pruner, [[1.0, 0.0, 0.0, 0.0]], [0.0])
    assert values(model.weight) == approx(-0.5, -2.5, 0.0, 3.5)
    assert values(model.bias) == approx(-0.5)
    assert pruner.after_epoch(3)
    assert values(model.weight) == approx(0.0, -2.5, 0.0, 3.5)


def test_granet_prunes_to_the_cubic_and_moves_what_is_smallest():
    """Dense at first, updates after iterations 1 and 2 of 2: to 1/2 (1 - 1/8) of eight, rounded 4 (of 3.5, to even).

    r is 0.005 + 0.245 (1 + cos(pi / 2)) = 0.25 of four: the smallest is dropped, and the largest gradient of the
    others grows, here that of a weight that was pruned, from zero.
    """
    model = linear([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]])
    chosen = GraNet(initial_density=1.0, update_interval=1, drop_fraction=0.495, prune_until=1.0)
    pruner = attach(chosen, model, iterations=2, lr=1.0)
    step(pruner, [[0.5, 0.25, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]])
    assert values(pruner.masks[0]) == [1, 0, 0, 0, 0, 1, 1, 1]
    assert values(model.weight) == approx(0.0, 0.0, 0.0, 0.0, 0.0, 6.0, 7.0, 8.0)
    step(pruner, [[-1.0, 9.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]])
    assert values(pruner.masks[0]) == [0, 1, 0, 0, 0, 1, 1, 1]


def test_granet_starts_where_its_target_is():
    model = linear([[1.0, 2.0, 3.0, 4.0]])
    pruner = attach(GraNet(update_interval=1), model, sparsity=0.25, iterations=2)
    assert sum(values(pruner.masks[0])) == 3


# --- N:M


def kept_in_groups(weight: torch.Tensor, n: int, m: int) -> torch.Tensor:
    buffer = grouped_buffer([weight])
    keep_in_groups([weight], n, m, buffer)
    return buffer.views[0]


def test_sr_ste_sees_the_largest_of_each_group_and_refines_the_others():
    """Steps of 0.5: all get the gradient 1, the pruned ones 0.2 of themselves besides."""
    model = linear([[1.0, -2.0, 4.0, 3.0]])
    pruner = attach(SRSTE(pattern="1:2", refinement=0.2), model)
    assert seen(pruner) == [0.0, -2.0, 4.0, 0.0]
    step(pruner, [[1.0, 1.0, 1.0, 1.0]])
    assert values(model.weight) == approx(1 - 0.6, -2.5, 3.5, 3 - 0.8)
    assert pruner.finalize() is False
    assert values(model.weight) == approx(0.0, -2.5, 3.5, 0.0)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_groups_of_a_convolution_are_channels_at_one_place(layout: torch.memory_format):
    """Filter, channel, one row of two places: channels 1 to 4 have 1 2 3 4 on the left, and 4 3 2 1 on the right."""
    weight = torch.tensor([[1.0, 4.0], [2.0, 3.0], [3.0, 2.0], [4.0, 1.0]]).view(1, 4, 1, 2).to(memory_format=layout)
    assert values(kept_in_groups(weight, 2, 4)) == [0, 1, 0, 1, 1, 0, 1, 0]


@pytest.mark.parametrize(("n", "m"), [(1, 2), (2, 4), (3, 8), (5, 16)])
def test_every_group_keeps_exactly_n_also_of_equal_weights(n: int, m: int):
    """Of a group of zeros the first stay; more groups than a block holds."""
    weight = torch.randint(-1, 2, (300, 512), generator=torch.Generator().manual_seed(0)).float()
    mask = kept_in_groups(weight, n, m).view(-1, m)
    assert set(mask.sum(1).tolist()) == {n}
    expected = weight.view(-1, m).abs().argsort(dim=1, descending=True, stable=True)[:, :n]
    assert torch.equal(torch.zeros_like(mask).scatter_(1, expected, 1.0), mask)


@pytest.mark.parametrize("pattern", ["4:2", "2:2", "0:4", "2:4:8", "50%", "", "-1:4"])
def test_what_is_no_pattern_is_refused(pattern: str):
    with pytest.raises(ValueError, match="is no pattern: N:M keeps N of every M"):
        parsed(pattern)


def test_layers_that_a_pattern_does_not_divide_stay_dense_and_are_named(caplog: pytest.LogCaptureFixture):
    model = torch.nn.Sequential(linear([[1.0, 2.0, 3.0]]), linear([[1.0, 2.0, 3.0, 4.0]]))
    pruner = attach(SRSTE(pattern="1:4"), model)
    assert "1:4 does not divide the inputs of 0.weight: dense" in caplog.text
    pruner.finalize()
    assert values(model[0].weight) + values(model[1].weight) == [1, 2, 3, 0, 0, 0, 4]
    with pytest.raises(UserError, match="fits no layer"):
        attach(SRSTE(pattern="1:5"), model)
