"""More networks for grey images of 8 x 8 pixels and five classes, of kinds that papers and libraries have.

`MEASURED` names each with its prunable weights, `REFUSED` with what the error must name.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import DeformConv2d

from tests.workers.zoo import CLASSES, Call, Head, MakesNetwork


class Remembers(nn.Module):
    """Body and head, where evaluation may compute with something else than the body's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(64, 16), nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        body = self.body(x) if self.training else self.evaluated(x)
        return self.head(body.relu())

    def evaluated(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class AverageForEachImage(Remembers):
    """A running average in a buffer, copied for every image."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("average", torch.zeros(16, 64))

    def evaluated(self, x: Tensor) -> Tensor:
        return torch.bmm(self.average.repeat(len(x), 1, 1), x[:, :, None])[:, :, 0]


class Quantised(Remembers):
    """Eight bits and a scale, in buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bits", torch.zeros(16, 64, dtype=torch.int8))
        self.register_buffer("scale", torch.ones(1))

    def evaluated(self, x: Tensor) -> Tensor:
        return F.linear(x, self.bits.to(x.dtype) * self.scale, self.body.bias)


class CastForEvaluation(Remembers):
    """A copy in an attribute, in another type, made when evaluation begins."""

    def train(self, mode: bool = True) -> CastForEvaluation:
        self.copy = None if mode else self.body.weight.detach().bfloat16()
        return super().train(mode)

    def evaluated(self, x: Tensor) -> Tensor:
        return F.linear(x, self.copy.to(x.dtype), self.body.bias)


class MergedForEvaluation(Remembers):
    """LoRA, whose product is added to the weight itself when evaluation begins."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(64, 2, bias=False), nn.Linear(2, 16, bias=False)

    def train(self, mode: bool = True) -> MergedForEvaluation:
        if mode is not self.training:
            product = (self.up.weight @ self.down.weight).detach()
            self.body.weight.data += -product if mode else product
        return super().train(mode)

    def evaluated(self, x: Tensor) -> Tensor:
        return self.body(x)


class OtherParametersForEvaluation(Remembers):
    """As RepVGG does it: its branches become one layer."""

    def train(self, mode: bool = True) -> OtherParametersForEvaluation:
        self.fused = None if mode else nn.Linear(64, 16)
        return super().train(mode)

    def evaluated(self, x: Tensor) -> Tensor:
        return self.fused(x)


class EvaluatedByNumPy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(64, 16), nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        if self.training:
            return self.head(self.body(x))
        return self.head(torch.from_numpy(x.numpy() @ self.body.weight.detach().numpy().T))


class PartlyByNumPy(EvaluatedByNumPy):
    """Beside it a layer of torch, so that the logits come from both."""

    def __init__(self) -> None:
        super().__init__()
        self.beside = nn.Linear(64, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.beside(x.flatten(1))


class FiltersFromNumPy(nn.Module):
    """Fixed filters, as many as there are images."""

    def __init__(self, count: int = 16) -> None:
        super().__init__()
        self.filters, self.head = np.random.default_rng(0).normal(size=(count, 1, 3, 3)), Head(count)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.conv2d(x, torch.from_numpy(self.filters).to(x)))


class FusedBatchNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), Head(4)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return self.head(self.norm(self.conv(x)))
        return self.head(nn.utils.fusion.fuse_conv_bn_eval(self.conv, self.norm)(x))


class LearnedMask(nn.Module):
    """Attention with a learned bias of places, the same for every image, and no projection after it."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.bias, self.head = nn.Linear(8, 24), nn.Parameter(torch.randn(1, 2, 8, 8)), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x.flatten(1, 2)).view(len(x), 8, 3, 2, 4).permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=self.bias.expand(len(x), -1, -1, -1))
        return self.head(x.transpose(1, 2).flatten(2).mean(1))


class Memory(nn.Module):
    """Attention whose keys and values are parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.keys, self.values = nn.Parameter(torch.randn(1, 2, 6, 4)), nn.Parameter(torch.randn(1, 2, 6, 4))
        self.q, self.head = nn.Linear(8, 8), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        q = self.q(x.flatten(1, 2)).view(len(x), 8, 2, 4).transpose(1, 2)
        keys, values = (memory.expand(len(x), -1, -1, -1) for memory in (self.keys, self.values))
        return self.head(F.scaled_dot_product_attention(q, keys, values).transpose(1, 2).flatten(2).mean(1))


class FourierFeatures(nn.Module):
    """A random projection that is fixed, beside a table of places of the same size."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("projection", torch.randn(8, 8))
        self.places, self.head = nn.Parameter(torch.randn(1, 8, 8)), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((x.flatten(1, 2) @ self.projection + self.places).sin().mean(1))


class Deformable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.offset, self.conv = nn.Conv2d(1, 18, 3, padding=1), DeformConv2d(1, 4, 3, padding=1)
        self.head = Head(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x, self.offset(x)))


class TopExpert(nn.Module):
    """Images go to the expert that the gate says; one that hears of none is not called."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.experts = nn.Linear(64, 4), nn.ModuleList([nn.Linear(64, CLASSES) for _ in range(4)])

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        chosen, out = self.gate(x).argmax(-1), x.new_zeros(len(x), CLASSES)
        for number, expert in enumerate(self.experts):
            rows = chosen == number
            if rows.any():
                out[rows] = expert(x[rows])
        return out


class SecondLook(nn.Module):
    """Images whose first pixel is above a threshold take a second layer."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold
        self.body, self.second, self.head = nn.Linear(64, 16), nn.Linear(16, 16), nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        chosen, x = x[:, 0, 0, 0] > self.threshold, self.body(x.flatten(1))
        if chosen.any():
            x = x.clone()
            x[chosen] = self.second(x[chosen])
        return self.head(x)


class BatchEnsemble(nn.Module):
    """Four members share a matrix; each has scales of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.head = nn.Linear(64, 16), nn.Linear(16, CLASSES)
        self.scales = nn.Parameter(torch.randn(4, 1, 64))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.shared(x.flatten(1) * self.scales).mean(0))


class Shuffled(nn.Module):
    """Its kernel gets the weight's columns in another order."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(64, 16), nn.Linear(16, CLASSES)
        self.register_buffer("order", torch.randperm(64))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.linear(x.flatten(1), self.body.weight[:, self.order]))


def called(scale: float) -> nn.Module:
    """`functional_call` with the parameters, which may be scaled."""

    def run(self: Call, x: Tensor) -> Tensor:
        given = {name: p * scale if scale != 1 else p for name, p in self.net.named_parameters()}
        return torch.func.functional_call(self.net, given, (x.flatten(1),))

    return Call(run, net=nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, CLASSES)))


def masked_filter(self: Call, x: Tensor) -> Tensor:
    """PixelCNN's: the weight is multiplied by a fixed mask."""
    return self.head(F.conv2d(x, self.conv.weight * torch.ones(3, 3).triu()))


def cosine(self: Call, x: Tensor) -> Tensor:
    return F.linear(F.normalize(self.body(x.flatten(1))), F.normalize(self.directions))


def every_expert(self: Call, x: Tensor) -> Tensor:
    return torch.func.vmap(lambda weight: F.linear(x.flatten(1), weight))(self.members).mean(0)


MEASURED: dict[str, tuple[MakesNetwork, dict[str, tuple[int, ...]]]] = {
    "a learned bias of attention": (LearnedMask, {"qkv.weight": (24, 8), "head.weight": (5, 8)}),
    "learned keys and values": (
        Memory,
        {"keys": (1, 2, 6, 4), "values": (1, 2, 6, 4), "q.weight": (8, 8), "head.weight": (5, 8)},
    ),
    "random features": (FourierFeatures, {"head.weight": (5, 8)}),
    "deformable": (
        Deformable,
        {"offset.weight": (18, 1, 3, 3), "conv.weight": (4, 1, 3, 3), "head.out.weight": (5, 4)},
    ),
    "filters from NumPy": (FiltersFromNumPy, {"head.out.weight": (5, 16)}),
    "batch ensemble": (BatchEnsemble, {"shared.weight": (16, 64), "head.weight": (5, 16)}),
    "columns in another order": (Shuffled, {"body.weight": (16, 64), "head.weight": (5, 16)}),
    "functional_call": (lambda: called(1), {"net.0.weight": (16, 64), "net.2.weight": (5, 16)}),
    "vmap": (lambda: Call(every_expert, members=torch.randn(3, CLASSES, 64)), {"members": (3, 5, 64)}),
    "a decoder": (
        lambda: Call(
            lambda s, x: s.head(s.decoder(s.query.expand(len(x), -1, -1), x.flatten(1, 2)).mean(1)),
            decoder=nn.TransformerDecoderLayer(8, 2, 16, batch_first=True),
            query=torch.randn(3, 8),
            head=nn.Linear(8, CLASSES),
        ),
        {
            "decoder.self_attn.in_proj_weight": (24, 8),
            "decoder.self_attn.out_proj.weight": (8, 8),
            "decoder.multihead_attn.in_proj_weight": (24, 8),
            "decoder.multihead_attn.out_proj.weight": (8, 8),
            "decoder.linear1.weight": (16, 8),
            "decoder.linear2.weight": (8, 16),
            "head.weight": (5, 8),
        },
    ),
    "experts with an image or none": (
        TopExpert,
        {"gate.weight": (4, 64), **{f"experts.{i}.weight": (5, 64) for i in range(4)}},
    ),
}

REFUSED: dict[str, tuple[MakesNetwork, str]] = {
    "a running average, copied for each image": (AverageForEachImage, r"body\.weight reaches no kernel"),
    "eight bits in a buffer": (Quantised, r"body\.weight reaches no kernel"),
    "a copy of another type": (CastForEvaluation, r"body\.weight reaches no kernel"),
    "LoRA, merged by eval()": (MergedForEvaluation, r"eval\(\) changes body\.weight"),
    "other parameters in evaluation": (OtherParametersForEvaluation, r"eval\(\) gives it other parameters"),
    "forward in NumPy": (EvaluatedByNumPy, "NumPy"),
    "forward in NumPy, in part": (PartlyByNumPy, "images that have left torch"),
    "batch norm, fused in evaluation": (FusedBatchNorm, r"conv\.weight"),
    "functional_call, scaled": (lambda: called(0.9), r"layer net\.0: .*net\.0\.weight"),
    "masked filter": (lambda: Call(masked_filter, conv=nn.Conv2d(1, 4, 3), head=Head(4)), r"conv\.weight"),
    "cosine": (
        lambda: Call(cosine, body=nn.Linear(64, 16), directions=torch.randn(CLASSES, 16)),
        "directions",
    ),
    "fake quantisation": (
        lambda: Call(
            lambda s, x: F.linear(x.flatten(1), torch.fake_quantize_per_tensor_affine(s.weight, 0.1, 0, -128, 127)),
            weight=torch.randn(CLASSES, 64),
        ),
        r"\(weight\)",
    ),
    "Kronecker product": (
        lambda: Call(
            lambda s, x: s.head(F.linear(x.flatten(1), torch.kron(s.a, s.b))),
            a=torch.randn(4, 8),
            b=torch.randn(4, 8),
            head=nn.Linear(16, CLASSES),
        ),
        r"\(a, b\)",
    ),
}
