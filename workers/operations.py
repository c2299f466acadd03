"""The operations that are counted: convolutions and matrix products, with their operands and multiply-adds.

Everything is read off the call as the dispatcher sees it: overloads of `torch.ops.aten` below autograd, after composite
operations such as `linear`, `matmul` or `einsum` were taken apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

Arguments = Sequence[Any]

TRANSPOSED = "transposed convolution"
"""A kind of product whose weight is [inputs, outputs, ...]."""


@dataclass(frozen=True)
class Product:
    """One convolution or matrix product: every value of an operand is used equally often.

    An operand is None where it is a value inside a fused kernel, such as the attention that multiplies v. `is_slot`
    says that only `right` can be a weight: the other operand is what a convolution slides over. `sums_inside` says that
    the sum is over the last dimension of `left` and the last but one of `right`.
    """

    kind: str
    left: Tensor | None
    right: Tensor | None
    multiply_adds: int
    is_slot: bool = False
    sums_inside: bool = False


Rule = Callable[[Arguments, Any], list[Product]]
"""From the arguments of a call, completed by their names' order, and its output."""


def products(name: str, arguments: Arguments, output: Any) -> list[Product] | None:
    """Of a call of the operation (`aten::mm`); None for one that is not counted."""
    rule = _RULES.get(name)
    return None if rule is None else rule(arguments, output)


def is_counted(name: str) -> bool:
    """Whether calls of the operation have products."""
    return name in _RULES


def complete(schema: Any, args: Arguments, kwargs: Mapping[str, Any]) -> list[Any]:
    """All arguments of a call in the order of its schema, defaults included."""
    rest = schema.arguments[len(args) :]
    return [*args, *(kwargs.get(a.name, a.default_value if a.has_default_value() else None) for a in rest)]


# --- matrix products


def _matrix(first: int) -> Rule:
    """[.., m, k] by [.., k, n], or by [k], as arguments `first` and the next: every output is a sum of k products."""

    def rule(arguments: Arguments, output: Tensor) -> list[Product]:
        left, right = arguments[first], arguments[first + 1]
        return [Product("matrix product", left, right, output.numel() * left.shape[-1], sums_inside=True)]

    return rule


def _pointwise_linear(arguments: Arguments, output: Tensor) -> list[Product]:
    """oneDNN's, whose weight is [n, k]."""
    left, right = arguments[0], arguments[1]
    return [Product("matrix product", left, right, output.numel() * left.shape[-1])]


def _summed_batches(arguments: Arguments, output: Tensor) -> list[Product]:
    """addbmm: the sum of the products of [b, m, k] by [b, k, n]."""
    left, right = arguments[1], arguments[2]
    return [Product("matrix product", left, right, left.numel() * right.shape[-1])]


def _grouped(arguments: Arguments, output: Tensor) -> list[Product]:
    """[m, k] by [e, k, n], rows in e groups; [e, m, k] by [k, n], columns in groups; [m, k] by [k, n], k in groups."""
    left, right = arguments[0], arguments[1]
    if left.dim() == 2 and right.dim() == 2:
        return [Product("matrix product", left, right, left.numel() * right.shape[-1])]
    return [Product("matrix product", left, right, output.numel() * left.shape[-1])]


def _bilinear(arguments: Arguments, output: Tensor) -> list[Product]:
    """X A y, as `Bilinear` calls it: A [o, i, j] is the second operand, used once for each pair of x and y."""
    left, weight = arguments[:2]
    rows = output.numel() // max(1, weight.shape[0])
    return [Product("bilinear", left, weight, rows * weight.numel(), is_slot=True)]


# --- convolutions


def _convolution(arguments: Arguments, output: Tensor) -> list[Product]:
    """Every output is a sum over one filter, whatever stride, padding, dilation and groups are.

    Of a transposed one, every input is multiplied with all that its channel's filter holds.
    """
    images, weight, transposed = arguments[0], arguments[1], arguments[6]
    places = images.numel() if transposed else output.numel()
    kind = TRANSPOSED if transposed else "convolution"
    return [Product(kind, images, weight, places * _per_filter(weight), is_slot=True)]


def _forward_convolution(weight_at: int) -> Rule:
    def rule(arguments: Arguments, output: Tensor) -> list[Product]:
        weight = arguments[weight_at]
        return [Product("convolution", arguments[0], weight, output.numel() * _per_filter(weight), is_slot=True)]

    return rule


def _time_batch_channel(arguments: Arguments, output: Tensor) -> list[Product]:
    """conv_tbc's weight is [taps, inputs, outputs]."""
    images, weight = arguments[0], arguments[1]
    per_filter = weight.shape[0] * weight.shape[1]
    return [Product("convolution", images, weight, output.numel() * per_filter, is_slot=True)]


def _per_filter(weight: Tensor) -> int:
    return weight.numel() // max(1, weight.shape[0])


# --- attention


def _attention(arguments: Arguments, output: Any) -> list[Product]:
    """Q [b, h, n, d] with k [b, g, m, d] and v [b, g, m, e]; what a mask leaves out is counted too."""
    query, key, value = arguments[:3]
    rows = query.numel() // max(1, query.shape[-1]) * key.shape[-2]
    return [
        Product("attention", query, key, rows * query.shape[-1]),
        Product("attention", None, value, rows * value.shape[-1]),
    ]


def _flat_attention(arguments: Arguments, output: Any) -> list[Product]:
    """The same where heads come after places: [b, n, h, d]."""
    query, key, value = (tensor.transpose(1, 2) for tensor in arguments[:3])
    return _attention([query, key, value], output)


def _native_attention(arguments: Arguments, output: Any) -> list[Product]:
    """What `MultiheadAttention` calls in evaluation; query, key and value are the same [b, n, d], or nested."""
    query, in_weight, out_weight = arguments[0], arguments[5], arguments[7]
    return _self_attention(query, in_weight, out_weight)


def _encoder_layer(arguments: Arguments, output: Any) -> list[Product]:
    """What `TransformerEncoderLayer` calls in evaluation."""
    source, in_weight, out_weight, first, second = (arguments[i] for i in (0, 3, 5, 14, 16))
    rows = sum(_lengths(source))
    linear = [Product("matrix product", source, weight, rows * weight.numel()) for weight in (first, second)]
    return [*_self_attention(source, in_weight, out_weight), *linear]


def _self_attention(source: Tensor, in_weight: Tensor, out_weight: Tensor) -> list[Product]:
    lengths, width = _lengths(source), out_weight.shape[0]
    rows, pairs = sum(lengths), sum(length * length for length in lengths)
    return [
        Product("matrix product", source, in_weight, rows * in_weight.numel()),
        Product("attention", None, None, 2 * pairs * width),
        Product("matrix product", source, out_weight, rows * out_weight.numel()),
    ]


def _lengths(source: Tensor) -> list[int]:
    """Of the sequences of [b, n, d], and of nested ones."""
    if source.is_nested:
        return [int(length) for length in source._nested_tensor_size()[:, 0].tolist()]
    return [source.shape[1]] * source.shape[0]


# --- recurrent layers in one kernel


def _recurrent(arguments: Arguments, output: Any) -> list[Product]:
    """CuDNN's and MIOpen's: every matrix among the weights multiplies one vector for each place of the sequences."""
    images, weights = arguments[0], arguments[1]
    return _at_each_place(images, [weight for weight in weights if weight.dim() == 2])


def _recurrent_layer(arguments: Arguments, output: Any) -> list[Product]:
    """oneDNN's, one layer in one direction."""
    return _at_each_place(arguments[0], [arguments[1], arguments[2]])


def _at_each_place(images: Tensor, weights: Sequence[Tensor]) -> list[Product]:
    places = images.numel() // max(1, images.shape[-1])
    return [Product("recurrent", images, weight, places * weight.numel(), is_slot=True) for weight in weights]


_RULES: Mapping[str, Rule] = {
    **dict.fromkeys(("aten::mm", "aten::bmm", "aten::mv", "aten::dot", "aten::vdot", "aten::_int_mm"), _matrix(0)),
    **dict.fromkeys(("aten::addmm", "aten::baddbmm", "aten::addmv", "aten::_addmm_activation"), _matrix(1)),
    **dict.fromkeys(("aten::addmm_", "aten::baddbmm_", "aten::addmv_"), _matrix(1)),
    "aten::_scaled_mm": _matrix(0),
    "aten::mkldnn_linear_pointwise": _pointwise_linear,
    **dict.fromkeys(("aten::addbmm", "aten::addbmm_"), _summed_batches),
    **dict.fromkeys(("aten::_grouped_mm", "aten::_scaled_grouped_mm"), _grouped),
    "aten::_trilinear": _bilinear,
    **dict.fromkeys(("aten::convolution", "aten::_convolution", "aten::convolution_overrideable"), _convolution),
    **dict.fromkeys(("aten::cudnn_convolution", "aten::miopen_convolution"), _forward_convolution(1)),
    **dict.fromkeys(("aten::mkldnn_convolution", "aten::_slow_conv2d_forward"), _forward_convolution(1)),
    "aten::conv_tbc": _time_batch_channel,
    "torchvision::deform_conv2d": _forward_convolution(1),
    **dict.fromkeys(
        (
            "aten::_scaled_dot_product_flash_attention",
            "aten::_scaled_dot_product_flash_attention_for_cpu",
            "aten::_scaled_dot_product_efficient_attention",
            "aten::_scaled_dot_product_cudnn_attention",
            "aten::_scaled_dot_product_fused_attention_overrideable",
        ),
        _attention,
    ),
    **dict.fromkeys(("aten::_flash_attention_forward", "aten::_efficient_attention_forward"), _flat_attention),
    "aten::_native_multi_head_attention": _native_attention,
    "aten::_transformer_encoder_layer_fwd": _encoder_layer,
    **dict.fromkeys(("aten::_cudnn_rnn", "aten::miopen_rnn"), _recurrent),
    "aten::mkldnn_rnn_layer": _recurrent_layer,
}
