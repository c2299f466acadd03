"""A finished trial's network as ONNX: weights as they are, any number of images."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch.onnx import OnnxExporterError

from prunesweep.orchestrator.export.networks import Form, NotExported, Trained
from prunesweep.workers.replicas import ALONE
from prunesweep.workers.scoring import Tally

LIMIT = 2**31 - 2**20
"""Bytes of weights: protobuf writes less than 2 GiB, and the graph is a part of it."""

IMAGES, LOGITS = "images", "logits"
"""What the input [N, C, H, W] and the output [N, classes] are called, also where the output is another task's."""


def onnx() -> Form:
    """Files for any ONNX runtime; ONNX Runtime evaluates them here, on the CPU and in float32."""
    return Form(".onnx", _write, _metric, lambda trained: False)


def _write(trained: Trained, file: Path) -> None:
    """Without the exporter's optimizer, which multiplies batch norm into the weights and renames some of them.

    So the initializers are the tensors of the `state_dict`, by name and bit for bit; runtimes fold them when they load.
    """
    model, which = trained.model(trained.tensors).float(), trained.row["trial"]
    if sum(tensor.nbytes for tensor in model.state_dict().values()) >= LIMIT:
        raise NotExported(f"trial {which}: {trained.spec.model} is larger than an ONNX file may be, 2 GiB")
    example = torch.zeros(2, *trained.dataset.shape)  # of one image the exporter would make a constant
    try:
        with _silence():
            program = torch.onnx.export(
                model,
                (example,),
                input_names=[IMAGES],
                output_names=[LOGITS],
                dynamic_shapes=({0: "batch"},),
                dynamo=True,
                optimize=False,
                verbose=False,
            )
    except OnnxExporterError as error:
        said = str(error.__cause__ or error).strip().partition("\n")[0]
        raise NotExported(f"trial {which}: {trained.spec.model} cannot be written as ONNX: {said}") from error
    assert program is not None
    program.model.metadata_props.update(trained.metadata())
    program.save(file, external_data=False)


@contextmanager
def _silence() -> Iterator[None]:
    """Where the exporter fails, it prints pages of its own inner code; the error says enough."""
    for chatty in ("torch", "onnxscript"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    with redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
        yield


def _metric(trained: Trained, file: Path) -> float | None:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    batches = trained.dataset.evaluation_batches("test", batch_size=trained.spec.train.evaluation_batch_size)
    task, tally = trained.task, Tally(ALONE)
    for images, targets in batches:
        outputs = torch.from_numpy(session.run([LOGITS], {IMAGES: np.ascontiguousarray(images.numpy())})[0])
        tally.add(torch.zeros(()), task.running(outputs, targets), len(targets))
    return tally.score(task).metrics[task.primary.name]
