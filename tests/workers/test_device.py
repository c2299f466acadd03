"""The ways that code takes on an accelerator, on tensors that say they lie on one (`benchmarks.gpu.counting`)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.gpu.counting import Counts, Pretended, count_method, iteration, pretend
from prunesweep.workers import checkpoint
from prunesweep.workers.flat import Flat
from prunesweep.workers.methods import METHODS
from prunesweep.workers.methods.pruner import Pruner, Setup
from prunesweep.workers.selection import largest, magnitude_masks
from tests.contract import Awkward, method_of
from tests.networks import prunable_weights

INITIAL = ("snip", "grasp", "synflow")
"""They prune before training, and hold a mask in it."""

LAUNCHES = {
    **dict.fromkeys(("dense", "small_dense"), 0),
    **dict.fromkeys(("imp", "bimp", "random", "gmp", "static", "set", "rigl", "acdc", "granet", *INITIAL), 1),
    "dpf": 2,
    **dict.fromkeys(("gsm", "dnw", "lc"), 56),
    "str": 20,
    "sr_ste": 32,
    "dst": 40,
    "cs": 22,
}
"""The most launches of a method's own work in an iteration of ResNet-8; multi-tensor operations count once."""


def test_every_method_has_its_bound():
    assert LAUNCHES.keys() == METHODS.keys()


@pytest.mark.parametrize("name", METHODS)
def test_no_method_waits_for_a_device_in_an_iteration_and_launches_are_few(name: str):
    work = count_method(name, "resnet8")[0]
    assert work.waits.total() == 0, work.waits
    assert work.launches.total() <= LAUNCHES[name], work.launches


def test_a_read_back_and_a_number_from_the_host_are_counted_as_waits():
    with Counts() as counts:
        tensor = Pretended(torch.ones(3))
        assert float(tensor.sum()) == 3.0
        tensor.new_tensor(0.5)
        tensor[tensor > 0]
    assert counts.waits.total() == 3


def on_fake_gpu(model: nn.Module) -> None:
    """Put the model's parameters on a GPU that torch pretends: without numbers, but strict about devices and types."""
    for module in model.modules():
        for name, p in list(module.named_parameters(recurse=False)):
            there = torch.empty_strided(p.shape, p.stride(), dtype=p.dtype, device="cuda")
            setattr(module, name, nn.Parameter(there, p.requires_grad))


@pytest.mark.parametrize("name", METHODS)
def test_on_fake_tensors_of_a_gpu_nothing_is_read_and_nothing_is_on_the_wrong_device(name: str):
    """torch's own fake tensors raise when a number is asked for, and when devices or types are mixed."""
    model = Awkward().to(memory_format=torch.channels_last)
    names = list(prunable_weights(model, Awkward.SHAPE))
    with FakeTensorMode():
        on_fake_gpu(model)
        model.twin.weight = model.grouped.weight
        pruner = attached(name, model, names, waiting=False)
        for _ in range(2):
            with pruner.view():
                pruner.regularization()  # without its backward pass, for which there must be a GPU
            for parameter in (*pruner.trained, *pruner.parameters().values()):
                parameter.grad = torch.empty_like(parameter.detach())
            pruner.adjust_gradients()
            pruner.adjust_decay()
            pruner.replace_step()
            pruner.iteration += 1
            pruner.after_step()
        assert {weight.device.type for weight in pruner.weights} == {"cuda"}


def trained(name: str, *, pretended: bool) -> tuple[list[Tensor], Pruner]:
    """Weights after some iterations with random gradients, without a network's own passes."""
    torch.manual_seed(0)
    model = Awkward().double().to(memory_format=torch.channels_last)
    names = list(prunable_weights(model, Awkward.SHAPE))
    with Counts() if pretended else nullcontext():
        if pretended:
            pretend(model)
            model.twin.weight = model.grouped.weight
        pruner = attached(name, model, names)
        for step in range(6):
            give_gradients(pruner, step, pretended=pretended)
            iteration(pruner)
            assert pruner.optimizer is not None
            pruner.optimizer.step()
            pruner.optimizer.zero_grad()
        pruner.after_epoch(1)
        pruner.finalize()
        return [plain(weight) for weight in pruner.weights], pruner


def attached(name: str, model: nn.Module, names: Sequence[str], *, waiting: bool = True) -> Pruner:
    """Late enough in training that there is a mask, and with thresholds of which some starve a layer."""
    weights = {weight: model.get_parameter(weight) for weight in names}
    pruner = method_of(name).pruner(Setup(model, weights, 0.75, 8, 6))
    parameters = [*model.parameters(), *pruner.parameters().values()]
    pruner.optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=5e-4, foreach=False)
    if name in ("imp", "bimp", "random", *INITIAL):
        pruner.hold(magnitude_masks(pruner.weights, 0.75, waiting=waiting))
    pruner.iteration = 26
    if name == "dst":
        pruner.parameters()["threshold"].data.copy_(torch.arange(len(pruner.parameters()["threshold"])) % 3 * 0.1)
        pruner.parameters()["threshold"].data[:4] = 9.0
    return pruner


def give_gradients(pruner: Pruner, seed: int, *, pretended: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    for weight in pruner.trained:
        values = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        values = torch.empty_like(plain(weight)).copy_(values)
        weight.grad = Pretended(values) if pretended else values


def plain(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    return tensor.held if isinstance(tensor, Pretended) else tensor


@pytest.mark.parametrize("name", METHODS)
def test_on_a_device_a_method_does_what_it_does_on_a_cpu(name: str):
    """Up to the order of sums, in float64; with layers that are frozen, shared, of one weight, and grouped."""
    (ours, pruner), (expected, on_cpu) = trained(name, pretended=True), trained(name, pretended=False)
    assert any(bool((weight == 0).any()) for weight in expected) or name in ("dense", "small_dense")
    for weight, other, known in zip(ours, expected, pruner.names, strict=True):
        torch.testing.assert_close(weight, other, rtol=1e-12, atol=1e-14, msg=known)
    for learned, other in zip(pruner.parameters().values(), on_cpu.parameters().values(), strict=True):
        torch.testing.assert_close(plain(learned), other.detach(), rtol=1e-12, atol=1e-14)


SHAPES = [(5, 4, 3, 3), (7, 6), (2, 3, 1, 1), (1, 8, 2, 2), (4, 1, 3, 3)]


def tied(layout: torch.memory_format) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    scores = [torch.randint(-2, 3, shape, generator=generator).float() for shape in SHAPES]
    return [score.to(memory_format=layout) if score.dim() == 4 else score for score in scores]


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_ties_on_a_device_go_by_row_major_index_too(layout: torch.memory_format):
    """Every k, so that the last place falls into each tensor, and within filters."""
    scores = tied(layout)
    scores[1] = scores[1].t().contiguous().t()  # a layer whose rows are not stored one after the other
    expected, whole = Flat.like(scores), sum(score.numel() for score in scores)
    with Counts() as counts:
        there = [Pretended(score) for score in scores]
        masks = Flat.like(there)
        for k in range(whole + 1):
            largest(there, k, masks, waiting=False)
            largest(scores, k, expected)
            for ours, mask in zip(masks.views, expected.views, strict=True):
                assert torch.equal(plain(ours), mask), k
    assert counts.waits.total() <= 6, "the tables that are made once, and nothing for a selection"


def test_products_are_selected_on_a_device_as_on_a_cpu():
    torch.manual_seed(0)
    weights, gradients = ([torch.randn(shape) for shape in SHAPES] for _ in range(2))
    expected = Flat.like(weights)
    with Counts():
        there = [[Pretended(tensor) for tensor in tensors] for tensors in (weights, gradients)]
        masks = Flat.like(there[0])
        for k in (1, 50, 200):
            largest(there[0], k, masks, there[1])
            largest(weights, k, expected, gradients)
            assert torch.equal(plain(masks.whole), expected.whole)


@pytest.mark.parametrize("k", [0, 2, 4])
def test_nan_on_a_device_is_an_error_where_the_host_may_wait_and_kept_where_it_may_not(k: int):
    with Counts():
        scores = [Pretended(torch.tensor([[1.0, float("nan"), 3.0, 2.0]]))]
        masks = Flat.like(scores)
        with pytest.raises(FloatingPointError, match="NaN"):
            largest(scores, k, masks)
        largest(scores, k, masks, waiting=False)
    assert plain(masks.whole).tolist() == {0: [0, 0, 0, 0], 2: [0, 1, 1, 0], 4: [1, 1, 1, 1]}[k]


def test_what_is_copied_from_a_device_together_is_written_as_from_a_cpu():
    """In any layout and type, of no elements and of one, beside what is on the CPU already."""
    torch.manual_seed(0)
    state = {
        "weight": torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last),
        "half": torch.randn(3).bfloat16(),
        "count": torch.tensor(7),
        "none": torch.empty(0, 3),
        "flags": torch.tensor([True, False, True]),
        "last": torch.randn(5, dtype=torch.float64).flip(0),
    }
    with Counts():
        there = {name: Pretended(tensor) for name, tensor in state.items()}
        copied = checkpoint.on_host({**there, "here": torch.ones(2)})
    expected = checkpoint.on_host({**state, "here": torch.ones(2)})
    assert save(copied) == save(expected)
    for name, tensor in load(save(copied)).items():
        assert torch.equal(tensor, {**state, "here": torch.ones(2)}[name])
