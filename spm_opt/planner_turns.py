"""Which space of plans has the next turn, and with how much room: what its plan may come to.

Spaces lie in one another, and less room allows fewer plans: so what one promised, the optimum of
its relaxation, is no more than what a smaller one does with no more room. Of what is promised not
all comes true once buffers have addresses. How much is alike for all plans of one space, and for
spaces that are alike: a turn that would come to more than the best plan can wait, and one that
would come to much more is not worth its time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from spm_opt.dynamic import Solved

#: share of the best value by which what is expected may be higher: rooms differ in what comes true
MARGIN: Final = 0.01


@dataclass(slots=True)
class Turns:
    """What was promised, by number of a space (the largest is 0) and share of the scratchpad.

    Attributes
    ----------
    taken : set
        Turns that need not come again.
    promised : dict
        Optima of relaxations that were searched to the end.
    optima : dict
        By share, number of the space that was searched last, and its optimum.
    came_true : dict
        By space, value of its last placed plan over what that promised.
    """

    taken: set[tuple[int, int]] = field(default_factory=set)
    promised: dict[tuple[int, int], int] = field(default_factory=dict)
    optima: dict[int, tuple[int, Solved]] = field(default_factory=dict)
    came_true: dict[int, float] = field(default_factory=dict)

    def take(self, number: int, share: int, solved: Solved, value: int) -> None:
        """Take note of an optimum, or of the best that was found in its place."""
        self.taken.add((number, share))
        self.optima[share] = number, solved
        if solved.complete:
            self.promised[number, share] = value

    def comes_true(self, number: int, promised: int, value: int) -> None:
        """Take note of what a placed plan came to."""
        self.came_true[number] = value / max(promised, 1)

    def at_least(self, number: int, share: int) -> int:
        """No plan of this space, with this share, is better."""
        return max(
            (
                value
                for (other, room), value in self.promised.items()
                if other <= number and room >= share
            ),
            default=0,
        )

    def expected(self, number: int, share: int) -> float:
        """What a plan may come to, if as much comes true as in this space, or the next larger."""
        known = max((other for other in self.came_true if other <= number), default=None)
        return 0.0 if known is None else self.at_least(number, share) * self.came_true[known]

    def is_hopeless(self, number: int, share: int, best: float) -> bool:
        """Whether a plan of this space, with this share, is known or expected not to be better."""
        if self.at_least(number, share) >= best:
            return True
        seen = number in self.came_true
        return seen and self.expected(number, share) > best * (1 + MARGIN)

    def is_over(self, number: int, share: int, best: float) -> bool:
        """Whether a turn was taken, or there is no hope in it."""
        return (number, share) in self.taken or self.is_hopeless(number, share, best)
