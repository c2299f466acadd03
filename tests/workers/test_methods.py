"""What particular methods do: phases, levels, schedules, and settings that do not fit."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import FrozenInstanceError, replace

import pyarrow.parquet as pq
import pytest
import torch

from prunesweep.workers import checkpoint, methods
from prunesweep.workers.errors import SpecError, UserError
from prunesweep.workers.methods.base import Method
from prunesweep.workers.methods.pruner import Pruner, Setup
from prunesweep.workers.spec import PruneStage, TrialSpec, path
from prunesweep.workers.store import CURVE, MOMENTUM, NETWORK, Store
from tests.cases import TRAIN, last_stage, trial
from tests.contract import network, numbers, resumed_after, run


def test_momentum_of_pruned_weights_stays_zero(store: Store):
    stage = last_stage(trial("imp", 0.9))
    run(stage, store)
    momentum = checkpoint.unpack_tensors(store.read_published(stage.key, MOMENTUM))
    for name, weight in network(stage, store).items():
        if name in momentum:
            assert torch.count_nonzero(momentum[name][weight == 0]) == 0


def test_a_phase_continues_the_momentum_of_the_phase_before(store: Store):
    """Without it the second phase would train differently: its first step has momentum from the first phase."""
    stage = last_stage(trial("imp"))
    assert isinstance(stage.parent, PruneStage)
    run(stage, store)
    before = numbers(stage, store)
    zeroed = {
        k: torch.zeros_like(v)
        for k, v in checkpoint.unpack_tensors(store.read_published(stage.parent.key, MOMENTUM)).items()
    }
    parent = store.result(stage.parent.key)
    store.remove("stages", stage.key, "result.json")
    store.remove("stages", stage.parent.key, "result.json")
    files = {name: store.read("stages", stage.parent.key, name) for name in (NETWORK, CURVE)}
    store.publish(stage.parent, {**files, MOMENTUM: checkpoint.pack_tensors(zeroed)}, parent)
    run(stage, store)
    assert numbers(stage, store) != before


def test_phases_prune_the_same_fraction_of_the_living_each_time():
    stage = last_stage(trial("imp", 0.75))
    assert [s.sparsity for s in path(stage)] == [0.0, 0.5, 0.75]
    assert [s.epochs for s in path(stage)] == [6, 1, 2], "3 epochs over 2 phases, the remainder to the last"


def test_levels_of_a_fixed_fraction_share_their_prefix():
    imp = methods.method_class("imp")(phase_fraction=0.2, phase_epochs=1, phases=3)
    stages = []
    for sparsity, level in imp.levels(None):
        base = trial("imp")
        stages.append(level.stage(TrialSpec(base.dataset, base.model, level.choice("imp"), 0, sparsity, TRAIN)))
    assert [s.sparsity for s in stages] == pytest.approx([0.2, 0.36, 0.488])
    assert path(stages[2])[:-1] == path(stages[1])


@pytest.mark.parametrize(
    ("name", "settings", "train", "field"),
    [
        ("imp", {}, {}, "retrain_epochs"),
        ("imp", {"retrain_epochs": 1, "phase_epochs": 1}, {}, "retrain_epochs"),
        ("imp", {"retrain_epochs": 2, "phases": 3}, {}, "retrain_epochs"),
        ("imp", {"retrain_epochs": 7, "retrain_schedule": "LRW"}, {}, "retrain_schedule"),
        ("imp", {"retrain_epochs": 1, "retrain_schedule": "cosine"}, {}, "retrain_lr"),
        ("imp", {"retrain_epochs": 1, "retrain_lr": 0.1}, {}, "retrain_lr"),
        ("imp", {"retrain_epochs": 4, "phase_fraction": 0.2}, {}, "phase_fraction"),
        ("bimp", {"pretrain_epochs": 6}, {}, "pretrain_epochs"),
        ("bimp", {"pretrain_epochs": 1}, {}, "pretrain_epochs"),
        ("gmp", {"pruning_interval": 4}, {}, "pruning_interval"),
        ("acdc", {"warmup": 1, "phase": 2, "final_dense": 1, "final_compressed": 1}, {}, "phase"),
        ("sr_ste", {"pattern": "4:2"}, {}, "pattern"),
        ("lc", {}, {"weight_decay": 0.0}, "penalty"),
        ("lc", {"penalty": 0.0}, {"weight_decay": 0.0}, "penalty"),
    ],
)
def test_settings_that_do_not_fit_name_their_field(name: str, settings: dict, train: dict, field: str):
    method = methods.method_class(name)(**settings)
    base = trial("dense")
    with pytest.raises(SpecError) as caught:
        method.check(TrialSpec(base.dataset, base.model, method.choice(name), 0, 0.5, replace(TRAIN, **train)))
    assert caught.value.field == field


def test_gmp_prunes_at_the_ends_of_its_intervals_to_the_cubic(store: Store):
    """Six epochs, interval 1: S = 5 prunes at the ends of epochs 1 to 5, none at the end of the sixth."""
    stage = last_stage(trial("gmp", 0.8))
    run(stage, store)
    curve = pq.read_table(io.BytesIO(store.read_published(stage.key, CURVE))).to_pydict()
    expected = [0.8 * (1 - (1 - t / 5) ** 3) for t in (1, 2, 3, 4, 5, 5)]
    assert curve["sparsity"] == pytest.approx(expected, abs=1e-3)


def test_a_hook_at_the_wrong_class_is_refused():
    """Nothing would call it, and the method would train densely."""
    with pytest.raises(
        UserError, match=r"Steady\.after_epoch is never called.*class SteadyPruner\(Pruner, method=Steady"
    ):

        class Steady(Method):
            def after_epoch(self, epoch: int) -> bool:
                return True


def test_a_method_without_a_pruner_is_refused():
    class Lazy(Method):
        pass

    with pytest.raises(UserError, match="Lazy would prune nothing"):
        Lazy().pruner(Setup(torch.nn.Linear(2, 2), {}, 0.5, 1, 1))


class Peek(Method):
    """Trains densely, and looks at batches before."""


class PeekPruner(Pruner, method=Peek):
    def __init__(self, method: Method, setup: Setup) -> None:
        super().__init__(method, setup)
        self.saved["seen"] = [torch.zeros_like(weight.detach()) for weight in self.weights]

    def prepare(self, batches: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> None:
        torch.rand(7)
        shape, images = (32, 1, 8, 8), torch.cat([images for images, _ in batches])
        assert (images[:32].shape, len(images)) == (shape, 180)
        for seen in self.saved["seen"]:
            seen.add_(1 + images.sum())


def test_what_a_method_looks_at_before_training_changes_nothing_in_it(store: Store):
    """Not even after a kill: it is called once, and what it saw is in the checkpoint."""
    dense = last_stage(trial("dense", train=replace(TRAIN, epochs=2)))
    peeking = replace(dense, method=Peek().choice("tests.workers.test_methods:Peek"))
    run(dense, store)
    resumed_after(1, peeking, store)
    assert network(peeking, store).keys() == network(dense, store).keys()
    for name, tensor in network(peeking, store).items():
        assert torch.equal(tensor, network(dense, store)[name]), name


def test_a_description_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        methods.method_class("gmp")().recover = True  # type: ignore[attr-defined]
