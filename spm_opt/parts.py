"""Parts and orders: the linear sequence of work that groups are runs of.

A *part* is a layer, or one output-channel slice of a layer whose weights are large. Slices let
large weights stream through a small scratchpad: each is loaded, and may be prefetched, by itself,
shares its input with its siblings and writes its own channels of the same output, without a copy.
This room cuts and orders; it chooses nothing and knows no price.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from spm_opt.graph.network import Layer, Network, topological
from spm_opt.units import ceil_div

#: a layer is sliced into at most this many parts; larger weights are streamed in channel tiles
MAX_SLICES: Final = 16
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


def cut(network: Network, order: tuple[int, ...], capacity_bytes: int) -> tuple[Part, ...]:
    """The layers in `order`, those of large weights cut into output-channel slices.

    Weights above a quarter of the scratchpad (at most `SLICE_BYTES`) are cut into slices of about
    that size; weights that would need more than `MAX_SLICES` are left whole, to be streamed.
    """
    parts: list[Part] = []
    for index in order:
        parts.extend(_slices(network.layers[index], index, capacity_bytes))
    return tuple(parts)


def _slices(layer: Layer, index: int, capacity_bytes: int) -> list[Part]:
    whole = [Part(index, None, layer.weight_bytes)]
    axis = layer.op.channel_axis(layer.output_shape)
    target = max(1, min(SLICE_BYTES, capacity_bytes // 4))
    if axis is None or layer.weight_bytes <= target or not layer.op.tileable:
        return whole
    step = layer.op.channel_step()
    blocks = layer.output_shape[axis] // step
    count = min(ceil_div(layer.weight_bytes, target), blocks)
    if not 2 <= count <= MAX_SLICES:
        return whole
    edges = [blocks * i // count * step for i in range(count + 1)]
    return [
        Part(index, (begin, end), channel_weight_bytes(layer, end - begin))
        for begin, end in zip(edges, edges[1:], strict=False)
    ]


def channel_weight_bytes(layer: Layer, channels: int) -> int:
    """Bytes of the constants of `channels` output channels."""
    axis = layer.op.channel_axis(layer.output_shape)
    total = 1 if axis is None else layer.output_shape[axis]
    return layer.weight_bytes * channels // total


def part_channels(part: Part) -> int | None:
    """Output channels of a slice; None for a whole layer."""
    return None if part.channels is None else part.channels[1] - part.channels[0]


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
    return all(network.graph.has_edge(a, b) for a, b in zip(order, order[1:], strict=False))
