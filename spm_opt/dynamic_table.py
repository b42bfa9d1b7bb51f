"""What the dynamic programme moves its labels by: blocks of candidates, and what was kept so far.

Shared by the search (`spm_opt.dynamic`) and its two clocks: with barriers between steps
(`spm_opt.dynamic_barriers`), and without (`spm_opt.dynamic_overlap`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from spm_opt.dynamic_leaving import Leaving, Residency, bits
from spm_opt.problem import Candidate, FeatureMap, Problem, written

Ints = NDArray[np.int64]

#: labels of one boundary and residency, one a column. Rows: cost, how far the queue is, number of
#: the label before, candidate and move that led here; the rest belongs to the clock
Labels: TypeAlias = Ints
COST, PROGRESS, PARENT, CANDIDATE, MOVE = range(5)
#: the first row that belongs to the clock
OWN: Final = 5


@dataclass(frozen=True, slots=True)
class Prices:
    """Weights of the costs in the sum that is minimised; some of them may be 0.

    ``per_fj`` is that of energy without leakage, which is a price of cycles.
    """

    per_cycle: int
    per_byte: int
    per_fj: int = 0

    def step(self, candidate: Candidate) -> int:
        """What a candidate adds, whatever its cycles."""
        return self.per_byte * candidate.dram_bytes + self.per_fj * candidate.energy_fj

    def reload(self, feature_map: FeatureMap) -> int:
        """What loading a map whole adds, whatever its cycles."""
        return self.per_byte * feature_map.reload_bytes + self.per_fj * feature_map.reload_fj


@dataclass(frozen=True, slots=True)
class Needs:
    """What a family asks of a residency, maps as bits; written maps are those begun before it."""

    reads: int
    streams: int
    written: int
    keeps: int
    stores: int
    whole: int

    def met(self, in_spm: int, in_dram: int, reload: bool) -> bool:
        """Whether the family can run where these maps lie in SPM and in DRAM."""
        absent = self.reads & ~in_spm
        if (self.streams | absent) & ~in_dram or absent & ~self.whole or (absent and not reload):
            return False
        # whoever writes a part of a map shares one choice
        return in_spm & self.written == self.keeps and in_dram & self.written == self.stores


@dataclass(frozen=True, slots=True)
class Block:
    """Candidates that begin at one part, sorted into families that share end and residency.

    Attributes
    ----------
    samples : tuple of Candidate
        One of each family.
    needs : tuple of Needs
        What each family asks for.
    family, index, duration, dma, work, price : int64 array (candidates,)
        Family and number of each candidate, and its prices; `price` is `Prices.step`.
    window, queue, first, ahead, behind, early, late, enter : int64 array (candidates,)
    tile_space, tile_first, tile_ahead : int64 array (candidates,)
        Prices where steps overlap, in the order of `Overlap`.
    compute : int64 array (candidates,)
    end, own_space : int64 array (candidates,)
        Part where it ends, and space of the constants that it holds.
    streamed : bool array (candidates,)
        Whether its constants are streamed.
    """

    samples: tuple[Candidate, ...]
    needs: tuple[Needs, ...]
    family: Ints
    index: Ints
    duration: Ints
    dma: Ints
    work: Ints
    price: Ints
    window: Ints
    queue: Ints
    first: Ints
    ahead: Ints
    behind: Ints
    early: Ints
    late: Ints
    enter: Ints
    tile_space: Ints
    tile_first: Ints
    tile_ahead: Ints
    compute: Ints
    end: Ints
    own_space: Ints
    streamed: NDArray[np.bool_]

    def only(self, chosen: Ints) -> Block:
        """The candidates at places `chosen`."""
        columns = (getattr(self, name)[chosen] for name in self.__slots__[2:])
        return Block(self.samples, self.needs, *columns)


@dataclass(frozen=True, slots=True)
class Move:
    """What a family does to one residency."""

    pinned_bytes: int
    reloads: tuple[int, ...]
    after: tuple[Residency, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the best path.

    ``progress`` is what the label had loaded at its end; ``finishes`` says that a prefetch under
    way at its start was waited for.
    """

    candidate: int
    reloads: tuple[int, ...]
    pinned_bytes: int
    progress: int
    finishes: bool = False


class Table:
    """Everything that the moves read, and the labels kept so far."""

    def __init__(self, problem: Problem, prices: Prices) -> None:
        self.problem, self.prices = problem, prices
        zero = np.zeros(1, dtype=np.int64)
        cycles = [w.cycles if w.size_bytes else 0 for w in problem.weights]
        sizes = [w.size_bytes for w in problem.weights]
        self.ready = np.concatenate((zero, np.cumsum(cycles, dtype=np.int64)))
        self.space = np.concatenate((zero, np.cumsum(sizes, dtype=np.int64)))
        self.blocks = _blocks(problem, prices, self.ready, self.space)
        self.leaving = Leaving(problem)
        #: by boundary, the most that a step beginning there can load before it begins
        self.most_ahead = _most_ahead(problem)
        #: and the most space that may matter for it: of its buffers, and of all constants to come
        self.most_early = _most_early(problem, self.space)
        #: every kept label
        self.kept: list[Labels] = []
        self.count = 0
        #: every move that was made, by the number that labels carry
        self.moves: list[Move] = []

    def keep(self, labels: Labels) -> int:
        """Record labels; returns the number of the first."""
        self.kept.append(labels)
        first, self.count = self.count, self.count + labels.shape[1]
        return first


class Clock(Protocol):
    """How time passes along a path: the part of the search that differs between plan spaces."""

    def start(self) -> Labels:
        """The label at the beginning."""

    def prune(self, found: list[Labels], prices: Prices) -> Labels:
        """Labels that no other one makes superfluous."""

    def advance(
        self, table: Table, v: int, labels: Labels, number: int, moves: list[Move | None],
        chosen: Ints, room: Ints,
    ) -> Labels:  # fmt: skip
        """Every label after every chosen candidate, sorted by family; `MOVE` holds the family."""

    def latency(self, table: Table, path: list[Step], cost: int, other: int) -> int:
        """Cycles of a path of this cost; `other` is what of it is no price of cycles."""

    def step(self, table: Table, label: Ints, move: Move) -> Step:
        """The step that led to a label."""

    def limit_before(self, table: Table, candidate: Candidate, step: Step, before: int) -> int:
        """Progress beyond which nothing may have been loaded before a step begins."""


def _most_ahead(problem: Problem) -> Ints:
    found = np.zeros(problem.parts + 1, dtype=np.int64)
    for c in problem.candidates:
        whole = sum(problem.maps[t].reload_cycles for t in c.reads)
        found[c.first] = max(found[c.first], c.overlap.ahead_cycles + whole)
    return found


def _most_early(problem: Problem, space: Ints) -> Ints:
    found = np.zeros(problem.parts + 1, dtype=np.int64)
    for c in problem.candidates:
        whole = max((problem.maps[t].size_bytes for t in c.reads), default=0)
        found[c.first] = max(found[c.first], c.overlap.early_bytes, whole)
    most: Ints = found + space[-1] - space
    return most


def _blocks(problem: Problem, prices: Prices, ready: Ints, space: Ints) -> list[Block]:
    groups: list[dict[tuple[object, ...], list[int]]] = [{} for _ in range(problem.parts)]
    for k, c in enumerate(problem.candidates):
        key = (c.end, c.reads, c.streams, c.keeps, c.stores, c.streams_weights)
        groups[c.first].setdefault(key, []).append(k)
    writes = written(problem)
    return [_block(problem, prices, list(group.values()), ready, space, writes) for group in groups]


def _block(
    problem: Problem, prices: Prices, families: list[list[int]], ready: Ints, space: Ints,
    writes: list[list[int]],
) -> Block:  # fmt: skip
    index = [k for members in families for k in members]
    used = [problem.candidates[k] for k in index]
    rows = [
        (
            n,
            k,
            c.duration_cycles,
            c.dma_cycles,
            c.work_bytes,
            prices.step(c),
            *c.overlap,
            c.compute_cycles,
            c.end,
            c.first,
        )
        for k, c, n in zip(index, used, [n for n, f in enumerate(families) for _ in f], strict=True)
    ]
    columns = np.array(rows, dtype=np.int64).reshape(-1, 20).T
    end, first = columns[18], columns[19]
    # without constants there is nothing to stream
    streams = np.array([c.streams_weights for c in used], dtype=bool) & (ready[end] > ready[first])
    own = np.where(streams, 0, space[end] - space[first])
    samples = tuple(problem.candidates[members[0]] for members in families)
    needs = tuple(_needs(problem, sample, writes) for sample in samples)
    named: dict[str, Any] = dict(zip(Block.__slots__[2:], columns[:-1], strict=False))
    return Block(samples, needs, **named, own_space=own, streamed=streams)


def _needs(problem: Problem, candidate: Candidate, writes: list[list[int]]) -> Needs:
    maps, first = problem.maps, candidate.first
    begun = bits(t for v in range(first, candidate.end) for t in writes[v] if maps[t].birth < first)
    # a map can be loaded whole once all of it is there
    whole = bits(t for t in candidate.reads if max(maps[t].writers, default=-1) < first)
    keeps, stores = bits(candidate.keeps), bits(candidate.stores)
    return Needs(
        bits(candidate.reads), bits(candidate.streams), begun, keeps & begun, stores & begun,
        whole,
    )  # fmt: skip


def reload_prices(problem: Problem, prices: Prices, moves: list[Move | None]) -> tuple[Ints, Ints]:
    """Of the maps that each family loads whole: cycles, and `Prices.reload`."""
    loads = [move.reloads if move else () for move in moves]
    cycles = [sum(problem.maps[t].reload_cycles for t in maps) for maps in loads]
    price = [sum(prices.reload(problem.maps[t]) for t in maps) for maps in loads]
    return np.array(cycles, dtype=np.int64), np.array(price, dtype=np.int64)
