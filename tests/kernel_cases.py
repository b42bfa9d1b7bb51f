"""Layers for the kernels' tests: every operator kind, in float32 and in integers."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from kernel_programs import Case
from numpy.typing import NDArray

from spm_opt.graph import images, ops
from spm_opt.graph.network import Layer, Network, Tensor, Weight, operand_of
from spm_opt.graph.recipes import weights_of
from spm_opt.graph.values import LayerValues, NetworkValues, Quantization

Array = NDArray[Any]
Shape = tuple[int, ...]
INTEGERS = ("int8", "uint8")
#: scales of which sums and products are exact in double
SCALES = (0.25, 0.125, 0.5, 0.0625)


def drawn(rng: np.random.Generator, shape: Shape, dtype: str) -> Array:
    """Random numbers of an element type."""
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.startswith("float"):
        return np.asarray(rng.standard_normal(shape) * 2).astype(dtype)
    low, high = (0, 256) if dtype == "uint8" else (-128, 128) if dtype == "int8" else (-9, 10)
    return rng.integers(low, high, shape).astype(dtype)


def quantization(rng: np.random.Generator, dtype: str, product: bool) -> Quantization | None:
    if dtype not in INTEGERS:
        return None
    zero = int(rng.integers(100, 150)) if dtype == "uint8" else int(rng.integers(-20, 20))
    scale = float(rng.uniform(0.01, 0.1)) if product else float(rng.choice(SCALES))
    return Quantization(scale, zero)


def weights_for(op: ops.Op, shapes: tuple[Shape, ...], dtype: str) -> tuple[Weight, ...]:
    plain = "int8" if dtype == "uint8" else dtype
    return weights_of("layer", op, shapes, plain)


def case(
    name: str, op: ops.Op, *shapes: Shape, dtype: str = "float32", seed: int = 0,
    views: Sequence[Shape] | None = None, dtypes: Sequence[str] | None = None,
    output: str | None = None, slope: Shape | None = None, before: bool = False,
    same_scale: bool = False, weights: tuple[Weight, ...] | None = None, above_zero: bool = False,
    arrays: Sequence[Array] | None = None, inputs: Sequence[Array] | None = None,
    **parameters: float,
) -> Case:  # fmt: skip
    """A network of one layer `op`.

    Parameters
    ----------
    shapes : tuple of int
        Of the maps read; `views` the shapes under which the layer sees them.
    dtype, dtypes, output : str
        Element type of all maps, of each input, of the output.
    slope : tuple of int
        Shape of the slope of a folded prelu.
    before : bool
        Whether the source rounds before the activation.
    """
    rng = np.random.default_rng(zlib.crc32(f"{seed} {name} {shapes} {dtype}".encode()))
    names = [f"x{i}" for i in range(len(shapes))]
    kinds = dtypes or [dtype] * len(shapes)
    tensors = {n: Tensor(n, s, d) for n, s, d in zip(names, shapes, kinds, strict=True)}
    seen = views or shapes
    operands = tuple(operand_of(tensors[n], v) for n, v in zip(names, seen, strict=True))
    result = op.infer(tuple(seen))
    tensors["y"] = Tensor("y", result, output or dtype)
    held = weights_for(op, tuple(seen), dtype) if weights is None else weights
    if slope is not None:
        held = (*held, Weight("slope", slope, "float32", "constant"))
    layer = Layer("layer", op, operands, "y", result, held)
    network = Network(name, tensors, (layer,), tuple(names), ("y",))
    product = isinstance(op, (ops.Conv, ops.ConvTranspose, ops.Linear, ops.MatMul))
    scales = {n: quantization(rng, t.dtype, product) for n, t in tensors.items()}
    if same_scale:
        scales["y"] = scales["x0"]
    elif product and scales["y"] is not None:
        scales["y"] = _wide(scales, seen, op)
    own = _layer_values(rng, layer, kinds[0] if kinds else dtype, parameters, arrays)
    if before:
        own = replace(own, before_activation=Quantization(0.25, 3))
    values = NetworkValues({"layer": own}, scales)
    made = {n: drawn(rng, tensors[n].shape, tensors[n].dtype) for n in names}
    for n, given in zip(names, inputs or (), strict=False):
        made[n] = made[n] if given is None else given
    if above_zero:
        made = {n: np.abs(a) + np.asarray(0.2, a.dtype) for n, a in made.items()}
    kind = tensors["y"].dtype
    found = Case(name, network, values, made, 1e-5 if kind.startswith("float") else 0.0)
    return found if same_scale or product or kind not in INTEGERS else _spread(found)


def _spread(found: Case) -> Case:
    """The case with a scale of the output that uses most of its range."""
    tensors = dict(found.network.tensors)
    tensors["y"] = replace(tensors["y"], dtype="float64")
    scales = dict(found.values.tensors)
    old, scales["y"] = scales["y"], None
    own = replace(found.values.layers["layer"], before_activation=None)
    values = NetworkValues({"layer": own}, scales)
    reals = replace(
        found, network=replace(found.network, tensors=tensors), values=values
    ).expected()
    scale = 2.0 ** math.ceil(math.log2(max(float(np.abs(reals).max()), 1e-3) / 110))
    wide = {**scales, "y": Quantization(scale, old.zero_point if old else 0)}
    return replace(found, values=replace(found.values, tensors=wide))


def _wide(scales: dict[str, Quantization | None], seen: Sequence[Shape], op: ops.Op) -> Any:
    """A scale of the output that uses most of its range."""
    inner = seen[0][-1] if not hasattr(op, "kernel") else seen[0][1] * math.prod(op.kernel)
    one = scales["x0"]
    other = scales.get("x1") or Quantization(0.02)
    found = scales["y"]
    if one is None or found is None:
        return found
    return Quantization(one.scale * other.scale * 70 * math.sqrt(inner), found.zero_point)


def _layer_values(
    rng: np.random.Generator, layer: Layer, dtype: str, parameters: dict[str, float],
    arrays: Sequence[Array] | None,
) -> LayerValues:  # fmt: skip
    made = list(arrays or ())
    for weight in layer.weights[len(made) :]:
        array = drawn(rng, weight.shape, weight.dtype)
        if weight.dtype == "int32":
            array = rng.integers(-3000, 3000, weight.shape).astype("int32")
        made.append(array)
    product = isinstance(layer.op, (ops.Conv, ops.ConvTranspose, ops.Linear))
    if product and layer.weights and layer.weights[0].dtype in INTEGERS:
        channels = layer.weights[0].shape[0]
        if isinstance(layer.op, ops.ConvTranspose):
            channels = layer.op.out_channels
        scale = rng.uniform(0.01, 0.03, channels) * rng.choice((1.0, 1.0, -1.0), channels)
        zero = rng.integers(-3, 4, channels)
        scales = (None,) * len(layer.weights)
        return LayerValues(tuple(made), scale, zero, parameters, None, scales)
    scales = tuple(
        Quantization(float(rng.choice(SCALES)), 1) if w.dtype in (*INTEGERS, "int32") and
        w.role != "table" and not isinstance(layer.op, ops.Gather) else None
        for w in layer.weights
    )  # fmt: skip
    return LayerValues(tuple(made), parameters=parameters, constant_scale=scales)


# --- the layers --------------------------------------------------------------------------------


def conv(
    out: int, kernel: Shape, *, stride: Shape | None = None, pads: Shape | None = None,
    dilation: Shape | None = None, groups: int = 1, bias: bool = True,
    activation: str | None = None,
) -> ops.Conv:  # fmt: skip
    rank = len(kernel)
    return ops.Conv(
        out, kernel, stride or (1,) * rank, pads or (0,) * 2 * rank, dilation or (1,) * rank,
        groups, bias, activation,
    )  # fmt: skip


def _products(dtype: str) -> list[Case]:
    d: dict[str, Any] = {"dtype": dtype}
    transposed = ops.ConvTranspose(
        6, (3, 2), (2, 3), (1, 0, 0, 1), (1, 2), (1, 0), 2, True, "relu6"
    )
    return [
        case("conv1x1", conv(70, (1, 1), activation="relu6"), (1, 300, 5, 7), **d),
        case("conv3x3", conv(9, (3, 3), stride=(2, 1), pads=(1, 0, 0, 2)), (1, 5, 9, 11), **d),
        case("wide", conv(3, (3, 3), pads=(1, 1, 1, 1)), (1, 2, 3, 70), **d),
        case("batch", conv(4, (2, 3), bias=False, activation="clip"), (3, 4, 6, 5),
             min=-1.5, max=2.5, **d),
        case("dilated", conv(4, (3, 3), pads=(4, 2, 4, 2), dilation=(4, 2), stride=(1, 2)),
             (1, 3, 8, 9), **d),
        case("depthwise", conv(8, (3, 3), pads=(1, 1, 1, 1), groups=8, activation="relu"),
             (1, 8, 7, 7), **d),
        case("depthwise2", conv(12, (5, 5), pads=(2, 2, 2, 2), stride=(2, 2), groups=6),
             (1, 6, 9, 10), **d),
        case("grouped", conv(12, (3, 1), groups=3, activation="silu"), (1, 6, 8, 4), **d),
        case("large kernel", conv(3, (5, 5), pads=(3, 3, 3, 3)), (1, 2, 2, 1), **d),
        case("conv1d", conv(6, (3,), stride=(2,), pads=(1, 2), groups=2), (2, 4, 9), **d),
        case("conv3d", conv(4, (2, 3, 2), stride=(1, 2, 1), pads=(1, 1, 0, 0, 1, 1)),
             (1, 3, 3, 6, 5), **d),
        case("viewed conv", conv(5, (1, 1)), (1, 6, 4, 3), views=((1, 12, 3, 2),), **d),
        case("prelu", conv(5, (3, 3), activation="prelu"), (1, 3, 6, 6), slope=(5, 1, 1), **d),
        case("one slope", conv(5, (3, 3), activation="prelu"), (1, 3, 6, 6), slope=(1,), **d),
        case("transposed", transposed, (1, 4, 4, 5), **d),
        case("transposed 1d", ops.ConvTranspose(3, (4,), (2,), (1, 1), (1,), (0,), 1, False),
             (1, 2, 7), **d),
        case("transposed wide", ops.ConvTranspose(3, (2, 2), (2, 2), (0,) * 4, (1, 1), (0, 0)),
             (1, 2, 3, 40), **d),
        case("linear", ops.Linear(70, True), (3, 40), **d),
        case("deep linear", ops.Linear(5, True, "relu"), (2, 2100), **d),
        case("tokens", ops.Linear(7, False, "gelu"), (2, 3, 5, 9), **d),
        case("flattened", ops.Linear(6, True), (2, 5, 3, 4), views=((2, 60),), **d),
        case("vector", ops.Linear(4, True), (17,), **d),
        case("linear prelu", ops.Linear(6, True, "prelu"), (4, 8), slope=(6,), **d),
        case("matmul", ops.MatMul(), (3, 9, 20), (3, 20, 37), **d),
        case("matmul narrow", ops.MatMul(False, "relu"), (2, 3, 4, 300), (3, 300, 5), **d),
        case("matmul transposed", ops.MatMul(True), (2, 4, 5, 33), (2, 1, 40, 33), **d),
        case("matmul heads", ops.MatMul(True), (1, 12, 8), (1, 12, 8),
             views=((1, 6, 2, 8), (1, 6, 2, 8)), **d),
        case("matmul plain", ops.MatMul(), (6, 8), (8, 10), **d),
        case("to reals", conv(5, (2, 2), activation="tanh"), (1, 3, 6, 6), output="float32", **d),
        case("matmul to reals", ops.MatMul(), (6, 8), (8, 10), output="float32", **d),
        *([] if dtype == "float32" else _rounded_products(d)),
    ]  # fmt: skip


def _rounded_products(d: dict[str, Any]) -> list[Case]:
    """Integer products that are rounded before their activation."""
    return [
        case("conv before", conv(5, (3, 3), activation="hardswish"), (1, 3, 6, 6), before=True,
             **d),
        case("linear before", ops.Linear(9, True, "gelu"), (4, 8), before=True, **d),
        case("relu before", conv(5, (1, 1), activation="relu"), (1, 3, 6, 6), before=True, **d),
        case("prelu before", conv(5, (1, 1), activation="prelu"), (1, 3, 6, 6), before=True,
             slope=(5, 1, 1), **d),
        case("real kernel", conv(5, (3, 3), activation="relu"), (1, 3, 6, 6), weights=weights_for(
            conv(5, (3, 3)), ((1, 3, 6, 6),), "float32"), output="float32", **d),
        case("real matrix", ops.MatMul(), (6, 8), (8, 10), dtypes=(d["dtype"], "float32"),
             output="float32"),
        case("matmul before", ops.MatMul(False, "sigmoid"), (6, 8), (8, 10), before=True, **d),
    ]  # fmt: skip


_UNARY = {
    "relu": {}, "relu6": {}, "leaky_relu": {"alpha": 0.1}, "elu": {"alpha": 1.5},
    "selu": {"alpha": 1.6, "gamma": 1.05}, "celu": {"alpha": 0.7}, "sigmoid": {}, "tanh": {},
    "gelu": {"approximate": 0.0}, "quick_gelu": {"alpha": 1.702}, "silu": {}, "hardswish": {},
    "hardsigmoid": {"alpha": 0.2, "beta": 0.4}, "mish": {}, "softplus": {}, "softsign": {},
    "clip": {"min": -0.5, "max": 1.5}, "erf": {}, "exp": {}, "abs": {}, "neg": {}, "sign": {},
    "floor": {}, "ceil": {}, "round": {}, "sin": {}, "cos": {}, "atan": {}, "tan": {},
    "sinh": {}, "cosh": {}, "shrink": {"lambda": 0.5, "bias": 0.25},
    "thresholded_relu": {"alpha": 0.5},
}  # fmt: skip


def _elementwise(dtype: str) -> list[Case]:
    d: dict[str, Any] = {"dtype": dtype}
    shape = (1, 4, 5, 6)
    found = [case(f"unary {m}", ops.Unary(m), shape, **d, **p) for m, p in _UNARY.items()]
    found += [
        case("unary tanh gelu", ops.Unary("gelu"), shape, approximate=1.0, **d),
        case("unary prelu", ops.Unary("prelu"), shape, slope=(4, 1, 1), **d),
        case("unary viewed", ops.Unary("abs"), (1, 4, 5, 6), views=((1, 10, 12),), **d),
        case("unary vector", ops.Unary("relu"), (300,), **d),
        case("unary sequence", ops.Unary("silu"), (2, 3, 7), **d),
    ]
    for mode in ("log", "sqrt", "reciprocal", "asin", "acos"):
        if dtype == "float32":
            given = np.random.default_rng(3).uniform(0.1, 0.9, shape).astype("float32")
            found.append(case(f"unary {mode}", ops.Unary(mode), shape, inputs=[given], **d))
    for mode in ("add", "sub", "mul", "max", "min", "mean"):
        found.append(case(f"binary {mode}", ops.Binary(mode), shape, shape, **d))
    small, other = (1, 4, 1, 6), (5, 6)
    found += [
        case("binary broadcast", ops.Binary("add", None, "relu"), small, (2, 1, 5, 1), **d),
        case("binary short", ops.Binary("mul"), shape, other, **d),
        case("binary pixel", ops.Binary("mul"), shape, (1, 4, 1, 1), **d),
        case("binary many", ops.Binary("sum", None, "sigmoid"), shape, shape, other, **d),
        case("binary before", ops.Binary("add", None, "tanh"), shape, shape,
             before=dtype != "float32", **d),
        case("binary constant", ops.Binary("add", (4, 1, 1)), shape, **d),
        case("binary map constant", ops.Binary("mul", (1, 4, 5, 6)), shape, **d),
        case("binary scalar", ops.Binary("mul", (1,), "relu6"), shape, **d),
        case("binary reversed", ops.Binary("rsub", (4, 5, 1)), shape, **d),
        case("binary token constant", ops.Binary("add", (7, 6)), (2, 7, 6), **d),
        case("binary two constants", ops.Binary("add", (4, 1, 6)), shape, **d, weights=(
            Weight("a", (4, 1, 1), dtype if dtype == "float32" else "int8", "constant"),
            Weight("b", (1, 6), dtype if dtype == "float32" else "int8", "constant"))),
        case("binary prelu", ops.Binary("prelu"), shape, (4, 1, 1), **d),
        case("binary folded prelu", ops.Binary("add", None, "prelu"), shape, shape,
             slope=(4, 1, 1), **d),
        case("binary viewed", ops.Binary("add"), (1, 6, 2, 10), (1, 4, 5, 6),
             views=((1, 4, 5, 6), (1, 4, 5, 6)), **d),
        case("batch norm", ops.BatchNorm("relu"), shape, **d),
        case("batch norm 1d", ops.BatchNorm(), (2, 4, 6), **d),
    ]  # fmt: skip
    if dtype == "float32":
        found += [
            case("binary div", ops.Binary("div"), shape, shape, above_zero=True),
            case("binary pow", ops.Binary("pow"), shape, shape, above_zero=True),
            case("binary rdiv", ops.Binary("rdiv", (4, 1, 1)), shape, above_zero=True),
            case("binary mod", ops.Binary("mod"), (3, 9), (3, 9), dtype="int32",
                 inputs=[np.arange(-13, 14, dtype="int32").reshape(3, 9),
                         np.resize(np.array([3, -4, 5], "int32"), (3, 9))]),
            case("binary fmod", ops.Binary("mod"), shape, shape, fmod=1.0),
            case("binary compare", ops.Binary("greater"), shape, shape, output="bool"),
            case("binary equal", ops.Binary("equal"), (4, 9), (4, 9), dtype="int32",
                 output="bool"),
            case("binary and", ops.Binary("and"), (4, 9), (4, 9), dtype="bool"),
            case("binary xor", ops.Binary("xor"), (4, 9), (9,), dtype="bool"),
            case("unary not", ops.Unary("not"), (4, 9), dtype="bool"),
            case("unary cast", ops.Unary("cast"), (4, 9), output="int64"),
            case("unary cast bool", ops.Unary("cast"), (4, 9), output="bool"),
            case("unary is_inf", ops.Unary("is_inf"), (2, 2), output="bool", negative=0.0,
                 positive=1.0, inputs=[np.array([[1, np.inf], [-np.inf, np.nan]], "float32")]),
            case("unary is_nan", ops.Unary("is_nan"), (2, 2), output="bool",
                 inputs=[np.array([[1, np.inf], [-np.inf, np.nan]], "float32")]),
            case("where", ops.Binary("where"), (3, 1), (3, 5), (5,),
                 dtypes=("bool", "float32", "float32")),
            case("where constant", ops.Binary("where", (1, 5)), (3, 5), (3, 5),
                 dtypes=("bool", "float32"), constants=2.0),
        ]  # fmt: skip
    else:
        found += [
            case("quantise", ops.Unary("cast"), shape, dtypes=("float32",), dtype=dtype),
            case("dequantise", ops.Unary("cast"), shape, dtype=dtype, output="float32"),
            case("requantise", ops.Unary("cast"), shape, dtype="int8", output="uint8"),
        ]
    return found


def _windows(dtype: str) -> list[Case]:
    d: dict[str, Any] = {"dtype": dtype}

    def pool(mode: str, *window: Shape, **extra: Any) -> ops.Pool:
        kernel, stride, pads = window
        return ops.Pool(mode, kernel, stride, pads, extra.pop("dilation", (1,) * len(kernel)),
                        **extra)  # fmt: skip

    found = [
        case("max pool", pool("max", (3, 3), (2, 2), (1, 1, 1, 1)), (1, 3, 9, 8), **d),
        case("max pool dilated", pool("max", (2, 3), (1, 2), (0, 1, 1, 0), dilation=(2, 1)),
             (2, 3, 7, 9), **d),
        case("max pool 1d", pool("max", (3,), (2,), (1, 1)), (2, 3, 9), **d),
        case("max pool 3d", pool("max", (2, 2, 2), (1, 2, 2), (0,) * 6), (1, 3, 4, 6, 6), **d),
        case("max pool wide", pool("max", (2, 2), (2, 2), (0,) * 4), (1, 2, 4, 600), **d),
        case("avg pool", pool("avg", (2, 2), (2, 2), (0,) * 4), (1, 3, 8, 6), **d),
        case("avg pool padded", pool("avg", (4, 2), (2, 2), (1, 1, 1, 1), count_include_pad=True,
                                     ceil_mode=True), (1, 3, 9, 7), **d),
        case("reduce mean", ops.Reduce("mean", (2, 3)), (1, 6, 4, 4), **d),
        case("reduce flat", ops.Reduce("mean", (2, 3), False), (2, 6, 4, 8), **d),
        case("reduce rows", ops.Reduce("sum", (1,)), (1, 4, 5, 6), **d),
        case("reduce last", ops.Reduce("max", (-1,), True, "relu"), (2, 5, 300), **d),
        case("reduce min", ops.Reduce("min", (0, 2), False), (3, 4, 5, 6), **d),
        case("reduce viewed", ops.Reduce("mean", (1,)), (1, 4, 4, 6), views=((2, 16, 3),), **d),
        case("argmax", ops.Reduce("argmax", (1,), False), (2, 6, 5), output="int64", **d),
        case("argmin last", ops.Reduce("argmin", (3,)), (2, 3, 4, 5), output="int64", last=1.0,
             **d),
        case("softmax", ops.Softmax(-1), (2, 3, 5, 9), **d),
        case("softmax wide", ops.Softmax(2), (1, 3, 700), **d),
        case("softmax rows", ops.Softmax(2), (1, 3, 5, 4), **d),
        case("softmax channels", ops.Softmax(1), (1, 7, 5, 4), **d),
        case("log softmax", ops.Softmax(1), (3, 9), log=1.0, **d),
    ]  # fmt: skip
    if dtype == "float32":
        found += [
            case("lp pool", pool("lp", (2, 2), (1, 1), (0,) * 4), (1, 2, 5, 6), p=3.0),
            case("avg pool excluded", pool("avg", (3, 3), (2, 2), (1, 1, 1, 1), ceil_mode=True),
                 (1, 3, 8, 9)),
            *(case(f"reduce {mode}", ops.Reduce(mode, (2, 3)), (1, 4, 3, 5), above_zero=True)
              for mode in ("prod", "l1", "l2", "log_sum", "log_sum_exp", "sum_square")),
        ]  # fmt: skip
    return found


def _norms(dtype: str) -> list[Case]:
    d: dict[str, Any] = {"dtype": dtype}
    e = {"epsilon": 1e-3}

    def norm(mode: str, axes: Shape, affine: bool = True, activation: str | None = None) -> Any:
        return ops.Normalize(mode, axes, affine, activation)

    return [
        case("layer norm", norm("layer", (-1,)), (2, 5, 12), **d, **e),
        case("layer norm wide", norm("layer", (2,), False), (1, 3, 600), **d, **e),
        case("layer norm two", norm("layer", (2, 3), True, "relu"), (2, 3, 4, 5), **d, **e),
        case("layer norm channels", norm("layer", (1,), False), (1, 6, 4, 5), **d, **e),
        case("rms norm", norm("rms", (-1,)), (3, 16), **d, **e),
        case("instance norm", norm("instance", (2, 3)), (2, 4, 5, 6), **d, **e),
        case("group norm", norm("group", (1, 2, 3)), (2, 6, 4, 5), num_groups=3.0, **d, **e),
        case("group norm shared", norm("group", (1, 2, 3)), (1, 6, 4, 5), num_groups=3.0,
             weights=tuple(Weight(n, (3,), "float32", n) for n in ("weight", "bias")), **d, **e),
        case("lrn", norm("lrn", (1,), False), (1, 7, 4, 5), lrn_alpha=0.5, lrn_beta=0.75,
             lrn_bias=2.0, lrn_size=4.0, **d),
        case("l1 norm", norm("l1", (1,), False), (2, 4, 3, 3), **d),
        case("l2 norm", norm("l2", (-1,), False), (3, 9), **d),
    ]  # fmt: skip


def _moves(dtype: str) -> list[Case]:
    d: dict[str, Any] = {"dtype": dtype}
    shape = (1, 4, 5, 6)

    def resize(shape: Shape, *how: str) -> ops.Resize:
        return ops.Resize(shape, *how)

    constant = "int8" if dtype == "uint8" else dtype
    table = Weight("table", (9, 6), constant, "table")
    small = Weight("table", (3, 6), constant, "table")
    rows = np.array([[0, 2], [-1, 1]], "int64")
    mixed = ("uint8" if dtype == "int8" else "int8", "float32")
    return [
        case("concat mixed", ops.Concat(1), (1, 2, 5, 6), (1, 3, 5, 6), dtypes=mixed, **d),
        case("take as real", ops.Transpose((0, 3, 1, 2)), shape, dtypes=mixed[:1], **d),
        case("add mixed", ops.Binary("add"), shape, shape, dtypes=mixed, **d),
        case("concat", ops.Concat(1), (1, 2, 5, 6), (1, 3, 5, 6), (1, 1, 5, 6), **d),
        case("concat rows", ops.Concat(2), (2, 2, 3, 6), (2, 2, 4, 6), **d),
        case("concat last", ops.Concat(-1), (2, 5, 3), (2, 5, 4), **d),
        case("concat constants", ops.Concat(1, ((0, (1, 1, 6)), (2, (1, 2, 6)))), (1, 3, 6),
             **d, same_scale=True),
        case("concat batch", ops.Concat(0), (1, 2, 3, 4), (2, 2, 3, 4), **d),
        case("slice", ops.Slice((0, 1, 0, 2), (1, 2, 5, 3), (1, 1, 1, 1)), shape, **d),
        case("slice steps", ops.Slice((0, 3, 1, 5), (1, 2, 2, 3), (1, -2, 2, -2)), shape, **d),
        case("slice flip", ops.Slice((0, 0, 4, 0), (1, 4, 5, 6), (1, 1, -1, 1)), shape, **d),
        case("slice same scale", ops.Slice((0, 0, 1, 0), (1, 4, 3, 6), (1, 1, 1, 1)), shape,
             same_scale=True, **d),
        case("pad", ops.Pad((0, 0, 1, 2, 0, 0, 2, 1)), shape, **d),
        case("pad value", ops.Pad((0, 1, 0, 0, 0, 2, 0, 0), "constant", math.nan), shape,
             value=1.5, **d),
        case("pad crop", ops.Pad((0, 0, -1, 2, 0, 0, 1, -3)), shape, **d),
        case("pad reflect", ops.Pad((0, 0, 2, 3, 0, 0, 4, 1), "reflect"), shape, **d),
        case("pad reflect cropped", ops.Pad((0, 0, -1, 2, 0, 0, 2, -2), "reflect"), shape, **d),
        case("pad edge", ops.Pad((0, 0, 0, 3, 0, 0, 0, 9), "edge"), shape, **d),
        case("pad wrap", ops.Pad((0, 1, 2, 0, 0, 2, 3, 0), "wrap"), shape, **d),
        case("nearest", resize((1, 4, 10, 18)), shape, **d),
        case("nearest down", resize((1, 4, 2, 3)), shape, **d),
        case("nearest half", resize((1, 4, 7, 9), "nearest", "half_pixel", "round_prefer_floor"),
             shape, **d),
        case("nearest corners", resize((1, 4, 9, 11), "nearest", "align_corners",
                                       "round_prefer_ceil"), shape, **d),
        case("repeat", resize((1, 4, 5, 6)), (1, 4, 1, 1), **d),
        case("linear", resize((1, 4, 10, 12), "linear", "half_pixel"), shape, **d),
        case("linear corners", resize((1, 4, 9, 11), "linear", "align_corners"), shape, **d),
        case("linear symmetric", resize((1, 4, 7, 6), "linear", "half_pixel_symmetric"), shape,
             scale_2=1.3, **d),
        case("cubic", resize((1, 2, 8, 12), "cubic", "pytorch_half_pixel"), (1, 2, 4, 6),
             cubic_coeff_a=-0.5, **d),
        case("cubic inside", resize((1, 2, 8, 12), "cubic", "asymmetric"), (1, 2, 4, 6),
             exclude_outside=1.0, cubic_coeff_a=-0.75, **d),
        case("transpose", ops.Transpose((0, 2, 3, 1)), shape, **d),
        case("transpose heads", ops.Transpose((0, 2, 1, 3), (1, 5, 12)), (1, 2, 5, 6), **d),
        case("transpose viewed", ops.Transpose((0, 2, 1, 3)), (1, 5, 12),
             views=((1, 5, 3, 4),), **d),
        case("transpose matrix", ops.Transpose((1, 0)), (5, 9), same_scale=True, **d),
        case("depth to space", ops.Transpose((0, 3, 4, 1, 5, 2), (1, 2, 6, 8)), (1, 8, 3, 4),
             views=((1, 2, 2, 2, 3, 4),), **d),
        case("gather", ops.Gather(1), (2, 5, 6), (3,), dtypes=(dtype, "int64"), **d,
             inputs=[None, np.array([4, -5, 2])]),
        case("gather constant", ops.Gather(0, (2, 2)), (3, 6), **d, arrays=[rows],
             weights=(Weight("indices", (2, 2), "int64", "constant"),)),
        case("embedding", ops.Gather(0, None, (9, 6)), (1, 4), dtypes=("int64",), **d,
             inputs=[np.array([[8, 0, 3, 3]])], weights=(table,)),
        case("embedding whole", ops.Gather(0, None, (3, 6)), (1, 4), dtypes=("int32",), **d,
             inputs=[np.array([[2, 0, 1, 1]], "int32")], weights=(small,)),
    ]  # fmt: skip


def _batches(dtype: str) -> list[Case]:
    """Every kind over several images, with padding, strides and rows that meet their border."""
    d: dict[str, Any] = {"dtype": dtype}
    shape = (3, 4, 5, 6)
    transposed = ops.ConvTranspose(
        6, (3, 2), (2, 3), (1, 0, 0, 1), (1, 2), (1, 0), 2, True, "relu6"
    )
    table = Weight("table", (9, 6), "int8" if dtype == "uint8" else dtype, "table")
    pooled = ops.Pool("max", (3, 3), (2, 2), (1, 1, 1, 1), (1, 1))
    return [
        case("conv", conv(5, (3, 3), pads=(1, 1, 1, 1), activation="relu"), shape, **d),
        case("conv strided", conv(5, (3, 2), stride=(2, 1), pads=(1, 0, 0, 2)), (2, 3, 8, 5), **d),
        case("conv1d", conv(6, (3,), stride=(2,), pads=(1, 2), groups=2), (3, 4, 9), **d),
        case("conv3d", conv(4, (2, 3, 2), pads=(1, 1, 0, 0, 1, 1)), (2, 3, 3, 6, 5), **d),
        case("depthwise", conv(8, (3, 3), pads=(2, 2, 2, 2), groups=4), shape, **d),
        case("conv prelu", conv(5, (3, 3), activation="prelu"), shape, slope=(5, 1, 1), **d),
        case("conv viewed", conv(5, (1, 1)), (3, 6, 4, 3), views=((3, 12, 3, 2),), **d),
        case("transposed", transposed, (2, 4, 4, 5), **d),
        case("linear", ops.Linear(7, True), (3, 5, 9), **d),
        case("linear heads", ops.Linear(7, True), (3, 2, 5, 9), **d),
        case("linear flat", ops.Linear(6, True), (2, 5, 3, 4), views=((2, 60),), **d),
        case("linear joined", ops.Linear(6, True), (2, 5, 12), views=((10, 12),), **d),
        case("linear apart", ops.Linear(6, True), (10, 12), views=((2, 5, 12),), **d),
        case("matmul", ops.MatMul(True), (2, 3, 5, 33), (2, 3, 7, 33), **d),
        case("matmul shared", ops.MatMul(), (2, 3, 5, 9), (9, 4), **d),
        case("matmul one", ops.MatMul(), (2, 1, 5, 9), (1, 3, 9, 4), **d),
        case("matmul three", ops.MatMul(False, "relu"), (3, 5, 9), (3, 9, 4), **d),
        case("max pool", pooled, shape, **d),
        case("mean", ops.Reduce("mean", (2, 3)), (3, 6, 4, 4), **d),
        case("mean rows", ops.Reduce("max", (2,)), shape, **d),
        case("mean of all", ops.Reduce("max", (0, 2), False), shape, **d),
        case("mean tokens", ops.Reduce("mean", (1,), False), (2, 8, 6), **d),
        case("unary", ops.Unary("silu"), shape, **d),
        case("binary", ops.Binary("add"), shape, shape, **d),
        case("binary gate", ops.Binary("mul"), shape, (3, 4), views=(shape, (3, 4, 1, 1)), **d),
        case("binary shared", ops.Binary("add"), (3, 5, 6), (1, 5, 6), **d),
        case("binary row", ops.Binary("mul"), shape, (5, 1), **d),
        case("binary constant", ops.Binary("add", (3, 1, 5, 1)), shape, **d),
        case("softmax", ops.Softmax(-1), shape, **d),
        case("softmax rows", ops.Softmax(2), shape, **d),
        case("softmax channels", ops.Softmax(1), shape, **d),
        case("softmax images", ops.Softmax(0), shape, **d),
        case("layer norm", ops.Normalize("layer", (2, 3), True), shape, epsilon=1e-3, **d),
        case("group norm", ops.Normalize("group", (1, 2, 3)), (2, 6, 4, 5), num_groups=3.0,
             epsilon=1e-3, **d),
        case("batch norm", ops.BatchNorm("relu"), shape, **d),
        case("concat", ops.Concat(1), shape, (3, 2, 5, 6), **d),
        case("concat rows", ops.Concat(2), shape, (3, 4, 2, 6), **d),
        case("concat images", ops.Concat(0), shape, shape, **d),
        case("concat constants", ops.Concat(1, ((0, (3, 1, 6)),)), (3, 4, 6), same_scale=True,
             **d),
        case("slice", ops.Slice((0, 1, 1, 0), (3, 2, 2, 6), (1, 1, 2, 1)), shape, **d),
        case("slice images", ops.Slice((1, 0, 0, 0), (2, 4, 5, 6), (1, 1, 1, 1)), shape, **d),
        case("pad", ops.Pad((0, 0, 1, 2, 0, 0, 2, 1)), shape, **d),
        case("pad images", ops.Pad((1, 0, 0, 0, 0, 0, 0, 0)), shape, **d),
        case("pad edge", ops.Pad((0, 0, 2, 0, 0, 0, 1, 0), "edge"), shape, **d),
        case("nearest", ops.Resize((3, 4, 10, 18)), shape, **d),
        case("resize", ops.Resize((3, 4, 10, 12), "linear", "half_pixel"), shape, **d),
        case("transpose", ops.Transpose((0, 2, 3, 1)), shape, **d),
        case("transpose heads", ops.Transpose((0, 2, 1, 3), (3, 5, 24)), shape, **d),
        case("transpose folded", ops.Transpose((0, 2, 1, 3), (6, 3, 5)), (2, 3, 3, 5), **d),
        case("transpose images", ops.Transpose((1, 0, 2, 3)), shape, **d),
        case("gather", ops.Gather(1), (2, 5, 6), (3,), dtypes=(dtype, "int64"), **d,
             inputs=[None, np.array([4, -5, 2])]),
        case("embedding", ops.Gather(0, None, (9, 6)), (2, 4), dtypes=("int64",), **d,
             inputs=[np.array([[8, 0, 3, 3], [1, 1, 2, 7]])], weights=(table,)),
    ]  # fmt: skip


@cache
def batch_cases() -> list[Case]:
    """Cases of several images, whose rows lie image by image wherever a network's would."""
    found = []
    for dtype in ("float32", "int8", "uint8"):
        found += [in_images(c, f"images {c.name}, {dtype}") for c in _batches(dtype)]
    return found


def in_images(found: Case, name: str) -> Case:
    """The case with the rows of its maps image by image.

    Where a network would not have them so, with those that can: a kernel takes any layout.
    """
    network = images.with_images(found.network)
    if all(tensor.images == 1 for tensor in network.tensors.values()):
        shapes = {n: t.shape for n, t in network.tensors.items() if len(t.shape) > 2}
        count = max((shape[0] for shape in shapes.values()), default=1)
        names = [n for n, shape in shapes.items() if shape[0] == count]
        network = images.in_images(network, names, count)
    return replace(found, name=name, network=network)


@cache
def all_cases() -> list[Case]:
    """Every case, float32 and integer."""
    found = []
    for dtype in ("float32", "int8", "uint8"):
        for group in (_products, _elementwise, _windows, _norms, _moves):
            found += [replace(c, name=f"{c.name}, {dtype}") for c in group(dtype)]
    indices = case("move indices", ops.Transpose((1, 0)), (3, 4), dtype="int64",
                   inputs=[np.arange(12).reshape(3, 4) + 2**52])  # fmt: skip
    flags = case("move flags", ops.Slice((0, 1), (3, 3), (1, 1)), (3, 4), dtype="bool")
    return [*found, replace(indices, name="move indices, int64"), replace(flags, name="flags")]
