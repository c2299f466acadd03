"""The verb `doctor`: is this machine ready for a sweep?"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import typer
from rich.markup import escape

from prunesweep.orchestrator.cli import datasets
from prunesweep.orchestrator.cli.exit_codes import FAILED
from prunesweep.orchestrator.cli.options import STORE, DataOption, JsonOption, StoreOption
from prunesweep.orchestrator.cli.printing import as_json, say
from prunesweep.orchestrator.provenance import PACKAGES
from prunesweep.orchestrator.run.preflight import unusable_places
from prunesweep.orchestrator.text import joined, size
from prunesweep.workers import data
from prunesweep.workers.errors import UserError
from prunesweep.workers.host import processor, usable_cores
from prunesweep.workers.location import Location
from prunesweep.workers.store import Store

SMALL_SWEEP = """\
dataset: digits
model: lenet300
train: {epochs: 1}
trials: [{method: dense}]
"""

SMALL_SWEEP_SECONDS = 180
"""It takes some ten."""

FREE_DISK = 2 * 10**9

MARKS = {"ok": "[green]ok[/]", "absent": "[yellow]--[/]", "no": "[red]no[/]"}

BROKEN = (ImportError, OSError, RuntimeError)
"""What importing or using a package raises that does not fit this machine: libraries absent, a device unusable."""


@dataclass(frozen=True)
class Check:
    """One thing looked at: `ok`; `absent`, which a sweep may do without; `no`, with which no sweep would run."""

    name: str
    state: Literal["ok", "absent", "no"]
    finding: str


def doctor(store: StoreOption = STORE, data_dir: DataOption = Path("data"), as_json_: JsonOption = False) -> None:
    """Check this machine: packages, devices, store, datasets, and a small sweep. Exit code 1 if no sweep would run."""
    checks = examine(store, data_dir)
    if not any(check.state == "no" for check in checks):
        checks.append(_small_sweep())
    if as_json_:
        print(as_json([{"name": check.name, "state": check.state, "found": check.finding} for check in checks]))
    else:
        _show(checks)
    if any(check.state == "no" for check in checks):
        raise typer.Exit(FAILED)


def _show(checks: Sequence[Check]) -> None:
    """A line for each check, absent datasets in one; then whether a sweep can run here."""
    absent = ", ".join(check.name for check in checks if check.state == "absent")
    rows: list[tuple[str, str, str]] = []
    rows += [(check.state, check.name, check.finding) for check in checks if check.state != "absent"]
    rows += [("absent", "datasets", f"absent: {absent}; fetch one with: prunesweep data fetch NAME")] if absent else []
    column = max(len(name) for _, name, _ in rows) + 2
    for state, name, finding in rows:
        say(f"{MARKS[state]}  {name.ljust(column)}{escape(finding)}")
    wrong = [check.name for check in checks if check.state == "no"]
    say(f"[red]not ready[/]: {joined(wrong)}" if wrong else "[green]ready[/]: sweeps can run on this machine")


def examine(store: Location, data_folder: Path) -> list[Check]:
    """All checks but that a sweep runs; starts no cluster and leaves nothing behind."""
    ray = subprocess.Popen(
        [sys.executable, "-c", "import ray.tune"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    return [
        Check("python", "ok", f"{platform.python_version()} on {platform.platform()}"),
        *_packages(),
        Check("processor", "ok", f"{processor()}, {usable_cores()} of {os.cpu_count()} cores may be used"),
        *_torch(data_folder),
        _store(store),
        _disk(store),
        *(Check("places", "no", problem) for problem in unusable_places()),
        *_imported("ray.tune", ray),
    ]


def _small_sweep() -> Check:
    """Runs one stage as any sweep does: it meets what no list of checks foresees."""
    # Where it is ended, its workers may write into the folder while it is removed.
    with tempfile.TemporaryDirectory(prefix="prunesweep-", ignore_cleanup_errors=True) as folder:
        (Path(folder) / "doctor.yaml").write_text(SMALL_SWEEP)
        command = [sys.executable, "-m", "prunesweep.orchestrator.cli.start", "run", "doctor.yaml", "--store", "store"]
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, check=False, timeout=SMALL_SWEEP_SECONDS
            )
        except subprocess.TimeoutExpired:
            return Check("a sweep", "no", f"a sweep of one epoch was not done after {SMALL_SWEEP_SECONDS} s")
    if done.returncode == 0:
        return Check("a sweep", "ok", "Ray starts, and a network was trained")
    said = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    return Check("a sweep", "no", said[-1] if said else f"ended with exit code {done.returncode} and without a word")


def _packages() -> Iterator[Check]:
    for name in PACKAGES:
        try:
            yield Check(name, "ok", version(name))
        except PackageNotFoundError:
            yield Check(name, "no", f"not installed: pip install {name}")


def _imported(module: str, process: subprocess.Popen[str]) -> Iterator[Check]:
    """A fault only: that the module can be imported is nothing to report."""
    errors = process.communicate()[1]
    if process.returncode:
        reason = errors.strip().splitlines()[-1:] or [f"exit code {process.returncode}"]
        yield Check(module, "no", f"cannot be imported: {reason[0]}")


def _torch(data_folder: Path) -> Iterator[Check]:
    """Imports it and multiplies: a build that does not fit the machine fails here and not in every trial."""
    try:
        yield Check("devices", "ok", _devices())
    except BROKEN as error:
        yield Check("devices", "no", f"torch does not work here: {type(error).__name__}: {_first_line(error)}")
    else:
        yield from _datasets(data_folder)


def _devices() -> str:
    import torch

    names = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    for name in names:
        ones = torch.ones(2, 2, device=name)
        float((ones @ ones).sum())
    gpus = [torch.cuda.get_device_name(name) for name in names[1:]]
    return ", ".join(gpus) or "no GPU that torch can use: trials run on the CPU"


def _datasets(folder: Path) -> Iterator[Check]:
    """Present or not; absent is no fault, a sweep may not need it."""
    for name in data.DATASETS:
        try:
            datasets.present(name, str(folder))
        except UserError as error:
            yield Check(name, "absent", str(error))
        except BROKEN as error:
            yield Check(name, "no", f"{type(error).__name__}: {_first_line(error)}")
        else:
            yield Check(name, "ok", "ready")


def _store(location: Location) -> Check:
    try:
        store = Store(location)
        if not location.is_url and not Path(store.location).exists():
            return _place(Path(store.location))
        store.require_writable()
    except UserError as error:
        return Check("store", "no", str(error))
    return Check("store", "ok", f"{store.location} is writable")


def _place(folder: Path) -> Check:
    """Whether a folder that is not there could be made, without making it."""
    parent = _nearest(folder)
    if os.access(parent, os.W_OK | os.X_OK):
        return Check("store", "ok", f"{folder} will be made by the first run")
    return Check("store", "no", f"{folder} cannot be made: {parent} is not writable; choose another with --store")


def _disk(location: Location) -> Check:
    if location.is_url:
        return Check("disk", "ok", "the store is remote")
    free = shutil.disk_usage(_nearest(Path(location.absolute()))).free
    if free < FREE_DISK:
        return Check("disk", "no", f"{size(free)} free for the store; at least {size(FREE_DISK)} are wanted")
    return Check("disk", "ok", f"{size(free)} free for the store")


def _nearest(path: Path) -> Path:
    """The path, or the first of the folders around it that exists."""
    return next(place for place in (path, *path.parents) if place.exists())


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
