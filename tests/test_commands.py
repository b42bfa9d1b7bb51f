"""Claimed, verified and simulated: three numbers of every plan, and they are the same.

Streams of hand-written schedules, of plans drawn by lot and of catalogue models are lowered,
checked against their schedules and run.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import jsonschema
import pytest
from draws import quick_of
from plan_fixture import make_world, random_chip, random_decision, random_network, schedule_of
from schedule_fixture import ALL, Draft, chain, single, stripes

import spm_opt
from spm_opt.commands import Stream, lower
from spm_opt.errors import InputError, SpmTooSmallError
from spm_opt.formats.commands_json import commands_from_json, commands_schema, commands_to_json
from spm_opt.params import STRATEGIES
from spm_opt.schedule import Schedule
from spm_opt.simulate import simulate
from spm_opt.verify import verify
from spm_opt.verify.commands import verify_commands

CATALOGUE = sorted(path.stem for path in (Path(__file__).parent.parent / "models").glob("*.yaml"))
#: plans by lot that are always tried
LOTS = 15


def lots(seeds: range) -> Iterator[tuple[int, Schedule]]:
    """Plans by lot, those that the checker of schedules accepts, with their seeds."""
    for seed in seeds:
        rng = random.Random(seed)
        try:
            network = random_network(rng)
            chip = random_chip(rng, network)
            world = make_world(network, chip, prune=False, cuts=seed % 2 > 0)
        except SpmTooSmallError:
            continue
        decision = random_decision(rng, world.problem)
        schedule = None if decision is None else schedule_of(world, decision)
        if schedule is not None and not verify(schedule):
            yield seed, schedule


@cache
def few() -> tuple[Schedule, ...]:
    """The plans by lot that are always tried."""
    return tuple(schedule for _, schedule in lots(range(LOTS)))


def assert_agreed(schedule: Schedule) -> Stream:
    """The stream of a valid schedule is right, and gives what the schedule claims."""
    stream = lower(schedule)
    assert verify_commands(schedule, stream) == ()
    found, claims = simulate(stream, schedule.hardware), schedule.claims
    assert found.latency_cycles == claims.latency_cycles
    assert found.busy_cycles["compute"] == claims.compute_cycles
    assert found.dram_bytes == claims.dram_bytes
    assert found.peak_live_bytes <= claims.spm_peak_bytes
    return stream


@pytest.mark.parametrize("name", ALL)
def test_three_numbers_agree_by_hand(name: str) -> None:
    schedule = ALL[name]()
    assert verify(schedule) == ()
    assert_agreed(schedule)


def test_three_numbers_agree_by_lot() -> None:
    seen = [assert_agreed(schedule) for schedule in few()]
    assert len(seen) > LOTS // 3
    commands = [command for stream in seen for command in stream.commands]
    assert any(command.prefetch for command in commands)
    assert any(window.held < window.rows[1] for c in commands for window in c.inputs)
    assert any(window.runs > 1 or window.touched for c in commands for window in c.inputs)


@pytest.mark.heavy
@pytest.mark.parametrize("seeds", [range(40), *(range(n, n + 100) for n in range(1000, 2000, 100))])
def test_three_numbers_agree_by_many_lots(seeds: range) -> None:
    for _, schedule in lots(seeds):
        assert_agreed(schedule)


@pytest.mark.parametrize("model", quick_of(["alexnet"], ["alexnet", "squeezenet1_1"]))
def test_three_numbers_agree_for_a_model(model: str) -> None:
    limits = {"time_limit": 20.0, "workers": 1, "orders": 1}
    for result in spm_opt.compare(model, strategies=("pin", "joint"), **limits):
        assert_agreed(result.schedule)


@pytest.mark.heavy
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("model", CATALOGUE)
def test_three_numbers_agree_for_the_catalogue(model: str, strategy: str) -> None:
    """A short search each: what is asked is whether the numbers agree, not how good they are."""
    result = spm_opt.solve(model, strategy=strategy, time_limit=10.0, workers=1, orders=1)
    assert_agreed(result.schedule)


def test_waits_are_few_and_lead_across() -> None:
    stream = lower(stripes())
    waits = [command.waits for command in stream.commands]
    # by hand: each tile after its load, each store after its tile; the rest is in order
    assert waits == [(), (), (), (1,), (3,), (), (2,), (6,), (5,), (8,)]


def stored_whole() -> Schedule:
    """The whole output leaves at the end of the step, not by tiles."""
    d = Draft(chain(8, (4, 8), "a"))
    d.step("a", tiles=2)
    x, w = d.buffer("x", "map", "x", 8, 32, (0, 1)), d.weights("a", (0, 1))
    y = d.buffer("y", "map", "a.out", 8, 64, (0, 1))
    d.load_weights("a", w)
    loaded = d.move("load", "x", x, (0, 8))
    d.compute("a", (0, 4), x, w, y, 5, tile=0, after=[loaded])
    done = d.compute("a", (4, 8), x, w, y, 5, tile=1)
    d.move("store", "a.out", y, (0, 8), after=[done])
    return d.finish()


def test_a_store_of_no_tile_waits_for_all_that_its_step_writes() -> None:
    schedule = stored_whole()
    assert verify(schedule) == ()
    assert assert_agreed(schedule).commands[-1].waits == (3,)


# --- the file -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_a_stream_that_is_read_back_is_the_same(name: str) -> None:
    stream = lower(ALL[name]())
    text = commands_to_json(stream)
    assert commands_from_json(text) == stream
    jsonschema.Draft202012Validator(commands_schema()).validate(json.loads(text))
    # one command a line
    lines = [line for line in text.splitlines() if line.lstrip().startswith('{"number"')]
    assert len(lines) == len(stream.commands)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"spm_opt.commands"', '"other"', "format: this is no command stream"),
        ('"version": 1', '"version": 7', "version: this version of the format is unknown; found 7"),
        ('"tile": -1', '"tile": "t"', "commands[0].tile: must be a whole number; found 't'"),
        ('"runs": 1', '"runes": 1', "commands[0].output.runes: unknown field"),
        ('"summed": null}', '"summed": null', "this is no JSON, or only a part of it"),
        ('"spm_bytes"', '"bytes_of_spm"', "bytes_of_spm: unknown field"),
    ],
)
def test_a_wrong_file_is_an_error_that_names_file_and_field(
    old: str, new: str, message: str
) -> None:
    text = commands_to_json(lower(single()))
    assert old in text
    jsonschema.Draft202012Validator.check_schema(commands_schema())
    with pytest.raises(InputError) as error:
        commands_from_json(text.replace(old, new, 1), "commands.json")
    assert str(error.value).startswith("commands.json: ")
    assert message in str(error.value)


def test_the_schema_refuses_what_the_reader_refuses() -> None:
    plain = json.loads(commands_to_json(lower(single())))
    validator = jsonschema.Draft202012Validator(commands_schema())
    for name in plain["commands"][0]:
        commands = [{k: v for k, v in plain["commands"][0].items() if k != name}]
        assert not validator.is_valid({**plain, "commands": commands}), name
    for name in plain["commands"][0]["output"]:
        window = {**plain["commands"][0]["output"], name: "x" if name != "tensor" else 1}
        commands = [{**plain["commands"][0], "output": window}]
        assert not validator.is_valid({**plain, "commands": commands}), name


# --- spills share DRAM ----------------------------------------------------------------------------


def spills() -> Schedule:
    """Four convolutions, every map between them stored and loaded again, the first one twice."""
    names = ("a", "b", "c", "d")
    d = Draft(chain(8, (4, 4, 4, 4, 4), *names))
    sources = ["x", *(f"{name}.out" for name in names)]
    for i, name in enumerate(names):
        d.step(name)
        x = d.buffer(f"x{i}", "map", sources[i], 8, 32, (i, i + 1))
        w = d.weights(name, (i, i + 1))
        y = d.buffer(f"y{i}", "output", sources[i + 1], 8, 32, (i, i + 1))
        d.load_weights(name, w, step=i)
        if name == "d":
            again = d.buffer("again", "map", "a.out", 8, 32, (i, i + 1))
            d.move("load", "a.out", again, (0, 8), step=i)
        loaded = d.move("load", sources[i], x, (0, 8), step=i)
        done = d.compute(name, (0, 8), x, w, y, 8, step=i, after=[loaded])
        d.move("store", sources[i + 1], y, (0, 8), step=i, tile=0, after=[done])
    return d.finish()


def moved_to(schedule: Schedule, **addresses: int) -> Schedule:
    """The schedule with maps at other places in DRAM."""
    table = {**schedule.dram_addresses, **addresses}
    transfers = tuple(
        replace(
            t, dram_address=t.dram_address + table[t.tensor] - schedule.dram_addresses[t.tensor]
        )
        if t.role == "map"
        else t
        for t in schedule.transfers
    )
    return replace(schedule, dram_addresses=table, transfers=transfers)


def test_spills_that_are_never_needed_together_may_share_dram() -> None:
    schedule = spills()
    where = schedule.dram_addresses
    # the last load of b.out stands before the first store of c.out
    shared = moved_to(schedule, **{"c.out": where["b.out"]})
    assert verify(shared) == ()
    assert_agreed(shared)


@pytest.mark.parametrize(
    ("one", "other"),
    [("a.out", "b.out"), ("a.out", "c.out"), ("x", "b.out"), ("b.out", "d.out")],
)
def test_maps_that_are_needed_together_may_not_share_dram(one: str, other: str) -> None:
    schedule = spills()
    broken = moved_to(schedule, **{other: schedule.dram_addresses[one]})
    found = [text for text in verify(broken) if "overlap in DRAM" in text]
    assert len(found) == 1
    assert repr(one) in found[0]
    assert repr(other) in found[0]
    # an input or output may be needed at any time; of two spills the commands are named
    assert ("both are used from transfer" in found[0]) == (one == "a.out")


@pytest.mark.parametrize("other", ["b.out", "c.out"])
def test_a_map_that_is_overwritten_while_still_to_be_loaded_is_seen_byte_by_byte(
    other: str,
) -> None:
    schedule = spills()
    lost = moved_to(schedule, **{other: schedule.dram_addresses["a.out"] + 32})
    (text,) = verify_commands(lost, lower(lost))
    assert "(load 'a.out', step 3) reads DRAM bytes" in text
    assert f"as bytes of 'a.out': they hold bytes of '{other}'" in text
    # the place that one more map frees is no help to the constants
    lost = moved_to(schedule, **{"a.out": schedule.dram_addresses["weights:b"]})
    (text, *_) = verify_commands(lost, lower(lost))
    assert "load of weights of 'b'" in text
    assert "they hold bytes of 'a.out'" in text


def test_the_planner_lets_spills_share_dram() -> None:
    saved = 0
    for schedule in few():
        figures = spm_opt.Result(schedule).to_dict()
        ends = [
            address + (schedule.network.tensors[name].size_bytes if ":" not in name else 0)
            for name, address in schedule.dram_addresses.items()
        ]
        assert max(ends) <= figures["dram_footprint_bytes"]
        saved += figures["dram_reused_bytes"] > 0
    assert saved
