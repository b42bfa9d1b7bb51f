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

from spm_opt.footprint import Ints, Ranges, window_runs
from spm_opt.stream import Command, Window

#: of a range that nobody has written
_NOT_BORN: Final = -1
#: deaths that wait to be summed up before they are
_MOST_WAITING: Final = 2**22


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
    places = _Places()
    used = [places.used(command) for command in commands]
    runs = [window_runs(window) for window in places.windows]
    ranges = Ranges(runs)
    touched = [ranges.within(found)[0] for found in runs]
    death: Ints = np.full(len(ranges), _NOT_BORN, dtype=np.int64)
    changes = _Changes()
    for number in sorted(range(len(commands)), key=lambda number: spans[number]):
        (read, written), (start, end) = used[number], spans[number]
        for window in read:
            alive = touched[window][death[touched[window]] != _NOT_BORN]
            death[alive] = np.maximum(death[alive], end)
        if written is not None:
            here = touched[written]
            # what is written over in place dies as the new value is born: a byte counts once
            changes.bury(np.minimum(death[here], start), ranges.sizes[here])
            changes.bear(start, int(ranges.sizes[here].sum()))
            death[here] = end
    changes.bury(death, ranges.sizes)
    live = 0
    for cycle, change in changes.summed():
        live += change
        if change:
            yield Occupancy(cycle, live)


class _Places:
    """Windows by the bytes that they lie in: those of a rolling buffer come round again."""

    def __init__(self) -> None:
        #: one window of each place
        self.windows: list[Window] = []
        self._numbers: dict[tuple[int, ...], int] = {}

    def used(self, command: Command) -> tuple[list[int], int | None]:
        """Numbers of the places that a command reads, and of that which it writes."""
        read = [self._number(window) for window in (*command.inputs, *command.weights)]
        return read, None if command.output is None else self._number(command.output)

    def _number(self, window: Window) -> int:
        begin, end = window.rows
        place = (
            window.base_bytes, window.pitch_bytes, window.held, begin % max(1, window.held),
            end - begin, window.first_byte, window.run_bytes, window.runs, window.run_step_bytes,
        )  # fmt: skip
        number = self._numbers.setdefault(place, len(self.windows))
        if number == len(self.windows):
            self.windows.append(window)
        return number


class _Changes:
    """Bytes that come to live and die, by cycle."""

    def __init__(self) -> None:
        self._sums: dict[int, int] = defaultdict(int)
        #: deaths that are not in the sums yet
        self._deaths: list[tuple[Ints, Ints]] = []
        self._waiting = 0

    def bear(self, cycle: int, size: int) -> None:
        self._sums[cycle] += size

    def bury(self, deaths: Ints, sizes: Ints) -> None:
        """Take away what was live until the cycles `deaths`, if it ever was."""
        born = deaths != _NOT_BORN
        self._deaths.append((deaths[born], sizes[born]))
        self._waiting += len(deaths)
        if self._waiting > _MOST_WAITING:
            self._settle()

    def summed(self) -> list[tuple[int, int]]:
        """Cycles and what changes then, by rising cycle."""
        self._settle()
        return sorted(self._sums.items())

    def _settle(self) -> None:
        if not self._deaths:
            return
        deaths, sizes = (np.concatenate(arrays) for arrays in zip(*self._deaths, strict=True))
        cycles, which = np.unique(deaths, return_inverse=True)
        for cycle, size in zip(cycles.tolist(), np.bincount(which, weights=sizes), strict=True):
            self._sums[cycle] -= round(size)
        self._deaths, self._waiting = [], 0
