"""Two Unix users on one store that their group may write: they share the work, and nobody's is taken away."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from prunesweep import load_results
from prunesweep.workers.store import Store
from tests.family import Family
from tests.orchestrator.conftest import SWEEP
from tests.ways import USERS, forget_users, share, users


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where others may look: pytest's own folders are for its user alone."""
    with TemporaryDirectory(prefix="ps", dir="/tmp") as made:
        yield Path(made)


@pytest.mark.slow
@pytest.mark.skipif(os.getuid() != 0, reason="only root may run something as another user")
def test_two_users_share_the_work_and_attempts_say_who_did_it(folder: Path):
    (folder / "sweep.yaml").write_text(SWEEP.format(name="small", seeds=2))
    share(folder / "results")
    family, runs = Family(), {}
    try:
        for way in users(folder):
            output = folder / f"{way.name}.txt"
            command = [*way.command, "run", "sweep.yaml", "--store", folder / "results"]
            runs[output] = family.start(command, folder, output, way.environment)
        for output, run in runs.items():
            assert run.wait(timeout=500) == 0, output.read_text()
            assert "14 of 14 trials done" in output.read_text()
    finally:
        family.end(grace=5)
        forget_users()
    store = Store(folder / "results")
    tries = {key: store.attempts(key) for key in store.names("stages")}
    assert Counter(map(len, tries.values())) == {1: 14}, "no stage was begun twice"
    assert {attempt.user for (attempt,) in tries.values()} == {str(user) for user in USERS}
    assert len(load_results(folder / "results/small")) == 14
