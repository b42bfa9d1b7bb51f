"""Why each large feature map is pinned, fused away or spilled: what the alternative would cost.

The network is planned once more with the choice forbidden, by the same demands that a user can
make (`spm_opt.constraints`). No cost is estimated.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from spm_opt.constraints import Constraints
from spm_opt.errors import SpmOptError
from spm_opt.graph.network import Network
from spm_opt.graph.pieces import joined_maps
from spm_opt.params import Progress, SolveParams
from spm_opt.report import groups_of
from spm_opt.schedule import Schedule

#: maps that are priced, where nothing else is asked
MAPS: Final = 10
#: seconds for all plans together
SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True)
class Reason:
    """What was chosen for one feature map, and what it would cost to choose otherwise.

    Attributes
    ----------
    tensor : str
    size_bytes : int
    chosen : str
        ``pinned``, ``fused away``, ``spilled``, ``streamed`` (a network input), or ``pinned and
        spilled`` (kept for some readers, stored for others).
    alternative : Constraints
        The demand that forbids the choice.
    latency_cycles, dram_bytes : int or None
        Of the best plan found so; None where there is none, or it was not sought.
    cost : int or None
        Its objective less that of the plan explained, in cycles or bytes. Negative where it is
        better: then the plan explained was not the best.
    least_cost : int or None
        No plan with the alternative costs less, beyond the plan explained.
    proven : bool
        Whether both plans are proven optimal, so that `cost` is exact.
    note : str
        Why there is no such plan; empty where there is one.
    """

    tensor: str
    size_bytes: int
    chosen: str
    alternative: Constraints
    latency_cycles: int | None = None
    dram_bytes: int | None = None
    cost: int | None = None
    least_cost: int | None = None
    proven: bool = False
    note: str = ""


def explain(
    schedule: Schedule,
    params: SolveParams,
    *,
    maps: int = MAPS,
    time_limit: float = SECONDS,
    progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
) -> tuple[Reason, ...]:
    """What every feature map is, largest first; the first `maps` of them with a price.

    Parameters
    ----------
    schedule : Schedule
        The plan explained.
    params : SolveParams
        What it was solved with; every alternative is solved with the same.
    maps : int
        Maps that are priced.
    time_limit : float
        Seconds for all alternatives together, in even shares of what is left. None takes longer
        than `SolveParams.time_limit`.
    """
    reasons = choices(schedule)
    deadline = time.monotonic() + time_limit
    found: list[Reason] = []
    for n, reason in enumerate(reasons[:maps]):
        left = deadline - time.monotonic()
        if left <= 0 or (stop is not None and stop.is_set()):
            found.append(replace(reason, note="not sought: the time was over"))
            continue
        share = min(params.time_limit, left / (min(maps, len(reasons)) - n))
        found.append(_priced(schedule, replace(params, time_limit=share), reason, progress, stop))
    return (*found, *reasons[len(found) :])


def choices(schedule: Schedule) -> tuple[Reason, ...]:
    """What every feature map that some layer reads is, the largest first; nothing is priced."""
    network = schedule.origin
    groups = groups_of(schedule)
    outer: dict[str, list[str]] = {}
    for inner, around in joined_names(network):
        outer.setdefault(inner, []).append(around)
    whole = {
        b.tensor for b in schedule.buffers
        if b.kind == "map" and b.end_step > b.first_step + 1
    }  # fmt: skip
    moved = {t.tensor for t in schedule.transfers if t.role == "map" and t.kind == "store"}
    found = []
    for name in network.tensors:
        # a map may lie inside the one that a concatenation joins
        homes = {name} if name in whole else {name, *outer.get(name, ())}
        is_whole, is_stored = bool(homes & whole), bool(homes & moved)
        found.append(_choice(network, groups, name, is_whole, is_stored))
    kept = (reason for reason in found if reason is not None)
    return tuple(sorted(kept, key=lambda reason: (-reason.size_bytes, reason.tensor)))


def joined_names(network: Network) -> list[tuple[str, str]]:
    """Maps, and those that concatenations may join them into."""
    return [
        (name, plan.tensor)
        for plan in joined_maps(network)
        for name in (*plan.leaves, *plan.inner)
        if name != plan.tensor
    ]


def _choice(
    network: Network, groups: list[tuple[str, ...]], tensor: str, is_whole: bool, is_stored: bool
) -> Reason | None:
    """One map; None where there is no choice: nobody reads it."""
    readers = [network.layers[reader].name for reader in network.readers[tensor]]
    if not readers:
        return None
    size = network.tensors[tensor].size_bytes
    maker = network.producer.get(tensor)
    own = None if maker is None else network.layers[maker].name
    last = max(readers, key=lambda name: _place(groups, name))
    if own is not None and any({own, *readers} <= set(group) for group in groups):
        return Reason(tensor, size, "fused away", Constraints(no_fuse=((own, last),)))
    if is_whole:
        spilled = is_stored and tensor not in network.outputs
        chosen = "pinned and spilled" if spilled else "pinned"
        return Reason(tensor, size, chosen, Constraints(no_pin=(tensor,)))
    chosen = "streamed" if own is None else "spilled"
    return Reason(tensor, size, chosen, Constraints(pin=(tensor,)))


def _place(groups: list[tuple[str, ...]], layer: str) -> tuple[int, int]:
    return max((g, group.index(layer)) for g, group in enumerate(groups) if layer in group)


def _priced(
    schedule: Schedule, params: SolveParams, reason: Reason,
    progress: Callable[[Progress], None] | None, stop: threading.Event | None,
) -> Reason:  # fmt: skip
    from spm_opt.planner import plan

    try:
        wanted = _both(params.constraints, reason.alternative)
        other = plan(
            schedule.origin, schedule.hardware, replace(params, constraints=wanted),
            progress=progress, stop=stop,
        )  # fmt: skip
    except SpmOptError as error:
        return replace(reason, note=str(error).removeprefix("constraints: "))
    made, mine = other.provenance, schedule.provenance
    return replace(
        reason,
        latency_cycles=other.claims.latency_cycles,
        dram_bytes=other.claims.dram_bytes,
        cost=made.objective_value - mine.objective_value,
        least_cost=made.objective_bound - mine.objective_value,
        proven=made.status == mine.status == "optimal",
    )


def _both(one: Constraints, other: Constraints) -> Constraints:
    return Constraints(
        (*one.pin, *other.pin), (*one.no_pin, *other.no_pin), (*one.fuse, *other.fuse),
        (*one.no_fuse, *other.no_fuse), one.order,
    )  # fmt: skip
