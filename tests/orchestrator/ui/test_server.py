"""The live page as a server: what it answers to whom, and that a store that is damaged or hostile does no harm."""

from __future__ import annotations

import json
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from prunesweep.orchestrator.ui.server import is_loopback
from prunesweep.workers.seal import sealed_json, unsealed_json
from prunesweep.workers.spec import PruneStage, Stage
from prunesweep.workers.store import Store
from tests.live_page import Site, serving
from tests.orchestrator.conftest import Cli
from tests.orchestrator.finished import finish

SWEEP = """\
name: small
title: '<img src=x onerror="alert(1)"> & co'
dataset: digits
model: resnet8
seeds: 2
train: {epochs: 20}
trials:
  - method: dense
  - {method: imp, sparsity: [0.8, 0.9], retrain_epochs: 2, retrain_schedule: [FT, ALLR]}
  - {method: gmp, sparsity: 0.9}
"""

HOSTILE = """\
from pathlib import Path
from prunesweep import Method
Path(__file__).with_name("imported").touch()
class Evil(Method):
    pass
"""


def fate(stage: Stage) -> str | None:
    lost = isinstance(stage, PruneStage) and stage.sparsity == 0.9 and stage.root.seed == 1
    return "<script>alert(2)</script>" if lost else None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a sweep, one whose record is damaged, one whose tables are, a name of markup, and foreign code."""
    made = tmp_path_factory.mktemp("served")
    store = Store(made / "results")
    store.require_writable()
    finish(SWEEP, store, made / "sweep.yaml", fate)
    for name in ("broken", "torn", "foreign"):
        text = (
            re.sub("title: .*\n", "", SWEEP)
            .replace("name: small", f"name: {name}")
            .replace("seeds: 2", "seeds: [2, 3]")
        )
        finish(text, store, made / f"{name}.yaml")
    (made / "results/broken/sweep.json").write_text("{")
    (made / "results/torn/trials.parquet").write_bytes(b"PAR1 nothing PAR1")
    (made / "evil.py").write_text(HOSTILE)
    record = json.loads((made / "results/foreign/sweep.json").read_text())
    record = {name: value for name, value in record.items() if name != "sha256"}
    record["trials"][0]["method"]["name"] = "evil:Evil"
    (made / "results/foreign/sweep.json").write_bytes(sealed_json(record))
    forged = finish(
        re.sub("title: .*\n", "", SWEEP).replace("small", "forged").replace("seeds: 2", "seeds: [4]"),
        store,
        made / "forged.yaml",
        lambda stage: "lost" if isinstance(stage, PruneStage) else None,
    )
    stage = next(key for key, stage in forged.stages.items() if isinstance(stage, PruneStage))
    (note,) = (made / "results/stages" / stage / "attempts").glob("*.json")
    note.write_bytes(sealed_json({"name": 7, "mood": "good", "log": [[]]}))
    for file in (made / "results/stages").glob("*/result.json"):
        result = unsealed_json(file.read_bytes())
        counts = {"weights": None, "nonzero": None, "multiply_adds": 7654321, "nonzero_multiply_adds": 7654321}
        result["layers"].append({"name": "attention", **counts})
        file.write_bytes(sealed_json(result))
    (made / "results/<b>bold").mkdir()
    (made / "results/<b>bold/sweep.json").write_text("{}")
    (made / "secret.txt").write_text("nobody's business")
    return made


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[Site]:
    with serving(Cli(folder)) as running:
        yield running


def test_it_lists_the_sweeps_and_says_which_are_damaged(site: Site):
    page = site.ask("/").text
    assert 'href="/sweeps/small"' in page
    assert "10 done" in page
    assert "2 failed" in page
    assert "broken/sweep.json is damaged" in page
    assert "&lt;b&gt;bold" in page
    assert "<b>" not in page


def test_a_sweep_has_its_comparison_and_its_failures(site: Site):
    page = site.ask("/sweeps/small").text
    assert "10 of 12 trials are done" in page
    assert "diverged: 2 stages" in page
    assert "each method at its best" in page
    assert "prunesweep resume small" in page
    seeds = site.ask("/sweeps/small/seeds.csv")
    assert seeds.headers["content-type"].startswith("text/csv")
    assert len(seeds.text.splitlines()) == 1 + 10


def test_text_that_looks_like_markup_is_text(site: Site):
    page = site.ask("/sweeps/small").text
    assert "&lt;img src=x" in page
    assert "&lt;script&gt;alert(2)" in page
    assert "<img" not in page
    assert "<script>alert" not in page


def test_a_damaged_record_is_said_on_the_page_of_its_sweep(site: Site):
    page = site.ask("/sweeps/broken")
    assert page.status == 200
    assert "broken/sweep.json is damaged" in page.text


def test_damaged_tables_leave_the_progress(site: Site):
    page = site.ask("/sweeps/torn").text
    assert "Finished: all 12 trials are done" in page
    assert "cannot read" in page


def test_a_sweep_with_forged_files_takes_no_other_down(site: Site):
    """A note with values of other types, though sealed, counts as damaged: of its stage nothing is known."""
    assert 'href="/sweeps/forged"' in site.ask("/").text
    page = site.ask("/sweeps/forged")
    assert page.status == 200
    assert "mood" not in page.text


def test_code_that_a_store_names_is_not_imported(site: Site, folder: Path):
    page = site.ask("/sweeps/foreign")
    assert page.status == 200
    assert "nothing is imported because a store names it" in page.text
    assert not (folder / "imported").exists()


def test_a_trial_has_its_settings_stages_curve_and_layers(site: Site, folder: Path):
    keys = re.findall(r"/sweeps/small/trials/([0-9a-f]+)", site.ask("/sweeps/small/parts/trials").text)
    assert len(set(keys)) == 12
    pages = [site.ask(f"/sweeps/small/trials/{key}").text for key in dict.fromkeys(keys)]
    done = next(page for page in pages if "imp at 80%, seed 0" in page)
    assert "conv1.weight" in done
    assert "20.00%" in done, "of a layer's weights are left"
    assert "7,654,321" in done, "of a layer that has no prunable weight"
    assert "retrain schedule" in done
    assert "validation accuracy, percent" in done
    failed = next(page for page in pages if "imp at 90%, seed 1" in page)
    assert "This trial has failed" in failed
    assert "&lt;script&gt;alert(2)" in failed


@pytest.mark.parametrize(
    "path",
    [
        *("/sweeps/none", "/sweeps/stages", "/sweeps/..", "/sweeps/%2e%2e", "/sweeps/..%2f..%2fsecret.txt"),
        *("/sweeps/%2fetc", "/sweeps/small%00", "/sweeps/%3Cb%3Ebold", "/sweeps/small/trials/..", "/secret.txt"),
        *("/sweeps/small/trials/" + 20 * "0", "/sweeps/small/parts/no", "/static/../secret.txt"),
        *("/static/x/page.css", "/static/x/..%2f..%2fsecret.txt", "//secret.txt", "/sweeps/small/sweep.json"),
    ],
)
def test_what_is_no_page_is_not_there(site: Site, path: str):
    answered = site.ask(path)
    assert answered.status == 404
    assert "business" not in answered.text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_it_only_answers_questions(site: Site, method: str):
    assert {site.ask(path, method).status for path in ("/", "/sweeps/small")} == {405}


def test_what_has_not_changed_is_not_sent_again(site: Site):
    for path in ("/sweeps/small/parts/versions", "/sweeps/small/parts/figures", "/parts/versions"):
        first = site.ask(path)
        assert first.status == 200
        again = site.ask(path, If_None_Match=first.headers["etag"])
        assert (again.status, again.text) == (304, "")
    told = json.loads(site.ask("/sweeps/small/parts/versions").text)
    assert set(told["versions"]) >= {"progress", "running", "growing", "comparison", "figures", "failures"}
    assert told["seconds"] == 2


def test_a_name_that_leads_to_this_machine_is_not_this_machine(site: Site):
    """DNS rebinding: a page of evil.example would ask its own name, which now has the address 127.0.0.1."""
    assert site.ask("/sweeps/small", Host="evil.example").status == 403
    assert site.ask("/sweeps/small", Host="evil.example:80").status == 403
    for name in ("localhost", "127.0.0.1:9999", "[::1]:1"):
        assert site.ask("/sweeps/small", Host=name).status == 200


def test_a_browser_is_told_to_run_nothing_but_the_page_s_own_scripts(site: Site):
    for path in ("/", "/sweeps/small", "/sweeps/none", "/sweeps/small/parts/figures"):
        headers = site.ask(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


# --- beyond this machine


def test_beyond_this_machine_only_who_has_the_link_sees_it(folder: Path):
    with serving(Cli(folder), "--host", "0.0.0.0") as open_site:
        token = open_site.link.partition("?token=")[2]
        assert len(token) >= 32
        for path in ("/", "/sweeps/small", "/parts/versions", "/?token=", "/?token=wrong", "/sweeps/none"):
            refused = open_site.ask(path)
            assert refused.status == 403
            assert "small" not in refused.text
        assert open_site.ask("/", Cookie=f"prunesweep-{open_site.port}=wrong").status == 403
        first = open_site.ask(f"/sweeps/small?token={token}")
        assert (first.status, first.headers["location"]) == (303, "/sweeps/small")
        cookie = first.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert open_site.ask("/", Cookie=cookie.partition(";")[0], Host="any.name").status == 200
        elsewhere = open_site.ask(f"//evil.example/?token={token}")
        assert elsewhere.headers["location"] == "/evil.example/", "never to another host"


def test_what_is_on_loopback():
    assert [is_loopback(host) for host in ("127.0.0.1", "localhost", "::1", "127.1.2.3")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "example.org", "")] == [False] * 5


# --- its life


def test_a_store_that_is_not_there_is_said(cli: Cli):
    assert "there is no store at" in cli("ui", "nowhere", code=2)


def test_a_port_in_use_is_said(folder: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = Cli(folder)("ui", "--port", str(port), code=2)
    assert (
        said
        == f"error: port {port} of 127.0.0.1 is in use: choose another with --port; --port 0 takes any that is free\n"
    )


def test_an_address_that_is_none_is_said(folder: Path):
    assert "--host 192.0.2.1: this machine does not have that address" in Cli(folder)(
        "ui", "--host", "192.0.2.1", code=2
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_without_a_traceback(folder: Path, number: int):
    with serving(Cli(folder)) as ended:
        assert ended.ask("/").status == 200
        code, written = ended.end(number)
    assert code == 130
    assert "Traceback" not in written
