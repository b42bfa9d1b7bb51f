"""Composite functions that a model spells out: are they what they look like, with which numbers?

The planner tells silu, hardswish, layer normalisation ... from the kinds of their steps. Here the
steps are computed, on sample points, with the constants they have; parameters are read off the
results, and the whole must agree with the function that it is taken for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from spm_opt.errors import InputError
from spm_opt.formats.onnx_draft import Array
from spm_opt.formats.onnx_fold import evaluate
from spm_opt.formats.onnx_values_constants import Constants
from spm_opt.graph.network import Layer, Network
from spm_opt.graph.ops import Binary, Normalize, Unary

Floats = NDArray[np.float64]
Parameters = dict[str, float]
Fitted = tuple[Parameters, Floats]

#: how closely the steps, in float32, must follow the function
_TOLERANCE: Final = 2e-5


def composite_parameters(constants: Constants, viewless: Network, layer: Layer) -> Parameters:
    """Parameters of a layer that stands for several of the source.

    Parameters
    ----------
    constants : Constants
    viewless : Network
        With the layers that the source has.
    layer : Layer
        The composite; `Layer.folded` names its inner steps.

    Raises
    ------
    InputError
        Naming the layer, if its steps compute something else.
    """
    names = {layer.name, *layer.folded}
    steps = [step for step in viewless.layers if step.name in names]
    source = layer.inputs[0]
    x = _samples(layer)
    y = _computed(constants, steps, source.tensor, x)
    with np.errstate(all="ignore"):
        if isinstance(layer.op, Normalize):
            parameters, expected = _normalized(layer.op, x, _epsilon(constants, steps))
        else:
            parameters, expected = _FITS[layer.op.mode if isinstance(layer.op, Unary) else ""](x, y)
    if y.shape != x.shape or not np.allclose(y, expected, _TOLERANCE, _TOLERANCE):
        raise InputError(
            "these steps were taken for another function than they compute",
            file=constants.draft.file, field=layer.name,
            found=f"{len(steps)} nodes: {', '.join(step.name for step in steps)}",
            allowed=getattr(layer.op, "mode", ""),
        )  # fmt: skip
    return parameters


def _samples(layer: Layer) -> Floats:
    shape = layer.inputs[0].shape
    if isinstance(layer.op, Normalize):
        x = np.random.default_rng(0).standard_normal(shape) + 0.5
    else:
        x = np.linspace(-8.0, 8.0, 65).reshape((1,) * (len(shape) - 1) + (65,))
    return x.astype(np.float32).astype(np.float64)


def _epsilon(constants: Constants, steps: list[Layer]) -> float:
    """The scalar that is added to the variance: the only one that the steps add."""
    for step in steps:
        if isinstance(step.op, Binary) and step.op.mode in ("add", "sub") and step.weights:
            names = constants.draft.sources[step.name].inputs
            name = next(n for n in names if n in constants.draft.constants)
            value = float(np.ravel(constants.value(name))[0])
            return value if step.op.mode == "add" else -value
    return 0.0


def _normalized(op: Normalize, x: Floats, epsilon: float) -> Fitted:
    centred = x if op.mode == "rms" else x - x.mean(op.axes, keepdims=True)
    square = (centred * centred).mean(op.axes, keepdims=True)
    return {"epsilon": epsilon}, centred / np.sqrt(square + epsilon)


def _computed(constants: Constants, steps: list[Layer], source: str, x: Floats) -> Floats:
    """Result of the last of `steps`, all in float32, where the tensor `source` is `x`."""
    known: dict[str, Array] = {source: x.astype(np.float32)}
    for step in steps:
        node = constants.draft.sources[step.name]
        operands = iter(step.inputs)
        feeds = {
            name: constants.value(name)
            if name in constants.draft.constants
            else known[next(operands).tensor]
            for name in node.inputs
            if name
        }
        results = evaluate(node.proto, feeds, constants.draft.opset)
        if results is None or results[0] is None:
            raise constants.draft.error(node, "this step cannot be computed")
        known[step.output] = results[0]
    return known[steps[-1].output].astype(np.float64)


# --- parameters from samples: (x, y) -> parameters, the function with these ----------------------


def _sigmoid(x: Floats) -> Floats:
    result: Floats = 1.0 / (1.0 + np.exp(-x))
    return result


def _gate(x: Floats, y: Floats) -> Floats:
    """``y / x``; 0 / 0 counts as 0.5, the gate of all gated functions at 0."""
    return np.divide(y, x, out=np.full_like(x, 0.5), where=x != 0)


def _fit_silu(x: Floats, y: Floats) -> Fitted:
    return {}, x * _sigmoid(x)


def _fit_quick_gelu(x: Floats, y: Floats) -> Fitted:
    gate = _gate(x, y)
    one = np.abs(x - 1.0).argmin()
    odds = gate.flat[one] / (1.0 - gate.flat[one])
    alpha = float(np.log(odds) / x.flat[one])
    return {"alpha": alpha}, x * _sigmoid(alpha * x)


def _line(x: Floats, y: Floats) -> tuple[float, float]:
    """Slope and value at 0 of what is a line around 0."""
    below, above = (np.abs(x - at).argmin() for at in (-0.25, 0.25))
    slope = (y.flat[above] - y.flat[below]) / (x.flat[above] - x.flat[below])
    return float(slope), float(y.flat[above] - slope * x.flat[above])


def _fit_hardsigmoid(x: Floats, y: Floats) -> Fitted:
    alpha, beta = _line(x, y)
    return {"alpha": alpha, "beta": beta}, np.clip(alpha * x + beta, 0.0, 1.0)


def _fit_hardswish(x: Floats, y: Floats) -> Fitted:
    parameters, gate = _fit_hardsigmoid(x, _gate(x, y))
    return parameters, x * gate


def _fit_mish(x: Floats, y: Floats) -> Fitted:
    return {}, x * np.tanh(np.log1p(np.exp(x)))


def _fit_gelu(x: Floats, y: Floats) -> Fitted:
    from math import erf

    exact = x * 0.5 * (1.0 + np.vectorize(erf)(x / np.sqrt(2.0)))
    tanh = x * 0.5 * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)))
    nearer = bool(np.abs(y - tanh).max() < np.abs(y - exact).max())
    return {"approximate": float(nearer)}, tanh if nearer else exact


_FITS: Final[Mapping[str, Callable[[Floats, Floats], Fitted]]] = {
    "silu": _fit_silu,
    "quick_gelu": _fit_quick_gelu,
    "hardsigmoid": _fit_hardsigmoid,
    "hardswish": _fit_hardswish,
    "mish": _fit_mish,
    "gelu": _fit_gelu,
}
