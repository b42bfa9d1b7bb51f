"""A decision spelled out: the buffers, transfers and tiles of every step, without addresses.

Everything that a plan touches becomes a record here, with its residency in steps and its rows or
channels; start cycles and SPM offsets follow (see `spm_opt.timeline` and `spm_opt.allocation`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from spm_opt.decision import Decision
from spm_opt.fusion import Recipe, layer_tile_cycles, part_cycles, recipe_chain, seen_columns
from spm_opt.fusion_sharing import (
    Sharing,
    Takeover,
    applied,
    plain_sharing,
    renewed_borders,
    sharing,
    takeovers,
)
from spm_opt.layout_channels import tile_program
from spm_opt.layout_ledger import Ledger, Lies, Program, row_spans, source, step_of, targets
from spm_opt.layout_moves import Moves, dram_addresses
from spm_opt.layout_sums import sum_program
from spm_opt.parts import Part
from spm_opt.problem import Candidate, Problem
from spm_opt.schedule import Buffer, Compute, Transfer
from spm_opt.site import Site
from spm_opt.tiling import Chain, Channels, input_channels, stored_rows

__all__ = ["Layout", "Program", "lay_out"]


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
        #: last step that reads the constants of each part, its own or of another band
        self.last_step = {p: self.own_step[p] for p in self.own_step}
        for part, owner in self._shared_constants().items():
            self.last_step[owner] = max(self.last_step[owner], self.own_step[part])
        self.weights: dict[int, int] = {}
        addresses = dram_addresses(site, self.chosen, self._reloads())
        self.ledger = Ledger(site, Moves(site, addresses))

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
        return Layout(self.ledger.buffers, programs, self.ledger.moves.addresses, self.problem.cuts)

    # ---------------------------------------------------------------- whole tensors

    def _whole_map(self, t: int, first: int, end: int) -> None:
        tensor = self.site.network.tensors[self.site.map_names[t]]
        index = self.ledger.add("map", tensor.name, tensor.rows, tensor.row_bytes, first, end)
        self.ledger.maps.update({(tensor.name, step): index for step in range(first, end)})

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
        self.weights[part] = self.ledger.add(
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
                self.ledger.moves.map("load", t, self.ledger.map(t, step), step, None, rows, None)
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
        return self.ledger.moves.weights(
            cut.layer, self.weights[part], step, need_step, None, cut.channels, cut.weight_bytes
        )

    # ---------------------------------------------------------------- steps

    def _program(self, step: int, candidate: Candidate) -> Program:
        recipe = self.recipes[candidate.recipe]
        if recipe.elided:
            return Program(step_of(self.site, recipe, 1), loads=[[]], stores=[[]], computes=[[]])
        if recipe.axis == "sums":
            return sum_program(self.ledger, step, candidate, recipe)
        if recipe.axis in ("channels", "blocks"):
            return tile_program(self.ledger, step, candidate, recipe)
        return self._row_program(step, candidate, recipe)

    def _row_program(self, step: int, candidate: Candidate, recipe: Recipe) -> Program:
        chain = recipe_chain(self.site, recipe)
        tiles = len(chain.computed[0].begin)
        program = Program(step_of(self.site, recipe, tiles))
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
            self._share(self.ledger.map(takeover.kept, step), self.ledger.map(takeover.dying, step))
        for new, old in renewed_borders(self.site, chain).items():
            self._share(self.ledger.maps[new, step], self.ledger.maps[old, step])
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
            lies = source(self.site, candidate, name, cuts.get(name))
            if lies.map in candidate.reads:
                found[name] = self.ledger.map(lies.map, step)
                continue
            found[name] = self.ledger.row_input(
                step, lies, need, recipe.depth, chain.cuts, program, self._loaded(chain, lies)
            )
        return found

    def _loaded(self, chain: Chain, lies: Lies) -> Channels:
        """What comes from DRAM of a map that is streamed: not the border that a band kept."""
        network = self.site.network
        fills = (network.fills.get(network.layers[index].name) for index in chain.layers)
        border = next((f[1] for f in fills if f is not None and f[0] == lies.tensor), None)
        if border is None or lies.channels is None:
            return lies.channels
        return border[1], lies.channels[1]

    def _outputs(
        self, step: int, candidate: Candidate, recipe: Recipe, chain: Chain, program: Program,
        shared: Sharing,
    ) -> dict[str, int]:  # fmt: skip
        """Buffers of the layers' outputs; stores out of rolling buffers before the others."""
        buffers: dict[int, int] = {}
        rolling: list[tuple[int, Lies]] = []
        written: list[tuple[int, Lies]] = []
        for i, index in enumerate(chain.layers):
            if shared.free(i):
                continue
            name = self.site.network.layers[index].output
            kept, stored = targets(self.site, candidate, recipe, name)
            if kept is not None:
                buffers[i] = self.ledger.map(kept.map, step)
                written += [(i, stored)] if stored is not None else []
            elif stored is not None:
                buffers[i] = self._output_buffer(step, recipe, chain, i, stored)
                rolling.append((i, stored))
            else:
                held = int(chain.held[i][0])
                buffers[i] = self.ledger.row_buffer("stripe", step, name, held, None)
        self._shared_buffers(step, chain, shared, buffers)
        program.rolling = {buffers[i] for i, _ in rolling}
        for i, lies in rolling + written:
            for tile, rows in row_spans(stored_rows(chain, i, recipe.depth)[0]):
                program.stores[tile].append(
                    self.ledger.moves.map(
                        "store", lies.map, buffers[i], step, tile, rows, lies.channels
                    )
                )
        names = [self.site.network.layers[index].output for index in chain.layers]
        return {names[i]: buffer for i, buffer in buffers.items()}

    def _shared_buffers(
        self, step: int, chain: Chain, shared: Sharing, buffers: dict[int, int]
    ) -> None:
        """Pieces lie in the joined map's buffer; what is written over has its bytes."""
        # whoever reads a layer stands before it in the chain, so its buffer is known
        for i, host in sorted((shared.inside | shared.over).items()):
            buffers[i] = buffers[host]
            if i in shared.over:
                name = self.site.network.layers[chain.layers[i]].output
                count = self.ledger.buffers[buffers[host]].count
                buffers[i] = self.ledger.row_buffer("stripe", step, name, count, None)
                self.ledger.buffers[buffers[i]] = replace(
                    self.ledger.buffers[buffers[i]], shares=buffers[host]
                )

    def _share(self, number: int, host: int) -> None:
        """Let a buffer take over another one's bytes."""
        self.ledger.buffers[number] = replace(self.ledger.buffers[number], shares=host)

    def _output_buffer(
        self, step: int, recipe: Recipe, chain: Chain, i: int, lies: Lies
    ) -> int:  # fmt: skip
        held = int(stored_rows(chain, i, recipe.depth)[1][0])
        return self.ledger.row_buffer("output", step, lies.tensor, held, lies.channels)
