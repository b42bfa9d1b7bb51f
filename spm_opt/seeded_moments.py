"""How large the numbers in a feature map are, told from those that it is computed from.

A map is taken for normally distributed, its elements for independent: good enough to choose the
scale of drawn weights, and of the integers that hold what comes out. Nothing is drawn here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from spm_opt.graph import ops
from spm_opt.graph.network import Layer

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Moments:
    """Mean and variance of a map's elements."""

    mean: float = 0.0
    variance: float = 1.0

    @property
    def square(self) -> float:
        """Mean of the squares."""
        return self.mean**2 + self.variance

    @property
    def reach(self) -> float:
        """What hardly an element's magnitude exceeds."""
        return abs(self.mean) + 4.0 * math.sqrt(self.variance)

    def scaled(self, factor: float) -> Moments:
        """Of the elements times `factor`."""
        return Moments(self.mean * factor, self.variance * factor**2)

    def plus(self, other: Moments) -> Moments:
        """Of sums of elements of both."""
        return Moments(self.mean + other.mean, self.variance + other.variance)

    def times(self, other: Moments) -> Moments:
        """Of products of elements of both."""
        mean = self.mean * other.mean
        return Moments(mean, max(self.square * other.square - mean**2, 0.0))


#: of a constant that is added, of one that multiplies, and of one that shifts what has variance 1
ADDEND: Final = Moments(0.0, 1.0)
FACTOR: Final = Moments(1.0, 0.0625)
SHIFT: Final = Moments(0.0, 0.0625)

#: parameters of functions in networks that come without numbers
PARAMETERS: Final[Mapping[str, Mapping[str, float]]] = {
    "leaky_relu": {"alpha": 0.01},
    "prelu": {"alpha": 0.25},
    "elu": {"alpha": 1.0},
    "celu": {"alpha": 1.0},
    "selu": {"alpha": 1.6732631921768188, "gamma": 1.0507010221481323},
    "hardsigmoid": {"alpha": 1.0 / 6.0, "beta": 0.5},
    "hardswish": {"alpha": 1.0 / 6.0, "beta": 0.5},
    "quick_gelu": {"alpha": 1.702},
    "gelu": {"approximate": 0.0},
    "clip": {"min": -2.0, "max": 2.0},
    "shrink": {"lambda": 0.5, "bias": 0.0},
    "is_inf": {"negative": 1.0, "positive": 1.0},
}


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))


def _elu(x: Floats) -> Floats:
    return np.where(x > 0.0, x, np.expm1(np.minimum(x, 0.0)))


#: functions whose outputs are distributed otherwise than their inputs, by the parameters above
_FUNCTIONS: Final[Mapping[str, Callable[[Floats], Floats]]] = {
    "relu": lambda x: np.maximum(x, 0.0),
    "relu6": lambda x: np.clip(x, 0.0, 6.0),
    "clip": lambda x: np.clip(x, -2.0, 2.0),
    "leaky_relu": lambda x: np.where(x < 0.0, 0.01 * x, x),
    "prelu": lambda x: np.where(x < 0.0, 0.25 * x, x),
    "elu": _elu,
    "celu": _elu,
    "selu": lambda x: 1.05070102 * np.where(x > 0.0, x, 1.67326319 * _elu(x)),
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "gelu": lambda x: x * _sigmoid(1.702 * x),
    "quick_gelu": lambda x: x * _sigmoid(1.702 * x),
    "silu": lambda x: x * _sigmoid(x),
    "hardswish": lambda x: x * np.clip(x / 6.0 + 0.5, 0.0, 1.0),
    "hardsigmoid": lambda x: np.clip(x / 6.0 + 0.5, 0.0, 1.0),
    "mish": lambda x: x * np.tanh(np.logaddexp(0.0, x)),
    "softplus": lambda x: np.logaddexp(0.0, x),
    "softsign": lambda x: x / (1.0 + np.abs(x)),
    "erf": np.tanh,
    "exp": lambda x: np.exp(np.minimum(x, 60.0)),
    "sqrt": lambda x: np.sqrt(np.abs(x)),
    "log": lambda x: np.log(np.maximum(np.abs(x), 1e-3)),
    "reciprocal": lambda x: 1.0 / np.where(np.abs(x) < 0.1, 0.1, x),
    "abs": np.abs,
    "neg": np.negative,
    "sign": np.sign,
    "sin": np.sin,
    "cos": np.cos,
    "atan": np.arctan,
    "sinh": lambda x: np.sinh(np.clip(x, -60.0, 60.0)),
    "cosh": lambda x: np.cosh(np.clip(x, -60.0, 60.0)),
}
#: variances of channels, relative to that of the map: drawn kernels differ, and so their outputs
_CHANNELS: Final = np.array([[0.2], [0.8], [2.0]])
_NORMAL: Final = np.linspace(-5.0, 5.0, 401)
_POINTS: Final = (np.sqrt(_CHANNELS) * _NORMAL).ravel()
_WEIGHTS: Final = np.tile(np.exp(-0.5 * _NORMAL**2) / np.exp(-0.5 * _NORMAL**2).sum() / 3.0, 3)


def after(mode: str | None, given: Moments) -> Moments:
    """Moments of a function's values, by integration over normal distributions."""
    function = _FUNCTIONS.get(mode or "")
    if function is None:
        return given
    values = function(given.mean + math.sqrt(given.variance) * _POINTS)
    mean = float((_WEIGHTS * values).sum())
    return Moments(mean, float((_WEIGHTS * (values - mean) ** 2).sum()))


def fan_in(layer: Layer) -> float:
    """Products that are summed in one output of a convolution or product (in the mean)."""
    op = layer.op
    if isinstance(op, (ops.Conv, ops.ConvTranspose)):
        taps = math.prod(op.kernel) * layer.input_shapes[0][1] // op.groups
        spread = math.prod(op.stride) if isinstance(op, ops.ConvTranspose) else 1
        return max(1.0, taps / spread)
    return float(layer.input_shapes[0][-1])


def moments_of(layer: Layer, given: tuple[Moments, ...]) -> Moments:
    """Moments of what a layer without a kernel of its own writes, before its activation.

    Parameters
    ----------
    layer : Layer
    given : tuple of Moments
        Of its inputs.
    """
    rule = _RULES.get(type(layer.op))
    if rule is not None:
        return rule(layer, given)
    return _mixed(layer.input_shapes, given) if given else Moments()


def _mixed(shapes: tuple[ops.Shape, ...], given: tuple[Moments, ...]) -> Moments:
    """Of all elements of several maps together."""
    weights = [math.prod(shape) for shape in shapes]
    mean = sum(w * m.mean for w, m in zip(weights, given, strict=True)) / sum(weights)
    square = sum(w * m.square for w, m in zip(weights, given, strict=True)) / sum(weights)
    return Moments(mean, max(square - mean**2, 0.0))


def _matmul(layer: Layer, given: tuple[Moments, ...]) -> Moments:
    product, count = given[0].times(given[1]), fan_in(layer)
    return Moments(product.mean * count, product.variance * count)


#: share of the variance that averages keep: channels differ in their means, too
_KEPT: Final = 0.7


def _largest(given: Moments, count: int) -> Moments:
    """Of the largest of `count` elements."""
    if count < 2:
        return given
    rise = 0.7 * math.sqrt(2.0 * math.log(count)) * math.sqrt(given.variance)
    return Moments(given.mean + rise, 0.5 * given.variance)


def _pool(layer: Layer, given: tuple[Moments, ...]) -> Moments:
    op = layer.op
    count = math.prod(op.kernel) if isinstance(op, ops.Pool) else 1
    if isinstance(op, ops.Pool) and op.mode == "max":
        return _largest(given[0], count)
    if isinstance(op, ops.Pool) and op.mode == "lp":
        return Moments(math.sqrt(given[0].square * count), given[0].variance)
    return Moments(given[0].mean, _KEPT * given[0].variance)


def _reduce(layer: Layer, given: tuple[Moments, ...]) -> Moments:
    mode = layer.op.mode if isinstance(layer.op, ops.Reduce) else ""
    count = max(1, math.prod(layer.input_shapes[0]) // math.prod(layer.output_shape))
    average = Moments(given[0].mean, _KEPT * given[0].variance)
    if mode == "sum":
        return average.scaled(float(count))
    if mode in ("max", "min"):
        largest = _largest(given[0].scaled(1.0 if mode == "max" else -1.0), count)
        return largest.scaled(1.0 if mode == "max" else -1.0)
    if mode in ("l1", "sum_square"):
        size = given[0].square if mode == "sum_square" else math.sqrt(given[0].square)
        return Moments(count * size, count * size**2)
    if mode == "l2":
        return Moments(math.sqrt(count * given[0].square), given[0].variance)
    return average


def _binary(layer: Layer, given: tuple[Moments, ...]) -> Moments:
    op = layer.op
    mode = op.mode if isinstance(op, ops.Binary) else ""
    constant = isinstance(op, ops.Binary) and op.constant_shape is not None
    operands = (*given, FACTOR if mode in FACTORS else ADDEND) if constant else given
    total = operands[0]
    for operand in operands[1:]:
        if mode in ("add", "sum", "mean"):
            total = total.plus(operand)
        elif mode == "sub":
            total = total.plus(operand.scaled(-1.0))
        elif mode == "mul":
            total = total.times(operand)
        else:
            total = max(total, operand, key=lambda moments: moments.square)
    return total.scaled(1.0 / len(operands)) if mode == "mean" else total


#: modes whose constant multiplies, or must not be near zero
FACTORS: Final = ("mul", "div", "pow", "mod", "rdiv", "rpow", "prelu")


def _unary(layer: Layer, given: tuple[Moments, ...]) -> Moments:
    return after(layer.op.mode if isinstance(layer.op, ops.Unary) else None, given[0])


def _softmax(layer: Layer, given: tuple[Moments, ...]) -> Moments:
    """Its largest value, of so many normal ones, is the reach."""
    axis = layer.op.axis if isinstance(layer.op, ops.Softmax) else -1
    count = layer.output_shape[axis]
    spread = min(math.sqrt(given[0].variance), 20.0)
    top = min(1.0, math.exp(min(3.0 * spread - 0.5 * spread**2, 0.0) + 2.0 * spread) / count)
    mean = 1.0 / count
    return Moments(mean, (max(top - mean, mean) / 4.0) ** 2)


def _normalized(layer: Layer, given: tuple[Moments, ...]) -> Moments:
    roles = {weight.role for weight in layer.weights}
    result = Moments().times(FACTOR) if "weight" in roles else Moments()
    return result.plus(SHIFT) if "bias" in roles else result


_RULES: Final[Mapping[type[ops.Op], Callable[[Layer, tuple[Moments, ...]], Moments]]] = {
    ops.MatMul: _matmul,
    ops.Pool: _pool,
    ops.Reduce: _reduce,
    ops.Binary: _binary,
    ops.Unary: _unary,
    ops.Softmax: _softmax,
    ops.Normalize: _normalized,
    ops.BatchNorm: _normalized,
    ops.Opaque: lambda layer, given: Moments(),
}
