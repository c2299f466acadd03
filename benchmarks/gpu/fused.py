"""Networks of one shape trained as one: by `torch.func` with `vmap`, and with grouped convolutions by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional

from prunesweep.workers.models.resnet import Block


class Stacked:
    """The networks' parameters stacked, and one call for all: images [M, B, C, H, W] -> logits [M, B, classes]."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        self.state, self.buffers = stack_module_state(list(networks))
        skeleton = deepcopy(networks[0]).to("meta")

        def call(state: dict[str, Tensor], buffers: dict[str, Tensor], images: Tensor) -> Tensor:
            logits: Tensor = functional_call(skeleton, (state, buffers), (images,))
            return logits

        self.call: Callable[..., Tensor] = vmap(call)

    def parameters(self) -> list[Tensor]:
        """[M, ...] each."""
        return list(self.state.values())

    def __call__(self, images: Tensor) -> Tensor:
        """All networks on their own images."""
        return self.call(self.state, self.buffers, images)


class Grouped(nn.Module):
    """CIFAR ResNets side by side in the channels of one, in M groups; as `Stacked` to its caller."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.count = len(networks)
        self.network = merged(networks)
        for block in self.network.modules():
            if isinstance(block, Block):
                block.shortcut = Shortcut(block, self.count)  # type: ignore[method-assign]

    def forward(self, images: Tensor) -> Tensor:
        """All networks on their own images."""
        images = images.transpose(0, 1).flatten(1, 2).contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.network(images)
        return logits


def merged(networks: Sequence[nn.Module]) -> nn.Module:
    """A copy of the first whose layers are those of all."""
    whole = deepcopy(networks[0])
    for name, _ in list(whole.named_modules()):
        layers = [network.get_submodule(name) for network in networks]
        layer = layers[0]
        if isinstance(layer, nn.Conv2d | nn.BatchNorm2d | nn.Linear):
            parent, _, own = name.rpartition(".")
            setattr(whole.get_submodule(parent), own, side_by_side(layers))
    return whole


def side_by_side(layers: Sequence[nn.Module]) -> nn.Module:
    """One layer that does what all of them do, each in its own channels."""
    count, first = len(layers), layers[0]
    if isinstance(first, nn.Linear):
        return Linears(layers)
    if isinstance(first, nn.Conv2d):
        assert first.bias is None
        inputs, outputs = count * first.in_channels, count * first.out_channels
        stride, padding = (first.stride[0], first.stride[1]), first.padding
        assert not isinstance(padding, str)
        whole: nn.Module = nn.Conv2d(inputs, outputs, 3, stride, (padding[0], padding[1]), groups=count, bias=False)
    else:
        assert isinstance(first, nn.BatchNorm2d)
        whole = nn.BatchNorm2d(count * first.num_features)
    state = [layer.state_dict() for layer in layers]
    whole.load_state_dict(
        {
            key: state[0][key] if value.dim() == 0 else torch.cat([s[key] for s in state])
            for key, value in state[0].items()
        }
    )
    return whole.to(next(first.parameters()).device)


class Linears(nn.Module):
    """The networks' last layers: [B, M inputs] -> [M, B, outputs]."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.stack([layer.get_parameter("weight").detach() for layer in layers]))
        self.bias = nn.Parameter(torch.stack([layer.get_parameter("bias").detach() for layer in layers]))

    def forward(self, hidden: Tensor) -> Tensor:
        """All of them, on their own features."""
        own = hidden.reshape(len(hidden), len(self.weight), -1).transpose(0, 1)
        return torch.baddbmm(self.bias[:, None], own, self.weight.transpose(1, 2))


class Shortcut:
    """Option A in groups: each network's zeros stand beside its own channels."""

    def __init__(self, block: Block, count: int) -> None:
        self.stride, self.added, self.count = block.stride, block.added, count

    def __call__(self, x: Tensor) -> Tensor:
        """[B, M inputs, H, W] -> [B, M outputs, ...]."""
        if self.stride == 1 and self.added == 0:
            return x
        before = self.added // 2
        small = x[:, :, :: self.stride, :: self.stride]
        own = small.reshape(len(x), self.count, -1, *small.shape[2:])
        return functional.pad(own, (0, 0, 0, 0, before, self.added - before)).flatten(1, 2)


def loss_of(logits: Tensor, targets: Tensor) -> Tensor:
    """The networks' mean losses, added up: each network's gradient is that of its own."""
    return len(logits) * functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
