"""What the losers of a search come to on the test set is shown by nothing: no table, figure, page or verb."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow.parquet
import pytest

from prunesweep.orchestrator.lookup import planned_sweep
from prunesweep.orchestrator.plan import Plan, make_plan
from prunesweep.workers.spec import path
from prunesweep.workers.store import Store
from tests.live_page import serving
from tests.orchestrator.conftest import Cli

SWEEP = """\
name: tuned
dataset: digits
model: lenet300
seeds: 2
train: {epochs: 3, batch_size: 64}
trials:
  - method: gmp
    sparsity: 0.9
    pruning_interval: 1
    search: {space: {train.lr: {log: [0.01, 0.5]}}, budget: 4x}
  - method: imp
    sparsity: 0.9
    retrain_epochs: 1
    search: {space: {train.lr: {log: [0.01, 0.5]}}, budget: 3x}
"""

VERBS = (
    "plan tuned",
    "status tuned",
    "results tuned",
    "results tuned --search",
    "results tuned --metric test_loss",
    "results tuned --best",
    "compare tuned",
    "diff tuned tuned",
    "check",
    "gc --dry-run",
)


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    cli = Cli(tmp_path_factory.mktemp("losers"))
    cli.run_here(cli.write(SWEEP))
    return cli


@pytest.fixture(scope="module")
def plan(cli: Cli) -> Plan:
    store = Store(cli.folder / "results")
    return make_plan(planned_sweep("tuned", store), store)


def of_trials(plan: Plan) -> set[str]:
    return {stage.key for last in plan.last.values() for stage in path(plan.stages[last])}


@pytest.fixture(scope="module")
def secrets(cli: Cli, plan: Plan) -> dict[str, list[str]]:
    """By stage that is a loser's alone, how what it came to on the test set might be written.

    A value that a trial has, too, is left out, and one of few digits, such as 0.1, which may be anything.
    """
    store, told = Store(cli.folder / "results"), of_trials(plan)
    metrics = {key: store.result(key)["metrics"] for key in plan.stages}
    known = {value for key in told for value in metrics[key].values()}
    secrets = {}
    for key in plan.stages.keys() - told:
        values = [value for name, value in metrics[key].items() if "test" in name and value not in known]
        long = [value for value in values if len(repr(value)) > 12]
        secrets[key] = [text for value in long for text in (repr(value)[:10], f"{value:.6f}")]
    assert len(secrets) == 3 + 2 * 2, "GMP's three, and of IMP's two the dense network and the pruned one"
    assert all(map(len, secrets.values()))
    return secrets


def shown(secrets: dict[str, list[str]], text: str) -> list[str]:
    return [secret for texts in secrets.values() for secret in texts if secret in text]


def numbers(cli: Cli) -> Iterator[str]:
    """All numbers of all tables in full."""
    for file in (cli.folder / "results/tuned").glob("*.parquet"):
        for row in pyarrow.parquet.read_table(file).to_pylist():
            for value in row.values():
                if isinstance(value, float):
                    yield repr(value)


def test_no_table_has_it(cli: Cli, secrets: dict[str, list[str]]):
    written = "\n".join(numbers(cli))
    assert len(written) > 1000
    assert shown(secrets, written) == []


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("more", [[], ["--json"]])
def test_no_verb_prints_it(verb: str, more: list[str], cli: Cli, secrets: dict[str, list[str]]):
    answer = cli.ask(*verb.split(), *more)
    assert answer.code in (0, 2), answer.err
    assert shown(secrets, answer.out + answer.err) == []


def test_no_log_of_its_stages_says_it(cli: Cli, secrets: dict[str, list[str]]):
    for key in secrets:
        answer = cli.ask("logs", key)
        assert shown(secrets, answer.out + answer.err) == []


def test_no_figure_or_report_has_it(cli: Cli, secrets: dict[str, list[str]]):
    out = cli.folder / "out"
    out.mkdir()
    for words in (
        ["report", "tuned", "--output", str(out / "report.html")],
        ["plot", "tuned", "--kind", "all", "--output", str(out / "figures.svg")],
    ):
        answer = cli.ask(*words)
        assert answer.code == 0, answer.out + answer.err
    files = [file for file in out.rglob("*") if file.is_file()]
    assert {file.suffix for file in files} >= {".html", ".svg"}
    assert [shown(secrets, file.read_text(errors="replace")) for file in files] == [[]] * len(files)


def test_the_live_page_shows_it_nowhere(cli: Cli, plan: Plan, secrets: dict[str, list[str]]):
    trials = [f"/sweeps/tuned/trials/{key}" for key in plan.last]
    with serving(cli) as site:
        for place in ("/", "/sweeps/tuned", "/sweeps/tuned/parts/figures", "/sweeps/tuned/parts/trials", *trials):
            assert shown(secrets, site.ask(place).text) == []
