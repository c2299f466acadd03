"""What trials may occupy of a cluster; it says nothing about the numbers, and is no part of any key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from math import ceil, floor
from typing import Any, Self

from prunesweep.workers.errors import UserError
from prunesweep.workers.spec import Choice, TrialSpec, freeze

SELECTORS = ("dataset", "model", "method")
"""The parts of a trial by which a rule chooses."""

LOWER = "Lower `resources` in the sweep file"


@dataclass(frozen=True)
class Resources:
    """What a trial may occupy: CPU cores and GPUs, a fraction to share one; with replicas, each of them.

    On a CPU the cores are the threads, which sum in another order: they move the last bits, as replicas do.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    replicas: int = 1

    def __or__(self, other: Resources) -> Resources:
        """Enough for either; replicas share no GPU."""
        most = Resources(**{f.name: max(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)})
        return most if most.replicas == 1 else replace(most, gpus=ceil(most.gpus))

    def __str__(self) -> str:
        many = f", replicas: {self.replicas}" if self.replicas > 1 else ""
        return f"cpus: {self.cpus:g}, gpus: {self.gpus:g}{many}"


@dataclass(frozen=True)
class Rule:
    """What trials get that have one of the values wanted of each selector; `given` goes before what came before."""

    wanted: Mapping[str, tuple[Any, ...]]
    given: Mapping[str, Any]

    @classmethod
    def of(cls, rule: Mapping[str, Any]) -> Self:
        """From a mapping of a sweep file, checked before."""
        wanted = {name: rule[name] for name in SELECTORS if name in rule}
        return cls(
            {name: tuple(value) if isinstance(value, list) else (value,) for name, value in wanted.items()},
            {name: amount for name, amount in rule.items() if name not in SELECTORS},
        )

    def matches(self, trial: TrialSpec) -> bool:
        return all(
            any(is_called(getattr(trial, name), value) for value in values) for name, values in self.wanted.items()
        )


@dataclass(frozen=True)
class Shares:
    """What each trial of a sweep gets: `given` is the mapping `resources` of the sweep file."""

    given: Mapping[str, Any]

    @cached_property
    def default(self) -> Resources:
        """Of trials that no rule matches."""
        return Resources(**{name: value for name, value in self.given.items() if name != "for"})

    @cached_property
    def rules(self) -> tuple[Rule, ...]:
        return tuple(map(Rule.of, self.given.get("for", ())))

    def of(self, trial: TrialSpec) -> Resources:
        share = self.default
        for rule in self.rules:
            if rule.matches(trial):
                share = replace(share, **rule.given)
        return share


def is_called(choice: Choice, wanted: Any) -> bool:
    """Whether it is the dataset, model or method that was named, alone or with some of its options."""
    options = {"name": wanted} if isinstance(wanted, str) else wanted
    have = {"name": choice.name, **choice.settings}
    return isinstance(options, Mapping) and all(have.get(key) == freeze(item) for key, item in options.items())


def request(share: Resources, loaders: int) -> dict[str, float]:
    """What Ray is asked for a replica: each process that decodes images occupies a core, beside those of training."""
    return {"CPU": share.cpus + loaders, "GPU": share.gpus}


def fitting(share: Resources, loaders: int, nodes: Sequence[Mapping[str, float]], lower: str = LOWER) -> int:
    """How many trials fit on these nodes at once, replicas on any of them; raises `UserError` when not one does.

    `lower` says how the resources are lowered.
    """
    wanted = {name: amount for name, amount in request(share, loaders).items() if amount}
    fits = [min(floor(node.get(name, 0.0) / amount + 1e-9) for name, amount in wanted.items()) for node in nodes]
    if sum(fits) < share.replicas:
        there = "; ".join(sorted({_described(node) for node in nodes}))
        which = f"there is room for {sum(fits)} replicas of a trial"
        which = which if share.replicas > 1 else "no node can hold a trial"
        more, remedy = (f" and --loaders {loaders}", " or --loaders") if loaders else ("", "")
        raise UserError(
            f"resources: {which} with {share}{more}; the cluster has {there}. {lower}{remedy}; "
            "where nodes come on demand, run with --autoscaling"
        )
    return sum(fits) // share.replicas


def _described(node: Mapping[str, float]) -> str:
    return f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs on a node"


def lowered_by_option(shares: Shares) -> str:
    """How the resources of a sweep are lowered that is run as the store remembers it."""
    change = "resources.cpus=1" if shares.given.keys() <= {"cpus"} else '"resources={cpus: 1}"'
    return f"Lower them with `--set {change}`"


def distinct(shares: Iterable[Resources]) -> list[Resources]:
    """Each once, in the order in which they first come."""
    return list(dict.fromkeys(shares))
