"""Whole networks through the kernels, layer by layer, beside the oracle."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_programs import COMPILER, build, from_bytes, network_program, run_programs
from values_oracle import run

from spm_opt.formats.catalogue import read_model
from spm_opt.seeded import draw_values

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler (cc, gcc or clang)")


def _outputs(name, dtype, folder):
    """Outputs of a network of the catalogue by the kernels, and by the oracle."""
    network = read_model(name).with_dtype(dtype)
    values, rng = draw_values(network, 0), np.random.default_rng(0)
    inputs = {}
    for tensor in (network.tensors[name] for name in network.inputs):
        numbers = rng.standard_normal(tensor.shape)
        if "int" in tensor.dtype:
            numbers = rng.integers(0, 100, tensor.shape)
        inputs[tensor.name] = numbers.astype(tensor.dtype)
    cases, program = network_program(network, values, inputs)
    (results,) = run_programs(build(folder, cases, ("-O2",)), folder, [program])
    expected = run(network, values, inputs)
    for name, data in zip(network.outputs, results, strict=True):
        tensor = network.tensors[name]
        yield from_bytes(data, tensor.shape, tensor.dtype, tensor.images), expected[name]


def _check(name, dtype, folder):
    for found, expected in _outputs(name, dtype, folder):
        assert len(np.unique(expected)) > 10
        if dtype == "int8":
            np.testing.assert_array_equal(found, expected)
        else:
            scale = np.abs(expected).max()
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * scale)


def test_a_network(tmp_path):
    _check("squeezenet1_1", "int8", tmp_path)


@pytest.mark.heavy
@pytest.mark.parametrize("dtype", ["int8", "float32"])
@pytest.mark.parametrize(
    "name",
    ["alexnet", "mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "resnet18", "resnet50",
     "googlenet", "densenet121", "efficientnet_b0", "unet", "inception_v3", "vit_s_16",
     "gpt2_small_decode"],
)  # fmt: skip
def test_networks(tmp_path, name, dtype):
    _check(name, dtype, tmp_path)
