"""Time: the tile pipeline against a simulation, and each step against its candidate's prices."""

from __future__ import annotations

import random

import numpy as np
import pytest
from plan_fixture import make_world, random_chip, random_decision, random_network

from spm_opt.graph.builder import NetworkBuilder
from spm_opt.layout import lay_out
from spm_opt.pipeline import pipeline_spans
from spm_opt.timeline import run


def simulated(
    compute: list[int], load: list[int], store: list[int], written: list[int], depth: int
) -> tuple[int, int]:
    """Ends of the last command and the last transfer, by trying every engine every cycle."""
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
    transfers = [end for (kind, _), end in ends.items() if kind != "compute"]
    return max(ends.values()), max(transfers, default=0)


@pytest.mark.parametrize("seed", range(60))
def test_pipelines_are_those_of_a_cycle_by_cycle_simulation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tiles, depth = int(rng.integers(1, 7)), int(rng.integers(1, 3))
    rows = [rng.integers(low, 9, (5, tiles)) for low in (1, 0, 0, 0)]
    for row in rows[1:]:
        # whole kinds of transfers absent, and single ones
        row[rng.random(5) < 0.4] = 0
        row[rng.random(row.shape) < 0.3] = 0
    spans = pipeline_spans(*(row.astype(np.int64) for row in rows), depth)
    for n in range(5):
        expected = simulated(*(row[n].tolist() for row in rows), depth)
        assert (spans.duration_cycles[n], spans.dma_cycles[n]) == expected


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
        timeline = run(layout)
        for step, k in enumerate(decision.candidates):
            candidate, program = world.problem.candidates[k], layout.programs[step]
            front = sum(t.end_cycle for t in program.front)
            begin, end = timeline.steps[step].start_cycle, timeline.steps[step].end_cycle
            assert end - begin - front == candidate.duration_cycles
            streamed = [
                t.end_cycle for t in timeline.transfers if t.step == step and t.tile is not None
            ]
            assert max(streamed, default=begin + front) - begin - front == candidate.dma_cycles
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
    world = make_world(network, random_chip(rng, network, tightness=50.0))
    for _ in range(300):
        decision = random_decision(rng, world.problem)
        assert decision is not None
        timeline = run(lay_out(world.site, world.problem, world.recipes, decision))
        starts = [step.start_cycle for step in timeline.steps]
        for t in timeline.transfers:
            assert t.start_cycle >= starts[t.step]
            if t.need_step > t.step:
                assert t.end_cycle <= starts[t.need_step]
                crossed += t.end_cycle > starts[t.step + 1]
                held_up += t.end_cycle == starts[t.need_step]
    assert crossed > 0
    assert held_up > 0
