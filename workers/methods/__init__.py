"""The methods. Adding one is a file beside this one and a line here."""

from __future__ import annotations

from workers import registry
from workers.methods.base import Method
from workers.registry import Entry
from workers.spec import Choice

METHODS: dict[str, Entry] = {
    "dense": Entry("workers.methods.dense:Dense"),
    "imp": Entry("workers.methods.imp:IMP"),
    "bimp": Entry("workers.methods.bimp:BIMP"),
    "random": Entry("workers.methods.random:RandomPruning"),
    "gmp": Entry("workers.methods.gmp:GMP"),
    "gsm": Entry("workers.methods.gsm:GSM"),
    "dpf": Entry("workers.methods.dpf:DPF"),
    "dnw": Entry("workers.methods.dnw:DNW"),
    "lc": Entry("workers.methods.lc:LC"),
    "str": Entry("workers.methods.str:STR"),
    "dst": Entry("workers.methods.dst:DST"),
    "cs": Entry("workers.methods.cs:CS"),
}


def method_class(name: str) -> type[Method]:
    """The class that a method's name stands for; raises `UserError` with the nearest name."""
    found: type[Method] = registry.load(registry.find("method", METHODS, name).target)
    return found


def create(choice: Choice) -> Method:
    """A fresh method with the hyperparameters of a spec."""
    return method_class(choice.name)(**choice.settings)
