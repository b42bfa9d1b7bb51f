"""A mapping worked out along every axis: what is moved and computed, as products over the loops."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np

from spm_opt.boxes import Ints, Span
from spm_opt.graph.network import Layer
from spm_opt.mapping import Mapping
from spm_opt.mapping_lines import Line, fresh, worked
from spm_opt.mapping_set import FusionSet


@dataclass(frozen=True, slots=True)
class Boxes:
    """A box of one tensor for each tile: a product of intervals, one for each loop.

    Attributes
    ----------
    unit : int
        Bytes at one index of every loop.
    spans : tuple of Span
        By loop, the outermost first.
    """

    unit: int
    spans: tuple[Span, ...]

    @property
    def total(self) -> int:
        """Bytes of all boxes."""
        return self.unit * math.prod(int(at.length.sum()) for at in self.spans)

    @property
    def largest(self) -> int:
        """Bytes of the largest box."""
        return self.unit * math.prod(int(at.length.max()) for at in self.spans)

    @property
    def count(self) -> int:
        """Boxes that are not empty."""
        return math.prod(int(at.some.sum()) for at in self.spans)


def placed(values: Ints, at: int, of: int) -> Ints:
    """An array over the tiles of loop `at`, to broadcast over the tiles of `of` loops."""
    shape = [1] * of
    shape[at] = values.size
    return values.reshape(shape)


@dataclass(frozen=True)
class Evaluation:
    """One mapping of a set, worked out along every axis.

    Attributes
    ----------
    fused : FusionSet
    mapping : Mapping
    lines : tuple of Line
        The outermost loop first; axes that have no loop stand behind, as loops of one tile.
    """

    fused: FusionSet
    mapping: Mapping
    lines: tuple[Line, ...]

    @property
    def tiles(self) -> int:
        """Tiles of all loops."""
        return math.prod(at.tiles for at in self.lines)

    @cached_property
    def weighted(self) -> tuple[Layer, ...]:
        """Layers that have weights."""
        return tuple(layer for layer in self.fused.layers if layer.weight_bytes)

    def kept(self, tensor: str) -> tuple[bool, ...]:
        """By line: whether a map is reused along it."""
        kept = self.mapping.feature_maps.get(tensor)
        return tuple(kept is None or at.name in kept for at in self.lines)

    def kept_weights(self, layer: Layer) -> tuple[bool, ...]:
        """By line: whether the weights of a layer are reused along it."""
        kept = self.mapping.weights.get(layer.name)
        return tuple(kept is None or at.name in kept for at in self.lines)

    def load(self, name: str) -> Boxes:
        """What each tile moves in of an input."""
        needs = (at.needs[name] for at in self.lines)
        return Boxes(self.fused.unbound_bytes(name), _moved(needs, self.kept(name)))

    def weights_needed(self, layer: Layer) -> tuple[Span, ...]:
        """By line: what the weights of a layer are needed of."""
        return tuple(weights_span(self.fused, layer, at) for at in self.lines)

    def weight_load(self, layer: Layer) -> Boxes:
        """What each tile moves in of the weights of a layer."""
        moved = _moved(self.weights_needed(layer), self.kept_weights(layer))
        return Boxes(self.fused.unbound_weight_bytes(layer), moved)

    def store(self, name: str) -> Boxes:
        """What each tile writes of a map: what no tile had before."""
        spans = tuple(fresh(at.needs[name]) for at in self.lines)
        return Boxes(self.fused.unbound_bytes(name), spans)

    def new(self, layer: Layer) -> Boxes:
        """What each tile computes of a layer's output."""
        spans = tuple(at.new[layer.output] for at in self.lines)
        return Boxes(self.fused.unbound_bytes(layer.output), spans)

    def read(self, layer: Layer, index: int) -> Boxes:
        """What each tile of a layer reads of operand `index`."""
        spans = tuple(at.reads[layer.name, index] for at in self.lines)
        return Boxes(self.fused.unbound_bytes(layer.inputs[index].tensor), spans)

    def macs(self, layer: Layer) -> int:
        """MACs that are done of a layer."""
        return self._macs(layer, self.new(layer))

    def macs_once(self, layer: Layer) -> int:
        """MACs of the elements that any tile needs of a layer, each once."""
        return self._macs(layer, self.store(layer.output))

    def _macs(self, layer: Layer, boxes: Boxes) -> int:
        whole = self.fused.network.tensors[layer.output].size_bytes
        return layer.macs * boxes.total // whole

    def second_tiles(self) -> tuple[int, int]:
        """Bytes of a second tile of every map, and of all weights, that come or go in several."""
        fused = self.fused
        maps = [self.load(name) for name in fused.inputs]
        maps += [self.store(name) for name in fused.stored]
        weights = [self.weight_load(layer) for layer in self.weighted]
        return _streamed(maps), _streamed(weights)

    def over_tiles(self, boxes: Boxes) -> Ints:
        """Bytes of boxes by tile, an array with one axis for each loop."""
        parts = [placed(s.length, i, len(boxes.spans)) for i, s in enumerate(boxes.spans)]
        return reduce(np.multiply, parts, np.array(boxes.unit, dtype=np.int64))


def weights_span(fused: FusionSet, layer: Layer, at: Line) -> Span:
    """What the weights of a layer are needed of along a line: channels, or whether it works."""
    new = at.new[layer.output]
    return new if fused.weight_axis(layer) == at.name else worked(new)


def _moved(needs: Iterable[Span], kept: tuple[bool, ...]) -> tuple[Span, ...]:
    return tuple(fresh(n) if reuse else n for n, reuse in zip(needs, kept, strict=True))


def _streamed(found: list[Boxes]) -> int:
    return sum(boxes.largest for boxes in found if boxes.count > 1)
