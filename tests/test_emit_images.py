"""Batches through emitted programs: whatever the plan, each image as if it were alone."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest
import random_worlds
from emitted import COMPILER, Array, Batch, drawn_inputs
from emitted_worlds import DTYPES, odd_network, planned_by
from plan_fixture import random_network
from values_oracle import run as computed

from spm_opt.api import check, load_hardware
from spm_opt.emit.c_project import emit_project
from spm_opt.graph.images import in_images
from spm_opt.graph.network import Network
from spm_opt.params import SolveParams
from spm_opt.planner import plan
from spm_opt.schedule import Schedule
from spm_opt.seeded import draw_values

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler (cc, gcc or clang)")
GENERATORS = (random_network, random_worlds.random_network, odd_network)
BATCH = 12
QUICK = 4


def unscheduled(network: Network) -> Schedule:
    """One layer after the other, every map whole."""
    machine = load_hardware("mobile_npu", {"spm.capacity": "4 MiB"})
    params = SolveParams(strategy="layerwise", orders=1, workers=1, time_limit=20.0)
    return plan(network, machine, params)


@dataclass(frozen=True)
class Drawn:
    """A batch planned by lot, and one image of the same network."""

    seed: int
    schedule: Schedule
    single: Network

    @property
    def network(self) -> Network:
        return self.schedule.network


def drawn(seed: int) -> Drawn:
    rng = random.Random(seed)
    while True:
        make, images, draw = rng.choice(GENERATORS), rng.choice([2, 3]), rng.random()
        dtype = rng.choice(DTYPES)
        network, single = (
            make(random.Random(draw), images=n).with_dtype(dtype) for n in (images, 1)
        )
        schedule = planned_by(rng, network)
        if schedule is not None:
            assert check(schedule) == (), seed
            return Drawn(seed, schedule, single)


def image_of(arrays: Mapping[str, Array], index: int) -> dict[str, Array]:
    return {name: np.ascontiguousarray(a[index : index + 1]) for name, a in arrays.items()}


def _add(batch: Batch, schedule: Schedule, seed: int, inputs: Mapping[str, Array]) -> int:
    network = schedule.network
    return batch.add(schedule, emit_project(schedule, draw_values(network, seed)), inputs)


def _run(objects, folder, seeds: range) -> None:
    batch, plans = Batch(objects, folder), []
    for seed in seeds:
        made = drawn(seed)
        inputs = drawn_inputs(made.network, seed)
        images = next(iter(inputs.values())).shape[0]
        alone = unscheduled(made.single)
        jobs = [_add(batch, made.schedule, seed, inputs)]
        jobs.append(_add(batch, unscheduled(made.network), seed, inputs))
        # rows that hold all images: other transfers, other windows, the same numbers
        jobs.append(_add(batch, unscheduled(in_images(made.network, (), 1)), seed, inputs))
        files = emit_project(alone, draw_values(alone.network, seed))
        singles = [batch.add(alone, files, image_of(inputs, i)) for i in range(images)]
        plans.append((made, inputs, jobs, singles))
    ran = batch.run()
    for made, inputs, jobs, singles in plans:
        claims, found = made.schedule.claims, [ran[i] for i in (*jobs, *singles)]
        assert found[0].dram_bytes == claims.dram_bytes, made.seed
        oracle = computed(made.network, draw_values(made.network, made.seed), inputs)
        for name in made.network.outputs:
            joined = np.concatenate([run.outputs["early"][name] for run in found[len(jobs) :]])
            for run in found[: len(jobs)]:
                for mode in ("early", "late"):
                    assert run.outputs[mode][name].tobytes() == joined.tobytes(), made.seed
            if joined.dtype.kind != "f":
                np.testing.assert_array_equal(joined, oracle[name], str(made.seed))


def test_batches_are_their_images(objects, tmp_path):
    _run(objects, tmp_path, range(QUICK))


@pytest.mark.heavy
@pytest.mark.parametrize("part", range(33))
def test_many_batches_are_their_images(objects, tmp_path, part):
    _run(objects, tmp_path, range(part * BATCH, (part + 1) * BATCH))
