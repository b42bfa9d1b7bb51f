"""Placement with CP-SAT: a slice of search at a time.

Branching on offsets from the bottom up, in a good order, closes many instances in a few hundred
conflicts; several short tries over different orders beat a long one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from ortools.sat.python import cp_model

from spm_opt.allocation.rectangles import Rectangle
from spm_opt.allocation.sections import cut_time

#: variable orders of the fixed searches; the order after the last leaves the search to CP-SAT
_ORDERS: Final[tuple[Callable[[Rectangle, int], tuple[int, ...]], ...]] = (
    lambda r, load: (r.begin, r.begin - r.end),
    lambda r, load: (-r.size * (r.end - r.begin),),
    lambda r, load: (r.begin - r.end, -r.size),
    lambda r, load: (-load, r.begin - r.end),
)


@dataclass(frozen=True, slots=True)
class Packing:
    """Offsets, or a proof that there are none, or neither; and the deterministic time spent."""

    offsets: tuple[int, ...] | None
    infeasible: bool
    effort: float


def pack(
    rectangles: Sequence[Rectangle],
    capacity: int,
    order: int,
    deterministic_limit: float,
    seed: int = 0,
) -> Packing:
    """Place `rectangles` within `capacity`, or prove that it cannot be.

    Parameters
    ----------
    order : int
        Number of the slice: it takes the orders in turn.
    deterministic_limit : float
        CP-SAT deterministic time of the slice.
    """
    model, offsets = _model(rectangles, capacity)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = (seed + order) % 2**31
    solver.parameters.catch_sigint_signal = False
    solver.parameters.max_deterministic_time = deterministic_limit
    if order % (len(_ORDERS) + 1) < len(_ORDERS):
        solver.parameters.search_branching = cp_model.FIXED_SEARCH
        model.add_decision_strategy(
            [offsets[i] for i in _ranked(rectangles, order % (len(_ORDERS) + 1))],
            cp_model.CHOOSE_LOWEST_MIN,
            cp_model.SELECT_MIN_VALUE,
        )
    status = solver.solve(model)
    effort = solver.response_proto.deterministic_time
    if status in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return Packing(tuple(solver.value(offset) for offset in offsets), False, effort)
    return Packing(None, status == cp_model.INFEASIBLE, effort)


def _ranked(rectangles: Sequence[Rectangle], order: int) -> list[int]:
    load = [0] * len(rectangles)
    for alive in cut_time(rectangles).members:
        total = sum(rectangles[i].size for i in alive)
        for i in alive:
            load[i] = max(load[i], total)
    rank = _ORDERS[order]
    return sorted(range(len(rectangles)), key=lambda i: (*rank(rectangles[i], load[i]), i))


def _model(
    rectangles: Sequence[Rectangle], capacity: int
) -> tuple[cp_model.CpModel, list[cp_model.IntVar]]:
    model = cp_model.CpModel()
    offsets = [
        model.new_int_var(0, capacity - r.size, f"offset[{i}]") for i, r in enumerate(rectangles)
    ]
    model.add_no_overlap_2d(
        [
            model.new_fixed_size_interval_var(r.begin, r.end - r.begin, f"t[{i}]")
            for i, r in enumerate(rectangles)
        ],
        [
            model.new_fixed_size_interval_var(o, r.size, f"s[{i}]")
            for i, (o, r) in enumerate(zip(offsets, rectangles, strict=True))
        ],
    )
    return model, offsets
