"""What every step of a layout is written with: the records so far, and where maps lie.

Steps are written by `spm_opt.layout` (rows) and `spm_opt.layout_channels` (channel tiles, blocks).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from spm_opt.fusion import Recipe
from spm_opt.fusion_borders import within
from spm_opt.layout_moves import Moves
from spm_opt.problem import Candidate
from spm_opt.schedule import Buffer, Compute, Step, Transfer
from spm_opt.site import Site
from spm_opt.tiling import Channels, Cuttings, Rows, slice_row_bytes, streamed_rows


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


@dataclass(frozen=True, slots=True)
class Lies:
    """A map, or some channels of it, that an operand or output is."""

    map: int
    tensor: str
    channels: Channels


@dataclass(slots=True)
class Ledger:
    """Buffers and transfers as they are written.

    Attributes
    ----------
    maps : dict of (str, int) to int
        Buffers of whole maps by map and step; joined of its pieces or not, a map is one.
    """

    site: Site
    moves: Moves
    buffers: list[Buffer] = field(default_factory=list)
    maps: dict[tuple[str, int], int] = field(default_factory=dict)

    def add(
        self, kind: str, tensor: str, count: int, unit: int, first: int, end: int,
        channels: Channels = None,
    ) -> int:  # fmt: skip
        """A new buffer for steps ``[first, end)``; its number."""
        suffix = "" if channels is None else f"[{channels[0]}:{channels[1]}]"
        name = f"{kind}:{tensor}{suffix}@{first}"
        size = self.site.aligned(count * unit)
        self.buffers.append(Buffer(name, kind, tensor, 0, size, count, unit, first, end, channels))
        return len(self.buffers) - 1

    def map(self, t: int, step: int) -> int:
        """Buffer of a whole map in a step."""
        return self.maps[self.site.map_names[t], step]

    def row_buffer(self, kind: str, step: int, name: str, held: int, channels: Channels) -> int:
        """A buffer of rows that one step has."""
        row_bytes = slice_row_bytes(self.site.network, name, channels)
        return self.add(kind, name, held, row_bytes, step, step + 1, channels)

    def row_input(
        self, step: int, lies: Lies, need: Rows, depth: int, cuts: Cuttings, program: Program,
        moved: Channels = None,
    ) -> int:  # fmt: skip
        """A map streamed by rows, all its channels or those of a slice or piece.

        Of these, no others than `moved` come from DRAM.
        """
        extent = self.site.network.tensors[lies.tensor].rows
        loads, held = streamed_rows(need, extent, depth, cuts)
        buffer = self.row_buffer("input", step, lies.tensor, int(held[0]), lies.channels)
        for tile, rows in row_spans(loads):
            program.loads[tile].append(
                self.moves.map("load", lies.map, buffer, step, tile, rows, moved or lies.channels)
            )
        return buffer


def step_of(site: Site, recipe: Recipe, tiles: int) -> Step:
    """A recipe's step, not yet timed."""
    first, end = recipe.positions
    names = tuple(site.layer_at(p).name for p in range(first, end + recipe.tail))
    channels = None if recipe.part is None else recipe.part.channels
    return Step(names, channels, recipe.axis, tiles, recipe.depth, recipe.halo, 0, 0)


def source(site: Site, candidate: Candidate, name: str, channels: Channels) -> Lies:
    """Where a candidate finds the operand `name`: by itself, or in the map that holds it."""
    t = site.map_index[name]
    if t in candidate.reads or t in candidate.streams:
        return Lies(t, name, channels)
    place = site.read_from[name]
    return Lies(place.map, place.tensor, within(place, channels))


def targets(
    site: Site, candidate: Candidate, recipe: Recipe, name: str
) -> tuple[Lies | None, Lies | None]:
    """Where a candidate keeps the output `name`, and where it stores it."""
    channels = None if recipe.part is None else recipe.part.channels
    own, place = site.map_index[name], site.written_into.get(name)
    options = [Lies(own, name, channels)]
    if place is not None:
        options.append(Lies(place.map, place.tensor, within(place, channels)))
    kept = [lies for lies in options if lies.map in candidate.keeps]
    stored = [lies for lies in options if lies.map in candidate.stores]
    return (kept[0] if kept else None), (stored[0] if stored else None)


def row_spans(rows: Rows) -> list[tuple[int, tuple[int, int]]]:
    """Tiles with rows, and their rows."""
    pairs = zip(rows.begin.tolist(), rows.end.tolist(), strict=True)
    return [(tile, (begin, end)) for tile, (begin, end) in enumerate(pairs) if end > begin]
