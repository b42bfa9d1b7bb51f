"""C text of constants: numbers, arrays, structs. Nothing here knows operators."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from spm_opt.errors import GraphError
from spm_opt.graph.network import Network, Tensor
from spm_opt.graph.ops import Shape, row_axis
from spm_opt.graph.values import Quantization

#: axes that the kernels' loops have
MOST_AXES: Final = 8
#: element types that the kernels compute with, as the kernels call them
C_DTYPES: Final = {
    "bool": "SPM_BOOL", "int8": "SPM_I8", "uint8": "SPM_U8", "int16": "SPM_I16",
    "uint16": "SPM_U16", "int32": "SPM_I32", "uint32": "SPM_U32", "int64": "SPM_I64",
    "uint64": "SPM_U64", "float32": "SPM_F32", "float64": "SPM_F64",
}  # fmt: skip
#: least and greatest integer of the types that maps are quantised to
RANGES: Final = {
    "int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767), "uint16": (0, 65535),
    "int32": (-(2**31), 2**31 - 1), "uint32": (0, 2**32 - 1),
}  # fmt: skip


def c_dtype(name: str, dtype: str) -> str:
    """The kernels' name of an element type. Raises GraphError naming what has another one."""
    if dtype not in C_DTYPES:
        raise GraphError(
            "no kernel computes with this element type", field=name, found=dtype, allowed=C_DTYPES
        )
    return C_DTYPES[dtype]


def c_double(value: float) -> str:
    """A double, to the last bit."""
    if math.isnan(value):
        return "NAN"
    if math.isinf(value):
        return "INFINITY" if value > 0 else "-INFINITY"
    return repr(float(value))


def c_list(values: Iterable[object]) -> str:
    """An initialiser of numbers, at least one (C has no empty ones)."""
    return "{" + (", ".join(str(value) for value in values) or "0") + "}"


def c_struct(**fields: object) -> str:
    """An initialiser by names; what is zero may stay away, and does."""
    shown = (
        f".{name} = {value}" for name, value in fields.items() if value not in (0, "0", "NULL")
    )
    return "{" + (", ".join(shown) or "0") + "}"


@dataclass(slots=True)
class Text:
    """Declarations of one layer: arrays named after `symbol`, in the order they are asked for."""

    symbol: str
    lines: list[str] = field(default_factory=list)
    known: dict[str, str] = field(default_factory=dict)

    def array(self, ctype: str, values: Iterable[object]) -> str:
        """Name of a constant array of these elements; equal ones are declared once."""
        return self.declare(f"{ctype}[]", c_list(values))

    def doubles(self, values: Iterable[float]) -> str:
        """Name of a constant array of doubles."""
        return self.array("double", (c_double(float(value)) for value in values))

    def table(self, values: NDArray[np.uint8] | None) -> str:
        """Name of a table of bytes, or NULL."""
        return "NULL" if values is None else self.array("uint8_t", values.tolist())

    def declare(self, ctype: str, initialiser: str) -> str:
        """Name of a constant of this type."""
        key = ctype + initialiser
        if key not in self.known:
            name = f"{self.symbol}_{len(self.known)}"
            self._write(ctype, name, initialiser)
            self.known[key] = name
        return self.known[key]

    def finish(self, ctype: str, initialiser: str) -> str:
        """All declarations, and last that of `symbol` itself."""
        self._write(ctype, self.symbol, initialiser)
        return "\n".join(self.lines) + "\n"

    def _write(self, ctype: str, name: str, initialiser: str) -> None:
        base, brackets = (ctype[:-2], "[]") if ctype.endswith("[]") else (ctype, "")
        line = f"static const {base} {name}{brackets} = {initialiser};"
        self.lines.append(
            textwrap.fill(line, 100, subsequent_indent="    ", break_long_words=False,
                          break_on_hyphens=False)
        )  # fmt: skip


def strides(shape: Shape) -> Shape:
    """Elements from an index to the next of each axis, in row-major order."""
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


def broadcast_strides(shape: Shape, output: Shape) -> Shape:
    """Strides of `shape` over the axes of `output`, zero where it is broadcast (numpy's rule)."""
    own = tuple(s if n > 1 else 0 for n, s in zip(shape, strides(shape), strict=True))
    return (0,) * (len(output) - len(shape)) + own


def map_text(network: Network, tensor: Tensor, scaling: Quantization | None) -> str:
    """How a map lies (``spm_map``): logical order, row axis, axis of its channels."""
    shape, axis = tensor.shape, network.channel_axes.get(tensor.name)
    if math.prod(shape) >= 2**31:
        raise GraphError("the kernels count elements in 31 bits", field=tensor.name, found=shape)
    return c_struct(
        dtype=c_dtype(tensor.name, tensor.dtype), **_image_extents(tensor, axis),
        **scaling_fields(scaling),
    )  # fmt: skip


def scaling_fields(scaling: Quantization | None) -> dict[str, str]:
    """Fields ``scale`` and ``zero``; a scale of 0 stands for plain numbers."""
    if scaling is None:
        return {}
    return {"scale": c_double(scaling.scale), "zero": str(scaling.zero_point)}


def _image_extents(tensor: Tensor, axis: int | None) -> dict[str, object]:
    if tensor.images == 1:
        return {"images": 1, **_extents(tensor.shape, axis)}
    inner = None if axis is None else axis - 1
    return {"images": tensor.images, **_extents(tensor.shape[1:], inner)}


def _extents(shape: Shape, axis: int | None) -> dict[str, object]:
    rows = row_axis(shape)
    if rows is None:
        count = math.prod(shape)
        if axis is not None:
            return _order(last_channels=count)
        return _order(last=count)
    lead, extent = shape[:rows], shape[rows]
    if axis is None:
        return _order(mid=math.prod(lead), rows=extent, last=shape[-1])
    if axis == len(shape) - 1:
        return _order(lead=math.prod(lead), rows=extent, last_channels=shape[-1])
    return _order(
        lead=math.prod(lead[:axis]), channels=shape[axis], mid=math.prod(lead[axis + 1 :]),
        rows=extent, last=shape[-1],
    )  # fmt: skip


def _order(
    lead: int = 1, channels: int = 1, mid: int = 1, rows: int = 1, last: int = 1,
    last_channels: int | None = None,
) -> dict[str, object]:  # fmt: skip
    if last_channels is not None:
        channels = last_channels
    return {"channel_last": int(last_channels is not None), "lead": lead, "channels": channels,
            "mid": mid, "rows": rows, "last": last}  # fmt: skip


def loop_text(name: str, map_: str, shape: Shape) -> str:
    """A loop over an output (``spm_loop``) of this shape."""
    return c_struct(map=map_, rank=max(1, check_axes(name, shape)), extent=c_list(shape or (1,)))


def check_axes(name: str, shape: Shape) -> int:
    """Number of axes of `shape`. Raises GraphError where there are more than kernels loop over."""
    if len(shape) > MOST_AXES:
        raise GraphError(
            "the kernels have too few loops", field=name, found=shape, allowed=f"{MOST_AXES} axes"
        )
    return len(shape)


def operand_text(map_: str, strides_: Sequence[int], base: int = 0) -> str:
    """A map read in a loop (``spm_operand``)."""
    return c_struct(map=map_, base=base, stride=c_list(strides_))
