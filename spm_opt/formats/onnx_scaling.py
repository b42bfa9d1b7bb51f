"""Meaning of QuantizeLinear and DequantizeLinear: which tensors are kept as integers, and how.

A pair of them says how the tensor between is stored. Both are views where the tensor is stored as
they say, and only where it cannot be (a map that somebody else reads as it was, or that has
another scale already) rounding becomes a layer: a cast, whose output has a scale of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import onnx

from spm_opt.formats.onnx_draft import DTYPES, FLOATS, Constant, Draft, Node, Scaling
from spm_opt.graph.network import Layer
from spm_opt.graph.ops import Concat, Gather, Op, Pad, Pool, Resize, Slice, Transpose, Unary


def _quantize(draft: Draft, node: Node) -> None:
    source, name = node.inputs[0], node.outputs[0]
    elem = _stored_type(draft, node)
    draft.inferred[name] = (elem, None)
    wanted, root = draft.scaling(node, elem), draft.root(source)
    kept = draft.scalings.get(root)
    if kept is None and _can_store(draft, source, wanted):
        draft.scalings[root] = kept = wanted
        draft.store_as(source, DTYPES[elem])
    if kept == wanted:
        draft.view(node, source, draft.shape(source))
    else:
        draft.emit(node, Unary("cast"), (source,))
        draft.scalings[name] = wanted


def _stored_type(draft: Draft, node: Node) -> int:
    elem = draft.inferred.get(node.outputs[0], (0, None))[0]
    return elem or (draft.elems[node.inputs[2]] if node.has(2) else onnx.TensorProto.UINT8)


def _can_store(draft: Draft, source: str, wanted: Scaling) -> bool:
    """Whether the map that `source` views holds reals that all its readers take as `wanted`."""
    root = draft.root(source)
    return draft.tensors[root].dtype in FLOATS and _all_read_as(draft, root, wanted)


def _all_read_as(draft: Draft, name: str, wanted: Scaling) -> bool:
    return all(_reads_as(draft, reader, wanted) for reader in draft.readers.get(name, ()))


def _reads_as(draft: Draft, reader: onnx.NodeProto | None, wanted: Scaling) -> bool:
    if reader is None:
        return False
    if reader.op_type in _VIEWS:
        return _all_read_as(draft, reader.output[0], wanted)
    if reader.op_type != "QuantizeLinear":
        return False
    node = Node(reader, reader.name)
    # the type is that of the zero point, which equal scalings share
    elem = next((e for e, dtype in DTYPES.items() if dtype == wanted.dtype), 0)
    if node.has(2):
        elem = draft.elems.get(node.inputs[2], elem)
    return draft.scaling(node, elem) == wanted


_VIEWS: Final = ("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze")


def _dequantize(draft: Draft, node: Node) -> None:
    source, name = node.inputs[0], node.outputs[0]
    root, elem = draft.root(source), draft.elems[source]
    if name not in draft.inferred:
        draft.inferred[name] = (draft.elems[node.inputs[1]], None)
    found = draft.scaling(node, elem)
    if draft.scalings.setdefault(root, found) != found:
        draft.conflicts[root] = node.name
    draft.view(node, source, draft.shape(source))


def _dynamic_quantize(draft: Draft, node: Node) -> None:
    """Scale and zero point are found as the map is written: scalars of no traffic."""
    source = node.inputs[0]
    draft.inferred[node.outputs[0]] = (onnx.TensorProto.UINT8, None)
    draft.view(node, source, draft.shape(source))
    draft.store_as(source, "uint8")
    for name, elem in zip(node.outputs[1:], (1, 2), strict=False):
        if name:
            draft.constants[name] = Constant(name, (), elem, DTYPES[elem])
            draft.elems[name] = elem


TRANSLATORS: Final[dict[str, Callable[[Draft, Node], None]]] = {
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
    "DynamicQuantizeLinear": _dynamic_quantize,
}


def rounded_tensors(draft: Draft) -> tuple[str, ...]:
    """Tensors that are rounded to a scale as they are written.

    Not those whose layer only moves integers that have this scale already. Integers that are moved
    without a word about their scale keep it.
    """
    rounded = []
    for layer in draft.layers:
        if layer.op.is_view:
            continue
        before = _scalings_read(draft, layer)
        moved = _moves(layer.op) and len(before) == 1
        if moved and layer.output not in draft.scalings and _is_integer(draft, layer.output):
            (kept,) = before
            if kept is not None:
                draft.scalings[layer.output] = kept
        written = draft.scalings.get(layer.output)
        if written is not None and not (moved and written in before):
            rounded.append(layer.output)
    return tuple(rounded)


def _scalings_read(draft: Draft, layer: Layer) -> set[Scaling | None]:
    roots = {draft.root(operand.tensor) for operand in layer.inputs}
    found = {draft.scalings.get(root) for root in roots}
    constants = [name for name in draft.sources[layer.name].inputs if name in draft.constants]
    if isinstance(layer.op, Concat) and layer.op.constants:
        found |= {constant_scaling(draft, name) for name in constants}
    return found


def constant_scaling(draft: Draft, name: str) -> Scaling | None:
    """How the integers of a constant stand for reals; None for a constant of reals."""
    node = draft.makers.get(name)
    if node is None or node.type != "DequantizeLinear":
        return None
    return draft.scaling(node, draft.elems[node.inputs[0]])


def _is_integer(draft: Draft, tensor: str) -> bool:
    return draft.tensors[tensor].dtype in ("int8", "uint8", "int16", "uint16")


def _moves(op: Op) -> bool:
    """Whether every output is one of the inputs, or a zero that padding adds."""
    if isinstance(op, Pool):
        return op.mode == "max"
    if isinstance(op, Resize):
        return op.mode == "nearest"
    if isinstance(op, Gather):
        return op.table_shape is None
    return isinstance(op, (Concat, Slice, Pad, Transpose))
