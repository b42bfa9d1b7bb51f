"""What DRAM holds before a run: the constants, packed as the kernels read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from spm_opt.commands import Command, Stream
from spm_opt.emit.kernels import fetches_table, pack_table, pack_weights
from spm_opt.errors import GraphError
from spm_opt.graph.network import Layer, Network
from spm_opt.graph.values import NetworkValues
from spm_opt.units import align_up


@dataclass(frozen=True, slots=True)
class Section:
    """Bytes that lie at an address of DRAM."""

    address: int
    content: bytes


@dataclass(frozen=True)
class Memory:
    """DRAM of one program.

    Attributes
    ----------
    sections : tuple of Section
        Constants, by rising address, none touching the next.
    tables : mapping of str to int
        Address of the look-up tables of which layers fetch rows themselves.
    size_bytes : int
    """

    sections: tuple[Section, ...]
    tables: Mapping[str, int]
    size_bytes: int


def memory_of(network: Network, stream: Stream, values: NetworkValues, burst_bytes: int) -> Memory:
    """Constants where the stream's loads find them; tables after everything else.

    Raises
    ------
    GraphError
        Naming the layer, where its values are missing, or no kernel reads them.
    """
    end = max(_ends(network, stream), default=0)
    pieces = dict(_pieces(network, stream, values))
    tables: dict[str, int] = {}
    for layer in network.layers:
        if fetches_table(layer):
            tables[layer.name] = end = align_up(end, burst_bytes)
            pieces[end] = pack_table(layer, values.layers[layer.name])
            end += len(pieces[end])
    return Memory(tuple(_sections(pieces)), tables, align_up(max(end, 1), burst_bytes))


def _ends(network: Network, stream: Stream) -> Iterator[int]:
    """Last addresses of all that is moved, and of the maps that come from outside."""
    for command in stream.commands:
        if command.dram is not None:
            found = command.dram
            yield found.address + (found.runs - 1) * found.run_step_bytes + found.run_bytes
    for name in (*network.inputs, *network.outputs):
        yield stream.dram_addresses[name] + network.tensors[name].size_bytes


def _pieces(network: Network, stream: Stream, values: NetworkValues) -> Iterator[tuple[int, bytes]]:
    """Each load of constants: its address, and what it must find there."""
    layers = {layer.name: layer for layer in network.layers}
    packed: dict[tuple[str, object], bytes] = {}
    for command in stream.commands:
        if command.role != "weights" or command.dram is None:
            continue
        layer = layers[command.name]
        if layer.name not in values.layers:
            raise GraphError("values are missing", field=layer.name)
        key = layer.name, command.channels
        if key not in packed:
            packed[key] = pack_weights(layer, values.layers[layer.name], command.channels)
        # a load may be cut into pieces
        dram, first = command.dram, _first_address(stream, layer, command)
        for run in range(dram.runs):
            address = dram.address + run * dram.run_step_bytes
            yield address, packed[key][address - first : address - first + dram.run_bytes]


def _first_address(stream: Stream, layer: Layer, command: Command) -> int:
    """Where in DRAM the constants of a command's channels begin."""
    axis = layer.channel_axis
    total = 1 if axis is None else layer.output_shape[axis]
    before = 0 if command.channels is None else command.channels[0]
    return stream.dram_addresses[f"weights:{layer.name}"] + layer.weight_bytes * before // total


def _sections(pieces: Mapping[int, bytes]) -> Iterator[Section]:
    """Neighbours joined."""
    begin, parts, end = 0, list[bytes](), 0
    for address in sorted(pieces):
        if parts and address != end:
            yield Section(begin, b"".join(parts))
            parts = []
        begin = begin if parts else address
        parts.append(pieces[address])
        end = address + len(pieces[address])
    if parts:
        yield Section(begin, b"".join(parts))
