"""Which space of plans is worth a turn: what is known and what is expected of it."""

from __future__ import annotations

import pytest

from spm_opt.dynamic import Solved
from spm_opt.planner_turns import MARGIN, Turns


def promised(*values: tuple[int, int, int], complete: bool = True) -> Turns:
    """Turns in which these were found, by space and share."""
    turns = Turns()
    for number, share, value in values:
        turns.take(number, share, Solved(None, value, 0, 0, complete), value)
    return turns


@pytest.mark.parametrize(
    ("number", "share", "least"),
    [(0, 1000, 100), (1, 1000, 110), (0, 950, 100), (1, 950, 110), (1, 900, 110), (2, 1000, 110)],
)
def test_smaller_spaces_and_less_room_promise_no_more(number: int, share: int, least: int) -> None:
    turns = promised((0, 1000, 100), (1, 1000, 110), (3, 1000, 999))
    assert turns.at_least(number, share) == least


def test_what_is_known_not_to_be_better_is_hopeless() -> None:
    turns = Turns()
    assert not turns.is_hopeless(0, 1000, 100)
    turns = promised((0, 950, 100))
    assert turns.is_hopeless(0, 950, 100)
    assert not turns.is_hopeless(0, 950, 101)
    # more room may give more
    assert not turns.is_hopeless(0, 1000, 100)


def test_a_space_is_hopeless_where_so_little_of_its_promise_comes_true() -> None:
    turns = promised((0, 1000, 1000))
    turns.comes_true(0, 1000, 1100)
    just_within = 1100 / (1 + MARGIN) + 1
    assert not turns.is_hopeless(0, 950, just_within)
    assert turns.is_hopeless(0, 950, just_within - 2)
    # nothing was seen of the smaller space
    assert not turns.is_hopeless(1, 1000, just_within - 2)


def test_a_space_is_expected_to_be_like_itself_or_the_next_larger() -> None:
    turns = promised((0, 1000, 1000), (1, 1000, 1200))
    assert turns.expected(2, 1000) == 0
    turns.comes_true(0, 1000, 1500)
    assert (turns.expected(0, 950), turns.expected(2, 950)) == (1500, 1800)
    turns.comes_true(1, 1200, 1320)
    assert turns.expected(2, 950) == pytest.approx(1320)


def test_a_search_that_was_cut_short_promises_nothing() -> None:
    turns = promised((0, 1000, 1000), complete=False)
    assert turns.at_least(0, 1000) == 0
    assert turns.is_over(0, 1000, 2000)
    assert not turns.is_over(0, 950, 500)
