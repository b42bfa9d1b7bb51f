"""The checker accepts hand-made schedules and catches every kind of corruption, by its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
from schedule_fixture import (
    ALL,
    channel_inputs,
    channel_tiles,
    crossing,
    fused,
    own_channels,
    partial_sums,
    pieces,
    prefetch,
    single,
    slices,
    stripes,
)
from sharing_fixture import SHARING, in_place, takeover

import spm_opt.verify as checker
from spm_opt.errors import InputError
from spm_opt.graph.network import Network, Tensor, Weight, operand_of
from spm_opt.graph.ops import Binary, Conv
from spm_opt.schedule import EnergyClaims, Schedule
from spm_opt.verify import verify
from spm_opt.verify.facts import facts_of
from spm_opt.verify.structure import malformed

Change = Callable[[Schedule], Schedule]


def edit(part: str, index: int, **changes: Any) -> Change:
    """Replace fields of one record of a part of the schedule."""

    def apply(schedule: Schedule) -> Schedule:
        records = list(getattr(schedule, part))
        records[index] = replace(records[index], **changes)
        return replace(schedule, **{part: tuple(records)})

    return apply


def drop(part: str, index: int) -> Change:
    def apply(schedule: Schedule) -> Schedule:
        records = list(getattr(schedule, part))
        del records[index]
        return replace(schedule, **{part: tuple(records)})

    return apply


def repeat(part: str, index: int) -> Change:
    def apply(schedule: Schedule) -> Schedule:
        records = getattr(schedule, part)
        return replace(schedule, **{part: (*records, records[index])})

    return apply


def swap(part: str, i: int, j: int) -> Change:
    def apply(schedule: Schedule) -> Schedule:
        records = list(getattr(schedule, part))
        records[i], records[j] = records[j], records[i]
        return replace(schedule, **{part: tuple(records)})

    return apply


def claim(**changes: int) -> Change:
    return lambda s: replace(s, claims=replace(s.claims, **changes))


def made(**changes: Any) -> Change:
    return lambda s: replace(s, provenance=replace(s.provenance, **changes))


def address(key: str, value: int) -> Change:
    return lambda s: replace(s, dram_addresses={**s.dram_addresses, key: value})


def unplaced(key: str) -> Change:
    return lambda s: replace(
        s, dram_addresses={k: v for k, v in s.dram_addresses.items() if k != key}
    )


def other_weights(schedule: Schedule) -> Schedule:
    """The network as if layer a had one more constant."""
    first = schedule.network.layers[0]
    heavier = replace(first, weights=(*first.weights, Weight("extra", (64,))))
    network = replace(schedule.network, layers=(heavier, *schedule.network.layers[1:]))
    return replace(schedule, network=network)


def smaller_spm(schedule: Schedule) -> Schedule:
    spm = replace(schedule.hardware.spm, capacity_bytes=512)
    return replace(schedule, hardware=replace(schedule.hardware, spm=spm))


def convolved(schedule: Schedule) -> Schedule:
    """The network with a convolution where the rectifier was."""
    a, r, b = schedule.network.layers
    layers = (a, replace(r, op=a.op, weights=a.weights), b)
    return replace(schedule, network=replace(schedule.network, layers=layers))


CORRUPTIONS: list[tuple[str, Callable[[], Schedule], Change, str]] = [
    # buffers
    ("move a buffer", single, edit("buffers", 2, offset_bytes=544), "'w.a' and 'y' overlap at"),
    ("unaligned", single, edit("buffers", 2, offset_bytes=577), "has offset 577, not aligned"),
    ("unaligned size", single, edit("buffers", 2, size_bytes=513), "has size 513, not aligned"),
    ("beyond the SPM", single, edit("buffers", 2, offset_bytes=8192), "outside the scratchpad"),
    ("below the SPM", single, edit("buffers", 0, offset_bytes=-32), "outside the scratchpad"),
    ("smaller SPM", single, smaller_spm, "outside the scratchpad's 0 .. 512"),
    ("shrink a buffer", single, edit("buffers", 2, size_bytes=448), "size 448, too small for 8"),
    ("wrong unit", single, edit("buffers", 2, unit_bytes=32), "units of 32 bytes, not 64"),
    ("weights in two", single, edit("buffers", 1, count=2, unit_bytes=160), "2 units, not 1"),
    ("small tiles", channel_tiles, edit("buffers", 1, unit_bytes=128), "a tile of 160 bytes"),
    ("end residency", prefetch, edit("buffers", 4, end_step=1), "resident only in steps 0 .. 1"),
    ("begin residency", prefetch, edit("buffers", 3, first_step=1), "'w.c' in step 2, but it is"),
    ("prefetch target", prefetch, edit("buffers", 3, end_step=2), "resident only in steps 0 .. 2"),
    ("roll too short", stripes, edit("buffers", 0, count=8), "race: "),
    ("output too short", stripes, edit("buffers", 2, count=4), "race: "),
    ("ordered by luck", fused, edit("buffers", 4, count=7), "nothing makes compute 3"),
    ("rows that do not fit", stripes, edit("buffers", 0, count=5), "touches more rows of 'x'"),
    ("stripe too short", fused, edit("buffers", 3, count=4), "touches more rows of 'a.out'"),
    # buffers that share bytes
    ("shares too few", in_place, edit("buffers", 5, count=4), "'r' shares the bytes of 'm', but"),
    (
        "shares its input",
        takeover,
        edit("buffers", 5, shares=0),
        "'r' shares the bytes of 'x', but",
    ),
    ("shares nothing", takeover, edit("buffers", 5, shares=None), "'m' and 'r' overlap at bytes"),
    ("not in place", takeover, convolved, "of buffer 'm' that it writes in buffer 'r'"),
    # what commands name
    ("other input", prefetch, edit("computes", 1, inputs=(0,)), "reads 'a.out' from buffer 'x'"),
    ("other output", prefetch, edit("computes", 0, output=5), "writes 'a.out' to buffer"),
    ("other weights", prefetch, edit("computes", 1, weights=(1,)), "weights from buffer 'w.a'"),
    ("no weights", single, edit("computes", 0, weights=()), "no buffer for some of its weights"),
    ("half weights", slices, edit("computes", 1, weights=(1,)), "no buffer for some of its weig"),
    ("weights twice", single, edit("computes", 0, weights=(1, 1)), "names a weight buffer twice"),
    ("layer of another step", prefetch, edit("steps", 1, layers=("c",)), "does not list"),
    ("other slice", slices, edit("computes", 1, channels=(0, 4)), "outside its step's slice"),
    ("load to elsewhere", prefetch, edit("transfers", 1, buffer=1), "uses buffer 'w.a'"),
    ("store weights", single, edit("transfers", 0, kind="store"), "stores weights"),
    ("tile without number", channel_tiles, edit("transfers", 1, tile=None), "names no tile"),
    ("other slice stored", slices, edit("transfers", 3, channels=(4, 8)), "does not hold"),
    # data
    ("drop a load", stripes, drop("transfers", 2), "reads rows 5 .. 9 of 'x', which is not in"),
    ("fewer rows", stripes, edit("transfers", 2, rows=(5, 8)), "reads rows 8 .. 9 of 'x'"),
    ("late rows", stripes, edit("transfers", 2, end_cycle=700), "which is not yet in buffer"),
    ("fewer rows made", fused, edit("computes", 0, rows=(0, 4)), "reads rows 4 .. 5 of 'a.out'"),
    ("no weights there", single, drop("transfers", 0), "reads the weights of 'a', which is not"),
    ("other tile there", channel_tiles, edit("transfers", 1, channels=(4, 8)), "reads the weight"),
    ("other tile stored", channel_tiles, edit("transfers", 4, channels=(0, 4)), "reads the tile"),
    ("weights twice loaded", single, repeat("transfers", 0), "loaded more than once"),
    ("half never loaded", slices, drop("transfers", 2), "never loaded: bytes 160 .. 320"),
    ("missing store", stripes, drop("transfers", 6), "not stored whole to DRAM: rows 8 .. 12"),
    ("half stored", slices, drop("transfers", 3), "rows 0 .. 8 of channels 0 .. 4 are missing"),
    ("missing spill", prefetch, drop("transfers", 4), "which DRAM does not hold"),
    ("load before spill", prefetch, swap("transfers", 4, 5), "before its engine is free"),
    # loads in pieces
    ("pieces overlap", pieces, edit("transfers", 4, piece=(304, 608)), "more than once: bytes 304"),
    ("pieces apart", pieces, edit("transfers", 4, piece=(336, 608)), "never loaded: bytes 320 .. "),
    ("a piece short", pieces, edit("transfers", 4, piece=(320, 600)), "never loaded: bytes 600 .."),
    ("a piece missing", pieces, drop("transfers", 2), "reads the weights of 'b', which is not"),
    ("a piece twice", pieces, repeat("transfers", 2), "more than once: bytes 0 .. 320"),
    ("all beside a piece", pieces, edit("transfers", 4, piece=None), "more than once: bytes 0 .. "),
    ("pieces swapped", pieces, swap("transfers", 2, 4), "before its engine is free"),
    ("a piece awaited", pieces, edit("transfers", 4, need_step=0), "is needed by step 0, its"),
    ("from elsewhere", pieces, edit("transfers", 4, dram_address=0), "its data lies at"),
    ("other run", pieces, edit("transfers", 4, run_bytes=272), "are 1 runs of 288"),
    # work
    ("missing compute", stripes, drop("computes", 2), "computes 2 of them"),
    ("missing rows", single, edit("computes", 0, rows=(0, 7)), "never computes rows 7 .. 8"),
    ("rows twice", lambda: fused("recompute"), edit("steps", 0, halo="retain"), "more than once"),
    ("duplicate compute", single, repeat("computes", 0), "computes more than once rows 0 .. 8"),
    ("wider slice", slices, edit("steps", 0, channels=(0, 5)), "does not compute all of its slice"),
    ("idle layer", prefetch, edit("steps", 0, layers=("a", "b")), "never computes its layer 'b'"),
    ("other axis", stripes, edit("steps", 0, axis="channels"), "computes some rows, but its step"),
    ("cut rows", channel_tiles, edit("steps", 0, axis="rows"), "other channels than its step"),
    ("slice twice", slices, edit("computes", 1, channels=(0, 4)), "channels 4 .. 8"),
    # channels of inputs
    ("other channels there", own_channels, edit("computes", 0, inputs=(3,)), "does not hold"),
    ("wider than its buffer", own_channels, edit("transfers", 1, channels=(0, 8)), "not hold"),
    ("another slice loaded", own_channels, edit("buffers", 0, channels=(4, 8)), "does not hold"),
    ("half a group read", own_channels, edit("transfers", 1, channels=(0, 2)), "reads rows 0 .. 5"),
    (
        "whole rows priced",
        own_channels,
        edit("transfers", 1, run_bytes=320, runs=1),
        "5 runs of 32",
    ),
    ("tile of others", channel_inputs, edit("transfers", 1, channels=(32, 48)), "the tile of 'x'"),
    ("a tile not loaded", channel_inputs, drop("transfers", 3), "reads the tile of 'x'"),
    ("some rows of a tile", channel_inputs, edit("transfers", 0, rows=(0, 7)), "some rows of a ch"),
    ("store of an input", channel_inputs, edit("transfers", 0, kind="store"), "from the input buf"),
    ("one tile's room", channel_inputs, edit("buffers", 0, count=1), "race: "),
    ("tiles too large", channel_inputs, edit("buffers", 0, unit_bytes=512), "a tile of 1024 bytes"),
    ("written to an input", channel_inputs, edit("computes", 0, output=0), "writes 'y' to buffer"),
    # partial sums
    ("a tile left out", partial_sums, drop("computes", 1), "has 2 tiles but computes 1"),
    ("channels left out", partial_sums, edit("computes", 2, summed=(5, 8)), "channels 4 .. 5 nev"),
    ("a slice twice", partial_sums, repeat("computes", 1), "channels 0 .. 4 more than once"),
    ("slices swapped", partial_sums, swap("computes", 1, 2), "never runs"),
    ("the last slice first", partial_sums, edit("computes", 1, summed=(4, 8)), "its sums anew"),
    ("other rows added", partial_sums, edit("computes", 1, rows=(0, 7)), "reads the partial sums"),
    ("more channels added", partial_sums, edit("computes", 1, summed=(0, 5)), "4 .. 5 more than"),
    ("anew in between", partial_sums, edit("computes", 2, sums=None), "begins its sums anew"),
    ("begun with others", partial_sums, edit("computes", 1, sums=5), "begins with partial sums"),
    ("made too early", partial_sums, edit("computes", 1, output=6), "partial sums in buffer 'y'"),
    ("stored too early", partial_sums, edit("transfers", 7, tile=0), "makes transfer 7 (store"),
    ("sums too large", partial_sums, edit("buffers", 5, unit_bytes=512), "1024 bytes of partial"),
    ("sums let go", partial_sums, edit("buffers", 5, first_step=0, end_step=1), "only in steps"),
    ("sums overlapped", partial_sums, edit("buffers", 6, offset_bytes=1472), "'sums' and 'y' ove"),
    ("along rows", partial_sums, edit("steps", 1, axis="blocks"), "than a step along 'blocks' do"),
    ("not all constants", partial_sums, drop("transfers", 4), "channels 0 .. 4 are loaded n"),
    ("constants of others", partial_sums, edit("transfers", 4, summed=(4, 8)), "reads the weights"),
    ("a slice kept", partial_sums, edit("buffers", 4, kind="weights"), "a slice to buffer 'wb'"),
    ("constants in one run", partial_sums, edit("transfers", 4, runs=1), "are 4 runs of 36"),
    # DRAM
    ("wrong dram address", single, edit("transfers", 1, dram_address=16), "its data lies at 0x0"),
    ("moved tensor", single, address("x", 4096), "has DRAM address 0x0, its data lies at 0x1000"),
    ("overlap in DRAM", single, address("x", 256), "overlap in DRAM"),
    ("unaligned in DRAM", single, address("weights:a", 8200), "not aligned to bursts of 16"),
    ("unplaced tensor", single, unplaced("x"), "'x' is not placed in DRAM"),
    ("unknown tensor placed", single, address("nobody", 8192), "unknown tensor 'nobody'"),
    ("wrong runs", slices, edit("transfers", 3, run_bytes=256, runs=1), "are 8 runs of 32"),
    ("another network", single, other_weights, "lasts 50 cycles, its bytes cost 58"),
    # time
    ("shift a time", single, edit("computes", 0, start_cycle=93), "the machine gives 92 .. 1249"),
    ("shift a step", prefetch, edit("steps", 1, start_cycle=0), "step 1 takes cycles 0 .. 3558"),
    ("faster compute", single, edit("computes", 0, end_cycle=1000), "its tile costs 1157"),
    ("faster transfer", single, edit("transfers", 0, end_cycle=40), "its bytes cost 50"),
    ("moves less", single, edit("transfers", 0, moved_bytes=304), "its bursts are 320"),
    ("swap computes", stripes, swap("computes", 0, 1), "the machine gives 687 .. 1268"),
    ("deadlock", stripes, swap("transfers", 1, 6), "never runs"),
    ("swap transfers", stripes, swap("transfers", 3, 4), "before its engine is free"),
    ("depth", stripes, edit("steps", 0, depth=1), "the machine gives"),
    ("no prefetch", prefetch, edit("transfers", 3, need_step=0), "is needed by step 0, its"),
    # steps are no barriers
    ("claimed late", crossing, edit("buffers", 4, first_step=1), "the machine gives 1246 .. 1296"),
    ("not released", crossing, edit("transfers", 6, need_step=0), "the machine gives"),
    ("held too short", crossing, edit("buffers", 3, end_step=1), "it is resident only in steps 0"),
    ("loaded before stored", crossing, swap("transfers", 4, 5), "before its engine is free"),
    # claims
    *(
        (f"claim {field.name}", prefetch, claim(**{field.name: 7}), f"claim {field.name} is 7")
        for field in fields(single().claims)
        if field.name != "energy"
    ),
    ("claim energy", prefetch, claim(energy=EnergyClaims(*range(10))), "hardware does not say it"),
    ("claim macs redone", lambda: fused("recompute"), claim(recomputed_macs=0), "recomputed: 2304"),
    ("objective value", single, made(objective_value=1), "objective value is 1"),
    ("objective", single, made(objective="dram"), "the claimed dram is 1088"),
    ("unknown objective", single, made(objective="energy"), "allowed: latency, dram"),
    ("bound above", single, made(objective_bound=9999), "the bound 9999 is above"),
    ("unproven optimum", single, made(objective_bound=1), "the status is optimal, but"),
    ("unknown status", single, made(status="best"), "allowed: optimal, feasible"),
    ("latency bound", single, made(latency_lower_bound_cycles=9999), "latency bound 9999"),
]


@pytest.mark.parametrize("name", ALL)
def test_hand_made_schedules_are_valid(name: str) -> None:
    assert verify(ALL[name]()) == ()


def test_cycles_of_the_hand_made_schedule_are_those_worked_out_on_paper() -> None:
    # weights 320 B: 10 + 40; map 256 B: 10 + 32; 8*8 pixels * 9 taps * (8/4) * (4/4) + 5 = 1157;
    # output 512 B: 10 + 64
    assert single().claims.latency_cycles == 50 + 42 + 1157 + 74


@pytest.mark.parametrize(
    ("make", "change", "words"), [c[1:] for c in CORRUPTIONS], ids=[c[0] for c in CORRUPTIONS]
)
def test_corruption_is_caught(make: Callable[[], Schedule], change: Change, words: str) -> None:
    violations = verify(change(make()))
    assert any(words in sentence for sentence in violations), "\n".join(violations)


def test_every_rule_is_needed_by_some_corruption() -> None:
    needed = set()
    for _, make, change, words in CORRUPTIONS:
        schedule = change(make())
        if not tuple(malformed(schedule)):
            facts = facts_of(schedule)
            for rule in checker._RULES:
                if any(words in sentence for sentence in rule(facts)):
                    needed.add(rule.__name__)
    assert {rule.__name__ for rule in checker._RULES} == needed


#: what may change by a little without harm, and why
HARMLESS = {
    ("buffers", "offset_bytes"): "off by one it is unaligned: see the corruptions",
    ("buffers", "size_bytes"): "off by one it is unaligned: see the corruptions",
}
#: resident longer than needed where nobody else wants the bytes
OUTWARD = {("first_step", -1), ("end_step", 1)}
PARTS = ("steps", "buffers", "transfers", "computes")


def nudged(value: Any) -> list[Any]:
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return []
    if isinstance(value, int):
        return [value - 1, value + 1]
    return [
        (*value[:i], item, *value[i + 1 :]) for i, old in enumerate(value) for item in nudged(old)
    ]


#: records in which a field may change without harm all the same, and why
HARMLESS_HERE = {
    ("in_place", "computes", 1, "tile"): "the load of the next tile, which it waits for, has ended",
    ("crossing", "computes", 2, "inputs"): "the rows lie in the buffer that drains, too",
    ("crossing", "computes", 3, "inputs"): "the rows lie in the buffer that drains, too",
}


@pytest.mark.parametrize("name", [*ALL, *SHARING])
def test_no_field_of_any_record_can_be_off_by_one(name: str) -> None:
    schedule = {**ALL, **SHARING}[name]()
    for part in PARTS:
        for index, record in enumerate(getattr(schedule, part)):
            for item in fields(record):
                if (part, item.name) in HARMLESS or (name, part, index, item.name) in HARMLESS_HERE:
                    continue
                if item.name == "depth" and record.tiles == 1:
                    continue  # no second tile to run beside
                if item.name == "step" and part == "transfers" and record.tile is None:
                    continue  # a whole load may stand in any step from its claim on
                if item.name == "need_step" and record.kind == "store":
                    continue  # a computation that it did not hold up does not wait for it now
                old = getattr(record, item.name)
                for value in nudged(old):
                    if isinstance(value, int) and (item.name, value - old) in OUTWARD:
                        continue
                    wrong = edit(part, index, **{item.name: value})(schedule)
                    assert verify(wrong), (part, index, item.name, value)


WILD = (-1, 10**6, 2**70, "x", None, (), (3, 1), ("x", "y"), (0, 10**9), 1.5)


@pytest.mark.parametrize("name", ["stripes", "channel_tiles", "prefetch", "pieces"])
def test_nonsense_in_any_field_is_a_violation_not_a_crash(name: str) -> None:
    schedule = ALL[name]()
    for part in PARTS:
        record = getattr(schedule, part)[0]
        assert is_dataclass(record)
        for item in fields(record):
            for value in WILD:
                if value == getattr(record, item.name) or item.name in ("name", "end_step"):
                    continue
                if value is None and item.name in ("tile", "channels", "piece"):
                    continue
                assert verify(edit(part, 0, **{item.name: value})(schedule)), (item.name, value)


MALFORMED: list[tuple[Change, str]] = [
    (edit("computes", 0, layer="nobody"), "unknown layer 'nobody'"),
    (edit("computes", 0, inputs=(99,)), "names buffer 99"),
    (edit("computes", 0, inputs=()), "names 0 inputs, the layer has 1"),
    (edit("computes", 0, tile=5), "belongs to tile 5"),
    (edit("computes", 0, rows=(0, 99)), "computes rows [0, 99]"),
    (edit("computes", 0, rows=(3, 3)), "computes rows [3, 3]"),
    (edit("computes", 0, channels=(0, 99)), "has channels [0, 99]"),
    (edit("transfers", 0, tensor="nobody"), "moves the unknown layer 'nobody'"),
    (edit("transfers", 1, tensor="nobody"), "moves the unknown tensor 'nobody'"),
    (edit("transfers", 1, channels=(0, 2)), "no channels to cut"),
    (edit("transfers", 0, buffer=-1), "names buffer -1"),
    (edit("transfers", 0, step=9), "belongs to step 9"),
    (edit("transfers", 0, kind="copy"), "unknown transfer 'copy'"),
    (edit("transfers", 0, rows=(0, 1)), "moves weights but names rows"),
    (edit("transfers", 1, rows=(0, 99)), "moves rows [0, 99]"),
    (edit("transfers", 2, need_step=9), "needed by step 9"),
    (edit("transfers", 0, piece=(0, 321)), "bytes 0 .. 321 of its constants, outside 0 .. 320"),
    (edit("transfers", 0, piece=(16, 16)), "bytes 16 .. 16"),
    (edit("transfers", 0, piece=(-16, 320)), "bytes -16 .. 320"),
    (edit("transfers", 1, piece=(0, 16)), "which only constants moved as a whole can be"),
    (edit("buffers", 0, kind="cache"), "unknown kind 'cache'"),
    (edit("buffers", 0, tensor="nobody"), "unknown tensor 'nobody'"),
    (edit("buffers", 0, name="y"), "two buffers have the name 'y'"),
    (edit("buffers", 0, count=0), "has 0 units"),
    (edit("buffers", 0, end_step=9), "outside 0 .. 1"),
    (edit("steps", 0, layers=()), "has no layer"),
    (edit("steps", 0, layers=("nobody",)), "unknown layer 'nobody'"),
    (edit("steps", 0, axis="columns"), "unknown axis 'columns'"),
    (edit("steps", 0, halo="refetch"), "unknown halo policy"),
    (edit("steps", 0, depth=3), "has depth 3"),
    (edit("steps", 0, tiles=10**12), "tiles but computes 1"),
    (edit("steps", 0, channels=(0, 99)), "has channels [0, 99]"),
    (lambda s: replace(s, version=1), "version 1"),
    (claim(macs=2**80), "claims 0: macs is"),
    (address("x", 2**80), "DRAM address of 'x'"),
]


@pytest.mark.parametrize(("change", "words"), MALFORMED, ids=[words for _, words in MALFORMED])
def test_malformed_record_is_named(change: Change, words: str) -> None:
    violations = verify(change(single()))
    assert any(words in sentence for sentence in violations), "\n".join(violations)


def test_a_malformed_network_is_an_input_error() -> None:
    schedule = single()
    layer = schedule.network.layers[0]
    assert isinstance(layer.op, Conv)
    # fields that no shape rule looks at; the row map meets them first
    broken = replace(layer, op=replace(layer.op, kernel=(), stride=(), pads=(), dilation=()))
    network = object.__new__(Network)
    for item in fields(Network):
        object.__setattr__(network, item.name, getattr(schedule.network, item.name))
    object.__setattr__(network, "layers", (broken,))
    with pytest.raises(InputError, match="cannot be computed with"):
        verify(replace(schedule, network=network))


def test_an_empty_schedule_is_not_valid() -> None:
    empty = replace(single(), steps=(), buffers=(), transfers=(), computes=(), dram_addresses={})
    violations = verify(empty)
    assert any("never computes rows 0 .. 8" in sentence for sentence in violations)
    assert any("not stored whole" in sentence for sentence in violations)


def test_rows_that_nobody_needs_may_be_left_out() -> None:
    schedule = fused()
    a, b = schedule.network.layers
    assert isinstance(b.op, Conv)
    # b now skips every other row and column: of a's rows 0 .. 8 it reads 0 .. 8 without padding
    # at the end, so row 7 is never needed
    strided = replace(b.op, kernel=(1, 1), stride=(2, 2), pads=(0, 0, 0, 0))
    out = Tensor("b.out", (1, 8, 4, 4))
    network = replace(
        schedule.network,
        tensors={**schedule.network.tensors, "b.out": out},
        layers=(a, replace(b, op=strided, output_shape=out.shape)),
    )
    shorter = [c for c in schedule.computes if c.layer == "a"]
    shorter[-1] = replace(shorter[-1], rows=(5, 7))
    changed = replace(schedule, network=network, computes=tuple(shorter))
    facts = facts_of(changed)
    about_a = [s for s in checker.each_row_once(facts) if "layer 'a'" in s]
    assert about_a == []
    shorter[-1] = replace(shorter[-1], rows=(5, 6))
    facts = facts_of(replace(changed, computes=tuple(shorter)))
    assert any("never computes rows 6 .. 7" in s for s in checker.each_row_once(facts))


def test_an_operand_read_twice_is_priced_twice() -> None:
    x = Tensor("x", (1, 4, 8, 8))
    y = Tensor("y", (1, 4, 8, 8))
    from schedule_fixture import CHIP, Draft

    from spm_opt.graph.network import Layer
    from spm_opt.verify.engines import read_bytes

    layer = Layer("sq", Binary("mul"), (operand_of(x), operand_of(x)), "y", y.shape)
    network = Network("square", {"x": x, "y": y}, (layer,), ("x",), ("y",))
    base = single()
    command = replace(base.computes[0], layer="sq", inputs=(0, 0), weights=(), output=0)
    schedule = replace(
        base, network=network, buffers=base.buffers[:1], transfers=(), computes=(command,)
    )
    assert read_bytes(facts_of(schedule), command) == 2 * x.size_bytes
    assert Draft(network).hardware is CHIP
