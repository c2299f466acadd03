"""Every kind of network is measured right, or refused by the layer's name."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from prunesweep.workers.errors import Ineffective, UserError
from prunesweep.workers.measure import layer_costs, summary
from prunesweep.workers.prunable import prunable, require_effective
from prunesweep.workers.recording import record
from prunesweep.workers.selection import apply_masks, magnitude_masks
from tests.workers import zoo, zoo_published
from tests.workers.zoo import SHAPE
from tests.workers.zoo_published import SecondLook

COUNT = 16

MEASURED, REFUSED = zoo.MEASURED | zoo_published.MEASURED, zoo.REFUSED | zoo_published.REFUSED

BY_HAND = {
    # Each of 8 places: two layers' 24 x 8 and 24 x 6, and 24 x 6 and 24 x 6; the head.
    "lstm": 8 * (24 * 8 + 3 * 24 * 6) + 30,
    "bilinear": 5 * 7 * 6,
    # 15 images have 6 of 8 places, one all: in and out projections and two linear layers of a place, two products of
    # attention of places squared.
    # The offsets' 18 filters and 4 that are deformed, of 9 values each at 64 places; the head.
    "deformable": 64 * 9 * (18 + 4) + 20,
    "sequences of unlike lengths": ((15 * 6 + 8) * (192 + 64 + 256) + 2 * 8 * (15 * 36 + 64) + 16 * 40) / 16,
}
"""Multiply-adds of an image, of what torch's counter does not see."""


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def images() -> torch.Tensor:
    return torch.randn(COUNT, *SHAPE)


@pytest.mark.parametrize("name", MEASURED)
def test_prunable_weights_are_those_that_reach_a_kernel(name: str) -> None:
    make, expected = MEASURED[name]
    model = make()
    weights = prunable(model, record(model, images()))
    assert {name: tuple(weight.shape) for name, weight in weights.items()} == expected


@pytest.mark.parametrize("name", MEASURED)
def test_multiply_adds_are_all(name: str) -> None:
    """Beside torch's counter, which knows no fast paths of attention and no fused recurrent layers."""
    model = MEASURED[name][0]()
    recording = record(model, images())
    layers = layer_costs(prunable(model, recording), recording)
    total = sum(layer.multiply_adds for layer in layers)
    assert total == pytest.approx(BY_HAND[name] if name in BY_HAND else counted_by_torch(model), abs=len(layers) / 2)


def counted_by_torch(model: nn.Module) -> float:
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    model.eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(images())
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
    return counter.get_total_flops() / 2 / COUNT


@pytest.mark.parametrize("name", MEASURED)
def test_zeros_in_the_kernels_are_the_zeros_of_the_weights(name: str) -> None:
    model, given = MEASURED[name][0](), images()
    before = record(model, given)
    weights = prunable(model, before)
    apply_masks(list(weights.values()), magnitude_masks(list(weights.values()), 0.75).views)
    after = record(model, given)
    require_effective(model, weights, before, after)
    assert all(use.nonzero == use.expected for use in after.uses)
    costs = summary(model, layer_costs(weights, after))
    n = sum(weight.numel() for weight in weights.values())
    assert costs["reached_sparsity"] == round(0.75 * n) / n


@pytest.mark.parametrize("name", MEASURED)
def test_without_its_prunable_weights_a_network_costs_what_is_not_prunable(name: str) -> None:
    model, given = MEASURED[name][0](), images()
    weights = prunable(model, record(model, given))
    with torch.no_grad():
        for weight in weights.values():
            weight.zero_()
    costs = summary(model, layer_costs(weights, record(model, given)))
    share = costs["prunable_multiply_adds_share"]
    assert costs["nonzero_multiply_adds"] == pytest.approx(costs["multiply_adds"] * (1 - share))


@pytest.mark.parametrize("name", REFUSED)
def test_what_hides_a_weight_is_refused_by_name(name: str) -> None:
    make, said = REFUSED[name]
    model = make()
    with pytest.raises(UserError, match=said):
        prunable(model, record(model, images()))


@pytest.mark.parametrize("name", MEASURED)
def test_recording_leaves_network_and_random_numbers_as_they_were(name: str) -> None:
    model, given = MEASURED[name][0](), images()
    record(model, given)
    before, state = {n: t.clone() for n, t in model.state_dict().items()}, torch.get_rng_state()
    record(model, given)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in model.modules())


class Both(nn.Module):
    """Evaluates with its weight, and with a running average of it, which no mask prunes."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 64))
        self.register_buffer("average", torch.zeros(5, 64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x.flatten(1), self.weight) + nn.functional.linear(x.flatten(1), self.average)


def test_a_copy_that_training_has_changed_is_not_pruned_and_fails_the_stage() -> None:
    model, given = Both(), images()
    before = record(model, given)
    weights = prunable(model, before)
    require_effective(model, weights, before, record(model, given))
    model.average.copy_(model.weight.detach())
    with pytest.raises(Ineffective, match="a buffer that training has changed"):
        require_effective(model, weights, before, record(model, given))


def test_operations_that_depend_on_the_images_are_measured_on_more_of_them() -> None:
    """None of the first batch takes the second layer, half of another does, and all of a third."""
    model = SecondLook(threshold=0.0)
    batches = [torch.full((4, *SHAPE), -1.0), torch.full((4, *SHAPE), -1.0), torch.full((4, *SHAPE), 1.0)]
    batches[1][:2] = 1.0
    recording = record(model, batches[0], batches[1:])
    costs = summary(model, layer_costs(prunable(model, recording), recording))
    assert "second.weight" in prunable(model, recording)
    assert recording.images == 12
    assert costs["multiply_adds"] == 64 * 16 + 16 * 16 // 2 + 16 * 5


def test_where_images_decide_nothing_the_others_are_not_even_drawn() -> None:
    def others() -> Iterator[torch.Tensor]:
        pytest.fail("drawn")
        yield images()

    assert record(nn.Sequential(nn.Flatten(), nn.Linear(64, 5)), images(), others()).images == COUNT


def test_an_expert_that_hears_of_no_image_any_more_is_pruned_and_costs_nothing() -> None:
    model, given = zoo_published.TopExpert(), images()
    before = record(model, given)
    weights = prunable(model, before)
    with torch.no_grad():
        model.gate.weight.zero_()
        model.gate.bias.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0]))
        model.experts[3].weight[:, :32] = 0.0
    after = record(model, given)
    require_effective(model, weights, before, after)
    layers = {layer.name: layer for layer in layer_costs(weights, after)}
    assert (layers["experts.0.weight"].multiply_adds, layers["experts.3.weight"].multiply_adds) == (5 * 64, 0)
    assert layers["experts.3.weight"].nonzero == 5 * 32
