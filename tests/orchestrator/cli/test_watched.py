"""What the verbs that read do to a machine on a hostile store: strace sees each process, file and connection.

The store names programs and modules, leads elsewhere by links, has pipes and devices in the place of files, names that
are commands in some language, and lies beside files that Python packages would take for their own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prunesweep.orchestrator.forest import forest
from prunesweep.orchestrator.records import RECORD, require
from prunesweep.workers.decoding import decode_trial
from prunesweep.workers.encoding import encode
from prunesweep.workers.seal import sealed_json, unsealed_json
from prunesweep.workers.store import Store
from tests.orchestrator.finished import finish
from tests.watching import STRACE, Act, Seen, watched

pytestmark = [pytest.mark.slow, pytest.mark.skipif(STRACE is None, reason="strace is not installed")]

TEXT = """\
name: {name}
dataset: digits
model: lenet300
seeds: 2
train: {{epochs: 2}}
trials:
  - {{method: [imp, random], sparsity: [0.5, 0.9], retrain_epochs: 1}}
  - {{method: imp, sparsity: 0.99, retrain_epochs: 1}}
"""

RUNS = {"name": "subprocess:getoutput", "options": {"cmd": "touch called"}}
IMPORTS = {"name": "trap:Trap", "options": {}}

TRAPS = (
    *("trap", "bottleneck", "numexpr", "numba", "tabulate", "xlrd", "timm", "mlflow", "ray", "torch", "xarray", "cffi"),
    *("IPython", "sitecustomize", "usercustomize", "ujson", "orjson", "brotli", "openpyxl", "dask", "cupy", "jinja2"),
)
"""Modules that lie beside the store: some are no package here, and other packages import them where they are one."""

MATPLOTLIBRC = "backend: module://trap\ntext.usetex: True\nsvg.fonttype: none\n"

NAMES = ["$(touch called)", "`touch called`", "\\input{/etc/passwd}", "$\\x{$", "<script>fetch('http://x')</script>"]
NAMES += ["=cmd|' /C calc'!A0", "\x1b]0;title\x07\x1b[2J", "a\nb", "../../outside/x", "/outside/x", "%n%s", "\u202egnp"]


DIVERGES = {0.99: "it diverged \x1b]0;title\x07"}


def changed(store: Store, sweep: str, **fields: Any) -> None:
    """The sweep's record with other fields, with a seal that is right; those of a trial by `trial`."""
    record = unsealed_json(store.read(sweep, RECORD) or b"")
    for trial in record["trials"]:
        trial.update(fields.get("trial", {}))
    record.update({name: value for name, value in fields.items() if name != "trial"})
    store.write(sealed_json(record), sweep, RECORD)


def renamed(store: Store, sweep: str) -> None:
    """Names in the sweep's tables that are commands in some language, in columns that may hold any text."""
    for file in ("trials", "curves", "layers"):
        place = Path(store.location.reveal()) / sweep / f"{file}.parquet"
        table = pq.read_table(place, partitioning=None).replace_schema_metadata(None)
        for column in ("method", "model", "dataset", "layer", "device", "schedule"):
            if column in table.column_names:
                values = [NAMES[row % len(NAMES)] for row in range(len(table))]
                table = table.set_column(table.schema.get_field_index(column), column, pa.array(values))
        pq.write_table(table, place)


def of_stage(store: Store, number: int) -> Path:
    folder = Path(store.location.reveal()) / "stages"
    return sorted(place for place in folder.iterdir() if (place / "result.json").exists())[number]


def replaced(place: Path, target: Path) -> None:
    shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
    place.symlink_to(target)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an archive: a store with sweeps of each kind of malice, and traps beside it."""
    folder = tmp_path_factory.mktemp("archive")
    store = Store(folder / "results")
    store.require_writable()
    for name in ("good", "calls", "imports", "recorded", "data", "reads", "pipe", "names", "links", "elsewhere"):
        finish(TEXT.format(name=name), store, folder / f"{name}.yaml", lambda stage: DIVERGES.get(stage.sparsity))
    changed(store, "calls", trial={"method": RUNS}, stages={})
    changed(store, "imports", trial={"model": IMPORTS})
    changed(store, "recorded", trial={"method": IMPORTS})
    trials = unsealed_json(store.read("recorded", RECORD) or b"")["trials"]
    stage = encode(next(iter(forest(require("good", store))[0].values())))
    changed(store, "recorded", stages={decode_trial(trial).key: stage for trial in trials})
    changed(store, "data", trial={"dataset": RUNS})
    outside = folder.parent / "outside"
    outside.mkdir(exist_ok=True)
    (outside / "private.yaml").write_text("private: true\n")
    (outside / "x").write_text("private")
    changed(store, "reads", path=str(outside / "private.yaml"))
    os.mkfifo(folder / "pipe")
    changed(store, "pipe", path=str(folder / "pipe"))
    renamed(store, "names")
    (folder / "results" / "piped").mkdir()
    os.mkfifo(folder / "results" / "piped" / RECORD)
    os.mkfifo(folder / "results" / "piped" / "trials.parquet")
    replaced(folder / "results" / "elsewhere", outside)
    replaced(folder / "results" / "links" / "trials.parquet", outside / "x")
    replaced(folder / "results" / "links" / "curves.parquet", Path("/dev/zero"))
    replaced(folder / "results" / "links" / RECORD, Path("/dev/zero"))
    stages = folder / "results" / "stages"
    for number, (name, target) in enumerate(
        (("result.json", Path("/dev/zero")), ("curve.parquet", Path("/dev/zero")), ("spec.json", outside / "x"))
    ):
        replaced(of_stage(store, number) / name, target)
    os.mkfifo(of_stage(store, 0) / "claim.1.json")
    (stages / ("0" * 20)).symlink_to(outside)
    (stages / ("1" * 20)).mkdir()
    os.mkfifo(stages / ("1" * 20) / "result.json")
    for trap in TRAPS:
        (folder / f"{trap}.py").write_text("from pathlib import Path\nPath('called').touch()\n")
    (folder / "matplotlibrc").write_text(MATPLOTLIBRC)
    return folder


CALLS = [
    *(
        ["status"],
        ["status", "--json"],
        *(["status", name] for name in ("good", "calls", "imports", "recorded", "data", "reads")),
    ),
    *(["status", name] for name in ("pipe", "links", "piped", "elsewhere", "results/calls")),
    *(["logs", "good"], ["logs", "calls"], ["gc", "--dry-run"], ["check"], ["check", "--deep", "--json"]),
    *(
        ["plan", "good"],
        ["plan", "calls"],
        ["plan", "imports"],
        ["diff", "good", "imports"],
        ["diff", "good", "recorded"],
        ["diff", "good", "data"],
    ),
    *(["results", name] for name in ("good", "names", "links", "piped", "elsewhere", "results/names")),
    *(["results", "names", "--format", form] for form in ("csv", "latex", "markdown", "json")),
    *(["compare", "good"], ["compare", "names"], ["plot", "good", "--output", "out/a.png"]),
    *(["plot", "names", "--output", "out/b.svg"], ["plot", "names", "--kind", "curves", "--output", "out/c.pdf"]),
    *(["report", "good", "--output", "out/r.html"], ["report", "names", "--output", "out/n.html"]),
    *(
        ["report", "calls", "--output", "out/s.html"],
        ["report", "recorded", "--output", "out/t.html"],
        ["export", "tensorboard", "names", "--to", "out/board"],
    ),
    *(["export", "network", name, "--to", "out/networks", "--no-check"] for name in ("calls", "imports", "data")),
    *(["export", "network", "names", "--to", "out/networks"], ["list", "methods"], ["list", "columns"]),
]

WRITTEN = ["a.png", "b.svg", "c.pdf", "r.html", "n.html", "t.html", "board"]


@pytest.fixture(scope="module")
def seen(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Seen]:
    out, home = tmp_path_factory.mktemp("trace"), tmp_path_factory.mktemp("home")
    (folder / "out").mkdir()
    environment = {"HOME": str(home), "TMPDIR": str(home), "MPLCONFIGDIR": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    list_fonts = [sys.executable, "-c", "import matplotlib.font_manager"]  # matplotlib asks `fc-list` once
    subprocess.run(list_fonts, cwd=home, env={**os.environ, **environment}, check=True)
    acts = watched(CALLS, folder, environment, out, 500)
    return {" ".join(call): answer for call, answer in zip(CALLS, acts, strict=True)}


def of_all(seen: Mapping[str, Seen], is_meant: Callable[[Act], bool]) -> Sequence[tuple[str, Act]]:
    return [(call, act) for call, answer in seen.items() for act in answer.acts if is_meant(act)]


def test_every_call_is_answered(seen: Mapping[str, Seen]):
    assert {answer.code for answer in seen.values()} == {0, 1, 2}
    fine = (
        "status",
        "status good",
        "results good",
        "results names",
        "compare good",
        "plot good --output out/a.png",
    )
    assert {call: seen[call].code for call in fine} == dict.fromkeys(fine, 0)


def test_no_process_is_started(seen: Mapping[str, Seen]):
    """But for the list of libraries that Python's ctypes asks for where torch is loaded."""
    asked = ("execve", "execveat")
    assert of_all(seen, lambda act: act.call in asked and Path(act.what).name not in ("ldconfig", "-p")) == []


def test_nothing_is_connected(seen: Mapping[str, Seen]):
    """But for the machine's own directory of users, a local socket."""
    assert of_all(seen, lambda act: act.call == "connect" and "AF_UNIX" not in act.what) == []


def test_nothing_is_written_but_what_was_asked_for(seen: Mapping[str, Seen], folder: Path):
    """But for the folder of compiled code that torch makes when torchvision is imported."""
    mine = (
        f"{gettempdir()}/torchinductor_",
        f"{folder}/out",
        "/dev/null",
        f"{folder.parent}/trace",
        f"{folder.parent}/home",
    )
    assert of_all(seen, lambda act: act.writes and not act.what.startswith(mine)) == []
    assert sorted(place.name for place in (folder / "out").iterdir()) == sorted(WRITTEN)
    assert not (folder / "called").exists()


def test_nothing_is_imported_from_beside_the_store(seen: Mapping[str, Seen], folder: Path):
    names = {str(folder / f"{trap}.py") for trap in TRAPS}
    assert of_all(seen, lambda act: act.what in names) == []


def test_no_file_is_opened_that_the_store_names(seen: Mapping[str, Seen], folder: Path):
    outside = str(folder.parent / "outside")
    assert of_all(seen, lambda act: act.what.startswith((outside, str(folder / "pipe")))) == []
