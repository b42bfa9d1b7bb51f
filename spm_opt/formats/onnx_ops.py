"""Meaning of the ONNX operators that multiply, pool, reduce and normalise.

Each translator adds to the draft the layers that one node is. Constants have been folded and the
outputs' shapes inferred before.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Final

from spm_opt.formats.onnx_draft import FLOATS, NARROW, Draft, Node
from spm_opt.graph.network import Weight
from spm_opt.graph.ops import (
    BatchNorm,
    Binary,
    Conv,
    ConvTranspose,
    Linear,
    MatMul,
    Normalize,
    Pool,
    Reduce,
    Shape,
    Softmax,
    Transpose,
    Unary,
)
from spm_opt.units import ceil_div

# --- convolution -------------------------------------------------------------------------------


def _window(node: Node, size: Shape, kernel: Shape) -> tuple[Shape, Shape, Shape]:
    """Stride, padding and dilation; ``auto_pad`` as ONNX defines it."""
    rank = len(kernel)
    stride = node.integers("strides", (1,) * rank)
    dilation = node.integers("dilations", (1,) * rank)
    mode = node.text("auto_pad", "NOTSET")
    if mode in ("NOTSET", ""):
        return stride, node.integers("pads", (0,) * 2 * rank), dilation
    if mode == "VALID":
        return stride, (0,) * 2 * rank, dilation
    total = [
        max(0, (ceil_div(size[i], stride[i]) - 1) * stride[i]
            + (kernel[i] - 1) * dilation[i] + 1 - size[i])
        for i in range(rank)
    ]  # fmt: skip
    small = tuple(value // 2 for value in total)
    large = tuple(value - value // 2 for value in total)
    return stride, (*small, *large) if mode == "SAME_UPPER" else (*large, *small), dilation


def _bias(draft: Draft, name: str, kernel: Weight) -> Weight:
    bias = draft.weight(name, "bias")
    if kernel.dtype in NARROW:
        return Weight(bias.name, bias.shape, "int32", "bias")
    return bias


def _conv(draft: Draft, node: Node, x: int = 0, w: int = 1, b: int = 2) -> None:
    source, kernel_name = node.inputs[x], node.inputs[w]
    bias_name = node.inputs[b] if node.has(b) else ""
    if draft.is_constant(source) or not (
        draft.is_constant(kernel_name) and draft.is_constant(bias_name)
    ):
        draft.opaque(node)
        return
    weight = draft.weight(kernel_name)
    weights = (weight, _bias(draft, bias_name, weight)) if bias_name else (weight,)
    kernel = weight.shape[2:]
    groups = node.integer("group", 1)
    shape = draft.shape(source)
    if len(shape) < 3 or len(shape) != len(weight.shape):
        raise draft.error(node, "kernel and input disagree in rank", shape)
    if shape[1] != weight.shape[1] * groups:
        raise draft.error(
            node, f"the kernel {weight.shape} does not fit the input's channels", shape
        )
    stride, pads, dilation = _window(node, shape[2:], kernel)
    op = Conv(weight.shape[0], kernel, stride, pads, dilation, groups, bool(bias_name))
    draft.emit(node, op, (source,), weights)


def _conv_integer(draft: Draft, node: Node) -> None:
    # the third input is a zero point here, not a bias
    _conv(draft, node, b=len(node.inputs))


def _conv_transpose(draft: Draft, node: Node) -> None:
    source = node.inputs[0]
    if draft.is_constant(source) or not all(map(draft.is_constant, node.inputs[1:])):
        draft.opaque(node)
        return
    weight = draft.weight(node.inputs[1])
    weights = (weight, _bias(draft, node.inputs[2], weight)) if node.has(2) else (weight,)
    kernel, groups = weight.shape[2:], node.integer("group", 1)
    size = draft.shape(source)[2:]
    stride, pads, extra = _transposed_window(node, size, kernel)
    dilation = node.integers("dilations", (1,) * len(kernel))
    op = ConvTranspose(
        weight.shape[1] * groups, kernel, stride, pads, dilation, extra, groups, node.has(2)
    )
    draft.emit(node, op, (source,), weights)


def _transposed_window(node: Node, size: Shape, kernel: Shape) -> tuple[Shape, Shape, Shape]:
    """Stride, padding and output padding, which `output_shape` or ``auto_pad`` may imply."""
    rank = len(kernel)
    stride = node.integers("strides", (1,) * rank)
    dilation = node.integers("dilations", (1,) * rank)
    extra = node.integers("output_padding", (0,) * rank)
    mode = node.text("auto_pad", "NOTSET")
    same = mode.startswith("SAME")
    target = node.integers("output_shape", ())[-rank:]
    if same and not target:
        target = tuple(n * s for n, s in zip(size, stride, strict=True))
    if not target:
        pads = (0,) * 2 * rank if mode == "VALID" else node.integers("pads", (0,) * 2 * rank)
        return stride, pads, extra
    total = [
        stride[i] * (size[i] - 1) + extra[i] + (kernel[i] - 1) * dilation[i] + 1 - target[i]
        for i in range(rank)
    ]
    extra = tuple(extra[i] + max(0, -total[i]) for i in range(rank))
    small = tuple(max(0, value) // 2 for value in total)
    large = tuple(max(0, value) - max(0, value) // 2 for value in total)
    return stride, (*small, *large) if mode == "SAME_UPPER" else (*large, *small), extra


# --- matrix products ---------------------------------------------------------------------------


def _gemm(draft: Draft, node: Node, a: int = 0, b: int = 1, c: int = 2) -> None:
    left, right = node.inputs[a], node.inputs[b]
    addend = node.inputs[c] if node.has(c) else ""
    if draft.is_constant(left) or not _scalars_fold(draft, node, right, addend):
        draft.opaque(node)
        return
    if node.integer("transA", 0):
        target = draft.temporary(node, "transposed")
        left = draft.emit(node, Transpose((1, 0)), (left,), target=target)
    transposed = bool(node.integer("transB", 0))
    if draft.is_constant(right):
        _gemm_weights(draft, node, left, right, addend, transposed)
        return
    op = MatMul(transpose_b=transposed)
    if not addend:
        draft.emit(node, op, (left, right))
        return
    product = draft.emit(node, op, (left, right), target=draft.temporary(node, "product"))
    _add(draft, node, product, addend)


def _scalars_fold(draft: Draft, node: Node, right: str, addend: str) -> bool:
    """Whether the scalars alpha and beta go into constants."""
    alpha = node.real("alpha", 1.0) == 1.0 or draft.is_constant(right)
    return alpha and (node.real("beta", 1.0) == 1.0 or draft.is_constant(addend))


def _gemm_weights(
    draft: Draft, node: Node, left: str, right: str, addend: str, transposed: bool
) -> None:
    shape = draft.shape(right)
    features, inner = shape if transposed else shape[::-1]
    if draft.shape(left)[1] != inner:
        raise draft.error(node, f"cannot multiply by weights {shape}", draft.shape(left))
    weight = draft.weight(right, shape=(features, inner))
    if not addend:
        draft.emit(node, Linear(features), (left,), (weight,))
        return
    shape = draft.shape(addend)
    if draft.is_constant(addend) and shape and math.prod(shape) == shape[-1] == features:
        op = Linear(features, bias=True)
        draft.emit(node, op, (left,), (weight, _bias(draft, addend, weight)))
        return
    target = draft.temporary(node, "product")
    product = draft.emit(node, Linear(features), (left,), (weight,), target=target)
    _add(draft, node, product, addend)


def _add(draft: Draft, node: Node, product: str, addend: str) -> None:
    if draft.is_constant(addend):
        op = Binary("add", constant_shape=draft.shape(addend))
        draft.emit(node, op, (product,), (draft.weight(addend, "constant"),))
    else:
        draft.emit(node, Binary("add"), (product, addend))


def _matmul(draft: Draft, node: Node, a: int = 0, b: int = 1) -> None:
    left, right = node.inputs[a], node.inputs[b]
    x, y = draft.shape(left), draft.shape(right)
    if draft.is_constant(right) and math.prod(y[:-2]) == 1 and y:
        _matmul_weights(draft, node, left, right)
    elif draft.is_constant(left) and len(x) == 2 and len(y) >= 2:
        _matmul_left(draft, node, left, right)
    elif draft.is_constant(left) or draft.is_constant(right):
        draft.opaque(node, (left, right))
    else:
        # a vector is a matrix of one row (left) or of one column (right)
        views = (x if len(x) > 1 else (1, *x), y if len(y) > 1 else (*y, 1))
        vectors = len(x) == 1 or len(y) == 1
        target = draft.temporary(node, "product") if vectors else None
        product = draft.emit(node, MatMul(), (left, right), target=target, views=views)
        if vectors:
            shape = draft.shape(product)
            rows = shape[:-1] if len(y) == 1 else (*shape[:-2], shape[-1])
            draft.view(node, product, rows[:-1] if len(x) == len(y) == 1 else rows)


def _matmul_weights(draft: Draft, node: Node, left: str, right: str) -> None:
    x, y = draft.shape(left), draft.shape(right)
    inner, features = (y[-2], y[-1]) if len(y) > 1 else (y[0], 1)
    weight = draft.weight(right, shape=(features, inner))
    if x[-1] != inner:
        raise draft.error(node, f"cannot multiply by weights {y}", x)
    view = x if len(x) > 1 else (1, *x)
    result = (*view[:-1], features)
    final = (*x[:-1], *y[1:]) if len(y) < 3 else draft.output_shape(node)
    target = None if result == final else draft.temporary(node, "product")
    product = draft.emit(node, Linear(features), (left,), (weight,), target=target, views=(view,))
    if target is not None:
        draft.view(node, product, final)


def _matmul_left(draft: Draft, node: Node, left: str, right: str) -> None:
    """A constant matrix from the left mixes rows: a convolution of width 1 over them."""
    (rows, inner), y = draft.shape(left), draft.shape(right)
    if y[-2] != inner:
        raise draft.error(node, f"cannot multiply weights {(rows, inner)} by", y)
    weight = draft.weight(left, shape=(rows, inner, 1))
    op = Conv(rows, (1,), (1,), (0, 0), (1,))
    view = (math.prod(y[:-2]), inner, y[-1])
    product = draft.emit(
        node, op, (right,), (weight,), target=draft.temporary(node, "product"), views=(view,)
    )
    draft.view(node, product, (*y[:-2], rows, y[-1]))


# --- pooling and reductions --------------------------------------------------------------------


def _pool(draft: Draft, node: Node, mode: str) -> None:
    if any(name in draft.used for name in node.outputs[1:]):
        draft.opaque(node)
        return
    kernel = node.integers("kernel_shape", ())
    size = draft.shape(node.inputs[0])[2:]
    stride, pads, dilation = _window(node, size, kernel)
    op = Pool(
        mode, kernel, stride, pads, dilation,
        bool(node.integer("ceil_mode", 0)), bool(node.integer("count_include_pad", 0)),
    )  # fmt: skip
    draft.emit(node, op, node.inputs[:1])


def _global_pool(draft: Draft, node: Node, mode: str) -> None:
    axes = tuple(range(2, len(draft.shape(node.inputs[0]))))
    draft.emit(node, Reduce(mode, axes), node.inputs[:1])


def _global_lp_pool(draft: Draft, node: Node) -> None:
    if node.integer("p", 2) in (1, 2):
        _global_pool(draft, node, f"l{node.integer('p', 2)}")
    else:
        draft.opaque(node)


def _reduce(draft: Draft, node: Node, mode: str) -> None:
    rank = len(draft.shape(node.inputs[0]))
    axes = draft.integers(node, 1, "axes", ())
    if not axes:
        if node.integer("noop_with_empty_axes", 0):
            draft.view(node, node.inputs[0], draft.shape(node.inputs[0]))
            return
        axes = tuple(range(rank))
    op = Reduce(mode, tuple(axis % rank for axis in axes), bool(node.integer("keepdims", 1)))
    draft.emit(node, op, node.inputs[:1])


def _arg(draft: Draft, node: Node, mode: str) -> None:
    rank = len(draft.shape(node.inputs[0]))
    axes = (node.integer("axis", 0) % rank,)
    draft.emit(node, Reduce(mode, axes, bool(node.integer("keepdims", 1))), node.inputs)


# --- normalisation -----------------------------------------------------------------------------


def _softmax(draft: Draft, node: Node) -> None:
    source = node.inputs[0]
    shape = draft.shape(source)
    axis = node.integer("axis", -1 if draft.opset >= 13 else 1) % max(1, len(shape))
    if draft.opset >= 13 or math.prod(shape[axis + 1 :]) == 1:
        draft.emit(node, Softmax(axis), (source,))
        return
    # before opset 13 all axes from `axis` on are one
    flat = (math.prod(shape[:axis]), math.prod(shape[axis:]))
    target = draft.temporary(node, "flat")
    result = draft.emit(node, Softmax(1), (source,), target=target, views=(flat,))
    draft.view(node, result, shape)


def _real(weight: Weight) -> Weight:
    if weight.dtype in FLOATS:
        return weight
    return Weight(weight.name, weight.shape, "float32", weight.role)


def _batch_norm(draft: Draft, node: Node) -> None:
    if not all(map(draft.is_constant, node.inputs[1:])) or node.integer("training_mode", 0):
        draft.opaque(node)
        return
    # mean and variance go into the scale and the shift, which are reals where those were integers
    weights = tuple(_real(draft.weight(name, "constant")) for name in node.inputs[1:3])
    draft.emit(node, BatchNorm(), node.inputs[:1], weights)


def _normalize(draft: Draft, node: Node, mode: str) -> None:
    if any(name in draft.used for name in node.outputs[1:]) or not all(
        map(draft.is_constant, node.inputs[1:])
    ):
        draft.opaque(node)
        return
    rank = len(draft.shape(node.inputs[0]))
    first = {"group": 1, "instance": 2}.get(mode)
    begin = node.integer("axis", -1) % rank if first is None else first
    roles = ("weight", "bias")
    weights = tuple(
        draft.weight(name, role)
        for name, role in zip(node.inputs[1:3], roles, strict=False)
        if name
    )
    op = Normalize(mode, tuple(range(begin, rank)), affine=bool(weights))
    draft.emit(node, op, node.inputs[:1], weights)


def _local(draft: Draft, node: Node) -> None:
    """Normalisation by a norm along one axis, without constants."""
    rank = len(draft.shape(node.inputs[0]))
    axis = 1 if node.type == "LRN" else node.integer("axis", -1) % rank
    if node.type == "LpNormalization" and node.integer("p", 2) not in (1, 2):
        draft.opaque(node)
        return
    mode = "lrn" if node.type == "LRN" else f"l{node.integer('p', 2)}"
    draft.emit(node, Normalize(mode, (axis,), affine=False), node.inputs[:1])


def _mean_variance(draft: Draft, node: Node) -> None:
    axes = node.integers("axes", (0, 2, 3))
    draft.emit(node, Normalize("layer", axes, affine=False), node.inputs[:1])


def _fused_conv(draft: Draft, node: Node) -> None:
    if node.has(3) or node.text("activation", "Relu") not in _FUSED:
        draft.opaque(node)
        return
    name = node.outputs[0]
    node.outputs = (draft.temporary(node, "product"),)
    _conv(draft, node)
    product, node.outputs = node.outputs[0], (name,)
    draft.emit(node, Unary(_FUSED[node.text("activation", "Relu")]), (product,))


_FUSED: Final = {"Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "LeakyRelu": "leaky_relu",
                 "Clip": "clip", "HardSigmoid": "hardsigmoid"}  # fmt: skip

_REDUCTIONS: Final = {
    "ReduceMean": "mean", "ReduceSum": "sum", "ReduceMax": "max", "ReduceMin": "min",
    "ReduceProd": "prod", "ReduceL1": "l1", "ReduceL2": "l2", "ReduceLogSum": "log_sum",
    "ReduceLogSumExp": "log_sum_exp", "ReduceSumSquare": "sum_square",
}  # fmt: skip

TRANSLATORS: Final[dict[str, Callable[[Draft, Node], None]]] = {
    "Conv": _conv,
    "ConvInteger": _conv_integer,
    "QLinearConv": partial(_conv, w=3, b=8),
    "FusedConv": _fused_conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "QGemm": partial(_gemm, b=3, c=6),
    "MatMul": _matmul,
    "MatMulInteger": _matmul,
    "QLinearMatMul": partial(_matmul, b=3),
    "MaxPool": partial(_pool, mode="max"),
    "AveragePool": partial(_pool, mode="avg"),
    "QLinearAveragePool": partial(_pool, mode="avg"),
    "LpPool": partial(_pool, mode="lp"),
    "GlobalAveragePool": partial(_global_pool, mode="mean"),
    "QLinearGlobalAveragePool": partial(_global_pool, mode="mean"),
    "GlobalMaxPool": partial(_global_pool, mode="max"),
    "GlobalLpPool": _global_lp_pool,
    **{kind: partial(_reduce, mode=mode) for kind, mode in _REDUCTIONS.items()},
    "ArgMax": partial(_arg, mode="argmax"),
    "ArgMin": partial(_arg, mode="argmin"),
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
    "BatchNormalization": _batch_norm,
    "LayerNormalization": partial(_normalize, mode="layer"),
    "RMSNormalization": partial(_normalize, mode="rms"),
    "SimplifiedLayerNormalization": partial(_normalize, mode="rms"),
    "GroupNormalization": partial(_normalize, mode="group"),
    "InstanceNormalization": partial(_normalize, mode="instance"),
    "LRN": _local,
    "LpNormalization": _local,
    "MeanVarianceNormalization": _mean_variance,
}
