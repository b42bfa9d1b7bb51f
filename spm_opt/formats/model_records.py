"""`Network` -> the layer records that build it again: each `Op` under the name people write.

The inverse of `spm_opt.graph.recipes`: one function per operator kind gives the operator's name
and its fields. Nothing here knows how a file is spelled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, TypeAlias

from spm_opt.graph import ops
from spm_opt.graph.builder import LayerRecord
from spm_opt.graph.network import PLAN_DTYPES, Layer, Network
from spm_opt.graph.ops import Shape
from spm_opt.graph.recipes import RECIPES

Spelling: TypeAlias = tuple[str, dict[str, object]]


def records_of(network: Network) -> tuple[str, tuple[LayerRecord, ...]]:
    """Element type of the network, and a record for each layer.

    Where a layer sees a tensor under another shape, a reshape record comes before it.
    """
    counts = Counter(tensor.dtype for tensor in network.tensors.values())
    planned = [dtype for dtype in PLAN_DTYPES if counts[dtype]]
    dtype = max(planned, key=lambda name: counts[name], default=PLAN_DTYPES[0])
    records: list[LayerRecord] = []
    for layer in network.layers:
        names = []
        for i, operand in enumerate(layer.inputs):
            source = network.tensors[operand.tensor].shape
            if operand.shape == source:
                names.append(operand.tensor)
                continue
            view = f"{layer.name}.view{i}"
            fields: dict[str, object] = {"shape": _target(source, operand.shape)}
            records.append(LayerRecord(view, "reshape", (operand.tensor,), fields, view))
            names.append(view)
        record = _record(layer, tuple(names))
        if isinstance(layer.op, ops.Transpose) and layer.op.shape is not None:
            moved, shape = f"{layer.name}.moved", list(layer.op.shape)
            records.append(replace(record, name=moved, output=moved))
            record = LayerRecord(layer.name, "reshape", (moved,), {"shape": shape}, layer.output)
        records.append(record)
    return dtype, tuple(records)


def _record(layer: Layer, inputs: tuple[str, ...]) -> LayerRecord:
    op, given = _SPELLINGS[type(layer.op)](layer.op, layer.input_shapes)
    defaults = {field.name: field.default for field in RECIPES[op].fields}
    fields = {name: value for name, value in given.items() if value != defaults.get(name)}
    return LayerRecord(layer.name, op, inputs, fields, layer.output, layer.cycles)


def _target(source: Shape, shape: Shape) -> list[int]:
    """A reshape's target that leaves the leading extent open where it can."""
    same = bool(source) and bool(shape) and source[0] == shape[0]
    return [0, *shape[1:]] if same else list(shape)


def _tight(values: Shape) -> int | list[int]:
    """One number where all are equal."""
    return values[0] if len(set(values)) == 1 else list(values)


def _window(op: ops.Conv | ops.ConvTranspose | ops.Pool) -> dict[str, object]:
    return {
        "kernel": _tight(op.kernel), "stride": _tight(op.stride), "padding": _tight(op.pads),
        "dilation": _tight(op.dilation),
    }  # fmt: skip


def _conv(op: ops.Conv, shapes: tuple[Shape, ...]) -> Spelling:
    fields = {**_window(op), "bias": op.bias, "activation": op.activation}
    channels = shapes[0][1]
    if op.groups == channels and channels > 1:
        return "depthwise", {**fields, "multiplier": op.out_channels // channels}
    return "conv", {"out_channels": op.out_channels, **fields, "groups": op.groups}


def _conv_transpose(op: ops.ConvTranspose, shapes: tuple[Shape, ...]) -> Spelling:
    return "conv_transpose", {
        "out_channels": op.out_channels, **_window(op), "groups": op.groups, "bias": op.bias,
        "activation": op.activation, "output_padding": _tight(op.output_pads),
    }  # fmt: skip


def _pool(op: ops.Pool, shapes: tuple[Shape, ...]) -> Spelling:
    fields = {**_window(op), "ceil_mode": op.ceil_mode, "activation": op.activation}
    if op.mode == "avg":
        fields["count_include_pad"] = op.count_include_pad
    return f"{op.mode}_pool", fields


def _reduce(op: ops.Reduce, shapes: tuple[Shape, ...]) -> Spelling:
    fields: dict[str, object] = {"keepdims": op.keepdims, "activation": op.activation}
    if op.mode in ("mean", "max") and op.axes == tuple(range(2, len(shapes[0]))) and op.axes:
        return {"mean": "global_avg_pool", "max": "global_max_pool"}[op.mode], fields
    return "reduce", {"mode": op.mode, "axes": list(op.axes), **fields}


def _normalize(op: ops.Normalize, shapes: tuple[Shape, ...]) -> Spelling:
    axes = op.axes[0] if len(op.axes) == 1 else list(op.axes)
    fields: dict[str, object] = {"axes": axes, "affine": op.affine, "activation": op.activation}
    return ("layer_norm", fields) if op.mode == "layer" else (
        "normalize", {"mode": op.mode, **fields}
    )  # fmt: skip


def _binary(op: ops.Binary, shapes: tuple[Shape, ...]) -> Spelling:
    constant = None if op.constant_shape is None else list(op.constant_shape)
    return op.mode, {"constant": constant, "activation": op.activation}


def _slice(op: ops.Slice, shapes: tuple[Shape, ...]) -> Spelling:
    parts = list(zip(op.begins, op.sizes, op.steps, strict=True))
    cut = [i for i, part in enumerate(parts) if part != (0, shapes[0][i], 1)] or [0]
    ends = [parts[i][0] + parts[i][1] * parts[i][2] for i in cut]
    columns: dict[str, list[int | None]] = {
        "axis": [*cut],
        "begin": [op.begins[i] for i in cut],
        # backwards to the first element there is no end to name
        "end": [None if end < 0 else end for end in ends],
        "step": [op.steps[i] for i in cut],
    }
    single = len(cut) == 1
    return "slice", {name: values[0] if single else values for name, values in columns.items()}


def _resize(op: ops.Resize, shapes: tuple[Shape, ...]) -> Spelling:
    fields: dict[str, object] = {
        "mode": op.mode, "coordinates": op.coordinates, "rounding": op.rounding,
    }  # fmt: skip
    if len(op.output) > 2 and op.output[:2] == shapes[0][:2]:
        return "resize", {"size": list(op.output[2:]), **fields}
    return "resize", {"shape": list(op.output), **fields}


def _gather(op: ops.Gather, shapes: tuple[Shape, ...]) -> Spelling:
    fields = {"indices_shape": op.indices_shape, "table_shape": op.table_shape}
    lists = {name: None if shape is None else list(shape) for name, shape in fields.items()}
    return "gather", {"axis": op.axis, **lists}


def _view(op: ops.View, shapes: tuple[Shape, ...]) -> Spelling:
    return "reshape", {"shape": _target(shapes[0], op.shape)}


_SPELLINGS: Final[Mapping[type[ops.Op], Callable[[Any, tuple[Shape, ...]], Spelling]]] = {
    ops.Conv: _conv,
    ops.ConvTranspose: _conv_transpose,
    ops.Linear: lambda op, shapes: (
        "linear",
        {"out_features": op.out_features, "bias": op.bias, "activation": op.activation},
    ),
    ops.MatMul: lambda op, shapes: (
        "matmul",
        {"transpose_b": op.transpose_b, "activation": op.activation},
    ),
    ops.Pool: _pool,
    ops.Reduce: _reduce,
    ops.Unary: lambda op, shapes: (op.mode, {}),
    ops.Binary: _binary,
    ops.Softmax: lambda op, shapes: ("softmax", {"axis": op.axis}),
    ops.Normalize: _normalize,
    ops.BatchNorm: lambda op, shapes: ("batch_norm", {"activation": op.activation}),
    ops.Concat: lambda op, shapes: ("concat", {"axis": op.axis, "constants": op.constants}),
    ops.Slice: _slice,
    ops.Pad: lambda op, shapes: (
        "pad",
        {"pads": list(op.pads), "mode": op.mode, "value": op.value},
    ),
    ops.Resize: _resize,
    ops.Transpose: lambda op, shapes: ("transpose", {"perm": list(op.perm)}),
    ops.Gather: _gather,
    ops.View: _view,
    ops.Opaque: lambda op, shapes: ("opaque", {"type": op.type, "shape": list(op.output)}),
}
