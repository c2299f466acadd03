"""Sweep files and command lines that nobody would write: each is taken, or refused in a sentence, and soon."""

from __future__ import annotations

import json
import os
import re
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prunesweep.orchestrator.cli import main
from prunesweep.orchestrator.plan import make_plan
from prunesweep.orchestrator.records import remember
from prunesweep.orchestrator.sweepfile.document import SHOWN
from prunesweep.orchestrator.sweepfile.grammar import MAX_TRIALS
from prunesweep.orchestrator.sweepfile.read import read_sweep
from prunesweep.workers.errors import UserError
from prunesweep.workers.methods import METHODS
from prunesweep.workers.store import Store
from tests.orchestrator.conftest import COMMAND

SWEEPS = Path(__file__).parents[3] / "sweeps"
SECONDS = 30
"""Of a processor, after which a file counts as one that is read without end; most take milliseconds."""

MEGABYTES = 400
"""Reading files may add so much to the process."""

FEW = 20
"""Sweeps of so few trials are planned too."""


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def fuzz(strategy: st.SearchStrategy[Any], check: Any, count: int) -> None:
    """Check so many examples, the same in every run."""
    quiet = list(HealthCheck)
    how = settings(max_examples=count, derandomize=True, database=None, deadline=None, suppress_health_check=quiet)
    how(given(strategy)(lambda each: check(each)))()


# --- sweep files

BASES = [
    *(file.read_bytes() for file in sorted(SWEEPS.glob("*.yaml"))),
    b"dataset: digits\nmodel: {name: cifar_resnet, depth: 8}\nname: a\nseeds: [1, 2]\nresources: {cpus: 1, gpus: 0.5}\n"
    b"train: {lr: [0.1, 0.2], epochs: 4, schedule: multistep, milestones: [[1], [2, 3]], gamma: 0.1}\n"
    b"trials:\n  - &a {method: [imp, random], sparsity: [0.5, 0.9], retrain_budget: 50%, zip: [sparsity, train.lr]}\n"
    b"  - {method: gmp, sparsity: [0.5, 0.9], pruning_interval: 2, exclude: [{sparsity: 0.5, train: {lr: 0.1}}]}\n",
]
TOKENS = [
    *"{}[]:,-?&*!|>'\"#%@`~ \t\n\0\r", "&a", "*a", "<<: *a", "- ", "? ", "---\n", "...\n", "%YAML 1.1\n",
    "!!python/object:os.system ", "!!binary ", "!!set ", "!!bool ", "!!float ", "!!map ", "!!int '' ", "\ufeff",
    "\u202e", "\u2028", "e\u0301", "\U0001f600", '"\\ud800"', '"\\0"', "yes", "no", "null", "~", ".nan", "-.inf",
    "1e400", "-0.0", "1e3", "0o17", "0b_", "-_", "1_000", "1:30", "2001-01-01", "9" * 5000, "0x" + "f" * 5000,
    "[" * 1000, "{a: " * 1000, "- " * 1000, "a" * 100_000, "../../x", "/etc/x", "stages", "x:y", "os:system", "name",
    "method: dense", "<axis>: 1", "99999999999%",
]  # fmt: skip


def edited(base: bytes, edits: list[tuple[str, int, int, str]]) -> bytes:
    """The file with lines deleted, doubled or swapped, tokens inserted, and bytes changed."""
    for kind, first, second, token in edits:
        if kind in ("insert", "flip", "cut"):
            at = first % (len(base) + 1)
            new = token.encode() if kind == "insert" else bytes([second % 132]) if kind == "flip" else b""
            base = base[:at] + new + base[at + {"insert": 0, "flip": 1, "cut": second % 20}[kind] :]
            continue
        lines = base.splitlines(keepends=True) or [b""]
        one, two = first % len(lines), second % len(lines)
        if kind == "swap":
            lines[one], lines[two] = lines[two], lines[one]
        elif kind == "double":
            lines.insert(two, lines[one])
        else:
            del lines[one]
        base = b"".join(lines)
    return base


WHOLE = st.integers(0, 10_000)
EDIT = st.tuples(
    st.sampled_from(["insert", "insert", "flip", "cut", "swap", "double", "delete"]),
    WHOLE,
    WHOLE,
    st.sampled_from(TOKENS),
)
MUTATED = st.builds(edited, st.sampled_from(BASES), st.lists(EDIT, min_size=1, max_size=6))


class Raw(str):
    """Written into the file as it stands."""


def flow(value: Any) -> str:
    """A value in YAML's flow style."""
    match value:
        case Raw():
            return str(value)
        case dict():
            return "{" + ", ".join(f"{flow(name)}: {flow(item)}" for name, item in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(flow, value)) + "]"
        case float():
            return repr(value).replace("inf", ".inf").replace("nan", ".nan")
        case _:
            return json.dumps(value)


ODD = st.one_of(
    st.sampled_from([Raw(token) for token in TOKENS if token.strip() and token[0] not in "[{-?"]),
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    st.recursive(st.integers(0, 3) | st.text(max_size=3), lambda inner: st.lists(inner, max_size=3), max_leaves=8),
    st.dictionaries(st.sampled_from(["name", "lr", "shape", "x"]), st.integers() | st.text(max_size=5), max_size=3),
)


def rarely(odd: st.SearchStrategy[Any], good: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Now and then something odd: a file is refused at the first, so that more would test less."""
    return st.integers(0, 19).flatmap(lambda chance: odd if chance == 19 else good)


def mostly(*good: Any) -> st.SearchStrategy[Any]:
    """One of these, or an axis of them."""
    one = st.sampled_from(good)
    axes = st.lists(one, min_size=1, max_size=3) | st.lists(one, max_size=300)
    return rarely(ODD, st.integers(0, 3).flatmap(lambda chance: axes if chance == 3 else one))


TRAIN = st.fixed_dictionaries(
    {},
    optional={
        "epochs": mostly(5, 20, 10**9),
        "lr": mostly(0.1, 1, 1e-300, 1e308),
        "schedule": mostly("linear", "linear", "constant", "step", "cosin"),
        "warmup_epochs": mostly(0, 1),
    },
)
SETTINGS = {
    "train": rarely(ODD, TRAIN),
    "dataset": mostly({"name": "synthetic", "shape": [1, 8, 8]}, {"name": "image_folder", "path": "../x"}),
    "zip": rarely(ODD, st.sampled_from([["sparsity", "retrain_epochs"], ["sparsity", "train.lr"]])),
    "exclude": st.lists(st.dictionaries(st.sampled_from(["sparsity", "train"]), ODD, max_size=2), max_size=2),
}
SPARSITY = mostly(0.1, 0.5, 0.9, 0.99, 5e-324)
BLOCK = st.one_of(
    st.fixed_dictionaries({"method": mostly(*sorted(METHODS)), "sparsity": SPARSITY}, optional=SETTINGS),
    st.fixed_dictionaries({"method": st.just("gmp"), "sparsity": SPARSITY, "pruning_interval": mostly(1, 2)}),
    st.fixed_dictionaries(
        {"method": st.just("imp"), "sparsity": SPARSITY, "retrain_epochs": mostly(3, 4, 10**6)},
        optional={"phases": mostly(1, 2, 3, 100), **SETTINGS},
    ),
    st.fixed_dictionaries(
        {"method": st.just("imp"), "sparsity": SPARSITY, "retrain_budget": mostly("50%", "9999%", "1%")}
    ),
    st.fixed_dictionaries(
        {"method": st.just("random"), "phase_fraction": mostly(0.2, 0.5), "phase_epochs": mostly(1, 2)},
        optional={"phases": mostly(1, 2, 3, 100), "train": TRAIN},
    ),
)
STRUCTURED = st.fixed_dictionaries(
    {
        "dataset": mostly("digits", "mnist", "svhn", "cifar10"),
        "model": mostly("resnet8", "wrn16x4", {"name": "cifar_resnet", "depth": 8}),
        "trials": rarely(ODD, st.lists(rarely(ODD, BLOCK), min_size=1, max_size=3)),
    },
    optional={
        "name": rarely(ODD, st.sampled_from([*"abcdefgh", "../x", "STAGES"])),
        "seeds": rarely(ODD, st.sampled_from([1, 2, 3, 1000, 10**6, [4, 5]])),
        "train": rarely(ODD, TRAIN),
        "resources": rarely(ODD, st.sampled_from([{"cpus": 1}, {"cpus": 1e308, "gpus": 1e-300}, {"gpus": 1.5}])),
    },
).map(lambda document: flow(document).encode())


def read_or_refuse(path: Path) -> None:
    """What reading may do: give a sweep that can be planned, or say what is wrong in a few lines that name the file."""
    started = time.process_time()
    try:
        sweep = read_sweep(path)
        assert len(sweep.trials) <= MAX_TRIALS
        assert sweep.trials or sweep.searches
        assert re.fullmatch(r"[\w-][\w.-]{0,99}", sweep.name)
        assert sweep.name.lower() != "stages"
        if len(sweep.trials) <= FEW:
            assert make_plan(sweep, Store(path.parent / "none")).counts.trials == len(sweep.trials)
    except UserError as error:
        said = str(error).splitlines()
        if "not valid YAML" in said[0] and len(said) > 1:  # below it the line, and a caret under the place
            shown, caret = said.pop(1), said.pop(1)
            assert shown.startswith("  ")
            assert caret.strip() == "^"
        assert 1 <= len(said) <= SHOWN + 1
        assert all(line.startswith(f"{path}:") for line in said[:SHOWN])
        assert max(map(len, said)) < 3000
    assert time.process_time() - started < SECONDS


def fuzz_files(folder: Path, count: int) -> None:
    file, before = folder / "x.yaml", peak()

    def check(data: bytes) -> None:
        file.write_bytes(data)
        read_or_refuse(file)

    for files in (MUTATED, STRUCTURED):
        fuzz(files, check, count // 2)
    assert [path.name for path in folder.iterdir()] == ["x.yaml"]
    assert peak() - before < MEGABYTES


def test_a_few_hundred_odd_sweep_files_are_read_or_refused(tmp_path: Path):
    fuzz_files(tmp_path, 400)


@pytest.mark.slow
def test_ten_thousand_odd_sweep_files_are_read_or_refused(tmp_path: Path):
    fuzz_files(tmp_path, 10_000)


HEAD = "dataset: digits\nmodel: resnet8\n"
NAMES = ", ".join(f"x{n}" for n in range(8000))
HUNDRED = ", ".join(str(n / 1000 + 0.001) for n in range(100))
SIX_AXES = ", ".join(f"{n}: [{HUNDRED}]" for n in ("lr", "momentum", "weight_decay", "clip_norm", "end_lr"))

WORST = {
    "nested lists": ("a: " + "[" * 100_000, "nested too deeply"),
    "nested keys": ("\n".join(" " * n + "a:" for n in range(500)), "nested too deeply"),
    "aliases of aliases": (
        "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 15)),
        "aliases of this file repeat too much",
    ),
    "unknown methods": (f"{HEAD}trials: [{{method: [{NAMES}]}}]", 'unknown method "x0"'),
    "unknown keys": (f"{HEAD}train: {{{NAMES.replace(',', ': 1,')}: 1}}\ntrials: []", 'unknown key of train "x0"'),
    "six axes of a hundred": (
        f"{HEAD}trials: [{{method: gmp, sparsity: [{HUNDRED}], train: {{{SIX_AXES}}}}}]",
        "1,000,000,000,000 trials are too many: at most 100,000",
    ),
    "a million trials": (
        f"{HEAD}seeds: 10000\ntrials: [{{method: gmp, sparsity: [{HUNDRED}]}}]",
        "1,000,000 trials are too many",
    ),
    "levels": (
        f"{HEAD}seeds: 2000\ntrials: [{{method: imp, phase_fraction: 0.1, phases: 100, phase_epochs: 1}}]",
        "200,000 trials are too many",
    ),
    "many blocks": (f"{HEAD}seeds: 1000\ntrials:\n" + "  - method: dense\n" * 101, "101,000 trials are too many"),
    "exclude": (
        f"{HEAD}trials: [{{method: gmp, sparsity: [{HUNDRED}], train: {{lr: [{HUNDRED}]}}, "
        f"exclude: [{', '.join(['{sparsity: 0.001}'] * 1000)}]}}]",
        "1,000 values for 10,000 cells are too many",
    ),
    "a key that is ours": (f"{HEAD}<axis>: 1\ntrials: [{{method: dense}}]", 'unknown key of sweep file "<axis>"'),
    "a long text": ("name: " + "a" * 100_000, "100,000 characters, and at most 1,000 are taken"),
    "escapes of the terminal": (r'name: "\e[31m"', r"'\x1b[31m' is not allowed: it has characters that cannot be"),
    "half a character": (r'name: "\ud800"', r"'\ud800' is not allowed: it has characters that cannot be printed"),
    "a huge number": (f"seeds: 1{'0' * 400}", "is not allowed: at most 1,000,000,000,000"),
    "tags": ("a: !!python/object:os.system x\nb: !!bool x\nc: !!set {x}", "tag:yaml.org,2002:python/object:os.system"),
}


@pytest.mark.parametrize("what", WORST)
def test_what_would_never_end_is_refused_at_once(what: str, tmp_path: Path):
    text, message = WORST[what]
    file = tmp_path / "x.yaml"
    file.write_text(text)
    read_or_refuse(file)
    with pytest.raises(UserError) as error:
        read_sweep(file)
    assert message in str(error.value)


def test_what_is_no_file_is_refused_without_waiting_for_it(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.yaml")
    with (tmp_path / "large.yaml").open("wb") as file:
        file.truncate(100_000_000)
    (tmp_path / "binary.yaml").write_bytes(bytes(range(256)))
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.yaml"))
    said = {}
    for path in tmp_path.iterdir():
        read_or_refuse(path)
        with pytest.raises(UserError) as error:
            read_sweep(path)
        said[path.stem] = str(error.value).removeprefix(f"{path}: ")
    assert said["pipe"] == said["socket"] == "is a pipe or a device; a sweep is a YAML or a Python file"
    assert said["large"].startswith("100,000,000 bytes are too many: at most 200,000")
    assert said["binary"].startswith("is not a text file in UTF-8")
    assert said["folder"].startswith("is a folder")


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path):
    (tmp_path / "x.yaml").write_text(f"{HEAD}trials: [{{method: dense}}]", encoding="utf-8-sig")
    assert len(read_sweep(tmp_path / "x.yaml").trials) == 1


PLANNED = """
import re, sys
from pathlib import Path
from prunesweep.orchestrator.plan import make_plan
from prunesweep.orchestrator.sweepfile.read import read_sweep
from prunesweep.workers.store import Store
plan = make_plan(read_sweep(Path(sys.argv[1])), Store("none"))
peak = re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]
print(plan.counts.trials, int(peak) // 1024)
"""
"""The kernel's `ru_maxrss` would begin with that of the process which started this one."""


@pytest.mark.slow
def test_as_many_trials_as_are_allowed_are_planned_within_500_megabytes(tmp_path: Path):
    (tmp_path / "x.yaml").write_text(
        f"{HEAD}seeds: 500\ntrials: [{{method: imp, sparsity: [{HUNDRED}], retrain_epochs: [1, 2]}}]"
    )
    code = [sys.executable, "-c", PLANNED, "x.yaml"]
    done = subprocess.run(code, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=True)
    trials, megabytes = map(int, done.stdout.split())
    assert trials == MAX_TRIALS
    assert megabytes < 500


# --- command lines

GOOD = f"{HEAD}train: {{epochs: 2}}\ntrials: [{{method: dense}}]\n"
VERBS = [
    "plan", "validate", "status", "results", "plot", "list", "schema", "data", "run", "resume", "submit", "logs",
    "cancel", "jobs", "export", "gc", "", "plam", "-x",
]  # fmt: skip
WORDS = [
    "", " ", "-", "--", "-x", "--x", "--store", "--store=", "--store=s4://x", "--store=file.yaml", "--store=none",
    "--json", "--json=1", "--data-dir", "--data-dir=none", "--device=gpu", "--device=cuda:99999999999999999999",
    "--kind=x", "--kind=all",
    "--to=none", "--notify=x", "--max-concurrent=0", "--autoscaling", "--follow", "tensorboard", "mlflow",
    "--loaders=-1", "--loaders=x", "--loaders=" + "9" * 5000, "--metric=x", "--by=x", "--where=x", "--where=seed==",
    "--where=seed>=1e400", "--where=seed==[", "--tolerance=nan", "--tolerance=-1", "--best-by=x", "--format=tex",
    "--format=json", "--output=none/x.png", "--output=x.y", "--address=x", "--max-failures=-1", "--help", "-h",
    "--version", "--debug", "methods", "models", "datasets", "fetch", "check", "digits", "mnist", "broken.yaml",
    "none.yaml", "file.yaml", "folder", ".", "..", "../x", "/", "/dev/null", "a b", "a\nb", "-", "é", "\u202e",
    "\udcff", "\U0001f600", "a" * 300, "%s", "*", "stages", "[red]", "known", "KNOWN", "9" * 400,
]  # fmt: skip
FIRST = {
    "plan": "good.yaml",
    "validate": "good.yaml",
    "status": "known",
    "results": "known",
    "plot": "known",
    "list": "methods",
}
"""What a verb works on; `run` and `resume` are given nothing that they could run."""


def words_of(verb: str) -> st.SearchStrategy[list[str]]:
    """The verb, in half of all cases something that it works on, and odd words."""
    words = [word for word in WORDS if word != "known"] if verb in ("run", "resume") else WORDS
    first = st.sampled_from([[], [FIRST[verb]]] if verb in FIRST else [[]])
    return st.tuples(first, st.lists(st.sampled_from(words), max_size=4)).map(
        lambda found: [verb, *found[0], *found[1]]
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with a store that knows one sweep, and an empty one around it."""
    place = tmp_path / "around" / "here"
    (place / "folder").mkdir(parents=True)
    for name, text in {"good.yaml": GOOD, "known.yaml": GOOD, "broken.yaml": "a: [", "file.yaml": ""}.items():
        (place / name).write_text(text)
    monkeypatch.chdir(place)
    remember(read_sweep(Path("known.yaml")), Store("results"))
    yield place
    assert [path.name for path in (tmp_path / "around").iterdir()] == ["here"]


def fuzz_lines(folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    def check(words: list[str]) -> None:
        started = time.process_time()
        monkeypatch.setattr(sys, "argv", ["prunesweep", *words])
        with pytest.raises(SystemExit) as ended:
            main.main()
        out, err = capfd.readouterr()
        assert ended.value.code in (None, 0, 1, 2, 130)
        assert "Traceback" not in out + err or "--debug" in words
        assert time.process_time() - started < SECONDS

    fuzz(st.sampled_from(VERBS).flatmap(words_of), check, count)
    assert {path.name for path in folder.iterdir()} >= {"results", "good.yaml"}
    assert {path.name for path in (folder / "results").iterdir()} == {"known"}


def test_odd_command_lines_end_in_a_sentence(folder, capfd, monkeypatch):
    fuzz_lines(folder, capfd, monkeypatch, 80)


@pytest.mark.slow
def test_five_hundred_odd_command_lines_end_in_a_sentence(folder, capfd, monkeypatch):
    fuzz_lines(folder, capfd, monkeypatch, 500)


SURROUNDINGS: dict[str, tuple[str, dict[str, str]]] = {
    "a reader that leaves": ("{} schema | true", {}),
    "no input, no output": ("{} plan good.yaml <&- >&-", {}),
    "a full disk": ("{} schema > /dev/full", {}),
    "one column": ("{} list methods", {"COLUMNS": "1", "TERM": "dumb", "NO_COLOR": "1"}),
    "the C locale": ("{} validate é.yaml", {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}),
    "names in bytes": (r"{} plan good.yaml --store $'\xff'", {}),
}


def test_odd_surroundings_give_no_traceback(folder: Path):
    (folder / "é.yaml").write_text(f"name: x\n{GOOD}")

    def ask(line: str, around: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
        script = f"set -o pipefail; {line.replace('{}', str(COMMAND))}"
        return subprocess.run(["bash", "-c", script], capture_output=True, timeout=60, env={**os.environ, **around})

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda each: ask(*each), SURROUNDINGS.values()))
    for what, answer in zip(SURROUNDINGS, answers, strict=True):
        said = (answer.stdout + answer.stderr).decode(errors="replace")
        assert answer.returncode in (0, 1, 2), (what, said)
        assert "Traceback" not in said, (what, said)
        assert "Exception ignored" not in said, (what, said)
