"""Hostile and unlucky environments in which a run simply works; `test_runs.py` has those that are refused."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.orchestrator.conftest import COMMAND

SWEEP = """\
name: small
dataset: digits
model: [lenet300, 'größe:Netz']
train: {epochs: 1}
trials: [{method: dense}]
"""

NET = """\
import torch


class Netz(torch.nn.Sequential):
    def __init__(self, *, classes):
        super().__init__(torch.nn.Flatten(), torch.nn.Linear(64, classes))  # für Übungen
"""

MOUNTED = 'mount -t tmpfs -o size=64m tmpfs /dev/shm && exec "$@"'
LITTLE_SHARED_MEMORY = ["unshare", "--mount", "sh", "-c", MOUNTED, "sh"]
FEW_FILES = ["prlimit", "--nofile=256:256"]
OPTIMIZED = [sys.executable, "-O", "-m", "prunesweep.orchestrator.cli.start"]
NOWHERE = "127.0.0.1:9"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "command", "environment"),
    [
        pytest.param(LITTLE_SHARED_MEMORY, [COMMAND], {}, id="64 MB of /dev/shm"),
        pytest.param(FEW_FILES, [COMMAND], {}, id="256 open files"),
        pytest.param([], OPTIMIZED, {}, id="python -O"),
        pytest.param([], [COMMAND], {"LC_ALL": "C"}, id="LC_ALL=C"),
        pytest.param([], [COMMAND], {"RAY_ADDRESS": NOWHERE}, id="RAY_ADDRESS of a dead cluster"),
        pytest.param(
            [], [COMMAND], {"http_proxy": f"http://{NOWHERE}", "HTTPS_PROXY": f"http://{NOWHERE}"}, id="http_proxy"
        ),
    ],
)
def test_a_sweep_runs(before: Sequence[str], command: Sequence[str], environment: Mapping[str, str], tmp_path: Path):
    folder = tmp_path / "Übung"
    folder.mkdir()
    (folder / "größe.py").write_text(NET, encoding="utf-8")
    (folder / "sweep.yaml").write_text(SWEEP, encoding="utf-8")
    if before and subprocess.run([*before, "true"], capture_output=True, check=False).returncode:
        pytest.skip("that is not permitted here")
    done = subprocess.run(
        [*before, *command, "run", "sweep.yaml"],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        check=False,
        timeout=900,
    )
    said = (done.stdout + done.stderr).decode(errors="replace")
    assert done.returncode == 0, said
    assert "2 of 2 trials done" in said
    assert "Traceback" not in said
