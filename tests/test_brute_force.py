"""Three ways to the optimum: every plan tried, labels, boolean variables. They must agree.

The search over all plans (see `oracles`) shares nothing with the solvers but the tables of
prices, and tries candidates that pruning drops too. What the solvers return is spelled out and
timed by the machine's own clocks.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from draws import HEAVY, quick_of, some_seeds
from oracles import TooManyPlansError, brute_force, by_cpsat, by_dynamic, cost_of, realised
from plan_fixture import sharing_sorts
from random_worlds import World, make_world, random_chip, random_network, random_problem

from spm_opt.decision import Decision
from spm_opt.errors import SpmTooSmallError
from spm_opt.hardware import Dram
from spm_opt.layout import lay_out
from spm_opt.problem import Problem

HALOS = (("retain",), ("retain", "recompute"))
MOST_PARTS = 5
#: of the first 48 worlds, plans of every sort in little time: most others have too many to try
WORLDS = (7, 8, 11, 12, 15, 17, 26, 27, 29, 30, 32, 33, 34, 35, 36, 43, 46)
#: likewise of problems with joined maps
JOINED = (0, 1, 3, 5, 7, 13, 14, 15, 16, 19, 20, 21)


def agree(problem: Problem, everything: Problem, objective: str, patience: int) -> list[Decision]:
    """The solvers' decisions, once their values are known to be what no plan beats."""
    cost, decision = by_dynamic(problem, objective)
    other, other_decision = by_cpsat(problem, objective)
    assert cost == other
    assert brute_force(everything, objective, cost, patience).cost == cost
    decisions = [d for d in (decision, other_decision) if d is not None]
    assert all(cost_of(problem, d, objective) == cost for d in decisions)
    return decisions


def random_world(seed: int) -> World | None:
    """The world of a seed; None where a layer does not fit or there is too much to try."""
    rng = random.Random(seed)
    network, chip = random_network(rng), random_chip(rng)
    try:
        world = make_world(
            network, chip, rng.random() < 0.7, rng.choice(HALOS), cuts=rng.random() < 0.6,
            apart=seed % 2 == 0,
        )  # fmt: skip
    except SpmTooSmallError:
        return None
    return world if world.problem.parts <= MOST_PARTS else None


def drawn(seed: int, joined: bool) -> Problem:
    rng = random.Random(seed)
    problem = random_problem(rng, rng.random() < 0.75, joined)
    return replace(problem, cuts=rng.random() < 0.5)


def check_problems(seeds: Sequence[int], patience: int, joined: bool = False) -> Counter[str]:
    """Check every seed; counts what becomes of the joined maps."""
    seen: Counter[str] = Counter()
    for seed in seeds:
        problem = drawn(seed, joined)
        for objective in ("latency", "dram"):
            for decision in agree(problem, problem, objective, patience):
                seen.update(joined_uses(problem, decision))
    return seen


def joined_uses(problem: Problem, decision: Decision) -> set[str]:
    """What a plan does with maps that the writers of others may write."""
    joined = {t for t, m in enumerate(problem.maps) if m.joined}
    used = [problem.candidates[k] for k in decision.candidates]
    kept, stored = any(joined & {*c.keeps} for c in used), any(joined & {*c.stores} for c in used)
    found = {
        "kept": kept,
        "stored": stored,
        "left alone": bool(joined) and not (kept or stored),
        "streamed": any(joined & {*c.streams} for c in used),
        "nothing to do": any(not c.duration_cycles for c in used),
        "kept itself, stored as a piece": any(
            joined & {*c.stores} and {*c.keeps} - {*c.stores} - joined for c in used
        ),
    }
    return {name for name, there in found.items() if there}


def check_networks(seeds: Sequence[int], patience: int) -> Counter[str]:
    """Check every seed; counts what the optimal plans are made of."""
    seen: Counter[str] = Counter()
    for seed in seeds:
        world = random_world(seed)
        for objective in ("latency", "dram") if world is not None else ():
            assert world is not None
            try:
                decisions = agree(world.problem, world.everything, objective, patience)
            except TooManyPlansError:
                seen["too many plans"] += 1
                continue
            for decision in decisions:
                seen.update(check_machine(world, objective, decision))
                seen.update(features(world, decision))
    return seen


def check_machine(world: World, objective: str, decision: Decision) -> set[str]:
    """The machine takes the bytes and the space that the solver counted, and no fewer cycles.

    Cycles are those counted where cutting a prefetch costs nothing.
    """
    (cycles, moved), peak = realised(world, world.problem, decision)
    assert peak <= world.problem.capacity_bytes
    hopeful = world.problem.hopeful()
    claimed, counted = (cost_of(p, decision, "latency") for p in (world.problem, hopeful))
    assert claimed[1] == counted[1] == moved
    assert counted[0] <= min(cycles, claimed[0])
    least, _ = by_dynamic(hopeful, objective)
    assert least is not None
    assert least[0] <= (cycles if objective == "latency" else moved)
    if not world.problem.cuts or cuts_are_free(world.site.hardware.dram):
        assert claimed[0] == counted[0] == cycles
        return {"free cuts" if world.problem.cuts else "no cuts"}
    if objective == "dram":
        return set()
    return {"bound missed" if least[0] < cycles else "bound met"}


def cuts_are_free(dram: Dram) -> bool:
    rate = dram.bytes_per_cycle
    return dram.latency_cycles == 0 and rate.denominator == 1 and rate % dram.burst_bytes == 0


def features(world: World, decision: Decision) -> set[str]:
    """What a plan makes use of."""
    problem = world.problem
    used = [problem.candidates[k] for k in decision.candidates]
    recipes = [world.recipes[c.recipe] for c in used]
    leader = {p: c.first for c in used for p in range(c.first, c.end)}
    found = {
        "plan": True,
        "fused": any(r.positions[1] - r.positions[0] > 1 for r in recipes),
        "slices": any(r.part is not None and r.part.channels is not None for r in recipes),
        "slices together": any(
            c.end > c.first + 1 and r.axis == "channels" for c, r in zip(used, recipes, strict=True)
        ),
        "recompute": any(r.halo == "recompute" for r in recipes),
        "weights streamed": any(c.streams_weights for c in used),
        "double buffers": any(r.depth == 2 for r in recipes),
        "reload": bool(decision.reloads),
        "pinned": any(leader[e - 1] > f for _, f, e in decision.resident),
        "prefetch": any(0 <= v < leader[p] for p, v in enumerate(decision.weight_starts)),
        "spilled": any(c.stores and any(t not in c.keeps for t in c.stores) for c in used[:-1]),
    }
    shared = sharing_sorts(world, decision, lay_out(world.site, problem, world.recipes, decision))
    return {name for name, there in (found | shared).items() if there}


@pytest.mark.parametrize("block", quick_of((0, 1), range(6)))
def test_solvers_find_what_no_plan_beats(block: int):
    check_problems(range(25 * block, 25 * block + 25), patience=200_000)


@some_seeds(JOINED, range(30))
def test_solvers_find_what_no_plan_with_joined_maps_beats(seeds: Sequence[int]):
    seen = check_problems(seeds, patience=100_000, joined=True)
    for name in ("kept", "stored", "left alone", "streamed", "nothing to do",
                 "kept itself, stored as a piece"):  # fmt: skip
        assert seen[name] >= 2, f"hardly a plan with {name}: {seen}"


@some_seeds(WORLDS, range(48))
def test_solvers_and_machine_agree_on_networks(seeds: Sequence[int]):
    seen = check_networks(seeds, patience=2_500)
    assert seen["plan"] >= 1.25 * len(seeds)
    assert seen["too many plans"] <= seen["plan"] / 2
    for name in ("fused", "slices", "slices together", "weights streamed", "double buffers",
                 "reload", "pinned", "prefetch", "spilled", "elided concat", "elided split",
                 "elided in a group",
                 "stripe over stripe", "takeover", "free cuts", "no cuts",
                 "bound met"):  # fmt: skip
        assert seen[name] >= 2, f"no plan with {name}: {seen}"


def test_search_over_all_plans_needs_no_hint():
    # with the claimed cost as a hint the search only looks for plans that are as good
    for seed in range(12):
        problem = random_problem(random.Random(seed))
        cost, _ = by_dynamic(problem, "latency")
        assert brute_force(problem, "latency", patience=10**6).cost == cost


@HEAVY
@pytest.mark.parametrize("block", range(20))
@pytest.mark.parametrize("joined", [False, True], ids=["plain", "joined"])
def test_many_problems(block: int, joined: bool):
    check_problems(range(1000 + 100 * block, 1100 + 100 * block), 10**6, joined)


@HEAVY
@pytest.mark.parametrize("block", range(20))
def test_many_networks(block: int):
    check_networks(range(1000 + 50 * block, 1050 + 50 * block), patience=100_000)
