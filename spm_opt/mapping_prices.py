"""Latency of a mapping: prices of single boxes and transfers, run through the tile pipeline.

At each tile every map and the weights of every layer that have something to move are one transfer;
then the layers compute their boxes one after another. The recurrence is that of any step
(`spm_opt.pipeline`): with one tile in the scratchpad a tile loads when the one before has computed.
"""

from __future__ import annotations

import numpy as np

from spm_opt.boxes import Ints
from spm_opt.cost.box import box_cycles, box_runs
from spm_opt.cost.compression import map_share
from spm_opt.cost.dram import moved_bytes_array, transfer_cycles_array
from spm_opt.graph.network import DTYPE_BYTES, Layer, Tensor
from spm_opt.graph.ops import row_axis
from spm_opt.hardware import Dram, Hardware
from spm_opt.mapping_evaluation import Boxes, Evaluation, placed


def latency(found: Evaluation, hardware: Hardware, depth: int) -> int:
    """Cycles of all tiles.

    Parameters
    ----------
    depth : int
        Tiles that are in the scratchpad at once: 1 or 2.
    """
    compute, load, store = tile_cycles(found, hardware)
    return duration(compute.tolist(), load.tolist(), store.tolist(), depth)


def duration(compute: list[int], load: list[int], store: list[int], depth: int) -> int:
    """End of the pipeline of `spm_opt.pipeline.pipeline_spans` for one candidate."""
    ends, drained = [0] * depth, [0] * depth
    loaded = free = load[0]
    tiles = len(compute)
    for t in range(tiles):
        end = max(ends[-1], loaded, drained[0]) + compute[t]
        ends = [*ends[1:], end]
        loaded = 0
        if t + 1 < tiles and load[t + 1]:
            loaded = free = max(free, ends[0]) + load[t + 1]
        done = 0
        if store[t]:
            done = free = max(free, end) + store[t]
        drained = [*drained[1:], done]
    return max(ends[-1], free)


def tile_cycles(found: Evaluation, hardware: Hardware) -> tuple[Ints, Ints, Ints]:
    """Cycles of each tile's computation, loads and stores: int64 arrays (tiles,)."""
    fused, dram = found.fused, hardware.dram
    shape = tuple(at.tiles for at in found.lines)
    zero = np.zeros(shape, dtype=np.int64)
    compute, load, store = zero, zero, zero
    for layer in fused.layers:
        compute = compute + _layer_cycles(found, layer, hardware)
    for name in fused.inputs:
        load = load + _map_cycles(found, name, found.load(name), dram)
    for layer in found.weighted:
        sizes = found.over_tiles(found.weight_load(layer))
        load = load + transfer_cycles_array(dram, moved_bytes_array(dram, sizes))
    for name in fused.stored:
        store = store + _map_cycles(found, name, found.store(name), dram)
    return compute.reshape(-1), load.reshape(-1), store.reshape(-1)


def _layer_cycles(found: Evaluation, layer: Layer, hardware: Hardware) -> Ints:
    fused = found.fused
    new = found.new(layer)
    reads = [found.read(layer, i) for i in range(len(layer.inputs))]
    read_bytes = sum((found.over_tiles(boxes) for boxes in reads), np.zeros(1, dtype=np.int64))
    if layer.weight_bytes:
        unit = fused.unbound_weight_bytes(layer)
        read_bytes = read_bytes + found.over_tiles(Boxes(unit, found.weights_needed(layer)))
    dtype = fused.network.tensors[layer.output].dtype
    cycles = box_cycles(layer, dtype, hardware, _lengths(found, layer.output, new), read_bytes)
    return np.where(found.over_tiles(new) > 0, cycles, 0)


def _lengths(found: Evaluation, name: str, boxes: Boxes) -> tuple[Ints, ...]:
    """Indices of each axis of a map that boxes of it have, to broadcast over the tiles."""
    lines, shape = found.lines, found.fused.network.tensors[name].shape
    result = []
    for extent, bound in zip(shape, found.fused.bindings[name], strict=True):
        values: Ints = np.full(1, extent, dtype=np.int64)
        for i, at in enumerate(lines):
            if at.name == bound:
                values = placed(boxes.spans[i].length, i, len(lines))
        result.append(values)
    return tuple(result)


def _map_cycles(found: Evaluation, name: str, boxes: Boxes, dram: Dram) -> Ints:
    """Cycles of the transfers of boxes of a map, one a tile."""
    tensor = found.fused.network.tensors[name]
    lengths = _lengths(found, name, boxes)
    order = [(lengths[axis], tensor.shape[axis]) for axis in memory_order(tensor)]
    runs, run_bytes = box_runs(order, DTYPE_BYTES[tensor.dtype])
    moved = moved_bytes_array(dram, run_bytes, runs, map_share(dram.compression, tensor))
    sizes = found.over_tiles(boxes)
    return transfer_cycles_array(dram, np.where(sizes > 0, moved, 0))


def memory_order(tensor: Tensor) -> tuple[int, ...]:
    """Axes of a map from the outermost in memory: images, rows, then the others in their order."""
    rows = row_axis(tensor.shape)
    first = () if rows is None else ((0, rows) if tensor.images > 1 else (rows,))
    return (*first, *(axis for axis in range(len(tensor.shape)) if axis not in first))
