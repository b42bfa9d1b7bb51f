"""What a network computes, layer by layer in plain numpy: slow, and nobody's kernels.

Follows the arithmetic that `spm_opt.graph.values` states. Reals are in double and rounded to the
tensor's type once a layer; integer accumulations are exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from values_oracle_functions import unary

from spm_opt.graph import ops
from spm_opt.graph.network import Layer, Network, topological
from spm_opt.graph.values import LayerValues, NetworkValues, Quantization

Array = NDArray[Any]
Numbers = Mapping[str, float]


def run(network: Network, values: NetworkValues, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Every feature map, in its stored element type, for inputs in theirs."""
    known = {name: np.asarray(inputs[name]) for name in network.inputs}
    for name, array in known.items():
        tensor = network.tensors[name]
        assert (array.shape, str(array.dtype)) == (tensor.shape, tensor.dtype), name
    for index in topological(network):
        layer = network.layers[index]
        known[layer.output] = run_layer(network, values, layer, known)
    return known


def run_layer(
    network: Network, values: NetworkValues, layer: Layer, known: Mapping[str, Array]
) -> Array:
    """What one layer writes, where its inputs are `known`."""
    with np.errstate(all="ignore"):
        return _Step(network, values, layer, known).result()


def quantise(reals: Array, dtype: str, how: Quantization | None) -> Array:
    """Reals in a stored element type: rounded to even, saturated."""
    if how is None:
        return np.asarray(reals).astype(dtype)
    return _saturated(np.rint(np.asarray(reals, dtype=np.float64) / how.scale), dtype, how)


def dequantise(stored: Array, how: Quantization | None) -> Array:
    """The reals that stored numbers stand for, in double."""
    if how is None:
        return stored.astype(np.float64)
    return how.scale * (stored.astype(np.float64) - how.zero_point)


def _saturated(count: Array, dtype: str, how: Quantization) -> Array:
    limits = np.iinfo(dtype)
    return np.clip(count + how.zero_point, limits.min, limits.max).astype(dtype)


class _Step:
    """One layer being computed."""

    def __init__(
        self, network: Network, values: NetworkValues, layer: Layer, known: Mapping[str, Array]
    ) -> None:
        self.layer, self.op = layer, layer.op
        self.own: LayerValues = values.layers[layer.name]
        self.stored = [known[o.tensor].reshape(o.shape) for o in layer.inputs]
        self.scales = [values.tensors[o.tensor] for o in layer.inputs]
        self.out = values.tensors[layer.output]
        self.dtype = network.tensors[layer.output].dtype
        roles = [weight.role for weight in layer.weights]
        assert len(self.own.arrays) == len(roles), layer.name
        for array, weight in zip(self.own.arrays, layer.weights, strict=True):
            assert (array.shape, str(array.dtype)) == (weight.shape, weight.dtype), layer.name
        self.roles = roles

    # --- operands ---

    def real(self, index: int = 0) -> Array:
        return dequantise(self.stored[index], self.scales[index])

    def constant(self, index: int) -> Array:
        scales = self.own.constant_scale
        return dequantise(self.own.arrays[index], scales[index] if scales else None)

    def by_role(self, role: str) -> Array | None:
        return self.constant(self.roles.index(role)) if role in self.roles else None

    # --- results ---

    def result(self) -> Array:
        if isinstance(self.op, (ops.Conv, ops.ConvTranspose, ops.Linear, ops.MatMul)):
            y = self.accumulate()
        else:
            y = self.store(self.activated(_KINDS[type(self.op)](self)))
        assert y.shape == self.layer.output_shape, (self.layer.name, y.shape)
        return y

    def store(self, reals: Array) -> Array:
        return quantise(reals, self.dtype, self.out)

    def activated(self, reals: Array) -> Array:
        mode = getattr(self.op, "activation", None)
        if mode is None:
            return reals
        before = self.own.before_activation
        if before is not None:
            reals = dequantise(quantise(reals, self.dtype, before), before)
        return self.function(mode, reals)

    def function(self, mode: str, reals: Array) -> Array:
        slope = None
        if mode == "prelu":
            own = self.roles and self.roles[-1] == "constant"
            slope = self.constant(len(self.roles) - 1) if own else self.own.parameters["alpha"]
        return unary(mode, reals, self.own.parameters, slope)

    # --- convolutions and products ---

    def accumulate(self) -> Array:
        integer = self.own.weight_scale is not None or (
            isinstance(self.op, ops.MatMul) and None not in self.scales
        )
        return self.integers() if integer else self.reals()

    def reals(self) -> Array:
        if isinstance(self.op, ops.MatMul):
            return self.store(self.activated(self.product(self.real(0), self.real(1))))
        y = self.product(self.real(), self.own.arrays[0].astype(np.float64))
        bias = self.bias()
        return self.store(self.activated(y if bias is None else y + bias))

    def bias(self) -> Array | None:
        if "bias" not in self.roles:
            return None
        return self.per_channel(self.own.arrays[self.roles.index("bias")].ravel())

    def per_channel(self, values: Array) -> Array:
        """One number a channel (or for all) so that it broadcasts over the output."""
        last = isinstance(self.op, (ops.Linear, ops.MatMul))
        return values if last else values.reshape(-1, *(1,) * (len(self.layer.output_shape) - 2))

    def integers(self) -> Array:
        x = self.stored[0].astype(np.int64) - self.scales[0].zero_point
        if isinstance(self.op, ops.MatMul):
            scale = np.array([self.scales[1].scale])
            y = self.product(x, self.stored[1].astype(np.int64) - self.scales[1].zero_point)
        else:
            scale, zero = self.own.weight_scale, self.own.weight_zero_point
            w = self.own.arrays[0].astype(np.int64)
            y = self.product(x, w - self.kernel_channels(zero, w.ndim))
        bias = self.bias()
        y = y if bias is None else y + bias.astype(np.int64)
        assert np.abs(y).max(initial=0) < 2**31, f"{self.layer.name}: accumulators overflow"
        return self.finished(y, self.per_channel(self.scales[0].scale * scale))

    def kernel_channels(self, zero: Array, rank: int) -> Array:
        if zero.size > 1 and isinstance(self.op, ops.ConvTranspose):
            per_group = zero.reshape(self.op.groups, 1, -1)
            inner = self.layer.weights[0].shape[0] // self.op.groups
            spread = np.broadcast_to(per_group, (self.op.groups, inner, per_group.shape[2]))
            return spread.reshape(-1, per_group.shape[2], *(1,) * (rank - 2))
        return zero.reshape(-1, *(1,) * (rank - 1))

    def finished(self, accumulators: Array, scale: Array) -> Array:
        mode, before = self.op.activation, self.own.before_activation
        if self.out is None or (mode not in (None, *_CLAMPS) and before is None):
            return self.store(self.activated(accumulators * scale))
        if before is not None:
            count = np.rint(accumulators * (scale / before.scale))
            rounded = dequantise(_saturated(count, self.dtype, before), before)
            return self.store(self.function(mode, rounded))
        y = _saturated(np.rint(accumulators * (scale / self.out.scale)), self.dtype, self.out)
        return y if mode is None else self.clamped(y, mode)

    def clamped(self, y: Array, mode: str) -> Array:
        low, high = unary(mode, np.array([-np.inf, np.inf]), self.own.parameters, None)
        limits = np.iinfo(self.dtype)
        low, high = (
            np.clip(np.rint(bound / self.out.scale) + self.out.zero_point, limits.min, limits.max)
            for bound in (low, high)
        )
        return np.clip(y, int(low), int(high)).astype(self.dtype)

    def product(self, x: Array, w: Array) -> Array:
        if isinstance(self.op, ops.MatMul):
            return _dot(x, w.swapaxes(-1, -2) if self.op.transpose_b else w)
        if isinstance(self.op, ops.Linear):
            return _dot(x, w.T)
        if isinstance(self.op, ops.Conv):
            return convolve(x, w, self.op)
        return convolve_transposed(x, w, self.op, self.layer.output_shape)


_CLAMPS = ("relu", "relu6", "clip")


def _dot(x: Array, w: Array) -> Array:
    """Matrix product; of integers too, in double, where no sum leaves 53 bits."""
    if x.dtype.kind == "f":
        return x @ w
    return np.rint(x.astype(np.float64) @ w.astype(np.float64)).astype(np.int64)


def windows(
    x: Array, kernel: ops.Shape, stride: ops.Shape, dilation: ops.Shape, pads: ops.Shape,
    size: ops.Shape, fill: float,
) -> list[Array]:  # fmt: skip
    """For every tap of the kernel, the elements of `x` that it meets, as the output lies."""
    rank = len(kernel)
    ends = [
        max(0, (size[i] - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1
            - x.shape[2 + i] - pads[i])
        for i in range(rank)
    ]  # fmt: skip
    widths = [(0, 0), (0, 0), *((pads[i], ends[i]) for i in range(rank))]
    padded = np.pad(x, widths, constant_values=fill)
    taps = []
    for tap in product(*map(range, kernel)):
        parts = [slice(None), slice(None)]
        for i, at in enumerate(tap):
            begin = at * dilation[i]
            parts.append(slice(begin, begin + (size[i] - 1) * stride[i] + 1, stride[i]))
        taps.append(padded[tuple(parts)])
    return taps


def convolve(x: Array, w: Array, op: ops.Conv) -> Array:
    groups, outer, inner = op.groups, op.out_channels // op.groups, x.shape[1] // op.groups
    size = op.infer((x.shape,))[2:]
    y: Array | None = None
    kernel = w.reshape(groups, outer, inner, -1)
    for tap, part in enumerate(windows(x, op.kernel, op.stride, op.dilation, op.pads, size, 0)):
        split = part.reshape(x.shape[0], groups, inner, -1)
        term = _dot(kernel[None, ..., tap], split)
        y = term if y is None else y + term
    assert y is not None
    return y.reshape(x.shape[0], op.out_channels, *size)


def convolve_transposed(x: Array, w: Array, op: ops.ConvTranspose, output: ops.Shape) -> Array:
    rank, groups = len(op.kernel), op.groups
    inner, outer = x.shape[1] // groups, op.out_channels // groups
    full = [
        (x.shape[2 + i] - 1) * op.stride[i] + op.dilation[i] * (op.kernel[i] - 1) + 1
        for i in range(rank)
    ]
    room = [max(n, op.pads[i] + output[2 + i]) for i, n in enumerate(full)]
    y = np.zeros((*output[:2], *room), dtype=x.dtype)
    kernel = w.reshape(groups, inner, outer, -1).swapaxes(1, 2)
    split = x.reshape(x.shape[0], groups, inner, -1)
    for number, tap in enumerate(product(*map(range, op.kernel))):
        term = _dot(kernel[None, ..., number], split).reshape(*output[:2], *x.shape[2:])
        parts = tuple(
            slice(at * op.dilation[i], at * op.dilation[i] + (x.shape[2 + i] - 1) * op.stride[i]
                  + 1, op.stride[i])
            for i, at in enumerate(tap)
        )  # fmt: skip
        y[(slice(None), slice(None), *parts)] += term
    cut = tuple(slice(op.pads[i], op.pads[i] + output[2 + i]) for i in range(rank))
    return y[(slice(None), slice(None), *cut)]


# --- other kinds -------------------------------------------------------------------------------


def _pool(step: _Step) -> Array:
    op, x = step.op, step.real()
    size = step.layer.output_shape[2:]
    window = (op.kernel, op.stride, op.dilation, op.pads, size)
    if op.mode == "max":
        return np.max(windows(x, *window, -np.inf), axis=0)
    if op.mode == "lp":
        p = step.own.parameters["p"]
        return np.sum([np.abs(part) ** p for part in windows(x, *window, 0.0)], axis=0) ** (1 / p)
    inside = np.ones_like(x)
    if op.count_include_pad:
        rank = len(op.kernel)
        widths = [(0, 0), (0, 0), *((op.pads[i], op.pads[rank + i]) for i in range(rank))]
        inside = np.pad(inside, widths, constant_values=1.0)
        window = (op.kernel, op.stride, op.dilation, (0,) * 2 * rank, size)
        x = np.pad(x, widths)
    count = np.sum(windows(inside, *window, 0.0), axis=0)
    return np.sum(windows(x, *window, 0.0), axis=0) / count


def _reduce(step: _Step) -> Array:
    op, x = step.op, step.real()
    axes = tuple(axis % x.ndim for axis in op.axes)
    if op.mode in ("argmax", "argmin"):
        (axis,) = axes
        which = np.argmax if op.mode == "argmax" else np.argmin
        if step.own.parameters.get("last"):
            y = x.shape[axis] - 1 - which(np.flip(x, axis), axis)
        else:
            y = which(x, axis)
        return np.expand_dims(y, axis) if op.keepdims else y
    return _REDUCTIONS[op.mode](x, axes, op.keepdims)


_REDUCTIONS: dict[str, Callable[[Array, ops.Shape, bool], Array]] = {
    "mean": lambda x, axes, keep: x.mean(axes, keepdims=keep),
    "sum": lambda x, axes, keep: x.sum(axes, keepdims=keep),
    "max": lambda x, axes, keep: x.max(axes, keepdims=keep),
    "min": lambda x, axes, keep: x.min(axes, keepdims=keep),
    "prod": lambda x, axes, keep: x.prod(axes, keepdims=keep),
    "l1": lambda x, axes, keep: np.abs(x).sum(axes, keepdims=keep),
    "l2": lambda x, axes, keep: np.sqrt((x * x).sum(axes, keepdims=keep)),
    "log_sum": lambda x, axes, keep: np.log(x.sum(axes, keepdims=keep)),
    "log_sum_exp": lambda x, axes, keep: np.log(np.exp(x).sum(axes, keepdims=keep)),
    "sum_square": lambda x, axes, keep: (x * x).sum(axes, keepdims=keep),
}


def _unary(step: _Step) -> Array:
    if step.op.mode == "cast" and step.dtype == "bool":
        return step.real() != 0
    return step.function(step.op.mode, step.real())


def _binary(step: _Step) -> Array:
    op = step.op
    maps = [step.real(i) for i in range(len(step.stored))]
    count = len(step.roles) if op.constant_shape is not None else 0
    count -= op.activation == "prelu" and count > 1
    constants = [step.constant(i) for i in range(count)]
    if op.mode == "where":
        bits = int(step.own.parameters.get("constants", 0))
        both = iter(maps), iter(constants)
        condition, x, y = (next(both[bits >> i & 1]) for i in range(3))
        return np.where(condition != 0, x, y)
    if op.mode[0] == "r" and op.mode[1:] in _BINARY:
        return _BINARY[op.mode[1:]](constants[0], maps[0], step.own.parameters)
    operands = [*maps, *constants]
    if op.mode == "mean":
        return sum(operands) / len(operands)
    y = operands[0]
    for operand in operands[1:]:
        y = _BINARY[op.mode](y, operand, step.own.parameters)
    return np.broadcast_to(y, step.layer.output_shape)


def _mod(a: Array, b: Array, parameters: Numbers) -> Array:
    return np.fmod(a, b) if parameters.get("fmod") else np.mod(a, b)


_BINARY: dict[str, Callable[[Array, Array, Numbers], Array]] = {
    "add": lambda a, b, _: a + b,
    "sum": lambda a, b, _: a + b,
    "sub": lambda a, b, _: a - b,
    "mul": lambda a, b, _: a * b,
    "div": lambda a, b, _: a / b,
    "pow": lambda a, b, _: a**b,
    "max": lambda a, b, _: np.maximum(a, b),
    "min": lambda a, b, _: np.minimum(a, b),
    "mod": _mod,
    "equal": lambda a, b, _: a == b,
    "greater": lambda a, b, _: a > b,
    "less": lambda a, b, _: a < b,
    "greater_or_equal": lambda a, b, _: a >= b,
    "less_or_equal": lambda a, b, _: a <= b,
    "and": lambda a, b, _: (a != 0) & (b != 0),
    "or": lambda a, b, _: (a != 0) | (b != 0),
    "xor": lambda a, b, _: (a != 0) ^ (b != 0),
    "prelu": lambda a, b, _: np.where(a < 0, a * b, a),
}


def _softmax(step: _Step) -> Array:
    x, axis = step.real(), step.op.axis
    shifted = x - x.max(axis, keepdims=True)
    total = np.exp(shifted).sum(axis, keepdims=True)
    if step.own.parameters.get("log"):
        return shifted - np.log(total)
    return np.exp(shifted) / total


def _normalize(step: _Step) -> Array:
    op, x, numbers = step.op, step.real(), step.own.parameters
    if op.mode == "lrn":
        y = _local_response(x, numbers)
    elif op.mode in ("l1", "l2"):
        norm = np.abs(x) if op.mode == "l1" else x * x
        total = norm.sum(op.axes, keepdims=True)
        y = x / (total if op.mode == "l1" else np.sqrt(total))
    else:
        groups = int(numbers.get("num_groups", 0))
        split = x.reshape(x.shape[0], groups, -1) if groups else x
        axes = (2,) if groups else op.axes
        centred = split if op.mode == "rms" else split - split.mean(axes, keepdims=True)
        square = (centred * centred).mean(axes, keepdims=True)
        y = (centred / np.sqrt(square + numbers["epsilon"])).reshape(x.shape)
    scale, shift = step.by_role("weight"), step.by_role("bias")
    y = y if scale is None else y * _affine(op, scale, x.shape)
    return y if shift is None else y + _affine(op, shift, x.shape)


def _affine(op: ops.Normalize, values: Array, shape: ops.Shape) -> Array:
    if op.mode not in ("group", "instance"):
        return values
    channels = np.repeat(values, shape[1] // values.size)
    return channels.reshape(-1, *(1,) * (len(shape) - 2))


def _local_response(x: Array, numbers: Numbers) -> Array:
    size = int(numbers["lrn_size"])
    total = np.zeros_like(x)
    for channel in range(x.shape[1]):
        begin = max(0, channel - (size - 1) // 2)
        end = min(x.shape[1], channel + size // 2 + 1)
        total[:, channel] = (x[:, begin:end] ** 2).sum(1)
    return x / (numbers["lrn_bias"] + numbers["lrn_alpha"] / size * total) ** numbers["lrn_beta"]


def _batch_norm(step: _Step) -> Array:
    x = step.real()
    column = (-1, *(1,) * (x.ndim - 2))
    return x * step.constant(0).reshape(column) + step.constant(1).reshape(column)


def _concat(step: _Step) -> Array:
    pieces = [step.real(i) for i in range(len(step.stored))]
    for number, (position, shape) in enumerate(step.op.constants):
        pieces.insert(position, np.broadcast_to(step.constant(number), shape))
    return np.concatenate(pieces, step.op.axis)


def _slice(step: _Step) -> Array:
    y, op = step.real(), step.op
    for axis, (begin, size, stride) in enumerate(zip(op.begins, op.sizes, op.steps, strict=True)):
        y = np.take(y, begin + stride * np.arange(size), axis)
    return y


def _pad(step: _Step) -> Array:
    op, x = step.op, step.real()
    for axis in range(x.ndim):
        low, high = op.pads[axis], op.pads[x.ndim + axis]
        begin, end = max(0, -low), x.shape[axis] - max(0, -high)
        x = np.take(x, np.arange(begin, end), axis)
    rank = len(op.pads) // 2
    widths = [(max(0, op.pads[i]), max(0, op.pads[rank + i])) for i in range(rank)]
    if op.mode == "constant":
        fill = step.own.parameters.get("value", op.value)
        return np.pad(x, widths, constant_values=fill)
    return np.pad(x, widths, mode=op.mode)


def _resize(step: _Step) -> Array:
    y, op = step.real(), step.op
    for axis, extent in enumerate(op.output):
        scale = step.own.parameters.get(f"scale_{axis}", extent / y.shape[axis])
        if extent != y.shape[axis] or scale != 1.0:
            matrix = _taps(op, step.own.parameters, y.shape[axis], extent, scale)
            y = np.moveaxis(np.tensordot(matrix, y, (1, axis)), 0, axis)
    return y


def _taps(op: ops.Resize, numbers: Numbers, size: int, extent: int, scale: float) -> Array:
    """Matrix (extent, size) that interpolates along one axis."""
    matrix = np.zeros((extent, size))
    for at in range(extent):
        x = _coordinate(op.coordinates, at, size, extent, scale)
        if op.mode == "nearest":
            matrix[at, min(max(_nearest(op.rounding, x), 0), size - 1)] = 1.0
            continue
        base = math.floor(x)
        part = x - base
        weights = {0: 1.0 - part, 1: part}
        if op.mode == "cubic":
            weights = _cubic(part, numbers.get("cubic_coeff_a", -0.75))
        for tap, weight in weights.items():
            outside = not 0 <= base + tap < size
            if not (outside and numbers.get("exclude_outside")):
                matrix[at, min(max(base + tap, 0), size - 1)] += weight
        if numbers.get("exclude_outside"):
            matrix[at] /= matrix[at].sum()
    return matrix


def _coordinate(mode: str, at: int, size: int, extent: int, scale: float) -> float:
    if mode == "asymmetric":
        return at / scale
    if mode == "align_corners":
        return at * (size - 1) / (extent - 1) if extent > 1 else 0.0
    if mode == "pytorch_half_pixel" and extent == 1:
        return 0.0
    if mode == "half_pixel_symmetric":
        adjustment = extent / (scale * size)
        return size / 2 * (1 - adjustment) + (at + 0.5) / scale - 0.5
    if mode == "tf_half_pixel_for_nn":
        return (at + 0.5) / scale
    return (at + 0.5) / scale - 0.5


def _nearest(rounding: str, x: float) -> int:
    if rounding in ("floor", "ceil"):
        return math.floor(x) if rounding == "floor" else math.ceil(x)
    return math.ceil(x - 0.5) if rounding == "round_prefer_floor" else math.floor(x + 0.5)


def _cubic(part: float, a: float) -> dict[int, float]:
    def near(d: float) -> float:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1

    def far(d: float) -> float:
        return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a

    return {-1: far(1 + part), 0: near(part), 1: near(1 - part), 2: far(2 - part)}


def _transpose(step: _Step) -> Array:
    return step.real().transpose(step.op.perm).reshape(step.layer.output_shape)


def _gather(step: _Step) -> Array:
    op = step.op
    rest = [step.real(i) for i in range(len(step.stored))]
    table = step.constant(0) if op.table_shape is not None else rest.pop(0)
    indices = step.constant(len(step.roles) - 1) if op.indices_shape is not None else rest.pop(0)
    return np.take(table, indices.astype(np.int64), op.axis)


def _view(step: _Step) -> Array:
    return step.real().reshape(step.op.shape)


_KINDS: dict[type[ops.Op], Callable[[_Step], Array]] = {
    ops.Pool: _pool, ops.Reduce: _reduce, ops.Unary: _unary, ops.Binary: _binary,
    ops.Softmax: _softmax, ops.Normalize: _normalize, ops.BatchNorm: _batch_norm,
    ops.Concat: _concat, ops.Slice: _slice, ops.Pad: _pad, ops.Resize: _resize,
    ops.Transpose: _transpose, ops.Gather: _gather, ops.View: _view,
}  # fmt: skip
