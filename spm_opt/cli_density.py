"""The command ``spm-opt density``: zeros of an ONNX model, counted. It has no rule of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

DENSITY_EPILOG: Final = (
    "Exit codes: 0 measured; 1 onnxruntime is not installed, the file cannot be run, or an input "
    "is missing or wrong: one message on standard error, nothing written."
)


def density(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL.onnx", help="an ONNX file with its weights")
    ],
    inputs: Annotated[
        list[Path],
        typer.Option("--input", metavar="X.npy", help="one for each input, in the file's order"),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="TABLE.csv", readable=False,
            help="the table, for --densities [default: standard output]",
        ),
    ] = None,
) -> None:  # fmt: skip
    """Measure which share of each feature map is not zero, by running the model once."""
    from spm_opt.cli_run import read_array
    from spm_opt.formats.atomic import write_bytes_atomically
    from spm_opt.formats.density_csv import densities_to_csv, density_ppm
    from spm_opt.program_density import measure_densities

    found = measure_densities(model, [read_array(path) for path in inputs])
    text = densities_to_csv({name: density_ppm(share, name) for name, share in found.items()})
    if output is None:
        typer.echo(text, nl=False)
    else:
        write_bytes_atomically(output, text.encode())
