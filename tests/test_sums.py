"""Layers that add input channels slice by slice: sums stay, all else comes once a block."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from emitted import COMPILER, Batch, drawn_inputs
from plan_fixture import World, random_decision, schedule_of
from schedule_fixture import partial_sums

import spm_opt
from spm_opt.api import load_hardware
from spm_opt.commands import lower
from spm_opt.emit.c_project import emit_project
from spm_opt.emit.kernels import require_chunk
from spm_opt.errors import GraphError, SolverError, SpmTooSmallError
from spm_opt.formats import tables
from spm_opt.fusion_sums import sum_groups, sums
from spm_opt.graph.builder import NetworkBuilder
from spm_opt.graph.network import Network
from spm_opt.graph.sums import reduction, sliced, sum_bytes
from spm_opt.params import SolveParams
from spm_opt.parts_space import minimum_spm_bytes
from spm_opt.planner import make_world
from spm_opt.problem import Candidate
from spm_opt.schedule import Schedule
from spm_opt.seeded import draw_values
from spm_opt.simulate import simulate
from spm_opt.site import make_site
from spm_opt.verify import verify
from spm_opt.verify.commands import verify_commands
from spm_opt.verify.engines import read_bytes
from spm_opt.verify.facts import facts_of

CHIP = {"spm.alignment": "16", "dram.burst": "16"}


def convolution(
    kernel: int = 3, rows: int = 16, images: int = 1, groups: int = 1, stride: int = 1,
    dtype: str = "int8", channels: int = 64, padding: int | None = None,
) -> Network:  # fmt: skip
    """A layer that makes the map, and the convolution that reads it."""
    b = NetworkBuilder("two", dtype=dtype)
    x = b.conv(b.input("x", (images, 4, rows, 16)), channels, 1, name="first")
    y = b.conv(
        x, channels, kernel, stride=stride, groups=groups, name="second", activation="relu",
        padding=kernel // 2 if padding is None else padding,
    )  # fmt: skip
    b.output(y)
    return b.build()


def product(rows: int = 16, dtype: str = "int8", inner: int = 256) -> Network:
    b = NetworkBuilder("two", dtype=dtype)
    x = b.linear(b.input("x", (rows, 16)), inner, name="first")
    b.output(b.linear(x, 256, name="second"))
    return b.build()


def world(network: Network, capacity: str = "8 KiB", tiles: int = 64, **overrides: str) -> World:
    """The candidates of the first layer, and of the second those with sums in few `tiles`."""
    hardware = load_hardware("mobile_npu", {"spm.capacity": capacity, **CHIP, **overrides})
    made = make_world(network, hardware, SolveParams(objective="energy"), "source", (0, 1))
    (_, edge), (_, end) = made.site.spans
    part = replace(made.site.parts[edge], channels=None)

    def wanted(candidate: Candidate) -> bool:
        recipe = made.recipes[candidate.recipe]
        if recipe.axis != "sums" or (candidate.first, candidate.end) != (edge, end):
            return candidate.end <= edge and not recipe.bands
        shape = (recipe.height,), recipe.width, recipe.slice
        return len(sums(made.site, 1, recipe.part or part, *shape).block) <= tiles

    return World(made.site, made.problem.only(wanted), made.recipes)


def has_sums(found: World) -> bool:
    return any(found.recipes[c.recipe].axis == "sums" for c in found.problem.candidates)


def schedules(found: World, count: int, seed: int = 0) -> Iterator[Schedule]:
    """Plans by lot, as many as some hundred draws give."""
    rng = random.Random(seed)
    made = (random_decision(rng, found.problem) for _ in range(200))
    plans = (schedule_of(found, decision, n % 2 > 0) for n, decision in enumerate(made) if decision)
    yield from islice((plan for plan in plans if plan is not None), count)


CASES = {
    "conv": (convolution(), "8 KiB"),
    "groups": (convolution(groups=2), "8 KiB"),
    "images": (convolution(rows=5, images=3), "8 KiB"),
    "strided": (convolution(5, rows=15, stride=2), "16 KiB"),
    "odd": (convolution(channels=52), "8 KiB"),
    "product": (product(), "8 KiB"),
}


# --------------------------------------------------------------------------- one layer, taken apart


def test_constants_of_slices_are_the_kernel_in_order_and_then_the_rest() -> None:
    network = convolution(groups=2)
    known = reduction(network, network.layers[1])
    # 64 / 2 inputs of 3 x 3 taps, and a bias of 4 bytes
    assert known is not None
    assert (known.inputs, known.outputs, known.channel_bytes, known.input_bytes) == (32, 32, 292, 9)
    assert [known.constants(s) for s in ((0, 8), (8, 32))] == [(0, 72), (72, 292)]
    assert known.read((32, 40), (8, 16)) == (40, 48)
    assert known.one_group((32, 64))
    assert not known.one_group((24, 40))
    part = sliced(network.layers[1], 8)
    assert part.macs * 4 == network.layers[1].macs
    assert [sum_bytes(dtype) for dtype in ("int8", "float16", "float32", "int64")] == [4, 4, 4, 8]


def test_what_has_no_slices() -> None:
    b = NetworkBuilder("none", dtype="int8")
    x = b.conv(b.input("x", (1, 8, 8, 8)), 8, 3, padding=1, groups=8, name="depthwise")
    y = b.max_pool(x, 2, name="pool")
    flat = b.reshape(y, (1, 8 * 16))
    b.output(b.linear(flat, 4, name="view"))
    network = b.build()
    assert {reduction(network, layer) for layer in network.layers} == {None}
    measured = replace(convolution().layers[1], cycles=1000)
    assert reduction(convolution(), measured) is None


# --------------------------------------------------------------------------- counts


@pytest.mark.parametrize("name", CASES)
def test_counts_are_those_of_a_walk_over_the_elements(name: str) -> None:
    """DRAM bytes, MACs and space of every candidate, from sets of what each tile touches."""
    network, capacity = CASES[name]
    found, seen = world(network, capacity, 4096), set()
    for candidate in found.problem.candidates:
        recipe = found.recipes[candidate.recipe]
        if recipe.axis != "sums" or candidate.reads:
            continue
        walked = Walk(network, recipe.height, recipe.width, recipe.slice, recipe.depth)
        stored = walked.stored if candidate.stores else 0
        kept = network.tensors[network.layers[1].output].size_bytes if candidate.keeps else 0
        assert candidate.dram_bytes == walked.loaded + stored
        assert candidate.work_bytes == walked.space + (kept or walked.block)
        assert walked.macs == network.layers[1].macs
        seen.add((recipe.height, recipe.width, recipe.slice, recipe.depth))
    assert len(seen) > 1


class Walk:
    """A layer's elements, block by block and slice by slice."""

    def __init__(self, net: Network, height: int, width: int, count: int, depth: int) -> None:
        layer = net.layers[1]
        loops, kernel = layer.loops, layer.weights[0].elements
        assert loops is not None
        inputs, taps = loops.c, loops.fy * loops.fx
        source, output = net.tensors[layer.inputs[0].tensor], net.tensors[layer.output]
        out_channels = layer.output_shape[layer.channel_axis or 0]
        per_channel = layer.weight_bytes // out_channels
        in_row = source.row_bytes // (inputs * loops.g)
        out_row = output.row_bytes // out_channels
        conv = len(source.shape) == 4
        self.loaded = self.stored = self.macs = 0
        weights = maps = sums = block = 0
        every: set[tuple[int, int]] = set()
        for rows in stripes(layer.rows, layer.images, height):
            need: set[int] = set()
            for row in rows:
                image, own = divmod(row, layer.image_rows)
                for tap in range(loops.fy):
                    at = own * (layer.op.stride[0] if conv else 1) + tap - loops.fy // 2
                    if 0 <= at < source.rows // layer.images:
                        need.add(image * (source.rows // layer.images) + at)
            for group in range(loops.g):
                for k in range(group * loops.k, (group + 1) * loops.k, width):
                    outs = range(k, min(k + width, (group + 1) * loops.k))
                    for c in range(0, inputs, count):
                        ins = range(c, min(c + count, inputs))
                        last = ins.stop == inputs
                        run = per_channel - c * taps if last else len(ins) * taps
                        self.loaded += len(outs) * bursts(run)
                        # each row of a map has its channels side by side
                        self.loaded += len(need) * bursts(len(ins) * in_row)
                        self.macs += len(rows) * out_row * len(outs) * len(ins) * taps
                        weights = max(weights, len(outs) * run)
                        maps = max(maps, len(need) * len(ins) * in_row)
                        if last:
                            self.stored += len(rows) * bursts(len(outs) * out_row)
                            block = max(block, len(rows) * len(outs) * out_row)
                            every |= {(row, out) for row in rows for out in outs}
                    sums = max(sums, len(rows) * len(outs) * out_row * 4)
        assert len(every) == layer.rows * out_channels
        assert kernel == out_channels * inputs * taps
        self.block = bursts(block)  # as long as the alignment
        self.space = bursts(depth * weights) + bursts(depth * maps) + bursts(sums)


def stripes(rows: int, images: int, height: int) -> Iterator[range]:
    """Whole images, or rows of one."""
    one = rows // images
    if height >= one:
        yield from (range(r, min(r + height, rows)) for r in range(0, rows, height))
        return
    for image in range(images):
        for r in range(0, one, height):
            yield range(image * one + r, image * one + min(r + height, one))


def bursts(size: int) -> int:
    return -(-size // 16) * 16


def test_only_layers_of_which_nothing_stays_have_candidates() -> None:
    network = convolution()
    for capacity, some in (("8 KiB", True), ("256 KiB", False)):
        hardware = load_hardware("mobile_npu", {"spm.capacity": capacity, **CHIP})
        made = make_world(network, hardware, SolveParams(), "source", (0, 1))
        assert any(True for _ in sum_groups(made.site, 1)) == some
    rows = make_world(network, hardware, SolveParams(tilings="rows"), "source", (0, 1))
    assert "sums" not in {recipe.axis for recipe in rows.recipes}


def test_a_layer_of_which_no_row_fits_may_be_added_up() -> None:
    network = convolution(channels=192, rows=12)
    least, layer = minimum_spm_bytes(network, load_hardware("mobile_npu", CHIP))
    assert (layer, least > 10 * 1024) == ("second", True)
    assert has_sums(world(network, "8 KiB", 4096))
    with pytest.raises(SpmTooSmallError):
        world(network, "1 KiB")


def test_slices_that_do_not_fit_are_no_reason_against_sums() -> None:
    b = NetworkBuilder("wide", dtype="int8")
    x = b.conv(b.input("x", (1, 4, 24, 200)), 160, 1, name="first")
    b.output(b.conv(x, 64, 1, name="wide"))
    network = b.build()

    def is_added_up(capacity: str) -> bool:
        hardware = load_hardware("eyeriss", {"spm.capacity": capacity})
        site = make_site(network, hardware, (0, 1))
        return any(True for _ in sum_groups(site, 1))

    # sums load the input more often than two slices of the output; 30 KiB have no such slices
    assert not is_added_up("40 KiB")
    assert is_added_up("30 KiB")
    plan = spm_opt.solve(
        b, "eyeriss", overrides={"spm.capacity": "30 KiB"}, strategy="layerwise", workers=1
    )
    assert plan.verified
    with pytest.raises(SpmTooSmallError):
        spm_opt.solve(b, "eyeriss", overrides={"spm.capacity": "30 KiB"}, tilings="rows")


def test_stripes_are_few_in_each_image() -> None:
    """Constants come once for each stripe: more often for a batch, and so do its inputs."""

    def shapes(images: int) -> set[tuple[int, int, int]]:
        network = convolution(rows=32, images=images)
        hardware = load_hardware("mobile_npu", {"spm.capacity": "8 KiB", **CHIP})
        site = make_site(network, hardware, (0, 1))
        return {
            (height, group.plain.width, group.plain.slice)
            for group in sum_groups(site, 1)
            for height in group.cuts.heights
        }

    one, batch = shapes(1), shapes(4)
    assert min(height for height, _, _ in batch) <= min(height for height, _, _ in one) < 32


def test_the_layer_that_is_named_is_one_without_any_tiling() -> None:
    """Not the one that needs most in stripes, where that one fits in bands of columns."""
    b = NetworkBuilder("two", dtype="int8")
    b.output(b.conv(b.input("x", (1, 160, 4, 400)), 4, 1, name="wide"))
    b.output(b.softmax(b.input("y", (1, 20_000)), axis=1, name="long"))
    network, hardware = b.build(), load_hardware("eyeriss", {"spm.capacity": "16 KiB"})
    least, worst = minimum_spm_bytes(network, hardware)
    assert worst == "wide"
    with pytest.raises(SpmTooSmallError) as error:
        make_world(network, hardware, SolveParams(), "source", (0, 1))
    assert error.value.layer == "long"
    assert hardware.spm.capacity_bytes < error.value.needed_bytes < least


def test_a_search_without_a_plan_names_the_layer_that_fits_in_no_stripes() -> None:
    b = NetworkBuilder("tight", dtype="int8")
    x = b.conv(b.input("x", (1, 48, 2, 200)), 160, 3, padding=1, name="conv")
    b.output(b.softmax(x, axis=1, name="soft"))
    # constants for channels a few at a time only, rows for columns a few at a time only
    with pytest.raises(SolverError, match=r"'soft' fits 30720 bytes only in bands .* 64000 bytes"):
        spm_opt.solve(b, "eyeriss", overrides={"spm.capacity": "30 KiB"}, workers=1)


def test_tiles_are_those_of_three_loops() -> None:
    found = world(convolution(groups=2))
    part = replace(found.site.parts[-1], channels=None)
    one = sums(found.site, 1, part, (7, 16), 20, 24)
    tiles = one.cuts.tiles
    listed = [
        (*rows, *one.channels[block], *one.slices[slice_])
        for *rows, block, slice_ in zip(
            tiles.begin.tolist(), tiles.end.tolist(), one.block.tolist(), one.slice.tolist(),
            strict=True,
        )
    ]  # fmt: skip
    assert listed == [
        (row, min(row + height, 16), channel, min(channel + 20, group + 32), c, min(c + 24, 32))
        for height in (7, 16)
        for row in range(0, 16, height)
        for group in (0, 32)
        for channel in range(group, group + 32, 20)
        for c in range(0, 32, 24)
    ]
    assert one.cuts.spans() == [(0, 24), (24, 32)]


# --------------------------------------------------------------------------- plans and programs


@pytest.mark.parametrize("name", [*CASES, "padding"])
def test_plans_pass_both_checkers_and_the_simulator(name: str) -> None:
    # of which the first and the last stripe have rows of padding alone
    padded = convolution(rows=6, padding=6, channels=48), "3 KiB"
    network, capacity = {**CASES, "padding": padded}[name]
    made = list(schedules(world(network, capacity, 256), 2))
    assert len(made) == 2
    for schedule in made:
        assert verify(schedule) == ()
        stream = lower(schedule)
        assert verify_commands(schedule, stream) == ()
        simulation = simulate(stream, schedule.hardware)
        assert simulation.latency_cycles == schedule.claims.latency_cycles
        assert simulation.dram_bytes == schedule.claims.dram_bytes


@pytest.mark.parametrize("name", ["conv", "groups", "product"])
def test_energy_of_a_plan_is_that_of_its_candidates(name: str) -> None:
    """Priced tile by tile by the planner, added up command by command by the checker."""
    network, capacity = CASES[name]
    found, rng, count = world(network, capacity, 256), random.Random(1), 0
    for _ in range(60):
        decision = random_decision(rng, found.problem)
        if decision is None or decision.reloads:
            continue
        schedule = schedule_of(found, decision)
        if schedule is not None:
            energy = schedule.claims.energy
            assert energy is not None
            assert verify(schedule) == ()
            known = sum(found.problem.candidates[k].energy_fj for k in decision.candidates)
            assert energy.total_fj - energy.leakage_fj == known
            count += 1
        if count == 2:
            return
    pytest.fail("no plan")


@pytest.mark.parametrize("name", ["conv", "groups", "product"])
def test_the_table_of_layers_counts_slices_as_deep_as_they_are(name: str) -> None:
    """With a scratchpad that is fast enough nothing is bound by it."""
    network, capacity = CASES[name]
    found = world(network, capacity, 256, **{"spm.bandwidth": "1000000 B/cycle"})
    schedule = next(schedules(found, 1))
    layer = schedule.network.layers[1]
    commands = [c for c in schedule.computes if c.layer == layer.name]
    assert any(command.summed for command in commands)
    took = sum(command.end_cycle - command.start_cycle for command in commands)
    assert tables._work_cycles(schedule, layer, commands) == took


def test_sums_are_read_and_written_in_the_scratchpad() -> None:
    """By hand: of `partial_sums`, the first slice writes its sums, the second reads them."""
    schedule = partial_sums()
    facts = facts_of(schedule)
    read = [read_bytes(facts, command) for command in schedule.computes[1:]]
    # rows of four channels, four kernels of 36 bytes, of 40 with the bias; 256 sums of 4 bytes
    assert read == [256 + 144, 256 + 160 + 1024]
    assert [facts.sums_bytes(command) for command in schedule.computes[1:]] == [1024, 1024]


def test_partial_sums_save_bytes_where_neither_input_nor_constants_fit() -> None:
    overrides = {"spm.capacity": "16 KiB", **CHIP}
    found = {
        (strategy, tilings): spm_opt.solve(
            product(32, inner=512), strategy=strategy, objective="dram", tilings=tilings,
            overrides=overrides, workers=1, deterministic_limit=2.0, orders=1,
        )
        for strategy in ("layerwise", "joint")
        for tilings in ("all", "rows")
    }  # fmt: skip
    assert found["layerwise", "all"].schedule.steps[-1].axis == "sums"
    for strategy in ("layerwise", "joint"):
        with_, without = (
            found[strategy, tilings].dram_bytes["total"] for tilings in ("all", "rows")
        )
        assert with_ < 0.8 * without
    assert (
        found["joint", "all"].dram_bytes["total"] <= found["layerwise", "all"].dram_bytes["total"]
    )


def test_a_product_goes_on_where_a_chunk_ends() -> None:
    layer = product().layers[1]
    require_chunk(layer, 128)
    require_chunk(convolution().layers[1], 5)
    with pytest.raises(GraphError, match="a multiple of 64"):
        require_chunk(layer, 96)


def drawn(seed: int) -> tuple[World, Network] | None:
    """A layer by lot on a chip on which neither its input nor its constants have room."""
    rng = random.Random(seed)
    dtype = rng.choice(["int8", "float32"])
    if rng.random() < 0.3:
        network = product(rng.randint(3, 20), dtype, rng.choice([192, 256, 300]))
    else:
        groups = rng.choice([1, 1, 2, 3])
        network = convolution(
            rng.choice([1, 3, 5]), rng.randint(5, 12), rng.choice([1, 1, 2]), groups,
            rng.choice([1, 2]), dtype, groups * rng.choice([8, 12, 20]),
            rng.choice([None, None, 0, 6]),
        )  # fmt: skip
    size = network.tensors[network.layers[1].inputs[0].tensor].size_bytes
    room = min(size, network.layers[1].weight_bytes) * rng.choice([1.5, 2.5, 3.5])
    try:
        found = world(network, f"{int(room) // 16 * 16} B")
    except SpmTooSmallError:
        return None
    return (found, network) if has_sums(found) else None


@pytest.mark.skipif(COMPILER is None, reason="no C compiler (cc, gcc or clang)")
@pytest.mark.parametrize(
    "seeds", [range(12), *(pytest.param(range(n, n + 12), marks=pytest.mark.heavy)
                           for n in range(12, 156, 12))],
)  # fmt: skip
def test_programs_give_the_bits_of_those_that_add_all_at_once(
    objects, tmp_path: Path, seeds: range
) -> None:
    batch, plans = Batch(objects, tmp_path), []
    for seed in seeds:
        made = drawn(seed)
        if made is None:
            continue
        found, network = made
        values, inputs = draw_values(network, seed), drawn_inputs(network, seed)
        some = list(schedules(found, 1, seed))
        for schedule in (whole(network), *some) if some else ():
            batch.add(schedule, emit_project(schedule, values), inputs)
            plans.append(schedule)
    assert len(plans) >= 6
    ran = batch.run()
    for number in range(1, len(ran), 2):
        schedule, one = plans[number], ran[number]
        assert verify(schedule) == ()
        assert schedule.steps[-1].axis == "sums"
        assert one.dram_bytes == schedule.claims.dram_bytes
        for mode, outputs in one.outputs.items():
            for name, array in outputs.items():
                np.testing.assert_array_equal(array, ran[number - 1].outputs[mode][name])


def whole(network: Network) -> Schedule:
    """A plan that keeps everything."""
    hardware = load_hardware("mobile_npu", {"spm.capacity": "4 MiB", **CHIP})
    made = make_world(network, hardware, SolveParams(tilings="rows"), "source", (0, 1))
    return next(schedules(World(made.site, made.problem, made.recipes), 1))
