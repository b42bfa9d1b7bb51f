"""A decision spelled out: the buffers, transfers and tiles of every step, without addresses.

Everything that a plan touches becomes a record here, with its residency in steps and its rows or
channels; start cycles and SPM offsets follow (see `spm_opt.timeline` and `spm_opt.allocation`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from spm_opt.decision import Decision
from spm_opt.fusion import (
    Recipe,
    channel_cuts,
    layer_tile_cycles,
    part_cycles,
    recipe_chain,
    seen_columns,
)
from spm_opt.fusion_blocks import Blocks, block_computes, blocks
from spm_opt.fusion_borders import within
from spm_opt.fusion_sharing import (
    Sharing,
    Takeover,
    applied,
    plain_sharing,
    renewed_borders,
    sharing,
    takeovers,
)
from spm_opt.graph.network import Layer
from spm_opt.layout_moves import Moves, dram_addresses
from spm_opt.parts import Part
from spm_opt.parts_space import channel_weight_bytes, tile_inputs
from spm_opt.problem import Candidate, Problem
from spm_opt.schedule import Buffer, Compute, Step, Transfer
from spm_opt.site import Site
from spm_opt.tiling import (
    Chain,
    Channels,
    Rows,
    input_channels,
    slice_row_bytes,
    stored_rows,
    streamed_rows,
)

__all__ = ["Layout", "Program", "lay_out"]


@dataclass(slots=True)
class Program:
    """Commands of one step, in the order of their engines, without cycles.

    Attributes
    ----------
    step : Step
    front : list of Transfer
        Whole tensors that the step itself waits for.
    loads, stores : list of list of Transfer
        Stream transfers, one list a tile.
    computes : list of list of Compute
        One list a tile; ``start_cycle`` 0 and ``end_cycle`` the duration.
    after : list of Transfer
        Prefetches for later steps that may start here; they fill what the streams leave idle.
    rolling : set of int
        Output buffers that a later tile fills again.
    """

    step: Step
    front: list[Transfer] = field(default_factory=list)
    loads: list[list[Transfer]] = field(default_factory=list)
    stores: list[list[Transfer]] = field(default_factory=list)
    computes: list[list[Compute]] = field(default_factory=list)
    after: list[Transfer] = field(default_factory=list)
    rolling: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Layout:
    """All steps' programs and the buffers they use (offsets 0); `cuts` as in `Problem`."""

    buffers: list[Buffer]
    programs: list[Program]
    dram_addresses: dict[str, int]
    cuts: bool = True


def lay_out(
    site: Site, problem: Problem, recipes: tuple[Recipe, ...], decision: Decision,
    in_place: bool = True,
) -> Layout:  # fmt: skip
    """Spell `decision` out; with `in_place`, maps take over the bytes of those that die."""
    return _Writer(site, problem, recipes, decision, in_place).write()


class _Writer:
    """Writes one layout; holds the tables that its methods share."""

    def __init__(
        self, site: Site, problem: Problem, recipes: tuple[Recipe, ...], decision: Decision,
        in_place: bool,
    ) -> None:  # fmt: skip
        self.site, self.problem, self.recipes, self.decision = site, problem, recipes, decision
        self.in_place = in_place
        self.chosen = [problem.candidates[k] for k in decision.candidates]
        self.step_of = {c.first: s for s, c in enumerate(self.chosen)}
        self.own_step = {p: s for s, c in enumerate(self.chosen) for p in range(c.first, c.end)}
        self.buffers: list[Buffer] = []
        #: last step that reads the constants of each part, its own or of another band
        self.last_step = {p: self.own_step[p] for p in self.own_step}
        for part, owner in self._shared_constants().items():
            self.last_step[owner] = max(self.last_step[owner], self.own_step[part])
        #: whole maps: (map, step) to buffer; joined of its pieces or not, a map is one
        self.maps: dict[tuple[str, int], int] = {}
        self.weights: dict[int, int] = {}
        self.moves = Moves(site, dram_addresses(site, self.chosen, self._reloads()))

    def _reloads(self) -> Iterator[tuple[int, int]]:
        """Maps loaded whole, and the step before which that happens at the latest.

        The queue may put a load off until a step touches the map.
        """
        end_of = {(t, first): end for t, first, end in self.decision.resident}
        for t, leader in self.decision.reloads:
            yield t, self.step_of[end_of[t, leader] - 1] + 1

    def write(self) -> Layout:
        for t, first, end in self.decision.resident:
            self._whole_map(t, self.step_of[first], self.step_of[end - 1] + 1)
        for part, leader in enumerate(self.decision.weight_starts):
            if leader >= 0:
                self._whole_weights(part, self.step_of[leader], self.last_step[part] + 1)
        for part, owner in self._shared_constants().items():
            if owner in self.weights:
                self.weights[part] = self.weights[owner]
        programs = [self._program(s, c) for s, c in enumerate(self.chosen)]
        self._whole_loads(programs)
        return Layout(self.buffers, programs, self.moves.addresses, self.problem.cuts)

    # ---------------------------------------------------------------- whole tensors

    def _add(
        self, kind: str, tensor: str, count: int, unit: int, first: int, end: int,
        channels: Channels = None,
    ) -> int:  # fmt: skip
        suffix = "" if channels is None else f"[{channels[0]}:{channels[1]}]"
        name = f"{kind}:{tensor}{suffix}@{first}"
        size = self.site.aligned(count * unit)
        self.buffers.append(Buffer(name, kind, tensor, 0, size, count, unit, first, end, channels))
        return len(self.buffers) - 1

    def _whole_map(self, t: int, first: int, end: int) -> None:
        tensor = self.site.network.tensors[self.site.map_names[t]]
        index = self._add("map", tensor.name, tensor.rows, tensor.row_bytes, first, end)
        self.maps.update({(tensor.name, step): index for step in range(first, end)})

    def _map(self, t: int, step: int) -> int:
        """Buffer of a whole map in a step."""
        return self.maps[self.site.map_names[t], step]

    def _shared_constants(self) -> dict[int, int]:
        """Parts that read the constants of another one, of the same channels; and that one."""
        network, found = self.site.network, dict[int, int]()
        index = {layer.name: i for i, layer in enumerate(network.layers)}
        for position, (begin, end) in enumerate(self.site.spans):
            owner = self.site.layer_at(position).constants_of
            if owner is not None:
                first = self.site.spans[self.site.position[index[owner]]][0]
                found |= {part: first + part - begin for part in range(begin, end)}
        return found

    def _whole_weights(self, part: int, first: int, end: int) -> None:
        cut = self.site.parts[part]
        layer = self.site.network.layers[cut.layer]
        self.weights[part] = self._add(
            "weights", layer.name, 1, cut.weight_bytes, first, end, cut.channels
        )

    def _whole_loads(self, programs: list[Program]) -> None:
        early: list[tuple[int, int]] = []
        for part, leader in enumerate(self.decision.weight_starts):
            if leader >= 0:
                start, own = self.step_of[leader], self.own_step[part]
                if start < own:
                    early.append((part, start))
                else:
                    programs[own].front.append(self._weight_load(part, own, own))
        for t, leader in self.decision.reloads:
            step = self.step_of[leader]
            rows = (0, self.site.network.tensors[self.site.map_names[t]].rows)
            programs[step].front.append(
                self.moves.map("load", t, self._map(t, step), step, None, rows, None)
            )
        busy = [bool(p.front or any(p.loads) or any(p.stores)) for p in programs]
        for part, start in early:
            need = own = self.own_step[part]
            if not self.problem.cuts:
                # a step with transfers of its own finds the queue free
                need = next((s for s in range(start + 1, own) if busy[s]), own)
            programs[start].after.append(self._weight_load(part, start, need))

    def _weight_load(self, part: int, step: int, need_step: int) -> Transfer:
        cut = self.site.parts[part]
        return self.moves.weights(
            cut.layer, self.weights[part], step, need_step, None, cut.channels, cut.weight_bytes
        )

    # ---------------------------------------------------------------- steps

    def _program(self, step: int, candidate: Candidate) -> Program:
        recipe = self.recipes[candidate.recipe]
        if recipe.elided:
            return Program(self._step(recipe, 1), loads=[[]], stores=[[]], computes=[[]])
        if recipe.axis == "channels":
            return self._channel_program(step, candidate, recipe)
        if recipe.axis == "blocks":
            return self._block_program(step, candidate, recipe)
        return self._row_program(step, candidate, recipe)

    def _step(self, recipe: Recipe, tiles: int) -> Step:
        first, end = recipe.positions
        names = tuple(self.site.layer_at(p).name for p in range(first, end + recipe.tail))
        channels = None if recipe.part is None else recipe.part.channels
        return Step(names, channels, recipe.axis, tiles, recipe.depth, recipe.halo, 0, 0)

    def _row_program(self, step: int, candidate: Candidate, recipe: Recipe) -> Program:
        chain = recipe_chain(self.site, recipe)
        tiles = len(chain.computed[0].begin)
        program = Program(self._step(recipe, tiles))
        program.loads, program.stores = [[] for _ in range(tiles)], [[] for _ in range(tiles)]
        shared, taken = plain_sharing(self.site, chain), list[Takeover]()
        if recipe.part is None and self.in_place:
            found = takeovers(self.site, chain, recipe.halo)
            taken = applied(found, candidate.reads, candidate.keeps, 0)
            apart = frozenset(t.instead for t in taken if t.instead is not None)
            shared = sharing(self.site, chain, recipe.halo, apart)
        inputs = self._inputs(step, candidate, recipe, chain, program)
        outputs = self._outputs(step, candidate, recipe, chain, program, shared)
        for takeover in taken:
            index, dying = self._map(takeover.kept, step), self._map(takeover.dying, step)
            self.buffers[index] = replace(self.buffers[index], shares=dying)
        for new, old in renewed_borders(self.site, chain).items():
            index, dying = self.maps[new, step], self.maps[old, step]
            self.buffers[index] = replace(self.buffers[index], shares=dying)
        program.computes = [[] for _ in range(tiles)]
        buffers = inputs | outputs
        for i in sorted(shared.windows, reverse=True):
            window = self.site.network.layers[chain.layers[i]]
            buffers[window.output] = buffers[window.inputs[0].tensor]
        for i in shared.fills:
            copy = self.site.network.layers[chain.layers[i]]
            buffers[copy.output] = buffers[self.site.network.fills[copy.name][0]]
        for i in reversed(range(len(chain.layers))):
            if i in shared.elided:
                continue
            cycles = self._cycles(recipe, chain, i)
            for t in range(tiles):
                begin, end = int(chain.computed[i].begin[t]), int(chain.computed[i].end[t])
                if end > begin:
                    program.computes[t].append(
                        self._compute(step, t, chain.layers[i], (begin, end), recipe.part, buffers,
                                      int(cycles[t]))
                    )  # fmt: skip
        return program

    def _cycles(self, recipe: Recipe, chain: Chain, i: int) -> list[int]:
        if recipe.part is None:
            cycles: list[int] = layer_tile_cycles(self.site, chain, i).tolist()
            return cycles
        layer = self.site.network.layers[chain.layers[i]]
        channels = recipe.part.channels
        sliced: list[int] = part_cycles(self.site, layer, channels, chain).tolist()
        return sliced

    def _compute(
        self, step: int, tile: int, index: int, rows: tuple[int, int], part: Part | None,
        buffers: dict[str, int], cycles: int,
    ) -> Compute:  # fmt: skip
        layer = self.site.network.layers[index]
        parts = range(*self.site.spans[self.site.position[index]])
        if part is not None:
            parts = range(self.chosen[step].first, self.chosen[step].end)
        return Compute(
            layer.name, step, tile, rows, None if part is None else part.channels,
            tuple(buffers[operand.tensor] for operand in layer.inputs),
            tuple(self.weights[p] for p in parts if p in self.weights),
            buffers[layer.output], 0, cycles,
        )  # fmt: skip

    def _inputs(
        self, step: int, candidate: Candidate, recipe: Recipe, chain: Chain, program: Program
    ) -> dict[str, int]:
        found: dict[str, int] = {}
        channels = None if recipe.part is None else recipe.part.channels
        layer = self.site.layer_at(recipe.positions[0])
        cuts = seen_columns(self.site, chain)
        if channels is not None:
            cuts = input_channels(self.site.network, layer, channels)
        for name, need in chain.needs.items():
            lies = self._lies(candidate, name, cuts.get(name))
            if lies.map in candidate.reads:
                found[name] = self._map(lies.map, step)
                continue
            found[name] = self._row_input(step, lies, need, recipe.depth, chain, program)
        return found

    def _lies(self, candidate: Candidate, name: str, channels: Channels) -> _Lies:
        """Where a candidate finds the operand `name`: by itself, or in the map that holds it."""
        t = self.site.map_index[name]
        if t in candidate.reads or t in candidate.streams:
            return _Lies(t, name, channels)
        place = self.site.read_from[name]
        return _Lies(place.map, place.tensor, within(place, channels))

    def _row_input(
        self, step: int, lies: _Lies, need: Rows, depth: int, chain: Chain, program: Program
    ) -> int:
        """A map streamed by rows, all its channels or those of a slice or piece."""
        extent = self.site.network.tensors[lies.tensor].rows
        loads, held = streamed_rows(need, extent, depth, chain.cuts)
        buffer = self._row_buffer("input", step, lies.tensor, int(held[0]), lies.channels)
        channels = self._loaded(chain, lies)
        for tile, rows in _spans(loads):
            program.loads[tile].append(
                self.moves.map("load", lies.map, buffer, step, tile, rows, channels)
            )
        return buffer

    def _loaded(self, chain: Chain, lies: _Lies) -> Channels:
        """What comes from DRAM of a map that is streamed: not the border that a band kept."""
        network = self.site.network
        fills = (network.fills.get(network.layers[index].name) for index in chain.layers)
        border = next((f[1] for f in fills if f is not None and f[0] == lies.tensor), None)
        if border is None or lies.channels is None:
            return lies.channels
        return border[1], lies.channels[1]

    def _row_buffer(self, kind: str, step: int, name: str, held: int, channels: Channels) -> int:
        row_bytes = slice_row_bytes(self.site.network, name, channels)
        return self._add(kind, name, held, row_bytes, step, step + 1, channels)

    def _outputs(
        self, step: int, candidate: Candidate, recipe: Recipe, chain: Chain, program: Program,
        shared: Sharing,
    ) -> dict[str, int]:  # fmt: skip
        """Buffers of the layers' outputs; stores out of rolling buffers before the others."""
        buffers: dict[int, int] = {}
        rolling: list[tuple[int, _Lies]] = []
        written: list[tuple[int, _Lies]] = []
        for i, index in enumerate(chain.layers):
            if shared.free(i):
                continue
            kept, stored = self._goes(candidate, recipe, self.site.network.layers[index].output)
            if kept is not None:
                buffers[i] = self._map(kept.map, step)
                written += [(i, stored)] if stored is not None else []
            elif stored is not None:
                buffers[i] = self._output_buffer(step, recipe, chain, i, stored)
                rolling.append((i, stored))
            else:
                held = int(chain.held[i][0])
                name = self.site.network.layers[index].output
                buffers[i] = self._row_buffer("stripe", step, name, held, None)
        self._shared_buffers(step, chain, shared, buffers)
        program.rolling = {buffers[i] for i, _ in rolling}
        for i, lies in rolling + written:
            for tile, rows in _spans(stored_rows(chain, i, recipe.depth)[0]):
                program.stores[tile].append(
                    self.moves.map("store", lies.map, buffers[i], step, tile, rows, lies.channels)
                )
        names = [self.site.network.layers[index].output for index in chain.layers]
        return {names[i]: buffer for i, buffer in buffers.items()}

    def _goes(
        self, candidate: Candidate, recipe: Recipe, name: str
    ) -> tuple[_Lies | None, _Lies | None]:
        """Where a candidate keeps the output `name`, and where it stores it."""
        channels = None if recipe.part is None else recipe.part.channels
        own, place = self.site.map_index[name], self.site.written_into.get(name)
        options = [_Lies(own, name, channels)]
        if place is not None:
            options.append(_Lies(place.map, place.tensor, within(place, channels)))
        kept = [lies for lies in options if lies.map in candidate.keeps]
        stored = [lies for lies in options if lies.map in candidate.stores]
        return (kept[0] if kept else None), (stored[0] if stored else None)

    def _shared_buffers(
        self, step: int, chain: Chain, shared: Sharing, buffers: dict[int, int]
    ) -> None:
        """Pieces lie in the joined map's buffer; what is written over has its bytes."""
        # whoever reads a layer stands before it in the chain, so its buffer is known
        for i, host in sorted((shared.inside | shared.over).items()):
            buffers[i] = buffers[host]
            if i in shared.over:
                name = self.site.network.layers[chain.layers[i]].output
                count = self.buffers[buffers[host]].count
                buffers[i] = self._row_buffer("stripe", step, name, count, None)
                self.buffers[buffers[i]] = replace(self.buffers[buffers[i]], shares=buffers[host])

    def _output_buffer(
        self, step: int, recipe: Recipe, chain: Chain, i: int, lies: _Lies
    ) -> int:  # fmt: skip
        held = int(stored_rows(chain, i, recipe.depth)[1][0])
        return self._row_buffer("output", step, lies.tensor, held, lies.channels)

    # ---------------------------------------------------------------- channel tiles

    def _channel_program(self, step: int, candidate: Candidate, recipe: Recipe) -> Program:
        part = recipe.part or self.site.parts[candidate.first]
        layer = self.site.network.layers[part.layer]
        cuts = channel_cuts(layer, part, (recipe.height,))
        tiles = [channels for _, channels in _spans(cuts.tiles)]
        program = Program(self._step(recipe, len(tiles)))
        program.loads, program.stores = [[] for _ in tiles], [[] for _ in tiles]
        chain = recipe_chain(self.site, recipe)
        buffers = self._tiled_inputs(step, candidate, recipe, chain, tiles, program)
        weights = self._tiled_weights(step, part, recipe, tiles, program)
        output = self._tiled_output(step, candidate, layer, part, recipe, tiles, program)
        for tile, channels in enumerate(tiles):
            cycles = part_cycles(self.site, layer, channels, chain)
            program.computes.append([Compute(
                layer.name, step, tile, (0, layer.rows), channels,
                tuple(buffers[operand.tensor] for operand in layer.inputs), weights, output,
                0, int(cycles[0]),
            )])  # fmt: skip
        return program

    def _tile_buffer(
        self, kind: str, step: int, name: str, channels: Channels, depth: int,
        tiles: list[tuple[int, int]], rows: int,
    ) -> int:  # fmt: skip
        # the first tile is as wide as any
        unit = rows * slice_row_bytes(self.site.network, name, tiles[0])
        return self._add(kind, name, depth, unit, step, step + 1, channels)

    def _tiled_inputs(
        self, step: int, candidate: Candidate, recipe: Recipe, chain: Chain,
        tiles: list[tuple[int, int]], program: Program,
    ) -> dict[str, int]:  # fmt: skip
        """Channelwise inputs come with each tile, the others whole with the first."""
        part = recipe.part or self.site.parts[candidate.first]
        layer = self.site.network.layers[part.layer]
        by_tile = tile_inputs(self.site.network, layer, recipe.height)
        inputs = input_channels(self.site.network, layer, part.channels)
        found: dict[str, int] = {}
        for name, need in chain.needs.items():
            rows = self.site.network.tensors[name].rows
            lies = self._lies(candidate, name, inputs[name])
            if lies.map in candidate.reads:
                found[name] = self._map(lies.map, step)
            elif name in by_tile:
                found[name] = self._tile_buffer(
                    "channel_input", step, name, part.channels, recipe.depth, tiles, rows
                )
                for tile, channels in enumerate(tiles):
                    program.loads[tile].append(
                        self.moves.map(
                            "load", lies.map, found[name], step, tile, (0, rows), channels
                        )
                    )
            else:
                found[name] = self._row_input(step, lies, need, 1, chain, program)
        return found

    def _tiled_weights(
        self, step: int, part: Part, recipe: Recipe, tiles: list[tuple[int, int]], program: Program
    ) -> tuple[int, ...]:
        layer = self.site.network.layers[part.layer]
        if not layer.weight_bytes:
            return ()
        sizes = [channel_weight_bytes(layer, channels) for channels in tiles]
        stream = self._add(
            "weight_stream", layer.name, recipe.depth, max(sizes), step, step + 1, part.channels
        )
        for tile, (channels, size) in enumerate(zip(tiles, sizes, strict=True)):
            program.loads[tile].append(
                self.moves.weights(part.layer, stream, step, step, tile, channels, size)
            )
        return (stream,)

    def _tiled_output(
        self, step: int, candidate: Candidate, layer: Layer, part: Part, recipe: Recipe,
        tiles: list[tuple[int, int]], program: Program,
    ) -> int:  # fmt: skip
        kept, stored = self._goes(candidate, recipe, layer.output)
        if kept is not None:
            output = self._map(kept.map, step)
        else:
            lies = stored if stored is not None else _Lies(-1, layer.output, part.channels)
            output = self._tile_buffer(
                "channel_output", step, lies.tensor, lies.channels, recipe.depth, tiles, layer.rows
            )
            program.rolling = {output}
        if stored is not None:
            shift = (stored.channels or (0, 0))[0] - (part.channels or (0, 0))[0]
            for tile, (begin, end) in enumerate(tiles):
                program.stores[tile].append(
                    self.moves.map(
                        "store", stored.map, output, step, tile, (0, layer.rows),
                        (begin + shift, end + shift),
                    )
                )  # fmt: skip
        return output

    # ---------------------------------------------------------------- blocks

    def _block_program(self, step: int, candidate: Candidate, recipe: Recipe) -> Program:
        part = recipe.part or self.site.parts[candidate.first]
        layer, position = self.site.network.layers[part.layer], recipe.positions[0]
        found = blocks(self.site, position, part, (recipe.height,), recipe.width)
        tiles = [found.channels[column] for column in found.column.tolist()]
        program = Program(self._step(recipe, len(tiles)))
        program.loads, program.stores = [[] for _ in tiles], [[] for _ in tiles]
        buffers: dict[str, int] = {}
        inputs = input_channels(self.site.network, layer, part.channels)
        for name, need in found.chain.needs.items():
            lies = self._lies(candidate, name, inputs[name])
            buffers[name] = (
                self._map(lies.map, step)
                if lies.map in candidate.reads
                else self._row_input(step, lies, need, recipe.depth, found.chain, program)
            )
        weights = self._tiled_weights(step, part, recipe, tiles, program)
        output = self._block_output(step, candidate, layer, part, recipe, found, program)
        rows, cycles = found.cuts.tiles, block_computes(self.site, layer, found)[0].tolist()
        for tile, channels in enumerate(tiles):
            program.computes.append([Compute(
                layer.name, step, tile, (int(rows.begin[tile]), int(rows.end[tile])), channels,
                tuple(buffers[operand.tensor] for operand in layer.inputs), weights, output,
                0, cycles[tile],
            )])  # fmt: skip
        return program

    def _block_output(
        self, step: int, candidate: Candidate, layer: Layer, part: Part, recipe: Recipe,
        found: Blocks, program: Program,
    ) -> int:  # fmt: skip
        kept, stored = self._goes(candidate, recipe, layer.output)
        rows, tiles = found.cuts.tiles, [found.channels[c] for c in found.column.tolist()]
        if kept is not None:
            output = self._map(kept.map, step)
        else:
            lies = stored if stored is not None else _Lies(-1, layer.output, part.channels)
            tallest = int(rows.count.max())
            output = self._tile_buffer(
                "channel_output", step, lies.tensor, lies.channels, recipe.depth, tiles, tallest
            )
            program.rolling = {output}
        if stored is not None:
            shift = (stored.channels or (0, 0))[0] - (part.channels or (0, 0))[0]
            for tile, own in _spans(rows):
                begin, end = tiles[tile]
                program.stores[tile].append(
                    self.moves.map(
                        "store", stored.map, output, step, tile, own, (begin + shift, end + shift)
                    )
                )
        return output


@dataclass(frozen=True, slots=True)
class _Lies:
    """A map, or some channels of it, that an operand or output is."""

    map: int
    tensor: str
    channels: Channels


def _spans(rows: Rows) -> list[tuple[int, tuple[int, int]]]:
    """Tiles with rows, and their rows."""
    pairs = zip(rows.begin.tolist(), rows.end.tolist(), strict=True)
    return [(tile, (begin, end)) for tile, (begin, end) in enumerate(pairs) if end > begin]
