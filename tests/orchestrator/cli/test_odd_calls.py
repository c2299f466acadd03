"""Hundreds of odd calls of the verbs that read, on whole, damaged and strange stores: each is answered in a sentence.

In this process, through the command's own `main`: a fork for each would take many minutes.
"""

from __future__ import annotations

import json
import math
import os
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prunesweep.orchestrator.records import RECORD
from prunesweep.workers.seal import sealed_json, unsealed_json
from prunesweep.workers.store import Store
from tests.orchestrator.cli.conftest import Ask
from tests.orchestrator.finished import finish

TEXT = """\
name: odd
dataset: digits
model: lenet300
seeds: 2
train: {epochs: 2}
trials:
  - {method: [imp, random], sparsity: [0.5, 0.9], retrain_epochs: 1}
  - {method: imp, sparsity: 0.99, retrain_epochs: 1}
"""

ODD_VALUES = [None, True, -1, 10**30, 1e308, "x", "\x1b[1m", [], {}, [[]], {"a": 1}, [None]]

READING = [["status"], ["status", "odd"], ["gc", "--dry-run"], ["logs", "odd"], ["report", "odd"], ["plan", "odd"]]
TABLES = [
    ["results", "odd"],
    ["compare", "odd"],
    ["plot", "odd"],
    ["report", "odd"],
    ["results", "odd", "--by", "seed"],
]
OF_CURVES = [["plot", "odd", "--kind", "curves"], ["report", "odd"], ["export", "tensorboard", "odd", "--to", "board"]]
OF_LAYERS = [["plot", "odd", "--kind", "layers"], ["report", "odd"]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sweep file and its store, some stages failed."""
    folder = tmp_path_factory.mktemp("whole")
    store = Store(folder / "results")
    store.require_writable()
    finish(TEXT, store, folder / "odd.yaml", lambda stage: "it diverged" if stage.sparsity == 0.99 else None)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copied = tmp_path / "here"
    shutil.copytree(whole, copied)
    monkeypatch.chdir(copied)
    return copied


def check(ask: Ask, *arguments: str) -> None:
    """A documented exit code, no traceback, and with 2 a sentence."""
    answer = ask(*arguments)
    assert answer.code in (0, 1, 2), (arguments, answer)
    assert "Traceback" not in answer.err
    assert "internal error" not in answer.err.lower()
    if answer.code == 2:
        said = (answer.err or answer.out).strip()
        assert said.startswith(("error: ", "Usage: ")) or "Error" in said, (arguments, answer)
        assert len(said) > 20


# --- odd arguments

ODD_NAMES = [
    *(
        "",
        ".",
        "..",
        "/",
        "//",
        "~nobody/x",
        "a\0b",
        "x" * 5000,
        "[/]",
        "[red]",
        "$\\x{$",
        "é",
        "\u202e",
        "-",
        "odd/",
        "./odd",
    ),
    *("results/odd", "results", "results/stages", "odd.yaml", "odd.yml", "no.yaml", "results/odd/sweep.json", "odd.py"),
    *(
        "results/odd/trials.parquet",
        "results/odd/curves.parquet",
        "a\nb",
        " odd",
        "ODD",
        "s3://",
        "://x",
        "file:///x",
        "%",
        "*",
    ),
]

OPTIONS = [
    *[["--metric", name] for name in ("", "trial", "stage_keys", "finished_at", "no", "seed", "device", "[/]", "a\0b")],
    *[
        ["--by", name]
        for name in ("", ",", "stage_keys", "finished_at", "trial", "seed", "method,method", "x", "test_loss")
    ],
    *[
        ["--where", text]
        for text in ("", "=", "x", "a=b=c", "seed>NaN", "seed=", "stage_keys=1", "finished_at>x", "seed~1")
    ],
    *[
        ["--where", text]
        for text in ("seed=1e400", "method=[/]", "target_sparsity>=90%", "trial<1", "'=1", "seed=0,,1", "a\0=1")
    ],
    *[["--tolerance", text] for text in ("nan", "inf", "-1", "x", "0", "1e400")],
    *[["--best-by", name] for name in ("", "no", "trial", "stage_keys", "validation_accuracy", "finished_at")],
]

PLOT = [
    *[["--kind", name] for name in ("", "no", "all", "cost", "[/]")],
    *[["--width", text] for text in ("0", "-1", "nan", "inf", "1e9", "x", "")],
    *[["--ylim", text] for text in ("", "1", "1,0", "0,nan", "-inf,inf", "a,b", "1,1", "0,1e400")],
    *[
        ["--output", text]
        for text in ("", "x", "x.gif", "results", "no/such/x.png", "a\0.png", "odd.yaml/x.png", "." * 300 + "x.png")
    ],
    *[["--title", text] for text in ("$\\x{$", "\x1b[1m", "x" * 5000, "\\", "a\nb")],
    *[["--order", text] for text in ("", ",", "no", "imp,imp")],
]

OTHERS = [
    *(["compare", "odd", "--against", text] for text in ("", "x", "method=no", "=", "method=imp", "stage_keys=1")),
    *(
        ["compare", "odd", "--published", text]
        for text in ("", "no", "odd.yaml", "results", "results/odd/trials.parquet")
    ),
    *(["logs", "odd", key] for key in ("", "x", "0", "a\0b", "[/]")),
    *(["export", "tensorboard", "odd", "--to", text] for text in ("odd.yaml", "odd.yaml/x", "a\0b", "")),
    *(["export", "network", "odd", "--to", "n", "--trial", text] for text in ("", "zz", "[/]")),
    *(["report", "odd", "--output", text] for text in ("x", "results", "no/x.html", "odd.yaml/x.html", "a\0.html")),
    *(
        ["status", "--store", text]
        for text in ("", "odd.yaml", "no", "a\0b", "odd.yaml/x", "~nobody", "s3:", "x://y", "/dev/null")
    ),
    *(["results", "odd", "--format", text] for text in ("", "no", "csv", "latex", "markdown", "json")),
    *(
        ["validate", text]
        for text in ("", ".", "no.yaml", "results", "/dev/null", "a\0.yaml", "results/odd/trials.parquet")
    ),
    *(
        ["plan", "odd.yaml", "--set", text]
        for text in ("", "x", "=", "train.lr=", "train=1", "seeds=a\0b", "trials=[]", "name=../x")
    ),
    *(["list", text] for text in ("", "no", "methods", "columns", "a\0b")),
    *(["data", "check", text] for text in ("", "no", "mnist", "odd.yaml", "a\0b")),
    *(["init", "--output", text] for text in ("odd.yaml", "", "no/x.yaml")),
    *([], ["no-such"], ["--no"], ["status", "a", "b"], ["gc", "--yes", "--store", "odd.yaml"], ["report"], ["export"]),
]

CALLS = [
    *([verb, name] for verb in ("status", "results", "report") for name in ODD_NAMES),
    *(["results", "odd", *option] for option in OPTIONS),
    *(["compare", "odd", *option] for option in OPTIONS[::2]),
    *(["plot", "odd", *option] for option in [*PLOT, *OPTIONS[::3]]),
    *OTHERS,
]


def parts(calls: Sequence[Any], count: int) -> list[Any]:
    """So many tests for all calls: one for each would take longer to name than to run."""
    return [pytest.param(calls[start::count], id=str(start)) for start in range(count)]


@pytest.mark.slow
@pytest.mark.parametrize("calls", parts(CALLS, 8))
def test_odd_arguments(ask: Ask, folder: Path, calls: Sequence[Sequence[str]]):
    for arguments in calls:
        check(ask, *arguments)


# --- odd stores


def replaced(place: Path, data: Any) -> None:
    place.write_bytes(data if isinstance(data, bytes) else sealed_json(data))


def fields() -> list[tuple[str, Any]]:
    names = ["name", "path", "text", "duplicates", "resources", "about", "trials", "provenance", "stages"]
    return [(name, value) for name in names for value in ODD_VALUES]


@pytest.mark.parametrize("wrong", parts(fields(), 6))
def test_records_with_wrong_types(ask: Ask, folder: Path, wrong: Sequence[tuple[str, Any]]):
    place = folder / "results/odd" / RECORD
    record = unsealed_json(place.read_bytes())
    for number, (name, value) in enumerate(wrong):
        replaced(place, {**record, name: value})
        for verb in (["status"], READING[number % len(READING)]):
            check(ask, *verb)
    for value in (*ODD_VALUES[:1], [], {}, "x", 3):
        place.write_bytes(json.dumps(value).encode())
        check(ask, "status", "odd")


def odd_trials() -> list[Mapping[str, Any]]:
    """Changes of a record's trial."""
    deep = {"dataset": None, "model": 1, "method": [], "seed": "x", "sparsity": "x", "train": None, "no": 1}
    more = {
        "sparsity": 2,
        "seed": -1,
        "model": {"name": 1, "options": {}},
        "method": {"name": "imp", "options": {"x": 1}},
    }
    return [*({name: value} for name, value in deep.items()), *({name: value} for name, value in more.items())]


@pytest.mark.slow
@pytest.mark.parametrize("change", odd_trials(), ids=str)
def test_records_with_wrong_trials(ask: Ask, folder: Path, change: Mapping[str, Any]):
    place = folder / "results/odd" / RECORD
    record = unsealed_json(place.read_bytes())
    record["trials"][0].update(change)
    replaced(place, record)
    for verb in (["status"], ["status", "odd"], ["gc", "--dry-run"], ["report", "odd"]):
        check(ask, *verb)


def set_column(name: str, value: Any) -> Callable[[pa.Table], pa.Table]:
    def changed(table: pa.Table) -> pa.Table:
        return table.set_column(table.schema.get_field_index(name), name, pa.array([value] * len(table)))

    return changed


TABLE_CHANGES: dict[str, Callable[[pa.Table], pa.Table]] = {
    "empty": lambda table: table.slice(0, 0),
    "no columns": lambda table: table.select([]),
    "few columns": lambda table: table.select(["trial"]),
    "doubled": lambda table: pa.concat_tables([table, table]),
    "strange": lambda table: table.append_column("[/]$\\x{$", pa.array(["[/]"] * len(table))),
    "nested": lambda table: table.append_column("nested", pa.array([{"a": [1]}] * len(table))),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["curves", "layers"])
def test_odd_tables_of_curves_and_layers(ask: Ask, folder: Path, kind: str):
    place = folder / f"results/odd/{kind}.parquet"
    table = pq.read_table(place, partitioning=None).replace_schema_metadata(None)
    number = {"curves": "validation_accuracy", "layers": "density"}[kind]
    changes = [TABLE_CHANGES[name] for name in TABLE_CHANGES]
    changes += [set_column(number, value) for value in (math.inf, math.nan, 1e308)]
    for change in changes:
        pq.write_table(change(table), place)
        for verb in {"curves": OF_CURVES, "layers": OF_LAYERS}[kind]:
            check(ask, *verb)


ODD_NUMBERS = [
    *(("target_sparsity", value) for value in (1e308, -1e308, 0.5)),
    *(("reached_sparsity", value) for value in (1e308, 0.5)),
    *(("test_accuracy", value) for value in (1e308, 1e200, 1e18, 0.97, 0.5, 0.0, 1.0)),
    ("theoretical_speedup", 1e308),
]


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("column", "value"), ODD_NUMBERS)
def test_trials_that_are_alike_or_far_from_any_measurement(ask: Ask, folder: Path, column: str, value: float):
    """They are drawn and reported without a warning of a library."""
    place = folder / "results/odd/trials.parquet"
    table = pq.read_table(place, partitioning=None).replace_schema_metadata(None)
    pq.write_table(set_column(column, value)(table), place)
    for verb in (*TABLES[2:4], ["plot", "odd", "--where", "method=imp"]):
        check(ask, *verb)


def test_notes_of_attempts_that_are_odd(ask: Ask, folder: Path):
    """The stage has failed, so that its last note is what `status` and `logs` show."""
    notes = sorted((folder / "results/stages").glob("*/attempts/*.json"))
    note = unsealed_json(notes[0].read_bytes())
    for change in [{"unknown": 1}, *({name: value} for name in note for value in (None, 3, [], {"a": 1}, 1e308))]:
        replaced(notes[0], {**note, **change})
        for verb in (["status", "odd"], ["logs", "odd"]):
            check(ask, *verb)
    for data in ([], "x", 3, None, {}):
        notes[0].write_bytes(json.dumps(data).encode())
        check(ask, "status", "odd")


def flipped(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]


@pytest.mark.slow
@pytest.mark.parametrize("file", ["trials.parquet", "curves.parquet", "layers.parquet", RECORD])
def test_flipped_bits_and_cut_files(ask: Ask, folder: Path, file: str):
    place, rng = folder / "results/odd" / file, random.Random(24)
    data = place.read_bytes()
    verb = {RECORD: READING[1], "curves.parquet": OF_CURVES[0], "layers.parquet": OF_LAYERS[0]}.get(file, TABLES[0])
    for changed in [*(flipped(data, rng) for _ in range(12)), b"", data[:10], data[:-10], data + b"x", b"x" * 100]:
        place.write_bytes(changed)
        check(ask, *verb)


STAGE_FILES = ["spec.json", "curve.parquet", "attempts/x.json", "claim.1.json", "checkpoint.safetensors"]


@pytest.mark.slow
@pytest.mark.parametrize("file", STAGE_FILES)
def test_odd_files_of_stages(ask: Ask, folder: Path, file: str):
    stage = next(path for path in sorted((folder / "results/stages").iterdir()) if (path / "result.json").exists())
    place = stage / file
    before = place.read_bytes() if place.exists() else None
    result = unsealed_json((stage / "result.json").read_bytes())
    odd: list[Any] = [
        b"",
        b"[]",
        b"x",
        [],
        {},
        {**result, "metrics": []},
        {**result, "metrics": {"test_accuracy": "x"}},
    ]
    odd += [
        {**result, name: value} for name in ("layers", "files", "epochs", "finished_at") for value in (None, "x", 1e308)
    ]
    place.parent.mkdir(exist_ok=True)
    for number, data in enumerate(odd):
        with suppress(TypeError, AttributeError):  # what cannot be sealed
            replaced(place, data)
        for verb in (READING[1], READING[number % len(READING)]):
            check(ask, *verb)
    if before is not None:
        place.write_bytes(before)


def a_file_for_a_folder(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    place.write_text("x")


def a_folder_for_a_file(place: Path) -> None:
    place.unlink(missing_ok=True)
    place.mkdir(parents=True)


def a_dead_link(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True) if place.is_dir() else place.unlink(missing_ok=True)
    place.symlink_to("nowhere")


WRONG_PLACES = [
    *((a_file_for_a_folder, path) for path in ("results/stages", "results/odd", "results")),
    *((a_folder_for_a_file, f"results/odd/{file}") for file in (RECORD, "trials.parquet", "curves.parquet")),
    (a_folder_for_a_file, "results/.prunesweep"),
    (a_folder_for_a_file, "odd.yaml"),
    *(
        (a_dead_link, path)
        for path in ("results/stages", "results/odd", f"results/odd/{RECORD}", "results/odd/trials.parquet")
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("how", "place"), WRONG_PLACES)
def test_something_else_where_a_file_or_folder_should_be(
    ask: Ask, folder: Path, how: Callable[[Path], None], place: str
):
    how(folder / place)
    for verb in [*READING, *TABLES[:3], OF_CURVES[0]]:
        check(ask, *verb)


def test_names_that_are_no_utf_8(ask: Ask, folder: Path, tmp_path: Path):
    for name in (b"\xff\xfe", b"a\nb", b"[red]", b"-x"):
        for place in ("results", "results/stages"):
            (folder / place / os.fsdecode(name)).mkdir()
    for verb in [*READING, *TABLES[:2]]:
        check(ask, *verb)
    check(ask, "status", "--store", os.fsdecode(b"\xff"))
