"""What a user hands to the allocator and gets back: buffers, regions, aliases, an allocation.

Sizes and addresses are integers in any one unit (bytes, usually), times are integers in any unit,
lifetimes are half-open. How offsets are found is not known here.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import index
from typing import Any, Final

from spm_opt.errors import InputError

#: sizes, times and addresses must stay below this
LIMIT: Final = 1 << 63


def whole(value: Any, field: str) -> int:
    """`value` as an int, where it is a whole number (NumPy's are) of less than 64 bits.

    Raises
    ------
    InputError
        Naming `field`.
    """
    try:
        number = index(value)
    except TypeError:
        raise InputError("must be a whole number", field=field, found=value) from None
    if isinstance(value, bool):
        raise InputError("must be a whole number", field=field, found=value)
    if not -LIMIT < number < LIMIT:
        raise InputError("must fit 63 bits", field=field, found=value)
    return number


@dataclass(frozen=True, slots=True)
class Buffer:
    """A buffer that occupies `size` units of space during ``[lower, upper)``.

    Attributes
    ----------
    id : str
        Unique.
    lower, upper : int
        Lifetime, half-open.
    size : int
        Positive.
    alignment : int
        Its offset is a multiple of this.
    offset : int or None
        A fixed offset (within its region, which must then be the only one allowed).
    forbidden : tuple of (int, int)
        Half-open ranges of addresses (within a region) that it must not touch.
    regions : tuple of str
        Regions that may hold it; empty for all.
    """

    id: str
    lower: int
    upper: int
    size: int
    alignment: int = 1
    offset: int | None = None
    forbidden: tuple[tuple[int, int], ...] = ()
    regions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("lower", "upper", "size", "alignment"):
            self._make_whole(name)
        for name in ("size", "alignment"):
            if getattr(self, name) <= 0:
                self._refuse("must be positive", name, getattr(self, name))
        if self.lower >= self.upper:
            self._refuse("lower must be less than upper", "lower, upper", (self.lower, self.upper))
        object.__setattr__(self, "forbidden", tuple(map(self._span, self.forbidden)))
        if self.offset is not None:
            self._make_whole("offset")
            self._check_offset(self.offset)

    def _span(self, span: Any) -> tuple[int, int]:
        if not isinstance(span, (tuple, list)) or len(span) != 2:
            self._refuse("must be pairs (begin, end)", "forbidden", span)
        begin, end = (whole(limit, f"buffer {self.id!r}: forbidden") for limit in span)
        if not 0 <= begin < end:
            self._refuse("must be ranges 0 <= begin < end", "forbidden", (begin, end))
        return begin, end

    def _check_offset(self, offset: int) -> None:
        if offset < 0:
            self._refuse("must not be negative", "offset", offset)
        if offset % self.alignment:
            self._refuse(f"is no multiple of the alignment {self.alignment}", "offset", offset)
        if any(offset < end and begin < offset + self.size for begin, end in self.forbidden):
            self._refuse("touches a forbidden range", "offset", offset)

    def _make_whole(self, name: str) -> None:
        value = getattr(self, name)
        number = whole(value, f"buffer {self.id!r}: {name}")
        if number is not value:
            object.__setattr__(self, name, number)

    def _refuse(self, message: str, name: str, found: object) -> None:
        raise InputError(message, field=f"buffer {self.id!r}: {name}", found=found)


@dataclass(frozen=True, slots=True)
class Region:
    """An address space (a bank, a memory) of its own, from 0 to `capacity`."""

    name: str
    capacity: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "capacity", room(self.capacity, f"region {self.name!r}: capacity"))


def room(value: Any, field: str) -> int:
    """A capacity; raises `InputError` where `value` is none."""
    number = whole(value, field)
    if number <= 0:
        raise InputError("must be in 1 .. 2**63 - 1", field=field, found=value)
    return number


@dataclass(frozen=True, slots=True)
class Adjacent:
    """Buffers that lie side by side in this order, each where the one before ends."""

    buffers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Inside:
    """`inner` lies `at` units above the start of `outer`, and may share its bytes."""

    inner: str
    outer: str
    at: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "at", whole(self.at, f"inside: at of {self.inner!r}"))


@dataclass(frozen=True, slots=True)
class InPlace:
    """`output` may start exactly where `input` starts, though that still lives for a while."""

    output: str
    input: str


Alias = Adjacent | Inside | InPlace


@dataclass(frozen=True, slots=True)
class Crowd:
    """The time at which most space is alive: `load` units in the buffers named.

    Of the buffers that must lie in some `regions` only, where these are what is too small.
    """

    time: int
    load: int
    buffers: tuple[str, ...]
    regions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Allocation:
    """Where buffers lie, or why not.

    Attributes
    ----------
    status : str
        ``placed``; ``infeasible``: it is proved that no placement exists; ``not found``: the search
        ended without either.
    offsets : tuple of int or None
        One for each buffer, in their order, within its region. Where the status is not ``placed``:
        the best placement found that ignores the capacity, if there is any.
    regions : tuple of str
        Region of each buffer; empty where there is but one address space.
    peak : int or None
        Highest end of any buffer (several regions: the sum of theirs) in `offsets`.
    bound : int
        No placement has a lower peak.
    capacity : int or None
        What was asked for; None where the peak was to be minimised.
    in_place : tuple of InPlace
        Aliases of that kind that the placement makes use of.
    crowd : Crowd
        Where the load peaks; of regions that a request does not fit, where most is missing.
    method : str
        Which search found it.
    effort : float
        Deterministic seconds spent on exact searches.
    """

    status: str
    offsets: tuple[int, ...] | None
    regions: tuple[str, ...]
    peak: int | None
    bound: int
    capacity: int | None
    in_place: tuple[InPlace, ...]
    crowd: Crowd
    method: str
    effort: float

    @property
    def placed(self) -> bool:
        """Whether `offsets` are a placement that keeps every rule."""
        return self.status == "placed"

    @property
    def gap(self) -> float | None:
        """How far the peak may lie above the best one: ``(peak - bound) / bound``."""
        if self.peak is None:
            return None
        return (self.peak - self.bound) / self.bound if self.bound else 0.0
