"""What a user demands of a plan: maps kept or never kept, layers together or apart, an order.

Names only, as the planner knows them (`spm_opt.graph.names` resolves what a user writes). How
they restrict the plan space is said in `spm_opt.constrain`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from spm_opt.errors import InputError

Names = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Constraints:
    """Demands on a plan; false where there are none.

    Attributes
    ----------
    pin : tuple of str
        Feature maps that are kept whole in SPM from their birth to their last reader, and are
        never spilled.
    no_pin : tuple of str
        Feature maps that are never whole in SPM.
    fuse : tuple of tuple of str
        Layers that run in one group.
    no_fuse : tuple of tuple of str
        Layers of which no two run in one group.
    order : tuple of str
        Every layer in the order in which they run; empty where the planner chooses.

    Raises
    ------
    InputError
        Where two of them contradict each other; both are named.
    """

    pin: Names = ()
    no_pin: Names = ()
    fuse: tuple[Names, ...] = ()
    no_fuse: tuple[Names, ...] = ()
    order: Names = ()

    def __post_init__(self) -> None:
        for option, groups in (("--fuse", self.fuse), ("--no-fuse", self.no_fuse)):
            for group in groups:
                if len(set(group)) < 2:
                    raise InputError(
                        "name at least two layers", field=option, found=",".join(group),
                        allowed="A,B or A,B,C ...",
                    )  # fmt: skip
        for tensor in self.pin:
            if tensor in self.no_pin:
                raise contradiction(f"--pin {tensor}", f"--no-pin {tensor}")
        self._require_apart()

    def __bool__(self) -> bool:
        return any((self.pin, self.no_pin, self.fuse, self.no_fuse, self.order))

    def _require_apart(self) -> None:
        for group, given in self.together():
            for apart in self.no_fuse:
                if len(group.intersection(apart)) > 1:
                    raise contradiction(" and ".join(_fuse(names) for names in given),
                                        f"--no-fuse {','.join(apart)}")  # fmt: skip

    def together(self) -> list[tuple[frozenset[str], tuple[Names, ...]]]:
        """Layers that run in one group, taken together, and the demands that say so.

        A layer runs in one group only: what is fused with it is fused with all of its company.
        """
        found: list[tuple[frozenset[str], tuple[Names, ...]]] = []
        for names in self.fuse:
            touching = [entry for entry in found if entry[0].intersection(names)]
            found = [entry for entry in found if entry not in touching]
            layers = frozenset(names).union(*(layers for layers, _ in touching))
            found.append((layers, (*(g for _, given in touching for g in given), names)))
        return found

    def texts(self) -> tuple[str, ...]:
        """Each demand as the command line spells it."""
        return (
            *(f"--pin {name}" for name in self.pin),
            *(f"--no-pin {name}" for name in self.no_pin),
            *(_fuse(names) for names in self.fuse),
            *(f"--no-fuse {','.join(names)}" for names in self.no_fuse),
            *(["--order"] if self.order else []),
        )


#: no demands at all
NONE: Final = Constraints()


def contradiction(one: str, other: str) -> InputError:
    """Two demands that no plan can meet."""
    return InputError(f"{one} contradicts {other}", field="constraints")


def groups_of(given: Iterable[str | Iterable[str]]) -> tuple[Names, ...]:
    """Groups of names: each a sequence of them, or a text with commas."""
    return tuple(
        tuple(name.strip() for name in group.split(",") if name.strip())
        if isinstance(group, str)
        else tuple(group)
        for group in given
    )


def _fuse(names: Names) -> str:
    return f"--fuse {','.join(names)}"
