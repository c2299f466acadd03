"""From the command to the end of the first epoch: `prunesweep run` and raw Ray Tune with the same imports, by turns.

    python benchmarks/startup.py [--rounds 5]

Both train a small network on scikit-learn's digits, one for each of two seeds, in an empty folder on a new Ray.
Raw Tune is what its user writes: one function that is a trial, default settings; its trials import what prunesweep's
workers import, and leave a file after the first epoch. prunesweep leaves its first checkpoint there. Both times count
from the start of Python until that file is there; the ratio is that of a round, since the rounds find the machine in
different states. A first round, which fills the disk's cache, does not count.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

SWEEP = """\
name: startup
dataset: digits
model: lenet300
seeds: 2
train: {epochs: 3, batch_size: 64}
trials: [{method: dense}]
"""

POLL_SECONDS = 0.005
LONGEST_SECONDS = 300.0


def raw_tune(folder: str) -> None:
    """What a user of Ray Tune writes."""
    import ray
    from ray import tune

    def trial(config: dict[str, int]) -> None:
        import torch
        from sklearn.datasets import load_digits
        from torch.nn import functional

        import prunesweep.workers.run  # noqa: F401 (what prunesweep's workers import)

        torch.manual_seed(config["seed"])
        digits = load_digits()
        images, targets = torch.tensor(digits.data, dtype=torch.float32), torch.tensor(digits.target)
        model = torch.nn.Sequential(
            torch.nn.Linear(64, 300),
            torch.nn.ReLU(),
            torch.nn.Linear(300, 100),
            torch.nn.ReLU(),
            torch.nn.Linear(100, 10),
        )
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        for epoch in range(3):
            for batch in torch.randperm(1260).split(64):
                optimizer.zero_grad()
                functional.cross_entropy(model(images[batch]), targets[batch]).backward()
                optimizer.step()
            accuracy = (model(images[1260:]).argmax(1) == targets[1260:]).float().mean().item()
            (Path(folder) / f"epoch-{config['seed']}-{epoch}").touch()
            tune.report({"accuracy": accuracy})

    ray.init(address="local", include_dashboard=False, log_to_driver=False)
    run_config = tune.RunConfig(storage_path=folder, verbose=0)
    tune.Tuner(trial, param_space={"seed": tune.grid_search([0, 1])}, run_config=run_config).fit()


def seconds(command: list[str | Path], folder: Path, pattern: str) -> float:
    """Until a file of that name is there; then the command runs on to its end."""
    begun = time.perf_counter()
    with (folder / "output.txt").open("w") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
        while not any(folder.glob(pattern)):
            if process.poll() is not None or time.perf_counter() - begun > LONGEST_SECONDS:
                raise SystemExit(f"no {pattern} was written:\n{(folder / 'output.txt').read_text()}")
            time.sleep(POLL_SECONDS)
        taken = time.perf_counter() - begun
        process.wait()
    return taken


def ours() -> float:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "startup.yaml").write_text(SWEEP)
        command: list[str | Path] = [Path(sys.executable).parent / "prunesweep", "run", "startup.yaml"]
        return seconds(command, Path(folder), "results/stages/*/checkpoint.safetensors")


def raw() -> float:
    with tempfile.TemporaryDirectory() as folder:
        return seconds([sys.executable, Path(__file__).absolute(), "--raw", folder], Path(folder), "epoch-*")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--raw", metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.raw:
        raw_tune(options.raw)
        return
    ours(), raw()
    rounds = []
    for number in range(options.rounds):
        order = (ours, raw) if number % 2 else (raw, ours)
        taken = {work: work() for work in order}
        rounds.append((taken[ours], taken[raw]))
        print(
            f"prunesweep {taken[ours]:5.1f} s, raw Tune {taken[raw]:5.1f} s: {taken[ours] / taken[raw]:.2f}", flush=True
        )
    mine, theirs = (median(times) for times in zip(*rounds, strict=True))
    print(
        f"median: prunesweep {mine:.1f} s, raw Tune {theirs:.1f} s; median ratio "
        f"{median(own / other for own, other in rounds):.2f}"
    )


if __name__ == "__main__":
    main()
