"""Maps that lie inside others: what a concatenation joins, what a split takes apart.

A tensor is a *piece* of another one where it is a range of that one's channels, bytes and all: a
layer may then write its output straight into the joined map, or read its input out of the whole
one, and the concatenation or split has nothing left to do. Only facts of the network are stated
here; whether anybody makes use of them is decided elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from spm_opt.graph.network import Layer, Network, Tensor, needed_rows, topological
from spm_opt.graph.ops import Concat, Shape, Slice, row_axis

Channels = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Joined:
    """A map that its pieces' producers can write themselves, each its own channels.

    Attributes
    ----------
    tensor : str
        Output of the outermost concatenation.
    leaves : mapping of str to (int, int)
        Channels ``[begin, end)`` of each piece that some layer computes, in order of channels.
    inner : mapping of str to (int, int)
        Channels of the concatenations in between, and of `tensor` itself.
    """

    tensor: str
    leaves: Mapping[str, Channels]
    inner: Mapping[str, Channels]


def joined_pieces(network: Network, layer: Layer) -> dict[str, Channels] | None:
    """Channels of its output that each input of a concatenation becomes; None if it must copy."""
    op = layer.op
    if not isinstance(op, Concat) or op.constants or layer.output in network.rounded:
        return None  # rounded to a scale of its own: no piece has its bytes
    axis = op.axis % len(layer.output_shape)
    output = network.tensors[layer.output]
    if not _cuts(network, output, axis) or network.channel_axes.get(layer.output) != axis:
        return None
    found: dict[str, Channels] = {}
    begin = 0
    for operand in layer.inputs:
        end = begin + operand.shape[axis]
        if operand.tensor in found or not _alike(network, operand.tensor, operand.shape, layer):
            return None
        found[operand.tensor] = begin, end
        begin = end
    return found


def taken_channels(network: Network, layer: Layer) -> Channels | None:
    """Channels of its input that a split or slice takes; None if it must copy."""
    op = layer.op
    if not isinstance(op, Slice) or any(step != 1 for step in op.steps):
        return None
    if layer.output in network.rounded:
        return None
    operand = layer.inputs[0]
    cut = [i for i, extent in enumerate(operand.shape) if op.sizes[i] != extent]
    if len(cut) != 1 or not _cuts(network, network.tensors[operand.tensor], cut[0]):
        return None
    alike = _alike(network, operand.tensor, operand.shape, layer)
    if not alike or network.channel_axes.get(operand.tensor) != cut[0]:
        return None
    return op.begins[cut[0]], op.begins[cut[0]] + op.sizes[cut[0]]


def _alike(network: Network, tensor: str, seen: Shape, layer: Layer) -> bool:
    """Whether a layer's operand is seen as it lies, and is cut and coded as the output is."""
    own, written, axes = (
        network.tensors[tensor],
        network.tensors[layer.output],
        network.channel_axes,
    )
    alike = (own.dtype, own.images) == (written.dtype, written.images)
    return alike and axes.get(tensor) == axes.get(layer.output) and own.shape == seen


def _cuts(network: Network, tensor: Tensor, axis: int) -> bool:
    """Whether a range along `axis` is one run of bytes in every row, or columns that are cut."""
    rows = row_axis(tensor.shape)
    if tensor.name in network.columnar:
        return axis == len(tensor.shape) - 1
    leading = (extent for i, extent in enumerate(tensor.shape[:axis]) if i != rows)
    return rows is not None and axis != rows and math.prod(leading) == tensor.images


def copy_free(network: Network) -> frozenset[str]:
    """Layers that need not run where their pieces lie in place."""
    return frozenset(
        layer.name
        for layer in network.layers
        if joined_pieces(network, layer) is not None or taken_channels(network, layer) is not None
    )


def compulsory_map_bytes(network: Network) -> dict[str, int]:
    """Raw bytes of maps that every plan moves: of outputs all, of inputs what some layer needs.

    Rows and channels that nobody needs are not moved, nor is an input that is an output too.
    """
    rows, shares = needed_rows(network), _needed_channels(network)
    return {
        name: rows[name] * network.tensors[name].row_bytes * sum(shares[name]) // len(shares[name])
        for name in {*network.inputs} ^ {*network.outputs}
    }


def _needed_channels(network: Network) -> dict[str, list[bool]]:
    """Which channels of every tensor some layer that cannot be left out, or the world, needs."""
    wanted = {}
    for name, tensor in network.tensors.items():
        axis = network.channel_axes.get(name)
        count = 1 if axis is None else tensor.shape[axis]
        wanted[name] = [name in network.outputs] * count
    for index in reversed(topological(network)):
        layer = network.layers[index]
        mine = wanted[layer.output]
        joined, taken = joined_pieces(network, layer), taken_channels(network, layer)
        for operand in layer.inputs:
            marks = wanted[operand.tensor]
            if taken is not None:
                needed = range(taken[0], taken[1])
                _mark(marks, (c for c, want in zip(needed, mine, strict=True) if want))
            elif joined is not None:
                begin, end = joined[operand.tensor]
                _mark(marks, (c for c, want in enumerate(mine[begin:end]) if want))
            else:
                _mark(marks, range(len(marks)))
    return wanted


def _mark(marks: list[bool], places: Iterable[int]) -> None:
    for place in places:
        marks[place] = True


def pieces(network: Network) -> Mapping[tuple[str, str], Channels]:
    """Channels of the second tensor that the first is, for all pairs where it is a piece."""
    direct: dict[str, dict[str, Channels]] = {name: {} for name in network.tensors}
    for layer in network.layers:
        for tensor, channels in (joined_pieces(network, layer) or {}).items():
            direct[tensor][layer.output] = channels
        taken = taken_channels(network, layer)
        if taken is not None:
            direct[layer.output][layer.inputs[0].tensor] = taken
        if layer.name in network.fills:
            holder, columns = network.fills[layer.name]
            direct[layer.output][holder] = columns
    found: dict[tuple[str, str], Channels] = {}
    for tensor in direct:
        reached, left = {tensor}, [(tensor, 0)]
        width = None
        while left:
            inner, shift = left.pop()
            for outer, (begin, end) in direct[inner].items():
                if outer in reached:
                    continue
                width = end - begin if width is None else width
                reached.add(outer)
                found[tensor, outer] = shift + begin, shift + begin + width
                left.append((outer, shift + begin))
    return found


def joined_maps(network: Network) -> tuple[Joined, ...]:
    """Maps that the producers of all their pieces may write, none inside another.

    A piece belongs to the first concatenation that reads it. It must be computed by a layer, and
    be no output of the network, which has its own place in DRAM.
    """
    plans: dict[str, Joined] = {}
    taken: set[str] = set()
    for index in topological(network):
        layer = network.layers[index]
        direct = joined_pieces(network, layer)
        if direct is None or any(
            name in taken or name in network.inputs or name in network.outputs for name in direct
        ):
            continue
        taken.update(direct)
        plans[layer.output] = _joined(layer.output, direct, plans)
    return tuple(plan for name, plan in plans.items() if name not in taken)


def _joined(tensor: str, direct: Mapping[str, Channels], plans: Mapping[str, Joined]) -> Joined:
    """A concatenation with those of its pieces that are concatenations opened up."""
    leaves: dict[str, Channels] = {}
    inner: dict[str, Channels] = {}
    end_of_all = 0
    for name, (begin, end) in direct.items():
        end_of_all = end
        if name not in plans:
            leaves[name] = begin, end
            continue
        for mine, theirs in ((leaves, plans[name].leaves), (inner, plans[name].inner)):
            mine.update({leaf: (begin + a, begin + b) for leaf, (a, b) in theirs.items()})
    return Joined(tensor, leaves, {**inner, tensor: (0, end_of_all)})


def split_maps(network: Network) -> Mapping[str, tuple[str, Channels]]:
    """For each output of a split: the map it is taken from, at the root, and its channels there."""
    found: dict[str, tuple[str, Channels]] = {}
    for index in topological(network):
        layer = network.layers[index]
        taken = taken_channels(network, layer)
        if taken is None:
            continue
        source, shift = layer.inputs[0].tensor, 0
        if source in found:
            source, (shift, _) = found[source]
        found[layer.output] = source, (shift + taken[0], shift + taken[1])
    return found
