"""What every tensor of a fusion set needs along one axis, tile by tile: arrays, no loop over tiles.

Needs are products of intervals, and the interval along one tiled axis depends on the tile's index
in the loop of that axis alone. So each axis is worked out by itself (`Line`), for each choice of
what is kept along it, and counts over all tiles are products.

From the last layer backwards: a map needs, at a tile, the smallest interval that holds what its
readers compute of theirs there; of an intermediate all of that is computed, or what no earlier
index of the loop needed (*fresh*) where its choice is reuse. Along a loop that moves no axis of a
map its interval is ``[0, 1)`` where a reader works, and empty elsewhere. Where two readers of a map
would make an interval end before that of an earlier tile, it is widened so that ends never go back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from spm_opt.boxes import NOWHERE, Ints, Span, hull, span
from spm_opt.graph.network import Layer
from spm_opt.mapping_set import FusionSet
from spm_opt.units import ceil_div

#: which choices to follow of an intermediate map of this name, with this need along the line, after
#: the choices of maps nearer to the last layer
Choices = Callable[[str, Span, dict[str, bool]], tuple[bool, ...]]


@dataclass(frozen=True, slots=True)
class Line:
    """One tiled axis of a fusion set, cut into tiles, with one choice for each intermediate.

    Attributes
    ----------
    name : str
    size : int
        Indices of a tile of the last output.
    reuse : dict of str to bool
        By intermediate map.
    needs : dict of str to Span
        Of every map, the last output included.
    new : dict of str to Span
        What is computed of every map that the set writes.
    reads : dict of (str, int) to Span
        By layer and operand: what that operand is read of.
    """

    name: str
    size: int
    reuse: dict[str, bool]
    needs: dict[str, Span]
    new: dict[str, Span]
    reads: dict[tuple[str, int], Span]

    @property
    def tiles(self) -> int:
        """Tiles of the loop."""
        return next(iter(self.needs.values())).begin.size


def fresh(need: Span) -> Span:
    """What no earlier tile needed."""
    return span(np.maximum(need.begin, _reached(need)), need.end)


def _reached(need: Span) -> Ints:
    """End of what earlier tiles needed."""
    ends: Ints = np.zeros_like(need.end)
    ends[1:] = np.maximum.accumulate(need.end)[:-1]
    return ends


def _still_needed(need: Span) -> Ints:
    """Begin of what later tiles need."""
    begins: Ints = np.full_like(need.begin, NOWHERE)
    begins[:-1] = np.minimum.accumulate(need.begin[::-1])[::-1][1:]
    return begins


@dataclass(frozen=True, slots=True)
class Profile:
    """Of one need along one loop: indices of it by where else they are needed, at each tile.

    Attributes
    ----------
    need : int64 array (tiles,)
        Needed here.
    before, after, both : int64 array (tiles,)
        Of these: needed at an earlier tile, at a later one, at both.
    gap, gone, ahead : int64 array (tiles,)
        Not needed here: at earlier and later tiles, at earlier ones only, at later ones only.
    """

    need: Ints
    before: Ints
    after: Ints
    both: Ints
    gap: Ints
    gone: Ints
    ahead: Ints

    @property
    def fresh(self) -> Ints:
        """Needed here and at no earlier tile."""
        return self.need - self.before

    @property
    def union(self) -> int:
        """Indices that any tile needs."""
        return int(self.fresh.sum())


def profile(need: Span) -> Profile:
    """Count a need along its loop."""
    size, reached, still = need.length, _reached(need), _still_needed(need)
    low, high = np.maximum(need.begin, still), np.minimum(need.end, reached)
    before = np.where(need.some, np.maximum(high - need.begin, 0), 0)
    after = np.where(need.some, np.maximum(need.end - low, 0), 0)
    both = np.where(need.some, np.maximum(high - low, 0), 0)
    across = np.maximum(reached - still, 0)
    earlier = np.cumsum(size - before) - (size - before)
    last_time = size - after
    later = np.cumsum(last_time[::-1])[::-1] - last_time
    gone = earlier - across - (before - both)
    ahead = later - across - (after - both)
    return Profile(size, before, after, both, across - both, gone, ahead)


def tiles_of(extent: int, size: int) -> Span:
    """An extent cut into tiles of `size`."""
    begin = np.arange(ceil_div(extent, size), dtype=np.int64) * size
    return Span(begin, np.minimum(begin + size, extent))


def line(fused: FusionSet, name: str, size: int, reuse: dict[str, bool]) -> Line:
    """The line of one choice; what is absent from `reuse` is kept."""

    def choose(tensor: str, need: Span, before: dict[str, bool]) -> tuple[bool, ...]:
        return (reuse.get(tensor, True),)

    return next(lines(fused, name, size, choose))


def lines(fused: FusionSet, name: str, size: int, choose: Choices) -> Iterator[Line]:
    """Lines of all the choices that `choose` offers."""
    whole = tiles_of(fused.extent(name), size)
    start = Line(name, size, {}, {fused.last.output: whole}, {fused.last.output: whole}, {})
    yield from _grow(fused, start, len(fused.layers) - 1, choose)


def _grow(fused: FusionSet, done: Line, index: int, choose: Choices) -> Iterator[Line]:
    """`done`, which knows what layer `index` computes, brought back to the first layer."""
    layer = fused.layers[index]
    reads = dict(done.reads)
    for i in range(len(layer.inputs)):
        reads[layer.name, i] = _read(fused, layer, i, done.new[layer.output], done.name)
    if not index:
        needs = done.needs | {name: _need(fused, name, reads) for name in fused.inputs}
        yield Line(done.name, done.size, done.reuse, needs, done.new, reads)
        return
    before = fused.layers[index - 1].output
    need = _need(fused, before, reads)
    kept = fresh(need)
    for reuse in choose(before, need, done.reuse):
        yield from _grow(
            fused,
            Line(
                done.name, done.size, done.reuse | {before: reuse}, done.needs | {before: need},
                done.new | {before: kept if reuse else need}, reads,
            ),
            index - 1,
            choose,
        )  # fmt: skip


def worked(new: Span) -> Span:
    """``[0, 1)`` where something is computed."""
    return span(np.zeros_like(new.begin), new.some.astype(np.int64))


def _read(fused: FusionSet, layer: Layer, index: int, new: Span, name: str) -> Span:
    tensor = layer.inputs[index].tensor
    axis = fused.axis_of(tensor, name)
    if axis is None:
        return worked(new)
    link = fused.links[layer.name][index][axis]
    if link is not None and fused.bindings[layer.output][link.out_axis] == name:
        return link.needed(new)
    extent = fused.network.tensors[tensor].shape[axis]
    return span(np.zeros_like(new.begin), np.where(new.some, extent, 0))


def _need(fused: FusionSet, tensor: str, reads: dict[tuple[str, int], Span]) -> Span:
    """Hull of what the readers of a map read of it."""
    found = [
        reads[layer.name, i]
        for layer in fused.layers
        for i, operand in enumerate(layer.inputs)
        if operand.tensor == tensor and (layer.name, i) in reads
    ]
    need = found[0]
    for other in found[1:]:
        need = hull(need, other)
    return need if len(found) == 1 else _forward(need)


def _forward(need: Span) -> Span:
    """Intervals whose begins and ends never go back, where they are not empty."""
    begin = np.minimum.accumulate(need.begin[::-1])[::-1]
    end = np.maximum.accumulate(need.end)
    return Span(np.where(need.some, begin, NOWHERE), np.where(need.some, end, 0))
