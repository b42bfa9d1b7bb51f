"""Constants of convolutions and matrix products: shapes, multipliers, what follows the sum.

Integers are accumulated where map and kernel both have 8 bits; everything else in float32. The
multipliers are those of `spm_opt.graph.values`; that no accumulator overflows is checked here, on
the kernels' actual numbers.
"""

from __future__ import annotations

import math

import numpy as np

from spm_opt.emit.kernels_functions import byte_table, clamp_bounds, quantised
from spm_opt.emit.kernels_operands import BYTES, Scene, activation_struct, spatial
from spm_opt.emit.kernels_text import (
    RANGES,
    broadcast_strides,
    c_double,
    c_dtype,
    c_list,
    c_struct,
    check_axes,
)
from spm_opt.errors import GraphError
from spm_opt.graph.ops import Conv, ConvTranspose, Linear, MatMul, broadcast
from spm_opt.graph.values import Floats, Quantization

_SCALELESS = Quantization(1.0, 0)
_LIMIT = 2**31


def conv_text(scene: Scene) -> str:
    """``spm_conv_op`` of a convolution, or of a transposed one."""
    layer, op = scene.layer, scene.layer.op
    if not isinstance(op, (Conv, ConvTranspose)):
        raise scene.refuse("operator", op.kind)
    rank, shape = len(op.kernel), layer.input_shapes[0]
    windows = {
        "in_size": spatial(shape[2:], 1), "out_size": spatial(layer.output_shape[2:], 1),
        "kernel": spatial(op.kernel, 1), "stride": spatial(op.stride, 1),
        "pad": spatial(op.pads[:rank], 0), "dilation": spatial(op.dilation, 1),
    }  # fmt: skip
    return scene.text.finish("spm_conv_op", c_struct(
        **{"in": scene.map(0)}, out=scene.map(), transposed=int(isinstance(op, ConvTranspose)),
        channels_are_rows=int(rank == 1), integer=int(is_integer(scene)), groups=op.groups,
        in_channels=shape[1], out_channels=op.out_channels,
        **{name: c_list(values) for name, values in windows.items()},
        weights=_kernel(scene), finish=_finish(scene),
    ))  # fmt: skip


def linear_text(scene: Scene) -> str:
    """``spm_linear_op``."""
    return scene.text.finish("spm_linear_op", c_struct(
        **{"in": scene.map(0)}, out=scene.map(), integer=int(is_integer(scene)),
        inner=scene.layer.input_shapes[0][-1], weights=_kernel(scene), finish=_finish(scene),
    ))  # fmt: skip


def matmul_text(scene: Scene) -> str:
    """``spm_matmul_op``."""
    layer, op = scene.layer, scene.layer.op
    if not isinstance(op, MatMul):
        raise scene.refuse("operator", op.kind)
    left, right = layer.input_shapes
    batch = broadcast((left[:-2], right[:-2]))
    check_axes(layer.name, batch)
    if is_integer(scene):
        _check_sum(scene, np.array([left[-1] * _reach(scene, 0) * _reach(scene, 1)]))
    return scene.text.finish("spm_matmul_op", c_struct(
        a=scene.map(0), b=scene.map(1), out=scene.map(), integer=int(is_integer(scene)),
        transpose_b=int(op.transpose_b), rows=left[-2], inner=left[-1],
        columns=layer.output_shape[-1], batch_rank=len(batch), batch=c_list(batch),
        a_stride=c_list(broadcast_strides(left[:-2], batch)),
        b_stride=c_list(broadcast_strides(right[:-2], batch)), finish=_finish(scene),
    ))  # fmt: skip


def is_integer(scene: Scene) -> bool:
    """Whether the products are of integers. Raises GraphError for other types than the kernels'."""
    right = scene.tensor(1) if isinstance(scene.layer.op, MatMul) else scene.layer.weights[0]
    for dtype in (scene.tensor(0).dtype, right.dtype):
        if dtype not in (*BYTES, "float32"):
            raise scene.refuse("product of elements of this type", dtype)
    return scene.tensor(0).dtype in BYTES and right.dtype in BYTES


def _kernel(scene: Scene) -> str:
    """``spm_kernel_weights``: zero points of an integer kernel, scales of one that is not."""
    weight, own = scene.layer.weights[0], scene.own
    zeros: list[int] = [0]
    if own.weight_zero_point is not None:
        zeros = own.weight_zero_point.ravel().tolist()
    scales: list[float] | None = None
    if not is_integer(scene) and own.weight_scale is not None:
        scales = own.weight_scale.ravel().tolist()
        count = max(len(zeros), len(scales))
        zeros, scales = zeros * (count // len(zeros)), scales * (count // len(scales))
    return c_struct(
        dtype=c_dtype(weight.name, weight.dtype), pitch=scene.packing.pitch_bytes,
        zeros=len(zeros), zero=scene.text.array("int32_t", zeros),
        scale="NULL" if scales is None else scene.text.doubles(scales),
    )  # fmt: skip


# --- what follows the sum ----------------------------------------------------------------------


def _finish(scene: Scene) -> str:
    fields = {**_bias(scene), **_slope(scene)}
    if is_integer(scene):
        if not isinstance(scene.layer.op, MatMul):
            _check_sum(scene, _largest_sums(scene))
        return c_struct(**fields, **_integer_finish(scene))
    bounds = clamp_bounds(scene.activation, scene.own.parameters)
    if bounds is None or scene.before() or scene.tensor().dtype != "float32":
        return c_struct(kind="SPM_REAL", **fields, **_function(scene))
    low, high = map(c_double, bounds)
    return c_struct(kind="SPM_PLAIN", low=low, high=high, **fields)


def _integer_finish(scene: Scene) -> dict[str, object]:
    own, (dtype, scaling) = scene.own, scene.stored()
    bounds = clamp_bounds(scene.activation, own.parameters)
    if dtype not in BYTES or scaling is None:
        return {"kind": "SPM_REAL", **_multipliers(scene, None), **_function(scene)}
    least, most = RANGES[dtype]
    if own.before_activation is not None and scene.activation != "prelu":
        inner = own.before_activation
        function = scene.function(scene.activation).apply
        table = byte_table(function, (dtype, inner), (dtype, scaling))
        return {"kind": "SPM_LOOKUP", "zero": inner.zero_point, "low": c_double(least),
                "high": c_double(most), "table": scene.text.table(table),
                **_multipliers(scene, inner)}  # fmt: skip
    if bounds is None:
        return {"kind": "SPM_REAL", **_multipliers(scene, None), **_function(scene)}
    low, high = (quantised(bound, dtype, scaling) for bound in bounds)
    return {"kind": "SPM_REQUANT", "zero": scaling.zero_point, "low": c_double(low),
            "high": c_double(high), **_multipliers(scene, scaling)}  # fmt: skip


def _multipliers(scene: Scene, target: Quantization | None) -> dict[str, object]:
    """From the accumulator to integers of `target`, or to reals."""
    scale = _input_scale(scene) * _right_scale(scene)
    factors = scale if target is None else scale / target.scale
    if (factors == factors[0]).all():
        factors = factors[:1]
    return {"multipliers": len(factors), "multiplier": scene.text.doubles(factors)}


def _input_scale(scene: Scene) -> float:
    return (scene.scaling(0) or _SCALELESS).scale


def _right_scale(scene: Scene) -> Floats:
    """Scales of the kernel, or of the right map."""
    if isinstance(scene.layer.op, MatMul):
        return np.array([(scene.scaling(1) or _SCALELESS).scale])
    scale = scene.own.weight_scale
    return np.ones(1) if scale is None else np.asarray(scale, dtype=np.float64).ravel()


def _function(scene: Scene) -> dict[str, object]:
    """The activation of a real; of `prelu` the slope stands in `_slope`."""
    if scene.activation == "prelu":
        return {"act": c_struct(mode="SPM_PRELU", a=c_double(_shared_slope(scene)),
                                **scene.before())}  # fmt: skip
    return {"act": activation_struct(scene.function(scene.activation), scene.before())}


def _bias(scene: Scene) -> dict[str, object]:
    op, packing = scene.layer.op, scene.packing
    if isinstance(op, MatMul) or not getattr(op, "bias", False):
        return {"bias": -1}
    weight = scene.layer.weights[1]
    if is_integer(scene) and weight.dtype != "int32":
        raise scene.refuse("bias beside integers", weight.dtype)
    if not is_integer(scene) and weight.dtype not in ("float32", "float64"):
        raise scene.refuse("bias beside reals", weight.dtype)
    return {"bias": packing.places[1].offset_bytes, "bias_dtype": c_dtype("", weight.dtype)}


def _slope(scene: Scene) -> dict[str, object]:
    """Slope of a folded `prelu`: one a channel, among the constants; or one for all."""
    index = _slope_index(scene)
    if scene.activation != "prelu" or scene.packing.places[index].kind == "code":
        return {"slope": -1}
    weight, place = scene.layer.weights[index], scene.packing.places[index]
    if weight.elements != scene.packing.channels:
        raise scene.refuse("slope", weight.shape)
    scaling = scene.constant_scaling(index) or Quantization(0.0, 0)
    return {"slope": place.offset_bytes, "slope_dtype": c_dtype(weight.name, weight.dtype),
            "slope_scale": c_double(scaling.scale), "slope_zero": scaling.zero_point}  # fmt: skip


def _slope_index(scene: Scene) -> int:
    op = scene.layer.op
    return 0 if isinstance(op, MatMul) else 1 + bool(getattr(op, "bias", False))


def _shared_slope(scene: Scene) -> float:
    index = _slope_index(scene)
    if isinstance(scene.layer.op, MatMul) or scene.packing.places[index].kind == "code":
        array = scene.array(index)
        if array.size != 1:
            raise scene.refuse("slope", array.shape)
        scaling = scene.constant_scaling(index) or _SCALELESS
        value = float(array.astype(np.float64).ravel()[0])
        return scaling.scale * (value - scaling.zero_point)
    return 0.0


# --- overflow ----------------------------------------------------------------------------------


def _reach(scene: Scene, index: int) -> int:
    """Greatest distance of an operand's integers from their zero point."""
    low, high = RANGES[scene.tensor(index).dtype]
    zero = (scene.scaling(index) or _SCALELESS).zero_point
    return max(zero - low, high - zero)


def _largest_sums(scene: Scene) -> Floats:
    """The largest accumulator that each output channel can reach, bias included."""
    op, kernel = scene.layer.op, scene.array(0)
    zero = scene.own.weight_zero_point
    axis = 1 if isinstance(op, ConvTranspose) else 0
    if isinstance(op, ConvTranspose):
        inputs, outputs = kernel.shape[:2]
        kernel = kernel.reshape(op.groups, inputs // op.groups, outputs, -1).swapaxes(1, 2)
        kernel = kernel.reshape(op.groups * outputs, -1)
        axis = 0
    rows = np.moveaxis(kernel, axis, 0).reshape(kernel.shape[axis], -1)
    offsets = np.broadcast_to(0 if zero is None else zero.ravel(), len(rows)).tolist()
    # a channel at a time: of all at once, copies in wider integers would be many times as large
    distances = (
        np.abs(row.astype(np.int64) - offset).sum()
        for row, offset in zip(rows, offsets, strict=True)
    )
    sums = np.fromiter(distances, np.int64, len(rows)) * _reach(scene, 0)
    if isinstance(op, (Conv, ConvTranspose, Linear)) and op.bias:
        sums = sums + np.abs(scene.array(1).astype(np.int64)).ravel()
    largest: Floats = sums.astype(np.float64)
    return largest


def _check_sum(scene: Scene, sums: Floats) -> None:
    largest = int(sums.max())
    if largest >= _LIMIT or not math.isfinite(largest):
        raise GraphError(
            "an accumulator of 32 bits may overflow", field=scene.layer.name, found=largest,
            allowed=f"sums below {_LIMIT}",
        )  # fmt: skip
