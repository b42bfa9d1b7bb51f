"""Random networks on random chips, planned by lot: the emitted programs compute what numpy does.

60 in the default suite; ``pytest -m heavy tests/test_emit_random.py`` runs 5,000.
"""

from __future__ import annotations

import numpy as np
import pytest
from draws import on_many
from emitted import COMPILER, Batch, Ran, drawn_inputs
from emitted_worlds import drawn_plan, plan_by
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from values_oracle import run as computed

from spm_opt.emit.c_project import emit_project
from spm_opt.seeded import draw_values
from spm_opt.verify import verify

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler (cc, gcc or clang)")
BATCH = 50
QUICK = 30


def _expect(ran: Ran, expected: dict[str, np.ndarray], message: str) -> None:
    """Integers and moves are exact; sums of reals are near."""
    for mode, outputs in ran.outputs.items():
        for name, array in outputs.items():
            wanted = expected[name]
            if array.dtype.kind == "f":
                size = max(1.0, float(np.abs(wanted).max()))
                np.testing.assert_allclose(
                    array, wanted, rtol=1e-4, atol=1e-5 * size, err_msg=f"{message} {mode} {name}"
                )
            else:
                np.testing.assert_array_equal(array, wanted, f"{message} {mode} {name}")
    for name, early in ran.outputs["early"].items():
        assert early.tobytes() == ran.outputs["late"][name].tobytes(), f"{message} {name}"


def _run(objects, folder, seeds: range) -> None:
    batch, plans = Batch(objects, folder), []
    for seed in seeds:
        plan = drawn_plan(seed)
        values, inputs = draw_values(plan.network, seed), drawn_inputs(plan.network, seed)
        batch.add(plan.schedule, emit_project(plan.schedule, values), inputs)
        plans.append((plan, values, inputs))
    for (plan, values, inputs), ran in zip(plans, batch.run(), strict=True):
        claims = plan.schedule.claims
        assert ran.dram_bytes == claims.dram_bytes, plan.seed
        assert ran.macs <= claims.macs + claims.recomputed_macs, plan.seed
        _expect(ran, computed(plan.network, values, inputs), f"seed {plan.seed}")


@pytest.mark.parametrize("part", range(2))
def test_random_programs(objects, tmp_path, part):
    _run(objects, tmp_path, range(part * QUICK, (part + 1) * QUICK))


@pytest.mark.heavy
@pytest.mark.parametrize("part", range(104))
def test_many_random_programs(objects, tmp_path, part):
    _run(objects, tmp_path, range(part * BATCH, (part + 1) * BATCH))


MANY = settings(
    max_examples=50, derandomize=True, deadline=None, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much,
                           HealthCheck.data_too_large],
)  # fmt: skip
RNG = st.randoms(use_true_random=False)


@settings(MANY, max_examples=6)
@given(RNG)
def test_programs_that_shrink(objects, tmp_path_factory, rng):
    """The same with every draw in Hypothesis's hands, so that a failure comes out small."""
    schedule = plan_by(rng)
    assume(schedule is not None)
    assert verify(schedule) == ()
    network = schedule.network
    values, inputs = draw_values(network, 0), drawn_inputs(network, 0)
    batch = Batch(objects, tmp_path_factory.mktemp("program"))
    batch.add(schedule, emit_project(schedule, values), inputs)
    (ran,) = batch.run()
    assert ran.dram_bytes == schedule.claims.dram_bytes
    _expect(ran, computed(network, values, inputs), network.name)


test_many_programs_that_shrink = on_many(test_programs_that_shrink, MANY, RNG)
