"""A decision spelled out: the buffers, transfers and tiles of every step, without addresses.

Everything that a plan touches becomes a record here, with its residency in steps and its rows or
channels; start cycles and SPM offsets follow (see `spm_opt.timeline` and `spm_opt.allocation`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from spm_opt.decision import Decision
from spm_opt.fusion import (
    Recipe,
    channel_cuts,
    layer_tile_cycles,
    part_cycles,
    recipe_chain,
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
        Prefetches for later steps that start here.
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
    """All steps' programs and the buffers they use (offsets 0)."""

    buffers: list[Buffer]
    programs: list[Program]
    dram_addresses: dict[str, int]


def lay_out(
    site: Site, problem: Problem, recipes: tuple[Recipe, ...], decision: Decision
) -> Layout:
    """Spell `decision` out."""
    return _Writer(site, problem, recipes, decision).write()


class _Writer:
    """Writes one layout; holds the tables that its methods share."""

    def __init__(
        self, site: Site, problem: Problem, recipes: tuple[Recipe, ...], decision: Decision
    ) -> None:
        self.site, self.problem, self.recipes, self.decision = site, problem, recipes, decision
        self.chosen = [problem.candidates[k] for k in decision.candidates]
        self.step_of = {c.first: s for s, c in enumerate(self.chosen)}
        self.own_step = {p: s for s, c in enumerate(self.chosen) for p in range(c.first, c.end)}
        self.buffers: list[Buffer] = []
        #: whole maps: (map, step) to buffer
        self.maps: dict[tuple[int, int], int] = {}
        self.weights: dict[int, int] = {}
        self.moves = Moves(site, dram_addresses(site, self.chosen))

    def write(self) -> Layout:
        for t, first, end in self.decision.resident:
            self._whole_map(t, self.step_of[first], self.step_of[end - 1] + 1)
        for part, leader in enumerate(self.decision.weight_starts):
            if leader >= 0:
                self._whole_weights(part, self.step_of[leader], self.own_step[part] + 1)
        programs = [self._program(s, c) for s, c in enumerate(self.chosen)]
        self._whole_loads(programs)
        return Layout(self.buffers, programs, self.moves.addresses)

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
        self.maps.update({(t, step): index for step in range(first, end)})

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
                self.moves.map("load", t, self.maps[t, step], step, None, rows, None)
            )
        busy = [bool(p.front or any(p.loads) or any(p.stores)) for p in programs]
        for part, start in early:
            # the plan space: a step with transfers of its own finds the queue free
            own = self.own_step[part]
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
        if recipe.axis == "channels":
            return self._channel_program(step, candidate, recipe)
        return self._row_program(step, candidate, recipe)

    def _step(self, recipe: Recipe, tiles: int) -> Step:
        names = tuple(self.site.layer_at(p).name for p in range(*recipe.positions))
        channels = None if recipe.part is None else recipe.part.channels
        return Step(names, channels, recipe.axis, tiles, recipe.depth, recipe.halo, 0, 0)

    def _row_program(self, step: int, candidate: Candidate, recipe: Recipe) -> Program:
        chain = recipe_chain(self.site, recipe)
        tiles = len(chain.computed[0].begin)
        program = Program(self._step(recipe, tiles))
        program.loads, program.stores = [[] for _ in range(tiles)], [[] for _ in range(tiles)]
        inputs = self._inputs(step, candidate, recipe, chain, program)
        outputs = self._outputs(step, candidate, recipe, chain, program)
        program.computes = [[] for _ in range(tiles)]
        buffers = inputs | outputs
        for i in reversed(range(len(chain.layers))):
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
        cuts = {} if channels is None else input_channels(self.site.network, layer, channels)
        for name, need in chain.needs.items():
            t = self.site.map_index[name]
            if t in candidate.reads:
                found[name] = self.maps[t, step]
                continue
            found[name] = self._row_input(
                step, name, need, recipe.depth, chain, cuts.get(name), program
            )
        return found

    def _row_input(
        self, step: int, name: str, need: Rows, depth: int, chain: Chain, channels: Channels,
        program: Program,
    ) -> int:  # fmt: skip
        """A map streamed by rows, all its channels or those of a slice."""
        extent = self.site.network.tensors[name].rows
        loads, held = streamed_rows(need, extent, depth, chain.cuts)
        buffer = self._row_buffer("input", step, name, int(held[0]), channels)
        for tile, rows in _spans(loads):
            program.loads[tile].append(
                self.moves.map(
                    "load", self.site.map_index[name], buffer, step, tile, rows, channels
                )
            )
        return buffer

    def _row_buffer(self, kind: str, step: int, name: str, held: int, channels: Channels) -> int:
        row_bytes = slice_row_bytes(self.site.network, name, channels)
        return self._add(kind, name, held, row_bytes, step, step + 1, channels)

    def _outputs(
        self, step: int, candidate: Candidate, recipe: Recipe, chain: Chain, program: Program
    ) -> dict[str, int]:
        """Buffers of the layers' outputs; stores out of rolling buffers before the others."""
        found: dict[str, int] = {}
        rolling: list[tuple[int, int]] = []
        written: list[tuple[int, int]] = []
        for i, index in enumerate(chain.layers):
            name = self.site.network.layers[index].output
            t = self.site.map_index[name]
            if t in candidate.keeps:
                found[name] = self.maps[t, step]
                written += [(t, i)] if t in candidate.stores else []
            elif t in candidate.stores:
                found[name] = self._output_buffer(step, recipe, chain, i)
                rolling.append((t, i))
            else:
                held = int(chain.held[i][0])
                found[name] = self._row_buffer("stripe", step, name, held, None)
        channels = None if recipe.part is None else recipe.part.channels
        program.rolling = {found[self.site.map_names[t]] for t, _ in rolling}
        for t, i in rolling + written:
            buffer = found[self.site.map_names[t]]
            for tile, rows in _spans(stored_rows(chain, i, recipe.depth)[0]):
                program.stores[tile].append(
                    self.moves.map("store", t, buffer, step, tile, rows, channels)
                )
        return found

    def _output_buffer(self, step: int, recipe: Recipe, chain: Chain, i: int) -> int:
        name = self.site.network.layers[chain.layers[i]].output
        held = int(stored_rows(chain, i, recipe.depth)[1][0])
        channels = None if recipe.part is None else recipe.part.channels
        return self._row_buffer("output", step, name, held, channels)

    # ---------------------------------------------------------------- channel tiles

    def _channel_program(self, step: int, candidate: Candidate, recipe: Recipe) -> Program:
        part = self.site.parts[candidate.first]
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
        self, kind: str, step: int, name: str, part: Part, depth: int, tiles: list[tuple[int, int]]
    ) -> int:
        # the first tile is as wide as any
        row_bytes = slice_row_bytes(self.site.network, name, tiles[0])
        unit = self.site.network.tensors[name].rows * row_bytes
        return self._add(kind, name, depth, unit, step, step + 1, part.channels)

    def _tiled_inputs(
        self, step: int, candidate: Candidate, recipe: Recipe, chain: Chain,
        tiles: list[tuple[int, int]], program: Program,
    ) -> dict[str, int]:  # fmt: skip
        """Channelwise inputs come with each tile, the others whole with the first."""
        part = self.site.parts[candidate.first]
        layer = self.site.network.layers[part.layer]
        by_tile = tile_inputs(self.site.network, layer, recipe.height)
        inputs = input_channels(self.site.network, layer, part.channels)
        found: dict[str, int] = {}
        for name, need in chain.needs.items():
            t, rows = self.site.map_index[name], self.site.network.tensors[name].rows
            if t in candidate.reads:
                found[name] = self.maps[t, step]
            elif name in by_tile:
                found[name] = self._tile_buffer(
                    "channel_input", step, name, part, recipe.depth, tiles
                )
                for tile, channels in enumerate(tiles):
                    program.loads[tile].append(
                        self.moves.map("load", t, found[name], step, tile, (0, rows), channels)
                    )
            else:
                found[name] = self._row_input(step, name, need, 1, chain, inputs[name], program)
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
        t = self.site.map_index[layer.output]
        if t in candidate.keeps:
            output = self.maps[t, step]
        else:
            output = self._tile_buffer(
                "channel_output", step, layer.output, part, recipe.depth, tiles
            )
            program.rolling = {output}
        if t in candidate.stores:
            for tile, channels in enumerate(tiles):
                program.stores[tile].append(
                    self.moves.map("store", t, output, step, tile, (0, layer.rows), channels)
                )
        return output


def _spans(rows: Rows) -> list[tuple[int, tuple[int, int]]]:
    """Tiles with rows, and their rows."""
    pairs = zip(rows.begin.tolist(), rows.end.tolist(), strict=True)
    return [(tile, (begin, end)) for tile, (begin, end) in enumerate(pairs) if end > begin]
