"""A sweep with searches on a real Ray: killed and run again, it has the same candidates, winners and tables."""

from __future__ import annotations

import pytest

from tests.orchestrator.conftest import Cli
from tests.same_tables import assert_same

SWEEP = """\
name: tuned
dataset: digits
model: lenet300
seeds: 2
train: {epochs: 8, batch_size: 64, lr: 0.1, warmup_epochs: 1}
trials:
  - method: [gmp, str]
    sparsity: 0.9
    search:
      space:
        gmp: {train.lr: {log: [0.01, 0.5]}}
        str: {train.lr: {log: [0.01, 0.5]}, s_initial: {uniform: [-4, -2]}}
      budget: 3x
      algorithm: halving
      rungs: {from: 12.5%}
"""


@pytest.mark.slow
def test_a_killed_search_makes_the_same_decisions(tmp_path_factory):
    folders = [tmp_path_factory.mktemp(name) for name in ("undisturbed", "killed")]
    undisturbed, killed = (Cli(folder) for folder in folders)
    for cli in (undisturbed, killed):
        cli.write(SWEEP)
    assert "4 of 4 trials done" in undisturbed("run", "sweep.yaml")
    for results in (3, 9):
        process = killed.start("run", "sweep.yaml")
        killed.wait_for(lambda results=results: killed.results() >= results, process)
        process.kill()
        process.communicate()
    assert "4 of 4 trials done" in killed("run", "sweep.yaml")
    assert_same(*(folder / "results/tuned" for folder in folders))
    assert "nothing" in killed("plan", "tuned")
    listed = killed.json("status", "tuned", "--json")[0]["search_states"]
    assert [search["name"].split()[0] for search in listed] == ["gmp", "str"]
    assert all(search["winner"]["train.lr"] > 0.01 for search in listed)
    assert killed("results", "tuned", "--search") == undisturbed("results", "tuned", "--search")
