"""The network as it is executed: layers in order, groups as boxes, maps by how they travel.

The layout is our own: layers stand in rows like words in a text, in the order of execution, so that
groups are contiguous. A map that is read right behind its producer is an arrow; every other one has
a track above the rows, at the same height in all rows that it crosses, so that no line runs through
a layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from spm_opt.plot.style import FONT, GREY, INK, title
from spm_opt.scene import Link, Scene, short_name
from spm_opt.schedule import Schedule

#: inches of a cell along; layers in a row
_CELL: Final = 1.3
_COLUMNS: Final = 11
#: inches of a layer's box, of one track, and between rows
_BOX: Final = (1.06, 0.42)
_TRACK: Final = 0.09
_GAP: Final = 0.54
_MARGIN: Final = 0.35
#: inches of a page at least: title and legend need them
_NARROWEST: Final = 7.5

_INSIDE: Final[dict[str, Any]] = {"color": GREY, "linewidth": 0.9, "linestyle": "-"}
_PINNED: Final[dict[str, Any]] = {"color": "#0072B2", "linewidth": 2.4, "linestyle": "-"}
_SPILLED: Final[dict[str, Any]] = {"color": "#D55E00", "linewidth": 1.2, "linestyle": (0, (3, 2))}
_STYLES: Final = {"inside": _INSIDE, "pinned": _PINNED, "spilled": _SPILLED}
_LABELS: Final = {
    "inside": "inside a group", "pinned": "pinned in SPM", "spilled": "through DRAM",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Bus:
    """Links of one map that travel alike: from one place to others, on one track."""

    source: int
    #: place of each reader, and the operand that arrives there
    readers: tuple[tuple[int, str], ...]
    way: str
    track: int

    @property
    def last(self) -> int:
        """Place of the last reader."""
        return self.readers[-1][0]


@dataclass(frozen=True, slots=True)
class _Page:
    """Where layers stand: columns and rows, and the height of each row's baseline."""

    layers: tuple[str, ...]
    columns: int
    baselines: tuple[float, ...]
    height: float

    def spot(self, place: int) -> tuple[float, float]:
        """Lower left corner of a layer's box."""
        row, column = divmod(place, self.columns)
        return _MARGIN + column * _CELL, self.baselines[row]

    @property
    def width(self) -> float:
        """Inches of a row with its margins."""
        return max(2 * _MARGIN + self.columns * _CELL, _NARROWEST)


def plot_graph(schedule: Schedule, ax: Any = None) -> Any:
    """Layers in the order of execution, groups boxed: pinned maps bold, spilled ones dashed.

    Layers that compute nothing, since their parts lie in place, are left out: their readers are
    joined to what the parts come from.

    Parameters
    ----------
    schedule : Schedule
    ax : matplotlib Axes, optional
        New ones by default, large enough for every name.

    Returns
    -------
    matplotlib Axes
    """
    scene = Scene(schedule)
    order = _order(schedule)
    place = {name: n for n, name in enumerate(order)}
    buses = _buses(scene.links, place)
    page = _page(order, buses)
    if ax is None:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(page.width, page.height + 0.7), layout="constrained")
        ax = figure.subplots()
    ax.set(xlim=(0, page.width), ylim=(-0.35, page.height))
    ax.set_axis_off()
    _draw_groups(ax, schedule, page, place)
    _draw_buses(ax, page, buses)
    _draw_neighbours(ax, page, scene.links, place)
    _draw_ends(ax, schedule, page, place, scene.links)
    _draw_layers(ax, schedule, page)
    title(ax, schedule, "groups in the order of execution")
    _legend(ax)
    return ax


def _order(schedule: Schedule) -> tuple[str, ...]:
    """Layers that compute, group by group."""
    busy = {c.layer for c in schedule.computes}
    return tuple(
        dict.fromkeys(name for step in schedule.steps for name in step.layers if name in busy)
    )


def _columns(total: int) -> int:
    return max(1, min(_COLUMNS, total))


def _neighbours(source: int, reader: int, columns: int) -> bool:
    """Whether an arrow from box to box will do."""
    return reader == source + 1 and reader % columns != 0


def _buses(links: tuple[Link, ...], place: dict[str, int]) -> list[_Bus]:
    """Everything but arrows between neighbours, each on the lowest track that is free for it."""
    readers: dict[tuple[int, str], set[tuple[int, str]]] = {}
    columns = _columns(len(place))
    for link in links:
        if link.producer is not None:
            source, reader = place[link.producer], place[link.reader]
            if not _neighbours(source, reader, columns):
                readers.setdefault((source, link.way), set()).add((reader, link.tensor))
    found: list[_Bus] = []
    free: list[int] = []
    for (source, way), places in sorted(readers.items()):
        track = next((t for t, until in enumerate(free) if until < source), len(free))
        if track == len(free):
            free.append(0)
        free[track] = max(places)[0]
        found.append(_Bus(source, tuple(sorted(places)), way, track))
    return found


def _page(order: tuple[str, ...], buses: list[_Bus]) -> _Page:
    columns = _columns(len(order))
    rows = -(-len(order) // columns)
    tracks = [0] * rows
    for bus in buses:
        for row in range(bus.source // columns, bus.last // columns + 1):
            tracks[row] = max(tracks[row], bus.track + 1)
    baselines: list[float] = []
    height = 0.0
    for row in reversed(range(rows)):
        baselines.append(height)
        height += _BOX[1] + _GAP + _TRACK * tracks[row]
    return _Page(order, columns, tuple(reversed(baselines)), height)


def _draw_groups(ax: Any, schedule: Schedule, page: _Page, place: dict[str, int]) -> None:
    from matplotlib.patches import FancyBboxPatch

    drawn: set[tuple[int, ...]] = set()
    for step in schedule.steps:
        places = tuple(place[name] for name in step.layers if name in place)
        if len(places) < 2 or places in drawn:
            continue
        drawn.add(places)
        for row in sorted({p // page.columns for p in places}):
            inside = [p for p in places if p // page.columns == row]
            x, y = page.spot(min(inside))
            width = (max(inside) - min(inside)) * _CELL + _BOX[0]
            ax.add_patch(
                FancyBboxPatch(
                    (x - 0.06, y - 0.07), width + 0.12, _BOX[1] + 0.14, facecolor="#E8F4EF",
                    edgecolor="#009E73", linewidth=1.2, zorder=0,
                    boxstyle="round,pad=0,rounding_size=0.08",
                )
            )  # fmt: skip


def _draw_buses(ax: Any, page: _Page, buses: list[_Bus]) -> None:
    ports: dict[int, list[str]] = {}
    for bus in buses:
        for reader, tensor in bus.readers:
            if tensor not in ports.setdefault(reader, []):
                ports[reader].append(tensor)
    for bus in buses:
        style = _STYLES[bus.way]
        for row in range(bus.source // page.columns, bus.last // page.columns + 1):
            high = _track_height(page, row, bus.track)
            xs = []
            if row == bus.source // page.columns:
                x, y = page.spot(bus.source)
                xs.append(x + 0.85 * _BOX[0])
                ax.plot([xs[0], xs[0]], [y + _BOX[1], high], zorder=1, **style)
            else:
                xs.append(0.0)
            for reader, tensor in bus.readers:
                if reader // page.columns == row:
                    x, y = page.spot(reader)
                    port = (ports[reader].index(tensor) + 1) / (len(ports[reader]) + 1)
                    xs.append(x + 0.7 * _BOX[0] * port)
                    _arrow(ax, (xs[-1], high), (xs[-1], y + _BOX[1]), style)
            if bus.last // page.columns > row:
                xs.append(page.width)
            ax.plot([min(xs), max(xs)], [high, high], zorder=1, **style)


def _track_height(page: _Page, row: int, track: int) -> float:
    return page.baselines[row] + _BOX[1] + 0.22 + _TRACK * track


def _draw_neighbours(ax: Any, page: _Page, links: tuple[Link, ...], place: dict[str, int]) -> None:
    for link in links:
        if link.producer is not None:
            source, reader = place[link.producer], place[link.reader]
            if _neighbours(source, reader, page.columns):
                (x0, y), (x1, _) = page.spot(source), page.spot(reader)
                middle = y + _BOX[1] / 2
                _arrow(ax, (x0 + _BOX[0], middle), (x1, middle), _STYLES[link.way])


def _arrow(ax: Any, begin: tuple[float, float], end: tuple[float, float], style: Any) -> None:
    ax.annotate(
        "", end, begin, zorder=2,
        arrowprops={"arrowstyle": "-|>", "shrinkA": 0, "shrinkB": 0, "mutation_scale": 7, **style},
    )  # fmt: skip


def _draw_ends(
    ax: Any, schedule: Schedule, page: _Page, place: dict[str, int], links: tuple[Link, ...]
) -> None:
    """Short dashed arrows where the network's inputs come from DRAM and its outputs go there."""
    for reader in {link.reader for link in links if link.producer is None}:
        x, y = page.spot(place[reader])
        _arrow(ax, (x + 0.04, y - 0.25), (x + 0.04, y), _SPILLED)
        ax.text(x + 0.1, y - 0.26, "input", fontsize=FONT - 1, va="bottom", color=INK)
    for layer in schedule.network.layers:
        if layer.output in schedule.network.outputs and layer.name in place:
            x, y = page.spot(place[layer.name])
            x += _BOX[0] - 0.04
            _arrow(ax, (x, y), (x, y - 0.25), _SPILLED)
            ax.text(x - 0.06, y - 0.26, "output", fontsize=FONT - 1, va="bottom", ha="right",
                    color=INK)  # fmt: skip


def _draw_layers(ax: Any, schedule: Schedule, page: _Page) -> None:
    from matplotlib.patches import Rectangle

    kinds = {layer.name: layer.op.kind for layer in schedule.network.layers}
    for n, name in enumerate(page.layers):
        x, y = page.spot(n)
        ax.add_patch(Rectangle((x, y), *_BOX, facecolor="white", edgecolor=INK, linewidth=0.8,
                               zorder=3))  # fmt: skip
        middle = x + _BOX[0] / 2
        ax.text(middle, y + 0.29, short_name(name, 14), fontsize=FONT - 0.5, ha="center",
                va="center", zorder=4, color=INK)  # fmt: skip
        ax.text(middle, y + 0.12, short_name(kinds[name], 15), fontsize=FONT - 1.5, ha="center",
                va="center", zorder=4, color=GREY)  # fmt: skip


def _legend(ax: Any) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Line2D([], [], label=_LABELS[way], **style) for way, style in _STYLES.items()
    ]
    handles.append(Patch(facecolor="#E8F4EF", edgecolor="#009E73", label="group"))
    ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=4, frameon=False,
              fontsize=FONT)  # fmt: skip
