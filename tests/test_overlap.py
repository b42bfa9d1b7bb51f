"""Steps without barriers: what the machine takes, what bounds it, and what makes it faster."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pytest
from draws import quick_of, some_seeds
from plan_fixture import (
    MADE,
    first_fit,
    loads,
    make_world,
    random_chip,
    random_decision,
    random_network,
)
from random_worlds import World
from small_problems import fmap, group, problem
from test_timeline import in_order

from spm_opt.assemble import Placed, assemble
from spm_opt.bounds import small_maps
from spm_opt.commands import lower
from spm_opt.decision import Decision
from spm_opt.dynamic import Prices, solve_dynamic
from spm_opt.layout import Layout, lay_out
from spm_opt.overlap import order_queue
from spm_opt.problem import Overlap, Problem
from spm_opt.simulate import simulate
from spm_opt.timeline import Timeline, run
from spm_opt.verify import verify
from spm_opt.verify.commands import verify_commands
from spm_opt.widen import widen


@dataclass(frozen=True)
class Case:
    """A plan by lot, and how it runs: with barriers, without, and with room across steps."""

    world: World
    decision: Decision
    layout: Layout
    wide: Layout

    def timed(self, layout: Layout) -> Timeline:
        return order_queue(layout, self.world.site.hardware.dram).timeline()


def by_lot(seeds: Sequence[int], plans: int = 4) -> Iterator[Case]:
    """Plans whose prefetches keep the order of use."""
    for seed in seeds:
        rng = random.Random(seed)
        network = random_network(rng)
        world = make_world(network, random_chip(rng, network, tightness=rng.choice([2.0, 10.0])))
        for _ in range(plans):
            decision = random_decision(rng, world.problem)
            if decision is not None:
                decision = in_order(world.problem, decision)
                layout = lay_out(world.site, world.problem, world.recipes, decision)
                capacity = world.problem.capacity_bytes
                if max(loads(layout), default=0) <= capacity:
                    yield Case(world, decision, layout, widen(layout, capacity))


def bound(case: Problem) -> int:
    solved = solve_dynamic(replace(case, overlap=True), Prices(1, 0), max_states=10**6)
    assert solved.complete
    return solved.latency_cycles


# --------------------------------------------------------------------------- the machine


@some_seeds(range(8), range(20))
def test_nothing_is_slower_without_barriers_and_some_of_it_is_faster(seeds: Sequence[int]) -> None:
    faster = wider = 0
    for case in by_lot(seeds):
        barriers = run(case.layout, case.world.site.hardware.dram).latency_cycles
        crossing = case.timed(case.layout).latency_cycles
        wide = case.timed(case.wide).latency_cycles
        assert wide <= crossing <= barriers
        faster += crossing < barriers
        wider += wide < crossing
    assert faster >= len(seeds) // 2
    assert wider >= len(seeds) // 2


@some_seeds(range(100, 105), range(100, 118))
def test_claims_a_step_early_find_room_and_are_checked(seeds: Sequence[int]) -> None:
    early = late = 0
    for case in by_lot(seeds, plans=3):
        capacity = case.world.problem.capacity_bytes
        assert max(loads(case.wide)) <= capacity
        for narrow, wide in zip(case.layout.buffers, case.wide.buffers, strict=True):
            assert narrow.first_step - 1 <= wide.first_step <= narrow.first_step
            assert narrow.end_step <= wide.end_step <= narrow.end_step + 1
            early += wide.first_step < narrow.first_step
            late += wide.end_step > narrow.end_step
        offsets = first_fit(case.wide)
        ends = [o + b.size_bytes for o, b in zip(offsets, case.wide.buffers, strict=True)]
        hardware = case.world.site.hardware
        if max(ends) > capacity:
            hardware = replace(hardware, spm=replace(hardware.spm, capacity_bytes=max(ends)))
        site = replace(case.world.site, hardware=hardware)
        placed = Placed(case.decision, site, case.wide, case.timed(case.wide), tuple(offsets), 0)
        schedule = assemble(placed, replace(MADE, objective_value=placed.latency_cycles))
        assert verify(schedule) == ()
        stream = lower(schedule)
        assert verify_commands(schedule, stream) == ()
        assert simulate(stream, hardware).latency_cycles == placed.latency_cycles
    assert min(early, late) >= 10


@some_seeds(range(500, 510), range(500, 530))
def test_stores_are_late_only_where_their_bytes_stay(seeds: Sequence[int]) -> None:
    """A map that several steps write may have room behind some of them only."""
    late = own = 0
    for case in by_lot(seeds, plans=3):
        wide = widen(case.layout, max(loads(case.layout)))
        for program in wide.programs:
            for store in (store for tile in program.stores for store in tile):
                assert store.step <= store.need_step < wide.buffers[store.buffer].end_step
                late += store.need_step > store.step
                own += store.need_step == store.step
    assert min(late, own) >= 10


# --------------------------------------------------------------------------- the bound


@pytest.mark.parametrize("block", quick_of((2,), range(4)))
def test_no_plan_by_lot_is_faster_than_the_bound(block: int) -> None:
    found = least = 0
    world = None
    for case in by_lot(range(200 + 10 * block, 210 + 10 * block), plans=12):
        if case.world is not world:
            world, least = case.world, bound(case.world.problem)
        assert case.timed(case.wide).latency_cycles >= least
        found += 1
    assert found >= 40


@some_seeds(range(300, 312), range(300, 330))
def test_the_bound_is_below_what_barriers_allow_and_above_nothing_less(
    seeds: Sequence[int],
) -> None:
    lower_than = 0
    for seed in seeds:
        rng = random.Random(seed)
        network = random_network(rng)
        world = make_world(network, random_chip(rng, network))
        barriers = solve_dynamic(world.problem, Prices(1, 0))
        if barriers.complete and barriers.decision is not None:
            least = bound(world.problem)
            assert least <= barriers.latency_cycles
            lower_than += least < barriers.latency_cycles
            layout = lay_out(world.site, world.problem, world.recipes, barriers.decision)
            wide = widen(layout, world.problem.capacity_bytes)
            assert least <= order_queue(wide, world.site.hardware.dram).latency_cycles
    assert lower_than >= len(seeds) // 6


@some_seeds(range(400, 408), range(400, 420))
def test_as_if_small_maps_took_no_space_nothing_becomes_dearer(seeds: Sequence[int]) -> None:
    cheaper = removed = 0
    for seed in seeds:
        rng = random.Random(seed)
        network = random_network(rng)
        world = make_world(network, random_chip(rng, network, tightness=2.0))
        most, few = bound(world.problem), small_maps(world.problem, 1)
        least = bound(world.problem.without(few))
        assert least <= most
        removed += len(few)
        cheaper += least < most
    assert removed >= len(seeds)
    assert 10 * cheaper >= len(seeds)


def streaming(window: int, load: int, store: int, **more: int) -> Overlap:
    """One tile: `load` before it, `store` behind it."""
    return Overlap(window, load + store, load, load, store, **more)


MAPS = (fmap(9, (), (0,)), fmap(9, (0,), (1,)), fmap(9, (1,), (), must_store=True))


def two_steps(capacity: int, constants: int = 0, **more: int) -> Problem:
    """Two groups of one tile each: 5 cycles to load, 7 to compute, 3 to store."""
    first = group(0, 1, 15, dma=8, work=2, streams=(0,), stores=(1,))
    second = group(1, 2, 15, dma=8, work=2, streams=(1,), stores=(2,))
    price = streaming(7, 5, 3, early_bytes=1, late_bytes=1, **more)
    case = problem(capacity, MAPS, {1: (1, constants)} if constants else {}, first, second)
    found = tuple(replace(c, overlap=price, compute_cycles=7) for c in case.candidates)
    return replace(case, candidates=found)


def test_bounds_by_hand() -> None:
    # loads of the second run beside the first, stores are left for later: 5 + 7 + 7
    assert bound(two_steps(100)) == 5 + 7 + 7
    # no room beside the first for a buffer of the second
    assert bound(two_steps(2)) == 5 + 7 + 5 + 7
    # with constants of 20 cycles: beside the first 7 of 25 are loaded if its store waits
    assert bound(two_steps(100, constants=20)) == 5 + 7 + (20 + 5 - 7) + 7


def test_constants_enter_with_the_first_tile() -> None:
    """Two layers in a group, the second one with constants: the first layer need not wait."""
    bounds = []
    for enter in (0, 2):
        first = group(0, 1, 15, dma=8, work=2, streams=(0,), stores=(1,))
        second = group(1, 3, 15, dma=8, work=2, streams=(1,), stores=(2,))
        case = problem(100, MAPS, {2: (1, 20)}, first, second)
        price = streaming(7, 5, 3, early_bytes=1, late_bytes=1, enter_cycles=enter)
        found = tuple(replace(c, overlap=price, compute_cycles=7) for c in case.candidates)
        bounds.append(bound(replace(case, candidates=found)))
    # in the second case the queue alone, 8 + 8 + 20, takes longer than 5 + 7 + 18 + 5
    assert bounds == [5 + 7 + 18 + 7, 8 + 8 + 20]
