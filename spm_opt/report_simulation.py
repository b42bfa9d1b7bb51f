"""What a simulation says: the figures that ``spm-opt simulate`` prints, and its tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

from spm_opt.simulate import Cause, Simulation

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

#: rows of a table for people; JSON has them all
_SHOWN = 12


class TrafficFigures(TypedDict):
    """What the transfers of one tensor in one direction move."""

    kind: str
    role: str
    name: str
    transfers: int
    used_bytes: int
    moved_bytes: int


class StallFigures(TypedDict):
    """Cycles that an engine stood still because of one sort of command; see `Cause`."""

    engine: str
    cycles: int
    stalls: int
    kind: str
    role: str
    name: str
    step: int
    final: bool


class SimulationFigures(TypedDict):
    """One simulation in numbers: the object that ``spm-opt simulate --json`` prints."""

    schedule: str
    commands: int
    latency_cycles: int
    busy_cycles: dict[str, int]
    stall_cycles: dict[str, int]
    dram_bytes: int
    peak_live_bytes: int
    peak_cycle: int
    traffic: list[TrafficFigures]
    stalls: list[StallFigures]


def simulation_figures(schedule: str, simulation: Simulation) -> SimulationFigures:
    """Every number of a simulation; stalls by cause, the largest first."""
    latency, peak = simulation.latency_cycles, simulation.peak_live_bytes
    at = [record.cycle for record in simulation.occupancy if record.live_bytes == peak]
    return SimulationFigures(
        schedule=schedule,
        commands=len(simulation.spans),
        latency_cycles=latency,
        busy_cycles=dict(simulation.busy_cycles),
        stall_cycles={engine: latency - busy for engine, busy in simulation.busy_cycles.items()},
        dram_bytes=simulation.dram_bytes,
        peak_live_bytes=peak,
        peak_cycle=at[0] if at else 0,
        traffic=[
            TrafficFigures(
                kind=t.kind, role=t.role, name=t.name, transfers=t.transfers,
                used_bytes=t.used_bytes, moved_bytes=t.moved_bytes,
            )
            for t in simulation.traffic
        ],
        stalls=[_stall(cause) for cause in simulation.causes],
    )  # fmt: skip


def _stall(cause: Cause) -> StallFigures:
    return StallFigures(
        engine=cause.engine, cycles=cause.cycles, stalls=cause.stalls, kind=cause.kind,
        role=cause.role, name=cause.name, step=cause.step, final=cause.final,
    )  # fmt: skip


def waits_text(causes: Sequence[Cause], latency_cycles: int, most: int = 3) -> list[str]:
    """What the compute engine stood still for longest, a line each."""
    found = [cause for cause in causes if cause.engine == "compute"][:most]
    return [
        f"{cause.cycles:,} cycles ({_share(cause.cycles, latency_cycles)}) for {_awaited(cause)}"
        for cause in found
    ]


def _awaited(cause: Cause) -> str:
    what = " of weights of" if cause.role == "weights" else ""
    end = ", its own work done" if cause.final else ""
    return f"{cause.kind}{what} {cause.name}, step {cause.step}{end}"


def simulation_tables(figures: SimulationFigures) -> RenderableType:
    """Totals, the largest causes of stalls, and the largest traffic."""
    from rich.console import Group

    return Group(_totals(figures), _stalls(figures), _traffic(figures))


def _table(title: str, *headers: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE, show_header=any(headers))
    for header in headers:
        right = header in ("cycles", "of latency", "times", "step", "transfers", "used", "moved")
        table.add_column(header, justify="right" if right else "left", overflow="fold")
    return table


def _share(cycles: int, latency: int) -> str:
    return f"{100 * cycles / latency:.2f} %" if latency else "-"


def _totals(figures: SimulationFigures) -> Table:
    table, latency = _table(figures["schedule"], "", ""), figures["latency_cycles"]
    table.add_row("commands", f"{figures['commands']:,}")
    table.add_row("latency", f"{latency:,} cycles")
    for engine, busy in figures["busy_cycles"].items():
        table.add_row(f"{engine} busy", f"{busy:,} cycles, {_share(busy, latency)}")
    table.add_row("DRAM traffic", f"{figures['dram_bytes']:,} B")
    table.add_row(
        "live in SPM",
        f"{figures['peak_live_bytes']:,} B at most, at cycle {figures['peak_cycle']:,}",
    )
    return table


def _stalls(figures: SimulationFigures) -> Table:
    found = figures["stalls"]
    table = _table(
        _titled("stalls", len(found)),
        "engine",
        "cycles",
        "of latency",
        "times",
        "waits for",
        "step",
    )
    for stall in found[:_SHOWN]:
        what = " of weights of" if stall["role"] == "weights" else ""
        end = " (its work is done)" if stall["final"] else ""
        table.add_row(
            stall["engine"], f"{stall['cycles']:,}",
            _share(stall["cycles"], figures["latency_cycles"]), f"{stall['stalls']:,}",
            f"{stall['kind']}{what} {stall['name']}{end}", str(stall["step"]),
        )  # fmt: skip
    return table


def _traffic(figures: SimulationFigures) -> Table:
    found = sorted(figures["traffic"], key=lambda traffic: -traffic["moved_bytes"])
    table = _table(
        _titled("bytes by tensor", len(found)), "what", "tensor", "transfers", "used", "moved"
    )
    for traffic in found[:_SHOWN]:
        what = f"{traffic['kind']} {traffic['role']}"
        table.add_row(
            what, traffic["name"], f"{traffic['transfers']:,}", f"{traffic['used_bytes']:,}",
            f"{traffic['moved_bytes']:,}",
        )  # fmt: skip
    return table


def _titled(what: str, count: int) -> str:
    return what if count <= _SHOWN else f"{what}: the largest {_SHOWN} of {count}"
