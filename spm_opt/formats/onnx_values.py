"""Values of a network's constants, out of the ONNX file that it was planned from.

The file is read once more as it was for planning; the result must be the network at hand. Then
every layer's chain of source layers is walked and its numbers folded (`onnx_values_chain`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import onnx

from spm_opt.errors import GraphError, InputError
from spm_opt.formats.onnx_dims import declared_dims
from spm_opt.formats.onnx_draft import Draft
from spm_opt.formats.onnx_graph import drafted, load_model
from spm_opt.formats.onnx_values_chain import Chain
from spm_opt.formats.onnx_values_composites import composite_parameters
from spm_opt.formats.onnx_values_constants import Constants
from spm_opt.formats.onnx_values_parameters import parameters_of
from spm_opt.graph.network import Layer, Network
from spm_opt.graph.normalize import normalize, unfolded, viewless
from spm_opt.graph.ops import Opaque, Unary
from spm_opt.graph.values import LayerValues, NetworkValues, Quantization

#: operators whose integers are spelled in another form than DequantizeLinear
_OTHER_FORMS: Final = (
    "ConvInteger", "MatMulInteger", "QGemm", "QLinearConv", "QLinearMatMul", "QLinearAdd",
    "QLinearMul", "QLinearSigmoid", "QLinearLeakyRelu", "QLinearConcat", "QLinearAveragePool",
    "QLinearGlobalAveragePool", "DynamicQuantizeLinear",
)  # fmt: skip
#: activations that commute with rounding
_CLAMPS: Final = ("relu", "relu6", "clip")


def read_values(path: str | Path, network: Network) -> NetworkValues:
    """Read the numbers of a normalised network from the ONNX file that it was planned from.

    Parameters
    ----------
    path : str or Path
        External data are looked for beside it.
    network : Network
        As `read_onnx` gave it, or a schedule embeds it.

    Returns
    -------
    NetworkValues
        Of every layer and every feature map.

    Raises
    ------
    InputError
        Naming the file and the layer: the file holds another network (a missing node, another
        shape), was planned in another element type, lacks data, or holds integers in a form that
        is not supported (QLinear operators).
    """
    file = str(path)
    model = load_model(file)
    draft, raw = _drafted_as(model, file, network)
    try:
        found = normalize(raw)
        _check_same(network, found, file)
        source = _Source(Constants(draft, Path(file).parent), viewless(raw), unfolded(raw), network)
    except GraphError as error:
        raise error.in_file(file) from None
    layers = {layer.name: source.layer_values(layer) for layer in network.layers}
    return NetworkValues(layers, {name: source.quantization(name) for name in network.tensors})


# --- the same network? -------------------------------------------------------------------------


def _drafted_as(model: onnx.ModelProto, file: str, network: Network) -> tuple[Draft, Network]:
    """The model's network, with the batch and symbolic dimensions that `network` has."""
    dims: dict[str, int] = {}
    batch = None
    initialised = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        declared = declared_dims(value)
        if value.name in initialised or declared is None:
            continue
        tensor = network.tensors.get(value.name)
        # an input that nobody reads has any extent
        shape = (1,) * len(declared) if tensor is None else tensor.shape
        if len(shape) != len(declared):
            raise _other(file, value.name, "this input has another shape", shape, declared)
        for axis, (given, extent) in enumerate(zip(declared, shape, strict=True)):
            if isinstance(given, str):
                if tensor is not None or given not in dims:
                    dims[given] = extent
            elif axis == 0 and given == 1 and len(shape) > 1:
                batch = extent if extent != 1 else batch
            elif tensor is not None and given != extent:
                raise _other(file, value.name, "this input has another shape", declared, shape)
    return drafted(model, file, batch, dims)


def _other(file: str, field: str, message: str, found: object, expected: object) -> InputError:
    return InputError(
        f"{message}: the file holds another network than was planned",
        file=file, field=field, found=found, allowed=str(expected),
    )  # fmt: skip


def _check_same(planned: Network, found: Network, file: str) -> None:
    """Raise InputError at the first layer or tensor that the file has otherwise."""
    layers = {layer.name: layer for layer in found.layers}
    for layer in planned.layers:
        if layer.name not in layers:
            raise _other(file, layer.name, "no such node", None, layer.op.kind)
        for what, found_part, expected in _parts(layers.pop(layer.name), layer):
            # text, since a value that is not known (NaN) differs from itself
            if repr(found_part) != repr(expected):
                raise _other(file, layer.name, f"another {what}", found_part, expected)
    for name in layers:
        raise _other(file, name, "this node was not planned", layers[name].op.kind, "no such node")
    for name, tensor in planned.tensors.items():
        dtype = found.tensors[name].dtype
        if dtype != tensor.dtype:
            raise InputError(
                "the network was planned in another element type than the file holds",
                file=file, field=name, found=dtype, allowed=tensor.dtype,
            )  # fmt: skip


def _parts(found: Layer, planned: Layer) -> Iterator[tuple[str, object, object]]:
    yield "operator", found.op, planned.op
    yield "shape of its output", found.output_shape, planned.output_shape
    yield "list of inputs", _names(found), _names(planned)
    yield "list of folded nodes", found.folded, planned.folded
    yield (
        "list of constants' shapes",
        tuple(weight.shape for weight in found.weights),
        tuple(weight.shape for weight in planned.weights),
    )


def _names(layer: Layer) -> tuple[str, ...]:
    return (*(operand.tensor for operand in layer.inputs), layer.output)


# --- layer by layer ----------------------------------------------------------------------------


@dataclass(slots=True)
class _Source:
    """The file's network before and after composites, and the planned one."""

    constants: Constants
    viewless: Network
    unfolded: Network
    network: Network

    def quantization(self, tensor: str) -> Quantization | None:
        """Scale and zero point of a feature map, None where it holds no scaled integers."""
        draft = self.constants.draft
        scaling = draft.scalings.get(tensor)
        if tensor in draft.conflicts:
            raise InputError(
                "this tensor is dequantised with another scale than it is quantised with",
                file=draft.file, field=tensor, found=draft.conflicts[tensor],
            )  # fmt: skip
        return None if scaling is None else self.constants.quantization(scaling, tensor)

    def layer_values(self, layer: Layer) -> LayerValues:
        """Numbers of a layer of the planned network."""
        if isinstance(layer.op, Opaque):
            return LayerValues()
        head, *epilogue = self._chain(layer)
        node = self.constants.draft.sources[head.name]
        if node.type in _OTHER_FORMS:
            raise InputError(
                "integers in this form are not supported", file=self.constants.draft.file,
                field=layer.name, found=node.type, allowed="QuantizeLinear and DequantizeLinear",
            )  # fmt: skip
        parameters = self._parameters(head)
        chain = Chain(self.constants, layer, head, parameters, self._input_scale(layer))
        if not head.folded:
            chain.begin()
        before = None
        written = head.output
        for step in epilogue:
            chain.fold(step)
            if isinstance(step.op, Unary):
                parameters.update(self._parameters(step))
                before = self._before(step.op, written, layer)
            written = step.output
        return chain.result(before)

    def _chain(self, layer: Layer) -> list[Layer]:
        """Head of a layer, then what was folded after it, in their order.

        Explicit padding before it is in the operator's own pads.
        """
        names = {layer.name, *layer.folded}
        chain = [member for member in self.unfolded.layers if member.name in names]
        at = next((i for i, member in enumerate(chain) if member.name == layer.name), None)
        if at is None:
            raise _other(self.constants.draft.file, layer.name, "no such node", None, layer.op.kind)
        return chain[at:]

    def _parameters(self, layer: Layer) -> dict[str, float]:
        if layer.folded:
            return composite_parameters(self.constants, self.viewless, layer)
        return dict(parameters_of(self.constants, layer))

    def _input_scale(self, layer: Layer) -> float | None:
        found = self.quantization(layer.inputs[0].tensor) if layer.inputs else None
        return None if found is None else found.scale

    def _before(self, op: Unary, tensor: str, layer: Layer) -> Quantization | None:
        """Scale to which the activation's argument is rounded, where that matters."""
        found = self.quantization(tensor)
        same = found == self.quantization(layer.output)
        return None if same and op.mode in _CLAMPS else found
