"""The C kernels compute what numpy does, however rows and channels are cut."""

from __future__ import annotations

import numpy as np
import pytest
from compiled import shared_folder
from kernel_cases import all_cases, batch_cases
from kernel_programs import CHECKED, COMPILER, Case, Writer, build, run_programs, source_of

from spm_opt.emit.kernels import kernel_sources

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler (cc, gcc or clang)")
CASES = [*all_cases(), *batch_cases()]
WAYS = ("whole", "rows", "channels", "in place")


def _written(number: int, case: Case, way: str) -> Writer | None:
    rng = np.random.default_rng([number, WAYS.index(way)])
    writer = Writer(number, case, rng)
    if way == "whole":
        writer.whole()
    elif way == "in place":
        layer = case.layer
        kinds = {case.network.tensors[name].dtype for name in ("x0", layer.output)} if (
            layer.inputs
        ) else set()  # fmt: skip
        same = layer.inputs and layer.inputs[0].shape == case.network.tensors["x0"].shape
        fits = same and len(kinds) == 1
        if not fits or not layer.op.in_place(0, layer.input_shapes, layer.output_shape):
            return None
        writer.in_place()
    elif way == "channels" and writer.axis is None:
        return None
    else:
        writer.cut(channels=way == "channels")
    return writer


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    """Outputs of every case in every way, from a build with sanitizers."""
    writers = {
        (i, way): writer
        for i, case in enumerate(CASES)
        for way in WAYS
        if (writer := _written(i, case, way)) is not None
    }
    key = [*CHECKED, source_of(CASES), *kernel_sources().values()]
    built = shared_folder(tmp_path_factory, key, lambda folder: build(folder, CASES, CHECKED))
    programs = [writer.program for writer in writers.values()]
    results = run_programs(built / "driver", tmp_path_factory.mktemp("run"), programs)
    found: dict[int, dict[str, np.ndarray]] = {}
    for ((i, way), writer), result in zip(writers.items(), results, strict=True):
        found.setdefault(i, {})[way] = writer.joined(result)
    return found


@pytest.mark.parametrize("number", range(len(CASES)), ids=[case.name for case in CASES])
def test_kernel(computed, number):
    case, ways = CASES[number], computed[number]
    expected, whole = case.expected(), ways["whole"]
    assert whole.dtype == expected.dtype
    if case.tolerance:
        scale = np.abs(expected[np.isfinite(expected)]).max(initial=1.0).astype(np.float64)
        np.testing.assert_allclose(whole, expected, rtol=1e-5, atol=case.tolerance * scale)
    else:
        np.testing.assert_array_equal(whole, expected)
    for way, output in ways.items():
        np.testing.assert_array_equal(output, whole, err_msg=way)
