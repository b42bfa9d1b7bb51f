"""Exact counts of one mapping of a fusion set.

Tiles of the last output run in lexicographic order of the loops. An element of a map or of weights
that a tile needs is *found* there, if an earlier tile needed it and the outermost loop in which the
two differ is one along which the tensor is reused; otherwise it is moved in (inputs, weights) or
computed (intermediates) at this tile. It occupies the scratchpad at every tile that needs it, and
from the latest such earlier tile to the one that finds it. What is computed of a map at a tile
needs its own inputs there. The last output, and every map that is read outside the set, is
written once. The scratchpad's peak is the most bytes live at any tile, of all tensors together.

Needs are boxes (`spm_opt.mapping_lines`), and so is what is not found: the product of fresh
intervals along the loops of reuse and of whole ones along the others.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np

from spm_opt.boxes import Ints, Span
from spm_opt.errors import InputError
from spm_opt.hardware import Hardware
from spm_opt.mapping import Counts, Loop, Mapping, Traffic
from spm_opt.mapping_evaluation import Evaluation
from spm_opt.mapping_lines import Line, fresh, line, profile
from spm_opt.mapping_live import Level, level, live
from spm_opt.mapping_prices import latency
from spm_opt.mapping_set import FusionSet

#: more tiles are no tiling but a mistake, and would not fit into memory
MOST_TILES = 4_000_000


def evaluate(
    fused: FusionSet, mapping: Mapping, hardware: Hardware, double_buffer: bool = False
) -> Counts:
    """Counts of a mapping.

    Parameters
    ----------
    fused : FusionSet
    mapping : Mapping
    hardware : Hardware
        For the latency alone.
    double_buffer : bool
        Whether tile t+1 loads while tile t computes; the scratchpad then holds the largest tile of
        every tensor that streams in or out a second time.

    Raises
    ------
    InputError
        If the mapping names an axis or a tensor that the set has not, or is impossible.
    """
    check_mapping(fused, mapping)
    return counts(Evaluation(fused, mapping, _lines(fused, mapping)), hardware, double_buffer)


def counts(found: Evaluation, hardware: Hardware, double_buffer: bool = False) -> Counts:
    """Counts of a mapping that is worked out."""
    fused = found.fused
    buffers, constants = dict(_buffers(found)), dict(_constants(found))
    moved = {name: found.load(name).total for name in fused.inputs}
    moved |= {name: fused.network.tensors[name].size_bytes for name in fused.stored}
    fetched = {layer.name: found.weight_load(layer).total for layer in found.weighted}
    maps = sum(buffers.values(), np.zeros(1, dtype=np.int64))
    both = sum(constants.values(), maps)
    extra = found.second_tiles() if double_buffer else (0, 0)
    macs = sum(found.macs(layer) for layer in fused.layers)
    return Counts(
        spm_bytes=int(np.max(both)) + sum(extra),
        spm_feature_map_bytes=int(np.max(maps)) + extra[0],
        traffic=Traffic(sum(fetched.values()), sum(moved.values())),
        macs=macs,
        recomputed_macs=macs - sum(found.macs_once(layer) for layer in fused.layers),
        latency_cycles=latency(found, hardware, 2 if double_buffer else 1),
        tiles=found.tiles,
        peaks={name: int(np.max(values)) for name, values in buffers.items()},
        weight_peaks={name: int(np.max(values)) for name, values in constants.items()},
        moved=moved,
        weights_moved=fetched,
    )


def _lines(fused: FusionSet, mapping: Mapping) -> tuple[Line, ...]:
    """The loops of a mapping, and axes that have none as loops of one tile."""
    untiled = (Loop(name, fused.extent(name)) for name in fused.axes if name not in mapping.axes)
    found = []
    for loop in (*mapping.loops, *untiled):
        reuse = {
            name: loop.axis in mapping.feature_maps.get(name, (loop.axis,))
            for name in fused.intermediates
        }
        found.append(line(fused, loop.axis, loop.size, reuse))
    _check_complete(fused, found)
    return tuple(found)


def incomplete(fused: FusionSet, at: Line) -> str | None:
    """A map that is read outside the set and of which no tile needs all, if any."""
    for name in fused.stored:
        axis = fused.axis_of(name, at.name)
        extent = 1 if axis is None else fused.network.tensors[name].shape[axis]
        if int(fresh(at.needs[name]).length.sum()) != extent:
            return name
    return None


def _check_complete(fused: FusionSet, lines: list[Line]) -> None:
    for at in lines:
        name = incomplete(fused, at)
        if name is not None:
            raise InputError(
                f"is read outside the set, and its tiles of {at.name} leave some of it out",
                field=name,
            )


def _buffers(found: Evaluation) -> Iterator[tuple[str, Ints]]:
    """Live bytes of every map at every tile."""
    fused = found.fused
    for name in (*fused.inputs, *fused.produced):
        needs = [at.needs[name] for at in found.lines]
        yield name, live(fused.unbound_bytes(name), _levels(needs, found.kept(name)))


def _constants(found: Evaluation) -> Iterator[tuple[str, Ints]]:
    """Live bytes of the weights of every layer at every tile."""
    for layer in found.weighted:
        levels = _levels(found.weights_needed(layer), found.kept_weights(layer))
        yield layer.name, live(found.fused.unbound_weight_bytes(layer), levels)


def _levels(needs: Iterable[Span], kept: tuple[bool, ...]) -> list[Level]:
    return [
        level([profile(need)], [reuse], i, len(kept))
        for i, (need, reuse) in enumerate(zip(needs, kept, strict=True))
    ]


def check_mapping(fused: FusionSet, mapping: Mapping) -> None:
    """Refuse a mapping that does not belong to the set.

    Raises
    ------
    InputError
        Naming the field, what was found and what is allowed.
    """
    axes, names = mapping.axes, {layer.name for layer in fused.layers if layer.weight_bytes}
    for i, loop in enumerate(mapping.loops):
        _check_known(loop.axis, fused.axes, f"loops[{i}].axis", "not an axis of the last output")
        if loop.axis in axes[:i]:
            raise InputError("each axis once", field=f"loops[{i}].axis", found=loop.axis)
        if not 1 <= loop.size <= fused.extent(loop.axis):
            raise InputError(
                "no size of a tile", field=f"loops[{i}].size", found=loop.size,
                allowed=f"1 to {fused.extent(loop.axis)}",
            )  # fmt: skip
    tiles = math.prod(-(-fused.extent(loop.axis) // loop.size) for loop in mapping.loops)
    if tiles > MOST_TILES:
        raise InputError("too many tiles", field="loops", found=tiles, allowed=f"{MOST_TILES}")
    for field, kept, known in (
        ("retain.feature_maps", mapping.feature_maps, (*fused.inputs, *fused.intermediates)),
        ("retain.weights", mapping.weights, tuple(sorted(names))),
    ):
        for name, found in kept.items():
            _check_known(name, known, field, "nothing of this name is kept in the set")
            for axis in found:
                _check_known(axis, axes, f"{field}.{name}", "not a tiled axis of this mapping")


def _check_known(name: str, known: Iterable[str], field: str, message: str) -> None:
    if name not in known:
        raise InputError(message, field=field, found=name, allowed=tuple(known) or "none")
