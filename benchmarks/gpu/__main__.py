"""What a card tells: whether the numbers are right there, and what speed it gives, in one command without a hand.

    python -m benchmarks.gpu [--device cuda|cpu] [--smoke] [--seconds N] [--only SECTION] [--method NAME]
                             [--output FOLDER]

Sections, each in a process of its own, so that none takes another with it when it fails, hangs or breaks the card's
context: `right` (the numbers), `methods` (their speed over plain training's), `loops` (prunesweep over a plain loop),
`sharing` (small trials on one card), `kernels` (where an iteration goes). Each prints its lines at once. The seconds
are shared out among the sections, what one leaves goes to the next, and one whose time is up says what it left out.

Written are `gpu.json` and `gpu.md`. The exit code is 1 when something was wrong or failed. Ray is not needed.
`--device cpu --smoke` runs all code in small, which shows that it runs and says nothing about speed.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from time import monotonic
from typing import Any

import torch

from benchmarks.gpu.report import BAD, Outcome, Report, Row, read, write
from prunesweep.workers.methods import METHODS

SECTIONS = {"right": 0.32, "methods": 0.22, "loops": 0.18, "sharing": 0.22, "kernels": 0.06}
"""The share of the seconds that each may take."""

GRACE = 45.0
"""Seconds past its deadline after which a section is taken for hung, and killed."""

CONTEXT = get_context("fork")
"""What is imported is imported once. The parent never asks for the card: who is forked after that cannot use it."""


def section(report: Report, threads: int) -> None:
    """One section, in its own process."""
    handler = logging.StreamHandler()
    handler.setLevel(logging.WARNING)  # not what stages say of every epoch
    logging.basicConfig(format="%(message)s", handlers=[handler])
    torch.set_num_threads(threads)
    if report.smoke:
        torch.compiler.set_stance("force_eager")  # what would be compiled runs, and nothing is compiled
    report.attempt(report.section, "all of it", lambda: work(report))


def work(report: Report) -> None:
    """Say where it runs, and run it."""
    where = import_module("benchmarks.gpu.device").described(report.device)
    report.add("device", str(report.device), Outcome.MEASURED, ", ".join(f"{k} {v}" for k, v in where.items()))
    import_module(f"benchmarks.gpu.{report.section}").run(report)


def run_section(report: Report, threads: int) -> list[Row]:
    """Its rows, with one more when its process did not come to its end."""
    process = CONTEXT.Process(target=section, args=(report, threads))
    process.start()
    process.join(max(0.0, report.left()) + GRACE)
    if process.is_alive():
        process.kill()
        process.join()
        report.add(
            report.section, "all of it", Outcome.FAILED, f"killed {GRACE:.0f} s after its time was up: did it hang?"
        )
    elif process.exitcode != 0:
        report.add(report.section, "all of it", Outcome.FAILED, f"its process ended with {process.exitcode}")
    return read(report.file)


def run(given: argparse.Namespace) -> Sequence[Row]:
    """The sections in turn; `gpu.json` and `gpu.md` are written anew after each of them."""
    given.output.mkdir(parents=True, exist_ok=True)
    ends, names = monotonic() + given.seconds, given.only or list(SECTIONS)
    where = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "device": given.device,
        "smoke": str(given.smoke),
    }
    rows: list[Row] = []
    for position, name in enumerate(names):
        share = SECTIONS[name] / sum(SECTIONS[other] for other in names[position:])
        deadline = monotonic() + max(0.0, ends - monotonic()) * share
        file = given.output / f"{name}.jsonl"
        file.unlink(missing_ok=True)
        methods = tuple(given.method or METHODS)
        report = Report(name, torch.device(given.device), given.smoke, deadline, file, methods)
        rows += run_section(report, given.threads)
        write(rows, where, given.output)
    return rows


def arguments(args: Sequence[str] | None = None) -> Any:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--smoke", action="store_true", help="small networks and few rounds, nothing compiled")
    parser.add_argument("--seconds", type=float, default=400.0, help="for all sections together (default: 400)")
    parser.add_argument("--only", action="append", choices=list(SECTIONS), help="one section; may be given again")
    parser.add_argument("--method", action="append", help="a method, or one of your own, module:Name (default: all)")
    parser.add_argument("--threads", type=int, default=min(8, os.cpu_count() or 1), help="CPU threads of torch")
    parser.add_argument("--output", type=Path, default=Path("gpu"), help="folder of gpu.json and gpu.md (default: gpu)")
    return parser.parse_args(args)


def main() -> int:
    """0 when all was right."""
    given = arguments()
    rows = run(given)
    bad = [row for row in rows if row.outcome in BAD]
    print(
        f"\n{len(rows)} rows, {len(bad)} of them wrong or failed; {given.output / 'gpu.md'} has the table", flush=True
    )
    for row in bad:
        print(row)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
