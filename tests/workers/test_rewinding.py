"""Lottery tickets against a second implementation (see `test_reference`), and the stages that they are made of."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from prunesweep.workers import methods
from prunesweep.workers.causes import Cause
from prunesweep.workers.decoding import decode_stage
from prunesweep.workers.encoding import encode
from prunesweep.workers.errors import SpecError
from prunesweep.workers.host import Where
from prunesweep.workers.lineage import work
from prunesweep.workers.run import StageFailed, run_stage
from prunesweep.workers.spec import PartStage, Stage, TrialSpec, label, path
from prunesweep.workers.store import NETWORK, Store
from tests.cases import RESNET, TINY, TRAIN, last_stage, trial
from tests.contract import numbers, resumed_after, run
from tests.workers.test_reference import FLOAT64, E, Reference, compare, dense_lr, stage_of

T = FLOAT64.epochs


def ticket(k: int, **settings: Any) -> Stage:
    """On the short training of the contract tests."""
    method = methods.method_class("imp")(rewind_epoch=k, retrain_schedule="LRW", **settings)
    made = TrialSpec(TINY, RESNET, method.choice("imp"), 0, 0.75, TRAIN)
    method.check(made)
    return method.stage(made)


@pytest.mark.parametrize(("k", "phases"), [(0, [0.75]), (3, [0.5, 0.75])])
def test_a_ticket_is_the_mask_of_the_end_on_the_weights_of_epoch_k(k: int, phases: list[float], store: Store):
    settings = {"rewind_epoch": k, "retrain_schedule": "LRW", "phases": len(phases)}
    stage, reference = stage_of("imp", 0.75, settings), Reference()
    start = {name: tensor.clone() for name, tensor in reference.model.state_dict().items()}
    if k:
        part = PartStage(stage.root, k)
        list(run_stage(part, store, Where()))
        early = Reference()
        for epoch in range(k):
            early.epoch(dense_lr(T), epoch * E)
        start = early.model.state_dict()
    compare(stage.root, reference, store)
    for phase, sparsity in zip(path(stage)[1:], phases, strict=True):
        masks = reference.select(sparsity)
        reference.model.load_state_dict(start)
        with torch.no_grad():
            for name, w in reference.weights.items():
                w *= masks[name]
        reference.masks, reference.epochs_over = masks, k
        reference.momentum_of.clear()
        compare(phase, reference, store, lambda i: dense_lr(T)(k * E + i))
    assert reference.reached() == pytest.approx(0.75, abs=1e-3)


def test_it_is_resumed_bit_for_bit(tmp_path):
    last, unbroken = ticket(2, phases=2), Store(tmp_path / "unbroken")
    list(run_stage(work(last)[0], unbroken, Where()))
    run(last, unbroken)
    for stop in (1, 3):
        broken = Store(tmp_path / f"broken{stop}")
        list(run_stage(work(last)[0], broken, Where()))
        resumed_after(stop, last, broken)
        assert numbers(last, broken) == numbers(last, unbroken)


def test_the_dense_training_is_the_one_of_all_other_trials():
    assert ticket(2).root.key == last_stage(trial("dense")).key
    assert ticket(0, phases=2).parent.root.key == last_stage(trial("dense")).key
    assert work(ticket(0)) == path(ticket(0))
    assert [label(stage) for stage in work(ticket(2))] == [
        "first 2 epochs of train dense cifar_resnet synthetic 6 epochs seed 0",
        "train dense cifar_resnet synthetic 6 epochs seed 0",
        "prune 0.75 rewind to 2, retrain 4 epochs LRW seed 0",
    ]


def test_without_the_part_the_stage_is_refused_and_says_what_it_lacks(store: Store):
    last = ticket(2)
    run(last.root, store)
    with pytest.raises(StageFailed, match=r"first 2 epochs of .* has no result that is whole") as failure:
        list(run_stage(last, store, Where()))
    assert failure.value.cause == Cause.PARENT_DAMAGED
    assert store.result(last.root.key)["files"].keys() >= {NETWORK}


def test_records_of_rewinding_stages_are_read_again():
    last = ticket(0, phases=2)
    assert decode_stage(encode(last)) == last
    for epoch in (-1, 6, "2", True, 1.0):
        with pytest.raises(TypeError, match="rewinds"):
            decode_stage({**encode(last), "rewind_epoch": epoch})


@pytest.mark.parametrize(
    ("settings", "field", "said"),
    [
        ({"rewind_epoch": 6}, "rewind_epoch", "6 is not before the end of 6 epochs"),
        ({"rewind_epoch": 2, "retrain_epochs": 4}, "retrain_epochs", "each phase trains the 4 epochs left of 6"),
        ({"rewind_epoch": 2, "phase_epochs": 4}, "phase_epochs", "leave phase_epochs out"),
        ({"rewind_epoch": 2, "retrain_schedule": "FT"}, "retrain_schedule", "give retrain_schedule: LRW"),
        ({"rewind_epoch": 2, "retrain_lr": 0.1}, "retrain_lr", "takes its learning rates from the dense schedule"),
    ],
)
def test_what_does_not_go_with_a_rewind_is_refused(settings: dict[str, Any], field: str, said: str):
    method = methods.method_class("imp")(**{"retrain_schedule": "LRW", **settings})
    with pytest.raises(SpecError, match=said) as error:
        method.check(TrialSpec(TINY, RESNET, method.choice("imp"), 0, 0.75, TRAIN))
    assert error.value.field == field
