"""What all figures share: fresh axes, how numbers are written, whether a text fits a box."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from spm_opt.scene import BUFFER_KINDS, STALL_COLOUR, Kind
from spm_opt.schedule import Schedule

#: points; half of it can still be read
FONT: Final = 9
#: width of a letter over the font's size, on the wide side of DejaVu Sans
_LETTER: Final = 0.63
#: below so many powers of ten, numbers between them are named too
_FEW_DECADES: Final = 2.5
#: inches from the axes to the legend below them: ticks and a label lie between
_LEGEND_DROP: Final = 0.45
GREY: Final = "#777777"
INK: Final = "#222222"
_DARK: Final = frozenset({"#0072B2", "#009E73", STALL_COLOUR})


def new_axes(width: float, height: float) -> Any:
    """Axes of their own in a new figure, sizes in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained").subplots()


def axes_or_new(ax: Any, width: float, height: float) -> Any:
    """The caller's axes, or new ones."""
    return new_axes(width, height) if ax is None else ax


def title(ax: Any, schedule: Schedule, what: str) -> None:
    """Say what is seen, of which plan, above the axes."""
    made = schedule.provenance
    text = f"{schedule.network.name} on {schedule.hardware.name}, {made.strategy}: {what}"
    ax.set_title(text, loc="left", fontsize=FONT + 2)


def time_axis(ax: Any, latency_cycles: int) -> None:
    """Cycles along x, from 0 to the latency, in thousands."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    ax.set_xlim(0, max(latency_cycles, 1))
    ax.xaxis.set_major_locator(MaxNLocator(12, steps=[1, 2, 5, 10]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 1000:,g}"))
    ax.set_xlabel("time (thousand cycles)", fontsize=FONT + 1)
    ax.tick_params(labelsize=FONT)


def size_axis(axis: Any, label: str, largest_bytes: float) -> None:
    """Bytes along an axis, ticks at whole binary units."""
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    unit, name = (2**20, "MiB") if largest_bytes >= 2**23 else (2**10, "KiB")
    step = 1
    while largest_bytes / unit / step > 9:
        step *= 2
    axis.set_major_locator(MultipleLocator(step * unit))
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / unit:,g}"))
    axis.set_label_text(f"{label} ({name})", fontsize=FONT + 1)


def log_axis(axis: Any) -> None:
    """Plain numbers along a logarithmic axis whose limits are set, few enough to stand apart."""
    from math import log10

    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    subs = (1.0, 2.0, 5.0) if log10(high / low) < _FEW_DECADES else (1.0,)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,g}"))
    axis.set_minor_formatter(NullFormatter())


def legend(ax: Any, handles: Sequence[Any], columns: int = 8) -> None:
    """A legend in one line below the axes, where it covers nothing."""
    from matplotlib.transforms import ScaledTranslation

    if handles:
        below = ScaledTranslation(0, -_LEGEND_DROP, ax.get_figure().dpi_scale_trans)
        ax.legend(
            handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0), frameon=False,
            bbox_transform=ax.transAxes + below, ncols=min(columns, len(handles)), fontsize=FONT,
        )  # fmt: skip


def kinds_shown(kinds: Iterable[str]) -> list[Kind]:
    """Legend entries of the kinds of buffers that occur."""
    occurring = {BUFFER_KINDS[kind] for kind in kinds}
    return [kind for kind in dict.fromkeys(BUFFER_KINDS.values()) if kind in occurring]


def text_colour(background: str) -> str:
    """White on the palette's dark colours, ink on the others."""
    return "white" if background in _DARK else INK


@dataclass(frozen=True, slots=True)
class Fit:
    """Decides whether a text fits a box of data coordinates; made once the limits are set."""

    ax: Any
    points_x: float
    points_y: float

    @classmethod
    def of(cls, ax: Any) -> Fit:
        """Measure the axes: points for one unit of data in x and in y."""
        figure = ax.get_figure()
        figure.draw_without_rendering()
        box = ax.get_window_extent()
        (x0, x1), (y0, y1) = ax.get_xlim(), ax.get_ylim()
        return cls(
            ax,
            box.width * 72 / figure.dpi / abs(x1 - x0),
            box.height * 72 / figure.dpi / abs(y1 - y0),
        )

    def width(self, text: str, size: float = FONT) -> float:
        """Width of a line of text in data units of x."""
        return (len(text) * _LETTER * size + 3) / self.points_x

    def label(
        self, box: tuple[float, float, float, float], texts: Sequence[str], colour: str
    ) -> bool:
        """Write the first of `texts` that fits the box (x, y, width, height); along or up.

        Returns
        -------
        bool
            Whether one did.
        """
        x, y, width, height = box
        wide, high = width * self.points_x, height * self.points_y
        for text in texts:
            length, thick = len(text) * _LETTER * FONT + 3, FONT * 1.25
            for across, along, angle in ((wide, high, 0), (high, wide, 90)):
                if length <= across and thick <= along:
                    self.ax.text(
                        x + width / 2, y + height / 2, text, fontsize=FONT, color=colour,
                        ha="center", va="center", rotation=angle, clip_on=True,
                    )  # fmt: skip
                    return True
        return False
