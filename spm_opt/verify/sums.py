"""Input channels added a slice at a time: every slice once, its sums kept, its constants loaded.

That the slices of an element are added in rising order, without a gap, and that its output is made
with the last, is what `spm_opt.verify.data` sees: partial sums are known by how many input channels
are in them, and a compute reads those that it goes on from.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from spm_opt.graph.sums import Summed
from spm_opt.schedule import Compute
from spm_opt.verify.coverage import runs_text
from spm_opt.verify.facts import Facts, compute_label, transfer_label


def sums_kept(facts: Facts) -> Iterator[str]:
    """A compute begins, goes on from partial sums or ends them, as its input channels say."""
    for index, command in enumerate(facts.schedule.computes):
        for problem in _problems(facts, command):
            yield f"{compute_label(facts, index)} {problem}"
    for index, transfer in enumerate(facts.schedule.transfers):
        buffer = facts.schedule.buffers[transfer.buffer]
        if transfer.summed is not None and buffer.kind != "weight_stream":
            yield f"{transfer_label(facts, index)} moves a slice to buffer {buffer.name!r}"


def _problems(facts: Facts, command: Compute) -> Iterator[str]:
    step, buffers = facts.schedule.steps[command.step], facts.schedule.buffers
    if (command.summed is not None) != (step.axis == "sums"):
        yield f"adds other input channels than a step along {step.axis!r} does"
    begins = command.summed is None or command.summed[0] == 0
    if begins != (command.sums is None):
        yield "begins its sums anew" if command.sums is None else "begins with partial sums"
    held = [] if command.sums is None else [command.sums]
    if not facts.finishes(command):
        held.append(command.output)
    for number in held:
        yield from _buffer(facts, command, number)
    for number in command.weights if command.summed is not None else ():
        if buffers[number].kind != "weight_stream":
            yield f"reads a slice of its weights from buffer {buffers[number].name!r}"


def _buffer(facts: Facts, command: Compute, number: int) -> Iterator[str]:
    buffer = facts.schedule.buffers[number]
    if buffer.kind != "sums" or buffer.tensor != facts.layers[command.layer].output:
        yield f"keeps partial sums in buffer {buffer.name!r}, which is of kind {buffer.kind!r}"
    elif facts.sums_bytes(command) > buffer.unit_bytes:
        yield (
            f"has {facts.sums_bytes(command)} bytes of partial sums, but buffer {buffer.name!r} "
            f"has units of {buffer.unit_bytes}"
        )


def each_slice_once(facts: Facts) -> Iterator[str]:
    """Of layers that add slices, every input channel is added once to every output element."""
    for name, known in facts.reductions.items():
        layer = facts.layers[name]
        commands = [c for c in facts.schedule.computes if c.layer == name]
        cuts = _cuts(known.inputs, (c.summed for c in commands))
        times = np.zeros((facts.cell_count(layer), layer.rows, len(cuts) - 1), dtype=np.int64)
        for command in commands:
            begin, end = facts.cells(layer, command.channels)
            added = _span(cuts, command.summed)
            times[begin:end, command.rows[0] : command.rows[1], added] += 1
        for wrong, words in ((times == 0, "never"), (times > 1, "more than once")):
            if wrong.any():
                yield f"layer {name!r} adds {_channels(cuts, wrong)} {words}"


def slice_constants_once(facts: Facts) -> Iterator[str]:
    """Every byte of the constants of such a layer is loaded, in the same tiles if again."""
    for name, known in facts.reductions.items():
        layer = facts.layers[name]
        loads = {
            (t.step, t.channels, t.summed) for t in facts.schedule.transfers
            if t.role == "weights" and t.tensor == name
        }  # fmt: skip
        cuts = _cuts(known.inputs, (summed for _, _, summed in loads))
        times = np.zeros((facts.cell_count(layer), len(cuts) - 1), dtype=np.int64)
        for _, channels, summed in loads:
            begin, end = facts.cells(layer, channels)
            times[begin:end, _span(cuts, summed)] += 1
        for wrong, words in ((times == 0, "never"), (times > 1, "more than once")):
            if wrong.any():
                yield f"weights of layer {name!r} for {_channels(cuts, wrong)} are loaded {words}"


def _cuts(inputs: int, slices: Iterable[Summed | None]) -> list[int]:
    return sorted({0, inputs, *(edge for summed in slices if summed for edge in summed)})


def _span(cuts: list[int], summed: Summed | None) -> slice:
    begin, end = (0, cuts[-1]) if summed is None else summed
    return slice(bisect_left(cuts, begin), bisect_left(cuts, end))


def _channels(cuts: list[int], marked: NDArray[np.bool_]) -> str:
    """Input channels that are marked for any element."""
    found = np.zeros(cuts[-1], dtype=np.bool_)
    for i in np.flatnonzero(marked.reshape(-1, marked.shape[-1]).any(axis=0)):
        found[cuts[i] : cuts[i + 1]] = True
    return f"input channels {runs_text(found)}"
