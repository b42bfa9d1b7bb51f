"""What people read of a schedule: the listing, the allocation and the layers."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from fractions import Fraction

import pytest
from schedule_fixture import ALL, channel_tiles, fused, prefetch, single, slices, stripes

from spm_opt.commands import lower
from spm_opt.emit.listing import listing as listing_of
from spm_opt.formats.tables import allocation_csv, layers_csv
from spm_opt.graph.network import Layer, Network, Tensor, operand_of
from spm_opt.graph.ops import Unary
from spm_opt.schedule import Schedule
from spm_opt.simulate import simulate


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def listing(schedule: Schedule) -> str:
    stream = lower(schedule)
    return listing_of(schedule, stream, simulate(stream, schedule.hardware))


def commands(text: str) -> list[tuple[int, str]]:
    found = re.findall(r"^ +\d+ +(\d+) \+\d+ +(LOAD|STORE|COMPUTE)", text, re.MULTILINE)
    return [(int(start), verb) for start, verb in found]


@pytest.mark.parametrize("name", ALL)
def test_every_command_is_listed_once_in_the_order_of_time(name: str) -> None:
    schedule = ALL[name]()
    listed = commands(listing(schedule))
    expected = [(t.start_cycle, t.kind.upper()) for t in schedule.transfers]
    expected += [(c.start_cycle, "COMPUTE") for c in schedule.computes]
    assert sorted(listed) == sorted(expected)
    for block in listing(schedule).split("\nstep ")[1:]:
        starts = [start for start, _ in commands(block)]
        assert starts == sorted(starts)


def test_the_listing_of_three_stripes() -> None:
    text = listing(stripes())
    assert "; latency   1865 cycles (1.865 us), bound 1865, roofline 1733" in text
    assert "; 0x000260 .. 0x000460  [0, 1)  y  output  a.out: 8 x 64 bytes" in text
    assert "; 0x00000480  weights:a" in text
    assert "step 0: a; 3 tiles of rows, retain, depth 2; cycles 0 .. 1823" in text
    for line in (
        "   4   661 +42      STORE   t0    a.out rows 0..4: spm 0x000260 -> dram 0x00000180; "
        "256 B, 256 B moved; after 3",
        "   5   703 +22      LOAD    t2    x rows 9..12: dram 0x00000120 -> spm 0x000000; "
        "96 B, 96 B moved",
        "   8  1242 +581     COMPUTE t2    a rows 8..12: x rows 7..12 spm 0x0000e0 "
        "(row 9 at 0x000000), weights spm 0x000120 -> spm 0x000260; after 5",
        "   9  1823 +42      STORE   t2    a.out rows 8..12: spm 0x000260 -> dram 0x00000380; "
        "256 B, 256 B moved; after 8",
    ):
        assert line in text.splitlines()


def test_the_listing_says_what_a_prefetch_is_for_and_how_slices_run() -> None:
    (line,) = [line for line in listing(prefetch()).splitlines() if "0x000009a0 ->" in line]
    assert line.endswith("304 B, 304 B moved; prefetched")
    assert "256 B in 8 runs, 256 B moved" in listing(slices())
    text = listing(channel_tiles())
    assert "weights of a channels 4..8: dram 0x000003a0 -> spm 0x000100" in text
    assert all(line == line.rstrip() for line in text.splitlines())


def test_allocation() -> None:
    found = rows(allocation_csv(prefetch()))
    assert len(found) == 8
    assert found[3] == {
        "buffer": "w.c", "tensor": "c", "kind": "weights", "offset_bytes": "1184",
        "size_bytes": "320", "first_step": "0", "last_step": "2",
    }  # fmt: skip


@pytest.mark.parametrize("name", ALL)
def test_layers_add_up_to_the_claims(name: str) -> None:
    schedule = ALL[name]()
    found = rows(layers_csv(schedule))
    claims = schedule.claims
    assert [row["layer"] for row in found] == [layer.name for layer in schedule.network.layers]
    assert sum(int(row["cycles"]) for row in found) == claims.compute_cycles
    assert sum(int(row["dram_weight_bytes"]) for row in found) == claims.dram_weight_bytes
    assert sum(int(row["dram_feature_map_bytes"]) for row in found) == claims.dram_feature_map_bytes
    assert sum(int(row["macs"]) for row in found) == claims.macs


def test_layer_rows_of_a_fused_pair_and_of_slices() -> None:
    first, second = rows(layers_csv(fused()))
    assert (first["first_step"], first["tiles"], first["axis"], first["halo"]) == (
        "0", "2", "rows", "retain",
    )  # fmt: skip
    # x comes in for the first layer, y goes out for the second; the stripe moves nothing
    assert (first["dram_feature_map_bytes"], second["dram_feature_map_bytes"]) == ("256", "512")
    assert first["spm_bytes"] == str(sum(b.size_bytes for b in fused().buffers))
    (row,) = rows(layers_csv(slices()))
    assert (row["first_step"], row["last_step"], row["tiles"]) == ("0", "1", "2")
    # 18432 MACs in 2 * 581 cycles on 16 MACs a cycle
    assert row["mac_utilisation"] == f"{18432 / (2 * 581 * 16):.4f}"


def bound_by(schedule: Schedule) -> str:
    return rows(layers_csv(schedule))[0]["bound_by"]


def slower(schedule: Schedule, factor: int, dram: bool = False) -> Schedule:
    """The schedule with its engines' commands stretched."""
    part = "transfers" if dram else "computes"
    stretched = tuple(
        replace(c, end_cycle=c.start_cycle + (c.end_cycle - c.start_cycle) * factor)
        for c in getattr(schedule, part)
    )
    return replace(schedule, **{part: stretched})


def test_what_bounds_a_layer() -> None:
    assert bound_by(single()) == "compute"
    assert bound_by(slower(single(), 10, dram=True)) == "dram"
    # tiles longer than their work wait for the scratchpad
    assert bound_by(slower(single(), 2)) == "spm"
    x, y = Tensor("x", (1, 4, 8, 8)), Tensor("y", (1, 4, 8, 8))
    relu = Layer("a", Unary("relu"), (operand_of(x),), "y", y.shape)
    base = single()
    wide = replace(base.hardware, spm=replace(base.hardware.spm, bytes_per_cycle=Fraction(1024)))
    command = replace(base.computes[0], weights=(), start_cycle=0, end_cycle=256 // 4 + 5)
    vector = replace(
        base, hardware=wide, transfers=(), computes=(command,),
        network=Network("relu", {"x": x, "y": y}, (relu,), ("x",), ("y",)),
    )  # fmt: skip
    assert bound_by(vector) == "vector"
