"""Weights that a network multiplies as [inputs, outputs]: what groups weights by their inputs refuses them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from prunesweep.workers.errors import UserError
from prunesweep.workers.methods.dst import DST
from prunesweep.workers.methods.gmp import GMP
from prunesweep.workers.orientation import require_usual
from prunesweep.workers.recording import record
from tests.cases import trial

WEIGHTS = ("0.weight", "1.weight", "3.weight")


@pytest.fixture(scope="module")
def recording():
    """A convolution, its opposite with as many channels on both sides, and a classifier."""
    model = nn.Sequential(nn.Conv2d(4, 4, 3), nn.ConvTranspose2d(4, 4, 3), nn.Flatten(), nn.Linear(4 * 5 * 5, 4))
    return record(model.eval(), torch.zeros(2, 4, 5, 5))


def test_transposed_convolutions_are_known(recording):
    assert recording.transposed == {"1.weight"}


@pytest.mark.parametrize("method", [GMP(pruning_interval=1, allocation="2:4"), DST(penalty=1e-4)], ids=["N:M", "DST"])
def test_what_goes_by_inputs_or_outputs_refuses_them(method, recording):
    asked = replace(trial("gmp", 0.5), method=method.choice(type(method).__name__.lower()))
    with pytest.raises(UserError, match=r"and 1\.weight are \[inputs, outputs\], as in transposed convolutions"):
        require_usual(method.stage(asked).root, WEIGHTS, recording)
    require_usual(method.stage(asked).root, ("0.weight", "3.weight"), recording)


def test_magnitudes_of_all_weights_know_no_direction(recording):
    require_usual(GMP(pruning_interval=1).stage(trial("gmp", 0.5)).root, WEIGHTS, recording)
