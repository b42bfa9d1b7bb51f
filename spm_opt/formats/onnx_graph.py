"""Walk an ONNX graph: load, fold constants, infer shapes, translate node by node.

What a single operator means is not known here (see `TRANSLATORS`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import onnx

from spm_opt.errors import GraphError, InputError
from spm_opt.formats import onnx_elementwise, onnx_layout, onnx_ops, onnx_scaling
from spm_opt.formats.onnx_dims import Dimensions, dimensions
from spm_opt.formats.onnx_draft import DTYPES, Draft, Node
from spm_opt.formats.onnx_fold import constant_of, fold, fold_shape, infer
from spm_opt.formats.onnx_scaling import rounded_tensors
from spm_opt.graph.network import Network, Tensor

_OLDEST_OPSET: Final = 7

TRANSLATORS: Final[Mapping[str, Callable[[Draft, Node], None]]] = {
    **onnx_ops.TRANSLATORS,
    **onnx_layout.TRANSLATORS,
    **onnx_elementwise.TRANSLATORS,
    **onnx_scaling.TRANSLATORS,
}


def load_model(file: str) -> onnx.ModelProto:
    """Parse a file, without its external data, local functions inlined.

    Raises
    ------
    InputError
        If the file cannot be read or holds no ONNX model that can be planned.
    """
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        content = Path(file).read_bytes()
    except FileNotFoundError:
        raise InputError("no such file", file=file) from None
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=file) from None
    try:
        model = onnx.ModelProto.FromString(content)
    except DecodeError as error:
        message = "this is no ONNX model, or a truncated one"
        raise InputError(message, file=file) from error
    _check_model(model, file)
    return _inlined(model, file)


def _check_model(model: onnx.ModelProto, file: str) -> None:
    if not model.graph.node:
        raise InputError("the model has no nodes; is the file an ONNX model?", file=file)
    if not model.graph.output:
        raise InputError("the model has no outputs; is the file truncated?", file=file)
    newest = onnx.defs.onnx_opset_version()
    if not _OLDEST_OPSET <= _opset(model) <= newest:
        raise InputError(
            "unsupported opset", file=file, field="opset_import", found=_opset(model),
            allowed=f"{_OLDEST_OPSET} .. {newest}",
        )  # fmt: skip


def _opset(model: onnx.ModelProto) -> int:
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    return int(versions[0]) if versions else 0


def _inlined(model: onnx.ModelProto, file: str) -> onnx.ModelProto:
    if not model.functions:
        return model
    from onnx.inliner import inline_local_functions

    try:
        return inline_local_functions(model)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"its functions cannot be inlined: {error}", file=file) from error


def network_of(
    model: onnx.ModelProto, file: str, batch: int | None, dims: Mapping[str, int]
) -> Network:
    """The raw network of a model: views, batch norms and activations are layers of their own.

    Raises
    ------
    InputError
        Naming the node that cannot be translated.
    """
    return drafted(model, file, batch, dims)[1]


def drafted(
    model: onnx.ModelProto, file: str, batch: int | None, dims: Mapping[str, int]
) -> tuple[Draft, Network]:
    """The raw network of a model, and everything that was found out on the way.

    Raises
    ------
    InputError
        Naming the node that cannot be translated.
    """
    graph = model.graph
    initialised = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in initialised]
    sizes = dimensions(inputs, file, batch, dims)
    draft = Draft(file, _opset(model), sizes.batch if sizes.overrides else None)
    outputs = [value.name for value in graph.output]
    draft.used = frozenset((*_names_read(graph.node), *outputs))
    draft.readers = _readers(graph)
    for value in inputs:
        _add_input(draft, sizes, value)
    _add_graph(draft, sizes, graph)
    constant = [name for name in outputs if name in draft.constants]
    if constant:
        draft.warnings.append(f"network output(s) that are constant: {', '.join(constant)}")
    kept = tuple(dict.fromkeys(name for name in outputs if name not in draft.constants))
    for name in kept:
        if name not in draft.tensors:
            raise InputError("no node produces this network output", file=file, found=name)
    if not kept:
        raise InputError("no network output depends on an input", file=file)
    names = tuple(value.name for value in inputs)
    rounded = rounded_tensors(draft)
    try:
        return draft, Network(
            Path(file).stem, draft.tensors, tuple(draft.layers), names, kept,
            tuple(draft.warnings), rounded=rounded,
        )  # fmt: skip
    except GraphError as error:
        raise error.in_file(file) from None


def _names_read(nodes: Iterable[onnx.NodeProto]) -> Iterator[str]:
    for node in nodes:
        yield from node.input
        for graph in _subgraphs(node):
            yield from _names_read(graph.node)
            yield from (value.name for value in graph.output)


def _readers(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto | None]]:
    """Nodes that read each name; None for the world outside and for subgraphs."""
    found: dict[str, list[onnx.NodeProto | None]] = {}
    for node in graph.node:
        for name in node.input:
            found.setdefault(name, []).append(node)
        for inner in _subgraphs(node):
            for name in (*_names_read(inner.node), *(value.name for value in inner.output)):
                found.setdefault(name, []).append(None)
    for value in graph.output:
        found.setdefault(value.name, []).append(None)
    return found


def _subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    return [attribute.g for attribute in node.attribute if attribute.HasField("g")]


def _add_input(draft: Draft, sizes: Dimensions, value: onnx.ValueInfoProto) -> None:
    elem = value.type.tensor_type.elem_type
    shape = sizes.shape(value, is_input=True)
    if shape is None:
        raise InputError("this input has no shape", file=draft.file, field=value.name)
    if elem not in DTYPES:
        raise InputError(
            "this input's element type is not supported",
            file=draft.file, field=value.name, found=elem,
        )  # fmt: skip
    draft.elems[value.name] = elem
    draft.tensors[value.name] = Tensor(value.name, shape, DTYPES[elem])


def _add_graph(draft: Draft, sizes: Dimensions, graph: onnx.GraphProto) -> None:
    for tensor in graph.initializer:
        draft.constants[tensor.name] = constant_of(tensor, draft.file)
        draft.protos[tensor.name] = tensor
        draft.elems[tensor.name] = tensor.data_type
    for value in (*graph.value_info, *graph.output):
        shape = sizes.shape(value)
        if shape is not None:
            draft.declared[value.name] = (value.type.tensor_type.elem_type, shape)
    for proto in _in_order(draft, graph.node):
        _add_node(draft, sizes, proto)


def _in_order(draft: Draft, nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Nodes, each after those that it reads (files are sorted; a few are not)."""
    waiting = list(nodes)
    pending = {name for proto in waiting for name in proto.output}
    while waiting:
        late: list[onnx.NodeProto] = []
        for proto in waiting:
            if any(name in pending for name in _names_read((proto,))):
                late.append(proto)
                continue
            yield proto
            pending.difference_update(proto.output)
        if len(late) == len(waiting):
            names = ", ".join(proto.name or proto.output[0] for proto in late[:5])
            raise GraphError(f"the graph has a cycle: {names}", file=draft.file)
        waiting = late


def _add_node(draft: Draft, sizes: Dimensions, proto: onnx.NodeProto) -> None:
    if not proto.output:
        return
    node = Node(proto, proto.name or proto.output[0] or proto.op_type)
    for name in _names_outside(proto):
        if name and name not in draft.tensors and name not in draft.constants:
            raise draft.error(node, "this input is produced by no node", name)
    for name in proto.output:
        if name in draft.elems:
            raise draft.error(node, "this tensor is produced twice", name)
    branch = _known_branch(draft, node)
    if branch is not None:
        _add_branch(draft, sizes, node, branch)
        return
    try:
        _translate(draft, node)
    except GraphError as error:
        raise draft.error(node, error.message, error.found) from error
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, ArithmeticError) as error:
        raise draft.error(node, f"its inputs and attributes do not agree: {error!r}") from error


def _translate(draft: Draft, node: Node) -> None:
    infer(draft, node)
    inner = [name for name in _names_outside(node.proto) if not draft.is_constant(name)]
    if not inner:
        fold(draft, node)
    elif node.type in ("Shape", "Size"):
        fold_shape(draft, node)
    elif node.type in TRANSLATORS:
        TRANSLATORS[node.type](draft, node)
    else:
        draft.opaque(node, dict.fromkeys((*node.inputs, *inner)))


def _names_outside(proto: onnx.NodeProto) -> list[str]:
    """Names that a node reads: its inputs, and what its subgraphs take from around them."""
    names = dict.fromkeys(proto.input)
    for graph in _subgraphs(proto):
        own = {name for node in graph.node for name in node.output}
        own.update(value.name for value in graph.input)
        own.update(tensor.name for tensor in graph.initializer)
        read = (*_names_read(graph.node), *(value.name for value in graph.output))
        names.update(dict.fromkeys(name for name in read if name not in own))
    return list(names)


def _known_branch(draft: Draft, node: Node) -> onnx.GraphProto | None:
    """The branch of an If whose condition is constant."""
    if node.type != "If" or node.inputs[0] not in draft.constants:
        return None
    taken = bool(draft.value(node, 0).ravel()[0])
    branch = node.attributes["then_branch" if taken else "else_branch"]
    return branch if isinstance(branch, onnx.GraphProto) else None


def _add_branch(draft: Draft, sizes: Dimensions, node: Node, branch: onnx.GraphProto) -> None:
    draft.used |= {value.name for value in branch.output}
    _add_graph(draft, sizes, branch)
    for value, name in zip(branch.output, node.outputs, strict=True):
        draft.elems[name] = draft.elems[value.name]
        if value.name in draft.constants:
            draft.constants[name] = draft.constants[value.name]
            draft.same[name] = value.name
        else:
            draft.inferred = {}
            draft.view(node, value.name, draft.shape(value.name), target=name)
