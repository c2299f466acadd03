"""Run one stage to its result: `run_stage` for the orchestrator, `python -m workers.run spec.json` without it."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from workers.activity import Activities
from workers.causes import Cause, cause_of
from workers.checkpoint import Progress
from workers.claims import Claim, Claimed, Holding
from workers.execution import Execution
from workers.host import Where
from workers.spec import Stage, decode_stage, label, path
from workers.store import Attempt, Damaged, Store

LOG_LINES = 20

log = logging.getLogger("prunesweep")


class StageFailed(RuntimeError):
    """A stage could not be finished; the store's `attempts/` say why, too, unless it cannot be written."""

    def __init__(self, cause: Cause, message: str) -> None:
        super().__init__(message)
        self.cause, self.message = cause, message


def run_stage(stage: Stage, store: Store, where: Where) -> Iterator[Progress]:
    """Bring a stage to its result in the store; yields its progress after every epoch.

    A stage that is done yields nothing, one with a checkpoint continues from it. Its parent must be done. Raises
    `Claimed` when another process computes it. On failure the reason and the last log lines are left in the store and
    `StageFailed` is raised.
    """
    if store.done([stage.key]):
        return
    attempt, activities = store.new_attempt(stage.key), Activities(where)
    mine = Claim.mine(attempt.name, where.run)
    with _last_lines() as lines:
        try:
            with Holding(store, stage.key, mine, where.gone, activities.look) as claim:
                if store.done([stage.key]):  # by whoever had the claim before
                    return
                _set_aside(stage.key, store)
                store.begin(stage, attempt)
                yield from Execution(stage, store, where, claim.require, activities.reached).epochs()
        except Claimed:
            raise
        except Exception as error:
            if isinstance(error, Damaged):
                _set_aside(error.key, store)
            cause, message = cause_of(error), f"{type(error).__name__}: {error}"
            trace = "".join(traceback.format_exception(error))
            _note(replace(attempt, cause=cause, message=message, traceback=trace, log=tuple(lines)), stage.key, store)
            raise StageFailed(cause, message) from error


def _set_aside(key: str, store: Store) -> None:
    for damaged in store.set_aside(key):
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
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("prunesweep")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)


def main() -> int:
    """`python -m workers.run spec.json`: run a stage, and first those that it needs, in this process."""
    parser = argparse.ArgumentParser(prog="python -m workers.run", description=main.__doc__)
    parser.add_argument("spec", type=Path, help="a stage's spec.json, as the store keeps it in stages/<key>/")
    parser.add_argument("--store", default="results", help="where results are kept (default: results)")
    parser.add_argument("--data-dir", default="data", help="where datasets are kept (default: data)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, ... (default: cuda if there is one)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--loaders", type=int, default=0, help="processes that decode image files (default: 0, none)")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    store = Store(options.store)
    where = Where(options.data_dir, options.device, options.threads, options.loaders, run=uuid4().hex[:12])
    try:
        store.require_writable()
        stage = decode_stage(json.loads(options.spec.read_text()))
        for each in path(stage):
            print(f"{each.key}  {label(each)}")
            list(run_stage(each, store, where))
    except (OSError, KeyError, TypeError, ValueError) as error:
        print(f"error: {options.spec}: {error}", file=sys.stderr)
        return 2
    except (StageFailed, Claimed) as error:
        print(f"error: {label(each)}: {error}", file=sys.stderr)
        return 1
    result = store.result(stage.key)
    assert result is not None
    print(json.dumps(result["metrics"], indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
