from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from prunesweep.orchestrator.cli.exit_codes import WRONG
from tests import warm
from tests.warm import NEED_RAY, Answer

COMMAND = Path(sys.executable).parent / "prunesweep"

SWEEP = """\
name: {name}
dataset: digits
model: resnet8
seeds: {seeds}
train: {{epochs: 6, batch_size: 64, lr: 0.1, warmup_epochs: 1}}
trials:
  - method: imp
    sparsity: [0.5, 0.9]
    retrain_epochs: [1, 2]
  - method: imp
    phase_fraction: 0.5
    phases: 2
    phase_epochs: 1
  - method: gmp
    sparsity: 0.9
"""
"""Seven trials a seed on seven stages: one dense, four one-shot, a second phase, one GMP; the first phase is also
one of the one-shot trials. About two seconds of work."""


class Cli:
    """The real command in a folder of its own, as a user runs it."""

    def __init__(self, folder: Path, command: Path = COMMAND, **environment: str) -> None:
        self.folder, self.command = folder, command
        self.environment = {"COLUMNS": "160", **environment}

    def write(self, text: str, file: str = "sweep.yaml") -> str:
        (self.folder / file).write_text(text)
        return file

    def sweep(self, seeds: int | str = 2, name: str = "small") -> str:
        return self.write(SWEEP.format(seeds=seeds, name=name))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.command, *arguments],
            cwd=self.folder,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, **self.environment},
        )

    def __call__(self, *arguments: str, code: int = 0, ray: bool = True) -> str:
        """Run to the end; returns what was printed, errors after output. What is refused here starts no Ray."""
        ray = ray and (code != WRONG or "--address" in arguments)
        answer = self.ask(*arguments, seconds=180, ray=ray)
        assert ray or "starting Ray" not in answer.out
        assert answer.code == code, f"exit code {answer.code}\n{answer.out}\n{answer.err}"
        assert "Traceback" not in answer.err
        return answer.out + answer.err

    def run_here(self, file: str, code: int = 0) -> None:
        """What comes of `run`, at a tenth of its price: all stages in one process, without Ray, which says nothing."""
        words = ["-m", "tests.in_process", file, "results"]
        answer = warm.python(words, self.folder, {**os.environ, **self.environment}, 180)
        assert answer.code == code, answer.err

    def ask(self, *arguments: str, seconds: float = 60, ray: bool = True) -> Answer:
        """Run to the end, whatever comes of it; a verb that starts no Ray does not load its libraries anew."""
        if self.command == COMMAND and not (ray and {*arguments} & NEED_RAY):
            return warm.answer(arguments, self.folder, {**os.environ, **self.environment}, seconds)
        process = self.start(*arguments)
        out, err = process.communicate(timeout=seconds)
        return Answer(process.returncode, out, err)

    def json(self, *arguments: str) -> Any:
        """What `--json` prints on stdout, with nothing on stderr."""
        answer = self.ask(*arguments, "--json")
        assert (answer.code, answer.err) == (0, "")
        return json.loads(answer.out)

    def results(self) -> int:
        """How many stages of the store have a result."""
        return len(list((self.folder / "results" / "stages").glob("*/result.json")))

    def wait_for(self, condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 90) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "waited too long"
            time.sleep(0.02)


def descendants(pid: int, program: str) -> Sequence[int]:
    """Processes that a command started, at any depth, whose command line begins with a program of that name.

    Ray names its busy workers `ray::ResourceTrainable...`.
    """
    table = subprocess.run(["ps", "-ewwo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in table.splitlines()]
    family = {pid}
    for _ in range(4):
        family |= {int(p) for p, parent, _ in rows if int(parent) in family}
    return [
        int(p) for p, _, args in rows if int(p) in family and args.split()[0].rpartition("/")[2].startswith(program)
    ]


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)
