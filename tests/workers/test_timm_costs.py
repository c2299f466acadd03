"""Multiply-adds of timm's models, beside those that torch's own counter finds.

Every 25th name of the installed version is tried, and the first of each family, which is what stands before the first
digit or `_`, and some small ones. Networks of more than 60 million parameters are skipped, for time. All run on the
meta device, without values.
"""

from __future__ import annotations

import re
import warnings

import pytest
import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from prunesweep.workers.errors import UserError
from prunesweep.workers.evaluating import evaluating
from prunesweep.workers.prunable import prunable
from prunesweep.workers.recording import Recording, record
from tests.networks import without_values

LARGEST = 60_000_000
STEP = 25
HYBRID = r"vit_.*_r\d*_s\d+_"
WITH_VALUES = rf"{HYBRID}|vitamin_"
"""These try their first layers while they are made, for which they need their values."""

REFUSED = {
    r"(dm_|eca_|test_)?nfnet|nf_": "normaliser-free: weights are standardised and scaled in every forward pass",
    r"resnetv2_.*_bit$": "Big Transfer: weights are standardised in every forward pass",
    HYBRID: "the transformer's tokens come from a ResNet of Big Transfer, whose weights are standardised",
    r"tf_efficientnet_cc_": "conditional convolutions: the filters are mixed of experts for each image",
}
"""How names begin, and why what they name cannot be pruned; anything else must be measured."""

SMALL = (
    *("nfnet_l0", "eca_nfnet_l0", "test_nfnet", "resnetv2_50x1_bit", "vit_tiny_r_s16_p8_224"),
    *("tf_efficientnet_cc_b0_4e", "swinv2_cr_tiny_224", "cait_xxs24_224", "pit_ti_224"),
)
"""Beside the rule, so that of kinds of which the rule draws a large one, or none, a small one is tried."""


def names() -> list[str]:
    every = timm.list_models()
    first = {re.split(r"[_\d]", name, maxsplit=1)[0]: name for name in reversed(every)}
    return sorted({*every[::STEP], *first.values(), *SMALL})


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_multiply_adds_are_those_of_torchs_counter(name: str) -> None:
    model = outline(name)
    if sum(parameter.numel() for parameter in model.parameters()) > LARGEST:
        pytest.skip("more than 60 million parameters")
    images = torch.zeros(1, *model.pretrained_cfg["input_size"], device="meta")
    if any(re.match(pattern, name) for pattern in REFUSED):
        with pytest.raises(UserError, match="layer "):
            prunable(model, record(model, images))
        return
    recording = record(model, images)
    assert prunable(model, recording)
    assert multiply_adds(recording) == counted_by_torch(model, images)


def outline(name: str) -> nn.Module:
    """On the meta device."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if re.match(WITH_VALUES, name):
            return timm.create_model(name, pretrained=False).to("meta")
        return without_values(lambda: timm.create_model(name, pretrained=False))


def multiply_adds(recording: Recording) -> int:
    total = sum(use.multiply_adds for use in recording.uses)
    return total + sum(operation.multiply_adds for operation in recording.operations)


def counted_by_torch(model: nn.Module, images: torch.Tensor) -> float:
    """The counter's own hooks want gradients everywhere or nowhere."""
    model.requires_grad_(False)
    with evaluating(model), FlopCounterMode(display=False) as counter:
        model(images)
    return counter.get_total_flops() / 2
