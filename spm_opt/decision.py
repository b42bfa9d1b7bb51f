"""What was chosen, and how sure we are of it. Tiny, and free of the solver's types."""

from __future__ import annotations

from dataclasses import dataclass

from spm_opt.problem import Candidate


@dataclass(frozen=True, slots=True)
class Decision:
    """One choice in a `Problem`.

    Attributes
    ----------
    candidates : tuple of int
        Candidates used, in execution order.
    resident : tuple of (int, int, int)
        ``(map, first, end)``: the map occupies SPM at the steps led by parts ``[first, end)``
        without a gap; ``first`` is its birth, or a part at whose step it is loaded whole.
    reloads : tuple of (int, int)
        ``(map, part)``: the map is loaded whole at the front of the step led by `part`.
    weight_starts : tuple of int
        Part that leads the step in which the weights of each part start to be loaded: their own
        step's leader where they are not prefetched, -1 where they are streamed or absent.
    """

    candidates: tuple[int, ...]
    resident: tuple[tuple[int, int, int], ...]
    reloads: tuple[tuple[int, int], ...]
    weight_starts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A decision and what is known of it.

    Attributes
    ----------
    decision : Decision
    value : int
        Its objective: cycles or bytes.
    bound : int
        No decision in the problem is better.
    proven : bool
        Whether `bound` equals `value`.
    """

    decision: Decision
    value: int
    bound: int

    @property
    def proven(self) -> bool:
        """Whether nothing better exists."""
        return self.bound >= self.value


def residencies(
    used: list[Candidate], reloads: list[tuple[int, ...]]
) -> tuple[tuple[tuple[int, int, int], ...], tuple[tuple[int, int], ...]]:
    """`Decision.resident` and `Decision.reloads` of a plan.

    Parameters
    ----------
    used : list of Candidate
        Groups in execution order.
    reloads : list of tuple of int
        Maps that each of them loads whole. A map stays from its birth, or from there, to the last
        step that uses it before it is loaded again.
    """
    resident: list[tuple[int, int, int]] = []
    loaded: list[tuple[int, int]] = []
    since: dict[int, list[int]] = {}
    for candidate, fresh in zip(used, reloads, strict=True):
        for t in fresh:
            if t in since:
                resident.append((t, since[t][0], since[t][1] + 1))
            since[t] = [candidate.first, candidate.first]
            loaded.append((t, candidate.first))
        for t in (*candidate.reads, *candidate.keeps):
            since.setdefault(t, [candidate.first, candidate.first])[1] = candidate.first
    resident += [(t, first, last + 1) for t, (first, last) in since.items()]
    return tuple(sorted(resident)), tuple(sorted(loaded))
