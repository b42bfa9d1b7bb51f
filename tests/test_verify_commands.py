"""The checker of commands says no: to every small change of a stream, and each rule to its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path

import pytest
from schedule_fixture import ALL, channel_tiles, fused, prefetch, single, slices, stripes

from spm_opt.cli import main
from spm_opt.commands import Command, DramRange, Stream, Window, lower
from spm_opt.result import Result
from spm_opt.schedule import Schedule
from spm_opt.simulate import simulate
from spm_opt.verify.commands import _RULES, numbered_in_order, verify_commands
from spm_opt.verify.commands_trace import trace_of
from spm_opt.verify.facts import facts_of

Mutation = tuple[str, int, Stream]


def changed(stream: Stream, at: int, /, **fields: object) -> Stream:
    """The stream with fields of one command replaced."""
    commands = list(stream.commands)
    commands[at] = replace(commands[at], **fields)  # type: ignore[arg-type]
    return replace(stream, commands=tuple(commands))


def dropped_waits(stream: Stream) -> Iterator[Mutation]:
    for command in stream.commands:
        for wait in command.waits:
            rest = tuple(other for other in command.waits if other != wait)
            yield f"no wait for {wait}", command.number, changed(
                stream, command.number, waits=rest
            )  # fmt: skip


def added_waits(stream: Stream) -> Iterator[Mutation]:
    for command in stream.commands:
        for other in stream.commands:
            if other.number not in (*command.waits, command.number):
                waits = tuple(sorted((*command.waits, other.number)))
                yield f"wait for {other.number}", command.number, changed(
                    stream, command.number, waits=waits
                )  # fmt: skip


def exchanged_waits(stream: Stream) -> Iterator[Mutation]:
    for command in stream.commands:
        for wait in command.waits:
            for near in (wait - 1, wait + 1):
                if 0 <= near < len(stream.commands) and near not in command.waits:
                    waits = tuple(sorted({*command.waits, near} - {wait}))
                    yield f"wait for {near}", command.number, changed(
                        stream, command.number, waits=waits
                    )  # fmt: skip


def windows(command: Command) -> Iterator[tuple[Window, Callable[[Window], dict[str, object]]]]:
    """Each window of a command, and the fields of the command that have another in its place."""
    for name in ("inputs", "weights"):
        found = getattr(command, name)
        for i, window in enumerate(found):
            yield window, lambda w, n=name, f=found, i=i: {n: (*f[:i], w, *f[i + 1 :])}
    if command.output is not None:
        yield command.output, lambda w: {"output": w}


def altered(value: object) -> Iterator[object]:
    """Values near a field's own."""
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (value - 1, value + 1, value + 32)
    elif isinstance(value, str):
        yield value + "x"
    elif value is None:
        yield (0, 2)
    elif isinstance(value, tuple) and len(value) == 2:
        begin, end = value
        yield from ((begin + 1, end + 1), (begin, end + 1), (begin, end - 1))


def altered_windows(stream: Stream) -> Iterator[Mutation]:
    for command in stream.commands:
        for window, put in windows(command):
            for item in fields(Window):
                for value in altered(getattr(window, item.name)):
                    yield f"{window.tensor} {item.name} {value}", command.number, changed(
                        stream, command.number, **put(replace(window, **{item.name: value}))
                    )  # fmt: skip
            if window is not command.output:
                name = "inputs" if window in command.inputs else "weights"
                rest = tuple(w for w in getattr(command, name) if w is not window)
                yield f"no {window.tensor}", command.number, changed(
                    stream, command.number, **{name: rest}
                )  # fmt: skip


def altered_commands(stream: Stream) -> Iterator[Mutation]:
    own = ("inputs", "weights", "output", "waits", "dram")
    for command in stream.commands:
        for item in fields(Command):
            for value in altered(getattr(command, item.name)) if item.name not in own else ():
                yield f"{item.name} {value}", command.number, changed(
                    stream, command.number, **{item.name: value}
                )  # fmt: skip
        if command.dram is not None:
            for item in fields(DramRange):
                for value in altered(getattr(command.dram, item.name)):
                    dram = replace(command.dram, **{item.name: value})
                    yield f"dram.{item.name} {value}", command.number, changed(
                        stream, command.number, dram=dram
                    )  # fmt: skip


def swapped(stream: Stream) -> Iterator[Mutation]:
    """Two commands of one engine in each other's place; waits stay with the commands."""
    for one in stream.commands:
        for other in stream.commands[one.number + 1 :]:
            if one.engine == other.engine:
                commands = list(stream.commands)
                commands[one.number] = replace(other, number=one.number)
                commands[other.number] = replace(one, number=other.number)
                yield f"swapped with {other.number}", one.number, replace(
                    stream, commands=tuple(commands)
                )  # fmt: skip


def missing(stream: Stream) -> Iterator[Mutation]:
    """Streams without one command, the others renumbered."""
    for gone in stream.commands:
        numbers = {c.number: c.number - (c.number > gone.number) for c in stream.commands}
        commands = tuple(
            replace(
                c, number=numbers[c.number],
                waits=tuple(numbers[w] for w in c.waits if w != gone.number),
            )
            for c in stream.commands
            if c is not gone
        )  # fmt: skip
        yield "missing", gone.number, replace(stream, commands=commands)


MUTATORS = (
    dropped_waits, added_waits, exchanged_waits, altered_windows, altered_commands, swapped,
    missing,
)  # fmt: skip


@pytest.mark.parametrize("mutate", MUTATORS, ids=lambda m: m.__name__)
@pytest.mark.parametrize("make", [stripes, channel_tiles, prefetch], ids=lambda m: m.__name__)
def test_every_small_change_is_refused(
    make: Callable[[], Schedule], mutate: Callable[[Stream], Iterator[Mutation]]
) -> None:
    schedule = make()
    stream = lower(schedule)
    tried, survived, nameless = 0, [], []
    for what, number, mutation in mutate(stream):
        if mutation == stream:
            continue
        tried += 1
        found = verify_commands(schedule, mutation)
        if not found:
            survived.append((number, what))
        if not any("command" in sentence for sentence in found):
            nameless.append((number, what))
    assert tried
    assert survived == []
    assert nameless == []


@pytest.mark.parametrize("name", ALL)
def test_each_dropped_wait_names_both_commands(name: str) -> None:
    schedule = ALL[name]()
    stream = lower(schedule)
    for command in stream.commands:
        for wait in command.waits:
            mutation = changed(stream, command.number, waits=())
            found = verify_commands(schedule, mutation)
            pair = f"command {command.number} (", f"command {wait} ("
            assert any(all(name in sentence for name in pair) for sentence in found)


# --- each rule ------------------------------------------------------------------------------------


def corrupted(schedule: Schedule) -> tuple[Schedule, Stream]:
    """A schedule that is wrong itself, and its stream."""
    return schedule, lower(schedule)


def once_more() -> tuple[Schedule, Stream]:
    stream = lower(single())
    idle = replace(
        stream.commands[2], number=len(stream.commands), waits=(), inputs=(), weights=(),
        output=None, cycles=0,
    )  # fmt: skip
    return single(), replace(stream, commands=(*stream.commands, idle))


def buffer(schedule: Schedule, number: int, **fields: object) -> Schedule:
    buffers = list(schedule.buffers)
    buffers[number] = replace(buffers[number], **fields)  # type: ignore[arg-type]
    return replace(schedule, buffers=tuple(buffers))


def transfer(schedule: Schedule, number: int, **fields: object) -> Schedule:
    transfers = list(schedule.transfers)
    transfers[number] = replace(transfers[number], **fields)  # type: ignore[arg-type]
    return replace(schedule, transfers=tuple(transfers))


def small() -> Schedule:
    chip = single().hardware
    return replace(single(), hardware=replace(chip, spm=replace(chip.spm, capacity_bytes=1024)))


def late() -> Schedule:
    last = single().transfers[-1]
    return transfer(single(), -1, start_cycle=last.start_cycle + 1, end_cycle=last.end_cycle + 1)


#: rule, what it alone refuses, part of its sentence
CORRUPTIONS: dict[str, tuple[Callable[[], tuple[Schedule, Stream]], str]] = {
    "every_record_once": (once_more, "there are 2 commands for 1 computes of the schedule"),
    "records_alike": (
        lambda: (single(), changed(lower(single()), 0, prefetch=True)),
        "command 0 (load of weights of 'a', step 0): prefetch is True, by transfer 0 of the",
    ),
    "addresses_alike": (
        lambda: (single(), replace(lower(single()), spm_bytes=5)), "uses 5 bytes of SPM",
    ),
    "bytes_inside": (lambda: corrupted(small()), "touches bytes up to 1088 of 1024"),
    # room for one tile, where the step may run two of them at once
    "spm_races": (
        lambda: corrupted(buffer(stripes(), 2, count=4)),
        "race: command 4 (store 'a.out', step 0, tile 0) and command 6 (compute 'a', step 0, tile "
        "1) touch SPM bytes 0x260 .. 0x360, one of them writing",
    ),
    "owners": (
        lambda: corrupted(transfer(single(), 0, dram_address=16)),
        "command 0 (load of weights of 'a', step 0) reads DRAM bytes 0x10",
    ),
    "waits_suffice": (
        lambda: (prefetch(), changed(lower(prefetch()), 5, waits=(3,))),
        "command 5 (compute 'b', step 1, tile 0) waits for command 3 (load of weights of 'c', step "
        "0), which the schedule does not ask for",
    ),
    "superfluous_waits": (
        lambda: (stripes(), changed(lower(stripes()), 6, waits=(1, 2))),
        "command 6 (compute 'a', step 0, tile 1) need not wait for command 1",
    ),
    "simulated_claims": (
        lambda: corrupted(replace(single(), claims=replace(single().claims, dram_bytes=1))),
        "the schedule claims dram_bytes 1, its commands give",
    ),
    "simulated_cycles": (
        lambda: corrupted(late()), "command 3 (store 'a.out', step 0, tile 0) runs",
    ),
}  # fmt: skip


def test_every_rule_has_a_corruption() -> None:
    assert [rule.__name__ for rule in _RULES] == list(CORRUPTIONS)


@pytest.mark.parametrize("rule", CORRUPTIONS)
def test_each_rule_is_needed(rule: str) -> None:
    make, sentence = CORRUPTIONS[rule]
    schedule, stream = make()
    trace = trace_of(facts_of(schedule), stream, simulate(stream, schedule.hardware))
    told = {r.__name__: list(r(trace)) for r in _RULES}
    assert [name for name, found in told.items() if found] == [rule]
    assert any(sentence in text for text in told[rule]), told[rule]


@pytest.mark.parametrize(
    ("number", "waits", "sentence"),
    [
        (3, (4,), "waits for a later one, command 4"),
        (4, (0, 3), "waits for command 0 (load of weights of 'a', step 0), which its own engine"),
        (8, (5, 5), "waits for [5, 5], which do not rise"),
        (8, (5, 2), "waits for [5, 2], which do not rise"),
    ],
)
def test_waits_lead_back_across_and_rise(
    number: int, waits: tuple[int, ...], sentence: str
) -> None:
    stream = changed(lower(stripes()), number, waits=waits)
    assert any(sentence in text for text in numbered_in_order(stream))
    assert verify_commands(stripes(), stream)


def test_a_deadlock_is_a_violation() -> None:
    (text,) = verify_commands(single(), changed(lower(single()), 0, waits=(2,)))
    assert "can never be met" in text


def test_bytes_that_something_else_took_are_named() -> None:
    """Weights that are prefetched over the map that the step still reads."""
    schedule = buffer(slices(), 2, offset_bytes=slices().buffers[0].offset_bytes)
    found = verify_commands(*corrupted(schedule))
    assert any("as bytes of 'x': they hold bytes of weights of 'a'" in text for text in found)


def test_a_stripe_that_is_one_row_short_cannot_hold_what_a_tile_reads() -> None:
    (text,) = verify_commands(*corrupted(buffer(fused(), 3, count=4)))
    assert "windows: no rows, or more than it holds; found 'a.out'" in text


def test_an_input_that_is_one_row_short_loses_a_row_that_is_still_read() -> None:
    found = verify_commands(*corrupted(buffer(stripes(), 0, count=8)))
    assert any("reads SPM bytes 0x0 .. 0x20 as bytes of 'x'" in text for text in found)


# --- the command line -----------------------------------------------------------------------------


def edited(tmp_path: Path, number: int, **changes: object) -> Path:
    """A saved plan with fields of one of its commands edited by hand."""
    Result(stripes()).save(tmp_path)
    file = tmp_path / "commands.json"
    plain = json.loads(file.read_text())
    plain["commands"][number].update(changes)
    file.write_text(json.dumps(plain))
    return file


def test_a_race_by_hand_is_named_with_both_commands_and_the_bytes(capsys, tmp_path: Path) -> None:
    Result(stripes()).save(tmp_path)
    assert main(["check", str(tmp_path)]) == 0
    edited(tmp_path, 4, waits=[])
    capsys.readouterr()
    assert main(["check", str(tmp_path / "schedule.json")]) == 2
    assert (
        "race: command 3 (compute 'a', step 0, tile 0) and command 4 (store 'a.out', step 0, "
        "tile 0) touch SPM bytes 0x260 .. 0x360, one of them writing, and nothing orders them"
    ) in capsys.readouterr().out


def test_a_schedule_without_commands_beside_it_is_checked_alone(capsys, tmp_path: Path) -> None:
    edited(tmp_path, 4, waits=[]).unlink()
    assert main(["check", str(tmp_path)]) == 0


def test_commands_that_cannot_be_read_are_an_error(capsys, tmp_path: Path) -> None:
    file = edited(tmp_path, 4, waits="none")
    assert main(["check", str(tmp_path)]) == 1
    assert f"{file}: commands[4].waits: must be a list" in capsys.readouterr().err
