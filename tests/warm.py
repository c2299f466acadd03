"""A command in a process of its own that need not load its libraries, for it is forked from one that has.

Loading them is most of what a verb costs: of 0.8 s of a processor a half, and with torch nine tenths of 3 s. Our own
modules are loaded anew. A test of what a command loads, or one that sends it signals, starts it as a program instead.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

ROOT = Path(__file__).parent.parent

LIBRARIES = (
    *("matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg", "matplotlib.figure", "pandas", "plotly.io"),
    *("multiprocessing.popen_forkserver", "pyarrow.dataset", "pyarrow.parquet", "pydantic", "pytest", "rich.console"),
    *("ray.job_submission", "ruamel.yaml", "scipy.stats", "sklearn.datasets", "torch", "torchvision.transforms.v2"),
    *("typer",),
)

FORKS = get_context("forkserver")
FORKS.set_forkserver_preload(list(LIBRARIES))


class Answer(NamedTuple):
    code: int
    out: str
    err: str


NEED_RAY = {"run", "resume", "doctor"}
"""Verbs that start it, each as a program of its own."""


def answer(arguments: Sequence[str], folder: Path, environment: Mapping[str, str], seconds: float) -> Answer:
    """Run `prunesweep` to its end, in a folder and with exactly this environment."""
    return _forked(_command, ["prunesweep", *arguments], folder, environment, seconds)


def python(arguments: Sequence[str], folder: Path, environment: Mapping[str, str], seconds: float) -> Answer:
    """Run `python FILE` or `python -m MODULE` to its end in the same way."""
    return _forked(_program, arguments, folder, environment, seconds)


def _forked(
    does: Callable[[], None], arguments: Sequence[str], folder: Path, environment: Mapping[str, str], seconds: float
) -> Answer:
    with TemporaryDirectory() as made:
        streams = [Path(made) / name for name in ("out", "err")]
        process = FORKS.Process(target=_in_place, args=(does, list(arguments), folder, dict(environment), streams))
        process.start()
        process.join(seconds)
        assert process.exitcode is not None, f"{' '.join(arguments)} takes more than {seconds} s"
        return Answer(process.exitcode, *(stream.read_text() for stream in streams))


def _in_place(
    does: Callable[[], None], arguments: list[str], folder: Path, environment: dict[str, str], streams: list[Path]
) -> None:
    sys.stdout, sys.stderr = (stream.open("w") for stream in streams)
    for number, stream in enumerate((sys.stdout, sys.stderr), start=1):
        os.dup2(stream.fileno(), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:] = [place for place in sys.path if place and Path(place) not in (ROOT, ROOT / "docs/examples")]
    sys.path.append(str(ROOT))  # as an editable install has it: after everything else
    sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    sys.argv = arguments
    does()


def _command() -> None:
    from prunesweep.orchestrator.cli.main import main

    main()


def _program() -> None:
    sys.path.insert(0, str(Path.cwd()))
    if sys.argv[0] == "-m":
        module, sys.argv = sys.argv[1], sys.argv[1:]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")
