"""Emitted programs: the same bits under every plan, the stream's order, readable loops."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import onnx
import pytest
from draws import quick_of
from emitted import (
    COMPILER,
    Batch,
    call,
    drawn_inputs,
    figures,
    write_files,
)
from kernel_programs import CHECKED
from plan_fixture import make_world, random_chip, random_decision, schedule_of
from values_models import Model
from values_oracle import run as computed

import spm_opt
from spm_opt.commands import Stream, lower
from spm_opt.emit.c_order import program_order
from spm_opt.emit.c_project import emit_project
from spm_opt.errors import InputError
from spm_opt.graph.builder import NetworkBuilder
from spm_opt.graph.network import Network
from spm_opt.params import STRATEGIES
from spm_opt.schedule import Schedule
from spm_opt.seeded import draw_values
from spm_opt.verify.commands import verify_commands

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler (cc, gcc or clang)")


# --- networks ----------------------------------------------------------------------------------


def two_convolutions() -> Network:
    b = NetworkBuilder("two_convolutions")
    x = b.input("image", (1, 4, 16, 8))
    b.output(b.conv(b.conv(x, 8, 3, padding=1, name="first"), 4, 3, padding=1, name="second"))
    return b.build()


def mobile_block() -> Network:
    b = NetworkBuilder("mobile_block")
    x = b.input("image", (1, 8, 14, 14))
    y = b.conv(x, 48, 1, activation="relu6", name="expand")
    y = b.conv(y, 48, 3, padding=1, groups=48, activation="relu6", name="depthwise")
    b.output(b.add(b.conv(y, 8, 1, name="project"), x, name="add"))
    return b.build()


def branches() -> Network:
    b = NetworkBuilder("branches")
    x = b.input("image", (1, 4, 11, 9))
    left = b.conv(x, 8, 1, name="left")
    right = b.max_pool(x, 3, stride=1, padding=1, name="right")
    joined = b.concat([left, right], axis=1, name="joined")
    low, high = b.slice(joined, 1, 0, 6), b.slice(joined, 1, 6)
    y = b.conv(b.concat([high, low], axis=1), 16, 3, stride=2, padding=1)
    b.output(b.linear(b.flatten(b.global_avg_pool(y)), 10), joined)
    return b.build()


def attention() -> Network:
    b = NetworkBuilder("attention")
    x = b.input("tokens", (1, 12, 16))
    query, key, value = (b.linear(x, 16, name=n) for n in ("query", "key", "value"))

    def heads(y):
        return b.transpose(b.reshape(y, (0, 0, 2, 8)), (0, 2, 1, 3))

    weights = b.softmax(b.matmul(heads(query), heads(key), transpose_b=True))
    mixed = b.reshape(b.transpose(b.matmul(weights, heads(value)), (0, 2, 1, 3)), (0, 0, -1))
    b.output(b.add(b.linear(mixed, 16, name="out"), x))
    return b.build()


NETWORKS = (two_convolutions, mobile_block, branches, attention)


def planned(network: Network, strategy: str, capacity_bytes: int) -> Schedule:
    result = spm_opt.solve(
        network, "mobile_npu", strategy=strategy, orders=1, workers=1, time_limit=20.0,
        deterministic_limit=5.0, overrides=overrides(capacity_bytes),
    )  # fmt: skip
    return result.schedule


def compared(
    network: Network, strategies: tuple[str, ...], capacity_bytes: int
) -> dict[tuple[str, int], Schedule]:
    """Plans of several strategies, which share their candidates."""
    results = spm_opt.compare(
        network, "mobile_npu", strategies=strategies, orders=1, workers=1, time_limit=20.0,
        deterministic_limit=5.0, overrides=overrides(capacity_bytes),
    )  # fmt: skip
    return {(result.strategy, capacity_bytes): result.schedule for result in results}


def overrides(capacity_bytes: int) -> dict[str, str]:
    return {"spm.capacity": f"{capacity_bytes} B", "spm.alignment": "16 B"}


def tight_bytes(network: Network) -> int:
    """Little more than the least capacity that runs the network."""
    least = int(spm_opt.info(network, "mobile_npu")["minimum_spm_bytes"])
    return -(-least * 5 // 4 // 256) * 256


# --- the same bits -----------------------------------------------------------------------------


def strategies(network: Network, dtype: str, every: bool) -> tuple[str, ...]:
    """All of them, or those that differ most."""
    if dtype == "float32":
        return ("joint", "fuse") if every else ("fuse",)
    return STRATEGIES if every or network.name == "two_convolutions" else ("joint", "layerwise")


@needs_compiler
@pytest.mark.parametrize("every", quick_of([False], [False, True]), ids=["some", "every"])
@pytest.mark.parametrize("dtype", ["int8", "float32"])
@pytest.mark.parametrize("network", NETWORKS, ids=lambda f: f.__name__)
def test_outputs_and_bytes_are_those_of_the_schedule(
    objects, tmp_path, network: Callable[[], Network], dtype: str, every: bool
):
    net = network().with_dtype(dtype)
    values, inputs = draw_values(net), drawn_inputs(net, 1)
    tight = tight_bytes(net)
    schedules = {("whole", 0): planned(net, "layerwise", 1 << 22)}
    for capacity in (tight, 3 * tight) if every else (tight,):
        schedules |= compared(net, strategies(net, dtype, every), capacity)
    batch = Batch(objects, tmp_path)
    for schedule in schedules.values():
        batch.add(schedule, emit_project(schedule, values), inputs)
    whole, *others = batch.run()
    oracle = computed(net, values, inputs)
    for (key, schedule), ran in zip(schedules.items(), [whole, *others], strict=True):
        assert ran.dram_bytes == schedule.claims.dram_bytes, key
        assert ran.macs == schedule.claims.macs + schedule.claims.recomputed_macs, key
        for outputs in ran.outputs.values():
            for name, array in outputs.items():
                assert array.tobytes() == whole.outputs["late"][name].tobytes(), (key, name)
    for name, array in whole.outputs["late"].items():
        if dtype == "int8":
            np.testing.assert_array_equal(array, oracle[name], name)
        else:
            np.testing.assert_allclose(array, oracle[name], rtol=1e-4, atol=1e-5)


def a_split_whose_readers_cut_no_channels() -> Network:
    """Once read as many rows further on as it has channels before it."""
    b = NetworkBuilder("split")
    x = b.input("x", (1, 2, 9, 5))
    y = b.concat([x, x], axis=1)
    b.output(b.conv(b.slice(y, 1, 1), 4, 3, stride=2), b.slice(y, 1, 0, 1))
    return b.build()


def lots(network: Network) -> Iterator[Schedule]:
    """Plans by lot."""
    for seed in range(100):
        rng = random.Random(seed)
        world = make_world(network, random_chip(rng, network, tightness=4.0))
        decision = random_decision(rng, world.problem)
        schedule = None if decision is None else schedule_of(world, decision)
        if schedule is not None:
            yield schedule


@needs_compiler
def test_a_split_is_read_where_it_lies(objects, tmp_path):
    net = a_split_whose_readers_cut_no_channels()
    values, inputs = draw_values(net), drawn_inputs(net, 1)
    schedule = next(s for s in lots(net) if "slice1" not in {c.layer for c in s.computes})
    batch = Batch(objects, tmp_path)
    batch.add(schedule, emit_project(schedule, values), inputs)
    (ran,) = batch.run()
    for name, array in ran.outputs["late"].items():
        np.testing.assert_array_equal(array, computed(net, values, inputs)[name])


# --- the program and the stream ----------------------------------------------------------------


def assert_runs(objects, folder, schedule: Schedule) -> None:
    """The program runs the stream, as `Batch` asks of every one, and computes what numpy does."""
    values, inputs = draw_values(schedule.network), drawn_inputs(schedule.network, 1)
    batch = Batch(objects, folder)
    batch.add(schedule, emit_project(schedule, values), inputs)
    (ran,) = batch.run()
    assert ran.dram_bytes == schedule.claims.dram_bytes
    for outputs in ran.outputs.values():
        for name, array in outputs.items():
            np.testing.assert_array_equal(array, computed(schedule.network, values, inputs)[name])


def streaming_before_large_weights() -> Schedule:
    """Weights of a layer come in pieces, between the stripes of the first."""
    b = NetworkBuilder("gaps")
    x = b.conv(b.input("image", (1, 16, 64, 8)), 64, 3, padding=1, stride=2, name="stem")
    x = b.linear(b.flatten(b.global_avg_pool(x)), 128, name="wide")
    b.output(b.linear(x, 64, name="narrow"))
    result = spm_opt.solve(
        b.build(), "mobile_npu", orders=1, workers=1, interleave="on",
        overrides={"spm.capacity": "24 KiB", "spm.alignment": "16 B", "dram.latency": 0,
                   "dram.burst": "8 B", "dram.bandwidth": "8 GB/s"},
    )  # fmt: skip
    return result.schedule


@needs_compiler
def test_pieces_of_a_prefetch_are_one_routine_of_the_loop(objects, tmp_path):
    schedule = streaming_before_large_weights()
    pieces = [t for t in schedule.transfers if t.piece is not None and t.step == 0]
    tiles = schedule.steps[0].tiles
    assert len(pieces) >= tiles - 2 >= 20
    text = emit_project(schedule, draw_values(schedule.network))["schedule.c"]
    assert isinstance(text, str)
    first = text.split("static void step_0(void) {")[1].split("\n}\n")[0]
    assert first.count("for (") <= 3
    assert first.count("load_weights_wide") <= 3
    assert_runs(objects, tmp_path, schedule)


def streaming_weights_beside_a_single_tile() -> Schedule:
    """Constants in many tiles, the last one smaller, of which the first come a step early."""
    b = NetworkBuilder("classifier")
    pooled = b.global_avg_pool(b.input("map", (1, 16, 4, 4)))
    b.output(b.linear(b.flatten(pooled), 250, name="classify"))
    return planned(b.build(), "joint", 608)


@needs_compiler
def test_a_routine_that_runs_in_another_step_first_knows_all_of_its_tiles(objects, tmp_path):
    schedule = streaming_weights_beside_a_single_tile()
    loads = [t for t in schedule.transfers if t.role == "weights"]
    assert [step.tiles for step in schedule.steps] == [1, len(loads)]
    # irregular enough for a table
    assert len(loads) > 16
    assert len({t.run_bytes for t in loads}) == 2
    text = emit_project(schedule, draw_values(schedule.network))["schedule.c"]
    assert isinstance(text, str)
    single = text.split("static void step_0(void) {")[1].split("\n}\n")[0]
    assert "load_weights_classify" in single
    assert_runs(objects, tmp_path, schedule)


def loading_amid_the_last_stores() -> Schedule:
    """A load of the second step between two stores of the first, after which their bytes end."""
    b = NetworkBuilder("two_outputs")
    first = b.conv(b.input("image", (1, 4, 16, 8)), 4, 3, padding=1, name="first")
    second = b.conv(first, 4, 3, padding=1, name="second")
    third = b.conv(first, 8, 3, padding=1, stride=2, name="third")
    b.output(first, second, b.conv(third, 8, 3, padding=1, name="fourth"))
    schedule = planned(b.build(), "fuse", 2304)
    transfers = list(schedule.transfers)
    load, *stores = transfers[3:6]
    assert (load.kind, load.step, schedule.buffers[load.buffer].first_step) == ("load", 1, 0)
    for store in stores:
        assert (store.kind, store.step, store.tile) == ("store", 0, 0)
        assert schedule.buffers[store.buffer].end_step == 1
    transfers[3:6] = [stores[0], load, stores[1]]
    return replace(schedule, transfers=tuple(transfers))


@needs_compiler
def test_what_is_released_after_a_store_is_stored_before(objects, tmp_path):
    schedule = loading_amid_the_last_stores()
    wrong = verify_commands(schedule, lower(schedule))
    # in another order it takes other cycles, and is as safe
    assert [w for w in wrong if "runs in cycles" not in w and "latency_cycles" not in w] == []
    assert_runs(objects, tmp_path, schedule)


def test_transfers_start_as_early_as_they_may():
    schedule = planned(mobile_block(), "joint", 1 << 14)
    stream = lower(schedule)
    order = program_order(stream)
    places = {command.number: place for place, command in enumerate(order)}
    before = -1
    for command in (c for c in stream.commands if c.kind != "compute"):
        awaited = max((places[number] for number in command.waits), default=-1)
        assert places[command.number] == max(before, awaited) + 1
        before = places[command.number]
    for engine in ("compute", "dma"):
        own = [c.number for c in stream.commands if c.engine == engine]
        assert own == [c.number for c in order if c.engine == engine]


def test_commands_that_wait_for_one_another_are_refused():
    stream = lower(planned(two_convolutions(), "layerwise", 1 << 16))
    first = next(c for c in stream.commands if c.kind == "compute")
    commands = tuple(
        replace(c, waits=(first.number,)) if c.number in first.waits else c for c in stream.commands
    )
    with pytest.raises(InputError, match="wait for one another"):
        program_order(Stream(commands, stream.dram_addresses, stream.spm_bytes))


# --- the text ----------------------------------------------------------------------------------


@pytest.mark.parametrize("network", [two_convolutions, mobile_block], ids=lambda f: f.__name__)
def test_golden_text_of_a_fused_group(golden, network: Callable[[], Network]):
    net = network()
    schedule = planned(net, "fuse", {"two_convolutions": 1536, "mobile_block": 5120}[net.name])
    assert len(schedule.steps) == 1
    assert schedule.steps[0].tiles > 2
    text = emit_project(schedule, draw_values(net))["schedule.c"]
    assert isinstance(text, str)
    golden(f"emit_{net.name}.c", text)


def test_tiles_are_a_loop_whatever_their_number():
    sizes = []
    for height in (64, 512):
        b = NetworkBuilder("tall")
        x = b.input("image", (1, 4, height, 8))
        b.output(b.conv(b.conv(x, 8, 3, padding=1), 4, 3, padding=1))
        schedule = planned(b.build(), "fuse", 1024)
        assert schedule.steps[0].tiles >= height // 8
        sizes.append(len(str(emit_project(schedule, draw_values(b.build()))["schedule.c"])))
    assert sizes[1] < sizes[0] + 100


def test_foreign_names_are_harmless():
    b = NetworkBuilder('a "net" */ of \\ all ??/ names')
    x = b.input("in/1:0 /* x */", (1, 2, 6, 6))
    b.output(b.conv(b.conv(x, 2, 3, name='c"1\\'), 2, 3, name="c 1é"))
    net = b.build()
    text = str(emit_project(planned(net, "layerwise", 1 << 16), draw_values(net))["schedule.c"])
    assert text.isascii()
    assert not re.search(r"/\*[^/]*/\*", re.sub(r"\*/", "", text.split("#include")[0]))
    strings = re.findall(r'dma_note\("((?:[^"\\]|\\.)*)"', text)
    assert strings == [r"c\0421\134", r"c 1\303\251"]


# --- what is refused ---------------------------------------------------------------------------


def test_an_element_type_without_kernels_is_named():
    net = two_convolutions().with_dtype("float16")
    schedule = planned(net, "layerwise", 1 << 16)
    with pytest.raises(InputError, match="float16"):
        draw_values(net)
    with pytest.raises(InputError, match="float16"):
        emit_project(schedule, draw_values(two_convolutions()))


def test_an_opaque_operator_is_named(tmp_path):
    model = Model(1, 2, 6, 6)
    path = model.save(tmp_path, model.node("Relu", model.node("Whatever", "x", domain="own")))
    proto = onnx.load(path)
    proto.opset_import.append(onnx.helper.make_opsetid("own", 1))
    hidden = onnx.helper.make_tensor_value_info("Whatever_0_0", 1, (1, 2, 6, 6))
    proto.graph.value_info.append(hidden)
    onnx.save(proto, path)
    schedule = spm_opt.solve(str(path), "mobile_npu", orders=1).schedule
    with pytest.raises(InputError, match="Whatever"):
        emit_project(schedule, draw_values(schedule.network))


def test_missing_values_are_named():
    schedule = planned(two_convolutions(), "layerwise", 1 << 16)
    values = draw_values(schedule.network)
    layers = {k: v for k, v in values.layers.items() if k != "second"}
    with pytest.raises(InputError, match="second"):
        emit_project(schedule, replace(values, layers=layers))


# --- the checking build ------------------------------------------------------------------------


@needs_compiler
@pytest.mark.parametrize("level", quick_of(["-O0"], ["-O0", "-O3"]))
def test_make_check(tmp_path, level: str):
    net = mobile_block()
    schedule = planned(net, "joint", tight_bytes(net))
    folder = write_files(tmp_path, emit_project(schedule, draw_values(net)))
    options = [f"CC={COMPILER}", f"CFLAGS={level}"]
    if level == "-O0":
        options.append(f"CHECKS={' '.join(CHECKED)} -Wall -Wextra -Werror")
    said = call(["make", *options, "run", "check"], folder)
    assert said.rstrip().endswith("check: outputs are the same")
    counts = figures(next(line for line in said.splitlines() if line.startswith("{")))
    assert counts["bytes_loaded"] + counts["bytes_stored"] == schedule.claims.dram_bytes
