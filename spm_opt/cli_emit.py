"""The command ``spm-opt emit``: a schedule in, C sources out. It has no rule of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from spm_opt.cli_help import Quiet

EMIT_EPILOG: Final = (
    "Exit codes: 0 written; 1 an input is wrong (a schedule that breaks a rule, weights of another "
    "network, an operator that no kernel computes): one message on standard error, nothing written."
)


def emit(
    schedule: Annotated[
        Path, typer.Argument(metavar="SCHEDULE", help="schedule.json, or the directory of one")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="CDIR", readable=False, help="for the sources")
    ],
    weights: Annotated[
        Path | None,
        typer.Option(metavar="MODEL.onnx", help="the planned file [default: drawn numbers]"),
    ] = None,
    seed: Annotated[int, typer.Option(help="of the drawn numbers")] = 0,
    quiet: Quiet = False,
) -> None:
    """Write a schedule as C11 that computes the network: make, make run, make check."""
    from spm_opt.program import emit_c

    files = emit_c(schedule, output, weights=weights, seed=seed)
    if quiet:
        return
    names = ", ".join(sorted(path.name for path in files))
    typer.echo(f"wrote {names} to {output}", err=True)
