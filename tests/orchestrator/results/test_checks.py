"""Tables are checked when their files are read: what is behind that need not ask."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prunesweep import load_curves, load_layers, load_results
from prunesweep.orchestrator.results.schemas import SWEEP_KEY
from prunesweep.orchestrator.status.checking import Check
from prunesweep.workers.errors import UserError
from prunesweep.workers.store import Store
from tests.orchestrator.conftest import Cli
from tests.orchestrator.finished import finish

TWO = """\
name: two
dataset: digits
model: lenet300
train: {epochs: 2}
trials: [{method: [imp, random], sparsity: 0.5, retrain_epochs: 1}]
"""


@pytest.fixture
def store(cli: Cli) -> Store:
    store = Store(cli.folder / "results")
    store.require_writable()
    finish(TWO, store, cli.folder / "two.yaml")
    return store


def change(store: Store, file: str, how: Callable[[pa.Table], pa.Table]) -> None:
    place = Path(store.location) / "two" / file
    table = pq.read_table(place, partitioning=None).replace_schema_metadata(None)  # anybody's: without a checksum
    pq.write_table(how(table), place)


def with_values(name: str, *values: object) -> Callable[[pa.Table], pa.Table]:
    def changed(table: pa.Table) -> pa.Table:
        filled = [*values, *[values[0]] * (len(table) - len(values))]
        return table.set_column(table.schema.get_field_index(name), name, pa.array(filled))

    return changed


WRONG = [
    ("trials.parquet", with_values("trial", "x/../../../../y", "y"), r"column trial holds 'x/../../../../y'"),
    ("trials.parquet", with_values("trial", "..", "y"), "column trial holds '..'"),
    ("trials.parquet", with_values("stage_keys", ["a", "../b"]), "column stage_keys holds '../b'"),
    ("trials.parquet", with_values("sweep", "a/b"), "column sweep holds 'a/b'"),
    ("trials.parquet", with_values("sweep", "a\nb"), r"column sweep holds 'a\\nb'"),
    (
        "trials.parquet",
        lambda table: table.drop_columns(["method"]),
        "no column method, so that it",
    ),
    ("trials.parquet", with_values("seed", "text"), "its column seed holds string, not int64"),
    ("trials.parquet", with_values("test_accuracy", [1.0]), "its column test_accuracy holds list"),
    ("curves.parquet", with_values("stage", "a/b"), "column stage holds 'a/b'"),
    ("curves.parquet", lambda table: table.select(["trial"]), "no column stage"),
    ("layers.parquet", with_values("trial", "/etc"), "column trial holds '/etc'"),
]


@pytest.mark.parametrize(("file", "how", "why"), WRONG)
def test_what_is_no_table_of_results_is_a_line(store: Store, file: str, how: Callable[[pa.Table], pa.Table], why: str):
    change(store, file, how)
    load = {"trials.parquet": load_results, "curves.parquet": load_curves, "layers.parquet": load_layers}[file]
    with pytest.raises(UserError, match=why):
        load("two", store=store.location)


def test_a_key_leads_nothing_out_of_the_folder_of_an_export(cli: Cli, store: Store):
    change(store, "trials.parquet", with_values("trial", "x/../../../../y", "z"))
    (cli.folder / "deep/er").mkdir(parents=True)
    before = set(cli.folder.rglob("*"))
    assert "which is no key" in cli("export", "tensorboard", "two", "--to", "deep/er/board", code=2)
    assert set(cli.folder.rglob("*")) == before


def test_what_the_metadata_of_a_table_says_may_be_anything(store: Store):
    for said in (b"[" * 100_000, b"{", b"[]", b'{"sweep": [], "trials": "x"}'):
        change(store, "trials.parquet", lambda table, said=said: table.replace_schema_metadata({SWEEP_KEY: said}))
        assert len(load_results("two", store=store.location)) == 2


def test_columns_that_are_absent_are_null_and_names_are_plain(store: Store):
    change(store, "trials.parquet", lambda table: table.drop_columns(["test_loss", "device"]))
    change(store, "trials.parquet", with_values("method", "a\x1b[31mb", "c"))
    frame = load_results("two", store=store.location)
    assert frame.test_loss.isna().all()
    assert frame.device.isna().all()
    assert list(frame.method) == ["a\\x1b[31mb", "c"]


ODD_TYPES = {
    "a decimal": (pa.array([Decimal("0.1")] * 2), 0.1),
    "half precision": (pa.array([0.5, 0.5], pa.float16()), 0.5),
    "a category": (pa.array(["sgd", "sgd"]).dictionary_encode(), "sgd"),
    "a date": (pa.array([date(2026, 1, 2)] * 2), "2026-01-02"),
    "a duration": (pa.array([5, 5], pa.duration("s")), "5"),
    "bytes": (pa.array([b"sgd", b"sgd"]), "sgd"),
}


@pytest.mark.parametrize("kind", ODD_TYPES)
def test_a_setting_is_a_truth_a_number_or_a_text(store: Store, kind: str):
    values, read = ODD_TYPES[kind]
    change(store, "trials.parquet", lambda table: table.append_column("a_setting", values))
    assert list(load_results("two", store=store.location).a_setting) == [read] * 2


def test_a_setting_whose_type_cannot_be_read_is_named(store: Store):
    times = pa.array([0, 0], pa.timestamp("us", tz="Nowhere/At_All"))
    change(store, "trials.parquet", lambda table: table.append_column("a_setting", times))
    with pytest.raises(UserError, match=r"its column a_setting holds timestamp\[us, tz=Nowhere/At_All\], not string"):
        load_results("two", store=store.location)


class Pickled:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("called"),)


class Objects(pa.ExtensionType):
    """As Ray has it: a package that is imported may register such types, whose values are made by unpickling."""

    def __init__(self) -> None:
        super().__init__(pa.binary(), "tests.pickled")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage: pa.DataType, serialized: bytes) -> Objects:
        return cls()

    def __arrow_ext_scalar_class__(self) -> type[pa.ExtensionScalar]:
        return Unpickled


class Unpickled(pa.ExtensionScalar):
    def as_py(self, **kwargs: object) -> object:
        return pickle.loads(self.value.as_py())


def test_no_object_is_made_of_what_is_in_a_table(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    objects = pa.array([pickle.dumps(Pickled())] * 2, pa.binary())
    column = pa.ExtensionArray.from_storage(Objects(), objects)
    change(store, "trials.parquet", lambda table: table.append_column("mine", column))
    pa.register_extension_type(Objects())
    try:
        assert pq.read_table(tmp_path / "results/two/trials.parquet", partitioning=None)["mine"].type == Objects()
        assert "mine" not in load_results("two", store=store.location)
        assert list(Check(store).faults()) == []
    finally:
        pa.unregister_extension_type("tests.pickled")
    assert not Path("called").exists()


@pytest.mark.parametrize("said", [b"", b"[1]", b'{"trials": "x"}', b"\xff", b'{"sweep": 1, "trials": 2, "seeds": "x"}'])
def test_what_the_metadata_says_is_not_trusted(store: Store, said: bytes):
    change(store, "trials.parquet", lambda table: table.replace_schema_metadata({b"prunesweep_asked": said}))
    assert [sweep["trials"] for sweep in load_results("two", store=store.location).attrs["sweeps"]] == [2]


@pytest.mark.parametrize(
    "said",
    [
        b"{",
        b"[]",
        b"\xff",
        b'{"index_columns": ["trial"], "columns": [], "column_indexes": []}',
        b'{"index_columns": ["no"], "columns": [{"name": "no"}], "column_indexes": [{}]}',
        b'{"index_columns": [], "columns": [{"name": "method", "field_name": "method", "pandas_type": "x",'
        b' "numpy_type": "os.system", "metadata": null}], "column_indexes": []}',
    ],
)
def test_what_pandas_notes_of_types_and_an_index_is_not_taken(store: Store, said: bytes):
    before, curves = load_results("two", store=store.location), load_curves("two", store=store.location)
    change(store, "trials.parquet", lambda table: table.replace_schema_metadata({b"pandas": said}))
    change(store, "curves.parquet", lambda table: table.replace_schema_metadata({b"pandas": said}))
    assert load_results("two", store=store.location).equals(before)
    assert load_curves("two", store=store.location).equals(curves)


def test_a_few_bytes_that_would_fill_the_memory_are_no_table(store: Store):
    """Rows that are all alike take no space in a file, and neither does a long text that many of them have."""
    place = Path(store.location) / "two/trials.parquet"
    texts, rows, few = ("trial", "sweep", "dataset", "model"), 2**20, 2**16
    absent = {f"no{number}": pa.nulls(rows, pa.int64()) for number in range(64)}
    alike = {**{name: pa.repeat("x", rows) for name in (*texts, "method")}, "seed": pa.repeat(1, rows), **absent}
    method = pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), few), pa.array(["x" * 2**16]))
    long = {**{name: pa.repeat("x", few) for name in texts}, "seed": pa.repeat(1, few), "method": method}
    for table in (pa.table(alike), pa.table(long)):
        pq.write_table(table, place, store_schema=False)
        assert place.stat().st_size < 2**19
        with pytest.raises(UserError, match="bytes claim to be a table of more than"):
            load_results("two", store=store.location)


def test_a_file_that_is_larger_than_any_table_is_not_read(store: Store):
    place = Path(store.location) / "two/trials.parquet"
    with place.open("r+b") as file:
        file.truncate(2**42)  # of which nothing is on the disk
    with pytest.raises(UserError, match="cannot read"):
        load_results("two", store=store.location)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_a_pipe_is_no_table(store: Store):
    place = Path(store.location) / "two/trials.parquet"
    place.unlink()
    os.mkfifo(place)
    with pytest.raises(UserError, match="no results"):
        load_results("two", store=store.location)


def test_a_frame_that_pandas_has_written_is_a_table_of_results(store: Store):
    place = Path(store.location) / "two/trials.parquet"
    frame = load_results(place).assign(method=lambda f: f["method"].astype("category"))
    frame.set_index("trial").to_parquet(place)
    again = load_results(place)
    assert list(again["trial"]) == list(frame["trial"])
    assert list(again["method"]) == ["imp", "random"]


def test_a_table_from_before_a_setting_was_there_says_what_all_trained_with_then(store: Store):
    change(store, "trials.parquet", lambda table: table.drop_columns(["optimizer", "decay_norm_and_bias", "beta1"]))
    frame = load_results(Path(store.location) / "two")
    assert (frame["optimizer"] == "sgd").all()
    assert frame["decay_norm_and_bias"].all()
    assert "beta1" not in frame
