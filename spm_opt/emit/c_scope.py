"""One routine's numbers as C: locals that change with the tile, and expressions in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from spm_opt.emit.c_fit import WIDE, Series, Tables, fit, linear_text

#: half-open range of each tile
Ranges = dict[int, tuple[int, int]]


@dataclass(slots=True)
class Scope:
    """Numbers of one routine, all by tile.

    Attributes
    ----------
    tables : Tables
        Takes what no expression says.
    variable : str
        The tile's number in C.
    """

    tables: Tables
    variable: str = "t"
    #: (begin name, end name, begin, end) of ranges that change with the tile
    ranges: list[tuple[str, str, Series, Series]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def range(self, low: str, high: str, values: Ranges) -> tuple[str, str]:
        """Expressions for both ends; declares locals `low` and `high` where they change."""
        begin = {t: v[0] for t, v in values.items()}
        end = {t: v[1] for t, v in values.items()}
        if len(set(begin.values())) == len(set(end.values())) == 1:
            return str(next(iter(begin.values()))), str(next(iter(end.values())))
        first = self._own(low, begin, ())
        line = fit(begin)
        last = self._own(high, end, () if line is None else (line.slope,))
        self.ranges.append((low, high, begin, end))
        self.lines.append(f"const int32_t {low} = {first}, {high} = {last};")
        return low, high

    def expr(self, name: str, series: Series) -> str:
        """`series` as an expression; `name` names its table, should it need one."""
        values = list(series.values())
        if len(set(values)) == 1:
            return linear_text(0, "", values[0])
        if max(map(abs, values)) >= WIDE:
            # C would multiply in 32 bits
            return self.tables.entry(name, series, self.variable)
        for relation in self.ranges:
            found = _related(series, *relation)
            if found is not None:
                return found
        return self._own(name, series, ())

    def _own(self, name: str, series: Series, hints: Sequence[int]) -> str:
        line = fit(series, hints)
        if line is not None:
            return line.text(self.variable)
        return self.tables.entry(name, series, self.variable)


def _related(series: Series, low: str, high: str, begin: Series, end: Series) -> str | None:
    """A multiple of a range's length, or a line through one of its ends."""
    length = {t: end[t] - begin[t] for t in series}
    for text, other in ((f"({high} - {low})", length), (low, begin), (high, end)):
        line = _through(series, other)
        if line is not None and (text != f"({high} - {low})" or line[1] == 0):
            return _multiple(text, *line)
    return None


def _multiple(text: str, slope: int, base: int) -> str:
    if text.isidentifier():
        return linear_text(slope, text, base)
    return text if slope == 1 else f"{linear_text(slope, 'x', 0).removesuffix('x')}{text}"


def _through(series: Series, other: Series) -> tuple[int, int] | None:
    """(slope, base) with ``series = slope * other + base`` for every tile."""
    tiles = list(series)
    pair = next(((a, b) for a in tiles[:1] for b in tiles if other[b] != other[a]), None)
    if pair is None:
        return None
    a, b = pair
    slope, rest = divmod(series[b] - series[a], other[b] - other[a])
    base = series[a] - slope * other[a]
    if rest or not slope or any(series[t] != slope * other[t] + base for t in tiles):
        return None
    return slope, base
