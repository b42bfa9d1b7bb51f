"""Time: the tile pipeline against a simulation, and each step against its candidate's prices."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from draws import HEAVY, some_seeds
from oracles import cost_of
from plan_fixture import World, make_world, random_chip, random_decision, random_network

from spm_opt import pipeline
from spm_opt.decision import Decision
from spm_opt.fusion import cut_costs
from spm_opt.graph.builder import NetworkBuilder
from spm_opt.hardware import Dram
from spm_opt.layout import Layout, lay_out
from spm_opt.pipeline import Cut, Spans, pipeline_spans
from spm_opt.problem import Problem
from spm_opt.schedule import Transfer
from spm_opt.timeline import Timeline, run


def simulated(
    compute: list[int], load: list[int], store: list[int], written: list[int], depth: int
) -> tuple[int, list[tuple[int, int]]]:
    """End of the last command, and the transfers, by trying every engine every cycle."""
    tiles = range(len(compute))
    lengths = {
        **{("compute", t): compute[t] for t in tiles},
        **{(kind, t): row[t] for kind, row in
           (("load", load), ("store", store), ("written", written)) for t in tiles if row[t]},
    }  # fmt: skip
    queue = [("load", 0)]
    for t in tiles:
        queue += [("load", t + 1), ("store", t), ("written", t)]
    engines = [[("compute", t) for t in tiles], [c for c in queue if c in lengths]]
    waits = {
        **{("compute", t): [("load", t), ("store", t - depth)] for t in tiles},
        **{("load", t): [("compute", t - depth)] for t in tiles},
        **{("store", t): [("compute", t)] for t in tiles},
        **{("written", t): [("compute", t)] for t in tiles},
    }
    ends: dict[tuple[str, int], int] = {}
    free, now = [0, 0], 0
    while any(engines):
        started = True
        while started:
            started = False
            for n, commands in enumerate(engines):
                if (
                    commands
                    and free[n] <= now
                    and all(
                        w not in lengths or ends.get(w, now + 1) <= now for w in waits[commands[0]]
                    )
                ):
                    command = commands.pop(0)
                    free[n] = ends[command] = now + lengths[command]
                    started = True
        now += 1
    moved = [(end - lengths[c], end) for c, end in ends.items() if c[0] != "compute"]
    return max(ends.values()), sorted(moved)


def kept_busy(transfers: list[tuple[int, int]], cut: Cut) -> tuple[int, int]:
    """Cycles that transfers keep the queue from others: with what cutting costs, and at least.

    What was begun before the step may go on, without a latency, until its first transfer.
    """
    gaps = [b - a for (_, a), (b, _) in pairwise([(0, 0), *transfers])]
    last = transfers[-1][1] if transfers else 0
    lost = last - sum(max(gap - cut.cycles, 0) for gap in gaps)
    usable = [gap for gap in gaps[1:] if gap > cut.latency_cycles]
    return lost, last - sum(gaps[:1]) - sum(usable)


@pytest.mark.parametrize("seed", range(60))
def test_pipelines_are_those_of_a_cycle_by_cycle_simulation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tiles, depth = int(rng.integers(1, 7)), int(rng.integers(1, 3))
    rows = [rng.integers(low, 9, (5, tiles)) for low in (1, 0, 0, 0)]
    for row in rows[1:]:
        # whole kinds of transfers absent, and single ones
        row[rng.random(5) < 0.4] = 0
        row[rng.random(row.shape) < 0.3] = 0
    cut = Cut(int(rng.integers(0, 4)), int(rng.integers(0, 3)))
    spans = pipeline_spans(*(row.astype(np.int64) for row in rows), depth, cut)
    for n in range(5):
        end, transfers = simulated(*(row[n].tolist() for row in rows), depth)
        assert spans.duration_cycles[n] == end
        assert (spans.dma_cycles[n], spans.least_dma_cycles[n]) == kept_busy(transfers, cut)


@pytest.mark.parametrize("seed", range(60))
def test_runs_of_alike_tiles_are_timed_as_one_by_one(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs of any length, which come into step soon, late (a queue far behind) or never."""
    rng = np.random.default_rng(seed)
    lengths, depth = rng.integers(1, 40, 4), int(rng.integers(1, 3))
    rows = [np.repeat(rng.integers(low, 60, (8, 4)), lengths, axis=1) for low in (1, 0, 0, 0)]
    for row in rows[1:]:
        row[rng.random(8) < 0.4] = 0
        row[:, rng.integers(0, row.shape[1])] *= int(rng.integers(1, 30))
    cut = Cut(int(rng.integers(0, 9)), int(rng.integers(0, 9)))
    fast = pipeline_spans(*rows, depth, cut)
    monkeypatch.setattr(pipeline, "_WORTH_ASKING", 10**6)
    slow = pipeline_spans(*rows, depth, cut)
    for one, other in zip(_fields(fast), _fields(slow), strict=True):
        assert (one == other).all()


def test_most_of_a_long_run_is_not_stepped_through(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    real = pipeline._in_step
    monkeypatch.setattr(pipeline, "_in_step", lambda *a: asked.append(1) or real(*a))
    ones = np.ones((3, 10_000), dtype=np.int64)
    spans = pipeline_spans(5 * ones, 7 * ones, 0 * ones, 0 * ones, 2)
    assert (spans.duration_cycles == 7 * 10_000 + 5).all()
    assert len(asked) < 20


def _fields(spans: Spans) -> list[np.ndarray]:
    window = [getattr(spans.window, field.name) for field in fields(spans.window)]
    return [spans.duration_cycles, spans.dma_cycles, spans.least_dma_cycles, *window]


@pytest.mark.parametrize("seed", range(20))
def test_each_step_takes_the_cycles_of_its_candidate(seed: int) -> None:
    rng = random.Random(seed)
    network = random_network(rng)
    world = make_world(network, random_chip(rng, network), prune=False)
    for _ in range(6):
        decision = random_decision(rng, world.problem, prefetch=False)
        if decision is None:
            continue
        layout = lay_out(world.site, world.problem, world.recipes, decision)
        dram = world.site.hardware.dram
        timeline = run(layout, dram)
        for step, k in enumerate(decision.candidates):
            candidate, program = world.problem.candidates[k], layout.programs[step]
            front = sum(t.end_cycle for t in program.front)
            begin, end = timeline.steps[step].start_cycle, timeline.steps[step].end_cycle
            assert end - begin - front == candidate.duration_cycles
            streamed = [
                (t.start_cycle - begin - front, t.end_cycle - begin - front)
                for t in timeline.transfers
                if t.step == step and t.tile is not None
            ]
            busy = candidate.dma_cycles, candidate.least_dma_cycles
            assert busy == kept_busy(streamed, cut_costs(dram))
            computed = [c for c in timeline.computes if c.step == step]
            total = sum(c.end_cycle - c.start_cycle for c in computed)
            assert total == candidate.compute_cycles


def test_a_prefetch_crosses_barriers_and_is_awaited_by_the_step_that_needs_it() -> None:
    """Two short steps, then one with large constants: by lot, until both have happened."""
    b = NetworkBuilder("late")
    b.output(b.conv(b.unary(b.unary(b.input("x", (1, 4, 4, 4)), "tanh"), "exp"), 64, 3, padding=1))
    network = b.build()
    crossed = held_up = 0
    rng = random.Random(0)
    world = make_world(network, random_chip(rng, network, tightness=50.0), runs=False)
    for _ in range(300):
        decision = random_decision(rng, world.problem)
        assert decision is not None
        timeline = run(
            lay_out(world.site, world.problem, world.recipes, decision), world.site.hardware.dram
        )
        starts = [step.start_cycle for step in timeline.steps]
        for t in timeline.transfers:
            assert t.start_cycle >= starts[t.step]
            if t.need_step > t.step:
                assert t.end_cycle <= starts[t.need_step]
                crossed += t.end_cycle > starts[t.step + 1]
                held_up += t.end_cycle == starts[t.need_step]
    assert crossed > 0
    assert held_up > 0


# --------------------------------------------------------------------------- filling the gaps

#: latency 0 and whole bursts a cycle: a load may be cut anywhere, and nothing is lost
EXACT = Dram(Fraction(8), 0, 8)


Run = tuple[World, Decision, Layout, Timeline]


def by_lot(seeds: Sequence[int], dram: Dram | None = None, ordered: bool = False) -> Iterator[Run]:
    """Plans that prefetch by lot, and how they run."""
    for seed in seeds:
        rng = random.Random(seed)
        network = random_network(rng)
        chip = random_chip(rng, network, tightness=10.0)
        world = make_world(network, chip if dram is None else replace(chip, dram=dram))
        for _ in range(8):
            decision = random_decision(rng, world.problem)
            if decision is not None:
                decision = in_order(world.problem, decision) if ordered else decision
                layout = lay_out(world.site, world.problem, world.recipes, decision)
                yield world, decision, layout, run(layout, world.site.hardware.dram)


@pytest.fixture(scope="module", params=[12, pytest.param(24, marks=HEAVY)])
def worlds(request: pytest.FixtureRequest) -> int:
    """How many are drawn."""
    found: int = request.param
    return found


@pytest.fixture(scope="module")
def plans(worlds: int) -> list[Run]:
    return list(by_lot(range(worlds)))


def in_order(problem: Problem, decision: Decision) -> Decision:
    """`decision` with prefetches put off until none begins before one that is needed earlier."""
    starts, latest = list(decision.weight_starts), 0
    for candidate in (problem.candidates[k] for k in decision.candidates):
        for part in range(candidate.first, candidate.end):
            if problem.weights[part].size_bytes:
                latest = max(latest, starts[part])
                starts[part] = candidate.first if starts[part] < 0 else latest
                latest = starts[part]
                if candidate.streams_weights:
                    starts[part] = -1
    return replace(decision, weight_starts=tuple(starts))


def is_prefetch(transfer: Transfer) -> bool:
    return transfer.step < transfer.need_step


def loads_of(timeline: Timeline) -> dict[int, list[Transfer]]:
    """Loads of constants that are no stream, by the buffer that they fill, in order."""
    found: dict[int, list[Transfer]] = {}
    for t in timeline.transfers:
        if t.role == "weights" and t.tile is None:
            found.setdefault(t.buffer, []).append(t)
    return found


def test_pieces_are_whole_bursts_and_all_of_a_load(worlds: int, plans: list[Run]) -> None:
    seen: Counter[str] = Counter()
    for world, _, layout, timeline in plans:
        burst = world.site.hardware.dram.burst_bytes
        whole = {t.buffer: t for p in layout.programs for t in (*p.front, *p.after)}
        for buffer, pieces in loads_of(timeline).items():
            load = whole[buffer]
            spans = [t.piece or (0, load.run_bytes) for t in pieces]
            assert [0, *(end for _, end in spans)] == [*(b for b, _ in spans), load.run_bytes]
            assert all(begin % burst == 0 for begin, _ in spans)
            assert [t.dram_address - load.dram_address for t in pieces] == [b for b, _ in spans]
            assert [t.run_bytes for t in pieces] == [end - begin for begin, end in spans]
            assert sum(t.moved_bytes for t in pieces) == load.moved_bytes
            assert all(t.piece is None for t in pieces if len(pieces) == 1)
            seen["cut"] += len(pieces) > 1
            seen["cut across steps"] += pieces[0].step < pieces[-1].step
    assert seen["cut"] >= worlds // 2
    assert seen["cut across steps"] >= 2


def test_no_stream_waits_for_a_prefetch(plans: list[Run]) -> None:
    for world, decision, layout, timeline in plans:
        for step, k in enumerate(decision.candidates):
            begin = timeline.steps[step].start_cycle
            front = sum(t.end_cycle for t in layout.programs[step].front)
            own = [c for c in (*timeline.computes, *timeline.transfers) if c.step == step]
            ends = [c.end_cycle for c in own if not (isinstance(c, Transfer) and is_prefetch(c))]
            duration = world.problem.candidates[k].duration_cycles
            assert max(ends, default=begin + front) - begin - front == duration


def test_the_queue_never_idles_where_a_burst_of_a_prefetch_fits(
    worlds: int, plans: list[Run]
) -> None:
    filled = 0
    for world, _, layout, timeline in plans:
        dram = world.site.hardware.dram
        least = dram.latency_cycles - int(-dram.burst_bytes // dram.bytes_per_cycle)
        begun = {t.buffer: t.step for program in layout.programs for t in program.after}
        starts = [step.start_cycle for step in timeline.steps]
        for n, (a, b) in enumerate(pairwise(timeline.transfers)):
            later = [begun[t.buffer] for t in timeline.transfers[n + 1 :] if t.buffer in begun]
            if later:
                idle = b.start_cycle - max(a.end_cycle, starts[min(later)])
                assert idle < least
            filled += not is_prefetch(a) and is_prefetch(b) and b.start_cycle == a.end_cycle
    assert filled >= 50 * worlds // 24


def without_filling(world: World, decision: Decision, layout: Layout) -> int:
    """Latency where prefetches stand behind the streams of their step, each in one piece.

    A step with transfers of its own waits for what is under way.
    """
    bare = replace(layout, programs=[replace(p, after=[]) for p in layout.programs])
    alone = run(bare, world.site.hardware.dram)
    time = queue = 0
    arrives: dict[int, int] = {}
    for step, program in zip(alone.steps, layout.programs, strict=True):
        index = program.after[0].step if program.after else layout.programs.index(program)
        own = [t.end_cycle - step.start_cycle for t in alone.transfers if t.step == index]
        time = max([time, *(end for need, end in arrives.items() if own or need == index)])
        queue = time + max(own) if own else max(queue, time)
        time += step.end_cycle - step.start_cycle
        for load in program.after:
            queue += load.end_cycle
            arrives[load.need_step] = queue
    return time


def test_filling_the_gaps_gains_and_costs_no_more_than_the_cuts(plans: list[Run]) -> None:
    gained: Counter[str] = Counter()
    for dram in (EXACT, None):
        for world, decision, layout, timeline in plans if dram is None else by_lot(range(8), dram):
            price = cut_costs(world.site.hardware.dram).cycles
            cuts = sum(len(pieces) - 1 for pieces in loads_of(timeline).values())
            before = without_filling(world, decision, layout)
            assert timeline.latency_cycles <= before + cuts * price
            gained["exact" if dram else "any"] += timeline.latency_cycles < before
    assert min(gained["exact"], gained["any"]) >= 10


@some_seeds(range(6), range(16))
def test_the_machine_takes_what_the_problem_counts_where_cuts_are_free(
    seeds: Sequence[int],
) -> None:
    for world, decision, _, timeline in by_lot(seeds, EXACT, ordered=True):
        assert world.problem.hopeful() is world.problem
        moved = sum(t.moved_bytes for t in timeline.transfers)
        assert cost_of(world.problem, decision, "latency") == (timeline.latency_cycles, moved)


@some_seeds(range(10), range(24))
def test_the_machine_takes_no_less_than_the_problem_counts_with_free_cuts(
    seeds: Sequence[int],
) -> None:
    dearer: Counter[bool] = Counter()
    for world, decision, _, timeline in by_lot(seeds, ordered=True):
        cost, moved = cost_of(world.problem.hopeful(), decision, "latency")
        assert moved == sum(t.moved_bytes for t in timeline.transfers)
        assert timeline.latency_cycles >= cost
        dearer[timeline.latency_cycles > cost] += 1
    assert min(dearer[False], dearer[True]) >= len(seeds) // 2
