"""Torture of `prunesweep run`: whatever is killed, paused or damaged on the way, the tables have the same bits.

    python -m tests.chaos --kills 100 --seed 0
    python -m tests.chaos --kills 30 --s3
    python -m tests.chaos --kills 30 --users --version HEAD~1
    python -m tests.chaos --kills 30 --jobs
    python -m tests.chaos --kills 30 --ui

A sweep runs once undisturbed. Then it runs in fresh stores, round after round, while chance kills its driver, its
workers and its Ray node, stops and continues them, damages files of the store, and starts a second driver on it;
whenever the driver has ended, the same command is given again: by another user, with another version of the code, or as
a job of a cluster, where that is asked for (`tests.ways`). The live page may be looked at meanwhile. In the end each
store is let finish, and its tables are compared with the undisturbed ones. Exit code 1 unless every row is there once
with the same bits, no output has a traceback, every exit code is a documented one, and nothing hangs.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import NamedTuple

from pyarrow import fs

from prunesweep.orchestrator.sweepfile.read import read_sweep
from prunesweep.workers.store import CHECKPOINTS
from tests.chaos_page import LivePage
from tests.damage import DAMAGE, damaged
from tests.family import Family
from tests.s3 import bucket
from tests.same_tables import TABLES, assert_same, compare
from tests.ways import Way, forget_users, jobs, share, users, version

SWEEP = Path(__file__).with_suffix(".yaml")
SETTLING_RUNS = 4
POLL_SECONDS = 0.1

WEIGHTS_FILE = "chaos_weights.safetensors"
"""From which a block of the sweep starts."""

PROGRAMS = {"worker": "ray::ResourceTrainable", "raylet": "raylet", "gcs_server": "gcs_server"}
"""How the command lines of Ray's processes begin."""

WEIGHTS = {
    **{"driver SIGKILL": 20, "driver SIGTERM": 6, "driver SIGINT": 6, "worker SIGKILL": 30, "worker SIGTERM": 8},
    **{"raylet SIGKILL": 6, "gcs_server SIGKILL": 4, "driver pause": 5, "worker pause": 6, "raylet pause": 4},
    **{"file damage": 14, "second driver": 4},
}
"""How often each event comes; those that end in a signal's name are counted as kills."""

WORK_LOST = "seconds from a stage's last checkpoint to its worker's death"
EPOCHS_LOST = "the same in epochs"
BEGINNING_LOST = "seconds from a stage's start to its worker's death before any checkpoint"
STAGE_BACK = "seconds from a worker's death to its stage running again"
DRIVER_BACK = "seconds from a driver's death to the first stage of the next"
DRIVER_GONE = "seconds from Ctrl-C or SIGTERM to the driver's exit"


class Event(NamedTuple):
    """`pause` seconds after the event before it; one that is `patient` waits for a sign of progress first."""

    target: str
    what: str
    patient: bool
    pause: float
    seed: int

    @property
    def name(self) -> str:
        return f"{self.target} {self.what}"


def events(seed: int, without: Sequence[str]) -> Iterator[Event]:
    """The same for the same seed, whatever the machine makes of it; without the targets that are to be spared."""
    chance = random.Random(seed)
    weights = {name: weight for name, weight in WEIGHTS.items() if name.split()[0] not in without}
    while True:
        target, what = chance.choices(list(weights), list(weights.values()))[0].split()
        patient = chance.random() < 0.75
        yield Event(target, what, patient, chance.uniform(0, 4 if patient else 10), chance.randrange(2**32))


@dataclass
class Tally:
    """What happened, over all rounds."""

    wished: int
    patience: float
    begun: float = field(default_factory=time.monotonic)
    kills: int = 0
    rounds: int = 0
    left: int = 0
    explained: int = 0
    pages: Counter[int] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    codes: Counter[int] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    measured: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    failures: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - self.begun), 60)
        print(f"{minutes:3}:{seconds:02} {text}", flush=True)

    def fail(self, text: str) -> None:
        self.failures.append(text)
        self.say(f"FAILURE: {text}")

    def clear(self, family: Family) -> None:
        """No run is going on: what is there was left behind."""
        if left := family.end(grace=2):
            self.left += len(left)
            self.say(f"left behind, and killed now: {', '.join(left)}")

    def minutes_left(self) -> float:
        return (time.monotonic() - self.begun) / 60 / max(self.kills, 1) * (self.wished - self.kills)

    def summary(self) -> str:
        lines = [
            f"kills     {self.kills}",
            f"events    {', '.join(f'{count} {name}' for name, count in sorted(self.events.items()))}",
            f"runs      {self.codes.total()}, in {self.rounds} rounds and one undisturbed",
            f"causes    {self.explained} deaths of workers under a driver that went on, each with its cause",
            f"pages     {', '.join(f'{count} with {code}' for code, count in sorted(self.pages.items())) or 'none'}",
            f"left      {self.left} processes, which were killed after their round",
            f"exits     {', '.join(f'{count} with {code}' for code, count in sorted(self.codes.items()))}",
        ]
        for name in TABLES:
            counts = (f"{self.rows[f'{name} {what}']} {what}" for what in ("compared", "lost", "doubled", "different"))
            lines.append(f"{name:9} {', '.join(counts)}")
        for name, values in self.measured.items():
            lines.append(f"{name}: median {median(values):.1f}, maximum {max(values):.1f}, of {len(values)}")
        return "\n".join([*lines, *(f"FAILURE: {text}" for text in self.failures), f"{len(self.failures)} failures"])


@dataclass
class Run:
    """One `prunesweep run`, with the signals that it was sent and when the first was."""

    process: subprocess.Popen[bytes]
    output: Path
    beside_another: bool
    sent: set[str] = field(default_factory=set)
    asked_at: float | None = None

    def expected(self, code: int) -> bool:
        """Documented, or the signal's own: at first no handler is there. A second driver may be refused."""
        asked = {130} if self.sent & {"SIGINT", "SIGTERM"} else set()
        refused = {2} if self.beside_another else set()
        return code in {0, 1} | {-signal.Signals[name] for name in self.sent} | asked | refused


class Files:
    """A store as `folder` shows it: it lies there, or at `url` in a bucket, of which `copy` makes a copy there."""

    def __init__(self, folder: Path, url: str | None = None) -> None:
        self.folder = folder
        self.fs, self.root = (fs.LocalFileSystem(), str(folder)) if url is None else fs.FileSystem.from_uri(url)
        self.location = url or str(folder)

    def times(self) -> dict[Path, int]:
        """When each file was written, in nanoseconds."""
        every = fs.FileSelector(self.root, allow_not_found=True, recursive=True)
        with suppress(FileNotFoundError):  # a folder was removed meanwhile
            infos = self.fs.get_file_info(every)
            return {self._shown(info.path): info.mtime_ns or 0 for info in infos if info.is_file}
        return {}

    def read(self, path: Path) -> bytes:
        with self.fs.open_input_file(self._place(path)) as stream:
            return stream.read()

    def write(self, path: Path, data: bytes) -> None:
        with self.fs.open_output_stream(self._place(path)) as stream:
            stream.write(data)

    def copy(self) -> None:
        if self.location != str(self.folder):
            fs.copy_files(self.root, str(self.folder), source_filesystem=self.fs)

    def _shown(self, place: str) -> Path:
        return self.folder / place.removeprefix(self.root).lstrip("/")

    def _place(self, path: Path) -> str:
        return f"{self.root}/{path.relative_to(self.folder).as_posix()}"


class Round:
    """A store, the drivers that work on it now, and what is seen of their progress."""

    def __init__(
        self,
        folder: Path,
        sweep: Path,
        family: Family,
        tally: Tally,
        epoch_seconds: Mapping[str, float],
        bucket_url: str | None = None,
        ways: Sequence[Way] = (Way("alone"),),
        with_page: bool = False,
    ) -> None:
        """In a bucket the store lies under the folder's name. Runs are called in the given ways by turns."""
        self.with_page, self.page = with_page, None
        folder.mkdir(parents=True, exist_ok=True)
        self.ways = ways
        self.store = Files(folder / "results", f"{bucket_url}/{folder.name}" if bucket_url else None)
        self.folder, self.sweep, self.family, self.tally = folder, sweep, family, tally
        self.epoch_seconds = epoch_seconds
        self.runs: list[Run] = []
        self.number = 0
        self.code: int | None = None
        self.last_event = "nothing"
        self.files: dict[Path, int] = {}
        self.moved = self.event_at = time.monotonic()
        self.paused_at = 0.0
        self.first_move: float | None = None
        self.stopped: dict[int, float] = {}
        self.dead_workers: dict[str, float] = {}
        self.killed: dict[int | None, frozenset[str]] = {}
        self.done: frozenset[str] = frozenset()
        self.driver_died: float | None = None
        self.before: list[int] = []

    # --- runs

    def start(self) -> None:
        self.number += 1
        output = self.folder / f"run-{self.number:03}.txt"
        way = self.ways[self.number % len(self.ways)]
        command = [*way.command, "run", self.sweep, "--store", self.store.location]
        command += [read_sweep(self.sweep).name] if way.job else []
        process = self.family.start(command, self.folder, output, way.environment)
        for run in self.runs:
            run.beside_another = True
        self.runs.append(Run(process, output, bool(self.runs)))
        self.moved, self.first_move = time.monotonic(), None

    def watch(self) -> None:
        """A look at everything; to be called again and again."""
        time.sleep(POLL_SECONDS)
        self._continue(time.monotonic())
        for run in [run for run in self.runs if run.process.poll() is not None]:
            self._ended(run)
        self._look()
        if self.runs and not self.stopped and time.monotonic() - max(self.moved, self.paused_at) > self.tally.patience:
            self._hung()

    def end_page(self) -> None:
        if self.page is None:
            return
        self.page.end()
        self.tally.pages.update(self.page.answers)
        for problem in self.page.problems:
            self.tally.fail(problem)
        self.page = None

    def settle(self) -> bool:
        """Let what runs run to its end, and then again undisturbed until all is done."""
        self._continue()
        self._wait()
        for _ in range(SETTLING_RUNS):
            self.start()
            self._wait()
            if self.code == 0:
                self.end_page()
                self.store.copy()
                return True
        self.end_page()
        self.tally.fail(f"{self.folder}: not done after {SETTLING_RUNS} undisturbed runs")
        return False

    def _wait(self) -> None:
        while self.runs:
            self.watch()

    def _ended(self, run: Run) -> None:
        self.runs.remove(run)
        self.code = run.process.returncode
        self.tally.codes[self.code] += 1
        if run.asked_at is not None and self.paused_at < run.asked_at:
            self.tally.measured[DRIVER_GONE].append(time.monotonic() - run.asked_at)
        text = run.output.read_text(errors="replace")
        after = f"{run.output}, sent {', '.join(sorted(run.sent)) or 'no signal'}; last event: {self.last_event}"
        if "Traceback" in text:
            self.tally.fail(f"a traceback in {after}")
        if not run.expected(self.code):
            self.tally.fail(f"exit code {self.code} in {after}: {(text.splitlines() or ['nothing printed'])[-1]}")
        self._explained(run)
        self.dead_workers.clear()
        self.driver_died, self.before = time.monotonic(), self.family.members()

    def _explained(self, run: Run) -> None:
        """Each worker that was killed under a driver which has come to its end has its cause in the store.

        What it had finished before, it had finished well.
        """
        if self.code in (0, 1) and not self.runs and not run.beside_another:
            for path in self.store.times():
                process = self._process(path) if path.parent.name == "attempts" else None
                if process in self.killed and path.parent.parent.name not in self.killed[process]:
                    self.tally.explained += 1
                    with suppress(OSError, ValueError):
                        if json.loads(self.store.read(path))["cause"] is None:
                            self.tally.fail(f"{path}: killed, and without a cause")
        if not self.runs:
            self.killed.clear()

    def _hung(self) -> None:
        self.end_page()
        report = self.folder / f"hang-{self.number:03}.txt"
        report.write_text(self.family.table())
        outputs = ", ".join(str(run.output) for run in self.runs)
        self.tally.fail(f"nothing happened for {self.tally.patience:.0f} s in {outputs}; processes in {report}")
        for run in self.runs:
            run.sent.add("SIGKILL")
        self.family.end(grace=0)
        self.moved = time.monotonic()

    # --- progress

    def _look(self) -> None:
        files = self._scan()
        if files == self.files:
            return
        self.moved = time.monotonic()
        self.first_move = self.first_move or self.moved
        for path in sorted(files.keys() - self.files.keys()):
            if path.parent.name == "attempts":
                self._began(path)
        self.files = files
        if self.with_page and self.page is None:
            name = read_sweep(self.sweep).name
            self.page = LivePage(self.family, self.folder, self.store.location, name)

    def _scan(self) -> dict[Path, int]:
        times = self.store.times().items()
        self.done |= {path.parent.name for path, _ in times if path.name == "result.json"}
        return {
            path: time
            for path, time in times
            if path.name == "result.json" or path.name in CHECKPOINTS or path.parent.name == "attempts"
        }

    def _began(self, attempt: Path) -> None:
        """A stage runs: again, or as the first of a new driver. What was paused meanwhile is not measured."""
        back = {STAGE_BACK: self.dead_workers.pop(attempt.parent.parent.name, None)}
        if self.driver_died is not None and self._process(attempt) not in self.before:
            back[DRIVER_BACK], self.driver_died = self.driver_died, None
        for name, died in back.items():
            if died is not None and self.paused_at < died:
                self.tally.measured[name].append(time.monotonic() - died)

    def _note_work_lost(self, pid: int) -> None:
        """The time since the worker last wrote a file of its stage; an undisturbed epoch says how many epochs."""
        files = self._scan()
        attempts = [path for path in files if path.parent.name == "attempts" and self._process(path) == pid]
        attempt = max(attempts, key=lambda path: files[path], default=None)
        if attempt is None or attempt.parent.with_name("result.json") in files:
            return
        stage, now = attempt.parent.parent, time.monotonic()
        self.dead_workers[stage.name] = now
        begun, checkpointed = files[attempt], max(files.get(stage / name, 0) for name in CHECKPOINTS)
        lost = time.time() - max(checkpointed, begun) / 1e9
        if self.paused_at > now - lost:
            return
        if checkpointed < begun:
            self.tally.measured[BEGINNING_LOST].append(lost)
        else:
            self.tally.measured[WORK_LOST].append(lost)
            self.tally.measured[EPOCHS_LOST].append(lost / self.epoch_seconds[stage.name])

    # --- events

    def due(self, event: Event) -> bool:
        since = self.first_move if event.patient else self.event_at
        return since is not None and time.monotonic() >= since + event.pause

    def happen(self, event: Event) -> bool:
        """Let it happen; false while there is nothing that it could happen to."""
        if not self._act(event, random.Random(event.seed)):
            return False
        self.event_at, self.first_move, self.last_event = time.monotonic(), None, event.name
        self.tally.events[event.name] += 1
        self.tally.kills += event.what in signal.Signals.__members__
        done = sum(path.name == "result.json" for path in self.files)
        self.tally.say(
            f"{self.tally.kills}/{self.tally.wished} kills: {event.name} ({self.folder.name}, run {self.number}, "
            f"{done} stages done), ETA {self.tally.minutes_left():.0f} min"
        )
        return True

    def _act(self, event: Event, chance: random.Random) -> bool:
        if event.target == "file":
            return self.damage(chance)
        if event.target == "second":
            if len(self.runs) != 1:
                return False
            self.start()
            return True
        targets = self._targets(event.target)
        if not targets:
            return False
        pid = chance.choice(targets)
        if event.what == "pause":
            self._stop(pid, chance.uniform(0.1, 20))
        else:
            self._kill(pid, event)
        return True

    def _targets(self, kind: str) -> list[int]:
        """No driver before its first line: no program can hide the traceback of a Ctrl-C while Python starts."""
        if kind == "driver" and self.ways[0].job:
            return self.family.commands(f"run ./{self.sweep.name}")
        if kind == "driver":
            return [run.process.pid for run in self.runs if run.output.stat().st_size]
        return self.family.members(PROGRAMS[kind])

    def _kill(self, pid: int, event: Event) -> None:
        """Ctrl-C goes to the whole process group, as from a terminal, and half of the SIGTERM, as from `timeout`."""
        if event.target == "worker":
            self._note_work_lost(pid)
        for run in self.runs:
            if run.process.pid == pid or (event.target == "driver" and self.ways[0].job):
                run.sent.add(event.what)
                run.asked_at = run.asked_at or (None if event.what == "SIGKILL" else time.monotonic())
        group = event.what == "SIGINT" or (event.what == "SIGTERM" and event.seed % 2 == 0)
        self.family.signal(pid, signal.Signals[event.what], group=group and event.target == "driver")
        if event.target == "worker" and event.what == "SIGKILL":
            self._scan()
            self.killed[pid] = self.done

    def _stop(self, pid: int, seconds: float) -> None:
        self.family.signal(pid, signal.SIGSTOP)
        self.stopped[pid] = time.monotonic() + seconds
        self.paused_at = time.monotonic()

    def _continue(self, now: float = float("inf")) -> None:
        """Those whose pause is over."""
        for pid in [pid for pid, until in self.stopped.items() if until <= now]:
            del self.stopped[pid]
            self.family.signal(pid, signal.SIGCONT)
            self.paused_at = time.monotonic()

    def damage(self, chance: random.Random) -> bool:
        """A file of any kind, each kind as likely as the others: there are few checkpoints and many specs."""
        kinds: dict[str, list[Path]] = defaultdict(list)
        for path in sorted(self.store.times()):
            if not path.name.startswith("damaged-"):
                kinds["note" if path.parent.name == "attempts" else path.name].append(path)
        if not kinds:
            return False
        path, how = chance.choice(kinds[chance.choice(sorted(kinds))]), chance.choice(DAMAGE)
        with suppress(FileNotFoundError):  # it was renamed meanwhile
            if data := self.store.read(path):
                self.store.write(path, chance.choice(list(damaged(data, how, chance.randrange(2**32)))))
        self.tally.say(f"damage: {how}: {path.relative_to(self.folder)}")
        self.files = self._scan()
        return True

    def _process(self, attempt: Path) -> int | None:
        """The process that made it, None when the note is damaged."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            return int(json.loads(self.store.read(attempt))["process"])
        return None


def torture(one: Round, coming: Iterator[Event], *, damage_between: bool) -> None:
    """Until the sweep is done, or enough was killed. Some damage is done while nothing runs."""
    one.start()
    event = next(coming)
    while one.tally.kills < one.tally.wished:
        one.watch()
        if not one.runs:
            if one.code == 0:
                return
            chance = random.Random(event.seed)
            if damage_between and chance.random() < 0.2:
                one.damage(chance)
            one.start()
        if one.due(event) and (one.happen(event) or event.target == "second"):
            event = next(coming)


def check(one: Round, undisturbed: Round) -> None:
    """What differs from the undisturbed tables is a failure."""
    name = read_sweep(one.sweep).name
    expected, found = (each.folder / "results" / name for each in (undisturbed, one))
    for table, rows in compare(expected, found).items():
        one.tally.rows.update({f"{table} {what}": count for what, count in rows._asdict().items()})
        if not rows.equal:
            one.tally.fail(f"{found}: {table}: {rows}")
    try:
        assert_same(expected, found)
    except (AssertionError, ValueError) as error:
        one.tally.fail(f"{found}: {error}")


@contextmanager
def cluster(family: Family) -> Iterator[list[Way]]:
    with jobs({family.name: family.value}) as job:
        yield [job]


def epoch_seconds(store: Path) -> dict[str, float]:
    """How long an epoch of each stage took."""
    results = {path.parent.name: json.loads(path.read_text()) for path in store.glob("stages/*/result.json")}
    return {key: result["elapsed_seconds"] / max(result["epochs"], 1) for key, result in results.items()}


def chaos(
    folder: Path,
    sweep: Path,
    kills: int,
    seed: int,
    patience: float,
    without: Sequence[str],
    bucket_url: str | None = None,
    ways: Sequence[Way] = (Way("alone"),),
    as_jobs: bool = False,
    with_page: bool = False,
) -> Tally:
    """Run the sweep undisturbed, unless the folder has that already, and then in torture until enough was killed."""
    tally, family, coming = Tally(kills, patience), Family(), events(seed, without)
    try:
        undisturbed = Round(folder / "undisturbed", sweep, family, tally, {})
        if undisturbed.settle():
            tally.say("undisturbed: done")
            lengths = epoch_seconds(undisturbed.folder / "results")
            while tally.kills < kills:
                tally.rounds += 1
                place = folder / f"round-{tally.rounds}"
                shutil.rmtree(place, ignore_errors=True)
                if ways[0].shared:
                    share(place / "results")
                with cluster(family) if as_jobs else nullcontext(ways) as called:
                    one = Round(place, sweep, family, tally, lengths, bucket_url, called, with_page)
                    torture(one, coming, damage_between="file" not in without)
                    if one.settle():
                        check(one, undisturbed)
                tally.say(f"{one.folder.name} is over after {one.number} runs")
                tally.clear(family)
    finally:
        tally.clear(family)
    return tally


def write_weights(file: Path) -> None:
    """Of a `lenet300` for digits, drawn with a seed; torch loads here, and not where the torture runs."""
    code = (
        "import sys, torch; from safetensors.torch import save_file; from prunesweep.workers import models;"
        "torch.manual_seed(0); network = models.build(models.choose('lenet300', {}), (1, 8, 8), 10);"
        "save_file(network.state_dict(), sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", code, file], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Torture of `prunesweep run`.")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--patience", type=float, default=120, help="seconds without a sign of progress are a hang")
    parser.add_argument("--folder", type=Path, help="where the stores go (default: a new one in /tmp)")
    parser.add_argument("--keep", action="store_true", help="keep the folder though all went well")
    parser.add_argument("--sweep", type=Path, default=SWEEP)
    parser.add_argument("--without", nargs="*", default=[], help="what is spared: raylet, gcs_server, second, ...")
    parser.add_argument("--s3", action="store_true", help="keep the stores in a bucket behind a real S3 endpoint")
    parser.add_argument("--users", action="store_true", help="run as two users of one group, by turns; for root")
    parser.add_argument("--version", metavar="COMMIT", help="run every other time with the code of this commit")
    parser.add_argument("--jobs", action="store_true", help="submit to a cluster on this machine, a new one each round")
    parser.add_argument("--ui", action="store_true", help="look at the live page all the time")
    options = parser.parse_args()
    folder = (options.folder or Path(tempfile.mkdtemp(prefix="chaos-"))).absolute()
    print(f"chaos in {folder}", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    ways = users(folder) if options.users else [Way("alone")]
    if options.version:
        changed = version(options.version, folder)
        ways = [*ways, *map(changed, ways)]
    without = [*options.without, *(("raylet", "gcs_server") if options.jobs else ())]
    sweep = Path(shutil.copy(options.sweep, folder))  # where a second user may read it
    if WEIGHTS_FILE in sweep.read_text():
        write_weights(folder / WEIGHTS_FILE)
    with bucket() if options.s3 else nullcontext() as bucket_url:
        told = options.kills, options.seed, options.patience, without
        tally = chaos(folder, sweep, *told, bucket_url, ways, options.jobs, options.ui)
    if options.users:
        forget_users()
    print(tally.summary())
    if tally.failures:
        return 1
    if not options.keep:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
