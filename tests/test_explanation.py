"""Why a map is pinned, fused away or spilled: costs are those of solving so by hand."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
from draws import quick_of
from test_constraints import chain

import spm_opt
from spm_opt import InputError, NetworkBuilder, Reason
from spm_opt.cli_demands import reason_figures, reason_texts


def solved(model, capacity: str, **given) -> spm_opt.Result:
    return spm_opt.solve(
        model, "mobile_npu", overrides={"spm.capacity": capacity}, workers=1, time_limit=30,
        orders=1, **given,
    )  # fmt: skip


@cache
def planned(model: Callable[[], NetworkBuilder], capacity: str, objective: str) -> spm_opt.Result:
    return solved(model(), capacity, objective=objective)


def by_hand(model, capacity: str, reason: Reason, **given) -> spm_opt.Result:
    wanted = reason.alternative
    return solved(
        model, capacity, pin=wanted.pin, no_pin=wanted.no_pin, fuse=wanted.fuse,
        no_fuse=wanted.no_fuse, **given,
    )  # fmt: skip


def branches() -> NetworkBuilder:
    """Pieces of one map, a long way round, and a wide middle."""
    b = NetworkBuilder("branches")
    x = b.input("x", (1, 8, 16, 16))
    low = b.conv(x, 8, 1, name="low")
    joined = b.concat([low, b.conv(x, 8, 3, padding=1, name="high")], axis=1, name="joined")
    wide = b.conv(joined, 48, 1, name="wide")
    narrow = b.conv(wide, 8, 3, padding=1, stride=2, name="narrow")
    b.output(b.conv(narrow, 8, 1, name="last"), b.conv(low, 4, 1, name="late"))
    return b


CASES = [("chain", chain, "2 KiB"), ("chain", chain, "4 KiB"), ("branches", branches, "6 KiB")]


@pytest.mark.parametrize("count", quick_of([1], [1, 3]))
@pytest.mark.parametrize(
    ("case", "objective"), [(CASES[0], "latency"), (CASES[1], "dram"), (CASES[2], "dram")]
)
def test_costs_are_those_of_solving_by_hand(case, objective, count):
    _, model, capacity = case
    result = planned(model, capacity, objective)
    value = result.schedule.provenance.objective_value
    reasons = result.explain(maps=count)
    sizes = [reason.size_bytes for reason in reasons]
    assert sizes == sorted(sizes, reverse=True)
    for reason in reasons[:count]:
        try:
            other = by_hand(model(), capacity, reason, objective=objective)
        except InputError as error:
            refused = str(error)
        else:
            refused = ""
        if refused:
            assert reason.cost is None
            assert reason.note in refused
            continue
        made = other.schedule.provenance
        assert reason.cost == made.objective_value - value
        assert reason.least_cost == made.objective_bound - value <= reason.cost
        assert (reason.latency_cycles, reason.dram_bytes) == (
            other.latency_cycles, other.dram_bytes["total"],
        )  # fmt: skip
        assert reason.proven == (other.status == result.status == "optimal")
        if result.status == "optimal":
            assert reason.cost >= 0
    assert all(reason.cost is None and not reason.note for reason in reasons[count:])


def test_every_sort_of_choice_is_told_apart():
    seen: dict[str, list[str]] = {}
    for _, model, capacity in (*CASES, ("branches", branches, "8 KiB")):
        result = planned(model, capacity, "latency")
        for reason in result.explain(maps=0):
            (text,) = reason.alternative.texts()
            seen.setdefault(reason.chosen, []).append(text.split()[0])
    assert set(seen) >= {"pinned", "fused away", "spilled", "streamed"}
    assert {*seen["pinned"]} == {"--no-pin"}
    assert {*seen["fused away"]} == {"--no-fuse"}
    assert {*seen["spilled"], *seen["streamed"]} == {"--pin"}


def test_what_is_not_sought_says_so():
    result = planned(chain, "4 KiB", "latency")
    reasons = result.explain(maps=2, time_limit=1e-9)
    assert [reason.note for reason in reasons[:2]] == ["not sought: the time was over"] * 2
    with pytest.raises(InputError, match="only a result of solve"):
        spm_opt.Result(result.schedule).explain()


def test_explanations_keep_the_demands_of_the_plan():
    result = solved(chain(), "4 KiB", no_fuse=["a,d"])
    for reason in result.explain(maps=2):
        if reason.cost is not None:
            assert reason.cost == (
                solved(
                    chain(), "4 KiB", pin=reason.alternative.pin, no_pin=reason.alternative.no_pin,
                    no_fuse=(("a", "d"), *reason.alternative.no_fuse),
                ).latency_cycles
                - result.latency_cycles
            )  # fmt: skip


def test_lines_of_text_mark_what_is_not_proven():
    proven = Reason("t", 4096, "pinned", spm_opt.Constraints(no_pin=("t",)), 20, 30, 5, 5, True)
    open_ = Reason("u", 64, "spilled", spm_opt.Constraints(pin=("u",)), 20, 30, 5, -2)
    none = Reason("v", 8, "spilled", spm_opt.Constraints(pin=("v",)), note="too large")
    rest = Reason("w", 4, "pinned", spm_opt.Constraints(no_pin=("w",)))
    _, *lines = reason_texts(reason_figures([proven, open_, none, rest]), "latency")
    assert lines == [
        "  t, 4,096 B: pinned; with --no-pin t +5 cycles (proven)",
        "  u, 64 B: spilled; with --pin u +5 cycles (not proven; at least -2)",
        "  v, 8 B: spilled; with --pin v there is none: too large",
        "  not priced: 1 pinned",
    ]


@pytest.mark.heavy
def test_mobilenet_v2_is_explained_as_by_hand():
    result = spm_opt.solve("mobilenet_v2", "mobile_npu", workers=1, time_limit=120)
    reasons = result.explain(maps=8, time_limit=8 * 120)
    assert {reason.chosen for reason in reasons[:8]} == {"fused away", "pinned"}
    for reason in (reasons[0], reasons[7]):
        wanted = reason.alternative
        other = spm_opt.solve(
            "mobilenet_v2", "mobile_npu", workers=1, time_limit=120, no_pin=wanted.no_pin,
            no_fuse=wanted.no_fuse,
        )  # fmt: skip
        assert reason.cost == other.latency_cycles - result.latency_cycles
