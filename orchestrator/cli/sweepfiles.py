"""The verbs `validate` and `schema`, about sweep files."""

from __future__ import annotations

from pathlib import Path

from prunesweep.orchestrator.cli.options import ChangesOption, DataOption, SweepFile
from prunesweep.orchestrator.cli.printing import as_json
from prunesweep.orchestrator.lookup import load_sweep
from prunesweep.orchestrator.run.preflight import absent_data
from prunesweep.orchestrator.sweepfile.matching import require_matching
from prunesweep.orchestrator.text import counted


def validate(sweep: SweepFile, data_dir: DataOption = Path("data"), changes: ChangesOption = None) -> None:
    """Check a sweep file; says what is wrong and where, or how many trials it makes."""
    read = load_sweep(sweep, changes or ())
    require_matching(read, read.exemplars, str(data_dir))
    merged = f"; {counted(read.duplicates, 'equal trial')} merged" if read.duplicates else ""
    asked = counted(len(read.trials), "trial")
    if read.searches:
        asked += f" and {counted(len(read.searches), 'search', 'searches')}"
    print(f"{sweep}: valid, {asked}{merged}")
    for problem in absent_data(read.exemplars, str(data_dir)):
        print(f"not on this machine: {problem}")


def schema() -> None:
    """Print the JSON Schema of sweep files, for editors."""
    from prunesweep.orchestrator.sweepfile.schema import sweep_schema

    print(as_json(sweep_schema()))
