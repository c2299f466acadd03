"""What this process may use of the machine."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CODE = "from prunesweep.workers.host import usable_cores; print(usable_cores())"
ALLOWED = sorted(os.sched_getaffinity(0))


def cores(cpus: list[int], slurm: str | None = None) -> int:
    """As a process sees them that may run on these."""
    environment = {name: value for name, value in os.environ.items() if name != "SLURM_CPUS_PER_TASK"}
    environment |= {"SLURM_CPUS_PER_TASK": slurm} if slurm is not None else {}
    command = ["taskset", "-c", ",".join(map(str, cpus)), sys.executable, "-c", CODE]
    return int(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(len(ALLOWED) < 2, reason="one core")
def test_the_cores_are_those_that_this_process_may_use():
    assert cores(ALLOWED[:1]) == 1
    assert cores(ALLOWED[:2]) <= 2
    assert cores(ALLOWED, slurm="1") == 1
    assert cores(ALLOWED, slurm="") == cores(ALLOWED)
    assert cores(ALLOWED[:1], slurm="64") == 1
