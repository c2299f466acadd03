"""Small networks of every kind that people bring, for grey images of 8 x 8 pixels and five classes.

`MEASURED` names each with its prunable weights; `REFUSED` with what the error must name.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm
from torch.utils.checkpoint import checkpoint

SHAPE = (1, 8, 8)
CLASSES = 5

MakesNetwork = Callable[[], nn.Module]


class Head(nn.Module):
    """Mean over all but batch and channels, then a linear layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x.flatten(2).mean(2))


class Tokens(nn.Module):
    """Eight tokens of eight pixels, around an inner network of [B, 8, 8] to [B, 8, 8]."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.out = inner, nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.inner(x.flatten(1, 2)).mean(1))


class Call(nn.Module):
    """A network of a function, with parameters, buffers and layers of its own."""

    def __init__(self, run: Callable[..., Tensor], **parts: Tensor | nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, nn.Parameter(part) if isinstance(part, Tensor) else part)
        self.run = run

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def conv(layer: nn.Module, width: int = 4) -> nn.Module:
    return nn.Sequential(layer, nn.ReLU(), Head(width))


# --- what is measured


class ViT(nn.Module):
    def __init__(self, norm_first: bool = True) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, 8, 4, 4)
        self.token, self.place = nn.Parameter(torch.randn(1, 1, 8)), nn.Parameter(torch.randn(1, 5, 8))
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=norm_first)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.place
        return self.head(self.encoder(x)[:, 0])


VIT = {
    "patch.weight": (8, 1, 4, 4),
    **{
        f"encoder.layers.{i}.{name}": shape
        for i in range(2)
        for name, shape in {
            "self_attn.in_proj_weight": (24, 8),
            "self_attn.out_proj.weight": (8, 8),
            "linear1.weight": (16, 8),
            "linear2.weight": (8, 16),
        }.items()
    },
    "head.weight": (5, 8),
}


class Masked(nn.Module):
    """Lengths of the sequences differ: the encoder's fast path computes on nested tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.zeros(len(x), 8, dtype=torch.bool)
        mask[1:, 6:] = True
        return self.head(self.encoder(x.flatten(1, 2), src_key_padding_mask=mask)[:, 0])


class Attention(nn.Module):
    """Self-attention by `MultiheadAttention`."""

    def __init__(self, **options: object) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True, **options)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x)[0]


class Pool(nn.Module):
    """A learned query asks every token; it is repeated for each image."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, 1, 8))
        self.norm, self.q, self.kv = nn.LayerNorm(8), nn.Linear(8, 8), nn.Linear(8, 16)

    def forward(self, x: Tensor) -> Tensor:
        k, v = self.kv(x).chunk(2, -1)
        return F.scaled_dot_product_attention(self.q(self.norm(self.query.expand(len(x), -1, -1))), k, v)


class Cell(nn.Module):
    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell, self.out = cell, nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for row in x.flatten(1, 2).unbind(1):
            state = self.cell(row, state)
        return self.out(state[0] if isinstance(state, tuple) else state)


class Recurrent(nn.Module):
    def __init__(self, layers: nn.Module, width: int) -> None:
        super().__init__()
        self.layers, self.out = layers, nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.layers(x.flatten(1, 2))[0][:, -1])


class Packed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers, self.out = nn.GRU(8, 6, batch_first=True), nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        lengths = [8 - i % 3 for i in range(len(x))]
        rows = nn.utils.rnn.pack_padded_sequence(x.flatten(1, 2), lengths, batch_first=True, enforce_sorted=False)
        return self.out(self.layers(rows)[1][0])


class Tied(nn.Module):
    """One matrix, used twice: as it is and transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.code, self.out = nn.Linear(64, 16, bias=False), nn.Linear(64, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.linear(self.code(x.flatten(1)).relu(), self.code.weight.t()))


class Experts(nn.Module):
    """Stacked experts; every image takes all of them, weighed afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.experts = nn.Linear(64, 3), nn.Parameter(torch.randn(3, 64, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        every = torch.bmm(x.expand(3, -1, -1), self.experts)
        return torch.einsum("be,ebo->bo", self.gate(x).softmax(-1), every)


class Picked(nn.Module):
    """Every image has the weights of one expert gathered for it."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.experts = nn.Linear(64, 3), nn.Parameter(torch.randn(3, 64, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        return torch.bmm(x[:, None], self.experts[self.gate(x).argmax(-1)])[:, 0]


class Routed(nn.Module):
    """Images are sent to the expert that the gate says."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(64, 2)
        self.experts = nn.ModuleList([nn.Linear(64, CLASSES) for _ in range(2)])

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        chosen, out = self.gate(x).argmax(-1), x.new_zeros(len(x), CLASSES)
        for number, expert in enumerate(self.experts):
            (rows,) = torch.where(chosen == number)
            out[rows] = expert(x[rows])
        return out


class Branching(nn.Module):
    """An image of zeros would take the other branch."""

    def __init__(self) -> None:
        super().__init__()
        self.bright, self.dark = nn.Linear(64, CLASSES), nn.Linear(64, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        return self.bright(x) if x.abs().sum() > 0 else self.dark(x)


class Auxiliary(nn.Module):
    """A head that only training uses."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.aux = nn.Linear(64, 16), nn.Linear(16, CLASSES), nn.Linear(64, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        return self.head(self.body(x).relu()) + (self.aux(x) if self.training else 0)


class Tables(nn.Module):
    """A bias of relative positions, by two linear layers from a table, as Swin v2 has it; a scale for each head."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("places", torch.randn(15, 2))
        self.register_buffer("index", torch.arange(64).view(8, 8) % 15)
        self.bias = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 2, bias=False))
        self.scale, self.qkv = nn.Parameter(torch.ones(2, 1, 1)), nn.Linear(8, 24)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).view(len(x), 8, 3, 2, 4).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1) * self.scale.clamp(max=4.0).exp()
        bias = self.bias(self.places)[self.index.flatten()].view(8, 8, 2).permute(2, 0, 1)
        return ((scores + bias).softmax(-1) @ v).transpose(1, 2).flatten(2)


class Blur(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filter", torch.full((4, 1, 3, 3), 1 / 9))
        self.conv, self.head = nn.Conv2d(1, 4, 3, padding=1), Head(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.conv2d(self.conv(x), self.filter, stride=2, padding=1, groups=4))


def dropped(self: Call, x: Tensor) -> Tensor:
    return F.linear(x.flatten(1), F.dropout(self.weight, 0.5, self.training))


def mixer() -> nn.Module:
    tokens = Call(lambda s, x: x + s.mlp(x.transpose(1, 2)).transpose(1, 2), mlp=nn.Linear(8, 8))
    return Tokens(nn.Sequential(tokens, nn.LayerNorm(8), nn.Linear(8, 8)))


def joined(self: Call, x: Tensor) -> Tensor:
    return F.linear(x.flatten(1), torch.cat([self.first, self.second]))


def spread(self: Call, x: Tensor) -> Tensor:
    heads = x.view(len(x), 2, 4, 8)
    return torch.matmul(heads, self.weight).mean(2).flatten(1)[:, :CLASSES]


MEASURED: dict[str, tuple[MakesNetwork, dict[str, tuple[int, ...]]]] = {
    "conv1d": (
        lambda: Call(lambda s, x: s.net(x.flatten(1, 2)), net=conv(nn.Conv1d(8, 4, 3))),
        {"net.0.weight": (4, 8, 3), "net.2.out.weight": (5, 4)},
    ),
    "conv3d": (
        lambda: Call(lambda s, x: s.net(x.view(-1, 1, 2, 4, 8)), net=conv(nn.Conv3d(1, 4, 2))),
        {"net.0.weight": (4, 1, 2, 2, 2), "net.2.out.weight": (5, 4)},
    ),
    "transposed": (
        lambda: conv(nn.ConvTranspose2d(1, 4, 3, stride=2)),
        {"0.weight": (1, 4, 3, 3), "2.out.weight": (5, 4)},
    ),
    "transposed in groups": (
        lambda: nn.Sequential(nn.Conv2d(1, 4, 1), conv(nn.ConvTranspose2d(4, 6, 3, groups=2), 6)),
        {"0.weight": (4, 1, 1, 1), "1.0.weight": (4, 3, 3, 3), "1.2.out.weight": (5, 6)},
    ),
    "groups, dilation": (
        lambda: nn.Sequential(nn.Conv2d(1, 4, 1), conv(nn.Conv2d(4, 8, 3, groups=4, dilation=2), 8)),
        {"0.weight": (4, 1, 1, 1), "1.0.weight": (8, 1, 3, 3), "1.2.out.weight": (5, 8)},
    ),
    "vit": (ViT, VIT),
    "vit, norm last": (lambda: ViT(norm_first=False), VIT),
    "sequences of unlike lengths": (
        Masked,
        {
            name.replace("layers.0", "layers.0"): s
            for name, s in VIT.items()
            if "layers.1" not in name and "patch" not in name
        },
    ),
    "attention": (
        lambda: Tokens(Attention()),
        {
            "inner.attention.in_proj_weight": (24, 8),
            "inner.attention.out_proj.weight": (8, 8),
            "out.weight": (5, 8),
        },
    ),
    "attention with other widths of keys": (
        lambda: Tokens(
            Call(
                lambda s, x: s.a(x, x[..., :6], x[..., :4])[0],
                a=nn.MultiheadAttention(8, 2, kdim=6, vdim=4, batch_first=True),
            )
        ),
        {
            "inner.a.q_proj_weight": (8, 8),
            "inner.a.k_proj_weight": (8, 6),
            "inner.a.v_proj_weight": (8, 4),
            "inner.a.out_proj.weight": (8, 8),
            "out.weight": (5, 8),
        },
    ),
    "a learned query": (
        lambda: Tokens(Pool()),
        {"inner.q.weight": (8, 8), "inner.kv.weight": (16, 8), "out.weight": (5, 8)},
    ),
    "relative positions": (
        lambda: Tokens(Tables()),
        {
            "inner.bias.0.weight": (16, 2),
            "inner.bias.2.weight": (2, 16),
            "inner.qkv.weight": (24, 8),
            "out.weight": (5, 8),
        },
    ),
    "rnn": (
        lambda: Recurrent(nn.RNN(8, 6, batch_first=True), 6),
        {"layers.weight_ih_l0": (6, 8), "layers.weight_hh_l0": (6, 6), "out.weight": (5, 6)},
    ),
    "lstm": (
        lambda: Recurrent(nn.LSTM(8, 6, 2, batch_first=True), 6),
        {
            "layers.weight_ih_l0": (24, 8),
            "layers.weight_hh_l0": (24, 6),
            "layers.weight_ih_l1": (24, 6),
            "layers.weight_hh_l1": (24, 6),
            "out.weight": (5, 6),
        },
    ),
    "lstm, projected": (
        lambda: Recurrent(nn.LSTM(8, 6, proj_size=3, batch_first=True), 3),
        {
            "layers.weight_ih_l0": (24, 8),
            "layers.weight_hh_l0": (24, 3),
            "layers.weight_hr_l0": (3, 6),
            "out.weight": (5, 3),
        },
    ),
    "gru, both ways": (
        lambda: Recurrent(nn.GRU(8, 6, batch_first=True, bidirectional=True), 12),
        {
            "layers.weight_ih_l0": (18, 8),
            "layers.weight_hh_l0": (18, 6),
            "layers.weight_ih_l0_reverse": (18, 8),
            "layers.weight_hh_l0_reverse": (18, 6),
            "out.weight": (5, 12),
        },
    ),
    "gru, packed": (
        Packed,
        {"layers.weight_ih_l0": (18, 8), "layers.weight_hh_l0": (18, 6), "out.weight": (5, 6)},
    ),
    "lstm cell": (
        lambda: Cell(nn.LSTMCell(8, 6)),
        {"cell.weight_ih": (24, 8), "cell.weight_hh": (24, 6), "out.weight": (5, 6)},
    ),
    "gru cell": (
        lambda: Cell(nn.GRUCell(8, 6)),
        {"cell.weight_ih": (18, 8), "cell.weight_hh": (18, 6), "out.weight": (5, 6)},
    ),
    "bilinear": (
        lambda: Call(lambda s, x: s.b(x.flatten(1)[:, :7], x.flatten(1)[:, :6]), b=nn.Bilinear(7, 6, CLASSES)),
        {"b.weight": (5, 7, 6)},
    ),
    "linear by function": (
        lambda: Call(lambda s, x: F.linear(x.flatten(1), s.weight), weight=torch.randn(CLASSES, 64)),
        {"weight": (5, 64)},
    ),
    "matrix on the left": (
        lambda: Call(lambda s, x: (s.weight @ x.flatten(1).t()).t(), weight=torch.randn(CLASSES, 64)),
        {"weight": (5, 64)},
    ),
    "einsum": (
        lambda: Call(lambda s, x: torch.einsum("bchw,hwo->bo", x, s.weight), weight=torch.randn(8, 8, CLASSES)),
        {"weight": (8, 8, 5)},
    ),
    "a matrix for each head": (lambda: Call(spread, weight=torch.randn(2, 8, 4)), {"weight": (2, 8, 4)}),
    "two weights joined": (
        lambda: Call(joined, first=torch.randn(2, 64), second=torch.randn(3, 64)),
        {"first": (2, 64), "second": (3, 64)},
    ),
    "tied": (Tied, {"code.weight": (16, 64), "out.weight": (5, 64)}),
    "experts": (Experts, {"gate.weight": (3, 64), "experts": (3, 64, 5)}),
    "experts gathered": (Picked, {"gate.weight": (3, 64), "experts": (3, 64, 5)}),
    "experts with images sent to them": (
        Routed,
        {"gate.weight": (2, 64), "experts.0.weight": (5, 64), "experts.1.weight": (5, 64)},
    ),
    "a branch": (Branching, {"bright.weight": (5, 64)}),
    "auxiliary head": (Auxiliary, {"body.weight": (16, 64), "head.weight": (5, 16)}),
    "fixed filter": (Blur, {"conv.weight": (4, 1, 3, 3), "head.out.weight": (5, 4)}),
    "checkpointed": (
        lambda: Call(
            lambda s, x: s.head(checkpoint(s.conv, x, use_reentrant=False)), conv=nn.Conv2d(1, 4, 3), head=Head(4)
        ),
        {"conv.weight": (4, 1, 3, 3), "head.out.weight": (5, 4)},
    ),
    "dropout on weights": (lambda: Call(dropped, weight=torch.randn(CLASSES, 64)), {"weight": (5, 64)}),
    "mixer": (mixer, {"inner.0.mlp.weight": (8, 8), "inner.2.weight": (8, 8), "out.weight": (5, 8)}),
    "compiled": (
        lambda: torch.compile(conv(nn.Conv2d(1, 4, 3))),
        {"_orig_mod.0.weight": (4, 1, 3, 3), "_orig_mod.2.out.weight": (5, 4)},
    ),
    "scripted": (
        lambda: torch.jit.script(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, CLASSES))),
        {"0.weight": (4, 1, 3, 3), "2.weight": (5, 144)},
    ),
    "inference mode": (
        lambda: Call(lambda s, x: torch.inference_mode()(s.net)(x), net=conv(nn.Conv2d(1, 4, 3))),
        {"net.0.weight": (4, 1, 3, 3), "net.2.out.weight": (5, 4)},
    ),
    "filter in the frequency domain": (
        lambda: Call(
            lambda s, x: s.head(torch.fft.irfft2(torch.fft.rfft2(s.conv(x)) * torch.view_as_complex(s.filter))),
            conv=nn.Conv2d(1, 4, 3),
            filter=torch.randn(4, 6, 4, 2),
            head=Head(4),
        ),
        {"conv.weight": (4, 1, 3, 3), "head.out.weight": (5, 4)},
    ),
}


# --- what is refused


class Standardised(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        mean, std = self.weight.mean((1, 2, 3), keepdim=True), self.weight.std((1, 2, 3), keepdim=True)
        return self._conv_forward(x, (self.weight - mean) / (std + 1e-5), self.bias)


class InPlace(nn.Conv2d):
    """Writes into its own weight, as layers with a constraint on the norm do."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.weight.sub_(self.weight.mean((1, 2, 3), keepdim=True))
        return super().forward(x)


class Rounded(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight + ((self.weight * 8).round() / 8 - self.weight).detach(), self.bias)


class Conditional(nn.Module):
    """CondConv: the filters are a sum of experts for each image, as one convolution in groups."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.experts = nn.Linear(1, 3), nn.Parameter(torch.randn(3, 4 * 9))

    def forward(self, x: Tensor) -> Tensor:
        filters = (self.gate(x.mean((2, 3))).sigmoid() @ self.experts).view(-1, 1, 3, 3)
        return F.conv2d(x.view(1, -1, 8, 8), filters, groups=len(x)).view(len(x), 4, 6, 6)


class Mixture(nn.Module):
    """The same of matrices, without a product."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.experts = nn.Linear(64, 3), nn.Parameter(torch.randn(3, CLASSES, 64))

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        mixed = (self.gate(x).softmax(-1)[:, :, None, None] * self.experts).sum(1)
        return torch.bmm(mixed, x[:, :, None])[:, :, 0]


class Average(nn.Module):
    """Evaluates with a running average of its weight, which is a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(CLASSES, 64))
        self.register_buffer("average", torch.zeros(CLASSES, 64))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                self.average.lerp_(self.weight, 0.1)
        return F.linear(x.flatten(1), self.weight if self.training else self.average)


class Slim(nn.Module):
    """Of a larger weight only a corner is used."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.weight = nn.Linear(64, 8), nn.Parameter(torch.randn(16, 16))
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.linear(self.body(x.flatten(1)), self.weight[:8, :8]))


class Twice(nn.Module):
    """Two parameters in the same memory."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.out = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, CLASSES)
        self.second.weight.data = self.first.weight.data

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.second(self.first(x.flatten(1))))


class ThroughNumPy(nn.Module):
    """The kernel receives an array that torch knows nothing of."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(CLASSES, 64))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.flatten(1), torch.tensor(self.weight.detach().numpy().round(1)))


class HyperNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.code, self.make = nn.Parameter(torch.randn(1, 6)), nn.Linear(6, 36)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.make(self.code).view(4, 1, 3, 3))


def pruned_layer() -> nn.Module:
    layer = nn.Conv2d(1, 4, 3)
    prune.l1_unstructured(layer, "weight", 0.5)
    return layer


class Symmetric(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.triu() + x.triu(1).transpose(-1, -2)


def parametrized() -> nn.Module:
    layer = nn.Linear(64, 64)
    parametrize.register_parametrization(layer, "weight", Symmetric())
    return nn.Sequential(nn.Flatten(), layer, nn.Linear(64, CLASSES))


def low_rank(self: Call, x: Tensor) -> Tensor:
    return F.linear(x.flatten(1), self.a @ self.b)


def adapted(self: Call, x: Tensor) -> Tensor:
    """LoRA, merged in every pass."""
    return F.linear(x.flatten(1), self.weight + self.a @ self.b)


def flat(layer: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Flatten(), layer)


REFUSED: dict[str, tuple[MakesNetwork, str]] = {
    "weight standardised in forward": (lambda: conv(Standardised(1, 4, 3)), r"layer 0: .*0\.weight"),
    "weight changed in place": (lambda: conv(InPlace(1, 4, 3)), r"layer 0: .*changed.*0\.weight"),
    "rounded": (lambda: flat(Rounded(64, CLASSES)), r"layer 1: .*1\.weight"),
    "weight_norm by hook": (lambda: conv(weight_norm(nn.Conv2d(1, 4, 3))), r"layer 0: .*0\.weight_v"),
    "weight_norm": (lambda: conv(parametrizations.weight_norm(nn.Conv2d(1, 4, 3))), r"layer 0: .*0\.parametrizations"),
    "spectral_norm by hook": (lambda: conv(spectral_norm(nn.Conv2d(1, 4, 3))), r"layer 0: .*0\.weight_orig"),
    "spectral_norm": (
        lambda: flat(parametrizations.spectral_norm(nn.Linear(64, 5))),
        r"layer 1: .*1\.parametrizations",
    ),
    "orthogonal": (lambda: flat(parametrizations.orthogonal(nn.Linear(64, 5))), r"layer 1: .*1\.parametrizations"),
    "a parametrization of one's own": (parametrized, r"layer 1: .*1\.parametrizations\.weight\.original"),
    "torch's pruning": (lambda: conv(pruned_layer()), r"layer 0: .*0\.weight_orig"),
    "CondConv": (lambda: nn.Sequential(Conditional(), Head(4)), "layer 0: .*for each image"),
    "mixed experts": (Mixture, "experts"),
    "a running average": (Average, "weight reaches no kernel"),
    "a corner of a weight": (Slim, "of weight only a part"),
    "two parameters in one place": (Twice, r"first\.weight and second\.weight"),
    "NumPy": (ThroughNumPy, "weight reaches no kernel"),
    "hypernetwork": (lambda: nn.Sequential(HyperNetwork(), Head(4)), r"layer 0: .*0\.code, 0\.make\.weight"),
    "low rank, multiplied": (
        lambda: Call(low_rank, a=torch.randn(CLASSES, 3), b=torch.randn(3, 64)),
        r"\(a, b\)",
    ),
    "low rank, added": (
        lambda: Call(adapted, a=torch.randn(CLASSES, 3), b=torch.randn(3, 64), weight=torch.randn(CLASSES, 64)),
        r"\(a, b, weight\)",
    ),
    "weight_norm on a recurrent layer": (
        lambda: Recurrent(weight_norm(nn.LSTM(8, 6, batch_first=True), "weight_hh_l0"), 6),
        r"layer layers: .*weight_hh_l0_v",
    ),
    "complex": (
        lambda: Call(
            lambda s, x: (x.flatten(1).to(torch.complex64) @ s.weight).real,
            weight=torch.randn(64, 5, dtype=torch.complex64),
        ),
        "complex",
    ),
    "nothing to prune": (lambda: nn.Sequential(nn.AdaptiveAvgPool2d((1, 5)), nn.Flatten()), "no prunable weights"),
    "sparse tensors": (
        lambda: Call(
            lambda s, x: torch.sparse.mm(s.weight.to_sparse(), x.flatten(1).t()).t(), weight=torch.randn(5, 64)
        ),
        "sparse_coo",
    ),
}
