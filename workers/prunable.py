"""Which weights are prunable: matrices that reach a kernel as they are. A network that hides one is refused."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from torch import nn

from prunesweep.workers.errors import Ineffective, UserError
from prunesweep.workers.recorded import Constant, Recording, Transformed

REMEDY = (
    "zeros in the stored weight would not be zeros in the kernel, so it cannot be pruned; take a network whose layers "
    "use their weights as they are (without weight standardisation, weight_norm, spectral_norm or other "
    "parametrizations)"
)

SHOWN = 3

log = logging.getLogger("prunesweep")


def prunable(model: nn.Module, recording: Recording) -> dict[str, nn.Parameter]:
    """The prunable weights by `state_dict` name, in the network's order, a shared one once.

    They are those of two dimensions and more that reach a convolution or matrix product in evaluation as they are;
    what the evaluation does not use is not among them. Raises `UserError` for a network without any, and by the
    layer's name for one whose kernels receive other values than its parameters hold.
    """
    parameters = dict(model.named_parameters())
    weights = {n: p for n, p in parameters.items() if p.dim() >= 2 and n in recording.covered}
    for problem in _problems(parameters, weights, recording):
        raise UserError(f"{type(model).__name__}: {problem}")
    if not weights:
        raise UserError(
            f"{type(model).__name__} has no prunable weights: no convolution and no matrix product has one of its "
            "parameters as an operand"
        )
    return weights


def _problems(
    parameters: Mapping[str, nn.Parameter], weights: Mapping[str, nn.Parameter], recording: Recording
) -> list[str]:
    """Why the network must be refused, each with its layer."""
    problems = [*recording.problems, *_transformed(recording.transformed)]
    for first, second in recording.aliases:
        if first in weights or second in weights:
            problems.append(f"{first} and {second} are two parameters in the same memory; assign one to the other")
    partial = [name for name in weights if not recording.covered.get(name, True)]
    if partial:
        problems.append(
            f"of {_listed(partial)} only a part reaches a kernel, so that zeros elsewhere would save nothing; make "
            "the weight as large as what is used of it"
        )
    replaced = _replaced(parameters, recording)
    if replaced:
        problems.append(replaced)
    return problems


def _transformed(seen: Sequence[Transformed]) -> list[str]:
    if not seen:
        return []
    layers = list(dict.fromkeys(_described(case) for case in seen))
    return [f"{_listed(layers)}; {REMEDY}"]


def _described(case: Transformed) -> str:
    names = f" ({_listed(sorted(case.names))})" if case.names else ""
    return f"{_at(case.layer)}{case.reason}{names}"


def _at(layer: str) -> str:
    return f"layer {layer}: " if layer else ""


def _replaced(parameters: Mapping[str, nn.Parameter], recording: Recording) -> str | None:
    """A kernel that gets something like a parameter which reaches none: a copy in a buffer, or from outside torch."""
    reached = recording.covered.keys() | recording.felt
    unused = {p.numel(): name for name, p in parameters.items() if p.dim() >= 2 and name not in reached}
    for constant in recording.constants:
        for size in sorted(constant.sizes & unused.keys()):
            return (
                f"{_at(constant.layer)}its kernel receives a constant or a buffer, such as a running average, where "
                f"{unused[size]} reaches no kernel; evaluate with the parameter itself"
            )
    return None


def require_effective(
    model: nn.Module, weights: Mapping[str, nn.Parameter], before: Recording, after: Recording
) -> None:
    """The zeros of the prunable weights must be those that the kernels of the evaluation receive.

    `before` is what was recorded when these weights were found prunable, `after` the network as it is now. What has
    come into use since then is not pruned; it costs what a dense layer does. Raises `Ineffective` by the layers' names.
    """
    problems = _problems(dict(model.named_parameters()), weights, _only(weights, after))
    others = [n for n, p in model.named_parameters() if p.dim() >= 2 and n in after.covered and n not in weights]
    if others:
        log.warning("%s reached no kernel when the stage began: not pruned, and counted as dense", _listed(others))
    for use in after.uses:
        if use.name in weights and use.nonzero != use.expected:
            problems.append(
                f"{use.name} has {use.expected} values that are not zero, its kernel received {use.nonzero}"
            )
    problems += _changed(model, before.constants, after.constants)
    if problems:
        raise Ineffective("; ".join(problems[:SHOWN]))


def _only(weights: Mapping[str, nn.Parameter], recording: Recording) -> Recording:
    """Without what images alone decide: a weight of which fewer elements were picked than at first."""
    covered = {name: whole or name in weights for name, whole in recording.covered.items()}
    return Recording(
        recording.images,
        transformed=recording.transformed,
        constants=recording.constants,
        covered=covered,
        felt=recording.felt,
        aliases=recording.aliases,
        problems=recording.problems,
    )


def _changed(model: nn.Module, before: Sequence[Constant], after: Sequence[Constant]) -> list[str]:
    """Operands that are no parameters, have changed in training, and are as large as one: copies of weights."""
    sizes = {parameter.numel() for parameter in model.parameters() if parameter.dim() >= 2}
    known = {(constant.layer, constant.sizes, constant.digest) for constant in before}
    return [
        f"{_at(constant.layer)}its kernel receives a buffer that training has changed, and no mask prunes"
        for constant in after
        if constant.sizes & sizes and (constant.layer, constant.sizes, constant.digest) not in known
    ]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
