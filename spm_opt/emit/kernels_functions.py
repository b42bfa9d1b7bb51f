"""Functions of one number, and tables of them over the 256 values of a byte.

`FUNCTIONS` pairs each mode with its name in ``spm_kernels.h``, its two parameters there, and the
function itself, so that a table holds what the kernel would compute.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from spm_opt.emit.kernels_text import RANGES
from spm_opt.errors import GraphError
from spm_opt.graph.values import Quantization

Bytes = NDArray[np.uint8]
Function = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class Activation:
    """A function as the kernels know it: ``enum`` name and parameters; `apply` computes it."""

    enum: str
    a: float
    b: float
    apply: Function


@dataclass(frozen=True, slots=True)
class _Kind:
    enum: str
    function: Callable[[float, float, float], float]
    a: tuple[str, float] = ("", 0.0)
    b: tuple[str, float] = ("", 0.0)


def _exp(x: float) -> float:
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + _exp(-x)) if x >= 0 else _exp(x) / (1.0 + _exp(x))


def _softplus(x: float) -> float:
    return x + math.log1p(_exp(-x)) if x > 0 else math.log1p(_exp(x))


def _hard(x: float, a: float, b: float) -> float:
    return min(max(a * x + b, 0.0), 1.0)


def _gelu(x: float) -> float:
    return 0.5 * x * (1.0 + math.erf(x * 0.70710678118654752440))


def _gelu_tanh(x: float) -> float:
    return 0.5 * x * (1.0 + math.tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x)))


def _elu(x: float, a: float) -> float:
    return x if x > 0 else a * math.expm1(x)


def _shrink(x: float, a: float, b: float) -> float:
    return x + b if x < -a else x - b if x > a else 0.0


def _is_inf(x: float, a: float, b: float) -> float:
    return float((x == math.inf and b != 0.0) or (x == -math.inf and a != 0.0))


def _guarded(function: Function) -> Callable[[float, float, float], float]:
    """As C has it: not a number outside the domain, infinite where a value is too large."""

    def guarded(x: float, a: float, b: float) -> float:
        try:
            return function(x)
        except OverflowError:
            return math.inf
        except ValueError:
            return -math.inf if function is math.log and x == 0.0 else math.nan

    return guarded


def _plain(function: Function) -> Callable[[float, float, float], float]:
    return lambda x, a, b: function(x)


_ALPHA: Final = ("alpha", 1.0)
FUNCTIONS: Final[dict[str, _Kind]] = {
    "identity": _Kind("SPM_IDENTITY", _plain(lambda x: x)),
    "cast": _Kind("SPM_IDENTITY", _plain(lambda x: x)),
    "relu": _Kind("SPM_RELU", _plain(lambda x: max(x, 0.0))),
    "relu6": _Kind("SPM_RELU6", _plain(lambda x: min(max(x, 0.0), 6.0))),
    "clip": _Kind("SPM_CLIP", lambda x, a, b: min(max(x, a), b),
                  ("min", -math.inf), ("max", math.inf)),
    "leaky_relu": _Kind("SPM_LEAKY_RELU", lambda x, a, b: x if x >= 0 else a * x, ("alpha", 0.01)),
    "thresholded_relu": _Kind("SPM_THRESHOLDED_RELU", lambda x, a, b: x if x > a else 0.0, _ALPHA),
    "elu": _Kind("SPM_ELU", lambda x, a, b: _elu(x, a), _ALPHA),
    "selu": _Kind("SPM_SELU", lambda x, a, b: b * _elu(x, a),
                  ("alpha", 1.67326319217681884765625), ("gamma", 1.05070102214813232421875)),
    "celu": _Kind("SPM_CELU", lambda x, a, b: x if x > 0 else a * math.expm1(x / a), _ALPHA),
    "sigmoid": _Kind("SPM_SIGMOID", _plain(_sigmoid)),
    "tanh": _Kind("SPM_TANH", _plain(math.tanh)),
    "gelu": _Kind("SPM_GELU", _plain(_gelu)),
    "gelu_tanh": _Kind("SPM_GELU_TANH", _plain(_gelu_tanh)),
    "quick_gelu": _Kind("SPM_QUICK_GELU", lambda x, a, b: x * _sigmoid(a * x), ("alpha", 1.702)),
    "silu": _Kind("SPM_SILU", _plain(lambda x: x * _sigmoid(x))),
    "hardswish": _Kind("SPM_HARDSWISH", lambda x, a, b: x * _hard(x, a, b),
                       ("alpha", 1 / 6), ("beta", 0.5)),
    "hardsigmoid": _Kind("SPM_HARDSIGMOID", _hard, ("alpha", 0.2), ("beta", 0.5)),
    "mish": _Kind("SPM_MISH", _plain(lambda x: x * math.tanh(_softplus(x)))),
    "softplus": _Kind("SPM_SOFTPLUS", _plain(_softplus)),
    "softsign": _Kind("SPM_SOFTSIGN", _plain(lambda x: x / (1.0 + abs(x)))),
    "erf": _Kind("SPM_ERF", _plain(math.erf)),
    "exp": _Kind("SPM_EXP", _plain(_exp)),
    "log": _Kind("SPM_LOG", _guarded(math.log)),
    "sqrt": _Kind("SPM_SQRT", _guarded(math.sqrt)),
    "reciprocal": _Kind("SPM_RECIPROCAL", _plain(lambda x: 1.0 / x if x else math.inf)),
    "abs": _Kind("SPM_ABS", _plain(abs)),
    "neg": _Kind("SPM_NEG", _plain(lambda x: -x)),
    "sign": _Kind("SPM_SIGN", _plain(lambda x: float((x > 0) - (x < 0)))),
    "floor": _Kind("SPM_FLOOR", _plain(lambda x: float(math.floor(x)))),
    "ceil": _Kind("SPM_CEIL", _plain(lambda x: float(math.ceil(x)))),
    "round": _Kind("SPM_ROUND", _plain(lambda x: float(round(x)))),
    "sin": _Kind("SPM_SIN", _plain(math.sin)),
    "cos": _Kind("SPM_COS", _plain(math.cos)),
    "tan": _Kind("SPM_TAN", _plain(math.tan)),
    "asin": _Kind("SPM_ASIN", _guarded(math.asin)),
    "acos": _Kind("SPM_ACOS", _guarded(math.acos)),
    "atan": _Kind("SPM_ATAN", _plain(math.atan)),
    "sinh": _Kind("SPM_SINH", lambda x, a, b: math.copysign(_guarded(math.sinh)(abs(x), a, b), x)),
    "cosh": _Kind("SPM_COSH", _guarded(math.cosh)),
    "shrink": _Kind("SPM_SHRINK", _shrink, ("lambda", 0.5), ("bias", 0.0)),
    "not": _Kind("SPM_NOT", _plain(lambda x: float(x == 0.0))),
    "is_nan": _Kind("SPM_IS_NAN", _plain(lambda x: float(math.isnan(x)))),
    "is_inf": _Kind("SPM_IS_INF", _is_inf, ("negative", 1.0), ("positive", 1.0)),
}  # fmt: skip


def activation_of(layer: str, mode: str | None, parameters: Mapping[str, float]) -> Activation:
    """The function `mode` with the layer's parameters. Raises GraphError for an unknown one."""
    if mode == "gelu" and parameters.get("approximate", 0.0):
        mode = "gelu_tanh"
    kind = FUNCTIONS.get(mode or "identity")
    if kind is None:
        raise GraphError("no kernel computes this function", field=layer, found=mode)
    a, b = (parameters.get(name, default) for name, default in (kind.a, kind.b))
    return Activation(kind.enum, a, b, lambda x: kind.function(x, a, b))


def clamp_bounds(mode: str | None, parameters: Mapping[str, float]) -> tuple[float, float] | None:
    """Bounds of a function that only clamps; None for others."""
    clip = (parameters.get("min", -math.inf), parameters.get("max", math.inf))
    known = {None: (-math.inf, math.inf), "relu": (0.0, math.inf), "relu6": (0.0, 6.0)}
    return clip if mode == "clip" else known.get(mode)


def quantised(value: float, dtype: str, scaling: Quantization | None) -> int:
    """The integer that a real is stored as: rounded half to even, or cut off where unscaled."""
    low, high = (0, 1) if dtype == "bool" else RANGES[dtype]
    if dtype == "bool":
        return int(value != 0.0)
    if math.isnan(value):
        return high
    if scaling is None:
        return int(min(max(value, low), high))
    number = min(max(value / scaling.scale, -1e15), 1e15)
    return min(max(round(number) + scaling.zero_point, low), high)


def real(byte: int, dtype: str, scaling: Quantization | None) -> float:
    """The real that a byte of an 8-bit map stands for."""
    number = byte - 256 if dtype == "int8" and byte > 127 else byte
    return float(number) if scaling is None else scaling.scale * (number - scaling.zero_point)


def byte_table(
    function: Function, source: tuple[str, Quantization | None],
    target: tuple[str, Quantization | None],
) -> Bytes:  # fmt: skip
    """``table[b]`` is the byte of ``function(x)``, where byte ``b`` of the source means ``x``.

    Parameters
    ----------
    source, target : (str, Quantization or None)
        8-bit element type and scale of the maps read and written.
    """
    values = (quantised(function(real(b, *source)), *target) for b in range(256))
    return np.array([value & 255 for value in values], dtype=np.uint8)
