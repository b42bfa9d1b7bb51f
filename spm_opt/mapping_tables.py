"""One tiling with every choice of what is kept: peaks, traffic and work as arrays over choices."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from collections.abc import Mapping as MappingOf
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np

from spm_opt.boxes import Ints
from spm_opt.cost.array_tiles import least_element_cycles
from spm_opt.cost.nests import cycles_per_mac
from spm_opt.graph.network import DTYPE_BYTES, Layer
from spm_opt.graph.ops import Loops
from spm_opt.hardware import LOOP_DIMENSIONS, Hardware
from spm_opt.mapping import Loop, Mapping
from spm_opt.mapping_evaluation import Evaluation
from spm_opt.mapping_live import live
from spm_opt.mapping_set import FusionSet
from spm_opt.mapping_states import States, Stream, flags

Key = tuple[str, str]
Plain = tuple[tuple[int, ...], Ints, Ints, Ints, Ints]
#: choices of tensors that move alike along every loop, by their streams
Known = dict[tuple[int, ...], list[Plain]]
#: combinations of what is kept of inputs and weights that one tiling looks at
MOST_OPTIONS = 256


@dataclass(frozen=True, slots=True)
class Option:
    """One choice of a tensor that is moved in: kept or fetched again along each loop.

    Attributes
    ----------
    key : (str, str)
        ("map", input) or ("weights", layer).
    kept : tuple of int
        By loop, 1 for kept.
    moved : int64 array (states of each loop)
        Bytes moved in.
    live : int64 array (states of each loop, tiles of each loop)
        Bytes in the scratchpad.
    cycles : int64 array (states of each loop)
        That the transfers take at least.
    second : int64 array (states of each loop)
        Bytes of a second tile, where several tiles move some.
    """

    key: Key
    kept: tuple[int, ...]
    moved: Ints
    live: Ints
    cycles: Ints
    second: Ints


@dataclass(frozen=True)
class Table:
    """One tiling and one choice of everything that is moved in, with all states of its loops.

    Attributes
    ----------
    tiling : Tiling
    options : tuple of Option
    costs : int64 array (states of all loops, 4)
        SPM bytes, DRAM bytes, recomputed MACs, and cycles that no pipeline of them beats.
    """

    tiling: Tiling
    options: tuple[Option, ...]
    costs: Ints

    def evaluation(self, state: int) -> Evaluation:
        """The mapping of one state, worked out along every axis."""
        loops, fused = self.tiling.loops, self.tiling.fused
        index = np.unravel_index(state, self.tiling.shape) if loops else ()
        own = [s.lines[int(i)] for s, i in zip(loops, index, strict=True)]
        maps = {
            name: tuple(at.name for at in own if at.reuse.get(name, True))
            for name in fused.intermediates
        }
        chosen = {
            option.key: tuple(at.name for at, k in zip(own, option.kept, strict=True) if k)
            for option in self.options
        }
        maps |= {name: axes for (what, name), axes in chosen.items() if what == "map"}
        weights = {name: axes for (what, name), axes in chosen.items() if what == "weights"}
        mapping = Mapping(tuple(Loop(at.name, at.size) for at in own), maps, weights)
        rest = [s.lines[0] for s in self.tiling.rest]
        return Evaluation(fused, mapping, (*own, *rest))


@dataclass(frozen=True)
class Tiling:
    """Loops in their order, each with all its states; axes without a loop have one state.

    Attributes
    ----------
    loops : tuple of States
        The outermost first.
    rest : tuple of States
        Axes of one tile.
    """

    fused: FusionSet
    loops: tuple[States, ...]
    rest: tuple[States, ...]

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """States of each loop."""
        return tuple(len(s.lines) for s in self.loops)

    def streams(self, key: Key) -> list[Stream]:
        """A tensor along each loop."""
        return [s.streams[key] for s in self.loops]

    def unit(self, key: Key, size: int) -> int:
        """`size`, times what a tensor needs along the axes without a loop."""
        return size * math.prod(int(s.streams[key].all_needed[0]) for s in self.rest)

    def over(self, values: Sequence[Ints]) -> Ints:
        """Product over the loops of an array for each: int64 array (states of each loop)."""
        total: Ints = np.ones(self.shape, dtype=np.int64)
        for i, of_states in enumerate(values):
            shape = [1] * len(self.shape)
            shape[i] = -1
            total = total * of_states.reshape(shape)
        return total


def tables(
    tiling: Tiling, hardware: Hardware, least: MappingOf[str, Fraction], double_buffer: bool
) -> Iterator[Table]:
    """Every choice of a tiling that is not plainly worse than another one of it.

    Parameters
    ----------
    tiling : Tiling
    hardware : Hardware
    least : mapping of str to Fraction
        By layer: `least_per_element`.
    double_buffer : bool
    """
    fused = tiling.fused
    maps = _maps_live(tiling)
    known: Known = {}
    chosen = [_options(tiling, key, size, hardware, known) for key, size in _streamed(fused)]
    chosen = _where_it_matters(chosen, maps, len(tiling.shape))
    kept = itertools.islice(itertools.product(*chosen), MOST_OPTIONS)
    work, again = _work(tiling, least)
    stored = sum(fused.network.tensors[name].size_bytes for name in fused.stored)
    for options in kept:
        grid = sum((o.live for o in options), maps)
        peak = grid.max(axis=tuple(range(len(tiling.shape), grid.ndim)))
        if double_buffer:
            peak = peak + sum(o.second for o in options) + _second_output(tiling)
        moved = sum((o.moved for o in options), np.array(stored))
        load = sum((o.cycles for o in options), np.array(0))
        store = int(stored / hardware.dram.bytes_per_cycle)
        bound = np.maximum(work, load + store) if double_buffer else load + np.maximum(work, store)
        costs = [np.broadcast_to(a, tiling.shape).reshape(-1) for a in (peak, moved, again, bound)]
        yield Table(tiling, options, np.stack(costs, axis=1))


def _streamed(fused: FusionSet) -> list[tuple[Key, int]]:
    """What is moved in, with bytes at one index of every axis."""
    maps = [(("map", name), fused.unbound_bytes(name)) for name in fused.inputs]
    weighted = [layer for layer in fused.layers if layer.weight_bytes]
    return [
        *maps,
        *((("weights", la.name), fused.unbound_weight_bytes(la)) for la in weighted),
    ]


def _options(tiling: Tiling, key: Key, size: int, hardware: Hardware, known: Known) -> list[Option]:
    streams, unit, dram = tiling.streams(key), tiling.unit(key, size), hardware.dram
    same = tuple(map(id, streams))
    if same not in known:
        known[same] = [_plain(tiling, streams, k) for k in flags(len(streams), _open(streams))]
    found = []
    for kept, moved, busy, largest, bytes_live in known[same]:
        cycles = busy * dram.latency_cycles + _scaled(moved * unit, 1 / dram.bytes_per_cycle)
        second = np.where(busy > 1, largest * unit, 0)
        found.append(Option(key, kept, moved * unit, bytes_live * unit, cycles, second))
    return _undominated(found, 1)


def _plain(tiling: Tiling, streams: Sequence[Stream], kept: tuple[int, ...]) -> Plain:
    """One choice of a tensor of one byte: moved, tiles that move some, largest tile, live."""
    pairs = list(zip(streams, kept, strict=True))
    reuse = [np.full(n, k) for n, k in zip(tiling.shape, kept, strict=True)]
    moved = tiling.over([s.moved(k) for s, k in pairs])
    busy = tiling.over([s.busy(k) for s, k in pairs])
    largest = tiling.over([s.largest(k) for s, k in pairs])
    return kept, moved, busy, largest, _live(streams, reuse, 1)


def _undominated(options: Sequence[Option], matters: Ints | int) -> list[Option]:
    """Options that no other one serves as well; live bytes count where `matters` is 1."""
    found: list[Option] = []
    for option in options:
        if not any(_no_worse(other, option, matters) for other in found):
            found = [other for other in found if not _no_worse(option, other, matters)]
            found.append(option)
    return found


def _where_it_matters(chosen: list[list[Option]], maps: Ints, loops: int) -> list[list[Option]]:
    """Options left where live bytes count only at tiles that may be the peak.

    A tile that stays below the peak of the least choices even with the worst ones never is.
    """
    if all(len(options) == 1 for options in chosen):
        return chosen
    least, most = maps, maps
    for options in chosen:
        lives = [option.live for option in options]
        least = least + np.minimum.reduce(np.broadcast_arrays(*lives))
        most = most + np.maximum.reduce(np.broadcast_arrays(*lives))
    bound = least.max(axis=tuple(range(loops, least.ndim)), keepdims=True)
    matters = (most > bound).astype(np.int64)
    return [_undominated(options, matters) for options in chosen]


def _open(streams: Sequence[Stream]) -> list[bool]:
    """By loop: whether fetching again there may save space.

    It saves none where a tensor is needed all the time inside the loop: there it is anyway.
    """
    return [
        s.overlaps and (s.gaps or not all(inner.constant for inner in streams[i + 1 :]))
        for i, s in enumerate(streams)
    ]


def _no_worse(a: Option, b: Option, matters: Ints | int) -> bool:
    return bool(
        (a.moved <= b.moved).all()
        and (a.live * matters <= b.live * matters).all()
        and (a.cycles <= b.cycles).all()
        and (a.second <= b.second).all()
    )


def _live(streams: Sequence[Stream], reuse: Sequence[Ints], unit: int) -> Ints:
    count = len(streams)
    levels = [s.level(r, i, count) for i, (s, r) in enumerate(zip(streams, reuse, strict=True))]
    return live(unit, levels)


def _maps_live(tiling: Tiling) -> Ints:
    """Live bytes of what the set writes: int64 array (states of loops, tiles of loops)."""
    fused = tiling.fused
    total: Ints = np.array(0, dtype=np.int64)
    for name in fused.produced:
        key = ("map", name)
        reuse = [s.reuse(name) for s in tiling.loops]
        unit = tiling.unit(key, fused.unbound_bytes(name))
        total = total + _live(tiling.streams(key), reuse, unit)
    return total


def _second_output(tiling: Tiling) -> int:
    """Bytes of a second tile of what is written, its largest, where it has several."""
    total = 0
    for name in tiling.fused.stored:
        key = ("map", name)
        streams, unit = tiling.streams(key), tiling.unit(key, tiling.fused.unbound_bytes(name))
        if math.prod(int(s.busy(1)[0]) for s in streams) > 1:
            total += unit * math.prod(int(s.largest(1).max()) for s in streams)
    return total


def _work(tiling: Tiling, least: MappingOf[str, Fraction]) -> tuple[Ints, Ints]:
    """Cycles that computing takes at least, and MACs done again, by states of the loops."""
    fused = tiling.fused
    cycles: Ints = np.zeros(tiling.shape, dtype=np.int64)
    again: Ints = np.zeros(tiling.shape, dtype=np.int64)
    for layer in fused.layers:
        key, size = ("new", layer.output), fused.unbound_bytes(layer.output)
        each = tiling.unit(key, size) // DTYPE_BYTES[fused.network.tensors[layer.output].dtype]
        done = each * tiling.over([s.all_needed for s in tiling.streams(key)])
        once = each * tiling.over([s.union for s in tiling.streams(("map", layer.output))])
        again = again + layer.macs // math.prod(layer.output_shape) * (done - once)
        cycles = cycles + _scaled(done, least[layer.name])
    return cycles, again


def least_work(fused: FusionSet, hardware: Hardware) -> dict[str, Fraction]:
    """`least_per_element` of every layer of a set."""
    types = {name: tensor.dtype for name, tensor in fused.network.tensors.items()}
    return {la.name: least_per_element(la, types[la.output], hardware) for la in fused.layers}


def least_per_element(layer: Layer, dtype: str, hardware: Hardware) -> Fraction:
    """Cycles an output element that no box of the layer's output beats."""
    total, compute = math.prod(layer.output_shape), hardware.compute
    if layer.measured:
        rows, cycles = layer.measured[-1]
        return Fraction(cycles * layer.rows, rows * total)
    if layer.loops is None:
        return Fraction(layer.vector_ops, total * compute.vector_lanes)
    if compute.dataflow is not None:
        return least_element_cycles(layer, layer.loops, dtype, hardware)
    best = min(_least_nest(layer.loops, u.factors) for u in compute.unrollings)
    return best * cycles_per_mac(compute, dtype) / total


def _least_nest(loops: Loops, factors: MappingOf[str, int]) -> Fraction:
    """Passes of a nest over the array that no cut of it beats: what is summed stays whole."""
    passes, divisor = 1, 1
    for dimension in LOOP_DIMENSIONS:
        extent, factor = getattr(loops, dimension), factors.get(dimension, 1)
        if dimension in ("c", "fy", "fx"):
            passes *= -(-extent // factor)
        elif extent > factor:
            passes, divisor = passes * extent, divisor * factor
    return Fraction(passes, divisor)


def _scaled(values: Ints, factor: Fraction) -> Ints:
    """``floor(values * factor)``, or a little less where that would leave 64 bits."""
    while int(values.max(initial=0)) * factor.numerator >= 2**62:
        factor = Fraction(factor.numerator // 2, -(-factor.denominator // 2) + 1)
    return values * factor.numerator // factor.denominator
