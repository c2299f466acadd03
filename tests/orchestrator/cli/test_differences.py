"""`diff`: two sweeps' trials and settings side by side."""

from __future__ import annotations

from tests.orchestrator.conftest import Cli

SWEEP = """\
name: {name}
dataset: digits
model: lenet300
seeds: {seeds}
train: {{epochs: 4, lr: {lr}}}
trials:
  - method: imp
    sparsity: {sparsities}
    retrain_epochs: 1
  - method: {other}
"""


def write(cli: Cli, name: str, seeds: int, lr: float, sparsities: str, other: str) -> str:
    text = SWEEP.format(name=name, seeds=seeds, lr=lr, sparsities=sparsities, other=other)
    return cli.write(text, f"{name}.yaml")


def test_the_settings_that_differ_are_listed_with_their_methods(cli: Cli):
    one = write(cli, "one", 2, 0.1, "[0.5, 0.9]", "dense")
    two = write(cli, "two", 3, 0.1, "[0.9, 0.95]", "gmp\n    sparsity: 0.9")
    printed = cli("diff", one, two).splitlines()
    assert printed == [
        "2 trials in both, 4 only in one.yaml, 7 only in two.yaml",
        "what differs, one.yaml | two.yaml:",
        "  imp, seed: 0, 1 | 0, 1, 2",
        "  imp, target sparsity: 50%, 90% | 90%, 95%",
        "  dense: only in one.yaml",
        "  gmp: only in two.yaml",
    ]


def test_the_same_difference_of_several_methods_is_one_line(cli: Cli):
    one = write(cli, "one", 1, 0.1, "0.9", "dense")
    two = write(cli, "two", 1, 0.2, "0.9", "dense")
    assert "  imp, dense, lr: 0.1 | 0.2" in cli("diff", one, two).splitlines()
    assert cli.json("diff", one, two) == {
        "shared": 0,
        "first_only": 2,
        "second_only": 2,
        "differences": [
            {"method": method, "setting": "lr", "first": [0.1], "second": [0.2]} for method in ("imp", "dense")
        ],
    }


def test_a_sweep_is_equal_to_itself_by_its_file(cli: Cli):
    one = write(cli, "one", 1, 0.1, "0.9", "dense")
    assert cli("diff", one, one) == "2 trials in both, 0 only in one.yaml, 0 only in one.yaml\n"
    assert 'has no sweep "nothing"' in cli("diff", one, "nothing", code=2)
