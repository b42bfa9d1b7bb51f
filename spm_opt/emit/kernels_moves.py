"""Constants of operators that move data: source indices of every axis, or rules for them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

from spm_opt.emit.kernels_operands import Scene, rescale_table
from spm_opt.emit.kernels_text import (
    c_double,
    c_dtype,
    c_list,
    c_struct,
    check_axes,
    operand_text,
    scaling_fields,
    strides,
)
from spm_opt.emit.kernels_weights import fetches_table
from spm_opt.graph.ops import Concat, Gather, Pad, Resize, Shape, Slice, Transpose


def move_text(scene: Scene) -> str:
    """``spm_move_op`` of a slice, a padding, a transpose or a nearest resampling."""
    op, shape = scene.layer.op, scene.layer.input_shapes[0]
    output, base, fill = scene.layer.output_shape, 0, 0.0
    if isinstance(op, Slice):
        base, axes = _slice_axes(op, shape)
    elif isinstance(op, Transpose):
        axes = tuple(_axis(shape[i], strides(shape)[i]) for i in op.perm)
        output = tuple(shape[i] for i in op.perm)
    elif isinstance(op, Pad):
        base, axes = _pad_axes(scene, op, shape)
        fill = scene.own.parameters.get("value", op.value)
    elif isinstance(op, Resize):
        axes = _nearest_axes(scene, op, shape)
    else:
        raise scene.refuse("operator", op.kind)
    return scene.text.finish("spm_move_op", c_struct(
        loop=scene.loop(output), **{"in": operand_text(scene.map(0), (), base)},
        axis=c_list(axes), fill=c_double(fill), table=scene.text.table(scene.rescale(0)),
    ))  # fmt: skip


def _axis(high: int, stride: int, low: int = 0, table: str = "NULL") -> str:
    return c_struct(low=low, high=high, stride=stride, table=table)


def _slice_axes(op: Slice, shape: Shape) -> tuple[int, tuple[str, ...]]:
    steps = strides(shape)
    base = sum(begin * step for begin, step in zip(op.begins, steps, strict=True))
    sizes = zip(op.sizes, op.steps, steps, strict=True)
    return base, tuple(_axis(size, step * stride) for size, step, stride in sizes)


def _pad_axes(scene: Scene, op: Pad, shape: Shape) -> tuple[int, tuple[str, ...]]:
    """Constant padding shifts the map; the other modes look every index up."""
    base, axes = 0, []
    for i, (extent, stride) in enumerate(zip(shape, strides(shape), strict=True)):
        begin, end = op.pads[i], op.pads[len(shape) + i]
        if op.mode == "constant" or not (begin or end):
            base -= begin * stride
            axes.append(_axis(begin + extent, stride, max(begin, 0)))
            continue
        rule = _PADDINGS.get(op.mode)
        if rule is None:
            raise scene.refuse("padding", op.mode)
        # what is cropped away is not there to be repeated
        cropped, left = max(0, -begin), extent - max(0, -begin) - max(0, -end)
        inside = range(-max(0, begin), left + max(0, end))
        table = [cropped + rule(k, left) for k in inside]
        axes.append(_axis(len(table), stride, table=scene.text.array("int32_t", table)))
    return base, tuple(axes)


def _reflected(i: int, extent: int) -> int:
    period = max(1, 2 * (extent - 1))
    i %= period
    return min(i, period - i) if extent > 1 else 0


_PADDINGS: Final[Mapping[str, Callable[[int, int], int]]] = {
    "edge": lambda i, extent: min(max(i, 0), extent - 1),
    "reflect": _reflected,
    "wrap": lambda i, extent: i % extent,
}


# --- resampling --------------------------------------------------------------------------------


def is_nearest(op: Resize) -> bool:
    """Whether every output is one of the inputs."""
    return op.mode == "nearest"


def _positions(scene: Scene, op: Resize, axis: int) -> list[float]:
    """Where each output index of an axis lies among the input's (ONNX, Resize)."""
    extent, out = scene.layer.input_shapes[0][axis], op.output[axis]
    scale = scene.own.parameters.get(f"scale_{axis}", 0.0)
    rule = _COORDINATES.get(op.coordinates)
    if rule is None:
        raise scene.refuse("way of resampling", op.coordinates)
    if extent == out and not scale:
        return [float(i) for i in range(out)]
    return [rule(float(i), extent, out, scale) for i in range(out)]


def _scaled(x: float, extent: int, out: int, scale: float) -> float:
    """Exact where the quotient is an integer, as an input over an output extent often is."""
    return x / scale if scale else x * extent / out


def _half(x: float, extent: int, out: int, scale: float) -> float:
    return _scaled(x + 0.5, extent, out, scale) - 0.5


def _half_symmetric(x: float, extent: int, out: int, scale: float) -> float:
    adjustment = out / (scale * extent) if scale else 1.0
    return extent / 2 * (1 - adjustment) + _half(x, extent, out, scale)


def _corners(x: float, extent: int, out: int, scale: float) -> float:
    return 0.0 if out == 1 else x * (extent - 1) / (out - 1)


_COORDINATES: Final[Mapping[str, Callable[[float, int, int, float], float]]] = {
    "asymmetric": _scaled,
    "half_pixel": _half,
    "pytorch_half_pixel": lambda x, n, out, scale: 0.0 if out == 1 else _half(x, n, out, scale),
    "half_pixel_symmetric": _half_symmetric,
    "align_corners": _corners,
    "tf_half_pixel_for_nn": lambda x, n, out, scale: _scaled(x + 0.5, n, out, scale),
}
_ROUNDINGS: Final[Mapping[str, Callable[[float], int]]] = {
    "floor": math.floor,
    "ceil": math.ceil,
    "round_prefer_floor": lambda x: math.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: math.floor(x + 0.5),
}


def _nearest_axes(scene: Scene, op: Resize, shape: Shape) -> tuple[str, ...]:
    axes, rounding = [], _ROUNDINGS.get(op.rounding)
    if rounding is None:
        raise scene.refuse("rounding", op.rounding)
    for i, stride in enumerate(strides(shape)):
        table = [min(max(rounding(x), 0), shape[i] - 1) for x in _positions(scene, op, i)]
        plain = table == list(range(len(table)))
        name = "NULL" if plain else scene.text.array("int32_t", table)
        axes.append(_axis(len(table), stride, table=name))
    return tuple(axes)


def resize_text(scene: Scene) -> str:
    """``spm_resize_op`` of a linear or cubic resampling."""
    op, shape = scene.layer.op, scene.layer.input_shapes[0]
    if not isinstance(op, Resize) or op.mode not in ("linear", "cubic"):
        raise scene.refuse("resampling", getattr(op, "mode", op.kind))
    axes = [_taps(scene, op, i, stride) for i, stride in enumerate(strides(shape))]
    return scene.text.finish("spm_resize_op", c_struct(
        loop=scene.loop(), **{"in": scene.map(0)}, axis=c_list(axes),
    ))  # fmt: skip


def _taps(scene: Scene, op: Resize, axis: int, stride: int) -> str:
    """Source indices and weights; one tap where every output is one of the inputs."""
    extent, positions = scene.layer.input_shapes[0][axis], _positions(scene, op, axis)
    if all(x == i for i, x in enumerate(positions)):
        rows = [[(i, 1.0)] for i in range(len(positions))]
    elif op.mode == "linear":
        rows = [_linear_taps(x) for x in positions]
    else:
        rows = [_cubic_taps(x, extent, scene.own.parameters) for x in positions]
    return c_struct(
        taps=len(rows[0]),
        source=scene.text.array(
            "int32_t", (min(max(i, 0), extent - 1) for row in rows for i, _ in row)
        ),
        weight=scene.text.doubles(weight for row in rows for _, weight in row), stride=stride,
    )  # fmt: skip


def _linear_taps(x: float) -> list[tuple[int, float]]:
    low = math.floor(x)
    return [(low, 1.0 - (x - low)), (low + 1, x - low)]


def _cubic_taps(x: float, extent: int, given: Mapping[str, float]) -> list[tuple[int, float]]:
    """Keys' kernel with ``cubic_coeff_a`` (ONNX, Resize)."""
    low, a = math.floor(x), given.get("cubic_coeff_a", -0.75)
    taps = [(low + k, _cubic(abs(x - low - k), a)) for k in (-1, 0, 1, 2)]
    if given.get("exclude_outside", 0.0):
        taps = [(i, weight if 0 <= i < extent else 0.0) for i, weight in taps]
        total = sum(weight for _, weight in taps)
        taps = [(i, weight / total) for i, weight in taps]
    return taps


def _cubic(t: float, a: float) -> float:
    if t <= 1:
        return ((a + 2) * t - (a + 3)) * t * t + 1
    return ((a * t - 5 * a) * t + 8 * a) * t - 4 * a


# --- joins and look-up -------------------------------------------------------------------------


def concat_text(scene: Scene) -> str:
    """``spm_concat_op``; constant pieces lie among the layer's constants."""
    layer, op = scene.layer, scene.layer.op
    if not isinstance(op, Concat):
        raise scene.refuse("operator", op.kind)
    axis = op.axis % check_axes(layer.name, layer.output_shape)
    constants = dict(zip((at for at, _ in op.constants), range(len(op.constants)), strict=True))
    pieces, begin, inputs = [], 0, 0
    for at, shape in enumerate(op.pieces(layer.input_shapes)):
        end = begin + shape[axis]
        if at in constants:
            fields = _constant_piece(scene, constants[at])
        else:
            fields, inputs = _map_piece(scene, inputs), inputs + 1
        pieces.append(c_struct(begin=begin, end=end, **fields))
        begin = end
    return scene.text.finish("spm_concat_op", c_struct(
        loop=scene.loop(), axis=axis, pieces=len(pieces),
        piece=scene.text.array("spm_piece", pieces),
    ))  # fmt: skip


def _map_piece(scene: Scene, index: int) -> dict[str, object]:
    return {"map": scene.map(index), "input": index,
            "table": scene.text.table(scene.rescale(index))}  # fmt: skip


def _constant_piece(scene: Scene, index: int) -> dict[str, object]:
    weight, place = scene.layer.weights[index], scene.packing.places[index]
    if place.kind != "whole":
        raise scene.refuse("cut of joined constants", weight.shape)
    scaling = scene.constant_scaling(index)
    table = rescale_table((weight.dtype, scaling), scene.stored())
    shown = c_struct(dtype=c_dtype(weight.name, weight.dtype), **scaling_fields(scaling))
    return {"map": shown, "input": -1, "offset": place.offset_bytes,
            "table": scene.text.table(table)}  # fmt: skip


def gather_text(scene: Scene) -> str:
    """``spm_gather_op``; the table and the indices are maps, or among the constants."""
    layer, op = scene.layer, scene.layer.op
    if not isinstance(op, Gather):
        raise scene.refuse("operator", op.kind)
    check_axes(layer.name, layer.output_shape)
    shapes = iter(layer.input_shapes)
    table = op.table_shape if op.table_shape is not None else next(shapes)
    indices = op.indices_shape if op.indices_shape is not None else next(shapes)
    axis = op.axis % len(table)
    return scene.text.finish("spm_gather_op", c_struct(
        loop=scene.loop(), before=math.prod(table[:axis]), count=math.prod(indices),
        after=math.prod(table[axis + 1 :]), extent=table[axis], **_table(scene, op),
        **_indices(scene, op), fetched=int(fetches_table(layer)),
    ))  # fmt: skip


def _table(scene: Scene, op: Gather) -> dict[str, object]:
    if op.table_shape is None:
        return {"source": scene.map(0), "table": scene.text.table(scene.rescale(0))}
    index = next(i for i, w in enumerate(scene.layer.weights) if w.role == "table")
    weight, scaling = scene.layer.weights[index], scene.constant_scaling(index)
    shown = c_struct(dtype=c_dtype(weight.name, weight.dtype), **scaling_fields(scaling))
    table = rescale_table((weight.dtype, scaling), scene.stored())
    return {"source": shown, "table_input": -1, "table": scene.text.table(table),
            "table_offset": scene.packing.places[index].offset_bytes}  # fmt: skip


def _indices(scene: Scene, op: Gather) -> dict[str, object]:
    if op.indices_shape is None:
        at = len(scene.layer.inputs) - 1
        return {"indices": scene.map(at), "indices_input": at}
    index = next(i for i, w in enumerate(scene.layer.weights) if w.role != "table")
    weight, place = scene.layer.weights[index], scene.packing.places[index]
    return {"indices_input": -1, "indices_offset": place.offset_bytes,
            "index_dtype": c_dtype(weight.name, weight.dtype)}  # fmt: skip
