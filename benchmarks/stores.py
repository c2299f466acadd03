"""What the verbs cost on large stores: CPU, memory and, behind a delay, requests, over the number of trials.

    python -m benchmarks.stores trials --count 2500 10860 50000     finished trials of one sweep, five seeds a setting
    python -m benchmarks.stores sweeps --count 100 1000             sweeps of one finished trial each
    python -m benchmarks.stores beside --count 1000 10000 100000    a sweep of 100 trials beside others' finished stages
    python -m benchmarks.stores distance --count 100 1000           finished stages, then new ones, at 20 ms a request
    python -m benchmarks.stores ... [--verbs "first run" results] [--keep FOLDER] [--smoke] [--plot FILE]

The stores are made up, by the writers and with the keys of real ones, so that `plan` finds the stages done; each verb
is the real command in a process of its own. With `--keep` a store that was made before is used again, so that two
versions can be measured on the same files. `first run` is `run` of finished stages without tables, `run again` the
same with them.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import chdir, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.endpoint import Objects, endpoint
from prunesweep.orchestrator.plan import make_plan
from prunesweep.orchestrator.records import remember
from prunesweep.orchestrator.sweepfile.read import read_sweep
from prunesweep.workers.spec import Stage
from prunesweep.workers.store import CURVE, Store
from tests.orchestrator.finished import curve_of, files_of, result_of
from tests.s3 import Requests

COMMAND = Path(sys.executable).parent / "prunesweep"
SEEDS = 5
BLOCK = 70
"""Settings for each learning rate: 60 of IMP and 10 of GMP."""

SWEEP = """\
name: {name}
dataset: digits
model: resnet8
seeds: {seeds}
train: {{epochs: 20, batch_size: 64, schedule: linear}}
trials:
{blocks}
"""

IMP_AND_GMP = """\
  - method: imp
    sparsity: [0.7, 0.8, 0.9, 0.95, 0.98]
    retrain_epochs: [1, 2]
    retrain_schedule: [FT, LRW, SLR, CLR, LLR, ALLR]
    train: {{lr: [{rates}]}}
  - method: gmp
    sparsity: [0.7, 0.8, 0.9, 0.95, 0.98]
    train: {{epochs: [21, 22], lr: [{rates}]}}"""

DENSE = """\
  - method: dense
    train: {{lr: [{rates}]}}"""

Verb = tuple[str, Sequence[str]]
"""What it is called here, and its arguments."""


@dataclass(frozen=True)
class Cost:
    """Of one process: CPU and wall seconds, MB at most, and at a distance its requests to the store.

    `tabled` are the seconds after which the first of the tables that it wrote was there.
    """

    cpu: float
    wall: float
    memory: float
    requests: int | None = None
    tabled: float | None = None


# --- stores


def sweep_text(trials: int, name: str = "large") -> str:
    """A sweep of so many trials, over learning rates: five seeds of each setting, one where that leaves a remainder."""
    seeds = SEEDS if trials % SEEDS == 0 else 1
    blocks, rest = divmod(trials // seeds, BLOCK)
    parts = [IMP_AND_GMP.format(rates=_rates(0, blocks))] if blocks else []
    parts += [DENSE.format(rates=_rates(blocks, rest))] if rest else []
    return SWEEP.format(name=name, seeds=seeds, blocks="\n".join(parts))


def _rates(first: int, count: int) -> str:
    return ", ".join(f"{0.0001 * (1 + number):.4f}" for number in range(first, first + count))


def planned(folder: Path, text: str, store: Store) -> dict[str, Stage]:
    """The stages of a sweep, whose file is written into the folder."""
    file = folder / f"{text.split()[1]}.yaml"
    file.write_text(text)
    return make_plan(read_sweep(file), store).stages


def finish(stages: Sequence[Stage], location: str) -> None:
    """As their workers leave them behind, without networks."""
    store = Store(location)
    for stage in stages:
        store.begin(stage, store.new_attempt(stage.key, contents=frozenset()))
        store.publish(stage, {CURVE: curve_of(stage)}, result_of(stage), checkpointed=False)


def fill(folder: Path, text: str, location: str) -> None:
    """Finish all stages of a sweep, with two processes."""
    stages = list(planned(folder, text, Store(location)).values())
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(finish, [stages[start::20] for start in range(20)], [location] * 20))


def remember_sweeps(folder: Path, count: int, store: Store) -> None:
    """Sweeps of one finished trial."""
    for number in range(count):
        text = SWEEP.format(name=f"s{number}", seeds=f"[{number}]", blocks=DENSE.format(rates="0.1"))
        finish(list(planned(folder, text, store).values()), str(folder / "results"))
        with chdir(folder):
            remember(read_sweep(folder / f"s{number}.yaml"), store)


# --- the kinds of store, and the verbs that are asked of each

LARGE: Sequence[Verb] = [
    ("first run", ("run", "large.yaml")),
    ("run again", ("run", "large.yaml")),
    ("plan", ("plan", "large.yaml")),
    ("status NAME", ("status", "large")),
    ("status", ("status",)),
    ("results", ("results", "large")),
    ("compare", ("compare", "large", "--best-by", "validation_accuracy")),
    ("plot", ("plot", "large", "--best-by", "validation_accuracy", "--output", "plot.svg")),
    ("report", ("report", "large", "--output", "report.html")),
    ("gc", ("gc", "--dry-run")),
]
SWEEPS: Sequence[Verb] = [("status", ("status",)), ("gc", ("gc", "--dry-run"))]
BESIDE: Sequence[Verb] = [
    ("first run", ("run", "small.yaml")),
    *((name, [word.replace("large", "small") for word in words]) for name, words in LARGE[1:6]),
]
DISTANT: Sequence[Verb] = [
    ("first run", ("run", "large.yaml")),
    ("run again", ("run", "large.yaml")),
    ("plan", ("plan", "large.yaml")),
    ("plan of new", ("plan", "new.yaml")),
    ("status NAME", ("status", "large")),
    ("results", ("results", "large")),
    ("gc", ("gc", "--dry-run")),
]


def trials(folder: Path, count: int) -> str:
    fill(folder, sweep_text(count), str(folder / "results"))
    return str(folder / "results")


def sweeps(folder: Path, count: int) -> str:
    store = Store(folder / "results")
    store.require_writable()
    remember_sweeps(folder, count, store)
    return str(folder / "results")


def beside(folder: Path, count: int) -> str:
    """The others' stages have no record: they are somebody else's."""
    fill(folder, sweep_text(100, "small"), str(folder / "results"))
    fill(folder, sweep_text(count, "large"), str(folder / "results"))
    return str(folder / "results")


SMOKE = {"first run", "plan", "status"}
"""Verbs with which it is tried."""

KINDS: dict[str, tuple[Callable[[Path, int], str], Sequence[Verb]]] = {
    "trials": (trials, LARGE),
    "sweeps": (sweeps, SWEEPS),
    "beside": (beside, BESIDE),
}


# --- measuring


def cost(folder: Path, store: str, words: Sequence[str]) -> Cost:
    """Of one command; its children's CPU is in it."""
    begun = time.perf_counter()
    environment = {**os.environ, "PRUNESWEEP_STORE": store, "COLUMNS": "120"}
    environment["PYTHONDONTWRITEBYTECODE"] = ""  # else each process would compile all modules anew
    process = subprocess.Popen(
        [COMMAND, *words], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    said = process.stdout.read() if process.stdout else b""
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(words)} ended with {os.waitstatus_to_exitcode(status)}:\n{said.decode()[-2000:]}")
    return Cost(used.ru_utime + used.ru_stime, time.perf_counter() - begun, used.ru_maxrss / 1024)


def distant_cost(folder: Path, words: Sequence[str], requests: Requests, objects: Objects) -> Cost:
    """As `cost`, with what the endpoint saw of it."""
    begun, asked = time.perf_counter(), requests.count
    spent = cost(folder, "s3://bucket", words)
    written = objects.put_at.get("bucket/large/trials.parquet", 0.0) - begun
    return replace(spent, requests=requests.count - asked, tabled=written if written > 0 else None)


def measure(kind: str, count: int, kept: Path | None, verbs: Sequence[Verb]) -> dict[str, Cost]:
    make, _ = KINDS[kind]
    with _folder(kept and kept / f"{kind}-{count}") as (folder, is_new):
        store = make(folder, count) if is_new else str(folder / "results")
        for tables in ("large", "small"):
            shutil.rmtree(folder / "results" / tables, ignore_errors=True)
        return {name: cost(folder, store, words) for name, words in verbs}


def measure_distant(count: int, delay: float, verbs: Sequence[Verb]) -> dict[str, Cost]:
    requests = Requests(delay)
    with tempfile.TemporaryDirectory() as made, endpoint(requests) as (url, objects):
        folder, near = Path(made), Store(Path(made) / "none")
        for key, stage in planned(folder, sweep_text(count), near).items():
            for path, data in files_of(stage, near).items():
                objects.put(f"bucket/stages/{key}/{path}", data)
        planned(folder, sweep_text(count, "new").replace("epochs: 20", "epochs: 21"), near)
        os.environ |= {"AWS_ENDPOINT_URL": url, "AWS_REGION": "us-east-1"}
        os.environ |= {"AWS_ACCESS_KEY_ID": "someone", "AWS_SECRET_ACCESS_KEY": "a secret"}
        return {name: distant_cost(folder, words, requests, objects) for name, words in verbs}


@contextmanager
def _folder(kept: Path | None) -> Iterator[tuple[Path, bool]]:
    """Where the store is, and whether it has yet to be made."""
    if kept is None:
        with tempfile.TemporaryDirectory() as made:
            yield Path(made), True
        return
    is_new = not (kept / "made").exists()
    if is_new:
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
    yield kept, is_new
    (kept / "made").touch()


def show(kind: str, costs: dict[int, dict[str, Cost]]) -> None:
    """A line for each verb and count; in brackets the CPU of each of the things counted."""
    print(f"{kind}: CPU s (ms for each), wall s, MB, requests, s until there is a table")
    for name in next(iter(costs.values())):
        for count, of_verb in costs.items():
            spent = of_verb[name]
            for_one = f"({1000 * spent.cpu / count:.2f})"
            asked = "" if spent.requests is None else f"{spent.requests:>8,}"
            tabled = "" if spent.tabled is None else f"{spent.tabled:>8.2f}"
            figures = f"{spent.cpu:>9.2f} {for_one:>9}{spent.wall:>9.2f}{spent.memory:>8.0f}"
            print(f"  {name:<12}{count:>8,}{figures}{asked}{tabled}")


def plot(kind: str, costs: dict[int, dict[str, Cost]], file: Path) -> None:
    """CPU seconds over the count, a line for each verb; both axes are logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name in next(iter(costs.values())):
        axes.plot(list(costs), [of_verb[name].cpu for of_verb in costs.values()], marker="o", label=name)
    axes.set(xscale="log", yscale="log", xlabel=kind, ylabel="CPU seconds")
    figure.legend(loc="outside right upper")
    figure.savefig(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=[*KINDS, "distance"])
    parser.add_argument("--count", type=int, nargs="+", default=[10860])
    parser.add_argument("--delay", type=float, default=0.02, help="seconds a request")
    parser.add_argument("--verbs", nargs="+", help="only these; `first run` writes the tables of the others")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--smoke", action="store_true", help="a size at which nothing is measured")
    options = parser.parse_args()
    distant = options.kind == "distance"
    verbs = DISTANT if distant else KINDS[options.kind][1]
    chosen = SMOKE if options.smoke else options.verbs
    verbs = [verb for verb in verbs if chosen is None or verb[0] in chosen]
    counts = [20] if options.smoke else options.count
    costs = {}
    for count in counts:
        costs[count] = (
            measure_distant(count, options.delay, verbs)
            if distant
            else measure(options.kind, count, options.keep, verbs)
        )
        show(options.kind, {count: costs[count]})
    if len(counts) > 1:
        show(options.kind, costs)
    if options.plot:
        plot(options.kind, costs, options.plot)


if __name__ == "__main__":
    main()
