"""Build a network in Python, one layer a call.

    b = NetworkBuilder("tiny")
    x = b.input("image", (1, 3, 224, 224))
    x = b.conv(x, 32, kernel=3, stride=2, padding=1, bias=False, name="stem")
    x = b.relu(b.batch_norm(x))
    b.output(b.linear(b.flatten(b.global_avg_pool(x)), 1000))
    network = b.build()

The builder keeps the list of layers as they were written (`LayerRecord`), so the same list can be
written to a model file, and the tensors and layers that they become. Which operators there are and
what their fields accept stands in `spm_opt.graph.recipes`; nothing here opens a file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, TypeAlias

from spm_opt.errors import GraphError, InputError
from spm_opt.graph.densities import densities_of
from spm_opt.graph.fields import EXTENTS, POSITIVE, TEXT, UNARY_MODES, read_value
from spm_opt.graph.network import (
    DTYPE_BYTES,
    MILLION,
    PLAN_DTYPES,
    Layer,
    Network,
    Tensor,
    operand_of,
)
from spm_opt.graph.ops import Shape
from spm_opt.graph.recipes import OPERATORS, RECIPES, SPLIT_FIELDS, weights_of

#: one number for every spatial axis, or one each
Window: TypeAlias = int | Sequence[int]
#: ``"same"``, one number, one for each axis, or all begins and then all ends
Padding: TypeAlias = int | str | Sequence[int]

#: operators that move elements and keep their type
_MOVERS: Final = frozenset(
    {"slice", "split", "pad", "concat", "transpose", "reshape", "flatten", "squeeze", "unsqueeze",
     "identity", "resize", "max_pool", "global_max_pool"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Handle:
    """A tensor of a network under construction."""

    name: str
    shape: Shape


#: a handle, or the name of a layer or network input
Source: TypeAlias = Handle | str


@dataclass(frozen=True, slots=True)
class LayerRecord:
    """One layer as it was written: only the fields that differ from their defaults.

    ``inputs`` are tensors; ``output`` is the tensor written (the layer's name if nothing else was
    asked for; for a split, the stem of its outputs' names).
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    fields: Mapping[str, object]
    output: str
    cycles: int | None = None


class NetworkBuilder:
    """A network under construction.

    Every method that adds a layer returns a `Handle`; it takes ``name`` (by default the operator
    and a number) and ``cycles``, the measured cycles of the whole layer, which override the
    compute model. Weights are named ``LAYER.weight``, ``LAYER.bias`` ...

    Parameters
    ----------
    name : str
    dtype : str
        Element type of feature maps and weights, one of `PLAN_DTYPES`.

    Raises
    ------
    GraphError
        By every method, naming the layer and the field.
    """

    def __init__(self, name: str, dtype: str = "int8") -> None:
        if dtype not in PLAN_DTYPES:
            raise GraphError(
                "unknown element type", field="dtype", found=dtype, allowed=PLAN_DTYPES
            )
        self.name = str(read_value("name", TEXT, name))
        self.dtype = dtype
        self.records: list[LayerRecord] = []
        self._tensors: dict[str, Tensor] = {}
        self._layers: dict[str, Layer] = {}
        self._inputs: list[str] = []
        self._outputs: list[str] = []
        self._counts: dict[str, int] = {}

    # --- the network's border -------------------------------------------------------------

    def input(self, name: str, shape: Sequence[int], dtype: str | None = None) -> Handle:
        """A network input; `dtype` differs from the network's for indices (``int32``)."""
        read_value("inputs", TEXT, name)
        if dtype is not None and (not isinstance(dtype, str) or dtype not in DTYPE_BYTES):
            raise GraphError(
                "unknown element type", field=f"{name}.dtype", found=dtype, allowed=DTYPE_BYTES
            )
        extents = read_value(f"{name}.shape", EXTENTS, shape)
        handle = self._tensor(name, extents, dtype or self.dtype)  # type: ignore[arg-type]
        self._inputs.append(name)
        return handle

    def output(self, *sources: Source) -> None:
        """Mark tensors as network outputs."""
        for source in sources:
            name = self._find(source, "outputs").name
            if name in self._outputs:
                raise GraphError("this output is named twice", field="outputs", found=name)
            self._outputs.append(name)

    def density(self, source: Source, density_ppm: int) -> None:
        """Expect so many elements of a tensor per million not to be zero."""
        tensor = self._find(source, "densities")
        if not 0 <= density_ppm <= MILLION:
            raise GraphError(
                "a density is a share in parts per million", field=f"densities.{tensor.name}",
                found=density_ppm, allowed=f"0 to {MILLION}",
            )  # fmt: skip
        self._tensors[tensor.name] = replace(tensor, density_ppm=density_ppm)

    @property
    def densities_ppm(self) -> dict[str, int]:
        """Of the tensors that are expected to have zeros."""
        return densities_of(self._tensors)

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """Network inputs."""
        return tuple(self._tensors[name] for name in self._inputs)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Tensors marked as outputs; if none was, those that no layer reads."""
        if self._outputs:
            return tuple(self._outputs)
        read = {operand.tensor for layer in self._layers.values() for operand in layer.inputs}
        return tuple(layer.output for layer in self._layers.values() if layer.output not in read)

    def build(self, normalize: bool = True) -> Network:
        """The network, by default with views, batch normalisations and activations folded."""
        if not self._layers:
            raise GraphError("the network has no layers", field=self.name)
        network = Network(
            self.name,
            MappingProxyType(dict(self._tensors)),
            tuple(self._layers.values()),
            tuple(self._inputs),
            self.outputs,
        )
        if not normalize:
            return network
        from spm_opt.graph.normalize import normalize as normalized

        return normalized(network)

    # --- any layer ------------------------------------------------------------------------

    def layer(
        self,
        op: str,
        inputs: Source | Iterable[Source],
        *,
        name: str | None = None,
        cycles: int | None = None,
        output: str | None = None,
        **fields: object,
    ) -> Handle:
        """Add a layer of any operator in `OPERATORS` but ``split``, by its fields.

        ``output`` names the tensor written where it is not to have the layer's name.
        """
        label = self._new_name(op, name)
        if op not in RECIPES:
            raise GraphError("unknown operator", field=f"{label}.op", found=op, allowed=OPERATORS)
        sources = (inputs,) if isinstance(inputs, (Handle, str)) else tuple(inputs)
        tensors = tuple(self._find(source, label) for source in sources)
        shapes = tuple(tensor.shape for tensor in tensors)
        try:
            operator = RECIPES[op].make(fields, shapes)
            shape = operator.infer(shapes)
            _check_cycles(cycles)
        except GraphError as error:
            raise located(error, label) from None
        dtype = tensors[0].dtype if tensors and op in _MOVERS else self.dtype
        handle = self._tensor(output or label, shape, dtype, label)
        weights = weights_of(label, operator, shapes, self.dtype)
        operands = tuple(operand_of(tensor) for tensor in tensors)
        self._layers[label] = Layer(label, operator, operands, handle.name, shape, weights, cycles)
        self._record(label, op, tensors, fields, handle.name, cycles)
        return handle

    def split(
        self, x: Source, sizes: Sequence[int], axis: int = 1, *, name: str | None = None
    ) -> tuple[Handle, ...]:
        """Cut into consecutive parts along an axis: slices named ``NAME.0``, ``NAME.1`` ..."""
        label = self._new_name("split", name)
        whole = self._find(x, label)
        try:
            fields = {field.name: field for field in SPLIT_FIELDS}
            parts = fields["sizes"].read({"sizes": sizes})
            at = fields["axis"].read({"axis": axis})
            _check_parts(parts, at, whole.shape)  # type: ignore[arg-type]
        except GraphError as error:
            raise located(error, label) from None
        records = len(self.records)
        handles, begin = [], 0
        for i, size in enumerate(sizes):
            end = begin + size
            part = self.slice(whole.name, axis, begin, end, name=f"{label}.{i}")
            handles.append(part)
            begin = end
        del self.records[records:]
        self._record(label, "split", (whole,), {"sizes": sizes, "axis": axis}, label, None)
        return tuple(handles)

    # --- convolutions and products --------------------------------------------------------

    def conv(
        self, x: Source, out_channels: int, kernel: Window, stride: Window = 1,
        padding: Padding = 0, dilation: Window = 1, groups: int = 1, bias: bool = True,
        activation: str | None = None, *, name: str | None = None, cycles: int | None = None,
    ) -> Handle:  # fmt: skip
        """Convolution of an N C spatial tensor (one, two or three spatial axes)."""
        return self.layer(
            "conv", x, out_channels=out_channels, kernel=kernel, stride=stride, padding=padding,
            dilation=dilation, groups=groups, bias=bias, activation=activation, name=name,
            cycles=cycles,
        )  # fmt: skip

    def depthwise(
        self, x: Source, kernel: Window, stride: Window = 1, padding: Padding = 0,
        dilation: Window = 1, multiplier: int = 1, bias: bool = True,
        activation: str | None = None, *, name: str | None = None, cycles: int | None = None,
    ) -> Handle:  # fmt: skip
        """Convolution of each channel by itself, with `multiplier` outputs each."""
        return self.layer(
            "depthwise", x, kernel=kernel, stride=stride, padding=padding, dilation=dilation,
            multiplier=multiplier, bias=bias, activation=activation, name=name, cycles=cycles,
        )  # fmt: skip

    def conv_transpose(
        self, x: Source, out_channels: int, kernel: Window, stride: Window = 1,
        padding: Padding = 0, output_padding: Window = 0, dilation: Window = 1, groups: int = 1,
        bias: bool = True, activation: str | None = None, *, name: str | None = None,
        cycles: int | None = None,
    ) -> Handle:  # fmt: skip
        """Transposed convolution."""
        return self.layer(
            "conv_transpose", x, out_channels=out_channels, kernel=kernel, stride=stride,
            padding=padding, output_padding=output_padding, dilation=dilation, groups=groups,
            bias=bias, activation=activation, name=name, cycles=cycles,
        )  # fmt: skip

    def linear(
        self, x: Source, out_features: int, bias: bool = True, activation: str | None = None, *,
        name: str | None = None, cycles: int | None = None,
    ) -> Handle:  # fmt: skip
        """Product with a weight matrix over the last axis."""
        return self.layer(
            "linear", x, out_features=out_features, bias=bias, activation=activation, name=name,
            cycles=cycles,
        )  # fmt: skip

    def matmul(
        self, a: Source, b: Source, transpose_b: bool = False, activation: str | None = None, *,
        name: str | None = None, cycles: int | None = None,
    ) -> Handle:  # fmt: skip
        """Product of two activations, batched over the leading axes."""
        return self.layer(
            "matmul", (a, b), transpose_b=transpose_b, activation=activation, name=name,
            cycles=cycles,
        )  # fmt: skip

    # --- pooling and reductions -----------------------------------------------------------

    def max_pool(
        self, x: Source, kernel: Window, stride: Window | None = None, padding: Padding = 0,
        dilation: Window = 1, ceil_mode: bool = False, *, name: str | None = None,
        cycles: int | None = None,
    ) -> Handle:  # fmt: skip
        """Max pooling; without a stride the windows do not overlap."""
        return self.layer(
            "max_pool", x, kernel=kernel, stride=stride, padding=padding, dilation=dilation,
            ceil_mode=ceil_mode, name=name, cycles=cycles,
        )  # fmt: skip

    def avg_pool(
        self, x: Source, kernel: Window, stride: Window | None = None, padding: Padding = 0,
        ceil_mode: bool = False, count_include_pad: bool = False, *, name: str | None = None,
        cycles: int | None = None,
    ) -> Handle:  # fmt: skip
        """Average pooling; without a stride the windows do not overlap."""
        return self.layer(
            "avg_pool", x, kernel=kernel, stride=stride, padding=padding, ceil_mode=ceil_mode,
            count_include_pad=count_include_pad, name=name, cycles=cycles,
        )  # fmt: skip

    def global_avg_pool(
        self, x: Source, keepdims: bool = True, *, name: str | None = None,
        cycles: int | None = None,
    ) -> Handle:  # fmt: skip
        """Mean over all spatial axes."""
        return self.layer("global_avg_pool", x, keepdims=keepdims, name=name, cycles=cycles)

    def reduce(
        self, x: Source, mode: str, axes: Window, keepdims: bool = True, *,
        name: str | None = None, cycles: int | None = None,
    ) -> Handle:  # fmt: skip
        """Reduction over axes: ``mean``, ``sum``, ``max`` ..."""
        return self.layer(
            "reduce", x, mode=mode, axes=axes, keepdims=keepdims, name=name, cycles=cycles
        )

    # --- element-wise ---------------------------------------------------------------------

    def unary(
        self, x: Source, mode: str, *, name: str | None = None, cycles: int | None = None
    ) -> Handle:
        """Element-wise function: ``relu``, ``gelu``, ``hardswish`` ..."""
        if mode not in UNARY_MODES:
            label = self._new_name("unary", name)
            raise GraphError(
                "unknown function", field=f"{label}.mode", found=mode, allowed=UNARY_MODES
            )
        return self.layer(mode, x, name=name, cycles=cycles)

    def relu(self, x: Source, *, name: str | None = None, cycles: int | None = None) -> Handle:
        """Rectifier."""
        return self.layer("relu", x, name=name, cycles=cycles)

    def binary(
        self, mode: str, *sources: Source, constant: Sequence[int] | None = None,
        activation: str | None = None, name: str | None = None, cycles: int | None = None,
    ) -> Handle:  # fmt: skip
        """Element-wise combination with broadcasting; `constant` is the shape of a constant."""
        return self.layer(
            "binary", sources, mode=mode, constant=constant, activation=activation, name=name,
            cycles=cycles,
        )  # fmt: skip

    def add(
        self, *sources: Source, constant: Sequence[int] | None = None,
        activation: str | None = None, name: str | None = None, cycles: int | None = None,
    ) -> Handle:  # fmt: skip
        """Sum of tensors, or of a tensor and a constant of this shape."""
        return self.layer(
            "add", sources, constant=constant, activation=activation, name=name, cycles=cycles
        )

    def mul(
        self, *sources: Source, constant: Sequence[int] | None = None,
        activation: str | None = None, name: str | None = None, cycles: int | None = None,
    ) -> Handle:  # fmt: skip
        """Product of tensors, or of a tensor and a constant of this shape."""
        return self.layer(
            "mul", sources, constant=constant, activation=activation, name=name, cycles=cycles
        )

    # --- normalisations -------------------------------------------------------------------

    def softmax(
        self, x: Source, axis: int = -1, *, name: str | None = None, cycles: int | None = None
    ) -> Handle:
        """Softmax along an axis."""
        return self.layer("softmax", x, axis=axis, name=name, cycles=cycles)

    def layer_norm(
        self, x: Source, axes: Window = -1, affine: bool = True, *, name: str | None = None,
        cycles: int | None = None,
    ) -> Handle:  # fmt: skip
        """Layer normalisation over axes."""
        return self.layer("layer_norm", x, axes=axes, affine=affine, name=name, cycles=cycles)

    def batch_norm(
        self, x: Source, activation: str | None = None, *, name: str | None = None,
        cycles: int | None = None,
    ) -> Handle:  # fmt: skip
        """Batch normalisation at inference: a scale and a shift per channel."""
        return self.layer("batch_norm", x, activation=activation, name=name, cycles=cycles)

    # --- moving elements ------------------------------------------------------------------

    def concat(
        self, sources: Sequence[Source], axis: int = 1,
        constants: Sequence[tuple[int, Sequence[int]]] = (), *, name: str | None = None,
        cycles: int | None = None,
    ) -> Handle:  # fmt: skip
        """Concatenation along an axis; `constants` are places and shapes of constant pieces."""
        return self.layer(
            "concat", sources, axis=axis, constants=constants, name=name, cycles=cycles
        )

    def slice(
        self, x: Source, axis: Window, begin: Window = 0, end: int | Sequence[int] | None = None,
        step: Window = 1, *, name: str | None = None, cycles: int | None = None,
    ) -> Handle:  # fmt: skip
        """Part of the input, by Python's slicing rule on each named axis."""
        return self.layer(
            "slice", x, axis=axis, begin=begin, end=end, step=step, name=name, cycles=cycles
        )

    def pad(
        self, x: Source, pads: Sequence[int], mode: str = "constant", value: float = 0.0, *,
        name: str | None = None, cycles: int | None = None,
    ) -> Handle:  # fmt: skip
        """Padding: begins of all axes, then ends of all axes."""
        return self.layer("pad", x, pads=pads, mode=mode, value=value, name=name, cycles=cycles)

    def resize(
        self, x: Source, scale: Window | None = None, size: Window | None = None,
        mode: str = "nearest", coordinates: str = "asymmetric", *, name: str | None = None,
        cycles: int | None = None,
    ) -> Handle:  # fmt: skip
        """Resampling by whole factors or to a spatial size."""
        return self.layer(
            "resize", x, scale=scale, size=size, mode=mode, coordinates=coordinates, name=name,
            cycles=cycles,
        )  # fmt: skip

    def gather(
        self, *sources: Source, axis: int = 0, indices_shape: Sequence[int] | None = None,
        table_shape: Sequence[int] | None = None, name: str | None = None,
        cycles: int | None = None,
    ) -> Handle:  # fmt: skip
        """Selection along an axis: the table, then the indices; either may be constant."""
        return self.layer(
            "gather", sources, axis=axis, indices_shape=indices_shape, table_shape=table_shape,
            name=name, cycles=cycles,
        )  # fmt: skip

    def embedding(
        self, indices: Source, entries: int, features: int, *, name: str | None = None,
        cycles: int | None = None,
    ) -> Handle:  # fmt: skip
        """Look-up of rows of a constant table."""
        return self.layer(
            "embedding", indices, entries=entries, features=features, name=name, cycles=cycles
        )

    def transpose(
        self, x: Source, perm: Sequence[int], *, name: str | None = None, cycles: int | None = None
    ) -> Handle:
        """Permutation of the axes."""
        return self.layer("transpose", x, perm=perm, name=name, cycles=cycles)

    # --- views and the unknown ------------------------------------------------------------

    def reshape(self, x: Source, shape: Sequence[int], *, name: str | None = None) -> Handle:
        """View under another shape; 0 copies the input's extent, -1 takes what is left."""
        return self.layer("reshape", x, shape=shape, name=name)

    def flatten(self, x: Source, begin: int = 1, *, name: str | None = None) -> Handle:
        """View with the axes from `begin` on as one."""
        return self.layer("flatten", x, begin=begin, name=name)

    def squeeze(self, x: Source, axes: Window | None = None, *, name: str | None = None) -> Handle:
        """View without axes of extent 1."""
        return self.layer("squeeze", x, axes=axes, name=name)

    def opaque(
        self, sources: Sequence[Source], type: str, shape: Sequence[int], *,
        name: str | None = None, cycles: int | None = None,
    ) -> Handle:  # fmt: skip
        """An operator of which only the output shape is known: runs untiled and unfused."""
        return self.layer("opaque", sources, type=type, shape=shape, name=name, cycles=cycles)

    # --- housekeeping ---------------------------------------------------------------------

    def _find(self, source: Source, label: str) -> Tensor:
        """The tensor behind a handle, a tensor's name or a layer's name."""
        name = source.name if isinstance(source, Handle) else source
        if name in self._tensors:
            return self._tensors[name]
        if name in self._layers:
            return self._tensors[self._layers[name].output]
        raise GraphError("this input is no tensor of the network", field=label, found=name)

    def _new_name(self, op: str, name: str | None) -> str:
        if name is None:
            while True:
                self._counts[op] = self._counts.get(op, 0) + 1
                name = f"{op}{self._counts[op]}"
                if name not in self._layers and name not in self._tensors:
                    return name
        read_value("name", TEXT, name)
        if name in self._layers or name in self._tensors:
            raise GraphError("this name is used twice", field=name)
        return name

    def _tensor(self, name: str, shape: Shape, dtype: str, label: str | None = None) -> Handle:
        if name in self._tensors or (name in self._layers and name != label):
            raise GraphError("this tensor is produced twice", field=label or name, found=name)
        self._tensors[name] = Tensor(name, shape, dtype)
        return Handle(name, shape)

    def _record(
        self, label: str, op: str, inputs: tuple[Tensor, ...], given: Mapping[str, object],
        output: str, cycles: int | None,
    ) -> None:  # fmt: skip
        known = SPLIT_FIELDS if op == "split" else RECIPES[op].fields
        defaults = {field.name: field.default for field in known}
        fields = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in given.items()
            if value is not None and value != defaults[name]
        }
        names = tuple(tensor.name for tensor in inputs)
        self.records.append(LayerRecord(label, op, names, fields, output, cycles))


def located(error: InputError, label: str) -> GraphError:
    """The same error, at a layer (and its field)."""
    field = f"{label}.{error.field}" if error.field else label
    return GraphError(error.message, field=field, found=error.found, allowed=error.allowed)


def _check_cycles(cycles: object) -> None:
    if cycles is not None:
        read_value("cycles", POSITIVE, cycles)


def _check_parts(sizes: tuple[int, ...], axis: int, shape: Shape) -> None:
    if not -len(shape) <= axis < len(shape):
        raise GraphError("the input has no such axis", field="axis", found=axis)
    if sum(sizes) != shape[axis]:
        raise GraphError(
            f"the sizes must add up to the {shape[axis]} of axis {axis}", field="sizes",
            found=list(sizes),
        )  # fmt: skip
