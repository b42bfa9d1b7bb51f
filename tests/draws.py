"""How much is drawn: some of it in the quick suite, all of it with ``-m heavy``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

HEAVY = pytest.mark.heavy


def quick_of(quick: Collection[Any], cases: Iterable[Any]) -> list[Any]:
    """Parameters of a test: `cases`, of which those that are not `quick` are heavy."""
    return [case if case in quick else pytest.param(case, marks=HEAVY) for case in cases]


def some_seeds(quick: Sequence[int], every: Sequence[int]) -> pytest.MarkDecorator:
    """A test that counts over its `seeds` what it finds: of some, and a heavy one of all."""
    cases = [pytest.param(quick, id="some"), pytest.param(every, id="all", marks=HEAVY)]
    return pytest.mark.parametrize("seeds", cases)


def on_many(
    test: Callable[..., None], many: settings, *draws: st.SearchStrategy[Any]
) -> Callable[..., None]:
    """A test of Hypothesis once more, on as many draws as `many` says: a heavy one."""
    again: Callable[..., None] = given(*draws)(test.hypothesis.inner_test)  # type: ignore[attr-defined]
    return HEAVY(many(again))  # type: ignore[no-any-return]
