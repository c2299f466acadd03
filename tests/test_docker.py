"""What can be said of images, Compose file and manifests without an engine; the Slurm script runs, on two nodes."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer
from compose_spec import PyOptions
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from ray.scripts.scripts import cli as ray_cli
from ruamel.yaml import YAML

from prunesweep import load_results
from prunesweep.orchestrator.cli.main import app
from prunesweep.orchestrator.jobs.jobs import STOP_SECONDS
from prunesweep.orchestrator.provenance import COMMIT, provenance
from prunesweep.orchestrator.run.stopping import GRACE_SECONDS, INTERRUPTED
from prunesweep.orchestrator.sweepfile.read import read_sweep
from tests.orchestrator.conftest import COMMAND, SWEEP, Cli, descendants

ROOT = Path(__file__).parent.parent
DOCKER = ROOT / "docker"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINNED = dict(re.findall(r"^(\S+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
PROGRAMS = f"{COMMAND.parent}{os.pathsep}{os.environ['PATH']}"


def run(*command: str | Path, **options: Any) -> str:
    environment = {**os.environ, "PATH": PROGRAMS, **options.pop("env", {})}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def parse(line: str) -> None:
    """Fails when a command of ray or prunesweep has no such verb, option or value."""
    program, verb, *arguments = shlex.split(line)
    group: Any = {"ray": ray_cli, "prunesweep": typer.main.get_command(app)}[program]
    command = group.commands[verb]
    if hasattr(command, "commands"):
        command, arguments = command.commands[arguments[0]], arguments[1:]
    command.make_context(verb, arguments)


def load(path: Path) -> list[Any]:
    return list(YAML(typ="safe").load_all(path.read_text()))


def test_commands_in_the_document_are_understood(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PRUNESWEEP_ADDRESS", "http://head:8265")
    monkeypatch.setenv("PRUNESWEEP_STORE", "/nfs/results")
    blocks = "".join(re.findall(r"^```text\n(.*?)^```$", (ROOT / "docs/cluster.md").read_text(), re.M | re.S))
    lines = re.findall(r"\$ .*?((?:prunesweep|ray start) .*)", blocks)
    assert len(lines) > 8
    for line in lines:
        parse(line)


# --- images

Instruction = tuple[str, str]


def instructions() -> list[Instruction]:
    lines = [line for line in (DOCKER / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    whole = "\n".join(lines).replace("\\\n", " ")
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in whole.splitlines() if line)]


def stages() -> dict[str, list[Instruction]]:
    """What each target is made of, with what it is based on."""
    found: dict[str, list[Instruction]] = {}
    for name, rest in instructions():
        if name == "FROM":
            origin, _, stage = rest.partition(" AS ")
            found[stage] = list(found.get(origin, []))
        elif found:
            found[stage].append((name, rest))
    return found


def of(kind: str, parts: Sequence[Instruction]) -> list[str]:
    return [rest for name, rest in parts if name == kind]


def test_hadolint_finds_nothing():
    run("hadolint", DOCKER / "Dockerfile")


def test_images_are_pinned_and_their_users_are_not_root():
    origins = [rest.split()[0] for name, rest in instructions() if name == "FROM"]
    bases = dict(rest.split("=", 1) for rest in of("ARG", instructions()) if "=" in rest)
    images = {bases[o[2:-1]] if o.startswith("${") else o for o in origins if o not in stages()}
    assert all(re.fullmatch(r"python:\d+\.\d+\.\d+-slim-\w+(@sha256:[0-9a-f]{64})?", image) for image in images)
    assert all(SpecifierSet(PROJECT["requires-python"]).contains(i.split(":")[1].split("-")[0]) for i in images)
    assert of("ADD", instructions()) == []
    for target in ("cpu", "cuda"):
        parts = stages()[target]
        assert of("USER", parts) == ["1000:1000"]
        assert not {"RUN", "COPY"} & {name for name, _ in parts[parts.index(("USER", "1000:1000")) :]}
        assert f'org.opencontainers.image.version="{PROJECT["version"]}"' in " ".join(of("LABEL", parts))


ASKED_FOR_THE_DIGEST = {
    "docker": 'case $2 in imagetools) echo "$DIGEST" ;; esac',
    "skopeo": 'echo "$DIGEST"',
    "crane": '[ "$1" = digest ] && echo "$DIGEST"',
}
"""What asks a registry, each of which stands for one here."""


@pytest.mark.parametrize("asks", ASKED_FOR_THE_DIGEST)
def test_the_base_image_is_pinned_by_what_there_is_to_ask_a_registry(tmp_path: Path, asks: str):
    for file in ("pin.sh", "Dockerfile"):
        shutil.copy(DOCKER / file, tmp_path)
    for name in ASKED_FOR_THE_DIGEST:
        text = ASKED_FOR_THE_DIGEST[name] if name == asks else "exit 1"
        if name in ("docker", asks):  # the machine may have a docker of its own
            (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
            (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin"
    before = (tmp_path / "Dockerfile").read_text()
    for digest in (f"sha256:{'0a' * 32}", f"sha256:{'1b' * 32}"):
        run(tmp_path / "pin.sh", env={"PATH": path, "DIGEST": digest})
        (base,) = re.findall(r"^ARG BASE=(.*)$", (tmp_path / "Dockerfile").read_text(), re.MULTILINE)
        assert re.fullmatch(rf"python:[^@]+@{digest}", base)
    after = (tmp_path / "Dockerfile").read_text()
    assert re.sub(r"^ARG BASE=.*", "", after, flags=re.M) == re.sub(r"^ARG BASE=.*", "", before, flags=re.M)
    run("hadolint", tmp_path / "Dockerfile")
    wrong = subprocess.run(
        [tmp_path / "pin.sh"], env={"PATH": path, "DIGEST": "not found"}, capture_output=True, text=True, timeout=60
    )
    assert wrong.returncode == 2
    assert "not found" in wrong.stderr
    assert (tmp_path / "Dockerfile").read_text() == after


def test_what_is_copied_is_there_and_nothing_else_reaches_the_builder():
    ignored, *lines = [x for x in (ROOT / ".dockerignore").read_text().splitlines() if not x.startswith("#")]
    let_in = {line.removeprefix("!") for line in lines if line.startswith("!")}
    copied = [rest.split()[:-1] for rest in of("COPY", instructions()) if not rest.startswith("--from")]
    assert ignored == "*"
    assert {source for sources in copied for source in sources} == let_in
    assert all((ROOT / source).exists() for source in let_in)


def locked(lock: Path) -> dict[str, str]:
    """By package: its version. Every one must be held by the hashes of its files."""
    entries = re.split(r"\n(?=[a-z])", lock.read_text())
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", entry) for entry in entries)
    return dict(re.findall(r"^([^ =]+)==([^ ]+)", "\n".join(entries), re.MULTILINE))


def required(dependencies: Iterable[str]) -> set[str]:
    return {canonicalize_name(Requirement(text).name) for text in dependencies} - {"prunesweep"}


def test_images_and_ci_install_only_files_whose_hashes_are_known():
    pinned = {canonicalize_name(name): version for name, version in PINNED.items()}
    extras = PROJECT["optional-dependencies"]
    image, ci = locked(DOCKER / "requirements.lock"), locked(ROOT / ".ci/requirements.lock")
    assert {"dumb-init"} | required(PROJECT["dependencies"]) <= image.keys()
    assert required(PROJECT["dependencies"]) | required(extras["dev"]) | required(extras["onnx"]) <= ci.keys()
    elsewhere = {"colorama", "httpx2-jsfetch", "tzdata"}  # of other systems than the images'
    assert {name: pinned.get(name) for name in image.keys() - elsewhere} == {
        name: version for name, version in image.items() if name not in elsewhere
    }
    steps = [part.strip() for rest in of("RUN", instructions()) for part in rest.split("&&")]
    installed = [step for step in steps if "pip install" in step and "--no-index" not in step]
    (torch,) = [step for step in installed if "--require-hashes" not in step]
    assert torch.split()[-3:] == ["torch", "torchvision", "torchcodec"]
    assert "--constraint constraints.txt" in torch
    assert all(SpecifierSet(f"=={PINNED[n]}").contains(f"{PINNED[n]}+cpu") for n in ("torch", "torchvision"))


def test_the_image_without_cuda_has_all_but_cuda(tmp_path: Path):
    (script,) = re.findall(r"awk '(.*)' requirements.lock", (DOCKER / "Dockerfile").read_text())
    rest = tmp_path / "rest.lock"
    rest.write_text(run("awk", script, DOCKER / "requirements.lock"))
    left_out = locked(DOCKER / "requirements.lock").keys() - locked(rest).keys()
    assert {"torch", "torchvision", "torchcodec", "triton", "nvidia-nccl-cu13", "cuda-toolkit"} <= left_out
    assert all(re.match("torch|triton|nvidia-|cuda-", name) for name in left_out)


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (["plan", "sweeps/quickstart.yaml", "--store", "/tmp/none"], "quickstart: "),
        (["prunesweep", "--version"], "prunesweep 0"),
        (["--version"], "prunesweep 0"),
        (["ray", "--version"], "ray, version"),
        (["sh", "-c", "echo hello"], "hello"),
    ],
)
def test_an_image_runs_verbs_and_what_a_cluster_starts(words: list[str], printed: str):
    assert printed in run(DOCKER / "entrypoint.sh", *words, cwd=ROOT)


def test_an_image_without_a_commit_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(COMMIT, "")
    assert provenance(tmp_path).commit is None


# --- compose


def compose(*files: str) -> dict[str, Any]:
    """Merged as Compose does it, as far as these files need; the variables have their defaults."""
    merged: dict[str, Any] = {}
    for file in files:
        text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", (DOCKER / file).read_text())
        PyOptions(apply_merge=True).from_yaml(text).validate()
        merged = _merge(merged, YAML(typ="safe").load(text))
    return merged


def _merge(old: Any, new: Any) -> Any:
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **{key: _merge(old.get(key), value) for key, value in new.items()}}
    return new


@pytest.mark.parametrize("files", [["compose.yaml"], ["compose.yaml", "compose.gpu.yaml"]], ids=["cpu", "gpu"])
def test_services_are_whole_and_shut_off(files: list[str]):
    made = compose(*files)
    for name, service in made["services"].items():
        assert service["build"]["target"] in stages()
        assert (DOCKER / service["build"]["context"] / service["build"]["dockerfile"]).exists()
        assert service["image"] == f"prunesweep:{service['build']['target']}"
        assert service["environment"]["RAY_AUTH_TOKEN_PATH"] == "/run/secrets/" + service["secrets"][0]
        assert set(service["secrets"]) == set(made["secrets"])
        assert {volume.split(":")[0] for volume in service["volumes"]} == set(made["volumes"])
        assert service["cap_drop"] == ["ALL"]
        assert not {"privileged", "user", "network_mode"} & set(service)
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        assert int(service["stop_grace_period"].removesuffix("s")) >= STOP_SECONDS, name
        parse(service["command"])
    head, worker = made["services"]["head"], made["services"]["worker"]
    parse(shlex.join(head["healthcheck"]["test"][1:]))
    assert worker["depends_on"]["head"]["condition"] == "service_healthy"
    assert worker["deploy"]["replicas"] == (2 if len(files) == 1 else 1)
    assert "data:/data:ro" in worker["volumes"]


# --- KubeRay

MANIFESTS = [load(DOCKER / "kuberay" / f"{name}.yaml") for name in ("storage", "raycluster", "rayjob")]
FIELDS = {
    "job": "entrypoint runtimeEnvYAML backoffLimit shutdownAfterJobFinishes ttlSecondsAfterFinished submitterConfig "
    "submitterPodTemplate rayClusterSpec",
    "cluster": "rayVersion authOptions enableInTreeAutoscaling autoscalerOptions headGroupSpec workerGroupSpecs",
    "autoscaler": "version idleTimeoutSeconds resources securityContext",
    "head": "rayStartParams template",
    "group": "groupName replicas minReplicas maxReplicas rayStartParams template",
}
"""Those of KubeRay's own fields (ray.io/v1, version 1.6) that are used; its schemas come in no package."""


def objects(kind: str) -> list[dict[str, Any]]:
    return [each for documents in MANIFESTS for each in documents if each["kind"] == kind]


def clusters() -> list[dict[str, Any]]:
    return [
        *(each["spec"] for each in objects("RayCluster")),
        *(each["spec"]["rayClusterSpec"] for each in objects("RayJob")),
    ]


def groups() -> Iterator[dict[str, Any]]:
    for cluster in clusters():
        yield cluster["headGroupSpec"]
        yield from cluster["workerGroupSpecs"]


def pods() -> Iterator[dict[str, Any]]:
    yield from (group["template"]["spec"] for group in groups())
    yield from (job["spec"]["submitterPodTemplate"]["spec"] for job in objects("RayJob"))


def check(kind: str, part: dict[str, Any]) -> None:
    assert set(part) <= set(FIELDS[kind].split()), kind


def test_manifests_have_only_known_fields():
    for pod in pods():
        kubernetes_validate.validate(
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": pod},
            kubernetes_validate.latest_version(),
            strict=True,
        )
    for each in [*objects("PersistentVolumeClaim"), *objects("ConfigMap")]:
        kubernetes_validate.validate(each, kubernetes_validate.latest_version(), strict=True)
    for cluster in clusters():
        check("cluster", cluster)
        check("autoscaler", cluster.get("autoscalerOptions", {}))
        check("head", cluster["headGroupSpec"])
        for group in cluster["workerGroupSpecs"]:
            check("group", group)
            assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        assert cluster["rayVersion"] == PINNED["ray"]
    for job in objects("RayJob"):
        check("job", job["spec"])
    assert {each["apiVersion"] for kind in ("RayCluster", "RayJob") for each in objects(kind)} == {"ray.io/v1"}


def test_pods_find_what_they_name():
    claims = {claim["metadata"]["name"] for claim in objects("PersistentVolumeClaim")}
    maps = {each["metadata"]["name"] for each in objects("ConfigMap")}
    for pod in pods():
        volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
        mounted = [mount["name"] for container in pod["containers"] for mount in container.get("volumeMounts", [])]
        assert sorted(mounted) == sorted(volumes)
        assert {v["persistentVolumeClaim"]["claimName"] for v in volumes.values() if "configMap" not in v} <= claims
        assert {v["configMap"]["name"] for v in volumes.values() if "configMap" in v} <= maps
    told = (ROOT / "docs/cluster.md").read_text()
    for cluster in clusters():
        assert cluster["authOptions"]["mode"] == "token"
        assert f"create secret generic {cluster['authOptions']['secretName']}" in told


def test_pods_are_no_roots_get_what_they_ask_for_and_have_time_to_end():
    assert [group["rayStartParams"].get("num-cpus") for group in groups()] == ["0", None, None, "0", None]
    for group in groups():
        parse("ray start " + " ".join(f"--{name}={value}" for name, value in group["rayStartParams"].items()))
        assert group["template"]["spec"]["terminationGracePeriodSeconds"] >= STOP_SECONDS
    for pod in pods():
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["runAsUser"] == 1000
        for container in pod["containers"]:
            assert container["resources"]["requests"] == container["resources"]["limits"]
            assert not container["securityContext"]["allowPrivilegeEscalation"]
            variant = "cuda" if "nvidia.com/gpu" in container["resources"]["limits"] else "cpu"
            assert container["image"] == f"registry.example.org/prunesweep:{PROJECT['version']}-{variant}"


def test_the_job_runs_a_sweep_that_it_brings(tmp_path: Path):
    (job,), (sweeps,) = objects("RayJob"), objects("ConfigMap")
    parse(job["spec"]["entrypoint"])
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    (folder,) = [m["mountPath"] for m in head["containers"][0]["volumeMounts"] if m["name"] == "sweeps"]
    file = Path(job["spec"]["entrypoint"].split()[2])
    assert str(file.parent) == folder
    (tmp_path / file.name).write_text(sweeps["data"][file.name])
    assert len(read_sweep(tmp_path / file.name).trials) == 16
    environment = YAML(typ="safe").load(job["spec"]["runtimeEnvYAML"])["env_vars"]
    assert float(environment["RAY_JOB_STOP_WAIT_TIME_S"]) >= STOP_SECONDS


# --- Slurm

SCRIPT = DOCKER / "slurm.sh"

SHIMS = {
    "srun": 'while [ "${1#--}" != "$1" ]; do shift; done; echo $$ >> "$SHIMS/steps"; exec setsid "$@"',
    "scontrol": 'case $1 in show) echo "$3" | tr , "\\n" ;; *) echo "$@" >> "$SHIMS/asked" ;; esac',
    "scancel": 'for step in $(cat "$SHIMS/steps"); do kill -TERM -- -$step 2> /dev/null; done',
    "sbatch": """
        cp "$1" "$SHIMS/slurm_script"
        shift
        for seconds in $TURNS; do
            : > "$SHIMS/asked"
            bash "$SHIMS/slurm_script" "$@" &
            batch=$!
            sleep "$seconds" && kill -USR1 $batch &
            wait $batch
            code=$?
            kill $! 2> /dev/null
            grep -q requeue "$SHIMS/asked" || exit $code
        done
    """,
}
"""Slurm as the script sees it, on a machine that is all of its nodes: `TURNS` are the lengths of a job's turns.

A signal to a step reaches all of its processes.
"""

QUICK = {
    "ray": "case $1 in start) exec sleep 1000 ;; esac",
    "python": '[ "$1" = -c ] && exec "$PYTHON" "$@"; exec sleep 0.3',
    "prunesweep": 'echo began >> "$SHIMS/runs"; sleep 0.6 & trap "kill $!; exit 130" TERM; wait; echo "all done"',
}
"""In place of what takes long, where only the script's own steps are of interest."""

ASKED = ["TERM", "INT", "HUP", "USR1", "USR2"]


TINY = """\
name: small
dataset: digits
model: lenet300
seeds: 2
train: {epochs: 1, batch_size: 64, lr: 0.1}
trials: [{method: dense}]
"""


class Slurm(Cli):
    def __init__(self, folder: Path, job: int, shims: Mapping[str, str] = SHIMS) -> None:
        super().__init__(folder, SCRIPT)
        self.shims = folder / "shims"
        self.shims.mkdir(parents=True)
        for name, text in shims.items():
            (self.shims / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
            (self.shims / name).chmod(0o755)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "PRUNESWEEP_"))},
            "PATH": f"{self.shims}{os.pathsep}{PROGRAMS}",
            "SHIMS": str(self.shims),
            "PYTHON": sys.executable,
            "HOME": str(folder),
            "RAY_worker_niceness": "0",  # with Ray's own of 15 nothing would ever happen on a busy machine
            "SLURM_JOB_ID": str(job),
            "SLURM_JOB_NODELIST": "localhost,second",
            "SLURM_CPUS_PER_TASK": "1",
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.command, *arguments],
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def requeued(self) -> bool:
        return (self.shims / "asked").exists()

    def left(self) -> list[str]:
        """Processes that know this folder, and files of the job."""
        mine = str(self.shims).encode()
        alive = [p for p in Path("/proc").glob("[0-9]*") if mine in _read(p / "environ") and _read(p / "cmdline")]
        return [str(path) for path in (*alive, *self.folder.glob(".prunesweep-*"))]

    def end(self, process: subprocess.Popen[str]) -> None:
        """What the script has left behind because a test failed."""
        for pid in [process.pid, *descendants(process.pid, "")]:
            if Path(f"/proc/{pid}").exists():
                os.kill(pid, signal.SIGKILL)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""


@pytest.fixture
def slurm(tmp_path: Path) -> Slurm:
    return Slurm(tmp_path, os.getpid())


def check_gone(slurm: Slurm) -> None:
    deadline = time.monotonic() + 30
    while slurm.left() and time.monotonic() < deadline:
        time.sleep(0.2)
    left = slurm.left()
    assert [(path, _read(Path(path) / "cmdline")) for path in left] == []


def test_shellcheck_finds_nothing():
    run("shellcheck", SCRIPT, DOCKER / "entrypoint.sh", DOCKER / "pin.sh")


def test_slurm_gives_a_run_the_time_to_stop():
    """Slurm may be a minute early, but not late."""
    (seconds,) = re.findall(r"^#SBATCH --signal=B:USR1@(\d+)$", SCRIPT.read_text(), re.MULTILINE)
    assert int(seconds) > GRACE_SECONDS + 60


def test_a_job_that_cannot_start_says_why(slurm: Slurm):
    assert "name a sweep file" in slurm(code=2)
    slurm.environment["PATH"] = f"{slurm.shims}:/usr/bin:/bin"
    if shutil.which("prunesweep", path=slurm.environment["PATH"]) is None:
        assert "activate its environment" in slurm("sweep.yaml", code=2)
    del slurm.environment["SLURM_JOB_ID"]
    assert "start this with sbatch" in slurm("sweep.yaml", code=1)


def test_whatever_signal_comes_when_a_job_ends_and_is_put_into_the_queue_where_it_should(tmp_path: Path):
    """All at once, each with a start of its own; a job that was done before has no use for another turn."""
    jobs, moments = {}, [0.3 + 0.15 * step for step in range(10)]
    for number, (name, seconds) in enumerate(product(ASKED, moments)):
        slurm = Slurm(tmp_path / f"{number}", 10000 + number, {**SHIMS, **QUICK})
        process = slurm.start("sweep.yaml")
        jobs[name, seconds] = slurm, process
        threading.Timer(seconds, process.send_signal, [signal.Signals[f"SIG{name}"]]).start()
    codes = Counter()
    for (name, seconds), (slurm, process) in jobs.items():
        printed = "".join(process.communicate(timeout=60))
        codes[process.returncode] += 1
        assert process.returncode in (0, INTERRUPTED), (name, seconds, printed)
        assert (process.returncode == 0) == ("all done" in printed)
        assert slurm.requeued() == (process.returncode == INTERRUPTED and name.startswith("USR")), (name, seconds)
        check_gone(slurm)
    assert codes[INTERRUPTED] > 25


@pytest.mark.slow
@pytest.mark.parametrize("name", ASKED)
def test_a_job_is_asked_to_stop_at_ten_moments(slurm: Slurm, name: str):
    arguments = [slurm.write(TINY), "--store", str(slurm.folder / "results")]
    for step in range(10):
        process = slurm.start(*arguments)
        try:
            time.sleep(3.0 * step + 0.1)
            process.send_signal(signal.Signals[f"SIG{name}"])
            printed = "".join(process.communicate(timeout=GRACE_SECONDS + 60))
        finally:
            slurm.end(process)
        assert process.returncode in (0, INTERRUPTED), printed
        assert slurm.requeued() == (process.returncode == INTERRUPTED and name.startswith("USR")), printed
        assert "unexpectedly" not in printed
        assert "Traceback" not in printed
        check_gone(slurm)
        (slurm.shims / "asked").unlink(missing_ok=True)


@pytest.mark.slow
def test_a_job_needs_several_turns(slurm: Slurm):
    """The first ends while Ray comes up, the second while stages run, and the third is long enough."""
    slurm.environment["TURNS"] = "2 40 1000"
    slurm.command = slurm.shims / "sbatch"
    sweep = slurm.write(SWEEP.format(name="small", seeds=4))
    answer = slurm.ask(str(SCRIPT), sweep, "--store", f"{slurm.folder}/results", seconds=900)
    printed = answer.out + answer.err
    assert answer.code == 0, printed
    assert printed.count("the job continues when it gets its next turn") in (1, 2), "two on a machine that is slow"
    assert "28 of 28 trials done" in printed
    assert len(load_results(slurm.folder / "results/small")) == 28
    check_gone(slurm)


@pytest.mark.slow
def test_a_sweep_runs_on_all_nodes_of_a_job(slurm: Slurm):
    printed = slurm(slurm.write(TINY), "--store", str(slurm.folder / "results"))
    assert "2 of 2 nodes are up" in printed
    assert "2 of 2 trials done" in printed
    check_gone(slurm)


@pytest.mark.slow
def test_a_job_whose_time_is_over_continues_in_its_next_turn(slurm: Slurm):
    arguments = [slurm.write(SWEEP.format(name="small", seeds=3)), "--store", str(slurm.folder / "results")]
    process = slurm.start(*arguments)
    try:
        slurm.wait_for(lambda: slurm.results() > 0, process)
        process.send_signal(signal.SIGUSR1)
        printed = "".join(process.communicate(timeout=GRACE_SECONDS + 35))
    finally:
        slurm.end(process)
    assert process.returncode == INTERRUPTED, printed
    assert (slurm.shims / "asked").read_text() == f"requeue {os.getpid()}\n"
    check_gone(slurm)
    before = slurm.results()
    assert 0 < before < 21
    assert f"epochs in {21 - before} stages" in slurm(*arguments)
    assert len(load_results(slurm.folder / "results/small")) == 21


@pytest.mark.slow
def test_a_job_that_is_cancelled_ends_and_is_not_put_into_the_queue_again(slurm: Slurm):
    process = slurm.start(slurm.write(SWEEP.format(name="small", seeds=6)), "--store", str(slurm.folder / "results"))
    try:
        slurm.wait_for(lambda: slurm.results() > 0, process)
        process.terminate()
        printed = "".join(process.communicate(timeout=GRACE_SECONDS + 35))
    finally:
        slurm.end(process)
    assert process.returncode == INTERRUPTED, printed
    assert not slurm.requeued()
    check_gone(slurm)
