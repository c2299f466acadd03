"""Batch norm over the batches of all replicas, forward and backward, whatever module asks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional
from torch.nn.modules._functions import SyncBatchNorm
from torch.overrides import TorchFunctionMode


class WholeBatch(TorchFunctionMode):
    """Inside it, batch norm in training takes its statistics from the portions of all replicas.

    The model's modules stay what they are: to replace them, as torch's `convert_sync_batchnorm` does, would lose what a
    subclass adds (timm's apply the activation), and torch's SyncBatchNorm refuses tensors on a CPU.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Every function of torch comes by here."""
        return (batch_norm if func is functional.batch_norm else func)(*args, **(kwargs or {}))


@torch.compiler.disable  # type: ignore[untyped-decorator]
def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """`torch.nn.functional.batch_norm`, in training over all replicas; any of them may have no images."""
    if not training:
        return functional.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    if input.device.type == "cuda":
        settings = (running_mean, running_var, eps, momentum, dist.group.WORLD, dist.get_world_size())
        fused: Tensor = SyncBatchNorm.apply(input, weight, bias, *settings)
        return fused
    count, mean, variance = _statistics(input.detach())
    if count < 2:
        raise ValueError(f"batch norm in training needs more than one value per channel, got {tuple(input.shape)}")
    _track(running_mean, mean, momentum)
    _track(running_var, variance * (count / (count - 1)), momentum)
    shape = [1, -1] + [1] * (input.dim() - 2)
    dtype = torch.promote_types(input.dtype, torch.float32)
    invstd = (variance + eps).rsqrt()
    mean, invstd = (statistic.to(dtype).view(shape) for statistic in (mean, invstd))
    normal: Tensor = _Normalise.apply(input.to(dtype), mean, invstd, count)
    if weight is not None:
        normal = normal * weight.view(shape)
    if bias is not None:
        normal = normal + bias.view(shape)
    return normal.to(input.dtype)


def _statistics(values: Tensor) -> tuple[float, Tensor, Tensor]:
    """How many values each channel has in all, their mean [C] and their variance [C], the same bits on all replicas."""
    dims, own = [0, *range(2, values.dim())], values.numel() // values.shape[1]
    if own:
        variance, mean = torch.var_mean(values.to(torch.promote_types(values.dtype, torch.float32)), dims, correction=0)
    else:
        variance = mean = values.new_zeros(values.shape[1])
    mine = torch.cat([mean.new_tensor([own]), mean, variance]).double()
    every = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(every, mine)
    counts, means, variances = torch.split(torch.stack(every), [1, len(mean), len(mean)], 1)
    shares = counts / counts.sum()
    mean = (shares * means).sum(0)
    return float(counts.sum()), mean, (shares * (variances + (means - mean).square())).sum(0)


def _track(running: Tensor | None, current: Tensor, momentum: float) -> None:
    if running is not None:
        running.mul_(1 - momentum).add_(current.to(running.dtype), alpha=momentum)


class _Normalise(Function):
    """(x - mean) / deviation, where both are functions of the x of all replicas."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mean: Tensor, invstd: Tensor, count: float) -> Tensor:
        """`mean` and `invstd` [1, C, 1, ...] are those of `count` values."""
        normal = x.sub(mean).mul_(invstd)
        ctx.save_for_backward(normal, invstd)
        ctx.count = count
        return normal

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        """The gradient of x; the parts through mean and deviation need two sums a channel, over all replicas."""
        normal, invstd = ctx.saved_tensors
        (gradient,) = gradients
        dims = [0, *range(2, normal.dim())]
        sums = torch.stack([gradient.sum(dims), (gradient * normal).sum(dims)])
        dist.all_reduce(sums)
        plain, along = (channel_means.view(invstd.shape) for channel_means in sums / ctx.count)
        return (gradient - plain).sub_(normal * along).mul_(invstd), None, None, None
