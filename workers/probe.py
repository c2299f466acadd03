"""What a network is asked before it trains: one batch of real images goes through it, forward and backward.

Whatever can be served is: lazy modules take their shapes from the batch, a network that cannot compute in channels-last
layout gets contiguous tensors, tuples and mappings are read (`workers.outputs`). What cannot be served is a `UserError`
that names the model, and the module where there is one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

from prunesweep.workers import checkpoint, precision
from prunesweep.workers.causes import is_out_of_memory
from prunesweep.workers.data.base import Dataset
from prunesweep.workers.data.portions import batch_sizes
from prunesweep.workers.errors import UserError
from prunesweep.workers.seeding import preserved
from prunesweep.workers.tasks.soundness import require_sound
from prunesweep.workers.training import Network, contiguous, part_count

log = logging.getLogger("prunesweep")

ERRORS = (RuntimeError, ValueError, TypeError, LookupError, AssertionError, AttributeError)
"""What torch raises when tensors do not fit, or a module misses something."""


def place(model: nn.Module, name: str, dataset: Dataset, device: torch.device, dtype: torch.dtype) -> bool:
    """Move a model to its device and type, in channels-last layout if it computes in it; returns whether it does.

    Modules that are lazy get their shapes. The model evaluates two training images, and is left in training mode.
    """
    images, _ = next(iter(dataset.evaluation_batches("train", batch_size=2, dtype=dtype)))
    for parameter, values in model.named_parameters():
        if values.is_complex():
            raise UserError(
                f"model {name}: its weight {parameter} is complex, and methods rank and mask real numbers; compute "
                "with two real parameters in its place, its real and its imaginary part"
            )
    _cast(model, device, dtype)
    model.eval()
    if any(map(is_lazy, [*model.parameters(), *model.buffers()])):
        with _named(model, name, images), torch.no_grad():
            model(contiguous(images))
        _cast(model, device, dtype)
    channels_last = _computes_channels_last(model, images)
    if not channels_last:
        for tensor in [*model.parameters(), *model.buffers()]:
            tensor.data = contiguous(tensor.data)
        with _named(model, name, images), torch.no_grad():
            model(contiguous(images))
        log.info("model %s does not compute in channels-last layout: its tensors are contiguous", name)
    model.train()
    return channels_last


def _cast(model: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """As `model.to(device, dtype)`, which would make real numbers of complex buffers, such as rotary embeddings."""

    def cast(tensor: Tensor) -> Tensor:
        return tensor.to(device, dtype if tensor.is_floating_point() else None)

    model._apply(cast)  # type: ignore[no-untyped-call]


def _computes_channels_last(model: nn.Module, images: Tensor) -> bool:
    try:
        model.to(memory_format=torch.channels_last)
        with torch.no_grad():
            model(images)
    except ERRORS as error:
        if is_out_of_memory(error):
            raise
        return False  # it may fail otherwise as well, and then says why
    return True


def refusal(network: Network, name: str, dataset: Dataset, replicas: int = 1) -> str | None:
    """What `examine` has against a network, in words that another process can be told; None where it has nothing."""
    try:
        examine(network, name, dataset, replicas)
    except UserError as error:
        return str(error)
    return None


def examine(network: Network, name: str, dataset: Dataset, replicas: int = 1, most: int | None = None) -> None:
    """Train a copy of the network on a batch; raises `UserError` when its numbers would be wrong or it cannot train.

    The loss must be finite, there must be a logit for each class, something must learn, an epoch's last batch must be
    one that it can train on, and what its `state_dict` holds must come back from a checkpoint. The batch is as large as
    the largest part that one of the replicas gets, or has `most` images; batch norm sees the whole one, so that a part
    may be one image.
    """
    dtype = precision.storage(network.train.precision)
    whole = min(network.train.batch_size, dataset.count("train"))
    part = -(-whole // (replicas * network.train.accumulate))
    batch_size = max(min(2, whole), min(part, most or whole))
    images, targets = next(iter(dataset.evaluation_batches("train", batch_size=batch_size, dtype=dtype)))
    model = _copied(network.model)
    if model is None:
        log.info("model %s cannot be copied: it is not examined before it trains", name)
        return
    copied = Network(
        model, network.train, network.device, task=network.task, channels_last=network.channels_last, compiled=False
    )
    copied.model.train()
    with preserved():
        _train(copied, name, dataset.classes, images, targets)
        sizes = batch_sizes(dataset.count("train"), network.train.batch_size)
        if 1 in (size // part_count(size, network.train) for size in (sizes[0], sizes[-1])):
            _require_batch_of_one(copied, name, images[:1], dataset.count("train"))
    _require_storable(copied.model, name)


def _copied(model: nn.Module) -> nn.Module | None:
    """None where a module holds what cannot be copied, such as a lock or a tensor with a history."""
    try:
        return deepcopy(model)
    except (TypeError, RuntimeError):
        return None


def _train(network: Network, name: str, classes: int, images: Tensor, targets: Tensor) -> None:
    parameters = list(network.model.parameters())
    if parameters and not any(p.requires_grad for p in parameters):
        raise UserError(f"model {name}: nothing would learn, since all its parameters are frozen (requires_grad off)")
    with _named(network.model, name, images), network.computing():
        outputs = network.outputs(images)
        require_sound(network.task, name, outputs.logits, targets, classes)
        loss = network.loss(outputs, targets, len(targets))
    if not loss.requires_grad:
        raise UserError(f"model {name}: nothing would learn: its logits depend on no parameter; is there a detach?")
    if not bool(loss.isfinite()):
        raise UserError(
            f"model {name}: its loss on the first batch is {float(loss.detach())}, before anything has been learned; "
            "its initial weights or its forward pass give numbers that are not finite"
        )
    with _named(network.model, name, images, "backward"):
        torch.autograd.backward(loss)
    for parameter, values in network.model.named_parameters():
        if values.grad is not None and values.grad.is_sparse:
            raise UserError(
                f"model {name}: the gradient of {parameter} is sparse, and optimizers and methods need whole ones; "
                "build its nn.Embedding without sparse=True"
            )


def _require_batch_of_one(network: Network, name: str, image: Tensor, images: int) -> None:
    try:
        with network.computing(), torch.no_grad():
            network.outputs(image)
    except ERRORS as error:
        norms = [f"{n} ({type(m).__name__})" for n, m in network.model.named_modules() if isinstance(m, _BatchNorm)]
        if not norms:
            raise
        size, parts = network.train.batch_size, network.train.accumulate
        if parts > 1:
            raise UserError(
                f"model {name} cannot train on single images, as train.accumulate: {parts} makes of batches of {size}: "
                f"batch norm in {norms[0]} needs more than one value per channel; take fewer parts"
            ) from error
        raise UserError(
            f"model {name} cannot train on the last batch of an epoch, a single image of the {images}: batch norm in "
            f"{norms[0]} needs more than one value per channel; take a batch_size other than {size}, such as {size + 1}"
        ) from error


def _require_storable(model: nn.Module, name: str) -> None:
    try:
        stored = checkpoint.unpack_tensors(checkpoint.pack_tensors(model.state_dict()))
        checkpoint.load_network(model, stored)
    except (ValueError, TypeError, RuntimeError, LookupError) as error:
        raise UserError(f"model {name}: its state_dict does not go into a checkpoint and back: {error}") from error


@contextmanager
def _named(model: nn.Module, name: str, images: Tensor, direction: str = "forward") -> Iterator[None]:
    """What fails inside is said with the module that failed; errors of one's own code keep their traceback as cause."""
    try:
        yield
    except UserError as error:
        said = str(error)
        raise UserError(said if said.startswith("model ") else f"model {name}: {said}") from error
    except ERRORS as error:
        if is_out_of_memory(error):
            raise
        module = _failing(model, error)
        said = str(error).partition("\n")[0] or type(error).__name__
        if "dtype" in said or "scalar type" in said:
            said += f"; all weights are {str(_type_of(model)).removeprefix('torch.')} here, as train.precision says"
        shape = "x".join(map(str, images.shape))
        raise UserError(f"model {name}: its {direction} pass fails{module} on images {shape}: {said}") from error


def _type_of(model: nn.Module) -> torch.dtype:
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


def _failing(model: nn.Module, error: BaseException) -> str:
    """` in NAME (its class)` of the innermost module in the traceback."""
    names = {id(module): name for name, module in model.named_modules() if name}
    inner, trace = "", error.__traceback__
    while trace is not None:
        module = trace.tb_frame.f_locals.get("self")
        if id(module) in names:
            inner = f" in {names[id(module)]} ({type(module).__name__})"
        trace = trace.tb_next
    return inner
