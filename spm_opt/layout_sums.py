"""The records of a layer that adds its input channels a slice at a time (`spm_opt.fusion_sums`)."""

from __future__ import annotations

from dataclasses import dataclass

from spm_opt.fusion import Recipe
from spm_opt.fusion_sums import Sums, sum_computes, sums
from spm_opt.graph.network import DTYPE_BYTES
from spm_opt.graph.sums import sum_bytes
from spm_opt.layout_ledger import Ledger, Lies, Program, source, step_of, targets
from spm_opt.layout_moves import Moves
from spm_opt.problem import Candidate
from spm_opt.schedule import Compute, Transfer
from spm_opt.site import Site
from spm_opt.tiling import Channels, slice_row_bytes

#: number of a map; channels of it before those of the operand or output that lies in it
Place = tuple[int, int]


def sum_program(ledger: Ledger, step: int, candidate: Candidate, recipe: Recipe) -> Program:
    """A step that keeps partial sums."""
    site, position = ledger.site, recipe.positions[0]
    part = recipe.part or site.parts[candidate.first]
    found = sums(site, position, part, (recipe.height,), recipe.width, recipe.slice)
    layer, tiles = found.layer, len(found.block)
    writer = SumWriter(ledger, found, step, recipe.depth, part.channels)
    program = Program(step_of(site, recipe, tiles))
    program.loads, program.stores = [[] for _ in range(tiles)], [[] for _ in range(tiles)]
    lies = source(site, candidate, layer.inputs[0].tensor, None)
    if lies.map in candidate.reads:
        read = ledger.map(lies.map, step)
    else:
        read = writer.input_loads(lies.map, program.loads)
    weights = writer.weight_loads(program.loads)
    kept, stored = targets(site, candidate, recipe, layer.output)
    if kept is not None:
        output = ledger.map(kept.map, step)
    else:
        own = stored if stored is not None else Lies(-1, layer.output, part.channels)
        output = writer.output_buffer(own.tensor, own.channels)
        program.rolling = {output}
    if stored is not None:
        shift = (stored.channels or (0, 0))[0] - (part.channels or (0, 0))[0]
        writer.stores((stored.map, shift), output, program.stores)
    program.computes = writer.computes(read, weights, output)
    return program


@dataclass(frozen=True, slots=True)
class SumWriter:
    """Writes buffers, transfers and computes of one step.

    Attributes
    ----------
    channels : (int, int) or None
        Output channels of the step; None for all.
    """

    ledger: Ledger
    found: Sums
    step: int
    depth: int
    channels: Channels

    @property
    def site(self) -> Site:
        """Network and machine."""
        return self.ledger.site

    @property
    def moves(self) -> Moves:
        """Makes transfers."""
        return self.ledger.moves

    def _buffer(self, kind: str, name: str, count: int, unit: int, channels: Channels) -> int:
        return self.ledger.add(kind, name, count, unit, self.step, self.step + 1, channels)

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
