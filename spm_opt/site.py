"""The place a plan is made for: a network in a fixed order, cut into parts, on a machine.

Names become indices here, once: positions of layers in the order, parts of each position, border
maps with their sizes and prices. Shared by everything that proposes or realises groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from spm_opt.cost.array_tiles import filters_at_once
from spm_opt.cost.compression import map_share
from spm_opt.cost.compute import least_cycles
from spm_opt.cost.dram import moved_bytes, transfer_cycles
from spm_opt.graph.bands import Bands
from spm_opt.graph.network import Layer, Network
from spm_opt.graph.pieces import Channels, Joined, joined_maps, joined_pieces, split_maps
from spm_opt.hardware import Hardware
from spm_opt.parts import Part, cut
from spm_opt.problem import FeatureMap, WeightLoad
from spm_opt.units import align_up


@dataclass(frozen=True, slots=True)
class Place:
    """Where else a map may lie: channels of another one.

    Attributes
    ----------
    map : int
        Number of the map that holds it.
    tensor : str
        Its name.
    channels : (int, int)
        Channels ``[begin, end)`` of it.
    """

    map: int
    tensor: str
    channels: Channels


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
        Feature maps by index; `map_index` is the inverse. After the network's own tensors come
        the maps that concatenations write, once more, as their pieces' producers write them.
    joined : tuple of Joined
        These, in the order of their numbers; empty where aliases are switched off.
    last_reader : mapping of str to int
        Last position that reads a map; the number of layers where DRAM must hold it at the end.
    source, bands
        The network whose runs `network` has in bands, and these runs; None and none where
        it has none.
    energy : bool
        Whether candidates are priced, and compared, in energy as well.
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
    joined: tuple[Joined, ...] = ()
    aliases: bool = True
    source: Network | None = None
    bands: tuple[Bands, ...] = ()
    energy: bool = False

    @property
    def transfer_fj(self) -> int:
        """Energy of a byte that a transfer moves; 0 where energy is not counted."""
        energy = self.hardware.energy
        return energy.transfer_fj if energy is not None and self.energy else 0

    @cached_property
    def written_into(self) -> Mapping[str, Place]:
        """For each piece of a joined map: where its producer may write it."""
        return {
            name: Place(number, plan.tensor, channels)
            for number, plan in self.numbered_joined()
            for name, channels in plan.leaves.items()
        }

    @cached_property
    def read_from(self) -> Mapping[str, Place]:
        """For each map: where else its readers may find it."""
        found = dict(self.written_into)
        for number, plan in self.numbered_joined():
            found |= {n: Place(number, plan.tensor, c) for n, c in plan.inner.items()}
        return {**self._split, **found}

    @cached_property
    def _split(self) -> Mapping[str, Place]:
        if not self.aliases:
            return {}
        taken = split_maps(self.network).items()
        return {
            name: Place(self.map_index[map_], map_, channels) for name, (map_, channels) in taken
        }

    @cached_property
    def elidable(self) -> Mapping[int, Place]:
        """Layers (indices) with nothing to do where the map that holds their output is there."""
        found = {
            self.network.producer[name]: self.read_from[name]
            for _, plan in self.numbered_joined()
            for name in plan.inner
        }
        for name, place in self._split.items():
            # an output of the network has its own place in DRAM
            if self.read_from[name] == place and name not in self.network.outputs:
                found[self.network.producer[name]] = place
        return found

    @cached_property
    def joins(self) -> Mapping[int, tuple[str, ...]]:
        """Pieces of every concatenation that need not copy, by index of its layer."""
        found = ((i, joined_pieces(self.network, n)) for i, n in enumerate(self.network.layers))
        return {i: tuple(pieces) for i, pieces in found if pieces}

    def joining_parts(self, number: int) -> tuple[int, ...]:
        """Parts that write pieces of a joined map, in order."""
        return self._joining_parts[number]

    @cached_property
    def _joining_parts(self) -> Mapping[int, tuple[int, ...]]:
        return {n: _writers(self, tuple(plan.leaves)) for n, plan in self.numbered_joined()}

    def numbered_joined(self) -> tuple[tuple[int, Joined], ...]:
        """Joined maps with their numbers."""
        return tuple(enumerate(self.joined, start=len(self.map_index)))

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

    def last_use(self, tensor: str) -> int:
        """Last part that reads a map, or what a split takes out of it."""
        return self._last_uses.get(tensor, -1)

    @cached_property
    def _last_uses(self) -> Mapping[str, int]:
        found: dict[str, int] = {}
        for name, readers in self.network.readers.items():
            place = self.read_from.get(name)
            names = {name} if place is None else {name, place.tensor}
            last = max((self.spans[self.position[r]][1] - 1 for r in readers), default=-1)
            found |= {n: max(found.get(n, -1), last) for n in names}
        return found

    def outside_readers(self, tensor: str, position: int) -> int:
        """Layers after `position` that read `tensor`."""
        return sum(self.position[r] > position for r in self.network.readers[tensor])


def make_site(
    network: Network,
    hardware: Hardware,
    order: tuple[int, ...],
    aliases: bool = True,
    parts: tuple[Part, ...] | None = None,
    energy: bool = False,
) -> Site:
    """Lay `network` out in `order` on `hardware`.

    Parameters
    ----------
    aliases : bool
        Whether maps may lie inside others, and be written over others.
    parts : tuple of Part, optional
        The layers in their order, as they are cut; cut here by default.
    energy : bool
        Whether candidates are priced in energy as well.
    """
    if parts is None:
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
    joined = joined_maps(network) if aliases else ()
    return Site(
        network, hardware, order, parts, tuple(spans), position,
        (*names, *(plan.tensor for plan in joined)), {name: i for i, name in enumerate(names)},
        last, joined, aliases, energy=energy,
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
            together = filters_at_once(layer, dtype, hardware)
            found[index] = widths if together is None else (together,) * (together > 1)
    return found


def feature_maps(site: Site) -> tuple[FeatureMap, ...]:
    """The maps as the problem sees them."""
    elsewhere: dict[int, list[str]] = {}
    for name, place in site.read_from.items():
        elsewhere.setdefault(place.map, []).append(name)
    own = [
        _feature_map(site, name, (name,), (name, *elsewhere.get(t, ())))
        for name, t in site.map_index.items()
    ]
    joined = [
        replace(
            _feature_map(site, plan.tensor, tuple(plan.leaves), tuple(elsewhere[t])), joined=True
        )
        for t, plan in site.numbered_joined()
    ]
    return (*own, *joined)


def _feature_map(
    site: Site, name: str, written: tuple[str, ...], read: tuple[str, ...]
) -> FeatureMap:
    """The map `name`, written as the tensors `written` and read as those of `read`."""
    network, dram = site.network, site.hardware.dram
    tensor = network.tensors[name]
    moved = moved_bytes(dram, tensor.size_bytes, 1, map_share(dram.compression, tensor))
    return FeatureMap(
        site.aligned(tensor.size_bytes), _writers(site, written),
        _parts(site, [r for n in read for r in network.readers[n]]), name in network.inputs,
        name in network.outputs, transfer_cycles(dram, moved), moved,
        reload_fj=moved * site.transfer_fj,
    )  # fmt: skip


def _writers(site: Site, tensors: tuple[str, ...]) -> tuple[int, ...]:
    return _parts(site, [site.network.producer.get(tensor) for tensor in tensors])


def _parts(site: Site, layers: Iterable[int | None]) -> tuple[int, ...]:
    spans = (site.spans[site.position[layer]] for layer in layers if layer is not None)
    return tuple(sorted({part for span in spans for part in range(*span)}))


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
