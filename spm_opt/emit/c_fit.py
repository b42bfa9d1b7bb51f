"""Numbers that change from tile to tile, as C expressions in the tile's number.

Regular numbers become arithmetic (constant, linear, clamped, periodic), the others a table. What
is fitted is compared with every number: an expression is right, or it is not used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

#: a number for each tile that has one
Series = Mapping[int, int]

_MOST_PERIODS: Final = 8
#: tiles from which on a line with an exception reads better than a table
_WORTH: Final = 4
#: from here on a number needs more than 32 bits
WIDE: Final = 2**31


@dataclass(frozen=True, slots=True)
class Line:
    """``slope * t + base``, kept within bounds; ``t`` is ``t % period`` where there is one.

    ``first`` is a tile and its value, where the line begins only after it.
    """

    slope: int
    base: int
    low: int | None = None
    high: int | None = None
    period: int | None = None
    first: tuple[int, int] | None = None

    def at(self, t: int) -> int:
        """Value at tile `t`."""
        if self.first is not None and t == self.first[0]:
            return self.first[1]
        value = self.slope * (t if self.period is None else t % self.period) + self.base
        value = value if self.high is None else min(value, self.high)
        return value if self.low is None else max(value, self.low)

    def text(self, variable: str) -> str:
        """As a C expression."""
        index = variable if self.period is None else f"{variable} % {self.period}"
        found = linear_text(self.slope, index, self.base)
        if self.high is not None:
            found = f"least({found}, {self.high})"
        found = found if self.low is None else f"most({found}, {self.low})"
        if self.first is None:
            return found
        return f"({variable} > {self.first[0]} ? {found} : {self.first[1]})"


def linear_text(slope: int, index: str, base: int) -> str:
    """``slope * index + base`` without what is zero or one."""
    wide = "LL" if abs(slope) >= WIDE or abs(base) >= WIDE else ""
    if slope == 0:
        return f"{base}{wide}"
    plain = index.isidentifier()
    inner = index if plain else f"({index})"
    factor = (index if plain or base == 0 else inner) if slope == 1 else f"{slope}{wide} * {inner}"
    return factor if base == 0 else f"{factor} {'+' if base > 0 else '-'} {abs(base)}{wide}"


def fit(series: Series, hints: Iterable[int] = ()) -> Line | None:
    """The simplest line through `series`; None where it is irregular.

    Parameters
    ----------
    series : mapping of int to int
        Value of each tile.
    hints : iterable of int
        Slopes to try first, of numbers that this one keeps pace with.
    """
    hints = tuple(hints)
    found = next((line for line in _guesses(series, hints) if _fits(line, series)), None)
    if found is not None or len(series) < _WORTH:
        return found
    begin = min(series)
    rest = {t: value for t, value in series.items() if t != begin}
    guesses = (line for line in _guesses(rest, hints) if line.period is None)
    found = next((line for line in guesses if _fits(line, rest)), None)
    return None if found is None else replace(found, first=(begin, series[begin]))


def _fits(line: Line, series: Series) -> bool:
    return all(line.at(t) == value for t, value in series.items())


def _guesses(series: Series, hints: Iterable[int]) -> Iterator[Line]:
    values = list(series.values())
    low, high = min(values), max(values)
    yield Line(0, values[0])
    steps = Counter(series[t + 1] - value for t, value in series.items() if t + 1 in series)
    slopes = [*hints, *(slope for slope, _ in steps.most_common(3))]
    for slope in dict.fromkeys(s for s in slopes if s):
        bases = list(dict.fromkeys(value - slope * t for t, value in series.items()))[:16]
        yield from (Line(slope, base) for base in bases)
        yield from (Line(slope, base, high=high) for base in bases)
        yield from (Line(slope, base, low=low) for base in bases)
        yield from (Line(slope, base, low, high) for base in bases)
    for period in range(2, _MOST_PERIODS + 1):
        yield from _periodic(series, period)


def _periodic(series: Series, period: int) -> Iterator[Line]:
    first = {t % period: value for t, value in series.items()}
    if 0 in first and 1 in first:
        yield Line(first[1] - first[0], first[0], period=period)


def condition(chosen: Iterable[int], every: Iterable[int], variable: str) -> str | None:
    """Which tiles of `every` are `chosen`, as a C condition; empty for all, None if irregular."""
    picked, tiles = sorted(chosen), sorted(every)
    if picked == tiles:
        return ""
    first, last = picked[0], picked[-1]
    if [t for t in tiles if first <= t <= last] == picked:
        if first == last:
            return f"{variable} == {first}"
        parts = [f"{variable} >= {first}"] if first > tiles[0] else []
        parts += [f"{variable} < {last + 1}"] if last < tiles[-1] else []
        return " && ".join(parts)
    return _every_nth(picked, tiles, variable)


def _every_nth(picked: list[int], tiles: list[int], variable: str) -> str | None:
    step = picked[1] - picked[0]
    if [t for t in tiles if t % step == picked[0] % step] == picked:
        return f"{variable} % {step} == {picked[0] % step}"
    return None


@dataclass(slots=True)
class Tables:
    """Constant tables in the text of one step, in the order they are asked for.

    Each is as long as what it is made of: routines of other steps, with other numbers of tiles,
    stand in the text too.
    """

    prefix: str
    lines: list[str] = field(default_factory=list)
    known: dict[tuple[int, ...], str] = field(default_factory=dict)

    def entry(self, name: str, series: Series, variable: str) -> str:
        """``table[t]`` of a table up to the last of these numbers; tiles without one hold 0."""
        values = tuple(series.get(t, 0) for t in range(max(series) + 1))
        if values not in self.known:
            symbol = f"{self.prefix}_{name}"
            if any(line.split("[")[0].endswith(f" {symbol}") for line in self.lines):
                symbol += f"_{len(self.known)}"
            self.known[values] = symbol
            self.lines.append(_table_text(symbol, values))
        return f"{self.known[values]}[{variable}]"


def _table_text(symbol: str, values: tuple[int, ...]) -> str:
    ctype = "int64_t" if max(map(abs, values)) >= WIDE else "int32_t"
    rows = [", ".join(map(str, values[i : i + 16])) for i in range(0, len(values), 16)]
    body = ",\n    ".join(rows)
    return f"static const {ctype} {symbol}[{len(values)}] = {{\n    {body}}};"
