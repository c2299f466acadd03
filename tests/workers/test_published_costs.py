"""Multiply-adds of torchvision's classification models, beside the figures that torchvision publishes."""

from __future__ import annotations

import pytest
import torch
import torchvision

from prunesweep.workers.prunable import prunable
from prunesweep.workers.recording import record
from tests.networks import without_values

ROUNDING = 0.0005
"""Published in billions with three decimals."""


@pytest.mark.slow
@pytest.mark.parametrize("name", torchvision.models.list_models(module=torchvision.models))
def test_multiply_adds_are_the_published_ones(name: str) -> None:
    """No family is exempt; the auxiliary heads of GoogLeNet and Inception do not evaluate, and do not count."""
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    for published in torchvision.models.get_model_weights(name):
        size = published.transforms.keywords["crop_size"]
        sized = {"image_size": size} if name.startswith("vit_") else {}
        model = without_values(lambda o=options, s=sized: torchvision.models.get_model(name, weights=None, **o, **s))
        recording = record(model, torch.zeros(1, 3, size, size, device="meta"))
        total = sum(use.multiply_adds for use in recording.uses)
        total += sum(operation.multiply_adds for operation in recording.operations)
        assert total / 1e9 == pytest.approx(published.meta["_ops"], abs=1.01 * ROUNDING), published
        assert prunable(model, recording)
