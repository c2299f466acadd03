"""Credentials in a store's URL: no verb prints or keeps them, and errors do not, either."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from prunesweep.workers.location import Location
from prunesweep.workers.store import Store
from tests.orchestrator.conftest import Cli
from tests.orchestrator.finished import finish
from tests.s3 import bucket
from tests.warm import Answer

KEY, SECRET = "AKIAKNOWNTONOBODY", "a-s3cret-of-mine"

FIVE = """\
name: five
dataset: digits
model: lenet300
seeds: 2
train: {epochs: 2}
trials:
  - {method: [imp, random], sparsity: 0.5, retrain_epochs: 1}
  - {method: imp, sparsity: 0.99, retrain_epochs: 1, train: {lr: 1.0e+30}}
"""

WORK = [
    *(["status"], ["status", "five"], ["status", "five", "--json"], ["plan", "five"], ["plan", "five", "--json"]),
    *(["logs", "five"], ["results", "five"], ["results", "five", "--json"], ["results", "five", "--format", "latex"]),
    *(["compare", "five"], ["plot", "five"], ["report", "five"], ["doctor"], ["doctor", "--json"]),
    *(["gc"], ["gc", "--yes"], ["export", "tensorboard", "five", "--to", "board"], ["validate", "five.yaml"]),
    *(["export", "mlflow", "five", "--to", "runs"], ["export", "network", "five", "--to", "networks"]),
    *(["export", "onnx", "five", "--to", "networks"], ["list", "datasets"], ["results", "{store}/five"]),
    *(["plot", "{store}/five", "--kind", "curves"], ["status", "{store}/five"]),
    ["plan", "five", "--data-dir", "{store}"],
]
WRONG = [
    *(["results", "no-such"], ["status", "{store}/no-such"], ["status", "five", "{store}"], ["{store}"]),
    *(["results", "five", "--where", "{store}"], ["run", "{store}/five.yaml"], ["validate", "{store}"]),
    *(["compare", "five", "--published", "{store}"], ["results", "{store}/five/x.parquet"]),
    *(["report", "five", "--debug", "--output", "{store}/x"]),
]


def with_keys(place: str, host: str | None = None) -> str:
    """The URL of a place in the bucket, with credentials, and the endpoint in its options."""
    end = urlsplit(os.environ["AWS_ENDPOINT_URL"])
    name = place.removeprefix("s3://")
    return f"s3://{KEY}:{SECRET}@{name}?endpoint_override={host or end.netloc}&scheme=http&region=us-east-1"


@pytest.fixture(scope="module")
def place() -> Iterator[str]:
    with bucket() as url:
        yield with_keys(f"{url}/results")


def clean(answer: Answer, folder: Path) -> None:
    """What was printed, and the files of the folder, hold neither key nor secret; there was no traceback of ours."""
    assert SECRET not in answer.out + answer.err
    assert KEY not in answer.out + answer.err
    hold = [file for file in folder.rglob("*") if file.is_file() and SECRET.encode() in file.read_bytes()]
    assert not hold


def kept(store: Store) -> dict[str, bytes]:
    """All files of a store."""
    return {"/".join(file.path): store.read(*file.path) or b"" for file in store.files()}


@pytest.fixture(scope="module")
def filled(place: str, tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(place)
    store.require_writable()
    file = tmp_path_factory.mktemp("sweep") / "five.yaml"
    diverges = {0.99: "it diverged"}
    finish(FIVE, store, file, lambda stage: diverges.get(stage.sparsity))
    return store


def some_slow(verbs: list[list[str]]) -> list[Any]:
    slow = ["doctor", "mlflow", "export onnx", "report"]
    return [pytest.param(v, marks=[pytest.mark.slow] if any(s in " ".join(v) for s in slow) else []) for v in verbs]


@pytest.mark.parametrize("verb", some_slow(WORK + WRONG), ids=" ".join)
def test_no_verb_prints_or_keeps_a_secret(cli: Cli, filled: Store, verb: list[str]):
    cli.write(FIVE, "five.yaml")
    url = filled.location.reveal()
    below = filled.location.beside
    arguments = [part.format(store=url) if part == "{store}" else part for part in verb]
    arguments = [below(*part.split("/")[1:]).reveal() if part.startswith("{store}/") else part for part in arguments]
    takes_store = arguments[0] not in ("validate", "list", url)
    answer = cli.ask(*arguments, *(["--store", url] if takes_store else []))
    clean(answer, cli.folder)
    without_networks = verb[:2] in (["export", "network"], ["export", "onnx"])
    assert answer.code == (2 if verb in WRONG else 1 if without_networks else 0), answer
    assert "Traceback" not in answer.err or "--debug" in arguments
    assert not [name for name, data in kept(filled).items() if SECRET.encode() in data]


@pytest.mark.slow
def test_an_endpoint_that_refuses_and_a_bucket_that_is_not_there(cli: Cli, place: str):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    cli.write(FIVE, "five.yaml")
    wrong = [
        with_keys("s3://bucket/results", f"127.0.0.1:{port}"),
        with_keys("s3://no-such-bucket/x"),
        f"s3://{KEY}:{SECRET}/x@bucket",
        f"s3://{KEY}:{SECRET}@bucket:port/x y",
        f"no-such://{KEY}:{SECRET}@bucket/x",
        f"https://{KEY}:{SECRET}@127.0.0.1:{port}/x?token={SECRET}",
    ]
    for url in wrong:
        for verb in (["status"], ["results", url], ["results", "five", "--debug"], ["plan", "five.yaml"]):
            answer = cli.ask(*verb, "--store", url)
            clean(answer, cli.folder)
            assert answer.code == 2 or (verb[0], answer.code) == ("plan", 0)
            assert "error: " in answer.err or not answer.code
    clean(cli.ask("doctor", "--store", wrong[0]), cli.folder)


def test_addresses_and_proxies(cli: Cli, monkeypatch: pytest.MonkeyPatch):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    cli.write(FIVE, "five.yaml")
    dashboard = f"http://me:{SECRET}@127.0.0.1:{port}"
    at = ["--address", dashboard]
    monkeypatch.setenv("http_proxy", f"http://me:{SECRET}@127.0.0.1:{port}")
    monkeypatch.setenv("RAY_ADDRESS", dashboard)
    for verb in (
        ["jobs", *at],
        ["jobs", "--json", *at],
        ["cancel", "five", *at],
        ["logs", "five", *at],
        ["submit", "five.yaml", *at, "--store", f"s3://{KEY}:{SECRET}@b/x", "--notify", f"http://chat/{SECRET}"],
        ["submit", "five.yaml", *at, "--store", f"x/{KEY}"],
        ["jobs", "--address", f"me:{SECRET}@127.0.0.1:{port}"],
        ["jobs", "--address", f"ftp://me:{SECRET}@127.0.0.1"],
        ["submit", "five.yaml", "--address", "no", "--store", "/x", "--notify", f"chat/{SECRET}"],
    ):
        answer = cli.ask(*verb)
        assert SECRET not in answer.out + answer.err
        assert answer.code == 2
        assert "Traceback" not in answer.err


@pytest.mark.slow
def test_a_run_on_a_bucket_keeps_no_secret(cli: Cli, place: str):
    """Run, a failure, resumption and a web hook that is not there; records, notes of failures and logs, too."""
    text = FIVE.replace("five", "real").replace("seeds: 2", "seeds: 1")
    place = Location(place).beside("real").reveal()
    cli.write(text, "real.yaml")
    hook = ["--notify", f"http://127.0.0.1:9/{SECRET}"]
    answers = [cli.ask("run", "real.yaml", "--store", place, *hook, seconds=180)]
    answers.append(cli.ask("resume", "real", "--store", place, seconds=180))
    answers.append(cli.ask("run", "real.yaml", "--store", place, "--address", f"http://me:{SECRET}@127.0.0.1:9"))
    assert [answer.code for answer in answers] == [1, 1, 2]
    assert "2 of 3 trials done; tables in s3://bucket-" in answers[0].out
    for answer in answers:
        clean(answer, cli.folder)
    assert not [name for name, data in kept(Store(place)).items() if SECRET.encode() in data]
