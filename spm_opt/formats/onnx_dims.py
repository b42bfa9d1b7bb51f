"""Input shapes of an ONNX model: symbolic dimensions and the batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx

from spm_opt.errors import InputError
from spm_opt.graph.ops import Shape


@dataclass(frozen=True, slots=True)
class Dimensions:
    """Extents of the symbolic dimensions, and whether the batch replaces a literal 1."""

    file: str
    sizes: Mapping[str, int]
    batch: int | None
    overrides: bool

    def shape(self, value: onnx.ValueInfoProto, is_input: bool = False) -> Shape | None:
        """Shape of a declared value; None where it is not fully known.

        Raises
        ------
        InputError
            For an input, if a dimension is not set.
        """
        dims = declared_dims(value)
        if dims is None:
            return None
        shape = [self.sizes.get(dim) if isinstance(dim, str) else dim for dim in dims]
        if self.overrides and len(shape) > 1 and shape[0] == 1:
            shape[0] = self.batch
        for axis, extent in enumerate(shape):
            if extent is None and is_input:
                raise self._unset(value.name, axis, str(dims[axis]))
        known = tuple(extent for extent in shape if extent is not None)
        return known if len(known) == len(shape) else None

    def _unset(self, name: str, axis: int, dim: str) -> InputError:
        how = "--batch N" if axis == 0 else f"--dim {dim}=N"
        return InputError(
            f"dimension {axis} of this input is symbolic ({dim!r}) and not set",
            file=self.file, field=name, allowed=f"a positive number, set by {how}",
        )  # fmt: skip


def declared_dims(value: onnx.ValueInfoProto) -> list[int | str] | None:
    """Extents that a file declares: numbers, or names of symbolic dimensions."""
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not kind.HasField("shape"):
        return None
    return [
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0
        else dim.dim_param or f"{value.name}[{axis}]"
        for axis, dim in enumerate(kind.shape.dim)
    ]  # fmt: skip


def dimensions(
    inputs: Sequence[onnx.ValueInfoProto], file: str, batch: int | None, dims: Mapping[str, int]
) -> Dimensions:
    """Decide what every symbolic dimension of the inputs is.

    Raises
    ------
    InputError
        For an extent that is not positive, a name that no input has, or a batch that no input
        can take.
    """
    shapes = [shape for value in inputs if (shape := declared_dims(value)) is not None]
    names = {dim for shape in shapes for dim in shape if isinstance(dim, str)}
    for name, extent in {**dims, **({} if batch is None else {"batch": batch})}.items():
        if extent < 1:
            raise InputError("must be positive", file=file, field=name, found=extent)
    for name in dims:
        if name not in names:
            raise InputError(
                "no input has this symbolic dimension",
                file=file, field=name, allowed=sorted(names) or "none",
            )  # fmt: skip
    if batch is None:
        return Dimensions(file, dict(dims), None, False)
    symbols = _batch_symbols(shapes) - set(dims)
    literal = any(len(shape) > 1 and shape[0] == 1 for shape in shapes)
    overrides = not symbols and literal and batch != 1
    if not symbols and not literal and not any(shape and shape[0] == batch for shape in shapes):
        raise InputError(
            "the model's batch is fixed", file=file, field="batch", found=batch,
            allowed=sorted({str(shape[0]) for shape in shapes if shape}),
        )  # fmt: skip
    return Dimensions(file, {**dict.fromkeys(symbols, batch), **dims}, batch, overrides)


def _batch_symbols(shapes: Sequence[Sequence[int | str]]) -> set[str]:
    """Symbolic first dimensions; only those called batch where some are."""
    first = {shape[0] for shape in shapes if shape and isinstance(shape[0], str)}
    every = {dim for shape in shapes for dim in shape if isinstance(dim, str)}
    called = {name for name in every if "batch" in name.lower()}
    return {str(name) for name in called or first}
