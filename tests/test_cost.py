"""The cost room against plain loops: tiles, slices, measured cycles, transfers, SoMa's tables."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spm_opt.cost.compute import cycles_per_mac, least_cycles, tile_cycles, whole_cycles
from spm_opt.cost.dram import (
    moved_bytes,
    moved_bytes_array,
    transfer_cycles,
    transfer_cycles_array,
)
from spm_opt.cost.exact import ceil_scaled
from spm_opt.formats.hardware_yaml import read_hardware
from spm_opt.graph.network import Layer, Tensor, operand_of
from spm_opt.graph.ops import Binary, Conv, Linear, MatMul, Op, Pool, Softmax, Unary
from spm_opt.hardware import (
    LOOP_DIMENSIONS,
    ComputeArray,
    Dram,
    Hardware,
    Scratchpad,
    Unrolling,
)

REPO = Path(__file__).resolve().parent.parent
SOMA = REPO.parent / "shared" / "soma"


def layer_of(op: Op, *shapes: tuple[int, ...], cycles: int | None = None) -> Layer:
    inputs = tuple(operand_of(Tensor(f"x{i}", shape)) for i, shape in enumerate(shapes))
    return Layer("layer", op, inputs, "y", op.infer(shapes), cycles=cycles)


def conv(
    shape: tuple[int, ...], out: int, kernel: int = 1, stride: int = 1, groups: int = 1
) -> Layer:
    pad = kernel // 2
    return layer_of(
        Conv(out, (kernel, kernel), (stride, stride), (pad,) * 4, (1, 1), groups), shape
    )


def machine(
    *unrollings: dict[str, int],
    lanes: int = 4,
    bandwidth: Fraction = Fraction(10**9),
    vector: Fraction | None = None,
    overhead: int = 0,
    rates: dict[str, int] | None = None,
) -> Hardware:
    return Hardware(
        name="m",
        frequency_hz=10**9,
        spm=Scratchpad(1024, 1, bandwidth, vector),
        dram=Dram(Fraction(8), 0, 1),
        compute=ComputeArray(
            tuple(Unrolling(str(i), u) for i, u in enumerate(unrollings or ({},))),
            lanes,
            rates or {},
            overhead,
        ),
    )


def cycles(
    layer: Layer,
    hardware: Hardware,
    rows: int,
    read: int = 0,
    channels: int | None = None,
    dtype: str = "int8",
) -> int:
    found = tile_cycles(layer, dtype, hardware, np.array([rows]), np.array([read]), channels)
    assert found.dtype == np.int64
    return int(found[0])


def passes(extents: dict[str, int], factors: dict[str, int]) -> int:
    """Steps of the loop nest, counted by walking it."""
    steps = (range(0, extents[d], factors.get(d, 1)) for d in LOOP_DIMENSIONS)
    return sum(1 for _ in product(*steps))


# the array

factors = st.dictionaries(st.sampled_from(LOOP_DIMENSIONS), st.integers(1, 4), max_size=3)
small = st.integers(1, 4)


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[Layer, dict[str, int]]:
    """A convolution and, told apart from the operator's own answer, its loop extents."""
    b, g, k, c, oy, ox = (draw(small) for _ in range(6))
    kernel = draw(st.sampled_from([1, 3]))
    layer = conv((b, g * c, oy, ox), g * k, kernel, groups=g)
    return layer, {
        "b": b, "g": g, "k": k, "c": c, "oy": oy, "ox": ox, "fy": kernel, "fx": kernel,
    }  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(convolutions(), st.lists(factors, min_size=1, max_size=3), st.data())
def test_a_tile_costs_the_steps_of_its_loop_nest(
    case: tuple[Layer, dict[str, int]], unrollings: list[dict[str, int]], data: st.DataObject
) -> None:
    layer, extents = case
    rows = data.draw(st.integers(1, extents["oy"]))
    if extents["g"] > 1:  # slices of a grouped convolution are whole groups
        part = {"g": data.draw(st.integers(1, extents["g"]))}
    else:
        part = {"k": data.draw(st.integers(1, extents["k"]))}
    tile = {**extents, "oy": rows, **part}
    read, rate = data.draw(st.integers(0, 500)), data.draw(st.fractions(Fraction(1, 3), 50))
    hardware = machine(*unrollings, bandwidth=rate, overhead=7, rates={"int8": 3})
    work = 3 * min(passes(tile, u) for u in unrollings)
    expected = max(work, math.ceil(read / rate)) + 7
    assert cycles(layer, hardware, rows, read, tile["g"] * tile["k"]) == expected


@settings(deadline=None)
@given(convolutions(), st.lists(factors, min_size=1, max_size=3), st.data())
def test_no_cutting_beats_the_least_cycles(
    case: tuple[Layer, dict[str, int]], unrollings: list[dict[str, int]], data: st.DataObject
) -> None:
    layer, extents = case
    hardware = machine(*unrollings, overhead=data.draw(st.integers(0, 2)))
    stripes = cut(extents["oy"], data)
    slices = cut(extents["g"] if extents["g"] > 1 else extents["k"], data)
    step = extents["k"] if extents["g"] > 1 else 1
    total = sum(
        cycles(layer, hardware, rows, 0, channels * step) for rows in stripes for channels in slices
    )
    least = least_cycles(layer, "int8", hardware)
    assert 1 <= least <= whole_cycles(layer, "int8", hardware)
    assert least <= total


def cut(extent: int, data: st.DataObject) -> list[int]:
    parts = []
    while extent:
        parts.append(data.draw(st.integers(1, extent)))
        extent -= parts[-1]
    return parts


def test_tiles_of_different_unrollings_can_beat_the_whole() -> None:
    # 7 rows: two passes of "oy: 4" at 10 steps, or 7 of the other at 3; 4 + 3 rows mix them
    layer = conv((1, 30, 7, 1), 1)
    hardware = machine({"oy": 4, "c": 3}, {"c": 10})
    assert whole_cycles(layer, "int8", hardware) == 20
    assert cycles(layer, hardware, 4) + cycles(layer, hardware, 3) == 19
    assert least_cycles(layer, "int8", hardware) <= 19


@settings(max_examples=200, deadline=None)
@given(st.tuples(*[small] * 4), st.lists(factors, min_size=1, max_size=3), st.data())
def test_nor_do_bands_and_slices_of_inputs(
    extents: tuple[int, ...], unrollings: list[dict[str, int]], data: st.DataObject
) -> None:
    inputs, outputs, rows, columns = extents
    hardware = machine(*unrollings)
    total = sum(
        cycles(conv((1, summed, rows, band), outputs), hardware, stripe, channels=part)
        for band, summed, stripe, part in product(
            *(cut(extent, data) for extent in (columns, inputs, rows, outputs))
        )
    )
    assert least_cycles(conv((1, inputs, rows, columns), outputs), "int8", hardware) <= total


@pytest.mark.parametrize("axis", [1, 3])
def test_slices_of_inputs_and_bands_may_each_choose_another_unrolling(axis: int) -> None:
    def layer(extent: int) -> Layer:
        return conv((1, extent, 1, 1) if axis == 1 else (1, 1, 1, extent), 10)

    hardware = machine({"c": 16, "ox": 16}, {"k": 10})
    assert cycles(layer(17), hardware, 1) == 17
    assert cycles(layer(16), hardware, 1) + cycles(layer(1), hardware, 1) == 11
    assert least_cycles(layer(17), "int8", hardware) <= 11


def test_the_least_cycles_are_exact_where_nothing_is_ragged() -> None:
    layer = conv((1, 32, 8, 8), 64)
    hardware = machine({"c": 32, "k": 32})
    assert least_cycles(layer, "int8", hardware) == whole_cycles(layer, "int8", hardware) == 128


def test_the_least_cycles_do_not_count_idle_cells() -> None:
    layer = conv((1, 32, 4, 4), 32, 3, groups=32)  # one channel each in an array of channels
    hardware = machine({"c": 64, "k": 128})
    assert least_cycles(layer, "int8", hardware) == whole_cycles(layer, "int8", hardware) == 4608


@pytest.mark.parametrize(
    ("op", "shapes", "extents"),
    [
        (Linear(6), [(2, 3, 5)], {"b": 2, "k": 6, "c": 5, "oy": 3}),
        (Linear(6), [(5,)], {"k": 6, "c": 5}),
        (MatMul(), [(2, 3, 5), (2, 5, 7)], {"b": 2, "k": 7, "c": 5, "oy": 3}),
        (MatMul(True), [(3, 5), (7, 5)], {"k": 7, "c": 5, "oy": 3}),
    ],
)
def test_matrix_products(op: Op, shapes: list[tuple[int, ...]], extents: dict[str, int]) -> None:
    layer = layer_of(op, *shapes)
    tile = {**dict.fromkeys(LOOP_DIMENSIONS, 1), **extents}
    for unrolling in ({"c": 2, "k": 4}, {"oy": 2, "b": 2}, {}):
        for rows in range(1, layer.rows + 1):
            expected = passes({**tile, "oy": rows}, unrolling)
            assert cycles(layer, machine(unrolling), rows) == expected


def test_one_dimensional_convolution_is_counted_once() -> None:
    # its rows are channels, which are no output rows of the nest
    layer = layer_of(Conv(8, (3,), (1,), (1, 1), (1,)), (1, 4, 10))
    hardware = machine({"c": 4})
    assert layer.rows == 8
    assert whole_cycles(layer, "int8", hardware) == 8 * 10 * 3
    assert cycles(layer, hardware, 2) == 2 * 10 * 3


def test_tiles_of_no_rows_cost_nothing() -> None:
    hardware = machine(overhead=5)
    found = tile_cycles(conv((1, 2, 4, 4), 2), "int8", hardware, np.array([0, 1]), np.array([9, 0]))
    assert found.tolist() == [0, 2 * 2 * 4 + 5]


def test_element_types_take_the_rate_of_their_like() -> None:
    compute = machine(rates={"int8": 2, "int16": 3, "float16": 5}).compute
    rates = {
        t: cycles_per_mac(compute, t) for t in ("int8", "uint8", "uint16", "bfloat16", "float64")
    }
    assert rates == {"int8": 2, "uint8": 2, "uint16": 3, "bfloat16": 5, "float64": 1}
    explicit = machine(rates={"int8": 2, "uint8": 7}).compute
    assert cycles_per_mac(explicit, "uint8") == 7


# vector layers and measured layers


@pytest.mark.parametrize(
    ("op", "shapes", "operations"),
    [
        (Unary("relu"), [(1, 3, 5, 7)], 105),
        (Binary("add"), [(1, 3, 5, 7), (1, 3, 5, 7)], 105),
        (Pool("max", (2, 2), (1, 1), (0, 0, 1, 1), (1, 1)), [(1, 3, 5, 7)], 105 * 4),
        (Softmax(), [(1, 3, 5, 7)], 105 * 5),
    ],
)
def test_vector_layers_go_by_lanes(op: Op, shapes: list[tuple[int, ...]], operations: int) -> None:
    layer = layer_of(op, *shapes)
    for lanes, rows in product((1, 4, 64), range(1, 6)):
        expected = math.ceil(Fraction(operations * rows, 5 * lanes))
        assert cycles(layer, machine(lanes=lanes), rows) == expected


def test_the_vector_unit_reads_through_its_own_port() -> None:
    vector, mac = layer_of(Unary("relu"), (1, 4, 4)), conv((1, 1, 4, 4), 1)
    shared = machine(lanes=16, bandwidth=Fraction(2))
    apart = machine(lanes=16, bandwidth=Fraction(2), vector=Fraction(10))
    assert cycles(vector, shared, 4, 100) == cycles(mac, shared, 4, 100) == 50
    assert cycles(vector, apart, 4, 100) == 10
    assert cycles(mac, apart, 4, 100) == 50


@given(st.integers(0, 10**9), st.integers(1, 7), st.integers(1, 6))
def test_measured_cycles_replace_the_model(measured: int, rows: int, channels: int) -> None:
    layer = replace(conv((1, 3, 7, 5), 6, 3), cycles=measured)
    slow = machine(bandwidth=Fraction(1, 1000), overhead=2)
    expected = math.ceil(Fraction(measured * rows * channels, 7 * 6)) + 2
    assert cycles(layer, slow, rows, 10**6, channels) == expected


def test_numbers_beyond_64_bits_stay_exact() -> None:
    values = np.array([0, 1, 2**40 + 1], dtype=np.int64)
    factor = Fraction(2**41 + 1, 2**40)
    expected = [math.ceil(int(v) * factor) for v in values]
    assert ceil_scaled(values, factor).tolist() == expected
    odd = Fraction(10**18 + 9, 10**18 + 7)
    assert ceil_scaled(values, odd).tolist() == [math.ceil(int(v) * odd) for v in values]
    assert ceil_scaled(np.empty((0, 3), dtype=np.int64), odd).shape == (0, 3)
    # a factor of which a side alone leaves 64 bits
    long = Fraction(14411518807585568875, 5184721704765755391)
    assert ceil_scaled(np.array([0, 0, 3]), long).tolist() == [0, 0, math.ceil(3 * long)]
    assert ceil_scaled(np.array([0, 0]), long).tolist() == [0, 0]


# transfers


@given(
    st.fractions(Fraction(1, 100), 200), st.integers(0, 500), st.integers(1, 300),
    st.integers(0, 10**7), st.integers(1, 1000),
)  # fmt: skip
def test_transfers(rate: Fraction, latency: int, burst: int, run: int, runs: int) -> None:
    dram = Dram(rate, latency, burst)
    moved = moved_bytes(dram, run, runs)
    assert moved == math.ceil(run / burst) * burst * runs
    duration = transfer_cycles(dram, moved)
    assert duration == (latency + math.ceil(moved / rate) if moved else 0)
    assert moved_bytes_array(dram, np.array([run, 0]), runs).tolist() == [moved, 0]
    assert transfer_cycles_array(dram, np.array([moved, 0])).tolist() == [duration, 0]


# SoMa's published layer tables


def soma_layer(row: dict[str, str]) -> tuple[Layer, int]:
    """Layer of a table row and the bytes that it reads, each operand once."""
    n = {
        key: int(row[key])
        for key in ("C", "K", "R", "S", "sH", "sW", "G", "N", "ifm_c", "ifm_h", "ifm_w",
                    "ofm_c", "ofm_h", "ofm_w", "ofm_bytes", "weight_bytes", "dyn_weight")
    }  # fmt: skip
    b = n["ofm_bytes"] // (n["ofm_c"] * n["ofm_h"] * n["ofm_w"])
    read = b * n["ifm_c"] * n["ifm_h"] * n["ifm_w"]
    if row["type"] in ("Conv", "FC", "GroupConv"):
        pads = soma_pads(n)
        op = Conv(n["K"], (n["R"], n["S"]), (n["sH"], n["sW"]), pads, (1, 1), n["G"])
        dynamic = b * n["C"] * n["K"] // n["G"] if n["dyn_weight"] else 0
        return layer_of(op, (b, n["C"], n["ifm_h"], n["ifm_w"])), read + n["weight_bytes"] + dynamic
    out = (b, n["ofm_c"], n["ofm_h"], n["ofm_w"])
    if row["type"] == "Pooling":
        kernel = (n["R"], n["S"])
        pads = soma_pads(n)
        return layer_of(
            Pool("max", kernel, (n["sH"], n["sW"]), pads, (1, 1)),
            (b, n["C"], n["ifm_h"], n["ifm_w"]),
        ), read
    return layer_of(Binary("add"), *[out] * n["N"]) if n["N"] > 1 else layer_of(
        Unary("relu"), out
    ), read


def soma_pads(n: dict[str, int]) -> tuple[int, int, int, int]:
    """Padding, all at the end, that makes the output as large as the table says."""
    high = (n["ofm_h"] - 1) * n["sH"] + n["R"] - n["ifm_h"]
    wide = (n["ofm_w"] - 1) * n["sW"] + n["S"] - n["ifm_w"]
    return (0, 0, high, wide)


def soma_rows(name: str) -> Iterator[dict[str, str]]:
    path = SOMA / f"{name}_layers.csv"
    if not path.is_file():
        pytest.skip("SoMa's layer tables are not next to this checkout")
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


@pytest.mark.parametrize(
    ("name", "total", "others"),
    [
        ("resnet50", 566_412, {"conv_3_0_a"}),
        ("resnet50_b4", 2_241_648, set()),
        ("randwire_small", 122_905, set()),
        ("gpt2_small_prefill", 568_320, set()),
        ("gpt2_small_decode", 30_231, {"attention_QK", "attention_QKV"}),
    ],
)
def test_soma_edge_prices_layers_as_soma_does(name: str, total: int, others: set[str]) -> None:
    edge = read_hardware(REPO / "hw" / "soma_edge.yaml")
    rows = list(soma_rows(name))
    assert sum(int(row["full_cycles"]) for row in rows) == total
    differing = set()
    for row in rows:
        layer, read = soma_layer(row)
        if cycles(layer, edge, layer.rows, read) != int(row["full_cycles"]):
            differing.add(row["name"])
    # a stride that skips pixels, and dynamic operands, of which SoMa counts no reading
    assert differing == others
