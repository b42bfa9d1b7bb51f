"""Meaning of the ONNX operators that work element by element.

A constant operand is a weight of the layer. Constants have been folded before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import numpy as np

from spm_opt.formats.onnx_draft import Draft, Node
from spm_opt.graph.ops import Binary, Unary, broadcast


def _unary(draft: Draft, node: Node, mode: str) -> None:
    if node.type == "FastGelu" and node.has(1):
        draft.opaque(node)
        return
    draft.emit(node, Unary(mode), node.inputs[:1])


def _swish(draft: Draft, node: Node) -> None:
    _unary(draft, node, "silu" if node.real("alpha", 1.0) == 1.0 else "quick_gelu")


def _clip(draft: Draft, node: Node) -> None:
    low, high = _bound(draft, node, 1, "min"), _bound(draft, node, 2, "max")
    known: dict[float | None, str] = {None: "relu", 6.0: "relu6"} if low == 0 else {}
    mode = known.get(high, "clip")
    draft.emit(node, Unary(mode), node.inputs[:1])


def _bound(draft: Draft, node: Node, index: int, name: str) -> float | None:
    """Bound of a Clip; None where there is none, NaN where it is not known."""
    if node.has(index):
        constant = draft.constants.get(node.inputs[index])
        if constant is None or constant.value is None:
            return float("nan")
        value = float(np.ravel(constant.value)[0])
    elif name in node.attributes:
        value = node.real(name, 0.0)
    else:
        return None
    return None if abs(value) > 1e38 else value


def _binary(draft: Draft, node: Node, mode: str, names: Sequence[str] | None = None) -> None:
    given = node.inputs if names is None else names
    active = tuple(name for name in given if not draft.is_constant(name))
    constants = tuple(name for name in given if name in draft.constants)
    if not constants:
        draft.emit(node, Binary(mode), active)
        return
    if draft.is_constant(given[0]):
        mode = _REVERSED.get(mode, mode)
    shape = broadcast(tuple(draft.shape(name) for name in constants))
    weights = tuple(draft.weight(name, "constant") for name in constants)
    draft.emit(node, Binary(mode, constant_shape=shape), active, weights)


#: not commutative: with the constant on the left they are operations of their own
_REVERSED: Final = {
    "sub": "rsub", "div": "rdiv", "pow": "rpow", "mod": "rmod", "greater": "less",
    "less": "greater", "greater_or_equal": "less_or_equal", "less_or_equal": "greater_or_equal",
}  # fmt: skip


def _div(draft: Draft, node: Node) -> None:
    constant = draft.constants.get(node.inputs[0])
    one = constant is not None and constant.value is not None and (constant.value == 1).all()
    if constant is not None and one and constant.elements == 1:
        draft.emit(node, Unary("reciprocal"), node.inputs[1:])
    else:
        _binary(draft, node, "div")


def _prelu(draft: Draft, node: Node) -> None:
    if draft.is_constant(node.inputs[1]):
        slope = draft.weight(node.inputs[1], "constant")
        draft.emit(node, Unary("prelu"), node.inputs[:1], (slope,))
    else:
        draft.emit(node, Binary("prelu"), node.inputs)


def _qlinear_binary(draft: Draft, node: Node, mode: str) -> None:
    # each operand comes with its scale and zero point
    _binary(draft, node, mode, (node.inputs[0], node.inputs[3]))


_UNARY: Final = {
    "Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "LeakyRelu": "leaky_relu",
    "ThresholdedRelu": "thresholded_relu", "Elu": "elu", "Selu": "selu", "Celu": "celu",
    "Gelu": "gelu", "FastGelu": "gelu", "QuickGelu": "quick_gelu", "Mish": "mish",
    "HardSwish": "hardswish", "HardSigmoid": "hardsigmoid", "Softplus": "softplus",
    "Softsign": "softsign", "Erf": "erf", "Exp": "exp", "Log": "log", "Sqrt": "sqrt",
    "Reciprocal": "reciprocal", "Abs": "abs", "Neg": "neg", "Sign": "sign", "Floor": "floor",
    "Ceil": "ceil", "Round": "round", "Sin": "sin", "Cos": "cos", "Tan": "tan", "Asin": "asin",
    "Acos": "acos", "Atan": "atan", "Sinh": "sinh", "Cosh": "cosh", "Not": "not",
    "BitwiseNot": "not", "IsNaN": "is_nan", "IsInf": "is_inf", "Shrink": "shrink",
    "QLinearSigmoid": "sigmoid", "QLinearLeakyRelu": "leaky_relu",
}  # fmt: skip
_BINARY: Final = {
    "Add": "add", "Sub": "sub", "Mul": "mul", "Pow": "pow", "Mod": "mod", "Min": "min",
    "Max": "max", "Sum": "add", "Mean": "mean", "Where": "where", "Equal": "equal",
    "Greater": "greater", "Less": "less", "GreaterOrEqual": "greater_or_equal",
    "LessOrEqual": "less_or_equal", "And": "and", "Or": "or", "Xor": "xor",
    "BitwiseAnd": "and", "BitwiseOr": "or", "BitwiseXor": "xor",
}  # fmt: skip

TRANSLATORS: Final[dict[str, Callable[[Draft, Node], None]]] = {
    **{kind: partial(_unary, mode=mode) for kind, mode in _UNARY.items()},
    **{kind: partial(_binary, mode=mode) for kind, mode in _BINARY.items()},
    "Div": _div,
    "Swish": _swish,
    "Clip": _clip,
    "PRelu": _prelu,
    "QLinearAdd": partial(_qlinear_binary, mode="add"),
    "QLinearMul": partial(_qlinear_binary, mode="mul"),
}
