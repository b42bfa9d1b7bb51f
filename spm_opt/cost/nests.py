"""The MAC nest of a tile: which extents a run of rows and a slice of channels leave of a layer's.

Shared by the unrollings (`compute`) and the arrays of a dataflow (`array_tiles`), which both price
it; nothing here does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from spm_opt.cost.exact import Ints
from spm_opt.graph.network import Layer
from spm_opt.graph.ops import Loops, MatMul, RowMap
from spm_opt.hardware import ComputeArray

#: element types that take the rate of another where the hardware does not list them
SAME_RATE: Final[Mapping[str, str]] = {
    "uint8": "int8", "bool": "int8", "uint16": "int16", "bfloat16": "float16", "uint32": "int32",
    "uint64": "int64",
}  # fmt: skip


def cycles_per_mac(compute: ComputeArray, dtype: str) -> int:
    """Cycles of one MAC in a cell of the array for elements of `dtype`."""
    rates = compute.cycles_per_mac
    return rates.get(dtype, rates.get(SAME_RATE.get(dtype, dtype), 1))


def boxes(layer: Layer, rows: Ints, begin: Ints) -> tuple[tuple[Ints, Ints], ...]:
    """(rows of an image, images) of what tiles have: rows of the first, whole ones, of the last."""
    if layer.images == 1:
        return ((rows, np.ones_like(rows)),)
    one = layer.image_rows
    head = np.minimum(rows, -begin % one)
    images, tail = np.divmod(rows - head, one)
    single = np.ones_like(rows)
    return (head, single), (np.full_like(rows, one), images), (tail, single)


def share_of(loops: Loops, cut: str, part: int, all_channels: int) -> dict[str, int]:
    """Extents of the dimensions that a slice of `part` channels shortens."""
    if cut == "b":
        return {"b": loops.b * part // all_channels, "g": loops.g, "k": loops.k}
    # a slice of a grouped convolution takes whole groups
    groups = max(1, loops.g * part // all_channels)
    return {"b": loops.b, "g": groups, "k": loops.g * loops.k * part // all_channels // groups}


@dataclass(frozen=True, slots=True)
class Window:
    """Indices of an input's axis that a run of the output's needs, padding included."""

    scale: int = 1
    reach: int = 0
    divisor: int = 1

    @classmethod
    def of(cls, needed: RowMap) -> Window:
        """The window of a map of rows or columns; one for one where all of the input is needed."""
        if needed.axis is None:
            return cls()
        return cls(needed.scale, needed.last - needed.first, needed.divisor)

    def inputs(self, outputs: Ints) -> Ints:
        """Indices that each of some runs of outputs needs; 0 for none."""
        found = (self.scale * (outputs - 1) + self.reach) // self.divisor + 1
        return np.where(outputs > 0, np.maximum(found, 1), 0)

    def inputs_in_runs(self, extent: int, runs_of: Ints) -> Ints:
        """Indices that `extent` outputs need in runs of some length, halos again for each run."""
        full, rest = np.divmod(extent, runs_of)
        found: Ints = full * self.inputs(runs_of) + self.inputs(rest)
        return found


@dataclass(frozen=True, slots=True)
class MacNest:
    """A convolution of some rows of some images, without borders; a product is one of 1x1.

    Attributes
    ----------
    images : int
        Those that share the weights.
    groups : int
        Nests of weights of their own: groups of a convolution, products of a batch of matrices.
    filters, channels : int
        Of one group.
    rows, columns : int
        Of the output, of each image.
    kernel_rows, kernel_columns : int
    row_window, column_window : Window
        What a run of output rows or columns needs of the input.
    """

    images: int
    groups: int
    filters: int
    channels: int
    rows: int
    columns: int
    kernel_rows: int = 1
    kernel_columns: int = 1
    row_window: Window = Window()
    column_window: Window = Window()

    @property
    def depth(self) -> int:
        """Products that are summed to an output."""
        return self.channels * self.kernel_rows * self.kernel_columns

    @property
    def pixels(self) -> int:
        """Outputs of one filter."""
        return self.images * self.groups * self.rows * self.columns

    @property
    def output_words(self) -> int:
        """Elements of the output."""
        return self.pixels * self.filters

    @property
    def weight_words(self) -> int:
        """Elements of the weights."""
        return self.groups * self.filters * self.depth

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.output_words * self.depth


def has_own_weights(layer: Layer) -> bool:
    """Whether each product of a batch has a second operand of its own, which is a feature map."""
    return isinstance(layer.op, MatMul)


def mac_nest(
    layer: Layer, loops: Loops, share: Mapping[str, int], rows: int, images: int, columns: int
) -> MacNest:
    """The nest of `rows` x `columns` of each of some images.

    Parameters
    ----------
    share : mapping of str to int
        ``b`` of one image, ``g``, ``k`` of the slice.
    """
    batch, groups = share["b"] * images, share["g"]
    if has_own_weights(layer):
        batch, groups = 1, groups * batch
    shapes = layer.input_shapes, layer.output_shape
    return MacNest(
        batch, groups, share["k"], loops.c, rows, columns, loops.fy, loops.fx,
        Window.of(layer.op.input_rows(0, *shapes)), Window.of(layer.op.input_columns(0, *shapes)),
    )  # fmt: skip
