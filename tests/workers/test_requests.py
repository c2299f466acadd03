"""What a stage asks of a store at a distance, over its life and in a minute: requests, on a real S3 endpoint."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from prunesweep.workers.claims import BEAT_SECONDS, Claim, Claimed, Holding
from prunesweep.workers.errors import UserError
from prunesweep.workers.host import Where
from prunesweep.workers.run import run_stage
from prunesweep.workers.spec import path
from prunesweep.workers.store import Store
from tests.cases import last_stage, trial
from tests.s3 import Environ, Requests, bucket, endpoint

pytest.importorskip("obstore")

KEY = "0" * 20


@pytest.fixture(scope="module")
def requests() -> Requests:
    return Requests(delay=0.02)


@pytest.fixture(scope="module")
def place(requests: Requests) -> Iterator[str]:
    with bucket(requests) as url:
        yield url


def test_a_stage_makes_at_most_twelve_requests_over_its_life(
    place: str, requests: Requests, monkeypatch: pytest.MonkeyPatch
):
    """Beside heartbeats and checkpoints, of which there are as many as it takes time.

    The list of its folder; spec, note and claim; of its parent result, network and momentum; its own four files; and
    the claim goes.
    """
    monkeypatch.setattr("prunesweep.workers.claims.BEAT_SECONDS", 3600.0)
    store = Store(f"{place}/life")
    stages = path(last_stage(trial("imp")))
    assert len(stages) == 3
    expected = [{"GET": 1, "PUT": 6, "POST": 1}, {"GET": 3, "PUT": 7, "POST": 1}, {"GET": 4, "PUT": 7, "POST": 1}]
    for stage, counts in zip(stages, expected, strict=True):
        with requests.counted() as made:
            list(run_stage(stage, store, Where(checkpoint_share=0.0)))
        assert dict(made) == counts
        assert made.total() <= 12
        assert store.done([stage.key])


def test_a_heartbeat_is_one_request_and_one_in_five_looks_whether_the_claim_was_taken_over(
    place: str, requests: Requests, monkeypatch: pytest.MonkeyPatch
):
    beats = round(60 / BEAT_SECONDS)
    monkeypatch.setattr("prunesweep.workers.claims.BEAT_SECONDS", 3600.0)  # this test calls, and not the thread
    store = Store(f"{place}/minute")
    store.require_writable()
    with Holding(store, KEY, Claim.mine("0001-me", "my run")) as claim:
        with requests.counted() as made:
            for _ in range(beats):
                claim._renew()
        assert dict(made) == {"PUT": 30, "GET": 12}
        claim.require()


def test_who_was_taken_over_on_s3_finds_that_within_five_heartbeats(place: str):
    store = Store(f"{place}/over")
    theirs = Claim.mine("0002-them", "their run")
    with Holding(store, KEY, Claim.mine("0001-me", "my run")) as mine, Holding(store, KEY, theirs, gone=["0001-me"]):
        for _ in range(5):
            mine._renew()
        with pytest.raises(Claimed, match="taken over"):
            mine.require()


def test_a_server_that_ignores_the_condition_of_a_write_is_refused_and_may_be_used_without(
    monkeypatch: pytest.MonkeyPatch,
):
    """It is a real one that never sees the header; without conditions pyarrow looks, then writes."""

    def unconditional(environ: Environ) -> Environ:
        return {name: value for name, value in environ.items() if name != "HTTP_IF_NONE_MATCH"}

    with endpoint(translated=unconditional) as (address, name):
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a secret")
        for _ in range(2):
            with pytest.raises(UserError, match=r"ignores If-None-Match.* add .conditional_writes=no to the URL"):
                Store(f"s3://{name}/store").require_writable()
        url = f"s3://{name}/store?endpoint_override={address}&region=us-east-1&conditional_writes=no"
        store = Store(url)
        store.require_writable()
        assert not store.exclusive
        assert store.write(b"first", "file", replace=False)
        assert not store.write(b"second", "file", replace=False)
        assert store.read("file") == b"first"
