"""Exact dynamic programming over step boundaries: the fast way to a proven optimum.

Between two steps all that matters of the past is (a) which live maps lie in SPM, in DRAM or in
both, and (b) how far the queue of transfers is, a number or two. A *label* is a cost and these
numbers, for one boundary and one residency of the live maps; a candidate that begins there moves
it to the boundary where it ends. How time passes is said by a clock: with barriers between steps
(`spm_opt.dynamic_barriers`), or without (`spm_opt.dynamic_overlap`).

The number of residencies grows with the maps alive at once, not with the depth of the network. It
is limited: beyond `max_states` only the cheapest go on, and the result is a schedule without a
proof. This room decides without OR-tools; the CP-SAT model states the same problem, and each tests
the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from spm_opt.decision import Decision, residencies
from spm_opt.dynamic_barriers import Barriers
from spm_opt.dynamic_leaving import IN_DRAM, IN_SPM, Leaving, Residency, bits
from spm_opt.dynamic_overlap import Overlapping
from spm_opt.dynamic_table import (
    COST,
    MOVE,
    PARENT,
    Clock,
    Ints,
    Labels,
    Move,
    Prices,
    Step,
    Table,
)
from spm_opt.problem import Candidate, Problem

__all__ = ["Prices", "Solved", "solve_dynamic"]

#: fillings of the scratchpad among which a beam is divided
_SHELVES = 8
#: steps in which room for claims is told apart where steps overlap
_ROOM_SHELVES = 16


@dataclass(frozen=True, slots=True)
class Solved:
    """Outcome of the dynamic programme.

    Attributes
    ----------
    decision : Decision or None
        None where no plan exists (or, truncated, none was found).
    latency_cycles, dram_bytes : int
    energy_fj : int
        Leakage left out; 0 where energy is not counted.
    complete : bool
        Whether every residency was followed: then the decision is optimal.
    """

    decision: Decision | None
    latency_cycles: int
    dram_bytes: int
    energy_fj: int
    complete: bool


def solve_dynamic(
    problem: Problem,
    prices: Prices,
    max_states: int = 3000,
    stopped: Callable[[], bool] = lambda: False,
) -> Solved:
    """Minimise the sum of cycles, DRAM bytes and energy, weighted by `prices`, over all plans.

    Parameters
    ----------
    max_states : int
        Residencies followed from any boundary.
    stopped : callable
        Asked between boundaries; True ends the search without a plan.
    """
    table, clock = Table(problem, prices), _clock(problem)
    open_: list[dict[Residency, list[Labels]]] = [{} for _ in range(problem.parts + 1)]
    open_[0][_first_residency(problem)] = [clock.start()]
    complete = True
    for v in range(problem.parts):
        if stopped():
            return Solved(None, 0, 0, 0, False)
        states = {state: clock.prune(found, prices) for state, found in open_[v].items()}
        open_[v] = {}
        if len(states) > max_states:
            complete = False
            states = {state: states[state] for state in _beam(table, states, max_states)}
        for state, labels in states.items():
            _expand(table, clock, v, state, labels, open_)
    return _result(table, clock, open_[problem.parts], complete)


def _clock(problem: Problem) -> Clock:
    if problem.overlap:
        return Overlapping(max(1, problem.capacity_bytes // _ROOM_SHELVES))
    return Barriers()


def _beam(table: Table, states: dict[Residency, Labels], width: int) -> list[Residency]:
    """The residencies that go on where there are too many.

    The cheapest, counting what maps that only DRAM holds must still cost, of every filling of the
    scratchpad in turn: cheap plans that keep too much lead nowhere.
    """
    maps, prices = table.problem.maps, table.prices
    shelves: list[list[tuple[int, Residency]]] = [[] for _ in range(_SHELVES + 1)]
    for state, labels in states.items():
        kept = sum(maps[t].size_bytes for t, mode in state if mode & IN_SPM)
        loads = sum(
            prices.per_cycle * maps[t].reload_cycles + prices.reload(maps[t])
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


def _first_residency(problem: Problem) -> Residency:
    return tuple((t, IN_DRAM) for t, m in enumerate(problem.maps) if m.in_dram and m.readers)


def _expand(
    table: Table,
    clock: Clock,
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
    moved = clock.advance(table, v, labels, number, moves, chosen, room[chosen])
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
) -> Move:
    """What a family loads in a residency that meets its needs, and what it leaves."""
    maps = problem.maps
    reloads = tuple(t for t in candidate.reads if not modes[t] & IN_SPM)
    after = dict(modes) | dict.fromkeys(reloads, IN_SPM | IN_DRAM)
    pinned = resident_bytes + sum(maps[t].size_bytes for t in reloads)
    for t in {*candidate.keeps, *candidate.stores}:
        after[t] = IN_SPM * (t in candidate.keeps) + IN_DRAM * (t in candidate.stores)
    live = sorted((t, mode) for t, mode in after.items() if maps[t].last_use >= candidate.end)
    return Move(pinned, reloads, leaving.residencies(live, candidate.end))


def _result(
    table: Table, clock: Clock, ends: dict[Residency, list[Labels]], complete: bool
) -> Solved:
    if not ends:
        return Solved(None, 0, 0, 0, complete)
    last = clock.prune([labels for found in ends.values() for labels in found], table.prices)
    cheapest = last[:, [int(np.argmin(last[COST]))]]
    path = _path(table, clock, cheapest)
    used = [table.problem.candidates[step.candidate] for step in path]
    loaded = [table.problem.maps[t] for step in path for t in step.reloads]
    prices = table.prices
    other = sum(prices.step(c) for c in used) + sum(prices.reload(m) for m in loaded)
    return Solved(
        _decision(table, clock, path),
        clock.latency(table, path, int(cheapest[COST, 0]), other),
        sum(c.dram_bytes for c in used) + sum(m.reload_bytes for m in loaded),
        sum(c.energy_fj for c in used) + sum(m.reload_fj for m in loaded),
        complete,
    )


def _path(table: Table, clock: Clock, cheapest: Labels) -> list[Step]:
    """The steps that lead to the cheapest label, first to last."""
    number = table.keep(cheapest)
    labels = np.concatenate(table.kept, axis=1)
    path: list[Step] = []
    while labels[PARENT, number] >= 0:
        label = labels[:, number]
        path.append(clock.step(table, label, table.moves[int(label[MOVE])]))
        number = int(label[PARENT])
    return path[::-1]


def _decision(table: Table, clock: Clock, path: list[Step]) -> Decision:
    used = [table.problem.candidates[step.candidate] for step in path]
    resident, reloads = residencies(used, [step.reloads for step in path])
    return Decision(
        tuple(step.candidate for step in path), resident, reloads,
        tuple(_weight_starts(table, clock, used, path)),
    )  # fmt: skip


def _weight_starts(
    table: Table, clock: Clock, used: list[Candidate], path: list[Step]
) -> list[int]:
    """First step in which each part's constants are loaded, once truncations are taken back."""
    problem, ready = table.problem, table.ready
    actual, limit = [0] * len(used), int(ready[-1])
    for s in reversed(range(len(used))):
        actual[s] = min(path[s].progress, limit)
        before = path[s - 1].progress if s else 0
        limit = min(limit, clock.limit_before(table, used[s], path[s], before))
    starts = [-1] * problem.parts
    for leader in used:
        for c in range(leader.first, leader.end):
            if problem.weights[c].size_bytes and not leader.streams_weights:
                early = (u.first for u, g in zip(used, actual, strict=True) if g > ready[c])
                starts[c] = min(next(early, leader.first), leader.first)
    return starts
