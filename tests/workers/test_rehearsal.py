"""A rehearsal trains a few batches with the code that trains all, says how fast, and comes into no store of results."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from prunesweep.workers import methods
from prunesweep.workers.host import Where
from prunesweep.workers.methods import METHODS
from prunesweep.workers.rehearsal import Rates, Rehearsal
from prunesweep.workers.run import StageFailed, run_stage
from prunesweep.workers.spec import path
from prunesweep.workers.store import Store
from tests.cases import TAYLOR, last_stage, trial


@pytest.mark.parametrize("name", [*METHODS, TAYLOR])
def test_every_method_can_be_rehearsed_and_ends_with_its_sparsity(name: str, tmp_path):
    """180 training images are 6 batches of 32; a rehearsal draws 4 of them at the begin and 4 at the end."""
    store = Store(tmp_path / ".rehearsal-1")
    last = last_stage(trial(name))
    for stage in path(last):
        epochs = [progress.epoch for progress in run_stage(stage, store, Where(rehearsal=True))]
        assert epochs == ([1, stage.epochs] if stage.epochs > 1 else [stage.epochs])
    result = store.result(last.key)
    assert result is not None
    asked = last.sparsity if methods.method_class(name).takes_sparsity else {"sr_ste": 0.5}.get(name, 0.0)
    assert result["metrics"]["reached_sparsity"] == pytest.approx(asked, abs=1e-2)
    assert result["metrics"]["train_loss"] > 0
    assert all(seconds > 0 for seconds in result["rehearsal"].values())


def test_its_numbers_come_into_no_store_of_results(tmp_path):
    store = Store(tmp_path / "results")
    with pytest.raises(StageFailed, match="no rehearsal's store"):
        list(run_stage(last_stage(trial("dense")), store, Where(rehearsal=True)))


class Clock:
    """A batch is decoded in 0.25 s and trained in 0.75 s, but the first takes 10 s."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    def decoded(self, count: int) -> Iterator[int]:
        for number in range(count):
            self.now += 0.25
            yield number

    def trained(self, batches: Iterator[int]) -> Iterator[int]:
        for number in batches:
            self.now += 0.75 if number else 9.75
            yield number


def test_the_first_batch_is_not_timed():
    clock = Clock()
    rehearsal = Rehearsal(clock)
    clock.now = 7.0
    rehearsal.set_up()
    assert list(clock.trained(rehearsal.few("training", clock.decoded(100)))) == [0, 1, 2, 3]
    assert list(clock.trained(rehearsal.few("evaluation", clock.decoded(2)))) == [0, 1]
    assert rehearsal.seconds == {"training": 1.0, "evaluation": 1.0}
    # Of 100 batches of training and 20 of validation, and 50 in all splits together.
    rates = Rates(**rehearsal.rates(100, 20, 50))
    assert rates == Rates(setup=7.0, epoch=120.0, end=50.0)
    assert rates.seconds(3) == 7 + 360 + 50


def test_a_single_batch_is_timed_though_it_is_the_first():
    clock = Clock()
    rehearsal = Rehearsal(clock)
    assert list(clock.trained(rehearsal.few("training", clock.decoded(1)))) == [0]
    assert rehearsal.seconds == {"training": 10.0}
