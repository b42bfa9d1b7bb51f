"""The simulator by itself: times, bytes, occupancy and stalls of streams written by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from schedule_fixture import ALL, CHIP, fused, prefetch, single, stripes

from spm_opt import api
from spm_opt.cli import main
from spm_opt.commands import Command, DramRange, Stream, Window, lower
from spm_opt.errors import InputError
from spm_opt.result import Result
from spm_opt.simulate import Occupancy, Simulation, Traffic, simulate


def window(begin: int, size: int, held: int = 1, rows: tuple[int, int] = (0, 1)) -> Window:
    return Window(0, "t", begin, held, size, rows, None, None, 0, size, size, 1)


def load(number: int, size: int, at: int = 0, waits: tuple[int, ...] = ()) -> Command:
    """Load `size` bytes to address `at`: 10 cycles, and one for every 8 bytes in bursts of 16."""
    return Command(
        number, "dma", "load", f"m{number}", "map", 0, 0, (0, 1), None, waits, (), (),
        window(at, size), DramRange(0, size, size, 1),
    )  # fmt: skip


def store(number: int, size: int, at: int = 0, waits: tuple[int, ...] = ()) -> Command:
    return replace(
        load(number, size, at, waits), kind="store", inputs=(window(at, size),), output=None
    )


def compute(
    number: int, cycles: int, reads: Window, writes: Window, waits: tuple[int, ...] = ()
) -> Command:
    return Command(
        number, "compute", "compute", "layer", "", 0, 0, (0, 1), None, waits, (reads,), (), writes,
        None, cycles,
    )  # fmt: skip


def run(*commands: Command) -> Simulation:
    return simulate(Stream(commands, {}, 0), CHIP)


def spans(simulation: Simulation) -> list[tuple[int, int]]:
    return [(span.start_cycle, span.end_cycle) for span in simulation.spans]


def test_engines_run_beside_each_other_and_wait_where_told() -> None:
    found = run(
        load(0, 16),
        load(1, 100, at=16),
        compute(2, 30, window(0, 16), window(128, 8), waits=(0,)),
        store(3, 8, at=128, waits=(2,)),
    )
    # 16 bytes are one burst, 100 are seven, 8 are one
    assert spans(found) == [(0, 12), (12, 36), (12, 42), (42, 54)]
    assert found.latency_cycles == 54
    assert found.busy_cycles == {"compute": 30, "dma": 48}
    assert found.dram_bytes == 16 + 112 + 16
    assert found.traffic == (
        Traffic("load", "map", "m0", 1, 16, 16), Traffic("load", "map", "m1", 1, 100, 112),
        Traffic("store", "map", "m3", 1, 8, 16),
    )  # fmt: skip


def test_stalls_name_the_command_that_ended_last() -> None:
    found = run(
        load(0, 16), load(1, 16, at=16),
        compute(2, 30, window(0, 32), window(128, 8), waits=(0, 1)),
        store(3, 8, at=128, waits=(2,)),
    )  # fmt: skip
    told = [(s.engine, s.begin_cycle, s.end_cycle, s.command, s.awaited) for s in found.stalls]
    assert told == [("compute", 0, 24, 2, 1), ("compute", 54, 66, None, 3), ("dma", 24, 54, 3, 2)]
    causes = [(c.engine, c.kind, c.name, c.cycles, c.stalls, c.final) for c in found.causes]
    assert causes == [
        ("dma", "compute", "layer", 30, 1, False), ("compute", "load", "m1", 24, 1, False),
        ("compute", "store", "m3", 12, 1, True),
    ]  # fmt: skip


def test_a_byte_is_live_from_its_writer_to_its_last_reader() -> None:
    found = run(
        load(0, 16),
        load(1, 32, at=16),
        compute(2, 30, window(0, 16), window(64, 8), waits=(0,)),
        compute(3, 10, window(0, 24), window(72, 4), waits=(1,)),
    )
    # m0 and half of m1 are read until 52; the rest of m1 and what the computes write by nobody
    assert found.occupancy == (
        Occupancy(0, 16), Occupancy(12, 16 + 32 + 8), Occupancy(26, 16 + 8 + 8),
        Occupancy(42, 16 + 8 + 4), Occupancy(52, 0),
    )  # fmt: skip
    assert found.peak_live_bytes == 56


def test_bytes_that_are_written_over_count_once() -> None:
    found = run(
        load(0, 16), compute(1, 5, window(0, 16), window(0, 16), (0,)), store(2, 16, 0, (1,))
    )
    assert found.occupancy == (Occupancy(0, 16), Occupancy(29, 0))


def test_a_rolling_window_lives_in_the_rows_that_it_touches() -> None:
    rolling = window(0, 8, held=3, rows=(2, 4))
    found = run(compute(0, 4, window(100, 0), rolling))
    assert found.peak_live_bytes == 16


@pytest.mark.parametrize("name", ALL)
def test_busy_and_stalled_cycles_add_up(name: str) -> None:
    schedule = ALL[name]()
    found = simulate(lower(schedule), schedule.hardware)
    for engine, busy in found.busy_cycles.items():
        stalled = sum(stall.cycles for stall in found.stalls if stall.engine == engine)
        assert busy + stalled == found.latency_cycles
        caused = sum(cause.cycles for cause in found.causes if cause.engine == engine)
        assert caused == stalled
    assert found.occupancy[-1].live_bytes == 0
    assert all(
        a.cycle < b.cycle for a, b in zip(found.occupancy, found.occupancy[1:], strict=False)
    )


def test_a_prefetch_runs_on_beside_the_step() -> None:
    schedule = prefetch()
    stream = lower(schedule)
    found = simulate(stream, schedule.hardware)
    (ahead,) = [c.number for c in stream.commands if c.prefetch and c.name == "c"]
    assert found.spans[ahead].start_cycle < schedule.steps[0].end_cycle


# --- what cannot be run ---------------------------------------------------------------------------


def test_a_deadlock_names_the_commands() -> None:
    commands = (
        load(0, 16, waits=(1,)),
        compute(1, 5, window(0, 16), window(16, 8), waits=(0,)),
    )
    with pytest.raises(InputError, match="can never be met") as error:
        run(*commands)
    assert "command 0 (load 'm0', step 0, tile 0) waits for command 1" in str(error.value)
    assert "command 1 (compute 'layer', step 0, tile 0) waits for command 0" in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"waits": (7,)}, "commands[0].waits: command 0 (load 'm0', step 0, tile 0) waits for a"),
        ({"waits": (-1,)}, "that does not exist; found -1; allowed: 0 .. 0"),
        ({"waits": (0,)}, "can never be met"),
        ({"number": 3}, "commands[0].number: commands are numbered by position; found 3"),
        ({"engine": "dsp"}, "commands[0].engine: no engine of this name; found 'dsp'"),
        ({"kind": "copy"}, "commands[0].kind: no kind of command; found 'copy'"),
        ({"dram": None}, "commands[0].dram: transfers have DRAM ranges"),
        ({"kind": "compute"}, "commands[0].dram: transfers have DRAM ranges, computes have none"),
        ({"cycles": -5}, "commands[0].cycles: must not be negative; found -5"),
        ({"dram": DramRange(0, -1, 0, 1)}, "commands[0].dram: must not be negative; found -1"),
        ({"dram": DramRange(10**30, 1, 0, 1)}, "commands[0].dram: beyond what is counted"),
        ({"dram": DramRange(0, 1, 1, 2**40)}, "commands[0].dram: has too many runs"),
        ({"cycles": 10**30}, "commands[0].cycles: beyond what is counted"),
        ({"output": window(10**30, 16)}, "commands[0].windows: beyond what is counted"),
        (
            {"output": window(0, 1, held=2**40, rows=(0, 2**40))},
            "commands[0].windows: has too many runs",
        ),
        ({"output": window(-8, 16)}, "commands[0].windows: "),
        ({"output": window(0, 16, held=0)}, "commands[0].windows: "),
        ({"output": window(0, 16, held=2, rows=(0, 3))}, "commands[0].windows: "),
        ({"output": window(0, 16, held=2, rows=(2, 1))}, "commands[0].windows: "),
    ],
)
def test_what_no_machine_can_run_is_an_error(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as error:
        run(replace(load(0, 16), **changes))  # type: ignore[arg-type]
    assert message in str(error.value)


def test_nothing_to_do_takes_no_time() -> None:
    found = run()
    assert (found.latency_cycles, found.stalls, found.occupancy) == (0, (), ())


# --- the command line -----------------------------------------------------------------------------


def test_the_command_line_tells_it_in_one_object_and_in_tables(capsys, tmp_path: Path) -> None:
    schedule = stripes()
    Result(schedule).save(tmp_path)
    assert main(["simulate", str(tmp_path / "schedule.json"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["latency_cycles"] == schedule.claims.latency_cycles
    assert told["dram_bytes"] == schedule.claims.dram_bytes
    for engine in ("compute", "dma"):
        of_engine = [stall["cycles"] for stall in told["stalls"] if stall["engine"] == engine]
        assert sum(of_engine) == told["stall_cycles"][engine]
        assert told["busy_cycles"][engine] + sum(of_engine) == told["latency_cycles"]
    assert [s["cycles"] for s in told["stalls"]] == sorted(
        (s["cycles"] for s in told["stalls"]), reverse=True
    )
    assert main(["simulate", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "1,865 cycles" in out
    assert "load weights" in out


def test_commands_beside_the_schedule_are_what_is_run(capsys, tmp_path: Path) -> None:
    Result(single()).save(tmp_path)
    file = tmp_path / "commands.json"
    slow = file.read_text().replace('"cycles": 1157', '"cycles": 9157')
    assert slow != file.read_text()
    file.write_text(slow)
    assert main(["simulate", str(tmp_path), "--json"]) == 0
    slower = json.loads(capsys.readouterr().out)["latency_cycles"]
    assert slower == single().claims.latency_cycles + 8000
    assert api.simulate(single()).latency_cycles == single().claims.latency_cycles
    assert api.simulate(Result(single())).latency_cycles == single().claims.latency_cycles
    file.unlink()
    assert api.simulate(tmp_path).latency_cycles == single().claims.latency_cycles


def test_an_invalid_schedule_is_not_lowered() -> None:
    broken = replace(fused(), claims=replace(fused().claims, latency_cycles=1))
    with pytest.raises(InputError, match=r"the schedule is invalid: .*latency_cycles"):
        api.simulate(broken)


def test_a_deadlock_in_the_file_is_an_error_that_names_it(capsys, tmp_path: Path) -> None:
    Result(single()).save(tmp_path)
    file = tmp_path / "commands.json"
    text = file.read_text()
    # the first load waits for the compute, which waits for the loads
    file.write_text(text.replace('"waits": []', '"waits": [2]', 1))
    assert main(["simulate", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert f"{file}: commands[2].waits: these waits can never be met" in error
