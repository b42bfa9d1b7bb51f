"""Exact dynamic programming over step boundaries: the fast way to a proven optimum.

Between two steps all that matters of the past is (a) which live maps lie in SPM, in DRAM or in
both, and (b) how far the loads of constants are ahead, a single number, since they keep the order
of use. A *label* is a pair (cost, progress) for one boundary and one residency of the live maps;
a candidate that begins there moves it to the boundary where it ends.

Three facts keep labels few, and lose nothing:

- *Truncation is free.* A prefetch that a later step has no space for is taken back: it was never
  made. So no label decides how much to prefetch; each carries all that time allows.
- *Waiting is a move.* A label can wait until it has loaded what another has ahead; one that is
  cheaper even so makes the other superfluous.
- *A stream finds the queue free.* Where a step has transfers of its own, a prefetch under way is
  either finished first or was not begun: two labels. Where prefetches can be cut (`Problem.cuts`)
  it simply goes on: what a cut costs is not counted, so the value is a bound.

The number of residencies grows with the maps alive at once, not with the depth of the network. It
is limited: beyond `max_states` only the cheapest go on, and the result is a schedule without a
proof. This room decides without OR-tools; the CP-SAT model states the same problem, and each tests
the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from spm_opt.decision import Decision, residencies
from spm_opt.dynamic_leaving import IN_DRAM, IN_SPM, Leaving, Residency, bits
from spm_opt.problem import Candidate, Problem, written

Ints = NDArray[np.int64]
#: fillings of the scratchpad among which a beam is divided
_SHELVES = 8

#: labels of one boundary and residency, one a column: cost, cycles of constants loaded, number of
#: the label before, candidate and move that led here, whether a prefetch under way was finished
Labels: TypeAlias = Ints
COST, PROGRESS, PARENT, CANDIDATE, MOVE, FINISH = range(6)


@dataclass(frozen=True, slots=True)
class Prices:
    """Weights of the two costs in the sum that is minimised; one of them may be 0."""

    per_cycle: int
    per_byte: int


@dataclass(frozen=True, slots=True)
class Solved:
    """Outcome of the dynamic programme.

    Attributes
    ----------
    decision : Decision or None
        None where no plan exists (or, truncated, none was found).
    latency_cycles, dram_bytes : int
    complete : bool
        Whether every residency was followed: then the decision is optimal.
    """

    decision: Decision | None
    latency_cycles: int
    dram_bytes: int
    complete: bool


@dataclass(frozen=True, slots=True)
class _Needs:
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
class _Block:
    """Candidates that begin at one part, sorted into families that share end and residency.

    Attributes
    ----------
    samples : tuple of Candidate
        One of each family.
    needs : tuple of _Needs
        What each family asks for.
    family, index, duration, dma, work, dram : int64 array (candidates,)
        Family and number of each candidate, and its prices.
    end, own_space : int64 array (candidates,)
        Part where it ends, and space of the constants that it holds.
    streamed : bool array (candidates,)
        Whether its constants are streamed.
    """

    samples: tuple[Candidate, ...]
    needs: tuple[_Needs, ...]
    family: Ints
    index: Ints
    duration: Ints
    dma: Ints
    work: Ints
    dram: Ints
    end: Ints
    own_space: Ints
    streamed: NDArray[np.bool_]

    def only(self, chosen: Ints) -> _Block:
        """The candidates at places `chosen`."""
        columns = (getattr(self, name)[chosen] for name in self.__slots__[2:])
        return _Block(self.samples, self.needs, *columns)


@dataclass(frozen=True, slots=True)
class _Move:
    """What a family does to one residency."""

    pinned_bytes: int
    reloads: tuple[int, ...]
    after: tuple[Residency, ...]


@dataclass(frozen=True, slots=True)
class _Step:
    """One step of the best path.

    ``progress`` is what the label had loaded at its end; ``finishes`` says that a prefetch under
    way at its start was waited for.
    """

    candidate: int
    reloads: tuple[int, ...]
    pinned_bytes: int
    progress: int
    finishes: bool


class _Table:
    """Everything that the moves read, and the labels kept so far."""

    def __init__(self, problem: Problem, prices: Prices) -> None:
        self.problem, self.prices = problem, prices
        zero = np.zeros(1, dtype=np.int64)
        cycles = [w.cycles if w.size_bytes else 0 for w in problem.weights]
        sizes = [w.size_bytes for w in problem.weights]
        self.ready = np.concatenate((zero, np.cumsum(cycles, dtype=np.int64)))
        self.space = np.concatenate((zero, np.cumsum(sizes, dtype=np.int64)))
        self.blocks = _blocks(problem, self.ready, self.space)
        self.leaving = Leaving(problem)
        #: every kept label
        self.kept: list[Labels] = []
        self.count = 0
        #: every move that was made, by the number that labels carry
        self.moves: list[_Move] = []

    def keep(self, labels: Labels) -> int:
        """Record labels; returns the number of the first."""
        self.kept.append(labels)
        first, self.count = self.count, self.count + labels.shape[1]
        return first


def solve_dynamic(
    problem: Problem,
    prices: Prices,
    max_states: int = 3000,
    stopped: Callable[[], bool] = lambda: False,
) -> Solved:
    """Minimise ``per_cycle * latency + per_byte * DRAM bytes`` over all plans.

    Parameters
    ----------
    max_states : int
        Residencies followed from any boundary.
    stopped : callable
        Asked between boundaries; True ends the search without a plan.
    """
    table = _Table(problem, prices)
    start = np.array([[0], [0], [-1], [-1], [-1], [0]], dtype=np.int64)
    open_: list[dict[Residency, list[Labels]]] = [{} for _ in range(problem.parts + 1)]
    open_[0][_first_residency(problem)] = [start]
    complete = True
    for v in range(problem.parts):
        if stopped():
            return Solved(None, 0, 0, False)
        states = {state: _prune(found, prices) for state, found in open_[v].items()}
        open_[v] = {}
        if len(states) > max_states:
            complete = False
            states = {state: states[state] for state in _beam(table, states, max_states)}
        for state, labels in states.items():
            _expand(table, v, state, labels, open_)
    return _result(table, open_[problem.parts], complete)


def _beam(table: _Table, states: dict[Residency, Labels], width: int) -> list[Residency]:
    """The residencies that go on where there are too many.

    The cheapest, counting what maps that only DRAM holds must still cost, of every filling of the
    scratchpad in turn: cheap plans that keep too much lead nowhere.
    """
    maps, prices = table.problem.maps, table.prices
    shelves: list[list[tuple[int, Residency]]] = [[] for _ in range(_SHELVES + 1)]
    for state, labels in states.items():
        kept = sum(maps[t].size_bytes for t, mode in state if mode & IN_SPM)
        loads = sum(
            prices.per_cycle * maps[t].reload_cycles + prices.per_byte * maps[t].reload_bytes
            for t, mode in state
            if mode == IN_DRAM and not maps[t].in_dram
        )
        shelf = min(kept * _SHELVES // table.problem.capacity_bytes, _SHELVES)
        shelves[shelf].append((int(labels[COST, 0]) + loads, state))
    ranked = [
        (place, cost, state)
        for shelf in shelves
        for place, (cost, state) in enumerate(sorted(shelf))
    ]
    return [state for _, _, state in sorted(ranked)[:width]]


def _blocks(problem: Problem, ready: Ints, space: Ints) -> list[_Block]:
    groups: list[dict[tuple[object, ...], list[int]]] = [{} for _ in range(problem.parts)]
    for k, c in enumerate(problem.candidates):
        key = (c.end, c.reads, c.streams, c.keeps, c.stores, c.streams_weights)
        groups[c.first].setdefault(key, []).append(k)
    writes = written(problem)
    return [_block(problem, list(group.values()), ready, space, writes) for group in groups]


def _block(
    problem: Problem, families: list[list[int]], ready: Ints, space: Ints, writes: list[list[int]]
) -> _Block:
    index = [k for members in families for k in members]
    used = [problem.candidates[k] for k in index]
    rows = [
        (n, k, c.duration_cycles, c.dma_cycles, c.work_bytes, c.dram_bytes, c.end, c.first)
        for k, c, n in zip(index, used, [n for n, f in enumerate(families) for _ in f], strict=True)
    ]
    columns = np.array(rows, dtype=np.int64).reshape(-1, 8).T
    end, first = columns[6], columns[7]
    # without constants there is nothing to stream
    streams = np.array([c.streams_weights for c in used], dtype=bool) & (ready[end] > ready[first])
    own = np.where(streams, 0, space[end] - space[first])
    samples = tuple(problem.candidates[members[0]] for members in families)
    family, number, duration, dma, work, dram = columns[:6]
    needs = tuple(_needs(problem, sample, writes) for sample in samples)
    return _Block(samples, needs, family, number, duration, dma, work, dram, end, own, streams)


def _needs(problem: Problem, candidate: Candidate, writes: list[list[int]]) -> _Needs:
    maps, first = problem.maps, candidate.first
    begun = bits(t for v in range(first, candidate.end) for t in writes[v] if maps[t].birth < first)
    # a map can be loaded whole once all of it is there
    whole = bits(t for t in candidate.reads if max(maps[t].writers, default=-1) < first)
    keeps, stores = bits(candidate.keeps), bits(candidate.stores)
    return _Needs(
        bits(candidate.reads), bits(candidate.streams), begun, keeps & begun, stores & begun,
        whole,
    )  # fmt: skip


def _first_residency(problem: Problem) -> Residency:
    return tuple((t, IN_DRAM) for t, m in enumerate(problem.maps) if m.in_dram and m.readers)


def _prune(found: list[Labels], prices: Prices) -> Labels:
    """Labels that no other one, waiting if it must, makes superfluous."""
    merged = np.concatenate(found, axis=1)
    order = np.lexsort((-merged[PROGRESS], merged[COST]))
    potential = (merged[COST] - prices.per_cycle * merged[PROGRESS])[order]
    best = np.minimum.accumulate(potential)
    kept = order[np.concatenate((np.ones(1, dtype=bool), potential[1:] < best[:-1]))]
    return merged[:, kept]


def _expand(
    table: _Table,
    v: int,
    state: Residency,
    labels: Labels,
    open_: list[dict[Residency, list[Labels]]],
) -> None:
    """Move the labels of one boundary and residency along every candidate that can begin there."""
    block, modes, number = table.blocks[v], dict(state), table.keep(labels)
    in_spm = bits(t for t, mode in state if mode & IN_SPM)
    in_dram = bits(t for t, mode in state if mode & IN_DRAM)
    reload, resident = table.problem.reload, _resident_bytes(table.problem, state)
    moves = [
        _move(table.problem, table.leaving, modes, resident, sample)
        if needs.met(in_spm, in_dram, reload)
        else None
        for sample, needs in zip(block.samples, block.needs, strict=True)
    ]
    pinned = np.array([m.pinned_bytes if m else 2**60 for m in moves], dtype=np.int64)
    room = table.problem.capacity_bytes - pinned[block.family] - block.work
    chosen = np.flatnonzero(room >= block.own_space)
    if not len(chosen):
        return
    moved = _advance(table, v, labels, number, moves, chosen, room[chosen])
    for family, run in _runs(moved[MOVE]):
        move = moves[family]
        if move is not None:
            chunk = moved[:, run]
            chunk[MOVE] = len(table.moves)
            table.moves.append(move)
            for after in move.after:
                open_[block.samples[family].end].setdefault(after, []).append(chunk)


def _runs(values: Ints) -> Iterator[tuple[int, slice]]:
    """Stretches of equal values."""
    edges = np.flatnonzero(np.diff(values)) + 1
    for begin, end in pairwise((0, *edges.tolist(), len(values))):
        yield int(values[begin]), slice(begin, end)


def _resident_bytes(problem: Problem, state: Residency) -> int:
    return sum(problem.maps[t].size_bytes for t, mode in state if mode & IN_SPM)


def _move(
    problem: Problem,
    leaving: Leaving,
    modes: dict[int, int],
    resident_bytes: int,
    candidate: Candidate,
) -> _Move:
    """What a family loads in a residency that meets its needs, and what it leaves."""
    maps = problem.maps
    reloads = tuple(t for t in candidate.reads if not modes[t] & IN_SPM)
    after = dict(modes) | dict.fromkeys(reloads, IN_SPM | IN_DRAM)
    pinned = resident_bytes + sum(maps[t].size_bytes for t in reloads)
    for t in {*candidate.keeps, *candidate.stores}:
        after[t] = IN_SPM * (t in candidate.keeps) + IN_DRAM * (t in candidate.stores)
    live = sorted((t, mode) for t, mode in after.items() if maps[t].last_use >= candidate.end)
    return _Move(pinned, reloads, leaving.residencies(live, candidate.end))


def _advance(
    table: _Table,
    v: int,
    labels: Labels,
    number: int,
    moves: list[_Move | None],
    chosen: Ints,
    room: Ints,
) -> Labels:
    """Every label after every chosen candidate, sorted by family; `MOVE` holds the family."""
    prices, ready, block = table.prices, table.ready, table.blocks[v].only(chosen)
    front, moved = _reload_prices(table.problem, moves)
    front, moved = front[block.family], moved[block.family] + block.dram
    own, slack, limit = ready[block.end], block.duration - block.dma, _limit(table, v, block, room)
    if not table.problem.prefetch:
        slack, limit = np.zeros_like(slack), own
    # nothing passes constants that are streamed
    before = np.where(block.streamed, ready[v], labels[PROGRESS][:, None])
    wait = np.where(block.streamed, 0, np.maximum(own - before, 0))
    spent = wait + front + block.duration
    cost = labels[COST][:, None] + prices.per_cycle * spent + prices.per_byte * moved
    at_start = np.maximum(before, own)
    moving = (block.dma + front > 0) & (not table.problem.cuts)
    begun, done, busy = _under_way(ready, at_start, moving)
    parent = number + np.arange(labels.shape[1])[:, None]
    known = np.broadcast_arrays(parent, block.index, block.family, cost)[:3]
    plain = (cost, _truncated(begun + slack, limit), *known, np.zeros_like(cost))
    # a prefetch under way is finished first
    late = (cost + prices.per_cycle * (done - at_start), _truncated(done + slack, limit), *known)
    after = [
        np.stack(plain).reshape(6, -1),
        np.stack((*late, np.ones_like(cost)))[:, busy],
    ]
    joined = np.concatenate(after, axis=1)
    return joined[:, np.argsort(joined[MOVE], kind="stable")]


def _limit(table: _Table, v: int, block: _Block, room: Ints) -> Ints:
    """Cycles of the constants that fit beside each candidate, its own included."""
    base = np.where(block.streamed, block.end, v)
    reach = np.searchsorted(table.space, table.space[base] + room, side="right") - 1
    limit: Ints = table.ready[np.maximum(reach, block.end)]
    return limit


def _truncated(progress: Ints, limit: Ints) -> Ints:
    """Progress at the end of a step, less what finds no space beside it: that was never made."""
    return np.minimum(progress, limit)


def _under_way(
    ready: Ints, at_start: Ints, moving: NDArray[np.bool_]
) -> tuple[Ints, Ints, NDArray[np.bool_]]:
    """What a step finds of the prefetch that is under way when it begins.

    Returns
    -------
    begun, done : int64 array
        Progress where it was not begun for the sake of a step that is `moving`; once it is done.
    busy : bool array
        Where these are two cases.
    """
    frontier = np.searchsorted(ready, at_start)
    done = ready[frontier]
    busy = (done > at_start) & moving
    return np.where(busy, ready[frontier - 1], at_start), done, busy


def _reload_prices(problem: Problem, moves: list[_Move | None]) -> tuple[Ints, Ints]:
    """Cycles and bytes of the maps that each family loads whole."""
    loads = [move.reloads if move else () for move in moves]
    cycles = [sum(problem.maps[t].reload_cycles for t in maps) for maps in loads]
    sizes = [sum(problem.maps[t].reload_bytes for t in maps) for maps in loads]
    return np.array(cycles, dtype=np.int64), np.array(sizes, dtype=np.int64)


def _result(table: _Table, ends: dict[Residency, list[Labels]], complete: bool) -> Solved:
    if not ends:
        return Solved(None, 0, 0, complete)
    last = _prune([labels for found in ends.values() for labels in found], table.prices)
    path = _path(table, last)
    decision = _decision(table, path)
    dram = sum(_step_bytes(table.problem, step) for step in path)
    before = [0, *(step.progress for step in path)]
    latency = sum(_step_cycles(table, step, b) for step, b in zip(path, before, strict=False))
    return Solved(decision, latency, dram, complete)


def _step_cycles(table: _Table, step: _Step, before: int) -> int:
    """What `_advance` counts for one step that finds `before` cycles of constants loaded."""
    c, ready = table.problem.candidates[step.candidate], table.ready
    own = int(ready[c.end])
    if c.streams_weights and own > ready[c.first]:
        before = own
    at_start = max(before, own)
    if step.finishes:
        at_start = int(ready[np.searchsorted(ready, at_start)])
    front = sum(table.problem.maps[t].reload_cycles for t in step.reloads)
    return at_start - before + front + c.duration_cycles


def _step_bytes(problem: Problem, step: _Step) -> int:
    reloaded = sum(problem.maps[t].reload_bytes for t in step.reloads)
    return problem.candidates[step.candidate].dram_bytes + reloaded


def _path(table: _Table, last: Labels) -> list[_Step]:
    """The steps that lead to the cheapest label, first to last."""
    number = table.keep(last)
    labels = np.concatenate(table.kept, axis=1)
    path: list[_Step] = []
    while labels[PARENT, number] >= 0:
        _, progress, parent, candidate, move, finish = labels[:, number].tolist()
        taken = table.moves[move]
        path.append(_Step(candidate, taken.reloads, taken.pinned_bytes, progress, bool(finish)))
        number = parent
    return path[::-1]


def _decision(table: _Table, path: list[_Step]) -> Decision:
    used = [table.problem.candidates[step.candidate] for step in path]
    resident, reloads = residencies(used, [step.reloads for step in path])
    return Decision(
        tuple(step.candidate for step in path), resident, reloads,
        tuple(_weight_starts(table, used, path)),
    )  # fmt: skip


def _weight_starts(table: _Table, used: list[Candidate], path: list[_Step]) -> list[int]:
    """First step in which each part's constants are loaded, once truncations are taken back."""
    problem, ready = table.problem, table.ready
    actual, limit = [0] * len(used), int(ready[-1])
    for s in reversed(range(len(used))):
        actual[s] = min(path[s].progress, limit)
        before = path[s - 1].progress if s else 0
        limit = min(limit, _before_limit(table, used[s], path[s], before))
    starts = [-1] * problem.parts
    for leader in used:
        for c in range(leader.first, leader.end):
            if problem.weights[c].size_bytes and not leader.streams_weights:
                early = (u.first for u, g in zip(used, actual, strict=True) if g > ready[c])
                starts[c] = min(next(early, leader.first), leader.first)
    return starts


def _before_limit(table: _Table, candidate: Candidate, step: _Step, before: int) -> int:
    """Progress beyond which nothing may have been loaded before a step begins."""
    ready = table.ready
    if candidate.streams_weights and ready[candidate.end] > ready[candidate.first]:
        return int(ready[candidate.first])
    room = table.problem.capacity_bytes - step.pinned_bytes - candidate.work_bytes
    reach = int(np.searchsorted(table.space, table.space[candidate.first] + room, "right")) - 1
    limit = int(ready[max(reach, candidate.end)])
    whole = not table.problem.cuts and not step.finishes
    if whole and (candidate.dma_cycles or step.reloads):
        at_start = max(min(before, limit), int(ready[candidate.end]))
        frontier = int(np.searchsorted(ready, at_start))
        if ready[frontier] > at_start:
            limit = int(ready[max(frontier - 1, candidate.end)])
    return limit
