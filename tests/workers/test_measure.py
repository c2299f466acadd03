from __future__ import annotations

from mmap import PAGESIZE, mmap

import pytest
import torch
from torch import Tensor, nn

from prunesweep.workers import models
from prunesweep.workers.measure import Layer, PeakMemory, layer_costs, summary
from prunesweep.workers.prunable import prunable
from tests.networks import Shape, recorded


@pytest.fixture(autouse=True)
def _seed() -> None:
    # Among a million random weights one is exactly zero now and then.
    torch.manual_seed(0)


def costs_of(model: nn.Module, shape: Shape) -> list[Layer]:
    recording = recorded(model, shape)
    return layer_costs(prunable(model, recording), recording)


def resnet(name: str, shape: tuple[int, int, int], classes: int) -> nn.Module:
    return models.build(models.choose(name, {}), shape, classes)


def zero_first(weight: Tensor, count: int) -> None:
    with torch.no_grad():
        weight.view(-1)[:count] = 0


class Tied(nn.Module):
    """Two layers with one weight, one of them called twice; a third that is not used, whose weights do not count."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4, bias=False)
        self.second = nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight
        self.unused = nn.Linear(4, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.first(self.second(self.first(x.flatten(1))))
        return out


def test_convolution_by_hand() -> None:
    # 3x3 kernel over 5x7 with padding 1 and stride 2: 3x4 positions, 6 * 2 * 9 weights at each.
    conv = nn.Conv2d(2, 6, 3, stride=2, padding=1)
    zero_first(conv.weight, 27)
    assert costs_of(conv, (2, 5, 7)) == [Layer("weight", "convolution", 108, 81, 12 * 108, 12 * 81)]


def test_groups_and_dilation_by_hand() -> None:
    # Dilation 2 makes the 3x3 kernel span 5x5: 4x2 positions of 8x6. Each of 4 outputs sees 2 of 4 inputs.
    conv = nn.Conv2d(4, 4, 3, dilation=2, groups=2)
    assert costs_of(conv, (4, 8, 6)) == [Layer("weight", "convolution", 72, 72, 8 * 72, 8 * 72)]


def test_depthwise_rectangular_kernel_by_hand() -> None:
    # 1x3 kernel, stride (1, 3), padding (0, 1): width 9 gives 3 positions in each of 2 rows.
    conv = nn.Conv2d(5, 5, (1, 3), stride=(1, 3), padding=(0, 1), groups=5)
    assert costs_of(conv, (5, 2, 9)) == [Layer("weight", "convolution", 15, 15, 6 * 15, 6 * 15)]


def test_small_network_by_hand() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 5))
    zero_first(model[0].weight, 6)
    zero_first(model[3].weight, 10)
    layers = costs_of(model, (1, 4, 4))
    assert layers == [
        Layer("0.weight", "convolution", 18, 12, 4 * 18, 4 * 12),
        Layer("3.weight", "matrix product", 40, 30, 40, 30),
    ]
    # Biases: two random of the convolution and five of the linear layer; two weights of ones and two biases of zeros
    # in the normalisation.
    assert summary(model, layers) == {
        "parameters": 18 + 2 + 4 + 40 + 5,
        "nonzero_parameters": 12 + 2 + 2 + 30 + 5,
        "prunable_share": 58 / 69,
        "reached_sparsity": 16 / 58,
        "sparsity_with_exempt": 16 / 58,
        "overall_sparsity": 18 / 69,
        "multiply_adds": 112,
        "prunable_multiply_adds_share": 1.0,
        "nonzero_multiply_adds": 78,
        "theoretical_speedup": 112 / 78,
        "compression_ratio": 69 / 51,
    }


def test_a_linear_layer_counts_once_for_every_position_it_is_applied_to() -> None:
    # [1, 3, 4, 6] is twelve vectors of six.
    assert costs_of(nn.Linear(6, 2), (3, 4, 6)) == [Layer("weight", "matrix product", 12, 12, 12 * 12, 12 * 12)]


def test_a_shared_weight_counts_every_use_but_its_weights_once() -> None:
    model = Tied()
    zero_first(model.first.weight, 4)
    assert costs_of(model, (1, 2, 2)) == [Layer("first.weight", "matrix product", 16, 12, 3 * 16, 3 * 12)]
    costs = summary(model, costs_of(model, (1, 2, 2)))
    assert (costs["parameters"], costs["reached_sparsity"]) == (24, 4 / 16)


def test_attention_by_hand() -> None:
    """One image of three tokens of four values; two heads. q k and the product with v are 3 * 3 * 4 each."""
    model = nn.Sequential(nn.Flatten(1, 2), SelfAttention())
    zero_first(model[1].attention.in_proj_weight, 24)
    layers = costs_of(model, (1, 3, 4))
    assert layers == [
        Layer("1.attention.in_proj_weight", "matrix product", 48, 24, 3 * 48, 3 * 24),
        Layer("1.attention.out_proj.weight", "matrix product", 16, 16, 3 * 16, 3 * 16),
        Layer("1.attention", "attention", None, None, 72, 72),
    ]
    costs = summary(model, layers)
    assert costs["prunable_share"] == 64 / (64 + 12 + 4)
    assert costs["prunable_multiply_adds_share"] == 192 / 264
    assert costs["reached_sparsity"] == 24 / 64
    assert costs["theoretical_speedup"] == 264 / 192


@pytest.mark.parametrize("fast", [True, False])
def test_attention_counts_the_same_by_its_fast_path_and_by_its_slow_one(fast: bool) -> None:
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(fast)
    try:
        layers = costs_of(nn.Sequential(nn.Flatten(1, 2), SelfAttention()), (1, 3, 4))
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
    assert sum(layer.multiply_adds for layer in layers) == 264


class SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.attention(x, x, x)[0]
        return out


def test_resnet56_multiply_adds() -> None:
    model = resnet("resnet56", (3, 32, 32), 10)
    layers = costs_of(model, (3, 32, 32))
    assert len(layers) == 56
    assert sum(layer.weights for layer in layers) == 848_944
    costs = summary(model, layers)
    assert (costs["multiply_adds"], costs["parameters"]) == (125_485_696, 853_018)
    assert (costs["theoretical_speedup"], costs["reached_sparsity"]) == (1.0, 0.0)


def test_resnet50_multiply_adds() -> None:
    layers = costs_of(resnet("resnet50", (3, 224, 224), 1000), (3, 224, 224))
    assert len(layers) == 54
    assert sum(layer.weights for layer in layers) == 25_502_912
    assert sum(layer.multiply_adds for layer in layers) == 4_089_184_256


def test_a_network_of_zeros_has_no_speedup_to_tell() -> None:
    model = nn.Linear(4, 2, bias=False)
    zero_first(model.weight, 8)
    costs = summary(model, costs_of(model, (1, 1, 4)))
    assert (costs["theoretical_speedup"], costs["compression_ratio"]) == (None, None)
    assert (costs["reached_sparsity"], costs["nonzero_multiply_adds"]) == (1.0, 0)


def test_measuring_leaves_the_network_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(), nn.Flatten(), nn.Linear(8, 5)).train()
    model[1].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    summary(model, costs_of(model, (1, 4, 4)))
    assert [module.training for module in model] == [True, False, True, True, True]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_measuring_a_half_precision_network() -> None:
    assert costs_of(nn.Linear(4, 2).to(torch.bfloat16), (1, 1, 4)) == [Layer("weight", "matrix product", 8, 8, 8, 8)]


def test_a_failed_measurement_leaves_the_network_as_it_was_too() -> None:
    model = nn.Sequential(nn.Linear(4, 2)).train()
    with pytest.raises(RuntimeError):
        costs_of(model, (1, 1, 5))
    assert model[0].training
    assert costs_of(model, (1, 1, 4)) == [Layer("0.weight", "matrix product", 8, 8, 8, 8)]


def test_peak_memory_sees_what_was_freed_and_starts_anew() -> None:
    megabyte = 2**20
    start = PeakMemory("cpu").read()
    if start is None:
        pytest.skip("this system does not tell")
    peak = PeakMemory("cpu")
    # Not a tensor: that might get memory which earlier tests freed but the process still holds.
    with mmap(-1, 64 * megabyte) as memory:
        for page in range(0, len(memory), PAGESIZE):
            memory[page] = 1
    high = peak.read()
    fresh = PeakMemory("cpu").read()
    assert high is not None
    assert fresh is not None
    assert 60 * megabyte < high - start < 70 * megabyte
    assert high - fresh > 50 * megabyte


def test_peak_memory_of_another_device_is_not_known() -> None:
    assert PeakMemory("meta").read() is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_peak_memory_on_a_gpu() -> None:
    peak = PeakMemory("cuda")
    before = peak.read()
    torch.ones(2**24, device="cuda")
    after = peak.read()
    assert before is not None
    assert after is not None
    assert after - before >= 4 * 2**24
