"""The exact searches in turns: greedy, tree search and CP-SAT, each with its share of the work.

Every limit is counted in work done, never in seconds, so that a run repeats on any machine. Every
technique is a switch, so that its worth can be measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Final

from spm_opt.allocation.domains import NEVER
from spm_opt.allocation.greedy import greedy_offsets, pairs_alive
from spm_opt.allocation.instance import Instance
from spm_opt.allocation.linked import congruence, greedy_linked, peak_of
from spm_opt.allocation.rectangles import is_placement, peak_load
from spm_opt.allocation.sections import split_in_time
from spm_opt.allocation.tree import Tree

#: tree work (sections and rectangles looked at, decisions) in a deterministic second: what a core
#: of today does while others keep its caches busy
WORK_PER_SECOND: Final = 3_400_000
#: work of a decision beside the rectangles and sections that it makes look at
NODE_WORK: Final = 40


@dataclass(frozen=True, slots=True)
class Runs:
    """The runs of the tree search in one round, and by what their length grows with each round.

    Attributes
    ----------
    names : tuple of str
        Rule that chooses the section / rank that chooses the rectangle.
    first : int
        Decisions a rectangle of the runs of the first round.
    growth : float
    deep : bool
        Whether every run takes the tree's stronger rule, not every other one.
    """

    names: tuple[str, ...]
    first: int
    growth: float
    deep: bool = False


#: for a capacity that leaves no room: ten ways, then each for twice as long
TIGHT: Final = Runs(
    (
        "nk/length", "nk/area", "low/length", "nk/size", "slack/length",
        "wdeg/area", "slack/area", "wdeg/size", "low/start", "slack/start",
    ),
    2,
    2.0,
)  # fmt: skip
#: for a capacity that leaves some: filling from the bottom, many short tries
LOOSE: Final = Runs(("low/length", "low/start"), 2, 1.1)
#: for one that leaves little: what lies low is what starts early, and longer tries learn more
NARROW: Final = Runs(("low/start",), 4, 1.1, deep=True)
#: rounds before CP-SAT joins: most instances are done by then, and its import alone is long
_TREE_ROUNDS: Final = 2
#: CP-SAT's deterministic time of the first slices, and what of ours one of it takes
_SLICE: Final = 0.04
_CPSAT_PRICE: Final = 40.0
#: deterministic seconds of setting up a tree for each pair alive together
_PAIR_SECONDS: Final = 3e-7
#: deterministic seconds of the greedy placements of what is not plain, for each two rectangles
GREEDY_SECONDS: Final = 4e-7
#: pairs alive together above which that takes too long, too
_MANY_PAIRS: Final = 1_000_000
#: rectangles (that time does not part) above which a decision of the exact searches takes too long
_MANY: Final = 4_000


@dataclass(frozen=True, slots=True)
class Switches:
    """Techniques, each of which may be left out.

    Attributes
    ----------
    split : bool
        Parts that share no time are placed one by one.
    greedy, tree, cpsat : bool
        The searches.
    deep : bool
        The tree's stronger rule, in every other run.
    """

    split: bool = True
    greedy: bool = True
    tree: bool = True
    cpsat: bool = True
    deep: bool = True


ALL: Final = Switches()


@dataclass(frozen=True, slots=True)
class Memory:
    """What one search leaves to the next one of the same rectangles within another capacity.

    Attributes
    ----------
    learned : dict
        By part: what its sections and rectangles failed on.
    placed : dict
        By part without domains: its best greedy placement.
    too_low : dict
        By part with domains: the highest capacity that no greedy placement kept to.
    """

    learned: dict[int, tuple[list[float], list[float]]] = field(default_factory=dict)
    placed: dict[int, tuple[int, ...] | None] = field(default_factory=dict)
    too_low: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Placement:
    """What a search found.

    Attributes
    ----------
    offsets : tuple of int or None
        An offset for each rectangle, where they were found.
    infeasible : bool
        Whether it is proved that no offsets exist.
    effort : float
        Deterministic seconds spent on exact searches.
    method : str
        Which search found the offsets or the proof.
    """

    offsets: tuple[int, ...] | None
    infeasible: bool
    effort: float = 0.0
    method: str = ""


def search(
    instance: Instance,
    limit: float,
    seed: int = 0,
    switches: Switches = ALL,
    runs: Runs = TIGHT,
    memory: Memory | None = None,
) -> Placement:
    """Place an instance within its capacity, or prove that it cannot be, or give up.

    Parameters
    ----------
    instance : Instance
    limit : float
        Deterministic seconds for the exact searches; 0 for the greedy ones only.
    seed : int
    switches : Switches
    runs : Runs
    memory : Memory, optional
        Learned in earlier searches of the same rectangles within other capacities; updated.
    """
    if not instance.plain:
        return _search_linked(instance, limit, seed, switches)
    if peak_load(instance.rectangles) > instance.capacity:
        return Placement(None, True, method="load")
    if not switches.split:
        return _search_part(instance, limit, seed, switches, runs, memory)
    parts = split_in_time(instance.rectangles)
    if len(parts) == 1:
        return _search_part(instance, limit, seed, switches, runs, memory)
    offsets = [0] * len(instance.rectangles)
    effort, method = 0.0, "greedy"
    for part in parts:
        found = _search_part(
            instance.part(part), limit - effort, seed, switches, runs, memory, part[0]
        )
        effort += found.effort
        if found.offsets is None:
            return replace(found, effort=effort)
        method = found.method if found.method != "greedy" else method
        for i, offset in zip(part, found.offsets, strict=True):
            offsets[i] = offset
    return Placement(tuple(offsets), False, effort, method)


def greedy(instance: Instance, enough: int | None = None) -> tuple[int, ...] | None:
    """The best greedy placement, or the first whose peak is `enough`.

    Without domains it may end above the capacity.
    """
    if instance.plain and not any(instance.domains):
        return tuple(greedy_offsets(instance.rectangles, enough))
    return greedy_linked(instance)


def _greedy_once(instance: Instance, memory: Memory, key: int) -> tuple[int, ...] | None:
    """The best greedy placement of a part, unless it is known to be too high.

    Without domains it is the same for every capacity.
    """
    if any(instance.domains):
        if instance.capacity <= memory.too_low.get(key, -1):
            return None
        offsets = greedy(instance, instance.capacity)
        if offsets is None or peak_of(instance, offsets) > instance.capacity:
            memory.too_low[key] = instance.capacity
        return offsets
    if key not in memory.placed:
        memory.placed[key] = greedy(instance, instance.capacity)
    return memory.placed[key]


def _search_part(
    instance: Instance,
    limit: float,
    seed: int,
    switches: Switches,
    runs: Runs,
    memory: Memory | None,
    key: int = 0,
) -> Placement:
    memory = Memory() if memory is None else memory
    known = memory.too_low.get(key)
    if switches.greedy:
        offsets = _greedy_once(instance, memory, key)
        if offsets is not None and is_placement(instance.rectangles, offsets, instance.capacity):
            return Placement(offsets, False, method="greedy")
    number, pairs = len(instance.rectangles), pairs_alive(instance.rectangles)
    if limit <= 0 or number > _MANY or pairs > _MANY_PAIRS:
        return Placement(None, False)
    tree = Tree(instance.rectangles, instance.capacity, instance.domains)
    tree.weight, tree.trouble = memory.learned.get(key, (tree.weight, tree.trouble))
    effort = _PAIR_SECONDS * pairs
    if memory.too_low.get(key) != known:
        effort += GREEDY_SECONDS * number**2
    for turn, run in enumerate(_schedule(number, switches, runs)):
        if effort >= limit:
            break
        if run.rule:
            found = _tree_run(tree, run, limit - effort, seed + turn)
            memory.learned[key] = tree.weight, tree.trouble
        else:
            found = _cpsat_run(instance, run, limit - effort, seed)
        effort += found.effort
        if found.offsets is not None or found.infeasible:
            return replace(found, effort=effort)
    return Placement(None, False, effort)


@dataclass(frozen=True, slots=True)
class _Run:
    """A run of the tree (rule, rank, nodes), or, without a rule, a slice of CP-SAT."""

    rule: str
    rank: str
    deep: bool
    size: float


def _tree_run(tree: Tree, run: _Run, limit: float, seed: int) -> Placement:
    outcome = tree.run(
        run.rule,
        run.rank,
        deep=run.deep,
        node_limit=int(run.size),
        work_limit=int(min(limit * WORK_PER_SECOND, NEVER)) + 1,
        seed=seed,
    )
    # a decision looks at every section, too
    decisions = (NODE_WORK + 2 * len(tree.members)) * outcome.nodes
    effort = (outcome.work + decisions) / WORK_PER_SECOND
    return Placement(outcome.offsets, outcome.infeasible, effort, f"tree {run.rule}/{run.rank}")


def _cpsat_run(instance: Instance, run: _Run, limit: float, seed: int) -> Placement:
    from spm_opt.allocation.exact import pack

    packing = pack(instance, int(run.rank), min(run.size, limit / _CPSAT_PRICE), seed)
    effort = max(_CPSAT_PRICE * packing.effort, 1e-3)
    return Placement(packing.offsets, packing.infeasible, effort, "cp-sat")


def _schedule(number: int, switches: Switches, runs: Runs) -> Iterator[_Run]:
    """Runs without end, ever longer."""
    if not switches.tree and not switches.cpsat:
        return
    for step in count():
        for n, names in enumerate(runs.names):
            rule, _, rank = names.partition("/")
            if switches.tree:
                deep = switches.deep and (runs.deep or (n + step) % 2 == 1)
                yield _Run(rule, rank, deep, max(200, runs.first * number) * runs.growth**step)
            if switches.cpsat and ((step >= _TREE_ROUNDS and n % 5 == 4) or not switches.tree):
                first = _TREE_ROUNDS if switches.tree else 0
                order = ((step - first) * len(runs.names) + n) // (5 if switches.tree else 1)
                yield _Run("", str(order), False, _SLICE * (1 << (step - first)))


def _search_linked(instance: Instance, limit: float, seed: int, switches: Switches) -> Placement:
    if any(congruence(instance, group) is None for group in instance.groups):
        return Placement(None, True, method="alignment")
    if switches.greedy:
        offsets = greedy_linked(instance)
        if offsets is not None and peak_of(instance, offsets) <= instance.capacity:
            return Placement(offsets, False, method="greedy")
    if not switches.cpsat:
        return Placement(None, False)
    effort = GREEDY_SECONDS * len(instance.rectangles) ** 2 if switches.greedy else 0.0
    for number in count():
        if effort >= limit:
            break
        run = _Run("", str(number), False, _SLICE * (1 << number // 5))
        found = _cpsat_run(instance, run, limit - effort, seed)
        effort += found.effort
        if found.offsets is not None or found.infeasible:
            return replace(found, effort=effort)
    return Placement(None, False, effort)
