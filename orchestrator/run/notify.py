"""What a chat, or another program, is told when a run has ended: one POST of JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import typer

from prunesweep.orchestrator.plan import Plan
from prunesweep.orchestrator.run.deadlines import within
from prunesweep.orchestrator.run.stopping import INTERRUPTED
from prunesweep.orchestrator.sweep import Sweep
from prunesweep.orchestrator.text import counted, duration
from prunesweep.workers.errors import UserError
from prunesweep.workers.location import Location, public
from prunesweep.workers.store import Store

if TYPE_CHECKING:
    from urllib.request import Request

SECONDS = 10.0
"""So long an answer is waited for, and each further part of it."""

LIMIT = 30.0
"""So long all tries together may take: a run must not be held by who answers a word at a time."""

PAUSES = (1.0, 3.0)
"""Before the second and the third try."""

TOO_MANY = 429
"""What a server answers that wants to be asked later."""

DONE, FAILED, STOPPED, ERROR = "done", "failed", "interrupted", "error"


def require_web(hook: Location) -> None:
    """Raise `UserError` unless a URL is one of the web. It is not repeated: who knows it can write into the chat."""
    url = hook.reveal()
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        known = False
    if not known or not url.isascii() or not url.isprintable() or " " in url:
        raise UserError("--notify, or PRUNESWEEP_NOTIFY, is not the http:// or https:// URL of a web hook")


@dataclass
class News:
    """What is known of a run when it ends; the plan is None until it is made. It has `failed` where trials lack."""

    plan: Plan | None = None
    failed: bool = False


@contextmanager
def told(hook: Location | None, sweep: Sweep, store: Store, say: Callable[[str], None]) -> Iterator[News]:
    """Around a run of a sweep: tells how it ended, when there is a web hook. What goes wrong with that is only said."""
    begun, outcome, why, news = time.monotonic(), DONE, "", News()
    try:
        yield news
        outcome = FAILED if news.failed else DONE
    except typer.Exit as ended:
        outcome = STOPPED if ended.exit_code == INTERRUPTED else FAILED
        raise
    except KeyboardInterrupt:
        outcome = STOPPED
        raise
    except BaseException as error:
        outcome, why = ERROR, f"{type(error).__name__}: {error}"
        raise
    finally:
        if hook:
            plan = news.plan and _as_it_stands(news.plan, store)
            problem = post(hook, message(sweep, store, plan, outcome, time.monotonic() - begun, why))
            if problem:
                say(f"the web hook at {hook} was not told that the run has ended: {problem}")


def message(
    sweep: Sweep, store: Store, plan: Plan | None, outcome: str, seconds: float, why: str = ""
) -> dict[str, Any]:
    """What is told; the numbers of trials are None without a plan. `content` is what Discord reads."""
    counts = plan and plan.counts
    place, why = str(store.location), public(why)
    more = f"prunesweep {'results' if outcome == DONE else 'status'} {sweep.name} --store {place}"
    text = f"{sweep.name}: {_ended(outcome, why)} after {duration(seconds)}; {_trials(plan)}. {more}"
    return {
        "text": text,
        "content": text,
        "sweep": sweep.name,
        "store": place,
        "outcome": outcome,
        "trials": len(sweep.trials),
        "done": counts and counts.done,
        "failed": counts and counts.failed,
        "blocked": counts and counts.blocked,
        "seconds": round(seconds, 1),
        "command": f"prunesweep results {sweep.name} --store {place}",
    }


def _as_it_stands(plan: Plan, store: Store) -> Plan | None:
    """None where the store cannot be read."""
    try:
        return plan.refreshed(store)
    except OSError:
        return None


def _ended(outcome: str, why: str) -> str:
    said = {DONE: "done", FAILED: "ended with failures", STOPPED: "interrupted"}
    return said.get(outcome) or f"stopped by an error ({why[:300]})"


def _trials(plan: Plan | None) -> str:
    if plan is None:
        return "the store cannot be read"
    counts = plan.counts
    more = {"failed": counts.failed, "blocked": counts.blocked}
    rest = "".join(f", {number:,} {state}" for state, number in more.items() if number)
    return f"{counts.done:,} of {counted(counts.trials, 'trial')} done{rest}"


def post(hook: Location, content: dict[str, Any]) -> str | None:
    """Send JSON; returns why it could not be sent, None when it was.

    Who answers that it does not want this is not asked again; who has a fault, or does not answer, is asked twice more.
    """
    try:
        return within(LIMIT, lambda: _posted(hook, content))
    except TimeoutError:
        return f"it has not answered within {LIMIT:.0f} s"


def _posted(hook: Location, content: dict[str, Any]) -> str | None:
    from urllib.request import Request  # half as long to import as all that `plan` needs

    data = json.dumps(content).encode()
    request = Request(hook.reveal(), data, {"Content-Type": "application/json", "User-Agent": "prunesweep"})
    problem, passing = _try(request)
    for pause in PAUSES:
        if not passing:
            break
        time.sleep(pause)
        problem, passing = _try(request)
    return problem


def _try(request: Request) -> tuple[str | None, bool]:
    """What is wrong, if anything, and whether it may pass."""
    from http.client import HTTPException, InvalidURL
    from urllib.error import HTTPError
    from urllib.request import HTTPRedirectHandler, build_opener

    class Staying(HTTPRedirectHandler):
        """What is told is for the place that was named, and for no other to which that leads."""

        def redirect_request(self, *_: Any) -> None:
            return None

    try:
        with build_opener(Staying).open(request, timeout=SECONDS):
            return None, False
    except HTTPError as error:
        return f"it answers {error.code} {error.reason}", error.code >= 500 or error.code == TOO_MANY
    except InvalidURL:  # its text may hold the password of a proxy
        return "the URL, or that of a proxy, is not one of the web", False
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        return getattr(reason, "strerror", None) or str(reason) or type(error).__name__, True
