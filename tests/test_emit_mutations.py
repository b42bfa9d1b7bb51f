"""What breaks a program is seen: by the program itself, or by the check of its commands.

Every wait is dropped, every window and buffer is shifted by one alignment unit (unless it comes to
lie where nobody else is), every row at a border is left out, each in a program of its own: nothing
that both accept may be left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
from emitted import COMPILER, Batch, Ran, drawn_inputs

import spm_opt
from spm_opt.commands import Command, Stream, Window, lower
from spm_opt.emit.c_project import project_of
from spm_opt.errors import SpmOptError
from spm_opt.graph.builder import NetworkBuilder
from spm_opt.schedule import Schedule
from spm_opt.seeded import draw_values
from spm_opt.verify import verify
from spm_opt.verify.commands import verify_commands

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler (cc, gcc or clang)")
ALIGNMENT = 16


def fused() -> Schedule:
    """Two convolutions, tile by tile, with halos between them."""
    b = NetworkBuilder("fused")
    x = b.input("image", (1, 4, 12, 8))
    b.output(b.conv(b.conv(x, 8, 3, padding=1), 4, 3, padding=1))
    return _planned(b, "fuse", 1456)


def residual() -> Schedule:
    """Maps that stay, one over another, weights that come early, stores that overlap."""
    b = NetworkBuilder("residual")
    x = b.input("image", (1, 4, 6, 8))
    y = b.conv(x, 4, 3, padding=1)
    y = b.add(b.conv(y, 4, 3, padding=1), y)
    b.output(b.conv(y, 4, 1))
    return _planned(b, "joint", 800)


def _planned(builder: NetworkBuilder, strategy: str, capacity: int) -> Schedule:
    result = spm_opt.solve(
        builder, "mobile_npu", strategy=strategy, workers=1, orders=1, deterministic_limit=5.0,
        overrides={"spm.capacity": f"{capacity} B", "spm.alignment": f"{ALIGNMENT} B"},
    )  # fmt: skip
    return result.schedule


@dataclass(frozen=True)
class Mutant:
    name: str
    schedule: Schedule
    stream: Stream


# --- what is broken ----------------------------------------------------------------------------


def mutants(schedule: Schedule) -> Iterator[Mutant]:
    stream = lower(schedule)
    for command in stream.commands:
        for name, broken in (*_waits(command), *_shifts(command), *_rows(command)):
            commands = list(stream.commands)
            commands[command.number] = broken
            label = f"{command.kind} {command.number} ({command.name}, tile {command.tile}): {name}"
            yield Mutant(label, schedule, replace(stream, commands=tuple(commands)))
    for number, buffer in enumerate(schedule.buffers):
        for shift in (-ALIGNMENT, ALIGNMENT):
            moved = replace(buffer, offset_bytes=buffer.offset_bytes + shift)
            buffers = (*schedule.buffers[:number], moved, *schedule.buffers[number + 1 :])
            broken_schedule = replace(schedule, buffers=buffers)
            if moved.offset_bytes >= 0 and not _is_sound(broken_schedule, number):
                yield Mutant(f"{buffer.name} moved by {shift}", broken_schedule,
                             lower(broken_schedule))  # fmt: skip


def _is_sound(schedule: Schedule, number: int) -> bool:
    """Whether a moved buffer lies where nobody else is: then nothing is broken."""
    moved = schedule.buffers[number]
    end = moved.offset_bytes + moved.size_bytes
    others = [b for i, b in enumerate(schedule.buffers) if i != number]
    shared = moved.shares is not None or any(b.shares == number for b in others)
    return (
        not shared
        and end <= schedule.claims.spm_peak_bytes
        and all(
            b.end_step <= moved.first_step
            or moved.end_step <= b.first_step
            or b.offset_bytes + b.size_bytes <= moved.offset_bytes
            or end <= b.offset_bytes
            for b in others
        )
    )


def _waits(command: Command) -> Iterator[tuple[str, Command]]:
    for wait in command.waits:
        left = tuple(w for w in command.waits if w != wait)
        yield f"does not wait for {wait}", replace(command, waits=left)


def _shifts(command: Command) -> Iterator[tuple[str, Command]]:
    for shift in (-ALIGNMENT, ALIGNMENT):
        for i, window in enumerate(command.inputs):
            yield f"input {i} moved by {shift}", replace(
                command, inputs=_with(command.inputs, i, window, shift))  # fmt: skip
        for i, window in enumerate(command.weights):
            yield f"weights {i} moved by {shift}", replace(
                command, weights=_with(command.weights, i, window, shift))  # fmt: skip
        if command.output is not None:
            (moved,) = _with((command.output,), 0, command.output, shift)
            yield f"output moved by {shift}", replace(command, output=moved)


def _with(windows: tuple[Window, ...], i: int, window: Window, shift: int) -> tuple[Window, ...]:
    moved = replace(window, base_bytes=window.base_bytes + shift)
    return (*windows[:i], moved, *windows[i + 1 :])


def _rows(command: Command) -> Iterator[tuple[str, Command]]:
    begin, end = command.rows
    if end - begin < 2 or command.role == "weights":
        return
    for name, rows in (("first", (begin + 1, end)), ("last", (begin, end - 1))):
        yield f"without its {name} row", _cut(command, rows)


def _cut(command: Command, rows: tuple[int, int]) -> Command:
    found = replace(command, rows=rows)
    if command.dram is None:
        return replace(found, output=_seen(command.output, rows))
    count = command.rows[1] - command.rows[0]
    assert command.dram.runs == 1
    row = command.dram.run_bytes // count
    address = command.dram.address + row * (rows[0] - command.rows[0])
    dram = replace(command.dram, address=address, run_bytes=row * (count - 1),
                   run_step_bytes=row * (count - 1))  # fmt: skip
    inputs = tuple(replace(w, rows=rows) for w in command.inputs)
    return replace(found, dram=dram, inputs=inputs, output=_seen(command.output, rows))


def _seen(window: Window | None, rows: tuple[int, int]) -> Window | None:
    return None if window is None else replace(window, rows=rows)


# --- who sees it -------------------------------------------------------------------------------


def _differs(ran: Ran | None, sound: Ran) -> bool:
    """Whether a program failed, computed something else, or moved something else."""
    if ran is None or ran.dram_bytes != sound.dram_bytes:
        return True
    return any(
        not np.array_equal(array, sound.outputs["late"][name])
        for outputs in ran.outputs.values()
        for name, array in outputs.items()
    )


def _refused(mutant: Mutant) -> bool:
    """Whether the check of the schedule, or of its commands, finds a violation."""
    try:
        return bool(verify(mutant.schedule) or verify_commands(mutant.schedule, mutant.stream))
    except SpmOptError:
        return True


@pytest.mark.parametrize("plan", [fused, residual], ids=lambda f: f.__name__)
def test_nothing_that_breaks_a_program_survives(objects, tmp_path, plan):
    schedule = plan()
    values, inputs = draw_values(schedule.network), drawn_inputs(schedule.network, 1)
    batch = Batch(objects, tmp_path)
    batch.add(schedule, project_of(schedule, lower(schedule), values), inputs)
    tried: list[Mutant] = []
    seen: dict[str, bool] = {}
    for mutant in mutants(schedule):
        try:
            files = project_of(mutant.schedule, mutant.stream, values)
        except SpmOptError:
            seen[mutant.name] = True
            continue
        batch.add(schedule, files, inputs)
        tried.append(mutant)
    sound, *others = batch.outcomes()
    assert sound is not None
    for mutant, ran in zip(tried, others, strict=True):
        seen[mutant.name] = _differs(ran, sound)
    unseen = [mutant for mutant in tried if not seen[mutant.name]]
    assert [mutant.name for mutant in unseen if not _refused(mutant)] == []
    # of single commands all must be seen by the program: the check is not the emitter's
    assert [mutant.name for mutant in unseen if mutant.schedule is schedule] == []
    assert len(seen) > 50
