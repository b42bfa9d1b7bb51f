"""The three facts of the dynamic programme: each is needed, or saves labels and loses nothing."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from draws import some_seeds
from oracles import Cost, brute_force, by_dynamic, cost_of, dram_bytes, latency, plan_of, weighted
from random_worlds import random_problem
from small_problems import fmap, group, problem

from spm_opt import dynamic, dynamic_barriers, dynamic_table
from spm_opt.dynamic import Prices, solve_dynamic
from spm_opt.dynamic_table import Labels
from spm_opt.fusion_dominance import essential
from spm_opt.late import claim_late
from spm_opt.problem import Problem

SEEDS = range(500, 560)

#: one cycle to spare in each of two steps that stream: together enough for one load of two
TWO_HALVES = problem(
    2, (fmap(1, (), (0, 1, 2)), fmap(2, (2,), (), must_store=True)), {2: (1, 2)},
    group(0, 1, 2, dma=1, streams=(0,)),
    group(1, 2, 2, dma=1, streams=(0,)),
    group(2, 3, 1, dma=1, streams=(0,), stores=(1,)),
)  # fmt: skip

#: constants of part 2 find time in part 0, and no space in part 1
NO_SPACE = problem(
    2, (fmap(1, (), (0, 1, 2)), fmap(1, (2,), (), must_store=True)), {2: (2, 2)},
    group(0, 1, 4, dma=1, streams=(0,)),
    group(1, 2, 1, dma=1, work=2, streams=(0,)),
    group(2, 3, 1, dma=1, streams=(0,), stores=(1,)),
)  # fmt: skip

#: part 0 is done in 2 cycles, or in 5 that leave time for the 9 cycles of constants of part 1
SLOW_IS_FAST = problem(
    9, (fmap(1, (), (0,)), fmap(1, (1,), (), must_store=True)), {1: (1, 9)},
    group(0, 1, 2, dma=2, moved=1, streams=(0,)),
    group(0, 1, 5, moved=1),
    group(1, 2, 1, dma=1, stores=(1,)),
)  # fmt: skip

#: part 1 streams all the time: what is left of the load had better be waited for
ONE_MORE = problem(
    9, (fmap(1, (), (1,)), fmap(1, (2,), (), must_store=True)), {2: (1, 9)},
    group(0, 1, 8),
    group(1, 2, 8, dma=8, streams=(0,)),
    group(2, 3, 1, dma=1, stores=(1,)), cuts=False,
)  # fmt: skip

#: part 1 streams for one cycle and computes for nine more: the load had better not be begun
BETTER_LATE = problem(
    9, (fmap(1, (), (1,)), fmap(1, (2,), (), must_store=True)), {2: (1, 9)},
    group(0, 1, 1),
    group(1, 2, 10, dma=1, streams=(0,)),
    group(2, 3, 1, dma=1, stores=(1,)), cuts=False,
)  # fmt: skip

#: constants of part 2 are loaded in no time, beside part 0 or part 1
TIME_TO_SPARE = problem(
    9, (fmap(1, (), (0, 1)), fmap(1, (2,), (), must_store=True)), {2: (2, 1)},
    group(0, 1, 10, dma=1, streams=(0,)),
    group(1, 2, 10, dma=1, streams=(0,)),
    group(2, 3, 1, dma=1, stores=(1,)),
)  # fmt: skip


def optimum(case: Problem) -> int | None:
    """Latency that the dynamic programme believes in."""
    cost, _ = by_dynamic(case, "latency")
    return None if cost is None else cost[0]


def truth(case: Problem) -> int:
    cost = brute_force(case, "latency").cost
    assert cost is not None
    return cost[0]


@pytest.fixture
def problems() -> list[tuple[Problem, Cost | None]]:
    """Random problems with their optima."""
    found = [replace(random_problem(random.Random(s)), cuts=s % 2 > 0) for s in SEEDS]
    return [(case, by_dynamic(case, "latency")[0]) for case in found]


@pytest.fixture
def count_labels(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], int]]:
    """Labels kept since the last call."""
    counted = [0]

    class Counting(dynamic_table.Table):
        def keep(self, labels: Labels) -> int:
            counted[0] += labels.shape[1]
            return super().keep(labels)

    def read() -> int:
        counted[0], total = 0, counted[0]
        return total

    monkeypatch.setattr(dynamic, "Table", Counting)
    return read


# --------------------------------------------------------------------------- truncation is free


def test_without_truncation_plans_are_too_full(monkeypatch: pytest.MonkeyPatch):
    assert optimum(NO_SPACE) == truth(NO_SPACE) == 8
    everything = NO_SPACE.weights[2].cycles
    monkeypatch.setattr(dynamic_barriers, "_truncated", lambda p, limit: np.minimum(p, everything))
    assert optimum(NO_SPACE) == 6


def test_to_decide_how_much_to_prefetch_gains_nothing(
    monkeypatch: pytest.MonkeyPatch,
    problems: list[tuple[Problem, Cost | None]],
    count_labels: Callable[[], int],
):
    """Labels that prefetched less are added: more labels, the same optima."""

    def with_less(clock, found: list[Labels], prices: Prices) -> Labels:
        less = [labels.copy() for labels in found]
        for labels in less:
            labels[dynamic_table.PROGRESS] = np.maximum(labels[dynamic_table.PROGRESS] - 1, 0)
        return np.concatenate((pareto_only(clock, found, prices), *less), axis=1)

    count_labels()
    small = [(case, cost) for case, cost in problems if case.parts <= 3]
    assert len(small) >= 10
    assert [by_dynamic(case, "latency")[0] for case, _ in small] == [cost for _, cost in small]
    few = count_labels()
    monkeypatch.setattr(dynamic_barriers.Barriers, "prune", with_less)
    assert [by_dynamic(case, "latency")[0] for case, _ in small] == [cost for _, cost in small]
    assert count_labels() > 2 * few


# --------------------------------------------------------------------------- waiting is a move


def pareto_only(clock, found: list[Labels], prices: Prices) -> Labels:
    """Drops only labels that another one beats in cost and progress both."""
    merged = np.concatenate(found, axis=1)
    merged = merged[:, np.lexsort((-merged[dynamic_table.PROGRESS], merged[dynamic_table.COST]))]
    best = np.maximum.accumulate(merged[dynamic_table.PROGRESS])
    kept = np.concatenate((np.ones(1, dtype=bool), merged[dynamic_table.PROGRESS][1:] > best[:-1]))
    return merged[:, kept]


def cheapest_only(clock, found: list[Labels], prices: Prices) -> Labels:
    return pareto_only(clock, found, prices)[:, :1]


def test_waiting_makes_labels_superfluous(
    monkeypatch: pytest.MonkeyPatch,
    problems: list[tuple[Problem, Cost | None]],
    count_labels: Callable[[], int],
):
    for case, cost in problems:
        assert by_dynamic(case, "latency")[0] == cost
    few = count_labels()
    monkeypatch.setattr(dynamic_barriers.Barriers, "prune", pareto_only)
    for case, cost in problems:
        assert by_dynamic(case, "latency")[0] == cost
    assert count_labels() > few


def test_the_cheapest_label_is_not_enough(monkeypatch: pytest.MonkeyPatch):
    assert optimum(SLOW_IS_FAST) == truth(SLOW_IS_FAST) == 10
    monkeypatch.setattr(dynamic_barriers.Barriers, "prune", cheapest_only)
    assert optimum(SLOW_IS_FAST) == 12


# --------------------------------------------------------------------------- streams, queue


def test_a_stream_may_not_find_a_load_under_way(monkeypatch: pytest.MonkeyPatch):
    case = replace(TWO_HALVES, cuts=False)
    assert optimum(case) == truth(case) == 6
    under_way = dynamic_barriers._under_way

    def careless(ready, at_start, moving):
        return under_way(ready, at_start, np.zeros_like(moving))

    monkeypatch.setattr(dynamic_barriers, "_under_way", careless)
    assert optimum(case) == 5


def test_the_load_under_way_may_be_finished_first(monkeypatch: pytest.MonkeyPatch):
    assert optimum(ONE_MORE) == truth(ONE_MORE) == 18
    under_way = dynamic_barriers._under_way

    def never_finished(ready, at_start, moving):
        begun, done, busy = under_way(ready, at_start, moving)
        return begun, done, np.zeros_like(busy)

    monkeypatch.setattr(dynamic_barriers, "_under_way", never_finished)
    assert optimum(ONE_MORE) == 26


def test_the_load_under_way_may_not_have_been_begun(monkeypatch: pytest.MonkeyPatch):
    assert optimum(BETTER_LATE) == truth(BETTER_LATE) == 12
    under_way = dynamic_barriers._under_way

    def always_finished(ready, at_start, moving):
        _, done, busy = under_way(ready, at_start, moving)
        # not begun is worth nothing here: as if all constants were forgotten
        return np.where(busy, -(10**6), at_start), done, busy

    monkeypatch.setattr(dynamic_barriers, "_under_way", always_finished)
    assert optimum(BETTER_LATE) == 20


# --------------------------------------------------------------------------- cuts are free


def test_a_load_may_be_cut_in_two_gaps():
    assert optimum(TWO_HALVES) == truth(TWO_HALVES) == 5
    assert optimum(replace(TWO_HALVES, prefetch=False)) == 7


def test_a_stream_does_not_wait_for_a_load_under_way():
    # nothing is left for the load in part 1, and what is left of it is waited for after it
    case = problem(
        9, (fmap(1, (), (1,)), fmap(1, (2,), (), must_store=True)), {2: (1, 9)},
        group(0, 1, 6),
        group(1, 2, 8, dma=8, streams=(0,)),
        group(2, 3, 1, dma=1, stores=(1,)),
    )  # fmt: skip
    assert optimum(case) == truth(case) == 6 + 8 + (9 - 6) + 1


# --------------------------------------------------------------------------- what is returned


@pytest.mark.parametrize("objective", ["latency", "dram"])
def test_decisions_cost_what_is_said(objective: str):
    for seed in SEEDS:
        case = random_problem(random.Random(seed), seed % 4 > 0)
        cost, decision = by_dynamic(case, objective)
        if decision is not None:
            assert cost_of(case, decision, objective) == cost


def test_late_claims_cost_nothing_and_hold_less():
    _, decision = by_dynamic(TIME_TO_SPARE, "latency")
    assert decision is not None
    assert decision.weight_starts == (-1, -1, 0)
    assert claim_late(TIME_TO_SPARE, decision).weight_starts == (-1, -1, 1)
    for seed in SEEDS:
        case = random_problem(random.Random(seed))
        cost, decision = by_dynamic(case, "latency")
        if decision is not None:
            late = claim_late(case, decision)
            assert cost_of(case, late, "latency") == cost
            pairs = list(zip(decision.weight_starts, late.weight_starts, strict=True))
            assert all(a <= b for a, b in pairs)


@some_seeds(range(700, 740), range(700, 800))
def test_superfluous_candidates_are_superfluous(seeds: Sequence[int]):
    fewer = 0
    for seed in seeds:
        case = random_problem(random.Random(seed), seed % 4 > 0)
        core = essential(case)
        fewer += len(case.candidates) - len(core.candidates)
        for objective in ("latency", "dram"):
            assert by_dynamic(core, objective)[0] == by_dynamic(case, objective)[0]
    assert fewer >= len(seeds) // 2


def test_a_beam_finds_a_plan_and_proves_nothing():
    worse = 0
    for seed in SEEDS:
        case = random_problem(random.Random(seed))
        cost, _ = by_dynamic(case, "latency")
        solved = solve_dynamic(case, weighted("latency"), max_states=2)
        if solved.decision is None or cost is None:
            continue
        plan = plan_of(case, solved.decision)
        assert (solved.latency_cycles, solved.dram_bytes) == (
            latency(case, plan), dram_bytes(case, plan),
        )  # fmt: skip
        assert (solved.latency_cycles, solved.dram_bytes) >= cost
        assert not solved.complete or solved.latency_cycles == cost[0]
        worse += solved.latency_cycles > cost[0]
    assert worse


def test_a_search_that_is_stopped_claims_nothing():
    solved = solve_dynamic(TWO_HALVES, weighted("latency"), stopped=lambda: True)
    assert solved.decision is None
    assert not solved.complete


def test_prices_weigh_the_costs():
    # keeping saves cycles, storing saves bytes
    case = problem(
        9, (fmap(1, (), (0,)), fmap(1, (0,), (1,)), fmap(1, (1,), (), must_store=True)), {},
        group(0, 1, 1, dma=1, work=1, moved=7, streams=(0,), keeps=(1,)),
        group(0, 1, 4, dma=1, moved=1, streams=(0,), stores=(1,)),
        group(1, 2, 1, dma=1, moved=1, reads=(1,), stores=(2,)),
        group(1, 2, 3, dma=1, moved=2, streams=(1,), stores=(2,)),
    )  # fmt: skip
    fast = solve_dynamic(case, Prices(100, 1))
    lean = solve_dynamic(case, Prices(1, 100))
    assert (fast.latency_cycles, fast.dram_bytes) == (2, 8)
    assert (lean.latency_cycles, lean.dram_bytes) == (6, 3)
