"""Layers in blocks: stripes of rows outside, tiles of channels inside, constants once a stripe."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from draws import quick_of
from emitted import COMPILER, Batch, drawn_inputs
from plan_fixture import schedule_of
from values_oracle import run as computed

import spm_opt
from spm_opt.api import load_hardware
from spm_opt.commands import lower
from spm_opt.decision import Decision
from spm_opt.emit.c_project import emit_project
from spm_opt.fusion_blocks import block_heights, blocks
from spm_opt.graph.builder import NetworkBuilder
from spm_opt.graph.network import Network
from spm_opt.params import SolveParams
from spm_opt.planner import make_world
from spm_opt.planner_placing import World
from spm_opt.planner_search import Clock, Search
from spm_opt.schedule import Schedule
from spm_opt.seeded import draw_values
from spm_opt.simulate import simulate
from spm_opt.verify import verify
from spm_opt.verify.commands import verify_commands


def network(kernel: int = 1, rows: int = 16, images: int = 1) -> Network:
    """One convolution whose input and constants are both larger than half the scratchpad."""
    b = NetworkBuilder("one", dtype="int8")
    x = b.input("x", (images, 64, rows, 16))
    b.output(b.conv(x, 64, kernel, padding=kernel // 2, name="conv"))
    return b.build()


def world(net: Network, **overrides: str) -> World:
    hardware = load_hardware(
        "mobile_npu", {"spm.capacity": "8 KiB", "spm.alignment": "16", "dram.burst": "16",
                       **overrides}
    )  # fmt: skip
    return make_world(net, hardware, SolveParams(), "source", (0,))


def alone(found: World, axis: str = "blocks") -> Iterator[tuple[int, Decision]]:
    """Every candidate along an axis that is all of the layer, as a plan."""
    for k, candidate in enumerate(found.problem.candidates):
        span = candidate.first, candidate.end
        if found.recipes[candidate.recipe].axis == axis and span == (0, len(found.site.parts)):
            yield k, Decision((k,), (), (), (-1,) * len(found.site.parts))


@pytest.mark.parametrize(("images", "least"), [(1, 4), (3, 4), (4, 4), (12, 13), (200, 256)])
def test_stripes_are_few_in_each_image_and_not_many_in_all(images: int, least: int) -> None:
    """16 an image, 64 in all: of 64 rows no stripe is lower than 4, or than 12 x 64 / 64."""
    (layer,) = network(rows=64, images=images).layers
    heights = block_heights(layer)
    assert min(heights) == least
    assert all(-(-layer.rows // height) <= 64 for height in heights)


def test_tiles_are_those_of_two_loops() -> None:
    found = world(network())
    part = found.site.parts[0]
    one = blocks(found.site, (0, 1), replace(part, channels=None), (7, 4), 24)
    tiles = one.cuts.tiles
    listed = [
        (begin, end, *one.channels[column])
        for begin, end, column in zip(
            tiles.begin.tolist(), tiles.end.tolist(), one.column.tolist(), strict=True
        )
    ]
    expected = [
        (row, min(row + height, 16), channel, min(channel + 24, 64))
        for height in (7, 4)
        for row in range(0, 16, height)
        for channel in range(0, 64, 24)
    ]
    assert listed == expected
    assert one.cuts.spans() == [(0, 9), (9, 21)]
    assert one.cuts.first.tolist() == [0] * 9 + [9] * 12
    assert one.cuts.last.tolist() == [8] * 9 + [20] * 12


@pytest.mark.parametrize(("kernel", "images"), [(1, 1), (3, 1), (3, 3)])
def test_bytes_are_those_of_a_walk_over_the_tiles(kernel: int, images: int) -> None:
    net = network(kernel, images=images)
    found, count = world(net), 0
    layer, row_bytes = net.layers[0], 64 * 16
    for k, _ in alone(found):
        candidate = found.problem.candidates[k]
        recipe = found.recipes[candidate.recipe]
        stripes = walked(16, images, recipe.height)
        loaded = sum(end - begin for begin, end in fresh_rows(stripes, kernel, 16))
        widths = [min(64 - c, recipe.width) for c in range(0, 64, recipe.width)]
        weights = sum(
            -(-layer.weight_bytes * width // 64 // 16) * 16 for width in widths
        ) * len(stripes)  # fmt: skip
        assert candidate.dram_bytes == weights + loaded * row_bytes + images * 16 * row_bytes
        count += 1
    assert count > 1


def walked(rows: int, images: int, height: int) -> list[tuple[int, int]]:
    """Stripes of whole images, or of rows of one."""
    if height >= rows:
        return [(r, min(r + height, rows * images)) for r in range(0, rows * images, height)]
    return [
        (image * rows + r, image * rows + min(r + height, rows))
        for image in range(images)
        for r in range(0, rows, height)
    ]


def fresh_rows(
    stripes: list[tuple[int, int]], kernel: int, rows: int
) -> Iterator[tuple[int, int]]:  # fmt: skip
    """Input rows that each stripe adds; halos stay within an image."""
    end = 0
    for begin, last in stripes:
        top = begin // rows * rows
        bottom = (last - 1) // rows * rows + rows
        low, high = max(top, begin - kernel // 2), min(bottom, last + kernel // 2)
        yield max(low, end), max(high, end)
        end = max(end, high)


def schedules(found: World, axis: str = "blocks", every: int = 1) -> Iterator[Schedule]:
    """Plans along an axis: of each plan, or of one of so many."""
    for _, decision in islice(alone(found, axis), None, None, every):
        for wide in (False, True):
            schedule = schedule_of(found, decision, wide)
            if schedule is not None:
                yield schedule


def test_plans_in_blocks_pass_the_checker_and_the_simulator() -> None:
    count = 0
    for schedule in schedules(world(network(3, images=2)), every=5):
        assert verify(schedule) == ()
        stream = lower(schedule)
        assert verify_commands(schedule, stream) == ()
        simulation = simulate(stream, schedule.hardware)
        assert simulation.latency_cycles == schedule.claims.latency_cycles
        count += 1
    assert count > 3


def test_a_stripe_without_its_constants_or_with_those_of_others_is_refused() -> None:
    schedule = next(
        s for s in schedules(world(network(3))) if s.steps[0].depth == 1 and s.steps[0].tiles > 4
    )
    weights = [n for n, t in enumerate(schedule.transfers) if t.role == "weights"]
    second = weights[len({schedule.transfers[n].channels for n in weights})]
    without = tuple(t for n, t in enumerate(schedule.transfers) if n != second)
    assert any("reads the weights" in text for text in verify(replace(schedule, transfers=without)))
    other = schedule.transfers[weights[1]]
    swapped = replace(
        schedule.transfers[second], channels=other.channels, dram_address=other.dram_address
    )
    changed = tuple(swapped if n == second else t for n, t in enumerate(schedule.transfers))
    assert any("reads the weights" in text for text in verify(replace(schedule, transfers=changed)))


def test_a_store_of_rows_that_another_stripe_wrote_is_refused() -> None:
    schedule = next(s for s in schedules(world(network(1))) if s.steps[0].tiles > 4)
    stores = [n for n, t in enumerate(schedule.transfers) if t.kind == "store"]
    first, last = schedule.transfers[stores[0]], schedule.transfers[stores[-1]]
    wrong = replace(last, rows=first.rows, dram_address=first.dram_address)
    changed = tuple(wrong if n == stores[-1] else t for n, t in enumerate(schedule.transfers))
    assert verify(replace(schedule, transfers=changed))


def test_channel_tiles_may_load_rows_that_nobody_needs() -> None:
    b = NetworkBuilder("deep", dtype="int8")
    x = b.input("x", (1, 32, 16, 16))
    b.output(b.conv(x, 32, 3, stride=2, groups=32, name="conv"))  # the last row is not read
    made = list(schedules(world(b.build()), "channels"))
    assert made
    assert all(verify(schedule) == () for schedule in made)


def test_a_problem_that_only_blocks_solve_is_solved() -> None:
    """As where the greedy choice of maps leaves a layer nothing else."""
    found = world(network(3))
    problem = found.problem.only(lambda c: found.recipes[c.recipe].axis == "blocks")
    search = Search(found, problem, Clock(SolveParams(workers=1), None, None))
    search.run()
    assert search.found


def test_blocks_save_bytes_where_neither_input_nor_constants_fit() -> None:
    net = network(3, rows=32)
    overrides = {"spm.capacity": "16 KiB"}
    with_, without = (
        spm_opt.solve(
            net, strategy="layerwise", objective="dram", overrides=overrides, tilings=tilings,
            workers=1, deterministic_limit=5.0,
        )
        for tilings in ("all", "rows")
    )  # fmt: skip
    assert {step.axis for step in with_.schedule.steps} == {"blocks"}
    assert with_.dram_bytes["total"] < 0.8 * without.dram_bytes["total"]


@pytest.mark.skipif(COMPILER is None, reason="no C compiler (cc, gcc or clang)")
@pytest.mark.parametrize("every", quick_of([14], [14, 7]))
def test_programs_in_blocks_compute_what_the_network_does(
    objects, tmp_path: Path, every: int
) -> None:
    batch, made = Batch(objects, tmp_path), []
    for seed, net in enumerate((network(1), network(3), network(3, images=3), network(3, rows=11))):
        values, inputs = draw_values(net, seed), drawn_inputs(net, seed)
        for schedule in schedules(world(net), every=every):
            batch.add(schedule, emit_project(schedule, values), inputs)
            made.append((schedule, computed(net, values, inputs)))
    assert len(made) > 7
    for (schedule, wanted), ran in zip(made, batch.run(), strict=True):
        assert ran.dram_bytes == schedule.claims.dram_bytes
        for outputs in ran.outputs.values():
            for name, array in outputs.items():
                np.testing.assert_array_equal(array, wanted[name])
