"""What the report shows, as plain data: lists of numbers, and each text once.

The page gets figures and records only; all sums are made here. Names stand in one list, ``texts``,
and records hold their positions, so that thousands of commands stay small.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

from spm_opt.formats.tables import LAYER_COLUMNS, layers_csv
from spm_opt.report import groups_of, solve_figures
from spm_opt.scene import BUFFER_KINDS, Scene
from spm_opt.schedule import Schedule
from spm_opt.simulate import ENGINES

__all__ = ["schedule_data"]

#: points of the curve of live bytes at most: two for each pixel of a wide screen
_LIVE_POINTS: Final = 4000
#: columns of layers.csv that are texts
_TEXT_COLUMNS: Final = frozenset({"layer", "op", "axis", "halo", "bound_by"})


class _Texts:
    """Every text once."""

    def __init__(self) -> None:
        self.places: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        return self.places.setdefault(text, len(self.places))


def schedule_data(schedule: Schedule, label: str) -> dict[str, Any]:
    """All that the page knows of one schedule.

    Parameters
    ----------
    schedule : Schedule
        One that the checker accepted.
    label : str
        What the page calls it.
    """
    scene, text = Scene(schedule), _Texts()
    found: dict[str, Any] = {
        "label": label,
        "figures": solve_figures(schedule, verified=True),
        "hertz": schedule.hardware.frequency_hz,
        "capacity": schedule.hardware.spm.capacity_bytes,
        "bandwidth": float(schedule.hardware.dram.bytes_per_cycle),
        "kinds": {name: [kind.label, kind.colour] for name, kind in BUFFER_KINDS.items()},
        "steps": [_step(step, text) for step in schedule.steps],
        "buffers": _buffers(scene, text),
        "transfers": [_transfer(t, text) for t in schedule.transfers],
        "computes": [
            [text(c.layer), c.step, c.tile, c.start_cycle, c.end_cycle] for c in schedule.computes
        ],
        "stalls": [
            [ENGINES.index(s.engine), s.begin_cycle, s.end_cycle, text(scene.awaited(s)),
             int(s.command is None)]
            for s in scene.simulation.stalls
        ],
        "live": _thinned([(r.cycle, r.live_bytes) for r in scene.simulation.occupancy]),
        "links": [
            [text(link.tensor), text(link.producer or ""), text(link.reader), text(link.way)]
            for link in scene.links
        ],
        "uses": {str(text(name)): sorted(used) for name, used in _uses(schedule).items()},
        "groups": _groups(schedule),
        "columns": list(_columns(schedule)),
        "layers": _layers(schedule),
    }  # fmt: skip
    found["texts"] = list(text.places)
    return found


def _step(step: Any, text: _Texts) -> list[Any]:
    return [
        step.start_cycle, step.end_cycle, [text(name) for name in step.layers], step.tiles,
        step.axis, step.halo, step.depth, step.channels,
    ]  # fmt: skip


def _buffers(scene: Scene, text: _Texts) -> list[list[Any]]:
    return [
        [
            text(b.name), b.kind, text(b.tensor), b.offset_bytes, b.size_bytes, life.claim_cycle,
            life.release_cycle, life.first_cycle, life.last_cycle, b.first_step, b.end_step,
            -1 if b.shares is None else b.shares, [text(name) for name in life.readers],
        ]
        for b, life in zip(scene.schedule.buffers, scene.lifetimes, strict=True)
    ]  # fmt: skip


def _transfer(t: Any, text: _Texts) -> list[Any]:
    sort = 2 if t.kind == "store" else 0 if t.role == "weights" else 1
    tile = -1 if t.tile is None else t.tile
    return [
        sort, text(t.tensor), t.buffer, t.step, t.need_step, tile, t.moved_bytes, t.start_cycle,
        t.end_cycle,
    ]  # fmt: skip


def _uses(schedule: Schedule) -> dict[str, set[int]]:
    """Buffers that each layer reads or writes."""
    found: dict[str, set[int]] = defaultdict(set)
    for compute in schedule.computes:
        found[compute.layer].update(compute.touched)
    return found


def _groups(schedule: Schedule) -> list[list[str]]:
    return [list(layers) for layers in groups_of(schedule)]


def _layers(schedule: Schedule) -> list[list[Any]]:
    """Rows of layers.csv, numbers as numbers."""
    rows = csv.DictReader(io.StringIO(layers_csv(schedule)))
    columns = _columns(schedule)
    return [[row[name] if name in _TEXT_COLUMNS else _number(row[name]) for name in columns]
            for row in rows]  # fmt: skip


def _columns(schedule: Schedule) -> tuple[str, ...]:
    """Columns of the table of layers: of energies the sum alone, where it is known.

    Without `active_pes`, which many layers do not have: utilisation says as much.
    """
    plain = tuple(n for n in LAYER_COLUMNS if n != "active_pes" and not n.endswith("_fj"))
    return plain if schedule.claims.energy is None else (*plain, "energy_fj")


def _number(text: str) -> int | float:
    return float(text) if "." in text else int(text)


def _thinned(curve: Sequence[tuple[int, int]]) -> list[int]:
    """A curve of steps as cycle, bytes, cycle, bytes...; of many points, the peaks."""
    if len(curve) > _LIVE_POINTS:
        width = -(-len(curve) // _LIVE_POINTS)
        parts = (curve[n : n + width] for n in range(0, len(curve), width))
        curve = [(part[0][0], max(value for _, value in part)) for part in parts]
    return [number for point in curve for number in point]
