"""Values of an ONNX model's constants, of any size, external data too.

The reader follows shapes and only small values; here a constant is computed in full, by the same
nodes. Integers that a DequantizeLinear makes real are also given as they are stored.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from spm_opt.errors import InputError
from spm_opt.formats.onnx_draft import DTYPES, Array, Draft, Node, Scaling
from spm_opt.formats.onnx_fold import evaluate
from spm_opt.graph.values import Quantization


@dataclass(frozen=True, slots=True)
class Integers:
    """Stored integers of a constant; every element with its own scale and zero point.

    Attributes
    ----------
    array : integer array
    scale : float64 array
    zero_point : int64 array
        All of one shape.
    """

    array: Array
    scale: NDArray[np.float64]
    zero_point: NDArray[np.int64]

    def reals(self) -> NDArray[np.float64]:
        """What the integers stand for."""
        return self.scale * (self.array.astype(np.int64) - self.zero_point)

    def quantization(self) -> Quantization | None:
        """The one scale and zero point of all elements; None if there are several."""
        scale, zero = self.scale.ravel(), self.zero_point.ravel()
        if not scale.size or (scale != scale[0]).any() or (zero != zero[0]).any():
            return None
        return Quantization(float(scale[0]), int(zero[0]))


@dataclass(slots=True)
class Constants:
    """The constants of a drafted model, computed on demand.

    Parameters
    ----------
    draft : Draft
    folder : Path
        Where external data lie.
    """

    draft: Draft
    folder: Path
    _known: dict[str, Array] = field(default_factory=dict)

    def value(self, name: str) -> Array:
        """Value of the constant `name`, as its readers see it.

        Raises
        ------
        InputError
            If its data are missing, or ONNX's reference implementation cannot compute it.
        """
        name = self._original(name)
        if name not in self._known:
            small = self.draft.constants[name].value
            self._known[name] = self._full(name) if small is None else small
        return self._known[name]

    def integers(self, name: str) -> Integers | None:
        """The stored integers of a constant that is dequantised; None for other constants."""
        node = self.draft.makers.get(self._original(name))
        if node is None:
            return None
        if node.type == "DequantizeLinear":
            return self._dequantized(node)
        if node.type not in _MOVES:
            return None
        inner = self.integers(node.inputs[0])
        if inner is None:
            return None
        return Integers(
            self._moved(node, inner.array), self._moved(node, inner.scale),
            self._moved(node, inner.zero_point),
        )  # fmt: skip

    def quantization(self, scaling: Scaling, field: str) -> Quantization:
        """Scale and zero point of a feature map.

        Raises
        ------
        InputError
            Naming `field`, if there are several.
        """
        scale, zero = self._numbers(scaling.scale), self._numbers(scaling.zero_point)
        if scale.size != 1 or zero.size != 1:
            raise InputError(
                "a feature map with several scales is not supported",
                file=self.draft.file, field=field, found=scale.size, allowed="one scale",
            )  # fmt: skip
        return Quantization(float(scale[0]), int(zero[0]))

    def _numbers(self, given: tuple[float, ...] | tuple[int, ...] | str) -> Array:
        return np.ravel(self.value(given)) if isinstance(given, str) else np.array(given)

    def _original(self, name: str) -> str:
        while name in self.draft.same:
            name = self.draft.same[name]
        return name

    def _full(self, name: str) -> Array:
        if name in self.draft.protos:
            return self._stored(self.draft.protos[name])
        node = self.draft.makers.get(name)
        if node is None:
            raise InputError("this constant has no value", file=self.draft.file, field=name)
        if node.type == "DequantizeLinear":
            return self._dequantized(node).reals().astype(np.float32)
        if node.type == "QuantizeLinear":
            return self._quantized(node, self.draft.elems[name])
        feeds = {source: self.value(source) for source in node.inputs if source}
        return self._run(node, feeds, node.outputs.index(name))

    def _stored(self, tensor: onnx.TensorProto) -> Array:
        try:
            return numpy_helper.to_array(tensor, str(self.folder))
        except (OSError, ValueError, TypeError, onnx.checker.ValidationError) as error:
            raise InputError(
                f"the data of this constant cannot be read: {error}",
                file=self.draft.file, field=tensor.name,
            ) from error  # fmt: skip

    def _run(self, node: Node, feeds: dict[str, Array], output: int) -> Array:
        results = evaluate(node.proto, feeds, self.draft.opset)
        value = None if results is None else results[output]
        if value is None:
            raise self.draft.error(node, "this constant cannot be computed", node.outputs[output])
        return value

    def _dequantized(self, node: Node) -> Integers:
        array = self.value(node.inputs[0])
        scale = self.value(node.inputs[1]).astype(np.float64)
        zero = self.value(node.inputs[2]).astype(np.int64) if node.has(2) else np.int64(0)
        axis = node.integer("axis", 1)
        if node.integer("block_size", 0):
            raise self.draft.error(node, "scales by blocks are not supported")
        return Integers(
            array, _spread(scale, axis, array.shape), _spread(np.asarray(zero), axis, array.shape)
        )

    def _quantized(self, node: Node, elem: int) -> Array:
        """Reals that the model rounds itself, before it stores none of them."""
        reals, dtype = self.value(node.inputs[0]), np.dtype(DTYPES[elem])
        axis, limits = node.integer("axis", 1), np.iinfo(dtype)
        scale = _spread(self.value(node.inputs[1]), axis, reals.shape)
        zero = self.value(node.inputs[2]).astype(np.int64) if node.has(2) else np.int64(0)
        count = np.rint(reals / scale) + _spread(np.asarray(zero), axis, reals.shape)
        rounded: Array = np.clip(count, limits.min, limits.max).astype(dtype)
        return rounded

    def _moved(self, node: Node, array: Array) -> Array:
        feeds = {source: self.value(source) for source in node.inputs[1:] if source}
        return self._run(node, {node.inputs[0]: array, **feeds}, 0)


#: operators that give elements another place and nothing else
_MOVES: Final = frozenset(("Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten"))


def _spread(values: Array, axis: int, shape: tuple[int, ...]) -> Array:
    """One value for every element: one for all of them, or one for each index of `axis`."""
    if values.size == 1:
        return np.broadcast_to(values.ravel()[0], shape)
    along = tuple(-1 if i == axis % len(shape) else 1 for i in range(len(shape)))
    return np.broadcast_to(values.reshape(along), shape)
