"""The records of a layer that adds its input channels a slice at a time (`spm_opt.fusion_sums`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from spm_opt.fusion_sums import Sums, sum_computes
from spm_opt.graph.network import DTYPE_BYTES
from spm_opt.graph.sums import sum_bytes
from spm_opt.layout_moves import Moves
from spm_opt.schedule import Compute, Transfer
from spm_opt.site import Site
from spm_opt.tiling import Channels, slice_row_bytes

#: kind, name, units, bytes of one, first step, end step, channels; number of the new buffer
Add = Callable[[str, str, int, int, int, int, Channels], int]
#: number of a map; channels of it before those of the operand or output that lies in it
Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class SumWriter:
    """Writes buffers, transfers and computes of one step.

    Attributes
    ----------
    add : callable
        Takes a new buffer.
    channels : (int, int) or None
        Output channels of the step; None for all.
    """

    site: Site
    moves: Moves
    add: Add
    found: Sums
    step: int
    depth: int
    channels: Channels

    def _buffer(self, kind: str, name: str, count: int, unit: int, channels: Channels) -> int:
        return self.add(kind, name, count, unit, self.step, self.step + 1, channels)

    def input_loads(self, map_: int, loads: list[list[Transfer]]) -> int:
        """Rows and channels of the input with each tile; the buffer that they go to."""
        found, name = self.found, self.found.layer.inputs[0].tensor
        rows = found.chain.read[0][0]
        row_bytes = slice_row_bytes(self.site.network, name, (0, 1))
        unit = int((rows.count * found.added).max()) * row_bytes
        buffer = self._buffer("channel_input", name, self.depth, unit, None)
        for tile, (channels, slice_) in enumerate(self._tiles()):
            own = int(rows.begin[tile]), int(rows.end[tile])
            if own[1] > own[0]:
                read = found.known.read(channels, slice_)
                loads[tile].append(self.moves.map("load", map_, buffer, self.step, tile, own, read))
        return buffer

    def weight_loads(self, loads: list[list[Transfer]]) -> int:
        """Constants of the slice with each tile; the buffer that they go to."""
        found, index = self.found, self.site.network.layers.index(self.found.layer)
        unit = int((found.runs * found.widths).max())
        buffer = self._buffer("weight_stream", found.layer.name, self.depth, unit, self.channels)
        for tile, (channels, slice_) in enumerate(self._tiles()):
            loads[tile].append(
                self.moves.slice(index, buffer, self.step, tile, channels, slice_, found.known)
            )
        return buffer

    def output_buffer(self, name: str, channels: Channels) -> int:
        """Where blocks of the output wait to be stored: room for one."""
        row_bytes = slice_row_bytes(self.site.network, self.found.layer.output, (0, 1))
        unit = int((self.found.cuts.tiles.count * self.found.widths).max()) * row_bytes
        return self._buffer("channel_output", name, 1, unit, channels)

    def stores(self, place: Place, output: int, stores: list[list[Transfer]]) -> None:
        """Each block of the output, once it is made."""
        (map_, shift), rows = place, self.found.cuts.tiles
        for tile, (channels, _) in enumerate(self._tiles()):
            if self.found.ends[tile]:
                own = int(rows.begin[tile]), int(rows.end[tile])
                part = channels[0] + shift, channels[1] + shift
                stores[tile].append(
                    self.moves.map("store", map_, output, self.step, tile, own, part)
                )

    def computes(self, read: int, weights: int, output: int) -> list[list[Compute]]:
        """One compute a tile: it adds a slice, or ends the block."""
        found, rows, sums = self.found, self.found.cuts.tiles, self._sums()
        cycles = sum_computes(self.site, found)[0].tolist()
        return [
            [Compute(
                found.layer.name, self.step, tile, (int(rows.begin[tile]), int(rows.end[tile])),
                channels, (read,), (weights,), output if found.ends[tile] else sums, 0,
                cycles[tile], slice_, None if found.begins[tile] else sums,
            )]
            for tile, (channels, slice_) in enumerate(self._tiles())
        ]  # fmt: skip

    def _sums(self) -> int:
        """The buffer of the partial sums of a block."""
        found, network = self.found, self.site.network
        dtype = network.tensors[found.layer.output].dtype
        row = slice_row_bytes(network, found.layer.output, (0, 1)) // DTYPE_BYTES[dtype]
        unit = int((found.cuts.tiles.count * found.widths).max()) * row * sum_bytes(dtype)
        return self._buffer("sums", found.layer.output, 1, unit, self.channels)

    def _tiles(self) -> list[tuple[tuple[int, int], tuple[int, int]]]:
        """Output and input channels of each tile."""
        found = self.found
        pairs = zip(found.block.tolist(), found.slice.tolist(), strict=True)
        return [(found.channels[block], found.slices[slice_]) for block, slice_ in pairs]
