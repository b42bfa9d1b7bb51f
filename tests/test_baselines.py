"""Baselines: the joint problem with fewer choices, each at its own optimum; and bounds."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache

import pytest
from draws import quick_of
from oracles import TooManyPlansError, brute_force, by_dynamic, plan_of
from random_worlds import World, make_world, random_chip, random_network, random_problem
from small_problems import fmap, group, problem

from spm_opt import planner
from spm_opt.baselines import RESTRICTIONS, greedy_pins
from spm_opt.bounds import dram_bound, latency_bound, shortest_cover
from spm_opt.errors import SpmTooSmallError
from spm_opt.fusion import Recipe
from spm_opt.params import STRATEGIES, SolveParams
from spm_opt.problem import Problem

#: (worse or equal, better or equal)
WEAKER = (
    ("layerwise", "pin"), ("layerwise", "fuse"), ("greedy", "pin"), ("pin", "joint"),
    ("fuse", "joint"),
)  # fmt: skip


@cache
def worlds() -> list[World]:
    """Networks on chips by lot."""
    found = []
    for seed in range(30):
        rng = random.Random(seed)
        try:
            found.append(make_world(
                random_network(rng), random_chip(rng), rng.random() < 0.7, ("retain",)
            ))  # fmt: skip
        except SpmTooSmallError:
            continue
    return found


def restricted(world: World, strategy: str) -> Problem:
    return RESTRICTIONS[strategy](world.problem, world.recipes)


def single_layer(recipe: Recipe) -> bool:
    return recipe.positions[1] - recipe.positions[0] == 1


def test_every_strategy_has_its_restriction():
    assert tuple(RESTRICTIONS) == STRATEGIES


@pytest.mark.parametrize("objective", ["latency", "dram"])
def test_fewer_choices_are_never_better(objective: str):
    strict = 0
    for world in worlds():
        costs = {s: by_dynamic(restricted(world, s), objective)[0] for s in STRATEGIES}
        for worse, better in WEAKER:
            assert costs[better] is not None
            assert costs[better] <= costs[worse]
            strict += costs[better] < costs[worse]
    assert strict >= 20


@pytest.mark.parametrize("patience", quick_of((400,), (400, 2_000)))
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_baseline_is_at_its_own_optimum(strategy: str, patience: int):
    timed = 0
    for world in worlds():
        case = restricted(world, strategy)
        cost, decision = by_dynamic(case, "latency")
        assert decision is not None
        plan_of(case, decision)
        if case.parts <= 5:
            try:
                assert brute_force(case, "latency", cost, patience).cost == cost
                timed += 1
            except TooManyPlansError:
                continue
    assert timed >= 8


@pytest.mark.parametrize("strategy", ["pin", "layerwise", "greedy"])
def test_some_strategies_fuse_nothing(strategy: str):
    for world in worlds():
        used = restricted(world, strategy).candidates
        assert used
        assert all(single_layer(world.recipes[c.recipe]) for c in used)


@pytest.mark.parametrize("strategy", ["fuse", "layerwise"])
def test_some_strategies_keep_nothing(strategy: str):
    for world in worlds():
        case = restricted(world, strategy)
        assert not case.reload
        assert not any((*c.reads, *c.keeps) for c in case.candidates)


def test_pin_and_fuse_leave_out_no_more_than_they_say():
    for world in worlds():
        joint = world.problem.candidates
        single = {c for c in joint if single_layer(world.recipes[c.recipe])}
        assert set(restricted(world, "pin").candidates) == single
        assert restricted(world, "pin").reload
        assert set(restricted(world, "fuse").candidates) == {
            c for c in joint if not (*c.reads, *c.keeps)
        }
        assert restricted(world, "joint") is world.problem


def test_greedy_keeps_what_it_chose_and_nothing_else():
    kept = 0
    for world in worlds():
        chosen, case = greedy_pins(restricted(world, "pin")), restricted(world, "greedy")
        kept += len(chosen)
        for c in case.candidates:
            assert {*c.reads, *c.keeps} <= chosen
            assert not {*c.streams, *c.stores} & chosen
    assert kept >= 10


def pinning(capacity: int, sizes: tuple[int, int], lives: tuple[int, int]) -> Problem:
    """Two maps born at parts 0 and 1, each read once, its life later; a part a step."""
    maps = tuple(
        fmap(size, (i,), (i + life,))
        for i, (size, life) in enumerate(zip(sizes, lives, strict=True))
    )
    groups = []
    for part in range(max(m.last_use for m in maps) + 1):
        for born in [(t,) for t, m in enumerate(maps) if m.birth == part] or [()]:
            for read in [(t,) for t, m in enumerate(maps) if m.last_use == part] or [()]:
                work = sum(maps[t].size_bytes for t in born)
                groups += [
                    group(part, part + 1, 1, work=work, keeps=born, reads=read),
                    group(part, part + 1, 1, dma=1, keeps=born, work=work, streams=read),
                    group(part, part + 1, 1, dma=1, stores=born, reads=read),
                    group(part, part + 1, 1, dma=1, stores=born, streams=read),
                ]
    return problem(capacity, maps, {}, *groups)


def test_greedy_prefers_short_lives():
    assert greedy_pins(pinning(5, (3, 3), (2, 2))) == {0}
    assert greedy_pins(pinning(5, (3, 3), (3, 2))) == {1}
    assert greedy_pins(pinning(6, (3, 3), (3, 2))) == {0, 1}
    assert greedy_pins(pinning(2, (3, 3), (3, 2))) == frozenset()


@pytest.mark.parametrize("objective", ["latency", "dram"])
def test_no_plan_is_below_its_bound(objective: str):
    bound = latency_bound if objective == "latency" else dram_bound
    tight = 0
    cases = [random_problem(random.Random(seed), seed % 3 > 0) for seed in range(60)]
    for case in [*cases, *(world.problem for world in worlds())]:
        cost, _ = by_dynamic(case, objective)
        if cost is not None:
            assert 0 <= bound(case) <= cost[0]
            tight += bound(case) == cost[0]
    assert tight


def test_bounds_by_hand():
    # three parts, the last two also as one group; constants of part 1 are streamed or loaded
    case = problem(
        9, (fmap(1, (), (0,)), fmap(1, (2,), (), must_store=True)), {0: (1, 40), 1: (1, 30)},
        group(0, 1, 5, moved=1),
        group(1, 2, 7, moved=2),
        group(1, 2, 50, dma=25, moved=1, streams_weights=True),
        group(2, 3, 9, moved=4),
        group(1, 3, 14, moved=8),
    )  # fmt: skip
    assert shortest_cover(case, lambda c: c.duration_cycles) == 5 + 14
    assert dram_bound(case) == 1 + 1 + 4
    assert latency_bound(case) == 40 + 25


@pytest.mark.parametrize("seed", [3, 8, 89])
def test_all_tilings_offer_all_that_stripes_alone_have(seed: int) -> None:
    """Also what another tiling beats or equals (89): what stripes find, all tilings can find."""
    network, chip = random_network(random.Random(seed)), random_chip(random.Random(seed))
    order = tuple(range(len(network.layers)))
    offers = [
        planner.make_world(network, chip, SolveParams(tilings=word), "source", order)
        for word in ("all", "rows")
    ]
    both, rows = (
        sorted(
            repr(replace(c, recipe=0)) for c in made.problem.candidates
            if made.recipes[c.recipe].is_plain
        )
        for made in offers
    )  # fmt: skip
    assert both == rows
