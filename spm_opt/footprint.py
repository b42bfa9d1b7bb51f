"""Which bytes a command touches: runs of addresses, and the ranges that no command splits.

A window or a DRAM range is a list of runs. Cut where any run of a stream begins or ends, the
addresses fall into *ranges*, each of which a command touches whole or not at all: what holds for a
range holds for each of its bytes, so a scratchpad of megabytes is a table of some thousand rows.

Only the addresses that commands spell out are read here, neither networks nor schedules.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spm_opt.stream import Command, DramRange, Window

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Runs:
    """Bytes ``[begins[i], ends[i])``, in the order in which they hold an operand's bytes."""

    begins: Ints
    ends: Ints


def window_runs(window: Window) -> Runs:
    """Scratchpad bytes of a window, contiguous ones as one run."""
    rows = np.arange(*window.rows, dtype=np.int64) % window.held
    first = window.base_bytes + window.first_byte + rows * window.pitch_bytes
    return _joined(_strided(first, window.run_bytes, window.run_step_bytes, window.runs))


def dram_runs(dram: DramRange) -> Runs:
    """DRAM bytes of a transfer."""
    first = np.array([dram.address], dtype=np.int64)
    return _joined(_strided(first, dram.run_bytes, dram.run_step_bytes, dram.runs))


def _strided(first: Ints, size: int, step: int, count: int) -> Runs:
    begins = (first[:, None] + np.arange(count, dtype=np.int64) * step).ravel()
    return Runs(begins, begins + size)


def _joined(runs: Runs) -> Runs:
    if runs.begins.size < 2:
        return runs
    apart = runs.begins[1:] != runs.ends[:-1]
    return Runs(
        runs.begins[np.concatenate(([True], apart))], runs.ends[np.concatenate((apart, [True]))]
    )


def windows(command: Command) -> tuple[Window, ...]:
    """All windows of a command: those that it reads, then the one that it writes."""
    written = () if command.output is None else (command.output,)
    return *command.inputs, *command.weights, *written


class Ranges:
    """Addresses cut wherever one of some runs begins or ends.

    Attributes
    ----------
    cuts : array of int64
        Sorted; range ``i`` is ``[cuts[i], cuts[i + 1])``.
    sizes : array of int64
        Bytes of each range.
    """

    def __init__(self, runs: Iterable[Runs]) -> None:
        ends = [part for run in runs for part in (run.begins, run.ends)]
        self.cuts: Ints = np.unique(np.concatenate(ends)) if ends else np.zeros(0, dtype=np.int64)
        self.sizes: Ints = np.diff(self.cuts)

    def __len__(self) -> int:
        return len(self.sizes)

    def within(self, runs: Runs) -> tuple[Ints, Ints]:
        """Numbers of the ranges in `runs`, in order, and how many of them each run has."""
        first = np.searchsorted(self.cuts, runs.begins)
        counts = np.searchsorted(self.cuts, runs.ends) - first
        if counts.size == 1:
            return np.arange(first[0], first[0] + counts[0], dtype=np.int64), counts
        before = np.cumsum(counts) - counts
        return np.arange(counts.sum()) + np.repeat(first - before, counts), counts

    def span(self, numbers: Ints) -> tuple[int, int]:
        """First byte of the first range, and end of the last that follows it without a gap."""
        numbers = np.unique(numbers)
        gaps = np.flatnonzero(np.diff(numbers) != 1)
        last = numbers[gaps[0]] if gaps.size else numbers[-1]
        return int(self.cuts[numbers[0]]), int(self.cuts[last + 1])
