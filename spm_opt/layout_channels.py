"""Steps in tiles of output channels: all rows of a few channels at a time, or blocks of some rows.

Constants come with their tile, and inputs too where the operator treats channels apart.
"""

from __future__ import annotations

from spm_opt.fusion import Recipe, channel_cuts, part_cycles, recipe_chain
from spm_opt.fusion_blocks import Blocks, block_computes, blocks
from spm_opt.graph.network import Layer
from spm_opt.layout_ledger import Ledger, Lies, Program, row_spans, source, step_of, targets
from spm_opt.parts import Part
from spm_opt.parts_space import channel_weight_bytes, tile_inputs
from spm_opt.problem import Candidate
from spm_opt.schedule import Compute
from spm_opt.tiling import Chain, Channels, input_channels, slice_row_bytes


def channel_program(ledger: Ledger, step: int, candidate: Candidate, recipe: Recipe) -> Program:
    """A step that makes all rows of a few output channels at a time."""
    part = recipe.part or ledger.site.parts[candidate.first]
    layer = ledger.site.network.layers[part.layer]
    cuts = channel_cuts(layer, part, (recipe.height,))
    tiles = [channels for _, channels in row_spans(cuts.tiles)]
    program = Program(step_of(ledger.site, recipe, len(tiles)))
    program.loads, program.stores = [[] for _ in tiles], [[] for _ in tiles]
    chain = recipe_chain(ledger.site, recipe)
    buffers = _tiled_inputs(ledger, step, candidate, recipe, chain, tiles, program)
    weights = _tiled_weights(ledger, step, part, recipe, tiles, program)
    output = _tiled_output(ledger, step, candidate, layer, part, recipe, tiles, program)
    for tile, channels in enumerate(tiles):
        cycles = part_cycles(ledger.site, layer, channels, chain)
        program.computes.append([Compute(
            layer.name, step, tile, (0, layer.rows), channels,
            tuple(buffers[operand.tensor] for operand in layer.inputs), weights, output,
            0, int(cycles[0]),
        )])  # fmt: skip
    return program


def _tile_buffer(
    ledger: Ledger, kind: str, step: int, name: str, channels: Channels, depth: int,
    tiles: list[tuple[int, int]], rows: int,
) -> int:  # fmt: skip
    # the first tile is as wide as any
    unit = rows * slice_row_bytes(ledger.site.network, name, tiles[0])
    return ledger.add(kind, name, depth, unit, step, step + 1, channels)


def _tiled_inputs(
    ledger: Ledger, step: int, candidate: Candidate, recipe: Recipe, chain: Chain,
    tiles: list[tuple[int, int]], program: Program,
) -> dict[str, int]:  # fmt: skip
    """Channelwise inputs come with each tile, the others whole with the first."""
    part = recipe.part or ledger.site.parts[candidate.first]
    layer = ledger.site.network.layers[part.layer]
    by_tile = tile_inputs(ledger.site.network, layer, recipe.height)
    inputs = input_channels(ledger.site.network, layer, part.channels)
    found: dict[str, int] = {}
    for name, need in chain.needs.items():
        rows = ledger.site.network.tensors[name].rows
        lies = source(ledger.site, candidate, name, inputs[name])
        if lies.map in candidate.reads:
            found[name] = ledger.map(lies.map, step)
        elif name in by_tile:
            found[name] = _tile_buffer(
                ledger, "channel_input", step, name, part.channels, recipe.depth, tiles, rows
            )
            for tile, channels in enumerate(tiles):
                program.loads[tile].append(
                    ledger.moves.map("load", lies.map, found[name], step, tile, (0, rows), channels)
                )
        else:
            found[name] = ledger.row_input(step, lies, need, 1, chain.cuts, program)
    return found


def _tiled_weights(
    ledger: Ledger, step: int, part: Part, recipe: Recipe, tiles: list[tuple[int, int]],
    program: Program,
) -> tuple[int, ...]:  # fmt: skip
    layer = ledger.site.network.layers[part.layer]
    if not layer.weight_bytes:
        return ()
    sizes = [channel_weight_bytes(layer, channels) for channels in tiles]
    stream = ledger.add(
        "weight_stream", layer.name, recipe.depth, max(sizes), step, step + 1, part.channels
    )
    for tile, (channels, size) in enumerate(zip(tiles, sizes, strict=True)):
        program.loads[tile].append(
            ledger.moves.weights(part.layer, stream, step, step, tile, channels, size)
        )
    return (stream,)


def _tiled_output(
    ledger: Ledger, step: int, candidate: Candidate, layer: Layer, part: Part, recipe: Recipe,
    tiles: list[tuple[int, int]], program: Program,
) -> int:  # fmt: skip
    kept, stored = targets(ledger.site, candidate, recipe, layer.output)
    if kept is not None:
        output = ledger.map(kept.map, step)
    else:
        lies = stored if stored is not None else Lies(-1, layer.output, part.channels)
        output = _tile_buffer(
            ledger,
            "channel_output",
            step,
            lies.tensor,
            lies.channels,
            recipe.depth,
            tiles,
            layer.rows,
        )
        program.rolling = {output}
    if stored is not None:
        shift = (stored.channels or (0, 0))[0] - (part.channels or (0, 0))[0]
        for tile, (begin, end) in enumerate(tiles):
            program.stores[tile].append(
                ledger.moves.map(
                    "store", stored.map, output, step, tile, (0, layer.rows),
                    (begin + shift, end + shift),
                )
            )  # fmt: skip
    return output


# ---------------------------------------------------------------- blocks


def block_program(ledger: Ledger, step: int, candidate: Candidate, recipe: Recipe) -> Program:
    """A step in stripes of rows outside and tiles of channels inside."""
    part = recipe.part or ledger.site.parts[candidate.first]
    layer, position = ledger.site.network.layers[part.layer], recipe.positions[0]
    found = blocks(ledger.site, position, part, (recipe.height,), recipe.width)
    tiles = [found.channels[column] for column in found.column.tolist()]
    program = Program(step_of(ledger.site, recipe, len(tiles)))
    program.loads, program.stores = [[] for _ in tiles], [[] for _ in tiles]
    buffers: dict[str, int] = {}
    inputs = input_channels(ledger.site.network, layer, part.channels)
    for name, need in found.chain.needs.items():
        lies = source(ledger.site, candidate, name, inputs[name])
        buffers[name] = (
            ledger.map(lies.map, step)
            if lies.map in candidate.reads
            else ledger.row_input(step, lies, need, recipe.depth, found.chain.cuts, program)
        )
    weights = _tiled_weights(ledger, step, part, recipe, tiles, program)
    output = _block_output(ledger, step, candidate, layer, part, recipe, found, program)
    rows, cycles = found.cuts.tiles, block_computes(ledger.site, layer, found)[0].tolist()
    for tile, channels in enumerate(tiles):
        program.computes.append([Compute(
            layer.name, step, tile, (int(rows.begin[tile]), int(rows.end[tile])), channels,
            tuple(buffers[operand.tensor] for operand in layer.inputs), weights, output,
            0, cycles[tile],
        )])  # fmt: skip
    return program


def _block_output(
    ledger: Ledger, step: int, candidate: Candidate, layer: Layer, part: Part, recipe: Recipe,
    found: Blocks, program: Program,
) -> int:  # fmt: skip
    kept, stored = targets(ledger.site, candidate, recipe, layer.output)
    rows, tiles = found.cuts.tiles, [found.channels[c] for c in found.column.tolist()]
    if kept is not None:
        output = ledger.map(kept.map, step)
    else:
        lies = stored if stored is not None else Lies(-1, layer.output, part.channels)
        tallest = int(rows.count.max())
        output = _tile_buffer(
            ledger, "channel_output", step, lies.tensor, lies.channels, recipe.depth, tiles, tallest
        )
        program.rolling = {output}
    if stored is not None:
        shift = (stored.channels or (0, 0))[0] - (part.channels or (0, 0))[0]
        for tile, own in row_spans(rows):
            begin, end = tiles[tile]
            program.stores[tile].append(
                ledger.moves.map(
                    "store", stored.map, output, step, tile, own, (begin + shift, end + shift)
                )
            )
    return output
