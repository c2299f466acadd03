"""Which files stages have, in a bucket of many: the same answer as of a list of all, in few requests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import pytest
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

from prunesweep.workers.listing import FEW, SPARSE, listed, some
from prunesweep.workers.store import RESULT, Store
from tests.s3 import Requests, bucket

pytest.importorskip("obstore")

STAGES, FILES = 1500, ("attempts/0001-0f3a55c2.json", "curve.parquet", RESULT, "spec.json")
PAGES = STAGES * len(FILES) // 1000


def key_of(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()[:20]


KEYS = [key_of(number) for number in range(STAGES)]
ABSENT = [key_of(number) for number in range(STAGES, 2 * STAGES)]


@pytest.fixture(scope="module")
def requests() -> Requests:
    return Requests()


@pytest.fixture(scope="module")
def store(requests: Requests) -> Iterator[Store]:
    with bucket(requests) as url:
        objects = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]  # put here, 6,000 requests are saved
        for path in (f"lab/stages/{key}/{name}" for key in (*KEYS, "damaged-1", "zz") for name in FILES):
            objects.put_object(url.removeprefix("s3://"), path, path.encode())
        yield Store(f"{url}/lab")


def sizes(store: Store, keys: Sequence[str]) -> dict[str, dict[str, int] | None]:
    return {
        key: files and {name: stamp.size for name, stamp in files.items()} for key, files in listed(store, keys).items()
    }


def test_all_files_of_all_stages_are_listed_by_several_at_once(store: Store, requests: Requests) -> None:
    expected = {key: {name: len(f"lab/stages/{key}/{name}") for name in FILES} for key in KEYS}
    with requests.counted() as made:
        assert sizes(store, [*KEYS, *ABSENT]) == {**expected, **dict.fromkeys(ABSENT)}
    parts = -(-PAGES // SPARSE)
    assert PAGES < made.total() <= PAGES + 1 + parts
    assert set(made) == {"GET"}


@pytest.mark.parametrize("count", [FEW, FEW + 1, SPARSE * PAGES - SPARSE])
def test_few_stages_of_many_are_listed_each(store: Store, requests: Requests, count: int) -> None:
    keys = [*KEYS[: count - 2], *ABSENT[:2]]
    with requests.counted() as made:
        listings = sizes(store, keys)
    assert [key for key, files in listings.items() if files is None] == ABSENT[:2]
    assert all(len(files) == len(FILES) for files in listings.values() if files)
    assert made == {"GET": count + (count > FEW)}, "for more than a few it is first seen how many there are"


def test_some_stages_are_one_request(store: Store, requests: Requests) -> None:
    with requests.counted() as made:
        keys = some(store, 100)
    assert keys == sorted(KEYS)[:100]
    assert made == {"GET": 1}


def test_a_stamp_is_that_of_what_is_read_and_changes_with_a_byte(store: Store) -> None:
    path = ("stages", KEYS[0], RESULT)
    data, stamp = store.read_stamped(*path)
    assert data is not None
    assert listed(store, KEYS[:1])[KEYS[0]][RESULT] == stamp
    store.write(data, *path)
    assert store.read_stamped(*path) == (data, stamp), "the same bytes are as good"
    store.write(data[:-1] + b"?", *path)
    assert listed(store, KEYS[:1])[KEYS[0]][RESULT] == store.read_stamped(*path)[1] != stamp
    store.write(data, *path)
