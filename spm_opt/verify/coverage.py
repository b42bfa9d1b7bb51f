"""Everything is done, and done once: layers, weights, and the network's outputs in DRAM."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from spm_opt.graph.network import Layer
from spm_opt.schedule import Compute
from spm_opt.verify.facts import Facts, compute_label

_NAMED_AT_MOST: Final = 8


def steps_kept(facts: Facts) -> Iterator[str]:
    """A step computes all its layers, all of its slice, and cuts tiles along its axis only."""
    cells: dict[tuple[int, str], set[int]] = defaultdict(set)
    rows: dict[tuple[int, str], tuple[int, int]] = {}
    for index, command in enumerate(facts.schedule.computes):
        step, layer = facts.schedule.steps[command.step], facts.layers[command.layer]
        own = facts.cells(layer, command.channels)
        cells[command.step, command.layer].update(range(*own))
        # what a layer hands on inside the step may leave rows out, those of all tiles
        whole = (0, layer.rows) if command.layer == step.layers[-1] else command.rows
        if step.axis == "channels" and command.rows != rows.setdefault(
            (command.step, command.layer), whole
        ):
            yield f"{compute_label(facts, index)} computes some rows, but its step cuts channels"
        # a slice belongs to a step of one layer
        if step.axis == "rows" and len(step.layers) == 1:
            if own != facts.cells(layer, step.channels):
                yield f"{compute_label(facts, index)} computes other channels than its step"
        elif step.axis == "rows" and own != facts.cells(layer, None):
            yield f"{compute_label(facts, index)} computes a slice in a step of several layers"
    idle = _idle(facts)
    for number, step in enumerate(facts.schedule.steps):
        for name in step.layers:
            done = cells[number, name]
            if not done and name in idle:
                continue
            if not done:
                yield f"step {number} never computes its layer {name!r}"
            elif done != set(range(*facts.cells(facts.layers[name], step.channels))):
                yield f"step {number} does not compute all of its slice of layer {name!r}"


def each_row_once(facts: Facts) -> Iterator[str]:
    """Every needed row of every layer is computed, once unless its step recomputes halos."""
    required = _required_rows(facts)
    by_layer: dict[str, list[Compute]] = defaultdict(list)
    for command in facts.schedule.computes:
        by_layer[command.layer].append(command)
    idle = _idle(facts)
    for name, layer in facts.layers.items():
        if name in idle:
            continue
        times = _times_computed(facts, layer, by_layer[name])
        missing = (times == 0) & required[layer.output]
        if missing.any():
            yield f"layer {name!r} never computes {_cells(facts.cuts[name], missing)}"
        if (times > 1).any():
            yield f"layer {name!r} computes more than once {_cells(facts.cuts[name], times > 1)}"


def _idle(facts: Facts) -> frozenset[str]:
    """Layers that nobody computes since they have nothing to copy: pieces lie in place.

    That they do is seen by whoever reads them (`spm_opt.verify.data`, `outputs_stored`).
    """
    return facts.copy_free - {command.layer for command in facts.schedule.computes}


def _times_computed(facts: Facts, layer: Layer, commands: list[Compute]) -> NDArray[np.int64]:
    shape = (facts.cell_count(layer), layer.rows)
    total = np.zeros(shape, dtype=np.int64)
    repeated: dict[int, NDArray[np.int64]] = {}
    for command in commands:
        if not facts.finishes(command):
            continue
        begin, end = facts.cells(layer, command.channels)
        target = total
        if facts.schedule.steps[command.step].halo == "recompute":
            target = repeated.setdefault(command.step, np.zeros(shape, dtype=np.int64))
        target[begin:end, command.rows[0] : command.rows[1]] += 1
    for counts in repeated.values():
        total += np.minimum(counts, 1)
    return total


def _required_rows(facts: Facts) -> dict[str, NDArray[np.bool_]]:
    """Rows of each map that the network's outputs depend on."""
    network = facts.schedule.network
    required = {name: np.zeros(t.rows, dtype=np.bool_) for name, t in network.tensors.items()}
    for name in network.outputs:
        required[name][:] = True
    for index in reversed(list(nx.topological_sort(network.graph))):
        layer = network.layers[index]
        rows = [int(row) for row in np.flatnonzero(required[layer.output])]
        for operand, row_map in zip(layer.inputs, facts.row_maps[layer.name], strict=True):
            mask = required[operand.tensor]
            if row_map.axis is None:
                mask[:] |= bool(rows)
                continue
            for row in rows:
                begin, end = row_map.needed(row, row + 1, len(mask))
                mask[begin:end] = True
    return required


def _cells(cuts: tuple[int, ...], marked: NDArray[np.bool_]) -> str:
    in_rows: NDArray[np.bool_] = np.any(marked, axis=0)
    rows = runs_text(in_rows)
    if marked[:, in_rows].all():
        return f"rows {rows}"
    which = [f"{cuts[i]} .. {cuts[i + 1]}" for i in np.flatnonzero(marked.any(axis=1))]
    return f"rows {rows} of channels {', '.join(which)}"


def runs_text(marked: NDArray[np.bool_]) -> str:
    """Marked indices as half-open runs, shortened where there are many."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], marked.astype(np.int8), [0]))))
    runs = [f"{a} .. {b}" for a, b in edges.reshape(-1, 2)]
    more = len(runs) - _NAMED_AT_MOST
    return ", ".join(runs[:_NAMED_AT_MOST]) + (f" and {more} more runs" if more > 0 else "")


def weights_once(facts: Facts) -> Iterator[str]:
    """Every byte of every layer's weights is loaded once, of shared ones too.

    A step in blocks loads its own again for each stripe, in the same tiles. Constants of slices of
    input channels are counted by `spm_opt.verify.sums`.
    """
    times = {n: np.zeros(facts.weight_cell_count(layer)) for n, layer in facts.layers.items()}
    again: set[tuple[object, ...]] = set()
    for transfer in facts.schedule.transfers:
        if transfer.role == "weights" and transfer.tensor not in facts.reductions:
            layer = facts.layers[transfer.tensor]
            own = transfer.step, transfer.tensor, transfer.channels
            if facts.schedule.steps[transfer.step].axis == "blocks" and transfer.tile is not None:
                if own in again:
                    continue
                again.add(own)
            begin, end = facts.weight_cells(layer, transfer.channels, transfer.piece)
            times[transfer.tensor][begin:end] += 1
    computed = {facts.layers[command.layer].constants for command in facts.schedule.computes}
    for name, counts in times.items():
        layer = facts.layers[name]
        if layer.weight_bytes == 0 or name not in computed or name in facts.reductions:
            continue
        for wrong, words in ((counts == 0, "never loaded"), (counts > 1, "loaded more than once")):
            if wrong.any():
                yield f"weights of layer {name!r} are {words}{_which(facts, name, wrong)}"


def _which(facts: Facts, name: str, wrong: NDArray[np.bool_]) -> str:
    if wrong.all():
        return ""
    cuts = facts.weight_cuts[name]
    return ": bytes " + ", ".join(f"{cuts[i]} .. {cuts[i + 1]}" for i in np.flatnonzero(wrong))


def outputs_stored(facts: Facts) -> Iterator[str]:
    """Every network output lies whole in DRAM at the end."""
    network = facts.schedule.network
    stored = {
        name: np.zeros((facts.map_cell_count(name), facts.tensor(name).rows), bool)
        for name in network.outputs
        if name in facts.producers
    }
    for transfer in facts.schedule.transfers:
        if transfer.kind == "store" and transfer.role == "map" and transfer.tensor in stored:
            begin, end = facts.map_cells(transfer.tensor, transfer.channels)
            stored[transfer.tensor][begin:end, transfer.rows[0] : transfer.rows[1]] = True
    for name, done in stored.items():
        if not done.all():
            missing = _cells(facts.map_cuts[name], ~done)
            yield f"network output {name!r} is not stored whole to DRAM: {missing} are missing"
