"""Plans that are found fast: for whoever interrupts, and for limits too short for anything else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from spm_opt.baselines import RESTRICTIONS
from spm_opt.dynamic import solve_dynamic
from spm_opt.planner_placing import place_decision
from spm_opt.planner_search import QUICK_LIMIT, SIMPLER, Search
from spm_opt.problem import Problem

#: part of the time limit after which no other stand-in is sought
STAND_IN: Final = 0.2
#: residencies that stand-ins follow from a boundary
STAND_IN_STATES: Final = 4
#: strategies whose plans come fast and stand in while the joint optimum is sought
QUICK: Final = ("layerwise", "greedy")


def stand_ins(search: Search) -> None:
    """Plans that are found fast, for whoever interrupts."""
    params, world, began = search.clock.params, search.world, search.clock.seconds
    for problem in _stand_in_problems(search):
        # the first is found whatever it takes: there is to be a plan, however short the limit
        over = search.clock.over if search.found else _never
        solved = solve_dynamic(problem, search.prices(problem), STAND_IN_STATES, over)
        if solved.decision is not None:
            quick = problem.prefetch
            search.add(place_decision(world, problem, solved.decision, QUICK_LIMIT, quick))
        if search.found and search.clock.seconds - began > STAND_IN * params.time_limit:
            return


def _never() -> bool:
    return False


def _stand_in_problems(search: Search) -> Iterator[Problem]:
    """Baselines; and without prefetches, which fill the scratchpad: what is left is placed easily.

    So a plan with prefetching does not fall behind the one without where time is short.
    """
    params, world = search.clock.params, search.world
    for strategy in QUICK if params.strategy == "joint" else (params.strategy,):
        yield RESTRICTIONS[strategy](world.problem, world.recipes)
    if params.strategy == "joint" and params.objective != "dram" and search.problem.prefetch:
        search.widen()
        yield replace(search.plain, prefetch=False)
    if not search.found and params.strategy in SIMPLER:
        # a strategy's own optimum may have no placement: what keeps nothing mostly has one
        yield RESTRICTIONS["layerwise"](world.problem, world.recipes)
    if not search.found and params.constraints:
        # no baseline may meet what the user demands
        yield replace(search.problem, prefetch=False)
