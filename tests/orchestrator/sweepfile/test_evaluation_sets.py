"""`test_sets` of a sweep file, and what is wrong with it in a sentence."""

from __future__ import annotations

from typing import Any

import pytest

from prunesweep.orchestrator.results.schemas import better, trials_schema, unit
from prunesweep.orchestrator.sweepfile.read import sweep_of
from prunesweep.workers.errors import UserError

NOISE = {"corruption": "gaussian_noise", "severity": 3}


def sets_of(top: Any = None, block: Any = None) -> list[tuple[str, ...]]:
    settings: dict[str, Any] = {"name": "x", "dataset": "digits", "model": "lenet300", "trials": [{"method": "dense"}]}
    if top is not None:
        settings["test_sets"] = top
    if block is not None:
        settings["trials"][0]["test_sets"] = block
    return [trial.test_sets for trial in sweep_of(settings).trials]


def test_of_the_file_and_of_a_block() -> None:
    assert sets_of() == [()]
    assert sets_of(["clean", NOISE]) == [("gaussian_noise_3",)]
    assert sets_of([NOISE], [{"corruption": "contrast", "severity": [1, 5]}]) == [("contrast_1", "contrast_5")]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            [{"corruption": "gausian_noise", "severity": 3}],
            'corruption: unknown corruption "gausian_noise": allowed are',
        ),
        ([{"corruption": "gausian_noise", "severity": 3}], 'did you mean "gaussian_noise"?'),
        ([{**NOISE, "severity": 6}], "test_sets[0].severity: 6 is not allowed: a whole number from 1 to 5, or several"),
        ([{**NOISE, "severity": 0}], "test_sets[0].severity: 0 is not allowed"),
        ([{"corruption": "contrast"}], "test_sets[0].severity: null is not allowed: a whole number from 1 to 5"),
        ([{"severity": 3}], "test_sets[0].corruption: missing: gaussian_noise, shot_noise"),
        ([{**NOISE, "seed": 1}], 'test_sets[0].seed: unknown key of a test set "seed"'),
        (["clean"], "test_sets: no corrupted test set: leave out test_sets, for the clean one is always evaluated"),
        (["noisy"], 'test_sets[0]: "noisy" is not allowed: clean, or a mapping such as {corruption: gaussian_noise'),
        ([NOISE, NOISE], "test_sets: gaussian_noise of severity 3 is given twice"),
        ("clean", 'test_sets: "clean" is not allowed: a list such as [clean, {corruption: gaussian_noise'),
        ([], "test_sets: [] is not allowed: a list such as"),
    ],
)
def test_mistakes(given: Any, message: str) -> None:
    with pytest.raises(UserError) as refused:
        sets_of(given)
    assert message in str(refused.value)


def test_columns_of_the_sets_that_are_asked_for() -> None:
    names = trials_schema({}, test_sets=["shot_noise_2", "contrast_1"]).names
    assert names[-3:] == ["test_accuracy_corrupted", "test_accuracy_shot_noise_2", "test_accuracy_contrast_1"]
    assert "test_accuracy_corrupted" not in trials_schema({}).names
    assert (unit(names[-1]), better(names[-1])) == ("fraction", "higher")
