"""The command ``spm-opt report``: schedules as one HTML file. It has no rule of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from spm_opt.errors import InputError
from spm_opt.params import STRATEGIES

if TYPE_CHECKING:
    from spm_opt.report import SolveFigures
    from spm_opt.schedule import Schedule

REPORT_EPILOG: Final = (
    "Exit codes: 0 done; 1 an input or an option is wrong, or a solve failed: one message on "
    "standard error."
)


def report(
    schedules: Annotated[
        list[Path],
        typer.Argument(metavar="SCHEDULE [OTHER]", help="schedule.json, or its directory"),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE.html", readable=False, help="where to"),
    ],
    compare: Annotated[
        bool, typer.Option("--compare", help="plan with the other strategies too, and compare")
    ] = False,
    what_if: Annotated[
        bool, typer.Option("--what-if", help="plan again with more scratchpad and more bandwidth")
    ] = False,
    time_limit: Annotated[
        float, typer.Option(help="seconds of each solve of --compare and --what-if")
    ] = 10.0,
) -> None:  # fmt: skip
    """Write one HTML file that shows a schedule: memory, time, layers, stalls. It needs no network.

    With two schedules it shows both on one axis of time, and their differences. Strategies are
    compared where their schedules lie in directories of their names, as `compare -o` writes them.
    """
    from spm_opt import api
    from spm_opt.html import report_html

    _require(schedules, output, time_limit)
    plans = [api.load_schedule(path) for path in schedules]
    for path, plan in zip(schedules, plans, strict=True):
        broken = api.check(plan)
        if broken:
            raise InputError(f"the schedule is invalid: {broken[0]}", file=str(path))
    compared = _solved(plans[0], time_limit) if compare else _beside(schedules[0], plans[0])
    found = None
    if what_if:
        from spm_opt.whatif import what_if as ask

        typer.echo("planning again with more scratchpad and more bandwidth", err=True)
        found = ask(plans[0], time_limit)
    labels = _labels(schedules, plans)
    _save(report_html(list(zip(labels, plans, strict=True)), compared, found), output)
    typer.echo(f"wrote {output}", err=True)


def _require(schedules: list[Path], output: Path, time_limit: float) -> None:
    """Complain of options before anything is read or planned."""
    from spm_opt.result import require_writable

    if len(schedules) > 2:
        raise InputError("a report shows one schedule or two", found=len(schedules))
    if output.suffix.lower() not in (".html", ".htm"):
        raise InputError("a report is an HTML file", field="--output", found=str(output),
                         allowed=".html")  # fmt: skip
    if time_limit <= 0:
        raise InputError("must be positive", field="--time-limit", found=time_limit)
    if output.is_dir():
        raise InputError("this is a directory, not a file", field="--output", found=str(output))
    if not output.absolute().parent.is_dir():
        raise InputError("no such directory", field="--output", found=str(output.parent))
    require_writable(output.absolute().parent)


def _labels(paths: list[Path], plans: list[Schedule]) -> list[str]:
    """What tells schedules apart: strategies, else directories, else their order."""
    from spm_opt.api import schedule_path

    folders = [schedule_path(path).absolute().parent.name for path in paths]
    strategies = [plan.provenance.strategy for plan in plans]
    for names in (strategies, folders):
        if len(set(names)) == len(names):
            return names
    return [f"{name} ({n})" for n, name in enumerate(folders, 1)]


def _beside(path: Path, plan: Schedule) -> list[SolveFigures]:
    """Figures of the same problem's plans in directories that are named as strategies."""
    from spm_opt import api
    from spm_opt.report import solve_figures

    folder = api.schedule_path(path).absolute().parent
    found: dict[str, SolveFigures] = {}
    for place in (folder, folder.parent):
        for strategy in STRATEGIES:
            file = place / strategy / "schedule.json"
            if strategy not in found and file.is_file():
                other = api.load_schedule(file)
                same = (other.origin, other.hardware) == (plan.origin, plan.hardware)
                if same and other.provenance.strategy == strategy:
                    found[strategy] = solve_figures(other, verified=not api.check(other))
    own = solve_figures(plan, verified=True)
    if found:
        found.setdefault(own["strategy"], own)
    return [found[name] for name in STRATEGIES if name in found]


def _solved(plan: Schedule, time_limit: float) -> list[SolveFigures]:
    """Figures of the plan and of the strategies that it did not use, planned now."""
    from spm_opt import api
    from spm_opt.report import solve_figures

    made = plan.provenance
    others = tuple(name for name in STRATEGIES if name != made.strategy)
    typer.echo(f"planning with {', '.join(others)}", err=True)
    results = api.compare(
        plan.origin, plan.hardware, strategies=others, objective=made.objective,
        prefetch=made.prefetch, time_limit=time_limit, workers=made.workers, seed=made.seed,
    )  # fmt: skip
    found = {result.strategy: result.to_dict() for result in results}
    found[made.strategy] = solve_figures(plan, verified=True)
    return [found[name] for name in STRATEGIES]


def _save(text: str, output: Path) -> None:
    from spm_opt.formats.atomic import write_atomically

    try:
        write_atomically(output, text)
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", file=str(output)) from None
