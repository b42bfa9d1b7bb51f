"""Constants of a layer as bytes: packed channel by channel, so that any slice is one piece.

A convolution or product keeps, for each output channel, its kernel (input channels of its group,
then taps, in row-major order), its bias, and what else it has one of per channel. An element-wise
layer whose constants vary along its channels does the same with each constant's values of the
channel. Other layers have their constants one after another, as they are.

The planner gives ``[begin, end)`` of ``n`` channels the proportional part of `Layer.weight_bytes`,
rounded down; `pack_weights` fills exactly that. What all channels share (a scalar slope) cannot
be cut: it is a constant of the code, and its place is filled with zeros. A look-up table larger
than what is looked up of it stays in DRAM (`pack_table`): its place among the constants holds one
entry for each element of the output, and the kernel brings them there as it looks them up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from spm_opt.errors import GraphError
from spm_opt.graph.network import DTYPE_BYTES, Layer, Weight
from spm_opt.graph.ops import BatchNorm, Conv, ConvTranspose, Gather, Linear, Normalize, Op, Shape
from spm_opt.graph.values import LayerValues

Bytes = NDArray[np.uint8]
#: (begin, end) of output channels, None for all
Channels = tuple[int, int] | None
_LITTLE: Final = {"bool": "u1"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a constant lies.

    Attributes
    ----------
    kind : str
        ``channel``: `offset_bytes` into each channel's block; ``whole``: into all constants;
        ``code``: shared by channels that are cut apart, so a constant of the code.
    axis : int or None
        Axis of the constant that runs over the channels.
    """

    kind: str
    offset_bytes: int = 0
    axis: int | None = None


@dataclass(frozen=True, slots=True)
class Packing:
    """Places of a layer's constants, in their order; ``pitch_bytes`` belong to each channel."""

    places: tuple[Place, ...]
    channels: int
    pitch_bytes: int


def is_product(op: Op) -> bool:
    """Whether the layer multiplies by a kernel whose rows are output channels."""
    return isinstance(op, (Conv, ConvTranspose, Linear))


def packing_of(layer: Layer) -> Packing:
    """Where each of a layer's constants lies among its bytes."""
    axis = layer.channel_axis
    if is_product(layer.op):
        axis = len(layer.output_shape) - 1 if isinstance(layer.op, Linear) else 1
    if axis is None:
        return _whole(layer)
    channels = layer.output_shape[axis]
    places, offset = [], 0
    for i, weight in enumerate(layer.weights):
        at = _kernel_axis(layer.op, i) if is_product(layer.op) and i < _own(layer.op) else None
        if at is None:
            at = _channel_axis(layer, weight.shape, axis)
        if at is None:
            places.append(Place("code"))
            continue
        places.append(Place("channel", offset, at))
        offset += weight.size_bytes // channels
    return Packing(tuple(places), channels, offset)


def _own(op: Op) -> int:
    """Number of constants that are a product's kernel and bias."""
    return 1 + bool(op.bias) if isinstance(op, (Conv, ConvTranspose, Linear)) else 0


def _kernel_axis(op: Op, index: int) -> int:
    return 1 if isinstance(op, ConvTranspose) and index == 0 else 0


def _channel_axis(layer: Layer, shape: Shape, axis: int) -> int | None:
    """Axis of a constant that runs over the layer's channels, if one does."""
    extent, rank = layer.output_shape[axis], len(layer.output_shape)
    if isinstance(layer.op, (BatchNorm, Normalize)) and len(shape) == 1:
        return 0 if axis == 1 and shape[0] == extent else None
    own = axis + len(shape) - rank
    return own if own >= 0 and shape[own] == extent else None


def _whole(layer: Layer) -> Packing:
    places, offset = [], 0
    for weight in layer.weights:
        places.append(Place("whole", offset))
        offset += held_bytes(layer, weight)
    return Packing(tuple(places), 1, 0)


def held_bytes(layer: Layer, weight: Weight) -> int:
    """Bytes of a constant that the scratchpad holds: of a table, no more than is looked up."""
    if weight.role != "table" or not isinstance(layer.op, Gather):
        return 0 if weight.role == "table" else weight.size_bytes
    return min(weight.size_bytes, math.prod(layer.output_shape) * DTYPE_BYTES[weight.dtype])


def fetches_table(layer: Layer) -> bool:
    """Whether the layer looks rows up in a table that stays in DRAM (see `pack_table`)."""
    return any(
        weight.role == "table" and held_bytes(layer, weight) < weight.size_bytes
        for weight in layer.weights
    )


def pack_table(layer: Layer, values: LayerValues) -> bytes:
    """The look-up table that stays in DRAM; empty where there is none."""
    if not fetches_table(layer):
        return b""
    pairs = zip(layer.weights, values.arrays, strict=True)
    return b"".join(_raw(layer, w, a).tobytes() for w, a in pairs if w.role == "table")


def packed_bytes(layer: Layer, channels: Channels) -> int:
    """Bytes of the constants of output channels ``[begin, end)``, as the planner counts them."""
    axis = layer.channel_axis
    if channels is None or axis is None:
        return layer.weight_bytes
    return layer.weight_bytes * (channels[1] - channels[0]) // layer.output_shape[axis]


def pack_weights(layer: Layer, values: LayerValues, channels: Channels = None) -> bytes:
    """The constants of output `channels` of a layer, as its kernel reads them.

    Parameters
    ----------
    layer : Layer
    values : LayerValues
        With an array for each of the layer's constants.
    channels : (int, int), optional
        Output channels ``[begin, end)`` of a slice or tile; all by default.

    Returns
    -------
    bytes
        `packed_bytes` of them, in the byte order of the machine that runs this.

    Raises
    ------
    GraphError
        Naming the layer, where arrays and constants do not fit together.
    """
    if len(values.arrays) != len(layer.weights):
        raise GraphError(
            "values are missing", field=layer.name, found=len(values.arrays),
            allowed=f"{len(layer.weights)} arrays",
        )  # fmt: skip
    packing, size = packing_of(layer), packed_bytes(layer, channels)
    content = _blocks(layer, values, packing, channels).tobytes()
    content += b"".join(
        _whole_bytes(layer, weight, array)
        for weight, array, place in zip(layer.weights, values.arrays, packing.places, strict=True)
        if place.kind == "whole"
    )
    if len(content) > size:
        raise GraphError(
            "the constants are larger than planned", field=layer.name, found=len(content),
            allowed=f"{size} bytes",
        )  # fmt: skip
    return content.ljust(size, b"\0")


def _whole_bytes(layer: Layer, weight: Weight, array: NDArray[np.generic]) -> bytes:
    if held_bytes(layer, weight) < weight.size_bytes:
        return b"\0" * held_bytes(layer, weight)
    return _raw(layer, weight, array).tobytes()


def _blocks(layer: Layer, values: LayerValues, packing: Packing, channels: Channels) -> Bytes:
    """Bytes of each channel, one row a channel."""
    begin, end = channels or (0, packing.channels)
    columns = [np.zeros((end - begin, 0), dtype=np.uint8)]
    for i, place in enumerate(packing.places):
        if place.kind == "channel" and place.axis is not None:
            raw = _raw(layer, layer.weights[i], values.arrays[i])
            rows = _rows(layer.op, raw, place.axis, i)
            rows = np.ascontiguousarray(rows[begin:end])
            columns.append(rows.view(np.uint8).reshape(end - begin, -1))
    return np.concatenate(columns, axis=1)


def _rows(op: Op, array: NDArray[np.generic], axis: int, index: int) -> NDArray[np.generic]:
    """`array` as one row for each output channel."""
    if isinstance(op, ConvTranspose) and index == 0:
        inputs, outputs = array.shape[:2]
        grouped = array.reshape(op.groups, inputs // op.groups, outputs, -1)
        return grouped.swapaxes(1, 2).reshape(op.groups * outputs, -1)
    return np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)


def _raw(layer: Layer, weight: Weight, array: NDArray[np.generic]) -> NDArray[np.generic]:
    if tuple(array.shape) != weight.shape:
        raise GraphError(
            f"constant {weight.name!r} has another shape", field=layer.name, found=array.shape,
            allowed=str(weight.shape),
        )  # fmt: skip
    return np.asarray(array).astype(_LITTLE.get(weight.dtype, weight.dtype), copy=False)
