"""Networks of the catalogue, emitted by every strategy: the same bits as without a schedule."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from emitted import COMPILER, Array, Batch, Ran, compiled_fixed, drawn_inputs, write_files

import spm_opt
from spm_opt.emit.c_project import emit_project
from spm_opt.graph.values import NetworkValues
from spm_opt.params import STRATEGIES
from spm_opt.schedule import Schedule
from spm_opt.seeded import draw_values
from spm_opt.verify import verify

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(COMPILER is None, reason="no C compiler (cc, gcc or clang)"),
]
MODELS = ("alexnet", "squeezenet1_1", "mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large",
          "resnet18", "resnet50", "googlenet", "densenet121", "efficientnet_b0", "unet", "vit_s_16",
          "bert_base")  # fmt: skip
LARGE = "1 GiB"


def planned(model: str, strategy: str, capacity: str, batch: int = 1) -> Schedule:
    result = spm_opt.solve(
        model, "mobile_npu", strategy=strategy, overrides={"spm.capacity": capacity}, batch=batch,
        orders=1, workers=1, time_limit=20.0, deterministic_limit=20.0,
    )  # fmt: skip
    return result.schedule


def capacities(model: str) -> dict[str, str]:
    """Four times the least that runs the network, and sixteen times."""
    tight = -(-4 * spm_opt.info(model, "mobile_npu")["minimum_spm_bytes"] // 1024)
    return {"tight": f"{tight} KiB", "roomy": f"{4 * tight} KiB"}


def ran(
    objects: Path, folder: Path, schedule: Schedule, values: NetworkValues,
    inputs: Mapping[str, Array] | None = None,
) -> Ran:  # fmt: skip
    batch = Batch(objects, folder)
    network = schedule.network
    given = drawn_inputs(network, 1) if inputs is None else inputs
    batch.add(schedule, emit_project(schedule, values), given)
    (found,) = batch.run()
    assert found.dram_bytes == schedule.claims.dram_bytes
    # rows that nobody needs (all tokens but one, at the end of vit_s_16) may be left out
    assert found.macs <= schedule.claims.macs + schedule.claims.recomputed_macs
    return found


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    return compiled_fixed(tmp_path_factory, "-O3")


@pytest.mark.parametrize("model", MODELS)
def test_outputs_do_not_depend_on_the_schedule(objects, tmp_path, model):
    whole = planned(model, "layerwise", LARGE)
    values = draw_values(whole.network)
    expected = ran(objects, tmp_path / "whole", whole, values).outputs["late"]
    for size, capacity in capacities(model).items():
        for strategy in STRATEGIES:
            schedule = planned(model, strategy, capacity)
            found = ran(objects, tmp_path / f"{strategy}_{size}", schedule, values)
            for mode, outputs in found.outputs.items():
                for name, array in outputs.items():
                    message = f"{strategy}, {capacity}, {mode}: {name}"
                    np.testing.assert_array_equal(array, expected[name], err_msg=message)


@pytest.mark.parametrize("model", ["mobilenet_v2", "resnet18"])
def test_batches_are_their_images(objects, tmp_path, model):
    batch = planned(model, "joint", "512 KiB", batch=4)
    assert verify(batch) == ()
    values, inputs = draw_values(batch.network), drawn_inputs(batch.network, 1)
    found = ran(objects, tmp_path / "batch", batch, values, inputs)
    single = planned(model, "layerwise", LARGE)
    for i in range(4):
        image = {name: np.ascontiguousarray(a[i : i + 1]) for name, a in inputs.items()}
        alone = ran(objects, tmp_path / str(i), single, values, image)
        for mode, outputs in found.outputs.items():
            for name, array in outputs.items():
                expected = alone.outputs[mode][name]
                np.testing.assert_array_equal(array[i : i + 1], expected, f"{mode}: {name}")


def test_mobilenet_v2_is_small_and_quick(tmp_path):
    schedule = planned("mobilenet_v2", "joint", "512 KiB")
    values = draw_values(schedule.network)
    begin = time.perf_counter()
    files = emit_project(schedule, values)
    assert time.perf_counter() - begin <= 5
    assert sum(len(c) for name, c in files.items() if name != "weights.bin") <= 1 << 20
    write_files(tmp_path, files)
    assert spm_opt.run_c(tmp_path).seconds <= 3
