"""The next token of a text."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from prunesweep.workers.lazy import torch
from prunesweep.workers.tasks.base import Metric, Task, beyond

if TYPE_CHECKING:
    from torch import Tensor

    from prunesweep.workers.tasks.base import Sums


class LanguageModelling(Task):
    """Cross-entropy of logits [B, T, vocabulary] and next tokens int64 [B, T]; bits per token is the primary metric.

    Where tokens are bytes, as in the dataset `text`, these are bits per byte. A sequence's loss is the mean over its
    tokens, in nats; perplexity is its exponential, over all tokens.
    """

    metrics = (
        Metric("bits_per_token", "mean cross-entropy of the next token, in bits", "lower"),
        Metric("perplexity", "exponential of the mean cross-entropy in nats", "lower"),
        Metric("token_accuracy", "share of next tokens that are the likeliest", "higher", "fraction"),
    )
    targets = "tokens"
    smooths = True

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return _entropy(outputs, targets, self.label_smoothing).mean(1)

    def sums(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {
            "nats": _entropy(outputs, targets, 0.0).double().sum(),
            "hits": (outputs.argmax(2) == targets).sum(),
            "tokens": targets.new_tensor(targets.numel()),
        }

    def measured(self, sums: Sums, images: int) -> dict[str, float | None]:
        tokens = float(sums["tokens"])
        nats = float(sums["nats"]) / tokens
        return {
            "bits_per_token": nats / math.log(2),
            "perplexity": math.exp(nats) if nats < 700 else None,
            "token_accuracy": float(sums["hits"]) / tokens,
        }

    def problem(self, outputs: Tensor, targets: Tensor, classes: int) -> str | None:
        if outputs.dim() != 3 or outputs.shape[:2] != targets.shape or outputs.shape[2] < classes:
            wanted = [*targets.shape, classes]
            return f"gives outputs {list(outputs.shape)} where logits {wanted} are needed, for the token after each one"
        return beyond(targets, outputs.shape[2])


def _entropy(outputs: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Of each token, [B, T]."""
    return torch.nn.functional.cross_entropy(
        outputs.transpose(1, 2), targets, label_smoothing=smoothing, reduction="none"
    )
