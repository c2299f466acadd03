"""The documents say what is: their commands run, their outputs are real, their tables are up to date.

`python -m tests.test_docs` writes the tables that are made from the code again, and the outputs.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass
from functools import cache
from inspect import getdoc
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer

from prunesweep.orchestrator import glossary
from prunesweep.orchestrator.cli.main import app
from prunesweep.orchestrator.figures.kinds import ALL, KINDS
from prunesweep.orchestrator.plan import make_plan
from prunesweep.orchestrator.results.aggregation import METHOD_VERSION, OPTIONS
from prunesweep.orchestrator.results.schemas import CLASSES, CURVES, LAYERS, TRIALS
from prunesweep.orchestrator.run.failures import POLICIES
from prunesweep.orchestrator.search.cost import planned
from prunesweep.orchestrator.sweepfile.grammar import SWEEP, block_model
from prunesweep.orchestrator.sweepfile.read import read_sweep
from prunesweep.orchestrator.sweepfile.settings import describe, train_settings
from prunesweep.workers.causes import Cause
from prunesweep.workers.data import DATASETS
from prunesweep.workers.methods import METHODS, method_class
from prunesweep.workers.methods.base import Hyperparameter
from prunesweep.workers.models import MODELS
from prunesweep.workers.registry import Entry
from prunesweep.workers.schedules import RETRAINING
from prunesweep.workers.store import Store
from prunesweep.workers.train_spec import CODE
from tests import warm
from tests.orchestrator.conftest import COMMAND
from tests.warm import NEED_RAY, Answer

ROOT = Path(__file__).parent.parent
LAST = ("export", "python", "store")
FOLLOWED = [
    ROOT / f"{name}.md"
    for name in ("README", *(f"docs/{page}" for page in (*("commands", "sweeps", "results", "figures"), *LAST)))
]
ALONE = [ROOT / f"docs/{name}.md" for name in ("tutorial", "concepts", "extending", "troubleshooting")]
"""Those that begin in an empty folder, where the others go on with what README has made."""

SLOW = ("concepts.md", "tutorial.md", "extending.md", "troubleshooting.md")
"""Of these, those that make test leaves out."""

UNFOLLOWED = (
    "docs/methods.md",
    "docs/search.md",
    "docs/models.md",
    "docs/data.md",
    "docs/training.md",
    "docs/performance.md",
    "docs/cluster.md",
    "docs/page.md",
    "docs/columns.md",
    "docs/glossary.md",
    "docs/security.md",
    "docs/digits_methods.md",
    "docs/digits_reviewers.md",
    "docs/digits_tuned.md",
    "docs/miniatures.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
)
DOCUMENTS = [*FOLLOWED, *ALONE, *(ROOT / name for name in UNFOLLOWED)]

SKIPPED = {
    "make demo": "the whole quickstart, for which CI has a run of its own",
    "make test": "this test is part of it",
    'prunesweep export onnx budgets --to networks --where "seed=0" --where "method=gmp"': "tests/orchestrator/export",
    "prunesweep run budgets.yaml --smoke --set seeds=9 --set name=rehearsed": "tests/orchestrator/run does",
    "prunesweep export mlflow budgets --to tracking": "tests/orchestrator/export, for MLflow takes seconds to load",
}
"""Commands of the followed documents that are not run here, and why; the options of `prunesweep` are checked."""

AROUND = "dataset: digits\nmodel: resnet8\ntrain: {epochs: 20}\ntrials:\n"
"""What the examples that are a piece of a sweep file are a piece of."""


# --- following


@dataclass(frozen=True)
class Block:
    """A fenced block; `follows` is the one directly above it, with nothing in between."""

    language: str
    text: str
    line: int
    follows: Block | None = None

    @property
    def file(self) -> str | None:
        """The file that the block's first line says it is."""
        named = re.match(r"# ([\w-]+\.(?:yaml|py))\n", self.text)
        return named and named[1]

    @property
    def commands(self) -> list[str]:
        return self.text.splitlines() if self.language == "bash" else []


def blocks(text: str) -> list[Block]:
    found: list[Block] = []
    end = 0
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        above = found[-1] if found and not text[end : match.start()].strip() else None
        found.append(Block(match[1], match[2], text.count("\n", 0, match.start()) + 1, above))
        end = match.end()
    return found


class Reader:
    """Does what a document says, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.printed = ""
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("PRUNESWEEP_")}
        self.environment["PATH"] = f"{COMMAND.parent}{os.pathsep}{os.environ['PATH']}"

    def follow(self, document: Path) -> None:
        for block in blocks(document.read_text()):
            place = f"{document.name}:{block.line}"
            if block.language == "text":
                self.compare(block, place)
            elif block.file:
                (self.folder / block.file).write_text(block.text)
            elif block.language == "yaml":
                self.check(block, place)
            elif block.language == "toml":
                self.install(block)
            elif block.language == "python":
                (self.folder / "block.py").write_text(block.text)
                self.run("python block.py", place)
            for command in block.commands:
                if command not in SKIPPED:
                    self.run(command, place)
                elif command.startswith("prunesweep"):
                    options_are_known(command)

    def run(self, command: str, place: str, code: int = 0) -> None:
        answer = self._plain(command) or self._in_a_shell(command)
        self.printed = answer.out + answer.err
        assert answer.code == code, f"{place}: {command}: exit code {answer.code}\n{self.printed}"

    def _plain(self, command: str) -> Answer | None:
        """What `prunesweep` or `python` answer where they stand alone and start no Ray: forked, they are quick."""
        said = re.fullmatch(r"(?:(PYTHONPATH)=(\S+) )?(prunesweep|python) ([^|<>&;$*?`(]+)", command)
        if said is None or NEED_RAY & {*(words := shlex.split(said[4]))}:
            return None
        start = warm.python if said[3] == "python" else warm.answer
        return start(words, self.folder, {**self.environment, **({said[1]: said[2]} if said[1] else {})}, 180)

    def _in_a_shell(self, command: str) -> Answer:
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=180
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def check(self, block: Block, place: str) -> None:
        """A whole sweep file, or some blocks of one."""
        whole = block.text.startswith(("#", "dataset:"))
        (self.folder / "block.yaml").write_text(block.text if whole else AROUND + block.text)
        self.run("PYTHONPATH=. prunesweep validate block.yaml", place)

    def compare(self, block: Block, place: str) -> None:
        """Below commands stands what the last one printed, below a sweep file what is wrong with it."""
        if block.follows is not None:
            if block.follows.language == "yaml":
                self.run(f"prunesweep validate {block.follows.file}", place, code=2)
            assert _stripped(self.printed) == _stripped(block.text), f"{place}: not what is printed:\n{self.printed}"

    def install(self, block: Block) -> None:
        """As pip would leave a package with these entry points behind."""
        folder = self.folder / "mine-1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1\n")
        points = re.sub(r'\[project\.entry-points\."(.*)"\]', r"[\1]", block.text).replace('"', "")
        (folder / "entry_points.txt").write_text(points)


def options_are_known(command: str) -> None:
    """Reads a command line as `prunesweep` would, and runs nothing."""
    verb: Any = typer.main.get_command(app)
    _, *arguments = shlex.split(command)
    while hasattr(verb, "commands"):
        verb = verb.commands[arguments.pop(0)]
    verb.make_context(verb.name, arguments)


def _stripped(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines()]


def test_the_documents_can_be_followed(tmp_path: Path):
    """README first: the others ask about the sweep that it runs. The one test here that starts Ray, once."""
    reader = Reader(tmp_path)
    for document in FOLLOWED:
        reader.follow(document)
    columns = pq.read_schema(tmp_path / "results/budgets/trials.parquet").names
    hyperparameters = {h.name for name in ("dense", "imp", "gmp") for h in method_class(name).hyperparameters()}
    settings = {h.name for h in train_settings()} - {"epochs"} | {
        *OPTIONS,
        METHOD_VERSION,
        *("task_options", "task_version", "prune_only", "prune_except", *CODE.values()),
    }
    assert set(columns) == {*TRIALS.names, *settings, *hyperparameters}, "docs/columns.md names other columns"


@pytest.mark.slow
def test_the_site_is_built_and_a_dead_link_is_an_error():
    pytest.importorskip("zensical")
    build = [sys.executable, "docs/build_site.py"]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=180)
    site = ROOT / "build/site"
    index = (site / "search.json").read_text()
    assert all(heading in index for heading in ("Sweep files", "load_results", "Keep a Changelog"))
    pages = [page.read_text() for page in site.glob("*.html")]
    assert len(pages) > len(DOCUMENTS)
    assert not any(re.search(r'(?:src|<link[^>]* href)="(?:https?:)?//', page) for page in pages), (
        "loads from elsewhere"
    )
    with (ROOT / "build/docs/index.md").open("a") as page:
        page.write("\n[nowhere](tutorial.md#nowhere)\n")
    again = [Path(sys.executable).parent / "zensical", "build", "--clean", "--strict"]
    assert subprocess.run(again, cwd=ROOT, capture_output=True, timeout=180).returncode != 0


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path):
    """Its cells one after another, as Jupyter would run them, but for the figures' window."""
    cells = json.loads((ROOT / "docs/examples/results.ipynb").read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert len(code) == 5
    checks = (
        'assert "12 of 12" == f"{plan.counts.done} of {plan.counts.trials}"',
        "assert means['count'].tolist() == [2] * 6",
        "assert (repair.test_accuracy > repair.pruned_test_accuracy).any()",
        "assert densities.shape == (3, 2)",
        'assert [line.get_label()[0] != "_" for line in axes.lines] == [True, False] * 2',
    )
    (tmp_path / "notebook.py").write_text("\n".join(part for pair in zip(code, checks, strict=True) for part in pair))
    reader = Reader(tmp_path)
    reader.environment["MPLBACKEND"] = "agg"
    reader.run("env python notebook.py", "results.ipynb")


@pytest.mark.parametrize(
    "document",
    [pytest.param(each, id=each.name, marks=pytest.mark.slow if each.name in SLOW else ()) for each in ALONE],
)
def test_a_document_can_be_followed_from_an_empty_folder(document: Path, tmp_path: Path):
    """The tutorial starts Ray three times, the others once."""
    Reader(tmp_path).follow(document)


def test_what_is_skipped_is_there():
    commands = {
        command for document in FOLLOWED for block in blocks(document.read_text()) for command in block.commands
    }
    assert SKIPPED.keys() <= commands


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_names_in_the_documents_exist(document: Path):
    """Verbs, make targets, files and links; and no command hides in a block of another kind."""
    text = document.read_text()
    verbs = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    verbs |= {str(group.name) for group in app.registered_groups}
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"[`\n]prunesweep ([a-z]+)", text)) <= verbs
    assert set(re.findall(r"[`\n]make ([\w-]+)", text)) <= targets
    files = re.findall(r"`((?:workers|orchestrator|sweeps|tests|docs|docker|benchmarks)/[\w./-]*)`", text)
    links = [link.partition("#")[0] for link in re.findall(r"\]\(((?!http)[^)]+)\)", text)]
    missing = [name for name in files if not (ROOT / name).exists()]
    missing += [link for link in links if link and not (document.parent / link).exists()]
    assert missing == []
    assert {block.language for block in blocks(text)} <= {"bash", "yaml", "python", "toml", "text"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_links_to_headings_lead_somewhere(document: Path):
    for file, anchor in re.findall(r"\]\(([^)#]*)#([^)]+)\)", document.read_text()):
        target = document.parent / file if file else document
        headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
        assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


# --- tables made from the code


@cache
def tables() -> dict[str, str]:
    """Every table that a document has from the code, by its name."""
    return {
        "sweeps": _sweeps(),
        "train": _settings("key", train_settings()),
        "datasets": _entries(DATASETS),
        "models": _models(),
        "methods": "\n\n".join(_method(name) for name in METHODS),
        "plots": _plots(),
        "glossary_methods": _words("method", glossary.METHODS),
        "glossary_schedules": _words("`retrain_schedule`", glossary.SCHEDULES),
        "glossary_training": _words("`train.schedule`", glossary.TRAINING),
        "glossary_terms": _words("word", glossary.TERMS),
        "trials": _columns(TRIALS),
        "curves": _columns(CURVES),
        "layers": _columns(LAYERS),
        "classes": _columns(CLASSES),
        "causes": _table(
            ("cause", "tries more", "what to do"),
            [(f"[`{c}`](#{c.replace(' ', '-').lower()})", str(p.again), p.hint) for c, p in POLICIES.items()],
        ),
    }


def _plots() -> str:
    everything = "all of these, as far as the results allow; it says which not, and why"
    rows = [*((name, kind.shows) for name, kind in KINDS.items()), (ALL, everything)]
    return _table(("kind", "shows"), [(f"`{name}`", shows) for name, shows in rows])


def _words(kind: str, meanings: Mapping[str, str]) -> str:
    return _table((kind, "meaning"), [(f"`{name}`", meaning) for name, meaning in meanings.items()])


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([cell.replace("|", r"\|") for cell in row] for row in rows)]
    return "\n".join(re.sub(" +", " ", f"| {' | '.join(line)} |") for line in lines)


def _settings(key: str, settings: Iterable[Hyperparameter]) -> str:
    rows = [(f"`{s.name}`", describe(s.type, s.limits), _default(s.default), s.help) for s in settings]
    return _table((key, "allowed", "default", "meaning"), rows)


def _default(value: Any) -> str:
    if value is MISSING:
        return "required"
    return "" if value is None else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _sweeps() -> str:
    return _table(
        ("file", "asks", "on", "seeds", "a seed: trials", "epochs"),
        [_sweep(file) for file in sorted((ROOT / "sweeps").glob("*.yaml"))],
    )


def _sweep(file: Path) -> Sequence[str]:
    said = " ".join(line.removeprefix("#").strip() for line in file.read_text().splitlines())
    query = re.search(r"What it asks: ([^?]*\?)", said)
    assert query, f"{file.name} does not begin with what it asks"
    plan = make_plan(read_sweep(file), Store("results-of-nothing"))
    size, searches = plan.counts.per_seed, [decision.search for decision in plan.decisions]
    trials = [*plan.sweep.trials, *(search.base for search in searches)]
    on = ", ".join(dict.fromkeys(trial.dataset.name for trial in trials))
    on += ": " + ", ".join(dict.fromkeys(trial.model.name for trial in trials))
    counts = [str(size.trials)] if size else []
    epochs = [f"{size.epochs:,} ({size.epochs_unshared:,})"] if size else []
    if searches:
        counts.append(f"{len(searches)} winners")
        epochs.append(f"{sum(search.length for search in searches):,} for winners")
        epochs.append(f"once up to {sum(planned(search).epochs for search in searches):,} to tune")
    seeds = max([plan.counts.seeds or 0, *(len(search.final_seeds) for search in searches)])
    return f"`sweeps/{file.name}`", query[1], on, str(seeds), ", and ".join(counts), ", and ".join(epochs)


def _entries(registry: Mapping[str, Entry]) -> str:
    options = {name: [f"`{o}`: `{_yaml(v)}`" for o, v in entry.options.items()] for name, entry in registry.items()}
    return _table(("name", "options and their defaults"), [(f"`{n}`", ", ".join(o)) for n, o in options.items()])


def _models() -> str:
    """Names that have the same options in one row; of torchvision's many others the first and the last."""
    groups = groupby(MODELS.items(), key=lambda item: (item[1].target.partition(":")[0], tuple(item[1].options)))
    return _table(("names", "options and their defaults"), [_alike(dict(group)) for _, group in groups])


def _alike(entries: Mapping[str, Entry]) -> tuple[str, str]:
    names = [f"`{name}`" for name in entries]
    values = {o: {e.options[o] for e in entries.values()} for o in next(iter(entries.values())).options}
    options = [f"`{o}`: `{_yaml(*v)}`" if len(v) == 1 else f"`{o}`: by the name" for o, v in values.items()]
    return f"{names[0]} ... {names[-1]}" if len(names) > 20 else ", ".join(names), ", ".join(options)


def _yaml(value: Any) -> str:
    return str(list(value) if isinstance(value, tuple) else value)


def _method(name: str) -> str:
    cls = method_class(name)
    found = cls.hyperparameters()
    card = f"### `{name}`\n\n```text\n{getdoc(cls)}\n```"
    return f"{card}\n\n{_settings('hyperparameter', found)}" if found else f"{card}\n\nNo hyperparameters."


def _columns(schema: pa.Schema) -> str:
    rows = []
    for field in schema:
        said = {key.decode(): value.decode() for key, value in field.metadata.items()}
        rows.append((f"`{field.name}`", str(field.type), said["unit"], said["better"], said["description"]))
    return _table(("column", "type", "unit", "better", "meaning"), rows)


_MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_tables(text: str) -> str:
    made = tables()
    return _MARKED.sub(lambda match: f"{match[1]}\n{made[match[2]]}\n\n{match[3]}", text)


def test_every_table_from_the_code_is_up_to_date():
    for document in DOCUMENTS:
        text = document.read_text()
        assert text == with_tables(text), f"{document.name} is out of date: run python -m tests.test_docs"
    marked = [match[2] for document in DOCUMENTS for match in _MARKED.finditer(document.read_text())]
    assert sorted(marked) == sorted(tables())


def test_every_column_and_hyperparameter_is_explained():
    columns, methods = ((ROOT / "docs" / name).read_text() for name in ("columns.md", "methods.md"))
    for schema in (TRIALS, CURVES, LAYERS, CLASSES):
        for field in schema:
            assert f"`{field.name}`" in columns
            assert field.metadata[b"description"].decode().replace("|", r"\|") in columns
    for name in METHODS:
        for h in method_class(name).hyperparameters():
            assert f"`{h.name}`" in methods
            assert h.help in methods
            assert _default(h.default) in methods


def test_readme_counts_the_methods_and_schedules():
    assert f"| {len(METHODS) - 1} and {len(RETRAINING)} |" in (ROOT / "README.md").read_text(), "all but dense training"


def test_every_key_of_a_sweep_file_is_explained():
    sweeps = (ROOT / "docs/sweeps.md").read_text()
    common = set.intersection(*({f.alias for f in block_model(n).model_fields.values()} for n in ("imp", "random")))
    common -= {h.name for h in method_class("imp").hyperparameters()}
    keys = {field.alias for field in SWEEP.model_fields.values()} | common
    explained = {
        key for line in re.findall(r"^\| (`.*?) \|", sweeps, re.MULTILINE) for key in re.findall(r"`(\w+)`", line)
    }
    assert keys <= explained


def test_every_cause_of_failure_is_explained_and_every_error_is_said_so():
    text = (ROOT / "docs/troubleshooting.md").read_text()
    assert re.findall(r"^### `(.*)`$", text, re.MULTILINE) == [str(cause) for cause in POLICIES]
    assert POLICIES.keys() == {*Cause}
    before = text.partition("## Before the first stage")[2].partition("\n## ")[0]
    errors = re.findall(r"^\| `(.*?)` \|", before, re.MULTILINE)
    assert len(errors) >= 10
    code = "".join(
        file.read_text() for package in ("orchestrator", "workers") for file in ROOT.glob(f"{package}/**/*.py")
    )
    assert [part for error in errors for part in error.split("...") if part.strip() not in code] == []


def with_outputs(text: str, folder: Path) -> str:
    """The outputs that stand below commands and sweep files; these commands are quick."""
    reader = Reader(folder)
    for block in blocks(text):
        if block.file:
            (folder / block.file).write_text(block.text)
        if block.language == "text" and block.follows is not None:
            wrong = block.follows.language == "yaml"
            for command in [f"prunesweep validate {block.follows.file}"] if wrong else block.follows.commands:
                reader.run(command, "", code=2 if wrong else 0)
            printed = "\n".join(_stripped(reader.printed))
            text = text.replace(f"```text\n{block.text}```", f"```text\n{printed}\n```", 1)
    return text


if __name__ == "__main__":
    for path in DOCUMENTS:
        with TemporaryDirectory() as made:
            path.write_text(with_outputs(with_tables(path.read_text()), Path(made)))
