"""One step of a program as C: its routines, and the loops over its tiles."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from spm_opt.emit.c_fit import Tables, condition, linear_text
from spm_opt.emit.c_names import comment
from spm_opt.emit.c_order import Call, Entry, Loop, Program, Routine, StepCode, Wait
from spm_opt.emit.c_routines import Writer
from spm_opt.emit.c_spoil import Release
from spm_opt.schedule import Step

_WIDTH: Final = 100
_VERBS: Final = {"load": "loaded", "store": "stored"}


@dataclass
class StepWriter:
    """Writes the steps of one program.

    Attributes
    ----------
    program : Program
    writer : Writer
    releases : mapping of int to sequence of Release
        What is released at the end of each step.
    functions, tickets : dict
        C function of each routine that has one; variable of each whose ticket is wanted.
    """

    program: Program
    writer: Writer
    releases: Mapping[int, Sequence[Release]]
    functions: dict[int, str] = field(default_factory=dict)
    tickets: dict[int, str] = field(default_factory=dict)
    #: step in whose text each routine's function stands: the first that calls it
    homes: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        wanted = set(_awaited(self.program))
        wanted |= {r.routine for many in self.releases.values() for r in many if r.routine >= 0}
        idents = self.writer.names.idents
        for routine in self.program.routines:
            kind, name = routine.key[:2]
            label = f"{name}_s{routine.step}"
            if routine.key[2] == "weights":
                label = f"weights_{label}"
            if len(routine.commands) > 1:
                self.functions[routine.number] = idents.new(kind, label)
            if routine.number in wanted:
                self.tickets[routine.number] = idents.new(_VERBS[kind], label)
        for code in self.program.steps:
            for routine_number in _called(code):
                self.homes.setdefault(routine_number, code.step)

    # ---------------------------------------------------------------- text

    def declarations(self) -> Iterator[str]:
        """Tickets that somebody waits for."""
        for number, symbol in self.tickets.items():
            tiles = self.program.routines[number].commands
            size = f"[{max(tiles) + 1}]" if len(tiles) > 1 else ""
            yield f"static dma_ticket {symbol}{size};"

    def step(self, code: StepCode, step: Step) -> Iterator[str]:
        """Lines of one step: tables, routines, and the function ``step_N``."""
        tables = Tables(f"step{code.step}")
        body = [_indented(line) for line in self._body(code, tables)]
        routines = [
            line
            for number in sorted(set(_called(code)))
            if number in self.functions and self.homes[number] == code.step
            for line in self._function(self.program.routines[number], tables)
        ]
        yield f"/* {comment(_title(code.step, step))} */"
        yield from tables.lines
        yield from routines
        yield f"static void step_{code.step}(void) {{"
        yield from body
        yield "}"

    def _function(self, routine: Routine, tables: Tables) -> Iterator[str]:
        yield f"static void {self.functions[routine.number]}(int32_t t) {{"
        for line in self._statements(routine, tables):
            yield from _wrapped(line, 1)
        yield "}"

    def _statements(self, routine: Routine, tables: Tables) -> list[str]:
        ticket = self.tickets.get(routine.number)
        if ticket is not None and len(routine.commands) > 1:
            ticket += "[t]"
        return self.writer.statements(routine, tables, ticket)

    def _body(self, code: StepCode, tables: Tables) -> Iterator[str]:
        for routine, tile in code.prologue:
            yield from self._call(routine, str(tile), tables)
        for loop in code.loops:
            yield from self._loop(loop, tables)
        for release in self.releases.get(code.step, ()):
            ticket = self._ticket(release.routine, str(release.tile))
            yield f"dma_release({ticket}, {release.text}, {release.size_bytes});"

    # ---------------------------------------------------------------- loops

    def _loop(self, loop: Loop, tables: Tables) -> Iterator[str]:
        """The loop; what runs in its first or last tile only stands before or after it."""
        if loop.end - loop.begin == 1:
            for entry, _ in loop.body:
                yield from self._entry(entry, loop.begin, None, tables)
            return
        first, last = _peeled(loop)
        for entry, _ in loop.body[:first]:
            yield from self._entry(entry, loop.begin, None, tables)
        yield f"for (int32_t t = {loop.begin}; t < {loop.end}; t++) {{"
        for guard, entries in _guarded(loop, first, last, tables):
            depth = "    " if guard is None else "        "
            if guard is not None:
                yield f"    if ({guard}) {{"
            for entry in entries:
                for line in self._entry(entry, 0, "t", tables):
                    yield depth + line
            if guard is not None:
                yield "    }"
        yield "}"
        for entry, _ in loop.body[last:]:
            yield from self._entry(entry, loop.end - 1, None, tables)

    def _entry(
        self, entry: Entry, tile: int, variable: str | None, tables: Tables
    ) -> Iterator[str]:
        """One entry for a tile that is known, or for the loop's."""
        if isinstance(entry, Wait):
            shift = entry.shift
            known = str(entry.at) if shift is None else _at(tile + shift, variable, shift)
            yield f"dma_wait({self._ticket(entry.routine, known)});"
            return
        yield from self._call(entry.routine, _at(tile + entry.shift, variable, entry.shift), tables)

    def _call(self, number: int, tile: str, tables: Tables) -> Iterator[str]:
        if number in self.functions:
            yield f"{self.functions[number]}({tile});"
            return
        lines = self._statements(self.program.routines[number], tables)
        block = any(line.startswith("const ") for line in lines)
        yield from ["{"] if block else []
        for line in lines:
            yield from _wrapped(line, int(block))
        yield from ["}"] if block else []

    def _ticket(self, number: int, tile: str) -> str:
        if number < 0:
            return "0"
        many = len(self.program.routines[number].commands) > 1
        return f"{self.tickets[number]}[{tile}]" if many else self.tickets[number]


def _awaited(program: Program) -> Iterator[int]:
    for code in program.steps:
        for loop in code.loops:
            yield from (entry.routine for entry, _ in loop.body if isinstance(entry, Wait))


def _called(code: StepCode) -> Iterator[int]:
    yield from (routine for routine, _ in code.prologue)
    for loop in code.loops:
        yield from (entry.routine for entry, _ in loop.body if isinstance(entry, Call))


def _at(tile: int, variable: str | None, shift: int) -> str:
    return str(tile) if variable is None else linear_text(1, variable, shift)


def _peeled(loop: Loop) -> tuple[int, int]:
    """Range of the body's entries that stay in the loop."""
    begin, end = 0, len(loop.body)
    while begin < end and loop.body[begin][1] == (loop.begin,):
        begin += 1
    while end > begin and loop.body[end - 1][1] == (loop.end - 1,):
        end -= 1
    return begin, end


def _guarded(
    loop: Loop, first: int, last: int, tables: Tables
) -> Iterator[tuple[str | None, list[Entry]]]:
    """Neighbours that run in the same tiles, with the condition of those tiles."""
    tiles = range(loop.begin, loop.end)
    groups: list[tuple[tuple[int, ...], list[Entry]]] = []
    for entry, present in loop.body[first:last]:
        if groups and groups[-1][0] == present:
            groups[-1][1].append(entry)
        else:
            groups.append((present, [entry]))
    for present, entries in groups:
        guard = condition(present, tiles, "t")
        if guard is None:
            guard = tables.entry("runs", {t: int(t in present) for t in tiles}, "t")
        yield guard or None, entries


def _title(number: int, step: Step) -> str:
    channels = "" if step.channels is None else ", channels {} to {}".format(*step.channels)
    tiles = "one tile" if step.tiles == 1 else (
        f"{step.tiles} tiles of {step.axis}, depth {step.depth}, halo: {step.halo}"
    )  # fmt: skip
    return f"Step {number}: {' + '.join(step.layers)}{channels}; {tiles}."


def _indented(line: str) -> str:
    return "    " + line


def _wrapped(line: str, level: int) -> Iterable[str]:
    """A statement, indented and broken where it is too long (strings are left alone)."""
    indent = "    " * level
    if '"' in line or len(indent + line) <= _WIDTH - 8:
        return [indent + line]
    return textwrap.wrap(
        line.strip(), _WIDTH - 8, break_long_words=False, break_on_hyphens=False,
        initial_indent=indent, subsequent_indent=indent + "    ",
    )  # fmt: skip
