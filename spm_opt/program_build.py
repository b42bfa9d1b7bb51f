"""Compiling an emitted program: which compiler, with what, and what it said."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from spm_opt.errors import InputError

#: looked for in this order, after what the environment names in CC
COMPILERS: Final = ("cc", "gcc", "clang")
#: what the arithmetic needs, and what the environment may replace by CFLAGS, as for make
FLAGS: Final = ("-std=c11", "-ffp-contract=off")
DEFAULT_CFLAGS: Final = "-O3"
_SHOWN: Final = 2000


def find_compiler() -> tuple[str, ...]:
    """The command of a C compiler: ``$CC``, or the first of `COMPILERS` that is installed.

    Raises
    ------
    InputError
        Naming those that were looked for.
    """
    own = _words("CC", "")
    candidates = [own] if own else [[name] for name in COMPILERS]
    for command in candidates:
        if shutil.which(command[0]) is not None:
            return tuple(command)
    looked = "$CC" if own else ", ".join(COMPILERS)
    raise InputError(
        f"no C compiler was found (looked for {looked}); the emitted files can be built elsewhere",
        field="CC", found=own[0] if own else None,
    )  # fmt: skip


def _words(variable: str, default: str) -> list[str]:
    text = os.environ.get(variable, default)
    try:
        return shlex.split(text)
    except ValueError as error:
        raise InputError(f"cannot be split into words: {error}", field=variable,
                         found=text) from None  # fmt: skip


def build(folder: Path, sources: Sequence[str]) -> tuple[Path, str]:
    """Compile `sources` in `folder` into the program ``network`` there.

    Returns
    -------
    program : Path
    compiler : str
        The command that was found.

    Raises
    ------
    InputError
        If there is no compiler, a source is missing, or it does not compile.
    """
    missing = next((name for name in sources if not (folder / name).is_file()), None)
    if missing is not None:
        raise InputError("a source is missing", file=str(folder / missing))
    compiler = find_compiler()
    # a build that is interrupted must not leave half a program in the place of one
    with tempfile.TemporaryDirectory(dir=_writable(folder), prefix=".build") as place:
        made = Path(place) / "network"
        options = (*_words("CFLAGS", DEFAULT_CFLAGS), *FLAGS)
        command = [*compiler, *options, *sources, "-lm", "-o", str(made.absolute())]
        _compile(command, folder)
        if not made.is_file():
            raise InputError("the compiler wrote no program", field="CC", found=compiler[0])
        return made.replace(folder / "network"), compiler[0]


def _writable(folder: Path) -> Path:
    if not os.access(folder, os.W_OK):
        raise InputError("cannot be written", file=str(folder))
    return folder


def _compile(command: Sequence[str], folder: Path) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except OSError as error:
        raise InputError(f"the compiler cannot be run: {error.strerror}", field="CC",
                         found=command[0]) from None  # fmt: skip
    if done.returncode:
        raise InputError(
            f"the compiler ({command[0]}) failed with {done.returncode}:\n"
            f"{done.stderr[:_SHOWN].rstrip()}",
            file=str(folder / "schedule.c"),
        )
