"""How torture calls `prunesweep run`: as this user or as two, with this code or another version's, here or as a job."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.head import Head
from tests.orchestrator.conftest import COMMAND

GROUP = 21000
USERS = 21001, 21002
"""Numbers that have no name on most machines; none is needed."""

RIGHTS = "+dac_read_search"
"""They may read what only root may: this clone and its Python may lie in root's home."""

JOB = 'prunesweep submit "$2" --store "$4" && exec prunesweep logs "$5" --follow'
"""With `run FILE --store PLACE NAME` as its arguments."""


class Way(NamedTuple):
    """What stands before `run FILE --store PLACE`, and in the environment."""

    name: str
    command: Sequence[str | Path] = (COMMAND,)
    environment: Mapping[str, str] = {}
    job: bool = False
    shared: bool = False


def users(folder: Path) -> list[Way]:
    """Two users of one group, who may look into the folder; raises `PermissionError` unless this process is root's."""
    if os.getuid() != 0:
        raise PermissionError("only root may run something as another user")
    ways = []
    folder.chmod(0o755)
    for user in USERS:
        home = folder / f"home-{user}"
        home.mkdir(parents=True, exist_ok=True)
        os.chown(home, user, user)
        who = ["--reuid", str(user), "--regid", str(user), "--groups", str(GROUP)]
        command = ["setpriv", *who, "--inh-caps", RIGHTS, "--ambient-caps", RIGHTS, COMMAND]
        ways.append(Way(f"user {user}", command, {"HOME": str(home)}, shared=True))
    return ways


def share(store: Path) -> None:
    """Make a folder that all of the group may write into."""
    store.mkdir(parents=True, exist_ok=True)
    os.chown(store, 0, GROUP)
    store.chmod(0o2775)


def forget_users() -> None:
    """Remove what their Rays leave behind."""
    for user in USERS:
        shutil.rmtree(f"/tmp/ray-{user}", ignore_errors=True)


def version(commit: str, folder: Path) -> Callable[[Way], Way]:
    """Makes of a way the same with the code of another commit, which is unpacked into the folder."""
    code = folder / "code"
    code.mkdir(parents=True, exist_ok=True)
    archive = subprocess.run(
        ["git", "archive", commit], cwd=Path(__file__).parent, capture_output=True, check=True
    ).stdout
    subprocess.run(["tar", "-x", "-C", code], input=archive, check=True)

    def changed(way: Way) -> Way:
        start = [sys.executable, "-m", "prunesweep.orchestrator.cli.start"]
        return Way(
            f"{way.name} with {commit}",
            [word for part in way.command for word in (start if part == COMMAND else [part])],
            {**way.environment, "PYTHONPATH": str(code)},
            shared=way.shared,
        )

    return changed


@contextmanager
def jobs(environment: Mapping[str, str]) -> Iterator[Way]:
    """As a job of a cluster on this machine, whose processes have this environment."""
    with Head(environment=environment) as head:
        told = head.cli(head.folder).environment
        path = {"PATH": f"{COMMAND.parent}{os.pathsep}{os.environ['PATH']}"}
        yield Way("job", ["sh", "-c", JOB, "sh"], {**told, **path}, job=True)
