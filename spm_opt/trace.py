"""A schedule as a trace: the Chrome trace event format, which Perfetto opens as it is.

One process; threads are the groups, each engine, and what each engine stands still for. Times are
microseconds in whole nanoseconds, rounded down, so that events of a thread never overlap; exact
cycles are arguments of each event. The format: "Trace Event Format", Google, 2016.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cached_property
from typing import Any, Final

from spm_opt.scene import Scene, describe
from spm_opt.schedule import Schedule
from spm_opt.simulate import ENGINES, Simulation, Stall
from spm_opt.stream import COMPUTE, Command, Stream

__all__ = ["trace_json"]

Event = dict[str, Any]

_PROCESS: Final = 1
_STEPS: Final = 1
#: thread of each engine, and of its stalls
_LANES: Final = {engine: 2 + 2 * n for n, engine in enumerate(ENGINES)}
_STALLS: Final = {engine: lane + 1 for engine, lane in _LANES.items()}
_LANE_NAMES: Final = {COMPUTE: "compute", "dma": "DMA queue"}
_NANOSECONDS: Final = 10**9


def trace_json(
    schedule: Schedule, stream: Stream | None = None, simulation: Simulation | None = None
) -> str:
    """The trace of a schedule as JSON text, one event a line.

    Parameters
    ----------
    schedule : Schedule
    stream, simulation : Stream, Simulation, optional
        Its commands and their simulation, where they are at hand.
    """
    scene = Scene(schedule)
    if stream is not None:
        scene.stream = stream
    if simulation is not None:
        scene.simulation = simulation
    trace = _Trace(scene)
    timed = sorted(trace.timed(), key=lambda event: event["ts"])
    lines = (
        json.dumps(event, separators=(",", ":"), allow_nan=False)
        for event in (*_names(schedule), *timed)
    )
    head = {
        "model": schedule.network.name,
        "hardware": schedule.hardware.name,
        "strategy": schedule.provenance.strategy,
        "latency_cycles": str(schedule.claims.latency_cycles),
    }
    other = json.dumps(head, separators=(",", ":"))
    events = ",\n".join(lines)
    # Events come first, since some trace processors take the first list for them, and there is no
    # "displayTimeUnit", since some take it for the unit of `ts`, which is always the microsecond.
    return f'{{"traceEvents":[\n{events}\n],"otherData":{other}}}\n'


def _names(schedule: Schedule) -> Iterator[Event]:
    """Names of the process and its threads, and the order of these."""
    title = f"{schedule.network.name} on {schedule.hardware.name}"
    yield _meta("process_name", 0, name=title)
    lanes = {_STEPS: "groups"}
    for engine in ENGINES:
        lanes[_LANES[engine]] = _LANE_NAMES[engine]
        lanes[_STALLS[engine]] = f"{_LANE_NAMES[engine]} waits"
    for lane, name in lanes.items():
        yield _meta("thread_name", lane, name=name)
        yield _meta("thread_sort_index", lane, sort_index=lane)


def _meta(record: str, lane: int, **arguments: Any) -> Event:
    return {"name": record, "ph": "M", "pid": _PROCESS, "tid": lane, "ts": 0, "args": arguments}


class _Trace:
    """Makes the events of one scene."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.hertz = scene.schedule.hardware.frequency_hz

    def timed(self) -> Iterator[Event]:
        """All events that have a time; of those at one time, slices come first."""
        yield from self._steps()
        yield from self._commands()
        yield from self._stalls()
        yield from self._arrows()
        yield from self._occupancy()
        yield from self._bandwidth()

    def _nanoseconds(self, cycle: int) -> int:
        return cycle * _NANOSECONDS // self.hertz

    def _slice(self, name: str, category: str, lane: int, span: tuple[int, int],
               arguments: Event) -> Event:  # fmt: skip
        begin, end = map(self._nanoseconds, span)
        return {
            "name": name, "cat": category, "ph": "X", "pid": _PROCESS, "tid": lane,
            "ts": begin / 1000, "dur": (end - begin) / 1000,
            "args": {"start_cycle": span[0], "cycles": span[1] - span[0], **arguments},
        }  # fmt: skip

    def _steps(self) -> Iterator[Event]:
        for n, step in enumerate(self.scene.schedule.steps):
            last = f" … {step.layers[-1]}" if len(step.layers) > 1 else ""
            yield self._slice(
                f"{n}: {step.layers[0]}{last}", "group", _STEPS,
                (step.start_cycle, step.end_cycle),
                {"step": n, "layers": list(step.layers), "tiles": step.tiles, "axis": step.axis},
            )  # fmt: skip

    def _commands(self) -> Iterator[Event]:
        for command, span in self._executed():
            arguments: Event = {"command": command.number, "step": command.step}
            if command.tile >= 0:
                arguments["tile"] = command.tile
            if command.dram is None:
                name = command.name
                arguments |= {
                    "reads": [w.tensor for w in (*command.inputs, *command.weights)],
                    "writes": "" if command.output is None else command.output.tensor,
                }
            else:
                name = describe(command)
                arguments |= {"tensor": command.name, "role": command.role,
                              "bytes": self._bytes[command.number]}  # fmt: skip
                if command.prefetch:
                    arguments["prefetch"] = True
            yield self._slice(name, command.kind, _LANES[command.engine], span, arguments)

    def _executed(self) -> Iterator[tuple[Command, tuple[int, int]]]:
        spans = self.scene.simulation.spans
        for command in self.scene.stream.commands:
            span = spans[command.number]
            yield command, (span.start_cycle, span.end_cycle)

    @cached_property
    def _bytes(self) -> dict[int, int]:
        """Bytes over the pins of each transfer, by its command."""
        queue = (c.number for c in self.scene.stream.commands if c.dram is not None)
        return dict(zip(queue, (t.moved_bytes for t in self.scene.schedule.transfers), strict=True))

    def _stalls(self) -> Iterator[Event]:
        for stall in self.scene.simulation.stalls:
            reason = "done" if stall.command is None else f"waits: {self.scene.awaited(stall)}"
            yield self._slice(
                reason, "stall", _STALLS[stall.engine], (stall.begin_cycle, stall.end_cycle),
                {"awaited_command": stall.awaited},
            )  # fmt: skip

    def _arrows(self) -> Iterator[Event]:
        """From the command that was waited for to the one that waited."""
        spans, commands = self.scene.simulation.spans, self.scene.stream.commands
        stalls: list[Stall] = [s for s in self.scene.simulation.stalls if s.command is not None]
        for number, stall in enumerate(stalls):
            source, target = commands[stall.awaited], commands[stall.command or 0]
            begin, end = spans[source.number].start_cycle, spans[source.number].end_cycle
            # an arrow belongs to the slice around its time, so it leaves just before the end
            leaves = max(self._nanoseconds(begin), self._nanoseconds(end) - 1)
            arrives = self._nanoseconds(spans[target.number].start_cycle)
            common: Event = {"name": "waits for", "cat": "wait", "id": number, "pid": _PROCESS}
            yield {**common, "ph": "s", "tid": _LANES[source.engine], "ts": leaves / 1000}
            yield {**common, "ph": "f", "bp": "e", "tid": _LANES[target.engine],
                   "ts": arrives / 1000}  # fmt: skip

    def _occupancy(self) -> Iterator[Event]:
        for step, reserved in zip(
            self.scene.schedule.steps, self.scene.reserved_bytes, strict=True
        ):
            yield self._counter("SPM reserved (bytes)", step.start_cycle, {"bytes": reserved})
        for record in self.scene.simulation.occupancy:
            yield self._counter("SPM live (bytes)", record.cycle, {"bytes": record.live_bytes})

    def _bandwidth(self) -> Iterator[Event]:
        """Gigabytes per second over the pins, of each transfer; 0 where the queue stands still."""
        free, name = -1, "DRAM bandwidth"
        moved = self._bytes
        for command, (start, end) in self._executed():
            if command.dram is None or end == start:
                continue
            if free not in (-1, start):
                yield self._counter(name, free, {"read": 0, "write": 0})
            rate = moved[command.number] * self.hertz / (end - start) / 1e9
            read = rate if command.kind == "load" else 0
            yield self._counter(name, start, {"read": round(read, 6),
                                              "write": round(rate - read, 6)})  # fmt: skip
            free = end
        if free >= 0:
            yield self._counter(name, free, {"read": 0, "write": 0})

    def _counter(self, name: str, cycle: int, values: Event) -> Event:
        return {
            "name": name, "ph": "C", "pid": _PROCESS, "tid": 0,
            "ts": self._nanoseconds(cycle) / 1000, "args": values,
        }  # fmt: skip
