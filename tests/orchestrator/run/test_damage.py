"""A store whose files were damaged: what reads says so, and the next run mends it. The real command."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest

from prunesweep import load_results
from prunesweep.workers.errors import UserError
from tests.damage import damaged
from tests.orchestrator.conftest import Cli
from tests.small_disk import small_disk

SWEEP = """\
dataset: digits
model: lenet300
train: {epochs: 2}
trials:
  - {method: imp, sparsity: %s, retrain_epochs: 1}
"""
VARYING = ["train_images_per_second", "train_seconds", "peak_memory_bytes", "attempts", "finished_at", "commit"]


def table(folder: Path) -> pd.DataFrame:
    return load_results(folder / "results" / "sweep").drop(columns=VARYING)


def write(cli: Cli, sparsities: Sequence[float]) -> str:
    return cli.write(SWEEP % list(sparsities))


def stage(cli: Cli, what: str) -> Path:
    """The folder of the first finished stage whose label begins so."""
    return next(
        p.parent for p in sorted((cli.folder / "results/stages").glob("*/result.json")) if what in p.read_text()
    )


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """Three trials on four stages, without trouble."""
    cli = Cli(tmp_path_factory.mktemp("larger"))
    cli("run", write(cli, [0.5, 0.8, 0.9]))
    return cli


@pytest.fixture
def copy(larger: Cli, tmp_path: Path) -> Cli:
    shutil.copytree(larger.folder, tmp_path, dirs_exist_ok=True)
    return Cli(tmp_path)


def damage(path: Path, how: str = "any bit", seed: int = 0) -> None:
    path.write_bytes(next(damaged(path.read_bytes(), how, seed)))


@pytest.mark.slow
def test_what_is_damaged_is_said_and_computed_again(copy: Cli, larger: Cli):
    """The result of one stage, the curve of another; and the dense network, which a missing stage starts from."""
    result, curve, missing = stage(copy, "prune 0.5"), stage(copy, "prune 0.8"), stage(copy, "prune 0.9")
    dense = stage(copy, "train dense")
    damage(result / "result.json")
    damage(curve / "curve.parquet", "cut")
    damage(dense / "network.safetensors")
    shutil.rmtree(missing)
    before = {path: path.read_bytes() for path in (copy.folder / "results").rglob("*") if path.is_file()}
    for verb in ("plan", "status"):
        said = copy(verb, "sweep.yaml")
        assert f"the result of 1 stage, to be set aside and computed again: {result.name}" in said
        assert copy.json("plan", "sweep.yaml")["damaged_stages"] == [result.name]
    assert before == {path: path.read_bytes() for path in (copy.folder / "results").rglob("*") if path.is_file()}
    printed = copy("run", "sweep.yaml")
    assert f"{dense}/network.safetensors is missing or damaged" in printed
    assert f"{curve}/curve.parquet is missing or damaged; what is left of it is set aside" in printed
    assert "3 of 3 trials done" in printed
    pd.testing.assert_frame_equal(table(copy.folder), table(larger.folder), check_exact=True)
    for folder, names in ((result, 1), (curve, 2), (dense, 2)):
        assert len(list(folder.glob("damaged-*"))) == names


@pytest.mark.slow
def test_with_a_hundredth_of_all_bytes_flipped_the_table_is_the_same_after_mending(copy: Cli, larger: Cli):
    rng = random.Random(0)
    for path in sorted(path for path in (copy.folder / "results").rglob("*") if path.is_file() and path.stat().st_size):
        damage(path, "one byte in a hundred", rng.randrange(2**32))
    for question in (["plan", "sweep.yaml"], ["status"], ["status", "sweep"], ["results", "sweep"]):
        answer = copy.ask(*question)
        assert "Traceback" not in answer.err
        assert answer.code == 0 or answer.err.startswith("error: ")
    printed = copy("run", "sweep.yaml")
    assert "3 of 3 trials done" in printed
    pd.testing.assert_frame_equal(table(copy.folder), table(larger.folder), check_exact=True)


@pytest.mark.slow
def test_tables_that_are_damaged_are_named_and_written_again(copy: Cli, larger: Cli):
    tables = copy.folder / "results/sweep/trials.parquet"
    content = tables.read_bytes()
    for position in range(4, len(content), len(content) // 15):
        tables.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        with suppress(UserError):
            pd.testing.assert_frame_equal(table(copy.folder), table(larger.folder), check_exact=True)
    tables.write_bytes(b"")
    assert copy.ask("results", "sweep").code == 2
    copy("run", "sweep.yaml")
    pd.testing.assert_frame_equal(table(copy.folder), table(larger.folder), check_exact=True)


@pytest.mark.slow
def test_a_disk_that_fills_in_mid_sweep(cli: Cli):
    """Stages of 200 kB each on 2 MB. What fits is done, the rest says why not; with more room the next run goes on."""
    with small_disk(cli.folder / "results", megabytes=2) as disk:
        cli.write("dataset: digits\nmodel: lenet300\nseeds: 14\ntrain: {epochs: 1}\ntrials: [{method: dense}]\n")
        process = cli.start("run", "sweep.yaml")
        _, err = process.communicate(timeout=180)
        assert process.returncode in (1, 2)
        assert "Traceback" not in err
        assert 1 <= cli.results() < 14
        status = cli("status", "sweep")
        assert "  disk full: free space where the store is, for instance with `prunesweep gc`\n" in status
        assert "disk      only " in cli("plan", "sweep.yaml")
        refused = cli("resume", "sweep", code=2)
        assert re.search(
            r"error: the sweep needs about .* MB, .* has .* free: make room .* or run with --force", refused
        )
        disk.resize(20)
        assert "14 of 14 trials done" in cli("resume", "sweep")


@pytest.mark.slow
def test_a_damaged_record_hides_neither_its_stages_nor_other_sweeps(copy: Cli):
    shutil.copytree(copy.folder / "results/sweep", copy.folder / "results/other")
    damage(copy.folder / "results/other/sweep.json")
    answer = copy.ask("status")
    assert (answer.code, answer.out) == (0, "sweep: 3 trials: 3 done\n")
    assert "results/other/sweep.json is damaged" in answer.err
    damage(copy.folder / "results/sweep/sweep.json")
    assert copy("status", "sweep.yaml") == "sweep: 3 trials: 3 done\n"
    assert "3 of 3 trials done" in copy("run", "sweep.yaml")
    assert copy("status", "sweep") == "sweep: 3 trials: 3 done\n"
    assert len(list((copy.folder / "results/sweep").glob("damaged-*-sweep.json"))) == 1
