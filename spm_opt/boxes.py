"""Boxes: which box of each input a box of a layer's output needs, axis by axis.

A box is a product of half-open intervals, one for each axis of a tensor. What an axis of an input
needs follows from one axis of the output (`Link`), or is all of it. `spm_opt.graph.ops` answers for
rows, columns, channels and images; here the answers are brought onto the axes of the tensors as
they lie in memory. Nothing here knows bytes, tiles or scratchpads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spm_opt.graph.network import Layer, Network
from spm_opt.graph.ops import (
    Concat,
    Conv,
    ConvTranspose,
    Linear,
    MatMul,
    Pool,
    RowMap,
    Shape,
    row_axis,
)

Ints = NDArray[np.int64]

#: names of the axes of a last layer's output that may be tiled
AXES = ("images", "heads", "channels", "rows", "columns")
#: begin of an empty interval: above every index, so that it pulls no hull down; its end is 0
NOWHERE = 2**40


@dataclass(frozen=True, slots=True)
class Span:
    """An interval for each tile of a loop: ``[begin, end)``, `NOWHERE` and 0 where it is empty.

    Attributes
    ----------
    begin, end : int64 array (tiles,)
    """

    begin: Ints
    end: Ints

    @property
    def length(self) -> Ints:
        """Indices of each interval."""
        count: Ints = np.maximum(self.end - self.begin, 0)
        return count

    @property
    def some(self) -> NDArray[np.bool_]:
        """Where the interval is not empty."""
        return self.end > self.begin


def span(begin: Ints, end: Ints) -> Span:
    """Intervals, those without an index made plainly empty."""
    some = end > begin
    return Span(np.where(some, begin, NOWHERE), np.where(some, end, 0))


def hull(a: Span, b: Span) -> Span:
    """Smallest intervals that hold both."""
    return Span(np.minimum(a.begin, b.begin), np.maximum(a.end, b.end))


@dataclass(frozen=True, slots=True)
class Link:
    """How an axis of an input follows from an axis of the output.

    ``out_step`` output indices at a time need ``in_step`` input indices (channels of groups); then
    `map` is not asked.
    """

    out_axis: int
    map: RowMap
    extent: int
    out_step: int = 1
    in_step: int = 1

    def needed(self, wanted: Span) -> Span:
        """Indices of the input's axis, clipped to it, that `wanted` of the output's axis need."""
        begin, last = np.where(wanted.some, wanted.begin, 0), wanted.end - 1
        if (self.out_step, self.in_step) != (1, 1):
            low = begin // self.out_step * self.in_step
            high = (last // self.out_step + 1) * self.in_step
        else:
            low = (self.map.scale * begin + self.map.first) // self.map.divisor
            high = (self.map.scale * last + self.map.last) // self.map.divisor + 1
        low, high = np.clip(low, 0, self.extent), np.clip(high, 0, self.extent)
        return span(low, np.where(wanted.some, high, 0))


def tiled_axes(layer: Layer) -> dict[str, int]:
    """Axes of a layer's output that may be tiled, by name; those of one index are left out."""
    shape, rank = layer.output_shape, len(layer.output_shape)
    if not layer.op.tileable or rank == 0:
        return {}
    names = {"rows": row_axis(shape), **_cut_axes(layer, rank)}
    found = {name: axis for name, axis in names.items() if axis is not None}
    if rank > 1 and 0 not in found.values():
        found["images"] = 0
    return {name: found[name] for name in AXES if name in found and shape[found[name]] > 1}


def _cut_axes(layer: Layer, rank: int) -> dict[str, int | None]:
    if isinstance(layer.op, MatMul):
        return {"heads": layer.op.channel_axis(layer.output_shape), "columns": rank - 1}
    if isinstance(layer.op, Linear):
        return {"channels": rank - 1}
    if isinstance(layer.op, (Conv, ConvTranspose, Pool)) and rank == 3:
        return {"columns": 2}
    return {"channels": 1, "columns": rank - 1} if rank >= 4 else {"channels": rank - 1}


def operand_links(network: Network, layer: Layer, index: int) -> tuple[Link | None, ...]:
    """For each axis of the tensor that operand `index` is: its link, None where all is needed."""
    operand = layer.inputs[index]
    seen, shape = _view_links(layer, index), network.tensors[operand.tensor].shape
    if operand.shape == shape:
        return tuple(seen.get(axis) for axis in range(len(shape)))
    return tuple(
        None if view is None else seen.get(view)
        for view in (_same_axis(shape, axis, operand.shape) for axis in range(len(shape)))
    )


def _same_axis(shape: Shape, axis: int, view: Shape) -> int | None:
    """Axis of `view` that runs over the same indices as `axis` of `shape`."""
    before = math.prod(shape[:axis])
    for i, extent in enumerate(view):
        if extent == shape[axis] > 1 and math.prod(view[:i]) == before:
            return i
    return None


def _view_links(layer: Layer, index: int) -> dict[int, Link]:
    """Links by axis of the operand as the layer sees it."""
    op, inputs, output = layer.op, layer.input_shapes, layer.output_shape
    shape, found = inputs[index], dict[int, Link]()

    def add(out_axis: int | None, wanted: RowMap, step: int = 1) -> None:
        axis = wanted.axis
        if axis is not None and out_axis is not None and axis not in found:
            found[axis] = Link(out_axis, wanted, shape[axis], step, step)

    if not op.tileable:
        return found
    if isinstance(op, Concat):
        joined = op.axis % len(output)
        add(joined, op.behind(index, inputs, joined))
    # channels first: whole groups are more than the indices themselves
    add(op.channel_axis(output), RowMap(op.input_channel_axis(index, inputs, output)),
        op.channel_step())  # fmt: skip
    add(row_axis(output), op.input_rows(index, inputs, output))
    add(len(output) - 1 if output else None, op.input_columns(index, inputs, output))
    keeps = output and shape and shape[0] == output[0]
    if keeps and op.keeps_images(index, inputs, output):
        add(0, RowMap(0))
    return found
