"""Expressions and conditions say exactly the numbers that they were made of."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from spm_opt.emit.c_fit import Tables, condition, fit
from spm_opt.emit.c_scope import Scope

SERIES = st.dictionaries(st.integers(0, 12), st.integers(-40, 40), min_size=1)


@st.composite
def regular(draw) -> dict[int, int]:
    """Lines that are clamped, periodic, or begin with another number."""
    slope, base = draw(st.integers(-9, 9)), draw(st.integers(-20, 20))
    low, high = sorted((draw(st.integers(-60, 60)), draw(st.integers(-60, 60))))
    period = draw(st.sampled_from([1, 2, 3, 20, 20, 20]))
    tiles = range(draw(st.integers(0, 3)), draw(st.integers(5, 12)))
    found = {t: min(max(slope * (t % period) + base, low), high) for t in tiles}
    if draw(st.booleans()):
        found[tiles[0]] = draw(st.integers(-40, 40))
    return found


def value(expression: str, t: int, **names: object) -> object:
    """A C expression of ours, computed by Python."""
    text = expression.replace("&&", "and")
    text = re.sub(r"\((t > \d+) \? (.*) : (-?\d+)\)", r"((\2) if \1 else (\3))", text)
    return eval(text, {"least": min, "most": max, "t": t, **names})


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.one_of(SERIES, regular()))
def test_a_line_is_right_wherever_there_is_a_number(series: dict[int, int]):
    line = fit(series)
    if line is not None:
        for t, wanted in series.items():
            assert line.at(t) == wanted
            assert value(line.text("t"), t) == wanted


def test_regular_numbers_need_no_table():
    for series, text in (
        ({0: 7, 1: 7, 2: 7}, "7"),
        ({0: 0, 1: 4, 2: 8, 3: 12}, "4 * t"),
        ({0: 5, 1: 9, 2: 13, 3: 14}, "least(4 * t + 5, 14)"),
        ({0: 0, 1: 1, 2: 3, 3: 5}, "most(2 * t - 1, 0)"),
        ({0: 0, 1: 64, 2: 0, 3: 64, 4: 0}, "64 * (t % 2)"),
        ({0: 0, 1: 3, 2: 5, 3: 7, 4: 9}, "(t > 0 ? 2 * t + 1 : 0)"),
    ):
        line = fit(series)
        assert line is not None
        assert line.text("t") == text
    assert fit({0: 1, 1: 5, 2: 2, 3: 9, 4: 3}) is None


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.integers(0, 4), st.sets(st.integers(0, 9), min_size=1))
def test_a_condition_holds_for_the_chosen_tiles_only(begin: int, chosen: set[int]):
    tiles = range(begin, begin + 10)
    picked = {begin + t for t in chosen}
    text = condition(picked, tiles, "t")
    if text is not None:
        assert {t for t in tiles if not text or value(text, t)} == picked


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.dictionaries(st.integers(0, 9), st.tuples(st.integers(0, 30), st.integers(1, 9)),
                       min_size=1), SERIES)  # fmt: skip
def test_a_scope_says_every_number(rows: dict[int, tuple[int, int]], other: dict[int, int]):
    tables = Tables("step")
    scope = Scope(tables)
    ranges = {t: (begin, begin + count) for t, (begin, count) in rows.items()}
    ends = scope.range("row0", "row1", ranges)
    series = {t: 5 * (end - begin) for t, (begin, end) in ranges.items()}
    wide = {t: begin << 31 for t, (begin, _) in ranges.items()}
    texts = [scope.expr("size", series), scope.expr("other", {t: other.get(t, 0) for t in rows}),
             scope.expr("wide", wide)]  # fmt: skip
    known = {}
    for line in tables.lines:
        ((name, size, body),) = re.findall(r"(\w+)\[(\d+)\] = \{(.*)\};", line, flags=re.DOTALL)
        known[name] = [int(n) for n in body.replace("\n", " ").split(",")]
        assert len(known[name]) == int(size)
    for t, (begin, end) in ranges.items():
        names = {"row0": begin, "row1": end, **known}
        found = [value(text.replace("LL", ""), t, **names) for text in texts]
        assert found == [series[t], other.get(t, 0), wide[t]]
        assert tuple(value(e, t, **names) for e in ends) == (begin, end)
        for line in scope.lines:
            for name, text in re.findall(r"(row\d) = (.*?)(?:, row1|;)", line):
                assert value(text, t, **known) == names[name]
