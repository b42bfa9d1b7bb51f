"""Compressed feature maps: sizes, plans, programs, and densities as they are read and measured."""

from __future__ import annotations

import ctypes
import random
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from draws import some_seeds
from emitted import COMPILER, Batch, drawn_inputs
from plan_fixture import (
    World,
    make_world,
    random_chip,
    random_decision,
    random_network,
    schedule_of,
)
from values_oracle import run as computed

import spm_opt
from spm_opt.api import load_hardware, load_network
from spm_opt.commands import lower
from spm_opt.cost.compression import map_share, run_length_factor
from spm_opt.cost.dram import moved_bytes
from spm_opt.cost.energy import Tiles, tile_energy
from spm_opt.emit.c_project import emit_project, fixed_sources
from spm_opt.errors import InputError
from spm_opt.formats.density_csv import densities_to_csv, read_densities
from spm_opt.formats.model_yaml import network_to_yaml, read_model_yaml
from spm_opt.formats.schedule_json import schedule_from_json, schedule_to_json
from spm_opt.graph.builder import NetworkBuilder
from spm_opt.graph.densities import densities_of, with_densities
from spm_opt.graph.network import MILLION, Network, Tensor
from spm_opt.hardware import RAW, Compression, Hardware
from spm_opt.schedule import Schedule
from spm_opt.seeded import draw_values
from spm_opt.simulate import simulate
from spm_opt.verify import verify
from spm_opt.verify.commands import verify_commands

RUN_LENGTH, HALF = Compression("run_length"), Compression("ratio", percent=50)
CODES = (RUN_LENGTH, Compression("run_length", 3, 32), HALF, Compression("ratio", percent=73))


def packed_with(hardware: Hardware, compression: Compression) -> Hardware:
    return replace(hardware, dram=replace(hardware.dram, compression=compression))


# --------------------------------------------------------------------------- sizes


def pairs_of(values: list[int], run_bits: int) -> int:
    """Pairs of zeros to skip and an element, by the rule alone."""
    pairs, zeros, longest = 0, 0, 2**run_bits - 1
    for value in values:
        if value == 0 and zeros < longest:
            zeros += 1
        else:
            pairs, zeros = pairs + 1, 0
    return pairs + (zeros > 0)


def words_bytes(values: list[int], bits: int, run_bits: int, word_bits: int) -> int:
    held = word_bits // (run_bits + bits)
    words = -(-pairs_of(values, run_bits) // held)
    return -(-words * word_bits // 8)


@pytest.mark.parametrize("zeros", ["0.3", "0.6", "0.9", "0.97"])
@pytest.mark.parametrize("code", [(8, 5, 64), (16, 5, 64), (8, 3, 32)])
def test_the_factor_is_what_independent_zeros_take(zeros: str, code: tuple[int, int, int]) -> None:
    bits, run_bits, word_bits = code
    rng, count = random.Random(7), 200_000
    values = [int(rng.random() >= float(zeros)) for _ in range(count)]
    found = words_bytes(values, bits, run_bits, word_bits) / (count * bits // 8)
    expected = float(run_length_factor(Fraction(zeros), bits, run_bits, word_bits))
    assert expected == pytest.approx(min(1.0, found), rel=0.01)


def test_shares_are_whole_parts_and_never_above_all() -> None:
    dense, half = Tensor("t", (1, 2, 3, 4)), Tensor("t", (1, 2, 3, 4), density_ppm=MILLION // 2)
    assert map_share(None, half) == RAW
    assert map_share(RUN_LENGTH, dense) == RAW
    assert map_share(RUN_LENGTH, half) == RAW  # 64 / 32 * 0.5, and a little for long runs
    # 64 / 32 * 0.25 / (1 - 0.75 ** 32) = 0.500050
    assert map_share(RUN_LENGTH, replace(half, density_ppm=MILLION // 4)) == 32772
    assert map_share(HALF, dense) == RAW // 2
    # one pair of 5 and 32 bits fills a word of 64
    assert map_share(RUN_LENGTH, replace(half, dtype="float32")) == RAW
    assert map_share(Compression("run_length", 5, 32), replace(half, dtype="float32")) == RAW
    empty = replace(dense, density_ppm=0)
    assert map_share(RUN_LENGTH, empty) == -(-RAW * 64 // (4 * 8 * 32))


def test_runs_are_packed_one_by_one_and_rounded_up_to_bursts() -> None:
    dram = load_hardware("mobile_npu").dram
    assert moved_bytes(dram, 1000, 3) == 3 * 1024
    assert moved_bytes(dram, 1000, 3, RAW // 2) == 3 * 512
    assert moved_bytes(dram, 1000, 3, RAW // 2 + 1) == 3 * 512  # 500.02 bytes
    assert moved_bytes(dram, 1024, 1, RAW // 2 + 1) == 576  # 512.02 bytes


# --------------------------------------------------------------------------- the code in C


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    if COMPILER is None:
        pytest.skip("no C compiler (cc, gcc or clang)")
    folder = tmp_path_factory.mktemp("rlc")
    for name in ("rlc.h", "rlc.c"):
        (folder / name).write_text(fixed_sources()[name])
    command = [COMPILER, "-std=c11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([*command, "rlc.c", "-o", "rlc.so"], cwd=folder, check=True)
    found = ctypes.CDLL(str(folder / "rlc.so"))
    found.rlc_room.restype = found.rlc_encode.restype = ctypes.c_int64
    return found


class Code(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int32) for name in ("run_bits", "word_bits", "element_bytes")]


@pytest.mark.parametrize("seed", range(60))
def test_the_code_comes_back_and_is_as_long_as_its_pairs(codec: ctypes.CDLL, seed: int) -> None:
    rng = random.Random(seed)
    element_bytes, run_bits = rng.choice([1, 1, 2, 4]), rng.choice([1, 2, 5, 8, 16])
    word_bits = run_bits + 8 * element_bytes + rng.choice([0, 1, 7, 40, 200])
    count, zeros = rng.choice([1, 2, 33, 64, 500]), rng.choice([0.0, 0.5, 0.95, 1.0])
    values = [
        0 if rng.random() < zeros else rng.randrange(256**element_bytes) for _ in range(count)
    ]
    raw = b"".join(value.to_bytes(element_bytes, "little") for value in values)
    code, length = Code(run_bits, word_bits, element_bytes), ctypes.c_int64(count)
    words = ctypes.create_string_buffer(codec.rlc_room(code, length) + 1)
    words[-1] = b"\x5a"
    size = codec.rlc_encode(code, raw, length, words)
    assert size == words_bytes(values, 8 * element_bytes, run_bits, word_bits)
    again = ctypes.create_string_buffer(len(raw) + 1)
    codec.rlc_decode(code, words, length, again)
    assert again.raw[:-1] == raw
    assert words[-1] == b"\x5a"


# --------------------------------------------------------------------------- plans


def sparse_world(seed: int) -> World:
    """A world whose maps have densities by lot, on a chip that compresses them."""
    rng = random.Random(seed)
    network = random_network(rng)
    shares = {name: rng.choice([0, 150_000, 400_000, MILLION]) for name in network.tensors}
    chip = packed_with(random_chip(rng, network), rng.choice(CODES))
    return make_world(with_densities(network, shares), chip, cuts=seed % 2 > 0)


def schedules(seeds: Sequence[int]) -> Iterator[tuple[int, Schedule]]:
    for seed in seeds:
        world, rng = sparse_world(seed), random.Random(seed)
        for decision in (random_decision(rng, world.problem) for _ in range(3)):
            schedule = None if decision is None else schedule_of(world, decision, seed % 3 > 0)
            if schedule is not None:
                yield seed, schedule


@some_seeds(range(6), range(14))
def test_plans_with_compressed_maps_pass_the_checker_and_the_simulator(
    seeds: Sequence[int],
) -> None:
    smaller = 0
    for seed, schedule in schedules(seeds):
        assert verify(schedule) == (), seed
        stream = lower(schedule)
        assert verify_commands(schedule, stream) == (), seed
        simulation = simulate(stream, schedule.hardware)
        assert simulation.latency_cycles == schedule.claims.latency_cycles, seed
        assert schedule_from_json(schedule_to_json(schedule)) == schedule
        smaller += sum(t.moved_bytes < t.run_bytes * t.runs for t in schedule.transfers)
        assert all(
            t.moved_bytes >= t.run_bytes * t.runs for t in schedule.transfers if t.role == "weights"
        )
    assert smaller


def test_a_schedule_that_counts_other_bytes_is_refused() -> None:
    seed, schedule = next(
        (seed, schedule) for seed, schedule in schedules(range(40))
        if any(t.moved_bytes < t.run_bytes * t.runs for t in schedule.transfers)
    )  # fmt: skip
    raw = packed_with(schedule.hardware, Compression("ratio", percent=100))
    assert verify(replace(schedule, hardware=raw)), seed
    stream = lower(schedule)
    changed = tuple(
        c if c.dram is None else replace(c, dram=replace(c.dram, share=c.dram.share + 1))
        for c in stream.commands
    )
    assert verify_commands(schedule, replace(stream, commands=changed))


def tower() -> Network:
    """Convolutions of maps that are larger than the scratchpad of the test below."""
    b = NetworkBuilder("tower")
    x = b.conv(b.input("x", (1, 8, 32, 32)), 32, 3, padding=1, activation="relu")
    x = b.max_pool(b.conv(x, 32, 3, padding=1, activation="relu"), 2)
    b.output(b.conv(b.conv(x, 48, 3, padding=1, activation="relu"), 16, 1))
    return b.build().with_dtype("int8")


@pytest.mark.parametrize("strategy", ["layerwise", "fuse", "joint"])
def test_compression_saves_time_and_bytes_and_its_bound_holds(strategy: str) -> None:
    def solved(**overrides: str) -> spm_opt.Result:
        return spm_opt.solve(
            tower(), "mobile_npu", strategy=strategy, orders=1, workers=1, deterministic_limit=5.0,
            overrides={"spm.capacity": "32 KiB", "dram.bandwidth": "1 GB/s", **overrides},
        )  # fmt: skip

    raw, half = solved(), solved(**{"dram.compression": "50 %"})
    assert half.latency_cycles < raw.latency_cycles
    assert half.dram_bytes["total"] < raw.dram_bytes["total"]
    claims, made = half.schedule.claims, half.schedule.provenance
    assert claims.roofline_cycles <= made.latency_lower_bound_cycles <= claims.latency_cycles
    assert spm_opt.check(half) == ()


# --------------------------------------------------------------------------- programs


@pytest.mark.skipif(COMPILER is None, reason="no C compiler (cc, gcc or clang)")
@some_seeds(range(5), range(12))
def test_programs_compute_the_same_and_a_ratio_moves_what_is_promised(
    objects, tmp_path: Path, seeds: Sequence[int]
) -> None:
    batch, made = Batch(objects, tmp_path), []
    for seed, schedule in schedules(seeds):
        network = schedule.network
        values, inputs = draw_values(network, seed), drawn_inputs(network, seed)
        batch.add(schedule, emit_project(schedule, values), inputs)
        made.append((seed, schedule, computed(network, values, inputs)))
    for (seed, schedule, wanted), ran in zip(made, batch.run(), strict=True):
        compression = schedule.hardware.dram.compression
        if compression is not None and compression.kind == "ratio":
            assert ran.dram_bytes == schedule.claims.dram_bytes, seed
        for mode, outputs in ran.outputs.items():
            for name, array in outputs.items():
                assert (array == wanted[name]).all(), (seed, mode, name)


@pytest.mark.skipif(COMPILER is None, reason="no C compiler (cc, gcc or clang)")
def test_a_run_length_program_counts_the_words_of_its_data(objects, tmp_path: Path) -> None:
    b = NetworkBuilder("one", dtype="int8")
    x = b.input("x", (1, 4, 12, 10))
    b.output(b.relu(b.conv(x, 6, 3, padding=1, name="conv"), name="relu"))
    rng = np.random.default_rng(3)
    hardware = packed_with(load_hardware("mobile_npu", {"spm.capacity": "1 KiB"}), RUN_LENGTH)
    schedule = spm_opt.solve(b, hardware, time_limit=5.0).schedule
    network = schedule.network
    assert schedule.claims.dram_feature_map_bytes > 0
    values = draw_values(network, 3)
    array = rng.integers(-128, 128, (1, 4, 12, 10)).astype(np.int8) * (
        rng.random((1, 4, 12, 10)) < 0.2
    )
    batch = Batch(objects, tmp_path)
    batch.add(schedule, emit_project(schedule, values), {"x": array.astype(np.int8)})
    (ran,) = batch.run()
    maps = {"x": array, **ran.outputs["early"]}
    assert ran.dram_bytes == sum(
        counted(schedule, transfer, maps) for transfer in schedule.transfers
    )


def counted(schedule: Schedule, transfer, maps: dict[str, np.ndarray]) -> int:
    """Bytes that a transfer of whole rows takes: its rows as DRAM has them, in words or raw."""
    dram = schedule.hardware.dram
    if transfer.role == "weights":
        return moved_bytes(dram, transfer.run_bytes, transfer.runs)
    rows = np.moveaxis(maps[transfer.tensor], 2, 1)[:, slice(*transfer.rows)]
    assert transfer.channels is None
    size = words_bytes(rows.ravel().tolist(), 8, RUN_LENGTH.run_bits, RUN_LENGTH.word_bits)
    return moved_bytes(dram, min(size, rows.size))


# --------------------------------------------------------------------------- densities


def test_densities_of_a_model_file_are_read_kept_and_written(tmp_path: Path) -> None:
    b = NetworkBuilder("two", dtype="int8")
    x = b.input("x", (1, 8, 16, 16))
    y = b.relu(b.conv(x, 8, 3, padding=1, name="a"), name="r")
    b.output(b.conv(y, 8, 1, name="b"))
    b.density(y, 420_000)
    path = tmp_path / "two.yaml"
    path.write_text(network_to_yaml(b), encoding="utf-8")
    assert densities_of(read_model_yaml(path).tensors) == {"r": 420_000}
    planned = load_network(path, densities={"x": 0.25})
    assert densities_of(planned.tensors) == {"r": 420_000, "x": 250_000}
    with pytest.raises(InputError, match="no tensor of the network has this name; found 'a'"):
        load_network(path, densities={"a": 0.1})  # its layer is folded into the one behind


def test_a_table_is_what_its_file_says(tmp_path: Path) -> None:
    shares = {"x": 1, "a,b": 123_456, "c": 0, "d": MILLION}
    path = tmp_path / "table.csv"
    path.write_text(densities_to_csv(shares), encoding="utf-8")
    assert read_densities(path) == shares


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: another header was expected; found ''; allowed: tensor,density"),
        ("layer,density\n", "line 1: another header was expected"),
        ("tensor,density\nx\n", "line 2: two cells a line; found 'x'"),
        ("tensor,density\nx,0.5\n\nx,0.5\n", "line 4: this tensor was given before; found 'x'"),
        ("tensor,density\nx,1.5\n", "line 2: a density is a share; found '1.5'; allowed: 0 to 1"),
        ("tensor,density\nx,nan\n", "line 2: a density is a share; found 'nan'"),
        ("tensor,density\nx,much\n", "line 2: a density is a share; found 'much'"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as error:
        read_densities(path)
    assert str(error.value).startswith(f"{path}: {message}")


def test_a_tensor_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no tensor of the network has this name; found 'relu9'"):
        load_network("alexnet", densities={"relu9": 0.5})
    path = tmp_path / "table.csv"
    path.write_text("tensor,density\nrelu9,0.5\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"table\.csv: densities: no tensor of the network"):
        load_network("alexnet", densities=path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("zip", "is no compression; found 'zip'"),
        ("0 %", "must be positive; found 0"),
        ("101 %", "is too large; found 101"),
    ],
)
def test_a_compression_that_cannot_be_is_refused(value: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        load_hardware("mobile_npu", {"dram.compression": value})
    assert message in str(error.value)


def test_zeros_of_an_onnx_run_are_counted(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    from spm_opt.program_density import measure_densities

    kernel = helper.make_tensor("w", TensorProto.FLOAT, (1, 1, 1, 1), [1.0])
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Relu", ["c"], ["r"]),
         helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[1, 1])],
        "one", [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 1, 2, 4))],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, (1, 1, 2, 4))], [kernel],
    )  # fmt: skip
    path = tmp_path / "one.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), path)
    x = np.array([[[[-1, 2, 0, 3], [4, -5, -6, -7]]]], dtype=np.float32)
    found = measure_densities(path, [x])
    assert found["x"] == 7 / 8
    assert found["r"] == 3 / 8
    assert densities_of(load_network(path, densities=found).tensors)["r"] == 375_000
    with pytest.raises(InputError, match="one array for each input"):
        measure_densities(path, [x, x])


def test_gated_macs_cost_nothing_of_their_own() -> None:
    b = NetworkBuilder("one", dtype="int8")
    x = b.input("x", (1, 4, 6, 5))
    b.output(b.conv(x, 8, 3, padding=1))
    layer = b.build().layers[0]
    rows, none = np.array([2]), np.array([0])

    def energy(density_ppm: int, **overrides: str):
        chip = load_hardware("mobile_npu", overrides)
        return tile_energy(layer, "int8", chip, Tiles(rows, none, rows, rows, None, density_ppm))

    whole = energy(250_000)
    gated = energy(250_000, **{"energy.zero_gating": "true"})
    assert gated.mac_fj * 4 == whole.mac_fj
    assert gated.spm_maps_fj == whole.spm_maps_fj
    macs = 2 * 5 * 8 * 36
    register = load_hardware("mobile_npu").energy.register_fj
    assert whole.register_fj - gated.register_fj == 2 * (macs - macs // 4) * register
    assert energy(MILLION, **{"energy.zero_gating": "true"}).total_fj == energy(MILLION).total_fj
