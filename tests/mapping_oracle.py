"""A brute-force walk over the tiles of a mapping, with Python sets of elements.

It shares nothing with `spm_opt.mapping_*` but the records, and the binding of axes to loops, which
is part of the definition. What one output element needs is spelled out operator by operator.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field

from spm_opt.graph.network import DTYPE_BYTES

Box = tuple[tuple[int, int], ...]


def taps(begin, count, step):
    """Indices of a window, those in the padding too: they belong to the interval around it."""
    return range(begin, begin + count * step, step)


def window(layer, element, channels):
    op = layer.op
    axes = [[element[0]], channels]
    for i, at in enumerate(element[2:]):
        axes.append(taps(at * op.stride[i] - op.pads[i], op.kernel[i], op.dilation[i]))
    return axes


def conv(layer, element, index):
    inside = layer.input_shapes[0][1]
    own = inside // layer.op.groups
    group = element[1] // (layer.op.out_channels // layer.op.groups)
    # a grouped convolution with another number of channels on either side needs them all
    several = layer.op.groups > 1 and inside == layer.op.out_channels
    channels = range(group * own, (group + 1) * own) if several else range(inside)
    return window(layer, element, channels)


def pool(layer, element, index):
    return window(layer, element, [element[1]])


def same(layer, element, index):
    shape = layer.input_shapes[index]
    tail = element[len(element) - len(shape) :]
    return [[at if extent > 1 else 0] for at, extent in zip(tail, shape, strict=True)]


def softmax(layer, element, index):
    axes = [[at] for at in element]
    axis = layer.op.axis % len(element)
    axes[axis] = range(layer.output_shape[axis])
    return axes


def linear(layer, element, index):
    return [*([at] for at in element[:-1]), range(layer.input_shapes[0][-1])]


def matmul(layer, element, index):
    lead, inner = [[at] for at in element[:-2]], range(layer.input_shapes[0][-1])
    if index == 0:
        return [*lead, [element[-2]], inner]
    return [*lead, *(([element[-1]], inner) if layer.op.transpose_b else (inner, [element[-1]]))]


def concat(layer, element, index):
    axis = layer.op.axis % len(element)
    offset = sum(shape[axis] for shape in layer.input_shapes[:index])
    inside = 0 <= element[axis] - offset < layer.input_shapes[index][axis]
    axes = [[at] for at in element]
    axes[axis] = [element[axis] - offset] if inside else []
    return axes


RECEPTIVE = {"conv": conv, "pool": pool, "unary": same, "binary": same, "softmax": softmax,
             "linear": linear, "matmul": matmul, "concat": concat}  # fmt: skip


def bounds(indices, extent):
    """The interval around some indices, clipped to the map; None where nothing is left."""
    if not indices or max(indices) < 0 or min(indices) >= extent:
        return None
    return max(min(indices), 0), min(max(indices) + 1, extent)


def hull(*intervals):
    found = [i for i in intervals if i is not None]
    return (min(b for b, _ in found), max(e for _, e in found)) if found else None


def elements(box: Box):
    return set(itertools.product(*(range(b, e) for b, e in box)))


@dataclass
class Walk:
    """Everything that happens to one tensor."""

    needed: dict[tuple[int, ...], set] = field(default_factory=dict)
    new: dict[tuple[int, ...], set] = field(default_factory=dict)
    live: dict[tuple[int, ...], set] = field(default_factory=dict)

    @property
    def moved(self) -> int:
        return sum(len(found) for found in self.new.values())


class Oracle:
    """All tensors of a set under a mapping; sizes in elements and bytes."""

    def __init__(self, fused, mapping):
        self.fused, self.mapping = fused, mapping
        counts = [-(-fused.extent(loop.axis) // loop.size) for loop in mapping.loops]
        self.tiles = list(itertools.product(*(range(n) for n in counts)))
        self.maps: dict[str, Walk] = {}
        self.weights: dict[str, Walk] = {}
        for layer in reversed(fused.layers):
            kept = mapping.feature_maps.get(layer.output, mapping.axes)
            if layer is fused.last:
                needed = {t: elements(self.last_tile(t)) for t in self.tiles}
            else:
                needed = self.needed(layer.output)
            self.maps[layer.output] = self.walk(needed, kept)
            if layer.weight_bytes:
                self.weights[layer.name] = self.walk(
                    self.weights_needed(layer), mapping.weights.get(layer.name, mapping.axes)
                )
        for name in fused.inputs:
            kept = mapping.feature_maps.get(name, mapping.axes)
            self.maps[name] = self.walk(self.needed(name), kept)

    def last_tile(self, t) -> Box:
        box = [(0, extent) for extent in self.fused.last.output_shape]
        for at, loop in zip(t, self.mapping.loops, strict=True):
            axis = self.fused.axes[loop.axis]
            extent = self.fused.extent(loop.axis)
            box[axis] = (at * loop.size, min((at + 1) * loop.size, extent))
        return tuple(box)

    def walk(self, needed, kept) -> Walk:
        """Which elements are new and live at each tile, from the definition, pair by pair."""
        found = Walk(needed, {t: set() for t in self.tiles}, {t: set(e) for t, e in needed.items()})
        uses: dict = {}
        for t in self.tiles:
            for element in needed[t]:
                uses.setdefault(element, []).append(t)
        order = {t: i for i, t in enumerate(self.tiles)}
        reuse = [loop.axis in kept for loop in self.mapping.loops]
        for element, when in uses.items():
            for i, t in enumerate(when):
                source = next((u for u in reversed(when[:i]) if reuse[differ(u, t)]), None)
                if source is None:
                    found.new[t].add(element)
                else:
                    for between in self.tiles[order[source] + 1 : order[t]]:
                        found.live[between].add(element)
        return found

    def reads(self, tensor):
        """By reader: the box of `tensor` that what it computes needs, None where nothing."""
        shape = self.fused.network.tensors[tensor].shape
        bound = self.fused.bindings[tensor]
        for layer in self.fused.layers:
            for i, operand in enumerate(layer.inputs):
                if operand.tensor != tensor:
                    continue
                boxes = {}
                for t, new in self.maps[layer.output].new.items():
                    axes = [set() for _ in shape]
                    for element in new:
                        wanted = RECEPTIVE[layer.op.kind](layer, element, i)
                        if all(len(indices) for indices in wanted):
                            for known, indices in zip(axes, wanted, strict=True):
                                known.update(indices)
                    whole = [(0, extent) if new else None for extent in shape]
                    box = [
                        bounds(known, extent) if name else all_
                        for known, name, all_, extent in zip(axes, bound, whole, shape, strict=True)
                    ]
                    boxes[t] = None if None in box else tuple(box)
                yield boxes

    def needed(self, tensor):
        readers = list(self.reads(tensor))
        if len(readers) == 1:
            return {t: elements(box) if box else set() for t, box in readers[0].items()}
        return self.joined(tensor, readers)

    def joined(self, tensor, readers):
        """Per axis, the hull over readers of what they need at any tile of the same index."""
        shape, bound = self.fused.network.tensors[tensor].shape, self.fused.bindings[tensor]
        along = []
        for k, loop in enumerate(self.mapping.loops):
            axis = bound.index(loop.axis) if loop.axis in bound else None
            count = max(t[k] for t in self.tiles) + 1
            spans = []
            for s in range(count):
                boxes = [r[t] for r in readers for t in self.tiles if t[k] == s and r[t]]
                spans.append(hull(*((0, 1) if axis is None else b[axis] for b in boxes)))
            along.append((axis, forward(spans)))
        rest = [b for r in readers for b in r.values() if b]
        result = {}
        for t in self.tiles:
            box = [hull(*(b[axis] for b in rest)) for axis in range(len(shape))]
            spans = [(axis, found[t[k]]) for k, (axis, found) in enumerate(along)]
            for axis, found in spans:
                if axis is not None:
                    box[axis] = found
            empty = not rest or any(found is None for _, found in spans)
            result[t] = set() if empty else elements(tuple(box))
        return result

    def weights_needed(self, layer):
        name = self.fused.weight_axis(layer)
        axis = None if name is None else self.fused.axis_of(layer.output, name)
        found = {}
        for t, new in self.maps[layer.output].new.items():
            found[t] = {e[axis] if axis is not None else 0 for e in new}
        return found

    # --- totals -------------------------------------------------------------------------------

    def element_bytes(self, name) -> int:
        return DTYPE_BYTES[self.fused.network.tensors[name].dtype]

    def distinct(self, name) -> set:
        return set().union(*self.maps[name].needed.values())

    @staticmethod
    def each(layer) -> int:
        """MACs of one output element."""
        return layer.macs // math.prod(layer.output_shape)

    def peak(self, with_weights: bool) -> int:
        most = 0
        for t in self.tiles:
            total = sum(len(w.live[t]) * self.element_bytes(n) for n, w in self.maps.items())
            if with_weights:
                total += sum(
                    len(self.weights[layer.name].live[t]) * self.fused.unbound_weight_bytes(layer)
                    for layer in self.fused.layers
                    if layer.weight_bytes
                )
            most = max(most, total)
        return most

    def figures(self) -> dict:
        """The fields of `Counts` that are counted here too, latency left out."""
        fused, layers = self.fused, self.fused.layers
        macs = sum(self.each(layer) * self.maps[layer.output].moved for layer in layers)
        once = sum(self.each(la) * len(self.distinct(la.output)) for la in layers)
        moved = {n: self.maps[n].moved * self.element_bytes(n) for n in fused.inputs}
        for name in fused.stored:
            moved[name] = len(self.distinct(name)) * self.element_bytes(name)
        unit = {la.name: fused.unbound_weight_bytes(la) for la in layers}
        return {
            "spm_bytes": self.peak(True),
            "spm_feature_map_bytes": self.peak(False),
            "macs": macs,
            "recomputed_macs": macs - once,
            "tiles": len(self.tiles),
            "peaks": {
                n: max(len(found) for found in w.live.values()) * self.element_bytes(n)
                for n, w in self.maps.items()
            },
            "weight_peaks": {
                n: max(len(found) for found in w.live.values()) * unit[n]
                for n, w in self.weights.items()
            },
            "moved": moved,
            "weights_moved": {n: w.moved * unit[n] for n, w in self.weights.items()},
        }


def differ(a, b) -> int:
    """Outermost loop in which two tiles differ."""
    return next(k for k, (x, y) in enumerate(zip(a, b, strict=True)) if x != y)


def forward(spans):
    """Intervals widened so that neither ends nor begins go back."""
    ends = list(itertools.accumulate((s[1] if s else 0 for s in spans), max))
    begins = [s[0] if s else 10**9 for s in spans]
    begins = list(itertools.accumulate(reversed(begins), min))[::-1]
    return [(b, e) if s else None for b, e, s in zip(begins, ends, spans, strict=True)]
