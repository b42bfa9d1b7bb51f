"""The timeline: what either engine does when, and what it waits for."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final

from spm_opt.plot.style import FONT, GREY, INK, Fit, axes_or_new, legend, time_axis, title
from spm_opt.scene import STALL_COLOUR, Scene, short_name
from spm_opt.schedule import Schedule
from spm_opt.simulate import Stall
from spm_opt.stream import COMPUTE, DMA

Spans = list[tuple[float, float]]

#: lane to its lowest point; all are `_HIGH` high
_LANES: Final = {"DMA": 0.0, "DMA waits": 1.1, "compute": 2.2, "compute waits": 3.3, "groups": 4.4}
_HIGH: Final = 0.8
_COLOURS: Final = {
    "load weights": "#E69F00", "load maps": "#56B4E9", "store maps": "#CC79A7",
    "compute": "#009E73", "wait": STALL_COLOUR, "done": "#BBBBBB",
}  # fmt: skip
#: stalls that are spelled out above the lanes
_NAMED: Final = 8
#: rows of text for them
_SHELVES: Final = 4


def plot_timeline(schedule: Schedule, ax: Any = None) -> Any:
    """Lanes of the DMA queue and the compute engine, the stalls of both, and the groups.

    The longest stalls of the compute engine say what they wait for.

    Parameters
    ----------
    schedule : Schedule
    ax : matplotlib Axes, optional
        New ones by default.

    Returns
    -------
    matplotlib Axes
    """
    from matplotlib.patches import Patch

    ax = axes_or_new(ax, 14.0, 4.8)
    scene = Scene(schedule)
    time_axis(ax, schedule.claims.latency_cycles)
    for (lane, sort), spans in _spans(scene).items():
        hatch = "////" if sort == "store maps" else None
        ax.broken_barh(spans, (_LANES[lane], _HIGH), facecolors=_COLOURS[sort], hatch=hatch,
                       edgecolor="white" if hatch else "none", linewidth=0)  # fmt: skip
    ax.set_yticks([low + _HIGH / 2 for low in _LANES.values()], list(_LANES), fontsize=FONT + 1)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(-0.2, _LANES["groups"] + 1.2 + 0.55 * _SHELVES)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    title(ax, schedule, "what the engines do, and what they wait for")
    legend(ax, [Patch(color=colour, label=sort) for sort, colour in _COLOURS.items()])
    _groups(ax, scene)
    _name_stalls(ax, scene)
    return ax


def _spans(scene: Scene) -> dict[tuple[str, str], Spans]:
    """Start and length of everything, by lane and sort."""
    found: dict[tuple[str, str], Spans] = defaultdict(list)
    for t in scene.schedule.transfers:
        sort = f"{t.kind} {'weights' if t.role == 'weights' else 'maps'}"
        found["DMA", sort].append((t.start_cycle, t.end_cycle - t.start_cycle))
    for c in scene.schedule.computes:
        found["compute", "compute"].append((c.start_cycle, c.end_cycle - c.start_cycle))
    for stall in scene.simulation.stalls:
        lane = {COMPUTE: "compute waits", DMA: "DMA waits"}[stall.engine]
        sort = "done" if stall.command is None else "wait"
        found[lane, sort].append((stall.begin_cycle, stall.cycles))
    return found


def _groups(ax: Any, scene: Scene) -> None:
    """Steps in two greys by turns, named where there is room."""
    fit, low = Fit.of(ax), _LANES["groups"]
    for n, step in enumerate(scene.schedule.steps):
        length = step.end_cycle - step.start_cycle
        shade = ("#D9D9D9", "#F0F0F0")[n % 2]
        ax.broken_barh([(step.start_cycle, length)], (low, _HIGH), facecolors=shade)
        first, last = short_name(step.layers[0]), short_name(step.layers[-1])
        name = first if len(step.layers) == 1 else f"{first} … {last}"
        fit.label((step.start_cycle, low, length, _HIGH), (name, first, str(n)), INK)


def _name_stalls(ax: Any, scene: Scene) -> None:
    """Spell out what the compute engine waits for longest, each at the longest of its stalls."""
    fit, latency = Fit.of(ax), max(scene.schedule.claims.latency_cycles, 1)
    causes: dict[str, list[Stall]] = defaultdict(list)
    for stall in scene.simulation.stalls:
        if stall.engine == COMPUTE:
            causes[scene.awaited(stall)].append(stall)
    longest = sorted(causes.items(), key=lambda item: -sum(s.cycles for s in item[1]))[:_NAMED]
    taken: list[list[tuple[float, float]]] = [[] for _ in range(_SHELVES)]
    # the longest first: where the shelves are full, the others go without a name
    for name, stalls in longest:
        share = sum(s.cycles for s in stalls) / latency
        text = f"{name} ({share:.1%}" + (f", {len(stalls)} stalls)" if len(stalls) > 1 else ")")
        width = fit.width(text)
        middle = (_longest(stalls).begin_cycle + _longest(stalls).end_cycle) / 2
        left = max(min(middle - width / 2, latency - width), 0)
        right = left + width
        shelf = next(
            (n for n, own in enumerate(taken) if all(right <= a or b <= left for a, b in own)), None
        )
        if shelf is not None:
            taken[shelf].append((left, right))
            _callout(ax, text, middle, left, shelf)


def _longest(stalls: list[Stall]) -> Stall:
    return max(stalls, key=lambda stall: stall.cycles)


def _callout(ax: Any, text: str, middle: float, left: float, shelf: int) -> None:
    """A text on a shelf above the lanes, with a line down to its stall."""
    high = _LANES["groups"] + _HIGH + 0.35 + 0.55 * shelf
    low = _LANES["compute waits"] + _HIGH
    ax.plot([middle, middle], [low, high], color=GREY, linewidth=0.6, zorder=0)
    backing = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
    ax.text(left, high, text, fontsize=FONT, color="#A34700", va="bottom", bbox=backing)
