"""What the sections find: rows that are printed at once, kept in a file, and become JSON and Markdown at the end."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from time import monotonic

import torch

from benchmarks.methods import markdown

log = logging.getLogger("benchmarks.gpu")


class Outcome(StrEnum):
    """What became of a check or a measurement."""

    RIGHT = "right"
    WRONG = "WRONG"
    MEASURED = "measured"
    ABSENT = "not on this device"
    LEFT_OUT = "left out"
    FAILED = "FAILED"


BAD = (Outcome.WRONG, Outcome.FAILED)


@dataclass(frozen=True)
class Row:
    """One line of a section: what was looked at (`check`), on what (`subject`), with what outcome."""

    section: str
    check: str
    subject: str
    outcome: Outcome
    said: str
    numbers: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"[{self.section}] {self.outcome:<8} {self.check}: {self.subject}: {self.said}"


@dataclass(frozen=True)
class Report:
    """Where a section writes its rows, until when (`deadline`, on the monotonic clock) it may measure, and on what."""

    section: str
    device: torch.device
    smoke: bool
    deadline: float
    file: Path
    methods: tuple[str, ...]

    @property
    def gpu(self) -> bool:
        """Whether there is a card."""
        return self.device.type == "cuda"

    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - monotonic()

    def add(
        self, check: str, subject: str, outcome: Outcome, said: str, numbers: Mapping[str, float] | None = None
    ) -> None:
        """Print a row, and append it to the file: it survives whatever happens to this process afterwards."""
        row = Row(self.section, check, subject, outcome, said, numbers or {})
        print(row, flush=True)
        with self.file.open("a") as lines:
            lines.write(json.dumps(asdict(row)) + "\n")

    def judge(
        self, check: str, subject: str, right: bool, said: str, numbers: Mapping[str, float] | None = None
    ) -> None:
        """A row that is right or wrong."""
        self.add(check, subject, Outcome.RIGHT if right else Outcome.WRONG, said, numbers)

    def measured(self, check: str, subject: str, said: str, numbers: Mapping[str, float]) -> None:
        """A row of numbers."""
        self.add(check, subject, Outcome.MEASURED, said, numbers)

    def attempt(self, check: str, subject: str, work: Callable[[], None], seconds: float = 0.0) -> bool:
        """Do `work` unless less than `seconds` are left; a failure is a row. Says whether it came to its end."""
        if self.left() < seconds:
            self.add(
                check, subject, Outcome.LEFT_OUT, f"{max(self.left(), 0):.0f} s are left, about {seconds:.0f} needed"
            )
            return False
        try:
            work()
        except Exception as error:
            log.exception("%s: %s", check, subject)
            first = str(error).strip().partition("\n")[0]
            self.add(check, subject, Outcome.FAILED, f"{type(error).__name__}: {first}")
            return False
        return True


def read(file: Path) -> list[Row]:
    """The rows of a section, in their order; none where there is no file."""
    if not file.exists():
        return []
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [Row(**{**line, "outcome": Outcome(line["outcome"])}) for line in lines]


def write(rows: Sequence[Row], where: Mapping[str, str], folder: Path) -> None:
    """`gpu.json` and `gpu.md`."""
    content = {"where": dict(where), "rows": [asdict(row) for row in rows]}
    (folder / "gpu.json").write_text(json.dumps(content, indent=1) + "\n")
    (folder / "gpu.md").write_text(as_markdown(rows, where))


def as_markdown(rows: Sequence[Row], where: Mapping[str, str]) -> str:
    """A table for each section, as docs/performance.md has it."""
    parts = [", ".join(f"{name} {value}" for name, value in where.items())]
    for section in dict.fromkeys(row.section for row in rows):
        cells = [[row.check, row.subject, row.outcome, row.said] for row in rows if row.section == section]
        cells = [[cell.replace("|", "\\|") for cell in line] for line in cells]
        parts.append(f"### {section}\n\n{markdown([['what', 'of', 'outcome', 'said'], *cells])}")
    return "\n\n".join(parts) + "\n"
