"""`--notify`: a web hook on this machine hears how a run ended, and a hook that does not listen changes nothing."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from prunesweep.orchestrator.cli.options import web_hook
from prunesweep.orchestrator.run import notify as webhook
from prunesweep.orchestrator.run.driver import Options
from prunesweep.orchestrator.sweepfile.read import read_sweep
from prunesweep.workers.errors import UserError
from prunesweep.workers.location import Location
from prunesweep.workers.store import Store
from tests.orchestrator.conftest import Cli
from tests.orchestrator.hook import SECRET, Hook

QUICK = "name: quick\ndataset: digits\nmodel: lenet300\ntrain: {epochs: 2}\ntrials:\n"
LONG = QUICK.replace("quick", "long").replace("epochs: 2", "epochs: 2000")
DENSE = "  - {method: dense}\n"
DIVERGES = "  - {method: imp, sparsity: 0.5, retrain_epochs: 1, train: {lr: 1.0e+30}}\n"


@pytest.fixture
def hook() -> Iterator[Hook]:
    with Hook() as hook:
        yield hook


@pytest.mark.slow
def test_the_hook_hears_that_a_run_is_done_or_has_failed(hook: Hook, cli: Cli, monkeypatch: pytest.MonkeyPatch):
    printed = cli("run", cli.write(QUICK + DENSE + DIVERGES), "--notify", hook.url, code=1)
    monkeypatch.setenv("PRUNESWEEP_NOTIFY", hook.url)
    cli.write(QUICK + DENSE)
    printed += cli("run", "sweep.yaml")
    failed, done = hook.heard
    assert SECRET not in printed
    store = str(cli.folder / "results")
    assert 0 < failed.pop("seconds") < 120
    assert failed.pop("text") == failed.pop("content")
    assert failed == {
        "sweep": "quick",
        "store": store,
        "outcome": "failed",
        "trials": 2,
        "done": 1,
        "failed": 0,
        "blocked": 1,
        "command": f"prunesweep results quick --store {store}",
    }
    assert (done["outcome"], done["trials"], done["done"], done["failed"]) == ("done", 1, 1, 0)
    assert done["text"].startswith("quick: done after ")
    assert done["text"].endswith(f"; 1 of 1 trial done. prunesweep results quick --store {store}")


@pytest.mark.slow
def test_the_hook_hears_of_an_interruption_and_of_errors(hook: Hook, cli: Cli):
    process = cli.start("run", cli.write(LONG + DENSE), "--notify", hook.url)
    cli.wait_for(lambda: bool(list(cli.folder.glob("results/stages/*/checkpoint.safetensors"))), process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    error = cli("resume", "long", "--notify", hook.url, "--address", "127.0.0.1:9", code=2)
    assert [(each["outcome"], each["done"]) for each in hook.heard] == [("interrupted", 0), ("error", 0)]
    assert hook.heard[0]["text"].startswith("long: interrupted after ")
    said = hook.heard[1]["text"].partition("UserError: ")[2][:40]
    assert said
    assert said in error


@pytest.mark.slow
def test_a_hook_that_is_not_there_is_a_warning(cli: Cli):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    printed = cli("run", cli.write(QUICK + DENSE), "--notify", f"http://127.0.0.1:{port}/{SECRET}")
    warning = f"the web hook at http://127.0.0.1:{port} was not told that the run has ended: "
    assert [line for line in printed.splitlines() if "web hook" in line] == [f"{warning}Connection refused"]
    assert "1 of 1 trial done" in printed
    assert SECRET not in printed


def test_who_has_a_fault_is_asked_again_and_who_refuses_is_not(hook: Hook, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(webhook, "PAUSES", (0.0, 0.0))
    for answers, problem, tries in (
        ([200], None, 1),
        ([500, 429, 200], None, 3),
        ([503, 503, 503], "it answers 503 Service Unavailable", 3),
        ([404, 200], "it answers 404 Not Found", 1),
    ):
        hook.heard, hook.answers = [], list(answers)
        assert webhook.post(web_hook(hook.url), {"text": "x"}) == problem
        assert len(hook.heard) == tries


def test_a_hook_that_is_silent_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(webhook, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr(webhook, "SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun = time.monotonic()
        assert webhook.post(web_hook(f"http://127.0.0.1:{silent.getsockname()[1]}"), {}) == "timed out"
        assert 0.6 <= time.monotonic() - begun < 3


def test_a_redirection_is_not_followed(hook: Hook):
    class Elsewhere(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(307)
            self.send_header("Location", hook.url)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        problem = webhook.post(web_hook(f"http://127.0.0.1:{server.server_port}"), {"text": "x"})
        server.shutdown()
    assert problem == "it answers 307 Temporary Redirect"
    assert hook.heard == []


def test_who_answers_a_word_at_a_time_holds_no_run(monkeypatch: pytest.MonkeyPatch):
    """Each word comes within the time that one may take; all together have a limit."""
    monkeypatch.setattr(webhook, "LIMIT", 1.0)
    ended = threading.Event()

    def drip(server: socket.socket) -> None:
        taken, _ = server.accept()
        with taken:
            taken.sendall(b"HTTP/1.1 200 OK\r\n")
            while not ended.wait(0.05):
                taken.sendall(b"X-Word: x\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server,))
        thread.start()
        problem = webhook.post(web_hook(f"http://127.0.0.1:{server.getsockname()[1]}"), {})
        ended.set()
        thread.join()
    assert problem == "it has not answered within 1 s"


@pytest.mark.parametrize(
    "url",
    ["chat.example/x", "ftp://chat.example/x", "https:///x", "http://a:port/", "http://a b/", "file:///x"],
)
def test_what_is_no_web_hook_is_refused_and_not_repeated(url: str):
    with pytest.raises(UserError) as refused:
        Options(notify=web_hook(url))
    assert url not in str(refused.value)


def test_a_wrong_url_is_refused_before_anything_runs(cli: Cli, monkeypatch: pytest.MonkeyPatch):
    error = cli("run", cli.write(QUICK + DENSE), "--notify", "chat.example", code=2)
    assert error == "error: --notify, or PRUNESWEEP_NOTIFY, is not the http:// or https:// URL of a web hook\n"
    assert not (cli.folder / "results").exists()
    monkeypatch.setenv("PRUNESWEEP_NOTIFY", "")
    Options(notify=web_hook(""))


def test_a_message_has_no_keys_of_the_store(tmp_path: Path):
    (tmp_path / "x.yaml").write_text(QUICK + DENSE)
    store = Store(tmp_path)
    store.location = Location("s3://key:secret@bucket/store")
    why = "UserError: the store s3://key:secret@bucket/store is gone"
    said = webhook.message(read_sweep(tmp_path / "x.yaml"), store, None, "error", 100, why)
    assert "secret" not in json.dumps(said)
    assert "stopped by an error (UserError: the store s3://bucket/store is gone) after 2 min" in said["text"]
    assert said["store"] == "s3://bucket/store"
