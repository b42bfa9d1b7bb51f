"""Compiled files that all modules of a session share, and all of its workers."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest


def shared_folder(
    factory: pytest.TempPathFactory, key: Iterable[str], make: Callable[[Path], object]
) -> Path:
    """The folder that `make` fills for a `key`: once in a session, by whoever comes first.

    Parameters
    ----------
    key : iterable of str
        Everything that the files are made of: sources, and options of the compiler.
    """
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # workers have folders of their own in the session's
    name = hashlib.sha256("\0".join(key).encode()).hexdigest()[:16]
    folder = root / f"compiled_{name}"
    with (root / f"compiled_{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # a folder appears whole or not at all: whoever failed left one of another name
        if not folder.exists():
            unfinished = factory.mktemp("unfinished")
            make(unfinished)
            unfinished.rename(folder)
    return folder
