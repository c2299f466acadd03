"""A network that loses requests and answers, before a real S3 endpoint: nothing is said, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyarrow import fs

from prunesweep.workers.store import Store
from tests.faulty_proxy import FAULTS, FaultyProxy, faulty_bucket
from tests.in_process import run_here
from tests.orchestrator.conftest import SWEEP
from tests.same_tables import assert_same, compare

CALLS: dict[str, tuple[Callable[[Store], object], object]] = {
    "read": (lambda store: store.read("a", "b"), b"b"),
    "read_stamped": (lambda store: store.read_stamped("a", "b")[0], b"b"),
    "write": (lambda store: store.write(b"2", "a", "b"), True),
    "create": (lambda store: store.write(b"c", "a", "c", replace=False), True),
    "create what is there": (lambda store: store.write(b"c", "a", "b", replace=False), False),
    "names": (lambda store: store.names("a"), ["b"]),
    "files": (lambda store: [file.path for file in store.files("a")], [("a", "b")]),
    "page": (lambda store: [file.path for file in store.page("a", after="") or []], [("a", "b")]),
    "are_files": (lambda store: store.are_files([("a", "b"), ("a", "c")]), [True, False]),
    "remove": (lambda store: store.remove("a", "b"), None),
}


@pytest.fixture(scope="module")
def network() -> Iterator[tuple[str, FaultyProxy]]:
    with faulty_bucket() as made:
        yield made


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "slow"])
@pytest.mark.parametrize("call", CALLS)
def test_one_fault_is_not_noticed(call: str, fault: str, network: tuple[str, FaultyProxy]):
    url, proxy = network
    ask, expected = CALLS[call]
    store = Store(f"{url}/{call.replace(' ', '-')}-{fault}")
    store.write(b"b", "a", "b")
    proxy.planned = [fault]
    assert ask(store) == expected
    assert proxy.planned == []


@pytest.mark.slow
def test_a_sweep_whose_every_tenth_request_goes_wrong_has_the_same_tables(tmp_path: Path):
    sweep = tmp_path / "small.yaml"
    sweep.write_text(SWEEP.format(seeds=1, name="small"))
    run_here(sweep, Store(tmp_path / "near"))
    with faulty_bucket(0.1, delay=0.02, seed=18) as (url, proxy):
        run_here(sweep, Store(f"{url}/far"))
        proxy.share = 0.0
        remote, root = fs.FileSystem.from_uri(f"{url}/far")
        fs.copy_files(root, str(tmp_path / "far"), source_filesystem=remote)
    assert proxy.faults.keys() == set(FAULTS)
    assert_same(tmp_path / "near/small", tmp_path / "far/small")
    assert all(rows.equal for rows in compare(tmp_path / "near/small", tmp_path / "far/small").values())
