"""Figures of schedules: one function each, onto axes that the caller may bring.

matplotlib is an extra, ``plot``, imported when the first figure is drawn. Colours are those of
Okabe and Ito, and never the only thing that tells two things apart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from spm_opt.plot.graph import plot_graph
from spm_opt.plot.memory import plot_memory_map
from spm_opt.plot.pareto import plot_pareto, plot_staircase
from spm_opt.plot.roofline import plot_roofline
from spm_opt.plot.timeline import plot_timeline
from spm_opt.plot.traffic import plot_traffic

__all__ = [
    "FIGURES", "plot_graph", "plot_memory_map", "plot_pareto", "plot_roofline", "plot_staircase",
    "plot_timeline", "plot_traffic",
]  # fmt: skip

#: what ``spm-opt plot --kind`` can draw of one schedule
FIGURES: Final[dict[str, Callable[..., Any]]] = {
    "memory": plot_memory_map,
    "timeline": plot_timeline,
    "traffic": plot_traffic,
    "roofline": plot_roofline,
    "graph": plot_graph,
}
