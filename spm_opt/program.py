"""Programs in Python: a schedule made C (`emit_c`), and C run on this machine (`run_c`).

Wires the rooms, like `spm_opt.api`: reads what the user names, emits or builds, and returns what
came of it. It has no rule of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from spm_opt.api import load_schedule
from spm_opt.errors import InputError
from spm_opt.formats.program_json import Manifest, ProgramMap, manifest_from_json
from spm_opt.result import Result
from spm_opt.schedule import Schedule

if TYPE_CHECKING:
    from spm_opt.graph.network import Network
    from spm_opt.graph.values import NetworkValues
    from spm_opt.program_reference import Difference

Array = NDArray[Any]
PathLike: TypeAlias = "str | os.PathLike[str]"

_MANIFEST: Final = "manifest.json"


@dataclass(frozen=True)
class Run:
    """What a program did.

    Attributes
    ----------
    manifest : Manifest
    compiler : str
    bytes_loaded, bytes_stored : int
        Over the DRAM pins, in whole bursts, as the schedule counts them.
    payload_loaded, payload_stored : int
        Bytes asked for.
    transfers, macs : int
    seconds : float
        Of the run, without reading and writing files.
    inputs, outputs : mapping of str to array
    difference : Difference or None
        To a reference, where one was named.
    """

    manifest: Manifest
    compiler: str
    bytes_loaded: int
    bytes_stored: int
    payload_loaded: int
    payload_stored: int
    transfers: int
    macs: int
    seconds: float
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    difference: Difference | None = None


def emit_c(
    schedule: PathLike | Schedule | Result,
    directory: PathLike,
    *,
    weights: PathLike | None = None,
    seed: int = 0,
) -> tuple[Path, ...]:
    """Write a schedule as portable C11 that computes its network.

    Parameters
    ----------
    schedule : path, Schedule or Result
        A ``schedule.json``, the directory that holds it, or the schedule itself.
    directory : path
        Made where it does not exist. The manifest is written last: where it stands, all does.
    weights : path, optional
        The ONNX file that was planned; without one, numbers are drawn (int8 and float32).
    seed : int
        Of the drawn numbers.

    Returns
    -------
    tuple of Path
        The files.

    Raises
    ------
    InputError
        Naming file, layer or tensor: it cannot be read, the schedule breaks a rule, the weights
        are another network's, or no kernel computes an operator or element type.
    """
    from spm_opt.emit.c_project import emit_project

    _require_seed(seed)
    found = _schedule(schedule)
    _require_valid(found)
    files = emit_project(found, _values(found.origin, weights, seed))
    return _write(Path(directory), files)


def run_c(
    directory: PathLike,
    *,
    inputs: Sequence[Array] | None = None,
    seed: int = 0,
    reference: PathLike | None = None,
) -> Run:
    """Build an emitted program with this machine's compiler, and run it once.

    Parameters
    ----------
    directory : path
        As `emit_c` wrote it.
    inputs : sequence of array, optional
        In the manifest's order, shapes and element types; drawn by default.
    seed : int
        Of drawn inputs.
    reference : path, optional
        An ONNX file to compare with; needs onnxruntime.

    Raises
    ------
    InputError
        If a file is missing or wrong, an input has another shape or type, there is no compiler,
        or the program fails.
    """
    from spm_opt.program_build import build

    _require_seed(seed)
    folder = Path(directory)
    manifest = _manifest(folder)
    given = _inputs(manifest, inputs, seed)
    if reference is not None:
        from spm_opt.program_reference import require_runtime

        require_runtime("--reference")
    program, compiler = build(folder, manifest.sources)
    counts, outputs = _execute(folder, program, manifest, given)
    names = [m.name for m in manifest.inputs]
    run = Run(manifest, compiler, inputs=dict(zip(names, given, strict=True)), outputs=outputs,
              **counts)  # fmt: skip
    return run if reference is None else _compared(run, reference)


def _require_seed(seed: int) -> None:
    if seed < 0:
        raise InputError("must not be negative", field="seed", found=seed)


# --- emitting ----------------------------------------------------------------------------------


def _schedule(schedule: PathLike | Schedule | Result) -> Schedule:
    if isinstance(schedule, Result):
        return schedule.schedule
    return schedule if isinstance(schedule, Schedule) else load_schedule(schedule)


def _require_valid(schedule: Schedule) -> None:
    from spm_opt.verify import verify

    violations = verify(schedule)
    if violations:
        raise InputError(
            f"the schedule breaks {len(violations)} rules (see spm-opt check); the first: "
            f"{violations[0]}",
            field="schedule",
        )


def _values(network: Network, weights: PathLike | None, seed: int) -> NetworkValues:
    if weights is None:
        from spm_opt.seeded import draw_values

        return draw_values(network, seed)
    from spm_opt.formats.onnx_values import read_values

    return read_values(os.fspath(weights), network)


def _write(folder: Path, files: Mapping[str, str | bytes]) -> tuple[Path, ...]:
    from spm_opt.formats.atomic import write_atomically, write_bytes_atomically

    order = sorted(files, key=lambda name: (name == _MANIFEST, name))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # a manifest of what stood there before must not describe half of something else
        (folder / _MANIFEST).unlink(missing_ok=True)
        for name in order:
            content = files[name]
            if isinstance(content, bytes):
                write_bytes_atomically(folder / name, content)
            else:
                write_atomically(folder / name, content)
    except OSError as error:
        where = error.filename or str(folder)
        raise InputError(f"cannot be written: {error.strerror}", file=str(where)) from None
    return tuple(folder / name for name in order)


# --- running -----------------------------------------------------------------------------------


def _manifest(folder: Path) -> Manifest:
    file = folder / _MANIFEST
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(f"cannot read the program: {reason}", file=str(file)) from None
    return manifest_from_json(text, str(file))


def _inputs(manifest: Manifest, inputs: Sequence[Array] | None, seed: int) -> list[Array]:
    if inputs is None:
        rng = np.random.default_rng(seed)
        return [_drawn(rng, expected) for expected in manifest.inputs]
    if len(inputs) != len(manifest.inputs):
        names = [expected.name for expected in manifest.inputs]
        field = names[len(inputs)] if len(inputs) < len(names) else "inputs"
        problem = "this input is missing" if len(inputs) < len(names) else "too many inputs"
        raise InputError(problem, field=field, found=len(inputs), allowed=", ".join(names))
    for array, expected in zip(inputs, manifest.inputs, strict=True):
        _check_input(np.asarray(array), expected)
    return [np.ascontiguousarray(array) for array in inputs]


def _check_input(array: Array, expected: ProgramMap) -> None:
    if array.shape != expected.shape:
        raise InputError("this input has another shape", field=expected.name, found=array.shape,
                         allowed=str(expected.shape))  # fmt: skip
    if array.dtype != np.dtype(expected.dtype):
        raise InputError("this input has another element type", field=expected.name,
                         found=str(array.dtype), allowed=expected.dtype)  # fmt: skip


def _drawn(rng: np.random.Generator, expected: ProgramMap) -> Array:
    dtype = np.dtype(expected.dtype)
    if dtype.kind == "f":
        return rng.standard_normal(expected.shape).astype(dtype)
    if expected.below or dtype.kind == "b":
        return rng.integers(0, expected.below or 2, expected.shape).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, expected.shape, dtype=dtype, endpoint=True)


def _execute(
    folder: Path, program: Path, manifest: Manifest, inputs: Sequence[Array]
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Counts and outputs of one run."""
    with tempfile.TemporaryDirectory() as place:
        command = [str(program.absolute()), "-o", place]
        for array, expected in zip(inputs, manifest.inputs, strict=True):
            file = Path(place) / expected.file
            file.write_bytes(array.tobytes())
            command += ["-i", str(file)]
        counts = _counted(command, folder)
        outputs = {made.name: _output(folder, Path(place), made) for made in manifest.outputs}
    return counts, outputs


def _counted(command: Sequence[str], folder: Path) -> dict[str, Any]:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(
            f"the program failed with {done.returncode}: {done.stderr.strip()[:500]}",
            file=str(folder / "network"),
        )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _output(folder: Path, place: Path, made: ProgramMap) -> Array:
    try:
        return np.frombuffer((place / made.file).read_bytes(), made.dtype).reshape(made.shape)
    except (OSError, ValueError):
        raise InputError("the program writes no such output", file=str(folder / _MANIFEST),
                         field=made.name) from None  # fmt: skip


def _compared(run: Run, reference: PathLike) -> Run:
    from dataclasses import replace

    from spm_opt.program_reference import compare_with

    found = compare_with(os.fspath(reference), run.manifest, run.inputs, run.outputs)
    return replace(run, difference=found)
