"""The methods. Adding one is a file beside this one and a line here."""

from __future__ import annotations

from prunesweep.workers import registry
from prunesweep.workers.errors import UserError
from prunesweep.workers.lineage import scoped
from prunesweep.workers.methods.base import Method
from prunesweep.workers.registry import Entry
from prunesweep.workers.spec import ALL, Choice, PruneStage, Stage, TrainStage, TrialSpec, evaluated

METHODS: dict[str, Entry] = {
    "dense": Entry("prunesweep.workers.methods.dense:Dense"),
    "small_dense": Entry("prunesweep.workers.methods.small_dense:SmallDense"),
    "imp": Entry("prunesweep.workers.methods.imp:IMP"),
    "bimp": Entry("prunesweep.workers.methods.bimp:BIMP"),
    "random": Entry("prunesweep.workers.methods.random:RandomPruning"),
    "gmp": Entry("prunesweep.workers.methods.gmp:GMP"),
    "gsm": Entry("prunesweep.workers.methods.gsm:GSM"),
    "dpf": Entry("prunesweep.workers.methods.dpf:DPF"),
    "dnw": Entry("prunesweep.workers.methods.dnw:DNW"),
    "lc": Entry("prunesweep.workers.methods.lc:LC"),
    "str": Entry("prunesweep.workers.methods.str:STR"),
    "dst": Entry("prunesweep.workers.methods.dst:DST"),
    "static": Entry("prunesweep.workers.methods.static:Static"),
    "set": Entry("prunesweep.workers.methods.set:SET"),
    "rigl": Entry("prunesweep.workers.methods.rigl:RigL"),
    "snip": Entry("prunesweep.workers.methods.snip:SNIP"),
    "grasp": Entry("prunesweep.workers.methods.grasp:GraSP"),
    "synflow": Entry("prunesweep.workers.methods.synflow:SynFlow"),
    "acdc": Entry("prunesweep.workers.methods.acdc:ACDC"),
    "granet": Entry("prunesweep.workers.methods.granet:GraNet"),
    "sr_ste": Entry("prunesweep.workers.methods.sr_ste:SRSTE"),
    "cs": Entry("prunesweep.workers.methods.cs:CS"),
}


def method_class(name: str) -> type[Method]:
    """The class that a method's name stands for; raises `UserError` with the nearest name, or for what is no method."""
    cls = registry.load(registry.find("method", METHODS, name).target)
    if not (isinstance(cls, type) and issubclass(cls, Method)):
        raise UserError(f"{name} is no method: a class derived from prunesweep.Method is wanted")
    return cls


def last_stage(trial: TrialSpec) -> Stage:
    """The stage whose result is the trial's, as its method says, with the weights in scope that the trial has.

    Where the trial asks for corrupted test sets, it is the one that evaluates on them.
    """
    stage = create(trial.method).stage(trial)
    assert isinstance(stage, TrainStage | PruneStage), "a method's last stage is a whole one"
    return evaluated(stage if trial.prune == ALL else scoped(stage, trial.prune), trial.test_sets)


def create(choice: Choice) -> Method:
    """The method with the hyperparameters of a spec."""
    return method_class(choice.name)(**choice.settings)
