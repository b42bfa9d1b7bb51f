"""The command ``spm-opt simulate``: a schedule's commands, run. It has no rule of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def simulate(
    schedule: Annotated[
        Path, typer.Argument(metavar="SCHEDULE", help="schedule.json, or the directory of one")
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="one JSON object on standard output")
    ] = False,
) -> None:
    """Run a schedule's commands on its hardware: cycles, bytes, occupancy, and what waits for what.

    A commands.json beside the schedule is what is run; otherwise the schedule is lowered.
    """
    from spm_opt import api
    from spm_opt.report_simulation import simulation_figures, simulation_tables

    figures = simulation_figures(str(schedule), api.simulate(schedule))
    if as_json:
        typer.echo(json.dumps(figures, indent=2, allow_nan=False))
        return
    from rich.console import Console

    console = Console()
    # a pipe has no width: give tables theirs, so that no column is cut
    (console if console.is_terminal else Console(width=160)).print(simulation_tables(figures))
