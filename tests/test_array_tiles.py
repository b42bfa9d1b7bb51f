"""Tiles on an array that keeps a dataflow: walked nests, published layers, bounds, plans, files."""

from __future__ import annotations

import csv
import io
import itertools
import random
from dataclasses import asdict, replace
from fractions import Fraction

import array_oracle as oracle
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from random_worlds import random_chip, random_network
from test_cost import cut, layer_of, machine
from test_dataflow import CHIP, REPO
from test_hardware import DATAFLOW, ENERGIES, GOOD, write

from spm_opt import solve
from spm_opt.commands import lower
from spm_opt.cost.array_tiles import Machine, best, tile_counts
from spm_opt.cost.box import box_cycles
from spm_opt.cost.compute import least_cycles, tile_cycles, whole_cycles
from spm_opt.cost.energy import Tiles, tile_energy
from spm_opt.cost.nests import MacNest, Window
from spm_opt.cost.pe_array import (
    folded,
    least_mac_cycles,
    no_local_reuse,
    output_stationary,
    passes,
    row_stationary,
    weight_stationary,
)
from spm_opt.cost.row_stationary import RowMapping, mapped
from spm_opt.cost.spatial import ConvNest
from spm_opt.cost.stationary import counted
from spm_opt.dataflow import KINDS
from spm_opt.errors import InputError, SpmTooSmallError
from spm_opt.formats.hardware_yaml import hardware_from_dict, hardware_to_dict, read_hardware
from spm_opt.formats.schedule_json import schedule_from_json, schedule_to_json
from spm_opt.formats.tables import layers_csv
from spm_opt.graph.builder import NetworkBuilder
from spm_opt.graph.ops import Conv, Linear, MatMul
from spm_opt.hardware import Energy, PeArray
from spm_opt.mapping_tables import least_per_element
from spm_opt.simulate import simulate
from spm_opt.verify import verify

ARRAY = PeArray("row_stationary", 6, 4, 12, 6, 3, 1)
EYERISS = PeArray("row_stationary", 12, 14, 224, 12, 24, 2)
ENERGY = Energy({"int8": 300}, 100, 30, 2500, 162500, 20000, neighbour_fj=70)
NESTS = (
    MacNest(2, 1, 5, 7, 4, 3, 3, 3, Window(1, 2), Window(1, 2)),
    MacNest(1, 2, 6, 3, 5, 4, 2, 3, Window(2, 1), Window(3, 2)),
    MacNest(3, 1, 7, 9, 3, 1),
    MacNest(1, 3, 4, 2, 9, 2, 1, 5, Window(1, 0), Window(1, 4)),
)


def arrays(*values):
    return tuple(np.array([value], dtype=np.int64) for value in values)


def check(nest, found, walked):
    assert int(found.mac_cycles[0]) == walked["cycles"]
    assert int(found.map_words[0]) == walked["maps"]
    assert int(found.weight_words[0]) == walked["weights"]
    assert nest.macs == walked["macs"]


# --------------------------------------------------------------------------- one mapping of a nest


@pytest.mark.parametrize("nest", NESTS, ids=str)
@pytest.mark.parametrize("mapping", [(1, 1, 1, 1, 1), (2, 2, 2, 1, 2), (3, 3, 1, 2, 1)], ids=str)
def test_row_stationary_passes_are_those_of_the_walked_nest(nest, mapping):
    found = row_stationary(nest, ARRAY, *arrays(*mapping))
    walked = oracle.row_stationary(nest, *mapping)
    check(nest, found, walked)
    arriving = walked["filters in"] + walked["rows in"]
    assert int(found.operand_words[0]) == 2 * walked["macs"]
    assert int(found.register_words[0]) == 2 * walked["macs"] + arriving
    assert int(found.neighbour_words[0]) == arriving + walked["hops"]


@pytest.mark.parametrize("nest", NESTS, ids=str)
@pytest.mark.parametrize(
    ("count", "sizes"),
    [
        (weight_stationary, (2, 3)), (weight_stationary, (1, 1)),
        (no_local_reuse, (4, 2)), (no_local_reuse, (1, 3)),
        (output_stationary, (2, 1, 2, 3)), (output_stationary, (1, 2, 3, 1)),
    ],
)  # fmt: skip
def test_other_passes_are_those_of_the_walked_nest(nest, count, sizes):
    if count is output_stationary:
        most = (nest.filters, nest.images, nest.rows, nest.columns)
        sizes = tuple(map(min, sizes, most))
    found, walked = count(nest, *arrays(*sizes)), getattr(oracle, count.__name__)(nest, *sizes)
    check(nest, found, walked)
    registers = int(found.operand_words[0] + found.register_words[0])
    held = walked["macs"] if count is weight_stationary else 0  # the read of the weight
    assert registers == walked["registers"] + held
    assert int(found.neighbour_words[0]) == walked["neighbours"]


def as_tile(nest: ConvNest) -> MacNest:
    window = Window(nest.stride, nest.kernel - 1)
    return MacNest(
        nest.images, nest.groups, nest.filters, nest.channels, nest.rows_out, nest.rows_out,
        nest.kernel, nest.kernel, window, window,
    )  # fmt: skip


@pytest.mark.parametrize("net", ["CONV1", "CONV2", "CONV3", "CONV4", "CONV5"])
def test_a_whole_layer_in_one_tile_is_the_published_layer(net):
    facts = yaml.safe_load((REPO / "benchmarks" / "eyeriss.yaml").read_text())["alexnet"]
    nest = ConvNest(images=facts["batch"], **facts["layers"][net])
    given = facts["mappings"][net]
    tile = as_tile(nest)
    values = [given[name] for name in "epqrt"]
    found = row_stationary(tile, EYERISS, *arrays(*values))
    published = mapped(nest, RowMapping(nest.filters, nest.images, *values))
    assert int(found.active_pes[0]) == facts["measured"][net][3] == published.active_pes
    assert int(found.mac_cycles[0]) == published.mac_cycles
    assert int(found.map_words[0]) == published.buffer_map_words
    if given["e"] == nest.rows_out:  # else the buffer of the published fill forgets its weights
        assert int(found.weight_words[0]) == published.buffer_weight_words
        assert int(found.neighbour_words[0]) == published.neighbour_words
        registers = int(found.register_words[0] + found.operand_words[0])
        assert registers == published.register_words


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        ("weight_stationary", {"channels": 2, "filters": 3}),
        ("no_local_reuse", {"taps": 4, "filters": 3}),
        ("output_stationary", {"filters": 2, "images": 2, "rows": 2, "columns": 3}),
    ],
)
def test_whole_layers_of_the_others_are_the_published_ones(kind, sizes):
    nest = ConvNest(images=2, groups=2, filters=6, channels=3, rows_in=11, kernel=3, stride=2)
    whole = {"m": nest.filters, "n": nest.images, "e": nest.rows_out}
    published = counted(kind, nest, {**sizes, **whole})
    found = globals()[kind](as_tile(nest), *arrays(*sizes.values()))
    registers = int(found.register_words[0] + found.operand_words[0])
    assert (
        int(found.active_pes[0]), int(found.mac_cycles[0]), registers,
        int(found.neighbour_words[0]), int(found.map_words[0]), int(found.weight_words[0]),
    ) == (
        published.active_pes, published.mac_cycles, published.register_words,
        published.neighbour_words, published.buffer_map_words, published.buffer_weight_words,
    )  # fmt: skip


# --------------------------------------------------------------------------- the best mapping


def every_mapping(nest, array):
    """All passes that the array holds, one by one."""
    nest = folded(nest, array)
    small = range(1, 8)
    if array.kind == "row_stationary":
        runs = array.rows // nest.kernel_rows
        for e, p, q, r, t in itertools.product(range(1, nest.rows + 1), (1, 2, 3), small, small,
                                               small):  # fmt: skip
            sets = runs // -(-e // array.columns) * max(1, array.columns // e)
            if (r * t <= sets and p * q * nest.kernel_columns <= array.filter_words
                    and q * nest.kernel_columns <= array.ifmap_words):  # fmt: skip
                yield row_stationary(nest, array, *arrays(e, p, q, r, t))
    elif array.kind == "output_stationary":
        most = (nest.filters, nest.images, nest.rows, nest.columns)
        for sizes in itertools.product(*(range(1, n + 1) for n in most)):
            if np.prod(sizes) <= array.pes:
                yield output_stationary(nest, *arrays(*sizes))
    else:
        weights = array.kind == "weight_stationary"
        taps = nest.kernel_rows * nest.kernel_columns if weights else 1
        depth = nest.channels if weights else nest.depth
        for one, filters in itertools.product(range(1, depth + 1), range(1, nest.filters + 1)):
            if one * filters * taps <= array.pes:
                count = weight_stationary if weights else no_local_reuse
                yield count(nest, *arrays(one, filters))


def duration(found, of):
    macs, maps = found.mac_cycles[0] * of.cycles_per_mac, found.map_words[0]
    loaded = -(-found.weight_words[0] // of.words_per_cycle)
    if of.array.kind in ("row_stationary", "weight_stationary"):
        return loaded + max(macs, -(-maps // of.words_per_cycle))
    return max(macs, -(-(maps + found.weight_words[0]) // of.words_per_cycle))


@pytest.mark.parametrize("nest", NESTS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", [Fraction(1, 2), Fraction(40)], ids=str)
def test_no_mapping_is_faster_than_the_best(nest, kind, rate):
    of = Machine(replace(ARRAY, kind=kind), 2, rate)
    found = best(nest, of)
    assert found.cycles == min(duration(one, of) for one in every_mapping(nest, of.array))
    assert found.active_pes <= ARRAY.pes


@pytest.mark.parametrize("kind", KINDS)
def test_of_equally_fast_mappings_the_one_of_least_energy_is_taken(kind):
    nest = NESTS[0]
    of = Machine(replace(ARRAY, kind=kind), 1, Fraction(4), 2, 3, 50)

    def energy(f):
        return (
            2 * (f.operand_words + f.register_words) + 3 * f.neighbour_words
            + 50 * (f.map_words + f.weight_words)
        )  # fmt: skip

    found, all_of_them = best(nest, of), passes(nest, of.array)
    of_passes = [
        replace(all_of_them, **{k: v[i : i + 1] for k, v in asdict(all_of_them).items()})
        for i in range(all_of_them.active_pes.size)
    ]
    equal = [energy(f)[0] for f in of_passes if duration(f, of) == found.cycles]
    assert energy(found) == min(equal)


def test_a_kernel_larger_than_the_array_is_cut() -> None:
    nest = MacNest(1, 1, 2, 3, 4, 5, 13, 9, Window(1, 12), Window(1, 8))
    cut_nest = folded(nest, ARRAY)  # 6 rows, 6 words of input: 3 pieces of 5 rows, 2 of 5 columns
    assert (cut_nest.kernel_rows, cut_nest.kernel_columns, cut_nest.channels) == (5, 5, 18)
    for kind in KINDS:
        found = best(nest, Machine(replace(ARRAY, kind=kind), 1, Fraction(1)))
        assert 0 < found.active_pes <= ARRAY.pes
        assert found.work_cycles * ARRAY.pes >= nest.macs


# --------------------------------------------------------------------------- tiles of layers


def chip(kind, **changes):
    plain = machine({"k": 2}, bandwidth=Fraction(5), overhead=2, rates={"int8": 3})
    array = replace(ARRAY, kind=kind, **changes)
    return replace(plain, compute=replace(plain.compute, dataflow=array), energy=ENERGY)


sizes = st.integers(1, 6)


@st.composite
def layers(draw: st.DrawFn):
    """A layer of a MAC nest, perhaps of several images; and how its channels may be cut."""
    kind = draw(st.sampled_from(["conv", "conv", "linear", "matmul"]))
    b, g, k, c, rows, columns = (draw(sizes) for _ in range(6))
    if kind == "conv":
        high, wide = draw(st.integers(1, 3)), draw(st.integers(1, 3))
        stride = draw(st.integers(1, 2))
        op = Conv(g * k, (high, wide), (stride, stride), (1, 1, 1, 1), (1, 1), g)
        layer = layer_of(op, (b, g * c, rows + 2, columns + 2))
        return replace(layer, images=b), (g, k) if g > 1 else (k, 1)
    if kind == "linear":
        return layer_of(Linear(k), (rows, c)), (k, 1)
    layer = layer_of(MatMul(), (g, rows, c), (g, c, columns))
    return layer, (g, 1)


@settings(max_examples=80, deadline=None)
@given(layers(), st.sampled_from(KINDS), st.data())
def test_no_cutting_beats_the_least_cycles(case, kind, data) -> None:
    layer, (extent, step) = case
    hardware = chip(kind)
    heights = np.array(cut(layer.rows, data), dtype=np.int64)
    begin = np.cumsum(heights) - heights
    nothing = np.zeros_like(heights)
    total = sum(
        int(tile_cycles(layer, "int8", hardware, heights, nothing, part * step, begin).sum())
        for part in cut(extent, data)
    )
    least = least_cycles(layer, "int8", hardware)
    assert 1 <= least <= whole_cycles(layer, "int8", hardware)
    assert least <= total


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(KINDS), st.data())
def test_no_cut_of_a_nest_beats_its_least_mac_cycles(kind, data) -> None:
    extents = {name: data.draw(st.integers(1, 9), name) for name in
               ("images", "groups", "filters", "channels", "rows", "columns")}  # fmt: skip
    window, array = Window(1, 2), replace(ARRAY, kind=kind)
    of = {"kernel_rows": 3, "kernel_columns": 2, "row_window": window, "column_window": window}
    parts = {name: cut(extent, data) for name, extent in extents.items()}
    whole = data.draw(st.sampled_from(list(itertools.combinations(extents, 4))))
    parts |= {name: [extents[name]] for name in whole}
    cycles = (
        passes(MacNest(**dict(zip(parts, sizes, strict=True)), **of), array).mac_cycles.min()
        for sizes in itertools.product(*parts.values())
    )
    least = least_mac_cycles(MacNest(**extents, **of), array)
    assert 0 < least <= sum(int(n) for n in cycles)


@pytest.mark.parametrize(
    ("kind", "rows", "filters", "parts"),
    [
        ("weight_stationary", 1, 9, (2, 8)),
        ("no_local_reuse", 1, 9, (2, 8)),
        ("row_stationary", 3, 6, (1, 4)),
    ],
)
def test_slices_of_input_channels_may_take_different_mappings(kind, rows, filters, parts) -> None:
    # with the passes over all channels rounded up, whatever the mapping, the bound would be 4.5
    array = replace(ARRAY, kind=kind)
    nests = [MacNest(1, 1, filters, channels, rows, 1) for channels in (*parts, sum(parts))]
    first, second, _ = (int(passes(nest, array).mac_cycles.min()) for nest in nests)
    assert first + second == 4
    assert least_mac_cycles(nests[-1], array) == Fraction(15, 4)


def test_the_least_cycles_are_exact_where_nothing_is_ragged() -> None:
    # 3 of 6 rows of PEs twice, 4 output rows across: two sets of filters, all PEs at work
    layer = layer_of(Conv(4, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1)), (1, 2, 4, 6))
    fast = replace(chip("row_stationary"), spm=replace(chip(KINDS[0]).spm,
                   bytes_per_cycle=Fraction(10**9)))  # fmt: skip
    # 2 + 1 cycle for the weights; 4 x 2 x 9 x 24 MACs on 24 PEs, three cycles each
    assert least_cycles(layer, "int8", fast) == whole_cycles(layer, "int8", fast) == 3 + 3 * 72
    assert least_mac_cycles(NESTS[2], ARRAY) < best(NESTS[2], Machine(ARRAY, 1, Fraction(1))).cycles


def test_rows_of_several_images_are_nests_of_their_own() -> None:
    layer = replace(layer_of(Conv(3, (2, 2), (1, 1), (0, 0, 0, 0), (1, 1)), (3, 2, 5, 4)), images=3)
    one = replace(layer, images=1)
    hardware = chip("row_stationary")

    def cycles(of, rows, begin):
        return int(tile_cycles(of, "int8", hardware, *arrays(rows, 0), None, *arrays(begin))[0]) - 2

    single = replace(one, inputs=layer_of(layer.op, (1, 2, 5, 4)).inputs, output_shape=(1, 3, 4, 3))
    assert cycles(layer, 3, 3) == cycles(single, 1, 0) + cycles(single, 2, 0)
    assert cycles(layer, 5, 3) == cycles(single, 1, 0) + cycles(single, 4, 0)


def test_boxes_cost_what_tiles_do_and_never_less_than_the_bound() -> None:
    layer = layer_of(Conv(6, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1)), (1, 4, 7, 8))
    rows, read = np.array([1, 3, 7]), np.array([3, 500, 9])
    for kind in KINDS:
        hardware = chip(kind)
        for channels in (2, 6):
            lengths = [np.array([n]) for n in (1, channels)]
            found = box_cycles(layer, "int8", hardware, [*lengths, rows, np.array([8])], read)
            assert (found == tile_cycles(layer, "int8", hardware, rows, read, channels)).all()
        least = least_per_element(layer, "int8", hardware)
        extents = np.array(list(itertools.product((1, 4, 6), (0, 1, 3, 7), (1, 5, 8)))).T
        found = box_cycles(layer, "int8", hardware, [np.array([1]), *extents], 0 * extents[0])
        for cycles, elements in zip(found.tolist(), extents.prod(0).tolist(), strict=True):
            assert cycles >= least * elements
            assert (cycles > 0) == (elements > 0)


def test_the_energy_of_a_tile_is_that_of_its_accesses() -> None:
    layer = layer_of(Conv(4, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1)), (1, 2, 6, 5))
    rows, none = arrays(4, 0)
    for kind in KINDS:
        hardware = chip(kind, word_bytes=2)  # int8 takes a word of two bytes
        of = Machine(hardware.compute.dataflow, 3, Fraction(5, 2), 60, 140, 5000)
        counts = tile_counts(layer, layer.loops, of, rows, none)
        tiles = Tiles(rows, none, 10 * rows, rows)
        found = tile_energy(layer, "int8", hardware, tiles)
        registers = counts["operand_words"] + counts["register_words"]
        assert found.register_fj == registers * 2 * 30
        assert found.neighbour_fj == counts["neighbour_words"] * 2 * 70 > 0
        assert found.spm_weights_fj == counts["weight_words"] * 2 * 2500
        assert found.spm_maps_fj == counts["map_words"] * 2 * 2500
        assert found.mac_fj == 4 * 4 * 5 * 18 * 300
        assert found.total_fj == (
            found.mac_fj + found.register_fj + found.neighbour_fj + found.spm_weights_fj
            + found.spm_maps_fj
        )  # fmt: skip
        gated = replace(hardware, energy=replace(ENERGY, zero_gating=True))
        half = tile_energy(layer, "int8", gated, replace(tiles, density_ppm=500_000))
        assert half.mac_fj * 2 == found.mac_fj
        assert found.register_fj - half.register_fj == counts["operand_words"] * 30


def test_an_element_of_several_words_takes_as_many_of_a_scratchpad() -> None:
    assert replace(ARRAY, filter_words=9).with_words(2) == replace(
        ARRAY, filter_words=4, ifmap_words=3, psum_words=1
    )


def test_second_operands_of_products_are_maps_in_the_tables() -> None:
    layer = layer_of(MatMul(), (2, 3, 4), (2, 4, 5))
    rows, none = arrays(3, 0)
    found = tile_energy(layer, "int8", chip("weight_stationary"), Tiles(rows, none, rows, none))
    assert found.spm_weights_fj == 0 < found.spm_maps_fj


# --------------------------------------------------------------------------- plans


def small_network():
    b = NetworkBuilder("small")
    x = b.input("x", (2, 3, 8, 6))
    y = b.conv(x, 6, 3, padding=1)
    y = b.max_pool(b.conv(y, 8, 3, padding=1), 2)
    b.output(b.linear(b.flatten(y), 10))
    return b.build()


@pytest.mark.parametrize("kind", KINDS)
def test_a_plan_is_verified_simulated_and_sums_up(kind) -> None:
    hardware = replace(random_chip(random.Random(3)), energy=ENERGY)
    hardware = replace(
        hardware, spm=replace(hardware.spm, capacity_bytes=2048),
        compute=replace(hardware.compute, dataflow=replace(ARRAY, kind=kind)),
    )  # fmt: skip
    assert hardware_from_dict(hardware_to_dict(hardware)) == hardware
    found = solve(small_network(), hardware, workers=1, time_limit=10)
    schedule = found.schedule
    assert verify(schedule) == ()
    claims = schedule.claims
    assert simulate(lower(schedule), hardware).latency_cycles == claims.latency_cycles
    energy = claims.energy
    levels = ("mac", "register_file", "neighbour", "vector", "spm", "dram", "leakage")
    assert energy.total_fj == sum(getattr(energy, f"{level}_fj") for level in levels)
    assert energy.neighbour_fj > 0
    assert schedule_from_json(schedule_to_json(schedule)) == schedule
    rows = list(csv.DictReader(io.StringIO(layers_csv(schedule))))
    assert sum(int(row["neighbour_fj"]) for row in rows) == energy.neighbour_fj
    for row in rows:
        busy = row["active_pes"]
        assert not busy if row["op"] == "pool" else 0 < int(busy) <= ARRAY.pes
    lied = replace(energy, neighbour_fj=energy.neighbour_fj + 1, total_fj=energy.total_fj + 1)
    wrong = verify(replace(schedule, claims=replace(claims, energy=lied)))
    assert any("energy.neighbour_fj" in text for text in wrong)


def test_the_table_says_whether_the_array_waits_for_its_port() -> None:
    hardware = replace(random_chip(random.Random(3)), energy=None)
    dram = replace(hardware.dram, bytes_per_cycle=Fraction(10**6), latency_cycles=0)
    compute = replace(hardware.compute, dataflow=replace(ARRAY, kind="row_stationary"))
    found = set()
    for rate in (Fraction(1, 4), Fraction(10**6)):
        spm = replace(hardware.spm, capacity_bytes=8192, bytes_per_cycle=rate)
        chip = replace(hardware, spm=spm, dram=dram, compute=compute)
        schedule = solve(small_network(), chip, workers=1, time_limit=10).schedule
        rows = list(csv.DictReader(io.StringIO(layers_csv(schedule))))
        found.add((rate > 1, rows[0]["bound_by"]))
    assert found == {(False, "spm"), (True, "compute")}


def test_random_plans_are_verified() -> None:
    rng, tried = random.Random(5), 0
    for kind in KINDS:
        network, hardware = random_network(rng), random_chip(rng)
        array = replace(ARRAY, kind=kind)
        hardware = replace(hardware, compute=replace(hardware.compute, dataflow=array))
        try:
            found = solve(network, hardware, workers=1, deterministic_limit=1)
        except SpmTooSmallError:
            continue
        tried += 1
        assert verify(found.schedule) == ()
    assert tried >= 2


# --------------------------------------------------------------------------- files


def file_of(dataflow: object = "weight_stationary", **sections: object) -> dict:
    compute = {**GOOD["compute"], "dataflow": dataflow}
    return {**GOOD, "dataflow": DATAFLOW, "compute": compute, **sections}


def test_a_file_names_the_array(tmp_path) -> None:
    found = read_hardware(write(tmp_path, file_of(energy={**ENERGIES, "neighbour": "7 fJ/B"})))
    assert found.compute.dataflow == PeArray("weight_stationary", 4, 8, 5, 6, 7, 1)
    assert found.compute.macs_per_cycle == 32
    assert found.energy.neighbour_fj == 7
    for data in (file_of("none"), {**GOOD, "dataflow": DATAFLOW}):
        assert read_hardware(write(tmp_path, data)).compute.dataflow is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({**file_of(), "dataflow": None},
         "dataflow: this section is missing: it describes the array of compute.dataflow"),
        (file_of("row_stationary"),
         "compute.dataflow: is not the dataflow of the section dataflow; "
         "found 'row_stationary'; allowed: weight_stationary (dataflow.kind), or none"),
        (file_of("systolic"),
         "compute.dataflow: is no dataflow; found 'systolic'; allowed: row_stationary, "
         "weight_stationary, output_stationary, no_local_reuse, none"),
        (file_of(energy={k: v for k, v in ENERGIES.items() if k != "neighbour"}),
         "energy.neighbour: this field is missing: with compute.dataflow, words move between "
         "processing elements"),
    ],
)  # fmt: skip
def test_a_mistake_gives_one_message(tmp_path, data, message) -> None:
    path = write(tmp_path, data)
    with pytest.raises(InputError) as caught:
        read_hardware(path)
    assert str(caught.value) == f"{path}: {message}"


def test_the_chip_of_the_published_models_is_that_of_the_planner() -> None:
    array = read_hardware(REPO / "hw" / "eyeriss.yaml").compute.dataflow
    assert (array.kind, array.rows, array.columns) == (CHIP.kind, CHIP.pe_rows, CHIP.pe_columns)
    assert array == EYERISS
