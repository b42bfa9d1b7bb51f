"""Placement with CP-SAT: a slice of search at a time.

Branching on offsets from the bottom up, in a good order, closes many instances in a few hundred
conflicts; several short tries over different orders beat a long one. This search knows every rule,
those included that the tree search does not: groups, reuse in place, banks apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from ortools.sat.python import cp_model

from spm_opt.allocation.instance import Instance
from spm_opt.allocation.pieces import Piece, solid_pieces
from spm_opt.allocation.rectangles import Rectangle
from spm_opt.allocation.sections import cut_time

#: variable orders of the fixed searches; the order after the last leaves the search to CP-SAT
_ORDERS: Final[tuple[Callable[[Rectangle, int], tuple[int, ...]], ...]] = (
    lambda r, load: (-load, r.begin - r.end),
    lambda r, load: (r.begin, r.begin - r.end),
    lambda r, load: (-r.size * (r.end - r.begin),),
    lambda r, load: (r.begin - r.end, -r.size),
)
#: CP-SAT's arithmetic ends somewhat above
_LARGEST: Final = 1 << 55


@dataclass(frozen=True, slots=True)
class Packing:
    """Offsets, or a proof that there are none, or neither; and the deterministic time spent."""

    offsets: tuple[int, ...] | None
    infeasible: bool
    effort: float


def pack(instance: Instance, order: int, deterministic_limit: float, seed: int = 0) -> Packing:
    """Place all rectangles, or prove that it cannot be.

    Parameters
    ----------
    order : int
        Number of the slice: it takes the orders in turn.
    deterministic_limit : float
        CP-SAT deterministic time of the slice.
    """
    if instance.capacity >= _LARGEST:
        return Packing(None, False, deterministic_limit)
    packer = _Packer(_with_short_times(instance))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = (seed + order) % 2**31
    solver.parameters.catch_sigint_signal = False
    solver.parameters.max_deterministic_time = deterministic_limit
    if order % (len(_ORDERS) + 1) < len(_ORDERS):
        solver.parameters.search_branching = cp_model.FIXED_SEARCH
        packer.branch(order % (len(_ORDERS) + 1))
    status = solver.solve(packer.model)
    effort = solver.response_proto.deterministic_time
    if status in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return Packing(tuple(solver.value(o) for o in packer.offsets), False, effort)
    return Packing(None, status == cp_model.INFEASIBLE, effort)


def _with_short_times(instance: Instance) -> Instance:
    """Times that CP-SAT's arithmetic cannot hold, counted instead; others as they are."""
    times = sorted({t for r in instance.rectangles for t in (r.begin, r.end)})
    if not times or max(-times[0], times[-1]) < _LARGEST:
        return instance
    rank = {time: n for n, time in enumerate(times)}
    counted = (Rectangle(rank[r.begin], rank[r.end], r.size) for r in instance.rectangles)
    return replace(instance, rectangles=tuple(counted))


class _Packer:
    """The model of an instance, rule by rule."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.model = cp_model.CpModel()
        self.offsets = [self._offset(i) for i in range(len(instance.rectangles))]
        self.x: list[cp_model.IntervalVar] = []
        self.y: list[cp_model.IntervalVar] = []
        self._tie_groups()
        self.same = [self.model.new_bool_var(f"same[{n}]") for n in range(len(instance.reuses))]
        reusing = {output for output, _ in instance.reuses}
        for piece in solid_pieces(instance, reusing):
            self._occupy(piece, None)
        for output in sorted(reusing):
            self._reuse(output)
        self._single_reuse()
        self._part_banks()
        self.model.add_no_overlap_2d(self.x, self.y)

    def _offset(self, i: int) -> cp_model.IntVar:
        """Every rectangle starts at a legal start."""
        size, domain = self.instance.rectangles[i].size, self.instance.domains[i]
        last = self.instance.capacity - size
        if domain is None:
            return self._variable([(0, last)], f"offset[{i}]")
        last = min(last, domain.last)
        ranges, low = [], 0
        for begin, end in domain.holes:
            ranges.append((low, min(begin - 1, last)))
            low = end
        ranges.append((low, last))
        variable = self._variable([r for r in ranges if r[0] <= r[1]], f"offset[{i}]")
        if domain.alignment > 1:
            multiple = self.model.new_int_var(0, max(0, last) // domain.alignment, f"m[{i}]")
            self.model.add(variable == domain.alignment * multiple)
        return variable

    def _variable(self, ranges: list[tuple[int, int]], name: str) -> cp_model.IntVar:
        if not ranges or ranges[-1][1] < 0:
            self.model.add_bool_or([])  # no legal start at all
            ranges = [(0, 0)]
        return self.model.new_int_var_from_domain(cp_model.Domain.from_intervals(ranges), name)

    def _tie_groups(self) -> None:
        """Tied rectangles keep their distances."""
        for group in self.instance.groups:
            (first, origin), *others = group
            for i, distance in others:
                self.model.add(self.offsets[i] == self.offsets[first] + distance - origin)

    def _occupy(self, piece: Piece, present: cp_model.IntVar | None) -> None:
        """A piece of space and time belongs to one buffer only, where it is present."""
        if piece.begin >= piece.end:
            return
        start = self.offsets[piece.index] + piece.shift
        length, size = piece.end - piece.begin, piece.size
        if present is None:
            self.x.append(self.model.new_fixed_size_interval_var(piece.begin, length, ""))
            self.y.append(self.model.new_fixed_size_interval_var(start, size, ""))
        else:
            self.x.append(
                self.model.new_optional_fixed_size_interval_var(piece.begin, length, present, "")
            )
            self.y.append(self.model.new_optional_fixed_size_interval_var(start, size, present, ""))

    def _reuse(self, output: int) -> None:
        """An output lies by itself, or at the start of one of its inputs while that lives."""
        o = self.instance.rectangles[output]
        choices = []
        for n, (out, input_) in enumerate(self.instance.reuses):
            if out != output:
                continue
            i = self.instance.rectangles[input_]
            same = self.same[n]
            self.model.add(self.offsets[output] == self.offsets[input_]).only_enforce_if(same)
            if self._covered(output, input_):
                self.model.add_bool_or([same.negated()])
            self._occupy(Piece(output, i.end, o.end, 0, o.size), same)
            if o.size > i.size:
                self._occupy(Piece(output, o.begin, i.end, i.size, o.size - i.size), same)
            choices.append(same)
        alone = self.model.new_bool_var(f"alone[{output}]")
        self._occupy(Piece(output, o.begin, o.end, 0, o.size), alone)
        self.model.add_exactly_one([*choices, alone])

    def _covered(self, output: int, input_: int) -> bool:
        """Whether in the place of its input the output would meet what shares bytes with that."""
        instance = self.instance
        group = next(g for g in instance.groups if any(i == input_ for i, _ in g))
        origin = dict(group)[input_]
        for x, distance in group:
            related = {(x, input_), (input_, x)} & instance.nested
            if not related or not instance.rectangles[x].meets(instance.rectangles[output]):
                continue
            low, size = distance - origin, instance.rectangles[output].size
            excused = low == 0 and (output, x) in instance.reuses
            if low < size and low + instance.rectangles[x].size > 0 and not excused:
                return True
        return False

    def _single_reuse(self) -> None:
        """No two outputs take one input, and no output takes a place whose first owner lives."""
        reuses, rectangles = self.instance.reuses, self.instance.rectangles
        for n, (output, input_) in enumerate(reuses):
            for m, (other, source) in enumerate(reuses):
                chained = (
                    other == input_
                    and rectangles[source].meets(rectangles[output])
                    and (output, source) not in reuses
                )
                if (m < n and source == input_) or chained:
                    self.model.add_bool_or([self.same[n].negated(), self.same[m].negated()])

    def _part_banks(self) -> None:
        """A pair apart does not share a bank."""
        inside: dict[tuple[int, int], cp_model.IntVar] = {}
        for i in sorted({i for pair in self.instance.apart for i in pair}):
            for n, (begin, end) in enumerate(self.instance.banks):
                literal = self.model.new_bool_var(f"bank[{i},{n}]")
                bank = cp_model.Domain(begin, end - 1)
                offset = self.offsets[i]
                self.model.add_linear_expression_in_domain(offset, bank).only_enforce_if(literal)
                self.model.add_linear_expression_in_domain(
                    offset, bank.complement()
                ).only_enforce_if(literal.negated())
                inside[i, n] = literal
        for a, b in self.instance.apart:
            for n in range(len(self.instance.banks)):
                self.model.add_bool_or([inside[a, n].negated(), inside[b, n].negated()])

    def branch(self, order: int) -> None:
        """Decide the rectangle that can lie lowest, at its lowest start, ties in an order."""
        self.model.add_decision_strategy(
            [self.offsets[i] for i in _ranked(self.instance.rectangles, order)],
            cp_model.CHOOSE_LOWEST_MIN,
            cp_model.SELECT_MIN_VALUE,
        )


def _ranked(rectangles: tuple[Rectangle, ...], order: int) -> list[int]:
    load = [0] * len(rectangles)
    for alive in cut_time(rectangles).members:
        total = sum(rectangles[i].size for i in alive)
        for i in alive:
            load[i] = max(load[i], total)
    rank = _ORDERS[order]
    return sorted(range(len(rectangles)), key=lambda i: (*rank(rectangles[i], load[i]), i))
