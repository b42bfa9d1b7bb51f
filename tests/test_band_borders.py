"""Maps that keep their borders from band to band: counted, checked, and computed as well."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
from bands_fixture import CHAINS, plans, require_prices, run_programs, schedules, steps_of
from bands_oracle import BandWalk, walk
from emitted import COMPILER
from plan_fixture import World, make_world, schedule_of, with_capacity

from spm_opt.allocation.place import place
from spm_opt.api import load_hardware
from spm_opt.banding import in_bands
from spm_opt.decision import Decision
from spm_opt.dynamic import Prices, Solved, solve_dynamic
from spm_opt.errors import GraphError
from spm_opt.fusion import Recipe
from spm_opt.graph.band_cuts import run_cuts
from spm_opt.graph.bands import Bands, banded, border_maps
from spm_opt.graph.builder import NetworkBuilder
from spm_opt.graph.network import Network
from spm_opt.layout import Program, lay_out
from spm_opt.layout_space import rectangles
from spm_opt.schedule import Schedule
from spm_opt.units import align_up
from spm_opt.verify import verify

SEEDS = range(CHAINS[0], CHAINS[0] + 8)


def sort_of(run: Bands, network: Network) -> str:
    """Whether the maps of a run keep their borders: none, all that have one, or some."""
    if not run.kept:
        return "none"
    return "all" if with_borders(network, run.layers, run.edges) == set(run.kept) else "mixed"


def with_borders(network: Network, names: tuple[str, ...], edges: tuple[int, ...]) -> set[str]:
    """Maps of which two bands need the same columns, each by itself."""
    layers = [x for x in network.layers if x.name in names]
    maps = {o.tensor for x in layers for o in x.inputs} | {x.output for x in layers[:-1]}
    found: set[str] = set()
    for tensor in maps:
        try:
            cuts = run_cuts(network, names, list(pairwise(edges)), (tensor,))
        except GraphError:
            continue
        found |= {tensor} if any(tensor in cut.found for cut in cuts) else set()
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_every_choice_is_priced_as_it_is_laid_out(seed: int) -> None:
    world, decisions = plans(seed, every=True)
    for decision in decisions:
        require_prices(world, decision)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_choice_computes_loads_and_holds_what_sets_say(seed: int) -> None:
    world, decisions = plans(seed, every=True)
    for decision in decisions:
        require_counts(world, decision)


def test_the_lot_draws_every_sort_of_choice() -> None:
    found: Counter[str] = Counter()
    for seed in SEEDS:
        world, decisions = plans(seed, every=True)
        for k in (k for decision in decisions for k in decision.candidates):
            recipe = world.recipes[world.problem.candidates[k].recipe]
            if recipe.bands:
                found[sort_of_recipe(world, recipe)] += 1
                streams = {world.site.map_names[t] for t in world.problem.candidates[k].streams}
                found["input"] += bool(streams & set(recipe.kept))
                found["intermediate"] += bool(set(recipe.kept) - streams)
    assert min(found[sort] for sort in ("none", "all", "mixed", "input", "intermediate")) > 3, found


def require_counts(world: World, decision: Decision) -> None:
    """Layouts of the groups in bands against the walk over their tiles."""
    told = in_bands(world.site, world.problem, world.recipes, decision)
    layout = lay_out(told.site, told.problem, told.recipes, told.decision)
    runs = iter(told.site.bands)
    for k, steps in zip(decision.candidates, steps_of(world, decision), strict=True):
        recipe = world.recipes[world.problem.candidates[k].recipe]
        if not recipe.bands:
            continue
        run = next(runs)
        walked = walk(
            world.site.network, run.layers, run.edges, run.kept, recipe.height, recipe.depth
        )
        for number, (step, band) in enumerate(zip(steps, walked, strict=True)):
            program = layout.programs[step]
            require_work(told.site.network, program, band, number)
            require_loads(world, program, band)
            buffers = [b for b in layout.buffers if b.first_step <= step < b.end_step]
            require_buffers(world.site.network, told.site.network, buffers, band, number)


def require_work(network: Network, program: Program, band: BandWalk, number: int) -> None:
    layers = {layer.name: layer for layer in network.layers}
    done: Counter[str] = Counter()
    for compute in (c for tile in program.computes for c in tile):
        layer = layers[compute.layer]
        done[layer.name] += (compute.rows[1] - compute.rows[0]) * layer.output_shape[3]
    for name, elements in band.computed.items():
        assert done[f"{name}#{number}"] == elements, name
    for prefix, borders in (("copy:", band.found), ("keep:", band.kept)):
        copied = sum(count for name, count in done.items() if name.startswith(prefix))
        assert copied == sum(band.total[t] * len(columns) for t, columns in borders.items())


def require_loads(world: World, program: Program, band: BandWalk) -> None:
    """Bytes of every load: bursts of a run a channel and row, where not all columns come."""
    network, burst = world.site.network, world.site.hardware.dram.burst_bytes
    loads = [t for tile in program.loads for t in tile]
    for tensor, tiles in band.loaded.items():
        moved = [t.moved_bytes for t in loads if t.tensor == tensor]
        if not moved:
            continue  # it lies in the scratchpad
        _, channels, _, width = network.tensors[tensor].shape
        expected = [
            align_up(rows * channels * width, burst)
            if columns == width
            else rows * channels * align_up(columns, burst)
            for rows, columns in tiles
            if rows
        ]
        assert moved == expected, tensor


def require_buffers(
    source: Network, network: Network, buffers: list, band: BandWalk, number: int
) -> None:
    """Rows and columns of rolling buffers, and all of the borders."""
    borders = border_maps(network)
    for tensor, rows in band.rows.items():
        whole = source.tensors[tensor]
        row = whole.row_bytes // whole.shape[3] * band.columns[tensor]
        for buffer in buffers:
            mine = buffer.tensor == f"{tensor}#{number}" and buffer.kind == "stripe"
            streamed = buffer.kind == "input" and buffer.tensor == tensor
            if (mine or streamed) and buffer.shares is None:
                assert (buffer.count, buffer.unit_bytes) == (rows, row), buffer
    expected = Counter(
        source.tensors[tensor].size_bytes // source.tensors[tensor].shape[3] * len(columns)
        for own in (band.found, band.kept)
        for tensor, columns in own.items()
        if columns
    )
    found = Counter(b.count * b.unit_bytes for b in buffers if b.tensor in borders)
    assert found == expected


# --------------------------------------------------------------------------- what it is worth


def wide_chain() -> Network:
    """Few rows of many columns, through convolutions to fewer channels and back."""
    b = NetworkBuilder("wide")
    x = b.input("x", (1, 32, 8, 512))
    for i, channels in enumerate((32, 4, 32)):
        x = b.conv(x, channels, 3, padding=1, name=f"c{i}")
    b.output(x)
    return b.build().with_dtype("int8")


def test_mixed_choices_beat_uniform_ones() -> None:
    """In the joint optimum, uniform being a choice that every group makes for itself."""
    chip = load_hardware("mobile_npu", {"spm.capacity": "24 KiB"})
    world = make_world(wide_chain(), chip, bands=True)
    _, none = optimum(world, "none")
    _, uniform = optimum(world, "none", "all")
    world, mixed = optimum(world, "none", "all", "mixed")
    assert mixed.latency_cycles < uniform.latency_cycles < none.latency_cycles
    assert mixed.decision is not None
    assert has_addresses(world, mixed.decision)
    hardware = with_capacity(chip, 2 * chip.spm.capacity_bytes)  # first fit takes some more
    schedule = schedule_of(
        replace(world, site=replace(world.site, hardware=hardware)), mixed.decision
    )
    assert schedule is not None
    assert verify(schedule) == ()
    assert "mixed" in {sort_of(run, schedule.origin) for run in schedule.bands}


def has_addresses(world: World, decision: Decision) -> bool:
    told = in_bands(world.site, world.problem, world.recipes, decision)
    layout = lay_out(told.site, told.problem, told.recipes, told.decision)
    return place(rectangles(layout.buffers)[0], world.problem.capacity_bytes) is not None


def optimum(world: World, *sorts: str) -> tuple[World, Solved]:
    """The least latency with groups in bands of these sorts only."""
    problem = world.problem.only(
        lambda c: (
            not world.recipes[c.recipe].bands
            or sort_of_recipe(world, world.recipes[c.recipe]) in sorts
        )
    )
    found = solve_dynamic(problem, Prices(10**9, 1))
    assert found.complete
    return replace(world, problem=problem), found


def sort_of_recipe(world: World, recipe: Recipe) -> str:
    names = tuple(world.site.layer_at(p).name for p in range(*recipe.positions))
    return sort_of(Bands(names, recipe.bands, recipe.kept), world.site.network)


# --------------------------------------------------------------------------- programs


@pytest.mark.skipif(COMPILER is None, reason="no C compiler (cc, gcc or clang)")
def test_programs_that_keep_borders_compute_what_the_network_does(objects, tmp_path) -> None:
    run_sorts(objects, tmp_path, [*range(4), *SEEDS[:4]], 2)


@pytest.mark.heavy
@pytest.mark.skipif(COMPILER is None, reason="no C compiler (cc, gcc or clang)")
@pytest.mark.parametrize("part", range(10))
def test_many_programs_that_keep_borders(objects, tmp_path, part: int) -> None:
    run_sorts(objects, tmp_path, range(CHAINS[0] + 20 + 20 * part, CHAINS[0] + 40 + 20 * part), 4)


def run_sorts(objects, folder, seeds, most: int) -> None:
    """Programs of plans whose groups keep no borders, all, or some."""
    made = [(seed, s) for seed in seeds for s in schedules(seed, every=True)[:most]]
    sorts = {sort_of(run, s.origin) for _, s in made for run in s.bands}
    assert sorts == {"none", "all", "mixed"}
    for _, schedule in made:
        assert verify(schedule) == ()
    run_programs(objects, folder, made)


# --------------------------------------------------------------------------- the checker


def bordered() -> Schedule:
    """A plan with borders of an intermediate map and of an input."""
    for seed in SEEDS:
        for schedule in schedules(seed, every=True):
            names = {layer.name for layer in schedule.network.layers}
            fills = set(schedule.network.fills)
            copies = {n for n in names if n.startswith("copy:")} - fills
            if fills and copies and any(run.count > 2 for run in schedule.bands):
                return schedule
    raise AssertionError("no such plan in the lot")


def test_a_border_that_is_freed_early_is_refused() -> None:
    schedule = bordered()
    for i, buffer in enumerate(schedule.buffers):
        if buffer.tensor in border_maps(schedule.network):
            shorter = replace(buffer, end_step=buffer.end_step - 1)
            found = verify(with_record(schedule, "buffers", i, shorter))
            assert any("resident only in steps" in sentence for sentence in found)


def test_a_border_that_is_not_written_is_refused() -> None:
    schedule = bordered()
    for prefix in ("keep:", "copy:"):
        at = [i for i, c in enumerate(schedule.computes) if c.layer.startswith(prefix)]
        for i in at[:2] + at[-2:]:
            left = schedule.computes[:i] + schedule.computes[i + 1 :]
            found = verify(replace(schedule, computes=left))
            assert any("which is not in buffer" in sentence for sentence in found)


def test_a_border_of_another_band_is_refused() -> None:
    schedule = bordered()
    borders = border_maps(schedule.network)
    numbers = [i for i, b in enumerate(schedule.buffers) if b.tensor in borders]
    for i, compute in enumerate(schedule.computes):
        if compute.layer.startswith("copy:"):
            for other in {*numbers} - {compute.inputs[0]}:
                wrong = with_record(schedule, "computes", i, replace(compute, inputs=(other,)))
                assert any("reads" in sentence for sentence in verify(wrong))
            return


def test_wrong_columns_are_refused() -> None:
    """Of what is kept, and of what is loaded beside it."""
    schedule = bordered()
    network = schedule.network
    for i, layer in enumerate(network.layers):
        if layer.name.startswith("window:") and ".kept." in layer.name:
            begins = (*layer.op.begins[:3], layer.op.begins[3] - 1)
            layers = list(network.layers)
            layers[i] = replace(layer, op=replace(layer.op, begins=begins))
            wrong = replace(schedule, network=replace(network, layers=tuple(layers)))
            assert any("is not the one that its bands make" in s for s in verify(wrong))
    filled = {tensor for tensor, _ in network.fills.values()}
    for i, load in enumerate(schedule.transfers):
        if load.kind == "load" and load.tensor in filled and load.channels:
            begin, end = load.channels
            if end - begin > 1:
                moved = replace(load, channels=(begin + 1, end))
                found = verify(with_record(schedule, "transfers", i, moved))
                assert any("which is not in buffer" in sentence for sentence in found)
                return


def with_record(schedule: Schedule, kind: str, index: int, record: object) -> Schedule:
    records = list(getattr(schedule, kind))
    records[index] = record
    return replace(schedule, **{kind: tuple(records)})


# --------------------------------------------------------------------------- the network


def three() -> Network:
    b = NetworkBuilder("three")
    x = b.input("x", (1, 3, 6, 24))
    y = b.conv(x, 4, 3, padding=1, name="a")
    z = b.conv(y, 2, 3, padding=1, name="b")
    b.output(b.conv(z, 4, 3, padding=1, name="c"))
    return b.build()


EDGES = (0, 8, 16, 24)


def test_what_keeps_its_border_is_made_once() -> None:
    names, bands = ("a", "b", "c"), list(pairwise(EDGES))
    plain = run_cuts(three(), names, bands)
    assert [cut.layers["a"].columns for cut in plain] == [(0, 10), (6, 18), (14, 24)]
    assert [cut.has["x"] for cut in plain] == [(0, 11), (5, 19), (13, 24)]
    kept = run_cuts(three(), names, bands, ("x", "a", "b"))
    assert [cut.layers["b"].columns for cut in kept] == [(0, 9), (9, 17), (17, 24)]
    assert [cut.layers["a"].columns for cut in kept] == [(0, 10), (10, 18), (18, 24)]
    assert [cut.found.get("a") for cut in kept] == [None, (8, 10), (16, 18)]
    assert [cut.kept.get("a") for cut in kept] == [(8, 10), (16, 18), None]
    assert [cut.has["x"] for cut in kept] == [(0, 11), (9, 19), (17, 24)]


def test_a_map_that_keeps_its_border_spares_those_before_it() -> None:
    cuts = run_cuts(three(), ("a", "b", "c"), list(pairwise(EDGES)), ("b",))
    assert [cut.layers["b"].columns for cut in cuts] == [(0, 9), (9, 17), (17, 24)]
    assert [cut.layers["a"].columns for cut in cuts] == [(0, 10), (8, 18), (16, 24)]


def test_bands_that_keep_all_borders_compute_no_more_than_the_network() -> None:
    found = banded(three(), [Bands(("a", "b", "c"), EDGES, ("x", "a", "b"))])
    assert found.network.macs == three().macs
    assert [sorted(own) for own in found.borders[0]] == [["a", "b", "x"], ["a", "b", "x"], []]
    plain = banded(three(), [Bands(("a", "b", "c"), EDGES)]).network
    assert plain.macs > three().macs


def test_a_band_with_nothing_new_is_refused() -> None:
    with pytest.raises(GraphError, match="nothing new"):
        banded(three(), [Bands(("a", "b", "c"), (0, 23, 24), ("a",))])
