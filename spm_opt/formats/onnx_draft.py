"""An ONNX graph on its way to a `Network`: nodes, constants and what is known of each name.

Holds what the per-operator translators read and write; no operator is known here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray

from spm_opt.errors import InputError
from spm_opt.graph.network import Layer, Tensor, Weight, operand_of
from spm_opt.graph.ops import Op, Opaque, Shape, View

Array = NDArray[Any]

#: constants up to this many elements are evaluated, of larger ones only the shape is followed
MOST_ELEMENTS: Final = 1 << 16

#: ONNX element type -> ours; types narrower than a byte and 8-bit floats occupy one byte
DTYPES: Final[Mapping[int, str]] = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64",
    9: "bool", 10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 16: "bfloat16",
    17: "int8", 18: "int8", 19: "int8", 20: "int8", 21: "uint8", 22: "int8", 23: "int8",
}  # fmt: skip
FLOATS: Final = ("float16", "bfloat16", "float32", "float64")
NARROW: Final = ("int8", "uint8", "int16", "uint16")


@dataclass(frozen=True, slots=True)
class Constant:
    """A name whose value does not depend on the network's inputs.

    Attributes
    ----------
    name : str
        The initialiser that it was made from.
    shape : tuple of int
    elem : int
        ONNX element type of the value.
    dtype : str
        Element type in which it is stored (of the quantised initialiser).
    value : array or None
        None where the value is large or absent.
    """

    name: str
    shape: Shape
    elem: int
    dtype: str
    value: Array | None = None

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Scaling:
    """How a QuantizeLinear or DequantizeLinear node maps integers to reals.

    Attributes
    ----------
    dtype : str
    scale, zero_point : tuple of float, tuple of int, or str
        One value, or one for each channel; the constant's name where its value is not known.
    """

    dtype: str
    scale: tuple[float, ...] | str
    zero_point: tuple[int, ...] | str


class Node:
    """An ONNX node with its attributes decoded."""

    __slots__ = ("attributes", "inputs", "name", "outputs", "proto", "type")

    def __init__(self, proto: onnx.NodeProto, name: str) -> None:
        self.proto = proto
        self.name = name
        self.type: str = proto.op_type
        self.inputs: tuple[str, ...] = tuple(proto.input)
        self.outputs: tuple[str, ...] = tuple(proto.output)
        self.attributes: dict[str, Any] = {
            attribute.name: onnx.helper.get_attribute_value(attribute)
            for attribute in proto.attribute
        }

    def has(self, index: int) -> bool:
        """Whether the optional input `index` is given."""
        return index < len(self.inputs) and bool(self.inputs[index])

    def integer(self, name: str, default: int) -> int:
        """Integer attribute."""
        return int(self.attributes.get(name, default))

    def real(self, name: str, default: float) -> float:
        """Floating-point attribute."""
        return float(self.attributes.get(name, default))

    def text(self, name: str, default: str) -> str:
        """String attribute."""
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else str(value)

    def integers(self, name: str, default: Sequence[int]) -> Shape:
        """Attribute that is a list of integers."""
        return tuple(int(value) for value in self.attributes.get(name, default))


@dataclass(slots=True)
class Draft:
    """Everything known so far of the graph being read.

    Attributes
    ----------
    file : str
    opset : int
        Of the default domain.
    batch : int or None
        Set where it overrides a literal batch of 1, which may also stand in constants.
    inferred : dict
        Outputs of the node at hand: element type and shape (None where unknown).
    used : frozenset of str
        Names that a node or the network's outputs read.
    readers : dict
        Nodes that read each name; None among them for the world outside and for subgraphs.
    scalings : dict
        Of each tensor that is kept as integers.
    conflicts : dict
        Tensors that are read by another scaling than they were written, and the node that does.
    sources : dict
        Node that each layer was made from.
    protos, makers, same : dict
        What constants come from: the initialiser, the node, the constant of another name.
    """

    file: str
    opset: int
    batch: int | None = None
    used: frozenset[str] = frozenset()
    readers: Mapping[str, Sequence[onnx.NodeProto | None]] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    constants: dict[str, Constant] = field(default_factory=dict)
    elems: dict[str, int] = field(default_factory=dict)
    layers: list[Layer] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    roots: dict[str, str] = field(default_factory=dict)
    declared: dict[str, tuple[int, Shape]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    inferred: dict[str, tuple[int, Shape | None]] = field(default_factory=dict)
    failure: str | None = None
    scalings: dict[str, Scaling] = field(default_factory=dict)
    conflicts: dict[str, str] = field(default_factory=dict)
    sources: dict[str, Node] = field(default_factory=dict)
    protos: dict[str, onnx.TensorProto] = field(default_factory=dict)
    makers: dict[str, Node] = field(default_factory=dict)
    same: dict[str, str] = field(default_factory=dict)

    # --- what is known ---

    def error(self, node: Node, message: str, found: object = None) -> InputError:
        """An error that names the file, the node and its type."""
        where = f"node {node.name!r} ({node.type})"
        return InputError(message, file=self.file, field=where, found=found)

    def shape(self, name: str) -> Shape:
        """Shape of a constant or an activation."""
        constant = self.constants.get(name)
        return self.tensors[name].shape if constant is None else constant.shape

    def is_constant(self, name: str) -> bool:
        """Whether `name` is a constant (an absent optional input is one)."""
        return not name or name in self.constants

    def value(self, node: Node, index: int) -> Array:
        """Value of an input that must be known to plan."""
        constant = self.constants.get(node.inputs[index])
        if constant is None or constant.value is None:
            raise self.error(
                node, "this input must be a constant whose value is known", node.inputs[index]
            )
        return constant.value

    def integers(self, node: Node, index: int, name: str, default: Sequence[int]) -> Shape:
        """Integers of an input (newer opsets), else of an attribute (older ones)."""
        if node.has(index):
            return tuple(int(value) for value in np.ravel(self.value(node, index)))
        return node.integers(name, default)

    def output_shape(self, node: Node, output: int = 0) -> Shape:
        """Shape of an output by ONNX's own inference, else as the file declares it."""
        name = node.outputs[output]
        shape = self.inferred.get(name, (0, None))[1]
        if shape is None and name in self.declared:
            shape = self.declared[name][1]
        if shape is None:
            reason = self.failure or "the shape of its output cannot be inferred"
            raise self.error(node, reason, name)
        return shape

    # --- what is made ---

    def unique(self, name: str) -> str:
        """`name`, with a number after it where it is taken."""
        result, count = name, 1
        while result in self.names:
            count += 1
            result = f"{name}#{count}"
        self.names.add(result)
        return result

    def weight(self, name: str, role: str = "weight", shape: Shape | None = None) -> Weight:
        """The constant `name` as a layer's weight."""
        constant = self.constants[name]
        return Weight(constant.name, constant.shape if shape is None else shape,
                      constant.dtype, role)  # fmt: skip

    def emit(
        self, node: Node, op: Op, inputs: Iterable[str], weights: tuple[Weight, ...] = (),
        *, output: int = 0, target: str | None = None, views: Sequence[Shape] | None = None,
    ) -> str:  # fmt: skip
        """Add a layer that writes output `output` of `node` (or the tensor `target`)."""
        names = tuple(inputs)
        operands = tuple(
            operand_of(self.tensors[name], None if views is None else views[i])
            for i, name in enumerate(names)
        )
        shape = op.infer(tuple(operand.shape for operand in operands))
        final = node.outputs[output]
        written = final if target is None else target
        elem = self.inferred.get(final, (0, None))[0] or self._elem_of(names)
        self.elems[written] = elem
        self.tensors[written] = Tensor(written, shape, DTYPES[elem])
        name = self.unique(node.name if written == node.outputs[0] else f"{node.name}:{written}")
        self.layers.append(Layer(name, op, operands, written, shape, weights))
        self.sources[name] = node
        if op.is_view:
            self.roots[written] = self.root(names[0])
        return written

    def view(self, node: Node, source: str, shape: Shape, *, output: int = 0,
             target: str | None = None) -> str:  # fmt: skip
        """Add a view of `source`."""
        return self.emit(node, View(shape), (source,), output=output, target=target)

    def opaque(self, node: Node, inputs: Iterable[str] | None = None) -> None:
        """Add a layer per used output that runs whole and by itself, and warn."""
        names = tuple(node.inputs if inputs is None else inputs)
        active = tuple(name for name in names if not self.is_constant(name))
        constants = tuple(self.weight(name) for name in names if name in self.constants)
        self.warnings.append(
            f"node {node.name!r} of type {node.type} is not known: it runs whole and by itself"
        )
        for i, name in enumerate(node.outputs):
            if name in self.used:
                op = Opaque(node.type, self.output_shape(node, i))
                self.emit(node, op, active, constants, output=i)
                constants = ()

    def root(self, name: str) -> str:
        """The tensor that `name` is a view of."""
        return self.roots.get(name, name)

    def scaling(self, node: Node, elem: int) -> Scaling:
        """Scaling of a QuantizeLinear or DequantizeLinear node on integers of type `elem`."""
        scale = self._numbers(node.inputs[1])
        zero = self._numbers(node.inputs[2]) if node.has(2) else (0.0,)
        if not isinstance(zero, str):
            return Scaling(DTYPES[elem], scale, tuple(int(value) for value in zero))
        return Scaling(DTYPES[elem], scale, zero)

    def _numbers(self, name: str) -> tuple[float, ...] | str:
        constant = self.constants.get(name)
        if constant is None or constant.value is None:
            return name
        return tuple(float(value) for value in np.ravel(constant.value))

    def store_as(self, name: str, dtype: str) -> None:
        """Keep the map that `name` views in `dtype`."""
        root = self.root(name)
        self.tensors[root] = replace(self.tensors[root], dtype=dtype)

    def temporary(self, node: Node, what: str) -> str:
        """Name of a tensor between two layers that one node becomes."""
        return self.unique(f"{node.outputs[0]}:{what}")

    def _elem_of(self, names: Sequence[str]) -> int:
        return self.elems.get(names[0], 1) if names else 1
