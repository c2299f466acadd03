"""The dashboard of a Ray cluster: reaching it, what goes wrong with it in a sentence, and the jobs of sweeps there."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from prunesweep.orchestrator.run.deadlines import within
from prunesweep.orchestrator.run.ray_internals import CHATTY_LOGGERS, JobRequests, authenticate_with_token
from prunesweep.orchestrator.run.stopping import INTERRUPTED
from prunesweep.orchestrator.sweep import NAME
from prunesweep.orchestrator.text import duration
from prunesweep.workers.errors import UserError, nearest
from prunesweep.workers.location import Location

CONNECT_SECONDS, ANSWER_SECONDS, UPLOAD_SECONDS = 4.0, 5.0, 120.0

PREFIX = "prunesweep-"
_ID = re.compile(rf"{PREFIX}{NAME}-\d+")

OK = 200

NOT_FOUND = 127
"""The exit code of a shell that does not know the command."""


class Unreachable(UserError):
    """The cluster does not answer, now."""


class RequestRefused(UserError):
    """The cluster has answered with an error."""


class Dashboard(JobRequests, JobSubmissionClient):
    """Ray's client, which would wait for ever for what does not answer."""

    @property
    def place(self) -> Location:
        """Its address, to be printed."""
        return Location(self.get_address())

    def request(self, method: str, endpoint: str, **options: Any) -> Any:
        answer = UPLOAD_SECONDS if method in ("PUT", "POST") else ANSWER_SECONDS
        limits = (CONNECT_SECONDS, answer)
        try:
            return within(UPLOAD_SECONDS, lambda: self.send(method, endpoint, timeout=limits, **options))
        except AuthenticationError as error:
            raise UserError(_token(self.place)) from error
        except OSError as error:
            raise Unreachable(_no_answer(self.place, _reason(error))) from error

    def refused(self, answer: Any) -> None:
        last = (answer.text.strip().splitlines() or ["nothing"])[-1]
        raise RequestRefused(f"the cluster at {self.place} answers {answer.status_code}: {last[:300]}")

    def stop_job(self, job_id: str) -> bool:
        """Ask a job to stop; whether it could be asked."""
        with _understood(self.place):
            return bool(super().stop_job(job_id))

    def get_job_logs(self, job_id: str) -> str:
        """What a job has written so far."""
        with _understood(self.place):
            return "".join(super().get_job_logs(job_id))  # of a list of anything else this raises


def connect(address: Location) -> Dashboard:
    """The cluster whose dashboard is at a URL; raises `UserError` within ten seconds when there is none."""
    url = address if address.is_url else Location(f"http://{address.reveal()}")
    if not re.match(r"https?://[^/:]", url.reveal()):
        raise UserError(
            f'--address: "{address if address.is_url else url}" is not allowed: the URL of a dashboard, such as http://head:8265'
        )
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):  # Ray would heed these instead of the address it is given
        os.environ.pop(name, None)
    for name in CHATTY_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        authenticate_with_token()
        with _understood(url):
            return within(CONNECT_SECONDS + ANSWER_SECONDS, lambda: Dashboard(url.reveal()))
    except AuthenticationError as error:
        raise UserError(_token(url)) from error
    except TimeoutError as error:
        raise Unreachable(_no_answer(url, _reason(error))) from error


@contextmanager
def _understood(url: Location) -> Iterator[None]:
    """Inside it an answer that is none of a dashboard's is a `UserError`."""
    try:
        yield
    except (UserError, AuthenticationError, TimeoutError):
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError) as error:
        raise UserError(_no_answer(url, "what answers there is no dashboard of Ray")) from error


def _no_answer(url: Location, why: str) -> str:
    return (
        f"no Ray dashboard answers at {url} ({why}): the address begins with http://, its port is 8265 unless the head "
        "was started with another, and a firewall must let it through, or a tunnel: ssh -L 8265:localhost:8265 HEAD"
    )


def _token(url: Location) -> str:
    wanted = "another token than this" if os.environ.get("RAY_AUTH_MODE") == "token" else "a token"
    return (
        f"the cluster at {url} wants {wanted}: `ray get-auth-token` prints it on the head; put it into RAY_AUTH_TOKEN, "
        "or into a file that RAY_AUTH_TOKEN_PATH names, and set RAY_AUTH_MODE=token"
    )


def _reason(error: OSError) -> str:
    """What requests and urllib3 say, without all that they say around it."""
    known = ("timed out", "refused", "unreachable", "not known", "resolve", "certificate", "not a valid")
    return next((words for words in known if words in str(error).lower()), type(error).__name__)


def nodes(cluster: Dashboard) -> list[dict[str, float]]:
    """What each node of the cluster has."""
    answer = cluster.request("GET", "/nodes?view=summary")
    if answer.status_code != OK:
        cluster.refused(answer)
    with _understood(cluster.place):
        raylets = (node["raylet"] for node in answer.json()["data"]["summary"])
        totals = [raylet["resourcesTotal"].items() for raylet in raylets if raylet.get("state") == "ALIVE"]
        return [{name: float(amount) for name, amount in total} for total in totals]


# --- jobs


@dataclass(frozen=True)
class Job:
    """An attempt at a sweep; `state` is Ray's, in small letters; `request` tells what was asked for from another."""

    id: str
    sweep: str
    attempt: int
    state: str
    store: str | None
    submitted: datetime | None
    ended: datetime | None
    exit_code: int | None
    message: str
    request: str | None

    @property
    def active(self) -> bool:
        return self.state in ("pending", "running")

    @property
    def code(self) -> int:
        """With which `run` would have ended."""
        if self.state == "stopped":
            return INTERRUPTED
        return 0 if self.state == "succeeded" else self.exit_code if self.exit_code in (2, INTERRUPTED) else 1

    def __str__(self) -> str:
        since = f", submitted {self.submitted.astimezone():%Y-%m-%d %H:%M}" if self.submitted else ""
        took = (self.ended - self.submitted).total_seconds() if self.submitted and self.ended else None
        after = f", ended after {duration(took)}" if took is not None else ""
        return f"{self.id}  {self.state}{since}{after}, store {self.store}{self._why}"

    @property
    def _why(self) -> str:
        """Where the log does not say it: Ray has a message for every job."""
        if self.exit_code == NOT_FOUND:
            return ": the head does not know the command; activate its environment there before `ray start`"
        return f": {self.message}" if self.state == "failed" and self.exit_code is None else ""


def jobs(cluster: Dashboard) -> list[Job]:
    """The jobs of sweeps that the cluster remembers, by sweep and attempt."""
    with _understood(cluster.place):
        remembered = [_job(details) for details in cluster.list_jobs() if _ID.fullmatch(details.submission_id or "")]
    return sorted(remembered, key=lambda job: (job.sweep, job.attempt))


def _job(details: Any) -> Job:
    sweep, _, attempt = details.submission_id.removeprefix(PREFIX).rpartition("-")
    noted, message = details.metadata or {}, (details.message or "").strip().splitlines()
    return Job(
        id=details.submission_id,
        sweep=sweep,
        attempt=int(attempt),
        state=details.status.value.lower(),
        store=noted.get("store"),
        submitted=_time(details.start_time),
        ended=_time(details.end_time),
        exit_code=details.driver_exit_code,
        message=message[-1][:300] if message else "",
        request=noted.get("request"),
    )


def _time(milliseconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None


def require(cluster: Dashboard, name: str) -> Job:
    """The last job of a sweep, or the job of that id; a `UserError` lists what there is."""
    remembered = jobs(cluster)
    mine = [job for job in remembered if name in (job.sweep, job.id)]
    if not mine:
        names = list(dict.fromkeys(job.sweep for job in remembered))
        there = f"there are jobs of {', '.join(names)}{nearest(name, names)}" if names else "there are none at all"
        raise UserError(f'the cluster at {cluster.place} has no job of a sweep "{name}": {there}')
    return mine[-1]
