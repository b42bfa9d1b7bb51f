"""Steps in tiles of output channels: all rows of a few channels at a time, or blocks of some rows.

Constants come with their tile, and inputs too where the operator treats channels apart. Where a
tile runs through several layers, what one hands on to the next is there for the tile alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from spm_opt.fusion import Recipe
from spm_opt.fusion_blocks import Blocks, block_computes, moved_rows, recipe_blocks, tile_borne
from spm_opt.graph.network import Layer
from spm_opt.layout_ledger import Ledger, Lies, Program, row_spans, source, step_of, targets
from spm_opt.parts_space import channel_weight_bytes
from spm_opt.problem import Candidate
from spm_opt.schedule import Compute
from spm_opt.tiling import Channels, Rows, input_channels, slice_row_bytes


def tile_program(ledger: Ledger, step: int, candidate: Candidate, recipe: Recipe) -> Program:
    """A step in tiles of output channels, in blocks or not."""
    return _Tiles(ledger, step, candidate, recipe, recipe_blocks(ledger.site, recipe)).program()


@dataclass(frozen=True, slots=True)
class _Tiles:
    """Writes one step; holds what its methods share."""

    ledger: Ledger
    step: int
    candidate: Candidate
    recipe: Recipe
    found: Blocks

    @property
    def tiles(self) -> list[tuple[int, int]]:
        """Output channels of each tile."""
        return [self.found.channels[column] for column in self.found.column.tolist()]

    @property
    def part(self) -> Channels:
        """The slice of the layer that runs, None for whole layers."""
        return None if self.recipe.part is None else self.recipe.part.channels

    def program(self) -> Program:
        tiles, site, chain = self.tiles, self.ledger.site, self.found.chain
        program = Program(step_of(site, self.recipe, len(tiles)))
        program.loads, program.stores = [[] for _ in tiles], [[] for _ in tiles]
        program.computes = [[] for _ in tiles]
        buffers = self._inputs(program)
        stores: list[_Stored] = []
        for i in reversed(range(len(chain.layers))):
            layer = site.network.layers[chain.layers[i]]
            weights = self._weights(chain.layers[i], program)
            buffers[layer.output], stored = self._output(layer, i, program)
            stores += [] if stored is None else [stored]
            cycles = block_computes(site, self.found, i)[0].tolist()
            for tile, rows in row_spans(chain.computed[i]):
                program.computes[tile].append(Compute(
                    layer.name, self.step, tile, rows, tiles[tile],
                    tuple(buffers[operand.tensor] for operand in layer.inputs), weights,
                    buffers[layer.output], 0, cycles[tile],
                ))  # fmt: skip
        # those out of buffers that a later tile fills again come first
        for found in sorted(stores, key=lambda found: found.buffer not in program.rolling):
            self._store(found, program)
        return program

    def _buffer(self, kind: str, lies: Lies, count: int, rows: Rows) -> int:
        """A buffer of `count` tiles, as tall and wide as any."""
        widest = (0, int(self.found.widths.max()))
        row_bytes = slice_row_bytes(self.ledger.site.network, lies.tensor, widest)
        unit = int(rows.count.max()) * row_bytes
        return self.ledger.add(
            kind, lies.tensor, count, unit, self.step, self.step + 1, lies.channels
        )

    def _inputs(self, program: Program) -> dict[str, int]:
        """What tiles load of their own comes with each, the others with the first of their rows."""
        site, chain, recipe = self.ledger.site, self.found.chain, self.recipe
        borne, layer = tile_borne(site, recipe, chain), site.layer_at(recipe.positions[0])
        # a slice is one of a layer that runs alone
        channels = {} if self.part is None else input_channels(site.network, layer, self.part)
        found: dict[str, int] = {}
        for name, need in chain.needs.items():
            lies = source(site, self.candidate, name, channels.get(name))
            if lies.map in self.candidate.reads:
                found[name] = self.ledger.map(lies.map, self.step)
            elif name in borne:
                found[name] = self._tiled_input(lies, need, program)
            else:
                found[name] = self.ledger.row_input(
                    self.step, lies, need, recipe.depth, chain.cuts, program
                )
        return found

    def _tiled_input(self, lies: Lies, need: Rows, program: Program) -> int:
        """Each tile loads its own channels: in blocks of the rows that it needs, else of all."""
        moved = moved_rows(self.ledger.site, self.recipe, lies.tensor, need)
        buffer = self._buffer("channel_input", lies, self.recipe.depth, moved)
        for tile, rows in row_spans(moved):
            program.loads[tile].append(self.ledger.moves.map(
                "load", lies.map, buffer, self.step, tile, rows, self.tiles[tile]
            ))  # fmt: skip
        return buffer

    def _weights(self, index: int, program: Program) -> tuple[int, ...]:
        """Constants of a layer, each tile's in a unit of its own."""
        layer, depth, step = self.ledger.site.network.layers[index], self.recipe.depth, self.step
        if not layer.weight_bytes:
            return ()
        sizes = [channel_weight_bytes(layer, channels) for channels in self.tiles]
        stream = self.ledger.add(
            "weight_stream", layer.name, depth, max(sizes), step, step + 1, self.part
        )
        for tile, (channels, size) in enumerate(zip(self.tiles, sizes, strict=True)):
            program.loads[tile].append(
                self.ledger.moves.weights(index, stream, step, step, tile, channels, size)
            )
        return (stream,)

    def _output(self, layer: Layer, i: int, program: Program) -> tuple[int, _Stored | None]:
        """Where the i-th layer writes, and what of that is stored."""
        kept, stored = targets(self.ledger.site, self.candidate, self.recipe, layer.output)
        rows = self.found.chain.computed[i]
        if kept is not None:
            output = self.ledger.map(kept.map, self.step)
        elif stored is not None:
            output = self._buffer("channel_output", stored, self.recipe.depth, rows)
            program.rolling.add(output)
        else:
            # layers of the step alone read it: it is gone with the tile
            output = self._buffer("channel_stripe", Lies(-1, layer.output, None), 1, rows)
        return output, None if stored is None else _Stored(output, stored, rows)

    def _store(self, found: _Stored, program: Program) -> None:
        """Each tile stores what it has made."""
        shift = (found.lies.channels or (0, 0))[0] - (self.part or (0, 0))[0]
        for tile, rows in row_spans(found.rows):
            begin, end = self.tiles[tile]
            program.stores[tile].append(self.ledger.moves.map(
                "store", found.lies.map, found.buffer, self.step, tile, rows,
                (begin + shift, end + shift),
            ))  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Stored:
    """Rows of an output that tiles store, out of a buffer, to where it lies in DRAM."""

    buffer: int
    lies: Lies
    rows: Rows
