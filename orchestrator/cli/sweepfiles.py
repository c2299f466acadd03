"""The verbs `validate` and `schema`, about sweep files."""

from __future__ import annotations

from prunesweep.orchestrator.cli.options import SweepFile
from prunesweep.orchestrator.cli.printing import as_json
from prunesweep.orchestrator.sweepfile.read import read_sweep
from prunesweep.orchestrator.sweepfile.schema import sweep_schema
from prunesweep.orchestrator.text import counted


def validate(sweep: SweepFile) -> None:
    """Check a sweep file; says what is wrong and where, or how many trials it makes."""
    read = read_sweep(sweep)
    merged = f"; {counted(read.duplicates, 'equal trial')} merged" if read.duplicates else ""
    print(f"{sweep}: valid, {counted(len(read.trials), 'trial')}{merged}")


def schema() -> None:
    """Print the JSON Schema of sweep files, for editors."""
    print(as_json(sweep_schema()))
