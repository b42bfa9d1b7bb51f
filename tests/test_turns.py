"""Which space of plans is worth a turn: what is known and what is expected of it."""

from __future__ import annotations

import pytest

from spm_opt.planner_turns import MARGIN, Turns


@pytest.mark.parametrize(
    ("number", "share", "least"),
    [(0, 1000, 100), (1, 1000, 110), (0, 950, 100), (1, 950, 110), (1, 900, 110), (2, 1000, 110)],
)
def test_smaller_spaces_and_less_room_promise_no_more(number: int, share: int, least: int) -> None:
    turns = Turns()
    turns.promise(0, 1000, 100)
    turns.promise(1, 1000, 110)
    turns.promise(3, 1000, 999)
    assert turns.at_least(number, share) == least


def test_what_is_known_not_to_be_better_is_hopeless() -> None:
    turns = Turns()
    assert not turns.is_hopeless(0, 1000, 100)
    turns.promise(0, 950, 100)
    assert turns.is_hopeless(0, 950, 100)
    assert not turns.is_hopeless(0, 950, 101)
    # more room may give more
    assert not turns.is_hopeless(0, 1000, 100)


def test_a_space_is_hopeless_where_so_little_of_its_promise_comes_true() -> None:
    turns = Turns()
    turns.promise(0, 1000, 1000)
    turns.comes_true(0, 1000, 1100)
    just_within = 1100 / (1 + MARGIN) + 1
    assert not turns.is_hopeless(0, 950, just_within)
    assert turns.is_hopeless(0, 950, just_within - 2)
    # nothing was seen of the smaller space
    assert not turns.is_hopeless(1, 1000, just_within - 2)
