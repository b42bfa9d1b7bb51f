"""The allocator against brute force, the gadget, known optima, and hand-made mistakes."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

import allocate_oracle as oracle
import numpy as np
import pytest

import spm_opt
from spm_opt.allocation import (
    Adjacent,
    Allocation,
    Buffer,
    InPlace,
    Inside,
    Region,
    Switches,
    allocate,
    linked,
    portfolio,
    violations,
)
from spm_opt.allocation.domains import Domain
from spm_opt.allocation.instance import Instance
from spm_opt.allocation.place import find_placement, place
from spm_opt.allocation.portfolio import NARROW
from spm_opt.allocation.rectangles import Rectangle, is_placement
from spm_opt.allocation.tree import Tree
from spm_opt.errors import InputError
from spm_opt.formats.alloc_csv import read_buffers

REPO = Path(__file__).resolve().parent.parent
DATA = Path(__file__).resolve().parent / "data"
SHARED = REPO.parent / "shared" / "alloc"


def check_against_brute_force(seeds: range, mode: str) -> tuple[int, int]:
    """Numbers of cases that fit and that do not."""
    counts = {True: 0, False: 0}
    for seed in seeds:
        case = oracle.draw(seed, mode)
        if case is None:
            continue
        try:
            found = allocate(case.buffers, case.capacity, **case.options(), time_limit=5)
        except InputError:
            continue  # aliases that contradict each other
        fits = oracle.fits(case)
        assert found.status == ("placed" if fits else "infeasible"), (mode, seed)
        counts[fits] += 1
    return counts[True], counts[False]


@pytest.mark.parametrize("mode", oracle.MODES)
def test_tiny_cases_agree_with_brute_force(mode):
    placed, infeasible = check_against_brute_force(range(60), mode)
    assert placed > 0
    assert infeasible > 0


@pytest.mark.heavy
@pytest.mark.parametrize("mode", oracle.MODES)
def test_ten_thousand_tiny_cases_agree_with_brute_force(mode):
    placed, infeasible = check_against_brute_force(range(1000, 2300), mode)
    assert placed > 0
    assert infeasible > 0


# --- the gadget: load 10, no packing in 10 --------------------------------------------------------


@pytest.mark.parametrize(
    "switches",
    [Switches(), Switches(cpsat=False), Switches(tree=False), Switches(greedy=False, deep=False)],
)
def test_the_gadget_is_proved_infeasible_at_10_and_placed_at_11(switches):
    no = allocate(oracle.gadget(), 10, switches=switches)
    assert (no.status, no.crowd.load, no.peak, no.bound) == ("infeasible", 10, 11, 11)
    yes = allocate(oracle.gadget(), 11, switches=switches)
    assert yes.placed
    assert yes.peak == 11
    lowest = allocate(oracle.gadget(), switches=switches)
    assert (lowest.peak, lowest.bound, lowest.gap) == (11, 11, 0.0)


@pytest.mark.parametrize("dropped", range(7))
def test_the_gadget_fits_without_any_one_buffer(dropped):
    rest = [b for n, b in enumerate(oracle.gadget()) if n != dropped]
    assert allocate(rest, 10).placed


def test_place_says_no_and_why():
    rectangles = [Rectangle(b, d, s) for s, b, d in oracle.GADGET]
    assert place(rectangles, 10) is None
    assert find_placement(rectangles, 10).infeasible
    assert not find_placement(rectangles, 10, exact_limit=0.0).infeasible
    offsets = place(rectangles, 11)
    assert offsets is not None
    assert is_placement(rectangles, offsets, 11)


# --- larger instances -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(DATA.glob("alloc_*.csv")), ids=lambda p: p.stem)
def test_plans_that_fill_the_scratchpad_are_placed(path):
    buffers, capacity = read_buffers(path), int(path.stem.rpartition("_")[2])
    found = allocate(buffers, capacity, alignment=64, time_limit=20)
    assert found.placed
    assert found.crowd.load > 0.99 * capacity


@pytest.mark.parametrize("name", "ABCDEF")
def test_the_public_instances_are_placed(name):
    path = SHARED / f"{name}.1048576.csv"
    if not path.exists():
        pytest.skip("the public instances are not there")
    assert allocate(read_buffers(path), 1 << 20, time_limit=20).placed


def test_offsets_repeat_in_another_process_with_another_hash_seed():
    path = next(iter(sorted(DATA.glob("alloc_*.csv"))))
    capacity = int(path.stem.rpartition("_")[2])
    code = (
        "import sys, spm_opt\n"
        "from spm_opt.formats.alloc_csv import read_buffers\n"
        "print(spm_opt.allocate(read_buffers(sys.argv[1]), int(sys.argv[2]), seed=7).offsets)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "123"}
    told = subprocess.run(
        [sys.executable, "-c", code, str(path), str(capacity)],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    here = spm_opt.allocate(read_buffers(path), capacity, seed=7)
    assert told.stdout.strip() == str(here.offsets)


def test_a_search_cut_short_by_its_work_proves_nothing():
    rectangles = [Rectangle(b, d, s) for s, b, d in oracle.GADGET]
    tree = Tree(rectangles, 10)
    cut = tree.run("nk", "length", node_limit=1000, work_limit=1)
    assert (cut.offsets, cut.infeasible) == (None, False)
    assert tree.run("nk", "length", node_limit=1000).infeasible


def test_the_limit_holds_with_a_thousand_buffers_alive_at_once():
    r = random.Random(5)
    starts = [r.randrange(100) for _ in range(1200)]
    crowd = [Buffer(str(n), s, s + r.randint(50, 99), r.randint(1, 999)) for n, s in
             enumerate(starts)]  # fmt: skip
    found = allocate(crowd, allocate(crowd, time_limit=0).bound, time_limit=0.3)
    assert found.status == "not found"
    assert found.effort < 0.6


def test_with_domains_no_greedy_placement_is_sought_again_where_it_was_too_high(monkeypatch):
    tried: list[int] = []
    sought = portfolio.greedy_linked

    def counted(instance):
        tried.append(instance.capacity)
        return sought(instance)

    monkeypatch.setattr(portfolio, "greedy_linked", counted)
    aligned = tuple(Domain(4, 10, ()) for _ in oracle.GADGET)
    rectangles = tuple(Rectangle(b, d, s) for s, b, d in oracle.GADGET)
    memory = portfolio.Memory()
    for capacity in (11, 10, 11, 12, 11):
        portfolio.search(Instance(rectangles, aligned, capacity), 1.0, memory=memory)
    assert tried == [11, 12]


@pytest.mark.parametrize("most_pairs", [0, linked.MOST_PAIRS])
def test_lone_buffers_lie_where_the_rules_for_groups_put_them(monkeypatch, most_pairs: int):
    monkeypatch.setattr(linked, "MOST_PAIRS", most_pairs)
    r = random.Random(8)
    for _ in range(60):
        lives = [sorted(r.sample(range(12), 2)) for _ in range(12)]
        rectangles = tuple(Rectangle(b, e, r.randint(1, 6)) for b, e in lives)
        holes = ((4, 6), (9, 11)) if r.random() < 0.5 else ()
        domains = tuple(r.choice((None, Domain(r.choice((1, 2, 3)), 80, holes))) for _ in lives)
        instance = Instance(rectangles, domains, 90)
        alone = linked.greedy_linked(instance)
        assert alone is not None
        assert is_placement(rectangles, alone, 90)
        assert all(d is None or o in d for d, o in zip(domains, alone, strict=True))
        with monkeypatch.context() as patch:
            patch.setattr(
                linked._State, "_lowest_gap",
                lambda state, i: state._lowest_start(((i, 0),)),
            )  # fmt: skip
            assert linked.greedy_linked(instance) == alone


def test_a_narrow_search_takes_the_deep_rule_in_every_run_unless_it_is_switched_off():
    schedule = portfolio._schedule
    runs = list(islice(schedule(50, Switches(cpsat=False), NARROW), 6))
    assert all(run.deep for run in runs)
    shallow = Switches(cpsat=False, deep=False)
    assert not any(run.deep for run in islice(schedule(50, shallow, NARROW), 6))


def test_what_is_unplaced_in_each_section_is_known_after_every_undo():
    rectangles = [Rectangle(b, d, s) for s, b, d in oracle.GADGET]
    tree = Tree(rectangles, 10)
    assert tree.run("nk", "length", node_limit=1000).infeasible
    assert tree.nodes > 1
    tree._undo(0)
    assert [tuple(alive) for alive in tree.alive] == list(tree.members)
    assert tree.rest == [sum(rectangles[i].size for i in alive) for alive in tree.members]


@pytest.mark.heavy
@pytest.mark.parametrize("limit", [2, 5])
def test_a_limit_is_about_seconds_of_a_core(limit):
    path = SHARED / "D.1048576.csv"
    if not path.exists():
        pytest.skip("the public instances are not there")
    listed = read_buffers(path)
    began = time.process_time()
    found = allocate(listed, time_limit=limit)
    assert found.effort < limit + 0.2
    assert time.process_time() - began < 1.5 * limit


@pytest.mark.heavy
def test_the_peak_comes_close_to_the_load_where_room_is_loose():
    path = SHARED / "D.1048576.csv"
    if not path.exists():
        pytest.skip("the public instances are not there")
    listed = read_buffers(path)
    gaps = [allocate(listed, time_limit=10, seed=seed).gap for seed in range(3)]
    assert sorted(gaps)[1] < 0.015


# --- each rule by hand ----------------------------------------------------------------------------


def test_no_buffers_need_no_space():
    assert allocate([]).peak == 0
    assert allocate([], 8).placed


def test_alignment_of_all_and_of_one():
    pair = [Buffer("a", 0, 2, 3), Buffer("b", 0, 2, 3, alignment=8)]
    found = allocate(pair, alignment=4)
    assert found.offsets is not None
    assert found.peak == 7
    assert found.offsets[1] == 0
    assert found.offsets[0] == 4
    assert allocate(pair, 6).status == "placed"
    assert allocate(pair, 6, alignment=4).status == "infeasible"


def test_the_capacity_need_not_be_aligned():
    pair = [Buffer("a", 0, 2, 4), Buffer("b", 0, 2, 6)]
    assert allocate(pair, 10, alignment=4).offsets == (0, 4)
    assert allocate(pair, 9, alignment=4).status == "infeasible"


def test_fixed_and_forbidden_offsets():
    found = allocate([Buffer("a", 0, 2, 4), Buffer("b", 0, 2, 4, offset=2)], 10)
    assert found.offsets == (6, 2)
    found = allocate([Buffer("a", 0, 2, 4, forbidden=((1, 3), (7, 8)))], 12)
    assert found.offsets is not None
    assert found.offsets[0] in (3, 8)


def test_regions_are_spaces_of_their_own():
    buffers = [Buffer("a", 0, 2, 4), Buffer("b", 0, 2, 4), Buffer("c", 0, 2, 2, regions=("fast",))]
    regions = [Region("fast", 6), Region("slow", 4)]
    found = allocate(buffers, regions=regions)
    assert found.placed
    assert sorted(found.regions) == ["fast", "fast", "slow"]
    assert found.regions[2] == "fast"
    assert allocate([*buffers, Buffer("d", 1, 2, 1)], regions=regions).status == "infeasible"


def test_a_forbidden_range_above_one_region_forbids_nothing_in_the_next():
    regions = [Region("low", 4), Region("high", 5)]
    found = allocate([Buffer("a", 0, 1, 5, forbidden=((5, 7),))], regions=regions)
    assert found.placed
    assert (found.offsets, found.regions) == ((0,), ("high",))


def test_each_region_leaves_out_the_padding_of_its_topmost_buffer():
    # two regions save two paddings: with one the bound was 5, and called a proof
    pair = [Buffer("a", 0, 1, 1), Buffer("b", 0, 1, 1)]
    found = allocate(pair, regions=[Region("x", 1), Region("y", 1)], alignment=4)
    assert (found.status, found.peak, found.bound) == ("placed", 2, 2)


def test_the_same_offset_in_another_region_is_not_in_place():
    pair = [Buffer("a", 0, 2, 4, regions=("x",)), Buffer("b", 1, 3, 4, regions=("y",))]
    regions = [Region("x", 4), Region("y", 4)]
    found = allocate(pair, regions=regions, aliases=[InPlace("b", "a")])
    assert (found.offsets, found.in_place) == ((0, 0), ())


def test_a_group_may_be_aligned_only_far_up():
    row = [Buffer(n, 0, 2, 1, alignment=a) for n, a in (("a", 7), ("b", 11), ("c", 13))]
    found = allocate(row, aliases=[Adjacent(("a", "b", "c"))], time_limit=0.5)
    assert (found.status, found.offsets) == ("placed", (791, 792, 793))


def test_alignments_that_no_start_keeps_are_a_proof_at_once():
    pair = [Buffer(n, 0, 2, 1, alignment=4) for n in "ab"]
    for capacity in (None, 1 << 40):
        assert allocate(pair, capacity, aliases=[Adjacent(("a", "b"))]).status == "infeasible"


def test_times_of_63_bits_are_searched_like_any_others():
    far = [replace(b, lower=(b.lower - 7) << 60, upper=(b.upper - 7) << 60) for b in
           oracle.gadget()]  # fmt: skip
    found = allocate(far, 10, switches=Switches(tree=False, greedy=False), time_limit=5)
    assert found.status == "infeasible"


def test_a_limit_may_be_infinite():
    assert allocate(oracle.gadget(), 10, time_limit=float("inf")).status == "infeasible"


def test_whole_numbers_of_numpy_are_taken():
    two, four = np.int64(2), np.uint32(4)
    listed = [Buffer("a", np.int8(0), two, four), Buffer("b", 0, two, four, offset=four)]
    found = allocate(listed, np.int64(8), alignment=two, seed=two)
    assert found.offsets == (0, 4)
    assert {type(n) for b in listed for n in (b.lower, b.upper, b.size)} == {int}
    assert (type(found.capacity), type(found.peak)) == (int, int)


def test_a_pair_apart_shares_no_region():
    pair = [Buffer("a", 0, 1, 1), Buffer("b", 5, 6, 1)]
    regions = [Region("x", 4), Region("y", 4)]
    found = allocate(pair, regions=regions, apart=[("a", "b")])
    assert found.placed
    assert found.regions[0] != found.regions[1]
    assert allocate(pair, regions=regions[:1], apart=[("a", "b")]).status == "infeasible"


def test_adjacent_buffers_follow_each_other():
    buffers = [Buffer("a", 0, 3, 3), Buffer("b", 2, 4, 5), Buffer("x", 0, 4, 2)]
    found = allocate(buffers, aliases=[Adjacent(("b", "a"))])
    assert found.offsets is not None
    assert found.offsets[0] == found.offsets[1] + 5
    assert found.peak == 10


def test_parts_inside_a_concatenation_cost_nothing():
    buffers = [Buffer("a", 0, 2, 3), Buffer("b", 1, 3, 5), Buffer("cat", 1, 4, 8)]
    found = allocate(buffers, 8, aliases=[Inside("a", "cat", 0), Inside("b", "cat", 3)])
    assert found.offsets == (0, 3, 0)
    assert found.bound == 8


def test_an_output_takes_the_place_of_its_dying_input():
    chain = [Buffer("in", 0, 2, 6), Buffer("out", 1, 3, 6), Buffer("last", 2, 4, 6)]
    assert allocate(chain, 11).status == "infeasible"
    found = allocate(chain, 6, aliases=[InPlace("out", "in"), InPlace("last", "out")])
    assert found.offsets == (0, 0, 0)
    assert [a.output for a in found.in_place] == ["out", "last"]


def test_two_outputs_do_not_take_the_same_place():
    buffers = [Buffer("in", 0, 3, 4), Buffer("p", 1, 4, 4), Buffer("q", 2, 4, 4)]
    aliases = [InPlace("p", "in"), InPlace("q", "in")]
    assert allocate(buffers, 7, aliases=aliases).status == "infeasible"
    found = allocate(buffers, 8, aliases=aliases)
    assert found.placed
    assert len(found.in_place) == 1


def test_the_peak_falls_from_a_placement_that_no_greedy_order_finds():
    # 'p' may lie at 0 only while 'q' leaves it room: no greedy order sees that
    buffers = [
        Buffer("p", 2, 6, 4),
        Buffer("q", 2, 6, 2, alignment=4),
        Buffer("fixed", 1, 5, 1, alignment=3, offset=3),
        Buffer("whole", -2, 1, 4, forbidden=((6, 8),)),
    ]
    found = allocate(buffers, aliases=[Inside("p", "whole", 0)])
    assert (found.peak, found.bound) == (12, 12)


# --- the checker can say no -----------------------------------------------------------------------

PAIR = (Buffer("a", 0, 2, 4, alignment=2, forbidden=((8, 9),)), Buffer("b", 1, 3, 4))


@pytest.mark.parametrize(
    ("offsets", "options", "word"),
    [
        ((0, 3), {}, "overlap"),
        ((0, 7), {"capacity": 10}, "capacity is 10"),
        ((1, 6), {}, "alignment is 2"),
        ((0, 6), {"alignment": 4}, "alignment is 4"),
        ((6, 0), {}, "forbidden"),
        ((-2, 4), {}, "starts at -2"),
        ((0, 5), {"aliases": [Adjacent(("a", "b"))]}, "does not follow"),
        ((0, 4), {"aliases": [Inside("b", "a", 0)]}, "does not lie 0 above"),
        ((0, 2), {"aliases": [InPlace("b", "a")]}, "overlap"),
        ((0,), {}, "1 offsets for 2 buffers"),
    ],
)
def test_the_checker_sees_each_broken_rule(offsets, options, word):
    assert any(word in text for text in violations(PAIR, offsets, **options))


def test_the_checker_sees_wrong_regions():
    regions = [Region("x", 8), Region("y", 3)]
    told = violations(PAIR, (0, 0), regions=regions, placed_in=("x", "y"))
    assert told == ["b ends at 4, the capacity is 3"]
    assert violations(PAIR, (0, 4), regions=regions, placed_in=("x", "x")) == []
    told = violations(PAIR, (0, 4), regions=regions, placed_in=("x", "x"), apart=[("a", "b")])
    assert told == ["a and b share x"]
    only_y = (PAIR[0], replace(PAIR[1], regions=("y",)))
    assert "allowed in y" in violations(only_y, (0, 4), regions=regions, placed_in=("x", "x"))[0]


def test_what_the_checker_refuses_never_leaves():
    found = allocate(PAIR)
    assert isinstance(found, Allocation)
    assert violations(PAIR, found.offsets or ()) == []


# --- mistakes -------------------------------------------------------------------------------------

TWO = (Region("x", 99), Region("y", 99))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Buffer("a", 0, 1, 0), "size: must be positive; found 0"),
        (lambda: Buffer("a", 0, 1, -4), "size: must be positive; found -4"),
        (lambda: Buffer("a", 3, 3, 1), "lower must be less than upper; found (3, 3)"),
        (lambda: Buffer("a", 0, 1, 1 << 63), "size: must fit 63 bits"),
        (lambda: Buffer("a", 0, 1, 1.5), "size: must be a whole number; found 1.5"),
        (lambda: Buffer("a", 0, 1, 4, alignment=0), "alignment: must be positive"),
        (lambda: Buffer("a", 0, 1, 4, alignment=4, offset=6), "no multiple of the alignment 4"),
        (lambda: Buffer("a", 0, 1, 4, offset=-1), "must not be negative"),
        (lambda: Buffer("a", 0, 1, 4, offset=2, forbidden=((5, 9),)), "touches a forbidden range"),
        (lambda: Region("r", 0), "must be in 1 .. 2**63 - 1"),
        (lambda: allocate([*PAIR, PAIR[0]]), "a name is used twice; found 'a'"),
        (lambda: allocate(PAIR, 0), "capacity: must be in 1 .. 2**63 - 1; found 0"),
        (lambda: allocate(PAIR, alignment=0), "must be a positive whole number"),
        (lambda: allocate(PAIR, 8, regions=[Region("r", 8)]), "capacities of their own"),
        (lambda: allocate(PAIR, aliases=[Adjacent(("a", "z"))]), "no such buffer; found 'z'"),
        (lambda: allocate(PAIR, apart=[("a", "z")]), "no such buffer; found 'z'"),
        (lambda: allocate(PAIR, aliases=[Inside("a", "b", 1)]), "does not fit into 'b'"),
        (lambda: allocate(PAIR, aliases=[InPlace("a", "b")]), "must start during the life of 'b'"),
        (
            lambda: allocate(PAIR, aliases=[Adjacent(("a", "b")), Adjacent(("b", "a"))]),
            "the aliases of a buffer contradict each other",
        ),
        (
            lambda: allocate(
                [Buffer("o", 0, 2, 9), Buffer("p", 0, 2, 4), Buffer("q", 0, 2, 4)],
                aliases=[Inside("p", "o", 0), Inside("q", "o", 2)],
            ),
            "their aliases make 'p' and 'q' overlap",
        ),
        (
            lambda: allocate([Buffer("a", 0, 2, 4, offset=0), Buffer("b", 1, 3, 4, offset=3)]),
            "overlaps 'a', which is fixed at 0",
        ),
        (lambda: allocate([Buffer("a", 0, 2, 4, offset=8)], 10), "ends at 12, the capacity is 10"),
        (lambda: allocate([Buffer("a", 0, 1, 4, regions=("r",))]), "no such region; found 'r'"),
        (
            lambda: allocate([Buffer(str(n), 0, 1, (1 << 62) + n) for n in range(2)]),
            "add up to more than 63 bits",
        ),
        (lambda: allocate(PAIR, 9.5), "capacity: must be a whole number; found 9.5"),
        (lambda: allocate(PAIR, "9"), "capacity: must be a whole number; found '9'"),
        (lambda: allocate(PAIR, alignment=1 << 63), "alignment: must fit 63 bits"),
        (lambda: Region("r", 8.5), "'r': capacity: must be a whole number; found 8.5"),
        (lambda: Inside("a", "b", 0.5), "at of 'a': must be a whole number; found 0.5"),
        (lambda: Buffer("a", 0, 1, 1, forbidden=((0.5, 1),)), "forbidden: must be a whole number"),
        (lambda: Buffer("a", 0, 1, 1, forbidden=(1, 2)), "must be pairs (begin, end); found 1"),
        (lambda: allocate(PAIR, time_limit=-1), "time_limit: must not be negative"),
        (
            lambda: allocate(PAIR, regions=TWO, aliases=[Adjacent(("a", "b"))], apart=[("b", "a")]),
            "apart: aliases tie 'b' to 'a', they share a region",
        ),
        (lambda: allocate(PAIR, regions=TWO, apart=[("a", "a")]), "a buffer apart from itself"),
    ],
)
def test_a_mistake_gets_one_message(make, message):
    with pytest.raises(InputError) as caught:
        make()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
