"""Address spaces cut into ranges that no command splits, and what each command touches of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from spm_opt.footprint import Ints, Ranges
from spm_opt.stream import Command, Window
from spm_opt.verify.commands_identity import Named, Names


@dataclass(frozen=True, slots=True)
class Touched:
    """Ranges that a window or DRAM range is, in order, and what each of them holds."""

    ranges: Ints
    values: Ints
    positions: Ints


class Space:
    """An address space cut into ranges, with what is touched of it."""

    def __init__(self, named: list[Named]) -> None:
        self.cut = Ranges(item.runs for item in named)

    def touched(self, named: Named) -> Touched:
        """Ranges of `named`, each with its own value and position."""
        ranges, counts = self.cut.within(named.runs)
        values = np.repeat(named.values, counts)
        inside = self.cut.cuts[ranges] - np.repeat(named.runs.begins, counts)
        return Touched(ranges, values, np.repeat(named.positions, counts) + inside)


class Scratchpad:
    """What every window of a stream touches."""

    def __init__(self, commands: Iterable[Command], names: Names) -> None:
        named: dict[tuple[Window, bool], Named] = {}
        for command in commands:
            for key in (*reads(command), *writes(command)):
                if key not in named:
                    named[key] = names.window(*key)
        self.space = Space(list(named.values()))
        self.touched = {key: self.space.touched(item) for key, item in named.items()}


def reads(command: Command) -> Iterator[tuple[Window, bool]]:
    """Windows that a command reads, and whether they hold constants."""
    for window in command.inputs:
        yield window, command.role == "weights"
    for window in command.weights:
        yield window, True


def writes(command: Command) -> Iterator[tuple[Window, bool]]:
    """The window that a command writes, in the same way."""
    if command.output is not None:
        yield command.output, command.role == "weights"
