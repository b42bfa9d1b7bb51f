"""Tiles of a run of layers: which rows each layer computes, each buffer holds, each tile moves.

The last layer's output is cut into stripes of rows (or, for a single layer, into runs of output
channels with all their rows). Everything else follows backwards through the operators' row maps,
as arrays over the tiles. With **retain** a row is computed once and kept in a rolling buffer while
a later tile needs it; with **recompute** each tile computes all rows that it needs. Rows of maps
that are streamed from DRAM are always retained while needed: each is loaded once.

This room knows shapes and rows; no cycles, no bandwidth, no choice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spm_opt.graph.network import Layer, Network
from spm_opt.graph.ops import RowMap
from spm_opt.units import ceil_div

Ints = NDArray[np.int64]

#: numbers of stripes that are tried, besides one row a stripe
STRIPE_COUNTS = (
    1, 2, 3, 4, 5, 7, 8, 10, 14, 16, 20, 28, 32, 40, 56, 64, 80, 112, 128, 160, 192, 224, 256,
    320, 384, 512,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rows:
    """Half-open row intervals, one a tile; empty where ``end <= begin``."""

    begin: Ints
    end: Ints

    @property
    def count(self) -> Ints:
        """Rows of each interval."""
        rows: Ints = np.maximum(self.end - self.begin, 0)
        return rows


def stripe_heights(rows: int) -> tuple[int, ...]:
    """Distinct stripe heights for a map of `rows` rows, tallest first."""
    heights = {ceil_div(rows, count) for count in STRIPE_COUNTS if count <= rows}
    return tuple(sorted(heights | {1}, reverse=True))


def stripes(rows: int, height: int) -> Rows:
    """The stripes of `height` rows that cover ``[0, rows)``."""
    begin = np.arange(0, rows, height, dtype=np.int64)
    return Rows(begin, np.minimum(begin + height, rows))


def needed(row_map: RowMap, rows: Rows, extent: int) -> Rows:
    """Input rows, of `extent`, that output `rows` need; nothing where they are empty."""
    if row_map.axis is None:
        low, high = np.zeros_like(rows.begin), np.full_like(rows.begin, extent)
    else:
        first = (row_map.scale * rows.begin + row_map.first) // row_map.divisor
        last = (row_map.scale * (rows.end - 1) + row_map.last) // row_map.divisor + 1
        low, high = np.clip(first, 0, extent), np.clip(last, 0, extent)
    idle = (rows.end <= rows.begin) | (high <= low)
    # an empty need must pull neither end of a hull: begin above all rows, end below all
    return Rows(np.where(idle, extent, low), np.where(idle, 0, high))


def hull(a: Rows | None, b: Rows) -> Rows:
    """Smallest intervals that hold both."""
    if a is None:
        return b
    return Rows(np.minimum(a.begin, b.begin), np.maximum(a.end, b.end))


def fresh(need: Rows, extent: int, complete: bool) -> Rows:
    """Rows that each tile adds when earlier ones are retained.

    Parameters
    ----------
    need : Rows
        Rows each tile needs.
    extent : int
        Rows of the map.
    complete : bool
        Whether every row must appear (somebody outside reads the map); otherwise rows that no
        tile needs are skipped.
    """
    end = np.maximum.accumulate(need.end)
    if complete:
        end[-1] = extent
    begin = np.concatenate((np.zeros(1, dtype=np.int64), end[:-1]))
    if not complete:
        begin = np.minimum(np.maximum(begin, need.begin), end)
    return Rows(begin, end)


def live_from(need: Rows) -> Ints:
    """First row that a tile or a later one still needs."""
    low: Ints = np.minimum.accumulate(need.begin[::-1])[::-1]
    return low


def held_rows(low: Ints, high: Ints) -> int:
    """Rows of a rolling buffer that holds rows ``[low, high)`` at each tile."""
    return max(1, int(np.max(high - low)))


@dataclass(frozen=True, slots=True)
class Chain:
    """A run of layers under one striping, built backwards from its last layer.

    Attributes
    ----------
    layers : tuple of int
        Layers of the run, last first.
    computed : tuple of Rows
        Output rows that each layer computes per tile.
    read : tuple of tuple of Rows
        Rows that each layer reads of each of its operands, per tile.
    held : tuple of int
        Rows of each layer's output that must be held for later tiles (rolling buffer).
    low : tuple of int64 array
        First row of each layer's output still needed, per tile.
    needs : mapping of str to Rows
        Rows of every outside map that the tiles need.
    """

    layers: tuple[int, ...]
    computed: tuple[Rows, ...]
    read: tuple[tuple[Rows, ...], ...]
    held: tuple[int, ...]
    low: tuple[Ints, ...]
    needs: dict[str, Rows]


def start_chain(network: Network, index: int, tiles: Rows) -> Chain:
    """The chain of the last layer alone."""
    empty = Chain((), (), (), (), (), {network.layers[index].output: tiles})
    return grow_chain(network, empty, index, "retain", complete=True)


def grow_chain(network: Network, chain: Chain, index: int, halo: str, complete: bool) -> Chain:
    """`chain` with layer `index`, which feeds it, in front.

    Parameters
    ----------
    halo : str
        ``retain`` or ``recompute``.
    complete : bool
        Whether the layer's output is read outside the run, and so must be computed whole.
    """
    layer = network.layers[index]
    needs = dict(chain.needs)
    need = needs.pop(layer.output)
    new = fresh(need, layer.rows, complete)
    # the first rows anyone asks for may lie above rows that only the outside reads
    own = Rows(np.minimum(need.begin, new.begin), new.end) if halo == "recompute" else new
    low = np.minimum(live_from(need), own.begin)
    read = tuple(
        needed(layer.input_rows(i), own, network.tensors[operand.tensor].rows)
        for i, operand in enumerate(layer.inputs)
    )
    for operand, rows in zip(layer.inputs, read, strict=True):
        needs[operand.tensor] = hull(needs.get(operand.tensor), rows)
    return Chain(
        (*chain.layers, index),
        (*chain.computed, own),
        (*chain.read, read),
        (*chain.held, held_rows(low, own.end)),
        (*chain.low, low),
        needs,
    )


def read_bytes(network: Network, layer: Layer, read: tuple[Rows, ...], weight_bytes: int) -> Ints:
    """SPM bytes that each tile of `layer` reads: operand rows, each operand once, and weights."""
    total = np.full_like(read[0].begin, weight_bytes) if read else np.array([weight_bytes])
    for operand, rows in zip(layer.inputs, read, strict=True):
        total = total + rows.count * network.tensors[operand.tensor].row_bytes
    return total
