"""Drawn values: types and shapes that fit, scales that nobody has to change, numbers that live."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from values_oracle import quantise, run

from spm_opt.api import load_network
from spm_opt.errors import InputError
from spm_opt.formats.catalogue import list_models
from spm_opt.graph.builder import NetworkBuilder
from spm_opt.graph.network import Network
from spm_opt.graph.values import PARAMETERS, NetworkValues
from spm_opt.seeded import draw_values

Maps = dict[str, np.ndarray]

MODELS = list_models()


def computed(network: Network, values: NetworkValues) -> Maps:
    rng = np.random.default_rng(5)
    inputs = {}
    for name in network.inputs:
        tensor, how = network.tensors[name], values.tensors[name]
        if how is None and tensor.dtype != "float32":
            inputs[name] = rng.integers(0, 50, tensor.shape).astype(tensor.dtype)
        else:
            inputs[name] = quantise(rng.standard_normal(tensor.shape), tensor.dtype, how)
    return run(network, values, inputs)


def convolutions() -> NetworkBuilder:
    """Residual blocks with gates, concatenation, transposed convolution: 30 layers deep."""
    b = NetworkBuilder("convolutions")
    x = b.conv(b.input("image", (1, 3, 24, 24)), 16, kernel=3, padding=1, activation="silu")
    for number in range(6):
        y = b.conv(x, 48, kernel=1, activation="hardswish", bias=number % 2 == 0)
        y = b.depthwise(y, kernel=3, padding=1, activation="relu6")
        gate = b.conv(b.global_avg_pool(y), 48, kernel=1, activation="hardsigmoid")
        x = b.add(b.conv(b.mul(y, gate), 16, kernel=1), x)
    x = b.relu(b.batch_norm(x))
    for mode, axes in (("group", [1, 2, 3]), ("group", [2, 3]), ("instance", [2, 3])):
        x = b.layer("normalize", x, mode=mode, axes=axes)
    pools = b.max_pool(x, kernel=2), b.avg_pool(x, kernel=2)
    up = b.conv_transpose(b.concat([*pools], axis=1), 16, kernel=2, stride=2)
    left, right = b.split(b.concat([x, up], axis=1), [16, 16], axis=1)
    x = b.resize(b.pad(b.layer("max", (left, right)), [0, 0, 1, 1, 0, 0, 1, 1]), scale=2)
    x = b.layer("elu", b.conv(b.layer("leaky_relu", x), 8, kernel=3, activation="prelu"))
    b.output(b.linear(b.flatten(b.global_avg_pool(x)), 10))
    return b


def attention() -> NetworkBuilder:
    """Two blocks of a transformer over looked-up tokens."""
    b = NetworkBuilder("attention")
    tokens = b.input("tokens", (1, 12), dtype="int32")
    x = b.add(b.embedding(tokens, 50, 32), constant=(12, 32))
    for _ in range(2):
        y = b.layer_norm(x)
        query, key, value = (
            b.transpose(b.reshape(b.linear(y, 32), (1, 12, 4, 8)), (0, 2, 1, 3)) for _ in range(3)
        )
        scores = b.softmax(b.mul(b.matmul(query, key, transpose_b=True), constant=(1,)))
        y = b.transpose(b.matmul(scores, value), (0, 2, 1, 3))
        x = b.add(b.linear(b.reshape(y, (1, 12, 32)), 32), x)
        x = b.add(b.linear(b.linear(b.layer_norm(x), 64, activation="gelu"), 32), x)
    b.output(b.linear(b.slice(x, axis=1, begin=0, end=1), 6))
    return b


SMALL = {"convolutions": convolutions, "attention": attention}


def small(name: str, dtype: str) -> Network:
    network = SMALL[name]().build()
    if dtype != "uint8":
        return network.with_dtype(dtype)
    tensors = {
        key: replace(t, dtype="uint8") if t.dtype == "int8" else t
        for key, t in network.tensors.items()
    }
    return replace(network, tensors=tensors)


@pytest.mark.parametrize("dtype", ["float32", "int8", "uint8"])
@pytest.mark.parametrize("name", SMALL)
def test_numbers_neither_vanish_nor_explode(name: str, dtype: str) -> None:
    network = small(name, dtype)
    values = draw_values(network)
    maps = computed(network, values)
    for layer in network.layers:
        stored = maps[layer.output]
        if dtype == "float32":
            assert np.isfinite(stored).all()
            assert 0.01 < stored.std() < 100.0, layer.name
        else:
            limits = np.iinfo(stored.dtype)
            ends = np.mean((stored == limits.min) | (stored == limits.max))
            assert ends < 0.06, layer.name
            assert len(np.unique(stored)) >= min(6, stored.size // 4), layer.name


def test_catalogue_network_lives() -> None:
    network = load_network("mobilenet_v3_large")
    maps = computed(network, draw_values(network))
    for layer in network.layers:
        stored = maps[layer.output]
        assert np.mean(np.abs(stored.astype(int)) >= 127) < 0.05, layer.name
        assert len(np.unique(stored)) > 5, layer.name


@pytest.mark.heavy
@pytest.mark.parametrize("dtype", ["int8", "float32"])
@pytest.mark.parametrize("name", MODELS)
def test_every_catalogue_network_lives(name: str, dtype: str) -> None:
    network = load_network(name, dtype=dtype)
    if network.macs > 6e9:
        pytest.skip("plain numpy takes minutes over it")
    maps = computed(network, draw_values(network))
    (final,) = (maps[output] for output in network.outputs[:1])
    assert np.isfinite(final).all()
    assert len(np.unique(final)) > 5


@pytest.mark.parametrize("name", ["squeezenet1_1", "densenet121", "unet", "gpt2_small_prefill"])
@pytest.mark.parametrize("dtype", ["int8", "float32"])
def test_arrays_fit_the_constants_and_scales_the_maps(name: str, dtype: str) -> None:
    network = load_network(name, dtype=dtype)
    values = draw_values(network)
    assert list(values.layers) == [layer.name for layer in network.layers]
    for layer in network.layers:
        own = values.layers[layer.name]
        assert [(a.shape, str(a.dtype)) for a in own.arrays] == [
            (w.shape, w.dtype) for w in layer.weights
        ]
        assert set(own.parameters) <= set(PARAMETERS)
        integer = layer.op.kind in ("conv", "conv_transpose", "linear") and dtype == "int8"
        assert (own.weight_scale is not None) == integer
        # every integer says what it stands for
        beside = [how for how in own.constant_scale if how is not None]
        kernels = ("conv", "conv_transpose", "linear")
        expected = 0 if layer.op.kind in kernels or dtype == "float32" else len(layer.weights)
        assert len(beside) == expected
    assert list(values.tensors) == list(network.tensors)
    for tensor, how in values.tensors.items():
        assert (how is None) == (network.tensors[tensor].dtype != "int8")
        if how is not None:
            assert how.zero_point == 0
            assert np.log2(how.scale).is_integer()


@pytest.mark.parametrize("name", ["densenet121", "googlenet", "unet"])
def test_what_is_joined_has_one_scale(name: str) -> None:
    network = load_network(name)
    values = draw_values(network)
    for layer in network.layers:
        if layer.op.kind in ("concat", "slice", "pool", "pad", "transpose"):
            scales = {values.tensors[o.tensor] for o in layer.inputs}
            assert scales == {values.tensors[layer.output]}, layer.name


def test_a_joined_constant_has_the_scale_of_the_map() -> None:
    b = NetworkBuilder("token")
    x = b.input("x", (1, 4, 8))
    b.output(b.layer("concat", x, axis=1, constants=[[0, [1, 1, 8]]], name="joined"))
    network = b.build()
    values = draw_values(network)
    assert values.layers["joined"].constant_scale == (values.tensors["joined"],)


@pytest.mark.parametrize("before", ["relu", "max_pool", "avg_pool", "silu", "softmax"])
def test_kernels_make_up_for_the_size_of_their_input(before: str) -> None:
    b = NetworkBuilder("gain")
    x = b.conv(b.input("x", (1, 8, 20, 20)), 32, kernel=1)
    window = {"kernel": 3} if "pool" in before else {}
    b.output(b.conv(b.layer(before, x, name="between", **window), 64, kernel=3, name="last"))
    network = b.build().with_dtype("float32")
    maps = computed(network, draw_values(network))
    # means over a map are told too large on purpose: channels of real maps are no pure noise
    least = 0.3 if before == "avg_pool" else 0.6
    assert least < maps["last"].std() < 1.6
    integers = b.build()
    values = draw_values(integers)
    scale = values.tensors["last"]
    assert scale is not None
    # a power of two is within a factor of the root of two of any number
    assert 0.6 * least < computed(integers, values)["last"].std() * scale.scale < 2.3


def test_drawn_indices_lie_in_the_table() -> None:
    b = NetworkBuilder("rows")
    x = b.input("x", (1, 7, 4))
    b.output(b.gather(x, axis=1, indices_shape=(40,), name="rows"))
    (indices,) = draw_values(b.build()).layers["rows"].arrays
    assert (indices.min(), indices.max()) == (0, 6)


def test_the_seed_decides() -> None:
    network = small("convolutions", "int8")
    first, again, other = (draw_values(network, seed) for seed in (3, 3, 4))
    name = network.layers[0].name
    arrays = [values.layers[name].arrays[0] for values in (first, again, other)]
    assert (arrays[0] == arrays[1]).all()
    assert (arrays[0] != arrays[2]).any()
    assert first.tensors == other.tensors


@pytest.mark.parametrize("dtype", ["int16", "float16"])
def test_other_element_types_are_refused_by_name(dtype: str) -> None:
    network = small("convolutions", dtype)
    with pytest.raises(InputError, match=rf"image: values cannot be drawn .*found '{dtype}'"):
        draw_values(network)
