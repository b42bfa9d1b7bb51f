"""The place a plan is made for: a network in a fixed order, cut into parts, on a machine.

Names become indices here, once: positions of layers in the order, parts of each position, border
maps with their sizes and prices. Shared by everything that proposes or realises groups.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from spm_opt.cost.compute import least_cycles
from spm_opt.cost.dram import moved_bytes, transfer_cycles
from spm_opt.graph.network import Layer, Network
from spm_opt.hardware import Hardware
from spm_opt.parts import Part, cut
from spm_opt.problem import FeatureMap, WeightLoad
from spm_opt.units import align_up


@dataclass(frozen=True)
class Site:
    """A network in execution order on a machine.

    Attributes
    ----------
    order : tuple of int
        Layer indices by position.
    parts : tuple of Part
        In execution order.
    spans : tuple of (int, int)
        Parts ``[begin, end)`` of each position.
    position : mapping of int to int
        Layer index to position.
    map_names : tuple of str
        Feature maps by index; `map_index` is the inverse.
    last_reader : mapping of str to int
        Last position that reads a map; the number of layers where DRAM must hold it at the end.
    """

    network: Network
    hardware: Hardware
    order: tuple[int, ...]
    parts: tuple[Part, ...]
    spans: tuple[tuple[int, int], ...]
    position: Mapping[int, int]
    map_names: tuple[str, ...]
    map_index: Mapping[str, int]
    last_reader: Mapping[str, int]

    def layer_at(self, position: int) -> Layer:
        """Layer at `position` of the order."""
        return self.network.layers[self.order[position]]

    def aligned(self, size_bytes: int) -> int:
        """Space that `size_bytes` take in the scratchpad."""
        return align_up(size_bytes, self.hardware.spm.alignment_bytes)

    def weight_space(self, position: int) -> int:
        """Space of the constants of all parts of a layer."""
        begin, end = self.spans[position]
        return sum(self.aligned(part.weight_bytes) for part in self.parts[begin:end])

    def outside_readers(self, tensor: str, position: int) -> int:
        """Layers after `position` that read `tensor`."""
        return sum(self.position[r] > position for r in self.network.readers[tensor])


def make_site(network: Network, hardware: Hardware, order: tuple[int, ...]) -> Site:
    """Lay `network` out in `order` on `hardware`."""
    parts = cut(network, order, hardware.spm, _array_widths(network, hardware))
    spans: list[tuple[int, int]] = []
    begin = 0
    for index in order:
        end = begin
        while end < len(parts) and parts[end].layer == index:
            end += 1
        spans.append((begin, end))
        begin = end
    position = {index: p for p, index in enumerate(order)}
    names = tuple(network.tensors)
    last = {name: max((position[r] for r in network.readers[name]), default=-1) for name in names}
    last.update({name: len(order) for name in network.outputs})
    return Site(
        network, hardware, order, parts, tuple(spans), position, names,
        {name: i for i, name in enumerate(names)}, last,
    )  # fmt: skip


def _array_widths(network: Network, hardware: Hardware) -> dict[int, tuple[int, ...]]:
    """Output channels computed at once, for layers that compute longer than they load weights."""
    unrollings = hardware.compute.unrollings
    widths = tuple(u.factors["k"] for u in unrollings if u.factors.get("k", 1) > 1)
    found: dict[int, tuple[int, ...]] = {}
    for index, layer in enumerate(network.layers):
        loading = transfer_cycles(hardware.dram, moved_bytes(hardware.dram, layer.weight_bytes))
        dtype = network.tensors[layer.output].dtype
        if layer.loops is not None and least_cycles(layer, dtype, hardware) > loading:
            found[index] = widths
    return found


def feature_maps(site: Site) -> tuple[FeatureMap, ...]:
    """The maps as the problem sees them."""
    return tuple(_feature_map(site, name) for name in site.map_names)


def _feature_map(site: Site, name: str) -> FeatureMap:
    network, dram = site.network, site.hardware.dram
    tensor = network.tensors[name]
    writers: tuple[int, ...] = ()
    if name in network.producer:
        writers = tuple(range(*site.spans[site.position[network.producer[name]]]))
    readers = sorted(
        part for r in network.readers[name] for part in range(*site.spans[site.position[r]])
    )
    moved = moved_bytes(dram, tensor.size_bytes)
    return FeatureMap(
        site.aligned(tensor.size_bytes), writers, tuple(readers), name in network.inputs,
        name in network.outputs, transfer_cycles(dram, moved), moved,
    )  # fmt: skip


def weight_loads(site: Site) -> tuple[WeightLoad, ...]:
    """The constants of each part as the problem sees them."""
    loads = []
    for part in site.parts:
        moved = moved_bytes(site.hardware.dram, part.weight_bytes)
        loads.append(
            WeightLoad(
                site.aligned(part.weight_bytes), transfer_cycles(site.hardware.dram, moved), moved
            )
        )
    return tuple(loads)
