"""Constants as bytes, what no kernel computes, and the text of the constants."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from kernel_cases import all_cases, case, conv

from spm_opt.emit.kernels import (
    KERNEL_FILES,
    fetches_table,
    kernel_call,
    kernel_sources,
    layer_constants,
    pack_table,
    pack_weights,
    packed_bytes,
)
from spm_opt.emit.kernels_functions import FUNCTIONS, byte_table, quantised
from spm_opt.errors import GraphError
from spm_opt.graph import ops
from spm_opt.graph.fields import UNARY_MODES
from spm_opt.graph.network import Weight
from spm_opt.graph.values import Quantization
from spm_opt.parts_space import channel_weight_bytes

CASES = [case for case in all_cases() if case.layer.weights]


@pytest.mark.parametrize("number", range(len(CASES)), ids=[case.name for case in CASES])
def test_slices_have_the_bytes_that_the_planner_counts(number):
    layer, own = CASES[number].layer, CASES[number].values.layers["layer"]
    whole = pack_weights(layer, own)
    assert len(whole) == layer.weight_bytes == packed_bytes(layer, None)
    axis = layer.channel_axis
    if axis is None:
        return
    count = layer.output_shape[axis]
    for begin in range(count):
        for end in (begin + 1, count):
            packed = pack_weights(layer, own, (begin, end))
            assert len(packed) == channel_weight_bytes(layer, (begin, end))
            # a slice of the whole, but for what cannot be cut
            pitch = sum(w.size_bytes for w in layer.weights if w.elements % count == 0) // count
            assert packed[: pitch * (end - begin)] == whole[pitch * begin : pitch * end]


def test_a_channel_is_its_kernel_then_its_bias():
    made = case("conv", conv(4, (1, 2)), (1, 3, 4, 5), dtype="int8")
    own = made.values.layers["layer"]
    kernel, bias = own.arrays
    packed = pack_weights(made.layer, own, (1, 3))
    assert packed == b"".join(kernel[k].tobytes() + bias[k].tobytes() for k in (1, 2))


def test_rows_of_a_transposed_kernel_are_output_channels():
    op = ops.ConvTranspose(4, (1, 2), (1, 2), (0,) * 4, (1, 1), (0, 0), 2, False)
    made = case("transposed", op, (1, 6, 3, 3))
    own = made.values.layers["layer"]
    kernel = own.arrays[0]
    assert pack_weights(made.layer, own, (3, 4)) == kernel[3:6, 1].tobytes()
    assert pack_weights(made.layer, own, (0, 1)) == kernel[0:3, 0].tobytes()


def test_a_large_table_stays_in_dram():
    table = Weight("table", (50, 6), "float32", "table")
    op = ops.Gather(0, None, (50, 6))
    made = case("embedding", op, (1, 4), dtypes=("int64",), weights=(table,))
    own = made.values.layers["layer"]
    assert fetches_table(made.layer)
    assert pack_table(made.layer, own) == own.arrays[0].tobytes()
    assert pack_weights(made.layer, own) == bytes(4 * 6 * 4)


def test_missing_or_misshapen_values_are_named():
    made = case("conv", conv(4, (1, 2)), (1, 3, 4, 5))
    own = made.values.layers["layer"]
    with pytest.raises(GraphError, match="values are missing"):
        pack_weights(made.layer, replace(own, arrays=own.arrays[:1]))
    with pytest.raises(GraphError, match=r"'layer\.weight' has another shape"):
        pack_weights(made.layer, replace(own, arrays=(own.arrays[0][:2], own.arrays[1])))


# --- what is refused ---------------------------------------------------------------------------


def _constants(made):
    return layer_constants(made.network, made.layer, made.values, "l")


def test_an_opaque_operator_is_refused_by_name():
    made = case("opaque", ops.Opaque("Einsum", (1, 4)), (1, 4))
    with pytest.raises(GraphError, match="no kernel computes this operator") as caught:
        _constants(made)
    assert (caught.value.field, caught.value.found) == ("layer", "Einsum")


@pytest.mark.parametrize(
    ("op", "message"),
    [
        (ops.Unary("lanczos"), "this function"),
        (ops.Binary("hypot", (1,)), "this combination"),
        (ops.Pool("median", (2, 2), (1, 1), (0,) * 4, (1, 1)), "this pool"),
        (ops.Reduce("median", (1,)), "this reduction"),
        (ops.Pad((0, 0, 1, 1, 0, 0, 1, 1), "mirror"), "this padding"),
        (ops.Resize((1, 4, 6, 8), "lanczos"), "this resampling"),
        (ops.Resize((1, 4, 6, 8), "linear", "tf_crop_and_resize"), "this way of resampling"),
        (ops.Normalize("batch", (1,), False), "this normalisation"),
    ],
)
def test_unknown_modes_are_refused(op, message):
    with pytest.raises(GraphError, match=message):
        _constants(case("odd", op, (1, 4, 5, 6)))


def test_an_element_type_that_no_kernel_has_is_refused():
    made = case("half", ops.Unary("relu"), (1, 4, 5, 6), dtype="float16")
    with pytest.raises(GraphError, match="this element type") as caught:
        _constants(made)
    assert caught.value.found == "float16"


@pytest.mark.parametrize("dtype", ["int16", "float64"])
def test_a_product_of_other_types_is_refused(dtype):
    with pytest.raises(GraphError, match="product of elements of this type") as caught:
        _constants(case("linear", ops.Linear(3, True), (2, 4), dtype=dtype))
    assert caught.value.found == dtype


def test_sums_that_may_overflow_are_refused():
    made = case("conv", conv(1, (1, 1), bias=False), (1, 140000, 1, 1), dtype="int8")
    own = made.values.layers["layer"]

    def with_kernel(value: int):
        kernel = np.full((1, 140000, 1, 1), value, np.int8)
        layers = {"layer": replace(own, arrays=(kernel,))}
        return replace(made, values=replace(made.values, layers=layers))

    with pytest.raises(GraphError, match="may overflow"):
        _constants(with_kernel(127))
    # the bound is that of the kernel's own numbers
    assert _constants(with_kernel(1))


def test_a_product_of_maps_that_may_overflow_is_refused():
    made = case("matmul", ops.MatMul(), (2, 140000), (140000, 1), dtype="int8")
    with pytest.raises(GraphError, match="may overflow"):
        _constants(made)


# --- text --------------------------------------------------------------------------------------


def test_call_of_a_tile():
    made = case("conv", conv(4, (1, 1)), (1, 3, 4, 5))
    call = kernel_call(made.layer, "stem", "out", ["a"], "{w, 0, NULL}", ("r", "r + 2"), (0, 4))
    assert call == (
        "spm_conv(&stem, out, (const spm_window[]){a}, (spm_weights){w, 0, NULL}, "
        "(spm_part){r, r + 2, 0, 4});"
    )
    whole = kernel_call(made.layer, "stem", "out", ["a"])
    assert whole.endswith("(spm_weights){0}, (spm_part){0, 4, 0, stem.out.channels});")


def test_equal_multipliers_are_one():
    made = case("conv", conv(4, (1, 1)), (1, 3, 4, 5), dtype="int8")
    own = replace(made.values.layers["layer"], weight_scale=np.full(4, 0.5))
    text = _constants(replace(made, values=replace(made.values, layers={"layer": own})))
    assert ".multipliers = 1" in text
    assert ".multipliers = 4" in _constants(made)


def test_every_file_is_there():
    sources = kernel_sources()
    assert tuple(sources) == KERNEL_FILES
    for name, text in sources.items():
        included = [line.split('"')[1] for line in text.splitlines() if '#include "' in line]
        assert set(included) <= set(KERNEL_FILES), name


def test_every_function_that_people_can_write_has_a_kernel():
    assert set(UNARY_MODES) - {"prelu"} <= set(FUNCTIONS)


def test_bytes_round_half_to_even_and_saturate():
    scaling = Quantization(0.5, 3)
    values = [quantised(x, "int8", scaling) for x in (0.25, 0.75, -0.25, 1e9, -1e9)]
    assert values == [3, 5, 3, 127, -128]
    table = byte_table(lambda x: x, ("int8", scaling), ("uint8", Quantization(1.0, 128)))
    assert table[(-125) & 255] == 128 + round(0.5 * -128)
    assert math.isclose(int(table[5]), 128 + 1)
