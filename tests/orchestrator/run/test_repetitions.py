"""When a run gives up: after two Rays that did not come up, or ten that were lost."""

from __future__ import annotations

import pytest

from prunesweep.orchestrator.run.cluster import ClusterLost, NotStarted
from prunesweep.orchestrator.run.repetitions import Repetitions
from prunesweep.workers.errors import UserError


def test_two_rays_that_do_not_come_up_are_enough():
    repetitions = Repetitions()
    assert repetitions.allow(NotStarted("no Ray"))
    with pytest.raises(UserError, match="no Ray, 2 times; `prunesweep doctor` looks at this machine"):
        repetitions.allow(NotStarted("no Ray"))


def test_one_that_comes_up_in_between_begins_the_count_anew():
    repetitions = Repetitions()
    for _ in range(4):
        assert repetitions.allow(NotStarted("no Ray"))
        assert repetitions.allow(ClusterLost("lost"))
    assert repetitions.allow(ClusterLost("lost"))
    with pytest.raises(UserError, match="Ray ended 10 times"):
        repetitions.allow(ClusterLost("lost"))


def test_damage_is_repaired_in_two_more_rounds():
    repetitions = Repetitions()
    assert [repetitions.allow(None) for _ in range(3)] == [True, True, False]
