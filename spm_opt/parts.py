"""Parts and orders: the linear sequence of work that groups are runs of.

A *part* is a layer, or one output-channel slice of a layer whose weights are large or whose rows
fit in no other way. Slices let large weights stream through a small scratchpad: each is loaded,
and may be prefetched, by itself, shares its input with its siblings and writes its own channels of
the same output, without a copy. This room cuts and orders; it chooses nothing and knows no price.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Final

from spm_opt.graph.network import Layer, Network, topological
from spm_opt.hardware import Scratchpad
from spm_opt.parts_space import (
    channel_count,
    channel_heights,
    channel_tile_bytes,
    channel_weight_bytes,
    row_tile_bytes,
    slice_edges,
    widest_slice,
)
from spm_opt.units import ceil_div

#: weights that would need more slices are streamed in channel tiles, where all inputs fit
MAX_SLICES: Final = 16
#: how much wider than even slices a multiple of the array's width may be
_STRETCH: Final = 1.5
#: no slice needs to be smaller than this, however large the scratchpad
SLICE_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Part:
    """A layer or a slice of one.

    Attributes
    ----------
    layer : int
        Index into `Network.layers`.
    channels : (int, int) or None
        Output channels ``[begin, end)`` of a slice; None for the whole layer.
    weight_bytes : int
        Bytes of its constants.
    """

    layer: int
    channels: tuple[int, int] | None
    weight_bytes: int


def cut(
    network: Network,
    order: tuple[int, ...],
    spm: Scratchpad,
    widths: Mapping[int, tuple[int, ...]] = MappingProxyType({}),
) -> tuple[Part, ...]:
    """The layers in `order`, those that need it cut into output-channel slices.

    Weights above a quarter of the scratchpad (at most `SLICE_BYTES`) are cut into slices of about
    that size. Weights that would need more than `MAX_SLICES` are left whole, to be streamed in
    channel tiles, where a tile fits half the scratchpad beside all that it reads. A layer that
    fits in no tiling so far is cut as finely as it takes.

    Parameters
    ----------
    widths : mapping of int to tuple of int
        Output channels that the array computes at once, in its several ways, for the layers that
        are bound by it. Their slices are multiples of the widest that is not much wider than they
        are, where they fit so: the last pass over a ragged slice would leave columns idle.
    """
    parts: list[Part] = []
    for index in order:
        count = slice_count(network, spm, index)
        edges = _even_edges(network, spm, index, count, widths.get(index, ()))
        parts.extend(_slices(network.layers[index], index, edges))
    return tuple(parts)


def _even_edges(
    network: Network, spm: Scratchpad, index: int, count: int, widths: tuple[int, ...]
) -> list[int]:
    """Edges of slices, on multiples of an array width where one suits."""
    layer = network.layers[index]
    edges = slice_edges(layer, count)
    if count == 1 or layer.op.channel_step() > 1:
        return edges
    mean = edges[-1] / count
    for width in sorted(set(widths), reverse=True):
        if width <= mean * _STRETCH:
            inner = {round(edge / width) * width for edge in edges[1:-1]}
            even = [0, *sorted(inner - {0, *range(edges[-1], edges[-1] + width)}), edges[-1]]
            widest = max(pairwise(even), key=lambda slice_: slice_[1] - slice_[0])
            if row_tile_bytes(network, spm, index, widest) <= spm.capacity_bytes:
                return even
    return edges


def slice_count(network: Network, spm: Scratchpad, index: int) -> int:
    """Number of slices that a layer is cut into."""
    layer, most = network.layers[index], channel_count(network.layers[index])
    if most < 2:
        return 1
    capacity = spm.capacity_bytes
    target = max(1, min(SLICE_BYTES, capacity // 4))
    wanted = min(ceil_div(layer.weight_bytes, target), most) if layer.loops else 1
    wanted = max(1, wanted)
    tile = _tile_bytes(network, spm, index)
    if (wanted > MAX_SLICES and tile <= capacity // 2) or (wanted == 1 and tile <= capacity):
        return 1
    if _fits(network, spm, index, wanted, capacity):
        return wanted
    # finer slices of what reads its own channels read nothing twice: leave room for others
    limits = (capacity // 2, capacity) if all(network.sliced_reads[layer.name]) else (capacity,)
    for limit in limits:
        if _fits(network, spm, index, most, limit):
            return _fewest(network, spm, index, range(wanted, most + 1), limit)
    return wanted


def _fewest(network: Network, spm: Scratchpad, index: int, counts: range, limit_bytes: int) -> int:
    """Least of `counts` at which slices fit; the last does, and more slices need no more space."""
    return counts[
        bisect_left(counts, True, key=lambda n: _fits(network, spm, index, n, limit_bytes))
    ]


def _fits(network: Network, spm: Scratchpad, index: int, count: int, limit_bytes: int) -> bool:
    """Whether each of `count` slices runs row by row within `limit_bytes`."""
    widest = widest_slice(network.layers[index], count)
    return row_tile_bytes(network, spm, index, widest) <= limit_bytes


def _tile_bytes(network: Network, spm: Scratchpad, index: int) -> int:
    """Least space of the whole layer in channel tiles; more than there is where it has none."""
    heights = channel_heights(network, network.layers[index], None, spm.capacity_bytes)
    return min(
        (channel_tile_bytes(network, spm, index, height) for height in heights),
        default=spm.capacity_bytes + 1,
    )


def _slices(layer: Layer, index: int, edges: list[int]) -> list[Part]:
    if len(edges) <= 2:
        return [Part(index, None, layer.weight_bytes)]
    slices = pairwise(edges)
    return [Part(index, slice_, channel_weight_bytes(layer, slice_)) for slice_ in slices]


def source_order(network: Network) -> tuple[int, ...]:
    """The order of the model file, where it is topological."""
    return topological(network)


def depth_first_order(network: Network) -> tuple[int, ...]:
    """Finish the branch that was begun last before another is begun."""
    return _ready_list(network, lambda index, age: (-age, index))


def small_live_order(network: Network) -> tuple[int, ...]:
    """Run next the layer after which the fewest bytes of feature maps are alive."""
    sizes = {name: tensor.size_bytes for name, tensor in network.tensors.items()}
    left = {name: len(readers) for name, readers in network.readers.items()}

    def growth(index: int) -> int:
        layer = network.layers[index]
        freed = sum(sizes[t] for t in {o.tensor for o in layer.inputs} if left[t] == 1)
        return sizes[layer.output] - freed

    def done(index: int) -> None:
        for tensor in {operand.tensor for operand in network.layers[index].inputs}:
            left[tensor] -= 1

    return _ready_list(network, lambda index, age: (growth(index), -age, index), done)


def _ready_list(
    network: Network,
    rank: Callable[[int, int], tuple[int, ...]],
    done: Callable[[int], None] = lambda index: None,
) -> tuple[int, ...]:
    graph = network.graph
    waiting = {index: graph.in_degree(index) for index in graph}
    age = {index: 0 for index, count in waiting.items() if count == 0}
    order: list[int] = []
    while age:
        best = min(age, key=lambda index: rank(index, age[index]))
        del age[best]
        order.append(best)
        done(best)
        for reader in sorted(graph.successors(best)):
            waiting[reader] -= 1
            if waiting[reader] == 0:
                age[reader] = len(order)
    return tuple(order)


ORDERS: Final[Mapping[str, Callable[[Network], tuple[int, ...]]]] = MappingProxyType(
    {"source": source_order, "depth_first": depth_first_order, "small_live": small_live_order}
)


def distinct_orders(network: Network, limit: int) -> dict[str, tuple[int, ...]]:
    """Up to `limit` different topological orders, by name; the source's first."""
    found: dict[str, tuple[int, ...]] = {}
    for name, make in ORDERS.items():
        order = make(network)
        if order not in found.values():
            found[name] = order
        if len(found) == limit:
            break
    return found


def has_unique_order(network: Network) -> bool:
    """Whether the DAG admits one topological order only."""
    order = topological(network)
    return all(network.graph.has_edge(a, b) for a, b in pairwise(order))
