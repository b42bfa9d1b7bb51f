"""What is released at the end of a step: bytes of nobody, and the store that empties them."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable

import pytest
from emitted_worlds import plan_by

from spm_opt.commands import Stream, lower
from spm_opt.emit.c_names import names_of
from spm_opt.emit.c_order import program_of
from spm_opt.emit.c_spoil import releases_of
from spm_opt.schedule import Buffer, Schedule

#: of each byte of the scratchpad, numbers of the stores that it waits for; -1: of none
Bytes = dict[int, set[int]]


def drawn_schedule(seed: int) -> Schedule:
    rng = random.Random(seed)
    while (schedule := plan_by(rng)) is None or len(schedule.steps) < 4:
        pass
    return schedule


def bytes_of(buffers: Iterable[Buffer]) -> set[int]:
    spans = ((b.offset_bytes, b.offset_bytes + b.size_bytes) for b in buffers)
    return {byte for span in spans for byte in range(*span)}


def released(schedule: Schedule, stream: Stream) -> dict[int, Bytes]:
    """What `releases_of` says, byte by byte, for each step."""
    program, names = program_of(schedule, stream), names_of(schedule, stream)
    places = dict(zip(names.spm, (b.offset_bytes for b in schedule.buffers), strict=True))
    found: dict[int, Bytes] = {}
    for step, releases in releases_of(schedule, stream, program, names).items():
        found[step] = defaultdict(set)
        for release in releases:
            name, _, shift = release.text.partition(" + ")
            begin, store = places[name] + int(shift or 0), -1
            if release.routine >= 0:
                store = program.routines[release.routine].commands[release.tile].number
            for byte in range(begin, begin + release.size_bytes):
                found[step][byte].add(store)
    return found


def last_stores(schedule: Schedule, stream: Stream, step: int) -> dict[int, int]:
    """For each byte, the last store up to a step out of a buffer that has it."""
    stores = (c for c in stream.commands if c.kind == "store" and c.step <= step)
    return {
        byte: command.number
        for command in sorted(stores, key=lambda c: (c.step, c.number))
        for byte in bytes_of([schedule.buffers[command.inputs[0].buffer]])
    }


@pytest.mark.parametrize("seed", range(6))
def test_bytes_that_nobody_owns_are_released_after_their_last_store(seed: int) -> None:
    schedule = drawn_schedule(seed)
    stream = lower(schedule)
    found = released(schedule, stream)
    for step in range(len(schedule.steps) - 1):
        leaving = bytes_of(b for b in schedule.buffers if b.end_step == step + 1)
        staying = bytes_of(b for b in schedule.buffers if b.first_step <= step < b.end_step - 1)
        assert found.get(step, {}).keys() == leaving - staying
        last = last_stores(schedule, stream, step)
        for byte, stores in found.get(step, {}).items():
            # several bytes wait for the last of their stores together
            assert max(stores) >= last.get(byte, -1)
