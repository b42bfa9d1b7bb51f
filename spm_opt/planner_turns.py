"""Which space of plans has the next turn, and with how much room: what its plan may come to.

Spaces lie in one another, and less room allows fewer plans: so what one promised, the optimum of
its relaxation, is no more than what a smaller one does with no more room. Of what is promised not
all comes true once buffers have addresses. How much is alike for all plans of one space: a turn
that would come to more than the best plan is not worth its time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

#: share of the best value by which what is expected may be higher: rooms differ in what comes true
MARGIN: Final = 0.01


@dataclass(slots=True)
class Turns:
    """What was promised, by number of a space (the largest is 0) and share of the scratchpad.

    Attributes
    ----------
    promised : dict
        Optima of relaxations that were searched to the end.
    came_true : dict
        By space, value of its last placed plan over what that promised.
    """

    promised: dict[tuple[int, int], int] = field(default_factory=dict)
    came_true: dict[int, float] = field(default_factory=dict)

    def promise(self, number: int, share: int, value: int) -> None:
        """Take note of an optimum."""
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

    def is_hopeless(self, number: int, share: int, best: float) -> bool:
        """Whether a plan of this space, with this share, is known or expected not to be better."""
        least = self.at_least(number, share)
        return least >= best or least * self.came_true.get(number, 0.0) > best * (1 + MARGIN)
