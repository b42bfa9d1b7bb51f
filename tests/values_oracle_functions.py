"""Functions of one value in double, by the names that `Unary.mode` and activations use."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Numbers = Mapping[str, float]

_erf = np.vectorize(math.erf, otypes=[np.float64])


def unary(mode: str, x: Array, numbers: Numbers, slope: Array | None) -> Array:
    """``mode(x)`` with the layer's parameters; `slope` is that of a prelu."""
    if mode == "prelu":
        assert slope is not None
        return np.where(x < 0, x * slope, x)
    return FUNCTIONS[mode](x, numbers)


def _sigmoid(x: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-x))


def _gelu(x: Array, p: Numbers) -> Array:
    if p.get("approximate"):
        return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1.0 + _erf(x / math.sqrt(2.0)))


def _hard(x: Array, p: Numbers) -> Array:
    return np.clip(p.get("alpha", 1 / 6) * x + p.get("beta", 0.5), 0.0, 1.0)


def _elu(x: Array, alpha: float) -> Array:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0)))


def _shrink(x: Array, p: Numbers) -> Array:
    low = np.where(x < -p["lambda"], x + p["bias"], 0.0)
    return np.where(x > p["lambda"], x - p["bias"], low)


def _is_inf(x: Array, p: Numbers) -> Array:
    return (np.isposinf(x) & bool(p["positive"])) | (np.isneginf(x) & bool(p["negative"]))


FUNCTIONS: dict[str, Callable[[Array, Numbers], Array]] = {
    "relu": lambda x, p: np.maximum(x, 0.0),
    "relu6": lambda x, p: np.clip(x, 0.0, 6.0),
    "clip": lambda x, p: np.minimum(np.maximum(x, p["min"]), p["max"]),
    "leaky_relu": lambda x, p: np.where(x < 0, p["alpha"] * x, x),
    "thresholded_relu": lambda x, p: np.where(x > p["alpha"], x, 0.0),
    "elu": lambda x, p: _elu(x, p["alpha"]),
    "selu": lambda x, p: p["gamma"] * _elu(x, p["alpha"]),
    "celu": lambda x, p: (
        np.maximum(x, 0.0) + np.minimum(0.0, p["alpha"] * np.expm1(np.minimum(x, 0.0) / p["alpha"]))
    ),
    "sigmoid": lambda x, p: _sigmoid(x),
    "tanh": lambda x, p: np.tanh(x),
    "gelu": _gelu,
    "quick_gelu": lambda x, p: x * _sigmoid(p["alpha"] * x),
    "silu": lambda x, p: x * _sigmoid(x),
    "hardswish": lambda x, p: x * _hard(x, p),
    "hardsigmoid": _hard,
    "mish": lambda x, p: x * np.tanh(np.logaddexp(0.0, x)),
    "softplus": lambda x, p: np.logaddexp(0.0, x),
    "softsign": lambda x, p: x / (1.0 + np.abs(x)),
    "erf": lambda x, p: _erf(x),
    "exp": lambda x, p: np.exp(x),
    "log": lambda x, p: np.log(x),
    "sqrt": lambda x, p: np.sqrt(x),
    "reciprocal": lambda x, p: 1.0 / x,
    "abs": lambda x, p: np.abs(x),
    "neg": lambda x, p: -x,
    "sign": lambda x, p: np.sign(x),
    "floor": lambda x, p: np.floor(x),
    "ceil": lambda x, p: np.ceil(x),
    "round": lambda x, p: np.rint(x),
    "sin": lambda x, p: np.sin(x),
    "cos": lambda x, p: np.cos(x),
    "tan": lambda x, p: np.tan(x),
    "asin": lambda x, p: np.arcsin(x),
    "acos": lambda x, p: np.arccos(x),
    "atan": lambda x, p: np.arctan(x),
    "sinh": lambda x, p: np.sinh(x),
    "cosh": lambda x, p: np.cosh(x),
    "shrink": _shrink,
    "not": lambda x, p: x == 0,
    "is_nan": lambda x, p: np.isnan(x),
    "is_inf": _is_inf,
    "cast": lambda x, p: x,
}
