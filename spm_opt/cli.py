"""The command line: ``spm-opt solve | compare | explore | check | simulate | emit | run`` and more.

Parses arguments, calls `spm_opt.api`, prints. With ``--json`` standard output holds exactly one
JSON object; progress, warnings and errors always go to standard error. It has no rule of its own.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from spm_opt import __version__
from spm_opt.cli_alloc import ALLOC_EPILOG, alloc
from spm_opt.cli_demands import (
    Explain,
    ExplainMaps,
    ExplainTime,
    Fuse,
    NoFuse,
    NoPin,
    Order,
    Pin,
    reason_figures,
    reason_texts,
)
from spm_opt.cli_density import DENSITY_EPILOG, density
from spm_opt.cli_emit import EMIT_EPILOG, emit
from spm_opt.cli_explore import EXPLORE_EPILOG, explore
from spm_opt.cli_help import Quiet, epilog
from spm_opt.cli_plot import PLOT_EPILOG, plot
from spm_opt.cli_report import REPORT_EPILOG, report
from spm_opt.cli_run import RUN_EPILOG, run
from spm_opt.cli_settings import parse_dims, parse_overrides
from spm_opt.cli_simulate import simulate
from spm_opt.errors import InputError, SpmOptError
from spm_opt.params import OBJECTIVES, STRATEGIES

if TYPE_CHECKING:
    from rich.console import RenderableType

    from spm_opt.progress import ProgressLine
    from spm_opt.result import Result

EXIT_OK: Final = 0
EXIT_ERROR: Final = 1
EXIT_VIOLATIONS: Final = 2
EXIT_ABORTED: Final = 130
#: what typer raises for a wrong command line: its module differs between versions of typer
_CommandLineError: type[Exception] = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name="spm-opt",
    help="Plan a DNN on an accelerator with a scratchpad: pin, fuse, tile, prefetch and place, "
    "decided jointly and proven.",
    epilog=epilog(""),
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Model = Annotated[str, typer.Argument(metavar="MODEL", help="catalogue name, YAML or ONNX file")]
HardwareOption = Annotated[
    str, typer.Option("--hw", metavar="HW", help="catalogue name or YAML file")
]
Objective = Annotated[str, typer.Option(help="what to minimise: " + " | ".join(OBJECTIVES))]
Prefetch = Annotated[
    str, typer.Option(metavar="on|off", help="load weights before the step that reads them")
]
Dtype = Annotated[
    str | None, typer.Option(help="plan in int8 | int16 | float16 | float32 [default: the model's]")
]
Dim = Annotated[
    list[str] | None,
    typer.Option("--dim", metavar="NAME=N", help="a symbolic dimension of an ONNX model"),
]
Batch = Annotated[int | None, typer.Option(help="batch of the model [default: the file's]")]
TimeLimit = Annotated[float, typer.Option(help="seconds of wall clock")]
DeterministicLimit = Annotated[
    float | None, typer.Option(help="limit in the solver's own time, for runs that repeat")
]
Workers = Annotated[int, typer.Option(help="search workers; 0: one per core")]
Seed = Annotated[int, typer.Option(help="seed of the search")]
Orders = Annotated[int, typer.Option(help="topological orders to try on branchy networks")]
Aliases = Annotated[
    str, typer.Option(help="on | off: write in place; concatenate and split without copies")
]
Interleave = Annotated[
    str, typer.Option(help="auto | on | off: prefetches in pieces between the streams of a step")
]
Tilings = Annotated[
    str, typer.Option(help="all | rows: groups in bands of columns too, or in stripes only")
]
Cycles = Annotated[
    Path | None,
    typer.Option(
        metavar="TABLE.csv", readable=False,
        help="measured kernels: layer,rows,cycles or layer,tiles,cycles",
    ),
]  # fmt: skip
DensityTable = Annotated[
    Path | None,
    typer.Option(
        "--densities", metavar="TABLE.csv", readable=False,
        help="tensor,density: shares of elements that are not zero, for compressed maps",
    ),
]  # fmt: skip
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="DIR", readable=False,
        help="write schedule.json and what tells of it (commands, tables, listing, trace) there",
    ),
]  # fmt: skip
Json = Annotated[bool, typer.Option("--json", help="one JSON object on standard output")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="hardware field, as spm.capacity=256KiB"),
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        ``sys.argv[1:]`` by default.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # names come from foreign files: what the terminal cannot spell must not end in an error
            stream.reconfigure(errors="backslashreplace")
    try:
        code = app(args=arguments, prog_name="spm-opt", standalone_mode=False)
        sys.stdout.flush()
    except _CommandLineError as error:
        return _usage_error(error)
    except SpmOptError as error:
        return _fail(str(error))
    except BrokenPipeError:
        # the reader of a pipe left; nothing more can be said on standard output
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_ERROR
    except (KeyboardInterrupt, typer.Abort):
        return _abort()
    if code == EXIT_ABORTED:  # how newer versions of typer report Ctrl-C
        return _abort()
    return code if isinstance(code, int) else EXIT_OK


@app.callback(invoke_without_command=True, epilog=epilog(""))
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="print the version")] = False,
) -> None:
    if version:
        typer.echo(f"spm-opt {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command(epilog=epilog("solve"))
def solve(
    model: Model,
    hw: HardwareOption = "mobile_npu",
    strategy: Annotated[str, typer.Option(help=" | ".join(STRATEGIES))] = "joint",
    objective: Objective = "latency",
    prefetch: Prefetch = "on",
    dtype: Dtype = None,
    batch: Batch = None,
    dim: Dim = None,
    time_limit: TimeLimit = 60.0,
    deterministic_limit: DeterministicLimit = None,
    workers: Workers = 0,
    seed: Seed = 0,
    orders: Orders = 4,
    aliases: Aliases = "on",
    cycles: Cycles = None,
    densities: DensityTable = None,
    interleave: Interleave = "auto",
    tilings: Tilings = "all",
    pin: Pin = None,
    no_pin: NoPin = None,
    fuse: Fuse = None,
    no_fuse: NoFuse = None,
    order: Order = None,
    explain: Explain = False,
    explain_maps: ExplainMaps = 10,
    explain_time: ExplainTime = 120.0,
    output: Output = None,
    as_json: Json = False,
    overrides: Set = None,
    quiet: Quiet = False,
) -> None:
    """Plan MODEL on HW: a schedule that is proven optimal, or says how far from it."""
    from spm_opt import api
    from spm_opt.report import solve_table

    _prepare(output)
    with _progress_line(quiet) as progress:
        result = api.solve(
            model,
            hw,
            strategy=strategy,
            objective=objective,
            prefetch=_on_off(prefetch, "prefetch"),
            dtype=dtype,
            batch=batch,
            dims=parse_dims(dim or ()),
            time_limit=time_limit,
            deterministic_limit=deterministic_limit,
            workers=workers,
            seed=seed,
            orders=orders,
            aliases=_on_off(aliases, "aliases"),
            cycles=cycles,
            densities=densities,
            interleave=interleave,
            tilings=tilings,
            overrides=parse_overrides(overrides or ()),
            pin=pin or (),
            no_pin=no_pin or (),
            fuse=fuse or (),
            no_fuse=no_fuse or (),
            order=order or (),
            progress=progress,
        )
        if output is not None:
            # what was found is safe before more is asked
            _save({output: result}, quiet)
        reasons = reason_figures(
            result.explain(maps=explain_maps, time_limit=explain_time, progress=progress)
            if explain
            else ()
        )
    figures = result.to_dict()
    _warn(figures["warnings"], quiet)
    if as_json:
        _print_json({**figures, "explanation": reasons} if explain else figures)
    else:
        from spm_opt.report_simulation import waits_text

        waits = waits_text(result.stalls(), figures["latency_cycles"])
        hertz = result.schedule.hardware.frequency_hz
        _print(solve_table({**figures, "warnings": []}, hertz, waits))
        if explain:
            typer.echo("\n".join(reason_texts(reasons, figures["objective"])))


@app.command(epilog=epilog("compare"))
def compare(
    model: Model,
    hw: HardwareOption = "mobile_npu",
    strategies: Annotated[
        str, typer.Option(metavar="S,S,...", help="strategies, with commas")
    ] = ",".join(STRATEGIES),
    objective: Objective = "latency",
    prefetch: Prefetch = "on",
    dtype: Dtype = None,
    batch: Batch = None,
    dim: Dim = None,
    time_limit: TimeLimit = 60.0,
    deterministic_limit: DeterministicLimit = None,
    workers: Workers = 0,
    seed: Seed = 0,
    orders: Orders = 4,
    aliases: Aliases = "on",
    cycles: Cycles = None,
    densities: DensityTable = None,
    interleave: Interleave = "auto",
    tilings: Tilings = "all",
    output: Output = None,
    as_json: Json = False,
    overrides: Set = None,
    quiet: Quiet = False,
) -> None:
    """Plan MODEL with every strategy on the same machine model, side by side.

    With -o, each strategy writes its files into DIR/STRATEGY.
    """
    from spm_opt import api
    from spm_opt.report import comparison_figures, comparison_table

    _prepare(output)
    with _progress_line(quiet) as progress:
        results = api.compare(
            model,
            hw,
            strategies=tuple(name.strip() for name in strategies.split(",")),
            objective=objective,
            prefetch=_on_off(prefetch, "prefetch"),
            dtype=dtype,
            batch=batch,
            dims=parse_dims(dim or ()),
            time_limit=time_limit,
            deterministic_limit=deterministic_limit,
            workers=workers,
            seed=seed,
            orders=orders,
            aliases=_on_off(aliases, "aliases"),
            cycles=cycles,
            densities=densities,
            interleave=interleave,
            tilings=tilings,
            overrides=parse_overrides(overrides or ()),
            progress=progress,
        )
    comparison = comparison_figures([result.to_dict() for result in results])
    _warn(results[0].warnings, quiet)
    if output is not None:
        _save({output / result.strategy: result for result in results}, quiet)
    if as_json:
        _print_json(comparison)
    else:
        _print(comparison_table(comparison))


@app.command(epilog=epilog("check"))
def check(
    schedule: Annotated[
        Path, typer.Argument(metavar="SCHEDULE", help="schedule.json, or the directory of one")
    ],
    as_json: Json = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="say it by the exit code alone")
    ] = False,
) -> int:
    """Recompute a schedule from its network and hardware; list every rule that it breaks.

    A commands.json beside it is checked too: that its commands are the schedule's, that no two race
    for a byte, and that every byte read is the one meant.
    """
    from spm_opt import api

    violations = api.check(schedule)
    if as_json:
        _print_json(
            {"schedule": str(schedule), "valid": not violations, "violations": list(violations)}
        )
    elif quiet:
        pass
    elif violations:
        typer.echo("\n".join((f"{schedule}: {len(violations)} violations", *violations)))
    else:
        typer.echo(f"{schedule}: valid")
    return EXIT_VIOLATIONS if violations else EXIT_OK


@app.command(epilog=epilog("info"))
def info(
    model: Model,
    hw: HardwareOption = "mobile_npu",
    dtype: Dtype = None,
    batch: Batch = None,
    dim: Dim = None,
    as_json: Json = False,
    overrides: Set = None,
) -> None:
    """What MODEL holds and needs: layers, work, sizes, and the least scratchpad that runs it."""
    from spm_opt import api
    from spm_opt.report import info_table

    figures = api.info(
        model,
        hw,
        dtype=dtype,
        batch=batch,
        dims=parse_dims(dim or ()),
        overrides=parse_overrides(overrides or ()),
    )
    _warn(figures["warnings"])
    if as_json:
        _print_json(figures)
    else:
        _print(info_table({**figures, "warnings": []}))


app.command(epilog=epilog("simulate"))(simulate)
app.command(epilog=epilog("emit", EMIT_EPILOG))(emit)
app.command(epilog=epilog("run", RUN_EPILOG))(run)
app.command(epilog=epilog("density", DENSITY_EPILOG))(density)
app.command(epilog=epilog("alloc", ALLOC_EPILOG))(alloc)
app.command(epilog=epilog("explore", EXPLORE_EPILOG))(explore)
app.command(epilog=epilog("plot", PLOT_EPILOG))(plot)
app.command(epilog=epilog("report", REPORT_EPILOG))(report)


@app.command("list", epilog=epilog("list"))
def list_catalogue(as_json: Json = False) -> None:
    """The models and the hardware that are known by name."""
    from spm_opt.formats.catalogue import list_hardware, list_models

    models, hardware = list(list_models()), list(list_hardware())
    if as_json:
        _print_json({"models": models, "hardware": hardware})
    else:
        typer.echo("\n".join(("models:", *_indent(models), "hardware:", *_indent(hardware))))


def _on_off(text: str, option: str) -> bool:
    if text not in ("on", "off"):
        raise InputError("unknown choice", field=f"--{option}", found=text, allowed=("on", "off"))
    return text == "on"


def _prepare(output: Path | None) -> None:
    """Fail before the solve, not after it, where the directory cannot be written."""
    if output is not None:
        from spm_opt.result import require_writable

        require_writable(output)


def _save(results: Mapping[Path, Result], quiet: bool) -> None:
    for folder, result in results.items():
        names = ", ".join(path.name for path in result.save(folder))
        if not quiet:
            typer.echo(f"wrote {names} to {folder}", err=True)


def _progress_line(quiet: bool) -> AbstractContextManager[ProgressLine | None]:
    from spm_opt.progress import ProgressLine

    return nullcontext() if quiet else ProgressLine()


def _indent(names: Iterable[str]) -> list[str]:
    return [f"  {name}" for name in names]


def _print(renderable: RenderableType) -> None:
    from rich.console import Console

    console = Console()
    # a pipe has no width: give tables theirs, so that no column is cut
    (console if console.is_terminal else Console(width=160)).print(renderable)


def _print_json(figures: Mapping[str, Any]) -> None:
    typer.echo(json.dumps(figures, indent=2, allow_nan=False))


def _warn(texts: Iterable[str], quiet: bool = False) -> None:
    for text in () if quiet else texts:
        typer.echo(f"warning: {text}", err=True)


def _fail(message: str) -> int:
    typer.echo(f"spm-opt: error: {message}", err=True)
    return EXIT_ERROR


def _usage_error(error: Exception) -> int:
    message = getattr(error, "format_message", error.__str__)()
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "spm-opt"
    return _fail(f"{message} (try: {command} --help)")


def _abort() -> int:
    typer.echo("spm-opt: aborted", err=True)
    sys.stdout.flush()
    sys.stderr.flush()
    # the abandoned solve still runs in C++ and would be waited for, or crash, at a normal exit
    os._exit(EXIT_ABORTED)
