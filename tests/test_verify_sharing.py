"""The checker on maps inside others and over others: what protects a shared byte is needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from sharing_fixture import SHARING, in_place, joined, joined_in_dram, split, takeover
from test_verify import Change, drop, edit, swap

from spm_opt.graph.network import operand_of
from spm_opt.schedule import Buffer, Schedule
from spm_opt.verify import verify
from spm_opt.verify.accesses import Access, shared_with
from spm_opt.verify.facts import facts_of


@pytest.mark.parametrize("name", SHARING)
def test_hand_made_schedules_are_valid(name: str) -> None:
    assert verify(SHARING[name]()) == ()


def both(*changes: Change) -> Change:
    def apply(schedule: Schedule) -> Schedule:
        for change in changes:
            schedule = change(schedule)
        return schedule

    return apply


def reads_what_died(schedule: Schedule) -> Schedule:
    """b reads a's map after the rectifier's has taken its bytes; that one is kept for nobody."""
    a, r, b = schedule.network.layers
    late = replace(b, inputs=(operand_of(schedule.network.tensors["a.out"]),))
    network = replace(schedule.network, layers=(a, r, late))
    changed = replace(schedule, network=network)
    return both(edit("computes", 2, inputs=(3,)), edit("buffers", 3, end_step=3))(changed)


def wider(schedule: Schedule) -> Schedule:
    """The rectifier's stripe with one row more, and all bytes that this takes."""
    size = schedule.buffers[5].size_bytes + 32
    return edit("buffers", 5, count=6, size_bytes=size)(schedule)


def second_piece_apart(schedule: Schedule) -> Schedule:
    """b writes a map of its own instead of its channels of the joined one."""
    last = max(b.offset_bytes + b.size_bytes for b in schedule.buffers)
    own = Buffer("b.own", "map", "b.out", last, 256, 8, 32, 1, 2)
    changed = replace(schedule, buffers=(*schedule.buffers, own))
    return edit("computes", 1, output=len(schedule.buffers))(changed)


MUTATIONS: list[tuple[str, Callable[[], Schedule], Change, tuple[str, ...]]] = [
    # order
    (
        "stored while overwritten", takeover, edit("transfers", 2, step=1, need_step=1),
        ("nothing makes compute 1 ('r'", "wait for transfer 2 (store of 'a.out'", "buffer 'm'"),
    ),
    (
        "overwritten while stored", takeover, edit("computes", 1, start_cycle=660, end_cycle=729),
        ("race: transfer 2 (store of 'a.out'", "and compute 1 ('r'", "buffer 'm'"),
    ),
    (
        "next tile first", in_place,
        both(swap("computes", 2, 3), edit("computes", 2, start_cycle=600, end_cycle=821),
             edit("computes", 3, start_cycle=821, end_cycle=1402)),
        ("compute 3 ('b'", "reads rows 0 .. 3 of 'r.out'", "'r'", "buffer 'm' has its bytes since"),
    ),
    # rows that are still needed
    (
        "a later reader", takeover, reads_what_died,
        ("compute 2 ('b'", "reads rows 0 .. 8 of 'a.out'", "'m'", "'r' has its bytes since"),
    ),
    # channels
    (
        "wrong channels", joined_in_dram, edit("buffers", 3, channels=(0, 4)),
        ("compute 1 ('b'", "writes channels that buffer 'b.stored' does not hold"),
    ),
    (
        "stored to wrong channels", joined_in_dram, edit("transfers", 5, channels=(0, 4)),
        ("transfer 5 (store of 'cat.out'", "channels that buffer 'b.stored' does not hold"),
    ),
    (
        "the other half", split, edit("buffers", 0, channels=(0, 4)),
        ("compute 0 ('a'", "reads channels that buffer 'x' does not hold"),
    ),
    # pieces that are not there
    (
        "a piece elsewhere", joined, second_piece_apart,
        ("compute 2 ('c'", "reads rows 0 .. 8 of channels 4 .. 8 of 'cat.out'", "buffer 'j'"),
    ),
    (
        "a piece not stored", joined_in_dram, drop("transfers", 5),
        ("(load of 'cat.out', step 3", "loads rows 0 .. 8 of channels 4 .. 8 of 'cat.out'"),
    ),
    (
        "no map to take out of", split, drop("transfers", 0),
        ("compute 0 ('a'", "reads rows 0 .. 8 of channels 4 .. 8 of 'x', which is not in buf"),
    ),
    # extents
    ("more rows", in_place, wider, ("'r' shares the bytes of 'm', but differs from it",)),
    (
        "another place", in_place, edit("buffers", 5, offset_bytes=8000),
        ("'r' shares the bytes of 'm', but differs from it",),
    ),
    (
        "another time", takeover, edit("buffers", 3, end_step=1),
        ("'r' shares the bytes of 'm', but in other steps",),
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "change", "words"), [m[1:] for m in MUTATIONS], ids=[m[0] for m in MUTATIONS]
)
def test_a_mutation_is_rejected_by_the_names_of_both(
    make: Callable[[], Schedule], change: Change, words: tuple[str, ...]
) -> None:
    violations = verify(change(make()))
    assert any(all(word in sentence for word in words) for sentence in violations), "\n".join(
        violations
    )


def test_bytes_of_maps_that_are_cut_otherwise_are_found() -> None:
    facts = facts_of(takeover())
    upper = Access(3, (1, 2), 2, 3, 2)

    def cut(*own: int) -> Access:
        cuts = {**facts.map_cuts, "a.out": (0, 2, 4), "r.out": own}
        return shared_with(replace(facts, map_cuts=cuts), upper, 5)

    # rows 2 .. 5 of channels 2 .. 4
    assert cut(0, 2, 4) == Access(5, (1, 2), 2, 3, 2)
    assert cut(0, 3, 4) == Access(5, (0, 2), 2, 3, 2)
    assert cut(0, 1, 4) == Access(5, (1, 2), 2, 3, 2)
    assert cut(0, 1, 2, 3, 4) == Access(5, (2, 4), 2, 3, 2)
    assert cut(0, 4) == Access(5, (0, 1), 2, 3, 2)


@pytest.mark.parametrize("value", [-1, 6, 99, 5, 2**70, "m", 1.0, (3,)])
def test_nonsense_in_shares_is_a_violation_not_a_crash(value: object) -> None:
    # 5 is the buffer itself
    assert verify(edit("buffers", 5, shares=value)(takeover()))
