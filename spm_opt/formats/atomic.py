"""Writing files so that an interruption never leaves half of one."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path


def write_atomically(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` (UTF-8) to `path`: whole, or not at all.

    The text goes to a temporary file in the same directory, is flushed to the disk, and then takes
    the place of `path` in one move. An interruption leaves the old file as it was. A device or a
    pipe is written to, not replaced; of a symbolic link it is the file that it leads to.

    Raises
    ------
    OSError
        Naming `path`, if it or its directory cannot be written.
    """
    # names of tensors come from foreign files and may hold halves of surrogate pairs
    write_bytes_atomically(path, text.encode("utf-8", errors="backslashreplace"))


def write_bytes_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `path` as `write_atomically` does."""
    target = Path(path)
    try:
        if target.exists() and not target.is_file():
            target.write_bytes(data)
        else:
            _replace(Path(os.path.realpath(target)), data)
    except OSError as error:
        # the name of the temporary file would say nothing to whoever asked for `path`
        raise OSError(error.errno, error.strerror, str(target)) from error


def _replace(target: Path, data: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, _mode(target))
        os.replace(name, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def _mode(target: Path) -> int:
    """Permissions of the file that is replaced, or those of any new file."""
    try:
        return target.stat().st_mode & 0o777
    except OSError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask
