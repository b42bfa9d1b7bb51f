"""Operator kinds: what a DNN operator is on paper.

Each kind answers four questions, and everything else in spm_opt is generic:

1. `Op.infer`: the output shape, from the input shapes;
2. `Op.loops` / `Op.vector_ops`: the work of the whole output (both are linear in output rows);
3. `Op.input_rows`, `Op.input_columns`: the rows of an input that a run of output rows needs, and
   what indices of one of its axes a run of the output's last axis does;
4. `Op.channel_axis`: the output axis that may be cut into slices with their own weights, and
   `Op.input_channel_axis`: whether such a slice needs its own channels of an input only;
   `Op.keeps_images`: whether the images of a batch stay apart.

Nothing here knows bytes per second, scratchpads or weights' values. The *row axis* of a tensor is
its last but one axis (height of an image in NCHW, tokens of a sequence, samples of a matrix).
Which tensors have the rows of several images, one image after another, is decided in
`spm_opt.graph.images`; a kind answers for the axes of one image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from spm_opt.errors import GraphError
from spm_opt.units import ceil_div

Shape: TypeAlias = tuple[int, ...]


def row_axis(shape: Shape) -> int | None:
    """Axis of `shape` that is cut into stripes; None for vectors and scalars."""
    return len(shape) - 2 if len(shape) >= 2 else None


def plain_channel_axis(shape: Shape) -> int | None:
    """Axis of `shape` that element-wise operators cut into channels, as convolutions do.

    Axis 1 of images, the last axis of sequences, matrices and vectors; never the row axis.
    """
    return (1 if len(shape) >= 4 else len(shape) - 1) if shape else None


def row_count(shape: Shape) -> int:
    """Number of rows of a tensor of this shape."""
    axis = row_axis(shape)
    return 1 if axis is None else shape[axis]


@dataclass(frozen=True, slots=True)
class RowMap:
    """Input rows that output rows need, along one axis of the input.

    Output rows ``[begin, end)`` need the input rows
    ``[floor((scale*begin + first)/divisor), floor((scale*(end-1) + last)/divisor) + 1)``,
    clipped to the input. ``axis=None`` means that every output row needs the whole input.

    Where rows run over several images, one after another, this holds inside each of them:
    ``image_rows`` are the output's rows of one image, ``image_inputs`` the input's, no halo
    crosses from one to the next, and ``axis=None`` means all rows of the image. Zero for one image.
    """

    axis: int | None
    scale: int = 1
    first: int = 0
    last: int = 0
    divisor: int = 1
    image_rows: int = 0
    image_inputs: int = 0

    def needed(self, begin: int, end: int, rows: int) -> tuple[int, int]:
        """Input rows, clipped to ``[0, rows)``, that output rows ``[begin, end)`` need."""
        if not self.image_rows:
            low, high = self._inside(begin, end - 1, rows)
            return low, max(low, high)
        first, one = divmod(begin, self.image_rows)
        last, other = divmod(end - 1, self.image_rows)
        low, high = self._inside(one, other, self.image_inputs)
        low, high = first * self.image_inputs + low, last * self.image_inputs + high
        return low, max(low, high)

    def _inside(self, begin: int, last: int, rows: int) -> tuple[int, int]:
        """First row, of `rows`, that output row `begin` needs, and the end of what `last` does."""
        if self.axis is None:
            return 0, rows
        low = (self.scale * begin + self.first) // self.divisor
        high = (self.scale * last + self.last) // self.divisor + 1
        return max(0, min(low, rows)), max(0, min(high, rows))


WHOLE = RowMap(None)


def same_row(shape: Shape) -> RowMap:
    """Row map of an input that is read row by row."""
    return RowMap(row_axis(shape))


def same_column(shape: Shape, output: Shape) -> RowMap:
    """Column map of an input that is read column by column; WHOLE where it has another number."""
    same = bool(shape) and bool(output) and shape[-1] == output[-1]
    return RowMap(len(shape) - 1) if same else WHOLE


@dataclass(frozen=True, slots=True)
class Loops:
    """The MAC loop nest of an output: extents of its eight dimensions.

    ``b`` batch, ``g`` groups, ``k`` output and ``c`` input channels of one group, ``oy``/``ox``
    output rows and columns, ``fy``/``fx`` kernel rows and columns. MACs are their product.
    """

    b: int = 1
    g: int = 1
    k: int = 1
    c: int = 1
    oy: int = 1
    ox: int = 1
    fy: int = 1
    fx: int = 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the nest."""
        return self.b * self.g * self.k * self.c * self.oy * self.ox * self.fy * self.fx


@dataclass(frozen=True, slots=True)
class Op:
    """Common answers; each kind overrides those that differ."""

    kind: ClassVar[str] = ""
    #: reads its single input unchanged, under another shape: an alias, never a copy
    is_view: ClassVar[bool] = False
    #: may be cut into row stripes and share a group with other layers
    tileable: ClassVar[bool] = True
    #: dimension of `Loops` that a cut of the channel axis shortens, where no groups are cut
    channel_loop: ClassVar[str] = "k"

    def infer(self, inputs: tuple[Shape, ...]) -> Shape:
        """Output shape. Raises GraphError where the input shapes are impossible."""
        raise NotImplementedError

    def loops(self, inputs: tuple[Shape, ...], output: Shape) -> Loops | None:
        """MAC loop nest of the whole output, None for vector operators."""
        return None

    def vector_ops(self, inputs: tuple[Shape, ...], output: Shape) -> int:
        """Vector-lane operations of the whole output (0 where a MAC nest exists)."""
        return math.prod(output)

    def input_rows(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> RowMap:
        """Row map of input `index`."""
        return same_row(inputs[index])

    def input_columns(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> RowMap:
        """What input `index` is needed of for a run of indices of the output's last axis.

        WHOLE where such a run needs no less of it than the whole output.
        """
        return WHOLE

    def keeps_images(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> bool:
        """Whether index n of the output's first axis needs that of input `index` and no other.

        Asked where both have as many; where the output has a multiple, n belongs to n // multiple.
        """
        return False

    def channel_axis(self, output: Shape) -> int | None:
        """Output axis that can be cut into slices with their own weights, if any."""
        return None

    def channel_step(self) -> int:
        """Channels of one group: what needs any of a group's inputs needs them all."""
        return 1

    def input_channel_axis(
        self, index: int, inputs: tuple[Shape, ...], output: Shape
    ) -> int | None:
        """Axis of input `index` that is cut together with the output's channel axis.

        Output channels ``[b, e)`` then need indices ``[b, e)`` of that axis, made up to whole
        groups of `channel_step`, and nothing else of the input (*channelwise*). None where they
        need all of it.
        """
        return None

    def in_place(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> bool:
        """Whether an output element needs the same element of input `index` and no other of it.

        Then the output may be written over that input, element by element.
        """
        return False


def _same_extent(shape: Shape, axis: int | None, output: Shape, out_axis: int | None) -> int | None:
    """`axis` of an input, where it runs over the same channels as `out_axis` of the output."""
    if axis is None or out_axis is None or axis < 0 or axis == row_axis(shape):
        return None
    return axis if shape[axis] == output[out_axis] > 1 else None


@dataclass(frozen=True, slots=True)
class Channelwise(Op):
    """Common answers of operators that can treat every channel by itself.

    A kind overrides `mixes` where it joins channels, or its constants are not cut with them.
    """

    def mixes(self, axis: int, output: Shape) -> bool:
        """Whether outputs along `axis` depend on one another's inputs or share constants."""
        return False

    def channel_axis(self, output: Shape) -> int | None:
        axis = plain_channel_axis(output)
        return None if axis is None or self.mixes(axis, output) else axis

    def input_channel_axis(
        self, index: int, inputs: tuple[Shape, ...], output: Shape
    ) -> int | None:
        shape, axis = inputs[index], self.channel_axis(output)
        if axis is None:
            return None
        # aligned at the last axis, as broadcasting does
        return _same_extent(shape, axis + len(shape) - len(output), output, axis)


def _one(op: Op, inputs: tuple[Shape, ...], rank: int = 0) -> Shape:
    if len(inputs) != 1:
        raise GraphError(f"{op.kind} takes one input", found=len(inputs))
    if len(inputs[0]) < rank:
        raise GraphError(f"{op.kind} needs at least {rank} axes", found=inputs[0])
    return inputs[0]


def _spatial_output(
    op: Op, size: Shape, kernel: Shape, stride: Shape, dilation: Shape, pads: Shape,
    ceil_mode: bool = False,
) -> Shape:  # fmt: skip
    rank = len(kernel)
    result = []
    for i, extent in enumerate(size):
        span = extent + pads[i] + pads[rank + i] - dilation[i] * (kernel[i] - 1) - 1
        if span < 0:
            raise GraphError(f"the {op.kind} kernel is larger than the padded input", found=size)
        steps = ceil_div(span, stride[i]) if ceil_mode else span // stride[i]
        # a window that starts in the end padding does not count (ONNX, PyTorch)
        if ceil_mode and steps * stride[i] >= extent + pads[i]:
            steps -= 1
        result.append(steps + 1)
    return tuple(result)


def _window_rows(
    shape: Shape, kernel: Shape, stride: Shape, dilation: Shape, pads: Shape, back: int = 2
) -> RowMap:
    """Map of the axis `back` from the end: 2 for rows, 1 for columns."""
    i = len(kernel) - back
    if i < 0:
        return WHOLE
    reach = dilation[i] * (kernel[i] - 1)
    return RowMap(len(shape) - back, stride[i], -pads[i], -pads[i] + reach)


@dataclass(frozen=True, slots=True)
class Conv(Op):
    """Convolution (grouped, depthwise, dilated, asymmetric padding), N C spatial.

    ``pads`` are all begins, then all ends, as in ONNX.
    """

    kind: ClassVar[str] = "conv"
    out_channels: int
    kernel: Shape
    stride: Shape
    pads: Shape
    dilation: Shape
    groups: int = 1
    bias: bool = False
    activation: str | None = None

    def infer(self, inputs: tuple[Shape, ...]) -> Shape:
        shape = _one(self, inputs, 3)
        if len(shape) != 2 + len(self.kernel):
            raise GraphError("conv kernel and input disagree in rank", found=shape)
        if shape[1] % self.groups or self.out_channels % self.groups:
            raise GraphError(
                f"conv channels are not divisible by groups={self.groups}", found=shape
            )
        size = _spatial_output(self, shape[2:], self.kernel, self.stride, self.dilation, self.pads)
        return (shape[0], self.out_channels, *size)

    def keeps_images(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> bool:
        return True

    def loops(self, inputs: tuple[Shape, ...], output: Shape) -> Loops:
        kernel, size = self.kernel, output[2:]
        return Loops(
            b=output[0] * math.prod(size[:-2]),
            g=self.groups,
            k=self.out_channels // self.groups,
            c=inputs[0][1] // self.groups * math.prod(kernel[:-2]),
            oy=size[-2] if len(size) > 1 else 1,
            ox=size[-1],
            fy=kernel[-2] if len(kernel) > 1 else 1,
            fx=kernel[-1],
        )

    def vector_ops(self, inputs: tuple[Shape, ...], output: Shape) -> int:
        return 0

    def input_rows(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> RowMap:
        return _window_rows(inputs[0], self.kernel, self.stride, self.dilation, self.pads)

    def input_columns(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> RowMap:
        return _window_rows(inputs[0], self.kernel, self.stride, self.dilation, self.pads, 1)

    def channel_axis(self, output: Shape) -> int | None:
        return 1 if len(output) >= 4 else None

    def channel_step(self) -> int:
        return self.out_channels // self.groups if self.groups > 1 else 1

    def input_channel_axis(
        self, index: int, inputs: tuple[Shape, ...], output: Shape
    ) -> int | None:
        # groups begin at the same channel on both sides
        same = self.groups > 1 and inputs[0][1] == self.out_channels
        return self.channel_axis(output) if same else None


@dataclass(frozen=True, slots=True)
class ConvTranspose(Op):
    """Transposed convolution; ``output_pads`` per spatial axis."""

    kind: ClassVar[str] = "conv_transpose"
    out_channels: int
    kernel: Shape
    stride: Shape
    pads: Shape
    dilation: Shape
    output_pads: Shape
    groups: int = 1
    bias: bool = False
    activation: str | None = None

    def infer(self, inputs: tuple[Shape, ...]) -> Shape:
        shape = _one(self, inputs, 3)
        rank = len(self.kernel)
        if len(shape) != 2 + rank or shape[1] % self.groups:
            raise GraphError("conv_transpose kernel, groups and input disagree", found=shape)
        size = tuple(
            self.stride[i] * (shape[2 + i] - 1)
            + self.dilation[i] * (self.kernel[i] - 1) + 1
            + self.output_pads[i] - self.pads[i] - self.pads[rank + i]
            for i in range(rank)
        )  # fmt: skip
        if min(size) < 1:
            raise GraphError("conv_transpose output is empty", found=size)
        return (shape[0], self.out_channels, *size)

    def keeps_images(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> bool:
        return True

    def loops(self, inputs: tuple[Shape, ...], output: Shape) -> Loops:
        # Every input pixel meets every tap once: counted per output row by spreading the input
        # pixels evenly, fy*fx taps over stride*stride output pixels.
        taps = [ceil_div(k, s) for k, s in zip(self.kernel, self.stride, strict=True)]
        return Loops(
            b=output[0] * math.prod(output[2:-2]),
            g=self.groups,
            k=self.out_channels // self.groups,
            c=inputs[0][1] // self.groups * math.prod(taps[:-2]),
            oy=output[-2] if len(output) > 3 else 1,
            ox=output[-1],
            fy=taps[-2] if len(taps) > 1 else 1,
            fx=taps[-1],
        )

    def vector_ops(self, inputs: tuple[Shape, ...], output: Shape) -> int:
        return 0

    def input_rows(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> RowMap:
        return self._spread(inputs[0], 2)

    def input_columns(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> RowMap:
        return self._spread(inputs[0], 1)

    def _spread(self, shape: Shape, back: int) -> RowMap:
        """Map of the axis `back` from the end: 2 for rows, 1 for columns."""
        i = len(self.kernel) - back
        if i < 0:
            return WHOLE
        reach, stride = self.dilation[i] * (self.kernel[i] - 1), self.stride[i]
        first = self.pads[i] - reach + stride - 1
        return RowMap(len(shape) - back, 1, first, self.pads[i], stride)

    def channel_axis(self, output: Shape) -> int | None:
        return 1 if len(output) >= 4 else None

    def channel_step(self) -> int:
        return self.out_channels // self.groups if self.groups > 1 else 1

    def input_channel_axis(
        self, index: int, inputs: tuple[Shape, ...], output: Shape
    ) -> int | None:
        same = self.groups > 1 and inputs[0][1] == self.out_channels
        return self.channel_axis(output) if same else None


@dataclass(frozen=True, slots=True)
class Linear(Op):
    """Matrix product with a weight matrix over the last axis (gemm, fully connected)."""

    kind: ClassVar[str] = "linear"
    out_features: int
    bias: bool = False
    activation: str | None = None

    def infer(self, inputs: tuple[Shape, ...]) -> Shape:
        return (*_one(self, inputs, 1)[:-1], self.out_features)

    def keeps_images(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> bool:
        return len(output) > 1

    def loops(self, inputs: tuple[Shape, ...], output: Shape) -> Loops:
        rows = row_count(output)
        return Loops(
            b=math.prod(output[:-1]) // rows, k=self.out_features, c=inputs[0][-1], oy=rows
        )

    def vector_ops(self, inputs: tuple[Shape, ...], output: Shape) -> int:
        return 0

    def channel_axis(self, output: Shape) -> int | None:
        return len(output) - 1


@dataclass(frozen=True, slots=True)
class MatMul(Op):
    """Product of two activations, batched and broadcast over the leading axes."""

    kind: ClassVar[str] = "matmul"
    channel_loop: ClassVar[str] = "b"
    transpose_b: bool = False
    activation: str | None = None

    def infer(self, inputs: tuple[Shape, ...]) -> Shape:
        if len(inputs) != 2 or min(len(shape) for shape in inputs) < 2:
            raise GraphError("matmul takes two inputs of at least two axes", found=inputs)
        left, right = inputs
        inner, columns = (right[-1], right[-2]) if self.transpose_b else (right[-2], right[-1])
        if left[-1] != inner:
            raise GraphError(f"matmul cannot multiply {left} by {right}")
        return (*broadcast((left[:-2], right[:-2])), left[-2], columns)

    def keeps_images(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> bool:
        return len(inputs[index]) == len(output) and (len(output) > 2 or index == 0)

    def loops(self, inputs: tuple[Shape, ...], output: Shape) -> Loops:
        return Loops(b=math.prod(output[:-2]), k=output[-1], c=inputs[0][-1], oy=output[-2])

    def vector_ops(self, inputs: tuple[Shape, ...], output: Shape) -> int:
        return 0

    def input_rows(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> RowMap:
        return same_row(inputs[0]) if index == 0 else WHOLE

    def input_columns(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> RowMap:
        # output columns are those of the right factor
        return RowMap(len(inputs[1]) - (2 if self.transpose_b else 1)) if index else WHOLE

    def channel_axis(self, output: Shape) -> int | None:
        # the innermost batch axis (heads of attention): products of their own
        return len(output) - 3 if len(output) >= 3 else None

    def input_channel_axis(
        self, index: int, inputs: tuple[Shape, ...], output: Shape
    ) -> int | None:
        shape, axis = inputs[index], self.channel_axis(output)
        return _same_extent(shape, len(shape) - 3, output, axis)


@dataclass(frozen=True, slots=True)
class Pool(Channelwise):
    """Max or average pooling with a window."""

    kind: ClassVar[str] = "pool"
    mode: str
    kernel: Shape
    stride: Shape
    pads: Shape
    dilation: Shape
    ceil_mode: bool = False
    count_include_pad: bool = False
    activation: str | None = None

    def infer(self, inputs: tuple[Shape, ...]) -> Shape:
        shape = _one(self, inputs, 3)
        if len(shape) != 2 + len(self.kernel):
            raise GraphError("pool kernel and input disagree in rank", found=shape)
        size = _spatial_output(
            self, shape[2:], self.kernel, self.stride, self.dilation, self.pads, self.ceil_mode
        )
        return (*shape[:2], *size)

    def keeps_images(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> bool:
        return True

    def vector_ops(self, inputs: tuple[Shape, ...], output: Shape) -> int:
        return math.prod(output) * math.prod(self.kernel)

    def input_rows(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> RowMap:
        return _window_rows(inputs[0], self.kernel, self.stride, self.dilation, self.pads)

    def input_columns(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> RowMap:
        return _window_rows(inputs[0], self.kernel, self.stride, self.dilation, self.pads, 1)

    def mixes(self, axis: int, output: Shape) -> bool:
        return axis != 1


@dataclass(frozen=True, slots=True)
class Reduce(Channelwise):
    """Reduction over axes (mean, sum, max, min ...); global pooling is a mean over space."""

    kind: ClassVar[str] = "reduce"
    mode: str
    axes: Shape
    keepdims: bool = True
    activation: str | None = None

    def infer(self, inputs: tuple[Shape, ...]) -> Shape:
        shape = _one(self, inputs)
        axes = {axis % len(shape) for axis in self.axes}
        if self.keepdims:
            return tuple(1 if i in axes else n for i, n in enumerate(shape))
        return tuple(n for i, n in enumerate(shape) if i not in axes)

    def keeps_images(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> bool:
        return all(axis % len(inputs[0]) for axis in self.axes)

    def vector_ops(self, inputs: tuple[Shape, ...], output: Shape) -> int:
        return math.prod(inputs[0])

    def input_rows(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> RowMap:
        shape = inputs[0]
        axis = self._source_axis(row_axis(output), shape)
        return WHOLE if axis is None else RowMap(axis)

    def input_columns(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> RowMap:
        axis = self._source_axis(len(output) - 1 if output else None, inputs[0])
        return WHOLE if axis is None else RowMap(axis)

    def _source_axis(self, axis: int | None, shape: Shape) -> int | None:
        """Axis of the input that an output axis runs over; None where it is reduced."""
        reduced = {axis % len(shape) for axis in self.axes}
        kept = [i for i in range(len(shape)) if self.keepdims or i not in reduced]
        return None if axis is None or kept[axis] in reduced else kept[axis]

    def input_channel_axis(
        self, index: int, inputs: tuple[Shape, ...], output: Shape
    ) -> int | None:
        axis = self.channel_axis(output)
        return _same_extent(inputs[0], self._source_axis(axis, inputs[0]), output, axis)


@dataclass(frozen=True, slots=True)
class Unary(Channelwise):
    """Element-wise function of one input: relu, sigmoid, gelu ... (`mode`)."""

    kind: ClassVar[str] = "unary"
    mode: str

    def infer(self, inputs: tuple[Shape, ...]) -> Shape:
        return _one(self, inputs)

    def keeps_images(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> bool:
        return True

    def input_columns(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> RowMap:
        return same_column(inputs[index], output)

    def in_place(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Binary(Channelwise):
    """Element-wise function of inputs with broadcasting: add, mul, sub, div, max ... (`mode`).

    Variadic (ONNX Sum, Where); one operand may be a constant, which is then not an input but a
    weight of the layer, and ``constant_shape`` is its shape.
    """

    kind: ClassVar[str] = "binary"
    mode: str
    constant_shape: Shape | None = None
    activation: str | None = None

    def infer(self, inputs: tuple[Shape, ...]) -> Shape:
        return broadcast(inputs if self.constant_shape is None else (*inputs, self.constant_shape))

    def keeps_images(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> bool:
        return len(inputs[index]) == len(output)

    def vector_ops(self, inputs: tuple[Shape, ...], output: Shape) -> int:
        operands = len(inputs) + (self.constant_shape is not None)
        return math.prod(output) * max(1, operands - 1)

    def input_rows(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> RowMap:
        if row_count(inputs[index]) != row_count(output) or len(inputs[index]) < 2:
            return WHOLE
        return same_row(inputs[index])

    def input_columns(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> RowMap:
        return same_column(inputs[index], output)

    def mixes(self, axis: int, output: Shape) -> bool:
        if self.constant_shape is None:
            return False
        own = axis + len(self.constant_shape) - len(output)
        return own < 0 or self.constant_shape[own] != output[axis]

    def in_place(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> bool:
        return inputs[index] == output


@dataclass(frozen=True, slots=True)
class Softmax(Channelwise):
    """Softmax along one axis: max, subtract, exponential, sum, divide."""

    kind: ClassVar[str] = "softmax"
    axis: int = -1

    def infer(self, inputs: tuple[Shape, ...]) -> Shape:
        return _one(self, inputs)

    def keeps_images(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> bool:
        return self.axis % max(1, len(output)) != 0

    def vector_ops(self, inputs: tuple[Shape, ...], output: Shape) -> int:
        return 5 * math.prod(output)

    def input_rows(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> RowMap:
        shape = inputs[0]
        return WHOLE if self.axis % len(shape) == row_axis(shape) else same_row(shape)

    def input_columns(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> RowMap:
        last = len(output) - 1
        return WHOLE if self.axis % len(output) == last else RowMap(last)

    def mixes(self, axis: int, output: Shape) -> bool:
        return axis == self.axis % len(output)


@dataclass(frozen=True, slots=True)
class Normalize(Channelwise):
    """Layer, group, instance or RMS normalisation over ``axes`` (statistics are computed)."""

    kind: ClassVar[str] = "normalize"
    mode: str
    axes: Shape
    affine: bool = True
    activation: str | None = None

    def infer(self, inputs: tuple[Shape, ...]) -> Shape:
        return _one(self, inputs)

    def keeps_images(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> bool:
        return all(axis % len(output) for axis in self.axes)

    def vector_ops(self, inputs: tuple[Shape, ...], output: Shape) -> int:
        # mean, centred square and sum, scale, shift
        return 5 * math.prod(output)

    def input_rows(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> RowMap:
        shape = inputs[0]
        axes = {axis % len(shape) for axis in self.axes}
        return WHOLE if row_axis(shape) in axes else same_row(shape)

    def input_columns(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> RowMap:
        last = len(output) - 1
        return WHOLE if last in {axis % len(output) for axis in self.axes} else RowMap(last)

    def mixes(self, axis: int, output: Shape) -> bool:
        # scale and shift of an instance normalisation alone have one value a channel
        own_constants = not self.affine or self.mode == "instance"
        return axis in {a % len(output) for a in self.axes} or not own_constants


@dataclass(frozen=True, slots=True)
class BatchNorm(Channelwise):
    """Batch normalisation at inference: a per-channel scale and shift (channels on axis 1)."""

    kind: ClassVar[str] = "batch_norm"
    activation: str | None = None

    def infer(self, inputs: tuple[Shape, ...]) -> Shape:
        return _one(self, inputs, 2)

    def keeps_images(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> bool:
        return True

    def input_columns(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> RowMap:
        return same_column(inputs[index], output)

    def vector_ops(self, inputs: tuple[Shape, ...], output: Shape) -> int:
        return 2 * math.prod(output)

    def mixes(self, axis: int, output: Shape) -> bool:
        return axis != 1

    def in_place(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Concat(Channelwise):
    """Concatenation along one axis.

    ``constants`` are the positions and shapes of pieces that are constants (a class token): they
    are weights of the layer, not inputs.
    """

    kind: ClassVar[str] = "concat"
    axis: int
    constants: tuple[tuple[int, Shape], ...] = ()

    def pieces(self, inputs: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """Shapes of all pieces, constants included, in their order."""
        pieces = list(inputs)
        for position, shape in self.constants:
            pieces.insert(position, shape)
        return tuple(pieces)

    def position(self, index: int) -> int:
        """Place of input `index` among the pieces."""
        for position, _ in self.constants:
            if position <= index:
                index += 1
        return index

    def infer(self, inputs: tuple[Shape, ...]) -> Shape:
        if not inputs:
            raise GraphError("concat takes at least one input")
        pieces = self.pieces(inputs)
        axis = self.axis % len(pieces[0])
        for shape in pieces:
            if shape[:axis] + shape[axis + 1 :] != pieces[0][:axis] + pieces[0][axis + 1 :]:
                raise GraphError(f"concat on axis {self.axis} cannot join", found=pieces)
        total = sum(shape[axis] for shape in pieces)
        return (*pieces[0][:axis], total, *pieces[0][axis + 1 :])

    def keeps_images(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> bool:
        return self.axis % len(output) != 0

    def input_rows(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> RowMap:
        if self.axis % len(output) != row_axis(output):
            return same_row(inputs[index])
        return self.behind(index, inputs, len(output) - 2)

    def input_columns(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> RowMap:
        last = len(output) - 1
        along = self.axis % len(output) == last
        return self.behind(index, inputs, last) if along else RowMap(last)

    def behind(self, index: int, inputs: tuple[Shape, ...], axis: int) -> RowMap:
        """Map of an input along the axis of the concatenation: less what stands before it."""
        before = self.pieces(inputs)[: self.position(index)]
        offset = sum(shape[axis] for shape in before)
        return RowMap(axis, 1, -offset, -offset)

    def mixes(self, axis: int, output: Shape) -> bool:
        return axis == self.axis % len(output) or bool(self.constants)


@dataclass(frozen=True, slots=True)
class Slice(Channelwise):
    """A part of the input: per axis ``(begin, size, step)``; one output of a split."""

    kind: ClassVar[str] = "slice"
    begins: Shape
    sizes: Shape
    steps: Shape

    def infer(self, inputs: tuple[Shape, ...]) -> Shape:
        shape = _one(self, inputs)
        if not len(shape) == len(self.begins) == len(self.sizes) == len(self.steps):
            raise GraphError("slice names another number of axes than its input", found=shape)
        for extent, begin, size, step in zip(
            shape, self.begins, self.sizes, self.steps, strict=True
        ):
            last = begin + (size - 1) * step
            if size < 1 or step == 0 or not (0 <= begin < extent and 0 <= last < extent):
                raise GraphError("slice reaches outside its input", found=shape)
        return self.sizes

    def keeps_images(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> bool:
        return self.begins[0] == 0 and self.steps[0] == 1

    def input_rows(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> RowMap:
        return self._stepped(row_axis(output))

    def input_columns(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> RowMap:
        return self._stepped(len(output) - 1 if output else None)

    def _stepped(self, axis: int | None) -> RowMap:
        if axis is None or self.steps[axis] < 1:
            return WHOLE
        return RowMap(axis, self.steps[axis], self.begins[axis], self.begins[axis])

    def mixes(self, axis: int, output: Shape) -> bool:
        return self.begins[axis] != 0 or self.steps[axis] != 1


@dataclass(frozen=True, slots=True)
class Pad(Channelwise):
    """Padding; ``pads`` are all begins, then all ends. Negative pads crop."""

    kind: ClassVar[str] = "pad"
    pads: Shape
    mode: str = "constant"
    value: float = 0.0

    def infer(self, inputs: tuple[Shape, ...]) -> Shape:
        shape = _one(self, inputs)
        rank = len(shape)
        if len(self.pads) != 2 * rank:
            raise GraphError("pad needs a begin and an end for every axis", found=self.pads)
        result = tuple(n + self.pads[i] + self.pads[rank + i] for i, n in enumerate(shape))
        if min(result) < 1:
            raise GraphError("pad leaves nothing of its input", found=shape)
        return result

    def keeps_images(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> bool:
        return self.pads[0] == 0 and self.pads[len(output)] == 0

    def input_rows(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> RowMap:
        return self._shifted(row_axis(output), output)

    def input_columns(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> RowMap:
        return self._shifted(len(output) - 1 if output else None, output)

    def _shifted(self, axis: int | None, output: Shape) -> RowMap:
        if axis is None:
            return WHOLE
        moved = self.pads[axis] or self.pads[len(output) + axis]
        if moved and self.mode != "constant":
            return WHOLE
        return RowMap(axis, 1, -self.pads[axis], -self.pads[axis])

    def mixes(self, axis: int, output: Shape) -> bool:
        return self.pads[axis] != 0 or self.pads[len(output) + axis] != 0


@dataclass(frozen=True, slots=True)
class Resize(Channelwise):
    """Nearest or linear up- and downsampling to a given output shape.

    ``coordinates`` is the ONNX coordinate transformation mode. The row map is exact for
    nearest/asymmetric with floor rounding and otherwise takes one row more on either side.
    """

    kind: ClassVar[str] = "resize"
    output: Shape
    mode: str = "nearest"
    coordinates: str = "asymmetric"
    rounding: str = "floor"

    def infer(self, inputs: tuple[Shape, ...]) -> Shape:
        if len(_one(self, inputs)) != len(self.output):
            raise GraphError("resize changes the number of axes", found=inputs[0])
        return self.output

    def keeps_images(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> bool:
        return inputs[0][0] == output[0]

    def vector_ops(self, inputs: tuple[Shape, ...], output: Shape) -> int:
        return math.prod(output) * {"nearest": 1, "linear": 4, "cubic": 16}.get(self.mode, 4)

    def input_rows(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> RowMap:
        return self._scaled(row_axis(output), inputs[0], output)

    def input_columns(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> RowMap:
        return self._scaled(len(output) - 1 if output else None, inputs[0], output)

    def _scaled(self, axis: int | None, shape: Shape, output: Shape) -> RowMap:
        if axis is None:
            return WHOLE
        rows_in, rows_out = shape[axis], output[axis]
        if rows_in == rows_out:
            return RowMap(axis)
        plain = (self.mode, self.coordinates, self.rounding) == ("nearest", "asymmetric", "floor")
        if self.coordinates not in ("asymmetric", "half_pixel", "pytorch_half_pixel"):
            return WHOLE
        margin = 0 if plain else (2 if self.mode == "cubic" else 1) * rows_out
        return RowMap(axis, rows_in, -margin, margin, rows_out)


@dataclass(frozen=True, slots=True)
class Transpose(Op):
    """Permutation of the axes; ``shape`` is the shape under which the result is seen, if another.

    Heads joined again, ``(1, tokens, heads, features)`` seen as ``(1, tokens, heads * features)``,
    so have tokens as their rows.
    """

    kind: ClassVar[str] = "transpose"
    perm: Shape
    shape: Shape | None = None

    def infer(self, inputs: tuple[Shape, ...]) -> Shape:
        shape = _one(self, inputs)
        if sorted(self.perm) != list(range(len(shape))):
            raise GraphError(f"transpose by {self.perm} does not fit its input", found=shape)
        moved = tuple(shape[axis] for axis in self.perm)
        if self.shape is None:
            return moved
        if math.prod(self.shape) != math.prod(moved):
            raise GraphError(f"cannot view {moved} as {self.shape}")
        return self.shape

    def keeps_images(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> bool:
        return self.perm[0] == 0 and output[0] % inputs[0][0] == 0

    def input_rows(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> RowMap:
        return self._moved(row_axis(output), inputs[0], output)

    def input_columns(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> RowMap:
        return self._moved(len(output) - 1 if output else None, inputs[0], output)

    def _moved(self, axis: int | None, shape: Shape, output: Shape) -> RowMap:
        """Map along an output axis that runs over an axis of the input as it lies there."""
        if axis is None:
            return WHOLE
        moved = tuple(shape[axis] for axis in self.perm)
        before = math.prod(output[:axis])
        for i, extent in enumerate(moved):
            if extent == output[axis] and math.prod(moved[:i]) == before:
                return RowMap(self.perm[i])
        return WHOLE


@dataclass(frozen=True, slots=True)
class Gather(Op):
    """Selection along an axis by indices; embedding look-up where the table is a weight.

    ``indices_shape`` is set where the indices are constant (then no input), ``table_shape``
    where the table is.
    """

    kind: ClassVar[str] = "gather"
    axis: int
    indices_shape: Shape | None = None
    table_shape: Shape | None = None

    def infer(self, inputs: tuple[Shape, ...]) -> Shape:
        rest = list(inputs)
        table = self.table_shape if self.table_shape is not None else rest.pop(0)
        indices = self.indices_shape if self.indices_shape is not None else rest.pop(0)
        if rest:
            raise GraphError("gather has inputs left over", found=inputs)
        axis = self.axis % len(table)
        return (*table[:axis], *indices, *table[axis + 1 :])

    def keeps_images(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> bool:
        table = inputs[0] if self.table_shape is None else self.table_shape
        along_first = self.axis % len(table) == 0
        # an input of a constant table is the indices
        is_table = self.table_shape is None and index == 0
        return along_first is not is_table

    def input_rows(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> RowMap:
        return WHOLE


@dataclass(frozen=True, slots=True)
class View(Op):
    """Reshape, flatten, squeeze, unsqueeze, identity: the same bytes under another shape."""

    kind: ClassVar[str] = "view"
    is_view: ClassVar[bool] = True
    shape: Shape

    def infer(self, inputs: tuple[Shape, ...]) -> Shape:
        if math.prod(_one(self, inputs)) != math.prod(self.shape):
            raise GraphError(f"cannot view {inputs[0]} as {self.shape}")
        return self.shape

    def vector_ops(self, inputs: tuple[Shape, ...], output: Shape) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class Opaque(Op):
    """An operator that spm_opt does not know, of known shapes: runs untiled and unfused."""

    kind: ClassVar[str] = "opaque"
    tileable: ClassVar[bool] = False
    type: str
    output: Shape

    def infer(self, inputs: tuple[Shape, ...]) -> Shape:
        return self.output

    def vector_ops(self, inputs: tuple[Shape, ...], output: Shape) -> int:
        return sum(math.prod(shape) for shape in inputs) + math.prod(output)

    def input_rows(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> RowMap:
        return WHOLE


def broadcast(shapes: tuple[Shape, ...]) -> Shape:
    """Shape of an element-wise result (numpy's rule). Raises GraphError on a mismatch."""
    rank = max((len(shape) for shape in shapes), default=0)
    padded = [(1,) * (rank - len(shape)) + tuple(shape) for shape in shapes]
    result = []
    for extents in zip(*padded, strict=True):
        wide = {extent for extent in extents if extent != 1}
        if len(wide) > 1:
            raise GraphError("shapes do not broadcast", found=shapes)
        result.append(wide.pop() if wide else 1)
    return tuple(result)


KINDS: dict[str, type[Op]] = {
    kind.kind: kind
    for kind in (
        Conv, ConvTranspose, Linear, MatMul, Pool, Reduce, Unary, Binary, Softmax, Normalize,
        BatchNorm, Concat, Slice, Pad, Resize, Transpose, Gather, View, Opaque,
    )
}  # fmt: skip
