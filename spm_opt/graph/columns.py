"""Columns: what an operator needs to compute some columns of its output, and no others.

Columns run along the last axis of images, ``(images, channels, rows, columns)``. An operator that
can be cut so becomes one of the same kind on narrower maps: the padding that a window of the input
does not reach is gone, that which it does reach stays. What is computed is bit by bit the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from spm_opt.graph.network import Layer
from spm_opt.graph.ops import (
    BatchNorm,
    Binary,
    Concat,
    Conv,
    ConvTranspose,
    Op,
    Pool,
    Resize,
    Softmax,
    Unary,
)
from spm_opt.units import ceil_div

#: columns ``[begin, end)``
Columns = tuple[int, int]


@dataclass(frozen=True, slots=True)
class ColumnCut:
    """A layer for some of its columns.

    Attributes
    ----------
    op : Op
        Computes `columns` from the windows.
    columns : (int, int)
        Columns of the output: those asked for, or a few more where only whole blocks can be made.
    windows : tuple of (int, int)
        Columns of each input that `op` takes.
    """

    op: Op
    columns: Columns
    windows: tuple[Columns, ...]


def column_cut(layer: Layer, columns: Columns) -> ColumnCut | None:
    """`layer` for output columns ``[begin, end)``; None where it cannot be cut so."""
    rule = _RULES.get(type(layer.op))
    shapes = (*layer.input_shapes, layer.output_shape)
    if rule is None or layer.measured or any(len(shape) != 4 for shape in shapes):
        return None
    return rule(layer.op, layer, columns)


def _window(op: Any, layer: Layer, columns: Columns) -> ColumnCut | None:
    """A convolution or pooling: its windows, clipped to the input."""
    if len(op.kernel) != 2:
        return None
    kernel, stride, pad = op.kernel[1], op.stride[1], op.pads[1]
    begin = columns[0] * stride - pad
    end = (columns[1] - 1) * stride - pad + op.dilation[1] * (kernel - 1) + 1
    extent = layer.input_shapes[0][3]
    low, high = max(0, begin), min(extent, end)
    if low >= high:
        return None  # in the padding altogether
    if isinstance(op, Pool) and op.ceil_mode and end > extent + op.pads[3]:
        return None  # what lies beyond the padding is not counted as padding
    pads = (op.pads[0], low - begin, op.pads[2], end - high)
    return ColumnCut(replace(op, pads=pads), columns, ((low, high),))


def _transposed(op: Any, layer: Layer, columns: Columns) -> ColumnCut | None:
    """A transposed convolution: input columns whose taps reach the output's."""
    if len(op.kernel) != 2:
        return None
    stride, pad, reach = op.stride[1], op.pads[1], op.dilation[1] * (op.kernel[1] - 1)
    low = max(0, min(ceil_div(columns[0] + pad - reach, stride), (columns[0] + pad) // stride))
    high = min(layer.input_shapes[0][3], (columns[1] - 1 + pad) // stride + 1)
    if low >= high:
        return None
    first = columns[0] + pad - low * stride
    last = stride * (high - low - 1) + reach + 1 - first - (columns[1] - columns[0])
    pads = (op.pads[0], first, op.pads[2], max(last, 0))
    output_pads = (op.output_pads[0], max(-last, 0))
    return ColumnCut(replace(op, pads=pads, output_pads=output_pads), columns, ((low, high),))


def _resized(op: Any, layer: Layer, columns: Columns) -> ColumnCut | None:
    """Nearest upsampling by a whole factor, in whole input columns."""
    inner, outer = layer.input_shapes[0][3], layer.output_shape[3]
    plain = (op.mode, op.coordinates, op.rounding) == ("nearest", "asymmetric", "floor")
    if not plain or outer % inner:
        return None
    factor = outer // inner
    low, high = columns[0] // factor, ceil_div(columns[1], factor)
    made = low * factor, high * factor
    output = (*op.output[:3], made[1] - made[0])
    return ColumnCut(replace(op, output=output), made, ((low, high),))


def _pointwise(op: Op, layer: Layer, columns: Columns) -> ColumnCut | None:
    """Column by column; what is broadcast along the columns is taken whole."""
    # of constants that differ from column to column each band would need its own
    if any(weight.shape and weight.shape[-1] != 1 for weight in _along_columns(layer)):
        return None
    width = layer.output_shape[3]
    extents = [shape[3] for shape in layer.input_shapes]
    if any(extent not in (1, width) for extent in extents):
        return None
    windows = tuple((0, 1) if extent == 1 < width else columns for extent in extents)
    return ColumnCut(op, columns, windows)


def _along_columns(layer: Layer) -> tuple[Any, ...]:
    """Constants that are broadcast from the last axis."""
    return () if isinstance(layer.op, BatchNorm) else layer.weights


def _joined(op: Any, layer: Layer, columns: Columns) -> ColumnCut | None:
    if op.axis % 4 == 3 or op.constants:
        return None
    return ColumnCut(op, columns, (columns,) * len(layer.inputs))


def _normalised(op: Any, layer: Layer, columns: Columns) -> ColumnCut | None:
    return None if op.axis % 4 == 3 else ColumnCut(op, columns, (columns,))


_RULES: Final[Mapping[type[Op], Callable[[Any, Layer, Columns], ColumnCut | None]]] = {
    Conv: _window,
    Pool: _window,
    ConvTranspose: _transposed,
    Resize: _resized,
    Unary: _pointwise,
    Binary: _pointwise,
    BatchNorm: _pointwise,
    Concat: _joined,
    Softmax: _normalised,
}
