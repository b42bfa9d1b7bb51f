"""What ONNX itself says of one node: output types and shapes, and values of constants.

Shapes come from onnx's per-node inference, values from its reference implementation, and only
for small arrays: the chains that compute shapes, never a weight.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

import numpy as np
import onnx
from onnx import helper, numpy_helper

from spm_opt.errors import InputError
from spm_opt.formats.onnx_draft import DTYPES, MOST_ELEMENTS, Array, Constant, Draft, Node
from spm_opt.graph.ops import Shape

#: operators whose output is stored as their first input is
_MOVES: Final = frozenset(
    ("Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Concat", "Slice",
     "Split", "Expand", "Dropout", "DequantizeLinear", "Gather", "Tile")
)  # fmt: skip
_RANDOM: Final = frozenset(
    ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli",
     "Multinomial")
)  # fmt: skip

#: what per-node inference raises for inputs that do not fit the operator
_REFUSALS: Final = (
    RuntimeError,
    ValueError,
    TypeError,
    onnx.shape_inference.InferenceError,
    onnx.checker.ValidationError,
)


def constant_of(tensor: onnx.TensorProto, file: str) -> Constant:
    """An initialiser; its value is read where it is small and in the file.

    Raises
    ------
    InputError
        If its element type is none that spm_opt knows.
    """
    shape = tuple(tensor.dims)
    if tensor.data_type not in DTYPES:
        raise InputError(
            "this constant's element type is not supported",
            file=file, field=tensor.name, found=tensor.data_type,
        )  # fmt: skip
    value = None
    if math.prod(shape) <= MOST_ELEMENTS and tensor.data_location != onnx.TensorProto.EXTERNAL:
        try:
            value = numpy_helper.to_array(tensor)
        except (ValueError, TypeError) as error:
            message = f"this constant's data does not fit its shape {shape}: {error}"
            raise InputError(message, file=file, field=tensor.name) from error
    return Constant(tensor.name, shape, tensor.data_type, DTYPES[tensor.data_type], value)


def infer(draft: Draft, node: Node) -> None:
    """Set `Draft.inferred` (and `failure`) for the outputs of `node`."""
    draft.inferred, draft.failure = {}, None
    try:
        schema = onnx.defs.get_schema(node.type, draft.opset, node.proto.domain)
    except onnx.defs.SchemaError:
        draft.failure = "this operator is unknown and the file declares no shape of its output"
        return
    known = [name for name in dict.fromkeys(node.inputs) if name in draft.elems]
    types = {name: helper.make_tensor_type_proto(draft.elems[name], draft.shape(name))
             for name in known}  # fmt: skip
    data = {
        name: numpy_helper.from_array(constant.value)
        for name in known
        if (constant := draft.constants.get(name)) is not None
        and constant.value is not None
        and constant.elements <= 1024
    }
    imports = [helper.make_opsetid("", draft.opset)]
    try:
        found = onnx.shape_inference.infer_node_outputs(
            schema, node.proto, types, data, opset_imports=imports
        )
    except _REFUSALS as error:
        draft.failure = " ".join(str(error).split())
        return
    draft.inferred = {name: _elem_and_shape(kind) for name, kind in found.items()}


def _elem_and_shape(kind: onnx.TypeProto) -> tuple[int, Shape | None]:
    tensor = kind.tensor_type
    if not tensor.HasField("shape"):
        return tensor.elem_type, None
    dims = tensor.shape.dim
    if not all(dim.HasField("dim_value") for dim in dims):
        return tensor.elem_type, None
    return tensor.elem_type, tuple(dim.dim_value for dim in dims)


def fold(draft: Draft, node: Node) -> None:
    """Turn a node of constant inputs into constants."""
    values = _evaluated(draft, node)
    sources = [draft.constants[name] for name in node.inputs if name]
    largest = max(sources, key=lambda constant: constant.elements, default=None)
    for i, name in enumerate(node.outputs):
        if not name:
            continue
        value = values[i] if values is not None and i < len(values) else None
        if value is not None:
            elem = int(helper.np_dtype_to_tensor_dtype(value.dtype))
            shape: Shape = value.shape
        else:
            elem = draft.inferred.get(name, (0, None))[0] or (sources[0].elem if sources else 1)
            shape = draft.output_shape(node, i)
        kept = value if value is not None and value.size <= MOST_ELEMENTS else None
        origin = name if largest is None else largest.name
        constant = Constant(origin, shape, elem, DTYPES.get(elem, "float32"), kept)
        if sources and node.type in _MOVES:
            constant = replace(constant, dtype=sources[0].dtype, name=sources[0].name)
        draft.constants[name] = constant
        draft.elems[name] = elem
        draft.makers[name] = node


def fold_shape(draft: Draft, node: Node) -> None:
    """Turn Shape or Size of an activation into a constant."""
    shape = draft.shape(node.inputs[0])
    if node.type == "Size":
        value = np.array(math.prod(shape), dtype=np.int64)
    else:
        begin, end = node.integer("start", 0), node.integer("end", len(shape))
        value = np.array(shape[slice(begin, end)], dtype=np.int64)
    name = node.outputs[0]
    draft.constants[name] = Constant(name, value.shape, onnx.TensorProto.INT64, "int64", value)
    draft.elems[name] = onnx.TensorProto.INT64


def _evaluated(draft: Draft, node: Node) -> list[Array | None] | None:
    """Values of the outputs, None where an input is not known or an output would be large."""
    feeds: dict[str, Array] = {}
    for name in node.inputs:
        if name:
            value = draft.constants[name].value
            if value is None:
                return None
            feeds[name] = value
    shapes = [shape for _, shape in draft.inferred.values() if shape is not None]
    if node.type in _RANDOM or any(math.prod(shape) > MOST_ELEMENTS for shape in shapes):
        return None
    return evaluate(node.proto, feeds, draft.opset)


def evaluate(
    proto: onnx.NodeProto, feeds: dict[str, Array], opset: int
) -> list[Array | None] | None:
    """Outputs of one node by ONNX's reference implementation; None where that cannot."""
    from onnx.reference import ReferenceEvaluator

    if proto.op_type == "GatherElements":
        return _gathered(proto, feeds)
    inputs = [helper.make_value_info(name, onnx.TypeProto()) for name in feeds]
    outputs = [helper.make_value_info(name, onnx.TypeProto()) for name in proto.output if name]
    graph = helper.make_graph([proto], "constant", inputs, outputs)
    try:
        with np.errstate(all="ignore"):
            results = ReferenceEvaluator(graph, opsets={proto.domain: opset}).run(None, feeds)
    except Exception:
        # the reference implementation raises whatever numpy raises; then only the shape is known
        return None
    found = iter(results)
    return [_array(next(found)) if name else None for name in proto.output]


def _gathered(proto: onnx.NodeProto, feeds: dict[str, Array]) -> list[Array | None] | None:
    """GatherElements; the reference fails where the indices are fewer than the data."""
    axis = next((attribute.i for attribute in proto.attribute if attribute.name == "axis"), 0)
    data, indices = (feeds[name] for name in proto.input)
    rest = tuple(slice(n) if i != axis % data.ndim else slice(None)
                 for i, n in enumerate(indices.shape))  # fmt: skip
    try:
        return [np.take_along_axis(data[rest], indices, axis)]
    except (IndexError, ValueError):
        return None


def _array(value: object) -> Array | None:
    if isinstance(value, (np.ndarray, np.generic)):
        return np.asarray(value)
    return None
