"""The command ``spm-opt run``: builds and runs an emitted program. It has no rule of its own."""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from spm_opt.errors import InputError

if TYPE_CHECKING:
    from spm_opt.program import Run

EXIT_DIFFERENT: Final = 5
RUN_EPILOG: Final = (
    "Exit codes: 0 done; 1 an input is missing or wrong, there is no compiler, or the program "
    "failed: one message on standard error; 5 the outputs differ from the reference by more than "
    "the tolerance. The compiler is $CC, or the first of cc, gcc and clang that is installed."
)


def run(
    program: Annotated[
        Path, typer.Argument(metavar="CDIR", help="directory that spm-opt emit wrote")
    ],
    inputs: Annotated[
        list[Path] | None,
        typer.Option(
            "--input", metavar="X.npy", help="one for each input, in the manifest's order"
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", readable=False, help="write output_N.npy"),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(metavar="MODEL.onnx", help="compare with onnxruntime on the same inputs"),
    ] = None,
    seed: Annotated[int, typer.Option(help="of inputs that are not given")] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="one JSON object on standard output")
    ] = False,
) -> int:
    """Build a program that spm-opt emit wrote, run it once, and say what it counted."""
    from spm_opt.program import run_c

    if output is not None:
        from spm_opt.result import require_writable

        require_writable(output)
    given = [read_array(path) for path in inputs] if inputs else None
    done = run_c(program, inputs=given, seed=seed, reference=reference)
    files = {} if output is None else _save(done, output)
    figures = _figures(done, files)
    typer.echo(json.dumps(figures, indent=2, allow_nan=False) if as_json else _text(figures))
    return EXIT_DIFFERENT if done.difference is not None and not done.difference.within else 0


def read_array(path: Path) -> Any:
    """The array of a ``.npy`` file; InputError where it is none."""
    import numpy as np

    try:
        with path.open("rb") as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except OSError as error:
        reason = error.strerror or "it is no .npy file"
    except Exception:  # numpy raises unrelated types, where a header asks for too much memory, say
        # np.load would take archives of several arrays too
        reason = "it is no .npy file"
    raise InputError(f"cannot read the input: {reason}", file=str(path))


def _save(done: Run, folder: Path) -> dict[str, str]:
    import numpy as np

    from spm_opt.formats.atomic import write_bytes_atomically

    files = {}
    for i, (name, array) in enumerate(done.outputs.items()):
        content, path = io.BytesIO(), folder / f"output_{i}.npy"
        np.save(content, array)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_bytes_atomically(path, content.getvalue())
        except OSError as error:
            raise InputError(f"cannot be written: {error.strerror}", file=str(path)) from None
        files[name] = str(path)
    return files


def _figures(done: Run, files: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "model": done.manifest.model,
        "strategy": done.manifest.strategy,
        "compiler": done.compiler,
        "bytes_loaded": done.bytes_loaded,
        "bytes_stored": done.bytes_stored,
        "bytes_promised": done.manifest.promised_dram_bytes,
        "payload_loaded": done.payload_loaded,
        "payload_stored": done.payload_stored,
        "transfers": done.transfers,
        "macs": done.macs,
        "seconds": done.seconds,
        "outputs": [_output(name, array, files) for name, array in done.outputs.items()],
    }
    if done.difference is not None:
        largest = done.difference.largest
        found["reference"] = {
            "file": done.difference.reference,
            "output": done.difference.output,
            # JSON has neither NaN nor infinity
            "largest_difference": largest if math.isfinite(largest) else None,
            "tolerance": done.difference.tolerance,
            "within_tolerance": done.difference.within,
        }
    return found


def _output(name: str, array: Any, files: Mapping[str, str]) -> dict[str, Any]:
    found = {
        "name": name,
        "dtype": str(array.dtype),
        "shape": list(array.shape),
        "sha256": hashlib.sha256(array.tobytes()).hexdigest(),
    }
    return {**found, "file": files[name]} if name in files else found


def _text(figures: Mapping[str, Any]) -> str:
    moved = figures["bytes_loaded"] + figures["bytes_stored"]
    kept = "as promised" if moved == figures["bytes_promised"] else (
        f"promised: {figures['bytes_promised']:,}"
    )  # fmt: skip
    lines = [
        f"{figures['model']}, {figures['strategy']}, built with {figures['compiler']}",
        f"  loaded     {figures['bytes_loaded']:,} B",
        f"  stored     {figures['bytes_stored']:,} B",
        f"  together   {moved:,} B, {kept}",
        f"  MACs       {figures['macs']:,}",
        f"  seconds    {figures['seconds']:.3f}",
    ]
    for output in figures["outputs"]:
        shape = " x ".join(map(str, output["shape"])) or "one"
        where = output.get("file", f"sha256 {output['sha256'][:16]}")
        lines.append(f"  output     {output['name']}: {shape} {output['dtype']}, {where}")
    if "reference" in figures:
        found = figures["reference"]
        verdict = "within" if found["within_tolerance"] else "NOT within"
        far = found["largest_difference"]
        much = "what is no number" if far is None else f"{far:.3g}"
        lines.append(
            f"  reference  {found['file']}: {found['output']} differs by {much}, "
            f"{verdict} {found['tolerance']:.3g}"
        )
    return "\n".join(lines)
