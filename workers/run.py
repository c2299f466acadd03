"""Run one stage to its result: `run_stage` for the orchestrator, `python -m prunesweep.workers.run FILE` without it.

A stage with replicas is one that as many processes run at the same time, all of them with `run_stage`.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from uuid import uuid4

import torch

from prunesweep.workers.activity import Activities
from prunesweep.workers.causes import Cause, cause_of, place_of
from prunesweep.workers.checkpoint import Progress
from prunesweep.workers.claims import Claim, Claimed, Holding
from prunesweep.workers.decoding import decode_stage
from prunesweep.workers.errors import ReplicaLost, UserError
from prunesweep.workers.evaluation import Evaluation
from prunesweep.workers.execution import Execution
from prunesweep.workers.host import Where
from prunesweep.workers.lineage import work
from prunesweep.workers.location import public
from prunesweep.workers.partial import Partial
from prunesweep.workers.replicas import ALONE, Replicas, launched, lost_another
from prunesweep.workers.spec import EvaluationStage, PartStage, Stage, label
from prunesweep.workers.store import RESULT, Attempt, Damaged, Store
from prunesweep.workers.trust import choices_of_stage, require_trusted
from prunesweep.workers.watchdog import Said, watchdog

LOG_LINES = 20

RUNS = "Run a stage, and first those that it needs, in this process; or as one of several that torchrun starts."

log = logging.getLogger("prunesweep")


class StageFailed(RuntimeError):
    """A stage could not be finished; the store's `attempts/` say why, too, unless it cannot be written."""

    def __init__(self, cause: Cause, message: str) -> None:
        super().__init__(message)
        self.cause, self.message = cause, message


@dataclass(frozen=True)
class Failure:
    """Why a stage could not be finished, as it is noted."""

    cause: Cause
    message: str
    traceback: str

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """As this process has met it; an error in code of one's own is said with its file and line."""
        trace = public("".join(traceback.format_exception(error)))
        cause, place = cause_of(error), place_of(error)
        where = f" ({place})" if cause is Cause.USER_CODE and place else ""
        name = "" if isinstance(error, UserError) else f"{type(error).__name__}: "  # our sentences need no class
        return cls(cause, f"{name}{public(str(error))}{where}", trace)


def run_stage(stage: Stage, store: Store, where: Where, replicas: Replicas = ALONE) -> Iterator[Progress]:
    """Bring a stage to its result in the store; yields its progress after every epoch.

    A stage that is done yields nothing, one with a checkpoint continues from it. Its parent must be done. Raises
    `Claimed` when another process computes it. On failure the reason and the last log lines are left in the store and
    `StageFailed` is raised. Of several replicas one leads and does all this; the others do as they are told.
    """
    if not replicas.leads:
        if replicas.agreed(bool):
            yield from _follow(stage, store, where, replicas)
        return
    contents = store.contents(stage.key)
    if RESULT in contents and store.done([stage.key]):
        replicas.agreed(lambda: False)
        return
    if store.set_link_aside("stages", stage.key):
        contents = frozenset()
    attempt, activities = store.new_attempt(stage.key, where.run, contents), Activities(where)
    mine = Claim.mine(attempt.name, where.run)
    with _last_lines() as lines:
        try:
            with (
                Holding(store, stage.key, mine, where.gone, activities.look, contents) as claim,
                watchdog().watching(
                    _Watched(store, stage.key, attempt, where.stall_limit, lines, activities, claim).look
                ),
            ):
                if claim.numbers:
                    contents = store.contents(stage.key)  # as who had the claim before has left it
                if RESULT in contents:
                    if store.done([stage.key]):
                        replicas.agreed(lambda: False)
                        return
                    _set_aside(stage.key, store)
                store.begin(stage, attempt)
                replicas.agreed(lambda: True)
                hear = activities.reached, activities.drawn
                yield from _kind(stage)(stage, store, where, claim.require, *hear, replicas, contents).epochs()
        except Claimed:
            raise
        except Exception as error:
            if isinstance(error, Damaged):
                _set_aside(error.key, store, refused=error.refused)
            failure = _explained(error, replicas)
            _note(replace(attempt, **asdict(failure), log=tuple(lines)), stage.key, store)
            replicas.heard()
            raise StageFailed(failure.cause, failure.message) from error


@dataclass(frozen=True)
class _Watched:
    """A stage that runs, as its watchdog is told of it."""

    store: Store
    key: str
    attempt: Attempt
    limit: float
    lines: deque[str]
    activities: Activities
    claim: Holding

    def look(self) -> Said:
        """The state of things now; by a thread of the watchdog's."""
        quiet, stack = self.activities.quiet()
        return {
            "store": self.store.location.reveal(),
            "key": self.key,
            "attempt": asdict(self.attempt),
            "claim": asdict(self.claim.claim),
            "number": self.claim.number,
            "limit": self.limit,
            "quiet": quiet,
            "stack": stack,
            "thread": self.activities.thread,
            "log": tuple(self.lines),
        }


def _explained(error: Exception, replicas: Replicas) -> Failure:
    """Where another replica is gone, why: it has left its reason, or could not."""
    if replicas.count == 1 or not lost_another(error):
        return Failure.of(error)
    reason = replicas.reason()
    if reason is not None:
        return Failure(Cause(reason["cause"]), reason["message"], reason["traceback"])
    lost = ReplicaLost(f"one of {replicas.count} replicas was killed, or crashed")
    lost.__cause__ = error
    return Failure.of(lost)


def _follow(stage: Stage, store: Store, where: Where, replicas: Replicas) -> Iterator[Progress]:
    """A replica's part that does not lead; its own reason to fail is left for the one that does."""
    try:
        yield from _kind(stage)(stage, store, where, _nothing, _nothing, _nothing, replicas).epochs()
    except Exception as error:
        failure = Failure.of(error)
        traceback.clear_frames(error.__traceback__)  # they hold the connections, by whose end the others notice
        gc.collect()
        if not lost_another(error):
            replicas.explain(asdict(failure))
        raise StageFailed(failure.cause, failure.message) from error


def _nothing(*_: object) -> None:
    """Claims, and what the stage does, are the leading replica's."""


def _set_aside(key: str, store: Store, *, refused: bool = False) -> None:
    for damaged in store.set_aside(key, refused=refused):
        log.warning("%s is missing or damaged; what is left of it is set aside, and the stage computed again", damaged)


def _note(failure: Attempt, key: str, store: Store) -> None:
    """The failure itself matters more than that it cannot be noted, on a full disk or without the store."""
    try:
        store.fail(key, failure)
    except OSError as error:
        log.warning("why %s failed could not be noted: %s", key, error)


@contextmanager
def _last_lines() -> Iterator[deque[str]]:
    """The last lines logged while a stage runs."""
    lines: deque[str] = deque(maxlen=LOG_LINES)
    handler = logging.Handler(logging.INFO)
    handler.emit = lambda record: lines.append(public(record.getMessage()))  # type: ignore[method-assign]
    logger = logging.getLogger("prunesweep")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)


def main() -> int:
    """`python -m prunesweep.workers.run spec.json`: run a stage, and first those that it needs, in this process.

    Started by torchrun, in all of its processes together.
    """
    options = _options()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        stage = _read_stage(options.spec)
        require_trusted(choices_of_stage(stage), "it", options.allow, "run the sweep's file")
        store = Store(options.store)
        where = Where(options.data_dir, _device(options.device), options.threads, options.loaders, run=uuid4().hex[:12])
        with launched(where.torch_device) as replicas:
            if replicas.leads:
                store.require_writable()
            else:
                log.setLevel(logging.ERROR)
            for step in work(stage):
                if replicas.leads:
                    print(f"{step.key}  {label(step)}")
                list(run_stage(step, store, where, replicas))
    except (OSError, ValueError) as error:
        print(f"error: {public(str(error))}", file=sys.stderr)
        return 2
    except (StageFailed, Claimed) as error:
        print(f"error: {label(step)}: {public(str(error))}", file=sys.stderr)
        return 1
    if replicas.leads:
        result = store.result(stage.key)
        assert result is not None
        print(json.dumps(result["metrics"], indent=1))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m prunesweep.workers.run", description=RUNS)
    parser.add_argument("spec", type=Path, help="a stage's spec.json, as the store keeps it in stages/<key>/")
    parser.add_argument("--store", default="results", help="where results are kept (default: results)")
    parser.add_argument("--data-dir", default="data", help="where datasets are kept (default: data)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, ... (default: cuda if there is one)")
    parser.add_argument("--threads", type=_at_least(1), default=1, help="CPU threads (default: 1)")
    parser.add_argument("--loaders", type=_at_least(0), default=0, help="processes that decode images (default: 0)")
    parser.add_argument("--allow", action="append", default=[], metavar="MODULE", help="not of this folder, to import")
    return parser.parse_args()


def _at_least(least: int) -> Callable[[str], int]:
    """What argparse makes of an argument: a whole number, not below `least`."""

    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f'"{text}" is not a whole number of {least} or more')
        return int(text)

    return number


def _read_stage(spec: Path) -> Stage:
    try:
        return decode_stage(json.loads(spec.read_text()))
    except OSError as error:
        raise UserError(f"{spec} cannot be read: {error.strerror}") from error
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise UserError(f"{spec} is no stage's spec.json: {error}") from error


def _device(asked: str) -> str:
    """The GPU of this process where torchrun has started one for each; raises `UserError` where there is none."""
    if asked.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"--device {asked}: torch finds no GPU on this machine")
    own = os.environ.get("LOCAL_RANK")
    on_gpu = own is not None and asked in ("auto", "cuda") and Where(device=asked).torch_device.type == "cuda"
    return f"cuda:{own}" if on_gpu else asked


def _kind(stage: Stage) -> type[Execution]:
    if isinstance(stage, PartStage):
        return Partial
    return Evaluation if isinstance(stage, EvaluationStage) else Execution


if __name__ == "__main__":
    sys.exit(main())
