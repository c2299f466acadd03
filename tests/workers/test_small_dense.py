"""Narrower networks, and the method that trains one in the place of a sparse network."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from prunesweep.workers import accounting, checkpoint, models
from prunesweep.workers.decoding import decode_stage
from prunesweep.workers.encoding import encode
from prunesweep.workers.errors import SpecError, UserError
from prunesweep.workers.methods import create
from prunesweep.workers.methods.small_dense import SmallDense
from prunesweep.workers.models.narrow_vision import narrowed
from prunesweep.workers.models.torchvision_names import NARROWABLE
from prunesweep.workers.spec import Choice, path
from prunesweep.workers.store import CURVE, Store
from tests.cases import last_stage, trial
from tests.contract import network, run

LENET = models.choose("lenet300", {})
OWN = f"{__name__}:own_mlp"


def own_mlp(shape: tuple[int, int, int], classes: int, *, width: int = 16, size: float = 1.0, norm: str = "none"):
    """With an option that is called as ours is."""
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), width), nn.ReLU(), nn.Linear(width, classes))


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
        ("squeezenet1_0", {}, "squeezenet1_0 cannot be made narrower; it takes lenet300, lenet5, cifar_resnet"),
        ("timm:mobilenetv3_small_050", {}, "mobilenetv3_small_050 cannot be made narrower; .* timm's ResNets"),
        (OWN, {"width": 32}, "missing: the options that the channels of .*own_mlp go by, such as scales: "),
        ("resnet20", {"size": 0.5}, "its sparsity says how small the network is"),
    ],
)
def test_what_cannot_be_narrowed_is_refused(model: str, options: dict[str, float], reason: str) -> None:
    asked = replace(trial("small_dense"), model=Choice.of(model, options))
    with pytest.raises(SpecError, match=reason):
        create(asked.method).check(asked)


def test_a_torchvision_resnet_has_half_the_channels_everywhere() -> None:
    """Its blocks of two are as deep as ever, and a ResNeXt keeps a channel in each of its groups."""
    half = narrowed("resnet18", 0.5, {"num_classes": 10})
    assert [conv.out_channels for conv in half.modules() if isinstance(conv, nn.Conv2d)] == [
        *(32, 32, 32, 32, 32),
        *(64, 64, 64, 64, 64),
        *(128, 128, 128, 128, 128),
        *(256, 256, 256, 256, 256),
    ]
    with torch.device("meta"):
        least = narrowed("resnext50_32x4d", 0.01, {"num_classes": 10})
    assert {conv.out_channels for conv in least.modules() if isinstance(conv, nn.Conv2d) and conv.groups > 1} == {32}


def test_a_narrower_resnet_begins_with_the_initialisation_of_the_full_one() -> None:
    """Kaiming's normal by what leaves a layer: a standard deviation of sqrt(2 / (9 x 256)) in the last convolution."""
    torch.manual_seed(0)
    half = narrowed("resnet18", 0.5, {"num_classes": 10})
    last = dict(half.named_parameters())["layer4.1.conv2.weight"]
    assert float(last.detach().std()) == pytest.approx((2 / (9 * 256)) ** 0.5, rel=0.01)


def test_the_stem_for_small_images_is_narrower_too() -> None:
    choice = models.narrower(models.choose("resnet18", {}), 0.1)
    weights = matrices(choice, (1, 32, 32))
    assert weights[0] == (weights[1][1], 1, 3, 3)
    full = sum(map(math.prod, matrices(models.choose("resnet18", {}), (1, 32, 32))))
    assert sum(map(math.prod, weights)) / full == pytest.approx(0.1, rel=0.02)


def test_an_mnasnet_is_loaded_from_its_stored_tensors_which_hold_no_version_of_it() -> None:
    choice, shape = models.choose("mnasnet0_5", {}), (3, 32, 32)
    stored = checkpoint.unpack_tensors(checkpoint.pack_tensors(models.build(choice, shape, 4).state_dict()))
    other = models.build(choice, shape, 4)
    checkpoint.load_network(other, stored)
    assert all(torch.equal(tensor, stored[name]) for name, tensor in other.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *("resnext50_32x4d", "wide_resnet50_2", "vgg16_bn", "vgg11", "mobilenet_v2", "mobilenet_v3_small"),
        *("mnasnet1_0", "densenet121", "vit_b_16", "convnext_tiny"),
        *("timm:resnet18", "timm:resnext50_32x4d", "timm:vit_tiny_patch16_224", "timm:convnext_atto"),
    ],
)
def test_networks_of_torchvision_and_timm_come_near_to_half_and_a_tenth(name: str) -> None:
    assert name in NARROWABLE or name.startswith("timm:")
    shape = (3, 64, 64) if name in ("vgg11", "densenet121") else (3, 224, 224)
    with torch.device("meta"):
        full = sum(map(math.prod, matrices(models.choose(name, {}), shape)))
        for size in (0.5, 0.1):
            count = sum(map(math.prod, matrices(models.narrower(models.choose(name, {}), size), shape)))
            assert count / full == pytest.approx(size, rel=0.06)


def test_a_network_of_ones_own_is_narrower_by_the_options_that_are_named() -> None:
    """64 x w + w x 4 weights: 2,176 for a width of 32, and a quarter of them for one of 8."""
    whole = models.choose(OWN, {"width": 32, "size": 0.5})
    choice = models.narrower(whole, 0.25, ["width"])
    assert matrices(choice, (1, 8, 8), 4) == [(8, 64), (4, 8)]
    assert choice is not None
    assert models.full(choice) == whole, "an option of its own that is called size stays"
    assert Choice.of(choice.name, dict(choice.options)) == choice


@pytest.mark.parametrize(
    ("model", "scales", "reason"),
    [
        (Choice.of(OWN, {"width": 32, "norm": "none"}), ("widht",), 'unknown option .* "widht".* did you mean "width"'),
        (
            Choice.of(OWN, {"width": 32, "norm": "none"}),
            ("norm",),
            "norm of model .* is 'none': what is scaled is a num",
        ),
        (LENET, ("width",), "lenet300 is made narrower by itself, or not at all; leave it out"),
    ],
)
def test_what_cannot_be_scaled_is_refused(model: Choice, scales: tuple[str, ...], reason: str) -> None:
    asked = replace(trial("small_dense"), model=model)
    with pytest.raises(SpecError, match=reason):
        SmallDense(scales=scales).check(asked)


def test_a_network_of_ones_own_is_trained_and_loaded_again(store: Store) -> None:
    """64 x 8 + 8 x 4 of 64 x 32 + 32 x 4 weights; the stage's record says how narrow it is, as data."""
    method = SmallDense(scales=("width",))
    asked = replace(
        trial("small_dense", 0.75), model=models.choose(OWN, {"width": 32}), method=method.choice("small_dense")
    )
    stage = last_stage(asked)
    run(stage, store)
    result = store.result(stage.key)
    assert result is not None
    assert [layer["weights"] for layer in result["layers"]] == [64 * 8, 8 * 4]
    assert result["metrics"]["reached_sparsity"] == 0.75
    (root,) = path(decode_stage(json.loads(json.dumps(encode(stage)))))
    models.build(root.model, (1, 8, 8), 4).load_state_dict(network(stage, store))
