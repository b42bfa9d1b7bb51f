"""A fusion set: layers that run as one group, and how their tensors follow the last one's tiles.

Everything here is independent of tile sizes and of what is kept: which axes of the last output may
be tiled, and with which of them each axis of each tensor moves.

What a tensor needs is a product of intervals, one for each of its axes. An axis of a tensor is
*bound* to the tiled axis of the last output that moves it; where two would, or one would move two
axes of the tensor, it is needed whole. An axis that nothing moves is needed whole as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from spm_opt.boxes import Link, operand_links, tiled_axes
from spm_opt.errors import InputError
from spm_opt.graph.network import DTYPE_BYTES, Layer, Network, topological

#: for each axis of a tensor: the name of the tiled axis that moves it, None for none
Binding = tuple[str | None, ...]


@dataclass(frozen=True)
class FusionSet:
    """A run of layers in topological order, of which all lead to the last.

    Attributes
    ----------
    network : Network
    layers : tuple of Layer

    Raises
    ------
    InputError
        If a layer does not lead to the last one.
    """

    network: Network
    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        used = {operand.tensor for layer in self.layers for operand in layer.inputs}
        for layer in self.layers[:-1]:
            if layer.output not in used:
                raise InputError(
                    f"does not lead to the last layer {self.last.name!r}, so that no tile of its "
                    "output needs it; end the set before it, or explore the set in parts",
                    field=layer.name,
                )

    @property
    def last(self) -> Layer:
        """The layer whose output is tiled."""
        return self.layers[-1]

    @cached_property
    def axes(self) -> dict[str, int]:
        """Axes of the last output that may be tiled, by name."""
        return tiled_axes(self.last)

    @cached_property
    def produced(self) -> dict[str, Layer]:
        """The layer that writes each map of the set."""
        return {layer.output: layer for layer in self.layers}

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """Maps that the set reads and does not write."""
        read = (operand.tensor for layer in self.layers for operand in layer.inputs)
        return tuple(dict.fromkeys(name for name in read if name not in self.produced))

    @cached_property
    def intermediates(self) -> tuple[str, ...]:
        """Maps that the set writes and reads, in the order of their layers."""
        return tuple(layer.output for layer in self.layers[:-1])

    @cached_property
    def stored(self) -> tuple[str, ...]:
        """Maps that are written to DRAM: the last output, and what is read outside the set."""
        network, own = self.network, {layer.name for layer in self.layers}
        outside = {
            name
            for name in self.intermediates
            if name in network.outputs
            or any(network.layers[r].name not in own for r in network.readers[name])
        }
        return tuple(name for name in self.produced if name in outside or name == self.last.output)

    @cached_property
    def links(self) -> dict[str, tuple[tuple[Link | None, ...], ...]]:
        """By layer, for each operand: the link of each axis of its tensor."""
        return {
            layer.name: tuple(
                operand_links(self.network, layer, i) for i in range(len(layer.inputs))
            )
            for layer in self.layers
        }

    @cached_property
    def bindings(self) -> dict[str, Binding]:
        """The binding of every map of the set."""
        shape = self.last.output_shape
        names = {axis: name for name, axis in self.axes.items()}
        found = {self.last.output: tuple(names.get(axis) for axis in range(len(shape)))}
        claims: dict[str, list[Binding]] = {}
        for layer in reversed(self.layers):
            own = found.setdefault(layer.output, _agreed(claims.get(layer.output, [])))
            for operand, links in zip(layer.inputs, self.links[layer.name], strict=True):
                claim = tuple(None if link is None else own[link.out_axis] for link in links)
                claims.setdefault(operand.tensor, []).append(claim)
        return found | {name: _agreed(claims[name]) for name in self.inputs}

    def extent(self, name: str) -> int:
        """Indices of a tiled axis."""
        return self.last.output_shape[self.axes[name]]

    def axis_of(self, tensor: str, name: str) -> int | None:
        """Axis of a map that is bound to the tiled axis `name`."""
        binding = self.bindings[tensor]
        return binding.index(name) if name in binding else None

    def unbound_bytes(self, tensor: str) -> int:
        """Bytes of a map at one index of every bound axis."""
        map_ = self.network.tensors[tensor]
        free = (n for n, name in zip(map_.shape, self.bindings[tensor], strict=True) if not name)
        return math.prod(free) * DTYPE_BYTES[map_.dtype]

    def weight_axis(self, layer: Layer) -> str | None:
        """Tiled axis along which the layer's weights are cut, if any."""
        axis = layer.channel_axis
        if axis is None or layer.weight_bytes % layer.output_shape[axis]:
            return None
        return self.bindings[layer.output][axis]

    def unbound_weight_bytes(self, layer: Layer) -> int:
        """Bytes of a layer's weights at one index of the axis along which they are cut."""
        axis = layer.channel_axis
        if axis is None or self.weight_axis(layer) is None:
            return layer.weight_bytes
        return layer.weight_bytes // layer.output_shape[axis]


def _agreed(claims: list[Binding]) -> Binding:
    """The binding that serves all readers: an axis that two names move is bound to neither."""
    found: list[str | None] = []
    for names in zip(*claims, strict=True):
        known = {name for name in names if name is not None}
        name = known.pop() if len(known) == 1 else None
        found.append(None if name in found else name)
    return tuple(found)


def fusion_set(network: Network, first: str | None = None, last: str | None = None) -> FusionSet:
    """The layers from `first` to `last`, inclusive, in topological order.

    Parameters
    ----------
    network : Network
    first, last : str, optional
        Name of a layer, of a node that was folded into it, of its output, or its number from 0;
        the first and the last layer of the network by default.

    Raises
    ------
    InputError
        If there is no such layer, or the first comes after the last.
    """
    layers = tuple(network.layers[i] for i in topological(network))
    begin = 0 if first is None else _number(layers, first)
    end = len(layers) - 1 if last is None else _number(layers, last)
    if begin > end:
        raise InputError(
            "the first layer comes after the last", field="layers", found=f"{first}:{last}"
        )
    return FusionSet(network, layers[begin : end + 1])


def _number(layers: tuple[Layer, ...], name: str) -> int:
    for i, layer in enumerate(layers):
        if name in (layer.name, layer.output, *layer.folded):
            return i
    if name.isdecimal() and int(name) < len(layers):
        return int(name)
    raise InputError(
        "no layer of this name or number", field="layers", found=name,
        allowed=(f"0 to {len(layers) - 1}", *(layer.name for layer in layers)),
    )  # fmt: skip
