"""Drawn values for networks that come without: small numbers that neither vanish nor explode.

In float32 networks kernels are normal, of a variance that keeps that of the maps (He et al.,
"Delving Deep into Rectifiers", 2015). In int8 networks kernels are uniform, biases 32 bits wide,
and every scale is a power of two, so that requantisation is a shift. What layers move unchanged
keeps its scale, so nothing has to be requantised to be joined.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from spm_opt.errors import InputError
from spm_opt.graph.network import Layer, Network, Weight, topological
from spm_opt.graph.ops import (
    BatchNorm,
    Binary,
    Concat,
    Conv,
    ConvTranspose,
    Gather,
    Linear,
    Normalize,
    Op,
    Pad,
    Pool,
    Reduce,
    Resize,
    Slice,
    Transpose,
    Unary,
)
from spm_opt.graph.values import LayerValues, NetworkValues, Quantization
from spm_opt.seeded_moments import (
    ADDEND,
    FACTOR,
    FACTORS,
    PARAMETERS,
    SHIFT,
    Moments,
    after,
    fan_in,
    moments_of,
)

Array = NDArray[np.generic]

#: element types that values are drawn for: maps and constants of reals
_DRAWN: Final = ("float32", "int8", "uint8")
_INDICES: Final = ("bool", "int32", "uint32", "int64", "uint64")
#: zero point that centres a type's range, and the largest distance from it
_ZERO: Final = {"int8": 0, "uint8": 128}
_LARGEST: Final = 127
#: bits behind the point of a bias that stands by itself
_BIAS_SCALE: Final = 2.0**-16
_BIAS: Final = Moments(0.0, 0.01)
_SLOPE: Final = Moments(0.25, 0.01)


def draw_values(network: Network, seed: int = 0) -> NetworkValues:
    """Draw constants, parameters and scales for every layer and feature map.

    Parameters
    ----------
    network : Network
        Normalised; float32, or int8 (uint8) with power-of-two scales.
    seed : int
        The same network and seed give the same values.

    Returns
    -------
    NetworkValues
        Zero points are 0, and 128 for uint8.

    Raises
    ------
    InputError
        Naming the tensor or constant that has another element type.
    """
    _check_types(network)
    drawing = _Drawing(network, seed)
    order = topological(network)
    for index in order:
        drawing.gauge(network.layers[index])
    tensors = drawing.scales()
    layers = {
        network.layers[index].name: drawing.layer_values(index, network.layers[index], tensors)
        for index in order
    }
    return NetworkValues({layer.name: layers[layer.name] for layer in network.layers}, tensors)


def _check_types(network: Network) -> None:
    for name, tensor in network.tensors.items():
        _check_type(name, tensor.dtype)
    for layer in network.layers:
        for weight in layer.weights:
            _check_type(weight.name, weight.dtype)


def _check_type(name: str, dtype: str) -> None:
    if dtype not in (*_DRAWN, *_INDICES):
        raise InputError(
            "values cannot be drawn for this element type", field=name, found=dtype, allowed=_DRAWN
        )


def power_of_two(reach: float) -> float:
    """Least power of two by which 127 steps go as far as `reach`."""
    return float(2.0 ** math.ceil(math.log2(max(reach, 2.0**-60) / _LARGEST)))


@dataclass(slots=True)
class _Drawing:
    """Moments of the maps as they are gauged, and what follows from them."""

    network: Network
    seed: int
    moments: dict[str, Moments] = field(default_factory=dict)
    #: scale of integer kernels, or standard deviation of those of reals, by layer
    spreads: dict[str, float] = field(default_factory=dict)

    # --- how large numbers are ---

    def gauge(self, layer: Layer) -> None:
        """Find the moments of a layer's output, and the spread of its kernel."""
        given = tuple(self.moments.get(o.tensor, Moments()) for o in layer.inputs)
        if _has_kernel(layer.op):
            before = self._gauge_kernel(layer, given[0])
        else:
            before = moments_of(layer, given)
        self.moments[layer.output] = after(getattr(layer.op, "activation", None), before)

    def _gauge_kernel(self, layer: Layer, given: Moments) -> Moments:
        """Spread of a kernel that makes a variance of 1, as closely as its scale can."""
        total = math.sqrt(fan_in(layer) * max(given.square, 1e-12))
        spread = 1.0 / total
        if layer.weights[0].dtype in _ZERO:
            deviation = _LARGEST / math.sqrt(3.0)
            scale = 2.0 ** round(math.log2(spread / deviation))
            self.spreads[layer.name], spread = scale, scale * deviation
        else:
            self.spreads[layer.name] = spread
        return Moments(0.0, (spread * total) ** 2 + _BIAS.variance)

    # --- scales of maps ---

    def scales(self) -> dict[str, Quantization | None]:
        """Scale of every integer map: one for all maps that layers move unchanged."""
        leader = self._groups()
        reach: dict[str, float] = {}
        for name in self.network.tensors:
            own = self.moments.get(name, Moments()).reach
            reach[leader[name]] = max(reach.get(leader[name], 0.0), own)
        return {
            name: Quantization(power_of_two(reach[leader[name]]), _ZERO[tensor.dtype])
            if tensor.dtype in _ZERO
            else None
            for name, tensor in self.network.tensors.items()
        }

    def _groups(self) -> dict[str, str]:
        """For every map, the one that stands for all of its scale."""
        parent = {name: name for name in self.network.tensors}

        def find(name: str) -> str:
            while parent[name] != name:
                parent[name] = parent[parent[name]]
                name = parent[name]
            return name

        for layer in self.network.layers:
            for operand in layer.inputs if _keeps_scale(layer.op) else ():
                parent[find(operand.tensor)] = find(layer.output)
        return {name: find(name) for name in parent}

    # --- numbers ---

    def layer_values(
        self, index: int, layer: Layer, tensors: dict[str, Quantization | None]
    ) -> LayerValues:
        """Draw the constants of a layer."""
        rng = np.random.default_rng((self.seed, index))
        parameters = _parameters(layer)
        if not _has_kernel(layer.op):
            drawn = [self._constant(rng, layer, weight, tensors) for weight in layer.weights]
            scales = tuple(scale for _, scale in drawn)
            return LayerValues(
                tuple(array for array, _ in drawn), parameters=parameters,
                constant_scale=scales if any(scale is not None for scale in scales) else (),
            )  # fmt: skip
        source = tensors[layer.inputs[0].tensor]
        return self._with_kernel(rng, layer, parameters, 1.0 if source is None else source.scale)

    def _with_kernel(
        self, rng: np.random.Generator, layer: Layer, parameters: dict[str, float], unit: float
    ) -> LayerValues:
        spread, kernel = self.spreads[layer.name], layer.weights[0]
        arrays: list[Array] = []
        scales: list[Quantization | None] = []
        for weight in layer.weights:
            own: Quantization | None = None
            if weight is kernel:
                array = _kernel(rng, weight, spread)
            elif weight.role == "bias":
                array = _bias(rng, weight, unit * spread)
            else:
                array, own = _real(rng, weight, _SLOPE)
            arrays.append(array)
            scales.append(own)
        integer = kernel.dtype in _ZERO
        return LayerValues(
            tuple(arrays),
            np.array([spread]) if integer else None,
            np.array([_ZERO[kernel.dtype]]) if integer else None,
            parameters,
            constant_scale=tuple(scales) if any(scales) else (),
        )

    def _constant(
        self, rng: np.random.Generator, layer: Layer, weight: Weight,
        tensors: dict[str, Quantization | None],
    ) -> tuple[Array, Quantization | None]:  # fmt: skip
        """A constant that stands beside a map, and its scale."""
        op = layer.op
        if isinstance(op, Gather) and weight.role != "table":
            extent = (op.table_shape or layer.input_shapes[0])[op.axis]
            return rng.integers(0, extent, weight.shape).astype(weight.dtype), None
        how = tensors[layer.output] if isinstance(op, (Gather, Concat)) else None
        given = self.moments.get(layer.inputs[0].tensor, Moments()) if layer.inputs else Moments()
        return _real(rng, weight, _wanted(op, weight.role, given), how)


def _wanted(op: Op, role: str, given: Moments) -> Moments:
    """Moments of a constant: factors around 1, those that normalise a batch where they must be."""
    if isinstance(op, BatchNorm):
        factor = 1.0 / math.sqrt(max(given.variance, 1e-12))
        if role == "bias":
            return Moments(-given.mean * factor, 0.01)
        return Moments(factor, 0.01 * factor**2)
    if isinstance(op, Normalize):
        return SHIFT if role == "bias" else FACTOR
    if isinstance(op, Unary):
        return _SLOPE
    return FACTOR if isinstance(op, Binary) and op.mode in FACTORS else ADDEND


def _has_kernel(op: Op) -> bool:
    return isinstance(op, (Conv, ConvTranspose, Linear))


def _keeps_scale(op: Op) -> bool:
    """Whether outputs are inputs, or means of them: of one scale, for all that is joined."""
    if isinstance(op, Pool):
        return op.mode in ("max", "avg") and op.activation is None
    if isinstance(op, Reduce):
        return op.mode in ("max", "min") and op.activation is None
    return isinstance(op, (Concat, Slice, Pad, Resize, Transpose)) or (
        isinstance(op, Gather) and op.table_shape is None
    )


def _parameters(layer: Layer) -> dict[str, float]:
    op = layer.op
    mode = op.mode if isinstance(op, Unary) else getattr(op, "activation", None)
    found = dict(PARAMETERS.get(mode or "", {}))
    if isinstance(op, Normalize):
        found["epsilon"] = 1e-5
        if op.mode == "group":
            # the operator has no groups of its own: all channels, or each by itself
            shape = layer.input_shapes[0]
            whole = 1 in {axis % len(shape) for axis in op.axes}
            found["num_groups"] = 1.0 if whole else float(shape[1])
    if isinstance(op, Pool) and op.mode == "lp":
        found["p"] = 2.0
    return found


# --- arrays --------------------------------------------------------------------------------------


def _kernel(rng: np.random.Generator, weight: Weight, spread: float) -> Array:
    """Integers over the whole range, or normal reals of standard deviation `spread`."""
    if weight.dtype == "float32":
        drawn = rng.standard_normal(weight.shape, dtype=np.float32)
        drawn *= np.float32(spread)
        return drawn
    zero = _ZERO[weight.dtype]
    low, high = zero - _LARGEST, zero + _LARGEST + 1
    return rng.integers(low, high, weight.shape, dtype=np.dtype(weight.dtype).type)


def _bias(rng: np.random.Generator, weight: Weight, unit: float) -> Array:
    reals = math.sqrt(_BIAS.variance) * rng.standard_normal(weight.shape)
    return (np.rint(reals / unit) if weight.dtype == "int32" else reals).astype(weight.dtype)


def _real(
    rng: np.random.Generator, weight: Weight, moments: Moments, how: Quantization | None = None
) -> tuple[Array, Quantization | None]:
    """Normal reals, in the scale `how` or one that holds them where they are integers."""
    reals = moments.mean + math.sqrt(moments.variance) * rng.standard_normal(weight.shape)
    if weight.dtype == "float32":
        return reals.astype(np.float32), None
    if weight.dtype in _INDICES:
        return np.rint(reals / _BIAS_SCALE).astype(weight.dtype), Quantization(_BIAS_SCALE)
    if how is None:
        how = Quantization(power_of_two(moments.reach), _ZERO[weight.dtype])
    limits = np.iinfo(weight.dtype)
    count = np.rint(reals / how.scale) + how.zero_point
    return np.clip(count, limits.min, limits.max).astype(weight.dtype), how
