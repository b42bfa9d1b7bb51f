"""What a user of spm_opt can catch.

    SpmOptError
    ├── InputError           a model, hardware or schedule file, or an argument, is wrong
    │   └── GraphError       the network itself is inconsistent (cycle, shapes, missing tensor)
    ├── SpmTooSmallError     a layer fits the scratchpad in no tiling
    ├── SolverError          the solver contradicted itself or stopped without any schedule
    └── VerificationError    a schedule breaks a rule; carries every violation

This room knows no domain object: only texts and numbers.
"""

from __future__ import annotations

from collections.abc import Iterable


class SpmOptError(Exception):
    """Base of every error that spm_opt raises on purpose."""


class InputError(SpmOptError):
    """Something the user wrote is wrong.

    Parameters
    ----------
    message : str
        What is wrong, in one sentence.
    file : str, optional
        File that holds the mistake.
    field : str, optional
        Field, node or option that holds it.
    found : object, optional
        What was found there.
    allowed : str or iterable of str, optional
        What would have been accepted.
    """

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        field: str | None = None,
        found: object = None,
        allowed: str | Iterable[str] | None = None,
    ) -> None:
        self.message = message
        self.file = file
        self.field = field
        self.found = found
        self.allowed = (
            allowed if isinstance(allowed, str) or allowed is None else ", ".join(allowed)
        )
        super().__init__(self._text())

    def _text(self) -> str:
        where = ": ".join(part for part in (self.file, self.field) if part)
        text = f"{where}: {self.message}" if where else self.message
        if self.found is not None:
            text += f"; found {self.found!r}"
        if self.allowed is not None:
            text += f"; allowed: {self.allowed}"
        return text

    def in_file(self, file: str) -> InputError:
        """The same error, naming `file` where no file was named yet."""
        if self.file is not None:
            return self
        return type(self)(
            self.message, file=file, field=self.field, found=self.found, allowed=self.allowed
        )


class GraphError(InputError):
    """The network is inconsistent: a cycle, a shape mismatch, a tensor nobody produces."""


class SpmTooSmallError(SpmOptError):
    """A layer fits the scratchpad in none of the tilings that the planner knows.

    Parameters
    ----------
    layer : str
        Name of the layer.
    needed_bytes, available_bytes : int
        Smallest working set of the layer in stripes (other tilings may do with less than that, but
        not with what there is); capacity of the scratchpad.
    """

    def __init__(self, layer: str, needed_bytes: int, available_bytes: int) -> None:
        self.layer = layer
        self.needed_bytes = needed_bytes
        self.available_bytes = available_bytes
        super().__init__(
            f"layer {layer!r} does not fit the scratchpad in any tiling: {available_bytes} bytes "
            f"are available, stripes of it fit {needed_bytes}; a capacity of {needed_bytes} bytes "
            "(--set spm.capacity=...), a smaller --dtype or a smaller --batch would help"
        )


class SolverError(SpmOptError):
    """The solver contradicted a known fact, or stopped without any schedule."""


class VerificationError(SpmOptError):
    """A schedule breaks at least one rule of the machine.

    Parameters
    ----------
    violations : iterable of str
        One sentence each.
    """

    def __init__(self, violations: Iterable[str]) -> None:
        self.violations = tuple(violations)
        super().__init__("\n".join(("the schedule is invalid:", *self.violations)))
