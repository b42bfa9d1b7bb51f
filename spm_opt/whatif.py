"""What would help: the same network planned again with more scratchpad, and with more bandwidth.

Every statement is a plan that was found and checked, or a bound that was proven; nothing is
extrapolated. It calls the planner through `spm_opt.api` and decides nothing itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import Any, Final

from spm_opt.hardware import Hardware
from spm_opt.result import Result
from spm_opt.schedule import Schedule
from spm_opt.units import align_up, format_bytes

__all__ = ["FACTORS", "Point", "what_if"]

#: of what there is now
FACTORS: Final = (
    Fraction(17, 16), Fraction(9, 8), Fraction(5, 4), Fraction(3, 2), Fraction(2), Fraction(4),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Point:
    """The fastest plan known for a larger machine.

    Whatever runs on a smaller machine runs on a larger one, no slower: engines keep their order,
    and nothing takes longer. So where the search finds nothing faster within its limit, the plan of
    the point before, or the plan at hand, stands.

    Attributes
    ----------
    value : str
        What the machine has of the resource.
    latency_cycles, dram_bytes : int
        Of that plan; where it stands for a smaller machine, at most these cycles.
    status : str
    gap : float
        Of the search at this point.
    verdict : str
        ``proven``: faster than the point before, and below the bound of the plan at hand, so that
        no plan on the machine as it is can equal it; ``found``: faster than the point before;
        ``none``: nothing faster was found within the limit.
    """

    value: str
    latency_cycles: int
    dram_bytes: int
    status: str
    gap: float
    verdict: str


def what_if(
    schedule: Schedule,
    time_limit: float,
    factors: Sequence[Fraction] = FACTORS,
    solve: Callable[..., Result] | None = None,
) -> dict[str, Any]:
    """Plan again at larger scratchpads, then at higher bandwidths.

    Parameters
    ----------
    schedule : Schedule
        The plan at hand, whose strategy, objective, seed and workers are used again.
    time_limit : float
        Seconds of each of the solves; there are two for each factor.
    factors : sequence of Fraction
        Multiples of what the machine has, rising.
    solve : callable, optional
        `spm_opt.api.solve` by default.

    Returns
    -------
    dict
        ``time_limit``, ``latency_cycles`` and ``lower_bound_cycles`` of the plan at hand, and
        ``axes``: each with ``name``, ``title``, ``headline`` and ``points``.
    """
    machine = schedule.hardware
    alignment = machine.spm.alignment_bytes
    spm = [
        replace(machine, spm=replace(
            machine.spm, capacity_bytes=align_up(int(machine.spm.capacity_bytes * f), alignment)
        ))
        for f in factors
    ]  # fmt: skip
    dram = [
        replace(machine, dram=replace(
            machine.dram, bytes_per_cycle=machine.dram.bytes_per_cycle * f
        ))
        for f in factors
    ]  # fmt: skip
    ask = _Asker(schedule, time_limit, solve)
    return {
        "time_limit": time_limit,
        "latency_cycles": schedule.claims.latency_cycles,
        "lower_bound_cycles": schedule.provenance.latency_lower_bound_cycles,
        "axes": [
            ask.axis("scratchpad", "More scratchpad", spm, _capacity),
            ask.axis("DRAM bandwidth", "More bandwidth", dram, _bandwidth),
        ],
    }


def _capacity(machine: Hardware) -> str:
    return format_bytes(machine.spm.capacity_bytes)


def _bandwidth(machine: Hardware) -> str:
    return f"{float(machine.dram.bytes_per_cycle):g} B/cycle"


class _Asker:
    """Plans one network again and again."""

    def __init__(
        self, schedule: Schedule, time_limit: float, solve: Callable[..., Result] | None
    ) -> None:
        from spm_opt import api

        self.schedule, self.time_limit = schedule, time_limit
        self.solve: Callable[..., Result] = api.solve if solve is None else solve

    def axis(
        self, name: str, title: str, machines: Sequence[Hardware], write: Callable[[Hardware], str]
    ) -> dict[str, Any]:
        """All plans along one resource, and what they say together."""
        points: list[Point] = []
        claims = self.schedule.claims
        best = claims.latency_cycles, claims.dram_bytes
        for machine in machines:
            points.append(self._point(machine, write(machine), best))
            best = points[-1].latency_cycles, points[-1].dram_bytes
        return {
            "name": name,
            "title": title,
            "headline": self._headline(name, write(self.schedule.hardware), points),
            "points": [asdict(point) for point in points],
        }

    def _point(self, machine: Hardware, value: str, best: tuple[int, int]) -> Point:
        """Search on one machine; `best` are cycles and bytes of the fastest plan so far."""
        made = self.schedule.provenance
        found = self.solve(
            self.schedule.origin, machine, strategy=made.strategy, objective=made.objective,
            prefetch=made.prefetch, time_limit=self.time_limit, seed=made.seed,
            workers=made.workers,
        )  # fmt: skip
        latency, verdict = found.latency_cycles, "none"
        if latency < best[0]:
            best = latency, found.schedule.claims.dram_bytes
            verdict = "proven" if latency < made.latency_lower_bound_cycles else "found"
        return Point(value, *best, found.status, found.gap, verdict)

    def _headline(self, name: str, now: str, points: Sequence[Point]) -> str:
        """The least step that helps, in one sentence."""
        latency = self.schedule.claims.latency_cycles
        better = next((p for p in points if p.verdict != "none"), None)
        if better is None:
            tried = f", up to {points[-1].value}" if points else ""
            return f"No faster plan was found with a larger {name} than {now}{tried}."
        saved = (latency - better.latency_cycles) / latency
        text = (
            f"The next improvement comes at {better.value} ({now} now): "
            f"{better.latency_cycles:,} cycles, {saved:.2%} fewer"
        )
        certain = next((p for p in points if p.verdict == "proven"), None)
        if certain is better:
            return f"{text}. No plan on the machine as it is can be as fast."
        if certain is None:
            return f"{text}. A longer search might find such a plan on the machine as it is too."
        return (
            f"{text}; a longer search might find such a plan on the machine as it is too. "
            f"From {certain.value} on that is impossible."
        )
