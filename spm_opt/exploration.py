"""What `spm_opt.explore` returns: the trade between scratchpad, traffic, recomputation and time.

Wires the rooms: a fusion set goes to the search of mappings, and each of its layers by itself for
the comparison; a whole network goes to the planner, at one capacity after another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from spm_opt.api import HardwareLike, ModelLike, load_hardware, load_network, solve
from spm_opt.errors import InputError, SpmOptError
from spm_opt.graph.network import Layer, Network
from spm_opt.hardware import Hardware
from spm_opt.mapping import Counts, Traffic
from spm_opt.mapping import Mapping as TileMapping
from spm_opt.mapping_counts import evaluate
from spm_opt.mapping_search import Found, Point, search
from spm_opt.mapping_set import FusionSet, fusion_set

if TYPE_CHECKING:
    from spm_opt.result import Result

#: solves of one sweep over capacities
MOST_SOLVES = 12


@dataclass(frozen=True, slots=True)
class ExploredPoint:
    """One way to run the layers.

    Attributes
    ----------
    spm_bytes, spm_feature_map_bytes : int
        Most bytes live at once, and of these feature maps alone. Of a plan the highest address.
    dram_bytes : Traffic
    recomputed_macs, latency_cycles : int
    fused : bool
        Whether layers share tiles.
    mappings : tuple of (str, Mapping)
        For each set that runs as one: its last layer, and the mapping. Empty for plans.
    """

    spm_bytes: int
    spm_feature_map_bytes: int
    dram_bytes: Traffic
    recomputed_macs: int
    latency_cycles: int
    fused: bool
    mappings: tuple[tuple[str, TileMapping], ...] = ()

    def costs(self) -> tuple[int, int, int, int]:
        """What points are compared in."""
        moved = self.dram_bytes.total
        return self.spm_bytes, moved, self.recomputed_macs, self.latency_cycles


@dataclass(frozen=True, slots=True)
class Exploration:
    """The answer of `explore`.

    Attributes
    ----------
    model, hardware : str
    layers : tuple of str
        Layers of the set, or of the network.
    points : tuple of ExploredPoint
        The Pareto front of fused mappings and of layer by layer, by scratchpad.
    staircase : tuple of ExploredPoint
        The points at which more scratchpad means less traffic, however they run.
    layer_by_layer : tuple of ExploredPoint
        The same staircase where every layer runs by itself.
    layer_by_layer_merged : tuple of ExploredPoint
        The same where layers without weights (pools, sums, activations) run with the one before.
    minimum_dram_bytes : int
        Weights, inputs and outputs of the set, once.
    kept, dropped : int
        Points on the front, and mappings that were compared and left out.
    complete : bool
        Whether no tile size and no choice was left out for their number.
    """

    model: str
    hardware: str
    layers: tuple[str, ...]
    points: tuple[ExploredPoint, ...]
    layer_by_layer: tuple[ExploredPoint, ...]
    layer_by_layer_merged: tuple[ExploredPoint, ...]
    minimum_dram_bytes: int
    kept: int
    dropped: int
    complete: bool

    @property
    def staircase(self) -> tuple[ExploredPoint, ...]:
        """The points at which more scratchpad means less traffic."""
        return staircase(self.points)


def explore(
    model: ModelLike,
    hardware: HardwareLike = "mobile_npu",
    *,
    layers: str | None = None,
    minimum: int | None = None,
    maximum: int | None = None,
    dtype: str | None = None,
    batch: int | None = None,
    dims: Mapping[str, int] | None = None,
    overrides: Mapping[str, str] | None = None,
    double_buffer: bool = False,
    time_limit: float = 10.0,
) -> Exploration:
    """Scratchpad against DRAM bytes, recomputed MACs and latency.

    Parameters
    ----------
    model, hardware, dtype, batch, dims, overrides
        As in `spm_opt.solve`.
    layers : str, optional
        ``FIRST:LAST``, names or numbers, inclusive: they run as one fused set. By default the whole
        network is planned at one capacity after another.
    minimum, maximum : int, optional
        Bytes of scratchpad between which points are wanted.
    double_buffer : bool
        Whether a tile loads while the one before computes.
    time_limit : float
        Seconds of each solve of a whole network.

    Returns
    -------
    Exploration

    Raises
    ------
    InputError
        If the model, the hardware or the layers are wrong.
    """
    machine = load_hardware(hardware, overrides)
    network = load_network(model, dtype=dtype, batch=batch, dims=dims)
    if layers is not None:
        fused = fusion_set(network, *parse_layers(layers))
        return _within(explore_set(fused, machine, double_buffer), minimum, maximum)
    fused = fusion_set(network)
    found = _sweep(fused, machine, minimum or 0, maximum, time_limit)
    return _within(found, minimum, maximum)


def evaluate_mapping(
    model: ModelLike,
    hardware: HardwareLike,
    mapping: TileMapping,
    *,
    layers: str | None = None,
    dtype: str | None = None,
    batch: int | None = None,
    dims: Mapping[str, int] | None = None,
    overrides: Mapping[str, str] | None = None,
    double_buffer: bool = False,
) -> Counts:
    """Exact counts of one mapping of the layers; parameters as in `explore`."""
    machine = load_hardware(hardware, overrides)
    network = load_network(model, dtype=dtype, batch=batch, dims=dims)
    fused = fusion_set(network, *(parse_layers(layers) if layers is not None else ()))
    return evaluate(fused, mapping, machine, double_buffer)


def parse_layers(text: str) -> tuple[str | None, str | None]:
    """``FIRST:LAST``; either may be left out."""
    first, colon, last = text.rpartition(":")
    if not colon:
        first = last
    if not first and not last:
        raise InputError("no layers", field="layers", found=text, allowed="FIRST:LAST")
    return first or None, last or None


def explore_set(fused: FusionSet, hardware: Hardware, double_buffer: bool = False) -> Exploration:
    """The front of one fusion set, beside its layers one by one."""
    found = search(fused, hardware, double_buffer)
    apart, runs = tuple((layer,) for layer in fused.layers), merged_runs(fused)
    known = {
        run: _searched(fused, run, hardware, double_buffer) for run in dict.fromkeys(apart + runs)
    }
    single, merged = add_up([known[run] for run in apart]), add_up([known[run] for run in runs])
    points = [_point(p.counts, ((fused.last.name, p.mapping),)) for p in found.points]
    front = _front(points if len(fused.layers) > 1 else (), single)
    return Exploration(
        fused.network.name,
        hardware.name,
        tuple(layer.name for layer in fused.layers),
        front,
        staircase(single),
        staircase(merged),
        minimum_bytes(fused),
        len(front),
        found.dropped + found.kept + len(single) - len(front),
        found.complete,
    )


def _searched(
    fused: FusionSet, run: tuple[Layer, ...], hardware: Hardware, double_buffer: bool
) -> tuple[str, tuple[Point, ...]]:
    found: Found = search(FusionSet(fused.network, run), hardware, double_buffer, True)
    return run[-1].name, found.points


def merged_runs(fused: FusionSet) -> tuple[tuple[Layer, ...], ...]:
    """Runs of layers: one that has weights or MACs, and those behind that only it feeds."""
    runs: list[list[Layer]] = []
    for layer in fused.layers:
        plain = layer.loops is None and not layer.weight_bytes
        before = runs[-1][-1].output if runs else None
        if plain and before is not None and _only_reads(fused, layer, before):
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return tuple(tuple(run) for run in runs)


def _only_reads(fused: FusionSet, layer: Layer, tensor: str) -> bool:
    network = fused.network
    readers = [network.layers[i].name for i in network.readers[tensor]]
    return readers == [layer.name] and tensor not in network.outputs


def minimum_bytes(fused: FusionSet) -> int:
    """Weights, inputs and outputs of a set, each once."""
    tensors = fused.network.tensors
    maps = sum(tensors[name].size_bytes for name in (*fused.inputs, *fused.stored))
    return maps + sum(layer.weight_bytes for layer in fused.layers)


def add_up(sets: Sequence[tuple[str, tuple[Point, ...]]]) -> tuple[ExploredPoint, ...]:
    """Sets one after another, at the best mapping of each for one capacity after another."""
    steps = [(name, _steps(points)) for name, points in sets]
    least = max(points[0].counts.spm_bytes for _, points in steps)
    sizes = sorted({p.counts.spm_bytes for _, points in steps for p in points})
    return tuple(_at(steps, size) for size in sizes if size >= least)


def _steps(points: Iterable[Point]) -> list[Point]:
    """Those at which more scratchpad means less traffic, or the same in less time."""
    found: list[Point] = []
    for p in sorted(points, key=lambda p: (p.counts.spm_bytes, _worth(p))):
        if not found or _worth(p) < _worth(found[-1]):
            found.append(p)
    return found


def _worth(point: Point) -> tuple[int, int]:
    return point.counts.traffic.total, point.counts.latency_cycles


def _at(sets: Sequence[tuple[str, Sequence[Point]]], size: int) -> ExploredPoint:
    """Every set at its best mapping within `size` bytes."""
    chosen = [(n, [p for p in points if p.counts.spm_bytes <= size][-1]) for n, points in sets]
    counts = [p.counts for _, p in chosen]
    return ExploredPoint(
        max(c.spm_bytes for c in counts),
        max(c.spm_feature_map_bytes for c in counts),
        sum((c.traffic for c in counts), Traffic(0, 0)),
        sum(c.recomputed_macs for c in counts),
        sum(c.latency_cycles for c in counts),
        False,
        tuple((name, p.mapping) for name, p in chosen),
    )


def _point(counts: Counts, mappings: tuple[tuple[str, TileMapping], ...]) -> ExploredPoint:
    return ExploredPoint(
        counts.spm_bytes, counts.spm_feature_map_bytes, counts.traffic, counts.recomputed_macs,
        counts.latency_cycles, True, mappings,
    )  # fmt: skip


def _front(
    fused: Iterable[ExploredPoint], single: Iterable[ExploredPoint]
) -> tuple[ExploredPoint, ...]:
    """Points that no other dominates, by scratchpad; of equal ones the first."""
    ordered = sorted((*single, *fused), key=ExploredPoint.costs)
    kept: list[ExploredPoint] = []
    for point in ordered:
        costs = point.costs()
        if not any(all(a <= b for a, b in zip(k.costs(), costs, strict=True)) for k in kept):
            kept.append(point)
    return tuple(kept)


def staircase(points: Iterable[ExploredPoint]) -> tuple[ExploredPoint, ...]:
    """Points of strictly falling traffic, one at each breakpoint."""
    found: list[ExploredPoint] = []
    for point in sorted(points, key=ExploredPoint.costs):
        if not found or point.dram_bytes.total < found[-1].dram_bytes.total:
            found.append(point)
    return tuple(found)


def _within(found: Exploration, minimum: int | None, maximum: int | None) -> Exploration:
    """Points between two capacities; below the first, the best one that fits it stays."""
    low, high = minimum or 0, maximum if maximum is not None else float("inf")
    if low > high:
        raise InputError("above --max", field="--min", found=low, allowed=f"up to {high}")

    def cut(points: tuple[ExploredPoint, ...]) -> tuple[ExploredPoint, ...]:
        return tuple(p for p in points if low <= p.spm_bytes <= high)

    return replace(
        found,
        points=cut(found.points),
        layer_by_layer=cut(found.layer_by_layer),
        layer_by_layer_merged=cut(found.layer_by_layer_merged),
    )


def _sweep(
    fused: FusionSet, hardware: Hardware, minimum: int, maximum: int | None, time_limit: float
) -> Exploration:
    """Plans of a whole network for least traffic, stepping down from the peak of each."""
    network = fused.network
    top = maximum if maximum is not None else network.feature_map_bytes + network.weight_bytes
    joint = _plans(network, hardware, "joint", minimum, top, time_limit)
    alone = _plans(network, hardware, "layerwise", minimum, top, time_limit)
    front = _front(joint, alone)
    return Exploration(
        network.name, hardware.name, tuple(layer.name for layer in fused.layers), front,
        staircase(alone), (), minimum_bytes(fused), len(front),
        len(joint) + len(alone) - len(front), False,
    )  # fmt: skip


def _plans(
    network: Network, hardware: Hardware, strategy: str, minimum: int, top: int, limit: float
) -> list[ExploredPoint]:
    found: list[ExploredPoint] = []
    capacity = top
    for _ in range(MOST_SOLVES):
        aligned = capacity // hardware.spm.alignment_bytes * hardware.spm.alignment_bytes
        if aligned < max(minimum, 1):
            break
        machine = replace(hardware, spm=replace(hardware.spm, capacity_bytes=aligned))
        try:
            result = solve(
                network, machine, strategy=strategy, objective="dram", time_limit=limit, workers=1
            )
        except SpmOptError:
            break
        found.append(_planned(result, strategy != "layerwise"))
        # a plan that fits less than half the space it was offered says where to look next
        capacity = min(result.spm_peak_bytes - 1, capacity * 3 // 4)
    return found


def _planned(result: Result, fused: bool) -> ExploredPoint:
    moved = result.dram_bytes
    return ExploredPoint(
        result.spm_peak_bytes, result.spm_peak_bytes,
        Traffic(moved["weights"], moved["feature_maps"]), result.recomputed_macs,
        result.latency_cycles, fused and result.fused_layers > 0,
    )  # fmt: skip


__all__ = ["Exploration", "ExploredPoint", "evaluate_mapping", "explore"]
