"""The command ``spm-opt plot``: one figure of a schedule. It has no rule of its own."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from spm_opt.errors import InputError

PLOT_EPILOG: Final = (
    "Exit codes: 0 done; 1 an input or an option is wrong: one message on standard error."
)
KINDS: Final = ("memory", "timeline", "traffic", "roofline", "graph")
FORMATS: Final = ("png", "svg", "pdf")


def plot(
    schedules: Annotated[
        list[Path], typer.Argument(metavar="SCHEDULE...", help="schedule.json, or its directory")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", readable=False,
                           help="where to: .png, .svg or .pdf"),
    ],
    kind: Annotated[str, typer.Option(help=" | ".join(KINDS))] = "memory",
    dpi: Annotated[int, typer.Option(help="dots per inch of a .png")] = 150,
) -> None:  # fmt: skip
    """Draw a schedule: memory map, timeline, traffic by layer, roofline, or the graph of groups.

    Traffic takes several schedules of one network, side by side. Needs the extra `plot`.
    """
    from spm_opt import api

    _require(kind, output, len(schedules), dpi)
    plans = [api.load_schedule(path) for path in schedules]
    names = {plan.origin.name for plan in plans}
    if len(names) > 1:
        raise InputError("these are plans of different networks", found=", ".join(sorted(names)))
    try:
        from spm_opt.plot import FIGURES

        axes = FIGURES[kind](plans[0] if len(plans) == 1 else plans)
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        raise InputError("figures need matplotlib: pip install 'spm-opt[plot]'") from None
    _save(axes, output, dpi)
    typer.echo(f"wrote {output}", err=True)


def _require(kind: str, output: Path, schedules: int, dpi: int) -> None:
    """Complain of options before anything is read or drawn."""
    if kind not in KINDS:
        raise InputError("unknown kind of figure", field="--kind", found=kind, allowed=KINDS)
    if output.suffix[1:].lower() not in FORMATS:
        raise InputError(
            "unknown format of figures", field="--output", found=str(output),
            allowed=[f".{name}" for name in FORMATS],
        )  # fmt: skip
    if schedules > 1 and kind != "traffic":
        raise InputError(
            f"a figure of this kind shows one schedule, not {schedules}", field="--kind",
            found=kind, allowed="traffic, or one schedule",
        )  # fmt: skip
    if not 20 <= dpi <= 1200:
        raise InputError("out of range", field="--dpi", found=dpi, allowed="20 to 1200")
    from spm_opt.result import require_writable

    if output.is_dir():
        raise InputError("this is a directory, not a file", field="--output", found=str(output))
    if not output.absolute().parent.is_dir():
        raise InputError("no such directory", field="--output", found=str(output.parent))
    require_writable(output.absolute().parent)


def _save(axes: Any, output: Path, dpi: int) -> None:
    from spm_opt.formats.atomic import write_bytes_atomically

    drawn = io.BytesIO()
    axes.figure.savefig(drawn, format=output.suffix[1:].lower(), dpi=dpi)
    try:
        write_bytes_atomically(output, drawn.getvalue())
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", file=str(output)) from None
