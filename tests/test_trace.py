"""trace.json keeps the rules of the trace event format, and says what the schedule says."""

from __future__ import annotations

import json
import shutil
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from big_schedule import long_schedule
from interface_fakes import fake_schedule
from schedule_fixture import ALL, prefetch

from spm_opt.scene import Scene
from spm_opt.schedule import Schedule
from spm_opt.trace import trace_json

SCHEDULES = {**ALL, "long": lambda: long_schedule(12)}
NUMBER = (int, float)


def events(schedule: Schedule) -> list[dict[str, Any]]:
    return json.loads(trace_json(schedule))["traceEvents"]


def lanes(found: list[dict[str, Any]]) -> dict[int, str]:
    return {e["tid"]: e["args"]["name"] for e in found if e["name"] == "thread_name"}


def slices(found: list[dict[str, Any]], lane: str) -> list[dict[str, Any]]:
    names = lanes(found)
    return [e for e in found if e["ph"] == "X" and names[e["tid"]] == lane]


def nanoseconds(event: dict[str, Any]) -> tuple[int, int]:
    return round(event["ts"] * 1000), round((event["ts"] + event["dur"]) * 1000)


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_event_has_the_fields_of_its_phase(name):
    for event in events(SCHEDULES[name]()):
        assert event["ph"] in ("M", "X", "C", "s", "f")
        assert isinstance(event["name"], str)
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        assert isinstance(event["ts"], NUMBER)
        assert event["ts"] >= 0
        match event["ph"]:
            case "X":
                assert event["dur"] >= 0
            case "C":
                assert event["args"]
                assert all(isinstance(value, NUMBER) for value in event["args"].values())
            case "s" | "f":
                assert isinstance(event["id"], int)
                assert event["cat"] == "wait"
                assert (event["ph"] == "f") == (event.get("bp") == "e")


@pytest.mark.parametrize("hertz", [10**9, 700_000_000, 3 * 10**9])
@pytest.mark.parametrize("name", SCHEDULES)
def test_times_rise_and_slices_of_a_lane_do_not_overlap(name, hertz):
    schedule = SCHEDULES[name]()
    schedule = replace(schedule, hardware=replace(schedule.hardware, frequency_hz=hertz))
    found = events(schedule)
    times = [event["ts"] for event in found if event["ph"] != "M"]
    assert times == sorted(times)
    ends: dict[int, int] = defaultdict(int)
    for event in found:
        if event["ph"] == "X":
            begin, end = nanoseconds(event)
            assert begin >= ends[event["tid"]]
            ends[event["tid"]] = end
            assert begin == event["args"]["start_cycle"] * 10**9 // hertz


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_queue_moves_what_the_schedule_claims(name):
    schedule = SCHEDULES[name]()
    found = events(schedule)
    queue = slices(found, "DMA queue")
    assert sum(e["args"]["bytes"] for e in queue) == schedule.claims.dram_bytes
    moved = Counter((t.kind, t.tensor) for t in schedule.transfers)
    assert Counter((e["cat"], e["args"]["tensor"]) for e in queue) == moved
    computed = slices(found, "compute")
    assert [e["name"] for e in computed] == [c.layer for c in schedule.computes]
    assert sum(e["args"]["cycles"] for e in computed) == schedule.claims.compute_cycles


@pytest.mark.parametrize("name", SCHEDULES)
def test_engines_and_their_waits_fill_the_time(name):
    schedule = SCHEDULES[name]()
    found = events(schedule)
    for lane in ("compute", "DMA queue"):
        both = slices(found, lane) + slices(found, f"{lane} waits")
        assert sum(e["args"]["cycles"] for e in both) == schedule.claims.latency_cycles


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_wait_has_an_arrow_that_binds_at_both_ends(name):
    schedule = SCHEDULES[name]()
    found = events(schedule)
    begins = {e["id"]: e for e in found if e["ph"] == "s"}
    ends = {e["id"]: e for e in found if e["ph"] == "f"}
    assert begins.keys() == ends.keys()
    stalls = [s for s in Scene(schedule).simulation.stalls if s.command is not None]
    assert len(begins) == len(stalls)
    by_lane: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for event in found:
        if event["ph"] == "X":
            by_lane[event["tid"]].append(event)
    for number, stall in enumerate(stalls):
        for arrow, command in ((begins[number], stall.awaited), (ends[number], stall.command)):
            at = round(arrow["ts"] * 1000)
            (around,) = [
                e for e in by_lane[arrow["tid"]] if nanoseconds(e)[0] <= at < nanoseconds(e)[1]
            ]
            assert around["args"]["command"] == command
        assert begins[number]["ts"] <= ends[number]["ts"]


def test_counters_follow_the_simulation():
    schedule = prefetch()
    found = [e for e in events(schedule) if e["ph"] == "C"]
    live = [e["args"]["bytes"] for e in found if e["name"].startswith("SPM live")]
    assert live == [r.live_bytes for r in Scene(schedule).simulation.occupancy]
    reserved = [e["args"]["bytes"] for e in found if e["name"].startswith("SPM reserved")]
    assert reserved == list(Scene(schedule).reserved_bytes)
    rates = [e for e in found if e["name"].startswith("DRAM bandwidth")]
    # gigabytes per second times nanoseconds are bytes
    total = 0.0
    for now, then in pairwise(rates):
        total += (now["args"]["read"] + now["args"]["write"]) * (then["ts"] - now["ts"]) * 1000
    assert total == pytest.approx(schedule.claims.dram_bytes, rel=1e-6)
    assert rates[-1]["args"] == {"read": 0, "write": 0}


def test_events_come_first_and_no_time_unit_is_said():
    """Some trace processors take the first list for the events, and a unit for that of `ts`."""
    text = trace_json(prefetch())
    assert text.startswith('{"traceEvents":[')
    assert json.loads(text).keys() == {"traceEvents", "otherData"}


def test_a_schedule_without_commands_has_a_trace():
    assert {e["ph"] for e in events(fake_schedule())} == {"M", "X", "C"}


def test_a_trace_processor_finds_the_lanes_and_the_bytes(tmp_path):
    processor = pytest.importorskip("perfetto.trace_processor")
    # the package fetches its program from the network; only one that is there already is used
    program = shutil.which("trace_processor_shell") or shutil.which("trace_processor")
    if program is None:
        pytest.skip("no trace_processor_shell on the PATH")
    schedule = prefetch()
    (tmp_path / "trace.json").write_text(trace_json(schedule), encoding="utf-8")
    config = processor.TraceProcessorConfig(bin_path=program)
    with processor.TraceProcessor(trace=str(tmp_path / "trace.json"), config=config) as loaded:
        query = (
            "select thread.name as lane, sum(extract_arg(slice.arg_set_id, 'args.bytes')) as moved "
            "from slice join thread_track on slice.track_id = thread_track.id "
            "join thread using (utid) group by lane"
        )
        moved = {row.lane: row.moved for row in loaded.query(query)}
        arrows = [row.n for row in loaded.query("select count(*) as n from flow")]
    assert {"groups", "compute", "DMA queue"} <= moved.keys()
    assert moved["DMA queue"] == schedule.claims.dram_bytes
    assert arrows == [len([s for s in Scene(schedule).simulation.stalls if s.command is not None])]
