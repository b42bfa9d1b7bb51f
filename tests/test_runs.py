"""Runs: several layers in tiles of output channels; what they hand on is there for a tile only."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from emitted import COMPILER, Batch, drawn_inputs
from plan_fixture import random_decision, schedule_of
from runs_fixture import (
    Plan,
    Tile,
    attention,
    channels_of,
    plans,
    random_run,
    shared,
    tight,
    tiles,
    world,
)
from values_oracle import run as computed

import spm_opt
from spm_opt.api import load_hardware
from spm_opt.banding import BandConflictError
from spm_opt.commands import lower
from spm_opt.emit.c_project import emit_project
from spm_opt.fusion import Recipe
from spm_opt.fusion_runs import fitting
from spm_opt.graph.builder import NetworkBuilder
from spm_opt.graph.network import Network
from spm_opt.params import SolveParams
from spm_opt.planner import make_world
from spm_opt.problem import Candidate
from spm_opt.schedule import Schedule
from spm_opt.seeded import draw_values
from spm_opt.simulate import simulate
from spm_opt.verify import verify
from spm_opt.verify.commands import verify_commands

AXES = ("channels", "blocks")


def conv_pool(channels: int = 8) -> Network:
    b = NetworkBuilder("conv_pool", dtype="int8")
    y = b.conv(b.input("x", (1, 4, 8, 8)), channels, 3, padding=1, name="conv")
    b.output(b.max_pool(y, 2, name="pool"))
    return b.build()


def some(network: Network, axis: str, most: int, wide: bool = False) -> list[Plan]:
    """A few plans of a network, spread over all of them."""
    found = list(plans(world(network, tight(network, axis)), axis, wide))
    return found[:: max(1, len(found) // most)][:most]


# --------------------------------------------------------------------------- counts


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("seed", [0, 1, 2, 3, 5, 6, 7, 9, 10, 11])
def test_counts_are_those_of_a_walk_over_elements(axis: str, seed: int) -> None:
    rng = random.Random(seed)
    network = random_run(rng, images=rng.choice([1, 1, 2]))
    found = some(network, axis, 4)
    assert found
    for plan in found:
        walk = walked(network, plan)
        assert computed_elements(network, plan.schedule) == [tile.made for tile in walk]
        assert moved(plan.schedule) == wanted_bytes(network, plan, walk)
        sizes = wanted_sizes(network, plan, walk)
        assert {n: s for n, s in held(plan.schedule).items() if n in sizes} == sizes
        work = sum(b.size_bytes for b in plan.schedule.buffers if b.first_step == 0)
        read = sum(network.tensors[name].size_bytes for name in reads(plan))
        assert plan.candidate.work_bytes == work - read
        # no claim for constants ahead of the step takes less than the smallest of their buffers
        streams = [b.size_bytes for b in plan.schedule.buffers if b.kind == "weight_stream"]
        assert plan.candidate.overlap.constants_bytes == min(streams, default=0)
        again = sum(done(network, tile) for tile in walk) - network.macs
        assert plan.schedule.claims.recomputed_macs >= max(0, again)


def walked(network: Network, plan: Plan) -> list[Tile]:
    recipe = plan.recipe
    rows = network.layers[-1].rows
    if recipe.axis == "channels":
        return tiles(network, rows, recipe.height)
    return tiles(network, recipe.height, recipe.width)


def computed_elements(
    network: Network, schedule: Schedule
) -> list[dict[str, set[tuple[int, int]]]]:  # fmt: skip
    found: list[dict[str, set[tuple[int, int]]]] = [{} for _ in range(schedule.steps[0].tiles)]
    for c in schedule.computes:
        assert c.channels is not None
        found[c.tile][c.layer] = {
            (row, channel) for row in range(*c.rows) for channel in range(*c.channels)
        }
    return found


def done(network: Network, tile: Tile) -> int:
    """MACs of a tile."""
    layers = {layer.name: layer for layer in network.layers}
    return sum(
        layers[name].macs * len(own) // (layers[name].rows * layers[name].output_shape[1])
        for name, own in tile.made.items()
    )


def reads(plan: Plan) -> list[str]:
    """Maps that are read where they lie whole."""
    return [b.tensor for b in plan.schedule.buffers if b.kind == "map"]


def moved(schedule: Schedule) -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()
    for t in schedule.transfers:
        if t.tile is not None:
            found[t.kind, t.tensor] += t.moved_bytes
    return found


def element_bytes(network: Network, name: str) -> int:
    tensor = network.tensors[name]
    return tensor.size_bytes // (tensor.rows * channels_of(tensor))


def wanted_bytes(network: Network, plan: Plan, walk: list[Tile]) -> Counter[tuple[str, str]]:
    """Own channels with each tile, rows of all channels once; constants with each tile."""
    found: Counter[tuple[str, str]] = Counter()
    width = plan.recipe.width or plan.recipe.height
    for name in set(network.inputs) - set(reads(plan)):
        if own_channels(network, name, width):
            rows = {
                "channels": lambda tile, name=name: network.tensors[name].rows,
                "blocks": lambda tile, name=name: len({r for r, _ in tile.read[name]}),
            }[plan.recipe.axis]
            elements = sum(rows(tile) * len({c for _, c in tile.read[name]}) for tile in walk)
        else:
            elements = len({r for tile in walk for r, _ in tile.read[name]}) * channels_of(
                network.tensors[name]
            )
        found["load", name] = elements * element_bytes(network, name)
    for layer in network.layers:
        if layer.weight_bytes:
            found["load", layer.name] = sum(constants(network, tile, layer.name) for tile in walk)
    last = network.tensors[network.outputs[0]]
    found["store", last.name] = last.size_bytes
    return found


def own_channels(network: Network, name: str, width: int) -> bool:
    """Whether no tile of `width` channels needs other channels of an input than its own."""
    return all(
        network.sliced_reads[network.layers[n].name][i]
        and width % network.layers[n].op.channel_step() == 0
        for n in network.readers[name]
        for i, operand in enumerate(network.layers[n].inputs)
        if operand.tensor == name
    )


def constants(network: Network, tile: Tile, name: str) -> int:
    layer = next(layer for layer in network.layers if layer.name == name)
    width = len({c for _, c in tile.made[name]})
    return layer.weight_bytes * width // layer.output_shape[1]


def held(schedule: Schedule) -> dict[tuple[str, str], int]:
    return {(b.kind, b.tensor): b.size_bytes for b in schedule.buffers}


def wanted_sizes(network: Network, plan: Plan, walk: list[Tile]) -> dict[tuple[str, str], int]:
    """Buffers of tiles: the largest tile, as often as the step is deep."""
    depth, found = plan.recipe.depth, dict[tuple[str, str], int]()
    for layer in network.layers:
        if layer.weight_bytes:
            size = max(constants(network, tile, layer.name) for tile in walk)
            found["weight_stream", layer.name] = depth * size
        made = max(len(tile.made[layer.name]) for tile in walk) * element_bytes(
            network, layer.output
        )
        if layer is network.layers[-1]:
            found["channel_output", layer.output] = depth * made
        else:
            found["channel_stripe", layer.output] = made
    return found


# --------------------------------------------------------------------------- checker, simulator


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("wide", [False, True])
def test_plans_pass_the_checker_and_the_simulator(axis: str, wide: bool) -> None:
    networks = [attention(), *(random_run(random.Random(seed)) for seed in range(5))]
    count = 0
    for network in networks:
        for plan in some(network, axis, 4, wide):
            schedule = plan.schedule
            assert verify(schedule) == ()
            stream = lower(schedule)
            assert verify_commands(schedule, stream) == ()
            simulation = simulate(stream, schedule.hardware)
            assert simulation.latency_cycles == schedule.claims.latency_cycles
            assert simulation.dram_bytes == schedule.claims.dram_bytes
            count += 1
    assert count > 8


def handing_out(seeds: range) -> Iterator[tuple[Network, Schedule]]:
    """Plans that begin with a run whose layers hand channels on to others too."""
    for seed in seeds:
        rng = random.Random(seed)
        network = shared(rng)
        found = world(network, 4000)
        recipes = found.recipes

        def runs(c: Candidate, recipes: tuple[Recipe, ...] = recipes) -> bool:
            first, end = recipes[c.recipe].positions
            return c.first > 0 or (recipes[c.recipe].axis == "channels" and end > first + 1)

        problem = found.problem.only(runs)
        for _ in range(6):
            decision = random_decision(rng, problem)
            assert decision is not None
            schedule = schedule_of(replace(found, problem=problem), decision)
            if schedule is not None:
                yield network, schedule


def test_what_others_read_is_kept_or_stored_as_well() -> None:
    kinds: Counter[str] = Counter()
    for _, schedule in handing_out(range(8)):
        assert verify(schedule) == ()
        stream = lower(schedule)
        assert verify_commands(schedule, stream) == ()
        assert simulate(stream, schedule.hardware).dram_bytes == schedule.claims.dram_bytes
        buffers = [schedule.buffers[c.output] for c in schedule.computes if c.layer == "first"]
        kinds.update(buffer.kind for buffer in buffers[:1])
    assert kinds["map"] > 3
    assert kinds["channel_output"] > 3


def banded_then(second: str) -> Iterator[Schedule | None]:
    """Plans of conv and pool in bands, then a run in channel tiles; None where they conflict."""
    b = NetworkBuilder("bands", dtype="int8")
    y = b.conv(b.input("x", (1, 4, 12, 64)), 8, 3, padding=1, name="conv")
    y = b.max_pool(y, 2, name="pool")
    y = b.conv(y, 8, 1, name="second", groups=8 if second == "depthwise" else 1)
    b.output(b.max_pool(y, 2, name="behind"))
    found = world(b.build(), 4000)
    recipes = found.recipes
    wanted = {(0, 2): "rows", (2, 4): "channels"}
    problem = found.problem.only(
        lambda c: (
            wanted.get(recipes[c.recipe].positions) == recipes[c.recipe].axis
            and bool(recipes[c.recipe].bands) == (c.first == 0)
        )
    )
    rng = random.Random(0)
    for _ in range(8):
        decision = random_decision(rng, problem)
        assert decision is not None
        try:
            yield schedule_of(replace(found, problem=problem), decision)
        except BandConflictError:
            yield None


def test_a_run_reads_whole_what_bands_have_made() -> None:
    made = [schedule for schedule in banded_then("dense") if schedule is not None]
    assert made
    for schedule in made:
        assert schedule.bands
        assert {step.axis for step in schedule.steps} == {"rows", "channels"}
        assert verify(schedule) == ()


def test_a_run_cannot_read_channels_of_what_bands_have_made() -> None:
    assert all(schedule is None for schedule in banded_then("depthwise"))


def mutated(schedule: Schedule, n: int, **changes: object) -> Schedule:
    """With the n-th compute changed."""
    computes = tuple(
        replace(c, **changes) if i == n else c  # type: ignore[arg-type]
        for i, c in enumerate(schedule.computes)
    )
    return replace(schedule, computes=computes)


def single(network: Network | None = None) -> Schedule:
    """A plan of conv and pool with several tiles."""
    found = plans(world(network or conv_pool(), 4096), "channels")
    return next(p.schedule for p in found if p.recipe.depth == 1 and p.schedule.steps[0].tiles > 2)


def test_a_layer_that_reads_channels_of_another_tile_is_refused() -> None:
    schedule = single()
    pools = [n for n, c in enumerate(schedule.computes) if c.layer == "pool"]
    other = schedule.computes[pools[1]].channels
    found = verify(mutated(schedule, pools[0], channels=other))
    assert any("the tile of" in text and "is not in buffer" in text for text in found)


def test_a_layer_that_reads_rows_that_its_tile_does_not_have_is_refused() -> None:
    schedule = single()
    convs = [n for n, c in enumerate(schedule.computes) if c.layer == "conv"]
    found = verify(mutated(schedule, convs[1], rows=(0, 5)))
    assert any("the tile of" in text and "is not in buffer" in text for text in found)
    assert any("never computes" in text for text in found)
    assert any("its step cuts channels" in text for text in found)


def test_a_tile_that_its_buffer_has_no_room_for_is_refused() -> None:
    schedule = single()
    buffers = tuple(
        replace(b, unit_bytes=b.unit_bytes - 1) if b.kind == "channel_stripe" else b
        for b in schedule.buffers
    )
    found = verify(replace(schedule, buffers=buffers))
    assert any("writes a tile of" in text for text in found)


def test_a_tile_computed_twice_is_refused() -> None:
    schedule = single()
    pools = [n for n, c in enumerate(schedule.computes) if c.layer == "conv"]
    first = schedule.computes[pools[0]].channels
    found = verify(mutated(schedule, pools[1], channels=first))
    assert any("computes more than once" in text for text in found)


def test_what_is_handed_on_is_neither_loaded_nor_stored() -> None:
    schedule = single()
    stripe = next(n for n, b in enumerate(schedule.buffers) if b.kind == "channel_stripe")
    last = schedule.transfers[-1]
    wrong = replace(last, buffer=stripe, tensor=schedule.buffers[stripe].tensor)
    found = verify(replace(schedule, transfers=(*schedule.transfers[:-1], wrong)))
    assert any("which is of kind 'channel_stripe'" in text for text in found)


def in_blocks() -> Schedule:
    """A plan of conv, depthwise and addition in blocks, each tile one deep."""
    b = NetworkBuilder("three", dtype="int8")
    y = b.conv(b.input("x", (1, 8, 12, 4)), 12, 3, padding=1, name="conv")
    y = b.conv(y, 12, 3, padding=1, groups=12, name="depthwise")
    b.output(b.add(y, b.input("z", y.shape), name="add"))
    found = plans(world(b.build(), 1500), "blocks")
    return next(p.schedule for p in found if p.recipe.depth == 1 and reads(p) == [])


def test_a_stripe_that_leaves_out_its_halo_is_refused() -> None:
    schedule = in_blocks()
    assert verify(schedule) == ()
    convs = [n for n, c in enumerate(schedule.computes) if c.layer == "conv"]
    begin, end = schedule.computes[convs[-1]].rows
    found = verify(mutated(schedule, convs[-1], rows=(begin + 1, end)))
    assert any("the tile of" in text and "is not in buffer" in text for text in found)


def test_a_tile_of_a_stripe_without_its_rows_of_an_input_is_refused() -> None:
    schedule = in_blocks()
    loads = [n for n, t in enumerate(schedule.transfers) if t.tensor == "z"]
    last, first = schedule.transfers[loads[-1]], schedule.transfers[loads[0]]
    for wrong in (
        replace(last, rows=first.rows, dram_address=first.dram_address),
        replace(last, rows=(last.rows[0] + 1, last.rows[1])),
        replace(last, channels=first.channels),
    ):
        changed = tuple(wrong if n == loads[-1] else t for n, t in enumerate(schedule.transfers))
        found = verify(replace(schedule, transfers=changed))
        assert any("the tile of 'z', which is not in buffer" in text for text in found)


def test_recomputed_rows_are_claimed() -> None:
    schedule = in_blocks()
    assert schedule.claims.recomputed_macs > 0
    claims = replace(schedule.claims, recomputed_macs=0)
    assert any("recomputed_macs" in text for text in verify(replace(schedule, claims=claims)))


# --------------------------------------------------------------------------- what is proposed


def test_a_run_ends_before_a_layer_that_needs_other_channels() -> None:
    b = NetworkBuilder("three", dtype="int8")
    y = b.conv(b.input("x", (1, 8, 6, 6)), 8, 1, name="dense")
    y = b.conv(y, 8, 1, name="again")
    b.output(b.max_pool(y, 2, name="pool"))
    spans = {r.positions for r in world(b.build(), 4096).recipes if r.axis == "channels"}
    assert (1, 3) in spans
    assert not {(0, 2), (0, 3)} & spans


def test_rows_alone_leave_runs_out() -> None:
    hardware = load_hardware("mobile_npu", {"spm.capacity": "4 KiB"})
    for tilings in ("all", "rows"):
        params = SolveParams(tilings=tilings)
        found = make_world(conv_pool(), hardware, params, "source", (0, 1))
        together = [r for r in found.recipes if r.positions == (0, 2) and r.axis != "rows"]
        assert bool(together) == (tilings == "all")


def test_each_height_has_its_widest_tiles() -> None:
    """Rows of pool: all 4, of 8 of conv and 8 of its input; or 2, of 4 and 5."""
    site = world(conv_pool(), 600).site
    constants, rows = 4 * 9 + 4, {4: (8, 4 * 8 * 8), 2: (4, 4 * 8 * 5)}
    for height, (conv_rows, input_bytes) in rows.items():
        each = constants + 8 * conv_rows + 4 * height
        fits = [width for width in (4, 2, 1) if input_bytes + each * width <= 600]
        for most in (1, 2):
            found = fitting(site, (0, 2), (4, 2, 1), (4, 2), most)
            assert [w for w, heights in found.items() if height in heights] == fits[:most]


@pytest.mark.parametrize("seed", [0, 3, 7])
def test_runs_never_make_a_proven_plan_worse(seed: int) -> None:
    network = random_run(random.Random(seed))
    found = [
        spm_opt.solve(
            network, overrides={"spm.capacity": "1 KiB", "spm.alignment": "1", "dram.burst": "1"},
            objective="dram", tilings=tilings, workers=1, deterministic_limit=5.0,
        )
        for tilings in ("all", "rows")
    ]  # fmt: skip
    assert all(result.verified and result.status == "optimal" for result in found)
    assert found[0].dram_bytes["total"] <= found[1].dram_bytes["total"]


def test_a_run_saves_bytes_where_constants_and_rows_have_no_room() -> None:
    b = NetworkBuilder("heavy", dtype="int8")
    y = b.conv(b.input("x", (1, 64, 8, 8)), 64, 3, padding=1, name="conv")
    b.output(b.max_pool(y, 2, name="pool"))
    network = b.build()
    with_, without = (
        spm_opt.solve(
            network, strategy="fuse", objective="dram",
            overrides={"spm.capacity": "8 KiB", "dram.burst": "1"}, tilings=tilings, workers=1,
            deterministic_limit=5.0,
        )
        for tilings in ("all", "rows")
    )  # fmt: skip
    assert {(step.axis, step.layers) for step in with_.schedule.steps} == {
        ("channels", ("conv", "pool"))
    }
    # each map, and each constant, once
    assert with_.dram_bytes["total"] == network.weight_bytes + 64 * (8 * 8 + 4 * 4)
    assert with_.dram_bytes["total"] < without.dram_bytes["total"]


# --------------------------------------------------------------------------- programs


def programs() -> Iterator[tuple[int, Network]]:
    yield 0, attention()
    for seed in range(5):
        rng = random.Random(seed)
        yield seed, random_run(rng, images=rng.choice([1, 1, 2]))


@pytest.mark.skipif(COMPILER is None, reason="no C compiler (cc, gcc or clang)")
def test_programs_compute_what_the_network_does(objects, tmp_path: Path) -> None:
    batch, made = Batch(objects, tmp_path), []
    for seed, network in programs():
        values, inputs = draw_values(network, seed), drawn_inputs(network, seed)
        for plan in (plan for axis in AXES for plan in some(network, axis, 2)):
            batch.add(plan.schedule, emit_project(plan.schedule, values), inputs)
            made.append((plan.schedule, computed(network, values, inputs)))
    for network, schedule in handing_out(range(2)):
        values, inputs = draw_values(network, 0), drawn_inputs(network, 0)
        batch.add(schedule, emit_project(schedule, values), inputs)
        made.append((schedule, computed(network, values, inputs)))
    assert len(made) > 12
    for (schedule, wanted), ran in zip(made, batch.run(), strict=True):
        assert ran.dram_bytes == schedule.claims.dram_bytes
        for outputs in ran.outputs.values():
            for name, array in outputs.items():
                np.testing.assert_array_equal(array, wanted[name])
