"""Every use of what Ray and Ray Tune do not promise to keep: no other file touches their private names.

`require_known` says in a sentence when a version of Ray lacks one of them. Ray Tune loads only in functions that a run
calls: the verbs for jobs need none of it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import ray
import ray._private.accelerators
import ray._private.ray_constants
import ray._private.services
import ray._private.utils
import ray._private.worker
from ray.exceptions import RayActorError, RayError, RayTaskError

from prunesweep.orchestrator.run.sessions import end_sessions, one_has_ended, start_in_session
from prunesweep.workers.errors import UserError

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

TESTED = "2.60"
"""The minor version of Ray with which all of this was tried; `pyproject.toml` asks for it."""

NEEDED_PROCESSES = ("raylet", "gcs_server")
"""Those of Ray's processes without which no stage runs."""

START_SECONDS = 180.0
"""A raylet that has not registered by then is not waited for any longer."""

NO_HEAD = (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
"""What other servers answer to a question for the head; a head may answer that it wants a token first."""

CHATTY_LOGGERS = (
    "ray._private.authentication.authentication_token_setup",
    "ray._private.authentication.http_token_authentication",
    "ray.dashboard.modules.dashboard_sdk",
)
"""They repeat, with tracebacks, what `Dashboard` says in a sentence."""


def require_known() -> None:
    """Raise `UserError` unless this version of Ray has all that a run uses of its private parts."""
    from ray.air._internal import usage
    from ray.air.execution._internal import RayActorManager
    from ray.tune import registry
    from ray.tune.execution.tune_controller import TuneController

    needed: tuple[tuple[object, str], ...] = (
        (ray._private.worker, "print_to_stdstream"),
        (ray._private.worker, "_global_node"),
        (ray._private.utils, "set_sigterm_handler"),
        (ray._private.utils, "detect_fate_sharing_support"),
        (ray._private.services, "ConsolePopen"),
        (ray._private.services, "get_node"),
        (ray._private.accelerators, "get_accelerator_manager_for_resource"),
        (ray._private.ray_constants, "ENABLE_RAY_CLUSTER"),
        (registry, "_global_registry"),
        (usage, "tag_callbacks"),
        (RayActorManager, "_actor_task_failed"),
        (TuneController, "_get_trial_checkpoints"),
        (TuneController, "_schedule_trial_train"),
        (TuneController, "_unstage_trial_with_resources"),
    )
    missing = [f"{getattr(owner, '__name__', owner)}.{name}" for owner, name in needed if not hasattr(owner, name)]
    if missing:
        raise UserError(
            f"Ray {ray.__version__} has no {', '.join(missing)}, which prunesweep uses: "
            f'install the version with which it was tried, pip install "ray[default,tune]=={TESTED}.*"'
        )


def visible_gpus() -> int:
    """How many GPUs a Ray that is started here will have; asks the driver, and starts nothing."""
    kind = ray._private.accelerators.get_accelerator_manager_for_resource("GPU")
    assert kind is not None, "Ray has one for GPUs of every make"
    visible = kind.get_current_process_visible_accelerator_ids()
    count = kind.get_current_node_num_accelerators()
    return count if visible is None else min(count, len(visible))


def is_head(address: str, seconds: float) -> bool:
    """Whether what listens at `host:port` is the GCS of a Ray cluster; of anything else Ray would wait for minutes."""
    if os.environ.get("RAY_USE_TLS", "0") != "0":
        return True  # it could be asked with the cluster's certificates only
    with grpc.insecure_channel(address) as channel:
        try:
            channel.unary_unary("/ray.rpc.NodeInfoGcsService/CheckAlive")(b"", timeout=seconds)
        except grpc.RpcError as error:
            return error.code() not in NO_HEAD
    return True


# --- the embedded Ray


def leave_deaths_and_signals_to_us() -> None:
    """Keep Ray from printing a paragraph, or 25 lines of a log, about a worker's death, and from answering SIGTERM.

    A run says the death in one line, and goes on; on SIGTERM it lets its stages finish an epoch, where Ray would end
    the process on the spot (`orchestrator.run.stopping`).
    """
    ray._private.worker.print_to_stdstream = lambda *_, **__: None
    ray._private.utils.set_sigterm_handler = lambda _: None


@contextmanager
def on_loopback() -> Iterator[None]:
    """Inside it Ray starts with 127.0.0.1 as its address, where nobody else can connect: its metrics ask for no token.

    Ray does so by itself on macOS and Windows; it has no option for it.
    """
    with _replaced(ray._private.ray_constants, "ENABLE_RAY_CLUSTER", False):
        yield


@contextmanager
def with_patience() -> Iterator[None]:
    """Inside it Ray waits longer than its own 30 s for its raylet, while all is alive: busy cores make it slow."""
    ask: Callable[[str, str], Any] = ray._private.services.get_node

    def get_node(gcs_address: str, node_id: str) -> Any:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                return ask(gcs_address, node_id)
            except RuntimeError:  # it is not there yet
                if time.monotonic() > deadline or one_has_ended():
                    raise
                time.sleep(0.1)

    with _replaced(ray._private.services, "get_node", get_node):
        yield


@contextmanager
def in_sessions_of_their_own() -> Iterator[None]:
    """Inside it Ray's processes start where no signal to this process's group or terminal reaches them.

    `timeout`, `docker stop`, systemd, Slurm's `scancel` and a terminal signal the whole group; a Ray that ended so
    would take with it the stages that still finish their epoch. The kernel ends Ray's processes with this one, whatever
    ends that; where it cannot, Ray does so by the group, and they stay in it.
    """
    if not ray._private.utils.detect_fate_sharing_support():  # type: ignore[no-untyped-call]
        yield
        return
    with _replaced(ray._private.services, "ConsolePopen", start_in_session):
        yield


def dead_processes() -> list[str]:
    """The needed processes of the Ray that this process started that are gone; none where it started none."""
    node = ray._private.worker._global_node
    return [name for name, _ in node.dead_processes() if name in NEEDED_PROCESSES] if node else []


def kill_embedded() -> None:
    """End the processes of the Ray that this process started, at once."""
    node: Any = ray._private.worker._global_node
    if node is not None:
        node.kill_all_processes(check_alive=False, allow_graceful=False)
    end_sessions()


# --- Tune


def controller_of(seen_by_scheduler: Any) -> Any:
    """The controller of Tune's loop, of which a scheduler is shown a part."""
    return seen_by_scheduler._tune_controller


def process_of(trial: Trial) -> Any:
    """The handle of the actor that a trial runs in."""
    return trial.temporary_state.ray_actor


def train_on(controller: Any, trial: Trial) -> None:
    """Have a trial that waits call `step` again."""
    controller._schedule_trial_train(trial)


def withdraw(controller: Any, trial: Trial) -> None:
    """End a trial that has not started; by `stop_trial` alone Tune would keep a process for it."""
    controller.stop_trial(trial)
    if trial in controller._staged_trials:
        controller._unstage_trial_with_resources(trial)


def error_of(trial: Trial) -> object:
    """Why a trial's process is gone. Tune hands out errors only from the storage, to which it copies them later."""
    if trial.pickled_error_file:
        return ray.cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
    return Path(trial.error_file).read_text() if trial.error_file else ""


@contextmanager
def mended_tune() -> Iterator[None]:
    """Tune without three habits that take much of the driver's time and memory, and a mistake that ends it.

    For each worker it fetches the trainable from Ray's key-value store five times, three of them to see that it is
    there; at the end it writes down all trials, for a restoration that nobody asks for; and to count which callbacks
    are its own it imports mlflow, wandb, comet and aim where they are installed. And it stops everything when Ray has
    ended a worker because the machine ran out of memory.
    """
    from ray.air._internal import usage
    from ray.air.execution._internal import RayActorManager
    from ray.tune import registry
    from ray.tune.execution.tune_controller import TuneController

    kept = registry._global_registry
    with ExitStack() as replacements:
        for owner, name, value in (
            (kept, "get", cache(kept.get)),
            (kept, "contains", cache(kept.contains)),
            (TuneController, "_get_trial_checkpoints", lambda self: {}),
            (usage, "tag_callbacks", lambda callbacks: False),
            (RayActorManager, "_actor_task_failed", _survivable(RayActorManager._actor_task_failed)),
        ):
            replacements.enter_context(_replaced(owner, name, value))
        yield


def _survivable(failed: Callable[..., None]) -> Callable[..., None]:
    """Tune's handler of a failed task, which knows only some of Ray's errors; the others count as a lost actor."""

    def task_failed(self: Any, tracked_actor_task: Any, exception: Exception) -> None:
        foreseen = isinstance(exception, RayActorError | RayTaskError) or not isinstance(exception, RayError)
        failed(self, tracked_actor_task, exception if foreseen else RayActorError(error_msg=str(exception)))

    return task_failed


@contextmanager
def _replaced(owner: object, name: str, value: object) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


# --- jobs


def authenticate_with_token() -> None:
    """Send the token of a cluster with every request, where one is found."""
    from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available

    maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


class JobRequests:
    """For a subclass of it and of Ray's `JobSubmissionClient`: that one's requests and refusals under public names."""

    def send(self, method: str, endpoint: str, **options: Any) -> Any:
        """Ray's own way to send a request."""
        return super()._do_request(method, endpoint, **options)  # type: ignore[misc]

    def request(self, method: str, endpoint: str, **options: Any) -> Any:
        """Send a request and return the answer; to be replaced."""
        return self.send(method, endpoint, **options)

    def refused(self, answer: Any) -> None:
        """Raise for an answer that says no; to be replaced."""
        raise NotImplementedError

    def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:
        return self.request(method, endpoint, **options)

    def _raise_error(self, r: Any) -> None:
        self.refused(r)
