"""Decisions spelled out: random ones pass the checker, and take the space and bytes they claim."""

from __future__ import annotations

import random
from collections import Counter
from functools import cache

import pytest
from draws import quick_of
from plan_fixture import (
    SHARING_SORTS,
    World,
    loads,
    make_world,
    random_chip,
    random_decision,
    random_network,
    schedule_of,
    sharing_sorts,
)

from spm_opt.decision import Decision
from spm_opt.layout import Layout, lay_out
from spm_opt.schedule import Schedule
from spm_opt.verify import verify

SEEDS = range(60)
#: worlds, without runs of layers in channel tiles and with
DRAWN = [(seed, False) for seed in SEEDS] + [(n, True) for n in (11, 18, 22, 24, 25, 39, 45, 50)]


def laid_out(world: World, seed: int, count: int) -> list[tuple[Decision, Layout]]:
    rng = random.Random(seed)
    drawn = (random_decision(rng, world.problem) for _ in range(count))
    return [
        (decision, lay_out(world.site, world.problem, world.recipes, decision))
        for decision in drawn
        if decision is not None
    ]


@cache
def drawn(seed: int, runs: bool) -> tuple[World, list[tuple[Decision, Layout]]]:
    """A world with every candidate, and some decisions in it."""
    rng = random.Random(seed)
    network = random_network(rng)
    cuts = seed % 3 > 0
    world = make_world(network, random_chip(rng, network), prune=False, cuts=cuts, runs=runs)
    return world, laid_out(world, seed, 4)


@cache
def schedules(seed: int, runs: bool) -> list[Schedule | None]:
    """What becomes of these decisions; None where first fit finds no addresses."""
    world, plans = drawn(seed, runs)
    return [schedule_of(world, decision) for decision, _ in plans]


@pytest.mark.parametrize("draw", quick_of((*DRAWN[:24], *DRAWN[60:]), DRAWN))
def test_random_decisions_pass_the_checker(draw: tuple[int, bool]) -> None:
    for schedule in schedules(*draw):
        assert schedule is None or verify(schedule) == ()


def test_maps_lie_in_dram_until_their_whole_load_must_have_run() -> None:
    """The queue may put it off beyond its step: stores of those steps must not go there."""
    late = 0
    for seed, runs in DRAWN:
        world, plans = drawn(seed, runs)
        for _, layout in plans:
            moves = [move for p in layout.programs for tile in p.stores for move in tile]
            for load in (move for p in layout.programs for move in p.front if move.role == "map"):
                end = layout.buffers[load.buffer].end_step
                others = [s for s in moves if load.step < s.step < end and s.tensor != load.tensor]
                late += len(others)
                assert not any(_meet(world, layout, load.tensor, s.tensor) for s in others), seed
    assert late


def _meet(world: World, layout: Layout, *names: str) -> bool:
    """Whether two maps share bytes of DRAM."""
    one, other = (
        (begin, begin + world.site.network.tensors[name].size_bytes)
        for name, begin in ((name, layout.dram_addresses[name]) for name in names)
    )
    return one[0] < other[1] and other[0] < one[1]


def test_random_decisions_are_of_every_sort() -> None:
    """Else the test above would say nothing of what never occurs."""
    kinds: Counter[str] = Counter()
    for seed, runs in DRAWN:
        world, plans = drawn(seed, runs)
        for (decision, layout), schedule in zip(plans, schedules(seed, runs), strict=True):
            if schedule is None:
                continue  # nor is it checked there
            kinds.update(buffer.kind for buffer in layout.buffers)
            kinds.update(f"{b.kind} slice" for b in layout.buffers if b.channels is not None)
            kinds.update(p.step.axis for p in layout.programs)
            kinds["reload"] += len(decision.reloads)
            kinds["prefetch"] += sum(len(program.after) for program in layout.programs)
            kinds.update(sharing_sorts(world, decision, layout))
            kinds["both"] += sum(
                bool({*c.keeps} & {*c.stores})
                for c in (world.problem.candidates[k] for k in decision.candidates)
            )
    expected = {
        "weights", "map", "input", "stripe", "output", "weight_stream", "channel_input",
        "channel_output", "channel_stripe", "weights slice", "input slice", "output slice",
        "reload", "prefetch", "both", "rows", "channels", "blocks", "sums",
    }  # fmt: skip
    assert {kind for kind in expected if kinds[kind] < 10} == set()
    assert {kind for kind in SHARING_SORTS if kinds[kind] < 4} == set()


@pytest.mark.parametrize("seed", SEEDS[:15])
def test_a_step_takes_the_space_and_moves_the_bytes_of_its_candidate(seed: int) -> None:
    rng = random.Random(1000 + seed)
    network = random_network(rng)
    world = make_world(network, random_chip(rng, network), prune=False, cuts=seed % 3 > 0)
    problem, site = world.problem, world.site
    for decision, layout in laid_out(world, seed, 8):
        for step, k in enumerate(decision.candidates):
            candidate = problem.candidates[k]
            begun = {
                site.map_names[t] for t in candidate.keeps
                if candidate.first <= problem.maps[t].birth
            }  # fmt: skip
            made = sum(
                b.size_bytes
                for b in layout.buffers
                if b.first_step == step
                and b.shares is None  # what takes over other bytes adds none
                and (b.tensor in begun if b.kind == "map" else b.kind != "weights")
            )
            assert made == candidate.work_bytes
            program = layout.programs[step]
            streamed = [t for tile in (*program.loads, *program.stores) for t in tile]
            moved = sum(t.moved_bytes for t in streamed)
            if not candidate.streams_weights:
                moved += sum(
                    problem.weights[p].moved_bytes for p in range(candidate.first, candidate.end)
                )
            assert moved == candidate.dram_bytes
            assert all(t.tile is not None for t in streamed)


@pytest.mark.parametrize("seed", SEEDS[:15])
def test_all_that_lies_in_the_scratchpad_at_a_step_fits(seed: int) -> None:
    rng = random.Random(2000 + seed)
    network = random_network(rng)
    world = make_world(network, random_chip(rng, network))
    for decision, layout in laid_out(world, seed, 8):
        assert len(loads(layout)) == len(decision.candidates)
        assert max(loads(layout)) <= world.problem.capacity_bytes
