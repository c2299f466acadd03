"""Every method on four weights, with weights, gradients and results worked out by hand."""

from __future__ import annotations

from contextlib import nullcontext
from math import exp, log
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prunesweep.workers.errors import UserError
from prunesweep.workers.methods.base import Method
from prunesweep.workers.methods.cs import CS
from prunesweep.workers.methods.dnw import DNW
from prunesweep.workers.methods.dpf import DPF
from prunesweep.workers.methods.dst import DST
from prunesweep.workers.methods.gmp import GMP
from prunesweep.workers.methods.gsm import GSM
from prunesweep.workers.methods.lc import LC
from prunesweep.workers.methods.pruner import Pruner, Setup
from prunesweep.workers.methods.str import STR
from prunesweep.workers.optimizers import make_optimizer
from prunesweep.workers.selection import magnitude_masks
from prunesweep.workers.spec import TrainSpec


def linear(rows: list[list[float]], *, bias: float | None = None) -> nn.Linear:
    weight = torch.tensor(rows, dtype=torch.float64)
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, dtype=torch.float64)
    layer.weight.data.copy_(weight)
    if bias is not None:
        layer.bias.data.fill_(bias)
    return layer


def attach(
    method: Method,
    model: nn.Module,
    *,
    sparsity: float = 0.5,
    epochs: int = 1,
    iterations: int = 1,
    lr: float = 0.5,
    momentum: float = 0.0,
    nesterov: bool = False,
    decay: float = 0.0,
    seed: int = 0,
) -> Any:
    """The method's pruner on this model, with its optimizer."""
    weights = {name: weight for name, weight in model.named_parameters() if weight.dim() >= 2}
    pruner = method.pruner(Setup(model, weights, sparsity, epochs, iterations, seed))
    train = TrainSpec(lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=decay)
    pruner.optimizer = make_optimizer(model, pruner, train)
    return pruner


def backward(pruner: Pruner, *gradients: list) -> None:
    """A loss with these gradients at what the model's parameters are in the view."""
    with pruner.view():
        pairs = zip(pruner.model.parameters(), gradients, strict=True)
        loss = sum((p * torch.tensor(gradient, dtype=p.dtype)).sum() for p, gradient in pairs)
        torch.autograd.backward(loss + pruner.regularization())
    pruner.adjust_gradients()
    pruner.adjust_decay()


def step(pruner: Pruner, *gradients: list) -> None:
    backward(pruner, *gradients)
    if not pruner.replace_step():
        pruner.optimizer.step()
    pruner.iteration += 1
    pruner.after_step()
    pruner.optimizer.zero_grad()


def seen(pruner: Pruner) -> list[float]:
    """The first layer's weights as the model computes with them."""
    with pruner.view():
        return values(next(pruner.model.parameters()))


def values(tensor: Tensor) -> list[float]:
    return tensor.detach().flatten().tolist()


def approx(*expected: float) -> object:
    return pytest.approx(list(expected), rel=1e-12, abs=1e-15)


# --- GSM


def test_gsm_keeps_the_gradient_of_the_most_salient_and_decays_all():
    """|w g| is 3, 2, 4, 1: the first and the third learn, w - 0.1 (g + 0.1 w); the others shrink by 1 %."""
    method, model = GSM(), linear([[1.0, -2.0, 0.5, 4.0]])
    pruner = attach(method, model, lr=0.1, decay=0.1)
    step(pruner, [[3.0, 1.0, -8.0, 0.25]])
    assert values(model.weight) == approx(1 - 0.31, -2 * 0.99, 0.5 + 0.795, 4 * 0.99)


def test_gsm_ranks_no_bias_and_leaves_it_its_gradient():
    """The bias would be most salient, and takes no place: two weights learn."""
    method, model = GSM(), linear([[1.0, 2.0, 3.0, 4.0]], bias=100.0)
    pruner = attach(method, model)
    step(pruner, [[1.0, 1.0, 1.0, 1.0]], [100.0])
    assert values(model.weight) == approx(1.0, 2.0, 2.5, 3.5)
    assert values(model.bias) == approx(50.0)


def test_gsm_momentum_moves_a_weight_whose_gradient_is_gone():
    """The first weight learns in the first step alone; half of that step is repeated in the second."""
    method, model = GSM(), linear([[4.0, 1.0, 0.0, 0.0]])
    pruner = attach(method, model, sparsity=0.75, momentum=0.5)
    step(pruner, [[2.0, 1.0, 0.0, 0.0]])
    assert values(model.weight) == approx(3.0, 1.0, 0.0, 0.0)
    step(pruner, [[2.0, 7.0, 0.0, 0.0]])
    assert values(model.weight) == approx(2.5, -2.5, 0.0, 0.0)


def test_gsm_prunes_by_magnitude_at_the_end():
    method, model = GSM(), linear([[1.0, -2.0, 0.5, 4.0]])
    pruner = attach(method, model)
    assert pruner.finalize()
    assert values(model.weight) == [0.0, -2.0, 0.0, 4.0]


# --- LC


def test_lc_decays_the_smallest_weights_alone():
    """1 and 0.5 lose 0.5 * 0.2 of themselves; the bias has the ordinary decay, 0.5 * 0.1."""
    method, model = LC(penalty=0.2), linear([[1.0, -2.0, 0.5, 4.0]], bias=1.0)
    pruner = attach(method, model, decay=0.1)
    step(pruner, [[0.0, 0.0, 0.0, 0.0]], [0.0])
    assert values(model.weight) == approx(0.9, -2.0, 0.45, 4.0)
    assert values(model.bias) == approx(0.95)


def test_lc_adds_the_penalty_to_the_gradient_of_the_loss():
    """w - 0.5 (g + 0.1 w) for the smallest two, w - 0.5 g for the others; the penalty is the weight decay."""
    method, model = LC(), linear([[1.0, -2.0, 0.5, 4.0]])
    pruner = attach(method, model, decay=0.1)
    step(pruner, [[1.0, 2.0, -3.0, -4.0]])
    assert values(model.weight) == approx(1 - 0.55, -3.0, 0.5 + 1.475, 6.0)


def test_lc_penalty_goes_through_momentum():
    """Buffers of 1: 0.2, then 0.9 * 0.2 + 0.2 * 0.9 = 0.36; of 0.5 half of that."""
    method, model = LC(penalty=0.2), linear([[1.0, -2.0, 0.5, 4.0]])
    pruner = attach(method, model, epochs=1, iterations=2, momentum=0.9, decay=0.1)
    step(pruner, [[0.0, 0.0, 0.0, 0.0]])
    assert values(model.weight) == approx(0.9, -2.0, 0.45, 4.0)
    step(pruner, [[0.0, 0.0, 0.0, 0.0]])
    assert values(model.weight) == approx(0.9 - 0.18, -2.0, 0.45 - 0.09, 4.0)


def test_lc_penalty_goes_through_nesterov_momentum():
    """Steps of 1: 0.2 + 0.9 * 0.2 = 0.38; with buffer 0.18 + 0.162 then 0.162 + 0.9 * 0.342 = 0.4698."""
    method, model = LC(penalty=0.2), linear([[1.0, -2.0, 0.5, 4.0]])
    pruner = attach(method, model, epochs=1, iterations=2, momentum=0.9, nesterov=True, decay=0.1)
    step(pruner, [[0.0, 0.0, 0.0, 0.0]])
    assert values(model.weight) == approx(0.81, -2.0, 0.405, 4.0)
    step(pruner, [[0.0, 0.0, 0.0, 0.0]])
    assert values(model.weight) == approx(0.81 - 0.2349, -2.0, 0.405 - 0.11745, 4.0)


def test_lc_penalty_grows_from_epoch_to_epoch():
    """Two steps an epoch: 0.2, 0.2, 0.4."""
    method, model = LC(penalty=0.2, penalty_growth=2.0), linear([[1.0, -2.0, 0.5, 4.0]])
    pruner = attach(method, model, epochs=2, iterations=2, decay=0.1)
    for factor in (0.9, 0.9 * 0.9, 0.9 * 0.9 * 0.8):
        step(pruner, [[0.0, 0.0, 0.0, 0.0]])
        assert values(model.weight) == approx(factor, -2.0, 0.5 * factor, 4.0)


# --- DPF


def test_dpf_trains_all_weights_by_the_gradient_at_the_masked_ones():
    """Two steps an epoch and a mask every second one; after one epoch of three s_1 = 7/8 s, which prunes two."""
    method, model = DPF(pruning_interval=1, mask_interval=2), linear([[1.0, -2.0, 0.5, 4.0]])
    pruner = attach(method, model, epochs=3, iterations=2)
    step(pruner, [[0.0, 0.0, 0.0, 0.0]])
    assert seen(pruner) == [1.0, -2.0, 0.5, 4.0], "no mask yet"
    step(pruner, [[0.0, 0.0, 0.0, 0.0]])
    assert seen(pruner) == [0.0, -2.0, 0.0, 4.0]
    assert values(model.weight) == [1.0, -2.0, 0.5, 4.0]
    step(pruner, [[-6.0, 1.0, 0.0, 0.0]])
    assert values(model.weight) == approx(4.0, -2.5, 0.5, 4.0)
    assert seen(pruner) == [0.0, -2.5, 0.0, 4.0], "the mask is as old as before"
    step(pruner, [[0.0, 0.0, 0.0, 0.0]])
    assert seen(pruner) == [4.0, 0.0, 0.0, 4.0], "the first weight is back"
    assert values(model.weight) == approx(4.0, -2.5, 0.5, 4.0)
    assert pruner.finalize()
    assert values(model.weight) == [4.0, 0.0, 0.0, 4.0]


def test_dpf_prunes_nothing_before_the_first_interval_is_over():
    method, model = DPF(pruning_interval=1, mask_interval=1), linear([[1.0, -2.0, 0.5, 4.0]])
    pruner = attach(method, model, epochs=3, iterations=2)
    step(pruner, [[0.0, 0.0, 0.0, 0.0]])
    assert seen(pruner) == [1.0, -2.0, 0.5, 4.0]
    step(pruner, [[0.0, 0.0, 0.0, 0.0]])
    assert seen(pruner) == [0.0, -2.0, 0.0, 4.0]


@pytest.mark.parametrize(("interval", "works"), [(5, True), (6, False)])
def test_dpf_needs_a_sparse_mask_before_the_last_iteration(interval: int, works: bool):
    """Three epochs of two: the mask after the fifth is seen by the sixth, the one after the sixth by none."""
    model = linear([[1.0, 2.0, 3.0, 4.0]])
    with nullcontext() if works else pytest.raises(UserError, match=r"mask_interval: 6 iterations .* last of 6"):
        attach(DPF(pruning_interval=1, mask_interval=interval), model, epochs=3, iterations=2)


def test_dpf_final_mask_is_that_of_the_final_weights():
    """The last mask, after the second step, kept the last two; the third step makes the first one the largest."""
    method, model = DPF(pruning_interval=1, mask_interval=2), linear([[1.0, 2.0, 3.0, 4.0]])
    pruner = attach(method, model, epochs=3, iterations=1)
    for gradient in (0.0, 0.0, -10.0):
        step(pruner, [[gradient, 0.0, 0.0, 0.0]])
    assert seen(pruner) == [0.0, 0.0, 3.0, 4.0]
    pruner.finalize()
    assert values(model.weight) == [6.0, 0.0, 0.0, 4.0]


# --- DNW


def test_dnw_sees_the_largest_and_updates_all():
    """w - 0.5 (g + 0.2 w), for seen and unseen alike; then the first is among the largest two, and -2 is not."""
    method, model = DNW(), linear([[1.0, -2.0, 0.5, 4.0]])
    pruner = attach(method, model, decay=0.2)
    assert seen(pruner) == [0.0, -2.0, 0.0, 4.0]
    step(pruner, [[-6.0, 1.0, 2.0, 0.0]])
    assert values(model.weight) == approx(3.9, -2.3, -0.55, 3.6)
    assert seen(pruner) == approx(3.9, 0.0, 0.0, 3.6)
    assert not pruner.finalize()
    assert values(model.weight) == approx(3.9, 0.0, 0.0, 3.6)


def test_dnw_by_layer_keeps_a_layer_of_small_weights():
    model = nn.Sequential(linear([[1.0, 2.0]]), linear([[30.0], [40.0]]))
    for allocation, expected in (("global", [0.0, 0.0]), ("uniform", [0.0, 2.0])):
        method = DNW(allocation=allocation)
        pruner = attach(method, model)
        assert seen(pruner) == expected


# --- STR


def test_str_shrinks_by_the_sigmoid_and_learns_the_threshold():
    """The threshold is sigmoid(0) = 1/2, with slope 1/4; dt = -(1 * 1 + 2 * (-1) + (-4) * 1) / 4 = 5/4."""
    method, model = STR(s_initial=0.0), linear([[1.0, -2.0, 0.25, 4.0]])
    pruner = attach(method, model, lr=0.1, decay=0.1)
    assert seen(pruner) == approx(0.5, -1.5, 0.0, 3.5)
    backward(pruner, [[1.0, 2.0, 3.0, -4.0]])
    assert values(model.weight.grad) == approx(1.0, 2.0, 0.0, -4.0)
    assert values(pruner.threshold.grad) == approx(1.25)
    pruner.optimizer.step()
    assert values(model.weight) == approx(1 - 0.11, -2 - 0.18, 0.25 * 0.99, 4 + 0.36)
    assert values(pruner.threshold) == approx(-0.125)


def test_str_decays_the_threshold_towards_sparsity():
    """A t of -log 3 is a threshold of 1/4; with weight decay 1/2 and learning rate 1 half of t remains."""
    method, model = STR(s_initial=-log(3)), linear([[1.0, -2.0, 0.25, 0.125]])
    pruner = attach(method, model, lr=1.0, decay=0.5)
    assert seen(pruner) == approx(0.75, -1.75, 0.0, 0.0)
    step(pruner, [[0.0, 0.0, 0.0, 0.0]])
    assert values(pruner.threshold) == approx(-log(3) / 2)


def test_str_has_a_threshold_for_each_layer():
    """Slope 1/4: dt is -(3 + 5) / 4 in the first layer and -7 / 4 in the second, whose small weight is cut."""
    method = STR(s_initial=0.0)
    pruner = attach(method, nn.Sequential(linear([[1.0, 1.0]]), linear([[1.0], [0.5]])))
    backward(pruner, [[3.0, 5.0]], [[7.0], [9.0]])
    assert values(pruner.threshold.grad) == approx(-2.0, -1.75)


def test_str_survivors_keep_their_shrinkage():
    method, model = STR(s_initial=0.0), linear([[1.0, -2.0, 0.25, 4.0]])
    pruner = attach(method, model)
    assert not pruner.finalize()
    assert values(model.weight) == approx(0.5, -1.5, 0.0, 3.5)


# --- DST


def test_dst_cuts_below_the_threshold_and_learns_it_through_a_slope_of_three_pieces():
    """Thresholds 0.3 and 0.8: |w| - t is -0.1, 0.2 and 1.2, -0.7, where the slope is 1.6, 1.2 and 0, 0.4.

    dw = g (step + |w| slope), dt = -sum(g w slope), and the penalty's -0.5 exp(-t).
    """
    method, model = DST(penalty=0.5), linear([[0.2, -0.5], [2.0, 0.1]])
    pruner = attach(method, model)
    pruner.threshold.data.copy_(torch.tensor([0.3, 0.8], dtype=torch.float64))
    assert seen(pruner) == approx(0.0, -0.5, 2.0, 0.0)
    backward(pruner, [[1.0, 2.0], [3.0, 4.0]])
    assert values(model.weight.grad) == approx(0.32, 2 * 1.6, 3.0, 4 * 0.04)
    assert values(pruner.threshold.grad) == approx(0.88 - 0.5 * exp(-0.3), -0.16 - 0.5 * exp(-0.8))


def test_dst_slope_at_its_seams():
    """With t = 0 and g = 1, dw is 1 + |w| slope: at 0.4 the pieces meet, at 1 it still is 0.4, beyond 0."""
    method, model = DST(penalty=0.0), linear([[0.4, 0.6, 1.0, -1.0 - 2.0**-52]])
    pruner = attach(method, model)
    backward(pruner, [[1.0, 1.0, 1.0, 1.0]])
    assert values(model.weight.grad) == approx(1.16, 1.24, 1.4, 1.0)


def test_dst_begins_dense_and_the_penalty_draws_thresholds_up():
    """At t = 0 its gradient is -penalty: t = 0.5 * 0.2."""
    method, model = DST(penalty=0.2), linear([[0.05, -0.5], [2.0, 0.1]])
    pruner = attach(method, model)
    assert seen(pruner) == [0.05, -0.5, 2.0, 0.1]
    step(pruner, [[0.0, 0.0], [0.0, 0.0]])
    assert values(pruner.threshold) == approx(0.1, 0.1)
    assert seen(pruner) == approx(0.0, -0.5, 2.0, 0.0)


def test_dst_decays_thresholds_once():
    method, model = DST(penalty=0.0), linear([[0.2, -0.5], [2.0, 0.1]])
    pruner = attach(method, model, decay=0.2)
    pruner.threshold.data.fill_(0.125)
    step(pruner, [[0.0, 0.0], [0.0, 0.0]])
    assert values(pruner.threshold) == approx(0.1125, 0.1125)
    assert values(model.weight) == approx(0.18, -0.45, 1.8, 0.09)


@pytest.mark.parametrize(("above", "starved"), [(0, True), (1, True), (2, False)])
def test_dst_resets_a_layer_that_keeps_at_most_one_percent(above: int, starved: bool):
    """A hundred weights in each of two layers; only the starved one gets thresholds of 0."""
    first = linear([[3.0] * above + [1.0] * (100 - above)])
    method = DST(penalty=0.0)
    pruner = attach(method, nn.Sequential(first, linear([[3.0]] * 100)))
    pruner.threshold.data.fill_(2.0)
    assert seen(pruner) == (values(first.weight) if starved else [3.0] * above + [0.0] * (100 - above))
    assert values(pruner.threshold) == [0.0 if starved else 2.0] + [2.0] * 100


# --- CS


def test_cs_begins_with_the_weights_themselves():
    """c = 1 / sigmoid(log 3) = 4/3, and 4/3 * 3/4 = 1."""
    method = CS(s_initial=log(3))
    pruner = attach(method, linear([[1.0, -2.0, 0.5, 4.0]]))
    assert seen(pruner) == approx(1.0, -2.0, 0.5, 4.0)


@pytest.mark.parametrize(("iteration", "beta"), [(0, 1.0), (1, 3.0)])
def test_cs_gradients_of_weights_and_soft_masks(iteration: int, beta: float):
    """beta is 9^(k/2), c is 2; sigmoid(beta m) is 3/4, 1/4, 1/2, 3/4.

    dw = c g soft and dm = (c g w + penalty) beta soft (1 - soft).
    """
    method, model = CS(s_initial=0.0, beta_final=9.0, penalty=0.1), linear([[1.0, -2.0, 0.5, 4.0]])
    pruner = attach(method, model, epochs=2, iterations=1)
    pruner.iteration = iteration
    pruner.m.data.copy_(torch.tensor([log(3), -log(3), 0.0, log(3)], dtype=torch.float64) / beta)
    assert seen(pruner) == approx(1.5, -1.0, 0.5, 6.0)
    backward(pruner, [[1.0, 2.0, 3.0, 4.0]])
    assert values(model.weight.grad) == approx(1.5, 1.0, 3.0, 6.0)
    expected = [2.1 * 3 / 16, -7.9 * 3 / 16, 3.1 / 4, 32.1 * 3 / 16]
    assert values(pruner.m.grad) == approx(*(beta * value for value in expected))


def test_cs_decays_soft_masks_like_weights():
    """Without a gradient w and m lose 0.5 * 0.2 of themselves; at m = 1 the penalty is 0."""
    method, model = CS(s_initial=1.0, penalty=0.0), linear([[1.0, -2.0, 0.5, 4.0]])
    pruner = attach(method, model, decay=0.2)
    step(pruner, [[0.0, 0.0, 0.0, 0.0]])
    assert values(model.weight) == approx(0.9, -1.8, 0.45, 3.6)
    assert values(pruner.m) == approx(0.9, 0.9, 0.9, 0.9)


def test_cs_keeps_what_is_above_zero_as_it_is_at_the_end():
    """beta is 9 at the end: sigmoid(9 * log(3) / 9) = 3/4, times c = 2; m = 0 is pruned."""
    method, model = CS(s_initial=0.0, beta_final=9.0), linear([[1.0, -2.0, 0.5, 4.0]])
    pruner = attach(method, model, epochs=2, iterations=1)
    pruner.iteration = 2
    pruner.m.data.copy_(torch.tensor([log(3), -log(3), 0.0, log(3)], dtype=torch.float64) / 9)
    assert pruner.finalize()
    assert values(model.weight) == approx(1.5, 0.0, 0.0, 6.0)


# --- GMP


def test_gmp_prunes_to_the_cubic():
    """54 weights to s = 1/2 in S = 3 prunes: 27 (1 - (2/3)^3) = 19, 27 (1 - (1/3)^3) = 26, and 27; none at the end."""
    method, model = GMP(pruning_interval=1), linear([[float(i) for i in range(1, 55)]])
    pruner = attach(method, model, epochs=4)
    for epoch, zeros in ((1, 19), (2, 26), (3, 27)):
        assert pruner.after_epoch(epoch)
        assert values(model.weight) == [0.0] * zeros + [float(i) for i in range(zeros + 1, 55)]
    assert not pruner.after_epoch(4)


def test_gmp_prunes_at_the_ends_of_intervals_alone():
    """Interval 2 of 7 epochs: S = floor(7 / 2) - 1 = 2 prunes, at the ends of epochs 2 and 4."""
    method = GMP(pruning_interval=2)
    pruner = attach(method, linear([[1.0, 2.0, 3.0, 4.0]]), epochs=7)
    assert [epoch for epoch in range(1, 8) if pruner.after_epoch(epoch)] == [2, 4]


@pytest.mark.parametrize(("recover", "expected"), [(False, [0.0, 0.0, 0.5, 4.0]), (True, [0.0, 2.0, 0.0, 4.0])])
def test_gmp_brings_a_weight_back_only_with_recover(recover: bool, expected: list[float]):
    """The first prune takes 1 and 2; then 3 falls to 0.5, which is less than the 2 that is set aside."""
    method, model = GMP(pruning_interval=1, recover=recover), linear([[1.0, 2.0, 3.0, 4.0]])
    pruner = attach(method, model, epochs=3, momentum=0.9)
    pruner.after_epoch(1)
    assert values(model.weight) == [0.0, 0.0, 3.0, 4.0]
    step(pruner, [[7.0, 7.0, 5.0, 0.0]])
    assert values(model.weight) == approx(0.0, 0.0, 0.5, 4.0)
    pruner.after_epoch(2)
    assert values(model.weight) == approx(*expected)
    assert values(pruner.optimizer.state[model.weight]["momentum_buffer"]) == [0.0, 0.0, 0.0 if recover else 5.0, 0.0]


def test_pruned_weights_lose_their_momentum_for_good():
    """Buffers are 1 after a step, 1.5 after another; those of the first two end with the prune between them."""
    method, model = Method(), linear([[1.0, 2.0, 3.0, 4.0]])
    pruner = attach(method, model, lr=0.1, momentum=0.5, decay=0.0)
    step(pruner, [[1.0, 1.0, 1.0, 1.0]])
    assert values(model.weight) == approx(0.9, 1.9, 2.9, 3.9)
    pruner.hold(magnitude_masks([model.weight], 0.5))
    step(pruner, [[1.0, 1.0, 1.0, 1.0]])
    assert values(model.weight) == approx(0.0, 0.0, 2.75, 3.75)


# --- how many weights each layer keeps, and which


def kept_by(allocation: str, sparsity: float, *layers: list[list[float]]) -> list[list[float]]:
    weights = [torch.tensor(rows) for rows in layers]
    return [
        values(w * mask) for w, mask in zip(weights, magnitude_masks(weights, sparsity, allocation).views, strict=True)
    ]


SMALL, LARGE = [[1.0, -2.0], [3.0, 4.0]], [[-10.0, 9.0, 8.0, 7.0]]


def test_global_ranks_all_layers_together():
    assert kept_by("global", 0.5, SMALL, LARGE) == [[0, 0, 0, 0], [-10, 9, 8, 7]]


def test_uniform_keeps_the_same_fraction_of_every_layer():
    assert kept_by("uniform", 0.5, SMALL, LARGE) == [[0, 0, 3, 4], [-10, 9, 0, 0]]


def test_uniform_gives_an_odd_weight_to_the_first_of_equal_layers():
    """Three of six are kept: 1.5 and 1.5."""
    assert kept_by("uniform", 0.5, [[1.0, 2.0, 3.0]], [[4.0, 5.0, 6.0]]) == [[0, 2, 3], [0, 0, 6]]


def test_uniform_gives_an_odd_weight_to_the_largest_remainder():
    """Five of nine are kept: 5/9 of 2, 3 and 4 are 1.11, 1.67 and 2.22."""
    layers = ([[1.0, 1.0]], [[1.0, 1.0, 1.0]], [[1.0, 1.0, 1.0, 1.0]])
    assert [sum(layer) for layer in kept_by("uniform", 4 / 9, *layers)] == [1, 2, 2]


def test_erk_keeps_in_proportion_to_the_sum_of_dimensions():
    """2 x 2 and 2 x 6 weights have shares 4 and 8 of the 8 that are kept: 2.67 and 5.33. Uniform would keep 2 and 6."""
    square, wide = [[1.0, 2.0], [3.0, 4.0]], [[float(i) for i in range(j, j + 6)] for j in (11, 17)]
    erk = kept_by("erk", 0.5, square, wide)
    assert erk == [[0, 2, 3, 4], [0, 0, 0, 0, 0, 0, 0, 18, 19, 20, 21, 22]]
    uniform = kept_by("uniform", 0.5, square, wide)
    assert uniform == [[0, 0, 3, 4], [0, 0, 0, 0, 0, 0, 17, 18, 19, 20, 21, 22]]


def test_erk_fills_a_small_layer_and_gives_the_rest_to_the_others():
    """14 of the same 16 weights are kept: a third would be 4.67 of 4, so the other layer keeps 10."""
    square, wide = [[1.0, 2.0], [3.0, 4.0]], [[float(i) for i in range(j, j + 6)] for j in (11, 17)]
    assert kept_by("erk", 0.125, square, wide) == [[1, 2, 3, 4], [0, 0, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22]]


def test_erk_counts_the_kernel_of_a_convolution():
    """Shares are 1 + 2 + 3 + 3 = 9 and 2 + 4 = 6 of the 10 that are kept."""
    weights = [torch.ones(1, 2, 3, 3), torch.ones(2, 4)]
    assert [int(mask.sum()) for mask in magnitude_masks(weights, 16 / 26, "erk").views] == [6, 4]


@pytest.mark.parametrize("allocation", ["uniform", "erk"])
def test_a_layer_keeps_no_weight_that_was_pruned_before(allocation: str):
    """Four are to be kept, but only one of the first layer is left: the second keeps three."""
    assert kept_by(allocation, 0.5, [[0.0, 0.0], [0.0, 4.0]], LARGE) == [[0, 0, 0, 4], [-10, 9, 8, 0]]


def test_lamp_ranks_squares_over_those_of_the_layer_that_are_no_smaller():
    """16/16, 9/25, 4/29, 1/30 and 100/100, 81/181, 64/245, 49/294: the five largest are 1, 1, 0.45, 0.36, 0.26."""
    assert kept_by("lamp", 0.5, SMALL, LARGE) == [[0, 0, 3, 4], [-10, 9, 0, 0]]
    assert kept_by("lamp", 3 / 8, SMALL, LARGE) == [[0, 0, 3, 4], [-10, 9, 8, 0]]


def test_lamp_scores_of_equal_weights_fall():
    """1, 1/2, 1/3, 1/4 in the first layer, 1 and 1/5 in the second: four kept are three and one."""
    assert kept_by("lamp", 1 / 3, [[2.0, 2.0, -2.0, 2.0]], [[4.0, 2.0]]) == [[2, 2, -2, 0], [4, 0]]


# --- ties


def test_on_ties_the_lowest_index_wins_in_row_major_order():
    assert kept_by("global", 0.5, [[1.0, -1.0], [1.0, 1.0]]) == [[1, -1, 0, 0]]


def test_on_ties_the_first_layer_wins():
    assert kept_by("global", 0.5, [[1.0, -1.0]], [[1.0, 1.0]]) == [[1, -1], [0, 0]]
    assert kept_by("global", 0.75, [[1.0, 0.5]], [[1.0, 1.0]]) == [[1, 0], [0, 0]]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("allocation", ["global", "uniform", "erk", "lamp"])
def test_ties_do_not_know_the_memory_layout(layout: torch.memory_format, allocation: str):
    """Of two filters of 2 x 2 x 2 equal weights a quarter is the first channel of the first, half the first filter."""
    weight = torch.ones(2, 2, 2, 2).to(memory_format=layout)
    assert values(magnitude_masks([weight], 0.75, allocation).views[0]) == [1.0] * 4 + [0.0] * 12
    assert values(magnitude_masks([weight], 0.5, allocation).views[0]) == [1.0] * 8 + [0.0] * 8


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gsm_on_ties_learns_the_first_channel(layout: torch.memory_format):
    """Both channels of one filter are equally salient."""
    model = nn.Conv2d(2, 1, 2, bias=False).to(memory_format=layout)
    model.weight.data.fill_(1.0)
    method = GSM()
    pruner = attach(method, model)
    step(pruner, torch.ones(1, 2, 2, 2).tolist())
    assert values(model.weight) == [0.5] * 4 + [1.0] * 4
