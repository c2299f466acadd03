"""Verbs of the command in a process that strace watches: which programs it starts, what it opens, whom it calls."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

STRACE = shutil.which("strace")

MARK = "/watched-call-"
"""A file of this name and a number is asked for before each call, so that the trace says which call does what."""

COMMAND = """\
import json, os, sys
from pathlib import Path
from prunesweep.orchestrator.cli.main import main
calls, answers = json.loads(Path(sys.argv[1]).read_text()), []
where = list(sys.path)
for number, call in enumerate(calls):
    try:
        os.close(os.open(f"{mark}{{number}}", os.O_RDONLY))
    except FileNotFoundError:
        pass
    sys.argv, sys.path[:] = ["prunesweep", *call], where
    try:
        main()
        answers.append(0)
    except SystemExit as ended:
        answers.append(ended.code or 0)
    Path({answers!r}).write_text(json.dumps(answers))
"""

CALLS = "execve,execveat,open,openat,openat2,creat,connect,bind,unlink,unlinkat,rename,renameat,renameat2,mkdir,mkdirat"
CALLS += ",rmdir,link,linkat,symlink,symlinkat,truncate,chmod,fchmodat,mknod,mknodat"

_LINE = re.compile(r"^\d+ +(?P<call>\w+)\((?P<arguments>.*?)\)? +(?:= (?P<value>-?\d+|\?)|<unfinished)", re.DOTALL)
_TEXT = re.compile(r'(?:AT_FDCWD|\d+)?(?:<(?P<folder>[^>]*)>)?(?:, )?"(?P<text>(?:[^"\\]|\\.)*)"')


class Act(NamedTuple):
    """What was done: a system call, its path or its address; `writes` where it changes a file or folder."""

    call: str
    what: str
    writes: bool


class Seen(NamedTuple):
    code: int
    acts: Sequence[Act]


def watched(
    calls: Sequence[Sequence[str]], folder: Path, environment: Mapping[str, str], out: Path, seconds: float
) -> list[Seen]:
    """What each call did, in its order, all in one process that is started in `folder`."""
    trace, listed, answers = out / "trace", out / "calls.json", out / "answers.json"
    listed.write_text(json.dumps(calls))
    program = COMMAND.format(mark=MARK, answers=str(answers))
    strace = [str(STRACE), "--seccomp-bpf", "-f", "-y", "-s", "4096", "-e", f"trace={CALLS}", "-o", str(trace)]
    with (out / "out").open("w") as stdout, (out / "err").open("w") as stderr:
        subprocess.run(
            [*strace, sys.executable, "-P", "-c", program, str(listed)],
            cwd=folder,
            env={**os.environ, **environment},
            stdout=stdout,
            stderr=stderr,
            timeout=seconds,
            check=False,
        )
    parts = re.split(rf"^.*{MARK}\d+.*\n", trace.read_text(errors="replace"), flags=re.MULTILINE)
    codes = json.loads(answers.read_text())
    assert len(codes) == len(calls) == len(parts) - 1, (out / "err").read_text()[-3000:]
    return [Seen(code, list(_acts(part, folder))) for code, part in zip(codes, parts[1:], strict=True)]


def _acts(trace: str, folder: Path) -> Iterator[Act]:
    for line in trace.splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        call, arguments = match["call"], match["arguments"]
        if call in ("connect", "bind"):
            yield Act(call, arguments, False)
            continue
        for text in _TEXT.finditer(arguments):
            path = os.path.normpath(folder / (text["folder"] or "") / text["text"])
            yield Act(call, path, _writes(call, arguments))


def _writes(call: str, arguments: str) -> bool:
    if call in ("execve", "execveat"):
        return False
    return not call.startswith("open") or any(flag in arguments for flag in ("O_WRONLY", "O_RDWR", "O_CREAT"))
