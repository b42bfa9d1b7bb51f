"""What onnxruntime makes of the same inputs, and how far a program's outputs are from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from spm_opt.errors import InputError
from spm_opt.formats.program_json import Manifest, ProgramMap

Array = NDArray[Any]

#: of the largest number of an output, in float32
RELATIVE_TOLERANCE: Final = 1e-4


@dataclass(frozen=True, slots=True)
class Difference:
    """How far the outputs are from a reference.

    Attributes
    ----------
    reference : str
        The file.
    output : str
        The output that is farthest off, in units of its tolerance.
    largest : float
        Its largest difference, in real numbers.
    tolerance : float
        What it may differ: 1e-4 of its largest number; a quantum where it is quantised; nothing
        where it holds indices.
    within : bool
        Whether every output is within its tolerance.
    """

    reference: str
    output: str
    largest: float
    tolerance: float
    within: bool


def require_runtime(field: str) -> None:
    """Raise InputError, naming the option that needs it, where onnxruntime is not installed."""
    if find_spec("onnxruntime") is None:
        raise InputError(
            "this needs onnxruntime, which is not installed (pip install onnxruntime)", field=field
        )


def compare_with(
    file: str, manifest: Manifest, inputs: Mapping[str, Array], outputs: Mapping[str, Array]
) -> Difference:
    """Run an ONNX file on the program's inputs and compare its outputs.

    Raises
    ------
    InputError
        Naming the file: it cannot be run, or has other inputs or outputs.
    """
    require_runtime("--reference")
    session = _session(file)
    feeds = {v.name: _fed(file, v, manifest, inputs) for v in session.get_inputs()}
    try:
        expected = session.run(None, feeds)
    except Exception as error:  # onnxruntime raises its own, unrelated types
        raise InputError(f"onnxruntime cannot run it: {error}", file=file) from None
    names = [value.name for value in session.get_outputs()]
    found = [
        _difference(file, name, np.asarray(array), manifest, outputs)
        for name, array in zip(names, expected, strict=True)
    ]
    worst = max(found, key=lambda d: (not d.within, d.largest / max(d.tolerance, 1e-30)))
    return Difference(file, worst.output, worst.largest, worst.tolerance, worst.within)


def fetched(
    file: str, content: bytes, inputs: Sequence[Array] | Mapping[str, Array]
) -> tuple[dict[str, Array], list[Array]]:
    """Inputs by name, and all outputs, of one run of a serialised model.

    Parameters
    ----------
    file : str
        Where it comes from, for errors.
    inputs : sequence or mapping of array
        In the order of the graph's inputs, or by name.

    Raises
    ------
    InputError
        If it cannot be run on them.
    """
    require_runtime("density")
    session = _session(file, content)
    names = [value.name for value in session.get_inputs()]
    feeds = dict(inputs) if isinstance(inputs, Mapping) else dict(zip(names, inputs, strict=False))
    if set(feeds) != set(names) or len(inputs) != len(names):
        raise InputError(
            "one array for each input", file=file, field="inputs", found=", ".join(feeds) or None,
            allowed=", ".join(names),
        )  # fmt: skip
    try:
        return feeds, [np.asarray(array) for array in session.run(None, feeds)]
    except Exception as error:  # onnxruntime raises its own, unrelated types
        raise InputError(f"onnxruntime cannot run it: {error}", file=file) from None


def _session(file: str, content: bytes | None = None) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # higher levels compute quantised models in integers, which saturate at 16 bits on processors
    # without dot products of bytes: another number on another machine, many quanta off
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    try:
        return onnxruntime.InferenceSession(
            content or file, options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise InputError(f"onnxruntime cannot read it: {error}", file=file) from None


def _fed(file: str, value: Any, manifest: Manifest, inputs: Mapping[str, Array]) -> Array:
    """One of the reference's inputs: as the program read it, or the reals that this stands for."""
    known = _named(value.name, manifest.inputs)
    if known is None:
        raise InputError("the program has no such input", file=file, field=value.name)
    array = inputs[known.name]
    return _real(array, known).astype(np.float32) if value.type == "tensor(float)" else array


def _named(name: str, maps: tuple[ProgramMap, ...]) -> ProgramMap | None:
    return next((m for m in maps if name == m.name or name in m.also_named), None)


def _real(array: Array, known: ProgramMap) -> Array:
    how = known.quantization
    if how is None:
        return array.astype(np.float64)
    return how.scale * (array.astype(np.float64) - how.zero_point)


def _difference(
    file: str, name: str, expected: Array, manifest: Manifest, outputs: Mapping[str, Array]
) -> Difference:
    known = _named(name, manifest.outputs)
    if known is None or expected.size != outputs[known.name].size:
        raise InputError("the program has no such output", file=file, field=name)
    stored = outputs[known.name].ravel()
    whole = expected.dtype.kind != "f"
    ours = stored.astype(np.float64) if whole else _real(stored, known)
    theirs = expected.ravel().astype(np.float64)
    tolerance = _tolerance(known, theirs, whole)
    same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
    with np.errstate(invalid="ignore"):
        largest = float(np.where(same, 0.0, np.abs(ours - theirs)).max(initial=0.0))
    return Difference(file, name, largest, tolerance, bool(largest <= tolerance))


def _tolerance(known: ProgramMap, expected: Array, whole: bool) -> float:
    if known.quantization is not None:
        # of real numbers float32 loses the last bits: a quantum is not one to the last of them
        return 1.0 if whole else known.quantization.scale * (1 + 1e-3)
    if known.dtype.startswith("float"):
        finite = np.abs(expected[np.isfinite(expected)])
        return RELATIVE_TOLERANCE * float(finite.max(initial=0.0))
    return 0.0
