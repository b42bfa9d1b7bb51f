"""How much of the scratchpad is needed, and when.

*Occupancy* counts live bytes: a byte of the scratchpad is live from the start of the command that
writes it to the end of the last command that reads what was written (of the writer, where nobody
does). It is at most what the buffers reserve, and says how much of that was needed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from spm_opt.footprint import Ints, Ranges, Runs, window_runs, windows
from spm_opt.stream import Command, Window

#: of a range that nobody has written
_NOT_BORN: Final = -1


@dataclass(frozen=True, slots=True)
class Occupancy:
    """`live_bytes` from `cycle` on, until the next record."""

    cycle: int
    live_bytes: int


def occupancy(commands: Sequence[Command], spans: Sequence[tuple[int, int]]) -> Iterator[Occupancy]:
    """Live bytes of the scratchpad whenever they change, by rising cycle.

    Parameters
    ----------
    commands : sequence of Command
    spans : sequence of (int, int)
        Start and end cycle of each.
    """
    runs: dict[Window, Runs] = {}
    for command in commands:
        runs.update({w: window_runs(w) for w in windows(command) if w not in runs})
    ranges = Ranges(runs.values())
    touched = {window: ranges.within(found)[0] for window, found in runs.items()}
    death: Ints = np.full(len(ranges), _NOT_BORN, dtype=np.int64)
    changes: dict[int, int] = defaultdict(int)
    order = sorted(range(len(commands)), key=lambda number: spans[number])
    for number in order:
        command, (start, end) = commands[number], spans[number]
        for window in (*command.inputs, *command.weights):
            alive = touched[window][death[touched[window]] != _NOT_BORN]
            death[alive] = np.maximum(death[alive], end)
        if command.output is not None:
            here = touched[command.output]
            # what is written over in place dies as the new value is born: a byte counts once
            dying = np.minimum(death[here], start)
            _bury(changes, dying, ranges.sizes[here])
            changes[start] += int(ranges.sizes[here].sum())
            death[here] = end
    _bury(changes, death, ranges.sizes)
    live = 0
    for cycle in sorted(cycle for cycle, change in changes.items() if change):
        live += changes[cycle]
        yield Occupancy(cycle, live)


def _bury(changes: dict[int, int], death: Ints, sizes: Ints) -> None:
    """Take away what was live until the cycles in `death`."""
    if not death.size:
        return
    cycles, which = np.unique(death, return_inverse=True)
    weights = np.bincount(which, weights=sizes)
    for cycle, size in zip(cycles.tolist(), weights.tolist(), strict=True):
        if cycle != _NOT_BORN:
            changes[cycle] -= round(size)
