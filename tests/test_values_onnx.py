"""Values of ONNX constants: every rule by which layers fold, against ONNX's own reference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from values_models import Model, Outcome, outcome

from spm_opt.errors import InputError
from spm_opt.formats.network_json import network_from_dict, network_to_dict
from spm_opt.formats.onnx_reader import read_onnx
from spm_opt.formats.onnx_values import read_values
from spm_opt.graph.values import PARAMETERS

Build = Callable[[Model], object]


def check(model: Model, folder: Path, kinds: str) -> Outcome:
    """The oracle computes what the model does, in just these layers."""
    result = outcome(model, folder)
    assert result.kinds == kinds.split()
    assert result.difference() <= 1e-5
    given = {name for own in result.values.layers.values() for name in own.parameters}
    assert given <= set(PARAMETERS)
    return result


#: cases that onnx's own reference computes otherwise than its operators' specification
ONLY_ONNXRUNTIME = {"transposed, grouped", "local response", "l1", "pad", "align_corners"}


def need_runtime(name: str) -> None:
    if name in ONLY_ONNXRUNTIME:
        pytest.importorskip("onnxruntime", reason="onnx's reference is wrong here")


def conv(m: Model, source: str = "x", inner: int = 3, outer: int = 4, **attributes: object) -> str:
    if "auto_pad" not in attributes:
        attributes.setdefault("pads", [1, 1, 1, 1])
    groups = int(str(attributes.get("group", 1)))
    return m.node("Conv", source, m.weight(outer, inner // groups, 3, 3), **attributes)


# --- what folds into convolutions and products ----------------------------------------------------

FOLDED: dict[str, Build] = {
    "batch norm": lambda m: m.batch_norm(conv(m), 4),
    "batch norm, relu": lambda m: m.node("Relu", m.batch_norm(conv(m), 4)),
    "batch norm of a biased one": lambda m: m.batch_norm(
        m.node("Conv", "x", m.weight(4, 3, 1, 1), m.weight(4)), 4
    ),
    "grouped": lambda m: m.batch_norm(conv(m, outer=6, group=3, strides=[2, 1]), 6),
    "dilated": lambda m: m.node("Relu", conv(m, dilations=[2, 1], pads=[2, 0, 1, 1])),
    "same padding": lambda m: conv(m, auto_pad="SAME_LOWER", strides=[2, 2]),
    "scalar": lambda m: m.node("Mul", conv(m), m.const(0.25)),
    "scale by channel": lambda m: m.node("Mul", conv(m), m.weight(4, 1, 1)),
    "quotient": lambda m: m.node("Div", conv(m), m.weight(1, 4, 1, 1, positive=True)),
    "sum": lambda m: m.node("Add", m.weight(4, 1, 1), conv(m)),
    "difference": lambda m: m.node("Sub", conv(m), m.weight(1, 4, 1, 1)),
    "affine after norm": lambda m: m.node(
        "Add", m.node("Mul", m.batch_norm(conv(m), 4), m.weight(4, 1, 1)), m.weight(4, 1, 1)
    ),
    "transposed": lambda m: m.batch_norm(
        m.node("ConvTranspose", "x", m.weight(3, 4, 2, 2), m.weight(4), strides=[2, 2]), 4
    ),
    "transposed, grouped": lambda m: m.node(
        "Mul",
        m.node("ConvTranspose", "x", m.weight(3, 2, 3, 3), strides=[2, 3], group=3,
               pads=[1, 0, 1, 2], output_padding=[1, 0]),
        m.weight(6, 1, 1),
    ),
    "padding": lambda m: m.node(
        "Relu", conv(m, m.node("Pad", "x", m.const([0, 0, 1, 2, 0, 0, 0, 3], np.int64)),
                     pads=[1, 0, 0, 0])
    ),
    "weights of nodes": lambda m: m.node(
        "Conv", "x", m.node("Transpose", m.weight(3, 4, 3, 3), perm=[1, 0, 2, 3]),
        m.node("Squeeze", m.node("Identity", m.weight(1, 4)), m.const([0], np.int64)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLDED)
def test_what_folds_into_a_convolution(name: str, tmp_path: Path) -> None:
    need_runtime(name)
    m = Model(2, 3, 7, 6)
    FOLDED[name](m)
    check(m, tmp_path, "conv_transpose" if "transposed" in name else "conv")


def gemm(m: Model, *rest: str, **attributes: object) -> str:
    shape = (6, 5) if attributes.get("transB") else (5, 6)
    return m.node("Gemm", "x", m.weight(*shape), *rest, **attributes)


PRODUCTS: dict[str, tuple[Build, str]] = {
    "gemm": (lambda m: gemm(m), "linear"),
    "gemm, transposed": (lambda m: gemm(m, m.weight(6), transB=1), "linear"),
    "gemm, scalars": (lambda m: gemm(m, m.weight(1, 6), transB=1, alpha=0.5, beta=3.0), "linear"),
    "gemm, whole addend": (lambda m: gemm(m, m.weight(5, 6), beta=2.0), "linear binary"),
    "gemm, left transposed": (lambda m: gemm(m, m.weight(6), transA=1), "transpose linear"),
    "gemm, norm": (lambda m: m.node("Relu", m.batch_norm(gemm(m, m.weight(6)), 6)), "linear"),
    "matmul": (lambda m: m.node("Add", m.weight(6), m.node("MatMul", "x", m.weight(5, 6))),
               "linear"),
    "matmul, square": (lambda m: m.node("MatMul", "x", m.weight(5, 5)), "linear"),
    "matmul, many axes": (lambda m: m.node("MatMul", "x", m.weight(1, 1, 5, 6)), "linear"),
    "matmul, vector": (lambda m: m.node("MatMul", "x", m.weight(5)), "linear"),
    "matmul from the left": (lambda m: m.node("MatMul", m.weight(4, 5), "x"), "conv"),
    "two maps": (lambda m: m.node("MatMul", "x", m.node("Transpose", "x", perm=[1, 0])),
                 "transpose matmul"),
    "large": (lambda m: m.node("Gemm", "x", m.node("Transpose", m.weight(14000, 5))), "linear"),
}  # fmt: skip


@pytest.mark.parametrize("name", PRODUCTS)
def test_products(name: str, tmp_path: Path) -> None:
    build, kinds = PRODUCTS[name]
    m = Model(5, 5)
    build(m)
    result = check(m, tmp_path, kinds)
    for layer in result.network.layers:
        if layer.op.kind == "linear":
            inner = layer.input_shapes[0][-1]
            assert layer.weights[0].shape == (layer.output_shape[-1], inner)


def test_gemm_scalars_that_no_constant_takes_up_are_not_lost(tmp_path: Path) -> None:
    m = Model(5, 5)
    m.node("Gemm", "x", "x", alpha=0.5)
    network = read_onnx(m.save(tmp_path))
    assert [layer.op.kind for layer in network.layers] == ["opaque"]


# --- functions of one value -----------------------------------------------------------------------

ACTIVATIONS: dict[str, Build] = {
    "relu": lambda m: m.node("Relu", "y"),
    "clip": lambda m: m.node("Clip", "y", m.const(-0.5), m.const(1.25)),
    "clip below": lambda m: m.node("Clip", "y", m.const(-0.5)),
    "clip above": lambda m: m.node("Clip", "y", "", m.const(0.5)),
    "relu6": lambda m: m.node("Clip", "y", m.const(0.0), m.const(6.0)),
    "leaky": lambda m: m.node("LeakyRelu", "y", alpha=0.3),
    "leaky by default": lambda m: m.node("LeakyRelu", "y"),
    "prelu": lambda m: m.node("PRelu", "y", m.weight(4, 1, 1)),
    "prelu, one slope": lambda m: m.node("PRelu", "y", m.weight(1)),
    "thresholded": lambda m: m.node("ThresholdedRelu", "y", alpha=0.7),
    "elu": lambda m: m.node("Elu", "y", alpha=0.8),
    "celu": lambda m: m.node("Celu", "y", alpha=1.5),
    "selu": lambda m: m.node("Selu", "y"),
    "sigmoid": lambda m: m.node("Sigmoid", "y"),
    "tanh": lambda m: m.node("Tanh", "y"),
    "hard sigmoid": lambda m: m.node("HardSigmoid", "y"),
    "hard sigmoid, own": lambda m: m.node("HardSigmoid", "y", alpha=0.4, beta=0.3),
    "hard swish": lambda m: m.node("HardSwish", "y"),
    "gelu": lambda m: m.node("Gelu", "y"),
    "gelu with tanh": lambda m: m.node("Gelu", "y", approximate="tanh"),
    "mish": lambda m: m.node("Mish", "y"),
    "softplus": lambda m: m.node("Softplus", "y"),
    "softsign": lambda m: m.node("Softsign", "y"),
    "shrink": lambda m: m.node("Shrink", "y", lambd=0.4, bias=0.2),
    "erf": lambda m: m.node("Erf", "y"),
    "sign": lambda m: m.node("Sign", "y"),
    "round": lambda m: m.node("Round", "y"),
    "exp": lambda m: m.node("Exp", "y"),
    "cos": lambda m: m.node("Cos", "y"),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("head", ["conv", "unary", "binary", "pool"])
def test_activations(name: str, head: str, tmp_path: Path) -> None:
    m = Model(1, 4, 5, 6, opset=20)
    if head == "conv":
        m.node("Conv", "x", m.weight(4, 4, 1, 1), m.weight(4))
    elif head == "binary":
        m.node("Mul", "x", m.weight(5, 6))
    elif head == "pool":
        m.node("AveragePool", "x", kernel_shape=[2, 2])
    if head == "unary":
        m.nodes.append(onnx.helper.make_node("Identity", ["x"], ["y"]))
    else:
        m.nodes[-1].output[0] = "y"
    ACTIVATIONS[name](m)
    check(m, tmp_path, head)


def gated(m: Model, gate: str) -> str:
    return m.node("Mul", "y", gate)


def erf_gelu(m: Model) -> str:
    half = m.node("Div", "y", m.const(np.sqrt(2.0)))
    one = m.node("Add", m.node("Erf", half), m.const(1.0))
    return m.node("Mul", m.node("Mul", "y", one), m.const(0.5))


def tanh_gelu(m: Model, cube: str) -> str:
    inner = m.node("Add", "y", m.node("Mul", cube, m.const(0.044715)))
    tanh = m.node("Tanh", m.node("Mul", inner, m.const(np.sqrt(2.0 / np.pi))))
    return m.node("Mul", gated(m, m.node("Add", tanh, m.const(1.0))), m.const(0.5))


def relu6_of_shifted(m: Model, shift: float, top: float = 6.0) -> str:
    return m.node("Clip", m.node("Add", "y", m.const(shift)), m.const(0.0), m.const(top))


COMPOSITES: dict[str, tuple[Build, str, dict[str, float]]] = {
    "silu": (lambda m: gated(m, m.node("Sigmoid", "y")), "silu", {}),
    "quick gelu": (
        lambda m: gated(m, m.node("Sigmoid", m.node("Mul", "y", m.const(1.702)))),
        "quick_gelu", {"alpha": 1.702},
    ),
    "quick gelu by a quotient": (
        lambda m: gated(m, m.node("Sigmoid", m.node("Div", "y", m.const(0.8)))),
        "quick_gelu", {"alpha": 1.25},
    ),
    "hardswish of hardsigmoid": (
        lambda m: gated(m, m.node("HardSigmoid", "y", alpha=1 / 6, beta=0.5)),
        "hardswish", {"alpha": 1 / 6, "beta": 0.5},
    ),
    "another hardswish": (
        lambda m: gated(m, m.node("HardSigmoid", "y")),
        "hardswish", {"alpha": 0.2, "beta": 0.5},
    ),
    "hardswish in steps": (
        lambda m: m.node("Div", gated(m, relu6_of_shifted(m, 3.0)), m.const(6.0)),
        "hardswish", {"alpha": 1 / 6, "beta": 0.5},
    ),
    "hardsigmoid in steps": (
        lambda m: m.node("Mul", relu6_of_shifted(m, 3.0), m.const(1 / 6)),
        "hardsigmoid", {"alpha": 1 / 6, "beta": 0.5},
    ),
    "mish": (
        lambda m: gated(m, m.node("Tanh", m.node("Softplus", "y"))), "mish", {},
    ),
    "gelu": (erf_gelu, "gelu", {"approximate": 0.0}),
    "gelu with tanh": (
        lambda m: tanh_gelu(m, m.node("Pow", "y", m.const(3.0))), "gelu", {"approximate": 1.0},
    ),
    "gelu with tanh, products": (
        lambda m: tanh_gelu(m, gated(m, gated(m, "y"))), "gelu", {"approximate": 1.0},
    ),
}  # fmt: skip


def named_y(m: Model) -> Model:
    m.node("Conv", "x", m.weight(4, 4, 1, 1), m.weight(4))
    m.nodes[-1].output[0] = "y"
    return m


@pytest.mark.parametrize("name", COMPOSITES)
def test_composites(name: str, tmp_path: Path) -> None:
    build, mode, parameters = COMPOSITES[name]
    m = named_y(Model(1, 4, 5, 6))
    build(m)
    result = check(m, tmp_path, "conv")
    (layer,) = result.network.layers
    assert layer.op.activation == mode  # type: ignore[attr-defined]
    own = result.values.layers[layer.name].parameters
    assert own == pytest.approx(parameters, rel=1e-5)


IMPOSTORS: dict[str, Build] = {
    "a gate above one": lambda m: m.node("Div", gated(m, relu6_of_shifted(m, 3.0)), m.const(5.0)),
    "a clamp that is not 6": lambda m: m.node(
        "Div", gated(m, relu6_of_shifted(m, 3.0, 4.0)), m.const(6.0)
    ),
    "a square of sigmoids": lambda m: m.node("Mul", *[m.node("Sigmoid", "y")] * 2),
    "a gelu of another width": lambda m: m.node(
        "Mul",
        gated(m, m.node("Add", m.node("Erf", m.node("Mul", "y", m.const(0.5))), m.const(1.0))),
        m.const(0.5),
    ),
}


@pytest.mark.parametrize("name", IMPOSTORS)
def test_what_only_looks_like_a_composite_is_refused(name: str, tmp_path: Path) -> None:
    m = named_y(Model(1, 4, 5, 6))
    IMPOSTORS[name](m)
    path = m.save(tmp_path)
    network = read_onnx(path)
    assert len(network.layers) == 1
    with pytest.raises(InputError, match=r"model\.onnx: n\d: these steps were taken for another"):
        read_values(path, network)


# --- normalisations -------------------------------------------------------------------------------


def spelled_norm(m: Model, source: str, mode: str, axes: list[int], epsilon: float) -> str:
    centred = source
    if mode == "layer":
        centred = m.node("Sub", source, m.node("ReduceMean", source, axes=axes))
    square = m.node("Pow", centred, m.const(2.0))
    variance = m.node("ReduceMean", square, axes=axes)
    root = m.node("Sqrt", m.node("Add", variance, m.const(epsilon)))
    return m.node("Div", centred, root)


NORMALISATIONS: dict[str, tuple[tuple[int, ...], int, Build, str]] = {
    "layer": ((2, 5, 6), 17, lambda m: m.node(
        "LayerNormalization", "x", m.weight(6), m.weight(6), epsilon=0.1), "normalize"),
    "layer, no shift, two axes": ((2, 5, 6), 17, lambda m: m.node(
        "LayerNormalization", "x", m.weight(5, 6), axis=1), "normalize"),
    "layer in steps": ((2, 5, 6), 17, lambda m: spelled_norm(m, "x", "layer", [-1], 0.25),
        "normalize"),
    "layer in steps, affine": ((2, 5, 6), 17, lambda m: m.node("Relu", m.node(
        "Add", m.node("Mul", spelled_norm(m, "x", "layer", [-1], 1e-5), m.weight(6)),
        m.weight(6))), "normalize"),
    "layer in steps, over an image": ((2, 3, 5, 6), 17, lambda m: m.node(
        "Mul", spelled_norm(m, "x", "layer", [1, 2, 3], 1e-5), m.weight(3, 1, 1)), "normalize"),
    "rms in steps": ((2, 5, 6), 17, lambda m: m.node(
        "Mul", m.weight(6), spelled_norm(m, "x", "rms", [-1], 0.125)), "normalize"),
    "shift after a norm without": ((2, 5, 6), 17, lambda m: m.node(
        "Add", m.node("LayerNormalization", "x", m.weight(6)), m.weight(6)), "normalize"),
    "instance": ((2, 3, 5, 6), 17, lambda m: m.node(
        "InstanceNormalization", "x", m.weight(3), m.weight(3), epsilon=0.01), "normalize"),
    "group": ((2, 6, 5, 4), 21, lambda m: m.node(
        "GroupNormalization", "x", m.weight(6), m.weight(6), num_groups=3), "normalize"),
    "group as torch spells it": ((2, 6, 5, 4), 17, lambda m: m.node("Add", m.node("Mul", m.node(
        "Reshape", m.node("InstanceNormalization", m.node(
            "Reshape", "x", m.const([0, 3, -1], np.int64)), m.const([1.0] * 3),
            m.const([0.0] * 3)), m.const([2, 6, 5, 4], np.int64)), m.weight(6, 1, 1)),
        m.weight(6, 1, 1)), "normalize binary binary"),
    "batch, by itself": ((2, 3, 5, 6), 17, lambda m: m.node("Relu", m.batch_norm("x", 3)),
        "batch_norm"),
    "local response": ((1, 7, 4, 4), 17, lambda m: m.node(
        "LRN", "x", size=3, alpha=0.5, beta=0.6, bias=2.0), "normalize"),
    "l2": ((2, 5, 6), 17, lambda m: m.node("LpNormalization", "x", axis=1), "normalize"),
    "l1": ((2, 5, 6), 17, lambda m: m.node("LpNormalization", "x", p=1), "normalize"),
    "mean and variance": ((2, 3, 5, 6), 17, lambda m: m.node(
        "MeanVarianceNormalization", "x", axes=[2, 3]), "normalize"),
    "softmax": ((2, 5, 6), 17, lambda m: m.node("Softmax", "x", axis=1), "softmax"),
    "log softmax": ((2, 5, 6), 17, lambda m: m.node("LogSoftmax", "x"), "softmax"),
}  # fmt: skip


@pytest.mark.parametrize("name", NORMALISATIONS)
def test_normalisations(name: str, tmp_path: Path) -> None:
    need_runtime(name)
    shape, opset, build, kinds = NORMALISATIONS[name]
    m = Model(*shape, opset=opset)
    build(m)
    check(m, tmp_path, kinds)


# --- element by element, moves, pools, reductions -------------------------------------------------

FLOATS: dict[str, tuple[Build, str]] = {
    "reciprocal": (lambda m: m.node("Div", m.const(1.0), m.node("Exp", "x")), "unary unary"),
    "constant minus map": (lambda m: m.node("Sub", m.weight(5, 6), "x"), "binary"),
    "map minus constant": (lambda m: m.node("Sub", "x", m.weight(6)), "binary"),
    "constant over map": (lambda m: m.node("Div", m.weight(4, 1, 1), "x"), "binary"),
    "constant to the power": (lambda m: m.node("Pow", m.weight(6, positive=True), "x"), "binary"),
    "square": (lambda m: m.node("Pow", "x", m.const(2.0)), "binary"),
    "remainder": (lambda m: m.node("Mod", "x", m.weight(6, positive=True), fmod=1), "binary"),
    "sum of four": (lambda m: m.node("Sum", "x", m.weight(6), m.node("Sigmoid", "x"),
                                     m.weight(5, 1)), "unary binary"),
    "mean of three": (lambda m: m.node("Mean", "x", m.weight(6), "x"), "binary"),
    "least of three": (lambda m: m.node("Min", "x", m.weight(6), m.weight(5, 1)), "binary"),
    "where, map last": (lambda m: m.node("Where", m.const([True, False] * 3, np.bool_),
                                         m.weight(5, 6), "x"), "binary"),
    "where, map between": (lambda m: m.node("Where", m.const([True, False] * 3, np.bool_), "x",
                                            m.const(-9.0)), "binary"),
    "slope that is a map": (lambda m: m.node("PRelu", "x", m.node("Sigmoid", "x")),
                            "unary binary"),
    "greater": (lambda m: m.node("Cast", m.node("Greater", m.const(0.3), "x"), to=1),
                "binary unary"),
    "less or equal": (lambda m: m.node("Cast", m.node("LessOrEqual", "x", m.weight(6)), to=1),
                      "binary unary"),
    "constants joined": (lambda m: m.node("Concat", m.weight(1, 2, 5, 6), "x", m.weight(1, 1, 5, 6),
                                          "x", axis=1), "concat"),
    "slice backwards": (lambda m: m.node(
        "Slice", "x", *(m.const(v, np.int64) for v in ([4, 0], [-9, 5], [2, 3], [-2, 2]))),
        "slice"),
    "rows that are looked up": (lambda m: m.node("Gather", "x", m.const([[3, -1], [0, 0]],
                                                                       np.int64), axis=2),
                                "gather"),
    "transpose": (lambda m: m.node("Transpose", "x", perm=[0, 2, 3, 1]), "transpose"),
    "depth to space": (lambda m: m.node("DepthToSpace", "x", blocksize=2), "transpose"),
    "tile": (lambda m: m.node("Tile", "x", m.const([2, 1, 1, 3], np.int64)), "concat resize"),
    "expand": (lambda m: m.node("Expand", m.node("ReduceMax", "x", axes=[3]),
                                m.const([1, 4, 5, 7], np.int64)), "reduce resize"),
    "pad": (lambda m: m.node("Pad", "x", m.const([0, 1, 2, 0, 0, 0, -1, 3], np.int64),
                             m.const(1.5)), "pad"),
    "pad by reflection": (lambda m: m.node("Pad", "x", m.const([0, 0, 2, 1, 0, 0, 1, 3], np.int64),
                                           mode="reflect"), "pad"),
    "pad by the edge": (lambda m: m.node("Pad", "x", m.const([0, 0, 2, 1, 0, 0, 1, 3], np.int64),
                                         mode="edge"), "pad"),
    "maximum": (lambda m: m.node("MaxPool", "x", kernel_shape=[3, 2], strides=[2, 1],
                                 pads=[1, 0, 1, 1], dilations=[1, 2]), "pool"),
    "average": (lambda m: m.node("AveragePool", "x", kernel_shape=[3, 3], strides=[2, 2],
                                 pads=[1, 1, 0, 1]), "pool"),
    "average with padding": (lambda m: m.node("AveragePool", "x", kernel_shape=[3, 3],
                                              pads=[1, 1, 1, 1], count_include_pad=1), "pool"),
    "norm of a window": (lambda m: m.node("LpPool", "x", kernel_shape=[2, 2], p=3), "pool"),
    "global average": (lambda m: m.node("GlobalAveragePool", "x"), "reduce"),
    "global maximum": (lambda m: m.node("GlobalMaxPool", "x"), "reduce"),
    "highest": (lambda m: m.node("Cast", m.node("ArgMax", "x", axis=1, keepdims=0), to=1),
                "reduce unary"),
    "highest, the last": (lambda m: m.node("Cast", m.node(
        "ArgMax", m.node("Round", "x"), axis=3, select_last_index=1), to=1), "unary reduce unary"),
    "log of sum of exponentials": (lambda m: m.node("ReduceLogSumExp", "x", axes=[1, 2],
                                                    keepdims=0), "reduce"),
    "euclidean": (lambda m: m.node("ReduceL2", "x", axes=[3]), "reduce"),
    "product": (lambda m: m.node("ReduceProd", "x", axes=[2]), "reduce"),
}  # fmt: skip


@pytest.mark.parametrize("name", FLOATS)
def test_other_operators(name: str, tmp_path: Path) -> None:
    need_runtime(name)
    build, kinds = FLOATS[name]
    m = Model(1, 4, 5, 6)
    build(m)
    check(m, tmp_path, kinds)


COORDINATES = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric",
               "half_pixel_symmetric"]  # fmt: skip


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_resizes(mode: str, coordinates: str, tmp_path: Path) -> None:
    need_runtime(coordinates)
    m = Model(1, 2, 5, 6, opset=19)
    attributes = {"mode": mode, "coordinate_transformation_mode": coordinates}
    first = m.node("Resize", "x", "", m.const([1, 1, 2.3, 0.8]), **attributes)
    second = m.node("Resize", "x", "", "", m.const([1, 2, 10, 7], np.int64), **attributes)
    result = outcome(m, tmp_path, first, second)
    assert result.kinds == ["resize", "resize"]
    assert result.difference() <= 1e-5


def test_look_up_of_tokens(tmp_path: Path) -> None:
    m = Model(2, 7, elem=7)
    m.node("Add", m.node("Gather", m.weight(5, 8)), m.weight(7, 8))
    m.nodes[0].input.append("x")
    result = check(m, tmp_path, "gather binary")
    assert str(result.maps["x"].dtype) == "int64"


def test_constant_indices_count_from_the_front(tmp_path: Path) -> None:
    m = Model(5, 3)
    m.node("Gather", "x", m.const([-1, 0, -5, 2], np.int64))
    (own,) = check(m, tmp_path, "gather").values.layers.values()
    assert own.arrays[0].tolist() == [4, 0, 0, 2]


def test_split(tmp_path: Path) -> None:
    m = Model(2, 8, 3)
    parts = m.node("Split", "x", m.const([3, 5], np.int64), outputs=2, axis=1)
    result = outcome(m, tmp_path, *parts)
    assert result.kinds == ["slice", "slice"]
    assert result.difference() == 0.0


def test_batch_of_a_literal_one_repeats_constants(tmp_path: Path) -> None:
    m = Model(1, 3, 4)
    token = m.weight(1, 1, 4)
    m.node("Concat", token, "x", axis=1)
    result = outcome(m, tmp_path, batch=3)
    assert result.network.tensors["x"].shape == (3, 3, 4)
    (joined,) = (result.maps[name] for name in result.network.outputs)
    assert joined.shape == (3, 4, 4)
    assert (joined[:, 0] == joined[0, 0]).all()
    assert (joined[:, 1:] == result.maps["x"]).all()


def test_symbolic_dimensions_are_those_of_the_network(tmp_path: Path) -> None:
    m = Model("batch", "time", 4)
    m.node("MatMul", "x", m.weight(4, 6))
    path = m.save(tmp_path)
    network = read_onnx(path, batch=2, dims={"time": 5})
    assert read_values(path, network).layers["n0"].arrays[0].shape == (6, 4)


def test_external_data(tmp_path: Path) -> None:
    m = Model(3, 5)
    m.node("Gemm", "x", m.weight(5, 6), m.weight(6))
    inline = Outcome(m.save(tmp_path)).values.layers["n0"].arrays
    path = tmp_path / "apart.onnx"
    onnx.save(m.proto(), path, save_as_external_data=True, location="apart.bin", size_threshold=0)
    network = read_onnx(path)
    assert len(inline) == 2
    for own, other in zip(read_values(path, network).layers["n0"].arrays, inline, strict=True):
        assert (own == other).all()
    (tmp_path / "apart.bin").unlink()
    with pytest.raises(InputError, match=r"apart\.onnx: c0: the data of this constant cannot be"):
        read_values(path, network)


def test_a_schedule_embeds_enough_to_find_the_values(tmp_path: Path) -> None:
    m = Model(1, 3, 6, 6)
    m.node("Relu", m.batch_norm(conv(m), 4))
    path = m.save(tmp_path)
    network = read_onnx(path)
    again = network_from_dict(network_to_dict(network))
    first, second = (read_values(path, n).layers["n0"].arrays for n in (network, again))
    assert all((a == b).all() for a, b in zip(first, second, strict=True))


# --- files of other networks ----------------------------------------------------------------------


def small(m: Model, width: int = 4, activation: str = "Relu") -> Model:
    m.node(activation, m.node("Conv", "x", m.weight(width, 3, 3, 3), m.weight(width)))
    return m


OTHERS: dict[str, tuple[Callable[[], Model], str]] = {
    "wider": (lambda: small(Model(1, 3, 6, 6), 5), r"n0: another operator.*found Conv\(out_.*=5"),
    "another activation": (lambda: small(Model(1, 3, 6, 6), 4, "Tanh"), "n0: another operator"),
    "another input": (lambda: small(Model(1, 3, 6, 7)), r"x: this input has another shape.*7\]"),
    "another rank": (lambda: Model(1, 3, 6), "x: this input has another shape"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_file_of_another_network_is_named(name: str, tmp_path: Path) -> None:
    network = read_onnx(small(Model(1, 3, 6, 6)).save(tmp_path))
    make, message = OTHERS[name]
    other = make()
    if not other.nodes:
        other.node("Relu", "x")
    with pytest.raises(InputError, match=rf"(?s)model\.onnx: {message}.*allowed: "):
        read_values(other.save(tmp_path), network)


def test_a_missing_and_a_new_node_are_named(tmp_path: Path) -> None:
    m = small(Model(1, 3, 6, 6))
    short = read_onnx(m.save(tmp_path))
    m.node("Softmax", m.nodes[-1].output[0])
    path = m.save(tmp_path)
    with pytest.raises(InputError, match=r"n2: this node was not planned"):
        read_values(path, short)
    longer = read_onnx(path)
    with pytest.raises(InputError, match=r"n2: no such node.*allowed: softmax"):
        read_values(small(Model(1, 3, 6, 6)).save(tmp_path), longer)


def test_another_element_type_is_named(tmp_path: Path) -> None:
    path = small(Model(1, 3, 6, 6)).save(tmp_path)
    planned = read_onnx(path).with_dtype("int8")
    with pytest.raises(InputError, match=r"planned in another element type.*float32.*int8"):
        read_values(path, planned)


def test_an_opaque_layer_has_no_values(tmp_path: Path) -> None:
    m = Model(1, 3, 6, 6)
    m.node("Relu", m.node("Det", "x"))
    m.node("CumSum", m.nodes[-1].output[0], m.const(0, np.int64))
    path = m.save(tmp_path)
    network = read_onnx(path)
    assert "opaque" in [layer.op.kind for layer in network.layers]
    values = read_values(path, network)
    assert all(own.arrays == () for own in values.layers.values())
